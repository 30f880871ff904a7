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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound, StorageError, Unavailable
from adaptive_llm_gateway.memory._embed import EmbedderConfig, create_embedder
from adaptive_llm_gateway.memory._quarantine import Held, InHistory, Quarantine
from adaptive_llm_gateway.memory._requests import (
    PERSONAL,
    ReindexReport,
    RepoStatus,
    Request,
    Skipped,
    StoreSettings,
    StoreStatus,
    WriteResult,
)
from adaptive_llm_gateway.memory._rerank import RerankerConfig
from adaptive_llm_gateway.memory._several import Several
from adaptive_llm_gateway.memory._shared_embedder import SharedEmbedder
from adaptive_llm_gateway.memory._store import MemoryStore
from adaptive_llm_gateway.memory._sync_progress import SyncProgress
from adaptive_llm_gateway.memory._values import WORST_FIRST, Author, Record, SyncStatus

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


class MemoryStores(Several[MemoryStore]):
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
        self._first = next(iter(self._stores.values()))

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
    def places(self) -> tuple[RepoPlace, ...]:
        """All repos as they are configured."""
        return tuple(self._places.values())

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

    @property
    def _lead(self) -> MemoryStore:
        return self._first

    # -- where things belong -----------------------------------------------------------------------------------

    def repo_of(self, project: str | None) -> str:
        """The repo in which memories of a project are written."""
        found = (place.name for place in self._places.values() if project and place.has(project))
        return next(found, next(iter(self._places)))

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

    # -- files ---------------------------------------------------------------------------------------------------

    def file_of(self, record: Record) -> bytes | None:
        """The bytes of a memory's file, or None when it is gone."""
        store = self._open_stores().get(record.repo or PERSONAL)
        return None if store is None else store.file_of(record)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the memory files are."""
        return tuple(place.settings.repo for place in self._places.values())

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
