"""Bad input, bad files and bad times: a clear error, and nothing changed."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

HEAD = "---\nid: {id}\ntype: note\ntitle: {title}\ncreated: 2026-01-01T00:00:00Z\nupdated: 2026-01-01T00:00:00Z\n"


def state(server: Any) -> tuple[str, list[str], int]:
    """What must not change: HEAD, the files, and the number of memories."""
    status = server.settled()
    return server.git("rev-parse", "HEAD"), sorted(map(str, server.files())), status["memories"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"type": "bogus", "title": "x"}, ["bogus", "decision"]),
        ({"title": "x", "fields": {"colour": "red"}}, ["colour", "note"]),
        ({"type": "fact", "title": "x", "fields": {"confidence": 7}}, ["confidence", "7"]),
        ({"type": "task", "title": "x", "fields": {"status": "dunno"}}, ["status", "dunno", "in_progress"]),
        ({"title": "x", "trust": "top"}, ["trust", "confidential"]),
        ({"title": "x", "colour": "red"}, ["colour", "tags"]),
        ({"title": "x", "tags": "a"}, ["tags"]),
        ({"title": "x", "links": [{"rel": "r"}]}, ["link"]),
        ({"title": "x", "links": [{"rel": "r", "id": "../x"}]}, ["id"]),
        ({"title": "two\nlines"}, ["title", "line"]),
        ({"title": "y" * 301}, ["title", "300"]),
        ({"title": "nul\x00byte"}, ["NUL"]),
        ({"title": "x", "body": "nul\x00byte"}, ["NUL"]),
        ({}, ["title", "body"]),
        ({"id": "../../../etc/passwd", "body": "x"}, ["not a memory id"]),
        ({"id": "notes/../../x.md", "body": "x"}, ["not a memory id"]),
        ({"id": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "body": "x"}, ["no memory"]),
        ({"title": "x", "if_version": "abc"}, ["if_version"]),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_changes(
    server: Any, arguments: dict[str, Any], words: list[str]
) -> None:
    client = server.client()
    client.write("Here before")
    before = state(server)
    refusal = client.refused("memory_write", **arguments)
    for word in words:
        assert word in refusal, refusal
    assert "http" not in refusal
    assert state(server) == before


def test_half_a_surrogate_pair_is_refused_and_the_caller_is_told(server: Any) -> None:
    client = server.client()
    params = {"name": "memory_write", "arguments": {"title": "x", "body": "half \ud800 a pair"}}
    client.send_raw(json.dumps({"jsonrpc": "2.0", "id": "half", "method": "tools/call", "params": params}).encode())
    assert "Unicode" in client.answer("half")["error"]["message"]
    assert "0 memories" in client.call("memory_status")


def test_a_body_of_50_megabytes_is_refused(server: Any) -> None:
    client = server.client()
    client.write("Here before")
    before = state(server)
    assert "larger than" in client.refused("memory_write", title="Huge", body="x" * 50_000_000)
    assert state(server) == before


def test_a_secret_leaves_no_byte_anywhere(server: Any) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
    client = server.client(env={"ALG_HUB__LOG_LEVEL": "debug"})
    client.write("Here before")
    before = state(server)
    for arguments in (
        {"title": "Login", "body": f"use {token} to log in\n"},
        {"title": token},
        {"title": "x", "reason": f"because {token}"},
        {"title": "x", "tags": [token]},
        {"title": "x", "source": token},
        {"title": "x", "project": token},
        {"type": "decision", "title": "x", "fields": {"rationale": token}},
    ):
        refusal = client.refused("memory_write", **arguments)
        assert token not in refusal
        assert "secret" in refusal.lower() or "credential" in refusal.lower()
    assert token not in client.refused("memory_append_session", text=f"logged in with {token}")
    assert state(server) == before
    server.alg("hub", "stop")
    for path in server.files_below(server.home):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path
    objects = server.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)").split()
    for name in objects:
        shown = subprocess.run(["git", "-C", str(server.repo), "cat-file", "-p", name], capture_output=True, check=True)
        assert token.encode() not in shown.stdout


def test_a_redacted_secret_is_stored_as_a_placeholder(server: Any) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
    client = server.client()
    written = client.write("Login", body=f"use {token} to log in\n", redact=True)
    text = client.call("memory_read", id=written)
    assert token not in text
    assert "[redacted:" in text


def test_the_pre_commit_hook_refuses_a_secret_from_plain_git(server: Any) -> None:
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
    server.client().write("Here before")
    server.settled()
    server.alg("hub", "stop")
    (server.repo / "README.md").write_text(f"the token is {token}\n", encoding="utf-8")
    server.git("add", "README.md")
    done = subprocess.run(
        ["git", "-C", str(server.repo), "commit", "-m", "oops"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "README.md" in done.stdout + done.stderr
    assert token not in done.stdout + done.stderr
    (server.repo / "README.md").write_text("nothing to hide\n", encoding="utf-8")
    server.git("add", "README.md")
    server.git("commit", "-m", "fine")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("bomb.md", b"---\na: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n---\n", "anchors"),
        ("tags.md", b"---\ntitle: !!python/object/apply:os.system ['true']\n---\n", "tag"),
        ("latin.md", "---\ntitle: caf\u00e9\n---\n".encode("latin-1"), "UTF-8"),
        ("nul.md", b"---\ntitle: x\n---\na\x00b\n", "NUL"),
        ("open.md", b"---\ntitle: x\n", "---"),
        ("nested.md", b"---\na: " + b"[" * 5000 + b"\n---\n", "deep"),
        ("types.md", b"---\ntype: bogus\ntitle: x\n---\n", "type"),
        ("id.md", b"---\nid: ../../x\ntitle: x\n---\n", "id"),
    ],
)
def test_a_hostile_file_is_skipped_with_the_reason_and_left_as_it_is(
    server: Any, name: str, content: bytes, why: str
) -> None:
    client = server.client()
    client.write("Here before")
    server.settled()
    path = server.repo / "notes" / name
    path.write_bytes(content)
    report = server.json("memory", "reindex")
    assert [item["path"] for item in report["skipped"]] == [f"notes/{name}"]
    assert why.lower() in report["skipped"][0]["problem"].lower()
    assert path.read_bytes() == content
    assert report["indexed"] == 1
    assert "Here before" in client.call("memory_search")


def test_a_link_out_of_the_repo_is_not_followed(server: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "private.md").write_text("---\ntitle: Private\n---\nsecret plans\n", encoding="utf-8")
    client = server.client()
    client.write("Here before")
    (server.repo / "notes" / "link.md").symlink_to(outside / "private.md")
    (server.repo / "facts").symlink_to(outside)
    report = server.json("memory", "reindex")
    assert report["indexed"] == 1
    assert any("link" in item["problem"] for item in report["skipped"])
    assert [hit["title"] for hit in server.json("memory", "search", "secret plans private")["hits"]] == []
    assert "link" in client.refused("memory_write", type="fact", title="Through the link")
    assert sorted(path.name for path in outside.iterdir()) == ["private.md"]


def test_writes_are_refused_while_the_repo_is_in_a_rebase(server: Any) -> None:
    client = server.client()
    client.write("Here before")
    before = state(server)
    (server.repo / ".git" / "rebase-merge").mkdir()
    assert "rebase" in client.refused("memory_write", title="Not now")
    (server.repo / ".git" / "rebase-merge").rmdir()
    assert state(server) == before
    client.write("Now")


def test_a_damaged_index_is_rebuilt_by_itself_with_a_notice(server: Any) -> None:
    client = server.client()
    written = client.write("Survivor", body="of a damaged index\n")
    server.settled()
    server.alg("hub", "stop")
    (server.home / "index.db").write_bytes(b"SQLite format 3\x00" + os.urandom(20_000))
    for suffix in ("-wal", "-shm"):
        Path(f"{server.home / 'index.db'}{suffix}").unlink(missing_ok=True)
    status = server.settled()
    assert status["memories"] == 1
    assert any("damaged" in notice for notice in status["notices"])
    assert written in client.call("memory_search", query="damaged")


def test_a_missing_index_is_built_from_the_files(server: Any) -> None:
    client = server.client()
    written = client.write("Only in the files")
    server.settled()
    server.alg("hub", "stop")
    for path in server.home.glob("index.db*"):
        path.unlink()
    assert server.settled()["memories"] == 1
    assert written in client.call("memory_search", query="files")


def test_a_newer_index_is_refused_and_not_touched(server: Any) -> None:
    client = server.client()
    client.write("Old times")
    server.settled()
    server.alg("hub", "stop")
    with sqlite3.connect(server.home / "index.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    before = (server.home / "index.db").read_bytes()
    assert "newer" in client.refused("memory_search")
    server.alg("hub", "stop")
    assert (server.home / "index.db").read_bytes() == before


def test_a_newer_repo_format_is_refused_and_not_touched(server: Any) -> None:
    client = server.client()
    client.write("Old times")
    server.settled()
    server.alg("hub", "stop")
    (server.repo / ".alg" / "format").write_text("9999\n", encoding="utf-8")
    server.git("commit", "-aqm", "from the future", "--no-verify")
    head = server.git("rev-parse", "HEAD")
    assert "newer" in client.refused("memory_write", title="Not into the future")
    assert server.git("rev-parse", "HEAD") == head


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_named_and_nothing_is_lost(server: Any, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount a small file system")
    try:
        server.home = small / "home"
        server.repo = server.home / "memory"
        client = server.client()
        written = client.write("Fits", body="small\n")
        server.settled()
        filler = small / "filler"
        handle = os.open(filler, os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while os.write(handle, b"x" * 4096):
                pass
        os.close(handle)
        refusal = client.refused("memory_write", title="Does not fit", body="y" * 200_000)
        assert "space" in refusal
        assert "small" in client.call("memory_read", id=written)
        assert len(server.files()) == 1
        filler.unlink()
        client.write("Fits again")
        assert server.settled()["memories"] == 2
        server.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
def test_a_home_that_became_read_only_is_named_and_still_read(server: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(disk)], check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a file system")
    try:
        server.home = disk / "home"
        server.repo = server.home / "memory"
        client = server.client()
        written = client.write("Readable", body="in any case\n")
        server.settled()
        # A bind mount of itself turns read-only although files in it are open for writing.
        for options in (["--bind", str(server.repo), str(server.repo)], ["-o", "remount,ro,bind", str(server.repo)]):
            subprocess.run(["mount", *options], check=True)
        refusal = client.refused("memory_write", title="Not now")
        assert "not allowed" in refusal.lower() or "read-only" in refusal.lower()
        assert "in any case" in client.call("memory_read", id=written)
        assert written in client.call("memory_search", query="readable")
        subprocess.run(["umount", "-l", str(server.repo)], check=True)
        client.write("Writable again")
        assert server.settled()["memories"] == 2
        server.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_home_that_cannot_be_written_is_named(server: Any) -> None:
    server.home.parent.mkdir(exist_ok=True)
    server.home.write_text("a file where the home should be", encoding="utf-8")
    client = server.raw_client()
    answer = client.request("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}})
    assert str(server.home) in answer["error"]["message"]
    server.home.unlink()


def test_edits_by_hand_are_taken_in_and_committed(server: Any) -> None:
    client = server.client()
    written = client.write("Edited by hand", body="old words\n")
    server.settled()
    (path,) = server.files()
    path.write_text(path.read_text("utf-8").replace("old words", "entirely new words"), encoding="utf-8")
    server.wait_until(lambda: written in client.call("memory_search", query="entirely"), what="the watcher")
    server.settled()
    assert "editor" in client.call("memory_history", id=written)
    (server.repo / "notes" / "new.md").write_text("# Made in an editor\n\nplain text\n", encoding="utf-8")
    server.wait_until(lambda: "Made in an editor" in client.call("memory_search", query="plain"), what="the watcher")
    server.settled()
    assert "plain text" in server.git("show", "HEAD:notes/new.md")
    path.unlink()
    server.wait_until(lambda: written not in client.call("memory_search", query="entirely"), what="the watcher")


def test_an_edit_by_hand_is_not_overwritten_without_a_version_of_its_own(server: Any) -> None:
    client = server.client(env={"ALG_MEMORY__WATCH": "off"})
    written = client.write("Both", body="first\n")
    server.settled()
    (path,) = server.files()
    path.write_text(path.read_text("utf-8").replace("first", "by hand"), encoding="utf-8")
    client.call("memory_write", id=written, body="by the agent\n")
    server.settled()
    log = server.git("log", "-p", "--", str(path.relative_to(server.repo)))
    assert "+by hand" in log
    assert "+by the agent" in log


def test_a_type_of_the_users_own_is_used_without_a_restart(server: Any) -> None:
    client = server.client()
    client.write("Here before")
    folder = server.repo / "types"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(
        "name: recipe\ndescription: something to cook\n"
        "schema:\n  type: object\n  properties:\n    serves: {type: integer, minimum: 1}\n",
        encoding="utf-8",
    )
    server.wait_until(lambda: "recipe" in client.call("memory_status"), what="the new type")
    client.write("Soup", type="recipe", fields={"serves": 4})
    assert "serves" in client.refused("memory_write", type="recipe", title="Air", fields={"serves": 0})
    assert "Soup" in client.call("memory_search", type="recipe")


def test_files_that_vanish_all_at_once_are_not_taken_for_deletions(server: Any) -> None:
    client = server.client(env={"ALG_MEMORY__WATCH": "off"})
    for number in range(25):
        client.write(f"Number {number}")
    server.settled()
    server.alg("hub", "stop")
    head = server.git("rev-parse", "HEAD")
    for path in server.files():
        path.unlink()
    status = server.settled()
    assert server.git("rev-parse", "HEAD") == head
    assert any("gone at once" in notice for notice in status["notices"])
    server.git("restore", ".")
    server.alg("hub", "stop")
    assert server.settled()["memories"] == 25
