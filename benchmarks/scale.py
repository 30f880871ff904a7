"""Search on homes of 10,000 to 1,000,000 chunks: `python benchmarks/scale.py --chunks 10000 100000 1000000`.

Each home is built once (see `_scale_home.py`) and searched through the hub: a client over stdio, its shim, the socket,
the query's embedding, everything. Beside the times stand what the hub holds in memory, the index's size, the rate of a
bulk import with its vectors, how long searches take meanwhile, and how many of the truly nearest the search by sign
bits finds among real vectors.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _bench import Bench
from _client import Client, text_of
from _corpus import Corpus
from _measure import Row, as_json, load_average, machine, memory_of, milliseconds, row, say
from _scale_home import Prose, embed_prose, prepared, read_prose, size_of
from _scenarios import mode_of
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._vectors import VectorCache, quantise

_TARGETS = {10_000: (8.0, 15.0), 100_000: (20.0, 40.0), 1_000_000: (80.0, 150.0)}  # p50 and p95, ms
_MEMORY_TARGET = 1_500.0
_RATE_TARGET = 200.0
_RECALL_TARGET = 99.0
_WARM_UP = 30
_SEED_OF_IMPORT = 7  # other memories than the home has
_NEAREST = 10
_FILTERS: dict[str, dict[str, Any]] = {
    "by project": {"project": "atlas"},
    "by type": {"type": "note"},
    "by tag": {"tags": ["cache"]},
    "of the last month": {"since": "2026-10-20"},
}


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for."""
    options = _options(arguments)
    options.cache.mkdir(parents=True, exist_ok=True)
    sentences = read_prose(options.prose, whole=not options.quick)
    if options.quick:
        sentences = {name: lines[:12] for name, lines in itertools.islice(sentences.items(), 25)}
    prose = embed_prose(sentences, options.cache)
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "quick": options.quick,
        "prose": "a file of one's own" if options.prose else "the standard library's documentation",
        "machine": machine(options.cache),
        "load_average": {"before": load_average()},
        "scenarios": {},
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="alg-scale-", ignore_cleanup_errors=True) as folder:
        for chunks in options.chunks:
            rows += _searches(Path(folder), chunks, prose, options)
        if options.importing:
            rows += _import(Path(folder), options, prose)
    if options.recall:
        rows += _recall(prose, options)
    report["load_average"]["after"] = load_average()
    report["rows"] = as_json(rows)
    text = json.dumps(report, indent=2) + "\n"
    if options.json:
        options.json.write_text(text, "utf-8")
    for item in rows:
        met = "" if item.met is None else " (reached)" if item.met else f" (target {item.target:g})"
        print(f"{item.what}, {item.unit}: {item.median:g}, p95 {item.p95:g}, {item.min:g} to {item.max:g}{met}")
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure search on homes of many chunks.")
    parser.add_argument("--chunks", nargs="*", type=int, default=[10_000, 100_000, 1_000_000], metavar="N")
    parser.add_argument("--searches", type=int, default=300, help="of each kind")
    parser.add_argument(
        "--import", dest="importing", type=int, default=0, metavar="N", help="memories to import in bulk"
    )
    parser.add_argument("--into", type=int, default=10_000, metavar="N", help="chunks of the home that they go into")
    parser.add_argument("--recall", action="store_true", help="recall of the approximate search among real vectors")
    parser.add_argument(
        "--vectors",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="more real vectors for --recall (.npy, n x d)",
    )
    parser.add_argument("--queries", type=Path, metavar="FILE", help="vectors of queries for --recall (.npy)")
    parser.add_argument("--prose", type=Path, metavar="FILE", help="a sentence a line, subjects parted by empty lines")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "alg-scale-homes", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--quick", action="store_true", help="little prose: to try out, not to quote")
    return parser.parse_args(arguments)


# --- Search -----------------------------------------------------------------------------------------------------


def _searches(root: Path, chunks: int, prose: Prose, options: argparse.Namespace) -> list[Row]:
    bench = Bench(root / f"bench-{chunks}", size_of(0))
    folder = prepared(bench, chunks, prose, options.cache)
    home = folder / "home"
    work = json.loads((folder / "work.json").read_text("utf-8"))
    warm, queries = work["queries"][:_WARM_UP], work["queries"][_WARM_UP : _WARM_UP + options.searches]
    name = f"{chunks:,} chunks"
    say(f"searching {work['chunks']:,} chunks of {work['memories']:,} memories")
    p50, p95 = _TARGETS.get(chunks, (None, None))
    rows: list[Row] = []
    started = time.perf_counter()
    bench.run(home, "hub", "start")
    try:
        with bench.client(home) as client:
            first = _until_hybrid(client, started)
            _complete(bench, home)
            rows.append(row(f"{name}: start of the hub to the first hybrid answer", "ms", [first]))
            pid = bench.hub_pid(home)
            for query in warm:
                client.call("memory_search", query=query)
            times = _times(client, queries)
            rows.append(row(f"{name}: hybrid search", "ms", times, target=p50, note=f"p95 to reach: {p95} ms"))
            rows.append(row(f"{name}: the same queries again", "ms", _times(client, queries)))
            for what, filters in _FILTERS.items():
                found = _times(client, queries[: options.searches // 3], **filters)
                rows.append(row(f"{name}: hybrid search {what}", "ms", found))
            _complete(bench, home)
            held = memory_of(pid)
            rows.append(row(f"{name}: memory of the hub, resident", "MB", [held.rss], target=_MEMORY_TARGET))
            if held.pss is not None:
                rows.append(row(f"{name}: memory of the hub, proportional", "MB", [held.pss]))
        rows.append(row(f"{name}: index file", "MB", [(home / "index.db").stat().st_size / 2**20]))
    finally:
        bench.run(home, "hub", "stop")
    bench.run(home, "hub", "start", ALG_EMBEDDER__KIND="none")
    try:
        with bench.client(home) as client:
            for query in warm:
                client.call("memory_search", query=query)
            rows.append(row(f"{name}: lexical search", "ms", _times(client, queries, mode="lexical")))
    finally:
        bench.run(home, "hub", "stop")
    return rows


def _until_hybrid(client: Client, started: float) -> float:
    """Milliseconds since `started` until a search is hybrid."""
    deadline = time.monotonic() + 300
    while mode_of(client.call("memory_search", query="warm up")) != "hybrid":
        if time.monotonic() > deadline:
            raise RuntimeError("search did not become hybrid")
        time.sleep(0.05)
    return (time.perf_counter() - started) * 1_000


def _complete(bench: Bench, home: Path) -> None:
    """See that every chunk has its vector: a hub that computes some meanwhile searches more slowly."""
    have, total = bench.status(home)["vectors"]
    if have != total:
        raise RuntimeError(f"the home has {have:,} of {total:,} vectors")


def _times(client: Client, queries: Sequence[str], *, mode: str = "hybrid", **filters: Any) -> list[float]:
    times: list[float] = []
    for query in queries:
        number, line = client.prepare_call("memory_search", query=query, **filters)
        with milliseconds(times):
            result = client.exchange(number, line)
        if mode_of(text_of(result)) != mode:
            raise RuntimeError(f"the search for {query!r} was not {mode}")
    return times


# --- Bulk import ------------------------------------------------------------------------------------------------


def _import(root: Path, options: argparse.Namespace, prose: Prose) -> list[Row]:
    """Import short memories and wait for their vectors, searching all the while."""
    bench = Bench(root / "bench-import", size_of(0))
    folder = prepared(bench, options.into, prose, options.cache)
    home = root / "import-home"
    shutil.copytree(folder / "home", home)
    bench.git(home, "status", "--porcelain")
    corpus = Corpus(_SEED_OF_IMPORT, prose=prose.sentences)
    source = root / "import"
    source.mkdir()
    lengths: list[int] = []
    for number, memory in enumerate(corpus.memories(options.importing)):
        body = _short(memory.body, 130 + number % 370)
        lengths.append(len(body))
        (source / f"{number}.md").write_text(f"# {memory.title}\n\n{body}", "utf-8")
    queries = json.loads((folder / "work.json").read_text("utf-8"))["queries"]
    say(f"importing {options.importing:,} memories")
    with bench.hub(home), bench.client(home) as client, bench.client(home) as other:
        for query in queries[:_WARM_UP]:
            client.call("memory_search", query=query)
        before = bench.status(home)["vectors"]
        during: list[float] = []
        done = threading.Event()

        def search() -> None:
            number = _WARM_UP
            while not done.is_set():
                during.extend(_times(client, [queries[number % len(queries)]]))
                number += 1
                done.wait(0.25)

        searcher = threading.Thread(target=search)
        searcher.start()
        try:
            start = time.perf_counter()
            bench.run(home, "memory", "import", "--kind", "markdown", str(source))
            stored = time.perf_counter() - start
            while True:
                have, total = bench.status(home)["vectors"]
                if have == total and total >= before[1] + options.importing:
                    break
                time.sleep(0.3)
            whole = time.perf_counter() - start
        finally:
            done.set()
            searcher.join(60)
        other.call("memory_search", query="one more")
    mean = sum(lengths) / len(lengths)
    note = f"{options.importing:,} memories of {mean:.0f} characters on average, searched all the while"
    return [
        row("bulk import, vectors included", "/s", [options.importing / whole], target=_RATE_TARGET, note=note),
        row("bulk import, until everything is stored", "/s", [options.importing / stored]),
        row("hybrid search during the import", "ms", during),
    ]


def _short(body: str, length: int) -> str:
    return body[:length].rsplit(" ", 1)[0] + "\n"


# --- Recall -----------------------------------------------------------------------------------------------------


def _recall(prose: Prose, options: argparse.Namespace) -> list[Row]:
    """Share of the exactly nearest among what the search by sign bits and int8 codes gives, real vectors only."""
    own = np.array(list(prose.vectors.values()), np.float32)
    parts: list[NDArray[np.float32]] = [own, *(np.load(file).astype(np.float32) for file in options.vectors)]
    matrix = np.concatenate(parts)
    chosen = np.random.default_rng(1).choice(len(own), min(300, len(own)), replace=False)
    queries = np.load(options.queries).astype(np.float32) if options.queries else own[chosen]
    cache = VectorCache(matrix.shape[1])
    for start in range(0, len(matrix), 10_000):
        part = matrix[start : start + 10_000]
        ids = range(start + 1, start + 1 + len(part))
        cache.add(ids, ids, quantise(part))
    shares: dict[str, list[float]] = {"sign bits and int8": [], "int8 codes alone": []}
    codes = quantise(matrix).astype(np.float32)
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    for query in queries:
        scores = matrix @ query
        least = np.partition(scores, -_NEAREST)[-_NEAREST] - 1e-6  # of two alike either is right
        found = cache.nearest(query, 200).chunks[:_NEAREST] - 1
        shares["sign bits and int8"].append(100.0 * int(np.count_nonzero(scores[found] >= least)) / _NEAREST)
        coded = np.argpartition(-(codes @ query), _NEAREST)[:_NEAREST]
        shares["int8 codes alone"].append(100.0 * int(np.count_nonzero(scores[coded] >= least)) / _NEAREST)
    return [
        row(
            f"recall@{_NEAREST} of {name} among {len(matrix):,} real vectors, mean",
            "%",
            [sum(values) / len(values)],
            target=_RECALL_TARGET if name.startswith("sign") else None,
            note=f"{len(queries)} queries; exact is float32",
        )
        for name, values in shares.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
