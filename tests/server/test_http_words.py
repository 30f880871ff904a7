"""What MCP and HTTP say of headers and errors, asked of a real hub: small print that the conformance suite looks at."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "modern-client", "version": "1"},
}


def token_of(server: Any, *scopes: str) -> str:
    given = [part for scope in scopes for part in ("--scope", scope)]
    return server.json("clients", "add", "reader", *given)["token"]


def asked(web: Any, token: str, method: str, params: dict[str, Any], **headers: str) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": META}}
    said = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        **headers,
    }
    return web.request("POST", "/mcp", json.dumps(body).encode(), token=token, headers=said)


def test_white_space_around_a_headers_value_is_no_part_of_it(server: Any) -> None:
    web = server.web()
    token = token_of(server, "memory:read")
    call: dict[str, Any] = {"name": "memory_status", "arguments": {}}
    for name in ("memory_status", "memory_status \t ", "  \tmemory_status  "):
        answer = asked(web, token, "tools/call", call, **{"Mcp-Name": name})
        assert answer.status == 200, answer.body
    assert asked(web, f"{token}  ", "tools/call", call, **{"Mcp-Name": "memory_status"}).status == 200
    assert asked(web, token, "tools/call", call, **{"Mcp-Name": "memory_ status"}).status == 400


def test_an_error_names_the_resource_that_there_is_not_and_no_credential_in_its_address(server: Any) -> None:
    web = server.web()
    token = token_of(server, "memory:read")

    def told(uri: str) -> Any:
        return asked(web, token, "resources/read", {"uri": uri}, **{"Mcp-Name": uri}).json()["error"]

    for uri in ("walrus://1", "handoff://01ARZ3NDEKTSV4RRFFQ69G5FAV"):  # what there is not, and what is not its own
        assert told(uri) == {"code": -32602, "message": "Unknown resource", "data": {"uri": uri}}
    secret = "ghp_" + "Zq7Kd2Lm9Xv4Rt6Yp1Ws8Bn3Hj5Fg0Tc2QeA"
    assert secret not in json.dumps(told(f"walrus://{secret}"))
    assert "data" not in told("walrus://" + "x" * 3_000)


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_hub_asks_for_as_many_files_as_its_connections_take(server: Any) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3_024:
        pytest.skip(f"no process may have more than {hard} files here")
    server.configure("http:\n  enabled: true\n  port: 0\n  max_connections: 2000\n")
    server.alg("hub", "start", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard)))
    server.wait_until(lambda: server.json("hub", "status")["http"]["state"] == "listening", what="HTTP")
    limits = Path(f"/proc/{server.hub_pid()}/limits").read_text(encoding="ascii")
    found = re.search(r"^Max open files +(\d+) ", limits, re.MULTILINE)
    assert found is not None
    assert int(found[1]) == 3_024
