"""A greedy knapsack over steps that come in order: of each item its first step, then its second, and so on. Pure.

The values are those of the steps, less what others that were taken have said already. Greedy by value per token; for
values that do not depend on each other, what it takes and the first step that did not fit are together worth no less
than the best that the budget allows (the linear relaxation of the multiple-choice knapsack, Sinha and Zoltners 1979).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


class Step:
    """One more piece of an item.

    Args:
        value: what it adds when nothing else is taken.
        says: what it tells, or what finds that out, once; a later step that tells the same is worth less.
    """

    __slots__ = ("_says", "value")

    def __init__(self, value: float, says: frozenset[str] | Callable[[], frozenset[str]] = frozenset()) -> None:
        self.value = value
        self._says = says

    @property
    def says(self) -> frozenset[str]:
        """What it tells."""
        if callable(self._says):
            self._says = self._says()
        return self._says


@dataclass(slots=True)
class Choice:
    """What was taken.

    Attributes:
        taken: (item, step) in the order in which they were taken.
        spent: tokens, by the costs that were given.
        value: of what was taken, without what repeats.
        missed: the value of the best step that did not fit, by value per token, as it stood; 0 when everything fits.
    """

    taken: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    spent: int = 0
    value: float = 0.0
    missed: float = 0.0


Cost = Callable[[int, int], int]
_UNSEEN = -1
REPEATED = 0.5  # of its value, what a step loses when all that it says was said; far less when only half was


def choose(
    items: Sequence[Sequence[Step]],
    budget: int,
    cost: Cost,
    *,
    taken: Sequence[tuple[int, int]] = (),
    guess: Callable[[int, int], float] | None = None,
    expected: Callable[[int], float] | None = None,
    took: Callable[[int, int], None] | None = None,
    smallest: int = 0,
) -> Choice:
    """Take steps as long as they fit.

    Args:
        items: the steps of each, best first by value per token.
        cost: tokens of a step as things stand: asked when the step is the best one, and again after others were taken.
        taken: what is in already, for nothing.
        guess: tokens of a step, quickly, for the order in which costs are asked; better too few than too many.
        expected: value per token of an item's first step, roughly: its steps are asked for only when its turn comes.
        smallest: tokens that no step is below; with as many left it is done.
        took: told of each step that is taken.
    """
    choice = Choice()
    said: set[str] = set()
    start = dict[int, int]()
    for item, step in taken:
        said |= items[item][step].says
        start[item] = max(start.get(item, 0), step + 1)

    def worth(item: int, step: int) -> float:
        one = items[item][step]
        if not one.says:
            return one.value
        return one.value * (1 - REPEATED * (len(one.says & said) / len(one.says)) ** 3)

    heap: list[tuple[float, int, int]] = []

    def offer(item: int, step: int) -> None:
        if step < len(items[item]):
            tokens = guess(item, step) if guess is not None else cost(item, step)
            heapq.heappush(heap, (-items[item][step].value / max(tokens, 1e-9), item, step))

    for item in range(len(items)):
        if expected is None or item in start:
            offer(item, start.get(item, 0))
        else:
            heapq.heappush(heap, (-expected(item), item, _UNSEEN))
    while heap and choice.spent < budget - smallest:
        rate, item, step = heapq.heappop(heap)
        if step == _UNSEEN:
            offer(item, 0)
            continue
        tokens = cost(item, step)
        value = worth(item, step)
        real = value / max(tokens, 1e-9)
        if heap and real < -heap[0][0] and -real > rate:
            heapq.heappush(heap, (-real, item, step))  # others may be better now
            continue
        if choice.spent + tokens > budget:
            choice.missed = max(choice.missed, value)
            continue
        choice.taken.append((item, step))
        choice.spent += tokens
        choice.value += value
        said |= items[item][step].says
        if took is not None:
            took(item, step)
        offer(item, step + 1)
    if heap and not choice.missed:
        choice.missed = worth(heap[0][1], max(heap[0][2], 0))
    return choice
