"""Gateways over providers that fail as told, with one clock for all; `conftest.py` makes it importable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import (
    AlgError,
    SecretScanner,
    Trust,
)
from adaptive_llm_gateway.gateway import (
    Ask,
    BuiltInProvider,
    Embedded,
    FailureKind,
    FiledReceipt,
    Gateway,
    GatewayConfig,
    Locality,
    Message,
    ModelAnswer,
    ModelConfig,
    ModelInfo,
    ModelRequest,
    Piece,
    Price,
    PriceTable,
    ProviderConfig,
    ProviderFailure,
    ProviderPort,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HELLO = (Message("user", "hello there"),)
PRICED = PriceTable("1", (Price("cloud", "built-in", {"input": 10**8, "output": 10**8}),))


class Told(BuiltInProvider):
    """The built-in provider, which keeps what it was asked and may hang until it is let go."""

    def __init__(self, name: str, *, failures: Sequence[ProviderFailure | None] = (), hangs: bool = False, **more: Any):
        super().__init__(name, failures=failures, **more)
        self.asked: list[ModelRequest | list[str]] = []
        self.hangs = hangs
        self.began = asyncio.Event()
        self.most = 0
        self._now = 0

    async def chat(self, request: ModelRequest, *, timeout: float) -> ModelAnswer:
        self.asked.append(request)
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            self.began.set()
            if self.hangs:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            return await super().chat(request, timeout=timeout)
        finally:
            self._now -= 1

    async def stream(self, request: ModelRequest, *, timeout: float) -> AsyncIterator[Piece]:
        self.asked.append(request)
        async for piece in super().stream(request, timeout=timeout):
            yield piece

    async def embed(self, texts: Sequence[str], model: str, *, timeout: float) -> Embedded:
        self.asked.append(list(texts))
        return await super().embed(texts, model, timeout=timeout)

    async def models(self, *, timeout: float) -> list[ModelInfo]:
        failures, self._failures = self._failures, []
        try:
            return await super().models(timeout=timeout)
        finally:
            self._failures = failures

    @property
    def texts(self) -> str:
        """All that it was ever sent."""
        return json.dumps(
            [
                [message.text for message in asked.messages] if isinstance(asked, ModelRequest) else asked
                for asked in self.asked
            ]
        )


class Times:
    """A clock that goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.at = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds
        await asyncio.sleep(0)


def failing(kind: FailureKind, **more: Any) -> ProviderFailure:
    return ProviderFailure(f"it {kind}", kind=kind, **more)


def words(text: str) -> int:
    return len(text.split())


class Made:
    """A gateway over providers of the test's; those named `cloud...` are elsewhere."""

    def __init__(
        self,
        folder: Path,
        *ports: BuiltInProvider,
        configs: dict[str, Any] | None = None,
        times: Times | None = None,
        **more: Any,
    ):
        self.folder = folder
        self.times = times or Times()
        self.ports = {port.name: port for port in ports}
        providers: list[ProviderConfig] = []
        for order, port in enumerate(ports):
            # Of one that is elsewhere only the models that the user names are chosen by themselves.
            models = (ModelConfig("built-in"), ModelConfig("built-in-embed"))
            config = ProviderConfig(port.name, "built_in", order=order, models=models)
            providers.append(replace(config, **(configs or {}).get(port.name, {})))
        settings = {key: more.pop(key) for key in ("budget", "deadline", "routes", "default_trust") if key in more}
        gateway_config = GatewayConfig(providers=tuple(providers), discover=False, **settings)
        given: dict[str, ProviderPort] = dict(self.ports)
        self.gateway = Gateway(
            gateway_config,
            folder,
            scanner=SecretScanner(),
            ports=given,
            locate=self.locate,
            count=words,
            now=lambda: NOW,
            clock=self.times,
            sleep=self.times.sleep,
            jitter=lambda: 0.5,
            **more,
        )

    @staticmethod
    async def locate(config: ProviderConfig) -> Locality:
        return Locality(not config.name.startswith("cloud"), "the test says so")

    def consent(self, provider: str, level: Trust = Trust.INTERNAL) -> None:
        self.gateway.ledger.grant(provider=provider, level=level, now=NOW, by="a person")

    async def refused(self, ask: Ask) -> tuple[AlgError, FiledReceipt]:
        with pytest.raises(AlgError) as caught:
            await self.gateway.answer(ask)
        return caught.value, self.gateway.receipts.show(caught.value.details["receipt"])

    def only(self) -> FiledReceipt:
        (filed,) = self.gateway.receipts.list()
        return filed


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await work()

    asyncio.run(bounded())
