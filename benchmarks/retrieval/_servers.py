"""Servers driven through MCP over stdio, ours and others, on the same units and questions.

Each haystack gets a store of its own and the server a process of its own. Every unit is written as the server's own
kind of memory; when the server says that it has taken all in, every question is asked once in each mode.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from _client import INITIALIZE, Client, Failed
from _datasets import DATASETS
from _measure import say
from _server_ours import Ours
from _server_peers import MarkdownVault, MemoryService
from _summary import counts, made, summary, times
from _units import Haystack, Question
from _ways import Outcome, outcome

SETS = ("locomo-turns", "locomo-pooled", "longmemeval", "beam")  # those that servers are measured on
_SAMPLED = ("longmemeval", "beam")  # a haystack of these takes a server minutes
_STARTS = 5


Start = tuple[Callable[[], object], Callable[[], Client]]  # what is done first, untimed; gives a client unshaken


class Loaded(Protocol):
    """A store with a haystack in it and its server running."""

    @property
    def per_second(self) -> float:
        """Units written through the server's tool and findable, a second."""
        ...

    def ask(self, question: Question, mode: str) -> list[str]:
        """Keys of units, best first."""
        ...

    def memory(self) -> float:
        """Resident MB of all its processes."""
        ...

    def commands(self) -> Mapping[str, Start]:
        """Ways to start the server on this store."""
        ...

    def close(self) -> None:
        """End the processes."""
        ...


class Server(Protocol):
    """An installed server."""

    @property
    def version(self) -> str:
        """As the package says."""
        ...

    @property
    def note(self) -> str:
        """What a reader must know, sentences."""
        ...

    @property
    def modes(self) -> tuple[str, ...]:
        """Of its search, the first being the one to look at."""
        ...

    def load(self, haystack: Haystack, folder: Path) -> Loaded:
        """A store with the haystack in it, in a folder for it alone that is not there yet."""
        ...


SERVERS: dict[str, Callable[[Path, Path | None], Server]] = {
    "ours": Ours,
    "markdown-vault-mcp": MarkdownVault,
    "mcp-memory-service": MemoryService,
}


@dataclass(slots=True)
class _Part:
    """What is collected over the haystacks of a set."""

    outcomes: dict[str, list[Outcome]] = field(default_factory=dict[str, list[Outcome]])
    memory: float = 0.0
    per_second: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])


def nothing() -> dict[str, Any]:
    """What is known of a server before it is measured."""
    return {"version": None, "note": "", "sets": {}, "starts": {}, "failed": None}


def measure_all(
    name: str,
    sets: Mapping[str, Sequence[Haystack]],
    measured: dict[str, Any],
    folder: Path,
    cache: Path | None,
    *,
    sample: int,
    quick: bool,
) -> Generator[None]:
    """One server on these sets; yields after each. A failure ends it and is told, with what was measured before.

    Args:
        measured: from `nothing`, or of an earlier run; is added to.
        folder: for stores.
        cache: keeps what was installed; None: nowhere.
        sample: haystacks of those sets that have many long ones.
    """
    measured["failed"] = None
    folder = folder / name
    folder.mkdir(parents=True)
    try:
        if sets:
            say(f"{name}: installing")
            server = SERVERS[name](folder / "installed", cache)
            measured["version"] = server.version
            for set_name, haystacks in sets.items():
                chosen = _sample(haystacks, sample) if set_name in _SAMPLED else haystacks
                about = made()
                part = _measure_set(name, server, set_name, chosen, folder, measured, quick=quick)
                measured["sets"][set_name] = {**about, **part}
                measured["note"] = server.note
                yield
    except (Failed, OSError, subprocess.SubprocessError, LookupError, ValueError, RuntimeError) as error:
        measured["failed"] = f"{type(error).__name__}: {error}"[-1_500:]
        say(f"{name} failed: {measured['failed']}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure_set(
    name: str,
    server: Server,
    set_name: str,
    haystacks: Sequence[Haystack],
    folder: Path,
    measured: dict[str, Any],
    *,
    quick: bool,
) -> dict[str, Any]:
    part = _Part()
    largest = max(haystacks, key=lambda haystack: sum(len(unit.body) for unit in haystack.units))
    start = time.monotonic()
    for place, haystack in enumerate(haystacks):
        store = folder / f"{set_name}-{place}"
        with _loaded(server, haystack, store) as loaded:
            for mode in server.modes:
                part.outcomes.setdefault(mode, []).extend(_ask_all(loaded, haystack, mode))
            if haystack is largest:
                part.memory = loaded.memory()
            part.per_second.append((len(haystack.units), loaded.per_second))
            if not measured["starts"] and haystack is largest:
                measured["starts"] = _starts(loaded, 2 if quick else _STARTS)
        shutil.rmtree(store, ignore_errors=True)
        say(f"{name}, {set_name}: {place + 1} of {len(haystacks)}, {time.monotonic() - start:.0f} s")
    return {
        "title": DATASETS[set_name].title,
        "shown": list(DATASETS[set_name].shown),
        **counts(haystacks),
        "modes": {mode: summary(rows) for mode, rows in part.outcomes.items()},
        "memory_mb": round(part.memory, 1),
        "per_second": round(
            sum(units for units, _ in part.per_second) / sum(units / rate for units, rate in part.per_second), 2
        ),
    }


@contextlib.contextmanager
def _loaded(server: Server, haystack: Haystack, store: Path) -> Generator[Loaded]:
    loaded = server.load(haystack, store)
    try:
        yield loaded
    finally:
        loaded.close()


def _ask_all(loaded: Loaded, haystack: Haystack, mode: str) -> list[Outcome]:
    outcomes: list[Outcome] = []
    loaded.ask(Question("warm up: what was said?", frozenset(["-"]), "-", "tune"), mode)
    for question in haystack.questions:
        start = time.perf_counter()
        found = loaded.ask(question, mode)
        outcomes.append(outcome(question, found, (time.perf_counter() - start) * 1e3))
    return outcomes


def _starts(loaded: Loaded, count: int) -> dict[str, dict[str, float]]:
    measured: dict[str, dict[str, float]] = {}
    for what, (before, begin) in loaded.commands().items():
        samples: list[float] = []
        for _ in range(count):
            before()
            start = time.perf_counter()
            client = begin()
            client.request("initialize", INITIALIZE)
            client.notify("notifications/initialized")
            client.request("tools/list")
            samples.append((time.perf_counter() - start) * 1e3)
            client.close()
        measured[what] = times(samples)
    return measured


def _sample(haystacks: Sequence[Haystack], count: int) -> list[Haystack]:
    """The first of those held out, in the order of the digests of their questions."""
    held_out = [haystack for haystack in haystacks if haystack.questions[0].part == "held out"] or list(haystacks)
    return sorted(held_out, key=lambda item: hashlib.sha256(item.questions[0].text.encode()).digest())[:count]
