"""BM25 of a passage, of a passage with its neighbours, and of all that it belongs to, from a query's postings. Pure.

A passage of a conversation or a long text often answers with words that only the passage before it has, and one that
stands in a text about the matter is likelier than one that mentions it by the way; docs/benchmarks.md has what each of
the three brings. BM25: Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._distinct import distinct
from adaptive_llm_gateway.memory._vectors import Floats, Integers

K1, B = 1.2, 0.75
NEIGHBOUR = 0.8  # what a word is worth that stands in the passage before or after
NAME = 2.0  # what a name counts in a group, against another word as rare
_REACH = 60  # of the best passages, those whose neighbours become candidates too


class Occurrences(NamedTuple):
    """The chunks of a token, ascending, and how often it occurs in each, weighted by field: parallel arrays."""

    chunks: Integers
    frequencies: Floats


NOWHERE = Occurrences(np.zeros(0, np.int64), np.zeros(0, np.float32))


class Postings(NamedTuple):
    """Where a query's terms occur: parallel arrays, each pair of term and chunk once.

    Attributes:
        terms: 0 to `size` - 1.
        frequencies: how often, weighted by field.
        names: the terms that are names.
    """

    terms: NDArray[np.int32]
    chunks: Integers
    frequencies: Floats
    size: int
    names: tuple[int, ...] = ()

    @classmethod
    def of(cls, found: Sequence[Occurrences], names: tuple[int, ...]) -> Self:
        """Of where each term occurs, in the order of the terms."""
        return cls(
            np.repeat(np.arange(len(found), dtype=np.int32), [len(one.chunks) for one in found]),
            np.concatenate([NOWHERE.chunks, *(one.chunks for one in found)]),
            np.concatenate([NOWHERE.frequencies, *(one.frequencies for one in found)]),
            len(found),
            names,
        )


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
    """BM25 of some chunks by themselves, with their neighbours, and of their groups; higher is better, 0 is nothing.

    Attributes:
        names: which share of the query's names their groups have, 0 to 1, rare ones counting for more.
    """

    own: Floats
    around: Floats
    group: Floats
    names: Floats


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
        self._known = distinct(postings.chunks)
        about = facts(self._known.ids)
        there = about.memories > 0
        if not there.all():  # of postings that were kept some chunks are gone, and no word is in them
            here = there[self._known.places(postings.chunks)]
            columns = (postings.terms[here], postings.chunks[here], postings.frequencies[here])
            postings = Postings(*columns, postings.size, postings.names)
            self._known = distinct(self._known.ids[there])
            about = Facts._make(each[there] for each in about)
        self._terms, self._count = postings.terms, postings.size
        self._chunks, self._rows = self._known.ids, self._known.places(postings.chunks)
        norms = K1 * (1 - B + B * about.lengths / max(sizes.length / max(sizes.chunks, 1), 1e-9))
        found = np.bincount(postings.terms, minlength=postings.size)
        frequencies = postings.frequencies
        idf = _idf(found, sizes.chunks).astype(np.float32)
        self._parts = idf[postings.terms] * frequencies * np.float32(K1 + 1) / (frequencies + norms[self._rows])
        self._own = np.bincount(self._rows, self._parts, minlength=len(self._chunks)).astype(np.float32)
        self._about = about
        self._postings, self._sizes = postings, sizes

    def best(self, count: int, *, apart: bool = False) -> Integers:
        """The `count` chunks that answer best, best first, and behind them neighbours of the first.

        Args:
            apart: of each memory only the best one.
        """
        if not len(self._chunks):
            return self._chunks
        memories = self._about.memories
        places = np.arange(len(memories)) if self._allowed is None else np.flatnonzero(self._allowed(memories))
        if apart:
            places = places[np.argsort(-self._own[places], kind="stable")]
            _, first = np.unique(self._about.memories[places], return_index=True)
            places = places[first]
        if len(places) > count:
            places = places[np.argpartition(-self._own[places], count)[:count]]
        places = places[np.argsort(-self._own[places], kind="stable")]
        first = places[:_REACH]
        beside = distinct(np.concatenate([self._about.previous[first], self._about.following[first]])).ids
        best = self._chunks[places]
        beside = beside[(beside > 0) & ~distinct(best).has(beside)]
        if len(beside):
            about = self._facts(beside)
            keep = about.memories > 0
            if self._allowed is not None:
                keep &= self._allowed(about.memories)
            beside = beside[keep]
        return np.concatenate([best, beside])

    def scores(self, chunks: Integers, about: Facts) -> WordScores:
        """The scores of any chunks.

        Args:
            about: what is known of them.
        """
        if not len(self._chunks):
            nothing = np.zeros(len(chunks), np.float32)
            return WordScores(nothing, nothing, nothing, nothing)
        # A matrix of what each term brings to each chunk that is looked at; its last row is for those without any.
        places = self._known.places(np.concatenate([chunks, about.previous, about.following]))
        needed = distinct(places[places >= 0])
        slots = needed.places(places)
        rows = needed.places(self._rows)
        wanted = rows >= 0
        matrix = np.zeros((len(needed.ids) + 1, self._count), np.float32)
        matrix[rows[wanted], self._terms[wanted]] = self._parts[wanted]
        own, previous, following = slots.reshape(3, -1)
        beside = np.maximum(matrix[previous], matrix[following])
        around = np.maximum(matrix[own], np.float32(NEIGHBOUR) * beside).sum(axis=1)
        alone = np.append(self._own, np.float32(0))[places[: len(chunks)]]
        return WordScores(alone, around, *self._by_group(about))

    def _by_group(self, about: Facts) -> tuple[Floats, Floats]:
        """(BM25 of the group of each of some chunks, its share of the names); 0 where no word is in the group."""
        postings, sizes = self._postings, self._sizes
        known = distinct(self._about.groups)
        places = known.places(self._about.groups)[self._rows]  # of each posting's group
        groups = known.places(about.groups)
        here = groups >= 0
        wanted = distinct(groups[here])
        slots = wanted.places(groups)  # -1, the last one, for the others
        lengths = np.zeros(len(wanted.ids), np.float32)
        lengths[slots[here]] = about.group_lengths[here]
        norms = (K1 * (1 - B + B * lengths / max(sizes.length / max(sizes.groups, 1), 1e-9))).astype(np.float32)
        # Of the groups that are not asked for it only counts how many have each term.
        present = np.zeros((self._count, len(known.ids)), np.bool_)
        present[self._terms, places] = True
        found = np.array([np.count_nonzero(row) for row in present])
        rows = wanted.places(places)
        inside = rows >= 0
        cells = rows[inside] * self._count + self._terms[inside]
        totals = np.bincount(cells, postings.frequencies[inside], minlength=len(wanted.ids) * self._count)
        totals = totals.astype(np.float32).reshape(len(wanted.ids), self._count)
        idf = _idf(found, sizes.groups).astype(np.float32)
        named = np.array(postings.names, np.int64)
        idf[named] *= np.float32(NAME)
        scores = (idf * totals * np.float32(K1 + 1) / (totals + norms[:, None])).sum(axis=1)
        by_slot = np.append(scores, np.float32(0))[slots]
        if not postings.names:
            return by_slot, np.zeros(len(slots), np.float32)
        has = np.where(totals[:, named] > 0, idf[named], np.float32(0))
        names = has.sum(axis=1) / max(idf[named].sum(), np.float32(1e-9))
        return by_slot, np.append(names, np.float32(0))[slots]


def _idf(found: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    """What a term tells that occurs in `found` of `total`; never negative."""
    return np.log1p((np.maximum(total - found, 0) + 0.5) / (found + 0.5))
