"""The key of a home's marks: made once, for this user alone, and what comes of one that is lost or damaged."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import MARK_KEY_BYTES, Home
from adaptive_llm_gateway.server._mark_key import look_at_mark_key, mark_key

TOKEN = "ghp_" + "x8Kd02LmQz71RtVb64" + "NcYw93HsPfJe5UaTgi"
MARK = re.compile(r"\[redacted:github-token#([0-9a-f]{4})\]")
MAKE = """
import os, sys
from pathlib import Path
from adaptive_llm_gateway.server._mark_key import mark_key
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
made = mark_key(Path(sys.argv[1]))
print(made.value.hex(), made.notice)
"""


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    home = Home(tmp_path / "home")
    home.root.mkdir(mode=0o700)
    return home.mark_key


def test_a_key_is_made_once_for_this_user_alone_whatever_the_umask_is(path: Path) -> None:
    before = os.umask(0)
    try:
        made = mark_key(path)
    finally:
        os.umask(before)
    assert made.notice is None
    assert made.value == path.read_bytes()
    assert len(made.value or b"") == MARK_KEY_BYTES
    assert mode_of(path) == 0o600
    assert mark_key(path) == made
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]


def test_two_homes_have_two_keys(tmp_path: Path) -> None:
    assert mark_key(tmp_path / "one.key").value != mark_key(tmp_path / "two.key").value


@pytest.mark.parametrize("before", ["none", "damaged"])
def test_processes_that_make_it_at_once_have_the_same_key(path: Path, before: str) -> None:
    if before == "damaged":
        path.write_bytes(b"short")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for _ in range(8)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60)[0].split()[0] for process in processes]
    assert set(told) == {path.read_bytes().hex()}
    assert mode_of(path) == 0o600


@pytest.mark.parametrize("point", ["key.written", "key.renamed"])
@pytest.mark.parametrize("before", [None, b"short"])
def test_killed_while_it_makes_the_key_a_process_leaves_a_home_that_can_be_used(
    path: Path, point: str, before: bytes | None
) -> None:
    if before is not None:
        path.write_bytes(before)
    killed = subprocess.run(
        [sys.executable, "-c", MAKE, str(path)],
        input="go\n",
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "ALG_FAULT": point},
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    made = mark_key(path)
    assert made.value == path.read_bytes()
    assert len(made.value or b"") == MARK_KEY_BYTES
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, f"{path.name}.lock"]


@pytest.mark.parametrize("content", [b"", b"x" * 31, bytes(range(33)), b"\0" * MARK_KEY_BYTES])
def test_a_damaged_key_is_replaced_and_that_is_told(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    made = mark_key(path)
    assert made.value == path.read_bytes() != content
    assert made.notice is not None
    assert "a secret marked before is marked otherwise now" in made.notice
    assert mark_key(path).notice is None


def test_a_key_that_others_could_read_is_closed_to_them_and_kept(path: Path) -> None:
    value = mark_key(path).value
    path.chmod(0o644)
    assert look_at_mark_key(path) == "is open to others (mode 0644)"
    again = mark_key(path)
    assert again.value == value
    assert again.notice is not None
    assert "mode 0644" in again.notice
    assert mode_of(path) == 0o600
    assert look_at_mark_key(path) is None


def test_what_is_no_file_of_ours_is_left_alone_and_marks_do_without_a_key(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(os.urandom(MARK_KEY_BYTES))
    link, folder, pipe = (tmp_path / name for name in ("link.key", "folder.key", "pipe.key"))
    link.symlink_to(elsewhere)
    folder.mkdir()
    os.mkfifo(pipe)
    for path in (link, folder, pipe):
        found = mark_key(path)
        assert found.value is None
        assert found.notice is not None
        assert path.name in found.notice
        assert look_at_mark_key(path) == "is no file"
    assert link.is_symlink()
    assert folder.is_dir()


def test_a_home_that_cannot_be_written_has_marks_without_a_key(tmp_path: Path) -> None:
    found = mark_key(tmp_path / "gone" / "redaction.key")
    assert found.value is None
    assert found.notice is not None
    assert "do not tell equal ones" in found.notice


def test_no_key_is_made_in_a_memory_repo(tmp_path: Path) -> None:
    path = tmp_path / "memory" / "home" / "redaction.key"
    path.parent.mkdir(parents=True)
    found = mark_key(path, repos=[tmp_path / "other", tmp_path / "memory"])
    assert found.value is None
    assert "memory repo" in (found.notice or "")
    assert list(path.parent.iterdir()) == []


def test_the_key_is_not_in_what_is_shown_of_it(path: Path) -> None:
    found = mark_key(path)
    assert found.value is not None
    assert repr(found.value)[2:-1] not in repr(found)
    assert found.value.hex() not in repr(found)


def marks_in_home(server: Any) -> set[str]:
    return {mark for file in server.files() for mark in MARK.findall(file.read_text(encoding="utf-8"))}


def test_one_secret_has_one_mark_in_all_that_a_home_writes_also_after_a_restart(server: Any) -> None:
    client = server.client()
    told = client.call("memory_write", title="Notes", body=f"first\nthe token {TOKEN}\n", redact=True)
    (mark,) = set(MARK.findall(told))
    assert "1 secret was redacted; equal marks stand for equal secrets: github-token in body, line 2: " in told
    client.call("memory_append_session", text=f"used {TOKEN}", redact=True)
    client.call("handoff_create", objective=f"Rotate {TOKEN}", state=f"{TOKEN} works", redact=True)
    server.settled()
    server.alg("hub", "stop")
    done = server.json("memory", "write", f"again {TOKEN}", "--redact")
    assert done["redacted"] == [
        {"where": "body", "line": 1, "kind": "github-token", "mark": f"[redacted:github-token#{mark}]"}
    ]
    server.settled()
    assert marks_in_home(server) == {mark}
    assert len([file for file in server.files() if mark in file.read_text(encoding="utf-8")]) >= 4


def test_the_key_is_in_no_file_of_the_home_but_its_own(server: Any) -> None:
    client = server.client()
    client.call("memory_write", title="Notes", body=f"the token {TOKEN}", redact=True)
    server.settled()
    server.alg("hub", "stop")
    own = Home(server.home).mark_key
    key = own.read_bytes()
    assert mode_of(own) == 0o600
    forms = (key, key.hex().encode(), repr(key)[2:-1].encode())
    for file in server.home.rglob("*"):
        if file.is_file() and not file.is_symlink() and file != own:
            data = file.read_bytes()
            assert not any(form in data for form in forms), file
    assert own.name not in server.git("ls-files")


def test_a_key_that_cannot_be_used_fails_no_write_and_is_told(server: Any) -> None:
    server.home.mkdir(mode=0o700, exist_ok=True)
    Home(server.home).mark_key.mkdir()
    told = server.client().call("memory_write", title="Notes", body=f"the token {TOKEN}", redact=True)
    assert "[redacted:github-token]" in told
    assert any("redaction.key" in notice for notice in server.json("memory", "status")["notices"])
    checks = json.loads(server.alg("doctor", "--json", check=False).stdout)["checks"]
    (check,) = [check for check in checks if check["name"] == "marks"]
    assert check["state"] == "warn"
    assert "is no file" in check["message"]


def test_the_answer_to_a_redacting_write_lists_kinds_places_and_marks(server: Any) -> None:
    password = "Kd02" + "!mQz71"
    client = server.client()
    body = f"first\nthe token {TOKEN}\npassword: {password}\nagain {TOKEN}\n"
    arguments = {"title": f"About {TOKEN}", "body": body, "reason": "kept", "redact": True}
    answer = client.answer(client.start_call("memory_write", **arguments))["result"]
    told = json.dumps(answer)
    assert "4 secrets were redacted" in told
    for place in ("github-token in title, line 1", "github-token in body, line 2", "password in body, line 3"):
        assert place in told
    assert len(set(MARK.findall(told))) == 1
    assert not any(shown in told for shown in (TOKEN[:4], TOKEN[-4:], password[:2] + "…", "fingerprint", "preview"))
    assert "redacted" not in client.call("memory_write", title="Plain", body="nothing to hide", redact=True)
    done = server.alg("memory", "write", f"with {TOKEN}", "--title", "Shell", "--redact")
    assert "note: 1 secret was redacted" in done.stderr
    assert "github-token in body, line 1: [redacted:github-token#" in done.stderr
