"""What the store asks of an index, whichever database keeps it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.memory._ranking import WEIGHTS, Weights
from adaptive_llm_gateway.memory._values import Facets, Filters, Record, TimeRange

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from adaptive_llm_gateway.memory._index_rows import PendingChange, Tombstone
    from adaptive_llm_gateway.memory._pages import Order, Page
    from adaptive_llm_gateway.memory._search import SearchAnswer


class ReadableIndex(Protocol):
    """What searching and listing need of an index, be it of one memory repo or of several."""

    def get(self, id: str) -> Record | None:
        """The memory of an id."""
        ...

    def resolve(self, part: str, *, limit: int = 20) -> list[str]:
        """Ids that are `part`, else those that begin or end with it."""
        ...

    def list(
        self,
        filters: Filters | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "updated",
    ) -> Page:
        """Memories page by page."""
        ...

    def search(
        self,
        query: str,
        *,
        vector: ArrayLike | Callable[[], ArrayLike | None] | None = None,
        filters: Filters | None = None,
        limit: int = 10,
        preferred: TimeRange | None = None,
        weights: Weights = WEIGHTS,
    ) -> SearchAnswer:
        """The memories that answer a query, best first."""
        ...

    def facets(self, filters: Filters | None = None) -> Facets:
        """Counts of the memories that the filters let through."""
        ...

    def memory_vector(self, id: str) -> NDArray[np.float32] | None:
        """The mean of the unit vectors of a memory's passages, (d,); `None` while it has none."""
        ...

    def word_counts(self, words: Sequence[str]) -> tuple[list[int], int]:
        """(in how many chunks each word occurs, roughly; all chunks)."""
        ...

    def too_common(self, words: Sequence[str]) -> list[str]:
        """Of a query's words those that are not searched because they are in too many chunks."""
        ...

    def projects(self) -> list[str]:
        """The names of the projects that memories have, each as it is written."""
        ...

    def ids(self, filters: Filters | None = None) -> list[str]:
        """The ids of all memories that the filters let through, in no order."""
        ...


class MemoryIndex(ReadableIndex, Protocol):
    """An open index of one memory repo. Safe to call from any thread; what is said of `Index` holds for each kind."""

    def close(self) -> None:
        """Let everything go; harmless when closed."""
        ...

    def apply(
        self,
        upserts: Sequence[Record] = (),
        deletes: Sequence[str] = (),
        *,
        pending: Sequence[PendingChange] = (),
        settled: Sequence[int] = (),
        tombstones: Sequence[Tombstone] = (),
    ) -> list[int]:
        """Put memories in and take ids out, all or nothing; returns the `seq` of each of `pending`."""
        ...

    def reset(self) -> None:
        """Drop all that the files can give again; journal, tombstones and state stay."""
        ...

    def tidy(self) -> None:
        """Put in order what single writes left, for when there is time."""
        ...

    def by_path(self, path: str) -> Record | None:
        """The memory of a path within the memory repo."""
        ...

    def files(self) -> dict[str, tuple[int, int, str, str]]:
        """Path to (mtime_ns, size, version, id) of every memory."""
        ...

    def versions(self, type: str) -> dict[str, tuple[str, str]]:
        """Id to (path, version) of every memory of a type."""
        ...

    def copy_to(self, path: Path) -> None:
        """Copy the index, in one state, into a new SQLite index."""
        ...

    def statistics(self) -> dict[str, Any]:
        """Counts, see `Index.statistics`."""
        ...

    def clashes(self) -> list[tuple[str, str]]:
        """Memories of which one is linked to the other by `conflicts_with`: pairs of ids, both of which are there."""
        ...

    def set_embedder(self, id: str, dimensions: int) -> bool:
        """Name the model whose vectors are kept; True when another one's were dropped."""
        ...

    def backlog(self, limit: int, *, max_trust: Trust = Trust.SECRET) -> list[tuple[int, str]]:
        """Chunks without a vector, newest first: (chunk id, text to embed)."""
        ...

    def store_vectors(self, vectors: Sequence[tuple[int, NDArray[np.float32]]], *, embedder: str | None = None) -> int:
        """Keep vectors, of the model `embedder`, by chunk id; returns how many were kept."""
        ...

    def vector_progress(self) -> tuple[int, int]:
        """(chunks with a vector, all chunks)."""
        ...

    def pending(self) -> list[PendingChange]:
        """Changes not yet committed, oldest first."""
        ...

    def clear_pending(self, seqs: Sequence[int]) -> None:
        """Take entries out of the journal, by `seq`."""
        ...

    def tombstone(self, id: str) -> Tombstone | None:
        """What is known of a deleted memory."""
        ...

    def tombstones(self, *, limit: int = 50) -> list[Tombstone]:
        """Deleted memories, the latest first."""
        ...

    def meta_get(self, key: str) -> str | None:
        """A small piece of state."""
        ...

    def meta_set(self, key: str, value: str | None) -> None:
        """Keep a small piece of state; `None` removes it."""
        ...


def likeness(index: ReadableIndex, one: str, other: str) -> float | None:
    """The cosine of two memories' vectors, by full ids; `None` where one has none yet, or one of another model."""
    first, second = index.memory_vector(one), index.memory_vector(other)
    if first is None or second is None or len(first) != len(second):
        return None
    lengths = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / lengths if lengths else None
