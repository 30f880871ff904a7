"""The index in PostgreSQL beside the one in SQLite, in one run.

    python benchmarks/postgres_index.py --url postgresql://user@host/database --chunks 10000 100000

Both get the same memories (see `_corpus.py`) and vectors, and answer the same queries, one after the other, straight
through the index: no hub, no embedding. A vector is one of two thousand centres with noise, which is about as crowded
as real ones are. Processor time is that of
this process and of the server's, where it runs on this machine. The schema is dropped at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from _corpus import Corpus
from _measure import load_average, machine, say

from adaptive_llm_gateway.memory import PostgresConfig
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._index_postgres import PostgresIndex
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Filters, Record

_DIMENSIONS = 384
_CENTRES = 2_000
_NOISE = 1.1  # length of the noise beside a unit vector
_BATCH = 200
_TIMED = 2_000  # vectors whose rate is measured, as the index takes them one after the other
_SCHEMA = "alg_benchmark"
_WAYS = {
    "words": Filters(),
    "words and vectors": Filters(),
    "with a project": Filters(project="atlas"),
    "with a tag": Filters(tags=("cache",)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="of a database in which a schema may be made")
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "sizes": {}}
    print("| chunks | index | what | p50 ms | p95 ms | processor ms |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="alg-postgres-") as folder:
        report["machine"] = machine(Path(folder))
        for size in options.chunks:
            report["sizes"][size] = _one_size(size, options.searches, options.url, Path(folder))
    report["load_average"] = load_average()
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def _one_size(size: int, searches: int, url: str, folder: Path) -> dict[str, Any]:
    corpus = Corpus(whole=True)
    types, _ = TypeRegistry.load(folder / "types")
    made = list(corpus.memories(int(size / 1.35)))
    records = [
        types.to_record(
            Document.parse(memory.text.encode(), where=memory.path),
            path=memory.path, version="0" * 40, mtime_ns=0, size=len(memory.text),
        )
        for memory in made
    ]  # fmt: skip
    queries = corpus.queries(made, searches)
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(_CENTRES, _DIMENSIONS)).astype(np.float32) / np.float32(np.sqrt(_DIMENSIONS))
    vectors = _around(centres, searches, rng)
    found: dict[str, Any] = {}
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE".encode())
        try:
            with Index(folder / f"{size}.db") as sqlite:
                found["sqlite"] = _measured("sqlite", sqlite, records, centres, queries, vectors, None)
            with PostgresIndex(PostgresConfig(url, _SCHEMA)) as postgres:
                found["postgres"] = _measured("postgres", postgres, records, centres, queries, vectors, admin)
        finally:
            admin.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE".encode())
    return found


def _measured(
    name: str,
    index: MemoryIndex,
    records: list[Record],
    centres: np.ndarray[Any, Any],
    queries: list[str],
    vectors: np.ndarray[Any, Any],
    admin: psycopg.Connection[Any] | None,
) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    index.set_embedder("benchmark", _DIMENSIONS)
    begun = time.perf_counter()
    for start in range(0, len(records), _BATCH):
        index.apply(records[start : start + _BATCH])
    written = time.perf_counter() - begun
    begun = time.perf_counter()
    embedded = _fill(index, centres, rng, _TIMED) / (time.perf_counter() - begun)
    # What one by one would take long is done at once: here the searches count.
    index_of_vectors = _without_index(admin)
    _fill(index, centres, rng, sys.maxsize)
    if admin is not None and index_of_vectors:
        admin.execute(index_of_vectors.encode())
    index.tidy()
    counts = index.statistics()
    single: list[float] = []
    for record in records[: min(100, len(records))]:
        begun = time.perf_counter()
        index.apply([record])
        single.append((time.perf_counter() - begun) * 1_000)
    rate = len(records) / written
    say(
        f"{name}: {counts['chunks']} chunks, {counts['bytes'] / 1e6:.0f} MB; {rate:.0f} memories/s by the {_BATCH}, "
        f"{embedded:.0f} vectors/s; one write {statistics.median(single):.1f} ms"
    )
    report: dict[str, Any] = {
        "chunks": counts["chunks"],
        "bytes": counts["bytes"],
        "memories_per_second": rate,
        "vectors_per_second": embedded,
        "write_ms": statistics.median(single),
        "searches": {},
    }
    for way, filters in _WAYS.items():
        times: list[float] = []
        busy = 0.0
        for _ in range(2):  # the first warms up
            busy = _processor(admin)
            times = []
            for query, vector in zip(queries, vectors, strict=True):
                begun = time.perf_counter()
                index.search(query, vector=None if way == "words" else vector, filters=filters)
                times.append((time.perf_counter() - begun) * 1_000)
            busy = (_processor(admin) - busy) / len(queries) * 1_000
        quantiles = statistics.quantiles(times, n=20)
        report["searches"][way] = {"p50": statistics.median(times), "p95": quantiles[18], "processor": busy}
        print(
            f"| {counts['chunks']:,} | {name} | {way} | {statistics.median(times):.1f} | {quantiles[18]:.1f} "
            f"| {busy:.1f} |",
            flush=True,
        )
    return report


def _fill(index: MemoryIndex, centres: np.ndarray[Any, Any], rng: np.random.Generator, most: int) -> int:
    """Give so many chunks their vectors; how many had none."""
    done = 0
    while done < most and (backlog := index.backlog(_BATCH)):
        made = _around(centres, len(backlog), rng)
        index.store_vectors([(chunk, row) for (chunk, _), row in zip(backlog, made, strict=True)])
        done += len(backlog)
    return done


def _without_index(admin: psycopg.Connection[Any] | None) -> str | None:
    """Drop the index of vectors; the statement that makes it anew."""
    if admin is None:
        return None
    where = f"schemaname = '{_SCHEMA}' AND indexname = 'vectors_near'"
    [(statement,)] = admin.execute(f"SELECT indexdef FROM pg_indexes WHERE {where}".encode()).fetchall()  # noqa: S608
    admin.execute(f"DROP INDEX {_SCHEMA}.vectors_near".encode())
    return statement


def _around(centres: np.ndarray[Any, Any], count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    noise = rng.normal(size=(count, _DIMENSIONS)) * (_NOISE / np.sqrt(_DIMENSIONS))
    made = centres[rng.integers(0, len(centres), count)] + noise
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def _processor(admin: psycopg.Connection[Any] | None) -> float:
    """Seconds of processor time so far, the server's processes of this program included where they can be seen."""
    total = time.process_time()
    if admin is not None:
        for (pid,) in admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'adaptive-llm-gateway'"
        ).fetchall():
            stat = Path(f"/proc/{pid}/stat")
            if stat.exists():
                fields = stat.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
                total += (int(fields[11]) + int(fields[12])) / 100
    return total


if __name__ == "__main__":
    sys.exit(main())
