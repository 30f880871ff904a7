"""What whoever comes and goes by HTTP leaves behind at a real hub: nothing, however often."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

ROUNDS, TIMES = 3, 40
RESET = struct.pack("ii", 1, 0)  # no farewell: the connection is just gone
MCP = "Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"


def numbers(web: Any, token: str) -> dict[str, float]:
    """Every series of the hub's metrics."""
    answer = web.request("GET", "/metrics", token=token)
    assert answer.status == 200
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def come_and_go(web: Any, head: str, body: bytes = b"", *, cut: int | None = None, mark: bytes = b"") -> None:
    """Send so much of a request, wait for so much of its answer, and be gone."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    data = f"{head}{length}\r\n".encode() + body
    with web.connect() as one:
        one.sendall(data[:cut])
        got = b""
        while mark and mark not in got:
            got += one.recv(65536) or b"the end " + mark
        assert not got.startswith(b"the end"), got
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def test_nothing_is_left_of_those_who_come_and_go_in_whatever_way(server: Any) -> None:
    web = server.web(trusted_proxies=["127.0.0.1"])
    added = ("--scope", "memory:read,memory:write,admin", "--rate", "unlimited")
    token = str(server.json("clients", "add", "some", *added)["token"])
    about = f"Host: {web.host}:{web.port}\r\nX-Forwarded-Proto: https\r\nAuthorization: Bearer {token}\r\n"
    begin = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    first = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": begin}).encode()
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    after: list[dict[str, float]] = []
    for turn in range(ROUNDS):
        for number in range(TIMES):
            come_and_go(web, f"GET /api/v1/events HTTP/1.1\r\n{about}", mark=b"retry:")
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            come_and_go(web, f"GET /api/v1/events/ws HTTP/1.1\r\n{about}{upgrade}{key}", mark=b"\r\n\r\n")
            come_and_go(web, f"POST /api/v1/memories HTTP/1.1\r\n{about}{MCP}", b"x" * 5000, cut=200 + 100 * number)
            come_and_go(web, f"POST /mcp HTTP/1.1\r\n{about}{MCP}", first, cut=number * 20)
            place = f"10.{turn}.{number}.1"
            wrong = f"Host: {web.host}:{web.port}\r\nX-Forwarded-For: {place}\r\nAuthorization: Bearer wrong\r\n"
            come_and_go(web, f"GET /api/v1/memories HTTP/1.1\r\n{wrong}", mark=b"401")
            come_and_go(web, f"GET /{turn}/{number} HTTP/1.1\r\n{about}", mark=b"404")
            come_and_go(web, f"M{turn}{number} /{turn} HTTP/1.1\r\n{about}")

        def quiet() -> dict[str, float] | None:
            found = numbers(web, token)
            busy = (
                found["alg_http_connections"] > 1,
                found["alg_event_subscribers"],
                found["alg_operations_in_progress"],
            )
            return None if any(busy) else found

        after.append(server.wait_until(quiet, what="quiet hub"))
    first_time, last = after[0], after[-1]
    few = TIMES / 2  # what one kind of visit leaves would be twice as much
    assert last["process_open_fds"] - first_time["process_open_fds"] < few
    assert len(last) - len(first_time) < few
