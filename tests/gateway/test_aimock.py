"""Providers behind any-llm against aimock: a server that others wrote answers as we expect, and its journal has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from adaptive_llm_gateway.gateway import (
    HttpProvider,
    Message,
    ModelRequest,
    Piece,
    ProviderFailure,
    ProviderSpec,
    address_of,
)

if TYPE_CHECKING:
    from aimock import AIMock, AIMocks

Result = TypeVar("Result")
ANSWER = "Hello, wide world."
DIALECTS: list[Any] = ["openai", "anthropic"]
WAYS = ["unary", "stream"]


@pytest.fixture(scope="module")
def mock(aimocks: AIMocks) -> AIMock:
    said = {"content": ANSWER}
    slow_down = {"error": {"message": "slow down", "type": "rate_limit_error"}, "status": 429}
    return aimocks.start(
        [
            {"match": {"model": "m"}, "response": said},
            {"match": {"model": "limited"}, "response": {**slow_down, "retryAfter": 59}},
            # It writes so fast that all would be lost with the connection, without the pause.
            {"match": {"model": "cut"}, "response": said, "latency": 20, "truncateAfterChunks": 3},
            {"match": {"model": "drop"}, "response": said, "chaos": {"dropRate": 1}},
            {"match": {"model": "malformed"}, "response": said, "chaos": {"malformedRate": 1}},
            {"match": {"model": "e"}, "response": {"embedding": [0.5, -0.25, 0.125]}},
            {"match": {"model": "disconnect"}, "response": said, "chaos": {"disconnectRate": 1}},
        ]
    )


def using(mock: AIMock, work: Callable[[HttpProvider], Awaitable[Result]], dialect: Any = "openai") -> Result:
    async def run() -> Result:
        base = mock.url if dialect == "anthropic" else mock.base
        provider = HttpProvider(ProviderSpec("mock", address_of(base), dialect=dialect, loopback_only=True))
        try:
            return await work(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


def ask(
    mock: AIMock, model: str, way: str, prompt: str, dialect: Any = "openai", given: list[Piece] | None = None
) -> str:
    """The answer's text; the pieces go into `given`."""
    request = ModelRequest((Message("user", prompt),), model, max_tokens=100)
    pieces: list[Piece] = [] if given is None else given

    async def work(provider: HttpProvider) -> str:
        if way == "unary":
            return (await provider.chat(request, timeout=30)).text
        async for piece in provider.stream(request, timeout=30):
            pieces.append(piece)
        return "".join(piece.text for piece in pieces)

    return using(mock, work, dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("way", WAYS)
def test_an_answer_comes_whole_and_the_journal_has_what_was_asked(mock: AIMock, way: str, dialect: Any) -> None:
    before = mock.mark()
    prompt = f"What is a lease ({way}, {dialect})?"
    assert ask(mock, "m", way, prompt, dialect) == ANSWER
    journal = mock.journal(before)
    assert [entry["path"] for entry in journal] == [
        "/v1/messages" if dialect == "anthropic" else "/v1/chat/completions"
    ]
    assert prompt in str(journal)


def test_embeddings_are_one_a_text(mock: AIMock) -> None:
    found = using(mock, lambda provider: provider.embed(["one", "two"], "e", timeout=30))
    assert found.vectors == [[0.5, -0.25, 0.125]] * 2


def test_its_models_are_listed(mock: AIMock) -> None:
    found = using(mock, lambda provider: provider.models(timeout=30))
    assert "limited" in [model.name for model in found]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("model", "kind"),
    [("limited", "rate_limited"), ("drop", "server"), ("malformed", "broken"), ("disconnect", "broken")],
)
def test_a_fault_has_its_kind(mock: AIMock, way: str, model: str, kind: str) -> None:
    before = mock.mark()
    given: list[Piece] = []
    with pytest.raises(ProviderFailure) as caught:
        ask(mock, model, way, "PROMPT", given=given)
    assert caught.value.kind == kind
    assert caught.value.retry_after == (59.0 if model == "limited" else None)
    assert not given
    assert len(mock.journal(before)) == 1


def test_a_stream_that_is_cut_gives_what_came_and_fails(mock: AIMock) -> None:
    given: list[Piece] = []
    with pytest.raises(ProviderFailure) as caught:
        ask(mock, "cut", "stream", "PROMPT", given=given)
    assert caught.value.kind == "incomplete"
    text = "".join(piece.text for piece in given)
    assert text
    assert ANSWER.startswith(text)
    assert text != ANSWER
    assert all(piece.finish is None for piece in given)
