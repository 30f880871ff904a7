"""Handoffs: work that one agent offers and another claims, on top of memory. May import core, memory, compression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import on_first_use

if TYPE_CHECKING:
    from adaptive_llm_gateway.handoff._values import (
        EVENT_KINDS,
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

_MODULES = {
    "_values": (
        "EVENT_KINDS",
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
}

__all__ = [
    "EVENT_KINDS",
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
]

__getattr__ = on_first_use(__name__, _MODULES)
