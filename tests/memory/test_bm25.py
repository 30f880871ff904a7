from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._bm25 import K1, NAME, NEIGHBOUR, B, Facts, Postings, Sizes, Words
from adaptive_llm_gateway.memory._chunk_table import Block, ChunkTable
from adaptive_llm_gateway.memory._vectors import Integers

Found = list[dict[int, float]]  # for each term, how often it occurs in each chunk


def table_of(*blocks: tuple[int, int | None, list[int]]) -> ChunkTable:
    """Memories with the chunks of a hundred characters each, made one after the other."""
    table = ChunkTable()
    table.put([Block(memory, thread, memory, [(chunk, 100) for chunk in chunks]) for memory, thread, chunks in blocks])
    return table


def words(table: ChunkTable, found: Found, *, only: set[int] | None = None, names: tuple[int, ...] = ()) -> Words:
    rows = [(term, chunk, count) for term, places in enumerate(found) for chunk, count in sorted(places.items())]
    postings = Postings(
        np.array([row[0] for row in rows], np.int32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float32),
        len(found),
        names,
    )

    def allowed(memories: Integers) -> NDArray[np.bool_]:
        return np.isin(memories, list(only or ()))

    return Words(postings, table.sizes, table.about, None if only is None else allowed)


def scores(table: ChunkTable, found: Found, *chunks: int) -> tuple[list[float], list[float], list[float]]:
    ids = np.array(chunks, np.int64)
    own, around, group, _ = words(table, found).scores(ids, table.about(ids))
    return own.tolist(), around.tolist(), group.tolist()


def idf(found: int, total: int) -> float:
    return math.log(1 + (total - found + 0.5) / (found + 0.5))


def test_a_passage_alone_has_the_bm25_of_the_textbook() -> None:
    table = ChunkTable()
    table.put([Block(1, None, 0, [(1, 50)]), Block(2, None, 0, [(2, 150)]), Block(3, None, 0, [(3, 100)])])

    own, _, _ = scores(table, [{1: 1, 2: 3}, {2: 1}], 1, 2, 3)

    def part(frequency: float, length: int, documents: int) -> float:
        return idf(documents, 3) * frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * length / 100))

    assert own == pytest.approx([part(1, 50, 2), part(3, 150, 2) + part(1, 150, 1), 0.0], rel=1e-5)


def test_a_word_beside_counts_less_and_never_twice() -> None:
    table = table_of((1, None, [1, 2, 3]), (2, None, [4, 5, 6]))
    once: Found = [{1: 1}]
    both: Found = [{1: 1, 3: 1}]

    own, around, _ = scores(table, once, 1, 2, 3)
    assert around == pytest.approx([own[0], NEIGHBOUR * own[0], 0.0])

    own, around, _ = scores(table, both, 1, 2, 3)
    assert around[1] == pytest.approx(NEIGHBOUR * own[0])


def test_different_words_of_a_passage_and_its_neighbours_add_up() -> None:
    table = table_of((1, None, [1, 2, 3]))

    own, around, _ = scores(table, [{1: 1}, {2: 1}, {3: 1}], 1, 2, 3)

    assert around[1] == pytest.approx(own[1] + NEIGHBOUR * (own[0] + own[2]))


def test_a_passage_in_a_text_about_the_matter_stands_higher() -> None:
    table = table_of((1, None, [1, 2, 3]), (2, None, [4, 5, 6]), (3, None, [7]))

    own, _, group = scores(table, [{1: 1, 2: 2, 4: 1}, {3: 1}], 1, 4)

    assert own[0] == own[1]
    assert group[0] > group[1] > 0


def test_memories_of_one_thread_are_one_group_and_neighbours() -> None:
    table = table_of((1, 9, [1]), (2, 9, [2]), (3, None, [3]))

    _, around, group = scores(table, [{1: 1}], 1, 2, 3)

    assert around[1] > 0
    assert around[2] == 0
    assert group[0] == group[1] > group[2] == 0


def test_a_group_has_the_share_of_the_names_that_its_passages_have_together() -> None:
    table = table_of((1, None, [1, 2]), (2, None, [3]), (3, None, [4]), (4, None, [5]))
    found: Found = [{1: 1, 3: 9}, {2: 1}, {4: 1}]  # the third is no name
    ids = np.array([1, 2, 3, 4, 5], np.int64)

    *_, names = words(table, found, names=(0, 1)).scores(ids, table.about(ids))

    common, rare = idf(2, 4), idf(1, 4)
    assert names.tolist() == pytest.approx([1.0, 1.0, common / (common + rare), 0.0, 0.0])
    assert words(table, found).scores(ids, table.about(ids)).names.tolist() == [0.0] * 5


def test_a_name_counts_more_than_a_word_as_rare_in_a_group_alone() -> None:
    table = table_of((1, None, [1]), (2, None, [2]), (3, None, [3]))
    found: Found = [{1: 1}, {2: 1}]
    ids = np.array([1, 2], np.int64)

    own, around, group, _ = words(table, found, names=(0,)).scores(ids, table.about(ids))

    assert own[0] == own[1]
    assert around[0] == around[1]
    assert group[0] == pytest.approx(NAME * group[1])


def test_the_best_come_first_and_neighbours_without_a_word_behind_them() -> None:
    table = table_of((1, None, [1, 2]), (2, None, [3]), (3, None, [4]))
    found: Found = [{1: 1, 3: 3, 4: 1}, {3: 1}]

    assert words(table, found).best(10).tolist() == [3, 1, 4, 2]
    assert words(table, found).best(1).tolist() == [3]


def test_filters_come_before_the_cut() -> None:
    table = table_of((1, None, [1]), (2, None, [2]), (3, None, [3]))

    assert words(table, [{1: 5, 2: 3, 3: 1}], only={3}).best(1).tolist() == [3]


def test_chunks_that_are_gone_are_not_found() -> None:
    table = table_of((1, None, [1]), (2, None, [2]))
    table.put([], gone=[1])

    assert words(table, [{1: 1, 2: 1}]).best(10).tolist() == [2]


def test_a_query_without_a_word_scores_nothing() -> None:
    table = table_of((1, None, [1, 2]))

    assert words(table, []).best(10).tolist() == []
    assert scores(table, [], 1, 2) == ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0])


def test_an_empty_index_scores_nothing() -> None:
    def nothing(chunks: Integers) -> Facts:
        return ChunkTable().about(chunks)

    empty = np.zeros(0, np.int64)
    found = Words(Postings(empty.astype(np.int32), empty, empty.astype(np.float32), 1), Sizes(0, 0, 0.0), nothing, None)

    assert found.best(5).tolist() == []


def test_chunks_that_are_gone_say_nothing_of_how_common_a_word_is() -> None:
    table = table_of(*((memory, None, [memory]) for memory in range(1, 31)))
    found: Found = [dict.fromkeys((1, *range(11, 31)), 1), {2: 1, 3: 1}]
    table.put([], range(11, 31))
    ids = np.array([1, 2], np.int64)

    own, around, group, _ = words(table, found).scores(ids, table.about(ids))
    left: Found = [{1: 1}, {2: 1, 3: 1}]

    assert words(table, found).best(10).tolist() == [1, 2, 3]
    assert own[0] / own[1] == pytest.approx(idf(1, 10) / idf(2, 10))
    for ours, same in zip((own, around, group), scores(table, left, 1, 2), strict=True):
        assert ours.tolist() == pytest.approx(same)
