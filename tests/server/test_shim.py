"""The shim: what a client sees when hubs come, go and die, and that nothing is left behind."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

WAIT = 60.0


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie answers too; it is dead for our purposes.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"


def waiting(stream: Any) -> int:
    """Bytes in a pipe that nobody read."""
    count = bytearray(4)
    fcntl.ioctl(stream, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


def test_the_client_goes_on_after_the_hub_was_killed(server: Any) -> None:
    client = server.client("claude-code")
    written = client.write("Before the crash")
    first = server.kill_hub()
    assert written in client.call("memory_search", query="crash")
    assert server.hub_pid() not in (None, first)
    after = client.write("After the crash")
    assert "by claude-code" in client.call("memory_search", query="after crash")
    assert after in client.call("memory_read", id=after)


def test_a_call_in_flight_is_answered_with_a_retryable_error(server: Any) -> None:
    client = server.client(env={"ALG_FAULT": "write.validated"})
    refusal = client.refused("memory_write", title="Never finished")
    assert "try again" in refusal
    client.process.poll()
    assert client.process.returncode is None
    assert "memories" in client.call("memory_status")


def test_a_call_that_the_dead_hub_never_got_is_carried_out_by_the_next(server: Any) -> None:
    client = server.client()
    long = client.write("Long", body="One line of a long text.\n" * 40_000)
    client.reading.clear()
    for _ in range(3):
        client.start_call("memory_read", id=long)
    deadline = time.monotonic() + WAIT
    while waiting(client.process.stdout) < 32_000:  # the shim is at these, and will not see that the hub is gone
        assert time.monotonic() < deadline
        time.sleep(0.01)
    server.kill_hub()
    number = client.start_call("memory_write", title="Said to nobody")
    time.sleep(0.2)
    client.reading.set()
    result = client.answer(number)["result"]
    assert "Wrote note 'Said to nobody'" in server.text_of(result)
    assert not result.get("isError")


def test_requests_that_change_nothing_are_sent_again_to_the_next_hub(server: Any) -> None:
    client = server.client()
    pid = server.hub_pid()
    os.kill(pid, signal.SIGSTOP)
    number = client.start_request("tools/list")
    os.kill(pid, signal.SIGKILL)
    assert client.answer(number)["result"]["tools"]


def test_a_handshake_the_hub_did_not_live_to_answer_is_answered_by_the_next(server: Any) -> None:
    server.client()
    pid = server.hub_pid()
    os.kill(pid, signal.SIGSTOP)
    late = server.raw_client("late")
    number = late.start_request(
        "initialize",
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "late", "version": "1"}},
    )
    os.kill(pid, signal.SIGKILL)
    assert late.answer(number)["result"]["serverInfo"]["name"] == "alg"


def test_a_stopped_hub_stays_stopped_until_somebody_asks(server: Any) -> None:
    client = server.client()
    server.alg("hub", "stop")
    assert server.hub_pid() is None
    assert client.process.poll() is None
    assert "memories" in client.call("memory_status")
    assert server.hub_pid() is not None


def test_many_clients_that_start_at_once_get_one_hub(server: Any) -> None:
    clients = [server.raw_client(f"client-{number}") for number in range(8)]
    numbers = [
        client.start_request(
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": client.name, "version": "1"}},
        )
        for client in clients
    ]
    for client, number in zip(clients, numbers, strict=True):
        assert client.answer(number)["result"]["serverInfo"]["name"] == "alg"
    assert server.json("hub", "status")["clients"] == 8
    starts = (server.home / "logs" / "hub.log").read_text(encoding="utf-8").count(" starts, pid ")
    assert starts == 1


def test_the_shim_ends_when_its_input_ends(server: Any) -> None:
    client = server.client()
    assert client.close() == 0
    server.wait_until(lambda: server.json("hub", "status")["clients"] == 0, what="the hub to notice")


def test_the_shim_ends_when_its_parent_dies_with_the_pipe_still_open(server: Any) -> None:
    # The pipes are held open by this process, so only the parent's death can tell the shim.
    read_end, write_end = os.pipe()
    out_read, out_write = os.pipe()
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([{str(Path(sys.executable).with_name('alg'))!r}, '--home', {str(server.home)!r}, "
        f"'serve'], stdin={read_end}, stdout={out_write}, close_fds=False)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, pass_fds=(read_end, out_write)
    )
    try:
        assert parent.stdout is not None
        shim = int(parent.stdout.readline())
        request = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "x", "version": "1"},
            },
        }
        os.write(write_end, json.dumps(request).encode() + b"\n")
        assert b"serverInfo" in os.read(out_read, 65536)
        parent.kill()
        parent.wait()
        server.wait_until(lambda: not alive(shim), what="the shim's end", wait=20)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close() if parent.stdout else None
        for end in (read_end, write_end, out_read, out_write):
            os.close(end)


def test_a_hub_that_cannot_start_is_named_in_the_answer(server: Any) -> None:
    server.home.mkdir(parents=True)
    (server.home / "config.yaml").write_text("hub:\n  idle_minuts: 5\n", encoding="utf-8")
    client = server.raw_client()
    answer = client.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}})
    assert "hub.idle_minuts" in answer["error"]["message"]
    (server.home / "config.yaml").unlink()
    assert client.initialize()["serverInfo"]["name"] == "alg"


def test_answers_and_requests_of_several_megabytes_pass(server: Any) -> None:
    client = server.client()
    body = "".join(f"Line {number} of a long text.\n" for number in range(60_000))
    written = client.write("Long", body=body)
    assert "Line 59999 of a long text." in client.call("memory_read", id=written)


def test_a_call_whose_client_closes_its_end_at_once_is_answered_truly(server: Any) -> None:
    server.client().close()
    client = server.client("hasty")
    number = client.start_call("memory_write", title="Said in haste")
    assert client.process.stdin is not None
    client.process.stdin.close()
    result = client.answer(number)["result"]
    assert "Wrote note 'Said in haste'" in server.text_of(result)
    assert client.process.wait(timeout=60) == 0


def test_a_shim_that_never_reached_a_hub_says_so_by_its_exit_code(server: Any) -> None:
    server.home.parent.mkdir(exist_ok=True)
    server.home.write_text("not a folder", encoding="utf-8")
    client = server.raw_client()
    assert "error" in client.request("initialize", {})
    assert client.close() == 6
    server.home.unlink()
