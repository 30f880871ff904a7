"""Leases by two clocks: one that can be set, and one that cannot."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from handoff_made import BERT, NOON, at
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.handoff import TOLERANCE, Claim, LeaseClock, steady_seconds


class Times:
    """The machine's clocks: time goes by for both, and only the wall clock can be set."""

    def __init__(self) -> None:
        self.wall = NOON.timestamp()
        self.steady = 5000.0

    def go(self, minutes: float) -> None:
        self.wall += minutes * 60
        self.steady += minutes * 60

    def set(self, minutes: float) -> None:
        self.wall += minutes * 60

    def clock(self) -> LeaseClock:
        return LeaseClock(wall=lambda: self.wall, steady=lambda: self.steady)


def claim(*, until: float = 60, renewed: float = 0) -> Claim:
    return Claim(new_ulid(), 1, at(0), BERT, at(until), at(renewed))


def test_a_lease_runs_out_when_its_end_and_the_tolerance_are_past() -> None:
    times = Times()
    clock, held = times.clock(), claim()
    assert clock.now() == NOON
    assert clock.tolerance == TOLERANCE == timedelta(minutes=2)
    times.go(62)
    assert not clock.is_over(held)
    times.go(0.1)
    assert clock.is_over(held)


def test_a_lease_that_ended_while_no_hub_ran_is_over_at_once() -> None:
    times = Times()
    times.go(600)
    assert times.clock().is_over(claim())


def test_a_clock_set_forward_takes_nobodys_lease() -> None:
    times = Times()
    clock, held = times.clock(), claim()
    times.go(10)
    times.set(24 * 60)
    assert not clock.is_over(held)
    times.go(51)
    assert not clock.is_over(held)
    times.go(2)
    assert clock.is_over(held)


def test_a_clock_set_back_holds_work_up_for_no_longer_than_a_lease_and_the_tolerance() -> None:
    times = Times()
    clock, held = times.clock(), claim()
    assert not clock.is_over(held)
    times.set(-24 * 60)
    times.go(62)
    assert not clock.is_over(held)
    times.go(0.1)
    assert clock.is_over(held)


def test_a_claim_of_a_clock_that_is_far_ahead_holds_for_its_length_from_when_it_was_seen() -> None:
    times = Times()
    clock = times.clock()
    ahead = Claim(new_ulid(), 1, at(600), BERT, at(660), at(600))
    assert not clock.is_over(ahead)
    times.go(62)
    assert not clock.is_over(ahead)
    times.go(0.1)
    assert clock.is_over(ahead)


def test_a_renewal_is_seen_anew() -> None:
    times = Times()
    clock, held = times.clock(), claim(until=660, renewed=600)
    assert not clock.is_over(held)
    times.go(40)
    renewed = Claim(held.id, 1, held.time, BERT, at(700), at(640))
    assert not clock.is_over(renewed)
    times.go(40)
    assert clock.is_over(held)
    assert not clock.is_over(renewed)


def test_a_jump_is_told_and_what_is_within_the_tolerance_is_not() -> None:
    times = Times()
    clock = times.clock()
    times.go(100)
    times.set(1.9)
    assert clock.jumped == 0
    times.set(-60)
    assert clock.jumped == pytest.approx(-58.1 * 60)
    times.set(120)
    assert clock.jumped == pytest.approx(61.9 * 60)


@pytest.mark.parametrize("until", ["0001-01-01", "9999-12-31"])
def test_leases_at_the_ends_of_the_calendar_do_not_raise(until: str) -> None:
    times = Times()
    clock = times.clock()
    end = NOON.replace(year=int(until[:4]), month=int(until[5:7]), day=int(until[8:]))
    odd = Claim(new_ulid(), 1, end, BERT, end, end)
    assert clock.is_over(odd) == (end < NOON)


def test_what_the_clock_remembers_has_an_end_and_a_lease_that_is_asked_for_is_kept() -> None:
    times = Times()
    clock, held = times.clock(), claim(until=660, renewed=600)
    assert not clock.is_over(held)
    for _ in range(25_000):
        times.go(0.001)
        clock.is_over(claim())
        clock.is_over(held)
    assert len(clock._seen) == 10_000  # pyright: ignore[reportPrivateUsage]
    times.go(36.9)
    assert not clock.is_over(held)
    times.go(0.2)
    assert clock.is_over(held)


def test_many_threads_may_ask_at_once() -> None:
    times = Times()
    clock = times.clock()
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(3000):
                clock.is_over(claim())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test fails with it
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert len(clock._seen) <= 10_000  # pyright: ignore[reportPrivateUsage]


def test_the_steady_clock_of_this_machine_goes_on() -> None:
    first = steady_seconds()
    assert steady_seconds() >= first
    assert not LeaseClock().jumped


@given(
    steps=st.lists(st.tuples(st.floats(0, 200), st.floats(-(10**5), 10**5)), max_size=8),
    length=st.floats(1, 24 * 60),
)
def test_whatever_is_done_to_the_clock_a_lease_holds_for_its_length_and_no_more_than_that_and_the_tolerance(
    steps: list[tuple[float, float]], length: float
) -> None:
    times = Times()
    clock, held = times.clock(), claim(until=length)
    passed = 0.0
    assert not clock.is_over(held)
    for minutes, jump in steps:
        times.go(minutes)
        times.set(jump)
        passed += minutes
        over = clock.is_over(held)
        if passed < length:
            assert not over
        if passed > length + 2.01:
            assert over
