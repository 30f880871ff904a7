"""The built-in provider: no model, no network; the same question has the same answer. For tests and first steps."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
from collections.abc import AsyncIterator, Sequence

from adaptive_llm_gateway.gateway._port import Health, ProviderFailure
from adaptive_llm_gateway.gateway._values import Embedded, Finish, ModelAnswer, ModelInfo, ModelRequest, Piece, Usage

CHAT_MODEL = "built-in"
EMBED_MODEL = "built-in-embed"
CONTEXT = 8192  # tokens, as this provider counts them: words and signs
DIMENSIONS = 64

_WORD = re.compile(r"\w+|[^\w\s]")
_QUOTED = 160


class BuiltInProvider:
    """A provider that repeats what it was asked, and answers by that alone.

    Args:
        name: how the provider is called.
        failures: what happens to the first calls, in order; `None` is an answer. Later calls are answered.
        cut_after: pieces after which each stream breaks off.
    """

    def __init__(
        self,
        name: str = "built-in",
        *,
        failures: Sequence[ProviderFailure | None] = (),
        cut_after: int | None = None,
    ) -> None:
        self.name = name
        self._failures = list(failures)
        self._cut_after = cut_after

    async def chat(self, request: ModelRequest, *, timeout: float) -> ModelAnswer:
        """The whole answer."""
        self._may_fail()
        _known(request.model, CHAT_MODEL, self.name)
        text, finish, usage = _answer(request)
        return ModelAnswer(text, finish, usage, CHAT_MODEL)

    async def stream(self, request: ModelRequest, *, timeout: float) -> AsyncIterator[Piece]:
        """The same answer, word by word."""
        self._may_fail()
        _known(request.model, CHAT_MODEL, self.name)
        text, finish, usage = _answer(request)
        for count, word in enumerate(re.findall(r"\s*\S+\s*$|\s*\S+", text)):
            if count == self._cut_after:
                raise ProviderFailure(f"{self.name!r} broke off after {count!r} pieces", kind="incomplete")
            yield Piece(word)
            await asyncio.sleep(0)  # as a network would, so that many streams run side by side
        yield Piece(finish=finish, usage=usage)

    async def embed(self, texts: Sequence[str], model: str, *, timeout: float) -> Embedded:
        """A vector of length 1 for each text; texts that share words are near each other."""
        self._may_fail()
        _known(model, EMBED_MODEL, self.name)
        asked = sum(len(_WORD.findall(text)) for text in texts)
        return Embedded([_vector(text) for text in texts], Usage(asked, 0))

    async def models(self, *, timeout: float) -> list[ModelInfo]:
        """Its two models."""
        self._may_fail()
        return [
            ModelInfo(CHAT_MODEL, chat=True, embed=False, stream=True, tools=False, json=True, context=CONTEXT),
            ModelInfo(EMBED_MODEL, chat=False, embed=True, stream=False, tools=False, json=False, context=CONTEXT),
        ]

    async def health(self, *, timeout: float) -> Health:
        """It is always up."""
        return Health("up", server="built-in", models=2, said="answers by itself, without a model")

    async def close(self) -> None:
        """There is nothing to close."""

    def _may_fail(self) -> None:
        failure = self._failures.pop(0) if self._failures else None
        if failure is not None:
            raise failure


def _known(model: str, own: str, name: str) -> None:
    if model != own:
        raise ProviderFailure(
            f"{name!r} has no model {model!r} for this; it is {own!r}", kind="bad_request", status=404
        )


def _answer(request: ModelRequest) -> tuple[str, Finish, Usage]:
    asked = sum(len(_WORD.findall(message.text)) for message in request.messages)
    if asked > CONTEXT:
        raise ProviderFailure(
            f"the prompt has {asked!r} tokens, the context of {CHAT_MODEL!r} {CONTEXT!r}", kind="too_long", status=400
        )
    last = next((message.text for message in reversed(request.messages) if message.role == "user"), "")
    quoted = " ".join(last.split())
    quoted = quoted if len(quoted) <= _QUOTED else quoted[: _QUOTED - 1] + "…"
    said = [[message.role, message.text] for message in request.messages]
    # Lone surrogates have a hash too: what is asked may be any text.
    mark = hashlib.sha256(json.dumps([said, request.temperature]).encode()).hexdigest()[:8]
    text = (
        json.dumps({"built_in": True, "asked": quoted, "mark": mark}, ensure_ascii=False)
        if request.json
        else f"Built-in answer {mark} to: {quoted}"
    )
    finish: Finish = "stop"
    for stop in filter(None, request.stop):
        text = text.partition(stop)[0]
    tokens = list(_WORD.finditer(text))
    if request.max_tokens is not None and len(tokens) > request.max_tokens:
        text, finish = text[: tokens[request.max_tokens].start()].rstrip(), "length"
    return text, finish, Usage(asked, len(_WORD.findall(text)))


def _vector(text: str) -> list[float]:
    sums = [0.0] * DIMENSIONS
    for word in _WORD.findall(text.casefold()) or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        sums[digest[0] % DIMENSIONS] += 1.0 if digest[1] & 1 else -1.0
    length = math.sqrt(sum(value * value for value in sums))
    if not length:  # words that cancel each other out
        sums[0], length = 1.0, 1.0
    return [value / length for value in sums]
