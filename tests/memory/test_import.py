"""The plan of an import, its report, and the readers of what other programs remember."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import InvalidInput, SecretRefused
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._import import (
    IMPORT_HASH,
    ExistingMemory,
    ImportItem,
    ImportReport,
    ImportSource,
    SkippedFile,
    clean_rel,
    clean_tags,
    clean_title,
    detect_kind,
    item_id,
    plan_import,
    read_source,
)
from adaptive_llm_gateway.memory._import_claude import SPLIT_ABOVE
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Author, Link

DATA = Path(__file__).parent.parent / "data" / "import"
WHEN = datetime(2024, 1, 2, tzinfo=UTC)


def an_item(key: str = "a.md", body: str = "one\ntwo\n", **more: object) -> ImportItem:
    item = ImportItem(
        key=key,
        id=item_id("folder", "garden", key),
        type="note",
        title="A",
        body=body,
        created=WHEN,
        updated=WHEN,
        source=f"markdown:garden/{key}",
    )
    return replace(item, **more)  # pyright: ignore[reportArgumentType]


def stored(item: ImportItem) -> ExistingMemory:
    return ExistingMemory("v1", item.content_hash, item.content_hash, item.body)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def by_key(source: ImportSource) -> dict[str, ImportItem]:
    return {item.key: item for item in source.items}


# --- The plan ------------------------------------------------------------------------------------------


def test_what_is_not_there_is_created() -> None:
    plan = plan_import([an_item()], lambda _: None)
    assert [item.key for item in plan.creates] == ["a.md"]


def test_the_same_source_again_changes_nothing() -> None:
    item = an_item()
    plan = plan_import([replace(item, updated=datetime(2025, 1, 1, tzinfo=UTC))], lambda _: stored(item))
    assert plan.unchanged
    assert not plan.creates + plan.kept
    assert not plan.updates


def test_a_changed_source_updates_a_memory_that_was_not_edited_here() -> None:
    item = an_item()
    plan = plan_import([replace(item, body="one\nthree\n")], lambda _: stored(item))
    assert [(update.item.body, update.version) for update in plan.updates] == [("one\nthree\n", "v1")]


def test_an_edit_made_here_is_kept_unless_overwritten() -> None:
    item = an_item()
    edited = replace(stored(item), content_hash="other")
    changed = replace(item, body="one\nthree\n")
    assert plan_import([item], lambda _: edited).unchanged == (item,)
    assert "edited here" in plan_import([changed], lambda _: edited).kept[0].reason
    assert plan_import([changed], lambda _: edited, overwrite=True).updates
    assert plan_import([item], lambda _: edited, overwrite=True).updates


def test_an_edit_made_here_that_says_what_the_source_says_is_unchanged() -> None:
    item = an_item()
    changed = replace(item, body="one\nthree\n")
    agreeing = replace(stored(item), content_hash=changed.content_hash)
    assert plan_import([changed], lambda _: agreeing).unchanged == (changed,)


def test_a_memory_deleted_here_stays_deleted_unless_overwritten() -> None:
    item = an_item()
    deleted = replace(stored(item), deleted=True)
    assert "deleted" in plan_import([item], lambda _: deleted).kept[0].reason
    assert plan_import([item], lambda _: deleted, overwrite=True).updates


def test_a_memory_written_here_is_never_taken_for_an_import() -> None:
    own = ExistingMemory("v1", "other")
    assert "written here" in plan_import([an_item()], lambda _: own).kept[0].reason


def test_another_source_of_the_same_name_does_not_overwrite_the_first() -> None:
    item = an_item()
    plan = plan_import([replace(item, body="quite\nother\n")], lambda _: stored(item))
    assert "name of its own" in plan.kept[0].reason


def test_two_items_of_one_id_are_not_both_imported() -> None:
    item = an_item()
    plan = plan_import([item, item], lambda _: None, skipped=[SkippedFile("x", "y")])
    assert len(plan.creates) == 1
    assert [file.path for file in plan.skipped] == ["x", "a.md"]


@pytest.mark.parametrize("memory_type", ["note", "fact", "preference", "decision", "task"])
def test_what_the_store_makes_of_an_item_hashes_as_the_item(memory_type: str) -> None:
    item = an_item(
        type=memory_type,
        tags=("b", "a"),
        links=(Link("links_to", item_id("folder", "garden", "b.md")),),
        project="p",
        fields={"aliases": ["x", 1], "empty": [], "nested": {"a": 1.5, "b": None}, "on": True},
    )
    types = TypeRegistry()
    fields = item.stored_fields()
    front = types.from_call(
        type=item.type,
        title=item.title,
        body=item.body,
        id=item.id,
        created=item.created,
        updated=item.updated,
        author=Author("import"),
        project=item.project,
        tags=item.tags,
        links=item.links,
        source=item.source,
    )
    document = Document.parse(Document.new({**front, **fields}, item.body).render())
    record = types.to_record(document, path="notes/a.md", version="v", mtime_ns=0, size=1)
    existing = ExistingMemory.from_record(record)
    assert existing.import_hash == item.content_hash == existing.content_hash
    assert record.fields[IMPORT_HASH] == item.content_hash


def test_every_real_sample_hashes_the_same_after_a_round_through_a_file() -> None:
    types = TypeRegistry()
    for path in (DATA / "vault", DATA / "basic", DATA / "graph" / "memory.jsonl"):
        for item in read_source(path).items:
            front = types.from_call(
                type=item.type,
                title=item.title,
                body=item.body,
                id=item.id,
                created=item.created,
                updated=item.updated,
                author=Author("import"),
                tags=item.tags,
                links=item.links,
                source=item.source,
            )
            document = Document.parse(Document.new({**front, **item.stored_fields()}, item.body).render())
            record = types.to_record(document, path="notes/n.md", version="v", mtime_ns=0, size=1)
            plan = plan_import([item], lambda _, record=record: ExistingMemory.from_record(record))
            assert ExistingMemory.from_record(record).content_hash == item.content_hash
            assert plan.unchanged == (item,)
            assert document.body == item.body


# --- The report ------------------------------------------------------------------------------------------


def test_a_report_counts_lists_and_says_when_it_was_a_dry_run() -> None:
    good, bad = an_item(), an_item("b.md", warnings=("odd",))
    source = ImportSource("obsidian", "garden", (good, bad), (SkippedFile("c.md", "is empty"),), attachments=2)
    plan = plan_import(source.items, lambda _: None, skipped=source.skipped)
    dry = ImportReport.build(source, plan, dry_run=True)
    assert (dry.created, dry.warnings) == (2, (("b.md", "odd"),))
    assert "would be created" in dry.render()
    assert "c.md: is empty" in dry.render()
    done = ImportReport.build(source, plan, failed={bad.id: SecretRefused("carries a key")})
    assert (done.created, done.failed, done.warnings) == (1, (("b.md", "carries a key"),), ())
    assert json.loads(json.dumps(done.as_dict()))["failed"] == [{"path": "b.md", "problem": "carries a key"}]


def test_a_long_report_says_how_much_it_leaves_out() -> None:
    source = ImportSource("markdown", "x", (), tuple(SkippedFile(f"{number}.md", "is empty") for number in range(30)))
    report = ImportReport.build(source, plan_import((), lambda _: None, skipped=source.skipped))
    assert "... and 20 more" in report.render()


# --- Names ------------------------------------------------------------------------------------------------


@given(st.text(max_size=300))
def test_titles_relations_and_tags_are_always_acceptable(text: str) -> None:
    TypeRegistry().from_call(
        type="note",
        title=clean_title(text),
        body="",
        id=item_id("f", "n", text),
        created=WHEN,
        updated=WHEN,
        author=Author("import"),
        tags=clean_tags([text]),
        links=[Link(clean_rel(text), item_id("f", "n", "other"))],
    )


def test_relation_names_are_written_one_way() -> None:
    assert [clean_rel(name) for name in ("Depends on", "depends-on", "DEPENDS_ON")] == ["depends_on"] * 3
    assert clean_rel(" - ") == "relates_to"


# --- basic-memory -------------------------------------------------------------------------------------------


def test_basic_memory_is_told_by_its_permalinks_and_its_relations_keep_their_types() -> None:
    source = read_source(DATA / "basic")
    assert source.kind == "basic-memory"
    items = by_key(source)
    mint, thyme, cress = (items[key] for key in ("plants/mint", "plants/thyme", "water-cress"))
    assert mint.links == (
        Link("grows_near", cress.id),
        Link("competes_with", thyme.id),
        Link("relates_to", thyme.id),
        Link("links_to", thyme.id),
    )
    assert thyme.links == (Link("links_to", mint.id),)
    assert (mint.title, mint.tags) == ("Mint", ("herb", "water", "invasive"))
    assert thyme.fields == {"permalink": "plants/thyme", "source_type": "Person"}
    assert source.unresolved_links == 1


def test_a_basic_memory_note_keeps_its_id_when_its_file_moves(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DATA / "basic", tmp_path / "basic"))
    before = by_key(read_source(folder))["plants/mint"].id
    (folder / "plants" / "Mint.md").rename(folder / "Renamed.md")
    assert by_key(read_source(folder))["plants/mint"].id == before


# --- The official memory server -------------------------------------------------------------------------------


def test_the_official_servers_graph_becomes_notes_with_links() -> None:
    source = read_source(DATA / "graph" / "memory.jsonl")
    assert source.kind == "mcp-memory"
    ada, engine = by_key(source)["Ada"], by_key(source)["Engine"]
    assert ada.body == "- likes engines\n- two\n  lines\n- a third\n"
    assert ada.links == (Link("works_on", engine.id),)
    assert (ada.type, ada.fields, ada.tags) == ("note", {"entity_type": "person"}, ("person",))
    assert (engine.type, engine.body, engine.created) == (
        "preference",
        "- has wheels\n",
        datetime(2024, 1, 1, 10, tzinfo=UTC),
    )
    assert "line 7" in ada.warnings[0]


def test_broken_lines_are_named_by_number() -> None:
    source = read_source(DATA / "graph" / "memory.jsonl")
    assert sorted(file.path for file in source.skipped) == [f"memory.jsonl:{line}" for line in (3, 5, 6, 8, 9)]


def test_a_graph_as_one_object_is_read_too(tmp_path: Path) -> None:
    graph = {
        "entities": [{"name": "a", "entityType": "t", "observations": ["x"]}, {"name": "b"}, 7],
        "relations": [{"from": "a", "to": "b", "relationType": "knows"}],
    }
    path = write(tmp_path / "graph.json", json.dumps(graph, indent=1))
    source = read_source(path)
    assert [item.key for item in source.items] == ["a", "b"]
    assert source.items[0].links == (Link("knows", source.items[1].id),)
    assert len(source.skipped) == 1


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"type":"entity","name":"\\ud800"}', '{"type":"entity","name":[]}', "1e999"]
)
def test_hostile_graph_lines_do_no_harm(line: str, tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.jsonl", '{"type":"entity","name":"a","entityType":"t","observations":[]}\n' + line + "\n"
    )
    items = read_source(path).items
    assert items[0].key == "a"
    for item in items:
        item.title.encode()


# --- Claude Code ------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "shop"
    write(root / "CLAUDE.md", "# Shop\n\nSee @docs/style.md and @../secret.md, ask @someone. `@docs/no.md`\n")
    write(root / "docs" / "style.md", "Tabs. Also @more.md\n")
    write(root / "docs" / "more.md", "More.\n")
    write(root / "docs" / "no.md", "no")
    write(tmp_path / "secret.md", "secret")
    write(root / "CLAUDE.local.md", "My sandbox.\n")
    write(root / ".claude" / "rules" / "api" / "http.md", "---\npaths:\n  - src/**\n---\n# HTTP\nUse PUT.\n")
    write(root / "src" / "CLAUDE.md", "Here be code.\n")
    write(root / ".claude" / "settings.json", "{}")
    return root


def test_a_projects_memory_files_become_preferences(project: Path) -> None:
    source = read_source(project)
    assert source.kind == "claude-code"
    items = by_key(source)
    assert set(items) == {
        "CLAUDE.md",
        "CLAUDE.local.md",
        "src/CLAUDE.md",
        ".claude/rules/api/http.md",
        "docs/style.md",
        "docs/more.md",
    }
    assert {item.type for item in items.values()} == {"preference"}
    assert {item.project for item in items.values()} == {"shop"}
    assert items[".claude/rules/api/http.md"].fields == {"paths": ["src/**"]}
    assert items[".claude/rules/api/http.md"].title == "HTTP"
    assert items["src/CLAUDE.md"].title == "CLAUDE.md of shop"


def test_imports_are_followed_inside_the_folder_only(project: Path) -> None:
    items = by_key(read_source(project))
    assert items["CLAUDE.md"].links == (Link("imports", items["docs/style.md"].id),)
    assert items["docs/style.md"].links == (Link("imports", items["docs/more.md"].id),)
    assert items["CLAUDE.md"].warnings == ("@../secret.md leads out of the folder; not followed",)


def test_a_memory_file_that_links_to_its_neighbour_is_read_and_one_that_leads_out_is_not(tmp_path: Path) -> None:
    root = tmp_path / "app"
    write(root / "AGENTS.md", "agents\n")
    (root / "CLAUDE.md").symlink_to("AGENTS.md")
    write(tmp_path / "other.md", "other")
    (root / "CLAUDE.local.md").symlink_to(tmp_path / "other.md")
    source = read_source(root)
    assert [(item.key, item.body) for item in source.items] == [("CLAUDE.md", "agents\n")]
    assert [file.path for file in source.skipped] == ["CLAUDE.local.md"]


def test_a_large_memory_file_is_taken_apart_at_its_sections_and_nothing_is_lost(tmp_path: Path) -> None:
    body = "# All\n\nIntro.\n\n## One\n" + "x\n" * SPLIT_ABOVE + "```\n## not one\n```\n## Two\ny\n## One\nz"
    write(tmp_path / "app" / "CLAUDE.md", body)
    items = read_source(tmp_path / "app").items
    assert [item.key for item in items] == ["CLAUDE.md", "CLAUDE.md#one", "CLAUDE.md#two", "CLAUDE.md#one-2"]
    assert "".join(item.body for item in items) == body
    assert items[1].links == (Link("part_of", items[0].id),)
    assert items[1].title == "One"


def test_auto_memory_is_typed_linked_and_its_bare_index_left_out(tmp_path: Path) -> None:
    memory = tmp_path / ".claude" / "projects" / "-home-jo-work-app" / "memory"
    write(memory / "MEMORY.md", "# Memory\n- [Tests](tests.md) — how to run\n- [Jo](user_jo.md) — who\n")
    write(
        memory / "tests.md",
        "---\nname: run-tests\ndescription: how\nmetadata:\n  type: feedback\n---\nUse make. [[jo]]\n",
    )
    write(memory / "user_jo.md", "---\nname: jo\ntype: user\n---\nKnows C.\n")
    source = read_source(memory)
    items = {item.key.rpartition("/")[2]: item for item in source.items}
    assert {name: item.type for name, item in items.items()} == {"tests.md": "preference", "user_jo.md": "fact"}
    assert items["tests.md"].links == (Link("links_to", items["user_jo.md"].id),)
    assert items["tests.md"].fields["description"] == "how"
    assert items["tests.md"].project == "work-app"
    assert [file.problem for file in source.skipped] == ["only lists the other files"]


def test_the_users_folder_has_everything_under_the_same_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    claude = tmp_path / ".claude"
    write(claude / "CLAUDE.md", "Be brief.\n")
    write(claude / "rules" / "git.md", "Small commits.\n")
    write(claude / "agent-memory" / "reviewer" / "MEMORY.md", "Looks at tests first.\n")
    write(claude / "commands" / "x.md", "not memory")
    memory = claude / "projects" / "-srv-app" / "memory"
    write(memory / "MEMORY.md", "Uses make.\n")
    source = read_source(claude)
    assert set(by_key(source)) == {
        "user/CLAUDE.md",
        "user/rules/git.md",
        "auto/srv-app/MEMORY.md",
        "agent-memory/reviewer/MEMORY.md",
    }
    assert by_key(source)["user/CLAUDE.md"].project is None
    (alone,) = read_source(memory).items
    assert alone.id == by_key(source)["auto/srv-app/MEMORY.md"].id
    (single,) = read_source(claude / "CLAUDE.md").items
    assert single.id == by_key(source)["user/CLAUDE.md"].id


def test_a_users_memory_file_kept_among_dotfiles_is_read_when_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "dotfiles" / "claude.md", "Be brief.\n")
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "CLAUDE.md").symlink_to(tmp_path / "dotfiles" / "claude.md")
    assert [file.path for file in read_source(tmp_path / ".claude").skipped] == ["user/CLAUDE.md"]
    (item,) = read_source(tmp_path / ".claude" / "CLAUDE.md").items
    assert (item.key, item.body) == ("user/CLAUDE.md", "Be brief.\n")


def test_a_folder_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no memory of Claude Code"):
        read_source(tmp_path, kind="claude-code")


def test_a_projects_own_name_wins_over_the_folders(project: Path) -> None:
    assert {item.project for item in read_source(project, project="other").items} == {"other"}
    assert detect_kind(project / "CLAUDE.md") == "claude-code"
