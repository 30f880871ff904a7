"""Postings that are kept are those of the state that asks."""

from __future__ import annotations

import tracemalloc

import numpy as np

from adaptive_llm_gateway.memory._bm25 import Occurrences
from adaptive_llm_gateway.memory._recent_postings import RecentPostings


def _found(*chunks: int) -> Occurrences:
    return Occurrences(np.array(chunks, np.int64), np.ones(len(chunks), np.float32))


def test_what_was_read_is_known_to_others_of_the_same_state_alone() -> None:
    recent = RecentPostings()
    recent.put("cache", 7, _found(1, 7))

    kept = recent.get("cache", 7)
    assert kept is not None
    assert kept.chunks.tolist() == [1, 7]
    assert recent.get("cache", 8) is None
    assert recent.get("cache", 6) is None
    assert recent.get("other", 7) is None


def test_a_newer_state_drops_what_is_known_and_an_older_one_adds_nothing() -> None:
    recent = RecentPostings()
    recent.put("cache", 7, _found(1))
    recent.put("cache", 8, _found(1, 8))
    recent.put("late", 7, _found(3))

    assert recent.get("cache", 7) is None
    assert recent.get("late", 7) is None
    assert recent.get("late", 8) is None
    kept = recent.get("cache", 8)
    assert kept is not None
    assert kept.chunks.tolist() == [1, 8]


def test_what_was_not_asked_for_longest_goes_when_the_room_is_full() -> None:
    recent = RecentPostings(room=12, overhead=1)
    for token in ("first", "second", "third"):
        recent.put(token, 5, _found(1, 2, 3))
    assert recent.get("first", 5) is not None

    recent.put("fourth", 5, _found(1, 2, 3))

    assert recent.get("first", 5) is not None
    assert recent.get("second", 5) is None
    assert recent.get("fourth", 5) is not None


def test_a_word_that_would_fill_the_room_is_not_kept() -> None:
    recent = RecentPostings(room=12)
    recent.put("the", 5, _found(1, 2, 3, 4))

    assert recent.get("the", 5) is None


def test_rare_words_take_no_more_memory_than_the_room_says() -> None:
    room, words = 100_000, 20_000
    recent = RecentPostings(room)
    tracemalloc.start()
    try:
        for number in range(words):
            recent.put(f"word{number}", 5, _found(number))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert recent.get(f"word{words - 1}", 5) is not None
    assert taken < 12 * room * 1.25


def test_what_was_forgotten_is_read_anew_and_leaves_its_room() -> None:
    recent = RecentPostings(room=12, overhead=1)
    recent.put("first", 5, _found(1, 2, 3))
    recent.forget()
    assert recent.get("first", 5) is None

    for token in ("first", "second", "third"):
        recent.put(token, 5, _found(1, 2))
    assert recent.get("first", 5) is not None
