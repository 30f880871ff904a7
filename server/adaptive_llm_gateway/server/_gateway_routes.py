"""How models fare, kept as `route` memories: one for each model and purpose, of numbers alone.

Routing learns from them: they are read when the gateway is first needed, and again now and then; in between every
receipt counts as it is stored. No request waits for a memory.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory import Author
from adaptive_llm_gateway.server._gateway_experience import Key, Recent, age_of, recent_from, recent_of

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import Experience, Receipt
    from adaptive_llm_gateway.server._operations import Operations

_log = logging.getLogger(__name__)

Json = dict[str, Any]

CLIENT: Final = "gateway"
_MOST: Final = 1_000  # memories that are looked through for the one to add to
_FIRST_LOOK: Final = 2.0  # seconds that the first request waits for what was learnt before


@dataclass(frozen=True, slots=True)
class Tally:
    """Calls of a model for a purpose: `milliseconds` are of those that were answered, together."""

    calls: int = 0
    answered: int = 0
    milliseconds: int = 0
    micro_cents: int = 0

    def plus(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            self.calls + other.calls,
            self.answered + other.answered,
            self.milliseconds + other.milliseconds,
            self.micro_cents + other.micro_cents,
        )


def tallies_of(receipt: Receipt) -> dict[Key, Tally]:
    """The calls of a receipt. One that whoever asked gave up says nothing of a model, and is none."""
    found: dict[Key, Tally] = {}
    for attempt in receipt.attempts:
        if attempt.outcome == "cancelled":
            continue
        key = (attempt.provider, attempt.model, receipt.request.purpose)
        ok = attempt.outcome == "ok"
        cost = receipt.cost.micro_cents if ok else None
        tally = Tally(1, int(ok), attempt.took // 1000 if ok else 0, cost or 0)
        found[key] = found.get(key, Tally()).plus(tally)
    return found


@dataclass(frozen=True, slots=True)
class _Noted:
    """What is not in the memories yet."""

    tally: Tally
    recent: Recent

    def plus(self, other: _Noted) -> _Noted:
        return _Noted(self.tally.plus(other.tally), self.recent.plus(other.recent))


_NOTHING: Final = _Noted(Tally(), Recent())


class RouteNotes:
    """How models fared: what the memories say, and what was learnt since. Safe to share between threads.

    Args:
        host: this machine, as memories name it.
        learn: False notes nothing, and knows nothing.
    """

    def __init__(self, host: str, *, learn: bool = True) -> None:
        self._host = host
        self._learn = learn
        self._lock = threading.Lock()
        self._new: dict[Key, _Noted] = {}
        self._writing: dict[Key, _Noted] = {}
        self._read: dict[Key, Recent] = {}
        self._experience: tuple[Experience, ...] | None = None
        self._told: set[tuple[str, str]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._with_memory = asyncio.Lock()

    def add(self, receipt: Receipt) -> None:
        """Count a receipt."""
        if not self._learn:
            return
        recent = recent_of(receipt)
        self._put({key: _Noted(tally, recent.get(key, Recent())) for key, tally in tallies_of(receipt).items()})

    def experience(self) -> tuple[Experience, ...]:
        """What routing may learn from, as it is known now. Reads nothing."""
        with self._lock:
            if self._experience is None:
                self._experience = self._made()
            return self._experience

    def _made(self) -> tuple[Experience, ...]:
        from adaptive_llm_gateway.gateway import Experience  # noqa: PLC0415 - after the hub listens

        found: list[Experience] = []
        for key in sorted({*self._read, *self._writing, *self._new}):
            recent = self._read.get(key, Recent())
            for noted in (self._writing, self._new):
                recent = recent.plus(noted.get(key, _NOTHING).recent)
            if recent.calls:
                found.append(Experience(*key, recent.calls, recent.answered, recent.milliseconds))
        return tuple(found)

    def _put(self, noted: Mapping[Key, _Noted]) -> None:
        with self._lock:
            for key, each in noted.items():
                self._new[key] = self._new.get(key, _NOTHING).plus(each)
            self._experience = None

    async def ready(self, memory: Operations) -> None:
        """Learn from the memories for the first time. After 2 s it goes on in the background: the memory may be opening
        for long."""
        if self._learn and self._looking is None:
            self._looking = asyncio.create_task(self._look_first(memory))
            await asyncio.wait({self._looking}, timeout=_FIRST_LOOK)

    async def _look_first(self, memory: Operations) -> None:
        try:
            await self.look(memory)
        except Exception as error:  # noqa: BLE001 - models are called without it, and it is looked again
            _log.warning("how models fared could not be read: %s", error)

    async def look(self, memory: Operations) -> None:
        """Read the memories: another hub's sync or a person may have changed them.

        Raises:
            AlgError: they cannot be read.
        """
        if self._learn:
            async with self._with_memory:
                self._learnt(await _known(memory, self._host))

    def _learnt(self, known: Mapping[Key, Json]) -> None:
        now = datetime.now(UTC)
        read = {key: self._recent(record, now) for key, record in known.items()}
        with self._lock:
            self._read = read
            self._experience = None

    def _recent(self, record: Json, now: datetime) -> Recent:
        found = recent_from(record["fields"], age_of(record["updated"], now))
        if found is None:
            version = (str(record["id"]), str(record["version"]))
            if version not in self._told and len(self._told) < _MOST:
                self._told.add(version)
                _log.warning("the memory %s has numbers that cannot be, and nothing is learnt from it", record["id"])
        return found or Recent()

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    async def remember(self, memory: Operations) -> None:
        """Add what is new to the memories; what could not be written is kept for the next time.

        Raises:
            AlgError: something could not be written.
        """
        async with self._with_memory:
            with self._lock:
                new, self._new = self._new, {}
                self._writing = new
            left = dict(new)
            try:
                if new:
                    known = await _known(memory, self._host)
                    self._learnt(known)
                    await self._write_all(memory, new, known, left)
            finally:
                with self._lock:
                    self._writing = {}
                self._put(left)

    async def _write_all(
        self, memory: Operations, new: Mapping[Key, _Noted], known: Mapping[Key, Json], left: dict[Key, _Noted]
    ) -> None:
        """Write what is new; takes out of `left` what is written, or never can be."""
        # Side by side, so that one commit takes them all.
        recents = {key: self._read.get(key, Recent()).plus(each.recent) for key, each in new.items()}
        written = await asyncio.gather(
            *(_write(memory, key, each.tally, recents[key], known.get(key)) for key, each in new.items()),
            return_exceptions=True,
        )
        failed: BaseException | None = None
        for key, outcome in zip(new, written, strict=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, InvalidInput):
                failed = outcome
                continue
            del left[key]
            if isinstance(outcome, InvalidInput):
                _log.warning("how a model fared is not remembered, now or later: %s", outcome)
            else:
                with self._lock:
                    self._read[key] = recents[key]
                    self._writing = {other: each for other, each in self._writing.items() if other != key}
        if failed is not None:
            raise failed


async def _known(memory: Operations, host: str) -> dict[Key, Json]:
    """This hub's own memories of routes. Those of other machines, or written by people, are theirs.

    Who asks for an author gets what an agent of that name wrote, too, and agents call themselves what they like.
    """
    found = await memory.list(type="route", author=CLIENT, limit=_MOST)
    return {
        key: record
        for record in found["memories"]
        if record["author"] == {"client": CLIENT, "agent": None, "host": host}
        and (key := _key_of(record["fields"])) is not None
    }


def _key_of(fields: Json) -> Key | None:
    provider, model, purpose = (fields.get(name) for name in ("provider", "model", "purpose"))
    if isinstance(provider, str) and isinstance(model, str) and isinstance(purpose, str):
        return provider, model, purpose
    return None


async def _write(memory: Operations, key: Key, new: Tally, recent: Recent, record: Json | None) -> None:
    provider, model, purpose = key
    total = new if record is None else _tally(record["fields"]).plus(new)
    mean = total.milliseconds // total.answered if total.answered else None
    fields: Json = {
        "provider": provider,
        "model": model,
        "purpose": purpose,
        "calls": total.calls,
        "answered": total.answered,
        "latency_ms": mean,
        "micro_cents": total.micro_cents,
        **recent.fields(),
    }
    said = f"{total.answered} of {total.calls} calls were answered"
    said += f", in {mean} ms on average" if mean is not None else ""
    await memory.write(
        author=Author(CLIENT),
        id=None if record is None else record["id"],
        type="route" if record is None else None,
        title=f"{provider}/{model} for {purpose}",
        body=f"{said}, for {total.micro_cents} micro-cents in all.\n",
        trust="internal",
        fields=fields,
        reason="how it fared",
    )


def _tally(fields: Json) -> Tally:
    """What a memory has; where somebody changed it to no number, nothing."""
    calls, answered, mean, cost = (
        value if isinstance(value := fields.get(name), int) and value >= 0 else 0
        for name in ("calls", "answered", "latency_ms", "micro_cents")
    )
    return Tally(calls, answered, mean * answered, cost)
