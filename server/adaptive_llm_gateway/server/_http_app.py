"""The hub's answers by HTTP, as an ASGI application: who is let in, and to what. What listens is in `_http.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.server._access import IN_SCOPE, NOTHING, ROUTE_SCOPES, RouteScope, acting_for
from adaptive_llm_gateway.server._http_door import Door, Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

HeaderList = tuple[tuple[bytes, bytes], ...]

SECURITY: Final[HeaderList] = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""What every answer has, unless whoever gives it says otherwise."""


async def answer(
    send: Send, status: int, body: bytes = b"", *, headers: HeaderList = (), kind: bytes = b"application/json"
) -> None:
    """One whole answer."""
    about = ((b"content-type", kind),) if body else ()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *about, *headers]})
    await send({"type": "http.response.body", "body": body})


class HttpApp:
    """Looks at every request, and hands those that may pass to what answers them.

    Args:
        door: says whom a token belongs to.
        parts: what answers, by the beginning of the path: `/mcp`, `/api/v1`.
        waiting: names of parts of the hub that are not ready.
        asked: called for each request that was let in.
    """

    def __init__(
        self,
        *,
        door: Door,
        parts: Mapping[str, ASGIApp],
        waiting: Callable[[], Sequence[str]],
        asked: Callable[[], None],
    ) -> None:
        self._door = door
        self._parts = dict(parts)
        self._waiting = waiting
        self._asked = asked
        self._routes = Routes(ROUTE_SCOPES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with acting_for(NOTHING):  # whatever is done before a token was accepted is done for nobody
            await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def secured(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers: list[tuple[bytes, bytes]] = list(message["headers"])
                names = {name for name, _ in headers}
                headers += [header for header in SECURITY if header[0] not in names]
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._routed(scope, receive, secured)
        except Exception:  # the caller is told nothing of it
            _log.exception("a request by HTTP failed")
            if begun:
                raise
            await answer(secured, 500)

    async def _routed(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        method: str = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
        needed = self._routes.find(method, path)
        if isinstance(needed, tuple):
            await answer(send, 405 if needed else 404, headers=((b"allow", ", ".join(needed).encode()),) * bool(needed))
        elif needed == "public":
            await self._public(path, send)
        else:
            await self._for_client(needed, scope, receive, send)

    async def _public(self, path: str, send: Send) -> None:
        if path == "/healthz":
            await answer(send, 200, b'{"status":"ok"}')
            return
        waiting = self._waiting()
        names = ",".join(f'"{name}"' for name in waiting).encode()
        body = b'{"ready":%s,"waiting":[%s]}' % (b"false" if waiting else b"true", names)
        await answer(send, 503 if waiting else 200, body)

    async def _for_client(self, needed: RouteScope, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        access = await self._door.authenticate(scope["headers"], client[0] if client else "")
        if isinstance(access, Refusal):
            await answer(send, access.status, headers=access.headers)
            return
        if needed not in ("token", *access.scopes):
            await answer(send, 403)
            return
        self._asked()
        scope[IN_SCOPE] = access
        with acting_for(access):
            await self._part(scope["path"])(scope, receive, send)

    def _part(self, path: str) -> ASGIApp:
        return next(part for prefix, part in self._parts.items() if path == prefix or path.startswith(f"{prefix}/"))


class Routes:
    """Finds what a request needs, in a table of methods and paths, whose `{...}` stand for one segment each."""

    def __init__(self, table: Mapping[tuple[str, str], RouteScope]) -> None:
        self._whole: dict[str, dict[str, RouteScope]] = {}
        self._parted: dict[int, list[tuple[list[str], dict[str, RouteScope]]]] = {}
        for (method, path), scope in table.items():
            self._methods_of(path)[method] = scope
            if method == "GET" and scope == "public":
                self._methods_of(path)["HEAD"] = scope

    def _methods_of(self, path: str) -> dict[str, RouteScope]:
        if "{" not in path:
            return self._whole.setdefault(path, {})
        parts = path.split("/")
        rows = self._parted.setdefault(len(parts), [])
        for known, methods in rows:
            if known == parts:
                return methods
        rows.append((parts, {}))
        return rows[-1][1]

    def find(self, method: str, path: str) -> RouteScope | tuple[str, ...]:
        """What it needs; or the methods that there are instead, none when there is no such path."""
        methods = self._whole.get(path)
        if methods is None:
            parts = path.split("/")
            for known, found in self._parted.get(len(parts), []):
                if all(one == part or (one[:1] == "{" and part) for one, part in zip(known, parts, strict=True)):
                    methods = found
                    break
        if methods is None:
            return ()
        needed: Any = methods.get(method)
        return needed if needed is not None else tuple(sorted(set(methods) - {"WEBSOCKET"}))
