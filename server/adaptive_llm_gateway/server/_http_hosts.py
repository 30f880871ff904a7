"""What a request says of where it goes and whence it comes, and whether to believe it: Host, Origin, path, proxies.

A web page can make a browser send requests to this machine, and can have a name of its own point here (DNS rebinding).
It cannot choose what `Host` and `Origin` say. Everything here is pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*", re.ASCII)
_LONGEST_NAME: Final = 253
_MOST_FORWARDED: Final = 32
_PORTS: Final = {"http": 80, "https": 443}


def address_of(text: str) -> Address | None:
    """An IP address as it is written out; an IPv4 one within IPv6 as what it is."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        return found.ipv4_mapped or (found if found.scope_id is None else None)
    return found


def is_loopback(text: str) -> bool:
    """Whether this is a loopback address."""
    found = address_of(text)
    return found is not None and found.is_loopback


def host_and_port(value: str) -> tuple[str, int | None] | None:
    """A `Host` header's host in one form (lower case, no dot at the end, addresses as Python writes them) and port."""
    if not value.isascii():  # some letters elsewhere become ours in lower case
        return None
    if value.startswith("["):
        inner, closed, rest = value[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            return None
        port, named = rest[1:], bool(rest)
        address = address_of(inner)
        if address is None or ":" not in inner:
            return None
        host = str(address)
    else:
        host, colon, port = value.partition(":")
        named = bool(colon)
        host = host.lower().removesuffix(".")
        address = address_of(host)
        if address is not None:
            host = str(address)
        elif len(host) > _LONGEST_NAME or not _NAME.fullmatch(host):
            return None
    if not named:
        return host, None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
        return None
    return host, int(port)


@dataclass(frozen=True, slots=True)
class Hosts:
    """Under which names the hub is reached.

    Attributes:
        names: as `host_and_port` gives them. Loopback is always among them, and the address that a connection came to:
            a name of somebody else's can point here, but it is still that name.
    """

    names: frozenset[str]

    @classmethod
    def of(cls, host: str, allowed: Iterable[str]) -> Hosts:
        """As configured; what is no host is left out."""
        found = [host_and_port(f"[{each}]" if ":" in each and address_of(each) else each) for each in (host, *allowed)]
        return cls(frozenset({"localhost", "127.0.0.1", "::1", *(each[0] for each in found if each)}))

    def has(self, value: str, here: str | None) -> bool:
        """Whether a `Host` header names this hub.

        Args:
            here: the address that the connection came to.
        """
        found = host_and_port(value)
        if found is None:
            return False
        if found[0] in self.names:
            return True
        address = address_of(here) if here else None
        return address is not None and found[0] == str(address)


def origin_of(value: str) -> str | None:
    """An `Origin` header in one form: lower case, the scheme's own port left out; None for `null` and what is none."""
    scheme, found, rest = value.partition("://")
    place = host_and_port(rest) if found and scheme.lower() in _PORTS else None
    if place is None:
        return None
    scheme, (host, port) = scheme.lower(), place
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" if port in (None, _PORTS[scheme]) else f"{scheme}://{shown}:{port}"


# Characters that a path may only have percent-encoded, and whose encoding is no trick.
_ENCODED: Final = frozenset(b' "#<>?[]^`{|}')
_PLAIN = re.compile(rb"(?:/[A-Za-z0-9._~!$&'()*+,=:@%-]*)+")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})?")


def is_plain_path(raw: bytes) -> bool:
    """Whether a path, as it came, can be read in one way alone: nothing doubled, relative, hidden or cut off."""
    if not _PLAIN.fullmatch(raw):
        return False
    if b"//" in raw or any(segment in (b".", b"..") for segment in raw.split(b"/")):
        return False
    if b"%" not in raw:
        return True
    for match in _PERCENT.finditer(raw):
        if match[1] is None or (int(match[1], 16) < 0x80 and int(match[1], 16) not in _ENCODED):
            return False
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable()


def networks(values: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks, as configured."""
    return tuple(ipaddress.ip_network(each) for each in values)


def within(text: str, nets: Sequence[Network]) -> bool:
    """Whether an address is in one of the networks."""
    address = address_of(text)
    return address is not None and any(address in each for each in nets)


def forwarded(
    peer: str, headers: Iterable[tuple[bytes, bytes]], proxies: Sequence[Network]
) -> tuple[str, Literal["http", "https"] | None]:
    """Where a request really comes from, and how it came to the proxy.

    Only a proxy is believed, and of what it passes on only what the last one wrote: clients write such headers, too.

    Returns:
        The address, and the scheme where a proxy says one.
    """
    if not within(peer, proxies):
        return peer, None
    hops: list[str] = []
    scheme: Literal["http", "https"] | None = None
    for name, value in headers:
        if name == b"x-forwarded-for":
            hops += value.decode("latin-1").split(",")
        elif name == b"x-forwarded-proto":
            scheme = "https" if value.split(b",")[-1].strip().lower() == b"https" else "http"
    found = peer
    for hop in reversed(hops[-_MOST_FORWARDED:]):
        address = address_of(hop.strip())
        if address is None:
            break
        found = str(address)
        if not within(found, proxies):
            break
    return found, scheme
