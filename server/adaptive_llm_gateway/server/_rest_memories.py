"""Memories, search, context and status over REST."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Any

from fastapi import Body, Header, Path, Query
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from adaptive_llm_gateway.core import NotFound
from adaptive_llm_gateway.server._rest_etags import etag, expected, is_known
from adaptive_llm_gateway.server._rest_models import (
    EXAMPLE_ID,
    ContextGiven,
    ContextTold,
    HistoryQuery,
    HistoryTold,
    ListQuery,
    MemoryList,
    MemoryPatch,
    MemoryText,
    NewMemory,
    ReadQuery,
    RestoreGiven,
    SearchGiven,
    SearchQuery,
    SearchTold,
    StatusTold,
    TypesTold,
    WholeMemory,
    WhyQuery,
    WriteTold,
)
from adaptive_llm_gateway.server._rest_problems import PREFIX, problem
from adaptive_llm_gateway.server._rest_route import NEW_ID, Json, Route, answer, author
from adaptive_llm_gateway.server._services import Services

MemoryId = Annotated[
    str,
    Path(
        description="Id of the memory, or 6 letters or more of its beginning or end",
        examples=[EXAMPLE_ID],
    ),
]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="Only if the memory is this version: its ETag, or several; `*`: any"),
]
IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="Only if the memory is another version than these ETags"),
]

_ETAG = {"ETag": "The memory's version"}
_LINK = {"Link": 'Where there is a next page: its address, with rel="next" (RFC 8288)'}
_NOT_THERE = (404,)
_SEARCHED = (404, 413, 507)
"""A search of the past makes an index of it."""
_CHANGING = (404, 409, 412)


class MemoryRoutes:
    """The routes, as bound functions whose names are the ids of the operations."""

    def __init__(self, services: Services) -> None:
        self._operations = services.operations

    def table(self) -> list[Route]:
        """Every route."""
        one = "/memories/{id}"
        return [
            Route(
                method="GET", path="/memories", run=self.memory_list, tag="memories", answer=MemoryList, headers=_LINK
            ),
            Route(
                method="POST",
                path="/memories",
                run=self.memory_create,
                tag="memories",
                answer=WriteTold,
                status=201,
                problems=(409,),
                headers={**_ETAG, "Location": "The memory's address"},
                keyed=True,
                creates=True,
            ),
            Route(
                method="GET",
                path=one,
                run=self.memory_read,
                tag="memories",
                answer=WholeMemory,
                also={304: "The caller has this version already"},
                problems=_NOT_THERE,
                headers=_ETAG,
            ),
            Route(
                method="PUT",
                path=one,
                run=self.memory_replace,
                tag="memories",
                answer=WriteTold,
                problems=(*_CHANGING, 428),
                headers=_ETAG,
                keyed=True,
            ),
            Route(
                method="PATCH",
                path=one,
                run=self.memory_update,
                tag="memories",
                answer=WriteTold,
                problems=_CHANGING,
                headers=_ETAG,
                merges=True,
                keyed=True,
            ),
            Route(
                method="DELETE",
                path=one,
                run=self.memory_delete,
                tag="memories",
                answer=WriteTold,
                problems=_CHANGING,
                keyed=True,
            ),
            Route(
                method="POST",
                path=f"{one}/restore",
                run=self.memory_restore,
                tag="memories",
                answer=WriteTold,
                problems=(404, 409),
                headers=_ETAG,
                keyed=True,
            ),
            Route(
                method="GET",
                path=f"{one}/history",
                run=self.memory_history,
                tag="memories",
                answer=HistoryTold,
                problems=_NOT_THERE,
            ),
            Route(
                method="GET",
                path="/search",
                run=self.memory_search,
                tag="search",
                answer=SearchTold,
                problems=_SEARCHED,
                headers=_LINK,
            ),
            Route(
                method="POST",
                path="/search",
                run=self.memory_search_by,
                tag="search",
                answer=SearchTold,
                problems=_SEARCHED,
            ),
            Route(
                method="POST",
                path="/context",
                run=self.memory_context,
                tag="search",
                answer=ContextTold,
                problems=_NOT_THERE,
            ),
            Route(method="GET", path="/status", run=self.memory_status, tag="hub", answer=StatusTold),
            Route(method="GET", path="/types", run=self.memory_types, tag="hub", answer=TypesTold),
        ]

    async def memory_list(self, asked: Annotated[ListQuery, Query()], request: Request) -> Response:
        """List memories. Filters narrow it; the newest come first unless `order` says otherwise. The next page is that
        of the header `Link`, or of `next_cursor` in the answer."""
        found = await self._operations.list(**_filters(asked))
        return answer(found, headers=_next_page(request, found["next_cursor"]))

    async def memory_create(self, asked: Annotated[NewMemory, Body()]) -> Response:
        """Keep a memory. A text with a secret is refused. The answer says whether it is committed and pushed."""
        given = asked.model_dump(exclude_none=True)
        done = await self._operations.write(author=author(), new_id=NEW_ID.get(), **given)
        return _written(done, status=201)

    async def memory_read(
        self, id: MemoryId, asked: Annotated[ReadQuery, Query()], if_none_match: IfNoneMatch = None
    ) -> Response:
        """Read a memory whole. `at` reads it as it was; the versions are those of its history."""
        found = await self._operations.read(id, at=asked.at or None)
        version = str(found["version"])
        kept = {"cache-control": "private, no-cache", "etag": etag(version)}
        if is_known(if_none_match, version):
            return Response(status_code=304, headers=kept)
        return answer(found, headers=kept)

    async def memory_replace(
        self, id: MemoryId, asked: Annotated[MemoryText, Body()], if_match: IfMatch = None
    ) -> Response:
        """Replace a memory's whole file. It needs `If-Match`: what is replaced has to be what was read."""
        if if_match is None:
            return problem(
                "precondition_required",
                "a memory is replaced as a whole only with `If-Match`",
                hint="Read it, and send its ETag; or PATCH what is to change.",
            )
        version = await expected(if_match, lambda: self._version(id))
        done = await self._operations.replace_text(
            id, asked.text, author=author(), if_version=version, reason=asked.reason
        )
        return _written(done)

    async def memory_update(
        self, id: MemoryId, asked: Annotated[MemoryPatch, Body()], if_match: IfMatch = None
    ) -> Response:
        """Change a memory. The body is a JSON merge patch (RFC 7396), also of `fields`: what is not named stays, null
        takes away. With `If-Match` only that version is changed."""
        version = await expected(if_match, lambda: self._version(id))
        given = asked.model_dump(exclude_unset=True)
        for name in ("project", "source"):
            if given.get(name, "") is None:
                given[name] = ""  # how the operation is told to take it away
        for name in ("tags", "links"):
            if given.get(name, ()) is None:
                given[name] = []
        done = await self._operations.write(author=author(), id=id, if_version=version, **given)
        return _written(done)

    async def memory_delete(
        self, id: MemoryId, asked: Annotated[WhyQuery, Query()], if_match: IfMatch = None
    ) -> Response:
        """Delete a memory. Its history stays, and it can be restored. With `If-Match` only that version is deleted."""
        version = await expected(if_match, lambda: self._version(id))
        done = await self._operations.delete(id, author=author(), if_version=version, reason=asked.reason)
        return _written(done)

    async def memory_restore(self, id: MemoryId, asked: Annotated[RestoreGiven, Body()]) -> Response:
        """Bring back a deleted memory, or set one back to an earlier version. It is a new commit: nothing is lost."""
        done = await self._operations.restore(id, author=author(), at=asked.at or None, reason=asked.reason)
        return _written(done)

    async def memory_history(self, id: MemoryId, asked: Annotated[HistoryQuery, Query()]) -> Response:
        """Say who changed a memory, when and why. The newest first; also of a deleted one, by its full id."""
        return answer(await self._operations.history(id, limit=asked.limit))

    async def memory_search(self, asked: Annotated[SearchQuery, Query()], request: Request) -> Response:
        """Search memories by meaning and by words. Hits come best first, with why they matched. What is asked stands in
        the address; what is not to stand there goes into the body of `POST /search`."""
        found = await self._operations.search(**_filters(asked))
        return answer(found, headers=_next_page(request, found["next_cursor"]))

    async def memory_search_by(self, asked: Annotated[SearchGiven, Body()]) -> Response:
        """Search memories by meaning and by words. As `GET /search`, with what is asked in the body, and with filters
        by the types' own fields."""
        return answer(await self._operations.search(**_filters(asked)))

    async def memory_context(self, asked: Annotated[ContextGiven, Body()]) -> Response:
        """Say what the memory knows about a question, in a budget of tokens. Whole texts, extracts and single lines of
        the memories that answer it, with preferences, open tasks and recent decisions."""
        return answer(await self._operations.context(**_filters(asked)))

    async def memory_status(self) -> Response:
        """Say how the memory stands. Counts, index, search mode, commits, sync with the remote."""
        return answer(await self._operations.status())

    async def memory_types(self) -> Response:
        """List the types of memory. Each with what it is for and the fields of its own; the user's types are among
        them."""
        types = (await self._operations.store()).types
        return answer(
            {
                "types": [
                    {"name": name, "description": types.description_of(name), "fields": list(types.own_fields(name))}
                    for name in types.names
                ]
            }
        )

    async def _version(self, id: str) -> str:
        """The version that is current.

        Raises:
            NotFound: there is no such memory now.
        """
        version = (await self._operations.read(id))["version"]
        if not isinstance(version, str):
            raise NotFound(f"no memory {id!r}")
        return version


def _filters(asked: BaseModel) -> dict[str, Any]:
    """What is asked, without what was left empty."""
    return {name: value for name, value in asked.model_dump().items() if value not in (None, [], {})}


def _written(done: Json, *, status: int = 200) -> Response:
    version = done["version"]
    place = {"location": f"{PREFIX}/memories/{done['id']}"} if status == 201 else {}
    return answer(done, status=status, etag=etag(version) if version else None, headers=place)


def _next_page(request: Request, cursor: str | None) -> dict[str, str]:
    if cursor is None:
        return {}
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return {"link": f'<{request.url.path}?{urllib.parse.urlencode([*query, ("cursor", cursor)])}>; rel="next"'}
