"""What a search asks of an index: candidates by words and by vectors, and what is known of them.

A `Source` is one state of one index seen through one search's filters; each kind of index has one. Memories and chunks
go by their row ids.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._bm25 import Facts, Words
from adaptive_llm_gateway.memory._ranking import is_over, links_of
from adaptive_llm_gateway.memory._values import Record
from adaptive_llm_gateway.memory._vectors import EMPTY, Candidates, Codes, Floats, Integers

_OVERHEAD = 600  # bytes of a head beside its title and links


class Head(NamedTuple):
    """What ranking needs of a memory; times in microseconds since 1970.

    Attributes:
        linked: ids of those that it is linked with.
        superseded: of these, those that it supersedes.
        is_over: it no longer holds, or is done.
    """

    memory: int
    type: str
    title: str
    created: int
    updated: int
    fingerprint: bytes
    chunk_count: int
    id: str
    linked: frozenset[str]
    superseded: frozenset[str]
    is_over: bool

    @classmethod
    def of(cls, row: Sequence[Any]) -> Self:
        """Of the first eight, and the memory's links and fields as JSON."""
        memory, type_, title, created, updated, fingerprint, chunk_count, id_, links, fields = row
        linked, superseded = links_of(links, fields)
        over = is_over(fields)
        return cls(memory, type_, title, created, updated, fingerprint, chunk_count, id_, linked, superseded, over)

    @property
    def size(self) -> int:
        """About how many bytes it takes where it is kept."""
        return _OVERHEAD + sys.getsizeof(self.title) + 100 * len(self.linked)


class Span(NamedTuple):
    """Where a chunk lies in its memory's body: characters, and the 1-based line with which it begins."""

    start: int
    stop: int
    first_line: int


class Source(Protocol):
    """One state of an index, seen through one search's filters. Filters are applied before any cut."""

    def by_words(self, phrases: Sequence[str], words: Sequence[str], names: Collection[str] = ()) -> Words:
        """Where any of the phrases and words occur, as `QueryPlan` has them; names are some of the words.

        Words that occur almost everywhere may be left out to bound the work; phrases are not.
        """
        ...

    def facts(self, chunks: Integers) -> Facts:
        """What is known of chunks."""
        ...

    def containing(self, literal: str, chunks: Sequence[int]) -> set[int]:
        """Of these chunks, the ones whose text, or their memory's title, has the lower-case literal in any case."""
        ...

    def begin_nearest(
        self, vector: Callable[[], Floats | None], count: int
    ) -> Callable[[], tuple[Floats | None, Candidates]]:
        """Begin with `nearest` as soon as there is a vector; the result waits for both. The rest may be used meanwhile.

        Args:
            vector: waits for the unit vector; `None` when there is none after all.
        """
        ...

    def nearest(self, vector: Floats, count: int) -> Candidates:
        """The `count` chunks nearest to the unit vector (d,)."""
        ...

    def codes(self, chunks: Integers) -> tuple[NDArray[np.bool_], Codes]:
        """For each chunk whether it has a vector, and the int8 codes (known, d) of those that do."""
        ...

    def heads(self, memories: Sequence[int]) -> dict[int, Head]:
        """What ranking needs of these memories."""
        ...

    def bodies(self, memories: Sequence[int]) -> dict[int, str]:
        """Whole bodies."""
        ...

    def spans(self, chunks: Sequence[int]) -> dict[int, Span]:
        """Where the chunks lie."""
        ...

    def records(self, memories: Sequence[int]) -> dict[int, Record]:
        """Whole memories."""
        ...

    def ids(self, memories: Sequence[int]) -> dict[int, str]:
        """The ids of memories."""
        ...

    def recent(self, count: int) -> list[int]:
        """The memories updated last, the latest first."""
        ...

    def without(self, fingerprints: Sequence[bytes]) -> Source:
        """The same, less the memories of these fingerprints."""
        ...


def nearest_to(source: Source, vector: Callable[[], Floats | None], count: int) -> tuple[Floats | None, Candidates]:
    """(the vector, what is nearest to it), once it is there."""
    unit = vector()
    return unit, EMPTY if unit is None else source.nearest(unit, count)
