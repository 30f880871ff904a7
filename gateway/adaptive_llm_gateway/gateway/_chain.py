"""A file of lines, each with the hash of the one before: appended durably, by one writer at a time, and verified.

A line is a canonical JSON object: its own fields, `v` (the format), `seq` (from 1), `previous` (the hash of the line
before) and `hash` (the SHA-256 of the canonical form of all the others).

An entry is acknowledged once its whole line, with its end, is on the disk. So what lies behind the last line's end was
never acknowledged: a process died while it wrote, and the next append removes it. Everything else that does not fit
is a broken chain, named with its line, and nothing is appended to it.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final, cast

from adaptive_llm_gateway.core import FormatTooNew, ProcessLock, StorageError, reach
from adaptive_llm_gateway.gateway._canonical import Json, canonical, digest, digest_of, joined, parse
from adaptive_llm_gateway.gateway._files import (
    make_folder,
    open_private,
    replace_file,
    storage_errors,
    sync_data,
    sync_folder,
    write_all,
)

FIRST: Final = "0" * 64
"""The `previous` of a chain's first entry."""

_FORMAT = 1
_OWN = frozenset({"v", "seq", "previous", "hash"})
LOCK_SECONDS: Final = 10.0
"""How long to wait for another process that appends."""
_READS = 50  # while others append
SETTLED_NS: Final = 50_000_000
"""A file or folder changed within this time may change again without its times showing it."""


class ChainBroken(StorageError):
    """A chain does not hold; `details` has its `path`, `line` and `why`. What depends on it is refused."""

    code: ClassVar[str] = "chain_broken"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a chain; `fields` without `v`, `seq`, `previous` and `hash`."""

    seq: int
    previous: str
    hash: str
    fields: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold: the line, from 1, and why."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What a chain's file holds.

    Attributes:
        entries: those before the first that does not fit.
        whole: bytes up to the end of the last of them.
        unended: the last is whole but for its line's end.
        torn: bytes behind the last line's end that are no entry: what a killed writer left.
        broken: None when the chain holds.
    """

    entries: tuple[Entry, ...]
    whole: int
    unended: bool
    torn: int
    broken: Break | None


def read_chain(data: bytes, *, path: str, first: str | None = None, head: tuple[int, str] | None = None) -> Reading:
    """What the bytes of a chain's file say; touches nothing.

    Args:
        path: for messages.
        first: what the first entry's `previous` must be; None for any.
        head: the number and hash of the last entry that was acknowledged, where that is known from elsewhere.

    Raises:
        FormatTooNew: an entry's `v` is of a newer version.
    """
    *lines, tail = data.split(b"\n")
    entries: list[Entry] = []
    previous, whole = first, 0
    broken: Break | None = None
    for line in lines:
        found = _entry(line, len(entries) + 1, previous, path)
        if isinstance(found, str):
            broken = Break(len(entries) + 1, found)
            break
        entries.append(found)
        previous = found.hash
        whole += len(line) + 1
    unended, torn = False, 0
    if broken is None and tail:
        found = _entry(tail, len(entries) + 1, previous, path)
        if isinstance(found, str):
            torn = len(tail)
        else:  # an editor may have taken the end; nothing that was acknowledged may go with it
            entries.append(found)
            whole += len(tail)
            unended = True
    if broken is None and head is not None:
        broken = _against_head(entries, head)
    return Reading(tuple(entries), whole, unended, torn, broken)


def _entry(line: bytes, seq: int, previous: str | None, path: str) -> Entry | str:
    try:
        value = parse(line)
    except ValueError as error:
        return "it is not canonical JSON" if str(error) == "not canonical" else "it is not JSON"
    if not isinstance(value, dict):
        return "it is not an entry"
    version = value.get("v")
    if isinstance(version, int) and version > _FORMAT:
        raise FormatTooNew(
            f"{path!r} holds entries of format {version}; this version reads up to {_FORMAT}",
            hint="Install the newer version again. Nothing was changed.",
            path=path,
        )
    if version != _FORMAT or not all(isinstance(value.get(name), str) for name in ("previous", "hash")):
        return "it is not an entry"
    said = value.pop("hash")
    if said != digest(value):
        return "its hash is not that of its content: it was changed"
    if value.get("seq") != seq:
        return f"it is entry {value.get('seq')!r}, where entry {seq} belongs: lines were removed, added or moved"
    if previous is not None and value["previous"] != previous:
        return "it does not continue the line before: lines were replaced"
    fields = {name: item for name, item in value.items() if name not in _OWN}
    return Entry(seq, cast("str", value["previous"]), cast("str", said), fields)


def _against_head(entries: list[Entry], head: tuple[int, str]) -> Break | None:
    seq, said = head
    if seq > len(entries):
        return Break(len(entries) + 1, f"it is gone: {seq} entries were acknowledged, {len(entries)} are there")
    if seq and entries[seq - 1].hash != said:
        return Break(seq, "it is not the entry that was acknowledged")
    if len(entries) > seq + 1:  # the one behind the head is of a writer that was killed before it answered
        return Break(seq + 2, f"{len(entries)} entries are there, {seq} were acknowledged: the head is older")
    return None


class Chain:
    """A chain in a file. Safe to share between threads; processes take turns by a lock file beside it.

    Args:
        path: the file; it and its folder are made by the first append.
        keeps_head: keep number and hash of the last acknowledged entry in `<path>.head`, so that lines cut from the end
            are noticed. Costs a second sync.
        first: what the first entry's `previous` is; None for whatever it is.
        locked: whoever appends holds a lock of their own between processes.
    """

    def __init__(
        self, path: Path, *, keeps_head: bool = False, first: str | None = FIRST, locked: bool = False
    ) -> None:
        self.path = path
        self._locked = locked
        self._head_path = path.with_name(f"{path.name}.head") if keeps_head else None
        self._first = first
        self._thread_lock = threading.Lock()
        self._known: tuple[tuple[int, ...], Reading] | None = None
        self._tail: tuple[tuple[int, ...], Entry, int] | None = None  # after our own last append: its entry, its end

    def read(self) -> Reading:
        """What is there now; see `read_chain`. Unchanged files are not read again.

        Raises:
            FormatTooNew, StorageError: it cannot be read.
        """
        with storage_errors(f"read {str(self.path)!r}"):
            for _ in range(_READS - 1):
                stamp = self._stamp()
                known = self._known
                if known is not None and known[0] == stamp:
                    return known[1]
                reading = self._read()
                if stamp == self._stamp():
                    if time.time_ns() - max(stamp[3::4]) > SETTLED_NS:
                        self._known = (stamp, reading)
                    return reading
                # Somebody appended meanwhile, and the head may be of before the lines: again.
            return self._read()

    def append(self, fields: Mapping[str, Json]) -> Entry:
        """Add an entry; it is on the disk when this returns.

        Raises:
            ChainBroken: the chain does not hold; nothing was written.
            LockHeld: another process kept writing for 10 s.
            ValueError: something in `fields` has no canonical form.
            DiskFull, ReadOnly, StorageError: the disk refused; nothing was acknowledged.
        """
        (added,) = self.append_all([{name: canonical(value) for name, value in fields.items()}])
        return replace(added, fields=dict(fields))

    def append_all(self, entries: Sequence[Mapping[str, bytes]]) -> list[Entry]:
        """Add entries with one sync; returns them without their fields. A process that is killed may leave some.

        Args:
            entries: the fields of each, their values in canonical form; not empty. One, where the chain keeps a head.

        Raises:
            ChainBroken, LockHeld, DiskFull, ReadOnly, StorageError: as for `append`.
        """
        if self._head_path is not None and len(entries) > 1:
            raise ValueError("the head of a chain is never more than one entry behind")
        with storage_errors(f"write {str(self.path)!r}"), self._thread_lock:
            if self._locked:
                return self._append(entries)
            make_folder(self.path.parent, durable=True)
            with ProcessLock(self.path.with_name(f"{self.path.name}.lock"), timeout=LOCK_SECONDS):
                return self._append(entries)

    def last_hash(self) -> str | None:
        """The hash of the last entry, where it is known without reading the file."""
        with self._thread_lock:
            return self._tail[1].hash if self._tail is not None and self._tail[0] == self._stamp() else None

    def check(self) -> Reading:
        """`read`, refusing a chain that does not hold.

        Raises:
            ChainBroken: see `append`.
        """
        reading = self.read()
        if reading.broken is not None:
            raise ChainBroken(
                f"line {reading.broken.line} of {str(self.path)!r} breaks the chain: {reading.broken.why}",
                hint="Put the file back from a copy, or set it aside and begin anew; nothing is taken from it until "
                "then.",
                path=str(self.path),
                line=reading.broken.line,
                why=reading.broken.why,
            )
        return reading

    def _append(self, entries: Sequence[Mapping[str, bytes]]) -> list[Entry]:
        tail = self._tail
        if tail is not None and tail[0] == self._stamp():
            last, reading = tail[1], Reading((), tail[2], False, 0, None)
        else:
            reading = self.check()
            last = reading.entries[-1] if reading.entries else None
        if last is not None and self._read_head() != (last.seq, last.hash):
            self._write_head(last)  # of a writer that was killed before it answered
        added: list[Entry] = []
        lines: list[bytes] = []
        seq, previous = (last.seq, last.hash) if last else (0, self._first or FIRST)
        for fields in entries:
            seq += 1
            own = {"v": _FORMAT, "seq": seq, "previous": previous}
            body = {**fields, **{name: canonical(value) for name, value in own.items()}}
            said = digest_of(joined(body))
            lines.append(joined({**body, "hash": canonical(said)}) + b"\n")
            added.append(Entry(seq, previous, said, {}))
            previous = said
        line = b"".join(lines)
        is_new = not self.path.exists()
        handle = open_private(self.path, os.O_RDWR | os.O_CREAT)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise StorageError(f"{str(self.path)!r} is not a regular file", path=str(self.path))
            if reading.torn:
                os.ftruncate(handle, reading.whole)
            os.lseek(handle, reading.whole, os.SEEK_SET)
            try:
                half = len(line) // 2
                write_all(handle, (b"\n" if reading.unended else b"") + line[:half])
                reach("append.part_written")
                write_all(handle, line[half:])
                reach("append.written")
                sync_data(handle)
            except OSError:
                os.ftruncate(handle, reading.whole)  # it needs no space
                raise
        finally:
            os.close(handle)
        if is_new:
            sync_folder(self.path.parent)
        reach("append.synced")
        self._write_head(added[-1])
        self._tail = (self._stamp(), added[-1], reading.whole + reading.unended + len(line))
        reach("append.acknowledged")
        return added

    def _read(self) -> Reading:
        head = self._read_head()
        if isinstance(head, Break):
            return Reading((), 0, False, 0, head)
        return read_chain(self._bytes(), path=str(self.path), first=self._first, head=head)

    def _bytes(self) -> bytes:
        try:
            handle = open_private(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            return b""
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise StorageError(f"{str(self.path)!r} is not a regular file", path=str(self.path))
            return file.read()

    def _stamp(self) -> tuple[int, ...]:
        """What changes when the file or its head does."""
        stamp: list[int] = []
        for path in (self.path, self._head_path):
            if path is not None:
                try:
                    seen = path.stat(follow_symlinks=False)
                except FileNotFoundError:
                    stamp += (0, 0, 0, 0)
                else:
                    stamp += (seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)
        return tuple(stamp)

    def _read_head(self) -> tuple[int, str] | Break | None:
        if self._head_path is None:
            return None
        try:
            value = parse(self._head_path.read_bytes())
        except FileNotFoundError:
            return (0, FIRST)
        except ValueError:
            value = None
        if isinstance(value, dict):
            seq, said = value.get("seq"), value.get("hash")
            if isinstance(seq, int) and isinstance(said, str):
                return (seq, said)
        return Break(1, f"{self._head_path.name!r}, which names the last acknowledged entry, was changed")

    def _write_head(self, entry: Entry) -> None:
        if self._head_path is not None:
            replace_file(self._head_path, canonical({"seq": entry.seq, "hash": entry.hash}))
