"""One budget over the parts of a package. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from adaptive_llm_gateway.compression._values import Part
from adaptive_llm_gateway.core import InvalidInput

Key = TypeVar("Key", bound=str)
FIRST_HITS = 100
"""How many hits a search is asked for at first."""
_MOST = 400  # hits
_TOKENS_EACH = 10
_ENOUGH = 16  # characters of hits for each token of the budget


@dataclass(frozen=True, slots=True)
class Share:
    """What a part may have of a budget.

    Attributes:
        minimum: tokens that it gets before anything is shared out, in the order of the parts, if it wants them.
        weight: its share of the rest, beside those of the others that want more; 0: only what nobody else wants.
        order: parts with a lower one get their minimum first, and what does not divide.
    """

    minimum: int = 0
    weight: float = 1.0
    order: int = 0

    def __post_init__(self) -> None:
        if self.minimum < 0 or not 0 <= self.weight < float("inf"):
            raise InvalidInput(
                f"a share with minimum {self.minimum!r} and weight {self.weight!r} is none",
                hint="Both are 0 or more, and finite.",
            )


DEFAULT_SHARES: Mapping[Part, Share] = {
    "instructions": Share(minimum=200, weight=1.0, order=0),
    "pinned": Share(minimum=150, weight=1.0, order=1),
    "handoff": Share(minimum=150, weight=1.0, order=2),
    "session": Share(minimum=100, weight=1.5, order=3),
    "recalled": Share(minimum=100, weight=6.0, order=4),
}


def hits_for(budget: int, characters: int) -> int:
    """How many hits a package of so many tokens is made from: the first 100, where they have some times what fits;
    where memories are short one for every ten tokens, up to 400. More of them add less than they take to find.

    Args:
        characters: of the bodies of the first 100.
    """
    if characters >= budget * _ENOUGH:
        return FIRST_HITS
    return min(max(budget // _TOKENS_EACH, FIRST_HITS), _MOST)


def split(budget: int, wanted: Mapping[Key, int], shares: Mapping[Key, Share]) -> dict[Key, int]:
    """Tokens for each part: never more than it wants, together never more than the budget.

    As long as a part wants more, nothing of the budget is left: what one does not use goes to the others.

    Args:
        wanted: tokens that each part could use; parts without a share have one of weight 0.
    """
    nothing = Share(weight=0.0)
    parts = sorted(wanted, key=lambda part: (shares.get(part, nothing).order, part))
    given = dict.fromkeys(parts, 0)
    left = max(0, budget)
    for part in parts:
        given[part] = min(shares.get(part, nothing).minimum, max(0, wanted[part]), left)
        left -= given[part]
    for weighted in (True, False):
        while left > 0:
            open_ = [part for part in parts if given[part] < wanted[part]]
            weights = {part: shares.get(part, nothing).weight if weighted else 1.0 for part in open_}
            total = sum(weights.values())
            if total <= 0:
                break
            before = left
            for part in open_:
                more = min(wanted[part] - given[part], int(before * (weights[part] / total)), left)
                given[part] += more
                left -= more
            if left == before:  # fewer tokens than parts
                for part in open_:
                    if weights[part] > 0 and left > 0:
                        given[part] += 1
                        left -= 1
    return given
