"""A hub that goes: no request is lost, none is carried out twice, and it goes in time."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adaptive_llm_gateway.core import ProcessLock

if TYPE_CHECKING:
    from conftest import Begin, Peer

ALG = str(Path(sys.executable).with_name("alg"))
WAIT = 60.0
SHIMS = 8
RESTARTS = 5
GREETING = {"alg": 1, "kind": "hub"}


def farewell(*unanswered: int | str) -> dict[str, Any]:
    return {"alg": 1, "going": True, "unanswered": list(unanswered)}


# --- The shim's side, with a hub that the test plays ------------------------------------------------------------------


class Played:
    """A hub's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(WAIT)
        self._connection = connection
        self._file = connection.makefile("rb")
        self.hello = self.read()

    def read(self) -> dict[str, Any]:
        return json.loads(self._file.readline())

    def say(self, *messages: dict[str, Any]) -> None:
        for message in messages:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        self._file.close()
        self._connection.close()


class Hubs:
    """What the fixture `hubs` gives: the home's socket, at which the test is the hub."""

    def __init__(self, home: Path, stack: contextlib.ExitStack) -> None:
        home.mkdir(mode=0o700)
        self._stack = stack
        stack.enter_context(ProcessLock(home / "hub.lock"))  # so that no real one starts
        self._listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        self._listener.bind(str(home / "hub.sock"))
        self._listener.listen(8)
        self._listener.settimeout(WAIT)

    def next(self) -> Played:
        """The next connection, after its first line."""
        played = Played(self._listener.accept()[0])
        self._stack.callback(played.close)
        return played

    def refuse(self) -> None:
        """Close the next connection without having read anything of it."""
        self._listener.accept()[0].close()


@pytest.fixture
def hubs(isolated: Path, server: Any) -> Iterator[Hubs]:
    with contextlib.ExitStack() as stack:
        yield Hubs(isolated, stack)


def called(client: Any, title: str = "Once") -> int:
    return client.start_call("memory_write", title=title)


def done(number: int | str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "result": {"content": [{"type": "text", "text": "done"}]}}


def test_a_call_that_the_hub_had_not_begun_is_brought_to_the_next_one(server: Any, hubs: Hubs) -> None:
    client = server.raw_client()
    number = called(client)
    first = hubs.next()
    first.say(GREETING)
    line = first.read()
    first.say(farewell())
    second = hubs.next()
    second.say(GREETING)
    assert second.read() == line
    second.say(done(number))
    assert client.answer(number) == done(number)


def test_a_call_that_the_hub_did_not_come_to_answer_is_named_and_gets_the_retryable_error(
    server: Any, hubs: Hubs
) -> None:
    client = server.raw_client()
    begun, waiting = called(client, "Begun"), called(client, "Waiting")
    first = hubs.next()
    first.say(GREETING)
    first.read()
    first.say(farewell(begun))
    second = hubs.next()
    second.say(GREETING)
    assert second.read()["id"] == waiting
    second.say(done(waiting))
    assert client.answer(waiting) == done(waiting)
    result = client.answer(begun)["result"]
    assert result["isError"]
    assert "try again" in server.text_of(result)


def test_a_call_at_a_hub_that_was_killed_gets_the_retryable_error(server: Any, hubs: Hubs) -> None:
    client = server.raw_client()
    number = called(client)
    first = hubs.next()
    first.say(GREETING)
    assert first.read()["id"] == number
    first.close()
    assert "try again" in server.text_of(client.answer(number)["result"])


def test_a_hub_that_never_greeted_has_begun_nothing(server: Any, hubs: Hubs) -> None:
    client = server.raw_client()
    number = called(client)
    hubs.refuse()
    hubs.refuse()
    third = hubs.next()
    third.say(GREETING)
    assert third.read()["id"] == number
    third.say(done(number))
    assert client.answer(number) == done(number)


def test_what_a_hub_says_for_itself_does_not_reach_the_client(hubs: Hubs) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    shim = subprocess.Popen([ALG, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert shim.stdin is not None
        shim.stdin.write(json.dumps(request).encode() + b"\n")
        shim.stdin.flush()
        hub = hubs.next()
        assert hub.hello["resends"] is True
        hub.say(GREETING, done(1), farewell())
        out, _ = shim.communicate(timeout=WAIT)
    finally:
        shim.kill()
        shim.wait()
    assert [json.loads(line) for line in out.splitlines()] == [done(1)]


def test_an_answer_that_came_before_the_farewell_stays_the_answer(server: Any, hubs: Hubs) -> None:
    client = server.raw_client()
    number = called(client)
    first = hubs.next()
    first.say(GREETING)
    first.read()
    first.say(done(number), farewell())
    assert client.answer(number) == done(number)
    other = called(client, "Another")
    second = hubs.next()
    second.say(GREETING)
    assert second.read()["id"] == other
    second.say(done(other))
    assert client.answer(other) == done(other)


def test_more_hubs_that_go_on_purpose_than_may_die_are_no_failure(server: Any, hubs: Hubs) -> None:
    client = server.raw_client()
    number = called(client)
    for _ in range(12):
        hub = hubs.next()
        hub.say(GREETING)
        assert hub.read()["id"] == number
        hub.say(farewell())
    last = hubs.next()
    last.say(GREETING, done(number))
    assert client.answer(number) == done(number)


def test_a_write_said_in_haste_is_brought_to_the_next_hub_after_the_input_ended(server: Any, hubs: Hubs) -> None:
    client = server.raw_client()
    number = called(client)
    client.process.stdin.close()
    first = hubs.next()
    first.say(GREETING)
    first.read()
    first.say(farewell())
    second = hubs.next()
    second.say(GREETING)
    assert second.read()["id"] == number
    second.say(done(number))
    assert client.answer(number) == done(number)
    assert client.process.wait(timeout=WAIT) == 0


def test_a_request_of_the_command_line_is_brought_to_the_next_hub_too(server: Any, hubs: Hubs) -> None:
    process = subprocess.Popen([ALG, "memory", "status", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        hubs.refuse()
        second = hubs.next()
        second.say(GREETING, farewell())
        third = hubs.next()
        third.say(GREETING)
        assert third.read()["do"] == "status"
        third.say({"error": {"code": "not_found", "message": "played to the end", "hint": None}})
        out, _ = process.communicate(timeout=WAIT)
    finally:
        process.kill()
        process.wait()
    assert json.loads(out)["error"]["message"] == "played to the end"


# --- The hub's side, by hand ----------------------------------------------------------------------------------------


class ByHand:
    """A shim played by the test, at a real hub."""

    def __init__(self, home: Path, **hello: Any) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(WAIT)
        self._socket.connect(str(home / "hub.sock"))
        self._file = self._socket.makefile("rb")
        self.say({"alg": 1, "kind": "mcp", **hello})

    def say(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def call(self, number: int, tool: str, **arguments: Any) -> None:
        params = {"name": tool, "arguments": arguments}
        self.say({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})

    def initialize(self) -> None:
        info = {"name": "by-hand", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        self.say({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
        while self.read().get("id") != 0:
            pass
        self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def read(self) -> dict[str, Any]:
        return json.loads(self._file.readline())

    def rest(self) -> list[dict[str, Any]]:
        """Everything to the end of the connection."""
        return [json.loads(line) for line in self._file]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def with_peer(peer: Peer) -> str:
    entry = f"{{kind: openai_compatible, url: '{peer.url}', models: [{{name: m, chat: true, stream: true}}]}}"
    return f"gateway: {{discover: false}}\nproviders:\n  here: {entry}\n"


def test_what_comes_while_a_hub_goes_is_left_to_the_next_and_what_it_began_is_answered(
    server: Any, peer: Begin
) -> None:
    model = peer("One ", "two.")
    model.go_on.clear()
    server.configure(with_peer(model))
    server.client("starts-it")
    shim = ByHand(server.home, resends=True)
    assert shim.read() == GREETING
    shim.initialize()
    shim.call(1, "gateway_complete", prompt="count")
    server.wait_until(lambda: model.asked, what="the question at the provider")
    os.kill(server.hub_pid(), signal.SIGTERM)
    server.wait_until(lambda: not (server.home / "hub.sock").exists(), what="the hub to be going")
    shim.call(2, "memory_write", title="Too late")
    model.go_on.set()
    *said, last = shim.rest()
    shim.close()
    answers = {message["id"]: message for message in said if "id" in message}
    assert list(answers) == [1]
    assert "One two." in json.dumps(answers[1])
    assert last == farewell()
    server.wait_until(lambda: server.hub_pid() is None, what="the hub's end")
    assert not [path for path in server.files() if "Too late" in path.read_text(encoding="utf-8")]


def test_a_call_that_takes_longer_than_a_hub_waits_is_cut_off_and_named(server: Any, peer: Begin) -> None:
    model = peer("One ", "two.")
    model.go_on.clear()
    server.configure(with_peer(model))
    server.client("starts-it")
    shim = ByHand(server.home, resends=True)
    shim.initialize()
    shim.call(7, "gateway_complete", prompt="count")
    server.wait_until(lambda: model.asked, what="the question at the provider")
    os.kill(server.hub_pid(), signal.SIGTERM)
    said = shim.rest()
    shim.close()
    assert farewell(7) in said
    server.wait_until(lambda: server.hub_pid() is None, what="the hub's end")


def test_a_peer_that_knows_no_farewell_hears_none(server: Any) -> None:
    server.client("starts-it")
    old = ByHand(server.home)
    old.initialize()
    os.kill(server.hub_pid(), signal.SIGTERM)
    assert [message for message in old.rest() if "alg" in message] == []
    old.close()


# --- In time --------------------------------------------------------------------------------------------------------


def foreground(server: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen([ALG, "hub", "run"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    return process


def test_a_second_signal_ends_a_hub_that_waits_for_a_call(server: Any, peer: Begin) -> None:
    model = peer("One ", "two.")
    model.go_on.clear()
    server.configure(with_peer(model))
    hub = foreground(server)
    client = server.client()
    number = client.start_call("gateway_complete", prompt="count")
    server.wait_until(lambda: model.asked, what="the question at the provider")
    hub.terminate()
    server.wait_until(lambda: not (server.home / "hub.sock").exists(), what="the hub to be going")
    hub.terminate()
    assert hub.wait(timeout=WAIT) == 0
    assert hub.stderr is not None
    hub.stderr.close()
    assert "try again" in server.text_of(client.answer(number)["result"])
    log = (server.home / "logs" / "hub.log").read_text(encoding="utf-8")
    assert "a second signal came: ending at once" in log


def test_a_push_that_hangs_keeps_no_hub_and_stays_pending(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = tmp_path / "numbers"
    hangs = tmp_path / "hangs"
    hangs.write_text(f'#!/bin/sh\necho $$ >> "{numbers}"\nexec sleep 600\n', encoding="utf-8")
    hangs.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(hangs))
    server.configure("sync: {remote: 'ssh://git@example.invalid/memory.git', push_delay_seconds: 0}\n")
    hub = foreground(server)
    written = server.client().write("Not pushed")
    server.wait_until(lambda: numbers.exists() and numbers.read_text(encoding="utf-8").strip(), what="git's ssh")
    hub.terminate()
    assert hub.wait(timeout=WAIT) == 0
    assert hub.stderr is not None
    hub.stderr.close()
    for number in numbers.read_text(encoding="utf-8").split():
        server.wait_until(lambda each=number: not Path("/proc", each).exists(), what=f"the end of ssh {number}")
    assert written in server.git("log", "--format=%B")
    monkeypatch.setenv("GIT_SSH_COMMAND", "false")
    status = server.json("memory", "status")
    assert status["sync"]["ahead"] or status["sync"]["state"] in ("pending", "failed")
    assert status["sync"]["state"] != "pushed"


# --- With everything real ------------------------------------------------------------------------------------------


class Busy(threading.Thread):
    """A client that writes and reads without a pause, several requests at once."""

    def __init__(self, client: Any, name: str) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._name = name
        self.rounds = 0
        self.written: list[str] = []
        self.problems: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        try:
            while not self.enough.is_set():
                self._round()
                self.rounds += 1
        except Exception as error:  # noqa: BLE001 - told by the test
            self.problems.append(f"{type(error).__name__}: {error}")

    def _round(self) -> None:
        titles = [f"{self._name} {self.rounds} {part}" for part in "ab"]
        client = self._client
        numbers = [
            *(client.start_call("memory_write", title=title) for title in titles),
            client.start_call("memory_search", query=self._name),
            client.start_request("tools/list"),
        ]
        for number in numbers:
            answer = client.answer(number)
            if "error" in answer or answer["result"].get("isError"):
                self.problems.append(json.dumps(answer))
        self.written += titles


def a_round_of_each(server: Any, clients: list[Busy]) -> None:
    """Wait until every client has done one more round, or one has a problem."""
    before = {client: client.rounds for client in clients}

    def done() -> bool:
        return all(client.rounds > before[client] for client in clients) or any(client.problems for client in clients)

    server.wait_until(done, what="a round of every client")


def test_eight_clients_lose_no_request_to_five_restarts_and_write_everything_once(server: Any) -> None:
    clients = [Busy(server.client(f"busy-{number}"), f"busy-{number}") for number in range(SHIMS)]
    for client in clients:
        client.start()
    hubs = {server.hub_pid()}
    for _ in range(RESTARTS):
        a_round_of_each(server, clients)
        hubs.add(server.json("hub", "restart")["pid"])
    for client in clients:
        client.enough.set()
    for client in clients:
        client.join(WAIT)
        assert not client.is_alive()
    assert [client.problems for client in clients] == [[]] * SHIMS
    assert len(hubs) == RESTARTS + 1
    titles = sorted(title for client in clients for title in client.written)
    server.settled()
    found = [
        match[1]
        for path in server.files()
        if (match := re.search(r"^title: (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    ]
    assert sorted(found) == titles
    added = server.git("log", "--diff-filter=A", "--name-only", "--format=", "--", "*.md").split()
    assert len(added) == len(set(added)) == len(titles)


def test_a_hub_that_is_restarted_says_which_one_went_and_one_that_did_not_run_is_started(server: Any) -> None:
    first = server.json("hub", "restart")
    assert first["before"] is None
    second = server.json("hub", "restart")
    assert second["before"] == first["pid"]
    assert second["pid"] == server.hub_pid() != first["pid"]
