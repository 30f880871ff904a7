"""The programs people use, by HTTP and with a token: they get what its scopes allow, and nothing else.

Claude Code, Codex and MCP Inspector are the real command-line programs; the models behind the first two are scripted
(`fake_models.py`).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from adaptive_llm_gateway.server._access import TOOL_SCOPES

if TYPE_CHECKING:
    from conftest import Person, Web
    from fake_models import FakeModels, Turn

ERAS = ("legacy", "modern")  # as the Inspector calls 2025-11-25 and 2026-07-28
MEMORY = {
    "type": "decision",
    "title": "Quokka release train",
    "body": "We ship the quokka build every second Tuesday, from the branch `train/quokka`.",
    "reason": "asked to keep the release rhythm",
}
READER = ("memory:read",)
WRITER = ("memory:read", "memory:write")
ULID = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")


def tools_of(*scopes: str) -> set[str]:
    """The tools that a token of these scopes is to have."""
    return {tool for tool, scope in TOOL_SCOPES.items() if scope in scopes}


def on_offer(turn: Turn) -> set[str]:
    """The tools of the hub among those that a client offered its model."""
    return {name.removeprefix("mcp__alg__") for name in turn.offered if name.startswith("mcp__alg__")}


@pytest.fixture(scope="module")
def web(person: Person) -> Web:
    """A hub that listens by HTTP."""
    return person.web()


def give_claude(person: Person, web: Web, token: str) -> None:
    """Have Claude Code use the hub by HTTP with a token, in place of one that it has."""
    person.attempt("claude", "mcp", "remove", "alg", "--scope", "user")
    header = f"Authorization: Bearer {token}"
    person.run(*("claude", "mcp", "add", "--scope", "user", "--transport", "http", "alg", f"{web.url}/mcp"),
               *("-H", header))  # fmt: skip


def give_codex(person: Person, web: Web, token: str) -> None:
    """The same for Codex, which reads the token from the environment."""
    person.attempt("codex", "mcp", "remove", "alg")
    person.run("codex", "mcp", "add", "alg", "--url", f"{web.url}/mcp", "--bearer-token-env-var", "ALG_HTTP_TOKEN")
    person.env["ALG_HTTP_TOKEN"] = token


def inspector(person: Person, web: Web, token: str, *arguments: str) -> tuple[int, str, str]:
    """Run MCP Inspector once; its exit code, stdout and stderr."""
    return person.attempt(
        *("mcp-inspector", "--cli", f"{web.url}/mcp", "--transport", "http", "--format", "json"),
        *("--header", f"Authorization: Bearer {token}", "--stored-auth-only", *arguments),
    )


def inspected(person: Person, web: Web, token: str, *arguments: str) -> Any:
    """What MCP Inspector got."""
    code, out, err = inspector(person, web, token, *arguments)
    assert (code, err) == (0, ""), out
    return json.loads(out)["result"]


@pytest.fixture(scope="module")
def claude_turn(person: Person, web: Web, models: FakeModels, fake_models_module: Any) -> Turn:
    """Claude Code, asked to remember something, wrote it."""
    give_claude(person, web, person.token("desk-claude", *WRITER))
    turn = fake_models_module.Turn("alg", "memory_write", MEMORY, "I have written it down.")
    person.claude(models, "Remember how we release.", turn, wait=True)
    return turn


@pytest.fixture(scope="module")
def written(claude_turn: Turn) -> str:
    """The id of what Claude Code wrote."""
    found = ULID.search(claude_turn.results[0])
    assert found is not None, claude_turn.results
    return found[0]


@pytest.fixture(scope="module")
def codex_turn(person: Person, web: Web, written: str, models: FakeModels, fake_models_module: Any) -> Turn:
    """Codex, asked about it afterwards with a token for reading, searched."""
    assert written
    give_codex(person, web, person.token("desk-codex", *READER))
    turn = fake_models_module.Turn("alg", "memory_search", {"query": "when do we ship quokka"}, "I have found it.")
    person.codex(models, "When do we ship?", turn, "--skip-git-repo-check")
    return turn


def test_claude_code_writes_by_http_and_is_told_the_id(claude_turn: Turn, written: str) -> None:
    assert claude_turn.results[0].startswith(f"Wrote decision {MEMORY['title']!r}"), claude_turn.results
    assert written


def test_codex_finds_by_http_what_claude_code_wrote(codex_turn: Turn, written: str) -> None:
    assert written in codex_turn.results[0]
    assert "every second Tuesday" in codex_turn.results[0]


def test_each_offers_its_model_the_tools_of_its_tokens_scopes_and_no_others(
    claude_turn: Turn, codex_turn: Turn
) -> None:
    assert on_offer(claude_turn) == tools_of(*WRITER)
    assert on_offer(codex_turn) == tools_of(*READER)
    assert "memory_write" in on_offer(claude_turn) - on_offer(codex_turn)


def test_the_author_of_what_a_client_writes_is_the_tokens_client(person: Person, written: str) -> None:
    author = person.alg("memory", "read", written)["author"]
    assert author["client"] == "desk-claude"
    assert "claude-code" in author["agent"]


def test_claude_code_with_a_token_for_reading_has_no_tool_that_writes(
    person: Person, web: Web, written: str, models: FakeModels, fake_models_module: Any
) -> None:
    give_claude(person, web, person.token("reading-claude", *READER))
    turn = fake_models_module.Turn("alg", "memory_search", {"query": "quokka"}, "Here it is.")
    person.claude(models, "When do we ship?", turn, wait=True)
    assert on_offer(turn) == tools_of(*READER)
    assert written in turn.results[0]


def test_a_token_that_was_revoked_is_told_to_whoever_uses_claude_code(person: Person, web: Web) -> None:
    give_claude(person, web, person.token("gone-claude", *READER))
    assert "Connected" in person.run("claude", "mcp", "get", "alg")
    person.alg("clients", "revoke", "gone-claude")
    told = person.run("claude", "mcp", "get", "alg")
    assert "Failed to connect" in told
    assert "HTTP 401" in told


def test_codex_does_not_begin_with_a_token_that_was_revoked(
    person: Person, web: Web, models: FakeModels, fake_models_module: Any
) -> None:
    give_codex(person, web, person.token("gone-codex", *READER))
    person.alg("clients", "revoke", "gone-codex")
    turn = fake_models_module.Turn("alg", "memory_search", {"query": "quokka"}, "Here it is.")
    command = person.codex_command(models, "When do we ship?", turn, "--skip-git-repo-check")
    code, out, err = person.attempt(*command, LOOPBACK_KEY="not-a-key")
    assert code != 0, out
    assert re.search(r"\balg\b.*(auth|401)", out + err, re.IGNORECASE | re.DOTALL), out + err
    assert turn.results == []


@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_has_nothing_to_say_against_the_tools_of_any_token(person: Person, web: Web, era: str) -> None:
    for number, scopes in enumerate((READER, WRITER, ("handoff",), ("gateway",), ("admin",))):
        token = person.token(f"inspector-{era}-{number}", *scopes)
        listed = inspected(person, web, token, "--protocol-era", era, "--method", "tools/list", "--strict")
        assert {tool["name"] for tool in listed["tools"]} == tools_of(*scopes)


@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_reads_tools_resources_and_prompts_of_a_token(
    person: Person, web: Web, written: str, era: str
) -> None:
    token = person.token(f"inspector-reads-{era}", *READER)

    def got(*arguments: str) -> Any:
        return inspected(person, web, token, "--protocol-era", era, "--method", *arguments)

    found = got("tools/call", "--tool-name", "memory_search", "--tool-arg", "query=quokka")
    assert written in found["content"][0]["text"]
    read = got("resources/read", "--uri", f"memory://{written}")
    assert "every second Tuesday" in read["contents"][0]["text"]
    assert [each["name"] for each in got("prompts/list")["prompts"]] == ["project_context"]
    assert [each["uriTemplate"] for each in got("resources/templates/list")["resourceTemplates"]] == ["memory://{id}"]


@pytest.mark.parametrize("era", ERAS)
def test_many_calls_at_once_of_the_inspector_are_all_answered(person: Person, web: Web, written: str, era: str) -> None:
    token = person.token(f"inspector-load-{era}", *READER)
    load = ("--load", "--load-requests", "200", "--load-concurrency", "20")
    call = ("--method", "tools/call", "--tool-name", "memory_read", "--tool-arg", f"id={written}")
    came = inspected(person, web, token, "--protocol-era", era, *call, *load)
    assert (came["ok"], came["toolErrors"], came["errors"]) == (200, 0, 0), came


@pytest.mark.parametrize("era", ERAS)
def test_the_inspector_is_not_let_in_with_a_token_that_was_revoked(person: Person, web: Web, era: str) -> None:
    token = person.token(f"gone-inspector-{era}", *READER)
    person.alg("clients", "revoke", f"gone-inspector-{era}")
    code, out, err = inspector(person, web, token, "--protocol-era", era, "--method", "tools/list")
    assert code == 3, out + err  # as the Inspector says that it must be let in
    assert "auth_required" in err
