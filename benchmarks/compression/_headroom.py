"""TextCrusher of headroom-ai, in an environment and a process of its own, without the network at run time."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from _client import Failed
from _install import environment, version
from _measure import say

_REQUIREMENTS = Path(__file__).with_name("headroom-requirements.txt")
_CHILD = Path(__file__).with_name("_headroom_child.py")
PACKAGE = "headroom-ai"
_OFFLINE = {"HEADROOM_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True, slots=True)
class Crushed:
    """What came of a text, how long that took in the other process, and the memory that this process has."""

    text: str
    ms: float
    rss_mb: float


class TextCrusher:
    """A running process that crushes texts for a question; see `_headroom_child.py` for what it speaks.

    Args:
        command: starts it.

    Raises:
        Failed: it did not start, or ended.
    """

    def __init__(self, command: Sequence[str], *, folder: Path, package: str = "") -> None:
        self.package = package
        env = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), **_OFFLINE}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True, encoding="utf-8"
        )
        self.start_mb = self._ask({})["rss_mb"]

    def load(self, text: str, question: str) -> None:
        """The text of the crushes that follow, and the question that they are for."""
        self._ask({"text": text, "question": question})

    def crush(self, ratio: float) -> Crushed:
        """Crush what was loaded to about `ratio` of its characters; no less than a twentieth, it says."""
        return Crushed(**self._ask({"ratio": ratio}))

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(30)
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError as error:
            raise Failed(f"TextCrusher's process ended: {error}") from error
        if not line:
            raise Failed(f"TextCrusher's process ended with exit code {self._process.wait(30)}")
        return json.loads(line)


def installed(folder: Path) -> TextCrusher:
    """TextCrusher as the package index has it, in an environment under `folder`, where it is made once.

    Raises:
        Failed: it cannot be installed here, or does not run.
    """
    place = folder / f"{PACKAGE}-{_pinned()}"
    python = place / "venv" / "bin" / "python"
    if not python.exists():
        say(f"installing {PACKAGE} {_pinned()}")
        shutil.rmtree(place, ignore_errors=True)
        try:
            wanted = ["--no-deps", "--require-hashes", "-r", str(_REQUIREMENTS)]
            environment(place, wanted, env=dict(os.environ))
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
    return TextCrusher([str(python), "-I", str(_CHILD)], folder=place, package=f"{PACKAGE} {version(python, PACKAGE)}")


def _pinned() -> str:
    lines = _REQUIREMENTS.read_text("utf-8").splitlines()
    return next(line for line in lines if line.startswith(f"{PACKAGE}==")).partition("==")[2].split()[0]
