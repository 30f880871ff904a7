"""Pulls and pushes are answered in bounded time, go on in the background, and say how far they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.memory import Author, MemoryStore, WriteMemory
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._operations import Operations

ALG = str(Path(sys.executable).with_name("alg"))
ME = Author("test-client")
WAIT = 60.0


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A bare repo with twelve memories that git cannot make small."""
    bare = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)], check=True)
    with temporary_store(tmp_path / "first", remote=str(bare), host="box-one") as store:
        for number in range(12):
            store.write(WriteMemory(ME, title=f"Large {number}", body=os.urandom(40_000).hex()))
        assert store.flush(WAIT)
        store.push().result(WAIT)
    return bare


@pytest.fixture
def silent(large: Path, slow_git: Any) -> str:
    """Its address at a server that falls silent in the middle, until the test has it go on."""
    slow_git.after = 160_000  # of half a million: git takes in packets of up to 65,520 whole, and two have come
    slow_git.open.clear()
    return slow_git.url(large.name)


Run = Callable[[Callable[[Operations], Awaitable[Any]]], Any]


@pytest.fixture
def run(tmp_path: Path, silent: str) -> Iterator[Run]:
    with contextlib.ExitStack() as stack:

        def open_store() -> MemoryStore:
            return stack.enter_context(temporary_store(tmp_path / "second", remote=silent, host="box-two"))

        def carry_out(work: Callable[[Operations], Awaitable[Any]]) -> Any:
            async def main() -> Any:
                operations = Operations(open_store, commit_wait=30.0)
                try:
                    return await asyncio.wait_for(work(operations), WAIT)
                finally:
                    await operations.close()

            return asyncio.run(main())

        yield carry_out


def test_an_answer_comes_in_bounded_time_and_the_pull_goes_on(run: Run, slow_git: Any) -> None:
    async def work(operations: Operations) -> None:
        first = await operations.pull(wait=0.3)
        json.dumps(first, allow_nan=False)
        assert first["running"] is True
        assert first["progress"]["operation"] == "pull"
        status = await operations.status()
        assert status["syncing"]["operation"] == "pull"
        assert (await operations.push(wait=0.0))["running"] is True  # it waits for its turn
        slow_git.open.set()
        done = await operations.pull(wait=WAIT)
        assert done["running"] is False
        assert done["state"] == "pushed"
        status = await operations.status()
        assert (status["memories"], status["syncing"]) == (12, None)

    run(work)


def test_whoever_stops_waiting_does_not_stop_the_pull(run: Run, slow_git: Any) -> None:
    async def work(operations: Operations) -> None:
        store = await operations.store()
        asked = asyncio.create_task(operations.pull(wait=WAIT))
        while store.sync_progress is None:
            await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        slow_git.open.set()
        assert (await operations.pull(wait=WAIT))["state"] == "pushed"
        assert (await operations.status())["memories"] == 12

    run(work)


def test_many_who_ask_while_one_runs_are_answered_by_one_more_run(run: Run, slow_git: Any) -> None:
    async def work(operations: Operations) -> None:
        store: Any = await operations.store()
        began: list[str] = []
        pull = store._sync.pull

        def counted() -> Any:
            began.append("pull")
            return pull()

        store._sync.pull = counted
        assert (await operations.pull(wait=0.2))["running"] is True
        asked = [asyncio.create_task(operations.pull(wait=WAIT)) for _ in range(5)]
        await asyncio.sleep(0)
        slow_git.open.set()
        assert {answer["state"] for answer in await asyncio.gather(*asked)} == {"pushed"}
        assert len(began) == 2

    run(work)


def test_how_far_it_is_is_told_step_by_step(run: Run, slow_git: Any) -> None:
    told: list[dict[str, Any]] = []

    async def step(progress: dict[str, Any]) -> None:
        told.append(progress)
        slow_git.open.set()

    async def work(operations: Operations) -> Any:
        return await operations.pull(wait=WAIT, on_step=step)

    assert run(work)["changed"] == 12
    assert told
    assert all(each["operation"] == "pull" for each in told)


def configure(server: Any, remote: str, more: str = "") -> None:
    server.configure(f"sync:\n  remote: {remote}\n  interval_seconds: 0\n  push_after_write: false\n{more}")


def test_a_client_that_asks_for_progress_is_told_of_a_pulls(server: Any, silent: str, slow_git: Any) -> None:
    configure(server, silent)
    client = server.client()
    params = {"name": "memory_pull", "arguments": {}, "_meta": {"progressToken": "t1"}}
    number = client.start_request("tools/call", params)
    told: list[str] = []
    while not any("receiving objects" in each for each in told):
        message = json.loads(client._lines.get(timeout=WAIT))
        assert message.get("method") == "notifications/progress", message
        told.append(message["params"].get("message") or "")
    slow_git.open.set()
    assert "12 files changed here" in client.answer(number)["result"]["content"][0]["text"]


def test_ctrl_c_leaves_the_pull_to_the_hub_and_says_so(server: Any, silent: str, slow_git: Any) -> None:
    configure(server, silent)
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [ALG, "--home", str(server.home), "memory", "pull"], stdin=follower, stdout=follower, stderr=follower
    ) as process:
        os.close(follower)
        shown, interrupted = b"", False
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
            if b"receiving objects" in shown and not interrupted:
                interrupted = True
                process.send_signal(signal.SIGINT)
        os.close(leader)
        assert process.wait(WAIT) != 0
    assert "the pull goes on in the hub" in shown.decode("utf-8", "replace")
    assert "`alg memory status` says how it ends" in shown.decode("utf-8", "replace")
    running = server.alg("memory", "status").stdout
    assert "running since" in running
    assert "receiving objects" in running
    slow_git.open.set()
    server.wait_until(lambda: server.json("memory", "status", "--json")["memories"] == 12, what="the pull")


def test_memory_sync_brings_both_sides_together(server: Any, large: Path) -> None:
    configure(server, str(large))
    server.alg("memory", "write", "--title", "Mine", "My own words")
    done = server.json("memory", "sync", "--json")
    assert done["state"] == "pushed"
    assert done["changed"] == 12
    assert done["pushed"] >= 1
    assert server.alg("memory", "sync").stdout == "Nothing new: both sides are the same.\n"
    assert server.alg("memory", "pull").stdout == "Nothing new: both sides are the same.\n"
    assert server.alg("memory", "push").stdout == "Pushed.\nThere was nothing to push.\n"
    server.alg("memory", "write", "--title", "More", "Words")
    assert server.alg("memory", "pull").stdout.endswith("\nNothing new came in.\n")
    assert server.alg("memory", "push").stdout == "Pushed.\n1 commit pushed.\n"
    large.rename(large.with_name("away.git"))
    assert server.alg("memory", "sync", check=False).returncode == 8


def test_a_first_pull_whose_hub_is_killed_is_completed_by_the_next_one(server: Any, silent: str, slow_git: Any) -> None:

    def phase() -> str | None:
        syncing: dict[str, Any] | None = server.json("memory", "status", "--json")["syncing"]
        return syncing["phase"] if syncing else None

    with subprocess.Popen(
        [ALG, "--home", str(server.home), "init", "--yes", "--remote", silent],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as begun:
        server.wait_until(server.hub_pid, what="the hub")
        server.wait_until(
            lambda: phase() == "receiving objects",
            what="the first pull",
        )
        server.kill_hub()
        threading.Thread(target=slow_git.open.set).start()
        begun.communicate(timeout=WAIT)
    done = server.json("init", "--yes", "--json", "--remote", silent)
    assert done["sync"]["state"] == "pushed"
    assert server.json("memory", "status", "--json")["memories"] == 12


def test_an_idle_hub_ends_though_its_loop_goes_on(server: Any, large: Path) -> None:
    server.configure(f"sync:\n  remote: {large}\n  interval_seconds: 1\nhub:\n  idle_minutes: 0.02\n")
    server.alg("memory", "status")
    server.wait_until(lambda: server.hub_pid() is None, what="the end of the hub")
