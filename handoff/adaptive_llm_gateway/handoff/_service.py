"""Handoffs of one store: offered, claimed, reported on and ended; each claim is one hub's alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from adaptive_llm_gateway.core import (
    AlgError,
    InvalidInput,
    NotFound,
    NotHolder,
    SyncError,
    Trust,
    Unavailable,
    new_ulid,
)
from adaptive_llm_gateway.handoff._checks import (
    Hold,
    best_for,
    check_claim,
    check_counts,
    check_decline,
    check_holds,
    check_withdraw,
    renewal,
    same_holder,
)
from adaptive_llm_gateway.handoff._clock import LeaseClock
from adaptive_llm_gateway.handoff._events import MOST_STEPS, Files, event_fields, gather, stamp, title_of
from adaptive_llm_gateway.handoff._fold import fold
from adaptive_llm_gateway.handoff._losses import Losses
from adaptive_llm_gateway.handoff._patch import fence
from adaptive_llm_gateway.handoff._values import (
    MOST_LEASE,
    Claim,
    Damage,
    Event,
    EventKind,
    Handoff,
    Party,
    Priority,
    WorkState,
)
from adaptive_llm_gateway.memory import AppendEvent, Author, Filters, Link, WriteMemory, WriteResult

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import MemoryStore, Record, Ticket

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

Outcome = Literal["released", "declined", "withdrawn"]
_ENDING: Final[dict[Outcome, EventKind]] = {"released": "release", "declined": "decline", "withdrawn": "withdraw"}
# Failures of a remote that is there but cannot be spoken to now, or not by us; what is written here goes out later.
_OUT_OF_REACH: Final = frozenset(
    {"unreachable", "timeout", "auth", "host_key", "access_denied", "remote_missing", "offline", "protected_branch"}
    | {"hook_rejected", "remote_read_only", "disk_full", "transport_refused", "ownership", "checked_out"}
)
_SAVE_SECONDS: Final = 60.0
_FLUSH_SECONDS: Final = 10.0
_DEPTH_OF_EVENTS: Final = 5  # handoffs/yyyy/mm/<end of the offer's id>/<event>.md
_LONGEST_TITLE: Final = 200


@dataclass(frozen=True, slots=True)
class HandoffRules:
    """What a hub's handoffs go by.

    Attributes:
        lease: how long a claim holds without a word of its holder; at most 24 hours.
        remote_wait: seconds that listing waits for what the remote has.
        look_every: seconds for which what the remote had is taken for new.
        look_again: seconds for which a remote that did not answer is not asked again, unless something else reached it.
        confirm_wait: seconds that a claim, or an end, waits for the remote to take it.
    """

    lease: timedelta = timedelta(hours=1)
    remote_wait: float = 5.0
    look_every: float = 1.0
    look_again: float = 15.0
    confirm_wait: float = 30.0


@dataclass(frozen=True, slots=True)
class NewOffer:
    """Work to be offered. `patch` is the diff of what is not committed; `work` says where the work lies."""

    objective: str
    title: str | None = None
    next_action: str | None = None
    state: str = ""
    open_questions: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    to: str | None = None
    priority: Priority = "normal"
    expires: datetime | None = None
    project: str | None = None
    tags: tuple[str, ...] = ()
    trust: Trust | None = None
    session_id: str | None = None
    checkpoint: bool = False
    work: WorkState = field(default_factory=WorkState)
    patch: str | None = None
    redact: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A handoff after a write, what the write did, and what there is to say of it.

    Attributes:
        again: the claim was there already and its lease runs anew.
        replaced: a checkpoint took the place of an earlier one.
    """

    handoff: Handoff
    result: WriteResult
    notes: tuple[str, ...] = ()
    again: bool = False
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class Looked:
    """When the remote was last asked for what it has, and why that failed."""

    at: datetime | None
    error: str | None


class _HeldAlready(AlgError):
    """Ends a publication of a claim that its holder has already."""

    code = "held_already"


class Handoffs:
    """The handoffs of a store; its methods may be called from any thread, and wait.

    Args:
        store: open.
        is_there: whether a process of a client is connected to this hub now.
    """

    def __init__(
        self,
        store: MemoryStore,
        rules: HandoffRules | None = None,
        *,
        clock: LeaseClock | None = None,
        is_there: Callable[[Party], bool] = lambda _: False,
    ) -> None:
        self._store = store
        self._rules = rules or HandoffRules()
        self._clock = clock or LeaseClock()
        self._is_there = is_there
        self._door = threading.RLock()  # what is looked at stays so until what follows from it is written
        self._looking = threading.Lock()
        self._looked: tuple[float, Looked] | None = None
        self._settling = threading.Lock()
        self._losses = Losses()
        self._unsettled = True  # whether provisional claims may be there that wait for the remote
        store.on_synced(self._synced)

    # -- reading -----------------------------------------------------------------------------------------------

    def one(self, id: str, *, writing: bool = False) -> Handoff:
        """A handoff by its id, or the end of it, or the id of one of its events.

        Args:
            writing: asked by what is about to be written, so that nothing is on its way and nothing may be waited for.

        Raises:
            NotFound, InvalidInput: there is none, or several.
        """
        record = self._store.record(id) or self._store.read(id).record
        if record.type != "handoff":
            raise InvalidInput(
                f"memory {record.id!r} is a {record.type}, not a handoff", hint="`alg handoff list` names them."
            )
        belongs = record.fields.get("handoff") if record.fields.get("event") is not None else None
        if isinstance(belongs, str):
            found = self._store.record(belongs)
            if found is None:
                raise NotFound(f"the handoff {belongs!r} of event {record.id!r} is not there")
            record = found
        events = list(self._events(record.id))
        if not writing and self._not_among(record, events):  # a file that is on its way into the index is no damage
            try:
                self._store.flush(_FLUSH_SECONDS)
            except FutureTimeout:
                raise Unavailable(
                    f"the hub has been busy writing for {_FLUSH_SECONDS:g} s", hint="Try again in a moment."
                ) from None
            events = list(self._events(record.id))
        files, _ = gather([record, *events])
        mine = next((each for each in files if each.offer.id == record.id), None)
        if mine is None:
            raise NotFound(f"{id!r} is an event of a handoff that is not there")
        lost = [Damage(path, "cannot be read as an event of it", record.id) for path in self._not_among(record, events)]
        unread = self._unread().get(record.id[-8:].lower(), [])
        return self._folded(replace(mine, damage=(*mine.damage, *lost, *unread)))

    def every(self) -> list[Handoff]:
        """All handoffs, in no order; their patches are without text, which `patch_of` has."""
        files, strays = gather(self._store.handoff_records())
        for stray in strays:
            _log.debug("a file of no handoff: %s: %s", stray.path, stray.problem)
        unread = self._unread()
        return [
            self._folded(replace(each, damage=(*each.damage, *unread.get(each.offer.id[-8:].lower(), ()))))
            for each in files
        ]

    def _unread(self) -> dict[str, list[Damage]]:
        """Files of handoffs that cannot be read as they are now, by the end of the offer's id: what they said before
        is no more than that.
        """
        found: dict[str, list[Damage]] = {}
        for skipped in self._store.skipped:
            parts = skipped.path.split("/")
            if parts[0] == "handoffs" and len(parts) > 1:
                end = parts[-2] if len(parts) == _DEPTH_OF_EVENTS else parts[-1].removesuffix(".md")[-8:]
                found.setdefault(end, []).append(Damage(skipped.path, skipped.problem))
        return found

    def _events(self, id: str) -> Iterable[Record]:
        return self._store.records(filters=Filters(types=("handoff",), fields={"handoff": id}))

    def _not_among(self, offer: Record, events: Sequence[Record]) -> list[str]:
        """Files in the handoff's folder that are none of its events: what they say could not be read."""
        folder = f"{offer.path.rpartition('/')[0]}/{offer.id[-8:].lower()}"
        try:
            names = [path.name for path in (self._store.repo.path / folder).iterdir()]
        except OSError:
            return []
        known = {record.path for record in events}
        paths = (f"{folder}/{name}" for name in sorted(names) if name.endswith(".md") and not name.startswith("."))
        return [path for path in paths if path not in known]

    def _folded(self, files: Files) -> Handoff:
        return fold(files.offer, files.events, files.damage, now=self._clock.now(), lease_over=self._clock.is_over)

    def patch_of(self, handoff: Handoff) -> Event | None:
        """The event that carries the diff, where there is one: the last patch, unless that is empty."""
        last = next((step.event for step in reversed(handoff.steps) if step.event.kind == "patch"), None)
        record = self._store.record(last.id) if last is not None else None
        if last is None or record is None or not record.body.strip():
            return None
        return replace(last, text=record.body)

    @property
    def store(self) -> MemoryStore:
        """Where they are kept."""
        return self._store

    @property
    def clock(self) -> LeaseClock:
        """What leases are judged by."""
        return self._clock

    # -- the remote --------------------------------------------------------------------------------------------

    @property
    def has_remote(self) -> bool:
        """Whether claims are confirmed by a push."""
        return self._store.sync_status().state != "no_remote"

    def look(self) -> Looked | None:
        """Bring in what the remote has, unless that was done a moment ago; None where there is no remote."""
        if not self.has_remote:
            return None
        with self._looking:
            if self._looked is not None:
                when, looked = self._looked
                rest = self._rules.look_again if looked.error else self._rules.look_every
                if time.monotonic() - when < rest:
                    return looked
            error: str | None = None
            try:
                self._store.pull().result(self._rules.remote_wait)
            except FutureTimeout:
                error = f"the remote did not answer within {self._rules.remote_wait:g} s"
            except AlgError as failed:
                error = str(failed)
            before = self._looked[1].at if self._looked is not None else None
            looked = Looked(before if error else datetime.now(UTC), error)
            self._looked = (time.monotonic(), looked)
            return looked

    def _synced(self) -> None:
        """After a pull or push: provisional claims are settled, in a thread of their own."""
        if (known := self._looked) is not None and known[1].error:
            self._looked = (float("-inf"), known[1])  # it can be reached again
        if self._unsettled and not self._settling.locked():
            threading.Thread(target=self.settle, name="handoff-settling", daemon=True).start()

    def settle(self) -> int:
        """Have the remote confirm the provisional claims of this hub that still count; returns how many were.

        Those that do not count are told by `lost`.
        """
        confirmed = 0
        if not self._settling.acquire(blocking=False):
            return 0
        self._unsettled = False
        failed, again = True, False
        try:
            for handoff in self.every():
                self._losses.look(handoff, self._is_ours, self._clock.now())
                claim = handoff.claim
                if claim is None or not claim.provisional or not self._is_ours(claim.by):
                    continue
                try:
                    self._confirm(handoff.offer.id, claim)
                    confirmed += 1
                except AlgError as error:
                    again = True
                    _log.info("the provisional claim of handoff %s is not confirmed: %s", handoff.offer.id, error)
            failed = again
        except AlgError as error:  # the store is closing
            _log.info("provisional claims were not looked at: %s", error)
        finally:
            if failed:
                self._unsettled = True
            self._settling.release()
        return confirmed

    def lost(self, by: Party | None = None) -> list[str]:
        """Provisional claims that came to nothing, and why: those of a party, which is told with that; or of all
        parties that were not.
        """
        if by is None:
            return self._losses.untold(self._clock.now())
        me = self._me(by)
        return self._losses.told(lambda party: same_holder(party, me, self._is_there))

    def _confirm(self, id: str, claim: Claim) -> None:
        def decide() -> AppendEvent:
            now = self.one(id, writing=True)
            if now.claim is None or now.claim.id != claim.id:
                raise InvalidInput("somebody else's claim was there first")
            if not now.claim.provisional:
                raise _HeldAlready("it is confirmed already")
            return self._event(now, "confirm", claim.by, claim=claim.id)

        try:
            self._store.publish(decide, timeout=self._rules.confirm_wait).result(self._rules.confirm_wait)
        except FutureTimeout:
            raise Unavailable("the remote did not answer in time") from None

    # -- writing -----------------------------------------------------------------------------------------------

    def create(self, new: NewOffer, by: Party) -> Written:
        """Offer work.

        Raises:
            InvalidInput: no objective, or a value that cannot be.
            SecretRefused: a credential anywhere in it, the patch included.
        """
        if not new.objective.strip():
            raise InvalidInput("the objective is empty", hint="Say what is to be reached.")
        by = self._me(by)
        self._check_links(new.decisions)
        notes: tuple[str, ...] = ()
        if new.patch is not None and not new.redact:
            self._store.scanner.check(new.patch, where="the patch")
        with self._door:
            ticket = self._store.submit(self._offer(new, by))
            planned = _saved(ticket.saved)
            if new.patch is not None:
                # The offer is durable; without its patch it still says that files were changed.
                carried, notes = self._put_patch(planned.id, fence(new.patch), by, redact=new.redact)
                ticket = carried or ticket
        result = self._store.result(planned, self._store.commit_of(ticket, self._store.commit_wait))
        return Written(self.one(planned.id), result, notes)

    def _put_patch(self, id: str, text: str, by: Party, *, redact: bool) -> tuple[Ticket | None, tuple[str, ...]]:
        """The write of a patch, and what there is to say of it: why there is none, when it failed."""
        try:
            ticket = self._store.submit(self._event(self.one(id), "patch", by, text=text, redact=redact))
            return ticket, tuple(_saved(ticket.saved).notes)
        except AlgError as error:
            return None, (f"the patch could not be kept, and the handoff is without it: {error}",)

    def checkpoint(self, new: NewOffer, by: Party) -> Written:
        """Keep how a session stands, as an offer that the next checkpoint of the same session replaces: of what that
        one does not have, nothing stays but the level of trust.
        """
        by = self._me(by)
        with self._door:
            found = self._last_checkpoint(new.session_id, by)
            if found is None:
                return self.create(replace(new, checkpoint=True), by)
            ticket = self._store.submit(self._offer(replace(new, checkpoint=True), by, over=found.offer.id))
            planned = _saved(ticket.saved)
            last = self.patch_of(found)
            patch = "" if new.patch is None else fence(new.patch)
            notes: tuple[str, ...] = ()
            if patch.strip() != (last.text.strip() if last is not None else ""):
                carried, notes = self._put_patch(planned.id, patch, by, redact=new.redact)
                if carried is None and last is not None:  # at least the one before does not pass for it
                    carried, _ = self._put_patch(planned.id, "", by, redact=new.redact)
                ticket = carried or ticket
        result = self._store.result(planned, self._store.commit_of(ticket, self._store.commit_wait))
        return Written(self.one(planned.id), result, notes, replaced=True)

    def _last_checkpoint(self, session: str | None, by: Party) -> Handoff | None:
        if session is None:
            return None
        for handoff in self.every():
            offer = handoff.offer
            same = offer.checkpoint and offer.session_id == session and offer.by.client == by.client
            if same and self._is_ours(offer.by) and handoff.state == "offered" and handoff.term == 0:
                return handoff
        return None

    def claim(
        self,
        id: str | None,
        by: Party,
        *,
        project: str | None = None,
        lease: timedelta | None = None,
        provisional: bool = False,
        anyway: bool = False,
    ) -> Written:
        """Claim a handoff, or without an id the best open one for this client.

        Args:
            provisional: when the remote is out of reach, claim for now; the next sync settles it.
            anyway: also one that is for somebody else.

        Raises:
            HandoffTaken: somebody holds it; who and since when is in the text.
            InvalidInput: it is over, damaged or not for this client.
            NotFound: there is none.
            SyncError: the remote did not confirm it.
        """
        by, length = self._me(by), self._length(lease)
        if id is None:
            return self._claim_best(by, project=project, lease=lease, provisional=provisional)
        id = self._known(id)

        def decide() -> AppendEvent:
            handoff = self.one(id, writing=True)
            if check_claim(handoff, by, is_there=self._is_there, anyway=anyway) == "again":
                raise _HeldAlready("it is yours already")
            return self._claim_event(handoff, by, length, provisional=False)

        try:
            return self._claimed(id, self._published(decide) if self.has_remote else self._write(decide))
        except _HeldAlready:
            with self._door:
                return replace(self._renewed(id, by, length), again=True)
        except SyncError as error:
            if error.details.get("kind") not in _OUT_OF_REACH:
                raise
            if not provisional:
                error.hint = (
                    f"{error.hint or ''} The handoff is not claimed: only the remote can say that nobody else holds "
                    "it. To begin all the same, claim it provisionally; the next sync settles who holds it."
                ).strip()
                raise
            with self._door:
                handoff = self.one(id)
                check_claim(handoff, by, is_there=self._is_there, anyway=anyway)
                written = self._submitted(self._claim_event(handoff, by, length, provisional=True))
                self._losses.made(written.id)
                self._unsettled = True
            note = f"provisional: the remote could not be asked ({error.message}); the next sync settles who holds it"
            return self._claimed(id, written, note)

    def _claim_best(self, by: Party, *, project: str | None, lease: timedelta | None, provisional: bool) -> Written:
        self.look()
        tried: set[str] = set()
        while True:
            open_ones = [handoff for handoff in self.every() if handoff.offer.id not in tried]
            best = best_for(open_ones, by, project, is_there=self._is_there)
            if best is None:
                where = f" of project {project!r}" if project else ""
                raise NotFound(
                    f"no handoff{where} is open for {by.client!r}", hint="A list of them shows those of others."
                )
            tried.add(best.offer.id)
            try:
                return self.claim(best.offer.id, by, lease=lease, provisional=provisional)
            except AlgError as error:
                if error.code not in ("handoff_taken", "not_found", "invalid_input"):
                    raise  # otherwise somebody was quicker; there may be another one

    def update(self, id: str, text: str, by: Party, *, lease: timedelta | None = None, redact: bool = False) -> Written:
        """Report progress, which renews the lease.

        Raises:
            NotHolder: somebody else holds it, or nobody.
        """
        by, length = self._me(by), self._length(lease)
        id = self._known(id)
        notes = self._hold(id, by, length)
        with self._door:
            handoff = self.one(id)
            self._check(handoff, by)
            assert handoff.claim is not None  # noqa: S101 - its holder asks
            until = renewal(handoff.claim, self._clock.now(), length)
            event = self._event(
                handoff, "progress", by, text=text, claim=handoff.claim.id, lease_until=until, redact=redact
            )
            written = self._submitted(event)
        return self._after(id, written, *notes)

    def still_held(self, id: str, by: Party, report: str) -> Handoff:
        """A handoff as it stands after `by` wrote an event of this id, and a push may have brought others' events in.

        Raises:
            NotHolder: another's claim counts, or counted until it was over.
        """
        by, handoff = self._me(by), self.one(id)
        mine = next((step.event.claim for step in handoff.steps if step.event.id == report), None)
        if handoff.claim is None or handoff.claim.id == mine:
            return handoff
        try:
            check_holds(handoff, by, is_there=self._is_there)
        except NotHolder as error:
            error.hint = f"What you reported is kept and changes nothing. {error.hint or ''}".strip()
            raise
        return handoff

    def complete(self, id: str, result: str, by: Party, *, redact: bool = False) -> Written:
        """Finish.

        Raises:
            NotHolder: somebody else holds it, or nobody.
        """
        return self._end(id, "done", result, by, redact=redact)

    def release(
        self, id: str, reason: str, by: Party, *, outcome: Outcome = "released", redact: bool = False
    ) -> Written:
        """Give a handoff back, refuse it, or take one's own offer back.

        Raises:
            NotHolder: to give back or refuse: somebody else holds it. To take back: somebody holds it.
            InvalidInput: it is over.
        """
        return self._end(id, _ENDING[outcome], reason, by, redact=redact)

    def _end(self, id: str, kind: EventKind, text: str, by: Party, *, redact: bool) -> Written:
        by, id = self._me(by), self._known(id)
        notes: list[str] = []
        if kind in ("done", "release") or (kind == "decline" and self._was_holder(id, by)):
            notes = self._hold(id, by, self._rules.lease)

        def decide() -> AppendEvent:
            handoff = self.one(id, writing=True)
            claim: str | None = None
            if kind == "withdraw":
                check_withdraw(handoff, by)
            elif kind == "decline" and not self._holds(handoff, by):
                check_decline(handoff, by)
            else:
                self._check(handoff, by)
                claim = handoff.claim.id if handoff.claim else None
            return self._event(
                handoff, kind, by, text=text, claim=claim, term=0 if claim else handoff.term, redact=redact
            )

        if not self.has_remote:
            return self._after(id, self._write(decide), *notes)
        try:
            return self._after(id, self._published(decide), *notes)
        except SyncError as error:
            if error.details.get("kind") not in _OUT_OF_REACH:
                raise
            note = (
                f"the remote could not be asked ({error.message}); this is written here and goes out with the next sync"
            )
            return self._after(id, self._write(decide), *notes, note)

    # -- parts of it -------------------------------------------------------------------------------------------

    def _me(self, by: Party) -> Party:
        return replace(by, hub=self._store.hub_name, host=self._store.host)

    def _is_ours(self, by: Party) -> bool:
        return (by.hub, by.host) == (self._store.hub_name, self._store.host)

    def _known(self, id: str) -> str:
        """The full id; a handoff that is not here yet may be at the remote."""
        try:
            return self.one(id).offer.id
        except NotFound:
            if self.look() is None:
                raise
            return self.one(id).offer.id

    def _holds(self, handoff: Handoff, by: Party) -> bool:
        return handoff.holder is not None and same_holder(handoff.holder, by, self._is_there)

    def _was_holder(self, id: str, by: Party) -> bool:
        try:
            return check_holds(self.one(id), by, is_there=self._is_there) == "lapsed"
        except NotHolder:
            return False

    def _check(self, handoff: Handoff, by: Party) -> None:
        if check_holds(handoff, by, is_there=self._is_there) == "lapsed":
            raise _lapsed(handoff)

    def _hold(self, id: str, by: Party, length: timedelta) -> list[str]:
        """A holder whose lease ran out holds it again, if nobody else does."""
        handoff = self.one(id)
        hold: Hold = check_holds(handoff, by, is_there=self._is_there)
        if hold == "holds":
            return []
        self.claim(id, by, lease=length, anyway=True)
        return ["the lease had run out and nobody else held it: it was claimed again"]

    def _renewed(self, id: str, by: Party, length: timedelta) -> Written:
        handoff = self.one(id)
        self._check(handoff, by)
        assert handoff.claim is not None  # noqa: S101 - its holder asks
        until = renewal(handoff.claim, self._clock.now(), length)
        event = self._event(handoff, "progress", by, claim=handoff.claim.id, lease_until=until)
        return self._after(id, self._submitted(event))

    def _claim_event(self, handoff: Handoff, by: Party, length: timedelta, *, provisional: bool) -> AppendEvent:
        until = self._clock.now() + length
        return self._event(handoff, "claim", by, term=handoff.term + 1, lease_until=until, provisional=provisional)

    def _event(
        self,
        handoff: Handoff,
        kind: EventKind,
        by: Party,
        *,
        text: str = "",
        term: int = 0,
        claim: str | None = None,
        lease_until: datetime | None = None,
        provisional: bool = False,
        redact: bool = False,
    ) -> AppendEvent:
        if handoff.step >= MOST_STEPS or term > MOST_STEPS:
            raise InvalidInput(
                f"handoff {handoff.offer.id!r} has an event of step or term {MOST_STEPS:,}, and none can follow",
                hint="Offer what is still to be done as a new handoff.",
                handoff=handoff.offer.id,
            )
        event = Event(
            id=new_ulid(),
            handoff=handoff.offer.id,
            kind=kind,
            step=handoff.step + 1,
            time=self._clock.now(),
            by=by,
            path="",
            version="",
            term=term,
            claim=claim,
            lease_until=lease_until,
            provisional=provisional,
            text=text,
        )
        return AppendEvent(
            author=Author(by.client, by.agent, by.host),
            handoff=handoff.offer.id,
            id=event.id,
            event=kind,
            step=event.step,
            time=event.time,
            title=title_of(kind, handoff.offer.title, by),
            body=text,
            trust=handoff.offer.trust,
            fields=event_fields(event),
            redact=redact,
        )

    def _offer(self, new: NewOffer, by: Party, *, over: str | None = None) -> WriteMemory:
        """`over`: the id of an offer of which nothing stays that this one does not have."""
        work = new.work
        fields: dict[str, Any] = {
            "objective": new.objective.strip(),
            "next_action": (new.next_action or "").strip() or None,
            "open_questions": list(new.open_questions) or None,
            "constraints": list(new.constraints) or None,
            "to": new.to,
            "priority": new.priority,
            "expires": stamp(new.expires) if new.expires else None,
            "session_id": new.session_id,
            "checkpoint": new.checkpoint or None,
            "directory": work.directory,
            "remote": work.remote,
            "branch": work.branch,
            "commit": work.commit,
            "dirty": list(work.dirty) or None,
            "dirty_count": work.dirty_count or None,
            "hub": self._store.hub_name,
            "instance": by.instance,
        }
        if over is not None:
            fields["project"] = new.project  # named among the fields, for there None takes away what was
        return WriteMemory(
            author=Author(by.client, by.agent),
            id=over,
            type=None if over is not None else "handoff",
            title=new.title or first_line(new.objective),
            body=new.state,
            project=new.project,
            tags=new.tags,
            trust=new.trust,
            links=tuple(Link("decided", id_) for id_ in new.decisions),
            fields={name: value for name, value in fields.items() if value is not None or over is not None},
            reason=new.reason,
            redact=new.redact,
        )

    def _check_links(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            if self._store.record(id_) is None:
                raise NotFound(f"no memory {id_!r}", hint="`decisions` are ids of memories that are there.")

    def _length(self, lease: timedelta | None) -> timedelta:
        length = self._rules.lease if lease is None else lease
        if not timedelta(minutes=1) <= length <= MOST_LEASE:
            raise InvalidInput(f"a lease of {length} is not possible", hint="Allowed: 1 minute to 24 hours.")
        return length

    def _write(self, decide: Callable[[], AppendEvent]) -> WriteResult:
        with self._door:
            ticket = self._store.submit(decide())
            planned = _saved(ticket.saved)
        return self._store.result(planned, self._store.commit_of(ticket, self._store.commit_wait))

    def _submitted(self, request: AppendEvent) -> WriteResult:
        return self._write(lambda: request)

    def _published(self, decide: Callable[[], AppendEvent]) -> WriteResult:
        wait = self._rules.confirm_wait
        future = self._store.publish(decide, timeout=wait)
        try:
            return future.result(wait * 2)
        except FutureTimeout:
            if future.cancel():  # its turn had not come
                raise Unavailable(
                    f"other syncing has taken {wait * 2:g} s, and nothing was written", hint="Try again."
                ) from None
            raise Unavailable(
                f"the remote has not confirmed this after {wait * 2:g} s, and it may still do so",
                hint="`handoff_list` shows how it ended.",
            ) from None

    def _claimed(self, id: str, result: WriteResult, *notes: str) -> Written:
        done = self._after(id, result, *notes)
        check_counts(done.handoff, result.id)  # another may have come in while it was written
        return done

    def _after(self, id: str, result: WriteResult, *notes: str) -> Written:
        return Written(self.one(id), result, (*notes, *result.notes))


def _lapsed(handoff: Handoff) -> AlgError:
    return Unavailable(
        f"the lease of handoff {handoff.offer.id!r} ran out just now",
        hint="Try again: it is claimed anew if it is free.",
    )


def _saved(write: Future[_T]) -> _T:
    try:
        return write.result(_SAVE_SECONDS)
    except FutureTimeout:
        raise Unavailable(
            f"this was not written within {_SAVE_SECONDS:g} s, and may still be",
            hint="Look at the handoff before you try again.",
        ) from None


def first_line(text: str) -> str:
    """What a title can be made of a longer text: its first line, cut at a word."""
    line = " ".join(text.strip().splitlines()[0].split()) if text.strip() else ""
    if len(line) <= _LONGEST_TITLE:
        return line
    return line[: _LONGEST_TITLE - 1].rsplit(" ", 1)[0] + "…"
