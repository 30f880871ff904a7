"""The connections of a PostgreSQL index: how they are made, kept and made anew, and how their errors become ours."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import psycopg
from psycopg import IsolationLevel, conninfo, errors, sql

from adaptive_llm_gateway.core import (
    AlgError,
    ConfigError,
    DiskFull,
    LockHeld,
    ReadOnly,
    StorageError,
    Unavailable,
    is_offline,
)
from adaptive_llm_gateway.memory._index_schema import CorruptIndex
from adaptive_llm_gateway.memory._offline import BACK, database_is_here
from adaptive_llm_gateway.memory._requests import PostgresConfig
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all, fetch_value, run

_T = TypeVar("_T")

_WAITS = (0.0, 0.1, 0.4, 1.5)  # seconds before each attempt to reach a server that was lost
_LOCK_WAITS = (0.1,) * 20 + (0.5,) * 6  # a hub that was killed is noticed by the server a moment later
NEAR = 200  # candidates that pgvector's index looks for, where not more are asked for
_IDLE = 8  # readers kept for later
_SETTINGS = (
    "SET statement_timeout = '120s'; SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '300s'; "
    # Filters differ so much in what they let through that a plan for all of them is a bad one.
    "SET plan_cache_mode = force_custom_plan; SET jit = off; SET client_min_messages = warning; "
    f"SET hnsw.iterative_scan = strict_order; SET hnsw.ef_search = {NEAR}"
)
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def schema_for(hub: str) -> str:
    """The schema of a hub's index, where none is given: its name in the letters that a schema may have."""
    plain = re.sub(r"[^a-z0-9]+", "_", hub.lower()).strip("_")
    return f"alg_{plain[-58:].lstrip('_')}"


class _Lost(Exception):
    """The connection broke; nothing of the transaction was kept."""


class Database:
    """One schema of one database: a pool of readers, and the one connection that writes.

    The writer holds an advisory lock on the schema as long as it lives, so no other hub writes to it. A connection
    that breaks is made anew and the work repeated, so work given to `read` and `write` must bear repeating.

    Args:
        on_new_writer: called when the writing connection is made, and another hub may have written before.

    Raises:
        ConfigError: the URL or the schema's name cannot be used.
        LockHeld: another process writes to the schema.
        Unavailable: the server does not answer.
    """

    def __init__(self, config: PostgresConfig, *, on_new_writer: Callable[[], None] = lambda: None) -> None:
        if config.schema is None or not _SCHEMA.fullmatch(config.schema):
            raise ConfigError(
                f"no schema can be named {config.schema!r}",
                hint="Use lower-case letters, digits and `_`, at most 63, beginning with a letter.",
            )
        self.schema = config.schema
        self._url = config.url
        self._on_new_writer = on_new_writer
        self._secrets, self.place = _described(config.url)
        self.name = f"the index in schema {self.schema!r} of PostgreSQL at {self.place}"
        self._pool = threading.Lock()
        self._idle: list[Link] = []
        self._write_lock = threading.RLock()
        self._writer: Link | None = None
        self._closed = False

    def close(self) -> None:
        """Close all connections; harmless when closed."""
        with self._write_lock, self._pool:
            self._closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            if self._writer is not None:
                self._writer.close()

    def read(self, work: Callable[[Link], _T]) -> _T:
        """Do `work` in a read transaction: one state of the index throughout."""

        def once() -> _T:
            connection = self._borrow()
            try:
                with connection.transaction():
                    result = work(connection)
            except BaseException as error:
                connection.close()
                if isinstance(error, psycopg.Error) and _is_lost(error):
                    self._discard_idle()  # what else there is was lost with it
                    raise _Lost from error
                raise
            self._give_back(connection)
            return result

        return self._insist(once)

    def write(self, work: Callable[[Link], _T]) -> _T:
        """Do `work` in a write transaction, after any other one; all of it is kept or nothing."""
        with self._write_lock:
            return self._insist(lambda: self._transact(work))

    @contextlib.contextmanager
    def alone(self) -> Generator[None]:
        """Nothing is written meanwhile but by the caller. Not to be entered within `read`: a writer may wait for
        readers to end.
        """
        with self._write_lock:
            yield

    def upkeep(self, *statements: str) -> None:
        """Carry out statements that cannot stand in a transaction."""

        def once() -> None:
            connection = self._connected_writer()
            try:
                for statement in statements:
                    run(connection, statement)
            except psycopg.Error as error:
                if connection.closed or _is_lost(error):
                    connection.close()
                    raise _Lost from error
                raise

        with self._write_lock:
            self._insist(once)

    # --- Within -----------------------------------------------------------------------------------------

    def _transact(self, work: Callable[[Link], _T]) -> _T:
        connection = self._connected_writer()
        try:
            run(connection, "BEGIN")
            number = fetch_value(connection, "SELECT pg_current_xact_id()::text")
            result = work(connection)
        except BaseException as error:
            if isinstance(error, psycopg.Error) and (connection.closed or _is_lost(error)):
                connection.close()
                raise _Lost from error
            if not connection.closed:
                with contextlib.suppress(psycopg.Error):
                    run(connection, "ROLLBACK")
            if isinstance(error, errors.SerializationFailure | errors.DeadlockDetected):
                raise _Lost from error
            raise
        try:
            run(connection, "COMMIT")
        except psycopg.Error as error:
            if not connection.closed and not _is_lost(error):
                raise
            connection.close()
            # The server may have kept it and could not say so any more; then it must not be done twice.
            if not self._insist(lambda: self._kept(number)):
                raise _Lost from error
        return result

    def _kept(self, number: str) -> bool:
        try:
            return fetch_value(self._connected_writer(), "SELECT pg_xact_status(%s::xid8)", (number,)) == "committed"
        except psycopg.Error as error:
            raise _Lost from error

    def _insist(self, work: Callable[[], _T]) -> _T:
        """Try again where the connection was lost, for about two seconds."""
        lost: BaseException | None = None
        for wait in _WAITS:
            if wait:
                time.sleep(wait)
            try:
                with self._translated():
                    return work()
            except _Lost as error:
                lost = error.__cause__
        raise Unavailable(
            f"{self.name} cannot be reached: {self._said(lost)}",
            hint="See that the server runs and can be reached from here, then try again; `alg doctor` looks too.",
        ) from None

    def _connect(self) -> Link:
        if is_offline() and not database_is_here(conninfo.conninfo_to_dict(self._url)):
            raise Unavailable(
                f"{self.name} is held back in offline mode: the server is not on this machine",
                hint=BACK,
                reason="offline",
            )
        try:
            connection: Link = psycopg.connect(
                self._url,
                autocommit=True,
                **{key: value for key, value in _DEFAULTS.items() if key not in conninfo.conninfo_to_dict(self._url)},
            )
        except psycopg.OperationalError as error:
            if _is_refused(error):
                raise
            raise _Lost from error
        try:
            if fetch_value(connection, "SHOW server_encoding") != "UTF8":
                raise ConfigError(
                    f"{self.name} does not keep text as UTF-8", hint="Create a database with ENCODING 'UTF8'."
                )
            run(connection, _SETTINGS)
            # pgvector's operators lie in the schema into which somebody installed it.
            found = fetch_value(
                connection,
                "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
                "WHERE e.extname = 'vector'",
            )
            path = sql.SQL(", ").join([sql.Identifier(self.schema), sql.Identifier(found or "public")])
            connection.execute(sql.SQL("SET search_path = {}").format(path))
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error) and _is_lost(error):
                raise _Lost from error
            raise
        return connection

    def _borrow(self) -> Link:
        with self._pool:
            self._check_open()
            if self._idle:
                return self._idle.pop()
        connection = self._connect()
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return connection

    def _give_back(self, connection: Link) -> None:
        with self._pool:
            if not self._closed and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _discard_idle(self) -> None:
        with self._pool:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connected_writer(self) -> Link:
        """The writer's connection, made anew when it is gone; it holds the schema's lock."""
        self._check_open()
        if self._writer is None or self._writer.closed:
            connection = self._connect()
            try:
                self._lock(connection)
            except BaseException as error:
                connection.close()
                if isinstance(error, psycopg.Error) and _is_lost(error):
                    raise _Lost from error
                raise
            self._writer = connection
            self._on_new_writer()
        return self._writer

    def _lock(self, connection: Link) -> None:
        key = int.from_bytes(hashlib.blake2b(f"index {self.schema}".encode(), digest_size=8).digest(), signed=True)
        for wait in (*_LOCK_WAITS, None):
            if fetch_value(connection, "SELECT pg_try_advisory_lock(%s)", (key,)):
                return
            if wait is not None:
                time.sleep(wait)
        owner = fetch_all(
            connection,
            "SELECT a.pid, host(a.client_addr) FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
            "WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database "
            "WHERE datname = current_database()) AND (l.classid::bigint << 32 | l.objid::bigint) = %s",
            (key,),
        )
        who = (
            f"process {owner[0][0]} of the server, from {owner[0][1] or 'its own machine'}" if owner else "another hub"
        )
        raise LockHeld(
            f"another hub writes to {self.name}: {who}",
            hint="Each hub needs a schema of its own: set `index.schema_name`, or stop the other one.",
            owner=who,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError(f"the index {self.name} is closed")

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        """Raise PostgreSQL's errors as ours, without what caused them: its text may repeat the URL."""
        try:
            yield
        except psycopg.Error as error:
            raise self._ours(error) from None

    def _ours(self, error: psycopg.Error) -> AlgError:
        said = self._said(error)
        match error:
            case errors.DiskFull():
                return DiskFull(f"no space left for {self.name}: {said}", hint="Free some space on the server.")
            case errors.InsufficientPrivilege() | errors.ReadOnlySqlTransaction():
                return ReadOnly(
                    f"{self.name} cannot be written: {said}",
                    hint="The user needs CREATE on the database, or a schema of its own; and not a standby server.",
                )
            case (
                errors.UndefinedTable()
                | errors.UndefinedColumn()
                | errors.DataCorrupted()
                | errors.IndexCorrupted()
                | errors.InvalidSchemaName()
            ):
                return CorruptIndex(
                    f"{self.name} is damaged: {said}",
                    hint="Stop the hub and start it again: it sets the index aside and builds a new one.",
                )
            case errors.QueryCanceled() | errors.LockNotAvailable() | errors.TooManyConnections():
                return Unavailable(f"{self.name} is busy: {said}", hint="Try again in a moment.")
            case _ if _is_refused(error):
                return ConfigError(
                    f"{self.name} does not let us in: {said}",
                    hint="Check user, password and database. A password belongs in ALG_INDEX__URL or ~/.pgpass.",
                )
            case psycopg.OperationalError():
                return Unavailable(f"{self.name} cannot be used: {said}", hint="Try again; `alg doctor` looks too.")
            case _:
                return StorageError(
                    f"reading or writing {self.name} failed: {said}",
                    hint="The index can be rebuilt with `alg memory reindex`.",
                )

    def _said(self, error: BaseException | None) -> str:
        """What PostgreSQL said, in one line and without a secret."""
        text = " ".join(str(error).split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text[:500]


_DEFAULTS: dict[str, Any] = {
    "application_name": "adaptive-llm-gateway",
    "client_encoding": "UTF8",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "tcp_user_timeout": 30_000,
}


def _described(url: str) -> tuple[tuple[str, ...], str]:
    """(the secrets of a URL, the place that it names).

    Raises:
        ConfigError: not a URL that libpq understands; the message does not repeat it.
    """
    try:
        parts = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise ConfigError(
            "`index.url` is not a PostgreSQL URL",
            hint="Write `postgresql://user@host:5432/database`, with `@` and `/` within a part as `%40` and `%2F`.",
        ) from None
    secrets = tuple(str(parts[key]) for key in ("password", "sslpassword") if parts.get(key))
    host = str(parts.get("host") or parts.get("hostaddr") or "localhost")
    port = f":{parts['port']}" if parts.get("port") else ""
    return secrets, f"{host}{port}/{parts.get('dbname') or ''}"


def _is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, or the server about to be there again, rather than the work refused."""
    lost = (
        errors.AdminShutdown | errors.CrashShutdown | errors.CannotConnectNow | errors.IdleInTransactionSessionTimeout
    )
    if isinstance(error, lost):
        return True
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and error.sqlstate is None


def _is_refused(error: psycopg.Error) -> bool:
    """Whether the server answered and wants another user, password or database."""
    if isinstance(error, errors.InvalidAuthorizationSpecification | errors.InvalidPassword | errors.InvalidCatalogName):
        return True
    # While connecting, libpq gives the server's words but not its code.
    return isinstance(error, psycopg.OperationalError) and _REFUSED.search(str(error)) is not None


_REFUSED = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry"
    r'|(role|database) "[^"]*" does not exist|permission denied for database'
)
