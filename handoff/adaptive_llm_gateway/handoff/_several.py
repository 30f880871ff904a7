"""Handoffs of several memory repos as those of one: offered in the repo of their project, claimed where they are."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import NotFound, Unavailable
from adaptive_llm_gateway.handoff._clock import LeaseClock
from adaptive_llm_gateway.handoff._remote import HandoffRules, Looked
from adaptive_llm_gateway.handoff._requests import NewOffer
from adaptive_llm_gateway.handoff._service import Handoffs, Outcome, Written, claim_best
from adaptive_llm_gateway.handoff._values import Event, Handoff, Party
from adaptive_llm_gateway.memory import MemoryStore

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import MemoryStores, MemoryView, MemoryViews


class SeveralHandoffs:
    """The handoffs of several stores; its methods are those of `Handoffs`, and say the same.

    Args:
        stores: open.
        is_there: whether a process of a client is connected to this hub now.
    """

    def __init__(
        self,
        stores: MemoryStores,
        rules: HandoffRules | None = None,
        *,
        clock: LeaseClock | None = None,
        is_there: Callable[[Party], bool] = lambda _: False,
    ) -> None:
        self._whole = stores
        self._stores: MemoryStores | MemoryViews = stores
        self._rules = rules
        self._clock = clock or LeaseClock()
        self._is_there = is_there
        self._door = threading.Lock()
        self._made: dict[str, Handoffs] = {}

    def within(self, views: MemoryViews) -> SeveralHandoffs:
        """The same for somebody who does not see everything; see `Handoffs.within`."""
        seen = copy.copy(self)
        seen._stores = views
        return seen

    @property
    def store(self) -> MemoryStores | MemoryViews:
        """Where they are kept, as far as it is seen."""
        return self._stores

    @property
    def clock(self) -> LeaseClock:
        """What leases are judged by."""
        return self._clock

    # -- which repo --------------------------------------------------------------------------------------------

    def _services(self) -> dict[str, Handoffs]:
        return {name: self._service(name, store) for name, store in self._stores.stores.items()}

    def _service(self, name: str, store: MemoryStore | MemoryView) -> Handoffs:
        whole = store if isinstance(store, MemoryStore) else store.whole
        with self._door:
            made = self._made.get(name)
            if made is None or made.store is not whole:
                made = Handoffs(
                    whole, self._rules, clock=self._clock, is_there=self._is_there, memory_of=self._whole.record
                )
                self._made[name] = made
        return made if isinstance(store, MemoryStore) else made.within(store, memory_of=self._stores.record)

    def _holding(self, id: str, *, look: bool = False) -> tuple[Handoffs, str]:
        """The service of the repo that has it, and its full id.

        Args:
            look: one that is not here may be at a remote.
        """
        try:
            name, store, identifier = self._stores.locate(id)
        except (NotFound, Unavailable):
            if not look or self.look() is None:
                raise
            name, store, identifier = self._stores.locate(id)
        return self._service(name, store), identifier

    def _offering(self, project: str | None) -> Handoffs:
        name = self._stores.repo_of(project)
        return self._service(name, self._stores.store_of(project))

    def repo_of(self, handoff: Handoff) -> str | None:
        """The name of the repo that has it."""
        return next((name for name, store in self._stores.stores.items() if store.record(handoff.offer.id)), None)

    # -- reading -----------------------------------------------------------------------------------------------

    def one(self, id: str) -> Handoff:
        """A handoff by its id, or the end of it, or the id of one of its events."""
        service, identifier = self._holding(id)
        return service.one(identifier)

    def every(self) -> list[Handoff]:
        """All handoffs, in no order."""
        return [handoff for service in self._services().values() for handoff in service.every()]

    def patch_of(self, handoff: Handoff) -> Event | None:
        """The event that carries the diff, where there is one."""
        service, _ = self._holding(handoff.offer.id)
        return service.patch_of(handoff)

    # -- the remotes -------------------------------------------------------------------------------------------

    def look(self) -> Looked | None:
        """Bring in what the remotes have now; None where there is none."""
        remotes = {name: service for name, service in self._services().items() if service.has_remote}
        errors = [f"{name}: {error}" for name, error in self._stores.absent.items()]
        if not remotes:
            return Looked(None, "; ".join(errors)) if errors else None
        with ThreadPoolExecutor(len(remotes), thread_name_prefix="handoff-look") as threads:
            found = dict(zip(remotes, threads.map(Handoffs.look, remotes.values()), strict=True))
        looked = {name: each for name, each in found.items() if each is not None}
        errors += [f"{name}: {each.error}" for name, each in looked.items() if each.error]
        # No better than the one that was asked longest ago.
        moments = [each.at for each in looked.values()]
        at = min((moment for moment in moments if moment is not None), default=None)
        return Looked(None if None in moments else at, "; ".join(errors) or None)

    def settle(self) -> int:
        """Have the remotes confirm the provisional claims of this hub that still count; returns how many were."""
        return sum(service.settle() for service in self._services().values())

    def lost(self, by: Party | None = None) -> list[str]:
        """Provisional claims that came to nothing, and why."""
        return [text for service in self._services().values() for text in service.lost(by)]

    # -- writing -----------------------------------------------------------------------------------------------

    def create(self, new: NewOffer, by: Party) -> Written:
        """Offer work, in the repo of its project."""
        return self._offering(new.project).create(new, by)

    def checkpoint(self, new: NewOffer, by: Party) -> Written:
        """Keep how a session stands, in the repo of its project."""
        return self._offering(new.project).checkpoint(new, by)

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
        """Claim a handoff, or without an id the best open one of all repos for this client."""
        if id is not None:
            service, identifier = self._holding(id, look=True)
            return service.claim(identifier, by, lease=lease, provisional=provisional, anyway=anyway, chosen=chosen)
        self.look()
        me = next(iter(self._services().values())).party_here(by)
        claim = partial(self.claim, by=by, lease=lease, provisional=provisional, chosen=chosen)
        return claim_best(self.every, claim, me, project, is_there=self._is_there)

    def update(self, id: str, text: str, by: Party, *, lease: timedelta | None = None, redact: bool = False) -> Written:
        """Report progress, which renews the lease."""
        service, identifier = self._holding(id, look=True)
        return service.update(identifier, text, by, lease=lease, redact=redact)

    def still_held(self, id: str, by: Party, report: str) -> Handoff:
        """A handoff as it stands after `by` wrote an event of this id."""
        service, identifier = self._holding(id)
        return service.still_held(identifier, by, report)

    def complete(self, id: str, result: str, by: Party, *, redact: bool = False) -> Written:
        """Finish."""
        service, identifier = self._holding(id, look=True)
        return service.complete(identifier, result, by, redact=redact)

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
        """Give a handoff back, refuse it, or take an offer back."""
        service, identifier = self._holding(id, look=True)
        return service.release(identifier, reason, by, outcome=outcome, redact=redact, anyway=anyway)
