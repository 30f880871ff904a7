"""What in the memory repo itself is in the way of sync, seen without an attempt: git programs at work, or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sync_made import AUTHOR, PATH, Clone, failure, fill, git, hook, memory, poll, small_disk

from adaptive_llm_gateway.core import ReadOnly, RepoBusy
from adaptive_llm_gateway.memory._lock_owner import owner_by_ps
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync_look import ask_remote, look_at_sync
from adaptive_llm_gateway.memory._values import Change, SyncProblem
from adaptive_llm_gateway.memory.testing import temporary_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="git's editor is a shell script here")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="who holds a lock is told from /proc")


@pytest.fixture
def clone(tmp_path: Path, remote: Path) -> Clone:
    found = Clone(tmp_path / "one", remote)
    found.put(PATH, memory("x\n"))
    found.sync.push()
    assert found.status.problems == ()
    return found


def only(clone: Clone) -> SyncProblem:
    (problem,) = clone.status.problems
    return problem


# --- Who holds index.lock -----------------------------------------------------------------------------------


class Editing:
    """A `git commit` that waits for its editor, and holds the index all the while."""

    def __init__(self, folder: Path, arguments: list[str], cwd: Path, **environment: str) -> None:
        editor, self._begun, self._end = folder / "editor", folder / "begun", folder / "end"
        editor.write_text(
            f'#!/bin/sh\ntouch "{self._begun}"\nwhile [ ! -e "{self._end}" ]; do sleep 0.05; done\necho x > "$1"\n',
            encoding="utf-8",
        )
        editor.chmod(0o755)
        self.process = subprocess.Popen(
            ["git", *arguments],
            cwd=cwd,
            env={**os.environ, "GIT_EDITOR": str(editor), **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        poll(self._begun.exists, "the editor")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        self._end.touch()
        self.process.wait(10)


@pytest.fixture
def edit(tmp_path: Path) -> Iterator[Callable[..., Editing]]:
    started: list[Editing] = []

    def start(arguments: list[str], cwd: Path, **environment: str) -> Editing:
        folder = tmp_path / f"editing-{len(started)}"
        folder.mkdir()
        started.append(Editing(folder, arguments, cwd, **environment))
        return started[-1]

    yield start
    for editing in started:
        editing.kill()
        editing.end()


def made_old(lock: Path) -> None:
    """As if the lock had been taken a minute ago, by what was there then."""
    then = lock.stat().st_mtime - 60
    os.utime(lock, (then, then))


@on_linux
def test_a_git_that_waits_for_its_editor_holds_the_index_though_it_has_nothing_open(
    clone: Clone, edit: Callable[..., Editing]
) -> None:
    (clone.root / PATH).write_text(memory("by hand\n"), encoding="utf-8")
    editing = edit(["commit", "-a"], clone.root)
    lock = clone.repo.index_lock()
    assert lock is not None
    assert (lock.owner, lock.pid) == ("alive", editing.process.pid)
    with (clone.repo.git_dir / "index.lock").open("rb"):  # this test has it open, and is not who is meant
        held = clone.repo.index_lock()
    assert held is not None
    assert held.pid == editing.process.pid
    editing.end()
    assert clone.repo.index_lock() is None


@on_linux
@pytest.mark.parametrize("how", ["-C", "--git-dir", "GIT_DIR"])
def test_a_git_that_was_started_elsewhere_is_found_by_what_it_was_told(
    tmp_path: Path, clone: Clone, edit: Callable[..., Editing], how: str
) -> None:
    (clone.root / PATH).write_text(memory("by hand\n"), encoding="utf-8")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    match how:
        case "-C":
            editing = edit(["-C", str(clone.root), "commit", "-a"], folder)
        case "--git-dir":
            editing = edit(["--git-dir=../one/.git", "--work-tree=../one", "commit", "-a"], folder)
        case _:
            editing = edit(["commit", "-a"], folder, GIT_DIR=str(clone.repo.git_dir), GIT_WORK_TREE=str(clone.root))
    lock = clone.repo.index_lock()
    assert lock is not None
    assert (lock.owner, lock.pid) == ("alive", editing.process.pid)


@on_linux
def test_a_lock_is_alive_while_any_program_has_it_open(clone: Clone) -> None:
    lock = clone.repo.git_dir / "index.lock"
    code = f"import sys; file = open({str(lock)!r}, 'x'); print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"open\n"
    found = clone.repo.index_lock()
    assert found is not None
    assert (found.owner, found.pid) == ("alive", holder.pid)
    holder.kill()
    holder.communicate(timeout=10)
    again = clone.repo.index_lock()
    assert again is not None
    assert again.owner == "unknown"  # it may just be being let go
    os.utime(lock, (1, 1))
    left = clone.repo.index_lock()
    assert left is not None
    assert left.owner == "dead"


@on_linux
def test_what_a_killed_git_left_is_told_while_others_work_there_and_holds_up_neither_writes_nor_pulls(
    tmp_path: Path, clone: Clone, remote: Path, edit: Callable[..., Editing]
) -> None:
    (clone.root / PATH).write_text(memory("by hand\n"), encoding="utf-8")
    editing = edit(["commit", "-a"], clone.root)
    editing.kill()
    git(clone.root, "checkout", "-q", "--", PATH, check=False)
    (clone.root / PATH).write_text(memory("x\n"), encoding="utf-8")
    lock = clone.repo.git_dir / "index.lock"
    made_old(lock)
    later = subprocess.Popen(["git", "cat-file", "--batch"], cwd=clone.root, stdin=subprocess.PIPE)
    try:
        problem = only(clone)
        assert (problem.kind, problem.blocks) == ("index_lock_stale", False)
        assert str(lock) in problem.message
        assert clone.status.writes == "committed"
        other = Clone(tmp_path / "two", remote)
        other.sync.pull()
        other.put("notes/b.md", "b")
        other.sync.push()
        assert clone.sync.pull().status.state == "pushed"
        assert clone.text("notes/b.md") == "b"
        clone.put("notes/c.md", "c")
        assert clone.sync.push().status.state == "pushed"
        assert only(clone).kind == "index_lock_stale"
    finally:
        later.communicate(timeout=10)
    lock.unlink()
    assert clone.repo.refresh_index()
    assert git(clone.root, "status", "--porcelain") == ""
    assert clone.status.problems == ()


@on_linux
def test_a_lock_that_is_held_keeps_a_pull_waiting_and_is_told_with_who_holds_it(
    tmp_path: Path, clone: Clone, remote: Path, edit: Callable[..., Editing]
) -> None:
    other = Clone(tmp_path / "two", remote)
    other.sync.pull()
    other.put("notes/b.md", "b")
    other.sync.push()
    (clone.root / PATH).write_text(memory("by hand\n"), encoding="utf-8")
    editing = edit(["commit", "-a"], clone.root)
    error = failure(clone.sync.pull)
    assert (error.details["kind"], error.details["pid"]) == ("index_lock", editing.process.pid)
    made_old(clone.repo.git_dir / "index.lock")
    editing.kill()
    assert [problem.kind for problem in poll(lambda: _stale(clone), "the owner's end")] == ["index_lock_stale"]
    assert clone.status.state == "behind"  # the pull that failed would succeed now


def _stale(clone: Clone) -> tuple[SyncProblem, ...]:
    problems = clone.status.problems
    return problems if all(problem.kind == "index_lock_stale" for problem in problems) else ()


@on_linux
def test_without_proc_a_lock_is_left_behind_only_where_no_git_at_all_is_as_old(
    clone: Clone, edit: Callable[..., Editing]
) -> None:
    lock = clone.repo.git_dir / "index.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    assert owner_by_ps(lock.stat()) == "dead"
    lock.unlink()
    (clone.root / PATH).write_text(memory("by hand\n"), encoding="utf-8")
    edit(["commit", "-a"], clone.root)
    assert owner_by_ps(lock.stat()) == "unknown"


@on_linux
def test_the_index_follows_what_a_pull_brought_once_the_lock_of_a_dead_git_is_gone(
    tmp_path: Path, clone: Clone, remote: Path
) -> None:
    with temporary_store(tmp_path / "home", remote=str(remote)) as store:
        store.pull().result(60)
        clone.put(PATH, memory("changed\n"))
        clone.sync.push()
        lock = store.repo.git_dir / "index.lock"
        lock.touch()
        os.utime(lock, (1, 1))
        done = store.pull().result(60)
        assert done.changed == 1
        assert [problem.kind for problem in store.sync_status().problems] == ["index_lock_stale"]
        lock.unlink()
        poll(lambda: not git(store.repo.path, "status", "--porcelain"), "the index, though nothing is written")


def test_a_lock_that_git_has_for_a_moment_is_not_told(clone: Clone) -> None:
    (clone.repo.git_dir / "index.lock").touch()
    assert clone.status.problems == ()


# --- In the middle of something --------------------------------------------------------------------------------


def clashing(clone: Clone) -> None:
    """Two branches that change the same line."""
    git(clone.root, "switch", "-qc", "side")
    clone.put(PATH, memory("side\n"))
    git(clone.root, "reset", "-q", "--hard")
    git(clone.root, "switch", "-q", "main")
    clone.put(PATH, memory("main\n"))
    git(clone.root, "reset", "-q", "--hard")


def _am(clone: Clone) -> None:
    patch = git(clone.root, "format-patch", "-1", "--stdout", "side")
    (clone.root / ".git/patch").write_text(patch, encoding="utf-8")
    git(clone.root, "am", "-q", ".git/patch", check=False)


def _revert(clone: Clone) -> None:
    clone.put(PATH, memory("main, again\n"))
    git(clone.root, "reset", "-q", "--hard")
    git(clone.root, "revert", "--no-edit", "HEAD~1", check=False)


MIDDLES: dict[str, Callable[[Clone], object]] = {
    "merge": lambda clone: git(clone.root, "merge", "side", check=False),
    "rebase": lambda clone: git(clone.root, "rebase", "side", check=False),
    "am": _am,
    "cherry-pick": lambda clone: git(clone.root, "cherry-pick", "side", check=False),
    "revert": _revert,
    "bisect": lambda clone: git(clone.root, "bisect", "start", check=False),
}


@pytest.mark.parametrize("name", MIDDLES)
def test_what_somebody_is_in_the_middle_of_is_named_before_and_after_an_attempt(clone: Clone, name: str) -> None:
    clashing(clone)
    before = clone.status
    assert (before.state, before.problems) == ("pending", ())
    MIDDLES[name](clone)
    status = clone.status
    problem = only(clone)
    assert (problem.kind, problem.blocks) == ("repo_busy", True)
    assert f"git {name} " in problem.message
    assert problem.hint is not None
    assert name in problem.hint
    assert "--abort" not in problem.hint
    assert (status.state, status.writes) == ("pending", "refused")
    assert status.ahead >= before.ahead
    with pytest.raises(RepoBusy):
        clone.repo.commit([Change("notes/b.md", b"b", "write", "", "t", AUTHOR)])
    with pytest.raises(RepoBusy):
        clone.sync.pull()
    failed = clone.status
    assert (failed.state, failed.kind) == ("failed", "repo_busy")
    git(clone.root, *(("bisect", "reset") if name == "bisect" else (name, "--abort")))
    assert clone.status.problems == ()
    assert clone.status.state == "pending"


def test_a_detached_head_is_named_and_what_waits_is_still_counted(clone: Clone) -> None:
    clone.put(PATH, memory("y\n"))
    assert clone.status.ahead == 1
    git(clone.root, "switch", "-q", "--detach", "HEAD~1")
    status = clone.status
    assert (status.state, status.ahead, status.kind, status.writes) == ("pending", 1, "detached_head", "refused")
    with pytest.raises(RepoBusy):
        clone.sync.pull()
    assert (clone.status.state, clone.status.kind) == ("failed", "detached_head")
    git(clone.root, "switch", "-q", "main")
    assert (clone.status.state, clone.status.problems) == ("pending", ())


# --- Identity, format, another remote ---------------------------------------------------------------------------


def test_without_an_identity_of_git_commits_are_made_and_it_is_noticed(
    tmp_path: Path, clone: Clone, remote: Path
) -> None:
    config = tmp_path / "user/.gitconfig"
    known = config.read_text(encoding="utf-8")
    config.write_text("", encoding="utf-8")
    nobody = Clone(tmp_path / "two", remote)
    problem = only(nobody)
    assert (problem.kind, problem.blocks) == ("identity_missing", False)
    assert "Adaptive LLM Gateway" in problem.message
    nobody.sync.pull()
    nobody.put("notes/b.md", "b")
    assert nobody.sync.push().status.state == "pushed"
    # It does not hide what is worse.
    nobody.sync.set_remote(str(tmp_path / "gone.git"))
    failure(nobody.sync.pull)
    assert [found.kind for found in nobody.status.problems] == ["remote_missing", "identity_missing"]
    config.write_text(known, encoding="utf-8")
    failure(nobody.sync.pull)
    assert [found.kind for found in nobody.status.problems] == ["remote_missing"]


def test_a_newer_format_is_seen_here(clone: Clone) -> None:
    clone.put(".alg/format", "2\n")
    assert clone.status.kind == "format_too_new"


@pytest.mark.parametrize("how", ["here", "by hand"])
def test_another_remote_is_not_said_to_have_what_the_last_one_had(tmp_path: Path, clone: Clone, how: str) -> None:
    assert clone.status.state == "pushed"
    git(tmp_path, "init", "-q", "--bare", "new.git")
    if how == "here":
        clone.sync.set_remote(str(tmp_path / "new.git"))
    else:
        git(clone.root, "remote", "set-url", "origin", str(tmp_path / "new.git"))
    status = clone.status
    assert (status.state, status.ahead, status.checked, status.last_success) == ("pending", 2, None, None)
    assert clone.sync.push().status.state == "pushed"
    assert clone.status.last_success is not None


def test_a_remote_that_git_knew_before_the_hub_did_counts_as_git_knows_it(
    tmp_path: Path, clone: Clone, remote: Path
) -> None:
    git(tmp_path, "clone", "-q", str(remote), "cloned")
    status = Clone(tmp_path / "cloned", None).status
    assert (status.state, status.checked) == ("pushed", None)


def test_what_is_kept_of_one_branch_is_not_told_of_another(clone: Clone, remote: Path) -> None:
    git(clone.root, "push", "-q", "origin", "main:side")
    git(clone.root, "fetch", "-q", "origin")
    hook(remote, "update", "echo no >&2; exit 1")
    clone.put(PATH, memory("y\n"))
    failure(clone.sync.push)
    git(clone.root, "reset", "-q", "--hard")
    git(clone.root, "switch", "-qc", "side", "origin/side")
    assert (clone.status.state, clone.status.problems) == ("pushed", ())


def test_a_configuration_that_cannot_be_read_does_not_keep_the_status_from_telling(clone: Clone) -> None:
    config = clone.repo.git_dir / "config"
    text = config.read_text(encoding="utf-8")
    config.write_text('[remote "origin\n', encoding="utf-8")
    assert clone.status.kind == "corrupt_here"
    assert clone.status.remote is not None
    outside = look_at_sync(clone.root)
    assert (outside.writes, outside.problems[0].blocks) == ("refused", True)
    config.write_text(text, encoding="utf-8")
    assert (clone.status.state, clone.status.problems) == ("pushed", ())


def test_a_repository_that_cannot_be_opened_is_told_from_outside_too(clone: Clone) -> None:
    (clone.repo.git_dir / "HEAD").unlink()
    status = look_at_sync(clone.root)
    (problem,) = status.problems
    assert (status.state, status.writes, problem.kind) == ("no_remote", "refused", "corrupt_here")
    assert "not a git repository" in problem.message


def test_what_plain_git_has_pushed_is_not_said_to_have_failed(clone: Clone, remote: Path) -> None:
    clone.put(PATH, memory("y\n"))
    hook(remote, "pre-receive", "echo no >&2; exit 1")
    failure(clone.sync.push)
    assert clone.status.state == "failed"
    (remote / "hooks/pre-receive").unlink()
    git(clone.root, "push", "-q", "origin", "main")
    assert (clone.status.state, clone.status.problems) == ("pushed", ())


# --- The disk ---------------------------------------------------------------------------------------------------


def test_a_disk_that_is_nearly_full_is_noticed_and_one_that_is_full_refuses_writes(
    tmp_path: Path, remote: Path
) -> None:
    with small_disk(tmp_path / "small", "2m") as disk:
        clone = Clone(disk / "memory", remote)
        clone.put(PATH, memory("x\n"))
        room = fill(disk, leave=500_000)
        nearly = only(clone)
        assert (nearly.kind, nearly.blocks, clone.status.writes) == ("disk_full", False, "committed")
        clone.put("notes/b.md", "there is room for this")
        room.unlink()
        room = fill(disk)
        full = poll(lambda: clone.status if clone.status.kind else None, "what is seen of the disk lasts a second")
        assert (full.kind, full.writes, full.state) == ("disk_full", "refused", "pending")
        room.unlink()
        poll(lambda: not clone.status.problems, "the same")


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path, remote: Path) -> None:
    with small_disk(tmp_path / "small", "2m") as disk:
        clone = Clone(disk / "memory", remote)
        clone.put(PATH, memory("x\n"))
        git(clone.root, "status")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=30)
        told = poll(lambda: clone.status if clone.status.kind else None, "what is seen of the disk lasts a second")
        assert (told.kind, told.writes, told.state) == ("read_only", "refused", "pending")
        with pytest.raises(ReadOnly):
            clone.repo.commit([Change("notes/b.md", b"b", "write", "", "t", AUTHOR)])


# --- A look from outside ------------------------------------------------------------------------------------------


def test_a_look_from_outside_sees_the_same_and_changes_nothing(clone: Clone, remote: Path) -> None:
    clone.put(PATH, memory("y\n"))
    told = clone.status
    before = {path: path.stat().st_mtime_ns for path in clone.repo.git_dir.iterdir()}
    assert look_at_sync(clone.root) == told
    assert ask_remote(clone.root, timeout=20) is None
    remote.rename(remote.with_name("moved.git"))
    problem = ask_remote(clone.root, timeout=20)
    assert problem is not None
    assert (problem.kind, problem.blocks) == ("remote_missing", True)
    assert {path: path.stat().st_mtime_ns for path in clone.repo.git_dir.iterdir()} == before


def test_a_look_from_outside_leaves_the_journals_of_a_crash_alone(clone: Clone) -> None:
    journal = clone.repo.git_dir / "alg-index-pending"
    journal.write_text('["notes/a.md", null]\n', encoding="utf-8")
    look_at_sync(clone.root)
    assert journal.exists()
    MemoryRepo.open(clone.root)
    assert not journal.exists()
