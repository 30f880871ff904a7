"""Credentials that a person puts into files of the memory repo, by an editor or by plain git: they get no further."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from canary_made import FORMATS, Planter, every_byte, objects

from adaptive_llm_gateway.server._cli_secrets import scan_message

TIMES = "created: 2026-01-01T00:00:00Z\nupdated: 2026-01-01T00:00:00Z\n"
HEAD = f"---\nid: {{id}}\ntype: note\ntitle: {{title}}\n{TIMES}{{more}}---\n"
DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def memory(number: int, *, title: str = "By hand", more: str = "", body: str = "") -> str:
    """A memory's file with an id of its own."""
    identifier = f"01KA0000000000000000000{DIGITS[number // 32 // 32]}{DIGITS[number // 32 % 32]}{DIGITS[number % 32]}"
    return HEAD.format(id=identifier, title=title, more=more) + body


def by_hand(planter: Planter) -> dict[str, bytes]:
    """Files by path, each with a credential somewhere: every format in a body, and every other place."""
    files: dict[str, bytes] = {}
    for number, form in enumerate(FORMATS):
        secret = planter.plant(f"the body of {form}.md", form)
        files[f"notes/{form}.md"] = memory(number, body=f"Kept here:\n\n{secret}\n").encode()
    number = len(FORMATS)
    for place, more in (
        ("tag", "tags: [{}]"), ("project", "project: {}"), ("source", "source: {}"), ("unknown", "colour: {}"),
        ("key", "{}: x"), ("comment", "# {}"), ("nested", "deep: {{down: [{}]}}"),
    ):  # fmt: skip
        number += 1
        secret = planter.plant(f"front matter: {place}")
        files[f"notes/front-{place}.md"] = memory(number, more=more.format(secret) + "\n").encode()
    files["notes/front-title.md"] = memory(number + 1, title=planter.plant("front matter: title")).encode()
    files["notes/wide.md"] = planter.plant("a memory in UTF-16").encode("utf-16")
    files["notes/no-memory.md"] = f"no front matter {planter.plant('a file that is no memory')}\n".encode()
    files["notes/broken.md"] = f"---\n{planter.plant('broken front matter')}: [\n".encode()
    files["README.md"] = f"{planter.plant('a file beside the memories')}\n".encode()
    files["plan.txt"] = f"{planter.plant('a text file')}\n".encode()
    files["types/mine.yaml"] = f"name: {planter.plant('a declared type')}\n".encode()
    files["wide.txt"] = planter.plant("a file in UTF-16").encode("utf-16-le")
    files["picture.bin"] = b"\x7fELF\0\0\xff\xfe" + planter.plant("a binary file").encode() + b"\0\xff"
    return files


def names_by_hand(planter: Planter) -> dict[str, bytes]:
    """Files whose names or folders are credentials."""
    number = len(FORMATS) + 100
    return {
        f"notes/{planter.plant('the name of a memory')}.md": memory(number).encode(),
        f"notes/{planter.plant('the name of a folder')}/a.md": memory(number + 1).encode(),
        f"{planter.plant('the name of a file')}.txt": b"x\n",
    }


def put(repo: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(data)


def git(repo: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(repo), *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_what_is_edited_by_hand_stays_in_its_file_and_is_nowhere_else(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    server.configure("hub: {log_level: debug}\n")
    bare = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    client = server.client()
    client.write("How to log in", body="Ask Kim.\n")
    server.settled()
    server.git("remote", "add", "origin", str(bare))
    planter = Planter()
    files = by_hand(planter) | names_by_hand(planter)
    put(server.repo, files)
    memories = sum(path.startswith("notes/") for path in files)
    server.wait_until(
        lambda: len(server.json("memory", "status")["skipped"]) >= memories, what="every memory to be looked at"
    )
    said = [
        ("the status", str(server.settled()).encode()),
        ("reindex", server.alg("memory", "reindex").stdout.encode()),
    ]
    for tool, arguments in (
        ("memory_status", {}),
        ("memory_search", {"query": "kept here"}),
        ("memory_context", {"query": "what is kept here?"}),
        ("memory_push", {}),
        ("memory_write", {"title": "Goes on"}),
    ):
        said.append((tool, str(client.answer(client.start_call(tool, **arguments))).encode()))
    for arguments in (("doctor",), ("memory", "list"), ("memory", "sync"), ("memory", "status")):
        done = server.alg(*arguments, check=False)
        said.append((" ".join(arguments), (done.stdout + done.stderr).encode()))
    server.settled()
    server.alg("hub", "stop")
    server.alg("memory", "status")  # another hub reads everything anew
    server.alg("hub", "stop")

    # What a person puts into a file stays there, by promise: it is theirs, and an edit that vanished would be a loss.
    own = {str(server.repo / path) for path in files} | {f"the name {path}" for path in server.repo.rglob("*")}
    places = [*said, *every_byte(server.home, tmp_path / "tmp", tmp_path / "user", bare)]
    told = planter.sweep(places, but=lambda where, _: where in own)
    assert not told, "\n".join(told)
    for path, data in files.items():
        assert (server.repo / path).read_bytes() == data


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_found_in_a_message_and_not_shown(form: str, tmp_path: Path) -> None:
    planter = Planter()
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(f"Add it\n\n{planter.plant('a message', form)}\n", encoding="utf-8")
    scan = scan_message(file, tmp_path)
    assert scan.findings
    assert planter.sweep([("the report", json.dumps(scan.as_dict()).encode())]) == []


def test_of_a_message_what_git_adds_for_its_writer_is_left_out(tmp_path: Path) -> None:
    secret = Planter().plant("x")
    file = tmp_path / "COMMIT_EDITMSG"
    cut = "# ------------------------ >8 ------------------------\n"
    file.write_text(f"Take it out\n# Changes:\n#\tdeleted:    {secret}.md\n{cut}-{secret}\n", encoding="utf-8")
    assert not scan_message(file, tmp_path).findings
    file.write_text(f"# {secret}\n", encoding="utf-8")  # `git commit -m` keeps such a line
    assert scan_message(file, tmp_path).findings
    assert scan_message(file, tmp_path, ["x", secret]).findings[-1][0] == "the author's name"


@pytest.mark.parametrize("line", ["#\t{}", "# ------------------------ >8 ------------------------\n{}"])
def test_what_git_keeps_of_a_message_is_looked_at_however_it_begins(server: Any, line: str) -> None:
    server.client().close()
    server.alg("hub", "stop")
    secret = Planter().plant("a message")
    message = f"Add it\n\n{line.format(secret)}\n"
    head = server.git("rev-parse", "HEAD")
    done = git(server.repo, "commit", "--allow-empty", "-F", "-", input=message)  # without an editor all is kept
    assert done.returncode != 0
    assert secret not in done.stdout + done.stderr
    server.git("config", "core.commentChar", ";")
    editor = server.home / "message"
    editor.write_text(f"Add it\n\n#\t{secret}\n", encoding="utf-8")
    environment = {**os.environ, "GIT_EDITOR": f"cp {editor}"}
    assert git(server.repo, "commit", "--allow-empty", env=environment).returncode != 0
    server.git("config", "--unset", "core.commentChar")
    server.git("config", "commit.cleanup", "whitespace")
    assert git(server.repo, "commit", "--allow-empty", env=environment).returncode != 0
    assert server.git("rev-parse", "HEAD") == head


@pytest.mark.parametrize("setting", ["user.name", "author.name", "committer.name", "committer.email"])
def test_who_commits_is_looked_at_wherever_git_has_it_from(server: Any, setting: str) -> None:
    server.client().close()
    server.alg("hub", "stop")
    secret = Planter().plant("a setting")
    server.git("config", setting, secret)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_AUTHOR", "GIT_COMM"))}
    environment |= {"GIT_AUTHOR_NAME": "Kim"} if setting == "user.name" else {}
    done = git(server.repo, "commit", "--allow-empty", "-m", "x", env=environment)
    assert done.returncode != 0
    assert secret not in done.stdout + done.stderr
    assert "the author's name" in done.stderr


def test_plain_git_commits_none_of_it_and_names_every_place(server: Any, tmp_path: Path) -> None:
    client = server.client()
    client.write("How to log in", body="Ask Kim.\n")
    server.settled()
    client.close()
    server.alg("hub", "stop")
    planter = Planter()
    files, named = by_hand(planter), names_by_hand(planter)
    put(server.repo, files | named)
    head = server.git("rev-parse", "HEAD")
    server.git("add", ".")
    # What a person stages git itself keeps, in objects and in its index.
    staged = objects(server.repo / ".git") + (server.repo / ".git" / "index").read_bytes()
    assert set(planter.ways.values()) == {*planter.named(staged)}
    environment = {**os.environ, "PATH": os.defpath}  # where there is no alg
    done = git(server.repo, "commit", "-m", "x", env=environment)
    assert done.returncode != 0
    assert planter.sweep([("what it says", (done.stdout + done.stderr).encode())]) == []
    for path in files:
        assert f"  {path}:" in done.stderr, done.stderr
    assert done.stderr.count("(in its name)") == len(named)
    assert server.git("rev-parse", "HEAD") == head

    git(server.repo, "reset", "-q", "--hard")
    git(server.repo, "clean", "-qfd")
    (server.repo / "README.md").write_text("fine\n", encoding="utf-8")
    server.git("add", "README.md")
    said: list[tuple[str, bytes]] = []
    for form in ("github", "private-key", "sentence"):
        message = f"Add it\n\n{planter.plant('a message', form)}\n"
        done = git(server.repo, "commit", "-F", "-", input=message, env=environment)
        assert done.returncode != 0, form
        said.append((f"what it says of the message with {form}", (done.stdout + done.stderr).encode()))
    secret = planter.plant("an author")
    for author in (f"{secret} <x@example.org>", f"x <{secret}@example.org>"):
        done = git(server.repo, "commit", "-m", "x", f"--author={author}", env=environment)
        assert done.returncode != 0
        said.append(("what it says of the author", (done.stdout + done.stderr).encode()))
    assert planter.sweep(said) == []
    assert server.git("rev-parse", "HEAD") == head
    assert git(server.repo, "commit", "-m", "fine", env=environment).returncode == 0


def test_an_edit_with_a_credential_is_kept_for_its_writer_alone(server: Any, tmp_path: Path) -> None:
    client = server.client()
    known = client.write("How to log in", body="Ask Kim.\n")
    server.settled()
    planter = Planter()
    editor = tmp_path / "editor"
    editor.write_text(f"#!/bin/sh\necho 'it is {planter.plant('an edit')}' >> \"$1\"\n", encoding="utf-8")
    editor.chmod(0o755)
    environment = {**os.environ, "EDITOR": str(editor), "VISUAL": ""}
    done = server.alg("memory", "edit", known, check=False, env=environment)
    assert done.returncode == 5
    (kept,) = (server.home / "edits").iterdir()  # nobody's typing is lost; the copy is not in the repo
    assert str(kept) in done.stderr
    assert kept.stat().st_mode & 0o077 == 0
    server.alg("hub", "stop")
    places = [("what it says", (done.stdout + done.stderr).encode()), *every_byte(server.home, tmp_path / "user")]
    told = planter.sweep(places, but=lambda where, _: where == str(kept))
    assert not told, "\n".join(told)
