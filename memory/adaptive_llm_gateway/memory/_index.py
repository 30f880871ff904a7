"""The index: everything search and lists need, in one SQLite file that can always be rebuilt from the memory files.

One process writes (the hub). Writes are serialised here; readers run beside them, each on a connection of a pool.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import apsw
import numpy as np
from numpy.typing import ArrayLike, NDArray

from adaptive_llm_gateway.core import InvalidInput, StorageError, Trust
from adaptive_llm_gateway.memory import _index_schema as schema
from adaptive_llm_gateway.memory._chunk_rows import read_blocks, read_table
from adaptive_llm_gateway.memory._chunk_table import Block, ChunkTable
from adaptive_llm_gateway.memory._chunks import embedding_text
from adaptive_llm_gateway.memory._held_vectors import HeldVectors, Slice
from adaptive_llm_gateway.memory._index_facts import (
    clashes,
    copy_database,
    count_facets,
    embedded_chunks,
    has_vectors,
    memory_vector,
    vectors_after,
    vectors_of,
)
from adaptive_llm_gateway.memory._index_rows import (
    RECORD_COLUMNS,
    PendingChange,
    Tombstone,
    conditions,
    load_author,
    moment_of,
    pending_of,
    record_of,
    tombstone_of,
)
from adaptive_llm_gateway.memory._index_schema import CorruptIndex, translated
from adaptive_llm_gateway.memory._index_write import (
    drop_pending,
    put_aside,
    put_pending,
    put_tombstone,
    put_vectors,
    remove,
    upsert,
)
from adaptive_llm_gateway.memory._let_through import renew_state, state_of
from adaptive_llm_gateway.memory._pages import Order, Page, decode_cursor, encode_cursor, place_of
from adaptive_llm_gateway.memory._qdrant import QdrantServer, QdrantUnavailable, Stored
from adaptive_llm_gateway.memory._qdrant_vectors import QdrantVectors
from adaptive_llm_gateway.memory._ranking import WEIGHTS, Weights
from adaptive_llm_gateway.memory._search import SearchAnswer, search
from adaptive_llm_gateway.memory._source_sqlite import SqliteSource, TermCounts, newest_chunk
from adaptive_llm_gateway.memory._sql import fetch_all, fetch_one, fetch_pairs, fetch_value, run, run_many
from adaptive_llm_gateway.memory._values import Facets, Filters, Record, TimeRange
from adaptive_llm_gateway.memory._vectors import Floats, VectorCache, quantise

__all__ = ["CorruptIndex", "Index", "Page", "PendingChange", "SearchAnswer", "Tombstone"]

_ORDERS: dict[Order, tuple[str, str, str]] = {
    "updated": ("m.updated", "<", "DESC"),
    "created": ("m.created", "<", "DESC"),
    "title": ("m.title COLLATE NOCASE", ">", "ASC"),
}
_CODE_BYTES = 128 << 20


class Index:
    """An open index; created when there is none.

    Attributes:
        on_damage: called when an operation meets damage, before it raises `CorruptIndex`, in its thread and perhaps
            more than once; it should see to it that `start_over` is called.

    Args:
        path: the SQLite file; its folder must exist.
        vector_cache_bytes: the sign bits of all vectors are held in memory; their int8 codes too while they take no
            more than this (a byte a dimension and chunk), beyond it those of candidates are read from the file.
        qdrant: searches the vectors in place of the memory; the file has them all the same. Closed with the index.

    Raises:
        FormatTooNew: written by a newer version; the file is not touched.
        CorruptIndex: damaged, or not an index: remove it and rebuild.
        StorageError: it cannot be opened, read or written.
    """

    def __init__(
        self, path: Path, *, vector_cache_bytes: int = _CODE_BYTES, qdrant: QdrantServer | None = None
    ) -> None:
        self.path = path
        self.on_damage: Callable[[CorruptIndex], None] | None = None
        self._round = 0  # raised by `start_over`; connections of an earlier one are closed when they come back
        self._write_lock = threading.RLock()
        self._pool_lock = threading.Lock()
        self._idle: list[apsw.Connection] = []
        self._closed = False
        self._terms = TermCounts()
        self._table: ChunkTable | None = None
        self._held: HeldVectors | QdrantVectors = (
            HeldVectors(self._read_vectors, code_bytes=vector_cache_bytes)
            if qdrant is None
            else QdrantVectors(self, qdrant)
        )
        self._sent_trust = Trust.SECRET if qdrant is None else qdrant.max_trust
        existing = schema.check_header(path)
        with translated(path):
            self._writer = schema.connect(path)
            try:
                if not existing:
                    schema.create(self._writer)
                else:
                    schema.probe(self._writer, path)
                    schema.complete(self._writer)
                if state_of(self._writer) is None:
                    renew_state(self._writer)
            except BaseException:
                self._writer.close()
                raise
            # Of a rebuild that was interrupted.
            self._put_aside = bool(fetch_value(self._writer, "SELECT EXISTS (SELECT 1 FROM kept_vectors)"))
        dimensions = self.meta_get("dimensions")
        self._dimensions = int(dimensions) if dimensions else 0
        self._embedder = self.meta_get("embedder")

    def start_over(self) -> Path:
        """Set the damaged file aside and go on with a new one, which has to be filled from the memory files.

        Journal, tombstones and state come along where they can still be read.

        Returns:
            where the old file is.

        Raises:
            StorageError: it cannot be renamed, or a new one cannot be written.
        """
        with self._write_lock:
            saved = schema.rescue(self._writer)
            # The lock of the pool keeps readers from the file until it is an index.
            with self._pool_lock, translated(self.path):
                self._round += 1
                for connection in self._idle:
                    connection.close()
                self._idle.clear()
                self._writer.close()
                try:
                    aside = schema.set_aside(self.path)
                except OSError as error:
                    raise StorageError(
                        f"the damaged index {str(self.path)!r} cannot be set aside: {error.strerror}",
                        hint="Stop the hub, move the file away, and start the hub again.",
                        path=str(self.path),
                    ) from error
                self._writer = schema.connect(self.path)
                schema.create(self._writer)
            self._held.restart()
            self._table = None
            self._terms = TermCounts()
            self._put_aside = False
            with self._write() as connection:
                schema.restore(connection, saved)
                renew_state(connection)
                if self._embedder:
                    entries = [("embedder", self._embedder), ("dimensions", str(self._dimensions))]
                    run_many(connection, "INSERT OR REPLACE INTO meta VALUES (?, ?)", entries)
            return aside

    def adopt(self, path: Path) -> None:
        """Take journal and tombstones over from an index that was set aside, as far as they can be read there."""
        try:
            connection = schema.connect(path, read_only=True)
        except apsw.Error:
            return
        try:
            saved = schema.rescue(connection)
        finally:
            connection.close()
            log = path.with_name(path.name + "-wal")
            with contextlib.suppress(FileNotFoundError):
                if not log.stat().st_size:
                    log.unlink()
                path.with_name(path.name + "-shm").unlink()
        with contextlib.suppress(apsw.Error, CorruptIndex), self._write() as connection:  # of an older format
            schema.restore(connection, {table: saved[table] for table in ("pending", "tombstones")})

    def close(self) -> None:
        """Close all connections; harmless when closed."""
        self._held.close()
        with self._write_lock, self._pool_lock:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            self._writer.close()

    def __enter__(self) -> Index:
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
        """Put memories in and take ids out, all in one transaction; unknown ids are ignored.

        An upsert replaces the memory of the same id, and whichever held its path; it also removes the id's tombstone.
        Of several with one id the last counts.

        Returns:
            The `seq` of each of `pending`.

        Args:
            pending: entries for the journal of uncommitted changes.
            settled: entries that leave the journal, by `seq`.
            tombstones: what is kept of deleted memories.

        Raises:
            InvalidInput: a record's time has no time zone.
            StorageError: nothing was changed.
        """
        gone: list[int] = []
        upserts = list({record.id: record for record in upserts}.values())
        vectors = self._dimensions > 0
        reused: dict[int, tuple[int, bytes]] | None = {} if self._put_aside else None
        with self._write_lock:
            blocks: list[Block] = []
            moved: list[int] = []  # of memories whose trust may be another now
            with self._write() as connection:
                for id_ in deletes:
                    gone += remove(connection, "id = ?", (id_,), vectors=vectors)
                for record in upserts:
                    gone += upsert(connection, record, vectors=vectors, reused=reused)
                if upserts or deletes:
                    renew_state(connection)
                drop_pending(connection, settled)
                seqs = put_pending(connection, pending)
                for stone in tombstones:
                    put_tombstone(connection, stone)
                if self._sent_trust is not Trust.SECRET and vectors:
                    moved = embedded_chunks(connection, [record.id for record in upserts])
                if self._table is not None and upserts:
                    blocks = read_blocks(connection, [record.id for record in upserts])
            if self._table is not None and (blocks or gone):
                self._table.put(blocks, gone)
            if gone:
                self._terms.recent.forget()
            if moved:
                self._held.remove(moved)
            if reused:
                codes = np.frombuffer(b"".join(code for _, code in reused.values()), np.int8).reshape(len(reused), -1)
                self._held.add(list(reused), [memory for memory, _ in reused.values()], codes)
            self._held.remove(gone)
        return seqs

    def reset(self) -> None:
        """Drop all that the files can give again, in one transaction; journal, tombstones and state stay.

        Chunks that come again as they were get their vectors back without the model, until `tidy`.
        """
        with self._write_lock:
            with self._write() as connection:
                put_aside(connection)
                schema.clear_derived(connection)
                renew_state(connection)
            self._put_aside = True
            self._table = None
            self._held.restart()

    def tidy(self) -> None:
        """Merge what single writes left in pieces, for when there is time (idle, after a rebuild): words are then
        found a third faster. Writes wait meanwhile, about 0.1 s at 10,000 memories.
        """
        with self._write() as connection:
            run(connection, "INSERT INTO words (words) VALUES ('optimize')")
            run(connection, "DELETE FROM kept_vectors")
        self._put_aside = False
        with self._write_lock, self._watched():
            run(self._writer, "PRAGMA optimize")

    # --- Read -----------------------------------------------------------------------------------------

    def get(self, id: str) -> Record | None:
        """The memory of an id."""
        return self._one("m.id = ?", id)

    def by_path(self, path: str) -> Record | None:
        """The memory of a path within the memory repo."""
        return self._one("m.path = ?", path)

    def resolve(self, part: str, *, limit: int = 20) -> list[str]:
        """Ids that are `part`, else those that begin or end with it, whatever the case; at most `limit`."""
        wanted = part.strip().upper()
        if not wanted:
            return []
        with self._read() as connection:
            rows = fetch_all(connection, "SELECT id FROM memories WHERE id = ?", (wanted,))
            if not rows:
                rows = fetch_all(
                    connection,
                    "SELECT id FROM memories WHERE substr(upper(id), 1, length(?1)) = ?1 "
                    "OR substr(upper(id), -length(?1)) = ?1 ORDER BY id LIMIT ?2",
                    (wanted, limit),
                )
        return [row[0] for row in rows]

    def files(self) -> dict[str, tuple[int, int, str, str]]:
        """Path to (mtime_ns, size, version, id) of every memory."""
        with self._read() as connection:
            rows = fetch_all(connection, "SELECT path, mtime_ns, size, version, id FROM memories")
        return {row[0]: row[1:] for row in rows}

    def versions(self, type: str) -> dict[str, tuple[str, str]]:
        """Id to (path, version) of every memory of a type."""
        with self._read() as connection:
            rows = fetch_all(connection, "SELECT id, path, version FROM memories WHERE type = ?", (type,))
        return {id_: (path, version) for id_, path, version in rows}

    def list(
        self,
        filters: Filters | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "updated",
    ) -> Page:
        """Memories page by page: newest first, or by title.

        The cursor names the last one seen, so that writes in between neither repeat nor skip others.

        Raises:
            InvalidInput: not a cursor of this order.
        """
        where, values = conditions(filters or Filters())
        column, comparison, direction = _ORDERS[order]
        with self._read() as connection:
            total = fetch_value(
                connection,
                f"SELECT count(*) FROM memories m {'WHERE ' + where if where else ''}",  # noqa: S608
                values,
            )
            parts, bounds = ([where] if where else []), list(values)
            if cursor is not None:
                place = decode_cursor(cursor, order)
                parts.append(f"({column}, m.id) {comparison}{'' if place.passed else '='} (?, ?)")
                bounds += [place.value, place.id]
            rows = fetch_all(
                connection,
                f"SELECT {RECORD_COLUMNS} FROM memories m CROSS JOIN bodies b ON b.memory = m.rowid "  # noqa: S608
                f"{'WHERE ' + ' AND '.join(parts) if parts else ''} "
                f"ORDER BY {column} {direction}, m.id {direction} LIMIT ?",
                (*bounds, limit + 1),
            )
        records = tuple(record_of(row) for row in rows[:limit])
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
        """The memories that answer a query, best first; for an empty query the most recent.

        Args:
            vector: the query's embedding (d,), of the model given to `set_embedder`, or what gives it once the
                search by words is done; without it, or while no vectors are stored, search is by words.
            limit: at most this many hits.
            preferred: memories of this time are preferred, others are not left out.
            weights: of the signals, for measuring them.

        Raises:
            InvalidInput: the vector has the wrong shape.
        """
        wanted: Callable[[], Floats | None] | None = None
        if vector is not None and self._dimensions:
            if callable(vector):
                given = vector

                def unit() -> Floats | None:
                    made = given()
                    return None if made is None else self._unit(made)

                wanted = unit
            else:
                known = self._unit(vector)
                wanted = lambda: known  # noqa: E731
        terms = self._terms  # before the connection: what is read from a file set aside is not kept for the new one
        with self._read() as connection:
            cache = None
            if wanted is not None:
                self._start_holding(connection)
                cache = self._held.ready()
                if cache is None or not (len(cache) if isinstance(cache, VectorCache) else has_vectors(connection)):
                    wanted = None
            source = SqliteSource(
                connection, filters=filters or Filters(), table=self._chunk_table(), cache=cache, terms=terms
            )
            asked = functools.partial(search, source, query, limit=max(1, limit), preferred=preferred, weights=weights)
            try:
                return asked(vector=wanted)
            except QdrantUnavailable:  # `vector_trouble` has it
                return asked(vector=None)

    def facets(self, filters: Filters | None = None) -> Facets:
        """Counts of the memories that the filters let through."""
        with self._read() as connection:
            return count_facets(connection, filters or Filters())

    def memory_vector(self, id: str) -> Floats | None:
        """The mean of the unit vectors of a memory's passages, (d,); None while it has none, or where a search by it
        would send what must not leave this machine.
        """
        with self._read() as connection:
            return memory_vector(connection, id, max_trust=self._sent_trust)

    def word_counts(self, words: Sequence[str]) -> tuple[list[int], int]:
        """(in how many chunks each word occurs, roughly; all chunks); zeros while the index is small."""
        with self._read() as connection:
            size = newest_chunk(connection)
            return self._terms.of(connection, words, size), size

    def too_common(self, words: Sequence[str]) -> list[str]:
        """Of a query's words those that are not searched because they are in too many chunks."""
        with self._read() as connection:
            kept = self._terms.affordable(connection, words, newest_chunk(connection))
        return [word for word in words if word not in kept]

    def projects(self) -> list[str]:
        """The names of the projects that memories have, each as it is written."""
        statement = "SELECT DISTINCT project COLLATE BINARY FROM memories WHERE project IS NOT NULL"
        with self._read() as connection:
            return [row[0] for row in fetch_all(connection, statement)]

    def ids(self, filters: Filters | None = None) -> list[str]:
        """The ids of all memories that the filters let through, in no order."""
        where, values = conditions(filters or Filters())
        statement = f"SELECT m.id FROM memories m {'WHERE ' + where if where else ''}"  # noqa: S608 - our own names
        with self._read() as connection:
            return [row[0] for row in fetch_all(connection, statement, values)]

    def copy_to(self, path: Path) -> None:
        """Copy the index, in one state, into a new file."""
        with self._read() as connection:
            copy_database(connection, path)

    def statistics(self) -> dict[str, Any]:
        """Counts: `memories`, `types` (each type's), `chunks`, `vectors`, `pending`, `tombstones`, `bytes`."""
        with self._read() as connection:
            types = fetch_pairs(connection, "SELECT type, count(*) FROM memories GROUP BY type ORDER BY type")
            counts = {
                table: fetch_value(connection, f"SELECT count(*) FROM {table}")  # noqa: S608
                for table in ("chunks", "pending", "tombstones")
            }
            # Not by counting the vectors: that reads them all.
            missing = fetch_value(connection, "SELECT count(*) FROM chunks WHERE embedded = 0")
            pages = fetch_value(connection, "PRAGMA page_count")
            size = fetch_value(connection, "PRAGMA page_size")
        return {
            "memories": sum(types.values()),
            "types": types,
            **counts,
            "vectors": counts["chunks"] - missing,
            "bytes": pages * size,
            "cache_bytes": self._held.nbytes,
        }

    def clashes(self) -> list[tuple[str, str]]:
        """See `MemoryIndex`; quick while there are few, however many memories there are."""
        with self._read() as connection:
            return clashes(connection)

    # --- Vectors --------------------------------------------------------------------------------------

    def set_embedder(self, id: str, dimensions: int) -> bool:
        """Name the model whose vectors are kept. Another one drops all vectors; True when that happened."""
        if dimensions < 1:
            raise InvalidInput(f"an embedder cannot have {dimensions!r} dimensions")
        with self._write_lock:
            with self._write() as connection:
                known = fetch_pairs(connection, "SELECT key, value FROM meta WHERE key IN ('embedder', 'dimensions')")
                same = known.get("embedder") == id and known.get("dimensions") == str(dimensions)
                if not same:
                    run(connection, "DELETE FROM vectors")
                    run(connection, "DELETE FROM kept_vectors")
                    run(connection, "UPDATE chunks SET embedded = 0 WHERE embedded = 1")
                    run_many(
                        connection,
                        "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                        [("embedder", id), ("dimensions", str(dimensions))],
                    )
            if not same:
                self._held.restart()
                self._dimensions, self._embedder, self._put_aside = dimensions, id, False
            self._start_holding(self._writer)
        return not same

    def backlog(self, limit: int, *, max_trust: Trust = Trust.SECRET) -> list[tuple[int, str]]:
        """Chunks without a vector, newest first: (chunk id, text to embed).

        Args:
            max_trust: leaves out memories above this level.
        """
        above = "" if max_trust is Trust.SECRET else " AND memory IN (SELECT rowid FROM memories WHERE trust <= ?)"
        with self._read() as connection:
            wanted = f"SELECT id, memory, start, stop, heading FROM chunks WHERE embedded = 0{above}"  # noqa: S608 - ours
            values = (max_trust.rank, limit) if above else (limit,)
            chunks = fetch_all(connection, f"{wanted} ORDER BY id DESC LIMIT ?", values)
            heads: dict[int, tuple[Any, ...]] = {}
            found: list[tuple[int, str]] = []
            for chunk, memory, start, stop, heading in chunks:
                if memory not in heads:
                    heads[memory] = fetch_all(
                        connection,
                        "SELECT b.body, m.created, m.title, m.author, m.project FROM memories m "
                        "JOIN bodies b ON b.memory = m.rowid WHERE m.rowid = ?",
                        (memory,),
                    )[0]
                body, created, title, author, project = heads[memory]
                text = embedding_text(
                    body[start:stop],
                    day=moment_of(created).date().isoformat(),
                    title=title,
                    author=load_author(author).client,
                    project=project,
                    heading=heading,
                )
                found.append((chunk, text))
        return found

    @property
    def reading_vectors(self) -> tuple[int, int] | None:
        """(read, about how many there are) while the vectors are being read into memory, and search is by words."""
        return self._held.progress

    def store_vectors(self, vectors: Sequence[tuple[int, NDArray[np.float32]]], *, embedder: str | None = None) -> int:
        """Keep vectors by chunk id; those of chunks that are gone meanwhile are ignored. Returns how many were kept.

        Args:
            embedder: the model that made them.

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
        codes = quantise(matrix)
        places = {chunk: place for place, (chunk, _) in enumerate(vectors)}
        with self._write_lock:
            with self._write() as connection:
                known = fetch_value(connection, "SELECT value FROM meta WHERE key = 'embedder'")
                if embedder not in (None, known):
                    raise InvalidInput(f"vectors of another model, {embedder!r}; the index holds those of {known!r}")
                kept = put_vectors(connection, {chunk: codes[place].tobytes() for chunk, place in places.items()})
            self._held.add(list(kept), list(kept.values()), codes[[places[chunk] for chunk in kept]])
        return len(kept)

    def stored_vectors(
        self, *, after: int = 0, count: int = 0, chunks: Sequence[int] | None = None, max_trust: Trust
    ) -> list[Stored]:
        """See `VectorFile`."""
        with self._read() as connection:
            if chunks is not None:
                return vectors_of(connection, chunks, max_trust)
            return vectors_after(connection, after, count, max_trust)

    @property
    def space(self) -> str:
        """Names the model whose vectors are kept; empty before the first."""
        return self._embedder or ""

    @property
    def vector_trouble(self) -> str | None:
        """What keeps search from the vectors on a server; None when nothing does, or they are held here."""
        return None if isinstance(self._held, HeldVectors) else self._held.trouble

    def vector_progress(self) -> tuple[int, int]:
        """(chunks with a vector, all chunks)."""
        with self._read() as connection:
            total = fetch_value(connection, "SELECT count(*) FROM chunks")
            missing = fetch_value(connection, "SELECT count(*) FROM chunks WHERE embedded = 0")
        return total - missing, total

    # --- Journal, tombstones, state ---------------------------------------------------------------------

    def pending(self) -> list[PendingChange]:
        """Changes not yet committed, oldest first."""
        with self._read() as connection:
            rows = fetch_all(
                connection, "SELECT path, memory_id, operation, title, author, reason, seq FROM pending ORDER BY seq"
            )
        return [pending_of(row) for row in rows]

    def clear_pending(self, seqs: Sequence[int]) -> None:
        """Take entries out of the journal, by `seq`."""
        with self._write() as connection:
            drop_pending(connection, seqs)

    def tombstone(self, id: str) -> Tombstone | None:
        """What is known of a deleted memory."""
        with self._read() as connection:
            row = fetch_one(connection, "SELECT * FROM tombstones WHERE id = ?", (id,))
        return tombstone_of(row) if row else None

    def tombstones(self, *, limit: int = 50) -> list[Tombstone]:
        """Deleted memories, the latest first."""
        with self._read() as connection:
            rows = fetch_all(connection, "SELECT * FROM tombstones ORDER BY deleted DESC LIMIT ?", (limit,))
        return [tombstone_of(row) for row in rows]

    def meta_get(self, key: str) -> str | None:
        """A small piece of state."""
        with self._read() as connection:
            row = fetch_one(connection, "SELECT value FROM meta WHERE key = ?", (key,))
        return row[0] if row else None

    def meta_set(self, key: str, value: str | None) -> None:
        """Keep a small piece of state; `None` removes it."""
        with self._write() as connection:
            if value is None:
                run(connection, "DELETE FROM meta WHERE key = ?", (key,))
            else:
                run(connection, "INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # --- Within -----------------------------------------------------------------------------------------

    def _one(self, where: str, value: str) -> Record | None:
        with self._read() as connection:
            row = fetch_one(
                connection,
                f"SELECT {RECORD_COLUMNS} FROM memories m JOIN bodies b ON b.memory = m.rowid WHERE {where}",  # noqa: S608
                (value,),
            )
        return record_of(row) if row else None

    @contextlib.contextmanager
    def _watched(self) -> Generator[None]:
        """Raise SQLite's errors as ours, and tell whoever mends a damaged index."""
        try:
            with translated(self.path):
                yield
        except CorruptIndex as error:
            if self.on_damage is not None:
                self.on_damage(error)
            raise

    @contextlib.contextmanager
    def _write(self) -> Generator[apsw.Connection]:
        with self._write_lock, self._watched():
            if self._closed:
                raise StorageError(f"the index {str(self.path)!r} is closed")
            run(self._writer, "BEGIN IMMEDIATE")
            try:
                yield self._writer
                run(self._writer, "COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    run(self._writer, "ROLLBACK")
                raise

    @contextlib.contextmanager
    def _read(self) -> Generator[apsw.Connection]:
        """A connection of the pool in a read transaction: one state of the index throughout."""
        with self._watched():
            connection, started = self._connection()
            try:
                run(connection, "BEGIN")
                yield connection
                run(connection, "COMMIT")
            except BaseException:
                connection.close()
                raise
            with self._pool_lock:
                if self._closed or self._round != started:
                    connection.close()
                else:
                    self._idle.append(connection)

    def _connection(self) -> tuple[apsw.Connection, int]:
        """(a connection for reading, the round that it belongs to)."""
        while True:
            with self._pool_lock:
                if self._closed:
                    raise StorageError(f"the index {str(self.path)!r} is closed")
                started = self._round
                if self._idle:
                    return self._idle.pop(), started
            connection: apsw.Connection | None = None
            try:
                connection = schema.connect(self.path, read_only=True)
            except apsw.Error:
                if self._round == started:
                    raise
            with self._pool_lock:
                if connection is not None and self._round == started:
                    return connection, started
            if connection is not None:
                connection.close()

    def _unit(self, vector: ArrayLike) -> NDArray[np.float32]:
        array = np.asarray(vector, np.float32)
        if array.shape != (self._dimensions,) or not np.isfinite(array).all():
            raise InvalidInput(
                f"a query vector of shape {array.shape!r} does not fit the embedder's {self._dimensions} dimensions"
            )
        return array / max(float(np.linalg.norm(array)), 1e-12)

    def _chunk_table(self) -> ChunkTable:
        """Where the chunks belong; read from the file once."""
        if (table := self._table) is not None:
            return table
        with self._write_lock:
            if self._table is None:
                self._table = read_table(self._writer)
            return self._table

    def _start_holding(self, connection: apsw.Connection) -> None:
        """Begin to read the vectors into memory, where that has not begun."""
        if self._held.begun:
            return
        # The ends are found at once, while counting the rows would read the whole table.
        ends = fetch_one(connection, "SELECT (SELECT min(chunk) FROM vectors), (SELECT max(chunk) FROM vectors)")
        self._held.start(self._dimensions, ends[1] - ends[0] + 1 if ends and ends[1] else 0)

    def _read_vectors(self, after: int, count: int, take: Callable[[Slice], None]) -> None:
        """See `HeldVectors`. The write lock keeps vectors from being stored or dropped before they are taken in."""
        with self._write_lock, self._watched():
            if self._closed:
                raise StorageError(f"the index {str(self.path)!r} is closed")
            statement = "SELECT chunk, memory, vector FROM vectors WHERE chunk > ? ORDER BY chunk LIMIT ?"
            rows: Any = fetch_all(self._writer, statement, (after, count))
            if any(len(row[2]) != self._dimensions for row in rows):
                raise apsw.CorruptError("a vector has not the length that it should have")
            take(rows)
