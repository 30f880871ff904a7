"""Which route a request by HTTP is for, and what that needs: names of ours, which logs, metrics and traces have in the
place of its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from adaptive_llm_gateway.server._access import ROUTE_SCOPES, STREAMS, RouteScope
from adaptive_llm_gateway.server._asgi import Scope

QUIET: Final = frozenset({path for (_, path), needed in ROUTE_SCOPES.items() if needed == "public"} | {"/metrics"})
"""Routes that machines ask all the time, and that tell nothing of anybody: an answer that is none of an error is
neither in the audit log nor in the log of requests."""
UNMATCHED: Final = "unmatched"
"""The route of a path that leads nowhere: paths of a caller's own are neither logged nor counted one by one."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def method_of(scope: Scope) -> str:
    """A request's method, one of those there are."""
    if scope["type"] == "websocket":
        return "WS"
    method = scope["method"]
    return method if method in _METHODS else "OTHER"


class Routes:
    """Finds a path's route in a table of methods and routes, whose `{...}` stand for one segment each."""

    def __init__(self, table: Mapping[tuple[str, str], RouteScope]) -> None:
        self._methods: dict[str, dict[str, RouteScope]] = {}
        self._parted: dict[int, dict[str, list[str]]] = {}
        for (method, route), scope in table.items():
            methods = self._methods.setdefault(route, {})
            methods[method] = scope
            if method == "GET" and route not in STREAMS:
                methods["HEAD"] = scope
            if "{" in route:
                parts = route.split("/")
                self._parted.setdefault(len(parts), {})[route] = parts

    def match(self, path: str) -> tuple[str, tuple[str, ...]]:
        """The route of a path, and what stands in it in the places of names."""
        if path in self._methods and "{" not in path:
            return path, ()
        parts = path.split("/")
        for route, known in self._parted.get(len(parts), {}).items():
            if all(one == part or (one[:1] == "{" and part) for one, part in zip(known, parts, strict=True)):
                return route, tuple(part for one, part in zip(known, parts, strict=True) if one[:1] == "{")
        return UNMATCHED, ()

    def find(self, method: str, path: str) -> RouteScope | tuple[str, ...]:
        """What a request needs; or the methods that there are instead, none when there is no such path."""
        methods = self._methods.get(self.match(path)[0], {})
        needed = methods.get(method)
        return needed if needed is not None else tuple(sorted(set(methods) - {"WEBSOCKET"}))


ROUTES: Final = Routes(ROUTE_SCOPES)
"""The hub's."""
