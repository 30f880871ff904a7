"""What a subscriber is told of one change: as much as it may see of the memory before and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptive_llm_gateway.server._memory_json import repo_of
from adaptive_llm_gateway.server._times import iso

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import ChangePlace, MemoryChange, Record
    from adaptive_llm_gateway.server._access import Access

Json = dict[str, Any]
EventName = Literal["memory", "handoff"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a subscriber wants to be told of; empty: everything that it may see.

    Attributes:
        types: of any of these types.
        projects: of any of these projects, whatever the case.
    """

    types: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()

    def fits(self, record: Record) -> bool:
        """Whether a memory is one of these."""
        if self.types and record.type not in self.types:
            return False
        return not self.projects or (record.project or "").casefold() in {each.casefold() for each in self.projects}


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """What is told of a change.

    Attributes:
        handoff: the id of the handoff that it belongs to; how that stands is told with it.
        place: whoever goes on from here is told what comes after this.
    """

    name: EventName
    told: Json
    place: ChangePlace
    handoff: str | None = None


def sees(access: Access, record: Record | None) -> bool:
    """Whether a memory is there for a caller."""
    return record is not None and access.has_project(record.project) and record.trust.rank <= access.max_trust.rank


def event_of(change: MemoryChange, access: Access, wanted: Wanted, repo: str | None) -> ChangeEvent | None:
    """What somebody is told of a change; None where that is nothing.

    What leaves a caller's sight is deleted for it, and what comes into it is created: it cannot tell that from a
    memory that goes, or is new. That is why a caller who does not see everything is told of a deletion that it
    happened, and neither by whom nor why.
    """
    before = change.before if sees(access, change.before) else None
    after = change.after if sees(access, change.after) else None
    if after is not None and change.latest is not None and not sees(access, change.latest):
        return None  # it has left its sight since, which is told in its turn
    if not any(record is not None and wanted.fits(record) for record in (before, after)):
        return None
    seen = after or before
    if seen is None:
        return None
    if seen.type == "handoff" and (after is not None or seen.fields.get("event") is not None):
        if "handoff" in access.scopes:
            return None if after is None else _of_handoff(change, after, repo)
        if seen.fields.get("event") is not None:
            return None  # to whoever has nothing to do with handoffs, only the offer is a memory
    if after is not None:
        kind = "created" if before is None and change.before is not None else change.kind
        return ChangeEvent(
            "memory", {**_when(change, kind, after, repo), **_whole(change, after, access)}, change.place
        )
    told = _when(change, "deleted", seen, repo)
    if access.sees_all:
        told |= _whole(change, seen, access)
    return ChangeEvent("memory", told, change.place)


def _when(change: MemoryChange, kind: str, record: Record, repo: str | None) -> Json:
    return {"kind": kind, "time": iso(change.time), "memory": record.id, "type": record.type, **repo_of(repo)}


def _whole(change: MemoryChange, record: Record, access: Access) -> Json:
    # The message of a commit by plain git speaks of all that it changed, which others may not see.
    reason = change.reason if change.of_it or access.sees_all else None
    session = record.fields.get("session_id") if record.type == "session" else None
    return {
        "title": record.title,
        "path": record.path,
        "version": record.version,
        "project": record.project,
        "trust": str(record.trust),
        "by": change.by,
        "reason": reason,
        **({"session_id": str(session)} if session is not None else {}),
    }


def _of_handoff(change: MemoryChange, after: Record, repo: str | None) -> ChangeEvent:
    """What happened to a handoff: it was offered, or its file was changed, or one of its events came."""
    handoff = str(after.fields.get("handoff") or after.id)
    told = _when(change, "handoff", after, repo) | {
        "handoff": handoff,
        "event": str(after.fields.get("event") or ("offer" if change.before is None else "changed")),
        "title": after.title,
        "project": after.project,
        "trust": str(after.trust),
        "by": change.by,
    }
    return ChangeEvent("handoff", told, change.place, handoff)


def checked_wanted(types: Sequence[str], projects: Sequence[str]) -> Wanted:
    """What was asked for: each may be a list with commas."""
    return Wanted(tuple(_parts(types)), tuple(_parts(projects)))


def _parts(given: Sequence[str]) -> list[str]:
    return [part.strip() for text in given for part in text.split(",") if part.strip()]
