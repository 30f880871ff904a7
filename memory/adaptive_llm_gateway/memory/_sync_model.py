"""Where the memory repo stands, as a pure function: what is kept of attempts, changed by events, and what is seen now.

An attempt that failed is told until something contradicts it: the same attempt succeeds, both sides turn out to be the
same, what was in the way here is seen to be gone, or, where the remote was out of reach, it has answered since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, assert_never, cast

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.memory._sync_errors import clean_words, hint_for, kind_of
from adaptive_llm_gateway.memory._values import KIND_NAMES, SYNC_KINDS, SyncKind, SyncProblem, SyncStatus

Operation = Literal["fetch", "pull", "push"]
State = Literal["no_remote", "pushed", "pending", "behind", "diverged", "failed", "pulled", "local"]

# Failures of reaching the remote at all: when it has answered since, in whatever way, they are over.
_REACHING: Final[tuple[SyncKind, ...]] = (
    *("unreachable", "proxy", "certificate", "host_key", "remote_missing", "remote_moved", "transport_refused"),
    *("ssh_setup", "git_missing", "unknown"),
)
# What only a remote says that was reached, whoever it takes one for; and what keeps from getting that far.
_SAID_THERE: Final[tuple[SyncKind, ...]] = (
    *("auth", "access_denied", "identity_rejected", "protected_branch", "too_large", "hook_rejected", "checked_out"),
    *("remote_read_only", "remote_full", "missing_branch"),
)
_ON_THE_WAY: Final[tuple[SyncKind, ...]] = ("unreachable", "proxy", "certificate", "host_key", "ssh_setup")
# Causes that can be seen here without an attempt: no longer seen, no longer so.
_SEEN_HERE: Final[tuple[SyncKind, ...]] = ("repo_busy", "detached_head", "index_lock", "index_lock_stale")
# Failures that only a merge mends; having reached the remote does not.
_NOT_MERGED: Final[tuple[SyncKind, ...]] = (
    *("unsafe_incoming", "format_too_new", "unrelated_histories", "shallow_clone", "dirty"),
    *("ref_locked", "busy", "not_merged", "disk_full", "read_only", "corrupt_here", *_SEEN_HERE),
)
_REFUSING_WRITES: Final[tuple[SyncKind, ...]] = ("disk_full", "read_only", "repo_busy", "detached_head")
_REMEMBERED: Final = timedelta(days=1)  # a notice of what once happened


@dataclass(frozen=True, slots=True)
class Failure:
    """How the last attempts of one operation failed.

    Attributes:
        since: the first of them with this cause.
        attempts: how many in a row.
        ahead: commits that waited to be pushed when the last one failed.
    """

    kind: SyncKind
    message: str
    since: datetime
    at: datetime
    git: str | None = None
    hint: str | None = None
    attempts: int = 1
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the remote that holds nothing up.

    Attributes:
        of: the commit that it speaks of: it is so only where HEAD has that.
    """

    kind: SyncKind
    message: str
    at: datetime
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is remembered between attempts, and over a restart.

    Attributes:
        place: the remote's address, masked, and the branch, that all this is about; None: not known.
        branch: the branch that HEAD was on.
        asked: whether that remote has answered; while it has not, what git remembers may be of another one.
        state, since: the state as it was last told, and since when.
    """

    place: str | None = None
    branch: str | None = None
    asked: bool = True
    failures: Mapping[Operation, Failure] = field(default_factory=dict["Operation", "Failure"])
    notices: tuple[Notice, ...] = ()
    checked: datetime | None = None
    last_success: datetime | None = None
    state: str | None = None
    since: datetime | None = None


# --- Events -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """The remote's branch was seen: fetched, or pushed to.

    Attributes:
        found: what should be known of it.
        looked: kinds of notices that were looked for: those that are not found any more are over.
    """

    at: datetime
    found: tuple[Notice, ...] = ()
    looked: frozenset[SyncKind] = frozenset()


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed."""

    operation: Operation
    kind: SyncKind
    message: str
    at: datetime
    git: str | None = None
    hint: str | None = None
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Succeeded:
    """An attempt ended well, with so many commits ahead and behind."""

    operation: Operation
    at: datetime
    ahead: int
    behind: int


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The remote, or the branch, is another one now."""

    place: str | None
    branch: str | None


Event = Answered | Failed | Succeeded | Elsewhere


def after(kept: Kept, event: Event) -> Kept:
    """What is to be remembered after an event."""
    match event:
        case Answered():
            return replace(
                kept,
                asked=True,
                checked=event.at if kept.checked is None else max(kept.checked, event.at),
                failures=_contradicted(kept.failures, event.at),
                notices=_noted(kept.notices, event),
            )
        case Failed():
            before = kept.failures.get(event.operation)
            same = before is not None and before.kind == event.kind
            failure = Failure(
                event.kind,
                event.message,
                before.since if before is not None and same else event.at,
                event.at,
                event.git,
                event.hint,
                before.attempts + 1 if before is not None else 1,
                event.ahead,
            )
            failures = dict(kept.failures)
            if event.kind in _SAID_THERE:
                failures = {operation: it for operation, it in failures.items() if it.kind not in _ON_THE_WAY}
            failures[event.operation] = failure
            return replace(kept, failures=failures)
        case Succeeded():
            return _succeeded(kept, event)
        case Elsewhere():
            return Kept(place=event.place, branch=event.branch, asked=kept.asked and event.place == kept.place)
        case _:
            assert_never(event)


def _noted(before: tuple[Notice, ...], event: Answered) -> tuple[Notice, ...]:
    replaced = event.looked | {notice.kind for notice in event.found}
    still = [notice for notice in before if notice.kind not in replaced and event.at - notice.at < _REMEMBERED]
    return (*still, *event.found)


def _contradicted(failures: Mapping[Operation, Failure], answered: datetime) -> dict[Operation, Failure]:
    return {
        operation: failure
        for operation, failure in failures.items()
        if failure.kind not in _REACHING or failure.at > answered
    }


def _succeeded(kept: Kept, event: Succeeded) -> Kept:
    failures = dict(kept.failures)
    level = event.ahead == event.behind == 0
    match event.operation:
        case "fetch":
            pull = failures.get("pull")
            if pull is not None and pull.kind not in _NOT_MERGED:
                del failures["pull"]
        case "pull":
            failures.pop("pull", None)
        case "push":
            failures.clear()
        case _:
            assert_never(event.operation)
    failures.pop("fetch", None)
    if event.ahead == 0:
        failures.pop("push", None)  # whoever has pushed it
    return replace(
        kept,
        failures=failures,
        last_success=event.at if level else kept.last_success,
    )


# --- What is seen now, and what both say together ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What can be told now, without the network.

    Attributes:
        remote: its address, masked; None without one.
        known: whether the remote's branch has been seen.
        problems: what is in the way here, and notices.
        pull_only: nothing is ever pushed.
    """

    remote: str | None
    branch: str | None = None
    ahead: int = 0
    behind: int = 0
    known: bool = False
    offline: bool = False
    problems: tuple[SyncProblem, ...] = ()
    pull_only: bool = False


def status_of(kept: Kept, seen: Seen) -> SyncStatus:
    """Where the memory repo stands. `since` is the one that `kept` has, whether or not the state is the same."""
    here = {problem.kind for problem in seen.problems}
    failures: dict[Operation, Failure] = {
        operation: failure
        for operation, failure in kept.failures.items()
        if seen.remote is not None
        and (failure.kind not in _SEEN_HERE or failure.kind in here)
        and not (operation == "push" and failure.ahead and seen.known and not seen.ahead)  # pushed with plain git
    }
    # What is seen here says it better than an attempt that met it.
    met = [problem for problem in _told(failures) if problem.kind not in here or problem.kind not in _SEEN_HERE]
    problems = _in_order([*met, *seen.problems, *_noticed(kept, seen)])
    blocking = next((problem for problem in problems if problem.blocks), None)
    return SyncStatus(
        _state(seen, failed=bool(failures), looked=kept.checked is not None),
        ahead=seen.ahead if seen.remote else 0,
        behind=seen.behind if seen.remote else 0,
        since=kept.since if seen.remote else None,
        last_success=kept.last_success if seen.remote else None,
        remote=seen.remote,
        kind=blocking.kind if blocking else None,
        error=(blocking.git or blocking.message) if blocking else None,
        offline=seen.offline,
        attempts=max((failure.attempts for failure in failures.values()), default=0),
        checked=kept.checked if seen.remote else None,
        hint=blocking.hint if blocking else None,
        writes=_writes(problems),
        problems=problems,
        read_only=seen.pull_only and seen.remote is not None,
    )


def with_commit_error(status: SyncStatus, problem: SyncProblem) -> SyncStatus:
    """The status where commits fail: what is written is on disk, and goes nowhere."""
    problems = _in_order([problem, *(found for found in status.problems if found.kind != problem.kind)])
    first = problems[0]
    writes = "refused" if status.writes == "refused" else "saved"
    return replace(
        status,
        kind=first.kind,
        error=first.git or first.message,
        hint=first.hint,
        writes=writes,
        problems=problems,
    )


def problem_of(error: AlgError) -> SyncProblem:
    """An error as a problem that was seen just now."""
    words, kind = error.details.get("git"), kind_of(error)
    git = clean_words(str(words)) if words else None
    return SyncProblem(kind, error.message, git=git, hint=error.hint or hint_for(kind))


def commit_problem(error: AlgError) -> SyncProblem:
    """Why commits fail, as a problem."""
    return replace(problem_of(error), message=f"commits fail: {error.message}", operation="commit")


def _in_order(problems: list[SyncProblem]) -> tuple[SyncProblem, ...]:
    return tuple(sorted(problems, key=lambda problem: (not problem.blocks, SYNC_KINDS.index(problem.kind))))


def _told(failures: Mapping[Operation, Failure]) -> list[SyncProblem]:
    told: dict[SyncKind, SyncProblem] = {}
    for operation, failure in sorted(failures.items(), key=lambda item: item[1].at):
        told[failure.kind] = SyncProblem(
            failure.kind,
            failure.message,
            True,
            operation,
            failure.git,
            failure.hint,
            failure.since,
            failure.attempts,
        )
    return list(told.values())


def _noticed(kept: Kept, seen: Seen) -> list[SyncProblem]:
    if seen.remote is None:
        return []
    return [
        SyncProblem(notice.kind, notice.message, blocks=False, hint=hint_for(notice.kind), since=notice.at)
        for notice in kept.notices
    ]


def _state(seen: Seen, *, failed: bool, looked: bool) -> State:
    if seen.remote is None:
        return "no_remote"
    if failed:
        return "failed"
    if seen.pull_only and not seen.known:  # an empty remote has not even the first commit, which each repo has alike
        return "behind" if not looked else "local" if seen.ahead > 1 else "pulled"
    if seen.pull_only and not seen.behind:
        return "local" if seen.ahead else "pulled"
    if not seen.known:
        return "pending"
    if seen.ahead:
        return "diverged" if seen.behind else "pending"
    return "behind" if seen.behind else "pushed"


def _writes(problems: tuple[SyncProblem, ...]) -> Literal["committed", "saved", "refused"]:
    # An attempt of sync that failed for want of space or so says nothing of a write, which may be smaller.
    held = any(found.blocks and found.kind in _REFUSING_WRITES and found.operation is None for found in problems)
    return "refused" if held else "committed"


# --- As a file ---------------------------------------------------------------------------------------


def dump(kept: Kept) -> dict[str, Any]:
    """What `load` takes."""
    return {
        "place": kept.place,
        "branch": kept.branch,
        "asked": kept.asked,
        "failures": {operation: _plain(failure) for operation, failure in kept.failures.items()},
        "notices": [_plain(notice) for notice in kept.notices],
        **{name: _time_text(getattr(kept, name)) for name in ("checked", "last_success", "since")},
        "state": kept.state,
    }


def load(given: object) -> Kept:
    """What is remembered, from a file's JSON. What makes no sense is left out: a damaged file is no reason to fail."""
    state = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    failures: dict[Operation, Failure] = {}
    found: Any = state.get("failures")
    for operation, entry in (cast("dict[str, Any]", found) if isinstance(found, dict) else {}).items():
        if operation in ("fetch", "pull", "push") and (failure := _failure(entry)) is not None:
            failures[operation] = failure
    listed: Any = state.get("notices")
    notices = [_notice(entry) for entry in (cast("list[Any]", listed) if isinstance(listed, list) else [])]
    return Kept(
        place=_text(state.get("place")),
        branch=_text(state.get("branch")),
        asked=state.get("asked") is not False,
        failures=failures,
        notices=tuple(notice for notice in notices if notice is not None),
        checked=_time(state.get("checked")),
        last_success=_time(state.get("last_success")),
        state=_text(state.get("state")),
        since=_time(state.get("since")),
    )


def _failure(given: object) -> Failure | None:
    entry = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    at = _time(entry.get("at"))
    if at is None:
        return None
    attempts: Any = entry.get("attempts")
    ahead: Any = entry.get("ahead")
    git = _text(entry.get("git")) or _text(entry.get("error"))  # as it was called once
    return Failure(
        _kind(entry.get("kind")),
        _text(entry.get("message")) or git or "",
        _time(entry.get("since")) or at,
        at,
        git,
        _text(entry.get("hint")),
        attempts if type(attempts) is int and attempts > 0 else 1,
        ahead if type(ahead) is int and ahead > 0 else 0,
    )


def _notice(given: object) -> Notice | None:
    entry = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    at = _time(entry.get("at"))
    return (
        None
        if at is None
        else Notice(_kind(entry.get("kind")), _text(entry.get("message")) or "", at, _text(entry.get("of")))
    )


def _kind(given: object) -> SyncKind:
    return KIND_NAMES.get(str(given), "other")


def _plain(value: Failure | Notice) -> dict[str, Any]:
    found = {item.name: getattr(value, item.name) for item in fields(value)}
    return {name: _time_text(item) if isinstance(item, datetime) else item for name, item in found.items()}


def _text(given: object) -> str | None:
    return given if isinstance(given, str) else None


def _time_text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment is not None else None


def _time(given: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None
