"""What the audit log says of one thing that was asked for, and how refusals that repeat are gathered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from adaptive_llm_gateway.core import AlgError

Transport = Literal["stdio", "command-line", "http", "rest", "ws", "hub"]
"""MCP through the hub's socket, the command line, MCP by HTTP, REST, a WebSocket; or the hub says it by itself."""
AuditOutcome = Literal["ok", "refused", "failed"]

_REFUSALS: Final = frozenset({5, 10})  # exit codes of errors that say that something is not allowed
_MINUTE: Final = 60.0
_MOST_GATHERED: Final = 1000  # who is refused, at once; what comes then counts as one


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what when, and what became of it.

    Attributes:
        at: Unix time in seconds.
        action: a tool, a resource's or prompt's name, `METHOD /route`, or what the hub did.
        code: why it was refused or failed: an error's code.
        why: what whoever was refused is not told: that a token has expired, or was revoked.
        request: the request's id, as its answer and the logs have it.
        client: the name of the token's client; None for the person at this machine, and where nobody was accepted.
        agent: what the client's program calls itself; nothing proves it.
        address: where it came from, for HTTP.
        target: id of the memory, handoff or client that it was about.
        micros: how long it took, in microseconds.
        size: bytes of the answer, where they were counted.
        count: how many such there were, where they are gathered.
    """

    at: float
    action: str
    transport: Transport = "hub"
    outcome: AuditOutcome = "ok"
    code: str | None = None
    why: str | None = None
    request: str | None = None
    client: str | None = None
    agent: str | None = None
    address: str | None = None
    target: str | None = None
    micros: int | None = None
    size: int | None = None
    count: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The entry without what it does not have; `at` in ISO 8601, UTC, with milliseconds."""
        told = {name: value for name in _NAMES if (value := getattr(self, name)) is not None}
        told["at"] = time_text(self.at)
        return told


_NAMES: Final = tuple(field.name for field in fields(AuditEntry))


def time_text(at: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def outcome_of(error: AlgError) -> AuditOutcome:
    """Whether an error says that something is not allowed, or that it went wrong."""
    return "refused" if error.exit_code in _REFUSALS else "failed"


@dataclass(slots=True)
class _Gathered:
    first: AuditEntry
    more: int = 0


class Gathering:
    """Refusals that repeat become two entries a minute: the first at once, and the number of the others when the minute
    is over. Ten thousand wrong tokens must not fill a disk.

    Who is refused is told apart by client, address and code; beyond a thousand of them at once, by code alone.
    """

    def __init__(self) -> None:
        self._some: dict[tuple[str | None, ...], _Gathered] = {}

    def __len__(self) -> int:
        return len(self._some)

    def add(self, entry: AuditEntry) -> AuditEntry | None:
        """Take a refusal in; what of it is to be written now."""
        key = (entry.client, entry.address, entry.code, entry.why)
        if key not in self._some and len(self._some) >= _MOST_GATHERED:
            key = (None, None, entry.code, None)
            entry = replace(entry, client=None, address=None, agent=None, why=None)
        known = self._some.get(key)
        if known is not None:
            known.more += 1
            return None
        self._some[key] = _Gathered(entry)
        return entry

    def due(self, now: float, *, all: bool = False) -> list[AuditEntry]:
        """What is to be written of minutes that are over; with `all`, of those that are not, too."""
        over = [key for key, one in self._some.items() if all or not 0 <= now - one.first.at < _MINUTE]
        gone = [self._some.pop(key) for key in over]
        return [
            replace(one.first, at=now, request=None, target=None, micros=None, size=None, count=one.more)
            for one in gone
            if one.more
        ]


def entry_from(value: Mapping[str, Any]) -> dict[str, Any]:
    """What a line of the log holds, for people and programs: an entry's fields, or the note of a removed file."""
    if "audit" in value:
        return dict(value["audit"])
    if "removed" in value:
        removed = value["removed"]
        return {"at": removed["at"], "action": "audit.remove", "transport": "hub", "outcome": "ok", **removed}
    return {}
