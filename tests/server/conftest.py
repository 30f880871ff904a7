"""Real processes for the server's tests: clients over stdio, the hub behind them, and their end. And what plays a
provider of models.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

ALG = str(Path(sys.executable).with_name("alg"))
WAIT = 60.0
WORDS = ("Hello", ", ", "wide ", "world", ".")


class RawClient:
    """A client over stdio that speaks JSON-RPC by hand, so that tests see what is on the wire."""

    def __init__(
        self,
        home: Path,
        *arguments: str,
        name: str = "test-client",
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [ALG, "--home", str(home), "serve", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
        self._last = 0
        self._answers: dict[Any, dict[str, Any]] = {}
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self.reading = threading.Event()  # cleared: it stops after the line that it is at
        self.reading.set()
        threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
            self.reading.wait()
        self._lines.put(None)

    def send_raw(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def notify(self, method: str, **params: Any) -> None:
        self.send_raw(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())

    def start_request(self, method: str, params: dict[str, Any] | None = None) -> int:
        self._last += 1
        self.send_raw(
            json.dumps({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params or {}}).encode()
        )
        return self._last

    def answer(self, number: int | None, *, wait: float = WAIT) -> dict[str, Any]:
        deadline = time.monotonic() + wait
        while number not in self._answers:
            line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            if line is None:
                raise EOFError("the shim ended")
            message = json.loads(line)
            if "id" in message and "method" not in message:
                self._answers[message["id"]] = message
        return self._answers.pop(number)

    def request(self, method: str, params: dict[str, Any] | None = None, *, wait: float = WAIT) -> dict[str, Any]:
        return self.answer(self.start_request(method, params), wait=wait)

    def initialize(self, version: str = "2025-11-25") -> dict[str, Any]:
        result = self.request(
            "initialize",
            {
                "protocolVersion": version,
                "capabilities": {},
                "clientInfo": {"name": self.name, "version": "1"},
            },
        )
        self.notify("notifications/initialized")
        return result["result"]

    def start_call(self, tool: str, **arguments: Any) -> int:
        return self.start_request("tools/call", {"name": tool, "arguments": arguments})

    def call(self, tool: str, **arguments: Any) -> str:
        """The text of a tool's answer, which must not be an error."""
        result = self.answer(self.start_call(tool, **arguments))["result"]
        text = text_of(result)
        assert not result.get("isError"), text
        return text

    def refused(self, tool: str, **arguments: Any) -> str:
        """The text of a tool's error."""
        result = self.answer(self.start_call(tool, **arguments))["result"]
        assert result.get("isError"), text_of(result)
        return text_of(result)

    def write(self, title: str, **arguments: Any) -> str:
        """Write a memory; its id."""
        return id_of(self.call("memory_write", title=title, **arguments))

    def close(self) -> int:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        return self.process.wait(timeout=WAIT)


def text_of(result: dict[str, Any]) -> str:
    return "".join(part["text"] for part in result["content"])


def id_of(text: str) -> str:
    found = re.search(r"\bid ([0-9A-Z]{26})", text)
    assert found, text
    return found[1]


def alg(home: Path, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    done = subprocess.run(
        [ALG, "--home", str(home), *arguments], capture_output=True, text=True, timeout=WAIT, check=False, **options
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def hub_pid(home: Path) -> int | None:
    """The pid of the hub that holds the home's lock, if one does."""
    from adaptive_llm_gateway.core import LockHeld, ProcessLock

    lock = home / "hub.lock"
    if not lock.exists():
        return None
    try:
        with ProcessLock(lock):
            return None
    except LockHeld as held:
        owner = held.details["owner"]
        return owner["pid"] if owner else None


def wait_until(condition: Callable[[], Any], *, what: str, wait: float = WAIT) -> Any:
    """Poll until `condition` holds; its value."""
    deadline = time.monotonic() + wait
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {wait:.0f} s in vain: {what}"
        threading.Event().wait(0.02)
    return value


def kill_hub(home: Path) -> int:
    """SIGKILL the hub and wait until it is gone, and with it its connections: its lock goes before them."""
    pid = wait_until(lambda: hub_pid(home), what="a running hub")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: hub_pid(home) != pid, what="the hub's end")
    wait_until(lambda: has_ended(pid), what="the end of its connections")
    return pid


def has_ended(pid: int) -> bool:
    """Whether nothing of a process runs, what closes its files included; it may not have been waited for yet."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():  # there is none on macOS, which is asked no further
            with contextlib.suppress(OSError):
                state = (thread / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
                if state not in "ZX":
                    return False
    return True


def files_below(folder: Path, *, without: tuple[str, ...] = ()) -> list[Path]:
    """Every file below a folder, also while the hub packs the repository: `Path.rglob` raises when a folder goes."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in without]
        found += [Path(parent, name) for name in names]
    return found


class Answer:
    """An answer by HTTP, with its headers' names in lower case."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)


class Web:
    """A hub's HTTP server, as its clients see it."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.host, self.port = parts.hostname, parts.port

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=WAIT)
        said = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        try:
            connection.request(method, path, body, said)
            given = connection.getresponse()
            return Answer(given.status, given.getheaders(), given.read())
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A bare connection, for what no library would send."""
        return socket.create_connection((self.host, self.port), timeout=WAIT)


class Tools:
    """What the fixture `server` gives: everything a test needs of this module."""

    text_of = staticmethod(text_of)
    id_of = staticmethod(id_of)
    wait_until = staticmethod(wait_until)
    files_below = staticmethod(files_below)

    def __init__(self, home: Path) -> None:
        self.home = home
        self.repo = home / "memory"
        self._clients: list[RawClient] = []

    def configure(self, text: str) -> None:
        """Write the home's configuration."""
        self.home.mkdir(exist_ok=True)
        (self.home / "config.yaml").write_text(text, encoding="utf-8")

    def web(self, **settings: Any) -> Web:
        """A hub that listens by HTTP at a port that is free; `settings` are those of the configuration's `http`."""
        file = self.home / "config.yaml"
        configured: dict[str, Any] = (yaml.safe_load(file.read_text("utf-8")) if file.exists() else None) or {}
        configured["http"] = {**configured.get("http", {}), "enabled": True, "port": 0, **settings}
        self.configure(yaml.safe_dump(configured))
        self.alg("hub", "start")
        found = wait_until(
            lambda: (now := self.json("hub", "status")["http"])["state"] != "starting" and now, what="HTTP"
        )
        assert found["state"] == "listening", found
        return Web(found["url"])

    def client(self, name: str = "test-client", *arguments: str, **options: Any) -> RawClient:
        """A client whose handshake is done; `options` as `RawClient` takes them."""
        client = self.raw_client(name, *arguments, **options)
        client.initialize()
        return client

    def raw_client(self, name: str = "test-client", *arguments: str, **options: Any) -> RawClient:
        client = RawClient(self.home, *arguments, name=name, **options)
        self._clients.append(client)
        return client

    def alg(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        return alg(self.home, *arguments, check=check, **options)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.alg(*arguments, "--json").stdout)

    def hub_pid(self) -> int | None:
        return hub_pid(self.home)

    def kill_hub(self) -> int:
        return kill_hub(self.home)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.repo), *arguments], capture_output=True, text=True, timeout=WAIT, check=True
        )
        return done.stdout

    def files(self) -> list[Path]:
        """Every memory file in the working tree."""
        return [path for path in self.files_below(self.repo, without=(".git", ".alg")) if path.suffix == ".md"]

    def settled(self) -> dict[str, Any]:
        """The status once nothing waits for its commit."""
        return wait_until(
            lambda: (
                (status := self.json("memory", "status"))["uncommitted"] == 0 and status["index"] == "ready" and status
            ),
            what="all commits",
        )

    def close(self) -> None:
        for client in self._clients:
            if client.process.poll() is None:
                client.process.kill()
                client.process.wait(timeout=WAIT)
            for stream in (client.process.stdin, client.process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        pid = hub_pid(self.home)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            try:
                wait_until(lambda: hub_pid(self.home) is None, what="the hub's end", wait=20)
            except AssertionError:
                os.kill(pid, signal.SIGKILL)
                raise


@pytest.fixture
def server(isolated: Path) -> Iterator[Tools]:
    """A home of its own, clients for it, and the end of all of them."""
    tools = Tools(isolated)
    yield tools
    tools.close()


class Peer:
    """A server that speaks OpenAI's API and keeps what it was asked; as Ollama, its model is one that runs elsewhere.
    The model answers `words`, one event each.

    Attributes:
        cut: words after which the connection is cut.
        flaky: every other request fails, the first of all.
        go_on: what it waits for before each word but the first, and before a whole answer; set at the beginning.
        left: somebody closed the connection while it was answering.
    """

    def __init__(
        self, serve: Callable[..., Any], *words: str, cut: int | None = None, status: int = 200, flaky: bool = False
    ) -> None:
        self.words = words or WORDS
        self.cut = cut
        self.status = status
        self.flaky = flaky
        self.asked: list[dict[str, Any]] = []
        self.left = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                if self.path == "/api/tags":
                    entry = {"name": "m", "model": "m", "digest": "0", "remote_host": "https://elsewhere.example"}
                    self.give({"models": [{**entry, "capabilities": ["completion"]}]})
                else:
                    entry = {"id": "m", "object": "model", "created": 1, "owned_by": "x"}
                    self.give({"object": "list", "data": [entry]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
                if not self.path.endswith(("/completions", "/embeddings")):
                    self.give({"error": "no such path"}, 404)
                    return
                peer.asked.append(body)
                status = 500 if peer.flaky and len(peer.asked) % 2 else peer.status
                try:
                    if status != 200:
                        self.give({"error": {"message": "not now"}}, status)
                    elif self.path.endswith("/embeddings"):
                        data = [{"object": "embedding", "index": at, "embedding": [at, 0.5, -1, 2, 3]}
                                for at in range(len(body["input"]))]  # fmt: skip
                        self.give({"object": "list", "model": "m", "data": data})
                    elif body.get("stream"):
                        self.stream()
                    else:
                        peer.go_on.wait(WAIT)
                        message = {"role": "assistant", "content": "".join(peer.words)}
                        choice = {"index": 0, "message": message, "finish_reason": "stop"}
                        self.give({**self.head("chat.completion"), "choices": [choice], "usage": self.usage})
                except OSError:
                    peer.left.set()
                    self.close_connection = True

            usage: dict[str, int] = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}  # noqa: RUF012

            def head(self, kind: str) -> dict[str, Any]:
                return {"id": "c", "object": kind, "created": 1, "model": "m"}

            def stream(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                self.close_connection = True
                for place, word in enumerate(peer.words):
                    if place == peer.cut:
                        return
                    while place and not peer.go_on.wait(0.05):
                        self.wfile.write(b": still here\n\n")  # fails once they are gone
                    self.event([{"index": 0, "delta": {"content": word}, "finish_reason": None}])
                self.event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
                self.event([], usage=self.usage)
                self.wfile.write(b"data: [DONE]\n\n")

            def event(self, choices: list[Any], **more: Any) -> None:
                said = {**self.head("chat.completion.chunk"), "choices": choices, **more}
                self.wfile.write(f"data: {json.dumps(said)}\n\n".encode())
                self.wfile.flush()

            def give(self, document: Any, status: int = 200) -> None:
                data = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        self._server = serve(Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def stop(self) -> None:
        """Be gone before the test ends."""
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()

    def said(self, number: int = -1) -> list[tuple[str, str]]:
        """The messages of a request."""
        return [(message["role"], message["content"]) for message in self.asked[number]["messages"]]

    def texts(self) -> str:
        """All that it was sent."""
        return json.dumps(self.asked)


Begin = Callable[..., Peer]


@pytest.fixture
def peer(serve: Callable[..., Any]) -> Iterator[Begin]:
    """Begins servers that play providers, see `Peer`; all end with the test."""
    begun: list[Peer] = []

    def begin(*words: str, **options: Any) -> Peer:
        begun.append(Peer(serve, *words, **options))
        return begun[-1]

    yield begin
    for each in begun:
        each.go_on.set()  # or what it still answers would outlive it


@pytest.fixture
def stand() -> Iterator[Callable[..., Any]]:
    """Begins servers of the hub's HTTP in this process, see `http_stand.Stand`; all end with the test."""
    from http_stand import Stand  # most tests need nothing of HTTP

    begun: list[Stand] = []

    def begin(**options: Any) -> Stand:
        begun.append(Stand(**options))
        return begun[-1].begin()

    yield begin
    for each in begun:
        each.close()
