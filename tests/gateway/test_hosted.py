"""Hosted providers by name: where they are, and that nobody reaches them offline."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.gateway import HOSTED, HttpProvider, ProviderFailure, hosted_spec

if TYPE_CHECKING:
    from conftest import Peers


@pytest.mark.parametrize("name", HOSTED)
def test_a_hosted_provider_is_reached_encrypted_and_by_its_own_key(name: str) -> None:
    spec = hosted_spec(name)
    assert spec.address.scheme == "https"
    assert spec.key is not None
    assert spec.key.env == f"{name.upper()}_API_KEY"


def test_an_unknown_name_says_which_are_known() -> None:
    with pytest.raises(ConfigError) as caught:
        hosted_spec("opneai")
    assert "openai" in str(caught.value.hint)


def test_without_its_key_a_hosted_provider_hears_nothing(monkeypatch: pytest.MonkeyPatch, peers: Peers) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async def run() -> None:
        provider = HttpProvider(hosted_spec("openai", loopback_only=True))
        try:
            await provider.models(timeout=5)
        finally:
            await provider.close()

    with pytest.raises(ProviderFailure) as caught:
        asyncio.run(run())
    assert caught.value.kind == "auth"
    assert "OPENAI_API_KEY" in caught.value.message
