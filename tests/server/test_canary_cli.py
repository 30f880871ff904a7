"""A credential in every argument and option of every command: it is in nothing that is printed, and in no byte of what
is left behind.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canary_made import Planter, every_byte

from adaptive_llm_gateway.server import _cli
from adaptive_llm_gateway.server._cli_app import build_command

CONFIG = """\
hub: {log_level: debug}
gateway: {discover: false}
providers: {trial: {kind: built_in}}
"""

NEEDED: dict[str, dict[str, str]] = {
    "context": {"query": "How do we log in?"},
    "summarize": {"path": "{folder}"},
    "tokens": {"files": "{folder}/a.md"},
    "complete": {"prompt": "What is a lease?"},
    "embed": {"text": "a text"},
    "secrets scan": {"paths": "{folder}/a.md"},
    "secrets allow": {"fingerprint": "0123456789abcdef"},
    "secrets revoke": {"fingerprint": "0123456789abcdef"},
    "memory read": {"id": "{memory}"},
    "memory history": {"id": "{memory}"},
    "memory write": {"body": "A text"},
    "memory edit": {"id": "{memory}"},
    "memory delete": {"id": "{memory}"},
    "memory restore": {"id": "{memory}"},
    "memory compact": {"session": "{memory}"},
    "memory import": {"path": "{folder}"},
    "memory export": {"destination": "{folder}/out"},
    "memory quarantine drop": {"path": "a.md"},
    "handoff create": {"objective": "Finish it"},
    "handoff show": {"id": "{handoff}"},
    "handoff claim": {"id": "{handoff}"},
    "handoff update": {"id": "{handoff}", "text": "Went on"},
    "handoff complete": {"id": "{handoff}"},
    "handoff release": {"id": "{handoff}"},
    "gateway preview": {"prompt": "What is a lease?"},
    "clients add": {"name": "laptop", "--scope": "memory:read"},
    "clients set": {"name": "laptop"},
    "clients show": {"name": "laptop"},
    "clients rotate": {"name": "laptop"},
    "clients revoke": {"name": "laptop"},
    "consent grant": {"provider": "trial", "--trust": "internal"},
    "consent revoke": {"id": "x"},
    "receipts show": {"id": "x"},
    "runs replay": {"run": "x"},
}
"""What a command needs before any other argument of it is looked at."""

ELSEWHERE = {"serve": "speaks MCP", "hub run": "is for the hub's own starter"}
"""Commands that are not for people to type."""

ANSWERED_BY_A_MODEL = {"complete", "chat"}
"""The built-in model repeats what it was asked. What a model answers is printed as it is."""

SHOWN = {
    "embed text": "each text is printed before its vector",
    "memory export destination": "it says which folder it has written",
    "tokens --model": "it says of which model the tokens are an estimate",
    "context --model": "it says of which model the tokens are an estimate",
}
"""What is printed where it is no error, because it is what the person has typed and what the command is about."""


def commands() -> Iterator[tuple[str, list[Any]]]:
    """Every command with its arguments and options that take a value."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), build_command([]))]
    while pending:
        path, command = pending.pop(0)
        children: dict[str, Any] = getattr(command, "commands", {})
        pending[:0] = [((*path, name), child) for name, child in children.items()]
        if not children:
            yield " ".join(path), [each for each in command.params if not getattr(each, "is_flag", False)]


def words_of(path: str, params: list[Any], given: dict[str, str]) -> list[str]:
    """A command line with these values for arguments and options."""
    words = path.split()
    positional: list[str] = []
    for each in params:
        name = str(each.opts[0])
        value = given.get(name)
        if value is not None:
            if name.startswith("-"):
                words += [name, value]
            else:
                positional.append(value)
    return [*words, "--", *positional] if positional else words


def test_no_argument_of_any_command_prints_or_keeps_a_credential(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tmp", "folder", "cwd"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder" / "a.md").write_text("# A\n\nfine\n", encoding="utf-8")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.chdir(tmp_path / "cwd")
    server.configure(CONFIG)
    client = server.client()
    known = {
        "memory": client.write("How to log in", body="Ask Kim.\n"),
        "handoff": server.id_of(client.call("handoff_create", objective="The login")),
        "folder": str(tmp_path / "folder"),
    }
    found = dict(commands())
    assert not NEEDED.keys() - found.keys()
    assert not ELSEWHERE.keys() - found.keys()
    planter = Planter()
    said: list[tuple[str, bytes]] = []

    def run(way: str, words: list[str], *, shown: str | None = "") -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        code = _cli._run(["--home", str(server.home), *words])  # pyright: ignore[reportPrivateUsage]
        printed = capsys.readouterr()
        is_asked_for = code == 0 and (shown is None or shown in SHOWN)
        said.append((way, b"" if is_asked_for else f"{printed.out}\n{printed.err}".encode()))

    for path, params in found.items():
        if path in ELSEWHERE:
            continue
        needed = {name: value.format(**known) for name, value in NEEDED.get(path, {}).items()}
        unmet = {str(each.opts[0]) for each in params if each.required} - needed.keys()
        assert not unmet, f"{path!r} needs {unmet}: give it something in NEEDED"
        for each in params:
            way = f"{path} {each.opts[0]}"
            given = {**needed, str(each.opts[0]): planter.plant(way)}
            words = words_of(path, params, given)
            if len(said) % 2:
                words.insert(len(path.split()), "--json")
            run(f"alg {way}", words, shown=way if path not in ANSWERED_BY_A_MODEL else None)
    run("an unknown option", ["memory", "read", f"--{planter.plant('an unknown option')}"])
    run("an unknown command", [planter.plant("an unknown command")])
    server.settled()
    server.alg("hub", "stop")
    # What a file is called that a person has written outside of the home, such as an export, is theirs.
    told = planter.sweep([*said, *every_byte(server.home, tmp_path / "tmp", tmp_path / "user")])
    assert not told, "\n".join(told)
