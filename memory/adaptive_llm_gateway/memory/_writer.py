"""The two threads behind every write: one changes files and index, the next one commits.

What arrives while a group is being written forms the next group, and likewise for commits, so that the cost of a
transaction and of a commit is shared under load and nobody waits when there is none.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from adaptive_llm_gateway.core import AlgError, StorageError, Unavailable, reach
from adaptive_llm_gateway.memory._files import FileBatch, storage_error
from adaptive_llm_gateway.memory._index_rows import PendingChange, Tombstone
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._plans import Planned
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._requests import FileChange, Request
from adaptive_llm_gateway.memory._sight import Sighted
from adaptive_llm_gateway.memory._told_once import ToldOnce
from adaptive_llm_gateway.memory._values import Change, Record

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_RETRY_SECONDS = 5.0
_PAUSE_SECONDS = 0.1  # that long after a write plain git waits, too
_LOOK_SECONDS = 0.02  # the next `git commit` of a person may be as near
_MOST_PER_COMMIT = 500


@dataclass(frozen=True, slots=True)
class Ticket:
    """The two moments of a write: `saved` (durable and searchable), then `committed` (the commit's id)."""

    saved: Future[Planned] = field(default_factory=Future[Planned])
    committed: Future[str] = field(default_factory=Future[str])


@dataclass(frozen=True, slots=True)
class _Write:
    request: Request | Sighted
    ticket: Ticket


@dataclass(frozen=True, slots=True)
class _Task(Generic[_T]):
    run: Callable[[], _T]
    future: Future[_T]


@dataclass(frozen=True, slots=True)
class _Commit:
    changes: tuple[Change, ...]
    tickets: tuple[Ticket, ...]
    journal: tuple[int, ...]  # the entries of the index's journal that this commit settles
    found: bool = False  # they lay in the work tree, and nobody has asked for them


class Overlay:
    """The index as it will be once the group that is being written is in it."""

    def __init__(self, index: MemoryIndex) -> None:
        self._index = index
        self._group: dict[str, Record | None] = {}

    def get(self, id: str) -> Record | None:
        """The record of a memory, as this group leaves it."""
        return self._group[id] if id in self._group else self._index.get(id)

    def resolve(self, text: str, *, limit: int = 20) -> list[str]:
        """Ids that begin or end with `text`."""
        return self._index.resolve(text, limit=limit)

    def note(self, id: str, record: Record | None) -> None:
        """Take in one change of the group."""
        self._group[id] = record

    def clear(self) -> None:
        """The group is in the index, or was taken back."""
        self._group.clear()


class Writer:
    """The only one to change files, index and git.

    Args:
        plan: turns a request into file changes (called in the writer's thread, with `overlay` as its lookup).
        on_saved: called in the writer's thread after each group, with its records.
        on_committed: called in the committer's thread after each commit.
    """

    def __init__(
        self,
        *,
        root: Path,
        scratch: Path,
        index: MemoryIndex,
        repo: MemoryRepo,
        overlay: Overlay,
        plan: Callable[[Request | Sighted], Planned],
        on_saved: Callable[[], None],
        on_committed: Callable[[], None],
    ) -> None:
        self._root = root
        self._scratch = scratch
        self._index = index
        self._repo = repo
        self._overlay = overlay
        self._plan = plan
        self._on_saved = on_saved
        self._on_committed = on_committed
        self._queue: queue.SimpleQueue[_Write | _Task[Any] | None] = queue.SimpleQueue()
        self._commits: queue.SimpleQueue[_Commit | None] = queue.SimpleQueue()
        self._uncommitted = 0
        self._submitted = 0
        self._settled: list[int] = []  # entries of the index's journal whose changes are committed
        self._idle = threading.Condition()
        self._commit_error: AlgError | None = None
        # What fails is tried again every few moments, on a full disk for hours: of the committer's thread.
        self._commit_told = ToldOnce(_log, "commit failed", "commits are made again")
        self._journal_told = ToldOnce(
            _log, "the journal of the index could not be cleared", "the journal of the index is cleared again"
        )
        self._git_index_told = ToldOnce(
            _log, "the git index could not be brought up to date", "the git index is brought up to date again"
        )
        self._closed = False
        self._door = threading.Lock()  # nothing may be queued behind the end
        self._threads = [
            threading.Thread(target=self._write_loop, name="memory-writer", daemon=True),
            threading.Thread(target=self._commit_loop, name="memory-committer", daemon=True),
        ]

    def start(self) -> None:
        """Begin to work; what was submitted before waits until here."""
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request | Sighted) -> Ticket:
        """Queue a request; its ticket carries the outcome."""
        ticket = Ticket()
        self._submitted += 1
        self._enqueue(_Write(request, ticket))
        return ticket

    def run(self, task: Callable[[], _T]) -> Future[_T]:
        """Run `task` between two groups, in the writer's thread."""
        future: Future[_T] = Future()
        self._enqueue(_Task(task, future))
        return future

    def _enqueue(self, item: _Write | _Task[Any]) -> None:
        with self._door:
            if self._closed:
                raise Unavailable("the store is closing", hint="Try again in a moment.")
            self._queue.put(item)

    def close(self) -> None:
        """Finish what is queued, commit it, and stop."""
        with self._door:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        if self._threads[0].is_alive():
            self._threads[0].join()
        self._commits.put(None)
        if self._threads[1].is_alive():
            self._threads[1].join()

    @property
    def submitted(self) -> int:
        """Writes that were ever queued, or nearly as many."""
        return self._submitted

    @property
    def uncommitted(self) -> int:
        """File changes that wait for their commit."""
        return self._uncommitted

    @property
    def commit_error(self) -> AlgError | None:
        """Why the last commit failed, while it is so."""
        return self._commit_error

    def wait_committed(self, timeout: float) -> bool:
        """Wait until nothing waits for its commit (or committing fails); whether that came in time."""
        with self._idle:
            return self._idle.wait_for(lambda: self._uncommitted == 0 or self._commit_error is not None, timeout)

    # -- the writer's thread -----------------------------------------------------------------------------------

    def _write_loop(self) -> None:
        while True:
            items = [self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get())
            group: list[_Write] = []
            for item in items:
                if isinstance(item, _Write):
                    group.append(item)
                    continue
                self._write(group)
                group = []
                if item is None:
                    return
                _settle(item.future, item.run)
            self._write(group)

    def _write(self, group: Sequence[_Write]) -> None:
        if not group:
            return
        try:
            self._repo.check_ready()
        except Exception as error:  # noqa: BLE001 - every request of the group is told; the thread goes on
            for item in group:
                item.ticket.saved.set_exception(_named(error))
            return
        files = FileBatch(self._root, self._scratch)
        done: list[tuple[_Write, Planned, list[Callable[[], None]]]] = []
        for item in group:
            undo: list[Callable[[], None]] = []
            try:
                planned = self._plan(item.request)
                reach("write.validated")
                planned = replace(
                    planned, changes=tuple(self._to_disk(change, files, undo) for change in planned.changes)
                )
            except Exception as error:  # noqa: BLE001 - one request's failure is its own; the thread goes on
                _take_back(undo)
                item.ticket.saved.set_exception(_named(error))
                continue
            for change in planned.changes:
                self._overlay.note(change.change.memory_id, change.record)
            done.append((item, planned, undo))
        try:
            files.settle()
            journal = self._to_index([change for _, planned, _ in done for change in planned.changes])
        except Exception as error:  # noqa: BLE001 - every request of the group is told
            for item, _, undo in reversed(done):
                _take_back(undo)
                item.ticket.saved.set_exception(_named(error))
            return
        finally:
            self._overlay.clear()
            files.forget()
        reach("write.indexed")
        changed = [(item, planned) for item, planned, _ in done if planned.changes]
        self.to_commit(
            [change.change for _, planned in changed for change in planned.changes],
            [item.ticket for item, _ in changed],
            journal,
        )
        for item, planned, _ in done:
            item.ticket.saved.set_result(planned)
            if not planned.changes:  # it stands where what came before it stands
                self._commits.put(_Commit((), (item.ticket,), ()))
        reach("write.acknowledged")
        self._on_saved()

    def _to_disk(self, change: FileChange, files: FileBatch, undo: list[Callable[[], None]]) -> FileChange:
        path, data = change.change.path, change.change.data
        if data is None:
            undo.append(files.remove(path))
            return change
        undo.append(files.put(path, data))
        assert change.record is not None  # noqa: S101 - a file that stays has a record
        moment = (self._root / path).stat().st_mtime_ns
        return replace(change, record=replace(change.record, mtime_ns=moment))

    def _to_index(self, changes: Sequence[FileChange]) -> list[int]:
        last = {change.change.memory_id: change for change in changes}
        written = {change.record.id: change.record for change in changes if change.record is not None}
        tombstones: list[Tombstone] = []
        for identifier, change in last.items():
            record = written.get(identifier) or self._index.get(identifier)
            if change.record is None and record is not None:
                why = change.change
                tombstones.append(
                    Tombstone(
                        id=identifier,
                        path=record.path,
                        version=record.version,
                        type=record.type,
                        title=record.title,
                        deleted=datetime.now(UTC),
                        author=why.author,
                        reason=why.reason,
                    )
                )
        reach("write.index_begun")
        settled = self._take_settled()
        try:
            return self._index.apply(
                [change.record for change in last.values() if change.record is not None],
                [identifier for identifier, change in last.items() if change.record is None],
                pending=[pending_of(change.change) for change in changes],
                settled=settled,
                tombstones=tombstones,
            )
        except BaseException:
            self._settled.extend(settled)
            raise

    def _take_settled(self) -> list[int]:
        settled, self._settled = self._settled, []
        return settled

    def absorb(self, changes: Sequence[FileChange]) -> None:
        """Take what already lies on disk into the index and to the next commit (writer's thread only)."""
        if changes:
            journal = self._to_index(changes)
            self.to_commit([change.change for change in changes], [], journal, found=True)
            self._on_saved()

    def follow_index(self) -> None:
        """Have the git index brought up to date when it can be, though there is nothing to commit."""
        self._commits.put(_Commit((), (), ()))

    def to_commit(
        self, changes: Sequence[Change], tickets: Sequence[Ticket], journal: Sequence[int], *, found: bool = False
    ) -> None:
        """Queue changes that are on disk, in the index and in its journal for their commit.

        Args:
            found: they lay in the work tree; nothing of them is committed that is there no more, for it is as HEAD has
                it. Somebody's git went from one branch to another and back meanwhile.
        """
        if changes:
            with self._idle:
                self._uncommitted += len(changes)
            self._commits.put(_Commit(tuple(changes), tuple(tickets), tuple(journal), found))

    # -- the committer's thread --------------------------------------------------------------------------------

    def _commit_loop(self) -> None:
        waiting: list[_Commit] = []
        ending = False
        while not ending:
            # The git index follows when commits pause: bringing it up to date costs more than a commit.
            behind = self._repo.index_pending or self._settled
            looking = _LOOK_SECONDS if self._repo.index_unsettled else None
            pause = _RETRY_SECONDS if waiting else _PAUSE_SECONDS if behind else looking
            try:
                item = self._commits.get(timeout=pause)
            except queue.Empty:
                self._catch_up()
                item = _Commit((), (), ())
            while item is not None:
                waiting.append(item)
                if self._commits.empty() or sum(len(entry.changes) for entry in waiting) >= _MOST_PER_COMMIT:
                    break
                item = self._commits.get()
            ending = item is None
            waiting = self._commit(waiting)
        self._catch_up()

    def _commit(self, entries: list[_Commit]) -> list[_Commit]:
        """Commit; returns what has to be tried again."""
        changes = [change for entry in entries for change in entry.changes]
        journal = tuple(seq for entry in entries for seq in entry.journal)
        if not changes and not any(entry.tickets for entry in entries):
            return []
        commit: str | None = None
        try:
            for segment in segments(self._standing(entries)):
                commit = self._repo.commit(segment, update_index=False) or commit
            head = commit or self._repo.head() or ""
        except Exception as error:  # noqa: BLE001 - the writes are safe on disk; the status says what failed
            named = _named(error)
            self._commit_told.failed(named)
            with self._idle:
                self._commit_error = named
                self._idle.notify_all()
            for entry in entries:
                for ticket in entry.tickets:
                    if not ticket.committed.done():
                        ticket.committed.set_exception(named)
            return [replace(entry, tickets=()) for entry in entries if entry.changes]
        for entry in entries:
            for ticket in entry.tickets:
                if not ticket.committed.done():
                    ticket.committed.set_result(head)
        with self._idle:
            self._commit_error = None
            self._uncommitted -= len(changes)
            self._idle.notify_all()
        self._commit_told.succeeded()
        # The entries leave the journal with the next write, or when commits pause. Until then they are only stale: a
        # start after a crash finds that their files are committed.
        self._settled.extend(journal)
        self._on_committed()
        return []

    def _standing(self, entries: Sequence[_Commit]) -> list[Change]:
        """The changes without what was found in the work tree and has gone back to what HEAD has."""
        other = {
            change.path: data
            for entry in entries
            if entry.found
            for change in entry.changes
            if (data := self._on_disk(change.path)) != change.data
        }
        committed = self._repo.versions(other) if other else {}
        back = {
            path
            for path, data in other.items()
            if committed.get(path) == (None if data is None else MemoryRepo.blob_id(data))
        }
        return [change for entry in entries for change in entry.changes if not (entry.found and change.path in back)]

    def _on_disk(self, path: str) -> bytes | None:
        try:
            return (self._root / path).read_bytes()
        except OSError:
            return None

    def _catch_up(self) -> None:
        """What can wait until commits pause."""
        settled = self._take_settled()
        try:
            self._index.clear_pending(settled)
        except Exception as error:  # noqa: BLE001 - tried again later; the thread goes on
            self._settled.extend(settled)
            self._journal_told.failed(error)
        else:
            if settled:
                self._journal_told.succeeded()
                reach("commit.recorded")
        try:
            if self._repo.refresh_index():
                self._git_index_told.succeeded()
        except Exception as error:  # noqa: BLE001 - tried again after the next commit
            self._git_index_told.failed(error)


def pending_of(change: Change) -> PendingChange:
    """What the index keeps of a change until it is committed."""
    return PendingChange(
        path=change.path,
        memory_id=change.memory_id,
        operation=change.operation,
        title=change.title,
        author=change.author,
        reason=change.reason,
    )


def segments(changes: Sequence[Change]) -> list[list[Change]]:
    """Split changes into runs in which no path occurs twice, so that each version gets its own commit."""
    runs: list[list[Change]] = []
    seen: set[str] = set()
    for change in changes:
        if not runs or change.path in seen:
            runs.append([])
            seen = set()
        runs[-1].append(change)
        seen.add(change.path)
    return runs


def _take_back(undo: Sequence[Callable[[], None]]) -> None:
    for step in reversed(undo):
        try:
            step()
        except OSError:
            _log.exception("could not undo a file change")


def _named(error: Exception) -> AlgError:
    if isinstance(error, AlgError):
        return error
    if isinstance(error, OSError):
        return storage_error(error, "write")
    _log.error("unexpected failure", exc_info=error)
    return StorageError(
        f"unexpected failure: {type(error).__name__}: {error}", hint="Nothing changed; the hub's log has the details."
    )


def _settle(future: Future[_T], run: Callable[[], _T]) -> None:
    try:
        result = run()
    except Exception as error:  # noqa: BLE001 - whoever waits for the future is told
        future.set_exception(error)
        if not isinstance(error, AlgError):
            _log.exception("a task failed")
    else:
        future.set_result(result)
