"""What in the memory repo itself is in the way of sync, or should be known: looked at when the status is asked."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

from adaptive_llm_gateway.core import AlgError, FormatTooNew
from adaptive_llm_gateway.memory._lock_owner import IndexLock
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_checks import check_format, disk_trouble
from adaptive_llm_gateway.memory._sync_errors import hint_for
from adaptive_llm_gateway.memory._values import SyncProblem

_DISK_SECONDS: Final = 1.0
_OWNER_SECONDS: Final = 1.0
_WORTH_TELLING_SECONDS: Final = 5.0  # every git command has the lock for a moment, and so have we
_JUST_NOW_NS: Final = 100_000_000  # within a file system's tick a second change may leave the same time


class LocalView:
    """Looks at the memory repo, and again only where something has changed. Any thread may ask.

    What matters here comes and goes as an entry of the git folder itself, so that folder's time tells of a change.
    """

    def __init__(self, repo: MemoryRepo) -> None:
        self._repo = repo
        self._lock = threading.Lock()
        self._folder_time: int | None = None
        self._known: tuple[SyncProblem, ...] = ()
        self._locked = False
        self._owner: tuple[float, IndexLock | None] = (float("-inf"), None)
        self._disk_seen: tuple[float, SyncProblem | None] = (float("-inf"), None)

    def problems(self) -> tuple[SyncProblem, ...]:
        """What there is, in no order; a few microseconds where nothing has changed."""
        with self._lock:
            try:
                changed = os.stat(self._repo.git_dir).st_mtime_ns  # noqa: PTH116 - a third of the time
            except OSError as error:
                text = f"the memory repo's git folder is gone: {error.strerror}"
                return (SyncProblem("corrupt_here", text, hint=hint_for("corrupt_here")),)
            if changed != self._folder_time:
                self._known = tuple(self._look())
                self._locked = self._repo.index_lock_file.exists()
                settled = time.time_ns() - changed > _JUST_NOW_NS
                self._folder_time = changed if settled else None
            found = [*self._known, *self._disk(), *self._identity()]
            if self._locked:
                found += self._index_lock()
            return tuple(found)

    def _look(self) -> list[SyncProblem]:
        repo, found = self._repo, list[SyncProblem]()
        where = repr(str(repo.path))
        operation = repo.operation()
        if operation is not None:
            text = f"somebody is in the middle of a git {operation} in {where}; writes are refused until it has ended"
            hint = f"Finish the {operation}, or have git abort it; `git status` there says how."
            found.append(SyncProblem("repo_busy", text, hint=hint))
        elif (commit := repo.detached_at()) is not None:
            text = f"HEAD of {where} is detached at {commit[:12]}; writes are refused, for they would be lost"
            found.append(SyncProblem("detached_head", text, hint=hint_for("detached_head")))
        if (repo.git_dir / "shallow").exists():
            text = f"{where} is a shallow clone: what both sides share may not be known here"
            found.append(SyncProblem("shallow", text, blocks=False, hint=hint_for("shallow")))
        try:
            check_format(repo.format_marker(), where=str(repo.path))
        except FormatTooNew as error:
            found.append(SyncProblem("format_too_new", error.message, hint=error.hint))
        except AlgError as error:
            found.append(SyncProblem("corrupt_here", error.message, git=_words(error), hint=hint_for("corrupt_here")))
        return found

    def _disk(self) -> list[SyncProblem]:
        now = time.monotonic()
        if now - self._disk_seen[0] > _DISK_SECONDS:
            self._disk_seen = (now, self._look_at_disk())
        return [self._disk_seen[1]] if self._disk_seen[1] else []

    def _look_at_disk(self) -> SyncProblem | None:
        found = disk_trouble(self._repo.git_dir)
        if found is None:
            return None
        return SyncProblem(found.kind, found.message, blocks=found.stops, hint=hint_for(found.kind))

    def _index_lock(self) -> list[SyncProblem]:
        now = time.monotonic()
        if now - self._owner[0] > _OWNER_SECONDS:
            self._owner = (now, self._repo.index_lock())
        lock = self._owner[1]
        if lock is None or lock.age < _WORTH_TELLING_SECONDS or lock.mine:
            return []
        return [lock_problem(lock)]

    def _identity(self) -> list[SyncProblem]:
        try:
            who = self._repo.identity()
        except AlgError:
            return []
        if who.configured:
            return []
        text = f"git knows no name and e-mail of yours, so commits here are made as '{who.name} <{who.email}>'"
        return [SyncProblem("identity_missing", text, blocks=False, hint=hint_for("identity_missing"))]


def lock_problem(lock: IndexLock) -> SyncProblem:
    """What a lock on the git index means: one that nobody holds any more holds nothing up."""
    path, age = repr(str(lock.path)), f"{lock.age:.0f} s old"
    if lock.owner == "dead" and lock.ours:
        text = f"{path} was left behind ({age}) by a hub that was killed (process {lock.pid}); plain git waits for it"
        hint = "The next start of the hub makes good what was cut short, and removes it."
        return SyncProblem("index_lock_stale", text, blocks=False, hint=hint)
    if lock.owner == "dead":
        text = f"{path} was left behind ({age}): no process that could hold it is there any more"
        return SyncProblem("index_lock_stale", text, blocks=False, hint=hint_for("index_lock_stale"))
    if lock.owner == "alive":
        text = f"process {lock.pid} holds {path} ({age}); pulls wait for it, writes do not"
        return SyncProblem("index_lock", text, hint=hint_for("index_lock"))
    text = f"{path} is there ({age}), and who holds it cannot be told; pulls wait for it, writes do not"
    hint = "If no git program works in the memory repo, remove that file; else wait for it."
    return SyncProblem("index_lock", text, hint=hint)


def _words(error: AlgError) -> str | None:
    words = error.details.get("git")
    return words if isinstance(words, str) else None
