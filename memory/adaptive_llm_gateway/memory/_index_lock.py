"""Git's own lock on its index, held by us: from before HEAD moves until the index has followed, git's programs refuse.

The lock file is a second name (a hard link) of a note that this process has on disk and under a lock of the kernel. So
whoever finds it can tell whose it is, also after a power cut, and whether its owner lives. What a killed process of
ours left is taken over by the next one; a lock of anybody else is never touched.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import socket
import sys
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, cast

if sys.platform != "win32":
    import fcntl

    _FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
else:
    _FLAGS = 0

Taken = Literal["held", "busy", "impossible"]

_NOTE: Final = "alg-index-note."
_WORDS: Final = "Adaptive LLM Gateway holds git's index until it has what HEAD has: for a moment, or, if the process"
_LONGEST: Final = 2048
# Another machine may hold what lies there, and no process of it is in sight.
_SHARED: Final = re.compile(r"nfs|cifs|smb|9p|virtiofs|ceph|gluster|fuse|afs|lustre|ocfs|gfs|vboxsf|prl_fs|drvfs")


@dataclass(frozen=True, slots=True)
class OurLock:
    """What a lock file of ours says: its owner's process, and whether that lives."""

    pid: int
    owner: Literal["alive", "dead", "unknown"]


def read_lock(path: Path) -> OurLock | None:
    """The lock at `path`; None where there is none, or it is not ours."""
    try:
        handle = _open(path)
    except OSError:
        return None
    try:
        return _look(handle)
    finally:
        os.close(handle)


class GitIndexLock:
    """The lock file of a git index. One thread at a time.

    Args:
        path: `index.lock`.
        notes: the folder for our note, on the same file system.

    Attributes:
        since: when it was taken, by us or by whom we took it over from; as the times of files, in ns.
    """

    def __init__(self, path: Path, *, notes: Path) -> None:
        self.path = path
        self._note = notes / f"{_NOTE}{os.getpid()}-{secrets.token_hex(4)}"
        self._opened: list[int] = []  # the note, while it is the lock
        self.since = 0
        self._end = weakref.finalize(self, _forget, self._note, self._opened)

    @property
    def held(self) -> bool:
        """Whether it is ours; somebody may have removed it, as git's own words advise."""
        return bool(self._opened) and _is_file(self.path, self._opened[0])

    def take(self) -> Taken:
        """Take it, unless somebody holds it; what a dead process of ours left is taken over.

        Returns:
            `impossible` where this system or file system has no means for it.

        Raises:
            OSError: the disk is full, or not writable.
        """
        if self.held:
            return "held"
        self.release()
        if sys.platform == "win32":  # an open file cannot be removed there
            return "impossible"
        if os.path.lexists(self.path):  # which costs less than a note
            return "held" if self.take_over() else "busy"
        try:
            self._open_note()
            os.link(self._note, self.path)
            self.since = os.fstat(self._opened[0]).st_ctime_ns
        except OSError as error:
            self.release()
            if isinstance(error, FileExistsError | FileNotFoundError | BlockingIOError):
                return "busy"  # or somebody tidies up
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO):
                raise
            return "impossible"
        return "held"

    def take_over(self) -> bool:
        """Take what a dead process of ours left; False where that is not what lies there."""
        try:
            handle = _open(self.path)
        except OSError:
            return False
        beside = self._note.with_name(self._note.name + ".new")
        try:
            # From here on nobody else of ours takes it over: looking for its owner has locked the file.
            found = _look(handle)
            if found is None or found.owner != "dead" or not _is_file(self.path, handle):
                return False
            since = os.fstat(handle).st_ctime_ns
            self._open_note()
            os.link(self._note, beside)
            beside.replace(self.path)  # at no moment is there no lock
            self.since = since
        except OSError:
            self.release()
            with contextlib.suppress(OSError):
                beside.unlink()
            return False
        finally:
            os.close(handle)
        return True

    def release(self) -> None:
        """Let it go; harmless where it is not held."""
        if self.held:
            with contextlib.suppress(OSError):
                self.path.unlink()
        _close(self._opened)

    def close(self) -> None:
        """Let it go for good, and remove the note."""
        self.release()
        _forget(self._note, self._opened)

    def tidy(self) -> None:
        """Remove the notes of processes that were killed."""
        for note in self._note.parent.glob(_NOTE + "*"):
            found = read_lock(note)
            if found is not None and found.owner == "dead" and found.pid != os.getpid():
                note.unlink(missing_ok=True)

    def _open_note(self) -> None:
        """Have the kernel lock the note, which is made where it is not there."""
        try:
            handle = _open(self._note)
        except FileNotFoundError:
            handle = os.open(self._note, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o644)
        self._opened.append(handle)
        if not _lock(handle):
            raise BlockingIOError(errno.EAGAIN, "somebody is looking whose it is")
        if os.fstat(handle).st_size == 0:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            about = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            text = f"{_WORDS} is gone, until the hub's next start.\n{json.dumps(about)}\n"
            os.write(handle, text.encode())
            os.fsync(handle)


def is_shared(device: int) -> bool:
    """Whether other machines may have this file system, too."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [wanted]:
            return bool(_SHARED.match(after.split()[0]))
    return False  # a file system of one machine may number its parts as it likes (Btrfs)


def _look(handle: int) -> OurLock | None:
    """What an open lock file says. Where its owner is dead, the kernel's lock on it is ours until it is closed."""
    try:
        text = os.read(handle, _LONGEST).decode("utf-8")
        words, _, about = text.partition("\n")
        if not words.startswith(_WORDS):
            return None
        fields = json.loads(about)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    said = cast("dict[str, object]", fields)
    pid, host = said.get("pid"), said.get("host")
    if type(pid) is not int or not isinstance(host, str):
        return None
    try:
        if not _lock(handle):
            return OurLock(pid, "alive")
    except OSError:
        return OurLock(pid, "unknown")
    # Not every network file system tells of other machines' locks.
    elsewhere = host != socket.gethostname() and is_shared(os.fstat(handle).st_dev)
    return OurLock(pid, "unknown" if elsewhere else "dead")


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | _FLAGS)
    except PermissionError:
        return os.open(path, os.O_RDONLY | _FLAGS)


def _lock(handle: int) -> bool:
    """Have the kernel lock the file; False where another has it."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "not here")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK):
            return False
        raise
    return True


def _is_file(path: Path, handle: int) -> bool:
    """Whether this open file is what lies at the path."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(handle))  # noqa: PTH116
    except OSError:
        return False


def _close(opened: list[int]) -> None:
    while opened:
        with contextlib.suppress(OSError):
            os.close(opened.pop())


def _forget(note: Path, opened: list[int]) -> None:
    with contextlib.suppress(OSError):
        note.unlink()
    _close(opened)
