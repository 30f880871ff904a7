"""What is asked of the store to write an offer, or an event of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from adaptive_llm_gateway.core import InvalidInput, Trust, new_ulid
from adaptive_llm_gateway.handoff._events import DECIDED, MOST_STEPS, event_fields, stamp, title_of
from adaptive_llm_gateway.handoff._values import Event, EventKind, Handoff, Party, Priority, WorkState
from adaptive_llm_gateway.memory import AppendEvent, Author, Link, WriteMemory

_LONGEST_TITLE: Final = 200


@dataclass(frozen=True, slots=True)
class NewOffer:
    """Work to be offered. `patch` is the diff of what is not committed; `work` says where the work lies; `new_id` is
    the id that the offer gets, a new ULID: where there is such an offer already, none is made.
    """

    objective: str
    title: str | None = None
    next_action: str | None = None
    state: str = ""
    open_questions: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    to: str | None = None
    priority: Priority = "normal"
    expires: datetime | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    trust: Trust | None = None
    session_id: str | None = None
    checkpoint: bool = False
    work: WorkState = field(default_factory=WorkState)
    patch: str | None = None
    redact: bool = False
    reason: str | None = None
    new_id: str | None = None


def offer_request(new: NewOffer, by: Party, *, over: str | None = None) -> WriteMemory:
    """An offer.

    Args:
        by: with its `hub`.
        over: the id of an offer of which nothing stays that this one does not have.
    """
    work = new.work
    fields: dict[str, Any] = {
        "objective": new.objective.strip(),
        "next_action": (new.next_action or "").strip() or None,
        "open_questions": list(new.open_questions) or None,
        "constraints": list(new.constraints) or None,
        "to": new.to,
        "priority": new.priority,
        "expires": stamp(new.expires) if new.expires else None,
        "session_id": new.session_id,
        "checkpoint": new.checkpoint or None,
        "directory": work.directory,
        "remote": work.remote,
        "branch": work.branch,
        "commit": work.commit,
        "dirty": list(work.dirty) or None,
        "dirty_count": work.dirty_count or None,
        "hub": by.hub,
        "instance": by.instance,
        "client_id": by.client_id,
    }
    if over is not None:
        fields["project"] = new.project  # named among the fields, for there None takes away what was
    return WriteMemory(
        author=Author(by.client, by.agent),
        id=over,
        type=None if over is not None else "handoff",
        title=new.title or first_line(new.objective),
        body=new.state,
        project=new.project,
        tags=new.tags,
        trust=new.trust,
        links=tuple(Link(DECIDED, id_) for id_ in new.decisions),
        fields={name: value for name, value in fields.items() if value is not None or over is not None},
        reason=new.reason,
        redact=new.redact,
        new_id=new.new_id if over is None else None,
    )


def event_request(
    handoff: Handoff,
    kind: EventKind,
    by: Party,
    time: datetime,
    *,
    text: str = "",
    term: int = 0,
    claim: str | None = None,
    lease_until: datetime | None = None,
    provisional: bool = False,
    redact: bool = False,
) -> AppendEvent:
    """An event that comes after all that are known of a handoff.

    Raises:
        InvalidInput: their steps or terms have come to the limit.
    """
    if handoff.step >= MOST_STEPS or term > MOST_STEPS:
        raise InvalidInput(
            f"handoff {handoff.offer.id!r} has an event of step or term {MOST_STEPS:,}, and none can follow",
            hint="Offer what is still to be done as a new handoff.",
            handoff=handoff.offer.id,
        )
    event = Event(
        id=new_ulid(),
        handoff=handoff.offer.id,
        kind=kind,
        step=handoff.step + 1,
        time=time,
        by=by,
        path="",
        version="",
        term=term,
        claim=claim,
        lease_until=lease_until,
        provisional=provisional,
        text=text,
    )
    return AppendEvent(
        author=Author(by.client, by.agent, by.host),
        handoff=handoff.offer.id,
        id=event.id,
        event=kind,
        step=event.step,
        time=event.time,
        title=title_of(kind, handoff.offer.title, by),
        body=text,
        trust=handoff.offer.trust,
        fields=event_fields(event),
        redact=redact,
    )


def first_line(text: str) -> str:
    """What a title can be made of a longer text: its first line, cut at a word."""
    line = " ".join(text.strip().splitlines()[0].split()) if text.strip() else ""
    if len(line) <= _LONGEST_TITLE:
        return line
    return line[: _LONGEST_TITLE - 1].rsplit(" ", 1)[0] + "…"
