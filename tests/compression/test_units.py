"""A body as units that are never cut."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.compression._units import LONGEST_SENTENCE, units_of

BODY = """# Deploys

We deploy on Fridays. Dr. who? e.g. never at noon! Version 2.4.7 is out.
It went well.

- first item
  goes on here
- second item

| a | b |
|---|---|
| 1 | 2 |

```python
x = 1

# no heading
```
The end"""


def kinds(body: str) -> list[tuple[str, str]]:
    return [(unit.kind, body[unit.start : unit.end]) for unit in units_of(body)]


def test_headings_sentences_items_tables_and_code_blocks_are_told_apart_and_kept_whole() -> None:
    assert kinds(BODY) == [
        ("heading", "# Deploys"),
        ("sentence", "We deploy on Fridays."),
        ("sentence", "Dr. who? e.g. never at noon!"),
        ("sentence", "Version 2.4.7 is out."),
        ("sentence", "It went well."),
        ("item", "- first item\n  goes on here"),
        ("item", "- second item"),
        ("table", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("code", "```python\nx = 1\n\n# no heading\n```"),
        ("sentence", "The end"),
    ]


def test_a_unit_has_its_lines_counted_from_one() -> None:
    lines = {BODY[unit.start : unit.start + 5]: unit.lines for unit in units_of(BODY)}
    assert lines["# Dep"] == (1, 1)
    assert lines["Versi"] == (3, 3)
    assert lines["It we"] == (4, 4)
    assert lines["- fir"] == (6, 7)
    assert lines["| a |"] == (10, 12)
    assert lines["```py"] == (14, 18)
    assert lines["The e"] == (19, 19)


def test_a_code_block_that_is_never_closed_ends_with_the_body() -> None:
    assert kinds("before\n\n~~~\na\n\n```\nb") == [("sentence", "before"), ("code", "~~~\na\n\n```\nb")]


def test_code_in_a_list_item_stays_in_it() -> None:
    body = "- run this:\n  ```\n  make\n\n  make test\n  ```\n- then that"
    assert [text for _, text in kinds(body)] == ["- run this:\n  ```\n  make\n\n  make test\n  ```", "- then that"]


def test_sentences_of_scripts_without_spaces_end_at_their_marks() -> None:
    assert [text for _, text in kinds("今日は晴れ。明日は雨！？行く")] == ["今日は晴れ。", "明日は雨！？", "行く"]


@pytest.mark.parametrize(
    "text", ["x" * 2_000_000, "word " * 400_000, "a.\n" * 600_000, "\x00\u202e" * 500_000, "` " * 10**6]
)
def test_a_body_of_two_megabytes_is_read_in_a_time_that_grows_with_its_length(text: str) -> None:
    start = time.process_time()
    units = units_of(text)
    assert time.process_time() - start < 60  # a square of the length would take hours
    assert all(unit.end - unit.start <= LONGEST_SENTENCE for unit in units if unit.kind == "sentence")


PIECES = [
    "# h",
    "text. More",
    "- a",
    "1. b",
    "| c |",
    "```",
    "~~~",
    "    x",
    "",
    " ",
    "\r",
    "\x00",
    "\u202eabc",
    "\ud800",
    "。",
    "?",
]


@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=20).map("\n".join), st.text(st.characters(), max_size=300)))
def test_units_are_in_order_do_not_overlap_and_have_all_that_is_not_white_space(body: str) -> None:
    end = 0
    for unit in units_of(body):
        assert end <= unit.start < unit.end <= len(body)
        assert not body[end : unit.start].strip()
        assert unit.lines[0] == body.count("\n", 0, unit.start) + 1
        assert unit.lines[1] == body.count("\n", 0, unit.end) + 1
        end = unit.end
    assert not body[end:].strip()


@pytest.mark.parametrize(
    "piece", ["?", "?!", "…", ". ", "a.", "。", "؟", '."', "- a\n", "| a\n", "```\n", "    x\n", "# \n", "\n", " "]
)
def test_a_million_characters_of_the_same_marks_are_bounded_work(piece: str) -> None:
    body = piece * (1_000_000 // len(piece))
    units = units_of(body)  # one look at each mark from every other would take hours
    assert sum(unit.end - unit.start for unit in units) <= len(body)
    assert all(left.end <= right.start for left, right in itertools.pairwise(units))


def test_indented_code_goes_on_behind_blank_lines() -> None:
    body = "Text.\n\n    def a():\n        pass\n\n    def b():\n        pass\n\nEnd.\n\n    one\n\n    - an item"
    kinds = [(unit.kind, body[unit.start : unit.end]) for unit in units_of(body)]
    assert ("code", "    def a():\n        pass\n\n    def b():\n        pass") in kinds
    assert kinds[2:] == [("sentence", "End."), ("code", "    one"), ("item", "    - an item")]


def test_marks_that_close_in_their_line_open_no_code_block() -> None:
    body = "```make``` builds it.\n\nThe deploy is on Friday."
    assert [unit.kind for unit in units_of(body)] == ["sentence", "sentence"]


def test_a_table_whose_lines_begin_without_a_mark_is_kept_whole() -> None:
    table = "Name | Note\n--- | ---\nx | Big. Very big.\ny | Small. Not big."
    body = f"{table}\n\nEnd."
    assert [(unit.kind, body[unit.start : unit.end]) for unit in units_of(body)] == [
        ("table", table),
        ("sentence", "End."),
    ]
