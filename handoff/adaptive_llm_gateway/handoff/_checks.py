"""What may be done to a handoff as it stands, and by whom: pure, and asked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Literal

from adaptive_llm_gateway.core import HandoffClosed, HandoffTaken, NotHolder, Unavailable
from adaptive_llm_gateway.handoff._events import name_beside, party_name, show_time
from adaptive_llm_gateway.handoff._fold import is_for, who_did
from adaptive_llm_gateway.handoff._values import MOST_LEASE, PRIORITIES, Claim, Handoff, Party

_MOMENT: Final = timedelta(seconds=1)
_PROBLEMS: Final = 3  # that an error names; all of them are shown with the handoff

Hold = Literal["holds", "lapsed"]
"""Of who holds a handoff: the lease runs, or it ran out and nobody else has claimed since."""


def same_holder(holder: Party, party: Party, is_there: Callable[[Party], bool]) -> bool:
    """Whether `party` may go on with what `holder` holds: the same client and agent on the same hub and machine, by the
    same right (`client_id`), in the same process, or in another when the first is no longer connected.

    Args:
        party: with its `hub` and `host`.
    """
    if replace(holder, instance=None) != replace(party, instance=None):  # machines of one image have one hub's name
        return False
    return holder.instance == party.instance or not is_there(holder)


def check_claim(
    handoff: Handoff, party: Party, *, is_there: Callable[[Party], bool], anyway: bool = False
) -> Literal["new", "again"]:
    """Whether `party` can claim it now.

    Args:
        is_there: whether a process of a client is connected to this hub.
        anyway: also what is for somebody else.

    Returns:
        `new`: with a claim of the next term. `again`: it is `party`'s already, and the lease is renewed.

    Raises:
        HandoffTaken: somebody else holds it.
        HandoffClosed: it is over or damaged, or for somebody else.
    """
    _check_whole(handoff)
    if handoff.state == "claimed":
        if handoff.holder is not None and same_holder(handoff.holder, party, is_there):
            return "again"
        raise _taken(handoff, by=party)
    if _lapsed(handoff, party, is_there):
        return "new"  # whose lease ran out may go on, also where nobody else could begin
    _check_open(handoff, "claimed")
    if handoff.offer.to is not None and not is_for(handoff.offer, party) and not anyway:
        raise HandoffClosed(
            f"handoff {handoff.offer.id!r} is for {handoff.offer.to!r}, and this is {party_name(party)!r}",
            hint="Claim another one, or this one with `anyway`.",
            handoff=handoff.offer.id,
            to=handoff.offer.to,
        )
    return "new"


def check_counts(handoff: Handoff, claim: str) -> None:
    """Whether a claim that was written is the one that counts; `handoff` as it stands since.

    Raises:
        HandoffTaken: somebody else's does, who holds it.
        HandoffClosed: the handoff is damaged.
        Unavailable: it does not count for another reason.
    """
    _check_whole(handoff)
    if handoff.claim is not None and handoff.claim.id == claim:
        return
    if handoff.holder is not None:
        raise _taken(handoff)
    why = next((step.note for step in handoff.steps if step.event.id == claim), None) or f"it is {handoff.state}"
    raise Unavailable(
        f"the claim of handoff {handoff.offer.id!r} was written and does not count: {why}",
        hint="Look at the handoff before you claim it again.",
        handoff=handoff.offer.id,
        state=handoff.state,
    )


def check_holds(handoff: Handoff, party: Party, *, is_there: Callable[[Party], bool]) -> Hold:
    """Whether `party` may report on it, finish it or give it back.

    Returns:
        `lapsed`: after a new claim only, for the lease ran out; nobody else has claimed it since.

    Raises:
        NotHolder: somebody else holds it, or nobody, or it is over.
        HandoffClosed: it is damaged.
    """
    _check_whole(handoff)
    if handoff.holder is not None and same_holder(handoff.holder, party, is_there):
        return "holds"
    if _lapsed(handoff, party, is_there):
        return "lapsed"
    me, id = party_name(party), handoff.offer.id
    details = {"handoff": id, "state": handoff.state}
    if handoff.holder is not None and handoff.claim is not None:
        raise NotHolder(
            f"{me!r} does not hold handoff {id!r}: {_holder(handoff, party)}",
            hint=_window_hint(handoff, party) or "Its result can be written as a memory that links to the handoff.",
            **details,
            **_holder_details(handoff),
        )
    if handoff.ended is not None:
        raise NotHolder(
            f"{me!r} does not hold handoff {id!r}: {_end(handoff)}",
            hint="Offer what is still to be done as a new handoff.",
            **details,
        )
    raise NotHolder(
        f"{me!r} does not hold handoff {id!r}: nobody holds it, it is {handoff.state}",
        hint="Claim it first." if handoff.state == "offered" else "Offer the work anew.",
        **details,
    )


def renewal(claim: Claim, now: datetime, length: timedelta) -> datetime:
    """Until when progress holds a claim: for `length`, and later than it held before, so that every hub sees that it
    was renewed, also when this hub's clock was set back; but never for longer than a lease can be.
    """
    return min(max(now + length, claim.lease_until + _MOMENT), now + MOST_LEASE)


def check_decline(handoff: Handoff, party: Party) -> None:
    """Whether `party`, who does not hold it, may refuse it: it is open, and for them or for anybody.

    Raises:
        HandoffTaken: somebody holds it.
        HandoffClosed: it is over or damaged, or for somebody else.
    """
    _check_whole(handoff)
    if handoff.state == "claimed":
        raise _taken(handoff)
    _check_open(handoff, "declined")
    if handoff.offer.to is not None and not is_for(handoff.offer, party):
        raise HandoffClosed(
            f"handoff {handoff.offer.id!r} is for {handoff.offer.to!r}; {party_name(party)!r} cannot decline it",
            hint="Leave it: it is offered to its addressee only.",
            handoff=handoff.offer.id,
            to=handoff.offer.to,
        )


def check_withdraw(handoff: Handoff, party: Party, *, anyway: bool = False) -> None:
    """Whether `party` may take the offer back: it is theirs, nobody holds it, and it is not over.

    Args:
        anyway: also when another client offered it; for people, whose every client it is.

    Raises:
        HandoffTaken: somebody holds it.
        HandoffClosed: it is over or damaged, or another's offer.
    """
    _check_whole(handoff)
    if handoff.state == "claimed":
        raise _taken(handoff, "Its holder can give it back; a lease that is not renewed runs out.")
    if handoff.state != "expired":
        _check_open(handoff, "withdrawn")
    by = handoff.offer.by
    if not anyway and _who(by) != _who(party):
        raise HandoffClosed(
            f"handoff {handoff.offer.id!r} was offered by {name_beside(by, party)!r}; only they can withdraw it",
            hint="Decline it with a reason, if it is for you.",
            handoff=handoff.offer.id,
        )


def best_for(
    handoffs: Iterable[Handoff], party: Party, project: str | None, *, is_there: Callable[[Party], bool]
) -> Handoff | None:
    """The handoff that `party` should go on with: what it holds already, otherwise the best open one.

    Open ones count when they are for this client or agent or for anybody, and this client has not declined them. Those
    that name it come first, then offers before checkpoints, the higher priority, of offers the oldest and of
    checkpoints the newest.

    Args:
        project: only of this one, whatever the case; None: of any.
    """
    found: list[tuple[tuple[bool | int | float | str, ...], Handoff]] = []
    for handoff in handoffs:
        offer = handoff.offer
        if project is not None and (offer.project or "").casefold() != project.casefold():
            continue
        lapsed = _lapsed(handoff, party, is_there)
        mine = lapsed or (handoff.holder is not None and same_holder(handoff.holder, party, is_there))
        if not mine and (
            handoff.state != "offered"
            or (offer.to is not None and not is_for(offer, party))
            or any(_who(each) == _who(party) for each in handoff.declined_by)
        ):
            continue
        age = offer.created.timestamp()
        rank = (
            not mine,
            lapsed,
            not is_for(offer, party),
            offer.checkpoint,
            -PRIORITIES.index(offer.priority),
            -age if offer.checkpoint else age,
            offer.id,
        )
        found.append((rank, handoff))
    return min(found, key=lambda item: item[0])[1] if found else None


def _who(party: Party) -> tuple[str, str | None, str | None]:
    """A party wherever it works."""
    return party.client, party.agent, party.client_id


def _lapsed(handoff: Handoff, party: Party, is_there: Callable[[Party], bool]) -> bool:
    """Whether `party` held it last, its lease ran out, and nobody has ended or claimed it since."""
    if handoff.claim is None or handoff.holder is not None or handoff.state not in ("offered", "expired"):
        return False
    return same_holder(handoff.claim.by, party, is_there)


def _check_whole(handoff: Handoff) -> None:
    if handoff.state == "damaged":
        told, more = handoff.damage[:_PROBLEMS], len(handoff.damage) - _PROBLEMS
        problems = "; ".join(f"{each.path}: {each.problem}" for each in told)
        raise HandoffClosed(
            f"handoff {handoff.offer.id!r} is damaged: {problems}" + (f"; and {more:,} more" if more > 0 else ""),
            hint="Mend the file, or restore it from the memory repo's history.",
            handoff=handoff.offer.id,
            damage=[{"path": each.path, "problem": each.problem} for each in told],
            problems=len(handoff.damage),
        )


def _check_open(handoff: Handoff, verb: str) -> None:
    if handoff.state == "offered":
        return
    expires = handoff.offer.expires
    why = f"it expired at {show_time(expires)}" if expires and handoff.state == "expired" else _end(handoff)
    raise HandoffClosed(
        f"handoff {handoff.offer.id!r} cannot be {verb}: {why}",
        hint="Offer what is still to be done as a new handoff.",
        handoff=handoff.offer.id,
        state=handoff.state,
    )


def _end(handoff: Handoff) -> str:
    return f"it is {handoff.state}" if handoff.ended is None else who_did(handoff.ended)


_ANOTHER: Final = "Claim another one. A lease that is not renewed runs out, and the handoff is open again."


def _taken(handoff: Handoff, hint: str = _ANOTHER, *, by: Party | None = None) -> HandoffTaken:
    return HandoffTaken(
        f"handoff {handoff.offer.id!r} is taken: {_holder(handoff, by)}",
        hint=hint,
        handoff=handoff.offer.id,
        **_holder_details(handoff),
    )


def _holder(handoff: Handoff, party: Party | None) -> str:
    claim = handoff.claim
    assert claim is not None  # noqa: S101 - whoever holds it has claimed it
    kind = "provisionally " if claim.provisional else ""
    name = party_name(claim.by) if party is None else name_beside(claim.by, party)
    return f"{name} claimed it {kind}at {show_time(claim.time)} and holds it until {show_time(claim.lease_until)}"


def _holder_details(handoff: Handoff) -> dict[str, object]:
    claim = handoff.claim
    assert claim is not None  # noqa: S101 - whoever holds it has claimed it
    by = {"client": claim.by.client, "agent": claim.by.agent, "host": claim.by.host, "hub": claim.by.hub}
    return {
        "holder": by,
        "claimed": show_time(claim.time),
        "lease_until": show_time(claim.lease_until),
        "provisional": claim.provisional,
    }


def _window_hint(handoff: Handoff, party: Party) -> str | None:
    """The client itself, in another of its windows."""
    holder = handoff.holder
    if holder is None or replace(holder, instance=None) != replace(party, instance=None):
        return None
    return "Another window of this client holds it and is still connected: go on there, or close it."
