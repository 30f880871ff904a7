"""The hub's HTTP server: its sockets, who may connect to them, and its end. It runs in the hub's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from adaptive_llm_gateway.core import ConfigError, HttpSettings, StorageError
from adaptive_llm_gateway.server._http_app import HttpApp, health
from adaptive_llm_gateway.server._http_door import Door
from adaptive_llm_gateway.server._http_hosts import is_loopback, networks, within
from adaptive_llm_gateway.server._http_mcp import McpOverHttp
from adaptive_llm_gateway.server._http_protocol import Connection, Limits
from adaptive_llm_gateway.server._http_tls import Certificate, check_exposure
from adaptive_llm_gateway.server._metrics import MetricsRoute
from adaptive_llm_gateway.server._observe import Observation, Observer
from adaptive_llm_gateway.server._tracing import TracedRequests

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer
    from starlette.types import ASGIApp

_log = logging.getLogger(__name__)

_BACKLOG = 1024
_FULL_SECONDS = 1.0  # after there was no file handle left for another connection
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_MESSAGE_BYTES = 64 * 1024  # from a client with a WebSocket, which only listens
_WATCH_SECONDS = 5.0
_CUT_OFF_SECONDS = 1.0
_DEAD_SECONDS = 60  # a client whose machine is gone is noticed
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\nretry-after: 5\r\n\r\n"


class HttpServer:
    """Serves one hub by HTTP.

    Args:
        door: says whom a token belongs to.
        waiting: names of parts of the hub that are not ready.
        asked: called for each request that was let in.
        answers: what else answers, by the beginning of its paths: `/api/v1`.
        observer: observes every request.
    """

    def __init__(
        self,
        settings: HttpSettings,
        mcp: MCPServer[Any],
        *,
        door: Door,
        waiting: Callable[[], Awaitable[Sequence[str]]],
        asked: Callable[[], None],
        answers: Mapping[str, ASGIApp] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._settings = settings
        self._door = door
        self._mcp = McpOverHttp(mcp, max_body=settings.max_body_bytes, max_sessions=settings.max_sessions)
        observer = observer or Observer()
        paths: dict[str, ASGIApp] = {**(answers or {}), **health(waiting), "/mcp": self._mcp}
        paths["/metrics"] = MetricsRoute(observer)
        if observer.tracing is not None:
            paths = {path: TracedRequests(each, observer.tracing) for path, each in paths.items()}
        if observer.metrics is not None:
            observer.metrics.look_up("alg_http_connections", "Open connections.", lambda: len(self._state.connections))
        self._app = HttpApp(settings, door=door, answers=paths, asked=asked)
        self._config = Config(
            Observation(self._app, observer),
            interface="asgi3",
            http=Connection,
            ws="websockets-sansio",
            ws_max_size=_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # its tables are as large as all the rest of a connection
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=settings.idle_seconds,  # pyright: ignore[reportArgumentType] - seconds of a timer
        )
        self._state = ServerState()
        self._limits = Limits.of(settings)
        self._proxies = networks(settings.trusted_proxies)
        self._certificate: Certificate | None = None
        self._only_proxies = False
        self._open: Counter[str] = Counter()
        self._left = asyncio.Event()  # set while nobody is connected
        self._left.set()
        self._sockets: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._greeting: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Listen.

        Raises:
            ConfigError: it may not listen there, or cannot.
            StorageError: the port is another process's.
        """
        settings = self._settings
        found = await self._addresses()
        addresses = [str(each[4][0]) for each in found]
        check_exposure(settings, addresses, clients=self._door.anyone())
        if settings.tls_certificate is not None and settings.tls_key is not None:
            self._certificate = await asyncio.to_thread(Certificate, settings.tls_certificate, settings.tls_key)
        self._only_proxies = self._certificate is None and not all(map(is_loopback, addresses))
        self._sockets = self._bound(found)
        self._config.load()
        await self._mcp.begin()
        self._tasks = [asyncio.create_task(self._accept(each)) for each in self._sockets]
        self._tasks.append(asyncio.create_task(self._watch()))
        _log.info("HTTP at %s", self.url)

    @property
    def url(self) -> str:
        """Where it listens, such as `http://127.0.0.1:8377`."""
        address, port = self._sockets[0].getsockname()[:2]
        scheme = "http" if self._certificate is None else "https"
        return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"

    @property
    def connections(self) -> int:
        """How many there are."""
        return self._open.total()

    async def end(self, seconds: float) -> None:
        """Take no more connections, let requests end that have begun, for so long, and go."""
        for task in (*self._tasks, *self._greeting):
            task.cancel()
        for each in self._sockets:
            each.close()
        self._app.going.set()
        for connection in list(self._state.connections):
            connection.shutdown()
        self._mcp.end_streams()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=seconds)
        await self._mcp.end()
        late = set(self._state.tasks)
        self._app.give_up(late)
        if late:
            await asyncio.wait(late, timeout=_CUT_OFF_SECONDS)
        for end in (_shut, _abort):
            for connection in list(self._state.connections):
                end(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CUT_OFF_SECONDS):
                    await self._left.wait()

    # -- listening ---------------------------------------------------------------------------------------------

    async def _addresses(self) -> list[tuple[Any, ...]]:
        host, port = self._settings.host, self._settings.port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"'http.host' is {host!r}, which is no address: {error}", hint="Set it to 127.0.0.1.", key="http.host"
            ) from error
        return list(dict.fromkeys(found))

    def _bound(self, found: Sequence[tuple[Any, ...]]) -> list[socket.socket]:
        host, port = self._settings.host, self._settings.port
        bound: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in found:
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

    # -- connections -------------------------------------------------------------------------------------------

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                one, peer = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno in _FULL:
                    _log.warning("no more connections by HTTP for now: %s", error.strerror)
                    await asyncio.sleep(_FULL_SECONDS)
                continue
            if not self._admits(str(peer[0])):
                if self._certificate is None:
                    with contextlib.suppress(OSError):
                        one.send(_BUSY)
                one.close()
                continue
            key = self._key(str(peer[0]))
            self._open[key] += 1
            self._left.clear()
            task = asyncio.create_task(self._greet(one, key))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    def _admits(self, peer: str) -> bool:
        if self._only_proxies and not is_loopback(peer) and not within(peer, self._proxies):
            return False
        if self.connections >= self._settings.max_connections:
            return False
        # All that comes over loopback or through a proxy has one address.
        if is_loopback(peer) or within(peer, self._proxies):
            return True
        return self._open[self._key(peer)] < self._settings.max_connections_per_address

    @staticmethod
    def _key(peer: str) -> str:
        return ":".join(peer.split(":")[:4]) if ":" in peer and not peer.startswith("::ffff:") else peer

    async def _greet(self, one: socket.socket, key: str) -> None:
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]
                if not self._open:
                    self._left.set()

        factory = partial(Connection, self._config, self._state, limits=self._limits, release=release)
        tls: dict[str, Any] = {}
        if self._certificate is not None:
            tls = {"ssl": self._certificate.context(), "ssl_handshake_timeout": self._limits.header_seconds}
        try:
            _tuned(one)
            await asyncio.get_running_loop().connect_accepted_socket(factory, one, **tls)
        except BaseException as error:
            release()
            one.close()
            if not isinstance(error, OSError | TimeoutError):  # they went, or do not speak TLS
                raise

    async def _watch(self) -> None:
        """Cut off whose token counts no more."""
        while True:
            await self._door.changed(within=_WATCH_SECONDS)
            self._app.cut_off(self._door.counts)
            await self._mcp.end_sessions(self._door.counts)


def _shut(connection: Any) -> None:
    connection.shutdown()


def _abort(connection: Any) -> None:
    connection.transport.abort()


def _tuned(one: socket.socket) -> None:
    one.setblocking(False)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _DEAD_SECONDS), ("TCP_KEEPINTVL", _DEAD_SECONDS // 4), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            one.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_SECONDS * 1000)
