"""Where the scenarios run: a temporary folder with homes of so many memories, and real hubs on them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _client import Client
from _corpus import COUNT, SEED, Corpus
from _measure import say

_BUILD_SECONDS = 7_200.0
_WRITES = 4_000
_QUERIES = 1_000


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; the smaller one is for trying out, its numbers mean nothing."""

    memories: int = COUNT
    starts: int = 40
    cold_starts: int = 10
    writes: int = 300
    commits: int = 30
    rounds: int = 5
    clients: int = 8
    writes_per_client: int = 100
    pings_per_client: int = 250
    searches: int = 300
    further_clients: int = 20
    pause: float = 5.0  # seconds of quiet between loading a home and measuring on it
    whole_corpus: bool = True


QUICK = Size(
    memories=200,
    starts=3,
    cold_starts=2,
    writes=10,
    commits=3,
    rounds=2,
    clients=3,
    writes_per_client=5,
    pings_per_client=10,
    searches=10,
    further_clients=3,
    pause=0.0,
    whole_corpus=False,
)


@dataclass(slots=True)
class Bench:
    """One run.

    Attributes:
        root: temporary folder; everything lies in it.
        cache: where prepared homes are kept for later runs; None: nowhere.
    """

    root: Path
    size: Size
    cache: Path | None = None
    env: dict[str, str] = field(init=False)
    alg: Path = field(init=False)
    _prepared: Path | None = None
    _numbers: int = 0

    def __post_init__(self) -> None:
        user = self.root / "user"
        user.mkdir(parents=True)
        config = user / ".gitconfig"
        config.write_text(
            "[user]\n\tname = Bench\n\temail = bench@example.org\n[init]\n\tdefaultBranch = main\n", "utf-8"
        )
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ALG_", "ADAPTIVE_LLM_GATEWAY", "GIT_", "PYTHON", "XDG_"))
        }
        self.env = {**kept, "HOME": str(user), "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": str(config)}
        self.alg = Path(sys.executable).with_name("alg")

    # -- homes -------------------------------------------------------------------------------------------------

    def home(self) -> Path:
        """A fresh copy of the prepared home, in which nobody has written yet."""
        self._numbers += 1
        copy = self.root / f"home{self._numbers}"
        shutil.copytree(self.prepared() / "home", copy)
        self.git(copy, "status", "--porcelain")  # the copies' inodes are new to git's index
        return copy

    def queries(self) -> list[str]:
        """Different queries; the first 20 are for warming up."""
        return json.loads((self.prepared() / "work.json").read_text("utf-8"))["queries"]

    def writes(self) -> list[dict[str, Any]]:
        """Arguments of `memory_write`, unlike each other and what is stored."""
        return json.loads((self.prepared() / "work.json").read_text("utf-8"))["writes"]

    def prepared(self) -> Path:
        """The folder with the home of `size.memories` memories, built once: indexed, and every vector there."""
        if self._prepared is None:
            corpus = Path(__file__).with_name("_corpus.py").read_bytes()
            facts = [self.size.memories, self.size.whole_corpus, SEED, platform.python_version()]
            key = hashlib.sha256(corpus + json.dumps(facts).encode()).hexdigest()[:12]
            kept = self.cache / f"home-{self.size.memories}-{key}" if self.cache else None
            folder = self.root / "prepared"
            if kept is not None and kept.exists():
                shutil.copytree(kept, folder)
            else:
                self._generate(folder)
            with self.hub(folder / "home"):  # a kept home may be of an older version
                pass
            if kept is not None and not kept.exists():
                shutil.copytree(folder, kept)
            self._prepared = folder
        return self._prepared

    def _generate(self, folder: Path) -> None:
        home = folder / "home"
        self.run(home, "init", "--yes")
        self.run(home, "hub", "stop")
        say(f"writing {self.size.memories:,} memories")
        corpus = Corpus(whole=self.size.whole_corpus)
        memories = list(corpus.memories(self.size.memories))
        for memory in memories:
            path = home / "memory" / memory.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(memory.text, "utf-8")
        self.git(home, "add", "--all")
        self.git(
            home, "-c", "gc.auto=0", "commit", "--quiet", "--no-verify", "--message", "Load the benchmark's memories"
        )
        self.git(home, "gc", "--quiet")
        writes = [
            {
                "type": "note" if memory.type == "session" else memory.type,
                "title": memory.title,
                "body": memory.body,
                "tags": list(memory.tags),
                "project": memory.project,
            }
            for memory in corpus.memories(_WRITES)
        ]
        work = {"queries": corpus.queries(memories, _QUERIES), "writes": writes}
        (folder / "work.json").write_text(json.dumps(work), "utf-8")

    # -- processes ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def hub(self, home: Path, **settings: str) -> Generator[int]:
        """A hub on `home` whose index is ready and whose vectors are complete; its pid. Stopped afterwards.

        Args:
            settings: `EMBEDDER__KIND="none"` and the like.
        """
        extra = {f"ALG_{name}": value for name, value in settings.items()}
        self.run(home, "hub", "start", **extra)
        try:
            self._wait_ready(home, vectors="EMBEDDER__KIND" not in settings)
            yield self.hub_pid(home)
        finally:
            self.run(home, "hub", "stop")

    def hub_pid(self, home: Path) -> int:
        """The process id of the hub of `home`."""
        return int(json.loads(self.run(home, "hub", "status", "--json"))["pid"])

    def _wait_ready(self, home: Path, *, vectors: bool) -> None:
        deadline = time.monotonic() + _BUILD_SECONDS
        said = time.monotonic()
        pause = 0.2
        while time.monotonic() < deadline:
            status = self.status(home)
            done, total = status["vectors"]
            if status["skipped"]:
                raise RuntimeError(f"the index skipped {status['skipped'][:3]}")
            indexed = status["index"] == "ready" and status["memories"] >= self.size.memories
            if indexed and (not vectors or (total and done == total and status["search"] == "hybrid")):
                return
            if time.monotonic() - said > 10:
                say(f"indexing: {status['memories']:,} memories, {done:,} of {total:,} vectors")
                said = time.monotonic()
            time.sleep(pause)
            pause = min(5.0, 1.5 * pause)  # asking costs the machine a process
        raise RuntimeError(f"the index was not ready within {_BUILD_SECONDS:.0f} s: {self.status(home)}")

    def status(self, home: Path) -> dict[str, Any]:
        """`alg memory status`."""
        return json.loads(self.run(home, "memory", "status", "--json"))

    def client(self, home: Path, *, handshake: bool = True, env: Mapping[str, str] | None = None) -> Client:
        """A client with its own shim, started as the registration lines start it."""
        command = [str(self.alg), "serve", "--home", str(home)]
        return Client(command, env={**self.env, **(env or {})}, handshake=handshake)

    def run(self, home: Path, *arguments: str, **env: str) -> str:
        """Run `alg`; its stdout."""
        command = [str(self.alg), "--home", str(home), *arguments]
        done = subprocess.run(command, env={**self.env, **env}, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"alg {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def git(self, home: Path, *arguments: str) -> str:
        """Run git in the memory repo of `home`; its stdout."""
        command = ["git", "-C", str(home / "memory"), *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=True).stdout
