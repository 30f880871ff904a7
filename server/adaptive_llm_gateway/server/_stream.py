"""One MCP connection over lines: newline-delimited JSON-RPC, as on stdio, handed to the SDK's streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import anyio
import mcp_types
from mcp.server.mcpserver import MCPServer
from mcp.shared._context_streams import create_context_streams
from mcp.shared.dispatcher import as_request_id
from mcp.shared.message import SessionMessage

from adaptive_llm_gateway.server._going import Intake, farewell


def _unreadable(line: bytes) -> bytes:
    """The answer to a line that is no message, addressed to its sender's request where that can be told."""
    identifier: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        found: Any = json.loads(line)
        identifier = cast(dict[str, Any], found).get("id") if isinstance(found, dict) else None
    error = {"code": -32700, "message": "This line is not a JSON-RPC message in valid Unicode."}
    if not isinstance(identifier, str | int):
        identifier = None
    return json.dumps({"jsonrpc": "2.0", "id": identifier, "error": error}).encode() + b"\n"


def _is_new(message: mcp_types.JSONRPCMessage, intake: Intake) -> bool:
    """Whether a line is to be passed on: all are but requests that the next hub will have."""
    match message:
        case mcp_types.JSONRPCRequest():
            return intake.begins(message.id)
        case mcp_types.JSONRPCNotification(method="notifications/cancelled"):  # it will have no answer
            intake.ended(as_request_id((message.params or {}).get("requestId")))
        case _:
            pass
    return True


async def serve_lines(
    server: MCPServer[Any],
    lines: AsyncIterator[bytes],
    writer: asyncio.StreamWriter,
    intake: Intake,
    *,
    resends: bool = False,
) -> None:
    """Serve one client until its lines end or the hub goes. The SDK's own stdio transport runs once per process, so we
    feed it.

    Args:
        resends: whether the other side knows of farewells, see `_going`.
    """
    lowlevel = server._lowlevel_server  # pyright: ignore[reportPrivateUsage]
    to_server, from_client = create_context_streams[SessionMessage | Exception](0)
    to_client, from_server = create_context_streams[SessionMessage](0)

    async def receive() -> None:
        async with to_server:
            async for line in lines:
                try:
                    message = SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
                except ValueError:
                    writer.write(_unreadable(line))
                    continue
                if not _is_new(message.message, intake):
                    continue
                with contextlib.suppress(anyio.BrokenResourceError):
                    await to_server.send(message)

    async def send() -> None:
        async with from_server:
            async for message in from_server:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                writer.write(text.encode("utf-8") + b"\n")
                if isinstance(message.message, mcp_types.JSONRPCResponse | mcp_types.JSONRPCError):
                    intake.ended(message.message.id)
                await writer.drain()

    async def leave() -> None:
        unanswered = await intake.left()
        if resends:
            writer.write(farewell(unanswered))
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        group.start_soon(send)
        group.start_soon(leave)
        with contextlib.suppress(OSError, anyio.ClosedResourceError):
            await lowlevel.run(from_client, to_client, lowlevel.create_initialization_options())
        group.cancel_scope.cancel()
