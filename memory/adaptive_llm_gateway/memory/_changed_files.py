"""Which files differ between two commits of a memory repo, and what the commits say of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

import pygit2
from pygit2.enums import FileMode, SortMode

from adaptive_llm_gateway.memory._commit_message import told_by
from adaptive_llm_gateway.memory._history import moment_of
from adaptive_llm_gateway.memory._merge_files import id_of

KEY_BYTES: Final = 8
_COMMITS_READ: Final = 2_000  # for who and why; what older ones changed is told without
_UNNAMED_READ: Final = 50  # commits whose message names no file, which are compared with what was before them
_FILES: Final = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file that differs: its place and blob before and after."""

    old_path: str | None
    old: str | None
    new_path: str | None
    new: str | None

    @property
    def path(self) -> str:
        """Where it is, or was before it went."""
        return self.new_path or self.old_path or ""

    @property
    def key(self) -> bytes:
        """Tells it from the other files of the same two commits."""
        names = f"{self.old_path or ''}\0{self.new_path or ''}"
        return blake2b(names.encode("utf-8", "surrogateescape"), digest_size=KEY_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Said:
    """What a commit says of a file.

    Attributes:
        order: how new the commit is.
        of_it: it says this of that file alone; else of all that it changed.
    """

    order: int
    operation: str
    by: str
    reason: str | None
    time: datetime
    of_it: bool = True


def commit_of(git: pygit2.Repository, id: str) -> pygit2.Commit:
    """A commit that is there."""
    return git[id].peel(pygit2.Commit)


def knows(git: pygit2.Repository, commit: str) -> bool:
    """Whether a commit is there."""
    found: Any = git.get(commit)
    return isinstance(found, pygit2.Commit)


def leads_to(git: pygit2.Repository, commit: str, later: str) -> bool:
    """Whether a commit is another one, or in its history."""
    return commit == later or git.descendant_of(later, commit)


def differing(git: pygit2.Repository, base: str, target: str, most: int) -> list[ChangedFile] | None:
    """The files that differ, those that were moved as one; None where there are too many."""
    found = commit_of(git, base).tree.diff_to_tree(commit_of(git, target).tree)
    if len(found) > most:
        return None
    gone: dict[str, ChangedFile] = {}
    items: list[ChangedFile] = []
    for delta in found.deltas:
        try:
            path = delta.new_file.raw_path.decode()
        except UnicodeDecodeError:  # no memory has such a name
            continue
        old = str(delta.old_file.id) if delta.old_file.mode in _FILES else None
        new = str(delta.new_file.id) if delta.new_file.mode in _FILES else None
        item = ChangedFile(path if old else None, old, path if new else None, new)
        if old and not new:
            gone[path] = item
        elif new:
            items.append(item)
    if not gone:
        return items
    came = [item for item in items if item.old is None]
    return _with_moves(git, items, gone) if came else [*items, *gone.values()]


def _with_moves(git: pygit2.Repository, items: list[ChangedFile], gone: dict[str, ChangedFile]) -> list[ChangedFile]:
    """A memory that went from one place and came at another is one that moved, whether its text is the same or not."""
    by_id: dict[str, str] = {}
    for path, item in gone.items():
        memory = _id_in(git, item.old)
        if memory is not None:
            by_id.setdefault(memory, path)
    moved: list[ChangedFile] = []
    for item in items:
        memory = _id_in(git, item.new) if item.old is None else None
        source = by_id.pop(memory, None) if memory is not None else None
        if source is None:
            moved.append(item)
        else:
            moved.append(ChangedFile(source, gone.pop(source).old, item.new_path, item.new))
    return [*moved, *gone.values()]


def _id_in(git: pygit2.Repository, blob: str | None) -> str | None:
    found = git.get(blob) if blob is not None else None
    return id_of(found.data) if isinstance(found, pygit2.Blob) else None


def said_between(git: pygit2.Repository, base: str, target: str) -> dict[str, Said]:
    """For each path what the newest commit says that names it; where one names none, what it changed."""
    walk = git.walk(target, SortMode.TOPOLOGICAL | SortMode.TIME)
    walk.hide(base)
    newest_first = list(islice(walk, _COMMITS_READ))
    said: dict[str, Said] = {}
    unnamed = 0
    for age, commit in enumerate(newest_first):
        order = len(newest_first) - age
        time = moment_of(commit.commit_time)
        named = False
        for operation, path, agent, reason in told_by(commit.raw_message.decode("utf-8", "replace")):
            named = True
            said.setdefault(path, Said(order, operation, agent, reason, time))
        if not named and len(commit.parents) == 1 and unnamed < _UNNAMED_READ:
            unnamed += 1
            by, reason = commit.author.name, commit.message.partition("\n")[0][:1000] or None
            for path in _touched(commit):
                said.setdefault(path, Said(order, "edit", by, reason, time, of_it=False))
    return said


def _touched(commit: pygit2.Commit) -> Iterator[str]:
    for delta in commit.parents[0].tree.diff_to_tree(commit.tree).deltas:
        yield delta.new_file.raw_path.decode("utf-8", "surrogateescape")
