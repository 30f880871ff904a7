"""BM25 of a passage, of a passage with its neighbours, and of all that it belongs to, from a query's postings. Pure.

A passage of a conversation or a long text often answers with words that only the passage before it has, and one that
stands in a text about the matter is likelier than one that mentions it by the way; docs/benchmarks.md has what each of
the three brings. BM25: Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._vectors import Floats, Integers

K1, B = 1.2, 0.75
NEIGHBOUR = 0.8  # what a word is worth that stands in the passage before or after
_REACH = 60  # of the best passages, those whose neighbours become candidates too


class Postings(NamedTuple):
    """Where a query's terms occur: parallel arrays, each pair of term and chunk once.

    Attributes:
        terms: 0 to `size` - 1.
        frequencies: how often, weighted by field.
    """

    terms: NDArray[np.int32]
    chunks: Integers
    frequencies: Floats
    size: int


class Facts(NamedTuple):
    """What is known of some chunks: arrays parallel to them; all 0 for a chunk that is gone.

    Attributes:
        siblings: chunks of its memory.
        lengths: characters of the chunk.
        groups: what the chunk belongs to: its memory, or the thread of memories that belong together.
        group_lengths: characters of all chunks of the group.
        previous, following: the neighbours within the group, 0 for none.
    """

    memories: Integers
    siblings: Integers
    lengths: Floats
    groups: Integers
    group_lengths: Floats
    previous: Integers
    following: Integers


class Sizes(NamedTuple):
    """The whole index: how many chunks and groups, and characters of all chunks."""

    chunks: int
    groups: int
    length: float


class WordScores(NamedTuple):
    """BM25 of some chunks by themselves, with their neighbours, and of their groups; higher is better, 0 is nothing."""

    own: Floats
    around: Floats
    group: Floats


class Words:
    """A query's terms in an index.

    Args:
        postings: bounded by whoever gathered them.
        facts: gives what is known of chunks.
        allowed: gives for memories whether they may be found; `None` lets all through.
    """

    def __init__(
        self,
        postings: Postings,
        sizes: Sizes,
        facts: Callable[[Integers], Facts],
        allowed: Callable[[Integers], NDArray[np.bool_]] | None,
    ) -> None:
        self._facts = facts
        self._allowed = allowed
        self._terms, self._count = postings.terms, postings.size
        self._chunks, self._rows = _distinct(postings.chunks)
        about = facts(self._chunks)
        norms = K1 * (1 - B + B * about.lengths / max(sizes.length / max(sizes.chunks, 1), 1e-9))
        found = np.bincount(postings.terms, minlength=postings.size)
        frequencies = postings.frequencies
        self._parts = (
            _idf(found, sizes.chunks)[postings.terms] * frequencies * (K1 + 1) / (frequencies + norms[self._rows])
        ).astype(np.float32)
        self._own = np.bincount(self._rows, self._parts, minlength=len(self._chunks)).astype(np.float32)
        self._about = about
        self._groups, self._group_scores = self._by_group(frequencies, sizes)

    def best(self, count: int, *, apart: bool = False) -> Integers:
        """The `count` chunks that answer best, best first, and behind them neighbours of the first.

        Args:
            apart: of each memory only the best one.
        """
        if not len(self._chunks):
            return self._chunks
        keep = self._about.memories > 0
        if self._allowed is not None:
            keep &= self._allowed(self._about.memories)
        places = np.flatnonzero(keep)
        if apart:
            places = places[np.argsort(-self._own[places], kind="stable")]
            _, first = np.unique(self._about.memories[places], return_index=True)
            places = places[first]
        if len(places) > count:
            places = places[np.argpartition(-self._own[places], count)[:count]]
        places = places[np.argsort(-self._own[places], kind="stable")]
        beside = np.unique(
            np.concatenate([self._about.previous[places[:_REACH]], self._about.following[places[:_REACH]]])
        )
        beside = beside[(beside > 0) & ~np.isin(beside, self._chunks[places])]
        if len(beside):
            about = self._facts(beside)
            keep = about.memories > 0
            if self._allowed is not None:
                keep &= self._allowed(about.memories)
            beside = beside[keep]
        return np.concatenate([self._chunks[places], beside])

    def scores(self, chunks: Integers, about: Facts) -> WordScores:
        """The scores of any chunks.

        Args:
            about: what is known of them.
        """
        if not len(self._chunks):
            nothing = np.zeros(len(chunks), np.float32)
            return WordScores(nothing, nothing, nothing)
        own, known = self._find(chunks)
        previous, before = self._find(about.previous)
        following, after = self._find(about.following)
        # A matrix of what each term brings to each chunk that is looked at; its last row is for those without any.
        needed = np.unique(np.concatenate([own[known], previous[before], following[after]]))
        slots = np.full(len(self._chunks) + 1, len(needed), np.int64)
        slots[needed] = np.arange(len(needed))
        matrix = np.zeros((len(needed) + 1, self._count), np.float32)
        wanted = slots[self._rows] < len(needed)
        matrix[slots[self._rows[wanted]], self._terms[wanted]] = self._parts[wanted]
        beside = np.maximum(matrix[slots[previous]], matrix[slots[following]])
        around = np.maximum(matrix[slots[own]], np.float32(NEIGHBOUR) * beside).sum(axis=1)
        scores = np.concatenate([self._own, np.zeros(1, np.float32)])
        places = np.minimum(np.searchsorted(self._groups, about.groups), len(self._groups) - 1)
        group = np.where(self._groups[places] == about.groups, self._group_scores[places], np.float32(0))
        return WordScores(scores[own], around, group.astype(np.float32))

    def _find(self, chunks: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """(place among the chunks with a term, one past the last for the others; which have one)."""
        places = np.searchsorted(self._chunks, chunks)
        known = self._chunks[np.minimum(places, len(self._chunks) - 1)] == chunks
        return np.where(known, places, len(self._chunks)), known

    def _by_group(self, frequencies: Floats, sizes: Sizes) -> tuple[Integers, Floats]:
        groups, rows = _distinct(self._about.groups)
        if not len(groups):
            return groups, np.zeros(0, np.float32)
        lengths = np.zeros(len(groups), np.float32)
        lengths[rows] = self._about.group_lengths
        norms = K1 * (1 - B + B * lengths / max(sizes.length / max(sizes.groups, 1), 1e-9))
        pairs, pair = _distinct(rows[self._rows] * self._count + self._terms)
        totals = np.bincount(pair, frequencies)
        group, term = pairs // self._count, pairs % self._count
        idf = _idf(np.bincount(term, minlength=self._count), sizes.groups)[term]
        parts = idf * totals * (K1 + 1) / (totals + norms[group])
        return groups, np.bincount(group, parts, minlength=len(groups)).astype(np.float32)


def _idf(found: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    """What a term tells that occurs in `found` of `total`; never negative."""
    return np.log1p((np.maximum(total - found, 0) + 0.5) / (found + 0.5))


def _distinct(values: Integers) -> tuple[Integers, Integers]:
    """(distinct values ascending, the place of each value among them)."""
    distinct, places = np.unique(values, return_inverse=True)
    return distinct.astype(np.int64, copy=False), places.reshape(-1).astype(np.int64, copy=False)
