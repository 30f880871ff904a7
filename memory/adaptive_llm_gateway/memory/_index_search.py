"""Search within one read transaction: candidates by words and by vectors, fused, folded, with snippets."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apsw
import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._index_rows import conditions, fetch_records
from adaptive_llm_gateway.memory._index_schema import TOKENIZER
from adaptive_llm_gateway.memory._query import QueryPlan, affordable, any_of, plan_query
from adaptive_llm_gateway.memory._ranking import (
    DUPLICATE_COSINE,
    EXACT_BONUS,
    QUOTED_BONUS,
    RECENCY_BONUS,
    TITLE_BONUS,
    Scored,
    fuse,
    recency,
    same_but_for_wording,
    snippet,
    title_share,
)
from adaptive_llm_gateway.memory._sql import fetch_all, fetch_pairs, fetch_value, placeholders, run
from adaptive_llm_gateway.memory._values import Filters, Hit, SearchMode
from adaptive_llm_gateway.memory._vectors import (
    EMPTY,
    Candidates,
    Codes,
    Floats,
    Integers,
    VectorCache,
    cosine,
    sign_bits,
)

_DAY = 86_400_000_000
_MIN_CANDIDATES = 200
_MIN_LEXICAL_CANDIDATES = 80  # words alone rank them: nothing from further down rises to the top
_MAX_CANDIDATES = 2_000
SCORED_ROWS = 1_500  # rows that the words of a query may make FTS5 score
_MIN_COUNTED = 2_000  # chunks; below, every word can be afforded
_MAX_COUNTED = 20_000  # words remembered
_CROWD = 8  # copies of one text before the candidates count as crowded


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


class TermCounts:
    """In how many chunks a word occurs, roughly: counted once, and again when the index has grown by a tenth.

    Shared by the readers of one index.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._size = 0

    def of(self, connection: apsw.Connection, words: Sequence[str]) -> list[int]:
        """Counts of words quoted for FTS5, in their order; zeros while the index is small."""
        size = fetch_value(connection, "SELECT max(id) FROM chunks") or 0
        if size < _MIN_COUNTED:
            return [0] * len(words)
        counts = self._counts
        if len(counts) > _MAX_COUNTED or not self._size <= size <= self._size * 1.1:
            counts = self._counts = {}
            self._size = size
        for word in words:
            if word not in counts:
                counts[word] = self._count(connection, word)
        return [counts[word] for word in words]

    @staticmethod
    def _count(connection: apsw.Connection, word: str) -> int:
        run(connection, "CREATE VIRTUAL TABLE IF NOT EXISTS temp.terms USING fts5vocab(main, words, row)")
        tokenizer = connection.fts5_tokenizer(TOKENIZER[0], list(TOKENIZER[1:]))
        tokens = tokenizer(
            word.encode("utf-8", "replace"),
            apsw.FTS5_TOKENIZE_QUERY,
            None,
            include_offsets=False,
            include_colocated=False,
        )
        # Without offsets the result is a list of strings; APSW types it as the union of all shapes.
        counts = [fetch_value(connection, "SELECT doc FROM temp.terms WHERE term = ?", (token,)) for token in tokens]
        return min((count or 0 for count in counts), default=0)


@dataclass(frozen=True, slots=True)
class _Scope:
    """One search: where it looks, and what for."""

    connection: apsw.Connection
    cache: VectorCache | None
    terms: TermCounts | None
    plan: QueryPlan
    vector: Floats | None
    where: str
    values: list[Any]
    count: int
    limit: int


class _Head(NamedTuple):
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
    terms: TermCounts | None,
    filters: Filters,
    limit: int,
) -> SearchAnswer:
    """Answer a query; see `Index.search`. Without a `cache` vectors are read from the file, without `terms` all words
    are searched however common.
    """
    plan = plan_query(query)
    where, values = conditions(filters)
    if plan.blank:
        return _recent(connection, where, values, limit)
    fewest = _MIN_CANDIDATES if vector is not None else _MIN_LEXICAL_CANDIDATES
    count = min(_MAX_CANDIDATES, max(fewest, 8 * limit))
    scope = _Scope(connection, cache, terms, plan, vector, where, values, count, limit)
    found, scored, cut = _rank(scope)
    copies = [item.head.fingerprint for item in found if len(item.duplicates) >= _CROWD]
    if len(found) < limit and cut and copies:
        # Copies of one text fill the candidates: look once more, past them.
        scope = _Scope(
            connection,
            cache,
            terms,
            plan,
            vector,
            " AND ".join(filter(None, [where, f"m.fingerprint NOT IN ({placeholders(len(copies))})"])),
            [*values, *copies],
            count,
            limit,
        )
        more, others, _ = _rank(scope)
        known = {item.head.memory for item in found}
        found += [item for item in more if item.head.memory not in known]
        scored += others
    mode: SearchMode = "lexical" if vector is None else "hybrid"
    return SearchAnswer(_hits(scope, found[:limit]), mode, scored)


def _rank(scope: _Scope) -> tuple[list[_Found], int, bool]:
    """(ranked and folded, how many memories were scored, whether more candidates would have been there)."""
    lexical, exact = _lexical(scope)
    near = EMPTY if scope.vector is None else _nearest(scope, scope.vector)
    words = np.array([row[0] for row in lexical], np.int64)
    fresh = ~np.isin(near.chunks, words)
    chunks = np.concatenate([words, near.chunks[fresh]])
    memories = np.concatenate([np.array([row[1] for row in lexical], np.int64), near.memories[fresh]])
    bm25 = np.full(len(chunks), np.nan, np.float32)
    bm25[: len(words)] = [-row[2] for row in lexical]
    cosines: NDArray[np.float32] | None = None
    if scope.vector is not None:
        cosines = np.full(len(chunks), np.nan, np.float32)
        cosines[len(words) :] = near.cosines[fresh]
        known, codes = _codes(scope, words)
        cosines[: len(words)][known] = cosine(codes, scope.vector)
        if np.isnan(cosines).all():
            cosines = None
    ranked = fuse(chunks, memories, bm25, cosines, exact)
    cut = len(lexical) >= scope.count or len(near.chunks) >= scope.count
    return _fold(scope, ranked, exact), len(ranked), cut


def _lexical(scope: _Scope) -> tuple[list[tuple[int, int, float]], dict[int, float]]:
    """(chunk, memory, rank) found by words, and of these the chunks in which a literal occurs."""
    if not scope.plan.match:
        return [], {}
    match = scope.plan.match
    if scope.terms is not None:
        words = affordable(scope.plan.words, scope.terms.of(scope.connection, scope.plan.words), SCORED_ROWS)
        match = any_of(scope.plan.phrases, words)
    found = _by_words(scope, match)
    known = {row[0] for row in found}
    exact: dict[int, float] = {}
    for literal, phrase in scope.plan.literals:
        rows = _by_words(scope, phrase)
        occurs = _literally(scope, literal, [row[0] for row in rows])
        bonus = QUOTED_BONUS if literal in scope.plan.quoted else EXACT_BONUS
        for chunk in occurs:
            exact[chunk] = exact.get(chunk, 0.0) + bonus
        found += [row for row in rows if row[0] in occurs and row[0] not in known]
        known |= occurs
    return found, exact


def _by_words(scope: _Scope, match: str) -> list[tuple[int, int, float]]:
    join, where = "", ""
    if scope.where:
        join, where = "CROSS JOIN memories m ON m.rowid = c.memory ", f"AND {scope.where} "
    rows = fetch_all(
        scope.connection,
        "SELECT w.rowid, c.memory, w.rank FROM words w CROSS JOIN chunks c ON c.id = w.rowid "  # noqa: S608 - ours
        f"{join}WHERE words MATCH ? {where}ORDER BY w.rank LIMIT ?",
        (match, *scope.values, scope.count),
    )
    return [(row[0], row[1], row[2]) for row in rows]


def _literally(scope: _Scope, literal: str, chunks: list[int]) -> set[int]:
    """Of these chunks, the ones whose text or title has the literal, whatever its case."""
    rows = fetch_all(
        scope.connection,
        "SELECT c.id FROM json_each(?1) j CROSS JOIN chunks c ON c.id = j.value "
        "CROSS JOIN memories m ON m.rowid = c.memory CROSS JOIN bodies b ON b.memory = c.memory "
        "WHERE instr(lower(CASE WHEN m.chunk_count = 1 THEN b.body "
        "ELSE substr(b.body, c.start + 1, c.stop - c.start) END), ?2) OR instr(lower(m.title), ?2)",
        (json.dumps(chunks), literal),
    )
    return {row[0] for row in rows}


def _nearest(scope: _Scope, vector: Floats) -> Candidates:
    if scope.cache is not None:
        return scope.cache.nearest(vector, scope.count, _allowed(scope))
    within, packed = "", sign_bits(vector).tobytes()
    if scope.where:
        within = (
            "AND rowid IN (SELECT v.chunk FROM vectors v CROSS JOIN memories m ON m.rowid = v.memory "  # noqa: S608 - ours
            f"WHERE {scope.where})"
        )
    rows = fetch_all(
        scope.connection,
        "SELECT v.chunk, v.memory, v.vector FROM vectors v WHERE v.chunk IN ("  # noqa: S608 - ours
        f"SELECT rowid FROM bits WHERE bits MATCH vec_bit(?) AND k = ? {within})",
        (packed, scope.count, *scope.values),
    )
    if not rows:
        return EMPTY
    scores = cosine(_matrix([row[2] for row in rows], len(vector)), vector)
    best = np.argsort(-scores, kind="stable")
    chunks = np.array([row[0] for row in rows], np.int64)
    memories = np.array([row[1] for row in rows], np.int64)
    return Candidates(chunks[best], memories[best], scores[best])


def _allowed(scope: _Scope) -> Integers | None:
    """Row ids of the memories that the filters let through; `None` for all."""
    if not scope.where:
        return None
    # One string crosses into Python instead of a tuple a row.
    text = fetch_value(
        scope.connection,
        f"SELECT group_concat(m.rowid) FROM memories m WHERE {scope.where}",  # noqa: S608 - ours
        scope.values,
    )
    return np.fromstring(text, np.int64, sep=",") if text else np.zeros(0, np.int64)


def _codes(scope: _Scope, chunks: Integers) -> tuple[NDArray[np.bool_], Codes]:
    """For each chunk whether it has a vector, and the int8 codes of those that do."""
    if scope.cache is not None:
        return scope.cache.rows(chunks)
    stored = fetch_pairs(
        scope.connection,
        "SELECT v.chunk, v.vector FROM json_each(?) j CROSS JOIN vectors v ON v.chunk = j.value",
        (json.dumps(chunks.tolist()),),
    )
    known = np.array([chunk in stored for chunk in chunks.tolist()], np.bool_)
    return known, _matrix(
        [stored[chunk] for chunk in chunks.tolist() if chunk in stored],
        0 if scope.vector is None else len(scope.vector),
    )


def _matrix(blobs: list[bytes], dimensions: int) -> Codes:
    return np.frombuffer(b"".join(blobs), np.int8).reshape(len(blobs), dimensions)


def _fold(scope: _Scope, ranked: list[Scored], exact: dict[int, float]) -> list[_Found]:
    """Add the mild signals, fold copies, and near-duplicates among the first."""
    now = time.time_ns() // 1_000
    unique: dict[tuple[str, bytes], _Found] = {}
    # The mild signals do not lift what is far down, so most candidates need not be looked at.
    part = max(40, 3 * scope.limit)
    for start in range(0, len(ranked), part):
        heads = _heads(scope, [item.memory for item in ranked[start : start + part]])
        for item in ranked[start : start + part]:
            head = heads.get(item.memory)
            if head is None:
                continue
            key = (head.type, head.fingerprint)
            if (copy := unique.get(key)) is not None:
                copy.duplicates.append(item.memory)
                continue
            fresh = RECENCY_BONUS * recency((now - head.updated) / _DAY)
            score = item.score + fresh + TITLE_BONUS * title_share(head.title, scope.plan.terms)
            unique[key] = _Found(head, item, score, item.chunk in exact, fresh, [])
        if len(unique) >= 2 * scope.limit:
            break
    found = sorted(unique.values(), key=lambda entry: (-entry.score, -entry.head.updated))
    return _fold_near(scope, found[: 3 * scope.limit])


def _fold_near(scope: _Scope, found: list[_Found]) -> list[_Found]:
    """Fold memories of one chunk each whose vectors all but coincide and whose words say the same."""
    single = [item for item in found if item.head.chunk_count == 1 and item.scored.vector is not None]
    if len(single) < 2:
        return found
    known, codes = _codes(scope, np.array([item.scored.chunk for item in single], np.int64))
    single = [item for item, has in zip(single, known.tolist(), strict=True) if has]
    rows = codes.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    likeness = np.einsum("ik,jk->ij", rows, rows)
    close: list[list[int]] = np.argwhere(np.triu(likeness, 1) >= DUPLICATE_COSINE).tolist()
    if not close:
        return found
    texts = fetch_pairs(
        scope.connection,
        "SELECT b.memory, b.body FROM json_each(?) j CROSS JOIN bodies b ON b.memory = j.value",
        (json.dumps(sorted({single[place].head.memory for pair in close for place in pair})),),
    )
    gone: set[int] = set()
    for first, second in close:
        kept, other = single[first], single[second]
        if first in gone or second in gone or kept.head.type != other.head.type:
            continue
        if same_but_for_wording(
            f"{kept.head.title}\n{texts.get(kept.head.memory, '')}",
            f"{other.head.title}\n{texts.get(other.head.memory, '')}",
        ):
            kept.duplicates += [other.head.memory, *other.duplicates]
            gone.add(second)
    dropped = {single[place].head.memory for place in gone}
    return [item for item in found if item.head.memory not in dropped]


def _heads(scope: _Scope, memories: list[int]) -> dict[int, _Head]:
    rows = fetch_all(
        scope.connection,
        "SELECT m.rowid, m.type, m.title, m.updated, m.fingerprint, m.chunk_count "
        "FROM json_each(?) j CROSS JOIN memories m ON m.rowid = j.value",
        (json.dumps(memories),),
    )
    return {row[0]: _Head(*row) for row in rows}


def _hits(scope: _Scope, found: list[_Found]) -> tuple[Hit, ...]:
    records = fetch_records(scope.connection, [item.head.memory for item in found])
    spans = {
        row[0]: row[1:]
        for row in fetch_all(
            scope.connection,
            "SELECT c.id, c.start, c.stop, c.first_line FROM json_each(?) j CROSS JOIN chunks c ON c.id = j.value",
            (json.dumps([item.scored.chunk for item in found]),),
        )
    }
    ids: dict[int, str] = {}
    if folded := [memory for item in found for memory in item.duplicates]:
        ids = fetch_pairs(
            scope.connection,
            "SELECT m.rowid, m.id FROM json_each(?) j CROSS JOIN memories m ON m.rowid = j.value",
            (json.dumps(folded),),
        )
    hits: list[Hit] = []
    for item in found:
        record, span = records.get(item.head.memory), spans.get(item.scored.chunk)
        if record is None or span is None:
            continue
        start, stop, first_line = span
        text, lines = snippet(record.body[start:stop], first_line, scope.plan.terms)
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
    rows = fetch_all(
        connection,
        f"SELECT m.rowid FROM memories m {'WHERE ' + where if where else ''} "  # noqa: S608 - ours
        "ORDER BY m.updated DESC, m.rowid DESC LIMIT ?",
        (*values, limit),
    )
    records = fetch_records(connection, [row[0] for row in rows])
    hits: list[Hit] = []
    for row in rows:
        record = records[row[0]]
        text, lines = snippet(record.body[:2_000], 1, ())
        hits.append(Hit(record, 0.0, ("recent",), text, lines))
    return SearchAnswer(tuple(hits), "lexical", len(hits))
