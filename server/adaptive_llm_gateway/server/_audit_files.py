"""The audit log's files: appended to by whoever holds their lock, turned over by size, removed by age and size.

    audit/000001.jsonl    lines, each with the hash of the one before (see the gateway's chains)
    audit/000002.jsonl    its first line goes on from the last of the file before

That old files were removed is itself an entry, with the last hash of what is gone: a file that somebody else removed is
missing.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.core import ProcessLock, StorageError
from adaptive_llm_gateway.server._audit_entry import entry_from, time_text

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import Break, Chain

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

FILE_BYTES: Final = 8 * 1024 * 1024  # the next entry begins another file
_NAME = re.compile(r"\d{6,}\.jsonl")
_LOCK_SECONDS: Final = 10.0
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class AuditFileCheck:
    """Whether one file holds; `line` of `broken` is of this file, `torn` the bytes that a killed process left."""

    file: str
    entries: int
    last: str | None
    torn: int
    broken: Break | None


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """Whether the log holds.

    Attributes:
        files: the oldest first.
        known: whether the hash that was asked for is that of an entry; None when none was.
    """

    files: tuple[AuditFileCheck, ...]
    known: bool | None = None

    @property
    def holds(self) -> bool:
        """Whether every file does, and the hash that was asked for is there."""
        return all(file.broken is None for file in self.files) and self.known is not False

    @property
    def last(self) -> str | None:
        """The hash of the newest entry: noted elsewhere, it shows later that nothing was cut off."""
        return next((file.last for file in reversed(self.files) if file.last is not None), None)


class AuditFiles:
    """The files in a folder. Safe to share between processes; in one, used by one thread at a time.

    Args:
        file_bytes: from this size on another file begins.

    Attributes:
        number: of the file that was appended to last; 0 before that.
    """

    def __init__(self, folder: Path, *, file_bytes: int = FILE_BYTES) -> None:
        self.folder = folder
        self._file_bytes = file_bytes
        self._chain: Chain | None = None
        self.number = 0

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add entries with one sync; they are on the disk when this returns.

        Raises:
            DiskFull, ReadOnly, LockHeld, StorageError: nothing of them was acknowledged.
        """
        from adaptive_llm_gateway.gateway import canonical  # noqa: PLC0415 - not before something is to be written

        self._append([{"audit": canonical(dict(entry))} for entry in entries])

    def remove_old(self, now: float, *, days: float, most_bytes: int) -> tuple[str, ...]:
        """Remove the oldest files: those last written longer ago than `days`, and then more until no more than
        `most_bytes` are left. The newest stays. Returns their names.

        Raises:
            StorageError: as for `append`.
        """
        from adaptive_llm_gateway.gateway import canonical  # noqa: PLC0415 - as above

        paths = self.paths()
        sizes = {path: path.stat().st_size for path in paths}
        total = sum(sizes.values())
        gone: list[str] = []
        for path in paths[:-1]:
            if now - path.stat().st_mtime <= days * _DAY and total <= most_bytes:
                break  # no gap: what is left is one chain
            data = path.read_bytes()
            note: dict[str, Json] = {
                "at": time_text(now),
                "file": path.name,
                "entries": data.count(b"\n"),
                "last": _last_hash(data),
            }
            # First what says that it went, then that it goes: killed between, it goes the next time.
            self._append([{"removed": canonical(note)}])
            path.unlink()
            total -= sizes[path]
            gone.append(path.name)
        return tuple(gone)

    def paths(self) -> list[Path]:
        """The files, the oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.stem))

    def newest_first(self) -> Iterator[dict[str, Any]]:
        """Every entry that can be read, also of files whose chain is broken: `verify` tells."""
        for path in reversed(self.paths()):
            with contextlib.suppress(FileNotFoundError):  # it went by age or size a moment ago
                for line in reversed(path.read_bytes().split(b"\n")):
                    yield from read_line(line)

    def verify(self, *, contains: str | None = None) -> AuditCheck:
        """Read everything: whether each line is as it was written, and each file goes on from the one before.

        Args:
            contains: a hash that somebody noted earlier, of an entry that has to be there.

        Raises:
            FormatTooNew, StorageError: a file cannot be read.
        """
        from adaptive_llm_gateway.gateway import Break, read_chain  # noqa: PLC0415 - as above

        files: list[AuditFileCheck] = []
        starts: list[tuple[int, str]] = []
        removed: set[str] = set()
        known = False
        before: str | None = None
        for path in self.paths():
            try:
                reading = read_chain(path.read_bytes(), path=str(path))
            except OSError as error:
                raise StorageError(f"cannot read {str(path)!r}: {error.strerror}", path=str(path)) from error
            first = reading.entries[0].previous if reading.entries else None
            broken = reading.broken
            if first is not None and before is not None and first != before and broken is None:
                broken = Break(1, "it does not go on from the file before")
            if first is not None and before is None and first.strip("0"):
                starts.append((len(files), first))
            for entry in reading.entries:
                known = known or entry.hash == contains
                note = entry.fields.get("removed")
                if isinstance(note, dict):
                    removed.add(str(note.get("last")))
            before = reading.entries[-1].hash if reading.entries else before
            files.append(AuditFileCheck(path.name, len(reading.entries), before, reading.torn, broken))
        known = known or contains in removed
        for at, first in starts:
            if first not in removed and files[at].broken is None:
                gone = Break(1, "the file that it goes on from is gone, and was not removed by age or size")
                files[at] = replace(files[at], broken=gone)
        return AuditCheck(tuple(files), None if contains is None else known)

    def follow(self, wait: Callable[[], object]) -> Iterator[dict[str, Any]]:
        """What is added from now on, without end; `wait` is called whenever there is nothing."""
        paths = self.paths()
        path = paths[-1] if paths else None
        return self._follow(path, path.stat().st_size if path is not None else 0, wait)

    def _follow(self, path: Path | None, at: int, wait: Callable[[], object]) -> Iterator[dict[str, Any]]:
        rest = b""
        while True:
            data = b""
            if path is not None:
                with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                    file.seek(at)
                    data = file.read()
            if data:
                at += len(data)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    yield from read_line(line)
                continue
            # Nothing is added to a file once there is a later one.
            later = [each for each in self.paths() if path is None or int(each.stem) > int(path.stem)]
            if later:
                path, at, rest = later[0], 0, b""
                continue
            wait()

    def _append(self, entries: Sequence[Mapping[str, bytes]]) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot create {str(self.folder)!r}: {error.strerror}") from error
        with ProcessLock(self.folder / "audit.lock", timeout=_LOCK_SECONDS):
            self._current().append_all(entries)

    def _current(self) -> Chain:
        """The chain to append to: the newest file's, or another's that begins. Whoever calls this has the lock."""
        from adaptive_llm_gateway.gateway import Chain, ChainBroken  # noqa: PLC0415 - as above

        if self._chain is None or self._path(self.number + 1).exists():
            paths = self.paths()
            self.number = int(paths[-1].stem) if paths else 1
            self._chain = Chain(self._path(self.number), first=None if paths else "0" * 64, locked=True)
            with contextlib.suppress(FileNotFoundError):
                if paths and not self._chain.path.stat().st_size:
                    self._chain = Chain(self._chain.path, first=self._last_before(self.number), locked=True)
        full = False
        with contextlib.suppress(FileNotFoundError):
            full = self._chain.path.stat().st_size >= self._file_bytes
        try:
            if self._chain.last_hash() is None:
                self._chain.check()
        except ChainBroken:  # it stays as it is, for `verify`, and another one begins
            full = True
        if full:
            first = self._chain.last_hash() or self._last_before(self.number + 1)
            self.number += 1
            self._chain = Chain(self._path(self.number), first=first, locked=True)
        return self._chain

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06}.jsonl"

    def _last_before(self, number: int) -> str:
        """The hash of the last entry before a file."""
        from adaptive_llm_gateway.gateway import read_chain  # noqa: PLC0415 - as above

        for path in reversed(self.paths()):
            if int(path.stem) < number:
                entries = read_chain(path.read_bytes(), path=str(path)).entries
                if entries:
                    return entries[-1].hash
        return "0" * 64


def _last_hash(data: bytes) -> str | None:
    for line in reversed(data.split(b"\n")):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return str(json.loads(line)["hash"])
    return None


def read_line(line: bytes) -> Iterator[dict[str, Any]]:
    """The entry of a line; nothing where it is none: a torn or changed one is for `verify`."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        if entry := entry_from(json.loads(line)):
            yield entry


def note_now(folder: Path, entry: Mapping[str, Any]) -> None:
    """Add one entry from a process that is not the hub, such as a command that changes clients; it is on the disk when
    this returns.

    Raises:
        AlgError: it could not be written.
    """
    AuditFiles(folder).append([entry])
