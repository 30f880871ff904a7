"""What is kept of memories for searches is what the index has in the state that a search sees."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import Trust, new_ulid
from adaptive_llm_gateway.memory import Author, Filters, Link, Record
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._recent_rows import RecentRows
from adaptive_llm_gateway.memory._values import Within

_NOW = datetime(2026, 11, 20, tzinfo=UTC)
_BASE = Record("", "note", "A title", "", "", "a" * 40, 0, 0, _NOW, _NOW, Author("somebody"))


def record(body: str, *, id: str = "", title: str = "A title", trust: Trust = Trust.INTERNAL) -> Record:
    id_ = id or new_ulid()
    return replace(_BASE, id=id_, path=f"notes/{id_}.md", title=title, body=f"{body}\n", trust=trust)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(tmp_path / "index.sqlite3") as opened:
        yield opened


class Reads:
    """Gives the text of each id that there is, and remembers which were asked for."""

    def __init__(self, *there: int, text: str = "read") -> None:
        self.there, self.text = there, text
        self.asked: list[list[int]] = []

    def __call__(self, wanted: Sequence[int]) -> dict[int, str]:
        self.asked.append(list(wanted))
        return {id_: f"{self.text} {id_}" for id_ in wanted if id_ in self.there}


def test_only_what_is_not_known_in_this_state_is_read() -> None:
    kept, reads = RecentRows[str](1_000, len), Reads(1, 2, 3)

    assert kept.of("a", [1, 2, 9], reads) == {1: "read 1", 2: "read 2"}
    assert kept.of("a", [2, 3, 3], reads) == {2: "read 2", 3: "read 3"}
    assert kept.of("b", [2], reads) == {2: "read 2"}
    assert kept.of("a", [2], reads) == {2: "read 2"}
    assert reads.asked == [[1, 2, 9], [3, 3], [2], [2]]


def test_where_the_state_has_no_name_nothing_is_kept() -> None:
    kept, reads = RecentRows[str](1_000, len), Reads(1)

    assert [kept.of(None, [1], reads) for _ in range(2)] == [{1: "read 1"}] * 2
    assert len(reads.asked) == 2


def test_what_came_first_goes_when_the_room_is_full_and_what_is_too_large_never_comes() -> None:
    kept = RecentRows[str](24, len)
    for id_ in (1, 2, 3, 4, 5):
        kept.of("a", [id_], Reads(id_))  # six characters each

    reads = Reads(1, 2, 3, 4, 5)
    assert kept.of("a", [2, 3, 4, 5], reads) == {id_: f"read {id_}" for id_ in (2, 3, 4, 5)}
    assert reads.asked == []
    kept.of("a", [7], Reads(7, text="far too long"))
    kept.of("a", [7], reads)
    assert reads.asked == [[7]]


def test_memories_that_are_kept_take_no_more_memory_than_the_room_says() -> None:
    room = 400_000
    kept = RecentRows[str](room, lambda text: 200 + len(text))
    tracemalloc.start()
    try:
        for number in range(20_000):
            kept.of("a", [number], lambda wanted: {wanted[0]: f"{wanted[0]:100}"})
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < 1.25 * room


def test_threads_that_see_two_states_get_the_rows_of_their_own() -> None:
    kept = RecentRows[str](600, len)
    wrong: list[object] = []

    def ask(state: str) -> None:
        reads = Reads(*range(40), text=state)
        for number in range(2_000):
            wanted = [number % 40, number * 7 % 40]
            if kept.of(state, wanted, reads) != {id_: f"{state} {id_}" for id_ in wanted}:
                wrong.append((state, wanted))

    threads = [threading.Thread(target=ask, args=(state,)) for state in "abab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def test_a_search_has_what_was_written_before_it(index: Index) -> None:
    first, second = record("an orca swims"), record("an orca sleeps")
    index.apply([first, second])
    assert {hit.record.body for hit in index.search("orca").hits} == {"an orca swims\n", "an orca sleeps\n"}

    for number in range(3):
        again = replace(
            first,
            title=f"Title {number}",
            body=f"much more text, and an orca dives {number}\n",
            version=str(number) * 40,
            fields={"status": ("open", "done")[number % 2]},
            links=(Link("supersedes", second.id),) if number else (),
        )
        index.apply([again])
        hits = {hit.record.id: hit for hit in index.search("orca").hits}
        assert hits[first.id].record == again
        assert f"an orca dives {number}" in hits[first.id].snippet
        assert ("over" in hits[first.id].signals) == bool(number % 2)
        assert ("over" in hits[second.id].signals) == bool(number)

    index.apply(deletes=[second.id])
    assert [hit.record.id for hit in index.search("orca").hits] == [first.id]


def test_who_changes_the_fields_of_a_hit_changes_no_other_hit(index: Index) -> None:
    index.apply([replace(record("an orca"), fields={"status": "open", "parts": ["fin"]})])
    fields = index.search("orca").hits[0].record.fields
    fields["status"] = "done"
    fields["parts"].append("tail")

    assert index.search("orca").hits[0].record.fields == {"status": "open", "parts": ["fin"]}


def test_what_another_search_has_read_is_shown_to_nobody_who_may_not_see_it(index: Index) -> None:
    seen, hidden = record("an orca swims"), record("an orca sleeps", trust=Trust.SECRET)
    index.apply([seen, hidden])
    assert len(index.search("orca").hits) == 2

    narrowed = index.search("orca", filters=Filters(within=Within(Trust.INTERNAL)))
    assert [hit.record.id for hit in narrowed.hits] == [seen.id]


def test_an_index_that_was_filled_anew_has_nothing_of_before(index: Index) -> None:
    old = record("an orca swims")
    index.apply([old])
    assert index.search("orca").hits[0].record == old
    index.reset()
    new = record("an orca sings")
    index.apply([new])

    assert [hit.record for hit in index.search("orca").hits] == [new]
