"""Reading folders of Markdown and Obsidian vaults."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import InvalidInput, NotFound, Trust, is_ulid
from adaptive_llm_gateway.memory._import import ImportItem, ImportSource, detect_kind, read_source
from adaptive_llm_gateway.memory._import_files import FILE_LIMIT
from adaptive_llm_gateway.memory._import_text import (
    inline_tags,
    link_targets,
    split_front_matter,
    to_time,
    wiki_names_in,
    without_code,
)
from adaptive_llm_gateway.memory._values import Link

DATA = Path(__file__).parent.parent / "data" / "import"


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "vault", tmp_path / "Garden"))


def by_key(source: ImportSource) -> dict[str, ImportItem]:
    return {item.key: item for item in source.items}


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_vault_is_told_by_its_settings_folder_and_read_without_hidden_folders(vault: Path) -> None:
    source = read_source(vault)
    assert (source.kind, source.name, source.attachments) == ("obsidian", "garden", 1)
    assert set(by_key(source)) == {
        "Compost.md",
        "Soil types.md",
        "Vegetables.md",
        "garden/Basil.md",
        "garden/Tomato.md",
        "journal/2024-03-09.md",
    }


def test_front_matter_becomes_fields_and_ours_are_not_taken_by_it(vault: Path) -> None:
    tomato = by_key(read_source(vault))["garden/Tomato.md"]
    assert tomato.title == "Tomato"
    assert tomato.tags == ("plant", "Plant/Fruit", "summer")
    assert tomato.created == datetime(2023, 4, 1, tzinfo=UTC)
    assert tomato.updated == datetime(2023, 5, 2, 6, 30, tzinfo=UTC)
    assert tomato.source == "obsidian:garden/garden/Tomato.md"
    assert tomato.fields == {
        "aliases": ["love apple", "Solanum lycopersicum"],
        "up": "[[Vegetables]]",
        "rating": 4,
        "source_author": "A. Gardener",
    }


def test_links_are_resolved_by_name_alias_path_and_property_but_not_in_code(vault: Path) -> None:
    items = by_key(read_source(vault))
    ids = {key: item.id for key, item in items.items()}
    assert items["garden/Tomato.md"].links == (
        Link("links_to", ids["garden/Basil.md"]),
        Link("links_to", ids["Vegetables.md"]),
        Link("links_to", ids["Soil types.md"]),
        Link("up", ids["Vegetables.md"]),
    )
    assert items["garden/Basil.md"].links == (
        Link("links_to", ids["garden/Tomato.md"]),
        Link("links_to", ids["Vegetables.md"]),
    )
    assert items["Vegetables.md"].links == (
        Link("links_to", ids["garden/Tomato.md"]),
        Link("links_to", ids["garden/Basil.md"]),
    )


def test_links_to_nothing_are_counted_and_those_to_attachments_are_not(vault: Path) -> None:
    assert read_source(vault).unresolved_links == 1


def test_a_known_type_is_taken_and_a_title_in_front_matter_wins(vault: Path) -> None:
    item = by_key(read_source(vault))["Vegetables.md"]
    assert (item.type, item.title) == ("fact", "All vegetables")


def test_front_matter_that_only_lacks_quotes_is_read_with_a_warning(vault: Path) -> None:
    item = by_key(read_source(vault))["Soil types.md"]
    assert (item.title, item.tags, item.body) == ("One: two", ("@soil",), "Loam, sand, clay.\n")
    assert "plain text" in item.warnings[0]


def test_front_matter_beyond_repair_stays_in_the_body(vault: Path) -> None:
    item = by_key(read_source(vault))["Compost.md"]
    assert item.body == (vault / "Compost.md").read_text(encoding="utf-8")
    assert "kept as part of the text" in item.warnings[0]


def test_the_date_of_a_daily_note_is_in_its_name(vault: Path) -> None:
    assert by_key(read_source(vault))["journal/2024-03-09.md"].created == datetime(2024, 3, 9, tzinfo=UTC)


def test_bodies_are_kept_byte_for_byte(tmp_path: Path) -> None:
    body = b"line one\r\nline two \r\n\r\n\ttab \xe2\x80\xa8 end"
    write(tmp_path / "a.md", b"---\r\ntitle: T\r\n---\r\n" + body)
    (item,) = read_source(tmp_path).items
    assert item.body.encode() == body


def test_ids_depend_on_the_folders_name_and_the_path_in_it_alone(vault: Path, tmp_path: Path) -> None:
    first = {item.key: item.id for item in read_source(vault).items}
    moved = tmp_path / "elsewhere" / "garden"
    shutil.copytree(vault, moved)
    os.utime(moved / "Compost.md", (1, 1))
    shutil.rmtree(moved / ".obsidian")
    source = read_source(moved)
    assert source.kind == "markdown"
    assert {item.key: item.id for item in source.items} == first
    assert all(is_ulid(ident) for ident in first.values())
    named = read_source(vault, name="another")
    assert not {item.id for item in named.items} & set(first.values())


def test_one_file_is_the_same_item_as_in_its_folder(vault: Path) -> None:
    (item,) = read_source(vault / "Compost.md").items
    assert item.id == by_key(read_source(vault))["Compost.md"].id


def test_reading_twice_gives_equal_sources(vault: Path) -> None:
    assert read_source(vault) == read_source(vault)


def test_what_cannot_be_text_is_skipped_with_a_reason(tmp_path: Path) -> None:
    write(tmp_path / "good.md", "fine")
    write(tmp_path / "nul.md", b"a\0b")
    write(tmp_path / "latin.md", "one\ncaf\xe9".encode("latin-1"))
    write(tmp_path / "empty.md", " \n")
    write(tmp_path / "huge.md", b"x" * (FILE_LIMIT + 1))
    write(tmp_path / "drawing.md", "---\nexcalidraw-plugin: parsed\n---\n{}")
    write(tmp_path / "half.md", b"\xff\xfea")
    os.mkfifo(tmp_path / "pipe.md")
    source = read_source(tmp_path)
    assert [item.key for item in source.items] == ["good.md"]
    problems = {file.path: file.problem for file in source.skipped}
    assert set(problems) == {"nul.md", "latin.md", "empty.md", "huge.md", "drawing.md", "half.md", "pipe.md"}
    assert "line 2" in problems["latin.md"]
    assert "NUL" in problems["nul.md"]


def test_utf_16_with_a_byte_order_mark_is_read_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "# Grüße\n".encode("utf-16"))
    (item,) = read_source(tmp_path).items
    assert item.body == "# Grüße\n"
    assert "UTF-16" in item.warnings[0]


def test_symbolic_links_are_never_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "private.md", "private")
    root = tmp_path / "notes"
    write(root / "a.md", "a")
    (root / "file.md").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    (root / "loop").symlink_to(root)
    source = read_source(root)
    assert [item.key for item in source.items] == ["a.md"]
    problems = {file.path: file.problem for file in source.skipped}
    assert "leads out" in problems["file.md"]
    assert "leads out" in problems["folder"]
    assert "loop" in problems


def test_hidden_and_dependency_folders_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "a")
    write(tmp_path / ".git" / "b.md", "b")
    write(tmp_path / "node_modules" / "c" / "README.md", "c")
    write(tmp_path / ".hidden.md", "d")
    assert [item.key for item in read_source(tmp_path).items] == ["a.md"]


def test_of_several_notes_of_one_name_the_nearest_then_the_shortest_path_is_meant(tmp_path: Path) -> None:
    write(tmp_path / "x" / "deep" / "Same.md", "far")
    write(tmp_path / "y" / "Same.md", "near")
    write(tmp_path / "y" / "a.md", "[[Same]]")
    write(tmp_path / "z" / "b.md", "[[same]] [[deep/Same]] [[../x/deep/Same]] [[/y/Same.md]]")
    items = by_key(read_source(tmp_path, kind="obsidian"))
    near, far = items["y/Same.md"].id, items["x/deep/Same.md"].id
    assert [link.id for link in items["y/a.md"].links] == [near]
    assert [link.id for link in items["z/b.md"].links] == [near, far]


def test_markdown_links_are_relative_and_web_addresses_are_not_links(tmp_path: Path) -> None:
    write(tmp_path / "a (b).md", "x")
    write(
        tmp_path / "sub" / "c.md",
        "[t](../a%20(b).md) [w](https://x.org/a.md) [m](mailto:a@b) [i](img.png)\n\n[r]: d.md",
    )
    write(tmp_path / "sub" / "d.md", "[^1]: Note, not a link\n\n[x](<../a (b).md>)")
    items = by_key(read_source(tmp_path))
    ids = {key: item.id for key, item in items.items()}
    assert [link.id for link in items["sub/c.md"].links] == [ids["a (b).md"], ids["sub/d.md"]]
    assert [link.id for link in items["sub/d.md"].links] == [ids["a (b).md"]]


def test_the_heading_is_the_title_only_where_it_can_be_one(tmp_path: Path) -> None:
    write(tmp_path / "one.md", "# The **only** [[x|heading]]\ntext")
    write(tmp_path / "sections.md", "# First\n\n# Second\n")
    write(tmp_path / "guide" / "README.md", "text first\n\n# Guide\n")
    write(tmp_path / "guide" / "index.md", "no heading")
    titles = {item.key: item.title for item in read_source(tmp_path).items}
    assert titles == {
        "one.md": "The only heading",
        "sections.md": "sections",
        "guide/README.md": "Guide",
        "guide/index.md": "guide index",
    }


def test_a_task_keeps_the_fields_that_fit_and_renames_those_that_do_not(tmp_path: Path) -> None:
    write(tmp_path / "t.md", "---\ntype: task\nstatus: someday\npriority: high\n---\nx")
    write(tmp_path / "s.md", "---\ntype: session\n---\nx")
    items = by_key(read_source(tmp_path))
    assert items["t.md"].type == "task"
    assert items["t.md"].fields == {"source_status": "someday", "priority": "high"}
    assert (items["s.md"].type, items["s.md"].fields) == ("note", {"source_type": "session"})


def test_links_and_tags_stay_within_what_a_memory_may_have(tmp_path: Path) -> None:
    for number in range(300):
        write(tmp_path / f"n{number}.md", "x")
    write(tmp_path / "all.md", " ".join(f"[[n{number}]] #tag{number}" for number in range(300)))
    item = by_key(read_source(tmp_path))["all.md"]
    assert (len(item.links), len(item.tags)) == (256, 64)
    assert "300 links" in item.warnings[0]


def test_a_memory_file_keeps_its_id_links_and_trust(tmp_path: Path) -> None:
    ident, other = "01K5AAAAAAAAAAAAAAAAAAAAAA", "01K5BBBBBBBBBBBBBBBBBBBBBB"
    text = (
        f"---\nid: {ident}\ntype: fact\ntitle: T\ncreated: 2024-01-02T03:04:05Z\nupdated: 2024-01-02T03:04:05Z\n"
        f"author: {{client: cli}}\ntrust: secret\nlinks:\n  - rel: supersedes\n    id: {other}\nmood: good\n---\nbody"
    )
    write(tmp_path / "a.md", text)
    write(tmp_path / "copy.md", text)
    first, second = read_source(tmp_path).items
    assert (first.id, first.trust, first.links) == (ident, Trust.SECRET, (Link("supersedes", other),))
    assert (first.fields, first.body) == ({"mood": "good"}, "body")
    assert second.id != ident
    assert "another file's" in second.warnings[0]


def test_progress_reaches_the_number_of_files(vault: Path) -> None:
    seen: list[tuple[int, int]] = []
    read_source(vault, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_a_missing_path_an_empty_folder_and_an_unknown_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_source(tmp_path / "nowhere")
    with pytest.raises(InvalidInput) as empty:
        detect_kind(tmp_path)
    assert set(empty.value.details["kinds"]) >= {"obsidian", "mcp-memory"}
    with pytest.raises(InvalidInput, match="notion"):
        read_source(tmp_path, kind="notion")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInput):
        detect_kind(write(tmp_path / "a.bin", b"\0"))


def test_a_project_folder_with_many_notes_is_not_guessed(tmp_path: Path) -> None:
    write(tmp_path / "CLAUDE.md", "rules")
    assert detect_kind(tmp_path) == "claude-code"
    for number in range(70):
        write(tmp_path / "docs" / f"{number}.md", "x")
    with pytest.raises(InvalidInput, match="Markdown"):
        detect_kind(tmp_path)


@pytest.mark.parametrize(
    "front",
    [
        "a: &x [1]\nb: [*x, *x]",
        "a: !!python/object/apply:os.system ['true']",
        "[" * 5000,
        "- " * 3000 + "x",
        "? [a]\n: b",
        "a: b: c: [",
        "\t- x",
        "plain words",
        "x: " + "y" * 40_000,
    ],
)
def test_hostile_front_matter_is_kept_as_text(front: str) -> None:
    text = f"---\n{front}\n---\nbody"
    split = split_front_matter(text)
    assert split.problem
    assert split.body in (text, "body")


@pytest.mark.parametrize(
    ("front", "fields"),
    [
        ('title: "one" is not "two": so', {"title": '"one" is not "two": so'}),
        ("aliases:\n  - @name\n  - `code`", {"aliases": ["@name", "`code`"]}),
        ("related: [[a]] [[b]]\nx: [1, 2]", {"related": "[[a]] [[b]]", "x": [1, 2]}),
        ("2021: a: b", {"2021": "a: b"}),
        ("\tindented: by a tab\nx: *", None),
    ],
)
def test_values_that_yaml_stumbles_over_are_read_as_text(front: str, fields: dict[str, object] | None) -> None:
    split = split_front_matter(f"---\n{front}\n---\nbody")
    assert split.problem
    assert split.fields == fields if fields else split.body in ("body", f"---\n{front}\n---\nbody")


def test_links_in_properties_are_found_quoted_or_not() -> None:
    fields = split_front_matter('---\na: [[X|y]]\nb: ["[[Z#h]]"]\nc:\n  - [[V]]\n---\n').fields
    assert [list(wiki_names_in(fields[name])) for name in "abc"] == [["X"], ["Z"], ["V"]]


def test_a_rule_at_the_top_is_no_front_matter() -> None:
    assert split_front_matter("---\nno end").body == "---\nno end"
    assert split_front_matter("----\na: b\n---\n").fields == {}
    assert split_front_matter("---\n---\nx").body == "x"


@pytest.mark.parametrize(
    ("text", "prose"),
    [
        ("a `b` c", "a     c"),
        ("a ``b ` c`` d", "a           d"),
        ("a ` b\n\nc ` d", "a ` b\n\nc ` d"),
        ("~~~\nx\n~~~\ny", "   \n \n   \ny"),
        ("> ```\n> x\n> ```\ny", "     \n   \n     \ny"),
        ("```\nnever closed", "   \n            "),
        ("a <!-- b\nc --> d", "a       \n      d"),
        ("\\`a` b`", "\\`a    "),
    ],
)
def test_code_and_comments_are_blanked_in_place(text: str, prose: str) -> None:
    assert without_code(text) == prose


def test_tags_are_words_with_a_letter_after_white_space() -> None:
    text = "#a #b/c #2024 #é-x #日本 a#no (#no) #x, # no ##no #1a [[x#no]] #end"
    assert list(inline_tags(text)) == ["a", "b/c", "é-x", "日本", "x", "1a", "end"]


def test_link_targets_are_bare_names_and_decoded_paths() -> None:
    text = "[[A|b]] [[C#d|e]] ![[F^g]] [[H\\|i]] [[#self]] [j](k%20l.md#m) [n](#o) [p](//q)"
    assert [target.name for target in link_targets(text)] == ["A", "C", "F", "H", "k l.md"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-05-06", "2024-05-06T00:00:00+00:00"),
        ("2024-05-06T07:08:09+02:00", "2024-05-06T05:08:09+00:00"),
        ("2024/05/06 07:08", "2024-05-06T07:08:00+00:00"),
        (20240506, "2024-05-06T00:00:00+00:00"),
        (1714979289, "2024-05-06T07:08:09+00:00"),
        ("1714979289000", "2024-05-06T07:08:09+00:00"),
        ("[[2024-05-06]]", "2024-05-06T00:00:00+00:00"),
        ("May 6, 2024", "2024-05-06T00:00:00+00:00"),
        ("05/06/2024", None),
        ("0001-01-01", None),
        ("9999-12-31T23:59:59-12:00", None),
        ("soon", None),
        (True, None),
        (["2024-05-06"], None),
        (10**30, None),
        (float("1e300"), None),
    ],
)
def test_times_of_front_matter(value: object, expected: str | None) -> None:
    moment = to_time(value)
    assert (moment and moment.isoformat()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "`" * 300_000,
        "` `` " * 60_000,
        "](" * 150_000,
        "](" + "(" * 200_000,
        "[[" * 150_000,
        "[a]: " * 60_000,
        "# " * 150_000,
        "#a" * 150_000,
        "<!--" * 80_000,
        "```\n" * 60_000,
        "> " * 150_000,
        "---\n" * 60_000,
        " " * 300_000 + "x",
        "a\n=" * 60_000,
    ],
    ids=range(14),
)
@pytest.mark.timeout(20)
def test_hostile_text_is_read_in_linear_time(text: str, tmp_path: Path) -> None:
    write(tmp_path / "a.md", "x\n" + text)
    (item,) = read_source(tmp_path, kind="markdown").items
    assert item.body.endswith(text)
