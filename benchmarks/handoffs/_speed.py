"""How long it takes to offer work and to claim it, on a home of 10,000 memories, without a remote and with one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _bench import Bench
from _client import INITIALIZE, Client, text_of
from _corpus import SEED, sentences_by_subject
from _measure import Row, milliseconds, row, say
from _scale_home import embed_prose, prepared, size_of
from _scenarios import mode_of

BUDGET = 2_000
_TARGET_MS = 60.0
_MODEL_SECONDS = 300.0
_FILES, _CHANGED = 300, 4


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured; `chunks` of that many make a home of a little more than 10,000 memories."""

    chunks: int = 15_000
    already: int = 100
    rounds: int = 100
    warm_up: int = 5
    remote_rounds: int = 40
    whole: bool = True


QUICK = Amount(chunks=300, already=4, rounds=3, warm_up=1, remote_rounds=2, whole=False)


@dataclass(frozen=True, slots=True)
class _Place:
    """A client that offers, one that claims, and what they work with."""

    offers: Client
    claims: Client
    work: dict[str, Any]
    prose: list[str]
    dice: random.Random

    def offer(self) -> dict[str, Any]:
        """Arguments of `handoff_create`: an objective and a page on how the work stands."""
        query: str = self.work["queries"].pop()
        return {
            "objective": f"Finish what was begun on {query}",
            "next_action": self.dice.choice(self.prose),
            "state": "\n\n".join(self.dice.sample(self.prose, 12)),
            "open_questions": self.dice.sample(self.prose, 2),
            "constraints": self.dice.sample(self.prose, 2),
        }

    def note(self) -> dict[str, Any]:
        """Arguments of `memory_write`, of a note as long as an offer."""
        return {"title": self.dice.choice(self.prose)[:80], "body": "\n\n".join(self.dice.sample(self.prose, 12))}


def local(root: Path, cache: Path, amount: Amount) -> list[Row]:
    """Without a remote: claims are this hub's."""
    bench, work, home = _made(root, cache, amount)
    times: dict[str, list[float]] = {}
    with _hub(bench, home):
        place = _place(bench, home, root / "work", work, amount)
        with place.offers, place.claims:
            offered: list[str] = []
            for number in range(-amount.warm_up, amount.rounds):
                into = times if number >= 0 else {}
                _fsync(root / "floor", into.setdefault("fsync", []))
                with milliseconds(into.setdefault("ping", [])):
                    place.offers.request("ping")
                _timed(place.offers, into, "memory_write", place.note())
                offered.append(_id(_timed(place.offers, into, "handoff_create", place.offer())))
            # Whoever claims does so long after: the vectors of what was offered are there.
            _until_complete(bench, home)
            for number, id in enumerate(offered, -amount.warm_up):
                into = times if number >= 0 else {}
                asked = {"query": place.work["queries"].pop(), "budget_tokens": BUDGET}
                _timed(place.offers, into, "memory_context", asked)
                package = _timed(place.claims, into, "handoff_claim", {"id": id, "budget_tokens": BUDGET})
                assert f"Handoff {id} is yours" in package
            for number, id in enumerate(offered, -amount.warm_up):
                into = times if number >= 0 else {}
                _timed(place.claims, into, "handoff_update", {"id": id, "text": place.dice.choice(place.prose)})
                _timed(place.claims, into, "handoff_list", {})
                _timed(place.claims, into, "handoff_complete", {"id": id, "result": place.dice.choice(place.prose)})
    fsync = row("2 kB written to a file, fsync", "ms", times["fsync"], of="floor")
    nothing = row("no-op request through stdio", "ms", times["ping"], of="floor")
    write = row("`memory_write` of a note", "ms", times["memory_write"], of="floor", against=fsync)
    context = row("`memory_context`, 2,000 tokens", "ms", times["memory_context"], of="floor")
    note = (
        f"through stdio, {work['memories']:,} memories and {amount.already:,} handoffs in the home, hybrid search, "
        f"clients in a git repository of {_FILES} files"
    )
    return [
        row("`handoff_create`", "ms", times["handoff_create"], target=_TARGET_MS, against=write, note=note),
        row(
            "`handoff_claim`, package of 2,000 tokens",
            "ms",
            times["handoff_claim"],
            target=_TARGET_MS,
            against=context,
            note="a claim is a durable write and a package",
        ),
        row("`handoff_update`", "ms", times["handoff_update"], against=write),
        row("`handoff_complete`", "ms", times["handoff_complete"], against=write),
        row("`handoff_list`", "ms", times["handoff_list"]),
        write,
        context,
        nothing,
        fsync,
    ]


def remote(root: Path, cache: Path, amount: Amount) -> list[Row]:
    """With a bare remote on the same disk: claims are confirmed by a push."""
    bench, work, home = _made(root, cache, amount)
    bare, clone = root / "remote.git", root / "clone"
    _git(bench, root, "init", "--quiet", "--bare", "--initial-branch=main", str(bare))
    with (home / "config.yaml").open("a", encoding="utf-8") as config:
        config.write(f"\nsync:\n  remote: {bare}\n")
    times: dict[str, list[float]] = {}
    with _hub(bench, home):
        place = _place(bench, home, root / "work", work, amount)
        with place.offers, place.claims:
            place.offers.call("memory_push")
            _git(bench, root, "clone", "--quiet", "--no-local", str(bare), str(clone))
            for number in range(-amount.warm_up, amount.remote_rounds):
                into = times if number >= 0 else {}
                id = _id(_timed(place.offers, into, "handoff_create", place.offer()))
                _timed(place.claims, into, "handoff_claim", {"id": id, "budget_tokens": BUDGET})
                _timed(place.claims, into, "handoff_complete", {"id": id, "result": place.dice.choice(place.prose)})
                _git(bench, clone, "pull", "--quiet", "--ff-only")
                _git(bench, clone, "commit", "--quiet", "--allow-empty", "--message", "Nothing")
                with milliseconds(into.setdefault("git", [])):
                    _git(bench, clone, "fetch", "--quiet", "origin")
                    _git(bench, clone, "push", "--quiet", "origin", "HEAD")
    floor = row(
        "`git fetch` and `git push` of one commit",
        "ms",
        times["git"],
        of="floor",
        note="two processes of git, and those that they start",
    )
    note = "each has to fetch what another clone pushed"
    return [
        row(
            "with a remote: `handoff_create`",
            "ms",
            times["handoff_create"],
            against=floor,
            note="answers when its push has ended, or after 3 s",
        ),
        row(
            "with a remote: `handoff_claim`, package of 2,000 tokens",
            "ms",
            times["handoff_claim"],
            against=floor,
            note=note,
        ),
        row("with a remote: `handoff_complete`", "ms", times["handoff_complete"], against=floor),
        floor,
    ]


# -- parts of it ---------------------------------------------------------------------------------------------------


def _made(root: Path, cache: Path, amount: Amount) -> tuple[Bench, dict[str, Any], Path]:
    """A copy of the home of so many memories, which is built once."""
    bench = Bench(root / "bench", size_of(0))
    sentences = _sentences(amount)
    kept = prepared(bench, amount.chunks, embed_prose(sentences, cache), cache)
    home = root / "home"
    shutil.copytree(kept / "home", home)
    bench.git(home, "status", "--porcelain")  # the copies' inodes are new to git's index
    work: dict[str, Any] = json.loads((kept / "work.json").read_text("utf-8"))
    return bench, work, home


def _sentences(amount: Amount) -> dict[str, list[str]]:
    sentences = sentences_by_subject(whole=amount.whole)
    if amount.whole:
        return sentences
    return {name: lines[:12] for name, lines in list(sentences.items())[:25]}


@contextlib.contextmanager
def _hub(bench: Bench, home: Path) -> Generator[None]:
    bench.run(home, "hub", "start")
    try:
        yield
    finally:
        bench.run(home, "hub", "stop")


def _place(bench: Bench, home: Path, folder: Path, work: dict[str, Any], amount: Amount) -> _Place:
    """Two clients in a repository, search hybrid, and so many handoffs offered."""
    prose = [line for lines in _sentences(amount).values() for line in lines]
    _repository(bench, folder, prose)
    clients: list[Client] = []
    for name in ("claude-code", "codex"):
        client = Client([str(bench.alg), "serve", "--home", str(home)], env=bench.env, handshake=False, cwd=folder)
        client.request("initialize", {**INITIALIZE, "clientInfo": {"name": name, "version": "1"}})
        client.notify("notifications/initialized")
        clients.append(client)
    place = _Place(clients[0], clients[1], work, prose, random.Random(SEED))
    deadline = time.monotonic() + _MODEL_SECONDS
    while mode_of(place.offers.call("memory_search", query="warm up")) != "hybrid":
        if time.monotonic() > deadline:
            raise RuntimeError("search did not become hybrid")
        time.sleep(0.05)
    say(f"offering {amount.already:,} handoffs")
    for _ in range(amount.already):
        place.offers.call("handoff_create", **place.offer())
    _until_complete(bench, home)
    return place


def _until_complete(bench: Bench, home: Path) -> None:
    """Wait until everything has its vector."""
    deadline = time.monotonic() + _MODEL_SECONDS
    while (vectors := bench.status(home)["vectors"])[0] != vectors[1]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"vectors are not complete: {vectors}")
        time.sleep(0.5)


def _repository(bench: Bench, folder: Path, prose: list[str]) -> None:
    """Where the clients work: files in a repository, some of them changed."""
    (folder / "src").mkdir(parents=True)
    files = [folder / "src" / f"part{number}.txt" for number in range(_FILES)]
    for number, file in enumerate(files):
        file.write_text("\n".join(prose[number : number + 20]), "utf-8")
    _git(bench, folder, "init", "--quiet")
    _git(bench, folder, "add", "--all")
    _git(bench, folder, "commit", "--quiet", "--message", "The work")
    for file in files[:_CHANGED]:
        file.write_text("changed\n", "utf-8")


def _timed(client: Client, times: dict[str, list[float]], tool: str, arguments: dict[str, Any]) -> str:
    """Call a tool; its text."""
    number, line = client.prepare_call(tool, **arguments)
    with milliseconds(times.setdefault(tool, [])):
        result = client.exchange(number, line)
    return text_of(result)


def _id(text: str) -> str:
    return text.split(" id ", 1)[1][:26]


def _fsync(file: Path, times: list[float]) -> None:
    with milliseconds(times), file.open("wb") as opened:
        opened.write(b"x" * 2_000)
        opened.flush()
        os.fsync(opened.fileno())


def _git(bench: Bench, folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], env=bench.env, check=True, stdout=subprocess.DEVNULL)
