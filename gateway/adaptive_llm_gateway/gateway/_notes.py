"""Requests under way, noted in a file that outlives its process: a line for each, and a line when it is done with.

A line costs one write and no sync: a note has to survive the process, not a power cut, since nothing can have been
answered that is not on the disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.gateway._canonical import canonical, joined, parse
from adaptive_llm_gateway.gateway._files import make_folder, open_private, write_all

_LARGEST: Final = 1_000_000  # bytes; then another file is begun, and this one goes with the last of its requests


class Notes:
    """The notes of this process, under a folder. Safe to share between threads; each process has its own files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._file: _File | None = None
        self._of: dict[str, _File] = {}

    def add(self, name: str, note: bytes = b"null") -> None:
        """Note `name`, with `note` in canonical form. Raises OSError: nothing is noted."""
        with self._lock:
            file = self._file
            if file is None or file.size > _LARGEST:
                if file is not None and not file.names:
                    file.remove()
                make_folder(self._folder)
                file = self._file = _File(self._folder / f"{new_ulid()}.jsonl")
            file.write(name, note)
            file.names.add(name)
            self._of[name] = file

    def done(self, name: str) -> None:
        """Nothing is left to do for `name`. What cannot be written is done again by whoever reads the notes."""
        with self._lock:
            file = self._of.pop(name, None)
            if file is None:
                return
            file.names.discard(name)
            if file is self._file or file.names:
                with contextlib.suppress(OSError):
                    file.write(name, b"true")
            else:
                file.remove()

    def __contains__(self, name: object) -> bool:
        return name in self._of

    def close(self) -> None:
        """Close the files; those with nothing left to do are removed."""
        with self._lock:
            files = {*self._of.values(), *([self._file] if self._file else [])}
            for file in files:
                if file.names:
                    os.close(file.handle)
                else:
                    file.remove()
            self._file = None
            self._of = {}

    def left(self) -> dict[Path, Mapping[str, bytes]]:
        """What other processes, dead or alive, noted and were not done with, by their files."""
        with self._lock:
            own = {file.path for file in (*self._of.values(), self._file) if file is not None}
        return {path: _read(path) for path in _paths(self._folder) if path not in own}

    def all(self) -> dict[str, bytes]:
        """What is noted by any process and not done with."""
        return {name: note for path in _paths(self._folder) for name, note in _read(path).items()}


class _File:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.handle = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.names: set[str] = set()
        self.size = 0
        self._torn = False

    def write(self, name: str, note: bytes) -> None:
        line = joined({"id": canonical(name), "note": note}) + b"\n"
        if self._torn:  # a full disk took a part of the last one, which must not spoil this one
            line = b"\n" + line
        self._torn = True
        write_all(self.handle, line)
        self._torn = False
        self.size += len(line)

    def remove(self) -> None:
        os.close(self.handle)
        self.path.unlink(missing_ok=True)


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl")) if folder.is_dir() else []


def _read(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:  # it was done with; or nobody may read it, and no request waits for that
        return found
    for line in lines:
        with contextlib.suppress(ValueError):  # a process was killed while it wrote, before anything was sent
            value = parse(line)
            if isinstance(value, dict) and isinstance(name := value.get("id"), str):
                if value.get("note") is True:
                    found.pop(name, None)
                else:
                    found[name] = canonical(value.get("note"))
    return found
