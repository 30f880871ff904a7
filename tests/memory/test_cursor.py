"""A search's cursor: what was shown, in the cursor itself."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory._cursor import MAX_DEPTH, Cursor, decode, digest_of, marks

NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)


@given(st.lists(st.text(max_size=30), max_size=40), st.none() | st.binary(min_size=20, max_size=20).map(bytes.hex))
def test_a_cursor_survives_its_way_as_text(ids: list[str], commit: str | None) -> None:
    if commit == "0" * 40:
        commit = None
    cursor = Cursor(digest_of("x"), NOW, commit, marks(ids))
    assert decode(cursor.encode()) == cursor
    assert decode(f" {cursor.encode()}\n") == cursor


@given(st.text(max_size=80) | st.text("ABCDabcd0123-_", max_size=120))
def test_what_is_no_cursor_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        decode(text)


@given(st.integers(0, 200), st.sampled_from("AZaz09-_"))
def test_a_damaged_cursor_is_refused(place: int, character: str) -> None:
    text = Cursor(digest_of("x"), NOW, None, marks(["a", "b", "c"])).encode()
    place %= len(text)
    damaged = text[:place] + character + text[place + 1 :]
    if damaged == text:
        return
    for broken in (damaged, text[:-1], text[:place], text + character):
        with contextlib.suppress(InvalidInput):
            assert decode(broken) == decode(text)  # only the last character's unused bits may differ


def test_the_longest_cursor_is_a_few_kilobytes() -> None:
    shown = marks(str(number) for number in range(MAX_DEPTH))
    assert len(set(shown)) == MAX_DEPTH
    assert len(Cursor(digest_of("x"), NOW, "a" * 40, shown).encode()) < 7_000
