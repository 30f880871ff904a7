"""Files of handoffs as values, and values as the fields of files: an offer, an event, or what is wrong with the file.

Files are edited by hand and come from other machines, so any value may be of any type. What cannot be is not guessed
at: it becomes `Damage`, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from adaptive_llm_gateway.core import is_ulid
from adaptive_llm_gateway.handoff._values import (
    EVENT_KINDS,
    MOST_LEASE,
    PRIORITIES,
    Damage,
    Event,
    EventKind,
    Offer,
    Party,
    Priority,
    WorkState,
)

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import Author, Record

DECIDED: Final = "decided"
"""`rel` of an offer's links to the memories that say what was decided."""
_CONFLICT: Final = "conflicts_with"  # how a merge links two bodies that clashed
MOST_STEPS: Final = 10**9
"""The highest step and term; far above what happens, and below what other languages' numbers hold."""

_FOLDER = re.compile(r"handoffs/[0-9]{4}/[0-9]{2}/([0-9a-hjkmnp-tv-z]{8})/[^/]+\.md", re.ASCII)
_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_LONGEST_TITLE: Final = 300
_LONGEST_SHOWN: Final = 60
_TITLES: Final[dict[EventKind, str]] = {
    "claim": "Claimed by",
    "confirm": "Claim confirmed by",
    "progress": "Progress by",
    "release": "Given back by",
    "decline": "Declined by",
    "done": "Done by",
    "withdraw": "Withdrawn by",
    "patch": "Patch by",
}
_HAVE_LEASE: Final[frozenset[EventKind]] = frozenset({"claim", "progress"})
_OF_A_CLAIM: Final[frozenset[EventKind]] = frozenset({"confirm", "progress", "release", "done"})
_T = TypeVar("_T")


class _Wrong(Exception):
    """Why a file is neither an offer nor an event."""


@dataclass(frozen=True, slots=True)
class Files:
    """What there is of one handoff.

    Attributes:
        offer: where the offer's own file is damaged, what can be read of it; `damage` says what cannot.
    """

    offer: Offer
    events: tuple[Event, ...] = ()
    damage: tuple[Damage, ...] = ()


# --- Reading ----------------------------------------------------------------------------------------------------


def read_record(record: Record) -> Offer | Event | Damage:
    """What a memory of type `handoff` says. Never raises.

    A file with the field `event` is an event; one without, outside a handoff's folder of events, is an offer. Unknown
    fields are ignored, and so are known ones that the kind of event does not use, unless they are of the wrong type.

    Args:
        record: its `fields` may hold anything that a file can.

    Returns:
        The offer, the event, or a `Damage` whose `handoff` is the offer's id where the file says it.
    """
    try:
        if _is_event(record):
            return _event(record)
        return _offer(record, lenient=None)
    except _Wrong as wrong:
        return Damage(record.path, str(wrong), _belongs_to(record))


def gather(records: Iterable[Record]) -> tuple[tuple[Files, ...], tuple[Damage, ...]]:
    """All files of handoffs, each with the offer that it belongs to. Never raises.

    A damaged event belongs to the handoff that it names and to the one in whose folder it lies: whichever it was
    meant for, a claim may be among what cannot be read.

    Args:
        records: memories of type `handoff`, in any order.

    Returns:
        The handoffs, by id; and the files whose offer is not there.
    """
    offers: dict[str, Offer] = {}
    by_tail: dict[str, list[str]] = {}
    events: dict[str, list[Event]] = {}
    damage: dict[str, list[Damage]] = {}
    rest: list[Event | Damage] = []
    for record in records:
        found = read_record(record)
        if isinstance(found, Damage) and not _is_event(record):
            problems = damage.setdefault(record.id, [])
            found = _offer(
                record, lenient=lambda problem, at=problems, path=record.path: at.append(Damage(path, problem))
            )
        if isinstance(found, Offer):
            offers[found.id] = found
            by_tail.setdefault(_tail(found.id), []).append(found.id)
        else:
            rest.append(found)
    strays: list[Damage] = []
    for found in rest:
        if isinstance(found, Event):
            if found.handoff in offers:
                events.setdefault(found.handoff, []).append(found)
            else:
                strays.append(Damage(found.path, f"the handoff {found.handoff!r} is not there", found.handoff))
            continue
        meant = {found.handoff} & offers.keys() | set(by_tail.get(_folder_of(found.path) or "", ()))
        for id in meant:
            damage.setdefault(cast("str", id), []).append(replace(found, handoff=id))
        if not meant:
            strays.append(found)
    handoffs = tuple(
        Files(offers[id], tuple(events.get(id, ())), tuple(replace(each, handoff=id) for each in damage.get(id, ())))
        for id in sorted(offers)
    )
    return handoffs, tuple(strays)


def problem_of(event: Event) -> str | None:
    """Why an event cannot be, seen by itself, whatever the others are; None: it can."""
    kind, until = event.kind, event.lease_until
    if not 1 <= event.step <= MOST_STEPS:
        return f"'step' is {_shown(event.step)}; it must be 1 or more, and at most {MOST_STEPS:,}"
    if kind == "claim" and not 1 <= event.term <= MOST_STEPS:
        return f"'term' of a claim is {_shown(event.term)}; it must be 1 or more, and at most {MOST_STEPS:,}"
    if kind == "claim" and until is None:
        return "the claim has no 'lease_until'"
    if kind in _OF_A_CLAIM and event.claim is None:
        return f"the {kind} does not say to which 'claim' it belongs"
    if closes_without_claim(event) and not 0 <= event.term <= MOST_STEPS:
        return f"'term' is {_shown(event.term)}; it must be 0 or more, and at most {MOST_STEPS:,}"
    if kind in _HAVE_LEASE and until is not None:
        if until <= event.time:
            return f"'lease_until' ({show_time(until)}) is not after its time ({show_time(event.time)})"
        if until - event.time > MOST_LEASE:
            return f"'lease_until' ({show_time(until)}) is more than 24 hours after its time ({show_time(event.time)})"
    return None


def closes_without_claim(event: Event) -> bool:
    """Whether it is of those that belong to no claim and say which `term` was the highest instead."""
    return event.kind == "withdraw" or (event.kind == "decline" and event.claim is None)


def _is_event(record: Record) -> bool:
    return record.fields.get("event") is not None or _folder_of(record.path) is not None


def _event(record: Record) -> Event:
    fields = _Fields(record.fields)
    kind = fields.get("event", _text)
    if kind is None:
        raise _Wrong("it lies among the events of a handoff and has no 'event'")
    if kind not in EVENT_KINDS:
        raise _Wrong(f"the event {_shown(kind)} is not known to this version: it was written by a newer version")
    handoff = fields.get("handoff", _ulid)
    if handoff is None:
        raise _Wrong("it has no 'handoff': the id of the handoff that it belongs to")
    folder = _folder_of(record.path)
    if folder is None:
        raise _Wrong(f"it does not lie in its handoff's folder of events, `handoffs/<yyyy>/<mm>/{_tail(handoff)}`")
    if folder != _tail(handoff):
        raise _Wrong(f"it lies among the events of another handoff than {handoff!r}, which it names")
    step = fields.get("step", _whole)
    if step is None:
        raise _Wrong("it has no 'step'")
    time = fields.checked("created", record.created, _time)
    if time is None:
        raise _Wrong("it has no 'created'")
    if copy := _other_version(record):
        raise _Wrong(copy)
    term = fields.get("term", _whole)
    claim = fields.get("claim", _ulid)
    event = Event(
        id=record.id,
        handoff=handoff,
        kind=kind,
        step=step,
        time=time,
        by=_party(record.author, fields),
        path=record.path,
        version=record.version,
        term=term or 0,
        claim=None if kind in ("claim", "withdraw") else claim,
        lease_until=fields.get("lease_until", _moment),
        provisional=fields.get("provisional", _flag) or False,
        text=record.body,
    )
    if term is None and (kind == "claim" or closes_without_claim(event)):
        raise _Wrong("it has no 'term'")
    if problem := problem_of(event):
        raise _Wrong(problem)
    return event


def _offer(record: Record, *, lenient: Callable[[str], None] | None) -> Offer:
    fields = _Fields(record.fields, lenient)
    if copy := _other_version(record):
        fields.wrong(copy)
    dirty = fields.get("dirty", _texts) or ()
    count = fields.get("dirty_count", _count)
    return Offer(
        id=record.id,
        title=record.title,
        objective=fields.get("objective", _text) or record.title,
        created=fields.checked("created", record.created, _time) or datetime.min.replace(tzinfo=UTC),
        by=_party(record.author, fields),
        path=record.path,
        version=record.version,
        next_action=fields.get("next_action", _text),
        state=record.body,
        open_questions=fields.get("open_questions", _texts) or (),
        constraints=fields.get("constraints", _texts) or (),
        decisions=tuple(link.id for link in record.links if link.rel == DECIDED),
        to=fields.get("to", _text),
        priority=fields.get("priority", _priority) or "normal",
        project=record.project,
        tags=record.tags,
        trust=record.trust,
        session_id=fields.get("session_id", _text),
        expires=fields.get("expires", _moment),
        checkpoint=fields.get("checkpoint", _flag) or False,
        work=WorkState(
            directory=fields.get("directory", _text),
            remote=fields.get("remote", _text),
            branch=fields.get("branch", _text),
            commit=fields.get("commit", _text),
            dirty=dirty,
            dirty_count=len(dirty) if count is None else max(count, len(dirty)),
        ),
    )


class _Fields:
    """Front matter whose values are checked as they are taken; what is wrong is raised, or told and left out."""

    def __init__(self, values: dict[str, Any], lenient: Callable[[str], None] | None = None) -> None:
        self._values = values
        self._lenient = lenient

    def get(self, name: str, check: Callable[[Any], _T | None]) -> _T | None:
        return self.checked(name, self._values.get(name), check)

    def checked(self, name: str, value: Any, check: Callable[[Any], _T | None]) -> _T | None:
        if value is None:
            return None
        try:
            return check(value)
        except _Wrong as wrong:
            problem = f"{name!r} is {_shown(value)}; it must be {wrong}"
        self.wrong(problem)
        return None

    def wrong(self, problem: str) -> None:
        if self._lenient is None:
            raise _Wrong(problem)
        self._lenient(problem)


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        raise _Wrong("text (in quotes, where it reads as something else)")
    return value.strip() or None


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, str | list):
        raise _Wrong("a list of texts")
    items = cast("list[Any]", [value] if isinstance(value, str) else value)
    if not all(isinstance(item, str) for item in items):
        raise _Wrong("a list of texts")
    return tuple(text for item in items if (text := item.strip()))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong("a whole number")
    return value


def _count(value: Any) -> int:
    if _whole(value) < 0:
        raise _Wrong("0 or more")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _priority(value: Any) -> Priority:
    if value not in PRIORITIES:
        raise _Wrong(f"one of {', '.join(PRIORITIES)}")
    return value


def _ulid(value: Any) -> str:
    if not isinstance(value, str) or not is_ulid(value.strip().upper()):
        raise _Wrong("an id of 26 characters (ULID)")
    return value.strip().upper()


def _moment(value: Any) -> datetime:
    try:
        return _time(datetime.fromisoformat(value.strip()) if isinstance(value, str) else value)
    except ValueError:
        raise _Wrong("a date and time in ISO 8601, such as '2026-11-22T13:00:00Z'") from None


def _time(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise _Wrong("a date and time in ISO 8601, such as '2026-11-22T13:00:00Z'")
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (OverflowError, ValueError):  # the calendar's first or last day, in another zone
        raise _Wrong("within the calendar") from None


def _other_version(record: Record) -> str | None:
    for link in record.links:
        if link.rel == _CONFLICT:
            return f"it was changed on two machines at once; memory {link.id!r} is the other version"
    return None


def _party(author: Author, fields: _Fields) -> Party:
    hub, instance, client_id = (fields.get(name, _text) for name in ("hub", "instance", "client_id"))
    return Party(author.client, author.agent, author.host, hub, instance, client_id)


def _belongs_to(record: Record) -> str | None:
    if not _is_event(record):
        return record.id
    try:
        return _Fields(record.fields).get("handoff", _ulid)
    except _Wrong:
        return None


def _folder_of(path: str) -> str | None:
    """The folder of events that a file lies in: the last 8 characters of its offer's id, in lower case."""
    found = _FOLDER.fullmatch(path)
    return found[1] if found else None


def _tail(id: str) -> str:
    return id[-8:].lower()


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of more digits than the interpreter prints
        return "too long to show"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def show_time(moment: datetime) -> str:
    """A time for people, in UTC to the second: `2026-11-22T13:00:00Z`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# --- Writing ----------------------------------------------------------------------------------------------------


def event_fields(event: Event) -> dict[str, Any]:
    """The fields of an event's file that are the type's own (not `id`, `title`, `created`, `author` ...), JSON-like."""
    fields: dict[str, Any] = {"event": event.kind, "handoff": event.handoff, "step": event.step}
    if event.kind == "claim" or closes_without_claim(event):
        fields["term"] = event.term
    if event.claim is not None:
        fields["claim"] = event.claim
    if event.lease_until is not None:
        fields["lease_until"] = stamp(event.lease_until)
    if event.provisional:
        fields["provisional"] = True
    if event.by.hub is not None:
        fields["hub"] = event.by.hub
    if event.by.instance is not None:
        fields["instance"] = event.by.instance
    if event.by.client_id is not None:
        fields["client_id"] = event.by.client_id
    return fields


def title_of(kind: EventKind, title: str, party: Party) -> str:
    """The title of an event's file: what happened, by whom, to which offer; one line of at most 300 characters."""
    line = _SPACES.sub(" ", f"{_TITLES[kind]} {party_name(party)}: {title}").strip()
    return line if len(line) <= _LONGEST_TITLE else line[: _LONGEST_TITLE - 1].rstrip() + "…"


def party_name(party: Party) -> str:
    """Who it is, for people: `codex/reviewer@laptop`."""
    name = f"{party.client}/{party.agent}" if party.agent else party.client
    return f"{name}@{party.host}" if party.host else name


def name_beside(party: Party, other: Party) -> str:
    """`party_name`, with what tells it from another party of the same name: the hub, or how it came there."""
    name = party_name(party)
    if name == party_name(other) and party.hub != other.hub:
        return f"{name} of the hub {party.hub}"
    if name == party_name(other) and party.client_id != other.client_id:
        return f"{name}, another client with a token," if party.client_id else f"{name}, a program on its machine,"
    return name


def stamp(moment: datetime) -> str:
    """ISO 8601 in UTC, with all that the moment has below a second: `2026-11-22T13:00:00.123Z`."""
    moment = moment.astimezone(UTC)
    precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.isoformat(timespec=precision)[:-6] + "Z"
