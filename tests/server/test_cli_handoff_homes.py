"""`alg handoff` from end to end: real hubs in two homes that share nothing but a bare git remote."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ALG = str(Path(sys.executable).with_name("alg"))
WAIT = 60.0
TOKEN = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    return path


@pytest.fixture
def homes(server: Any, tmp_path: Path, remote: Path) -> Iterator[tuple[Any, Any]]:
    """Two homes on one remote; both hubs end with the test."""
    made = tuple(type(server)(tmp_path / name) for name in ("one", "two"))
    for each in made:
        each.configure(f"sync:\n  remote: {remote}\n")
    yield made[0], made[1]
    for each in made:
        each.close()


def failed(home: Any, *words: str, **options: Any) -> tuple[int, dict[str, Any]]:
    done = home.alg("handoff", *words, "--json", check=False, **options)
    return done.returncode, json.loads(done.stdout)["error"]


def offer(home: Any, *words: str) -> str:
    """Offer work; the handoff's id."""
    return home.json("handoff", "create", "Have quotes nest", "--no-directory", *words)["id"]


def repository(folder: Path) -> Path:
    """A repository of work with a commit and a change that is not committed."""
    folder.mkdir()
    (folder / "parser.py").write_text("quotes = 1\n", encoding="utf-8")
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "Begin"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True, timeout=WAIT)
    (folder / "parser.py").write_text("quotes = 2\n", encoding="utf-8")
    return folder


def test_work_offered_in_one_home_is_claimed_reported_on_and_completed_in_the_other(homes: tuple[Any, Any]) -> None:
    one, two = homes
    identifier = offer(
        one, "--next", "run the tests", "--state", "The lexer is done.", "--question", "Which quotes?",
        "--constraint", "no new library", "--to", "codex", "--priority", "high", "--project", "alg", "--as", "planner",
    )  # fmt: skip
    (listed,) = two.json("handoff", "list")["handoffs"]
    assert (listed["id"], listed["state"], listed["priority"], listed["to"]) == (identifier, "offered", "high", "codex")
    line = two.alg("handoff", "list")
    assert line.stdout.startswith(f"{identifier}  offered  high  for codex  ")
    assert re.match(r"1 of 1; remote: looked \d+ s ago\n", line.stderr)

    claimed = two.alg("handoff", "claim", identifier, "--anyway", "--as", "coder", "--lease", "30")
    for words in ("Have quotes nest", "run the tests", "The lexer is done.", "Which quotes?", "no new library"):
        assert words in claimed.stdout
    assert f"claimed {identifier} until " in claimed.stderr
    assert "(29 min left)" in claimed.stderr
    assert "pushed" in claimed.stderr

    code, error = failed(one, "claim", identifier, "--anyway")
    assert (code, error["code"]) == (4, "handoff_taken")
    assert "command-line" in error["message"]
    assert "claimed by command-line/coder, " in one.alg("handoff", "list").stdout
    assert failed(one, "update", identifier, "mine")[0] == 4
    assert failed(one, "complete", identifier, "mine")[0] == 4

    two.alg("handoff", "update", identifier, "half of it", "--as", "coder")
    done = two.alg("handoff", "complete", identifier, "-", "--as", "coder", input="all of it\n")
    assert done.stdout.startswith("completed Have quotes nest\n")
    assert "state    done by command-line/coder\n" in done.stdout
    assert two.json("handoff", "list")["handoffs"] == []
    assert failed(two, "claim", identifier, "--anyway")[0] == 4

    one.alg("memory", "pull")
    shown = one.alg("handoff", "show", identifier).stdout
    events = re.findall(r"^20\S+Z  (\w+) +command-line/(\w+)@", shown, re.MULTILINE)
    assert events == [("offer", "planner"), ("claim", "coder"), ("progress", "coder"), ("done", "coder")]
    assert "    half of it\n" in shown
    assert shown.endswith("    all of it\n")


def test_what_is_given_back_declined_or_withdrawn_is_said_to_be(homes: tuple[Any, Any]) -> None:
    one, two = homes
    identifier = offer(one)
    two.json("handoff", "list")
    two.alg("handoff", "claim", identifier)
    assert failed(one, "release", identifier, "--withdraw")[0] == 4
    released = two.alg("handoff", "release", identifier, "no time")
    assert released.stdout.startswith("released Have quotes nest\n")
    assert "state    offered\n" in released.stdout
    one.alg("memory", "pull")
    withdrawn = one.alg("handoff", "release", identifier, "not needed", "--withdraw")
    assert "state    withdrawn by command-line\n" in withdrawn.stdout
    made = one.json("handoff", "create", "Have quotes nest", "--as", "somebody")
    code, error = failed(one, "release", made["id"], "--withdraw")
    assert (code, error["hint"]) == (4, "`--anyway` takes it back all the same.")
    assert "withdrawn by command-line" in one.alg("handoff", "release", made["id"], "--withdraw", "--anyway").stdout
    meant = offer(one, "--to", "command-line")
    two.json("handoff", "list")
    assert "state    declined by command-line\n" in two.alg("handoff", "release", meant, "no", "--declined").stdout
    assert [each["state"] for each in two.json("handoff", "list", "--all")["handoffs"]] == [
        "withdrawn",
        "withdrawn",
        "declined",
    ]


def test_when_the_remote_is_out_of_reach_a_claim_is_refused_or_provisional(
    homes: tuple[Any, Any], remote: Path
) -> None:
    one, _ = homes
    identifier = offer(one)
    away = remote.rename(remote.with_name("away.git"))
    code, error = failed(one, "claim", identifier)
    assert code == 8
    assert "provisional" in error["hint"]
    listed = one.alg("handoff", "list")
    assert f"{identifier}  offered  " in listed.stdout
    assert "note: the remote could not be reached: " in listed.stderr
    said = one.alg("handoff", "claim", identifier, "--provisional").stderr
    assert f"claimed provisionally {identifier} until " in said
    assert "note: the remote has not confirmed it" in said
    assert "claimed provisionally by command-line, " in one.alg("handoff", "list").stdout
    away.rename(remote)
    one.alg("memory", "pull")
    one.wait_until(lambda: not one.json("handoff", "show", identifier)["claim"]["provisional"], what="its confirmation")
    shown = one.alg("handoff", "show", identifier).stdout
    assert re.search(r"  claim     command-line@\S+  until \S+Z, provisional", shown)
    assert "  confirm   command-line@" in shown


def test_a_secret_is_refused_or_replaced(homes: tuple[Any, Any]) -> None:
    one, _ = homes
    code, error = failed(one, "create", "Use it", "--state", f"the key is {TOKEN}", "--no-directory")
    assert (code, error["code"]) == (5, "secret_refused")
    assert TOKEN not in json.dumps(error)
    done = one.json("handoff", "create", "Use it", "--state", f"the key is {TOKEN}", "--no-directory", "--redact")
    assert TOKEN not in one.alg("handoff", "show", done["id"]).stdout
    one.alg("handoff", "claim", done["id"])
    assert failed(one, "update", done["id"], TOKEN)[0] == 5
    one.alg("handoff", "update", done["id"], TOKEN, "--redact")


def test_what_is_not_there_is_exit_code_3(homes: tuple[Any, Any]) -> None:
    one, _ = homes
    unknown = "01" + "Z" * 24
    assert [failed(one, *words)[0] for words in (["claim"], ["claim", unknown], ["show", unknown])] == [3, 3, 3]
    assert failed(one, "update", unknown, "x")[0] == 3


def test_the_work_goes_along_with_its_repository_and_a_patch(homes: tuple[Any, Any], tmp_path: Path) -> None:
    one, two = homes
    work = repository(tmp_path / "work")
    done = one.alg("handoff", "create", "Finish it", "--patch", cwd=work)
    assert re.search(
        r"^with a patch of \d+ bytes; `alg memory read [0-9A-Z]{26}` prints it$", done.stderr, re.MULTILINE
    )
    identifier = re.search(r"^id +(\S+)$", done.stdout, re.MULTILINE)
    assert identifier is not None
    shown = one.alg("handoff", "show", identifier[1]).stdout
    assert f"directory  {work}\n" in shown
    assert re.search(r"^branch     main at [0-9a-f]{12}$", shown, re.MULTILINE)
    assert "changed    1 not committed: M parser.py\n" in shown
    two.json("handoff", "list")
    assert "does NOT apply" in two.alg("handoff", "claim", identifier[1], cwd=work).stderr  # it has that change already
    subprocess.run(["git", "-C", str(work), "checkout", "-q", "--", "."], check=True, timeout=WAIT)
    assert ", applies" in two.alg("handoff", "claim", identifier[1], "--directory", str(work)).stderr


def test_a_watched_list_tells_of_claims_elsewhere_and_outlives_its_hub(homes: tuple[Any, Any]) -> None:
    one, two = homes
    identifier = offer(one)
    watching = subprocess.Popen(
        [ALG, "--home", str(one.home), "handoff", "list", "--watch", "--every", "0.2"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert watching.stdout is not None
    seen = b""

    def expect(words: str) -> None:
        nonlocal seen
        while words.encode() not in seen:
            assert watching.stdout is not None
            assert select.select([watching.stdout], [], [], WAIT)[0], seen
            part = os.read(watching.stdout.fileno(), 65_536)
            assert part, seen
            seen += part
        seen = seen.partition(words.encode())[2]

    try:
        expect(f"{identifier}  offered  ")
        two.json("handoff", "list")
        two.alg("handoff", "claim", identifier)
        expect(f"{identifier}  claimed by command-line, ")
        one.kill_hub()
        two.alg("handoff", "complete", identifier, "done")
        one.alg("hub", "start")
        expect(f"{identifier}  done by command-line  ")
    finally:
        watching.kill()
        watching.communicate(timeout=WAIT)


def test_a_hook_keeps_a_session_and_its_next_call_replaces_that(homes: tuple[Any, Any], tmp_path: Path) -> None:
    one, _ = homes
    work = repository(tmp_path / "work")
    transcript = tmp_path / "5f1c.jsonl"
    told = [
        {"type": "user", "sessionId": "5f1c", "cwd": str(work), "message": {"role": "user", "content": "Nest quotes"}}
    ]
    said = json.dumps({
        "session_id": "5f1c", "transcript_path": str(transcript), "cwd": str(work), "hook_event_name": "PreCompact",
    })  # fmt: skip
    one.alg("hub", "start")

    def checkpoint() -> dict[str, Any]:
        transcript.write_text("".join(json.dumps(each) + "\n" for each in told), encoding="utf-8")
        done = one.alg("handoff", "checkpoint", "--hook", input=said)
        assert done.stdout == ""
        listed: list[dict[str, Any]] = one.wait_until(
            lambda: one.json("handoff", "list", "--checkpoints")["handoffs"], what="the checkpoint"
        )
        assert len(listed) == 1
        return listed[0]

    first = checkpoint()
    assert (first["checkpoint"], first["session_id"], first["state"]) == (True, "5f1c", "offered")
    assert first["work"]["directory"] == str(work)
    told.append({**told[0], "message": {"role": "user", "content": "And then escape them"}})
    checkpoint()
    second: dict[str, Any] = one.wait_until(
        lambda: (shown := one.json("handoff", "show", first["id"]))["version"] != first["version"] and shown,
        what="the checkpoint after it",
    )
    assert "escape" in second["body"] + second["objective"]
    assert one.json("handoff", "list")["handoffs"] == []
