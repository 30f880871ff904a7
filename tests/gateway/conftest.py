"""Real HTTP servers on the loopback that play a provider, a bad one, or somebody who must hear nothing."""

from __future__ import annotations

import json
import os
import queue
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

WORDS = ["Hello", ", ", "wide ", "world", "."]
TEXT = "".join(WORDS)


@dataclass
class Asked:
    """A request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Peer:
    """A server and all that it was asked; `release` ends what hangs."""

    url: str
    port: int
    asked: list[Asked] = field(default_factory=list[Asked])
    release: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)  # somebody closed the connection under it

    @property
    def base(self) -> str:
        return f"{self.url}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as real servers do: else an answer in two writes takes 40 ms
    peer: Peer
    play: Callable[[Handler, Asked], None]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_CONNECT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        asked = Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        self.peer.asked.append(asked)
        try:
            type(self).play(self, asked)
        except OSError:
            self.peer.left.set()
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    # --- what it can say ---

    def give(self, document: Any, status: int = 200, **headers: str) -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, document: Any) -> None:
        data = document if isinstance(document, str) else json.dumps(document)
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def hang(self) -> None:
        self.peer.release.wait(30)
        self.close_connection = True


def completion(text: str = TEXT, finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
        **more,
    }


def chunk(text: str | None = None, finish: str | None = None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


def play_well(handler: Handler, asked: Asked) -> None:
    """A provider as it should be."""
    if asked.path.endswith("/models"):
        handler.give({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "x"}]})
    elif asked.path.endswith("/embeddings"):
        texts = asked.json["input"]
        data = [{"object": "embedding", "index": i, "embedding": [float(i), 1.0]} for i in range(len(texts))]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        handler.give({"object": "list", "model": "m", "data": data[::-1], "usage": usage})
    elif not asked.path.endswith("/chat/completions"):
        handler.give({"error": {"message": "no such path"}}, 404)
    elif asked.json.get("stream"):
        handler.begin_stream()
        for word in WORDS:
            handler.event(chunk(word))
        handler.event(chunk(finish="stop"))
        usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
        handler.event({**chunk(), "choices": [], "usage": usage})
        handler.event("[DONE]")
    else:
        handler.give(completion())


Play = Callable[[Handler, Asked], None]


class Peers:
    """Starts servers; `well` is what a good one does."""

    well = staticmethod(play_well)
    chunk = staticmethod(chunk)
    completion = staticmethod(completion)
    text = TEXT
    words = WORDS

    def __init__(self) -> None:
        self._running: list[tuple[ThreadingHTTPServer, Peer]] = []

    def start(self, play: Play = play_well, *, host: str = "127.0.0.1") -> Peer:
        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            request_queue_size = 256

        server = Server((host, 0), type("Bound", (Handler,), {"play": staticmethod(play)}))
        port = int(server.server_address[1])
        peer = Peer(f"http://{f'[{host}]' if ':' in host else host}:{port}", port)
        server.RequestHandlerClass.peer = peer  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self._running.append((server, peer))
        return peer

    def on_socket(self, path: Path, play: Play = play_well) -> Peer:
        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_UNIX

            def server_bind(self) -> None:
                self.socket.bind(self.server_address)
                self.server_name, self.server_port = "localhost", 0

            def get_request(self) -> tuple[socket.socket, Any]:
                connection, _ = self.socket.accept()
                return connection, ("unix", 0)

        bound = type("Bound", (Handler,), {"play": staticmethod(play), "disable_nagle_algorithm": False})
        server = Server(str(path), bound)  # type: ignore[arg-type]
        peer = Peer(f"unix://{path}:", 0)
        server.RequestHandlerClass.peer = peer  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self._running.append((server, peer))
        return peer

    def stop(self) -> None:
        for server, peer in self._running:
            peer.release.set()
            server.shutdown()
            server.server_close()


@pytest.fixture
def peers() -> Iterator[Peers]:
    running = Peers()
    yield running
    running.stop()


class Program:
    """A server that is a program of others. When it is made, it listens.

    Args:
        listens: what it says when it does.
        seconds: it has for that.

    Attributes:
        said: `listens`, as it was found.
    """

    def __init__(self, command: list[str | Path], folder: Path, listens: re.Pattern[str], *, seconds: float) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self._reader.start()
        try:
            self.said = self._listening(lines, listens, seconds)
        except BaseException:
            self.stop()
            raise

    def _read(self, lines: queue.Queue[str]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:  # to its end, or a full pipe would stop it
            lines.put(line)
        lines.put("")

    def _listening(self, lines: queue.Queue[str], listens: re.Pattern[str], seconds: float) -> re.Match[str]:
        said: list[str] = []
        while True:
            try:
                said.append(lines.get(timeout=seconds))
            except queue.Empty:
                said.append("")
            if found := listens.search(said[-1]):
                return found
            assert said[-1], f"the server did not start: {''.join(said)}"

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:  # some wait for connections that hang
            self._process.kill()
            self._process.wait(30)
        self._reader.join(30)
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture(scope="session")
def program() -> type[Program]:
    """Begins programs that are servers; who begins one ends it."""
    return Program


@pytest.fixture(scope="session")
def aimocks(tmp_path_factory: pytest.TempPathFactory, program: type[Program]) -> Iterator[Any]:
    """Starts servers of aimock, see `aimock.py`; skips where it is not installed."""
    import aimock

    aimock.programs()
    running = aimock.AIMocks(tmp_path_factory.mktemp("aimock"), program)
    yield running
    running.stop()


@pytest.fixture
def modules_of() -> Callable[[object], set[str]]:
    """The packages of a value's type and of those of all its parts."""
    return _modules_of


def _modules_of(value: object) -> set[str]:
    found = {type(value).__module__.partition(".")[0]}
    if is_dataclass(value):
        for part in fields(value):
            found |= _modules_of(getattr(value, part.name))
    elif isinstance(value, list | tuple):
        for part in cast("Sequence[object]", value):
            found |= _modules_of(part)
    return found
