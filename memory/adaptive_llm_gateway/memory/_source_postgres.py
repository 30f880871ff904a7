"""The `Source` of the PostgreSQL index: words from its postings, vectors from pgvector."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._bm25 import NOWHERE, Facts, Postings, Words
from adaptive_llm_gateway.memory._chunk_table import ChunkTable
from adaptive_llm_gateway.memory._distinct import distinct
from adaptive_llm_gateway.memory._postgres import NEAR
from adaptive_llm_gateway.memory._postgres_rows import conditions, fetch_records, inside, restored, stored
from adaptive_llm_gateway.memory._postgres_words import counts, memories_saying, occurrences, with_phrase
from adaptive_llm_gateway.memory._query import affordable, normalise
from adaptive_llm_gateway.memory._source import Head, Span, nearest_to
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all, fetch_value, run
from adaptive_llm_gateway.memory._tokens import tokens_of
from adaptive_llm_gateway.memory._values import Filters, Record
from adaptive_llm_gateway.memory._vectors import EMPTY, Candidates, Codes, Floats, Integers, quantise

# As the SQLite index has them.
_LEAST_ROWS, _MOST_ROWS, _SHARE = 10_000, 60_000, 16  # chunks that a query's words may be looked up in: one in so many
_MIN_COUNTED = 10_000  # chunks; below, every word can be afforded

_FEW = 20_000  # memories let through by filters; up to so many their vectors are compared one by one
_LONGEST_LIST = 1_000  # pgvector's `hnsw.ef_search` ends here

_NO_IDS = np.zeros(0, np.int64)


class PostgresSource:
    """See `Source`. Lives within one read transaction.

    Args:
        table: where the chunks belong.
        dimensions: of the vectors that are kept.
    """

    def __init__(
        self,
        connection: Link,
        *,
        filters: Filters,
        table: ChunkTable,
        dimensions: int,
        without: tuple[bytes, ...] = (),
    ) -> None:
        self._connection = connection
        self._filters = filters
        self._table = table
        self._dimensions = dimensions
        self._without = without
        self._rows: Integers | None = None
        self._newest: int | None = None  # chunk of the transaction
        within = filters.within
        self._part = None if within is None else table.part(distinct(self._rows_where(*inside(within))))
        where, values = conditions(filters, lambda tokens: memories_saying(connection, tokens))
        if without:
            where = " AND ".join(filter(None, [where, "m.fingerprint <> ALL(%s)"]))
            values = [*values, list(without)]
        self._where, self._values = where, values

    # --- Words ----------------------------------------------------------------------------------------

    def by_words(self, phrases: Sequence[str], words: Sequence[str], names: Collection[str] = ()) -> Words:
        """See `Source`."""
        words = affordable_words(self._connection, words, self._table.sizes.chunks)
        single = dict.fromkeys(token for word in words for token in tokens_of(word))
        named = {token for word in words if word in names for token in tokens_of(word)}
        several = [tokens for phrase in dict.fromkeys(phrases) if (tokens := tokens_of(phrase))]
        known = occurrences(self._connection, [*single, *(token for tokens in several for token in tokens)])
        found = [known.get(token, NOWHERE) for token in single]
        found += [with_phrase(self._connection, tokens, known) for tokens in several]
        postings = Postings.of(found, tuple(place for place, token in enumerate(single) if token in named))
        sizes = self._table.sizes if self._part is None else self._part.sizes
        return Words(postings, sizes, self.facts, self._lets_through if self._where else None)

    def _lets_through(self, memories: Integers) -> NDArray[np.bool_]:
        """Which memories the filters let through."""
        if self._rows is None:
            self._rows = self._rows_where(self._where, self._values)
        return np.isin(memories, self._rows)

    def facts(self, chunks: Integers) -> Facts:
        """See `Source`."""
        if self._newest is None:
            self._newest = int(fetch_value(self._connection, "SELECT max(id) FROM chunks") or 0)
        found = self._table.seen(chunks, self._newest, self._look_up)
        return found if self._part is None else self._part.of(found)

    def _rows_where(self, where: str, values: Sequence[Any]) -> Integers:
        """Row ids of memories, ascending; one value crosses over instead of a row for each."""
        sent = fetch_value(
            self._connection,
            f"SELECT string_agg(int8send(m.row), ''::bytea) FROM memories m WHERE {where}",  # noqa: S608
            values,
        )
        return np.sort(np.frombuffer(sent or b"", ">i8").astype(np.int64))

    def _look_up(self, chunks: Sequence[int]) -> list[tuple[int, ...]]:
        """See `ChunkTable.seen`."""
        return fetch_all(
            self._connection,
            "SELECT c.id, c.memory, m.chunk_count, c.stop - c.start, (SELECT sum(s.stop - s.start) FROM chunks s "
            "WHERE s.memory = c.memory) FROM chunks c JOIN memories m ON m.row = c.memory WHERE c.id = ANY(%s)",
            (list(chunks),),
        )

    def containing(self, literal: str, chunks: Sequence[int]) -> set[int]:
        """See `Source`."""
        if not chunks:
            return set()
        if not literal.isascii():  # what the server knows of upper and lower case depends on its locale
            rows = fetch_all(
                self._connection,
                "SELECT c.id, substr(b.body, c.start + 1, c.stop - c.start), m.title FROM chunks c "
                "JOIN memories m ON m.row = c.memory JOIN bodies b ON b.memory = c.memory WHERE c.id = ANY(%s)",
                (list(chunks),),
            )
            return {row[0] for row in rows if any(literal in normalise(text).lower() for text in row[1:])}
        wanted = stored(literal).encode("utf-8", "replace").decode("utf-8")
        rows = fetch_all(
            self._connection,
            "SELECT c.id FROM chunks c JOIN memories m ON m.row = c.memory JOIN bodies b ON b.memory = c.memory "
            "WHERE c.id = ANY(%s) AND (strpos(lower(CASE WHEN m.chunk_count = 1 THEN b.body "
            "ELSE substr(b.body, c.start + 1, c.stop - c.start) END), %s) > 0 OR strpos(lower(m.title), %s) > 0)",
            (list(chunks), wanted, wanted),
        )
        return {row[0] for row in rows}

    # --- Vectors --------------------------------------------------------------------------------------

    def begin_nearest(
        self, vector: Callable[[], Floats | None], count: int
    ) -> Callable[[], tuple[Floats | None, Candidates]]:
        """See `Source`: one after the other, as the connection is."""
        return functools.partial(nearest_to, self, vector, count)

    def nearest(self, vector: Floats, count: int) -> Candidates:
        """See `Source`."""
        if not self._where:
            return self._near(vector, count)
        few = fetch_value(
            self._connection,
            f"SELECT count(*) FROM (SELECT 1 FROM memories m WHERE {self._where} LIMIT %s) f",  # noqa: S608 - ours
            (*self._values, _FEW + 1),
        )
        if few > _FEW:
            found = self._near(vector, count)
            if len(found.chunks) >= count:
                return found
        return self._nearest_of_allowed(vector, count)

    def _near(self, vector: Floats, count: int) -> Candidates:
        """By the index, which goes on until enough pass the filters or it has looked far."""
        if count > NEAR:
            run(self._connection, f"SET LOCAL hnsw.ef_search = {min(_LONGEST_LIST, count)}")
        half = f"halfvec({self._dimensions})"
        join = f"JOIN memories m ON m.row = v.memory WHERE {self._where}" if self._where else ""
        return self._candidates(
            f"SELECT v.chunk, v.memory, 1 - (v.half::{half} <=> %s::{half}) FROM vectors v {join} "  # noqa: S608 - ours
            f"ORDER BY v.half::{half} <=> %s::{half} LIMIT %s",
            (written(vector), *self._values, written(vector), count),
        )

    def _nearest_of_allowed(self, vector: Floats, count: int) -> Candidates:
        """One by one, of the memories that the filters let through; no index serves the function."""
        return self._candidates(
            f"WITH allowed AS MATERIALIZED (SELECT m.row FROM memories m WHERE {self._where}) "  # noqa: S608 - ours
            "SELECT v.chunk, v.memory, 1 - cosine_distance(v.half, %s::halfvec) AS cosine "
            "FROM allowed a JOIN vectors v ON v.memory = a.row ORDER BY cosine DESC LIMIT %s",
            (*self._values, written(vector), count),
        )

    def _candidates(self, statement: str, values: Sequence[Any]) -> Candidates:
        rows = fetch_all(self._connection, statement, values)
        if not rows:
            return EMPTY
        found = Candidates(
            np.array([row[0] for row in rows], np.int64),
            np.array([row[1] for row in rows], np.int64),
            np.array([row[2] for row in rows], np.float32),
        )
        if not np.isnan(found.cosines).any():
            return found
        known = ~np.isnan(found.cosines)  # a vector of zeros is near nothing
        return Candidates(found.chunks[known], found.memories[known], found.cosines[known])

    def codes(self, chunks: Integers) -> tuple[NDArray[np.bool_], Codes]:
        """See `Source`."""
        wanted = chunks.tolist()
        rows = fetch_all(
            self._connection, "SELECT chunk, halfvec_send(half) FROM vectors WHERE chunk = ANY(%s)", (wanted,)
        )
        halves = dict(rows)
        known = np.array([chunk in halves for chunk in wanted], np.bool_)
        if not halves:
            return known, np.zeros((0, self._dimensions), np.int8)
        return known, quantise(read_vectors([halves[chunk] for chunk in wanted if chunk in halves]))

    # --- What is known of them ------------------------------------------------------------------------

    def heads(self, memories: Sequence[int]) -> dict[int, Head]:
        """See `Source`."""
        rows = fetch_all(
            self._connection,
            "SELECT m.row, m.type, m.title, m.created, m.updated, m.fingerprint, m.chunk_count, m.id, "
            "m.links, m.fields FROM memories m "
            "WHERE m.row = ANY(%s)",
            (list(memories),),
        )
        return {row[0]: Head.of([restored(value) for value in row]) for row in rows}

    def bodies(self, memories: Sequence[int]) -> dict[int, str]:
        """See `Source`."""
        rows = fetch_all(self._connection, "SELECT memory, body FROM bodies WHERE memory = ANY(%s)", (list(memories),))
        return {row[0]: restored(row[1]) for row in rows}

    def spans(self, chunks: Sequence[int]) -> dict[int, Span]:
        """See `Source`."""
        rows = fetch_all(
            self._connection, "SELECT id, start, stop, first_line FROM chunks WHERE id = ANY(%s)", (list(chunks),)
        )
        return {row[0]: Span(*row[1:]) for row in rows}

    def records(self, memories: Sequence[int]) -> dict[int, Record]:
        """See `Source`."""
        return fetch_records(self._connection, memories)

    def ids(self, memories: Sequence[int]) -> dict[int, str]:
        """See `Source`."""
        return dict(fetch_all(self._connection, "SELECT row, id FROM memories WHERE row = ANY(%s)", (list(memories),)))

    def recent(self, count: int) -> list[int]:
        """See `Source`."""
        rows = fetch_all(
            self._connection,
            f"SELECT m.row FROM memories m {'WHERE ' + self._where if self._where else ''} "  # noqa: S608 - ours
            "ORDER BY m.updated DESC, m.row DESC LIMIT %s",
            (*self._values, count),
        )
        return [row[0] for row in rows]

    def without(self, fingerprints: Sequence[bytes]) -> PostgresSource:
        """See `Source`."""
        return PostgresSource(
            self._connection,
            filters=self._filters,
            table=self._table,
            dimensions=self._dimensions,
            without=(*self._without, *fingerprints),
        )


def word_counts(connection: Link, words: Sequence[str]) -> list[int]:
    """In how many chunks each word occurs."""
    tokens = [tokens_of(word) for word in words]
    docs = counts(connection, [token for part in tokens for token in part])
    return [min((docs.get(token, 0) for token in part), default=0) for part in tokens]


def affordable_words(connection: Link, words: Sequence[str], chunks: int) -> Sequence[str]:
    """Those of a query's words that are searched: without the most common ones when they are in too many chunks."""
    if not words or chunks < _MIN_COUNTED:
        return words
    return affordable(words, word_counts(connection, words), max(_LEAST_ROWS, min(_MOST_ROWS, chunks // _SHARE)))


def written(vector: Floats) -> str:
    """A vector as pgvector reads it; a half has three digits."""
    return "[" + ",".join(f"{value:.5g}" for value in vector.tolist()) + "]"


def read_vectors(sent: Sequence[bytes]) -> Floats:
    """Vectors (n, d) of what `halfvec_send` gave for at least one: two 16-bit numbers, then the halves."""
    return np.frombuffer(b"".join(sent), ">f2").reshape(len(sent), -1)[:, 2:].astype(np.float32)
