"""A copy of a PostgreSQL index as a SQLite index, for what works on a file of its own: searches of the past."""

from __future__ import annotations

from pathlib import Path

import apsw

from adaptive_llm_gateway.memory import _sql as sqlite
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._index_rows import RECORD_COLUMNS
from adaptive_llm_gateway.memory._postgres_rows import record_from
from adaptive_llm_gateway.memory._source_postgres import read_vectors
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all

_BATCH = 500  # memories at a time


def copy_index(connection: Link, path: Path) -> None:
    """Copy memories, vectors and the name of their model into a new file, as the connection's transaction has them."""
    path.unlink(missing_ok=True)
    state = dict(fetch_all(connection, "SELECT key, value FROM meta WHERE key IN ('embedder', 'dimensions')"))
    with Index(path) as copy:
        if state:
            copy.set_embedder(state["embedder"], int(state["dimensions"]))
        last = 0
        while rows := fetch_all(
            connection,
            f"SELECT m.row, {RECORD_COLUMNS} FROM memories m JOIN bodies b ON b.memory = m.row "  # noqa: S608 - ours
            "WHERE m.row > %s ORDER BY m.row LIMIT %s",
            (last, _BATCH),
        ):
            records = [record_from(row[1:]) for row in rows]
            copy.apply(records)
            vectors = fetch_all(
                connection,
                "SELECT m.id, c.ordinal, halfvec_send(v.half) FROM memories m JOIN chunks c ON c.memory = m.row "
                "JOIN vectors v ON v.chunk = c.id WHERE m.row > %s AND m.row <= %s",
                (last, rows[-1][0]),
            )
            if vectors:
                chunks = _chunks(path, [record.id for record in records])
                made = read_vectors([row[2] for row in vectors])
                copy.store_vectors(
                    [
                        (chunks[id_, ordinal], vector)
                        for (id_, ordinal, _), vector in zip(vectors, made, strict=True)
                        if (id_, ordinal) in chunks
                    ]
                )
            last = rows[-1][0]


def _chunks(path: Path, ids: list[str]) -> dict[tuple[str, int], int]:
    """The copy's chunk ids by memory and place."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return {
            (row[0], row[1]): row[2]
            for row in sqlite.fetch_all(
                connection,
                "SELECT m.id, c.ordinal, c.id FROM memories m JOIN chunks c ON c.memory = m.rowid "  # noqa: S608 - marks
                f"WHERE m.id IN ({sqlite.placeholders(len(ids))})",
                ids,
            )
        }
    finally:
        connection.close()
