"""Files below allowed folders, read so that nothing else can be: no link is followed, and nothing but files is opened.

A path is resolved, compared with the roots, and then opened from its root on, one part after the other, none of them
through a link: what is put in the place of a part meanwhile makes the opening fail, and leads nowhere.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from adaptive_llm_gateway.core import ConfigError, InvalidInput, NotFound, StorageError, UnsafePath

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_FOLDER = _FLAGS | os.O_DIRECTORY
_LONGEST_PATH = 4_096  # bytes
_MOST_ENTRIES = 20_000  # of a folder
_DEEPEST = 64
# Made by programs, whatever a .gitignore says.
_MADE = frozenset(["node_modules", "__pycache__", "venv", "site-packages", "bower_components"])
_KEYS = (
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "*.ovpn",
    "*.ppk",
    "*.asc",
    "*.gpg",
    "*.env",
    "id_rsa*",
    "id_dsa*",
    "id_ecdsa*",
    "id_ed25519*",
    "credentials",
    "credentials.*",
    "secrets.*",
    "*.tfstate",
    "*.tfstate.*",
    "*.tfvars",
    "service-account*.json",
    "htpasswd",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read at once.

    Attributes:
        files: read at most.
        bytes: of all of them.
        file_bytes: of each; larger ones are named.
        entries: of folders, looked at.
        seconds: after which no further file is read.
        held: bytes, about, of all that is made of them.
    """

    files: int = 5_000
    bytes: int = 64 * 1024 * 1024
    file_bytes: int = 1024 * 1024
    entries: int = 100_000
    seconds: float = 20.0
    held: int = 96 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """A path that may be read: the root that it lies below, resolved, and its parts from there."""

    root: str
    parts: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path, absolute and resolved."""
        return os.path.join(self.root, *self.parts)  # noqa: PTH118 - names may be no valid Unicode


@dataclass(frozen=True, slots=True)
class Found:
    """A file, whole. `path` is relative to what was asked for, with `/`; a file that was asked for has its name."""

    path: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Unread:
    """What was not read, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Walk:
    """What a walk leaves to be told, once it is done.

    Attributes:
        folder: whether a folder was asked for.
        hidden, ignored: how many files and folders were left out for their names, or by git's rules.
        stopped: why it ended early.
        looked: names that were looked at.
    """

    folder: bool = True
    hidden: int = 0
    ignored: int = 0
    stopped: str | None = None
    looked: int = 0


def place_of(path: str, roots: Sequence[Path]) -> Place:
    """Where a path lies, if it may be read; whether it exists is said only then.

    Raises:
        ConfigError: there are no roots.
        InvalidInput: the path is empty, not absolute, or none.
        UnsafePath: it lies below no root, also after its links are followed, or is hidden.
    """
    if not roots:
        raise ConfigError(
            f"{path!r} may not be read: 'summaries.roots' is empty, so no folder may be summarised",
            hint="Name folders in config.yaml (`alg path config`), for example `summaries: {roots: [~/projects]}`, "
            "then `alg hub stop`; the next call starts the hub anew.",
            key="summaries.roots",
        )
    if not path.strip() or "\0" in path or not 0 < _length(path) <= _LONGEST_PATH:
        raise InvalidInput(f"{path[:200]!r} is not a path", hint="Give the absolute path of a file or a folder.")
    given = os.path.expanduser(path)  # noqa: PTH111 - pathlib would collapse parts before links are followed
    if not os.path.isabs(given):  # noqa: PTH117
        raise InvalidInput(f"{path!r} is not an absolute path", hint="The hub has no working folder of yours.")
    real = os.path.realpath(given)
    found: Place | None = None
    for root in roots:
        base = os.path.realpath(root)
        inside = real == base or real.startswith(base.rstrip(os.sep) + os.sep)
        if inside and (found is None or len(base) > len(found.root)):
            found = Place(base, Path(real[len(base) :].strip(os.sep)).parts)
    if found is None:
        raise UnsafePath(
            f"{path!r} is below none of the folders that may be summarised, or is a link that leads out of them",
            hint="'summaries.roots' in config.yaml names those folders; a person may add one.",
        )
    for part in found.parts:
        if part.startswith("."):
            raise UnsafePath(
                f"{path!r} is hidden or lies in a hidden folder ({part!r}), and those are not read",
                hint="A person may name it in 'summaries.roots' by itself.",
            )
        if _may_hold_keys(part):
            raise UnsafePath(f"{path!r} is not read: by its name ({part!r}) it may hold keys or passwords")
    if not found.parts and not os.path.isdir(found.root):  # noqa: PTH112 - a root may be a file
        return Place(os.path.dirname(found.root), (os.path.basename(found.root),))  # noqa: PTH119, PTH120
    return found


def _length(path: str) -> int:
    """The bytes of a path; 0 of one that no file can have."""
    try:
        return len(os.fsencode(path))
    except UnicodeEncodeError:
        return 0


def files_at(
    place: Place, walk: Walk, *, limits: Limits, clock: Callable[[], float], private: Sequence[Path] = ()
) -> Generator[Found | Unread]:
    """The file at a place, or those below a folder: what lies higher first, then by name.

    Hidden files, what git ignores and folders that programs make are left out and counted in `walk`; links, devices,
    pipes, sockets, files too large and those whose name tells of keys are named.

    Args:
        clock: seconds, that only grow.
        private: folders that are never read, whatever the roots are.

    Raises:
        NotFound: there is nothing at the place.
        UnsafePath: it is a link by now, private, or neither file nor folder.
        StorageError: it cannot be read.
    """
    closed = _identities(private)
    name = place.parts[-1] if place.parts else "."
    with _opened(place, place.parts[:-1]) as fd:
        with _told(place.path):
            about = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if any(_identity(os.lstat(folder)) in closed for folder in _around(place)):
                raise UnsafePath(f"{place.path!r} belongs to the memory itself", hint="memory_context reads that.")
        if stat.S_ISREG(about.st_mode):
            walk.folder = False
            if about.st_size > limits.file_bytes:
                yield Unread(name, _too_large(about.st_size))
                return
            yield _read(fd, name, name, about, limits)
            return
        if not stat.S_ISDIR(about.st_mode):
            raise UnsafePath(f"{place.path!r} is neither a file nor a folder but {_kind(about.st_mode)}")
    yield from _below(place, walk, limits, clock, closed, about.st_dev)


def _below(
    place: Place, walk: Walk, limits: Limits, clock: Callable[[], float], closed: set[tuple[int, int]], device: int
) -> Iterator[Found | Unread]:
    rules = _Rules(place.path)
    pending: deque[tuple[tuple[str, ...], Any]] = deque([((), rules.outer)])  # folders, each with its repository
    files = size = 0
    end, late = clock() + limits.seconds, f"more than {limits.seconds:g} seconds"
    while pending and walk.stopped is None:
        parts, repo = pending.popleft()
        if parts and clock() > end:
            walk.stopped = late
            return
        try:
            opened = _open_below(place.root, (*place.parts, *parts))
        except OSError as error:
            if not parts:
                raise _failure(place.path, error) from error
            yield Unread("/".join(parts) + "/", "cannot be read")
            continue
        try:
            entries = _entries(opened, walk, limits)
            repo = rules.inner(parts, repo) if parts and ".git" in entries else repo
            for name in entries:
                path = "/".join((*parts, name))
                if name.startswith("."):
                    walk.hidden += 1
                    continue
                try:
                    about = os.stat(name, dir_fd=opened, follow_symlinks=False)
                except OSError:
                    continue  # gone meanwhile
                folder = stat.S_ISDIR(about.st_mode)
                if (name in _MADE and folder) or rules.ignores(repo, path, folder=folder):
                    walk.ignored += 1
                elif folder:
                    if about.st_dev != device:
                        yield Unread(path + "/", "on another file system")
                    elif _identity(about) in closed:
                        walk.hidden += 1
                    elif len(parts) >= _DEEPEST:
                        yield Unread(path + "/", "too deep")
                    else:
                        pending.append(((*parts, name), repo))
                elif not stat.S_ISREG(about.st_mode):
                    yield Unread(path, _kind(about.st_mode))
                elif _may_hold_keys(name):
                    yield Unread(path, "may hold keys")
                elif about.st_size > limits.file_bytes:
                    yield Unread(path, _too_large(about.st_size))
                else:
                    enough = _enough(files, size + about.st_size, limits)
                    if enough or clock() > end:
                        walk.stopped = enough or late
                        return
                    files, size = files + 1, size + about.st_size
                    yield _read(opened, name, path, about, limits)
        finally:
            os.close(opened)


def _enough(files: int, size: int, limits: Limits) -> str | None:
    if files >= limits.files:
        return f"more than {limits.files:,} files"
    return f"more than {limits.bytes:,} bytes" if size > limits.bytes else None


def _entries(folder: int, walk: Walk, limits: Limits) -> list[str]:
    """The names in a folder, in order; of too many, none of the rest."""
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(names) >= _MOST_ENTRIES or walk.looked >= limits.entries:
                walk.stopped = f"more than {min(_MOST_ENTRIES, limits.entries):,} names"
                break
            names.append(entry.name)
            walk.looked += 1
    return sorted(names)


def _read(folder: int, name: str, path: str, seen: os.stat_result, limits: Limits) -> Found | Unread:
    """A file's content, if it is the one that was looked at, and still a file."""
    try:
        opened = os.open(name, _FLAGS, dir_fd=folder)
    except OSError:
        return Unread(path, "cannot be read")
    try:
        about = os.fstat(opened)
        if not stat.S_ISREG(about.st_mode) or _identity(about) != _identity(seen):
            return Unread(path, "changed while it was read")
        parts: list[bytes] = []
        left = limits.file_bytes + 1
        while left > 0 and (part := os.read(opened, min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
    except OSError:
        return Unread(path, "cannot be read")
    finally:
        os.close(opened)
    data = b"".join(parts)
    return Found(path, data) if len(data) <= limits.file_bytes else Unread(path, _too_large(len(data)))


@contextmanager
def _opened(place: Place, parts: Sequence[str]) -> Generator[int]:
    with _told(place.path):
        opened = _open_below(place.root, parts)
    try:
        yield opened
    finally:
        os.close(opened)


def _open_below(root: str, parts: Sequence[str]) -> int:
    """A folder, opened from its root on without following a link."""
    opened = os.open(root, _FOLDER)
    for part in parts:
        try:
            inner = os.open(part, _FOLDER, dir_fd=opened)
        finally:
            os.close(opened)
        opened = inner
    return opened


@contextmanager
def _told(path: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise _failure(path, error) from error


def _failure(path: str, error: OSError) -> Exception:
    if isinstance(error, FileNotFoundError):
        return NotFound(f"there is no {path!r}", path=path)
    if isinstance(error, PermissionError):
        return StorageError(f"{path!r} cannot be read: {error.strerror}", path=path)
    return UnsafePath(f"{path!r} cannot be opened: a part of it is no folder, or is a link by now ({error.strerror})")


def _around(place: Place) -> Iterator[str]:
    """The place and all folders around it."""
    path = place.path
    while True:
        yield path
        above = os.path.dirname(path)  # noqa: PTH120
        if above == path:
            return
        path = above


def _identities(paths: Sequence[Path]) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    for path in paths:
        with suppress(OSError):
            found.add(_identity(path.stat()))
    return found


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _may_hold_keys(name: str) -> bool:
    lower = name.lower()
    return any(fnmatchcase(lower, pattern) for pattern in _KEYS)


def _too_large(size: int) -> str:
    return f"too large: {size:,} bytes"


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISLNK, "a link"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "of a kind that is not read")


class _Rules:
    """What git ignores, below a folder: by the repository around it, and by those that lie in it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.outer: Any = None
        try:
            import pygit2  # noqa: PLC0415 - after the hub listens

            found = pygit2.discover_repository(path)
            self.outer = pygit2.Repository(found) if found else None
            if self.outer is not None and self.ignores(self.outer, "", folder=True):
                self.outer = None  # asked for all the same
        except Exception:  # noqa: BLE001 - a repository that git cannot read has no rules
            self.outer = None

    def inner(self, parts: Sequence[str], outer: Any) -> Any:
        """The repository of a folder that has one."""
        try:
            import pygit2  # noqa: PLC0415 - as above

            return pygit2.Repository(os.path.join(self._path, *parts))  # noqa: PTH118
        except Exception:  # noqa: BLE001 - as above
            return outer

    def ignores(self, repo: Any, path: str, *, folder: bool) -> bool:
        """Whether the rules leave out a path, relative to the folder."""
        if repo is None or not repo.workdir:
            return False
        full = os.path.join(self._path, path) if path else self._path  # noqa: PTH118
        relative = os.path.relpath(full, os.path.realpath(repo.workdir))
        if relative in (".", "..") or relative.startswith(".." + os.sep):
            return False
        try:
            return bool(repo.path_is_ignored(relative + "/" if folder else relative))
        except Exception:  # noqa: BLE001 - a name that git cannot take is one that its rules do not name
            return False
