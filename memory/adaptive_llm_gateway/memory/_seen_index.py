"""An index as somebody sees it who does not see everything: what is hidden is not in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.memory._memory_index import ReadableIndex
from adaptive_llm_gateway.memory._pages import Order, Page
from adaptive_llm_gateway.memory._ranking import WEIGHTS, Weights
from adaptive_llm_gateway.memory._sight import Sight, seen
from adaptive_llm_gateway.memory._values import Facets, Filters, Record, TimeRange, Within

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from adaptive_llm_gateway.memory._search import SearchAnswer

_MOST_RESOLVED: Final = 1_000_000
_AT_ONCE: Final = 5_000


class SeenIndex:
    """Reads an index for somebody. To be made for each call: which projects there are is found out once.

    Args:
        hidden: gives the ids of memories that are not seen whatever they say of themselves; called when first needed.
    """

    def __init__(self, index: ReadableIndex, sight: Sight, hidden: Callable[[], Iterable[str]] = tuple) -> None:
        self._index, self._sight, self._hidden = index, sight, hidden
        self._known: Within | None = None
        self._ids: frozenset[str] | None = None

    @property
    def _within(self) -> Within:
        if self._known is None:
            self._known = self._sight.within(self._index.projects, sorted(self._hides))
        return self._known

    @property
    def _hides(self) -> frozenset[str]:
        if self._ids is None:
            self._ids = frozenset(self._hidden())
        return self._ids

    def _narrowed(self, filters: Filters | None) -> Filters:
        return replace(filters or Filters(), within=self._within)

    def get(self, id: str) -> Record | None:
        """The memory of an id, where it is seen."""
        record = seen(self._index.get(id), self._sight, self._index.get)
        return None if record is None or record.id in self._hides else record

    def resolve(self, part: str, *, limit: int = 20) -> list[str]:
        """Ids that are `part`, else those that begin or end with it; of those that are seen."""
        found = self._index.resolve(part, limit=_MOST_RESOLVED)
        visible: set[str] = set()
        for start in range(0, len(found), _AT_ONCE):
            visible.update(self.ids(Filters(ids=tuple(found[start : start + _AT_ONCE]))))
        return [id_ for id_ in found if id_ in visible][:limit]

    def list(
        self,
        filters: Filters | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "updated",
    ) -> Page:
        """Memories page by page."""
        return self._index.list(self._narrowed(filters), limit=limit, cursor=cursor, order=order)

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
        narrowed = self._narrowed(filters)
        return self._index.search(
            query, vector=vector, filters=narrowed, limit=limit, preferred=preferred, weights=weights
        )

    def facets(self, filters: Filters | None = None) -> Facets:
        """Counts of the memories that the filters let through."""
        return self._index.facets(self._narrowed(filters))

    def memory_vector(self, id: str) -> NDArray[np.float32] | None:
        """The mean of the unit vectors of a memory's passages, (d,)."""
        return None if self.get(id) is None else self._index.memory_vector(id)

    def word_counts(self, words: Sequence[str]) -> tuple[list[int], int]:
        """Zeros: how often a word occurs in all memories would say whether a hidden one has it."""
        return [0] * len(words), 0

    def too_common(self, words: Sequence[str]) -> list[str]:  # noqa: ARG002 - as above
        """None: how often a word occurs in all memories would say whether hidden ones have it."""
        return []

    def projects(self) -> list[str]:
        """The names of the projects of memories that are seen, each as it is written."""
        named = [name for name in self._index.projects() if self._sight.has_project(name)]
        return [name for name in named if self._of(name)]

    def _of(self, project: str) -> bool:
        """Whether a memory of a project of exactly this name is seen."""
        within = replace(self._within, projects=(project,))
        return bool(self._index.list(Filters(within=within), limit=1).records)

    def ids(self, filters: Filters | None = None) -> list[str]:
        """The ids of all memories that the filters let through, in no order."""
        return self._index.ids(self._narrowed(filters))
