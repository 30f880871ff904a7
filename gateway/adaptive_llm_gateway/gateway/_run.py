"""One request while it is carried out: what became of it so far, and the receipt that says so."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.core import AlgError, Trust
from adaptive_llm_gateway.gateway._prices import Cost
from adaptive_llm_gateway.gateway._receipt_values import (
    Attempt,
    BlockedItem,
    ConsentUse,
    Outcome,
    Receipt,
    ReceiptAnswer,
    ReceiptCost,
    ReceiptLevel,
    ReceiptMessage,
    ReceiptRequest,
    ReceiptTimings,
    ReceiptTokens,
    RedactedItem,
    RouteStep,
)
from adaptive_llm_gateway.gateway._requests import Ask
from adaptive_llm_gateway.gateway._values import Message, ModelAnswer, ModelRequest, Usage

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway._consents import Consents
    from adaptive_llm_gateway.gateway._detection import Detection, LevelDecision
    from adaptive_llm_gateway.gateway._port import ProviderFailure
    from adaptive_llm_gateway.gateway._purse import Held, Purse
    from adaptive_llm_gateway.gateway._routing import Plan, ReasonCode, RouteRequest, Step

_KEPT_BACK: Final[frozenset[ReasonCode]] = frozenset({"policy", "consent_needed", "ledger_broken", "mode"})
_LONGEST_TEXT: Final = 16_000
"""Characters of a message that a receipt has; of a longer one, the hash of all of it as well."""
NOT_STORED: Final = "receipt_not_stored"
"""In the details of an error: why the receipt that it names is not there."""
_LARGEST_NUMBER: Final = 1 << 53
_MOST_NAMED: Final = 100
"""Candidates that a receipt names; a router may list hundreds."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that is known of a request before anybody is called.

    Attributes:
        messages: what is sent where nothing has to be taken out; the context's is among them.
        redacted: what is sent where it has to be; as `messages`, where nothing was found.
        detected: what was found, for the messages and the context as well as for texts.
    """

    messages: tuple[Message, ...]
    redacted: tuple[Message, ...]
    texts: tuple[str, ...]
    redacted_texts: tuple[str, ...]
    detected: Detection
    level: LevelDecision
    route: RouteRequest
    plan: Plan
    consents: Consents
    inputs: object

    def request(self, ask: Ask, step: Step, sent: Callable[[], object]) -> ModelRequest:
        """What a step's model is asked; `sent` is called when it was."""
        return ModelRequest(
            self.redacted if step.redact else self.messages,
            step.model,
            max_tokens=step.max_tokens,
            temperature=ask.temperature,
            json=ask.json,
            stop=ask.stop,
            sent=sent,
        )


@dataclass(slots=True, eq=False)
class Run:
    """A request from its coming to its receipt. Times are seconds of a clock that never goes back.

    Args:
        clock: that clock.
    """

    id: str
    at: datetime
    ask: Ask
    clock: Callable[[], float]
    began: float = 0.0
    planned: float | None = None
    first_token: float | None = None
    prepared: Prepared | None = None
    called: list[Step] = field(default_factory=list["Step"])
    """Those whose turn it was, the last one too: each may have read what it was sent."""
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    passed_over: list[BlockedItem] = field(default_factory=list[BlockedItem])
    told: ReceiptRequest | None = None
    """The request as its receipt has it: one value, so that it is cleaned of credentials once."""
    route: tuple[RouteStep, ...] | None = None
    """The plan as its receipt has it."""
    filed: bool = False
    """Its receipt is stored, or on its way to the disk."""
    spent: int = 0
    """Micro-cents that failed attempts may have cost."""
    unknown_spent: bool = False
    purse: Purse | None = None
    """What has to be enough for each call."""
    held: Held | None = None
    """What the call that is under way has taken out of it."""

    def __post_init__(self) -> None:
        self.began = self.clock()

    @property
    def inputs(self) -> object:
        """What its plan was made from; None where there is none."""
        return self.prepared.inputs if self.prepared is not None else None

    @property
    def elapsed(self) -> float:
        """Seconds since it came."""
        return self.clock() - self.began

    def attempted(
        self, step: Step, began: float, *, failure: ProviderFailure | None = None, outcome: str = "ok"
    ) -> None:
        """Note a call of a provider that is over."""
        self.attempts.append(
            Attempt(
                step.provider,
                step.model,
                outcome if failure is None else failure.kind,
                _micro(began - self.began),
                _micro(self.clock() - began),
                status=failure.status if failure is not None else None,
                waited_for=_micro(failure.retry_after) if failure and failure.retry_after is not None else None,
                message=failure.message if failure is not None else "",
            )
        )

    def pass_over(self, step: Step, why: str) -> None:
        """Note a step of the plan that was not called after all."""
        self.passed_over.append(BlockedItem(f"{step.provider}/{step.model}", why))

    @property
    def redactions(self) -> tuple[RedactedItem, ...]:
        """What was taken out before the request was sent to one of those that were called."""
        if self.prepared is None or not any(step.redact for step in self.called):
            return ()
        return self.prepared.detected.items

    def receipt(
        self,
        outcome: Outcome,
        why: str,
        *,
        answer: ModelAnswer | None = None,
        cost: Cost | None = None,
        table_hash: str | None = None,
    ) -> Receipt:
        """The receipt as things stand."""
        prepared, ask = self.prepared, self.ask
        self.told = self.told or _request(ask)
        usage = answer.usage if answer is not None else Usage(None, None)
        context = ask.context
        return Receipt(
            id=self.id,
            at=self.at,
            outcome=outcome,
            why=why,
            request=self.told,
            level=ReceiptLevel(prepared.level.level, prepared.level.reasons)
            if prepared is not None
            else ReceiptLevel(ask.trust or Trust.SECRET),
            context=context.refs if context is not None else (),
            blocked=(*_blocked(prepared.plan), *self.passed_over) if prepared is not None else (),
            redacted=self.redactions,
            route=self._route(),
            attempts=tuple(self.attempts),
            tokens=ReceiptTokens(
                context_from=context.tokens_from if context is not None else None,
                context=context.tokens if context is not None else None,
                input=usage.input_tokens,
                output=usage.output_tokens,
                cached=usage.cached_tokens,
                written=usage.written_tokens,
            ),
            cost=self._cost(cost, table_hash),
            timings=ReceiptTimings(
                _micro(self.elapsed),
                planning=_micro(self.planned - self.began) if self.planned is not None else None,
                first_token=_micro(self.first_token - self.began) if self.first_token is not None else None,
            ),
            consents=self._consents(),
            answer=_answer(answer) if answer is not None else None,
        )

    def _route(self) -> tuple[RouteStep, ...]:
        if self.route is None and self.prepared is not None:
            self.route = route_of(self.prepared.plan)
        return self.route or ()

    def _cost(self, cost: Cost | None, table_hash: str | None) -> ReceiptCost:
        called = [each for each in self.attempts if each.outcome != "ok"]
        if cost is None:
            if not called:
                return ReceiptCost(0, "nothing was called")
            if self.unknown_spent or self.spent:
                return ReceiptCost(None, "nobody said what the failed attempts cost")
            return ReceiptCost(0, "what was called failed before it could cost anything, or is on this machine")
        why = cost.why
        if self.spent or self.unknown_spent:
            why += "; what failed attempts cost is not known and not in it"
        return ReceiptCost(cost.micro_cents, why, cost.table, table_hash)

    def _consents(self) -> tuple[ConsentUse, ...]:
        if self.prepared is None:
            return ()
        used = dict.fromkeys(step.consent for step in self.called if step.consent is not None)
        entries = {consent.id: consent.entry for consent in self.prepared.consents.entries}
        return tuple(ConsentUse(consent, entries[consent]) for consent in used)


def with_receipt(error: AlgError, receipt: str) -> AlgError:
    """An error that names the receipt of its request."""
    error.details = {**error.details, "receipt": receipt}
    return error


def not_stored(run: Run, why: str, error: AlgError) -> AlgError:
    """What is told where somebody answered and the receipt could not be stored: nobody gets a whole answer without."""
    withheld = ", and without it the answer is not handed on" if run.first_token is None else ""
    message = f"{why}, but the receipt could not be stored{withheld}: {error.message}"
    return type(error)(message, hint=error.hint, **{**error.details, "answered": True, NOT_STORED: error.message})


def _request(ask: Ask) -> ReceiptRequest:
    context = ask.context
    sent = ask.messages if context is None or ask.embeds else messages_of(ask)
    shown = [ReceiptMessage(message.role, _shown(message.text)) for message in sent]
    return ReceiptRequest(
        operation=ask.operation,
        purpose=purpose_of(ask),
        project=ask.project,
        client=ask.client,
        model=ask.model,
        messages=tuple(shown),
        texts=tuple(map(_shown, ask.texts)),
        # What is refused for its numbers has a receipt, too, and JSON has no place for all of them.
        max_tokens=ask.max_tokens if ask.max_tokens is not None and abs(ask.max_tokens) < _LARGEST_NUMBER else None,
        temperature=ask.temperature if ask.temperature is not None and math.isfinite(ask.temperature) else None,
        json=ask.json,
        stop=ask.stop,
        owner=ask.owner,
    )


def _shown(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{text[:_LONGEST_TEXT]}… [{len(text) - _LONGEST_TEXT} more characters; SHA-256 of all: {digest}]"


def purpose_of(ask: Ask) -> str:
    """The request's purpose: its own, else its operation's."""
    if ask.purpose is not None:
        return ask.purpose
    if ask.operation == "route_preview":
        return "embed" if ask.texts else "complete"
    return ask.operation


def messages_of(ask: Ask) -> tuple[Message, ...]:
    """What would be sent: the context stands before the last of the user's messages."""
    if ask.context is None:
        return ask.messages
    at = _before_last_user(ask.messages)
    return (*ask.messages[:at], Message("user", ask.context.text), *ask.messages[at:])


def _before_last_user(messages: tuple[Message, ...]) -> int:
    return max((at for at, message in enumerate(messages) if message.role == "user"), default=len(messages))


def route_of(plan: Plan) -> tuple[RouteStep, ...]:
    """A plan as a receipt tells it: of candidates that were not meant nothing."""
    taken = [RouteStep(step.provider, step.model, step.provider_class, True, step.reason) for step in plan.steps]
    meant = [each for each in plan.rejected if not all(reason.code == "other_model" for reason in each.reasons)]
    rejected = [
        RouteStep(
            each.provider,
            each.model,
            each.provider_class,
            False,
            "; ".join(f"{reason.code}: {reason.text}" for reason in each.reasons),
        )
        for each in meant
    ]
    return (*taken[:_MOST_NAMED], *rejected[:_MOST_NAMED])


def _blocked(plan: Plan) -> tuple[BlockedItem, ...]:
    """Where the request must not go, by what is for people to decide."""
    found: list[BlockedItem] = []
    for each in plan.rejected:
        why = [reason.text for reason in each.reasons if reason.code in _KEPT_BACK]
        if why:
            found.append(BlockedItem(f"{each.provider}/{each.model}", "; ".join(why)))
    return tuple(found[:_MOST_NAMED])


def _answer(answer: ModelAnswer) -> ReceiptAnswer:
    digest = hashlib.sha256(answer.text.encode("utf-8", "surrogatepass")).hexdigest()
    return ReceiptAnswer(len(answer.text), digest, answer.finish, answer.model)


def _micro(seconds: float) -> int:
    return max(round(seconds * 1_000_000), 0)
