"""Several memory repos as somebody sees them who does not see everything."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo

from adaptive_llm_gateway.core import AccessDenied, AlgError, InvalidInput, Unavailable
from adaptive_llm_gateway.memory._asking import Answer, SearchRequest
from adaptive_llm_gateway.memory._pages import Order, Page
from adaptive_llm_gateway.memory._quarantine import Held, Quarantine
from adaptive_llm_gateway.memory._requests import PERSONAL, RepoStatus, StoreStatus
from adaptive_llm_gateway.memory._several import Several
from adaptive_llm_gateway.memory._sight import Sight
from adaptive_llm_gateway.memory._store import MemoryStore
from adaptive_llm_gateway.memory._stores import MemoryStores, RepoPlace, worst
from adaptive_llm_gateway.memory._sync_progress import SyncProgress
from adaptive_llm_gateway.memory._values import Author, Filters, Record, SyncStatus
from adaptive_llm_gateway.memory._view import MemoryView, seen_list, seen_request


class MemoryViews(Several[MemoryView]):
    """What can be done with several memory repos by somebody who does not see everything. To be made for each call.

    Its methods are those of `MemoryStores`, and say the same of what is seen. A repo is named to whom it may have
    memories for, or has.
    """

    def __init__(self, stores: MemoryStores, sight: Sight) -> None:
        self._stores, self._sight = stores, sight
        self._views = {name: MemoryView(store, sight) for name, store in stores.stores.items()}
        self._known: dict[str, MemoryView] | None = None

    @property
    def whole(self) -> MemoryStores:
        """The stores themselves: for the hub, never for who asks."""
        return self._stores

    @property
    def sight(self) -> Sight:
        """What is seen."""
        return self._sight

    # -- which repos -------------------------------------------------------------------------------------------

    def _may_have(self, patterns: Sequence[str]) -> bool:
        """Whether a repo of these projects may have memories that are seen."""
        mine = self._sight.projects
        return mine is None or any(
            fnmatch.fnmatchcase(one, other) or fnmatch.fnmatchcase(other, one) for one in mine for other in patterns
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The repos that are told of, those that are not there too."""
        mine = self._sight.projects
        own = {self.repo_of(project) for project in mine or ()}
        return tuple(
            place.name
            for place in self._stores.places
            if place.name in own
            or self._may_have(place.projects)
            or ((view := self._views.get(place.name)) is not None and view.list(limit=1).total)
        )

    @property
    def absent(self) -> dict[str, AlgError]:
        """Those of them that are not there."""
        why = Unavailable("it cannot be opened", hint="The person whose hub this is sees why: `alg memory status`.")
        return {name: why for name in self._stores.absent if name in self.names}

    def _open_stores(self) -> dict[str, MemoryView]:
        if self._known is None:
            told = self.names
            self._known = {name: view for name, view in self._views.items() if name in told} or self._views
        return self._known

    @property
    def stores(self) -> dict[str, MemoryView]:
        """Those that are there, by name."""
        return dict(self._open_stores())

    def store_named(self, name: str) -> MemoryView:
        """The store of a repo; errors as for `MemoryStores.store_named`."""
        if name not in self.names:
            raise InvalidInput(f"there is no memory repo {name!r}", hint=f"There are: {', '.join(self.names)}.")
        return self._there(name)

    def _there(self, name: str) -> MemoryView:
        view = self._views.get(name)
        if view is None:
            raise Unavailable(
                f"the memory repo {name!r} is not there; nothing was written elsewhere",
                hint="The person whose hub this is sees why: `alg memory status`.",
            )
        return view

    def repo_of(self, project: str | None) -> str:
        """The repo in which memories of a project are written."""
        return self._stores.repo_of(project)

    def store_of(self, project: str | None) -> MemoryView:
        """The store in which memories of a project are written.

        Raises:
            AccessDenied, InvalidInput: nothing is written there by who asks.
        """
        self._sight.check_project(project)
        return self._there(self.repo_of(project))

    def _check_stays(self, repo: str, record: Record | None, project: str | None) -> None:
        self._sight.check_project(project)
        super()._check_stays(repo, record, project)

    @property
    def _lead(self) -> MemoryView:
        return next(iter(self._views.values()))

    # -- reading -----------------------------------------------------------------------------------------------

    def ask(self, request: SearchRequest, *, now: datetime | None = None, zone: tzinfo = UTC) -> Answer:
        """The memories of all repos that answer a request, best first."""
        return super().ask(seen_request(request, self._sight), now=now, zone=zone)

    def list(
        self,
        *,
        filters: Filters | None = None,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "updated",
        given: str | None = None,
    ) -> Page:
        """A page of the memories of all repos."""
        asked = seen_list(given, filters, self._sight)
        return super().list(filters=filters, limit=limit, cursor=cursor, order=order, given=asked)

    def file_of(self, record: Record) -> bytes | None:
        """The bytes of a memory's file, or None when it is gone."""
        view = self._views.get(record.repo or PERSONAL)
        return None if view is None else view.file_of(record)

    # -- how they stand ----------------------------------------------------------------------------------------

    def status(self) -> StoreStatus:
        """All repos at a glance, as far as that says nothing of what is not seen."""
        found = {name: view.status() for name, view in self._open_stores().items()}
        every = list(found.values())
        types: Counter[str] = Counter()
        for status in every:
            types.update(status.by_type)
        absent = self.absent
        return replace(
            every[0],
            memories=sum(status.memories for status in every),
            by_type=dict(types),
            index="building" if any(status.index == "building" for status in every) else "ready",
            search="hybrid" if any(status.search == "hybrid" for status in every) else "lexical",
            uncommitted=sum(status.uncommitted for status in every),
            sync=worst([status.sync for status in every]),
            notices=self.search_notices(),
            clashes=tuple(pair for status in every for pair in status.clashes),
            repos=tuple(self._repo_status(place, found, absent) for place in self._stores.places
                        if place.name in found or place.name in absent),
        )  # fmt: skip

    def _repo_status(self, place: RepoPlace, found: dict[str, StoreStatus], absent: dict[str, AlgError]) -> RepoStatus:
        status, problem = found.get(place.name), absent.get(place.name)
        return RepoStatus(
            place.name,
            "",
            tuple(each for each in place.projects if self._sight.projects is None or self._may_have([each])),
            place.settings.trust,
            place.settings.read_only,
            memories=status.memories if status else 0,
            uncommitted=status.uncommitted if status else 0,
            head=status.head if status else None,
            sync=status.sync if status else None,
            problem=str(problem) if problem else None,
        )

    def search_notices(self) -> tuple[str, ...]:
        """What a searcher must know."""
        told = [f"the repo {name!r} is not there, and its memories are not among these" for name in self.absent]
        for name, view in self._open_stores().items():
            told += [f"{name}: {notice}" for notice in view.search_notices()]
        return tuple(told)

    def sync_status(self) -> SyncStatus:
        """Where the repo stands against its remote that needs a look most; no network."""
        return worst([view.sync_status() for view in self._open_stores().values()])

    @property
    def sync_progress(self) -> SyncProgress | None:
        """None: how much is pulled or pushed says how much there is."""
        return None

    def quarantine(self) -> Quarantine:
        """Nothing: nobody here has seen what is held back, and it may be anything."""
        return Quarantine()

    def drop_quarantined(self, paths: Sequence[str], author: Author) -> tuple[Held, ...]:
        """Refused: what is held back is not seen; errors as for `MemoryView.drop_quarantined`."""
        return self._lead.drop_quarantined(paths, author)

    def to_sync(self, *, repo: str | None = None, project: str | None = None) -> dict[str, MemoryStore | AlgError]:
        """The stores that a pull or push is for: of the repos that are told of; see `MemoryStores.to_sync`."""
        if repo:
            self.store_named(repo)
        elif project:
            self._sight.check_project(project)
        asked = self._stores.to_sync(repo=repo, project=project)
        absent = self.absent
        told = {*self.names, *asked} if repo or project else set(self.names)
        found = {name: absent.get(name, store) for name, store in asked.items() if name in told}
        if not found:
            raise AccessDenied("this token has no project, and so no memory repo", hint="`alg clients` changes that.")
        return found


def view_of(stores: MemoryStore | MemoryStores, sight: Sight) -> MemoryView | MemoryViews:
    """What somebody sees of one memory repo, or of several."""
    return MemoryView(stores, sight) if isinstance(stores, MemoryStore) else MemoryViews(stores, sight)


SeenMemories = MemoryStore | MemoryStores | MemoryView | MemoryViews
"""What a hub remembers, or what somebody sees of it."""
