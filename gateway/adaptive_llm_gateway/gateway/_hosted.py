"""The hosted providers that a name and a key are enough for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.gateway._dialect import Limit
from adaptive_llm_gateway.gateway._http_provider import ProviderSpec
from adaptive_llm_gateway.gateway._keys import KeySource
from adaptive_llm_gateway.gateway._locality import address_of


@dataclass(frozen=True, slots=True)
class Hosted:
    """What is known of a hosted provider: its base, its key's usual variable, and what its API differs in."""

    url: str
    env: str
    dialect: Literal["openai", "anthropic"] = "openai"
    limit: Limit = "max_completion_tokens"
    stream_usage: bool = True


HOSTED = {
    "anthropic": Hosted("https://api.anthropic.com", "ANTHROPIC_API_KEY", dialect="anthropic"),
    "groq": Hosted("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    # It refuses fields that it does not know, and gives the usage in streams unasked.
    "mistral": Hosted("https://api.mistral.ai/v1", "MISTRAL_API_KEY", limit="max_tokens", stream_usage=False),
    "openai": Hosted("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openrouter": Hosted("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", limit="max_tokens"),
}


def hosted_spec(name: str, *, key: KeySource | None = None, loopback_only: bool = False) -> ProviderSpec:
    """How a hosted provider is reached.

    Args:
        key: where its key lies, if not in its usual variable or the keychain (`adaptive-llm-gateway`, its name).
        loopback_only: in offline mode: its connections are refused before anything is sent.

    Raises:
        ConfigError: none is known by that name.
    """
    known = HOSTED.get(name)
    if known is None:
        raise ConfigError(
            f"{name!r} is no provider that a name is enough for",
            hint=f"Take one of {', '.join(HOSTED)}, or give a URL.",
            key="providers",
        )
    return ProviderSpec(
        name,
        address_of(known.url),
        dialect=known.dialect,
        key=key or KeySource(known.env, keyring_service="adaptive-llm-gateway", keyring_user=name),
        limit=known.limit,
        stream_usage=known.stream_usage,
        loopback_only=loopback_only,
    )
