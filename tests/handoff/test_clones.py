"""Three hubs on clones of one remote: claims by compare-and-swap, provisional ones, crashes, clocks that are set.

Git is left out, for what matters of it is little: a clone's files are a set that only grows, a fetch joins the remote's
to it, and a push is taken only when the remote has nothing that the clone did not have.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from handoff_made import NOON, Story
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from adaptive_llm_gateway.core import AlgError, new_ulid
from adaptive_llm_gateway.handoff import (
    EVENT_KINDS,
    Claim,
    Event,
    EventKind,
    Handoff,
    LeaseClock,
    Offer,
    Party,
    check_claim,
    check_decline,
    check_holds,
    check_withdraw,
    fold,
    renewal,
)

SELDOM = st.integers(0, 9).map(lambda number: number == 7)  # what ends a handoff for good leaves little to try
CLONES = st.integers(0, 2)
LENGTHS = st.sampled_from([5, 60, 24 * 60]).map(lambda minutes: timedelta(minutes=minutes))


def never(_: Claim) -> bool:
    return False


@dataclass
class World:
    """The time as it is, in seconds, and what the remote has."""

    offer: Offer
    seconds: float = 0.0
    remote: dict[str, Event] = field(default_factory=dict[str, Event])
    ends: dict[str, float] = field(default_factory=dict[str, float])
    """When a lease really ends, by the claim or progress that says so."""


class Clone:
    """One hub, its clock, and the one client that is connected to it."""

    def __init__(self, world: World, number: int, skew: float) -> None:
        self.world, self.skew, self.jump = world, skew, 0.0
        self.name = f"hub-{number}"
        self.process = 0
        self.known: dict[str, Event] = {}
        self.prepared: tuple[Event, dict[str, Event], set[str]] | None = None
        self.start()

    def start(self) -> None:
        self.clock = LeaseClock(
            wall=lambda: NOON.timestamp() + self.world.seconds + self.skew + self.jump,
            steady=lambda: self.world.seconds,
        )

    @property
    def party(self) -> Party:
        return Party("codex", None, self.name, self.name, str(self.process))

    def is_there(self, party: Party) -> bool:
        return party == self.party

    def told(self) -> Handoff:
        return fold(self.world.offer, self.known.values(), now=self.clock.now(), lease_over=self.clock.is_over)

    def fetch(self) -> None:
        self.known |= self.world.remote

    def event(self, kind: EventKind, told: Handoff, **given: Any) -> Event:
        id = new_ulid()
        path = f"handoffs/2026/11/{self.world.offer.id[-8:].lower()}/{told.step + 1:04d}-{kind}-{id[-8:].lower()}.md"
        now = self.clock.now()
        return Event(id, self.world.offer.id, kind, told.step + 1, now, self.party, path, "", **given)

    def claim(self, told: Handoff, length: timedelta, *, provisional: bool) -> Event:
        until = self.clock.now() + length
        event = self.event("claim", told, term=told.term + 1, lease_until=until, provisional=provisional)
        self.world.ends[event.id] = self.world.seconds + length.total_seconds()
        return event

    def may_claim(self, told: Handoff) -> bool:
        try:
            return check_claim(told, self.party, is_there=self.is_there) == "new"
        except AlgError:
            return False

    def holds(self, told: Handoff) -> Claim | None:
        try:
            return told.claim if check_holds(told, self.party, is_there=self.is_there) == "holds" else None
        except AlgError:
            return None

    def prepare(self, event: Event) -> None:
        """A commit on top of what is here, that waits to be pushed."""
        self.prepared = (event, dict(self.known), set(self.world.remote))


class Clones(RuleBasedStateMachine):
    """What hubs do in any order; their clocks are up to the tolerance apart, and further where they are set."""

    @initialize(skews=st.tuples(*[st.floats(-60, 60)] * 3), to=st.sampled_from([None, "codex"]))
    def begin(self, skews: Sequence[float], to: str | None) -> None:
        self.world = World(Story(to=to, by=Party("codex", None, "hub-0", "hub-0", "0")).offer)
        self.clones = [Clone(self.world, number, skew) for number, skew in enumerate(skews)]

    @rule(minutes=st.sampled_from([0.5, 4, 30, 70, 1500]))
    def time_goes_by(self, minutes: float) -> None:
        self.world.seconds += minutes * 60

    @rule(clone=CLONES, minutes=st.sampled_from([-3000, -70, -10, 0, 10, 70, 3000]))
    def a_clock_is_set(self, clone: int, minutes: float) -> None:
        self.clones[clone].jump = minutes * 60

    @rule(clone=CLONES)
    def a_hub_starts_anew_with_its_clock_right(self, clone: int) -> None:
        self.clones[clone].jump = 0
        self.clones[clone].start()

    @rule(clone=CLONES)
    def a_client_crashes_and_starts_anew(self, clone: int) -> None:
        self.clones[clone].process += 1

    @rule(clone=CLONES)
    def pull(self, clone: int) -> None:
        self.clones[clone].fetch()

    @rule(clone=CLONES)
    def sync(self, clone: int) -> None:
        self.clones[clone].fetch()
        self.world.remote |= self.clones[clone].known

    @rule(clone=CLONES, length=LENGTHS)
    def claim(self, clone: int, length: timedelta) -> None:
        self.begin_to_claim(clone, length)
        self.push_what_was_begun(clone)

    @rule(clone=CLONES, length=LENGTHS)
    def begin_to_claim(self, clone: int, length: timedelta) -> None:
        hub = self.clones[clone]
        hub.fetch()
        told = hub.told()
        # A hub whose clock was set far back would say of its own lease that it is over.
        if hub.jump >= 0 and hub.may_claim(told):
            hub.prepare(hub.claim(told, length, provisional=False))

    @rule(clone=CLONES)
    def begin_to_confirm(self, clone: int) -> None:
        hub = self.clones[clone]
        hub.fetch()
        told = hub.told()
        if told.claim is not None and told.claim.provisional and told.claim.by.hub == hub.name:
            hub.prepare(hub.event("confirm", told, claim=told.claim.id))

    @rule(clone=CLONES)
    def push_what_was_begun(self, clone: int) -> None:
        hub = self.clones[clone]
        if hub.prepared is None:
            return
        (event, known, remote), hub.prepared = hub.prepared, None
        if remote != set(self.world.remote):
            return
        if event.kind == "claim":
            before = fold(self.world.offer, self.world.remote.values(), now=NOON, lease_over=never)
            if before.holder is not None and before.claim is not None and before.holder.hub != hub.name:
                id = before.claim.id
                told = [each.id for each in self.world.remote.values() if id in (each.id, each.claim)]
                assert all(self.world.ends.get(each, 0) < self.world.seconds for each in told), "it ran still"
        self.world.remote |= known | {event.id: event}
        hub.known |= {event.id: event}

    @rule(clone=CLONES, length=LENGTHS)
    def claim_without_the_remote(self, clone: int, length: timedelta) -> None:
        hub = self.clones[clone]
        told = hub.told()
        if hub.jump >= 0 and hub.may_claim(told):
            event = hub.claim(told, length, provisional=True)
            hub.known[event.id] = event

    @rule(clone=CLONES, length=LENGTHS)
    def report(self, clone: int, length: timedelta) -> None:
        hub = self.clones[clone]
        told = hub.told()
        if (claim := hub.holds(told)) is not None:
            until = renewal(claim, hub.clock.now(), length)
            event = hub.event("progress", told, claim=claim.id, lease_until=until)
            hub.known[event.id] = event
            if hub.jump >= 0:  # otherwise it says less than its writer means
                self.world.ends[event.id] = self.world.seconds + length.total_seconds()

    @rule(clone=CLONES, kind=st.sampled_from(["release", "release", "decline", "patch", "done"]))
    def end(self, clone: int, kind: EventKind) -> None:
        hub = self.clones[clone]
        told = hub.told()
        if (claim := hub.holds(told)) is not None:
            event = hub.event(kind, told, claim=claim.id)
            hub.known[event.id] = event

    @rule(clone=CLONES, really=SELDOM)
    def refuse_without_a_claim(self, clone: int, really: bool) -> None:
        hub = self.clones[clone]
        if not really:
            return
        told = hub.told()
        try:
            check_decline(told, hub.party)
        except AlgError:
            return
        event = hub.event("decline", told, term=told.term)
        hub.known[event.id] = event

    @rule(clone=CLONES, really=SELDOM)
    def take_back(self, clone: int, really: bool) -> None:
        hub = self.clones[clone]
        if not really:
            return
        told = hub.told()
        try:
            check_withdraw(told, hub.party)
        except AlgError:
            return
        event = hub.event("withdraw", told, term=told.term)
        hub.known[event.id] = event

    # -- what holds at every moment ----------------------------------------------------------------------------

    @invariant()
    def what_was_promised_holds(self) -> None:
        told = [hub.told() for hub in self.clones]
        for hub, handoff in zip(self.clones, told, strict=True):
            assert not handoff.damage  # what hubs write is none
            self.every_order_folds_to_the_same(hub)
            self.confirmed_claims_count_for_good(hub, handoff)
            # Who lost is told to whom, or why.
            assert all((step.note is None) == (step.standing == "counts") for step in handoff.steps)
        for one, first in zip(self.clones, told, strict=True):
            for other, second in zip(self.clones, told, strict=True):
                if one is not other and one.known.keys() == other.known.keys() and first.holder is not None:
                    assert second.holder in (first.holder, None)
                    assert None in (one.holds(first), other.holds(second)), "two hold it"

    def every_order_folds_to_the_same(self, hub: Clone) -> None:
        events = list(hub.known.values())
        told = fold(self.world.offer, events, now=NOON, lease_over=never)
        for order in (events[::-1], sorted(events, key=lambda each: each.id[::-1])):
            assert fold(self.world.offer, order, now=NOON, lease_over=never) == told

    def confirmed_claims_count_for_good(self, hub: Clone, told: Handoff) -> None:
        """And no term has two claims that count."""
        confirmed = {each.claim for each in hub.known.values() if each.kind == "confirm"}
        counting: dict[int, Event] = {}
        sure: dict[int, Event] = {}
        for event, standing in ((step.event, step.standing) for step in told.steps if step.event.kind == "claim"):
            if not event.provisional or event.id in confirmed:
                assert event.term not in sure
                sure[event.term] = event
            if standing == "counts":
                assert event.term not in counting
                counting[event.term] = event
        assert all(counting[term] is event for term, event in sure.items())

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for hub in self.clones * 2:
            hub.jump = 0
            hub.fetch()
            self.world.remote |= hub.known
        folds = [fold(self.world.offer, hub.known.values(), now=NOON, lease_over=never) for hub in self.clones]
        assert folds[0] == folds[1] == folds[2]
        for _ in range(2):  # a hub that has seen a lease for as long as leases are, and nothing new, gives it up
            states = [hub.told().state for hub in self.clones]
            self.world.seconds += 25 * 3600
        states = [hub.told().state for hub in self.clones]
        assert "claimed" not in states
        assert len(set(states)) == 1


def test_hubs_that_race_crash_and_are_cut_off_never_hold_a_handoff_together() -> None:
    run_state_machine_as_test(
        Clones,
        settings=settings(
            max_examples=100, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


# --- any set of events at all -------------------------------------------------------------------------------------


@st.composite
def any_events(draw: st.DrawFn) -> tuple[Story, list[Event]]:
    """Events as nobody's rules allow them, of few terms, steps and times, so that they meet."""
    story = Story(to=draw(st.sampled_from([None, "codex"])))
    claims: list[str] = []
    for _ in range(draw(st.integers(0, 9))):
        kind: EventKind = draw(st.sampled_from(["claim", "claim", *EVENT_KINDS]))
        by = Party(draw(st.sampled_from(["codex", "gemini"])), hub=draw(st.sampled_from(["a", "b"])))
        minute, step = draw(st.integers(0, 6)), draw(st.integers(1, 4))
        fields: dict[str, Any] = {"step": step}
        if kind == "claim":
            fields |= {"term": draw(st.integers(1, 3)), "lease": 2, "provisional": draw(st.booleans())}
        elif kind == "withdraw" or (kind == "decline" and draw(st.booleans())) or not claims:
            kind = kind if kind in ("withdraw", "decline") else "withdraw"
            fields |= {"term": draw(st.integers(0, 3))}
        else:
            fields |= {"claim": draw(st.sampled_from(claims)), "lease": 3 if kind == "progress" else None}
        event = story.write(kind, by, minute, **fields)
        if kind == "claim":
            claims.append(event.id)
    return story, story.events


@given(any_events(), st.randoms(use_true_random=False))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_set_of_events_folds_to_the_same_in_every_order(
    made: tuple[Story, list[Event]], shuffler: random.Random
) -> None:
    story, events = made
    told = story.told(4)
    mixed = [*events, *events]
    shuffler.shuffle(mixed)
    assert story.told(4, events=mixed) == told
    assert bool(told.damage) == (told.state == "damaged")
    assert (told.holder is not None) == (told.state == "claimed")
    assert (told.ended is not None) == (told.state in ("done", "declined", "withdrawn"))
    terms = [step.event.term for step in told.steps if step.event.kind == "claim" and step.standing == "counts"]
    assert len(set(terms)) == len(terms)
    assert len(told.steps) + len({each.path for each in told.damage}) >= len(events)


@given(any_events(), st.randoms(use_true_random=False))
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_added_never_takes_a_confirmed_claims_place_unless_it_is_damage(
    made: tuple[Story, list[Event]], shuffler: random.Random
) -> None:
    story, events = made
    part = [event for event in events if shuffler.random() < 0.6]
    confirmed = {each.claim for each in part if each.kind == "confirm"}
    before, after = story.told(4, events=part), story.told(4)
    if before.damage or after.damage:
        return
    counting = {step.event.id for step in after.steps if step.standing == "counts"}
    for step in before.steps:
        event = step.event
        if event.kind == "claim" and step.standing == "counts" and (not event.provisional or event.id in confirmed):
            first = min(
                (each for each in events if each.kind == "claim" and each.term == event.term and each.by == event.by),
                key=lambda each: (each.time, each.id),
            )
            assert event.id in counting or first.id in counting
