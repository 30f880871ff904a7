"""An event of a handoff as the file that it becomes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from adaptive_llm_gateway.core import InvalidInput, ulid_milliseconds
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._requests import AppendEvent
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Link, Record

_HANDOFF: Final = "handoff"
_MONTH = re.compile(r"/([0-9]{4}/[0-9]{2})/[^/]+")


def event_document(request: AppendEvent, offer: Record, types: TypeRegistry, *, host: str) -> tuple[Document, str]:
    """The event's file and its path.

    Args:
        offer: what is indexed under the id that the request names.

    Raises:
        InvalidInput: that is no offer, the time has no zone, or a field cannot be what it is.
        UnknownField: the type has no such field.
    """
    if offer.type != _HANDOFF:
        raise InvalidInput(
            f"{offer.id!r} is a {offer.type}, not a handoff", hint="Give the id of a handoff, as its list shows it."
        )
    if (event := offer.fields.get("event")) is not None:
        raise InvalidInput(
            f"{offer.id!r} is the {event!s} of a handoff, not the handoff itself",
            hint=f"Give the handoff's id: {offer.fields.get('handoff')!s}.",
        )
    if request.time.tzinfo is None:
        raise InvalidInput(
            f"the time {request.time.isoformat()!r} of the event has no time zone", hint="Add one, such as `Z`."
        )
    front = types.from_call(
        type=_HANDOFF,
        title=request.title,
        body=request.body,
        id=request.id,
        created=request.time,
        updated=request.time,
        author=replace(request.author, host=host),
        project=offer.project,
        tags=(),
        trust=max(offer.trust, request.trust, key=lambda level: level.rank),
        links=(Link("part_of", offer.id),),
        source=None,
        fields={**request.fields, "event": request.event, "handoff": offer.id, "step": request.step},
    )
    return Document.new(front, request.body), event_path(
        types.folder_of(_HANDOFF), offer, step=request.step, event=request.event, id=str(front["id"])
    )


def check_changeable(record: Record) -> None:
    """Refuse to change or delete what is written once.

    Raises:
        InvalidInput: it is an event of a handoff.
    """
    if record.type == _HANDOFF and record.fields.get("event") is not None:
        raise InvalidInput(
            f"{record.id!r} is an event of a handoff; events are written once and never changed",
            hint="Report what is to be said with a new one. A damaged file can be mended with an editor. When the "
            "handoff itself has been deleted, its events can be, too.",
        )


def check_no_event(type: str, fields: Mapping[str, Any]) -> None:
    """Refuse to make an event of what is no `AppendEvent`: it would lie where no event lies.

    Raises:
        InvalidInput: the fields of a handoff are those of an event.
    """
    if type == _HANDOFF and (given := [name for name in ("event", "handoff") if fields.get(name) is not None]):
        raise InvalidInput(
            f"a handoff's field {given[0]!r} belongs to its events, which the tools for handoffs write",
            hint="Leave it out, or report what happened with a tool for handoffs.",
        )


def event_path(folder: str, offer: Record, *, step: int, event: str, id: str) -> str:
    """Where an event lies: beside its offer, in a folder for the offer's events, by step and kind."""
    found = _MONTH.search(offer.path.removeprefix(folder)) if offer.path.startswith(f"{folder}/") else None
    return _path(folder, found[1] if found else _month_of(offer.created), offer.id, step, event, id)


def imported_path(folder: str, front: Mapping[str, Any], offer_of: Callable[[str], Record | None]) -> str | None:
    """Where an event that comes from elsewhere lies, whether or not its offer has come before it.

    Args:
        front: its validated fields.
        offer_of: the record of an id.

    Returns:
        None when it is no event, or does not say of what.

    Raises:
        InvalidInput: the id of the handoff has a time after the year 9999.
    """
    event, handoff, step, id_ = (front.get(name) for name in ("event", "handoff", "step", "id"))
    if front.get("type") != _HANDOFF or event is None or handoff is None or step is None:
        return None
    offer = offer_of(str(handoff))
    if offer is not None and offer.type == _HANDOFF and offer.fields.get("event") is None:
        return event_path(folder, offer, step=int(step), event=str(event), id=str(id_))
    try:
        began = datetime.fromtimestamp(ulid_milliseconds(str(handoff)) / 1000, tz=UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise InvalidInput(
            f"'handoff' is {str(handoff)!r}, an id whose time no calendar has",
            hint="Give the id of the handoff that the event belongs to.",
        ) from error
    return _path(folder, _month_of(began), str(handoff), int(step), str(event), str(id_))


def _path(folder: str, month: str, offer: str, step: int, event: str, id: str) -> str:
    return f"{folder}/{month}/{offer[-8:].lower()}/{step:04d}-{event}-{id[-8:].lower()}.md"


def _month_of(moment: datetime) -> str:
    moment = moment.astimezone(UTC)
    return f"{moment.year:04d}/{moment.month:02d}"
