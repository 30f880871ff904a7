"""Does hybrid search find more than plain FTS5? Recall@10 on LoCoMo turns and BEAM messages, one configuration.

    python benchmarks/retrieval_check.py DATA_FOLDER [--json FILE]

DATA_FOLDER holds `locomo-dev.json`, `locomo-dev-corrections.json` and `beam-100k-dev.json.gz`; sets that are missing
are left out. Every turn or message becomes one memory with a fresh id, so that nothing of the answer key is indexed.
Recall is the share of a question's evidence among the first ten, averaged over questions (LoCoMo: categories 1-4).

Rows: `fts5` is FTS5 with the Porter stemmer over "author: text", all words of the question joined by OR; `lexical` is
our search without a vector; `hybrid` with one, by the model inside the package; `vector` ranks by its cosine alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import numpy as np

from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._sql import fetch_all, run, run_many
from adaptive_llm_gateway.memory._values import Author, Record

K = 10


@dataclass(frozen=True)
class Unit:
    """One turn or message."""

    key: str
    author: str
    text: str
    time: datetime


@dataclass(frozen=True)
class Haystack:
    """Units searched together, and the questions asked of them with their evidence."""

    name: str
    units: list[Unit]
    questions: list[tuple[str, frozenset[str]]]


def locomo(folder: Path) -> Iterator[Haystack]:
    conversations = json.loads((folder / "locomo-dev.json").read_text("utf-8"))
    corrections = {
        row["question_id"]: row["correct_evidence"]
        for row in json.loads((folder / "locomo-dev-corrections.json").read_text("utf-8"))
        if row.get("correct_evidence")
    }
    for number, item in enumerate(conversations):
        talk = item["conversation"]
        units: list[Unit] = []
        for session in sorted(
            (name for name in talk if re.fullmatch(r"session_\d+", name)), key=lambda name: int(name[8:])
        ):
            start = datetime.strptime(talk[f"{session}_date_time"], "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)
            for place, turn in enumerate(talk[session]):
                text = turn["text"]
                if caption := turn.get("blip_caption"):
                    text += f" [shares a photo: {caption}]"
                units.append(Unit(turn["dia_id"], turn["speaker"], text, start + timedelta(minutes=place)))
        known = {unit.key for unit in units}
        questions: list[tuple[str, frozenset[str]]] = []
        for index, qa in enumerate(item["qa"]):
            cited = corrections.get(f"locomo_{number}_qa{index}", qa.get("evidence") or [])
            evidence = frozenset(re.findall(r"D\d+:\d+", " ".join(map(str, cited)))) & known
            if evidence and qa["category"] in {1, 2, 3, 4}:
                questions.append((qa["question"], evidence))
        yield Haystack("locomo", units, questions)


def beam(folder: Path) -> Iterator[Haystack]:
    with gzip.open(folder / "beam-100k-dev.json.gz", "rt", encoding="utf-8") as file:
        chats = json.load(file)
    for chat in chats:
        units: list[Unit] = []
        day = datetime(2024, 1, 1, tzinfo=UTC)
        for batch in chat["chat"]:
            for turns in batch["turns"]:
                for turn in turns:
                    if anchor := turn.get("time_anchor"):
                        day = datetime.strptime(anchor, "%B-%d-%Y").replace(tzinfo=UTC)
                    text = re.sub(r"\s*->->.*$", "", turn["content"], flags=re.DOTALL)
                    units.append(Unit(str(turn["id"]), turn["role"], text, day + timedelta(seconds=len(units))))
        known = {unit.key for unit in units}
        questions: list[tuple[str, frozenset[str]]] = []
        for asked in chat["probing_questions"].values():
            for question in asked:
                evidence = frozenset(map(str, flat(question.get("source_chat_ids")))) & known
                if evidence:
                    questions.append((question["question"], evidence))
        yield Haystack("beam", units, questions)


def flat(value: Any) -> Iterator[int]:
    if isinstance(value, dict):
        value = list(value.values())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        for item in value:  # pyright: ignore[reportUnknownVariableType]
            yield from flat(item)
    elif isinstance(value, int):
        yield value


def load_embedder() -> Any:
    """The model inside the package; `None` where it is not built."""
    try:
        from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder  # noqa: PLC0415
    except ImportError:
        return None
    return OnnxEmbedder()


def measure(haystack: Haystack, embedder: Any, folder: Path) -> dict[str, list[tuple[float, float]]]:
    """(recall, milliseconds without embedding) of each question by each way."""
    index = Index(folder / f"{new_ulid()}.db")
    keys: dict[str, str] = {}
    records: list[Record] = []
    for unit in haystack.units:
        id_ = new_ulid()
        keys[id_] = unit.key
        records.append(
            Record(
                id=id_,
                type="note",
                title="",
                body=unit.text,
                path=f"notes/{id_}.md",
                version="0" * 40,
                mtime_ns=0,
                size=0,
                created=unit.time,
                updated=unit.time,
                author=Author(unit.author),
            )
        )
    index.apply(records)
    plain = apsw.Connection(":memory:")
    run(plain, "CREATE VIRTUAL TABLE plain USING fts5(text, tokenize='porter unicode61')")
    run_many(
        plain,
        "INSERT INTO plain (rowid, text) VALUES (?, ?)",
        [(number, f"{unit.author}: {unit.text}") for number, unit in enumerate(haystack.units)],
    )
    if embedder is not None:
        index.set_embedder(embedder.id, embedder.dimensions)
        while backlog := index.backlog(128):
            vectors = embedder.embed([text for _, text in backlog])
            index.store_vectors([(chunk, vector) for (chunk, _), vector in zip(backlog, vectors, strict=True)])

    def by_plain(question: str, _: Any) -> list[str]:
        match = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
        rows = fetch_all(plain, "SELECT rowid FROM plain WHERE plain MATCH ? ORDER BY rank LIMIT ?", (match, K))
        return [haystack.units[int(row[0])].key for row in rows]

    def by_search(question: str, vector: Any) -> list[str]:
        return [keys[hit.record.id] for hit in index.search(question, vector=vector, limit=K).hits]

    def by_vector(_: str, vector: Any) -> list[str]:
        # A query without words leaves the vector alone to rank.
        return [keys[hit.record.id] for hit in index.search("?", vector=vector, limit=K).hits]

    ways: dict[str, tuple[Callable[[str, Any], list[str]], bool]] = {
        "fts5": (by_plain, False),
        "lexical": (by_search, False),
    }
    if embedder is not None:
        ways |= {"vector": (by_vector, True), "hybrid": (by_search, True)}
    results: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for question, evidence in haystack.questions:
        vector = np.asarray(embedder.embed_query(question)) if embedder is not None else None
        for way, (ask, embedded) in ways.items():
            start = time.perf_counter()
            found = ask(question, vector if embedded else None)
            spent = (time.perf_counter() - start) * 1e3
            results[way].append((len(evidence & set(found)) / len(evidence), spent))
    index.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()
    embedder = load_embedder()
    haystacks: list[Haystack] = []
    if (options.data / "locomo-dev.json").exists():
        haystacks += locomo(options.data)
    if (options.data / "beam-100k-dev.json.gz").exists():
        haystacks += beam(options.data)
    totals: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for haystack in haystacks:
            for way, rows in measure(haystack, embedder, Path(folder)).items():
                totals.setdefault((haystack.name, way), []).extend(rows)
    report: list[dict[str, Any]] = []
    print(f"{'set':8} {'way':8} {'questions':>9} {'recall@10':>9} {'p50 ms':>7}")
    for (name, way), rows in sorted(totals.items()):
        recall = 100 * statistics.fmean(row[0] for row in rows)
        middle = statistics.median(row[1] for row in rows)
        print(f"{name:8} {way:8} {len(rows):9} {recall:9.1f} {middle:7.2f}")
        report.append({"set": name, "way": way, "questions": len(rows), "recall_at_10": recall, "p50_ms": middle})
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
