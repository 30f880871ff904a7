"""What a receipt says. Frozen values; money in micro-cents, times in microseconds, no floats but the temperature."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from adaptive_llm_gateway.core import Trust

Operation = Literal["complete", "chat", "embed", "route_preview"]
Outcome = Literal["answered", "refused", "failed", "cancelled", "incomplete", "simulated", "interrupted"]
"""`incomplete`: an answer that broke off. `interrupted`: the process died before it could say."""
LevelSource = Literal["declared", "detected", "context", "default"]


@dataclass(frozen=True, slots=True)
class ReceiptMessage:
    """A message, credentials taken out."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class ReceiptRequest:
    """What was asked, credentials taken out; `texts` is what was to be embedded.

    Attributes:
        client: how whoever asked is called; two may be called alike.
        owner: whose token it was asked with, by an id that nobody else has; None: it was asked on this machine. Older
            receipts lack it.
    """

    operation: Operation
    purpose: str
    project: str | None
    client: str | None
    model: str
    messages: tuple[ReceiptMessage, ...] = ()
    texts: tuple[str, ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    json: bool = False
    stop: tuple[str, ...] = ()
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class LevelReason:
    """One thing that speaks for a level, such as a finding's kind or a memory's id."""

    source: LevelSource
    level: Trust
    why: str


@dataclass(frozen=True, slots=True)
class ReceiptLevel:
    """The level of the request, the highest of its reasons."""

    level: Trust
    reasons: tuple[LevelReason, ...] = ()


@dataclass(frozen=True, slots=True)
class ContextRef:
    """A memory that went into the request: its id, and the version that was read."""

    id: str
    version: str
    level: Trust


@dataclass(frozen=True, slots=True)
class BlockedItem:
    """Something that was kept from going out, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class RedactedItem:
    """Something that was replaced, never the thing itself: its kind, where, and how often."""

    kind: str
    where: str
    count: int


@dataclass(frozen=True, slots=True)
class RouteStep:
    """A candidate of the plan: taken or rejected, and why."""

    provider: str
    model: str
    where: Literal["local", "hosted"]
    taken: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call of a provider.

    Attributes:
        outcome: `ok`, or the kind of the failure.
        began: microseconds after the request.
        took: microseconds.
        waited_for: microseconds that the provider asked to wait.
    """

    provider: str
    model: str
    outcome: str
    began: int
    took: int
    status: int | None = None
    waited_for: int | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class ReceiptTokens:
    """Tokens: the context before and after its compression, and what the provider says it read and wrote; of what it
    read, those that its cache had (`cached`) and those that its cache took in (`written`). Older receipts lack both."""

    context_from: int | None = None
    context: int | None = None
    input: int | None = None
    output: int | None = None
    cached: int | None = None
    written: int | None = None


@dataclass(frozen=True, slots=True)
class ReceiptCost:
    """Micro-cents, or None with the reason why they are not known; which price table said so."""

    micro_cents: int | None
    why: str
    table: str | None = None
    table_hash: str | None = None


@dataclass(frozen=True, slots=True)
class ReceiptTimings:
    """Microseconds: the whole, making the plan, and until the first token came."""

    total: int
    planning: int | None = None
    first_token: int | None = None


@dataclass(frozen=True, slots=True)
class ConsentUse:
    """A consent that allowed this, and the hash of its entry in the ledger."""

    id: str
    entry: str


@dataclass(frozen=True, slots=True)
class ReceiptAnswer:
    """The answer without its text: its length in characters and the SHA-256 of its UTF-8."""

    characters: int
    hash: str
    finish: str | None
    model: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one request used, what was blocked and redacted, where it went, what it cost and why.

    Attributes:
        id: a ULID; the run's, too.
        at: when the request came.
        why: one sentence on the outcome.
        inputs: the hash of what the plan was made from, which the run folder holds; None when there was no plan.
    """

    id: str
    at: datetime
    outcome: Outcome
    why: str
    request: ReceiptRequest
    level: ReceiptLevel
    context: tuple[ContextRef, ...] = ()
    blocked: tuple[BlockedItem, ...] = ()
    redacted: tuple[RedactedItem, ...] = ()
    route: tuple[RouteStep, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    tokens: ReceiptTokens = ReceiptTokens()
    cost: ReceiptCost = ReceiptCost(None, "nothing was called")
    timings: ReceiptTimings = ReceiptTimings(0)
    consents: tuple[ConsentUse, ...] = ()
    answer: ReceiptAnswer | None = None
    inputs: str | None = None
