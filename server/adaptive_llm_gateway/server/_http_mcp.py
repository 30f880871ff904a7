"""MCP at `/mcp`: the SDK's Streamable HTTP on the hub's MCP server, each session for the client that began it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio
import pydantic_core
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, AuthorizationContext
from mcp.server.auth.provider import AccessToken
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http import (
    MCP_SESSION_ID_HEADER,
    REQUEST_STREAM_BUFFER_SIZE,
    EventMessage,
    StreamableHTTPServerTransport,
    check_accept_headers,
)
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from mcp_types import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    InitializeRequestParams,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCRequest,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from pydantic import ValidationError
from sse_starlette import EventSourceResponse
from starlette.requests import Request

from adaptive_llm_gateway.server._access import ACCESS, IN_SCOPE, Access

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

_AT_ONCE_SECONDS = 2.0
"""An answer that takes longer is streamed: whoever waits, and what is in between, hears that there will be one."""
_ERA = "2025-11-25"
_IDLE_SECONDS = 30 * 60.0
_MOST_CLIENTS = 4  # as many sessions as that many clients may have; one alone cannot take all
_SAID = 1_000  # characters of what a client says of itself that are kept
_UNANSWERED_BYTES = 8 * 1024


class McpOverHttp:
    """Answers requests to `/mcp` while it is begun and not ended.

    Args:
        max_body: bytes of a request's body.
        max_sessions: of one client.
    """

    def __init__(self, server: MCPServer[Any], *, max_body: int, max_sessions: int) -> None:
        self._manager = _Sessions(server, max_body=max_body, max_sessions=max_sessions)
        self._begun = asyncio.Event()
        self._end = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Be ready for requests."""
        self._task = asyncio.create_task(self._run())
        await self._begun.wait()

    def end_streams(self) -> None:
        """End what would never end by itself."""
        for transport in self._manager.transports():
            transport.close_standalone_sse_stream()

    async def end(self) -> None:
        """End every session, and what is still open of them."""
        self._end.set()
        if self._task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def end_sessions(self, counts: Callable[[Access], bool]) -> None:
        """End the sessions of those who do not count any more."""
        await self._manager.end_sessions(counts)

    async def _run(self) -> None:  # a task group is left by the task that entered it
        async with self._manager.run():
            self._begun.set()
            await self._end.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        access: Access = scope[IN_SCOPE]
        # The SDK keeps for whom it began a session, and answers others as if there were none.
        scope["user"] = _User(access)
        # Nothing is kept to be told again: who comes back is told what comes from now on. The SDK would say nothing.
        if any(name == b"last-event-id" for name, _ in scope["headers"]):
            scope["headers"] = [each for each in scope["headers"] if each[0] != b"last-event-id"]
        await self._manager.handle_request(scope, receive, send)


class _User(AuthenticatedUser):
    """A token's client, as the SDK knows users."""

    def __init__(self, access: Access) -> None:
        super().__init__(AccessToken(token="", client_id=access.owner or "", scopes=[]))
        self.access = access


class _Session:
    """What we know of one of the SDK's: whose it is, and since when it is quiet."""

    __slots__ = ("access", "used")

    def __init__(self, access: Access) -> None:
        self.access = access
        self.used = time.monotonic()


class _Transport(StreamableHTTPServerTransport):
    """A session's answers: as JSON where there is nothing to tell before, which takes half the work of a stream.

    A session that waits for its next message has the last one still in hand, and so its last answer. There may be
    thousands of sessions and megabytes of each, so both are emptied as soon as they were used.
    """

    async def _handle_post_request(self, scope: Scope, request: Request, receive: Receive, send: Send) -> None:
        message = await self._said(request)
        if self._read_stream_writer is None or message is None:
            await super()._handle_post_request(scope, request, receive, send)
        elif isinstance(message, JSONRPCRequest):
            await self._answered(message, scope, request, receive, send)
        elif len(await request.body()) <= _UNANSWERED_BYTES:
            await super()._handle_post_request(scope, request, receive, send)
        else:
            said = f"A message without an answer has at most {_UNANSWERED_BYTES} bytes"
            await self._create_error_response(said, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)(scope, receive, send)

    async def _answered(
        self, message: JSONRPCRequest, scope: Scope, request: Request, receive: Receive, send: Send
    ) -> None:
        assert self._read_stream_writer is not None  # noqa: S101 - who calls this looked
        key = str(message.id)
        self._request_streams[key] = anyio.create_memory_object_stream[EventMessage](REQUEST_STREAM_BUFFER_SIZE)
        told = self._request_streams[key][1]
        first: EventMessage | None = None
        try:
            await self._read_stream_writer.send(self._create_session_message(message, request, key, _ERA))
            with anyio.move_on_after(_AT_ONCE_SECONDS):
                first = await told.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            answer = self._create_error_response("The session has ended", HTTPStatus.NOT_FOUND)
        else:
            if first is None or not isinstance(first.message, JSONRPCResponse | JSONRPCError):
                await self._stream(key, first, told, (scope, receive, send))
                message.params = None
                return
            answer = self._create_json_response(first.message)
            message.params = None
            _empty(first.message)
        finally:
            self._forget(key)
        await answer(scope, receive, send)

    def _create_session_message(
        self, message: JSONRPCRequest, request: Request, request_id: str | int, protocol_version: str
    ) -> SessionMessage:
        if message.method == "initialize":
            message = message.model_copy(update={"params": _begins(message.params)})
        return super()._create_session_message(message, request, request_id, protocol_version)

    def _message_metadata(self, request: Request, **more: Any) -> ServerMessageMetadata:
        return super()._message_metadata(Request(request.scope), **more)  # without the body

    def _create_event_data(self, event_message: EventMessage) -> dict[str, Any]:
        data = super()._create_event_data(event_message)
        _empty(event_message.message)
        return data

    def _create_error_response(
        self,
        error_message: str,
        status_code: HTTPStatus,
        error_code: int = INVALID_REQUEST,
        headers: dict[str, str] | None = None,
    ) -> Response:
        # What the SDK says of a body that is no message quotes it.
        said = "The body is no message of JSON-RPC" if error_code == INVALID_PARAMS else error_message
        return super()._create_error_response(said, status_code, error_code, headers)

    def _forget(self, key: str) -> None:
        """Take no more for a request."""
        for stream in self._request_streams.pop(key, ()):
            stream.close()

    async def _said(self, request: Request) -> JSONRPCMessage | None:
        """The message of a session that is under way; None for whatever else it is, which is the SDK's to judge."""
        if not all(check_accept_headers(request)) or not self._check_content_type(request):
            return None
        if self._get_session_id(request) != self.mcp_session_id:
            return None
        try:
            return jsonrpc_message_adapter.validate_python(pydantic_core.from_json(await request.body()), by_name=False)
        except ValueError:
            return None

    async def _stream(
        self,
        key: str,
        first: EventMessage | None,
        told: MemoryObjectReceiveStream[EventMessage],
        asgi: tuple[Scope, Receive, Send],
    ) -> None:
        """Tell of a request what comes, and its answer at the end."""
        sink, source = anyio.create_memory_object_stream[dict[str, Any]](0)
        self._sse_stream_writers[key] = sink

        async def tell() -> None:
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                if first is not None:
                    await sink.send(self._create_event_data(first))
            await self._run_sse_writer(key, sink, told, None)

        headers = {"Cache-Control": "no-cache, no-transform", MCP_SESSION_ID_HEADER: self.mcp_session_id or ""}
        try:
            await EventSourceResponse(content=source, data_sender_callable=tell, headers=headers)(*asgi)
        finally:
            sink.close()
            source.close()
            self._sse_stream_writers.pop(key, None)


def _empty(message: JSONRPCMessage) -> None:
    """Let go of an answer that was written out."""
    if isinstance(message, JSONRPCResponse):
        message.result = {}


def _begins(params: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a session is begun with, as far as the hub needs it: it is kept as long as the session, and may be as large
    as any body. What is wrong stays as it is, for the SDK to refuse.
    """
    try:
        said = InitializeRequestParams.model_validate(params or {}, by_name=False)
    except ValidationError:
        return params
    client = said.client_info
    return {
        "protocolVersion": said.protocol_version[:_SAID],
        "capabilities": {},  # the hub asks nothing of clients
        "clientInfo": {"name": client.name[:_SAID], "version": client.version[:_SAID]},
    }


class _Sessions(StreamableHTTPSessionManager):
    """The SDK's sessions, so many for each client."""

    def __init__(self, server: MCPServer[Any], *, max_body: int, max_sessions: int) -> None:
        super().__init__(
            server._lowlevel_server,  # pyright: ignore[reportPrivateUsage]
            session_idle_timeout=_IDLE_SECONDS,
            max_request_body_size=max_body,
            max_sessions=_MOST_CLIENTS * max_sessions,
        )
        self._most = max_sessions
        self._known: dict[str, _Session] = {}

    def transports(self) -> list[StreamableHTTPServerTransport]:
        """Those of all sessions."""
        return list(self._server_instances.values())

    async def end_sessions(self, counts: Callable[[Access], bool]) -> None:
        for identifier, session in list(self._known.items()):
            transport = self._server_instances.get(identifier)
            if transport is not None and not counts(session.access):
                await self._discard_session(identifier, transport)

    async def _handle_stateful_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        user: _User = scope["user"]
        named = next((value for name, value in scope["headers"] if name == b"mcp-session-id"), None)
        if named is None:
            await self._make_room(user.access.owner)
        elif (session := self._known.get(named.decode("latin-1"))) and session.access.owner == user.access.owner:
            session.access, session.used = user.access, time.monotonic()
        await super()._handle_stateful_request(scope, receive, send)

    async def _make_room(self, owner: str | None) -> None:
        """End the session of a client that was quiet for longest, if it has as many as it may have."""
        own = [each for each, session in self._known.items() if session.access.owner == owner]
        if len(own) >= self._most:
            oldest = min(own, key=lambda each: self._known[each].used)
            transport = self._server_instances.get(oldest)
            if transport is not None:
                await self._discard_session(oldest, transport)

    def _admit_session(self, requestor: AuthorizationContext | None) -> StreamableHTTPServerTransport | None:
        if requestor is None or len(self._server_instances) >= _MOST_CLIENTS * self._most:
            return None
        identifier = uuid4().hex
        transport = _Transport(mcp_session_id=identifier, idle_timeout=_IDLE_SECONDS)
        self._session_owners[identifier] = requestor
        self._server_instances[identifier] = transport
        self._known[identifier] = _Session(ACCESS.get())
        return transport

    async def _discard_session(self, session_id: str, transport: StreamableHTTPServerTransport) -> None:
        self._known.pop(session_id, None)
        await super()._discard_session(session_id, transport)
