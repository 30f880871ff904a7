"""One budget over the parts of a package."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.compression import DEFAULT_SHARES, Part, Share, hits_for, split
from adaptive_llm_gateway.core import InvalidInput

NAMES = "abcde"
SHARES = st.builds(Share, minimum=st.integers(0, 300), weight=st.floats(0, 10), order=st.integers(0, 5))


@given(
    st.integers(-10, 10**6),
    st.dictionaries(st.sampled_from(NAMES), st.integers(0, 10_000)),
    st.dictionaries(st.sampled_from(NAMES), SHARES),
)
def test_no_part_gets_more_than_it_wants_and_nothing_is_left_while_one_wants_more(
    budget: int, wanted: dict[str, int], shares: dict[str, Share]
) -> None:
    given_ = split(budget, wanted, shares)
    assert given_.keys() == wanted.keys()
    assert all(0 <= given_[part] <= wanted[part] for part in wanted)
    assert sum(given_.values()) == min(max(budget, 0), sum(wanted.values()))


def test_minimums_come_first_in_their_order_and_the_rest_by_weight() -> None:
    shares = {"a": Share(minimum=50, weight=1, order=1), "b": Share(minimum=50, weight=3, order=0)}
    assert split(60, {"a": 500, "b": 500}, shares) == {"b": 50, "a": 10}
    assert split(300, {"a": 500, "b": 500}, shares) == {"b": 200, "a": 100}


def test_what_a_part_does_not_use_goes_to_the_others() -> None:
    wanted: dict[Part, int] = {"recalled": 5_000, "pinned": 20}
    assert split(1_000, wanted, DEFAULT_SHARES) == {"pinned": 20, "recalled": 980}


@pytest.mark.parametrize(("minimum", "weight"), [(-1, 1.0), (0, -0.1), (0, float("nan")), (0, float("inf"))])
def test_a_share_below_zero_or_without_end_is_refused(minimum: int, weight: float) -> None:
    with pytest.raises(InvalidInput):
        Share(minimum=minimum, weight=weight)


def test_a_larger_package_is_made_from_more_hits() -> None:
    budgets = (1, 1_000, 2_000, 4_000, 100_000)
    assert [hits_for(budget, 10_000) for budget in budgets] == [100, 100, 200, 400, 400]


def test_where_the_first_hits_have_some_times_what_fits_they_are_enough() -> None:
    assert [hits_for(budget, 60_000) for budget in (2_000, 3_750, 4_000)] == [100, 100, 400]
