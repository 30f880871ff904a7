"""Where it is measured: a home of so many memories, its hub with HTTP, and the floors; all real processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from _bench import Bench
from _corpus import sentences_by_subject
from _scale_home import embed_prose, prepared, size_of
from _wire import Calls, Target

_HERE = Path(__file__).resolve().parent
_WAIT = 300.0
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured.

    Attributes:
        chunks: of the home; a memory has about one and a half.
        rounds: in which every server has its turn.
        seconds: of one turn.
        rate: searches a second that are asked for.
        clients: connections that search.
        idle: connections that do nothing.
        minutes: of the mixed load.
        mixed_rate: its requests a second.
    """

    chunks: int = 15_000
    rounds: int = 5
    seconds: float = 4.0
    search_seconds: float = 15.0
    rate: float = 300.0
    clients: int = 50
    idle: int = 1_000
    minutes: float = 10.0
    mixed_rate: float = 60.0
    whole: bool = True


QUICK = Amount(
    chunks=150,
    rounds=1,
    seconds=2.0,
    search_seconds=2.0,
    rate=20.0,
    clients=4,
    idle=20,
    minutes=0.1,
    mixed_rate=20.0,
    whole=False,
)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs, and how it is reached."""

    pid: int
    target: Target

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        parts = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / _TICK

    def handles(self) -> int:
        """Its open files and sockets."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())


@dataclass(slots=True)
class Place:
    """Homes for one run, all copies of one.

    Args:
        root: temporary folder.
        cache: where the home is kept for later runs, too.
    """

    root: Path
    cache: Path
    amount: Amount
    bench: Bench = field(init=False)
    work: dict[str, Any] = field(init=False)
    _numbers: int = 0

    def __post_init__(self) -> None:
        self.bench = Bench(self.root / "bench", size_of(0))
        sentences = sentences_by_subject(whole=self.amount.whole)
        if not self.amount.whole:
            sentences = {name: lines[:12] for name, lines in list(sentences.items())[:25]}
        self._kept = prepared(self.bench, self.amount.chunks, embed_prose(sentences, self.cache), self.cache)
        self.work = json.loads((self._kept / "work.json").read_text("utf-8"))

    _kept: Path = field(init=False)

    @property
    def queries(self) -> list[str]:
        """Different from each other."""
        return self.work["queries"]

    @contextlib.contextmanager
    def hub(self) -> Generator[Server]:
        """A hub on a fresh copy, whose search is hybrid; its client may do everything, as often as it likes."""
        self._numbers += 1
        home = self.root / f"home{self._numbers}"
        shutil.copytree(self._kept / "home", home)
        self.bench.git(home, "status", "--porcelain")  # the copies' inodes are new to git's index
        file = home / "config.yaml"
        configured: dict[str, Any] = (yaml.safe_load(file.read_text("utf-8")) if file.exists() else None) or {}
        configured["http"] = {"enabled": True, "port": 0, "max_event_streams_per_client": self.amount.idle}
        configured["hub"] = {"idle_minutes": 0}
        file.write_text(yaml.safe_dump(configured), "utf-8")
        with _process(self.bench, "_hub.py", str(home)) as process:
            server = Server(process.pid, self._let_in(home))
            self._until_hybrid(server)
            yield server

    def _let_in(self, home: Path) -> Target:
        """Where the hub listens, and a token for it."""
        deadline = time.monotonic() + _WAIT
        while True:
            with contextlib.suppress(RuntimeError):
                found: dict[str, Any] = json.loads(self.bench.run(home, "hub", "status", "--json"))
                url: str | None = found["http"]["url"] if found["running"] else None
                if url is not None and found["store"] == "open":
                    break
            if time.monotonic() > deadline:
                raise RuntimeError("the hub does not listen by HTTP")
            time.sleep(0.2)
        scopes = ("memory:read", "memory:write", "handoff", "gateway", "admin")
        given = [part for scope in scopes for part in ("--scope", scope)]
        added = self.bench.run(home, "clients", "add", "benchmark", *given, "--rate", "unlimited", "--json")
        port = urlsplit(url).port
        if port is None:
            raise RuntimeError(f"the hub listens at {url}")
        return Target(port, json.loads(added)["token"])

    def _until_hybrid(self, server: Server) -> None:
        calls = Calls(server.target, "2026-07-28")
        deadline = time.monotonic() + _WAIT
        while "(hybrid search)" not in calls.answer("memory_search", {"query": "warm up"}):
            if time.monotonic() > deadline:
                raise RuntimeError("search did not become hybrid")
            time.sleep(0.1)

    @contextlib.contextmanager
    def floor(self, kind: Literal["sdk", "bare"]) -> Generator[Server]:
        """One of the floors."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with _process(self.bench, "_floor.py", kind, str(port)) as process:
            deadline = time.monotonic() + _WAIT
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the floor {kind!r} does not listen")
                time.sleep(0.05)
            yield Server(process.pid, Target(port))


@contextlib.contextmanager
def _process(bench: Bench, script: str, *arguments: str) -> Generator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, str(_HERE / script), *arguments],
        env=bench.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
