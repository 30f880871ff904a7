"""What a caller may do and see: the scopes of a token, its projects, its trust level.

Who comes by the Unix socket is the person whose hub it is, and may do and see everything. Who comes by HTTP may do what
its token allows; `ACCESS` says so to everything that is done for it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, get_args

from adaptive_llm_gateway.core import AccessDenied, Trust

Scope = Literal["memory:read", "memory:write", "handoff", "gateway", "admin"]
"""What a token can allow; none includes another. `admin`: what concerns the whole hub, and files of its machine."""

SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)


@dataclass(frozen=True, slots=True)
class Access:
    """What one caller may do and see.

    Attributes:
        client: the name of the token's client; None for the person at this machine.
        scopes: what it may do.
        projects: names of projects, with `*`, `?` and `[...]`, whose memories it sees and writes; None: all, and those
            of no project.
        max_trust: the highest trust level that it sees and writes.
    """

    client: str | None = None
    scopes: frozenset[Scope] = frozenset(SCOPES)
    projects: tuple[str, ...] | None = None
    max_trust: Trust = Trust.SECRET

    @property
    def sees_all(self) -> bool:
        """Whether no memory is hidden from it."""
        return self.projects is None and self.max_trust is Trust.SECRET

    def has_project(self, project: str | None) -> bool:
        """Whether memories of this project, or of none, are for it."""
        if self.projects is None:
            return True
        return project is not None and any(fnmatch.fnmatchcase(project, each) for each in self.projects)

    @property
    def owner(self) -> str | None:
        """Whose is what it asks for, by what nobody else is called; None: the person's at this machine."""
        return self.client

    @property
    def reads_memories(self) -> bool:
        """Whether it may be told what memories say beside the handoff or the request that it is about."""
        return "memory:read" in self.scopes

    def needs_for_files(self, what: str) -> None:
        """Refuse to read files of this machine for somebody who is not at it, and whose token does not say `admin`.

        Raises:
            AccessDenied: it lacks the scope.
        """
        if self.client is not None:
            self.needs("admin", what)

    def needs(self, scope: Scope, what: str) -> None:
        """Refuse what its token does not allow.

        Args:
            what: what was asked for, for the message.

        Raises:
            AccessDenied: it lacks the scope.
        """
        if scope not in self.scopes:
            raise AccessDenied(
                f"{what} needs a token with the scope {scope!r}",
                hint=f"This one has: {', '.join(sorted(self.scopes)) or 'none'}. `alg clients` changes that.",
                scope=scope,
            )


EVERYTHING: Final = Access()
"""The person at this machine."""

NOTHING: Final = Access(client="", scopes=frozenset(), projects=(), max_trust=Trust.PUBLIC)
"""Whoever comes by HTTP and whose token was not accepted, or not yet."""

ACCESS: ContextVar[Access] = ContextVar("ACCESS", default=EVERYTHING)
"""What the caller of the current task may do and see."""

IN_SCOPE: Final = "alg.access"
"""Under which key of an ASGI scope a request's `Access` is; there once its token was accepted, and not before."""


@contextmanager
def acting_for(access: Access) -> Generator[None]:
    """Everything done within is done for this caller."""
    token = ACCESS.set(access)
    try:
        yield
    finally:
        ACCESS.reset(token)


TOOL_SCOPES: Final[dict[str, Scope]] = {
    "memory_search": "memory:read",
    "memory_context": "memory:read",
    "memory_summarize_path": "admin",  # it reads files of this machine, not memories
    "memory_read": "memory:read",
    "memory_write": "memory:write",
    "memory_record_decision": "memory:write",
    "memory_record_task": "memory:write",
    "memory_append_session": "memory:write",
    "memory_compact_session": "memory:write",
    "memory_delete": "memory:write",
    "memory_restore": "memory:write",
    "memory_history": "memory:read",
    "memory_status": "memory:read",
    "memory_pull": "memory:write",
    "memory_push": "memory:write",
    "handoff_create": "handoff",
    "handoff_list": "handoff",
    "handoff_claim": "handoff",
    "handoff_update": "handoff",
    "handoff_complete": "handoff",
    "handoff_release": "handoff",
    "gateway_complete": "gateway",
    "gateway_chat": "gateway",
    "gateway_embed": "gateway",
    "gateway_health": "gateway",
    "gateway_route_preview": "gateway",
}
"""Which scope each tool needs. A tool that is not here is offered to nobody by HTTP."""

RESOURCE_SCOPES: Final[dict[str, Scope]] = {"memory": "memory:read", "handoff": "handoff"}
"""Which scope each resource needs, by the scheme of its address."""

PROMPT_SCOPES: Final[dict[str, Scope]] = {"project_context": "memory:read", "resume": "handoff"}
"""Which scope each prompt needs."""

TYPE_SCOPES: Final[dict[str, Scope]] = {
    "handoff": "admin",  # the tools for handoffs know whose one is; who writes their files is anybody
    "route": "admin",  # routing learns from them: they steer which models everybody's requests go to
}
"""Which scope it takes, beside `memory:write`, to write, change, delete or bring back memories of a type."""

RouteScope = Scope | Literal["token", "public"]
"""What a route needs: a scope, any token that is accepted, or nothing."""

ROUTE_SCOPES: Final[dict[tuple[str, str], RouteScope]] = {
    ("GET", "/healthz"): "public",
    ("GET", "/readyz"): "public",
    ("GET", "/metrics"): "admin",
    ("GET", "/.well-known/oauth-protected-resource"): "public",
    ("GET", "/.well-known/oauth-protected-resource/mcp"): "public",
    ("POST", "/mcp"): "token",  # what it asks for needs scopes of its own, by the tables above
    ("GET", "/mcp"): "token",
    ("DELETE", "/mcp"): "token",
    ("GET", "/api/v1/openapi.json"): "token",
    ("GET", "/api/v1/problems/{code}"): "token",
    ("GET", "/api/v1/memories"): "memory:read",
    ("POST", "/api/v1/memories"): "memory:write",
    ("GET", "/api/v1/memories/{id}"): "memory:read",
    ("PUT", "/api/v1/memories/{id}"): "memory:write",
    ("PATCH", "/api/v1/memories/{id}"): "memory:write",
    ("DELETE", "/api/v1/memories/{id}"): "memory:write",
    ("POST", "/api/v1/memories/{id}/restore"): "memory:write",
    ("GET", "/api/v1/memories/{id}/history"): "memory:read",
    ("GET", "/api/v1/search"): "memory:read",
    ("POST", "/api/v1/search"): "memory:read",
    ("POST", "/api/v1/context"): "memory:read",
    ("GET", "/api/v1/status"): "memory:read",
    ("GET", "/api/v1/types"): "memory:read",
    ("POST", "/api/v1/sessions"): "memory:write",
    ("GET", "/api/v1/sessions/{id}"): "memory:read",
    ("POST", "/api/v1/sessions/{id}/entries"): "memory:write",
    ("POST", "/api/v1/sessions/{id}/compact"): "memory:write",
    ("GET", "/api/v1/sync"): "memory:read",
    ("POST", "/api/v1/sync"): "memory:write",
    ("POST", "/api/v1/sync/pull"): "memory:write",
    ("POST", "/api/v1/sync/push"): "memory:write",
    ("GET", "/api/v1/handoffs"): "handoff",
    ("POST", "/api/v1/handoffs"): "handoff",
    ("POST", "/api/v1/handoffs/claim"): "handoff",
    ("GET", "/api/v1/handoffs/{id}"): "handoff",
    ("POST", "/api/v1/handoffs/{id}/claim"): "handoff",
    ("POST", "/api/v1/handoffs/{id}/update"): "handoff",
    ("POST", "/api/v1/handoffs/{id}/complete"): "handoff",
    ("POST", "/api/v1/handoffs/{id}/release"): "handoff",
    ("POST", "/api/v1/gateway/complete"): "gateway",
    ("POST", "/api/v1/gateway/chat"): "gateway",
    ("POST", "/api/v1/gateway/embed"): "gateway",
    ("POST", "/api/v1/gateway/route_preview"): "gateway",
    ("GET", "/api/v1/gateway/health"): "gateway",
    ("GET", "/api/v1/gateway/models"): "gateway",
    ("GET", "/api/v1/receipts"): "gateway",  # the caller's own; with the scope admin, all
    ("GET", "/api/v1/receipts/verify"): "admin",
    ("GET", "/api/v1/audit"): "admin",
    ("GET", "/api/v1/audit/verify"): "admin",
    ("GET", "/api/v1/receipts/{id}"): "gateway",
    ("GET", "/api/v1/changes"): "memory:read",
    ("GET", "/api/v1/events"): "memory:read",
    ("WEBSOCKET", "/api/v1/events/ws"): "memory:read",
}
"""What each route needs, by method (`WEBSOCKET` for one) and path, where `{...}` stands for one segment. There is no
route that is not here: whatever it asks for, the answer is 404. `HEAD` is answered wherever `GET` is, and needs the
same, but for `STREAMS`.
"""

STREAMS: Final = frozenset({"/mcp", "/api/v1/events"})
"""Paths at which what `GET` asks for does not end: there is nothing to tell of it before, and so no `HEAD`."""
