"""The consent ledger: who allowed what to leave the machine, until when, and who took it back. Append-only.

A grant names a provider, the highest level it may be sent, a purpose, a project and an expiry; a purpose or a project
of None means any. Revoking is an entry like granting: nothing is removed. While the chain does not hold, no consent is
given out at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from adaptive_llm_gateway.core import InvalidInput, NotFound, ProcessLock, SecretScanner, Trust, is_ulid, new_ulid
from adaptive_llm_gateway.gateway._canonical import Json
from adaptive_llm_gateway.gateway._chain import LOCK_SECONDS, Break, Chain, ChainBroken, Entry, Reading
from adaptive_llm_gateway.gateway._consents import Consent
from adaptive_llm_gateway.gateway._files import storage_errors, sync_folder
from adaptive_llm_gateway.gateway._times import from_text, to_text

_LONGEST = 200  # characters of a name
_LONGEST_REASON = 1_000

State = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """When, by whom and why a consent was taken back."""

    at: datetime
    by: str
    reason: str
    entry: str


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """A grant and what became of it."""

    consent: Consent
    reason: str
    revoked: Revocation | None

    def state(self, now: datetime) -> State:
        """What it is worth at `now`."""
        if self.revoked is not None:
            return "revoked"
        expires = self.consent.expires
        return "expired" if expires is not None and expires <= now else "active"


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """Whether the ledger holds.

    Attributes:
        entries: how many hold.
        last: the hash of the last of them; None when there is none.
        torn: bytes behind the last entry that a killed writer left; the next entry removes them.
        broken: where it does not hold, or None.
    """

    entries: int
    last: str | None
    torn: int
    broken: Break | None


class ConsentLedger:
    """The ledger in a file. Safe to share between threads and processes.

    Args:
        path: the file, `consents.jsonl`; it is made by the first grant.
        scanner: nothing that it names is taken in.
    """

    def __init__(self, path: Path, *, scanner: SecretScanner) -> None:
        self._path = path
        self._chain = Chain(path, keeps_head=True)
        self._scanner = scanner
        self._replayed: tuple[Reading, dict[str, ConsentRecord]] | None = None

    def consents(self, now: datetime) -> tuple[Consent, ...]:
        """What holds at `now`, the oldest first.

        Raises:
            ChainBroken: the ledger does not hold, so nothing in it does.
            FormatTooNew, StorageError: it cannot be read.
        """
        return tuple(record.consent for record in self.records() if record.state(now) == "active")

    def records(self) -> tuple[ConsentRecord, ...]:
        """Every grant there ever was, the oldest first; raises what `consents` raises."""
        return tuple(self._replay(self._chain.check()).values())

    def grant(
        self,
        *,
        provider: str,
        level: Trust,
        now: datetime,
        by: str,
        purpose: str | None = None,
        project: str | None = None,
        expires: datetime | None = None,
        reason: str = "",
    ) -> Consent:
        """Allow a provider to be sent what is of `level` or below; durable when this returns.

        Raises:
            InvalidInput: an empty or too long text, an expiry that has passed, a time without a zone.
            SecretRefused: a text carries a credential.
            ChainBroken, LockHeld, StorageError: see `Chain.append`.
        """
        for name, value in (("provider", provider), ("by", by), ("purpose", purpose), ("project", project)):
            if value is not None:
                self._check_text(name, value)
        self._check_text("reason", reason, longest=_LONGEST_REASON, may_be_empty=True)
        for name, time in (("now", now), ("expires", expires)):
            if time is not None and time.tzinfo is None:
                raise InvalidInput(f"{name} {time!r} has no time zone", hint="Give it with one, as in ...T12:00:00Z.")
        if expires is not None and expires <= now:
            raise InvalidInput(
                f"the expiry {to_text(expires)!r} has passed: it is {to_text(now)!r}",
                hint="Give a later one, or none for a consent without end.",
            )
        consent_id = new_ulid()
        fields: dict[str, Json] = {
            "kind": "grant",
            "id": consent_id,
            "at": to_text(now),
            "by": by,
            "provider": provider,
            "level": level.value,
            "purpose": purpose,
            "project": project,
            "expires": to_text(expires) if expires is not None else None,
            "reason": reason,
        }
        return _grant(self._chain.append(fields)).consent

    def revoke(self, consent_id: str, *, now: datetime, by: str, reason: str = "") -> ConsentRecord:
        """Take a consent back; durable when this returns.

        Raises:
            NotFound: there is no such consent.
            InvalidInput: it was revoked before, or a text is not acceptable.
            SecretRefused, ChainBroken, LockHeld, StorageError: as for `grant`.
        """
        self._check_text("by", by)
        self._check_text("reason", reason, longest=_LONGEST_REASON, may_be_empty=True)
        found = {record.consent.id: record for record in self.records()}.get(consent_id)
        if found is None:
            raise NotFound(f"there is no consent {consent_id!r}", hint="`alg consent list` shows those there are.")
        if found.revoked is not None:
            raise InvalidInput(f"the consent {consent_id!r} was revoked at {to_text(found.revoked.at)}")
        entry = self._chain.append({"kind": "revoke", "id": consent_id, "at": to_text(now), "by": by, "reason": reason})
        return ConsentRecord(found.consent, found.reason, _revocation(entry))

    def verify(self) -> LedgerCheck:
        """Whether every entry is as it was written and none is missing. Changes nothing.

        Raises:
            FormatTooNew, StorageError: it cannot be read.
        """
        reading = self._chain.read()
        broken = reading.broken
        if broken is None:
            try:
                self._replay(reading)
            except ChainBroken as error:
                broken = Break(error.details["line"], error.details["why"])
        last = reading.entries[-1].hash if reading.entries else None
        return LedgerCheck(len(reading.entries), last, reading.torn, broken)

    def set_aside(self, now: datetime) -> Path:
        """Rename a broken ledger, so that a new one begins: every consent must be given anew. Returns its new path.

        Raises:
            InvalidInput: it is not broken; consents are taken back by `revoke`.
        """
        if self.verify().broken is None:
            raise InvalidInput(
                f"the ledger {str(self._path)!r} holds, and is not set aside", hint="Revoke consents one by one."
            )
        stamp = to_text(now).replace(":", "").replace(".", "")
        with (
            storage_errors(f"set {str(self._path)!r} aside"),
            ProcessLock(self._path.with_name(f"{self._path.name}.lock"), timeout=LOCK_SECONDS),
        ):
            aside = self._path.with_name(f"{self._path.stem}.broken-{stamp}{self._path.suffix}")
            # The head goes last: killed between the two, the ledger is still broken, never one that holds less.
            head = self._path.with_name(f"{self._path.name}.head")
            if self._path.exists():
                self._path.rename(aside)
            if head.exists():
                head.rename(aside.with_name(f"{aside.name}.head"))
            sync_folder(self._path.parent)
        return aside

    def _check_text(self, name: str, value: str, *, longest: int = _LONGEST, may_be_empty: bool = False) -> None:
        if not value.strip() and not may_be_empty:
            raise InvalidInput(f"{name} is empty", hint=f"Say which {name}, or leave it out where it may be any.")
        if len(value) > longest:
            raise InvalidInput(f"{name} has {len(value):,} characters, more than {longest:,}")
        if not value.isprintable():
            raise InvalidInput(f"{name} {value!r} has characters that do not show", hint="Write it in one plain line.")
        self._scanner.check(value, where=name)

    def _replay(self, reading: Reading) -> dict[str, ConsentRecord]:
        known = self._replayed
        if known is not None and known[0] is reading:
            return known[1]
        records: dict[str, ConsentRecord] = {}
        for entry in reading.entries:
            try:
                if entry.fields.get("kind") == "grant":
                    record = _grant(entry)
                    if record.consent.id in records:
                        raise ValueError("its id was given before")
                    records[record.consent.id] = record
                elif entry.fields.get("kind") == "revoke":
                    record = records.get(str(entry.fields.get("id")))
                    if record is None:
                        raise ValueError("it revokes what is not granted")
                    if record.revoked is not None:
                        continue  # two processes revoked it at the same time
                    records[record.consent.id] = ConsentRecord(record.consent, record.reason, _revocation(entry))
                else:
                    raise ValueError(f"its kind is {entry.fields.get('kind')!r}")
            except (KeyError, ValueError) as error:
                raise ChainBroken(
                    f"line {entry.seq} of {str(self._path)!r} is no entry of a ledger: {error}",
                    hint="Put the file back from a copy, or set it aside and begin anew.",
                    path=str(self._path),
                    line=entry.seq,
                    why=f"it is no entry of a ledger: {error}",
                ) from error
        self._replayed = (reading, records)
        return records


def _grant(entry: Entry) -> ConsentRecord:
    fields = entry.fields
    if not is_ulid(_text(fields["id"])):
        raise ValueError(f"its id is {fields['id']!r}")
    expires = _text_or_none(fields["expires"])
    consent = Consent(
        id=_text(fields["id"]),
        provider=_text(fields["provider"]),
        level=Trust(fields["level"]),
        purpose=_text_or_none(fields["purpose"]),
        project=_text_or_none(fields["project"]),
        expires=from_text(expires) if expires is not None else None,
        granted=from_text(_text(fields["at"])),
        by=_text(fields["by"]),
        entry=entry.hash,
    )
    return ConsentRecord(consent, _text(fields["reason"]), None)


def _revocation(entry: Entry) -> Revocation:
    fields = entry.fields
    return Revocation(from_text(_text(fields["at"])), _text(fields["by"]), _text(fields["reason"]), entry.hash)


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _text_or_none(value: Json) -> str | None:
    return None if value is None else _text(value)
