"""The circuit breaker of one provider, as a value: what happened goes in with its time, a new value comes out.

Pure: `now` is seconds of any clock that never goes back, handed in by the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.gateway._port import FailureKind

Circuit = Literal["closed", "open", "half_open"]
"""Closed lets all through, open none, half-open one at a time to see how it goes."""

SICKNESS: Final[frozenset[FailureKind]] = frozenset(
    {"refused", "timeout", "overloaded", "server", "redirect", "broken", "incomplete"}
)
"""Failures that say that the provider is not well. A rate limit, a wrong key, a request that it cannot take or one that
was cancelled say nothing about the next request."""


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a circuit opens, and for how long.

    Attributes:
        failures: within `window` seconds that open it.
        open_for: seconds of the first time; each failed probe doubles them, up to `longest`.
        probe_for: seconds after which a probe of which nothing was heard is given up.
    """

    failures: int = 5
    window: float = 60.0
    open_for: float = 15.0
    longest: float = 300.0
    probe_for: float = 120.0

    def __post_init__(self) -> None:
        if self.failures < 1 or not (
            0 < self.window < float("inf")
            and 0 < self.open_for <= self.longest < float("inf")
            and 0 < self.probe_for < float("inf")
        ):
            raise InvalidInput(
                f"{self!r} is no rule for a circuit breaker",
                hint="`failures` is 1 or more, the times are seconds above 0, and `open_for` is at most `longest`.",
            )


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is remembered of a provider.

    Attributes:
        failed_at: times of the last failures, the oldest first, while it is closed.
        opened_at: when it opened; None while it is closed.
        trips: times that it opened without a success between.
        probe_at: when the probe that is under way began.
    """

    failed_at: tuple[float, ...] = ()
    opened_at: float | None = None
    trips: int = 0
    probe_at: float | None = None


def circuit(breaker: Breaker, rules: BreakerRules, now: float) -> Circuit:
    """Where the circuit stands at `now`. While a probe is under way it is open for all others."""
    if breaker.opened_at is None:
        return "closed"
    return "open" if opens_in(breaker, rules, now) > 0 else "half_open"


def opens_in(breaker: Breaker, rules: BreakerRules, now: float) -> float:
    """Seconds until the provider may be tried (again); 0 when it may be now."""
    if breaker.opened_at is None:
        return 0.0
    left = _open_for(breaker, rules) - (now - breaker.opened_at)  # in this order never more than it is open for
    if breaker.probe_at is not None:
        left = max(left, rules.probe_for - (now - breaker.probe_at))
    return max(left, 0.0)


def admit(breaker: Breaker, rules: BreakerRules, now: float) -> Breaker | None:
    """Begin a request: the breaker from now on, or None where the circuit is open.

    Whoever was let through tells how it went: `succeeded`, `failed` or `released`.
    """
    match circuit(breaker, rules, now):
        case "closed":
            return breaker
        case "half_open":
            return replace(breaker, probe_at=now)
        case "open":
            return None


def succeeded(breaker: Breaker) -> Breaker:
    """The provider answered."""
    return Breaker() if breaker != Breaker() else breaker


def failed(breaker: Breaker, rules: BreakerRules, kind: FailureKind, now: float) -> Breaker:
    """The provider failed. A kind that is no `SICKNESS` only ends a probe."""
    if kind not in SICKNESS:
        return released(breaker)
    if breaker.opened_at is not None:
        if breaker.probe_at is None:
            return breaker  # of a request from before it opened: it waits no longer for that
        return replace(breaker, opened_at=now, trips=breaker.trips + 1, probe_at=None)
    recent = (*(at for at in breaker.failed_at if at > now - rules.window), now)[-rules.failures :]
    if len(recent) < rules.failures:
        return replace(breaker, failed_at=recent)
    return Breaker(opened_at=now, trips=breaker.trips + 1)


def released(breaker: Breaker) -> Breaker:
    """A request ended without saying anything about the provider (cancelled): the next one may be the probe."""
    return replace(breaker, probe_at=None)


def _open_for(breaker: Breaker, rules: BreakerRules) -> float:
    # 2 ** 60 is past any `longest`; without the bound it would grow into a number that no float holds.
    return min(rules.open_for * 2.0 ** min(max(breaker.trips - 1, 0), 60), rules.longest)
