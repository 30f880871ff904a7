"""The smallest client: the gateway over stdio, without any MCP library.

One JSON-RPC message a line, in both directions: that is all a client needs. It works in a home of its own, which it
removes, and fails if an answer is not what it says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ALG = str(Path(sys.executable).with_name("alg"))


class Gateway:
    """The gateway as a child process."""

    def __init__(self, home: str) -> None:
        self._process = subprocess.Popen(
            [ALG, "serve", "--home", home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._last = 0
        self.request(
            "initialize",
            protocolVersion="2025-11-25",
            capabilities={},
            clientInfo={"name": "example", "version": "1.0"},
        )
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        self._last += 1
        self._send({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params})
        assert self._process.stdout is not None
        while True:
            answer = json.loads(self._process.stdout.readline())
            if answer.get("id") == self._last:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def call(self, tool: str, **arguments: Any) -> str:
        """Call a tool; the text of its answer."""
        result = self.request("tools/call", name=tool, arguments=arguments)
        text = "".join(part["text"] for part in result["content"])
        assert not result.get("isError"), text
        return text

    def close(self) -> None:
        """End: the gateway goes when its input ends."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=10) == 0
        self._process.stdout.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = os.path.join(folder, "home")  # noqa: PTH118
        gateway = Gateway(home)
        try:
            tools = [tool["name"] for tool in gateway.request("tools/list")["tools"]]
            assert "memory_search" in tools
            print(f"{len(tools)} tools: {', '.join(tools)}")
            print(gateway.call("memory_write", type="fact", title="The kettle holds 1.7 litres", reason="measured"))
            found = gateway.call("memory_search", query="kettle")
            assert "The kettle holds 1.7 litres" in found
            print(found)
        finally:
            gateway.close()
            subprocess.run([ALG, "--home", home, "hub", "stop"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
