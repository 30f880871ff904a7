"""Trust levels: who may see a memory, from everybody to this machine alone."""

from __future__ import annotations

from enum import StrEnum


class Trust(StrEnum):
    """`public < internal < confidential < secret`; compare by `rank`."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    SECRET = "secret"  # noqa: S105 - the level's name

    @property
    def rank(self) -> int:
        """0 for `public` up to 3 for `secret`."""
        return list(Trust).index(self)

    def allows(self, level: Trust) -> bool:
        """Whether something of `level` may go where this level is the highest allowed."""
        return level.rank <= self.rank
