"""Files that are there after a crash, readable by their owner alone, and the errors that the disk gives."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Generator
from pathlib import Path

from adaptive_llm_gateway.core import DiskFull, ReadOnly, StorageError, fsync_path


@contextlib.contextmanager
def storage_errors(what: str) -> Generator[None]:
    """Turn what the operating system says into `DiskFull`, `ReadOnly` or `StorageError`."""
    try:
        yield
    except OSError as error:
        path = str(error.filename) if error.filename else None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left to {what}", hint="Free some space, then try again.", path=path) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ReadOnly(
                f"not allowed to {what}: {error.strerror}", hint="Make the home writable for this user.", path=path
            ) from error
        raise StorageError(f"could not {what}: {error.strerror or error}", path=path) from error


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file that only its owner may read; a symbolic link is refused."""
    return os.open(path, flags | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0), 0o600)


def make_folder(folder: Path, *, durable: bool = False) -> None:
    """Create `folder` and what is missing above it, for the owner alone."""
    if not folder.is_dir():
        make_folder(folder.parent, durable=durable)
        folder.mkdir(mode=0o700, exist_ok=True)
        if durable:
            sync_folder(folder.parent)


def sync_data(handle: int) -> None:
    """Make what was written durable, its length too; times and rights need not be."""
    getattr(os, "fdatasync", os.fsync)(handle)


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in `folder` durable."""
    fsync_path(folder)


def write_all(handle: int, data: bytes) -> None:
    """Write all of `data`: the system may take less at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]


def write_file(path: Path, data: bytes) -> None:
    """Write a file that can be made again: a crash may leave half of it."""
    handle = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(handle, data)
    finally:
        os.close(handle)


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in place of the file at `path`, whole or not at all, and durable; one writer at a time."""
    temp = path.with_name(f"{path.name}.new")
    handle = open_private(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    temp.replace(path)
    sync_folder(path.parent)
