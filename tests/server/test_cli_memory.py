"""`alg memory` through real hubs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ALG = str(Path(sys.executable).with_name("alg"))
MEMORY = str(Path(sys.executable).with_name("memory"))
TOKEN = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"


def failed(server: Any, *arguments: str, **options: Any) -> tuple[int, dict[str, Any]]:
    done = server.alg(*arguments, "--json", check=False, **options)
    return done.returncode, json.loads(done.stdout)["error"]


def editor(tmp_path: Path, script: str) -> dict[str, str]:
    program = tmp_path / "editor"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return {**os.environ, "VISUAL": f"'{program}' --wait"}


def test_what_is_written_is_found_read_listed_changed_deleted_and_restored(server: Any) -> None:
    done = server.json(
        "memory", "write", "The index uses APSW.", "--title", "Use APSW", "--type", "decision", "--tag", "index",
        "--tag", "db", "--project", "alg", "--trust", "confidential", "--field", "status=proposed",
        "--reason", "extensions load",
    )  # fmt: skip
    identifier = done["id"]
    (hit,) = server.json("memory", "search", "apsw index")["hits"]
    assert (hit["id"], hit["tags"], hit["fields"]["status"]) == (identifier, ["index", "db"], "proposed")
    assert server.json("memory", "search", "apsw", "--max-trust", "internal")["hits"] == []
    assert server.json("memory", "list", "--field", "status=accepted")["total"] == 0
    assert "The index uses APSW." in server.alg("memory", "read", identifier).stdout
    second = server.json(
        "memory", "write", "--id", identifier, "--field", "status=accepted", "--field", 'alternatives:=["sqlite3"]',
        "--if-version", done["version"],
    )  # fmt: skip
    assert (second["operation"], second["title"]) == ("update", "Use APSW")
    assert "The index uses APSW." in server.alg("memory", "read", identifier).stdout
    assert "proposed" in server.alg("memory", "read", identifier, "--at", done["version"]).stdout
    history = server.json("memory", "history", identifier)["revisions"]
    assert [revision["version"] for revision in history] == [second["version"], done["version"]]
    assert history[-1]["reasons"] == ["extensions load"]
    server.alg("memory", "delete", identifier, "--reason", "wrong")
    assert server.json("memory", "list")["total"] == 0
    (gone,) = server.json("memory", "list", "--deleted")["memories"]
    assert (gone["id"], gone["reason"]) == (identifier, "wrong")
    server.alg("memory", "restore", identifier)
    assert server.json("memory", "list", "--type", "decision", "--since", "1d")["total"] == 1


def test_the_status_of_tool_and_command_tells_of_memories_that_clash(server: Any) -> None:
    one = server.json("memory", "write", "The limit is 10.", "--title", "Limit")["id"]
    assert server.json("memory", "status")["clashes"] == {"count": 0, "pairs": []}
    two = server.json("memory", "write", "It is 20.", "--title", "Limits", "--link", f"conflicts_with:{one}")["id"]
    assert server.json("memory", "status")["clashes"] == {"count": 1, "pairs": [sorted([one, two])]}
    for told in (server.alg("memory", "status").stdout, server.client().call("memory_status")):
        assert "1 pair of memories whose texts clash" in told
        assert " and ".join(sorted([one, two])) in told
        assert "Next: read both" in told
    server.alg("memory", "delete", one)
    assert server.json("memory", "status")["clashes"]["count"] == 0


def test_people_get_the_id_first_on_stdout_and_the_counts_on_stderr(server: Any) -> None:
    identifier = server.json("memory", "write", "b", "--title", "Tea", "--tag", "x", "--reason", "why not")["id"]
    found = server.alg("memory", "search", "tea")
    assert found.stdout.startswith(f"{identifier}  note  ")
    assert "because: why not" in found.stdout
    assert found.stderr.startswith("1 memory (")
    listed = server.alg("memory", "list")
    assert listed.stdout.splitlines() == [found.stdout.splitlines()[0]]
    assert listed.stderr == "1 of 1\n"
    written = server.alg("memory", "write", "c", "--id", identifier)
    assert written.stdout.startswith("updated note Tea\nid       ")
    assert "no remote" in written.stdout
    assert "\x1b" not in found.stdout + listed.stdout + written.stdout


def test_a_list_goes_on_where_it_ended(server: Any) -> None:
    for number in range(3):
        server.alg("memory", "write", f"body {number}", "--title", f"Title {number}")
    first = server.json("memory", "list", "--limit", "2", "--order", "title")
    rest = server.json("memory", "list", "--limit", "2", "--order", "title", "--cursor", first["next_cursor"])
    assert [row["title"] for row in first["memories"] + rest["memories"]] == ["Title 0", "Title 1", "Title 2"]
    assert f"--cursor {first['next_cursor']}" in server.alg(
        "memory", "list", "--limit", "2", "--order", "title"
    ).stderr.replace("'", "")


def test_memory_is_short_for_alg_memory(server: Any) -> None:
    server.alg("memory", "write", "x", "--title", "Short")
    done = subprocess.run([MEMORY, "list"], capture_output=True, text=True, timeout=60, check=True)
    assert "Short" in done.stdout


def test_a_body_comes_from_stdin_or_a_file_as_it_is(server: Any, tmp_path: Path) -> None:
    text = "line one\r\n\r\n  ünïcödé — \u2028 end"
    done = subprocess.run(
        [ALG, "memory", "write", "-", "--title", "stdin", "--json"],
        input=text.encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert server.json("memory", "read", json.loads(done.stdout)["id"])["body"] == text
    file = tmp_path / "body.md"
    file.write_bytes(text.encode())
    identifier = server.json("memory", "write", "--title", "file", "--file", str(file))["id"]
    assert server.json("memory", "read", identifier)["body"] == text


def test_bad_input_is_told_apart_by_code_and_exit_code_and_changes_nothing(server: Any, tmp_path: Path) -> None:
    latin = tmp_path / "latin"
    latin.write_bytes(b"caf\xe9")
    huge = tmp_path / "huge"
    huge.write_bytes(b"a" * (50 * 1024 * 1024))
    identifier = server.json("memory", "write", "x", "--title", "first")["id"]
    unknown = "01" + "Z" * 24
    for arguments, number, code in [
        (["write", "x", "--title", "t", "--type", "nonsense"], 2, "unknown_type"),
        (["write", "x", "--title", "t", "--field", "nonsense=1"], 2, "unknown_field"),
        (["write", "x", "--title", "t", "--field", "nonsense"], 2, "invalid_input"),
        (["write", "x", "--title", "t", "--file", str(latin)], 2, "invalid_input"),
        (["write", "--title", "t", "--file", str(latin)], 2, "invalid_file"),
        (["write", "--title", "t", "--file", str(huge)], 2, "too_large"),
        (["write", "--title", "t", "--file", str(tmp_path / "none")], 3, "not_found"),
        (["write", f"my token: {TOKEN}", "--title", "t"], 5, "secret_refused"),
        (["write", "y", "--id", identifier, "--if-version", "0" * 40], 4, "version_conflict"),
        (["delete", identifier, "--if-version", "0" * 40], 4, "version_conflict"),
        (["read", unknown], 3, "not_found"),
        (["read", "../../etc/passwd"], 2, "unsafe_path"),
        (["search", "x", "--limit", "0"], 2, "invalid_input"),
        (["list", "--since", "whenever"], 2, "invalid_input"),
        (["import", str(tmp_path / "none")], 3, "not_found"),
        (["push"], 8, "sync"),
        (["pull"], 8, "sync"),
    ]:
        found, error = failed(server, "memory", *arguments)
        assert (arguments, found, error["code"]) == (arguments, number, code)
        assert error["message"]
        assert TOKEN not in json.dumps(error)
    assert server.json("memory", "list")["total"] == 1
    assert len(server.json("memory", "history", identifier)["revisions"]) == 1


def test_an_argument_that_is_not_utf8_is_refused(server: Any) -> None:
    done = subprocess.run(
        [ALG, "memory", "write", b"caf\xe9", "--title", "x", "--json"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "invalid_input"


def test_redact_stores_a_mark(server: Any) -> None:
    identifier = server.json("memory", "write", f"token {TOKEN}", "--title", "t", "--redact")["id"]
    assert "[redacted:github-token#" in server.alg("memory", "read", identifier).stdout


# --- edit -----------------------------------------------------------------------------------------------------


def test_edit_saves_what_the_editor_left_and_removes_the_copy(server: Any, tmp_path: Path) -> None:
    identifier = server.json("memory", "write", "first line\n", "--title", "Edited")["id"]
    seen = tmp_path / "seen"
    environment = editor(tmp_path, f'stat -c "%a %n" "$2" > {seen}; echo "second line" >> "$2"')
    done = server.alg("memory", "edit", identifier, "--reason", "more to say", "--json", env=environment)
    assert json.loads(done.stdout)["operation"] in ("edit", "update")
    assert server.json("memory", "read", identifier)["body"] == "first line\nsecond line\n"
    assert server.json("memory", "history", identifier)["revisions"][0]["reasons"] == ["more to say"]
    mode, copy = seen.read_text(encoding="utf-8").split()
    assert mode == "600"
    assert not Path(copy).exists()
    assert not Path(copy).is_relative_to(server.repo)


def test_edit_without_a_change_writes_nothing(server: Any, tmp_path: Path) -> None:
    identifier = server.json("memory", "write", "x", "--title", "Same")["id"]
    done = server.alg("memory", "edit", identifier, env=editor(tmp_path, "true"))
    assert (done.stdout, done.stderr) == ("", "nothing was changed\n")
    assert len(server.json("memory", "history", identifier)["revisions"]) == 1
    assert not (server.home / "edits").exists()


@pytest.mark.parametrize(
    ("script", "number", "code"),
    [
        (f'echo "token {TOKEN}" >> "$2"', 5, "secret_refused"),
        (f'echo mine >> "$2"; "{ALG}" memory write theirs --id ID', 4, "version_conflict"),
        ('echo mine >> "$2"; exit 3', 7, "storage"),
        ('printf "caf\\351" >> "$2"', 2, "invalid_file"),
        ('echo "no front matter" > "$2"', 2, "invalid_file"),
    ],
)
def test_an_edit_that_is_not_taken_is_kept_and_named(
    server: Any, tmp_path: Path, script: str, number: int, code: str
) -> None:
    identifier = server.json("memory", "write", "x", "--title", "Kept")["id"]
    found, error = failed(server, "memory", "edit", identifier, env=editor(tmp_path, script.replace("ID", identifier)))
    assert (found, error["code"]) == (number, code)
    kept = Path(error["details"]["kept"])
    assert kept.exists()
    assert str(kept) in error["hint"]
    assert "mine" not in server.json("memory", "read", identifier)["body"]


@pytest.mark.parametrize("visual", ["no-such-editor-here", "'unbalanced"])
def test_edit_without_an_editor_says_so_and_leaves_no_copy(server: Any, visual: str) -> None:
    identifier = server.json("memory", "write", "x", "--title", "Same")["id"]
    code, error = failed(server, "memory", "edit", identifier, env={**os.environ, "VISUAL": visual})
    assert code == 2
    assert "EDITOR" in error["hint"]
    assert not (server.home / "edits").exists()


# --- import and export ------------------------------------------------------------------------------------------


def test_a_folder_is_imported_once_and_exported_again(server: Any, tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    (vault / "one.md").write_text("# One\n\nSee [[two]].\n", encoding="utf-8")
    (vault / "two.md").write_text("# Two\n", encoding="utf-8")
    (vault / "bad.md").write_text(f"token {TOKEN}\n", encoding="utf-8")
    plan = server.alg("memory", "import", str(vault), "--dry-run", "--json", check=False)
    assert (json.loads(plan.stdout)["dry_run"], json.loads(plan.stdout)["created"]) == (True, 2)
    assert server.json("memory", "list")["total"] == 0
    done = server.alg("memory", "import", "vault", "--project", "garden", "--json", check=False, cwd=tmp_path)
    report = json.loads(done.stdout)
    assert (done.returncode, report["created"], len(report["failed"])) == (1, 2, 1)
    assert TOKEN not in done.stdout
    (vault / "bad.md").unlink()
    again = server.alg("memory", "import", str(vault), "--project", "garden")
    assert "unchanged" in again.stdout
    assert server.json("memory", "list", "--project", "garden")["total"] == 2
    out = tmp_path / "out"
    assert server.json("memory", "export", str(out))["written"] == 2
    assert len(list(out.rglob("*.md"))) == 2
    server.alg("memory", "export", "lines.jsonl", "--format", "jsonl", cwd=tmp_path)
    assert len((tmp_path / "lines.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    code, error = failed(server, "memory", "export", str(server.repo / "x"))
    assert (code, error["code"]) == (2, "invalid_input")


def test_reindex_builds_the_index_anew(server: Any) -> None:
    server.alg("memory", "write", "findable", "--title", "Indexed")
    assert server.json("memory", "reindex")["indexed"] == 1
    assert len(server.json("memory", "search", "findable")["hits"]) == 1


# --- the terminal ---------------------------------------------------------------------------------------------------


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a terminal as stdout shows."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [ALG, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait(timeout=60) == 0
    return shown.decode("utf-8")


def test_colours_are_for_terminals_and_not_where_no_color_is_set(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    server.alg("memory", "write", "b", "--title", "Tea")
    assert "\x1b[1mTea\x1b[0m" in on_a_terminal("memory", "list")
    assert "\x1b" not in on_a_terminal("memory", "list", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal("memory", "list", TERM="dumb")


def test_a_memory_cannot_steer_the_terminal_and_is_untouched_in_a_pipe(server: Any) -> None:
    body = "before \x9b2J \u202eafter"
    identifier = server.json("memory", "write", body, "--title", "Steering")["id"]
    assert body in server.alg("memory", "read", identifier).stdout
    shown = on_a_terminal("memory", "read", identifier)
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert "before" in shown
