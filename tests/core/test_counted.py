"""Numbers of things in words."""

from __future__ import annotations

import pytest

from adaptive_llm_gateway.core import counted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((0, "file"), "0 files"),
        ((1, "file"), "1 file"),
        ((2, "file"), "2 files"),
        ((1, "memory", "memories"), "1 memory"),
        ((1_200, "memory", "memories"), "1,200 memories"),
    ],
)
def test_one_thing_and_several_have_their_words(given: tuple[int, str], words: str) -> None:
    assert counted(*given) == words
