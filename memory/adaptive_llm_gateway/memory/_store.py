"""The store: one memory repo with its index, its writer and everything around them. Safe to call from any thread."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, TypeVar

from adaptive_llm_gateway.core import (
    ALLOWANCES_FILE,
    AlgError,
    InvalidInput,
    ProcessLock,
    SecretRefused,
    SecretScanner,
    StandingAllowance,
    Unavailable,
    narrowed,
    new_ulid,
    reach,
)
from adaptive_llm_gateway.memory._allowing import Allow, Allowed, Allowing
from adaptive_llm_gateway.memory._asking import Answer, Asking, SearchRequest
from adaptive_llm_gateway.memory._files import prepare_scratch, read_file, storage_errors
from adaptive_llm_gateway.memory._frontmatter import MAX_FILE
from adaptive_llm_gateway.memory._giving_way import GivingWay
from adaptive_llm_gateway.memory._history import Told
from adaptive_llm_gateway.memory._incoming import Incoming
from adaptive_llm_gateway.memory._index import CorruptIndex, Index
from adaptive_llm_gateway.memory._index_rows import Tombstone
from adaptive_llm_gateway.memory._kept_records import KeptRecords
from adaptive_llm_gateway.memory._memory_index import MemoryIndex, likeness
from adaptive_llm_gateway.memory._merge_driver_setup import install_merge_driver
from adaptive_llm_gateway.memory._opening import open_index, open_repo, rebuilt
from adaptive_llm_gateway.memory._pages import Order, Page, page_of
from adaptive_llm_gateway.memory._parts import Parts
from adaptive_llm_gateway.memory._past import Past
from adaptive_llm_gateway.memory._plans import Planned, Planner
from adaptive_llm_gateway.memory._publish import Publisher
from adaptive_llm_gateway.memory._quarantine import Held, Quarantine, summary
from adaptive_llm_gateway.memory._raising import PersonalRule
from adaptive_llm_gateway.memory._reading import Reading, every_record
from adaptive_llm_gateway.memory._reconcile import Reconciler
from adaptive_llm_gateway.memory._repo_rules import RepoRules
from adaptive_llm_gateway.memory._requests import (
    PERSONAL,
    History,
    Memory,
    ReindexReport,
    Request,
    Skipped,
    Standing,
    StoreSettings,
    StoreStatus,
    WriteResult,
)
from adaptive_llm_gateway.memory._reranking import Reranking
from adaptive_llm_gateway.memory._seen_reading import SeenReading
from adaptive_llm_gateway.memory._sessions import SessionLog
from adaptive_llm_gateway.memory._sight import Sight, Sighted
from adaptive_llm_gateway.memory._sync import PullResult, Sync
from adaptive_llm_gateway.memory._sync_model import commit_problem, with_commit_error
from adaptive_llm_gateway.memory._sync_progress import SyncProgress
from adaptive_llm_gateway.memory._sync_schedule import Pace
from adaptive_llm_gateway.memory._syncing import Syncing, SyncOutcome, configuration_files
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Author, Filters, Record, SyncStatus
from adaptive_llm_gateway.memory._vectorizer import Vectorizer
from adaptive_llm_gateway.memory._watcher import Watcher
from adaptive_llm_gateway.memory._writer import Overlay, Ticket, Writer

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

TYPES_FOLDER = "types"
_SAVE_SECONDS = 60.0
_COMMITS_PER_UPKEEP = 500
_COMMITS_TOLD = 2_000  # of a pull; older ones told their reasons when they came
_LOOK_AGAIN_SECONDS = 2.0
_GIT_SECONDS = 2.0  # for somebody's git to be done, before a pull or push goes on without looking at edits by hand
_INDEXED_AT_ONCE = 5  # files of a pull; writes go on in between


class MemoryStore:
    """Everything that can be done with one memory repo. The store is its only writer while it is open.

    Args:
        settings: where things are and how to behave.

    Raises:
        LockHeld: another process has the repo open as a store.
        FormatTooNew: the repo or index was written by a newer version; nothing was touched.
        StorageError: the repo cannot be opened or created.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._editor = Author(client="editor", host=settings.host)
        self._notices: list[str] = [*settings.notices]
        self._trouble: str | None = None
        self._mending = False
        self._left = False  # what the last end left is yet to be taken in
        self._listeners: list[Callable[[], None]] = []
        self._sync_listeners: list[Callable[[], None]] = []
        self._closed = False
        self._commits = 0
        self._upkeep: threading.Thread | None = None
        self._state = threading.Lock()
        self.rules = RepoRules(settings.name, settings.trust, settings.read_only)
        self._personal = PersonalRule(settings.personal, settings.trust) if settings.personal is not None else None
        self._lock: ProcessLock | None = None
        try:
            # Before anything there is made good: what another process is at looks like what a crash has left.
            self.repo = open_repo(settings, self._take_lock)
            self._scratch = self.repo.git_dir / "alg-scratch"
            prepare_scratch(self._scratch)
            self._hub = self._hub_name()
            self._index, fresh, notices = open_index(
                settings, self._hub if settings.name in (None, PERSONAL) else f"{self._hub}-{settings.name}"
            )
            self._notices += notices
        except BaseException:
            self._let_lock_go()
            raise
        try:
            self._set_up(fresh)
        except BaseException:
            self._index.close()
            self._let_lock_go()
            raise
        self._writer.start()
        self._watcher.start()
        self._vectorizer.start()
        self._reranking.start()
        self._syncing.start()

    def _take_lock(self, git_dir: Path) -> None:
        self._lock = ProcessLock(git_dir / "alg-store.lock").acquire()

    def _let_lock_go(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def _set_up(self, fresh: bool) -> None:
        """Put the parts together; nothing runs yet."""
        settings = self._settings
        self._types, notices = TypeRegistry.load(settings.repo / TYPES_FOLDER)
        self._type_notices = [f"{notice.path}: {notice.problem}" for notice in notices]
        self._allowing = Allowing(
            self.repo,
            scratch=self._scratch,
            clock=settings.clock,
            rules=self.rules,
            trusting=settings.remote_allowances == "trust",
        )
        self._scanner = self._allowing.scanner(SecretScanner(clock=settings.clock, mark_key=settings.mark_key))
        self._overlay = Overlay(self._index)
        self._reading = Reading(settings.repo, self._index, self.repo, stones=self._index)
        self._planner = self._make_planner()
        self._handoffs = KeptRecords(self._index, "handoff")
        self._vectorizer = Vectorizer(self._index, settings.embedder)
        self._reranking = Reranking(settings.reranker, top=settings.rerank_top, timeout=settings.rerank_timeout)
        self._past = Past(
            index=self._index, repo=self.repo, folder=settings.index.parent / "past", embed=self._vectorizer.fill
        )
        self._incoming = Incoming()
        self._asking = Asking(
            index=self._index,
            repo=self.repo,
            vector=self._vectorizer.query_vector,
            begin=self._vectorizer.begin_query,
            ready=lambda: self._vectorizer.ready,
            past=self._past,
            reranking=self._reranking,
        )
        self._writer = Writer(
            root=settings.repo,
            scratch=self._scratch,
            index=self._index,
            repo=self.repo,
            overlay=self._overlay,
            plan=self._plan,
            on_saved=self._vectorizer.wake,
            on_committed=self._committed,
        )
        self._reconciler = Reconciler(
            root=settings.repo,
            scratch=self._scratch,
            index=self._index,
            repo=self.repo,
            writer=self._writer,
            editor=self._editor,
            rules=self.rules,
            personal=self._personal,
        )
        self._sync = Sync(
            self.repo,
            scan=self._scan_foreign,
            timeout=settings.sync_timeout,
            in_writer=self._merge_in_writer,
            mask=self._masked,
            checks=lambda: self._allowing.same_until_changed(self._scanner),
            arriving=self._allowing.arrive,
            rules=self.rules,
            alone=self._vectorizer.held_back,
        )
        publisher = Publisher(
            self._sync,
            self.repo,
            prepare=self._before_sync,
            when_committed=self._when_committed,
            plan=self._plan,
            name=settings.name,
        )
        pushes = settings.push_after_write and not settings.read_only
        self._syncing = Syncing(
            self._sync,
            publisher,
            prepare=self._before_sync,
            done=self._synced,
            pace=Pace(settings.sync_interval, settings.push_delay if pushes else None),
            watched=configuration_files(self.repo.git_dir, settings.repo / ALLOWANCES_FILE),
        )
        self._watcher = Watcher(settings.repo, mode=settings.watch, on_change=self._edited)
        self._install_hooks()
        if settings.merge_driver:
            self._install_merge_driver(settings.merge_driver)
        if settings.remote is not None:
            self._set_remote(settings.remote)
        if isinstance(self._index, Index):
            self._index.on_damage = functools.partial(self._damaged, self._index)
        # What was written before the last end and is not yet indexed or committed comes before any new write.
        self._ready: Future[Any] = self._writer.run(self._rebuild if fresh else self._recover)

    # -- opening -----------------------------------------------------------------------------------------------

    def _hub_name(self) -> str:
        """A name for this home's session files that another machine with the same host name does not share."""
        if self._settings.hub_name is not None:
            return self._settings.hub_name
        file = self._settings.index.parent / "hub-name"
        with storage_errors(f"use {str(file)!r}"):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                return file.read_text(encoding="utf-8", errors="replace").strip() or self._settings.host
            except FileNotFoundError:
                name = f"{self._settings.host}-{new_ulid()[-6:].lower()}"
                file.write_text(name + "\n", encoding="utf-8")
                return name

    @property
    def hub_name(self) -> str:
        """This home's name, which another home's on the same machine differs from."""
        return self._hub

    @property
    def host(self) -> str:
        """The machine's name, as memories have it."""
        return self._settings.host

    @property
    def commit_wait(self) -> float:
        """Seconds that an answer waits for its commit."""
        return self._settings.commit_wait

    def _plan(self, request: Request | Sighted) -> Planned:
        self.rules.check_open()
        planner = self._planner  # another one after the user's types changed
        if isinstance(request, Sighted):
            planner, request = self._make_planner(request.sight), request.request
        try:
            planned = planner.plan(request)
        except SecretRefused as refused:
            if self._settings.name not in (None, PERSONAL):
                refused.details["repo"] = self._settings.name  # whose allowances count
            raise
        self.rules.check(planned.changes)
        return planned

    def _make_planner(self, sight: Sight | None = None) -> Planner:
        whole = (self._settings.repo, self._index, self.repo)
        reading = self._reading if sight is None else SeenReading(*whole, sight=sight, types=self._types)
        return Planner(
            root=self._settings.repo,
            types=self._types,
            index=self._overlay,
            scanner=self._scanner,
            deleted=reading.find_deleted,
            read_version=reading.version,
            hub=self._hub,
            host=self._settings.host,
            max_body_bytes=self._settings.max_body_bytes,
            clock=self._settings.clock,
            held=lambda: self.repo.quarantine.held,
            personal=self._personal,
            sight=sight,
        )

    def _install_hooks(self) -> None:
        staged, message = self._settings.hook_command, self._settings.message_command
        elsewhere = False
        try:
            if staged:
                elsewhere = self.repo.install_hook(staged) == "elsewhere"
            if message:
                elsewhere |= self.repo.install_hook(message, name="commit-msg") == "elsewhere"
        except AlgError as error:
            self._notices.append(f"the hook that looks for secrets could not be installed: {error}")
        if elsewhere:
            self._notices.append("git's core.hooksPath is set, so the repo's secret check on commit is not active.")

    def _install_merge_driver(self, command: Sequence[str]) -> None:
        try:
            install_merge_driver(self.repo.path, command)
        except AlgError as error:
            self._notices.append(f"git's merge driver could not be installed: {error}")

    def close(self) -> None:
        """Finish what is queued, commit it, and let everything go; harmless when closed."""
        with self._state:
            if self._closed:
                return
            self._closed = True
        self._watcher.stop()
        self._vectorizer.stop()
        self._reranking.stop()
        self._syncing.stop()
        self._writer.close()
        self._past.close()
        self._index.close()
        self.repo.close()
        self._let_lock_go()

    def wait_ready(self, timeout: float) -> bool:
        """Wait until what the last end left is picked up and the index is complete; whether that came in time."""
        try:
            self._ready.result(timeout)
        except FutureTimeout:
            return False
        return True

    def on_committed(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, from another thread, after each commit."""
        self._listeners.append(listener)

    def on_synced(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each pull, push or publication that reached the remote.

        It is called from the thread that does these, one after the other: it may ask for one, and must not wait for it.
        """
        self._sync_listeners.append(listener)

    def _synced(self) -> None:
        for listener in self._sync_listeners:
            try:
                listener()
            except Exception:  # noqa: BLE001 - the next one is told all the same, and syncing goes on
                _log.exception("a listener to syncing failed")

    def _committed(self) -> None:
        self._syncing.committed()
        self._commits += 1
        if self._commits % _COMMITS_PER_UPKEEP == 0 and (self._upkeep is None or not self._upkeep.is_alive()):
            self._upkeep = threading.Thread(target=self._maintain, name="memory-upkeep", daemon=True)
            self._upkeep.start()
        for listener in self._listeners:
            listener()

    def _maintain(self) -> None:
        try:
            self.repo.maintain()
            self._index.tidy()
        except AlgError as error:
            if not self._closed:  # else it was only cut short
                _log.warning("upkeep failed: %s", error)

    # -- writing -----------------------------------------------------------------------------------------------

    def submit(self, request: Request | Sighted) -> Ticket:
        """Queue a write; the ticket's futures say when it is saved and when it is committed."""
        return self._writer.submit(request)

    def write(self, request: Request) -> WriteResult:
        """Carry out one write and wait for its commit, up to `commit_wait`.

        Raises:
            InvalidInput, UnknownType, UnknownField, TooLarge, SecretRefused, NotFound, VersionConflict, RepoBusy,
            DiskFull, ReadOnly, StorageError: nothing changed.
        """
        ticket = self.submit(request)
        planned = ticket.saved.result(_SAVE_SECONDS)
        return self.result(planned, self.commit_of(ticket, self._settings.commit_wait))

    def write_many(self, requests: Sequence[Request]) -> list[WriteResult | AlgError]:
        """Carry out many writes; each has its own result or error."""
        tickets = [self.submit(request) for request in requests]
        results: list[WriteResult | AlgError] = []
        for ticket in tickets:
            try:
                planned = ticket.saved.result(_SAVE_SECONDS)
            except AlgError as error:
                results.append(error)
            else:
                results.append(self.result(planned, self.commit_of(ticket, 0.0)))
        return results

    @staticmethod
    def commit_of(ticket: Ticket, wait: float) -> str | AlgError | None:
        """The ticket's commit after at most `wait` seconds: its id, why there is none, or None when it still runs."""
        try:
            return ticket.committed.result(wait)
        except FutureTimeout:
            return None
        except AlgError as error:
            return error

    def result(self, planned: Planned, commit: str | AlgError | None) -> WriteResult:
        """The answer to a write."""
        failed = commit if isinstance(commit, AlgError) else None
        done = commit if isinstance(commit, str) else None
        sync = self.sync_status()
        if done is None and sync.state == "pushed":  # HEAD is, but this write is not in it yet
            sync = replace(sync, state="pending")
        return WriteResult(
            planned.id,
            planned.type,
            planned.title,
            planned.path,
            planned.operation,
            planned.version,
            Standing(
                "committed" if done is not None else "saved",
                sync,
                done or None,
                str(failed) if failed else None,
            ),
            unchanged=not planned.changes,
            notes=planned.notes,
            redacted=planned.redacted,
            repo=self._settings.name,
            raised=planned.raised,
        )

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, id: str, *, at: str | None = None) -> Memory:
        """One memory as it is on disk now, or as it was.

        Args:
            id: the full id, or an unambiguous beginning or end of it.
            at: a version, a commit, a time in ISO 8601, or `HEAD~2`.

        Raises:
            NotFound: no such memory, or it did not exist then.
            InvalidInput: not an id, or `at` is none of these.
            InvalidFile: the file is broken since somebody edited it.
        """
        return self._reading.read(id, at, self._types, self._scanner)

    def session(self, id: str) -> SessionLog:
        """A session's log, from all of its files.

        Args:
            id: of any of its files, or an unambiguous beginning or end of it.

        Raises:
            NotFound: no such memory.
            InvalidInput: not an id, or a memory that is no session.
            InvalidFile: a file is broken since somebody edited it.
        """
        return self._reading.session(id, self._types, self._scanner)

    def was_deleted(self, id: str) -> bool:
        """Whether a memory with this full id was here and is deleted."""
        return self._index.get(id) is None and self._index.tombstone(id) is not None

    def ask(self, request: SearchRequest, *, now: datetime | None = None, zone: tzinfo = UTC) -> Answer:
        """The memories that answer a request, best first; the most recent ones for a blank query.

        Args:
            now: timezone-aware, what `last week` is seen from; default: now.
            zone: where the days that a query speaks of begin.

        Raises:
            InvalidInput: the cursor is none, or of another search; `as_of` is neither a commit nor a time.
            NotFound: no memory `similar_to`, no such commit, or none as old as that.
            TooLarge, DiskFull, Unavailable: the past cannot be searched.
        """
        return self._asking.ask(
            request, types=self._types, scanner=self._scanner, now=now or datetime.now(UTC), zone=zone
        )

    def search(self, query: str, *, filters: Filters | None = None, limit: int = 10) -> Answer:
        """The memories that answer a query, best first; see `ask`."""
        return self.ask(SearchRequest(query, filters or Filters(), limit))

    def likeness(self, one: str, other: str) -> float | None:
        """The cosine of two memories' vectors, by full ids; `None` where one has none yet."""
        return likeness(self._index, one, other)

    def list(
        self,
        *,
        filters: Filters | None = None,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "updated",
        given: str | None = None,
    ) -> Page:
        """A page of memories; `next_cursor` of one page is the `cursor` of the next.

        Events of handoffs are left out unless ids or fields (`event`, `handoff`) ask for them. Of memories that stay
        as they are none is passed over and none comes twice, whatever else is written in between.

        Args:
            cursor: from the page before; filters and order must be as they were.
            given: what tells this list from another, where `filters` differs from call to call (a relative time).

        Raises:
            InvalidInput: the cursor is none, or of another list.
        """
        return page_of(self._index, filters, given=given, limit=limit, cursor=cursor, order=order)

    def history(self, id: str, *, limit: int = 50) -> History:
        """The commits that touched a memory, newest first; also of a deleted one, by its full id.

        Raises:
            NotFound: no such memory, deleted or not.
        """
        return self._reading.history(id, limit, self._scanner)

    def _masked(self, text: str) -> str:
        return self._scanner.redact(text)[0]

    def deleted(self, *, limit: int = 50) -> list[Tombstone]:
        """Deleted memories, the latest first."""
        return self._index.tombstones(limit=limit)

    def record(self, id: str) -> Record | None:
        """The indexed record of a full id."""
        return self._index.get(id)

    def records(self, *, filters: Filters | None = None) -> Iterator[Record]:
        """Every memory that the filters let through, events of handoffs too, a page at a time."""
        return every_record(self._index, filters or Filters())

    def handoff_records(self) -> tuple[Record, ...]:
        """Every handoff and event of one, in no order: as `records` has them, and kept in memory for the next time.

        Events that are patches have no body here; `record` has it.
        """
        return self._handoffs.all()

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Files that cannot be read as they are now; what they said before stands in the index.

        What is told of them has marks for credentials, for a name or a broken line may hold one.
        """
        return self._told(self._reconciler.skipped)

    def _told(self, skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
        return tuple(Skipped(self._masked(item.path), self._masked(item.problem)) for item in skipped)

    def file_of(self, record: Record) -> bytes | None:
        """The bytes of a memory's file, or None when it is gone."""
        return read_file(self._settings.repo, record.path, limit=MAX_FILE)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the memory files are: the memory repo's folder."""
        return (self._settings.repo,)

    @property
    def index(self) -> MemoryIndex:
        """The derived index; only this store writes to it."""
        return self._index

    @property
    def parts(self) -> Parts:
        """What a search over several repos needs of this one."""
        settled = self._ready.done() and self._incoming.settled
        parts = (self._index, self.repo, self._vectorizer, self._past, self._reranking, self._types, self._scanner)
        return Parts(*parts, settled)

    def knows_deleted(self, id: str) -> bool:
        """Whether a memory with this full id was ever here and is deleted, as the index or git's history says."""
        return self._index.get(id) is None and self._reading.find_deleted(id) is not None

    @property
    def types(self) -> TypeRegistry:
        """The memory types: built in, and declared in the repo's `types` folder."""
        return self._types

    @property
    def scanner(self) -> SecretScanner:
        """The secret scanner with the repo's allowances."""
        return self._scanner

    # -- upkeep ------------------------------------------------------------------------------------------------

    def reindex(self, *, accept_loss: bool = False) -> ReindexReport:
        """Rebuild the index from the files alone; the report names every file that was skipped, and why.

        Args:
            accept_loss: files that vanished all at once are taken for deletions.
        """

        def task() -> ReindexReport:
            if accept_loss:
                self._index_rest()
                self._reconciler.take_in(self._types, self._scanner, accept_loss=True)
            return self._rebuild(accept_loss=accept_loss)

        self._ready = self._writer.run(task)
        return self._ready.result()

    def _rebuild(self, *, accept_loss: bool = False) -> ReindexReport:
        self._reload()
        report = self._reconciler.rebuild(self._types, self._scanner, self._index.pending(), accept_loss=accept_loss)
        self._incoming.clear()
        self._index.tidy()
        self._vectorizer.wake()
        return replace(report, skipped=self._told(report.skipped))

    def _damaged(self, index: Index, error: CorruptIndex) -> None:
        """An operation met damage in the index: have it set aside and built anew from the files, once."""
        with self._state:
            if self._mending or self._closed:
                return
            self._mending = True

        def mend() -> ReindexReport:
            try:
                self._notices.append(rebuilt(error, index.start_over().name))
                return self._rebuild()
            finally:
                self._mending = False

        with contextlib.suppress(Unavailable):  # closing: the next start looks
            self._ready = self._writer.run(mend)

    def _recover(self) -> None:
        self._left = self.repo.is_in_hand()
        if self._left:
            self._look_again()
            return
        self._commit_allowances()
        self._reconciler.recover(self._types, self._scanner)
        self._release()
        self._vectorizer.wake()

    def _release(self) -> None:
        """Bring in what is held back and passes now, in the writer's thread: rules or types may have changed."""
        try:
            with self._incoming.moving():
                done = self._sync.look_again()
                if done is not None and done.merged:
                    self._incoming.add(done.merged)
        except AlgError as error:
            _log.warning("what is held back could not be brought in: %s", error)
        else:
            if done is not None and done.merged:
                self._reload()
                self._index_rest()

    def _edited(self, paths: set[str]) -> None:
        """The watcher saw changes; look at them in the writer's thread."""
        with contextlib.suppress(Unavailable):  # closing: the next start looks
            self._writer.run(lambda: self._absorb(paths)).add_done_callback(self._absorbed)

    def _absorbed(self, done: Future[None]) -> None:
        error = done.exception()
        self._trouble = f"edits by hand could not be taken in: {error}" if error else None
        if error is not None:
            _log.warning("%s", self._trouble)
            self._look_again()

    def _look_again(self) -> None:
        """Look at everything after a while."""
        timer = threading.Timer(_LOOK_AGAIN_SECONDS, self._edited, [{""}])
        timer.daemon = True
        timer.start()

    def _absorb(self, paths: set[str]) -> None:
        if self.repo.is_in_hand():  # what lies there may be another commit's, or hold somebody's conflict markers
            self._look_again()
            return
        if self._left:
            self._recover()
        paths = self._incoming.others(paths)
        if "" in paths or any(path.startswith(f"{TYPES_FOLDER}/") or path == ALLOWANCES_FILE for path in paths):
            self._allowances_changed()
        else:
            self._reconciler.take_in(self._types, self._scanner, only=paths)

    def _allowances_changed(self) -> None:
        """In the writer's thread: what is refused or held back may pass now, or the other way round."""
        self._reload()
        self._commit_allowances()
        self._index_rest()
        self._reconciler.take_in(self._types, self._scanner)
        self._release()

    def _commit_allowances(self) -> None:
        if self._allowing.commit_edits(self._editor) is not None:
            self._committed()

    def _take_in(self, paths: Collection[str]) -> None:
        if not self.repo.is_in_hand():  # since the caller looked
            self._commit_allowances()
            if paths:
                self._reconciler.take_in(self._types, self._scanner, only=paths)

    def _reload(self) -> None:
        """Read the user's types and allowances again."""
        self._types, notices = TypeRegistry.load(self._settings.repo / TYPES_FOLDER)
        self._type_notices = [f"{notice.path}: {notice.problem}" for notice in notices]
        self._scanner = self._allowing.scanner(self._scanner)
        self._planner = self._make_planner()

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything that was submitted is committed; whether that came in time."""
        self._writer.run(lambda: None).result(timeout)
        return self._writer.wait_committed(timeout) and self._writer.uncommitted == 0

    def status(self) -> StoreStatus:
        """The store at a glance; no network, a few milliseconds."""
        counts = self._index.statistics()
        progress = self._reconciler.progress
        notices = [*self._notices, *self._allowing.notices, *self._type_notices]
        failed = self._failed_start()
        notices += [notice for notice in (failed, self._trouble) if notice]
        if self._writer.commit_error is not None:
            notices.append(f"commits fail: {self._writer.commit_error}")
        if self._reconciler.vanished:
            notices.append(
                f"{len(self._reconciler.vanished)} memory files are gone at once, so this was not taken for "
                "deletions. Bring them back with `git restore .` in the memory repo, or confirm with "
                "`alg memory reindex --accept-loss`."
            )
        notices += [each for each in (self._reconciler.personal,) if each]
        notices += summary(self.repo.quarantine)
        if progress is not None:
            notices.append(f"the index is being built: {progress[0]} of {progress[1]} files")
        trouble = self._vector_trouble()
        if trouble is not None:
            notices.append(trouble)
        done, total = self._index.vector_progress()
        return StoreStatus(
            memories=counts["memories"],
            by_type=counts["types"],
            index="ready" if progress is None and self._ready.done() and failed is None else "building",
            search="hybrid" if self._vectorizer.ready and done else "lexical",
            vectors=(done, total),
            embedder=self._vectorizer.state,
            uncommitted=self._writer.uncommitted,
            head=self.repo.head(),
            sync=self.sync_status(),
            watcher=self._watcher.state,
            reranker=self._reranking.state,
            skipped=self.skipped,
            notices=tuple(map(self._masked, notices)),
            rescues=len(self.repo.rescues()),
            clashes=tuple(self._index.clashes()),
        )

    def _failed_start(self) -> str | None:
        error = self._ready.exception() if self._ready.done() else None
        return (
            f"the index could not be brought up to date: {error}; `alg memory reindex` tries again" if error else None
        )

    def search_notices(self) -> tuple[str, ...]:
        """What a searcher must know: that the index is not complete, or why search is by words alone."""
        notices: list[str] = []
        progress = self._reconciler.progress
        if progress is not None:
            notices.append(f"the index is being built ({progress[0]} of {progress[1]} files): results are not complete")
        elif not self._ready.done():
            notices.append("changes since the last start are still being read: results may not be complete")
        failed = self._failed_start()
        if failed:
            notices.append(failed)
        reading = self._index.reading_vectors if isinstance(self._index, Index) and self._vectorizer.ready else None
        if reading is not None:
            notices.append(f"vectors are being read ({reading[0]} of about {reading[1]}): search may be by words alone")
        trouble = self._vector_trouble()
        if trouble is not None:
            notices.append(trouble)
        if self._vectorizer.state.startswith("unavailable"):
            notices.append(f"search is by words alone: the embedder is {self._vectorizer.state}")
        return tuple(notices)

    def _vector_trouble(self) -> str | None:
        return self._index.vector_trouble if isinstance(self._index, Index) and self._vectorizer.ready else None

    # -- sync --------------------------------------------------------------------------------------------------

    def sync_status(self) -> SyncStatus:
        """Where the memory repo stands against its remote; no network."""
        status = self._syncing.status()
        if status.state == "no_remote":  # what is in the way of writes is so without one, too
            status = self._sync.state.status()
        error = self._writer.commit_error
        return status if error is None else with_commit_error(status, commit_problem(error))

    def pull(self) -> Future[SyncOutcome]:
        """Fetch and merge, in the background; the future has the outcome or the `SyncError`."""
        return self._syncing.pull()

    def push(self) -> Future[SyncOutcome]:
        """Push what waits, in the background; the future has the outcome or the `SyncError`."""
        return self._syncing.push()

    def sync(self) -> Future[SyncOutcome]:
        """Pull, then push, in the background; the future has the outcome or the `SyncError`."""
        return self._syncing.sync()

    @property
    def sync_progress(self) -> SyncProgress | None:
        """What a pull or push that runs does now, and how far it is; None: none runs."""
        return self._syncing.progress

    def publish(self, decide: Callable[[], Request | Sighted], *, timeout: float) -> Future[WriteResult]:
        """A write that counts only when the remote has taken it, in the background: a compare-and-swap between clones.

        What was written here and waits goes along. While another clone's push comes first, it is merged and everything
        begins anew. The answer stands as `committed` and `pushed`, and what it speaks of is in files and index.

        Args:
            decide: called each time that everything the remote has is in the index, in the writer's thread: it may
                read, must write nothing and be quick. It gives the request to carry out, or raises why there is none;
                the future has its error then.
            timeout: seconds after which nothing more is tried. A future that is cancelled before its turn does nothing.

        Raises:
            Unavailable: the store is closing.

        The future raises what `decide` and planning raise, `LockHeld` and `RepoBusy` as `pull` does, and a `SyncError`:
        of the kinds of `pull` and `push` (`no_remote`, `unreachable`, `auth`, `offline`, `hook_rejected`,
        `non_fast_forward` ...), when nothing was written anywhere; `unknown`, when the push ended without an answer and
        the remote could not be asked, so that the write may or may not count: the next pull shows; `not_merged`, when
        the remote has taken it and something keeps it from being merged here.
        """
        return self._syncing.publish(decide, timeout=timeout)

    def quarantine(self) -> Quarantine:
        """What the remote has and is held back here, and the secrets of its history."""
        return self.repo.quarantine

    def drop_quarantined(self, paths: Sequence[str], author: Author) -> tuple[Held, ...]:
        """Give up what is held back at these paths: a commit puts there what lies here, the last good version.

        Args:
            paths: as they are, or as they are shown.

        Raises:
            NotFound: nothing is held back at one of them; nothing changed.
            InvalidInput: no path is given.
            SyncError, RepoBusy, StorageError: nothing changed.
        """
        if not paths:
            raise InvalidInput("no path is given", hint="Name one or more of those that are listed.")
        self.rules.check_open()

        def task() -> tuple[Held, ...]:
            self.repo.check_ready()
            return self._sync.drop(paths, author)

        dropped = self._when_committed(task)
        self._committed()
        return dropped

    # -- allowances --------------------------------------------------------------------------------------------

    def allowances(self) -> tuple[StandingAllowance, ...]:
        """What is allowed though it looks like a secret, and whether each entry counts now.

        Raises:
            ConfigError: the list cannot be read; then nothing is allowed.
        """
        return self._allowing.all()

    def allow(self, wanted: Allow, author: Author) -> Allowed:
        """Let findings with a fingerprint pass; see `Allowing.allow`. What was refused for it comes in at once."""
        kind = self._scanner.kind_of(wanted.fingerprint.strip().lower())
        return self._change_allowances(lambda: self._allowing.allow(wanted, author, kind=kind))

    def revoke_allowance(self, fingerprint: str, author: Author, *, by: str | None = None) -> str | None:
        """Let findings with a fingerprint pass no more; the commit. See `Allowing.revoke`."""
        return self._change_allowances(lambda: self._allowing.revoke(fingerprint, author, by))

    def _change_allowances(self, change: Callable[[], _T]) -> _T:
        def task() -> _T:
            self.repo.check_ready()
            done = change()
            self._allowances_changed()
            return done

        done = self._when_committed(task)
        self._committed()
        return done

    def _set_remote(self, url: str) -> None:
        try:
            if self._sync.remote.url() != url:
                self._sync.set_remote(url)
        except AlgError as error:
            self._notices.append(f"the remote could not be set: {error}")

    def _scan_foreign(self, path: str, data: bytes) -> None:
        for text in dict.fromkeys((data, narrowed(data))):
            self._scanner.check(text.decode("utf-8", "replace"), where=repr(path))

    def _before_sync(self) -> None:
        """Edits by hand become commits before anything is merged or pushed."""
        if self._incoming:
            self._writer.run(self._index_rest).result(_SAVE_SECONDS)
        if not self.repo.is_in_hand(wait=_GIT_SECONDS):
            # Looking at all files takes longer than a write does; the writer looks only at what seems to differ.
            give_way = GivingWay(lambda: self._writer.submitted)
            found = None if self._left else self._reconciler.look(self._types, step=give_way)
            if found is None:
                self._when_committed(self._recover)
            else:
                self._writer.run(lambda: self._take_in(found)).result(_SAVE_SECONDS)
        self._all_committed()

    def _all_committed(self) -> None:
        done = self._writer.wait_committed(_SAVE_SECONDS)
        if self._writer.commit_error is not None:
            raise self._writer.commit_error
        if not done:
            raise Unavailable("commits are still waiting", hint="Try again in a moment.")

    def _when_committed(self, task: Callable[[], _T]) -> _T:
        """Run a task in the writer's thread once nothing waits for its commit."""

        def run() -> _T:
            self._all_committed()
            return task()

        return self._writer.run(run).result()

    def _merge_in_writer(self, merge: Callable[[], PullResult | None]) -> PullResult | None:
        """Files and branch move in one task of the writer; the index follows in small ones, with writes in between."""

        def task() -> PullResult | None:
            self._writer.wait_committed(_SAVE_SECONDS)
            with self._incoming.moving():  # nobody is to take the index for complete
                done = merge()
                if done is not None and done.merged:
                    self._incoming.add(done.merged)
            if done is not None and done.merged:
                self._reload()
            return done

        done = self._writer.run(task).result()
        if done is not None and done.merged:
            told = self.repo.last_told(commits=_COMMITS_TOLD, since=done.base)
            came = {path for moved in done.merged for path in (moved.old_path, moved.new_path) if path}
            self._incoming.told = {path: self._told_without_secrets(told[path]) for path in came & told.keys()}
            total = left = len(self._incoming)
            give_way = GivingWay(lambda: self._writer.submitted)
            while left:
                self._sync.progress.phase("indexing", total - left, total)
                left = self._writer.run(self._index_some).result()
                give_way()
            self._vectorizer.wake()
        if self.repo.index_unsettled:  # also where a git program holds the git index, or one that died
            self._writer.follow_index()
        return done

    def _index_some(self) -> int:
        """In the writer's thread: take in some of what came; how many files are left."""
        some = self._incoming.first(_INDEXED_AT_ONCE)
        self._reconciler.take_in(self._types, self._scanner, only=some, accept_loss=True, told=self._incoming.told)
        self._incoming.done(some)
        reach("sync.indexed")
        return len(self._incoming)

    def _index_rest(self) -> None:
        """In the writer's thread: before anything looks at the whole tree, which must not take what came for edits."""
        while self._incoming:
            self._index_some()

    def _told_without_secrets(self, said: Told) -> Told:
        return replace(said, agent=self._masked(said.agent), reason=said.reason and self._masked(said.reason))
