"""Memories as rows of the index and back, and filters as SQL."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Self

import apsw

from adaptive_llm_gateway.core import InvalidInput, Trust, signs_of
from adaptive_llm_gateway.memory._query import any_of, phrase_of, words_of
from adaptive_llm_gateway.memory._sql import fetch_all
from adaptive_llm_gateway.memory._values import Author, Filters, Link, Operation, Record, Within

_OVERHEAD = 300  # bytes of a memory beside its values
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRUST: dict[int, Trust] = {level.rank: level for level in Trust}

RECORD_COLUMNS = (
    "m.id, m.type, m.title, b.body, m.path, m.version, m.mtime_ns, m.size, m.created, m.updated, m.author, "
    "m.project, m.tags, m.trust, m.links, m.source, m.reason, m.fields"
)


@dataclass(frozen=True, slots=True)
class PendingChange:
    """A change that is on disk and in the index, but not yet in a commit.

    Attributes:
        seq: its place in the journal, given by the index; 0 until then.
    """

    path: str
    memory_id: str
    operation: Operation
    title: str
    author: Author
    reason: str | None = None
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is known of a deleted memory: enough to find it in history. `version` is its last; `repo` names the memory
    repo where there are several.
    """

    id: str
    path: str
    version: str
    type: str
    title: str
    deleted: datetime
    author: Author
    reason: str | None = None
    repo: str | None = None


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, UTC.

    Raises:
        InvalidInput: the time has no time zone.
    """
    if moment.tzinfo is None:
        raise InvalidInput(f"the time {moment.isoformat()!r} has no time zone", hint="Add one, such as `Z`.")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment_of(value: int) -> datetime:
    """The time of `microseconds`, in UTC."""
    return _EPOCH + timedelta(microseconds=value)


def dump(value: Any) -> str:
    """Compact JSON, as kept in the index and compared by filters."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def dump_author(author: Author) -> str:
    """An author as JSON."""
    return dump([author.client, author.agent, author.host])


@functools.lru_cache(1_024)
def load_author(text: str) -> Author:
    """The author of `dump_author`."""
    return Author(*json.loads(text))


def pending_of(row: tuple[Any, ...]) -> PendingChange:
    """The change of a row (path, memory_id, operation, title, author, reason, seq)."""
    path, memory_id, operation, title, author, reason, seq = row
    return PendingChange(path, memory_id, operation, title, load_author(author), reason, seq)


def tombstone_of(row: tuple[Any, ...]) -> Tombstone:
    """The tombstone of a whole row."""
    id_, path, version, type_, title, deleted, author, reason = row
    return Tombstone(id_, path, version, type_, title, moment_of(deleted), load_author(author), reason)


def fingerprint(record: Record) -> bytes:
    """The same for memories whose title and body have the same words, and signs that tell something."""
    text = " ".join(words_of(record.title)) + "\n" + " ".join(words_of(record.body))
    if not text.strip():
        text = f"{record.title}\n{record.body}"
    elif signs := signs_of(f"{record.title}\n{record.body}"):
        text += "\n" + "".join(signs)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()


def thread_of(record: Record) -> int | None:
    """Names the memories that belong together, as a number: the files of a session, or what has one source."""
    session = record.fields.get("session_id")
    key = session if isinstance(session, str) and session else record.id if record.type == "session" else record.source
    if not key:
        return None
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True) or 1


def record_values(record: Record, chunk_count: int) -> tuple[Any, ...]:
    """The values of a row of `memories`, in the order of `INSERT_MEMORY`."""
    return (
        record.id,
        record.path,
        record.version,
        record.mtime_ns,
        record.size,
        record.type,
        record.title,
        microseconds(record.created),
        microseconds(record.updated),
        record.author.client,
        dump_author(record.author),
        record.project,
        dump(list(record.tags)),
        record.trust.rank,
        dump([[link.rel, link.id] for link in record.links]),
        record.source,
        record.reason,
        dump(record.fields),
        fingerprint(record),
        chunk_count,
        thread_of(record),
    )


_COLUMNS = (
    "id, path, version, mtime_ns, size, type, title, created, updated, client, author, project, tags, trust, "
    "links, source, reason, fields, fingerprint, chunk_count, thread"
)
INSERT_MEMORY = f"INSERT INTO memories ({_COLUMNS}) VALUES ({', '.join('?' * 21)})"  # noqa: S608 - our own names
UPDATE_MEMORY = f"UPDATE memories SET ({_COLUMNS}) = ({', '.join('?' * 21)}) WHERE rowid = ?"  # noqa: S608 - our own names


def record_of(row: tuple[Any, ...]) -> Record:
    """The memory of a row of `RECORD_COLUMNS`."""
    return ReadRecord.of(row).record()


class ReadRecord(NamedTuple):
    """A memory as it was read, of which any number of records can be made: who gets one may change its `fields`.

    Attributes:
        values: of a `Record` in its order, up to its `fields`.
        fields: as JSON.
    """

    values: tuple[Any, ...]
    fields: str

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Self:
        """Of a row of `RECORD_COLUMNS`."""
        tags, links = row[12], row[14]
        times = (moment_of(row[8]), moment_of(row[9]))
        labels: tuple[str, ...] = tuple(json.loads(tags)) if tags != "[]" else ()
        linked = tuple(Link(rel, target) for rel, target in json.loads(links)) if links != "[]" else ()
        more = (load_author(row[10]), row[11], labels, _TRUST[row[13]], linked, row[15], row[16])
        return cls((*row[:8], *times, *more), row[17])

    @property
    def body(self) -> str:
        """The memory's body."""
        return self.values[3]

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        parts = len(self.values[12]) + len(self.values[14])  # tags and links
        return _OVERHEAD + sum(map(sys.getsizeof, self.values)) + sys.getsizeof(self.fields) + 200 * parts

    def record(self) -> Record:
        """One record of it."""
        return Record(*self.values, fields=json.loads(self.fields) if self.fields != "{}" else {})


def conditions(filters: Filters) -> tuple[str, list[Any]]:
    """A WHERE expression over `memories m` and its values; empty when nothing narrows.

    Raises:
        InvalidInput: a time without zone, or a field name with a quote or backslash.
    """
    parts: list[str] = []
    values: list[Any] = []

    def add(part: str, *given: Any) -> None:
        parts.append(part)
        values.extend(given)

    if filters.types:
        add(_among("m.type", filters.types), *filters.types)
    for tag in filters.tags:
        add(_TAGGED, tag)
    if filters.project is not None:
        projects = several(filters.project)
        any_of_them = _among("m.project", projects)
        add(f"({any_of_them} OR m.project IS NULL)" if filters.or_no_project else any_of_them, *projects)
    if filters.author is not None:
        authors = several(filters.author)
        add(_by(authors), *authors, *authors)
    if filters.ids:
        add(_among("m.id", filters.ids), *filters.ids)
    if filters.since is not None:
        add("m.updated >= ?", microseconds(filters.since))
    if filters.until is not None:
        add("m.updated < ?", microseconds(filters.until))
    if filters.max_trust is not Trust.SECRET:
        add("m.trust <= ?", filters.max_trust.rank)
    for name, value in filters.fields.items():
        check_field(name)
        if name == "handoff":  # spelt as its index is
            add("m.fields -> '$.\"handoff\"' = ?", dump(value))
        else:
            add("m.fields -> ? = ?", f'$."{name}"', dump(value))
    without = filters.without
    if without.types:
        add(f"NOT {_among('m.type', without.types)}", *without.types)
    for tag in without.tags:
        add(f"NOT {_TAGGED}", tag)
    if without.projects:
        add(f"{_among('m.project', without.projects)} IS NOT TRUE", *without.projects)
    if without.authors:
        add(f"{_by(without.authors)} IS NOT TRUE", *without.authors, *without.authors)
    if without.ids:
        add(f"NOT {_among('m.id', without.ids)}", *without.ids)
    if without.events:
        add(f"m.rowid NOT IN ({EVENTS})")
    if phrases := [phrase for word in without.words if (phrase := phrase_of(word))]:
        # The column filter keeps type, author and tags out of it; phrases hold no quotes, so nothing in them is syntax.
        add(
            "m.rowid NOT IN (SELECT x.memory FROM words y CROSS JOIN chunks x ON x.id = y.rowid WHERE words MATCH ?)",
            f"{{title body grams}} : ({any_of(phrases)})",
        )
    for more in filters.also:
        where, given = conditions(more)
        if where:
            add(where, *given)
    if filters.within is not None:
        where, given = inside(filters.within)
        add(where, *given)
    return " AND ".join(parts), values


def inside(within: Within) -> tuple[str, list[Any]]:
    """A WHERE expression over `memories m` for what somebody may see at all, and its values."""
    own, values = _seen("m", within)
    offer, more = _seen("o", within)
    values = [*values, *more]
    if within.hidden:
        own += " AND m.id NOT IN (SELECT value FROM json_each(?))"
        values.insert(len(values) - len(more), dump(list(within.hidden)))
    event = """m.type <> 'handoff' OR m.fields ->> '$."event"' IS NULL"""
    its_offer = """o.type = 'handoff' AND o.fields ->> '$."event"' IS NULL AND o.id = m.fields ->> '$."handoff"'"""
    return f"{own} AND ({event} OR EXISTS (SELECT 1 FROM memories o WHERE {its_offer} AND {offer}))", values  # noqa: S608


def _seen(row: str, within: Within) -> tuple[str, list[Any]]:
    parts, values = [f"{row}.trust <= ?"], list[Any]([within.max_trust.rank])
    if within.projects is not None:
        # The column's own order takes upper and lower case for the same.
        parts.append(f"{row}.project COLLATE BINARY IN (SELECT value FROM json_each(?))")  # noqa: S608
        values.append(dump(list(within.projects)))
    return " AND ".join(parts), values


_TAGGED = "m.rowid IN (SELECT memory FROM memory_tags WHERE tag = ?)"
# Read once, and out of an index of their own, so that a list or count is about as quick as without.
EVENTS = """SELECT e.rowid FROM memories e WHERE e.type = 'handoff' AND e.fields ->> '$."event"' IS NOT NULL"""


def _among(column: str, names: Sequence[str]) -> str:
    return f"{column} IN ({', '.join('?' * len(names))})"


def check_field(name: str) -> None:
    """Refuse what cannot be told from a path within JSON.

    Raises:
        InvalidInput: the name has a quote, a backslash or NUL.
    """
    if '"' in name or "\\" in name or "\0" in name:
        raise InvalidInput(f"no field can be named {name!r}", hint="Name a field of the memory's type.")


def several(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """One name, or several, as several."""
    return (names,) if isinstance(names, str) else names


def _by(authors: Sequence[str]) -> str:
    agents = ", ".join(["lower(?)"] * len(authors))
    return f"({_among('m.client', authors)} OR lower(m.author ->> 1) IN ({agents}))"


def fetch_read(connection: apsw.Connection, rows: Sequence[int]) -> dict[int, ReadRecord]:
    """Whole memories by row id; those that are gone are left out."""
    found = fetch_all(
        connection,
        f"SELECT m.rowid, {RECORD_COLUMNS} FROM json_each(?) j CROSS JOIN memories m ON m.rowid = j.value "  # noqa: S608
        "CROSS JOIN bodies b ON b.memory = m.rowid",
        (json.dumps(list(rows)),),
    )
    return {row[0]: ReadRecord.of(row[1:]) for row in found}
