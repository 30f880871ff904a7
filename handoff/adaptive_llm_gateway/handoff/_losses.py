"""What this hub's parties wrote before the remote had it and that came to nothing, kept until they are told."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from adaptive_llm_gateway.handoff._events import party_name, show_time
from adaptive_llm_gateway.handoff._values import MOST_LEASE, Handoff, Party, Step

_T = TypeVar("_T")

_MOST: Final = 200
"""Losses, and events that may become one, that are kept; the oldest go first."""
_REPORTS: Final = ("progress", "done", "release", "decline")


@dataclass(frozen=True, slots=True)
class _Loss:
    by: Party
    text: str
    until: datetime
    handoff: str


class Losses:
    """Provisional claims, and what holders wrote while others claimed. Tells each loss to its party once, and to
    anybody for a day or until then. Safe to call from any thread.

    A hub that is started anew does not know what the one before it told, so it tells what was claimed for a time that
    is not over yet: its party may still be at work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: OrderedDict[str, None] = OrderedDict()
        self._found: OrderedDict[str, _Loss | None] = OrderedDict()  # None: its party was told

    def made(self, event: str) -> None:
        """An event was written whose loss is to be told whenever it is found out."""
        with self._lock:
            _put(self._made, event, None)

    def look(self, handoff: Handoff, is_ours: Callable[[Party], bool], now: datetime) -> None:
        """Take up what this hub wrote and does not count."""
        for step in handoff.steps:
            self._look_at_report(handoff, step, is_ours, now)
            claim = step.event
            if claim.kind != "claim" or not claim.provisional or step.standing != "void" or not is_ours(claim.by):
                continue
            ends = [each.event.lease_until for each in handoff.steps if claim.id in (each.event.id, each.event.claim)]
            runs = any(end is not None and end > now for end in ends)
            text = (
                f"the provisional claim of {party_name(claim.by)} of handoff {handoff.offer.id} "
                f"({handoff.offer.title!r}) does not count: {step.note or 'the handoff was not to be had'}"
            )
            with self._lock:
                if claim.id not in self._found and (runs or claim.id in self._made):
                    _put(self._found, claim.id, _Loss(claim.by, text, now + MOST_LEASE, handoff.offer.id))

    def _look_at_report(self, handoff: Handoff, step: Step, is_ours: Callable[[Party], bool], now: datetime) -> None:
        event = step.event
        if event.kind not in _REPORTS or step.standing == "counts" or not is_ours(event.by):
            return
        text = (
            f"what {party_name(event.by)} wrote of handoff {handoff.offer.id} ({handoff.offer.title!r}) at "
            f"{show_time(event.time)} came too late and changes nothing: {step.note or 'another claimed it meanwhile'}"
        )
        with self._lock:
            if event.id in self._made and event.id not in self._found:
                _put(self._found, event.id, _Loss(event.by, text, now + MOST_LEASE, handoff.offer.id))

    def told(self, is_party: Callable[[Party], bool], *, seen: Callable[[str], bool] = lambda _: True) -> list[str]:
        """What a party lost, which is told with that.

        Args:
            seen: whether the party sees a handoff, by its id.
        """
        with self._lock:
            lost = [(id, loss) for id, loss in self._found.items() if loss is not None and is_party(loss.by)]
        mine = [(id, loss) for id, loss in lost if seen(loss.handoff)]
        with self._lock:
            self._found.update(dict.fromkeys((id for id, _ in mine), None))
            return [loss.text for _, loss in mine]

    def untold(self, now: datetime, *, seen: Callable[[str], bool] = lambda _: True) -> list[str]:
        """What parties that were not told yet lost within a day; `seen` as for `told`."""
        with self._lock:
            lost = [loss for loss in self._found.values() if loss is not None and loss.until > now]
        return [loss.text for loss in lost if seen(loss.handoff)]


def _put(kept: OrderedDict[str, _T], id: str, value: _T) -> None:
    kept[id] = value
    while len(kept) > _MOST:
        kept.popitem(last=False)
