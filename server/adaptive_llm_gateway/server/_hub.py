"""The hub: the one process of a home that holds store, model and connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from adaptive_llm_gateway.core import AlgError, ConfigError, Home, ProcessLock, Settings, StorageError, Trust
from adaptive_llm_gateway.server._access import ACCESS, EVERYTHING, acting_for
from adaptive_llm_gateway.server._allocator import few_arenas, give_back
from adaptive_llm_gateway.server._authentication import Authentication
from adaptive_llm_gateway.server._caller import CALLER, NOBODY, Caller, caller_of, is_alive
from adaptive_llm_gateway.server._clients import Clients
from adaptive_llm_gateway.server._clients_door import ClientsDoor
from adaptive_llm_gateway.server._gate import SecretGate, use_mark_key
from adaptive_llm_gateway.server._going import GREETING, START_AGAIN, Going, Intake
from adaptive_llm_gateway.server._hub_http import HubHttp
from adaptive_llm_gateway.server._logging import set_up_logging
from adaptive_llm_gateway.server._mark_key import MarkKey, mark_key
from adaptive_llm_gateway.server._mode import ModeSwitch
from adaptive_llm_gateway.server._object_scan import ObjectScan
from adaptive_llm_gateway.server._observers import observer_of
from adaptive_llm_gateway.server._operations import Operations
from adaptive_llm_gateway.server._quotas import Quotas
from adaptive_llm_gateway.server._registration import this_installation
from adaptive_llm_gateway.server._repos import configured_repos, open_memories
from adaptive_llm_gateway.server._services import Services
from adaptive_llm_gateway.server._summaries import Summaries

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from adaptive_llm_gateway.core import PersonalScanner
    from adaptive_llm_gateway.memory import Memories, PostgresConfig, QdrantConfig, RerankerConfig, StoreSettings
    from adaptive_llm_gateway.server._gateway_operations import GatewayOperations
    from adaptive_llm_gateway.server._handoff_operations import HandoffOperations
    from adaptive_llm_gateway.server._jwt import OAuthTokens

_log = logging.getLogger(__name__)

MAX_LINE = 128 * 1024 * 1024  # a request this long is answered; a longer one ends its connection
_READ_BYTES = 1 << 18
_HELLO_SECONDS = 30.0
_UPKEEP_SECONDS = 5.0
_GIVE_BACK_SECONDS = 60.0
_PARTS_SECONDS = 1.0
_LOADED_SECONDS = 5.0  # after the store is open: the model and libraries that are loaded ahead
# How long a hub takes to go, at most: what was begun, what that leaves when it is cut off, the store. A whole end that
# takes longer (something hangs that cannot be cut off) is ended, see `_end_at_once`.
_CALLS_SECONDS = 8.0
_CUT_OFF_SECONDS = 2.0
_STORE_SECONDS = 8.0
_END_SECONDS = 20.0
_LOCK_SECONDS = 1.0  # whoever looks whether a hub is there holds its lock for a moment


def distribution_version() -> str:
    """The installed version of this distribution."""
    return metadata.version("adaptive-llm-gateway")


def store_settings(home: Home, settings: Settings, marks: MarkKey) -> StoreSettings:
    """The store's frozen values from the configuration, and the home's key of marks."""
    from adaptive_llm_gateway.memory import EmbedderConfig, StoreSettings  # noqa: PLC0415 - after the hub listens

    embedder = settings.embedder
    return StoreSettings(
        repo=settings.memory.path or home.memory,
        index=home.index,
        host=_host(),
        max_body_bytes=settings.memory.max_body_bytes,
        commit_wait=settings.memory.commit_wait_ms / 1000,
        watch=settings.memory.watch,
        remote=settings.sync.remote,
        push_after_write=settings.sync.push_after_write,
        push_delay=settings.sync.push_delay_seconds,
        sync_interval=settings.sync.interval_seconds,
        sync_timeout=settings.sync.timeout_seconds,
        trust=Trust(settings.sync.trust),
        read_only=settings.sync.read_only,
        remote_allowances=settings.sync.remote_allowances,
        embedder=EmbedderConfig(
            kind=embedder.kind,
            model=embedder.model,
            url=embedder.url,
            api_key_env=embedder.api_key_env,
            dimensions=embedder.dimensions,
            threads=embedder.threads,
        ),
        reranker=reranker_config(settings),
        rerank_top=settings.reranker.top,
        rerank_timeout=settings.reranker.timeout,
        postgres=postgres_config(settings),
        qdrant=qdrant_config(settings),
        hook_command=(*this_installation(), "secrets", "scan", "--staged"),
        message_command=(*this_installation(), "secrets", "scan", "--message"),
        merge_driver=(*this_installation(), "merge-driver"),
        mark_key=marks.value,
        notices=(marks.notice,) if marks.notice is not None else (),
        personal=_personal_scanner(settings) if settings.memory.personal_data == "raise" else None,
    )


def _personal_scanner(settings: Settings) -> PersonalScanner:
    """What is personal, and of which level: as for the gateway, so that a memory is not one thing here and another
    there.
    """
    from adaptive_llm_gateway.core import PERSONAL_LEVELS, PersonalScanner  # noqa: PLC0415 - 20 ms

    gateway = settings.gateway
    return PersonalScanner(
        levels={kind: gateway.personal_data for kind, level in PERSONAL_LEVELS.items() if level is not None},
        allowed=gateway.personal_allowed,
    )


def _host() -> str:
    return socket.gethostname() or "localhost"


def reranker_config(settings: Settings) -> RerankerConfig:
    """Which reranker is wanted."""
    from adaptive_llm_gateway.memory import RerankerConfig  # noqa: PLC0415 - after the hub listens

    reranker = settings.reranker
    return RerankerConfig(
        kind=reranker.kind,
        model=reranker.model,
        url=reranker.url,
        api_key_env=reranker.api_key_env,
        threads=settings.embedder.threads,  # torch has one number for the whole process
        timeout=reranker.timeout,
    )


def postgres_config(settings: Settings) -> PostgresConfig | None:
    """Where the index lies in PostgreSQL; None when it lies in a file.

    Raises:
        ConfigError: it is to be in PostgreSQL, and no URL is set.
    """
    from adaptive_llm_gateway.memory import PostgresConfig  # noqa: PLC0415 - after the hub listens

    index = settings.index
    if index.kind != "postgres":
        return None
    if index.url is None:
        raise ConfigError(
            "'index.kind' is 'postgres', but 'index.url' is not set",
            hint="Set it to `postgresql://user@host:5432/database`.",
            key="index.url",
        )
    return PostgresConfig(index.url.get_secret_value(), index.schema_name)


def qdrant_config(settings: Settings) -> QdrantConfig | None:
    """Which Qdrant server searches the vectors; None when none does.

    Raises:
        ConfigError: one is to do so, and no URL is set.
    """
    from adaptive_llm_gateway.memory import QdrantConfig  # noqa: PLC0415 - after the hub listens

    index = settings.index
    if index.kind != "qdrant":
        return None
    if index.url is None:
        raise ConfigError(
            "'index.kind' is 'qdrant', but 'index.url' is not set",
            hint="Set it to `http://127.0.0.1:6333` or where the server is.",
            key="index.url",
        )
    return QdrantConfig(index.url.get_secret_value(), index.api_key_env)


def _issuer(settings: Settings) -> OAuthTokens | None:
    """Who looks at the tokens of an issuer elsewhere, where one is configured."""
    if not settings.http.enabled or settings.oauth.issuer is None:
        return None
    from adaptive_llm_gateway.server._jwt import OAuthTokens  # noqa: PLC0415 - most hubs have none

    return OAuthTokens(settings.oauth)


@dataclass(slots=True)
class Connection:
    """One client's connection, for the status."""

    kind: str
    since: float
    writer: asyncio.StreamWriter
    caller: Caller = NOBODY


class Hub:
    """Serves one home until it is stopped or idle.

    Args:
        ready: called once, when clients can connect.
        going: called once, when it begins to go.
        service: a service manager runs it: it does not end when idle, and is started again where it says so.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        *,
        ready: Callable[[], None],
        going: Callable[[], None] = lambda: None,
        service: bool = False,
    ) -> None:
        self.home = home
        self.settings = settings
        self.version = distribution_version()
        self.started = time.time()
        self._ready = ready
        self._going = going
        self.service = service
        self.again = False
        self._connections: dict[int, Connection] = {}
        self._numbers = iter(range(1, sys.maxsize))
        self._stop = asyncio.Event()
        self.going = Going()
        self._idle_since = time.monotonic()
        repos = [repo.path for repo in configured_repos(home, settings)]
        self.marks = mark_key(home.mark_key, repos=repos)
        use_mark_key(self.marks.value)
        self.modes = ModeSwitch(home.mode)
        self.clients = Clients(home.clients)
        self.quotas = Quotas(home.clients_use)
        self.issuer = _issuer(settings)
        authentication = Authentication(self.clients, issuer=self.issuer)
        self.door = ClientsDoor(self.clients, authentication, came=self.quotas.note)
        self.operations = Operations(
            self._open_store,
            commit_wait=settings.memory.commit_wait_ms / 1000,
            compact_sessions_at=settings.memory.compact_sessions_at,
            summaries=Summaries(
                settings.summaries.roots,
                private=(home.root, *repos),
                mark_key=self.marks.value,
            ),
            modes=self.modes,
        )
        self.gate = SecretGate(self.operations)
        self.observer = observer_of(home, settings, version=self.version, operations=self.operations)
        self._asked = time.monotonic()
        self.objects: ObjectScan | None = None
        if settings.secrets.idle_scan:
            self.objects = ObjectScan(
                configured_repos(home, settings),
                home.root,
                quiet=self._quiet_seconds,
                after=settings.secrets.idle_seconds,
            )
            self.operations.objects = self.objects.told
        self._gateway: GatewayOperations | None = None
        self._handoffs: HandoffOperations | None = None
        self._mcp: MCPServer[Any] | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._looking_at_parts = asyncio.Lock()
        self._parts_looked_at = -math.inf
        self._parts_waiting: list[str] = []
        self.http = HubHttp(
            settings.http,
            waiting=self._waiting,
            asked=self._note_request,
            door=self.door,
            observer=self.observer,
            resource=self.issuer.metadata if self.issuer is not None else None,
        )

    @property
    def gateway(self) -> GatewayOperations:
        """What it does with models; there before the first connection is looked at."""
        assert self._gateway is not None  # noqa: S101 - `run` makes it, with the MCP server
        return self._gateway

    @property
    def handoffs(self) -> HandoffOperations:
        """What it does with handoffs; there before the first connection is looked at."""
        assert self._handoffs is not None  # noqa: S101 - `run` makes it, with the MCP server
        return self._handoffs

    def is_connected(self, instance: str) -> bool:
        """Whether this process of a client is connected now, or lives and has not asked yet."""
        connected = any(connection.caller.instance == instance for connection in list(self._connections.values()))
        return connected or is_alive(instance)

    def _services(self) -> Services:
        return Services(
            self.home,
            self.settings,
            self.operations,
            self.handoffs,
            self.gateway,
            self.gate,
            mark_key=self.marks.value,
            counts=self.door.counts,
        )

    def stop(self, *, again: bool = False) -> None:
        """Answer what was begun, flush, and end.

        Args:
            again: another is to follow; a service manager is told so.
        """
        self.again = again or self.again
        self._stop.set()

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._end_at_once("a second signal came")
        self.stop()

    async def run(self) -> None:
        """Serve until stopped."""
        self.modes.begin()  # before anything could connect
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        listener = await self._listen()
        beside: set[asyncio.Task[Any]] = set()
        try:
            self._ready()
            few_arenas()
            # Whoever waits for us wants an answer to `initialize` first; the store follows in a thread.
            from adaptive_llm_gateway.server._gateway_operations import GatewayOperations  # noqa: PLC0415
            from adaptive_llm_gateway.server._handoff_operations import HandoffOperations  # noqa: PLC0415
            from adaptive_llm_gateway.server._mcp import build_server  # noqa: PLC0415 - the SDK takes 0.7 s

            self._gateway = GatewayOperations(
                self.home,
                self.settings,
                self.operations,
                host=_host(),
                mark_key=self.marks.value,
                purse=lambda: self.quotas.purse(ACCESS.get()),
            )
            self._handoffs = HandoffOperations(self.operations, self.settings.handoffs, is_connected=self.is_connected)
            if (metrics := self.observer.metrics) is not None:
                self._gateway.on_receipt.append(metrics.receipt)
            if (tracing := self.observer.tracing) is not None:
                self._gateway.on_receipt.append(tracing.receipt)
            self._mcp = build_server(
                self.operations, self._gateway, self._handoffs, version=self.version, observer=self.observer
            )
            self.operations.open()
            parts = (
                self._upkeep(),
                self.modes.look(),
                self._gateway.load_ahead(),
                self._look_at_objects(),
                self._set_aside(),
                self._give_back(),
                self.http.run(self._mcp, self._services()),
            )
            beside = {asyncio.create_task(part) for part in parts}
            await self._stop.wait()
        finally:
            await self._shut_down(listener, beside)

    async def _set_aside(self) -> None:
        """Have the garbage collector leave alone what is there to stay.

        It goes through all that lives again and again while requests make and drop their own: on a home of 10,000
        memories that took a fifth to a third of the time of a request by HTTP.
        """
        with contextlib.suppress(AlgError):
            await self.operations.store()
        await asyncio.sleep(_LOADED_SECONDS)
        gc.collect()
        gc.freeze()
        _log.info("%d objects set aside from the garbage collector", gc.get_freeze_count())

    async def _give_back(self) -> None:
        """Have what requests needed and left go back to the system, a while after."""
        given = self._asked
        while True:
            await asyncio.sleep(_GIVE_BACK_SECONDS)
            if self._asked > given:
                given = self._asked
                await asyncio.to_thread(give_back)

    async def _listen(self) -> asyncio.AbstractServer:
        path = self.home.socket
        _own_folder(path.parent, inside_home=path.parent == self.home.root)
        path.unlink(missing_ok=True)  # ours to remove: the hub lock is held
        before = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._serve, path=str(path), limit=_READ_BYTES, backlog=128)
        finally:
            os.umask(before)
        self._socket_id = path.stat().st_ino
        return server

    def _open_store(self) -> Memories:
        store = open_memories(self.home, self.settings, store_settings(self.home, self.settings, self.marks))
        _log.info("store open: %s", ", ".join(map(str, store.folders)))
        return store

    async def _shut_down(self, listener: asyncio.AbstractServer, beside: set[asyncio.Task[Any]]) -> None:
        """Go, in this order: nothing new; what was begun is answered; what it left is written, committed and, where
        that is quick, pushed. Nothing waits for longer than its time, and all of it for no longer than `_END_SECONDS`.
        """
        _log.info("stopping")
        self._going()
        watchdog = threading.Timer(_END_SECONDS, self._end_at_once, ("something hangs",))
        watchdog.daemon = True
        watchdog.start()  # to the end of the process, which waits for its threads

        # Nothing new: no connection, and of those that are there no request.
        listener.close()
        with contextlib.suppress(OSError):
            if self.home.socket.stat().st_ino == self._socket_id:
                self.home.socket.unlink()
        self.going.begin(_CALLS_SECONDS)
        for task in beside:
            task.cancel()
        await asyncio.sleep(0)  # they hear of it before the next step

        # What was begun: each connection ends when all is answered. What takes too long is cut off, and gets its
        # receipts.
        for connection in list(self._connections.values()):
            if connection.kind == "new":  # nothing was asked yet
                connection.writer.close()
        serving = {*self._serving, asyncio.create_task(self.http.end(_CALLS_SECONDS))}
        await _ended(serving, _CALLS_SECONDS + _CUT_OFF_SECONDS / 2)
        for task in serving:
            task.cancel()
        await _ended({*serving, *beside}, _CUT_OFF_SECONDS / 2)

        # What it left.
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                if self._gateway is not None:
                    await self._gateway.settle()
                if self._handoffs is not None:
                    self._handoffs.close()
                await self.operations.close()
                if self._gateway is not None:
                    await self._gateway.close()
                await self.quotas.close()
        except TimeoutError:
            self._end_at_once("the store was not closed in time")
        if self.operations.store_state[0] == "open":
            from adaptive_llm_gateway.memory import end_git  # noqa: PLC0415 - loaded since long

            end_git()  # a push that was not quick: it is pending, and the next hub's
        await asyncio.to_thread(self.observer.close)
        _log.info("stopped")

    def _end_at_once(self, why: str) -> NoReturn:
        """End now, with every git that runs. Nothing acknowledged is lost: the next hub picks up what is on disk."""
        _log.warning("%s: ending at once", why)
        from adaptive_llm_gateway.memory import end_git  # noqa: PLC0415 - loaded since long

        end_git()
        os._exit(START_AGAIN if self.again and self.service else 0)

    def _quiet_seconds(self) -> float:
        """For how long nobody has asked for anything; 0 while something is being done."""
        busy = not self.operations.idle or (self._gateway is not None and not self._gateway.idle)
        return 0.0 if busy else time.monotonic() - self._asked

    async def _look_at_objects(self) -> None:
        if self.objects is None:
            return
        with contextlib.suppress(AlgError):
            await self.operations.store()  # it may make the repos
        await self.objects.run()

    async def _noted(self, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The lines, each of which is somebody who asks for something."""
        async for line in lines:
            self._asked = time.monotonic()
            yield line

    async def _upkeep(self) -> None:
        idle = 0 if self.service else self.settings.hub.idle_minutes * 60
        while True:
            await asyncio.sleep(min(_UPKEEP_SECONDS, idle / 4 or _UPKEEP_SECONDS))
            if not self.home.socket.exists():
                _log.warning("the socket was removed by somebody; stopping, so that another hub can start")
                self.stop(again=True)
            if not self._connections and not self.http.listens and idle and time.monotonic() - self._idle_since > idle:
                _log.info("idle for %.0f s", idle)
                self.stop()
            with contextlib.suppress(metadata.PackageNotFoundError):
                if distribution_version() != self.version:
                    _log.info("another version was installed; stopping, so that it can take over")
                    self.stop(again=True)

    # -- HTTP --------------------------------------------------------------------------------------------------

    def _note_request(self) -> None:
        self._asked = time.monotonic()

    async def _waiting(self) -> list[str]:
        """Names of what is not ready, as of a second ago at most: anybody may ask for it, as often as they like."""
        async with self._looking_at_parts:
            if time.monotonic() - self._parts_looked_at > _PARTS_SECONDS:
                with acting_for(EVERYTHING):
                    self._parts_waiting = await self.operations.waiting()
                self._parts_looked_at = time.monotonic()
        return self._parts_waiting

    # -- connections -------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        connection = Connection("new", time.time(), writer)
        self._connections[number] = connection
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in one
        self._serving.add(task)
        lines = self._noted(read_lines(reader))
        try:
            first = await asyncio.wait_for(anext(lines, None), _HELLO_SECONDS)
            hello: Any = json.loads(first) if first else {}
            said = cast("dict[str, Any]", hello) if isinstance(hello, dict) else {}
            connection.kind = str(said.get("kind", "?"))
            resends = said.get("resends") is True
            if resends:
                writer.write(GREETING)  # at once, before anything of it is read
            if connection.kind == "mcp":
                connection.caller = caller_of(said)
                CALLER.set(connection.caller)  # for everything that this connection's task begins
                await self._serve_mcp(lines, writer, resends=resends)
            elif connection.kind == "control":
                from adaptive_llm_gateway.server._control import serve_control  # noqa: PLC0415

                await serve_control(self, lines, writer, resends=resends)
        except (ValueError, OSError, TimeoutError) as error:
            _log.info("connection %d ended: %s", number, error)
        except Exception:  # noqa: BLE001 - one connection's failure is its own; the hub goes on
            _log.exception("connection %d failed", number)
        finally:
            self._serving.discard(task)
            del self._connections[number]
            self._idle_since = time.monotonic()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve_mcp(self, lines: AsyncIterator[bytes], writer: asyncio.StreamWriter, *, resends: bool) -> None:
        from adaptive_llm_gateway.server._stream import serve_lines  # noqa: PLC0415 - as for `build_server`

        assert self._mcp is not None  # noqa: S101 - built before the first connection is looked at
        await serve_lines(self._mcp, lines, writer, Intake(self.going), resends=resends)

    def status(self) -> dict[str, Any]:
        """The hub at a glance."""
        state, error = self.operations.store_state
        return {
            "running": True,
            "pid": os.getpid(),
            "version": self.version,
            "home": str(self.home.root),
            "repo": str(self.settings.memory.path or self.home.memory),
            "socket": str(self.home.socket),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "clients": sum(connection.kind == "mcp" for connection in self._connections.values()),
            "service": self.service,
            "idle_minutes": 0 if self.service else self.settings.hub.idle_minutes,
            "mode": self.modes.mode,
            "mode_problem": self.modes.problem,
            "store": state,
            "error": str(error) if error else None,
            # Beside those that are connected, above: who may come by HTTP, and need not be there.
            "http": {**self.http.status(), "clients": self.clients.count()},
            **self.observer.status(),
            **({"repos": self._repos()} if self.settings.repos else {}),
        }

    def _repos(self) -> list[dict[str, Any]]:
        """Every memory repo: where it is, and why it is not there."""
        state, error = self.operations.store_state
        problems = self.operations.absent
        return [
            {
                "name": repo.name,
                "path": str(repo.path),
                "store": "failed" if repo.name in problems else state,
                "error": str(problems.get(repo.name) or error or "") or None,
            }
            for repo in configured_repos(self.home, self.settings)
        ]


async def read_lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The stream's lines without their ends; empty ones are left out.

    Raises:
        ValueError: a line exceeds `MAX_LINE`.
    """
    buffer = bytearray()
    while part := await reader.read(_READ_BYTES):
        buffer += part
        if len(buffer) > MAX_LINE:
            raise ValueError(f"a line is longer than {MAX_LINE:,} bytes")
        if b"\n" not in part:
            continue
        *lines, rest = bytes(buffer).split(b"\n")
        buffer = bytearray(rest)
        for line in lines:
            if line.strip():
                yield line
    if buffer.strip():
        yield bytes(buffer)


async def _ended(tasks: set[asyncio.Task[Any]], seconds: float) -> None:
    """Wait until all have ended, that long at most."""
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)


def _own_folder(folder: Path, *, inside_home: bool) -> None:
    """Make the socket's folder, for this user alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if inside_home:
        return
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise StorageError(
            f"{str(folder)!r} is not this user's alone", hint="Remove it, or set a shorter path for the home."
        )


def run_hub(
    home: Home,
    settings: Settings,
    *,
    ready: Callable[[], None],
    going: Callable[[], None] = lambda: None,
    service: bool = False,
) -> bool:
    """Hold the home's lock and serve until stopped.

    Args:
        ready, going, service: as for `Hub`.

    Returns:
        Whether another is to follow.

    Raises:
        LockHeld: another hub serves this home.
        ReadOnly, StorageError: the home cannot be used.
    """
    os.umask(0o077)  # what is remembered is for this user's eyes
    try:
        home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot create the home {str(home.root)!r}: {error.strerror}") from error
    with ProcessLock(home.hub_lock, timeout=_LOCK_SECONDS):
        try:
            set_up_logging(home, settings.hub.log_level, settings.hub.log_format, requests=settings.http.enabled)
        except OSError as error:
            raise StorageError(f"cannot write the log {str(home.hub_log)!r}: {error.strerror}") from error
        _log.info("hub %s starts, pid %d", distribution_version(), os.getpid())
        return asyncio.run(_run(lambda: Hub(home, settings, ready=ready, going=going, service=service)))


async def _run(make: Callable[[], Hub]) -> bool:
    hub = make()
    await hub.run()
    return hub.again
