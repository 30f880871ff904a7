"""Offline: this process connects to nothing but the loopback and Unix sockets, and sends nothing else.

The guard is an audit hook (PEP 578) on what Python's sockets do, so it holds for every library that uses them. An
audit hook cannot be removed again, so there is none until the first `set_offline(True)`.

What no audit hook sees asks `is_offline` by itself: libraries that open their sockets in C (libpq), and programs that
this process starts (git). Connections from before are cut.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import stat
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

_UNIX: Final = getattr(socket, "AF_UNIX", None)
_TCP_INFO: Final[int | None] = getattr(socket, "TCP_INFO", None)
_ALIVE: Final = frozenset({1, 3, 8})  # of Linux: established, on its way in, and closed by the other end alone
_CONNECTING: Final = 2

# Addresses that are nobody's (RFC 5737, RFC 3849), a name that nobody has (RFC 6761), and the port that is ignored.
_NOBODY_4: Final = ("192.0.2.1", 9)
_NOBODY_6: Final = ("2001:db8::1", 9)
_NO_NAME: Final = "offline-check.invalid"
_TRY_SECONDS: Final = 1.0

_lock = threading.Lock()
_on = False
_hooked = False
_stops: list[Callable[[], None]] = []


class Offline(OSError):
    """Something would have left the machine in offline mode; nothing was sent.

    An `OSError`, "network is unreachable", so that everything that uses sockets takes it for a connection that cannot
    be made. `place` is where it would have gone.
    """

    def __init__(self, place: str) -> None:
        super().__init__(errno.ENETUNREACH, f"offline mode: {place} is not the loopback")
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Offline, (self.place,))


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try to leave the machine: what was tried, whether it was blocked, and how, or what happened instead."""

    what: str
    blocked: bool
    how: str


def is_offline() -> bool:
    """Whether this process is in offline mode."""
    return _on


def is_here(host: str) -> bool:
    """Whether a host is this machine by its very name: an address of the loopback, or `localhost`.

    No name is looked up, so one that merely resolves to the loopback is not.
    """
    return host.lower() == "localhost" or is_loopback(host)


def is_loopback(address: str) -> bool:
    """Whether an IP address is of the loopback, also written as IPv4 within IPv6 or with a zone. No name is."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    return found.is_loopback


def when_offline(stop: Callable[[], None]) -> None:
    """Have `stop` called whenever offline mode begins, for connections that are no socket of this process."""
    _stops.append(stop)


def set_offline(on: bool) -> tuple[str, ...]:
    """Begin or end offline mode for the whole process.

    Returns:
        The places to which connections were open; they are cut.
    """
    global _on, _hooked  # noqa: PLW0603 - a process is offline or it is not
    with _lock:
        if not on:
            _on = False
            for name in _BY_NAME:
                if name in vars(socket.socket):
                    delattr(socket.socket, name)
            return ()
        if not _hooked:
            sys.addaudithook(_watch)
            _hooked = True
        _on = True
        for name, method in _BY_NAME.items():
            setattr(socket.socket, name, method)
    for stop in _stops:
        stop()
    return cut_connections()


# --- The guard -------------------------------------------------------------------------------------------------------


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _on and event in _CHECKS:
        _CHECKS[event](arguments)


def _check_address(arguments: Sequence[Any]) -> None:
    used, address = arguments
    if address is None or used.family == _UNIX:  # None: to where it is connected, which was looked at then
        return
    if used.family not in (socket.AF_INET, socket.AF_INET6):
        raise Offline(f"{address!r} of another kind of network")
    host, port = cast("tuple[Any, ...]", address)[:2]
    host = _text(host)
    if not is_loopback(host) and not (host == "localhost" and _localhost_is_here()):
        raise Offline(_place(host, port))


def _check_name(arguments: Sequence[Any]) -> None:
    """Finding the address of a name asks a server, which is elsewhere."""
    host = _text(arguments[0])
    if host and host.lower() != "localhost" and not _is_address(host):
        raise Offline(repr(host))


def _check_owner(arguments: Sequence[Any]) -> None:
    """So does finding the name of an address."""
    first = arguments[0]
    host = _text(cast("tuple[Any, ...]", first)[0] if isinstance(first, tuple) else first)
    if not is_here(host):
        raise Offline(repr(host))


_CHECKS: Final[Mapping[str, Callable[[Sequence[Any]], None]]] = {
    "socket.connect": _check_address,
    "socket.sendto": _check_address,
    "socket.sendmsg": _check_address,
    "socket.bind": _check_address,
    "socket.getaddrinfo": _check_name,
    "socket.gethostbyname": _check_name,
    "socket.gethostbyaddr": _check_owner,
    "socket.getnameinfo": _check_owner,
}


# Given a name, these look it up before there is an event, so they are looked at themselves.


def _connect(self: _socket.socket, address: Any, /) -> None:
    _check_address((self, address))
    return _socket.socket.connect(self, address)


def _connect_ex(self: _socket.socket, address: Any, /) -> int:
    _check_address((self, address))
    return _socket.socket.connect_ex(self, address)


def _sendto(self: _socket.socket, data: Any, *more: Any) -> int:
    if more:
        _check_address((self, more[-1]))
    return _socket.socket.sendto(self, data, *more)


def _bind(self: _socket.socket, address: Any, /) -> None:
    _check_address((self, address))
    return _socket.socket.bind(self, address)


_BY_NAME: Final[Mapping[str, Callable[..., Any]]] = {
    "connect": _connect,
    "connect_ex": _connect_ex,
    "sendto": _sendto,
    "bind": _bind,
}


def _place(host: str, port: object) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host or 'every address'}:{port}"


def _text(host: object) -> str:
    if isinstance(host, bytes | bytearray):
        return host.decode("utf-8", "replace")
    return host if isinstance(host, str) else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _localhost_is_here() -> bool:
    return all(is_loopback(str(found[4][0])) for found in socket.getaddrinfo("localhost", None))


# --- Connections from before -----------------------------------------------------------------------------------------


def cut_connections() -> tuple[str, ...]:
    """Shut every open connection of this process to elsewhere, whoever made it, and what listens for others.

    Returns:
        Where they went.
    """
    cut: list[str] = []
    for handle in _handles():
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(handle).st_mode):
                continue
            with _twin(handle) as twin:
                place = _elsewhere(twin)
                if place is not None:
                    cut.append(place)
                    twin.shutdown(socket.SHUT_RDWR)
    return tuple(dict.fromkeys(cut))


def _handles() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir(folder)]  # noqa: PTH208 - names alone
    return list(range(4096))


@contextlib.contextmanager
def _twin(handle: int) -> Generator[socket.socket]:
    """Another socket object for an open socket; what is done to it is done to that one."""
    copy = os.dup(handle)
    try:
        twin = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with twin:
        yield twin


def _elsewhere(connection: socket.socket) -> str | None:
    """Where a socket leads, if that is not this machine; None for one that leads nowhere."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    stream = connection.type == socket.SOCK_STREAM
    state = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0] if stream and _TCP_INFO is not None else None
    if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) if stream else False:
        host, port = connection.getsockname()[:2]
        return None if is_loopback(host) else f"{_place(host, port)} (which listened)"
    if state == _CONNECTING:
        return "a connection that was being made"
    if state is not None and state not in _ALIVE:
        return None
    host, port = connection.getpeername()[:2]  # an error where it is not connected
    return None if is_loopback(host) else _place(host, port)


# --- The proof -------------------------------------------------------------------------------------------------------


def try_to_leave() -> tuple[Attempt, ...]:
    """Really try to leave the machine, in each way that Python's sockets have; call it in a thread.

    The addresses are of the ranges for documentation, and the name is one that nobody can have. An attempt counts as
    blocked where the guard stopped it, and not where the network did.
    """
    tried = [
        _tried("a TCP connection to an IPv4 address", lambda: _reach(socket.AF_INET, _NOBODY_4)),
        _tried("a TCP connection to an IPv6 address", lambda: _reach(socket.AF_INET6, _NOBODY_6)),
        _tried("a TCP connection of an event loop", lambda: asyncio.run(_reach_from_loop())),
        _tried("a UDP datagram to an IPv4 address", lambda: _send(socket.AF_INET, _NOBODY_4)),
        _tried("a UDP datagram to an IPv6 address", lambda: _send(socket.AF_INET6, _NOBODY_6)),
        _tried("a question for a name's address", lambda: socket.getaddrinfo(_NO_NAME, 443)),
        _tried("a question for a name's address, the old way", lambda: socket.gethostbyname(_NO_NAME)),
        _tried("a question for an address's name", lambda: socket.gethostbyaddr(_NOBODY_4[0])),
        _tried("a TCP connection to a name", lambda: _reach(socket.AF_INET, (_NO_NAME, 443))),
        _tried("a socket that others could connect to", _listen),
    ]
    open_before = cut_connections()
    how = f"cut: {', '.join(open_before)}" if open_before else "there is none"
    return (*tried, Attempt("a connection from before", blocked=True, how=how))


def _tried(what: str, action: Callable[[], object]) -> Attempt:
    try:
        action()
    except Offline as error:
        return Attempt(what, blocked=True, how=f"refused, {error.strerror}")
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return Attempt(what, blocked=True, how="this machine has no IPv6")
        return Attempt(what, blocked=False, how=f"it was let out, and then: {error.strerror or error}")
    return Attempt(what, blocked=False, how="it was let out")


def _reach(family: int, address: tuple[str, int]) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as tcp:
        tcp.settimeout(_TRY_SECONDS)
        tcp.connect(address)


async def _reach_from_loop() -> None:
    async with asyncio.timeout(_TRY_SECONDS):
        _, writer = await asyncio.open_connection(*_NOBODY_4)
        writer.close()


def _send(family: int, address: tuple[str, int]) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"", address)


def _listen() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tcp.bind(("", 0))
