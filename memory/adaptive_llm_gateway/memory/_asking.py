"""Answer what a person asks: read the query, find what it refers to, search, page, count, and say how it was read."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from types import MappingProxyType
from typing import get_args

import numpy as np

from adaptive_llm_gateway.core import InvalidInput, NotFound, SecretScanner, Trust
from adaptive_llm_gateway.memory._cursor import MAX_DEPTH, Cursor, decode, digest_of, marks
from adaptive_llm_gateway.memory._memory_index import ReadableIndex
from adaptive_llm_gateway.memory._models import BUILT_IN
from adaptive_llm_gateway.memory._past import Past, Shown, find_commit, whole_past
from adaptive_llm_gateway.memory._plans import full_id
from adaptive_llm_gateway.memory._query import STOP_WORDS, plan_query, words_of
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._reranking import Reranking
from adaptive_llm_gateway.memory._search import SearchAnswer
from adaptive_llm_gateway.memory._search_syntax import Event, Reading, read_query
from adaptive_llm_gateway.memory._time_words import both, bounded
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import (
    Facets,
    Filters,
    Hit,
    Record,
    SearchMode,
    TimeRange,
    without_events,
)
from adaptive_llm_gateway.memory._vectors import Floats

TELLING_WORDS = 16  # of a memory, when those like it are wanted
_MAX_TOLD = 400  # different words of a memory that are looked at for it
_EVENT_HITS = 10

QueryVector = Callable[[str], "Floats | None"]


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A search.

    Attributes:
        query: words, a sentence, quoted phrases, operators (docs/search.md); blank for the most recent.
        filters: narrow further what the query's operators let through.
        limit: at most this many hits.
        cursor: from the page before; everything else but `limit` must be as it was.
        similar_to: id of a memory; those like it are wanted, without itself.
        as_of: a commit or a time: search the memories as they were then.
        facets: count as well.
        explain: find out all that `Plan` has.
        given: what tells this request from another, where `filters` differs from call to call (a relative time).
    """

    query: str = ""
    filters: Filters = field(default_factory=Filters)
    limit: int = 10
    cursor: str | None = None
    similar_to: str | None = None
    as_of: str | None = None
    facets: bool = False
    explain: bool = False
    given: str | None = None

    @property
    def digest(self) -> bytes:
        """See `given`."""
        return digest_of(repr((self.query, self.given or self.filters, self.similar_to, self.as_of)))


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search was read.

    Attributes:
        words: what was searched, without operators.
        operators: as they were written.
        filters: all that a memory had to fulfil, arguments and operators.
        preferred: the time that was preferred.
        literals: what counts as exact where it occurs as it is.
        stop_words: of the words, those that every text has; they were not searched by themselves.
        common: those that were not searched because too many memories here have them; only told when asked for.
        similar_to: the memory whose like were wanted, and the words that tell it from others.
    """

    words: str
    operators: tuple[str, ...]
    filters: Filters
    preferred: TimeRange | None
    literals: tuple[str, ...]
    stop_words: tuple[str, ...]
    common: tuple[str, ...] = ()
    similar_to: tuple[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search found.

    Attributes:
        hits: best first.
        mode: `lexical` when no vector took part.
        candidates: memories that were scored.
        plan: how the request was read.
        next_cursor: for the next page; `None` after the last.
        facets: counts over all that the filters let through, whatever the words.
        commit, time: what was searched, for a search of the past.
        notices: what the searcher must know.
    """

    hits: tuple[Hit, ...]
    mode: SearchMode
    candidates: int
    plan: Plan
    next_cursor: str | None = None
    facets: Facets | None = None
    commit: str | None = None
    time: datetime | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Terms:
    """What is searched: text, the vector it gives, filters and the preferred time."""

    text: str
    vector: Callable[[], Floats | None]
    filters: Filters
    preferred: TimeRange | None
    telling: tuple[str, tuple[str, ...]] | None = None


def operator_values() -> Mapping[str, tuple[str, ...]]:
    """Fields of the built-in types that are operators too, with what they can be."""
    found: dict[str, dict[str, None]] = {"status": {}, "priority": {}}
    for model in BUILT_IN.values():
        for name, values in found.items():
            if name in model.model_fields:
                values.update(dict.fromkeys(get_args(model.model_fields[name].annotation)))
    return MappingProxyType({name: tuple(values) for name, values in found.items()})


class Asking:
    """Answers requests over one index.

    Args:
        vector: gives a text's vector (d,), or None.
        begin: begins with a text's vector; what it returns waits for it.
        ready: whether it can be asked at all.
        past: opens the index as it was.
        reranking: judges the first hits of a query of words.
        shown: what is shown of an index of the past, and what there is to say of that.
    """

    def __init__(
        self,
        *,
        index: ReadableIndex,
        repo: MemoryRepo,
        vector: QueryVector,
        begin: Callable[[str], Callable[[], Floats | None]],
        ready: Callable[[], bool],
        past: Past,
        reranking: Reranking,
        shown: Shown = whole_past,
    ) -> None:
        self._index = index
        self._repo = repo
        self._vector = vector
        self._begin = begin
        self._ready = ready
        self._past = past
        self._reranking = reranking
        self._shown = shown
        self._values = operator_values()

    def ask(
        self, request: SearchRequest, *, types: TypeRegistry, scanner: SecretScanner, now: datetime, zone: tzinfo
    ) -> Answer:
        """Answer a request.

        Args:
            now: timezone-aware; what `last week` and `7d` are seen from on the first page.
            zone: where days begin.

        Raises:
            InvalidInput: the cursor is none, or of another search; `as_of` is neither a commit nor a time.
            NotFound: no memory `similar_to`, no such commit, or none as old as that.
            TooLarge, DiskFull, Unavailable: the past cannot be searched (see `Past.at`).
        """
        cursor = self._cursor(request, now, zone)
        reading = read_query(request.query, now=cursor.now, zone=zone, types=types.names, values=self._values)
        with self._opened(request, cursor, types, scanner, zone) as (index, time, told):
            notices = [*told, *reading.notices]
            terms = self._terms(index, request, reading, notices)
            judged = reading.text if request.similar_to is None else ""
            page, following = self._page(index, request, terms, cursor, judged, notices)
            if following is None and len(cursor.shown) + len(page.hits) >= MAX_DEPTH:
                notices.append(f"a search goes through {MAX_DEPTH} hits at most; narrow it to see others")
            if not page.hits and not cursor.shown and reading.operators:
                read = ", ".join(reading.operators)
                notices.append(f"read as filters, not words: {read}; put it in quotes to search for it")
            return Answer(
                page.hits,
                page.mode,
                page.candidates,
                _plan(reading, terms, index.too_common if request.explain else None),
                following,
                index.facets(terms.filters) if request.facets else None,
                cursor.commit,
                time,
                tuple(notices),
            )

    def _cursor(self, request: SearchRequest, now: datetime, zone: tzinfo) -> Cursor:
        """Where the search stands; at the beginning without a cursor."""
        if request.cursor is None:
            commit = None if request.as_of is None else find_commit(self._repo, request.as_of, now, zone)
            return Cursor(request.digest, datetime.fromtimestamp(int(now.timestamp()), UTC), commit)
        cursor = decode(request.cursor)
        if cursor.request != request.digest:
            raise InvalidInput(
                "the cursor belongs to another search",
                hint="Repeat query and filters exactly as they were, or leave the cursor out to start anew.",
            )
        if cursor.commit is not None and (request.as_of is None or not self._has(cursor.commit)):
            raise InvalidInput(
                "the cursor names a commit that is none of this search's",
                hint="Copy the cursor whole from the answer before, or leave it out to start with the first page.",
            )
        return cursor

    def _has(self, commit: str) -> bool:
        """Whether there is such a commit: anybody can write a cursor, and history may be another by now."""
        with contextlib.suppress(NotFound, InvalidInput):
            return find_commit(self._repo, commit, datetime.now(UTC), UTC) == commit
        return False

    @contextlib.contextmanager
    def _opened(
        self,
        request: SearchRequest,  # noqa: ARG002 - of use where there are several repos
        cursor: Cursor,
        types: TypeRegistry,
        scanner: SecretScanner,
        zone: tzinfo,  # noqa: ARG002
    ) -> Generator[tuple[ReadableIndex, datetime | None, tuple[str, ...]]]:
        if cursor.commit is None:
            yield self._index, None, ()
        else:
            with self._past.at(cursor.commit, types, scanner) as past:
                index, notices = self._shown(past)
                yield index, past.time, notices

    def _page(
        self,
        index: ReadableIndex,
        request: SearchRequest,
        terms: _Terms,
        cursor: Cursor,
        judged: str,
        notices: list[str],
    ) -> tuple[SearchAnswer, str | None]:
        """The hits that come next, and the cursor of the page after them.

        Args:
            judged: the query as a reranker is to see it; blank for none.
        """
        shown = set(cursor.shown)
        count = max(0, min(request.limit, MAX_DEPTH - len(shown)))
        # Every page has all of the first hits reranked, the shown ones too: else the rest would come in another order.
        top = self._reranking.top if judged.strip() and len(shown) < self._reranking.top else 0
        found = index.search(
            terms.text,
            vector=terms.vector if self._ready() else None,
            filters=terms.filters,
            limit=max(len(shown) + count + 1, top),
            preferred=terms.preferred,
        )
        hits = found.hits
        if top and hits:
            hits, notice = self._reranking.apply(judged, hits)
            notices += [notice] if notice else []
        fresh = [hit for hit, mark in zip(hits, marks(hit.record.id for hit in hits), strict=True)
                 if mark not in shown]  # fmt: skip
        page = tuple(fresh[:count])
        after = (*cursor.shown, *marks(hit.record.id for hit in page))
        more = len(fresh) > count and len(after) < MAX_DEPTH
        return replace(found, hits=page), replace(cursor, shown=after).encode() if more else None

    # -- what a request refers to ------------------------------------------------------------------------------

    def _terms(self, index: ReadableIndex, request: SearchRequest, reading: Reading, notices: list[str]) -> _Terms:
        filters = reading.filters
        if reading.id_parts:
            ids = itertools.chain.from_iterable(index.resolve(part) or [part] for part in reading.id_parts)
            filters = replace(filters, ids=tuple(ids))
        preferred = reading.preferred
        limits: list[Filters] = []
        for event in reading.events:
            record = _remembered(index, event, request.filters, self._vector)
            if record is None:
                if event.binding:
                    notices.append(f"no memory of {event.text!r} was found, so {event.relation!r} narrows nothing")
                continue
            day = record.created.astimezone(UTC).date().isoformat()
            range_ = bounded(event.relation, TimeRange(record.created, record.created))
            how = "was read as" if event.binding else "is preferred, taken as"
            notices.append(f"{event.relation} {event.text!r} {how} {day}, the date of memory {record.id}")
            if event.binding:
                limits.append(Filters(since=range_.since, until=range_.until))
            else:
                preferred = both(preferred, range_) if preferred else range_
        combined = replace(filters, also=(request.filters, *limits))
        if request.similar_to is None:
            text = reading.text
            if not text.strip():  # the most recent
                combined = without_events(combined)
            return _Terms(text, self._begin(text), combined, preferred)
        return self._similar(index, request.similar_to, reading.text, combined, preferred)

    def _similar(
        self, index: ReadableIndex, id: str, text: str, filters: Filters, preferred: TimeRange | None
    ) -> _Terms:
        record = index.get(full_id(id, index))
        if record is None:
            raise NotFound(f"no memory with the id {id!r}", hint="Find it with memory_search.", id=id)
        words = telling_words(record, index.word_counts)
        without = replace(filters.without, ids=(*filters.without.ids, record.id))

        def vector() -> Floats | None:
            own = index.memory_vector(record.id)
            # What was not embedded because it may not leave this machine does not leave it now.
            if own is None and Trust.INTERNAL.allows(record.trust):
                return self._vector(f"{record.title}\n{record.body[:2_000]}")
            asked = self._vector(text) if text.strip() else None
            if own is None:
                return asked
            return own if asked is None else np.add(own / np.linalg.norm(own), asked / np.linalg.norm(asked))

        return _Terms(
            f"{text} {' '.join(words)}".strip(),
            vector,
            replace(filters, without=without),
            preferred,
            (record.id, words),
        )


def telling_words(record: Record, counts: Callable[[Sequence[str]], tuple[list[int], int]]) -> tuple[str, ...]:
    """The words that tell a memory from others: frequent in it, in its title above all, and rare elsewhere.

    Args:
        counts: gives for words in how many passages each occurs, and how many passages there are.
    """
    heard = Counter(words_of(record.title) * 2 + words_of(record.body[:20_000]))
    content = [word for word, _ in heard.most_common(_MAX_TOLD) if word not in STOP_WORDS and len(word) > 1]
    known, total = counts(content)
    weights = {
        word: (1 + math.log(heard[word])) * math.log((max(total, 1) + 1) / (count + 1) + 1)
        for word, count in zip(content, known, strict=True)
    }
    return tuple(sorted(content, key=lambda word: -weights[word])[:TELLING_WORDS])


def _remembered(index: ReadableIndex, event: Event, filters: Filters, vector: QueryVector) -> Record | None:
    """The memory of an event: the best hit whose title has its words, else, where it must be found, whose body has."""
    words = [word for word in words_of(event.text) if word not in STOP_WORDS]
    if not words:
        return None
    asked = (lambda: vector(event.text)) if event.binding else None
    found = index.search(event.text, vector=asked, filters=Filters(max_trust=filters.max_trust), limit=_EVENT_HITS)
    records = [hit.record for hit in found.hits]
    for record in records:
        if _has(record.title, words):
            return record
    return next((record for record in records if _has(record.body, words)), None) if event.binding else None


def _has(text: str, words: Sequence[str]) -> bool:
    present = words_of(text)
    return all(any(other.startswith(word.rstrip("s")) for other in present) for word in words)


def _plan(reading: Reading, terms: _Terms, too_common: Callable[[Sequence[str]], list[str]] | None) -> Plan:
    plan = plan_query(terms.text)
    searched = set(plan.words)
    return Plan(
        words=reading.text,
        operators=reading.operators,
        filters=terms.filters,
        preferred=terms.preferred,
        literals=tuple(literal for literal, _ in plan.literals),
        stop_words=tuple(
            dict.fromkeys(word for word in words_of(reading.text) if word in STOP_WORDS and word not in searched)
        ),
        common=tuple(too_common(plan.words)) if too_common else (),
        similar_to=terms.telling,
    )
