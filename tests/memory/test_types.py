"""Memory types: strict for calls, lenient for files."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import (
    AlgError,
    InvalidFile,
    InvalidInput,
    Trust,
    UnknownField,
    UnknownType,
    is_ulid,
    ulid_milliseconds,
)
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._models import BUILT_IN, COMMON_FIELDS
from adaptive_llm_gateway.memory._reference import BEGIN, update
from adaptive_llm_gateway.memory._types import BUILT_IN_TYPES, TypeRegistry, first_heading
from adaptive_llm_gateway.memory._values import Author, Link, Record

DOCS = Path(__file__).parents[2] / "docs" / "memory-format.md"
ID = "01JD8XYZABCDEFGHJKMNPQRSTV"
OTHER = "01JD8XYZABCDEFGHJKMNPQRSTW"
NOON = datetime(2026, 11, 21, 12, 0, 0, 123_000, tzinfo=UTC)
AUTHOR = Author("claude-code", host="laptop")
TYPES = TypeRegistry()


def call(type: str = "note", **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "type": type,
        "title": "A title",
        "body": "",
        "id": ID,
        "created": NOON,
        "updated": NOON,
        "author": AUTHOR,
        **changes,
    }
    return TYPES.from_call(**arguments)


def record(text: str, path: str = "notes/2026/11/a-title-mnpqrstv.md") -> Record:
    document = Document.parse(text.encode())
    return TYPES.to_record(document, path=path, version="0" * 40, mtime_ns=10**18, size=len(text))


def adopt(text: str, path: str = "notes/some-name.md", mtime_ns: int = 10**18) -> Document:
    document = Document.parse(text.encode(), require_front_matter=False)
    return TYPES.adopt(document, path=path, mtime_ns=mtime_ns, author=AUTHOR)


def test_the_eight_types_have_the_folders_of_the_design() -> None:
    assert TYPES.names == BUILT_IN_TYPES
    assert [TYPES.folder_of(name) for name in TYPES.names] == [
        "notes", "facts", "preferences", "decisions", "tasks", "sessions", "handoffs", "routes",
    ]  # fmt: skip
    assert [TYPES.type_of_folder(TYPES.folder_of(name)) for name in TYPES.names] == list(TYPES.names)
    assert TYPES.type_of_folder("types") is None
    assert TYPES.own_fields("task") == ("status", "priority", "due", "assignee")
    assert all(TYPES.description_of(name).endswith(".") for name in TYPES.names)


def test_a_call_becomes_front_matter_in_canonical_order_without_what_is_empty() -> None:
    fields = call(
        "task",
        project=" shop ",
        tags=[" a ", "B", "a"],
        links=[Link("relates_to", OTHER), {"rel": "relates_to", "id": OTHER}],
        fields={"due": date(2026, 12, 1), "assignee": None},
    )

    assert list(fields.items()) == [
        ("id", ID),
        ("type", "task"),
        ("title", "A title"),
        ("created", "2026-11-21T12:00:00.123Z"),
        ("updated", "2026-11-21T12:00:00.123Z"),
        ("author", {"client": "claude-code", "host": "laptop"}),
        ("project", "shop"),
        ("tags", ["a", "B"]),
        ("trust", "internal"),
        ("links", [{"rel": "relates_to", "id": OTHER}]),
        ("status", "open"),
        ("priority", "normal"),
        ("due", "2026-12-01"),
    ]
    assert json.loads(json.dumps(fields)) == fields


def test_times_are_written_in_utc_and_naive_ones_taken_as_utc() -> None:
    fields = call(
        "fact",
        created="2026-11-21T12:00:00",
        updated=datetime(2026, 11, 21, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=2))),
        fields={"valid_from": "2026-11-21T12:00:00+02:00", "valid_until": "2027-01-01"},
    )

    assert fields["created"] == "2026-11-21T12:00:00.000Z"
    assert fields["updated"] == "2026-11-21T10:00:00.000001Z"
    assert fields["valid_from"] == "2026-11-21T10:00:00.000Z"
    assert fields["valid_until"] == "2027-01-01"


def test_a_title_that_is_not_given_is_the_first_heading() -> None:
    assert call(title=None, body="text\n```\n# code\n```\n##  The *point* ##\n")["title"] == "The *point*"
    assert call(title=None, body="no heading")["title"] == "Untitled"


@pytest.mark.parametrize(
    ("type", "fields"),
    [
        ("note", {}),
        ("fact", {"confidence": 0.5, "valid_from": "2026-01-01", "valid_until": "2026-01-02T10:00:00Z"}),
        ("fact", {"confidence": 1}),
        ("preference", {"scope": "python", "strength": "strong"}),
        ("decision", {"status": "proposed", "rationale": "a\nb", "alternatives": ["x"], "supersedes": [OTHER]}),
        ("task", {"status": "in_progress", "priority": "high", "due": "2026-12-01", "assignee": "me"}),
        ("session", {"session_id": "s", "client": "codex", "hub": "h", "started": "2026-01-01T00:00:00Z"}),
        ("handoff", {"objective": "o", "next_action": "n", "to": "codex", "session_id": "s", "priority": "high"}),
        ("route", {"purpose": "code", "provider": "p", "model": "m", "fallbacks": ["p/m"], "max_trust": "public"}),
    ],
)
def test_what_a_call_writes_reads_back_as_the_same_record(type: str, fields: dict[str, Any]) -> None:
    written = call(type, tags=["a"], project="p", trust=Trust.SECRET, source="https://x", fields=fields)
    data = Document.new(written, "Body").render()

    read = TYPES.to_record(Document.parse(data), path="x/y.md", version="v", mtime_ns=5, size=len(data))

    assert (read.id, read.type, read.title, read.body) == (ID, type, "A title", "Body")
    assert (read.created, read.updated, read.author) == (NOON, NOON, AUTHOR)
    assert (read.tags, read.project, read.trust, read.source) == (("a",), "p", Trust.SECRET, "https://x")
    assert {key: read.fields[key] for key in written if key not in COMMON_FIELDS} == read.fields
    assert json.loads(json.dumps(read.fields)) == read.fields


@pytest.mark.parametrize("type", BUILT_IN_TYPES)
def test_every_type_works_with_nothing_but_a_title(type: str) -> None:
    assert record(f"---\nid: {ID}\ntype: {type}\ntitle: x\n---\n").type == type
    assert call(type)["type"] == type


def test_an_unknown_type_is_refused_with_the_ones_there_are() -> None:
    with pytest.raises(UnknownType, match="'poem'") as caught:
        call("poem")
    assert caught.value.details["allowed"] == list(BUILT_IN_TYPES)
    with pytest.raises(UnknownType):
        TYPES.update_from_call({"type": "poem"}, {})
    with pytest.raises(UnknownType):
        TYPES.folder_of("poem")


def test_an_unknown_field_is_refused_naming_field_type_and_allowed_ones() -> None:
    with pytest.raises(UnknownField) as caught:
        call("task", fields={"colour": "red"})
    assert caught.value.message == "a task has no field 'colour'; its own fields: status, priority, due, assignee"
    assert caught.value.details == {
        "field": "colour",
        "type": "task",
        "allowed": ["status", "priority", "due", "assignee"],
    }
    with pytest.raises(UnknownField, match="its own fields: none"):
        call("note", fields={"status": "open"})
    with pytest.raises(UnknownField) as common:
        call("task", fields={"title": "x"})
    assert common.value.hint is not None
    assert "field of every memory" in common.value.hint
    with pytest.raises(UnknownField):
        TYPES.update_from_call({"type": "task", "colour": "red"}, {"colour": "blue"})


@pytest.mark.parametrize(
    ("type", "changes", "place", "allowed"),
    [
        ("note", {"title": ""}, "title", "not empty"),
        ("note", {"title": "  \t "}, "title", "not empty"),
        ("note", {"title": "x" * 301}, "title", "at most 300 characters"),
        ("note", {"title": "a\nb"}, "title", "single line"),
        ("note", {"title": "a\u2028b"}, "title", "single line"),
        ("note", {"title": "a\x1bb"}, "title", "single line"),
        ("note", {"title": 5}, "title", "text"),
        ("note", {"title": "\ud800"}, "title", "unicode"),
        ("note", {"id": "../../x"}, "id", "ULID"),
        ("note", {"id": None}, "id", "ULID"),
        ("note", {"created": "yesterday"}, "created", "ISO 8601"),
        ("note", {"created": 5}, "created", "ISO 8601"),
        ("note", {"updated": "0001-01-01T00:00:00+23:00"}, "updated", "ISO 8601"),
        ("note", {"author": Author("")}, "author.client", "missing"),
        ("note", {"author": Author("a\nb")}, "author.client", "single line"),
        ("note", {"project": "a\nb"}, "project", "single line"),
        ("note", {"project": ["x"]}, "project", "text"),
        ("note", {"tags": "a"}, "tags", "a list"),
        ("note", {"tags": 5}, "tags", "a list"),
        ("note", {"tags": ["a,b"]}, "tags", "without commas"),
        ("note", {"tags": ["a\nb"]}, "tags", "one line"),
        ("note", {"tags": [""]}, "tags", "1 to 100"),
        ("note", {"tags": ["x" * 101]}, "tags", "1 to 100"),
        ("note", {"tags": [str(i) for i in range(65)]}, "tags", "at most 64"),
        ("note", {"tags": [1]}, "tags", "texts"),
        ("note", {"trust": "top"}, "trust", "public, internal, confidential, secret"),
        ("note", {"links": "x"}, "links", "a list"),
        ("note", {"links": 5}, "links", "a list"),
        ("note", {"links": [5]}, "links.0", "a mapping"),
        ("note", {"links": [{"rel": "x"}]}, "links.0.id", "missing"),
        ("note", {"links": [{"rel": "x", "id": "nope"}]}, "links.0.id", "ULID"),
        ("note", {"links": [{"rel": "x", "id": ID, "more": 1}]}, "links.0.more", "no field"),
        ("note", {"source": "x" * 2001}, "source", "at most 2000"),
        ("fact", {"fields": {"confidence": 1.5}}, "confidence", "at most 1"),
        ("fact", {"fields": {"confidence": -1}}, "confidence", "at least 0"),
        ("fact", {"fields": {"confidence": "0.5"}}, "confidence", "a number"),
        ("fact", {"fields": {"confidence": float("nan")}}, "confidence", ""),
        ("fact", {"fields": {"valid_from": "soon"}}, "valid_from", "ISO 8601"),
        ("fact", {"fields": {"valid_from": "2026-02-30"}}, "valid_from", "a date"),
        ("task", {"fields": {"status": "finished"}}, "status", "open, in_progress, blocked, done, cancelled"),
        ("task", {"fields": {"status": ["open"]}}, "status", "open, in_progress"),
        ("task", {"fields": {"assignee": {"a": 1}}}, "assignee", "text"),
        ("decision", {"fields": {"alternatives": ["a", 3]}}, "alternatives.1", "text"),
        ("decision", {"fields": {"alternatives": 5}}, "alternatives", "a list"),
        ("decision", {"fields": {"rationale": "a\x00b"}}, "rationale", "control characters"),
        ("route", {"fields": {"enabled": "yes"}}, "enabled", "true or false"),
    ],
)
def test_a_wrong_value_is_refused_naming_field_value_and_what_is_allowed(
    type: str, changes: dict[str, Any], place: str, allowed: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        call(type, **changes)

    assert caught.value.details["field"] == place
    assert repr(place) in caught.value.message
    assert allowed in caught.value.message
    assert "pydantic" not in caught.value.message
    assert len(caught.value.message) < 400


JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
ARGUMENTS = ("title", "id", "created", "updated", "project", "tags", "trust", "links", "source")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    type=st.sampled_from(BUILT_IN_TYPES),
    junk=st.dictionaries(st.sampled_from(ARGUMENTS), JUNK, max_size=2),
    own=st.dictionaries(st.sampled_from(sorted({name for m in BUILT_IN.values() for name in m.model_fields})), JUNK),
)
def test_any_junk_is_either_stored_so_that_it_reads_back_or_refused(
    type: str, junk: dict[str, Any], own: dict[str, Any]
) -> None:
    for attempt in (
        lambda: call(type, **junk, fields=own),
        lambda: {**call(type), **TYPES.update_from_call(call(type), junk | own)},
    ):
        try:
            fields = attempt()
        except AlgError:
            continue
        data = Document.new(fields, "").render()
        TYPES.to_record(Document.parse(data), path="notes/x.md", version="v", mtime_ns=0, size=1)


# --- Updates ------------------------------------------------------------------------------------------


def test_an_update_gives_only_the_changes_as_they_go_to_the_file() -> None:
    changes = TYPES.update_from_call(
        call("task", tags=["a"]),
        {
            "status": "done",
            "due": "2026-12-01T10:00:00+01:00",
            "assignee": None,
            "title": " New ",
            "updated": NOON,
            "tags": [],
            "trust": Trust.SECRET,
            "links": [Link("x", OTHER)],
            "id": ID,
            "type": "task",
        },
    )

    assert changes == {
        "status": "done",
        "due": "2026-12-01T09:00:00.000Z",
        "assignee": None,
        "title": "New",
        "updated": "2026-11-21T12:00:00.123Z",
        "tags": None,
        "trust": "secret",
        "links": [{"rel": "x", "id": OTHER}],
    }


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": OTHER}, "'id' of a memory cannot be changed"),
        ({"type": "note"}, "'type' of a memory cannot be changed"),
        ({"created": "2020-01-01"}, "cannot be changed"),
        ({"author": Author("x")}, "cannot be changed"),
        ({"title": None}, "cannot be removed"),
        ({"trust": None}, "cannot be removed"),
        ({"updated": None}, "cannot be removed"),
        ({"title": ""}, "'title'.*not empty"),
        ({"status": "finished"}, "'status'.*one of open"),
        ({"tags": ["a,b"]}, "'tags'.*commas"),
        ({"links": [{"rel": "x"}]}, "'links.0.id' is missing"),
    ],
)
def test_an_update_that_is_wrong_or_touches_what_is_fixed_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        TYPES.update_from_call(call("task"), changes)


def test_other_wrong_fields_of_a_file_do_not_stand_in_the_way_of_an_update() -> None:
    current = {**call("task"), "status": "whatever", "tags": 5}

    assert TYPES.update_from_call(current, {"priority": "high"}) == {"priority": "high"}


# --- Files --------------------------------------------------------------------------------------------


def test_unknown_fields_of_a_file_are_shown_and_missing_ones_have_their_defaults() -> None:
    read = record(f"---\nid: {ID}\ntype: task\ntitle: x\ncolour: red\npriority: odd\nnested: {{a: [1]}}\n---\n")

    assert read.fields == {"colour": "red", "priority": "odd", "nested": {"a": [1]}, "status": "open"}


def test_what_a_person_plainly_meant_is_understood() -> None:
    read = record(
        f"---\nid: {ID.lower()}\ntitle: 1.10\ncreated: 2026-11-21\nupdated: 2026-11-21 13:00:00+01:00\nauthor: Ada\n"
        f"tags: a, b ,, a\nproject: 007\ntrust: Secret\nlinks: [{OTHER}]\nsource:\n---\n"
    )

    assert (read.id, read.type, read.title, read.project) == (ID, "note", "1.10", "007")
    assert read.created == datetime(2026, 11, 21, tzinfo=UTC)
    assert read.updated == datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert read.author == Author("Ada")
    assert read.tags == ("a", "b")
    assert read.trust is Trust.SECRET
    assert read.links == (Link("relates_to", OTHER),)
    assert read.source is None


def test_what_a_file_lacks_is_taken_from_folder_body_name_and_time() -> None:
    modified = datetime.fromtimestamp(10**9, UTC)

    read = record(f"---\nid: {ID}\n---\n# The heading\n", "tasks/x.md")
    assert (read.type, read.title, read.created, read.updated) == ("task", "The heading", modified, modified)
    assert read.author == Author("unknown")
    assert record(f"---\nid: {ID}\n---\n", "tasks/2026/11/fix-the_door-ab12cd34.md").title == "fix the door"
    assert record(f"---\nid: {ID}\n---\n", "tasks/meeting-tomorrow.md").title == "meeting tomorrow"
    assert record(f"---\nid: {ID}\ntype: fact\n---\n", "tasks/x.md").type == "fact"


def test_times_in_the_future_or_past_of_the_file_s_own_are_put_in_order() -> None:
    later = record(f"---\nid: {ID}\ncreated: 2026-01-01\n---\n")
    assert later.updated == later.created
    earlier = record(f"---\nid: {ID}\nupdated: 1999-01-01\n---\n")
    assert earlier.created == earlier.updated


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("id: nope", "id"),
        ("id: [x]", "id"),
        ("id: true", "id"),
        ("type: poem", "type"),
        ("type: [note]", "type"),
        ("title: [a]", "title"),
        ("title: {a: b}", "title"),
        ("created: soon", "created"),
        ("created: 5", "created"),
        ("updated: [2026-01-01]", "updated"),
        ("updated: 0001-01-01T00:00:00+23:00", "updated"),
        ("author: 5", "author"),
        ("author: {client: [x]}", "author"),
        ("project: [x]", "project"),
        ("tags: 5", "tags"),
        ("tags: {a: b}", "tags"),
        ("tags: [[a]]", "tags"),
        ("tags: [1.10]", "tags"),
        ("trust: top", "trust"),
        ("trust: 5", "trust"),
        ("links: x", "links"),
        ("links: [x]", "links"),
        ("links: [{rel: 5, id: 01JD8XYZABCDEFGHJKMNPQRSTV}]", "links"),
        ("source: {a: b}", "source"),
    ],
)
def test_common_fields_of_the_wrong_kind_make_a_file_unreadable_and_are_named(line: str, field: str) -> None:
    text = f"---\n{line}\n---\n" if field == "id" else f"---\nid: {ID}\n{line}\n---\n"

    for read in (lambda: record(text), lambda: adopt(text)):
        with pytest.raises(InvalidFile, match=repr(field)) as caught:
            read()
        assert caught.value.details["field"] == field
        assert caught.value.message.startswith("notes/")


def test_a_file_without_an_id_is_not_a_memory_yet() -> None:
    with pytest.raises(InvalidFile, match="has no 'id'"):
        record("---\ntitle: x\n---\n")
    with pytest.raises(InvalidFile, match="'type' is missing"):
        record(f"---\nid: {ID}\n---\n", "README.md")


# --- Adoption -----------------------------------------------------------------------------------------


def test_adopting_adds_what_is_missing_and_changes_no_other_byte() -> None:
    text = "---\n# mine\ntags: [a]   # few\ntitle: 1.10\n---\nBody  \r\n"

    adopted = adopt(text, "tasks/some-name.md")

    id = adopted.fields["id"]
    assert is_ulid(id)
    assert adopted.render().decode() == text.replace(
        "1.10\n",
        f"1.10\nid: {id}\ntype: task\ncreated: 2001-09-09T01:46:40.000Z\nupdated: 2001-09-09T01:46:40.000Z\n"
        "author:\n  client: claude-code\n  host: laptop\n",
    )


def test_a_file_without_front_matter_is_adopted_with_its_body_untouched() -> None:
    text = "\ufeff# Hello: there\r\ntext"

    adopted = adopt(text)

    assert list(adopted.fields) == ["id", "type", "title", "created", "updated", "author"]
    assert adopted.fields["title"] == "Hello: there"
    assert adopted.render().endswith(b"---\r\n# Hello: there\r\ntext")
    assert adopted.render().startswith(b"\xef\xbb\xbf---\r\nid: ")


def test_adopting_is_repeatable_and_leaves_complete_files_alone() -> None:
    once = adopt("text")

    assert adopt("text").render() == once.render()
    assert adopt("text", path="notes/other.md").fields["id"] != once.fields["id"]
    assert TYPES.adopt(once, path="notes/other.md", mtime_ns=1, author=AUTHOR) is once


def test_empty_values_count_as_missing_and_are_filled_in_place() -> None:
    adopted = adopt("---\nid:\ntitle: ''   # later\nauthor: ~\n---\n")

    assert list(adopted.fields)[:3] == ["id", "title", "author"]
    assert adopted.fields["title"] == "some name"
    assert b"title: 'some name'   # later\n" in adopted.render()


def test_the_date_a_file_states_is_the_date_of_its_id() -> None:
    adopted = adopt("---\ncreated: 2026-11-21\n---\n")

    assert ulid_milliseconds(adopted.fields["id"]) == 1_795_219_200_000
    assert adopted.fields["updated"] == "2026-11-21T00:00:00.000Z"


def test_headings_in_fences_and_without_text_are_no_titles() -> None:
    assert first_heading("~~~\n# no\n```\n# no\n~~~\n#\n####### no\n#no\n# Yes #\n") == "Yes"
    assert first_heading("# " + "x" * 400) == "x" * 300
    assert first_heading("#  a\tb  ") == "a b"


# --- Documentation ------------------------------------------------------------------------------------


def test_the_format_reference_is_up_to_date() -> None:
    page = DOCS.read_text(encoding="utf-8")

    assert update(page) == page, "run: python -m adaptive_llm_gateway.memory._reference docs/memory-format.md"
    with pytest.raises(ValueError, match="marker"):
        update(page.replace(BEGIN, ""))


def test_the_examples_of_the_format_reference_work(tmp_path: Path) -> None:
    page = DOCS.read_text(encoding="utf-8")
    memory = page.split("```markdown\n")[1].split("```")[0]
    (tmp_path / "recipe.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")

    read = record(memory)
    again = TYPES.from_call(
        type=read.type,
        title=read.title,
        body=read.body,
        id=read.id,
        created=read.created,
        updated=read.updated,
        author=read.author,
        project=read.project,
        tags=read.tags,
        trust=read.trust,
        links=read.links,
        fields=read.fields,
    )
    assert Document.new(again, read.body).render().decode() == memory
    types, notices = TypeRegistry.load(tmp_path)
    assert notices == []
    assert types.own_fields("recipe") == ("serves", "course", "code")
