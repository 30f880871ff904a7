"""How memories enter and leave the index's tables, within the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import apsw

from adaptive_llm_gateway.memory._index_rows import (
    INSERT_MEMORY,
    UPDATE_MEMORY,
    PendingChange,
    Tombstone,
    dump_author,
    microseconds,
    record_values,
)
from adaptive_llm_gateway.memory._passages import Passages
from adaptive_llm_gateway.memory._sql import fetch_all, fetch_one, fetch_pairs, fetch_value, run, run_many
from adaptive_llm_gateway.memory._values import Record


def upsert(
    connection: apsw.Connection, record: Record, *, vectors: bool, reused: dict[int, tuple[int, bytes]] | None = None
) -> list[int]:
    """Put one memory in, in the place of the one with its id and of another at its path.

    Chunks whose text and head stayed keep their row, words and vector.

    Args:
        vectors: there may be some.
        reused: with it, new chunks get the vector that `put_aside` kept for their like, and are entered here: chunk
            to (memory, code).

    Returns:
        ids of chunks that are gone.
    """
    gone = remove(connection, "path = ? AND id <> ?", (record.path, record.id), vectors=vectors)
    passages = Passages(record)
    values = record_values(record, len(passages.all))
    row = fetch_one(connection, "SELECT rowid, tags FROM memories WHERE id = ?", (record.id,))
    kept: dict[bytes, list[int]] = {}
    if row is None:
        run(connection, INSERT_MEMORY, values)
        memory = connection.last_insert_rowid()
        run(connection, "INSERT INTO bodies VALUES (?, ?)", (memory, record.body))
    else:
        memory = row[0]
        run(connection, UPDATE_MEMORY, (*values, memory))
        run(connection, "UPDATE bodies SET body = ? WHERE memory = ?", (record.body, memory))
        _untag(connection, memory, row[1])
        for chunk, digest in fetch_all(
            connection, "SELECT id, digest FROM chunks WHERE memory = ? ORDER BY ordinal DESC", (memory,)
        ):
            kept.setdefault(digest, []).append(chunk)
    run(connection, "DELETE FROM tombstones WHERE id = ?", (record.id,))
    for tag in record.tags:
        run(connection, "INSERT OR IGNORE INTO memory_tags VALUES (?, ?)", (tag, memory))
    _put_chunks(connection, memory, passages, kept, reused)
    stale = [chunk for same in kept.values() for chunk in same]
    _drop_chunks(connection, stale, vectors=vectors)
    return gone + stale


def remove(connection: apsw.Connection, where: str, values: Sequence[str], *, vectors: bool) -> list[int]:
    """Take out the memories of a condition of ours; returns the ids of their chunks."""
    gone: list[int] = []
    statement = f"SELECT rowid, tags FROM memories WHERE {where}"  # noqa: S608 - our own condition
    for memory, tags in fetch_all(connection, statement, values):
        chunks = [row[0] for row in fetch_all(connection, "SELECT id FROM chunks WHERE memory = ?", (memory,))]
        _drop_chunks(connection, chunks, vectors=vectors)
        gone += chunks
        _untag(connection, memory, tags)
        run(connection, "DELETE FROM bodies WHERE memory = ?", (memory,))
        run(connection, "DELETE FROM memories WHERE rowid = ?", (memory,))
    return gone


def put_pending(connection: apsw.Connection, changes: Sequence[PendingChange]) -> list[int]:
    """Enter changes into the journal; returns the `seq` of each."""
    return [
        fetch_value(
            connection,
            "INSERT INTO pending (path, memory_id, operation, title, author, reason) VALUES (?, ?, ?, ?, ?, ?) "
            "RETURNING seq",
            (row.path, row.memory_id, row.operation, row.title, dump_author(row.author), row.reason),
        )
        for row in changes
    ]


def drop_pending(connection: apsw.Connection, seqs: Sequence[int]) -> None:
    """Take entries out of the journal."""
    run_many(connection, "DELETE FROM pending WHERE seq = ?", [(seq,) for seq in seqs])


def put_tombstone(connection: apsw.Connection, stone: Tombstone) -> None:
    """Keep what is known of a deleted memory."""
    run(
        connection,
        "INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            stone.id,
            stone.path,
            stone.version,
            stone.type,
            stone.title,
            microseconds(stone.deleted),
            dump_author(stone.author),
            stone.reason,
        ),
    )


def put_vectors(connection: apsw.Connection, codes: Mapping[int, bytes]) -> dict[int, int]:
    """Keep vectors by chunk id; returns the memory's row id of each chunk that is still there, in order of chunks."""
    wanted = json.dumps(list(codes))
    found = fetch_pairs(
        connection,
        "SELECT c.id, c.memory FROM json_each(?) j CROSS JOIN chunks c ON c.id = j.value ORDER BY c.id",
        (wanted,),
    )
    run_many(
        connection,
        "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
        [(chunk, memory, codes[chunk]) for chunk, memory in found.items()],
    )
    run(
        connection,
        "UPDATE chunks SET embedded = 1 WHERE id IN (SELECT value FROM json_each(?)) AND embedded = 0",
        (wanted,),
    )
    return found


def put_aside(connection: apsw.Connection) -> None:
    """Keep the vectors by their chunks' digests, for when the same chunks come again."""
    run(
        connection,
        "INSERT OR IGNORE INTO kept_vectors SELECT c.digest, v.vector FROM vectors v "
        "CROSS JOIN chunks c ON c.id = v.chunk ORDER BY c.digest",
    )


def _put_chunks(
    connection: apsw.Connection,
    memory: int,
    passages: Passages,
    kept: dict[bytes, list[int]],
    reused: dict[int, tuple[int, bytes]] | None,
) -> None:
    """Write the chunks; those found in `kept` (digest to ids) are taken out of it and only moved."""
    for ordinal, passage in enumerate(passages.all):
        chunk = passage.chunk
        place = (ordinal, chunk.start, chunk.end, chunk.first_line, chunk.last_line)
        if same := kept.get(passage.digest):
            run(
                connection,
                "UPDATE chunks SET ordinal = ?, start = ?, stop = ?, first_line = ?, last_line = ? WHERE id = ?",
                (*place, same.pop()),
            )
            continue
        run(
            connection,
            "INSERT INTO chunks (memory, ordinal, start, stop, first_line, last_line, heading, digest) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (memory, *place, chunk.heading, passage.digest),
        )
        row = connection.last_insert_rowid()
        run(
            connection,
            "INSERT INTO words (rowid, title, body, meta, grams) VALUES (?, ?, ?, ?, ?)",
            (row, *passages.columns(passage)),
        )
        if reused is None:
            continue
        code = fetch_value(connection, "SELECT vector FROM kept_vectors WHERE digest = ?", (passage.digest,))
        if code is not None:
            run(connection, "INSERT INTO vectors VALUES (?, ?, ?)", (row, memory, code))
            run(connection, "UPDATE chunks SET embedded = 1 WHERE id = ?", (row,))
            reused[row] = memory, code


def _drop_chunks(connection: apsw.Connection, chunks: list[int], *, vectors: bool) -> None:
    for chunk in chunks:
        run(connection, "DELETE FROM words WHERE rowid = ?", (chunk,))
        run(connection, "DELETE FROM chunks WHERE id = ?", (chunk,))
        if vectors:
            run(connection, "DELETE FROM vectors WHERE chunk = ?", (chunk,))


def _untag(connection: apsw.Connection, memory: int, tags: str) -> None:
    for tag in json.loads(tags) if tags != "[]" else ():
        run(connection, "DELETE FROM memory_tags WHERE tag = ? AND memory = ?", (tag, memory))
