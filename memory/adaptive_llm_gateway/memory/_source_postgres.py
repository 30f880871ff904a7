"""The `Source` of the PostgreSQL index: candidates from a GIN index over tokens, ranked here, and from pgvector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._postgres_rows import conditions, fetch_records, restored, stored
from adaptive_llm_gateway.memory._query import affordable
from adaptive_llm_gateway.memory._source import Head, Span, WordMatches
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all, fetch_one, fetch_value, run
from adaptive_llm_gateway.memory._tokens import BREAKS, WORD, tokens_of
from adaptive_llm_gateway.memory._values import Filters, Record
from adaptive_llm_gateway.memory._vectors import EMPTY, Candidates, Codes, Floats, Integers, quantise

SCORED_ROWS = 1_500  # rows that the words of a query may make us score
MIN_COUNTED = 2_000  # chunks; below, every word can be afforded
_MOST_ROWS = 4_000  # scored for words that are common all the same, those with all of them first
_FEW = 20_000  # memories let through by filters; up to so many their vectors are compared one by one
_LONGEST_LIST = 1_000  # pgvector's `hnsw.ef_search` ends here

# FTS5's BM25 with the weights that the SQLite index gives its columns.
_K1, _B = 1.2, 0.75
_TITLE, _BODY, _GRAMS, _META = 2.0, 1.0, 1.0, 0.7
_LEAST_IDF = 1e-6

_NONE = WordMatches(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


class _Rows(NamedTuple):
    """Chunks with their streams one behind the other; `ends` (n, 3) as in `Stream`, `stops` where each stream ends."""

    chunks: Integers
    memories: Integers
    stream: NDArray[np.int32]
    stops: Integers
    ends: Integers


class PostgresSource:
    """See `Source`. Lives within one read transaction.

    Args:
        dimensions: of the vectors that are kept.
    """

    def __init__(self, connection: Link, *, filters: Filters, dimensions: int, without: tuple[bytes, ...] = ()) -> None:
        self._connection = connection
        self._filters = filters
        self._dimensions = dimensions
        self._without = without
        where, values = conditions(filters)
        if without:
            where = " AND ".join(filter(None, [where, "m.fingerprint <> ALL(%s)"]))
            values = [*values, list(without)]
        self._where, self._values = where, values

    # --- Words ----------------------------------------------------------------------------------------

    def by_words(self, phrases: Sequence[str], words: Sequence[str], count: int) -> WordMatches:
        """See `Source`."""
        tokens = {part: tuple(tokens_of(part)) for part in (*phrases, *words)}
        chunks, total, docs = self._known({token for part in tokens.values() for token in part})
        if chunks >= MIN_COUNTED and words:
            words = affordable(words, [_rarest(tokens[word], docs) for word in words], SCORED_ROWS)
        wanted = list(dict.fromkeys(tokens[part] for part in (*phrases, *words)))
        wanted = [part for part in wanted if part and all(token in docs for token in part)]
        if not wanted:
            return _NONE
        rows = self._with_any(wanted, sum(_rarest(part, docs) for part in wanted))
        if rows is None:
            return _NONE
        scores = _bm25(rows, wanted, docs, chunks, total / max(chunks, 1))
        matched = np.flatnonzero(scores > 0.0)
        best = matched[np.lexsort((rows.chunks[matched], -scores[matched]))][:count]
        return WordMatches(rows.chunks[best], rows.memories[best], scores[best].astype(np.float32))

    def _known(self, tokens: set[int]) -> tuple[int, int, dict[int, int]]:
        """(all chunks, tokens in all of them, in how many chunks each of these tokens is that is in one)."""
        rows = fetch_all(
            self._connection,
            "SELECT NULL::int, chunks, tokens FROM totals "
            "UNION ALL SELECT term, docs, 0 FROM terms WHERE term = ANY(%s) AND docs > 0",
            (sorted(tokens),),
        )
        return rows[0][1], rows[0][2], {row[0]: row[1] for row in rows[1:]}

    def _with_any(self, wanted: list[tuple[int, ...]], estimate: int) -> _Rows | None:
        """The chunks that have all tokens of any part, at most `_MOST_ROWS`."""
        single = [part[0] for part in wanted if len(part) == 1]
        several = [list(dict.fromkeys(part)) for part in wanted if len(part) > 1]
        conditions_ = ["w.terms && %s::int[]"] * bool(single) + ["w.terms @> %s::int[]"] * len(several)
        values: list[Any] = [*([single] if single else []), *several]
        join, where = "", f"({' OR '.join(conditions_)})"
        if self._where:
            join, where = "JOIN memories m ON m.row = w.memory", f"{where} AND {self._where}"
            values += self._values
        cut = ""
        if estimate > _MOST_ROWS:
            # Chunks with all of it are the likelier answers, and among the others none is better than another.
            cut = "ORDER BY w.terms @> %s::int[] DESC, w.chunk DESC LIMIT %s"
            values += [sorted({token for part in wanted for token in part}), _MOST_ROWS]
        # One row crosses over instead of thousands.
        row = fetch_one(
            self._connection,
            "SELECT string_agg(int8send(f.chunk), ''::bytea), string_agg(int8send(f.memory), ''::bytea), "  # noqa: S608
            "string_agg(f.stream, ''::bytea), string_agg(int4send(length(f.stream)) || int4send(f.title_end) || "
            "int4send(f.body_end) || int4send(f.said_end), ''::bytea) "
            f"FROM (SELECT w.* FROM words w {join} WHERE {where} {cut}) f",
            values,
        )
        if row is None or row[0] is None:
            return None
        places = np.frombuffer(row[3], WORD).astype(np.int64).reshape(-1, 4)
        return _Rows(
            np.frombuffer(row[0], ">i8").astype(np.int64),
            np.frombuffer(row[1], ">i8").astype(np.int64),
            np.frombuffer(row[2], WORD).astype(np.int32),
            np.cumsum(places[:, 0] // WORD.itemsize),
            places[:, 1:],
        )

    def containing(self, literal: str, chunks: Sequence[int]) -> set[int]:
        """See `Source`."""
        if not chunks:
            return set()
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
        run(self._connection, f"SET LOCAL hnsw.ef_search = {min(_LONGEST_LIST, max(count, 40))}")
        run(self._connection, "SET LOCAL hnsw.iterative_scan = strict_order")
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
            "SELECT m.row, m.type, m.title, m.updated, m.fingerprint, m.chunk_count FROM memories m "
            "WHERE m.row = ANY(%s)",
            (list(memories),),
        )
        return {row[0]: Head(*map(restored, row)) for row in rows}

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
            dimensions=self._dimensions,
            without=(*self._without, *fingerprints),
        )


def word_counts(connection: Link, words: Sequence[str]) -> tuple[list[int], int]:
    """(in how many chunks each word occurs, all chunks)."""
    tokens = [tuple(tokens_of(word)) for word in words]
    rows = fetch_all(
        connection, "SELECT term, docs FROM terms WHERE term = ANY(%s)", (sorted({t for part in tokens for t in part}),)
    )
    docs = dict(rows)
    return [_rarest(part, docs) for part in tokens], fetch_value(connection, "SELECT chunks FROM totals")


def written(vector: Floats) -> str:
    """A vector as pgvector reads it; a half has three digits."""
    return "[" + ",".join(f"{value:.5g}" for value in vector.tolist()) + "]"


def read_vectors(sent: Sequence[bytes]) -> Floats:
    """Vectors (n, d) of what `halfvec_send` gave for at least one: two 16-bit numbers, then the halves."""
    return np.frombuffer(b"".join(sent), ">f2").reshape(len(sent), -1)[:, 2:].astype(np.float32)


def _rarest(tokens: tuple[int, ...], docs: dict[int, int]) -> int:
    """In how many chunks a word or phrase can be at most."""
    return min((docs.get(token, 0) for token in tokens), default=0)


def _bm25(
    rows: _Rows, wanted: list[tuple[int, ...]], docs: dict[int, int], chunks: int, average: float
) -> NDArray[np.float64]:
    """FTS5's BM25 of each row, higher is better; 0 where nothing of `wanted` occurs."""
    starts = np.concatenate([[0], rows.stops[:-1]])
    lengths = (rows.stops - starts - BREAKS).astype(np.float64)
    norm = _K1 * (1.0 - _B + _B * lengths / max(average, 1e-9))
    scores = np.zeros(len(rows.chunks))
    for part in wanted:
        places = np.flatnonzero(rows.stream == part[0])
        for offset, token in enumerate(part[1:], 1):
            places = places[places + offset < len(rows.stream)]
            places = places[rows.stream[places + offset] == token]
        row = np.searchsorted(rows.stops, places, side="right")
        if len(part) > 1:  # not from the end of one row into the next
            inside = places + len(part) <= rows.stops[row]
            places, row = places[inside], row[inside]
        column = (rows.ends[row] <= (places - starts[row])[:, None]).sum(axis=1)
        frequency = np.bincount(row, weights=_WEIGHTS[column], minlength=len(scores))
        # How many chunks have a phrase is known of those at hand only.
        having = docs[part[0]] if len(part) == 1 else np.count_nonzero(frequency)
        idf = max(float(np.log((chunks - having + 0.5) / (having + 0.5))), _LEAST_IDF) if having else 0.0
        scores += idf * frequency * (_K1 + 1.0) / (frequency + norm)
    return scores


_WEIGHTS = np.array([_TITLE, _BODY, _GRAMS, _META])
