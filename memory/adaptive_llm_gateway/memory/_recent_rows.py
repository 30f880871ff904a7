"""What searches read of memories, kept for those that were found last.

The best of different queries are often the same memories. Reading them anew took a fifth of a search, and each row that
SQLite gives lets other threads have the interpreter, a hundred times a search. What is kept holds for one state of the
memories (see `_let_through`), and a search asks only for what its filters have let through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

_Row = TypeVar("_Row")


class RecentRows(Generic[_Row]):
    """Rows by id, shared by the readers of one index. Rows are never changed by who gets them.

    Args:
        room: bytes kept at most, as `size` counts them.
        size: about how many bytes a row takes.
    """

    def __init__(self, room: int, size: Callable[[_Row], int]) -> None:
        self._room = room
        self._size = size
        self._lock = threading.Lock()
        self._held = 0
        self._known: tuple[str | None, dict[int, _Row]] = (None, {})  # the state, and what is known in it

    def of(
        self, state: str | None, wanted: Sequence[int], read: Callable[[Sequence[int]], Mapping[int, _Row]]
    ) -> dict[int, _Row]:
        """The rows of these ids, less those that there are not, as a transaction sees them that sees this state.

        Args:
            state: None where it has no name: nothing is kept then.
            read: gives the rows of ids that are not known.
        """
        of, known = self._known
        if state is None or of != state:
            known = {}
        found = {id_: row for id_ in wanted if (row := known.get(id_)) is not None}
        if len(found) < len(wanted):
            missing = [id_ for id_ in wanted if id_ not in found]
            if missing:
                fresh = read(missing)
                found.update(fresh)
                if state is not None:
                    self._keep(state, fresh)
        return found

    def _keep(self, state: str, fresh: Mapping[int, _Row]) -> None:
        with self._lock:
            if self._known[0] != state:  # a transaction that sees an older one may come in between; both are right
                empty: dict[int, _Row] = {}
                self._known, self._held = (state, empty), 0
            known = self._known[1]
            for id_, row in fresh.items():
                size = self._size(row)
                if id_ in known or size > self._room // 4:
                    continue
                known[id_] = row
                self._held += size
            while self._held > self._room:  # the one that came first
                self._held -= self._size(known.pop(next(iter(known))))
