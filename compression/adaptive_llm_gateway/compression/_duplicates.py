"""Exact and near duplicates among candidates. Pure.

Near ones are proposed by MinHash (Broder 1997) over shingles of three words, in bands, and confirmed by the share of
shingles that both have. What differs in a number or a negation is no duplicate: it may be the newer truth.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

Alike = Callable[[int, int], bool | None]

LIKENESS = 0.8  # of the shingles of both, those that both have
LIKENESS_IF_ALIKE = 0.5  # the same where the caller confirms
_READ = 20_000  # characters of a text
_FEWEST = 8  # words; what is shorter is folded only when it is the same
_BANDS, _ROWS = 8, 2
_COMPARED = 8  # others of one band that a text is compared with
_WORD = re.compile(r"\w+")
_SIGNS = str.maketrans(dict.fromkeys((chr(code) for code in range(128) if not _WORD.match(chr(code))), " "))
_NEGATION = frozenset(
    re.findall(r"\w+", "no not never none without cannot isn aren wasn weren don doesn didn won can wouldn nor")
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

    same: dict[tuple[str, ...], int] = {}
    words: list[list[str]] = []
    first: list[int] = []
    for place, text in enumerate(texts):
        found = _words(text[:_READ].lower())
        # Of texts longer than what is read, or without words, only what is the same throughout counts as the same.
        key = tuple(found) if found and len(text) <= _READ else ("", text)
        known = same.setdefault(key, place)
        if known != place:
            parent[place] = known
        else:
            first.append(place)
            words.append(found if len(text) <= _READ else [])
    said = _Said(words)
    at = {place: number for number, place in enumerate(first)}
    for left, right in said.proposed():
        one, other = root(first[left]), root(first[right])
        # The first of a group stands for it, so that no chain of small changes joins what differs.
        if one != other and said.confirmed(at[one], at[other], (lambda a=one, b=other: alike(a, b)) if alike else None):
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


def _words(text: str) -> list[str]:
    # The same for ASCII, and four times as fast.
    return text.translate(_SIGNS).split() if text.isascii() else _WORD.findall(text)


class _Said:
    """The words of all texts as they are compared, by the places of the texts."""

    def __init__(self, words: Sequence[list[str]]) -> None:
        self._words = words
        every = list(itertools.chain.from_iterable(words))
        numbers = {word: number for number, word in enumerate(dict.fromkeys(every))}
        codes = np.fromiter(map(numbers.__getitem__, every), np.uint64, len(every))
        # Shingles begin at every word; those that run into the next text are never looked at.
        self._shingles: NDArray[np.uint64] = codes[:-2] << np.uint64(42) ^ codes[1:-1] << np.uint64(21) ^ codes[2:]
        lengths = np.array([len(found) for found in words], np.int64)
        self._starts = np.cumsum(lengths) - lengths
        self._ends = np.maximum(self._starts + lengths - 2, self._starts)
        self._rows = np.flatnonzero(lengths >= _FEWEST)

    def proposed(self) -> list[tuple[int, int]]:
        """Pairs that agree in a band, a bounded number for each text."""
        rows: list[int] = self._rows.tolist()
        if len(rows) < 2:
            return []
        edges = np.column_stack([self._starts[self._rows], self._ends[self._rows]]).ravel()
        random = np.random.default_rng(20_230_508)  # fixed: the same texts give the same pairs
        shingles = np.append(self._shingles, np.uint64(0))  # an edge may be the end
        pairs: dict[tuple[int, int], None] = {}
        for _ in range(_BANDS):
            band = np.zeros(len(rows), np.uint64)
            for _ in range(_ROWS):
                least = np.minimum.reduceat(_mix(shingles, random), edges)[::2]
                band = band * np.uint64(0x9E3779B97F4A7C15) + least
            _, which, counts = np.unique(band, return_inverse=True, return_counts=True)
            seen: dict[int, list[int]] = {}
            for place in np.flatnonzero(counts[which] > 1).tolist():
                row, others = rows[place], seen.setdefault(int(which[place]), [])
                pairs |= dict.fromkeys((other, row) for other in others)
                if len(others) < _COMPARED:
                    others.append(row)
        return list(pairs)

    def confirmed(self, left: int, right: int, alike: Callable[[], bool | None] | None) -> bool:
        """Whether two texts share enough shingles, and have all numbers and negations as often."""
        if self._telling(left) != self._telling(right):
            return False
        one, other = self._set(left), self._set(right)
        both = len(np.intersect1d(one, other, assume_unique=True))
        share = both / max(1, len(one) + len(other) - both)
        if share < (LIKENESS if alike is None else LIKENESS_IF_ALIKE):
            return False
        mean_the_same = alike() if alike is not None else None
        return share >= LIKENESS if mean_the_same is None else mean_the_same

    def _set(self, place: int) -> NDArray[np.uint64]:
        return np.unique(self._shingles[self._starts[place] : self._ends[place]])

    def _telling(self, place: int) -> Counter[str]:
        return Counter(word for word in self._words[place] if word in _NEGATION or not word.isalpha())


def _mix(values: NDArray[np.uint64], random: np.random.Generator) -> NDArray[np.uint64]:
    factor = np.uint64(int(random.integers(1, 2**63)) * 2 + 1)
    mixed = (values + np.uint64(int(random.integers(0, 2**63)))) * factor
    return (mixed ^ (mixed >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
