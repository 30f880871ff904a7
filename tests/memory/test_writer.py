"""The writer: groups, failures of index and commit, and what a crash leaves."""

from __future__ import annotations

import os
from typing import Any

import apsw
import pytest

from adaptive_llm_gateway.core import AlgError, DiskFull, StorageError, Unavailable, UnsafePath
from adaptive_llm_gateway.memory import (
    AppendSession,
    Author,
    DeleteMemory,
    Operation,
    RestoreMemory,
    WriteMemory,
)
from adaptive_llm_gateway.memory import _writer as writer_module
from adaptive_llm_gateway.memory._files import FileBatch, prepare_scratch, read_file, storage_error
from adaptive_llm_gateway.memory._values import Change
from adaptive_llm_gateway.memory._writer import segments

ME = Author("test-client")


# --- groups ------------------------------------------------------------------------------------------


def test_fifty_writes_at_once_share_few_commits_and_name_every_agent(bench: Any) -> None:
    store = bench.open()
    before = bench.commits(store)
    with bench.group(store):
        tickets = [
            store.submit(WriteMemory(Author(f"agent-{n}"), title=f"Number {n}", reason=f"reason {n}"))
            for n in range(50)
        ]
    commits = {ticket.committed.result(30) for ticket in tickets}
    assert len(commits) <= 2
    assert bench.commits(store) - before <= 2
    assert store.status().memories == 50
    agents = bench.git(store, "log", "--format=%(trailers:key=Agent,valueonly)").split()
    assert {f"agent-{n}" for n in range(50)} <= set(agents)
    log = bench.git(store, "log", "--format=%B")
    assert all(f"reason {n}" in log for n in range(50))
    assert all(ticket.saved.result(0).id in log for ticket in tickets)
    bench.tidy(store)


def test_two_updates_of_one_memory_in_one_group_are_both_in_its_history(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    with bench.group(store):
        tickets = [store.submit(WriteMemory(ME, id=made.id, body=body)) for body in ("two\n", "three\n")]
    versions = [ticket.saved.result(30).version for ticket in tickets]
    tickets[1].committed.result(30)
    history = [revision.version for revision in store.history(made.id).revisions]
    assert history == [versions[1], versions[0], made.version]
    assert store.read(made.id, at=versions[0]).record.body == "two\n"
    bench.tidy(store)


def test_a_group_sees_its_own_changes(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    with bench.group(store):
        second = store.submit(WriteMemory(ME, id=made.id, body="two\n", if_version=made.version))
        stale = store.submit(WriteMemory(ME, id=made.id, body="three\n", if_version=made.version))
        gone = store.submit(DeleteMemory(ME, made.id))
        late = store.submit(WriteMemory(ME, id=made.id, body="four\n"))
        session = store.submit(AppendSession(ME, "began"))
    second.saved.result(30)
    gone.saved.result(30)
    assert stale.saved.exception(30).code == "version_conflict"
    assert late.saved.exception(30).code == "not_found"
    session.saved.result(30)
    bench.tidy(store)


def test_a_path_that_occurs_twice_begins_another_commit() -> None:
    operation: Operation = "update"
    changes = [Change(path, b"", operation, "i", "t", ME) for path in "abacab"]
    assert [[change.path for change in run] for run in segments(changes)] == [["a", "b"], ["a", "c"], ["a", "b"]]
    assert segments([]) == []


# --- the index fails ---------------------------------------------------------------------------------


def test_a_busy_index_undoes_the_files_exactly(bench: Any) -> None:
    store = bench.open()
    kept = bench.write(store, "Kept", body="as it was\n")
    gone = bench.write(store, "To delete", body="still here\n")
    store.flush()
    before = {path: path.read_bytes() for path in store.repo.path.rglob("*.md") if ".git" not in path.parts}
    head = store.repo.head()
    index = store._index
    bench.poll(lambda: not index.pending(), "the committer to be done with the index")
    index._writer.set_busy_timeout(50)  # five seconds otherwise
    other: Any = apsw.Connection(str(index.path))
    other.execute("BEGIN IMMEDIATE")
    try:
        with bench.group(store):
            tickets = [
                store.submit(WriteMemory(ME, title="New", body="x\n")),
                store.submit(WriteMemory(ME, id=kept.id, body="changed\n")),
                store.submit(WriteMemory(ME, id=kept.id, body="changed twice\n")),
                store.submit(DeleteMemory(ME, gone.id)),
            ]
        errors = [ticket.saved.exception(30) for ticket in tickets]
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert all(isinstance(error, Unavailable) for error in errors)
    after = {path: path.read_bytes() for path in store.repo.path.rglob("*.md") if ".git" not in path.parts}
    assert after == before
    assert store.repo.head() == head
    assert store.read(kept.id).record.body == "as it was\n"
    bench.tidy(store)
    bench.write(store, "It goes on")
    bench.tidy(store)


def test_a_failure_that_nobody_foresaw_is_told_and_the_writer_goes_on(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")

    def broken(*_: Any, **__: Any) -> list[int]:
        raise ZeroDivisionError("a bug")

    # A bug in the index is not to be had on demand.
    with monkeypatch.context() as patch:
        patch.setattr(store._index, "apply", broken)
        with pytest.raises(StorageError, match="ZeroDivisionError"):
            bench.update(store, made.id, body="two\n")
    assert store.read(made.id).record.body == "one\n"
    bench.update(store, made.id, body="three\n")
    bench.tidy(store)


# --- the commit fails --------------------------------------------------------------------------------


def test_a_failed_commit_is_told_and_made_up_for_when_it_can_be(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_SECONDS", 0.1)  # five seconds otherwise
    store = bench.open()
    bench.write(store, "Before")
    lock = bench.lock_branch(store)
    done = bench.write(store, "Locked out", reason="the lock", by="patient")
    assert done.standing.state == "saved"
    assert done.standing.commit is None
    assert "locked" in done.standing.error
    assert [hit.record.id for hit in store.search("locked out").hits] == [done.id]
    status = store.status()
    assert status.uncommitted == 1
    assert any("commits fail" in notice for notice in status.notices)
    assert not store.flush(5)
    lock.unlink()
    bench.poll(lambda: store.status().uncommitted == 0, "the commit to be made up for")
    log = bench.git(store, "log", "-1", "--format=%an|%B")
    assert "patient" in log
    assert "the lock" in log
    bench.poll(lambda: not store.status().notices, "the notice to go")
    bench.tidy(store)


def test_writes_after_a_failed_commit_come_after_it(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "_RETRY_SECONDS", 0.1)
    store = bench.open(commit_wait=0.0)
    made = bench.write(store, "A", body="one\n")
    store.flush()
    lock = bench.lock_branch(store)
    versions = [bench.update(store, made.id, body=f"{n}\n").version for n in range(3)]
    bench.write(store, "Another")
    lock.unlink()
    bench.poll(lambda: store.status().uncommitted == 0, "the commits")
    assert [revision.version for revision in store.history(made.id).revisions] == [*reversed(versions), made.version]
    bench.tidy(store)


def test_a_repo_in_the_middle_of_a_merge_takes_no_write_and_loses_none(bench: Any) -> None:
    store = bench.open()
    bench.write(store, "Before")
    head = store.repo.head()
    marker = store.repo.git_dir / "MERGE_HEAD"
    marker.write_text(f"{head}\n", encoding="utf-8")
    with pytest.raises(AlgError, match="merge"):
        bench.write(store, "During")
    assert store.status().memories == 1
    marker.unlink()
    bench.write(store, "After")
    bench.tidy(store)


def test_what_a_user_staged_is_not_swept_into_our_commits(bench: Any) -> None:
    store = bench.open()
    bench.write(store, "Before")
    (store.repo.path / "README.md").write_text("mine\n", encoding="utf-8")
    (store.repo.path / "draft.txt").write_text("not even staged\n", encoding="utf-8")
    bench.poll(lambda: not store.repo.index_pending, "git's own index")
    bench.git(store, "add", "README.md")
    bench.write(store, "After")
    store.flush()
    bench.poll(lambda: not store.repo.index_pending, "git's own index")
    assert "README.md" not in store.repo.tree_files()
    assert bench.git(store, "status", "--porcelain").splitlines() == ["A  README.md", "?? draft.txt"]


# --- crashes, as they look afterwards ----------------------------------------------------------------


def test_a_file_that_was_written_but_not_indexed_is_taken_in(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    file = bench.file(store, made.id)
    store.close()
    file.write_bytes(file.read_bytes().replace(b"one", b"two"))
    again = bench.open()
    assert again.record(made.id).body == "two\n"
    assert [hit.record.id for hit in again.search("two").hits] == [made.id]
    bench.tidy(again)


def test_what_was_indexed_but_not_committed_keeps_its_agent_and_reason(bench: Any) -> None:
    store = bench.open(commit_wait=0.0)
    first = bench.write(store, "First")
    store.flush()
    lock = bench.lock_branch(store)
    bench.write(store, "Written", by="poor-agent", reason="before the crash")
    store.write(DeleteMemory(Author("deleting-agent"), first.id, reason="not needed"))
    store.close()
    lock.unlink()
    again = bench.open()
    assert again.flush()
    log = bench.git(again, "log", "-1", "--format=%B")
    for word in ("poor-agent", "before the crash", "deleting-agent", "not needed"):
        assert word in log
    assert [stone.id for stone in again.deleted()] == [first.id]
    bench.tidy(again)
    again.write(RestoreMemory(ME, first.id))
    bench.tidy(again)


def test_a_secret_that_came_in_after_a_crash_is_not_committed_with_the_rest(bench: Any) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
    store = bench.open(commit_wait=0.0)
    bench.write(store, "First")
    store.flush()
    lock = bench.lock_branch(store)
    made = bench.write(store, "Written", body="fine\n")
    file = bench.file(store, made.id)
    store.close()
    lock.unlink()
    file.write_text(file.read_text(encoding="utf-8") + f"{token}\n", encoding="utf-8")
    again = bench.open()
    again.flush()
    assert [skipped.path for skipped in again.status().skipped] == [made.path]
    assert token not in bench.git(again, "log", "-p")
    file.write_text(file.read_text(encoding="utf-8").replace(token, "no more"), encoding="utf-8")
    bench.noticed(again, file)
    assert "no more" in again.read(made.id).text
    bench.tidy(again)


def test_leftovers_in_the_scratch_folder_are_cleared_away(bench: Any) -> None:
    store = bench.open()
    scratch = store.repo.git_dir / "alg-scratch"
    store.close()
    (scratch / "123-0.new").write_bytes(b"half")
    again = bench.open()
    assert not list(scratch.iterdir())
    bench.tidy(again)


# --- files -------------------------------------------------------------------------------------------


def test_a_batch_undoes_create_replace_and_remove_in_reverse(tmp_path: Any) -> None:
    root, scratch = tmp_path / "root", tmp_path / "scratch"
    root.mkdir()
    prepare_scratch(scratch)
    (root / "old.md").write_bytes(b"old")
    (root / "gone.md").write_bytes(b"gone")
    batch = FileBatch(root, scratch)
    undo = [
        batch.put("a/b/new.md", b"new"),
        batch.put("old.md", b"newer"),
        batch.put("old.md", b"newest"),
        batch.remove("gone.md"),
        batch.put("gone.md", b"back in another form"),
        batch.remove("never.md"),
    ]
    assert (root / "old.md").read_bytes() == b"newest"
    for step in reversed(undo):
        step()
    batch.forget()
    assert {path.name: path.read_bytes() for path in root.rglob("*.md")} == {"old.md": b"old", "gone.md": b"gone"}
    assert not list(scratch.iterdir())


def test_a_batch_without_hard_links_can_be_undone_too(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(95, "no links here")

    monkeypatch.setattr(os, "link", refused)  # such a file system is not at hand
    root = tmp_path / "root"
    root.mkdir()
    (root / "old.md").write_bytes(b"old")
    prepare_scratch(tmp_path / "scratch")
    batch = FileBatch(root, tmp_path / "scratch")
    undo = batch.put("old.md", b"new")
    undo()
    batch.forget()
    assert (root / "old.md").read_bytes() == b"old"
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("path", ["../x.md", "/x.md", ".git/config", "a/../../x.md", "link/x.md", "a\x00.md", ""])
def test_a_batch_touches_nothing_outside(tmp_path: Any, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    prepare_scratch(tmp_path / "scratch")
    batch = FileBatch(root, tmp_path / "scratch")
    for attempt in (lambda: batch.put(path, b"x"), lambda: batch.remove(path)):
        with pytest.raises(UnsafePath):
            attempt()
    with pytest.raises(UnsafePath):
        read_file(root, path, limit=10)
    assert not (tmp_path / "x.md").exists()


def test_what_is_no_regular_file_is_not_read(tmp_path: Any) -> None:
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "large.md").write_bytes(b"x" * 11)
    for name in ("pipe.md", "folder.md"):
        with pytest.raises(UnsafePath, match="regular file"):
            read_file(tmp_path, name, limit=10)
    with pytest.raises(StorageError, match="larger"):
        read_file(tmp_path, "large.md", limit=10)
    assert read_file(tmp_path, "absent.md", limit=10) is None


@pytest.mark.parametrize(
    ("number", "code"), [(28, "disk_full"), (122, "disk_full"), (30, "read_only"), (13, "read_only"), (5, "storage")]
)
def test_what_the_system_says_has_a_name(number: int, code: str) -> None:
    error = storage_error(OSError(number, os.strerror(number), "/some/where"), "write 'x'")
    assert error.code == code
    assert "write 'x'" in str(error)
    assert error.details["path"] == "/some/where"
    assert isinstance(error, DiskFull) == (code == "disk_full")
