"""A person's machine in a folder: an empty HOME, the real client programs, and no network but loopback."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

import pytest
import yaml

if TYPE_CHECKING:
    from fake_models import FakeModels, Turn

PROJECT = Path(__file__).resolve().parents[2]
NODE = PROJECT / ".node"
ALG = Path(sys.executable).parent / "alg"
INSTALL = "run scripts/install_clients.py with the project's Python"


@pytest.fixture(scope="session")
def fake_models_module() -> Any:
    """What plays the models, for tests that import it only when they run."""
    import fake_models

    return fake_models


@pytest.fixture(scope="module")
def models(fake_models_module: Any) -> Iterator[FakeModels]:
    """The scripted models, listening."""
    with fake_models_module.FakeModels() as server:
        yield server


@dataclass(frozen=True, slots=True)
class Web:
    """Where a hub listens by HTTP."""

    url: str
    port: int


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody's machine: where they live, what they work on, and how they start programs.

    Args:
        home: HOME, empty at first.
        work: the folder they are in.
        env: the whole environment of what they start.
    """

    home: Path
    work: Path
    env: dict[str, str]

    def run(self, *command: str | Path, seconds: float = 60, **env: str) -> str:
        """Run a program to its end with stdin closed; returns stdout, fails on any exit code but 0."""
        code, out, err = self.attempt(*command, seconds=seconds, **env)
        if code != 0:
            pytest.fail(f"{' '.join(map(str, command))}: exit code {code}\nstdout: {out}\nstderr: {err}")
        return out

    def attempt(self, *command: str | Path, seconds: float = 60, **env: str) -> tuple[int, str, str]:
        """Run a program to its end with stdin closed; returns its exit code, stdout and stderr."""
        shown = " ".join(str(part) for part in command)
        with subprocess.Popen(
            [str(part) for part in command],
            cwd=self.work,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        ) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
                pytest.fail(f"{shown}: no end after {seconds} s\nstdout: {out}\nstderr: {err}")
        return process.returncode, out, err

    def shell(self, line: str) -> str:
        """Paste a line into a shell; returns stdout."""
        return self.run("/bin/sh", "-c", line)

    def alg(self, *arguments: str) -> dict[str, Any]:
        """Run `alg ARGUMENTS --json`; returns what it printed."""
        return json.loads(self.run(ALG, *arguments, "--json"))

    def web(self, **settings: Any) -> Web:
        """Their hub, listening by HTTP at a port that is free; `settings` are those of the configuration's `http`."""
        self.alg("init", "--yes")
        self.alg("hub", "stop")
        file = self.home / ".adaptive-llm-gateway" / "config.yaml"
        configured: dict[str, Any] = yaml.safe_load(file.read_text("utf-8")) or {}
        configured["http"] = {"enabled": True, "port": 0, **settings}
        file.write_text(yaml.safe_dump(configured), "utf-8")
        self.alg("hub", "start")
        found: dict[str, Any] = {}

        def answers() -> bool:
            found.update(self.alg("hub", "status")["http"])
            return found["state"] != "starting"

        self.wait_until(answers, "the hub to listen by HTTP")
        assert found["state"] == "listening", found
        url: str = found["url"]
        port = urlsplit(url).port
        assert port is not None
        return Web(url, port)

    def token(self, client: str, *scopes: str) -> str:
        """The token of a new client that may do this, as often as it likes."""
        given = [part for scope in scopes for part in ("--scope", scope)]
        return self.alg("clients", "add", client, *given, "--rate", "unlimited")["token"]

    def git(self, *arguments: str | Path) -> str:
        """Run git where they work; returns stdout."""
        return self.run("git", "-c", "user.name=Dev", "-c", "user.email=dev@example.org", *arguments)

    def claude(self, models: FakeModels, prompt: str, turn: Turn, *options: str, wait: bool = False) -> dict[str, Any]:
        """Run Claude Code once, with what the turn says for a model; returns what it told of the run.

        Args:
            wait: read the prompt once the servers are connected, rather than meanwhile.
        """
        models.turn = turn
        told = self.run(
            *("claude", "-p", prompt, "--allowedTools", "mcp__alg", "--output-format", "json", *options),
            ANTHROPIC_BASE_URL=models.url,
            ANTHROPIC_API_KEY="not-a-key",
            MCP_CONNECTION_NONBLOCKING="false" if wait else "true",
        )
        answer = json.loads(told)
        assert (answer["is_error"], answer["permission_denials"]) == (False, []), told
        return answer

    def codex(self, models: FakeModels, prompt: str, turn: Turn, *options: str) -> str:
        """Run Codex once, with what the turn says for a model; returns what it told of the run, a JSON a line."""
        return self.run(*self.codex_command(models, prompt, turn, *options), LOOPBACK_KEY="not-a-key")

    def codex_command(self, models: FakeModels, prompt: str, turn: Turn, *options: str) -> Sequence[str]:
        """What runs Codex once; `LOOPBACK_KEY` is to be anything."""
        models.turn = turn
        settings = {
            "model": "scripted",
            "model_provider": "loopback",
            "model_providers.loopback.name": "loopback",
            "model_providers.loopback.base_url": f"{models.url}/v1",
            "model_providers.loopback.wire_api": "responses",
            "model_providers.loopback.env_key": "LOOPBACK_KEY",
            "model_providers.loopback.supports_websockets": False,
            "analytics.enabled": False,
            "check_for_update_on_startup": False,
            "mcp_servers.alg.required": True,  # wait for the server rather than go on without it after a second
            "mcp_servers.alg.default_tools_approval_mode": "approve",
        }
        given = [part for key, value in settings.items() for part in ("-c", f"{key}={json.dumps(value)}")]
        return ("codex", "exec", "--json", *given, *options, prompt)

    def processes(self) -> dict[int, str]:
        """Living processes with this HOME, pid -> command line. Linux only."""
        mark = f"HOME={self.home}".encode()
        found: dict[int, str] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has ended, or is not ours to look at
        return found

    def wait_until(self, condition: Callable[[], bool], what: str, *, seconds: float = 20) -> None:
        """Poll until `condition()` holds; fails, naming `what`, after `seconds`."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"still waiting for {what} after {seconds} s; processes: {self.processes()}")
            time.sleep(0.05)


def refuse(reason: str) -> NoReturn:
    """Skip, or fail where the clients must be there."""
    if os.environ.get("ALG_REQUIRE_CLIENTS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of the installed client programs."""
    folder = NODE / "node_modules" / ".bin"
    missing = [name for name in ("claude", "codex", "conformance", "mcp-inspector") if not (folder / name).exists()]
    if missing:
        refuse(f"not installed: {', '.join(missing)}; {INSTALL}")
    return folder


@contextmanager
def machine(programs: Path) -> Generator[Person]:
    """An empty machine; its hub is stopped and its files are removed afterwards."""
    # Not tmp_path: a hub's socket must fit in some 100 bytes, and clients keep files that pytest would collect.
    root = Path(tempfile.mkdtemp(prefix="alg-clients-"))
    home, work = root / "home", root / "work"
    home.mkdir()
    work.mkdir()
    with socket.socket() as nobody:
        # A bound port that does not listen refuses every connection: whoever needs more than loopback fails.
        nobody.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        path = [NODE / "bin", programs, ALG.parent, os.environ.get("PATH", os.defpath)]
        env = {
            "HOME": str(home),
            "PATH": os.pathsep.join(str(part) for part in path),
            "TMPDIR": str(root),
            "LANG": "C.UTF-8",
            "CLAUDE_CONFIG_DIR": str(home / ".claude"),
            "CODEX_HOME": str(home / ".codex"),
            "HTTP_PROXY": proxy,
            "HTTPS_PROXY": proxy,
            "ALL_PROXY": proxy,
            "NO_PROXY": "127.0.0.1,localhost",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "DISABLE_TELEMETRY": "1",
        }
        (home / ".codex").mkdir()
        someone = Person(home, work, env)
        try:
            yield someone
        finally:
            if (home / ".adaptive-llm-gateway").exists():
                subprocess.run([ALG, "hub", "stop"], env=env, capture_output=True, timeout=30, check=False)
            for pid in someone.processes():
                os.kill(pid, signal.SIGKILL)  # only what a failing test left: the others see to their own end
            shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="module")
def person(programs: Path) -> Iterator[Person]:
    """Somebody with one machine."""
    with machine(programs) as someone:
        yield someone


@pytest.fixture(scope="module")
def two_people(programs: Path) -> Iterator[tuple[Person, Person]]:
    """Two machines that have nothing in common."""
    with machine(programs) as one, machine(programs) as other:
        yield one, other
