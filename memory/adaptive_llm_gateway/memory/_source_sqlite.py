"""The `Source` of the SQLite index: FTS5's postings, and vectors held in memory or read from the file."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._bm25 import NOWHERE, Facts, Occurrences, Postings, Words
from adaptive_llm_gateway.memory._chunk_table import ChunkTable, Part
from adaptive_llm_gateway.memory._distinct import Distinct, distinct
from adaptive_llm_gateway.memory._index_rows import ReadRecord, conditions, fetch_read, inside
from adaptive_llm_gateway.memory._let_through import Asked, LetThrough, RecentlyLetThrough, asked_of, state_of
from adaptive_llm_gateway.memory._qdrant_vectors import QdrantVectors
from adaptive_llm_gateway.memory._query import affordable, any_of, normalise
from adaptive_llm_gateway.memory._recent_postings import RecentPostings
from adaptive_llm_gateway.memory._recent_rows import RecentRows
from adaptive_llm_gateway.memory._source import Head, Span, nearest_to
from adaptive_llm_gateway.memory._sql import fetch_all, fetch_value, placeholders
from adaptive_llm_gateway.memory._tokens import stems_of
from adaptive_llm_gateway.memory._values import Filters, Record
from adaptive_llm_gateway.memory._vectors import (
    EMPTY,
    Candidates,
    Codes,
    Floats,
    Integers,
    Narrowed,
    VectorCache,
)

_LEAST_ROWS, _MOST_ROWS, _SHARE = 10_000, 60_000, 16  # chunks that a query's words may be looked up in: one in so many
_NO_IDS = np.zeros(0, np.int64)
_MIN_COUNTED = 10_000  # chunks; below, every word can be afforded
_MAX_COUNTED = 20_000  # words remembered
_WORTH_A_THREAD = 50_000  # vectors; handing over costs a tenth of a millisecond
_NARROWING = ThreadPoolExecutor(4, thread_name_prefix="memory-narrowing")  # starts its threads when they are needed
_MAX_PHRASE = 20_000  # chunks of one phrase
_HEADS_ROOM, _SPANS_ROOM, _MEMORIES_ROOM = 8_000_000, 4_000_000, 16_000_000  # bytes, about 10,000 memories
_SPAN = 250  # bytes, with its entry
_WEIGHTS = np.array([1.0, 2.0, 0.7, 1.0], np.float32)  # of body, title, meta and grams
_FIRST = np.ones(1, np.bool_)


def newest_chunk(connection: apsw.Connection) -> int:
    """The greatest id of a chunk that the transaction sees, 0 for none."""
    return int(fetch_value(connection, "SELECT max(id) FROM chunks") or 0)


class TermCounts:
    """In how many chunks a word occurs, roughly: counted once, and again when the index has grown by a tenth.

    Shared by the readers of one index, as are the postings and memories read last and what filters let through.
    """

    def __init__(self) -> None:
        self.recent = RecentPostings()
        self.let_through = RecentlyLetThrough()
        self.heads = RecentRows[Head](_HEADS_ROOM, lambda head: head.size)
        self.spans = RecentRows[Span](_SPANS_ROOM, lambda _: _SPAN)
        self.memories = RecentRows[ReadRecord](_MEMORIES_ROOM, lambda read: read.size)
        self._counts: dict[str, int] = {}
        self._size = 0

    def of(self, connection: apsw.Connection, words: Sequence[str], size: int) -> list[int]:
        """Counts of words, in their order; zeros while the index is small.

        Args:
            size: the newest chunk of the transaction.
        """
        if size < _MIN_COUNTED:
            return [0] * len(words)
        counts = self._counts
        if len(counts) > _MAX_COUNTED or not self._size <= size <= self._size * 1.1:
            counts = self._counts = {}
            self._size = size
        for word in words:
            if word not in counts:
                found = [
                    fetch_value(connection, "SELECT doc FROM temp.terms WHERE term = ?", (token,))
                    for token in stems_of(word)
                ]
                counts[word] = min((count or 0 for count in found), default=0)
        return [counts[word] for word in words]

    def affordable(self, connection: apsw.Connection, words: Sequence[str], size: int) -> list[str]:
        """Those of a query's words that are searched: without the most common ones when they are in too many chunks.

        Args:
            size: the newest chunk of the transaction.
        """
        if not words:
            return []
        counts = self.of(connection, words, size)
        return affordable(words, counts, max(_LEAST_ROWS, min(_MOST_ROWS, self._size // _SHARE)))


class SqliteSource:
    """See `Source`. Lives within one read transaction.

    Args:
        table: where the chunks belong.
        cache: the vectors in memory or on a server; without it none is near, and codes are read from the file.
        terms: how common words are.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        filters: Filters,
        table: ChunkTable,
        cache: VectorCache | QdrantVectors | None,
        terms: TermCounts,
        without: tuple[bytes, ...] = (),
    ) -> None:
        self._connection = connection
        self._table = table
        self._let_through: Distinct | None = None
        self._newest = newest_chunk(connection)
        self._filters = filters
        self._cache = cache
        self._terms = terms
        self._recent = terms.recent
        self._without = without
        self._phrases: dict[str, Occurrences] = {}  # a literal's phrase is asked for twice
        self._seen: Distinct | None = None
        self._part: Part | None = None
        self._state = state_of(connection)
        if filters.within is not None:
            asked = asked_of(*inside(filters.within))
            found = self._found(asked)
            part = terms.let_through.part(self._state, asked, table, found)
            # The table has all that the part has, and no more: without the view each answer is the same.
            if found.everything and part.sizes == table.sizes:
                filters = replace(filters, within=None)
            else:
                self._seen, self._part = found.memories, part
        self._narrow = _conditions(replace(filters, within=None), without)
        self._where, self._values = _conditions(filters, without)

    def by_words(self, phrases: Sequence[str], words: Sequence[str], names: Collection[str] = ()) -> Words:
        """See `Source`.

        Scores are not FTS5's: its `bm25` takes many times as long as reading where a word occurs (decision 0008).
        """
        words = self._terms.affordable(self._connection, words, self._newest)
        tokens = dict.fromkeys(token for word in words for token in stems_of(word))
        named = {token for word in words if word in names for token in stems_of(word)}
        found = [self._occurrences(token) for token in tokens]
        found += [self._with_phrase(phrase) for phrase in dict.fromkeys(phrases)]
        postings = Postings.of(found, tuple(place for place, token in enumerate(tokens) if token in named))
        sizes = self._table.sizes if self._part is None else self._part.sizes
        return Words(postings, sizes, self.facts, self._lets_through if self._where else None)

    def _occurrences(self, token: str) -> Occurrences:
        """The chunks of a token, and how often it occurs in each."""
        if (known := self._recent.get(token, self._newest)) is not None:
            return known
        # One number a place, the chunk's id and the column: one string crosses into Python instead of a tuple a row.
        text = fetch_value(
            self._connection,
            "SELECT group_concat(doc * 4 + CASE col WHEN 'body' THEN 0 WHEN 'title' THEN 1 WHEN 'meta' THEN 2 "
            "ELSE 3 END) FROM temp.places WHERE term = ?",
            (token,),
        )
        if not text:
            return NOWHERE
        places = _numbers(text)  # ascending, a chunk as often as the token is in it
        chunks = places >> 2
        first = np.flatnonzero(np.concatenate([_FIRST, chunks[1:] != chunks[:-1]]))
        found = Occurrences(chunks[first], np.add.reduceat(_WEIGHTS[places & 3], first))
        self._recent.put(token, self._newest, found)
        return found

    def _with_phrase(self, phrase: str) -> Occurrences:
        """The chunks of a phrase, which counts once in each."""
        if phrase in self._phrases:
            return self._phrases[phrase]
        match = any_of([phrase])
        statement = "SELECT group_concat(rowid) FROM (SELECT rowid FROM words WHERE words MATCH ? LIMIT ?)"
        found = fetch_value(self._connection, statement, (match, _MAX_PHRASE))
        if self._where and found and found.count(",") + 1 >= _MAX_PHRASE:  # filters come before the cut
            found = fetch_value(
                self._connection,
                "SELECT group_concat(id) FROM (SELECT c.id FROM words w CROSS JOIN chunks c ON c.id = w.rowid "  # noqa: S608
                f"CROSS JOIN memories m ON m.rowid = c.memory WHERE words MATCH ? AND {self._where} LIMIT ?)",
                (match, *self._values, _MAX_PHRASE),
            )
        chunks = np.sort(_numbers(found)) if found else _NO_IDS
        self._phrases[phrase] = Occurrences(chunks, np.ones(len(chunks), np.float32))
        return self._phrases[phrase]

    def _lets_through(self, memories: Integers) -> NDArray[np.bool_]:
        """Which memories the filters let through."""
        return self._places().has(memories)

    def facts(self, chunks: Integers) -> Facts:
        """See `Source`."""
        found = self._table.seen(chunks, self._newest, self._look_up)
        return found if self._part is None else self._part.of(found)

    def _look_up(self, chunks: Sequence[int]) -> list[tuple[int, ...]]:
        """See `ChunkTable.seen`."""
        return self._about(
            "c.id, c.memory, m.chunk_count, c.stop - c.start, (SELECT sum(s.stop - s.start) FROM chunks s "
            "WHERE s.memory = c.memory)",
            "chunks c ON c.id = j.value CROSS JOIN memories m ON m.rowid = c.memory",
            chunks,
        )

    def containing(self, literal: str, chunks: Sequence[int]) -> set[int]:
        """See `Source`."""
        if not literal.isascii():  # SQLite knows upper and lower case of ASCII alone, and no other form of a letter
            rows = self._about(
                "c.id, substr(b.body, c.start + 1, c.stop - c.start), m.title",
                "chunks c ON c.id = j.value CROSS JOIN memories m ON m.rowid = c.memory "
                "CROSS JOIN bodies b ON b.memory = c.memory",
                chunks,
            )
            return {row[0] for row in rows if any(literal in normalise(text).lower() for text in row[1:])}
        rows = self._about(
            "c.id",
            "chunks c ON c.id = j.value CROSS JOIN memories m ON m.rowid = c.memory "
            "CROSS JOIN bodies b ON b.memory = c.memory WHERE instr(lower(CASE WHEN m.chunk_count = 1 THEN b.body "
            "ELSE substr(b.body, c.start + 1, c.stop - c.start) END), ?2) OR instr(lower(m.title), ?2)",
            chunks,
            literal,
        )
        return {row[0] for row in rows}

    def begin_nearest(
        self, vector: Callable[[], Floats | None], count: int
    ) -> Callable[[], tuple[Floats | None, Candidates]]:
        """See `Source`. Many vectors are narrowed in a thread beside this one, which alone reads the file."""
        cache = self._cache
        if not isinstance(cache, VectorCache) or len(cache) < _WORTH_A_THREAD:
            return functools.partial(nearest_to, self, vector, count)
        allowed = self._allowed() if self._where else None

        def narrow() -> Narrowed | None:
            unit = vector()
            return None if unit is None else cache.narrowed(unit, count, allowed)

        narrowing = _NARROWING.submit(narrow)

        def result() -> tuple[Floats | None, Candidates]:
            narrowed = narrowing.result()
            return (None, EMPTY) if narrowed is None else (narrowed.query, narrowed.scored(self._stored))

        return result

    def nearest(self, vector: Floats, count: int) -> Candidates:
        """See `Source`."""
        if self._cache is None:
            return EMPTY
        allowed = self._allowed() if self._where else None
        near = self._cache.nearest(vector, count, allowed, fetch=self._stored)
        if isinstance(self._cache, VectorCache):
            return near
        memories = self.facts(near.chunks).memories
        # A server's word on which memory a chunk is of is not taken: filters guard trust, too.
        keep = memories > 0 if allowed is None else self._lets_through(memories)
        return Candidates(near.chunks[keep], memories[keep], near.cosines[keep])

    def codes(self, chunks: Integers) -> tuple[NDArray[np.bool_], Codes]:
        """See `Source`."""
        if isinstance(self._cache, VectorCache) and self._cache.holds_codes:
            return self._cache.rows(chunks)
        return self._stored(chunks)

    def _stored(self, chunks: Integers) -> tuple[NDArray[np.bool_], Codes]:
        """`codes` from the file."""
        wanted = chunks.tolist()
        stored = dict(self._about("v.chunk, v.vector", "vectors v ON v.chunk = j.value", wanted))
        known = np.array([chunk in stored for chunk in wanted], np.bool_)
        return known, _matrix([stored[chunk] for chunk in wanted if chunk in stored])

    def heads(self, memories: Sequence[int]) -> dict[int, Head]:
        """See `Source`."""
        return self._terms.heads.of(self._state, memories, self._read_heads)

    def _read_heads(self, memories: Sequence[int]) -> dict[int, Head]:
        rows = self._about(
            "m.rowid, m.type, m.title, m.created, m.updated, m.fingerprint, m.chunk_count, m.id, m.links, m.fields",
            "memories m ON m.rowid = j.value",
            memories,
        )
        return {row[0]: Head.of(row) for row in rows}

    def bodies(self, memories: Sequence[int]) -> dict[int, str]:
        """See `Source`."""
        return {memory: read.body for memory, read in self._read(memories).items()}

    def spans(self, chunks: Sequence[int]) -> dict[int, Span]:
        """See `Source`."""
        return self._terms.spans.of(self._state, chunks, self._read_spans)

    def _read_spans(self, chunks: Sequence[int]) -> dict[int, Span]:
        rows = self._about("c.id, c.start, c.stop, c.first_line", "chunks c ON c.id = j.value", chunks)
        return {row[0]: Span(*row[1:]) for row in rows}

    def records(self, memories: Sequence[int]) -> dict[int, Record]:
        """See `Source`."""
        return {memory: read.record() for memory, read in self._read(memories).items()}

    def _read(self, memories: Sequence[int]) -> dict[int, ReadRecord]:
        return self._terms.memories.of(self._state, memories, functools.partial(fetch_read, self._connection))

    def ids(self, memories: Sequence[int]) -> dict[int, str]:
        """See `Source`."""
        return dict(self._about("m.rowid, m.id", "memories m ON m.rowid = j.value", memories))

    def recent(self, count: int) -> list[int]:
        """See `Source`."""
        rows = fetch_all(
            self._connection,
            f"SELECT m.rowid FROM memories m {'WHERE ' + self._where if self._where else ''} "  # noqa: S608 - ours
            "ORDER BY m.updated DESC, m.rowid DESC LIMIT ?",
            (*self._values, count),
        )
        return [row[0] for row in rows]

    def without(self, fingerprints: Sequence[bytes]) -> SqliteSource:
        """See `Source`."""
        return SqliteSource(
            self._connection,
            filters=self._filters,
            table=self._table,
            cache=self._cache,
            terms=self._terms,
            without=(*self._without, *fingerprints),
        )

    def _about(self, columns: str, source: str, wanted: Sequence[int], *values: Any) -> list[tuple[Any, ...]]:
        """Rows for some row ids, which cross over as one value."""
        statement = f"SELECT {columns} FROM json_each(?1) j CROSS JOIN {source}"  # noqa: S608 - our own names
        return fetch_all(self._connection, statement, (json.dumps(list(wanted)), *values))

    def _allowed(self) -> Integers:
        """Row ids of the memories that the filters let through, ascending."""
        return self._places().ids

    def _places(self) -> Distinct:
        """The memories that the filters let through: of those that may be seen at all."""
        if self._let_through is None:
            seen = self._seen
            if not self._narrow[0]:
                self._let_through = seen if seen is not None else self._found(self._narrow).memories
            else:
                found = self._found(self._narrow).memories
                self._let_through = found if seen is None else distinct(found.ids[seen.has(found.ids)])
        return self._let_through

    def _found(self, asked: Asked) -> LetThrough:
        """What filters let through, whoever asks."""
        known = self._terms.let_through.get(self._state, asked)
        if known is None:
            where, values = asked
            # One string crosses into Python instead of a tuple a row.
            text = fetch_value(
                self._connection,
                f"SELECT group_concat(m.rowid) FROM memories m {'WHERE ' + where if where else ''}",  # noqa: S608 - ours
                values,
            )
            rows = np.sort(_numbers(text)) if text else _NO_IDS
            total = fetch_value(self._connection, "SELECT count(*) FROM memories")
            known = LetThrough(distinct(rows), len(rows) == total)
            self._terms.let_through.put(self._state, asked, known)
        return known


def _conditions(filters: Filters, without: tuple[bytes, ...]) -> Asked:
    """Filters as SQL, and without copies of some texts."""
    where, values = conditions(filters)
    if without:
        where = " AND ".join(filter(None, [where, f"m.fingerprint NOT IN ({placeholders(len(without))})"]))
        values = [*values, *without]
    return asked_of(where, values)


def _numbers(text: str) -> Integers:
    return np.fromstring(text, np.int64, sep=",")


def _matrix(blobs: list[bytes]) -> Codes:
    return np.frombuffer(b"".join(blobs), np.int8).reshape(len(blobs), len(blobs[0]) if blobs else 0)
