"""The main job, with the programs people use: what Claude Code writes, Codex finds a moment later.

Both are the real command-line programs; only the models behind them are scripted (`fake_models.py`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Person
    from fake_models import FakeModels, Turn

MEMORY = {
    "type": "decision",
    "title": "Quokka release train",
    "body": "We ship the quokka build every second Tuesday, from the branch `train/quokka`.",
    "reason": "asked to keep the release rhythm",
}
ULID = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b")


@pytest.fixture(scope="module")
def registered(person: Person) -> Person:
    """Both clients have been given the server, by the very lines the product prints."""
    lines = person.alg("path")["register"]
    for client in ("claude-code", "codex"):
        person.shell(lines[client])
    return person


@pytest.fixture(scope="module")
def claude_turn(registered: Person, models: FakeModels, fake_models_module: Any) -> Turn:
    """Claude Code, asked to remember something, wrote it."""
    turn = fake_models_module.Turn("alg", "memory_write", MEMORY, "I have written it down.")
    models.turn = turn
    said = registered.run(
        *("claude", "-p", "Remember how we release.", "--allowedTools", "mcp__alg", "--output-format", "json"),
        ANTHROPIC_BASE_URL=models.url,
        ANTHROPIC_API_KEY="not-a-key",
    )
    answer = json.loads(said)
    assert (answer["is_error"], answer["result"]) == (False, turn.closing), said
    assert answer["permission_denials"] == []
    return turn


@pytest.fixture(scope="module")
def hub_pid_after_claude(registered: Person, claude_turn: Turn) -> int:
    """The hub that Claude Code's server started."""
    return registered.alg("hub", "status")["pid"]


@pytest.fixture(scope="module")
def codex_turn(registered: Person, hub_pid_after_claude: int, models: FakeModels, fake_models_module: Any) -> Turn:
    """Codex, asked about it afterwards, searched."""
    turn = fake_models_module.Turn("alg", "memory_search", {"query": "when do we ship quokka"}, "I have found it.")
    said = registered.codex(models, "When do we ship?", turn, "--skip-git-repo-check")
    assert turn.closing in said
    return turn


def test_claude_code_reports_the_registered_server_as_connected(registered: Person) -> None:
    listed = registered.run("claude", "mcp", "list")
    assert re.search(r"^alg: .*\bserve\b.* Connected$", listed, re.MULTILINE), listed


def test_codex_lists_the_registered_server_as_enabled(registered: Person) -> None:
    listed = json.loads(registered.run("codex", "mcp", "list", "--json"))
    assert [(server["name"], server["enabled"]) for server in listed] == [("alg", True)]
    assert listed[0]["transport"]["args"][-1] == "serve"


def test_claude_code_writes_a_memory_and_is_told_its_id(claude_turn: Turn) -> None:
    assert "mcp__alg__memory_write" in claude_turn.offered
    assert len(claude_turn.results) == 1
    told = claude_turn.results[0]
    assert told.startswith(f"Wrote decision {MEMORY['title']!r}"), told
    assert ULID.search(told), told


def test_codex_finds_what_claude_code_wrote(claude_turn: Turn, codex_turn: Turn) -> None:
    written = ULID.search(claude_turn.results[0])
    assert written is not None
    assert len(codex_turn.results) == 1
    found = codex_turn.results[0]
    assert written[0] in found
    assert MEMORY["title"] in found
    assert "every second Tuesday" in found
    assert "by claude-code" in found


def test_codex_offers_its_model_reading_and_writing_from_the_first_request_on(codex_turn: Turn) -> None:
    assert {f"mcp__alg__memory_{verb}" for verb in ("search", "read", "write")} <= codex_turn.offered


def test_both_clients_share_one_hub(registered: Person, hub_pid_after_claude: int, codex_turn: Turn) -> None:
    assert codex_turn.results
    assert registered.alg("hub", "status")["pid"] == hub_pid_after_claude


def test_git_log_names_claude_code_as_the_author_and_gives_the_reason(registered: Person, claude_turn: Turn) -> None:
    written = ULID.search(claude_turn.results[0])
    assert written is not None
    repo = registered.alg("path")["memory"]
    log = ""

    def committed() -> bool:  # grouped commits may come a moment after the answer
        nonlocal log
        log = registered.run("git", "-C", repo, "log", f"--grep={written[0]}", "--format=%an%n%(trailers:unfold)")
        return bool(log)

    registered.wait_until(committed, "the commit of the written memory")
    author, *trailers = log.split("\n")
    assert author == "claude-code"
    assert f"Reason: {MEMORY['reason']}" in trailers
    assert f"Memory: {written[0]}" in trailers


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to see processes")
def test_when_the_clients_have_ended_only_the_hub_lives_on(
    registered: Person, hub_pid_after_claude: int, codex_turn: Turn
) -> None:
    assert codex_turn.results
    registered.wait_until(lambda: set(registered.processes()) == {hub_pid_after_claude}, "the clients' servers to end")


def test_the_lock_file_pins_versions_by_hash_and_names_no_registry() -> None:
    text = Path(__file__).with_name("node").joinpath("package-lock.json").read_text(encoding="utf-8")
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert {"node_modules/@anthropic-ai/claude-code", "node_modules/@openai/codex"} <= set(packages)
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    for entry in packages.values():
        entry.pop("funding", None)  # where their authors ask for money; nothing is fetched from there
    assert "://" not in json.dumps(packages)
