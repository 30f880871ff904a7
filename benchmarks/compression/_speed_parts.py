"""The parts of `speed.py`: packages, the tool, compaction, memory."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import _ways
from _bench import Bench
from _client import Client, text_of
from _corpus import Corpus, sentences_by_subject
from _headroom import TextCrusher
from _measure import Row, memory_of, milliseconds, row, say
from _scale_home import embed_prose, prepared, read_prose, size_of
from _scenarios import mode_of
from _units import Unit

from adaptive_llm_gateway.compression import Candidate, Entry, build_package, compact, counter_for
from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._sessions import entries_of, entry_of

BUDGET = 2_000
_CANDIDATES = 200
_MEMORY_CHILD = Path(__file__).with_name("_memory_child.py")
_WARM_UP = 5
_SEED = 20_261_122
_MODEL_SECONDS = 300.0
_REPEATED = 20  # packages after the first one whose memory is looked at
_PACKAGE_MS, _TOOL_MS, _COMPACTION_MS, _ADDED_MB = 40.0, 80.0, 2_000.0, 120.0
_TOPICS = ("the sign-in page", "the export", "the nightly job", "the search index", "the release notes", "the importer")


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured; `chunks` of that many make a home of a little more than 10,000 memories."""

    memories: int = 4_000
    packages: int = 200
    chunks: int = 15_000
    calls: int = 200
    log_tokens: int = 100_000
    compactions: int = 20
    processes: int = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what search found for it."""

    question: str
    candidates: tuple[Candidate, ...]


# --- Packages ---------------------------------------------------------------------------------------------------


def questions(path: Path, amount: Amount, *, whole: bool) -> list[Asked]:
    """Questions over generated memories that find 200 of them, those that find fewer left out; by words alone."""
    corpus = Corpus(prose=_prose(whole=whole))
    memories = list(corpus.memories(amount.memories))
    known = {memory.id: memory for memory in memories}
    found: list[Asked] = []
    with Index(path) as index:
        for memory in memories:
            index.apply([_ways.record(Unit(memory.id, "claude-code", _created(memory.text), memory.body))])
        for query in corpus.queries(memories, amount.packages * 20):
            hits = index.search(query, vector=None, limit=_CANDIDATES).hits
            if len(hits) == _CANDIDATES or not whole:
                about = [(hit, known[hit.record.id]) for hit in hits]
                candidates = tuple(
                    Candidate(
                        id=memory.id,
                        type=memory.type,
                        title=memory.title,
                        body=memory.body,
                        path=memory.path,
                        version=hit.record.version,
                        updated=hit.record.updated,
                        author=hit.record.author.client,
                        score=hit.score,
                        passages=(hit.lines,),
                    )
                    for hit, memory in about
                )
                found.append(Asked(query, candidates))
            if len(found) == amount.packages + _WARM_UP:
                break
    return found


def packages(asked: Sequence[Asked], crusher: TextCrusher | None) -> list[Row]:
    """A package for each question, the tokenizer warm."""
    counter = counter_for()
    times: list[float] = []
    counting: list[float] = []
    crushing: list[float] = []
    tokens: list[int] = []
    for number, one in enumerate(asked):
        warm = number < _WARM_UP
        with milliseconds([] if warm else times):
            package = build_package(one.question, one.candidates, BUDGET, counter=counter)
        assert package.used <= BUDGET
        with milliseconds([] if warm else counting):
            total = sum(counter.count(candidate.body) for candidate in one.candidates)
        tokens.append(total)
        if crusher is not None:
            crusher.load("\n".join(candidate.body for candidate in one.candidates), one.question)
            ms = crusher.crush(BUDGET / total).ms
            if not warm:
                crushing.append(ms)
    floor = row("counting the candidates' tokens once", "ms", counting, of="floor")
    note = f"{min(tokens):,} to {max(tokens):,} tokens in {_CANDIDATES} candidates"
    ours = row("package of 2,000 tokens", "ms", times, target=_PACKAGE_MS, against=floor, note=note)
    rows = [ours, floor]
    if crusher is not None:
        note = "crushed once, to a ratio that gives about as many tokens; in its own process, without the way there"
        rows.append(row(f"TextCrusher of {crusher.package}", "ms", crushing, of="peer", note=note))
    return rows


@cache
def _prose(*, whole: bool) -> dict[str, list[str]]:
    return sentences_by_subject(whole=whole)


def _created(text: str) -> datetime:
    line = next(line for line in text.splitlines() if line.startswith("created: "))
    return datetime.fromisoformat(line.partition(" ")[2].replace("Z", "+00:00"))


# --- Through the tool -------------------------------------------------------------------------------------------


def through_the_tool(root: Path, cache: Path, amount: Amount, prose: Path | None, *, quick: bool) -> list[Row]:
    """`memory_context` beside `memory_search`, by turns and never with a query that was asked before."""
    bench = Bench(root / "bench", size_of(0))
    sentences = read_prose(prose, whole=not quick)
    if quick:
        sentences = {name: lines[:12] for name, lines in list(sentences.items())[:25]}
    kept = prepared(bench, amount.chunks, embed_prose(sentences, cache), cache)
    work = json.loads((kept / "work.json").read_text("utf-8"))
    home = root / "home"
    shutil.copytree(kept / "home", home)
    bench.git(home, "status", "--porcelain")  # the copies' inodes are new to git's index
    queries: list[str] = work["queries"]
    say(f"asking a home of {work['memories']:,} memories")
    bench.run(home, "hub", "start")
    try:
        with bench.client(home) as client:
            _until_hybrid(client)
            before = memory_of(bench.hub_pid(home)).rss
            first: list[float] = []
            _call(client, first, "memory_context", query=queries.pop(), budget_tokens=BUDGET)
            grown = memory_of(bench.hub_pid(home)).rss - before
            for _ in range(_WARM_UP):
                _call(client, [], "memory_context", query=queries.pop(), budget_tokens=BUDGET)
                _call(client, [], "memory_search", query=queries.pop())
            contexts: list[float] = []
            searches: list[float] = []
            hundred: list[float] = []
            for _ in range(amount.calls):
                _call(client, contexts, "memory_context", query=queries.pop(), budget_tokens=BUDGET)
                _call(client, searches, "memory_search", query=queries.pop())
                _call(client, hundred, "memory_search", query=queries.pop(), limit=100)
            later = memory_of(bench.hub_pid(home)).rss - before
    finally:
        bench.run(home, "hub", "stop")
    floor = row("`memory_search`, 10 hits", "ms", searches, of="floor")
    wide = row("`memory_search`, 100 hits", "ms", hundred, of="floor", note="as many as a package looks at")
    note = (
        f"through stdio, from {work['memories']:,} memories ({work['chunks']:,} chunks), the query's embedding included"
    )
    ours = row("`memory_context`, 2,000 tokens", "ms", contexts, target=_TOOL_MS, against=floor, note=note)
    start = row("the hub's first `memory_context`", "ms", first, note="the tokenizer is loaded")
    rows = [ours, floor, wide, start]
    rows.append(row("growth of the hub by its first `memory_context`, resident", "MB", [grown], target=_ADDED_MB))
    note = f"by {amount.calls:,} packages and {2 * amount.calls:,} searches"
    return [*rows, row("growth of the hub after all of these, resident", "MB", [later], note=note)]


def _until_hybrid(client: Client) -> None:
    deadline = time.monotonic() + _MODEL_SECONDS
    while mode_of(client.call("memory_search", query="warm up")) != "hybrid":
        if time.monotonic() > deadline:
            raise RuntimeError("search did not become hybrid")
        time.sleep(0.05)


def _call(client: Client, times: list[float], tool: str, **arguments: Any) -> None:
    number, line = client.prepare_call(tool, **arguments)
    with milliseconds(times):
        result = client.exchange(number, line)
    assert text_of(result).strip()


# --- Compaction -------------------------------------------------------------------------------------------------


def compactions(root: Path, amount: Amount, *, whole: bool) -> list[Row]:
    """A session's log from its file to its summary."""
    counter = counter_for()
    path = root / "session.md"
    path.write_text(session_log(amount.log_tokens, counter.count, whole=whole), "utf-8")

    def read() -> list[Entry]:
        unit = Unit(new_ulid(), "chat", datetime(2026, 11, 20, 9, tzinfo=UTC), path.read_text("utf-8"))
        found = entries_of(_ways.record(unit))
        return [Entry(number, entry.time, entry.author, entry.text) for number, entry in enumerate(found, 1)]

    times: list[float] = []
    reading: list[float] = []
    counting: list[float] = []
    done = compact(read(), counter=counter, budget=BUDGET)
    for _ in range(amount.compactions):
        with milliseconds(times):
            done = compact(read(), counter=counter, budget=BUDGET)
        with milliseconds(reading):
            entries = read()
        with milliseconds(counting):
            sum(counter.count(entry.text) for entry in entries)
    assert done.used <= BUDGET
    floor = row("counting the log's tokens once", "ms", counting, of="floor")
    note = f"{done.entries:,} entries, {done.log_tokens:,} -> {done.used:,} tokens, {len(done.statements):,} statements"
    return [
        row(
            "the file read, its log compacted to 2,000 tokens",
            "ms",
            times,
            target=_COMPACTION_MS,
            against=floor,
            note=note,
        ),
        floor,
        row("reading the file and its entries", "ms", reading, of="floor"),
        row("tokens of the summary, of the log's", "%", [100 * done.used / done.log_tokens]),
    ]


def session_log(tokens: int, count: Callable[[str], int], *, whole: bool) -> str:
    """A log as clients append it, of so many tokens: prose, findings, decisions, changes, questions, code, steps."""
    dice = random.Random(_SEED)
    prose = [line for lines in _prose(whole=whole).values() for line in lines]
    moment = datetime(2026, 11, 20, 9, tzinfo=UTC)
    parts: list[str] = []
    total = 0
    while total < tokens:
        what, other = dice.sample(_TOPICS, 2)
        file = f"src/{dice.choice(('auth', 'export', 'jobs', 'search'))}/{dice.choice(('read', 'write', 'plan'))}.py"
        said = [
            f"The user wants {what} to work with {other}.",
            f"Found the cause: `{file}` keeps what {other} wrote {dice.randrange(2, 90)} days ago.",
            f"We decided to leave {other} alone, because {what} needs it until v{dice.randrange(20)}.0.",
            f"Changed {file}:{dice.randrange(400)} and committed as {dice.getrandbits(28):07x}.",
            f"Should {what} wait for {other}?",
            f"Next: describe {what} and the {dice.randrange(2, 30)} settings of {other}.",
            f"- [{dice.choice(' x')}] test {what} with {dice.randrange(2, 500)} entries",
            f"```python\nassert find({dice.randrange(999)}) == {dice.random():.3f}\n```",
        ]
        lines = dice.sample(prose, dice.randrange(3, 14)) + dice.sample(said, dice.randrange(1, 5))
        dice.shuffle(lines)
        text = "\n\n".join(lines)
        entry, _ = entry_of(moment, "claude-code", text)
        moment += timedelta(minutes=dice.randrange(1, 9))
        parts.append(entry)
        total += count(text)
    return "\n".join(parts)


# --- Memory -----------------------------------------------------------------------------------------------------


def memory(asked: Sequence[Asked], amount: Amount, crusher: TextCrusher | None) -> list[Row]:
    """What the first count and the first packages add to a process that has numpy, each time in a fresh one."""
    some = [
        {
            "question": one.question,
            "candidates": [{**asdict(each), "updated": each.updated.isoformat()} for each in one.candidates],
        }
        for one in asked[: 1 + _REPEATED]
    ]
    found: list[dict[str, float]] = []
    for _ in range(amount.processes):
        done = subprocess.run(
            [sys.executable, str(_MEMORY_CHILD), str(BUDGET)],
            input=json.dumps(some),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
            env=dict(os.environ),
        )
        found.append(json.loads(done.stdout))
    base = row("the process before, with numpy", "MB", [one["start"] for one in found], of="floor")
    rows = [
        row("added by the first count", "MB", [one["counted"] - one["start"] for one in found]),
        row(
            "added by it and the first package", "MB", [one["first"] - one["start"] for one in found], target=_ADDED_MB
        ),
        row(f"added by it and {_REPEATED} more", "MB", [one["more"] - one["start"] for one in found]),
        row("added at most, for a moment", "MB", [one["peak"] - one["start"] for one in found], target=_ADDED_MB),
        base,
    ]
    if crusher is not None:
        crusher.load("\n".join(candidate.body for candidate in asked[0].candidates), asked[0].question)
        added = crusher.crush(0.05).rss_mb - crusher.start_mb
        note = "import and all that it crushed in this run"
        rows.append(row(f"added by TextCrusher of {crusher.package}", "MB", [added], of="peer", note=note))
    return rows
