"""The built-in provider: the same question has the same answer."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from adaptive_llm_gateway.gateway import (
    BuiltInProvider,
    Message,
    ModelRequest,
    Piece,
    ProviderFailure,
    ProviderPort,
    Usage,
)


def request(text: str = "What is a lease?", **settings: Any) -> ModelRequest:
    return ModelRequest((Message("user", text),), "built-in", **settings)


def streamed(provider: ProviderPort, asked: ModelRequest) -> list[Piece]:
    async def run() -> list[Piece]:
        return [piece async for piece in provider.stream(asked, timeout=1)]

    return asyncio.run(run())


def test_it_is_a_provider() -> None:
    assert isinstance(BuiltInProvider(), ProviderPort)


def test_the_same_question_has_the_same_answer_also_in_another_process() -> None:
    answer = asyncio.run(BuiltInProvider().chat(request(), timeout=1))
    assert answer == asyncio.run(BuiltInProvider("other").chat(request(), timeout=1))
    assert answer != asyncio.run(BuiltInProvider().chat(request("What is a claim?"), timeout=1))
    code = (
        "import asyncio\nfrom adaptive_llm_gateway.gateway import BuiltInProvider, Message, ModelRequest\n"
        "asked = ModelRequest((Message('user', 'What is a lease?'),), 'built-in')\n"
        "print(asyncio.run(BuiltInProvider().chat(asked, timeout=1)).text)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == answer.text
    assert "What is a lease?" in answer.text


@pytest.mark.parametrize("asked", [request(), request(max_tokens=3), request(json=True), request("x  y\n z ")])
def test_a_stream_comes_in_pieces_and_is_the_same_answer(asked: ModelRequest) -> None:
    answer = asyncio.run(BuiltInProvider().chat(asked, timeout=1))
    pieces = streamed(BuiltInProvider(), asked)
    assert "".join(piece.text for piece in pieces) == answer.text
    assert (pieces[-1].finish, pieces[-1].usage) == (answer.finish, answer.usage)
    assert len(pieces) >= 2


def test_it_heeds_limits_stops_and_json() -> None:
    short = asyncio.run(BuiltInProvider().chat(request(max_tokens=3), timeout=1))
    assert (short.finish, short.usage.output_tokens) == ("length", 3)
    stopped = asyncio.run(BuiltInProvider().chat(request(stop=(" to:",)), timeout=1))
    assert not stopped.text.endswith("lease?")
    document = json.loads(asyncio.run(BuiltInProvider().chat(request(json=True), timeout=1)).text)
    assert document["asked"] == "What is a lease?"


def test_vectors_are_of_one_length_and_near_for_texts_that_share_words() -> None:
    texts = ["a lease on a task", "the lease of a task", "green cheese"]
    found = asyncio.run(BuiltInProvider().embed(texts, "built-in-embed", timeout=1))
    a, b, c = found.vectors
    assert found.usage == Usage(12, 0)
    assert len({len(a), len(b), len(c)}) == 1
    assert sum(x * x for x in a) == pytest.approx(1.0)
    assert sum(x * y for x, y in zip(a, b, strict=True)) > sum(x * y for x, y in zip(a, c, strict=True))


def test_it_fails_as_it_is_told_and_then_answers() -> None:
    provider = BuiltInProvider(failures=[ProviderFailure("busy", kind="overloaded")])
    with pytest.raises(ProviderFailure) as caught:
        asyncio.run(provider.chat(request(), timeout=1))
    assert caught.value.kind == "overloaded"
    assert asyncio.run(provider.chat(request(), timeout=1)).finish == "stop"


def test_a_stream_that_is_cut_has_no_finish() -> None:
    with pytest.raises(ProviderFailure) as caught:
        streamed(BuiltInProvider(cut_after=2), request())
    assert caught.value.kind == "incomplete"


def test_a_prompt_beyond_its_context_and_an_unknown_model_are_refused() -> None:
    with pytest.raises(ProviderFailure) as caught:
        asyncio.run(BuiltInProvider().chat(request("word " * 9000), timeout=1))
    assert caught.value.kind == "too_long"
    with pytest.raises(ProviderFailure, match="built-in"):
        asyncio.run(BuiltInProvider().chat(ModelRequest((), "gpt"), timeout=1))


def test_any_text_can_be_asked() -> None:
    for text in ("", "\ud800", "\x00", "🦉" * 500):
        assert asyncio.run(BuiltInProvider().chat(request(text), timeout=1)).finish == "stop"
        assert len(asyncio.run(BuiltInProvider().embed([text], "built-in-embed", timeout=1)).vectors) == 1
