"""A session's log as its files keep it: how an entry is written, and how the entries are read back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from adaptive_llm_gateway.core import Trust, derived_ulid, ulid_milliseconds
from adaptive_llm_gateway.memory._models import parse_moment, stamp
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
    entries = sorted((entry for record in records for entry in entries_of(record)), key=lambda entry: entry.time)
    first = records[0]
    trust = max((record.trust for record in records), key=lambda level: level.rank)
    return SessionLog(session, first.title, first.project, trust, tuple(entries), summary)


def summary_id(session: str) -> str:
    """The id of a session's summary: always the same, so that there is one, wherever it is written."""
    return derived_ulid(f"{session}/summary", milliseconds=ulid_milliseconds(session))
