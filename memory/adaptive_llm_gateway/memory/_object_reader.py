"""Every object in a git repo's store, whoever the repo is from: listed and read by `git cat-file`, one after the other.

git runs nothing of the repo's own, follows no replacement, and fetches nothing that is missing. An object that git
cannot read, or that it does not come to an end with, is told as such, and the next one follows.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from adaptive_llm_gateway.core import DeferredInterrupt, StorageError
from adaptive_llm_gateway.memory._git import git_command, git_environment, start_git

ANSWER_SECONDS: Final = 60.0
"""How long git may be silent about one object."""
_AT_ONCE: Final = 200  # ids given to git before its answers are read: fewer bytes than any system's pipe takes
_LONGEST_LINE: Final = 4096


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of the store; `kind` is None for one that is damaged."""

    id: str
    kind: str | None
    size: int


@dataclass(frozen=True, slots=True)
class ReadObject:
    """What an object holds; None for one that cannot be read."""

    id: str
    kind: str | None
    data: bytes | None


class _Broken(Exception):
    """git ended, or is silent."""


class ObjectReader:
    """Reads the objects of one repo. For one thread.

    Args:
        folder: in the repo, or the repo itself.
        answer_seconds: how long git may be silent about one object.
    """

    def __init__(self, folder: Path, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._folder, self._seconds = folder, answer_seconds
        self._process: _Git | None = None

    def close(self) -> None:
        """End git."""
        if self._process is not None:
            self._process.end()
            self._process = None

    def all(self) -> Generator[StoredObject]:
        """Every object of the store, also those that nothing leads to and those of stores that this one borrows from,
        each once, in the order in which they are read best.

        Raises:
            StorageError: git does not list them.
        """
        asking = ["cat-file", "--batch-all-objects", "--unordered", "--batch-check", "--buffer"]
        with DeferredInterrupt() as interrupt:
            git = _Git(asking, self._folder, self._seconds)
            try:
                interrupt.end()
                while (line := git.line()) is not None:
                    yield _header(line)
                if git.ended() != 0:
                    raise StorageError(f"git could not list every object of {str(self._folder)!r}")
            except _Broken as error:
                raise StorageError(f"git could not list every object of {str(self._folder)!r}: {error}") from error
            finally:
                git.end()

    def read(self, ids: Iterable[str]) -> Iterator[ReadObject]:
        """These objects, in this order.

        Raises:
            StorageError: git cannot be run.
        """
        remaining = iter(ids)
        while chunk := list(islice(remaining, _AT_ONCE)):
            done = 0
            while done < len(chunk):
                git = self._git()
                try:
                    git.ask(chunk[done:])
                    for each in chunk[done:]:
                        yield _read(git, each)
                        done += 1
                except _Broken:
                    self.close()
                    yield ReadObject(chunk[done], None, None)
                    done += 1
                except GeneratorExit:
                    self.close()  # its answers to the others would be taken for those to the next question
                    raise

    def one(self, id: str) -> ReadObject:
        """One object."""
        (found,) = self.read([id])
        return found

    def _git(self) -> _Git:
        if self._process is None:
            with DeferredInterrupt():
                self._process = _Git(["cat-file", "--batch"], self._folder, self._seconds)
        return self._process


class _Git:
    """A git that answers questions on its standard input, within a time each."""

    def __init__(self, arguments: list[str], folder: Path, seconds: float) -> None:
        self._seconds = seconds
        command, environment = git_command(arguments), git_environment(reading=True, offline=())
        self._process = start_git(command, folder, environment, stderr=subprocess.DEVNULL, buffered=False)
        assert self._process.stdin is not None  # noqa: S101 - pipes were asked for
        assert self._process.stdout is not None  # noqa: S101
        self._in, self._out = self._process.stdin, self._process.stdout
        self._poll = select.poll()
        self._poll.register(self._out.fileno(), select.POLLIN | select.POLLHUP)
        self._kept = bytearray()

    def ask(self, ids: Iterable[str]) -> None:
        try:
            self._in.write("".join(f"{each}\n" for each in ids).encode("ascii"))
        except OSError as error:
            raise _Broken("git has ended") from error

    def line(self) -> bytes | None:
        """The next line without its end; None at the end of what git says."""
        while (end := self._kept.find(b"\n")) < 0:
            if len(self._kept) > _LONGEST_LINE:
                raise _Broken("git gave an answer that is none")
            if not self._more():
                return None
        found = bytes(self._kept[:end])
        del self._kept[: end + 1]
        return found

    def exactly(self, count: int) -> bytes:
        while len(self._kept) < count:
            if not self._more():
                raise _Broken("git has ended")
        found = bytes(self._kept[:count])
        del self._kept[:count]
        return found

    def ended(self) -> int:
        """Its exit status, once it has said everything."""
        try:
            return self._process.wait(self._seconds)
        except subprocess.TimeoutExpired as error:
            raise _Broken("git does not end") from error

    def end(self) -> None:
        self._process.kill()
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()
        self._process.wait()

    def _more(self) -> bool:
        until = time.monotonic() + self._seconds
        while not self._poll.poll(max(0.0, until - time.monotonic()) * 1_000):
            if time.monotonic() >= until:
                raise _Broken("git is silent")
        got = os.read(self._out.fileno(), 1 << 17)
        self._kept += got
        return bool(got)


def _header(line: bytes) -> StoredObject:
    fields = line.split(b" ")
    if len(fields) != 3 or not fields[2].isdigit():
        return StoredObject(fields[0].decode("ascii", "replace"), None, 0)
    return StoredObject(fields[0].decode("ascii"), fields[1].decode("ascii"), int(fields[2]))


def _read(git: _Git, wanted: str) -> ReadObject:
    line = git.line()
    if line is None:
        raise _Broken("git has ended")
    found = _header(line)
    if found.kind is None:
        return ReadObject(wanted, None, None)
    data = git.exactly(found.size + 1)
    return ReadObject(wanted, found.kind, data[:-1])
