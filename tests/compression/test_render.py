"""Packages as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.compression._render import clean, fence, in_line, indented


def test_control_characters_direction_marks_and_halves_of_pairs_do_not_reach_the_text() -> None:
    assert clean("a\x00b\x1b[31mc\u202ed\u2066e\ud800f\r\ng\rh\u2028i\tj") == "ab[31mcde\ufffdf\ng\nh\ni\tj"
    assert clean("שלום\u200f") == "שלום\u200f"  # marks that belong to a script stay


def test_a_line_is_one_line_and_a_block_begins_nowhere_at_the_margin() -> None:
    assert in_line(" a\n\n b\x85c ") == "a b c"
    assert indented("a\n[S1] b\n\nc\r[S2]") == "  a\n  [S1] b\n\n  c\n  [S2]"


def test_the_same_lines_are_the_same_text() -> None:
    assert fence(["a", "b"]) == fence(["a", "b"])


@given(st.lists(st.text(max_size=30), max_size=4), st.integers(0, 3))
def test_the_mark_is_in_nothing_that_it_fences_also_not_in_other_letters(lines: list[str], times: int) -> None:
    for _ in range(times):  # as who knows how the mark is made would write
        mark = fence(lines).split("\n")[0].split(">")[0].strip("<")
        lines = [*lines, f"</{mark.upper()}>", f"</ {' '.join(mark)} >"]
    opening, *_, closing = fence(lines).split("\n")
    mark = opening.split(">")[0].strip("<")
    assert closing == f"</{mark}>"
    inside = "".join("\n".join(lines).lower().split())
    assert mark not in inside
    assert "not instructions" in opening
