"""What is told of sync is what happened: the status as a function of events, against rules said in another way."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import DiskFull
from adaptive_llm_gateway.memory._sync_errors import hint_for
from adaptive_llm_gateway.memory._sync_model import (
    Answered,
    Elsewhere,
    Event,
    Failed,
    Kept,
    Notice,
    Operation,
    Seen,
    Succeeded,
    after,
    commit_problem,
    dump,
    load,
    status_of,
    with_commit_error,
)
from adaptive_llm_gateway.memory._values import SYNC_KINDS, SyncKind, SyncProblem

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
HERE = Seen("/remote.git", "main", known=True)


def at(minutes: int) -> datetime:
    return NOON + timedelta(minutes=minutes)


def failed(operation: Operation, kind: SyncKind, minutes: int) -> Failed:
    return Failed(operation, kind, f"{operation} failed ({kind})", at(minutes), "git's words", hint_for(kind))


def run(*events: Event, kept: Kept | None = None) -> Kept:
    kept = kept or Kept()
    for event in events:
        kept = after(kept, event)
    return kept


# --- One after the other ------------------------------------------------------------------------------


def test_a_push_that_failed_is_not_cleared_by_a_pull_that_did_not() -> None:
    kept = run(failed("push", "hook_rejected", 0), Answered(at(1)), Succeeded("pull", at(1), 2, 0))
    status = status_of(kept, Seen("/r", "main", 2, 0, known=True))
    assert (status.state, status.kind, status.attempts) == ("failed", "hook_rejected", 1)
    kept = run(Answered(at(2)), Succeeded("push", at(2), 0, 0), kept=kept)
    assert status_of(kept, HERE).state == "pushed"


def test_a_push_that_failed_is_over_once_the_remote_has_it_whoever_brought_it() -> None:
    kept = run(failed("push", "auth", 0), Answered(at(1)), Succeeded("pull", at(1), 0, 0))
    assert (status_of(kept, HERE).state, status_of(kept, HERE).last_success) == ("pushed", at(1))


def test_a_push_that_failed_is_over_once_plain_git_has_pushed_what_waited() -> None:
    kept = run(Failed("push", "auth", "no", at(0), ahead=2))
    assert status_of(kept, Seen("/r", "main", 2, 0, known=True)).state == "failed"
    assert status_of(kept, Seen("/r", "main", 0, 0, known=True)).state == "pushed"
    assert status_of(kept, Seen("/r", "main", 0, 0, known=False)).state == "failed"
    nothing_waited = run(Failed("push", "auth", "no", at(0)))
    assert status_of(nothing_waited, Seen("/r", "main", 0, 0, known=True)).state == "failed"


def test_a_remote_that_has_answered_is_not_called_out_of_reach() -> None:
    kept = run(failed("push", "unreachable", 0), Answered(at(1)), failed("pull", "dirty", 1))
    status = status_of(kept, Seen("/r", "main", 1, 1, known=True))
    assert [problem.kind for problem in status.problems] == ["dirty"]
    assert status.checked == at(1)


def test_a_failure_that_only_a_merge_mends_outlasts_a_fetch() -> None:
    kept = run(failed("pull", "unsafe_incoming", 0), Answered(at(1)), Succeeded("fetch", at(1), 0, 3))
    assert status_of(kept, Seen("/r", "main", 0, 3, known=True)).kind == "unsafe_incoming"
    kept = run(failed("pull", "timeout", 2), Answered(at(3)), Succeeded("fetch", at(3), 0, 3))
    assert status_of(kept, Seen("/r", "main", 0, 3, known=True)).state == "behind"


def test_what_was_in_the_way_here_and_is_seen_to_be_gone_is_no_failure_any_more() -> None:
    kept = run(failed("pull", "repo_busy", 0))
    busy = SyncProblem("repo_busy", "a rebase")
    assert status_of(kept, Seen("/r", "main", 1, 0, known=True, problems=(busy,))).state == "failed"
    assert status_of(kept, Seen("/r", "main", 1, 0, known=True)).state == "pending"


def test_attempts_are_counted_and_a_cause_dated_from_its_first() -> None:
    kept = run(failed("push", "auth", 0), failed("push", "auth", 1), failed("push", "auth", 2))
    (problem,) = status_of(kept, HERE).problems
    assert (problem.attempts, problem.since) == (3, at(0))
    kept = run(failed("push", "host_key", 3), kept=kept)
    (problem,) = status_of(kept, HERE).problems
    assert (problem.kind, problem.attempts, problem.since) == ("host_key", 4, at(3))


def test_another_remote_has_everything_to_learn_and_nothing_to_answer_for() -> None:
    kept = run(failed("push", "auth", 0), Answered(at(1)), Succeeded("pull", at(1), 0, 0), Elsewhere("/new", "main"))
    assert (kept.asked, kept.failures, kept.checked, kept.last_success) == (False, {}, None, None)
    assert run(Answered(at(2)), kept=kept).asked


def test_another_branch_of_the_same_remote_is_not_thought_unseen() -> None:
    assert after(Kept(place="/r", branch="main"), Elsewhere("/r", "other")).asked


def test_problems_do_not_hide_each_other_and_the_most_important_comes_first() -> None:
    kept = run(failed("pull", "unreachable", 0), failed("push", "secret_outgoing", 1))
    seen = Seen(
        "/r",
        "main",
        1,
        0,
        known=True,
        problems=(
            SyncProblem("identity_missing", "nobody", blocks=False),
            SyncProblem("index_lock_stale", "left", blocks=False),
            SyncProblem("repo_busy", "a merge"),
        ),
    )
    status = status_of(kept, seen)
    assert [problem.kind for problem in status.problems] == [
        "repo_busy",
        "secret_outgoing",
        "unreachable",
        "index_lock_stale",
        "identity_missing",
    ]
    assert (status.kind, status.writes) == ("repo_busy", "refused")


def test_what_an_attempt_met_and_is_seen_here_is_told_once() -> None:
    busy = SyncProblem("repo_busy", "a rebase")
    status = status_of(run(failed("pull", "repo_busy", 0)), Seen("/r", "main", 1, 0, known=True, problems=(busy,)))
    assert status.problems == (busy,)
    assert (status.state, status.attempts, status.writes) == ("failed", 1, "refused")


def test_what_an_attempt_met_says_nothing_of_writes() -> None:
    status = status_of(run(failed("pull", "disk_full", 0)), HERE)
    assert (status.kind, status.writes) == ("disk_full", "committed")
    full = SyncProblem("disk_full", "no room")
    assert status_of(Kept(), Seen("/r", "main", known=True, problems=(full,))).writes == "refused"


def test_commits_that_fail_are_told_beside_what_keeps_sync_from_working() -> None:
    status = status_of(run(failed("push", "unreachable", 0)), Seen("/r", "main", 1, 0, known=True))
    told = with_commit_error(status, commit_problem(DiskFull("no space left", hint="Free some.")))
    assert [problem.kind for problem in told.problems] == ["disk_full", "unreachable"]
    assert (told.state, told.kind, told.writes, told.hint) == ("failed", "disk_full", "saved", "Free some.")


def test_what_once_happened_is_told_for_a_day_and_what_is_so_as_long_as_it_is() -> None:
    found = (Notice("history_rewritten", "rewritten", at(0)), Notice("clock", "wrong", at(0)))
    kept = run(Answered(at(0), found, frozenset({"clock"})), Succeeded("push", at(0), 0, 0))
    assert [problem.kind for problem in status_of(kept, HERE).problems] == ["history_rewritten", "clock"]
    kept = run(Answered(at(5), (), frozenset({"clock"})), kept=kept)
    assert [problem.kind for problem in status_of(kept, HERE).problems] == ["history_rewritten"]
    kept = run(Answered(at(24 * 60 + 1)), kept=kept)
    assert status_of(kept, HERE).problems == ()


def test_what_only_a_remote_says_that_was_reached_ends_what_kept_from_reaching_it() -> None:
    kept = run(failed("push", "host_key", 0), failed("pull", "auth", 1))
    assert [problem.kind for problem in status_of(kept, HERE).problems] == ["auth"]
    kept = run(failed("push", "auth", 0), failed("pull", "unreachable", 1))
    assert [problem.kind for problem in status_of(kept, HERE).problems] == ["auth", "unreachable"]


def test_without_a_remote_only_what_is_seen_here_is_told() -> None:
    busy = SyncProblem("repo_busy", "a rebase")
    status = status_of(run(failed("push", "auth", 0), Answered(at(1))), Seen(None, problems=(busy,)))
    assert (status.state, status.kind, status.checked, status.last_success) == ("no_remote", "repo_busy", None, None)


def test_every_kind_that_is_known_by_name_has_a_next_step() -> None:
    assert [kind for kind in SYNC_KINDS if hint_for(kind) is None] == ["other"]
    destructive = ("rm ", "reset --hard", "--force", "push -f", "clean -f", "branch -D", "prune", "--abort")
    assert not [kind for kind in SYNC_KINDS for word in destructive if word in (hint_for(kind) or "")]


# --- Any events in any order -------------------------------------------------------------------------------

kinds = st.sampled_from(SYNC_KINDS)
operations = st.sampled_from(OPERATIONS)
counts = st.integers(0, 2)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("failed"), operations, kinds),
        st.tuples(st.just("succeeded"), operations, counts, counts),
        st.tuples(st.just("answered")),
        st.tuples(st.just("elsewhere")),
    ),
    max_size=14,
)


def events_of(given_steps: list[tuple[object, ...]]) -> list[Event]:
    made: list[Event] = []
    for minute, step in enumerate(given_steps):
        match step:
            case ("failed", operation, kind):
                made.append(failed(operation, kind, minute))  # type: ignore[arg-type]
            case ("succeeded", operation, ahead, behind):
                made.append(Succeeded(operation, at(minute), ahead, behind))  # type: ignore[arg-type]
            case ("answered",):
                made.append(Answered(at(minute)))
            case _:
                made.append(Elsewhere(f"/remote-{minute}", "main"))
    return made


@given(steps, counts, counts)
def test_the_status_is_what_the_events_say(given_steps: list[tuple[object, ...]], ahead: int, behind: int) -> None:
    events = events_of(given_steps)
    kept = run(*events)
    status = status_of(kept, Seen("/r", "main", ahead, behind, known=True))
    since_moved: list[Event] = []
    for event in events:
        since_moved = [] if isinstance(event, Elsewhere) else [*since_moved, event]

    # A failure is never told that did not happen, nor one whose own operation has succeeded since.
    for problem in status.problems:
        last = max(
            index
            for index, event in enumerate(since_moved)
            if isinstance(event, Failed) and event.operation == problem.operation and event.kind == problem.kind
        )
        later = since_moved[last + 1 :]
        assert not any(isinstance(event, Succeeded) and event.operation == problem.operation for event in later)
        assert not any(isinstance(event, Succeeded) and event.operation == "push" for event in later)
    # One whose operation has not succeeded, nor anything else since, is told, unless it can be seen here and is not.
    if since_moved and isinstance(last_event := since_moved[-1], Failed):
        seen_here = ("repo_busy", "detached_head", "index_lock", "index_lock_stale")
        assert (last_event.kind in {problem.kind for problem in status.problems}) == (last_event.kind not in seen_here)
    # Success is never claimed while something is told to have failed, nor failure without it.
    assert (status.state == "failed") == any(problem.operation for problem in status.problems)
    assert (status.state == "pushed") == (not status.problems and ahead == behind == 0)
    # The times are those of what happened.
    answers = [event.at for event in since_moved if isinstance(event, Answered)]
    assert status.checked == max(answers, default=None)
    level = [event.at for event in since_moved if isinstance(event, Succeeded) and event.ahead == event.behind == 0]
    assert status.last_success == (level[-1] if level else None)
    # What is kept in the file is all of it.
    assert load(json.loads(json.dumps(dump(kept)))) == kept


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["failures", "pull", "push", "notices", "kind", "at", "since", "asked", "checked", "place"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_no_file_is_too_damaged_to_be_read(found: object) -> None:
    status_of(load(found), HERE)


@pytest.mark.parametrize("time", ["2026-11-20T12:00:00", "yesterday", 5, None])
def test_a_time_that_is_none_is_left_out(time: object) -> None:
    assert load({"checked": time}).checked is None


def test_a_file_of_an_older_version_is_read() -> None:
    old = {
        "failures": {"push": {"kind": "auth", "error": "fatal: no", "at": "2026-11-20T12:00:00+00:00"}},
        "state": "failed",
        "since": "2026-11-20T12:00:00+00:00",
    }
    (problem,) = status_of(load(old), HERE).problems
    assert (problem.kind, problem.git, problem.since, problem.attempts) == ("auth", "fatal: no", NOON, 1)
