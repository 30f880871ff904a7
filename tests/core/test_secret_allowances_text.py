"""Changing a `secrets-allowed.yaml` by its lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import (
    Allowance,
    ConfigError,
    entry_text,
    merged_entries,
    parse_allowances,
    render_allowances,
    with_allowance,
    with_entry_text,
    without_allowance,
)

A, B, C = "000000000000000a", "000000000000000b", "000000000000000c"
FILE = f"""# What is none.
- fingerprint: {A}   # the manual's
  reason: >-
    a sample
    of the manual

# Of the second page:
- reason: 'another'   # seen by both
  fingerprint: {B}
  until: 2027-01-01 # a year
  by: Ada
# the end
"""


def test_a_new_entry_comes_behind_the_last_one_and_changes_no_other_byte() -> None:
    made = with_allowance(FILE, Allowance(C, 'say: "no" # really', "Bo", "2026-11-22T12:00:00Z", "2027-11-22", "k"))
    assert made == FILE.replace(
        "  by: Ada\n",
        f'  by: Ada\n- fingerprint: {C}\n  reason: "say: \\"no\\" # really"\n  by: Bo\n'
        "  added: 2026-11-22T12:00:00Z\n  until: 2027-11-22\n  kind: k\n",
    )


def test_a_renewed_entry_is_changed_where_it_stands() -> None:
    (_, old) = parse_allowances(FILE)
    made = with_allowance(FILE, replace(old, until="2028-01-01", by="Bo", added="2026-11-22", reason="still"))
    assert made == FILE.replace("'another'", "still").replace("2027-01-01", "2028-01-01").replace(
        "  by: Ada\n", "  by: Bo\n  added: 2026-11-22\n"
    )


def test_an_end_is_taken_away_and_a_text_over_several_lines_replaced() -> None:
    one, two = parse_allowances(FILE)
    assert with_allowance(FILE, replace(two, until="")) == FILE.replace("  until: 2027-01-01 # a year\n", "")
    assert with_allowance(FILE, replace(one, reason="short")) == FILE.replace(
        ">-\n    a sample\n    of the manual\n\n", "short\n"
    )


def test_a_revoked_entry_goes_and_the_comments_around_it_stay() -> None:
    made = without_allowance(FILE, A)
    assert made.startswith("# What is none.\n# Of the second page:\n- reason: 'another'")
    made = without_allowance(made, B)
    assert made == "# What is none.\n# Of the second page:\n# the end\n"
    assert with_allowance(made, Allowance(C, "a")) == f"{made}- fingerprint: {C}\n  reason: a\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]\n",
        "# only this",
        f"---\n- fingerprint: {A}\n  reason: a\n...\n",
        f"- fingerprint: {A}\n  reason: a",
        f"  - fingerprint: {A}\n    reason: a\n",
        f"-\n  fingerprint: {A}\n  reason: a\n",
        f"- {{fingerprint: {A}, reason: a}}\n- {{fingerprint: {B}, reason: b}} # c\n",
        f"- fingerprint: {A}\r\n  reason: a\r\n",
        f"- reason: |\n    a\n    b\n  fingerprint: {A}\n- fingerprint: {B}\n  reason: |\n    a\n\n\n# end\n",
        f"- fingerprint: {A}\n  reason: a\n- fingerprint: {A}\n  reason: again\n",
        f"- until: 2027-01-01\n  fingerprint: {A}\n  reason: a\n",
    ],
)
def test_files_of_other_forms_can_be_changed_and_read(text: str) -> None:
    before = [item for item in parse_allowances(text) if item.fingerprint != A]
    made = with_allowance(text, Allowance(A, "why not", "me"))
    assert parse_allowances(made).count(Allowance(A, "why not", "me")) == 1
    assert [item for item in parse_allowances(made) if item.fingerprint != A] == before
    assert list(parse_allowances(without_allowance(made, A))) == before
    assert "\r\n" not in text or "\n" not in made.replace("\r\n", "")


def test_a_list_in_brackets_is_shortened_but_not_extended() -> None:
    text = f"[{{fingerprint: {A}, reason: a}}, {{fingerprint: {B}, reason: b}}]\n"
    assert [item.fingerprint for item in parse_allowances(without_allowance(text, A))] == [B]
    assert [item.fingerprint for item in parse_allowances(without_allowance(text, B))] == [A]
    with pytest.raises(ConfigError, match="form"):
        with_allowance(text, Allowance(C, "c"))


def test_an_entry_with_keys_of_a_newer_version_keeps_them() -> None:
    text = f"- fingerprint: {A}\n  paths: [docs]\n  reason: a\n"
    (entry,) = parse_allowances(text)
    assert with_allowance(text, replace(entry, reason="b")) == text.replace("reason: a", "reason: b")


def test_the_lines_of_an_entry_go_from_one_file_to_another_with_their_comments() -> None:
    lines = entry_text(FILE, B)
    assert lines is not None
    assert lines.startswith("# Of the second page:\n- reason: 'another'   # seen by both\n")
    made = with_entry_text(f"  - fingerprint: {C}\n    reason: c\n", lines, parse_allowances(FILE)[1])
    assert made == f"  - fingerprint: {C}\n    reason: c\n" + "".join(f"  {line}\n" for line in lines.split("\n"))
    assert with_entry_text("", "- nonsense", Allowance(A, "a")) is None


TEXTS = st.text(min_size=1, max_size=40).map(lambda text: " ".join(text.split())).filter(bool)
ENTRIES = st.builds(
    Allowance,
    st.sampled_from([A, B, C, "1234567890123456", "12345678901234e1"]),
    TEXTS.filter(lambda text: text.isprintable()),
    by=st.sampled_from(["", "Ada <ada@example.org>", "yes", "- x", "'", "a: b", "#"]),
    added=st.sampled_from(["", "2026-11-22", "2026-11-22T12:00:00Z"]),
    until=st.sampled_from(["", "2027-01-01", "2028-01-01T00:00:00+01:00"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ENTRIES, max_size=4, unique_by=lambda item: item.fingerprint), ENTRIES)
def test_whatever_an_entry_says_is_read_again_as_it_was_written(entries: list[Allowance], new: Allowance) -> None:
    text = render_allowances(entries)
    assert list(parse_allowances(text)) == entries
    made = with_allowance(text, new)
    assert parse_allowances(made).count(new) == 1
    assert without_allowance(made, new.fingerprint) == without_allowance(text, new.fingerprint)


# --- merging ------------------------------------------------------------------------------------------


def test_what_either_side_added_is_there_and_what_either_took_away_is_gone() -> None:
    base = [Allowance(A, "a"), Allowance(B, "b")]
    one, other = [Allowance(A, "a"), Allowance(C, "c")], [Allowance(A, "a"), Allowance(B, "b", until="2030-01-01")]
    for sides in ((one, other), (other, one)):
        assert set(merged_entries(base, *sides)) == {A, C}


def test_where_both_renewed_the_earlier_end_and_the_later_reason_count() -> None:
    base = [Allowance(A, "a", until="2027-01-01")]
    one = [Allowance(A, "one", added="2026-11-22T10:00:00Z", until="2029-01-01")]
    other = [Allowance(A, "other", added="2026-11-22T11:00:00Z", until="")]
    for sides in ((one, other), (other, one)):
        assert list(merged_entries(base, *sides).values()) == [replace(other[0], until="2029-01-01")]
