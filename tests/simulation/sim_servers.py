"""The remote and how it is reached: a bare repository behind `git daemon` or `git http-backend`, and what goes wrong.

Each clone reaches the server through a gate of its own, which can be shut, hold its tongue, or cut a connection in the
middle, also after the server took a push and before the client hears so.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, Literal

from git_http import answer_of_git, body_of

Transport = Literal["daemon", "http", "file"]
TRANSPORTS: tuple[Transport, ...] = ("daemon", "http", "file")
USER, PASSWORD = "keeper", "open-sesame"
_WAIT = 30.0
_TICK = 0.05

_HOOK = """#!/bin/sh
# What refuses pushes, while the file that says so is there.
if [ -f refuse-hook ]; then echo "no pushes today" >&2; exit 1; fi
if [ -f refuse-protected ]; then echo "error: GH006: Protected branch update failed for $1." >&2; exit 1; fi
exit 0
"""


class Remote:
    """The bare repository, looked at by git itself and not through any server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "remote.git"
        self._away = folder / "away.git"
        subprocess.run(
            ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.path)], check=True, timeout=_WAIT
        )
        for key, value in (
            ("http.receivepack", "true"),
            ("receive.denyNonFastForwards", "true"),
            ("receive.denyDeletes", "true"),
        ):
            self.git("config", key, value)
        hook = self.path / "hooks" / "update"
        hook.write_text(_HOOK, encoding="utf-8")
        hook.chmod(0o755)

    def git(self, *arguments: str, check: bool = True) -> str:
        """What git says."""
        where = self.path if self.path.exists() else self._away
        done = subprocess.run(
            ["git", "--git-dir", str(where), *arguments], capture_output=True, check=False, timeout=600
        )
        if check and done.returncode != 0:
            raise AssertionError(f"git {arguments} in the remote: {done.stderr.decode('utf-8', 'replace')}")
        return done.stdout.decode("utf-8", "replace")

    def head(self) -> str | None:
        """The commit of its branch."""
        return self.git("rev-parse", "--verify", "--quiet", "refs/heads/main", check=False).strip() or None

    def has(self, commit: str) -> bool:
        """Whether its branch contains a commit."""
        where = self.path if self.path.exists() else self._away
        command = ["git", "--git-dir", str(where), "merge-base", "--is-ancestor", commit, "refs/heads/main"]
        return subprocess.run(command, capture_output=True, check=False, timeout=_WAIT).returncode == 0

    def refuse(self, fault: str) -> None:
        """`hook`, `protected`: pushes are refused; `lock`: a lock file is left; `gone`: it is somewhere else."""
        if fault == "gone":
            if self.path.exists():
                self.path.rename(self._away)
        else:
            where = self.path if self.path.exists() else self._away
            name = "refs/heads/main.lock" if fault == "lock" else f"refuse-{fault}"
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            (where / name).touch()

    def mend(self) -> None:
        """Nothing is in the way any more."""
        if self._away.exists():
            self._away.rename(self.path)
        for name in ("refs/heads/main.lock", "refuse-hook", "refuse-protected"):
            (self.path / name).unlink(missing_ok=True)


class Gate:
    """A TCP port that leads to a server, or does not.

    Attributes:
        mode: `open`; `refuse` (nobody listens); `hang` (never answers); `cut_answer`, `cut_request` (reset after
            `limit` bytes of an answer, or of a request); `mute` (once a push was sent, nothing of the answer gets
            through, and the connection ends when the server has ended it); `slow`.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self.mode = "open"
        self.limit = 0
        self._closed = False
        self._socket = self._bound(0)
        self.port = int(self._socket.getsockname()[1])
        self._socket.listen(16)
        self._listening = True
        self._held: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name=f"gate-{self.port}", daemon=True)
        self._thread.start()

    @staticmethod
    def _bound(port: int) -> socket.socket:
        deadline = time.monotonic() + _WAIT
        while True:
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                made.bind(("127.0.0.1", port))
            except OSError:  # the one before it is still being waited on in `_accept`
                made.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(_TICK)
            else:
                return made

    def set(self, mode: str, limit: int = 0) -> None:
        """Another mode; what hung ends."""
        with self._lock:
            self.mode, self.limit = mode, limit
            for held in self._held:
                with contextlib.suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)
            self._held.clear()
            if (mode == "refuse") == self._listening:
                # Bound and not listening: the port is kept, and whoever comes is refused.
                if self._listening:
                    self._socket.close()
                    self._socket = self._bound(self.port)
                else:
                    self._socket.listen(16)
                self._listening = not self._listening

    def close(self) -> None:
        """End it."""
        self._closed = True
        self.set("open")
        self._socket.close()
        self._thread.join(_WAIT)

    def _accept(self) -> None:
        while not self._closed:
            with self._lock:
                current = self._socket if self._listening else None
            if current is None:
                time.sleep(_TICK)
                continue
            try:
                ready, _, _ = select.select([current], [], [], _TICK)
                if not ready:
                    continue
                client, _ = current.accept()
            except (OSError, ValueError):
                continue
            threading.Thread(target=self._carry, args=(client, self.mode, self.limit), daemon=True).start()

    def _carry(self, client: socket.socket, mode: str, limit: int) -> None:
        with client:
            if mode == "hang":
                with self._lock:
                    self._held.add(client)
                with contextlib.suppress(OSError):
                    while client.recv(1 << 16):
                        pass
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream), timeout=_WAIT)
            except OSError:
                return
            with server:
                server.settimeout(None)
                with contextlib.suppress(OSError):
                    self._between(client, server, mode, limit)

    def _between(self, client: socket.socket, server: socket.socket, mode: str, limit: int) -> None:
        sent = answered = 0
        pack = False
        ends = {client: True, server: True}
        while ends[server]:
            ready, _, _ = select.select([end for end, alive in ends.items() if alive], [], [], 120)
            if not ready:
                return
            for end in ready:
                data = end.recv(1 << 16)
                if not data:
                    ends[end] = False
                    if end is client:
                        with contextlib.suppress(OSError):
                            server.shutdown(socket.SHUT_WR)
                    continue
                if mode == "slow":
                    time.sleep(0.02)
                if end is client:
                    sent += len(data)
                    pack = pack or b"PACK" in data
                    if mode == "cut_request" and sent > limit:
                        _reset(client)
                        return
                    server.sendall(data)
                elif not (mode == "mute" and pack):
                    if mode == "cut_answer" and answered + len(data) > limit:
                        client.sendall(data[: limit - answered])
                        _reset(client)
                        return
                    answered += len(data)
                    client.sendall(data)


def _reset(connection: socket.socket) -> None:
    """Have the connection end as by a power cut, not by a goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Daemon:
    """`git daemon`, which lets anybody push."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._log = folder / "daemon.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("git", "daemon", "--verbose", "--reuseaddr", "--export-all", "--enable=receive-pack"),
                    *("--listen=127.0.0.1", f"--port={self.port}", f"--base-path={folder}", str(folder)),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _WAIT
        while b"Ready to rumble" not in self._log.read_bytes():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError(f"git daemon did not start: {self._log.read_text('utf-8')}")
            time.sleep(0.02)

    def url(self, port: int) -> str:
        """The address through a gate."""
        return f"git://127.0.0.1:{port}/remote.git"

    def close(self) -> None:
        """End it."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(_WAIT)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    folder: Path
    refusals: dict[str, int]

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # without asking for the machine's name
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are cut off are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    _LOGIN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(body_of(self))

    def _serve(self, body: bytes) -> None:
        clone, _, inner = self.path.partition("?")[0].lstrip("/").partition("/")
        server = self.server
        assert isinstance(server, _Server)
        refusal = server.refusals.get(clone)
        if refusal is None and self.headers.get("Authorization") != self._LOGIN:
            refusal = 401
        if refusal is not None:
            self.send_response(refusal)
            if refusal == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="memories"')
            self.end_headers()
            return
        answer = answer_of_git(self, body, server.folder, f"/{inner}", user=USER)
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


class Http:
    """`git http-backend` behind a server that wants a name and a password.

    Attributes:
        refusals: by clone, the status that it gets whatever it asks.
    """

    def __init__(self, folder: Path) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.folder, self._server.refusals = folder, {}
        self.refusals = self._server.refusals
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def url(self, port: int, clone: str) -> str:
        """The address through a gate; it has no password in it."""
        return f"http://127.0.0.1:{port}/{clone}/remote.git"

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._thread.join(_WAIT)
        self._server.server_close()


class Network:
    """The remote and what leads to it, for clones by name.

    Attributes:
        urls: by clone.
        faults: by clone (`*`: all) what is wrong at present.
    """

    def __init__(self, folder: Path, transport: Transport, clones: tuple[str, ...]) -> None:
        self.transport = transport
        self.remote = Remote(folder)
        self.faults: dict[str, set[str]] = {name: set() for name in (*clones, "*")}
        self._gates: dict[str, Gate] = {}
        self._server: Daemon | Http | None = None
        match transport:
            case "daemon":
                daemon = self._server = Daemon(folder)
                self._gates = {name: Gate(daemon.port) for name in clones}
                self.urls = {name: daemon.url(gate.port) for name, gate in self._gates.items()}
            case "http":
                http = self._server = Http(folder)
                self._gates = {name: Gate(http.port) for name in clones}
                self.urls = {name: http.url(gate.port, name) for name, gate in self._gates.items()}
            case "file":
                self.urls = dict.fromkeys(clones, str(self.remote.path))

    def harm(self, clone: str, fault: str, limit: int = 0) -> None:
        """Something goes wrong: for one clone, or where the remote itself is harmed for all."""
        if fault in ("hook", "protected", "lock", "gone"):
            self.remote.refuse(fault)
            self.faults["*"].add(fault)
        elif fault.isdigit():
            assert isinstance(self._server, Http)
            self._server.refusals[clone] = int(fault)
            self.faults[clone].add(fault)
        else:
            self._gates[clone].set(fault, limit)
            self.faults[clone] = {one for one in self.faults[clone] if one.isdigit()} | {fault}

    def mend(self, clone: str | None = None) -> None:
        """All is well again: for one clone and at the remote, or for all."""
        self.remote.mend()
        self.faults["*"].clear()
        for name in [clone] if clone else [name for name in self.faults if name != "*"]:
            if isinstance(self._server, Http):
                self._server.refusals.pop(name, None)
            if name in self._gates:
                self._gates[name].set("open")
            self.faults[name].clear()

    def of(self, clone: str) -> set[str]:
        """What is wrong for a clone."""
        return self.faults[clone] | self.faults["*"]

    def close(self) -> None:
        """End everything."""
        self.mend()
        for gate in self._gates.values():
            gate.close()
        if self._server is not None:
            self._server.close()
