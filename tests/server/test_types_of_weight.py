"""What a type means to the hub beyond its text, by each way in that a client has: REST, MCP, sessions, a pull."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rest_made import RestServer, rest_server

from adaptive_llm_gateway.memory._types import BUILT_IN_TYPES
from adaptive_llm_gateway.server._access import ROUTE_SCOPES, TOOL_SCOPES, TYPE_SCOPES, Access

WRITER = Access(client="ci", scopes=frozenset({"memory:read", "memory:write", "handoff", "gateway"}))
ROUTE: dict[str, Any] = {"provider": "p", "model": "m", "purpose": "chat", "recent_calls": 50, "recent_answered": 50}


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[RestServer]:
    with rest_server(tmp_path) as server:
        server.callers["writer"] = WRITER
        yield server


def test_no_way_over_rest_writes_a_route_without_admin(rest: RestServer) -> None:
    person, writer = rest.client(), rest.client("writer")
    made = person.post("/memories", json={"type": "route", "title": "p/m for chat", "fields": ROUTE}).json()
    note = writer.post("/memories", json={"title": "A note"}).json()
    session = writer.post("/sessions", json={"text": "Begun."}).json()["session_id"]
    path, match = f"/memories/{made['id']}", {"if-match": f'"{made["version"]}"'}
    for answer in (
        writer.post("/memories", json={"type": "route", "title": "mine", "fields": ROUTE}),
        writer.patch(path, json={"fields": {"recent_answered": 0}}),
        writer.put(path, json={"text": writer.get(path).json()["text"]}, headers=match),
        writer.delete(path),
        writer.post(f"{path}/restore", json={"at": made["version"]}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "access_denied"), answer.text
        assert answer.json()["details"]["scope"] == "admin"
    read = writer.get(f"/memories/{note['id']}").json()
    match = {"if-match": f'"{read["version"]}"'}
    for old, new in (("type: note", "type: route"), ("client: ci", "client: gateway")):
        assert old in read["text"]
        text = {"text": read["text"].replace(old, new)}
        answer = writer.put(f"/memories/{note['id']}", json=text, headers=match)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input"), answer.text
    assert writer.post(f"/sessions/{made['id']}/entries", json={"text": "Mine."}).status_code == 422
    assert writer.post(f"/sessions/{session}/compact", json={}).status_code == 200
    counts = person.get("/status").json()["by_type"]
    assert (counts["route"], counts.get("handoff", 0)) == (1, 0)
    assert person.get(path).json()["version"] == made["version"]


def test_a_client_by_mcp_is_refused_what_would_steer_models(server: Any) -> None:
    web = server.web()
    token = server.json("clients", "add", "ci", "--scope", "memory:write,gateway,handoff")["token"]
    call = {"name": "memory_write", "arguments": {"type": "route", "title": "mine", "fields": ROUTE}}
    call["_meta"] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "gateway", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "memory_write",
    }
    answer = web.request("POST", "/mcp", json.dumps(message).encode(), token=token, headers=headers)
    assert answer.status == 200, answer.body
    assert "needs a token with the scope 'admin'" in answer.body.decode()
    assert server.json("memory", "status")["by_type"].get("route", 0) == 0


def test_nothing_imports_for_a_client_and_every_type_of_weight_is_one_of_ours() -> None:
    assert not [each for each in (*TOOL_SCOPES, *(path for _, path in ROUTE_SCOPES)) if "import" in each]
    assert set(TYPE_SCOPES) <= set(BUILT_IN_TYPES)
