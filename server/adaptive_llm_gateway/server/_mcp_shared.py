"""What the modules of MCP tools share: who calls, and what a tool is to the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.mcpserver import Context
from mcp_types import CallToolResult

from adaptive_llm_gateway.memory import Author

Ctx = Context[Any, Any]
ToolRow = tuple[Callable[..., Awaitable[str | CallToolResult]], str, dict[str, bool]]
"""A tool's function, whose name is the wire name and whose docstring is the description; its title; its hints."""


def author_of(context: Ctx) -> Author:
    """Who calls: the client as it named itself when it connected."""
    params = context.request_context.session.client_params
    name = params.client_info.name if params is not None else ""
    return Author(client=client_name(name))


def client_name(text: str) -> str:
    """A client's name on one line, at most 80 characters; `unknown` when there is none."""
    name = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return name[:80] or "unknown"
