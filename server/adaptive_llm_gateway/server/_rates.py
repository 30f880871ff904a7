"""How often somebody may do something: a bucket of permits for each, which fills by itself. Bounded in memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

_MOST_KEPT: Final = 8_192


class Buckets:
    """One bucket for each key, full at first. Those that were not asked for longest are forgotten, which fills them.

    Args:
        most: buckets that are kept.
        clock: seconds that never go back.
    """

    def __init__(self, *, most: int = _MOST_KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, *, a_minute: float, at_once: float) -> float:
        """Take a permit. 0 where there was one; else the seconds until there is, and nothing was taken.

        Args:
            a_minute: how many permits come back in a minute.
            at_once: how many fit into a bucket.
        """
        left, now = self._filled(key, a_minute, at_once)
        taken = left >= 1
        self._left[key] = (left - 1 if taken else left, now)
        self._left.move_to_end(key)
        while len(self._left) > self._most:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) * 60 / a_minute

    def wait(self, key: Hashable, *, a_minute: float, at_once: float) -> float:
        """As `take`, and nothing is taken."""
        left, _ = self._filled(key, a_minute, at_once)
        return 0.0 if left >= 1 else (1 - left) * 60 / a_minute

    def __len__(self) -> int:
        return len(self._left)

    def _filled(self, key: Hashable, a_minute: float, at_once: float) -> tuple[float, float]:
        now = self._clock()
        left, then = self._left.get(key, (at_once, now))
        return min(at_once, left + (now - then) * a_minute / 60), now


def whole_seconds(wait: float) -> int:
    """Seconds as `Retry-After` has them: whole ones, and never 0."""
    return max(1, math.ceil(wait))
