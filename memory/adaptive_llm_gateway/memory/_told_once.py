"""A failure that comes again and again: logged when it begins, when it changes, each minute, and when it is over."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

AGAIN_SECONDS: Final = 60.0
_MOST: Final = 8
"""Of different words for one failure that are each logged at once; further ones wait for the next minute."""


class ToldOnce:
    """What is tried over and over, and fails. To be used by one thread.

    Args:
        log: where it is told.
        fails: a sentence without its end, which the error follows.
        over: the sentence for its end.
        clock: seconds that only go on.
    """

    def __init__(
        self, log: logging.Logger, fails: str, over: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._fails, self._over, self._clock = log, fails, over, clock
        self._told: set[str] = set()
        self._at = 0.0
        self._silent = 0

    def failed(self, error: Exception) -> None:
        """It failed: told unless the same was told within the last minute."""
        text, now = str(error), self._clock()
        new = text not in self._told and len(self._told) < _MOST
        if self._told and not new and now - self._at < AGAIN_SECONDS:
            self._silent += 1
            return
        if not new:
            self._told = {text}
        self._told.add(text)
        more = f" ({self._silent:,} times since this was last logged)" if self._silent else ""
        self._at, self._silent = now, 0
        self._log.warning("%s: %s%s", self._fails, text, more)

    def succeeded(self) -> None:
        """It went well: told where it had failed before."""
        if self._told:
            self._log.warning("%s", self._over)
            self._told.clear()
            self._silent = 0
