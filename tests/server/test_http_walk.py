"""All that a real hub lists, asked by HTTP with real tokens: each opens what its scope says, and shows what it sees.

Nothing here names a tool, a resource, a prompt or a route that is to be asked: what the hub lists is asked. A new one
that is in no table fails, and so does a new argument that somebody has to give.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from http_stand import Wire

from adaptive_llm_gateway.server._access import PROMPT_SCOPES, RESOURCE_SCOPES, ROUTE_SCOPES, SCOPES, TOOL_SCOPES

ERAS = ("2025-11-25", "2026-07-28")
JSON = {"Content-Type": "application/json"}
NOWHERE = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
STREAMS = {("GET", "/api/v1/events"), ("WEBSOCKET", "/api/v1/events/ws")}
LISTS = (
    ("tools/list", "tools", "name"),
    ("prompts/list", "prompts", "name"),
    ("resources/list", "resources", "uri"),
    ("resources/templates/list", "resourceTemplates", "uriTemplate"),
)


class Caller:
    """A client of a hub with a token, in one era."""

    def __init__(self, web: Any, token: str, era: str = ERAS[1]) -> None:
        self.web, self.token, self._era = web, token, era
        self._session: str | None = None
        if era == ERAS[0]:
            hello = {"protocolVersion": era, "capabilities": {}, "clientInfo": {"name": "walker", "version": "1"}}
            self._session = self._post("initialize", hello).headers["mcp-session-id"]

    def _post(self, method: str, params: dict[str, Any]) -> Any:
        headers = {**JSON, "Accept": "application/json, text/event-stream"}
        if self._era == ERAS[1]:
            params["_meta"] = {
                "io.modelcontextprotocol/protocolVersion": self._era,
                "io.modelcontextprotocol/clientCapabilities": {},
                "io.modelcontextprotocol/clientInfo": {"name": "walker", "version": "1"},
            }
            headers |= {"MCP-Protocol-Version": self._era, "Mcp-Method": method}
            if "name" in params or "uri" in params:
                headers["Mcp-Name"] = str(params.get("name", params.get("uri")))
        elif self._session is not None:
            headers |= {"MCP-Protocol-Version": self._era, "Mcp-Session-Id": self._session}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        return self.web.request("POST", "/mcp", body, token=self.token, headers=headers)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        given = self._post(method, params)
        if given.headers["content-type"].startswith("text/event-stream"):
            lines = [line[5:] for line in given.body.decode().splitlines() if line.startswith("data:")]
            return json.loads(lines[-1])
        return given.json()

    def rows(self, method: str, key: str) -> list[dict[str, Any]]:
        return self.ask(method)["result"][key]

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return self.ask("tools/call", name=tool, arguments=arguments)["result"]

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        return self.web.request(method, path, data, token=self.token, headers=JSON if data else {})


class Hub:
    """A hub that listens, and tokens for it."""

    def __init__(self, server: Any) -> None:
        server.configure("gateway: {discover: false}\nproviders: {trial: {kind: built_in}}\n")
        self.server = server
        self.web = server.web()

    def token(self, name: str, scopes: str, *more: str) -> str:
        return self.server.json("clients", "add", name, "--scope", scopes, "--rate", "unlimited", *more)["token"]

    def listed(self) -> dict[str, set[str]]:
        """What it lists to the person at the machine."""
        client = self.server.client()
        return {method: {each[name] for each in client.request(method)["result"][key]} for method, key, name in LISTS}


@pytest.fixture
def hub(server: Any) -> Hub:
    return Hub(server)


def scheme(uri: str) -> str:
    return uri.partition("://")[0]


# --- Scopes ---------------------------------------------------------------------------------------------------------


def test_of_all_that_a_hub_lists_a_token_is_offered_and_can_use_what_its_scope_allows(hub: Hub) -> None:
    there = hub.listed()
    assert there["tools/list"] == TOOL_SCOPES.keys()
    assert there["prompts/list"] == PROMPT_SCOPES.keys()
    assert {scheme(uri) for uri in there["resources/list"] | there["resources/templates/list"]} == (
        RESOURCE_SCOPES.keys()
    )
    for scope in SCOPES:
        token = hub.token(f"only-{scope}".replace(":", "-"), scope)
        for era in ERAS:
            caller = Caller(hub.web, token, era)
            needed: dict[str, Callable[[str], str | None]] = {
                "tools/list": TOOL_SCOPES.get,
                "prompts/list": PROMPT_SCOPES.get,
                "resources/list": lambda uri: RESOURCE_SCOPES.get(scheme(uri)),
                "resources/templates/list": lambda uri: RESOURCE_SCOPES.get(scheme(uri)),
            }
            for method, key, name in LISTS:
                offered = {each[name] for each in caller.rows(method, key)}
                assert offered == {each for each in there[method] if needed[method](each) == scope}, (scope, method)
            unknown = json.dumps(caller.call("no_such_tool", no_such_argument=1)).replace("no_such_tool", "*")
            for tool in there["tools/list"]:
                said = json.dumps(caller.call(tool, no_such_argument=1))
                if TOOL_SCOPES[tool] == scope:
                    assert "no_such_argument" in said, (scope, tool)
                else:
                    assert said.replace(tool, "*") == unknown, (scope, tool)
            nowhere = json.dumps(caller.ask("resources/read", uri="nowhere://1")["error"])
            for uri in there["resources/list"] | there["resources/templates/list"]:
                asked = re.sub(r"\{[^}]*\}", NOWHERE, uri)
                said = json.dumps(caller.ask("resources/read", uri=asked)["error"]).replace(asked, "nowhere://1")
                assert (said == nowhere) == (RESOURCE_SCOPES[scheme(uri)] != scope), (scope, uri)
            nothing = caller.ask("prompts/get", name="nothing")["error"]
            for prompt in there["prompts/list"]:
                error = caller.ask("prompts/get", name=prompt, arguments={"no_such_argument": "1"})["error"]
                assert (error == nothing) == (PROMPT_SCOPES[prompt] != scope), (scope, prompt)


def answered(hub: Hub, method: str, path: str, token: str | None) -> tuple[int, str]:
    """Status of a request, and what a problem says."""
    if (method, path) not in STREAMS:
        given = hub.web.request(method, path, b"" if method in ("POST", "PUT", "PATCH") else None, token=token)
        problem = given.headers.get("content-type") == "application/problem+json"
        return given.status, given.json()["detail"] if problem else ""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if method == "WEBSOCKET":
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines.append("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    with Wire(hub.web.connect()) as wire:
        wire.send("\r\n".join([*lines, "", ""]).encode())
        return wire.head()[0], ""


def test_every_route_of_a_hub_answers_a_token_with_its_scope_and_no_other(hub: Hub) -> None:
    tokens = {scope: hub.token(f"only-{scope}".replace(":", "-"), scope) for scope in SCOPES}
    described = hub.web.request("GET", "/api/v1/openapi.json", token=tokens["admin"]).json()["paths"]
    rest = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert rest | STREAMS == {key for key in ROUTE_SCOPES if key[1].startswith("/api/")}
    for (method, path), needed in ROUTE_SCOPES.items():
        place = re.sub(r"\{[^}]*\}", NOWHERE, path)
        status, _ = answered(hub, method, place, None)
        assert (status == 401) == (needed != "public"), (method, path)
        for scope, token in tokens.items():
            status, said = answered(hub, method, place, token)
            if needed in ("public", "token", scope):
                assert status not in (401, 403, 405, 429), (method, path, scope)
                assert status < 500 or path == "/readyz", (method, path, scope, said)
                assert said != "there is no such path", (method, path)
            else:
                assert status == 403, (method, path, scope)
    meaning = hub.web.request("GET", "/api/v1/problems/access_denied", token=tokens["handoff"])
    problem = hub.web.request("GET", "/api/v1/status", token=tokens["handoff"]).json()
    assert (problem["code"], problem["type"]) == ("access_denied", "/api/v1/problems/access_denied")
    assert meaning.json()["status"] == 403


# --- What is seen -----------------------------------------------------------------------------------------------------

CANARY = re.compile(r"quetzal[0-9]+")
GIVEN: dict[str, Any] = {
    "query": "walrus", "path": ".", "text": "a walrus", "title": "A walrus", "rationale": "walruses",
    "prompt": "a walrus", "messages": [{"role": "user", "content": "a walrus"}], "texts": ["a walrus"],
    "objective": "a walrus", "budget_tokens": 4000, "question": "a walrus",
}  # fmt: skip
"""What is given where an argument of this name has to be given."""
MAY: dict[str, Any] = {"context": {"budget": 3000}, "facets": True, "explain": True, "checkpoints": True, "all": True}
"""What is given besides, once alone, where there is an argument of this name."""
MEANT = ("id", "session", "session_id", "similar_to")
"""Names of arguments that mean one memory; these mean several."""
SEVERAL = ("expand", "decisions", "supersedes")


def arguments(schema: dict[str, Any], id: str) -> Iterator[dict[str, Any]]:
    """What to call a tool with: what is needed, and each argument that could mean something hidden."""
    needed = {name: id if name in MEANT else GIVEN[name] for name in schema.get("required", ())}
    yield needed
    for name in schema["properties"]:
        if name in MEANT:
            yield needed | {name: id}
            yield needed | {name: id[-8:]}
        elif name in SEVERAL:
            yield needed | {name: [id]}
        elif name == "project":
            yield from (needed | {name: project} for project in ("alpha", "beta"))
        elif name in MAY:
            yield needed | {name: MAY[name]}


def means(given: object, id: str) -> bool:
    """Whether a memory is meant by what is given."""
    return id[-8:] in json.dumps(given)


class Told:
    """All that a caller is told when it asks for everything, by what was asked."""

    def __init__(self, hub: Hub, token: str, *, scopes: frozenset[str]) -> None:
        self._caller = Caller(hub.web, token)
        self._scopes = scopes

    def about(self, id: str, *, all: bool = True) -> Iterator[tuple[str, str]]:
        """What was asked, and what was told, with this id wherever one can be given.

        Args:
            all: ask also what no id is given for.
        """
        ask = self._caller.ask
        for tool in self._caller.rows("tools/list", "tools"):
            if TOOL_SCOPES[tool["name"]] in self._scopes:
                for given in arguments(tool["inputSchema"], id):
                    if not all and not means(given, id):
                        continue
                    yield f"{tool['name']} {given}", json.dumps(self._caller.call(tool["name"], **given))
        for template in self._caller.rows("resources/templates/list", "resourceTemplates"):
            uri = re.sub(r"\{[^}]*\}", id, template["uriTemplate"])
            yield uri, json.dumps(ask("resources/read", uri=uri))
        for prompt in self._caller.rows("prompts/list", "prompts"):
            for project in ("alpha", "beta") if all else ():
                given = {each["name"]: "walrus" for each in prompt["arguments"] if each.get("required")}
                yield (
                    f"{prompt['name']} of {project}",
                    json.dumps(ask("prompts/get", name=prompt["name"], arguments=given | {"project": project})),
                )
        described = self._caller.rest("GET", "/api/v1/openapi.json").json()
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                if ROUTE_SCOPES[method.upper(), path] in self._scopes:
                    for place, body in routed(path, operation, described["components"]["schemas"], id):
                        if all or means((place, body), id):
                            answer = self._caller.rest(method.upper(), place, body)
                            yield f"{method.upper()} {place} {body or ''}", answer.body.decode()


def routed(path: str, operation: dict[str, Any], schemas: dict[str, Any], id: str) -> Iterator[tuple[str, Any]]:
    """How to ask a route: its place with a query, and a body."""
    place = re.sub(r"\{[^}]*\}", id, path)
    bodies: list[Any] = [None]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        bodies = list(arguments(schemas[schema["$ref"].rpartition("/")[2]], id))
    yield from ((place, body) for body in bodies)
    for each in operation.get("parameters", ()):
        match each["name"]:
            case "similar_to":
                yield f"{place}?similar_to={id}", bodies[0]
            case "project":
                yield from ((f"{place}?project={project}", bodies[0]) for project in ("alpha", "beta"))
            case "deleted" | "all" | "checkpoints" | "facets" | "explain" as name:
                yield f"{place}?{name}=true", bodies[0]
            case "query":
                yield f"{place}?query=walrus", bodies[0]
            case _:
                pass


def memories(hub: Hub, token: str) -> tuple[dict[str, str], str]:
    """Hidden memories, by what hides them, and one that is seen and was not; each has a word of its own."""
    caller = Caller(hub.web, token)

    def made(number: int, where: str = "memories", **more: Any) -> str:
        word = f"quetzal{number}"
        given = {"title": f"A walrus {word}", "body": f"The walrus {word} sleeps.", **more}
        if where == "sessions":
            given = {"title": given["title"], "text": given["body"], **more}
        elif where == "handoffs":
            given = {"objective": given["title"], "next_action": given["body"], **more}
        answer = caller.rest("POST", f"/api/v1/{where}", given)
        assert answer.status == 201, answer.body
        return answer.json()["session_id" if where == "sessions" else "id"]

    hidden = {
        "by its level": made(1, project="alpha", trust="confidential"),
        "by its project": made(2, project="beta"),
        "without a project": made(3),
        "a session": made(4, "sessions", project="beta"),
        "a handoff": made(5, "handoffs", project="beta"),
        "a handoff of a level": made(6, "handoffs", project="alpha", trust="confidential"),
        "deleted": made(7, project="beta"),
    }
    assert caller.rest("DELETE", f"/api/v1/memories/{hidden['deleted']}").status == 200
    # Its file keeps the name that it began with, so the past title is no secret; the past text is.
    seen = made(8, project="alpha", trust="confidential", title="A walrus")
    patch = {"title": "A walrus that is seen", "body": "The walrus okapi sleeps.", "trust": "internal"}
    assert caller.rest("PATCH", f"/api/v1/memories/{seen}", patch).status == 200
    return hidden, seen


def versions(caller: Caller, ids: list[str]) -> list[Any]:
    return [caller.rest("GET", f"/api/v1/memories/{id}").json().get("version") for id in ids]


def test_what_a_token_does_not_see_comes_by_nothing_that_a_hub_lists(hub: Hub) -> None:
    every = hub.token("every", ",".join(SCOPES), "--max-trust", "secret")
    scopes = frozenset(SCOPES) - {"admin"}
    narrow = hub.token("narrow", ",".join(sorted(scopes)), "--project", "alpha", "--max-trust", "internal")
    hidden, seen = memories(hub, every)
    hub.server.settled()
    before = versions(Caller(hub.web, every), list(hidden.values()))

    # Who sees everything is told of each of them: so this would notice.
    reading = Told(hub, every, scopes=frozenset({"memory:read"}))
    for number, (what, id) in enumerate(hidden.items(), 1):
        shown = {asked.split(" ")[0] for asked, told in reading.about(id, all=number == 1) if CANARY.search(told)}
        assert {"memory_history", "GET"} <= shown, what
        assert what == "deleted" or {"memory_read", f"memory://{id}"} <= shown, what
        assert number > 1 or {"memory_search", "memory_context", "project_context", "POST"} <= shown

    asking = Told(hub, narrow, scopes=scopes)
    missing = dict(asking.about(NOWHERE))
    for asked, told in missing.items():
        assert not CANARY.search(told), (asked, told)
        assert not [what for what, id in hidden.items() if id in told], (asked, told)
    for what, id in {**hidden, "is seen": seen}.items():
        for asked, told in asking.about(id, all=False):
            assert not CANARY.search(told), (what, asked, told)
            assert not [each for each in hidden.values() if each != id and each in told], (what, asked, told)
            absent = missing[asked.replace(id, NOWHERE).replace(id[-8:], NOWHERE[-8:])]
            if what != "is seen" and any(mark in absent for mark in ('"isError": true', '"error"', '"code"')):
                assert plain(told, id) == plain(absent, NOWHERE), (what, asked)
    assert versions(Caller(hub.web, every), list(hidden.values())) == before
    told = json.dumps(Caller(hub.web, narrow).call("memory_search", query="walrus"))
    assert seen in told


def plain(told: str, id: str) -> str:
    """What was told, whichever memory it was asked of."""
    told = re.sub(r'"request_id":"[^"]*"', "", told)
    for each in (id, id[-8:], id.lower(), id[-8:].lower()):
        told = told.replace(each, "ID")
    return told
