"""Exact and near duplicates among candidates. Pure.

Near ones are proposed by MinHash (Broder 1997) over shingles of three words, in bands, and confirmed by the share of
shingles that both have. What differs in a number, a negation or a sign that tells something is no duplicate: it may be
the newer truth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.core import signs_of

Alike = Callable[[int, int], bool | None]

LIKENESS = 0.8  # of the shingles of both, those that both have
LIKENESS_IF_ALIKE = 0.5  # the same where the caller confirms
_READ = 20_000  # characters of a text
_FEWEST = 8  # words; what is shorter is folded only when it is the same
_BANDS, _ROWS = 8, 2
_ODD = np.uint64(0x9E3779B97F4A7C15)
_INVERSE = np.uint64(pow(int(_ODD), -1, 2**64))
_SPACE = 32
_BLOCK = 65_536  # bytes that are looked at together
_COMPARED = 8  # others of one band that a text is compared with
_WORD = re.compile(r"\w+")
_SIGNS = str.maketrans(dict.fromkeys((chr(code) for code in range(128) if not _WORD.match(chr(code))), " "))
_NEGATION = frozenset(
    re.findall(
        r"\w+",
        "no not never none nothing nobody neither nor without cannot can couldn isn aren wasn weren don doesn didn won "
        "wouldn shouldn mustn needn hasn haven hadn ain",
    )
)


@dataclass(frozen=True, slots=True)
class Group:
    """Texts that say the same, by their places.

    Attributes:
        kept: the newest.
        folded: the others, newest first.
    """

    kept: int
    folded: tuple[int, ...]


def find_duplicates(
    texts: Sequence[str], updated: Sequence[datetime], *, alike: Alike | None = None
) -> tuple[Group, ...]:
    """The groups of two or more, by the place of what is kept; each place is in one group at most.

    Args:
        alike: says of two places whether they mean the same (by their vectors, say), or `None` when that is not known.
            It is asked of near duplicates only; where it agrees, fewer words need to.
    """
    parent = list(range(len(texts)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    said = _Said(texts)
    same: dict[object, int] = {}
    for place in range(len(texts)):
        key = said.key(place)
        known = same.setdefault(key, place)
        if known != place and not said.equal(known, place):  # other signs
            known = same.setdefault((key, said.signs(place)), place)
        if known != place and said.equal(known, place):
            parent[place] = known
    first = [place for place in range(len(texts)) if parent[place] == place]
    for left, right in said.proposed(first):
        one, other = root(left), root(right)
        # The first of a group stands for it, so that no chain of small changes joins what differs.
        if one != other and said.confirmed(one, other, (lambda a=one, b=other: alike(a, b)) if alike else None):
            parent[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for place in range(len(texts)):
        groups.setdefault(root(place), []).append(place)
    found_groups: list[Group] = []
    for members in groups.values():
        if len(members) > 1:
            members.sort(key=lambda place: (updated[place], -place), reverse=True)
            found_groups.append(Group(members[0], tuple(members[1:])))
    return tuple(sorted(found_groups, key=lambda group: group.kept))


class _Said:
    """The words of all texts as they are compared, by the places of the texts.

    Of texts longer than what is read, or without words, only what is the same throughout counts as the same.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._plain = [_plain(text) if len(text) <= _READ else "" for text in texts]
        codes, counts = _word_codes(self._plain)
        self._codes = codes
        # Shingles begin at every word; those that run into the next text are never looked at.
        self._shingles: NDArray[np.uint64] = (codes[:-2] * _ODD + codes[1:-1]) * _ODD + codes[2:]
        self._starts = np.cumsum(counts) - counts
        self._counts = counts

    def key(self, place: int) -> object:
        """The same for texts that have the same words."""
        start, count = int(self._starts[place]), int(self._counts[place])
        return self._codes[start : start + count].tobytes() if count else self._texts[place]

    def equal(self, left: int, right: int) -> bool:
        """Whether two texts with the same key have the same words and signs: keys are numbers, which may agree."""
        return self._texts[left] == self._texts[right] or (
            self._words(left) == self._words(right) and self.signs(left) == self.signs(right)
        )

    def signs(self, place: int) -> tuple[str, ...]:
        """The signs of a text that tell something, in order."""
        return tuple(signs_of(self._texts[place]))

    def proposed(self, places: Sequence[int]) -> list[tuple[int, int]]:
        """Pairs of some texts that agree in a band, a bounded number for each."""
        rows = [place for place in places if self._counts[place] >= _FEWEST]
        if len(rows) < 2:
            return []
        starts = self._starts[rows]
        ends = starts + self._counts[rows] - 2
        edges = np.column_stack([starts, ends]).ravel()
        random = np.random.default_rng(20_230_508)  # fixed: the same texts give the same pairs
        shingles = np.append(self._shingles, np.uint64(0))  # an edge may be the end
        pairs: dict[tuple[int, int], None] = {}
        for _ in range(_BANDS):
            band = np.zeros(len(rows), np.uint64)
            for _ in range(_ROWS):
                least = np.minimum.reduceat(_mix(shingles, random), edges)[::2]
                band = band * _ODD + least
            _, which, counts = np.unique(band, return_inverse=True, return_counts=True)
            seen: dict[int, list[int]] = {}
            for place in np.flatnonzero(counts[which] > 1).tolist():
                row, others = rows[place], seen.setdefault(int(which[place]), [])
                pairs |= dict.fromkeys((other, row) for other in others)
                if len(others) < _COMPARED:
                    others.append(row)
        return list(pairs)

    def confirmed(self, left: int, right: int, alike: Callable[[], bool | None] | None) -> bool:
        """Whether two texts share enough shingles, and have the same numbers, negations and signs in the same order."""
        if self._telling(left) != self._telling(right):
            return False
        one, other = self._set(left), self._set(right)
        both = len(one & other)
        share = both / max(1, len(one) + len(other) - both)
        if share < (LIKENESS if alike is None else LIKENESS_IF_ALIKE) or self.signs(left) != self.signs(right):
            return False
        mean_the_same = alike() if alike is not None else None
        return share >= LIKENESS if mean_the_same is None else mean_the_same

    def _words(self, place: int) -> list[str]:
        return self._plain[place].split()

    def _set(self, place: int) -> set[tuple[str, str, str]]:
        words = self._words(place)
        return set(zip(words, words[1:], words[2:], strict=False))

    def _telling(self, place: int) -> list[str]:
        return [word for word in self._words(place) if word in _NEGATION or not word.isalpha()]


def _plain(text: str) -> str:
    """The words of a text in small letters, with spaces between."""
    text = text.lower()
    return text.translate(_SIGNS) if text.isascii() else " ".join(_WORD.findall(text))


def _word_codes(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A number for each word of all texts, the same for the same word, and how many words each text has.

    The number is the word's bytes as a polynomial modulo 2^64, from sums over all of the text: no look at single words.
    """
    codes: list[NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    counts: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    block: list[bytes] = []
    size = 0
    for place, text in enumerate(texts):
        block.append(text.encode("utf-8", "surrogatepass") + b" ")
        size += len(block[-1])
        if size >= _BLOCK or place == len(texts) - 1:
            data = np.frombuffer(b"".join(block), np.uint8)
            powers = np.cumprod(np.full(size, _ODD))
            back = np.cumprod(np.full(size, _INVERSE))
            sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(data * powers)])
            edges = np.flatnonzero(np.diff(np.concatenate([[True], data == _SPACE]).astype(np.int8)))
            starts, ends = edges[::2], edges[1::2]
            codes.append((sums[ends] - sums[starts]) * back[starts])
            limits = np.cumsum([len(piece) for piece in block])
            counts.append(np.diff(np.searchsorted(starts, limits), prepend=0))
            block, size = [], 0
    return np.concatenate(codes), np.concatenate(counts)


def _mix(values: NDArray[np.uint64], random: np.random.Generator) -> NDArray[np.uint64]:
    factor = np.uint64(int(random.integers(1, 2**63)) * 2 + 1)
    mixed = (values + np.uint64(int(random.integers(0, 2**63)))) * factor
    return (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
