"""Words of a query that stand near each other in a line of a passage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.memory._together import REACH, Together


def test_words_side_by_side_are_worth_more_the_nearer_they_stand() -> None:
    red_bicycle = Together(["red", "bicycle"])

    beside, apart = red_bicycle.of("the red bicycle"), red_bicycle.of("the bicycle that Ana has is red")

    assert 1 > beside > apart > 0
    assert red_bicycle.of("red" + " " * (REACH - 1) + "bicycle") > 0
    assert red_bicycle.of("red" + " " * REACH + "bicycle") == 0


def test_each_pair_counts_where_it_is_nearest() -> None:
    three = Together(["red", "bicycle", "cellar"])

    assert three.of("a red bicycle, the bicycle is red; red, and a red bicycle") == three.of("a red bicycle")
    assert three.of("a red bicycle in the cellar") > three.of("a red bicycle")


def test_words_of_two_lines_are_not_together() -> None:
    asked = Together(["ana", "cat"])

    assert asked.of("Bo: I have a cat.\nAna: Nice!") == 0
    assert asked.of("Bo: I have a cat.\nAna: My cat is ill.") > 0


@pytest.mark.parametrize(
    ("word", "said"),
    [("file", "filing"), ("happy", "happiness"), ("cities", "City"), ("paint", "PAINTED"), ("dog", "dogs"), ("i", "I")],
)
def test_words_are_together_in_any_inflection(word: str, said: str) -> None:
    assert Together([word, "xylophone"]).of(f"the {said} xylophone") > 0


def test_a_word_within_another_is_none() -> None:
    assert Together(["art", "show"]).of("the party shows a cart") == 0
    assert Together(["art", "show"]).of("artful showers") == 0


@pytest.mark.parametrize("words", [[], ["one"], ["one", "one"], ["dog", "dogs"], ["", "?"]])
def test_fewer_than_two_words_are_never_together(words: list[str]) -> None:
    assert not Together(words)


@given(st.lists(st.text(max_size=8), max_size=20), st.text(max_size=200))
def test_any_words_and_any_text_are_read_to_the_end(words: list[str], text: str) -> None:
    pairs = len(words) * (len(words) - 1) / 2

    assert 0 <= Together(words).of(text + " ".join(words)) <= pairs


def test_a_word_longer_than_words_are_is_not_looked_for() -> None:
    long = "x" * 16_000

    assert not Together([long, "red"])
    assert Together([long, "red", "bicycle"]).of(f"{long} red bicycle") == Together(["red", "bicycle"]).of(
        "a red bicycle"
    )
