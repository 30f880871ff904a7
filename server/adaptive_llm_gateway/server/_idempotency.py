"""Remembers what became of requests with an `Idempotency-Key`, for a day: a request that comes once more is not carried
out once more.

In a small SQLite file in the home, which has no key, no request and no client, but hashes of them, and the answers.
A row is on the disk before a request is carried out, and its answer before that is given. So of a process that was
killed in between there is a row without an answer, and nobody knows how far it came.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import apsw

from adaptive_llm_gateway.core import AlgError, DiskFull, InvalidInput, StorageError, derived_ulid, reach
from adaptive_llm_gateway.server._home_db import open_home_db

_T = TypeVar("_T")

KEPT_SECONDS: Final = 24 * 3600.0
MOST_OF_A_CLIENT: Final = 10_000
MOST: Final = 100_000
"""Requests that are known, of one client and in all; the oldest go first."""
MOST_BYTES: Final = 256 * 1024
"""Of an answer that is kept; a longer one is not."""

_WAIT_SECONDS: Final = 20.0
_PRUNE_EVERY: Final = 100
VERSION: Final = 1
"""Of the file."""
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS requests (
        id BLOB PRIMARY KEY,          -- SHA-256 of client and key
        client BLOB NOT NULL,         -- SHA-256 of the client
        request BLOB NOT NULL,        -- SHA-256 of all that was asked
        begun REAL NOT NULL,          -- Unix time
        status INTEGER,               -- of the answer; NULL: there is none yet
        headers TEXT,
        body BLOB                     -- NULL beside a status: it was too long to be kept
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_client ON requests (client, begun);
    CREATE INDEX IF NOT EXISTS by_time ON requests (begun);
"""


class KeyReused(InvalidInput):
    """The key was used for another request; a key stands for one."""

    code = "key_reused"


class KeyInUse(AlgError):
    """A request with this key is being carried out; ask again in a moment."""

    code = "key_in_use"
    exit_code = 4


class OutcomeUnknown(AlgError):
    """What became of an earlier request with this key is not known; it may have been carried out."""

    code = "outcome_unknown"
    exit_code = 4


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was given; `body` is None where it was too long to be kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A request that is to be carried out now.

    Attributes:
        id: of its row.
        at: Unix time at which it was first begun.
        again: an earlier process may have carried it out, and did not live to say so.
    """

    id: bytes
    at: float
    again: bool = False

    @property
    def new_id(self) -> str:
        """The id of what it creates: the same one whichever process carries it out."""
        return derived_ulid(self.id.hex(), milliseconds=int(self.at * 1000))


@dataclass(slots=True)
class _Running:
    request: bytes
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Idempotency:
    """The keys of one home. Of one event loop; what it does on disk is done in a thread of its own.

    Args:
        path: of the file.
        clock: Unix time.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="idempotency")
        self._database: apsw.Connection | None = None
        self._running: dict[bytes, _Running] = {}
        self._counts: Counter[bytes] = Counter()

    def close(self) -> None:
        """Let the file and the thread go."""
        self._thread.submit(self._closed)
        self._thread.shutdown(wait=True)

    async def begin(self, client: str, key: str, request: bytes, *, safe: bool = False) -> Begun | Kept:
        """Begin a request, or say how it was answered before. One that is being carried out is waited for.

        Args:
            client: by what nobody else is called, also not who has its name later (`Access.owner`).
            request: a hash of all that is asked.
            safe: it may be carried out once more, should it be unknown whether it was.

        Raises:
            KeyReused, KeyInUse, OutcomeUnknown: as they say.
            StorageError: the file cannot be used.
        """
        owner = hashlib.sha256(client.encode("utf-8", "replace")).digest()
        id = hashlib.sha256(owner + key.encode("utf-8", "replace")).digest()
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                while (running := self._running.get(id)) is not None:
                    if running.request != request:
                        raise _reused()
                    await running.ended.wait()
        except TimeoutError:
            raise KeyInUse(
                "a request with this `Idempotency-Key` is being carried out", hint="Ask again in a moment."
            ) from None
        self._running[id] = _Running(request)  # nobody came between: nothing was awaited since there was none
        try:
            begun = await self._do(lambda: self._begin(id, owner, request, safe))
        except BaseException:
            self._ended(id)
            raise
        if isinstance(begun, Kept):
            self._ended(id)
        else:
            reach("idempotency.begun")
        return begun

    async def keep(self, begun: Begun, answer: Kept) -> None:
        """Its answer, before that is given."""
        body = answer.body if answer.body is not None and len(answer.body) <= MOST_BYTES else None
        values = (answer.status, json.dumps(dict(answer.headers)), body, begun.id)
        try:
            await self._do(
                lambda: self._run("UPDATE requests SET status = ?, headers = ?, body = ? WHERE id = ?", values)
            )
        finally:
            self._ended(begun.id)
        reach("idempotency.answered")

    async def drop(self, begun: Begun) -> None:
        """It was refused and did nothing: it may be asked again."""
        try:
            await self._do(lambda: self._run("DELETE FROM requests WHERE id = ?", (begun.id,)))
        finally:
            self._ended(begun.id)

    def leave(self, begun: Begun) -> None:
        """Nobody knows what became of it."""
        self._ended(begun.id)

    def _ended(self, id: bytes) -> None:
        running = self._running.pop(id, None)
        if running is not None:
            running.ended.set()

    # -- in the thread -----------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[], _T]) -> _T:
        # Not to be given up half-way: what follows has to know what the file says.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    def _begin(self, id: bytes, owner: bytes, request: bytes, safe: bool) -> Begun | Kept:
        now = self._clock()
        row = self._one("SELECT request, begun, status, headers, body FROM requests WHERE id = ?", (id,))
        if row is not None and row[1] > now - KEPT_SECONDS:
            known, begun, status, headers, body = row
            if known != request:
                raise _reused()
            if status is not None:
                return Kept(status, json.loads(headers), body)
            if not safe:
                raise OutcomeUnknown(
                    "an earlier request with this `Idempotency-Key` was begun, and the hub did not live to answer it",
                    hint="Look whether it was carried out, before you ask again with another key.",
                )
            return Begun(id, begun, again=True)
        self._run(
            "INSERT OR REPLACE INTO requests (id, client, request, begun) VALUES (?, ?, ?, ?)",
            (id, owner, request, now),
        )
        self._counts[owner] += 1
        if self._counts[owner] % _PRUNE_EVERY == 1:
            self._prune(owner, now)
        return Begun(id, now)

    def _prune(self, owner: bytes, now: float) -> None:
        self._run("DELETE FROM requests WHERE begun < ?", (now - KEPT_SECONDS,))
        self._run(
            "DELETE FROM requests WHERE client = ? AND begun < "
            "(SELECT begun FROM requests WHERE client = ? ORDER BY begun DESC LIMIT 1 OFFSET ?)",
            (owner, owner, MOST_OF_A_CLIENT - 1),
        )
        self._run(
            "DELETE FROM requests WHERE begun < (SELECT begun FROM requests ORDER BY begun DESC LIMIT 1 OFFSET ?)",
            (MOST - 1,),
        )

    def _one(self, statement: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
        with self._errors():
            return next(iter(_execute(self._open(), statement, values)), None)

    def _run(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._errors():
            _execute(self._open(), statement, values)

    def _open(self) -> apsw.Connection:
        if self._database is None:
            self._database = open_home_db(self._path, _SCHEMA, version=VERSION)
        return self._database

    def _closed(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    @contextlib.contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except apsw.FullError as error:
            raise DiskFull(
                f"there is no space left for {self._path.name!r}",
                hint="Free some space, then try again. Nothing was done.",
                path=str(self._path),
            ) from error
        except (apsw.Error, OSError) as error:
            raise StorageError(
                f"{self._path.name!r} in the home cannot be used: {error}",
                hint="Nothing was done. It may be removed while the hub is stopped; keys of the last day are then "
                "not known any more.",
            ) from error


def _execute(database: apsw.Connection, statement: str, values: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
    return cast("list[tuple[Any, ...]]", database.execute(statement, values).fetchall())  # pyright: ignore[reportUnknownMemberType]


def _reused() -> KeyReused:
    return KeyReused("this `Idempotency-Key` was used for another request", hint="Each request needs a key of its own.")
