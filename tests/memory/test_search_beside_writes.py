"""Searches while memories change: a search goes by one state of the index, whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.memory import _vectors as vectors
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._values import Author, Record
from adaptive_llm_gateway.memory._vectors import VectorCache

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
UNIT = np.array([1, 0, 0, 0, 0, 0, 0, 0], np.float32)


def record(body: str, *, source: str | None = None) -> Record:
    id_ = new_ulid()
    return Record(id_, "note", "", body, f"notes/{id_}.md", "a" * 40, 0, 0, NOW, NOW, Author("codex"), source=source)


def embed_all(index: MemoryIndex) -> None:
    index.store_vectors([(chunk, UNIT) for chunk, _ in index.backlog(1_000)])


@pytest.mark.parametrize("source", [None, "a-session"])
def test_a_memory_that_is_changed_while_a_search_runs_is_found_as_it_was(
    open_index: Callable[[], MemoryIndex], source: str | None
) -> None:
    index = open_index()
    index.set_embedder("model", 8)
    changed, other = record("lighthouse of old", source=source), record("lighthouse elsewhere", source=source)
    index.apply([changed, other])
    embed_all(index)
    index.search("lighthouse", vector=UNIT)  # now everything that it holds in memory is there

    def meanwhile() -> NDArray[np.float32]:
        index.apply([replace(changed, body="lighthouse anew")])
        embed_all(index)
        return UNIT

    answer = index.search("lighthouse", vector=meanwhile)

    assert {hit.snippet for hit in answer.hits} == {"lighthouse of old", "lighthouse elsewhere"}
    assert {hit.snippet for hit in index.search("lighthouse").hits} == {"lighthouse anew", "lighthouse elsewhere"}
    index.close()


def test_of_one_memory_given_twice_at_once_the_last_counts(open_index: Callable[[], MemoryIndex]) -> None:
    index = open_index()
    index.search("anything")
    twice, earlier = record("first form", source="s"), record("one before it", source="s")
    index.apply([twice, replace(twice, body="second form")])
    index.apply([replace(earlier, created=NOW.replace(year=2025))])  # takes its place among those of the source

    assert [hit.snippet for hit in index.search("form").hits] == ["second form"]
    assert {hit.snippet for hit in index.search("one form").hits} == {"second form", "one before it"}
    index.close()


def test_vectors_that_go_while_they_are_scanned_do_not_change_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = VectorCache(8)
    cache.add(range(1, 11), range(1, 11), np.ones((10, 8), np.int8))
    cache.remove([1])
    masks: list[tuple[Any, Any]] = []
    scan = vectors._near_by_signs  # pyright: ignore[reportPrivateUsage]

    def while_one_goes(bits: Any, query: Any, count: int, keep: Any) -> Any:
        before = keep.copy()
        cache.remove([7])
        masks.append((before, keep))
        return scan(bits, query, count, keep)

    monkeypatch.setattr(vectors, "_near_by_signs", while_one_goes)
    cache.nearest(UNIT, 3)

    assert [(before == after).all() for before, after in masks] == [True]
