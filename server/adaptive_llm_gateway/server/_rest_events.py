"""Changes by HTTP, told as they happen: server-sent events, and the same over a WebSocket.

Plain ASGI: a stream is a task that waits for something to tell, one that waits for the client's end, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, MutableMapping
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import parse_qsl

from fastapi import Query as QueryMark
from pydantic import Field
from starlette.responses import Response

from adaptive_llm_gateway.core import AccessDenied, AlgError, InvalidInput
from adaptive_llm_gateway.server._access import IN_SCOPE, Access
from adaptive_llm_gateway.server._change_events import Wanted, checked_wanted
from adaptive_llm_gateway.server._changes import ChangeFeed
from adaptive_llm_gateway.server._rest_models import Query, UpTo1000
from adaptive_llm_gateway.server._rest_models import Told as ToldModel
from adaptive_llm_gateway.server._rest_problems import PREFIX, problem_of
from adaptive_llm_gateway.server._rest_route import ACTING, Route, answer

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from adaptive_llm_gateway.server._changes import Subscription, Told, WhyEnded
    from adaptive_llm_gateway.server._services import Services

STREAM: Final = f"{PREFIX}/events"
SOCKET: Final = f"{PREFIX}/events/ws"
PROTOCOL: Final = "alg.events.v1"
"""The subprotocol of the WebSocket."""
RETRY_MS: Final = 2_000
_LONGEST_QUERY: Final = 20_000
_MOST_PARAMETERS: Final = 100
_PARAMETERS: Final = ("type", "project", "since_id")
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # a proxy that gathers what it passes on would hold events back
)

CLOSES: Final[Mapping[WhyEnded, tuple[int, str]]] = {
    "stopping": (1012, "the hub stops; connect again in a moment"),
    "unexpected": (1003, "the client sent something; it only listens"),
    "failed": (1011, "changes cannot be read now; connect again later"),
    "token": (4401, "the token does not count any more, or its rights were changed"),
}
"""Why a WebSocket is closed: its code and what is said with it. One that does not read just loses its connection."""


class ChangesQuery(Query):
    """Which changes."""

    since_id: str | None = Field(
        None, description="`next_id` of the page before, or the id of an event; none: from now on"
    )
    type: list[str] = Field([], description="Only of these types; several, or with commas", examples=[["decision"]])
    project: list[str] = Field([], description="Only of these projects; several, or with commas", examples=[["acme"]])
    limit: UpTo1000 = Field(100, description="Most events")


class ChangesTold(ToldModel):
    """What changed."""

    events: list[dict[str, Any]] = Field(
        description="In order, each with its `id` and its `kind`: created, updated, deleted, restored, moved, handoff; "
        "or reset: read everything anew"
    )
    next_id: str = Field(description="The `since_id` of the next request")
    more: bool = Field(description="Whether there may be more by now")


class EventRoutes:
    """Changes of one hub: pages of them, and, as an ASGI application behind authentication, streams at `STREAM` and
    `SOCKET`.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._begun: ChangeFeed | None = None

    @property
    def _feed(self) -> ChangeFeed:
        if self._begun is None:
            services = self._services
            self._begun = ChangeFeed(
                services.operations,
                services.handoffs,
                key=services.mark_key,
                counts=services.counts,
                most=services.settings.http.max_event_streams,
                most_of_client=services.settings.http.max_event_streams_per_client,
            )
        return self._begun

    @property
    def subscribers(self) -> int:
        """How many listen now."""
        return 0 if self._begun is None else self._begun.subscribers

    async def end(self) -> None:
        """Tell those who listen that the hub goes, and let no more in."""
        await self._feed.close()

    def table(self) -> list[Route]:
        """What is no stream."""
        return [
            Route(
                method="GET", path="/changes", run=self.change_list, tag="changes", answer=ChangesTold, problems=(429,)
            )
        ]

    async def change_list(self, asked: Annotated[ChangesQuery, QueryMark()]) -> Response:
        """List what changed since an event. Whoever saw every page, or comes back with the id of the last event, missed
        nothing: changes are told from the memory repos' commits. A memory that changed several times is told once."""
        wanted = checked_wanted(asked.type, asked.project)
        check_types(wanted, await self._types())
        return answer(await self._feed.page(ACTING.get(), wanted, asked.since_id or None, asked.limit))

    async def _types(self) -> Collection[str]:
        return (await self._services.operations.store()).types.names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        socket = scope["type"] == "websocket"
        if socket:
            await receive()  # that it wants to connect
        try:
            access, wanted, since = await self._asked(scope)
            async with self._feed.subscribed(access, wanted, since) as subscriber:
                client = _Socket(scope, receive, send) if socket else _Stream(receive, send)
                await client.serve(subscriber)
        except AlgError as error:
            await problem_of(error)(scope, receive, send)  # also as the answer to whoever wanted a WebSocket

    async def _asked(self, scope: Scope) -> tuple[Access, Wanted, str | None]:
        """Who asks, for what, and since when."""
        access: Access | None = scope.get(IN_SCOPE)
        if access is None:  # whoever mounts this authenticates; one that did not lets nobody in
            raise AccessDenied("the request was not authenticated")
        access.needs("memory:read", "to be told of changes")
        query = read_query(scope["query_string"])
        wanted = checked_wanted(query["type"], query["project"])
        check_types(wanted, await self._types())
        # A browser that connects again by itself repeats the address, and says in the header what it has seen since.
        seen = [value.decode("latin-1").strip() for name, value in scope["headers"] if name == b"last-event-id"]
        return access, wanted, next(iter([*seen, *query["since_id"]]), None) or None


def read_query(raw: bytes) -> dict[str, list[str]]:
    """The parameters of a stream.

    Raises:
        InvalidInput: there are others, or too much of them.
    """
    found: dict[str, list[str]] = {name: [] for name in _PARAMETERS}
    if len(raw) > _LONGEST_QUERY:
        raise InvalidInput(f"the query has {len(raw)} bytes", hint=f"At most {_LONGEST_QUERY} are read.")
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="strict")
    except ValueError:
        raise InvalidInput("the query cannot be read", hint="Names and values are percent-encoded UTF-8.") from None
    for name, value in pairs:
        if name not in found:
            raise InvalidInput(
                "the query has a parameter that there is not", hint=f"There are: {', '.join(_PARAMETERS)}."
            )
        found[name].append(value)
    if len(found["since_id"]) > 1:
        raise InvalidInput("'since_id' is given more than once", hint="Give the id of the last event.")
    return found


def check_types(wanted: Wanted, known: Collection[str]) -> None:
    """Refuse types that there are not.

    Raises:
        InvalidInput: one of them is none.
    """
    for name in wanted.types:
        if name not in known:
            raise InvalidInput(f"{name[:80]!r} is not a memory type", hint=f"Types: {', '.join(known)}.")


class _Gone(Exception):
    """Whoever was to be told something is not there any more."""


class _Client(ABC):
    """One that listens. Its end is waited for beside what it is told."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._message = receive, send

    async def serve(self, subscriber: Subscription) -> None:
        """Tell it what there is to be told, until it goes, or is to be told no more."""
        with contextlib.suppress(_Gone):
            await self._begin()
            await self._serve(subscriber)

    async def _serve(self, subscriber: Subscription) -> None:
        leaving = asyncio.create_task(self._left(subscriber))
        try:
            why: WhyEnded | None = None
            while why is None:
                told = await subscriber.next()
                why = next((each.why for each in told if each.why is not None), None)
                await self._tell(told, why)
        except asyncio.CancelledError:  # cut off: its token does not count any more, or the hub does not wait
            why = subscriber.why_cut_off
            with contextlib.suppress(_Gone):
                await self._tell([subscriber.farewell(why)], why)
            raise
        finally:
            leaving.cancel()

    async def _left(self, subscriber: Subscription) -> None:
        """Wait for its end."""
        subscriber.end(await self._wait())

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        try:
            await self._message(message)
        except OSError as error:  # as the server says that the connection is gone
            raise _Gone from error

    @abstractmethod
    async def _begin(self) -> None: ...

    @abstractmethod
    async def _wait(self) -> WhyEnded: ...

    @abstractmethod
    async def _tell(self, told: list[Told], why: WhyEnded | None) -> None: ...


class _Stream(_Client):
    """A client of server-sent events."""

    async def _begin(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        await self._send({"type": "http.response.body", "body": b"retry: %d\n\n" % RETRY_MS, "more_body": True})

    async def _wait(self) -> WhyEnded:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        return "left"

    async def _tell(self, told: list[Told], why: WhyEnded | None) -> None:
        body = b"".join(event_lines(each) for each in told)
        await self._send({"type": "http.response.body", "body": body, "more_body": why is None})


class _Socket(_Client):
    """A client with a WebSocket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(receive, send)
        self._protocol = PROTOCOL if PROTOCOL in scope.get("subprotocols", ()) else None

    async def _begin(self) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": self._protocol, "headers": []})

    async def _wait(self) -> WhyEnded:
        return "left" if (await self._receive())["type"] == "websocket.disconnect" else "unexpected"

    async def _tell(self, told: list[Told], why: WhyEnded | None) -> None:
        for each in told:
            if each.why is None:
                await self._send({"type": "websocket.send", "text": _json(each.json)})
        if why is not None and why in CLOSES:
            code, says = CLOSES[why]
            await self._send({"type": "websocket.close", "code": code, "reason": says})


def event_lines(told: Told) -> bytes:
    """A message as server-sent events have it. A beat has no data: it only says where whoever comes back goes on."""
    lines = [f"id: {told.id}"] if told.id is not None else []
    if told.name == "beat":
        lines.insert(0, ": beat")
    else:
        lines += [f"event: {told.name}", f"data: {_json(told.json)}"]
    return ("\n".join(lines) + "\n\n").encode()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
