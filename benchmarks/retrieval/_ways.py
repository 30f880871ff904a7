"""The ways that are compared in this process over the same units: plain FTS5, the model alone, and our search."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import apsw
import numpy as np
from _cache import CachedModel, Floats
from _metrics import DEPTH, measure
from _units import Haystack, Question, Unit

from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.memory._asking import operator_values
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._models import BUILT_IN
from adaptive_llm_gateway.memory._ranking import WEIGHTS, Weights
from adaptive_llm_gateway.memory._search_syntax import Reading, read_query
from adaptive_llm_gateway.memory._sql import fetch_all, run, run_many
from adaptive_llm_gateway.memory._values import Author, Record

FTS5, LEXICAL, MODEL, HYBRID = "plain FTS5", "ours, lexical", "MiniLM alone", "ours, hybrid"
_BATCH = 512
_WORD = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True, slots=True)
class Asking:
    """A question and how our search reads it: as it stands, seen from when it is asked, else from now."""

    question: Question
    reading: Reading


Ask = Callable[[Asking, Floats | None], list[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one way gave for one question.

    Attributes:
        measures: against the evidence.
        published: against the evidence before corrections; None where there is no such.
        ranks: where each piece of evidence stands, None where it was not found.
        ms: milliseconds, without the embedding of the question where it came from the cache.
    """

    question: Question
    measures: dict[str, float]
    published: dict[str, float] | None
    ranks: tuple[int | None, ...]
    ms: float


def outcome(question: Question, found: Sequence[str], ms: float) -> Outcome:
    """Measure one answer."""
    published = measure(found, question.published) if question.published else None
    places = {key: rank for rank, key in reversed(list(enumerate(found, 1)))}
    ranks = tuple(places.get(key) for key in sorted(question.evidence))
    return Outcome(question, measure(found, question.evidence), published, ranks, ms)


def ablations() -> dict[str, Weights]:
    """Our weights with one signal off, by name, for every signal."""
    signals = [field.name for field in dataclasses.fields(WEIGHTS) if getattr(WEIGHTS, field.name)]
    return {f"without {name}": dataclasses.replace(WEIGHTS, **{name: 0.0}) for name in signals}


def ask_all(haystack: Haystack, model: CachedModel | None, folder: Path, *, ablate: bool) -> dict[str, list[Outcome]]:
    """Every way's outcome for every question.

    Args:
        model: None leaves out what needs vectors.
        ablate: also each of `ablations`.
    """
    index = Index(folder / f"{new_ulid()}.db")
    try:
        index.apply([record(unit) for unit in haystack.units])
        ways: dict[str, tuple[Ask, bool]] = {FTS5: (_plain(haystack.units), False), LEXICAL: (_ours(index), False)}
        if model is not None:
            ways[MODEL] = (_by_model(index, model), True)
            ways[HYBRID] = (_ours(index), True)
            if ablate:
                ways |= {name: (_ours(index, weights), True) for name, weights in ablations().items()}
        outcomes: dict[str, list[Outcome]] = {name: [] for name in ways}
        asked = [_read(question) for question in haystack.questions]
        vectors = model.embed([asking.reading.text for asking in asked]) if model is not None else None
        for place, asking in enumerate(asked):
            for name, (ask, embedded) in ways.items():
                vector = vectors[place] if embedded and vectors is not None else None
                start = time.perf_counter()
                found = ask(asking, vector)
                outcomes[name].append(outcome(asking.question, found, (time.perf_counter() - start) * 1e3))
        return outcomes
    finally:
        index.close()


def record(unit: Unit) -> Record:
    """The memory of a unit."""
    return Record(
        id=unit.key,
        type=unit.type,
        title="",
        body=unit.body,
        path=f"{unit.type}s/{unit.key}.md",
        version="0" * 40,
        mtime_ns=0,
        size=0,
        created=unit.time,
        updated=unit.time,
        author=Author(unit.author),
        source=unit.source,
    )


def _read(question: Question) -> Asking:
    now = question.now or datetime.now(UTC)
    return Asking(question, read_query(question.text, now=now, zone=UTC, types=BUILT_IN, values=operator_values()))


def _ours(index: Index, weights: Weights = WEIGHTS) -> Ask:
    def ask(asking: Asking, vector: Floats | None) -> list[str]:
        reading = asking.reading
        answer = index.search(
            reading.text,
            vector=vector,
            filters=reading.filters,
            limit=DEPTH,
            preferred=reading.preferred,
            weights=weights,
        )
        return [hit.record.id for hit in answer.hits]

    return ask


def _plain(units: Sequence[Unit]) -> Ask:
    database = apsw.Connection(":memory:")
    run(database, "CREATE VIRTUAL TABLE plain USING fts5(text, tokenize='porter unicode61')")
    run_many(
        database,
        "INSERT INTO plain (rowid, text) VALUES (?, ?)",
        [(number, unit.said) for number, unit in enumerate(units)],
    )

    def ask(asking: Asking, _: Floats | None) -> list[str]:
        match = " OR ".join(f'"{word}"' for word in _WORD.findall(asking.question.text))
        rows = fetch_all(database, "SELECT rowid FROM plain WHERE plain MATCH ? ORDER BY rank LIMIT ?", (match, DEPTH))
        return [units[int(row[0])].key for row in rows]

    return ask


def _by_model(index: Index, model: CachedModel) -> Ask:
    """Give the index its vectors, and rank by their float32 cosines alone; a memory stands with its best chunk."""
    index.set_embedder(model.id, model.dimensions)
    parts: list[Floats] = []
    chunks: list[int] = []
    while backlog := index.backlog(_BATCH):
        vectors = model.embed([text for _, text in backlog])
        index.store_vectors([(chunk, vector) for (chunk, _), vector in zip(backlog, vectors, strict=True)])
        chunks += [chunk for chunk, _ in backlog]
        parts.append(vectors)
    matrix = np.concatenate(parts)
    database = apsw.Connection(str(index.path), flags=apsw.SQLITE_OPEN_READONLY)
    sql = "SELECT c.id, m.id FROM chunks c JOIN memories m ON m.rowid = c.memory"
    owners = {row[0]: row[1] for row in fetch_all(database, sql)}
    database.close()
    keys = [owners[chunk] for chunk in chunks]

    def ask(_: Asking, vector: Floats | None) -> list[str]:
        assert vector is not None
        # numpy's own product: the threads of a BLAS cost more than they bring for so few rows.
        order = np.argsort(-np.einsum("ij,j->i", matrix, vector), kind="stable")
        found: dict[str, None] = {}
        for place in order.tolist():
            found[keys[place]] = None
            if len(found) == DEPTH:
                break
        return list(found)

    return ask
