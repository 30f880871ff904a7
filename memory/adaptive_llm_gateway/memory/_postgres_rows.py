"""Filters as PostgreSQL's SQL, and text in a form that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.memory._index_rows import RECORD_COLUMNS, check_field, dump, microseconds, record_of, several
from adaptive_llm_gateway.memory._query import phrase_of
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all
from adaptive_llm_gateway.memory._tokens import tokens_of
from adaptive_llm_gateway.memory._values import Filters, Record, Within

# PostgreSQL's text has no NUL. One character stands in for it, so that places in a text stay what they are; it is a
# noncharacter, which nobody may interchange.
_NUL, _STAND_IN = "\0", "\U0010fffe"


def stored(text: str | None) -> Any:
    """Text as PostgreSQL keeps it."""
    return text.replace(_NUL, _STAND_IN) if text is not None and _NUL in text else text


def restored(value: Any) -> Any:
    """What `stored` was given; other values as they are."""
    return value.replace(_STAND_IN, _NUL) if isinstance(value, str) and _STAND_IN in value else value


def restored_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row with its text restored."""
    return tuple(map(restored, row))


def folded(text: str) -> str:
    """A name for comparing whatever the case of its ASCII letters, as `lower` does on the server."""
    return "".join(char.lower() if char.isascii() else char for char in stored(text))


def conditions(filters: Filters, saying: Callable[[Sequence[int]], list[int]]) -> tuple[str, list[Any]]:
    """A WHERE expression over `memories m` and its values; empty when nothing narrows.

    Args:
        saying: gives the memories in whose title or body these tokens stand one behind the other.

    Raises:
        InvalidInput: a time without zone, or a field name with a quote or backslash.
    """
    parts: list[str] = []
    values: list[Any] = []

    def add(part: str, *given: Any) -> None:
        parts.append(part)
        values.extend(given)

    if filters.types:
        add(_TYPED, _texts(filters.types))
    for tag in filters.tags:
        add(_TAGGED, folded(tag))
    if filters.project is not None:
        add(
            f"({_OF_PROJECT} OR m.project IS NULL)" if filters.or_no_project else _OF_PROJECT,
            _folded(several(filters.project)),
        )
    if filters.author is not None:
        authors = _folded(several(filters.author))
        add(_BY, authors, authors)
    if filters.ids:
        add(_WITH_ID, _texts(filters.ids))
    if filters.since is not None:
        add("m.updated >= %s", microseconds(filters.since))
    if filters.until is not None:
        add("m.updated < %s", microseconds(filters.until))
    if filters.max_trust is not Trust.SECRET:
        add("m.trust <= %s", filters.max_trust.rank)
    for name, value in filters.fields.items():
        check_field(name)
        add(_WITH_FIELD, f"{dump(name)}:{dump(value)}", name, dump(value))
    without = filters.without
    if without.types:
        add(f"NOT {_TYPED}", _texts(without.types))
    for tag in without.tags:
        add(f"NOT {_TAGGED}", folded(tag))
    if without.projects:
        add(f"{_OF_PROJECT} IS NOT TRUE", _folded(without.projects))
    if without.authors:
        authors = _folded(without.authors)
        add(f"{_BY} IS NOT TRUE", authors, authors)
    if without.ids:
        add(f"NOT {_WITH_ID}", _texts(without.ids))
    if without.events:
        add(f"m.row NOT IN ({_EVENTS})")
    for word in without.words:
        if tokens := tokens_of(phrase_of(word)):
            add("m.row NOT IN (SELECT unnest(%s::bigint[]))", saying(tokens))
    for more in filters.also:
        where, given = conditions(more, saying)
        if where:
            add(where, *given)
    if filters.within is not None:
        where, given = inside(filters.within)
        add(where, *given)
    return " AND ".join(parts), values


def inside(within: Within) -> tuple[str, list[Any]]:
    """A WHERE expression over `memories m` for what somebody may see at all, and its values."""
    own, values = _seen("m", within)
    if within.hidden:
        own += " AND NOT m.id = ANY(%s)"
        values.append(_texts(within.hidden))
    offer, more = _seen("o", within)
    return f"{own} AND {_OF_SEEN_OFFER.format(offer=offer)}", [*values, *more]


def _seen(row: str, within: Within) -> tuple[str, list[Any]]:
    parts, values = [f"{row}.trust <= %s"], list[Any]([within.max_trust.rank])
    if within.projects is not None:
        parts.append(f"{row}.project = ANY(%s)")
        values.append(_texts(within.projects))
    return " AND ".join(parts), values


# What cannot be read as JSON is not seen, if it may be an event.
_OF_SEEN_OFFER = (
    "CASE WHEN m.type <> 'handoff' OR strpos(m.fields, '\"event\":') = 0 THEN true "
    "WHEN strpos(m.fields, '\\u0000') > 0 THEN false "
    "WHEN COALESCE((m.fields::json -> 'event')::text, 'null') = 'null' THEN true "
    "ELSE EXISTS (SELECT 1 FROM memories o WHERE o.type = 'handoff' AND o.id = m.fields::json ->> 'handoff' "
    "AND CASE WHEN strpos(o.fields, '\"event\":') = 0 THEN true WHEN strpos(o.fields, '\\u0000') > 0 THEN false "
    "ELSE COALESCE((o.fields::json -> 'event')::text, 'null') = 'null' END AND {offer}) END"
)
_TYPED = "m.type = ANY(%s)"
_TAGGED = "m.row IN (SELECT t.memory FROM memory_tags t WHERE t.folded = %s)"
_OF_PROJECT = "(lower(m.project) = ANY(%s))"
# PostgreSQL refuses to read JSON that has a NUL in it; such a file must not keep every other one from being listed.
_EVENTS = (
    "SELECT e.row FROM memories e WHERE e.type = 'handoff' AND CASE WHEN strpos(e.fields, '\"event\":') = 0 THEN false "
    "WHEN strpos(e.fields, '\\u0000') > 0 THEN true ELSE (e.fields::json -> 'event')::text <> 'null' END"
)
# The text is looked for first: that is quick, and leaves next to nothing to read as JSON.
_WITH_FIELD = "CASE WHEN strpos(m.fields, %s) > 0 THEN (m.fields::json -> %s::text)::text = %s ELSE false END"
_WITH_ID = "m.id = ANY(%s)"
_BY = '(lower(m.client) = ANY(%s) OR lower((m.author::json ->> 1) COLLATE "C") = ANY(%s))'


def _texts(names: Sequence[str]) -> list[str]:
    return [stored(name) for name in names]


def _folded(names: Sequence[str]) -> list[str]:
    return [folded(name) for name in names]


def fetch_records(connection: Link, rows: Sequence[int]) -> dict[int, Record]:
    """Whole memories by row id; those that are gone are left out."""
    found = fetch_all(
        connection,
        f"SELECT m.row, {RECORD_COLUMNS} FROM memories m JOIN bodies b ON b.memory = m.row "  # noqa: S608 - our own
        "WHERE m.row = ANY(%s)",
        (list(rows),),
    )
    return {row[0]: record_from(row[1:]) for row in found}


def record_from(row: tuple[Any, ...]) -> Record:
    """The memory of a row of `RECORD_COLUMNS`."""
    return record_of(restored_row(row))
