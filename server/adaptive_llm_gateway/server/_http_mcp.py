"""MCP at `/mcp`: the SDK's Streamable HTTP on the hub's MCP server, each session for the client that began it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from adaptive_llm_gateway.server._access import IN_SCOPE, Access

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_IDLE_SECONDS = 30 * 60.0


class McpOverHttp:
    """Answers requests to `/mcp` while `run` is under way.

    Args:
        max_body: bytes of a request's body.
    """

    def __init__(self, server: MCPServer[Any], *, max_body: int) -> None:
        self._manager = StreamableHTTPSessionManager(
            server._lowlevel_server,  # pyright: ignore[reportPrivateUsage]
            session_idle_timeout=_IDLE_SECONDS,
            max_request_body_size=max_body,
        )
        self._begun = asyncio.Event()
        self._end = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Be ready for requests."""
        self._task = asyncio.create_task(self._run())
        await self._begun.wait()

    async def end(self) -> None:
        """End every session, and what is still open of them."""
        self._end.set()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:  # a task group is left by the task that entered it
        async with self._manager.run():
            self._begun.set()
            await self._end.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        access: Access = scope[IN_SCOPE]
        # The SDK keeps for whom it began a session, and answers others as if there were none.
        scope["user"] = AuthenticatedUser(AccessToken(token="", client_id=access.client or "", scopes=[]))
        await self._manager.handle_request(scope, receive, send)
