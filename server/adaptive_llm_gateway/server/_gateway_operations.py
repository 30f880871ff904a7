"""What the hub's gateway can do, as JSON in and JSON out: the MCP tools and the command line both call these."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.core import AlgError, Home, InvalidInput, Settings, StorageError
from adaptive_llm_gateway.server._access import ACCESS, EVERYTHING, acting_for
from adaptive_llm_gateway.server._gateway_ask import OnPiece, ask_of, context_of, receipt_of_refusal, streamed, turns_of
from adaptive_llm_gateway.server._gateway_consents import ConsentOperations
from adaptive_llm_gateway.server._gateway_files import DEFAULT_POLICY_NAME
from adaptive_llm_gateway.server._gateway_json import (
    answered_json,
    health_json,
    messages_of,
    model_json,
    preview_json,
    texts_of,
    what_if_of,
)
from adaptive_llm_gateway.server._gateway_records import RecordOperations
from adaptive_llm_gateway.server._gateway_routes import RouteNotes
from adaptive_llm_gateway.server._gateway_setup import GatewaySetup
from adaptive_llm_gateway.server._operations import Operations
from adaptive_llm_gateway.server._underway import Underway

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import Ask, Gateway, Message, Mode, Receipt
    from adaptive_llm_gateway.server._quotas import ClientPurse

_log = logging.getLogger(__name__)

Json = dict[str, Any]

USUAL_PORTS: Final = "local servers at their usual ports (Ollama, LM Studio, llama.cpp, vLLM)"
_POLICY_FAILS: Final = "it does not hold, and no model is called; the person whose hub this is sees why"
CONFIG_CHANGED: Final = "config.yaml was changed after the hub began: `alg hub stop`, then ask again."
_UPKEEP_SECONDS: Final = 60.0
_PRUNE_SECONDS: Final = 6 * 3600.0
_AHEAD_SECONDS: Final = 2.0
_DRAIN_SECONDS: Final = 5.0


class GatewayOperations:
    """The operations over one gateway, which is made when the first of them needs it.

    Args:
        memory: where context comes from, and where is kept how models fared.
        host: this machine, as memories name it.
        upkeep: seconds from one look at what is to be done in the background to the next.
        mark_key: with which the marks in the place of secrets are made.
        purse: what the caller of the current task may use, where that is bounded or counted.

    Attributes:
        consents, records: the operations on those.
        on_receipt: called with each receipt once it is stored; from any thread, and they must be quick.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        memory: Operations,
        *,
        host: str,
        upkeep: float = _UPKEEP_SECONDS,
        mark_key: bytes | None = None,
        purse: Callable[[], ClientPurse | None] = lambda: None,
    ) -> None:
        self._purse = purse
        self._settings = settings
        self._memory = memory
        self.on_receipt: list[Callable[[Receipt], None]] = []
        self._notes = RouteNotes(host, learn=settings.gateway.learn)
        self._setup = GatewaySetup(
            home,
            settings,
            mode=lambda: memory.modes.mode,
            on_receipt=self._stored,
            experience=self._notes.experience,
            mark_key=mark_key,
        )
        self.consents = ConsentOperations(self._gateway, self._setup.files)
        self.records = RecordOperations(self._gateway, self._setup.files, settings, memory)
        self._underway = Underway()
        self._upkeep: asyncio.Task[None] | None = None
        self._upkeep_seconds = upkeep
        self._changing: asyncio.Task[None] | None = None
        memory.modes.listeners.append(self._mode_changed)

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self._underway

    async def load_ahead(self) -> None:
        """Load what the first request would wait seconds for, where a provider is configured: once the store is open,
        and those who started the hub have had their first answers. Nobody is asked anything."""
        kinds = {each.kind for each in self._settings.providers.values() if each.enabled} - {"built_in"}
        if not kinds:
            return
        with contextlib.suppress(AlgError):
            await self._memory.store()
        await asyncio.sleep(_AHEAD_SECONDS)
        from adaptive_llm_gateway.gateway import load_ahead  # noqa: PLC0415 - after the hub listens

        await asyncio.to_thread(load_ahead, anthropic="anthropic" in kinds)

    async def settle(self) -> None:
        """Let requests end that have begun (for a moment), and keep how models fared while there is a memory."""
        if self._upkeep is not None:
            self._upkeep.cancel()
        self._notes.stop()
        await self._underway.ended(_DRAIN_SECONDS)
        await self._remember()

    async def close(self) -> None:
        """Close the connections to providers."""
        await self._setup.close()

    # -- requests ----------------------------------------------------------------------------------------------

    async def gateway_complete(self, prompt: str, *, system: str | None = None, **given: Any) -> Json:
        """A model's answer to a prompt; see `ask_of` for what else may be given."""
        return await self._chat("complete", turns_of(prompt, system), None, **given)

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
        purse = self._purse()
        with self._request(purse):
            gateway, ask, told = await self._prepared(ask_of(operation, messages=messages, **given), context, purse)
            if on_piece is None:
                answered = await gateway.answer(ask, purse=purse)
            else:
                answered = await streamed(gateway, ask, on_piece, purse)
            return answered_json(answered, operation, told)

    async def gateway_embed(self, texts: Sequence[str] | str, **given: Any) -> Json:
        """A vector for each text."""
        purse = self._purse()
        with self._request(purse):
            asked = ask_of("embed", texts=texts_of(texts, "texts"), **given)
            gateway, ask, _ = await self._prepared(asked, None, purse)
            return answered_json(await gateway.answer(ask, purse=purse), "embed", None)

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
        purse = self._purse()
        with self._request(purse):
            turns = (
                messages_of(messages) if messages is not None else () if texts is not None else turns_of(prompt, system)
            )
            ask = ask_of(
                "route_preview",
                messages=turns,
                texts=() if texts is None else texts_of(texts, "texts"),
                # The purpose of what it stands for: the policy may tell them apart.
                purpose=purpose or ("embed" if texts is not None else "chat" if messages is not None else "complete"),
                **given,
            )
            assumed = what_if_of(what_if)
            gateway, ask, _ = await self._prepared(ask, context, purse)
            preview = await gateway.preview(ask, assumed, stream=stream, purse=purse)
            if preview.error is not None:
                self._explain(preview.error, purse)
            return preview_json(preview)

    async def gateway_health(self, *, probe: bool = False) -> Json:
        """How each provider is. With `probe`, the first chat model of local ones answers a token."""
        gateway = await self._gateway()
        with self._underway.one():
            found = await gateway.health(probe=probe)
        problem = self._setup.problem
        error = None if problem is None else str(problem) if _tells_places() else _POLICY_FAILS
        return {
            "mode": gateway.mode,
            "mode_problem": self._memory.modes.problem,
            "policy": {"source": self._policy_source(), "error": error},
            "providers": [health_json(each) for each in found],
            "config_changed": self._setup.outdated,
            "looked_for": [USUAL_PORTS] if self._settings.gateway.discover else [],
        }

    async def gateway_models(self) -> Json:
        """Every model that routing sees, and the routes."""
        gateway = await self._gateway()
        with self._underway.one():
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

    @contextlib.contextmanager
    def _request(self, purse: ClientPurse | None) -> Generator[None]:
        with self._underway.one():
            try:
                yield
            except AlgError as error:
                self._explain(error, purse)
                raise

    def _explain(self, error: AlgError, purse: ClientPurse | None) -> None:
        """Say what is left to a client where that may be why; and so where a change of the configuration may be: who
        adds a provider expects it to be asked."""
        if purse is not None and purse.bounded and error.code == "over_budget":
            error.hint = f"{error.hint} {purse.told}" if error.hint else purse.told
        if self._setup.outdated:
            error.hint = f"{error.hint} {CONFIG_CHANGED}" if error.hint else CONFIG_CHANGED

    async def _prepared(
        self, ask: Ask, context: Mapping[str, Any] | None, purse: ClientPurse | None
    ) -> tuple[Gateway, Ask, Json | None]:
        """The gateway, the request with its context and with no more of a budget than the purse has, and what is told
        of the context. What is refused here has a receipt."""
        gateway = await self._gateway()
        try:
            if (problem := self._setup.problem) is not None:
                raise problem
            if purse is not None:
                await purse.ready()
                left, budget = purse.micro_cents, ask.budget if ask.budget is not None else gateway.config.budget
                if left is not None:
                    ask = replace(ask, budget=left if budget is None else min(left, budget))
            if context is None:
                return gateway, ask, None
            found, told = await context_of(self._memory, context, ask)
        except AlgError as error:
            receipt = receipt_of_refusal(ask, error)
            error.details["receipt"] = receipt.id
            try:
                await asyncio.to_thread(gateway.receipts.file, receipt)
            except AlgError as problem:  # the first error is the one to mend
                error.details["receipt_not_stored"] = problem.message
            raise
        return gateway, replace(ask, context=found), told

    async def _gateway(self) -> Gateway:
        first = self._setup.made is None
        gateway = await self._setup.gateway()
        if first and self._upkeep is None:
            with acting_for(EVERYTHING):  # what goes on behind the first request is the hub's own
                self._upkeep = asyncio.create_task(self._keep_up())
                await self._notes.ready(self._memory)
        return gateway

    def _mode_changed(self, mode: Mode) -> None:
        """Take on the mode now, also for requests that are under way."""
        if (gateway := self._setup.made) is not None:
            self._changing = asyncio.get_running_loop().create_task(gateway.set_mode(mode))

    def _stored(self, receipt: Receipt) -> None:
        self._notes.add(receipt)
        for tell in self.on_receipt:
            tell(receipt)

    def _policy_source(self) -> str:
        path = self._setup.files.policy
        if not path.exists():
            return DEFAULT_POLICY_NAME
        return str(path) if _tells_places() else path.name

    # -- in the background -------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Once in a while, when nothing else is done: old receipts go, and how models fared is remembered."""
        pruned_at: float | None = None
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._upkeep_seconds)
            if not self.idle:
                continue
            await self._remember(look=True)
            if pruned_at is None or clock() - pruned_at >= _PRUNE_SECONDS:
                pruned_at = clock()
                try:
                    if not await asyncio.to_thread(self.records.too_much):
                        continue
                    gone = await self.records.receipts_prune()
                    if gone["files"]:
                        _log.info("%d old receipts were removed, %d bytes", gone["receipts"], gone["bytes"])
                except StorageError as error:
                    _log.warning("old receipts could not be removed: %s", error)

    async def _remember(self, *, look: bool = False) -> None:
        try:
            await self._notes.remember(self._memory)
            if look:
                await self._notes.look(self._memory)
        except Exception as error:  # noqa: BLE001 - it is kept, and written the next time
            _log.warning("how models fared could not be remembered: %s", error)


def _tells_places() -> bool:
    """Whether the caller is told where files of the hub's machine lie, and what they say."""
    access = ACCESS.get()
    return access.client is None or "admin" in access.scopes
