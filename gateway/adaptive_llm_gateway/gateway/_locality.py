"""Where a provider's requests end: proved from its addresses and its connections, never from how it is called."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from adaptive_llm_gateway.core import ConfigError, is_loopback
from adaptive_llm_gateway.gateway._values import ProviderClass

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """A provider's base address: a URL without a trailing slash, or a path on a Unix socket.

    With a socket, `url` is what the request says (`http://localhost/v1`) and `socket` where it goes.
    """

    url: str
    scheme: str
    host: str
    port: int
    socket: str | None = None

    @property
    def root(self) -> str:
        """The URL without its path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Locality:
    """Whether a destination is on this machine, why, and the addresses that it resolved to."""

    local: bool
    why: str
    addresses: tuple[str, ...] = ()


def address_of(url: str, *, key: str = "url") -> Address:
    """The address that a URL names: `http(s)://host[:port]/path`, or `unix:///path/to/socket[:/v1]`.

    Args:
        key: the setting's name, for messages.

    Raises:
        ConfigError: it is not one that can be used.
    """
    if not url.isprintable() or " " in url:
        raise ConfigError(f"{key} is {url!r}, which is no URL", hint="Write it as 'http://host:port/v1'.", key=key)
    if url.startswith("unix:"):
        place, _, path = url.removeprefix("unix:").removeprefix("//").partition(":")
        if not place.startswith("/"):
            raise ConfigError(
                f"{key} is {url!r}, which names no absolute path",
                hint="Write it as 'unix:///path/socket:/v1'.",
                key=key,
            )
        return Address(f"http://localhost{path.rstrip('/')}", "http", "localhost", 80, unquote(place))
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{key} is not a URL", hint="Write it as 'http://host:port/v1'.", key=key) from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"{key} carries a user, a query or a fragment",  # not shown: there may be a key in it
            hint="Leave them out, and name the environment variable that holds the key.",
            key=key,
        )
    if parts.scheme not in _PORTS or not host:
        raise ConfigError(
            f"{key} is {url!r}, which is no http or https URL", hint="Write it as 'http://host:port/v1'.", key=key
        )
    return Address(url.rstrip("/?#"), parts.scheme, host, port or _PORTS[parts.scheme])


async def resolved(host: str, port: int) -> tuple[str, ...]:
    """Every address of a host, as the system resolves it, in its order.

    Raises:
        OSError: it has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


async def locality_of(
    address: Address,
    *,
    resolve: Callable[[str, int], Awaitable[tuple[str, ...]]] = resolved,
    timeout: float = 5.0,
) -> Locality:
    """Whether a destination is on this machine now; what cannot be proved is not.

    A name counts as local only if all its addresses are of the loopback. What it resolves to may change between this
    and a request, so the connection's peer is compared again before a byte is sent (`_transport`).
    """
    if address.socket is not None:
        try:
            mode = (await asyncio.to_thread(Path(address.socket).stat)).st_mode
        except OSError as error:
            return Locality(False, f"the socket {address.socket!r} cannot be looked at ({error.strerror})")
        if not stat.S_ISSOCK(mode):
            return Locality(False, f"{address.socket!r} is no Unix socket")
        return Locality(True, "it is a Unix socket", (address.socket,))
    try:
        async with asyncio.timeout(timeout):
            addresses = await resolve(address.host, address.port)
    except TimeoutError:
        return Locality(False, f"{address.host!r} did not resolve within {timeout:g} s")
    except (OSError, UnicodeError):
        return Locality(False, f"{address.host!r} does not resolve")
    elsewhere = [found for found in addresses if not is_loopback(found)]
    if not addresses:
        return Locality(False, f"{address.host!r} has no address")
    if elsewhere:
        return Locality(False, f"{address.host!r} is also at {elsewhere[0]}, which is not the loopback", addresses)
    return Locality(True, f"every address of {address.host!r} is of the loopback", addresses)


def is_remote_model(name: str, entry: Mapping[str, Any] | None = None) -> bool:
    """Whether a model that a local server offers runs elsewhere.

    Ollama serves its cloud's models through its local address: the list's entry has `remote_host` or `remote_model`,
    and their tags end in `cloud` (`gpt-oss:120b-cloud`, `glm-4.6:cloud`). Either sign is enough.
    """
    if entry is not None and (entry.get("remote_host") or entry.get("remote_model")):
        return True
    tag = name.rpartition(":")[2] if ":" in name else name
    return tag.lower() == "cloud" or tag.lower().endswith("-cloud")


def class_of(locality: Locality, *, remote_model: bool = False) -> ProviderClass:
    """The class of a destination for a model: local only if both are proved to be."""
    return "local" if locality.local and not remote_model else "hosted"
