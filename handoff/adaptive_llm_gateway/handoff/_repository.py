"""Somebody's git repository, read with libgit2 as far as it can be trusted: opened, its files read, its address told.

No git program is run: what its configuration and attributes name (file-system monitors, hooks, filters, external diffs)
would run as the user who only wanted to hand off some work.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.handoff._patch import EXECUTABLE, LINK, REGULAR, Side, blob_id

if TYPE_CHECKING:
    import pygit2

MOST_CONTENT: Final = 8 * 1024 * 1024
"""Bytes of a file above which it is left out of a patch unread."""

OTHER_FORM: Final = "git stores them in another form than they have here"

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*@)?")
_SHORT = re.compile(r"^([^@/\s]+@)?([^@/\s:]+:.*)$")


def check_directory(directory: Path) -> None:
    if not directory.is_absolute():
        raise InvalidInput(
            f"{str(directory)!r} is not an absolute path, and the hub runs in another folder than its clients",
            hint="Give the folder of the work from the root on.",
        )
    try:
        found = stat.S_ISDIR(directory.stat().st_mode)
    except ValueError:  # a NUL in it
        found = False
    except OSError as error:
        found = error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
    if not found:
        raise InvalidInput(f"{str(directory)!r} is not a folder on this machine", hint="Give the folder of the work.")


def open_repository(directory: Path) -> tuple[pygit2.Repository | None, str]:
    import pygit2  # noqa: PLC0415 - as above

    try:
        at = pygit2.discover_repository(str(directory))
        if at is None:
            return None, f"{str(directory)!r} is in no git repository."
        repo = pygit2.Repository(at)
        if not repo.is_bare and not _belongs(directory, repo):
            # `core.worktree` can name any folder, and that folder's files would go into the patch.
            return None, f"The git repository at {short(at)!r} has its files elsewhere, and is not read from here."
    except (pygit2.GitError, OSError, ValueError, KeyError) as error:
        if "not owned" in str(error):
            return None, f"The git repository at {str(directory)!r} belongs to another user, so it is not read."
        return None, f"The git repository at {str(directory)!r} cannot be read: {in_words(error)}."
    return repo, ""


def _belongs(directory: Path, repo: pygit2.Repository) -> bool:
    """Whether the files of `repo` lie where its `.git` does, and `directory` is among them."""
    top = os.path.realpath(repo.workdir)
    here = os.path.realpath(directory)
    if here != top and not here.startswith(top.rstrip(os.sep) + os.sep):
        return False
    mark = Path(top, ".git")
    if mark.is_dir():
        return mark.samefile(repo.path)
    if not mark.is_file():
        return False
    with mark.open("rb") as file:
        said = file.read(4096)
    if not said.startswith(b"gitdir:"):
        return False
    return Path(top, os.fsdecode(said[7:].strip())).samefile(repo.path)


def read_file(top: str, name: str) -> Side | str | None:
    """A regular file or link below `top`, no link followed; None: there is none; otherwise why it is not read."""
    parts = name.split("/")
    try:
        for depth in range(1, len(parts)):
            if not stat.S_ISDIR(Path(top, *parts[:depth]).lstat().st_mode):
                return None
        at = Path(top, *parts)
        found = at.lstat()
        if stat.S_ISLNK(found.st_mode):
            return Side(LINK, os.fsencode(os.readlink(at)))  # noqa: PTH115 - a Path would tidy it up
        if not stat.S_ISREG(found.st_mode):
            return None
        if found.st_size > MOST_CONTENT:
            return f"they have more than {MOST_CONTENT:,} bytes"
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(at, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            data = file.read(MOST_CONTENT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        return "they cannot be read"
    if len(data) > MOST_CONTENT:
        return f"they have more than {MOST_CONTENT:,} bytes"
    return Side(EXECUTABLE if found.st_mode & 0o100 else REGULAR, data)


def as_stored(repo: pygit2.Repository, name: str, now: Side) -> Side | str:
    """A file that was read as git would store it, or why that cannot be told."""
    if now.is_link or (b"\r\n" not in now.data and b"$Id" not in now.data):
        return now
    stored = str(repo.hashfile(name))
    for data in _stored_forms(now.data):
        if blob_id(data) == stored:
            return Side(now.mode, data)
    return OTHER_FORM


def _stored_forms(data: bytes) -> Iterator[bytes]:
    """What git may store of a file: as it is, without carriage returns, without what it fills in for `$Id$`."""
    yield data
    yield data.replace(b"\r\n", b"\n")
    bare = re.sub(rb"\$Id:[^$\n]*\$", b"$Id$", data)
    yield bare
    yield bare.replace(b"\r\n", b"\n")


def without_user(address: str) -> str | None:
    """A remote's address without user and password; the `git` that ssh addresses begin with stays, for it is nobody.

    None for what is no address: empty, a command (`ext::`), or with control characters.
    """
    address = address.strip()
    if not address or len(address) > 2_000 or not address.isprintable() or address.startswith("ext::"):
        return None
    if scheme := _SCHEME.match(address):
        rest = address[scheme.end() :]
        if scheme[1].lower() in ("http", "https", "ftp", "ftps"):
            rest = re.split(r"[?#]", rest, maxsplit=1)[0]
        git = "git@" if scheme[2] in ("git@",) and "ssh" in scheme[1].lower() else ""
        return f"{scheme[1]}://{git}{rest}"
    if "::" in address:
        helper, _, rest = address.partition("::")
        inner = without_user(rest)
        return None if inner is None else f"{helper}::{inner}"
    if short := _SHORT.match(address):
        return ("git@" if short[1] == "git@" else "") + short[2]
    return address


def short(path: str) -> str:
    return path.rstrip(os.sep) or path


def in_words(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:300].removesuffix(".")
