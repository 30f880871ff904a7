"""An OpenAI-compatible server on the loopback that costs as little as can be: what everything else is measured over.

`python _endpoint.py` prints its port and answers until its stdin ends. It thinks nothing: an answer is made of the
request alone, so that whoever asked knows each piece that has to come. Below `/<name>/v1` it is the provider `name`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

MODELS = 8
"""That each provider lists."""
PIECES = 64
"""Of an answer whose request does not bound it."""


def pieces(prompt: str, count: int) -> list[str]:
    """What is answered: other words for other prompts, each different from its neighbours."""
    seed = hashlib.sha256(prompt.encode()).hexdigest()
    return [f" {seed[at % 56 : at % 56 + 4]}-{at}" for at in range(count)]


def model_names(provider: str) -> list[str]:
    """The models that a provider lists."""
    return [f"{provider}-model-{number}" for number in range(MODELS)]


@contextlib.contextmanager
def endpoint(*, pause: float = 0.0) -> Generator[str]:
    """The server in a process of its own; gives its root, such as `http://127.0.0.1:40000`.

    Args:
        pause: seconds between the pieces of a stream.
    """
    command = [sys.executable, "-I", str(Path(__file__).resolve()), str(pause)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            process.wait(10)


class _Connection(asyncio.Protocol):
    """One client. Requests come one after the other, whole or in parts."""

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._received = bytearray()
        self._writes: asyncio.Task[None] | None = None
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as the base has it
        if self._writes is not None:
            self._writes.cancel()
        self._resumed.set()

    def pause_writing(self) -> None:
        self._resumed.clear()

    def resume_writing(self) -> None:
        self._resumed.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = bytes(self._received[:end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", "0"))
        if len(self._received) < end + 4 + length:
            return
        body = bytes(self._received[end + 4 : end + 4 + length])
        del self._received[: end + 4 + length]
        _, path, _ = lines[0].split(" ")
        self._answer(path, body)

    def _answer(self, path: str, body: bytes) -> None:
        provider = path.split("/")[1]
        if path.endswith("/models"):
            listed = [{"id": name, "object": "model", "created": 1, "owned_by": "x"} for name in model_names(provider)]
            self._whole({"object": "list", "data": listed})
            return
        asked = json.loads(body)
        prompt = str(asked["messages"][-1]["content"])
        count = asked.get("max_tokens") or asked.get("max_completion_tokens") or PIECES
        answer = pieces(prompt, count)
        usage = {
            "prompt_tokens": len(prompt) // 4,
            "completion_tokens": count,
            "total_tokens": len(prompt) // 4 + count,
        }
        about = {"id": "c1", "created": 1, "model": asked["model"]}
        if asked.get("stream"):
            self._writes = asyncio.get_running_loop().create_task(self._stream(about, answer, usage))
            return
        message = {"role": "assistant", "content": "".join(answer)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._whole({**about, "object": "chat.completion", "choices": [choice], "usage": usage})

    def _whole(self, document: dict[str, Any]) -> None:
        data = json.dumps(document).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        self._transport.write(head.encode() + data)

    async def _stream(self, about: dict[str, Any], answer: list[str], usage: dict[str, int]) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        chunk = {**about, "object": "chat.completion.chunk"}
        for piece in answer:
            self._event({**chunk, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
            await asyncio.sleep(self._pause)
            await self._resumed.wait()
        self._event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({**chunk, "choices": [], "usage": usage})
        self._event(None)
        self._transport.write(b"0\r\n\r\n")

    def _event(self, document: dict[str, Any] | None) -> None:
        data = b"data: " + (b"[DONE]" if document is None else json.dumps(document).encode()) + b"\n\n"
        self._transport.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


async def _serve(pause: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(pause), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
