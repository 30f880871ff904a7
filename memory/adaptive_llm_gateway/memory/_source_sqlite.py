"""The `Source` of the SQLite index: FTS5, and vectors from memory or through sqlite-vec."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._index_rows import conditions, fetch_records
from adaptive_llm_gateway.memory._index_schema import TOKENIZER
from adaptive_llm_gateway.memory._query import affordable, any_of
from adaptive_llm_gateway.memory._source import Head, Span, WordMatches
from adaptive_llm_gateway.memory._sql import fetch_all, fetch_value, placeholders, run
from adaptive_llm_gateway.memory._values import Filters, Record
from adaptive_llm_gateway.memory._vectors import (
    EMPTY,
    Candidates,
    Codes,
    Floats,
    Integers,
    VectorCache,
)

SCORED_ROWS = 1_500  # rows that the words of a query may make FTS5 score
_MIN_COUNTED = 2_000  # chunks; below, every word can be afforded
_MAX_COUNTED = 20_000  # words remembered


class TermCounts:
    """In how many chunks a word occurs, roughly: counted once, and again when the index has grown by a tenth.

    Shared by the readers of one index.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._size = 0

    def of(self, connection: apsw.Connection, words: Sequence[str]) -> list[int]:
        """Counts of words, in their order; zeros while the index is small."""
        size = fetch_value(connection, "SELECT max(id) FROM chunks") or 0
        if size < _MIN_COUNTED:
            return [0] * len(words)
        counts = self._counts
        if len(counts) > _MAX_COUNTED or not self._size <= size <= self._size * 1.1:
            counts = self._counts = {}
            self._size = size
        for word in words:
            if word not in counts:
                counts[word] = self._count(connection, word)
        return [counts[word] for word in words]

    @staticmethod
    def _count(connection: apsw.Connection, word: str) -> int:
        run(connection, "CREATE VIRTUAL TABLE IF NOT EXISTS temp.terms USING fts5vocab(main, words, row)")
        tokenizer = connection.fts5_tokenizer(TOKENIZER[0], list(TOKENIZER[1:]))
        tokens = tokenizer(
            word.encode("utf-8", "replace"),
            apsw.FTS5_TOKENIZE_QUERY,
            None,
            include_offsets=False,
            include_colocated=False,
        )
        # Without offsets the result is a list of strings; APSW types it as the union of all shapes.
        counts = [fetch_value(connection, "SELECT doc FROM temp.terms WHERE term = ?", (token,)) for token in tokens]
        return min((count or 0 for count in counts), default=0)


class SqliteSource:
    """See `Source`. Lives within one read transaction.

    Args:
        cache: the vectors in memory; without it none is near, and codes are read from the file.
        terms: how common words are; without it every word is searched.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        filters: Filters,
        cache: VectorCache | None,
        terms: TermCounts | None,
        without: tuple[bytes, ...] = (),
    ) -> None:
        self._connection = connection
        self._filters = filters
        self._cache = cache
        self._terms = terms
        self._without = without
        where, values = conditions(filters)
        if without:
            where = " AND ".join(filter(None, [where, f"m.fingerprint NOT IN ({placeholders(len(without))})"]))
            values = [*values, *without]
        self._where, self._values = where, values

    def by_words(self, phrases: Sequence[str], words: Sequence[str], count: int) -> WordMatches:
        """See `Source`."""
        if self._terms is not None and words:
            words = affordable(words, self._terms.of(self._connection, words), SCORED_ROWS)
        match = any_of(phrases, words)
        if not match:
            return WordMatches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
        join, where = "", ""
        if self._where:
            join, where = "CROSS JOIN memories m ON m.rowid = c.memory ", f"AND {self._where} "
        rows = fetch_all(
            self._connection,
            "SELECT w.rowid, c.memory, w.rank FROM words w CROSS JOIN chunks c ON c.id = w.rowid "  # noqa: S608 - ours
            f"{join}WHERE words MATCH ? {where}ORDER BY w.rank LIMIT ?",
            (match, *self._values, count),
        )
        return WordMatches(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.array([-row[2] for row in rows], np.float32),
        )

    def containing(self, literal: str, chunks: Sequence[int]) -> set[int]:
        """See `Source`."""
        rows = self._about(
            "c.id",
            "chunks c ON c.id = j.value CROSS JOIN memories m ON m.rowid = c.memory "
            "CROSS JOIN bodies b ON b.memory = c.memory WHERE instr(lower(CASE WHEN m.chunk_count = 1 THEN b.body "
            "ELSE substr(b.body, c.start + 1, c.stop - c.start) END), ?2) OR instr(lower(m.title), ?2)",
            chunks,
            literal,
        )
        return {row[0] for row in rows}

    def nearest(self, vector: Floats, count: int) -> Candidates:
        """See `Source`."""
        if self._cache is None:
            return EMPTY
        return self._cache.nearest(vector, count, self._allowed(), fetch=self._stored)

    def codes(self, chunks: Integers) -> tuple[NDArray[np.bool_], Codes]:
        """See `Source`."""
        if self._cache is not None and self._cache.holds_codes:
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
        rows = self._about(
            "m.rowid, m.type, m.title, m.updated, m.fingerprint, m.chunk_count",
            "memories m ON m.rowid = j.value",
            memories,
        )
        return {row[0]: Head(*row) for row in rows}

    def bodies(self, memories: Sequence[int]) -> dict[int, str]:
        """See `Source`."""
        return dict(self._about("b.memory, b.body", "bodies b ON b.memory = j.value", memories))

    def spans(self, chunks: Sequence[int]) -> dict[int, Span]:
        """See `Source`."""
        rows = self._about("c.id, c.start, c.stop, c.first_line", "chunks c ON c.id = j.value", chunks)
        return {row[0]: Span(*row[1:]) for row in rows}

    def records(self, memories: Sequence[int]) -> dict[int, Record]:
        """See `Source`."""
        return fetch_records(self._connection, list(memories))

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
            cache=self._cache,
            terms=self._terms,
            without=(*self._without, *fingerprints),
        )

    def _about(self, columns: str, source: str, wanted: Sequence[int], *values: Any) -> list[tuple[Any, ...]]:
        """Rows for some row ids, which cross over as one value."""
        statement = f"SELECT {columns} FROM json_each(?1) j CROSS JOIN {source}"  # noqa: S608 - our own names
        return fetch_all(self._connection, statement, (json.dumps(list(wanted)), *values))

    def _allowed(self) -> Integers | None:
        """Row ids of the memories that the filters let through; `None` for all."""
        if not self._where:
            return None
        # One string crosses into Python instead of a tuple a row.
        text = fetch_value(
            self._connection,
            f"SELECT group_concat(m.rowid) FROM memories m WHERE {self._where}",  # noqa: S608 - ours
            self._values,
        )
        return np.fromstring(text, np.int64, sep=",") if text else np.zeros(0, np.int64)


def _matrix(blobs: list[bytes]) -> Codes:
    return np.frombuffer(b"".join(blobs), np.int8).reshape(len(blobs), len(blobs[0]) if blobs else 0)
