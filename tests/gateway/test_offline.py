"""Offline mode beneath the gateway: a provider elsewhere cannot be reached, whatever has been decided above."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "ok"}}],
}


@dataclass
class Model:
    """A model at an address of this machine that is not the loopback; its connections are kept open."""

    url: str = ""
    prompts: int = 0


@pytest.fixture
def model(other_address: str, serve: Callable[..., Any]) -> Model:
    found = Model()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            found.prompts += 1
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    found.url = f"http://{other_address}:{serve(Handler, other_address).server_port}/v1"
    return found


CLIENT = """
import asyncio, json, sys
from adaptive_llm_gateway.core import set_offline
from adaptive_llm_gateway.gateway import (
    HttpProvider, Message, ModelRequest, ProviderFailure, ProviderSpec, address_of
)
ASKED = ModelRequest((Message("user", "What is a lease?"),), "m")

async def streamed(provider):
    async for _ in provider.stream(ASKED, timeout=20):
        pass

async def outcome(awaitable):
    try:
        await awaitable
    except ProviderFailure as error:
        return error.kind
    return "done"

async def run():
    provider = HttpProvider(ProviderSpec("there", address_of(sys.argv[1])))
    found = {"before": await outcome(provider.chat(ASKED, timeout=20))}
    found["cut"] = len(set_offline(True))
    found["whole"] = await outcome(provider.chat(ASKED, timeout=20))
    found["stream"] = await outcome(streamed(provider))
    found["models"] = await outcome(provider.models(timeout=20))
    set_offline(False)
    found["after"] = await outcome(provider.chat(ASKED, timeout=20))
    await provider.close()
    print(json.dumps(found))

asyncio.run(run())
"""


def test_a_provider_elsewhere_is_a_failure_in_offline_mode_also_over_a_connection_from_before(model: Model) -> None:
    # In a process of its own, for what listens at this address would be cut as well.
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, model.url],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "before": "done",
        "cut": 1,
        "whole": "refused",
        "stream": "refused",
        "models": "refused",
        "after": "done",
    }
    assert model.prompts == 2
