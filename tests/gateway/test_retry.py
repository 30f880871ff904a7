"""What follows a failure, and how a `Retry-After` is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.gateway import (
    LONGEST_HINT,
    Again,
    FailureKind,
    FallBack,
    RetryRules,
    Stop,
    after_failure,
    read_retry_after,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
RULES = RetryRules()
KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        (" 59 ", 59),
        ("61", 61),
        ("86401", 86_401),
        ("1.5", 1.5),
        ("9" * 300, LONGEST_HINT),
        ("9" * 390, LONGEST_HINT),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30),
        ("Sunday, 22-Nov-26 12:00:30 GMT", 30),
        ("Sun Nov 22 12:00:30 2026", 30),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30),
        ("Sat, 21 Nov 2026 12:00:00 GMT", 0),
        ("Sun, 22 Nov 9998 12:00:00 GMT", LONGEST_HINT),
    ],
)
def test_seconds_and_dates_are_read(header: str, seconds: float) -> None:
    assert read_retry_after(header, now=NOW) == seconds


@pytest.mark.parametrize(
    "header",
    [None, "", "  ", "soon", "-1", "+5", "1e3", "nan", "inf", "0x10", "1_000", "٣", "1,5", "5 s", "2026-11-22",
     "Sun, 99 Nov 2026 12:00:30 GMT", "Sun, 22 Nov 2026 99:00:30 GMT", "Mon, , ,", "9" * 2_000, "\x00", "Sun"],
)  # fmt: skip
def test_nonsense_is_no_hint(header: str | None) -> None:
    assert read_retry_after(header, now=NOW) is None


@given(st.text(max_size=80))
def test_no_header_makes_it_fail_or_leave_its_bounds(header: str) -> None:
    found = read_retry_after(header, now=NOW)
    assert found is None or 0 <= found <= LONGEST_HINT


@given(st.integers(-10_000, 500_000))
def test_a_date_and_its_seconds_say_the_same(seconds: int) -> None:
    date = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)
    assert read_retry_after(date, now=NOW) == max(seconds, 0)


def test_a_hint_above_the_cap_goes_elsewhere_and_leaves_the_provider_alone_for_as_long_as_it_said() -> None:
    step = after_failure("rate_limited", RULES, attempt=1, jitter=0.5, hint=61)
    assert isinstance(step, FallBack)
    assert step.hold == 61
    assert isinstance(after_failure("rate_limited", RULES, attempt=1, jitter=0.5, hint=60), Again)


@pytest.mark.parametrize("hint", [0.0, 1.0, 59.0, 60.0])
@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_a_hint_within_the_cap_is_waited_for_and_never_cut(hint: float, jitter: float) -> None:
    step = after_failure("rate_limited", RULES, attempt=1, jitter=jitter, hint=hint)
    assert isinstance(step, Again)
    assert max(hint, RULES.shortest) <= step.wait <= RULES.hint_cap


def test_waits_without_a_hint_double_and_are_spread() -> None:
    rules = RetryRules(attempts=10, base=1, longest=4)
    waits = [after_failure("server", rules, attempt=attempt, jitter=1) for attempt in range(1, 6)]
    assert [step.wait for step in waits if isinstance(step, Again)] == [1, 2, 4, 4, 4]
    half = after_failure("server", rules, attempt=3, jitter=0.5)
    assert isinstance(half, Again)
    assert half.wait == 2


@pytest.mark.parametrize("kind", ["auth", "bad_request", "too_long", "redirect", "refused", "timeout"])
def test_what_would_fail_again_goes_to_the_next_at_once(kind: FailureKind) -> None:
    assert isinstance(after_failure(kind, RULES, attempt=1, jitter=0.5), FallBack)


def test_the_last_attempt_goes_to_the_next() -> None:
    assert isinstance(after_failure("server", RULES, attempt=RULES.attempts, jitter=0.5), FallBack)


def test_a_wait_beyond_the_deadline_goes_to_the_next_and_a_passed_one_stops() -> None:
    assert isinstance(after_failure("rate_limited", RULES, attempt=1, jitter=0, hint=30, left=29), FallBack)
    assert isinstance(after_failure("server", RULES, attempt=1, jitter=0, left=0), Stop)


@given(
    st.sampled_from(KINDS),
    st.integers(1, 10_000),
    st.floats(0, 1, exclude_max=True),
    st.none() | st.floats(),
    st.none() | st.floats(0, 1e6),
    st.booleans(),
)
def test_every_wait_is_bounded_and_none_follows_a_part_of_an_answer(
    kind: FailureKind, attempt: int, jitter: float, hint: float | None, left: float | None, started: bool
) -> None:
    step = after_failure(kind, RULES, attempt=attempt, jitter=jitter, hint=hint, left=left, started=started)
    assert step.reason
    if started or kind == "cancelled":
        assert isinstance(step, Stop)
    if isinstance(step, Again):
        assert attempt < RULES.attempts
        assert RULES.shortest <= step.wait <= RULES.hint_cap
        assert left is None or step.wait < left
        assert hint is None or not hint >= 0 or step.wait >= hint
    if isinstance(step, FallBack):
        assert 0 <= step.hold <= LONGEST_HINT


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"base": 0}, {"longest": 90}, {"hint_cap": float("nan")}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        RetryRules(**wrong)  # pyright: ignore[reportArgumentType]
