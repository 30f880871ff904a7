"""The knapsack over steps, against the best there is."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.compression._choose import REPEATED, Step, choose


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[tuple[int, int]]], int]:
    """Items of (value, cost) steps with falling value per token, and a budget."""
    step = st.tuples(st.integers(0, 50), st.integers(1, 20))
    items = draw(st.lists(st.lists(step, min_size=1, max_size=3), max_size=6))
    return [sorted(item, key=lambda s: -s[0] / s[1]) for item in items], draw(st.integers(0, 80))


def exact(items: list[list[tuple[int, int]]], budget: int) -> int:
    best = 0
    for counts in itertools.product(*(range(len(item) + 1) for item in items)):
        taken = [step for item, count in zip(items, counts, strict=True) for step in item[:count]]
        if sum(cost for _, cost in taken) <= budget:
            best = max(best, sum(value for value, _ in taken))
    return best


@settings(max_examples=300, deadline=None)
@given(problems())
def test_with_the_step_that_was_missed_it_is_worth_no_less_than_the_best(
    problem: tuple[list[list[tuple[int, int]]], int],
) -> None:
    items, budget = problem
    choice = choose(
        [[Step(float(value)) for value, _ in item] for item in items], budget, lambda item, step: items[item][step][1]
    )
    assert choice.spent <= budget
    assert choice.spent == sum(items[item][step][1] for item, step in choice.taken)
    assert choice.value + choice.missed >= exact(items, budget) - 1e-9
    for number in range(len(items)):
        assert [step for item, step in choice.taken if item == number] == list(
            range(sum(item == number for item, _ in choice.taken))
        )


def test_what_was_said_is_worth_less_so_that_another_is_taken() -> None:
    same, other = frozenset({"a", "b"}), frozenset({"c", "d"})
    items = [[Step(1.0, same)], [Step(0.9, same)], [Step(0.8, other)]]
    choice = choose(items, 20, lambda item, step: 10)
    assert [item for item, _ in choice.taken] == [0, 2]
    assert choice.missed == 0.9 * (1 - REPEATED)
