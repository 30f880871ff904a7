"""Publishing: a write counts when the remote has taken it, and is nowhere when it has not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import (
    InvalidInput,
    NotFound,
    ProcessLock,
    SecretRefused,
    SyncError,
    Unavailable,
    VersionConflict,
    new_ulid,
    set_offline,
)
from adaptive_llm_gateway.memory import (
    AppendEvent,
    Author,
    Filters,
    MemoryStore,
    Request,
    WriteMemory,
    WriteResult,
)

ME = Author("codex")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
WAIT = 120.0


@pytest.fixture
def pair(bench: Any, remote: Path) -> tuple[MemoryStore, MemoryStore]:
    """Two stores with one remote."""
    return tuple(bench.open(name, remote=str(remote), host=f"box-{name}") for name in ("one", "two"))


def offers(one: MemoryStore, two: MemoryStore, count: int = 1) -> list[str]:
    made = [
        one.write(WriteMemory(ME, type="handoff", title=f"Work {number}", fields={"objective": "Done."})).id
        for number in range(count)
    ]
    one.push().result(WAIT)
    two.pull().result(WAIT)
    return made


def claims(store: MemoryStore, handoff: str) -> list[Any]:
    return list(store.records(filters=Filters(types=("handoff",), fields={"handoff": handoff})))


def claim(store: MemoryStore, handoff: str, by: str = "codex", **given: Any) -> Callable[[], Request]:
    """What decides to claim, unless somebody has done so."""

    def decide() -> Request:
        for taken in claims(store, handoff):
            raise VersionConflict(f"{taken.author.client} holds it", id=handoff, current_version=taken.version)
        request: dict[str, Any] = {"step": 1, "time": NOON, "title": "Work", "fields": {"term": 1}} | given
        return AppendEvent(Author(by), handoff, new_ulid(), "claim", **request)

    return decide


def publish(store: MemoryStore, decide: Callable[[], Request], timeout: float = 60.0) -> WriteResult:
    return store.publish(decide, timeout=timeout).result(WAIT)


def failed(store: MemoryStore, decide: Callable[[], Request], timeout: float = 60.0) -> SyncError:
    with pytest.raises(SyncError) as caught:
        publish(store, decide, timeout)
    assert caught.value.hint
    return caught.value


def nothing_came_of_it(bench: Any, store: MemoryStore, head: str | None, handoff: str) -> None:
    """No claim in index, files, branch, what is known of the remote, or any other reference."""
    assert store.repo.head() == head
    assert not claims(store, handoff)
    assert "-claim-" not in bench.git(store, "log", "--all", "--name-only", "--format=")
    bench.tidy(store)
    bench.git(store, "fsck", "--strict")


def hook(remote: Path, name: str, script: str) -> Path:
    file = remote / "hooks" / name
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


@contextlib.contextmanager
def holding_up(store: MemoryStore) -> Generator[None]:
    """Keep the thread that pulls and pushes from beginning anything more."""
    with ProcessLock(store.repo.git_dir / "alg-sync.lock", timeout=30.0):
        yield


# --- taken ------------------------------------------------------------------------------------------------


def test_a_published_write_is_at_the_remote_and_here(bench: Any, pair: Any, remote: Path) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    done = publish(two, claim(two, handoff, reason="free"))
    assert (done.standing.state, done.standing.sync.state) == ("committed", "pushed")
    assert done.standing.commit == two.repo.head() == bench.git(remote, "rev-parse", "main").strip()
    assert two.sync_status().state == "pushed"
    assert two.read(done.id).record.version == done.version
    log = bench.git(two, "log", "-1", "--format=%s|%an|%(trailers:key=Agent,key=Reason,valueonly,separator=%x2C)")
    assert log.strip() == 'handoff: claim "Work 0"|codex|codex,free'
    assert two.history(done.id).revisions[0].reasons == ("free",)
    one.pull().result(WAIT)
    assert [found.id for found in claims(one, handoff)] == [done.id]
    for store in pair:
        bench.tidy(store)
        bench.git(store, "fsck", "--strict")


def test_the_first_one_fills_an_empty_remote(bench: Any, pair: Any, remote: Path) -> None:
    one, _ = pair
    handoff = one.write(WriteMemory(ME, type="handoff", title="Work")).id
    done = publish(one, claim(one, handoff))
    assert done.standing.commit == bench.git(remote, "rev-parse", "main").strip()
    bench.tidy(one)


def test_what_waits_here_goes_along_also_an_edit_by_hand(bench: Any, pair: Any) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    written = bench.write(two, "Waits")
    edited = bench.write(two, "Edited", body="before\n")
    file = bench.file(two, edited.id)
    file.write_bytes(file.read_bytes().replace(b"before", b"by hand"))
    publish(two, claim(two, handoff))
    one.pull().result(WAIT)
    assert one.record(written.id) is not None
    assert one.read(edited.id).record.body == "by hand\n"
    bench.tidy(two)


def test_what_others_pushed_is_there_when_it_is_decided(bench: Any, pair: Any) -> None:
    one, two = pair
    offers(one, two)
    handoff = one.write(WriteMemory(ME, type="handoff", title="Made since")).id
    one.push().result(WAIT)
    done = publish(two, claim(two, handoff))
    assert [found.id for found in claims(two, handoff)] == [done.id]
    bench.tidy(two)


def test_a_write_of_this_hub_while_it_is_published_is_merged(bench: Any, pair: Any, tmp_path: Path) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    begun, go_on = tmp_path / "begun", tmp_path / "go-on"
    os.mkfifo(go_on)
    hook(tmp_path / "remote.git", "pre-receive", f"touch {begun}\nread line < {go_on}\n")
    future = two.publish(claim(two, handoff), timeout=60)
    bench.poll(begun.exists, "the push")
    meanwhile = bench.write(two, "Written meanwhile")
    (tmp_path / "remote.git" / "hooks" / "pre-receive").unlink()
    go_on.write_text("go on\n", encoding="utf-8")
    done = future.result(WAIT)
    assert done.standing.sync.state == "pushed"
    assert two.sync_status().state == "pending"
    assert two.record(meanwhile.id) is not None
    assert two.record(done.id) is not None
    bench.tidy(two)
    two.push().result(WAIT)
    one.pull().result(WAIT)
    assert one.record(meanwhile.id) is not None
    assert one.record(done.id) is not None


def test_what_changes_nothing_counts_as_soon_as_the_remote_has_it(bench: Any, pair: Any, remote: Path) -> None:
    one, _ = pair
    made = bench.write(one, "Note", body="text\n")
    done = publish(one, lambda: WriteMemory(ME, id=made.id, body="text\n"))
    assert done.unchanged
    assert bench.git(remote, "rev-parse", "main").strip() == one.repo.head()


def test_any_write_can_be_published(bench: Any, pair: Any) -> None:
    one, two = pair
    made = bench.write(one, "Note", body="one\n")
    publish(one, lambda: WriteMemory(ME, id=made.id, body="two\n"))
    two.pull().result(WAIT)
    assert two.read(made.id).record.body == "two\n"
    assert [found.subject for found in two.history(made.id).revisions] == ['Update note "Note"', 'Write note "Note"']
    bench.tidy(one)


# --- refused ----------------------------------------------------------------------------------------------


def test_the_loser_of_a_race_is_told_who_won_and_leaves_nothing(bench: Any, pair: Any) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    decide = claim(two, handoff, "claude-code")
    calls: list[int] = []

    def late() -> Request:
        request = decide()
        calls.append(1)
        if len(calls) == 1:  # another clone is quicker by a hair
            publish(one, claim(one, handoff, "codex"))
        return request

    with pytest.raises(VersionConflict, match="codex holds it"):
        publish(two, late)
    assert len(calls) == 1
    for store in pair:
        assert [found.author.client for found in claims(store, handoff)] == ["codex"]
        assert store.sync_status().state == "pushed"
        assert bench.git(store, "log", "--all", "--format=%an").count("claude-code") == 0
        bench.tidy(store)


def test_what_cannot_be_planned_is_refused(bench: Any, pair: Any) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    head = two.repo.head()
    for request, error in (
        (AppendEvent(ME, new_ulid(), new_ulid(), "claim", 1, NOON, "Work"), NotFound),
        (AppendEvent(ME, handoff, new_ulid(), "seize", 1, NOON, "Work"), InvalidInput),
        (AppendEvent(ME, handoff, new_ulid(), "done", 1, NOON, "Work", body=TOKEN), SecretRefused),
    ):
        with pytest.raises(error):
            publish(two, lambda request=request: request)
    nothing_came_of_it(bench, two, head, handoff)
    assert two.sync_status().state == "pushed"
    assert two.sync_status().error is None


def test_what_fails_while_deciding_reaches_the_caller_and_harms_nothing(bench: Any, pair: Any) -> None:
    one, two = pair
    (handoff,) = offers(one, two)

    def broken() -> Request:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        publish(two, broken)
    publish(two, claim(two, handoff))
    bench.tidy(two)


def test_a_push_that_a_hook_of_the_remote_refuses_leaves_nothing(bench: Any, pair: Any, remote: Path) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    head = two.repo.head()
    refusing = hook(remote, "pre-receive", "echo 'not on a Sunday' >&2; exit 1")
    error = failed(two, claim(two, handoff))
    assert error.details["kind"] == "hook_rejected"
    assert "not on a Sunday" in error.details["git"]
    nothing_came_of_it(bench, two, head, handoff)
    assert two.sync_status().kind == "hook_rejected"
    refusing.unlink()
    publish(two, claim(two, handoff))
    assert two.sync_status().state == "pushed"


def test_a_secret_that_waits_to_be_pushed_holds_it_back(bench: Any, pair: Any, remote: Path) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    (two.repo.path / "notes").mkdir(exist_ok=True)
    (two.repo.path / "notes" / "careless.md").write_text(f"token {TOKEN}\n", encoding="utf-8")
    bench.git(two, "add", ".")
    bench.git(two, "commit", "-qm", "careless", "--no-verify")
    before = bench.git(remote, "rev-parse", "main")
    error = failed(two, claim(two, handoff))
    assert error.details["kind"] == "secret_outgoing"
    assert TOKEN not in str(error.as_dict())
    assert bench.git(remote, "rev-parse", "main") == before
    assert not claims(two, handoff)
    assert "-claim-" not in bench.git(two, "log", "--all", "--name-only", "--format=")


def test_without_a_remote_nothing_is_decided(bench: Any) -> None:
    store = bench.open()
    assert failed(store, never).details["kind"] == "no_remote"


def test_when_the_remote_is_gone_nothing_is_decided_or_written(bench: Any, pair: Any, remote: Path) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    head = two.repo.head()
    away = remote.with_name("away.git")
    remote.rename(away)
    assert failed(two, never).details["kind"] == "remote_missing"
    nothing_came_of_it(bench, two, head, handoff)
    assert two.sync_status().state == "failed"
    away.rename(remote)
    with pytest.raises(InvalidInput):
        publish(two, lambda: AppendEvent(ME, handoff, new_ulid(), "seize", 1, NOON, "Work"))
    assert two.sync_status().state == "pushed"
    publish(two, claim(two, handoff))


def test_in_offline_mode_a_remote_elsewhere_is_not_asked(bench: Any, pair: Any) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    head = two.repo.head()
    bench.git(two, "remote", "set-url", "origin", "https://git.invalid/memory.git")
    set_offline(True)
    try:
        assert failed(two, never).details["kind"] == "offline"
    finally:
        set_offline(False)
    nothing_came_of_it(bench, two, head, handoff)


def test_a_closed_store_publishes_nothing(bench: Any, pair: Any) -> None:
    one, _ = pair
    one.close()
    with pytest.raises(Unavailable):
        one.publish(never, timeout=10)


def test_what_is_cancelled_before_its_turn_or_has_no_time_left_does_nothing(bench: Any, pair: Any) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    head = two.repo.head()
    with holding_up(two):
        first = two.pull()
        cancelled, late = two.publish(never, timeout=60), two.publish(never, timeout=0.0)
        assert cancelled.cancel()
    first.result(WAIT)
    with pytest.raises(SyncError) as caught:
        late.result(WAIT)
    assert caught.value.details["kind"] == "timeout"
    nothing_came_of_it(bench, two, head, handoff)


def test_a_remote_that_keeps_moving_is_given_up_when_the_time_is_over(bench: Any, pair: Any, remote: Path) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    head = two.repo.head()
    # As if another clone's push came in between each time: git then finds that the branch is not what it was.
    hook(
        remote,
        "pre-receive",
        "tree=$(git rev-parse 'main^{tree}')\n"
        "unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n"
        "export GIT_AUTHOR_NAME=o GIT_AUTHOR_EMAIL=o GIT_COMMITTER_NAME=o GIT_COMMITTER_EMAIL=o\n"
        "git update-ref refs/heads/main $(git commit-tree $tree -p main -m other)",
    )
    error = failed(two, claim(two, handoff), timeout=1.0)
    assert error.details["kind"] in ("non_fast_forward", "ref_race")
    (remote / "hooks" / "pre-receive").unlink()
    assert not claims(two, handoff)
    assert "-claim-" not in bench.git(two, "log", "--all", "--name-only", "--format=")
    assert head != publish(two, claim(two, handoff)).standing.commit
    bench.tidy(two)


# --- nobody knows -----------------------------------------------------------------------------------------


def test_an_answer_that_is_lost_is_looked_up_at_the_remote(bench: Any, pair: Any, remote: Path) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    lost_answer(two, remote)
    done = publish(two, claim(two, handoff))
    assert done.standing.sync.state == "pushed"
    assert done.standing.commit in bench.git(remote, "rev-list", "main")
    assert [found.id for found in claims(two, handoff)] == [done.id]
    bench.tidy(two)


@pytest.mark.parametrize("taken", [True, False])
def test_when_nobody_can_tell_the_error_says_so_and_the_next_pull_shows(
    bench: Any, pair: Any, remote: Path, taken: bool
) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    away = remote.with_name("away.git")
    lost_answer(two, remote, then=f"mv {remote} {away}", taken=taken)
    error = failed(two, claim(two, handoff))
    assert error.details["kind"] == "unknown"
    assert "may or may not" in str(error)
    assert not claims(two, handoff)
    assert two.sync_status().state == "failed"
    away.rename(remote)
    bench.git(two, "config", "--unset", "remote.origin.receivepack")
    two.pull().result(WAIT)
    assert len(claims(two, handoff)) == taken
    bench.tidy(two)


def test_a_push_that_was_lost_and_cannot_count_any_more_is_no_doubt(bench: Any, pair: Any, remote: Path) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    one.write(claim(one, handoff, "claude-code")())
    # The connection ends before the push arrives, and then another clone's does.
    lost_answer(two, remote, then=f"git -C {one.repo.path} push -q origin main", taken=False)
    with pytest.raises(VersionConflict, match="claude-code holds it"):
        publish(two, claim(two, handoff))
    assert len(claims(two, handoff)) == 1
    assert two.sync_status().state == "pushed"
    bench.tidy(two)


def lost_answer(store: MemoryStore, remote: Path, *, then: str = "true", taken: bool = True) -> None:
    """Have the connection end in the place of the remote's answer, once it has taken the push or before."""
    program = remote.with_name("receive-pack")
    script = f"""#!{sys.executable}
import os, subprocess, sys, threading
child = subprocess.Popen(["git-receive-pack", *sys.argv[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def told():
    size = child.stdout.read(4)
    os.write(1, size + child.stdout.read(max(0, int(size, 16) - 4)))
    return size
while told() != b"0000":
    pass
first = os.read(0, 65536)
def pass_on():
    data = first
    while data:
        child.stdin.write(data)
        child.stdin.flush()
        data = os.read(0, 65536)
if {taken}:
    threading.Thread(target=pass_on, daemon=True).start()
    child.stdout.read()
else:
    child.kill()
child.wait()
subprocess.run({then!r}, shell=True, check=True)
os._exit(1)
"""
    program.write_text(script, encoding="utf-8")
    program.chmod(0o755)
    setting = ["git", "-C", str(store.repo.path), "config", "remote.origin.receivepack", str(program)]
    subprocess.run(setting, check=True, timeout=60)


def test_what_was_taken_and_cannot_be_brought_in_is_said_and_comes_with_a_later_pull(
    bench: Any, pair: Any, remote: Path
) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    known = two.record(handoff)
    assert known is not None
    id_ = new_ulid()
    event = AppendEvent(ME, handoff, id_, "claim", 1, NOON, "Work")
    folder = two.repo.path / Path(known.path).parent / handoff[-8:].lower()
    in_the_way = folder / f"0001-claim-{id_[-8:].lower()}.md"
    hook(remote, "pre-receive", f"mkdir -p {folder} && echo somebody > {in_the_way}")
    error = failed(two, lambda: event)
    assert error.details["kind"] == "not_merged"
    assert error.details["commit"] == bench.git(remote, "rev-parse", "main").strip()
    assert "has taken it" in str(error)
    assert two.sync_status().state == "failed"
    in_the_way.unlink()
    two.pull().result(WAIT)
    assert [found.id for found in claims(two, handoff)] == [id_]
    assert two.sync_status().state == "pushed"
    bench.tidy(two)


# --- races ------------------------------------------------------------------------------------------------


def test_two_stores_with_eight_threads_each_claim_every_item_exactly_once(bench: Any, pair: Any) -> None:
    one, two = pair
    handoffs = offers(one, two, 20)
    won: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    lock = threading.Lock()

    def work(store: MemoryStore, name: str, first: int) -> None:
        for number in range(len(handoffs)):
            handoff = handoffs[(first + number) % len(handoffs)]
            try:
                publish(store, claim(store, handoff, name), timeout=90.0)
            except VersionConflict:
                with lock:
                    lost[handoff] += 1
            else:
                with lock:
                    won[handoff] += 1

    with ThreadPoolExecutor(16) as pool:
        running: list[Future[None]] = [
            pool.submit(work, store, f"client-{place}-{number}", 3 * number)
            for place, store in enumerate(pair)
            for number in range(8)
        ]
        for future in running:
            future.result(300)
    assert won == Counter(dict.fromkeys(handoffs, 1))
    assert lost == Counter(dict.fromkeys(handoffs, 15))
    for store in pair:
        store.pull().result(WAIT)
        assert [len(claims(store, handoff)) for handoff in handoffs] == [1] * len(handoffs)
        bench.tidy(store)
        bench.git(store, "fsck", "--strict")
    first, second = ({one.id: one.author.client for h in handoffs for one in claims(store, h)} for store in pair)
    assert first == second


# --- who is told ------------------------------------------------------------------------------------------


def test_whoever_listens_is_told_of_each_time_that_the_remote_was_reached(bench: Any, pair: Any, remote: Path) -> None:
    one, two = pair
    told: list[str] = []
    (handoff,) = offers(one, two)
    two.on_synced(lambda: 1 / 0)
    two.on_synced(lambda: told.append(two.sync_status().state))
    two.pull().result(WAIT)
    bench.poll(lambda: len(told) == 1, "the pull")
    publish(two, claim(two, handoff))
    bench.poll(lambda: len(told) == 2, "the publication")
    two.push().result(WAIT)
    bench.poll(lambda: len(told) == 3, "the push")
    remote.rename(remote.with_name("away.git"))
    failed(two, never)
    with pytest.raises(SyncError):
        two.pull().result(WAIT)
    assert told == ["pushed", "pushed", "pushed"]


def test_a_listener_may_publish(bench: Any, pair: Any) -> None:
    one, two = pair
    published: list[Future[WriteResult]] = []

    def settle() -> None:
        for offer in two.list(filters=Filters(types=("handoff",))).records:
            if not claims(two, offer.id):
                published.append(two.publish(claim(two, offer.id), timeout=60))

    two.on_synced(settle)
    (handoff,) = offers(one, two)
    bench.poll(lambda: published, "the listener")
    published[0].result(WAIT)
    one.pull().result(WAIT)
    assert len(claims(one, handoff)) == 1


def test_pulls_that_wait_are_answered_by_one_run_and_so_are_pushes(bench: Any, pair: Any) -> None:
    one, two = pair
    offers(one, two)
    told: list[str] = []
    two.on_synced(lambda: told.append(two.sync_status().state))
    with holding_up(two):
        asked = [two.pull(), *(ask() for ask in (two.pull, two.push) * 5)]
        dropped = two.pull()
        assert dropped.cancel()
    bench.write(one, "Later")
    for future in asked:
        assert future.result(WAIT).status.state == "pushed"
    assert 2 <= len(told) <= 3  # the first pull may have begun before the others were asked for
    two.pull().result(WAIT)  # and none of them is left
    assert len(told) <= 4


# --- crashes ----------------------------------------------------------------------------------------------

_PUBLISHER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.memory import AppendEvent, Author
from adaptive_llm_gateway.memory.testing import temporary_store
with temporary_store(Path(sys.argv[1]), host="box-two") as store:
    event = AppendEvent(Author("codex"), sys.argv[2], new_ulid(), "claim", 1, datetime.now(UTC), "Work")
    store.publish(lambda: event, timeout=60).result(60)
"""
BEFORE = ("sync.fetched", "sync.planned", "sync.file_written", "sync.ref_moved", "sync.publish_committed")
AFTER = (
    "sync.pushed",
    "sync.planned:2",
    "sync.objects_written:2",
    "sync.journal_written:2",
    "sync.file_written:2",
    "sync.tree_updated:2",
    "sync.ref_moved:2",
    "sync.index_updated:2",
)


@pytest.mark.parametrize("point", [*BEFORE, *AFTER])
def test_killed_anywhere_there_is_nothing_or_what_the_next_pull_brings_in(
    bench: Any, pair: Any, remote: Path, point: str
) -> None:
    one, two = pair
    (handoff,) = offers(one, two)
    two.close()
    bench.write(one, "So that there is something to merge first")
    one.push().result(WAIT)
    died = subprocess.run(
        [sys.executable, "-c", _PUBLISHER, str(two.repo.path.parent), handoff],
        env={**os.environ, "ALG_FAULT": point},
        timeout=WAIT,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    taken = point in AFTER
    assert ("-claim-" in bench.git(remote, "ls-tree", "-r", "--name-only", "main")) == taken
    again = bench.open("two", host="box-two")
    bench.git(again, "fsck", "--strict")
    again.pull().result(WAIT)
    assert len(claims(again, handoff)) == taken
    bench.tidy(again)
    if taken:
        with pytest.raises(VersionConflict):
            publish(again, claim(again, handoff))
    else:
        publish(again, claim(again, handoff))
    one.pull().result(WAIT)
    assert len(claims(one, handoff)) == 1
    bench.tidy(one)


def never() -> Request:
    raise AssertionError("it was decided though the remote was not reached")
