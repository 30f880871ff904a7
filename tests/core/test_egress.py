"""Offline mode: what leaves a process in it, seen by servers that wait at this machine's other addresses."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import Offline, is_here, is_loopback

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def run(script: str, *arguments: object) -> Any:
    """Run a script in a process of its own, for a guard cannot be taken out again; the JSON that it prints."""
    clean = {key: value for key, value in os.environ.items() if key.upper() not in PROXIES}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=90,
        check=False,
        env=clean,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PREAMBLE = """
import _socket, asyncio, contextlib, json, os, socket, sys, threading, time
from adaptive_llm_gateway.core import Offline, cut_connections, is_offline, set_offline, try_to_leave

def outcome(action):
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return "done"
"""


class Observer:
    """A server at an address of this machine that is not the loopback; it counts what arrives."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.tcp = socket.create_server((host, 0))
        self.port: int = self.tcp.getsockname()[1]
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((host, self.port))
        self.udp.settimeout(0.2)
        self.connections = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.settimeout(5)
                try:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                except OSError:
                    pass

    def datagrams(self) -> int:
        count = 0
        try:
            while True:
                self.udp.recv(100)
                count += 1
        except TimeoutError:
            return count

    def close(self) -> None:
        self.tcp.shutdown(socket.SHUT_RDWR)
        self.tcp.close()
        self.udp.close()
        self._thread.join(10)


@pytest.fixture
def observer(other_address: str) -> Iterator[Observer]:
    found = Observer(other_address)
    yield found
    found.close()


EVERY_WAY = """
import http.client, urllib.request
import httpx2
host, port, offline = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "offline"
url = f"http://{host}:{port}/"
set_offline(offline)

def tcp():
    with socket.create_connection((host, port), 10) as connection:
        connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        connection.recv(10)

def error_number():
    with socket.socket() as connection:
        assert connection.connect_ex((host, port)) == 0

def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.sendto(b"x", (host, port))

def udp_with_flags():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.sendto(b"x", 0, (host, port))

def udp_message():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.sendmsg([b"x"], [], 0, (host, port))

def udp_connected():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        datagram.connect((host, port))
        datagram.send(b"x")

async def streams():
    _, writer = await asyncio.open_connection(host, port)
    writer.close()

async def client():
    async with httpx2.AsyncClient(trust_env=False) as found:
        (await found.get(url)).raise_for_status()

def in_a_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(outcome(tcp)))
    thread.start()
    thread.join()
    if found != ["done"]:
        raise ConnectionError(found)

def below(kind, use):
    connection = _socket.socket(socket.AF_INET, kind)
    try:
        use(connection)
    finally:
        connection.close()

def mapped():
    with socket.socket(socket.AF_INET6) as connection:
        connection.connect((f"::ffff:{host}", port))

ways = {
    "tcp": tcp,
    "error number": error_number,
    "udp": udp,
    "udp with flags": udp_with_flags,
    "udp message": udp_message,
    "udp connected": udp_connected,
    "tcp, below Python's class": lambda: below(socket.SOCK_STREAM, lambda tcp: tcp.connect((host, port))),
    "udp, below Python's class": lambda: below(socket.SOCK_DGRAM, lambda udp: udp.sendto(b"x", (host, port))),
    "asyncio": lambda: asyncio.run(streams()),
    "http.client": lambda: http.client.HTTPConnection(host, port, timeout=10).request("GET", "/"),
    "urllib": lambda: urllib.request.urlopen(url, timeout=10).read(),
    "httpx": lambda: httpx2.get(url, trust_env=False),
    "httpx, asynchronous": lambda: asyncio.run(client()),
    "a thread": in_a_thread,
    **({"mapped": mapped} if socket.has_ipv6 else {}),
}
import warnings
warnings.simplefilter("ignore", ResourceWarning)  # a connection that is never read
print(json.dumps({name: outcome(way) for name, way in ways.items()}))
"""


def test_nothing_of_a_process_in_offline_mode_arrives_elsewhere_and_in_normal_mode_everything_does(
    observer: Observer,
) -> None:
    refused = run(EVERY_WAY, observer.host, observer.port, "offline")
    assert "done" not in refused.values(), refused
    assert refused["httpx"] == refused["httpx, asynchronous"] == "ConnectError"
    assert refused["tcp"] == refused["asyncio"] == refused["http.client"] == "Offline"
    assert (observer.connections, observer.datagrams()) == (0, 0)

    allowed = run(EVERY_WAY, observer.host, observer.port, "normal")
    assert set(allowed.values()) == {"done"}, allowed
    assert observer.connections >= 8
    assert observer.datagrams() == 5


def test_a_connection_from_before_is_cut(observer: Observer) -> None:
    script = """
before = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
before.sendall(b"x")
before.recv(65536)  # an answer that comes once it is cut would reset it
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.connect((sys.argv[1], int(sys.argv[2])))
listener = socket.create_server((sys.argv[1], 0))
here = socket.create_server(("127.0.0.1", 0))
friend = socket.create_connection(here.getsockname())
other, _ = here.accept()
place = f"{sys.argv[1]}:{sys.argv[2]}"
heard = f"{sys.argv[1]}:{listener.getsockname()[1]} (which listened)"
cut = set_offline(True)
def exchange():
    friend.sendall(b"y")
    assert other.recv(1) == b"y"
print(json.dumps({
    "cut": sorted(cut) == sorted([place, heard]),
    "tcp": outcome(lambda: before.sendall(b"z")),
    "udp": outcome(lambda: datagrams.send(b"z")),
    "heard": outcome(listener.accept),
    "here": outcome(exchange),
}))
for one in (before, datagrams, listener, here, friend, other):
    one.close()
"""
    found = run(script, observer.host, observer.port)
    assert found["cut"]
    assert found["tcp"] == found["udp"] == "BrokenPipeError"
    assert found["heard"] == "OSError"
    assert found["here"] == "done"
    assert observer.datagrams() == 0


def test_the_loopback_and_unix_sockets_stay_open(tmp_path: Path) -> None:
    script = """
set_offline(True)
def exchange(family, address):
    with socket.socket(family) as server:
        server.bind(address)
        server.listen()
        with socket.socket(family) as client:
            client.connect(server.getsockname())
            other, _ = server.accept()
            with other:
                client.sendall(b"x")
                assert other.recv(1) == b"x"

async def streams():
    server = await asyncio.start_server(lambda _, writer: writer.close(), "localhost", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("localhost", port)
    writer.close()
    server.close()

found = {
    "4": outcome(lambda: exchange(socket.AF_INET, ("127.0.0.1", 0))),
    "4, another": outcome(lambda: exchange(socket.AF_INET, ("127.8.9.1", 0))),
    "unix": outcome(lambda: exchange(socket.AF_UNIX, sys.argv[1])),
    "by name": outcome(lambda: exchange(socket.AF_INET, ("localhost", 0))),
    "looked up": outcome(lambda: socket.getaddrinfo("localhost", 80)),
    "looked up, a number": outcome(lambda: socket.getaddrinfo("192.0.2.1", 80)),
    "for itself": outcome(lambda: socket.getaddrinfo(None, 80)),
    "asyncio": outcome(lambda: asyncio.run(streams())),
    "pair": outcome(lambda: [one.close() for one in socket.socketpair()]),
}
try:
    with socket.create_server(("::1", 0), family=socket.AF_INET6):
        pass
except OSError:
    pass
else:
    found["6"] = outcome(lambda: exchange(socket.AF_INET6, ("::1", 0)))
print(json.dumps(found))
"""
    assert set(run(script, tmp_path / "s").values()) == {"done"}


def test_a_name_is_not_looked_up_and_no_door_is_opened() -> None:
    script = """
set_offline(True)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tcp = socket.socket()
below = _socket.socket()
print(json.dumps({
    "getaddrinfo": outcome(lambda: socket.getaddrinfo("host.invalid", 80)),
    "bytes": outcome(lambda: socket.getaddrinfo(b"host.invalid", 80)),
    "not quite": outcome(lambda: socket.getaddrinfo("localhost.invalid", 80)),
    "gethostbyname": outcome(lambda: socket.gethostbyname("host.invalid")),
    "gethostbyname_ex": outcome(lambda: socket.gethostbyname_ex("host.invalid")),
    "gethostbyaddr": outcome(lambda: socket.gethostbyaddr("192.0.2.1")),
    "getnameinfo": outcome(lambda: socket.getnameinfo(("192.0.2.1", 80), 0)),
    "connect": outcome(lambda: tcp.connect(("host.invalid", 80))),
    "connect_ex": outcome(lambda: tcp.connect_ex(("host.invalid", 80))),
    "sendto": outcome(lambda: udp.sendto(b"x", ("host.invalid", 80))),
    "listening, below Python's class": outcome(lambda: below.bind(("", 0))),
    "every address": outcome(lambda: tcp.connect(("0.0.0.0", 80))),
    "broadcast": outcome(lambda: udp.sendto(b"x", ("255.255.255.255", 80))),
    "listening": outcome(lambda: tcp.bind(("", 0))),
    "create_server": outcome(lambda: socket.create_server(("", 0))),
}))
for one in (udp, tcp, below):
    one.close()
"""
    found = run(script)
    # create_server adds its words to an error, as an OSError of the same number
    assert set(found.values()) - {"OSError"} == {"Offline"}, found
    assert [name for name, what in found.items() if what == "OSError"] in ([], ["create_server"])


def test_normal_mode_leaves_nothing_behind() -> None:
    script = """
plain = socket.socket.connect, socket.socket.bind
set_offline(True)
changed = socket.socket.connect is not plain[0]
set_offline(False)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(json.dumps([
    changed, is_offline(), (socket.socket.connect, socket.socket.bind) == plain, outcome(lambda: udp.bind(("", 0)))
]))
udp.close()
"""
    assert run(script) == [True, False, True, "done"]


def test_the_proof_fails_where_the_guard_is_not() -> None:
    script = """
def tried():
    return {one.what: one.blocked for one in try_to_leave()}
set_offline(True)
guarded = tried()
import adaptive_llm_gateway.core._egress as egress
set_offline(False)
# Nothing is to wait for a server of names that is not there.
socket.getaddrinfo = socket.gethostbyname = socket.gethostbyaddr = lambda *given: None
egress._reach = lambda *given: None
print(json.dumps([guarded, tried()]))
"""
    guarded, unguarded = run(script)
    assert len(guarded) == 11
    assert all(guarded.values()), guarded
    assert not any(blocked for what, blocked in unguarded.items() if what != "a connection from before"), unguarded


def test_what_is_no_socket_of_the_process_is_told_that_offline_mode_begins() -> None:
    script = """
from adaptive_llm_gateway.core import when_offline
told = []
when_offline(lambda: told.append(is_offline()))
set_offline(True)
set_offline(False)
print(json.dumps(told))
"""
    assert run(script) == [True]


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::1%lo", True),
        ("localhost", True),
        ("LOCALHOST", True),
        (".".join("0000"), False),
        ("::", False),
        ("::ffff:192.0.2.1", False),
        ("192.0.2.1", False),
        ("fe80::1%eth0", False),
        ("127.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_a_host_is_here_by_its_very_name_alone(host: str, here: bool) -> None:
    assert is_here(host) is here


def test_the_error_is_one_of_the_network_and_can_be_pickled() -> None:
    error: Offline = pickle.loads(pickle.dumps(Offline("192.0.2.1:9")))  # noqa: S301 - our own
    assert issubclass(Offline, OSError)
    assert (error.place, error.strerror) == ("192.0.2.1:9", "offline mode: 192.0.2.1:9 is not the loopback")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.8.7", True),
        ("::1", True),
        ("::1%lo", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104 - looked at, not bound
        ("::", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("::ffff:8.8.8.8", False),
        ("fe80::1%eth0", False),
        ("localhost", False),  # a name proves nothing
        ("", False),
    ],
)
def test_an_address_is_of_the_loopback_or_not(address: str, local: bool) -> None:
    assert is_loopback(address) is local
