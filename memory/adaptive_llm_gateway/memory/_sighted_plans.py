"""What is planned for somebody who does not see everything: nothing hidden is changed, nothing becomes hidden.

It is judged in the writer's thread, against the index as it is when the write is carried out: who sees a memory when
they ask to change it, and no more when it is their turn, changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from adaptive_llm_gateway.core import AccessDenied, AlgError, NotFound, Quarantined, Trust
from adaptive_llm_gateway.memory._sight import Sight, seen
from adaptive_llm_gateway.memory._values import Record

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory._plans import Planned

OUT_OF_SIGHT = "that is above the level that this token sees, which can neither read nor change it from now on"


class Whole(Protocol):
    """The index with everything in it."""

    def get(self, id: str, /) -> Record | None:
        """The record of a memory."""
        ...

    def resolve(self, part: str, /, *, limit: int = 20) -> list[str]:
        """Ids that begin or end with `part`."""
        ...


class SeenLookup:
    """The index as it is seen, for planning; and the rules of what may be planned."""

    def __init__(self, whole: Whole, sight: Sight) -> None:
        self._whole, self._sight = whole, sight

    def get(self, id: str) -> Record | None:
        """The record of a memory, where it is seen."""
        return seen(self._whole.get(id), self._sight, self._whole.get)

    def resolve(self, part: str) -> list[str]:
        """Ids that begin or end with `part`, of those that are seen."""
        return [id_ for id_ in self._whole.resolve(part, limit=1_000_000) if self.get(id_) is not None]

    def shows(self, record: Record) -> bool:
        """Whether a memory is seen as it is on disk."""
        return seen(record, self._sight, self._whole.get) is not None

    def is_free(self, id: str) -> bool:
        """Whether there is no memory of this id, seen or not."""
        return self._whole.get(id) is None

    def check_id(self, id: str) -> None:
        """Refuse to write over what is hidden.

        Raises:
            AccessDenied: there is such a memory.
        """
        if self.get(id) is None and not self.is_free(id):
            raise AccessDenied(
                f"{id!r} cannot be written with this token",
                hint="What is kept under this id has another level of trust, or another project.",
            )

    def level(self, given: Trust | None) -> Trust | None:
        """The level of a new memory: the usual one may be above what is seen."""
        return min(Trust.INTERNAL, self._sight.max_trust, key=lambda level: level.rank) if given is None else given

    def checked(self, planned: Planned) -> Planned:
        """What was planned, if it changes and makes nothing that is hidden.

        Personal data raises a memory above what its writer sees, for that is what it is found for.

        Raises:
            AccessDenied, InvalidInput: it does.
        """
        raised = planned.raised
        for change in planned.changes:
            id_, record = change.change.memory_id, change.record
            self.check_id(id_)
            if record is not None:
                self._check_session(record)
                self._sight.check_project(record.project)
                own = raised is not None and record is planned.changes[-1].record
                self._sight.check_level(raised.before if raised is not None and own else record.trust)
        if raised is not None and not self._sight.max_trust.allows(raised.after):
            return replace(planned, notes=(*planned.notes, OUT_OF_SIGHT))
        return planned

    def _check_session(self, record: Record) -> None:
        """Refuse to have a memory become a part of a session's log that is not seen: it would be read as that.

        Raises:
            NotFound: as where there is no such session.
        """
        session = record.fields.get("session_id") if record.type == "session" else None
        known = self._whole.get(record.id)
        if session in (None, record.id) or (known is not None and known.fields.get("session_id") == session):
            return
        if self.get(str(session)) is None:
            raise NotFound(f"no session {session!r}", hint="Leave `session_id` out to begin a new session.")


def held_back() -> AlgError:
    """Why a memory cannot be changed whose remote version is held back, without what is in that one."""
    return Quarantined(
        "this memory cannot be changed now: the remote has another version of it, which is held back",
        hint="Write a new memory that links to this one. The person whose hub this is sees more: "
        "`alg memory quarantine`.",
    )
