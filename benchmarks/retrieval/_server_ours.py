"""Our own server, driven like the others: a client with its shim, and the hub behind it."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from _bench import Bench, Size
from _client import Client, Failed
from _measure import memory_of, tree_memory_of
from _metrics import DEPTH
from _units import Haystack, Question, Unit

_ID = re.compile(r"\bid ([0-9A-HJKMNP-TV-Z]{26})\b")
_SETTLE_SECONDS = 3_600.0


class Ours:
    """The hub with its defaults. Units lie in the memory repo as files, with their dates and authors."""

    modes = ("hybrid",)

    def __init__(self, folder: Path, cache: Path | None) -> None:
        del cache
        self.version = metadata.version("adaptive-llm-gateway")
        self._bench = Bench(folder, Size())
        self._refused = self._written = 0

    @property
    def note(self) -> str:
        """What a reader must know."""
        refused = (
            f"; {self._refused:,} of {self._written:,} were refused, because they look like secrets"
            if self._refused
            else ""
        )
        return (
            "one hub for all clients, git and fsync at every write. Quality, times and memory are of homes whose "
            "memories were there as files; writing is timed through memory_write until every vector is there"
            f"{refused}."
        )

    def load(self, haystack: Haystack, folder: Path) -> _Home:
        """See `Server.load`."""
        rate = self._write_rate(haystack, folder.with_name(f"{folder.name}-written"))
        home = _Home(self._bench, folder, rate)
        try:
            home.fill(haystack)
        except BaseException:
            home.close()
            raise
        return home

    def _write_rate(self, haystack: Haystack, folder: Path) -> float:
        home = _Home(self._bench, folder, 0.0)
        try:
            home.start()
            written = 0
            start = time.perf_counter()
            for unit in haystack.units:
                try:
                    home.client.call("memory_write", body=unit.dated)
                    written += 1
                except Failed as error:
                    if "secret" not in str(error):
                        raise
                    self._refused += 1
            home.settle(written)
            self._written += len(haystack.units)
            return written / (time.perf_counter() - start)
        finally:
            home.close()
            shutil.rmtree(folder, ignore_errors=True)


class _Home:
    """A home and its hub; see `Loaded`."""

    client: Client

    def __init__(self, bench: Bench, folder: Path, per_second: float) -> None:
        self._bench, self._folder = bench, folder
        self._hub = 0
        self.per_second = per_second
        bench.run(folder, "init", "--yes")
        bench.run(folder, "hub", "stop")

    def fill(self, haystack: Haystack) -> None:
        for unit in haystack.units:
            path = self._folder / "memory" / f"{unit.type}s" / f"{unit.time:%Y/%m}" / f"{unit.key.lower()}.md"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_file(unit), "utf-8")
        self._bench.git(self._folder, "add", "--all")
        self._bench.git(self._folder, "commit", "--quiet", "--no-verify", "--message", "Load a haystack")
        self.start()
        self.settle(len(haystack.units))

    def start(self) -> None:
        self._bench.run(self._folder, "hub", "start")
        self._hub = self._bench.hub_pid(self._folder)
        self.client = self._bench.client(self._folder)

    def settle(self, count: int) -> None:
        deadline = time.monotonic() + _SETTLE_SECONDS
        pause, status = 0.1, dict[str, Any]()
        while time.monotonic() < deadline:
            status = self._bench.status(self._folder)
            done, total = status["vectors"]
            if status["skipped"]:
                raise Failed(f"the index skipped {status['skipped'][:3]}")
            if status["index"] == "ready" and status["memories"] >= count and done == total:
                return
            time.sleep(pause)
            pause = min(1.0, 1.5 * pause)  # asking costs the machine a process
        raise Failed(f"the hub had not taken in {count} memories within {_SETTLE_SECONDS:.0f} s: {status}")

    def ask(self, question: Question, mode: str) -> list[str]:
        text = self.client.call("memory_search", query=question.text, limit=DEPTH)
        if mode not in text.partition("\n")[0]:
            raise Failed(f"the search was not {mode}: {text[:200]}")
        return _ID.findall(text)

    def memory(self) -> float:
        return memory_of(self._hub).rss + tree_memory_of(self.client.process.pid).rss

    def commands(self) -> dict[str, tuple[Callable[[], object], Callable[[], Client]]]:
        def shim() -> Client:
            return self._bench.client(self._folder, handshake=False)

        def stop() -> None:
            self._bench.run(self._folder, "hub", "stop")

        return {"hub running": (lambda: None, shim), "no hub running": (stop, shim)}

    def close(self) -> None:
        if self._hub:
            self.client.close()
        self._bench.run(self._folder, "hub", "stop")


def _file(unit: Unit) -> str:
    """The unit as a memory file."""
    moment = f"{unit.time:%Y-%m-%dT%H:%M:%S.000Z}"
    head = [f"id: {unit.key}", f"type: {unit.type}", 'title: ""', f"created: {moment}", f"updated: {moment}"]
    head += [f"author:\n  client: {json.dumps(unit.author)}", *([f"source: {unit.source}"] if unit.source else [])]
    return "---\n" + "\n".join(head) + f"\n---\n{unit.body}\n"
