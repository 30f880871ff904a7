"""What answers at an address is told by what only that server says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from adaptive_llm_gateway.gateway import Health, HttpProvider, ModelInfo, ProviderSpec, address_of
from adaptive_llm_gateway.gateway._discover import local_servers
from adaptive_llm_gateway.gateway._health import SIGNS, has_sign, models_of

if TYPE_CHECKING:
    from conftest import Peers

OLLAMA: dict[str, Any] = {
    "models": [
        {"name": "llama3.2:latest", "model": "llama3.2:latest", "digest": "a", "details": {}},
        {
            "name": "gpt-oss:120b-cloud",
            "model": "gpt-oss:120b-cloud",
            "digest": "b",
            "remote_host": "https://ollama.com",
        },
        {"name": "mine:latest", "model": "mine:latest", "digest": "c", "remote_host": "https://ollama.com"},
    ]
}
LMSTUDIO: dict[str, Any] = {
    "models": [
        {
            "key": "qwen",
            "type": "llm",
            "architecture": "qwen2",
            "max_context_length": 4096,
            "capabilities": {"trained_for_tool_use": True},
        },
        {"key": "nomic", "type": "embedding", "architecture": "bert", "max_context_length": 512},
    ]
}
LLAMACPP: dict[str, Any] = {"default_generation_settings": {"n_ctx": 1024}, "total_slots": 1, "build_info": "b4000-abc"}
VLLM: dict[str, Any] = {
    "object": "list",
    "data": [{"id": "q", "object": "model", "owned_by": "vllm", "max_model_len": 2048}],
}
OTHER: dict[str, Any] = {"object": "list", "data": [{"id": "gpt", "object": "model", "owned_by": "openai"}]}
DOCUMENTS = {"ollama": OLLAMA, "lmstudio": LMSTUDIO, "llamacpp": LLAMACPP, "vllm": VLLM}


@pytest.mark.parametrize("server", [sign.server for sign in SIGNS])
def test_each_server_has_a_sign_that_no_other_has(server: Any) -> None:
    assert [name for name, document in DOCUMENTS.items() if has_sign(server, document)] == [server]
    others: list[Any] = [None, [], "Ollama is running", {}, {"models": "x"}, {"models": [1]}, {"data": [None]}, OTHER]
    for document in others:
        assert not has_sign(server, document), document


def test_models_say_what_they_can_do_where_the_server_tells() -> None:
    assert models_of("lmstudio", LMSTUDIO) == [
        ModelInfo("nomic", chat=False, embed=True, stream=False, json=False, context=512),
        ModelInfo("qwen", chat=True, embed=False, stream=True, tools=True, json=True, context=4096),
    ]
    assert models_of("vllm", VLLM) == [ModelInfo("q", context=2048)]
    assert [model.name for model in models_of("ollama", OLLAMA) if model.remote] == [
        "gpt-oss:120b-cloud",
        "mine:latest",
    ]


def test_a_list_of_models_may_be_anything() -> None:
    entries = [{"id": 1}, {"id": ""}, {"id": "a\nb"}, {"id": "x" * 999}, {"id": "good"}, {"id": "good"}]
    assert [model.name for model in models_of("openai", {"data": entries})] == ["good"]
    assert models_of("openai", {"data": {"id": "x"}}) == []


def health(peer: Any, server: Any) -> Health:
    async def run() -> Health:
        provider = HttpProvider(ProviderSpec("there", address_of(peer.base), server=server, loopback_only=True))
        try:
            return await provider.health(timeout=5)
        finally:
            await provider.close()

    return asyncio.run(run())


def play_ollama(handler: Any, asked: Any) -> None:
    if asked.path == "/api/tags":
        handler.give(OLLAMA)
    elif asked.path == "/api/version":
        handler.give({"version": "0.12.6"})
    elif asked.path == "/api/show" and asked.json["model"] == "llama3.2:latest":
        handler.give({"capabilities": ["completion", "tools"], "model_info": {"llama.context_length": 131072}})
    else:
        handler.give({"error": "no"}, 404)


def test_ollama_is_up_by_its_own_signs(peers: Peers) -> None:
    assert health(peers.start(play_ollama), "ollama") == Health("up", "ollama", "0.12.6", 3, "answers")


def test_what_an_ollama_model_can_do_is_asked(peers: Peers) -> None:
    peer = peers.start(play_ollama)

    async def run() -> list[ModelInfo]:
        provider = HttpProvider(ProviderSpec("o", address_of(peer.base), server="ollama", loopback_only=True))
        try:
            return await provider.models(timeout=5)
        finally:
            await provider.close()

    found = {model.name: model for model in asyncio.run(run())}
    assert found["llama3.2:latest"] == ModelInfo(
        "llama3.2:latest", chat=True, embed=False, stream=True, tools=True, json=True, context=131072
    )
    assert found["mine:latest"] == ModelInfo("mine:latest", remote=True)


def test_somebody_else_at_the_port_is_not_the_provider(peers: Peers) -> None:
    assert health(peers.start(), "ollama").state == "other"  # it has no such path
    assert health(peers.start(lambda h, asked: h.give({"hello": 1})), "ollama").state == "other"
    assert health(peers.start(lambda h, asked: h.give(b"<html>")), "openai").state == "other"
    assert health(peers.start(lambda h, asked: h.give({}, 500)), "openai").state == "down"


def test_nobody_there_is_down(peers: Peers) -> None:
    peer = peers.start()
    peers.stop()
    peers.__init__()
    found = health(peer, "openai")
    assert found.state == "down"
    assert "cannot be reached" in found.said


def at(port: int) -> list[tuple[str, str, str | None]]:
    found = asyncio.run(local_servers(ports=[port], timeout=5))
    return [(server.server, server.address.host, server.version) for server in found]


@pytest.mark.parametrize(
    ("server", "path", "version"),
    [
        ("lmstudio", "/api/v1/models", None),
        ("llamacpp", "/props", "b4000-abc"),
        ("vllm", "/v1/models", None),
    ],
)
def test_a_local_server_is_found_by_what_it_says_at_any_port(
    peers: Peers, server: str, path: str, version: str | None
) -> None:
    def play(handler: Any, asked: Any) -> None:
        handler.give(DOCUMENTS[server]) if asked.path == path else handler.give({}, 404)

    assert at(peers.start(play).port) == [(server, "127.0.0.1", version)]


def test_ollama_is_found_with_its_version_on_either_loopback(peers: Peers) -> None:
    assert at(peers.start(play_ollama).port) == [("ollama", "127.0.0.1", "0.12.6")]
    assert at(peers.start(play_ollama, host="::1").port) == [("ollama", "::1", "0.12.6")]


def test_whoever_speaks_the_api_is_found_as_that_and_anybody_else_is_not(peers: Peers) -> None:
    assert at(peers.start().port) == [("openai", "127.0.0.1", None)]
    assert at(peers.start(lambda h, asked: h.give({"hello": 1})).port) == []
    assert at(peers.start(lambda h, asked: h.give(b"Ollama is running")).port) == []
    other = peers.start(play_ollama)
    assert at(peers.start(lambda h, asked: h.give({}, 307, location=f"{other.url}{asked.path}")).port) == []
    assert not other.asked


def test_nobody_listening_is_nothing_found(peers: Peers) -> None:
    peer = peers.start()
    peers.stop()
    peers.__init__()
    assert at(peer.port) == []
