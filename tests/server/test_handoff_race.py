"""Clients of two hubs, on two clones of one remote, that claim the same handoffs while hubs are killed.

The race and its judge are those of `benchmarks/handoffs/`, which runs larger ones.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent.parent / "benchmarks" / "handoffs"
ALG = Path(sys.executable).with_name("alg")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(FOLDER.parent), *sys.path])


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_of_clients_racing_through_two_hubs_one_holds_each_handoff_also_when_hubs_are_killed(tmp_path: Path) -> None:
    races = module("_race")
    outcome = races.run(races.Race(clients=6, handoffs=12, kills=2, seed=6), tmp_path, ALG, os.environ)
    assert outcome.violations == ()
    assert sorted(outcome.killed) == [0, 1]
    winners = {one.handoff: one for one in outcome.told if one.answer == "yours"}
    assert len(winners) == 12
    assert {one.hub for one in outcome.told} == {0, 1}


def test_whose_hub_dies_before_it_hears_that_the_remote_took_a_claim_finds_itself_the_holder(
    server: Any, tmp_path: Path
) -> None:
    remote, pid = tmp_path / "remote.git", tmp_path / "pid"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(remote)], check=True, timeout=60)
    server.configure(f"sync:\n  remote: {remote}\nhub:\n  idle_minutes: 2\n")
    client = server.client("claude-code")
    id_ = server.id_of(client.call("handoff_create", objective="Move the tests to pytest"))
    client.call("memory_push")
    hook = remote / "hooks" / "post-receive"  # runs once the branch has moved, and before the push is answered
    hook.write_text(f'#!/bin/sh\n[ -f "{pid}" ] && kill -9 "$(cat "{pid}")" && rm "{pid}"\n', encoding="utf-8")
    hook.chmod(0o755)
    pid.write_text(str(server.hub_pid()), encoding="utf-8")
    assert "The hub stopped while this call was running" in client.refused("handoff_claim", id=id_)
    assert not pid.exists()
    assert "is yours" in client.call("handoff_claim", id=id_)
    found = server.json("handoff", "show", id_)
    assert found["holder"]["client"] == "claude-code"
    assert [step["event"] for step in found["steps"]].count("claim") == 1


def test_the_judge_of_a_race_sees_two_holders_none_and_answers_that_were_wrong(tmp_path: Path) -> None:
    races, verdict = module("_race"), module("_verdict")
    outcome = races.run(races.Race(clients=2, handoffs=3, kills=0, seed=1), tmp_path, ALG, os.environ)
    assert outcome.violations == ()
    repos, remote = [tmp_path / f"home{place}" / "memory" for place in range(2)], tmp_path / "remote.git"
    ids = sorted({one.handoff for one in outcome.told})

    def judged(told: tuple[Any, ...] = outcome.told) -> str:
        return "\n".join(verdict.violations(repos, remote, ids, told, os.environ))

    def git(repo: Path, *arguments: str) -> None:
        command = ["git", "-C", str(repo), "-c", f"core.hooksPath={os.devnull}", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    # What was told.
    yours = next(one for one in outcome.told if one.answer == "yours")
    taken = next(one for one in outcome.told if one.answer == "taken")
    assert "its own" in judged((*outcome.told, replace(taken, answer="yours")))
    assert "was told otherwise" in judged((*outcome.told, replace(yours, answer="taken", text=taken.text)))
    assert "another holder" in judged((*outcome.told, replace(taken, text="handoff is taken: somebody holds it")))
    assert "never got an answer" in judged((*outcome.told, replace(taken, answer="lost")))
    silent = tuple(one for one in outcome.told if one is not yours)
    assert f"nobody was told to hold handoff {yours.handoff}" in judged(silent)

    # What the files say.
    claim = next(path for path in sorted((repos[0] / "handoffs").rglob("*-claim-*.md")))
    text = claim.read_text("utf-8")
    assert Counter(text.splitlines())["event: claim"] == 1
    second = re.sub(r"(?m)^(id: [0-9A-Z]{18})[0-9A-Z]{8}$", r"\g<1>ZZZZZZZZ", text)
    claim.with_name("0001-claim-zzzzzzzz.md").write_text(second, encoding="utf-8")
    assert "git status" in judged()
    git(repos[0], "add", "--all")
    git(repos[0], "commit", "--quiet", "--message", "A second claim of the same term")
    found = judged()
    assert "2 different trees" in found
    assert "has 2 claims" in found
    assert "folds otherwise" in found
    git(repos[0], "reset", "--hard", "--quiet", "HEAD~1")
    assert judged() == ""

    git(repos[0], "rm", "--quiet", str(claim))
    git(repos[0], "commit", "--quiet", "--message", "The claim is gone")
    git(repos[0], "push", "--quiet", "origin", "HEAD")
    git(repos[1], "pull", "--quiet", "--ff-only", "origin", "HEAD")
    assert re.search(r"clone 1: handoff \w+ is offered and held by None", judged())
    assert "has 0 claims" in judged()

    stored = next(
        path for path in sorted((repos[1] / ".git" / "objects").rglob("*")) if re.fullmatch("[0-9a-f]{38}", path.name)
    )
    stored.chmod(0o644)
    stored.write_bytes(b"no object")
    assert "git fsck" in judged()
