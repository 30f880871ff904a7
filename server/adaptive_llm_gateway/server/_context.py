"""Context packages over a store: what a project's work always needs and what a search finds, in a token budget."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

from adaptive_llm_gateway.compression import FIRST_HITS, Candidate, Detail, hits_for
from adaptive_llm_gateway.core import InvalidInput, Trust
from adaptive_llm_gateway.memory import Filters
from adaptive_llm_gateway.server._times import LOCAL, iso

if TYPE_CHECKING:
    from adaptive_llm_gateway.compression import LeftOut, Package, Part, Source, TokenCounter
    from adaptive_llm_gateway.memory import Hit, Record, SeenMemories

Json = dict[str, Any]

_PINNED = 20  # of each kind
_RECENT_DAYS = 30
_TAIL = 20  # entries of a session, the newest
_COPIES = 200  # of memories that the search folded, the newest that are looked at
_ALIKE = 0.9  # cosine of near duplicates that mean the same
_MARGIN = 2  # tokens that two texts may have more together than apart
_LEAST_HITS = 8
_FILLS = 8  # characters of hits for each token of the budget: twice what fits
_OPEN = ("open", "in_progress", "blocked")


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """What a package is asked for.

    Attributes:
        budget: tokens, all of the answer.
        detail: `index`: a line of each; `auto`: each as its value allows; `full`: whole or not at all.
        expand: ids (or ends of ids) of memories that are wanted whole, before everything else.
        pinned: with preferences, open tasks and recent decisions.
        session: a session whose summary and last entries belong to it.
        hits: so many of the search are looked at, and of them those taken, the best first, that have twice the budget
            in them; more are looked at only where these have less. None: as many as a package of that budget has a use
            for.
    """

    query: str
    budget: int
    filters: Filters
    detail: Detail = "auto"
    expand: tuple[str, ...] = ()
    pinned: bool = True
    session: str | None = None
    hits: int | None = None


def checked_detail(text: str) -> Detail:
    """A `detail` that there is.

    Raises:
        InvalidInput: there is none such.
    """
    known: tuple[Detail, ...] = get_args(Detail)
    for name in known:
        if name == text:
            return name
    raise InvalidInput(f"detail is {text!r}", hint=f"One of: {', '.join(known)}.")


def build(store: SeenMemories, request: ContextRequest, *, counter: TokenCounter, now: datetime) -> Json:
    """The package for a request, as JSON; `text` is the whole answer, and no longer than the budget.

    Args:
        now: timezone-aware.

    Raises:
        InvalidInput: the budget holds no package, or what is asked for by its id may not be in it.
        NotFound: `expand` or `session` names none.
    """
    from adaptive_llm_gateway.compression import build_package  # noqa: PLC0415 - brings numpy along
    from adaptive_llm_gateway.memory import SearchRequest  # noqa: PLC0415 - brings the index along

    search = SearchRequest(request.query, request.filters, limit=request.hits or FIRST_HITS)
    answer = store.ask(search, zone=LOCAL)
    characters = sum(len(hit.record.body) for hit in answer.hits)
    if request.hits is not None and characters >= request.budget * _FILLS:
        answer = replace(answer, hits=_filling(answer.hits, request.budget * _FILLS))
    elif answer.next_cursor and (wanted_hits := hits_for(request.budget, characters)) > search.limit:
        answer = store.ask(replace(search, limit=wanted_hits), zone=LOCAL)
    wanted = [_trusted(store.read(id_).record, request.filters) for id_ in request.expand]
    pinned = list(_pinned(store, request.filters, now)) if request.pinned else []
    tail = _tail(store, request.session, request.filters) if request.session else _Tail()
    hits = list(_newest(store, answer.hits))
    candidates = _candidates(hits, wanted, pinned, tail)
    trusts = {**tail.trusts, **{record.id: record.trust for record in [*wanted, *pinned, *(h.record for h in hits)]}}
    notices = [*store.search_notices(), *answer.notices]
    # A package comes before what is said of it.
    told = "".join(f"\nnotice: {notice}" for notice in notices)
    if counter.count(told) * 4 > request.budget:
        told = ""
    most = told + _left_out(len(candidates))
    names_left_out = request.detail != "index" and counter.count(most) * 4 <= request.budget
    room = counter.count(most if names_left_out else told) + _MARGIN if told or names_left_out else 0

    def alike(one: int, other: int) -> bool | None:
        ids = candidates[one].id, candidates[other].id
        likeness = store.likeness(*ids) if ids[0] != ids[1] else None  # entries of one file share a vector
        return None if likeness is None else likeness >= _ALIKE

    package = build_package(
        request.query, candidates, request.budget - room, counter=counter, detail=request.detail, alike=alike
    )
    text, used = package.text, package.used
    if names_left_out and package.left_out:
        told += _left_out(len(package.left_out))
    if told and (together := counter.count(text + told)) <= request.budget:
        text, used = text + told, together
    package = replace(package, text=text, used=used, budget=request.budget)
    told_of = _package_json(package, [_level(store, source, trusts) for source in package.sources])
    return {"query": request.query, "mode": answer.mode, **told_of, "notices": notices}


def _filling(hits: Sequence[Hit], characters: int) -> tuple[Hit, ...]:
    """The first of the hits that have so many characters, and no fewer than `_LEAST_HITS`."""
    ends = list(itertools.accumulate(len(hit.record.body) for hit in hits))
    return tuple(hits[: max(bisect.bisect_left(ends, characters) + 1, _LEAST_HITS)])


def _left_out(count: int) -> str:
    return f'\n{count} more left out; detail="index" names them'


def _level(store: SeenMemories, source: Source, read: Mapping[str, Trust]) -> Trust:
    """The highest trust level of a source and of those that say the same, as they were read and as they are now."""
    levels = [read[source.id]]
    for id_ in source.duplicates:
        record = store.record(id_)
        levels += [read[id_]] if id_ in read else []
        levels += [record.trust] if record is not None else []
    return max(levels, key=lambda level: level.rank)


def _trusted(record: Record, filters: Filters) -> Record:
    """A memory that is asked for by its id, if its trust level lets it be in the package."""
    if record.trust.rank > filters.max_trust.rank:
        raise InvalidInput(
            f"memory {record.id!r} is {record.trust.value}, and the package may have what is "
            f"{filters.max_trust.value} at most",
            hint="Leave it out.",
        )
    return record


@dataclass(frozen=True, slots=True)
class _Tail:
    """The end of a session: what may go into a package, and by memory where in its body that begins, and its level."""

    candidates: tuple[Candidate, ...] = ()
    begins: Mapping[str, int] = field(default_factory=dict[str, int])
    trusts: Mapping[str, Trust] = field(default_factory=dict[str, Trust])


def _tail(store: SeenMemories, session: str, filters: Filters) -> _Tail:
    """The last entries of a session, and its summary before all of them."""
    log = store.session(session)
    entries = log.entries[-_TAIL:]
    files = {file: _trusted(store.read(file).record, filters) for file in {entry.file for entry in entries}}
    begins = {entry.file: entry.begin for entry in reversed(entries)}
    tail = [
        replace(
            _candidate(files[entry.file], float(place), "session"),
            title="",  # the same for all, and so no use in any
            body=entry.text,
            author=entry.author,
            updated=entry.time,
            first_line=entry.line,
        )
        for place, entry in enumerate(entries)
    ]
    trusts = {id_: record.trust for id_, record in files.items()}
    if log.summary is not None and max(log.summary.trust.rank, log.trust.rank) <= filters.max_trust.rank:
        tail.append(_candidate(log.summary, float(_TAIL), "session"))
        begins[log.summary.id] = 0
        trusts[log.summary.id] = max(log.summary.trust, log.trust, key=lambda level: level.rank)
    return _Tail(tuple(tail), begins, trusts)


def _newest(store: SeenMemories, hits: Sequence[Hit]) -> Iterator[Hit]:
    """The hits, each as the newest of those that say the same."""
    folded = tuple(id_ for hit in hits for id_ in hit.duplicates)
    records = store.list(filters=Filters(ids=folded), limit=_COPIES).records if folded else ()
    copies = {record.id: record for record in records}
    for hit in hits:
        newest = max(
            (hit.record, *(copies[id_] for id_ in hit.duplicates if id_ in copies)), key=lambda record: record.updated
        )
        if newest is hit.record:
            yield hit
        else:
            others = (hit.record.id, *(id_ for id_ in hit.duplicates if id_ != newest.id))
            yield replace(hit, record=newest, duplicates=others)


def _candidates(
    hits: Iterable[Hit], wanted: Sequence[Record], pinned: Sequence[Record], tail: _Tail
) -> list[Candidate]:
    """Each memory once: as asked for, else as pinned, with what the search says of it; of a session's file what stands
    before its tail.
    """
    found = {record.id: _candidate(record, 0.0, "pinned") for record in pinned}
    for hit in hits:
        part: Part = found[hit.record.id].part if hit.record.id in found else "recalled"
        found[hit.record.id] = replace(
            _candidate(hit.record, hit.score, part), passages=(hit.lines,), duplicates=hit.duplicates
        )
    for record in wanted:
        known = found.get(record.id) or _candidate(record, 0.0, "recalled")
        found[record.id] = replace(known, part="recalled", whole=True)
    for id_, begin in tail.begins.items():
        if (candidate := found.get(id_)) is not None and not candidate.whole:
            found[id_] = replace(candidate, body=candidate.body[:begin])
            if not found[id_].body.strip():
                del found[id_]
    # What is asked for by its id is no copy of another, though the search may have folded it.
    rest = (
        replace(one, duplicates=tuple(id_ for id_ in one.duplicates if id_ not in found)) if one.duplicates else one
        for one in found.values()
    )
    asked_for = {record.id for record in wanted}
    return [*(entry for entry in tail.candidates if entry.id not in asked_for), *rest]


def _pinned(store: SeenMemories, filters: Filters, now: datetime) -> Iterator[Record]:
    """Preferences of the project and those of none, its open tasks, and its decisions of the last weeks; of the types
    that the filters let through.
    """

    def wanted(kind: str) -> bool:
        return not filters.types or kind in filters.types

    if wanted("preference"):
        every = replace(filters, types=("preference",), project=filters.project or (), or_no_project=True)
        yield from store.list(filters=every, limit=_PINNED).records
    if not filters.project:
        return
    for status in _OPEN if wanted("task") else ():
        tasks = replace(filters, types=("task",), fields={**filters.fields, "status": status})
        yield from store.list(filters=tasks, limit=_PINNED).records
    if wanted("decision"):
        since = max(filter(None, [filters.since, now - timedelta(days=_RECENT_DAYS)]))
        decided = replace(filters, types=("decision",), fields={**filters.fields, "status": "accepted"}, since=since)
        yield from store.list(filters=decided, limit=_PINNED).records


def _candidate(record: Record, score: float, part: Part, *, whole: bool = False) -> Candidate:
    author = record.author
    return Candidate(
        id=record.id,
        type=record.type,
        title=record.title,
        body=record.body,
        path=record.path,
        version=record.version,
        updated=record.updated,
        # What a program calls itself stands beside whose it is, never in its place.
        author=f"{author.client} ({author.agent})" if author.agent else author.client,
        score=score,
        part=part,
        whole=whole,
    )


def _package_json(package: Package, trusts: Sequence[Trust]) -> Json:
    """A package, with the trust level of each of its sources."""
    return {
        "text": package.text,
        "budget": package.budget,
        "used": package.used,
        "detail": package.detail,
        "counter": package.counter,
        "exact": package.exact,
        "candidates": package.candidates,
        "candidates_tokens": package.candidates_tokens,
        "missed": package.missed,
        "stats": package.stats,
        "trust": str(max(trusts, key=lambda level: level.rank)) if trusts else None,
        "sources": [
            {**_fields(source), "updated": iso(source.updated), "trust": str(trust)}
            for source, trust in zip(package.sources, trusts, strict=True)
        ],
        "left_out": [_fields(item) for item in package.left_out],
    }


def _fields(value: Source | LeftOut) -> Json:
    """The fields of a flat value: `asdict` would copy everything in them."""
    return {field.name: getattr(value, field.name) for field in fields(value)}
