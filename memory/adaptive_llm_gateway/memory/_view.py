"""A memory repo as somebody sees it who does not see everything.

What is hidden is not there: in no answer, count, score or error, and nothing can be written over it. Everything that a
view answers comes from an index and files that are narrowed first; of what the store says of itself, a view tells only
what says nothing of any memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, tzinfo

from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound, SecretScanner, SyncError
from adaptive_llm_gateway.memory._asking import Answer, Asking, SearchRequest
from adaptive_llm_gateway.memory._index_rows import Tombstone
from adaptive_llm_gateway.memory._memory_index import MemoryIndex, ReadableIndex, likeness
from adaptive_llm_gateway.memory._pages import Order, Page, page_of
from adaptive_llm_gateway.memory._parts import Parts
from adaptive_llm_gateway.memory._past import PastIndex
from adaptive_llm_gateway.memory._plans import Planned
from adaptive_llm_gateway.memory._quarantine import Held, Quarantine
from adaptive_llm_gateway.memory._reading import every_record
from adaptive_llm_gateway.memory._requests import History, Memory, Request, Skipped, StoreStatus, WriteResult
from adaptive_llm_gateway.memory._seen_index import SeenIndex
from adaptive_llm_gateway.memory._seen_reading import SeenReading
from adaptive_llm_gateway.memory._sessions import SessionLog
from adaptive_llm_gateway.memory._sight import Sight, Sighted, seen
from adaptive_llm_gateway.memory._store import MemoryStore
from adaptive_llm_gateway.memory._sync_progress import SyncProgress
from adaptive_llm_gateway.memory._syncing import SyncOutcome
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Author, Filters, Record, SyncStatus
from adaptive_llm_gateway.memory._writer import Ticket

_WHO_SEES_MORE = "The person whose hub this is sees more: `alg memory status`."
_LEFT_OUT = "not everything of that time could be read"


class MemoryView:
    """What can be done with a memory repo by somebody who does not see everything. To be made for each call.

    Its methods are those of `MemoryStore`, and say the same of what is seen.
    """

    def __init__(self, store: MemoryStore, sight: Sight) -> None:
        self._store, self._sight = store, sight
        parts = store.parts
        self._whole: MemoryIndex = store.index
        self._reading = SeenReading(store.folders[0], store.index, parts.repo, sight=sight, types=parts.types)
        self._seen = self._reading.index
        self._parts = replace(parts, index=self._seen, shown=self._of_the_past)

    @property
    def whole(self) -> MemoryStore:
        """The store itself: for the hub, never for who asks."""
        return self._store

    @property
    def sight(self) -> Sight:
        """What is seen."""
        return self._sight

    @property
    def parts(self) -> Parts:
        """What a search over several repos needs of this one."""
        return self._parts

    # -- reading -----------------------------------------------------------------------------------------------

    def read(self, id: str, *, at: str | None = None) -> Memory:
        """One memory as it is on disk now, or as it was."""
        return self._reading.read(id, at, self.types, self.scanner)

    def session(self, id: str) -> SessionLog:
        """A session's log, from those of its files that are seen."""
        return self._reading.session(id, self.types, self.scanner)

    def was_deleted(self, id: str) -> bool:
        """Whether a memory with this full id was here and is deleted."""
        return self._reading.versions.shows_deleted(id, self._whole.tombstone(id))

    def knows_deleted(self, id: str) -> bool:
        """Whether a memory with this full id was ever here and is deleted, as the index or git's history says."""
        return self._whole.get(id) is None and self._reading.find_deleted(id) is not None

    def ask(self, request: SearchRequest, *, now: datetime | None = None, zone: tzinfo = UTC) -> Answer:
        """The memories that answer a request, best first."""
        parts = self._parts
        asking = Asking(
            index=parts.index,
            repo=parts.repo,
            vector=parts.vectorizer.query_vector,
            begin=parts.vectorizer.begin_query,
            ready=lambda: parts.vectorizer.ready,
            past=parts.past,
            reranking=parts.reranking,
            shown=parts.shown,
        )
        request = seen_request(request, self._sight)
        return asking.ask(request, types=self.types, scanner=self.scanner, now=now or datetime.now(UTC), zone=zone)

    def search(self, query: str, *, filters: Filters | None = None, limit: int = 10) -> Answer:
        """The memories that answer a query, best first; see `ask`."""
        return self.ask(SearchRequest(query, filters or Filters(), limit))

    def _of_the_past(self, past: PastIndex) -> tuple[ReadableIndex, tuple[str, ...]]:
        """An index of the past: a memory has to be seen as it was, and as it is now or was when it was deleted."""

        def hidden() -> Iterator[str]:
            now = set(self._seen.ids())
            there = set(self._whole.ids())
            for _, _, _, id_ in past.index.files().values():
                if id_ not in now and (id_ in there or self._reading.find_deleted(id_) is None):
                    yield id_

        return SeenIndex(past.index, self._sight, hidden), (_LEFT_OUT,) if past.notices else ()

    def likeness(self, one: str, other: str) -> float | None:
        """The cosine of two memories' vectors, by full ids; `None` where one has none yet."""
        return likeness(self._seen, one, other)

    def list(
        self,
        *,
        filters: Filters | None = None,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "updated",
        given: str | None = None,
    ) -> Page:
        """A page of memories."""
        asked = seen_list(given, filters, self._sight)
        return page_of(self._seen, filters, given=asked, limit=limit, cursor=cursor, order=order)

    def history(self, id: str, *, limit: int = 50) -> History:
        """The commits that touched a memory, newest first, those that made a version that is seen."""
        return self._reading.history(id, limit, self.scanner)

    def deleted(self, *, limit: int = 50) -> list[Tombstone]:
        """Deleted memories, the latest first."""
        asked = limit
        while True:
            stones = self._whole.tombstones(limit=asked)
            found = [stone for stone in stones if self._reading.versions.shows_deleted(stone.id, stone)]
            if len(found) >= limit or len(stones) < asked:
                return found[:limit]
            asked *= 4

    def record(self, id: str) -> Record | None:
        """The indexed record of a full id."""
        return self._seen.get(id)

    def sees(self, record: Record) -> bool:
        """Whether a memory of this repo is seen."""
        return seen(record, self._sight, self._whole.get) is not None

    def handoff_records(self) -> tuple[Record, ...]:
        """Every handoff and event of one, in no order; see `MemoryStore.handoff_records`."""
        return tuple(record for record in self._store.handoff_records() if self.sees(record))

    def conflicts_of(self, outcome: SyncOutcome) -> tuple[str, ...]:
        """Of the paths of texts that clashed in a pull those that are seen."""
        found = {path: self._whole.by_path(path) for path in outcome.conflicts}
        return tuple(path for path, record in found.items() if record is not None and self.sees(record))

    def records(self, *, filters: Filters | None = None) -> Iterator[Record]:
        """Every memory that the filters let through, events of handoffs too, a page at a time."""
        return every_record(self._seen, filters or Filters())

    def file_of(self, record: Record) -> bytes | None:
        """The bytes of a memory's file, or None when it is gone."""
        with suppress(AlgError):
            return self.read(record.id).text.encode("utf-8")
        return None

    @property
    def types(self) -> TypeRegistry:
        """The memory types: built in, and declared in the repo's `types` folder."""
        return self._parts.types

    @property
    def scanner(self) -> SecretScanner:
        """The secret scanner with the repo's allowances."""
        return self._parts.scanner

    @property
    def hub_name(self) -> str:
        """This home's name, which another home's on the same machine differs from."""
        return self._store.hub_name

    @property
    def host(self) -> str:
        """The machine's name, as memories have it."""
        return self._store.host

    # -- writing -----------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> Ticket:
        """Queue a write; nothing that is not seen is changed, and nothing that would not be seen is written."""
        return self._store.submit(Sighted(request, self._sight))

    def publish(self, decide: Callable[[], Request], *, timeout: float) -> Future[WriteResult]:
        """A write that counts only when the remote has taken it. What the future has is yet to go through `told`."""
        return self._store.publish(lambda: Sighted(decide(), self._sight), timeout=timeout)

    @property
    def commit_wait(self) -> float:
        """Seconds that an answer waits for its commit."""
        return self._store.commit_wait

    @staticmethod
    def commit_of(ticket: Ticket, wait: float) -> str | AlgError | None:
        """The ticket's commit after at most `wait` seconds: its id, why there is none, or None when it still runs."""
        return MemoryStore.commit_of(ticket, wait)

    def result(self, planned: Planned, commit: str | AlgError | None) -> WriteResult:
        """The answer to a write."""
        return self.told(self._store.result(planned, commit))

    @staticmethod
    def told(result: WriteResult) -> WriteResult:
        """The answer to a write, without what it says of others."""
        standing = result.standing
        error = None if standing.error is None else "the commit failed, and is tried again"
        return replace(result, standing=replace(standing, sync=seen_sync(standing.sync), error=error))

    @staticmethod
    def why(error: SyncError) -> SyncError:
        """Why a publication failed, without what that says of others."""
        return seen_error(error)

    # -- how it stands -----------------------------------------------------------------------------------------

    def status(self) -> StoreStatus:
        """The store at a glance, as far as that says nothing of what is not seen."""
        status = self._store.status()
        counts = {name: self._seen.list(Filters(types=(name,)), limit=1).total for name in self.types.names}
        counts = {name: count for name, count in counts.items() if count}
        pairs = [(one, other) for one, other in status.clashes if self.record(one) and self.record(other)]
        return replace(
            status,
            memories=sum(counts.values()),
            by_type=counts,
            vectors=(0, 0),  # how many passages there are is told of nothing
            sync=seen_sync(status.sync),
            skipped=(),
            notices=self.search_notices(),
            rescues=0,
            clashes=tuple(pairs),
        )

    def search_notices(self) -> tuple[str, ...]:
        """What a searcher must know."""
        told = self._store.search_notices()
        return ("results may not be complete, or found by words alone: the index is being worked on",) if told else ()

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """None: what cannot be read may be anything."""
        return ()

    def sync_status(self) -> SyncStatus:
        """Where the memory repo stands against its remote; no network."""
        return seen_sync(self._store.sync_status())

    @property
    def sync_progress(self) -> SyncProgress | None:
        """None: how much is pulled or pushed says how much there is."""
        return None

    def quarantine(self) -> Quarantine:
        """Nothing: nobody here has seen what is held back, and it may be anything."""
        return Quarantine()

    def drop_quarantined(self, paths: Sequence[str], author: Author) -> tuple[Held, ...]:  # noqa: ARG002 - as the store's
        """Refused: what is held back is not seen.

        Raises:
            NotFound, InvalidInput: as where nothing is held back.
        """
        if not paths:
            raise InvalidInput("no path is given", hint="Name one or more of those that are listed.")
        raise NotFound(f"nothing is held back at {paths[0]!r}", hint="Name one or more of those that are listed.")


def seen_request(request: SearchRequest, sight: Sight) -> SearchRequest:
    """A search whose cursors go on for nobody who sees more, or less."""
    return replace(request, given=repr((sight, request.given or request.filters)))


def seen_list(given: str | None, filters: Filters | None, sight: Sight) -> str:
    """What tells lists apart whose cursors go on for nobody who sees more, or less."""
    return repr((sight, given or repr(filters or Filters())))


def seen_sync(status: SyncStatus) -> SyncStatus:
    """How syncing stands, without words that may name a memory or where the remote is."""
    failed = status.error is not None
    return replace(
        status,
        remote=None,
        error=f"syncing fails ({status.kind or 'other'})" if failed else None,
        hint=_WHO_SEES_MORE if failed else None,
        problems=(),
    )


def seen_error(error: SyncError) -> SyncError:
    """Why a pull, a push or a publication failed, without words that may name a memory or where the remote is."""
    kind = str(error.details.get("kind") or "other")
    return SyncError(f"syncing with the remote failed ({kind})", hint=_WHO_SEES_MORE, kind=kind)
