"""Import into a real store and export out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import InvalidInput, NotFound, Trust
from adaptive_llm_gateway.memory import (
    AppendSession,
    DeleteMemory,
    Filters,
    Link,
    export_memories,
    import_memories,
)

TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    folder = tmp_path / "garden"
    (folder / ".obsidian").mkdir(parents=True)
    (folder / "deep").mkdir()
    (folder / "Walrus.md").write_text("# Walrus\n\nSee [[Seal]]. #sea\n", encoding="utf-8")
    (folder / "deep" / "Seal.md").write_bytes(b"---\ntags: [animal]\nmood: good\n---\r\nBarks.\r\n")
    (folder / "Plan.md").write_text("---\ntype: task\nstatus: open\n---\nBuy fish.\n", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def test_a_vault_is_imported_once_and_the_second_time_changes_nothing(bench: Any, vault: Path) -> None:
    store = bench.open()
    steps: list[tuple[int, int]] = []
    report = import_memories(store, vault, author=bench.me, on_progress=lambda now, of: steps.append((now, of)))
    assert (report.kind, report.created, report.failed) == ("obsidian", 3, ())
    assert steps[-1] == (3, 3)
    records = {record.title: record for record in store.records()}
    assert records.keys() == {"Walrus", "Seal", "Plan"}
    assert records["Walrus"].links == (Link("links_to", records["Seal"].id),)
    assert records["Walrus"].tags == ("sea",)
    assert records["Seal"].body == "Barks.\r\n"
    assert records["Seal"].fields["mood"] == "good"
    assert records["Plan"].type == "task"
    assert "import of" in bench.git(store, "log", "-1", "--format=%B")
    bench.tidy(store)
    head = store.repo.head()
    again = import_memories(store, vault, author=bench.me)
    assert (again.created, again.updated, again.unchanged) == (0, 0, 3)
    assert store.repo.head() == head
    bench.tidy(store)


def test_what_changed_in_the_source_is_updated_and_what_changed_here_is_kept(bench: Any, vault: Path) -> None:
    store = bench.open()
    import_memories(store, vault, author=bench.me)
    records = {record.title: record for record in store.records()}
    bench.update(store, records["Seal"].id, body="Edited here.\n")
    store.write(DeleteMemory(bench.me, records["Plan"].id))
    (vault / "Walrus.md").write_text("# Walrus\n\nSee [[Seal]]. Also whistles. #sea\n", encoding="utf-8")
    (vault / "deep" / "Seal.md").write_text("Barks loudly.\n", encoding="utf-8")
    (vault / "Plan.md").write_text("Buy more fish.\n", encoding="utf-8")
    report = import_memories(store, vault, author=bench.me)
    assert (report.created, report.updated) == (0, 1)
    assert len(report.kept) == 2
    assert "whistles" in store.read(records["Walrus"].id).record.body
    assert store.read(records["Seal"].id).record.body == "Edited here.\n"
    assert store.record(records["Plan"].id) is None
    over = import_memories(store, vault, author=bench.me, overwrite=True)
    assert over.kept == ()
    assert over.failed == ()
    assert store.read(records["Seal"].id).record.body == "Barks loudly.\n"
    assert store.record(records["Plan"].id) is not None
    bench.tidy(store)


def test_a_dry_run_says_what_would_happen_and_writes_nothing(bench: Any, vault: Path) -> None:
    (vault / "Login.md").write_text(f"the token is {TOKEN}\n", encoding="utf-8")
    store = bench.open()
    head = store.repo.head()
    before = sorted(store.repo.path.rglob("*"))
    dry = import_memories(store, vault, author=bench.me, dry_run=True)
    assert dry.dry_run
    assert (dry.created, len(dry.failed)) == (3, 1)
    assert store.repo.head() == head
    assert store.status().memories == 0
    assert [path for path in sorted(store.repo.path.rglob("*")) if ".git" not in path.parts] == [
        path for path in before if ".git" not in path.parts
    ]
    told = import_memories(store, vault, author=bench.me, dry_run=True, redact=True)
    assert (told.created, told.failed, len(told.redacted)) == (4, (), 1)
    real = import_memories(store, vault, author=bench.me)
    assert (real.created, real.failed[0][0]) == (dry.created, dry.failed[0][0])


def test_an_item_with_a_secret_is_refused_and_named_and_the_rest_comes_in(bench: Any, vault: Path) -> None:
    (vault / "Login.md").write_text(f"the token is {TOKEN}\n", encoding="utf-8")
    store = bench.open()
    report = import_memories(store, vault, author=bench.me)
    assert report.created == 3
    ((key, problem),) = report.failed
    assert "Login" in key
    assert "secret" in problem
    assert TOKEN not in report.render() + str(report.as_dict())
    assert TOKEN not in bench.git(store, "log", "-p")
    redacted = import_memories(store, vault, author=bench.me, redact=True)
    assert (redacted.created, redacted.failed) == (1, ())
    (item,) = redacted.as_dict()["redacted"]
    assert (item["where"], item["line"], item["kind"]) == ("body", 1, "github-token")
    assert item["mark"] in redacted.render()
    assert "Login" in item["path"]
    assert TOKEN not in redacted.render() + str(redacted.as_dict())
    assert any("[redacted:" in record.body for record in store.records())
    assert TOKEN not in bench.git(store, "log", "-p")
    bench.tidy(store)


def test_an_import_does_not_write_over_a_file_that_is_no_valid_memory(bench: Any, vault: Path) -> None:
    store = bench.open()
    import_memories(store, vault, author=bench.me)
    (record,) = [record for record in store.records() if record.title == "Walrus"]
    file = store.repo.path / record.path
    file.write_text("---\ntitle: [\n---\nmy careful edit\n", encoding="utf-8")
    store.reindex()
    report = import_memories(store, vault, author=bench.me)
    ((_, problem),) = report.failed
    assert record.path in problem
    assert "careful" in file.read_text(encoding="utf-8")


def test_what_was_exported_comes_into_a_new_store_as_it_was(bench: Any, tmp_path: Path) -> None:
    store = bench.open()
    one = bench.write(store, "One", body="1\r\nno end", tags=("a", "b"), project="p", trust=Trust.PUBLIC, source="s")
    bench.write(store, "Two", type="decision", fields={"rationale": "so"}, links=(Link("supersedes", one.id),))
    store.write(AppendSession(bench.me, "began"))
    exported = export_memories(store, tmp_path / "out")
    assert exported.written == 3
    other = bench.open("two")
    report = import_memories(other, tmp_path / "out", author=bench.me)
    assert report.failed == ()
    ours = {record.title: record for record in store.records()}
    theirs = {record.title: record for record in other.records()}
    assert theirs.keys() == ours.keys()
    for title in ("One", "Two"):
        for name in ("type", "body", "tags", "project", "trust", "created", "updated"):
            assert getattr(theirs[title], name) == getattr(ours[title], name), (title, name)
    assert [link.rel for link in theirs["Two"].links] == ["supersedes"]
    assert theirs["Two"].fields["rationale"] == "so"
    bench.tidy(other)


@pytest.mark.parametrize("format_", ["markdown", "jsonl", "mcp-memory"])
def test_an_export_takes_what_the_filters_let_through(bench: Any, tmp_path: Path, format_: Any) -> None:
    store = bench.open()
    bench.write(store, "Wanted", project="p")
    bench.write(store, "Not wanted", project="q")
    out = tmp_path / "out"
    report = export_memories(store, out, format=format_, filters=Filters(project="p"))
    assert report.written == 1
    files = [path for path in ([out] if out.is_file() else out.rglob("*")) if path.is_file()]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert "Wanted" in text
    assert "Not wanted" not in text


def test_an_export_goes_neither_into_the_repo_nor_into_an_unknown_format(bench: Any, tmp_path: Path) -> None:
    store = bench.open()
    bench.write(store, "One")
    (tmp_path / "way").symlink_to(store.repo.path)
    for destination in (store.repo.path / "out", tmp_path / "way" / "out", store.repo.path):
        with pytest.raises(InvalidInput, match="memory repo"):
            export_memories(store, destination)
    with pytest.raises(InvalidInput, match="'pdf'"):
        export_memories(store, tmp_path / "out", format="pdf")  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "out").exists()
    bench.tidy(store)


def test_nothing_to_import_is_named(bench: Any, tmp_path: Path) -> None:
    store = bench.open()
    with pytest.raises(NotFound, match="nowhere"):
        import_memories(store, tmp_path / "nowhere", author=bench.me)
    with pytest.raises(InvalidInput):
        import_memories(store, tmp_path / "user", author=bench.me)
