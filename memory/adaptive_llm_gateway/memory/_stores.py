"""Several memory repos of one hub as one memory: what is written goes to the repo of its project, what is read is read
in all of them.

A repo that cannot be opened stays away until it can; the others go on, and nothing that belongs to it goes elsewhere.
"""

from __future__ import annotations

import fnmatch
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path

from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound, SecretScanner, StorageError, Unavailable
from adaptive_llm_gateway.memory._asking import Answer, SearchRequest
from adaptive_llm_gateway.memory._asking_all import AskingAll
from adaptive_llm_gateway.memory._embed import EmbedderConfig, create_embedder
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._index_rows import Tombstone
from adaptive_llm_gateway.memory._many_index import ManyIndex
from adaptive_llm_gateway.memory._memory_index import likeness
from adaptive_llm_gateway.memory._pages import Order, Page
from adaptive_llm_gateway.memory._plans import full_id
from adaptive_llm_gateway.memory._quarantine import Held, InHistory, Quarantine
from adaptive_llm_gateway.memory._requests import (
    PERSONAL,
    AppendEvent,
    AppendSession,
    DeleteMemory,
    History,
    ImportMemory,
    Memory,
    ReindexReport,
    ReplaceText,
    RepoStatus,
    Request,
    RestoreMemory,
    Skipped,
    StoreSettings,
    StoreStatus,
    WriteMemory,
    WriteResult,
    WriteSummary,
)
from adaptive_llm_gateway.memory._rerank import RerankerConfig
from adaptive_llm_gateway.memory._sessions import SessionLog
from adaptive_llm_gateway.memory._shared_embedder import SharedEmbedder
from adaptive_llm_gateway.memory._store import MemoryStore
from adaptive_llm_gateway.memory._sync_progress import SyncProgress
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import WORST_FIRST, Author, Filters, Record, SyncStatus, without_events

_log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class RepoPlace:
    """A memory repo among several.

    Attributes:
        projects: whose memories are written there: names, with `*`, `?` and `[...]`.
        settings: of its store; `name` is the repo's.
    """

    name: str
    settings: StoreSettings
    projects: tuple[str, ...] = ()

    def has(self, project: str) -> bool:
        """Whether memories of a project are written there."""
        return any(fnmatch.fnmatchcase(project, pattern) for pattern in self.projects)


@dataclass(frozen=True, slots=True)
class _Away:
    """Why a repo is not there, and when that was found out last (`time.monotonic`)."""

    error: AlgError
    at: float


class MemoryStores:
    """The memory repos of one hub. Its methods may be called from any thread, and answer as `MemoryStore`'s do.

    Args:
        places: the personal repo first; the order in which their projects are looked at.

    Raises:
        AlgError: none of them can be opened; why the first one cannot.
    """

    def __init__(self, places: Sequence[RepoPlace]) -> None:
        self._places = {place.name: place for place in places}
        self._stores: dict[str, MemoryStore] = {}
        self._away: dict[str, _Away] = {}
        self._opening = threading.Lock()
        self._noting = threading.Lock()
        self._trying = False
        self._closed = False
        first = places[0].settings
        self._model: SharedEmbedder | None = None
        if isinstance(first.embedder, EmbedderConfig) and first.embedder.kind != "none":
            try:
                made = create_embedder(first.embedder)
            except AlgError as error:  # each store says so, and searches by words
                _log.warning("the embedder cannot be made: %s", error)
            else:
                self._model = SharedEmbedder(made) if made is not None else None
        self._keep = self._model.handle() if self._model is not None else None
        try:
            for place in places:
                self._open(place)
            if not self._stores:
                raise self._away[places[0].name].error
        except BaseException:
            self.close()
            raise
        self._lead = next(iter(self._stores.values()))

    # -- opening -----------------------------------------------------------------------------------------------

    def _open(self, place: RepoPlace) -> None:
        settings = place.settings
        if self._model is not None:
            settings = replace(settings, embedder=self._model.handle())
        if place.name != next(iter(self._places)):
            settings = replace(settings, reranker=RerankerConfig(), hub_name=self._hub_name())
        try:
            store = MemoryStore(settings)
        except Exception as error:  # noqa: BLE001 - the other repos go on, whatever is wrong with this one
            if not isinstance(settings.embedder, EmbedderConfig):
                settings.embedder.close()
            if not isinstance(error, AlgError):
                _log.exception("the repo %r cannot be opened", place.name)
                error = StorageError(f"{type(error).__name__}: {error}", hint="The hub's log has the details.")
            if place.name not in self._away:
                _log.warning("the repo %r is not there: %s", place.name, error)
            self._away[place.name] = _Away(error, time.monotonic())
            return
        self._away.pop(place.name, None)
        # In the order of the configuration, whoever came late.
        opened = {**self._stores, place.name: store}
        self._stores = {name: opened[name] for name in self._places if name in opened}
        if settings.remote is not None and store.sync_status().checked is None:
            store.pull().add_done_callback(lambda done: done.exception())  # the status tells how it ended

    def _hub_name(self) -> str | None:
        first = next(iter(self._places.values())).settings
        opened = next(iter(self._stores.values()), None)
        if opened is not None:
            return opened.hub_name
        try:
            return (first.index.parent / "hub-name").read_text(encoding="utf-8", errors="replace").strip() or None
        except OSError:
            return None

    def _open_stores(self) -> dict[str, MemoryStore]:
        """The stores that are there; one that is not is tried again now and then, and nobody waits for it."""
        away = list(self._away.values())
        if away and not self._closed and time.monotonic() - max(each.at for each in away) > _LOOK_AGAIN_SECONDS:
            with self._noting:
                if not self._trying:
                    self._trying = True
                    threading.Thread(target=self._try_again, name="memory-repos", daemon=True).start()
        return self._stores

    def _try_again(self) -> None:
        try:
            with self._opening:
                for name in list(self._away):
                    if not self._closed:
                        self._open(self._places[name])
        finally:
            self._trying = False

    def close(self) -> None:
        """Finish what is queued, commit it, and let everything go; harmless when closed."""
        with self._opening:
            self._closed = True
            for store in self._stores.values():
                try:
                    store.close()
                except Exception:  # noqa: BLE001 - the others are closed all the same
                    _log.exception("a store was not closed")
            if self._keep is not None:
                self._keep.close()

    @property
    def names(self) -> tuple[str, ...]:
        """All repos, those that are not there too."""
        return tuple(self._places)

    @property
    def stores(self) -> dict[str, MemoryStore]:
        """Those that are there, by name."""
        return dict(self._open_stores())

    @property
    def absent(self) -> dict[str, AlgError]:
        """Why the others are not."""
        return {name: away.error for name, away in self._away.items()}

    def store_named(self, name: str) -> MemoryStore:
        """The store of a repo.

        Raises:
            InvalidInput: there is no such repo.
            Unavailable: it is not there.
        """
        if name not in self._places:
            raise InvalidInput(f"there is no memory repo {name!r}", hint=f"There are: {', '.join(self._places)}.")
        store = self._open_stores().get(name)
        if store is None:
            raise self._not_there(name)
        return store

    def _not_there(self, name: str) -> Unavailable:
        away = self._away.get(name)
        why = f": {away.error}" if away is not None else ""
        hint = (away.error.hint if away is not None else None) or "`alg memory status` says more."
        return Unavailable(f"the memory repo {name!r} is not there{why}; nothing was written elsewhere", hint=hint)

    # -- where things belong -----------------------------------------------------------------------------------

    def repo_of(self, project: str | None) -> str:
        """The repo in which memories of a project are written."""
        found = (place.name for place in self._places.values() if project and place.has(project))
        return next(found, next(iter(self._places)))

    def store_of(self, project: str | None) -> MemoryStore:
        """The store in which memories of a project are written; errors as for `store_named`."""
        return self.store_named(self.repo_of(project))

    def locate(self, id: str) -> tuple[str, MemoryStore, str]:
        """(the repo, its store, the full id) of a memory, deleted or not.

        Args:
            id: the full id, or an unambiguous beginning or end of it; with `name/` before it, of that repo.

        Raises:
            InvalidInput: not an id, or it fits several memories, or several repos have it.
            NotFound: there is none.
            Unavailable: there is none, and a repo is not there that may have it.
        """
        repo, text = self._split(id)
        stores = self._open_stores() if repo is None else {repo: self.store_named(repo)}
        try:
            identifier = full_id(text, ManyIndex([(name, store.index) for name, store in stores.items()]))
        except NotFound as error:
            raise self._perhaps_away(error) from None
        holders = [name for name, store in stores.items() if store.record(identifier) is not None]
        holders = holders or [name for name, store in stores.items() if store.was_deleted(identifier)]
        holders = holders or [name for name, store in stores.items() if store.knows_deleted(identifier)]
        if len(holders) > 1:
            raise InvalidInput(
                f"memory {identifier} is in {len(holders)} repos: {', '.join(map(repr, holders))}",
                hint=f"Say which: {' or '.join(f'`{name}/{identifier}`' for name in holders)}.",
                id=identifier,
                repos=holders,
            )
        if not holders:
            raise self._perhaps_away(
                NotFound(
                    f"no memory with the id {id!r}",
                    hint="Find it with memory_search; a deleted one needs its full id.",
                    id=id,
                )
            )
        return holders[0], stores[holders[0]], identifier

    def _split(self, id: str) -> tuple[str | None, str]:
        name, slash, rest = id.strip().removeprefix("memory://").partition("/")
        return (name, rest) if slash and name in self._places else (None, id)

    def _perhaps_away(self, error: NotFound) -> AlgError:
        if not self._away:
            return error
        away = ", ".join(map(repr, self._away))
        return Unavailable(
            f"{error.message} in the repos that are there, and {away} "
            f"{'is' if len(self._away) == 1 else 'are'} not: {next(iter(self._away.values())).error}",
            hint="`alg memory status` says more.",
        )

    def for_request(self, request: Request) -> tuple[MemoryStore, Request]:
        """The store that carries a request out, and the request as that one understands it.

        Raises:
            InvalidInput: it would move a memory to another repo, or several repos have it.
            NotFound, Unavailable: see `locate` and `store_named`.
        """
        match request:
            case WriteMemory(id=None):
                return self.store_of(_project_in(request)), request
            case WriteMemory(id=str(id)):
                name, store, identifier = self.locate(id)
                if request.project is not None or "project" in request.fields:
                    self._check_stays(name, store.record(identifier), _project_in(request))
                return store, replace(request, id=identifier)
            case ReplaceText():
                name, store, identifier = self.locate(request.id)
                project = Document.parse(request.data, where=request.id).fields.get("project")
                self._check_stays(name, store.record(identifier), None if project is None else str(project))
                return store, replace(request, id=identifier)
            case ImportMemory():
                holders = [store for store in self._open_stores().values() if store.record(request.id) is not None]
                return (holders[0] if holders else self.store_of(request.project)), request
            case AppendSession(session_id=None) | AppendSession(session_id=""):
                return self.store_of(request.project), request
            case AppendSession(session_id=str(session)):
                _, store, identifier = self.locate(session)
                return store, replace(request, session_id=identifier)
            case WriteSummary():
                _, store, identifier = self.locate(request.session_id)
                return store, replace(request, session_id=identifier)
            case AppendEvent():
                _, store, identifier = self.locate(request.handoff)
                return store, replace(request, handoff=identifier)
            case DeleteMemory() | RestoreMemory():
                _, store, identifier = self.locate(request.id)
                return store, replace(request, id=identifier)
            case _:  # a request whose id is neither a text nor None
                raise InvalidInput(f"the request {type(request).__name__} has no valid id")

    def _check_stays(self, repo: str, record: Record | None, project: str | None) -> None:
        """A change of project must not call for another repo: what was written stays in this one's history, and at its
        remote, so that a move would say more than it does.
        """
        if record is None or project == record.project:
            return
        wanted = self.repo_of(project)
        if wanted != repo:
            raise InvalidInput(
                f"memory {record.id} is in the repo {repo!r}, and memories of the project {project!r} belong to "
                f"{wanted!r}; a memory does not change its repo, whose history keeps it",
                hint="Write it anew with that project, linked to this one, and delete this one.",
                id=record.id,
                repo=repo,
            )

    # -- writing -----------------------------------------------------------------------------------------------

    def write(self, request: Request) -> WriteResult:
        """Carry out one write and wait for its commit; see `MemoryStore.write`."""
        store, request = self.for_request(request)
        return store.write(request)

    def write_many(self, requests: Sequence[Request]) -> list[WriteResult | AlgError]:
        """Carry out many writes; each has its own result or error."""
        outcomes: dict[int, WriteResult | AlgError] = {}
        by_store: dict[int, tuple[MemoryStore, list[tuple[int, Request]]]] = {}
        for place, request in enumerate(requests):
            try:
                store, request = self.for_request(request)  # noqa: PLW2901 - the id without the repo's name
            except AlgError as error:
                outcomes[place] = error
            else:
                by_store.setdefault(id(store), (store, []))[1].append((place, request))
        for store, asked in by_store.values():
            done = store.write_many([request for _, request in asked])
            outcomes.update(zip((place for place, _ in asked), done, strict=True))
        return [outcomes[place] for place in range(len(requests))]

    # -- reading -----------------------------------------------------------------------------------------------

    @property
    def _index(self) -> ManyIndex:
        return ManyIndex([(name, store.index) for name, store in self._open_stores().items()])

    def read(self, id: str, *, at: str | None = None) -> Memory:
        """One memory as it is on disk now, or as it was; see `MemoryStore.read`."""
        name, store, identifier = self.locate(id)
        found = store.read(identifier, at=at)
        return replace(found, record=replace(found.record, repo=name))

    def session(self, id: str) -> SessionLog:
        """A session's log; see `MemoryStore.session`."""
        _, store, identifier = self.locate(id)
        return store.session(identifier)

    def was_deleted(self, id: str) -> bool:
        """Whether a memory with this full id was here and is deleted."""
        stores = self._open_stores().values()
        return all(store.record(id) is None for store in stores) and any(store.was_deleted(id) for store in stores)

    def ask(self, request: SearchRequest, *, now: datetime | None = None, zone: tzinfo = UTC) -> Answer:
        """The memories of all repos that answer a request, best first; see `MemoryStore.ask`."""
        if request.similar_to is not None:
            repo, text = self._split(request.similar_to)
            request = replace(request, similar_to=text) if repo is not None else request
        asking = AskingAll(list(self._open_stores().items()))
        return asking.ask(request, types=self.types, scanner=self.scanner, now=now or datetime.now(UTC), zone=zone)

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
    ) -> Page:
        """A page of the memories of all repos; see `MemoryStore.list`."""
        return self._index.list(without_events(filters or Filters()), limit=limit, cursor=cursor, order=order)

    def history(self, id: str, *, limit: int = 50) -> History:
        """The commits that touched a memory, newest first; see `MemoryStore.history`."""
        name, store, identifier = self.locate(id)
        return replace(store.history(identifier, limit=limit), repo=name)

    def deleted(self, *, limit: int = 50) -> list[Tombstone]:
        """Deleted memories, the latest first; what another repo has meanwhile is not among them."""
        index = self._index
        found = [
            replace(stone, repo=name)
            for name, store in self._open_stores().items()
            for stone in store.deleted(limit=limit)
            if index.get(stone.id) is None
        ]
        return sorted(found, key=lambda stone: stone.deleted, reverse=True)[:limit]

    def record(self, id: str) -> Record | None:
        """The indexed record of a full id; where several repos have it, that of the one where its project belongs."""
        _, text = self._split(id)
        found = [
            replace(record, repo=name)
            for name, store in self._open_stores().items()
            if (record := store.record(text)) is not None
        ]
        return next(
            (record for record in found if self.repo_of(record.project) == record.repo), next(iter(found), None)
        )

    def records(self, *, filters: Filters | None = None) -> Iterator[Record]:
        """Every memory that the filters let through, repo after repo."""
        for name, store in self._open_stores().items():
            for record in store.records(filters=filters):
                yield replace(record, repo=name)

    def file_of(self, record: Record) -> bytes | None:
        """The bytes of a memory's file, or None when it is gone."""
        store = self._open_stores().get(record.repo or PERSONAL)
        return None if store is None else store.file_of(record)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the memory files are."""
        return tuple(place.settings.repo for place in self._places.values())

    @property
    def types(self) -> TypeRegistry:
        """The memory types of all repos, to look names up in; each repo takes its own."""
        return TypeRegistry.joined(store.types for store in self._open_stores().values())

    @property
    def scanner(self) -> SecretScanner:
        """The secret scanner with the first repo's allowances; what is written is checked with its own repo's."""
        return self._lead.scanner

    @property
    def hub_name(self) -> str:
        """This home's name, which another home's on the same machine differs from."""
        return self._lead.hub_name

    @property
    def host(self) -> str:
        """The machine's name, as memories have it."""
        return self._lead.host

    @property
    def commit_wait(self) -> float:
        """Seconds that an answer waits for its commit."""
        return self._lead.commit_wait

    # -- upkeep ------------------------------------------------------------------------------------------------

    def wait_ready(self, timeout: float) -> bool:
        """Wait until every index is complete; whether that came in time."""
        until = time.monotonic() + timeout
        return all(store.wait_ready(max(0.0, until - time.monotonic())) for store in list(self._open_stores().values()))

    def reindex(self, *, accept_loss: bool = False) -> ReindexReport:
        """Rebuild every index from the files alone."""
        reports = [(name, store.reindex(accept_loss=accept_loss)) for name, store in self._open_stores().items()]
        return ReindexReport(
            sum(report.indexed for _, report in reports),
            tuple(_named(name, skipped) for name, report in reports for skipped in report.skipped),
            sum(report.seconds for _, report in reports),
        )

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything that was submitted is committed; whether that came in time."""
        return all(store.flush(timeout) for store in self._open_stores().values())

    def status(self) -> StoreStatus:
        """All repos at a glance; no network."""
        found: dict[str, StoreStatus] = {}
        broken: dict[str, AlgError] = {}
        for name, store in self._open_stores().items():
            try:
                found[name] = store.status()
            except AlgError as error:  # its folder may be gone since
                broken[name] = error
        if not found:
            raise next(iter(broken.values()))
        first, every = next(iter(found.values())), list(found.values())
        types: Counter[str] = Counter()
        for status in every:
            types.update(status.by_type)
        problems = {**self.absent, **broken}
        return replace(
            first,
            memories=sum(status.memories for status in every),
            by_type=dict(types),
            index="building" if any(status.index == "building" for status in every) else "ready",
            search="hybrid" if any(status.search == "hybrid" for status in every) else "lexical",
            vectors=(sum(status.vectors[0] for status in every), sum(status.vectors[1] for status in every)),
            uncommitted=sum(status.uncommitted for status in every),
            sync=worst([status.sync for status in every]),
            skipped=tuple(_named(name, item) for name, status in found.items() for item in status.skipped),
            notices=(
                *(f"the repo {name!r} is not there: {error}" for name, error in problems.items()),
                *(f"{name}: {notice}" for name, status in found.items() for notice in status.notices),
            ),
            rescues=sum(status.rescues for status in every),
            clashes=tuple(pair for status in every for pair in status.clashes),
            repos=tuple(_repo_status(place, found, problems) for place in self._places.values()),
        )

    def search_notices(self) -> tuple[str, ...]:
        """What a searcher must know."""
        told = [
            f"the repo {name!r} is not there, and its memories are not among these: {error}"
            for name, error in self.absent.items()
        ]
        for name, store in self._open_stores().items():
            told += [f"{name}: {notice}" for notice in store.search_notices()]
        return tuple(told)

    # -- sync --------------------------------------------------------------------------------------------------

    def sync_status(self) -> SyncStatus:
        """Where the repo stands against its remote that needs a look most; no network."""
        return worst([store.sync_status() for store in self._open_stores().values()])

    @property
    def sync_progress(self) -> SyncProgress | None:
        """What a pull or push that runs in one of the repos does now; None: none runs."""
        found = (store.sync_progress for store in self._open_stores().values())
        return next((progress for progress in found if progress is not None), None)

    def quarantine(self) -> Quarantine:
        """What the remotes have and is held back here: each path behind its repo's name: `team/notes/...`."""
        held: dict[str, Held] = {}
        history: list[InHistory] = []
        for name, store in self._open_stores().items():
            found = store.quarantine()
            held |= {f"{name}/{path}": _with_repo(name, item) for path, item in found.held.items()}
            history += [replace(item, where=f"{name}/{item.where}") for item in found.history]
        return Quarantine(held, tuple(history))

    def drop_quarantined(self, paths: Sequence[str], author: Author) -> tuple[Held, ...]:
        """Give up what is held back at these paths, as `quarantine` has them; see `MemoryStore.drop_quarantined`."""
        held = self.quarantine().held
        chosen: dict[str, list[str]] = {}
        for path in paths:
            item = held.get(path) or next((item for item in held.values() if item.shown == path), None)
            if item is None:
                raise NotFound(
                    f"nothing is held back at {path!r}",
                    hint="Name one or more of those that are listed, with the repo's name before the path.",
                )
            name, _, rest = item.path.partition("/")
            chosen.setdefault(name, []).append(rest)
        if not chosen:
            raise InvalidInput("no path is given", hint="Name one or more of those that are listed.")
        dropped = [(name, self.store_named(name).drop_quarantined(rest, author)) for name, rest in chosen.items()]
        return tuple(_with_repo(name, item) for name, items in dropped for item in items)

    def to_sync(self, *, repo: str | None = None, project: str | None = None) -> dict[str, MemoryStore | AlgError]:
        """The repos that a pull or push is for, by name: one that is named or has the project, else all that have a
        remote, and why the others are not there.

        Raises:
            InvalidInput: there is no such repo, or both are given.
            Unavailable: it is not there.
        """
        if repo and project:
            raise InvalidInput("`repo` and `project` are both given", hint="Give one of them.")
        if repo or project:
            name = repo or self.repo_of(project)
            return {name: self.store_named(name)}
        stores = self._open_stores()
        with_remote = {name: store for name, store in stores.items() if store.sync_status().state != "no_remote"}
        chosen: dict[str, MemoryStore | AlgError] = {**(with_remote or stores)}
        absent = self.absent
        for name, place in self._places.items():
            if name in absent and place.settings.remote is not None:
                chosen[name] = absent[name]
        return chosen


Memories = MemoryStore | MemoryStores
"""What a hub remembers, in one memory repo or in several."""


def worst(statuses: Sequence[SyncStatus]) -> SyncStatus:
    """Of several standings the one that somebody has to look at first."""
    return min(statuses, key=lambda status: WORST_FIRST.index(status.state))


def _project_in(request: WriteMemory) -> str | None:
    """The project that a memory is to have; it may stand among the fields, which then count."""
    given = request.fields.get("project", request.project)
    return None if given is None or given == "" else str(given)


def _named(name: str, skipped: Skipped) -> Skipped:
    return Skipped(f"{name}: {skipped.path}", skipped.problem)


def _with_repo(name: str, item: Held) -> Held:
    """What is held back, with its path behind its repo's name."""
    return replace(item, path=f"{name}/{item.path}", shown=f"{name}/{item.shown}")


def _repo_status(place: RepoPlace, found: dict[str, StoreStatus], problems: dict[str, AlgError]) -> RepoStatus:
    settings = place.settings
    status = found.get(place.name)
    problem = problems.get(place.name)
    return RepoStatus(
        place.name,
        str(settings.repo),
        place.projects,
        settings.trust,
        settings.read_only,
        memories=status.memories if status else 0,
        uncommitted=status.uncommitted if status else 0,
        head=status.head if status else None,
        sync=status.sync if status else None,
        problem=str(problem) if problem else None,
    )
