"""What whoever asks by HTTP is told when something around the hub goes wrong, with real hubs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import sys
from typing import Any

import pytest
from http_stand import BOTH, Wire

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}


def framed(token: str, head: str, body: bytes, *, length: int | None = None) -> bytes:
    """A request; `length`: what it says of its body, where that is not true."""
    lines = [*head.split("\n"), "Host: localhost", f"Authorization: Bearer {token}", "Content-Type: application/json"]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_what_a_hub_that_goes_cannot_wait_for_is_told_that_it_may_have_been_carried_out(server: Any, peer: Any) -> None:
    model = peer("One ", "two.")
    model.go_on.clear()
    entry = f"{{kind: openai_compatible, url: '{model.url}', models: [{{name: m, chat: true}}]}}"
    server.configure(f"gateway: {{discover: false}}\nproviders:\n  here: {entry}\n")
    web = server.web()
    token = server.json("clients", "add", "all", "--scope", "gateway,memory:write")["token"]
    asked = json.dumps({"prompt": "count"}).encode()
    call = {"name": "gateway_complete", "arguments": {"prompt": "count"}, "_meta": META}
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}).encode()
    mcp = "\n".join(
        (
            "POST /mcp HTTP/1.1",
            "Accept: application/json",
            "MCP-Protocol-Version: 2026-07-28",
            "Mcp-Method: tools/call",
            "Mcp-Name: gateway_complete",
        )
    ).replace("application/json", BOTH)
    with Wire(web.connect()) as rest, Wire(web.connect()) as tool, Wire(web.connect()) as slow:
        rest.send(framed(token, "POST /api/v1/gateway/complete HTTP/1.1", asked))
        tool.send(framed(token, mcp, message))
        slow.send(framed(token, "POST /api/v1/memories HTTP/1.1", b'{"tit', length=1000))
        server.wait_until(lambda: len(model.asked) == 2, what="the questions at the provider")
        os.kill(server.hub_pid(), signal.SIGTERM)
        for each in (rest, slow):
            given = each.answer()
            assert (given.status, given.json()["code"]) == (503, "hub_unavailable")
            assert "may or may not have been carried out" in given.json()["detail"]
            assert given.json()["hint"].startswith("Look later whether it was done")
            assert given.headers["x-request-id"] == given.json()["request_id"]
        said = tool.rest()
        assert b"500" not in said.partition(b"\r\n")[0]
        assert b"Internal Server Error" not in said
    server.wait_until(lambda: server.hub_pid() is None, what="the hub's end")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_connections_leave_a_hub_the_files_that_it_needs_itself(server: Any) -> None:
    import resource

    server.configure("http: {enabled: true, port: 0}\n")
    server.alg("hub", "start", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300)))
    web = server.web()
    token = server.json("clients", "add", "all", "--scope", "memory:write")["token"]
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(Wire(web.connect()))
        kept.send(framed(token, "GET /healthz HTTP/1.1", b""))
        assert kept.answer().status == 200
        others = [stack.enter_context(Wire(web.connect())) for _ in range(200)]
        refused = others[-1].answer()
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        kept.send(framed(token, "POST /api/v1/memories HTTP/1.1\nIdempotency-Key: a", b'{"title": "Kept"}'))
        given = kept.answer()
        assert given.status == 201, given.body
        assert given.json()["state"] == "committed"
        assert server.json("hub", "status")["audit"]["error"] is None


def test_whoever_goes_while_it_is_let_in_to_listen_is_no_failure_of_the_hub(server: Any) -> None:
    web = server.web()
    token = server.json("clients", "add", "all", "--scope", "memory:read,admin")["token"]
    lines = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {'A' * 22}==",
        "Sec-WebSocket-Version: 13",
    )
    for _ in range(20):
        for head in ("GET /api/v1/events/ws HTTP/1.1\n" + "\n".join(lines), "GET /api/v1/events HTTP/1.1"):
            one = web.connect()
            one.sendall(framed(token, head, b""))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is gone without a word
            one.close()

    def gone() -> bool:
        told = web.request("GET", "/metrics", token=token).body.decode().splitlines()
        return {"alg_event_subscribers 0.0", "alg_http_connections 1.0"} <= set(told)

    server.wait_until(gone, what="the end of all that")
    server.alg("hub", "stop")
    assert "Traceback" not in (server.home / "logs" / "hub.log").read_text(encoding="utf-8")


def test_a_client_of_http_1_0_gets_no_chunks_and_no_answer_before_the_answer(server: Any) -> None:
    web = server.web()
    token = server.json("clients", "add", "all", "--scope", "memory:read,memory:write")["token"]
    with Wire(web.connect()) as wire:
        wire.send(framed(token, "GET /api/v1/events HTTP/1.0", b""))
        status, headers = wire.head()
        assert (status, headers["connection"]) == (200, "close")
        assert "transfer-encoding" not in headers
        server.alg("hub", "stop")
        assert wire.rest().splitlines()[0] == b"retry: 2000"
    web = server.web()
    with Wire(web.connect()) as wire:
        wire.send(framed(token, "POST /api/v1/memories HTTP/1.0\nExpect: 100-continue", b'{"title": "Old"}'))
        assert wire.rest().startswith(b"HTTP/1.1 201 ")
