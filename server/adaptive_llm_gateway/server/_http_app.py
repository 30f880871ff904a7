"""The hub's answers by HTTP, as an ASGI application: who is let in, and to what. What listens is in `_http.py`."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.server._access import (
    IN_SCOPE,
    NOTHING,
    Access,
    RouteScope,
    acting_for,
)
from adaptive_llm_gateway.server._call import CALL_IN_SCOPE
from adaptive_llm_gateway.server._http_door import NO_TOKEN, Door, Refusal, with_token_of_protocols
from adaptive_llm_gateway.server._http_hosts import Hosts, forwarded, is_loopback, is_plain_path, networks, origin_of
from adaptive_llm_gateway.server._routes import ROUTES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from adaptive_llm_gateway.core import HttpSettings

_log = logging.getLogger(__name__)

HeaderList = tuple[tuple[bytes, bytes], ...]

SECURITY: Final[HeaderList] = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""What every answer has, unless whoever gives it says otherwise."""
EXPOSED: Final = b"etag, link, location, mcp-session-id, retry-after, www-authenticate, x-request-id"
"""Which headers of an answer a page of an allowed origin may read."""
_NAMES = re.compile(rb"[A-Za-z0-9_, -]{1,1000}")
_PREFLIGHT_SECONDS: Final = b"600"


async def answer(
    scope: Scope,
    send: Send,
    status: int,
    body: bytes = b"",
    *,
    headers: HeaderList = (),
    kind: bytes = b"application/json",
) -> None:
    """One whole answer, also to whoever wanted a WebSocket."""
    about = [(b"content-type", kind)] if body else []
    if status != 204:
        about.append((b"content-length", b"%d" % len(body)))
    before = "websocket." if scope["type"] == "websocket" else ""
    await send({"type": f"{before}http.response.start", "status": status, "headers": [*about, *headers]})
    await send({"type": f"{before}http.response.body", "body": body})


def health(waiting: Callable[[], Awaitable[Sequence[str]]]) -> dict[str, ASGIApp]:
    """What tells whether the hub lives, and whether it is ready: to anybody, hence by the names of its parts alone.

    Args:
        waiting: names of parts that are not ready.
    """

    async def healthz(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - as ASGI has it
        await answer(scope, send, 200, b'{"status":"ok"}')

    async def readyz(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        late = await waiting()
        names = ",".join(f'"{name}"' for name in late).encode()
        body = b'{"ready":%s,"waiting":[%s]}' % (b"false" if late else b"true", names)
        await answer(scope, send, 503 if late else 200, body)

    return {"/healthz": healthz, "/readyz": readyz}


RESOURCE: Final = "/.well-known/oauth-protected-resource"


def resource_answer(document: Callable[[], bytes] | None) -> ASGIApp:
    """What tells who issues tokens for this hub, where somebody else does; there is no such path where nobody does."""

    async def resource(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - as ASGI has it
        if document is None:
            await answer(scope, send, 404)
        else:
            await answer(scope, send, 200, document())

    return resource


_PROBLEMS: Final[dict[int, tuple[str, str, str | None]]] = {
    401: ("unauthenticated", "there is no token, or none that counts", "It is sent as `Authorization: Bearer TOKEN`."),
    403: ("access_denied", "the token does not allow it", "Whoever runs the hub can give its client more."),
    404: ("not_found", "there is no such path", "/api/v1/openapi.json has them all."),
    405: ("method_not_allowed", "the path has no such method", "`Allow` has those that there are."),
    429: ("rate_limited", "there were too many requests", "Try again after the seconds of `Retry-After`."),
    500: ("internal", "the hub failed", None),
    503: ("hub_unavailable", "the hub stops, and this may or may not have been carried out", None),
}
"""The code, the words and the hint of a refusal over REST: the same for everybody."""


class HttpApp:
    """Looks at every request, and hands those that may pass to what answers them.

    Args:
        door: says whom a token belongs to.
        answers: what answers, by the path or its beginning: `/healthz`, `/mcp`, `/api/v1`.
        asked: called for each request that was let in.

    Attributes:
        going: set when the hub goes: what never ends by itself is to end then.
    """

    def __init__(
        self, settings: HttpSettings, *, door: Door, answers: Mapping[str, ASGIApp], asked: Callable[[], None]
    ) -> None:
        self._door = door
        self._answers = dict(answers)
        self._asked = asked
        self._hosts = Hosts.of(settings.host, settings.allowed_hosts)
        self._origins = frozenset(filter(None, map(origin_of, settings.allowed_origins)))
        self._proxies = networks(settings.trusted_proxies)
        self._clear = settings.tls_certificate is None
        self._open: dict[asyncio.Task[Any], Access] = {}
        self._cut_off: dict[asyncio.Task[Any], int] = {}  # with which status, where there is no answer yet
        self._date = (0, b"")
        self.going = asyncio.Event()

    def cut_off(self, counts: Callable[[Access], bool]) -> None:
        """End the requests of those who do not count any more."""
        for task, access in list(self._open.items()):
            if not counts(access):
                self._end(task, 401)

    def give_up(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """End requests that the hub cannot wait for any longer."""
        for task in tasks:
            self._end(task, 503)

    def _end(self, task: asyncio.Task[Any], status: int) -> None:
        self._cut_off[task] = status
        task.add_done_callback(self._forget)
        task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._cut_off.pop(task, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        origin: bytes | None = None
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one

        async def secured(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers: list[tuple[bytes, bytes]] = [(b"date", self._now()), *message["headers"]]
                names = {name for name, _ in headers}
                headers += [header for header in SECURITY if header[0] not in names]
                if origin is not None:
                    headers += _for_page(origin)
                message = {**message, "headers": headers}
            elif message["type"] in ("websocket.accept", "websocket.http.response.start"):
                begun = True
            await send(message)

        try:
            with acting_for(NOTHING):  # whatever is done before a token was accepted is done for nobody
                refused, origin = self._looked_at(scope)
                if refused is not None:
                    await answer(scope, secured, refused)
                else:
                    await self._routed(scope, receive, secured, origin)
        except asyncio.CancelledError:
            status = self._cut_off.get(task)
            if status is None:
                raise
            task.uncancel()
            if not begun and status == NO_TOKEN.status:
                said = self._door.challenge("invalid_token")
                await answer(scope, secured, status, headers=((b"www-authenticate", said),))
            elif not begun:
                await _refuse(scope, receive, secured, status, headers=((b"retry-after", b"1"),))
        except Exception:  # the caller is told nothing of it
            _log.exception("a request by HTTP failed")
            if begun:
                raise
            await _refuse(scope, receive, secured, 500)

    def _now(self) -> bytes:
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]

    def _looked_at(self, scope: Scope) -> tuple[int | None, bytes | None]:
        """The status with which it is refused, whoever it is; and the page's origin, where it is one that may ask."""
        peer, here = scope.get("client"), scope.get("server")
        if self._proxies and peer is not None:
            address, scheme = forwarded(peer[0], scope["headers"], self._proxies)
            if scheme == "http" and self._clear and here is not None and not is_loopback(here[0]):
                return 403, None  # its token came in the clear
            scope["client"] = (address, peer[1])
            if scheme is not None:
                scope["scheme"] = scheme.replace("http", "ws") if scope["type"] == "websocket" else scheme
        hosts: list[bytes] = []
        origins: list[bytes] = []
        site = b""
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
            elif name == b"sec-fetch-site":
                site = value
        if len(hosts) != 1 or len(origins) > 1:
            return 400, None
        if not self._hosts.has(hosts[0].decode("latin-1"), here[0] if here else None):
            return 421, None
        origin = origins[0] if origins else None
        if origin is not None and origin_of(origin.decode("latin-1")) not in self._origins:
            return 403, None
        if origin is None and site in (b"cross-site", b"same-site"):
            return 403, None  # a page that hides where it is from
        if not is_plain_path(scope["raw_path"]):
            return 404, origin
        return None, origin

    async def _routed(self, scope: Scope, receive: Receive, send: Send, origin: bytes | None) -> None:
        method: str = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
        needed = ROUTES.find(method, scope["path"])
        if isinstance(needed, tuple):
            if needed and method == "OPTIONS" and origin is not None:
                await self._preflight(scope, send, needed)
                return
            allow = ((b"allow", ", ".join(needed).encode()),) if needed else ()
            await _refuse(scope, receive, send, 405 if needed else 404, headers=allow)
        elif needed == "public":
            await self._answering(scope["path"])(scope, receive, send)
        else:
            await self._for_client(needed, scope, receive, send)

    async def _preflight(self, scope: Scope, send: Send, methods: tuple[str, ...]) -> None:
        """Tell a browser what a page of an allowed origin may send."""
        asked = dict(scope["headers"])
        headers: list[tuple[bytes, bytes]] = [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            (b"access-control-max-age", _PREFLIGHT_SECONDS),
        ]
        wanted = asked.get(b"access-control-request-headers", b"")
        if _NAMES.fullmatch(wanted):
            headers.append((b"access-control-allow-headers", wanted))
        if asked.get(b"access-control-request-private-network") == b"true":
            headers.append((b"access-control-allow-private-network", b"true"))
        await answer(scope, send, 204, headers=tuple(headers))

    async def _for_client(self, needed: RouteScope, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        headers = with_token_of_protocols(scope["headers"]) if scope["type"] == "websocket" else scope["headers"]
        access = await self._door.authenticate(headers, peer[0] if peer else "")
        if isinstance(access, Refusal):
            if (call := scope.get(CALL_IN_SCOPE)) is not None:
                call.why, call.client = access.why or None, access.client
            await _refuse(scope, receive, send, access.status, headers=access.headers)
            return
        scope[IN_SCOPE] = access
        if needed not in ("token", *access.scopes):
            said = ((b"www-authenticate", self._door.challenge("insufficient_scope", scope=needed)),)
            await _refuse(scope, receive, send, 403, headers=said, says=f"it needs a token with the scope {needed!r}")
            return
        self._asked()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        self._open[task] = access
        try:
            with acting_for(access):
                await self._answering(scope["path"])(scope, receive, send)
        finally:
            del self._open[task]

    def _answering(self, path: str) -> ASGIApp:
        found = self._answers.get(path)
        if found is not None:
            return found
        return next(each for prefix, each in self._answers.items() if path.startswith(f"{prefix}/"))


async def _refuse(
    scope: Scope, receive: Receive, send: Send, status: int, *, headers: HeaderList = (), says: str | None = None
) -> None:
    """Refuse a request: with a problem where the REST API is, else with nothing but the status.

    Args:
        says: more than the status does, for who was let in.
    """
    if scope["type"] != "http" or not scope["path"].startswith("/api/"):
        await answer(scope, send, status, headers=headers)
        return
    from adaptive_llm_gateway.server._rest_problems import problem  # noqa: PLC0415 - loaded with the API

    code, words, hint = _PROBLEMS[status]
    more = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    await problem(code, says or words, status=status, hint=hint, headers=more)(scope, receive, send)


def _for_page(origin: bytes) -> HeaderList:
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", EXPOSED),
        (b"vary", b"origin"),
    )
