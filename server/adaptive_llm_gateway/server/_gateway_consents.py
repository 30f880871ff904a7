"""The ledger of consents, as JSON in and JSON out. The command line alone calls these: no tool does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adaptive_llm_gateway.core import NotFound
from adaptive_llm_gateway.server._gateway_files import GatewayFiles
from adaptive_llm_gateway.server._gateway_json import break_json, consent_json, expiry, one_of, trust_of

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import Gateway

Json = dict[str, Any]


class ConsentOperations:
    """What may be done with consents.

    Args:
        gateway: gives the gateway, made if it has to be.
    """

    def __init__(self, gateway: Callable[[], Awaitable[Gateway]], files: GatewayFiles) -> None:
        self._gateway = gateway
        self._files = files

    async def consent_grant(
        self,
        provider: str,
        *,
        trust: str = "internal",
        purpose: str | None = None,
        project: str | None = None,
        expires: str | None = None,
        reason: str = "",
        by: str = "command-line",
    ) -> Json:
        """Allow a provider to be sent what is of `trust` or below."""
        gateway = await self._gateway()
        known = [each.name for each in gateway.config.providers]
        if provider not in known:  # it may be one that runs here and was found
            known = [state.name for state in await gateway.models()]
        if provider not in known:
            raise NotFound(
                f"there is no provider {provider!r}",
                hint=f"There are: {', '.join(known)}." if known else "Add one under `providers` in config.yaml.",
            )
        now = datetime.now(UTC)
        consent = await asyncio.to_thread(
            lambda: gateway.ledger.grant(
                provider=provider,
                level=trust_of(trust),
                now=now,
                by=by,
                purpose=purpose,
                project=project,
                expires=None if expires is None else expiry(expires, now),
                reason=reason,
            )
        )
        return await self._consent(consent.id)

    async def consent_revoke(self, id: str, *, reason: str = "", by: str = "command-line") -> Json:
        """Take a consent back; the end of its id is enough where it is the only one."""
        gateway = await self._gateway()
        records = await asyncio.to_thread(gateway.ledger.records)
        whole = one_of(id, [record.consent.id for record in records], "consent")
        now = datetime.now(UTC)
        await asyncio.to_thread(lambda: gateway.ledger.revoke(whole, now=now, by=by, reason=reason))
        return await self._consent(whole)

    async def _consent(self, id: str) -> Json:
        gateway = await self._gateway()
        records = await asyncio.to_thread(gateway.ledger.records)
        now = datetime.now(UTC)
        return next(consent_json(record, now) for record in records if record.consent.id == id)

    async def consent_list(self, *, all: bool = False) -> Json:
        """The consents that hold; with `all`, also those that expired or were revoked."""
        gateway = await self._gateway()
        check = await asyncio.to_thread(gateway.ledger.verify)
        now = datetime.now(UTC)
        records = () if check.broken else await asyncio.to_thread(gateway.ledger.records)
        return {
            "consents": [consent_json(record, now) for record in records if all or record.state(now) == "active"],
            "broken": break_json(check.broken),
        }

    async def consent_verify(self) -> Json:
        """Whether every entry of the ledger is as it was written."""
        gateway = await self._gateway()
        check = await asyncio.to_thread(gateway.ledger.verify)
        return {
            "holds": check.broken is None,
            "entries": check.entries,
            "last": check.last,
            "torn": check.torn,
            "broken": break_json(check.broken),
            "path": str(self._files.folder / "consents.jsonl"),
        }

    async def consent_set_aside(self) -> Json:
        """Rename a broken ledger, so that a new one begins."""
        gateway = await self._gateway()
        path = await asyncio.to_thread(gateway.ledger.set_aside, datetime.now(UTC))
        return {"path": str(path)}
