"""What a request by HTTP is for, in names of ours: what logs, metrics and traces have in the place of its path."""

from __future__ import annotations

from typing import Final

from adaptive_llm_gateway.server._access import ROUTE_SCOPES
from adaptive_llm_gateway.server._asgi import Scope

QUIET: Final = frozenset({path for (_, path), needed in ROUTE_SCOPES.items() if needed == "public"} | {"/metrics"})
"""Routes that machines ask all the time, and that tell nothing of anybody: an answer that is none of an error is
neither in the audit log nor in the log of requests."""
UNMATCHED: Final = "unmatched"
"""The route of a path that leads nowhere: paths of a caller's own are neither logged nor counted one by one."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_WHOLE: Final = frozenset(path for _, path in ROUTE_SCOPES if "{" not in path)
_PARTED: Final = {path: path.split("/") for _, path in ROUTE_SCOPES if "{" in path}


def method_of(scope: Scope) -> str:
    """A request's method, one of those there are."""
    if scope["type"] == "websocket":
        return "WS"
    method = scope["method"]
    return method if method in _METHODS else "OTHER"


def match(path: str) -> tuple[str, tuple[str, ...]]:
    """The route of a path, and what stands in it in the places of names."""
    if path in _WHOLE:
        return path, ()
    parts = path.split("/")
    for route, known in _PARTED.items():
        if len(known) == len(parts) and all(
            one == part or (one.startswith("{") and part) for one, part in zip(known, parts, strict=True)
        ):
            return route, tuple(part for one, part in zip(known, parts, strict=True) if one.startswith("{"))
    return UNMATCHED, ()
