"""The OpenAI dialect on the wire: the body of a request, and what answers and streams of events say. No SDK, no I/O."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from adaptive_llm_gateway.gateway._values import Embedded, ModelRequest, Usage

Limit = Literal["both", "max_tokens", "max_completion_tokens"]
_CHARACTERS_PER_TOKEN: Final = 32
"""More than any tokenizer puts into one on average: beyond it the server ignores the limit."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a whole answer, or an event of a stream, says.

    Attributes:
        text: None where something else than text is in its place.
        reason: why the answer ends there, in the provider's word.
    """

    text: str | None = ""
    reason: str | None = None
    usage: Usage | None = None
    model: str | None = None


def body_of(request: ModelRequest, *, limit: Limit, stream: bool = False, usage: bool = False) -> bytes:
    """The body of a request for chat, as JSON.

    Args:
        limit: the field, or fields, that bound the answer.
        usage: ask for the usage at the end of the stream.

    Raises:
        ValueError: a text has half of a pair of surrogates.
    """
    body: dict[str, object] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.text} for message in request.messages],
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.stop:
        body["stop"] = list(request.stop)
    if request.json:
        body["response_format"] = {"type": "json_object"}
    if request.max_tokens is not None:
        for name in ("max_tokens", "max_completion_tokens") if limit == "both" else (limit,):
            body[name] = request.max_tokens
    if stream:
        body["stream"] = True
        if usage:
            body["stream_options"] = {"include_usage": True}
    return _encoded(body)


def embedding_body_of(texts: Sequence[str], model: str) -> bytes:
    """The body of a request for embeddings, as JSON. Raises ValueError as `body_of`."""
    return _encoded({"model": model, "input": list(texts), "encoding_format": "float"})


def answer_of(document: object) -> Said | None:
    """What a whole answer says; None where it has no choice.

    Raises:
        ErrorEvent: it is an error.
    """
    try:
        found = _part(document, "message")
    except ValueError:
        found = None
    if found is None:
        _refuse_error(document)
    return found


class ErrorEvent(Exception):
    """An error that came with status 200, whole or within a stream.

    Attributes:
        said: the error as JSON.
    """

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said


def event_of(document: object) -> Said:
    """What an event of a stream says.

    Raises:
        ErrorEvent: it is one.
        ValueError: it is no event.
    """
    event = _object(document)
    _refuse_error(event)
    part = _part(event, "delta")
    if part is not None and part.text is None:
        raise ValueError("something else than text")
    return part or Said(usage=usage_of(event))


def vectors_of(document: object, count: int) -> Embedded | None:
    """The vectors of `count` texts; None where there is not one for each, or where they differ in length."""
    try:
        answer = _object(document)
        entries = [_object(entry) for entry in cast("list[object]", answer.get("data"))]
        vectors = {cast("int", entry["index"]): _vector(entry["embedding"]) for entry in entries}
    except (KeyError, OverflowError, TypeError, ValueError):
        return None
    if len(entries) != count or set(vectors) != set(range(count)) or len({len(each) for each in vectors.values()}) != 1:
        return None
    return Embedded([vectors[at] for at in range(count)], usage_of(answer) or Usage())


def usage_of(document: dict[str, object]) -> Usage | None:
    """The tokens that an answer or an event tells."""
    usage = document.get("usage")
    if not isinstance(usage, dict):
        return None
    told = cast("dict[str, object]", usage)
    asked, answered = _count(told.get("prompt_tokens")), _count(told.get("completion_tokens"))
    details = told.get("prompt_tokens_details")
    if asked is None or not isinstance(details, dict):
        return Usage(asked, answered)
    parts = cast("dict[str, object]", details)
    cached, written = _count(parts.get("cached_tokens")), _count(parts.get("cache_write_tokens"))
    if (cached or 0) + (written or 0) > asked:  # then they are no parts of it, and say nothing
        cached = written = None
    return Usage(asked, answered, cached, written)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def most_text(request: ModelRequest) -> float:
    """Characters of an answer beyond which the server cannot have heeded the limit."""
    return math.inf if request.max_tokens is None else request.max_tokens * _CHARACTERS_PER_TOKEN + 1024


async def events(blocks: AsyncIterator[bytes]) -> AsyncGenerator[str]:
    """The data of a stream of server-sent events, up to the one that ends it (`[DONE]`).

    Raises:
        ValueError: an event is no UTF-8.
    """
    left: list[bytes] = []
    data: list[bytes] = []
    returned = over = False
    async for block in blocks:
        rest = block[1:] if returned and block.startswith(b"\n") else block  # the other half of a line's end
        first, *more = rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        returned = block.endswith(b"\r")
        left.append(first)
        for line in more:
            whole, left = b"".join(left), [line]
            if whole.startswith(b"data:"):
                data.append(whole[5:].removeprefix(b" "))
            elif not whole and data:
                event, data = b"\n".join(data).decode(), []
                over = over or event.startswith("[DONE]")
                if not over:  # what is behind the end is read, so that the connection can be used again
                    yield event


def _refuse_error(document: object) -> None:
    error = cast("dict[str, object]", document).get("error") if isinstance(document, dict) else None
    if error:
        raise ErrorEvent(json.dumps({"error": error}))


def _part(document: object, name: str) -> Said | None:
    """What the first choice says under `name`; None where there is none. Raises ValueError: it is of another form."""
    answer = _object(document)
    choices = answer.get("choices")
    if choices is None or choices == []:
        return None
    if not isinstance(choices, list):
        raise ValueError("no list of choices")
    choice = _object(cast("list[object]", choices)[0])
    said = choice.get(name)
    reason, model = choice.get("finish_reason"), answer.get("model")
    return Said(
        _text(_object(said).get("content")) if said is not None else "",
        reason if isinstance(reason, str) else None,
        usage_of(answer),
        model if isinstance(model, str) else None,
    )


def _vector(value: object) -> list[float]:
    """A list of finite numbers, with one at least. Raises OverflowError, ValueError: it is none."""
    if not isinstance(value, list) or not value:
        raise ValueError("no vector")
    parts = cast("list[object]", value)
    if not all(type(part) in (int, float) and math.isfinite(cast("float", part)) for part in parts):
        raise ValueError("no vector")
    return [float(cast("float", part)) for part in parts]


def _encoded(body: dict[str, object]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ValueError("no object")
    return cast("dict[str, object]", value)


def _text(content: object) -> str | None:
    """The text of a message: itself, or that of its parts, some of which may be what a model thought."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    parts = [_object(part) for part in cast("list[object]", content)]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    return "".join(cast("list[str]", texts)) if all(isinstance(text, str) for text in texts) else None
