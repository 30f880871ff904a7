"""Sync against real remotes: bare folders, `git daemon`, hooks, vanished and hostile ones."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sync_made import AUTHOR, PATH, SECRET, Clone, failure, git, memory, no_secrets

from adaptive_llm_gateway.core import InvalidInput, LockHeld, ProcessLock, RepoBusy
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._remote import check_remote_url
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync import MergedPath, Sync
from adaptive_llm_gateway.memory._sync_errors import cause
from adaptive_llm_gateway.memory._values import Change


@pytest.fixture
def one(tmp_path: Path, remote: Path) -> Clone:
    return Clone(tmp_path / "one", remote)


@pytest.fixture
def two(tmp_path: Path, remote: Path) -> Clone:
    return Clone(tmp_path / "two", remote)


@pytest.fixture
def shared(one: Clone, two: Clone) -> tuple[Clone, Clone]:
    """Two clones that both have one memory."""
    one.put(PATH, memory("one\ntwo\nthree\n"))
    one.sync.push()
    two.sync.pull()
    return one, two


# --- the plain way ------------------------------------------------------------------------------------


def test_without_a_remote_the_status_says_so_and_a_pull_names_it(tmp_path: Path) -> None:
    repo = MemoryRepo.open(tmp_path / "memory")
    sync = Sync(repo, scan=no_secrets)
    assert sync.state.status().state == "no_remote"
    assert failure(sync.pull).details["kind"] == "no_remote"
    assert failure(sync.push).details["kind"] == "no_remote"


def test_the_first_push_fills_an_empty_remote(one: Clone, remote: Path) -> None:
    one.put(PATH, memory("x\n"))
    assert one.sync.state.status().state == "pending"
    assert one.sync.state.status().ahead == 2
    assert one.sync.pull().merged == ()
    result = one.sync.push()
    assert (result.pushed, result.status.state, result.status.ahead) == (2, "pushed", 0)
    assert git(remote, "rev-parse", "main").strip() == one.repo.head() == result.commit
    assert result.status.last_success is not None
    assert one.sync.push().pushed == 0


def test_what_one_clone_pushes_the_other_pulls_though_both_were_made_anew(one: Clone, two: Clone) -> None:
    one.put(PATH, memory("from one\n"))
    two.put("facts/2026/11/f-00000002.md", memory("from two\n", number=2))
    one.sync.push()
    pulled = two.sync.pull()
    assert pulled.merged == (MergedPath(None, PATH),)
    assert pulled.status.state == "pending"
    two.sync.push()
    one.sync.pull()
    assert one.files() == two.files()
    assert one.repo.head() == two.repo.head()
    assert one.clean()
    assert two.clean()


def test_a_pull_that_only_catches_up_makes_no_commit_of_its_own(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put(PATH, memory("changed\n"))
    one.put("notes/2026/11/new-00000002.md", memory("new\n", number=2))
    one.sync.push()
    result = two.sync.pull()
    assert result.commit == one.repo.head() == two.repo.head()
    assert result.merged == (MergedPath(None, "notes/2026/11/new-00000002.md"), MergedPath(PATH, PATH))
    assert two.text(PATH) == memory("changed\n")
    assert two.clean()


def test_deleted_and_moved_files_follow(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put("notes/2026/11/gone-00000003.md", memory("gone\n", number=3))
    one.sync.push()
    two.sync.pull()
    one.put("notes/2026/11/gone-00000003.md", None)
    moved = "facts/2026/11/other-00000001.md"
    text = one.text(PATH)
    one.put(PATH, None)
    one.put(moved, text)
    one.sync.push()
    result = two.sync.pull()
    assert set(result.merged) == {MergedPath("notes/2026/11/gone-00000003.md", None), MergedPath(PATH, moved)}
    assert not (two.root / "notes").exists()
    assert two.files() == one.files()


def test_a_file_may_take_the_place_of_a_folder_and_the_reverse(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put("a.md", "file")
    one.put("b/c.md", "in a folder")
    one.sync.push()
    two.sync.pull()
    two.put("mine.md", "so that it is a real merge")
    one.put("a.md", None)
    one.put("a.md/x.md", "in a folder now")
    one.put("b/c.md", None)
    (one.root / "b").rmdir()
    one.put("b", "file now")
    one.sync.push()
    two.sync.pull()
    assert two.clean()
    assert (two.text("a.md/x.md"), two.text("b")) == ("in a folder now", "file now")


def test_a_folder_with_files_of_the_users_is_not_replaced_by_a_file(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put("b", "file")
    one.sync.push()
    (two.root / "b").mkdir()
    (two.root / "b/mine.md").write_text("mine", encoding="utf-8")
    assert failure(two.sync.pull).details["kind"] == "dirty"
    assert two.text("b/mine.md") == "mine"


def test_a_pull_with_nothing_new_changes_nothing(shared: tuple[Clone, Clone]) -> None:
    _, two = shared
    head, refs = two.repo.head(), git(two.root, "for-each-ref")
    result = two.sync.pull()
    assert (result.merged, result.commit, result.rescue) == ((), head, None)
    assert git(two.root, "for-each-ref") == refs


# --- both sides changed -------------------------------------------------------------------------------


def test_diverged_clones_are_told_and_merged_with_both_parents(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put(PATH, memory("ONE\ntwo\nthree\n", updated="2026-11-20T11:00:00Z", tags=["a"]))
    two.put(PATH, memory("one\ntwo\nTHREE\n", updated="2026-11-20T12:00:00Z", tags=["b"]))
    one.sync.push()
    assert two.sync.fetch().state == "diverged"
    before = two.repo.head()
    result = two.sync.pull()
    assert result.conflicts == ()
    assert git(two.root, "rev-parse", "HEAD^1", "HEAD^2").split() == [before, one.repo.head()]
    document = Document.parse((two.root / PATH).read_bytes())
    assert document.body == "ONE\ntwo\nTHREE\n"
    assert set(document.fields["tags"]) == {"a", "b"}
    assert result.rescue is not None
    assert git(two.root, "rev-parse", result.rescue).strip() == before
    assert "changed on both sides" in git(two.root, "log", "-1", "--format=%B")
    assert two.clean()
    two.sync.push()
    one.sync.pull()
    assert one.files() == two.files()


def test_texts_that_clash_are_both_there_without_markers(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put(PATH, memory("one\nfrom one\nthree\n", updated="2026-11-20T11:00:00Z"))
    two.put(PATH, memory("one\nfrom two\nthree\n", updated="2026-11-20T12:00:00Z"))
    one.sync.push()
    (conflict,) = two.sync.pull().conflicts
    assert conflict.path == PATH
    assert "from two" in two.text(PATH)
    assert "from one" in two.text(conflict.kept_path)
    assert "conflicts_with" in two.text(conflict.kept_path)
    assert all(b"<<<<" not in data for data in two.files().values())
    two.sync.push()
    one.sync.pull()
    assert one.files() == two.files()
    assert one.clean()
    assert two.clean()


def test_two_clones_that_merge_the_same_clash_at_once_agree(shared: tuple[Clone, Clone], tmp_path: Path) -> None:
    one, two = shared
    one.put(PATH, memory("from one\n", updated="2026-11-20T11:00:00Z"))
    two.put(PATH, memory("from two\n", updated="2026-11-20T12:00:00Z"))
    # Each pulls the other's branch directly, before anything is pushed.
    git(one.root, "remote", "set-url", "origin", str(two.root))
    git(two.root, "remote", "set-url", "origin", str(one.root))
    git(one.root, "fetch", "-q", "origin")
    theirs = git(one.root, "rev-parse", "HEAD").strip()
    one.sync.pull()
    git(two.root, "fetch", "-q", str(one.root), f"{theirs}:refs/remotes/origin/main")
    two.sync.merge()  # what a pull does behind its fetch
    assert one.files() == two.files()


def test_an_edit_beats_a_deletion_on_the_other_side(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put(PATH, None)
    two.put(PATH, memory("edited\n"))
    one.sync.push()
    two.sync.pull()
    assert "edited" in two.text(PATH)
    two.sync.push()
    one.sync.pull()
    assert one.files() == two.files()


def test_a_push_that_comes_second_pulls_and_succeeds(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put("notes/2026/11/a-00000002.md", memory("a\n", number=2))
    two.put("notes/2026/11/b-00000003.md", memory("b\n", number=3))
    one.sync.push()
    result = two.sync.push()
    assert result.status.state == "pushed"
    assert [path.new_path for pull in result.pulls for path in pull.merged] == ["notes/2026/11/a-00000002.md"]
    one.sync.pull()
    assert one.files() == two.files()


def test_nothing_is_lost_when_clones_push_at_the_same_time(tmp_path: Path, remote: Path) -> None:
    script = tmp_path / "clone.py"
    script.write_text(_RACER, encoding="utf-8")
    count, each = 3, 4
    racers = [
        subprocess.Popen([sys.executable, str(script), str(tmp_path / f"c{n}"), str(remote), str(n), str(each)])
        for n in range(count)
    ]
    assert [racer.wait(120) for racer in racers] == [0] * count
    last = Clone(tmp_path / "last", remote)
    last.sync.pull()
    assert {f"notes/{n}-{i}.md" for n in range(count) for i in range(each)} < last.files().keys()
    git(remote, "fsck", "--strict")


_RACER = """
import sys
from pathlib import Path
from adaptive_llm_gateway.core import SyncError
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync import Sync
from adaptive_llm_gateway.memory._values import Author, Change
root, remote, number, each = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
repo = MemoryRepo.open(root)
sync = Sync(repo, scan=lambda path, data: None)
sync.set_remote(remote)
(root / "notes").mkdir()
for count in range(each):
    path = f"notes/{number}-{count}.md"
    (root / path).write_text(path, encoding="utf-8")
    repo.commit([Change(path, path.encode(), "write", "", "t", Author("c" + number))])
    for attempt in range(20):
        try:
            sync.push()
            break
        except SyncError as error:
            if error.details["kind"] not in ("non_fast_forward", "ref_race", "ref_locked"):
                raise
    else:
        raise SystemExit(1)
assert sync.state.status().state in ("pushed", "behind")
"""


def test_a_clone_without_an_identity_merges(tmp_path: Path, shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put("notes/a.md", "a")
    one.sync.push()
    (tmp_path / "user/.gitconfig").write_text("", encoding="utf-8")
    bare = Clone(two.root, git(two.root, "remote", "get-url", "origin").strip())
    bare.put("notes/b.md", "b")
    bare.sync.pull()
    assert git(two.root, "log", "-1", "--format=%cn").strip() == "Adaptive LLM Gateway"
    assert bare.sync.push().status.state == "pushed"


def test_an_existing_vault_can_be_taken_over_by_a_fresh_repo(tmp_path: Path, one: Clone, remote: Path) -> None:
    git(tmp_path, "init", "-q", "vault")
    vault = tmp_path / "vault"
    (vault / "a.md").write_text("a", encoding="utf-8")
    git(vault, "add", ".")
    git(vault, "commit", "-qm", "mine")
    git(vault, "push", "-q", str(remote), "main")
    one.sync.pull()
    assert one.files().keys() == {"a.md", ".alg/format", ".gitattributes"}
    assert one.sync.push().status.state == "pushed"


def test_unrelated_histories_are_named_and_nothing_is_merged(tmp_path: Path, one: Clone, remote: Path) -> None:
    one.put(PATH, memory("x\n"))
    git(tmp_path, "init", "-q", "other")
    git(tmp_path / "other", "commit", "-q", "--allow-empty", "-m", "x")
    git(tmp_path / "other", "push", "-q", str(remote), "main")
    head = one.repo.head()
    assert failure(one.sync.pull).details["kind"] == "unrelated_histories"
    assert failure(one.sync.push).details["kind"] == "unrelated_histories"
    assert one.repo.head() == head
    status = one.sync.state.status()
    assert (status.state, status.kind) == ("failed", "unrelated_histories")


# --- what is not overwritten --------------------------------------------------------------------------


def test_a_file_with_uncommitted_edits_is_not_overwritten(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put(PATH, memory("changed\n"))
    one.sync.push()
    (two.root / PATH).write_text("being edited", encoding="utf-8")
    head = two.repo.head()
    error = failure(two.sync.pull)
    assert error.details["kind"] == "dirty"
    assert error.details["paths"] == [PATH]
    assert two.text(PATH) == "being edited"
    assert two.repo.head() == head


def test_an_untracked_file_in_the_way_is_not_overwritten(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put("notes/x.md", "theirs")
    one.sync.push()
    (two.root / "notes/x.md").write_text("mine", encoding="utf-8")
    assert failure(two.sync.pull).details["kind"] == "dirty"
    assert two.text("notes/x.md") == "mine"


def test_a_folder_that_is_a_link_is_not_written_through(shared: tuple[Clone, Clone], tmp_path: Path) -> None:
    one, two = shared
    one.put("facts/x.md", "theirs")
    one.sync.push()
    (tmp_path / "outside").mkdir()
    (two.root / "facts").symlink_to(tmp_path / "outside")
    assert failure(two.sync.pull).details["kind"] == "dirty"
    assert list((tmp_path / "outside").iterdir()) == []


def test_edits_of_other_files_and_what_is_staged_stay(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    two.put("notes/other.md", "o")
    one.put(PATH, memory("changed\n"))
    one.sync.push()
    (two.root / "notes/other.md").write_text("edited", encoding="utf-8")
    (two.root / "staged.md").write_text("s", encoding="utf-8")
    git(two.root, "add", "staged.md")
    two.sync.pull()
    assert git(two.root, "status", "--porcelain") == " M notes/other.md\nA  staged.md\n"


def test_a_repo_in_the_middle_of_a_merge_is_left_alone(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put(PATH, memory("changed\n"))
    one.sync.push()
    (two.repo.git_dir / "MERGE_HEAD").write_text(str(two.repo.head()), encoding="utf-8")
    with pytest.raises(RepoBusy):
        two.sync.pull()
    assert two.sync.state.status().kind == "repo_busy"


def test_a_pull_waits_for_whoever_has_the_index_and_not_for_what_a_dead_one_left(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put(PATH, memory("changed\n"))
    one.sync.push()
    lock = two.repo.git_dir / "index.lock"
    lock.touch()
    assert failure(two.sync.pull).details["kind"] == "index_lock"
    os.utime(lock, (1, 1))
    assert two.sync.pull().status.state == "pushed"
    assert two.text(PATH) == memory("changed\n")
    lock.unlink()
    assert two.repo.refresh_index()
    assert two.clean()


def test_only_one_process_syncs_at_a_time(shared: tuple[Clone, Clone]) -> None:
    _, two = shared
    waiting = Sync(two.repo, scan=no_secrets, timeout=0.05)
    with ProcessLock(two.repo.git_dir / "alg-sync.lock"), pytest.raises(LockHeld):
        waiting.pull()


def test_a_commit_while_the_merge_is_planned_is_merged_too(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put("notes/a.md", "a")
    one.sync.push()
    late: list[str] = []

    def writer(run: Callable[[], object]) -> object:
        if not late:
            late.append("once")
            two.put("notes/late.md", "late")
        return run()

    sync = Sync(two.repo, scan=no_secrets, in_writer=writer)  # type: ignore[arg-type]
    sync.pull()
    assert {"notes/a.md", "notes/late.md"} < two.files().keys()
    assert two.clean()


@pytest.fixture
def many(shared: tuple[Clone, Clone]) -> tuple[Clone, Clone, list[Path]]:
    """The two clones when the first one has pushed a change of forty memories, and their files in the second one."""
    one, two = shared
    paths = [f"notes/n{number}.md" for number in range(40)]
    for word in ("first", "second"):
        changes = [
            Change(path, memory(word, number=number).encode(), "write", "", "t", AUTHOR)
            for number, path in enumerate(paths, 10)
        ]
        for change in changes:
            (one.root / change.path).write_bytes(change.data or b"")
        one.repo.commit(changes)
        one.sync.push()
        if word == "first":
            two.sync.pull()
    return one, two, [two.root / path for path in paths]


def test_files_that_are_as_they_were_when_they_were_read_are_not_read_again_while_writes_wait(
    many: tuple[Clone, Clone, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, files = many
    reads: list[str] = []
    blob_id = MemoryRepo.blob_id

    def counted(data: bytes) -> str:
        reads.append(blob_id(data))
        return reads[-1]

    def writer(run: Callable[[], object]) -> object:
        with monkeypatch.context() as counting:
            counting.setattr(MemoryRepo, "blob_id", staticmethod(counted))
            return run()

    Sync(two.repo, scan=no_secrets, in_writer=writer).pull()  # type: ignore[arg-type]
    assert not reads
    assert two.files() == one.files()
    assert two.clean()
    assert {file.stat().st_nlink for file in files} == {1}


@pytest.mark.parametrize("how", ["in place", "replaced", "time put back"])
def test_an_edit_after_the_file_was_read_is_not_overwritten(many: tuple[Clone, Clone, list[Path]], how: str) -> None:
    _, two, files = many
    before = two.files()
    edited = files[7].read_bytes().swapcase()

    def writer(run: Callable[[], object]) -> object:
        was = files[7].stat()
        if how == "replaced":
            files[7].unlink()
        with files[7].open("wb" if how == "replaced" else "r+b") as file:
            file.write(edited)
        if how == "time put back":
            os.utime(files[7], ns=(was.st_atime_ns, was.st_mtime_ns))
        assert files[7].stat().st_size == was.st_size
        return run()

    sync = Sync(two.repo, scan=no_secrets, in_writer=writer)  # type: ignore[arg-type]
    assert failure(sync.pull).details["paths"] == ["notes/n7.md"]
    assert two.files() == before | {"notes/n7.md": edited}


# --- remotes that refuse ------------------------------------------------------------------------------


def remote_hook(remote: Path, text: str) -> None:
    hook = remote / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    hook.chmod(0o755)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("echo 'no Fridays' >&2; exit 1", "hook_rejected"),
        ("echo 'GH006: Protected branch update failed for refs/heads/main.' >&2; exit 1", "protected_branch"),
    ],
)
def test_a_push_that_the_remote_refuses_is_told_with_its_words(one: Clone, remote: Path, words: str, kind: str) -> None:
    one.put(PATH, memory("x\n"))
    remote_hook(remote, words)
    error = failure(one.sync.push)
    assert error.details["kind"] == kind
    assert "Fridays" in error.details["git"] or "GH006" in error.details["git"]
    status = one.sync.state.status()
    assert (status.state, status.kind, status.ahead) == ("failed", kind, 2)
    assert status.error == error.details["git"]
    one.sync.pull()
    assert one.sync.state.status().state == "failed"  # a pull does not make the push any better
    (remote / "hooks/pre-receive").unlink()
    assert one.sync.push().status.state == "pushed"
    assert one.sync.state.status().error is None


def test_a_remote_that_is_gone_is_named_and_what_waits_is_counted(shared: tuple[Clone, Clone], remote: Path) -> None:
    one, _ = shared
    one.put(PATH, memory("x\n"))
    shutil.move(remote, remote.with_name("elsewhere.git"))
    assert failure(one.sync.push).details["kind"] == "remote_missing"
    assert failure(one.sync.pull).details["kind"] == "remote_missing"
    status = one.sync.state.status()
    assert (status.state, status.ahead) == ("failed", 1)
    assert status.last_success is not None
    shutil.move(remote.with_name("elsewhere.git"), remote)
    assert one.sync.push().status.state == "pushed"


def test_a_remote_that_was_emptied_is_filled_again(shared: tuple[Clone, Clone], remote: Path) -> None:
    one, _ = shared
    shutil.rmtree(remote)
    git(remote.parent, "init", "-q", "--bare", remote.name)
    result = one.sync.pull()
    assert result.status.state == "pending"
    assert one.text(PATH)
    one.sync.push()
    assert git(remote, "rev-parse", "main").strip() == one.repo.head()


def test_a_remote_with_other_branches_only_is_named(one: Clone, remote: Path) -> None:
    git(one.root, "push", "-q", "origin", "main:master")
    error = failure(one.sync.pull)
    assert (error.details["kind"], error.details["branches"]) == ("missing_branch", ["master"])
    assert one.sync.remote.branches()[1] == ("master",)


def test_a_remote_with_a_work_tree_is_named(one: Clone, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "worktree")
    git(tmp_path / "worktree", "fetch", "-q", str(one.root), "main")
    git(tmp_path / "worktree", "reset", "-q", "--hard", "FETCH_HEAD")
    one.put(PATH, memory("x\n"))
    one.sync.set_remote(str(tmp_path / "worktree"))
    assert failure(one.sync.push).details["kind"] == "checked_out"


def test_a_history_that_was_rewritten_on_the_remote_loses_nothing_here(
    shared: tuple[Clone, Clone], remote: Path
) -> None:
    one, two = shared
    one.put("notes/a.md", "a")
    one.sync.push()
    two.sync.pull()
    git(remote, "update-ref", "refs/heads/main", f"{one.repo.head()}~1")
    assert two.sync.pull().status.state == "pending"
    assert two.text("notes/a.md") == "a"
    assert (
        git(two.root, "for-each-ref", "--format=%(refname)", "refs/alg/rescue")
        .strip()
        .endswith(str(one.repo.head())[:8])
    )
    two.sync.push()
    assert git(remote, "rev-parse", "main").strip() == one.repo.head()


def test_a_lock_file_left_at_the_remote_is_told_from_somebody_who_pushes_at_the_same_time(
    one: Clone, remote: Path
) -> None:
    one.sync.push()
    one.put(PATH, memory("x\n"))
    lock = remote / "refs" / "heads" / "main.lock"
    lock.touch()
    failed = failure(one.sync.push)
    status = one.sync.state.status()
    assert failed.details["kind"] == status.kind == "ref_locked"
    assert "main.lock" in str(failed.details["git"])
    lock.unlink()
    assert one.sync.push().status.state == "pushed"


def test_a_branch_that_somebody_makes_while_it_is_looked_for_is_fetched(
    one: Clone, two: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another's push between two commands of git cannot be had otherwise.
    asked = two.sync.remote.branches

    def meanwhile() -> tuple[str | None, tuple[str, ...]]:
        one.sync.push()
        return asked()

    one.put(PATH, memory("x\n"))
    monkeypatch.setattr(two.sync.remote, "branches", meanwhile)
    two.sync.pull()
    assert two.text(PATH) == memory("x\n")


def test_a_port_that_nobody_listens_on_is_unreachable(one: Clone) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one.sync.set_remote(f"git://127.0.0.1:{port}/x.git")
    assert failure(one.sync.pull).details["kind"] == "unreachable"
    one.sync.set_remote("https://no-such-host.invalid/x.git")
    assert failure(one.sync.pull).details["kind"] == "unreachable"


def test_a_server_that_never_answers_is_given_up(one: Clone) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        one.sync.set_remote(f"git://127.0.0.1:{silent.getsockname()[1]}/x.git")
        impatient = Sync(one.repo, scan=no_secrets, timeout=0.5)
        assert failure(impatient.pull).details["kind"] == "timeout"


@pytest.fixture
def daemon(tmp_path: Path, remote: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "daemon.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("git", "daemon", "--verbose", "--reuseaddr", "--export-all", "--enable=receive-pack"),
                *("--listen=127.0.0.1", f"--port={port}", f"--base-path={tmp_path}", str(tmp_path)),
            ],
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + 20
    while b"Ready to rumble" not in log.read_bytes():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    yield f"git://127.0.0.1:{port}/"
    os.killpg(process.pid, 15)
    process.wait(10)


def test_git_daemon_serves_as_a_remote(one: Clone, two: Clone, daemon: str) -> None:
    one.sync.set_remote(daemon + "remote.git")
    two.sync.set_remote(daemon + "remote.git")
    one.put(PATH, memory("over the wire\n"))
    two.put("notes/b.md", "b")
    one.sync.push()
    assert two.sync.push().status.state == "pushed"
    one.sync.pull()
    assert one.files() == two.files()
    one.sync.set_remote(daemon + "no-such.git")
    assert failure(one.sync.pull).details["kind"] == "access_denied"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("fatal: could not read Username for 'https://github.com': terminal prompts disabled", "auth"),
        ("remote: Invalid username or token.\nfatal: Authentication failed for 'https://x/'", "auth"),
        ("git@github.com: Permission denied (publickey).\nfatal: Could not read from remote repository.", "auth"),
        ("Host key verification failed.\nfatal: Could not read from remote repository.", "host_key"),
        ("ssh: connect to host x port 22: Connection refused\nfatal: Could not read from remote", "unreachable"),
        ("fatal: unable to access 'https://x/': Could not resolve host: x", "unreachable"),
        ("remote: Repository not found.\nfatal: repository 'https://x/' not found", "remote_missing"),
        ("! refs/heads/main [remote rejected] (protected branch hook declined)", "protected_branch"),
        ("! refs/heads/main [rejected] (fetch first)", "non_fast_forward"),
        ("! refs/heads/main [remote rejected] (pre-receive hook declined)", "hook_rejected"),
        ("fatal: transport 'ext' not allowed", "transport_refused"),
        ("fatal: detected dubious ownership in repository at '/x'", "ownership"),
        ("something new", "other"),
    ],
)
def test_causes_are_told_from_gits_words(words: str, kind: str) -> None:
    assert cause(words) == kind


# --- hostile remotes ----------------------------------------------------------------------------------


def test_a_secret_is_not_pushed_also_when_a_later_commit_hides_it(one: Clone, remote: Path) -> None:
    (one.root / "s.md").write_bytes(SECRET)
    git(one.root, "add", "s.md")
    git(one.root, "commit", "-qm", "by hand")
    one.put("s.md", None)
    assert failure(one.sync.push).details["kind"] == "secret_outgoing"
    assert git(remote, "for-each-ref") == ""


@pytest.mark.parametrize("moved", [False, True])
def test_a_secret_in_a_files_name_is_not_pushed_and_not_shown(one: Clone, remote: Path, *, moved: bool) -> None:
    name = SECRET.decode()
    (one.root / "plain.txt").write_bytes(b"harmless")
    git(one.root, "add", "plain.txt")
    git(one.root, "commit", "-qm", "by hand")
    if moved:  # which makes no new file
        one.sync.push()
    (one.root / "plain.txt").rename(one.root / f"{name}.txt")
    git(one.root, "add", "-A")
    git(one.root, "commit", "-qm", "moved")
    error = failure(one.sync.push)
    assert error.details["kind"] == "secret_outgoing"
    assert name not in str(error) + str(error.details) + str(one.sync.state.status())
    assert name not in git(remote, "rev-list", "--objects", "--all")


def test_a_secret_in_a_commit_message_is_not_pushed(one: Clone, remote: Path) -> None:
    git(one.root, "commit", "-q", "--allow-empty", "-m", SECRET.decode())
    assert failure(one.sync.push).details["kind"] == "secret_outgoing"
    assert git(remote, "for-each-ref") == ""


def test_a_newer_format_on_the_remote_is_refused(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    one.put(".alg/format", "2\n")
    one.sync.push()
    assert failure(two.sync.pull).details["kind"] == "format_too_new"
    assert two.text(".alg/format") == "1\n"


def test_hooks_never_run_in_a_pull_or_push(shared: tuple[Clone, Clone], tmp_path: Path) -> None:
    one, two = shared
    ran = tmp_path / "ran"
    for name in ("pre-push", "post-merge", "post-checkout", "reference-transaction", "pre-commit", "post-rewrite"):
        hook = two.repo.git_dir / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\necho {name} >> {ran}\n", encoding="utf-8")
        hook.chmod(0o755)
    one.put("notes/a.md", "a")
    one.sync.push()
    two.put("notes/b.md", "b")
    two.sync.pull()
    two.sync.push()
    assert not ran.exists()


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "-u",
        "--upload-pack=x",
        "ext::sh -c x",
        "fd::3",
        "foo::bar",
        "ftp://x/y",
        "javascript://x",
        "https://user:secret-word@host/x",
        "https://ghp_abcdefghij@host/x",
        "https://host/\nx",
    ],
)
def test_addresses_that_run_programs_or_carry_passwords_are_refused(one: Clone, url: str) -> None:
    before = one.sync.remote.url()
    with pytest.raises(InvalidInput) as caught:
        one.sync.set_remote(url)
    assert "secret-word" not in str(caught.value)
    assert one.sync.remote.url() == before


@pytest.mark.parametrize("url", ["/a/b.git", "../x", "git@host:a/b.git", "https://host/x", "ssh://git@host/x", "C:/x"])
def test_usual_addresses_are_accepted(url: str) -> None:
    assert check_remote_url(url) == url


def test_a_password_in_a_configured_address_is_never_shown(one: Clone) -> None:
    git(one.root, "remote", "set-url", "origin", "https://me:secret-word@no-such-host.invalid/x.git")
    error = failure(one.sync.pull)
    shown = json.dumps([error.as_dict(), str(one.sync.state.status())])
    assert "secret-word" not in shown
    assert "***" in str(one.sync.state.status().remote)
    assert "secret-word" not in (one.repo.git_dir / "alg-sync.json").read_text(encoding="utf-8")


# --- status -------------------------------------------------------------------------------------------


def test_the_status_counts_and_dates_its_states(shared: tuple[Clone, Clone]) -> None:
    one, two = shared
    assert one.sync.state.status().state == "pushed"
    one.put("notes/a.md", "a")
    pending = one.sync.state.status()
    assert (pending.state, pending.ahead, pending.behind) == ("pending", 1, 0)
    assert pending.since is not None
    one.put("notes/b.md", "b")
    assert one.sync.state.status().since == pending.since
    one.sync.push()
    assert two.sync.fetch().state == "behind"
    assert two.sync.state.status().behind == 2
    fresh = Sync(two.repo, scan=no_secrets)
    assert fresh.state.status() == two.sync.state.status()


def test_a_garbled_state_file_is_no_reason_to_fail(one: Clone) -> None:
    for text in ("", "[]", "{", '{"failures": null, "since": "x"}'):
        (one.repo.git_dir / "alg-sync.json").write_text(text, encoding="utf-8")
        assert one.sync.state.status().state == "pending"


# --- crashes ------------------------------------------------------------------------------------------

_PULLER = """
import sys
from pathlib import Path
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync import Sync
repo = MemoryRepo.open(Path(sys.argv[1]))
Sync(repo, scan=lambda path, data: None).pull()
"""

POINTS = (
    "sync.fetched",
    "sync.planned",
    "sync.objects_written",
    "sync.index_held",
    "sync.journal_written",
    "sync.file_written",
    "sync.file_written:3",
    "sync.tree_updated",
    "commit.index_locked",
    "sync.ref_moved",
    "commit.git_index_written",
    "commit.git_index_updated",
    "sync.index_updated",
)


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize("point", POINTS)
def test_a_pull_killed_anywhere_is_completed_or_undone_by_the_next_start(
    shared: tuple[Clone, Clone], point: str, diverged: bool
) -> None:
    one, two = shared
    one.put("notes/gone.md", "gone")
    one.sync.push()
    two.sync.pull()
    one.put(PATH, memory("ONE\ntwo\nthree\n"))
    one.put("notes/new.md", "new")
    one.put("notes/gone.md", None)
    one.sync.push()
    if diverged:
        two.put(PATH, memory("one\ntwo\nTHREE\n", updated="2026-11-20T12:00:00Z"))
    before = two.repo.head()
    died = subprocess.run(
        [sys.executable, "-c", _PULLER, str(two.root)], env={**os.environ, "ALG_FAULT": point}, check=False
    )
    assert died.returncode == -9
    again = MemoryRepo.open(two.root)
    assert two.clean()
    early = point in ("sync.fetched", "sync.planned", "sync.objects_written", "sync.index_held")
    assert (again.head() == before) == early
    sync = Sync(again, scan=no_secrets)
    sync.pull()
    sync.push()
    assert two.clean()
    one.sync.pull()
    assert one.files() == two.files()
    assert not (two.repo.git_dir / "alg-sync-journal.json").exists()
    git(two.root, "fsck", "--strict")


@pytest.mark.parametrize("point", ["sync.journal_written", "sync.file_written", "sync.tree_updated"])
def test_a_file_edited_after_a_crash_is_merged_with_what_was_to_come_and_undoes_none_of_it(
    shared: tuple[Clone, Clone], point: str
) -> None:
    one, two = shared
    one.put(PATH, memory("ONE\ntwo\nthree\n", updated="2026-11-20T11:00:00Z"))
    one.put("notes/new.md", "new")
    one.sync.push()
    before = two.repo.head()
    died = subprocess.run(
        [sys.executable, "-c", _PULLER, str(two.root)], env={**os.environ, "ALG_FAULT": point}, check=False
    )
    assert died.returncode == -9
    edited = memory(two.text(PATH).rpartition("---\n")[2].replace("three", "THREE"), updated="2026-11-20T12:00:00Z")
    (two.root / PATH).write_bytes(edited.encode())
    again = MemoryRepo.open(two.root)
    assert again.head() == before
    assert two.text(PATH) == edited
    assert git(two.root, "status", "--porcelain") == f" M {PATH}\n"  # and nothing of what was begun is left
    again.commit([Change(PATH, edited.encode(), "edit", "", "t", AUTHOR)])
    sync = Sync(again, scan=no_secrets)
    sync.pull()
    sync.push()
    one.sync.pull()
    assert one.text(PATH).endswith("ONE\ntwo\nTHREE\n")
    assert one.files() == two.files()
    assert not (two.repo.git_dir / "alg-sync-journal.json").exists()


def test_a_file_edited_while_a_pull_puts_files_in_place_stops_it_and_the_next_one_merges(
    shared: tuple[Clone, Clone], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = shared
    one.put(PATH, memory("ONE\ntwo\nthree\n", updated="2026-11-20T11:00:00Z"))
    one.put("notes/a.md", "new")
    one.sync.push()
    before, edited = two.repo.head(), memory("one\ntwo\nTHREE\n", updated="2026-11-20T12:00:00Z")
    goes_on = two.sync.progress.phase

    def edit(name: str, done: int = 0, total: int = 0, *, size: str | None = None) -> None:
        if name == "writing files":
            (two.root / PATH).write_bytes(edited.encode())
        goes_on(name, done, total, size=size)

    with monkeypatch.context() as patched:
        patched.setattr(two.sync.progress, "phase", edit)
        caught = failure(two.sync.pull)
    assert (caught.details["kind"], caught.details["paths"]) == ("dirty", [PATH])
    assert two.repo.head() == before
    assert git(two.root, "status", "--porcelain") == f" M {PATH}\n"
    two.put(PATH, edited)
    two.sync.pull()
    assert two.text(PATH).endswith("ONE\ntwo\nTHREE\n")
    assert two.text("notes/a.md") == "new"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"start": "x", "target": "y"}', '{"start": null}'])
def test_a_garbled_journal_is_dropped(one: Clone, text: str) -> None:
    journal = one.repo.git_dir / "alg-sync-journal.json"
    journal.write_text(text, encoding="utf-8")
    head = one.repo.head()
    assert MemoryRepo.open(one.root).head() == head
    assert not journal.exists()
