"""What the modules of MCP tools share: who calls, and what a tool is to the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult

from adaptive_llm_gateway.memory import Author
from adaptive_llm_gateway.server._access import ACCESS

Ctx = Context[Any, Any]
ToolRow = tuple[Callable[..., Awaitable[str | CallToolResult]], str, dict[str, bool]]
"""A tool's function, whose name is the wire name and whose docstring is the description; its title; its hints."""


def author_of(context: Ctx) -> Author:
    """Who calls: the client as it named itself; by HTTP whose token it has, and as what it named itself."""
    params = context.request_context.session.client_params
    given = params.client_info.name if params is not None else ""
    client = ACCESS.get().client
    if client is None:
        return Author(client=client_name(given))
    return Author(client=client, agent=client_name(given) if given else None)


def client_name(text: str) -> str:
    """A client's name on one line, at most 80 characters; `unknown` when there is none."""
    name = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return name[:80] or "unknown"
