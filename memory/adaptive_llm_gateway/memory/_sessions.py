"""A session's log as its files keep it: how an entry is written, and how the entries are read back."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from adaptive_llm_gateway.core import InvalidInput, Trust, derived_ulid, ulid_milliseconds
from adaptive_llm_gateway.memory._index_rows import microseconds
from adaptive_llm_gateway.memory._models import parse_moment, stamp
from adaptive_llm_gateway.memory._pages import MARK, is_id, is_number, mark_of, read, written
from adaptive_llm_gateway.memory._values import Record

SUMMARISES: Final = "summarises"
"""What the link from a summary to its session says."""

# An entry begins where one of these lines does, whatever else the log holds: a fence left open hides no entry.
_HEADING = re.compile(r"^## (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?Z)(?: (.*))?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """One entry of a log: when, by which client, and what.

    Attributes:
        file: id of the memory it stands in.
        begin: offset of its heading in that memory's body.
        line: of that body, from 1, on which its text begins.
    """

    time: datetime
    author: str
    text: str
    file: str
    begin: int = 0
    line: int = 1


@dataclass(frozen=True, slots=True)
class SessionLog:
    """A session whole.

    Attributes:
        id: the session's, whichever of its files was asked for.
        trust: the highest level of its files.
        entries: of all its files, by time.
        summary: the memory that summarises it, where there is one.
    """

    id: str
    title: str
    project: str | None
    trust: Trust
    entries: tuple[SessionEntry, ...]
    summary: Record | None = None


def entry_of(time: datetime, client: str, text: str) -> tuple[str, bool]:
    """An entry as it goes into the file, and whether lines of `text` look like the beginning of one.

    Such lines are indented by one space: Markdown shows them as before, and they begin no entry.
    """
    text, imitations = _HEADING.subn(r" \g<0>", text.rstrip())
    return f"## {stamp(time)} {client}\n\n{text}\n", imitations > 0


def entries_of(record: Record) -> Iterator[SessionEntry]:
    """The entries in one file of a session; what stands before the first is one, from when the file was made."""
    body, time, author = record.body, record.created, record.author.client
    begin = after = counted = 0
    line = 1

    def entry(end: int) -> Iterator[SessionEntry]:
        nonlocal counted, line
        text = body[after:end]
        if said := text.strip():
            first = after + len(text) - len(text.lstrip())
            line += body.count("\n", counted, first)
            counted = first
            yield SessionEntry(time, author, said, record.id, begin, line)

    for heading in _HEADING.finditer(body):
        try:
            moment = parse_moment(heading[1])
        except ValueError:  # the 31st of February, say
            continue
        yield from entry(heading.start())
        time, author = moment, (heading[2] or "").strip() or record.author.client
        begin, after = heading.span()
    yield from entry(len(body))


def log_of(session: str, files: Iterable[Record], summary: Record | None) -> SessionLog:
    """The log of a session from its files, the first of them first."""
    records = list(files)
    entries = sorted((entry for record in records for entry in entries_of(record)), key=_order)
    first = records[0]
    trust = max((record.trust for record in records), key=lambda level: level.rank)
    return SessionLog(session, first.title, first.project, trust, tuple(entries), summary)


def page_of_log(
    log: SessionLog, *, asked: str, cursor: str | None, limit: int
) -> tuple[list[SessionEntry], str | None]:
    """Entries behind those that a cursor's page ended with, and the cursor of the page after them.

    The cursor names the last entry that was shown, so that what is appended or merged in between moves none.

    Args:
        asked: what tells this log from another; and who sees something else of it.

    Raises:
        InvalidInput: the cursor is none of this log's.
    """
    mark, places = mark_of(asked), _places(log.entries)
    first = 0 if cursor is None else bisect_right(places, _opened(cursor, mark))
    page = list(log.entries[first : first + limit])
    end = first + len(page)
    return page, mark + written([*places[end - 1]]) if end < len(places) else None


def _order(entry: SessionEntry) -> tuple[datetime, str, int]:
    return entry.time, entry.file, entry.begin


def _places(entries: Iterable[SessionEntry]) -> list[tuple[int, str, int]]:
    """What each entry is known by: its time, its file, and which it is of those that have both the same. Where it
    begins in its file is not among it, for that changes with whatever is put before.
    """
    counts: Counter[tuple[int, str]] = Counter()
    found: list[tuple[int, str, int]] = []
    for entry in entries:
        key = microseconds(entry.time), entry.file
        found.append((*key, counts[key]))
        counts[key] += 1
    return found


def _opened(cursor: str, mark: str) -> tuple[int, str, int]:
    try:
        time, file, place = read(cursor[MARK:])
        if cursor[:MARK] == mark and is_number(time) and is_id(file) and is_number(place):
            return time, file, place
    except (ValueError, TypeError):
        pass
    raise InvalidInput(
        "this is not a cursor of this log",
        hint="Give `next_cursor` of the page before, or leave it out to start with the first entry.",
    )


def summary_id(session: str) -> str:
    """The id of a session's summary: always the same, so that there is one, wherever it is written."""
    return derived_ulid(f"{session}/summary", milliseconds=ulid_milliseconds(session))
