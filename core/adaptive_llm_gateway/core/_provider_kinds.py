"""The kinds of providers that the settings may name."""

from __future__ import annotations

from typing import Literal

ProviderKind = Literal[
    "openai",
    "anthropic",
    "groq",
    "mistral",
    "openrouter",
    "ollama",
    "lmstudio",
    "localai",
    "llamacpp",
    "vllm",
    "openwebui",
    "openai_compatible",
    "built_in",
]
