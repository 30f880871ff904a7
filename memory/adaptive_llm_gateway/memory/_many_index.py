"""The indexes of several memory repos, read as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.memory._index_rows import microseconds
from adaptive_llm_gateway.memory._memory_index import ReadableIndex
from adaptive_llm_gateway.memory._pages import Order, Page, Place, decode_cursor, encode_cursor, place_of
from adaptive_llm_gateway.memory._ranking import WEIGHTS, Weights
from adaptive_llm_gateway.memory._search import SHARED_SIGNALS, SearchAnswer
from adaptive_llm_gateway.memory._values import Facets, Filters, Hit, Record, TimeRange

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

_FACETS: Final = 20


class ManyIndex:
    """Reads several indexes as one; every record says which repo it is in.

    Args:
        parts: the name of each repo and its index, in the order in which repos are asked.
    """

    def __init__(self, parts: Sequence[tuple[str, ReadableIndex]]) -> None:
        self._parts = tuple(parts)

    def get(self, id: str) -> Record | None:
        """The memory of an id; where several repos have it, that of the first."""
        found = (_in(name, index.get(id)) for name, index in self._parts)
        return next((record for record in found if record is not None), None)

    def resolve(self, part: str, *, limit: int = 20) -> list[str]:
        """Ids that are `part`, else those that begin or end with it."""
        found = dict.fromkeys(id_ for _, index in self._parts for id_ in index.resolve(part, limit=limit))
        whole = [id_ for id_ in found if id_ == part]
        return whole or list(found)[:limit]

    def list(
        self,
        filters: Filters | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "updated",
    ) -> Page:
        """Memories of all repos page by page, each repo's own order kept.

        Raises:
            InvalidInput: not a cursor of such a list in this order.
        """
        place = None if cursor is None else decode_cursor(cursor, order)
        pages = [
            (name, index.list(filters, limit=limit, cursor=_within(place, name, order), order=order))
            for name, index in sorted(self._parts, key=lambda part: part[0])
        ]
        ranked = [replace(record, repo=name) for name, page in pages for record in page.records]
        ranked.sort(key=lambda record: _rank(record, order), reverse=order != "title")  # of two copies as before
        records = tuple(ranked[:limit])
        more = len(ranked) > limit or any(page.next_cursor is not None for _, page in pages)
        following = encode_cursor(order, place_of(records[-1], order)) if more and records else None
        return Page(records, following, sum(page.total for _, page in pages))

    def search(
        self,
        query: str,
        *,
        vector: ArrayLike | Callable[[], ArrayLike | None] | None = None,
        filters: Filters | None = None,
        limit: int = 10,
        preferred: TimeRange | None = None,
        weights: Weights = WEIGHTS,
    ) -> SearchAnswer:
        """The memories of all repos that answer a query, best first.

        Meaning counts alike everywhere. What words bring is a share of the best in one repo, so it is made a share of
        the best in all of them: a repo in which a word hardly occurs lifts nothing by it.
        """
        answers = [
            (
                name,
                index.search(query, vector=vector, filters=filters, limit=limit, preferred=preferred, weights=weights),
            )
            for name, index in self._parts
        ]
        best = [max((answer.tops[at] for _, answer in answers), default=0.0) for at in range(len(SHARED_SIGNALS))]
        hits = [
            _scaled(replace(hit, record=replace(hit.record, repo=name)), answer.tops, best)
            for name, answer in answers
            for hit in answer.hits
        ]
        hits.sort(key=lambda hit: (-hit.score, -microseconds(hit.record.updated)))
        return SearchAnswer(
            tuple(_folded(hits))[:limit],
            "hybrid" if any(answer.mode == "hybrid" for _, answer in answers) else "lexical",
            sum(answer.candidates for _, answer in answers),
            tuple(best),
        )

    def facets(self, filters: Filters | None = None) -> Facets:
        """Counts of the memories that the filters let through."""
        found = [index.facets(filters) for _, index in self._parts]

        def most(kinds: Iterable[tuple[tuple[str, int], ...]]) -> tuple[tuple[str, int], ...]:
            return tuple(sorted(_summed(kinds), key=lambda item: (-item[1], item[0]))[:_FACETS])

        months = sorted(_summed(one.months for one in found), reverse=True)[:_FACETS]
        return Facets(
            sum(one.total for one in found),
            most(one.types for one in found),
            most(one.projects for one in found),
            most(one.tags for one in found),
            most(one.authors for one in found),
            tuple(months),
        )

    def memory_vector(self, id: str) -> NDArray[np.float32] | None:
        """The mean of the unit vectors of a memory's passages, (d,); `None` while it has none."""
        found = (index.memory_vector(id) for _, index in self._parts)
        return next((vector for vector in found if vector is not None), None)

    def word_counts(self, words: Sequence[str]) -> tuple[list[int], int]:
        """(in how many chunks each word occurs, roughly; all chunks)."""
        counts = [index.word_counts(words) for _, index in self._parts]
        return [sum(numbers) for numbers in zip(*(found for found, _ in counts), strict=True)], sum(
            every for _, every in counts
        )

    def projects(self) -> list[str]:
        """The names of the projects that memories have, each as it is written."""
        return list(dict.fromkeys(name for _, index in self._parts for name in index.projects()))

    def ids(self, filters: Filters | None = None) -> list[str]:
        """The ids of all memories that the filters let through, in no order."""
        return list(dict.fromkeys(id_ for _, index in self._parts for id_ in index.ids(filters)))

    def too_common(self, words: Sequence[str]) -> list[str]:
        """Of a query's words those that are searched in no repo because they are in too many chunks."""
        common = [set(index.too_common(words)) for _, index in self._parts]
        return [word for word in words if all(word in found for found in common)]


def _in(name: str, record: Record | None) -> Record | None:
    return None if record is None else replace(record, repo=name)


# -- lists ---------------------------------------------------------------------------------------------------------


def _rank(record: Record, order: Order) -> tuple[int | str, str]:
    """Where a record comes in a list, as the indexes themselves sort."""
    value = place_of(record, order).value
    if isinstance(value, str):
        value = "".join(char.lower() if char.isascii() else char for char in value)
    return value, record.id


def _within(place: Place | None, repo: str, order: Order) -> str | None:
    """The cursor of a repo's own list; where several have the memory of the place, each shows it once."""
    if place is None:
        return None
    return encode_cursor(order, replace(place, repo=None, passed=place.repo is None or repo <= place.repo))


# -- searches ------------------------------------------------------------------------------------------------------


def _scaled(hit: Hit, tops: Sequence[float], best: Sequence[float]) -> Hit:
    signals, score = dict(hit.signals), hit.score
    for name, top, most in zip(SHARED_SIGNALS, tops, best, strict=True):
        share = signals.get(name, 0.0)
        if share and top < most:
            signals[name] = round(share * top / most, 4)
            score += signals[name] - share
    return replace(hit, score=round(score, 4), signals=signals)


def _folded(hits: Iterable[Hit]) -> Iterator[Hit]:
    """Each text once, and each id: a copy in another repo is named by the better one."""
    kept: dict[tuple[str, str, str], Hit] = {}
    ids: set[str] = set()
    for hit in hits:
        record = hit.record
        key = record.type, record.title.strip(), record.body.strip()
        if (other := kept.get(key)) is not None and other.record.id != record.id:
            named = (*other.duplicates, record.id, *hit.duplicates)
            kept[key] = replace(other, duplicates=tuple(dict.fromkeys(named)))
        elif record.id not in ids:
            kept[key] = hit
        ids.add(record.id)
    yield from kept.values()


def _summed(kinds: Iterable[tuple[tuple[str, int], ...]]) -> list[tuple[str, int]]:
    """Counts added up; names that differ in case only count as one."""
    counts: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for each in kinds:
        for value, count in each:
            counts[value.casefold()] += count
            shown.setdefault(value.casefold(), value)
    return [(shown[value], count) for value, count in counts.items()]
