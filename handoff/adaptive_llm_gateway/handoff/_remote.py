"""What the remote has of handoffs: brought in when it is asked for, and provisional claims settled with it."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import AlgError, InvalidInput, Unavailable
from adaptive_llm_gateway.handoff._clock import LeaseClock
from adaptive_llm_gateway.handoff._losses import Losses
from adaptive_llm_gateway.handoff._reading import Reading
from adaptive_llm_gateway.handoff._requests import event_request
from adaptive_llm_gateway.handoff._values import Claim, Party
from adaptive_llm_gateway.memory import AppendEvent

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import MemoryStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HandoffRules:
    """What a hub's handoffs go by.

    Attributes:
        lease: how long a claim holds without a word of its holder; at most 24 hours.
        remote_wait: seconds that listing waits for what the remote has.
        look_again: seconds for which a remote that did not answer is not asked again, unless something else reached it.
        confirm_wait: seconds that a claim, or an end, waits for the remote to take it.
    """

    lease: timedelta = timedelta(hours=1)
    remote_wait: float = 5.0
    look_again: float = 15.0
    confirm_wait: float = 30.0


@dataclass(frozen=True, slots=True)
class Looked:
    """When the remote was last asked for what it has, and why that failed."""

    at: datetime | None
    error: str | None


class HeldAlready(AlgError):
    """Ends a publication of a claim that its holder has already."""

    code = "held_already"


class Remote:
    """The remote of a store, as its handoffs need it. Its methods may be called from any thread.

    Attributes:
        losses: what this hub wrote before the remote said so, and that came to nothing.
        unseen: ids of checkpoints that were made since the remote was reached last: nobody else can have them.
    """

    def __init__(self, store: MemoryStore, rules: HandoffRules, clock: LeaseClock, reading: Reading) -> None:
        self._store, self._rules, self._clock, self._reading = store, rules, clock, reading
        self._looking = threading.Lock()
        self._looked: tuple[float, Looked] | None = None  # and when that began, or failed
        self._settling = threading.Lock()
        self._unsettled = True  # whether something may be there that waits for the remote
        self.losses = Losses()
        self.unseen: set[str] = set()
        store.on_synced(self._synced)

    def is_ours(self, by: Party) -> bool:
        """Whether it is a client of this hub."""
        return (by.hub, by.host) == (self._store.hub_name, self._store.host)

    def made(self, event: str) -> None:
        """A provisional claim, a report or an end was written: the next sync shows whether it counts."""
        self.losses.made(event)
        self._unsettled = True

    @property
    def is_there(self) -> bool:
        """Whether claims are confirmed by a push."""
        return self._store.sync_status().state != "no_remote"

    def look(self) -> Looked | None:
        """Bring in what the remote has now; None where there is no remote.

        Whoever waited for another's look that began after it was called takes that one's.
        """
        if not self.is_there:
            return None
        asked = time.monotonic()
        with self._looking:
            begun = time.monotonic()
            if self._looked is not None:
                when, looked = self._looked
                if when >= asked or (looked.error and begun - when < self._rules.look_again):
                    return looked
            error: str | None = None
            pull = self._store.pull()
            try:
                pull.result(self._rules.remote_wait)
            except FutureTimeout:
                pull.cancel()  # claims wait for what waits
                error = f"the remote did not answer within {self._rules.remote_wait:g} s"
            except AlgError as failed:
                error = str(failed)
            except Exception as failed:  # noqa: BLE001 - what is here is shown all the same
                _log.exception("the remote could not be asked")
                error = f"{type(failed).__name__}: {failed}"
            before = self._looked[1].at if self._looked is not None else None
            looked = Looked(before if error else datetime.now(UTC), error)
            self._looked = (time.monotonic() if error else begun, looked)
            return looked

    def _synced(self) -> None:
        """After a pull or push: provisional claims are settled, in a thread of their own."""
        self.unseen.clear()
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
            for handoff in self._reading.every():
                self.losses.look(handoff, self.is_ours, self._clock.now())
                claim = handoff.claim
                if claim is None or not claim.provisional or not self.is_ours(claim.by):
                    continue
                try:
                    self._confirm(handoff.offer.id, claim)
                    confirmed += 1
                except AlgError as error:
                    again = True
                    _log.info("the provisional claim of handoff %s is not confirmed: %s", handoff.offer.id, error)
            failed = again or self._store.sync_status().state != "pushed"
        except AlgError as error:  # the store is closing
            _log.info("provisional claims were not looked at: %s", error)
        finally:
            if failed:
                self._unsettled = True
            self._settling.release()
        return confirmed

    def _confirm(self, id: str, claim: Claim) -> None:
        def decide() -> AppendEvent:
            now = self._reading.one(id, writing=True)
            if now.claim is None or now.claim.id != claim.id:
                raise InvalidInput("somebody else's claim was there first")
            if not now.claim.provisional:
                raise HeldAlready("it is confirmed already")
            return event_request(now, "confirm", claim.by, self._clock.now(), claim=claim.id)

        future = self._store.publish(decide, timeout=self._rules.confirm_wait)
        try:
            future.result(self._rules.confirm_wait)
        except FutureTimeout:
            future.cancel()
            raise Unavailable("the remote did not answer in time") from None
