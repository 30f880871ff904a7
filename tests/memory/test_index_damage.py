"""A damaged page in the middle of the index: noticed, set aside, built anew from the files, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from adaptive_llm_gateway.memory import DeleteMemory, HashEmbedder, MemoryStore, SearchRequest, WriteMemory
from adaptive_llm_gateway.memory._index import CorruptIndex
from adaptive_llm_gateway.memory._sql import fetch_value, run

COUNT = 25


def filled(bench: Any) -> Path:
    """A closed store's index, with long bodies, vectors, and a tombstone."""
    store = bench.open(embedder=HashEmbedder())
    long = "Walruses whistle while they work. " * 300
    written = store.write_many(
        [WriteMemory(bench.me, title=f"Walrus {n}", body=f"number{n}\n\n{long}\n") for n in range(COUNT)]
    )
    bench.poll(lambda: store.status().vectors[0] == store.status().vectors[1] > COUNT, "the vectors")
    assert len(written) == COUNT
    store.close()
    return bench.folder / "one" / "index.db"


def damage(index: Path, table: str) -> None:
    """Overwrite the page on which a table begins, in the file itself."""
    connection = apsw.Connection(str(index), flags=apsw.SQLITE_OPEN_READONLY)
    page = fetch_value(connection, "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,))
    size = fetch_value(connection, "PRAGMA page_size")
    connection.close()
    with index.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


def forget_cached_pages(store: MemoryStore) -> None:
    """What the open connections have read already would hide the damage from them."""
    index: Any = store._index  # pyright: ignore[reportPrivateUsage]
    for connection in (index._writer, *index._idle):
        run(connection, "PRAGMA shrink_memory")


def use(store: MemoryStore) -> str | None:
    """Search and look through everything; what was said of damage."""
    try:
        store.search("number7 whistle", limit=30)
        for record in list(store.records())[:1]:  # its vectors come from the file, also when all are held in memory
            store.ask(SearchRequest(similar_to=record.id))
    except CorruptIndex as error:
        return str(error)
    return None


def mended(bench: Any, store: MemoryStore) -> None:
    """Everything is there again, and it was said what happened."""

    def rebuilt() -> bool:
        try:
            return store.status().memories == COUNT and store.status().index == "ready"
        except CorruptIndex:  # while it is set aside
            return False

    bench.poll(rebuilt, "the rebuilt index")
    bench.poll(lambda: store.status().vectors[0] == store.status().vectors[1], "the vectors")
    assert use(store) is None
    answer = store.search("number7")
    assert answer.mode == "hybrid"
    assert answer.hits[0].record.title == "Walrus 7"
    assert any("damaged" in notice and "rebuilt" in notice for notice in store.status().notices)
    assert len(list((bench.folder / "one").glob("index.db.damaged-*[0-9]"))) == 1
    bench.write(store, "Walrus again", body="x\n")
    bench.tidy(store)


@pytest.mark.parametrize("table", ["words_data", "vectors", "bodies", "chunks", "memories", "memory_tags", "meta"])
def test_a_page_damaged_while_the_hub_was_down_is_mended(bench: Any, table: str) -> None:
    damage(filled(bench), table)
    store = bench.open(embedder=HashEmbedder())
    store.wait_ready(30)
    bench.poll(lambda: use(store) is None and store.status().notices, "the notice")
    mended(bench, store)


@pytest.mark.parametrize("table", ["words_data", "vectors", "bodies", "chunks", "memories"])
def test_a_page_damaged_while_the_hub_runs_is_mended(bench: Any, table: str) -> None:
    index = filled(bench)
    store = bench.open(embedder=HashEmbedder())
    assert store.wait_ready(30)
    assert store.flush(30)
    damage(index, table)
    forget_cached_pages(store)
    said = [bench.poll(lambda: use(store) or list(index.parent.glob("index.db.damaged-*")), "the damage")]
    assert said
    mended(bench, store)


def test_journal_and_tombstones_survive_the_damage(bench: Any) -> None:
    index = filled(bench)
    store = bench.open(embedder=HashEmbedder())
    assert store.wait_ready(30)
    gone = bench.write(store, "Gone")
    assert store.flush(30)

    store.write(DeleteMemory(bench.me, id=gone.id))
    assert store.flush(30)
    store.close()
    damage(index, "words_data")
    store = bench.open(embedder=HashEmbedder())
    bench.poll(lambda: use(store) is None and store.status().notices, "the notice")
    mended(bench, store)
    assert [stone.id for stone in store.deleted()] == [gone.id]


@pytest.mark.parametrize("table", ["words_data", "vectors"])
def test_a_write_that_meets_damage_fails_whole_and_succeeds_later(bench: Any, table: str) -> None:
    index = filled(bench)
    store = bench.open(embedder=HashEmbedder())
    assert store.wait_ready(30)
    damage(index, table)
    forget_cached_pages(store)

    def write() -> bool:
        try:
            bench.write(store, "Written after all", body="sealion\n")
        except CorruptIndex:
            return False
        return True

    bench.poll(write, "a write that succeeds")
    bench.poll(lambda: use(store) or list(index.parent.glob("index.db.damaged-*")), "the damage")
    whole = COUNT + 1
    bench.poll(lambda: store.status().index == "ready" and store.status().memories == whole, "the rebuilt index")
    bench.poll(lambda: store.search("sealion").hits, "the memory")
    assert len([hit for hit in store.search("sealion").hits if hit.record.title == "Written after all"]) == 1
    bench.tidy(store)
