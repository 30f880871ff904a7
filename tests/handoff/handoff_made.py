"""Handoffs made of events, without files; `conftest.py` makes it importable."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.handoff import (
    Claim,
    Damage,
    Event,
    EventKind,
    Handoff,
    Offer,
    Party,
    Standing,
    event_fields,
    fold,
    title_of,
)
from adaptive_llm_gateway.memory import Author, Link, TypeRegistry

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ANNA = Party("claude-code", None, "desk", "desk-1", "a1")
BERT = Party("codex", "reviewer", "laptop", "laptop-1", "b1")
CARL = Party("gemini", None, "rack", "rack-1", "c1")


def at(minute: float) -> datetime:
    """So many minutes after noon."""
    return NOON + timedelta(minutes=minute)


def nobody_is_there(_: Party) -> bool:
    return False


def everybody_is_there(_: Party) -> bool:
    return True


def front_of(event: Event) -> dict[str, Any]:
    """The front matter with which an event is written."""
    return TypeRegistry().from_call(
        type="handoff",
        title=title_of(event.kind, "Mend the parser", event.by),
        body=event.text,
        id=event.id,
        created=event.time,
        updated=event.time,
        author=Author(event.by.client, event.by.agent, event.by.host),
        links=[Link("part_of", event.handoff)],
        fields=event_fields(event),
    )


class Story:
    """One handoff, told event by event; each writer knows of all the events before unless `step` says otherwise."""

    def __init__(self, **given: Any) -> None:
        id = new_ulid()
        path = f"handoffs/2026/11/mend-the-parser-{id[-8:].lower()}.md"
        given = {"title": "Mend the parser", "objective": "It parses.", "created": NOON, "by": ANNA} | given
        self.offer = Offer(id=id, path=path, version="0" * 40, **given)
        self.events: list[Event] = []

    def write(self, kind: EventKind, by: Party, minute: float, **given: Any) -> Event:
        """An event; `lease` is in minutes."""
        id = given.pop("id", None) or new_ulid()
        step = given.pop("step", None) or max((each.step for each in self.events), default=0) + 1
        if (lease := given.pop("lease", None)) is not None:
            given["lease_until"] = at(minute + lease)
        path = f"handoffs/2026/11/{self.offer.id[-8:].lower()}/{step:04d}-{kind}-{id[-8:].lower()}.md"
        event = Event(id, self.offer.id, kind, step, at(minute), by, path, "0" * 40, **given)
        self.events.append(event)
        return event

    def claim(self, by: Party, minute: float, *, lease: float = 60, **given: Any) -> Event:
        term = given.pop("term", None) or max((each.term for each in self.events), default=0) + 1
        return self.write("claim", by, minute, term=term, lease=lease, **given)

    def told(
        self, minute: float = 30, *, events: Iterable[Event] | None = None, damage: Iterable[Damage] = ()
    ) -> Handoff:
        """Where it stands so many minutes after noon, by a clock that is right."""
        now = at(minute)

        def over(claim: Claim) -> bool:
            return now > claim.lease_until

        return fold(self.offer, self.events if events is None else events, damage, now=now, lease_over=over)

    def standing(self, event: Event, minute: float = 30) -> Standing:
        return next(step.standing for step in self.told(minute).steps if step.event is event)

    def note(self, event: Event, minute: float = 30) -> str | None:
        return next(step.note for step in self.told(minute).steps if step.event is event)
