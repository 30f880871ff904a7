"""What each token may ask by HTTP: every tool, resource, prompt and route with every scope, and with none."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from http_stand import Given, Stand

from adaptive_llm_gateway.server._access import (
    PROMPT_SCOPES,
    RESOURCE_SCOPES,
    ROUTE_SCOPES,
    SCOPES,
    STREAMS,
    TOOL_SCOPES,
    Scope,
)
from adaptive_llm_gateway.server._mcp_access import METHODS

ERAS = ("2025-11-25", "2026-07-28")


@pytest.fixture
def stand() -> Iterator[Stand]:
    one = Stand()
    yield one.begin()
    one.close()


class Caller:
    """A client in one era."""

    def __init__(self, stand: Stand, era: str, *scopes: Scope) -> None:
        self.stand = stand
        self.token = stand.client("caller", *scopes)
        self.session = stand.session(self.token) if era == "2025-11-25" else None

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self.stand.mcp_call(self.token, method, params, session=self.session).message()

    def listed(self, method: str, key: str, name: str) -> set[str]:
        return {each[name] for each in self.ask(method)["result"][key]}

    def called(self, tool: str) -> str:
        result = self.ask("tools/call", name=tool, arguments={"no_such_argument": 1})["result"]
        assert result["isError"]
        return result["content"][0]["text"]


def allowed(table: dict[str, Scope], *scopes: str) -> set[str]:
    return {name for name, scope in table.items() if scope in scopes}


def test_every_tool_resource_and_prompt_is_in_the_tables_and_nothing_else(stand: Stand) -> None:
    tools = {each.name for each in stand.run(stand.mcp.list_tools())}
    assert tools == set(TOOL_SCOPES)
    templates = stand.run(stand.mcp.list_resource_templates())
    resources = stand.run(stand.mcp.list_resources())
    schemes = {str(each.uri_template).partition("://")[0] for each in templates}
    assert schemes | {str(each.uri).partition("://")[0] for each in resources} == set(RESOURCE_SCOPES)
    assert {each.name for each in stand.run(stand.mcp.list_prompts())} == set(PROMPT_SCOPES)


def test_every_method_that_the_server_answers_is_decided_on(stand: Stand) -> None:
    answered = set(stand.mcp._lowlevel_server._request_handlers)  # pyright: ignore[reportPrivateUsage]
    assert answered | {"initialize"} == METHODS


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("scope", [*SCOPES, None])
def test_a_token_sees_what_its_scope_allows_and_can_ask_for_nothing_else(
    stand: Stand, scope: Scope | None, era: str
) -> None:
    scopes = (scope,) if scope else ()
    caller = Caller(stand, era, *scopes)
    tools = allowed(TOOL_SCOPES, *scopes)
    assert caller.listed("tools/list", "tools", "name") == tools
    assert caller.listed("prompts/list", "prompts", "name") == allowed(PROMPT_SCOPES, *scopes)
    templates = caller.listed("resources/templates/list", "resourceTemplates", "uriTemplate")
    assert {each.partition("://")[0] for each in templates} == allowed(RESOURCE_SCOPES, *scopes)
    refused = caller.called("no_such_tool").replace("no_such_tool", "*")
    for tool in TOOL_SCOPES:
        for name in (tool, tool.replace("_", ".", 1), tool.replace("_", ".")):
            said = caller.called(name)
            if tool in tools:
                assert "no_such_argument" in said
            else:
                assert said.replace(name, "*") == refused
    nowhere = json.dumps(caller.ask("resources/read", uri="nowhere://1")["error"])
    for scheme, needed in RESOURCE_SCOPES.items():
        uri = f"{scheme}://01ARZ3NDEKTSV4RRFFQ69G5FAV"
        error = json.dumps(caller.ask("resources/read", uri=uri)["error"]).replace(uri, "nowhere://1")
        assert (error == nowhere) == (needed not in scopes)
    nothing = caller.ask("prompts/get", name="nothing")["error"]
    for prompt, needed in PROMPT_SCOPES.items():
        error = caller.ask("prompts/get", name=prompt, arguments={"no_such_argument": "1"})["error"]
        assert (error == nothing) == (needed not in scopes)


def test_no_scope_includes_another(stand: Stand) -> None:
    for scope in SCOPES:
        others: list[Scope] = [each for each in SCOPES if each != scope]
        caller = Caller(stand, "2026-07-28", *others)
        assert caller.listed("tools/list", "tools", "name") == {
            name for name, needed in TOOL_SCOPES.items() if needed != scope
        }


@pytest.mark.parametrize("era", ERAS)
def test_what_is_no_method_of_ours_is_answered_as_one_that_does_not_exist(stand: Stand, era: str) -> None:
    caller = Caller(stand, era, *SCOPES)
    for method in ("completion/complete", "logging/setLevel", "resources/subscribe", "tasks/list", "no/such"):
        assert caller.ask(method)["error"]["code"] == -32601


def answered(stand: Stand, method: str, path: str, token: str | None) -> Given:
    lines = [f"{'GET' if method == 'WEBSOCKET' else method} {path} HTTP/1.1", "Content-Length: 0"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if method == "WEBSOCKET":
        lines.remove("Content-Length: 0")
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    return stand.ask("\n".join(lines))


HEADS = [("HEAD", path) for method, path in ROUTE_SCOPES if method == "GET" and path not in STREAMS]
"""What is answered beside the table, as it has it of `GET`."""


@pytest.mark.parametrize(("method", "path"), [*ROUTE_SCOPES, *HEADS])
def test_a_route_is_open_to_whom_the_table_says(stand: Stand, method: str, path: str) -> None:
    needed = ROUTE_SCOPES["GET" if method == "HEAD" else method, path]
    path = re.sub(r"\{[^}]*\}", "01ARZ3NDEKTSV4RRFFQ69G5FAV", path)
    nobody = answered(stand, method, path, None)
    assert (nobody.status == 401) == (needed != "public")
    assert answered(stand, method, path, "wrong").status == nobody.status
    for scope in (*SCOPES, None):
        given = answered(stand, method, path, stand.client("one", *((scope,) if scope else ())))
        assert (given.status == 403) == (needed not in ("public", "token", scope))
        assert given.status != 401
    if method == "HEAD":
        assert not nobody.body
    elif path.startswith("/api/") and method != "WEBSOCKET":
        assert given_code(nobody) == "unauthenticated"
    elif needed != "public":
        assert not nobody.body


def given_code(given: Given) -> str:
    assert given.headers["content-type"] == "application/problem+json"
    return given.json()["code"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WEBSOCKET"])
def test_a_method_that_is_in_no_row_of_the_table_is_not_allowed(stand: Stand, method: str) -> None:
    token = stand.everything()
    for path in {path for _, path in ROUTE_SCOPES if "{" not in path}:
        methods = {each for each, other in ROUTE_SCOPES if other == path}
        known = {*methods, "HEAD"} if ("HEAD", path) in HEADS else methods
        if method not in known:
            given = answered(stand, method, path, token)
            others = known - {"WEBSOCKET"}
            assert given.status == (405 if others else 404)
            assert set(given.headers.get("allow", "").split(", ")) == (others or {""})
