"""What the index tells beside hits: counts of memories, one memory's vector, how common words are, a copy of itself."""

from __future__ import annotations

from pathlib import Path

import apsw
import numpy as np

from adaptive_llm_gateway.memory._index_rows import conditions
from adaptive_llm_gateway.memory._sql import fetch_all, fetch_value
from adaptive_llm_gateway.memory._values import Facets, Filters
from adaptive_llm_gateway.memory._vectors import Floats

MOST = 20  # values of each kind that are counted out, the most frequent first


def count_facets(connection: apsw.Connection, filters: Filters) -> Facets:
    """See `Facets`."""
    where, values = conditions(filters)
    clause = f"WHERE {where}" if where else ""

    def counts(value: str, *, join: str = "", order: str = "2 DESC, 1") -> tuple[tuple[str, int], ...]:
        rows = fetch_all(
            connection,
            f"SELECT {value}, count(*) FROM memories m {join} {clause} {'AND' if where else 'WHERE'} "  # noqa: S608 - ours
            f"{value} IS NOT NULL GROUP BY 1 ORDER BY {order} LIMIT {MOST}",
            values,
        )
        return tuple((row[0], row[1]) for row in rows)

    return Facets(
        total=fetch_value(connection, f"SELECT count(*) FROM memories m {clause}", values),  # noqa: S608 - ours
        types=counts("m.type"),
        projects=counts("m.project"),
        tags=counts("t.tag", join="JOIN memory_tags t ON t.memory = m.rowid"),
        authors=counts("m.client"),
        months=counts("strftime('%Y-%m', m.updated / 1000000, 'unixepoch')", order="1 DESC"),
    )


def memory_vector(connection: apsw.Connection, id: str) -> Floats | None:
    """The mean of the unit vectors of a memory's passages, (d,); None while it has none."""
    rows = fetch_all(
        connection,
        "SELECT v.vector FROM memories m CROSS JOIN chunks c ON c.memory = m.rowid "
        "CROSS JOIN vectors v ON v.chunk = c.id WHERE m.id = ?",
        (id,),
    )
    if not rows:
        return None
    vectors = np.frombuffer(b"".join(row[0] for row in rows), np.int8).reshape(len(rows), -1).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    mean: Floats = vectors.mean(axis=0)
    return mean if float(np.linalg.norm(mean)) > 1e-6 else None


def copy_database(connection: apsw.Connection, path: Path) -> None:
    """Copy the database, as the connection's transaction sees it, into a new file."""
    target = apsw.Connection(str(path))
    try:
        with target.backup("main", connection, "main") as backup:
            while not backup.done:
                backup.step(4096)
    finally:
        target.close()
