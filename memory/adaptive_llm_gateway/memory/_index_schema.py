"""The index's SQLite schema, how its file is opened and checked, and how SQLite's errors become ours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import apsw

from adaptive_llm_gateway.core import DiskFull, FormatTooNew, ReadOnly, StorageError, Unavailable
from adaptive_llm_gateway.memory._sql import fetch_all, placeholders, run

FORMAT = 3
_APPLICATION_ID = 0x414C4749  # "ALGI"
_MAGIC = b"SQLite format 3\0"
_HEADER = 100

# The tokenizer as `_TABLES` names it.
TOKENIZER = ("porter", "unicode61", "remove_diacritics", "2", "categories", "L* N* Co Mn Mc")

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE memories (
    rowid INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL UNIQUE,
    version TEXT NOT NULL,
    mtime_ns INTEGER NOT NULL,
    size INTEGER NOT NULL,
    type TEXT NOT NULL,
    title TEXT NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    client TEXT NOT NULL COLLATE NOCASE,
    author TEXT NOT NULL,
    project TEXT COLLATE NOCASE,
    tags TEXT NOT NULL,
    trust INTEGER NOT NULL,
    links TEXT NOT NULL,
    source TEXT,
    reason TEXT,
    fields TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    chunk_count INTEGER NOT NULL,
    thread INTEGER
);
CREATE INDEX memories_updated ON memories (updated);
CREATE INDEX memories_type ON memories (type, updated);
CREATE INDEX memories_project ON memories (project, updated);
CREATE INDEX memories_client ON memories (client, updated);
-- Few memories name an agent within their client.
CREATE INDEX memories_agent ON memories (lower(author ->> 1)) WHERE lower(author ->> 1) IS NOT NULL;
CREATE INDEX memories_trust ON memories (trust);
CREATE TABLE bodies (memory INTEGER PRIMARY KEY REFERENCES memories ON DELETE CASCADE, body TEXT NOT NULL);
CREATE TABLE memory_tags (
    tag TEXT NOT NULL COLLATE NOCASE, memory INTEGER NOT NULL, PRIMARY KEY (tag, memory)
) WITHOUT ROWID;
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    memory INTEGER NOT NULL REFERENCES memories ON DELETE CASCADE,
    ordinal INTEGER NOT NULL,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    first_line INTEGER NOT NULL,
    last_line INTEGER NOT NULL,
    heading TEXT NOT NULL,
    digest BLOB NOT NULL,
    embedded INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX chunks_memory ON chunks (memory, ordinal);
CREATE INDEX chunks_backlog ON chunks (id) WHERE embedded = 0;
CREATE VIRTUAL TABLE words USING fts5(
    title, body, meta, grams, content='', contentless_delete=1,
    tokenize="porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
);
-- Weights of title, body, meta (type, project, author, tags) and grams.
INSERT INTO words (words, rank) VALUES ('rank', 'bm25(2.0, 1.0, 0.7, 1.0)');
CREATE TABLE vectors (chunk INTEGER PRIMARY KEY, memory INTEGER NOT NULL, vector BLOB NOT NULL);
-- While everything is read anew: the vectors that there were, by the digest of their chunks.
CREATE TABLE kept_vectors (digest BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE pending (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL,
    memory_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    title TEXT NOT NULL,
    author TEXT NOT NULL,
    reason TEXT
);
CREATE TABLE tombstones (
    id TEXT PRIMARY KEY,
    path TEXT NOT NULL,
    version TEXT NOT NULL,
    type TEXT NOT NULL,
    title TEXT NOT NULL,
    deleted INTEGER NOT NULL,
    author TEXT NOT NULL,
    reason TEXT
) WITHOUT ROWID;
"""

# Added to format 3 later: an index file without them is only slower at what they are for, and gets them when opened.
_ADDED = """
CREATE INDEX IF NOT EXISTS memories_handoff ON memories (fields -> '$."handoff"')
    WHERE fields -> '$."handoff"' IS NOT NULL;
CREATE INDEX IF NOT EXISTS memories_events ON memories (type)
    WHERE type = 'handoff' AND fields ->> '$."event"' IS NOT NULL;
CREATE INDEX IF NOT EXISTS memories_clashing ON memories (id) WHERE instr(links, '["conflicts_with",') > 0;
"""

_LARGE = ("memories", "bodies", "chunks", "vectors")
_DERIVED = ("memories", "bodies", "memory_tags", "chunks", "vectors")


class CorruptIndex(StorageError):
    """The index file cannot be used as it is: damaged, not an index, or of an older format.

    The index is derived: remove the file (with its `-wal` and `-shm`) and rebuild it from the memory files.
    """

    code = "corrupt_index"


@contextlib.contextmanager
def translated(path: Path) -> Generator[None]:
    """Raise SQLite's errors as ours."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, UnicodeDecodeError) as error:
        raise CorruptIndex(
            f"the index {str(path)!r} is damaged: {error}",
            hint="Rebuild it from the memory files with `alg memory reindex`.",
            path=str(path),
        ) from error
    except apsw.FullError as error:
        raise DiskFull(
            f"no space left for the index {str(path)!r}",
            hint="Free some space and try again.",
            path=str(path),
        ) from error
    except (apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError) as error:
        raise ReadOnly(
            f"the index {str(path)!r} cannot be written: {error}",
            hint="Make the file and its folder writable for this user.",
            path=str(path),
        ) from error
    except apsw.BusyError as error:
        raise Unavailable(
            f"the index {str(path)!r} is busy: {error}",
            hint="Try again; if it stays so, another program holds the file open for writing.",
            path=str(path),
        ) from error
    except apsw.CantOpenError as error:
        raise StorageError(
            f"the index {str(path)!r} cannot be opened: {error}",
            hint="Check that its folder exists and belongs to this user.",
            path=str(path),
        ) from error
    except apsw.IOError as error:
        raise StorageError(
            f"reading or writing the index {str(path)!r} failed: {error}",
            hint="Look at the disk; the index can be rebuilt with `alg memory reindex`.",
            path=str(path),
        ) from error


def set_aside(path: Path) -> Path:
    """Give a damaged index another name, for whoever wants to look at it; returns the new path.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}-{number}")
    path.replace(aside)
    with contextlib.suppress(FileNotFoundError):  # what was written last is in the log alone
        path.with_name(path.name + "-wal").replace(aside.with_name(aside.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return aside


def check_header(path: Path) -> bool:
    """Whether there is an index of this format at `path`; False when the file is absent or empty.

    Reads the file's first 100 bytes only, so a file of a newer format is not touched, not even by a lock file.

    Raises:
        FormatTooNew: a newer version of this program wrote it.
        CorruptIndex: not an index, or an older format.
        StorageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageError(
            f"the index {str(path)!r} cannot be read: {error.strerror}",
            hint="Check that the file and its folder belong to this user.",
            path=str(path),
        ) from error
    if not header:
        return False
    application = int.from_bytes(header[68:72], "big")
    number = int.from_bytes(header[60:64], "big")
    if len(header) < _HEADER or not header.startswith(_MAGIC) or application != _APPLICATION_ID:
        raise CorruptIndex(
            f"{str(path)!r} is not an index",
            hint="Move it away, then rebuild the index with `alg memory reindex`.",
            path=str(path),
        )
    if number > FORMAT:
        raise FormatTooNew(
            f"the index {str(path)!r} has format {number}, this version knows {FORMAT}",
            hint="Update adaptive-llm-gateway, or use another home.",
            path=str(path),
            format=number,
            known=FORMAT,
        )
    if number < FORMAT:
        raise CorruptIndex(
            f"the index {str(path)!r} has the older format {number}, this version writes {FORMAT}",
            hint="Rebuild it from the memory files with `alg memory reindex`.",
            path=str(path),
            format=number,
        )
    page = int.from_bytes(header[16:18], "big")
    size = 65_536 if page == 1 else page
    pages = int.from_bytes(header[28:32], "big")
    log = path.with_name(path.name + "-wal")
    whole = log.exists() and log.stat().st_size > 0  # an unfinished checkpoint: the log has what the file lacks
    if not whole and path.stat().st_size < size * pages:
        raise CorruptIndex(
            f"the index {str(path)!r} is truncated: {path.stat().st_size} bytes of {size * pages}",
            hint="Rebuild it from the memory files with `alg memory reindex`.",
            path=str(path),
        )
    return True


def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """A connection, set up. Errors are SQLite's own; use `translated`."""
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(path), flags=flags, statementcachesize=200)
    try:
        connection.set_busy_timeout(5_000)
        run(connection, "PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000")
        # What FTS5 knows of each word, and where it occurs: views of `words`, which hold nothing.
        run(connection, "CREATE VIRTUAL TABLE temp.terms USING fts5vocab(main, words, row)")
        run(connection, "CREATE VIRTUAL TABLE temp.places USING fts5vocab(main, words, instance)")
        if not read_only:
            run(connection, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
            run(connection, "PRAGMA journal_size_limit = 16777216")
    except BaseException:
        connection.close()
        raise
    return connection


def create(connection: apsw.Connection) -> None:
    """Lay out an empty file; a crash before the end leaves an empty file again."""
    with connection:
        run(connection, _TABLES)
        run(connection, _ADDED)
        run(connection, f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {FORMAT}")
    # The header must be in the file itself, because `check_header` does not read the write-ahead log.
    fetch_all(connection, "PRAGMA wal_checkpoint(TRUNCATE)")


def complete(connection: apsw.Connection) -> None:
    """Add what an index file of this format may lack, for it was made by an older version."""
    run(connection, _ADDED)


def probe(connection: apsw.Connection, path: Path) -> None:
    """A cheap look into each table, enough to notice a damaged schema or missing table.

    Raises:
        CorruptIndex: something is missing or damaged.
    """
    try:
        for table in (*_DERIVED, "meta", "pending", "tombstones", "kept_vectors"):
            fetch_all(connection, f"SELECT * FROM {table} LIMIT 1")  # noqa: S608 - our own names
        for table in _LARGE:
            fetch_all(connection, f"SELECT * FROM {table} ORDER BY rowid DESC LIMIT 1")  # noqa: S608
        fetch_all(connection, "SELECT rowid FROM words WHERE words MATCH '\"probe\"' LIMIT 1")
    except apsw.SQLError as error:
        raise CorruptIndex(
            f"the index {str(path)!r} is damaged: {error}",
            hint="Rebuild it from the memory files with `alg memory reindex`.",
            path=str(path),
        ) from error


def clear_derived(connection: apsw.Connection) -> None:
    """Empty what can be rebuilt from the files; inside the caller's transaction."""
    for table in _DERIVED:
        run(connection, f"DELETE FROM {table}")  # noqa: S608 - our own names
    run(connection, "INSERT INTO words (words) VALUES ('delete-all')")


def rescue(connection: apsw.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """What the files cannot give again, by table, as far as a damaged index still tells it."""
    saved: dict[str, list[tuple[Any, ...]]] = {}
    for table in ("meta", "pending", "tombstones"):
        try:
            saved[table] = fetch_all(connection, f"SELECT * FROM {table}")  # noqa: S608 - our own names
        except (apsw.Error, UnicodeDecodeError):
            saved[table] = []
    return saved


def restore(connection: apsw.Connection, saved: dict[str, list[tuple[Any, ...]]]) -> None:
    """Put what was rescued into a new index; inside the caller's transaction."""
    for table, rows in saved.items():
        for row in rows:
            marks = placeholders(len(row))
            run(connection, f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)  # noqa: S608 - our own names
