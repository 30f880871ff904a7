"""Answers requests over the memory repos of several stores."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Protocol

from adaptive_llm_gateway.core import NotFound, SecretScanner
from adaptive_llm_gateway.memory._asking import Asking, SearchRequest
from adaptive_llm_gateway.memory._cursor import Cursor
from adaptive_llm_gateway.memory._many_index import ManyIndex
from adaptive_llm_gateway.memory._memory_index import ReadableIndex
from adaptive_llm_gateway.memory._parts import Parts
from adaptive_llm_gateway.memory._past import find_commit
from adaptive_llm_gateway.memory._types import TypeRegistry


class Searched(Protocol):
    """A store, or what somebody sees of one."""

    @property
    def parts(self) -> Parts:
        """What searches."""
        ...


class AskingAll(Asking):
    """`Asking` over several repos. The first one's models turn the query into a vector and judge the hits.

    Args:
        stores: name and store of each repo, in the order in which they are asked; at least one.
    """

    def __init__(self, stores: Sequence[tuple[str, Searched]]) -> None:
        parts = stores[0][1].parts
        self._stores = stores
        super().__init__(
            index=ManyIndex([(name, store.parts.index) for name, store in stores]),
            repo=parts.repo,
            vector=parts.vectorizer.query_vector,
            begin=parts.vectorizer.begin_query,
            ready=lambda: parts.vectorizer.ready,
            past=parts.past,
            reranking=parts.reranking,
        )

    def _cursor(self, request: SearchRequest, now: datetime, zone: tzinfo) -> Cursor:
        """As of when is found out for each repo and each page, from the moment of the first page."""
        if request.cursor is None:
            return Cursor(request.digest, datetime.fromtimestamp(int(now.timestamp()), UTC))
        return super()._cursor(request, now, zone)

    @contextlib.contextmanager
    def _opened(
        self, request: SearchRequest, cursor: Cursor, types: TypeRegistry, scanner: SecretScanner, zone: tzinfo
    ) -> Generator[tuple[ReadableIndex, datetime | None, tuple[str, ...]]]:
        if request.as_of is None:
            with super()._opened(request, cursor, types, scanner, zone) as opened:
                yield opened
            return
        found: list[tuple[str, ReadableIndex]] = []
        told: list[str] = []
        missed: list[NotFound] = []
        with contextlib.ExitStack() as stack:
            for name, store in self._stores:
                parts = store.parts
                try:
                    commit = find_commit(parts.repo, request.as_of, cursor.now, zone)
                except NotFound as error:  # a commit is in one repo, and not every repo is as old
                    missed.append(error)
                    continue
                past = stack.enter_context(parts.past.at(commit, parts.types, parts.scanner))
                index, notices = parts.shown(past)
                found.append((name, index))
                moment = past.time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
                told += [f"the repo {name!r} as of {moment} (commit {commit[:12]})", *notices]
            if not found:
                raise missed[0]
            yield ManyIndex(found), None, tuple(told)
