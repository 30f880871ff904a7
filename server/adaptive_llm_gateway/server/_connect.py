"""Reaching the hub of a home, and starting it when there is none. Standard library only: the shim uses this."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time

from adaptive_llm_gateway.core._paths import socket_address

START_SECONDS = 30.0
_POLL_SECONDS = 0.005


class StartFailed(Exception):
    """No hub answers and none could be started; the text says why."""


def connect(root: str, *, start: bool = True) -> socket.socket:
    """A connected socket to the hub of the home at `root`, started first if need be.

    Raises:
        StartFailed: there is none (with `start=False`), or it did not start; the text is the hub's own reason.
    """
    found = _try_connect(root)
    if found is not None:
        return found
    if not start:
        raise StartFailed(f"no hub is running for {root!r}")
    return _start_and_connect(root)


def _try_connect(root: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(socket_address(root))
    except OSError:
        connection.close()
        return None
    return connection


def _start_and_connect(root: str) -> socket.socket:
    from adaptive_llm_gateway.core import AlgError, Home, LockHeld, ProcessLock  # noqa: PLC0415 - only when starting

    deadline = time.monotonic() + START_SECONDS
    reason = "it did not answer in time"
    try:
        os.makedirs(root, mode=0o700, exist_ok=True)
    except OSError as error:
        raise StartFailed(f"cannot create the home {root!r}: {error.strerror}") from error
    home = Home(root)
    lock = ProcessLock(home.start_lock)
    while time.monotonic() < deadline:
        found = _try_connect(root)
        if found is not None:
            return found
        try:
            lock.acquire()
        except LockHeld:  # somebody else is starting it
            time.sleep(_POLL_SECONDS)
            continue
        except AlgError as error:
            raise StartFailed(str(error)) from error
        try:
            found = _try_connect(root)
            if found is not None:
                return found
            try:
                ProcessLock(home.hub_lock).acquire().release()
            except LockHeld as error:  # another hub is on its way in or out
                reason = str(error)
                time.sleep(_POLL_SECONDS)
                continue
            except AlgError as error:
                raise StartFailed(str(error)) from error
            failure = _spawn(root, deadline)
            if failure is None:
                continue
            reason = failure
            if "lock_held" not in failure:
                break
        finally:
            lock.release()
    raise StartFailed(f"the hub for {root!r} could not be started: {reason}")


def _spawn(root: str, deadline: float) -> str | None:
    """Start a detached hub and wait until it listens; returns why it did not, or None."""
    import select  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    logs = os.path.join(root, "logs")
    log: int = subprocess.DEVNULL
    with contextlib.suppress(OSError):
        os.makedirs(logs, mode=0o700, exist_ok=True)
        log = os.open(os.path.join(logs, "hub.err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    ready_read, ready_write = os.pipe()
    try:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "adaptive_llm_gateway.server", "--home", root, "hub", "run",
             "--ready-fd", str(ready_write)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root,
            start_new_session=True,
            pass_fds=(ready_write,),
        )  # fmt: skip
    finally:
        os.close(ready_write)
        if log != subprocess.DEVNULL:
            os.close(log)
    try:
        answer = b""
        while not answer.endswith(b"\n"):
            if not select.select([ready_read], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return f"it did not answer within {START_SECONDS:.0f} s"
            part = os.read(ready_read, 65536)
            if not part:
                break
            answer += part
    finally:
        os.close(ready_read)
    text = answer.decode("utf-8", "replace").strip()
    if text == "ready":
        return None
    return text or f"it ended at once; see {os.path.join(logs, 'hub.err')!r}"
