"""`clients.json` in the home: who may come by HTTP. Read whole or not at all, replaced whole or not at all.

What cannot be understood lets nobody in: a file that is damaged, too new or not this user's is an error, and is never
taken for one without clients or with fewer limits.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import stat
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError

from adaptive_llm_gateway.core import FormatTooNew, StorageError, Trust, fsync_path, reach
from adaptive_llm_gateway.server._access import Scope

_log = logging.getLogger(__name__)

FORMAT: Final = 1
_MOST_BYTES: Final = 16 * 1024 * 1024
MOST_CLIENTS: Final = 5_000
MOST_TOKENS: Final = 8
"""Of one client that count at the same time: the current one, and those that a rotation leaves for a while."""

_HINT: Final = "Put a copy back that is whole, or move the file away and make the clients anew with `alg clients add`."
ClientState = Literal["valid", "expired", "revoked"]
_Count = Annotated[int, Field(ge=1, le=10**15)] | None
_STRICT: Final = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token: its SHA-256 in hex digits, since when it counts, and until when after a rotation."""

    __pydantic_config__ = _STRICT

    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: AwareDatetime
    until: AwareDatetime | None = None

    def counts(self, now: datetime) -> bool:
        """Whether it still does."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Client:
    """One that may come by HTTP.

    Attributes:
        id: a ULID, its own for ever; a name can be given again once its client was revoked.
        projects: see `Access`.
        expires: when its tokens count no more; None: never.
        rate: requests a minute; None: no bound.
        tokens_per_day: of models, read and written, in a day of UTC; None: no bound.
        cost_per_day: micro-cents, in a day of UTC; None: no bound.
        tokens: the current one last.
    """

    __pydantic_config__ = _STRICT

    id: Annotated[str, Field(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    scopes: frozenset[Scope]
    projects: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] | None
    max_trust: Trust
    created: AwareDatetime
    expires: AwareDatetime | None
    rate: _Count
    tokens_per_day: _Count
    cost_per_day: _Count
    tokens: Annotated[tuple[Token, ...], Field(max_length=MOST_TOKENS)]
    revoked: AwareDatetime | None = None

    def state(self, now: datetime) -> ClientState:
        """Whether its tokens count, and if not, why."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"

    def rotated(self, token: Token, now: datetime, until: datetime | None) -> Client:
        """With a new token; those before count until then, None: no more."""
        kept: list[Token] = []
        for old in self.tokens:
            if until is not None and old.counts(now):
                kept.append(replace(old, until=min(old.until or until, until)))
        return replace(self, tokens=(*kept[-(MOST_TOKENS - 1) :], token))


def read_clients(path: Path) -> tuple[Client, ...]:
    """The clients of the file; none where there is no file.

    A file that others could read is closed to them: it has no token, and names and rights are still nobody's business.

    Raises:
        FormatTooNew: a newer version wrote it.
        StorageError: it is damaged, or not a file of this user.
    """
    try:
        data = _bytes_of(path)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror or error}") from error
    return _parsed(path, data)


def _bytes_of(path: Path) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise _unusable(path, "is a link")
    handle = os.open(path, flags)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _unusable(path, "is no file")
        if os.name == "posix":
            if status.st_uid != os.getuid():
                raise _unusable(path, "belongs to another user")
            if status.st_mode & 0o077:
                os.fchmod(handle, 0o600)
                _log.warning("%r was open to others, and is not any more", str(path))
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise _unusable(path, f"is larger than {_MOST_BYTES:,} bytes")
    return data


def _parsed(path: Path, data: bytes) -> tuple[Client, ...]:
    try:
        found: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise _unusable(path, "is damaged: it is not JSON") from None
    version: Any = found.get("format") if isinstance(found, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
        raise FormatTooNew(
            f"{str(path)!r} has format {version}, and this version knows {FORMAT}; nobody is let in by HTTP",
            hint="Install the newer version again.",
            path=str(path),
        )
    try:
        clients = _form().validate_json(data).clients
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise _unusable(path, f"is damaged: {where}: {first['msg']}") from None
    _check_unique(path, clients)
    return clients


@dataclass(frozen=True, slots=True)
class _File:
    __pydantic_config__ = _STRICT

    format: Literal[1]
    clients: Annotated[tuple[Client, ...], Field(max_length=MOST_CLIENTS)]


@functools.cache
def _form() -> TypeAdapter[_File]:
    return TypeAdapter(_File)


def _check_unique(path: Path, clients: tuple[Client, ...]) -> None:
    for what, values in (
        ("id", [client.id for client in clients]),
        ("token", [token.hash for client in clients for token in client.tokens]),
        ("name", [client.name.casefold() for client in clients if client.revoked is None]),
    ):
        if len(set(values)) != len(values):
            raise _unusable(path, f"is damaged: a {what} is there twice")


def _unusable(path: Path, what: str) -> StorageError:
    return StorageError(f"{str(path)!r} {what}; nobody is let in by HTTP", hint=_HINT, path=str(path))


def write_clients(path: Path, clients: tuple[Client, ...]) -> None:
    """Put these clients in the file's place, for this user alone: whole or not at all, and durable.

    The caller holds the lock beside it.

    Raises:
        StorageError: it could not be written; the file that was there holds.
    """
    data = json.dumps({"format": FORMAT, "clients": [_entry(client) for client in clients]}, indent=2) + "\n"
    new = path.with_name(f"{path.name}.new")
    try:
        new.unlink(missing_ok=True)  # of a process that died: the lock is ours
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            if os.name == "posix":
                os.fchmod(file.fileno(), 0o600)  # whatever the umask is
            file.write(data.encode())
            file.flush()
            os.fsync(file.fileno())
        reach("clients.written")
        new.replace(path)
    except OSError as error:
        raise StorageError(
            f"{str(path)!r} could not be written: {error.strerror or error}; nothing was changed", path=str(path)
        ) from error
    reach("clients.renamed")
    fsync_path(path.parent)


def _entry(client: Client) -> dict[str, Any]:
    return {
        "id": client.id,
        "name": client.name,
        "scopes": sorted(client.scopes),
        "projects": None if client.projects is None else list(client.projects),
        "max_trust": client.max_trust.value,
        "created": _time(client.created),
        "expires": _time(client.expires),
        "rate": client.rate,
        "tokens_per_day": client.tokens_per_day,
        "cost_per_day": client.cost_per_day,
        "tokens": [
            {"hash": token.hash, "created": _time(token.created), "until": _time(token.until)}
            for token in client.tokens
        ],
        "revoked": _time(client.revoked),
    }


def _time(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat()
