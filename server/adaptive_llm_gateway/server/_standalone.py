"""Standalone: hub and shim in one process, under the hub's lock, for containers and tests."""

from __future__ import annotations

import os
import signal
import threading

from adaptive_llm_gateway.core import Home, Settings
from adaptive_llm_gateway.server._hub import run_hub
from adaptive_llm_gateway.server._shim import Shim


def run_standalone(home: Home, settings: Settings) -> None:
    """Serve the client on stdin and stdout until stdin ends or the parent dies, then flush.

    Raises:
        LockHeld: a hub, or another standalone server, serves this home.
    """
    source, sink = os.dup(0), os.dup(1)
    # A stray print must not reach the client, and nobody else may eat its input.
    os.dup2(2, 1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    shim = Shim(str(home.root), source=source, sink=sink, on_orphaned=end)

    def serve() -> None:
        shim.run()
        end()

    run_hub(home, settings, ready=threading.Thread(target=serve, name="stdio", daemon=True).start)
