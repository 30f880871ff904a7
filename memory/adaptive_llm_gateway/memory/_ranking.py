"""Fuse what words and vectors say of passages, fold near-duplicates, choose snippets. Pure.

A passage's score is a weighted sum (`Weights`): the cosine as it is, each BM25 as a share of the best one's. A memory
stands where its best passage stands. Reciprocal rank fusion (k=60) was the worst rule measured, below the best single
retriever on two of three sets; docs/benchmarks.md has what each signal brings.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.core import signs_of
from adaptive_llm_gateway.memory._bm25 import Facts, WordScores
from adaptive_llm_gateway.memory._query import STOP_WORDS, words_of
from adaptive_llm_gateway.memory._vectors import Integers

RECENCY_HALF_LIFE_DAYS = 30.0
AFTERMATH_DAYS = 7.0  # what happened is still told of
MIN_COSINE = 0.15  # below this a vector alone is no match
DUPLICATE_COSINE = 0.97
DUPLICATE_WORDS = 0.1  # near-duplicates differ in at most this share of their content words
SNIPPET = 300  # characters

_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Weights:
    """What each signal counts; 0 switches it off.

    Attributes:
        vector: the cosine between query and passage.
        words: BM25 of the passage, as a share of the best passage's.
        around: the same with the passages before and after it.
        group: BM25 of all that the passage belongs to: its memory, or the session or source that it comes from.
        names: the share of the query's names that all this has, rare ones counting for more.
        length: taken off for a memory of many passages, nothing for one, all of it for very many (1 - 1/n): the best of
            many is better by chance alone.
        together: words of the query stand near each other in a line, as a share of the best of the first memories.
        exact: an identifier of the query occurs literally.
        quoted: what was put in quotes occurs literally: above all that lacks it.
        title: the share of the query's words that the title has.
        recent: 1 for now, half of it every `RECENCY_HALF_LIFE_DAYS`.
        time: the memory is of the time that the query speaks of; less each day after it, 0 from `AFTERMATH_DAYS` on.
        kind: the memory's type: 1 for what was decided, is preferred or is a fact, 0 for the others.
        over: taken off when the memory is superseded, rejected, cancelled or done.
        links: a better hit is linked with the memory.
    """

    vector: float = 1.0
    words: float = 0.1
    around: float = 0.34
    group: float = 0.3
    names: float = 0.2
    length: float = 0.33
    together: float = 0.06
    exact: float = 1.0
    quoted: float = 2.0
    title: float = 0.06
    recent: float = 0.02
    time: float = 0.35
    kind: float = 0.01
    over: float = 0.08
    links: float = 0.03


WEIGHTS = Weights()


class Scored(NamedTuple):
    """A memory's score by its best passage.

    Attributes:
        names, values: of the signals, and what each brought.
        by_words, by_meaning: whether that side found it.
    """

    memory: int
    chunk: int
    score: float
    names: tuple[str, ...]
    values: tuple[float, ...]
    by_words: bool
    by_meaning: bool

    @property
    def signals(self) -> dict[str, float]:
        """What each signal brought; they add up to the score."""
        return dict(zip(self.names, self.values, strict=True))


class Ranking:
    """Memories, best first, of which only those that are looked at are made `Scored`."""

    def __init__(
        self,
        chunks: Integers,
        memories: Integers,
        scores: NDArray[np.float32],
        parts: Mapping[str, NDArray[np.float32]],
        places: Integers,
        by_words: NDArray[np.bool_],
        by_meaning: NDArray[np.bool_],
    ) -> None:
        self._columns = (memories, chunks, scores, by_words, by_meaning)
        self._parts = parts
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def part(self, start: int, stop: int) -> list[Scored]:
        """Those from `start` to before `stop`."""
        memories, chunks, scores, by_words, by_meaning = (column[start:stop].tolist() for column in self._columns)
        rows = zip(*(part[self._places[start:stop]].tolist() for part in self._parts.values()), strict=True)
        names = tuple(self._parts)
        return [
            Scored(memory, chunk, score, names, row, by_word, meant)
            for memory, chunk, score, row, by_word, meant in zip(
                memories, chunks, scores, rows, by_words, by_meaning, strict=True
            )
        ]


def fuse(
    chunks: Integers,
    about: Facts,
    words: WordScores,
    cosines: NDArray[np.float32] | None,
    literal: Mapping[str, Mapping[int, float]],
    weights: Weights,
) -> Ranking:
    """Rank memories by their best passage.

    Args:
        chunks: (n,) candidates, each once.
        about, words: of each.
        cosines: (n,) NaN where unknown; `None` when there is no vector search.
        literal: what chunks earn by literal matches, by signal.
    """
    parts: dict[str, NDArray[np.float32]] = {
        "words": weights.words * _share(words.own),
        "around": weights.around * _share(words.around),
        "group": weights.group * _share(words.group),
        "names": np.float32(weights.names) * words.names,
        "length": np.float32(-weights.length) * (1 - 1 / np.maximum(about.siblings, 1)).astype(np.float32),
    }
    near = np.zeros(len(chunks), np.bool_)
    if cosines is not None:
        known = ~np.isnan(cosines)
        near = np.where(known, cosines, -1.0) >= MIN_COSINE
        # One that has no vector yet is taken for an ordinary candidate.
        usual = cosines[known].mean() if known.any() else np.float32(0)
        parts["vector"] = weights.vector * np.where(known, cosines, usual).astype(np.float32)
    for name, earned in literal.items():
        parts[name] = np.array([earned.get(chunk, 0.0) for chunk in chunks.tolist()], np.float32)
    total = np.sum(list(parts.values()), axis=0)
    by_words = words.own > 0
    for earned in literal.values():
        by_words |= np.isin(chunks, list(earned))
    found = by_words | near
    order = np.argsort(-total, kind="stable")
    # One that only stands beside a match answers nothing unless it is near in meaning too.
    order = order[found[order] & (about.memories[order] > 0)]
    _, first = np.unique(about.memories[order], return_index=True)
    best = order[first]  # each memory's best chunk
    best = best[np.argsort(-total[best], kind="stable")]
    return Ranking(chunks[best], about.memories[best], total[best], parts, best, by_words[best], near[best])


def _share(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each value as a share of the greatest."""
    top = float(values.max(initial=0.0))
    return values / np.float32(top) if top > 0 else np.zeros_like(values)


def title_share(title: str, terms: Sequence[str]) -> float:
    """Share of the query's words that occur in the title, 0 to 1."""
    if not terms or not title:
        return 0.0
    return sum(map(title.lower().__contains__, terms)) / len(terms)


def recency(age_days: float) -> float:
    """1 for now, half of it every `RECENCY_HALF_LIFE_DAYS`; the future, as a wrong clock gives it, counts as now."""
    return 2.0 ** (-max(0.0, age_days) / RECENCY_HALF_LIFE_DAYS)


def aftermath(days: float) -> float:
    """1 within a time (0 or less), less each day after its end, 0 from `AFTERMATH_DAYS` on."""
    return min(1.0, max(0.0, 1.0 - days / AFTERMATH_DAYS))


SETTLED = ("decision", "preference", "fact")
_OVER = ("superseded", "rejected", "cancelled", "done", "expired", "declined")


def is_over(fields: str) -> bool:
    """Whether a memory's fields, as JSON, say that it no longer holds or is done."""
    return '"status"' in fields and json.loads(fields).get("status") in _OVER


_NO_LINKS: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())


def links_of(links: str, fields: str) -> tuple[frozenset[str], frozenset[str]]:
    """(ids that a memory is linked with, those of them that it supersedes), from its links and fields as JSON."""
    if links == "[]" and '"supersedes"' not in fields:
        return _NO_LINKS
    pairs: list[tuple[str, str]] = json.loads(links) if links != "[]" else []
    old: object = json.loads(fields).get("supersedes") if '"supersedes"' in fields else None
    ids = [old] if isinstance(old, str) else cast("list[object]", old) if isinstance(old, list) else []
    named = frozenset(id_ for id_ in ids if isinstance(id_, str))
    superseded = named | {id_ for rel, id_ in pairs if rel == "supersedes"}
    return superseded | {id_ for _, id_ in pairs}, superseded


def same_but_for_wording(first: str, second: str) -> bool:
    """Whether two texts that are close by vector say the same: equal but for few words, no number, `not` or sign."""
    said, says = words_of(first), words_of(second)
    if _telling(said) != _telling(says) or signs_of(first) != signs_of(second):
        return False
    ours, theirs = set(said), set(says)
    content = (ours | theirs) - STOP_WORDS
    return len((ours ^ theirs) - STOP_WORDS) <= DUPLICATE_WORDS * len(content)


def _telling(words: Iterable[str]) -> Counter[str]:
    return Counter(word for word in words if word in _NEGATIONS or _DIGIT.search(word))


_NEGATIONS = frozenset(
    ["no", "not", "never", "none", "nor", "cannot", "without", "isn", "don", "doesn", "didn", "won", "can't"]
)


def snippet(text: str, first_line: int, terms: Sequence[str]) -> tuple[str, tuple[int, int]]:
    """The lines of a passage that say most about `terms`: (text of at most about `SNIPPET` characters, lines).

    Args:
        text: the passage, whole lines or part of one.
        first_line: the 1-based line of the body with which it begins.
        terms: lower-case words.
    """
    if len(text) <= SNIPPET:
        whole = text.strip("\r\n")
        before = text.count("\n", 0, len(text) - len(text.lstrip("\r\n")))
        return whole, (first_line + before, first_line + before + whole.count("\n"))
    lines = text.split("\n")
    whole = text.lower()
    lower = whole.split("\n")
    terms = [term for term in terms if term in whole]
    values = [sum(map(line.__contains__, terms)) for line in lower]
    most = max(values)
    richest = [at for at, value in enumerate(values) if value == most]
    best = next((at for at in richest if lower[at].strip()), richest[0])
    if len(lines[best]) > SNIPPET:
        return _window(lines[best], lower[best], terms), (first_line + best, first_line + best)
    low = high = best
    size = len(lines[best])
    while True:
        # Grow towards the richer neighbour, downwards when they are equal: what follows explains.
        down = high + 1 < len(lines) and size + len(lines[high + 1]) < SNIPPET
        up = low > 0 and size + len(lines[low - 1]) < SNIPPET
        if down and not (up and values[low - 1] > values[high + 1]):
            high += 1
            size += len(lines[high]) + 1
        elif up:
            low -= 1
            size += len(lines[low]) + 1
        else:
            break
    while low < high and not lower[low].strip():
        low += 1
    while high > low and not lower[high].strip():
        high -= 1
    return "\n".join(lines[low : high + 1]).strip("\r\n"), (first_line + low, first_line + high)


def _window(line: str, lower: str, terms: Sequence[str]) -> str:
    """Part of a long line around the first of the terms that it has, cut between words."""
    places = [place for term in terms if (place := lower.find(term)) >= 0]
    start = max(0, min(places, default=0) - SNIPPET // 3)
    stop = min(len(line), start + SNIPPET)
    if start and (space := line.find(" ", start, start + 40)) > 0:
        start = space + 1
    if stop < len(line) and (space := line.rfind(" ", stop - 40, stop)) > start:
        stop = space
    return ("…" if start else "") + line[start:stop].strip() + ("…" if stop < len(line) else "")
