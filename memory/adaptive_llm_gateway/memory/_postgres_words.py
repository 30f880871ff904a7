"""Where tokens occur in a PostgreSQL index.

A row of `postings` has what one token says of one block of chunks: an entry of two 16-bit numbers for each chunk, its
place in the block and how often the token occurs there, in tenths. A row for each pair of token and chunk would take
ten times the room, and a GIN index over tokens does not tell how often (decision 0007 has the numbers).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._bm25 import NOWHERE, Occurrences
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all, run
from adaptive_llm_gateway.memory._tokens import Stream, packed
from adaptive_llm_gateway.memory._vectors import Integers

BLOCK = 1_024  # chunks: a row fits a page also for a token that is in all of them
_MOST_TENTHS = 65_535
_MAX_PHRASE = 5_000  # chunks that have all tokens of a phrase and are looked at, the latest first
_ENTRY = np.dtype([("place", ">u2"), ("tenths", ">u2")])


class Changes:
    """What a transaction changes of `postings`."""

    def __init__(self) -> None:
        self._added: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._gone: dict[tuple[int, int], list[int]] = {}

    def add(self, chunk: int, stream: Stream) -> None:
        """A chunk comes."""
        block, place = divmod(chunk, BLOCK)
        for term, tenths in stream.weights.items():
            self._added.setdefault((term, block), []).append((place, min(tenths, _MOST_TENTHS)))

    def drop(self, chunk: int, stream: bytes) -> None:
        """A chunk goes, with the stream that it has."""
        block, place = divmod(chunk, BLOCK)
        for term in set(np.frombuffer(stream, ">i4").tolist()):
            self._gone.setdefault((term, block), []).append(place)

    def put(self, connection: Link) -> None:
        """Write it down. Rows go in order, as everywhere, so that nobody waits in a circle."""
        if self._gone:
            self._take_out(connection)
        if self._added:
            keys = sorted(self._added)
            run(
                connection,
                "INSERT INTO postings SELECT * FROM unnest(%s::int[], %s::int[], %s::bytea[]) "
                "ON CONFLICT (term, block) DO UPDATE SET entries = postings.entries || excluded.entries",
                (
                    [term for term, _ in keys],
                    [block for _, block in keys],
                    [np.array(self._added[key], ">u2").tobytes() for key in keys],
                ),
            )

    def _take_out(self, connection: Link) -> None:
        keys = sorted(self._gone)
        terms, blocks = [term for term, _ in keys], [block for _, block in keys]
        rows = fetch_all(
            connection,
            "SELECT p.term, p.block, p.entries FROM unnest(%s::int[], %s::int[]) k(term, block) "
            "JOIN postings p ON p.term = k.term AND p.block = k.block",
            (terms, blocks),
        )
        left: list[tuple[int, int, bytes]] = []
        for term, block, entries in rows:
            known = np.frombuffer(entries, _ENTRY)
            rest = known[~np.isin(known["place"], self._gone[term, block])]
            left.append((term, block, rest.tobytes()))
        run(
            connection,
            "UPDATE postings p SET entries = k.entries FROM unnest(%s::int[], %s::int[], %s::bytea[]) "
            "k(term, block, entries) WHERE p.term = k.term AND p.block = k.block",
            ([row[0] for row in left], [row[1] for row in left], [row[2] for row in left]),
        )
        run(
            connection,
            "DELETE FROM postings p USING unnest(%s::int[], %s::int[]) k(term, block) "
            "WHERE p.term = k.term AND p.block = k.block AND length(p.entries) = 0",
            (terms, blocks),
        )


def counts(connection: Link, terms: Iterable[int]) -> dict[int, int]:
    """In how many chunks each of these tokens is that is in one."""
    rows = fetch_all(
        connection,
        "SELECT term, sum(length(entries))::bigint FROM postings WHERE term = ANY(%s) GROUP BY term",
        (sorted(set(terms)),),
    )
    return {row[0]: row[1] // _ENTRY.itemsize for row in rows}


def occurrences(connection: Link, terms: Iterable[int]) -> dict[int, Occurrences]:
    """Where each of these tokens occurs, for those that do."""
    rows = fetch_all(
        connection,
        "SELECT term, string_agg(int4send(block) || int4send(length(entries)), ''::bytea), "
        "string_agg(entries, ''::bytea) FROM postings WHERE term = ANY(%s) GROUP BY term",
        (sorted(set(terms)),),
    )
    return {term: _unpacked(blocks, entries) for term, blocks, entries in rows}


def with_phrase(connection: Link, tokens: Sequence[int], known: dict[int, Occurrences]) -> Occurrences:
    """The chunks in which tokens stand one behind the other, as if once in each.

    Args:
        known: what `occurrences` gave for these tokens.
    """
    chunks = _with_all(tokens, known)
    if len(tokens) > 1 and len(chunks):
        rows = fetch_all(
            connection,
            "SELECT chunk FROM words WHERE chunk = ANY(%s) AND position(%s::bytea in stream) > 0 ORDER BY chunk",
            (chunks[-_MAX_PHRASE:].tolist(), packed(tokens)),
        )
        chunks = np.array([row[0] for row in rows], np.int64)
    return Occurrences(chunks, np.ones(len(chunks), np.float32))


def memories_saying(connection: Link, tokens: Sequence[int]) -> list[int]:
    """The memories in whose title or body tokens stand one behind the other."""
    chunks = _with_all(tokens, occurrences(connection, tokens))
    rows = fetch_all(
        connection,
        "SELECT DISTINCT memory FROM words WHERE chunk = ANY(%s) "
        "AND position(%s::bytea in substring(stream from 1 for 4 * said_end)) > 0",
        (chunks.tolist(), packed(tokens)),
    )
    return [row[0] for row in rows]


def _with_all(tokens: Sequence[int], known: dict[int, Occurrences]) -> Integers:
    found = sorted((known.get(token, NOWHERE).chunks for token in set(tokens)), key=len)
    chunks = found[0]
    for other in found[1:]:
        chunks = np.intersect1d(chunks, other, assume_unique=True)
    return chunks


def _unpacked(blocks: bytes, entries: bytes) -> Occurrences:
    heads = np.frombuffer(blocks, ">i4").astype(np.int64).reshape(-1, 2)
    rows: NDArray[np.void] = np.frombuffer(entries, _ENTRY)
    chunks = np.repeat(heads[:, 0] * BLOCK, heads[:, 1] // _ENTRY.itemsize) + rows["place"]
    order = np.argsort(chunks, kind="stable")
    return Occurrences(chunks[order], rows["tenths"].astype(np.float32)[order] / np.float32(10))
