"""The one dialect that is not OpenAI's, behind the same port and the same client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from adaptive_llm_gateway.gateway import (
    HttpProvider,
    KeySource,
    Message,
    ModelAnswer,
    ModelRequest,
    Piece,
    ProviderFailure,
    ProviderSpec,
    Usage,
    address_of,
)

if TYPE_CHECKING:
    from conftest import Peers

Result = TypeVar("Result")
CANARY = "sk-ant-canary-0123456789abcdef"
ASKED = ModelRequest((Message("system", "Be brief."), Message("user", "What is a lease?")), "m", max_tokens=50)


def using(base: str, work: Callable[[HttpProvider], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        spec = ProviderSpec(
            "there", address_of(base), dialect="anthropic", key=KeySource("THERE_KEY"), loopback_only=True
        )
        provider = HttpProvider(spec)
        try:
            return await work(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE_KEY", CANARY)


async def whole(provider: HttpProvider) -> ModelAnswer:
    return await provider.chat(ASKED, timeout=10)


async def pieces(provider: HttpProvider) -> list[Piece]:
    return [piece async for piece in provider.stream(ASKED, timeout=10)]


def event(handler: Any, kind: str, **fields: Any) -> None:
    handler.wfile.write(f"event: {kind}\n".encode())
    handler.event({"type": kind, **fields})


def play(handler: Any, asked: Any, *, until: int = 99) -> None:
    if asked.path == "/v1/models":
        handler.give(
            {"data": [{"type": "model", "id": "m", "display_name": "M", "created_at": "2026-01-01T00:00:00Z"}]}
        )
        return
    message = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello world"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    if not asked.json.get("stream"):
        handler.give(message)
        return
    handler.begin_stream()
    events: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": {**message, "content": [], "stop_reason": None}}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
        ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": " world"}}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
        ("message_stop", {}),
    ]
    for kind, fields in events[:until]:
        event(handler, kind, **fields)


def test_an_answer_comes_whole_and_only_known_headers_leave(peers: Peers) -> None:
    peer = peers.start(play)
    assert using(peer.url, whole) == ModelAnswer("Hello world", "stop", Usage(3, 2), "m")
    headers = peer.asked[0].headers
    assert headers["x-api-key"] == CANARY
    assert "authorization" not in headers
    assert not [name for name in headers if name.startswith("x-stainless")]
    assert peer.asked[0].json["max_tokens"] == 50


def test_an_answer_comes_in_pieces(peers: Peers) -> None:
    found = using(peers.start(play).url, pieces)
    assert "".join(piece.text for piece in found) == "Hello world"
    assert found[-1].finish == "stop"


def test_what_its_cache_had_and_took_in_is_a_part_of_what_it_read(peers: Peers) -> None:
    usage = {
        "input_tokens": 3,
        "output_tokens": 2,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 7,
    }
    message = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    assert using(peers.start(lambda h, _: h.give(message)).url, whole).usage == Usage(50, 2, 40, 7)

    def stream(handler: Any, _: Any) -> None:
        handler.begin_stream()
        event(handler, "message_start", message={**message, "content": [], "stop_reason": None})
        event(handler, "content_block_start", index=0, content_block={"type": "text", "text": ""})
        event(handler, "content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"})
        event(handler, "content_block_stop", index=0)
        event(handler, "message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
        event(handler, "message_stop")

    assert using(peers.start(stream).url, pieces)[-1].usage == Usage(50, 2, 40, 7)


@pytest.mark.parametrize("until", [1, 3, 5])
def test_a_stream_that_ends_early_is_not_whole(peers: Peers, until: int) -> None:
    with pytest.raises(ProviderFailure) as caught:
        using(peers.start(lambda h, asked: play(h, asked, until=until)).url, pieces)
    assert caught.value.kind in ("incomplete", "broken")


@pytest.mark.parametrize("work", [whole, pieces])
def test_a_rate_limit_and_a_redirect_are_what_they_are(peers: Peers, work: Any) -> None:
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}
    with pytest.raises(ProviderFailure) as caught:
        using(peers.start(lambda h, asked: h.give(error, 429, retry_after="61")).url, work)
    assert (caught.value.kind, caught.value.retry_after) == ("rate_limited", 61.0)
    other = peers.start(play)
    with pytest.raises(ProviderFailure) as caught:
        using(peers.start(lambda h, asked: h.give({}, 307, location=other.url)).url, work)
    assert caught.value.kind == "redirect"
    assert not other.asked


def test_its_models_are_listed_and_it_embeds_nothing(peers: Peers) -> None:
    peer = peers.start(play)
    assert [model.name for model in using(peer.url, lambda p: p.models(timeout=5))] == ["m"]
    with pytest.raises(ProviderFailure) as caught:
        using(peer.url, lambda p: p.embed(["a"], "m", timeout=5))
    assert caught.value.kind == "bad_request"


def test_the_sdk_never_has_the_key_and_no_value_of_its_own_comes_out(
    peers: Peers, modules_of: Callable[[object], set[str]]
) -> None:
    async def work(provider: HttpProvider) -> list[object]:
        found: list[object] = [await whole(provider), *await pieces(provider), await provider.models(timeout=10)]
        sdk: object = provider._sdk  # pyright: ignore[reportPrivateUsage]
        client: Any = vars(sdk)["client"]
        headers: dict[str, str] = dict(client.default_headers)
        assert CANARY not in f"{vars(sdk)} {vars(client)} {headers}"
        return found

    for value in using(peers.start(play).url, work):
        assert modules_of(value) <= {"builtins", "adaptive_llm_gateway"}
