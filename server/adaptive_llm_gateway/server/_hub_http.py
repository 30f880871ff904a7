"""The hub's part in HTTP: begins to listen beside the socket, tries again where that failed, and tells how it stands.

Nothing heavy is imported here: where `http.enabled` is false, nothing of a server by HTTP is loaded.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from adaptive_llm_gateway.core import AlgError, HttpSettings
from adaptive_llm_gateway.server._http_door import Door
from adaptive_llm_gateway.server._observe import Observer

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from adaptive_llm_gateway.server._http import HttpServer
    from adaptive_llm_gateway.server._rest import Api
    from adaptive_llm_gateway.server._services import Services

_log = logging.getLogger(__name__)

_AGAIN_SECONDS = 5.0
_OTHER_FILES = 1_024  # of the store, the index, git and clients at the socket


def allow_connections(connections: int) -> int:
    """Let this process have as many files open as that many connections take, where the system allows it: what a
    process may have is often 1,024, and ten times that or more when it asks.

    Returns:
        How many connections there may be, so that files are left for everything else.
    """
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return connections
    return max(1, min(connections, soft - min(_OTHER_FILES, soft // 2)))


class HubHttp:
    """Listens for one hub where its settings want that.

    Args:
        waiting: names of parts of the hub that are not ready.
        asked: called for each request that was let in.
        door: says whom a token belongs to.
        observer: observes every request, and the beginning and the end.
        resource: tells who issues tokens for this hub, where somebody else does (RFC 9728).
    """

    def __init__(
        self,
        settings: HttpSettings,
        *,
        waiting: Callable[[], Awaitable[Sequence[str]]],
        asked: Callable[[], None],
        door: Door,
        observer: Observer,
        resource: Callable[[], bytes] | None = None,
    ) -> None:
        self._settings = settings
        self._observer = observer
        self._resource = resource
        self._waiting = waiting
        self._asked = asked
        self._door = door
        self._server: HttpServer | None = None
        self._api: Api | None = None
        self._problem: AlgError | None = None

    @property
    def listens(self) -> bool:
        """Whether it does, or is about to; a hub that does is not idle, however long nobody comes."""
        return self._settings.enabled and self._problem is None

    def status(self) -> dict[str, Any]:
        """How it stands: `off`, `starting`, `listening` or `failed`; where, or why not."""
        if self._server is not None:
            return {"state": "listening", "url": self._server.url, "problem": None, "hint": None}
        if self._problem is not None:
            return {"state": "failed", "url": None, "problem": str(self._problem), "hint": self._problem.hint}
        return {"state": "starting" if self._settings.enabled else "off", "url": None, "problem": None, "hint": None}

    async def run(self, mcp: MCPServer[Any], services: Services) -> None:
        """Listen as soon as that is possible, until cancelled."""
        if not self._settings.enabled:
            return
        wanted, allowed = self._settings.max_connections, allow_connections(self._settings.max_connections)
        if allowed < wanted:
            _log.warning("%d connections by HTTP at most, for this process may have no more files open", allowed)
        settings = self._settings.model_copy(update={"max_connections": allowed})
        # In a thread: whoever waits at the socket for an answer does not wait for this.
        package = "adaptive_llm_gateway.server"
        module = await asyncio.to_thread(importlib.import_module, f"{package}._http")
        app = await asyncio.to_thread(importlib.import_module, f"{package}._http_app")
        rest = await asyncio.to_thread(importlib.import_module, f"{package}._rest")
        api: Api = await asyncio.to_thread(rest.build_api, services)
        self._api = api
        if (metrics := self._observer.metrics) is not None:
            metrics.look_up("alg_event_subscribers", "Who listens for changes.", lambda: api.subscribers)
        while True:
            server: HttpServer = module.HttpServer(
                settings,
                mcp,
                door=self._door,
                waiting=self._waiting,
                asked=self._asked,
                answers={rest.PREFIX: self._api, app.RESOURCE: app.resource_answer(self._resource)},
                observer=self._observer,
            )
            try:
                await server.begin()
            except AlgError as error:
                self._failed(error)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._server, self._problem = server, None
                self._observer.note("http.start")
                return

    def _failed(self, error: AlgError) -> None:
        if str(error) != str(self._problem):
            _log.warning("not listening by HTTP: %s", error)
        self._problem = error

    async def end(self, seconds: float) -> None:
        """Take no more requests, let those end that have begun, for so long, and go."""
        if self._api is not None:
            await self._api.end_streams()
        if self._server is not None:
            await self._server.end(seconds)
            self._observer.note("http.stop")
        if self._api is not None:
            self._api.close()
