"""Fuse lexical and vector scores, fold near-duplicates, choose snippets. Pure.

Scores are z-scored over the union of candidates, 0.7 vector and 0.3 BM25; a candidate that one side did not find has
that side's minimum. A memory stands where its best chunk stands. Reciprocal rank fusion (k=60) was the worst rule
measured, below the best single retriever on two of three sets. `benchmarks/retrieval_check.py` measures what is here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._query import STOP_WORDS, words_of

VECTOR_WEIGHT = 0.7
LEXICAL_WEIGHT = 0.3
EXACT_BONUS = 2.0  # an identifier of the query occurs literally
QUOTED_BONUS = 4.0  # what the user put in quotes occurs literally: above all that lacks it
TITLE_BONUS = 0.3  # times the share of the query's words that the title has
RECENCY_BONUS = 0.1  # times 2 ** (-age / RECENCY_HALF_LIFE_DAYS)
RECENCY_HALF_LIFE_DAYS = 30.0
MIN_COSINE = 0.15  # below this a vector alone is no match
DUPLICATE_COSINE = 0.97
DUPLICATE_WORDS = 0.1  # near-duplicates differ in at most this share of their content words
SNIPPET = 300  # characters

_DIGIT = re.compile(r"\d")


class Scored(NamedTuple):
    """A memory's fused score and the chunk that earned it.

    Attributes:
        lexical, vector: its standing on each side (z-scores, weighted), `None` where that side did not find it.
    """

    memory: int
    chunk: int
    score: float
    lexical: float | None
    vector: float | None


def fuse(
    chunks: NDArray[np.int64],
    memories: NDArray[np.int64],
    lexical: NDArray[np.float32],
    vector: NDArray[np.float32] | None,
    exact: Mapping[int, float] | None = None,
) -> list[Scored]:
    """Rank memories by their best chunk.

    Args:
        chunks, memories: (n,) candidate chunks, each once, and the memory of each.
        lexical: (n,) BM25, higher is better, NaN where a chunk was not found by words.
        vector: (n,) cosines, NaN where unknown; `None` when there is no vector search.
        exact: what chunks earn by literal matches.
    """
    if not len(chunks):
        return []
    words = _standard(lexical)
    parts = (words, np.zeros_like(words))
    if vector is not None:
        parts = (LEXICAL_WEIGHT * words, VECTOR_WEIGHT * _standard(vector))
    total = parts[0] + parts[1]
    if exact:
        total = total + np.array([exact.get(chunk, 0.0) for chunk in chunks.tolist()], np.float32)
    order = np.argsort(-total, kind="stable")
    _, first = np.unique(memories[order], return_index=True)
    best = order[first]  # each memory's best chunk
    score = total[best]
    by_words = ~np.isnan(lexical)
    near = np.zeros(len(best), np.bool_) if vector is None else vector[best] >= MIN_COSINE  # false for NaN
    found = by_words[best] | near
    ranked = np.argsort(-score, kind="stable")
    ranked = ranked[found[ranked]]
    best = best[ranked]
    return [
        Scored(memory, chunk, value, lexical_part if by_word else None, vector_part if by_meaning else None)
        for memory, chunk, value, lexical_part, vector_part, by_word, by_meaning in zip(
            memories[best].tolist(),
            chunks[best].tolist(),
            score[ranked].tolist(),
            parts[0][best].tolist(),
            parts[1][best].tolist(),
            by_words[best].tolist(),
            near[ranked].tolist(),
            strict=True,
        )
    ]


def _standard(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Z-scores, with NaN taken as the minimum of what is known."""
    known = values[~np.isnan(values)]
    if not len(known):
        return np.zeros_like(values)
    filled = np.where(np.isnan(values), known.min(), values)
    spread = float(filled.std())
    if spread < 1e-9:
        return np.zeros_like(values)
    return ((filled - filled.mean()) / spread).astype(np.float32)


def title_share(title: str, terms: Sequence[str]) -> float:
    """Share of the query's words that occur in the title, 0 to 1."""
    if not terms or not title:
        return 0.0
    lower = title.lower()
    return sum(term in lower for term in terms) / len(terms)


def recency(age_days: float) -> float:
    """1 for now, half of it every `RECENCY_HALF_LIFE_DAYS`; the future counts as now."""
    return 2.0 ** (-max(0.0, age_days) / RECENCY_HALF_LIFE_DAYS)


def same_but_for_wording(first: str, second: str) -> bool:
    """Whether two texts that are close by vector say the same: equal but for few words, none a number or `not`."""
    ours, theirs = set(words_of(first)), set(words_of(second))
    differing = ours ^ theirs
    if any(_DIGIT.search(word) for word in differing) or differing & _NEGATIONS:
        return False
    content = (ours | theirs) - STOP_WORDS
    return len(differing - STOP_WORDS) <= DUPLICATE_WORDS * len(content)


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
    lower = [line.lower() for line in lines]
    values = [sum(term in line for term in terms) for line in lower]
    best = max(range(len(lines)), key=lambda index: (values[index], bool(lower[index].strip()), -index))
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
