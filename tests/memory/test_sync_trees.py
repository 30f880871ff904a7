"""Pulls of whole trees with real git: files and folders in each other's way, names that collide, crossing merges."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from adaptive_llm_gateway.memory._commit_message import merge_message
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync import Sync
from adaptive_llm_gateway.memory._values import Author, Change

AUTHOR = Author("claude-code", host="laptop")
PATH = "notes/2026/11/t-00000001.md"
EARLY, LATE = "2026-11-20T10:00:00Z", "2026-11-20T12:00:00Z"


def git(cwd: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True, encoding="utf-8", timeout=60
    )
    return done.stdout


def memory(body: str, *, number: int = 1, updated: str = EARLY, **fields: object) -> bytes:
    common: dict[str, object] = {"id": f"01JD{number:022d}", "type": "note", "title": "T", "created": EARLY}
    return Document.new({**common, "updated": updated, **fields}, body).render()


class Clone:
    def __init__(self, root: Path, remote: Path) -> None:
        self.repo, self.root = MemoryRepo.open(root), root
        self.sync = Sync(self.repo, scan=lambda _path, _data: None, timeout=30)
        self.sync.remote.set_url(str(remote))

    def put(self, files: dict[str, bytes | None]) -> None:
        changes: list[Change] = []
        for path, data in files.items():
            target = self.root / path
            if data is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            changes.append(Change(path, data, "write", "", "t", AUTHOR))
        self.repo.commit(changes)

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and not path.relative_to(self.root).parts[0].startswith(".")
        }

    def tree(self) -> str:
        return git(self.root, "rev-parse", "HEAD^{tree}")


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Clone, Clone]:
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    one, two = (Clone(tmp_path / name, tmp_path / "remote.git") for name in ("one", "two"))
    one.put({PATH: memory("text\n")})
    one.sync.push()
    two.sync.pull()
    return one, two


def synced(one: Clone, two: Clone) -> dict[str, bytes]:
    """What both have after they pulled each other's changes."""
    one.sync.push()
    two.sync.push()
    one.sync.pull()
    assert one.files() == two.files()
    assert git(one.root, "status", "--porcelain") == git(two.root, "status", "--porcelain") == ""
    return one.files()


# --- in each other's way ------------------------------------------------------------------------------------


def test_a_file_where_the_other_side_has_a_folder_goes_beside_it(clones: tuple[Clone, Clone]) -> None:
    one, two = clones
    one.put({"data": b"a file\n", "notes/x.md": memory("file\n", number=2)})
    two.put({"data/inner.txt": b"below\n", "notes/x.md/y.md": memory("below\n", number=3)})
    found = synced(one, two)
    assert found["data/inner.txt"] == b"below\n"
    assert found["notes/x.md/y.md"] == memory("below\n", number=3)
    assert found["notes/x-00000002.md"] == memory("file\n", number=2)
    assert sorted(found.values()).count(b"a file\n") == 1
    assert "a folder is there" in git(two.root, "log", "--format=%B")


def test_a_folder_that_gave_way_to_a_file_comes_back_for_an_edit_in_it(clones: tuple[Clone, Clone]) -> None:
    one, two = clones
    one.put({"data/a.txt": b"a\n", "data/b.txt": b"b\n"})
    one.sync.push()
    two.sync.pull()
    one.put({"data/a.txt": None, "data/b.txt": None})
    (one.root / "data").rmdir()
    one.put({"data": b"a file\n"})
    two.put({"data/a.txt": b"edited\n"})
    found = synced(one, two)
    assert found["data/a.txt"] == b"edited\n"
    assert b"a file\n" in found.values()
    assert "data/b.txt" not in found


@pytest.mark.parametrize(
    ("first", "second"), [("notes/A.md", "notes/a.md"), ("notes/caf\u00e9.md", "notes/cafe\u0301.md")]
)
def test_names_that_some_file_systems_take_for_one_are_told_apart(
    clones: tuple[Clone, Clone], first: str, second: str
) -> None:
    one, two = clones
    one.put({first: memory("first\n", number=2)})
    two.put({second: memory("second\n", number=3, updated=LATE)})
    found = synced(one, two)
    assert found[second] == memory("second\n", number=3, updated=LATE)
    assert first not in found
    assert memory("first\n", number=2) in found.values()


def test_names_that_were_swapped_keep_the_other_sides_edit(clones: tuple[Clone, Clone]) -> None:
    one, two = clones
    names = ["notes/a.md", "notes/b.md"]
    one.put({names[0]: memory("a\n", number=2), names[1]: memory("b\n", number=3)})
    one.sync.push()
    two.sync.pull()
    one.put({names[0]: memory("b\n", number=3), names[1]: memory("a\n", number=2)})
    two.put({names[0]: memory("a\nmore\n", number=2, updated=LATE)})
    found = synced(one, two)
    assert found[names[0]] == memory("b\n", number=3)
    assert found[names[1]] == memory("a\nmore\n", number=2, updated=LATE)


# --- histories that cross -----------------------------------------------------------------------------------


def crossed(clones: tuple[Clone, Clone]) -> tuple[Clone, Clone]:
    """Both have merged the other's commit, neither the other's merge. Each has a remote, which the other pulls from."""
    one, two = clones
    one.put({PATH: memory("text\n", title="new", updated=LATE)})
    two.put({"notes/u.md": memory("u\n", number=2)})
    for clone, other in ((one, two), (two, one)):
        git(clone.root.parent, "init", "-q", "--bare", f"{clone.root.name}.git")
        publish(clone)
        other.sync.remote.set_url(str(clone.root.with_suffix(".git")))
    one.sync.pull()
    two.sync.pull()
    assert one.tree() == two.tree()
    git(one.root, "fetch", "-q", str(two.root), "main")
    assert len(git(one.root, "merge-base", "--all", "HEAD", "FETCH_HEAD").splitlines()) == 2
    return one, two


def publish(clone: Clone) -> None:
    git(clone.root, "push", "-q", "--force", str(clone.root.with_suffix(".git")), "HEAD:main")


def test_a_change_back_after_merges_that_crossed_is_not_undone(clones: tuple[Clone, Clone]) -> None:
    one, two = crossed(clones)
    two.put({PATH: memory("text\n", title="T", updated="2026-11-20T13:00:00Z")})
    one.put({"notes/v.md": memory("v\n", number=3)})
    publish(two)
    one.sync.pull()
    assert one.files()[PATH] == memory("text\n", title="T", updated="2026-11-20T13:00:00Z")
    assert set(one.files()) == {PATH, "notes/u.md", "notes/v.md"}


def test_what_somebody_changed_in_a_merge_commit_is_an_edit_like_any_other(clones: tuple[Clone, Clone]) -> None:
    one, two = crossed(clones)
    (two.root / "order.txt").write_text("other\n", encoding="utf-8")
    git(two.root, "add", "order.txt")
    git(two.root, "commit", "-q", "--amend", "--no-edit")
    publish(two)
    one.sync.pull()
    assert one.files()["order.txt"] == b"other\n"


def test_clones_that_merged_the_same_edits_in_different_orders_end_with_the_same_files(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    start = Clone(tmp_path / "start", tmp_path / "remote.git")
    start.put({PATH: memory("text\n")})
    start.sync.push()
    edits = [{"title": "a", "updated": "2026-11-20T11:00:00Z"}, {"title": "b", "updated": LATE}, {"tags": ["c"]}]
    times = [{}, {}, {"updated": "2026-11-20T13:00:00Z"}]
    one, *others = (Clone(tmp_path / name, tmp_path / "remote.git") for name in ("one", "b", "c"))
    for clone, fields, time in zip((one, *others), edits, times, strict=True):
        git(tmp_path, "init", "-q", "--bare", f"{clone.root.name}.git")
        clone.sync.pull()
        clone.put({PATH: memory("text\n", **fields, **time)})  # type: ignore[arg-type]
        publish(clone)
    two = Clone(tmp_path / "two", tmp_path / "one.git")
    two.sync.pull()
    for clone, order in ((one, "bc"), (two, "cb")):
        for name in order:
            clone.sync.remote.set_url(str(tmp_path / f"{name}.git"))
            clone.sync.pull()
    trees = {one.tree(), two.tree()}
    assert len(trees) == 2
    git(tmp_path, "init", "-q", "--bare", "two.git")
    publish(one)
    publish(two)
    for clone, name in ((one, "two"), (two, "one")):
        clone.sync.remote.set_url(str(tmp_path / f"{name}.git"))
        clone.sync.pull()
        assert "had merged the same edits" in git(clone.root, "log", "-1", "--format=%B")
    assert one.tree() == two.tree() == max(trees)


# --- what the message says ----------------------------------------------------------------------------------


def test_a_merge_says_what_it_decided(clones: tuple[Clone, Clone]) -> None:
    one, two = clones
    one.put({PATH: memory("mine\n", title="A", updated=LATE)})
    two.put({PATH: memory("theirs\n", title="B")})
    synced(one, two)
    subject, _, *rest = git(two.root, "log", "-1", "--format=%B").splitlines()
    assert subject == "Merge origin/main"
    assert rest[0].startswith(f"- kept the older text of {PATH} as notes/2026/11/t-")
    assert rest[1:3] == [f"- merged {PATH}: changed on both sides; of title the newer", ""]
    assert rest[3] == "Agent: sync"
    assert git(two.root, "log", "-1", "--format=%(trailers:key=Agent,valueonly)").strip() == "sync"


@pytest.mark.parametrize("count", [0, 1, 5, 500])
def test_the_message_is_short_whatever_was_decided(count: int) -> None:
    decisions = [f"merged notes/{number}.md: changed on both sides" for number in range(count)]
    decisions[count // 2 : count // 2] = ["kept notes/a.md: edited on one side,\ndeleted on the other"] if count else []
    lines = merge_message("a remote with a long name " * 9, decisions).splitlines()
    assert len(lines[0]) <= 72
    assert lines[1] == ""
    assert lines[-1] == "Agent: sync"
    assert len(lines) <= 206
    assert all(line.startswith("- ") for line in lines[2:-2])
    if count:
        assert lines[2] == "- kept notes/a.md: edited on one side, deleted on the other"
    assert ("- and 301 more" in lines) == (count == 500)
