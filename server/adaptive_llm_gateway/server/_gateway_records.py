"""Receipts and runs, as JSON in and JSON out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, get_args

from adaptive_llm_gateway.core import InvalidInput, Settings, is_ulid, ulid_milliseconds
from adaptive_llm_gateway.server._access import ACCESS
from adaptive_llm_gateway.server._gateway_files import GatewayFiles
from adaptive_llm_gateway.server._gateway_json import break_json, filed_json, one_of, plain, receipt_line
from adaptive_llm_gateway.server._operations import Operations
from adaptive_llm_gateway.server._times import LOCAL, moment

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import FiledReceipt, Gateway, Outcome, Receipt

Json = dict[str, Any]

_LOOKED_AT: Final = 100_000
"""Receipts among which those are looked for that somebody sees who does not see all."""
_SEARCHED: Final = 1_000
"""Receipts among which an end of an id is looked for."""
_MOST_KEPT: Final = 100_000_000  # days or megabytes
_MB: Final = 1024 * 1024


class RecordOperations:
    """What may be done with receipts and runs.

    Whoever does not see all memories has the receipts of its own requests, and of them those whose context it sees.

    Args:
        gateway: gives the gateway, made if it has to be.
        memory: what was context comes from there.
    """

    def __init__(
        self,
        gateway: Callable[[], Awaitable[Gateway]],
        files: GatewayFiles,
        settings: Settings,
        memory: Operations,
    ) -> None:
        self._gateway = gateway
        self._memory = memory
        self._files = files
        self._settings = settings.gateway

    async def receipts_list(
        self, *, limit: int = 20, outcome: str | None = None, since: str | None = None, own: bool = False
    ) -> Json:
        """The newest receipts first; with `own`, those of the caller's requests."""
        from adaptive_llm_gateway.gateway import Outcome  # noqa: PLC0415 - after the hub listens

        known: tuple[Outcome, ...] = get_args(Outcome)
        if outcome is not None and outcome not in known:
            raise InvalidInput(f"'outcome' is {outcome!r}", hint=f"Allowed: {', '.join(known)}.")
        if not 1 <= limit <= 1000:
            raise InvalidInput(f"'limit' is {limit!r}", hint="Allowed: 1 to 1000.")
        begin = moment(since, "since", zone=LOCAL) if since else None
        found = await self._listed(limit=limit, outcome=outcome, since=begin, own=own)
        return {"receipts": [receipt_line(filed.receipt) for filed in found]}

    async def _listed(
        self, *, limit: int, own: bool, outcome: Outcome | None = None, since: datetime | None = None
    ) -> tuple[FiledReceipt, ...]:
        """The newest receipts that the caller sees; with `own`, those of its requests."""
        gateway = await self._gateway()
        access = ACCESS.get()
        every = access.sees_all
        most = limit if every else _LOOKED_AT
        owner = access.owner or "" if own or not every else None
        found = await asyncio.to_thread(
            lambda: gateway.receipts.list(limit=most, outcome=outcome, since=since, owner=owner)
        )
        return found if every else tuple([filed for filed in found if await self._shows(filed.receipt)][:limit])

    async def _shows(self, receipt: Receipt) -> bool:
        """Whether the caller, who does not see all memories, sees a receipt."""
        if not _is_own(receipt):
            return False
        store = await self._memory.store()
        ids = {ref.id for ref in receipt.context}
        return not ids or await asyncio.to_thread(lambda: all(store.record(id_) is not None for id_ in ids))

    async def receipts_show(self, id: str, *, own: bool = False) -> Json:
        """One receipt whole; the end of its id is enough where it is the only one among the newest. With `own`, one of
        the caller's requests."""
        filed = await self._receipt(id, own=own)
        receipt = filed.receipt
        day = datetime.fromtimestamp(ulid_milliseconds(receipt.id) / 1000, UTC).strftime("%Y-%m-%d")
        return filed_json(filed, str(self._files.folder / "runs" / day / receipt.id))

    async def receipts_verify(self) -> Json:
        """Whether all receipts are as they were written."""
        gateway = await self._gateway()
        check = await asyncio.to_thread(gateway.receipts.verify)
        return {
            "holds": check.holds,
            "files": [
                {
                    "file": each.file,
                    "receipts": each.receipts,
                    "last": each.last,
                    "torn": each.torn,
                    "broken": break_json(each.broken),
                }
                for each in check.files
            ],
            "runs": list(check.runs),
            "unfinished": list(check.unfinished),
            "path": str(self._files.folder / "receipts"),
        }

    async def receipts_prune(self, *, days: int | None = None, mb: int | None = None) -> Json:
        """Remove the oldest receipts and runs, by age and size; without either, as the configuration says."""
        section = self._settings
        if days is None and mb is None:
            days, mb = section.retention_days, section.retention_mb
        for name, value in (("days", days), ("mb", mb)):
            if value is not None and not 0 <= value <= _MOST_KEPT:
                raise InvalidInput(f"{name!r} is {value!r}", hint=f"Allowed: 0 to {_MOST_KEPT:,}.")
        gateway = await self._gateway()
        gone = await asyncio.to_thread(
            lambda: gateway.receipts.prune(
                datetime.now(UTC),
                max_age=None if days is None else timedelta(days=days),
                max_bytes=None if mb is None else mb * _MB,
            )
        )
        return {"files": list(gone.files), "receipts": gone.receipts, "bytes": gone.bytes}

    async def runs_rebuild(self) -> Json:
        """Make run folders anew that are missing or differ, each from its receipt."""
        gateway = await self._gateway()
        return {"rebuilt": list(await asyncio.to_thread(gateway.receipts.rebuild_runs))}

    async def runs_replay(self, id: str) -> Json:
        """Plan a request once more, as things were and as they are now, and say what differs."""
        filed = await self._receipt(id)
        gateway = await self._gateway()
        replay = await gateway.replay(filed.receipt.id)
        return {
            "receipt": replay.receipt,
            "reproduces": replay.reproduces,
            "differences": list(replay.differences),
            "then": plain(replay.then),
            "now": plain(replay.now),
        }

    async def _receipt(self, id: str, *, own: bool = False) -> FiledReceipt:
        from adaptive_llm_gateway.gateway import no_receipt  # noqa: PLC0415 - after the hub listens

        gateway = await self._gateway()
        if not is_ulid(id):
            newest = await self._listed(limit=_SEARCHED, own=own)
            id = one_of(id, [filed.receipt.id for filed in newest], "receipt")
        filed = await asyncio.to_thread(gateway.receipts.show, id)
        others = own and not _is_own(filed.receipt)
        if others or not (ACCESS.get().sees_all or await self._shows(filed.receipt)):
            raise no_receipt(id)
        return filed

    def too_much(self) -> bool:
        """Whether there may be receipts to remove. To remove some means to read all, and requests wait for it."""
        section = self._settings
        try:
            files = sorted((self._files.folder / "receipts").glob("*.jsonl"))
            size = sum(path.stat().st_size for path in files)
        except OSError:
            return True
        oldest = (datetime.now(UTC) - timedelta(days=section.retention_days + 1)).strftime("%Y-%m-%d")
        # The runs hold what the lines do once more.
        return bool(files) and (files[0].name < oldest or 2 * size > section.retention_mb * _MB)


def _is_own(receipt: Receipt) -> bool:
    """Whether the caller, who has a token, asked for it. A name is not enough: a receipt has the whole question."""
    owner = ACCESS.get().owner
    return owner is not None and receipt.request.owner == owner
