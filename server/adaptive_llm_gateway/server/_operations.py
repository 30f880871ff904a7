"""What the hub can do, as JSON in and JSON out: the MCP tools and the command line both call these."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar, assert_never

from adaptive_llm_gateway.compression import DEFAULT_BUDGET
from adaptive_llm_gateway.core import (
    AlgError,
    InvalidInput,
    NotFound,
    SecretScanner,
    SyncError,
    Trust,
    Unavailable,
    is_ulid,
)
from adaptive_llm_gateway.memory import (
    PERSONAL,
    AppendSession,
    Author,
    DeleteMemory,
    Filters,
    Link,
    ReplaceText,
    RestoreMemory,
    WriteMemory,
)
from adaptive_llm_gateway.server._access import ACCESS, EVERYTHING, TYPE_SCOPES, acting_for
from adaptive_llm_gateway.server._compaction import (
    CounterMaker,
    Growth,
    Summarised,
    checked_budget,
    compaction_json,
    exact_counter,
    summarise,
    summarise_if_grown,
)
from adaptive_llm_gateway.server._context import ContextRequest, checked_detail
from adaptive_llm_gateway.server._context import build as build_context
from adaptive_llm_gateway.server._memory_json import (
    Json,
    hit_json,
    progress_json,
    quarantine_json,
    record_json,
    repo_json,
    repo_of,
    revision_json,
    sync_json,
    sync_of_all,
    write_json,
)
from adaptive_llm_gateway.server._mode import ModeSwitch
from adaptive_llm_gateway.server._search_json import facets_json, plan_json, read_as
from adaptive_llm_gateway.server._summaries import PathRequest, Summaries
from adaptive_llm_gateway.server._times import LOCAL, iso, moment
from adaptive_llm_gateway.server._tracing import step
from adaptive_llm_gateway.server._underway import Underway

if TYPE_CHECKING:  # these would bring git, SQLite and numpy along before the hub can answer
    from adaptive_llm_gateway.memory import (
        Answer,
        Memories,
        Memory,
        MemoryStore,
        MemoryView,
        Request,
        SeenMemories,
        SyncOutcome,
    )

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
OnStep = Callable[[Json], Awaitable[None]]

_READERS = 4
_DRAIN_SECONDS = 5.0
_REOPEN_SECONDS = 2.0
_SAVE_SECONDS = 60.0
_MAX_LIMIT = 100
_SYNC_ANSWER_SECONDS = 20.0
_STEP_SECONDS = 0.25
_OTHERWISE = {"handoff": " otherwise than with the tools for handoffs"}
_TOLD_APART = ("sync", "skipped", "by_type", "repos", "clashes")  # of a status
_CLASHES_TOLD = 20
_NOTHING_DONE: Json = {"progress": None, "changed": 0, "pushed": 0, "conflicts": [], "decisions": [], "notices": []}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A pull, push or both; how long to wait for it, and whom to tell how far it is."""

    operation: Literal["pull", "push", "sync"]
    wait: float | None
    on_step: OnStep | None

    def begin(self, store: MemoryStore) -> Future[SyncOutcome]:
        match self.operation:
            case "pull":
                return store.pull()
            case "push":
                return store.push()
            case "sync":
                return store.sync()
            case _:
                assert_never(self.operation)


class Operations:
    """The operations over one store, which may still be opening.

    Args:
        open_store: opens the store; called in a thread.
        commit_wait: seconds an answer waits for its commit.
        compact_sessions_at: tokens from which on a session gets a summary by itself; 0: none does.
        counter: makes what counts tokens; called in a thread.
        summaries: of files; by default none may be read.
        modes: what the process may connect to; by default a switch that nothing keeps.
    """

    def __init__(
        self,
        open_store: Callable[[], Memories],
        *,
        commit_wait: float,
        compact_sessions_at: int = 0,
        counter: CounterMaker = exact_counter,
        summaries: Summaries | None = None,
        modes: ModeSwitch | None = None,
    ) -> None:
        self.modes = modes or ModeSwitch(None)
        self._open_store = open_store
        self._commit_wait = commit_wait
        self._store: asyncio.Future[Memories] | None = None
        self._opened = 0.0
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
        # Searches of the past take long at times, and come one after the other: they must not hold the readers up.
        self._past = ThreadPoolExecutor(1, thread_name_prefix="past")
        # So do summaries of many files; they need no store.
        self._files = ThreadPoolExecutor(1, thread_name_prefix="files")
        self._file_summaries = summaries or Summaries()
        self._counter = counter
        self._growth = Growth(compact_sessions_at)
        self._compacting = asyncio.Lock()  # one after the other: an older summary must not replace a newer one
        self._summaries: set[asyncio.Task[None]] = set()
        self._underway = Underway()
        self.objects: Callable[[], list[Json]] | None = None
        """Tells what a look through git's objects found; None where nobody looks."""

    def open(self) -> None:
        """Begin to open the store, in a thread."""
        self._opened = time.monotonic()
        self._store = asyncio.get_running_loop().run_in_executor(None, self._open_store)
        self._store.add_done_callback(_note_failure)

    @property
    def store_state(self) -> tuple[Literal["opening", "open", "failed"], BaseException | None]:
        """How the store stands, and why it could not be opened."""
        if self._store is None or not self._store.done():
            return "opening", None
        error = self._store.exception()
        return ("failed", error) if error else ("open", None)

    @property
    def scanners(self) -> tuple[SecretScanner, ...]:
        """The secret scanners of the memory repos that are open, each with its repo's allowances."""
        if self._store is None or not self._store.done() or self._store.exception():
            return ()
        from adaptive_llm_gateway.memory import MemoryStore  # noqa: PLC0415 - the store is open, so it is loaded

        store = self._store.result()
        return (
            (store.scanner,)
            if isinstance(store, MemoryStore)
            else tuple(each.scanner for each in store.stores.values())
        )

    @property
    def absent(self) -> dict[str, AlgError]:
        """The memory repos that are not there although others are, and why."""
        if self._store is None or not self._store.done() or self._store.exception():
            return {}
        from adaptive_llm_gateway.memory import MemoryStore  # noqa: PLC0415 - the store is open, so it is loaded

        store = self._store.result()
        return {} if isinstance(store, MemoryStore) else store.absent

    @property
    def underway(self) -> int:
        """How many calls have begun and not ended: writes that wait for their turn are among them."""
        return len(self._underway)

    @property
    def idle(self) -> bool:
        """Whether nothing is being done: no call, and no summary."""
        return not self._underway and not self._summaries

    async def close(self) -> None:
        """Let calls end that have begun (for a moment), then close the store and the reading threads."""
        await self._underway.ended(_DRAIN_SECONDS)
        if self._store is not None:
            try:
                store = await self._store
                await asyncio.to_thread(store.close)
            except Exception as error:  # noqa: BLE001 - it never opened, or cannot be closed: the hub ends all the same
                _log.warning("the store was not closed: %s", error)
        for threads in (self._readers, self._past, self._files):
            threads.shutdown(wait=False, cancel_futures=True)

    async def store(self) -> SeenMemories:
        """What the caller sees of the store, once it is open: all of it, or a view that is good for one call.

        To be asked for on the event loop, which knows who calls; threads do not.

        Raises:
            AlgError: why it could not be opened.
        """
        whole, access = await self.whole(), ACCESS.get()
        if access.sees_all:
            return whole
        from adaptive_llm_gateway.memory import Sight, view_of  # noqa: PLC0415 - the store is open, so it is loaded

        return view_of(whole, Sight(access.max_trust, access.projects))

    async def whole(self) -> Memories:
        """The store itself, whoever calls: for what the hub does by itself. One that could not be opened is tried
        again, at most every few seconds.

        Raises:
            AlgError: why it could not be opened.
        """
        if self._store is None or (
            self.store_state[0] == "failed" and time.monotonic() - self._opened > _REOPEN_SECONDS
        ):
            self.open()
        assert self._store is not None  # noqa: S101 - `open` sets it
        return await asyncio.shield(self._store)

    async def _read(
        self, work: Callable[[SeenMemories], _T], threads: ThreadPoolExecutor | None = None, *, name: str = "store.read"
    ) -> _T:
        with self._underway.one(), step(name):
            store = await self.store()
            return await asyncio.get_running_loop().run_in_executor(threads or self._readers, lambda: work(store))

    async def _write(self, request: Request) -> Json:
        with self._underway.one(), step("store.write"):
            await self._check_types(request)
            return await self._written(request)

    async def _check_types(self, request: Request) -> None:
        """Refuse to have written, changed or brought back what has a meaning beyond what it says, with a token that
        does not allow it: see `TYPE_SCOPES`.

        Raises:
            AccessDenied: the token lacks the scope.
        """
        access = ACCESS.get()
        if access.client is None:
            return
        kinds = {request.type} if isinstance(request, WriteMemory) and request.id is None else set[str | None]()
        id_: str | None = getattr(request, "id", None)
        if id_ is not None:
            with contextlib.suppress(AlgError):  # the write itself says what is wrong with the id
                kinds.add(await self._read(lambda store: _type_of(store, id_)))
            at = request.at if isinstance(request, RestoreMemory) else None
            if at is not None:
                with contextlib.suppress(AlgError):
                    kinds.add(await self._read(lambda store: store.read(id_, at=at).record.type))
        for kind in sorted(TYPE_SCOPES.keys() & kinds):
            access.needs(TYPE_SCOPES[kind], f"writing a memory of the type {kind!r}{_OTHERWISE.get(kind, '')}")

    async def _written(self, request: Request) -> Json:
        from adaptive_llm_gateway.memory import MemoryStore, MemoryView  # noqa: PLC0415 - the store is open

        store = await self.store()
        if not isinstance(store, MemoryStore | MemoryView):
            several = store  # looks into the indexes
            choose: Callable[[], tuple[MemoryStore | MemoryView, Request]] = lambda: several.for_request(request)  # noqa: E731
            store, request = await asyncio.get_running_loop().run_in_executor(self._readers, choose)
        ticket = store.submit(request)
        # One wait for both moments: the commit, or the refusal that comes instead of the first of them.
        await _settle(ticket.committed, self._commit_wait, failing=ticket.saved)
        if not await _settle(ticket.saved, _SAVE_SECONDS):
            raise Unavailable(
                f"the write is still queued after {_SAVE_SECONDS:.0f} s and may yet be carried out",
                hint="Check with memory_search before you write it again.",
                queued=True,
            )
        return write_json(store.result(ticket.saved.result(), store.commit_of(ticket, 0.0)))

    # -- reading -----------------------------------------------------------------------------------------------

    async def search(
        self,
        query: str = "",
        *,
        limit: int = 10,
        type: str | Sequence[str] | None = None,
        tags: Sequence[str] | str | None = None,
        project: str | None = None,
        since: str | None = None,
        until: str | None = None,
        author: str | None = None,
        max_trust: str | None = None,
        fields: Mapping[str, Any] | None = None,
        cursor: str | None = None,
        similar_to: str | None = None,
        as_of: str | None = None,
        facets: bool = False,
        explain: bool = False,
    ) -> Json:
        """Hits for a query, best first; the most recent memories for an empty one."""
        from adaptive_llm_gateway.memory import SearchRequest  # noqa: PLC0415 - brings the index along

        filters = await self._filters(type, tags, project, since, until, author, max_trust, fields)
        request = SearchRequest(
            query=query,
            filters=filters,
            limit=_limit(limit),
            cursor=cursor or None,
            similar_to=similar_to or None,
            as_of=as_of or None,
            facets=facets,
            explain=explain,
            # A relative time is another one with each call.
            given=json.dumps([type, tags, project, since, until, author, max_trust, fields], default=list),
        )

        def work(store: SeenMemories) -> tuple[Answer, tuple[str, ...]]:
            found = store.ask(request, zone=LOCAL)
            return found, store.search_notices()

        answer, notices = await self._read(work, self._past if request.as_of else self._readers, name="store.search")
        return {
            "query": query,
            "mode": answer.mode,
            "hits": [hit_json(hit) for hit in answer.hits],
            "read_as": read_as(answer.plan),
            "next_cursor": answer.next_cursor,
            "as_of": {"commit": answer.commit, "time": iso(answer.time)} if answer.commit else None,
            "similar_to": answer.plan.similar_to[0] if answer.plan.similar_to else None,
            "facets": facets_json(answer.facets) if answer.facets else None,
            "plan": plan_json(answer) if explain else None,
            "notices": [*notices, *answer.notices],
        }

    async def context(
        self,
        query: str,
        *,
        budget_tokens: int = DEFAULT_BUDGET,
        detail: str = "auto",
        expand: Sequence[str] | str | None = None,
        pinned: bool = True,
        session_id: str | None = None,
        model: str | None = None,
        type: str | Sequence[str] | None = None,
        tags: Sequence[str] | str | None = None,
        project: str | None = None,
        since: str | None = None,
        until: str | None = None,
        author: str | None = None,
        max_trust: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> Json:
        """What answers a question, in a budget of tokens."""
        filters = await self._filters(type, tags, project, since, until, author, max_trust, fields)
        request = ContextRequest(
            query, budget_tokens, filters, checked_detail(detail), tuple(_tags(expand or ())), pinned, session_id
        )

        def work(store: SeenMemories) -> Json:
            from adaptive_llm_gateway.compression import counter_for  # noqa: PLC0415 - after the hub listens

            counter = counter_for(model) if model else self._counter()
            return build_context(store, request, counter=counter, now=datetime.now(UTC))

        return await self._read(work)

    async def summarize_path(
        self, path: str, *, query: str = "", budget_tokens: int = DEFAULT_BUDGET, model: str | None = None
    ) -> Json:
        """What a file or the files of a folder say, in a budget of tokens."""
        ACCESS.get().needs_for_files("reading files of the hub's machine")
        request = PathRequest(path, query, budget_tokens)

        def work() -> Json:
            from adaptive_llm_gateway.compression import counter_for  # noqa: PLC0415 - after the hub listens

            counter = counter_for(model) if model else self._counter()
            return self._file_summaries.build(request, counter=counter)

        with self._underway.one():
            return await asyncio.get_running_loop().run_in_executor(self._files, work)

    async def list(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Literal["updated", "created", "title"] = "updated",
        type: str | Sequence[str] | None = None,
        tags: Sequence[str] | str | None = None,
        project: str | None = None,
        since: str | None = None,
        until: str | None = None,
        author: str | None = None,
        max_trust: str | None = None,
        fields: Mapping[str, Any] | None = None,
        deleted: bool = False,
    ) -> Json:
        """A page of memories, or of deleted ones."""
        count = _limit(limit, most=1000)
        if deleted:
            stones = await self._read(lambda store: store.deleted(limit=count))
            rows = [
                {
                    "id": stone.id,
                    "type": stone.type,
                    "title": stone.title,
                    "path": stone.path,
                    "version": stone.version,
                    "deleted": iso(stone.deleted),
                    "by": stone.author.client,
                    "reason": stone.reason,
                    **repo_of(stone.repo),
                }
                for stone in stones
            ]
            return {"memories": rows, "next_cursor": None, "total": len(rows)}
        filters = await self._filters(type, tags, project, since, until, author, max_trust, fields)
        # A relative time is another one with each call.
        given = json.dumps([type, tags, project, since, until, author, max_trust, fields], default=list)
        page = await self._read(
            lambda store: store.list(filters=filters, limit=count, cursor=cursor, order=order, given=given)
        )
        return {
            "memories": [record_json(record) for record in page.records],
            "next_cursor": page.next_cursor,
            "total": page.total,
        }

    async def read(self, id: str, *, at: str | None = None) -> Json:
        """One memory whole, as it is or as it was."""
        memory, summary = await self._read(lambda store: _with_summary(store, store.read(id, at=at)))
        return {
            **record_json(memory.record),
            "body": memory.record.body,
            "text": memory.text,
            "at": at,
            "parts": list(memory.parts),
            "summary": summary,
        }

    async def session(self, id: str, *, cursor: str | None = None, limit: int = 200) -> Json:
        """Entries of a session's log, the oldest first."""
        from adaptive_llm_gateway.memory import page_of_log  # noqa: PLC0415 - the store is open, so it is loaded

        count = _limit(limit, most=1000)
        log = await self._read(lambda store: store.session(id))
        access = ACCESS.get()
        asked = repr((log.id, access.projects, access.max_trust))
        entries, following = page_of_log(log, asked=asked, cursor=cursor, limit=count)
        return {
            "id": log.id,
            "title": log.title,
            "project": log.project,
            "trust": str(log.trust),
            "summary": log.summary.id if log.summary is not None else None,
            "entries": [
                {"time": iso(entry.time), "author": entry.author, "text": entry.text, "file": entry.file}
                for entry in entries
            ],
            "total": len(log.entries),
            "next_cursor": following,
        }

    async def history(self, id: str, *, limit: int = 20) -> Json:
        """The commits that touched a memory."""
        count = _limit(limit, most=1000)
        found = await self._read(lambda store: store.history(id, limit=count))
        return {
            "id": found.id,
            "path": found.path,
            **repo_of(found.repo),
            "deleted": found.deleted,
            "revisions": [revision_json(revision) for revision in found.revisions],
        }

    async def status(self) -> Json:
        """The store at a glance."""
        found, progress = await self._read(lambda store: (store.status(), store.sync_progress))
        all_ = ACCESS.get().sees_all
        return {
            **{key: value for key, value in asdict(found).items() if key not in _TOLD_APART},
            "by_type": dict(found.by_type),
            "skipped": [asdict(item) for item in found.skipped],
            "clashes": {"count": len(found.clashes), "pairs": [list(pair) for pair in found.clashes[:_CLASHES_TOLD]]},
            "sync": sync_json(found.sync),
            "syncing": progress_json(progress),
            **({"repos": [repo_json(repo) for repo in found.repos]} if found.repos else {}),
            "types": list((await self.whole()).types.names),
            "mode": self.modes.mode,
            "mode_problem": self.modes.problem,
            # What lies in git's objects may be of any memory.
            "objects": await asyncio.to_thread(self.objects) if self.objects is not None and all_ else [],
        }

    async def waiting(self) -> list[str]:
        """Which parts are not ready: the `store`, its `index`, the `model`. One that failed is tried again."""
        if self.store_state[0] == "failed" and time.monotonic() - self._opened > _REOPEN_SECONDS:
            self.open()
        if self.store_state[0] != "open":
            return ["store"]
        try:
            found = await self._read(lambda store: store.status())
        except AlgError:
            return ["store"]
        parts = {"index": found.index != "ready", "model": found.embedder == "loading"}
        return [name for name, waits in parts.items() if waits]

    # -- writing -----------------------------------------------------------------------------------------------

    async def write(
        self,
        *,
        author: Author,
        type: str | None = None,
        title: str | None = None,
        body: str | None = None,
        id: str | None = None,
        if_version: str | None = None,
        tags: Sequence[str] | str | None = None,
        project: str | None = None,
        trust: str | None = None,
        links: Sequence[Mapping[str, str]] | None = None,
        source: str | None = None,
        fields: Mapping[str, Any] | None = None,
        reason: str | None = None,
        redact: bool = False,
        new_id: str | None = None,
    ) -> Json:
        """Create a memory, or update the one with `id`; `new_id` is what a created one is to have as its id, and
        creates it once."""
        answer = await self._write(
            WriteMemory(
                author=author,
                type=type,
                title=title,
                body=body,
                id=id or None,
                if_version=if_version or None,
                tags=None if tags is None else _tags(tags),
                project=project,
                trust=None if trust is None else _trust(trust),
                links=None if links is None else _links(links),
                source=source,
                fields=dict(fields or {}),
                reason=reason,
                redact=redact,
                new_id=new_id,
            )
        )
        if answer["type"] == "session" and not (trust is None and project is None):
            await self._follow_session(answer["id"], author)
        return answer

    async def replace_text(
        self, id: str, text: str, *, author: Author, if_version: str | None = None, reason: str | None = None
    ) -> Json:
        """Replace a memory's whole file, as an editor saved it."""
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidInput(f"the text is not valid Unicode at position {error.start}") from None
        by_token = ACCESS.get().client is not None
        answer = await self._write(ReplaceText(author, id, data, if_version, reason, by_token))
        if answer["type"] == "session":
            await self._follow_session(answer["id"], author)
        return answer

    async def _follow_session(self, session: str, author: Author) -> None:
        """Give a session's summary the project of its log, which it repeats, and its trust level where that is higher;
        whoever wrote."""
        with acting_for(EVERYTHING):
            log = await self._read(lambda store: store.session(session))
            summary = log.summary
            if summary is None:
                return
            if summary.trust.rank < log.trust.rank:
                reason = "the trust level of its session was raised"
                await self._write(WriteMemory(author, id=summary.id, trust=log.trust, reason=reason))
            if summary.project != log.project:
                reason = "its session was moved to another project"
                await self._write(WriteMemory(author, id=summary.id, project=log.project or "", reason=reason))

    async def append_session(
        self,
        text: str,
        *,
        author: Author,
        session_id: str | None = None,
        title: str | None = None,
        project: str | None = None,
        reason: str | None = None,
        redact: bool = False,
        new_id: str | None = None,
    ) -> Json:
        """Append to a session's log; without `session_id` a new session begins, with `new_id` as its id if it is
        given, and then it begins once."""
        request = AppendSession(author, text, session_id or None, title, project, reason, redact, new_id)
        done = await self._write(request)
        store = await self.whole()  # personal data may have raised it above what the caller sees
        record = store.record(done["id"])
        session = str((record.fields.get("session_id") if record else None) or done["id"])
        if "raised" in done and request.session_id is not None:
            await self._follow_session(session, author)
        if request.session_id is None:
            self._growth.begun(session)
        if self._growth.appended(session, text):  # counted behind this answer, which waits for none of it
            with acting_for(EVERYTHING):  # the hub's own doing: a summary is of the whole log, at the level of that
                task = asyncio.create_task(self._summarise_if_grown(session, author))
            self._summaries.add(task)
            task.add_done_callback(self._summaries.discard)
        # It is told how long the whole log is, of which the caller may see a part.
        told = self._growth.told(session) if ACCESS.get().sees_all else []
        return {**done, "session_id": session, "notes": [*done["notes"], *told]}

    async def compact_session(self, session: str, *, author: Author, budget_tokens: int = DEFAULT_BUDGET) -> Json:
        """Write the summary of a session's log, or replace the one it has."""
        ACCESS.get().needs("memory:read", "to be answered what a session's log says")
        budget = checked_budget(budget_tokens)
        async with self._compacting:
            work: Callable[[SeenMemories], Summarised] = lambda store: summarise(  # noqa: E731
                store, session, budget, author=author, counter=self._counter()
            )
            found = await self._read(work)
            done = await self._write(found.request)
        return {**done, "session_id": found.log.id, "compaction": compaction_json(found)}

    async def _summarise_if_grown(self, session: str, author: Author) -> None:
        """Count a session's log, and summarise it when it has grown past its mark; the next append's answer says so."""
        notes: list[str] = []
        try:
            with self._underway.one():
                async with self._compacting:
                    work: Callable[[SeenMemories], Summarised | None] = lambda store: summarise_if_grown(  # noqa: E731
                        store, session, self._growth, author=author, counter=self._counter()
                    )
                    found = await self._read(work)
                    if found is not None:
                        size = f"the session has {found.compaction.log_tokens:,} tokens"
                        notes.append(f"{size}, but its summary could not be written; the hub's log says why")
                        done = await self._write(found.request)
                        notes = [f"{size}: its summary {done['id']} was written (memory_read; the log stays)"]
        except Exception as error:  # noqa: BLE001 - the append that led here was answered
            _log.warning("session %s could not be summarised: %s", session, error)
        finally:
            self._growth.ended(session, *notes)

    async def delete(
        self, id: str, *, author: Author, if_version: str | None = None, reason: str | None = None
    ) -> Json:
        """Delete a memory; its history stays."""
        return await self._write(DeleteMemory(author, id, if_version or None, reason))

    async def restore(self, id: str, *, author: Author, at: str | None = None, reason: str | None = None) -> Json:
        """Bring back a deleted memory, or an earlier version of one."""
        answer = await self._write(RestoreMemory(author, id, at or None, reason))
        if answer["type"] == "session":
            await self._follow_session(answer["id"], author)
        return answer

    # -- sync --------------------------------------------------------------------------------------------------

    async def pull(
        self,
        *,
        repo: str | None = None,
        project: str | None = None,
        wait: float | None = None,
        on_step: OnStep | None = None,
    ) -> Json:
        """Fetch from the remote and merge; goes on in the background when it takes long.

        Args:
            repo, project: where there are several memory repos: this one, or that of this project; else all.
            wait: seconds to wait for its end; None: 20.
            on_step: told now and then how far it is.
        """
        return await self._sync(_Wanted("pull", wait, on_step), repo, project)

    async def push(
        self,
        *,
        repo: str | None = None,
        project: str | None = None,
        wait: float | None = None,
        on_step: OnStep | None = None,
    ) -> Json:
        """Push to the remote; goes on in the background when it takes long. Arguments as for `pull`."""
        return await self._sync(_Wanted("push", wait, on_step), repo, project)

    async def sync(
        self,
        *,
        repo: str | None = None,
        project: str | None = None,
        wait: float | None = None,
        on_step: OnStep | None = None,
    ) -> Json:
        """Pull, then push; goes on in the background when it takes long. Arguments as for `pull`."""
        return await self._sync(_Wanted("sync", wait, on_step), repo, project)

    async def _sync(self, wanted: _Wanted, repo: str | None, project: str | None) -> Json:
        from adaptive_llm_gateway.memory import MemoryStore, MemoryView  # noqa: PLC0415 - the store is open

        store = await self.store()
        if isinstance(store, MemoryStore | MemoryView):
            if repo not in (None, "", PERSONAL):
                raise InvalidInput(f"there is no memory repo {repo!r}", hint=f"There is one, {PERSONAL!r}.")
            return await self._synced(store if isinstance(store, MemoryStore) else store.whole, wanted)
        several = store
        asked = await self._read(lambda _: several.to_sync(repo=repo or None, project=project or None))
        if repo or project:
            ((name, only),) = asked.items()
            assert not isinstance(only, AlgError)  # noqa: S101 - it would have been raised
            return {**await self._synced(only, wanted), "repo": name}
        outcomes = await asyncio.gather(*(self._one_of(each, wanted) for each in asked.values()))
        return sync_of_all(dict(zip(asked, outcomes, strict=True)))

    async def _one_of(self, store: MemoryStore | AlgError, wanted: _Wanted) -> Json | AlgError:
        """What became of one of several repos."""
        if isinstance(store, AlgError):
            return store
        try:
            if wanted.operation == "push" and store.rules.read_only:  # nothing to push, and no failure either
                return {"running": False, **sync_json(self._seen(store).sync_status()), **_NOTHING_DONE}
            return await self._synced(store, wanted)
        except AlgError as error:
            return error

    def _seen(self, store: MemoryStore) -> MemoryStore | MemoryView:
        """What the caller sees of one store."""
        access = ACCESS.get()
        if access.sees_all:
            return store
        from adaptive_llm_gateway.memory import MemoryView, Sight  # noqa: PLC0415 - the store is open

        return MemoryView(store, Sight(access.max_trust, access.projects))

    async def _synced(self, store: MemoryStore, wanted: _Wanted) -> Json:
        from adaptive_llm_gateway.memory import MemoryStore, seen_error  # noqa: PLC0415 - the store is open

        seen = self._seen(store)
        future, on_step = wanted.begin(store), wanted.on_step
        end = time.monotonic() + (_SYNC_ANSWER_SECONDS if wanted.wait is None else max(0.0, wanted.wait))
        told: Json | None = None
        while not await _settle(future, _between(end - time.monotonic(), steps=on_step is not None)):
            now = progress_json(seen.sync_progress)
            if time.monotonic() >= end:
                return {"running": True, "progress": now, **sync_json(seen.sync_status())}
            if on_step is not None and now is not None and now != told:
                told = now
                await on_step(now)
        try:
            done = future.result()
        except SyncError as error:
            if isinstance(seen, MemoryStore):
                raise
            raise seen_error(error) from None
        whole = isinstance(seen, MemoryStore)
        return {
            "running": False,
            "progress": None,
            **sync_json(done.status if whole else seen.sync_status()),
            "changed": done.changed,
            "pushed": done.pushed,
            "conflicts": list(done.conflicts if isinstance(seen, MemoryStore) else seen.conflicts_of(done)),
            "decisions": list(done.decisions) if whole else [],
            "notices": list(done.notices) if whole else [],
        }

    async def quarantine(self) -> Json:
        """What the remote has and is held back here."""
        return quarantine_json(await self._read(lambda store: store.quarantine()))

    async def drop_quarantined(self, author: Author, paths: Sequence[str]) -> Json:
        """Give up what is held back at these paths."""
        store = await self.store()
        dropped = await asyncio.to_thread(store.drop_quarantined, paths, author)
        left = quarantine_json(store.quarantine())
        return {
            "dropped": [item.shown for item in dropped],
            "left": len(left["held"]),
            "history": left["history"],
            **sync_json(store.sync_status()),
        }

    # -- mode --------------------------------------------------------------------------------------------------

    async def mode(self) -> Json:
        """The mode; offline mode is proved anew."""
        with self._underway.one():
            return await self.modes.look()

    async def set_mode(self, mode: str) -> Json:
        """Change the mode, for good; offline mode is proved."""
        with self._underway.one():
            return await self.modes.change(mode)

    # -- arguments ---------------------------------------------------------------------------------------------

    async def _filters(
        self,
        type: str | Sequence[str] | None,
        tags: Sequence[str] | str | None,
        project: str | None,
        since: str | None,
        until: str | None,
        author: str | None,
        max_trust: str | None,
        fields: Mapping[str, Any] | None,
    ) -> Filters:
        types = tuple(_tags(type)) if type else ()
        known = (await self.whole()).types.names
        for name in types:
            if name not in known:
                raise InvalidInput(f"{name!r} is not a memory type", hint=f"Types: {', '.join(known)}.")
        return Filters(
            types=types,
            tags=_tags(tags) if tags else (),
            project=project or None,
            author=author or None,
            since=moment(since, "since", zone=LOCAL) if since else None,
            until=moment(until, "until", end=True, zone=LOCAL) if until else None,
            max_trust=_trust(max_trust) if max_trust else Trust.SECRET,
            fields=dict(fields or {}),
        )


def _type_of(store: SeenMemories, id: str) -> str:
    """The type of a memory, also of one that was deleted.

    Raises:
        NotFound: there is none, and was none.
    """
    try:
        return store.read(id).record.type
    except NotFound:
        for revision in store.history(id).revisions:
            if revision.version is not None:
                return store.read(id, at=revision.version).record.type
        raise


def _with_summary(store: SeenMemories, memory: Memory) -> tuple[Memory, str | None]:
    """A memory, and the id of its summary if it is a session that has one."""
    from adaptive_llm_gateway.memory import summary_id  # noqa: PLC0415 - brings the store's modules along

    named = str(memory.record.fields.get("session_id") or memory.record.id)
    if memory.record.type != "session" or not is_ulid(named):
        return memory, None
    found = store.record(summary_id(named))
    return memory, found.id if found else None


def _note_failure(store: asyncio.Future[Memories]) -> None:
    if not store.cancelled() and (error := store.exception()) is not None:
        _log.error("the store could not be opened: %s", error)


async def _settle(future: Future[Any], timeout: float, *, failing: Future[Any] | None = None) -> bool:
    """Wait until the future is done, for at most `timeout` seconds; whether it is. It is never cancelled.

    Args:
        failing: another one, whose failure ends the wait too.
    """
    if future.done():
        return True
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def wake(settled: Future[Any]) -> None:
        if settled is future or settled.exception() is not None:
            with contextlib.suppress(RuntimeError):  # the loop is gone, and whoever waited with it
                loop.call_soon_threadsafe(end)

    timer = loop.call_later(timeout, end)
    try:
        future.add_done_callback(wake)
        if failing is not None:
            failing.add_done_callback(wake)
        await waiter
    finally:
        timer.cancel()
    return future.done()


def _between(left: float, *, steps: bool) -> float:
    """Seconds until whoever waits is told something."""
    return max(0.0, min(left, _STEP_SECONDS) if steps else left)


# -- arguments -----------------------------------------------------------------------------------------------------


def _limit(limit: int, *, most: int = _MAX_LIMIT) -> int:
    if not 1 <= limit <= most:
        raise InvalidInput(f"'limit' is {limit!r}", hint=f"Allowed: 1 to {most}.")
    return limit


def _tags(tags: Sequence[str] | str) -> tuple[str, ...]:
    parts = tags.split(",") if isinstance(tags, str) else tags
    return tuple(part.strip() for part in parts if part.strip())


def _trust(text: str) -> Trust:
    try:
        return Trust(text)
    except ValueError:
        raise InvalidInput(f"'trust' is {text!r}", hint=f"Allowed: {', '.join(Trust)}.") from None


def _links(links: Sequence[Mapping[str, str]]) -> tuple[Link, ...]:
    found: list[Link] = []
    for link in links:
        if set(link) != {"rel", "id"} or not all(isinstance(value, str) for value in link.values()):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"the link {dict(link)!r} is not valid", hint='A link is {"rel": "...", "id": "..."}.')
        found.append(Link(link["rel"], link["id"]))
    return tuple(found)
