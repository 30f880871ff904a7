"""The store syncs by itself, tries again after failures, and lets writes through meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import DiskFull, LockHeld, ProcessLock, SyncError
from adaptive_llm_gateway.memory import Author, DeleteMemory, MemoryStore, WriteMemory
from adaptive_llm_gateway.memory._syncing import Clock

ME = Author("test-client")
WAIT = 60.0


def many(store: MemoryStore, count: int, *, text: str = "walrus") -> list[str]:
    """So many memories, pushed; their ids."""
    requests = [WriteMemory(ME, title=f"Memory {number}", body=f"{text} {number}\n") for number in range(count)]
    done = store.write_many(requests)
    assert store.flush(WAIT)
    store.push().result(WAIT)
    return [one.id for one in done if not isinstance(one, Exception)]


@pytest.fixture
def pair(bench: Any, remote: Path) -> tuple[MemoryStore, MemoryStore, list[str]]:
    """Two stores with one remote and forty memories, and the memories' ids."""
    one = bench.open("one", remote=str(remote), host="box-one")
    ids = many(one, 40)
    two = bench.open("two", remote=str(remote), host="box-two")
    two.pull().result(WAIT)
    return one, two, ids


def hasten(store: MemoryStore) -> Callable[[], None]:
    """Have the store's loop live a thousand times as fast; what to call now and then so that it looks at its clock."""
    syncing = store._syncing  # pyright: ignore[reportPrivateUsage]
    start = time.monotonic()
    syncing._clock = Clock(  # pyright: ignore[reportPrivateUsage]
        monotonic=lambda: start + (time.monotonic() - start) * 1000, wall=lambda: 0.0
    )
    return syncing.look


def between_batches(store: MemoryStore, monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Have `act` called, with how many files are left, between two steps of indexing what a pull brought."""
    writer = store._writer  # pyright: ignore[reportPrivateUsage]
    run, index_some = writer.run, store._index_some  # pyright: ignore[reportPrivateUsage]

    def watched(task: Any) -> Any:
        if task == index_some and len(store._incoming):  # pyright: ignore[reportPrivateUsage]
            act(len(store._incoming))  # pyright: ignore[reportPrivateUsage]
        return run(task)

    monkeypatch.setattr(writer, "run", watched)


# --- by itself ----------------------------------------------------------------------------------------


def test_what_others_wrote_comes_in_without_being_asked(bench: Any, remote: Path) -> None:
    one = bench.open("one", remote=str(remote), host="box-one")
    two = bench.open("two", remote=str(remote), host="box-two", sync_interval=0.05)
    written = bench.write(one, "Told to the other")
    one.push().result(WAIT)
    bench.poll(lambda: two.record(written.id), "the other's memory")


def test_with_pushes_off_the_loop_pulls_and_pushes_nothing(bench: Any, remote: Path) -> None:
    one = bench.open("one", remote=str(remote), host="box-one")
    two = bench.open("two", remote=str(remote), host="box-two", sync_interval=0.05)
    mine = bench.write(two, "Mine")
    written = bench.write(one, "Theirs")
    one.push().result(WAIT)
    bench.poll(lambda: two.record(written.id), "the other's memory")
    head = bench.git(remote, "rev-parse", "main")
    one_more = bench.write(one, "Theirs too")
    one.push().result(WAIT)
    bench.poll(lambda: two.record(one_more.id), "the next one")
    assert bench.git(remote, "rev-list", "--count", f"{head.strip()}..main").strip() == "1"
    assert mine.id not in bench.git(remote, "log", "--format=%B", "main")


def test_a_look_that_finds_nothing_costs_one_git_process(
    bench: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptive_llm_gateway.memory import _git

    _, two, _ = pair
    begun: list[str] = []
    popen = subprocess.Popen

    def counted(command: Any, *arguments: Any, **options: Any) -> Any:
        begun.append(next(word for word in command[1:] if word != "-c" and "=" not in word))
        return popen(command, *arguments, **options)

    monkeypatch.setattr(_git.subprocess, "Popen", counted)
    assert two._syncing._check().status.state == "pushed"  # pyright: ignore[reportPrivateUsage]
    assert begun.count("fetch") == 1
    assert set(begun) <= {"fetch", "remote"}


def test_a_push_that_failed_is_tried_again_when_the_server_is_back(bench: Any, remote: Path, slow_git: Any) -> None:
    store = bench.open(remote=slow_git.url(remote.name), push_after_write=True, push_delay=0.0)
    bench.write(store, "First")
    bench.poll(lambda: store.sync_status().state == "pushed", "the first push")
    slow_git.refuse()
    bench.write(store, "Second")
    status = bench.poll(lambda: (found := store.sync_status()).state == "failed" and found, "the failure")
    assert status.kind == "unreachable"
    look = hasten(store)
    bench.poll(lambda: look() or store.sync_status().attempts >= 2, "another attempt")
    bench.poll(lambda: store.sync_status().next_attempt is not None, "the time of the next one")
    slow_git.listen()
    bench.poll(lambda: look() or store.sync_status().state == "pushed", "the push by itself")
    assert store.sync_status().attempts == 0


def test_a_remote_that_was_away_is_noticed_when_it_is_back(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote), push_after_write=True, push_delay=0.0)
    bench.write(store, "First")
    bench.poll(lambda: store.sync_status().state == "pushed", "the first push")
    away = remote.with_name("away.git")
    remote.rename(away)
    bench.write(store, "Written meanwhile")
    status = bench.poll(lambda: (found := store.sync_status()).state == "failed" and found, "the failure")
    assert status.kind == "remote_missing"
    away.rename(remote)
    look = store._syncing.look  # pyright: ignore[reportPrivateUsage]
    bench.poll(lambda: look() or store.sync_status().state == "pushed", "the push by itself")


def test_what_a_person_has_to_mend_is_not_hammered_but_tried_when_it_was_mended(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote), push_after_write=True, push_delay=0.0)
    bench.write(store, "First")
    bench.poll(lambda: store.sync_status().state == "pushed", "the first push")
    hook = remote / "hooks" / "pre-receive"
    asked = remote / "asked"
    hook.write_text(f"#!/bin/sh\necho x >> '{asked}'\necho no >&2\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    bench.write(store, "Second")
    bench.poll(lambda: store.sync_status().state == "failed", "the refusal")
    assert store.sync_status().kind == "hook_rejected"
    for number in range(3):
        bench.write(store, f"More {number}")
    with pytest.raises(SyncError):  # asked for, it is tried at once, and in turn: nothing else was queued before it
        store.push().result(WAIT)
    assert asked.read_text(encoding="utf-8") == "x\nx\n"
    hook.unlink()
    with (store.repo.git_dir / "config").open("a", encoding="utf-8") as config:
        config.write("# mended\n")
    look = store._syncing.look  # pyright: ignore[reportPrivateUsage]
    bench.poll(lambda: look() or store.sync_status().state == "pushed", "the push by itself")
    bench.write(store, "Third")
    bench.poll(lambda: store.sync_status().ahead == 0, "the next push by itself")


def test_what_is_asked_for_is_not_kept_waiting_by_back_off_and_ends_it(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote), push_after_write=True, push_delay=0.0)
    bench.write(store, "First")
    bench.poll(lambda: store.sync_status().state == "pushed", "the first push")
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    bench.write(store, "Second")
    bench.poll(lambda: store.sync_status().next_attempt is not None, "the wait")
    hook.unlink()
    assert store.push().result(WAIT).status.state == "pushed"
    bench.write(store, "Third")
    bench.poll(lambda: store.sync_status().state == "pushed", "the next push by itself")


def test_what_waits_from_the_last_time_is_pushed_after_the_start(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote))
    bench.write(store, "Left behind")
    store.close()
    again = bench.open(remote=str(remote), push_after_write=True, push_delay=0.0)
    bench.poll(lambda: again.sync_status().state == "pushed", "the push")


def test_a_machine_that_slept_looks_soon(bench: Any, remote: Path) -> None:
    one = bench.open("one", remote=str(remote), host="box-one")
    written = bench.write(one, "While the other slept")
    two = bench.open("two", remote=str(remote), host="box-two", sync_interval=86400.0)
    syncing = two._syncing  # pyright: ignore[reportPrivateUsage]
    two.pull().result(WAIT)
    assert two.record(written.id) is None
    one.push().result(WAIT)
    wall = time.time() + 3600
    syncing._clock = Clock(wall=lambda: wall, draw=lambda: 0.0)  # pyright: ignore[reportPrivateUsage]
    bench.poll(lambda: syncing.look() or two.record(written.id), "the other's memory")


def test_sync_pulls_and_pushes(bench: Any, pair: Any) -> None:
    one, two, _ = pair
    theirs = bench.write(one, "Theirs")
    one.push().result(WAIT)
    mine = bench.write(two, "Mine")
    done = two.sync().result(WAIT)
    assert done.changed == 1
    assert done.pushed >= 1
    assert done.status.state == "pushed"
    assert two.record(theirs.id) is not None
    one.pull().result(WAIT)
    assert one.record(mine.id) is not None


# --- one at a time ------------------------------------------------------------------------------------

_HOLDER = """
import sys
from pathlib import Path
from adaptive_llm_gateway.core import ProcessLock
with ProcessLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_that_syncs_is_named_and_a_dead_one_is_no_obstacle(bench: Any, pair: Any) -> None:
    _, two, _ = pair
    lock = two.repo.git_dir / "alg-sync.lock"
    two._sync.remote._timeout = 1.0  # pyright: ignore[reportPrivateUsage]
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockHeld) as caught:
            two.pull().result(WAIT)
        assert f"process {holder.pid} on " in str(caught.value)
        assert two.sync_status().state == "pushed"  # no failure of the remote
        holder.kill()
    assert two.pull().result(WAIT).status.state == "pushed"


def test_the_loop_tries_again_when_the_other_process_is_done(bench: Any, pair: Any) -> None:
    one, two, _ = pair
    written = bench.write(one, "Meanwhile")
    one.push().result(WAIT)
    two.close()
    with ProcessLock(two.repo.git_dir / "alg-sync.lock"):
        again = bench.open("two", sync_interval=0.05, sync_timeout=1.0)
        look = hasten(again)
        kind = lambda: again._syncing._schedule.pulls.kind  # pyright: ignore[reportPrivateUsage]  # noqa: E731
        bench.poll(lambda: look() or kind() == "lock_held", "the attempt")
    bench.poll(lambda: look() or again.record(written.id), "the other's memory")


# --- writes meanwhile ---------------------------------------------------------------------------------


def test_writes_are_acknowledged_while_a_pull_is_indexed(
    bench: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, ids = pair
    for number, id in enumerate(ids):
        one.submit(WriteMemory(ME, id=id, body=f"otter {number}\n"))
    assert one.flush(WAIT)
    one.push().result(WAIT)
    left: list[int] = []

    def write(count: int) -> None:
        done = bench.write(two, f"With {count} files to go")
        assert done.standing.state == "committed"
        left.append(count)

    between_batches(two, monkeypatch, write)
    done = two.pull().result(WAIT)
    assert done.changed == len(ids)
    assert len(left) >= 3
    assert max(left) == len(ids)
    assert len(two.search("otter", limit=100).hits) == len(ids)
    bench.tidy(two)
    two.push().result(WAIT)


def test_a_write_to_a_memory_that_is_not_indexed_yet_builds_on_what_came(
    bench: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, ids = pair
    for id in ids:
        one.submit(WriteMemory(ME, id=id, body="otter\n"))
    assert one.flush(WAIT)
    one.push().result(WAIT)
    last = ids[-1]

    def write(count: int) -> None:
        if count == len(ids):
            bench.update(two, last, tags=("mine",))

    between_batches(two, monkeypatch, write)
    two.pull().result(WAIT)
    record = two.record(last)
    assert record is not None
    assert record.tags == ("mine",)
    assert record.body == "otter\n"
    bench.tidy(two)
    two.push().result(WAIT)
    one.pull().result(WAIT)
    found = one.record(last)
    assert found is not None
    assert (found.tags, found.body) == (("mine",), "otter\n")


def test_deletions_of_others_are_believed_though_the_watcher_sees_the_files_go(
    bench: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, ids = pair
    paths = [one.record(id).path for id in ids]
    for id in ids[:30]:
        one.submit(DeleteMemory(ME, id))
    assert one.flush(WAIT)
    one.push().result(WAIT)
    between_batches(
        two,
        monkeypatch,
        lambda count: two._edited({*paths, ""} if count == 30 else set(paths)),  # pyright: ignore[reportPrivateUsage]
    )
    two.pull().result(WAIT)
    assert two.status().memories == 10
    assert not [note for note in two.status().notices if "gone at once" in note]
    bench.tidy(two)


def test_a_pull_comes_to_its_end_though_somebody_writes_without_a_pause(bench: Any, pair: Any) -> None:
    one, two, ids = pair
    for id in ids:
        one.submit(WriteMemory(ME, id=id, body="otter\n"))
    assert one.flush(WAIT)
    one.push().result(WAIT)
    stop, written = threading.Event(), list[str]()

    def write() -> None:
        while not stop.is_set():
            written.append(bench.write(two, f"Number {len(written)}").id)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    try:
        bench.poll(lambda: len(written) > 5, "writes")
        assert two.pull().result(WAIT).changed == len(ids)
    finally:
        stop.set()
        for writer in writers:
            writer.join(WAIT)
    assert all(two.record(id) is not None for id in written)
    assert len(two.search("otter", limit=100).hits) == len(ids)
    bench.tidy(two)


def test_what_could_not_be_indexed_is_made_good_by_the_next_pull(
    bench: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, ids = pair
    for id in ids:
        one.submit(DeleteMemory(ME, id))
    written = bench.write(one, "The only one")
    assert one.flush(WAIT)
    one.push().result(WAIT)
    index = two._index  # pyright: ignore[reportPrivateUsage]
    apply = index.apply

    def full(*arguments: Any, **options: Any) -> Any:
        if len(two._incoming) < 20:  # pyright: ignore[reportPrivateUsage]
            raise DiskFull("no space left to index")
        return apply(*arguments, **options)

    monkeypatch.setattr(index, "apply", full)
    with pytest.raises(DiskFull):
        two.pull().result(WAIT)
    monkeypatch.setattr(index, "apply", apply)
    two.pull().result(WAIT)
    assert [record.id for record in two.records()] == [written.id]
    bench.tidy(two)


def test_a_rewritten_history_stays_reachable_however_many_pulls_follow(bench: Any, pair: Any) -> None:
    _, two, _ = pair
    repo = two.repo
    head = repo.head()
    assert head is not None
    lost = bench.git(two, "commit-tree", "-m", "rewritten away", f"{head}^{{tree}}").strip()
    kept = repo.rescue(lost, "20260101T000000-000000Z-remote")
    for number in range(70):
        repo.rescue(head, f"20260102T0000{number:02}-000000Z")
    assert kept in repo.rescues()
    assert len(repo.rescues()) == 51
    for number in range(70):
        other = bench.git(two, "commit-tree", "-m", f"rewritten {number}", f"{head}^{{tree}}").strip()
        repo.rescue(other, f"20260103T0000{number:02}-000000Z-remote")
    assert len(repo.rescues()) <= 100
    bench.git(two, "gc", "--quiet", "--prune=now")
    for name in repo.rescues():
        bench.git(two, "cat-file", "-e", name)
    assert two.status().rescues == len(repo.rescues())


# --- slow and silent servers ----------------------------------------------------------------------------


def noise(store: MemoryStore, size: int) -> None:
    """A memory that git cannot make small, pushed."""
    store.write(WriteMemory(ME, title="Large", body=os.urandom(size // 2).hex()))
    assert store.flush(WAIT)
    store.push().result(WAIT)


def test_a_large_fetch_that_goes_on_is_not_given_up_and_says_how_far_it_is(
    bench: Any, remote: Path, slow_git: Any
) -> None:
    one = bench.open("one", remote=str(remote), host="box-one")
    for _ in range(12):
        noise(one, 60_000)
    slow_git.after, slow_git.rate = 8192, 120_000.0
    two = bench.open("two", remote=slow_git.url(remote.name), host="box-two", sync_timeout=1.0)
    began = time.monotonic()
    pulled = two.pull()
    seen: set[str] = set()

    def received() -> bool:
        progress = two.sync_progress
        if progress is not None and progress.total:
            seen.add(progress.phase)
        return pulled.done()

    bench.poll(received, "the end of the pull")
    assert pulled.result(0).changed == 12
    assert time.monotonic() - began > 1.0  # longer than the server may be silent
    assert "receiving objects" in seen
    assert two.sync_progress is None


def test_a_server_that_falls_silent_is_given_up_and_the_next_pull_succeeds(
    bench: Any, remote: Path, slow_git: Any
) -> None:
    one = bench.open("one", remote=str(remote), host="box-one")
    for _ in range(4):
        noise(one, 60_000)
    two = bench.open("two", remote=slow_git.url(remote.name), host="box-two", sync_timeout=1.0)
    slow_git.after = 32_768
    slow_git.open.clear()
    with pytest.raises(SyncError) as caught:
        two.pull().result(WAIT)
    assert caught.value.details["kind"] == "timeout"
    assert "heard nothing for 1 seconds" in str(caught.value)
    assert two.status().memories == 0
    slow_git.open.set()
    assert two.pull().result(WAIT).changed == 4
    bench.tidy(two)


# --- killed -------------------------------------------------------------------------------------------

_WORKER = """
import sys
from pathlib import Path
from adaptive_llm_gateway.memory.testing import temporary_store
with temporary_store(Path(sys.argv[1]), host="box-two", remote=sys.argv[3]) as store:
    getattr(store, sys.argv[2])().result(60)
"""


def killed(store: MemoryStore, operation: str, point: str, address: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, str(store.repo.path.parent), operation, str(address)],
        env={**os.environ, "ALG_FAULT": point},
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == -9, f"{point} was not reached"


PULL_POINTS = (
    "sync.staged",
    "sync.index_held",
    "sync.rescued",
    "sync.journal_written",
    "sync.file_written:20",
    "sync.ref_moved",
    "commit.git_index_written",
    "sync.index_updated",
    "sync.indexed",
    "sync.indexed:3",
    "write.index_begun",
    "sync.state_noted",
)


@pytest.mark.parametrize("point", PULL_POINTS)
def test_a_store_killed_in_a_pull_goes_on_by_itself_after_the_next_start(
    bench: Any, pair: Any, remote: Path, point: str
) -> None:
    one, two, ids = pair
    for id in ids[:30]:
        one.submit(DeleteMemory(ME, id))
    for id in ids[30:]:
        one.submit(WriteMemory(ME, id=id, body="otter\n"))
    assert one.flush(WAIT)
    one.push().result(WAIT)
    mine = bench.write(two, "Mine, and not pushed")
    two.close()
    killed(two, "pull", point, remote)
    again = bench.open("two", host="box-two", sync_interval=0.05, push_after_write=True, push_delay=0.0)
    bench.poll(lambda: again.sync_status().state == "pushed" and again.sync_status().ahead == 0, "the sync by itself")
    bench.poll(lambda: again.status().memories == 11, "what came")
    assert len(again.search("otter", limit=100).hits) == 10
    assert not [note for note in again.status().notices if "gone at once" in note]
    bench.tidy(again)
    bench.git(again, "fsck", "--strict")
    assert not (again.repo.git_dir / "alg-sync-journal.json").exists()
    assert not (again.repo.git_dir / "alg-sync-stage").exists()
    one.pull().result(WAIT)
    assert one.record(mine.id) is not None
    bench.tidy(one)


@pytest.mark.parametrize("point", ["sync.pushed", "sync.state_noted", "sync.remote_set"])
def test_a_store_killed_in_a_push_or_while_the_remote_is_set_knows_where_it_stands_afterwards(
    bench: Any, pair: Any, remote: Path, tmp_path: Path, point: str
) -> None:
    _, two, _ = pair
    mine = bench.write(two, "Mine")
    two.close()
    other = tmp_path / "other.git"
    remote_now = remote
    if point == "sync.remote_set":
        bench.git(remote, "clone", "-q", "--bare", str(remote), str(other))
        remote_now = other
    killed(two, "push", point, remote_now)
    again = bench.open("two", host="box-two", remote=str(remote_now), push_after_write=True, push_delay=0.0)
    bench.poll(lambda: again.sync_status().state == "pushed", "the push")
    assert mine.id in bench.git(remote_now, "log", "--format=%B", "main")
    bench.tidy(again)


@pytest.mark.parametrize(
    "point", ["sync.fetched", "sync.planned", "sync.file_written:30", "sync.ref_moved", "sync.indexed:4"]
)
def test_a_first_clone_that_is_killed_is_completed_by_the_next_start(bench: Any, remote: Path, point: str) -> None:
    one = bench.open("one", remote=str(remote), host="box-one")
    ids = many(one, 60)
    two = bench.open("two", host="box-two")
    two.close()
    killed(two, "pull", point, remote)
    again = bench.open("two", host="box-two", sync_interval=0.05)
    bench.poll(lambda: again.status().memories == len(ids), "what came")
    assert len(again.search("walrus", limit=100).hits) == len(ids)
    bench.tidy(again)


def test_a_state_file_cut_short_by_a_crash_is_no_obstacle(bench: Any, pair: Any) -> None:
    _, two, _ = pair
    state = two.repo.git_dir / "alg-sync.json"
    assert json.loads(state.read_text(encoding="utf-8"))["state"] == "pushed"
    state.with_name(state.name + ".new").write_text("{", encoding="utf-8")
    state.write_text('{"fail', encoding="utf-8")
    assert two.sync_status().state == "pushed"
    assert two.pull().result(WAIT).status.last_success is not None
