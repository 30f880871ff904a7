from __future__ import annotations

import apsw
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.memory._bm25 import Facts, WordScores
from adaptive_llm_gateway.memory._query import MAX_TERMS, any_of, indexed_text, plan_query
from adaptive_llm_gateway.memory._ranking import (
    SNIPPET,
    Scored,
    Weights,
    aftermath,
    fuse,
    recency,
    same_but_for_wording,
    snippet,
    title_share,
)
from adaptive_llm_gateway.memory._sql import fetch_all, run
from adaptive_llm_gateway.memory._vectors import VectorCache, cosine, quantise

NAN = float("nan")
_HOSTILE = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.sampled_from(
            [
                '"',
                "'",
                "*",
                "(",
                ")",
                "NEAR(",
                "AND",
                "OR",
                "NOT",
                "^",
                ":",
                "title:",
                "-",
                "+",
                "\0",
                "{a b}",
                "日本",
                "word",
            ]
        ),
        max_size=30,
    ).map(" ".join),
)


@pytest.fixture(scope="module")
def words() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    run(connection, "CREATE VIRTUAL TABLE words USING fts5(title, body, tokenize='porter unicode61')")
    run(connection, "INSERT INTO words VALUES ('near', 'word 日本 and or not title')")
    return connection


@given(_HOSTILE)
def test_no_query_reaches_fts5_as_syntax(words: apsw.Connection, query: str) -> None:
    plan = plan_query(query)

    for match in [any_of(plan.phrases, plan.words), *(any_of([phrase]) for _, phrase in plan.literals)]:
        if match:
            fetch_all(words, "SELECT rowid FROM words WHERE words MATCH ?", (match,))


def test_a_query_of_a_hundred_kilobytes_has_a_bounded_number_of_terms() -> None:
    plan = plan_query(" ".join(f"word{n}x" for n in range(15_000)))

    assert len(plan.phrases) + len(plan.words) <= 2 * MAX_TERMS
    assert len(plan_query(" ".join(f'"some {n}"' for n in range(1_500))).phrases) == MAX_TERMS


@pytest.mark.parametrize("part", ["a", "a.", "1-", "((", '"', "日", " ", "a/b", "\u0301"])
def test_one_word_of_a_hundred_kilobytes_is_read_to_the_end(part: str) -> None:
    assert not plan_query("x" + part * 100_000).blank


def test_stop_words_are_dropped_unless_there_is_nothing_else() -> None:
    assert plan_query("what is the deadline").terms == ("deadline",)
    assert plan_query("to be or not to be").terms == ("to", "be", "or", "not")


@pytest.mark.parametrize(
    "identifier",
    [
        "v2.4.7-hotfix",
        "E0433",
        "foo_bar.baz()",
        "src/core/_paths.py",
        "org/repo#123",
        "std::vector",
        "3.14",
        "C#x",
        "a@b.example",
    ],
)
def test_identifiers_become_phrases(identifier: str) -> None:
    plan = plan_query(f"why did {identifier} break?")

    assert any(literal in identifier.lower() for literal, _ in plan.literals) or identifier in {"3.14", "C#x"}


def test_ordinary_words_are_no_identifiers() -> None:
    assert plan_query("well-known and/or decisions about databases, please.").literals == ()


def test_quoted_phrases_are_kept_together() -> None:
    plan = plan_query('notes on "blue green deploy" today')

    assert ("blue green deploy", "blue green deploy") in plan.literals
    assert "blue green deploy" in plan.phrases


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("What did Ana tell (Bo) in New York? Then Cem left", "ana bo new york cem"),
        ("Caching of Redis. How?", "redis"),
        ("where does The API E0433 of łódź and Łódź fail", "api e0433 łódź"),
        ("A b C 1D Ünal's “Quoted” word", "ünal quoted"),
        ("what did ana tell bo", ""),
        ("", ""),
    ],
)
def test_a_word_with_a_capital_letter_within_a_sentence_is_a_name(query: str, names: str) -> None:
    assert plan_query(query).names == set(names.split())


def test_names_of_a_query_of_a_hundred_kilobytes_are_read_to_the_end() -> None:
    for part in (" ", "A ", ' "', " (", "a. "):
        assert len(plan_query("x" + part * 100_000).names) <= 1


def test_scripts_without_spaces_are_searched_by_pairs() -> None:
    words, grams = indexed_text("東京都の天気 today")

    assert words.split() == ["today"]
    assert set(plan_query("天気").words) <= set(grams.split())


def test_a_blank_query_asks_for_the_most_recent() -> None:
    assert plan_query(" \t\n\0 ").blank
    assert not plan_query("???").blank
    assert plan_query("???").words == plan_query("???").phrases == ()


def ranked(
    memories: list[int],
    words: list[float],
    cosines: list[float] | None = None,
    *,
    siblings: int = 1,
    exact: dict[int, float] | None = None,
    **weights: float,
) -> list[Scored]:
    """Chunks 1, 2, ... of these memories, fused; the scores by words are those of the passages alone."""
    size = len(memories)
    zeros = np.zeros(size, np.int64)
    lengths = np.full(size, 10, np.float32)
    about = Facts(np.array(memories, np.int64), zeros + siblings, lengths, zeros, lengths, zeros, zeros)
    own = np.array(words, np.float32)
    nothing = np.zeros(size, np.float32)
    scores = WordScores(own, nothing, nothing, nothing)
    vector = None if cosines is None else np.array(cosines, np.float32)
    literal = {"exact": exact} if exact else {}
    found = fuse(np.arange(1, size + 1), about, scores, vector, literal, Weights(**weights))
    return found.part(0, len(found))


def test_what_both_sides_find_comes_first() -> None:
    found = ranked([10, 20, 30], [5.0, 4.0, 0.0], [0.2, 0.8, 0.7])

    assert [item.memory for item in found] == [20, 30, 10]
    assert [item.by_words for item in found] == [True, False, True]


@pytest.mark.parametrize(("days", "value"), [(-400.0, 1.0), (0.0, 1.0), (3.5, 0.5), (7.0, 0.0), (400.0, 0.0)])
def test_what_comes_after_a_time_is_less_of_it_each_day(days: float, value: float) -> None:
    assert aftermath(days) == value


def test_a_memory_is_ranked_by_its_best_chunk() -> None:
    assert [(item.memory, item.chunk) for item in ranked([7, 7, 8], [1.0, 9.0, 5.0])] == [(7, 2), (8, 3)]


def test_a_memory_is_found_by_the_chunk_that_matches_though_another_scores_more_without() -> None:
    assert [(item.memory, item.chunk) for item in ranked([7, 7], [1.0, 0.0], [-0.5, 0.1])] == [(7, 1)]


def test_vectors_far_away_alone_are_no_match() -> None:
    assert [item.memory for item in ranked([1, 2], [0.0, 0.0], [0.05, 0.5])] == [2]


def test_a_literal_match_outweighs() -> None:
    assert ranked([1, 2, 3], [5.0, 4.9, 1.0], exact={2: 1.0})[0].memory == 2


def test_what_has_no_vector_yet_is_taken_for_an_ordinary_candidate() -> None:
    found = ranked([1, 2, 3], [5.0, 5.0, 5.0], [0.6, NAN, 0.2])

    assert [item.memory for item in found] == [1, 2, 3]


def test_the_best_of_many_passages_is_worth_less_than_the_same_alone() -> None:
    alone, many = ranked([1], [1.0], [0.5]), ranked([1], [1.0], [0.5], siblings=9)

    assert many[0].score < alone[0].score
    assert ranked([1], [1.0], [0.5], siblings=9, length=0.0)[0].score == alone[0].score


_SCORES = st.tuples(st.integers(1, 20), st.floats(0, 50, width=32), st.floats(-1, 1, width=32) | st.just(NAN))


@given(st.lists(_SCORES, max_size=40))
def test_fusion_gives_finite_scores_in_order_that_signals_add_up_to(
    rows: list[tuple[int, float, float]],
) -> None:
    found = ranked([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])

    scores = [item.score for item in found]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)
    assert len({item.memory for item in found}) == len(found)
    assert scores == pytest.approx([sum(item.signals.values()) for item in found], abs=1e-5)


def test_age_counts_little_and_the_future_as_now() -> None:
    assert recency(-5) == recency(0) == 1.0
    assert recency(30) == pytest.approx(0.5)


def test_titles_count_by_share() -> None:
    assert title_share("Deploy to Staging", ["deploy", "production"]) == 0.5
    assert title_share("", ["x"]) == 0.0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("The deploy uses blue green.", "the deploy uses BLUE-GREEN", True),
        ("The port of the service is 8080.", "The port of the service is 8081.", False),
        ("We do want retries in the client.", "We do not want retries in the client.", False),
        ("Alice likes green tea.", "Bob likes green tea.", False),
        ("The limit is -5 degrees.", "The limit is 5 degrees.", False),
        ("The build is green ✅", "The build is green ❌", False),
        ("Port 80 for 2 nodes, 3 in all.", "Port 80 for 3 nodes, 3 in all. 2", False),
    ],
)
def test_only_the_same_in_other_words_is_a_duplicate(first: str, second: str, same: bool) -> None:
    assert same_but_for_wording(first, second) is same


def test_a_snippet_is_whole_lines_around_the_match_with_their_numbers() -> None:
    text = "\n".join(f"line {n} " + "filler " * 10 for n in range(20)) + "\nthe needle is here\nand after"

    part, (first, last) = snippet(text, 5, ["needle"])

    assert "the needle is here" in part
    assert part.split("\n") == text.split("\n")[first - 5 : last - 4]
    assert len(part) <= SNIPPET


def test_a_snippet_of_a_long_line_shows_the_term() -> None:
    part, lines = snippet("word " * 500 + "needle " + "word " * 500, 3, ["needle"])

    assert "needle" in part
    assert len(part) <= SNIPPET + 2
    assert lines == (3, 3)


@given(st.text(max_size=2_000), st.lists(st.text(min_size=1, max_size=5), max_size=5))
def test_snippets_are_bounded_for_any_text(text: str, terms: list[str]) -> None:
    part, (first, last) = snippet(text, 1, terms)

    assert len(part) <= SNIPPET + 2
    assert 1 <= first <= last


def test_int8_codes_keep_the_cosine() -> None:
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((50, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    assert np.abs(cosine(quantise(rows), rows[0]) - rows @ rows[0]).max() < 0.01


def test_the_vector_cache_finds_replaces_and_forgets() -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((9_000, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cache = VectorCache(64)
    order = rng.permutation(9_000)
    for part in np.array_split(order, 7):
        cache.add((part + 1).tolist(), (part // 2).tolist(), quantise(rows[part]))

    assert len(cache) == 9_000
    assert cache.nearest(rows[17], 10).chunks[0] == 18
    assert set(cache.nearest(rows[17], 10, np.array([3, 4])).memories.tolist()) == {3, 4}
    assert len(cache.nearest(rows[17], 10, np.zeros(0, np.int64)).chunks) == 0

    cache.add([18], [8], quantise(rows[40:41]))
    assert cache.nearest(rows[40], 2).chunks.tolist() in ([41, 18], [18, 41])
    cache.remove(list(range(1, 4_000)))
    assert len(cache) == 5_001
    assert cache.nearest(rows[5_000], 1).chunks.tolist() == [5_001]
    known, codes = cache.rows(np.array([18, 5_001, 99_999]))
    assert known.tolist() == [False, True, False]
    assert codes.tolist() == quantise(rows[5_000:5_001]).tolist()
