"""The hub that is measured: the product's own, in a process, with one more tool, which does nothing.

    python _hub.py HOME

No tool of the product does nothing, and what is between a client and a tool is what the benchmark wants to know.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from adaptive_llm_gateway.core import Home, load_settings
from adaptive_llm_gateway.server import _mcp
from adaptive_llm_gateway.server._access import TOOL_SCOPES
from adaptive_llm_gateway.server._hub import run_hub


async def nothing() -> str:
    """Do nothing."""
    return "ok"


def main(folder: str) -> None:
    """Serve the home until stopped."""
    tools: Any = _mcp._Tools  # pyright: ignore[reportPrivateUsage]
    table = tools.table

    def with_nothing(self: Any) -> list[Any]:
        return [*table(self), (nothing, "memory.nothing", {"read_only_hint": True})]

    tools.table = with_nothing
    TOOL_SCOPES["nothing"] = "memory:read"
    home = Home(Path(folder))
    run_hub(home, load_settings(home), ready=lambda: print("ready", flush=True))


if __name__ == "__main__":
    main(sys.argv[1])
