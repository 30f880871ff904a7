"""What an error says over REST that its reader does next: routes, and nothing that only others have."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rest_made import rest_server

from adaptive_llm_gateway.core import AlgError, InvalidInput, StorageError, SyncError, Unavailable
from adaptive_llm_gateway.server._access import ROUTE_SCOPES, TOOL_SCOPES, Access
from adaptive_llm_gateway.server._rest_hints import ROUTE_OF_COMMAND, ROUTE_OF_TOOL, THEIRS, hint_for
from adaptive_llm_gateway.server._rest_problems import problem_of

ROOT = Path(__file__).parents[2]
FILES_OF_THE_MACHINE = {"memory_summarize_path"}
OTHERS = re.compile(rf"\balg [a-z]+|\bALG_|config\.yaml|(?<!\w)--[a-z]|\b(?:{'|'.join(TOOL_SCOPES)})\b")


def texts() -> Iterator[tuple[str, str]]:
    """Every text of the sources but docstrings and the command line, with an X for what is put into it."""
    for component in ("core", "memory", "compression", "handoff", "gateway", "server"):
        for path in sorted((ROOT / component).rglob("*.py")):
            if path.name.startswith("_cli"):
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                if isinstance(node, ast.JoinedStr):
                    yield path.name, "".join(str(getattr(part, "value", "X")) if isinstance(part, ast.Constant) else "X"
                                             for part in node.values)  # fmt: skip
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
                    yield path.name, node.value


def told(error: AlgError) -> dict[str, str]:
    return json.loads(bytes(problem_of(error).body))


def test_whatever_tool_or_command_a_text_names_no_hint_over_rest_names_one() -> None:
    named = 0
    for where, text in texts():
        if OTHERS.search(text):
            named += 1
            hint = hint_for("invalid_input", text) or ""
            assert not OTHERS.search(hint), (where, text, hint)
    assert named > 100


def test_each_tool_and_command_leads_to_a_route_that_there_is() -> None:
    assert {*ROUTE_OF_TOOL} == {*TOOL_SCOPES} - FILES_OF_THE_MACHINE
    for method, path in (*ROUTE_OF_TOOL.values(), *ROUTE_OF_COMMAND.values()):
        assert (method, f"/api/v1{path}") in ROUTE_SCOPES


@pytest.mark.parametrize(
    ("hint", "says"),
    [
        (
            "Find it with memory_search; if it was deleted, `alg memory restore` brings it.",
            "Find it with `GET /api/v1/search`; if it was deleted, `POST /api/v1/memories/{id}/restore` brings it.",
        ),
        (
            "Why each was tried: the receipt. gateway_health, `alg gateway health`, tells how the providers are.",
            "Why each was tried: the receipt. `GET /api/v1/gateway/health` tells how the providers are.",
        ),
        (
            "Search a later time, or memory_read(id, at=...).",
            "Search a later time, or `GET /api/v1/memories/{id}?at=...`.",
        ),
        ("Types: note. Declare others in `types/<name>.yaml` of the memory repo.", "Types: note."),
        ("Try again; `alg doctor` looks too.", "Try again."),
        ("The index can be rebuilt with `alg memory reindex`.", THEIRS),
        ("Name another in `index.schema_name`; it is created when there is none.", THEIRS),
        ("Give `at` to go back to an earlier version.", "Give `at` to go back to an earlier version."),
        ("", None),
        (None, None),
    ],
)
def test_a_hint_says_what_a_program_elsewhere_does_next(hint: str | None, says: str | None) -> None:
    assert hint_for("invalid_input", hint) == says


def test_what_only_whoever_runs_the_hub_can_mend_is_said_to_be_theirs() -> None:
    for error in (StorageError("x", hint="Make it writable for this user."), AlgError("x"), AlgError("x", hint="y")):
        assert told(error)["hint"] == THEIRS
    assert "`GET /api/v1/sync`" in told(SyncError("x", hint="Switch to a branch with git."))["hint"]


def test_a_problem_names_no_place_of_the_hubs_machine() -> None:
    place = "/home/somebody/.local/share/memory/index.db"
    answer = told(StorageError(f"{place!r} cannot be read", path=place))
    assert (answer["detail"], answer["details"]) == ("'index.db' cannot be read", {"path": "index.db"})
    assert told(InvalidInput("'notes/a.md' is no note", path="notes/a.md"))["detail"] == "'notes/a.md' is no note"
    assert told(SyncError(f"the repo at {place!r} has no remote"))["detail"] == "the repo at 'index.db' has no remote"
    assert told(InvalidInput("'/etc/passwd' is no id"))["detail"] == "'/etc/passwd' is no id"  # what they gave


def test_a_claim_says_with_which_routes_it_goes_on_and_leaves_what_others_wrote(tmp_path: Path) -> None:
    theirs = "Begin with handoff_update, then run `alg memory status`."
    with rest_server(tmp_path) as rest:
        client = rest.client()
        made = client.post("/handoffs", json={"objective": "The importer takes CSV", "state": theirs}).json()
        text = client.post(f"/handoffs/{made['id']}/claim", json={}).json()["text"]
    first, _, others = text.partition("\n")
    assert not OTHERS.search(first), first
    for step in ("update", "complete", "release"):
        assert f"`POST /api/v1/handoffs/{{id}}/{step}`" in first
    assert theirs in others


@pytest.mark.parametrize(
    ("wait", "header"),
    [(0.2, "1"), (7.1, "8"), (30, "30"), (-3, "1"), (1e300, "86400"), (float("nan"), "2"), ("soon", "2"), (None, "2")],
)
def test_when_to_ask_again_is_told_in_whole_seconds(wait: Any, header: str) -> None:
    for name in ("retry_after", "retry_in"):
        assert problem_of(Unavailable("x", **{name: wait})).headers["retry-after"] == header


def test_the_hints_of_real_refusals_lead_on(tmp_path: Path) -> None:
    with rest_server(tmp_path) as rest:
        rest.callers["reader"] = Access(client="reader", scopes=frozenset({"memory:read"}))
        client, reader = rest.client(), rest.client("reader")
        id = client.post("/memories", json={"title": "x"}).json()["id"]
        client.delete(f"/memories/{id}")
        hints = [
            client.get(f"/memories/{id}").json()["hint"],
            client.patch("/memories/01JC4Q8M3V9Z2K7W5T1R6XHB0D", json={"title": "y"}).json()["hint"],
            client.get("/receipts/01JC4Q8M3V9Z2K7W5T1R6XHB0D").json()["hint"],
            client.post("/sessions/01JC4Q8M3V9Z2K7W5T1R6XHB0D/entries", json={"text": "x"}).json()["hint"],
            reader.post("/memories", json={"title": "x"}).json()["hint"],
            client.post("/gateway/complete", json={"prompt": "x", "model": "nobody/has-it"}).json()["hint"],
        ]
    for hint in hints:
        assert not OTHERS.search(hint), hint
    assert "POST /api/v1/memories/{id}/restore" in hints[0]
    assert "GET /api/v1/receipts" in hints[2]
