"""A credential in every argument of every tool, and in what else a client can say: it is in no answer and in no byte
of what the hub leaves behind.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canary_made import Planter, every_byte

CONFIG = """\
hub: {{log_level: debug}}
gateway: {{discover: false}}
providers: {{trial: {{kind: built_in}}}}
summaries: {{roots: [{root}]}}
"""

NEEDED: dict[str, dict[str, Any]] = {
    "memory_search": {},
    "memory_context": {"query": "How do we log in?"},
    "memory_summarize_path": {"path": "{root}"},
    "memory_read": {"id": "{memory}"},
    "memory_write": {"title": "A title"},
    "memory_record_decision": {"title": "A title", "rationale": "Because"},
    "memory_record_task": {"title": "A title"},
    "memory_append_session": {"text": "Went on"},
    "memory_compact_session": {"session": "{session}"},
    "memory_delete": {"id": "{memory}"},
    "memory_restore": {"id": "{memory}", "at": "HEAD"},
    "memory_history": {"id": "{memory}"},
    "memory_status": {},
    "memory_pull": {},
    "memory_push": {},
    "handoff_create": {"objective": "Finish it"},
    "handoff_list": {},
    "handoff_claim": {"id": "{handoff}"},
    "handoff_update": {"id": "{handoff}", "text": "Went on"},
    "handoff_complete": {"id": "{handoff}"},
    "handoff_release": {"id": "{handoff}"},
    "gateway_complete": {"prompt": "What is a lease?"},
    "gateway_chat": {"messages": [{"role": "user", "content": "What is a lease?"}]},
    "gateway_embed": {"texts": ["a text"]},
    "gateway_health": {},
    "gateway_route_preview": {"prompt": "What is a lease?"},
}
"""What each tool needs before any other argument of it is looked at. A new tool has to be entered here."""

ANSWERED_BY_A_MODEL = {"gateway_complete", "gateway_chat"}
"""The built-in model repeats what it was asked. What a model answers goes to the caller alone, as it is."""

FIELDS = {
    "memory_write": [("fact", "evidence"), ("decision", "rationale"), ("task", "assignee"), ("preference", "scope")]
}
"""Types' own fields, which no schema of a tool names."""


class Recorder:
    """Stands before git on the PATH and keeps every command line and environment that it was started with."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.kept = folder / "kept"
        git = shutil.which("git")
        assert git is not None
        program = folder / "bin" / "git"
        program.parent.mkdir()
        kept = shlex.quote(str(self.kept))
        program.write_text(
            f'#!/bin/sh\n{{ printf "%s\\n" "$@"; env; }} >> {kept}\nexec {shlex.quote(git)} "$@"\n', encoding="utf-8"
        )
        program.chmod(0o755)
        self.path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder(tmp_path / "recorder")
    monkeypatch.setenv("PATH", made.path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return made


def values(schema: dict[str, Any], canary: str) -> Iterator[Any]:
    """Ways to give an argument a credential, as its schema has it and not."""
    kind = schema.get("type")
    if kind == "array":
        yield [canary]
        yield [{"role": canary, "content": canary}]
        yield [{"role": "user", "content": canary}]
        yield [{"rel": canary, "id": canary}]
        yield [{canary: canary}]
    elif kind == "object":
        yield {canary: canary}
        for name in ("query", "project", "mode", "trust", "session_id", "type", "max_trust"):
            yield {"query": "x", name: canary}
        yield {"down": [canary], "consent": [canary]}
    yield canary
    yield f"It is {canary}, we think."


def test_no_argument_of_any_tool_leaves_a_credential_anywhere(server: Any, tmp_path: Path, recorder: Recorder) -> None:
    root = tmp_path / "work"
    root.mkdir()
    (root / "a.py").write_text("def login(): ...\n", encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    server.configure(CONFIG.format(root=json.dumps(str(root))))
    client = server.client(cwd=root)
    given = {
        "memory": client.write("How to log in", body="Ask Kim.\n"),
        "session": client.call("memory_append_session", text="Begun").partition("session_id ")[2].split()[0],
        "handoff": server.id_of(client.call("handoff_create", objective="The login")),
        "root": str(root),
    }
    listed = client.request("tools/list")["result"]["tools"]
    assert {tool["name"] for tool in listed} == set(NEEDED)
    planter = Planter()
    said: list[tuple[str, bytes]] = []
    for tool in listed:
        name = tool["name"]
        needed = json.loads(json.dumps(NEEDED[name]).replace('"{', '"\x01{').replace("\x01", ""))
        needed = {key: value.format(**given) if isinstance(value, str) else value for key, value in needed.items()}
        pending: list[tuple[str, int]] = []
        for argument, schema in tool["inputSchema"]["properties"].items():
            way = f"{name} {argument}"
            canary = planter.plant(way)
            for value in values(schema, canary):
                pending.append((way, client.start_call(name, **{**needed, argument: value})))
        for kind, argument in FIELDS.get(name, ()):
            way = f"{name} fields {argument}"
            pending.append((way, client.start_call(name, **needed, type=kind, fields={argument: planter.plant(way)})))
        way = f"{name} an unknown argument"
        pending.append((way, client.start_call(name, **{**needed, planter.plant(way): "x"})))
        for way, number in pending:
            answer = client.answer(number)
            if name not in ANSWERED_BY_A_MODEL:
                said.append((f"the answer to {way}", json.dumps(answer).encode()))
    way = "a tool's name"
    said.append((way, json.dumps(client.answer(client.start_call(planter.plant(way)))).encode()))
    for way, method, params in (
        ("a method", "@", {}),
        ("a resource", "resources/read", {"uri": "memory://@"}),
        ("a foreign resource", "resources/read", {"uri": "file:///@"}),
        ("a prompt", "prompts/get", {"name": "@"}),
        ("a prompt's argument", "prompts/get", {"name": "project_context", "arguments": {"project": "@"}}),
        ("a prompt's question", "prompts/get",
         {"name": "project_context", "arguments": {"project": "x", "question": "@"}}),
        ("params that are none", "tools/call", {"name": ["@"], "arguments": "@"}),
        ("arguments that are none", "tools/call", {"name": "memory_write", "arguments": "@"}),
        ("a level of the log", "logging/setLevel", {"level": "@"}),
    ):  # fmt: skip
        canary = planter.plant(way)
        filled = json.loads(json.dumps(params).replace("@", canary))
        said.append((way, json.dumps(client.request(method.replace("@", canary), filled)).encode()))
    client.send_raw(f"not JSON: {planter.plant('a line that is no JSON')}".encode())
    way = "a client's name"
    other = server.client(planter.plant(way))
    number = other.start_call("memory_write", title="By somebody")
    said.append((way, json.dumps(other.answer(number)).encode()))
    server.settled()
    server.alg("hub", "stop")
    told = planter.sweep([*said, *every_byte(server.home, tmp_path / "tmp", tmp_path / "user", root),
                          ("git's command lines", recorder.kept.read_bytes())])  # fmt: skip
    assert not told, "\n".join(told)
