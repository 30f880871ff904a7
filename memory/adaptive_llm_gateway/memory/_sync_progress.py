"""How far a pull or push is: told by whoever works, read by whoever asks."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

_GIT: Final = re.compile(
    r"(?:remote: )?(?P<what>"
    r"(?:Enumerating|Counting|Compressing|Receiving|Resolving|Writing|Unpacking|Checking) [a-z ]+)"
    r":\s+(?:(?P<percent>\d+)% \((?P<done>\d+)/(?P<total>\d+)\)|(?P<count>\d+))"
    r"(?:, (?P<size>[\d.]+ (?:bytes|[KMGT]iB)))?"
)
_TALK: Final = re.compile(r"(?:remote: )?(?:Total \d+|Delta compression using )")


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """A pull or push that runs.

    Attributes:
        operation: `check`, `pull`, `push`, `sync` or `publish`.
        phase: what it does now, in a few words.
        done, total: of the phase, where it can be counted; `total` 0 where it is not known.
        size: how much came over the network, in git's words.
        started: when it began.
    """

    operation: str
    phase: str
    started: datetime
    done: int = 0
    total: int = 0
    size: str | None = None


class Progress:
    """Holds the progress of what runs; any thread may read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: SyncProgress | None = None

    @property
    def now(self) -> SyncProgress | None:
        """What runs; None: nothing does."""
        return self._now

    def begin(self, operation: str) -> None:
        """An attempt begins."""
        with self._lock:
            self._now = SyncProgress(operation, "starting", datetime.now(UTC))

    def end(self) -> None:
        """It ended."""
        with self._lock:
            self._now = None

    def phase(self, name: str, done: int = 0, total: int = 0, *, size: str | None = None) -> None:
        """What it does now, and how far that is."""
        with self._lock:
            if self._now is not None:
                self._now = replace(self._now, phase=name, done=done, total=total, size=size)

    def git_says(self, line: str) -> None:
        """A line of git's own progress."""
        told = _GIT.match(line.strip())
        if told is None:
            return
        done, total = int(told["done"] or told["count"] or 0), int(told["total"] or 0)
        self.phase(told["what"].lower(), done, total, size=told["size"])


def is_git_progress(line: str) -> bool:
    """Whether a line of git's standard error only says how far it is."""
    return _GIT.match(line.strip()) is not None or _TALK.match(line) is not None
