"""Whether a lease has run out by this hub's clocks, of which one can be set and one cannot."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from adaptive_llm_gateway.handoff._values import MOST_LEASE, Claim

TOLERANCE: Final = timedelta(seconds=120)
"""By how much the clocks of two hubs may differ without a lease being cut short."""

_MOST_SEEN: Final = 10_000


def steady_seconds() -> float:
    """Seconds since some moment, by a clock that nobody sets and that runs on while the machine sleeps."""
    if sys.platform == "darwin":
        return time.clock_gettime(time.CLOCK_MONOTONIC)  # unlike time.monotonic(), which stops in sleep there
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class LeaseClock:
    """Tells when leases have run out, whatever is done to the machine's clock. Its methods may be called by any thread.

    A lease has run out when its end and the tolerance are past by the wall clock and also by the steady one (the wall
    clock's time when this was made, and the seconds since); or when this has seen the claim, or what last renewed it,
    for as long as the lease is, and the tolerance. So a clock set forward takes nobody's lease, and one set back holds
    work up for no longer than a lease.

    Args:
        tolerance: for clocks of other hubs that differ.
        wall: seconds since 1970, UTC.
        steady: see `steady_seconds`.
    """

    def __init__(
        self,
        tolerance: timedelta = TOLERANCE,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = steady_seconds,
    ) -> None:
        self._tolerance = tolerance
        self._wall, self._steady = wall, steady
        self._wall_began, self._steady_began = wall(), steady()
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, datetime], float] = OrderedDict()

    @property
    def tolerance(self) -> timedelta:
        """By how much the clocks of two hubs may differ."""
        return self._tolerance

    def now(self) -> datetime:
        """The time by the wall clock, UTC."""
        return datetime.fromtimestamp(self._wall(), UTC)

    @property
    def jumped(self) -> float:
        """Seconds by which the wall clock was set forward (negative: back) since this was made; 0.0: within the
        tolerance.
        """
        moved = (self._wall() - self._wall_began) - (self._steady() - self._steady_began)
        return moved if abs(moved) > self._tolerance.total_seconds() else 0.0

    def is_over(self, claim: Claim) -> bool:
        """Whether the claim's lease has run out. Asking is also what makes the clock see the claim."""
        steady = self._steady()
        seen_for = timedelta(seconds=steady - self._first_seen(claim, steady))
        length = min(claim.lease_until - claim.renewed, MOST_LEASE)
        if seen_for > length + self._tolerance:
            return True
        known = datetime.fromtimestamp(self._wall_began, UTC)
        ran = timedelta(seconds=steady - self._steady_began)
        # Differences of times, for a sum may lie beyond the calendar.
        return self.now() - claim.lease_until > self._tolerance and known - claim.lease_until > self._tolerance - ran

    def _first_seen(self, claim: Claim, steady: float) -> float:
        key = (claim.id, claim.lease_until)
        with self._lock:
            first = self._seen.setdefault(key, steady)
            self._seen.move_to_end(key)
            while len(self._seen) > _MOST_SEEN:
                self._seen.popitem(last=False)
        return first
