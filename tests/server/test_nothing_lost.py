"""Nothing acknowledged is lost: under load, and when the hub is killed at every step of a write."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from adaptive_llm_gateway.core import POINTS

CLIENTS, WRITES = 8, 250


def test_eight_clients_with_250_writes_each_leave_2000_memories(server: Any) -> None:
    acknowledged: list[str] = []
    failures: list[BaseException] = []
    lock = threading.Lock()

    def work(number: int) -> None:
        try:
            client = server.client(f"client-{number}")
            for count in range(WRITES):
                identifier = client.write(f"Entry {number}-{count}", body=f"text {number} {count}\n", reason="load")
                with lock:
                    acknowledged.append(identifier)
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=150)
    assert not failures
    wanted = set(acknowledged)
    assert len(wanted) == CLIENTS * WRITES

    status = server.settled()
    assert status["memories"] == len(wanted)
    in_files = {
        match[1] for path in server.files() if (match := re.search(r"^id: (\w+)$", path.read_text("utf-8"), re.M))
    }
    assert in_files == wanted
    committed = server.git("ls-tree", "-r", "--name-only", "HEAD", "notes").split()
    assert len(committed) == len(wanted)
    server.wait_until(lambda: server.git("status", "--porcelain") == "", what="a clean git status")
    listed: set[str] = set()
    cursor: list[str] = []
    while True:
        page = server.json("memory", "list", "--limit", "500", *cursor)
        listed |= {memory["id"] for memory in page["memories"]}
        if not page["next_cursor"]:
            break
        cursor = ["--cursor", page["next_cursor"]]
    assert listed == wanted


STEPS = [
    (point, operation)
    for point in POINTS
    for operation in ("create", "update", "delete")
    if point.startswith(("write.", "commit."))
    and not (operation == "delete" and point.startswith("write.temp_"))  # a delete writes no file
]


@pytest.mark.parametrize(("point", "operation"), STEPS)
def test_a_hub_killed_at_any_step_loses_nothing_acknowledged(server: Any, point: str, operation: str) -> None:
    before = server.client("before")
    kept = [before.write(f"Kept {number}", body="kept\n") for number in range(3)]
    target = before.write("Target", body="old text\n")
    server.settled()
    server.alg("hub", "stop")

    client = server.client("victim", env={"ALG_FAULT": point})
    doomed = server.hub_pid()
    match operation:
        case "create":
            number = client.start_call("memory_write", title="Fresh", body="new text\n", reason="before the end")
        case "update":
            number = client.start_call("memory_write", id=target, body="new text\n", reason="before the end")
        case _:
            number = client.start_call("memory_delete", id=target, reason="before the end")
    result = client.answer(number)["result"]
    acknowledged = not result.get("isError")
    server.wait_until(lambda: server.hub_pid() != doomed, what="the hub's death")

    # The shim carries on: its next call starts another hub, without the fault for as long as the point is not reached.
    survivor = server.client("survivor")
    status = server.settled()
    text = survivor.call("memory_search", query="text")
    for identifier in kept:
        assert survivor.call("memory_read", id=identifier)
    now = server.json("memory", "list")["memories"]
    titles = {memory["title"] for memory in now}
    match operation:
        case "create":
            done = "Fresh" in titles
            assert titles - {"Fresh"} == {"Kept 0", "Kept 1", "Kept 2", "Target"}
        case "update":
            done = "new text" in survivor.call("memory_read", id=target)
            assert done or "old text" in survivor.call("memory_read", id=target)
        case _:
            done = "Target" not in titles
    assert done or not acknowledged, text

    assert status["uncommitted"] == 0
    server.wait_until(lambda: server.git("status", "--porcelain") == "", what="a clean git status")
    assert not list((server.repo / ".git" / "alg-scratch").iterdir())
    # The two locks of ours are files that stay; the kernel's lock on them went with the hub.
    left = [path.name for path in server.files_below(server.repo) if path.suffix in (".new", ".tmp", ".old", ".lock")]
    assert set(left) <= {"alg-store.lock", "alg-sync.lock"}
    on_disk = {str(path.relative_to(server.repo)) for path in server.files()}
    assert on_disk == set(server.git("ls-tree", "-r", "--name-only", "HEAD", "notes").split())
    assert len(on_disk) == status["memories"]
    server.git("fsck", "--strict")
    if done:
        # The agent and the reason outlive the crash wherever the index had them.
        log = server.git("log", "--format=%an %(trailers:key=Reason,valueonly)")
        assert "victim" in log or point in ("write.renamed", "write.index_begun")
