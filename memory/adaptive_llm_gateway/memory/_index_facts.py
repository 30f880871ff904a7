"""What the index tells beside hits: counts of memories, one memory's vector, how common words are, a copy of itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import apsw
import numpy as np

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.memory._index_rows import conditions
from adaptive_llm_gateway.memory._merge_files import CONFLICT_REL
from adaptive_llm_gateway.memory._qdrant import Stored
from adaptive_llm_gateway.memory._sql import fetch_all, fetch_value
from adaptive_llm_gateway.memory._values import Facets, Filters
from adaptive_llm_gateway.memory._vectors import Floats

# In the words of the index that has these alone, or it is not used.
CLASHING = """SELECT id, links FROM memories WHERE instr(links, '["conflicts_with",') > 0"""
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


def clashes(connection: apsw.Connection) -> list[tuple[str, str]]:
    """See `MemoryIndex.clashes`."""

    def there(ids: Collection[str]) -> Iterable[str]:
        rows = fetch_all(
            connection,
            "SELECT m.id FROM json_each(?) j CROSS JOIN memories m ON m.id = j.value",
            (json.dumps(list(ids)),),
        )
        return [row[0] for row in rows]

    return pairs_that_clash(fetch_all(connection, CLASHING), there)


def pairs_that_clash(
    rows: Iterable[tuple[str, str]], there: Callable[[Collection[str]], Iterable[str]]
) -> list[tuple[str, str]]:
    """Pairs of ids, in order.

    Args:
        rows: (id, links as the index keeps them) of the memories that have such a link.
        there: those of these ids that memories have.
    """
    pairs = {
        (min(id_, other), max(id_, other))
        for id_, links in rows
        for rel, other in json.loads(links)
        if rel == CONFLICT_REL and other != id_
    }
    present = set(there({id_ for pair in pairs for id_ in pair}))
    return sorted(pair for pair in pairs if present.issuperset(pair))


def memory_vector(connection: apsw.Connection, id: str, *, max_trust: Trust = Trust.SECRET) -> Floats | None:
    """The mean of the unit vectors of a memory's passages, (d,); None while it has none, or is above `max_trust`."""
    rows = fetch_all(
        connection,
        "SELECT v.vector FROM memories m CROSS JOIN chunks c ON c.memory = m.rowid "
        "CROSS JOIN vectors v ON v.chunk = c.id WHERE m.id = ? AND m.trust <= ?",
        (id, max_trust.rank),
    )
    if not rows:
        return None
    vectors = np.frombuffer(b"".join(row[0] for row in rows), np.int8).reshape(len(rows), -1).astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    mean: Floats = vectors.mean(axis=0)
    return mean if float(np.linalg.norm(mean)) > 1e-6 else None


def has_vectors(connection: apsw.Connection) -> bool:
    """Whether there are any."""
    return bool(fetch_value(connection, "SELECT EXISTS (SELECT 1 FROM vectors)"))


def embedded_chunks(connection: apsw.Connection, ids: Sequence[str]) -> list[int]:
    """The chunks with a vector of memories by their ids."""
    rows = fetch_all(
        connection,
        "SELECT c.id FROM json_each(?) j CROSS JOIN memories m ON m.id = j.value "
        "CROSS JOIN chunks c ON c.memory = m.rowid WHERE c.embedded = 1",
        (json.dumps(list(ids)),),
    )
    return [row[0] for row in rows]


def vectors_of(connection: apsw.Connection, chunks: Sequence[int], max_trust: Trust) -> list[Stored]:
    """The vectors of these chunks, as far as they have any and their memories are not above a level."""
    rows = fetch_all(
        connection,
        "SELECT v.chunk, v.memory, v.vector FROM json_each(?) j CROSS JOIN vectors v ON v.chunk = j.value "
        "CROSS JOIN memories m ON m.rowid = v.memory WHERE m.trust <= ?",
        (json.dumps(list(chunks)), max_trust.rank),
    )
    return [Stored(*row) for row in rows]


def vectors_after(connection: apsw.Connection, after: int, count: int, max_trust: Trust) -> list[Stored]:
    """The next so many vectors above a chunk, of memories that are not above a level."""
    rows = fetch_all(
        connection,
        "SELECT v.chunk, v.memory, v.vector FROM vectors v CROSS JOIN memories m ON m.rowid = v.memory "
        "WHERE v.chunk > ? AND m.trust <= ? ORDER BY v.chunk LIMIT ?",
        (after, max_trust.rank, count),
    )
    return [Stored(*row) for row in rows]


def copy_database(connection: apsw.Connection, path: Path) -> None:
    """Copy the database, as the connection's transaction sees it, into a new file."""
    target = apsw.Connection(str(path))
    try:
        with target.backup("main", connection, "main") as backup:
            while not backup.done:
                backup.step(4096)
    finally:
        target.close()
