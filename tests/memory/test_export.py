"""Export to Markdown, JSONL and the official memory server's graph."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import InvalidInput, Trust, UnsafePath
from adaptive_llm_gateway.memory._export import (
    MANIFEST,
    export_graph,
    export_jsonl,
    export_markdown,
    graph_lines,
    jsonl_lines,
)
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._import import item_id, read_source
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Author, Link, Record

WHEN = datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_memory(name: str, body: str = "text\n", **more: object) -> tuple[Record, bytes]:
    ident = item_id("test", "t", name)
    types = TypeRegistry()
    front = types.from_call(
        type="note",
        title=name,
        body=body,
        id=ident,
        created=WHEN,
        updated=WHEN,
        author=Author("cli", host="box"),
        trust=Trust.PUBLIC,
        tags=["x"],
        **more,  # pyright: ignore[reportArgumentType]
    )
    data = Document.new({**front, "mood": "good"}, body).render()
    path = f"notes/2024/01/{name}.md"
    document = Document.parse(data)
    return types.to_record(document, path=path, version="0" * 40, mtime_ns=0, size=len(data)), data


def test_exported_files_are_the_memorys_files(tmp_path: Path) -> None:
    memories = [a_memory("a"), a_memory("b")]
    report = export_markdown(memories, tmp_path / "out")
    assert report.written == 2
    for record, data in memories:
        assert (tmp_path / "out" / record.path).read_bytes() == data
    assert not list((tmp_path / "out").rglob("*.new"))


def test_what_was_exported_can_be_imported_as_it_was(tmp_path: Path) -> None:
    a, b = a_memory("a", links=[Link("supersedes", item_id("test", "t", "b"))]), a_memory("b")
    export_markdown([a, b], tmp_path)
    items = {item.id: item for item in read_source(tmp_path).items}
    for record, _ in (a, b):
        item = items[record.id]
        assert (item.title, item.body, item.tags, item.links) == (record.title, record.body, record.tags, record.links)
        assert (item.created, item.updated, item.trust) == (record.created, record.updated, record.trust)
        assert item.fields == {"mood": "good"}


def test_exporting_again_writes_only_what_changed(tmp_path: Path) -> None:
    export_markdown([a_memory("a"), a_memory("b")], tmp_path)
    report = export_markdown([a_memory("a", "new\n")], tmp_path)
    assert (report.written, report.unchanged, report.left_over) == (1, 0, ("notes/2024/01/b.md",))
    assert (tmp_path / "notes/2024/01/b.md").exists()


def test_foreign_and_edited_files_are_not_overwritten_unless_asked(tmp_path: Path) -> None:
    old, new = a_memory("a"), a_memory("a", "new\n")
    export_markdown([old], tmp_path)
    mine = tmp_path / old[0].path
    mine.write_bytes(b"edited")
    with pytest.raises(InvalidInput) as refused:
        export_markdown([new, a_memory("c")], tmp_path)
    assert refused.value.details["files"] == [old[0].path]
    assert mine.read_bytes() == b"edited"
    assert not (tmp_path / "notes/2024/01/c.md").exists()
    report = export_markdown([new], tmp_path, overwrite=True)
    assert report.overwritten == (old[0].path,)
    assert mine.read_bytes() == new[1]


@pytest.mark.parametrize("path", ["../out.md", "/etc/x.md", "a/../../b.md", "C:\\x.md", "", ".git/hooks/x", "a\0b"])
def test_paths_that_lead_out_are_refused_before_anything_is_written(path: str, tmp_path: Path) -> None:
    record, data = a_memory("a")
    with pytest.raises(UnsafePath):
        export_markdown([a_memory("b"), (replace(record, path=path), data)], tmp_path / "out")
    assert not list(tmp_path.rglob("*.md"))


def test_links_inside_the_destination_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    destination = tmp_path / "out"
    destination.mkdir()
    (destination / "notes").symlink_to(outside)
    with pytest.raises(UnsafePath):
        export_markdown([a_memory("a")], destination, overwrite=True)
    assert not list(outside.iterdir())


def test_a_destination_that_is_a_file_and_a_folder_in_a_files_place_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(InvalidInput, match="not a folder"):
        export_markdown([], tmp_path / "file")
    record, data = a_memory("a")
    (tmp_path / "out" / record.path).mkdir(parents=True)
    with pytest.raises(InvalidInput, match="is a folder"):
        export_markdown([(record, data)], tmp_path / "out", overwrite=True)


def test_a_broken_manifest_makes_every_file_foreign(tmp_path: Path) -> None:
    export_markdown([a_memory("a")], tmp_path)
    (tmp_path / MANIFEST).write_text("[[", encoding="utf-8")
    with pytest.raises(InvalidInput):
        export_markdown([a_memory("a", "new\n")], tmp_path)


def test_jsonl_has_one_whole_memory_a_line(tmp_path: Path) -> None:
    record, _ = a_memory("ä\u2028", "two\nlines\n")
    export_jsonl([record, record], tmp_path / "m.jsonl")
    lines = (tmp_path / "m.jsonl").read_bytes().split(b"\n")
    assert len(lines) == 3
    memory = json.loads(lines[0])
    assert memory["body"] == "two\nlines\n"
    assert memory["created"] == "2024-01-02T03:04:05Z"
    assert memory["author"] == {"client": "cli", "host": "box"}
    assert memory["fields"] == {"mood": "good"}
    assert next(jsonl_lines([record])).encode() == lines[0] + b"\n"


def test_a_file_that_exists_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    file = tmp_path / "m.jsonl"
    file.write_text("mine", encoding="utf-8")
    record, _ = a_memory("a")
    for export in (export_jsonl, export_graph):
        with pytest.raises(InvalidInput, match="exists"):
            export([record], file)
        with pytest.raises(InvalidInput, match="folder"):
            export([record], tmp_path)
    assert file.read_text(encoding="utf-8") == "mine"
    assert export_jsonl([record], file, overwrite=True).written == 1


def test_a_graph_exported_is_a_graph_imported(tmp_path: Path) -> None:
    b, _ = a_memory("b", "Prose.\n\n- and a list\n")
    a, _ = a_memory("a", "- one\n- two\n  more\n", links=[Link("knows", b.id), Link("knows", item_id("x", "y", "z"))])
    report = export_graph([a, b], tmp_path / "memory.jsonl")
    assert (report.written, report.left_out) == (2, 1)
    first, second = read_source(tmp_path / "memory.jsonl").items
    assert (first.title, first.body, first.links) == ("a", a.body, (Link("knows", second.id),))
    assert second.body == "- Prose.\n  \n  - and a list\n"


def test_names_in_a_graph_are_unique() -> None:
    record, _ = a_memory("a")
    other = replace(record, id=item_id("test", "t", "other"))
    lines, _ = graph_lines([record, other])
    assert len({json.loads(line)["name"] for line in lines}) == 2
