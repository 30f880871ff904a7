"""Handoffs: work that one agent offers and another claims, on top of memory. May import core, memory, compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import on_first_use

if TYPE_CHECKING:
    from adaptive_llm_gateway.handoff._applying import (
        would_apply,
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
    from adaptive_llm_gateway.handoff._clock import (
        TOLERANCE,
        LeaseClock,
        steady_seconds,
    )
    from adaptive_llm_gateway.handoff._events import (
        DECIDED,
        Files,
        event_fields,
        gather,
        party_name,
        read_record,
        title_of,
    )
    from adaptive_llm_gateway.handoff._fold import (
        fold,
        is_for,
    )
    from adaptive_llm_gateway.handoff._patch import (
        fence,
        unfence,
    )
    from adaptive_llm_gateway.handoff._remote import (
        HandoffRules,
        Looked,
    )
    from adaptive_llm_gateway.handoff._requests import (
        NewOffer,
    )
    from adaptive_llm_gateway.handoff._schema import (
        handoff_schema,
    )
    from adaptive_llm_gateway.handoff._service import (
        Handoffs,
        Outcome,
        Written,
    )
    from adaptive_llm_gateway.handoff._several import (
        SeveralHandoffs,
    )
    from adaptive_llm_gateway.handoff._transcript import (
        HookInput,
        Todo,
        Transcript,
        TranscriptEntry,
        find_rollout,
        read_hook,
        read_transcript,
    )
    from adaptive_llm_gateway.handoff._transcript_summary import (
        TranscriptSummary,
        summary_of,
    )
    from adaptive_llm_gateway.handoff._values import (
        EVENT_KINDS,
        LONGEST_NAME,
        MOST_LEASE,
        PRIORITIES,
        STATES,
        Claim,
        Damage,
        Event,
        EventKind,
        Handoff,
        Offer,
        Party,
        Priority,
        Standing,
        State,
        Step,
        WorkState,
    )
    from adaptive_llm_gateway.handoff._work import (
        Work,
        look_at,
    )

_MODULES = {
    "_applying": ("would_apply",),
    "_checks": (
        "Hold",
        "best_for",
        "check_claim",
        "check_counts",
        "check_decline",
        "check_holds",
        "check_withdraw",
        "renewal",
        "same_holder",
    ),
    "_clock": (
        "TOLERANCE",
        "LeaseClock",
        "steady_seconds",
    ),
    "_events": (
        "DECIDED",
        "Files",
        "event_fields",
        "gather",
        "party_name",
        "read_record",
        "title_of",
    ),
    "_fold": (
        "fold",
        "is_for",
    ),
    "_patch": (
        "fence",
        "unfence",
    ),
    "_schema": ("handoff_schema",),
    "_remote": (
        "HandoffRules",
        "Looked",
    ),
    "_requests": ("NewOffer",),
    "_service": (
        "Handoffs",
        "Outcome",
        "Written",
    ),
    "_several": ("SeveralHandoffs",),
    "_transcript": (
        "HookInput",
        "Todo",
        "Transcript",
        "TranscriptEntry",
        "find_rollout",
        "read_hook",
        "read_transcript",
    ),
    "_transcript_summary": (
        "TranscriptSummary",
        "summary_of",
    ),
    "_values": (
        "EVENT_KINDS",
        "LONGEST_NAME",
        "MOST_LEASE",
        "PRIORITIES",
        "STATES",
        "Claim",
        "Damage",
        "Event",
        "EventKind",
        "Handoff",
        "Offer",
        "Party",
        "Priority",
        "Standing",
        "State",
        "Step",
        "WorkState",
    ),
    "_work": (
        "Work",
        "look_at",
    ),
}

__all__ = [
    "DECIDED",
    "EVENT_KINDS",
    "LONGEST_NAME",
    "MOST_LEASE",
    "PRIORITIES",
    "STATES",
    "TOLERANCE",
    "Claim",
    "Damage",
    "Event",
    "EventKind",
    "Files",
    "Handoff",
    "HandoffRules",
    "Handoffs",
    "Hold",
    "HookInput",
    "LeaseClock",
    "Looked",
    "NewOffer",
    "Offer",
    "Outcome",
    "Party",
    "Priority",
    "SeveralHandoffs",
    "Standing",
    "State",
    "Step",
    "Todo",
    "Transcript",
    "TranscriptEntry",
    "TranscriptSummary",
    "Work",
    "WorkState",
    "Written",
    "best_for",
    "check_claim",
    "check_counts",
    "check_decline",
    "check_holds",
    "check_withdraw",
    "event_fields",
    "fence",
    "find_rollout",
    "fold",
    "gather",
    "handoff_schema",
    "is_for",
    "look_at",
    "party_name",
    "read_hook",
    "read_record",
    "read_transcript",
    "renewal",
    "same_holder",
    "steady_seconds",
    "summary_of",
    "title_of",
    "unfence",
    "would_apply",
]

__getattr__ = on_first_use(__name__, _MODULES)
