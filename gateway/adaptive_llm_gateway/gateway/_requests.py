"""What the gateway is asked, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.core import InvalidInput, TooLarge, Trust
from adaptive_llm_gateway.gateway._receipt_values import ContextRef, Operation
from adaptive_llm_gateway.gateway._routing import AUTO
from adaptive_llm_gateway.gateway._values import Finish, Message, ProviderClass, Purpose, Usage

if TYPE_CHECKING:
    from adaptive_llm_gateway.core import AlgError
    from adaptive_llm_gateway.gateway._detection import LevelDecision
    from adaptive_llm_gateway.gateway._prices import Cost
    from adaptive_llm_gateway.gateway._routing import Mode, Plan

MOST_BYTES: Final = 8 * 1024 * 1024
"""UTF-8 of all texts of one request."""
MOST_TEXTS: Final = 2_048
"""Messages of a conversation, or texts to be embedded."""
_MOST_TOKENS: Final = 10_000_000
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class ContextGiven:
    """A context package that goes into a request, before its last user message.

    Attributes:
        text: fenced as data by whoever built it.
        refs: every memory in it, with the version and the level that it has; the levels raise the request's.
        tokens: of the package.
        tokens_from: of its candidates, before they were compressed.
    """

    text: str
    refs: tuple[ContextRef, ...] = ()
    tokens: int = 0
    tokens_from: int = 0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to the gateway.

    Attributes:
        messages: of a chat or a completion, in order.
        texts: what is to be embedded.
        model: `auto`, the name of a route, `provider/model`, or a model's name.
        trust: the level that is declared; None takes the configured default.
        purpose: None takes the operation's own (`chat`, `complete`, `embed`).
        client: who asks, for the receipt.
        owner: whose token they ask with, for the receipt, too; None: nobody's.
        max_tokens: of the answer.
        json: the answer has to be one JSON value.
        stop: texts at which the answer ends.
        fallback: False calls the first of the plan alone.
        budget: micro-cents, of all attempts together; None takes the configured bound, if there is one.
        deadline: seconds for all of it; None takes the configured one.
    """

    operation: Operation
    messages: tuple[Message, ...] = ()
    texts: tuple[str, ...] = ()
    model: str = AUTO
    trust: Trust | None = None
    purpose: Purpose | None = None
    project: str | None = None
    client: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    json: bool = False
    stop: tuple[str, ...] = ()
    context: ContextGiven | None = None
    fallback: bool = True
    budget: int | None = None
    deadline: float | None = None
    owner: str | None = None

    @property
    def embeds(self) -> bool:
        """Whether it asks for vectors; a preview does where it has texts."""
        return self.operation == "embed" or (self.operation == "route_preview" and bool(self.texts))


@dataclass(frozen=True, slots=True)
class Answered:
    """A whole answer, and where it came from.

    Attributes:
        receipt: the id of its receipt, which is on the disk.
        text: empty for an embedding.
        vectors: one for each text, for an embedding.
        model: as the provider lists it.
        trust: the level of what was sent.
        redacted: items that were taken out before it was sent.
        attempts: calls of providers, the failed ones too.
        took: seconds.
    """

    receipt: str
    text: str
    vectors: tuple[tuple[float, ...], ...]
    finish: Finish | None
    usage: Usage
    provider: str
    model: str
    provider_class: ProviderClass
    trust: Trust
    cost: Cost
    redacted: int
    attempts: int
    took: float


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a preview assumes, instead of what is.

    Attributes:
        trust: the level of what would be sent, whatever was found.
        down: providers that are taken to be out of reach.
        consent: providers that are taken to have consent for this.
    """

    mode: Mode | None = None
    trust: Trust | None = None
    down: tuple[str, ...] = ()
    consent: tuple[str, ...] = ()


NOTHING_ELSE: Final = WhatIf()


@dataclass(frozen=True, slots=True)
class Preview:
    """What would become of a request; nothing was sent.

    Attributes:
        error: what it would be refused with; None where somebody would get it.
    """

    receipt: str
    plan: Plan
    level: LevelDecision
    input_tokens: int
    error: AlgError | None


def check(ask: Ask) -> None:
    """Whether a request can be carried out at all.

    Raises:
        InvalidInput, TooLarge: it cannot.
    """
    if ask.embeds:
        _check_texts(ask)
    else:
        _check_messages(ask)
    if len(ask.model) > _LONGEST_NAME or not ask.model.isprintable():
        raise InvalidInput(f"the model {ask.model[:60]!r} is no name", hint="Give `provider/model`, or 'auto'.")
    for name, value in (("purpose", ask.purpose), ("project", ask.project), ("client", ask.client)):
        if value is not None and (not value.strip() or len(value) > _LONGEST_NAME or not value.isprintable()):
            raise InvalidInput(f"the {name} {value[:60]!r} is no name", hint=f"Leave {name} out, or name it in a line.")
    if ask.max_tokens is not None and not 1 <= ask.max_tokens <= _MOST_TOKENS:
        raise InvalidInput(f"max_tokens is {ask.max_tokens!r}", hint=f"Give 1 to {_MOST_TOKENS:,}, or leave it out.")
    if ask.temperature is not None and not 0 <= ask.temperature <= 2:
        raise InvalidInput(f"the temperature is {ask.temperature!r}", hint="It goes from 0 to 2.")
    if ask.budget is not None and ask.budget < 0:
        raise InvalidInput(f"the budget is {ask.budget!r} micro-cents", hint="Give 0 or more, or leave it out.")
    if ask.deadline is not None and not (math.isfinite(ask.deadline) and 0 < ask.deadline <= 86_400):
        raise InvalidInput(f"the deadline is {ask.deadline!r} s", hint="Give seconds above 0, up to a day.")
    if len(ask.stop) > 16 or not all(ask.stop):
        raise InvalidInput("`stop` has more than 16 texts, or an empty one", hint="Give up to 16 texts.")


def _check_texts(ask: Ask) -> None:
    if not ask.texts or not all(text.strip() for text in ask.texts):
        raise InvalidInput("there is nothing to embed in one of the texts", hint="Give one text or more, none empty.")
    _check_size(len(ask.texts), sum(_bytes(text) for text in ask.texts), "texts")


def _check_messages(ask: Ask) -> None:
    if not any(message.role == "user" and message.text.strip() for message in ask.messages):
        raise InvalidInput("the request has no text of a user", hint="Give a prompt, or a message with role 'user'.")
    size = sum(_bytes(message.text) for message in ask.messages)
    _check_size(len(ask.messages), size + _bytes(ask.context.text if ask.context else ""), "messages")


def _check_size(count: int, size: int, what: str) -> None:
    if count > MOST_TEXTS:
        raise TooLarge(f"the request has {count:,} {what}, more than {MOST_TEXTS:,}", hint="Send it in parts.")
    if size > MOST_BYTES:
        raise TooLarge(
            f"the request has {size:,} bytes of text, more than {MOST_BYTES:,}",
            hint="Shorten it, or have its context built for a budget: `context: {query, budget}` in gateway_chat, "
            "`alg chat --context`.",
        )


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInput("a text has a lone surrogate, which is no character", hint="Send valid Unicode.") from None
