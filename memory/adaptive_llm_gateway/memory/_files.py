"""Durable changes to files: written beside the tree, synced, renamed into place, and undone when what follows fails."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable, Generator
from pathlib import Path

from adaptive_llm_gateway.core import AlgError, DiskFull, ReadOnly, StorageError, UnsafePath, fsync_path, reach
from adaptive_llm_gateway.memory._names import check_repo_path

_counter = itertools.count()


@contextlib.contextmanager
def storage_errors(what: str) -> Generator[None]:
    """Turn what the operating system says into `DiskFull`, `ReadOnly` or `StorageError`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what) from error


def storage_error(error: OSError, what: str) -> AlgError:
    """The named error for an `OSError` that came while doing `what`."""
    detail = {"errno": error.errno, "path": str(error.filename) if error.filename else None}
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left to {what}", hint="Free some space, then try again. Nothing changed.", **detail)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ReadOnly(
            f"not allowed to {what}: {error.strerror}",
            hint="Make the home and the memory repo writable for this user. Nothing changed.",
            **detail,
        )
    return StorageError(f"could not {what}: {error.strerror or error}", hint="Nothing changed.", **detail)


class FileBatch:
    """The file changes of one group of writes.

    Each `put` and `remove` is in the tree when it returns; `settle` makes the folders durable; `undo` takes one change
    back without needing space. Temporary files lie in `scratch`, which must be on the tree's file system.
    """

    def __init__(self, root: Path, scratch: Path) -> None:
        self._root = root
        self._scratch = scratch
        self._folders: set[Path] = set()
        self._backups: list[Path] = []

    def put(self, path: str, data: bytes) -> Callable[[], None]:
        """Write `data` to `path`, replacing what is there; returns what undoes it."""
        target = check_repo_path(self._root, path)
        with storage_errors(f"write {path!r}"):
            self._make_folder(target.parent)
            temp = self._scratch_path("new")
            try:
                with temp.open("xb") as file:
                    file.write(data)
                    reach("write.temp_written")
                    file.flush()
                    os.fsync(file.fileno())
                reach("write.temp_synced")
                backup = self._keep(target)
                temp.replace(target)
            except BaseException:
                temp.unlink(missing_ok=True)
                raise
        reach("write.renamed")
        self._folders.add(target.parent)

        def undo() -> None:
            if backup is None:
                target.unlink(missing_ok=True)
            else:
                backup.replace(target)

        return undo

    def remove(self, path: str) -> Callable[[], None]:
        """Take `path` out of the tree; returns what undoes it."""
        target = check_repo_path(self._root, path)
        with storage_errors(f"remove {path!r}"):
            backup = self._keep(target)
            target.unlink(missing_ok=True)
        reach("write.renamed")
        self._folders.add(target.parent)

        def undo() -> None:
            if backup is not None:
                backup.replace(target)

        return undo

    def settle(self) -> None:
        """Make the renames durable: fsync each folder that changed."""
        for folder in self._folders:
            fsync_path(folder)
        self._folders.clear()

    def forget(self) -> None:
        """The batch is accepted: what would undo it goes."""
        for backup in self._backups:
            backup.unlink(missing_ok=True)
        self._backups.clear()

    def _keep(self, target: Path) -> Path | None:
        backup = self._scratch_path("old")
        try:
            os.link(target, backup, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError:  # a file system without hard links
            backup.write_bytes(target.read_bytes())
        self._backups.append(backup)
        return backup

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        missing = [folder]
        while not missing[-1].parent.is_dir():
            missing.append(missing[-1].parent)
        folder.mkdir(parents=True, exist_ok=True)
        self._folders.update(path.parent for path in missing)

    def _scratch_path(self, kind: str) -> Path:
        return self._scratch / f"{os.getpid()}-{next(_counter)}.{kind}"


def prepare_scratch(scratch: Path) -> None:
    """Create `scratch`, or empty it of what a killed process left."""
    with storage_errors(f"create {str(scratch)!r}"):
        scratch.mkdir(parents=True, exist_ok=True)
        for leftover in scratch.iterdir():
            leftover.unlink(missing_ok=True)


def read_file(root: Path, path: str, *, limit: int) -> bytes | None:
    """The bytes of a file in the tree, or None when it is not there.

    Raises:
        UnsafePath: the path leads out of `root`, or is not a regular file.
        StorageError: it cannot be read, or exceeds `limit` bytes.
    """
    target = check_repo_path(root, path)
    try:
        handle = os.open(target, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise UnsafePath(f"{path!r} is a symbolic link", hint="Memories are regular files.", path=path) from error
        raise storage_error(error, f"read {path!r}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnsafePath(f"{path!r} is not a regular file", hint="Memories are regular files.", path=path)
    with os.fdopen(handle, "rb") as file, storage_errors(f"read {path!r}"):
        data = file.read(limit + 1)
    if len(data) > limit:
        raise StorageError(f"{path!r} is larger than {limit:,} bytes", path=path)
    return data


def write_atomically(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a small file of our own in the git folder: whole or not at all, and with `durable` on disk."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    temporary.replace(path)
