"""Sessions, handoffs and sync over REST."""

from __future__ import annotations

import urllib.parse
from typing import Annotated, Any

from fastapi import Body, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from adaptive_llm_gateway.server._rest_hints import with_routes
from adaptive_llm_gateway.server._rest_models import EXAMPLE_ID, WriteTold
from adaptive_llm_gateway.server._rest_models_work import (
    AppendTold,
    ClaimBestGiven,
    ClaimGiven,
    CompactGiven,
    CompleteGiven,
    EntriesQuery,
    EntryGiven,
    HandoffClaimed,
    HandoffsQuery,
    HandoffsTold,
    HandoffWhole,
    HandoffWritten,
    NewHandoff,
    NewSession,
    ReleaseGiven,
    ReportGiven,
    SessionTold,
    SyncGiven,
    SyncStanding,
    SyncTold,
)
from adaptive_llm_gateway.server._rest_problems import PREFIX
from adaptive_llm_gateway.server._rest_route import NEW_ID, Json, Route, answer, author
from adaptive_llm_gateway.server._services import Services

SessionId = Annotated[str, Path(description="`session_id` of the first append", examples=[EXAMPLE_ID])]
HandoffId = Annotated[str, Path(description="Id of the handoff", examples=[EXAMPLE_ID])]

_LINK = {"Link": 'Where there is a next page: its address, with rel="next" (RFC 8288)'}


class WorkRoutes:
    """The routes, as bound functions whose names are the ids of the operations."""

    def __init__(self, services: Services) -> None:
        self._operations = services.operations
        self._handoffs = services.handoffs

    def table(self) -> list[Route]:
        """Every route."""
        return [*self._of_sessions(), *self._of_handoffs(), *self._of_sync()]

    def _of_sessions(self) -> list[Route]:
        one = "/sessions/{id}"
        return [
            Route(
                method="POST",
                path="/sessions",
                run=self.session_begin,
                tag="sessions",
                answer=AppendTold,
                status=201,
                headers={"Location": "The session's address"},
                keyed=True,
                creates=True,
            ),
            Route(
                method="GET",
                path=one,
                run=self.session_read,
                tag="sessions",
                answer=SessionTold,
                problems=(404,),
                headers=_LINK,
            ),
            Route(
                method="POST",
                path=f"{one}/entries",
                run=self.session_append,
                tag="sessions",
                answer=AppendTold,
                status=201,
                problems=(404,),
                keyed=True,
            ),
            Route(
                method="POST",
                path=f"{one}/compact",
                run=self.session_compact,
                tag="sessions",
                answer=WriteTold,
                problems=(404,),
                keyed=True,
            ),
        ]

    def _of_handoffs(self) -> list[Route]:
        one = "/handoffs/{id}"
        changing: dict[str, Any] = {
            "tag": "handoffs",
            "problems": (404, 409, 502, 504),
            "keyed": True,
            "method": "POST",
        }
        return [
            Route(method="GET", path="/handoffs", run=self.handoff_list, tag="handoffs", answer=HandoffsTold),
            Route(
                method="POST",
                path="/handoffs",
                run=self.handoff_create,
                tag="handoffs",
                answer=HandoffWritten,
                status=201,
                problems=(404,),
                headers={"Location": "The handoff's address"},
                keyed=True,
                creates=True,
            ),
            Route(path="/handoffs/claim", run=self.handoff_claim_best, answer=HandoffClaimed, **changing),
            Route(method="GET", path=one, run=self.handoff_show, tag="handoffs", answer=HandoffWhole, problems=(404,)),
            Route(path=f"{one}/claim", run=self.handoff_claim, answer=HandoffClaimed, **changing),
            Route(path=f"{one}/update", run=self.handoff_update, answer=HandoffWritten, **changing),
            Route(path=f"{one}/complete", run=self.handoff_complete, answer=HandoffWritten, **changing),
            Route(path=f"{one}/release", run=self.handoff_release, answer=HandoffWritten, **changing),
        ]

    def _of_sync(self) -> list[Route]:
        later = {202: "It is not over yet, and goes on; `GET /sync` says how far it is"}
        syncing: dict[str, Any] = {
            "tag": "sync",
            "answer": SyncTold,
            "also": later,
            "problems": (404, 409, 502, 504, 507),
            "method": "POST",
        }
        return [
            Route(method="GET", path="/sync", run=self.sync_status, tag="sync", answer=SyncStanding),
            Route(path="/sync", run=self.sync, **syncing),
            Route(path="/sync/pull", run=self.sync_pull, **syncing),
            Route(path="/sync/push", run=self.sync_push, **syncing),
        ]

    # -- sessions ----------------------------------------------------------------------------------------------

    async def session_begin(self, asked: Annotated[NewSession, Body()]) -> Response:
        """Begin a session with the first entry of its log. What is written survives a crash; append as you go."""
        done = await self._operations.append_session(
            asked.text,
            author=author(),
            title=asked.title,
            project=asked.project,
            reason=asked.reason,
            redact=asked.redact,
            new_id=NEW_ID.get(),
        )
        return answer(done, status=201, headers={"location": f"{PREFIX}/sessions/{done['session_id']}"})

    async def session_append(self, id: SessionId, asked: Annotated[EntryGiven, Body()]) -> Response:
        """Append an entry to a session's log. The answer says whether it is committed and pushed."""
        done = await self._operations.append_session(
            asked.text, author=author(), session_id=id.upper(), reason=asked.reason, redact=asked.redact
        )
        return answer(done, status=201)

    async def session_compact(self, id: SessionId, asked: Annotated[CompactGiven, Body()]) -> Response:
        """Summarise a session's log. Goal, decisions, changes, open questions, next step; the log stays, and the
        summary is one memory, which the next call replaces."""
        return answer(await self._operations.compact_session(id, author=author(), budget_tokens=asked.budget_tokens))

    async def session_read(self, id: SessionId, asked: Annotated[EntriesQuery, Query()], request: Request) -> Response:
        """Read a session's log. The oldest entry first, in pages."""
        found = await self._operations.session(id, cursor=asked.cursor, limit=asked.limit)
        cursor: str | None = found["next_cursor"]
        if cursor is None:
            return answer(found)
        query = urllib.parse.urlencode({"limit": asked.limit, "cursor": cursor})
        return answer(found, headers={"link": f'<{request.url.path}?{query}>; rel="next"'})

    # -- handoffs ----------------------------------------------------------------------------------------------

    async def handoff_list(self, asked: Annotated[HandoffsQuery, Query()]) -> Response:
        """List handoffs. The open ones unless told otherwise, the most urgent first; the git remote is asked for new
        ones before."""
        return answer(await self._handoffs.list(**asked.model_dump(exclude_none=True)))

    async def handoff_create(self, asked: Annotated[NewHandoff, Body()]) -> Response:
        """Offer unfinished work to another agent, here or on another machine. With `session_id` what is not given comes
        from that session's log."""
        given = asked.model_dump(exclude_none=True)
        done = await self._handoffs.create(author=author(), new_id=NEW_ID.get(), **given)
        return answer(done, status=201, headers={"location": f"{PREFIX}/handoffs/{done['id']}"})

    async def handoff_show(self, id: HandoffId) -> Response:
        """Read a handoff. With all that happened to it."""
        return answer(await self._handoffs.show(id))

    async def handoff_claim(self, id: HandoffId, asked: Annotated[ClaimGiven, Body()]) -> Response:
        """Claim a handoff. From then on it is the caller's alone, on all machines, until its lease ends; the answer has
        everything it needs in a budget of tokens. Claiming what one holds renews it."""
        return answer(_claimed(await self._handoffs.claim(id, author=author(), **asked.model_dump())))

    async def handoff_claim_best(self, asked: Annotated[ClaimBestGiven, Body()]) -> Response:
        """Claim the best open handoff for the caller. As a claim of one by its id; 404 when there is none."""
        return answer(_claimed(await self._handoffs.claim(None, author=author(), **asked.model_dump())))

    async def handoff_update(self, id: HandoffId, asked: Annotated[ReportGiven, Body()]) -> Response:
        """Report progress on a handoff that the caller holds. It renews the lease."""
        return answer(await self._handoffs.update(id, author=author(), **asked.model_dump()))

    async def handoff_complete(self, id: HandoffId, asked: Annotated[CompleteGiven, Body()]) -> Response:
        """Finish a handoff that the caller holds. What came of it is kept with it."""
        return answer(await self._handoffs.complete(id, author=author(), **asked.model_dump()))

    async def handoff_release(self, id: HandoffId, asked: Annotated[ReleaseGiven, Body()]) -> Response:
        """Give a handoff back, decline it, or withdraw one's own offer. `outcome` says which."""
        return answer(await self._handoffs.release(id, author=author(), **asked.model_dump()))

    # -- sync --------------------------------------------------------------------------------------------------

    async def sync_status(self) -> Response:
        """Say where the memory stands against its remote. In git's own words where something failed."""
        found = await self._operations.status()
        return answer({name: found[name] for name in ("sync", "syncing", "repos") if name in found})

    async def sync(self, asked: Annotated[SyncGiven, Body()]) -> Response:
        """Pull, then push. It says truthfully how it ended, and goes on behind the answer when it takes long."""
        return _synced(await self._operations.sync(repo=asked.repo, project=asked.project, wait=asked.wait))

    async def sync_pull(self, asked: Annotated[SyncGiven, Body()]) -> Response:
        """Fetch memories from the git remote and merge them. It goes on behind the answer when it takes long."""
        return _synced(await self._operations.pull(repo=asked.repo, project=asked.project, wait=asked.wait))

    async def sync_push(self, asked: Annotated[SyncGiven, Body()]) -> Response:
        """Push memories to the git remote. It goes on behind the answer when it takes long."""
        return _synced(await self._operations.push(repo=asked.repo, project=asked.project, wait=asked.wait))


def _claimed(done: Json) -> Json:
    """The answer to a claim. The first line of its text is the hub's and says what to do with it; what follows is not
    touched, for it is what others wrote."""
    first, end, others = done["text"].partition("\n")
    return {**done, "text": f"{with_routes(first)}{end}{others}"}


def _synced(done: Json) -> Response:
    return answer(done, status=202 if done["running"] else 200)
