from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import apsw
import numpy as np
import pytest

from adaptive_llm_gateway.core import InvalidInput, StorageError, Trust, new_ulid
from adaptive_llm_gateway.memory._index import Index, PendingChange, Tombstone
from adaptive_llm_gateway.memory._index_facts import CLASHING
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._pages import Place, encode_cursor, written
from adaptive_llm_gateway.memory._sql import fetch_all, run
from adaptive_llm_gateway.memory._values import Author, Filters, Link, Record

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def record(title: str = "A title", body: str = "A body.\n", *, minutes: int = 0, **changes: object) -> Record:
    id_ = new_ulid()
    moment = START + timedelta(minutes=minutes)
    made = Record(
        id=id_,
        type="note",
        title=title,
        body=body,
        path=f"notes/{id_}.md",
        version="a" * 40,
        mtime_ns=1_700_000_000_123_456_789,
        size=len(body),
        created=moment,
        updated=moment,
        author=Author("codex"),
    )
    return replace(made, **changes)  # pyright: ignore[reportArgumentType]


@pytest.fixture
def index(open_index: Callable[[], MemoryIndex]) -> Iterator[MemoryIndex]:
    with closing(open_index()) as opened:
        yield opened


def test_a_record_comes_back_as_it_was(index: MemoryIndex) -> None:
    whole = record(
        body="Zeile\r\nünïcode \U0001f600\n",
        created=datetime(2025, 5, 1, 8, 30, 0, 123_456, tzinfo=timezone(timedelta(hours=2))),
        author=Author("claude-code", "planner", "laptop"),
        project="atlas",
        tags=("db", "Ünïcode"),
        trust=Trust.CONFIDENTIAL,
        links=(Link("supersedes", new_ulid()),),
        source="https://example.org",
        reason="it was asked for",
        fields={"status": "open", "due": None, "nested": {"a": [1, 2.5, True]}},
    )

    index.apply([whole])

    assert index.get(whole.id) == whole
    assert index.by_path(whole.path) == whole
    assert index.get(new_ulid()) is None


def test_a_time_without_a_zone_is_refused_and_changes_nothing(index: MemoryIndex) -> None:
    good = record()

    with pytest.raises(InvalidInput, match="time zone"):
        index.apply([good, record(created=datetime(2026, 1, 1))])  # noqa: DTZ001

    assert index.get(good.id) is None


def test_an_update_replaces_text_tags_and_words(index: MemoryIndex) -> None:
    first = record(body="about porcupines", tags=("old",))
    index.apply([first])
    second = replace(first, body="about hedgehogs", tags=("new",), version="b" * 40)

    index.apply([second])

    assert index.get(first.id) == second
    assert index.search("porcupines").hits == ()
    assert [hit.record.id for hit in index.search("hedgehogs").hits] == [first.id]
    assert index.list(Filters(tags=("old",))).total == 0
    assert index.list(Filters(tags=("new",))).total == 1


def test_a_deleted_memory_is_found_no_more(index: MemoryIndex) -> None:
    one, two = record(body="alpha"), record(body="alpha beta")
    index.apply([one, two])

    index.apply([], [one.id, new_ulid()])

    assert index.get(one.id) is None
    assert [hit.record.id for hit in index.search("alpha").hits] == [two.id]
    assert index.statistics()["chunks"] == 1


def test_whoever_held_the_path_gives_way(index: MemoryIndex) -> None:
    old = record()
    new = record(path=old.path)

    index.apply([old])
    index.apply([new])

    assert index.get(old.id) is None
    assert index.by_path(old.path) == new


def test_two_memories_may_trade_places(index: MemoryIndex) -> None:
    one, two = record("one"), record("two")
    index.apply([one, two])

    index.apply([replace(one, path="notes/moved.md"), replace(two, path=one.path)])

    assert index.by_path(one.path) == replace(two, path=one.path)
    assert index.by_path("notes/moved.md") == replace(one, path="notes/moved.md")


def test_ids_resolve_by_prefix_and_tail_in_any_case(index: MemoryIndex) -> None:
    one, two = record(), record()
    index.apply([one, two])

    assert index.resolve(one.id.lower()) == [one.id]
    assert index.resolve(one.id[-6:].lower()) == [one.id]
    assert index.resolve(one.id[:4]) == sorted([one.id, two.id])
    assert index.resolve("") == []
    assert index.resolve("%") == []


def test_files_tell_what_a_restart_compares(index: MemoryIndex) -> None:
    one = record()
    index.apply([one])

    assert index.files() == {one.path: (one.mtime_ns, one.size, one.version, one.id)}


@pytest.mark.parametrize("order", ["updated", "created", "title"])
def test_pages_show_each_memory_once(index: MemoryIndex, order: str) -> None:
    made = [record(f"Title {n % 7}", minutes=n % 5) for n in range(23)]
    index.apply(made)
    seen: list[str] = []
    cursor = None

    while True:
        page = index.list(limit=5, cursor=cursor, order=order)  # pyright: ignore[reportArgumentType]
        assert page.total >= 23
        seen += [entry.id for entry in page.records]
        index.apply([record("Title 9", minutes=-1, path=f"notes/extra-{len(seen)}.md")])
        cursor = page.next_cursor
        if cursor is None:
            break

    assert len(seen) == len(set(seen))
    assert {entry.id for entry in made} <= set(seen)


@pytest.mark.parametrize("cursor", ["", "x", "WzEsMiwzXQ", "é", "bnVsbA"])
def test_a_wrong_cursor_is_named(index: MemoryIndex, cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        index.list(cursor=cursor)


@pytest.mark.parametrize("value", [10**30, 2**63, -(2**63) - 1])
def test_a_cursor_with_a_number_that_no_index_has_is_named(index: MemoryIndex, value: int) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        index.list(cursor=encode_cursor("updated", Place(value, new_ulid())))


_ID = "01JC4Q8M3V9Z2K7W5T1R6XHB0D"


@pytest.mark.parametrize(
    "parts",
    [
        ["updated", 1, _ID, None],
        ["updated", 1, _ID, None, True, 1],
        ["updated", True, _ID, None, True],
        ["updated", 1.5, _ID, None, True],
        ["updated", "1", _ID, None, True],
        ["updated", 1, 7, None, True],
        ["updated", 1, "' OR 1=1", None, True],
        ["updated", 1, _ID, 3, True],
        ["updated", 1, _ID, None, 1],
        ["title", 1, _ID, None, True],
        ["title", "x", _ID, None, True],
        [["updated"], 1, _ID, None, True],
        [],
    ],
)
def test_a_cursor_of_wrong_parts_is_named(index: MemoryIndex, parts: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        index.list(cursor=written(parts))


def test_a_cursor_with_half_of_a_surrogate_pair_or_nested_without_end_is_named(index: MemoryIndex) -> None:
    for text in (f'["title","\\ud800","{_ID}",null,true]', "[" * 100_000, '{"title":1}', "7"):
        cursor = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
        with pytest.raises(InvalidInput, match="cursor") as caught:
            index.list(cursor=cursor, order="title")
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("order", ["updated", "created", "title"])
def test_pages_go_on_where_they_were_when_everything_is_read_anew(
    index: MemoryIndex, order: Literal["updated", "created", "title"]
) -> None:
    made = [record(f"Title {n % 3}", minutes=n % 4) for n in range(20)]
    index.apply(made)
    first = index.list(limit=7, order=order)
    index.apply(deletes=[entry.id for entry in made])
    index.apply(made[::-1])
    second = index.list(limit=20, cursor=first.next_cursor, order=order)
    seen = [entry.id for entry in (*first.records, *second.records)]
    assert (len(seen), set(seen)) == (20, {entry.id for entry in made})


@pytest.mark.parametrize("order", ["updated", "created", "title"])
def test_a_cursor_has_what_was_shown_and_tells_nothing_of_what_was_not(
    open_index: Callable[[], MemoryIndex], order: Literal["updated", "created", "title"]
) -> None:
    shown = [record(f"Shown {n}", minutes=n, project="mine") for n in range(3)]
    filters = Filters(project="mine")
    with closing(open_index()) as index:
        index.apply(shown)
        alone = index.list(filters, limit=2, order=order).next_cursor
        index.apply(deletes=[entry.id for entry in shown])
        index.apply([record(f"Hidden {n}", minutes=n, project="other") for n in range(20)])
        index.apply(shown)
        assert index.list(filters, limit=2, order=order).next_cursor == alone


def test_the_journal_keeps_changes_in_order_until_cleared(index: MemoryIndex) -> None:
    author = Author("codex", "reviewer")
    change = PendingChange("notes/a.md", new_ulid(), "write", "A", author, "because")
    later = PendingChange("notes/b.md", new_ulid(), "delete", "B", author)

    seqs = index.apply([record()], pending=[change])
    seqs += index.apply(pending=[later])

    assert index.pending() == [replace(change, seq=seqs[0]), replace(later, seq=seqs[1])]
    index.clear_pending(seqs[:1])
    assert [row.path for row in index.pending()] == ["notes/b.md"]


def test_a_tombstone_stays_until_the_memory_is_back(index: MemoryIndex) -> None:
    gone = record("Gone")
    index.apply([gone])
    stone = Tombstone(gone.id, gone.path, gone.version, gone.type, gone.title, START, Author("codex"), "obsolete")

    index.apply([], [gone.id], tombstones=[stone])

    assert index.tombstone(gone.id) == stone
    assert index.tombstones() == [stone]
    index.apply([gone])
    assert index.tombstone(gone.id) is None


def test_state_is_kept_by_key(index: MemoryIndex) -> None:
    index.meta_set("head", "abc")
    assert index.meta_get("head") == "abc"
    index.meta_set("head", None)
    assert index.meta_get("head") is None


def test_reset_drops_what_files_can_give_again_and_nothing_else(index: MemoryIndex) -> None:
    index.set_embedder("model", 8)
    index.apply([record()], pending=[PendingChange("notes/a.md", new_ulid(), "write", "A", Author("codex"))])
    index.store_vectors([(index.backlog(1)[0][0], np.ones(8, np.float32))])
    index.meta_set("head", "abc")

    index.reset()

    counts = index.statistics()
    assert (counts["memories"], counts["chunks"], counts["vectors"]) == (0, 0, 0)
    assert index.search("title body").hits == ()
    assert len(index.pending()) == 1
    assert index.meta_get("head") == "abc"
    index.apply([record("Again")])
    assert len(index.search("again").hits) == 1


def test_tidying_changes_no_answer(index: MemoryIndex) -> None:
    for number in range(30):
        index.apply([record(f"Title {number}", "the same body")])
    index.apply([], [index.list().records[0].id])
    before = index.search("title body", limit=50)

    index.tidy()

    assert index.search("title body", limit=50) == before


def test_an_index_is_the_same_after_reopening(open_index: Callable[[], MemoryIndex]) -> None:
    kept = record(body="persistent text")
    with closing(open_index()) as index:
        index.apply([kept])

    with closing(open_index()) as index:
        assert index.get(kept.id) == kept
        assert [hit.record.id for hit in index.search("persistent").hits] == [kept.id]


def test_a_closed_index_says_so(open_index: Callable[[], MemoryIndex]) -> None:
    index = open_index()
    index.close()
    index.close()

    with pytest.raises(StorageError, match="closed"):
        index.get(new_ulid())
    with pytest.raises(StorageError, match="closed"):
        index.apply([record()])


def test_the_backlog_gives_each_chunk_until_it_has_a_vector(index: MemoryIndex) -> None:
    index.set_embedder("model", 8)
    index.apply([record("One", "first text", project="atlas"), record("Two", "second text")])

    backlog = index.backlog(10)

    assert {text for _, text in backlog} == {
        "[2026-01-01] codex, atlas: One\nfirst text",
        "[2026-01-01] codex: Two\nsecond text",
    }
    assert index.vector_progress() == (0, 2)
    assert index.store_vectors([(backlog[0][0], np.ones(8, np.float32)), (99_999, np.ones(8, np.float32))]) == 1
    assert index.backlog(10) == backlog[1:]
    assert index.vector_progress() == (1, 2)


def test_an_update_embeds_only_the_chunks_that_changed(index: MemoryIndex) -> None:
    index.set_embedder("model", 8)
    sections = [f"## Part {n}\n\n" + f"Sentence {n} of this part. " * 30 + "\n\n" for n in range(6)]
    long = record(body="".join(sections))
    index.apply([long])
    backlog = index.backlog(100)
    index.store_vectors([(chunk, np.ones(8, np.float32)) for chunk, _ in backlog])

    index.apply([replace(long, body=long.body + "## New\n\n" + "Fresh words. " * 60, updated=START + timedelta(1))])

    assert 1 <= len(index.backlog(100)) <= 2
    assert len(index.search("fresh words", vector=np.ones(8)).hits) == 1


def test_another_model_drops_the_vectors_of_the_last_one(index: MemoryIndex) -> None:
    index.apply([record()])
    assert index.set_embedder("first", 8)
    index.store_vectors([(index.backlog(1)[0][0], np.ones(8, np.float32))])

    assert not index.set_embedder("first", 8)
    assert index.vector_progress() == (1, 1)
    assert index.set_embedder("second", 16)
    assert index.vector_progress() == (0, 1)
    assert index.search("title", vector=np.ones(16)).mode == "lexical"


@pytest.mark.parametrize(
    "vector", [np.ones(7, np.float32), np.full(8, np.nan, np.float32), np.ones((2, 8), np.float32)]
)
def test_vectors_that_do_not_fit_are_refused(index: MemoryIndex, vector: np.ndarray) -> None:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
    index.set_embedder("model", 8)
    index.apply([record()])

    with pytest.raises(InvalidInput):
        index.store_vectors([(index.backlog(1)[0][0], vector)])
    with pytest.raises(InvalidInput):
        index.search("title", vector=vector)


def test_memories_that_clash_are_told_while_both_are_there(index: MemoryIndex) -> None:
    one, two, gone, alone = record("One"), record("Two"), record("Gone"), record("Alone")
    linked = [
        replace(one, links=(Link("conflicts_with", two.id), Link("conflicts_with", gone.id))),
        replace(two, links=(Link("conflicts_with", one.id), Link("relates_to", alone.id))),
        replace(alone, links=(Link("conflicts_with", alone.id), Link("said to be conflicts_with", one.id))),
    ]
    index.apply([*linked, gone])
    pairs = {(min(one.id, other.id), max(one.id, other.id)) for other in (two, gone)}
    assert set(index.clashes()) == pairs
    assert index.clashes() == sorted(pairs)

    index.apply([], [gone.id])
    assert len(index.clashes()) == 1
    index.apply([replace(two, links=())])
    assert len(index.clashes()) == 1  # one of both says so still
    index.apply([replace(one, links=())])
    assert index.clashes() == []


def test_clashes_are_found_without_a_look_at_every_memory_also_in_an_index_made_before(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    Index(path).close()
    with closing(apsw.Connection(str(path))) as connection:
        run(connection, "DROP INDEX memories_clashing")
    Index(path).close()
    with closing(apsw.Connection(str(path))) as connection:
        assert "memories_clashing" in str(fetch_all(connection, f"EXPLAIN QUERY PLAN {CLASHING}"))
