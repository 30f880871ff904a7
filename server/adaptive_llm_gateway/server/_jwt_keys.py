"""An issuer's public keys: fetched when they are needed, kept for an hour, never at the bidding of who sends tokens.

What a token says of where its key is (`jku`, `x5u`) is not followed; see `_jwt`. Whoever invents names of keys has them
fetched once in a while, however many he invents.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

from adaptive_llm_gateway.core import is_here, is_offline

_log = logging.getLogger(__name__)

Jwk = Mapping[str, Any]

_KEPT_SECONDS: Final = 3600.0
_STALE_SECONDS: Final = 24 * 3600.0
"""How long keys serve whose issuer cannot be reached any more."""
_AGAIN_SECONDS: Final = 30.0
"""From one fetch to the next, at least."""
_TIMEOUT_SECONDS: Final = 10.0
_PATIENCE_SECONDS: Final = 30.0
"""For all of a fetch: each byte of an answer's headers gains another timeout."""
_MOST_BYTES: Final = 512 * 1024
_MOST_KEYS: Final = 200


class NoKeys(Exception):
    """The issuer's keys cannot be had now; the text says why, for the log."""


class IssuerKeys:
    """The keys of one issuer. Used from the event loop's thread; what is fetched is fetched in another.

    Args:
        jwks_url: where they are; None: where the issuer's metadata says.
        clock: seconds that never go back.
        fetch: the JSON at an address; blocking.

    Attributes:
        changes: how often they were others than before.
    """

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        fetch: Callable[[str], Any] | None = None,
    ) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._clock = clock
        self._fetch = fetch or fetch_json
        self._keys: tuple[Jwk, ...] = ()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._why = "nobody asked for them yet"
        self._lock = asyncio.Lock()
        self._reading: asyncio.Future[tuple[Jwk, ...]] | None = None
        self.changes = 0

    async def fitting(self, name: str | None, fits: Callable[[Jwk], bool]) -> Jwk | None:
        """The key of that name that fits, or without a name the only one that does; None where there is none.

        Raises:
            NoKeys: there are no keys, or only such as are too old.
        """
        found = self._found(name, fits)
        if (found is None or self._age() > _KEPT_SECONDS) and self._may_try():
            async with self._lock:
                if self._may_try():
                    await self._fetched_anew()
            found = self._found(name, fits)
        if self._age() > _STALE_SECONDS:
            raise NoKeys(self._why)
        return found

    def _found(self, name: str | None, fits: Callable[[Jwk], bool]) -> Jwk | None:
        fitting = [key for key in self._keys if (name is None or key.get("kid") == name) and fits(key)]
        return fitting[0] if len(fitting) == 1 or (fitting and name is not None) else None

    def _age(self) -> float:
        return float("inf") if self._fetched is None else self._clock() - self._fetched

    def _may_try(self) -> bool:
        return self._tried is None or self._clock() - self._tried >= _AGAIN_SECONDS

    async def _fetched_anew(self) -> None:
        self._tried = self._clock()
        try:
            keys = await self._read_in_time()
        except NoKeys as error:
            self._why = str(error)
            _log.warning("the keys of the issuer %r: %s", self._issuer, error)
            return
        self._fetched = self._clock()
        if keys != self._keys:
            self._keys = keys
            self.changes += 1

    async def _read_in_time(self) -> tuple[Jwk, ...]:
        """What `_read` gives. One that goes on for too long is left to end, and no other begins beside it."""
        if self._reading is not None and not self._reading.done():
            raise NoKeys("it is still answering what it was asked before")
        self._reading = asyncio.ensure_future(asyncio.to_thread(self._read))
        self._reading.add_done_callback(_let_go)
        done, _ = await asyncio.wait({self._reading}, timeout=_PATIENCE_SECONDS)
        if not done:
            raise NoKeys(f"it did not answer whole in {_PATIENCE_SECONDS:.0f} s")
        return self._reading.result()

    def _read(self) -> tuple[Jwk, ...]:
        url = self._jwks_url or self._told_by_metadata()
        document = self._fetch(url)
        keys: Any = cast("dict[str, Any]", document).get("keys") if isinstance(document, dict) else None
        if not isinstance(keys, list):
            raise NoKeys(f"{url!r} has no set of keys")
        found = cast("list[Any]", keys)[:_MOST_KEYS]
        return tuple(cast("Jwk", key) for key in found if isinstance(key, dict))

    def _told_by_metadata(self) -> str:
        last: NoKeys | None = None
        for url in metadata_urls(self._issuer):
            try:
                document = self._fetch(url)
            except NoKeys as error:
                last = error
                continue
            found = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
            if found.get("issuer") != self._issuer:
                raise NoKeys(f"{url!r} is the metadata of another issuer")
            where = found.get("jwks_uri")
            if not isinstance(where, str) or not _is_safe(where):
                raise NoKeys(f"{url!r} names no address of keys that can be trusted")
            return where
        raise last or NoKeys("it has no metadata")


def _let_go(late: asyncio.Future[tuple[Jwk, ...]]) -> None:
    """It may be that nobody waits for it any more, nor wants to know why it failed."""
    if not late.cancelled():
        late.exception()


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Where an issuer's metadata is: by RFC 8414 (section 3), and by OpenID Connect Discovery (section 4)."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    root = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{root}/.well-known/oauth-authorization-server{path}",
        f"{root}{path}/.well-known/openid-configuration",
    )


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_here(parts.hostname or ""))


def fetch_json(url: str) -> Any:
    """The JSON at an address: no redirect is followed, and there is a bound on its size and on the time.

    Raises:
        NoKeys: it cannot be had.
    """
    import httpx2  # noqa: PLC0415 - where an issuer is configured

    if is_offline() and not is_here(urlsplit(url).hostname or ""):
        raise NoKeys("the mode is 'offline'")
    ends = time.monotonic() + _TIMEOUT_SECONDS
    data = bytearray()
    try:
        with (
            httpx2.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=False) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}) as response,
        ):
            if response.status_code != 200:
                raise NoKeys(f"{url!r} answered {response.status_code}")
            for part in response.iter_bytes():
                data += part
                if len(data) > _MOST_BYTES:
                    raise NoKeys(f"{url!r} answered more than {_MOST_BYTES:,} bytes")
                if time.monotonic() > ends:
                    raise NoKeys(f"{url!r} took longer than {_TIMEOUT_SECONDS:.0f} s")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise NoKeys(f"{url!r} cannot be reached: {type(error).__name__}") from error
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise NoKeys(f"{url!r} is not JSON") from None
