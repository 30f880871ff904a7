"""Distinct row ids and where any id stands among them, by a table as long as their span instead of by sorting. Pure.

Row ids lie close together, so the table is short; numpy's `unique`, `isin` and `searchsorted` sort, which was most of
the time of a search among few candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class Distinct(NamedTuple):
    """See `distinct`.

    Attributes:
        ids: ascending, each once.
    """

    ids: Integers
    low: int
    table: NDArray[np.int32]  # by id less `low` the place + 1, 0 where there is none; its last is 0

    def places(self, ids: Integers) -> Integers:
        """The place of each id, -1 for those that are not there."""
        slots = ids - self.low
        last = len(self.table) - 1
        return self.table[np.where((slots >= 0) & (slots < last), slots, last)].astype(np.int64) - 1

    def has(self, ids: Integers) -> NDArray[np.bool_]:
        """Which of the ids are there."""
        return self.places(ids) >= 0


def distinct(ids: Integers) -> Distinct:
    """The distinct ones of some row ids."""
    if not len(ids):
        return Distinct(np.zeros(0, np.int64), 0, np.zeros(1, np.int32))
    low = int(ids.min())
    table = np.zeros(int(ids.max()) - low + 2, np.int32)
    table[ids - low] = 1
    slots = np.flatnonzero(table)
    table[slots] = np.arange(1, len(slots) + 1, dtype=np.int32)
    return Distinct(slots + low, low, table)
