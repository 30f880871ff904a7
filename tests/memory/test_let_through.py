"""What filters let through is kept for the state of the memories that asks, and says what asking anew would say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from adaptive_llm_gateway.core import Trust, new_ulid
from adaptive_llm_gateway.memory import Author, Filters, Hit, Record
from adaptive_llm_gateway.memory._chunk_table import Block, ChunkTable
from adaptive_llm_gateway.memory._distinct import distinct
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._let_through import LetThrough, RecentlyLetThrough, asked_of
from adaptive_llm_gateway.memory._values import Within

INTERNAL = Filters(within=Within(Trust.INTERNAL))
ALPHA = Filters(within=Within(Trust.INTERNAL, ("alpha",)))
_NOW = datetime(2026, 11, 20, tzinfo=UTC)
_BASE = Record("", "note", "A title", "", "", "a" * 40, 0, 0, _NOW, _NOW, Author("somebody"))


def record(body: str, *, id: str = "", project: str = "alpha", trust: Trust = Trust.INTERNAL) -> Record:
    id_ = id or new_ulid()
    return replace(_BASE, id=id_, path=f"notes/{id_}.md", body=f"{body}\n", project=project, trust=trust)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index.sqlite3") as opened:
        yield opened


def found(index: Index, query: str, filters: Filters) -> tuple[Hit, ...]:
    return index.search(query, filters=filters, limit=50).hits


def told(hits: tuple[Hit, ...]) -> list[tuple[str, float, dict[str, float]]]:
    return [(hit.record.id, hit.score, dict(hit.signals)) for hit in hits]


def scores(hits: tuple[Hit, ...]) -> dict[str, float]:
    return {hit.record.id: hit.score for hit in hits}


def test_a_memory_is_hidden_from_the_search_after_the_one_that_raised_it(index: Index) -> None:
    seen, raised = record("an orca swims"), record("an orca sleeps")
    index.apply([seen, raised])
    assert {hit.record.id for hit in found(index, "orca", INTERNAL)} == {seen.id, raised.id}

    index.apply([record("an orca sleeps", id=raised.id, trust=Trust.SECRET)])
    assert [hit.record.id for hit in found(index, "orca", INTERNAL)] == [seen.id]

    index.apply([record("an orca sleeps", id=raised.id)])
    assert {hit.record.id for hit in found(index, "orca", INTERNAL)} == {seen.id, raised.id}
    index.apply(deletes=[raised.id])
    assert [hit.record.id for hit in found(index, "orca", INTERNAL)] == [seen.id]


def test_scores_stay_those_of_an_index_without_what_is_hidden_whatever_was_asked_before(tmp_path: Path) -> None:
    words, levels = ("orca", "walrus", "heron", "otter"), (Trust.PUBLIC, Trust.INTERNAL, Trust.INTERNAL, Trust.SECRET)
    made = [
        record(
            f"number {place} {' '.join(words[place * k % 4] for k in range(place % 7 + 1))}",
            project=("alpha", "beta")[place % 3 == 0],
            trust=levels[place % 4],
        )
        for place in range(60)
    ]
    secret = {each.id for each in made if each.trust is Trust.SECRET}
    others = {each.id for each in made if each.project != "alpha"}
    with Index(tmp_path / "whole.sqlite3") as whole:
        for step in range(0, 60, 12):
            gone = {each.id for each in made[: step // 2 : 3]}
            whole.apply(made[step : step + 12], sorted(gone))
            for name, filters, hidden in (("internal", INTERNAL, secret), ("alpha", ALPHA, secret | others)):
                with Index(tmp_path / f"{name}{step}.sqlite3") as part:
                    part.apply([each for each in made[: step + 12] if each.id not in gone | hidden])
                    for query in ("orca", "walrus heron", "orca otter walrus"):
                        expected = scores(found(part, query, Filters()))
                        for _ in range(2):  # found out, and kept
                            assert scores(found(whole, query, filters)) == expected


def test_who_sees_all_there_is_is_answered_as_who_sees_everything(index: Index) -> None:
    index.apply([record(f"an orca and {number} herons", trust=Trust.PUBLIC) for number in range(20)])
    for query in ("orca herons", ""):
        assert told(found(index, query, INTERNAL)) == told(found(index, query, Filters()))

    secret = record("an orca, an orca, and herons", trust=Trust.SECRET)
    index.apply([secret])
    for query in ("orca herons", ""):
        assert secret.id not in [hit.record.id for hit in found(index, query, INTERNAL)]
        assert secret.id in [hit.record.id for hit in found(index, query, Filters())]


def test_other_filters_choose_among_what_is_seen(index: Index) -> None:
    mine, hidden = record("orca swims"), record("orca sleeps", trust=Trust.SECRET)
    other = record("orca dives", project="beta")
    index.apply([mine, hidden, other])

    for _ in range(2):
        both = Filters(project=("alpha", "beta"), within=INTERNAL.within)
        assert {hit.record.id for hit in found(index, "orca", both)} == {mine.id, other.id}
        beta = Filters(project="beta", within=INTERNAL.within)
        assert [hit.record.id for hit in found(index, "orca", beta)] == [other.id]
        nothing = Filters(ids=(hidden.id,), within=INTERNAL.within)
        assert found(index, "orca", nothing) == ()


def test_an_index_that_is_filled_anew_lets_through_what_it_has_then(index: Index) -> None:
    old = record("an orca")
    index.apply([old])
    assert [hit.record.id for hit in found(index, "orca", INTERNAL)] == [old.id]

    index.reset()
    assert found(index, "orca", INTERNAL) == ()
    # The row is the first again, as the one that was seen.
    hidden, fresh = record("an orca", trust=Trust.SECRET), record("an orca and a heron")
    index.apply([hidden])
    assert found(index, "orca", INTERNAL) == ()
    index.apply([fresh])
    assert [hit.record.id for hit in found(index, "orca", INTERNAL)] == [fresh.id]

    index.start_over()
    index.apply([hidden])
    assert found(index, "orca", INTERNAL) == ()


def _let_through(*memories: int) -> LetThrough:
    return LetThrough(distinct(np.array(memories, np.int64)), everything=False)


def test_what_was_let_through_is_known_to_who_sees_the_same_state_alone() -> None:
    recent, asked = RecentlyLetThrough(), asked_of("m.trust <= ?", [1])
    recent.put("a", asked, _let_through(1, 2))

    kept = recent.get("a", asked)
    assert kept is not None
    assert kept.memories.ids.tolist() == [1, 2]
    assert recent.get("b", asked) is None
    assert recent.get(None, asked) is None
    assert recent.get("a", asked_of("m.trust <= ?", [2])) is None

    recent.put("b", asked, _let_through(1))
    assert recent.get("a", asked) is None
    recent.put(None, asked, _let_through(7))
    kept = recent.get("b", asked)
    assert kept is not None
    assert kept.memories.ids.tolist() == [1]


def test_filters_that_were_not_asked_for_longest_go_when_the_room_is_full() -> None:
    recent = RecentlyLetThrough(room=12, overhead=1)
    first, second, third, fourth, large = (asked_of(name, []) for name in ("1", "2", "3", "4", "5"))
    for asked in (first, second, third):
        recent.put("a", asked, _let_through(1, 2, 3))
    assert recent.get("a", first) is not None

    recent.put("a", fourth, _let_through(1, 2, 3))
    recent.put("a", large, _let_through(*range(1, 20)))

    assert recent.get("a", first) is not None
    assert recent.get("a", second) is None
    assert recent.get("a", fourth) is not None
    assert recent.get("a", large) is None


def test_what_is_known_of_a_part_is_made_anew_when_the_table_has_changed() -> None:
    table, recent, asked = ChunkTable(), RecentlyLetThrough(), asked_of("m.trust <= ?", [1])
    table.put([Block(1, None, 0, [(1, 10)]), Block(2, None, 0, [(2, 20)])])
    seen = _let_through(1)
    recent.put("a", asked, seen)
    part = recent.part("a", asked, table, seen)
    assert recent.part("a", asked, table, seen) is part
    assert recent.part(None, asked, table, seen) is not part

    table.put([Block(1, None, 0, [(3, 15)])], [1])  # the file had it before: its state is the same
    assert recent.part("a", asked, table, seen).sizes.length == 15
