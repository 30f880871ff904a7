"""The hub's HTTP server: its sockets, who may connect to them, and its end. It runs in the hub's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from adaptive_llm_gateway.core import ConfigError, HttpSettings, StorageError
from adaptive_llm_gateway.server._http_app import HttpApp
from adaptive_llm_gateway.server._http_door import Door
from adaptive_llm_gateway.server._http_mcp import McpOverHttp

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

_log = logging.getLogger(__name__)

_BACKLOG = 1024
_FULL_SECONDS = 1.0  # after there was no file handle left for another connection
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class HttpServer:
    """Serves one hub by HTTP.

    Args:
        waiting: names of parts of the hub that are not ready.
        asked: called for each request that was let in.
    """

    def __init__(
        self,
        settings: HttpSettings,
        mcp: MCPServer[Any],
        *,
        door: Door,
        waiting: Callable[[], Sequence[str]],
        asked: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._mcp = McpOverHttp(mcp, max_body=settings.max_body_bytes)
        app = HttpApp(door=door, parts={"/mcp": self._mcp}, waiting=waiting, asked=asked)
        self._config = Config(
            app,
            interface="asgi3",
            http=HttpToolsProtocol,
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=max(1, round(settings.idle_seconds)),
        )
        self._state = ServerState()
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Listen.

        Raises:
            ConfigError: the address is none of this machine's.
            StorageError: the port is another process's.
        """
        self._sockets = await self._bound()
        self._config.load()
        await self._mcp.begin()
        self._accepting = [asyncio.create_task(self._accept(each)) for each in self._sockets]
        _log.info("HTTP at %s", self.url)

    @property
    def url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:8377`."""
        address, port = self._sockets[0].getsockname()[:2]
        return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"

    async def end(self, seconds: float) -> None:
        """Take no more connections, let requests end that have begun, for so long, and go."""
        for task in self._accepting:
            task.cancel()
        for each in self._sockets:
            each.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._mcp.end()
        if self._state.tasks:
            _, late = await asyncio.wait(self._state.tasks, timeout=seconds)
            for task in late:
                task.cancel()
        for connection in list(self._state.connections):
            connection.transport.close()  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue]

    async def _bound(self) -> list[socket.socket]:
        host, port = self._settings.host, self._settings.port
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"'http.host' is {host!r}, which is no address: {error}", hint="Set it to 127.0.0.1.", key="http.host"
            ) from error
        bound: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                each = socket.socket(family, kind, protocol)
                bound.append(each)
                each.setblocking(False)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                each.bind((address[0], bound[0].getsockname()[1] if len(bound) > 1 else port, *address[2:]))
                each.listen(_BACKLOG)
        except OSError as error:
            for each in bound:
                each.close()
            raise StorageError(
                f"cannot listen at {host!r}, port {port}: {error.strerror}",
                hint="Another program may have the port: set `http.port` to another, or 0 for any.",
                host=host,
                port=port,
            ) from error
        return bound

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                one, _ = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in _FULL:
                    _log.warning("no more connections by HTTP for now: %s", error.strerror)
                    await asyncio.sleep(_FULL_SECONDS)
                continue
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                await loop.connect_accepted_socket(self._protocol, one)
            except OSError:
                one.close()

    def _protocol(self) -> asyncio.Protocol:
        return HttpToolsProtocol(self._config, self._state, {})
