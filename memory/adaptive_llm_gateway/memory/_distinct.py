"""Distinct row ids and where any id stands among them, by tables as long as their span instead of by sorting. Pure.

numpy's `unique`, `isin` and `searchsorted` sort, which was most of the time of a search. Few ids far apart are sorted
all the same, because a table would be longer than that takes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._vectors import Integers

_SPAN = 64  # of a table, at most so many times the number of ids


class Distinct(NamedTuple):
    """See `distinct`.

    Attributes:
        ids: ascending, each once.
        seen, table: by id less the first, whether it is there and its place; one more for those outside. `None` where
            the ids are far apart.
    """

    ids: Integers
    seen: NDArray[np.bool_] | None = None
    table: NDArray[np.int32] | None = None

    def places(self, ids: Integers) -> Integers:
        """The place of each id, -1 for those that are not there."""
        if not len(self.ids):
            return np.full(len(ids), -1, np.int64)
        if self.seen is None or self.table is None:
            places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
            return np.where(self.ids[places] == ids, places, -1)
        slots = self._slots(ids)
        return np.where(self.seen[slots], self.table[slots], -1).astype(np.int64)

    def has(self, ids: Integers) -> NDArray[np.bool_]:
        """Which of the ids are there."""
        return self.places(ids) >= 0 if self.seen is None else self.seen[self._slots(ids)]

    def _slots(self, ids: Integers) -> Integers:
        slots = ids - self.ids[0]
        outside = int(self.ids[-1] - self.ids[0]) + 1
        return np.where((slots >= 0) & (slots < outside), slots, outside)


def distinct(ids: Integers) -> Distinct:
    """The distinct ones of some row ids."""
    if not len(ids):
        return Distinct(np.zeros(0, np.int64))
    low = int(ids.min())
    span = int(ids.max()) - low + 1
    if span > _SPAN * len(ids):
        return Distinct(np.unique(ids).astype(np.int64, copy=False))
    seen = np.zeros(span + 1, np.bool_)
    seen[ids - low] = True
    slots = np.flatnonzero(seen)
    table = np.empty(span + 1, np.int32)  # only what `seen` has is ever looked at
    table[slots] = np.arange(len(slots), dtype=np.int32)
    return Distinct(slots + low, seen, table)
