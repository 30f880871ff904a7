"""What a real hub writes down, counts and logs of what clients with tokens ask by HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from events_made import Socket, Stream
from prometheus_client.parser import text_string_to_metric_families

from adaptive_llm_gateway.server._audit_files import AuditFiles

JSON = {"Content-Type": "application/json"}
MCP = {
    **JSON,
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
}
UNTOLD = "a walrus that stands in no log"


class Asking:
    """A hub with HTTP, and clients of it."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.web = server.web()
        self.tokens: dict[str, str] = {}

    def client(self, name: str, scopes: str) -> str:
        token: str = self.server.json("clients", "add", name, "--scope", scopes)["token"]
        self.tokens[name] = token
        return token

    def mcp(self, token: str | None, method: str, **params: Any) -> Any:
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "Agent Smith", "version": "1"},
        }
        headers = {**MCP, "Mcp-Method": method}
        if "name" in params or "uri" in params:
            headers["Mcp-Name"] = str(params.get("name", params.get("uri")))
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        return self.web.request("POST", "/mcp", body, token=token, headers=headers)

    def tool(self, token: str, name: str, **arguments: Any) -> Any:
        return self.mcp(token, "tools/call", name=name, arguments=arguments)

    def session(self, token: str) -> str:
        """A session of 2025-11-25."""
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "one", "version": "1"}}
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}).encode()
        headers = {name: value for name, value in MCP.items() if name != "MCP-Protocol-Version"}
        return self.web.request("POST", "/mcp", body, token=token, headers=headers).headers["mcp-session-id"]

    def in_session(self, token: str, session: str, method: str, **params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        headers = {**MCP, "MCP-Protocol-Version": "2025-11-25", "Mcp-Session-Id": session}
        return self.web.request("POST", "/mcp", body, token=token, headers=headers).json()

    def entries(self, count: int) -> list[dict[str, Any]]:
        """Every entry, once there are so many."""
        return self.server.wait_until(
            lambda: len(found := self.all()) >= count and found, what=f"{count} entries, not {self.all()}"
        )

    def all(self) -> list[dict[str, Any]]:
        found = list(AuditFiles(self.server.home / "audit").newest_first())[::-1]
        return [each for each in found if each["action"] not in ("http.start", "clients_add")]

    def metrics(self, token: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        answer = self.web.request("GET", "/metrics", token=token)
        assert answer.status == 200
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        }


@pytest.fixture
def asking(server: Any) -> Asking:
    return Asking(server)


def test_who_called_which_tool_and_what_became_of_it_is_in_it(asking: Asking) -> None:
    writer, reader = asking.client("writer", "memory:read,memory:write"), asking.client("reader", "memory:read")
    written = asking.tool(writer, "memory_write", title=UNTOLD, body=UNTOLD)
    assert written.status == 200, written.body
    asking.tool(reader, "memory_search", query=UNTOLD)
    asking.tool(reader, "memory_delete", id="0" * 26)
    asking.tool(reader, "a_tool_of_mine")
    asking.mcp(reader, "resources/read", uri=f"handoff://{'0' * 26}")
    write, search, delete, unknown, resource = asking.entries(5)
    identifier = write["target"]
    assert identifier in written.body.decode()
    assert (write["client"], write["agent"], write["address"]) == ("writer", "Agent Smith", "127.0.0.1")
    assert write["request"] == written.headers["x-request-id"]
    assert [(each["action"], each["outcome"], each.get("code")) for each in (write, search, delete, unknown)] == [
        ("memory_write", "ok", None),
        ("memory_search", "ok", None),
        ("memory_delete", "refused", "access_denied"),
        ("unknown_tool", "refused", "access_denied"),
    ]
    assert (resource["action"], resource["outcome"], resource["client"]) == ("handoff", "refused", "reader")
    whole = "".join(path.read_text("utf-8") for path in asking.server.files_below(asking.server.home / "audit"))
    logs = "".join(path.read_text("utf-8") for path in asking.server.files_below(asking.server.home / "logs"))
    for text in (UNTOLD, "a_tool_of_mine", *asking.tokens.values()):
        assert text not in whole
        assert text not in logs


def test_requests_to_the_rest_api_are_in_it_by_their_routes(asking: Asking) -> None:
    token = asking.client("notebook", "memory:read,memory:write")
    body = json.dumps({"type": "note", "title": UNTOLD, "body": UNTOLD}).encode()
    written = asking.web.request("POST", "/api/v1/memories", body, token=token, headers=JSON)
    identifier = written.json()["id"]
    asking.web.request("GET", f"/api/v1/memories/{identifier}", token=token)
    absent = asking.web.request("GET", f"/api/v1/memories/{'0' * 26}", token=token)
    asking.web.request("GET", "/api/v1/receipts", token=token)
    assert absent.json()["request_id"] == absent.headers["x-request-id"]
    found = [
        (each["action"], each["transport"], each["outcome"], each.get("code"), each.get("target"))
        for each in asking.entries(4)
    ]
    assert found == [
        ("POST /api/v1/memories", "rest", "ok", None, identifier),
        ("GET /api/v1/memories/{id}", "rest", "ok", None, identifier),
        ("GET /api/v1/memories/{id}", "rest", "failed", "not_found", "0" * 26),
        ("GET /api/v1/receipts", "rest", "refused", "access_denied", None),
    ]


def test_who_asks_too_often_by_rest_is_refused_and_told_what_to_do(asking: Asking) -> None:
    token = asking.server.json("clients", "add", "slow", "--scope", "memory:read", "--rate", "1")["token"]
    first, second = (asking.web.request("GET", "/api/v1/status", token=token) for _ in range(2))
    assert (first.status, second.status) == (200, 429)
    assert "Retry-After" in second.json()["hint"]
    found = [(each["outcome"], each.get("code")) for each in asking.entries(2)]
    assert found == [("ok", None), ("refused", "rate_limited")]


def test_a_token_that_was_revoked_is_told_apart_in_the_log_alone(asking: Asking) -> None:
    token = asking.client("gone", "memory:read")
    asking.server.alg("clients", "revoke", "gone")
    revoked = asking.web.request("GET", "/api/v1/memories", token=token)
    unknown = asking.web.request("GET", "/api/v1/memories", token=token[:-10] + "0123456789")
    assert revoked.body.replace(revoked.headers["x-request-id"].encode(), b"") == unknown.body.replace(
        unknown.headers["x-request-id"].encode(), b""
    )
    revoke, one, other = asking.entries(3)
    assert (revoke["action"], revoke["target"], revoke["transport"]) == ("clients_revoke", "gone", "command-line")
    assert (one["code"], one["why"], one["client"]) == ("unauthenticated", "revoked", "gone")
    assert other["why"] in ("unknown", "mistyped")
    assert "client" not in other


def test_changes_of_clients_are_in_it_before_they_are_answered_also_without_http(server: Any) -> None:
    token = server.json("clients", "add", "early", "--scope", "memory:read")["token"]
    found = list(AuditFiles(server.home / "audit").newest_first())
    assert [(each["action"], each["target"], each["outcome"]) for each in found] == [("clients_add", "early", "ok")]
    assert token not in json.dumps(found)


def test_the_log_over_rest_is_for_administrators(asking: Asking) -> None:
    admin, reader = asking.client("admin", "admin"), asking.client("reader", "memory:read")
    asking.tool(reader, "memory_search", query=UNTOLD)
    asking.entries(1)
    assert asking.web.request("GET", "/api/v1/audit", token=reader).status == 403
    listed = asking.web.request("GET", "/api/v1/audit?client=reader&action=memory_*", token=admin).json()["entries"]
    assert [(each["action"], each["client"]) for each in listed] == [("memory_search", "reader")]
    verified = asking.web.request("GET", "/api/v1/audit/verify", token=admin).json()
    assert verified["holds"]
    assert len(verified["last"]) == 64


def test_metrics_tell_of_the_hub_and_nothing_of_what_it_holds(asking: Asking) -> None:
    admin, writer = asking.client("admin", "admin"), asking.client("writer", "memory:read,memory:write")
    asking.tool(writer, "memory_write", title=UNTOLD, project="a-secret-project", body=UNTOLD)
    asking.web.request("GET", "/mcp", token="alg_wrong")
    assert asking.web.request("GET", "/metrics", token=writer).status == 403
    asking.server.settled()
    asking.server.wait_until(
        lambda: asking.metrics(admin).get(("alg_memories", (("type", "note"),))) == 1, what="the store's numbers"
    )
    found = asking.metrics(admin)
    names = {name for name, _ in found}
    assert found["alg_calls_total", (("call", "memory_write"), ("outcome", "ok"))] == 1
    assert found["alg_http_requests_total", (("method", "GET"), ("route", "/metrics"), ("status", "403"))] == 1
    assert found["alg_commits_waiting", ()] == 0
    assert found["alg_sync_ahead", (("repo", "personal"),)] == 0
    assert found["alg_audit_up", ()] == 1
    assert found["alg_http_connections", ()] >= 1
    assert sum(value for (name, _), value in found.items() if name == "alg_authentication_failures_total") == 1
    assert {"alg_index_vectors_waiting", "alg_store_up", "alg_http_request_duration_seconds_bucket"} <= names
    text = asking.web.request("GET", "/metrics", token=admin).body.decode()
    for untold in ("walrus", "secret-project", "writer", str(asking.server.home)):
        assert untold not in text


def test_who_listens_for_changes_is_in_it_when_it_begins_and_counted(asking: Asking) -> None:
    admin, reader = asking.client("admin", "admin"), asking.client("reader", "memory:read")
    asking.server.settled()
    with Stream(asking.web, reader), Socket(asking.web, reader):
        stream, socket = asking.entries(2)  # while both are open
        assert (stream["action"], stream["transport"], stream["client"]) == ("GET /api/v1/events", "rest", "reader")
        assert (socket["action"], socket["transport"], socket["client"]) == ("WS /api/v1/events/ws", "ws", "reader")
        assert asking.metrics(admin)["alg_event_subscribers", ()] == 2
    asking.server.wait_until(lambda: asking.metrics(admin)["alg_event_subscribers", ()] == 0, what="the end of both")
    asking.server.alg("hub", "stop")
    assert [each["action"] for each in asking.all()].count("WS /api/v1/events/ws") == 1


def test_ten_thousand_wrong_tokens_leave_a_small_log(asking: Asking) -> None:
    import http.client

    right = asking.client("right", "memory:read")
    connection = http.client.HTTPConnection(asking.web.host, asking.web.port, timeout=60)
    statuses: set[int] = set()
    for number in range(10_000):
        connection.request("POST", "/mcp", b"", {"Authorization": f"Bearer wrong-{number}"})
        answer = connection.getresponse()
        answer.read()
        statuses.add(answer.status)
    connection.close()
    assert statuses == {401, 429}
    assert asking.web.request("GET", "/api/v1/status", token=right).status == 200  # from the same address
    asking.server.alg("hub", "stop")
    found = [each for each in asking.all() if each["outcome"] == "refused"]
    assert sum(each.get("count", 1) for each in found) == 10_000
    assert len(found) < 40
    assert asking.server.json("audit", "verify")["holds"]


def test_a_name_that_is_no_text_is_an_unknown_one_and_none_of_the_hubs_errors(asking: Asking) -> None:
    token = asking.client("writer", "memory:read,memory:write")
    session = asking.session(token)
    for method in ("tools/call", "prompts/get"):
        for name in (["memory_search"], {"memory_search": 1}):
            said = asking.in_session(token, session, method, name=name, arguments={})
            assert said["error"]["code"] == -32602
    assert {each["action"] for each in asking.entries(4)} == {"unknown_tool", "unknown_prompt"}
    logged = "".join(path.read_text("utf-8") for path in asking.server.files_below(asking.server.home / "logs"))
    assert "Traceback" not in logged
