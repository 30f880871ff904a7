"""Search over a `Source`: candidates by words and by vectors, fused, folded, with snippets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._bm25 import Words
from adaptive_llm_gateway.memory._distinct import distinct
from adaptive_llm_gateway.memory._index_rows import microseconds
from adaptive_llm_gateway.memory._query import QueryPlan, plan_query
from adaptive_llm_gateway.memory._ranking import (
    DUPLICATE_COSINE,
    SETTLED,
    WEIGHTS,
    Ranking,
    Scored,
    Weights,
    aftermath,
    fuse,
    recency,
    same_but_for_wording,
    snippet,
    title_share,
)
from adaptive_llm_gateway.memory._source import Head, Source
from adaptive_llm_gateway.memory._together import Together
from adaptive_llm_gateway.memory._values import Hit, SearchMode, TimeRange
from adaptive_llm_gateway.memory._vectors import EMPTY, Candidates, Floats, Integers, cosine

_DAY = 86_400_000_000
_MIN_CANDIDATES = 200
_MAX_CANDIDATES = 2_000
_CROWD = 8  # copies of one text before the candidates count as crowded
_SHOWN_RECENT = 0.5  # of a month-old memory: what is fresher says `recent`
_LOOKED_AT, _LOOKED_AT_BY_TIME = 40, 100  # memories at least; a time lifts from further down
_READ = 10  # of the best, those whose passages are read
_LINKING = 20  # of the best, those whose links count
_LITERALS = ("exact", "quoted")
SHARED_SIGNALS = ("words", "around", "group")
"""Signals that are a share of the best passage's, and so are comparable within one index only."""


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Hits, best first.

    Attributes:
        mode: `lexical` when no vector took part.
        candidates: memories that were scored before the cut to `limit`.
        tops: what the shares of `SHARED_SIGNALS` are shares of.
    """

    hits: tuple[Hit, ...]
    mode: SearchMode
    candidates: int
    tops: tuple[float, ...] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Wanted:
    plan: QueryPlan
    limit: int
    count: int
    preferred: TimeRange | None
    weights: Weights

    def more(self, times: int) -> int:
        """So many times the limit, of a long list a smaller part more: some are folded, some are lifted."""
        return min(times * self.limit, self.limit + 25 * times)


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What words found in a source."""

    source: Source
    words: Words
    chunks: Integers
    literal: dict[str, dict[int, float]]


@dataclass(slots=True)
class _Found:
    """A memory as it stands, with the signals that are added to those of its passage; only what is shown has them all
    by name.
    """

    head: Head
    scored: Scored
    score: float
    title: float
    fresh: float
    time: float
    kind: float
    over: float
    is_recent: bool
    links: float = 0.0
    together: float = 0.0
    duplicates: list[int] = field(default_factory=list[int])

    def signals(self) -> dict[str, float]:
        """What each signal brought; they add up to the score."""
        found = self.scored.signals
        found |= {"title": self.title, "recent": self.fresh, "time": self.time, "kind": self.kind, "over": self.over}
        if self.links:
            found["links"] = self.links
        if self.together:
            found["together"] = self.together
        return found


def search(
    source: Source,
    query: str,
    *,
    vector: Callable[[], Floats | None] | None,
    limit: int,
    preferred: TimeRange | None = None,
    weights: Weights = WEIGHTS,
) -> SearchAnswer:
    """Answer a query; see `Index.search`.

    Args:
        vector: waits for the query's unit vector (d,), which is computed beside the search by words; `None` when there
            is none after all. It may be called in another thread.
    """
    plan = plan_query(query)
    if plan.blank and vector is None:
        return _recent(source, limit)
    count = min(_MAX_CANDIDATES, max(_MIN_CANDIDATES, 8 * limit))
    wanted = _Wanted(plan, limit, count, preferred, weights)
    nearest = source.begin_nearest(vector, count) if vector is not None else None
    by_words = _by_words(source, wanted)
    unit, near = nearest() if nearest is not None else (None, EMPTY)
    if plan.blank and unit is None:
        return _recent(source, limit)
    found, scored, cut, tops = _rank(by_words, unit, near, wanted)
    copies = [item.head.fingerprint for item in found if len(item.duplicates) >= _CROWD]
    if len(found) < limit and cut and (copies or len(by_words.chunks) >= count):
        # Copies of one text, or passages of the same memories, fill the candidates: look once more, past them.
        others = _by_words(source.without(copies) if copies else source, wanted, apart=True)
        apart = EMPTY if unit is None else others.source.nearest(unit, count)
        more, again, _, _ = _rank(others, unit, apart, wanted)
        known = {item.head.memory for item in found}
        found += [item for item in more if item.head.memory not in known]
        scored = scored + again if copies else max(scored, again)
    return SearchAnswer(_hits(source, plan, found[:limit]), "lexical" if unit is None else "hybrid", scored, tops)


def _by_words(source: Source, wanted: _Wanted, *, apart: bool = False) -> _Candidates:
    """What words find, and of these the chunks in which a literal occurs with what they earn by it.

    Args:
        apart: one chunk of each memory, so that more memories have a place among the candidates.
    """
    plan, weights = wanted.plan, wanted.weights
    words = source.by_words(plan.phrases, plan.words, plan.names)
    chunks = words.best(wanted.count, apart=apart)
    literal: dict[str, dict[int, float]] = {name: {} for name in _LITERALS}
    for text, phrase in plan.literals:
        rows = source.by_words((phrase,), ()).best(wanted.count, apart=apart)
        occurs = source.containing(text, rows.tolist())
        name = "quoted" if text in plan.quoted else "exact"
        earned = literal[name]
        for chunk in occurs:
            earned[chunk] = earned.get(chunk, 0.0) + getattr(weights, name)
        fresh = np.array([row for row in rows.tolist() if row in occurs], np.int64)
        fresh = fresh[~distinct(chunks).has(fresh)]
        chunks = np.concatenate([chunks, fresh])
    return _Candidates(source, words, chunks, {name: earned for name, earned in literal.items() if earned})


def _rank(
    found: _Candidates, vector: Floats | None, near: Candidates, wanted: _Wanted
) -> tuple[list[_Found], int, bool, tuple[float, ...]]:
    """(ranked and folded, how many memories were scored, whether more candidates would have been there, the greatest
    value of each of `SHARED_SIGNALS`).
    """
    source = found.source
    fresh = ~distinct(found.chunks).has(near.chunks)
    chunks = np.concatenate([found.chunks, near.chunks[fresh]])
    cosines: NDArray[np.float32] | None = None
    if vector is not None:
        cosines = np.full(len(chunks), np.nan, np.float32)
        cosines[len(found.chunks) :] = near.cosines[fresh]
        known, codes = source.codes(found.chunks)
        if len(codes):
            cosines[: len(found.chunks)][known] = cosine(codes, vector)
        if np.isnan(cosines).all():
            cosines = None
    about = source.facts(chunks)
    words = found.words.scores(chunks, about)
    ranked = fuse(chunks, about, words, cosines, found.literal, wanted.weights)
    tops = tuple(float(values.max(initial=0.0)) for values in (words.own, words.around, words.group))
    cut = len(found.chunks) >= wanted.count or len(near.chunks) >= wanted.count
    return _fold(source, ranked, wanted), len(ranked), cut, tops


def _fold(source: Source, ranked: Ranking, wanted: _Wanted) -> list[_Found]:
    """Add the mild signals, fold copies, and near-duplicates among the first."""
    now = time.time_ns() // 1_000
    weights, terms, preferred = wanted.weights, wanted.plan.terms, wanted.preferred
    unique: dict[tuple[str, bytes], _Found] = {}
    # The mild signals do not lift what is far down, so most candidates need not be looked at.
    part = max(_LOOKED_AT if preferred is None else _LOOKED_AT_BY_TIME, wanted.more(3))
    for start in range(0, len(ranked), part):
        items = ranked.part(start, start + part)
        heads = source.heads([item.memory for item in items])
        for item in items:
            head = heads.get(item.memory)
            if head is None:
                continue
            key = (head.type, head.fingerprint)
            if (copy := unique.get(key)) is not None:
                copy.duplicates.append(item.memory)
                continue
            freshness = recency((now - head.updated) / _DAY)
            title = weights.title * title_share(head.title, terms)
            fresh = weights.recent * freshness
            timely = weights.time * _within(head, preferred) if preferred is not None else 0.0
            kind = weights.kind * (head.type in SETTLED)
            over = -weights.over * head.is_over
            score = item.score + (title + fresh + timely + kind + over)
            unique[key] = _Found(head, item, score, title, fresh, timely, kind, over, freshness >= _SHOWN_RECENT)
        if len(unique) >= wanted.more(2):
            break
    _link(list(unique.values()), weights)
    found = _sorted(unique.values())
    _read(source, found[:_READ], wanted)
    return _fold_near(source, _sorted(found)[: wanted.more(3)])


def _sorted(found: Iterable[_Found]) -> list[_Found]:
    return sorted(found, key=lambda entry: (-entry.score, -entry.head.updated))


def _read(source: Source, found: list[_Found], wanted: _Wanted) -> None:
    """Add what passages earn in which words of the query stand together."""
    together = Together(wanted.plan.terms)
    if not together or not wanted.weights.together or len(found) < 2:
        return
    bodies = source.bodies([item.head.memory for item in found])
    spans = source.spans([item.scored.chunk for item in found])
    values: list[float] = []
    for item in found:
        span = spans.get(item.scored.chunk)
        values.append(together.of(bodies.get(item.head.memory, "")[span.start : span.stop]) if span else 0.0)
    most = max(values)
    for item, value in zip(found, values, strict=True):
        if value:
            item.together = wanted.weights.together * value / most
            item.score += item.together


def _link(found: list[_Found], weights: Weights) -> None:
    """Add what memories earn by links to and from better ones, and take off what those they are superseded by say."""
    places = {item.head.id: item for item in found}
    for item in sorted(found, key=lambda entry: -entry.score)[:_LINKING]:
        linked, superseded = item.head.linked, item.head.superseded
        for id_ in superseded:
            if (old := places.get(id_)) is not None and not old.over:
                old.over = -weights.over
                old.score -= weights.over
        for id_ in linked - superseded:
            other = places.get(id_)
            if other is None:
                continue
            worse = min(item, other, key=lambda entry: entry.scored.score)
            if not worse.links:
                worse.links = weights.links
                worse.score += weights.links


def _within(head: Head, preferred: TimeRange) -> float:
    """1 when a memory was made or changed in the preferred time, less when soon after it, else 0."""
    since = -(2**63) if preferred.since is None else microseconds(preferred.since)
    until = 2**63 if preferred.until is None else microseconds(preferred.until)
    return max(aftermath((moment - until) / _DAY) * (moment >= since) for moment in (head.created, head.updated))


def _fold_near(source: Source, found: list[_Found]) -> list[_Found]:
    """Fold memories of one chunk each whose vectors all but coincide and whose words say the same."""
    single = [item for item in found if item.head.chunk_count == 1 and item.scored.by_meaning]
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


def _hits(source: Source, plan: QueryPlan, found: list[_Found]) -> tuple[Hit, ...]:
    records = source.records([item.head.memory for item in found])
    spans = source.spans([item.scored.chunk for item in found])
    folded = [memory for item in found for memory in item.duplicates]
    ids = source.ids(folded) if folded else {}
    hits: list[Hit] = []
    for item in found:
        record, span = records.get(item.head.memory), spans.get(item.scored.chunk)
        if record is None or span is None:
            continue
        text, lines = snippet(record.body[span.start : span.stop], span.first_line, plan.terms)
        duplicates = tuple(ids[memory] for memory in item.duplicates if memory in ids)
        signals = item.signals()
        shown = {name: round(value, 4) for name, value in signals.items() if abs(value) >= 0.00005}
        hits.append(Hit(record, round(item.score, 4), _matched(item, signals), text, lines, duplicates, shown))
    return tuple(hits)


def _matched(item: _Found, signals: dict[str, float]) -> tuple[str, ...]:
    """The signals worth telling, strongest first."""
    names: list[tuple[float, str]] = []
    if signals.get("exact") or signals.get("quoted"):
        names.append((9.0, "exact"))
    if item.scored.by_words:
        told = signals["words"] + signals["around"] + signals["group"] + signals["names"]
        names.append((told, "lexical"))
    if item.scored.by_meaning:
        names.append((signals.get("vector", 0.0), "vector"))
    if signals.get("time"):
        names.append((-8.0, "time"))
    if item.is_recent:
        names.append((-9.0, "recent"))
    return tuple(name for _, name in sorted(names, reverse=True))


def _recent(source: Source, limit: int) -> SearchAnswer:
    memories = source.recent(limit)
    records: dict[int, Any] = source.records(memories)
    hits: list[Hit] = []
    for memory in memories:
        record = records[memory]
        text, lines = snippet(record.body[:2_000], 1, ())
        hits.append(Hit(record, 0.0, ("recent",), text, lines))
    return SearchAnswer(tuple(hits), "lexical", len(hits))
