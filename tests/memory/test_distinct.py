"""Distinct ids by table say what numpy says by sorting."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.memory._distinct import distinct

_IDS = st.lists(st.integers(-30, 300) | st.integers(-(2**40), 2**40), max_size=60)  # close together, and far apart


@given(_IDS, _IDS)
def test_places_and_membership_are_those_of_sorting(ids: list[int], asked: list[int]) -> None:
    known = distinct(np.array(ids, np.int64))
    expected = sorted(set(ids))

    assert known.ids.tolist() == expected
    wanted = np.array(asked, np.int64)
    assert known.places(wanted).tolist() == [expected.index(id_) if id_ in ids else -1 for id_ in asked]
    assert known.has(wanted).tolist() == [id_ in ids for id_ in asked]


def test_nothing_is_among_no_ids() -> None:
    known = distinct(np.zeros(0, np.int64))

    assert known.has(np.array([0, 1, -1], np.int64)).tolist() == [False, False, False]
