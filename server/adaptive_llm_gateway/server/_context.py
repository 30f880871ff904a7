"""Context packages over a store: what a project's work always needs and what a search finds, in a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, get_args

from adaptive_llm_gateway.compression import Candidate, Detail
from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory import Filters
from adaptive_llm_gateway.server._times import LOCAL, iso

if TYPE_CHECKING:
    from adaptive_llm_gateway.compression import Package, Part, TokenCounter
    from adaptive_llm_gateway.memory import Hit, MemoryStore, Record

Json = dict[str, Any]

_SOUGHT = 100  # hits of the search
_PINNED = 20  # of each kind
_RECENT_DAYS = 30
_MARGIN = 2  # tokens that two texts may have more together than apart
_OPEN = ("open", "in_progress", "blocked")


@dataclass(frozen=True, slots=True)
class ContextRequest:
    """What a package is asked for.

    Attributes:
        budget: tokens, all of the answer.
        detail: `index`: a line of each; `auto`: each as its value allows; `full`: whole or not at all.
        expand: ids (or ends of ids) of memories that are wanted whole, before everything else.
        pinned: with preferences, open tasks and recent decisions.
    """

    query: str
    budget: int
    filters: Filters
    detail: Detail = "auto"
    expand: tuple[str, ...] = ()
    pinned: bool = True


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


def build(store: MemoryStore, request: ContextRequest, *, counter: TokenCounter, now: datetime) -> Json:
    """The package for a request, as JSON; `text` is the whole answer, and no longer than the budget.

    Args:
        now: timezone-aware.

    Raises:
        InvalidInput: the budget holds no package.
        NotFound: `expand` names none.
    """
    from adaptive_llm_gateway.compression import build_package  # noqa: PLC0415 - brings numpy along
    from adaptive_llm_gateway.memory import SearchRequest  # noqa: PLC0415 - brings the index along

    answer = store.ask(SearchRequest(request.query, request.filters, limit=_SOUGHT), zone=LOCAL)
    wanted = [store.read(id_).record for id_ in request.expand]
    candidates = _candidates(answer.hits, wanted, list(_pinned(store, request.filters, now)) if request.pinned else [])
    notices = [*store.search_notices(), *answer.notices]
    told = "".join(f"\nnotice: {notice}" for notice in notices)
    room = counter.count(told) + _MARGIN if told else 0
    if room * 4 > request.budget:  # a package comes before what is said of it
        told, room = "", 0
    package = build_package(request.query, candidates, request.budget - room, counter=counter, detail=request.detail)
    text, used = package.text, package.used
    if told and (together := counter.count(text + told)) <= request.budget:
        text, used = text + told, together
    return {
        "query": request.query,
        "mode": answer.mode,
        "text": text,
        "used": used,
        **_package_json(package, request.budget),
        "notices": notices,
    }


def _candidates(hits: Sequence[Hit], wanted: Sequence[Record], pinned: Sequence[Record]) -> list[Candidate]:
    """Each memory once: as asked for, else as pinned, with what the search says of it."""
    found = {record.id: _candidate(record, 0.0, "pinned") for record in pinned}
    for hit in hits:
        part: Part = found[hit.record.id].part if hit.record.id in found else "recalled"
        found[hit.record.id] = _candidate(hit.record, hit.score, part, (hit.lines,))
    for record in wanted:
        found[record.id] = _candidate(record, 0.0, "recalled", whole=True)
    return list(found.values())


def _pinned(store: MemoryStore, filters: Filters, now: datetime) -> Iterator[Record]:
    """Preferences of the project and those of none, its open tasks, and its decisions of the last weeks; of the types
    that the filters let through.
    """

    def wanted(kind: str) -> bool:
        return not filters.types or kind in filters.types

    if wanted("preference"):
        every = replace(filters, types=("preference",), project=None)
        for record in store.list(filters=every, limit=_PINNED * 5).records:
            if record.project is None or _is_of(record, filters.project):
                yield record
    if not filters.project:
        return
    for status in _OPEN if wanted("task") else ():
        tasks = replace(filters, types=("task",), fields={**filters.fields, "status": status})
        yield from store.list(filters=tasks, limit=_PINNED).records
    if wanted("decision"):
        since = max(filter(None, [filters.since, now - timedelta(days=_RECENT_DAYS)]))
        decided = replace(filters, types=("decision",), fields={**filters.fields, "status": "accepted"}, since=since)
        yield from store.list(filters=decided, limit=_PINNED).records


def _is_of(record: Record, project: str | tuple[str, ...] | None) -> bool:
    names = (project,) if isinstance(project, str) else project or ()
    return (record.project or "").casefold() in [name.casefold() for name in names]


def _candidate(
    record: Record, score: float, part: Part, passages: tuple[tuple[int, int], ...] = (), *, whole: bool = False
) -> Candidate:
    author = record.author
    return Candidate(
        id=record.id,
        type=record.type,
        title=record.title,
        body=record.body,
        path=record.path,
        version=record.version,
        updated=record.updated,
        author=author.agent or author.client,
        score=score,
        part=part,
        passages=passages,
        whole=whole,
    )


def _package_json(package: Package, budget: int) -> Json:
    return {
        "budget": budget,
        "detail": package.detail,
        "counter": package.counter,
        "exact": package.exact,
        "candidates": package.candidates,
        "candidates_tokens": package.candidates_tokens,
        "stats": package.stats,
        "sources": [{**asdict(source), "updated": iso(source.updated)} for source in package.sources],
        "left_out": [asdict(item) for item in package.left_out],
    }
