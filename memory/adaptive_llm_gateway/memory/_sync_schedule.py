"""When to sync by itself: a pure planner. `Syncing` tells it what happened and does what it says.

Times are seconds of a clock that only goes forward. `draw` is a random number from 0 up to 1, so that hubs of one team
do not come in step and a test can choose it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from adaptive_llm_gateway.memory._sync_errors import RACES

Patience = Literal["race", "soon", "retry", "person"]
Operation = Literal["check", "pull", "push"]

_PERSON: Final[frozenset[str]] = frozenset(
    {"git_missing", "read_only", "ownership", "transport_refused", "secret_outgoing", "trust_outgoing", "pull_only"}
    | {"unsafe_incoming", "corrupt_incoming", "corrupt_here", "corrupt_remote", "unrelated_histories", "shallow_clone"}
    | {"format_too_new", "not_merged", "auth", "host_key", "certificate", "proxy", "access_denied", "ssh_setup"}
    | {"identity_rejected", "protected_branch", "too_large", "hook_rejected", "checked_out", "remote_read_only"}
    | {"remote_full", "remote_missing", "remote_moved", "missing_branch"}
)
_SOON: Final = frozenset({"index_lock", "index_lock_stale", "busy", "repo_busy", "detached_head", "dirty", "lock_held"})

# The least wait, what the longest one is after the first failure, and what it grows to, in seconds.
_WAITS: Final[dict[Patience, tuple[float, float, float]]] = {
    "race": (0.1, 1.0, 60.0),
    "soon": (2.0, 4.0, 120.0),
    "retry": (2.0, 5.0, 900.0),
    "person": (120.0, 600.0, 14400.0),  # soon at first: a connection that breaks off may read like a refusal
}
SOON_SECONDS: Final = 5.0
OFFLINE_SECONDS: Final = 5.0
_SLEPT_SECONDS: Final = 30.0


def patience(kind: str | None) -> Patience:
    """How to bear a failure of this kind.

    `race`: somebody else pushes at the same time. `soon`: something on this machine is in the way. `retry`: the network
    or something that is not known. `person`: it stays until somebody mends it.
    """
    if kind in _PERSON:
        return "person"
    if kind in _SOON:
        return "soon"
    return "race" if kind in RACES else "retry"


def longest_wait(kind: str | None, failures: int) -> float:
    """The longest wait after that many failures in a row: it doubles with each, up to a bound."""
    _, first, most = _WAITS[patience(kind)]
    return min(most, first * 2.0 ** min(failures - 1, 32))


def wait(kind: str | None, failures: int, draw: float) -> float:
    """The wait after that many failures in a row: anything up to the longest, but for a least one (full jitter)."""
    least = _WAITS[patience(kind)][0]
    return least + draw * (longest_wait(kind, failures) - least)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to sync.

    Attributes:
        interval: seconds between two looks at the remote; 0: only when asked.
        delay: seconds to gather writes before they are pushed; None: push only when asked.
    """

    interval: float = 0.0
    delay: float | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """How pulls, or pushes, went: failures in a row, their kind, and when it may be tried again without being asked."""

    failures: int = 0
    kind: str | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is known.

    Attributes:
        check: when to look at the remote; None: never by itself.
        push_at: when to push what was written; None: nothing waits.
    """

    check: float | None = None
    push_at: float | None = None
    pulls: Track = field(default_factory=Track)
    pushes: Track = field(default_factory=Track)


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next and when; `asked`: what somebody waits for. With neither work nor time: wait to be woken."""

    work: Literal["asked", "check", "push"] | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended.

    Attributes:
        kind: of its failure; None: it succeeded.
        ahead: commits that wait to be pushed now.
    """

    operation: Operation
    kind: str | None = None
    ahead: int = 0


def begin(now: float, pace: Pace, draw: float) -> Schedule:
    """At the start: look at the remote soon, and push what the last end left."""
    return Schedule(
        now + SOON_SECONDS * draw if pace.interval else None,
        None if pace.delay is None else now + pace.delay,
    )


def plan(schedule: Schedule, now: float, *, asked: bool = False, remote: bool = True, offline: bool = False) -> Step:
    """What to do next. What is asked for comes at once; what is due comes when no failure keeps it waiting."""
    if asked:
        return Step("asked", now)
    if not remote:
        return Step()
    check, push = schedule.check, schedule.push_at
    if check is not None:
        check = _not_before(check, schedule.pulls.until)
    if push is not None:
        push = _not_before(push, schedule.pushes.until)
        if patience(schedule.pulls.kind) == "retry":  # the same network
            push = _not_before(push, schedule.pulls.until)
    times = [time for time in (check, push) if time is not None]
    if not times:
        return Step()
    first = min(times)
    if offline:
        return Step(None, max(first, now + OFFLINE_SECONDS))
    due = check is not None and (check <= now or check == first)
    return Step("check", check) if due else Step("push", push)


def wrote(schedule: Schedule, now: float, pace: Pace) -> Schedule:
    """There are new commits. The first one of several sets the time."""
    if pace.delay is None or schedule.push_at is not None:
        return schedule
    return replace(schedule, push_at=now + pace.delay)


def began(schedule: Schedule, operation: Operation) -> Schedule:
    """An attempt begins: a push takes along what was written until now."""
    return replace(schedule, push_at=None) if operation == "push" else schedule


def ended(schedule: Schedule, now: float, pace: Pace, how: Ended, draw: float) -> Schedule:
    """An attempt ended, asked for or not."""
    if how.kind == "offline":  # the mode, not the network: tried when it ends
        return schedule
    if how.kind == "no_remote":
        return replace(schedule, push_at=None, pulls=Track(), pushes=Track(), check=_next_check(now, pace, draw))
    if how.kind is not None:
        return _failed(schedule, now, pace, how, how.kind, draw)
    if how.operation == "push":
        pulls = schedule.pulls
        if pulls.kind is not None and patience(pulls.kind) == "retry":  # the remote can be reached again
            schedule = replace(schedule, check=_soonest(schedule.check, now), pulls=Track())
        again = schedule.push_at
        if again is None and how.ahead and pace.delay is not None:
            again = now + pace.delay
        return replace(schedule, push_at=again, pushes=Track())
    schedule = replace(schedule, check=_next_check(now, pace, draw), pulls=Track())
    if schedule.pushes.kind is not None and patience(schedule.pushes.kind) in ("retry", "race"):
        schedule = replace(schedule, pushes=Track())
    if how.ahead and pace.delay is not None and schedule.push_at is None:
        schedule = replace(schedule, push_at=now)
    return schedule


def nothing_to_push(schedule: Schedule) -> Schedule:
    """The remote has everything."""
    return replace(schedule, push_at=None, pushes=Track())


def woke(schedule: Schedule, now: float, draw: float) -> Schedule:
    """The machine slept: look soon, for the network is another one and others may have written."""
    check = schedule.check
    return replace(
        schedule,
        check=None if check is None else min(check, now + SOON_SECONDS * draw),
        pulls=_forgiven(schedule.pulls),
        pushes=_forgiven(schedule.pushes),
    )


def reconfigured(schedule: Schedule, now: float, draw: float) -> Schedule:
    """Something changed that may have mended what failed: what failed is tried again soon."""
    at = now + SOON_SECONDS * draw
    if schedule.pulls.kind is not None and schedule.check is not None:
        schedule = replace(schedule, check=min(schedule.check, at))
    return replace(schedule, pulls=replace(schedule.pulls, until=None), pushes=replace(schedule.pushes, until=None))


def waits_for_a_person(schedule: Schedule) -> bool:
    """Whether something failed that stays until somebody mends it."""
    return any(
        track.kind is not None and patience(track.kind) == "person" for track in (schedule.pulls, schedule.pushes)
    )


def slept(monotonic: float, wall: float) -> bool:
    """Whether the machine slept, from what passed by the two clocks: only the wall clock goes on meanwhile."""
    return wall - monotonic > _SLEPT_SECONDS


def _failed(schedule: Schedule, now: float, pace: Pace, how: Ended, kind: str, draw: float) -> Schedule:
    before = schedule.pushes if how.operation == "push" else schedule.pulls
    same = before.kind is not None and patience(before.kind) == patience(kind)
    failures = before.failures + 1 if same else 1
    track = Track(failures, kind, now + wait(kind, failures, draw))
    if how.operation == "push":
        waiting = schedule.push_at
        if waiting is None and pace.delay is not None:
            waiting = now
        return replace(schedule, push_at=waiting, pushes=track)
    return replace(schedule, check=track.until if pace.interval else None, pulls=track)


def _next_check(now: float, pace: Pace, draw: float) -> float | None:
    return now + pace.interval * (0.75 + 0.5 * draw) if pace.interval else None


def _forgiven(track: Track) -> Track:
    return track if track.kind is not None and patience(track.kind) == "person" else replace(track, until=None)


def _not_before(time: float, until: float | None) -> float:
    return time if until is None else max(time, until)


def _soonest(time: float | None, now: float) -> float | None:
    return None if time is None else min(time, now)
