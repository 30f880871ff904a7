"""Locks between processes. The kernel holds them, so a dead owner's lock is free at once."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from adaptive_llm_gateway.core._errors import LockHeld, ReadOnly, StorageError

_POLL_SECONDS = 0.01
_NOTE_BYTES = 400  # more than a host's longest name needs


class ProcessLock:
    """An exclusive lock on a file, held by one process at a time.

    The lock is the kernel's (`flock`, on Windows `msvcrt.locking`): it goes with its owner, however that dies. The
    file's content only names the owner for messages and is never trusted. The file itself stays.

    Args:
        path: the lock file; its folder must exist.
        timeout: seconds to wait for another owner; 0 tries once.

    Raises:
        LockHeld: another process holds it; `details["owner"]` has its `pid`, `host` and `since`.
        ReadOnly: the file cannot be created or written.
    """

    def __init__(self, path: Path, *, timeout: float = 0.0) -> None:
        self._path = path
        self._timeout = timeout
        self._fd: int | None = None

    def acquire(self) -> Self:
        """Take the lock; see the class for errors."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise ReadOnly(
                    f"cannot write the lock file {str(self._path)!r}: {error.strerror}",
                    hint="Make the folder writable for this user, or choose another home.",
                    path=str(self._path),
                ) from error
            raise StorageError(
                f"cannot open the lock file {str(self._path)!r}: {error.strerror}", path=str(self._path)
            ) from error
        deadline = time.monotonic() + self._timeout
        while not _try_lock(fd):
            if time.monotonic() >= deadline:
                owner = self._read_owner(fd)
                os.close(fd)
                named = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
                raise LockHeld(
                    f"{str(self._path)!r} is held by {named}",
                    hint="Wait for it to finish, or stop it.",
                    owner=owner,
                    path=str(self._path),
                )
            time.sleep(_POLL_SECONDS)
        self._fd = fd
        note = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        padded = note.ljust(_NOTE_BYTES).encode()
        try:
            # Written over the last owner's, which is as long: ext4 flushes a file that was cut to nothing when it is
            # closed, which takes as long as a sync.
            if os.fstat(fd).st_size > len(padded):
                os.ftruncate(fd, 0)
            os.pwrite(fd, padded, 0) if hasattr(os, "pwrite") else os.write(fd, padded)
        except OSError:
            pass  # a full disk does not keep us from holding the lock; only the message loses its name
        return self

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._fd is not None:
            _unlock(self._fd)  # a program that is just being started may share the descriptor until its exec
            os.close(self._fd)
            self._fd = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._fd is not None

    @staticmethod
    def _read_owner(fd: int) -> dict[str, object] | None:
        try:
            os.lseek(fd, 0, os.SEEK_SET)
            owner = json.loads(os.read(fd, 4096))
        except (OSError, ValueError):
            return None
        return owner if isinstance(owner, dict) and {"pid", "host"} <= set(owner) else None  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 1 << 20  # far behind the owner's note, so that others can read it

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(fd, 0, os.SEEK_SET)
        return True

    def _unlock(fd: int) -> None:
        pass  # closing does it; descriptors are not shared there

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK):
                return False
            raise
        return True

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)
