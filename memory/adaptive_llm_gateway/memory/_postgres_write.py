"""How memories enter and leave a PostgreSQL index's tables, within the caller's transaction: all of a call at once,
because each statement is a trip to the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._index_rows import (
    PendingChange,
    Tombstone,
    dump_author,
    microseconds,
    record_values,
)
from adaptive_llm_gateway.memory._passages import Passage, Passages
from adaptive_llm_gateway.memory._postgres_rows import folded, stored
from adaptive_llm_gateway.memory._postgres_words import Changes
from adaptive_llm_gateway.memory._source_postgres import written
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all, fetch_value, run, run_many
from adaptive_llm_gateway.memory._tokens import Stream, packed, stream_of
from adaptive_llm_gateway.memory._values import Record

_COLUMNS = (
    "id, path, version, mtime_ns, size, type, title, created, updated, client, author, project, tags, trust, "
    "links, source, reason, fields, fingerprint, chunk_count, thread"
)
_MARKS = ", ".join(["%s"] * 21)


def write(connection: Link, upserts: Sequence[Record], deletes: Sequence[str]) -> list[int]:
    """Take ids out, then put memories in, each in the place of the one with its id and of another at its path.

    Chunks whose text and head stayed keep their row, words and vector.

    Returns:
        ids of chunks that are gone.

    Raises:
        InvalidInput: a record's time has no time zone.
    """
    final = _last_words(upserts)
    cut = {id_: Passages(record) for id_, record in final.items()}
    values = {id_: _stored_row(record_values(record, len(cut[id_].all))) for id_, record in final.items()}
    gone = [id_ for id_ in {*deletes, *(record.id for record in upserts)} if id_ not in final]
    changes = Changes()
    dropped = _remove(connection, gone, [stored(record.path) for record in final.values()], list(final), changes)
    if final:
        rows = _put_memories(connection, final, values)
        dropped += _put_chunks(connection, rows, cut, changes)
        run(connection, "DELETE FROM tombstones WHERE id = ANY(%s)", (list(final),))
    changes.put(connection)
    return dropped


def put_pending(connection: Link, changes: Sequence[PendingChange]) -> list[int]:
    """Enter changes into the journal; returns the `seq` of each."""
    return [
        fetch_value(
            connection,
            "INSERT INTO pending (path, memory_id, operation, title, author, reason) VALUES (%s, %s, %s, %s, %s, %s) "
            "RETURNING seq",
            _stored_row((row.path, row.memory_id, row.operation, row.title, dump_author(row.author), row.reason)),
        )
        for row in changes
    ]


def drop_pending(connection: Link, seqs: Sequence[int]) -> None:
    """Take entries out of the journal."""
    if seqs:
        run(connection, "DELETE FROM pending WHERE seq = ANY(%s)", (list(seqs),))


def put_tombstones(connection: Link, stones: Sequence[Tombstone]) -> None:
    """Keep what is known of deleted memories."""
    run_many(
        connection,
        "INSERT INTO tombstones VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET "
        "(path, version, type, title, deleted, author, reason) = (excluded.path, excluded.version, excluded.type, "
        "excluded.title, excluded.deleted, excluded.author, excluded.reason)",
        [
            _stored_row(
                (
                    stone.id,
                    stone.path,
                    stone.version,
                    stone.type,
                    stone.title,
                    microseconds(stone.deleted),
                    dump_author(stone.author),
                    stone.reason,
                )
            )
            for stone in stones
        ],
    )


def put_vectors(connection: Link, chunks: Sequence[int], vectors: NDArray[np.float32]) -> int:
    """Keep vectors (n, d) of chunks, of those that are still there; returns how many."""
    found = fetch_all(connection, "SELECT id, memory FROM chunks WHERE id = ANY(%s)", (list(chunks),))
    memories: dict[int, int] = dict(found)
    # Scaled, because a half cannot hold what is very large or small; directions are all that counts.
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    run_many(
        connection,
        "INSERT INTO vectors VALUES (%s, %s, %s::halfvec) ON CONFLICT (chunk) DO UPDATE SET half = excluded.half",
        [(chunk, memories[chunk], written(row)) for chunk, row in zip(chunks, unit, strict=True) if chunk in memories],
    )
    run(connection, "UPDATE chunks SET embedded = true WHERE id = ANY(%s) AND NOT embedded", (list(memories),))
    return len({chunk for chunk in chunks if chunk in memories})


def _last_words(upserts: Sequence[Record]) -> dict[str, Record]:
    """What is left of records written one after the other: the last of each id, and of each path."""
    final: dict[str, Record] = {}
    holder: dict[str, str] = {}
    for record in upserts:
        if (old := final.pop(record.id, None)) is not None:
            del holder[old.path]
        if (other := holder.pop(record.path, None)) is not None:
            del final[other]
        final[record.id] = record
        holder[record.path] = record.id
    return final


def _remove(
    connection: Link, ids: Sequence[str], paths: Sequence[str], keep: Sequence[str], changes: Changes
) -> list[int]:
    """Take out memories of these ids, and those at these paths that are not to be kept; returns their chunks."""
    if not ids and not paths:
        return []
    rows = [
        row[0]
        for row in fetch_all(
            connection,
            "DELETE FROM memories WHERE id = ANY(%s) OR (path = ANY(%s) AND id <> ALL(%s)) RETURNING row",
            (list(ids), list(paths), list(keep)),
        )
    ]
    if not rows:
        return []
    chunks = [row[0] for row in fetch_all(connection, "SELECT id FROM chunks WHERE memory = ANY(%s)", (rows,))]
    _drop_chunks(connection, chunks, changes)
    run(connection, "DELETE FROM bodies WHERE memory = ANY(%s)", (rows,))
    run(connection, "DELETE FROM memory_tags WHERE memory = ANY(%s)", (rows,))
    return chunks


def _drop_chunks(connection: Link, chunks: Sequence[int], changes: Changes) -> None:
    if not chunks:
        return
    wanted = (list(chunks),)
    for chunk, stream in fetch_all(
        connection, "DELETE FROM words WHERE chunk = ANY(%s) RETURNING chunk, stream", wanted
    ):
        changes.drop(chunk, stream)
    run(connection, "DELETE FROM chunks WHERE id = ANY(%s)", wanted)
    run(connection, "DELETE FROM vectors WHERE chunk = ANY(%s)", wanted)


def _put_memories(connection: Link, records: dict[str, Record], values: dict[str, tuple[Any, ...]]) -> dict[str, int]:
    """Write the rows of memories, their bodies and tags; returns their row ids."""
    rows: dict[str, int] = dict(
        fetch_all(connection, "SELECT id, row FROM memories WHERE id = ANY(%s)", (list(records),))
    )
    known, fresh = list(rows), [id_ for id_ in records if id_ not in rows]
    rows |= zip(fresh, _numbers(connection, "memory_rows", len(fresh)), strict=True)
    run_many(
        connection,
        f"UPDATE memories SET ({_COLUMNS}) = ROW({_MARKS}) WHERE row = %s",  # noqa: S608 - our own names
        [(*values[id_], rows[id_]) for id_ in known],
    )
    run_many(
        connection,
        f"INSERT INTO memories ({_COLUMNS}, row) VALUES ({_MARKS}, %s)",  # noqa: S608 - our own names
        [(*values[id_], rows[id_]) for id_ in fresh],
    )
    run_many(
        connection,
        "INSERT INTO bodies VALUES (%s, %s) ON CONFLICT (memory) DO UPDATE SET body = excluded.body",
        [(rows[id_], stored(record.body)) for id_, record in records.items()],
    )
    if known:
        run(connection, "DELETE FROM memory_tags WHERE memory = ANY(%s)", ([rows[id_] for id_ in known],))
    run_many(
        connection,
        "INSERT INTO memory_tags (folded, memory, tag) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        [(folded(tag), rows[id_], stored(tag)) for id_, record in records.items() for tag in record.tags],
    )
    return rows


def _put_chunks(connection: Link, rows: dict[str, int], cut: dict[str, Passages], changes: Changes) -> list[int]:
    """Write the chunks; those that are there already are only moved, and those left over go; returns the latter."""
    kept: dict[tuple[int, bytes], list[int]] = {}
    for chunk, memory, digest in fetch_all(
        connection,
        "SELECT id, memory, digest FROM chunks WHERE memory = ANY(%s) ORDER BY ordinal DESC",
        (list(rows.values()),),
    ):
        kept.setdefault((memory, digest), []).append(chunk)
    moved: list[tuple[Any, ...]] = []
    fresh: list[tuple[int, int, Passage, Stream]] = []
    for id_, passages in cut.items():
        for ordinal, passage in enumerate(passages.all):
            if same := kept.get((rows[id_], passage.digest)):
                moved.append((*_place(ordinal, passage), same.pop()))
            else:
                fresh.append((rows[id_], ordinal, passage, stream_of(passages.columns(passage))))
    stale = [chunk for same in kept.values() for chunk in same]
    _drop_chunks(connection, stale, changes)
    run_many(
        connection,
        "UPDATE chunks SET (ordinal, start, stop, first_line, last_line) = ROW(%s, %s, %s, %s, %s) WHERE id = %s",
        moved,
    )
    ids = _numbers(connection, "chunk_ids", len(fresh))
    run_many(
        connection,
        "INSERT INTO chunks (id, memory, heading, digest, ordinal, start, stop, first_line, last_line) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            (chunk, memory, stored(passage.chunk.heading), passage.digest, *_place(ordinal, passage))
            for chunk, (memory, ordinal, passage, _) in zip(ids, fresh, strict=True)
        ],
    )
    run_many(
        connection,
        "INSERT INTO words VALUES (%s, %s, %s, %s)",
        [
            (chunk, memory, packed(stream.tokens), stream.said)
            for chunk, (memory, _, _, stream) in zip(ids, fresh, strict=True)
        ],
    )
    for chunk, (_, _, _, stream) in zip(ids, fresh, strict=True):
        changes.add(chunk, stream)
    if ids:
        # What is read anew after a reset and is as it was needs no model.
        run(
            connection,
            "WITH again AS (INSERT INTO vectors SELECT c.id, c.memory, k.half FROM chunks c "
            "JOIN kept_vectors k ON k.digest = c.digest WHERE c.id = ANY(%s) RETURNING chunk) "
            "UPDATE chunks SET embedded = true FROM again WHERE id = again.chunk",
            (ids,),
        )
    return stale


def _place(ordinal: int, passage: Passage) -> tuple[int, ...]:
    chunk = passage.chunk
    return (ordinal, chunk.start, chunk.end, chunk.first_line, chunk.last_line)


def _numbers(connection: Link, sequence: str, count: int) -> list[int]:
    if not count:
        return []
    statement = f"SELECT nextval('{sequence}') FROM generate_series(1, %s)"  # noqa: S608 - our own name
    return sorted(row[0] for row in fetch_all(connection, statement, (count,)))


def _stored_row(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(stored(value) if isinstance(value, str) else value for value in values)
