"""Which candidates, and which of their units, answer a question."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from adaptive_llm_gateway.compression import Candidate
from adaptive_llm_gateway.compression._forms import form_of
from adaptive_llm_gateway.compression._relevance import features, probabilities, shares, terms_of
from adaptive_llm_gateway.compression._units import units_of

DAY = datetime(2023, 5, 8, 12, tzinfo=UTC)


def candidate(body: str, score: float = 1.0, *, author: str = "chat", seconds: int = 0, **more: object) -> Candidate:
    time = DAY + timedelta(seconds=seconds)
    return Candidate("id", "note", "", body, "path", "version", time, author, score, **more)  # pyright: ignore[reportArgumentType]


def worth(question: str, *candidates: Candidate) -> list[float]:
    terms, hits = terms_of(question, [one.body for one in candidates])
    return probabilities(features(question, candidates, hits, terms)).tolist()


def best_unit(question: str, body: str, **more: object) -> str:
    one = candidate(body, **more)  # pyright: ignore[reportArgumentType]
    terms, (hits,) = terms_of(question, [body])
    units = units_of(body)
    share = np.array(shares(question, one, units, hits, terms))
    assert share.sum() == pytest.approx(1)
    lengths = np.array([unit.end - unit.start for unit in units])
    best = units[int(np.argmax(share / lengths))]
    return body[best.start : best.end]


def test_a_word_is_found_behind_many_words_that_only_begin_or_go_on_like_it() -> None:
    terms, (hits,) = terms_of("Is it written in C?", ["accident cat " * 1_200 + "written in C"])
    assert [terms.stems[place] for _, place in hits] == ["written", "c"]


def test_what_search_scores_higher_is_worth_more() -> None:
    found = worth("a question", *(candidate("the same length", score) for score in (0.9, 0.5, 0.1)))
    assert found == sorted(found, reverse=True)
    assert found[0] > found[2]


def test_who_asks_is_worth_less_than_who_tells_and_whom_the_question_names_more() -> None:
    asks, tells = worth("the deploy", candidate("Did you deploy it at last?"), candidate("We did deploy it at last!!"))
    assert asks < tells
    named, other = worth(
        "What did Anna say?", candidate("It rains.", author="Anna"), candidate("It rains.", author="Ben")
    )
    assert named > other


@pytest.mark.parametrize(
    ("tells", "chats"),
    [
        ("We moved there last spring, it was hard.", "We moved there with ease, it was not hard."),
        ("The pool holds 10 connections now.", "The pool holds its connections now."),
        ("So we went to Kyoto for it.", "So we went to there for it."),
    ],
)
def test_what_says_when_or_how_many_or_names_something_is_worth_more(tells: str, chats: str) -> None:
    more, less = worth("nothing of it", candidate(tells), candidate(chats))
    back, forth = worth("nothing of it", candidate(chats), candidate(tells))
    assert more > less
    assert forth > back


def test_what_was_written_shortly_after_a_good_candidate_is_worth_more_than_what_was_written_later() -> None:
    rest = [candidate("nothing", 0.1, seconds=90_000 + 10_000 * number) for number in range(5)]
    _, soon, late, *_ = worth(
        "x",
        candidate("good one", 1.0),
        candidate("reply", 0.3, seconds=60),
        candidate("reply", 0.3, seconds=9_000),
        *rest,
    )
    assert soon > late


def test_a_rare_word_of_the_question_counts_for_more_than_a_common_one() -> None:
    texts = ["the cat and the zebra", *["the cat sleeps"] * 20]
    terms, _ = terms_of("cat zebra", texts)
    weights = dict(zip(terms.stems, terms.weights.tolist(), strict=True))
    assert weights["zebra"] > 3 * weights["cat"]


def test_words_are_found_with_other_endings_and_in_scripts_without_spaces() -> None:
    terms, hits = terms_of("deploying releases 部署时间", ["We deployed the Release.", "什么时候部署", "art"])
    assert {terms.stems[term] for _, term in hits[0]} == {"deploy", "releas"}
    assert {terms.stems[term] for _, term in hits[1]} == {"部署"}
    assert hits[2] == []


def test_the_unit_with_the_words_the_passage_and_the_person_who_asks_is_the_best() -> None:
    body = "Some text first.\n\nThe zebra lives here.\n\nSome text last."
    assert best_unit("Where does the zebra live?", body) == "The zebra lives here."
    assert best_unit("unrelated", body, passages=((5, 5),)) == "Some text last."
    talk = "assistant: I can tell you of bikes.\n\nuser: I have bikes in my hall.\n\nassistant: Bikes are good."
    assert best_unit("How many bikes do I have in my hall?", talk) == "user: I have bikes in my hall."


def test_a_question_without_words_and_texts_without_any_are_no_error() -> None:
    for question in ("", "?!", "the of", "\ud800", "\x00"):
        assert all(0 < value < 1 for value in worth(question, candidate(""), candidate("\ud800"), candidate("text")))


def test_the_same_words_in_other_company_say_something_else() -> None:
    def says(body: str) -> frozenset[str]:
        terms, (hits,) = terms_of("x", [body])
        return form_of("x", candidate(body), 1.0, hits, terms, "auto", extract=True).steps[0].says

    said = says("The deploy failed because the disk was full.")
    assert said == says("the DEPLOY failed, because the disk was full!")
    assert not said & says("That disk failed. The old deploy was because of a full moon.")
