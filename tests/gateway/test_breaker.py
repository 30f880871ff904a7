"""The circuit breaker, by the clock that it is handed."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.gateway import (
    SICKNESS,
    Breaker,
    BreakerRules,
    FailureKind,
    admit,
    circuit,
    failed,
    opens_in,
    released,
    succeeded,
)

RULES = BreakerRules(failures=3, window=60, open_for=10, longest=25, probe_for=40)
NEW = Breaker()
KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


def after(times: list[float], breaker: Breaker = NEW) -> Breaker:
    for at in times:
        breaker = failed(breaker, RULES, "server", at)
    return breaker


def admitted(breaker: Breaker, now: float) -> Breaker:
    let_through = admit(breaker, RULES, now)
    assert let_through is not None
    return let_through


def test_it_opens_after_so_many_failures_and_half_opens_when_its_time_is_over() -> None:
    assert circuit(after([0, 1]), RULES, 1) == "closed"
    breaker = after([0, 1, 2])
    assert circuit(breaker, RULES, 2) == "open"
    assert opens_in(breaker, RULES, 5) == 7
    assert admit(breaker, RULES, 11.9) is None
    assert circuit(breaker, RULES, 12) == "half_open"


def test_failures_that_lie_far_apart_do_not_open_it() -> None:
    assert circuit(after([0, 50, 100, 150, 200]), RULES, 200) == "closed"


def test_a_success_between_forgets_the_failures_before() -> None:
    assert circuit(after([3, 4], succeeded(after([0, 1]))), RULES, 4) == "closed"


def test_half_open_lets_one_probe_through_and_no_other() -> None:
    breaker = admitted(after([0, 1, 2]), 12)
    assert circuit(breaker, RULES, 12) == "open"
    assert admit(breaker, RULES, 12) is None


def test_a_probe_that_succeeds_closes_it() -> None:
    assert succeeded(admitted(after([0, 1, 2]), 12)) == Breaker()


def test_a_probe_that_fails_opens_it_for_twice_as_long_up_to_the_longest() -> None:
    breaker = after([0, 1, 2])
    waits: list[float] = []
    for _ in range(4):
        waits.append(opens_in(breaker, RULES, breaker.opened_at or 0))
        now = (breaker.opened_at or 0) + waits[-1]
        breaker = failed(admitted(breaker, now), RULES, "timeout", now)
    assert waits == [10, 20, 25, 25]


def test_a_probe_that_is_cancelled_leaves_its_place_to_the_next() -> None:
    breaker = released(admitted(after([0, 1, 2]), 12))
    assert circuit(breaker, RULES, 12) == "half_open"


def test_a_probe_of_which_nothing_is_heard_does_not_hold_it_open_for_ever() -> None:
    breaker = admitted(after([0, 1, 2]), 12)
    assert circuit(breaker, RULES, 51.9) == "open"
    assert circuit(breaker, RULES, 52) == "half_open"


def test_a_late_failure_from_before_it_opened_does_not_make_it_longer() -> None:
    breaker = after([0, 1, 2])
    assert failed(breaker, RULES, "server", 9) == breaker


@pytest.mark.parametrize("kind", sorted(set(KINDS) - SICKNESS))
def test_what_says_nothing_about_its_health_does_not_open_it(kind: FailureKind) -> None:
    breaker = Breaker()
    for at in range(20):
        breaker = failed(breaker, RULES, kind, at)
    assert circuit(breaker, RULES, 20) == "closed"


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"window": 0}, {"open_for": 30}, {"longest": float("inf")}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        BreakerRules(**{"failures": 3, "window": 60, "open_for": 10, "longest": 25, **wrong})  # pyright: ignore[reportArgumentType]


EVENTS = st.lists(st.tuples(st.sampled_from(["admit", "ok", "cancel", *KINDS]), st.floats(0, 200)), max_size=60)


@given(EVENTS)
def test_whatever_happens_it_can_be_tried_again_after_a_bounded_time(events: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(), 0.0
    for event, passed in events:
        now += passed
        match event:
            case "admit":
                breaker = admit(breaker, RULES, now) or breaker
            case "ok":
                breaker = succeeded(breaker)
            case "cancel":
                breaker = released(breaker)
            case _:
                breaker = failed(breaker, RULES, next(kind for kind in KINDS if kind == event), now)
        assert 0 <= opens_in(breaker, RULES, now) <= max(RULES.longest, RULES.probe_for)
        assert len(breaker.failed_at) < RULES.failures
        assert (admit(breaker, RULES, now) is None) == (circuit(breaker, RULES, now) == "open")
