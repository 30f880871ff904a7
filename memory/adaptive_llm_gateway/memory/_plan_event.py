"""An event of a handoff as the file that it becomes. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC
from typing import Final

from adaptive_llm_gateway.core import InvalidInput
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
            hint="Report what is to be said with a new one. A damaged file can be mended with an editor.",
        )


def event_path(folder: str, offer: Record, *, step: int, event: str, id: str) -> str:
    """Where an event lies: beside its offer, in a folder for the offer's events, by step and kind."""
    found = _MONTH.search(offer.path.removeprefix(folder)) if offer.path.startswith(f"{folder}/") else None
    created = offer.created.astimezone(UTC)
    month = found[1] if found else f"{created.year:04d}/{created.month:02d}"
    return f"{folder}/{month}/{offer.id[-8:].lower()}/{step:04d}-{event}-{id[-8:].lower()}.md"
