"""When the store syncs by itself: the planner, by table and by property, with a clock and chance of the test's own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.memory._sync_schedule import (
    OFFLINE_SECONDS,
    SOON_SECONDS,
    Ended,
    Pace,
    Schedule,
    Step,
    Track,
    began,
    begin,
    ended,
    longest_wait,
    nothing_to_push,
    patience,
    plan,
    reconfigured,
    slept,
    wait,
    waits_for_a_person,
    woke,
    wrote,
)

PACE = Pace(interval=300.0, delay=2.0)
KINDS = ("unreachable", "timeout", "other", "auth", "protected_branch", "non_fast_forward", "index_lock", "lock_held")
kinds = st.sampled_from(KINDS)
draws = st.floats(0.0, 1.0, exclude_max=True)
times = st.floats(0.0, 1e9)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("unreachable", "retry"),
        ("timeout", "retry"),
        ("something new", "retry"),
        ("auth", "person"),
        ("host_key", "person"),
        ("protected_branch", "person"),
        ("hook_rejected", "person"),
        ("unrelated_histories", "person"),
        ("format_too_new", "person"),
        ("remote_missing", "person"),
        ("secret_outgoing", "person"),
        ("index_lock", "soon"),
        ("repo_busy", "soon"),
        ("lock_held", "soon"),
        ("non_fast_forward", "race"),
        ("ref_race", "race"),
    ],
)
def test_how_a_failure_is_borne_depends_on_its_kind(kind: str, expected: str) -> None:
    assert patience(kind) == expected


@pytest.mark.parametrize(
    ("kind", "first", "most"),
    [
        ("unreachable", 5.0, 900.0),
        ("auth", 600.0, 14400.0),
        ("index_lock", 4.0, 120.0),
        ("non_fast_forward", 1.0, 60.0),
    ],
)
def test_the_longest_wait_doubles_up_to_its_bound(kind: str, first: float, most: float) -> None:
    waits = [longest_wait(kind, failures) for failures in range(1, 40)]
    assert waits[0] == first
    assert all(after == min(before * 2, most) for before, after in pairwise(waits))
    assert waits[-1] == most


@given(kinds, st.integers(1, 10_000), draws)
def test_every_wait_lies_between_the_least_and_the_longest(kind: str, failures: int, draw: float) -> None:
    assert wait(kind, failures, 0.0) <= wait(kind, failures, draw) <= longest_wait(kind, failures)
    assert wait(kind, failures, 0.0) > 0


def test_two_hubs_that_begin_together_do_not_stay_in_step() -> None:
    sides = Random(1), Random(2)  # noqa: S311 - no secret
    times = [[ended(Schedule(), 0.0, PACE, Ended("check"), side.random()).check for _ in range(50)] for side in sides]
    assert all(225 <= time <= 375 for side in times for time in side if time is not None)
    assert len(set(times[0]) & set(times[1])) == 0


def test_at_the_start_it_looks_soon_and_pushes_what_was_left() -> None:
    schedule = begin(100.0, PACE, 0.5)
    assert schedule.check == 100.0 + SOON_SECONDS * 0.5
    assert plan(schedule, 100.0) == Step("push", 102.0)
    assert begin(100.0, Pace(), 0.5) == Schedule()


def test_without_a_remote_it_waits_to_be_woken() -> None:
    schedule = wrote(begin(0.0, PACE, 0.1), 5.0, PACE)
    assert plan(schedule, 1e6, remote=False) == Step()


def test_with_no_interval_it_only_pushes_what_is_written() -> None:
    pace = Pace(interval=0.0, delay=2.0)
    schedule = ended(Schedule(), 0.0, pace, Ended("check"), 0.5)
    assert plan(schedule, 1e6) == Step()
    assert plan(wrote(schedule, 10.0, pace), 10.0) == Step("push", 12.0)


def test_with_pushes_off_writes_and_what_waits_are_left_to_a_person() -> None:
    pace = Pace(interval=300.0, delay=None)
    schedule = wrote(Schedule(), 0.0, pace)
    assert schedule.push_at is None
    schedule = ended(schedule, 0.0, pace, Ended("check", ahead=3), 0.5)
    assert schedule.push_at is None
    assert plan(schedule, 300.0) == Step("check", 300.0)


def test_writes_are_gathered_from_the_first_one_on() -> None:
    schedule = wrote(Schedule(), 10.0, PACE)
    assert wrote(schedule, 11.5, PACE) == schedule
    assert plan(schedule, 11.5) == Step("push", 12.0)


def test_a_write_during_a_push_is_pushed_by_the_next_one() -> None:
    schedule = began(wrote(Schedule(), 0.0, PACE), "push")
    schedule = wrote(schedule, 5.0, PACE)
    schedule = ended(schedule, 6.0, PACE, Ended("push", ahead=1), 0.5)
    assert plan(schedule, 6.0) == Step("push", 7.0)


def test_a_look_that_finds_what_waits_here_has_it_pushed() -> None:
    schedule = ended(Schedule(), 50.0, PACE, Ended("check", ahead=2), 0.5)
    assert plan(schedule, 50.0) == Step("push", 50.0)
    assert plan(nothing_to_push(schedule), 50.0) == Step("check", 350.0)


def test_in_offline_mode_it_waits_and_goes_on_by_itself() -> None:
    schedule = wrote(Schedule(), 0.0, PACE)
    assert plan(schedule, 100.0, offline=True) == Step(None, 100.0 + OFFLINE_SECONDS)
    assert plan(schedule, 105.0) == Step("push", 2.0)
    assert ended(schedule, 105.0, PACE, Ended("push", "offline"), 0.5) == schedule


def test_when_the_network_is_away_pushes_wait_with_the_looks() -> None:
    schedule = ended(wrote(Schedule(), 0.0, PACE), 10.0, PACE, Ended("check", "unreachable"), 0.99)
    until = schedule.pulls.until
    assert until is not None
    assert plan(schedule, 10.0) == Step("check", until)


def test_a_refused_push_does_not_keep_others_writes_away() -> None:
    schedule = Schedule(check=300.0, push_at=0.0)
    schedule = ended(began(schedule, "push"), 0.0, PACE, Ended("push", "protected_branch"), 0.0)
    assert plan(schedule, 0.0) == Step("push", 120.0)
    later = ended(began(schedule, "push"), 120.0, PACE, Ended("push", "protected_branch"), 1.0)
    assert plan(later, 120.0) == Step("check", 300.0)
    assert later.pushes.until == 120.0 + 1200.0


def test_a_push_that_reached_the_remote_ends_the_wait_for_the_network() -> None:
    schedule = Schedule(check=900.0, pulls=Track(5, "unreachable", 900.0))
    schedule = ended(schedule, 10.0, PACE, Ended("push"), 0.5)
    assert plan(schedule, 10.0) == Step("check", 10.0)


def test_what_waits_for_a_person_is_tried_again_when_the_configuration_changed() -> None:
    schedule = ended(Schedule(check=0.0, push_at=0.0), 0.0, PACE, Ended("check", "auth"), 0.5)
    schedule = ended(began(schedule, "push"), 0.0, PACE, Ended("push", "auth"), 0.5)
    assert waits_for_a_person(schedule)
    assert (plan(schedule, 0.0).at or 0.0) >= 120.0
    after = reconfigured(schedule, 60.0, 0.5)
    assert plan(after, 60.0) == Step("push", 0.0)
    assert plan(nothing_to_push(after), 60.0) == Step("check", 60.0 + SOON_SECONDS * 0.5)
    assert after.pulls.failures == 1  # it is still counted until it succeeds


def test_after_a_sleep_it_looks_soon_but_bears_with_what_needs_a_person() -> None:
    away = Schedule(check=900.0, pulls=Track(6, "unreachable", 900.0))
    assert plan(woke(away, 100.0, 0.5), 100.0) == Step("check", 100.0 + SOON_SECONDS * 0.5)
    refused = Schedule(check=900.0, push_at=0.0, pushes=Track(1, "hook_rejected", 3000.0))
    assert woke(refused, 100.0, 0.5).pushes.until == 3000.0


@pytest.mark.parametrize(
    ("monotonic", "wall", "expected"),
    [(30.0, 30.0, False), (30.0, 35.0, False), (1.0, 3600.0, True), (30.0, -3600.0, False), (4000.0, 4000.0, False)],
)
def test_a_sleep_is_seen_by_the_clock_that_stood_still(monotonic: float, wall: float, expected: bool) -> None:
    assert slept(monotonic, wall) is expected


def test_a_remote_that_is_no_more_leaves_nothing_to_wait_for() -> None:
    schedule = Schedule(check=0.0, push_at=0.0, pulls=Track(3, "unreachable", 99.0), pushes=Track(2, "auth", 9999.0))
    after = ended(schedule, 10.0, PACE, Ended("push", "no_remote"), 0.5)
    assert after == Schedule(check=310.0)


schedules = st.builds(
    Schedule,
    check=st.none() | times,
    push_at=st.none() | times,
    pulls=st.builds(Track, st.integers(0, 9), st.none() | kinds, st.none() | times),
    pushes=st.builds(Track, st.integers(0, 9), st.none() | kinds, st.none() | times),
)


@given(schedules, times, st.booleans(), st.booleans())
def test_what_is_asked_for_is_never_kept_waiting(schedule: Schedule, now: float, remote: bool, offline: bool) -> None:
    assert plan(schedule, now, asked=True, remote=remote, offline=offline) == Step("asked", now)


@given(schedules, times, draws)
def test_nothing_is_done_before_its_wait_is_over(schedule: Schedule, now: float, draw: float) -> None:
    step = plan(schedule, now)
    if step.work == "check":
        assert step.at is not None
        assert step.at >= (schedule.pulls.until or 0.0)
    if step.work == "push":
        assert step.at is not None
        assert step.at >= (schedule.pushes.until or 0.0)


@given(st.sampled_from(["check", "pull", "push"]), schedules, times, draws)
def test_a_success_ends_every_wait_of_its_own(operation: str, schedule: Schedule, now: float, draw: float) -> None:
    after = ended(schedule, now, PACE, Ended(operation), draw)  # pyright: ignore[reportArgumentType]
    assert (after.pushes if operation == "push" else after.pulls) == Track()


@given(st.lists(st.tuples(st.sampled_from(["check", "push"]), st.none() | kinds, draws), max_size=40), draws)
def test_whatever_happens_what_was_written_is_tried_within_its_bound(
    history: list[tuple[str, str | None, float]], first: float
) -> None:
    """It never forgets a write, and never stops to look."""
    now = 0.0
    schedule = wrote(begin(now, PACE, first), now, PACE)
    for operation, kind, draw in history:
        schedule = began(schedule, operation)  # pyright: ignore[reportArgumentType]
        schedule = ended(schedule, now, PACE, Ended(operation, kind, ahead=1), draw)  # pyright: ignore[reportArgumentType]
        assert schedule.push_at is not None
        assert schedule.check is not None
        step = plan(schedule, now)
        assert step.at is not None
        assert step.at <= now + 14400.0
        now = max(now, step.at)


@given(schedules, times)
def test_planning_twice_gives_the_same(schedule: Schedule, now: float) -> None:
    assert plan(schedule, now) == plan(replace(schedule), now)
