"""A credential of every format through every way that text comes in: refused, or stored as a placeholder, and nowhere
in what is left behind, whatever kills the hub meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from canary_made import FORMATS, Planter, every_byte

CONFIG = """\
hub: {log_level: debug}
gateway: {discover: false}
providers: {trial: {kind: built_in}}
"""


@pytest.fixture(autouse=True)
def _a_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


def left(server: Any, tmp_path: Path, *more: Path) -> list[tuple[str, bytes]]:
    """Every byte of the home, of temporary files and of the user's folder, once the hub has stopped."""
    if server.hub_pid() is not None:
        server.settled()
        server.alg("hub", "stop")
    return list(every_byte(server.home, tmp_path / "tmp", tmp_path / "user", *more))


def text_with(secret: str) -> str:
    return f"What we need for it:\n\n{secret}\n\nThat is all.\n"


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "write": ("memory_write", {"title": "x", "body": "@"}),
    "update": ("memory_write", {"id": "{memory}", "body": "@"}),
    "decision": ("memory_record_decision", {"title": "x", "rationale": "@"}),
    "task": ("memory_record_task", {"title": "x", "body": "@"}),
    "session": ("memory_append_session", {"text": "@"}),
    "handoff": ("handoff_create", {"objective": "x", "state": "@"}),
    "progress": ("handoff_update", {"id": "{handoff}", "text": "@"}),
}
"""Tools that store a long text, and what they are given."""


@pytest.mark.parametrize("redact", [False, True], ids=["refused", "replaced"])
def test_no_format_gets_in_by_a_tool(server: Any, tmp_path: Path, redact: bool) -> None:
    server.configure(CONFIG)
    client = server.client()
    given = {
        "memory": client.write("How to log in", body="Ask Kim.\n"),
        "handoff": server.id_of(client.call("handoff_create", objective="The login")),
    }
    client.call("handoff_claim", id=given["handoff"])
    planter = Planter()
    pending: list[tuple[str, str, int | dict[str, Any]]] = []  # one report of progress after the other, as agents do
    for form in FORMATS:
        for way, (tool, arguments) in WAYS.items():
            secret = planter.plant(way, form)
            filled = {
                name: text_with(secret) if value == "@" else value.format(**given) for name, value in arguments.items()
            }
            number = client.start_call(tool, **filled, redact=redact)
            pending.append((way, form, client.answer(number) if way == "progress" else number))
    said: list[tuple[str, bytes]] = []
    for way, form, answer in pending:
        result = (client.answer(answer) if isinstance(answer, int) else answer)["result"]
        assert bool(result.get("isError")) != redact, f"{way} {form}: {server.text_of(result)}"
        said.append((f"the answer to {way}", json.dumps(result).encode()))
    text = client.call("memory_read", id=given["memory"])
    assert ("Ask Kim" in text) != redact
    told = planter.sweep([*said, *left(server, tmp_path)])
    assert not told, "\n".join(told)


def test_no_format_is_in_what_the_gateway_keeps_of_a_request(server: Any, tmp_path: Path) -> None:
    server.configure(CONFIG)
    client = server.client()
    planter = Planter()
    numbers: list[int] = []
    for form in FORMATS:
        prompt = text_with(planter.plant("a prompt", form))
        message = text_with(planter.plant("a message", form))
        embedded = text_with(planter.plant("a text to embed", form))
        numbers += [
            client.start_call("gateway_complete", prompt=prompt),
            client.start_call("gateway_chat", messages=[{"role": "user", "content": message}]),
            client.start_call("gateway_embed", texts=[embedded]),
            client.start_call("gateway_route_preview", prompt=prompt),
        ]
    for number in numbers:
        client.answer(number)
    kept = left(server, tmp_path)
    assert any("gateway/runs/" in where for where, _ in kept)
    told = planter.sweep(kept)
    assert not told, "\n".join(told)


def sources(planter: Planter, folder: Path) -> dict[str, Path]:
    """What other programs keep, each file of it with a credential."""
    markdown, vault, claude, graph = (folder / name for name in ("markdown", "vault", "claude", "memory.json"))
    for path in (markdown, vault / ".obsidian", claude):
        path.mkdir(parents=True)
    for form in FORMATS:
        (markdown / f"{form}.md").write_text(f"# A\n\n{text_with(planter.plant('markdown', form))}", encoding="utf-8")
    title, tag = planter.plant("a title that is imported"), planter.plant("a tag that is imported")
    (markdown / "title.md").write_text(f"---\ntitle: {title}\ntags: [{tag}]\n---\nx\n", encoding="utf-8")
    (markdown / f"{planter.plant('the name of a file that is imported')}.md").write_text("# A\n\nx\n", encoding="utf-8")
    (markdown / "broken.md").write_text(f"---\n{planter.plant('a broken file')}: [\n---\nx\n", encoding="utf-8")
    (vault / "A.md").write_text(f"See [[{planter.plant('a link')}]] #{planter.plant('a tag')}\n", encoding="utf-8")
    (claude / "CLAUDE.md").write_text(f"# Rules\n\n- {planter.plant('CLAUDE.md')}\n", encoding="utf-8")
    lines = [
        {"type": "entity", "name": planter.plant("an entity"), "entityType": "x", "observations": ["x"]},
        {"type": "entity", "name": "a", "entityType": planter.plant("its type"), "observations": ["x"]},
        {"type": "entity", "name": "b", "entityType": "x", "observations": [planter.plant("an observation")]},
        {"type": "relation", "from": "a", "to": "b", "relationType": planter.plant("a relation")},
        {"type": planter.plant("an unknown line"), "name": "a"},
    ]
    broken = f'{{"type": "entity", "name": "{planter.plant("a broken line")}'
    graph.write_text("\n".join([*map(json.dumps, lines), broken]) + "\n", encoding="utf-8")
    return {"markdown": markdown, "obsidian": vault, "claude-code": claude, "mcp-memory": graph}


@pytest.mark.parametrize("redact", [False, True], ids=["refused", "replaced"])
def test_no_format_gets_in_by_an_import(server: Any, tmp_path: Path, redact: bool) -> None:
    server.configure(CONFIG)
    server.alg("init", "--yes")
    planter = Planter()
    said: list[tuple[str, bytes]] = []
    for kind, path in sources(planter, tmp_path / "sources").items():
        for options in (["--dry-run"], [], ["--json"]):
            words = ["memory", "import", str(path), "--kind", kind, *options, *(["--redact"] if redact else [])]
            done = server.alg(*words, check=False)
            said.append((" ".join(words[2:]), (done.stdout + done.stderr).encode()))
    told = planter.sweep([*said, *left(server, tmp_path)])
    assert not told, "\n".join(told)


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, timeout=60)


def work(planter: Planter, folder: Path) -> Path:
    """A repository with a credential in every part of what is not committed."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.py").write_text("a = 1\n", encoding="utf-8")
    (folder / "gone.py").write_text(f"{planter.plant('a file that goes')}\n", encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", planter.plant("the message of the work's last commit"))
    git(folder, "checkout", "-qb", f"try-{planter.plant('a branch')}")
    git(folder, "remote", "add", "origin", f"https://{planter.plant('the password of a remote')}@host.test/a.git")
    (folder / "gone.py").unlink()
    for form in FORMATS:
        (folder / f"{form}.txt").write_text(text_with(planter.plant("an untracked file", form)), encoding="utf-8")
    (folder / "a.py").write_text(f"a = '{planter.plant('a change')}'\n", encoding="utf-8")
    (folder / "wide.txt").write_bytes(planter.plant("an untracked file in UTF-16").encode("utf-16"))
    (folder / "b.bin").write_bytes(b"\0\1\xff" + planter.plant("an untracked binary file").encode() + b"\0" * 40)
    (folder / f"{planter.plant('the name of an untracked file')}.txt").write_text("x\n", encoding="utf-8")
    inner = folder / planter.plant("the name of an untracked folder")
    inner.mkdir()
    (inner / "c.txt").write_text("x\n", encoding="utf-8")
    return folder


def codex(kind: str, **payload: Any) -> dict[str, Any]:
    """A line of what Codex keeps of a session."""
    return {"timestamp": "2026-11-22T12:00:00.000Z", "type": kind, "payload": payload}


def test_nothing_of_the_work_that_is_handed_off_takes_a_credential_along(server: Any, tmp_path: Path) -> None:
    server.configure(CONFIG)
    planter = Planter()
    folder = work(planter, tmp_path / "work")
    client = server.client(cwd=folder)
    said: list[tuple[str, bytes]] = []
    for patch in (False, True):
        for redact in (False, True):
            arguments = {"objective": "x", "directory": str(folder), "patch": patch, "redact": redact}
            answer = client.answer(client.start_call("handoff_create", **arguments))
            said.append((f"the answer to patch={patch} redact={redact}", json.dumps(answer).encode()))
    transcript = tmp_path / "s.jsonl"
    turns: list[dict[str, Any]] = [
        {"type": "user", "sessionId": "s", "cwd": str(folder),
         "message": {"role": "user", "content": text_with(planter.plant("a transcript", form))}}
        for form in FORMATS
    ]  # fmt: skip
    turns.append({"type": "assistant", "sessionId": "s", "message": {"role": "assistant", "content": [
        {"type": "text", "text": f"I set {planter.plant('what the agent said')} there."},
        {"type": "tool_use", "name": "Write", "id": "1",
         "input": {"file_path": f"/w/{planter.plant('a file that the agent wrote')}", "content": "x"}},
        {"type": "tool_use", "name": "TodoWrite", "id": "2",
         "input": {"todos": [{"content": planter.plant("a thing to do"), "status": "pending", "activeForm": "x"}]}},
    ]}})  # fmt: skip
    transcript.write_text("".join(json.dumps(turn) + "\n" for turn in turns), encoding="utf-8")
    event = {"session_id": "s", "transcript_path": str(transcript), "cwd": str(folder), "hook_event_name": "Stop"}
    done = server.alg("handoff", "checkpoint", "--hook", input=json.dumps(event))
    said.append(("the hook", (done.stdout + done.stderr).encode()))
    for words in (["--session", "s", "--transcript", str(transcript)], ["--session", planter.plant("a session's id")]):
        done = server.alg("handoff", "checkpoint", *words, "--directory", str(folder), "--patch", check=False)
        said.append(("a checkpoint", (done.stdout + done.stderr).encode()))
    thread = "01a202df-b894-7be0-b2ed-610b032a02f0"
    rollout = tmp_path / "codex/sessions/2026/11/22" / f"rollout-2026-11-22T12-00-00-{thread}.jsonl"
    rollout.parent.mkdir(parents=True)
    lines = [codex("session_meta", id=thread, session_id=thread, cwd=str(folder), originator="codex_exec")]
    for role in ("user", "assistant"):
        text = text_with(planter.plant(f"what the {role} said in Codex"))
        block = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
        lines.append(codex("response_item", type="message", role=role, content=[block]))
    plan = {"plan": [{"step": planter.plant("a step in Codex"), "status": "pending"}]}
    lines.append(
        codex("response_item", type="function_call", name="update_plan", arguments=json.dumps(plan), call_id="c")
    )
    rollout.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    notice = {"type": "agent-turn-complete", "thread-id": thread, "cwd": str(folder),
              "input-messages": [planter.plant("what Codex tells its hook")]}  # fmt: skip
    environment = {**os.environ, "CODEX_HOME": str(tmp_path / "codex")}
    done = server.alg("handoff", "checkpoint", "--hook", json.dumps(notice), env=environment)
    said.append(("Codex's hook", (done.stdout + done.stderr).encode()))
    listed: str = server.wait_until(
        lambda: (shown := server.alg("handoff", "list", "--checkpoints", "--json").stdout).count(thread) and shown,
        what="a checkpoint of Codex",
    )
    told = planter.sweep([*said, ("the list", listed.encode()), *left(server, tmp_path)])
    assert not told, "\n".join(told)


POINTS = [
    "write.validated",
    "write.temp_written",
    "write.index_begun",
    "commit.blobs_written",
]


@pytest.mark.parametrize("point", [*POINTS, None])
def test_a_hub_that_is_killed_among_refused_writes_leaves_nothing_of_them(
    server: Any, tmp_path: Path, point: str | None
) -> None:
    server.configure(CONFIG)
    client = server.client(env={"ALG_FAULT": point} if point else {})
    doomed = server.wait_until(server.hub_pid, what="a hub")
    planter = Planter()
    numbers: list[int] = []
    for form in FORMATS:
        numbers.append(client.start_call("memory_write", title="x", body=text_with(planter.plant("refused", form))))
        replaced = text_with(planter.plant("replaced", form))
        numbers.append(client.start_call("memory_write", title="y", body=replaced, redact=True))
        numbers.append(client.start_call("memory_write", title="z", body="Nothing in it.\n"))
    if point is None:
        client.answer(numbers[20])
        os.kill(doomed, signal.SIGKILL)
    server.wait_until(lambda: server.hub_pid() != doomed, what="the hub's end")
    at_once = list(every_byte(server.home, tmp_path / "tmp"))
    for number in numbers:
        if point is not None or number != numbers[20]:
            client.answer(number)
    client.close()
    if server.hub_pid() is not None:  # it has the fault, too
        server.kill_hub()
    server.client("survivor").write("It goes on")
    told = planter.sweep([*at_once, *left(server, tmp_path)])
    assert not told, "\n".join(told)
