"""Two homes and a git remote, through the tools and the command line."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    return path


@pytest.fixture
def daemon(tmp_path: Path, bare: Path) -> Iterator[str]:
    """A `git daemon` on loopback that serves the bare repo for reading and writing."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            "git",
            "daemon",
            "--reuseaddr",
            "--listen=127.0.0.1",
            f"--port={port}",
            "--export-all",
            "--enable=receive-pack",
            f"--base-path={tmp_path}",
            str(tmp_path),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"git://127.0.0.1:{port}/{bare.name}"
    process.terminate()
    process.wait(timeout=20)


def home_with_remote(server: Any, home: Path, remote: str) -> None:
    server.home, server.repo = home, home / "memory"
    home.mkdir(mode=0o700, parents=True)
    (home / "config.yaml").write_text(
        f"sync:\n  remote: {remote}\n  push_after_write: false\n  interval_seconds: 0\n", encoding="utf-8"
    )


def test_a_write_says_pending_until_it_is_pushed_and_the_other_home_pulls_it(
    server: Any, bare: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    home_with_remote(server, first, str(bare))
    client = server.client("claude-code")
    answer = client.call("memory_write", title="Shared between machines", body="by way of git\n", reason="to share")
    written = server.id_of(answer)
    assert "not yet pushed" in answer
    assert "Pushed" in client.call("memory_push")
    assert "pushed" in client.call("memory_status")
    server.alg("hub", "stop")

    home_with_remote(server, second, str(bare))
    other = server.client("codex")
    assert "1 file changed here" in other.call("memory_pull")
    found = other.call("memory_search", query="way of git")
    assert written in found
    assert "by claude-code" in found
    assert "to share" in other.call("memory_history", id=written)


def test_both_texts_of_a_clash_are_found_and_no_marker_is_in_a_file(server: Any, daemon: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    home_with_remote(server, first, daemon)
    client = server.client("claude-code")
    written = client.write("Colour", body="The colour is not decided.\n")
    client.call("memory_push")
    server.alg("hub", "stop")
    home_with_remote(server, second, daemon)
    other = server.client("codex")
    other.call("memory_pull")
    other.call("memory_write", id=written, body="The colour is vermilion.\n")
    other.call("memory_push")
    server.alg("hub", "stop")
    server.home, server.repo = first, first / "memory"
    client.call("memory_write", id=written, body="The colour is ultramarine.\n")
    answer = client.call("memory_push")
    assert "both kept" in answer
    assert "vermilion" in client.call("memory_search", query="vermilion")
    assert "ultramarine" in client.call("memory_search", query="ultramarine")
    for path in server.files():
        text = path.read_text(encoding="utf-8")
        assert "<<<<<<<" not in text
        assert ">>>>>>>" not in text


def test_a_remote_that_is_gone_is_told_in_gits_own_words(server: Any, tmp_path: Path) -> None:
    home_with_remote(server, tmp_path / "first", str(tmp_path / "nowhere.git"))
    client = server.client(env={"ALG_MEMORY__COMMIT_WAIT_MS": "10000"})
    client.write("Kept here anyway")
    refusal = client.refused("memory_push")
    assert "nowhere.git" in refusal
    assert "failed" in client.call("memory_status")
    answer = client.call("memory_write", title="Another one")
    assert "committed" in answer
    assert "failed: remote_missing" in answer
    assert "2 ahead" in answer or "3 ahead" in answer


def test_what_is_held_back_is_told_in_every_answer_listed_and_given_up(server: Any, bare: Path, tmp_path: Path) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
    home_with_remote(server, tmp_path / "first", str(bare))
    client = server.client()
    written = client.write("Shared", body="a walrus\n")
    client.call("memory_push")
    mate = tmp_path / "mate"
    subprocess.run(["git", "clone", "-q", str(bare), str(mate)], check=True)
    (path,) = [path for path in mate.rglob("*.md") if ".git" not in path.parts]
    path.write_text(path.read_text(encoding="utf-8").replace("walrus", f"otter {token}"), encoding="utf-8")
    (mate / "notes" / "\x1b[31m.md").symlink_to("/etc/passwd")
    for arguments in (["add", "-A"], ["commit", "-qm", "careless"], ["push", "-q"]):
        subprocess.run(["git", *arguments], cwd=mate, check=True)
    shown = path.relative_to(mate).as_posix()
    assert server.json("memory", "quarantine") == {"held": [], "history": []}
    for answer in (client.call("memory_pull"), client.call("memory_push"), client.call("memory_status")):
        assert "2 files of the remote are held back" in answer
        assert shown in answer
        assert token not in answer
    assert "walrus" in client.call("memory_read", id=written)
    refusal = client.refused("memory_write", id=written, body="mine\n")
    assert "held back" in refusal
    assert "alg memory quarantine" in refusal
    listed = server.json("memory", "quarantine")
    assert {(item["path"], item["kind"], item["author"]) for item in listed["held"]} == {
        (shown, "secret", "Test Person"),
        ("notes/\ufffd[31m.md", "link", "Test Person"),
    }
    text = server.alg("memory", "quarantine").stdout
    assert shown in text
    assert token not in text
    assert "\x1b" not in text
    link, secret = sorted((item["path"] for item in listed["held"]), key=lambda item: item == shown)
    assert server.json("memory", "quarantine", "drop", link)["left"] == 1
    dropped = server.alg("memory", "quarantine", "drop", secret)
    assert dropped.stdout == f"given up: {secret}\n"
    assert f"in the remote's history, commit {listed['held'][0]['commit'][:12]}, {secret}: " in dropped.stderr
    assert "make them invalid where they give access" in dropped.stderr
    assert "held back" not in client.call("memory_push")
    assert "the remote's history has 1 secret that is in no file any more" in client.call("memory_status")
    assert "committed" in client.call("memory_write", id=written, body="mine\n")


def test_without_a_remote_push_says_so(server: Any) -> None:
    client = server.client()
    assert "no remote" in client.call("memory_write", title="Local")
    assert "no remote" in client.refused("memory_push")


def test_a_write_is_pushed_by_itself_soon_after(server: Any, bare: Path, tmp_path: Path) -> None:
    home_with_remote(server, tmp_path / "first", str(bare))
    client = server.client(env={"ALG_SYNC__PUSH_AFTER_WRITE": "true", "ALG_SYNC__PUSH_DELAY_SECONDS": "0"})
    written = client.write("Pushed without asking")

    def remote_log() -> str:
        return subprocess.run(
            ["git", "-C", str(bare), "log", "--format=%B", "main"], capture_output=True, text=True, check=False
        ).stdout

    server.wait_until(lambda: written in remote_log(), what="the push")
    server.wait_until(lambda: "sync: pushed" in client.call("memory_status"), what="the status to say so")
