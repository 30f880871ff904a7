"""What is being asked for now: by whom, how, and what became of it. Whoever does it may say more; the rest is observed.

`CALL` is set by what observes requests (`_observe`). Everything else only tells it things: `touched` which memory or
handoff it is about, `went_wrong` that it was refused or failed.
"""

from __future__ import annotations

import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from adaptive_llm_gateway.core import AlgError, is_ulid, new_ulid
from adaptive_llm_gateway.server._audit_entry import AuditEntry, AuditOutcome, Transport, outcome_of

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass(slots=True)
class Call:
    """A request, a tool's call, or whatever else somebody asks for.

    Attributes:
        request: the request's id; the calls within a request share it.
        action: what is asked for, by a name of ours: never a caller's words.
        client: the name of the token's client; None for the person at this machine, and while nobody is accepted.
        is_known: whether whoever asks was accepted.
        method, route: of a request by HTTP; the route has names in the place of what a caller chooses.
        began, at: when, by the clock for durations and by the clock on the wall.
        why: of a refusal, for the audit log alone; words of ours.
        entered: its entry in the audit log is made.
        within: names of the calls within this request, which have entries of their own.
        span: its span, where there are traces.
    """

    request: str
    transport: Transport
    action: str = ""
    client: str | None = None
    is_known: bool = False
    agent: str | None = None
    address: str | None = None
    target: str | None = None
    outcome: AuditOutcome = "ok"
    code: str | None = None
    why: str | None = None
    method: str = ""
    route: str = ""
    status: int = 0
    received: int = 0
    sent: int = 0
    began: float = field(default_factory=time.perf_counter)
    at: float = field(default_factory=time.time)
    entered: bool = False
    within: list[str] = field(default_factory=list[str])
    span: Any = None

    def ended(self, outcome: AuditOutcome, code: str | None) -> None:
        """Say how it ended; what was said first stays."""
        if self.outcome == "ok":
            self.outcome, self.code = outcome, code

    @property
    def seconds(self) -> float:
        """How long it takes so far."""
        return time.perf_counter() - self.began

    def entry(self) -> AuditEntry:
        """Its entry in the audit log."""
        return AuditEntry(
            at=self.at,
            action=self.action,
            transport=self.transport,
            outcome=self.outcome,
            code=self.code,
            why=self.why,
            request=self.request,
            client=self.client,
            agent=self.agent,
            address=self.address,
            target=self.target,
            micros=round(self.seconds * 1_000_000),
            size=self.sent or None,
        )


CALL_IN_SCOPE: Final = "alg.call"
"""Under which key of an ASGI scope a request's `Call` is."""

CALL: ContextVar[Call | None] = ContextVar("CALL", default=None)
"""What the current task works on; None where nobody observes it."""


def request_id() -> str | None:
    """The id of the current request: for answers, so that who asks can name it to whoever reads the logs."""
    call = CALL.get()
    return None if call is None else call.request


def touched(target: object) -> None:
    """Which memory or handoff the current call is about, by its whole id; anything else is not repeated."""
    call = CALL.get()
    if call is not None and call.target is None and isinstance(target, str) and is_ulid(target):
        call.target = target


def went_wrong(error: AlgError) -> None:
    """What the current call ended with."""
    call = CALL.get()
    if call is not None:
        call.ended(outcome_of(error), error.code)


def ended_with(code: str, *, refused: bool) -> None:
    """With which code the current call was answered, where it did not go well."""
    call = CALL.get()
    if call is not None:
        call.ended("refused" if refused else "failed", code)


def accepted_request_id(given: str | None) -> str:
    """A request's id as the caller gave it, where it is a ULID or a UUID; otherwise a new one.

    Any other text could be something that belongs in no log, such as a token in the wrong header.
    """
    if given is not None and (is_ulid(given) or _UUID.fullmatch(given)):
        return given
    return new_ulid()
