"""Git's own server program behind an HTTP server of Python's: `git http-backend`, called as CGI (RFC 3875)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class GitAnswer:
    """What git answers to a request."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def answer_of_git(request: BaseHTTPRequestHandler, body: bytes, root: Path, path: str, *, user: str) -> GitAnswer:
    """Have git answer a request.

    Args:
        body: of the request, see `body_of`.
        root: the folder with the repositories.
        path: within it, with a slash before; the query is the request's.
    """
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", ""),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "REMOTE_USER": user,
        "REMOTE_ADDR": "127.0.0.1",
        "PATH_INFO": path,
        "QUERY_STRING": request.path.partition("?")[2],
        "REQUEST_METHOD": request.command,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
    }
    done = subprocess.run(
        ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False, timeout=_SECONDS
    )
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    lines = [line.partition(": ") for line in head.decode("latin-1").split("\r\n") if line]
    status = next((value for name, _, value in lines if name.lower() == "status"), "200 OK")
    headers = [(name, value) for name, _, value in lines if name.lower() != "status"]
    return GitAnswer(int(status.split()[0]), [*headers, ("Content-Length", str(len(content)))], content)


def body_of(request: BaseHTTPRequestHandler) -> bytes:
    """Read a request's body, which git sends in chunks where it is large."""
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length") or 0))
    parts: list[bytes] = []
    while size := int(request.rfile.readline().split(b";")[0].strip() or b"0", 16):
        parts.append(request.rfile.read(size))
        request.rfile.readline()
    request.rfile.readline()
    return b"".join(parts)
