"""A consent: what somebody allowed to leave the machine, as routing reads it and the ledger keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from adaptive_llm_gateway.core import Trust


@dataclass(frozen=True, slots=True)
class Consent:
    """A grant that holds.

    Attributes:
        id: a ULID.
        provider: the configured name of the provider.
        level: the highest that may be sent.
        purpose: None for any.
        project: None for any.
        expires: None for never; from this moment on it does not hold.
        by: who granted it.
        entry: the hash of its entry in the ledger, for receipts.
    """

    id: str
    provider: str
    level: Trust
    purpose: str | None
    project: str | None
    expires: datetime | None
    granted: datetime
    by: str
    entry: str

    def covers(self, *, provider: str, level: Trust, purpose: str, project: str | None) -> bool:
        """Whether it allows this; a consent for one project allows nothing that has none."""
        return (
            self.provider == provider
            and self.level.allows(level)
            and self.purpose in (None, purpose)
            and self.project in (None, project)
        )


@dataclass(frozen=True, slots=True)
class Consents:
    """What the ledger gives: entries in force; none count where its chain is `broken`."""

    entries: tuple[Consent, ...] = ()
    broken: bool = False


NO_CONSENTS: Final = Consents()
