"""Credentials that somebody commits past the hook, or that a remote sends: none goes out, and none comes in."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from canary_made import FORMATS, Planter, every_byte
from test_canary_by_hand import by_hand, memory, names_by_hand, put

CONFIG = "hub: {{log_level: debug}}\nsync: {{remote: '{remote}', push_after_write: false}}\n"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bare repository; temporary files lie where they are found."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True)
    return path


def git(folder: Path, *arguments: str, **options: Any) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, timeout=60, **options)


def commit_past_the_hook(repo: Path, message: str = "x", *options: str) -> None:
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "--no-verify", "--allow-empty", "-F", "-", *options, input=message.encode())


def in_a_file(data: Callable[[str], bytes]) -> Callable[[Path, str], None]:
    def commit(repo: Path, secret: str) -> None:
        (repo / "plan.txt").write_bytes(data(secret))
        commit_past_the_hook(repo)

    return commit


def in_a_name(repo: Path, secret: str) -> None:
    (repo / f"{secret}.txt").write_text("x\n", encoding="utf-8")
    commit_past_the_hook(repo)


def taken_back(repo: Path, secret: str) -> None:
    in_a_name(repo, secret)
    (repo / f"{secret}.txt").unlink()
    commit_past_the_hook(repo)


COMMITS: dict[str, Callable[[Path, str], None]] = {
    "a file": in_a_file(lambda secret: f"{secret}\n".encode()),
    "a file in UTF-16": in_a_file(lambda secret: secret.encode("utf-16")),
    "a binary file": in_a_file(lambda secret: b"\0\1\xff" + secret.encode() + b"\0"),
    "a file's name": in_a_name,
    "a name that was taken back": taken_back,
    "a message": lambda repo, secret: commit_past_the_hook(repo, f"Add it\n\n{secret}\n"),
    "an author's name": lambda repo, secret: commit_past_the_hook(repo, "x", f"--author={secret} <x@example.org>"),
    "an author's address": lambda repo, secret: commit_past_the_hook(repo, "x", f"--author=x <{secret}@example.org>"),
}


def test_nothing_that_was_committed_past_the_hook_is_pushed(server: Any, tmp_path: Path, remote: Path) -> None:
    server.configure(CONFIG.format(remote=remote))
    client = server.client()
    client.write("How to log in", body="Ask Kim.\n")
    server.settled()
    server.alg("memory", "push")
    good = server.git("rev-parse", "HEAD").strip()
    planter = Planter()
    said: list[tuple[str, bytes]] = []
    for way, commit in COMMITS.items():
        commit(server.repo, planter.plant(way))
        git(server.repo, "commit", "-q", "--allow-empty", "--no-verify", "-m", "and more")
        done = server.alg("memory", "push", check=False)
        assert done.returncode == 8, f"{way}: {done.stdout}{done.stderr}"
        said.append((f"the push with {way}", (done.stdout + done.stderr).encode()))
        answer = client.answer(client.start_call("memory_push"))["result"]
        said.append((f"memory_push with {way}", json.dumps(answer).encode()))
        git(server.repo, "reset", "-q", "--hard", good)
    said.append(("the status", json.dumps(server.json("memory", "status")).encode()))
    branch = planter.plant("a branch's name")
    git(server.repo, "checkout", "-q", "-b", branch)
    done = server.alg("memory", "push", check=False)
    assert done.returncode == 8
    said.append(("the push of a branch", (done.stdout + done.stderr).encode()))
    git(server.repo, "checkout", "-q", "main")
    git(server.repo, "branch", "-qD", branch)
    git(server.repo, "tag", planter.plant("a tag's name"))
    server.alg("memory", "push")
    server.alg("hub", "stop")

    # What a person commits past the hook is in their own git: its objects, its reflog and its index.
    own = str(server.repo)
    places = [*said, *every_byte(server.home, tmp_path / "tmp", tmp_path / "user", remote)]
    told = planter.sweep(places, but=lambda where, _: own in where)
    assert not told, "\n".join(told)


HELD_IN_GIT = (
    "objects of ",  # a fetch brings them before anybody can look, and taking them out would rewrite what others pushed
    "/.git/index",  # the names of files that HEAD has, which git's index has to know
    "/.git/alg-quarantine.json",  # the same names: by them it is known what is held back
)
"""Where in the clone what a remote sent may be, because git has it there, or to know what is held back."""


def test_what_a_remote_sends_is_in_gits_objects_and_nowhere_that_is_read(
    server: Any, tmp_path: Path, remote: Path
) -> None:
    server.configure(CONFIG.format(remote=remote))
    client = server.client()
    mine = client.write("How to log in", body="Ask Kim.\n")
    server.settled()
    server.alg("memory", "push")
    hostile = tmp_path / "hostile"
    git(tmp_path, "clone", "-q", str(remote), str(hostile))
    planter = Planter()
    files = by_hand(planter) | names_by_hand(planter)
    put(hostile, files)
    (known,) = [path for path in hostile.rglob("*.md") if mine in path.read_text(encoding="utf-8", errors="replace")]
    known.write_text(known.read_text(encoding="utf-8") + planter.plant("a change of a memory"), encoding="utf-8")
    author = f"--author={planter.plant('the author of what comes')} <x@example.org>"
    commit_past_the_hook(hostile, f"Add\n\n{planter.plant('the message of what comes')}\n", author)
    good = hostile / "notes" / "good.md"
    good.write_text(memory(4000, title="Good news", body="Nothing in it.\n"), encoding="utf-8")
    commit_past_the_hook(hostile, "Good")
    git(hostile, "branch", planter.plant("a branch that comes"))
    git(hostile, "tag", planter.plant("a tag that comes"))
    git(hostile, "push", "-q", "--all", "origin")
    git(hostile, "push", "-q", "--tags", "origin")

    said: list[tuple[str, bytes]] = []
    for words in (
        ("memory", "pull"),
        ("memory", "pull", "--json"),
        ("memory", "status"),
        ("memory", "status", "--json"),
        ("memory", "quarantine"),
        ("memory", "quarantine", "--json"),
        ("memory", "list"),
        ("memory", "search", "kept here", "--json"),
        ("memory", "history", mine),
        ("memory", "read", mine),
        ("doctor",),
    ):
        done = server.alg(*words, check=False)
        said.append((" ".join(words), (done.stdout + done.stderr).encode()))
    for tool, arguments in (
        ("memory_pull", {}),
        ("memory_status", {}),
        ("memory_search", {"query": "what is kept here?"}),
        ("memory_context", {"query": "what is kept here?"}),
        ("memory_history", {"id": mine}),
        ("memory_read", {"id": mine}),
        ("memory_read", {"id": mine, "at": "origin/main"}),
        ("memory_search", {"query": "kept", "as_of": "origin/main"}),
    ):
        said.append((f"{tool} {arguments}", json.dumps(client.answer(client.start_call(tool, **arguments))).encode()))
    held = server.json("memory", "quarantine")["held"]
    assert len(held) > len(FORMATS)
    assert "Good news" in client.call("memory_search", query="good news")
    assert "Ask Kim" in client.call("memory_read", id=mine)
    server.alg("hub", "stop")
    own = str(server.repo)
    places = [*said, *every_byte(server.home, tmp_path / "tmp", tmp_path / "user")]
    told = planter.sweep(places, but=lambda where, _: own in where and any(part in where for part in HELD_IN_GIT))
    assert not told, "\n".join(told)


@pytest.mark.parametrize("point", ["sync.fetched", "sync.objects_written", "sync.tree_updated"])
def test_a_pull_that_is_killed_leaves_what_a_remote_sent_in_git_alone(
    server: Any, tmp_path: Path, remote: Path, point: str
) -> None:
    server.configure(CONFIG.format(remote=remote))
    server.client().write("How to log in", body="Ask Kim.\n")
    server.settled()
    server.alg("memory", "push")
    server.alg("hub", "stop")
    hostile = tmp_path / "hostile"
    git(tmp_path, "clone", "-q", str(remote), str(hostile))
    planter = Planter()
    put(hostile, by_hand(planter) | names_by_hand(planter))
    commit_past_the_hook(hostile, f"Add\n\n{planter.plant('the message of what comes')}\n")
    git(hostile, "push", "-q", "origin", "main")

    own = str(server.repo)
    done = server.alg("memory", "pull", check=False, env={**os.environ, "ALG_FAULT": point})
    assert done.returncode != 0
    assert server.hub_pid() is None
    said = [("the pull", (done.stdout + done.stderr).encode())]
    at_once = list(every_byte(server.home, tmp_path / "tmp"))
    done = server.alg("memory", "pull")
    said.append(("the next pull", (done.stdout + done.stderr).encode()))
    assert len(server.json("memory", "quarantine")["held"]) > len(FORMATS)
    server.alg("hub", "stop")
    # The same names, and no content, for as long as a pull is under way.
    at_once = [each for each in at_once if not each[0].endswith("/.git/alg-sync-journal.json")]
    places = [*said, *at_once, *every_byte(server.home, tmp_path / "tmp", tmp_path / "user")]
    told = planter.sweep(places, but=lambda where, _: own in where and any(part in where for part in HELD_IN_GIT))
    assert not told, "\n".join(told)
