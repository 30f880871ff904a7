"""What is read and written in several memory repos as in one, whoever sees how much of each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Generic, TypeVar

from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound, SecretScanner, Unavailable
from adaptive_llm_gateway.memory._asking import Answer, SearchRequest
from adaptive_llm_gateway.memory._asking_all import AskingAll
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._index_rows import Tombstone
from adaptive_llm_gateway.memory._many_index import ManyIndex
from adaptive_llm_gateway.memory._memory_index import likeness
from adaptive_llm_gateway.memory._pages import Order, Page, page_of
from adaptive_llm_gateway.memory._plans import full_id
from adaptive_llm_gateway.memory._requests import (
    AppendEvent,
    AppendSession,
    DeleteMemory,
    History,
    ImportMemory,
    Memory,
    ReplaceText,
    Request,
    RestoreMemory,
    WriteMemory,
    WriteSummary,
)
from adaptive_llm_gateway.memory._sessions import SessionLog
from adaptive_llm_gateway.memory._store import MemoryStore
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Filters, Record
from adaptive_llm_gateway.memory._view import MemoryView

S = TypeVar("S", MemoryStore, MemoryView)


class Several(ABC, Generic[S]):
    """Reads in several memory repos, and writes to the one that a memory belongs to."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """All repos, those that are not there too."""

    @property
    @abstractmethod
    def absent(self) -> dict[str, AlgError]:
        """Why those are not there that are not."""

    @abstractmethod
    def _open_stores(self) -> dict[str, S]:
        """Those that are there, by name; at least one."""

    @abstractmethod
    def store_named(self, name: str) -> S:
        """The store of a repo.

        Raises:
            InvalidInput: there is no such repo.
            Unavailable: it is not there.
        """

    @abstractmethod
    def repo_of(self, project: str | None) -> str:
        """The repo in which memories of a project are written."""

    @property
    @abstractmethod
    def _lead(self) -> S:
        """The one that speaks for all."""

    def store_of(self, project: str | None) -> S:
        """The store in which memories of a project are written; errors as for `store_named`."""
        return self.store_named(self.repo_of(project))

    def locate(self, id: str) -> tuple[str, S, str]:
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
            identifier = full_id(text, ManyIndex([(name, store.parts.index) for name, store in stores.items()]))
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
        return (name, rest) if slash and name in self.names else (None, id)

    def _perhaps_away(self, error: NotFound) -> AlgError:
        absent = self.absent
        if not absent:
            return error
        away = ", ".join(map(repr, absent))
        return Unavailable(
            f"{error.message} in the repos that are there, and {away} "
            f"{'is' if len(absent) == 1 else 'are'} not: {next(iter(absent.values()))}",
            hint="`alg memory status` says more.",
        )

    def for_request(self, request: Request) -> tuple[S, Request]:
        """The store that carries a request out, and the request as that one understands it.

        Raises:
            InvalidInput: it would move a memory to another repo, or several repos have it.
            NotFound, Unavailable: see `locate` and `store_named`.
        """
        match request:
            case WriteMemory(id=None):
                return self.store_of(project_in(request)), request
            case WriteMemory(id=str(id)):
                name, store, identifier = self.locate(id)
                if request.project is not None or "project" in request.fields:
                    self._check_stays(name, store.record(identifier), project_in(request))
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

    # -- reading -----------------------------------------------------------------------------------------------

    @property
    def _index(self) -> ManyIndex:
        return ManyIndex([(name, store.parts.index) for name, store in self._open_stores().items()])

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
        given: str | None = None,
    ) -> Page:
        """A page of the memories of all repos; see `MemoryStore.list`."""
        return page_of(self._index, filters, given=given, limit=limit, cursor=cursor, order=order)

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


def project_in(request: WriteMemory) -> str | None:
    """The project that a memory is to have; it may stand among the fields, which then count."""
    given = request.fields.get("project", request.project)
    return None if given is None or given == "" else str(given)
