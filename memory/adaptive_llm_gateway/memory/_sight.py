"""What somebody may see who does not see everything: up to which level of trust, and of which projects.

A memory is seen by what its file says of itself. An event of a handoff, which is written once and repeats the handoff's
title, is seen only where the handoff is, too: who raises the level of a handoff has hidden all that happened to it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from adaptive_llm_gateway.core import AccessDenied, InvalidInput, Trust
from adaptive_llm_gateway.memory._requests import Request
from adaptive_llm_gateway.memory._values import Record, Within

_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody may see, and so may write.

    Attributes:
        max_trust: nothing above this level.
        projects: names, with `*`, `?` and `[...]`, upper and lower case told apart; None: every project, and none.
    """

    max_trust: Trust = Trust.SECRET
    projects: tuple[str, ...] | None = None

    def has_project(self, project: str | None) -> bool:
        """Whether memories of a project, or of none, are seen."""
        if self.projects is None:
            return True
        return project is not None and any(fnmatch.fnmatchcase(project, each) for each in self.projects)

    def shows(self, record: Record) -> bool:
        """Whether a memory is seen by what it says of itself; see `seen` for events of handoffs."""
        return self.max_trust.allows(record.trust) and self.has_project(record.project)

    def within(self, known: Callable[[], Iterable[str]], hidden: Iterable[str] = ()) -> Within:
        """The same for an index, which knows names and no patterns.

        Args:
            known: gives the names of all projects; asked only where there is a pattern.
            hidden: ids of memories that are not seen whatever they say of themselves.
        """
        projects = self.projects
        if projects is not None and any(_WILD.intersection(each) for each in projects):
            projects = tuple(name for name in known() if self.has_project(name))
        return Within(self.max_trust, projects, tuple(hidden))

    def check_level(self, level: Trust) -> None:
        """Refuse to write what would not be seen.

        Raises:
            AccessDenied: the level is above.
        """
        if not self.max_trust.allows(level):
            raise AccessDenied(
                f"a memory that is {level.value!r} cannot be written with this token, which goes up to "
                f"{self.max_trust.value!r}",
                hint=f"Give `trust` as {self.max_trust.value!r} or lower, or leave it out.",
                max_trust=self.max_trust.value,
            )

    def check_project(self, project: str | None) -> None:
        """Refuse to write what would not be seen.

        Raises:
            InvalidInput: there is no project, and one is needed.
            AccessDenied: it is none of those.
        """
        if self.has_project(project):
            return
        allowed = ", ".join(self.projects or ()) or "none"
        if project is None:
            raise InvalidInput(
                "`project` is missing: this token writes in its projects only",
                hint=f"Name one of: {allowed}.",
                projects=list(self.projects or ()),
            )
        raise AccessDenied(
            f"the project {project!r} is none of this token's",
            hint=f"It may name: {allowed}.",
            projects=list(self.projects or ()),
        )


@dataclass(frozen=True, slots=True)
class Sighted:
    """A request of somebody who does not see everything."""

    request: Request
    sight: Sight


def is_event(record: Record) -> bool:
    """Whether a memory is an event of a handoff."""
    return record.type == "handoff" and record.fields.get("event") is not None


def seen(record: Record | None, sight: Sight, get: Callable[[str], Record | None]) -> Record | None:
    """A memory, where it is seen; an event of a handoff where the handoff is, too.

    Args:
        get: the memory of an id, whoever sees it.
    """
    if record is None or not sight.shows(record):
        return None
    if is_event(record):
        named = record.fields.get("handoff")
        offer = get(named) if isinstance(named, str) else None
        if offer is None or offer.type != "handoff" or is_event(offer) or not sight.shows(offer):
            return None
    return record
