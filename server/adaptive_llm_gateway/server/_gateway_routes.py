"""How models fare, kept as `route` memories: one for each model and purpose, of numbers alone."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory import Author

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import Receipt
    from adaptive_llm_gateway.server._operations import Operations

_log = logging.getLogger(__name__)

Json = dict[str, Any]
Key = tuple[str, str, str]
"""Provider, model, purpose."""

CLIENT: Final = "gateway"
_MOST: Final = 1_000  # memories that are looked through for the one to add to


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


class RouteNotes:
    """What was learnt since the last time that it was written down. Safe to share between threads.

    Args:
        host: this machine, as memories name it.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._new: dict[Key, Tally] = {}

    def add(self, receipt: Receipt) -> None:
        """Count a receipt."""
        self._put(tallies_of(receipt))

    def _put(self, tallies: dict[Key, Tally]) -> None:
        with self._lock:
            for key, tally in tallies.items():
                self._new[key] = self._new.get(key, Tally()).plus(tally)

    def _take(self) -> dict[Key, Tally]:
        with self._lock:
            new, self._new = self._new, {}
            return new

    async def remember(self, memory: Operations) -> None:
        """Add what is new to the memories; what could not be written is kept for the next time.

        Raises:
            AlgError: something could not be written.
        """
        new = self._take()
        if not new:
            return
        try:
            known = await _known(memory, self._host)
        except BaseException:
            self._put(new)
            raise
        # Side by side, so that one commit takes them all.
        keys = list(new)
        written = await asyncio.gather(
            *(_write(memory, key, new[key], known.get(key)) for key in keys), return_exceptions=True
        )
        failed: BaseException | None = None
        for key, outcome in zip(keys, written, strict=True):
            if isinstance(outcome, InvalidInput):
                _log.warning("how a model fared is not remembered, now or later: %s", outcome)
            elif isinstance(outcome, BaseException):
                self._put({key: new[key]})
                failed = outcome
        if failed is not None:
            raise failed


async def _known(memory: Operations, host: str) -> dict[Key, Json]:
    """This hub's own memories of routes. Those of other machines, or written by people, are theirs."""
    found = await memory.list(type="route", author=CLIENT, limit=_MOST)
    return {
        key: record
        for record in found["memories"]
        if record["author"]["host"] == host and (key := _key_of(record["fields"])) is not None
    }


def _key_of(fields: Json) -> Key | None:
    provider, model, purpose = (fields.get(name) for name in ("provider", "model", "purpose"))
    if isinstance(provider, str) and isinstance(model, str) and isinstance(purpose, str):
        return provider, model, purpose
    return None


async def _write(memory: Operations, key: Key, new: Tally, record: Json | None) -> None:
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
