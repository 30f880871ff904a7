"""The index as it was at a commit: a copy of the present one, brought back by what differs between the two.

A copy takes what is the same from the index (words and vectors) and reads the rest from git. The last few are kept, for
the next question about the same time.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pygit2

from adaptive_llm_gateway.core import AlgError, DiskFull, InvalidInput, NotFound, SecretScanner, TooLarge, Unavailable
from adaptive_llm_gateway.memory._files import prepare_scratch, storage_errors
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._history import moment_of
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._memory_index import MemoryIndex, ReadableIndex
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._time_words import read_time
from adaptive_llm_gateway.memory._tree import is_memory_path
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Author, Record

MAX_DIFFERENCES = 10_000  # memories that may have come, gone or changed since; 2 to 3 ms each
MAX_EMBEDDED = 256  # passages that get a vector while somebody waits; the others are found by words
MAX_BYTES = 4 << 30  # of an index that is copied
_KEPT = 2
_VECTOR_BYTES = 16 << 20  # of a copy's vectors that are held in memory
_BATCH = 500
_WAIT_SECONDS = 60.0
_EDITOR = Author("editor")
_LONGEST_NAME = 250
_FORMS = "Give a commit, a time such as 2026-11-20 or 7d, or HEAD~2."

Embed = Callable[[Index, int], int]


@dataclass(frozen=True, slots=True)
class PastIndex:
    """An index of the past.

    Attributes:
        commit: what it shows.
        time: when that commit was made.
        notices: what is not in it, or only in part.
    """

    index: Index
    commit: str
    time: datetime
    notices: tuple[str, ...]


Shown = Callable[[PastIndex], tuple[ReadableIndex, tuple[str, ...]]]
"""What somebody is shown of an index of the past, and what is not in that."""


def whole_past(past: PastIndex) -> tuple[ReadableIndex, tuple[str, ...]]:
    """All of it."""
    return past.index, past.notices


@dataclass(slots=True)
class _Kept:
    past: PastIndex
    path: Path
    key: tuple[str, str | None, TypeRegistry]


@dataclass(frozen=True, slots=True)
class _Differences:
    """What has to be read from git, and which ids have to go, to make an index one of `files` (path to blob)."""

    files: dict[str, str]
    known: dict[str, tuple[int, int, str, str]]

    @property
    def changed(self) -> list[str]:
        known = self.known
        return [path for path, blob in self.files.items() if path not in known or known[path][2] != blob]

    @property
    def gone(self) -> list[str]:
        return [row[3] for path, row in self.known.items() if path not in self.files]

    def __len__(self) -> int:
        return len(self.changed) + len(self.gone)


class Past:
    """Opens the index as it was. One at a time: who comes second waits.

    Args:
        folder: for the copies; emptied of what a killed process left.
        embed: gives up to so many passages of an index their vectors, and returns how many have none then.
    """

    def __init__(self, *, index: MemoryIndex, repo: MemoryRepo, folder: Path, embed: Embed) -> None:
        self._index = index
        self._repo = repo
        self._folder = folder
        self._embed = embed
        self._lock = threading.Lock()
        self._kept: list[_Kept] = []
        self._numbers = itertools.count(1)
        self._closed = False
        if folder.exists():  # with what a killed process left
            prepare_scratch(folder)

    @contextlib.contextmanager
    def at(
        self, commit: str, types: TypeRegistry, scanner: SecretScanner, *, max_differences: int = MAX_DIFFERENCES
    ) -> Generator[PastIndex]:
        """The index as of a commit (see `find_commit`); not to be used after the block.

        Raises:
            TooLarge: more memories differ from today's than can be read while somebody waits, or the index is too large
                to be copied.
            DiskFull: there is no room for a copy.
            Unavailable: another search of the past takes too long.
        """
        if not self._lock.acquire(timeout=_WAIT_SECONDS):
            raise Unavailable("another search of the past is still being prepared", hint="Try again in a moment.")
        try:
            if self._closed:
                raise Unavailable("the memories are being closed", hint="Try again in a moment.")
            yield self._open(commit, types, scanner, max_differences).past
        finally:
            self._lock.release()

    def close(self) -> None:
        """Remove the copies."""
        with self._lock:
            self._closed = True
            for kept in self._kept:
                self._remove(kept)
            self._kept.clear()

    def _open(self, commit: str, types: TypeRegistry, scanner: SecretScanner, most: int) -> _Kept:
        key = (commit, self._index.meta_get("embedder"), types)
        for kept in self._kept:
            if kept.key == key:
                self._kept.remove(kept)
                self._kept.append(kept)
                return kept
        held = self._repo.quarantine.held.items()
        hidden = {(path, item.entry.blob): item.kept for path, item in held if item.entry is not None}
        files = {
            path: blob
            for path, blob in self._repo.tree_files(commit).items()
            if is_memory_path(path, types) and (path, blob) not in hidden
        }
        # A copy that is there may be nearer to that time than the present is.
        bases = [self._index, *(kept.past.index for kept in self._kept if kept.key[1:] == key[1:])]
        distances = [len(_Differences(files, base.files())) for base in bases]
        if min(distances) > most:
            raise TooLarge(
                f"{min(distances)} memories came, went or changed since {commit[:12]}; at most {most} can be brought "
                "back for a search",
                hint="Search a later time, or read single memories as they were with memory_read(id, at=...).",
                limit=most,
            )
        if not self._folder.exists():
            prepare_scratch(self._folder)
        path = self._folder / f"{commit[:12]}-{next(self._numbers)}.db"
        try:
            self._copy(bases[distances.index(min(distances))], path)
            index = Index(path, vector_cache_bytes=_VECTOR_BYTES)
            try:
                past = self._bring_back(index, commit, files, types, scanner)
            except BaseException:
                index.close()
                raise
        except BaseException:
            _unlink(path)
            raise
        self._kept.append(_Kept(past, path, key))
        while len(self._kept) > _KEPT:
            self._remove(self._kept.pop(0))
        return self._kept[-1]

    def _copy(self, base: MemoryIndex, path: Path) -> None:
        size = base.statistics()["bytes"]
        if size > MAX_BYTES:
            raise TooLarge(
                f"an index of {size >> 20} MB is not copied to search the past; at most {MAX_BYTES >> 20} MB are",
                hint="Read single memories as they were with memory_read(id, at=...).",
                limit=MAX_BYTES,
            )
        needed = 2 * size  # the copy, and what its changes write ahead
        with storage_errors(f"look at the disk of {str(self._folder)!r}"):
            free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise DiskFull(
                f"no space for a copy of the index in {str(self._folder)!r}: {needed >> 20} of {free >> 20} MB",
                hint="Free some space, or read single memories as they were with memory_read(id, at=...).",
                path=str(self._folder),
            )
        base.copy_to(path)

    def _bring_back(
        self, index: Index, commit: str, files: dict[str, str], types: TypeRegistry, scanner: SecretScanner
    ) -> PastIndex:
        differences = _Differences(files, index.files())
        records: list[Record] = []
        left_out = 0
        index.apply((), differences.gone)  # first: what was moved since comes back under the same id
        for path in differences.changed:
            try:
                records.append(self._record(path, files[path], types, scanner))
            except AlgError:  # broken then, or with a secret in it
                left_out += 1
                index.apply((), [row[3] for row in [differences.known.get(path)] if row])
            if len(records) == _BATCH:
                index.apply(records)
                records = []
        index.apply(records)
        missing = self._embed(index, MAX_EMBEDDED)
        notices: list[str] = []
        if left_out:
            notices.append(f"{left_out} files of that time are left out: they are no memories or hold a secret")
        if missing and index.vector_progress()[0]:
            notices.append(f"{missing} passages of that time have no vectors: they are found by words alone")
        found = self._repo.resolve(commit)
        moment = moment_of(found.commit_time if isinstance(found, pygit2.Commit) else 0)
        return PastIndex(index, commit, moment, tuple(notices))

    def _record(self, path: str, blob: str, types: TypeRegistry, scanner: SecretScanner) -> Record:
        data = self._repo.read_blob(blob)
        scanner.check(data.decode("utf-8", "replace"), where=repr(path))
        document = Document.parse(data, where=path, require_front_matter=False)
        document = types.adopt(document, path=path, mtime_ns=time.time_ns(), author=_EDITOR)
        return types.to_record(document, path=path, version=blob, mtime_ns=0, size=len(data))

    def _remove(self, kept: _Kept) -> None:
        kept.past.index.close()
        _unlink(kept.path)


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def find_commit(repo: MemoryRepo, at: str, now: datetime, zone: tzinfo) -> str:
    """The commit that a text names: a commit, a step back (`HEAD~2`), a branch or tag, or a time, whose end counts.

    Raises:
        NotFound: no such commit, or none as old as that.
        InvalidInput: none of these, or the version of a single memory.
    """
    if len(at) > _LONGEST_NAME:
        raise InvalidInput(f"{at[:60]!r}... is too long for a commit or a time", hint=_FORMS)
    moment = read_time(at, now, zone)
    if moment is not None:
        # A day ends where the next begins.
        end = moment.since if moment.until == moment.since else moment.until and moment.until - timedelta(seconds=1)
        at_text = (end or now).astimezone(UTC).isoformat()
    else:
        at_text = at
    try:
        found = repo.resolve(at_text)
    except NotFound as error:
        raise NotFound(
            f"{error}: there is nothing to search as of {at!r}",
            hint="`git log` in the memory repo lists its commits; the first one is as far back as a search goes.",
            at=at,
        ) from error
    if not isinstance(found, pygit2.Commit):
        raise InvalidInput(
            f"{at!r} is the version of one memory, not a commit",
            hint=_FORMS,
        )
    return str(found.id)
