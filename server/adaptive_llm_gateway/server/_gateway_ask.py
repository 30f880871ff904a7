"""Requests to the gateway from what callers give: their parts, what the memory adds, and what is left when refused."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.compression import DEFAULT_BUDGET
from adaptive_llm_gateway.core import AccessDenied, AlgError, Trust, new_ulid
from adaptive_llm_gateway.server._access import ACCESS
from adaptive_llm_gateway.server._gateway_json import check_context, texts_of, trust_of
from adaptive_llm_gateway.server._operations import Operations

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import Answered, Ask, ContextGiven, Gateway, Message, Purse, Receipt

Json = dict[str, Any]
OnPiece = Callable[[str], Awaitable[None]]

_LONGEST: Final = 16_000
"""Characters of a message that the receipt of a refusal has."""


def turns_of(prompt: str, system: str | None) -> tuple[Message, ...]:
    """The conversation that a prompt is."""
    from adaptive_llm_gateway.gateway import Message  # noqa: PLC0415 - after the hub listens

    return (*([Message("system", system)] if system else []), Message("user", prompt))


def ask_of(
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
    """A request.

    Raises:
        InvalidInput: an argument is of the wrong kind.
        AccessDenied: the project is none of the caller's, whose consents are not for it.
    """
    from adaptive_llm_gateway.gateway import Ask  # noqa: PLC0415 - after the hub listens

    access = ACCESS.get()
    if project and not access.has_project(project):
        raise AccessDenied(
            f"the project {project!r} is none of this token's", hint=f"It may name: {', '.join(access.projects or ())}."
        )

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
        owner=access.owner,
    )


async def context_of(memory: Operations, given: Mapping[str, Any], ask: Ask) -> tuple[ContextGiven | None, Json]:
    """What the memory knows, as it goes into the request, and what is told of it.

    Args:
        given: `query` (else the last message), `budget`, and what narrows it: see `check_context`.

    Raises:
        InvalidInput: there is something else in it, or of another type.
    """
    ACCESS.get().needs("memory:read", "context from the memory")
    budget = check_context(given) or DEFAULT_BUDGET
    from adaptive_llm_gateway.gateway import ContextGiven, ContextRef  # noqa: PLC0415 - after the hub listens

    last = next((message.text for message in reversed(ask.messages) if message.role == "user"), "")
    package = await memory.context(
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


async def streamed(gateway: Gateway, ask: Ask, on_piece: OnPiece, purse: Purse | None = None) -> Answered:
    """The answer, after its pieces."""
    from adaptive_llm_gateway.gateway import Piece  # noqa: PLC0415 - after the hub listens

    answered: Answered | None = None
    async with contextlib.aclosing(gateway.stream(ask, purse=purse)) as pieces:
        async for piece in pieces:
            if isinstance(piece, Piece):
                await on_piece(piece.text)
            else:
                answered = piece
    assert answered is not None  # noqa: S101 - a stream ends with it, or raises
    return answered


def receipt_of_refusal(ask: Ask, problem: AlgError) -> Receipt:
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
            owner=ask.owner,
        ),
        level=ReceiptLevel(level, (LevelReason("declared" if ask.trust else "default", level, why),)),
    )
