"""Handoffs through real clients of real hubs: one home, and two homes that share a bare git remote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TOKEN = "ghp_" + "x7Kq2Lm9Pz4Rt6Wv8Yb1Nc3Df5Gh0Js2Ka4Q"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    return path


Homes = Callable[[str], None]


@pytest.fixture
def homes(server: Any, tmp_path: Path, bare: Path) -> Homes:
    """Turns the fixture `server` to another home of the same remote, each with a hub of its own."""

    def turn(name: str) -> None:
        home = tmp_path / name
        server.home, server.repo = home, home / "memory"
        if not home.exists():
            home.mkdir(mode=0o700)
            (home / "config.yaml").write_text(f"sync:\n  remote: {bare}\nhub:\n  idle_minutes: 2\n", encoding="utf-8")

    return turn


def offered(client: Any, **arguments: Any) -> str:
    """Offer work; its id."""
    given = {"objective": "Move the tests to pytest", "next_action": "Convert tests/test_login.py", **arguments}
    text = client.call("handoff_create", **given)
    assert text.startswith("Offered handoff "), text
    return text.split(" id ", 1)[1].split(":", 1)[0]


def shown(server: Any, id: str) -> dict[str, Any]:
    return server.json("handoff", "show", id)


def test_what_one_client_offers_another_claims_reports_on_and_finishes(server: Any) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    decided = claude.write("pytest rather than unittest", type="decision", body="Fixtures are simpler.\n")
    id_ = offered(
        claude,
        state="Half of the files are converted.",
        open_questions=["Do we keep nose?"],
        constraints=["Python 3.11"],
        decisions=[decided],
    )
    listed = codex.call("handoff_list")
    assert id_ in listed
    assert "Move the tests to pytest" in listed
    package = codex.call("handoff_claim", id=id_)
    for part in (
        "Move the tests to pytest",
        "Convert tests/test_login.py",
        "Half of the files are converted.",
        "Do we keep nose?",
        "Python 3.11",
        "pytest rather than unittest",
    ):
        assert part in package
    assert "codex" in claude.call("handoff_list", state="claimed")
    assert "Reported on" in codex.call("handoff_update", id=id_, text="test_login.py is converted")
    assert "done by codex" in codex.call("handoff_complete", id=id_, result="All 41 files run under pytest.")
    found = shown(server, id_)
    assert found["state"] == "done"
    assert [step["event"] for step in found["steps"]] == ["claim", "progress", "done"]
    assert found["ended"]["text"].strip() == "All 41 files run under pytest."
    assert "No open handoffs" in claude.call("handoff_list")


def test_nobody_else_may_claim_report_on_or_finish_what_is_held(server: Any) -> None:
    claude, codex, cursor = server.client("claude-code"), server.client("codex"), server.client("cursor")
    id_ = offered(claude)
    codex.call("handoff_claim", id=id_)
    for tool, more in (
        ("handoff_claim", {}),
        ("handoff_update", {"text": "mine"}),
        ("handoff_complete", {"result": "mine"}),
        ("handoff_release", {"reason": "mine"}),
    ):
        assert "codex" in cursor.refused(tool, id=id_, **more)
    assert shown(server, id_)["holder"]["client"] == "codex"
    assert [step["event"] for step in shown(server, id_)["steps"]] == ["claim"]


def test_a_second_window_of_the_same_client_does_not_get_what_the_first_one_holds(server: Any) -> None:
    first, second = server.client("claude-code"), server.client("claude-code")
    id_ = offered(first)
    first.call("handoff_claim", id=id_)
    assert "claude-code" in second.refused("handoff_claim", id=id_)
    assert "claude-code" in second.refused("handoff_complete", id=id_)
    # The first is gone: its client goes on in another window.
    first.close()
    server.wait_until(lambda: server.json("hub", "status")["clients"] == 1, what="the first window's end")
    assert "is yours" in second.call("handoff_claim", id=id_)
    assert "done" in second.call("handoff_complete", id=id_)
    assert next(step["event"] for step in shown(server, id_)["steps"]) == "claim"


def test_a_claim_outlives_its_hub(server: Any) -> None:
    client = server.client("claude-code")
    id_ = offered(client)
    client.call("handoff_claim", id=id_)
    server.kill_hub()
    assert "Reported on" in client.call("handoff_update", id=id_, text="still here")
    other = server.client("claude-code")
    assert "claude-code" in other.refused("handoff_claim", id=id_)


def test_claiming_without_an_id_takes_what_is_for_this_client_first(server: Any) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    offered(claude, objective="For anybody", priority="urgent")
    theirs = offered(claude, objective="For codex", to="codex")
    other = offered(claude, objective="For cursor", to="cursor", priority="urgent")
    assert theirs in codex.call("handoff_claim")
    assert theirs in codex.call("handoff_claim")  # what it holds comes before everything else
    codex.call("handoff_complete", id=theirs)
    mine = codex.call("handoff_claim")
    assert "For anybody" in mine
    codex.call("handoff_complete", id=mine.split()[1])
    assert "open" in codex.refused("handoff_claim")
    assert "cursor" in codex.refused("handoff_claim", id=other)
    assert "is yours" in codex.call("handoff_claim", id=other, anyway=True)


def test_the_prompt_resume_claims_and_hands_over_the_package(server: Any) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    empty = codex.request("prompts/get", {"name": "resume", "arguments": {}})["result"]["messages"][0]
    assert "nothing to take up" in empty["content"]["text"]
    id_ = offered(claude, project="atlas")
    got = codex.request("prompts/get", {"name": "resume", "arguments": {"project": "atlas"}})["result"]
    text = got["messages"][0]["content"]["text"]
    assert id_ in text
    assert "Convert tests/test_login.py" in text
    assert shown(server, id_)["holder"]["client"] == "codex"
    resource = codex.request("resources/read", {"uri": f"handoff://{id_}"})["result"]["contents"][0]["text"]
    assert "claimed by codex" in resource


def test_what_is_far_too_long_is_refused_in_few_words(server: Any) -> None:
    client = server.client("claude-code")
    id_ = offered(client)
    for digits in (8, 20, 5_000):
        arguments = {"budget_tokens": "9" * digits}
        got = client.request("prompts/get", {"name": "resume", "arguments": arguments})["result"]["messages"][0]
        assert got["content"]["text"].startswith("Nothing was claimed: 'budget_tokens' ")
    assert shown(server, id_)["state"] == "offered"
    long = "x" * 1_000_000
    for tool, arguments in (
        ("handoff_create", {"objective": "Have quotes nest", "session_id": long}),
        ("handoff_create", {"objective": "Have quotes nest", "decisions": [long]}),
        ("handoff_claim", {"id": long}),
        ("memory_read", {"id": long}),
    ):
        refused = client.refused(tool, **arguments)
        assert "xxx" in refused
        assert len(refused) < 500


def test_a_session_fills_in_what_is_not_given(server: Any) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    begun = claude.call(
        "memory_append_session",
        text="Goal: the sign-in page uses LDAP rather than OAuth.\n\nDecision: we will not migrate tokens, because "
        "they expire after 30 days.",
    )
    session = begun.split("session_id ", 1)[1].split(" ", 1)[0]
    claude.call(
        "memory_append_session",
        session_id=session,
        text="Changed auth/ldap.py. Open question: which group may sign in? Next step: write tests/test_ldap.py.",
    )
    text = claude.call("handoff_create", session_id=session)
    id_ = text.split(" id ", 1)[1].split(":", 1)[0]
    package = codex.call("handoff_claim", id=id_)
    assert "LDAP" in package
    assert "tests/test_ldap.py" in package
    assert "which group may sign in" in package
    assert "tokens" in package
    found = shown(server, id_)
    assert found["session_id"] == session
    assert found["objective"].startswith("the sign-in page")
    assert found["next_action"].startswith("write tests/test_ldap.py")


@pytest.mark.parametrize("budget", [200, 400, 1_000, 2_000])
def test_the_package_of_a_claim_is_never_longer_than_its_budget(server: Any, budget: int) -> None:
    claude = server.client("claude-code")
    for number in range(8):
        claude.write(f"Converting tests, part {number}", body="pytest fixtures replace setUp. " * 40)
    id_ = offered(claude, state="\n".join(f"- file {number} is converted to pytest" for number in range(400)))
    done = server.json("handoff", "claim", id_, "--budget", str(budget))
    counted = json.loads(server.alg("tokens", "-", "--json", input=done["text"]).stdout)["tokens"]
    assert counted <= budget
    assert "Move the tests to pytest" in done["text"]
    assert done["used"] <= budget


def test_a_package_has_none_of_the_handoffs_that_are_like_it(server: Any) -> None:
    claude, codex = server.client("claude-code"), server.client("codex")
    claude.write("Fixtures of the tests", body="pytest fixtures replace setUp when the tests move to pytest.")
    for number in range(3):
        like = offered(claude, state=f"Part {number} of the tests")
        codex.call("handoff_claim", id=like)
        codex.call("handoff_update", id=like, text=f"the tests of part {number} are moved to pytest")
    package = codex.call("handoff_claim", id=offered(claude))
    assert "Fixtures of the tests" in package
    assert "Claimed by" not in package
    assert "Progress by" not in package
    assert "Part 1 of the tests" not in package


def test_a_secret_is_refused_or_replaced_and_is_in_no_file(server: Any) -> None:
    client = server.client("claude-code")
    for field in ("objective", "next_action", "state"):
        refusal = client.refused("handoff_create", **{"objective": "Deploy", field: f"use {TOKEN}"})
        assert TOKEN not in refusal
    id_ = offered(client, state=f"the token is {TOKEN}", redact=True)
    client.call("handoff_claim", id=id_)
    assert TOKEN not in client.refused("handoff_update", id=id_, text=f"used {TOKEN}")
    client.call("handoff_complete", id=id_, result=f"pushed with {TOKEN}", redact=True)
    server.settled()
    server.alg("hub", "stop")
    for path in server.files_below(server.home):
        assert TOKEN.encode() not in path.read_bytes(), path


# -- two homes and a remote ----------------------------------------------------------------------------------------


def test_work_crosses_machines_and_the_second_claim_is_told_who_was_first(server: Any, homes: Homes) -> None:
    homes("first")
    claude = server.client("claude-code")
    id_ = offered(claude)
    homes("second")
    codex = server.client("codex")
    assert id_ in codex.call("handoff_list")
    assert "is yours" in codex.call("handoff_claim", id=id_)
    homes("first")
    refusal = claude.refused("handoff_claim", id=id_)
    assert "codex" in refusal
    assert "done by codex" in codex.call("handoff_complete", id=id_, result="Converted.")
    assert "done by codex" in claude.call("handoff_list", id=id_)


def test_a_claim_that_the_remote_cannot_confirm_is_refused_unless_it_is_provisional(
    server: Any, homes: Homes, bare: Path
) -> None:
    homes("first")
    client = server.client("claude-code")
    id_ = offered(client)
    away = bare.with_name("away.git")
    bare.rename(away)
    refusal = client.refused("handoff_claim", id=id_)
    assert "provisional" in refusal
    assert shown(server, id_)["state"] == "offered"
    assert shown(server, id_)["steps"] == []
    assert "provisional" in client.call("handoff_claim", id=id_, provisional=True)
    assert shown(server, id_)["claim"]["provisional"]
    away.rename(bare)
    client.call("memory_push")
    server.wait_until(lambda: not shown(server, id_)["claim"]["provisional"], what="the claim to be confirmed")
    assert shown(server, id_)["holder"]["client"] == "claude-code"


def test_a_provisional_claim_loses_to_one_that_the_remote_took(server: Any, homes: Homes, bare: Path) -> None:
    homes("first")
    claude = server.client("claude-code")
    id_ = offered(claude)
    homes("second")
    codex = server.client("codex")
    assert id_ in codex.call("handoff_list")
    # The second machine loses sight of the remote, and begins all the same.
    config = (server.home / "config.yaml").read_text(encoding="utf-8")
    subprocess.run(["git", "-C", server.repo, "remote", "set-url", "origin", str(bare.with_name("no.git"))], check=True)
    assert "provisional" in codex.call("handoff_claim", id=id_, provisional=True)
    homes("first")
    assert "is yours" in claude.call("handoff_claim", id=id_)
    homes("second")
    assert (server.home / "config.yaml").read_text(encoding="utf-8") == config
    subprocess.run(["git", "-C", server.repo, "remote", "set-url", "origin", str(bare)], check=True)
    # The push that brings the report out brings the other claim in.
    refused = codex.refused("handoff_update", id=id_, text="half done")
    assert "claude-code" in refused
    assert "What you reported is kept" in refused
    lost = "the provisional claim of codex@"
    if lost not in refused:  # it may be found out only now
        server.wait_until(lambda: lost in codex.call("handoff_list"), what="the loss to be found out")
        assert lost in codex.refused("handoff_update", id=id_, text="more")
    assert lost not in codex.refused("handoff_update", id=id_, text="more")
    assert lost not in codex.call("handoff_create", objective="Another thing")
    assert lost not in codex.call("handoff_list")
    homes("first")
    claude.call("memory_pull")
    for name in ("first", "second"):
        homes(name)
        found = shown(server, id_)
        assert found["holder"]["client"] == "claude-code"
        assert sorted(step["standing"] for step in found["steps"] if step["event"] == "claim") == ["counts", "void"]
