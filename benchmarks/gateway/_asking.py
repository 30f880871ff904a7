"""The ways to ask one endpoint: by raw HTTP, by the SDK alone, by our provider, and by the whole gateway."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from _endpoint import model_names

from adaptive_llm_gateway.gateway import (
    Ask,
    Gateway,
    HttpProvider,
    Message,
    ModelRequest,
    Piece,
    ProviderSpec,
    address_of,
)

TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Streamed:
    """A stream as it came: seconds to the first piece and to the end, and the pieces."""

    first: float
    total: float
    pieces: list[str]


class Way(Protocol):
    """One way to ask."""

    name: str

    async def whole(self, prompt: str, tokens: int) -> str:
        """The whole answer."""
        ...

    def pieces(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        """The answer as it comes."""
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


async def streamed(way: Way, prompt: str, tokens: int) -> Streamed:
    """Take in a stream to its end."""
    began = time.perf_counter()
    first = 0.0
    found: list[str] = []
    async for piece in way.pieces(prompt, tokens):
        if not found:
            first = time.perf_counter() - began
        found.append(piece)
    return Streamed(first, time.perf_counter() - began, found)


def _client() -> Any:
    import httpx2  # noqa: PLC0415 - whoever measures the start loads it later

    limits = httpx2.Limits(max_connections=256, max_keepalive_connections=256)
    return httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=TIMEOUT, limits=limits)


class RawHttp:
    """Nothing but an HTTP client that keeps its connections, and `json`."""

    name = "raw HTTP"

    def __init__(self, root: str, provider: str) -> None:
        self._url = f"{root}/{provider}/v1/chat/completions"
        self._model = model_names(provider)[0]
        self._client = _client()

    def _asked(self, prompt: str, tokens: int, **more: Any) -> dict[str, Any]:
        return {"model": self._model, "messages": self._messages(prompt), "max_tokens": tokens, **more}

    def _messages(self, prompt: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": prompt}]

    async def whole(self, prompt: str, tokens: int) -> str:
        response = await self._client.post(self._url, json=self._asked(prompt, tokens))
        return json.loads(response.content)["choices"][0]["message"]["content"]

    async def pieces(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        asked = self._asked(prompt, tokens, stream=True, stream_options={"include_usage": True})
        async with self._client.stream("POST", self._url, json=asked) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    if choices and (text := choices[0]["delta"].get("content")):
                        yield text

    async def close(self) -> None:
        await self._client.aclose()


class Sdk:
    """`any-llm-sdk`, as somebody would use it by itself."""

    name = "any-llm SDK"

    def __init__(self, root: str, provider: str) -> None:
        from any_llm import AnyLLM  # noqa: PLC0415 - takes two seconds

        self._model = model_names(provider)[0]
        self._client = _client()
        self._sdk: Any = AnyLLM.create_openai_compatible(  # pyright: ignore[reportUnknownMemberType]
            provider, api_base=f"{root}/{provider}/v1", api_key="none", http_client=self._client, max_retries=0
        )

    async def whole(self, prompt: str, tokens: int) -> str:
        answer = await self._sdk.acompletion(model=self._model, messages=self._messages(prompt), max_tokens=tokens)
        return answer.choices[0].message.content

    async def pieces(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        chunks = await self._sdk.acompletion(
            model=self._model,
            messages=self._messages(prompt),
            max_tokens=tokens,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in chunks:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield text

    def _messages(self, prompt: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": prompt}]

    async def close(self) -> None:
        await self._client.aclose()


class Provider:
    """Our provider, without policy, receipts or anything else of the gateway."""

    name = "our provider"

    def __init__(self, root: str, provider: str) -> None:
        self._model = model_names(provider)[0]
        self._port = HttpProvider(ProviderSpec(provider, address_of(f"{root}/{provider}/v1"), loopback_only=True))

    def _asked(self, prompt: str, tokens: int) -> ModelRequest:
        return ModelRequest((Message("user", prompt),), self._model, max_tokens=tokens)

    async def whole(self, prompt: str, tokens: int) -> str:
        return (await self._port.chat(self._asked(prompt, tokens), timeout=TIMEOUT)).text

    async def pieces(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        async for piece in self._port.stream(self._asked(prompt, tokens), timeout=TIMEOUT):
            if piece.text:
                yield piece.text

    async def close(self) -> None:
        await self._port.close()


class Whole:
    """The gateway: level, policy, consents, plan, call, receipt and run folder, on the disk."""

    name = "gateway"

    def __init__(self, gateway: Gateway, provider: str | None) -> None:
        self._gateway = gateway
        self._model = f"{provider}/{model_names(provider)[0]}" if provider else "auto"

    def _ask(self, prompt: str, tokens: int) -> Ask:
        return Ask("complete", (Message("user", prompt),), model=self._model, max_tokens=tokens, client="benchmark")

    async def whole(self, prompt: str, tokens: int) -> str:
        return (await self._gateway.answer(self._ask(prompt, tokens))).text

    async def pieces(self, prompt: str, tokens: int) -> AsyncIterator[str]:
        async with aclosing(self._gateway.stream(self._ask(prompt, tokens))) as parts:
            async for part in parts:
                if isinstance(part, Piece):
                    yield part.text

    async def close(self) -> None:
        await self._gateway.close()
