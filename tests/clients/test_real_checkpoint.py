"""Checkpoints from the hooks of the programs people use: what is left of a session in which nobody thought of it.

Both are the real command-line programs, which write the transcripts that are read; only the models behind them are
scripted (`fake_models.py`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Person
    from fake_models import FakeModels, Turn


@pytest.fixture(scope="module")
def registered(person: Person) -> Person:
    """Somebody with both clients and work that is not committed."""
    person.git("init", "--quiet", "--initial-branch=main")
    (person.work / "train.py").write_text("print('quokka')\n", encoding="utf-8")
    person.git("add", "train.py")
    person.git("commit", "--quiet", "--message=Begin")
    (person.work / "train.py").write_text("print('wombat')\n", encoding="utf-8")
    lines = person.alg("path")["register"]
    for client in ("claude-code", "codex"):
        person.shell(lines[client])
    return person


def hooks(person: Person, client: str, *events: str) -> None:
    """Have a client make a checkpoint at these events, and at no others."""
    command = f"{person.run('alg', 'path', 'alg').strip()} handoff checkpoint --hook"
    entry = [{"hooks": [{"type": "command", "command": command}]}]
    files = {"claude-code": person.home / ".claude" / "settings.json", "codex": person.home / ".codex" / "hooks.json"}
    files[client].parent.mkdir(exist_ok=True)
    files[client].write_text(json.dumps({"hooks": dict.fromkeys(events, entry)}), encoding="utf-8")


def checkpoints(person: Person) -> dict[str, dict[str, Any]]:
    """All checkpoints that are open, by the client's session."""
    found = person.alg("handoff", "list", "--checkpoints")["handoffs"]
    assert all(handoff["checkpoint"] for handoff in found)
    assert len({handoff["session_id"] for handoff in found}) == len(found)
    return {handoff["session_id"]: handoff for handoff in found}


def checkpoint(person: Person, session: str, objective: str) -> dict[str, Any]:
    """The checkpoint of a session, once it says this objective: the hook does not wait for it."""
    found: dict[str, Any] = {}

    def there() -> bool:
        found.update(checkpoints(person).get(session, {}))
        return found.get("objective") == objective

    person.wait_until(there, f"a checkpoint of {session!r}", seconds=60)
    return person.alg("handoff", "show", found["id"])


def say(fake_models_module: Any, text: str) -> Turn:
    return fake_models_module.Turn("alg", "", {}, text)


@pytest.fixture(scope="module")
def left(registered: Person, models: FakeModels, fake_models_module: Any) -> dict[str, Any]:
    """The checkpoint of a session of Claude Code that has ended."""
    hooks(registered, "claude-code", "SessionEnd")
    turn = say(fake_models_module, "train.py prints the wombat now; its test is missing.")
    session = registered.claude(models, "Print the wombat.", turn)["session_id"]
    return checkpoint(registered, session, "Print the wombat.")


def test_when_a_session_of_claude_code_ends_its_checkpoint_says_what_it_was_about(
    registered: Person, left: dict[str, Any]
) -> None:
    assert left["by"]["client"] == "claude-code"
    assert left["state"] == "offered"
    assert "train.py prints the wombat now; its test is missing." in left["body"]
    assert left["work"]["directory"] == str(registered.work)
    assert left["work"]["dirty"] == ["M train.py"]


def test_the_next_checkpoint_of_a_session_takes_the_place_of_the_one_before(
    registered: Person, left: dict[str, Any], models: FakeModels, fake_models_module: Any
) -> None:
    hooks(registered, "claude-code", "SessionEnd")
    turn = say(fake_models_module, "The test is there.")
    again = registered.claude(models, "Write its test.", turn, "--resume", left["session_id"])
    assert again["session_id"] == left["session_id"]
    after = checkpoint(registered, left["session_id"], "Write its test.")
    assert after["id"] == left["id"]
    assert "Print the wombat." in after["body"]


def test_before_claude_code_compacts_a_session_it_is_kept(
    registered: Person, models: FakeModels, fake_models_module: Any
) -> None:
    hooks(registered, "claude-code", "PreCompact")
    turn = say(fake_models_module, "The quokka is back.")
    session = registered.claude(models, "Bring the quokka back.", turn)["session_id"]
    assert session not in checkpoints(registered)
    registered.claude(models, "/compact", say(fake_models_module, "A summary."), "--resume", session)
    assert "The quokka is back." in checkpoint(registered, session, "Bring the quokka back.")["body"]


def test_after_each_turn_of_claude_code_a_stop_hook_keeps_it(
    registered: Person, models: FakeModels, fake_models_module: Any
) -> None:
    hooks(registered, "claude-code", "Stop")
    session = registered.claude(models, "Feed the wombat.", say(fake_models_module, "It is fed."))["session_id"]
    checkpoint(registered, session, "Feed the wombat.")


def test_when_a_session_of_codex_ends_its_checkpoint_says_what_it_was_about(
    registered: Person, models: FakeModels, fake_models_module: Any
) -> None:
    hooks(registered, "codex", "SessionEnd")
    turn = say(fake_models_module, "The echidna is counted.")
    told = registered.codex(models, "Count the echidna.", turn, "--dangerously-bypass-hook-trust")
    session = json.loads(told.splitlines()[0])["thread_id"]
    found = checkpoint(registered, session, "Count the echidna.")
    assert found["by"]["client"] == "codex"
    assert turn.closing in found["body"]


def test_a_new_session_takes_up_with_resume_what_another_one_left(
    registered: Person, left: dict[str, Any], models: FakeModels, fake_models_module: Any
) -> None:
    assert left["state"] == "offered"
    hooks(registered, "claude-code")
    turn = say(fake_models_module, "I go on.")
    registered.claude(models, "/mcp__alg__resume", turn, wait=True)
    (taken,) = (handoff for handoff in checkpoints(registered).values() if handoff["state"] == "claimed")
    assert f"Handoff {taken['id']} is yours" in turn.told
    assert taken["objective"] in turn.told
