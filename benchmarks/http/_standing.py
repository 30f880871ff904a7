"""What connections cost that do nothing, and what many minutes of all kinds of requests leave behind."""

from __future__ import annotations

import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from _calls import check
from _corpus import SEED
from _load import Load, Request, load
from _measure import Row, memory_of, row, say
from _place import Place, Server
from _wire import Calls, rest_searches, searches

_IDLE_MB = 100.0
_SETTLE_SECONDS = 2.0
_SAMPLE_SECONDS = 1.0
_FIRST_SECONDS = 60.0
_HANDLES, _SLOPE = 0.0, 0.5
_POOL = 200
_MIXED_CLIENTS = 20

Opens = Callable[[Server], Sequence[bytes]]


def idle(place: Place) -> list[Row]:
    """Many connections at once: that were used and wait, and that are streams from the hub."""
    many = place.amount.idle

    def kept(server: Server) -> Sequence[bytes]:
        return [server.target.bare("GET", "/healthz", {})] * many

    def sessions(server: Server) -> Sequence[bytes]:
        return Calls(server.target, "2025-11-25", sessions=many).streams()

    def events(server: Server) -> Sequence[bytes]:
        return [server.target.bare("GET", "/api/v1/events", {"Accept": "text/event-stream"})] * many

    with place.floor("bare") as server:
        floor = row(f"bare uvicorn, {many:,} connections that wait", "MB", [_grown(server, kept)], of="floor")
    with place.floor("sdk") as server:
        peer = row(
            f"server of the MCP SDK, {many:,} sessions with a stream", "MB", [_grown(server, sessions)], of="floor"
        )
    rows: list[Row] = []
    for what, opens, against in (
        ("connections that wait for their next request", kept, floor),
        ("MCP sessions (2025-11-25), each with the stream by which the hub may speak", sessions, peer),
        ("streams of events of the REST API", events, floor),
    ):
        say(what)
        with place.hub() as hub:
            rows.append(row(f"{many:,} {what}", "MB", [_grown(hub, opens)], target=_IDLE_MB, against=against))
    return [*rows, peer, floor]


def _grown(server: Server, opens: Opens) -> float:
    """MB by which a server's memory grows with connections that are open and have been answered."""
    before = memory_of(server.pid).rss
    made: list[socket.socket] = []
    try:
        for data in opens(server):
            one = socket.create_connection(("127.0.0.1", server.target.port), timeout=30)
            made.append(one)
            one.sendall(data)
            head = b""
            while b"\r\n\r\n" not in head:
                part = one.recv(65_536)
                if not part:
                    raise RuntimeError(f"connection {len(made)} was closed: {head[:200]!r}")
                head += part
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"connection {len(made)}: {head[:200]!r}")
        time.sleep(_SETTLE_SECONDS)
        grown = memory_of(server.pid).rss - before
        for number, one in enumerate(made, 1):
            one.setblocking(False)
            try:
                if not one.recv(1, socket.MSG_PEEK):
                    raise RuntimeError(f"connection {number} of {len(made)} was closed meanwhile")
            except BlockingIOError:
                pass
    finally:
        for one in made:
            one.close()
    return grown


# --- Minutes of it ------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Watch:
    """Looks at a process once a second while it is entered."""

    server: Server
    memory: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    handles: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> _Watch:
        begun = time.monotonic()

        def look() -> None:
            while not self._over.wait(_SAMPLE_SECONDS):
                at = time.monotonic() - begun
                self.memory.append((at, memory_of(self.server.pid).rss))
                self.handles.append((at, float(self.server.handles())))

        self._thread = threading.Thread(target=look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()


def mixed(place: Place) -> list[Row]:
    """All kinds of requests at a steady rate, for minutes."""
    amount = place.amount
    seconds = amount.minutes * 60
    with place.hub() as hub:
        requests = _mixture(hub, place)
        load(hub.target.port, requests, connections=_MIXED_CLIENTS, seconds=min(3.0, seconds), rate=amount.mixed_rate)
        say(f"{amount.minutes:g} minutes at {amount.mixed_rate:.0f} requests a second")
        before = hub.cpu()
        with _Watch(hub) as seen:
            came = load(
                hub.target.port,
                requests,
                connections=_MIXED_CLIENTS,
                seconds=seconds,
                warm_up=0.0,
                rate=amount.mixed_rate,
            )
        used = hub.cpu() - before
    errors = sum(came.errors.values())
    if not errors:
        check(came)
    else:
        say(f"errors: {came.errors}")
    first = _FIRST_SECONDS if seconds > 2 * _FIRST_SECONDS else seconds / 4
    return [
        row("requests that failed", "", [float(errors)], target=0.0, note=_told(came)),
        row("answered", "/s", came.rates(min(10.0, seconds))),
        *_kinds(came),
        *(row(f"memory of the hub, resident, in minute {n}", "MB", mb) for n, mb in by_minute(seen.memory)),
        row(
            "its growth after the first minute, a minute",
            "MB",
            [slope(seen.memory, first)],
            target=_SLOPE,
            note=f"the slope of the line with the least squares through the samples of each {_SAMPLE_SECONDS:g} s",
        ),
        row("files and sockets of the hub after the first minute", "", [n for at, n in seen.handles if at >= first]),
        row("their growth after the first minute", "", [_difference(seen.handles, first)], target=_HANDLES),
        row("the hub, of one core", "%", [100 * used / seconds]),
        row("the load itself, of one core", "%", [100 * came.cpu / seconds]),
    ]


def _told(came: Load) -> str:
    shown = "; ".join(f"{count} x {what}" for what, count in came.errors.items())
    return f"of {came.count + sum(came.errors.values()):,}{', ' + shown if shown else ''}"


def _kinds(came: Load) -> list[Row]:
    return [row(f"{kind}", "ms", came.times(kind)) for kind in sorted(came.answers)]


def _mixture(hub: Server, place: Place) -> list[Request]:
    """Some thousands of requests of every kind, in an order of chance that is the same in each run."""
    dice = random.Random(SEED)
    modern = Calls(hub.target, "2026-07-28")
    older = Calls(hub.target, "2025-11-25", sessions=_MIXED_CLIENTS)
    ids = [
        modern.answer("memory_write", {"title": f"Changed by the benchmark {number}", "body": "At first.\n"}).partition(
            " id "
        )[2][:26]
        for number in range(min(_POOL, 20 * place.amount.clients))
    ]
    queries = place.queries

    def changed() -> Request:
        given = {"id": dice.choice(ids), "body": f"{dice.choice(queries)}\n\n{dice.choice(queries)}\n"}
        return dice.choice((modern, older)).call("memory_write", given, kind="write", expect='"isError":false')

    def renamed(kind: str, request: Request) -> Request:
        return Request(kind, request.data, request.expect)

    ways: list[tuple[int, Callable[[], Request]]] = [
        (15, lambda: renamed("no-op tool", nothing_of(modern))),
        (15, lambda: renamed("no-op tool", nothing_of(older))),
        (15, lambda: renamed("search, MCP", searches(modern, [dice.choice(queries)])[0])),
        (10, lambda: renamed("search, MCP", searches(older, [dice.choice(queries)])[0])),
        (15, lambda: renamed("search, REST", rest_searches(hub.target, [dice.choice(queries)])[0])),
        (15, lambda: modern.call("memory_read", {"id": dice.choice(ids)}, kind="read", expect="version")),
        (10, changed),
        (2, lambda: modern.call("memory_context", {"query": dice.choice(queries)}, kind="context")),
        (3, lambda: modern.call("memory_history", {"id": dice.choice(ids)}, kind="history")),
    ]
    chosen = dice.choices([make for _, make in ways], [weight for weight, _ in ways], k=4_000)
    return [make() for make in chosen]


def nothing_of(calls: Calls) -> Request:
    """One call of the tool that does nothing."""
    return calls.call("nothing", {}, kind="nothing")


def by_minute(samples: Sequence[tuple[float, float]]) -> list[tuple[int, list[float]]]:
    """Samples of each minute, the first is 1; those of a minute that was just begun are of the one before."""
    last = max(1, int(max(at for at, _ in samples) / 60 + 0.5))
    found: dict[int, list[float]] = {}
    for at, value in samples:
        found.setdefault(min(last, int(at / 60) + 1), []).append(value)
    return sorted(found.items())


def slope(samples: Sequence[tuple[float, float]], first: float) -> float:
    """By how much the line through the samples after the first seconds rises in a minute."""
    later = [(at, value) for at, value in samples if at >= first]
    if len(later) < 2:
        raise RuntimeError("too few samples")
    return statistics.linear_regression([at / 60 for at, _ in later], [value for _, value in later]).slope


def _difference(samples: Sequence[tuple[float, float]], first: float) -> float:
    """The median of the last part less that of the first, each of a fifth of what is after the first seconds."""
    later = [value for at, value in samples if at >= first]
    part = max(1, len(later) // 5)
    return statistics.median(later[-part:]) - statistics.median(later[:part])
