"""The gateway's values as JSON, and what callers give as JSON as the gateway's values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound, Trust
from adaptive_llm_gateway.server._times import LOCAL, iso, moment

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import (
        Answered,
        Break,
        ConsentRecord,
        Cost,
        FiledReceipt,
        Message,
        ModelInfo,
        Preview,
        ProviderHealth,
        Receipt,
        Usage,
        WhatIf,
    )

Json = dict[str, Any]

_AHEAD = re.compile(r"\s*(\d{1,5})\s*(min|h|d|w|m|y)\s*", re.IGNORECASE)
_UNITS: Final = {
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "m": timedelta(days=30),  # as in the times of memories
    "y": timedelta(days=365),
}
_CONTEXT = ("query", "project", "session_id", "type", "max_trust")
_WHAT_IF = ("mode", "trust", "down", "consent")


# --- What is asked ------------------------------------------------------------------------------------------------


def trust_of(text: str, name: str = "trust") -> Trust:
    """A trust level by its name.

    Raises:
        InvalidInput: there is none such.
    """
    try:
        return Trust(text)
    except ValueError:
        raise InvalidInput(f"{name!r} is {text!r}", hint=f"Allowed: {', '.join(Trust)}.") from None


def messages_of(given: Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """A conversation: each turn has a `role` and a `content`, which is text or a list of parts of text.

    Raises:
        InvalidInput: it is not one; what is wrong is named by its place, and its text is not repeated.
    """
    from adaptive_llm_gateway.gateway import Message  # noqa: PLC0415 - after the hub listens

    hint = 'Each message is {"role": "user", "content": "..."}; roles: system, user, assistant.'
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput("`messages` is no list", hint=hint)
    found: list[Message] = []
    for place, each in enumerate(given, 1):
        if not isinstance(each, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"message {place} is no object", hint=hint)
        if unknown := sorted(set(each) - {"role", "content"}):
            raise InvalidInput(f"message {place} has {unknown[0]!r}, which a message has not", hint=hint)
        role, content = each.get("role"), each.get("content")
        if role not in ("system", "user", "assistant"):
            raise InvalidInput(f"message {place} has the role {role!r}", hint=hint)
        found.append(Message(role, _content(content, place, hint)))
    return tuple(found)


def _content(content: object, place: int, hint: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts: list[str] = []
        for part in cast("list[object]", content):
            known = cast("dict[str, object]", part) if isinstance(part, dict) else {}
            text = known.get("text")
            if known.get("type") != "text" or not isinstance(text, str):
                raise InvalidInput(f"message {place} has a part that is no text", hint="Only text is taken.")
            texts.append(text)
        return "\n".join(texts)
    raise InvalidInput(f"message {place} has no text as its content", hint=hint)


def texts_of(given: object, name: str) -> tuple[str, ...]:
    """A list of texts; one by itself is a list of it.

    Raises:
        InvalidInput: it is none.
    """
    texts = (given,) if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in cast("list[object]", texts)):
        raise InvalidInput(f"{name!r} is no list of texts", hint=f"Give {name!r} as a list of texts.")
    return tuple(cast("list[str]", texts))


def check_context(given: Mapping[str, Any]) -> int | None:
    """Refuse a `context` that asks for none; its budget, where it has one.

    Raises:
        InvalidInput: it has something else, or of another type.
    """
    if unknown := sorted(set(given) - {*_CONTEXT, "budget"}):
        raise InvalidInput(f"`context` has {unknown[0]!r}", hint=f"It may have: {', '.join((*_CONTEXT, 'budget'))}.")
    for name in _CONTEXT:
        if not isinstance(given.get(name) or "", str):
            raise InvalidInput(f"`context` has the {name} {given[name]!r}", hint=f"Give {name!r} as a text.")
    budget = given.get("budget")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, int)):
        raise InvalidInput(f"`context` has the budget {budget!r}", hint="Give a number of tokens, such as 2000.")
    return budget


def what_if_of(given: Mapping[str, Any] | None) -> WhatIf:
    """What a preview is to assume.

    Raises:
        InvalidInput: there is no such assumption.
    """
    from adaptive_llm_gateway.gateway import Mode, WhatIf  # noqa: PLC0415 - after the hub listens

    if not given:
        return WhatIf()
    if unknown := sorted(set(given) - set(_WHAT_IF)):
        raise InvalidInput(f"`what_if` has {unknown[0]!r}", hint=f"It may have: {', '.join(_WHAT_IF)}.")
    mode, trust = given.get("mode"), given.get("trust")
    modes: tuple[Mode, ...] = get_args(Mode)
    if mode is not None and mode not in modes:
        raise InvalidInput(f"`what_if` has the mode {mode!r}", hint=f"Allowed: {', '.join(modes)}.")
    return WhatIf(
        mode=mode,
        trust=None if trust is None else trust_of(trust),
        down=texts_of(given.get("down") or (), "down"),
        consent=texts_of(given.get("consent") or (), "consent"),
    )


def expiry(text: str, now: datetime) -> datetime:
    """When something ends: an ISO date (its end) or time, or how long from `now`: `12h`, `30d`, `1y`.

    Raises:
        InvalidInput: it is none of these.
    """
    match = _AHEAD.fullmatch(text)
    if match:
        try:
            return now + int(match[1]) * _UNITS[match[2].lower()]
        except OverflowError:
            raise InvalidInput(f"'expires' is {text!r}, beyond all years", hint="For example 30d or 1y.") from None
    return moment(text, "expires", end=True, zone=LOCAL).astimezone(UTC)


def one_of(text: str, ids: Sequence[str], what: str) -> str:
    """The one id that ends in a text.

    Args:
        what: they are of: `consent` or `receipt`.

    Raises:
        InvalidInput: several do.
        NotFound: none does.
    """
    found = [id_ for id_ in ids if id_.endswith(text.upper())] if text else []
    if len(found) != 1:
        problem = f"no {what} has" if not found else f"{len(found)} have"
        kind = InvalidInput if found else NotFound
        raise kind(
            f"{problem} an id that ends in {text!r}", hint=f"`alg {what}{'s' * (what == 'receipt')} list` shows them."
        )
    return found[0]


# --- What is answered ---------------------------------------------------------------------------------------------


def answered_json(answered: Answered, operation: str, context: Json | None) -> Json:
    """An answer, and where it came from."""
    told: Json = {
        "receipt": answered.receipt,
        "operation": operation,
        "provider": answered.provider,
        "model": answered.model,
        "where": answered.provider_class,
        "trust": answered.trust.value,
        "tokens": _tokens(answered.usage),
        "cost": _cost(answered.cost),
        "redacted": answered.redacted,
        "attempts": answered.attempts,
        "seconds": round(answered.took, 4),
    }
    if operation == "embed":
        vectors = [list(vector) for vector in answered.vectors]
        return {**told, "vectors": vectors, "dimensions": len(vectors[0]) if vectors else 0}
    return {**told, "text": answered.text, "finish": answered.finish, "context": context}


def _tokens(usage: Usage) -> Json:
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        "cached": usage.cached_tokens,
        "written": usage.written_tokens,
    }


def _cost(cost: Cost) -> Json:
    return {"micro_cents": cost.micro_cents, "why": cost.why, "table": cost.table}


def preview_json(preview: Preview) -> Json:
    """What would become of a request."""
    plan = preview.plan
    return {
        "receipt": preview.receipt,
        "trust": preview.level.level.value,
        "reasons": [
            {"source": reason.source, "level": reason.level.value, "why": reason.why}
            for reason in preview.level.reasons
        ],
        "purpose": plan.purpose,
        "mode": plan.mode,
        "input_tokens": preview.input_tokens,
        "policy": plan.policy,
        "prices": plan.prices,
        "steps": [
            {
                "provider": step.provider,
                "model": step.model,
                "where": step.provider_class,
                "trust": step.trust.value,
                "redact": step.redact,
                "consent": step.consent,
                "micro_cents": step.cost,
                "max_tokens": step.max_tokens,
                "wait_for_slot": step.wait_for_slot,
                "reason": step.reason,
                "fared": step.fared,
            }
            for step in plan.steps
        ],
        "rejected": [
            {
                "provider": each.provider,
                "model": each.model,
                "where": each.provider_class,
                "reasons": [
                    {"code": reason.code, "text": reason.text, "passes_in": reason.passes_in} for reason in each.reasons
                ],
            }
            for each in plan.rejected
        ],
        "error": error_json(preview.error),
    }


def error_json(error: AlgError | None) -> Json | None:
    """An error that was not raised."""
    return None if error is None else error.as_dict()


def health_json(found: ProviderHealth) -> Json:
    """A provider as it stands."""
    return {
        "name": found.name,
        "kind": found.kind,
        "where": found.provider_class,
        "why": found.why,
        "state": found.health.state,
        "server": found.health.server,
        "version": found.health.version,
        "said": found.health.said,
        "circuit": found.circuit,
        "key": found.key,
        "enabled": found.enabled,
        "found": found.found,
        "seconds": round(found.took, 4),
        "models": [model_json(model) for model in found.models],
    }


def model_json(model: ModelInfo) -> Json:
    """What is known of a model; null is not known."""
    return {
        "name": model.name,
        "chat": model.chat,
        "embed": model.embed,
        "stream": model.stream,
        "tools": model.tools,
        "json": model.json,
        "context": model.context,
        "remote": model.remote,
    }


def consent_json(record: ConsentRecord, now: datetime) -> Json:
    """A grant and what became of it."""
    consent = record.consent
    revoked = record.revoked
    return {
        "id": consent.id,
        "provider": consent.provider,
        "trust": consent.level.value,
        "purpose": consent.purpose,
        "project": consent.project,
        "expires": iso(consent.expires),
        "granted": iso(consent.granted),
        "by": consent.by,
        "reason": record.reason,
        "entry": consent.entry,
        "state": record.state(now),
        "revoked": None if revoked is None else {"at": iso(revoked.at), "by": revoked.by, "reason": revoked.reason},
    }


def break_json(broken: Break | None) -> Json | None:
    """Where a chain does not hold."""
    return None if broken is None else {"line": broken.line, "why": broken.why}


def receipt_line(receipt: Receipt) -> Json:
    """A receipt in a line; the last attempt says who answered."""
    request = receipt.request
    last = receipt.attempts[-1] if receipt.attempts else None
    first = next((step for step in receipt.route if step.taken), None)
    where = {(step.provider, step.model): step.where for step in receipt.route}
    provider = last.provider if last else first.provider if first else None
    model = last.model if last else first.model if first else None
    return {
        "id": receipt.id,
        "at": iso(receipt.at),
        "outcome": receipt.outcome,
        "why": receipt.why,
        "operation": request.operation,
        "purpose": request.purpose,
        "project": request.project,
        "client": request.client,
        "model": request.model,
        "provider": provider,
        "answered_by": model if receipt.outcome == "answered" else None,
        "where": where.get((provider, model)) if provider and model else None,
        "trust": receipt.level.level.value,
        "tokens": {
            "input": receipt.tokens.input,
            "output": receipt.tokens.output,
            "cached": receipt.tokens.cached,
            "written": receipt.tokens.written,
        },
        "micro_cents": receipt.cost.micro_cents,
        "attempts": len(receipt.attempts),
        "redacted": sum(item.count for item in receipt.redacted),
        "blocked": len(receipt.blocked),
        "seconds": round(receipt.timings.total / 1_000_000, 4),
    }


def filed_json(filed: FiledReceipt, run: str) -> Json:
    """A receipt whole, as its file has it, and where it lies."""
    return {
        "receipt": plain(filed.receipt),
        "hash": filed.hash,
        "file": filed.file,
        "line": filed.line,
        "inputs": filed.inputs,
        "run": run,
    }


def plain(value: Any) -> Any:
    """A value of dataclasses as JSON, with times as receipts write them."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, Trust):
        return value.value
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(each) for each in cast("Sequence[Any]", value)]
    return value
