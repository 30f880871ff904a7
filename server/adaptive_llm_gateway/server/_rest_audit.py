"""The audit log over REST: for whoever has the scope `admin`, since it tells of everybody."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Query as InQuery
from pydantic import Field
from starlette.responses import Response

from adaptive_llm_gateway.server._audit_files import AuditFiles
from adaptive_llm_gateway.server._audit_read import audit_query, check_json, newest
from adaptive_llm_gateway.server._rest_models import Json, Query, Told, UpTo1000
from adaptive_llm_gateway.server._rest_route import Route, answer
from adaptive_llm_gateway.server._services import Services


class AuditAsked(Query):
    """Which entries to list."""

    limit: UpTo1000 = Field(50, description="Most entries")
    client: str | None = Field(None, description="Only of this client; `-`: of those without a token")
    since: str | None = Field(None, description="Since: an ISO date or time, or an age such as 7d")
    until: str | None = Field(None, description="Until: as `since`")
    action: str | None = Field(None, description="Only this tool or route, with `*` and `?` as in a shell")
    outcome: str | None = Field(None, description="`ok`, `refused`, `failed`, or the code of an error")


class AuditTold(Told):
    """The newest entries first."""

    entries: list[Json]


class AuditVerified(Told):
    """Whether the log is as it was written; `last` is the hash of the newest entry."""

    holds: bool
    last: str | None
    files: list[Json]


class AuditRoutes:
    """The routes, as bound functions whose names are the ids of the operations."""

    def __init__(self, services: Services) -> None:
        self._files = AuditFiles(services.home.audit)

    def table(self) -> list[Route]:
        """Every route."""
        return [
            Route(method="GET", path="/audit", run=self.audit_list, tag="audit", answer=AuditTold),
            Route(method="GET", path="/audit/verify", run=self.audit_verify, tag="audit", answer=AuditVerified),
        ]

    async def audit_list(self, asked: Annotated[AuditAsked, InQuery()]) -> Response:
        """List who did what when, allowed or refused, the newest first. What is being asked now is not in it yet."""
        query = audit_query(
            client=asked.client,
            since=asked.since or None,
            until=asked.until or None,
            action=asked.action,
            outcome=asked.outcome,
        )
        return answer({"entries": await asyncio.to_thread(newest, self._files, query, limit=asked.limit)})

    async def audit_verify(self) -> Response:
        """Say whether the audit log is as it was written. It reads all of it."""
        found = check_json(await asyncio.to_thread(self._files.verify))
        return answer({name: found[name] for name in ("holds", "last", "files")})
