"""An HTTP server of the hub's in this process, with clients that a test names, and what speaks to it byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Coroutine, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from adaptive_llm_gateway.core import HttpSettings
from adaptive_llm_gateway.server._access import SCOPES, Access, Scope
from adaptive_llm_gateway.server._http import HttpServer
from adaptive_llm_gateway.server._http_door import NO_TOKEN, Headers, Refusal, challenge
from adaptive_llm_gateway.server._mcp import build_server

WAIT = 30.0
JSON = "application/json"
BOTH = f"{JSON}, text/event-stream"


OTHERS = ("/api/v1", "/metrics", "/.well-known/oauth-protected-resource")
"""Beginnings of paths that something else answers, which is tested elsewhere."""


async def answer_empty(scope: Any, receive: Any, send: Any) -> None:
    """Stands for what answers elsewhere: it was let in."""
    before = "websocket." if scope["type"] == "websocket" else ""
    await send({"type": f"{before}http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": f"{before}http.response.body", "body": b""})


class Door:
    """Lets in whoever the test says."""

    def __init__(self) -> None:
        self.known: dict[bytes, Access] = {}
        self.change = asyncio.Event()

    def anyone(self) -> bool:
        return bool(self.known)

    async def authenticate(self, headers: Headers, address: str) -> Access | Refusal:
        given = [value for name, value in headers if name == b"authorization"]
        return self.known.get(given[0], NO_TOKEN) if len(given) == 1 else NO_TOKEN

    def counts(self, access: Access) -> bool:
        return access in self.known.values()

    def challenge(self, error: str, *, scope: str | None = None) -> bytes:
        return challenge(error=error, scope=scope).encode()

    async def changed(self, *, within: float) -> object:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self.change.wait()
        self.change.clear()
        return True


class Stand:
    """A server in a thread of its own; `tools` stand for the hub's operations."""

    def __init__(self, *, operations: Any = None, waiting: Sequence[str] = (), **settings: Any) -> None:
        self.door = Door()
        self._tokens = iter(range(1, 1_000_000))
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        nothing: Any = operations if operations is not None else SimpleNamespace(scanners=())
        self.mcp = build_server(nothing, nothing, nothing, version="0")
        self.asked = 0
        self.settings = HttpSettings.model_validate({"enabled": True, "port": 0, **settings})
        self._waiting = list(waiting)
        self.server: HttpServer

    def begin(self) -> Stand:
        self.server = HttpServer(
            self.settings,
            self.mcp,
            door=self.door,
            waiting=self._parts,
            asked=self._count,
            answers=dict.fromkeys(OTHERS, answer_empty),
        )
        self.run(self.server.begin())
        parts = urlsplit(self.server.url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.host, self.port = parts.hostname, parts.port
        return self

    async def _parts(self) -> list[str]:
        return self._waiting

    def _count(self) -> None:
        self.asked += 1

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What it gives, in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT)

    def client(self, name: str, *scopes: Scope, **more: Any) -> str:
        """A client's token."""
        token = f"{name}-{next(self._tokens)}"
        self.door.known[f"Bearer {token}".encode()] = Access(client=name, scopes=frozenset(scopes), **more)
        return token

    def everything(self, name: str = "all") -> str:
        return self.client(name, *SCOPES)

    def revoke(self, token: str) -> None:
        del self.door.known[f"Bearer {token}".encode()]
        self.loop.call_soon_threadsafe(self.door.change.set)

    def connect(self) -> Wire:
        return Wire(socket.create_connection((self.host, self.port), timeout=WAIT))

    def ask(self, head: str, body: bytes = b"") -> Given:
        """The answer to one request, as it is written here; `Host` is added where there is none."""
        with self.connect() as wire:
            wire.send(self.framed(head, body))
            return wire.answer(head.split(" ", 1)[0])

    def framed(self, head: str, body: bytes = b"") -> bytes:
        lines = head.strip("\n").split("\n")
        if not any(line.lower().startswith("host:") for line in lines):
            lines.append(f"Host: {self.host}:{self.port}")
        if body and not any(line.lower().startswith(("content-length:", "transfer-encoding:")) for line in lines):
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def mcp_call(
        self, token: str | None, method: str, params: dict[str, Any] | None = None, *, session: str | None = None
    ) -> Given:
        """One request of MCP: within a session of 2025-11-25, else by itself as 2026-07-28 has it."""
        head = f"POST /mcp HTTP/1.1\nContent-Type: {JSON}\nAccept: {BOTH}"
        given = dict(params or {})
        if token is not None:
            head += f"\nAuthorization: Bearer {token}"
        if session is not None:
            head += f"\nMcp-Session-Id: {session}\nMCP-Protocol-Version: 2025-11-25"
        elif method != "initialize":
            head += f"\nMCP-Protocol-Version: 2026-07-28\nMcp-Method: {method}"
            if "name" in given or "uri" in given:
                head += f"\nMcp-Name: {given.get('name', given.get('uri'))}"
            given["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "stand", "version": "1"},
                **given.get("_meta", {}),
            }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": given}
        return self.ask(head, json.dumps(body).encode())

    def session(self, token: str) -> str:
        """A session of 2025-11-25 that was begun; its id."""
        given = self.mcp_call(
            token,
            "initialize",
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "stand", "version": "1"}},
        )
        assert given.status == 200, given.body
        return given.headers["mcp-session-id"]

    def close(self) -> None:
        if hasattr(self, "server"):
            self.run(self.server.end(1))
        self.run(_settled())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT)
        self.loop.close()


async def _settled() -> None:
    """Wait for what was cancelled."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class Given:
    """An answer as it came."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    def message(self) -> dict[str, Any]:
        """The JSON-RPC answer, also at the end of a stream."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            lines = [line[5:] for line in self.body.decode().splitlines() if line.startswith("data:")]
            return json.loads(lines[-1])
        return self.json()


class Wire:
    """A bare connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def more(self) -> bytes:
        """What comes next; nothing once the other end has closed."""
        try:
            return self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return b""

    def rest(self) -> bytes:
        """All that comes until the other end closes."""
        data, self._rest = self._rest, b""
        while part := self.more():
            data += part
        return data

    def until(self, mark: bytes) -> bytes:
        """All that comes up to a mark, which is not part of it."""
        while mark not in self._rest:
            part = self.more()
            if not part:
                raise EOFError(self._rest)
            self._rest += part
        data, self._rest = self._rest.split(mark, 1)
        return data

    def head(self) -> tuple[int, dict[str, str]]:
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines[1:])
        return int(lines[0].split(" ")[1]), {name.lower(): value for name, value in pairs}

    def answer(self, method: str = "GET") -> Given:
        """One whole answer."""
        status, headers = self.head()
        return Given(status, headers, b"" if method == "HEAD" else b"".join(self._body(status, headers)))

    def _body(self, status: int, headers: dict[str, str]) -> Iterator[bytes]:
        if headers.get("transfer-encoding") == "chunked":
            while size := int(self.until(b"\r\n"), 16):
                yield self._exactly(size)
                self.until(b"\r\n")
            self.until(b"\r\n")
        elif status not in (204, 304):
            yield self._exactly(int(headers.get("content-length", "0")))

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            part = self.more()
            if not part:
                raise EOFError(self._rest)
            self._rest += part
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
