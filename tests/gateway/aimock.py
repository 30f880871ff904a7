"""aimock (`@copilotkit/aimock`) as a peer: a real server of models that answers and fails by script, with a journal."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Program

NODE = Path(__file__).resolve().parents[2] / ".node"
PROGRAM = NODE / "node_modules" / "@copilotkit" / "aimock" / "dist" / "cli.js"
START_SECONDS = 60
_LISTENING = re.compile(r"listening on (http://\S+:(\d+))")


def programs() -> tuple[Path, Path]:
    """Node.js and aimock; skips where they are not installed, and fails there with `ALG_REQUIRE_CLIENTS=1`."""
    node = NODE / "bin" / ("node.exe" if os.name == "nt" else "node")
    if not node.exists() or not PROGRAM.is_file():
        reason = "aimock is not installed: run scripts/install_clients.py with the project's Python"
        if os.environ.get("ALG_REQUIRE_CLIENTS") == "1":
            pytest.fail(f"ALG_REQUIRE_CLIENTS is set, but {reason}")
        pytest.skip(reason)
    return node, PROGRAM


class AIMock:
    """One server of it.

    Args:
        fixtures: what it answers, the first that matches; a request that none matches gets HTTP 503.
        folder: empty; its file of fixtures goes there.
    """

    def __init__(
        self, fixtures: Sequence[dict[str, Any]], folder: Path, begin: type[Program], *, host: str = "127.0.0.1"
    ) -> None:
        node, program = programs()
        script = folder / "fixtures.json"
        script.write_text(json.dumps({"fixtures": list(fixtures)}), encoding="utf-8")
        arguments: list[str | Path] = ["--port", "0", "--host", host, "--fixtures", script, "--chunk-size", "5"]
        arguments += ["--strict", "--validate-on-load", "--journal-max", "0"]
        self._program = begin([node, program, *arguments], folder, _LISTENING, seconds=START_SECONDS)
        self.url, self.port = self._program.said[1], int(self._program.said[2])

    @property
    def base(self) -> str:
        return f"{self.url}/v1"

    def mark(self) -> int:
        """How many requests it has had: where `journal` begins for those that follow."""
        return self._get("/__aimock/journal?limit=0")[1]

    def journal(self, since: int = 0) -> list[dict[str, Any]]:
        """The requests that came, with their bodies and what each was answered."""
        return self._get(f"/__aimock/journal?offset={since}")[0]

    def stop(self) -> None:
        self._program.stop()

    def _get(self, path: str) -> tuple[list[dict[str, Any]], int]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}{path}", timeout=30) as answer:
            return json.load(answer), int(answer.headers["x-total-count"])


class AIMocks:
    """Starts servers, each in a process of its own."""

    def __init__(self, folder: Path, begin: type[Program]) -> None:
        self._folder = folder
        self._begin = begin
        self._running: list[AIMock] = []

    def start(self, fixtures: Sequence[dict[str, Any]], *, host: str = "127.0.0.1") -> AIMock:
        folder = self._folder / str(len(self._running))
        folder.mkdir()
        mock = AIMock(fixtures, folder, self._begin, host=host)
        self._running.append(mock)
        return mock

    def stop(self) -> None:
        for mock in self._running:
            mock.stop()
