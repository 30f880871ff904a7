"""What changed in a memory repo since a place in its history: read from git alone, so that it outlives every process.

A stretch of history is one difference between two trees, however many commits it has: a memory that several of them
touched is told once, as it is at the end. Who did it, why, and in which order, is told by the commits' messages.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal, Self

import pygit2

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.memory._changed_files import (
    KEY_BYTES,
    ChangedFile,
    Said,
    commit_of,
    differing,
    knows,
    leads_to,
    said_between,
)
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._history import moment_of
from adaptive_llm_gateway.memory._quarantine import Held
from adaptive_llm_gateway.memory._repo_checks import translated
from adaptive_llm_gateway.memory._tree import is_memory_path
from adaptive_llm_gateway.memory._tree_diff import TreeFiles, is_file
from adaptive_llm_gateway.memory._values import Record

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory._parts import Parts

ChangeKind = Literal["created", "updated", "deleted", "restored", "moved"]
LostReason = Literal["unknown", "rewritten", "held_back", "too_many"]

MOST_CHANGED: Final = 50_000
"""Files of one stretch. Whoever was away for more than that reads all memories anew sooner than it is told of each."""
_STRETCHES_KEPT: Final = 16  # for those who come back at once, and are told of it page by page
_ITEMS_KEPT: Final = 60_000  # of all of them together; 400 bytes each
_ID_BYTES: Final = 20


@dataclass(frozen=True, slots=True)
class ChangePlace:
    """How far somebody has been told of what changed in a repo.

    Attributes:
        commit: everything up to this commit was told.
        held: a digest of what was held back then.
        towards: of what lies between `commit` and this commit, too,
        after: everything up to the change with this key.
    """

    commit: str
    held: str
    towards: str | None = None
    after: str | None = None

    LENGTH = 2 * _ID_BYTES + 2 * KEY_BYTES

    def as_bytes(self) -> bytes:
        """`LENGTH` bytes, whichever place it is."""
        texts = (self.commit, self.towards or "0" * 2 * _ID_BYTES, self.held, self.after or "0" * 2 * KEY_BYTES)
        return bytes.fromhex("".join(texts))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `as_bytes` gave.

        Raises:
            ValueError: it is of another length.
        """
        if len(data) != cls.LENGTH:
            raise ValueError(f"a place has {cls.LENGTH} bytes, not {len(data)}")
        commit, towards = data[:_ID_BYTES], data[_ID_BYTES : 2 * _ID_BYTES]
        held, after = data[2 * _ID_BYTES : -KEY_BYTES], data[-KEY_BYTES:]
        within = any(towards)
        return cls(commit.hex(), held.hex(), towards.hex() if within else None, after.hex() if within else None)


@dataclass(frozen=True, slots=True)
class MemoryChange:
    """One memory that changed.

    Attributes:
        before, after: as it was and as it is, without the body; None where it was not there, or is not.
        latest: as it is by now, where it has changed once more since `after`; else the same.
        time: of the commit, as far as that is known; else when the memory was written.
        by, reason: who did it and why, as the commit says.
        of_it: the commit says it of this memory; else of all that it changed.
        place: whoever goes on from here is told what comes after this.
    """

    kind: ChangeKind
    before: Record | None
    after: Record | None
    latest: Record | None
    time: datetime
    by: str | None
    reason: str | None
    of_it: bool
    place: ChangePlace

    @property
    def memory(self) -> Record:
        """The memory as it is, or was before it went."""
        found = self.after or self.before
        assert found is not None  # noqa: S101 - one of them is there
        return found


@dataclass(frozen=True, slots=True)
class Changes:
    """Some of what changed, in order.

    Attributes:
        place: how far this goes, which may be further than the last of them.
        more: there is more up to the commit that was asked for.
    """

    changes: tuple[MemoryChange, ...]
    place: ChangePlace
    more: bool


@dataclass(frozen=True, slots=True)
class ChangesLost:
    """What changed since a place cannot be told; whoever wants to know reads all memories anew.

    Attributes:
        why: no such place is known (`unknown`), it is not in the branch's history any more (`rewritten`), what the
            remote has and is held back here has changed since (`held_back`), or very much has changed (`too_many`).
        place: from where on it can be told.
    """

    why: LostReason
    place: ChangePlace


@dataclass(frozen=True, slots=True)
class _Stretch:
    """What differs between two commits, in the order in which it is told."""

    items: tuple[ChangedFile, ...]
    keys: bytes
    said: Mapping[str, Said]
    end: datetime

    def key(self, number: int) -> str:
        return self.keys[number * KEY_BYTES : (number + 1) * KEY_BYTES].hex()

    def number_after(self, key: str) -> int | None:
        """Of the item that follows the one with a key."""
        wanted, found = bytes.fromhex(key), self.keys.find(bytes.fromhex(key))
        while found >= 0 and found % KEY_BYTES:
            found = self.keys.find(wanted, found + 1)
        return None if found < 0 else found // KEY_BYTES + 1


class ChangeReader:
    """Tells what changed in one memory repo. Any thread may ask.

    Args:
        parts: of the store that is open: its repo, index, types and scanner as they are now.
        most: files of one stretch; where more differ, what changed is lost.
    """

    def __init__(self, parts: Callable[[], Parts], *, most: int = MOST_CHANGED) -> None:
        self._parts = parts
        self._most = most
        self._kept: OrderedDict[tuple[str, str], _Stretch] = OrderedDict()
        self._lock = threading.Lock()

    def here(self) -> ChangePlace:
        """The place of what is committed now."""
        repo = self._parts().repo
        while True:
            head = repo.head()
            held = repo.quarantine.held
            if head is not None and head == repo.head():
                return ChangePlace(head, _digest(held))

    def read(self, place: ChangePlace, *, until: ChangePlace, limit: int) -> Changes | ChangesLost:
        """What changed between a place and the one that `here` gave.

        Args:
            limit: files that are looked at, at most; there may be fewer changes.

        Raises:
            AlgError: the repo cannot be read.
        """
        if place.held != until.held:
            return ChangesLost("held_back", until)
        if place.towards is None and place.commit == until.commit:
            return Changes((), until, more=False)
        parts = self._parts()
        with translated(parts.repo.path):
            git = parts.repo.thread_repo
            target = place.towards or until.commit
            for commit in (place.commit, target):
                if not knows(git, commit):
                    return ChangesLost("unknown", until)
            if not leads_to(git, target, until.commit):
                return ChangesLost("rewritten", until)
            stretch = self._stretch(git, place.commit, target)
            if not isinstance(stretch, _Stretch):
                return ChangesLost(stretch, until)
            begin = 0 if place.after is None else stretch.number_after(place.after)
            if begin is None:
                return ChangesLost("unknown", until)
            end = min(begin + limit, len(stretch.items))
            reading = _Reading(parts, git, head=until.commit, target=target)
            found: list[MemoryChange] = []
            last = place
            for number in range(begin, end):
                item = stretch.items[number]
                after = replace(place, towards=target, after=stretch.key(number))
                # A file may tell of two memories: who was told of the first of them alone is told of both again.
                told = list(reading.changes(item, stretch.said.get(item.path), stretch.end))
                found += [replace(each, place=after if each is told[-1] else last) for each in told]
                last = after
        if end == len(stretch.items):
            last = ChangePlace(target, place.held)
        return Changes(tuple(found), last, more=last != until)

    def _stretch(self, git: pygit2.Repository, base: str, target: str) -> _Stretch | LostReason:
        with self._lock:
            kept = self._kept.get((base, target))
            if kept is not None:
                self._kept.move_to_end((base, target))
                return kept
        if not leads_to(git, base, target):
            return "rewritten"
        items = differing(git, base, target, self._most)
        if items is None:
            return "too_many"
        said = said_between(git, base, target)
        # What nobody names comes last: it came with what was named before it.
        ordered = sorted(items, key=lambda item: (said[item.path].order if item.path in said else len(said), item.path))
        end = commit_of(git, target).commit_time
        stretch = _Stretch(tuple(ordered), b"".join(item.key for item in ordered), said, moment_of(end))
        with self._lock:
            self._kept[base, target] = stretch
            while len(self._kept) > 1 and sum(len(each.items) for each in self._kept.values()) > _ITEMS_KEPT:
                self._kept.popitem(last=False)
            while len(self._kept) > _STRETCHES_KEPT:
                self._kept.popitem(last=False)
        return stretch


class _Reading:
    """Reads the memories of one stretch."""

    def __init__(self, parts: Parts, git: pygit2.Repository, *, head: str, target: str) -> None:
        self._index, self._types, self._scanner = parts.index, parts.types, parts.scanner
        self._repo = parts.repo
        self._held = parts.repo.quarantine.held
        self._now = None if head == target else TreeFiles(commit_of(git, head).tree)

    def changes(self, item: ChangedFile, said: Said | None, end: datetime) -> Iterator[MemoryChange]:
        """What a file's difference is to memories: one, two where another memory took its place, or none."""
        old = self._shown(item.old_path, item.old)
        new = self._shown(item.new_path, item.new)
        if old == new and item.old_path == item.new_path:
            return
        before = self._record(item.old_path, old)
        after = self._record(item.new_path, new)
        if new is not None and after is None:
            return  # whoever reads it gets what it said before
        if after is not None and before is None and self._is_copy(after):
            return
        by, reason = self._masked(said.by, said.reason) if said is not None else (None, None)
        of_it = said is None or said.of_it
        if before is not None and after is not None and before.id != after.id:
            time = said.time if said is not None else end
            yield MemoryChange("deleted", before, None, None, time, by, reason, of_it, _NOWHERE)
            before = None
        if before is None and after is None:
            return
        if by is None and after is not None:
            by = after.author.client
        time = said.time if said is not None else after.updated if after is not None else end
        kind = _kind(before, after, said)
        yield MemoryChange(kind, before, after, self._latest(item.new_path, after), time, by, reason, of_it, _NOWHERE)

    def _shown(self, path: str | None, blob: str | None) -> str | None:
        """What the work tree has where a commit has this: something else where that is held back."""
        item = self._held.get(path) if path is not None else None
        if item is None or blob != (item.entry.blob if item.entry is not None else None):
            return blob
        return item.kept.blob if item.kept is not None else None

    def _record(self, path: str | None, blob: str | None) -> Record | None:
        if path is None or blob is None or not is_memory_path(path, self._types):
            return None
        try:
            data = self._repo.read_blob(blob)
            document = Document.parse(data, where=path)
            found = self._types.to_record(document, path=path, version=blob, mtime_ns=0, size=len(data))
        except AlgError:
            return None
        title, project, shown = self._masked(found.title, found.project, path)
        return replace(found, body="", title=title or "", project=project, path=shown or "")

    def _masked(self, *texts: str | None) -> tuple[str | None, ...]:
        """Texts that may be a remote's, or from before something was known to be a secret."""
        if not self._scanner.scan("\n".join(text for text in texts if text)):
            return texts
        return tuple(text and self._scanner.redact(text)[0] for text in texts)

    def _is_copy(self, record: Record) -> bool:
        """Whether another file has this id, so that this one counts for nothing."""
        known = self._index.get(record.id)
        if known is None or known.path == record.path:
            return False
        return self._repo.versions([known.path]).get(known.path) == known.version

    def _latest(self, path: str | None, after: Record | None) -> Record | None:
        if path is None or after is None or self._now is None:
            return after
        entry = self._now(path)
        blob = self._shown(path, entry.blob if entry is not None and is_file(entry) else None)
        if blob == after.version:
            return after
        found = self._record(path, blob)
        return found if found is not None and found.id == after.id else self._index.get(after.id)


_NOWHERE: Final = ChangePlace("0" * 40, "0" * 16)


def _kind(before: Record | None, after: Record | None, said: Said | None) -> ChangeKind:
    if after is None:
        return "deleted"
    if said is not None and said.operation == "restore":
        return "restored"
    if before is None:
        return "created"
    return "moved" if before.version == after.version else "updated"


def _digest(held: Mapping[str, Held]) -> str:
    """Of what is held back: the same while the same is."""
    if not held:
        return "0" * 2 * KEY_BYTES
    found = blake2b(digest_size=KEY_BYTES)
    for path, item in sorted(held.items()):
        blobs = [entry.blob if entry is not None else "" for entry in (item.entry, item.kept)]
        found.update("\0".join([path, *blobs, ""]).encode("utf-8", "surrogateescape"))
    return found.hexdigest()
