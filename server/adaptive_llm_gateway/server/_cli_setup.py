"""`alg path` and `alg init`: where things lie, and making the home."""

from __future__ import annotations

from pathlib import Path

from adaptive_llm_gateway.core import ConfigError, Home
from adaptive_llm_gateway.server._registration import alg_command


def memory_repo(root: str) -> Path:
    """Where the memory repo lies by the configuration; by default, where that cannot be read."""
    home = Home(root)
    from adaptive_llm_gateway.core import load_settings  # noqa: PLC0415 - pydantic

    try:
        return load_settings(home).memory.path or home.memory
    except ConfigError:
        return home.memory


def paths(root: str) -> dict[str, str]:
    """Every place by its name."""
    home = Home(root)
    return {
        "home": str(home.root),
        "config": str(home.config),
        "memory": str(memory_repo(root)),
        "index": str(home.index),
        "log": str(home.hub_log),
        "socket": str(home.socket),
        "alg": alg_command()[0],
    }
