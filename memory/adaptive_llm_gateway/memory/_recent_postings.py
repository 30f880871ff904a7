"""Where words occur, kept for the words that were asked for last: a common word takes milliseconds to read."""

from __future__ import annotations

import threading
from collections import OrderedDict

from adaptive_llm_gateway.memory._bm25 import Occurrences

_ROOM = 1_000_000  # places, 12 bytes each
_OVERHEAD = 40  # what a token takes beside its places, in places: two arrays, its name and its entry


class RecentPostings:
    """Shared by the readers of one index.

    The words of a chunk never change and ids are never given twice, so what was read holds until a chunk is added.
    Chunks that went meanwhile are still in it: whoever reads it leaves them out.

    Args:
        room: places kept at most, of all tokens together.
        overhead: places that a token counts beside its own.
    """

    def __init__(self, room: int = _ROOM, *, overhead: int = _OVERHEAD) -> None:
        self._lock = threading.Lock()
        self._room = room
        self._overhead = overhead
        self._held = 0
        self._newest = 0
        self._known: OrderedDict[str, Occurrences] = OrderedDict()

    def get(self, token: str, newest: int) -> Occurrences | None:
        """What is known of a token by a transaction whose newest chunk is this one."""
        with self._lock:
            if newest != self._newest or token not in self._known:
                return None
            self._known.move_to_end(token)
            return self._known[token]

    def put(self, token: str, newest: int, found: Occurrences) -> None:
        """Keep what a transaction whose newest chunk is this one has read, if none has seen a newer one."""
        with self._lock:
            if newest < self._newest or len(found.chunks) > self._room // 4:
                return
            if newest > self._newest:
                self._known.clear()
                self._held, self._newest = 0, newest
            if token in self._known:
                return
            self._known[token] = found
            self._held += len(found.chunks) + self._overhead
            while self._held > self._room:
                _, gone = self._known.popitem(last=False)
                self._held -= len(gone.chunks) + self._overhead

    def forget(self) -> None:
        """Chunks went: leaving many of them out takes each search longer than reading anew."""
        with self._lock:
            self._known.clear()
            self._held = 0
