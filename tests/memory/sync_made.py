"""What the tests of sync share: clones, and remotes that go wrong in every way that one machine can show."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from git_http import answer_of_git, body_of

from adaptive_llm_gateway.core import SecretRefused, SyncError
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync import Sync
from adaptive_llm_gateway.memory._values import Author, Change, SyncStatus

AUTHOR = Author("claude-code", host="laptop")
PATH = "notes/2026/11/t-00000001.md"
SECRET = b"hunter2-credential"
WAIT = 30.0


def git(cwd: Path, *arguments: str, check: bool = True, **environment: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
        timeout=WAIT,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def memory(body: str, *, number: int = 1, updated: str = "2026-11-20T10:00:00Z", **fields: object) -> str:
    base: dict[str, object] = {
        "id": f"01JD{number:022d}",
        "type": "note",
        "title": "T",
        "created": "2026-11-01T00:00:00Z",
    }
    return Document.new({**base, "updated": updated, **fields}, body).render().decode()


def no_secrets(path: str, data: bytes) -> None:
    if SECRET in data:
        raise SecretRefused("line 1 has a credential", findings=[{"line": 1, "kind": "test"}])


class Clone:
    """A memory repo and its sync."""

    def __init__(self, root: Path, remote: Path | str | None, **settings: Any) -> None:
        self.root = root
        self.settings: dict[str, Any] = {"scan": no_secrets, "timeout": 20.0, **settings}
        self.start()
        if remote is not None:
            self.sync.set_remote(str(remote))

    def start(self) -> None:
        self.repo = MemoryRepo.open(self.root)
        self.sync = Sync(self.repo, **self.settings)

    @property
    def status(self) -> SyncStatus:
        return self.sync.state.status()

    def put(self, path: str, text: str | None) -> str | None:
        target = self.root / path
        if text is None:
            target.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode())
        return self.repo.commit([Change(path, None if text is None else text.encode(), "write", "", "t", AUTHOR)])

    def text(self, path: str) -> str:
        return (self.root / path).read_bytes().decode()

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(self.root).parts
        }

    def clean(self) -> bool:
        return git(self.root, "status", "--porcelain") == ""


def failure(run: Callable[[], object]) -> SyncError:
    with pytest.raises(SyncError) as caught:
        run()
    assert caught.value.hint
    return caught.value


def hook(remote: Path, name: str, text: str) -> None:
    path = remote / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def poll(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        threading.Event().wait(0.01)
    return value


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def git_daemon(folder: Path, *options: str) -> Generator[str]:
    """`git daemon` over a folder; gives the beginning of its addresses."""
    port, log = free_port(), folder / "daemon.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("git", "daemon", "--verbose", "--reuseaddr", *options),
                *("--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}", str(folder)),
            ],
            stderr=output,
            start_new_session=True,
        )
    try:
        poll(lambda: b"Ready to rumble" in log.read_bytes() or process.poll() is not None, "git daemon")
        yield f"git://127.0.0.1:{port}/"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        process.wait(10)


class SmartServer(ThreadingHTTPServer):
    """Serves bare repositories with `git http-backend`, and goes wrong as it is told.

    Attributes:
        refuse: the status to answer with instead, for requests whose path and query have a text in them.
        password: asked for where it is set; the user is `anna`.
        moved: a path's beginning, and what stands for it now: redirected there.
        cut: answers to requests with this text in them end in the middle.
        hold: answers wait for this.
        headers: of the requests that came.
    """

    daemon_threads = True

    def __init__(self, root: Path, certificate: tuple[Path, Path] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.refuse: tuple[str, int, str] | None = None
        self.password: str | None = None
        self.moved: tuple[str, str] | None = None
        self.cut: str | None = None
        self.hold: threading.Event | None = None
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: SmartServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _plain(self, status: int, text: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def _serve(self) -> None:
        server = self.server
        if server.hold is not None:
            server.hold.wait(WAIT)
        if server.refuse is not None and server.refuse[0] in self.path:
            return self._plain(server.refuse[1], server.refuse[2])
        if server.moved is not None and self.path.startswith(server.moved[0]):
            place = server.moved[1] + self.path.removeprefix(server.moved[0])
            return self._plain(301, "", Location=place)
        wanted = base64.b64encode(f"anna:{server.password}".encode()).decode()
        if server.password is not None and self.headers.get("Authorization") != f"Basic {wanted}":
            return self._plain(401, "who are you?", WWW_Authenticate='Basic realm="git"')
        answer = answer_of_git(self, body_of(self), server.root, self.path.partition("?")[0], user="anna")
        self.send_response(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        if server.cut is not None and server.cut in self.path:
            self.wfile.write(answer.body[: len(answer.body) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        self.wfile.write(answer.body)
        return None


@contextlib.contextmanager
def smart_http(root: Path, certificate: tuple[Path, Path] | None = None) -> Generator[SmartServer]:
    """A `SmartServer` over a folder."""
    with SmartServer(root, certificate) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            if server.hold is not None:
                server.hold.set()
            server.shutdown()
            thread.join(WAIT)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate that nobody has vouched for, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=True,
        timeout=WAIT,
    )
    return certificate, key


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Generator[Path]:
    """A file system of this size at a folder."""
    folder.mkdir()
    mounted = _run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)])
    if not mounted:
        pytest.skip("a small file system to fill cannot be mounted: that takes root on Linux")
    try:
        yield folder
    finally:
        assert _run(["umount", "-l", str(folder)])


def _run(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=WAIT).returncode == 0
    except OSError:
        return False


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Leave no more than so many bytes on its file system; removing the file that this gives makes room again."""
    path = folder / "fill"
    with path.open("wb") as file, contextlib.suppress(OSError):
        while True:
            room = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - leave
            if room <= 0:
                break
            file.write(b"\0" * min(room, 65536))
            file.flush()
    return path
