"""Handoffs as the files of a store say that they stand."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.core import InvalidInput, NotFound, Unavailable
from adaptive_llm_gateway.handoff._clock import LeaseClock
from adaptive_llm_gateway.handoff._events import Files, gather
from adaptive_llm_gateway.handoff._fold import fold
from adaptive_llm_gateway.handoff._values import Damage, Event, Handoff
from adaptive_llm_gateway.memory import Filters

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import MemoryStore, MemoryView, Record

_log = logging.getLogger(__name__)

_FLUSH_SECONDS: Final = 10.0
_DEPTH_OF_EVENTS: Final = 5  # handoffs/yyyy/mm/<end of the offer's id>/<event>.md


class Reading:
    """Reads the handoffs of a store. Its methods may be called from any thread."""

    def __init__(self, store: MemoryStore, clock: LeaseClock, *, view: MemoryView | None = None) -> None:
        self._store, self._clock, self._view = store, clock, view

    def within(self, view: MemoryView) -> Reading:
        """The same for somebody who does not see everything.

        How a handoff stands follows from all its events; what those say that are not seen is left out.
        """
        return Reading(self._store, self._clock, view=view)

    def one(self, id: str, *, writing: bool = False) -> Handoff:
        """A handoff by its id, or the end of it, or the id of one of its events.

        Args:
            writing: asked by what is about to be written, so that nothing is on its way and nothing may be waited for.

        Raises:
            NotFound, InvalidInput: there is none, or several.
        """
        seen = self._view or self._store
        record = seen.record(id) or seen.read(id).record
        if record.type != "handoff":
            raise InvalidInput(
                f"memory {record.id!r} is a {record.type}, not a handoff", hint="`alg handoff list` names them."
            )
        belongs = record.fields.get("handoff") if record.fields.get("event") is not None else None
        if isinstance(belongs, str):
            found = self._store.record(belongs)
            if found is None or found.type != "handoff":
                raise NotFound(f"the handoff {belongs!r} of event {record.id!r} is not there")
            record = found
        events = list(self._events(record.id))
        if not writing and self._not_among(record, events):  # a file that is on its way into the index is no damage
            try:
                self._store.flush(_FLUSH_SECONDS)
            except FutureTimeout:
                raise Unavailable(
                    f"the hub has been busy writing for {_FLUSH_SECONDS:g} s", hint="Try again in a moment."
                ) from None
            events = list(self._events(record.id))
        files, _ = gather([record, *events])
        mine = next((each for each in files if each.offer.id == record.id), None)
        if mine is None:
            raise NotFound(f"{id!r} is an event of a handoff that is not there")
        lost = [Damage(path, "cannot be read as an event of it", record.id) for path in self._not_among(record, events)]
        unread = self._unread().get(record.id[-8:].lower(), [])
        found = self._folded(replace(mine, damage=(*mine.damage, *lost, *unread)))
        view = self._view
        return found if view is None else _veiled(found, {event.id for event in events if view.sees(event)})

    def every(self) -> list[Handoff]:
        """All handoffs, in no order; their patches are without text, which `patch_of` has."""
        files, strays = gather(self._store.handoff_records())
        for stray in strays:
            _log.debug("a file of no handoff: %s: %s", stray.path, stray.problem)
        unread = self._unread()
        view = self._view
        seen = None if view is None else {record.id for record in view.handoff_records()}
        found = [
            self._folded(replace(each, damage=(*each.damage, *unread.get(each.offer.id[-8:].lower(), ()))))
            for each in files
            if seen is None or each.offer.id in seen
        ]
        return found if seen is None else [_veiled(each, seen) for each in found]

    def _unread(self) -> dict[str, list[Damage]]:
        """Files of handoffs that cannot be read as they are now, by the end of the offer's id: what they said before
        is no more than that.
        """
        found: dict[str, list[Damage]] = {}
        for skipped in self._store.skipped:
            parts = skipped.path.split("/")
            if parts[0] == "handoffs" and len(parts) > 1:
                end = parts[-2] if len(parts) == _DEPTH_OF_EVENTS else parts[-1].removesuffix(".md")[-8:]
                found.setdefault(end, []).append(Damage(skipped.path, skipped.problem))
        return found

    def _events(self, id: str) -> Iterable[Record]:
        return self._store.records(filters=Filters(types=("handoff",), fields={"handoff": id}))

    def _not_among(self, offer: Record, events: Sequence[Record]) -> list[str]:
        """Files in the handoff's folder that are none of its events: what they say could not be read."""
        folder = f"{offer.path.rpartition('/')[0]}/{offer.id[-8:].lower()}"
        try:
            names = [path.name for path in (self._store.repo.path / folder).iterdir()]
        except OSError:
            return []
        known = {record.path for record in events}
        paths = (f"{folder}/{name}" for name in sorted(names) if name.endswith(".md") and not name.startswith("."))
        return [path for path in paths if path not in known]

    def _folded(self, files: Files) -> Handoff:
        return fold(files.offer, files.events, files.damage, now=self._clock.now(), lease_over=self._clock.is_over)

    def patch_of(self, handoff: Handoff) -> Event | None:
        """The event that carries the diff, where there is one: the last patch, unless that is empty."""
        last = next((step.event for step in reversed(handoff.steps) if step.event.kind == "patch"), None)
        record = (self._view or self._store).record(last.id) if last is not None else None
        if last is None or record is None or not record.body.strip():
            return None
        return replace(last, text=record.body)


def _veiled(handoff: Handoff, seen: set[str]) -> Handoff:
    """A handoff without what its events say that are not seen, and without names of files that cannot be read."""

    def veiled(event: Event) -> Event:
        return event if event.id in seen else replace(event, text="", path="")

    return replace(
        handoff,
        ended=None if handoff.ended is None else veiled(handoff.ended),
        steps=tuple(replace(step, event=veiled(step.event)) for step in handoff.steps),
        damage=tuple(Damage("", "a file of it cannot be read", each.handoff) for each in handoff.damage),
    )
