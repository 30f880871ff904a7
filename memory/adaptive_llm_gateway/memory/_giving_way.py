"""Long work in the background, step by step, beside writes that somebody waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_TIMES: Final = 3.0  # as long as a step took
_LONGEST_SECONDS: Final = 0.05


class GivingWay:
    """Called after each step of the work: sleeps while writes come, so that most of the time is theirs.

    Args:
        writes: how many there were so far.
    """

    def __init__(self, writes: Callable[[], int], *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._writes, self._sleep = writes, sleep
        self._begun, self._before = time.monotonic(), writes()
        self._busy_until = 0.0

    def __call__(self) -> None:
        """A step is done."""
        now, writes = time.monotonic(), self._writes()
        if writes != self._before:
            self._before, self._busy_until = writes, now + _LONGEST_SECONDS
        if now < self._busy_until:  # steps may be shorter than the time between two writes
            self._sleep(min(_TIMES * (now - self._begun), _LONGEST_SECONDS))
        self._begun = time.monotonic()
