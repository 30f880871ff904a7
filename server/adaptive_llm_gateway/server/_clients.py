"""The clients as they are now, and what becomes of them: pure changes, and the file that is looked at again.

A change by another process counts with the next request; one by this process at once, also for connections that are
open: see `Clients.changed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from adaptive_llm_gateway.core import (
    AlgError,
    InvalidInput,
    NotFound,
    ProcessLock,
    SecretRefused,
    StorageError,
    Trust,
    new_ulid,
)
from adaptive_llm_gateway.server._access import SCOPES, Scope
from adaptive_llm_gateway.server._clients_file import MOST_CLIENTS, Client, Token, read_clients, write_clients
from adaptive_llm_gateway.server._gate import without_secrets
from adaptive_llm_gateway.server._gateway_json import expiry
from adaptive_llm_gateway.server._tokens import new_token, token_hash

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

DEFAULT_EXPIRES: Final = "90d"
DEFAULT_RATE: Final = 600
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_OURS: Final = frozenset({"command-line", "import", "hub", "editor", "gateway", "sync", "unknown"})
"""Names under which the person's own commands write, and the hub by itself."""
_GRACE = re.compile(r"([0-9]{1,4})([hdw])", re.ASCII)
_HOURS: Final = {"h": 1, "d": 24, "w": 7 * 24}
_LONGEST_GRACE: Final = timedelta(days=30)
_MOST_PROJECTS: Final = 100
_LONGEST_PROJECT: Final = 200
_LARGEST: Final = 10**15
_LOCK_SECONDS: Final = 10.0
_KEY_DIGITS: Final = 16

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


# --- What a person gives ------------------------------------------------------------------------------------------


def checked_name(name: str) -> str:
    """A client's name.

    Raises:
        InvalidInput: it is none.
        SecretRefused: it looks like a credential, such as a token that was given in the name's place.
    """
    _no_secret(name, "the name")
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} is no name of a client",
            hint="Up to 63 letters, digits, dots, dashes and underscores of ASCII, the first a letter or a digit.",
        )
    if name.casefold() in _OURS:
        raise InvalidInput(f"{name!r} is what the hub calls itself or its own commands", hint="Choose another name.")
    return name


def checked_scopes(scopes: list[str]) -> frozenset[Scope]:
    """Scopes, each also as several with commas between.

    Raises:
        InvalidInput: there is none, or one that does not exist.
    """
    words = [word.strip() for each in scopes for word in each.split(",") if word.strip()]
    known: dict[str, Scope] = {scope: scope for scope in SCOPES}
    for word in words:
        if word not in known:
            raise InvalidInput(f"there is no scope {without_secrets(word)!r}", hint=f"Scopes: {', '.join(SCOPES)}.")
    if not words:
        raise InvalidInput("a client needs a scope, or it may do nothing", hint=f"Scopes: {', '.join(SCOPES)}.")
    return frozenset(known[word] for word in words)


def checked_projects(projects: list[str] | None) -> tuple[str, ...] | None:
    """Names of projects, with `*`, `?` and `[...]`; None and an empty list: all of them.

    Raises:
        InvalidInput: one cannot be one, or there are too many.
        SecretRefused: one looks like a credential.
    """
    if not projects:
        return None
    found = tuple(dict.fromkeys(each.strip() for each in projects))
    if len(found) > _MOST_PROJECTS:
        raise InvalidInput(f"{len(found)} projects are too many", hint=f"At most {_MOST_PROJECTS}; `*` stands for any.")
    for each in found:
        _no_secret(each, "a project's name")
        if not each or len(each) > _LONGEST_PROJECT or not each.isprintable():
            raise InvalidInput(f"{each!r} is no name of a project", hint="One line of up to 200 characters.")
    return found


def checked_trust(level: str) -> Trust:
    """A trust level.

    Raises:
        InvalidInput: there is none of that name.
    """
    try:
        return Trust(level)
    except ValueError:
        levels = ", ".join(each.value for each in Trust)
        raise InvalidInput(f"there is no trust level {level!r}", hint=f"Levels: {levels}.") from None


def checked_count(number: int | None, what: str) -> int | None:
    """A bound, 1 or more; None: there is none.

    Raises:
        InvalidInput: it is none.
    """
    if number is not None and (isinstance(number, bool) or not 1 <= number <= _LARGEST):
        raise InvalidInput(f"{what} cannot be {number!r}", hint=f"1 to {_LARGEST:,}, or `unlimited`.")
    return number


def end_of(text: str, now: datetime) -> datetime | None:
    """When a client's tokens count no more: see `expiry`; None for `never`.

    Raises:
        InvalidInput: it is none of these, or past.
    """
    stripped = text.strip()
    if stripped == "never":
        return None
    _no_secret(stripped, "'expires'")
    found = expiry(stripped, now)
    if found <= now:
        raise InvalidInput(f"'expires' is {text!r}, which is past", hint="Give a time to come, or never.")
    return found


def grace_of(text: str) -> timedelta:
    """For how long an old token counts beside the new one.

    Raises:
        InvalidInput: it is no such time, or longer than 30 days.
    """
    stripped = text.strip()
    if stripped == "0":
        return timedelta()
    found = _GRACE.fullmatch(stripped)
    grace = timedelta(hours=int(found[1]) * _HOURS[found[2]]) if found is not None else None
    if grace is None or grace > _LONGEST_GRACE:
        raise InvalidInput(f"'grace' is {without_secrets(text)!r}", hint="0, or a while such as 1h or 7d; 30d at most.")
    return grace


def _no_secret(text: str, what: str) -> None:
    if without_secrets(text) != text:
        raise SecretRefused(f"{what} carries what looks like a secret", hint="Nothing was done. Choose another name.")


# --- What becomes of them -----------------------------------------------------------------------------------------


def new_client(
    name: str,
    now: datetime,
    *,
    scopes: list[str],
    projects: list[str] | None = None,
    max_trust: str = "internal",
    expires: str = DEFAULT_EXPIRES,
    rate: int | None = DEFAULT_RATE,
    tokens_per_day: int | None = None,
    cost_per_day: int | None = None,
) -> tuple[Client, str]:
    """A client, and its token, which is kept nowhere.

    Raises:
        InvalidInput, SecretRefused: something of it cannot be.
    """
    token = new_token()
    client = Client(
        id=new_ulid(),
        name=checked_name(name),
        scopes=checked_scopes(scopes),
        projects=checked_projects(projects),
        max_trust=checked_trust(max_trust),
        created=now,
        expires=end_of(expires, now),
        rate=checked_count(rate, "the rate"),
        tokens_per_day=checked_count(tokens_per_day, "the tokens of a day"),
        cost_per_day=checked_count(cost_per_day, "the cost of a day"),
        tokens=(Token(token_hash(token), now),),
    )
    return client, token


def with_added(clients: tuple[Client, ...], client: Client) -> tuple[Client, ...]:
    """The clients and a new one.

    Raises:
        InvalidInput: one that is not revoked has its name, or one but for capitals; or there are too many.
    """
    for each in clients:
        if each.revoked is None and each.name.casefold() == client.name.casefold():
            raise InvalidInput(
                f"there is a client {each.name!r} already",
                hint="Choose another name, or give that one a new token with `alg clients rotate`.",
            )
    if len(clients) >= MOST_CLIENTS:
        raise InvalidInput(
            f"there are {len(clients):,} clients, and no more are kept",
            hint="Those that were revoked are among them: the file `clients.json` can be moved away and begun anew.",
        )
    return (*clients, client)


def client_named(clients: tuple[Client, ...], name: str) -> Client:
    """The client of that name or id; of those with the name the one that is not revoked, or was revoked last.

    Raises:
        NotFound: there is none.
    """
    fitting = [each for each in clients if each.name.casefold() == name.casefold() or each.id == name]
    if not fitting:
        raise NotFound(f"there is no client {without_secrets(name)!r}", hint="`alg clients list` shows them.")
    return max(fitting, key=lambda each: (each.revoked is None, each.id))


def with_replaced(clients: tuple[Client, ...], client: Client) -> tuple[Client, ...]:
    """The clients, one of them as it is now."""
    return tuple(client if each.id == client.id else each for each in clients)


def changed_client(client: Client, changes: Mapping[str, Any], now: datetime) -> Client:
    """A client with other rights or bounds; `changes` has those arguments of `new_client` that are to be others.

    Raises:
        InvalidInput, SecretRefused: something of it cannot be, or the client was revoked.
    """
    _not_revoked(client)
    made: dict[str, Any] = {}
    for name, value in changes.items():
        match name:
            case "scopes":
                made[name] = checked_scopes(value)
            case "projects":
                made[name] = checked_projects(value)
            case "max_trust":
                made[name] = checked_trust(value)
            case "expires":
                made[name] = end_of(value, now)
            case "rate" | "tokens_per_day" | "cost_per_day":
                made[name] = checked_count(value, f"{name!r}")
            case _:
                raise InvalidInput(f"a client has no {name!r}", hint="Hub and command line may differ in version.")
    if not made:
        raise InvalidInput("there is nothing to change", hint="`alg clients set --help` shows what can be changed.")
    return replace(client, **made)


def rotated_client(client: Client, now: datetime, grace: timedelta) -> tuple[Client, str]:
    """A client with a new token, and that token; those before count for `grace` more.

    Raises:
        InvalidInput: the client was revoked, or has expired.
    """
    _not_revoked(client)
    if client.state(now) == "expired":
        raise InvalidInput(
            f"the client {client.name!r} has expired, and a new token would not count",
            hint="Let it live on first: `alg clients set` with `--expires`.",
        )
    token = new_token()
    return client.rotated(Token(token_hash(token), now), now, now + grace if grace else None), token


def revoked_client(client: Client, now: datetime) -> Client:
    """A client none of whose tokens counts."""
    return client if client.revoked is not None else replace(client, revoked=now)


def _not_revoked(client: Client) -> None:
    if client.revoked is not None:
        raise InvalidInput(
            f"the client {client.name!r} was revoked, and stays so",
            hint="`alg clients add` makes a new one; the name is free.",
        )


# --- As they are now ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """What was read: `signature` of the file, or None without one; `problem` in the place of clients."""

    clients: tuple[Client, ...] = ()
    signature: tuple[int, int, int] | None = None
    problem: AlgError | None = None
    by_id: Mapping[str, Client] = field(default_factory=dict[str, Client])
    by_key: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict[str, tuple[tuple[str, str], ...]])
    """Under the beginning of a token's hash: hashes, and the ids of their clients."""


class Clients:
    """The clients of a home. The event loop's thread asks; changes may be made in another.

    Args:
        path: of `clients.json`.
        now: with its time zone.
    """

    def __init__(self, path: Path, *, now: Clock = utc_now) -> None:
        self._path = path
        self.now = now
        self._known: _Known | None = None
        self._reading = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def problem(self) -> AlgError | None:
        """Why nobody is let in by HTTP; None where the file holds, or there is none."""
        return self._current().problem

    def all(self) -> tuple[Client, ...]:
        """Every client, also those that were revoked or have expired.

        Raises:
            StorageError: the file does not hold.
        """
        known = self._current()
        if known.problem is not None:
            error = known.problem
            raise type(error)(error.message, hint=error.hint, **error.details)
        return known.clients

    def anyone(self) -> bool:
        """Whether there is a client whose token counts."""
        return self.count() > 0

    def count(self) -> int:
        """How many clients there are whose tokens count."""
        now = self.now()
        return sum(client.state(now) == "valid" for client in self._current().clients)

    def with_token(self, hash_: str) -> tuple[Client, Token] | None:
        """Whose token has this hash; whether it counts is not said.

        Found by the hash's beginning and compared in constant time, so how long it takes says nothing of the others.
        """
        known = self._current()
        for candidate, identifier in known.by_key.get(hash_[:_KEY_DIGITS], ()):
            if hmac.compare_digest(candidate, hash_):
                client = known.by_id[identifier]
                return client, next(token for token in client.tokens if token.hash == candidate)
        return None

    def change(self, plan: Callable[[tuple[Client, ...]], tuple[tuple[Client, ...], _T]]) -> _T:
        """Make a change durable; blocking. `plan` is given the clients, and gives them as they are to be and a result.

        Raises:
            LockHeld: another process is changing them.
            StorageError: the file does not hold, or cannot be written; nothing was changed.
            AlgError: what `plan` raises.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot create {str(self._path.parent)!r}: {error.strerror}") from error
        with ProcessLock(self._path.with_name(f"{self._path.name}.lock"), timeout=_LOCK_SECONDS):
            before = read_clients(self._path)
            after, result = plan(before)
            if after != before:
                write_clients(self._path, after)
            self._current()
        return result

    async def changed(self, *, within: float) -> bool:
        """Wait until the clients have changed, at most so many seconds; whether they did."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(within):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True

    def _current(self) -> _Known:
        signature = _signature(self._path)
        known = self._known
        if known is not None and known.signature == signature:
            return known
        with self._reading:
            again = _signature(self._path)  # before it is read: one that is newer is read the next time
            if self._known is None or self._known.signature != again:
                first = self._known is None
                self._known = _read(self._path, again)
                if not first:
                    self._tell()
            return self._known

    def _tell(self) -> None:
        for future in tuple(self._waiting):
            with contextlib.suppress(RuntimeError):  # its loop has ended
                future.get_loop().call_soon_threadsafe(_done, future)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _read(path: Path, signature: tuple[int, int, int] | None) -> _Known:
    try:
        clients = read_clients(path)
    except AlgError as error:
        _log.error("%s", error)
        return _Known((), signature, error)
    by_key: dict[str, tuple[tuple[str, str], ...]] = {}
    for client in clients:
        for token in client.tokens:
            key = token.hash[:_KEY_DIGITS]
            by_key[key] = (*by_key.get(key, ()), (token.hash, client.id))
    return _Known(clients, signature, None, {client.id: client for client in clients}, by_key)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_ctime_ns, found.st_size, found.st_ino  # the time that a change of rights moves, too
