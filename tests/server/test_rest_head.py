"""`HEAD` is answered as `GET` is, without the body: for every route that has `GET`, but for the stream of events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rest_made import RestServer, rest_server

from adaptive_llm_gateway.server._access import STREAMS, Access

CHANGING = {"/api/v1/status", "/api/v1/sync", "/api/v1/gateway/health", "/api/v1/changes"}
"""Routes whose answer may be another one a moment later, so that its length may be."""


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[RestServer]:
    with rest_server(tmp_path) as server:
        yield server


def test_head_is_answered_as_get_is_without_the_body(rest: RestServer) -> None:
    client = rest.client()
    memory = client.post("/memories", json={"title": "kestrel"}).json()["id"]
    client.post("/memories", json={"title": "another kestrel"})
    ids = {
        "memories": memory,
        "sessions": client.post("/sessions", json={"text": "t"}).json()["session_id"],
        "handoffs": client.post("/handoffs", json={"objective": "o"}).json()["id"],
        "receipts": client.post("/gateway/complete", json={"prompt": "x"}).json()["receipt"],
    }
    asked = 0
    for method, path in rest.api.routes:
        if method != "GET" or path in STREAMS:
            continue
        whole = path.removeprefix("/api/v1").replace("{code}", "not_found")
        whole = whole.replace("{id}", ids.get(whole.split("/")[1], ""))
        if whole in ("/memories", "/search"):
            whole += "?limit=1"
        given, head = client.get(whole), client.head(whole)
        asked += 1
        assert (given.status_code, head.status_code, head.content) == (200, 200, b""), whole
        theirs, ours = ({**each.headers, "date": ""} for each in (given, head))
        if path in CHANGING:
            assert int(ours.pop("content-length")) > 0
            theirs.pop("content-length")
        assert ours == theirs, whole
    assert asked > 15
    assert client.head("/memories?limit=1").links["next"]["url"].startswith("/api/v1/memories?limit=1&cursor=")


def test_head_is_refused_as_get_is(rest: RestServer) -> None:
    client = rest.client()
    rest.callers["writer"] = Access(client="writer", scopes=frozenset({"memory:write"}))
    one = client.post("/memories", json={"title": "x"})
    place, etag = one.headers["location"].removeprefix("/api/v1"), one.headers["etag"]
    for asking, path, status in (
        (rest.client("writer"), place, 403),
        (rest.client(None), place, 401),
        (client, "/memories/01JC4Q8M3V9Z2K7W5T1R6XHB0D", 404),
        (client, "/memories?limit=x", 400),
        (client, "/memories?cursor=x", 422),
        (client, "/nope", 404),
    ):
        given, head = asking.get(path), asking.head(path)
        assert (given.status_code, head.status_code, head.content) == (status, status, b""), path
        for name in ("content-type", "content-length", "www-authenticate", "cache-control"):
            assert head.headers.get(name) == given.headers.get(name)
    known = client.head(place, headers={"if-none-match": etag})
    assert (known.status_code, known.headers["etag"]) == (304, etag)
    stream = client.head("/events")
    assert (stream.status_code, stream.headers["allow"]) == (405, "GET")
    assert client.head("/handoffs/claim").headers["allow"] == "POST"


def test_a_real_hub_answers_head_and_keeps_the_connection_in_step(server: Any) -> None:
    web = server.web()
    token = server.json("clients", "add", "reader", "--scope", "memory:read")["token"]
    for path in ("/api/v1/types", "/api/v1/memories", "/api/v1/openapi.json"):
        given, head = web.request("GET", path, token=token), web.request("HEAD", path, token=token)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == given.headers["content-length"] == str(len(given.body))
    nobody = web.request("HEAD", "/api/v1/types")
    assert (nobody.status, nobody.body) == (401, b"")
    assert nobody.headers["content-type"] == "application/problem+json"
    assert web.request("HEAD", "/api/v1/audit", token=token).status == 403
    assert web.request("HEAD", "/api/v1/events", token=token).status == 405
    with web.connect() as wire:
        ask = f"HEAD /api/v1/types HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        end = "GET /api/v1/types HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        wire.sendall(f"{ask}\r\n{end}Authorization: Bearer {token}\r\n\r\n".encode())
        said = b""
        while data := wire.recv(65_536):
            said += data
    first, second, body = said.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 200")
    assert json.loads(body)["types"]
