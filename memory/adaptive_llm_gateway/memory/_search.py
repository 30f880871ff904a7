"""Search over a `Source`: candidates by words and by vectors, fused, folded, with snippets."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._query import QueryPlan, plan_query
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
from adaptive_llm_gateway.memory._source import Head, Source, WordMatches
from adaptive_llm_gateway.memory._values import Hit, SearchMode
from adaptive_llm_gateway.memory._vectors import EMPTY, Floats, cosine

_DAY = 86_400_000_000
_MIN_CANDIDATES = 200
_MIN_LEXICAL_CANDIDATES = 80  # words alone rank them: nothing from further down rises to the top
_MAX_CANDIDATES = 2_000
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


@dataclass(frozen=True, slots=True)
class _Task:
    source: Source
    plan: QueryPlan
    words: WordMatches
    exact: dict[int, float]
    vector: Floats | None
    count: int
    limit: int


@dataclass(slots=True)
class _Found:
    head: Head
    scored: Scored
    score: float
    exact: bool
    recent: float
    duplicates: list[int]


def search(
    source: Source,
    query: str,
    *,
    vector: Callable[[], Floats | None] | None,
    limit: int,
) -> SearchAnswer:
    """Answer a query; see `Index.search`.

    Args:
        vector: gives the query's unit vector (d,), or `None` when there is none after all. It is called after the
            search by words, so that what computes it may run meanwhile.
    """
    plan = plan_query(query)
    if plan.blank:
        return _recent(source, limit)
    fewest = _MIN_CANDIDATES if vector is not None else _MIN_LEXICAL_CANDIDATES
    count = min(_MAX_CANDIDATES, max(fewest, 8 * limit))
    words, exact = _by_words(source, plan, count)
    task = _Task(source, plan, words, exact, vector() if vector is not None else None, count, limit)
    found, scored, cut = _rank(task)
    copies = [item.head.fingerprint for item in found if len(item.duplicates) >= _CROWD]
    if len(found) < limit and cut and copies:
        # Copies of one text fill the candidates: look once more, past them.
        rest = source.without(copies)
        more, others, _ = _rank(_Task(rest, plan, *_by_words(rest, plan, count), task.vector, count, limit))
        known = {item.head.memory for item in found}
        found += [item for item in more if item.head.memory not in known]
        scored += others
    mode: SearchMode = "lexical" if task.vector is None else "hybrid"
    return SearchAnswer(_hits(task, found[:limit]), mode, scored)


def _by_words(source: Source, plan: QueryPlan, count: int) -> tuple[WordMatches, dict[int, float]]:
    """What words find, and of these the chunks in which a literal occurs with what they earn by it."""
    found = source.by_words(plan.phrases, plan.words, count)
    exact: dict[int, float] = {}
    for literal, phrase in plan.literals:
        rows = source.by_words((phrase,), (), count)
        occurs = source.containing(literal, rows.chunks.tolist())
        bonus = QUOTED_BONUS if literal in plan.quoted else EXACT_BONUS
        for chunk in occurs:
            exact[chunk] = exact.get(chunk, 0.0) + bonus
        fresh = np.isin(rows.chunks, list(occurs)) & ~np.isin(rows.chunks, found.chunks)
        found = WordMatches(
            np.concatenate([found.chunks, rows.chunks[fresh]]),
            np.concatenate([found.memories, rows.memories[fresh]]),
            np.concatenate([found.scores, rows.scores[fresh]]),
        )
    return found, exact


def _rank(task: _Task) -> tuple[list[_Found], int, bool]:
    """(ranked and folded, how many memories were scored, whether more candidates would have been there)."""
    words = task.words
    near = EMPTY if task.vector is None else task.source.nearest(task.vector, task.count)
    fresh = ~np.isin(near.chunks, words.chunks)
    chunks = np.concatenate([words.chunks, near.chunks[fresh]])
    memories = np.concatenate([words.memories, near.memories[fresh]])
    bm25 = np.full(len(chunks), np.nan, np.float32)
    bm25[: len(words.chunks)] = words.scores
    cosines: NDArray[np.float32] | None = None
    if task.vector is not None:
        cosines = np.full(len(chunks), np.nan, np.float32)
        cosines[len(words.chunks) :] = near.cosines[fresh]
        known, codes = task.source.codes(words.chunks)
        if len(codes):
            cosines[: len(words.chunks)][known] = cosine(codes, task.vector)
        if np.isnan(cosines).all():
            cosines = None
    ranked = fuse(chunks, memories, bm25, cosines, task.exact)
    cut = len(words.chunks) >= task.count or len(near.chunks) >= task.count
    return _fold(task, ranked), len(ranked), cut


def _fold(task: _Task, ranked: list[Scored]) -> list[_Found]:
    """Add the mild signals, fold copies, and near-duplicates among the first."""
    now = time.time_ns() // 1_000
    unique: dict[tuple[str, bytes], _Found] = {}
    # The mild signals do not lift what is far down, so most candidates need not be looked at.
    part = max(40, 3 * task.limit)
    for start in range(0, len(ranked), part):
        heads = task.source.heads([item.memory for item in ranked[start : start + part]])
        for item in ranked[start : start + part]:
            head = heads.get(item.memory)
            if head is None:
                continue
            key = (head.type, head.fingerprint)
            if (copy := unique.get(key)) is not None:
                copy.duplicates.append(item.memory)
                continue
            fresh = RECENCY_BONUS * recency((now - head.updated) / _DAY)
            score = item.score + fresh + TITLE_BONUS * title_share(head.title, task.plan.terms)
            unique[key] = _Found(head, item, score, item.chunk in task.exact, fresh, [])
        if len(unique) >= 2 * task.limit:
            break
    found = sorted(unique.values(), key=lambda entry: (-entry.score, -entry.head.updated))
    return _fold_near(task.source, found[: 3 * task.limit])


def _fold_near(source: Source, found: list[_Found]) -> list[_Found]:
    """Fold memories of one chunk each whose vectors all but coincide and whose words say the same."""
    single = [item for item in found if item.head.chunk_count == 1 and item.scored.vector is not None]
    if len(single) < 2:
        return found
    known, codes = source.codes(np.array([item.scored.chunk for item in single], np.int64))
    single = [item for item, has in zip(single, known.tolist(), strict=True) if has]
    rows = codes.astype(np.float32)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    likeness = np.einsum("ik,jk->ij", rows, rows)
    close: list[list[int]] = np.argwhere(np.triu(likeness, 1) >= DUPLICATE_COSINE).tolist()
    if not close:
        return found
    texts = source.bodies(sorted({single[place].head.memory for pair in close for place in pair}))
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


def _hits(task: _Task, found: list[_Found]) -> tuple[Hit, ...]:
    source = task.source
    records = source.records([item.head.memory for item in found])
    spans = source.spans([item.scored.chunk for item in found])
    folded = [memory for item in found for memory in item.duplicates]
    ids = source.ids(folded) if folded else {}
    hits: list[Hit] = []
    for item in found:
        record, span = records.get(item.head.memory), spans.get(item.scored.chunk)
        if record is None or span is None:
            continue
        text, lines = snippet(record.body[span.start : span.stop], span.first_line, task.plan.terms)
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


def _recent(source: Source, limit: int) -> SearchAnswer:
    memories = source.recent(limit)
    records: dict[int, Any] = source.records(memories)
    hits: list[Hit] = []
    for memory in memories:
        record = records[memory]
        text, lines = snippet(record.body[:2_000], 1, ())
        hits.append(Hit(record, 0.0, ("recent",), text, lines))
    return SearchAnswer(tuple(hits), "lexical", len(hits))
