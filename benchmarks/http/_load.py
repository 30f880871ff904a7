"""The load: a process of its own that sends prepared requests over connections that stay open, and times each answer.

Run as a program, it reads a plan as JSON from stdin and writes what came of it to stdout. It is nothing but epoll,
sockets and bytes, and tells what it took itself, for it runs on the same machine. Standard library only, Linux only.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

_GRACE_SECONDS = 30.0  # for answers that are under way at the end
_FIRST_ERRORS = 5


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole.

    Attributes:
        kind: what it is counted as.
        data: head and body, as they go over the wire.
        expect: what the answer's body must have; empty: anything.
    """

    kind: str
    data: bytes
    expect: bytes = b""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load.

    Attributes:
        seconds: how long it was measured.
        answers: kind -> of each answer when it came, in seconds since the measuring began, and how many ms it took:
            since it was due, where requests had their times.
        errors: what went wrong, and how often.
        reconnects: connections that the server closed.
        cpu: seconds of processor time of the process that made the load.
    """

    seconds: float
    answers: dict[str, list[tuple[float, float]]]
    errors: dict[str, int]
    reconnects: int
    cpu: float

    @property
    def count(self) -> int:
        """Answers."""
        return sum(map(len, self.answers.values()))

    def rates(self, window: float = 1.0) -> list[float]:
        """Answers a second, in each window."""
        counts = [0] * max(1, int(self.seconds / window))
        for each in self.answers.values():
            for at, _ in each:
                if 0 <= (place := int(at / window)) < len(counts):
                    counts[place] += 1
        return [count / window for count in counts]

    def times(self, *kinds: str) -> list[float]:
        """Milliseconds, of these kinds or all."""
        return [ms for kind, each in self.answers.items() if not kinds or kind in kinds for _, ms in each]


def load(
    port: int,
    requests: Sequence[Request],
    *,
    connections: int,
    seconds: float,
    warm_up: float = 1.0,
    rate: float | None = None,
) -> Load:
    """Send requests, in turn and over again, from a process of its own.

    Args:
        connections: each has one request under way at most.
        warm_up: seconds before the measuring begins.
        rate: requests a second over all connections, each due at its time; None: the next one as soon as there is an
            answer.

    Raises:
        RuntimeError: the process failed.
    """
    plan = {
        "port": port,
        "connections": connections,
        "seconds": seconds,
        "warm_up": warm_up,
        "rate": rate,
        "requests": [[each.kind, each.data.decode("latin-1"), each.expect.decode("latin-1")] for each in requests],
    }
    done = subprocess.run(
        [sys.executable, "-I", "-S", __file__],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        check=False,
        timeout=warm_up + seconds + 2 * _GRACE_SECONDS + 30,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr.strip()[-2000:]}")
    came: dict[str, Any] = json.loads(done.stdout)
    answers = {kind: [(at, ms) for at, ms in each] for kind, each in came.pop("answers").items()}
    return Load(answers=answers, **came)


# --- The process -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    request: Request | None = None
    due: float = 0.0
    body: int = -1  # where it begins; -1: the head is not there
    end: int = -1  # where it ends; -1: with the chunk that has nothing


class _Driver:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.address = ("127.0.0.1", plan["port"])
        self.wanted: int = plan["connections"]
        self.seconds: float = plan["seconds"]
        self.warm_up: float = plan["warm_up"]
        self.rate: float | None = plan["rate"]
        self.requests: Iterator[Request] = cycle(
            [Request(kind, data.encode("latin-1"), expect.encode("latin-1")) for kind, data, expect in plan["requests"]]
        )
        self.poll = select.epoll()
        self.open: dict[int, _Connection] = {}
        self.idle: deque[_Connection] = deque()
        self.answers: dict[str, list[tuple[float, float]]] = {}
        self.errors: dict[str, int] = {}
        self.reconnects = 0
        self.begin = 0.0  # of the measuring

    def run(self) -> dict[str, Any]:
        for _ in range(self.wanted):
            self.connect()
        now = time.perf_counter()
        self.begin = now + self.warm_up
        end = self.begin + self.seconds
        cpu: float | None = None
        due = now
        while now < end:
            if cpu is None and now >= self.begin:
                cpu = time.process_time()
            if self.rate is None:
                while self.idle:
                    self.send(self.idle.popleft(), now)
                wait = end - now
            else:
                while due <= now and self.idle:
                    self.send(self.idle.popleft(), due)
                    due += 1 / self.rate
                wait = max(0.0, min(due, end) - now) if self.idle else end - now
            self.read(min(wait, 0.1))
            now = time.perf_counter()
        used = time.process_time() - (cpu or 0.0)
        last = time.perf_counter() + _GRACE_SECONDS
        while len(self.idle) < len(self.open) and time.perf_counter() < last:
            self.read(0.1)
        late = len(self.open) - len(self.idle)
        if late:
            self.wrong(f"no answer within {_GRACE_SECONDS:.0f} s of the end", late)
        return {
            "seconds": self.seconds,
            "answers": self.answers,
            "errors": self.errors,
            "reconnects": self.reconnects,
            "cpu": used,
        }

    def connect(self) -> None:
        made = socket.create_connection(self.address, timeout=_GRACE_SECONDS)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        connection = _Connection(made)
        self.open[made.fileno()] = connection
        self.poll.register(made.fileno(), select.EPOLLIN)
        self.idle.append(connection)

    def send(self, connection: _Connection, due: float) -> None:
        request = next(self.requests)
        connection.request, connection.due = request, due
        try:
            sent = connection.socket.send(request.data)
            if sent < len(request.data):
                connection.socket.settimeout(_GRACE_SECONDS)
                connection.socket.sendall(request.data[sent:])
                connection.socket.setblocking(False)
        except OSError as error:
            self.gone(connection, str(error))

    def read(self, wait: float) -> None:
        for number, _ in self.poll.poll(wait):
            connection = self.open[number]
            try:
                data = connection.socket.recv(1 << 18)
            except OSError as error:
                self.gone(connection, str(error))
                continue
            if not data:
                self.gone(connection, "the server closed the connection")
                continue
            connection.buffer += data
            if self.whole(connection):
                self.answered(connection)

    def whole(self, connection: _Connection) -> bool:
        buffer = connection.buffer
        if connection.body < 0:
            found = buffer.find(b"\r\n\r\n")
            if found < 0:
                return False
            connection.body = found + 4
            head = bytes(buffer[:found]).lower()
            _, has_length, rest = head.partition(b"\r\ncontent-length:")
            connection.end = found + 4 + int(rest.partition(b"\r\n")[0]) if has_length else -1
        if connection.end >= 0:
            return len(buffer) >= connection.end
        return buffer.endswith(b"\r\n0\r\n\r\n")

    def answered(self, connection: _Connection) -> None:
        now = time.perf_counter()
        request = connection.request
        assert request is not None
        buffer = connection.buffer
        status = bytes(buffer[9:12])
        if status[:1] != b"2":
            self.wrong(f"{request.kind}: status {status.decode('latin-1')}")
        elif b'"isError":true' in buffer or b'"error":{' in buffer:
            self.wrong(f"{request.kind}: {bytes(buffer[connection.body :])[:300].decode('utf-8', 'replace')}")
        elif request.expect not in buffer:
            self.wrong(f"{request.kind}: an answer without {request.expect.decode('latin-1')!r}")
        elif now >= self.begin and connection.due >= self.begin:
            self.answers.setdefault(request.kind, []).append((now - self.begin, (now - connection.due) * 1_000))
        self.rest(connection)

    def rest(self, connection: _Connection) -> None:
        connection.request, connection.body, connection.end = None, -1, -1
        connection.buffer.clear()
        self.idle.append(connection)

    def gone(self, connection: _Connection, why: str) -> None:
        if connection.request is not None:
            self.wrong(f"{connection.request.kind}: {why}")
        else:
            self.idle.remove(connection)
        self.reconnects += 1
        self.poll.unregister(connection.socket.fileno())
        del self.open[connection.socket.fileno()]
        connection.socket.close()
        self.connect()

    def wrong(self, what: str, count: int = 1) -> None:
        known = what if what in self.errors or len(self.errors) < _FIRST_ERRORS else "others"
        self.errors[known] = self.errors.get(known, 0) + count


if __name__ == "__main__":
    json.dump(_Driver(json.load(sys.stdin)).run(), sys.stdout)
