"""Walking and reading a source's files without ever leaving it."""

from __future__ import annotations

import codecs
import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adaptive_llm_gateway.memory._import import SkippedFile

MARKDOWN = (".md", ".markdown")
FILE_LIMIT = 5_000_000  # bytes
_FOLDERS_LEFT_OUT = {"node_modules", "__pycache__"}


class Unreadable(Exception):
    """A file that is not imported; the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file of the source: its path on disk, and relative to the source in POSIX form, NFC."""

    disk: Path
    path: str


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text with its times; `problem` is set when it was not plain UTF-8."""

    text: str
    created: datetime
    updated: datetime
    problem: str | None = None


def walk(root: Path, skipped: list[SkippedFile]) -> Iterator[Found]:
    """All regular files under `root` in a fixed order.

    Hidden files and folders, `node_modules` and symbolic links are left out; links are named in `skipped`, as is what
    cannot be listed.
    """
    real = os.path.realpath(root)
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(real, folder)) as listing:  # noqa: PTH118 - the hot path
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            skipped.append(SkippedFile(shown(folder) or ".", f"cannot be listed: {error.strerror}"))
            continue
        folders: list[str] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            relative = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink():
                skipped.append(SkippedFile(shown(relative), _about_link(real, entry.path)))
            elif entry.is_dir(follow_symlinks=False):
                if entry.name not in _FOLDERS_LEFT_OUT:
                    folders.append(relative)
            elif entry.is_file(follow_symlinks=False):
                yield Found(Path(entry.path), shown(relative))
            else:
                skipped.append(SkippedFile(shown(relative), "is not a regular file"))
        waiting.extend(reversed(folders))


def _about_link(root: str, path: str) -> str:
    target = os.path.realpath(path)
    if is_within(root, target):
        return "is a symbolic link; what it points to is read where it lies"
    return "is a symbolic link that leads out of the folder; refused"


def is_within(root: str, path: str) -> bool:
    """Whether the resolved `path` is `root` or lies below it."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def shown(path: str) -> str:
    """A file's name as text: POSIX, NFC, bytes that are not UTF-8 replaced."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace(os.sep, "/")
    return unicodedata.normalize("NFC", text)


def read_bytes(path: Path, *, limit: int = FILE_LIMIT) -> tuple[bytes, os.stat_result]:
    """A regular file's bytes; a link in its place, a pipe, or more than `limit` bytes are refused.

    Raises:
        Unreadable: with the reason.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Unreadable("is a symbolic link; refused") from error
        raise Unreadable(f"cannot be read: {error.strerror}") from error
    with open(descriptor, "rb") as file:  # noqa: PTH123 - from a descriptor
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise Unreadable("is not a regular file")
        if about.st_size > limit:
            raise Unreadable(f"is {about.st_size:,} bytes, over the limit of {limit:,}")
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise Unreadable(f"is over the limit of {limit:,} bytes")
    return data, about


def read_text(path: Path, *, limit: int = FILE_LIMIT) -> Text:
    """A file's text: UTF-8, or UTF-16 where a byte order mark says so.

    Raises:
        Unreadable: with the reason, also for other encodings and for NUL bytes.
    """
    data, about = read_bytes(path, limit=limit)
    text, problem = decode(data)
    updated = datetime.fromtimestamp(about.st_mtime, UTC)
    born = getattr(about, "st_birthtime", about.st_mtime)  # Linux does not tell; a change time would be wrong
    created = min(updated, datetime.fromtimestamp(born, UTC))
    return Text(text, created, updated, problem)


def decode(data: bytes) -> tuple[str, str | None]:
    """Text of `data` and what was odd about it.

    Raises:
        Unreadable: neither UTF-8 nor UTF-16 with a byte order mark, or with NUL characters.
    """
    problem = None
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            text = data.decode("utf-16")
            problem = "was UTF-16; stored as UTF-8"
        else:
            text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        if problem is None and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            line = data.count(b"\n", 0, error.start) + 1
            raise Unreadable(f"is not UTF-8 (line {line}); convert it and import again") from error
        raise Unreadable("starts like UTF-16 but is not") from error
    if "\0" in text:
        raise Unreadable("contains NUL characters")
    return text, problem
