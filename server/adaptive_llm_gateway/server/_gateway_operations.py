"""What the hub's gateway can do, as JSON in and JSON out: the MCP tools and the command line both call these."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, get_args

from adaptive_llm_gateway.compression import DEFAULT_BUDGET
from adaptive_llm_gateway.core import (
    AlgError,
    Home,
    InvalidInput,
    NotFound,
    Settings,
    StorageError,
    Trust,
    is_ulid,
    new_ulid,
    ulid_milliseconds,
)
from adaptive_llm_gateway.server._gateway_files import DEFAULT_POLICY_NAME
from adaptive_llm_gateway.server._gateway_json import (
    answered_json,
    break_json,
    consent_json,
    expiry,
    filed_json,
    health_json,
    messages_of,
    model_json,
    plain,
    preview_json,
    receipt_line,
    texts_of,
    trust_of,
    what_if_of,
)
from adaptive_llm_gateway.server._gateway_routes import RouteNotes
from adaptive_llm_gateway.server._gateway_setup import GatewaySetup
from adaptive_llm_gateway.server._operations import Operations
from adaptive_llm_gateway.server._times import LOCAL, moment

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import (
        Answered,
        Ask,
        ContextGiven,
        FiledReceipt,
        Gateway,
        Message,
        Outcome,
        Receipt,
    )

_log = logging.getLogger(__name__)

Json = dict[str, Any]
OnPiece = Callable[[str], Awaitable[None]]

USUAL_PORTS: Final = "local servers at their usual ports (Ollama, LM Studio, llama.cpp, vLLM)"
_CONTEXT: Final = ("query", "budget", "project", "session_id", "type", "max_trust")
_UPKEEP_SECONDS: Final = 60.0
_PRUNE_SECONDS: Final = 6 * 3600.0
_DRAIN_SECONDS: Final = 5.0
_SEARCHED: Final = 1_000
"""Receipts among which an end of an id is looked for."""
_LONGEST: Final = 16_000
"""Characters of a message that the receipt of a refusal has."""
_MB: Final = 1024 * 1024


class GatewayOperations:
    """The operations over one gateway, which is made when the first of them needs it.

    Args:
        memory: where context comes from, and where is kept how models fared.
        host: this machine, as memories name it.
        upkeep: seconds from one look at what is to be done in the background to the next.
    """

    def __init__(
        self, home: Home, settings: Settings, memory: Operations, *, host: str, upkeep: float = _UPKEEP_SECONDS
    ) -> None:
        self._settings = settings
        self._memory = memory
        self._notes = RouteNotes(host)
        self._setup = GatewaySetup(home, settings, mode=lambda: memory.modes.mode, on_receipt=self._notes.add)
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._upkeep: asyncio.Task[None] | None = None
        self._upkeep_seconds = upkeep

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self._active

    async def settle(self) -> None:
        """Let requests end that have begun (for a moment), and keep how models fared while there is a memory."""
        if self._upkeep is not None:
            self._upkeep.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), _DRAIN_SECONDS)
        await self._remember()

    async def close(self) -> None:
        """Close the connections to providers."""
        await self._setup.close()

    # -- requests ----------------------------------------------------------------------------------------------

    async def gateway_complete(self, prompt: str, *, system: str | None = None, **given: Any) -> Json:
        """A model's answer to a prompt; see `_ask` for what else may be given."""
        return await self._chat("complete", _turns(prompt, system), None, **given)

    async def gateway_chat(
        self, messages: Sequence[Mapping[str, Any]], *, context: Mapping[str, Any] | None = None, **given: Any
    ) -> Json:
        """A model's answer to a conversation, with what the memory knows about it where a `context` is asked for."""
        return await self._chat("chat", messages_of(messages), context, **given)

    async def _chat(
        self,
        operation: Any,
        messages: tuple[Message, ...],
        context: Mapping[str, Any] | None,
        *,
        on_piece: OnPiece | None = None,
        **given: Any,
    ) -> Json:
        with self._busy():
            gateway, ask, told = await self._prepared(_ask(operation, messages=messages, **given), context)
            answered = await (gateway.answer(ask) if on_piece is None else _streamed(gateway, ask, on_piece))
            return answered_json(answered, operation, told)

    async def gateway_embed(self, texts: Sequence[str] | str, **given: Any) -> Json:
        """A vector for each text."""
        with self._busy():
            gateway, ask, _ = await self._prepared(_ask("embed", texts=texts_of(texts, "texts"), **given), None)
            return answered_json(await gateway.answer(ask), "embed", None)

    async def gateway_route_preview(
        self,
        prompt: str = "",
        *,
        messages: Sequence[Mapping[str, Any]] | None = None,
        texts: Sequence[str] | str | None = None,
        system: str | None = None,
        context: Mapping[str, Any] | None = None,
        what_if: Mapping[str, Any] | None = None,
        purpose: str | None = None,
        stream: bool = False,
        **given: Any,
    ) -> Json:
        """What would become of a request. Nothing is sent."""
        if sum(each is not None and each != "" for each in (prompt, messages, texts)) != 1:
            raise InvalidInput("there is not one thing to plan for", hint="Give prompt, messages or texts.")
        with self._busy():
            turns = (
                messages_of(messages) if messages is not None else () if texts is not None else _turns(prompt, system)
            )
            ask = _ask(
                "route_preview",
                messages=turns,
                texts=() if texts is None else texts_of(texts, "texts"),
                # The purpose of what it stands for: the policy may tell them apart.
                purpose=purpose or ("embed" if texts is not None else "chat" if messages is not None else "complete"),
                **given,
            )
            assumed = what_if_of(what_if)
            gateway, ask, _ = await self._prepared(ask, context)
            return preview_json(await gateway.preview(ask, assumed, stream=stream))

    async def gateway_health(self, *, probe: bool = False) -> Json:
        """How each provider is. With `probe`, the first chat model of local ones answers a token."""
        gateway = await self._gateway()
        with self._busy():
            found = await gateway.health(probe=probe)
        problem = self._setup.problem
        return {
            "mode": gateway.mode,
            "mode_problem": self._memory.modes.problem,
            "policy": {"source": self._policy_source(), "error": None if problem is None else str(problem)},
            "providers": [health_json(each) for each in found],
            "looked_for": [USUAL_PORTS] if self._settings.gateway.discover else [],
        }

    async def gateway_models(self) -> Json:
        """Every model that routing sees, and the routes."""
        gateway = await self._gateway()
        with self._busy():
            states = await gateway.models()
        return {
            "models": [
                {
                    "provider": state.name,
                    "where": "hosted" if model.remote else state.provider_class,
                    "model": model.name,
                    **{name: value for name, value in model_json(model).items() if name != "name"},
                }
                for state in states
                for model in state.models
            ],
            "routes": [{"name": route.name, "models": list(route.models)} for route in gateway.config.routes],
        }

    async def _prepared(self, ask: Ask, context: Mapping[str, Any] | None) -> tuple[Gateway, Ask, Json | None]:
        """The gateway, the request with its context, and what is told of that. What is refused here has a receipt."""
        gateway = await self._gateway()
        try:
            if (problem := self._setup.problem) is not None:
                raise problem
            if context is None:
                return gateway, ask, None
            found, told = await self._context(context, ask)
        except AlgError as error:
            receipt = _refused(ask, error)
            await asyncio.to_thread(gateway.receipts.file, receipt)
            error.details["receipt"] = receipt.id
            raise
        return gateway, replace(ask, context=found), told

    async def _context(self, given: Mapping[str, Any], ask: Ask) -> tuple[ContextGiven | None, Json]:
        """What the memory knows, as it goes into the request, and what is told of it."""
        if unknown := sorted(set(given) - set(_CONTEXT)):
            raise InvalidInput(f"`context` has {unknown[0]!r}", hint=f"It may have: {', '.join(_CONTEXT)}.")
        budget = given.get("budget") or DEFAULT_BUDGET
        if not isinstance(budget, int):
            raise InvalidInput(f"`context` has the budget {budget!r}", hint="Give a number of tokens, such as 2000.")
        from adaptive_llm_gateway.gateway import ContextGiven, ContextRef  # noqa: PLC0415 - after the hub listens

        last = next((message.text for message in reversed(ask.messages) if message.role == "user"), "")
        package = await self._memory.context(
            str(given.get("query") or last),
            budget_tokens=budget,
            project=given.get("project") or ask.project,
            session_id=given.get("session_id"),
            type=given.get("type"),
            max_trust=given.get("max_trust"),
        )
        told = {
            "tokens": package["used"],
            "tokens_from": package["candidates_tokens"],
            "budget": package["budget"],
            "trust": package["trust"],
            "sources": [
                {name: source[name] for name in ("id", "type", "title", "version", "trust")}
                for source in package["sources"]
            ],
            "notices": package["notices"],
        }
        if not package["sources"]:
            return None, told
        refs = tuple(
            ContextRef(source["id"], source["version"], trust_of(source["trust"])) for source in package["sources"]
        )
        return ContextGiven(package["text"], refs, package["used"], package["candidates_tokens"]), told

    async def _gateway(self) -> Gateway:
        first = self._setup.made is None
        gateway = await self._setup.gateway()
        if first and self._upkeep is None:
            self._upkeep = asyncio.create_task(self._keep_up())
        return gateway

    @contextlib.contextmanager
    def _busy(self) -> Generator[None]:
        self._active += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self._quiet.set()

    # -- consents ----------------------------------------------------------------------------------------------

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
        whole = _one_of(id, [record.consent.id for record in records], "consent")
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
            "path": str(self._setup.files.folder / "consents.jsonl"),
        }

    async def consent_set_aside(self) -> Json:
        """Rename a broken ledger, so that a new one begins."""
        gateway = await self._gateway()
        path = await asyncio.to_thread(gateway.ledger.set_aside, datetime.now(UTC))
        return {"path": str(path)}

    # -- receipts and runs -------------------------------------------------------------------------------------

    async def receipts_list(self, *, limit: int = 20, outcome: str | None = None, since: str | None = None) -> Json:
        """The newest receipts first."""
        from adaptive_llm_gateway.gateway import Outcome  # noqa: PLC0415 - after the hub listens

        known: tuple[Outcome, ...] = get_args(Outcome)
        if outcome is not None and outcome not in known:
            raise InvalidInput(f"'outcome' is {outcome!r}", hint=f"Allowed: {', '.join(known)}.")
        if not 1 <= limit <= 1000:
            raise InvalidInput(f"'limit' is {limit!r}", hint="Allowed: 1 to 1000.")
        begin = moment(since, "since", zone=LOCAL) if since else None
        gateway = await self._gateway()
        found = await asyncio.to_thread(lambda: gateway.receipts.list(limit=limit, outcome=outcome, since=begin))
        return {"receipts": [receipt_line(filed.receipt) for filed in found]}

    async def receipts_show(self, id: str) -> Json:
        """One receipt whole; the end of its id is enough where it is the only one among the newest."""
        filed = await self._receipt(id)
        receipt = filed.receipt
        day = datetime.fromtimestamp(ulid_milliseconds(receipt.id) / 1000, UTC).strftime("%Y-%m-%d")
        return filed_json(filed, str(self._setup.files.folder / "runs" / day / receipt.id))

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
            "path": str(self._setup.files.folder / "receipts"),
        }

    async def receipts_prune(self, *, days: int | None = None, mb: int | None = None) -> Json:
        """Remove the oldest receipts and runs, by age and size; without either, as the configuration says."""
        section = self._settings.gateway
        if days is None and mb is None:
            days, mb = section.retention_days, section.retention_mb
        if (days is not None and days < 0) or (mb is not None and mb < 0):
            raise InvalidInput(f"{days} days and {mb} MB are not both 0 or more", hint="Give 0 or more.")
        gateway = await self._gateway()
        gone = await asyncio.to_thread(
            lambda: gateway.receipts.prune(
                datetime.now(UTC),
                max_age=None if days is None else timedelta(days=days),
                max_bytes=None if mb is None else mb * _MB,
            )
        )
        return {"files": list(gone.files), "receipts": gone.receipts, "bytes": gone.bytes}

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

    async def _receipt(self, id: str) -> FiledReceipt:
        gateway = await self._gateway()
        if not is_ulid(id):
            newest = await asyncio.to_thread(lambda: gateway.receipts.list(limit=_SEARCHED))
            id = _one_of(id, [filed.receipt.id for filed in newest], "receipt")
        return await asyncio.to_thread(gateway.receipts.show, id)

    def _policy_source(self) -> str:
        path = self._setup.files.policy
        return str(path) if path.exists() else DEFAULT_POLICY_NAME

    # -- in the background -------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Once in a while, when nothing else is done: old receipts go, and how models fared is remembered."""
        pruned_at: float | None = None
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._upkeep_seconds)
            if not self.idle:
                continue
            await self._remember()
            if pruned_at is None or clock() - pruned_at >= _PRUNE_SECONDS:
                pruned_at = clock()
                try:
                    if not await asyncio.to_thread(self._too_much):
                        continue
                    gone = await self.receipts_prune()
                    if gone["files"]:
                        _log.info("%d old receipts were removed, %d bytes", gone["receipts"], gone["bytes"])
                except StorageError as error:
                    _log.warning("old receipts could not be removed: %s", error)

    def _too_much(self) -> bool:
        """Whether there may be receipts to remove. To remove some means to read all, and requests wait for it."""
        section = self._settings.gateway
        try:
            files = sorted((self._setup.files.folder / "receipts").glob("*.jsonl"))
            size = sum(path.stat().st_size for path in files)
        except OSError:
            return True
        oldest = (datetime.now(UTC) - timedelta(days=section.retention_days + 1)).strftime("%Y-%m-%d")
        # The runs hold what the lines do once more.
        return bool(files) and (files[0].name < oldest or 2 * size > section.retention_mb * _MB)

    async def _remember(self) -> None:
        try:
            await self._notes.remember(self._memory)
        except Exception as error:  # noqa: BLE001 - it is kept, and written the next time
            _log.warning("how models fared could not be remembered: %s", error)


def _turns(prompt: str, system: str | None) -> tuple[Message, ...]:
    from adaptive_llm_gateway.gateway import Message  # noqa: PLC0415 - after the hub listens

    return (*([Message("system", system)] if system else []), Message("user", prompt))


def _ask(
    operation: Any,
    *,
    messages: tuple[Message, ...] = (),
    texts: tuple[str, ...] = (),
    context: ContextGiven | None = None,
    model: str = "auto",
    trust: str | None = None,
    purpose: str | None = None,
    project: str | None = None,
    client: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    json: bool = False,
    stop: Sequence[str] | str | None = None,
    fallback: bool = True,
    budget: int | None = None,
    deadline: float | None = None,
) -> Ask:
    from adaptive_llm_gateway.gateway import Ask  # noqa: PLC0415 - after the hub listens

    return Ask(
        operation,
        messages=messages,
        texts=texts,
        model=model or "auto",
        trust=None if trust is None else trust_of(trust),
        purpose=purpose or None,
        project=project or None,
        client=client,
        max_tokens=max_tokens,
        temperature=temperature,
        json=json,
        stop=() if stop is None else texts_of(stop, "stop"),
        context=context,
        fallback=fallback,
        budget=budget,
        deadline=deadline,
    )


async def _streamed(gateway: Gateway, ask: Ask, on_piece: OnPiece) -> Answered:
    from adaptive_llm_gateway.gateway import Piece  # noqa: PLC0415 - after the hub listens

    answered: Answered | None = None
    async with contextlib.aclosing(gateway.stream(ask)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Piece):
                await on_piece(piece.text)
            else:
                answered = piece
    assert answered is not None  # noqa: S101 - a stream ends with it, or raises
    return answered


def _refused(ask: Ask, problem: AlgError) -> Receipt:
    """The receipt of a request that was refused before anything was looked at."""
    from adaptive_llm_gateway.gateway import (  # noqa: PLC0415 - after the hub listens
        LevelReason,
        Receipt,
        ReceiptLevel,
        ReceiptMessage,
        ReceiptRequest,
    )

    level = ask.trust or Trust.SECRET
    why = "it was declared" if ask.trust else "nothing was looked at, so it counts as the highest"
    return Receipt(
        id=new_ulid(),
        at=datetime.now(UTC),
        outcome="refused",
        why=problem.message,
        request=ReceiptRequest(
            operation=ask.operation,
            purpose=ask.purpose or ask.operation,
            project=ask.project,
            client=ask.client,
            model=ask.model,
            messages=tuple(ReceiptMessage(message.role, message.text[:_LONGEST]) for message in ask.messages),
            texts=tuple(text[:_LONGEST] for text in ask.texts),
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            json=ask.json,
            stop=ask.stop,
        ),
        level=ReceiptLevel(level, (LevelReason("declared" if ask.trust else "default", level, why),)),
    )


def _one_of(text: str, ids: Sequence[str], what: str) -> str:
    """The one id that ends in a text."""
    found = [id_ for id_ in ids if id_.endswith(text.upper())] if text else []
    if len(found) != 1:
        problem = f"no {what} has" if not found else f"{len(found)} have"
        kind = InvalidInput if found else NotFound
        raise kind(
            f"{problem} an id that ends in {text!r}", hint=f"`alg {what}{'s' * (what == 'receipt')} list` shows them."
        )
    return found[0]
