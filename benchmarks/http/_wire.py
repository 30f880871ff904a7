"""Requests to a hub, or to any MCP server, as bytes: of both protocol eras, and of the REST API."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

from _load import Request

Era = Literal["2025-11-25", "2026-07-28"]
ERAS: tuple[Era, ...] = ("2025-11-25", "2026-07-28")
_CLIENT = {"name": "benchmark", "version": "1"}
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": _CLIENT,
}
_MCP = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server on this machine, and the token that it takes; empty: it takes none."""

    port: int
    token: str = ""

    def bare(self, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """A whole request."""
        given = {"Host": f"127.0.0.1:{self.port}", **self.authorization, **headers}
        if body:
            given["Content-Length"] = str(len(body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body

    @property
    def authorization(self) -> dict[str, str]:
        """The header of the token."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> tuple[Any, bytes]:
        """One request that nobody times; the answer, and its body.

        Raises:
            RuntimeError: it was refused.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_WAIT)
        try:
            connection.request(method, path, body, {**self.authorization, **headers})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {answer.status}: {said[:500].decode('utf-8', 'replace')}")
        return answer, said


class Calls:
    """Makes tool calls of an era.

    Args:
        sessions: so many, of the era that has them; requests use them in turn.
    """

    def __init__(self, target: Target, era: Era, *, sessions: int = 1) -> None:
        self._target = target
        self._era = era
        self._number = 0
        self._sessions = [self._session() for _ in range(sessions if era == "2025-11-25" else 0)]

    def _session(self) -> str:
        """A session that was begun."""
        about = {"protocolVersion": self._era, "capabilities": {}, "clientInfo": _CLIENT}
        body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": about}
        answer, _ = self._target.ask("POST", "/mcp", _MCP, json.dumps(body).encode())
        session: str = answer.headers["mcp-session-id"]
        told = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
        self._target.ask("POST", "/mcp", {**_MCP, **self._within(session)}, told)
        return session

    def _within(self, session: str) -> dict[str, str]:
        return {"Mcp-Session-Id": session, "MCP-Protocol-Version": self._era}

    def call(self, tool: str, arguments: Mapping[str, Any], *, kind: str, expect: str = '"result"') -> Request:
        """A tool call."""
        headers, body = self._parts(tool, arguments)
        return Request(kind, self._target.bare("POST", "/mcp", headers, body), expect.encode())

    def answer(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """The text of a tool call that nobody times.

        Raises:
            RuntimeError: it failed.
        """
        headers, body = self._parts(tool, arguments)
        answer, said = self._target.ask("POST", "/mcp", headers, body)
        if answer.headers["content-type"].startswith("text/event-stream"):  # it took long; it is the last event
            said = [line for line in said.splitlines() if line.startswith(b"data: ")][-1].removeprefix(b"data: ")
        result: dict[str, Any] = json.loads(said)["result"]
        text = "".join(part["text"] for part in result["content"])
        if result.get("isError"):
            raise RuntimeError(f"{tool}: {text}")
        return text

    def _parts(self, tool: str, arguments: Mapping[str, Any]) -> tuple[dict[str, str], bytes]:
        self._number += 1
        params: dict[str, Any] = {"name": tool, "arguments": dict(arguments)}
        if self._sessions:
            headers = self._within(self._sessions[self._number % len(self._sessions)])
        else:
            params["_meta"] = _META
            headers = {"MCP-Protocol-Version": self._era, "Mcp-Method": "tools/call", "Mcp-Name": tool}
        message = {"jsonrpc": "2.0", "id": self._number, "method": "tools/call", "params": params}
        return {**_MCP, **headers}, json.dumps(message).encode()

    def streams(self) -> list[bytes]:
        """For each session the request that opens the stream by which the server may speak."""
        return [
            self._target.bare("GET", "/mcp", {"Accept": "text/event-stream", **self._within(session)})
            for session in self._sessions
        ]


def nothing(calls: Calls) -> Sequence[Request]:
    """Calls of the tool that does nothing; their ids differ, because several of one session are under way at once."""
    return [calls.call("nothing", {}, kind="nothing") for _ in range(1_000)]


def searches(calls: Calls, queries: Sequence[str]) -> list[Request]:
    """Searches as MCP's tool."""
    return [calls.call("memory_search", {"query": query}, kind="search", expect="(hybrid search)") for query in queries]


def rest_searches(target: Target, queries: Sequence[str]) -> list[Request]:
    """The same by the REST API."""
    return [
        Request("search", target.bare("GET", f"/api/v1/search?{urlencode({'query': query})}", {}), b'"mode":"hybrid"')
        for query in queries
    ]
