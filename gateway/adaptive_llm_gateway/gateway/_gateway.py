"""The gateway: a request's level, its plan, the calls, and the receipt. The one place from which a model is called."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, assert_never

from adaptive_llm_gateway.core import AlgError, InvalidInput, PersonalScanner, SecretScanner, Trust, new_ulid
from adaptive_llm_gateway.gateway._chain import ChainBroken
from adaptive_llm_gateway.gateway._config import GatewayConfig
from adaptive_llm_gateway.gateway._consents import Consent, Consents
from adaptive_llm_gateway.gateway._detection import LevelDecision, Part, detect, level_of
from adaptive_llm_gateway.gateway._experience import Experience
from adaptive_llm_gateway.gateway._hosted import HOSTED
from adaptive_llm_gateway.gateway._ledger import ConsentLedger
from adaptive_llm_gateway.gateway._policy import Policy, default_policy
from adaptive_llm_gateway.gateway._port import ProviderFailure, ProviderPort
from adaptive_llm_gateway.gateway._prices import NO_PRICES, Cost, PriceTable, charged
from adaptive_llm_gateway.gateway._purse import Purse, all_short, bounded, most_tokens, over_budget, settle
from adaptive_llm_gateway.gateway._receipt_values import Outcome, Receipt
from adaptive_llm_gateway.gateway._receipts import Receipts
from adaptive_llm_gateway.gateway._refusals import OverBudget, refusal
from adaptive_llm_gateway.gateway._replay import PlanInputs, Replay, compared, inputs_of, kept_inputs
from adaptive_llm_gateway.gateway._requests import NOTHING_ELSE, Answered, Ask, Preview, WhatIf, check
from adaptive_llm_gateway.gateway._retry import Again, FallBack, Stop, after_failure
from adaptive_llm_gateway.gateway._routing import Mode, ProviderState, RouteRequest, Step
from adaptive_llm_gateway.gateway._run import (
    NOT_STORED,
    Prepared,
    Run,
    messages_of,
    not_stored,
    purpose_of,
    with_receipt,
)
from adaptive_llm_gateway.gateway._states import ProviderHealth, Providers, located
from adaptive_llm_gateway.gateway._values import Finish, Message, ModelAnswer, ModelRequest, Piece, Usage

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway._config import ProviderConfig
    from adaptive_llm_gateway.gateway._discover import FoundServer
    from adaptive_llm_gateway.gateway._locality import Locality

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_PER_MESSAGE: Final = 4
"""Tokens that a message costs besides its text, in the formats of chats."""
_LONG: Final = 50_000
"""Characters from which on counting and scanning leave the event loop."""
_MAY_COST: Final = frozenset({"timeout", "broken", "incomplete", "cancelled"})
"""Failures of a provider that may have worked for it, and count it."""


async def _search() -> list[FoundServer]:
    from adaptive_llm_gateway.gateway._discover import local_servers  # noqa: PLC0415 - with the first request

    return await local_servers()


def _count_tokens(text: str) -> int:
    from adaptive_llm_gateway.compression import counter_for  # noqa: PLC0415 - brings the tokenizer along

    return counter_for().count(text)


class Gateway:
    """Calls models as policy, consent and trust levels let it. One event loop uses it; requests may run side by side.

    Args:
        folder: where consents, receipts and runs lie; it is made when needed.
        policy: None takes the default one.
        scanner: of credentials.
        ports: providers by name, instead of those that the configuration would make.
        locate: proves where a provider is.
        search: finds local servers that run, where the configuration lets it.
        count: the tokens of a text; it may take long, and is called in a thread where it does.
        now: with its time zone.
        clock: seconds that never go back.
        sleep: waits.
        jitter: from 0 up to 1.
        experience: how models fared, as it is known now; asked before each plan, so it must be at hand.
    """

    def __init__(
        self,
        config: GatewayConfig,
        folder: Path,
        *,
        scanner: SecretScanner,
        policy: Policy | None = None,
        prices: PriceTable = NO_PRICES,
        mode: Mode = "normal",
        ports: Mapping[str, ProviderPort] | None = None,
        locate: Callable[[ProviderConfig], Awaitable[Locality]] = located,
        search: Callable[[], Awaitable[list[FoundServer]]] = _search,
        count: Callable[[str], int] = _count_tokens,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        experience: Callable[[], tuple[Experience, ...]] = tuple,
    ) -> None:
        self.config = config
        self.policy = policy or default_policy()
        self._now = now
        self.prices = prices
        self.ledger = ConsentLedger(folder / "consents.jsonl", scanner=scanner)
        self.receipts = Receipts(folder, scanner=scanner)
        self._scanner = scanner
        self._personal = PersonalScanner(levels=config.personal, allowed=config.personal_allowed)
        self._mode: Mode = mode
        self._count = count
        self._warm = False
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._experience = experience
        self._providers = Providers(
            config.providers,
            breaker=config.breaker,
            clock=clock,
            mode=mode,
            given=ports,
            locate=locate,
            search=search if config.discover else None,
        )

    @property
    def prices(self) -> PriceTable:
        """The prices of today."""
        return self._prices.on(self._now().astimezone(UTC).date())

    @prices.setter
    def prices(self, table: PriceTable) -> None:
        # Who is reached at an address of the user's may charge anything, whatever its kind.
        kinds = {each.name: each.kind for each in self.config.providers if each.url is None}
        self._prices = table.for_providers(kinds)

    @property
    def mode(self) -> Mode:
        """What may be connected to."""
        return self._mode

    async def set_mode(self, mode: Mode) -> None:
        """Change the mode. A request that a hosted provider is answering is ended, where that is called no more."""
        self._mode = mode
        await self._providers.set_mode(mode)

    async def open(self) -> None:
        """Give requests that a killed process left under way their receipts. Nobody is called."""
        await asyncio.to_thread(self.receipts.recover)

    async def close(self) -> None:
        """Close every connection, and write what is left to write."""
        await self._providers.close()
        await asyncio.to_thread(self.receipts.close)

    async def models(self) -> tuple[ProviderState, ...]:
        """The providers with their models, as routing sees them."""
        await self._providers.ready()
        return self._providers.states()

    async def health(self, *, probe: bool = False) -> tuple[ProviderHealth, ...]:
        """Ask every provider whether it answers.

        Args:
            probe: have each local provider's first chat model answer one token, too.
        """
        found = await self._providers.health()
        return tuple([await self._probed(each) for each in found]) if probe else found

    # --- requests ---------------------------------------------------------------------------------------------

    async def answer(self, ask: Ask, *, purse: Purse | None = None) -> Answered:
        """A whole answer, from the first of the plan that gives one.

        Args:
            purse: what else, beside the request's budget, has to be enough for each call.

        Raises:
            AlgError: nobody may get the request, or nobody answered; `details["receipt"]` is its receipt's id.
        """
        if ask.embeds:
            return await self._answered(ask, self._embed, purse)
        return await self._answered(ask, self._chat, purse)

    async def stream(self, ask: Ask, *, purse: Purse | None = None) -> AsyncGenerator[Piece | Answered]:
        """The answer in pieces, and what it was as the last. Close it if you leave it.

        A stream that breaks after its first piece ends with a failure: nobody continues another's answer.

        Args:
            purse: as for `answer`.

        Raises:
            AlgError: as `answer`; after pieces were given, too.
        """
        run = Run(new_ulid(), self._now(), ask, self._clock, purse=purse)
        text: list[str] = []
        try:
            prepared = await self._begun(run, stream=True)
            turns = self._turns(run, prepared)
            finish: Finish | None = None
            usage = Usage(None, None)
            async with contextlib.aclosing(turns):
                async for turn in turns:
                    try:
                        pieces = turn.port.stream(prepared.request(ask, turn.step, turn.sent), timeout=turn.timeout)
                        async with contextlib.aclosing(self._bounded(pieces, run)) as bounded:
                            async for piece in bounded:
                                usage = piece.usage or usage
                                finish = piece.finish or finish
                                if piece.text:
                                    run.first_token = run.first_token or self._clock()
                                    text.append(piece.text)
                                    yield Piece(piece.text)
                        if finish is None:
                            raise ProviderFailure(f"{turn.step.provider!r} ended without saying why", kind="incomplete")
                        turn.done()
                    except ProviderFailure as failure:
                        turn.failed(failure, started=bool(text))
            assert finish is not None  # noqa: S101 - `_turns` raises otherwise
            whole = ModelAnswer("".join(text), finish, usage, run.called[-1].model)
            answered = await self._finished(run, whole)
        except BaseException as error:
            await self._ended(run, error, given="".join(text))
            raise
        yield answered

    async def preview(
        self, ask: Ask, what_if: WhatIf = NOTHING_ELSE, *, stream: bool = False, purse: Purse | None = None
    ) -> Preview:
        """What would become of a request. It is planned as it would be, and nothing is sent.

        Args:
            stream: as it would be for `stream`.
            purse: as for `answer`; nothing is taken out.

        Raises:
            AlgError: it is no request that could be carried out.
        """
        run = Run(new_ulid(), self._now(), ask, self._clock)
        try:
            prepared = await self._prepare(run, stream=stream, what_if=what_if)
        except AlgError as error:
            await self._ended(run, error)
            raise
        error = None
        if not prepared.plan.steps:
            error = self._refusal(prepared)
        elif purse is not None:
            error = all_short(purse, prepared.plan.steps, prepared.route.input_tokens, embeds=ask.embeds)
        why = "nothing was sent" if error is None else f"nothing was sent; it would be refused: {error.message}"
        await self._file(run, run.receipt("simulated", why))
        return Preview(run.id, prepared.plan, prepared.level, prepared.route.input_tokens, error)

    async def replay(self, receipt_id: str) -> Replay:
        """Plan a request once more, from what its plan was made from and as things are now.

        Raises:
            NotFound, InvalidInput: there is no such receipt, or no plan was made for it.
        """
        filed = await asyncio.to_thread(self.receipts.show, receipt_id)
        then = kept_inputs(filed)
        await self._providers.ready()
        consents = await self._consents()
        now = self._inputs(then.request, consents, self._providers.states(), self._mode)
        return compared(filed, then, now)

    # --- before anybody is called -----------------------------------------------------------------------------

    async def _begun(self, run: Run, *, stream: bool) -> Prepared:
        """Everything up to the first call; refuses where nobody may be called."""
        prepared = await self._prepare(run, stream=stream, what_if=NOTHING_ELSE)
        if not prepared.plan.steps:
            raise self._refusal(prepared)
        self.receipts.begin(run.receipt("interrupted", "it is under way"), keys=self._providers.keys())
        return prepared

    def _refusal(self, prepared: Prepared) -> AlgError:
        known = self._providers
        return refusal(prepared.route, prepared.plan, looked_for=known.looked_for, silent=known.silent)

    async def _prepare(self, run: Run, *, stream: bool, what_if: WhatIf) -> Prepared:
        ask = run.ask
        check(ask)
        purpose = purpose_of(ask)
        messages = () if ask.embeds else messages_of(ask)
        texts = [*(message.text for message in messages), *ask.texts]
        parts = [Part(message.text, f"message {at}") for at, message in enumerate(messages, 1)]
        parts += [Part(text, f"text {at}") for at, text in enumerate(ask.texts, 1)]
        size = sum(map(len, texts))
        detected = await self._worked(
            lambda: detect(parts, scanner=self._scanner, personal=self._personal), aside=size > _LONG
        )
        carried = [(ref.level, ref.id) for ref in ask.context.refs] if ask.context is not None else []
        level = level_of(ask.trust, self.config.default_trust, detected, carried)
        if what_if.trust is not None:
            level = LevelDecision(what_if.trust, what_if.trust, level.reasons)
        if not self._warm:
            await asyncio.to_thread(self._warm_up)
        tokens = await self._worked(lambda: sum(self._count(text) + _PER_MESSAGE for text in texts), aside=size > _LONG)
        redacted = list(detected.redacted) if detected.redacted is not None else texts
        route = RouteRequest(
            level.level,
            purpose=purpose,
            task="embed" if ask.embeds else "complete" if ask.operation == "complete" else "chat",
            redacted=level.without_detected if level.without_detected != level.level else None,
            model=ask.model,
            input_tokens=tokens,
            max_tokens=ask.max_tokens,
            stream=stream,
            json=ask.json,
            project=ask.project,
            fallback=ask.fallback,
            budget=ask.budget if ask.budget is not None else self.config.budget,
        )
        consents = _assumed(await self._consents(), what_if, level.level, self._now())
        mode = what_if.mode or self._mode
        await self._providers.ready()
        inputs = self._inputs(route, consents, self._states(what_if), mode)
        made = inputs.plan()
        if not made.steps and await self._providers.look_again():
            inputs = self._inputs(route, consents, self._states(what_if), mode)
            made = inputs.plan()
        run.planned = self._clock()
        run.prepared = Prepared(
            messages=messages,
            redacted=tuple(
                Message(message.role, text) for message, text in zip(messages, redacted[: len(messages)], strict=True)
            ),
            texts=ask.texts,
            redacted_texts=tuple(redacted[len(messages) :]),
            detected=detected,
            level=level,
            route=route,
            plan=made,
            consents=consents,
            inputs=inputs_of(inputs, made),
        )
        return run.prepared

    def _states(self, what_if: WhatIf) -> tuple[ProviderState, ...]:
        states = self._providers.states()
        unknown = sorted({*what_if.down, *what_if.consent} - {state.name for state in states})
        if unknown:
            raise InvalidInput(
                f"there is no provider {unknown[0]!r}, which the preview is to assume something of",
                hint=f"There are: {', '.join(state.name for state in states) or 'none'}.",
            )
        if not what_if.down:
            return states
        return tuple(replace(state, enabled=state.enabled and state.name not in what_if.down) for state in states)

    def _inputs(
        self, route: RouteRequest, consents: Consents, states: tuple[ProviderState, ...], mode: Mode
    ) -> PlanInputs:
        routes, known = self.config.routes, self._experience()
        return PlanInputs(route, mode, self.policy, consents, states, self.prices, routes, known)

    async def _consents(self) -> Consents:
        try:
            return Consents(self.ledger.consents(self._now()))
        except ChainBroken:
            return Consents(broken=True)

    def _warm_up(self) -> None:
        """Load what the first request needs and takes long; the event loop goes on meanwhile."""
        self._count("")
        if any(each.kind in HOSTED for each in self.config.providers):
            self.prices.prepare()
        self._warm = True

    async def _worked(self, work: Callable[[], _T], *, aside: bool) -> _T:
        return await asyncio.to_thread(work) if aside else work()

    # --- calling ----------------------------------------------------------------------------------------------

    async def _answered(
        self,
        ask: Ask,
        call: Callable[[_Turn, Ask, Prepared], Awaitable[tuple[ModelAnswer, list[list[float]]]]],
        purse: Purse | None,
    ) -> Answered:
        run = Run(new_ulid(), self._now(), ask, self._clock, purse=purse)
        try:
            prepared = await self._begun(run, stream=False)
            found: tuple[ModelAnswer, list[list[float]]] | None = None
            turns = self._turns(run, prepared)
            async with contextlib.aclosing(turns):
                async for turn in turns:
                    try:
                        found = await call(turn, ask, prepared)
                        turn.done()
                    except ProviderFailure as failure:
                        turn.failed(failure, started=False)
            assert found is not None  # noqa: S101 - `_turns` raises otherwise
            return await self._finished(run, *found)
        except BaseException as error:
            await self._ended(run, error)
            raise

    async def _chat(self, turn: _Turn, ask: Ask, prepared: Prepared) -> tuple[ModelAnswer, list[list[float]]]:
        answer = await turn.port.chat(prepared.request(ask, turn.step, turn.sent), timeout=turn.timeout)
        turn.heard = True
        if ask.json and answer.finish == "stop" and not _is_json(answer.text):
            raise ProviderFailure(
                f"{turn.step.provider!r} was asked for JSON and answered something else",
                kind="broken",
                hint="Take a model that can answer in JSON, or do without `json`.",
            )
        return answer, []

    async def _embed(self, turn: _Turn, _: Ask, prepared: Prepared) -> tuple[ModelAnswer, list[list[float]]]:
        texts = prepared.redacted_texts if turn.step.redact else prepared.texts
        embedded = await turn.port.embed(texts, turn.step.model, timeout=turn.timeout)
        return ModelAnswer("", "stop", embedded.usage, turn.step.model), embedded.vectors

    async def _turns(self, run: Run, prepared: Prepared) -> AsyncGenerator[_Turn]:
        """Whose turn it is, one after the other, until one is done; the caller says how each went.

        Raises:
            ProviderFailure: nobody answered.
            OverBudget: what is left of the budget is not enough for the next.
        """
        ask = run.ask
        deadline = self._clock() + (ask.deadline if ask.deadline is not None else self.config.deadline)
        last: ProviderFailure | None = None
        short: str | None = None
        for planned in prepared.plan.steps:
            step = planned if run.purse is None else bounded(planned, run.purse, embeds=ask.embeds)
            attempt = 0
            while True:
                attempt += 1
                if (why := _too_dear(step, run.spent, prepared.route.budget)) is not None:
                    short = why
                    run.pass_over(step, why)
                    break
                left = deadline - self._clock()
                if left <= 0:
                    raise last or ProviderFailure("the deadline passed before anybody could be called", kind="timeout")
                turn = _Turn(step, lambda: self._meanwhile(run))
                async with _place(self._providers, step, left) as no_place:
                    not_now = no_place or await self._taken_back(step)
                    if not_now is not None:
                        run.pass_over(step, not_now)
                        break
                    if (why := await self._short(run, step, prepared)) is not None:
                        short = why
                        run.pass_over(step, why)
                        break
                    began = self._clock()
                    turn.timeout = min(self._providers.timeout(step.provider), max(deadline - began, 0.001))
                    try:
                        turn.port = self._providers.port(step.provider, step.provider_class)
                        run.called.append(step)
                        yield turn
                    except ProviderFailure as failure:
                        turn.failed(failure, started=False)
                    finally:  # also where the caller left, or was cancelled
                        self._took_turn(run, turn, began)
                failure = turn.failure
                if failure is None:
                    return
                last = failure
                if failure.kind in _MAY_COST and step.cost != 0:
                    run.spent += step.cost or 0
                    run.unknown_spent |= step.cost is None
                next_step = after_failure(
                    failure.kind,
                    self.config.retries,
                    attempt=attempt,
                    jitter=self._jitter(),
                    hint=failure.retry_after,
                    left=deadline - self._clock(),
                    started=turn.started,
                )
                match next_step:
                    case Again():
                        await self._sleep(next_step.wait)
                    case FallBack():
                        if next_step.hold:
                            self._providers.hold(step.provider, next_step.hold)
                        break
                    case Stop():
                        raise failure
                    case _:
                        assert_never(next_step)
        if last is None and short is not None:
            if run.purse is not None:
                raise over_budget(short)
            raise OverBudget(f"the budget is not enough: {short}", hint="Raise the budget, or bound `max_tokens`.")
        raise _nobody(run, last)

    def _meanwhile(self, run: Run) -> None:
        """While the answer is waited for: what the receipt will have of the plan's inputs."""
        if run.prepared is not None:
            with contextlib.suppress(TypeError, ValueError):  # whoever stores it is told
                self.receipts.expect(run.id, run.prepared.inputs, keys=self._providers.keys())

    async def _taken_back(self, step: Step) -> str | None:
        """Why a step must not be taken although the plan has it: it may have waited for long, or come after others."""
        if step.provider_class == "hosted" and self._mode != "normal":
            return f"the mode is {self._mode!r} now"
        if step.consent is not None and step.consent not in {each.id for each in (await self._consents()).entries}:
            return "the consent to it was revoked or ran out"
        return None

    async def _short(self, run: Run, step: Step, prepared: Prepared) -> str | None:
        """Hold what a step may take; why that cannot be."""
        if run.purse is None:
            return None
        tokens = most_tokens(step, prepared.route.input_tokens, embeds=run.ask.embeds)
        try:
            run.held = await run.purse.take(tokens, step.cost)
        except OverBudget as error:
            return error.message
        return None

    def _took_turn(self, run: Run, turn: _Turn, began: float) -> None:
        name = turn.step.provider
        if run.held is not None and not (turn.over and turn.failure is None):
            if turn.failure is not None and turn.failure.kind not in _MAY_COST:
                run.held.settle(0, 0)
            else:  # nobody says what it took
                run.held.keep()
            run.held = None
        if turn.failure is not None:
            if turn.heard:
                self._providers.went_well(name)
            else:
                self._providers.went_wrong(name, turn.failure)
            run.attempted(turn.step, began, failure=turn.failure)
        elif turn.over:
            self._providers.went_well(name)
            run.attempted(turn.step, began)
        else:
            self._providers.was_left(name)
            run.attempted(turn.step, began, outcome="cancelled")

    async def _bounded(self, pieces: AsyncIterator[Piece], run: Run) -> AsyncGenerator[Piece]:
        """A stream, up to the request's deadline."""
        seconds = run.ask.deadline if run.ask.deadline is not None else self.config.deadline
        late = ProviderFailure(f"the answer was not whole within {seconds:g} s", kind="timeout")
        try:
            while True:
                try:
                    async with asyncio.timeout(max(seconds - run.elapsed, 0)):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise late from None
                yield piece
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()

    async def _probed(self, found: ProviderHealth) -> ProviderHealth:
        chats = [model for model in found.models if model.chat and not model.remote]
        if found.provider_class != "local" or found.health.state != "up" or not chats:
            return found
        request = ModelRequest((Message("user", "Say: ok"),), chats[0].name, max_tokens=1)
        try:
            await self._providers.port(found.name, "local").chat(request, timeout=self._providers.timeout(found.name))
        except ProviderFailure as failure:
            health = replace(found.health, state="other", said=f"it lists models, but {failure.message}")
            return replace(found, health=health)
        return replace(found, health=replace(found.health, said=f"{chats[0].name} answers"))

    # --- receipts ---------------------------------------------------------------------------------------------

    async def _finished(self, run: Run, answer: ModelAnswer, vectors: list[list[float]] | None = None) -> Answered:
        step = run.called[-1]
        prices, hash_ = self.prices, None
        if step.provider_class == "local":
            cost = Cost(0, "known", prices.version, "it ran on this machine")
        else:
            tokens = charged(answer.usage, embeds=run.ask.embeds)
            cost, hash_ = prices.cost(step.provider, step.model, tokens, cached_is_input=True), prices.hash
        if run.held is not None:
            settle(run.held, answer.usage, cost, embeds=run.ask.embeds)
            run.held = None
        why = f"{step.provider}/{step.model} answered"
        receipt = run.receipt("answered", why, answer=answer, cost=cost, table_hash=hash_)
        try:
            await self._file(run, receipt)
        except AlgError as error:
            raise not_stored(run, why, error) from error
        return Answered(
            receipt=run.id,
            text=answer.text,
            vectors=tuple(tuple(vector) for vector in vectors or ()),
            finish=None if vectors else answer.finish,
            usage=answer.usage,
            provider=step.provider,
            model=step.model,
            provider_class=step.provider_class,
            trust=step.trust,
            cost=cost,
            redacted=sum(item.count for item in run.redactions),
            attempts=len(run.attempts),
            took=run.elapsed,
        )

    async def _ended(self, run: Run, error: BaseException, *, given: str = "") -> None:
        """File the receipt of a request without a whole answer."""
        if run.held is not None:  # somebody answered, and what that took was not put right
            run.held.keep()
            run.held = None
        outcome: Outcome
        if isinstance(error, AlgError):
            with_receipt(error, run.id)
            outcome = "failed" if run.attempts else "refused"
            if given:
                outcome = "incomplete"
            why = error.message
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            outcome, why = "cancelled", "whoever asked went away"
        else:
            outcome, why = "failed", f"an error of our own: {type(error).__name__}"
        answer = ModelAnswer(given, "stop", Usage(None, None), run.called[-1].model) if given else None
        receipt = run.receipt(outcome, why, answer=answer)
        if receipt.answer is not None:
            receipt = replace(receipt, answer=replace(receipt.answer, finish=None))
        if run.filed:
            return
        try:
            if outcome == "cancelled":  # nothing is waited for any more, not even this
                self.receipts.file(receipt, inputs=run.inputs, keys=self._providers.keys())
            else:
                await self._file(run, receipt)
        except Exception as problem:  # noqa: BLE001 - the first error is told; the note stays for a later receipt
            _log.exception("the receipt %s could not be stored", run.id)
            if isinstance(error, AlgError):
                error.details[NOT_STORED] = str(problem)

    async def _file(self, run: Run, receipt: Receipt) -> None:
        run.filed = True
        # Shielded: whoever goes away now must not leave the request without its receipt, or with two.
        await asyncio.shield(self.receipts.file_async(receipt, inputs=run.inputs, keys=self._providers.keys()))


class _Turn:
    """A provider's turn: who, and what became of it."""

    def __init__(self, step: Step, sent: Callable[[], object]) -> None:
        self.step = step
        self.sent = sent
        self.timeout = 0.0
        self.port: ProviderPort
        self.over = False
        self.heard = False
        """It answered, if not what was asked for: that says something of a model, and nothing of its provider."""
        self.failure: ProviderFailure | None = None
        self.started = False

    def done(self) -> None:
        """It answered."""
        self.over = True

    def failed(self, failure: ProviderFailure, *, started: bool) -> None:
        """It did not; `started` where a part of its answer was given already."""
        self.failure = failure
        self.started = started


@contextlib.asynccontextmanager
async def _place(providers: Providers, step: Step, left: float) -> AsyncGenerator[str | None]:
    """A place at a provider; why there is none, where it cannot be had in time or at all."""
    turn = providers.turn(step.provider)
    try:
        async with asyncio.timeout(left):
            not_now = await turn.__aenter__()
    except TimeoutError:
        yield "it had as many requests as it may have until the deadline"
        return
    try:
        yield not_now.why if not_now is not None else None
    finally:
        await turn.__aexit__(None, None, None)


def _nobody(run: Run, last: ProviderFailure | None) -> ProviderFailure:
    """Nobody of the plan answered: one failure is told as it is, of several each."""
    told = list(dict.fromkeys(f"{each.provider}/{each.model}: {each.message}" for each in run.attempts))
    told += [f"{each.what}: {each.why}" for each in run.passed_over]
    if last is not None and len(told) <= 1:
        return last
    return ProviderFailure(
        f"nobody answered: {'; '.join(told)}",
        kind=last.kind if last is not None else "overloaded",
        retry_after=last.retry_after if last is not None else None,
        status=last.status if last is not None else None,
        hint="Why each was tried: the receipt. gateway_health, `alg gateway health`, tells how the providers are.",
        attempts=[{"provider": each.provider, "model": each.model, "outcome": each.outcome} for each in run.attempts],
    )


def _too_dear(step: Step, spent: int, budget: int | None) -> str | None:
    if budget is None or step.cost is None or step.cost + spent <= budget:
        return None
    return f"it may cost {step.cost} micro-cents, and of {budget} failed attempts may have taken {spent}"


def _assumed(consents: Consents, what_if: WhatIf, level: Trust, now: datetime) -> Consents:
    """The consents, with those that a preview assumes."""
    if not what_if.consent:
        return consents
    more = tuple(
        Consent(new_ulid(), name, level, None, None, None, now, "assumed by a preview", "0" * 64)
        for name in what_if.consent
    )
    return Consents((*consents.entries, *more))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
