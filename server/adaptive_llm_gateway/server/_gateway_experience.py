"""How models fared lately, in numbers that fade: what `route` memories keep for routing to learn from.

A memory of a model that failed a month ago must not keep it from being asked for ever, nor a thousand good answers hide
that it fails now. So the latest `WINDOW` calls count, older ones half as much, and without a call half of what is known
is forgotten each week.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import Receipt

Key = tuple[str, str, str]
"""Provider, model, purpose."""

WINDOW: Final = 50
HALF_LIFE: Final = timedelta(days=7)
FIELDS: Final = ("recent_calls", "recent_answered", "recent_ms")
_MOST: Final = 10**12
_LONGEST: Final = 24 * 3_600_000
"""Milliseconds of one answer: no request takes longer than a day."""


@dataclass(frozen=True, slots=True)
class Recent:
    """Calls that say something of a model: `milliseconds` are of those that were answered, together."""

    calls: int = 0
    answered: int = 0
    milliseconds: int = 0

    def plus(self, new: Recent) -> Recent:
        """Both together; this, the older, counts half as often as it takes for both to fit into the window."""
        old = self
        while old.calls and old.calls + new.calls > WINDOW:
            old = old.halved()
        return Recent(old.calls + new.calls, old.answered + new.answered, old.milliseconds + new.milliseconds)

    def halved(self) -> Recent:
        """It counts half."""
        calls, answered = self.calls // 2, self.answered // 2
        return Recent(calls, answered, self.milliseconds * answered // self.answered if answered else 0)

    def after(self, age: timedelta) -> Recent:
        """What is left of it after a while without a call."""
        found = self
        for _ in range(min(age // HALF_LIFE, WINDOW)):
            found = found.halved()
        return found

    def fields(self) -> dict[str, int | None]:
        """As a memory keeps it."""
        mean = self.milliseconds // self.answered if self.answered else None
        return dict(zip(FIELDS, (self.calls, self.answered, mean), strict=True))


def recent_of(receipt: Receipt) -> dict[Key, Recent]:
    """What the calls of a receipt say of models.

    A call counts as failed where the provider was not well. A wrong key, a limit of its rate, or a request that it
    cannot take says nothing of the next request, as for its circuit.
    """
    from adaptive_llm_gateway.gateway import SICKNESS  # noqa: PLC0415 - after the hub listens

    found: dict[Key, Recent] = {}
    for attempt in receipt.attempts:
        ok = attempt.outcome == "ok"
        if ok or attempt.outcome in SICKNESS:
            key = (attempt.provider, attempt.model, receipt.request.purpose)
            found[key] = found.get(key, Recent()).plus(Recent(1, int(ok), attempt.took // 1000 if ok else 0))
    return found


def recent_from(fields: Mapping[str, Any], age: timedelta) -> Recent | None:
    """What a memory says, `age` after its last call; None where its numbers are none.

    Whoever can write the memory may have written anything: no numbers weigh more than those of `WINDOW` calls.
    """
    if fields.get(FIELDS[0]) is None:  # from before it was learnt from
        return Recent()
    numbers = [_whole(fields.get(name) or 0) for name in FIELDS]
    calls, answered, mean = (number if number is not None else -1 for number in numbers)
    if min(calls, answered, mean) < 0 or answered > calls:
        return None
    found = Recent(calls, answered, answered * min(mean, _LONGEST))
    while found.calls > WINDOW:
        found = found.halved()
    return found.after(max(age, timedelta()))


def age_of(updated: str | None, now: datetime) -> timedelta:
    """How long ago a memory was written; nothing for a time to come, or none."""
    try:
        return max(now - datetime.fromisoformat(updated or ""), timedelta())
    except (ValueError, TypeError, OverflowError):
        return timedelta()


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else None
