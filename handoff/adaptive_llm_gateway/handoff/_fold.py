"""Where a handoff stands: a pure function of its files and of the time, whatever order they came in.

The rules are those of docs/handoff-protocol.md; the numbers in comments are its.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from adaptive_llm_gateway.handoff._events import closes_without_claim, name_beside, party_name, problem_of, show_time
from adaptive_llm_gateway.handoff._values import (
    Claim,
    Damage,
    Event,
    EventKind,
    Handoff,
    Offer,
    Party,
    Standing,
    State,
    Step,
)

_ENDINGS: Final[frozenset[EventKind]] = frozenset({"done", "release", "decline"})
_CLOSED: Final[dict[EventKind, State]] = {"done": "done", "decline": "declined", "withdraw": "withdrawn"}
_DID: Final[dict[EventKind, str]] = {
    "done": "finished it",
    "release": "gave it back",
    "decline": "declined it",
    "withdraw": "withdrew it",
}
_AFTER_A_NAME: Final = "-_./ "
Key = tuple[int, datetime, str]
Marks = dict[str, tuple[Standing, str | None]]


def fold(
    offer: Offer,
    events: Iterable[Event],
    damage: Iterable[Damage] = (),
    *,
    now: datetime,
    lease_over: Callable[[Claim], bool],
) -> Handoff:
    """What a handoff's files come to.

    Args:
        events: in any order; the same one twice counts once.
        damage: its files that could not be read.
        now: timezone-aware; what `expires` is held against.
        lease_over: whether a claim's lease has run out by this hub's clock.

    Returns:
        The same for every order of the events. `damaged` handoffs have no holder, no claim and no end.
    """
    problems = list(damage)
    good = _sorted_out(offer, events, problems)
    marks: Marks = {}
    tenures = _tenures(offer, good, marks, problems)
    for tenure, successor in pairwise(tenures):
        _mark_past(tenure, successor.claim, offer, marks)
    current = tenures[-1] if tenures else None
    ended: Event | None = None
    held = False
    if current is not None:
        _mark_current(current, marks)
        ended = current.end if current.is_closed else None
        held = current.end is None and not lease_over(current.as_claim())
    ended = _closed(good, current, ended, offer, marks, held=held)
    declined = [each for each in good if each.kind == "decline" and marks[each.id][0] == "counts"]
    state: State
    if problems:
        state = "damaged"
    elif ended is not None:
        state = _CLOSED[ended.kind]
    elif held:
        state = "claimed"
    else:
        state = "expired" if offer.expires is not None and now >= offer.expires else "offered"
    claim = None
    if not problems and current is not None and (current.end is None or current.is_closed):
        claim = current.as_claim()
    return Handoff(
        offer=offer,
        state=state,
        claim=claim,
        holder=claim.by if claim is not None and state == "claimed" else None,
        term=max((each.term for each in good), default=0),
        step=max((each.step for each in good), default=0),
        ended=None if problems else ended,
        steps=tuple(Step(each, *marks[each.id]) for each in good),
        declined_by=tuple(dict.fromkeys(each.by for each in declined)),
        damage=tuple(sorted(set(problems), key=lambda each: (each.path, each.problem, each.handoff or ""))),
    )


def is_for(offer: Offer, party: Party) -> bool:
    """Whether the offer names this client or agent, whatever the case: `codex` also names `codex-mcp-client`.

    A program with a token is whoever the token says. What it calls itself counts where that token offered the work:
    it tells programs apart that share one, and makes none of them somebody else.
    """
    if offer.to is None:
        return False
    to = offer.to.casefold()
    names = [party.client.casefold()]
    if party.agent is not None and party.client_id in (None, offer.by.client_id):
        names.append(party.agent.casefold())
    return any(name == to or (name.startswith(to) and name[len(to)] in _AFTER_A_NAME) for name in names)


def who_did(end: Event) -> str:
    """Of an event that ended something: who did it, and when."""
    return f"{party_name(end.by)} {_DID[end.kind]} at {show_time(end.time)}"


def _key(event: Event) -> Key:
    return (event.step, event.time, event.id)


def _by_time(event: Event) -> tuple[datetime, str]:
    return (event.time, event.id)


def _closes(event: Event, offer: Offer) -> bool:
    """Whether the handoff is over with it, once it counts."""
    return event.kind in ("done", "withdraw") or (event.kind == "decline" and is_for(offer, event.by))


# --- 1: what counts for nothing -----------------------------------------------------------------------------------


def _sorted_out(offer: Offer, events: Iterable[Event], problems: list[Damage]) -> list[Event]:
    """The events that can be, in order; what is wrong with the others goes to `problems`."""

    def wrong(event: Event, problem: str) -> None:
        problems.append(Damage(event.path, problem, offer.id))

    by_id: dict[str, list[Event]] = {}
    for event in dict.fromkeys(events):
        by_id.setdefault(event.id, []).append(event)
    good: list[Event] = []
    for id, twins in by_id.items():
        if len(twins) > 1 or id == offer.id:
            for event in twins:
                wrong(event, f"more than one file has the id {id!r}")
        elif twins[0].handoff != offer.id:
            wrong(twins[0], f"it names the handoff {twins[0].handoff!r} and lies among the events of {offer.id!r}")
        elif problem := problem_of(twins[0]):
            wrong(twins[0], problem)
        else:
            good.append(twins[0])
    claims = {each.id for each in good if each.kind == "claim"}
    terms = {each.term for each in good if each.kind == "claim"} | {0}
    whole: list[Event] = []
    for event in good:
        if event.kind not in ("claim", "withdraw") and event.claim is not None and event.claim not in claims:
            wrong(event, f"its claim {event.claim!r} is not there")
        elif closes_without_claim(event) and event.term not in terms:
            wrong(event, f"it names term {event.term}, and there is no claim of that term")
        else:
            whole.append(event)
            if event.kind == "claim" and event.term - 1 not in terms:
                wrong(event, f"it is of term {event.term}, and there is no claim of term {event.term - 1}")
    return sorted(whole, key=_key)


# --- 2: which claims count ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tenure:
    """A claim that counts and what was written for it; `end` is what its holder ended it with."""

    claim: Event
    own: tuple[Event, ...]
    end: Event | None
    is_closed: bool
    by: Party
    lease_until: datetime
    renewed: datetime
    provisional: bool

    def as_claim(self) -> Claim:
        claim = self.claim
        return Claim(claim.id, claim.term, claim.time, self.by, self.lease_until, self.renewed, self.provisional)


def _tenure(claim: Event, own: Sequence[Event], offer: Offer, *, provisional: bool) -> _Tenure:
    assert claim.lease_until is not None  # noqa: S101 - a claim without is damaged
    by, until, renewed = claim.by, claim.lease_until, claim.time
    end: Event | None = None
    for event in own:
        if event.kind in _ENDINGS:
            end = event
            break
        if event.kind == "progress":
            if replace(event.by, instance=by.instance) == by:
                by = event.by  # a client that was started anew goes on with its claim
            if event.lease_until is not None and event.lease_until > until:
                until, renewed = event.lease_until, event.time
    closed = end is not None and _closes(end, offer)
    return _Tenure(claim, tuple(own), end, closed, by, until, renewed, provisional)


def _tenures(offer: Offer, events: Sequence[Event], marks: Marks, problems: list[Damage]) -> list[_Tenure]:
    """The claims that count, by ascending term; the others and their events are marked void."""
    terms: dict[int, list[Event]] = {}
    own: dict[str, list[Event]] = {}
    confirmed: set[str] = set()
    for event in events:
        if event.kind == "claim":
            terms.setdefault(event.term, []).append(event)
            if not event.provisional:
                confirmed.add(event.id)
        elif event.kind == "confirm":
            confirmed.add(event.claim or "")
        elif event.claim is not None and not closes_without_claim(event):
            own.setdefault(event.claim, []).append(event)
    closers: dict[int, list[Event]] = {}
    for event in events:
        if closes_without_claim(event) and _closes(event, offer):
            closers.setdefault(event.term, []).append(event)
    found: list[_Tenure] = []
    closer = _first_closer(None, closers.get(0, ()), None)
    for term in sorted(terms):
        claims = sorted(terms[term], key=_by_time)
        sure = [claim for claim in claims if claim.id in confirmed]
        if len({replace(claim.by, instance=None) for claim in sure}) > 1:
            problem = f"{len(sure)} confirmed claims of term {term} contradict each other"
            problems += [Damage(claim.path, problem, offer.id) for claim in sure]
        before = found[-1] if found else None
        reasons = {claim.id: _not_free(before, claim, closer) for claim in claims if claim.id not in confirmed}
        winner = next(iter(sure), None) or next((each for each in claims if reasons.get(each.id) is None), None)
        for claim in claims:
            if claim is winner:
                continue
            note = reasons.get(claim.id)
            if winner is not None:
                note = f"lost to {name_beside(winner.by, claim.by)}, who claimed at {show_time(winner.time)}"
            marks[claim.id] = ("void", note)
        if winner is not None:
            mine = own.get(winner.id, ())
            found.append(_tenure(winner, mine, offer, provisional=winner.id not in confirmed))
            marks[winner.id] = ("counts", None)
            closer = None
        closer = _first_closer(closer, closers.get(term, ()), found[-1] if found else None)
    counting = {tenure.claim.id for tenure in found}
    for event in events:
        if event.kind == "confirm" and event.claim in counting:
            marks[event.id] = ("counts", None)
        elif event.kind != "claim" and not closes_without_claim(event) and event.claim is not None:
            if event.claim not in counting:
                marks[event.id] = ("void", "its claim does not count")
        elif event.kind == "patch":
            marks[event.id] = ("counts", None)
    return found


def _first_closer(first: Event | None, more: Iterable[Event], before: _Tenure | None) -> Event | None:
    """Of what closed the handoff while nobody held it, the first by the clock: `first`, or one of `more`, which are of
    one term and knew of the claim that counted `before`.
    """
    free = [each for each in more if before is None or _was_over(before, each)]
    return min(free if first is None else [first, *free], key=_by_time, default=None)


def _not_free(before: _Tenure | None, claim: Event, closer: Event | None) -> str | None:
    """Why a provisional claim is not valid: the handoff was not to be had at its time; None: it was.

    Args:
        closer: the first that closed it since the claim that counted `before`, and did not know of this term.
    """
    if before is not None and not _was_over(before, claim):
        if before.end is not None and before.is_closed:
            return who_did(before.end)
        return f"{party_name(before.by)} held it until {show_time(before.lease_until)}"
    return who_did(closer) if closer is not None and _by_time(closer) < _by_time(claim) else None


def _was_over(tenure: _Tenure, event: Event) -> bool:
    """Whether a tenure was over when the event was written, and left the handoff to others."""
    if tenure.is_closed:
        return False
    if tenure.end is not None and _key(tenure.end) < _key(event):
        return True
    return tenure.lease_until < event.time


# --- 3 and 4: what each event is to the state ---------------------------------------------------------------------


def _mark_past(tenure: _Tenure, successor: Event, offer: Offer, marks: Marks) -> None:
    claimed = f"{party_name(successor.by)} claimed at {show_time(successor.time)}"
    end: Event | None = None
    for event in tenure.own:
        if end is not None:
            marks[event.id] = ("late", _after(end))
        elif _key(event) > _key(successor):
            marks[event.id] = ("late", f"came after {claimed}")
        elif event.kind in _ENDINGS:
            # Whoever claimed after it did not know of it: it does not end what goes on.
            closes = _closes(event, offer)
            marks[event.id] = ("late", f"was not known yet when {claimed}") if closes else ("counts", None)
            end = event
        else:
            marks[event.id] = ("counts", None)


def _mark_current(tenure: _Tenure, marks: Marks) -> None:
    ended = False
    for event in tenure.own:
        marks[event.id] = ("late", _after(tenure.end)) if ended and tenure.end is not None else ("counts", None)
        ended = ended or event is tenure.end


def _closed(
    events: Sequence[Event], current: _Tenure | None, ended: Event | None, offer: Offer, marks: Marks, *, held: bool
) -> Event | None:
    """What ended the handoff; marks withdrawals, and refusals by whom it is for, of those who did not hold it."""
    for event in events:
        if not closes_without_claim(event):
            continue
        if not _closes(event, offer):  # somebody whom it was not for does not want it: that changes nothing else
            marks[event.id] = ("counts", None)
        elif current is not None and event.term < current.claim.term:
            marks[event.id] = ("void", f"{party_name(current.claim.by)} claimed it at {show_time(current.claim.time)}")
        elif ended is not None:
            marks[event.id] = ("late", _after(ended))
        elif held and current is not None:
            marks[event.id] = ("void", f"{party_name(current.by)} holds it")
        else:
            marks[event.id] = ("counts", None)
            ended = event
    return ended


def _after(end: Event) -> str:
    return f"came after {who_did(end)}"
