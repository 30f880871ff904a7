"""`alg secrets scan --personal`: what is personal in files, as a class of its own beside credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import ConfigError, Home, PersonalScanner, counted
from adaptive_llm_gateway.server._cli_output import Json, Paint, harmless, talk

if TYPE_CHECKING:
    from adaptive_llm_gateway.core import PersonalFinding

_CLASS = "personal"


def personal_scanner(root: str) -> PersonalScanner:
    """Finds what memories and requests call personal by the configuration; all of it where that cannot be read."""
    from adaptive_llm_gateway.core import load_settings  # noqa: PLC0415 - pydantic

    try:
        return PersonalScanner(allowed=load_settings(Home(root)).gateway.personal_allowed)
    except ConfigError:
        return PersonalScanner()


class PersonalData:
    """What a scan comes upon besides credentials; it refuses nothing, so it is no reason for another exit code."""

    def __init__(self, scanner: PersonalScanner) -> None:
        self._scanner = scanner
        self._found: list[tuple[str, PersonalFinding]] = []

    def look(self, path: str, text: str) -> None:
        """Take in a file."""
        self._found += [(path, finding) for finding in self._scanner.scan(text)]

    def as_dict(self) -> Json:
        """The part of the scan that is personal, as JSON; no value is in it."""
        return {
            "personal": [
                {
                    "path": path,
                    "line": found.line,
                    "class": _CLASS,
                    "kind": found.kind,
                    "preview": found.preview,
                }
                for path, found in self._found
            ]
        }

    def text(self, paint: Paint) -> str:
        """A line for each finding."""
        return "\n".join(
            f"{harmless(path)}:{found.line}: {paint(f'{_CLASS} {found.kind}', 'yellow')} {harmless(found.preview)}"
            for path, found in self._found
        )

    def talk(self) -> None:
        """On stderr: the count, and what it means."""
        if self._found:
            pieces = counted(len(self._found), "piece")
            talk(f"{pieces} of personal data: it is no secret, but a memory with it is raised in its trust level")
        else:
            talk("no personal data found")
