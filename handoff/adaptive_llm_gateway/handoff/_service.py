"""Handoffs of one store: offered, claimed, reported on and ended; each claim is one hub's alone."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from adaptive_llm_gateway.core import (
    AlgError,
    InvalidInput,
    LockHeld,
    NotFound,
    NotHolder,
    RepoBusy,
    SyncError,
    Unavailable,
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
from adaptive_llm_gateway.handoff._patch import fence
from adaptive_llm_gateway.handoff._reading import Reading
from adaptive_llm_gateway.handoff._remote import HandoffRules, HeldAlready, Looked, Remote
from adaptive_llm_gateway.handoff._requests import NewOffer, event_request, first_line, offer_request
from adaptive_llm_gateway.handoff._values import MOST_LEASE, Event, EventKind, Handoff, Party
from adaptive_llm_gateway.memory import AppendEvent, WriteResult

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import MemoryStore, MemoryView, Planned, Record, Ticket

    _Saved = tuple[Planned, Ticket, tuple[str, ...]]

_T = TypeVar("_T")

Outcome = Literal["released", "declined", "withdrawn"]
_ENDING: Final[dict[Outcome, EventKind]] = {"released": "release", "declined": "decline", "withdrawn": "withdraw"}
# Failures after which the remote may have the write, or where others were quicker: no reason to go on without it.
_NOT_OUT_OF_REACH: Final = frozenset({"unknown", "not_merged", "non_fast_forward", "ref_race", "ref_locked"})
_SAVE_SECONDS: Final = 60.0


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


class _Unconfirmed(Unavailable):
    """A publication that goes on: the remote may still take it."""

    code = "unconfirmed"


class Handoffs:
    """The handoffs of a store; its methods may be called from any thread, and wait.

    Args:
        store: open.
        is_there: whether a process of a client is connected to this hub now.
        memory_of: the record of a memory's full id, where memories are in other stores too.
    """

    def __init__(
        self,
        store: MemoryStore,
        rules: HandoffRules | None = None,
        *,
        clock: LeaseClock | None = None,
        is_there: Callable[[Party], bool] = lambda _: False,
        memory_of: Callable[[str], Record | None] | None = None,
    ) -> None:
        self._store: MemoryStore | MemoryView = store
        self._view: MemoryView | None = None
        self._memory_of = memory_of or store.record
        self._rules = rules or HandoffRules()
        self._clock = clock or LeaseClock()
        self._is_there = is_there
        self._door = threading.RLock()  # what is looked at stays so until what follows from it is written
        self._reading = Reading(store, self._clock)
        self._remote = Remote(store, self._rules, self._clock, self._reading)

    def within(self, view: MemoryView, *, memory_of: Callable[[str], Record | None] | None = None) -> Handoffs:
        """The same for somebody who does not see everything: other handoffs are not there for what is done with this.

        Args:
            view: of the same store.
            memory_of: as it is seen, where memories are in other stores too.
        """
        seen = copy.copy(self)
        seen._store = seen._view = view
        seen._memory_of = memory_of or view.record
        seen._reading = self._reading.within(view)
        return seen

    # -- reading -----------------------------------------------------------------------------------------------

    def one(self, id: str) -> Handoff:
        """A handoff by its id, or the end of it, or the id of one of its events.

        Raises:
            NotFound, InvalidInput: there is none, or several.
            Unavailable: a file of it is not in the index yet, and this takes too long.
        """
        return self._reading.one(id)

    def every(self) -> list[Handoff]:
        """All handoffs, in no order; their patches are without text, which `patch_of` has."""
        return self._reading.every()

    def patch_of(self, handoff: Handoff) -> Event | None:
        """The event that carries the diff, where there is one: the last patch, unless that is empty."""
        return self._reading.patch_of(handoff)

    @property
    def store(self) -> MemoryStore | MemoryView:
        """Where they are kept, as far as it is seen."""
        return self._store

    @property
    def clock(self) -> LeaseClock:
        """What leases are judged by."""
        return self._clock

    def repo_of(self, handoff: Handoff) -> str | None:  # noqa: ARG002 - `SeveralHandoffs` tells
        """None: there is one memory repo."""
        return None

    def party_here(self, by: Party) -> Party:
        """A party as a client of this hub."""
        return self._me(by)

    # -- the remote --------------------------------------------------------------------------------------------

    @property
    def has_remote(self) -> bool:
        """Whether claims are confirmed by a push."""
        return self._remote.is_there

    def look(self) -> Looked | None:
        """Bring in what the remote has now; None where there is no remote."""
        looked = self._remote.look()
        if looked is None or self._view is None or looked.error is None:
            return looked
        return replace(looked, error="it could not be asked")

    def settle(self) -> int:
        """Have the remote confirm the provisional claims of this hub that still count; returns how many were.

        Those that do not count are told by `lost`.
        """
        return self._remote.settle()

    def lost(self, by: Party | None = None) -> list[str]:
        """Provisional claims that came to nothing, and why: those of a party, which is told with that; or of all
        parties that were not.
        """
        if by is None:
            return self._remote.losses.untold(self._clock.now(), seen=self._sees)
        me = self._me(by)
        return self._remote.losses.told(lambda party: same_holder(party, me, self._is_there), seen=self._sees)

    def _sees(self, id: str) -> bool:
        return self._view is None or self._view.record(id) is not None

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
        with self._door:
            saved = self._put_offer(new, by)
        return self._offered(*saved)

    def _put_offer(self, new: NewOffer, by: Party) -> _Saved:
        self._check_links(new.decisions)
        notes: tuple[str, ...] = ()
        if new.patch is not None and not new.redact:
            self._store.scanner.check(new.patch, where="the patch")
        ticket = self._store.submit(offer_request(self._titled(new), by))
        planned = _saved(ticket.saved)
        if new.patch is not None:
            # The offer is durable; without its patch it still says that files were changed.
            carried, notes = self._put_patch(planned.id, fence(new.patch), by, redact=new.redact)
            ticket = carried or ticket
        return planned, ticket, notes

    def _offered(self, planned: Planned, ticket: Ticket, notes: tuple[str, ...], *, replaced: bool = False) -> Written:
        result = self._store.result(planned, self._store.commit_of(ticket, self._store.commit_wait))
        return Written(self.one(planned.id), result, (*planned.notes, *notes), replaced=replaced)

    def _titled(self, new: NewOffer) -> NewOffer:
        """With the title that its objective gives it once it is without secrets: a title may be cut within one."""
        if new.title or not new.redact:
            return new
        return replace(new, title=first_line(self._store.scanner.redact(new.objective)[0]))

    def _put_patch(self, id: str, text: str, by: Party, *, redact: bool) -> tuple[Ticket | None, tuple[str, ...]]:
        """The write of a patch, and what there is to say of it: why there is none, when it failed."""
        try:
            ticket = self._store.submit(
                event_request(self.one(id), "patch", by, self._clock.now(), text=text, redact=redact)
            )
            return ticket, tuple(_saved(ticket.saved).notes)
        except AlgError as error:
            return None, (f"the patch could not be kept, and the handoff is without it: {error}",)

    def checkpoint(self, new: NewOffer, by: Party) -> Written:
        """Keep how a session stands, as an offer that the next checkpoint of the same session replaces: of what that
        one does not have, nothing stays but the level of trust.

        One that somebody may have claimed is not replaced: with a remote that cannot be asked, that is each one that
        others may have seen.
        """
        by, new = self._me(by), replace(new, checkpoint=True)
        if not new.objective.strip():
            raise InvalidInput("the objective is empty", hint="Say what is to be reached.")
        looked = self.look()
        away = looked is not None and looked.error is not None
        with self._door:
            found = self._last_checkpoint(new.session_id, by, among=self._remote.unseen if away else None)
            saved = self._put_offer(new, by) if found is None else self._put_over(found, new, by)
            if away and found is None:
                self._remote.unseen.add(saved[0].id)
        return self._offered(*saved, replaced=found is not None)

    def _put_over(self, found: Handoff, new: NewOffer, by: Party) -> _Saved:
        ticket = self._store.submit(offer_request(self._titled(new), by, over=found.offer.id))
        planned = _saved(ticket.saved)
        last = self.patch_of(found)
        patch = "" if new.patch is None else fence(new.patch)
        notes: tuple[str, ...] = ()
        if patch.strip() != (last.text.strip() if last is not None else ""):
            carried, notes = self._put_patch(planned.id, patch, by, redact=new.redact)
            if carried is None and last is not None:  # at least the one before does not pass for it
                carried, _ = self._put_patch(planned.id, "", by, redact=new.redact)
            ticket = carried or ticket
        return planned, ticket, notes

    def _last_checkpoint(self, session: str | None, by: Party, *, among: Collection[str] | None) -> Handoff | None:
        """The newest of a session that nobody has claimed, made by the same right; `among`: their ids, None: any."""
        if session is None:
            return None
        found = [
            handoff
            for handoff in self.every()
            if handoff.offer.checkpoint
            and handoff.offer.session_id == session
            and self._remote.is_ours(handoff.offer.by)
            and handoff.offer.by.client_id == by.client_id
            and handoff.state == "offered"
            and handoff.term == 0
            and (among is None or handoff.offer.id in among)
        ]
        return max(found, key=lambda handoff: (handoff.offer.created, handoff.offer.id), default=None)

    def claim(
        self,
        id: str | None,
        by: Party,
        *,
        project: str | None = None,
        lease: timedelta | None = None,
        provisional: bool = False,
        anyway: bool = False,
        chosen: Callable[[Handoff], None] = lambda _: None,
    ) -> Written:
        """Claim a handoff, or without an id the best open one for this client.

        Args:
            provisional: when the remote is out of reach, claim for now; the next sync settles it.
            anyway: also one that is for somebody else.
            chosen: told of the handoff before each attempt to write its claim, which may fail; must not wait.

        Raises:
            HandoffTaken: somebody holds it; who and since when is in the text.
            HandoffClosed: it is over, damaged or not for this client.
            NotFound: there is none.
            SyncError: the remote did not confirm it.
        """
        by, length = self._me(by), self._length(lease)
        if id is None:
            self.look()
            claim = partial(self.claim, by=by, lease=lease, provisional=provisional, chosen=chosen)
            return claim_best(self.every, claim, by, project, is_there=self._is_there)
        id = self._known(id)

        def decide() -> AppendEvent:
            handoff = self._reading.one(id, writing=True)
            if check_claim(handoff, by, is_there=self._is_there, anyway=anyway) == "again":
                raise HeldAlready("it is yours already")
            chosen(handoff)
            return self._claim_event(handoff, by, length, provisional=False)

        try:
            return self._claimed(id, self._published(decide) if self.has_remote else self._write(decide))
        except HeldAlready:
            return replace(self._progress(id, by, length), again=True)
        except SyncError as error:
            if error.details.get("kind") in _NOT_OUT_OF_REACH:
                raise
            if not provisional:
                error.hint = (
                    f"{error.hint or ''} The handoff is not claimed: only the remote can say that nobody else holds "
                    "it. To begin all the same, claim it provisionally; the next sync settles who holds it."
                ).strip()
                raise

            def decide_here() -> AppendEvent:
                handoff = self.one(id)
                check_claim(handoff, by, is_there=self._is_there, anyway=anyway)
                chosen(handoff)
                return self._claim_event(handoff, by, length, provisional=True)

            written = self._write(decide_here)
            self._remote.made(written.id)
            note = f"provisional: the remote could not be asked ({error.message}); the next sync settles who holds it"
            return self._claimed(id, written, note)

    def update(self, id: str, text: str, by: Party, *, lease: timedelta | None = None, redact: bool = False) -> Written:
        """Report progress, which renews the lease.

        Raises:
            NotHolder: somebody else holds it, or nobody.
        """
        by, length = self._me(by), self._length(lease)
        id = self._known(id)
        notes = self._hold(id, by, length)
        return self._progress(id, by, length, *notes, text=text, redact=redact)

    def _progress(
        self, id: str, by: Party, length: timedelta, *notes: str, text: str = "", redact: bool = False
    ) -> Written:
        def decide() -> AppendEvent:
            handoff = self.one(id)
            self._check(handoff, by)
            assert handoff.claim is not None  # noqa: S101 - its holder asks
            until = renewal(handoff.claim, self._clock.now(), length)
            return event_request(
                handoff,
                "progress",
                by,
                self._clock.now(),
                text=text,
                claim=handoff.claim.id,
                lease_until=until,
                redact=redact,
            )

        written = self._write(decide)
        if self.has_remote:
            self._remote.made(written.id)
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
        self,
        id: str,
        reason: str,
        by: Party,
        *,
        outcome: Outcome = "released",
        redact: bool = False,
        anyway: bool = False,
    ) -> Written:
        """Give a handoff back, refuse it, or take an offer back.

        Args:
            anyway: take back what another client offered; for people, whose every client it is.

        Raises:
            NotHolder: to give back or refuse: somebody else holds it. To take back: somebody holds it.
            HandoffClosed: it is over.
        """
        return self._end(id, _ENDING[outcome], reason, by, redact=redact, anyway=anyway)

    def _end(self, id: str, kind: EventKind, text: str, by: Party, *, redact: bool, anyway: bool = False) -> Written:
        by, id = self._me(by), self._known(id)
        notes: list[str] = []
        if kind in ("done", "release") or (kind == "decline" and self._was_holder(id, by)):
            notes = self._hold(id, by, self._rules.lease)

        def decide() -> AppendEvent:
            handoff = self._reading.one(id, writing=True)
            claim: str | None = None
            if kind == "withdraw":
                check_withdraw(handoff, by, anyway=anyway)
            elif kind == "decline" and not self._holds(handoff, by):
                check_decline(handoff, by)
            else:
                self._check(handoff, by)
                claim = handoff.claim.id if handoff.claim else None
            return event_request(
                handoff,
                kind,
                by,
                self._clock.now(),
                text=text,
                claim=claim,
                term=0 if claim else handoff.term,
                redact=redact,
            )

        if not self.has_remote:
            return self._after(id, self._write(decide), *notes)
        try:
            return self._after(id, self._published(decide), *notes)
        except (SyncError, LockHeld, RepoBusy, _Unconfirmed) as error:
            if error.details.get("kind") == "not_merged":  # the remote has it
                raise
            # Where the remote may have it all the same, the second of them comes too late and changes nothing.
            written = self._write(decide)
            self._remote.made(written.id)
            why = f"the remote has not confirmed this ({error.message})"
            note = f"{why}; it is written here and goes out with the next sync"
            return self._after(id, written, *notes, note)

    # -- parts of it -------------------------------------------------------------------------------------------

    def _me(self, by: Party) -> Party:
        return replace(by, hub=self._store.hub_name, host=self._store.host)

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
        """A holder whose lease ran out holds it again, if nobody else does; provisionally where the remote cannot say
        so.
        """
        handoff = self.one(id)
        hold: Hold = check_holds(handoff, by, is_there=self._is_there)
        if hold == "holds":
            return []
        claimed = self.claim(id, by, lease=length, anyway=True, provisional=True)
        return ["the lease had run out and nobody else held it: it was claimed again", *claimed.notes]

    def _claim_event(self, handoff: Handoff, by: Party, length: timedelta, *, provisional: bool) -> AppendEvent:
        until = self._clock.now() + length
        return event_request(
            handoff, "claim", by, self._clock.now(), term=handoff.term + 1, lease_until=until, provisional=provisional
        )

    def _check_links(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            if self._memory_of(id_) is None:
                raise NotFound(f"no memory {id_[:60]!r}", hint="`decisions` are ids of memories that are there.")

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

    def _published(self, decide: Callable[[], AppendEvent]) -> WriteResult:
        wait = self._rules.confirm_wait
        future = self._store.publish(decide, timeout=wait)
        try:
            done = future.result(wait * 2)
            return done if self._view is None else self._view.told(done)
        except SyncError as error:
            if self._view is None:
                raise
            raise self._view.why(error) from None
        except FutureTimeout:
            if future.cancel():  # its turn had not come
                raise SyncError(
                    f"other syncing has taken {wait * 2:g} s, and nothing was sent",
                    hint="Try again.",
                    kind="timeout",
                ) from None
            raise _Unconfirmed(
                f"the remote has not confirmed this after {wait * 2:g} s, and it may still do so",
                hint="`handoff_list` shows how it ended.",
            ) from None

    def _claimed(self, id: str, result: WriteResult, *notes: str) -> Written:
        done = self._after(id, result, *notes)
        check_counts(done.handoff, result.id)  # another may have come in while it was written
        return done

    def _after(self, id: str, result: WriteResult, *notes: str) -> Written:
        return Written(self.one(id), result, (*notes, *result.notes))


def claim_best(
    every: Callable[[], list[Handoff]],
    claim: Callable[[str], Written],
    by: Party,
    project: str | None,
    *,
    is_there: Callable[[Party], bool],
) -> Written:
    """Claim the best open handoff for a party; the next best one when somebody was quicker.

    Raises:
        NotFound: there is none.
    """
    tried: set[str] = set()
    while True:
        open_ones = [handoff for handoff in every() if handoff.offer.id not in tried]
        best = best_for(open_ones, by, project, is_there=is_there)
        if best is None:
            where = f" of project {project!r}" if project else ""
            raise NotFound(f"no handoff{where} is open for {by.client!r}", hint="A list of them shows those of others.")
        tried.add(best.offer.id)
        try:
            return claim(best.offer.id)
        except AlgError as error:
            if error.code not in ("handoff_taken", "not_found", "handoff_closed"):
                raise  # otherwise somebody was quicker; there may be another one


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
