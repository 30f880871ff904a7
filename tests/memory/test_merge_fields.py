"""Front matter that both sides changed: stages, trust, lists, text, ties, and files that are written once."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from adaptive_llm_gateway.core import Trust, is_ulid
from adaptive_llm_gateway.memory._frontmatter import MAX_FRONT_MATTER, Document
from adaptive_llm_gateway.memory._lifecycles import STATUS, TRUST, WRITTEN_ONCE
from adaptive_llm_gateway.memory._merge_fields import merge_fields
from adaptive_llm_gateway.memory._merge_files import MergedFile, merge_files
from adaptive_llm_gateway.memory._models import BUILT_IN

ID = "01JD0000000000000000000001"
EARLY, LATE = "2026-11-20T10:00:00Z", "2026-11-20T12:00:00Z"


def memory(
    type: str = "task", body: str = "text\n", *, updated: str | None = EARLY, id: str = ID, **fields: Any
) -> bytes:
    common: dict[str, Any] = {"id": id, "type": type, "title": "T", "created": "2026-11-01T00:00:00Z"}
    times = {} if updated is None else {"updated": updated}
    return Document.new({**common, **times, **fields}, body).render()


def merged(base: bytes | None, ours: bytes, theirs: bytes) -> MergedFile:
    result = merge_files(base, ours, theirs)
    assert result is not None
    assert merge_files(base, theirs, ours) == result
    return result


def fields_of(base: bytes | None, ours: bytes, theirs: bytes) -> dict[str, Any]:
    return dict(Document.parse(merged(base, ours, theirs).data).fields)


# --- stages -----------------------------------------------------------------------------------------------


def test_the_stages_are_those_that_the_types_allow() -> None:
    for name, lifecycle in STATUS.items():
        field = BUILT_IN[name].model_fields[lifecycle.field]
        assert set(lifecycle.stages) == set(get_args(field.annotation)), name
    assert TRUST.stages == tuple(trust.value for trust in Trust)
    for name, field in WRITTEN_ONCE.items():
        assert field in BUILT_IN[name].model_fields


@pytest.mark.parametrize(
    ("type", "base", "newer", "older", "result"),
    [
        ("task", "open", "in_progress", "done", "done"),
        ("task", "open", "done", "in_progress", "done"),
        ("task", "open", "cancelled", "done", "done"),
        ("task", "in_progress", "open", "blocked", "blocked"),
        ("task", "done", "open", "done", "open"),
        ("task", "done", "done", "open", "open"),
        ("task", "done", "open", "cancelled", "cancelled"),
        ("task", None, "open", "done", "done"),
        ("task", "open", "of mine", "done", "of mine"),
        ("decision", "proposed", "accepted", "superseded", "superseded"),
        ("decision", "proposed", "accepted", "rejected", "rejected"),
        ("decision", "superseded", "accepted", "superseded", "accepted"),
        ("session", "active", "active", "ended", "ended"),
        ("session", None, "active", "ended", "ended"),
        ("note", "a", "b", "c", "b"),
    ],
)
def test_of_two_stages_the_later_one_wins_and_going_back_on_one_side_stays(
    type: str, base: str | None, newer: str, older: str, result: str
) -> None:
    before = memory(type, status=base) if base else memory(type)
    found = fields_of(before, memory(type, status=newer, updated=LATE), memory(type, status=older))
    assert found["status"] == result


def test_what_says_more_about_a_stage_comes_with_it() -> None:
    done = memory(status="done", completed_at="2026-11-20", tags=["a"])
    going = memory(status="in_progress", tags=["b"], updated=LATE)
    found = fields_of(memory(status="open"), done, going)
    assert (found["status"], found["completed_at"]) == ("done", "2026-11-20")
    opened = memory(status="open", updated=LATE)
    corrected = memory(status="done", completed_at="2026-11-19")
    found = fields_of(memory(status="done", completed_at="2026-11-20"), opened, corrected)
    assert found["status"] == "open"
    assert "completed_at" not in found


def test_of_two_trust_levels_the_one_that_fewer_may_see_wins() -> None:
    found = fields_of(memory(trust="internal"), memory(trust="public", updated=LATE), memory(trust="confidential"))
    assert found["trust"] == "confidential"
    assert fields_of(memory(trust="secret"), memory(trust="public"), memory(trust="secret"))["trust"] == "public"


@pytest.mark.parametrize("lowered", ["internal", None])
@pytest.mark.parametrize("body", ["first\n\nlast, and more\n", "another first\n\nlast\n"])
@pytest.mark.parametrize("updated", [EARLY, LATE])
def test_a_level_that_one_side_lowered_does_not_hold_for_what_the_other_wrote_meanwhile(
    lowered: str | None, body: str, updated: str
) -> None:
    level = {} if lowered is None else {"trust": lowered}
    base = memory(trust="confidential", body="first\n\nlast\n")
    one = memory(body="FIRST\n\nlast\n", updated="2026-11-20T11:00:00Z", **level)
    two = memory(trust="confidential", body=body, updated=updated)
    result = merged(base, one, two)
    for data in filter(None, (result.data, result.kept)):
        if b"more" in data or b"another" in data:
            assert Document.parse(data).fields["trust"] == "confidential"
    tagged = memory(trust="confidential", body="first\n\nlast\n", tags=["net"], updated=updated)
    assert fields_of(base, one, tagged).get("trust") == lowered


def test_a_field_of_a_declared_type_is_a_plain_one() -> None:
    before = memory("ticket", status="open")
    found = fields_of(before, memory("ticket", status="open again", updated=LATE), memory("ticket", status="done"))
    assert found["status"] == "open again"


# --- ties ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updated", [EARLY, None, "", "yesterday", "99999-01-01", "2026-13-45"])
def test_at_one_time_or_none_the_greater_file_wins(updated: str | None) -> None:
    one, two = memory(title="A", updated=updated), memory(title="B", updated=updated)
    assert two > one
    assert fields_of(memory(updated=updated), one, two)["title"] == "B"


def test_a_time_that_cannot_be_read_is_before_all_others() -> None:
    found = fields_of(memory(), memory(title="Z", updated="yesterday"), memory(title="A", updated="1999-01-01"))
    assert found["title"] == "A"


# --- lists and text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "newer", "older", "result"),
    [
        (["a"], ["a", "b"], ["c", "a"], ["a", "b", "c"]),
        (["a", "b"], ["b"], ["a"], None),
        (["a"], None, ["a", "b"], ["b"]),
        (None, ["a"], ["b", "a"], ["a", "b"]),
        ([{"x": 1}], [{"x": 1}, {"x": 2}], [{"x": 3}], [{"x": 2}, {"x": 3}]),
        (["a"], "one", ["a", "b"], "one"),
    ],
)
def test_lists_are_merged_as_sets(base: Any, newer: Any, older: Any, result: Any) -> None:
    sides = ({"tags": side} if side is not None else {} for side in (base, newer, older))
    assert merge_fields(*sides).values.get("tags") == result


def test_text_of_several_lines_in_a_field_is_merged_by_lines() -> None:
    sides = (memory("decision", rationale=text) for text in ("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n"))
    assert fields_of(*sides)["rationale"] == "A\nb\nC\n"


def test_where_text_in_a_field_clashes_the_older_memory_is_kept_whole() -> None:
    base = memory("decision", rationale="a\nb\n")
    result = merged(base, memory("decision", rationale="x\nb\n", updated=LATE), memory("decision", rationale="y\nb\n"))
    assert result.kept is not None
    assert Document.parse(result.data).fields["rationale"] == "x\nb\n"
    assert Document.parse(result.kept).fields["rationale"] == "y\nb\n"


def test_what_is_decided_names_the_fields() -> None:
    one = memory(title="A", source="a", status="done")
    two = memory(title="B", source="b", status="blocked", updated=LATE)
    assert merged(memory(status="open"), one, two).decided == ("status: done", "of title, source the newer")


def test_fields_too_large_together_are_not_merged_and_both_memories_stay() -> None:
    tags = [[f"{side}{number:04d}" for number in range(MAX_FRONT_MATTER // 12)] for side in "ab"]
    result = merged(memory(), memory(tags=tags[0], updated=LATE), memory(tags=tags[1]))
    assert result.kept is not None
    newer, older = Document.parse(result.data), Document.parse(result.kept)
    assert (newer.fields["tags"], older.fields["tags"]) == tuple(tags)
    assert newer.fields["id"] == ID != older.fields["id"]


# --- files that are written once -----------------------------------------------------------------------------


def event(updated: str = EARLY, **fields: Any) -> bytes:
    return memory("handoff", "", updated=updated, event="claim", **fields)


def test_two_versions_of_an_event_are_never_mixed() -> None:
    base = event(term=1, lease_until="2026-11-20T11:00:00Z")
    ours = event(term=2, lease_until="2026-11-20T11:00:00Z", updated=LATE)
    theirs = event(term=1, lease_until="2026-11-20T13:00:00Z")
    result = merged(base, ours, theirs)
    assert result.kept is not None
    newer, older = Document.parse(result.data).fields, Document.parse(result.kept).fields
    assert (newer["term"], newer["lease_until"]) == (2, "2026-11-20T11:00:00Z")
    assert (older["term"], older["lease_until"]) == (1, "2026-11-20T13:00:00Z")
    assert is_ulid(older["id"])
    assert newer["links"] == [{"rel": "conflicts_with", "id": older["id"]}]
    assert older["links"] == [{"rel": "conflicts_with", "id": ID}]


def test_each_version_of_an_event_is_kept_under_an_id_of_its_own() -> None:
    kept = {merged(event(), event(updated=LATE, term=9), event(term=number)).kept_id for number in (1, 2, 3)}
    assert len(kept) == 3


# --- what was kept, and edited since ------------------------------------------------------------------------


def test_what_two_clones_kept_and_one_edited_is_one_memory_with_the_edit() -> None:
    clash = merged(memory(body="a\n"), memory(body="x\n", updated=LATE), memory(body="y\nz\n"))
    assert clash.kept is not None
    edited = Document.parse(clash.kept).with_body("y\nZ\n").with_fields({"updated": LATE}).render()
    again = merged(None, clash.kept, edited)
    assert again.kept is None
    assert Document.parse(again.data).body == "y\nZ\n"


def test_the_id_of_what_is_kept_does_not_depend_on_what_else_was_merged() -> None:
    base, newest = memory(body="a\n", tags=["t"]), memory(body="x\n", updated=LATE)
    one = merged(base, newest, memory(body="y\n", tags=["t", "u"]))
    two = merged(base, newest, memory(body="y\n", title="Other", updated="2026-11-20T11:00:00Z"))
    assert one.kept_id == two.kept_id


def test_a_file_that_two_clones_adopted_under_two_ids_is_one_memory() -> None:
    other = "01JD0000000000000000000002"
    result = merged(b"a\nb\nc\n", memory(body="A\nb\nc\n"), memory(body="a\nb\nC\n", id=other, updated=LATE))
    assert Document.parse(result.data).body == "A\nb\nC\n"
    assert result.id == other


def test_two_memories_that_took_the_place_of_one_binary_file_are_not_mixed() -> None:
    assert merge_files(b"\0\xff", memory(), memory(id="01JD0000000000000000000002")) is None
