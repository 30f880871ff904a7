"""Which memories filters let through, kept for the filters that were asked for last.

A client that does not see everything is narrowed by each search in the same way, and asking every row anew was half of
what a search took. What is kept holds for one state of the memories alone: every transaction that changes them names it
in the file, so that each transaction that reads knows which it sees.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from adaptive_llm_gateway.memory._chunk_table import ChunkTable, Part
from adaptive_llm_gateway.memory._distinct import Distinct
from adaptive_llm_gateway.memory._sql import fetch_value, run

_ROOM = 2_000_000  # memories, 13 bytes each, of all that is kept together
_OVERHEAD = 1_000  # what one kept entry counts beside its memories: its filters are as long as somebody wrote them
_KEY = "state"

Asked = tuple[str, tuple[Any, ...]]
"""A WHERE expression and its values."""


class LetThrough(NamedTuple):
    """What some filters let through.

    Attributes:
        memories: their row ids.
        everything: nothing is left out.
    """

    memories: Distinct
    everything: bool


def renew_state(connection: apsw.Connection) -> None:
    """Name the state of the memories anew; inside the transaction that changes them."""
    run(connection, f"INSERT OR REPLACE INTO meta VALUES ('{_KEY}', hex(randomblob(16)))")  # noqa: S608 - our own name


def state_of(connection: apsw.Connection) -> str | None:
    """The name of the state that a transaction sees; None where it has none yet."""
    return fetch_value(connection, "SELECT value FROM meta WHERE key = ?", (_KEY,))


class RecentlyLetThrough:
    """Shared by the readers of one index.

    Args:
        room: memories kept at most, of all filters together.
        overhead: memories that one set of filters counts beside its own.
    """

    def __init__(self, room: int = _ROOM, *, overhead: int = _OVERHEAD) -> None:
        self._lock = threading.Lock()
        self._room = room
        self._overhead = overhead
        self._held = 0
        self._state: str | None = None
        self._known: OrderedDict[Asked, LetThrough] = OrderedDict()
        self._parts: dict[Asked, tuple[ChunkTable, object, Part]] = {}

    def get(self, state: str | None, asked: Asked) -> LetThrough | None:
        """What is known by a transaction that sees this state."""
        with self._lock:
            if state is None or state != self._state or asked not in self._known:
                return None
            self._known.move_to_end(asked)
            return self._known[asked]

    def put(self, state: str | None, asked: Asked, found: LetThrough) -> None:
        """Keep what a transaction that sees this state has found."""
        size = len(found.memories.ids) + self._overhead
        with self._lock:
            if state is None or size > self._room:
                return
            if state != self._state:  # a transaction that sees an older one may come in between; both are right
                self._known.clear()
                self._parts.clear()
                self._held, self._state = 0, state
            if asked in self._known:
                return
            self._known[asked] = found
            self._held += size
            while self._held > self._room:
                gone, left = self._known.popitem(last=False)
                self._parts.pop(gone, None)
                self._held -= len(left.memories.ids) + self._overhead

    def part(self, state: str | None, asked: Asked, table: ChunkTable, found: LetThrough) -> Part:
        """`ChunkTable.part` of what was found, made once for each state of the memories and of the table.

        The table follows the file a moment later, so that the one says nothing of the other.
        """
        changed = table.changed  # before it is read
        with self._lock:
            if state is not None and state == self._state and (known := self._parts.get(asked)) is not None:
                of, then, part = known
                if of is table and then is changed:
                    return part
        part = table.part(found.memories)
        with self._lock:
            if state is not None and state == self._state and asked in self._known:
                self._parts[asked] = (table, changed, part)
        return part


def asked_of(where: str, values: Sequence[Any]) -> Asked:
    """What filters are known by."""
    return where, tuple(values)
