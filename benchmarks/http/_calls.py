"""How many requests a second: of a tool that does nothing beside the floors, and of search with many clients."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from _load import Load, Request, load
from _measure import Row, row, say
from _place import Place, Server
from _wire import ERAS, Calls, nothing, rest_searches, searches

_CONNECTIONS = 16
_WARM_UP = 0.5
_TARGET_RATE, _SEARCH_RATE, _SEARCH_MS = 1_000.0, 300.0, 50.0
_STEPS = (25, 50, 75, 100, 125, 150, 200, 250, 300)


@dataclass(slots=True)
class _Series:
    """What came of one way of asking, over all rounds."""

    rates: list[float] = field(default_factory=list[float])
    times: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])  # of the server, ms a request
    load: list[float] = field(default_factory=list[float])  # of the load, % of a core

    def add(self, came: Load, used: float) -> None:
        """One turn; `used`: seconds of the server's processor time, warm-up included."""
        check(came)
        self.rates += came.rates(min(1.0, came.seconds))
        self.times += came.times()
        self.cpu.append(used * 1_000 / max(1, came.count) * came.seconds / (came.seconds + _WARM_UP))
        self.load.append(100 * came.cpu / came.seconds)


def check(came: Load) -> None:
    """See that every answer was right.

    Raises:
        RuntimeError: one was not, or there was none.
    """
    if came.errors or came.reconnects or not came.count:
        raise RuntimeError(f"{came.count} answers, {came.reconnects} connections closed, errors: {came.errors}")


def turn(server: Server, requests: Sequence[Request], into: _Series, seconds: float, connections: int) -> None:
    """One turn of a way of asking, as fast as it goes."""
    before = server.cpu()
    came = load(server.target.port, requests, connections=connections, seconds=seconds, warm_up=_WARM_UP)
    into.add(came, server.cpu() - before)


def tool(place: Place) -> list[Row]:
    """A tool that does nothing: at the hub and at a server of the SDK, in both eras, beside bare uvicorn."""
    amount = place.amount
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(place.floor(name)) for name in ("sdk", "bare")}
        servers["hub"] = stack.enter_context(place.hub())
        asked: dict[tuple[str, str], Sequence[Request]] = {
            (name, era): nothing(Calls(servers[name].target, era, sessions=_CONNECTIONS))
            for name in ("hub", "sdk")
            for era in ERAS
        }
        asked["bare", ""] = nothing(Calls(servers["bare"].target, "2026-07-28"))
        series = {way: _Series() for way in asked}
        for number in range(amount.rounds):
            say(f"round {number + 1} of {amount.rounds}")
            for (name, era), requests in asked.items():
                turn(servers[name], requests, series[name, era], amount.seconds, _CONNECTIONS)
    bare = row("bare uvicorn, always the same answer", "/s", series["bare", ""].rates, of="floor")
    rows: list[Row] = []
    for era in reversed(ERAS):
        ours, floor = series["hub", era], series["sdk", era]
        against = row(f"server of the MCP SDK, {era}", "/s", floor.rates, of="floor", against=bare)
        slow = row(f"server of the MCP SDK, {era}: one of them", "ms", floor.times, of="floor")
        rows += [
            row(f"tool that does nothing, {era}", "/s", ours.rates, target=_TARGET_RATE, against=against),
            row(f"tool that does nothing, {era}: one of them", "ms", ours.times, against=slow),
            row(f"tool that does nothing, {era}: processor time of the hub", "ms", ours.cpu),
            against,
            slow,
        ]
    taken = [value for each in series.values() for value in each.load]
    return [
        *rows,
        bare,
        row("the load itself, of one core", "%", taken, note=f"{_CONNECTIONS} connections, one process"),
    ]


def search(place: Place) -> list[Row]:
    """Search with many clients: at the rate that is wanted, at the highest that is quick, and as fast as it goes."""
    amount = place.amount
    rows: list[Row] = []
    with place.hub() as hub:
        ways = {
            "MCP 2026-07-28": searches(Calls(hub.target, "2026-07-28"), place.queries),
            "MCP 2025-11-25": searches(Calls(hub.target, "2025-11-25", sessions=amount.clients), place.queries),
            "REST": rest_searches(hub.target, place.queries),
        }
        # A connection's queries are none that another way has asked just before: all have the same, in another order.
        part = math.ceil(len(place.queries) / len(ways))
        ways = {name: [*each[part * n :], *each[: part * n]] for n, (name, each) in enumerate(ways.items())}
        load(hub.target.port, ways["REST"], connections=2, seconds=min(3.0, amount.search_seconds))
        free = _Series()
        turn(hub, nothing(Calls(hub.target, "2026-07-28")), free, amount.seconds, amount.clients)
        floor = row(
            f"tool that does nothing, {amount.clients} clients", "ms", free.times, of="floor", note="as fast as it goes"
        )
        for name, requests in ways.items():
            say(name)
            rows += _at_rate(hub, name, requests, place, floor)
        rows += _quick(hub, ways["MCP 2026-07-28"], place)
        few = ways["MCP 2026-07-28"][:100]  # fewer than the hub keeps vectors of
        again = _Series()
        turn(hub, few, again, amount.search_seconds, amount.clients)
        rows.append(row("the same 100 queries over again, as fast as it goes, MCP 2026-07-28", "/s", again.rates))
    return [*rows, floor]


def _at_rate(hub: Server, name: str, requests: Sequence[Request], place: Place, floor: Row) -> list[Row]:
    amount = place.amount
    came = load(
        hub.target.port,
        requests,
        connections=amount.clients,
        seconds=amount.search_seconds,
        warm_up=_WARM_UP,
        rate=amount.rate,
    )
    check(came)
    fast = _Series()
    turn(hub, requests, fast, amount.search_seconds, amount.clients)
    asked = f"{amount.rate:.0f} searches a second asked for by {amount.clients} clients, {name}"
    times = came.times()
    return [
        row(f"{asked}: answered", "/s", came.rates(), target=_SEARCH_RATE),
        row(f"{asked}: p95", "ms", [p95(times)], target=_SEARCH_MS),
        row(f"{asked}: one of them", "ms", times, against=floor, note="since it was due"),
        row(f"as fast as it goes, {name}", "/s", fast.rates),
        row(f"as fast as it goes, {name}: processor time of the hub", "ms", fast.cpu),
        row(f"as fast as it goes, {name}: the load itself, of one core", "%", fast.load),
    ]


def _quick(hub: Server, requests: Sequence[Request], place: Place) -> list[Row]:
    """The highest rate of those that were tried at which 95 of 100 searches take less than is wanted."""
    amount = place.amount
    best, slowest = 0.0, 0.0
    for rate in _STEPS:
        if rate > amount.rate:
            break
        came = load(
            hub.target.port,
            requests,
            connections=amount.clients,
            seconds=amount.search_seconds / 2,
            warm_up=_WARM_UP,
            rate=rate,
        )
        check(came)
        slow = p95(came.times())
        say(f"{rate} a second: p95 {slow:.1f} ms")
        if slow >= _SEARCH_MS:
            break
        best, slowest = rate, slow
    tried = ", ".join(str(step) for step in _STEPS if step <= amount.rate)
    return [
        row(
            f"highest rate with p95 under {_SEARCH_MS:.0f} ms, MCP 2026-07-28",
            "/s",
            [best],
            target=_SEARCH_RATE,
            note=f"of {tried or 'none'}" + (f"; its p95 was {slowest:.1f} ms" if best else ""),
        )
    ]


def p95(times: Sequence[float]) -> float:
    """As in the tables."""
    return sorted(times)[min(len(times) - 1, int(0.95 * len(times)))]
