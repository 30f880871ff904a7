"""An MCP client over stdio, for our shim and for any other server: as little of its own as can be."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

PROTOCOL = "2025-11-25"
_WAIT = 120.0
INITIALIZE = {
    "protocolVersion": PROTOCOL,
    "capabilities": {},
    "clientInfo": {"name": "benchmark", "version": "1"},
}


class Failed(Exception):
    """The server answered with an error, or not at all."""


class Client:
    """One server process and the connection to it.

    Args:
        command: starts the server.
        env: its whole environment.
        log: where its stderr goes; default: nowhere.
        handshake: initialize at once.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None = None,
        log: Path | None = None,
        handshake: bool = True,
        wait: float = _WAIT,
    ) -> None:
        self._wait = wait
        self._buffer = b""
        self._number = 0
        errors = log.open("wb") if log else None
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors or subprocess.DEVNULL,
                env=env,
                cwd=cwd,
                bufsize=0,
            )
        finally:
            if errors:
                errors.close()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        if handshake:
            self.initialize()

    def initialize(self) -> None:
        """The handshake; `initialized` is sent without waiting."""
        try:
            self.request("initialize", INITIALIZE)
        except BaseException:
            self.close()
            raise
        self.notify("notifications/initialized")

    def notify(self, method: str) -> None:
        """Tell, without an answer."""
        self._write(json.dumps({"jsonrpc": "2.0", "method": method}).encode() + b"\n")

    def request(self, method: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request, and its result.

        Raises:
            Failed: an error, or nothing within the time.
        """
        return self.exchange(*self.prepare(method, params))

    def prepare(self, method: str, params: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """A request as bytes, so that nothing but the exchange is timed."""
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": params or {}}
        return self._number, json.dumps(message).encode() + b"\n"

    def prepare_call(self, tool: str, **arguments: Any) -> tuple[int, bytes]:
        """A tool call as bytes."""
        return self.prepare("tools/call", {"name": tool, "arguments": arguments})

    def exchange(self, number: int, line: bytes) -> dict[str, Any]:
        """Send a prepared request and wait for its result."""
        self._write(line)
        while True:
            answer = json.loads(self._line())
            if answer.get("id") == number and "method" not in answer:
                if "error" in answer:
                    raise Failed(str(answer["error"]))
                return answer["result"]

    def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool; its text.

        Raises:
            Failed: the tool says so.
        """
        return text_of(self.request("tools/call", {"name": tool, "arguments": arguments}))

    def close(self) -> None:
        """End the server: close its stdin, wait, and kill it if it stays."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._in, view) :]

    def _line(self) -> bytes:
        deadline = time.monotonic() + self._wait
        while b"\n" not in self._buffer:
            if not select.select([self._out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Failed(f"no answer within {self._wait:.0f} s")
            part = os.read(self._out, 1 << 18)
            if not part:
                raise Failed(f"the server ended (exit code {self.process.poll()})")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def text_of(result: Mapping[str, Any]) -> str:
    """The text of a tool's result.

    Raises:
        Failed: the tool failed.
    """
    text = "\n".join(str(item.get("text", "")) for item in result["content"])
    if result.get("isError"):
        raise Failed(text)
    return text
