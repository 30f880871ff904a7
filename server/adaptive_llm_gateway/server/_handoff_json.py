"""Handoffs as JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.server._memory_json import repo_of, write_json
from adaptive_llm_gateway.server._times import iso

if TYPE_CHECKING:
    from adaptive_llm_gateway.core import Redaction
    from adaptive_llm_gateway.handoff import (
        Claim,
        Event,
        Handoff,
        Handoffs,
        Looked,
        Party,
        SeveralHandoffs,
        Step,
        Written,
    )

Json = dict[str, Any]

MOST_DAMAGE: Final = 20
"""Of a handoff's damaged files, those that are named; all are counted."""

_log = logging.getLogger(__name__)


def party_json(party: Party) -> Json:
    """Who did something."""
    return asdict(party)


def claim_json(claim: Claim) -> Json:
    """A claim, and until when it holds."""
    return {
        "id": claim.id,
        "term": claim.term,
        "time": iso(claim.time),
        "by": party_json(claim.by),
        "lease_until": iso(claim.lease_until),
        "provisional": claim.provisional,
    }


def looked_json(looked: Looked | None) -> Json | None:
    """When the remote was last asked for what it has, where there is one."""
    return {"looked": iso(looked.at), "error": looked.error} if looked is not None else None


def handoff_json(handoff: Handoff) -> Json:
    """A handoff without its body and without what happened to it."""
    offer, ended = handoff.offer, handoff.ended
    return {
        "id": offer.id,
        "title": offer.title,
        "objective": offer.objective,
        "state": handoff.state,
        "next_action": offer.next_action,
        "open_questions": list(offer.open_questions),
        "constraints": list(offer.constraints),
        "decisions": list(offer.decisions),
        "to": offer.to,
        "priority": offer.priority,
        "project": offer.project,
        "tags": list(offer.tags),
        "trust": str(offer.trust),
        "session_id": offer.session_id,
        "expires": iso(offer.expires),
        "checkpoint": offer.checkpoint,
        "created": iso(offer.created),
        "by": party_json(offer.by),
        "work": {**asdict(offer.work), "dirty": list(offer.work.dirty)},
        "path": offer.path,
        "version": offer.version,
        "term": handoff.term,
        "step": handoff.step,
        "claim": claim_json(handoff.claim) if handoff.claim else None,
        "holder": party_json(handoff.holder) if handoff.holder else None,
        "ended": (
            {"event": ended.kind, "time": iso(ended.time), "by": party_json(ended.by), "text": ended.text}
            if ended
            else None
        ),
        "declined_by": [party_json(party) for party in handoff.declined_by],
        "damage": [{"path": item.path, "problem": item.problem} for item in handoff.damage[:MOST_DAMAGE]],
        "damage_count": len(handoff.damage),
    }


def step_json(step: Step) -> Json:
    """One thing that happened, and what it is to the state."""
    event = step.event
    return {
        "id": event.id,
        "event": event.kind,
        "step": event.step,
        "term": event.term,
        "time": iso(event.time),
        "by": party_json(event.by),
        "text": "" if event.kind == "patch" else event.text,
        "claim": event.claim,
        "lease_until": iso(event.lease_until),
        "provisional": event.provisional,
        "standing": step.standing,
        "note": step.note,
        "path": event.path,
    }


def written_json(
    done: Written, notes: Sequence[str], *, patch: Event | None, redacted: Sequence[Redaction] = ()
) -> Json:
    """What a write did, and where it stands."""
    from adaptive_llm_gateway.handoff import unfence  # noqa: PLC0415 - after the hub listens

    told = write_json(done.result)
    standing = {name: told[name] for name in ("state", "commit", "commit_error", "sync")}
    return {
        **handoff_json(done.handoff),
        **repo_of(done.result.repo),
        "standing": standing,
        "notes": list(notes),
        "redacted": [asdict(each) for each in redacted],
        "again": done.again,
        "replaced": done.replaced,
        "patch": {"id": patch.id, "bytes": len((unfence(patch.text) or "").encode())} if patch else None,
    }


def marks_of(done: Written, patch: Event | None) -> list[Redaction]:
    """The marks that stand for secrets in what was written; lines are those of each text, the patch's of the patch."""
    from adaptive_llm_gateway.core import marks_in  # noqa: PLC0415 - after the hub listens
    from adaptive_llm_gateway.handoff import unfence  # noqa: PLC0415 - as above

    offer = done.handoff.offer
    if done.result.id != offer.id:
        events = [step.event for step in done.handoff.steps if step.event.id == done.result.id]
        texts = [("text", event.text) for event in events]
    else:
        texts = [
            *(("objective", offer.objective), ("next_action", offer.next_action), ("state", offer.state)),
            *(("to", offer.to), ("project", offer.project)),
            *(("open_questions", line) for line in offer.open_questions),
            *(("constraints", line) for line in offer.constraints),
            *(("tags", line) for line in offer.tags),
            *(("work", line) for line in offer.work.dirty),
            ("patch", unfence(patch.text) if patch is not None else None),
        ]
    return [mark for where, text in texts if text for mark in marks_in(text, where=where)]


def patch_json(service: Handoffs | SeveralHandoffs, handoff: Handoff, here: Path | None) -> Json | None:
    """The patch that a handoff carries, and whether it applies to the work as it lies here."""
    from adaptive_llm_gateway.handoff import unfence, would_apply  # noqa: PLC0415 - after the hub listens

    event = service.patch_of(handoff)
    if event is None:
        return None
    patch = unfence(event.text)
    applies: bool | None = None
    if patch is None:
        note = "its file holds no patch any more"
    elif here is None:
        note = "where the work lies here is not known"
    else:
        try:
            applies, note = would_apply(patch, here, commit=handoff.offer.work.commit)
        except Exception as error:  # noqa: BLE001 - the claim stands, and its holder has to know
            _log.exception("whether the patch of handoff %s applies cannot be told", handoff.offer.id)
            note = f"not tried: {type(error).__name__}; the hub's log has more"
    return {"id": event.id, "bytes": len((patch or "").encode()), "applies": applies, "note": note, "path": event.path}
