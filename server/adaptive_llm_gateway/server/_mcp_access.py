"""Which of the MCP server's tools, resources and prompts are whose: what a token does not allow is not there for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND

from adaptive_llm_gateway.server._access import (
    ACCESS,
    EVERYTHING,
    IN_SCOPE,
    PROMPT_SCOPES,
    RESOURCE_SCOPES,
    TOOL_SCOPES,
    Access,
    Scope,
    acting_for,
)

METHODS: Final = frozenset(
    {
        "initialize",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/templates/list",
        "server/discover",
        "tools/call",
        "tools/list",
    }
)
"""What can be asked by HTTP; notifications aside."""

_LONGEST_URI: Final = 2_000
"""Of one that is repeated to whoever asked for it."""


def access_of(ctx: ServerRequestContext[Any, Any]) -> Access:
    """For whom a message is to be handled: as its HTTP request says, or the person, whose connection has none.

    Raises:
        MCPError: it came by HTTP, and nobody was let in with it.
    """
    if ctx.request is None and ACCESS.get() is EVERYTHING:
        return EVERYTHING
    found = ctx.request.scope.get(IN_SCOPE) if ctx.request is not None else None
    if not isinstance(found, Access) or not found.client:
        raise MCPError(INTERNAL_ERROR, "Nobody was let in with this request.")
    return found


def has_tool(access: Access, wire: str) -> bool:
    """Whether a tool is there for a caller."""
    return access.client is None or TOOL_SCOPES.get(wire) in access.scopes


class Allowed:
    """Middleware: whatever is done for a message is done for whoever sent it, and what its token does
    not allow is neither listed nor found.

    Args:
        said: a text for a client, without credentials.
    """

    def __init__(self, said: Callable[[str], str]) -> None:
        self._said = said

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        access = access_of(ctx)
        if access is EVERYTHING:
            return await call_next(ctx)
        if ctx.request_id is not None:
            self._refuse_absent(access, ctx.method, dict(ctx.params or {}))
        with acting_for(access):
            return _without_others(access, ctx.method, await call_next(ctx))

    def _refuse_absent(self, access: Access, method: str, params: dict[str, Any]) -> None:
        """The same for what there is not and for what is not the caller's; tools are left to whoever resolves names."""
        if method not in METHODS:
            raise MCPError(METHOD_NOT_FOUND, "Method not found")
        uri = params.get("uri")
        if method == "resources/read" and not _allowed(access, RESOURCE_SCOPES, _scheme(uri)):
            asked = {"uri": self._said(uri)} if isinstance(uri, str) and len(uri) <= _LONGEST_URI else None
            raise MCPError(INVALID_PARAMS, "Unknown resource", asked)
        if method == "prompts/get" and not _allowed(access, PROMPT_SCOPES, params.get("name")):
            raise MCPError(INVALID_PARAMS, "Unknown prompt. `prompts/list` says which there are.")


def _without_others(access: Access, method: str, result: HandlerResult) -> HandlerResult:
    """A list without what is not the caller's."""
    if not isinstance(result, dict):
        return result
    match method:
        case "tools/list":
            return {**result, "tools": [each for each in result["tools"] if has_tool(access, each["name"])]}
        case "prompts/list":
            return {**result, "prompts": _kept(access, PROMPT_SCOPES, result["prompts"], "name")}
        case "resources/list":
            return {**result, "resources": _kept(access, RESOURCE_SCOPES, result["resources"], "uri")}
        case "resources/templates/list":
            named = _kept(access, RESOURCE_SCOPES, result["resourceTemplates"], "uriTemplate")
            return {**result, "resourceTemplates": named}
        case _:
            return result


def _kept(access: Access, table: dict[str, Scope], rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    return [each for each in rows if _allowed(access, table, each[key] if key == "name" else _scheme(each[key]))]


def _allowed(access: Access, table: dict[str, Scope], name: object) -> bool:
    return isinstance(name, str) and table.get(name) in access.scopes


def _scheme(uri: object) -> str | None:
    return uri.partition("://")[0] if isinstance(uri, str) else None
