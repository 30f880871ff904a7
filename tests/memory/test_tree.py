"""The working tree: which files are memories; and, for any sequence of changes, files, index and git that agree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from adaptive_llm_gateway.core import SecretScanner
from adaptive_llm_gateway.memory import (
    AppendSession,
    Author,
    DeleteMemory,
    MemoryStore,
    RestoreMemory,
    Skipped,
    TypeRegistry,
    WriteMemory,
)
from adaptive_llm_gateway.memory._tree import Stat, compare, differing, is_memory_path, load, scan
from adaptive_llm_gateway.memory.testing import temporary_store

ME = Author("test-client")
TYPES = TypeRegistry()


@pytest.mark.parametrize(
    ("path", "memory"),
    [
        ("notes/a.md", True),
        ("notes/2026/11/a.md", True),
        ("facts/ü b.md", True),
        ("a.md", False),
        ("notes", False),
        ("notes/a.txt", False),
        ("notes/a.MD", False),
        ("notes/.a.md", False),
        ("notes/.obsidian/a.md", False),
        ("other/a.md", False),
        ("types/a.md", False),
        (".git/notes/a.md", False),
        ("Notes/a.md", False),
    ],
)
def test_a_memory_is_a_markdown_file_in_a_types_folder(path: str, memory: bool) -> None:
    assert is_memory_path(path, TYPES) is memory


def test_a_scan_finds_what_is_a_memory_path_and_reports_links(tmp_path: Path) -> None:
    for path in ("notes/a.md", "notes/x/b.md", "notes/.h/c.md", "notes/d.txt", "other/e.md", "facts/f.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"12345")
    (tmp_path / "notes" / "link.md").symlink_to(tmp_path / "other" / "e.md")
    (tmp_path / "notes" / "folder.md").mkdir()
    os.mkfifo(tmp_path / "notes" / "pipe.md")
    with open(os.fsencode(tmp_path / "notes") + b"/\xff.md", "wb"):  # noqa: PTH123 - the name is not Unicode
        pass
    reported: list[Skipped] = []
    found = scan(tmp_path, TYPES, skip=reported.append)
    assert found.keys() == {"notes/a.md", "notes/x/b.md", "facts/f.md"}
    assert all(stat.size == 5 for stat in found.values())
    assert all(is_memory_path(path, TYPES) for path in found)
    assert len(reported) == 2
    assert any("symbolic link" in item.problem for item in reported)
    assert any("Unicode" in item.problem for item in reported)
    for item in reported:
        item.path.encode()


def test_what_differs_is_new_changed_or_gone() -> None:
    on_disk = {"same": Stat(1, 1), "time": Stat(2, 1), "size": Stat(1, 2), "new": Stat(1, 1)}
    names = ["same", "time", "size", "gone"]
    indexed: dict[str, tuple[int, int, str, str]] = dict.fromkeys(names, (1, 1, "v", "i"))
    found = compare(on_disk, indexed)
    assert found.changed == ("new", "size", "time")
    assert found.gone == ("gone",)


def test_a_file_that_is_gone_by_now_is_none(tmp_path: Path) -> None:
    assert load(tmp_path, "notes/a.md", TYPES, SecretScanner(), author=ME) is None


# --- any sequence of changes -------------------------------------------------------------------------


class Agreement(RuleBasedStateMachine):
    """Files == index == git's HEAD after whatever clients, editors and the upkeep do."""

    memories = Bundle("memories")
    deleted = Bundle("deleted")
    titles = st.text(min_size=1, max_size=20).map(str.strip).filter(lambda text: text != "" and text.isprintable())
    bodies = st.sampled_from(["", "one\n", "two\r\n", "# three\n\nlong " + "x" * 500, "no end", "ünï\n", "---\n"])

    def __init__(self) -> None:
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.expected: dict[str, str] = {}
        self.store: MemoryStore
        self.open()

    def open(self) -> None:
        self.store = self.stack.enter_context(temporary_store(self.folder))

    def teardown(self) -> None:
        self.stack.close()

    def file(self, identifier: str) -> Path:
        record = self.store.record(identifier)
        assert record is not None
        return self.store.repo.path / record.path

    def look(self, *paths: str) -> None:
        self.store._edited(set(paths) or {""})  # pyright: ignore[reportPrivateUsage]
        assert self.store.flush()

    @rule(target=memories, title=titles, body=bodies)
    def write(self, title: str, body: str) -> str:
        done = self.store.write(WriteMemory(ME, title=title, body=body))
        self.expected[done.id] = body
        return done.id

    @rule(identifier=memories, body=bodies)
    def update(self, identifier: str, body: str) -> None:
        if identifier in self.expected:
            self.store.write(WriteMemory(ME, id=identifier, body=body, tags=("t",)))
            self.expected[identifier] = body

    @rule(target=deleted, identifier=consumes(memories))
    def delete(self, identifier: str) -> str:
        if identifier in self.expected:
            self.store.write(DeleteMemory(ME, identifier))
        return identifier

    @rule(target=memories, identifier=consumes(deleted))
    def restore(self, identifier: str) -> str:
        if identifier in self.expected and self.store.record(identifier) is None:
            self.store.write(RestoreMemory(ME, identifier))
        return identifier

    @rule(target=memories)
    def session(self) -> str:
        done = self.store.write(AppendSession(ME, "began"))
        record = self.store.record(done.id)
        assert record is not None
        self.expected[done.id] = record.body
        return done.id

    @rule(identifier=memories, body=bodies, noticed=st.booleans())
    def edit_by_hand(self, identifier: str, body: str, noticed: bool) -> None:
        file = self.file(identifier)
        text = file.read_bytes().decode()
        file.write_bytes((text[: len(text) - len(self.expected[identifier])] + body).encode())
        self.expected[identifier] = body
        if noticed:
            self.look(file.relative_to(self.store.repo.path).as_posix())

    @rule(identifier=memories, number=st.integers(0, 5), noticed=st.booleans())
    def move_by_hand(self, identifier: str, number: int, noticed: bool) -> None:
        file = self.file(identifier)
        new = self.store.repo.path / "notes" / f"moved-{number}.md"
        if not new.exists():
            new.parent.mkdir(exist_ok=True)
            file.rename(new)
            paths = [path.relative_to(self.store.repo.path).as_posix() for path in (file, new)]
            self.look(*(paths if noticed else ()))

    @rule(identifier=memories)
    def copy_by_hand_and_take_it_back(self, identifier: str) -> None:
        copy = self.store.repo.path / "notes" / "copy.md"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(self.file(identifier).read_bytes())
        self.look("notes/copy.md")
        copy.unlink()
        self.look("notes/copy.md")

    @rule(target=deleted, identifier=consumes(memories))
    def delete_by_hand(self, identifier: str) -> str:
        file = self.file(identifier)
        self.look()  # what was edited before is known
        file.unlink()
        self.look(file.relative_to(self.store.repo.path).as_posix())
        return identifier

    @rule()
    def reindex(self) -> None:
        assert self.store.reindex().skipped == ()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.open()

    @invariant()
    def everything_agrees(self) -> None:
        self.look()
        root = self.store.repo.path
        on_disk = {
            path.relative_to(root).as_posix(): self.store.repo.blob_id(path.read_bytes())
            for path in root.rglob("*.md")
            if ".git" not in path.parts
        }
        records = list(self.store.records())
        assert {record.path: record.version for record in records} == on_disk
        assert {path: blob for path, blob in self.store.repo.tree_files().items() if path.endswith(".md")} == on_disk
        for record in records:
            assert record.body == self.expected[record.id]
        gone = {stone.id for stone in self.store.deleted(limit=1000)}
        assert gone.isdisjoint(record.id for record in records)
        assert gone | {record.id for record in records} == self.expected.keys()
        assert self.store.status().skipped == ()


Agreement.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
test_files_index_and_git_agree_whatever_happens: Any = Agreement.TestCase


def test_git_finds_nothing_wrong_with_a_repo_of_ours(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    bench.update(store, made.id, body="two\n")
    store.write(DeleteMemory(ME, made.id))
    store.close()
    done = subprocess.run(
        ["git", "-C", str(store.repo.path), "fsck", "--strict", "--no-dangling"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_differs_is_told_alike_whether_files_are_listed_first_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "notes" / "2026"
    folder.mkdir(parents=True)
    for name in ("same", "time", "size", "new", "ünew"):
        (folder / f"{name}.md").write_text(name, "utf-8")
    (folder / "link.md").symlink_to("same.md")
    reported: list[Skipped] = []
    on_disk = scan(tmp_path, TYPES, skip=reported.append)
    indexed = {path: (stat.mtime_ns, stat.size, "v", "i") for path, stat in on_disk.items() if "new" not in path}
    indexed["notes/2026/gone.md"] = (1, 1, "v", "i")
    os.utime(folder / "time.md", ns=(1, 1))
    (folder / "size.md").write_text("another size", "utf-8")
    again: list[Skipped] = []
    found = differing(tmp_path, TYPES, indexed, skip=again.append)
    assert found == compare(scan(tmp_path, TYPES, skip=lambda _: None), indexed)
    assert found.changed == tuple(f"notes/2026/{name}.md" for name in ("new", "size", "time", "ünew"))
    assert found.gone == ("notes/2026/gone.md",)
    assert [item.path for item in again] == [item.path for item in reported] == ["notes/2026/link.md"]
