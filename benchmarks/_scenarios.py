"""The scenarios of the numbers table: each returns its rows, with a floor measured in the same run."""

from __future__ import annotations

import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
from _bench import Bench
from _client import INITIALIZE, Client, Failed, text_of
from _measure import ProcessMemory, Row, load_average, memory_of, milliseconds, row, say

from adaptive_llm_gateway.memory._sql import fetch_all

_WARM_UP = 20
_STOP_WORDS = frozenset(
    re.findall(r"\w+", "a about an and are as at be do for from how in is it know of on or that the to we what with")
)


def shim(bench: Bench) -> list[Row]:
    """A client's start while the hub runs."""
    home = bench.home()
    relay = [sys.executable, "-I", "-S", str(Path(__file__).with_name("_relay.py")), str(home / "hub.sock")]
    times: dict[str, list[float]] = {"shim": [], "relay": [], "python": []}
    resident: dict[str, list[float]] = {"shim": [], "relay": []}
    proportional: list[float] = []
    with bench.hub(home):
        for turn in range(bench.size.starts + 1):
            taken: list[float] = []
            for name in ("shim", "relay"):
                with milliseconds(taken):
                    if name == "shim":
                        client = bench.client(home, handshake=False)
                    else:
                        client = Client(relay, env=bench.env, handshake=False)
                    client.request("initialize", INITIALIZE)
                client.request("tools/list")
                memory = memory_of(client.process.pid)
                client.close()
                if turn:  # the first one warms the disk cache
                    times[name].append(taken[-1])
                    resident[name].append(memory.rss)
                    if name == "shim" and memory.pss is not None:
                        proportional.append(memory.pss)
            with milliseconds(times["python"]):
                os.waitpid(os.posix_spawn(sys.executable, [sys.executable, "-I", "-S", "-c", ""], bench.env), 0)
    floor = row("bare relay: start to `initialize` answered", "ms", times["relay"], of="floor")
    python = row("`python -I -S -c ''`: start to end", "ms", times["python"], of="floor")
    small = row("bare relay: resident memory", "MB", resident["relay"], of="floor")
    rows = [
        row("shim: start to `initialize` answered, hub running", "ms", times["shim"], target=50, against=floor),
        floor,
        python,
        row("shim: resident memory", "MB", resident["shim"], target=15, against=small),
        small,
    ]
    if proportional:
        rows.insert(4, row("shim: proportional memory (PSS)", "MB", proportional))
    return rows


def cold(bench: Bench) -> list[Row]:
    """A client's start while no hub runs, disk cache warm."""
    home = bench.home()
    listed: list[float] = []
    initialized: list[float] = []
    searched: list[float] = []
    modes: list[str] = []
    bare: list[float] = []
    queries = bench.queries()
    for turn in range(bench.size.cold_starts + 1):
        with milliseconds(bare):
            floor_client = Client([sys.executable, str(Path(__file__).with_name("_sdk_server.py"))], env=bench.env)
            floor_client.request("tools/list")
        floor_client.close()
        start = time.perf_counter()
        with bench.client(home, handshake=False) as client:
            client.initialize()
            initialized.append((time.perf_counter() - start) * 1_000)
            client.request("tools/list")
            listed.append((time.perf_counter() - start) * 1_000)
            modes.append(mode_of(client.call("memory_search", query=queries[turn])))
            searched.append((time.perf_counter() - start) * 1_000)
        bench.run(home, "hub", "stop")
    lexical = modes[1:].count("lexical")
    floor = row("MCP SDK server with one tool: start to `tools/list` answered", "ms", bare[1:], of="floor")
    return [
        row("hub and shim: start to `tools/list` answered", "ms", listed[1:], target=2_000, against=floor),
        floor,
        row("hub and shim: start to `initialize` answered", "ms", initialized[1:]),
        row(
            "hub and shim: start to first search answered",
            "ms",
            searched[1:],
            note=f"{lexical} of {len(modes) - 1} of them lexical, because the model was still loading",
        ),
    ]


def write(bench: Bench) -> list[Row]:
    """One durable write after the other."""
    home, other = bench.home(), bench.home()
    writes = bench.writes()
    plain = _plain_writes(other / "memory", writes[: bench.size.writes])
    git = _git_commits(bench, other, writes[: bench.size.commits])
    times: list[float] = []
    committed = 0
    with bench.hub(home):
        time.sleep(bench.size.pause)
        with bench.client(home) as client:
            for arguments in writes[:_WARM_UP]:
                client.call("memory_write", **arguments)
            for arguments in writes[_WARM_UP : _WARM_UP + bench.size.writes]:
                number, line = client.prepare_call("memory_write", **arguments)
                with milliseconds(times):
                    result = client.exchange(number, line)
                committed += "\ncommitted " in text_of(result)
    share = 100 * committed / len(times)
    note = "sequential, varied bodies, through stdio"
    return [
        row("durable write, answered", "ms", times, target=10, against=plain, note=note),
        row("answers that say `committed`", "%", [share], note="the others are durable on disk and in the index"),
        plain,
        git,
    ]


def _plain_writes(folder: Path, writes: Sequence[dict[str, Any]]) -> Row:
    times: list[float] = []
    target = folder / "notes" / "floor"
    target.mkdir(parents=True)
    for number, arguments in enumerate(writes):
        data = arguments["body"].encode()
        with milliseconds(times):
            temp = target / f"{number}.tmp"
            with temp.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temp.replace(target / f"{number}.md")
            handle = os.open(target, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
    return row("file written, fsync, renamed, folder fsync", "ms", times, of="floor")


def _git_commits(bench: Bench, home: Path, writes: Sequence[dict[str, Any]]) -> Row:
    times: list[float] = []
    target = home / "memory" / "notes" / "git"
    target.mkdir(parents=True)
    bench.git(home, "config", "core.hooksPath", os.devnull)
    bench.git(home, "config", "gc.auto", "0")
    for number, arguments in enumerate(writes):
        (target / f"{number}.md").write_text(arguments["body"], "utf-8")
        with milliseconds(times):
            bench.git(home, "add", f"notes/git/{number}.md")
            bench.git(home, "commit", "--quiet", "--message", "One file")
    return row("`git add` and `git commit` of one file, same repo", "ms", times, of="floor", note="no fsync by default")


def clients(bench: Bench) -> list[Row]:
    """Several clients that write at once."""
    home = bench.home()
    size = bench.size
    writes = bench.writes()
    random.Random(1).shuffle(writes)
    rates: list[float] = []
    pings: list[float] = []
    settled: list[float] = []
    latencies: list[float] = []
    total = 0
    with bench.hub(home):
        time.sleep(size.pause)
        before = _counts(bench, home)
        connected = [bench.client(home) for _ in range(size.clients)]
        try:
            for _ in range(size.rounds):
                part = [[client.prepare("ping") for _ in range(size.pings_per_client)] for client in connected]
                pings.append(_at_once(connected, part)[0])
                part.clear()
                for client in connected:
                    chosen = [writes[(total + number) % len(writes)] for number in range(size.writes_per_client)]
                    part.append([client.prepare_call("memory_write", **arguments) for arguments in chosen])
                    total += size.writes_per_client
                rate, times = _at_once(connected, part)
                rates.append(rate)
                latencies += times
                start = time.perf_counter()
                while bench.status(home)["uncommitted"]:
                    time.sleep(0.02)
                settled.append((time.perf_counter() - start) * 1_000)
        finally:
            for client in connected:
                client.close()
        after = _counts(bench, home)
    kept = {name: after[name] - before[name] for name in after}
    if any(count != total for count in kept.values()):
        raise Failed(f"{total} writes were acknowledged, but these arrived: {kept}")
    floor = row(f"no-op requests a second through {size.clients} shims", "/s", pings, of="floor")
    note = f"{total:,} of {total:,} found afterwards in files, git and index"
    return [
        row(f"writes a second, {size.clients} clients at once", "/s", rates, target=400, against=floor, note=note),
        row(f"one of these writes, {size.clients} clients at once", "ms", latencies),
        row("last answer to everything committed", "ms", settled, note="includes one `alg memory status`"),
        floor,
    ]


def _counts(bench: Bench, home: Path) -> dict[str, int]:
    names = bench.git(home, "ls-tree", "-r", "--name-only", "-z", "HEAD").split("\0")
    files = 0
    for _, folders, found in os.walk(home / "memory"):
        folders[:] = [name for name in folders if name != ".git"]  # git removes folders in there while it packs
        files += sum(name.endswith(".md") for name in found)
    return {
        "git": sum(name.endswith(".md") for name in names),
        "files": files,
        "index": int(bench.status(home)["memories"]),
    }


def _at_once(connected: Sequence[Client], requests: Sequence[Sequence[tuple[int, bytes]]]) -> tuple[float, list[float]]:
    """Every client sends its requests one after the other, all at once: (requests a second, milliseconds of each)."""
    ready = threading.Barrier(len(connected) + 1)
    times: list[list[float]] = [[] for _ in connected]
    results: list[list[dict[str, Any]]] = [[] for _ in connected]

    def drive(place: int) -> None:
        ready.wait()
        for number, line in requests[place]:
            with milliseconds(times[place]):
                results[place].append(connected[place].exchange(number, line))

    threads = [threading.Thread(target=drive, args=(place,)) for place in range(len(connected))]
    for thread in threads:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    count = sum(map(len, requests))
    if sum(map(len, results)) != count:
        raise Failed(f"{sum(map(len, results))} of {count} requests were answered")
    for result in (result for part in results for result in part if "content" in result):
        text_of(result)  # raises when the tool failed
    return count / seconds, [value for part in times for value in part]


def search(bench: Bench) -> list[Row]:
    """One search after the other, no query twice."""
    home = bench.home()
    queries = bench.queries()
    warm, measured = queries[:_WARM_UP], queries[_WARM_UP : _WARM_UP + bench.size.searches]
    times: dict[str, list[float]] = {}
    noop: list[float] = []
    for mode, settings in (("hybrid", {}), ("lexical", {"EMBEDDER__KIND": "none"})):
        with bench.hub(home, **settings):
            time.sleep(bench.size.pause)
            with bench.client(home) as client:
                times[mode] = _searches(client, warm, measured, mode)
                for _ in measured:
                    number, line = client.prepare("ping")
                    with milliseconds(noop):
                        client.exchange(number, line)
    floor, embedding = _fts5(home / "index.db", warm, measured), _embedding(warm, measured)
    ping = row("no-op request through stdio", "ms", noop, of="floor")
    return [
        row("hybrid search, query embedding included", "ms", times["hybrid"], target=8, against=floor),
        row("lexical search", "ms", times["lexical"], target=2.5, against=floor),
        floor,
        embedding,
        ping,
    ]


def _searches(client: Client, warm: Sequence[str], measured: Sequence[str], mode: str) -> list[float]:
    times: list[float] = []
    for query in warm:
        client.call("memory_search", query=query)
    for query in measured:
        number, line = client.prepare_call("memory_search", query=query)
        with milliseconds(times):
            result = client.exchange(number, line)
        found = mode_of(text_of(result))
        if found != mode:
            raise Failed(f"the search for {query!r} was {found}, not {mode}")
    return times


def mode_of(text: str) -> str:
    """What a search's answer says of itself."""
    found = re.search(r"\((hybrid|lexical) search\)", text)
    if found is None:
        raise Failed(f"no search answer: {text[:200]!r}")
    return found[1]


def _fts5(index: Path, warm: Sequence[str], measured: Sequence[str]) -> Row:
    """The same queries as bare FTS5 on the same file: any of their words but stop words, the ten best with text."""
    connection = apsw.Connection(str(index), flags=apsw.SQLITE_OPEN_READONLY)
    statement = (
        "SELECT m.id, m.title, b.body FROM "
        "(SELECT rowid, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT 10) w "
        "JOIN chunks c ON c.id = w.rowid JOIN memories m ON m.rowid = c.memory JOIN bodies b ON b.memory = c.memory"
    )
    times: list[float] = []
    for number, query in enumerate([*warm, *measured]):
        words = [word for word in re.findall(r"\w+", query.lower()) if word not in _STOP_WORDS]
        match = " OR ".join(f'"{word}"' for word in words)
        with milliseconds(times):
            fetch_all(connection, statement, (match,))
        if number < len(warm):
            times.clear()
    connection.close()
    return row("FTS5 alone in process, same file and queries", "ms", times, of="floor")


def _embedding(warm: Sequence[str], measured: Sequence[str]) -> Row:
    from adaptive_llm_gateway.memory import EmbedderConfig, create_embedder  # noqa: PLC0415 - after the hub's runs

    embedder = create_embedder(EmbedderConfig())
    assert embedder is not None
    embedder.load()
    times: list[float] = []
    for query in warm:
        embedder.embed_query(query)
    for query in measured:
        with milliseconds(times):
            embedder.embed_query(query)
    embedder.close()
    return row("query embedding alone, in process", "ms", times, of="floor")


def memory(bench: Bench) -> list[Row]:
    """What the processes hold."""
    home = bench.home()
    size = bench.size
    queries, writes = bench.queries(), bench.writes()
    searches = min(size.searches, 200)
    rows: list[Row] = []
    with bench.hub(home) as pid:
        rows += _hub_memory(pid, "hub at rest, model loaded", target=None)
        with bench.client(home) as client:
            for query in queries[:searches]:
                client.call("memory_search", query=query)
            rows += _hub_memory(pid, f"hub after {searches} searches", target=300)
            for arguments in writes[: min(size.writes, 200)]:
                client.call("memory_write", **arguments)
            _wait_vectors(bench, home)
            rows += _hub_memory(pid, f"hub after {min(size.writes, 200)} more writes, vectors done", target=300)
        before = memory_of(pid)
        connected = [bench.client(home) for _ in range(size.further_clients)]
        try:
            for client in connected:
                client.request("tools/list")
                client.call("memory_search", query=queries[0])
            after = memory_of(pid)
            shims = [memory_of(client.process.pid) for client in connected]
        finally:
            for client in connected:
                client.close()
    grown = (after.rss - before.rss) / len(connected)
    each = [part.rss + max(0.0, grown) for part in shims]
    rows.append(row("each further client: shim and growth of the hub, resident", "MB", each, target=15))
    rows.append(row("... of it growth of the hub", "MB", [grown], note=f"mean over {len(connected)} clients"))
    if all(part.pss is not None for part in shims):
        rows.append(row("... its shim, proportional (PSS)", "MB", [part.pss or 0.0 for part in shims]))
    return rows


def _hub_memory(pid: int, what: str, *, target: float | None) -> list[Row]:
    samples: list[ProcessMemory] = []
    for _ in range(5):
        samples.append(memory_of(pid))
        time.sleep(0.2)
    rows = [row(f"{what}: resident", "MB", [sample.rss for sample in samples], target=target)]
    shares = [sample.pss for sample in samples if sample.pss is not None]
    if shares:
        rows.append(row(f"{what}: proportional (PSS)", "MB", shares))
    return rows


def _wait_vectors(bench: Bench, home: Path) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        done, total = bench.status(home)["vectors"]
        if done == total:
            return
        time.sleep(0.5)
    raise Failed("the vectors did not become complete")


SCENARIOS: dict[str, Callable[[Bench], list[Row]]] = {
    "shim": shim,
    "cold": cold,
    "write": write,
    "clients": clients,
    "search": search,
    "memory": memory,
}
TITLES = {
    "shim": "A client starts, the hub is running",
    "cold": "A client starts, no hub is running",
    "write": "One durable write",
    "clients": "Clients that write at once",
    "search": "Search",
    "memory": "Memory",
}


def measure(bench: Bench, name: str) -> tuple[list[Row], dict[str, Any]]:
    """Run one scenario: its rows, and whether it failed and how loaded the machine was."""
    before = load_average()
    start = time.monotonic()
    rows: list[Row] = []
    failed = None
    try:
        rows = SCENARIOS[name](bench)
    except (Failed, RuntimeError, OSError) as error:
        failed = f"{type(error).__name__}: {error}"
        say(f"{name} failed: {failed}")
    for item in rows:
        say(f"  {item.what}: median {item.median} {item.unit} (min {item.min}, p95 {item.p95}, max {item.max})")
    return rows, {
        "failed": failed,
        "load_average": {"before": before, "after": load_average()},
        "seconds": round(time.monotonic() - start, 1),
    }
