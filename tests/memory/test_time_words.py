"""Time in plain words, seen from Wednesday 18 November 2026, half past three in the afternoon."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.memory._time_words import find_times, read_time
from adaptive_llm_gateway.memory._values import TimeRange

NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)


def at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "words", "since", "until"),
    [
        ("what did we decide last week?", "last week", "2026-11-09", "2026-11-16"),
        ("the outage this week", "this week", "2026-11-16", "2026-11-23"),
        ("who broke it yesterday", "yesterday", "2026-11-17", "2026-11-18"),
        ("Today, what", "Today", "2026-11-18", "2026-11-19"),
        ("the day before yesterday it rained", "the day before yesterday", "2026-11-16", "2026-11-17"),
        ("this morning", "this morning", "2026-11-18", "2026-11-19"),
        ("notes in March", "in March", "2026-03-01", "2026-04-01"),
        ("notes in December", "in December", "2025-12-01", "2026-01-01"),
        ("notes in november", "in november", "2026-11-01", "2026-12-01"),
        ("notes in March 2025", "in March 2025", "2025-03-01", "2025-04-01"),
        ("notes of Sept 2025", "of Sept 2025", "2025-09-01", "2025-10-01"),
        ("last march", "last march", "2026-03-01", "2026-04-01"),
        ("last november", "last november", "2025-11-01", "2025-12-01"),
        ("June 5th, 2025", "June 5th, 2025", "2025-06-05", "2025-06-06"),
        ("on 5 June", "on 5 June", "2026-06-05", "2026-06-06"),
        ("on the 24th of December", "on the 24th of December", "2025-12-24", "2025-12-25"),
        ("this month", "this month", "2026-11-01", "2026-12-01"),
        ("last month", "last month", "2026-10-01", "2026-11-01"),
        ("last quarter", "last quarter", "2026-07-01", "2026-10-01"),
        ("in Q2", "in Q2", "2026-04-01", "2026-07-01"),
        ("in Q4", "in Q4", "2026-10-01", "2027-01-01"),
        ("in Q4 2025", "in Q4 2025", "2025-10-01", "2026-01-01"),
        ("last year", "last year", "2025-01-01", "2026-01-01"),
        ("in 2024", "in 2024", "2024-01-01", "2025-01-01"),
        ("last weekend", "last weekend", "2026-11-14", "2026-11-16"),
        ("two days ago", "two days ago", "2026-11-16", "2026-11-17"),
        ("3 weeks ago", "3 weeks ago", "2026-10-26", "2026-11-02"),
        ("a month ago", "a month ago", "2026-10-01", "2026-11-01"),
        ("a couple of years ago", "a couple of years ago", "2024-01-01", "2025-01-01"),
        ("an hour ago", "an hour ago", "2026-11-18 13:30", "2026-11-18 15:30"),
        ("in the last 3 days", "in the last 3 days", "2026-11-15 15:30", None),
        ("over the past week", "over the past week", "2026-11-11 15:30", None),
        ("since Monday", "since Monday", "2026-11-16", None),
        ("on Wednesday", "on Wednesday", "2026-11-18", "2026-11-19"),
        ("last Wednesday", "last Wednesday", "2026-11-11", "2026-11-12"),
        ("before 2025-06-01", "before 2025-06-01", None, "2025-06-01"),
        ("after 2025-06-01", "after 2025-06-01", "2025-06-02", None),
        ("until 2025-06-01", "until 2025-06-01", None, "2025-06-02"),
        ("since 2025-06-01T10:00Z", "since 2025-06-01T10:00Z", "2025-06-01 10:00", None),
        ("before last month", "before last month", None, "2026-10-01"),
        ("between May and July", "between May and July", "2026-05-01", "2026-08-01"),
        ("between 2025-01-10 and 2025-01-20", "between 2025-01-10 and 2025-01-20", "2025-01-10", "2025-01-21"),
        ("from Monday to yesterday", "from Monday to yesterday", "2026-11-16", "2026-11-18"),
        ("from 2023 until 2024 we", "from 2023 until 2024", "2023-01-01", "2025-01-01"),
    ],
)
def test_a_time_in_plain_words_is_read(text: str, words: str, since: str | None, until: str | None) -> None:
    (found,) = find_times(text, NOW, UTC)

    assert text[found.start : found.end] == words
    assert found.range == TimeRange(at(since), at(until))


@pytest.mark.parametrize(
    "text",
    [
        "we may march on", "version 2024.1", "in 2048 bytes", "in 1999 ways", "build 10-2025-01-01", "v2025-01",
        "the second day", "at 12:30", "March", "monday", "a secondary index", "between you and me",
        "from here to there",
        "since forever", "last minute", "30 February", "in 2025-13", "foo/2025-01-01", "decade ago", "x.today",
        "letzte Woche", "la semaine dernière", "先週", "",
    ],
)  # fmt: skip
def test_what_is_no_time_for_certain_stays_words(text: str) -> None:
    assert find_times(text, NOW, UTC) == []


def test_several_times_of_a_text_are_all_found() -> None:
    text = "compare last week with March 2025"
    assert [text[found.start : found.end] for found in find_times(text, NOW, UTC)] == ["last week", "March 2025"]


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2026-11-01", "2026-11-01", "2026-11-02"),
        ("2026-11", "2026-11-01", "2026-12-01"),
        ("2025", "2025-01-01", "2026-01-01"),
        ("7d", "2026-11-11 15:30", "2026-11-11 15:30"),
        ("12 H", "2026-11-18 03:30", "2026-11-18 03:30"),
        ("yesterday", "2026-11-17", "2026-11-18"),
        ("last-week", "2026-11-09", "2026-11-16"),
        ("march_2025", "2025-03-01", "2025-04-01"),
        ("2026-11-01T10:00+02:00", "2026-11-01 08:00", "2026-11-01 08:00"),
    ],
)
def test_an_operators_value_may_be_any_form_of_a_time(text: str, since: str, until: str) -> None:
    assert read_time(text, NOW, UTC) == TimeRange(at(since), at(until))


@pytest.mark.parametrize("text", ["", "soon", "99999y", "9999-12-31", "the release", "last week or so", "-3d", "7"])
def test_a_value_that_is_no_time_as_a_whole_is_none(text: str) -> None:
    assert read_time(text, NOW, UTC) is None


def test_days_begin_at_midnight_of_the_zone_also_across_a_change_of_clocks() -> None:
    zone = ZoneInfo("America/Los_Angeles")
    assert read_time("2026-03-08", NOW, zone) == TimeRange(at("2026-03-08 08:00"), at("2026-03-09 07:00"))
    late = datetime(2026, 11, 19, 3, 0, tzinfo=UTC)  # still the 18th there
    assert read_time("today", late, zone) == TimeRange(at("2026-11-18 08:00"), at("2026-11-19 08:00"))


WORDS = st.sampled_from(
    re.findall(
        r"\S+",
        "last this past week month March may 2025 31 february 2026-02-30 since before between and from to two days ago "
        "in on monday the of , 9999-12-31 0001-01-01 9999 99999y 999 years a hours Q4 12:30 T",
    )
)


@given(
    st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=60),
    st.datetimes(min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1)),  # noqa: DTZ001
    st.integers(-12, 14),
)
def test_any_text_is_read_without_failing(text: str, now: datetime, hours: int) -> None:
    zone = timezone(timedelta(hours=hours))
    moment = now.replace(tzinfo=zone)
    end = 0
    for found in find_times(text, moment, zone):
        assert end <= found.start < found.end <= len(text)
        end = found.end
        since, until = found.range.since, found.range.until
        assert since is not None or until is not None
        assert since is None or until is None or since <= until
    read_time(text, moment, zone)
