"""MCP over HTTP: sessions and whose they are, progress, cancellation, and the end of what was revoked."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from http_stand import BOTH, JSON, WAIT, Stand, Wire

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.server._access import ACCESS, EVERYTHING, Access
from adaptive_llm_gateway.server._authentication import Admitted

Begin = Callable[..., Stand]


class Operations:
    """Notes for whom something is done, and takes as long as a test wants."""

    scanners: tuple[()] = ()

    def __init__(self) -> None:
        self.seen: list[Access] = []
        self.written: list[Any] = []
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self.go_on: asyncio.Event | None = None

    async def search(self, query: str, **_: Any) -> dict[str, Any]:
        self.seen.append(ACCESS.get())
        self.seen.append(await asyncio.to_thread(ACCESS.get))
        return {"hits": [], "mode": "lexical", "total": 0, "notices": [], "query": query}

    async def delete(self, id: str, *, author: Any, **_: Any) -> dict[str, Any]:
        self.written.append(author)
        raise AssertionError(id)

    async def pull(self, *, on_step: Any = None, **_: Any) -> dict[str, Any]:
        self.go_on = asyncio.Event()
        self.begun.set()
        if on_step is not None:
            await on_step({"operation": "pull", "phase": "fetch", "done": 1, "total": 2, "size": None})
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError


class Echo(Operations):
    """Finds much where little was asked, and the reverse."""

    async def search(self, query: str, **_: Any) -> dict[str, Any]:
        notice = "y" * 4_000_000 if query == "small" else "few"
        return {"hits": [], "mode": "lexical", "total": 0, "notices": [notice], "query": query[:10]}


def stream(stand: Stand, token: str, session: str) -> Wire:
    """The stream of a session, which is open."""
    wire = stand.connect()
    wire.send(
        stand.framed(
            f"GET /mcp HTTP/1.1\nAuthorization: Bearer {token}\nAccept: text/event-stream\nMcp-Session-Id: {session}"
        )
    )
    assert wire.head()[0] == 200
    return wire


def call(stand: Stand, token: str, tool: str, *, session: str | None = None, **arguments: Any) -> Any:
    return stand.mcp_call(token, "tools/call", {"name": tool, "arguments": arguments}, session=session).message()


def test_whatever_is_done_for_a_request_is_done_for_its_client_alone(stand: Begin) -> None:
    operations = Operations()
    one = stand(operations=operations)
    first = one.client("first", "memory:read", projects=("a",), max_trust=Trust.PUBLIC)
    second = one.client("second", "memory:read")
    sessions = {first: one.session(first), second: one.session(second)}
    for token in (first, second, first):
        for session in (None, sessions[token]):
            call(one, token, "memory_search", session=session)
            wanted = one.door.known[f"Bearer {token}".encode()]
            assert operations.seen == [wanted, wanted]
            operations.seen.clear()
    assert ACCESS.get() is EVERYTHING


def test_rights_that_were_changed_count_with_the_next_request_of_a_session(stand: Begin) -> None:
    operations = Operations()
    one = stand(operations=operations)
    token = one.client("reader", "memory:read")
    session = one.session(token)
    assert "result" in call(one, token, "memory_search", session=session)
    assert len(operations.seen) == 2
    one.door.known[f"Bearer {token}".encode()] = Access(client="reader", scopes=frozenset({"handoff"}))
    said = call(one, token, "memory_search", session=session)["result"]["content"][0]["text"]
    assert said.startswith("Unknown tool 'memory_search'")
    assert len(operations.seen) == 2


def test_who_writes_is_the_tokens_client_whatever_it_calls_itself(stand: Begin) -> None:
    operations = Operations()
    one = stand(operations=operations)
    token = one.client("real-name", "memory:write")
    for session in (None, one.session(token)):
        call(one, token, "memory_delete", session=session, id="x")
    assert [(author.client, author.agent) for author in operations.written] == [("real-name", "stand")] * 2


def test_a_session_is_its_clients_and_for_others_there_is_none(stand: Begin) -> None:
    one = stand()
    owner, other = one.everything("owner"), one.everything("other")
    session = one.session(owner)
    for token in (other,):
        given = one.mcp_call(token, "tools/list", session=session)
        nothing = one.mcp_call(token, "tools/list", session="0" * 32)
        assert (given.status, given.body) == (nothing.status, nothing.body)
        assert given.status == 404
        given = one.ask(f"DELETE /mcp HTTP/1.1\nAuthorization: Bearer {token}\nMcp-Session-Id: {session}")
        assert given.status == 404
    assert one.mcp_call(None, "tools/list", session=session).status == 401
    assert one.mcp_call(owner, "tools/list", session=session).status == 200
    again = one.client("owner", "memory:read")  # its next token
    assert one.mcp_call(again, "tools/list", session=session).status == 200
    assert one.ask(f"DELETE /mcp HTTP/1.1\nAuthorization: Bearer {owner}\nMcp-Session-Id: {session}").status == 200
    assert one.mcp_call(owner, "tools/list", session=session).status == 404


def test_a_session_is_of_nobody_who_is_only_called_the_same(stand: Begin) -> None:
    one = stand()
    tokens: dict[str, str] = {}
    for identity in ("made-here", "https://issuer.example owner"):
        tokens[identity] = f"token-{len(tokens)}"
        one.door.known[f"Bearer {tokens[identity]}".encode()] = Admitted(client="owner", identity=identity)
    here, issued = tokens.values()
    session = one.session(here)
    assert one.mcp_call(issued, "tools/list", session=session).status == 404
    assert one.mcp_call(here, "tools/list", session=session).status == 200


def test_who_comes_back_to_a_session_is_told_what_comes_from_then_on(stand: Begin) -> None:
    one = stand()
    token = one.everything()
    for name in ("Last-Event-ID", "last-event-id"):
        session = one.session(token)
        head = f"GET /mcp HTTP/1.1\nAccept: text/event-stream\nAuthorization: Bearer {token}\nMcp-Session-Id: {session}"
        with one.connect() as wire:
            wire.send(one.framed(f"{head}\n{name}: 12"))
            status, headers = wire.head()
            assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")


@pytest.mark.parametrize(
    "body", ['"*"', '["*"]', '{"jsonrpc": "*"}', '{"jsonrpc": "2.0", "id": 1, "method": "x", "params": "*"}']
)
def test_nothing_of_a_body_that_is_no_message_comes_back(stand: Begin, body: str) -> None:
    one = stand()
    token = one.everything()
    word = "nothing-of-it"
    for session in (None, one.session(token)):
        head = f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\nContent-Type: {JSON}\nAccept: {BOTH}"
        if session is not None:
            head += f"\nMcp-Session-Id: {session}\nMCP-Protocol-Version: 2025-11-25"
        given = one.ask(head, body.replace("*", word).encode())
        assert given.status == 400
        assert given.json()["error"]["message"] == "The body is no message of JSON-RPC"
        assert word.encode() not in given.body


def test_a_client_has_so_many_sessions_and_the_one_quiet_for_longest_makes_room(stand: Begin) -> None:
    one = stand(max_sessions=3)
    token, other = one.everything("many"), one.everything("other")
    kept = one.session(other)
    sessions = [one.session(token) for _ in range(3)]
    assert one.mcp_call(token, "tools/list", session=sessions[0]).status == 200
    sessions.append(one.session(token))
    alive = [one.mcp_call(token, "tools/list", session=each).status for each in sessions]
    assert alive == [200, 404, 200, 200]
    assert one.mcp_call(other, "tools/list", session=kept).status == 200


@pytest.mark.parametrize("where", ["name", "version", "icons", "experimental", "extensions", "_meta", "protocol"])
def test_a_session_keeps_little_of_how_it_was_begun_however_much_was_said(stand: Begin, where: str) -> None:
    one = stand()
    token = one.everything()
    much = "x" * 4_000_000
    about: dict[str, Any] = {"name": "stand", "version": "1"}
    capabilities: dict[str, Any] = {"roots": {"listChanged": True}, "elicitation": {}}
    params: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": about}
    match where:
        case "name" | "version":
            about[where] = much
        case "icons":
            about["icons"] = [{"src": f"data:image/png;base64,{much}"}]
        case "experimental" | "extensions":
            capabilities[where] = {"of-ours": {"text": much}}
        case "_meta":
            params["_meta"] = {"text": much}
        case _:
            params["protocolVersion"] = much
    one.session(token)  # what is loaded with the first
    tracemalloc.start()
    try:
        given = one.mcp_call(token, "initialize", params)
        kept = _kept_at_last(500_000)
    finally:
        tracemalloc.stop()
    assert given.status == 200, given.body[:500]
    assert given.message()["result"]["protocolVersion"] == "2025-11-25"
    assert kept < 500_000
    assert one.mcp_call(token, "tools/list", session=given.headers["mcp-session-id"]).status == 200


def _kept_at_last(wanted: int) -> int:
    """Bytes that are kept, once they are fewer than wanted, or in the end: who was answered is not yet let go of."""
    deadline = time.monotonic() + WAIT
    while True:
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        if kept < wanted or time.monotonic() > deadline:
            return kept
        threading.Event().wait(0.02)


def test_a_session_that_waits_keeps_neither_what_it_was_asked_nor_what_it_answered(stand: Begin) -> None:
    much = "x" * 4_000_000
    one = stand(operations=Echo())
    token = one.everything()
    session = one.session(token)
    told = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
    head = (
        f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\nContent-Type: {JSON}\nAccept: {BOTH}\n"
        f"Mcp-Session-Id: {session}\nMCP-Protocol-Version: 2025-11-25"
    )
    call(one, token, "memory_search", session=session, query="small")
    assert one.ask(head, told).status == 202
    tracemalloc.start()
    try:
        for query in (much, "small"):
            found = call(one, token, "memory_search", session=session, query=query)
            assert not found["result"].get("isError")
            assert (len(json.dumps(found)) > len(much)) is (query == "small")
            del found
            assert _kept_at_last(500_000) < 500_000
    finally:
        tracemalloc.stop()
    more = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5, "reason": "x" * 10_000}}
    assert one.ask(head, json.dumps(more).encode()).status == 413
    assert one.ask(head, told).status == 202


def test_a_session_is_begun_with_what_the_protocol_says_and_not_with_something_like_it(stand: Begin) -> None:
    one = stand()
    token = one.everything()
    about = {"name": "stand", "version": "1"}
    wrong: tuple[dict[str, Any], ...] = (
        {"protocolVersion": "2025-11-25", "capabilities": [], "clientInfo": about},
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": 1, "version": "1"}},
        {"protocolVersion": "2025-11-25", "capabilities": {}},
        {"protocolVersion": 1, "capabilities": {}, "clientInfo": about},
    )
    for params in wrong:
        assert one.mcp_call(token, "initialize", params).message()["error"]["code"] == -32602


def test_what_is_open_ends_when_its_client_is_revoked(stand: Begin) -> None:
    operations = Operations()
    one = stand(operations=operations)
    token, other = one.everything("gone"), one.everything("other")
    session, kept = one.session(token), one.session(other)
    with stream(one, token, session) as wire, stream(one, other, kept) as stays, one.connect() as asking:
        begin_call(one, asking, token, session, "memory_pull")
        assert operations.begun.wait(WAIT)
        one.revoke(token)
        assert b"error" not in wire.rest()
        assert operations.cancelled.wait(WAIT)
        assert one.mcp_call(token, "tools/list", session=session).status == 401
        stays.sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            stays.sock.recv(1)
    again = one.everything("gone")  # the same name, made anew
    assert one.mcp_call(again, "tools/list", session=session).status == 404


def begin_call(
    stand: Stand, wire: Wire, token: str, session: str | None, tool: str, *, progress: str | None = None
) -> None:
    """Send a call whose answer is not waited for; its id is 7."""
    meta: dict[str, Any] = {"progressToken": progress} if progress else {}
    head = f"POST /mcp HTTP/1.1\nContent-Type: {JSON}\nAccept: {BOTH}\nAuthorization: Bearer {token}\n"
    if session:
        head += f"Mcp-Session-Id: {session}\nMCP-Protocol-Version: 2025-11-25"
    else:
        head += f"MCP-Protocol-Version: 2026-07-28\nMcp-Method: tools/call\nMcp-Name: {tool}"
        meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28"
        meta["io.modelcontextprotocol/clientCapabilities"] = {}
    params = {"name": tool, "arguments": {}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    wire.send(stand.framed(head, json.dumps(body).encode()))


@pytest.mark.parametrize("modern", [False, True])
def test_a_call_tells_how_far_it_is_and_ends_when_its_client_goes(stand: Begin, modern: bool) -> None:
    operations = Operations()
    one = stand(operations=operations)
    token = one.everything()
    session = None if modern else one.session(token)
    with one.connect() as wire:
        begin_call(one, wire, token, session, "memory_pull", progress="mine")
        assert wire.head()[1]["content-type"].startswith("text/event-stream")
        told = json.loads(wire.until(b"\n\r\n").partition(b"data: ")[2] or b"{}")
        assert told["method"] == "notifications/progress"
        assert told["params"]["progressToken"] == "mine"
        if not modern:
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
            head = f"POST /mcp HTTP/1.1\nContent-Type: {JSON}\nAccept: {BOTH}\nAuthorization: Bearer {token}\n"
            given = one.ask(f"{head}Mcp-Session-Id: {session}", json.dumps(cancel).encode())
            assert given.status == 202
    assert operations.cancelled.wait(WAIT)


def test_an_answer_with_nothing_before_it_is_json_and_one_that_takes_long_a_stream(
    stand: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adaptive_llm_gateway.server import _http_mcp

    monkeypatch.setattr(_http_mcp, "_AT_ONCE_SECONDS", WAIT)  # nobody has another reason to change it
    operations = Operations()
    one = stand(operations=operations)
    token = one.everything()
    session = one.session(token)
    given = one.mcp_call(token, "tools/list", session=session)
    assert given.headers["content-type"] == JSON
    assert given.headers["mcp-session-id"] == session
    monkeypatch.setattr(_http_mcp, "_AT_ONCE_SECONDS", 0.1)
    with one.connect() as wire:
        begin_call(one, wire, token, session, "memory_pull")
        assert wire.head()[1]["content-type"].startswith("text/event-stream")
        assert operations.go_on is not None
        one.loop.call_soon_threadsafe(operations.go_on.set)
        assert json.loads(wire.until(b"\n\r\n").partition(b"data: ")[2])["id"] == 7


def test_nobody_cancels_what_another_asked(stand: Begin) -> None:
    operations = Operations()
    one = stand(operations=operations)
    token, other = one.everything("one"), one.everything("other")
    session, others = one.session(token), one.session(other)
    with one.connect() as wire:
        begin_call(one, wire, token, session, "memory_pull")
        assert operations.begun.wait(WAIT)
        for named in (session, others):
            cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
            head = f"POST /mcp HTTP/1.1\nContent-Type: {JSON}\nAccept: {BOTH}\nAuthorization: Bearer {other}\n"
            one.ask(f"{head}Mcp-Session-Id: {named}", json.dumps(cancel).encode())
        assert not operations.cancelled.is_set()


def test_the_end_of_the_hub_answers_what_was_begun_and_ends_what_never_would(stand: Begin) -> None:
    operations = Operations()
    one = stand(operations=operations)
    token = one.everything()
    session = one.session(token)
    with stream(one, token, session) as open_stream, one.connect() as idle, one.connect() as asking:
        idle.send(one.framed("GET /healthz HTTP/1.1"))
        assert idle.answer().status == 200
        begin_call(one, asking, token, None, "memory_pull")
        assert operations.begun.wait(WAIT)
        ending = asyncio.run_coroutine_threadsafe(one.server.end(WAIT), one.loop)
        assert open_stream.rest().endswith(b"0\r\n\r\n")
        assert not idle.rest()
        with pytest.raises(OSError, match="refused"):
            one.connect()
        assert operations.go_on is not None
        one.loop.call_soon_threadsafe(operations.go_on.set)
        given = asking.answer()
        assert given.status == 200
        assert not asking.rest()
        ending.result(WAIT)


def test_a_request_by_http_without_an_access_is_refused_even_when_it_gets_that_far() -> None:
    from mcp.shared.exceptions import MCPError

    from adaptive_llm_gateway.server._access import IN_SCOPE, NOTHING, acting_for
    from adaptive_llm_gateway.server._mcp_access import access_of

    def context(request: Any) -> Any:
        return SimpleNamespace(request=request)

    assert access_of(context(None)) is EVERYTHING
    for scope in ({}, {IN_SCOPE: None}, {IN_SCOPE: "all"}, {IN_SCOPE: EVERYTHING}, {IN_SCOPE: NOTHING}):
        with pytest.raises(MCPError):
            access_of(context(SimpleNamespace(scope=scope)))
    with acting_for(NOTHING), pytest.raises(MCPError):
        access_of(context(None))
