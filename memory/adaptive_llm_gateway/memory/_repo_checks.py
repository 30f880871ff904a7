"""What a memory repo must be like: its format, its paths, repositories that cannot be one; libgit2's errors as ours."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import pygit2
from pygit2.enums import ConfigLevel

from adaptive_llm_gateway.core import AlgError, DiskFull, FormatTooNew, ReadOnly, StorageError, UnsafePath
from adaptive_llm_gateway.memory._names import is_git_name

FORMAT: Final = 1
FORMAT_PATH: Final = ".alg/format"
_LITTLE: Final = 1 << 20
_NEXT_TO_NOTHING: Final = 1 << 16


def check_format(marker: bytes | None, *, where: str | None) -> None:
    """Refuse a format marker that this version does not know.

    Args:
        where: the memory repo's folder; None for the remote.

    Raises:
        FormatTooNew: `details` has `format` and `known`.
    """
    if marker is None:
        return
    text = marker.strip()
    number = int(text) if text.isdigit() and len(text) < 10 else None
    if number is None or number > FORMAT:
        what = "the remote" if where is None else f"the memory repo at {where!r}"
        raise FormatTooNew(
            f"{what} has format {marker[:40].decode('utf-8', 'replace').strip()!r}; this version knows format {FORMAT}",
            hint="Install a newer adaptive-llm-gateway.",
            path=where or "the remote",
            format=number,
            known=FORMAT,
        )


def check_path(path: str) -> str:
    """`path` if it is safe as a file of the memory repo.

    Raises:
        UnsafePath: absolute, with `..`, `.git` in any of its disguises, a backslash or control characters.
    """
    parts = path.split("/")
    if (
        not path
        or len(path.encode("utf-8", "surrogateescape")) > 4000
        or any(not part or part in (".", "..") or is_git_name(part) for part in parts)
        or any(char == "\\" or ord(char) < 0x20 or ord(char) == 0x7F for char in path)
        or re.match(r"[A-Za-z]:", path)
    ):
        raise UnsafePath(f"{path!r} is not a path within the memory repo", path=path)
    return path


def is_plain_path(path: str) -> bool:
    """Whether `path` is UTF-8 and passes `check_path`."""
    try:
        path.encode("utf-8")
        check_path(path)
    except (UnicodeEncodeError, UnsafePath):
        return False
    return True


@contextlib.contextmanager
def translated(path: Path) -> Generator[None]:
    """libgit2's and the system's errors as ours."""
    try:
        yield
    except (pygit2.GitError, OSError, KeyError, ValueError) as error:
        raise translate_error(error, path) from error


@dataclass(frozen=True, slots=True)
class DiskTrouble:
    """What is wrong with the disk: `stops` where hardly any write can succeed."""

    kind: Literal["disk_full", "read_only"]
    message: str
    stops: bool


def disk_trouble(path: Path) -> DiskTrouble | None:
    """Whether the disk that `path` is on is full, nearly so, or cannot be written; None: no, or it cannot be told."""
    if not hasattr(os, "statvfs"):
        return None
    try:
        room = os.statvfs(path)
    except OSError:
        return None
    if room.f_flag & os.ST_RDONLY:
        return DiskTrouble("read_only", "the file system of the memory repo cannot be written", stops=True)
    left = room.f_bavail * room.f_frsize
    if left < _LITTLE:
        text = f"only {left // 1024} KiB are free where the memory repo is"
        return DiskTrouble("disk_full", text, stops=left < _NEXT_TO_NOTHING)
    if room.f_files and not room.f_favail:
        text = "no more files can be made where the memory repo is: its file system has no inode left"
        return DiskTrouble("disk_full", text, stops=True)
    return None


def translate_error(error: Exception, path: Path) -> AlgError:
    """The error of ours that stands for one of libgit2 or of the operating system."""
    words = str(error)
    low = words.lower()
    where = str(path)
    # libgit2 may speak of something else when a write of its own finds no space.
    trouble = disk_trouble(path) if isinstance(error, pygit2.GitError) else None
    if (trouble is not None and trouble.kind == "disk_full") or "no space left" in low or "quota exceeded" in low:
        return DiskFull(f"no space left for the memory repo at {where!r}", hint="Free some space.", path=where)
    if "read-only file system" in low or "permission denied" in low or "operation not permitted" in low:
        return ReadOnly(
            f"the memory repo at {where!r} cannot be written: {words}",
            hint="Make it writable for this user.",
            path=where,
        )
    if "not owned by" in low:
        return StorageError(
            f"the memory repo at {where!r} belongs to another user, so git does not trust it",
            hint="Change its owner, or add it to git's safe.directory if you trust it.",
            path=where,
            reason="ownership",
            git=words,
        )
    if "unsupported extension" in low or "object format" in low:
        return StorageError(
            f"the repository at {where!r} uses a git feature that this version cannot handle: {words}",
            hint="Use a repository with SHA-1 objects and plain reference files.",
            path=where,
            reason="unsupported",
            git=words,
        )
    if "repository not found" in low or "could not find repository" in low:
        return StorageError(
            f"{where!r} is not a git repository that can be opened: {words}",
            path=where,
            reason="not_a_repository",
            git=words,
        )
    return StorageError(f"git storage failed in {where!r}: {words}", path=where, reason="git", git=words)


def refuse_bare(path: Path) -> None:
    """Refuse a bare repository, or something that is no folder.

    Raises:
        StorageError: `details["reason"]` names it.
    """
    if (path / "HEAD").is_file() and (path / "objects").is_dir() and (path / "refs").is_dir():
        raise StorageError(
            f"{str(path)!r} is a bare repository; memories need a work tree",
            hint="Clone it, or give it as the remote: `alg init --remote`.",
            path=str(path),
            reason="bare",
        )
    if os.path.lexists(path) and not path.is_dir():
        raise StorageError(f"{str(path)!r} is not a folder", path=str(path), reason="not_a_folder")


def refuse_foreign_layout(path: Path) -> None:
    """Refuse what libgit2 would open but this project could not keep whole: SHA-256, bare, filters.

    Raises:
        StorageError: `details["reason"]` names it.
    """
    with contextlib.suppress(OSError):
        config = (path / ".git" / "config").read_text(encoding="utf-8", errors="replace")
        if re.search(r"(?im)^\s*objectformat\s*=\s*sha256", config):
            raise StorageError(
                f"the repository at {str(path)!r} has SHA-256 objects, which this version cannot handle",
                hint="Use a repository with SHA-1 objects.",
                path=str(path),
                reason="sha256",
            )
        if re.search(r"(?im)^\s*bare\s*=\s*true", config):
            raise StorageError(
                f"{str(path)!r} is a bare repository; memories need a work tree", path=str(path), reason="bare"
            )
    with contextlib.suppress(OSError):
        attributes = (path / ".gitattributes").read_text(encoding="utf-8", errors="replace")
        if re.search(r"(?m)^[^#\n]*\sfilter=", attributes):
            raise StorageError(
                f"the repository at {str(path)!r} passes files through a filter (Git LFS, git-crypt), which a memory"
                " repo cannot: what is committed must be what is on disk",
                hint="Use a repository without `filter=` in its .gitattributes.",
                path=str(path),
                reason="filter",
            )


def use_current_home() -> None:
    """libgit2 reads HOME once for each process; the user's configuration may have moved since."""
    with contextlib.suppress(RuntimeError, OSError, pygit2.GitError, ValueError):
        pygit2.settings.search_path[ConfigLevel.GLOBAL] = str(Path.home())
