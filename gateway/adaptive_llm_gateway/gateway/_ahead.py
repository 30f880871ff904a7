"""What the first request to a model would wait for, loaded before it comes."""

from __future__ import annotations

import importlib


def load_ahead(*, anthropic: bool) -> None:
    """Load the libraries that a request needs and that take long. Nobody is asked anything.

    For a thread, at a time when nobody waits: the interpreter is busy meanwhile.

    Args:
        anthropic: whether its SDK will be needed, which takes the longest.
    """
    from adaptive_llm_gateway.compression import counter_for  # noqa: PLC0415 - brings the tokenizer along
    from adaptive_llm_gateway.gateway._transport import quiet  # noqa: PLC0415

    for name in ("_gateway", "_http_provider"):
        importlib.import_module(f"adaptive_llm_gateway.gateway.{name}")
    counter_for().count("")
    importlib.import_module("httpx2")
    if anthropic:
        importlib.import_module("any_llm")
    quiet()
