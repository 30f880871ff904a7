"""Search within one read transaction: candidates by words and by vectors, fused, folded, with snippets."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._index_rows import conditions, fetch_records
from adaptive_llm_gateway.memory._query import QueryPlan, plan_query
from adaptive_llm_gateway.memory._ranking import (
    DUPLICATE_COSINE,
    RECENCY_BONUS,
    TITLE_BONUS,
    Scored,
    fuse,
    recency,
    same_but_for_wording,
    snippet,
    title_share,
)
from adaptive_llm_gateway.memory._values import Filters, Hit, Record, SearchMode
from adaptive_llm_gateway.memory._vectors import EMPTY, Candidates, Floats, VectorCache, cosine, sign_bits

_DAY = 86_400_000_000
_MIN_CANDIDATES = 200
_MAX_CANDIDATES = 2_000


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Hits, best first.

    Attributes:
        mode: `lexical` when no vector took part.
        candidates: memories that were scored before the cut to `limit`.
    """

    hits: tuple[Hit, ...]
    mode: SearchMode
    candidates: int


@dataclass(frozen=True, slots=True)
class _Head:
    memory: int
    type: str
    title: str
    updated: int
    fingerprint: bytes
    chunk_count: int


@dataclass(slots=True)
class _Found:
    head: _Head
    scored: Scored
    score: float
    exact: bool
    recent: float
    duplicates: list[int]


def search(
    connection: apsw.Connection,
    query: str,
    *,
    vector: Floats | None,
    cache: VectorCache | None,
    filters: Filters,
    limit: int,
) -> SearchAnswer:
    """Answer a query; see `Index.search`. `cache` is `None` when vectors are read from the file."""
    plan = plan_query(query)
    where, values = conditions(filters)
    mode: SearchMode = "lexical" if vector is None else "hybrid"
    if plan.blank:
        return _recent(connection, where, values, limit)
    count = min(_MAX_CANDIDATES, max(_MIN_CANDIDATES, 8 * limit))
    excluded: list[bytes] = []
    while True:
        candidates, exact, full = _gather(connection, plan, vector, cache, where, values, count)
        ranked = fuse(*candidates, exact=exact)
        found = _fold(connection, plan, ranked, exact, cache, limit)
        # Many copies of one text can fill the candidates: look once more, past them.
        copies = [item for item in found if len(item.duplicates) >= 8]
        if len(found) >= limit or not full or excluded or not copies:
            break
        excluded = [item.head.fingerprint for item in copies]
        where = " AND ".join(filter(None, [where, f"m.fingerprint NOT IN ({', '.join('?' * len(excluded))})"]))
        values = [*values, *excluded]
        first = found
        candidates, exact, full = _gather(connection, plan, vector, cache, where, values, count)
        rest = _fold(connection, plan, fuse(*candidates, exact=exact), exact, cache, limit)
        known = {item.head.memory for item in first}
        found = first + [item for item in rest if item.head.memory not in known]
        break
    return SearchAnswer(_hits(connection, plan, found[:limit]), mode, len(ranked))


def _gather(
    connection: apsw.Connection,
    plan: QueryPlan,
    vector: Floats | None,
    cache: VectorCache | None,
    where: str,
    values: list[Any],
    count: int,
) -> tuple[
    tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32] | None],
    frozenset[int],
    bool,
]:
    """Candidates of both sides over their union, the chunks with a literal match, and whether a side was cut."""
    lexical: list[tuple[int, int, float]] = []
    exact: set[int] = set()
    if plan.match:
        lexical = _by_words(connection, plan.match, where, values, count)
        known = {row[0] for row in lexical}
        for literal, phrase in plan.literals:
            rows = _by_words(connection, phrase, where, values, count)
            occurs = _literally(connection, literal, [row[0] for row in rows])
            exact |= occurs
            lexical += [row for row in rows if row[0] in occurs and row[0] not in known]
            known |= occurs
    near = EMPTY
    if vector is not None:
        near = _by_vector(connection, vector, cache, where, values, count)
    words = np.array([row[0] for row in lexical], np.int64)
    extra = ~np.isin(near.chunks, words) if len(words) else np.ones(len(near.chunks), np.bool_)
    chunks = np.concatenate([words, near.chunks[extra]])
    memories = np.concatenate([np.array([row[1] for row in lexical], np.int64), near.memories[extra]])
    bm25 = np.full(len(chunks), np.nan, np.float32)
    bm25[: len(words)] = [-row[2] for row in lexical]
    cosines: NDArray[np.float32] | None = None
    if vector is not None:
        cosines = np.full(len(chunks), np.nan, np.float32)
        cosines[len(words) :] = near.cosines[extra]
        known_vectors, scores = _cosines(connection, cache, words, vector)
        cosines[: len(words)][known_vectors] = scores[known_vectors]
        if np.isnan(cosines).all():
            cosines = None
    return (chunks, memories, bm25, cosines), frozenset(exact), len(lexical) >= count or len(near.chunks) >= count


def _by_words(
    connection: apsw.Connection, match: str, where: str, values: list[Any], count: int
) -> list[tuple[int, int, float]]:
    if not where:
        return connection.execute(
            "SELECT w.rowid, c.memory, w.rank FROM words w CROSS JOIN chunks c ON c.id = w.rowid "
            "WHERE words MATCH ? ORDER BY w.rank LIMIT ?",
            (match, count),
        ).fetchall()
    return connection.execute(
        "SELECT w.rowid, c.memory, w.rank FROM words w CROSS JOIN chunks c ON c.id = w.rowid "  # noqa: S608
        f"CROSS JOIN memories m ON m.rowid = c.memory WHERE words MATCH ? AND {where} ORDER BY w.rank LIMIT ?",
        (match, *values, count),
    ).fetchall()


def _literally(connection: apsw.Connection, literal: str, chunks: list[int]) -> set[int]:
    """Of these chunks, the ones whose text or title has the literal, whatever its case."""
    rows = connection.execute(
        "SELECT c.id FROM json_each(?) j CROSS JOIN chunks c ON c.id = j.value "
        "CROSS JOIN memories m ON m.rowid = c.memory CROSS JOIN bodies b ON b.memory = c.memory "
        "WHERE instr(lower(CASE WHEN m.chunk_count = 1 THEN b.body "
        "ELSE substr(b.body, c.start + 1, c.stop - c.start) END), ?2) OR instr(lower(m.title), ?2)",
        (json.dumps(chunks), literal),
    )
    return {row[0] for row in rows}


def _allowed(connection: apsw.Connection, where: str, values: list[Any]) -> NDArray[np.int64] | None:
    if not where:
        return None
    # One string crosses into Python instead of a tuple a row.
    text = connection.execute(f"SELECT group_concat(m.rowid) FROM memories m WHERE {where}", values).fetchone()[0]  # noqa: S608
    return np.fromstring(text, np.int64, sep=",") if text else np.zeros(0, np.int64)


def _by_vector(
    connection: apsw.Connection,
    vector: Floats,
    cache: VectorCache | None,
    where: str,
    values: list[Any],
    count: int,
) -> Candidates:
    if cache is not None:
        return cache.nearest(vector, count, _allowed(connection, where, values))
    packed = sign_bits(vector).tobytes()
    if where:
        rows = connection.execute(
            "SELECT rowid FROM bits WHERE bits MATCH vec_bit(?) AND k = ? AND rowid IN ("  # noqa: S608
            "SELECT v.chunk FROM vectors v CROSS JOIN memories m ON m.rowid = v.memory "
            f"WHERE {where})",
            (packed, count, *values),
        ).fetchall()
    else:
        rows = connection.execute(
            "SELECT rowid FROM bits WHERE bits MATCH vec_bit(?) AND k = ?", (packed, count)
        ).fetchall()
    stored = connection.execute(
        "SELECT v.chunk, v.memory, v.vector FROM json_each(?) j CROSS JOIN vectors v ON v.chunk = j.value",
        (json.dumps([row[0] for row in rows]),),
    ).fetchall()
    if not stored:
        return EMPTY
    codes = np.frombuffer(b"".join(row[2] for row in stored), np.int8).reshape(len(stored), -1)
    scores = cosine(codes, vector)
    best = np.argsort(-scores, kind="stable")
    chunks = np.array([row[0] for row in stored], np.int64)
    memories = np.array([row[1] for row in stored], np.int64)
    return Candidates(chunks[best], memories[best], scores[best])


def _cosines(
    connection: apsw.Connection, cache: VectorCache | None, chunks: NDArray[np.int64], vector: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    if cache is not None:
        return cache.cosines(chunks, vector)
    known, codes = _codes(connection, None, chunks)
    scores = np.zeros(len(chunks), np.float32)
    if len(codes):
        scores[known] = cosine(codes, vector)
    return known, scores


def _codes(
    connection: apsw.Connection, cache: VectorCache | None, chunks: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """For each chunk whether it has a vector, and the int8 codes of those that do."""
    if cache is not None:
        return cache.rows(chunks)
    stored = dict(
        connection.execute(
            "SELECT v.chunk, v.vector FROM json_each(?) j CROSS JOIN vectors v ON v.chunk = j.value",
            (json.dumps(chunks.tolist()),),
        )
    )
    known = np.array([chunk in stored for chunk in chunks.tolist()], np.bool_)
    joined = b"".join(stored[chunk] for chunk in chunks.tolist() if chunk in stored)
    return known, np.frombuffer(joined, np.int8).reshape(int(known.sum()), -1)


def _fold(
    connection: apsw.Connection,
    plan: QueryPlan,
    ranked: list[Scored],
    exact: frozenset[int],
    cache: VectorCache | None,
    limit: int,
) -> list[_Found]:
    """Add the mild signals, fold copies, and near-duplicates among the first."""
    heads = _heads(connection, [item.memory for item in ranked])
    now = time.time_ns() // 1_000
    unique: dict[tuple[str, bytes], _Found] = {}
    for item in ranked:
        head = heads.get(item.memory)
        if head is None:
            continue
        key = (head.type, head.fingerprint)
        if (copy := unique.get(key)) is not None:
            copy.duplicates.append(item.memory)
            continue
        fresh = RECENCY_BONUS * recency((now - head.updated) / _DAY)
        score = item.score + fresh + TITLE_BONUS * title_share(head.title, plan.terms)
        unique[key] = _Found(head, item, score, item.chunk in exact, fresh, [])
    found = sorted(unique.values(), key=lambda entry: (-entry.score, -entry.head.updated))
    return _fold_near(connection, found[: 3 * limit], cache)


def _fold_near(connection: apsw.Connection, found: list[_Found], cache: VectorCache | None) -> list[_Found]:
    """Fold memories of one chunk each whose vectors all but coincide and whose words say the same."""
    single = [item for item in found if item.head.chunk_count == 1 and item.scored.vector is not None]
    if len(single) < 2:
        return found
    known, codes = _codes(connection, cache, np.array([item.scored.chunk for item in single], np.int64))
    single = [item for item, has in zip(single, known.tolist(), strict=True) if has]
    rows = codes.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    close = np.argwhere(np.triu(rows @ rows.T, 1) >= DUPLICATE_COSINE).tolist()
    if not close:
        return found
    texts = dict(
        connection.execute(
            "SELECT b.memory, b.body FROM json_each(?) j CROSS JOIN bodies b ON b.memory = j.value",
            (json.dumps(sorted({single[place].head.memory for pair in close for place in pair})),),
        )
    )
    gone: set[int] = set()
    for first, second in close:
        kept, other = single[first], single[second]
        if first in gone or second in gone or kept.head.type != other.head.type:
            continue
        texts_of = [f"{item.head.title}\n{texts.get(item.head.memory, '')}" for item in (kept, other)]
        if same_but_for_wording(*texts_of):
            kept.duplicates += [other.head.memory, *other.duplicates]
            gone.add(second)
    dropped = {single[place].head.memory for place in gone}
    return [item for item in found if item.head.memory not in dropped]


def _heads(connection: apsw.Connection, memories: list[int]) -> dict[int, _Head]:
    rows = connection.execute(
        "SELECT m.rowid, m.type, m.title, m.updated, m.fingerprint, m.chunk_count "
        "FROM json_each(?) j CROSS JOIN memories m ON m.rowid = j.value",
        (json.dumps(memories),),
    )
    return {row[0]: _Head(*row) for row in rows}


def _hits(connection: apsw.Connection, plan: QueryPlan, found: list[_Found]) -> tuple[Hit, ...]:
    records = fetch_records(connection, [item.head.memory for item in found])
    spans = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT c.id, c.start, c.stop, c.first_line FROM json_each(?) j CROSS JOIN chunks c ON c.id = j.value",
            (json.dumps([item.scored.chunk for item in found]),),
        )
    }
    folded = [memory for item in found for memory in item.duplicates]
    ids: dict[int, str] = (
        dict(
            connection.execute(
                "SELECT m.rowid, m.id FROM json_each(?) j CROSS JOIN memories m ON m.rowid = j.value",
                (json.dumps(folded),),
            )
        )
        if folded
        else {}
    )
    hits: list[Hit] = []
    for item in found:
        record, span = records.get(item.head.memory), spans.get(item.scored.chunk)
        if record is None or span is None:
            continue
        start, stop, first_line = span
        text, lines = snippet(record.body[start:stop], first_line, plan.terms)
        duplicates = tuple(ids[memory] for memory in item.duplicates if memory in ids)
        hits.append(Hit(record, round(item.score, 4), _matched(item), text, lines, duplicates))
    return tuple(hits)


def _matched(item: _Found) -> tuple[str, ...]:
    signals: list[tuple[float, str]] = []
    if item.exact:
        signals.append((9.0, "exact"))
    if item.scored.lexical is not None:
        signals.append((item.scored.lexical, "lexical"))
    if item.scored.vector is not None:
        signals.append((item.scored.vector, "vector"))
    if item.recent >= RECENCY_BONUS / 2:
        signals.append((-9.0, "recent"))
    return tuple(name for _, name in sorted(signals, reverse=True))


def _recent(connection: apsw.Connection, where: str, values: list[Any], limit: int) -> SearchAnswer:
    rows = connection.execute(
        f"SELECT m.rowid FROM memories m {'WHERE ' + where if where else ''} "  # noqa: S608
        "ORDER BY m.updated DESC, m.rowid DESC LIMIT ?",
        (*values, limit),
    ).fetchall()
    records: dict[int, Record] = fetch_records(connection, [row[0] for row in rows])
    hits: list[Hit] = []
    for (row,) in rows:
        record = records[row]
        text, lines = snippet(record.body[:2_000], 1, ())
        hits.append(Hit(record, 0.0, ("recent",), text, lines))
    return SearchAnswer(tuple(hits), "lexical", len(hits))
