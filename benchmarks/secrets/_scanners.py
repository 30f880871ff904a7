"""The two scanners side by side, and where each finds something."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from importlib import metadata
from pathlib import Path

from _planting import Planted
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings

from adaptive_llm_gateway.core import SecretScanner

PEER = f"detect-secrets {metadata.version('detect-secrets')}"


def found_by_ours(scanner: SecretScanner, planted: Planted) -> list[bool]:
    """Of each planted credential whether a finding touches it."""
    spans = scanner.spans(planted.text)
    return [any(span.start < end and start < span.end for span in spans) for start, end in planted.spans]


def flagged_by_ours(scanner: SecretScanner, text: str) -> set[int]:
    """The lines with a finding."""
    return {finding.line for finding in scanner.scan(text)}


class Peer:
    """detect-secrets with its default plugins and filters, on files: it takes no text, and its `scan_line` is for one.

    Args:
        folder: where files are put.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    @contextlib.contextmanager
    def ready(self) -> Generator[None]:
        """Its settings are of the process."""
        with default_settings():
            yield

    def place(self, text: str, file: str) -> Path:
        """Put a text where it can be scanned."""
        path = self._folder / file
        path.write_text(text, "utf-8", newline="")
        return path

    def flagged(self, text: str, file: str = "text.md") -> set[int]:
        """The lines with a finding."""
        return flagged_in(self.place(text, file))

    def found(self, planted: Planted) -> list[bool]:
        """Of each planted credential whether a line of it is flagged: it tells lines, not places."""
        lines = self.flagged(planted.text, planted.file)
        return [not lines.isdisjoint(planted.lines(span)) for span in planted.spans]


def flagged_in(path: Path) -> set[int]:
    """The lines of a file that detect-secrets flags; its settings are `Peer.ready`."""
    return {secret.line_number for secret in scan_file(str(path))}
