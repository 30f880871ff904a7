"""Opens the hub's small SQLite files in the home: for this user alone, and of a version that is known."""

from __future__ import annotations

import os
import stat
import urllib.parse
from pathlib import Path
from typing import Any, Final, cast

import apsw

from adaptive_llm_gateway.core import FormatTooNew, StorageError

_BUSY_MS: Final = 5_000
_MOST_LOOKED_AT: Final = 512 * 1024 * 1024
"""Bytes of a file that is looked through for damage, all of which is read for it."""


def open_home_db(path: Path, schema: str, *, version: int) -> apsw.Connection:
    """Open a file, or make it; what it says is on the disk before a write of it returns.

    Args:
        schema: statements that do nothing where what they make is there.
        version: of the schema; a file of before versions counts as of the first.

    Raises:
        FormatTooNew: a newer version made it.
        StorageError: it is no file, or not this user's.
        OSError, apsw.Error: it cannot be opened, or is damaged.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0), 0o600)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise StorageError(f"{str(path)!r} is no file", hint="Move it away.", path=str(path))
        if os.name == "posix" and found.st_mode & 0o077:
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)
    database = apsw.Connection(str(path))
    try:
        database.set_busy_timeout(_BUSY_MS)
        ((known,),) = _rows(database, "PRAGMA user_version")
        if known > version:
            raise FormatTooNew(
                f"{str(path)!r} has version {known}, and this hub knows {version}",
                hint="Install the newer version again, or move the file away while the hub is stopped.",
                path=str(path),
            )
        # What is said to be there is there, also when the machine stops.
        _rows(database, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        _rows(database, schema)
        if known != version:
            _rows(database, f"PRAGMA user_version = {version}")
    except BaseException:
        database.close()
        raise
    return database


def look_at_home_db(path: Path, *, version: int) -> str | None:
    """What is wrong with a file, without changing it; None: nothing, or there is none. The hub may have it open.

    Damage is looked for as SQLite's quick check does.
    """
    try:
        status = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        return "is a link that leads nowhere" if os.path.lexists(path) else None
    except OSError as error:
        return f"cannot be looked at: {error.strerror or error}"
    if not stat.S_ISREG(status.st_mode):
        return "is no file"
    if os.name == "posix" and status.st_uid != os.getuid():
        return "belongs to another user"
    if not os.access(path, os.R_OK | os.W_OK):
        return "cannot be written"
    if status.st_size > _MOST_LOOKED_AT:
        return None
    try:
        # Nothing is made beside a file that nobody has open.
        quiet = "" if path.with_name(f"{path.name}-wal").exists() else "?immutable=1"
        where = f"file:{urllib.parse.quote(str(path))}{quiet}"
        database = apsw.Connection(where, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        try:
            database.set_busy_timeout(_BUSY_MS)
            ((known,),) = _rows(database, "PRAGMA user_version")
            ((verdict,),) = _rows(database, "PRAGMA quick_check(1)")
        finally:
            database.close()
    except apsw.Error as error:
        return f"is damaged or cannot be read: {error}"
    if known > version:
        return f"was made by a newer version (it has version {known}, and this one knows {version})"
    if verdict != "ok":
        return f"is damaged: {verdict}"
    if os.name == "posix" and status.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _rows(database: apsw.Connection, statement: str) -> list[tuple[Any, ...]]:
    return cast("list[tuple[Any, ...]]", database.execute(statement).fetchall())  # pyright: ignore[reportUnknownMemberType]
