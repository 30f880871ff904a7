"""ULIDs: sortable, unique, and the same for the same source."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import derived_ulid, is_ulid, new_ulid, ulid_milliseconds

MOST = 2**48 - 1


def test_each_new_id_is_greater_than_the_one_before() -> None:
    ids = [new_ulid() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert all(map(is_ulid, ids))


def test_ids_of_several_threads_are_all_different_and_ascend_within_each() -> None:
    made: list[list[str]] = []

    def work() -> None:
        made.append([new_ulid() for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({identifier for ids in made for identifier in ids}) == 16_000
    assert all(ids == sorted(ids) for ids in made)


def test_ids_ascend_also_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_ulid()
    # The clock is the one thing here that a test cannot turn back for real.
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000)
    after = new_ulid()
    assert after > before


def test_an_id_carries_the_time_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    found = ulid_milliseconds(new_ulid())
    # Earlier ids of this process may have run ahead of the clock by the number made within a millisecond: by none.
    assert before <= found <= time.time_ns() // 1_000_000


@settings(max_examples=40)
@given(st.text(), st.integers(0, MOST))
def test_a_derived_id_is_the_same_for_the_same_key_and_time(key: str, when: int) -> None:
    made = derived_ulid(key, milliseconds=when)
    assert made == derived_ulid(key, milliseconds=when)
    assert is_ulid(made)
    assert ulid_milliseconds(made) == when
    assert derived_ulid(key + "x", milliseconds=when) != made


@settings(max_examples=40)
@given(st.integers(0, MOST), st.integers(0, MOST))
def test_derived_ids_sort_by_time(one: int, other: int) -> None:
    if one != other:
        first, second = derived_ulid("k", milliseconds=one), derived_ulid("k", milliseconds=other)
        assert (first < second) == (one < other)


@pytest.mark.parametrize(("when", "kept"), [(-5, 0), (2**60, MOST)])
def test_a_time_that_no_id_can_carry_is_taken_to_the_nearest(when: int, kept: int) -> None:
    assert ulid_milliseconds(derived_ulid("k", milliseconds=when)) == kept


def test_a_derived_id_takes_any_text_also_half_a_surrogate_pair() -> None:
    assert is_ulid(derived_ulid("\ud800", milliseconds=1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01ARZ3NDEKTSV4RRFFQ69G5FA",
        "01ARZ3NDEKTSV4RRFFQ69G5FAVX",
        "01arz3ndektsv4rrffq69g5fav",
        "81ARZ3NDEKTSV4RRFFQ69G5FAV",
        "01ARZ3NDEKTSV4RRFFQ69G5FAI",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV\n",
        "../../../../../../../../..",
        "０1ARZ3NDEKTSV4RRFFQ69G5FAV",
    ],
)
def test_what_is_no_ulid_is_told_apart(text: str) -> None:
    assert not is_ulid(text)
    with pytest.raises(ValueError, match="not a ULID"):
        ulid_milliseconds(text)
