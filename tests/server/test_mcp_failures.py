"""A mistake of ours under MCP: the client is told that there was one and where to look, and nothing of what it was."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from http_stand import Stand

from adaptive_llm_gateway.core import Unavailable, is_ulid
from adaptive_llm_gateway.server._going import Going, Intake
from adaptive_llm_gateway.server._logging import TextFormatter
from adaptive_llm_gateway.server._mcp import build_server
from adaptive_llm_gateway.server._observe import Observer
from adaptive_llm_gateway.server._stream import serve_lines

SECRET = "ghp_" + "4kT9xWq2LmZ7vB1nR8sD3fG6hJ0pYcUeA5iO"
WHAT = "the walrus table is upside down"
ERAS = ("2025-11-25", "2026-07-28")
ID = "01JD0000000000000000000001"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "tool": ("tools/call", {"name": "memory_search", "arguments": {"query": "x"}}),
    "resource": ("resources/read", {"uri": f"memory://{ID}"}),
    "prompt": ("prompts/get", {"name": "project_context", "arguments": {"project": "shop"}}),
    "list": ("tools/list", {}),
}


class Broken:
    """Operations that fail in a way that nobody meant."""

    scanners: tuple[()] = ()

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error or RuntimeError(f"{WHAT}: {SECRET}")

    def __getattr__(self, _: str) -> Callable[..., Any]:
        async def fail(*_: Any, **__: Any) -> Any:
            raise self.error

        return fail


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the hub's log would have."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(TextFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    yield written
    logging.getLogger().removeHandler(handler)


@pytest.fixture
def broken_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of tools fails, too; nothing that it is made of can be given from outside."""

    async def fail(*_: Any) -> Any:
        raise RuntimeError(f"{WHAT}: {SECRET}")

    monkeypatch.setattr("mcp.server.mcpserver.server.MCPServer.list_tools", fail)


def checked(answer: dict[str, Any], what: str, log: str) -> None:
    """Of one that failed: a neutral error, with the id under which the log has the whole of it."""
    told = json.dumps(answer)
    assert WHAT not in told
    assert "RuntimeError" not in told
    if what == "tool":
        assert answer["result"]["isError"]
        text = answer["result"]["content"][0]["text"]
    else:
        assert answer["error"]["code"] == -32603
        text = answer["error"]["message"]
        assert answer["error"]["data"]["request_id"] in text
    assert text.startswith("Internal error of the hub at ")
    request = text.rpartition(" ")[2].rstrip(".")
    assert is_ulid(request)
    assert f"[request {request}]" in log
    assert f"RuntimeError: {WHAT}" in log
    assert "Traceback" in log
    assert SECRET not in log


@pytest.mark.usefixtures("broken_list")
@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("era", ERAS)
def test_a_mistake_of_ours_is_told_by_http_as_one_and_no_more(log: io.StringIO, era: str, what: str) -> None:
    stand = Stand(operations=Broken()).begin()
    try:
        token = stand.everything()
        session = stand.session(token) if era == "2025-11-25" else None
        method, params = CALLS[what]
        checked(stand.mcp_call(token, method, params, session=session).message(), what, log.getvalue())
    finally:
        stand.close()


@pytest.mark.usefixtures("broken_list")
@pytest.mark.parametrize("what", CALLS)
def test_a_mistake_of_ours_is_told_at_the_socket_as_one_and_no_more(
    log: io.StringIO, tmp_path: Path, what: str
) -> None:
    method, params = CALLS[what]
    checked(asyncio.run(asyncio.wait_for(at_the_socket(tmp_path, method, params), 60)), what, log.getvalue())


def test_what_the_hub_refuses_on_purpose_is_told_in_its_own_words(log: io.StringIO) -> None:
    class Unlogged(Observer):
        @property
        def is_idle(self) -> bool:
            return False

        def call(self, *_: Any, **__: Any) -> Any:
            raise Unavailable("the audit log cannot be written, and nothing is done without it", hint="Look at it.")

    nothing: Any = SimpleNamespace(scanners=())
    stand = Stand(operations=nothing)
    stand.mcp = build_server(nothing, nothing, nothing, version="0", observer=Unlogged())
    stand.begin()
    try:
        token = stand.everything()
        for session in (stand.session(token), None):
            answer = stand.mcp_call(token, *CALLS["tool"], session=session).message()
            said = "the audit log cannot be written, and nothing is done without it. Look at it."
            assert answer["error"]["message"].casefold() == said.casefold()
    finally:
        stand.close()
    assert "Traceback" not in log.getvalue()


async def at_the_socket(tmp_path: Path, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request by the hub's socket."""
    operations: Any = Broken()
    server = build_server(operations, operations, operations, version="0")
    going = Going()

    async def lines_of(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        while line := await reader.readline():
            yield line

    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve_lines(server, lines_of(reader), writer, Intake(going))
        writer.close()
        await writer.wait_closed()
        served.set()

    path = str(tmp_path / "s")
    async with await asyncio.start_unix_server(serve, path):
        reader, writer = await asyncio.open_unix_connection(path)
        begin = {"protocolVersion": ERAS[0], "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        messages = (
            {"id": 1, "method": "initialize", "params": begin},
            {"method": "notifications/initialized"},
            {"id": 2, "method": method, "params": params},
        )
        for message in messages:
            writer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        while (answer := json.loads(await reader.readline())).get("id") != 2:
            pass
        going.begin(1.0)
        writer.close()
        await writer.wait_closed()
        await served.wait()
        return answer
