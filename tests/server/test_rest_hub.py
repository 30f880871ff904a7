"""The REST API of a real hub, to clients with tokens that the person made."""

from __future__ import annotations

import json
from typing import Any

JSON = {"Content-Type": "application/json"}


def _token(server: Any, name: str, *more: str) -> str:
    return server.json("clients", "add", name, *more)["token"]


def test_what_one_client_writes_by_rest_another_finds_at_the_socket(server: Any) -> None:
    web = server.web()
    token = _token(server, "notebook", "--scope", "memory:read,memory:write")
    body = json.dumps({"type": "note", "title": "By REST", "body": "The walrus sleeps at noon."}).encode()
    written = web.request("POST", "/api/v1/memories", body, token=token, headers=JSON)
    assert written.status == 201, written.body
    identifier = json.loads(written.body)["id"]
    client = server.client("codex")
    assert "walrus" in client.call("memory_read", id=identifier)
    server.settled()
    assert "Agent: notebook" in server.git("log", "-1", "--format=%B")


def test_a_token_opens_what_its_scopes_say_and_nothing_else(server: Any) -> None:
    web = server.web()
    token = _token(server, "reader", "--scope", "memory:read")
    assert web.request("GET", "/api/v1/memories", token=token).status == 200
    assert web.request("POST", "/api/v1/memories", b"{}", token=token, headers=JSON).status == 403
    assert web.request("GET", "/api/v1/memories").status == 401
    server.alg("clients", "revoke", "reader")
    assert web.request("GET", "/api/v1/memories", token=token).status == 401
