"""`alg clients` through real hubs: what it prints, what it keeps, and who may use it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import Settings
from adaptive_llm_gateway.server._access import ROUTE_SCOPES, SCOPES, TOOL_SCOPES
from adaptive_llm_gateway.server._clients_operations import mcp_address
from adaptive_llm_gateway.server._registration import http_registration_lines
from adaptive_llm_gateway.server._tokens import is_token, new_token, token_hash

ADD = ("clients", "add", "laptop", "--scope", "memory:read,handoff")


def failed(server: Any, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = server.alg(*arguments, "--json", check=False)
    return done.returncode, json.loads(done.stdout)["error"]


def test_a_client_is_made_listed_shown_changed_rotated_and_revoked(server: Any) -> None:
    done = server.json(*ADD, "--scope", "gateway", "--project", "acme", "--project", "acme-*", "--max-trust",
                       "confidential", "--expires", "never", "--rate", "1,200", "--tokens-per-day", "100000",
                       "--cost-per-day", "1.50")  # fmt: skip
    token = done["token"]
    assert is_token(token)
    assert {name: done[name] for name in ("scopes", "projects", "max_trust", "expires", "rate", "tokens_per_day",
                                          "cost_per_day", "state")} == {
        "scopes": ["gateway", "handoff", "memory:read"], "projects": ["acme", "acme-*"], "max_trust": "confidential",
        "expires": None, "rate": 1_200, "tokens_per_day": 100_000, "cost_per_day": 150_000_000, "state": "valid",
    }  # fmt: skip
    (listed,) = server.json("clients", "list")["clients"]
    assert listed == {name: value for name, value in done.items() if name not in ("token", "url", "register")}
    shown = server.alg("clients", "show", "laptop").stdout
    assert "today: 0 calls of models, 0 tokens, $0.00" in shown
    assert "never seen" in shown
    assert all(word in shown for word in ("1,200 requests a minute", "100,000 tokens a day", "$1.50 a day", done["id"]))
    changed = server.json("clients", "set", "laptop", "--rate", "unlimited", "--all-projects", "--cost-per-day",
                          "unlimited", "--expires", "30d")  # fmt: skip
    told = server.alg("clients", "set", "laptop", "--tokens-per-day", "100000").stdout
    assert "unlimited requests a minute; 100,000 tokens a day; unlimited costs a day" in told
    assert (changed["rate"], changed["projects"], changed["cost_per_day"]) == (None, None, None)
    assert changed["expires"] is not None
    assert changed["tokens_per_day"] == 100_000
    rotated = server.json("clients", "rotate", "laptop", "--grace", "1h")
    assert is_token(rotated["token"])
    assert rotated["token"] != token
    assert [each["until"] is None for each in rotated["tokens"]] == [False, True]
    assert server.alg("clients", "revoke", "laptop").stdout == "revoked laptop\n"
    assert server.json("clients", "list")["clients"] == []
    assert [item["state"] for item in server.json("clients", "list", "--all")["clients"]] == ["revoked"]
    kept = (server.home / "clients.json").read_text(encoding="utf-8")
    assert token not in kept


def test_the_token_alone_is_on_stdout_and_never_shown_again(server: Any) -> None:
    done = server.alg(*ADD)
    token = done.stdout.strip()
    assert is_token(token)
    assert done.stdout == f"{token}\n"
    assert "shown once" in done.stderr
    assert "nobody comes in by HTTP" in done.stderr
    for command in (("list",), ("show", "laptop"), ("list", "--json"), ("set", "laptop", "--rate", "5", "--json")):
        told = server.alg("clients", *command)
        assert token not in told.stdout + told.stderr
        assert token_hash(token) not in told.stdout + told.stderr
    log = (server.home / "logs" / "hub.log").read_text(encoding="utf-8")
    assert token not in log
    assert token_hash(token) not in log


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (["add", "a b", "--scope", "admin"], 2, "invalid_input"),
        (["add", "x"], 2, "invalid_input"),
        (["add", "x", "--scope", "root"], 2, "invalid_input"),
        (["add", "x", "--scope", "admin", "--expires", "soon"], 2, "invalid_input"),
        (["add", "x", "--scope", "admin", "--expires", ""], 2, "invalid_input"),
        (["add", "x", "--scope", "admin", "--max-trust", "top"], 2, "usage"),
        (["add", "x", "--scope", "admin", "--rate", "0"], 2, "invalid_input"),
        (["add", "x", "--scope", "admin", "--rate", "many"], 2, "invalid_input"),
        (["add", "x", "--scope", "admin", "--cost-per-day", "1.000000001"], 2, "invalid_input"),
        (["add", "gh" + "p_16C7e42F292c6912E7710c838347Ae178B4a", "--scope", "admin"], 5, "secret_refused"),
        (["show", "nobody"], 3, "not_found"),
        (["set", "nobody", "--rate", "5"], 3, "not_found"),
        (["rotate", "nobody"], 3, "not_found"),
        (["revoke", "nobody"], 3, "not_found"),
    ],
)
def test_what_is_refused_has_its_exit_code_and_makes_no_client(
    server: Any, arguments: list[str], code: int, name: str
) -> None:
    found, error = failed(server, "clients", *arguments)
    assert (found, error["code"]) == (code, name)
    assert not (server.home / "clients.json").exists()


def test_a_name_is_taken_once_and_free_again_after_its_client_was_revoked(server: Any) -> None:
    server.json(*ADD)
    assert failed(server, "clients", "add", "LAPTOP", "--scope", "admin")[0] == 2
    first = server.json("clients", "revoke", "laptop")["id"]
    assert failed(server, "clients", "rotate", "laptop")[0] == 2
    assert server.json(*ADD)["id"] != first
    assert server.json("clients", "show", first)["state"] == "revoked"


def test_a_damaged_file_is_told_with_exit_code_7_and_left_as_it_is(server: Any) -> None:
    server.json(*ADD)
    path: Path = server.home / "clients.json"
    path.write_text('{"format": 1, "clients": [{"name": "x"}]}', encoding="utf-8")
    for arguments in (("list",), ("show", "laptop"), ("add", "y", "--scope", "admin"), ("revoke", "laptop")):
        code, error = failed(server, "clients", *arguments)
        assert (code, error["code"]) == (7, "storage")
        assert "nobody is let in by HTTP" in error["message"]
    checks = {
        check["name"]: check for check in json.loads(server.alg("doctor", "--json", check=False).stdout)["checks"]
    }
    assert checks["tokens"]["state"] == "fail"
    assert "nobody is let in by HTTP" in checks["tokens"]["message"]
    path.write_text('{"format": 9, "clients": []}', encoding="utf-8")
    assert failed(server, "clients", "list")[1]["code"] == "format_too_new"
    assert json.loads(path.read_text(encoding="utf-8"))["format"] == 9


def test_a_client_made_by_one_hub_is_known_to_the_next(server: Any) -> None:
    made = server.json(*ADD)
    server.alg("hub", "stop")
    assert server.json("clients", "show", "laptop")["id"] == made["id"]


def test_no_tool_and_no_word_to_a_model_makes_a_client(server: Any) -> None:
    client = server.client()
    client.initialize()
    tools = client.request("tools/list")["result"]["tools"]
    assert {tool["name"] for tool in tools} == set(TOOL_SCOPES)
    assert not re.search(r"alg clients|clients_", json.dumps(tools))
    refused = client.request("tools/call", {"name": "clients_add", "arguments": {"name": "x", "scopes": ["admin"]}})
    assert "error" in refused or refused["result"].get("isError")
    assert not (server.home / "clients.json").exists()


def test_no_route_makes_a_client_or_changes_one_whatever_the_token_allows(server: Any) -> None:
    web = server.web()
    token = server.json("clients", "add", "all", "--scope", ",".join(SCOPES))["token"]
    before = (server.home / "clients.json").read_bytes()
    assert not [path for _, path in ROUTE_SCOPES if "client" in path]
    body = json.dumps({"name": "x", "scopes": ["admin"]}).encode()
    for method, path in (("POST", ""), ("PUT", "/all"), ("PATCH", "/all"), ("DELETE", "/all"), ("POST", "/all/rotate")):
        for start in ("/api/v1/clients", "/clients", "/api/v1/tokens"):
            answer = web.request(
                method, f"{start}{path}", body, token=token, headers={"content-type": "application/json"}
            )
            assert answer.status == 404, (method, start, path)
    assert (server.home / "clients.json").read_bytes() == before


@pytest.mark.parametrize(
    ("http", "url"),
    [
        ({"enabled": False}, None),
        ({"enabled": True, "port": 0}, None),
        ({"enabled": True}, "http://127.0.0.1:8377/mcp"),
        ({"enabled": True, "host": "::1", "port": 90}, "http://[::1]:90/mcp"),
        ({"enabled": True, "host": "::", "allowed_hosts": ["hub.example.org"]}, "http://hub.example.org:8377/mcp"),
        ({"enabled": True, "tls_certificate": "/tls/a.pem"}, "https://127.0.0.1:8377/mcp"),
        (
            {"enabled": True, "host": "::", "trusted_proxies": "10.0.0.1", "allowed_hosts": ["hub.example.org"]},
            "https://hub.example.org/mcp",
        ),
        ({"enabled": True, "trusted_proxies": "::1", "allowed_hosts": ["a.example"]}, "http://127.0.0.1:8377/mcp"),
    ],
)
def test_the_address_is_told_as_the_configuration_has_it(http: dict[str, Any], url: str | None) -> None:
    assert mcp_address(Settings.model_validate({"http": http})) == url


def test_where_the_port_is_left_open_the_one_that_was_found_is_told() -> None:
    settings = Settings.model_validate({"http": {"enabled": True, "port": 0}})
    assert mcp_address(settings, "http://127.0.0.1:40123") == "http://127.0.0.1:40123/mcp"


def test_a_token_opens_mcp_by_http_until_it_is_revoked_and_the_scope_says_what_is_offered(server: Any) -> None:
    web = server.web()
    made = server.json("clients", "add", "laptop", "--scope", "memory:read")
    assert made["url"] == f"{web.url}/mcp"
    assert set(made["register"]) == {"claude-code", "codex"}
    assert made["token"] not in str(made["register"])
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    head = {"accept": "application/json, text/event-stream", "content-type": "application/json"}

    def ask(token: str) -> Any:
        return web.request("POST", "/mcp", json.dumps(asked).encode(), token=token, headers=head)

    assert ask(made["token"]).status != 401
    mistyped = made["token"][:-1] + ("0" if made["token"][-1] != "0" else "1")
    for wrong in (mistyped, new_token()):
        answer = ask(wrong)
        assert (answer.status, answer.body) == (401, b"")
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert server.json("clients", "show", "laptop")["last_seen"] is not None
    rotated = server.json("clients", "rotate", "laptop")["token"]
    assert ask(made["token"]).status == 401
    assert ask(rotated).status != 401
    server.json("clients", "revoke", "laptop")
    assert ask(rotated).status == 401
    log = (server.home / "logs" / "hub.log").read_text(encoding="utf-8")
    assert all(token not in log for token in (made["token"], rotated))


def test_a_client_that_asks_too_often_is_answered_429_with_the_seconds_to_wait(server: Any) -> None:
    web = server.web()
    token = server.json("clients", "add", "slow", "--scope", "memory:read", "--rate", "1")["token"]
    assert web.request("POST", "/mcp", b"{}", token=token).status not in (401, 429)
    answer = web.request("POST", "/mcp", b"{}", token=token)
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_the_lines_that_register_the_hub_have_the_token_in_a_variable() -> None:
    assert http_registration_lines("http://127.0.0.1:8377/mcp") == {
        "claude-code": "claude mcp add --scope user --transport http alg http://127.0.0.1:8377/mcp "
        '--header "Authorization: Bearer $ALG_TOKEN"',
        "codex": "codex mcp add alg --url http://127.0.0.1:8377/mcp --bearer-token-env-var ALG_TOKEN",
    }


def test_who_is_connected_here_and_who_has_a_token_are_told_apart(server: Any) -> None:
    server.web()
    for name in ("laptop", "phone", "gone"):
        server.json("clients", "add", name, "--scope", "memory:read")
    server.alg("clients", "revoke", "gone")
    server.client("codex")
    status = server.json("hub", "status")
    assert (status["clients"], status["http"]["clients"]) == (1, 2)
    said = server.alg("hub", "status").stdout
    assert "clients 1 connected on this machine" in said
    assert "2 clients with a token" in said
    checks = {check["name"]: check["message"] for check in server.json("doctor")["checks"]}
    assert "1 client connected on this machine" in checks["hub"]
    assert "2 clients may come by HTTP" in checks["tokens"]
