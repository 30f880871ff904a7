"""How models fared, as routing may use it: to order candidates that are equals otherwise, and for nothing else.

Pure, and in whole numbers. Equals are candidates of one place in the route that run in the same class of place, at
providers of the same health and place in the user's order, and of which the same is known. Among them:

1. One that answered, of at least `ENOUGH_CALLS` calls, a share that is lower than the best of its equals by more than
   `CLEARLY_LESS` percentage points goes after them. An equal with fewer calls counts as one that answers always: how
   it fares is learnt by asking it alone.
2. Then the cheaper goes first, as without any experience.
3. Where that is the same as well, and the model: one that takes more than `CLEARLY_SLOWER` percent of the time of the
   fastest, and `NOTICED` milliseconds more, goes after it. Other models are not compared by their time: the larger is
   always slower, and may be the better.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.gateway._values import Purpose

ENOUGH_CALLS: Final = 20
"""Calls from which on they say something of a model; for its time, that many answers."""
CLEARLY_LESS: Final = 20
CLEARLY_SLOWER: Final = 150
NOTICED: Final = 100


@dataclass(frozen=True, slots=True)
class Experience:
    """How a model of a provider fared lately for a purpose.

    Attributes:
        calls: that say something of it; a cancelled one, say, does not.
        answered: how many of these were.
        milliseconds: that the answered ones took together.

    Raises:
        InvalidInput: more were answered than asked, or a number is below 0.
    """

    provider: str
    model: str
    purpose: Purpose
    calls: int
    answered: int
    milliseconds: int

    def __post_init__(self) -> None:
        if not 0 <= self.answered <= self.calls or self.milliseconds < 0:
            raise InvalidInput(
                f"{self.answered} answers of {self.calls} calls in {self.milliseconds} ms are nothing to learn from"
            )


def experience_for(purpose: Purpose, experience: Iterable[Experience]) -> dict[tuple[str, str], Experience]:
    """What is known for a purpose, by provider and model; what is told of one in several parts is added up."""
    found: dict[tuple[str, str], Experience] = {}
    for each in experience:
        if each.purpose == purpose:
            key = (each.provider, each.model)
            known = found.get(key)
            found[key] = each if known is None else _sum(known, each)
    return found


def fared(known: Experience | None) -> str:
    """What is to be told of a candidate; empty where too little is known."""
    if known is None or known.calls < ENOUGH_CALLS:
        return ""
    text = f"lately {known.answered} of {known.calls} calls were answered"
    return f"{text}, in {known.milliseconds // known.answered} ms on average" if known.answered else text


def behind(equals: Sequence[Experience | None]) -> list[str]:
    """Why each of some equals goes after the others; empty where it does not."""
    shares = [
        (known.answered, known.calls) if known is not None and known.calls >= ENOUGH_CALLS else (1, 1)
        for known in equals
    ]
    part, whole = 0, 1  # the best share
    for answered, calls in shares:
        if answered * whole > part * calls:
            part, whole = answered, calls
    limit = 100 * part - CLEARLY_LESS * whole
    clearly_less = [100 * answered * whole < limit * calls for answered, calls in shares]
    if not any(clearly_less):
        return [""] * len(shares)
    known_best = any(
        answered * whole == part * calls and fared(known)
        for (answered, calls), known in zip(shares, equals, strict=True)
    )
    than = "that is clearly less than of an equal" if known_best else "and nothing is known against its equals"
    return [f"{than}, so it goes after it" if less else "" for less in clearly_less]


def slower(same: Sequence[Experience | None]) -> list[str]:
    """Why each of some providers of the same model goes after the others; empty where it does not."""
    times = [
        (known.milliseconds, known.answered) if known is not None and known.answered >= ENOUGH_CALLS else (0, 0)
        for known in same
    ]
    least, count = 0, 0  # the fastest
    for taken, answers in times:
        if answers and (not count or taken * count < least * answers):
            least, count = taken, answers
    return [
        f"that is clearly slower than the {least // count} ms of an equal, so it goes after it"
        if 100 * taken * count > CLEARLY_SLOWER * least * answers
        and taken * count > (least + NOTICED * count) * answers
        else ""
        for taken, answers in times
    ]


def _sum(one: Experience, other: Experience) -> Experience:
    return replace(
        one,
        calls=one.calls + other.calls,
        answered=one.answered + other.answered,
        milliseconds=one.milliseconds + other.milliseconds,
    )
