"""The key of a home's marks: 32 bytes in a file of the home, made once, for this user alone.

A mark, `[redacted:github-token#ab12]`, has digits of a hash with this key, so that of one home's marks it can be told
which stand for the same secret, and by nobody without the key which secret that is. The key leaves the home in
nothing: it is in no memory, log, answer or error.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from adaptive_llm_gateway.core import MARK_KEY_BYTES, AlgError, ProcessLock, fsync_path, reach

_log = logging.getLogger(__name__)

_LOCK_SECONDS = 10.0
_LEAST_DIFFERENT = 8  # of 32 random bytes fewer are equal by chance once in 10**30 keys; a torn block is all zeros
_NEW_KEY = "a new one was made: marks of earlier secrets stay, and a secret marked before is marked otherwise now"


@dataclass(frozen=True, slots=True)
class MarkKey:
    """A home's key, as far as it has one.

    Attributes:
        value: 32 bytes; None where there is none, and marks are made without a hash.
        notice: what a person should know of it, in one line.
    """

    value: bytes | None = field(repr=False)
    notice: str | None = None


class _Damaged(Exception):
    """What lies there is a file of ours and no key."""


class _Unusable(Exception):
    """What lies there cannot be used and is not ours to replace."""


def mark_key(path: Path, *, repos: Iterable[Path] = ()) -> MarkKey:
    """The key at `path`, made if there is none. Never fails: without a key there are marks, which say less.

    A key that is damaged is replaced, and one that others could read is closed to them; both are told. What is no
    file of this user's stays as it is, and there is no key until somebody has removed it.

    Args:
        repos: memory repos: in none of them is a key read or made, since what lies there may be committed and pushed.
    """
    folder = Path(os.path.realpath(path.parent))
    for repo in repos:
        if folder.is_relative_to(os.path.realpath(repo)):
            return _none(path, _Unusable(f"would lie in the memory repo {str(repo)!r}"))
    try:
        return _read(path)
    except FileNotFoundError:
        return _made(path, None)
    except _Damaged as damage:
        return _made(path, str(damage))
    except (_Unusable, OSError) as problem:
        return _none(path, problem)


def look_at_mark_key(path: Path) -> str | None:
    """What is wrong with the key at `path`, if anything; changes nothing."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return "is no file"
        if _is_open(status):
            return f"is open to others (mode {stat.S_IMODE(status.st_mode):04o})"
        if status.st_size != MARK_KEY_BYTES:
            return f"has {status.st_size} bytes, not {MARK_KEY_BYTES}"
        if not os.access(path, os.R_OK):
            return "cannot be read"
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return None


def _read(path: Path) -> MarkKey:
    """The key that is there.

    Raises:
        FileNotFoundError: there is none.
        _Damaged, _Unusable, OSError: see there.
    """
    if path.is_symlink():
        raise _Unusable("is a link")
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise _Unusable("is no file")
        if os.name == "posix" and status.st_uid != os.getuid():
            raise _Unusable("belongs to another user")
        notice = None
        if _is_open(status):
            os.fchmod(handle, 0o600)
            notice = (
                f"{path.name!r} in the home was open to others (mode {stat.S_IMODE(status.st_mode):04o}), and is not "
                "any more; whoever has read it can hold a guess at a secret against its mark"
            )
            _log.warning("%s", notice)
        value = os.read(handle, MARK_KEY_BYTES + 1)
    finally:
        os.close(handle)
    if len(value) != MARK_KEY_BYTES:
        raise _Damaged(f"had {status.st_size} bytes, not {MARK_KEY_BYTES}")
    if len(set(value)) < _LEAST_DIFFERENT:
        raise _Damaged("was not random")
    return MarkKey(value, notice)


def _is_open(status: os.stat_result) -> bool:
    return os.name == "posix" and bool(status.st_mode & 0o077)


def _made(path: Path, damage: str | None) -> MarkKey:
    """A new key, or the one that another process has made meanwhile."""
    try:
        with ProcessLock(path.with_name(f"{path.name}.lock"), timeout=_LOCK_SECONDS):
            try:
                return _read(path)
            except (FileNotFoundError, _Damaged):
                value = _write(path)
    except (AlgError, _Unusable, OSError) as problem:
        return _none(path, problem)
    if damage is None:
        _log.info("made the key of this home's marks, %r", str(path))
        return MarkKey(value)
    notice = f"{path.name!r} in the home {damage}; {_NEW_KEY}"
    _log.warning("%s", notice)
    return MarkKey(value, notice)


def _write(path: Path) -> bytes:
    """A new key in the place of whatever file is there: whole or not at all, on the disk before it is used."""
    value = os.urandom(MARK_KEY_BYTES)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # of a process that died: the lock is ours
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(new, flags, 0o600)
    try:
        if os.name == "posix":
            os.fchmod(handle, 0o600)  # whatever the umask is
        os.write(handle, value)
        os.fsync(handle)
    finally:
        os.close(handle)
    reach("key.written")
    new.replace(path)
    reach("key.renamed")
    fsync_path(path.parent)
    return value


def _none(path: Path, problem: Exception) -> MarkKey:
    why = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    notice = (
        f"{str(path)!r} {why if isinstance(problem, _Unusable) else f'cannot be used: {why}'}; marks of redacted "
        "secrets do not tell equal ones until it is removed or mended and the hub started again"
    )
    _log.warning("%s", notice)
    return MarkKey(None, notice)
