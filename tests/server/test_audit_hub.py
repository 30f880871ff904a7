"""What a real hub writes down of what is asked of it."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from adaptive_llm_gateway.server._audit_files import AuditFiles
from adaptive_llm_gateway.server._observe import Observer

TOKEN = "alg_" + "f3Zq8RkW1mVt6YxLb0Hs2NcJ"


def entries(server: Any) -> list[dict[str, Any]]:
    return list(AuditFiles(server.home / "audit").newest_first())[::-1]


def test_without_http_there_is_no_audit_log_unless_it_is_wanted(server: Any) -> None:
    server.client().write("Nothing is written down")
    server.alg("hub", "stop")
    assert not (server.home / "audit").exists()
    assert "audit" not in server.json("hub", "status")
    server.configure("audit:\n  keep: always\n")
    server.client().write("This is")
    server.alg("hub", "stop")
    assert [each["action"] for each in entries(server)][:1] == ["memory_write"]


def test_beginning_and_end_and_refusals_of_http_are_in_it(server: Any) -> None:
    web = server.web()
    answer = web.request("POST", "/mcp", b"{}", token=TOKEN)
    assert answer.status == 401
    refused = [each for each in entries(server) if each["outcome"] == "refused"]
    assert [each["request"] for each in refused] == [answer.headers["x-request-id"]]  # before the answer came
    for _ in range(20):
        web.request("POST", "/mcp", b"{}", token=TOKEN)
    server.alg("hub", "stop")
    found = entries(server)
    assert found[0]["action"] == "http.start"
    assert "http.stop" in [each["action"] for each in found]
    # The last of them may belong to the next minute.
    gathered = [each for each in found if each.get("code") in ("unauthenticated", "rate_limited")]
    assert sum(each.get("count", 1) for each in gathered) == 21
    assert len(gathered) <= 6
    assert server.json("audit", "verify")["holds"]
    assert TOKEN not in "".join(path.read_text("utf-8") for path in server.files_below(server.home / "audit"))
    assert TOKEN not in "".join(path.read_text("utf-8") for path in server.files_below(server.home / "logs"))


def test_what_the_person_changes_by_the_socket_is_in_it_and_what_is_only_read_is_not(server: Any) -> None:
    server.configure("audit:\n  keep: always\n")
    client = server.client("Claude Code")
    identifier = client.write("A title that stands in no log")
    client.call("memory_read", id=identifier)
    client.call("memory_search", query="words that stand in no log")
    client.refused("memory_delete", id="0" * 26)
    server.alg("memory", "delete", identifier)
    server.alg("hub", "stop")
    found = [(each["action"], each["transport"], each["outcome"], each.get("target")) for each in entries(server)]
    assert found == [
        ("memory_write", "stdio", "ok", identifier),
        ("memory_delete", "stdio", "failed", "0" * 26),
        ("delete", "command-line", "ok", identifier),
        ("hub_stop", "command-line", "ok", None),
    ]
    assert entries(server)[0]["agent"] == "Claude Code"
    whole = "".join(path.read_text("utf-8") for path in server.files_below(server.home / "audit"))
    assert "no log" not in whole


def test_a_hub_that_is_killed_leaves_a_log_that_holds_and_goes_on(server: Any) -> None:
    server.configure("audit:\n  keep: always\n")
    client = server.client()
    for number in range(5):
        client.write(f"Number {number}")
    server.wait_until(lambda: len(entries(server)) == 5, what="the entries")
    server.kill_hub()
    client.write("Another")
    server.alg("hub", "stop")
    assert [each["action"] for each in entries(server)] == ["memory_write"] * 6 + ["hub_stop"]
    assert server.json("audit", "verify")["holds"]


def test_requests_have_a_log_of_their_own(server: Any) -> None:
    server.configure("hub:\n  log_format: json\n")
    web = server.web()
    answer = web.request("POST", "/mcp", b"{}")
    web.request("GET", "/healthz")
    path = server.home / "logs/requests.log"
    server.wait_until(lambda: path.exists() and path.read_text("utf-8"), what="the log of requests")
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [(line["request"], line["status"], line["route"]) for line in lines] == [
        (answer.headers["x-request-id"], 401, "/mcp")
    ]
    for line in (server.home / "logs/hub.log").read_text("utf-8").splitlines():
        assert json.loads(line)["level"]


def test_a_log_that_cannot_be_written_is_told_and_requests_are_served(server: Any) -> None:
    server.home.mkdir()
    (server.home / "audit").write_text("no folder", encoding="utf-8")
    web = server.web()
    assert web.request("POST", "/mcp", b"{}").status == 401
    found = server.wait_until(
        lambda: (now := server.json("hub", "status")["audit"])["error"] and now, what="the failure"
    )
    assert found["waiting"] > 0
    (server.home / "audit").unlink()
    server.wait_until(lambda: not server.json("hub", "status")["audit"]["waiting"], what="the disk")
    assert entries(server)[0]["action"] == "http.start"


def test_without_its_log_a_hub_serves_nothing_where_that_is_set(server: Any) -> None:
    server.configure("audit:\n  when_full: refuse\n")
    (server.home / "audit").write_text("no folder", encoding="utf-8")
    web = server.web()
    server.wait_until(lambda: web.request("POST", "/mcp", b"{}").status == 503, what="the refusal")
    assert web.request("GET", "/healthz").status == 200
    (server.home / "audit").unlink()
    server.wait_until(lambda: web.request("POST", "/mcp", b"{}").status == 401, what="the disk")


def test_with_nothing_to_keep_calls_are_not_observed() -> None:
    assert Observer().is_idle


def test_a_hub_that_is_told_to_end_writes_what_waits(server: Any) -> None:
    server.configure("audit:\n  keep: always\n")
    client = server.client()
    client.write("The last")
    pid = server.hub_pid()
    os.kill(pid, signal.SIGTERM)
    server.wait_until(lambda: server.hub_pid() is None, what="the hub's end")
    assert [each["action"] for each in entries(server)] == ["memory_write"]
