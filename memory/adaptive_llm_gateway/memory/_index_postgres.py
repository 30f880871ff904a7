"""The index in PostgreSQL with pgvector: the same answers as the SQLite index gives, for a team's hub.

Each hub has a schema of its own in the database, and is the only one that writes to it; decision 0007 says why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptive_llm_gateway.core import InvalidInput, Trust
from adaptive_llm_gateway.memory import _postgres_schema as schema
from adaptive_llm_gateway.memory._chunk_table import Block, ChunkTable
from adaptive_llm_gateway.memory._chunks import embedding_text
from adaptive_llm_gateway.memory._index_facts import MOST, pairs_that_clash
from adaptive_llm_gateway.memory._index_rows import (
    RECORD_COLUMNS,
    PendingChange,
    Tombstone,
    load_author,
    moment_of,
    pending_of,
    tombstone_of,
)
from adaptive_llm_gateway.memory._pages import Order, Page, decode_cursor, encode_cursor, place_of
from adaptive_llm_gateway.memory._postgres import Database
from adaptive_llm_gateway.memory._postgres_chunks import read_blocks, read_table
from adaptive_llm_gateway.memory._postgres_rows import (
    conditions,
    folded,
    record_from,
    restored,
    restored_row,
    stored,
)
from adaptive_llm_gateway.memory._postgres_words import memories_saying
from adaptive_llm_gateway.memory._postgres_write import (
    drop_pending,
    put_pending,
    put_tombstones,
    put_vectors,
    write,
)
from adaptive_llm_gateway.memory._ranking import WEIGHTS, Weights
from adaptive_llm_gateway.memory._requests import PostgresConfig
from adaptive_llm_gateway.memory._search import SearchAnswer, search
from adaptive_llm_gateway.memory._source_postgres import (
    PostgresSource,
    affordable_words,
    read_vectors,
    word_counts,
)
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all, fetch_value, run, run_many
from adaptive_llm_gateway.memory._values import Facets, Filters, Record, TimeRange
from adaptive_llm_gateway.memory._vectors import Floats

_ORDERS: dict[Order, tuple[str, str, str]] = {
    "updated": ("m.updated", "<", "DESC"),
    "created": ("m.created", "<", "DESC"),
    "title": ("lower(m.title)", ">", "ASC"),
}


class PostgresIndex:
    """An open index; its schema is created when there is none. See `MemoryIndex`.

    Attributes:
        created: whether the schema was new.

    Raises:
        ConfigError: the URL or schema cannot be used, the server lets nobody in or lacks pgvector.
        LockHeld: another hub writes to the schema.
        FormatTooNew: written by a newer version; nothing was touched.
        CorruptIndex: of an older format, or tables are missing: set it aside and rebuild.
        Unavailable: the server does not answer. Every method may raise it too.
    """

    def __init__(self, config: PostgresConfig) -> None:
        self._table: ChunkTable | None = None
        self._database = Database(config, on_new_writer=self._forget_table)
        self.name = self._database.name
        try:
            self.created = schema.prepare(self._database)
            self._dimensions = int(self.meta_get("dimensions") or 0)
        except BaseException:
            self._database.close()
            raise

    @classmethod
    def set_aside(cls, config: PostgresConfig) -> str:
        """Give a damaged index's schema another name, out of the way of a new one; returns that name."""
        database = Database(config)
        try:
            return schema.set_aside(database)
        finally:
            database.close()

    def adopt(self, aside: str) -> None:
        """Take journal and tombstones over from a schema that was set aside, as far as they can be read there."""
        self._database.write(lambda connection: schema.adopt(connection, aside))

    def close(self) -> None:
        """Close all connections; harmless when closed."""
        self._database.close()

    def __enter__(self) -> PostgresIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- Write ----------------------------------------------------------------------------------------

    def apply(
        self,
        upserts: Sequence[Record] = (),
        deletes: Sequence[str] = (),
        *,
        pending: Sequence[PendingChange] = (),
        settled: Sequence[int] = (),
        tombstones: Sequence[Tombstone] = (),
    ) -> list[int]:
        """See `MemoryIndex`."""

        def work(connection: Link) -> tuple[list[int], list[Block], list[int]]:
            gone = write(connection, upserts, deletes) if upserts or deletes else []
            drop_pending(connection, settled)
            seqs = put_pending(connection, pending)
            put_tombstones(connection, tombstones)
            held = self._table is not None and upserts
            blocks = read_blocks(connection, [record.id for record in upserts]) if held else []
            return gone, blocks, seqs

        with self._database.alone():
            gone, blocks, seqs = self._database.write(work)
            if self._table is not None:
                self._table.put(blocks, gone)
        return seqs

    def reset(self) -> None:
        """See `MemoryIndex`."""
        with self._database.alone():
            self._database.write(lambda connection: schema.clear_derived(connection, self._dimensions))
            self._table = None

    def tidy(self) -> None:
        """See `MemoryIndex`. Readers and other hubs go on meanwhile, this index's writes wait."""
        self._database.write(lambda connection: run(connection, "DELETE FROM kept_vectors"))
        self._database.upkeep(*(f"VACUUM (ANALYZE) {table}" for table in schema.TABLES))

    # --- Read -----------------------------------------------------------------------------------------

    def get(self, id: str) -> Record | None:
        """See `MemoryIndex`."""
        return self._one("m.id = %s", id)

    def by_path(self, path: str) -> Record | None:
        """See `MemoryIndex`."""
        return self._one("m.path = %s", path)

    def resolve(self, part: str, *, limit: int = 20) -> list[str]:
        """See `MemoryIndex`."""
        wanted = stored(part.strip().upper())
        if not wanted:
            return []

        def work(connection: Link) -> list[str]:
            rows = fetch_all(connection, "SELECT id FROM memories WHERE id = %s", (wanted,))
            if not rows:
                rows = fetch_all(
                    connection,
                    "SELECT id FROM memories WHERE left(upper(id), length(%s)) = %s "
                    "OR right(upper(id), length(%s)) = %s ORDER BY id LIMIT %s",
                    (wanted, wanted, wanted, wanted, limit),
                )
            return [row[0] for row in rows]

        return self._database.read(work)

    def files(self) -> dict[str, tuple[int, int, str, str]]:
        """See `MemoryIndex`."""
        rows = self._all("SELECT path, mtime_ns, size, version, id FROM memories")
        return {restored(row[0]): row[1:] for row in rows}

    def versions(self, type: str) -> dict[str, tuple[str, str]]:
        """See `MemoryIndex`."""
        rows = self._all("SELECT id, path, version FROM memories WHERE type = %s", (stored(type),))
        return {id_: (restored(path), version) for id_, path, version in rows}

    def projects(self) -> list[str]:
        """See `ReadableIndex`."""
        return [
            restored(row[0]) for row in self._all("SELECT DISTINCT project FROM memories WHERE project IS NOT NULL")
        ]

    def ids(self, filters: Filters | None = None) -> list[str]:
        """See `ReadableIndex`."""

        def work(connection: Link) -> list[str]:
            where, values = conditions(filters or Filters(), lambda tokens: memories_saying(connection, tokens))
            rows = fetch_all(
                connection,
                f"SELECT m.id FROM memories m {'WHERE ' + where if where else ''}",  # noqa: S608 - ours
                values,
            )
            return [restored(row[0]) for row in rows]

        return self._database.read(work)

    def list(
        self,
        filters: Filters | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "updated",
    ) -> Page:
        """See `MemoryIndex`."""
        column, comparison, direction = _ORDERS[order]
        seen = None if cursor is None else decode_cursor(cursor, order)

        def work(connection: Link) -> tuple[int, list[tuple[Any, ...]]]:
            where, values = conditions(filters or Filters(), lambda tokens: memories_saying(connection, tokens))
            parts, bounds = ([where] if where else []), list(values)
            if seen is not None:
                last = seen.value
                parts.append(f"({column}, m.id) {comparison}{'' if seen.passed else '='} (%s, %s)")
                bounds += [folded(last) if isinstance(last, str) else last, seen.id]
            total = fetch_value(
                connection,
                f"SELECT count(*) FROM memories m {'WHERE ' + where if where else ''}",  # noqa: S608 - ours
                values,
            )
            return total, fetch_all(
                connection,
                f"SELECT {RECORD_COLUMNS} FROM memories m JOIN bodies b ON b.memory = m.row "  # noqa: S608 - ours
                f"{'WHERE ' + ' AND '.join(parts) if parts else ''} "
                f"ORDER BY {column} {direction}, m.id {direction} LIMIT %s",
                (*bounds, limit + 1),
            )

        total, rows = self._database.read(work)
        records = tuple(record_from(row) for row in rows[:limit])
        following = encode_cursor(order, place_of(records[-1], order)) if len(rows) > limit and records else None
        return Page(records, following, total)

    def search(
        self,
        query: str,
        *,
        vector: ArrayLike | Callable[[], ArrayLike | None] | None = None,
        filters: Filters | None = None,
        limit: int = 10,
        preferred: TimeRange | None = None,
        weights: Weights = WEIGHTS,
    ) -> SearchAnswer:
        """See `MemoryIndex`."""
        dimensions = self._dimensions
        wanted: Callable[[], Floats | None] | None = None
        if vector is not None and dimensions:
            if callable(vector):
                given = vector

                def unit() -> Floats | None:
                    made = given()
                    return None if made is None else _unit(made, dimensions)

                wanted = unit
            else:
                known = _unit(vector, dimensions)
                wanted = lambda: known  # noqa: E731

        table = self._chunk_table()

        def work(connection: Link) -> SearchAnswer:
            source = PostgresSource(connection, filters=filters or Filters(), table=table, dimensions=dimensions)
            some = wanted is not None and fetch_value(connection, "SELECT EXISTS (SELECT 1 FROM vectors)")
            return search(
                source,
                query,
                vector=wanted if some else None,
                limit=max(1, limit),
                preferred=preferred,
                weights=weights,
            )

        return self._database.read(work)

    def facets(self, filters: Filters | None = None) -> Facets:
        """See `MemoryIndex`."""

        def work(connection: Link) -> Facets:
            where, values = conditions(filters or Filters(), lambda tokens: memories_saying(connection, tokens))
            clause = f"WHERE {where}" if where else ""

            def counts(
                value: str, *, by: str = "", join: str = "", order: str = "2 DESC, 1"
            ) -> tuple[tuple[str, int], ...]:
                rows = fetch_all(
                    connection,
                    f"SELECT min({value}), count(*) FROM memories m {join} {clause} "  # noqa: S608 - ours
                    f"{'AND' if where else 'WHERE'} {value} IS NOT NULL GROUP BY {by or value} "
                    f"ORDER BY {order} LIMIT {MOST}",
                    values,
                )
                return tuple((restored(row[0]), row[1]) for row in rows)

            return Facets(
                total=fetch_value(connection, f"SELECT count(*) FROM memories m {clause}", values),  # noqa: S608 - ours
                types=counts("m.type"),
                projects=counts("m.project", by="lower(m.project)"),
                tags=counts("t.tag", by="t.folded", join="JOIN memory_tags t ON t.memory = m.row"),
                authors=counts("m.client", by="lower(m.client)"),
                months=counts(
                    "to_char(to_timestamp(m.updated / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM')", order="1 DESC"
                ),
            )

        return self._database.read(work)

    def memory_vector(self, id: str) -> Floats | None:
        """See `MemoryIndex`."""
        rows = self._all(
            "SELECT halfvec_send(v.half) FROM memories m JOIN vectors v ON v.memory = m.row WHERE m.id = %s", (id,)
        )
        if not rows:
            return None
        vectors = read_vectors([row[0] for row in rows])
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        mean: Floats = vectors.mean(axis=0)
        return mean if float(np.linalg.norm(mean)) > 1e-6 else None

    def word_counts(self, words: Sequence[str]) -> tuple[list[int], int]:
        """See `MemoryIndex`."""
        counts = self._database.read(lambda connection: word_counts(connection, words))
        return counts, self._chunk_table().sizes.chunks

    def too_common(self, words: Sequence[str]) -> list[str]:
        """See `MemoryIndex`."""
        chunks = self._chunk_table().sizes.chunks
        kept = self._database.read(lambda connection: affordable_words(connection, words, chunks))
        return [word for word in words if word not in kept]

    def copy_to(self, path: Path) -> None:
        """See `MemoryIndex`. Everything crosses over and is indexed anew, about 1 ms a memory."""
        from adaptive_llm_gateway.memory._postgres_copy import copy_index  # noqa: PLC0415 - it opens a SQLite index

        self._database.read(lambda connection: copy_index(connection, path))

    def statistics(self) -> dict[str, Any]:
        """See `MemoryIndex`; `bytes` counts tables and their indexes."""

        def work(connection: Link) -> dict[str, Any]:
            types: dict[str, int] = dict(
                fetch_all(connection, "SELECT type, count(*) FROM memories GROUP BY type ORDER BY type")
            )
            counts = {
                table: fetch_value(connection, f"SELECT count(*) FROM {table}")  # noqa: S608 - our own names
                for table in ("chunks", "vectors", "pending", "tombstones")
            }
            size = fetch_value(
                connection,
                "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c "
                "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind = 'r'",
                (self._database.schema,),
            )
            return {"memories": sum(types.values()), "types": types, **counts, "bytes": size, "cache_bytes": 0}

        return self._database.read(work)

    def clashes(self) -> list[tuple[str, str]]:
        """See `MemoryIndex`."""

        def work(connection: Link) -> list[tuple[str, str]]:
            rows = fetch_all(
                connection, "SELECT id, links FROM memories WHERE strpos(links, '[\"conflicts_with\",') > 0"
            )

            def there(ids: Collection[str]) -> list[str]:
                found = fetch_all(connection, "SELECT id FROM memories WHERE id = ANY(%s)", (list(ids),))
                return [row[0] for row in found]

            return pairs_that_clash([(id_, links) for id_, links in rows], there)

        return self._database.read(work)

    # --- Vectors --------------------------------------------------------------------------------------

    def set_embedder(self, id: str, dimensions: int) -> bool:
        """See `MemoryIndex`."""
        if dimensions < 1:
            raise InvalidInput(f"an embedder cannot have {dimensions!r} dimensions")

        def work(connection: Link) -> bool:
            known = dict(fetch_all(connection, "SELECT key, value FROM meta WHERE key IN ('embedder', 'dimensions')"))
            if known.get("embedder") == id and known.get("dimensions") == str(dimensions):
                return False
            schema.create_vectors(connection, dimensions)
            run(connection, "DELETE FROM kept_vectors")
            run(connection, "UPDATE chunks SET embedded = false WHERE embedded")
            _put_meta(connection, {"embedder": id, "dimensions": str(dimensions)})
            return True

        changed = self._database.write(work)
        self._dimensions = dimensions
        return changed

    def backlog(self, limit: int, *, max_trust: Trust = Trust.SECRET) -> list[tuple[int, str]]:
        """See `MemoryIndex`."""

        def work(connection: Link) -> list[tuple[int, str]]:
            chunks = fetch_all(
                connection,
                "SELECT c.id, c.memory, c.start, c.stop, c.heading FROM chunks c JOIN memories m ON m.row = c.memory "
                "WHERE NOT c.embedded AND m.trust <= %s ORDER BY c.id DESC LIMIT %s",
                (max_trust.rank, limit),
            )
            heads = {
                row[0]: restored_row(row[1:])
                for row in fetch_all(
                    connection,
                    "SELECT m.row, b.body, m.created, m.title, m.author, m.project FROM memories m "
                    "JOIN bodies b ON b.memory = m.row WHERE m.row = ANY(%s)",
                    (list({row[1] for row in chunks}),),
                )
            }
            found: list[tuple[int, str]] = []
            for chunk, memory, start, stop, heading in chunks:
                body, created, title, author, project = heads[memory]
                text = embedding_text(
                    body[start:stop],
                    day=moment_of(created).date().isoformat(),
                    title=title,
                    author=load_author(author).client,
                    project=project,
                    heading=restored(heading),
                )
                found.append((chunk, text))
            return found

        return self._database.read(work)

    def store_vectors(self, vectors: Sequence[tuple[int, NDArray[np.float32]]], *, embedder: str | None = None) -> int:
        """See `MemoryIndex`.

        Raises:
            InvalidInput: a vector is not of the embedder's dimensions, or not finite, or of another model.
        """
        if not vectors:
            return 0
        matrix = np.asarray([vector for _, vector in vectors], np.float32)
        if matrix.ndim != 2 or matrix.shape[1] != self._dimensions:
            raise InvalidInput(
                f"vectors of shape {matrix.shape[1:]!r} do not fit the embedder's {self._dimensions} dimensions",
                hint="Call set_embedder with the model that made them.",
            )
        if not np.isfinite(matrix).all():
            raise InvalidInput("a vector holds values that are not finite")
        chunks = [chunk for chunk, _ in vectors]

        def work(connection: Link) -> int:
            known = dict(fetch_all(connection, "SELECT key, value FROM meta WHERE key = 'embedder' FOR SHARE"))
            if embedder is not None and known.get("embedder") != embedder:
                raise InvalidInput(
                    f"vectors of another model, {embedder!r}; the index holds those of {known.get('embedder')!r}"
                )
            return put_vectors(connection, chunks, matrix)

        return self._database.write(work)

    def vector_progress(self) -> tuple[int, int]:
        """See `MemoryIndex`."""
        total, missing = self._all("SELECT count(*), count(*) FILTER (WHERE NOT embedded) FROM chunks")[0]
        return total - missing, total

    # --- Journal, tombstones, state ---------------------------------------------------------------------

    def pending(self) -> list[PendingChange]:
        """See `MemoryIndex`."""
        rows = self._all("SELECT path, memory_id, operation, title, author, reason, seq FROM pending ORDER BY seq")
        return [pending_of(restored_row(row)) for row in rows]

    def clear_pending(self, seqs: Sequence[int]) -> None:
        """See `MemoryIndex`."""
        self._database.write(lambda connection: drop_pending(connection, seqs))

    def tombstone(self, id: str) -> Tombstone | None:
        """See `MemoryIndex`."""
        rows = self._all("SELECT * FROM tombstones WHERE id = %s", (stored(id),))
        return tombstone_of(restored_row(rows[0])) if rows else None

    def tombstones(self, *, limit: int = 50) -> list[Tombstone]:
        """See `MemoryIndex`."""
        rows = self._all("SELECT * FROM tombstones ORDER BY deleted DESC LIMIT %s", (limit,))
        return [tombstone_of(restored_row(row)) for row in rows]

    def meta_get(self, key: str) -> str | None:
        """See `MemoryIndex`."""
        rows = self._all("SELECT value FROM meta WHERE key = %s", (key,))
        return restored(rows[0][0]) if rows else None

    def meta_set(self, key: str, value: str | None) -> None:
        """See `MemoryIndex`."""
        if value is None:
            self._database.write(lambda connection: run(connection, "DELETE FROM meta WHERE key = %s", (key,)))
        else:
            self._database.write(lambda connection: _put_meta(connection, {key: value}))

    # --- Within -----------------------------------------------------------------------------------------

    def _chunk_table(self) -> ChunkTable:
        """Where the chunks belong; read once, because nobody else writes."""
        if (table := self._table) is not None:
            return table
        with self._database.alone():
            if self._table is None:
                self._table = self._database.read(read_table)
            return self._table

    def _forget_table(self) -> None:
        self._table = None

    def _one(self, where: str, value: str) -> Record | None:
        rows = self._all(
            f"SELECT {RECORD_COLUMNS} FROM memories m JOIN bodies b ON b.memory = m.row WHERE {where}",  # noqa: S608
            (stored(value),),
        )
        return record_from(rows[0]) if rows else None

    def _all(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._database.read(lambda connection: fetch_all(connection, statement, values))


def _put_meta(connection: Link, values: dict[str, str]) -> None:
    run_many(
        connection,
        "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [(key, stored(value)) for key, value in values.items()],
    )


def _unit(vector: ArrayLike, dimensions: int) -> Floats:
    array = np.asarray(vector, np.float32)
    if array.shape != (dimensions,) or not np.isfinite(array).all():
        raise InvalidInput(
            f"a query vector of shape {array.shape!r} does not fit the embedder's {dimensions} dimensions"
        )
    return array / max(float(np.linalg.norm(array)), 1e-12)
