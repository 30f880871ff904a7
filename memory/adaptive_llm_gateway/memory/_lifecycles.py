"""Fields that have an order of their own, for merges: what becomes of them when two machines changed one at once.

Where both sides changed such a field, the later stage wins, whichever side is newer: what was done on one machine is
done, though somebody noted on another one a moment later that it is in progress. Where one side alone changed it,
that side's value counts, also when it goes back: a task that was opened again stays open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The stages of a field, first to last.

    Attributes:
        goes_along: fields that say more about the stage; they come from the side that the stage comes from.
    """

    field: str
    stages: tuple[str, ...]
    goes_along: tuple[str, ...] = ()


STATUS: Final[Mapping[str, Lifecycle]] = MappingProxyType(
    {
        # That work is stuck outweighs that somebody does it; that it was done outweighs that it was given up.
        "task": Lifecycle("status", ("open", "in_progress", "blocked", "cancelled", "done"), ("completed_at",)),
        # Withdrawing a yes outweighs the yes; that another decision took its place outweighs both.
        "decision": Lifecycle("status", ("proposed", "accepted", "rejected", "superseded"), ("superseded_by",)),
        "session": Lifecycle("status", ("active", "ended"), ("ended",)),
    }
)
"""By type. A field of a declared type is a plain one, whatever values it allows."""

TRUST: Final = Lifecycle("trust", ("public", "internal", "confidential", "secret"))
"""Of every type: where both sides changed it, what fewer may see wins."""

WRITTEN_ONCE: Final[Mapping[str, str]] = MappingProxyType({"handoff": "event"})
"""Type to the field whose presence says that the file is never changed: nothing of two versions is mixed."""
