"""The REST API over a hub's operations, on loopback, with callers whose rights a test chooses."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import uvicorn

from adaptive_llm_gateway.core import Home, Settings
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._access import ACCESS, IN_SCOPE, Access
from adaptive_llm_gateway.server._gate import SecretGate
from adaptive_llm_gateway.server._gateway_operations import GatewayOperations
from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
from adaptive_llm_gateway.server._operations import Operations
from adaptive_llm_gateway.server._rest import build_api
from adaptive_llm_gateway.server._services import Services

ALL = Access(client="tester")
TRIAL: dict[str, Any] = {"gateway": {"discover": False}, "providers": {"trial": {"kind": "built_in"}}}
TESTER = "test"
"""The token that allows everything."""
_WAIT = 60.0


class RestServer:
    """Serves the API until it is left.

    Attributes:
        callers: what each token allows; `test` everything.
        url: where it is.
        folder: where its home and its store lie.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any] | None = None, store: dict[str, Any] | None = None
    ) -> None:
        self.callers: dict[str, Access] = {TESTER: ALL}
        self.url = ""
        self.folder = folder
        self._store = store or {}
        self._settings = Settings(**(settings or TRIAL))
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._server: uvicorn.Server | None = None
        self._clients: list[httpx.Client] = []

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_WAIT), "the server did not begin"
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(_WAIT)

    def client(self, token: str | None = TESTER, **headers: str) -> httpx.Client:
        """A client of the API; it is closed with the server."""
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        client = httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=_WAIT, trust_env=False)
        self._clients.append(client)
        return client

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - told to the test
            self._failed = error
            self._ready.set()

    async def _serve(self) -> None:
        home = Home(self.folder / "home")
        home.root.mkdir(exist_ok=True)
        with contextlib.ExitStack() as stack:
            operations = Operations(
                lambda: stack.enter_context(temporary_store(self.folder / "store", **self._store)), commit_wait=30.0
            )
            handoffs = HandoffOperations(operations, self._settings.handoffs, is_connected=lambda _: False)
            gateway = GatewayOperations(home, self._settings, operations, host="testing", upkeep=3600.0)
            services = Services(home, self._settings, operations, handoffs, gateway, SecretGate(operations))
            self.api = build_api(services)
            config = uvicorn.Config(
                self._authenticated, port=0, log_level="error", lifespan="off", ws="none", interface="asgi3"
            )
            self._server = uvicorn.Server(config)
            serving = asyncio.create_task(self._server.serve())
            while not self._server.started and not serving.done():
                await asyncio.sleep(0.01)
            if self._server.started:
                port = self._server.servers[0].sockets[0].getsockname()[1]
                self.url = f"http://127.0.0.1:{port}"
            self._ready.set()
            try:
                await serving
            finally:
                self.api.close()
                handoffs.close()
                await gateway.settle()
                await operations.close()
                await gateway.close()

    async def _authenticated(self, scope: Any, receive: Any, send: Any) -> None:
        """As the hub does it: a request whose token is known carries what it may do."""
        given = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if given in self.callers:
            scope = {**scope, IN_SCOPE: self.callers[given]}
            ACCESS.set(self.callers[given])
        await self.api(scope, receive, send)


@contextlib.contextmanager
def rest_server(folder: Path, *, store: dict[str, Any] | None = None, **settings: Any) -> Generator[RestServer]:
    """The API over a home and a store in `folder`; `store` is for `temporary_store`."""
    folder.mkdir(exist_ok=True)
    with RestServer(folder, settings or None, store) as server:
        yield server
