"""The command line's connection: whatever comes in gets an answer, and the connection goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._control import serve_control
from adaptive_llm_gateway.server._gate import SecretGate
from adaptive_llm_gateway.server._going import Going
from adaptive_llm_gateway.server._hub import read_lines
from adaptive_llm_gateway.server._observe import Observer
from adaptive_llm_gateway.server._operations import Operations


class Talk:
    """What the fixture `talk` gives: sends lines over a real socket and brings the answers."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.stopped = False

    def __call__(self, *lines: bytes | dict[str, Any]) -> list[dict[str, Any]]:
        return asyncio.run(self._talk(lines))

    async def _talk(self, lines: tuple[bytes | dict[str, Any], ...]) -> list[dict[str, Any]]:
        ours, theirs = socket.socketpair()
        operations = Operations(
            lambda: self._stack.enter_context(temporary_store(self._folder)),
            commit_wait=30.0,
        )
        # The parts of a hub that this needs; a whole one would be a process of its own.
        hub: Any = SimpleNamespace(
            operations=operations,
            gate=SecretGate(operations),
            observer=Observer(),
            status=lambda: {"running": True},
            stop=self._stop,
            going=Going(),
        )
        reader, writer = await asyncio.open_connection(sock=theirs)
        client_reader, client_writer = await asyncio.open_connection(sock=ours, limit=1 << 26)
        serving = asyncio.create_task(serve_control(hub, read_lines(reader), writer))
        for line in lines:
            client_writer.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
        await client_writer.drain()
        client_writer.write_eof()
        await asyncio.wait_for(serving, 60)
        writer.close()
        answers = [json.loads(line) async for line in client_reader]
        client_writer.close()
        for stream in (writer, client_writer):
            await stream.wait_closed()
        await operations.close()
        return answers

    def _stop(self, *, again: bool) -> None:
        self.stopped = True


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    with contextlib.ExitStack() as stack:
        yield Talk(tmp_path / "store", stack)


def request(name: str, **arguments: Any) -> dict[str, Any]:
    return {"do": name, "with": arguments}


def test_requests_are_answered_in_their_order(talk: Talk) -> None:
    wrote, found, status = talk(
        request("write", title="Walrus", body="whistles\n"), request("search", query="whistles"), request("hub_status")
    )
    assert wrote["result"]["state"] == "committed"
    assert [hit["id"] for hit in found["result"]["hits"]] == [wrote["result"]["id"]]
    assert found["result"]["hits"][0]["author"]["client"] == "command-line"
    assert status == {"result": {"running": True}}


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"5",
        b"{}",
        b'{"do": null}',
        b'{"do": "no_such"}',
        b'{"do": "close"}',
        b'{"do": "_write"}',
        b'{"do": "__class__"}',
        b'{"do": "search", "with": [1]}',
        b'{"do": "search", "with": 5}',
        b'{"do": "search", "with": {"colour": "red"}}',
        b'{"do": "search", "with": {"limit": "many"}}',
        b'{"do": "search", "with": {"limit": 0}}',
        b'{"do": "read", "with": {}}',
        b'{"do": "read", "with": {"id": "../../x"}}',
        b'{"do": "write", "with": {"author": "me", "title": 5}}',
        b'{"do": "import", "with": {"path": "/nowhere"}}',
        b'{"do": "export", "with": {}}',
        b'{"do": "search", "with": {"query": "\xff"}}',
        b"[" * 100_000,
    ],
)
def test_whatever_comes_in_gets_an_error_and_the_connection_goes_on(talk: Talk, line: bytes) -> None:
    refused, status = talk(line, request("hub_status"))
    assert refused["error"]["code"]
    assert refused["error"]["message"]
    assert status == {"result": {"running": True}}


def test_an_error_carries_its_code_hint_and_details(talk: Talk) -> None:
    wrote, refused = talk(
        request("write", title="x", id=None), request("write", title="y", if_version="0" * 40, id=None)
    )
    assert wrote["result"]["operation"] == "write"
    assert refused["error"]["code"] == "invalid_input"
    assert refused["error"]["hint"]
    (unknown,) = talk(request("write", title="x", type="bogus"))
    assert unknown["error"]["code"] == "unknown_type"
    assert "decision" in unknown["error"]["details"]["allowed"]


def test_an_import_tells_its_progress_before_its_result(talk: Talk, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    for number in range(120):
        (vault / f"{number}.md").write_text(f"# Number {number}\n", encoding="utf-8")
    *progress, last = talk(request("import", path=str(vault)))
    assert [message["progress"] for message in progress][-1] == [120, 120]
    assert len(progress) >= 2
    assert last["result"]["created"] == 120
    assert "text" in last["result"]
    out = tmp_path / "out"
    *_, exported = talk(request("export", destination=str(out)))
    assert exported["result"]["written"] == 120


def test_a_reindex_answers_its_report(talk: Talk) -> None:
    _, report = talk(request("write", title="x"), request("reindex"))
    assert report["result"]["indexed"] == 1
    assert report["result"]["skipped"] == []


def test_stopping_is_answered_first(talk: Talk) -> None:
    (answer,) = talk(request("hub_stop"))
    assert answer == {"result": {"running": True}}
    assert talk.stopped


def test_a_large_text_goes_both_ways(talk: Talk) -> None:
    body = "ü" * 500_000
    wrote, refused = talk(
        request("write", title="Large", body=body), request("write", title="Huge", body="x" * 3_000_000)
    )
    assert refused["error"]["code"] == "too_large"
    (read,) = talk(request("read", id=wrote["result"]["id"]))
    assert read["result"]["body"] == body


def test_an_import_under_a_name_goes_through_the_command_line(server: Any, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "a.md").write_text("# A\n", encoding="utf-8")
    report = server.json("memory", "import", str(vault), "--name", "garden")
    assert report["created"] == 1
    assert report["name"] == "garden"
