"""The hub's HTTP server: what it answers to whom, with real hubs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from http_stand import BOTH, Wire

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.server._access import ROUTE_SCOPES, STREAMS
from adaptive_llm_gateway.server._routes import Routes

HEAVY = {"uvicorn", "httptools", "fastapi", "jwt", "prometheus_client", "websockets.server", "opentelemetry.sdk"}
"""What serves HTTP, and nothing else here."""
OURS = "adaptive_llm_gateway.server."


def test_a_hub_serves_http_where_its_status_says_and_ends_with_it(server: Any) -> None:
    web = server.web()
    assert web.request("GET", "/healthz").json() == {"status": "ok"}
    assert f"http    {web.url}" in server.alg("hub", "status").stdout
    server.alg("hub", "stop")
    with pytest.raises(ConnectionRefusedError):
        web.connect()


def test_without_the_setting_nothing_listens(server: Any) -> None:
    server.alg("hub", "start")
    assert server.json("hub", "status")["http"]["state"] == "off"


def test_a_port_that_is_taken_leaves_the_hub_to_its_socket_and_says_so(server: Any, serve: Any) -> None:
    from http.server import BaseHTTPRequestHandler

    taken = serve(BaseHTTPRequestHandler).server_port
    server.configure(f"http:\n  enabled: true\n  port: {taken}\n")
    server.alg("hub", "start")
    found = server.wait_until(
        lambda: (now := server.json("hub", "status")["http"])["state"] != "starting" and now, what="HTTP"
    )
    assert found["state"] == "failed"
    assert str(taken) in found["problem"]
    assert server.client().write("It goes on")


def test_ready_says_which_part_is_not(server: Any) -> None:
    server.home.mkdir()
    (server.home / "memory").write_text("no folder", encoding="utf-8")
    web = server.web()
    server.wait_until(lambda: server.json("hub", "status")["store"] == "failed", what="the store's failure")
    answer = web.request("GET", "/readyz")
    assert answer.status == 503
    assert answer.json() == {"ready": False, "waiting": ["store"]}
    assert web.request("GET", "/healthz").status == 200
    (server.home / "memory").unlink()
    server.wait_until(lambda: web.request("GET", "/readyz").status == 200, what="the store, its index and its model")
    assert web.request("GET", "/readyz").json() == {"ready": True, "waiting": []}


def test_ready_waits_for_the_index_and_the_model(stand: Any) -> None:
    one = stand(waiting=["index", "model"])
    given = one.ask("GET /readyz HTTP/1.1")
    assert (given.status, given.json()) == (503, {"ready": False, "waiting": ["index", "model"]})
    assert one.ask("HEAD /readyz HTTP/1.1").status == 503


def test_a_hub_that_listens_does_not_go_idle(server: Any) -> None:
    server.configure("hub:\n  idle_minutes: 0.001\n")
    web = server.web()
    pid = server.hub_pid()
    threading.Event().wait(1)  # many times as long as it may be idle
    assert web.request("GET", "/healthz").status == 200
    assert server.hub_pid() == pid


def test_without_http_nothing_of_a_server_is_loaded() -> None:
    look = f"import sys, adaptive_llm_gateway.server._hub; print([x for x in {sorted(HEAVY)!r} if x in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hub_without_http_loads_nothing_of_a_server(server: Any, tmp_path: Path) -> None:
    told = tmp_path / "imports.txt"
    with told.open("wb") as file:
        hub = subprocess.Popen(
            [str(Path(sys.executable).with_name("alg")), "--home", str(server.home), "hub", "run"],
            stderr=file,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        )
        try:
            server.wait_until(server.hub_pid, what="the hub")
            client = server.client()
            client.write("A walrus")
            client.call("memory_search", query="walrus")
            server.alg("clients", "add", "reader", "--scope", "memory:read")
            server.alg("hub", "stop")
            assert hub.wait(60) == 0
        finally:
            hub.kill()
            hub.wait()
    lines = told.read_text(encoding="utf-8").splitlines()
    loaded = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert {OURS + "_hub", "mcp.server.lowlevel.server"} <= loaded
    # The MCP library loads uvicorn by itself.
    assert not loaded & (HEAVY - {"uvicorn"} | {OURS + name for name in ("_http", "_http_app", "_http_mcp", "_rest")})


def test_nobody_gets_in_without_a_token(server: Any) -> None:
    web = server.web()
    for token in (None, "x", "alg_" + "0" * 40):
        answer = web.request("POST", "/mcp", b"{}", token=token)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert not answer.body


def test_what_is_no_route_is_not_found_and_other_methods_are_not_allowed(server: Any) -> None:
    web = server.web()
    answer = web.request("GET", "/")
    assert (answer.status, answer.body) == (404, b"")
    answer = web.request("PUT", "/mcp", b"")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, POST")


def test_a_route_needs_what_the_table_says() -> None:
    routes = Routes({**ROUTE_SCOPES, ("GET", "/x/{id}"): "memory:read", ("PUT", "/x/{id}"): "memory:write"})
    assert routes.find("GET", "/healthz") == "public"
    assert routes.find("HEAD", "/healthz") == "public"
    assert routes.find("GET", "/x/1") == "memory:read"
    assert routes.find("HEAD", "/x/1") == "memory:read"
    assert routes.find("PATCH", "/x/1") == ("GET", "HEAD", "PUT")
    for path in STREAMS:
        assert routes.find("HEAD", path) == tuple(sorted(method for method, at in ROUTE_SCOPES if at == path))
    for path in ("/x", "/x/", "/x/1/", "/x/1/2", "/x//", "//x/1", "/X/1"):
        assert routes.find("GET", path) == ()


def test_settings_of_http_are_checked(server: Any) -> None:
    from adaptive_llm_gateway.core import Home, load_settings

    server.configure("http:\n  trusted_proxies: nowhere\n")
    with pytest.raises(ConfigError, match="nowhere"):
        load_settings(Home(server.home))


def test_a_token_lets_its_client_in_until_it_is_revoked_which_ends_its_stream_too(server: Any) -> None:
    web = server.web()
    token = server.json("clients", "add", "reader", "--scope", "memory:read")["token"]
    asked = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": asked}).encode()
    headers = {"Content-Type": "application/json", "Accept": BOTH}
    answer = web.request("POST", "/mcp", body, token=token, headers=headers)
    assert answer.status == 200
    session = answer.headers["mcp-session-id"]
    with Wire(web.connect()) as stream:
        stream.send(
            f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAuthorization: Bearer {token}\r\n"
            f"Mcp-Session-Id: {session}\r\n\r\n".encode()
        )
        assert stream.head()[0] == 200
        server.alg("clients", "revoke", "reader")
        stream.rest()
    assert web.request("POST", "/mcp", body, token=token, headers=headers).status == 401
