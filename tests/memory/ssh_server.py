"""An ssh server for machines without one: runs commands for a key that a file lets in.

    python ssh_server.py PORT HOST_KEY AUTHORIZED

It listens on the loopback. As with OpenSSH's, one process takes connections and each connection has its own, so that a
test may stop the one or kill the other; what a killed one ran goes on. `authorized_keys` is read anew for each
connection; of its options `command` and `expiry-time` count. The user is the one who runs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import re
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import asyncssh

_EXPIRY = re.compile(r'\bexpiry-time="(\d{8,14})"')
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class _Settings:
    host_key: Path
    authorized: Path


class _Server(asyncssh.SSHServer):
    """Who may come in, for one connection."""

    def __init__(self, authorized: Path) -> None:
        self._authorized = authorized
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:
        lines = self._authorized.read_text(encoding="utf-8").splitlines() if username == getpass.getuser() else []
        good = [line for line in lines if not _expired(line)]
        if self._connection is not None:
            with contextlib.suppress(ValueError):  # no line has a key
                self._connection.set_authorized_keys(asyncssh.import_authorized_keys("\n".join(good)))
        return True  # without a key nobody is in

    def public_key_auth_supported(self) -> bool:
        return True


def _expired(line: str) -> bool:
    found = _EXPIRY.search(line)
    return found is not None and time.strftime("%Y%m%d%H%M%S") >= found[1].ljust(14, "0")


async def _run(asked: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run the command of a session with a shell, in an environment as small as sshd's."""
    if asked.command is None:
        asked.stderr.write(b"There is no shell here, only commands.\n")
        asked.exit(1)
        return
    user = getpass.getuser()
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "GIT_CONFIG_NOSYSTEM") if name in os.environ}
    command = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", asked.command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**kept, "USER": user, "LOGNAME": user, "SHELL": "/bin/sh"},
        cwd=Path.home(),
        start_new_session=True,
    )
    assert command.stdin is not None
    assert command.stdout is not None
    assert command.stderr is not None
    told = asyncio.create_task(_tell(asked.stdin, command.stdin))
    await asyncio.gather(_pass_on(command.stdout, asked.stdout), _pass_on(command.stderr, asked.stderr))
    code = await command.wait()
    told.cancel()
    if code < 0:
        asked.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        asked.exit(code)


async def _tell(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # a command need not read all that it is sent
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
    target.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    while data := await source.read(_CHUNK):
        target.write(data)
        await target.drain()


async def _serve(connected: socket.socket, settings: _Settings) -> None:
    connection = await asyncssh.run_server(
        connected,
        server_factory=lambda: _Server(settings.authorized),
        server_host_keys=[str(settings.host_key)],
        process_factory=_run,
        encoding=None,
        allow_pty=False,
        line_editor=False,
        gss_host=None,
    )
    await connection.wait_closed()


def _session(connected: socket.socket, settings: _Settings) -> NoReturn:
    """Serve one connection. Ends at once with it: what it ran is left to find its pipes closed, as under sshd."""

    async def serve() -> NoReturn:
        try:
            await _serve(connected, settings)
        except (OSError, asyncssh.Error) as error:
            print(f"a connection ended: {error}", file=sys.stderr, flush=True)
        os._exit(0)

    try:
        asyncio.run(serve())
    finally:
        os._exit(1)


def main(port: int, settings: _Settings) -> NoReturn:
    with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # sessions that have ended leave nothing
        while True:
            connected, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listening.close()
                _session(connected, settings)
            connected.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), _Settings(Path(sys.argv[2]), Path(sys.argv[3])))
