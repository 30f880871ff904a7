"""What clients used of models today, and what is left of their bounds; kept on the disk, so that no restart forgets it.

What a call may take is held before it is sent and put right after it. A hub that dies in between leaves it held, and it
counts: nobody knows what the provider did. Days are days of UTC.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from adaptive_llm_gateway.core import StorageError, new_ulid
from adaptive_llm_gateway.server._access import Access
from adaptive_llm_gateway.server._authentication import Admitted
from adaptive_llm_gateway.server._clients import Clock, utc_now
from adaptive_llm_gateway.server._render_gateway import cost as money

if TYPE_CHECKING:
    import apsw

_log = logging.getLogger(__name__)

_KEPT: Final = timedelta(days=62)
_SEEN: Final = timedelta(minutes=10)
"""How exactly it is kept when a client last came."""
VERSION: Final = 1
"""Of the file."""
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS used (
    client TEXT, day TEXT, calls INTEGER, tokens INTEGER, micro_cents INTEGER, PRIMARY KEY (client, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (
    id TEXT PRIMARY KEY, client TEXT, day TEXT, tokens INTEGER, micro_cents INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (client TEXT PRIMARY KEY, at TEXT) WITHOUT ROWID;
"""
_ADD: Final = """
INSERT INTO used VALUES (?1, ?2, 1, ?3, ?4) ON CONFLICT (client, day) DO UPDATE
SET calls = calls + 1, tokens = tokens + ?3, micro_cents = micro_cents + ?4
"""


@dataclass(slots=True)
class Used:
    """What a client used on a day: calls of models that were not in vain, their tokens and micro-cents, and what calls
    that are under way may still take."""

    calls: int = 0
    tokens: int = 0
    micro_cents: int = 0
    held_tokens: int = 0
    held_micro_cents: int = 0


class Quotas:
    """Counts for every client. Asked from the event loop's thread; what is written is written in a thread of its own.

    Args:
        path: the file, which is made when somebody first uses a model or comes in.
        now: with its time zone.
    """

    def __init__(self, path: Path, *, now: Clock = utc_now) -> None:
        self._path = path
        self._now = now
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="quotas")
        self._opening = threading.Lock()
        self._connection: apsw.Connection | None = None
        self._used: dict[tuple[str, str], Used] | None = None
        self._seen: dict[str, datetime] = {}

    def purse(self, access: Access) -> ClientPurse | None:
        """What a caller may use; None for the person at this machine."""
        return ClientPurse(self, access) if isinstance(access, Admitted) else None

    async def today(self, client: str) -> Used:
        """What a client used today so far.

        Raises:
            StorageError: the file cannot be read.
        """
        await self.ready()
        return self.used(client, self.day())

    async def last_seen(self, client: str) -> datetime | None:
        """When a client last came, to ten minutes.

        Raises:
            StorageError: the file cannot be read.
        """
        await self.ready()
        return self._seen.get(client)

    def note(self, client: str) -> None:
        """A client came."""
        now = self._now()
        if now - self._seen.get(client, datetime.min.replace(tzinfo=UTC)) < _SEEN:
            return
        self._seen[client] = now

        def write(connection: apsw.Connection) -> None:
            _do(connection, "INSERT OR REPLACE INTO seen VALUES (?, ?)", (client, now.isoformat()))

        self._later(write)

    async def ready(self) -> None:
        """Have the numbers at hand.

        Raises:
            StorageError: the file cannot be read.
        """
        if self._used is None:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._open)

    async def close(self) -> None:
        """Write what is left to write."""
        await asyncio.to_thread(self._writer.shutdown)
        if self._connection is not None:
            self._connection.close()

    # -- for purses --------------------------------------------------------------------------------------------

    def day(self) -> str:
        """Today."""
        return self._now().astimezone(UTC).date().isoformat()

    def used(self, client: str, day: str) -> Used:
        """What a client used on a day; nothing where the numbers are not at hand."""
        if self._used is None:
            return Used()
        return self._used.setdefault((client, day), Used())

    async def hold(self, held: Hold) -> None:
        """Note what a call may take.

        Raises:
            StorageError: that cannot be.
        """

        def write() -> None:
            with self._written() as connection:
                _do(
                    connection,
                    "INSERT INTO held VALUES (?, ?, ?, ?, ?)",
                    (held.id, held.client, held.day, held.tokens, held.micro_cents),
                )

        await asyncio.get_running_loop().run_in_executor(self._writer, write)

    def settled(self, held: Hold, tokens: int, micro_cents: int, *, called: bool) -> None:
        """Note what a call took; `called` is False for one that was in vain."""

        def write(connection: apsw.Connection) -> None:
            with connection:
                _do(connection, "DELETE FROM held WHERE id = ?", (held.id,))
                if called:
                    _do(connection, _ADD, (held.client, held.day, tokens, micro_cents))

        self._later(write)

    # -- the file ----------------------------------------------------------------------------------------------

    def _later(self, write: Callable[[apsw.Connection], object]) -> None:
        def work() -> None:
            try:
                with self._written() as connection:
                    write(connection)
            except StorageError as error:  # what was held stays held, and counts after the next start
                _log.warning("what clients used could not be noted: %s", error)

        with contextlib.suppress(RuntimeError):  # the hub is ending
            self._writer.submit(work)

    @contextlib.contextmanager
    def _written(self) -> Generator[apsw.Connection]:
        import apsw  # noqa: PLC0415 - SQLite, where somebody needs it

        connection = self._open()
        try:
            yield connection
        except apsw.Error as error:
            raise self._unusable(error) from error

    def _open(self) -> apsw.Connection:
        import apsw  # noqa: PLC0415 - as above

        from adaptive_llm_gateway.server._home_db import open_home_db  # noqa: PLC0415 - as above

        with self._opening:
            if self._connection is not None:
                return self._connection
            connection: apsw.Connection | None = None
            try:
                connection = open_home_db(self._path, _SCHEMA, version=VERSION)
                self._used = self._taken_over(connection)
                for client, at in _do(connection, "SELECT client, at FROM seen"):
                    self._seen.setdefault(str(client), datetime.fromisoformat(str(at)))
            except (apsw.Error, OSError, ValueError) as error:
                if connection is not None:
                    connection.close()
                raise self._unusable(error) from error
            self._connection = connection
            return connection

    def _taken_over(self, connection: apsw.Connection) -> dict[tuple[str, str], Used]:
        """The numbers; what a hub that died left held is used up."""
        oldest = (self._now().astimezone(UTC) - _KEPT).date().isoformat()
        with connection:
            left = _do(connection, "SELECT client, day, tokens, micro_cents FROM held")
            for row in left:
                _do(connection, _ADD, row)
            _do(connection, "DELETE FROM held")
            _do(connection, "DELETE FROM used WHERE day < ?", (oldest,))
        rows = _do(connection, "SELECT client, day, calls, tokens, micro_cents FROM used")
        return {(client, day): Used(*numbers) for client, day, *numbers in rows}

    def _unusable(self, error: Exception) -> StorageError:
        return StorageError(
            f"{str(self._path)!r}, where it is counted what clients use, cannot be used: {error}",
            hint="A client with a bound is refused models until it can. Move the file away to begin anew.",
            path=str(self._path),
        )


def _do(connection: apsw.Connection, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    return cast("list[tuple[Any, ...]]", connection.execute(statement, values or None).fetchall())  # pyright: ignore[reportUnknownMemberType]


class Hold:
    """What was held for one call."""

    def __init__(self, quotas: Quotas, client: str, tokens: int, micro_cents: int) -> None:
        self.id = new_ulid()
        self.client = client
        self.day = quotas.day()
        self.tokens = tokens
        self.micro_cents = micro_cents
        self._quotas = quotas
        self._over = False
        used = quotas.used(client, self.day)
        used.held_tokens += tokens
        used.held_micro_cents += micro_cents

    def settle(self, tokens: int, micro_cents: int) -> None:
        """It took that much; the rest goes back."""
        self._end(tokens, micro_cents, called=bool(tokens or micro_cents))

    def keep(self) -> None:
        """All of it counts."""
        self._end(self.tokens, self.micro_cents, called=True)

    def drop(self) -> None:
        """It was not noted, and nothing is sent."""
        self._back()

    def _end(self, tokens: int, micro_cents: int, *, called: bool) -> None:
        if not self._back():
            return
        used = self._quotas.used(self.client, self.day)
        used.calls += called
        used.tokens += tokens
        used.micro_cents += micro_cents
        self._quotas.settled(self, tokens, micro_cents, called=called)

    def _back(self) -> bool:
        if self._over:
            return False
        self._over = True
        used = self._quotas.used(self.client, self.day)
        used.held_tokens -= self.tokens
        used.held_micro_cents -= self.micro_cents
        return True


class ClientPurse:
    """What one client may use today.

    Args:
        access: with the client's bounds, as they were when its request came.
    """

    def __init__(self, quotas: Quotas, access: Admitted) -> None:
        self._quotas = quotas
        self._access = access

    @property
    def bounded(self) -> bool:
        """Whether there is any bound."""
        return self._access.tokens_per_day is not None or self._access.cost_per_day is not None

    async def ready(self) -> None:
        """Have the numbers at hand; a client without a bound needs none.

        Raises:
            StorageError: the file cannot be read.
        """
        try:
            await self._quotas.ready()
        except StorageError as error:
            if self.bounded:
                raise
            _log.warning("%s", error)

    @property
    def told(self) -> str:
        """What is left, in a sentence."""
        parts: list[str] = []
        if (tokens := self.tokens) is not None:
            parts.append(f"{tokens:,} of {self._access.tokens_per_day:,} tokens")
        if (left := self.micro_cents) is not None:
            parts.append(f"{money(left)} of {money(self._access.cost_per_day)}")
        return f"The client {self._access.client!r} has left of today, until midnight UTC: {' and '.join(parts)}."

    @property
    def bounds_tokens(self) -> bool:
        """Whether tokens are bounded."""
        return self._access.tokens_per_day is not None

    @property
    def micro_cents(self) -> int | None:
        """What is left of the money; None: there is no bound."""
        bound, used = self._access.cost_per_day, self._today()
        return None if bound is None else max(bound - used.micro_cents - used.held_micro_cents, 0)

    @property
    def tokens(self) -> int | None:
        """Tokens that are left; None: there is no bound."""
        bound, used = self._access.tokens_per_day, self._today()
        return None if bound is None else max(bound - used.tokens - used.held_tokens, 0)

    async def take(self, tokens: int, micro_cents: int | None) -> Hold:
        """Hold what a call may take.

        Raises:
            OverBudget: that much is not left.
            StorageError: it cannot be noted.
        """
        from adaptive_llm_gateway.gateway import OverBudget  # noqa: PLC0415 - it is loaded: somebody asks it

        await self.ready()
        why = self.short(tokens, micro_cents)
        if why is not None:
            raise OverBudget(why)
        held = Hold(self._quotas, self._access.identity, tokens, micro_cents or 0)
        if not self.bounded:  # what was under way when a hub died is missing from its count, and from no bound
            return held
        try:
            await self._quotas.hold(held)
        except BaseException:
            held.drop()
            raise
        return held

    def short(self, tokens: int, micro_cents: int | None) -> str | None:
        """Why that much is not left; None where it is."""
        client, left = self._access.client, self.tokens
        if left is not None and tokens > left:
            return (
                f"it may take {tokens:,} tokens, and the client {client!r} has {left:,} left of its "
                f"{self._access.tokens_per_day:,} of today"
            )
        money_left = self.micro_cents
        if money_left is None:
            return None
        of_today = (
            f"the client {client!r} has {money(money_left)} left of its {money(self._access.cost_per_day)} of today"
        )
        if micro_cents is None:
            return f"nobody knows what it may cost, and {of_today}"
        return f"it may cost {money(micro_cents)}, and {of_today}" if micro_cents > money_left else None

    def _today(self) -> Used:
        return self._quotas.used(self._access.identity, self._quotas.day())
