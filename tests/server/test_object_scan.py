"""The hub looks through git's objects while nobody asks for anything, and tells of secrets."""

from __future__ import annotations

import json
import os
import random
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

Tools = Any  # of conftest.py
_CHANCE = random.Random(19)  # noqa: S311 - not real
TOKEN = "ghp_" + "".join(_CHANCE.choices(string.ascii_letters + string.digits, k=36))
AT_ONCE = "embedder:\n  kind: none\nsecrets:\n  idle_seconds: 0\n"


def by_hand(server: Tools) -> str:
    """A commit with a secret on a branch of its own, past the hub, its hook and git's index; its id."""

    def git(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=server.repo,
            input=stdin,
            env={**os.environ, "GIT_INDEX_FILE": str(server.home / "index-by-hand")},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout.strip()

    blob = git("hash-object", "-w", "--stdin", stdin=f"{TOKEN}\n")
    git("read-tree", "HEAD")
    git("update-index", "--add", "--cacheinfo", f"100644,{blob},notes/keys.txt")
    commit = git("commit-tree", "-p", "HEAD", "-m", "by hand", git("write-tree"))
    git("update-ref", "refs/heads/side", commit)
    return commit


def objects(server: Tools) -> Any:
    return server.json("memory", "status")["objects"]


def found(server: Tools) -> Any:
    return server.wait_until(
        lambda: next((seen for seen in objects(server) if seen["secrets"] and seen["complete"]), None),
        what="the scan to tell of it",
    )


def looking(state: Path) -> list[str]:
    """The processes that look through objects for this file."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True, timeout=30).stdout
    return [line for line in listed.splitlines() if "look-at-objects" in line and str(state) in line]


def test_status_doctor_and_log_tell_of_a_secret_in_the_objects_and_of_the_next_step(server: Tools) -> None:
    server.configure(AT_ONCE)
    server.alg("init", "--yes")
    server.alg("memory", "write", "harmless words", "--title", "Fine")
    commit = by_hand(server)
    seen = found(server)
    assert (seen["repo"], seen["secrets"], seen["unread"]) == ("personal", 1, 0)
    (finding,) = seen["findings"]
    assert (finding["kind"], finding["path"], finding["commit"]) == ("github-token", "notes/keys.txt", commit)
    told = server.alg("memory", "status").stdout
    line = next(line for line in told.splitlines() if line.startswith("git's objects"))
    assert f"in notes/keys.txt, commit {commit[:12]}; `alg secrets scan --history` shows each" in line
    assert finding["fingerprint"] in line
    check = next(check for check in server.json("doctor")["checks"] if check["name"] == "objects")
    assert check["state"] == "warn"
    assert "--history" in check["hint"]
    log = server.home / "logs" / "hub.log"
    server.wait_until(lambda: "git's objects in" in log.read_text(encoding="utf-8"), what="the line in the log")
    assert log.read_text(encoding="utf-8").count("git's objects in") == 1
    server.alg("hub", "stop")
    check = next(check for check in server.json("doctor")["checks"] if check["name"] == "objects")
    assert check["state"] == "warn"  # also without a hub
    said = told + log.read_text(encoding="utf-8") + str(seen) + server.alg("doctor").stdout
    assert TOKEN not in said
    assert TOKEN.encode() not in (server.home / "objects-seen.db").read_bytes()


def test_what_is_allowed_is_told_of_no_more(server: Tools) -> None:
    server.configure(AT_ONCE)
    server.alg("init", "--yes")
    by_hand(server)
    (finding,) = found(server)["findings"]
    allowed = f"- fingerprint: {finding['fingerprint']}\n  reason: made up for a test\n"
    (server.repo / "secrets-allowed.yaml").write_text(allowed, encoding="utf-8")
    assert [seen["secrets"] for seen in objects(server)] == [0]
    assert "git's objects" not in server.alg("memory", "status").stdout
    check = next(check for check in server.json("doctor")["checks"] if check["name"] == "objects")
    assert check["state"] == "ok"


def test_nothing_is_looked_through_where_that_is_turned_off_or_somebody_asks_again_and_again(server: Tools) -> None:
    server.configure("embedder:\n  kind: none\nsecrets:\n  idle_scan: false\n  idle_seconds: 0\n")
    server.alg("init", "--yes")
    by_hand(server)
    for _ in range(5):
        assert objects(server) == []
    server.alg("hub", "stop")
    assert not (server.home / "objects-seen.db").exists()
    server.configure("embedder:\n  kind: none\nsecrets:\n  idle_seconds: 600\n")
    for _ in range(5):
        assert objects(server) == []
    assert looking(server.home / "objects-seen.db") == []


def test_new_objects_are_looked_at_and_those_already_seen_are_not(server: Tools) -> None:
    server.configure(AT_ONCE)
    server.alg("init", "--yes")
    first = server.wait_until(lambda: next((seen for seen in objects(server) if seen["complete"]), None), what="a pass")
    by_hand(server)
    second = found(server)
    count = int(server.git("count-objects").split()[0])
    assert first["seen"] < second["seen"] <= count


def test_a_hub_that_is_killed_leaves_no_process_and_the_next_one_goes_on(server: Tools) -> None:
    server.configure(AT_ONCE)
    server.alg("init", "--yes")
    server.alg("hub", "stop")
    for number in range(1500):
        (server.repo / f"{number}.txt").write_text(f"number {number}\n" * 200, encoding="utf-8")
    server.git("add", "-A")
    server.git("-c", f"core.hooksPath={os.devnull}", "commit", "-q", "-m", "many")
    by_hand(server)
    state = server.home / "objects-seen.db"
    server.alg("hub", "start")
    server.wait_until(lambda: looking(state), what="the process that looks", wait=60)
    server.kill_hub()
    server.wait_until(lambda: not looking(state), what="its end", wait=60)
    seen = server.wait_until(
        lambda: next((seen for seen in objects(server) if seen["complete"] and seen["seen"] >= 1500), None),
        what="the end of the pass",
        wait=120,
    )
    assert seen["secrets"] == 1
    assert seen["unread"] == 0


def test_a_store_with_damage_does_not_keep_the_hub_busy(server: Tools) -> None:
    server.configure(AT_ONCE)
    server.alg("init", "--yes")
    server.alg("hub", "stop")
    (server.home / "loose.txt").write_text("some text\n", encoding="utf-8")
    blob = server.git("hash-object", "-w", str(server.home / "loose.txt")).strip()
    file = server.repo / ".git" / "objects" / blob[:2] / blob[2:]
    file.chmod(0o644)
    file.write_bytes(b"no zlib at all")
    server.alg("hub", "start")
    server.wait_until(
        lambda: any(seen["complete"] and seen["unread"] == 1 for seen in objects(server)), what="the end of a pass"
    )
    assert "1 git object in" in server.alg("memory", "status").stdout
    server.wait_until(lambda: not looking(server.home / "objects-seen.db"), what="the end of the process")
    check = next(check for check in server.json("doctor")["checks"] if check["name"] == "objects")
    assert "1 could not be" in check["message"]


def test_the_process_says_why_it_cannot_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "adaptive_llm_gateway.server", "hub", "look-at-objects"]
    done = subprocess.run(
        [*command, str(tmp_path), str(tmp_path / "state.db")],
        input="0.1\n0.1\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stdout.splitlines()
    assert "could not list every object" in json.loads(line)["error"]
