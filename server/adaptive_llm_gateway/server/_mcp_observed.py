"""Observes calls of tools, resources and prompts, by whichever way they come."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult

from adaptive_llm_gateway.core import AccessDenied
from adaptive_llm_gateway.server._access import ACCESS, IN_SCOPE, PROMPT_SCOPES, RESOURCE_SCOPES, TOOL_SCOPES, Access
from adaptive_llm_gateway.server._call import CALL_IN_SCOPE, Call, touched
from adaptive_llm_gateway.server._mcp_shared import client_name
from adaptive_llm_gateway.server._observe import Observer

UNKNOWN: Final = {"tools/call": "unknown_tool", "resources/read": "unknown_resource", "prompts/get": "unknown_prompt"}
"""What a call is called whose name is none of ours: that may be any text."""
_SCOPES: Final = {"tools/call": TOOL_SCOPES, "resources/read": RESOURCE_SCOPES, "prompts/get": PROMPT_SCOPES}
_CHANGING_PROMPTS: Final = frozenset({"resume"})  # it claims
_IDS: Final = ("id", "session", "session_id")


class ObservedCalls:
    """Middleware, outside of what refuses, so that a call that is refused is observed, too."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._changing: dict[str, bool] = {}

    def learn(self, server: MCPServer[Any]) -> None:
        """Which tools there are, and which of them change something."""
        self._changing = {
            tool.name: not (tool.annotations is not None and tool.annotations.read_only_hint)
            for tool in server._tool_manager.list_tools()  # pyright: ignore[reportPrivateUsage]
        }

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Carry out one request."""
        if ctx.method not in UNKNOWN or self._observer.is_idle:
            return await call_next(ctx)
        scope: Any = getattr(ctx.request, "scope", None)
        found = scope.get(IN_SCOPE) if scope is not None else None
        access = found if isinstance(found, Access) else ACCESS.get()
        with self._call(ctx, scope, access) as call:
            _touch(ctx.params or {})
            denied = call.client is not None and _SCOPES[ctx.method].get(call.action) not in access.scopes
            try:
                result = await call_next(ctx)
            except BaseException:
                if denied:
                    call.ended("refused", AccessDenied.code)
                raise
            if isinstance(result, CallToolResult):
                wrong = bool(result.is_error)
            else:
                wrong = isinstance(result, dict) and bool(result.get("isError"))
            if wrong and denied:
                call.ended("refused", AccessDenied.code)
            elif wrong:
                call.ended("failed", "tool_error")
            return result

    def _call(self, ctx: ServerRequestContext[Any, Any], scope: Any, access: Access) -> AbstractContextManager[Call]:
        within = scope.get(CALL_IN_SCOPE) if scope is not None else None
        action, changes = self._named(ctx.method, ctx.params or {})
        return self._observer.call(
            action,
            transport="stdio" if scope is None else "http",
            changes=changes,
            agent=_agent(ctx),
            within=within if isinstance(within, Call) else None,
            access=access,
        )

    def _named(self, method: str, params: Any) -> tuple[str, bool]:
        if method == "tools/call":
            name = _text(params.get("name"))
            wire = name if name in self._changing else name.replace(".", "_")
            return (wire, self._changing[wire]) if wire in self._changing else (UNKNOWN[method], False)
        if method == "resources/read":
            scheme = str(params.get("uri")).partition("://")[0]
            return (scheme, False) if scheme in RESOURCE_SCOPES else (UNKNOWN[method], False)
        name = _text(params.get("name"))
        return (name, name in _CHANGING_PROMPTS) if name in PROMPT_SCOPES else (UNKNOWN[method], False)


def _text(given: object) -> str:
    """A name as it was given; whatever else was given is no name."""
    return given if isinstance(given, str) else ""


def _touch(params: Mapping[str, Any]) -> None:
    """What a call says that it is about, as far as that is an id."""
    given = params.get("arguments")
    if isinstance(given, Mapping):
        for name in _IDS:
            touched(cast("Mapping[str, Any]", given).get(name))
    uri = params.get("uri")
    if isinstance(uri, str):
        touched(uri.rpartition("://")[2])


def _agent(ctx: ServerRequestContext[Any, Any]) -> str | None:
    with contextlib.suppress(AttributeError):
        params = ctx.session.client_params
        if params is not None:
            return client_name(params.client_info.name)
    return None
