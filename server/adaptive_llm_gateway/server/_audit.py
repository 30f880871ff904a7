"""The audit log of a hub: entries are queued, and one thread appends them in groups with one sync each.

What is queued waits for the disk a tenth of a second at most: that, and the group under way, is what a SIGKILL can
lose. Where an answer must not be given before its entry is on the disk, `add_now` waits for it.

While the disk refuses, entries wait, as many as memory is kept for; what comes beyond is counted, and the number is the
first entry once the log can be written again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from adaptive_llm_gateway.core import AlgError, Unavailable
from adaptive_llm_gateway.server._audit_entry import AuditEntry, Gathering
from adaptive_llm_gateway.server._audit_files import FILE_BYTES, AuditFiles

_log = logging.getLogger(__name__)

MOST_WAITING: Final = 20_000
_MOST_AT_ONCE: Final = 1000  # entries that share a sync
_GATHER_SECONDS: Final = 0.1
_AGAIN_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 15.0  # from one look for gathered refusals whose minute is over to the next
_REMOVE_SECONDS: Final = 3600.0
_END_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class AuditState:
    """How the log stands.

    Attributes:
        waiting: entries that are not on the disk yet.
        written: entries that this process wrote.
        lost: entries that this process could not keep.
        error: why the disk refuses now; None when it does not.
    """

    waiting: int
    written: int
    lost: int
    error: str | None


@dataclass(slots=True)
class _Waiting:
    entry: dict[str, Any]
    told: Callable[[AlgError | None], None] | None = None


class AuditLog:
    """The log in a folder. Entries may come from any thread.

    Args:
        must_hold: refuse to go on while the log cannot be written; see `check`.
        most_waiting: entries that are kept in memory.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        must_hold: bool = False,
        retention_days: float = 365,
        retention_bytes: int = 1 << 30,
        file_bytes: int = FILE_BYTES,
        most_waiting: int = MOST_WAITING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._files = AuditFiles(folder, file_bytes=file_bytes)
        self._must_hold = must_hold
        self._days, self._bytes = retention_days, retention_bytes
        self._most_waiting = most_waiting
        self._clock = clock
        self._wake = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._held: list[_Waiting] = []  # taken from the queue, and not on the disk yet
        self._gathering = Gathering()
        self._urgent = self._closing = False
        self._thread: threading.Thread | None = None
        self._written = 0
        self._lost = 0
        self._untold: int = 0  # of those that are lost
        self._error: AlgError | None = None
        self._removed: tuple[float, int] | None = None  # when old files were removed, and which was the newest then

    @property
    def state(self) -> AuditState:
        """How the log stands now."""
        error = self._error
        return AuditState(
            len(self._queue) + len(self._held), self._written, self._lost, None if error is None else error.message
        )

    def check(self) -> None:
        """Refuse to go on where nothing may be done that is not logged.

        Raises:
            Unavailable: the log cannot be written.
        """
        if self._must_hold and self._error is not None:
            raise Unavailable(
                "the audit log cannot be written, and nothing is done without it",
                hint="Whoever runs the hub has to look: `alg hub status` says why.",
            )

    def add(self, entry: AuditEntry) -> None:
        """Have an entry written soon; never waits."""
        self._add(_Waiting(entry.as_json()))

    def gather(self, entry: AuditEntry) -> bool:
        """Have a refusal written soon that others like it may follow at once: see `Gathering`. Whether this one was."""
        first = self._gathered(entry)
        if first is not None:
            self.add(first)
        return first is not None

    async def add_now(self, entry: AuditEntry) -> AlgError | None:
        """Have an entry written, and wait until it is on the disk; returns why it is not."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[AlgError | None] = loop.create_future()

        def settle(error: AlgError | None) -> None:
            if not done.done():
                done.set_result(error)

        def told(error: AlgError | None) -> None:
            with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
                loop.call_soon_threadsafe(settle, error)

        self._add(_Waiting(entry.as_json(), told))
        return await done

    async def gather_now(self, entry: AuditEntry) -> AlgError | None:
        """As `gather`, and wait until it is on the disk where it is written by itself; returns why it is not."""
        first = self._gathered(entry)
        return None if first is None else await self.add_now(first)

    def close(self) -> None:
        """Write what waits, and end the thread. What the disk refuses then is lost, and that is logged."""
        with self._wake:
            self._closing = True
            for entry in self._gathering.due(self._clock(), all=True):
                self._queue.append(_Waiting(entry.as_json()))
            if self._queue and self._thread is None:
                self._begin()
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join(_END_SECONDS)
        left = self.state.waiting
        if left:
            _log.error("%d entries of the audit log were not written: %s", left, self.state.error)

    def _gathered(self, entry: AuditEntry) -> AuditEntry | None:
        with self._wake:
            if self._thread is None:
                self._begin()  # it is who writes of a minute that is over
            return self._gathering.add(entry)

    def _add(self, waiting: _Waiting) -> None:
        with self._wake:
            if self._closing or len(self._queue) >= self._most_waiting:
                self._lost += 1
                self._untold += 1
                error = self._error or Unavailable("the audit log takes no more entries now")
                if waiting.told is not None:
                    waiting.told(error)
                return
            self._queue.append(waiting)
            self._urgent = self._urgent or waiting.told is not None
            if self._thread is None:
                self._begin()
            if self._urgent or len(self._queue) == 1:
                self._wake.notify()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    # -- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._queue or self._held or self._untold or self._closing):
                    self._wake.wait(_LOOK_SECONDS)
                    self._look()
                if not (self._urgent or self._closing):
                    self._wake.wait_for(lambda: self._urgent or self._closing, _GATHER_SECONDS)
                self._look()
                self._take()
                if self._closing and not (self._held or self._untold):
                    return
            if not self._write() and self._closing:
                return
            self._remove_old()

    def _look(self) -> None:
        self._queue.extend(_Waiting(entry.as_json()) for entry in self._gathering.due(self._clock()))

    def _take(self) -> None:
        """Move what waits to what is in hand; the lock is held."""
        while self._queue and len(self._held) < _MOST_AT_ONCE:
            self._held.append(self._queue.popleft())
        self._urgent = any(waiting.told is not None for waiting in self._queue)

    def _write(self) -> bool:
        """Append what is in hand; whether the disk took it."""
        with self._wake:
            untold = self._untold
        entries = [waiting.entry for waiting in self._held]
        if untold:  # what is missing comes first: it came before what waits now could be taken
            gap = AuditEntry(self._clock(), "audit.gap", outcome="failed", code=self._code(), count=untold)
            entries.insert(0, gap.as_json())
        try:
            if entries:
                self._files.append(entries)
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread goes on and tries again
            self._failed(error)
            return False
        if self._error is not None:
            _log.warning("the audit log is written again")
        self._error = None
        with self._wake:
            self._untold -= untold
            self._written += len(entries)
        for waiting in self._held:
            if waiting.told is not None:
                waiting.told(None)
        self._held.clear()
        return True

    def _code(self) -> str:
        return self._error.code if self._error is not None else "queue_full"

    def _failed(self, error: Exception) -> None:
        known = error if isinstance(error, AlgError) else AlgError(f"{type(error).__name__}: {error}")
        if self._error is None:
            _log.error("the audit log cannot be written: %s", known.message)
        self._error = known
        for waiting in self._held:
            if waiting.told is not None:  # who waits is told; the entry stays for the next attempt
                waiting.told(known)
                waiting.told = None
        with self._wake:
            self._wake.wait_for(lambda: self._closing, _AGAIN_SECONDS)

    def _remove_old(self) -> None:
        now, newest = time.monotonic(), self._files.number
        if self._removed is not None and now - self._removed[0] < _REMOVE_SECONDS and newest == self._removed[1]:
            return
        self._removed = (now, newest)
        try:
            gone = self._files.remove_old(self._clock(), days=self._days, most_bytes=self._bytes)
        except (AlgError, OSError) as error:
            _log.warning("old files of the audit log could not be removed: %s", error)
        else:
            if gone:
                _log.info("%d old files of the audit log were removed", len(gone))
