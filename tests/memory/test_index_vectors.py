"""Vectors of the SQLite index: read in the background, kept over a rebuild, never of two models at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptive_llm_gateway.core import InvalidInput, new_ulid
from adaptive_llm_gateway.memory import HashEmbedder, WriteMemory
from adaptive_llm_gateway.memory import _held_vectors as held
from adaptive_llm_gateway.memory import _vectors as vectors
from adaptive_llm_gateway.memory._held_vectors import HeldVectors
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._values import Author, Record
from adaptive_llm_gateway.memory._vectors import VectorCache, cosine, quantise

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_BASE = Record("", "note", "", "", "", "a" * 40, 0, 0, _NOW, _NOW, Author("codex"))
_MODEL = HashEmbedder()
_OTHER = HashEmbedder(seed=1)


def record(body: str) -> Record:
    id_ = new_ulid()
    return replace(_BASE, id=id_, path=f"notes/{id_}.md", body=body)


def embed(index: Index, model: HashEmbedder = _MODEL) -> int:
    """Work off the backlog; how many chunks there were."""
    backlog = index.backlog(100_000)
    matrix = model.embed([text for _, text in backlog])
    return index.store_vectors([(chunk, vector) for (chunk, _), vector in zip(backlog, matrix, strict=True)])


def found(index: Index, query: str, model: HashEmbedder = _MODEL) -> tuple[str, list[str]]:
    answer = index.search(query, vector=model.embed_query(query))
    return answer.mode, [hit.record.id for hit in answer.hits]


def opened(path: Path, **options: Any) -> Index:
    index = Index(path, **options)
    index.set_embedder(_MODEL.id, _MODEL.dimensions)
    return index


def filled(path: Path, count: int = 60) -> list[Record]:
    records = [record(f"number{number} of the walrus papers, page{number % 7}") for number in range(count)]
    with opened(path) as index:
        index.apply(records)
        embed(index)
    return records


def test_a_rebuild_keeps_the_vectors_of_what_did_not_change(tmp_path: Path) -> None:
    records = filled(tmp_path / "index.db")
    with opened(tmp_path / "index.db") as index:
        before = found(index, "number7 walrus page0")
        index.reset()
        assert found(index, "number7 walrus page0") == ("lexical", [])
        index.apply([records[0], *records[2:]])
        index.apply([replace(records[1], body="quite another text")])

        assert ["another text" in text for _, text in index.backlog(100)] == [True]
        assert found(index, "number7 walrus page0") == before
        index.tidy()
        index.apply([], [records[2].id])
        index.apply([records[2]])
        assert len(index.backlog(100)) == 2


def test_a_rebuild_that_was_interrupted_keeps_them_too(tmp_path: Path) -> None:
    records = filled(tmp_path / "index.db")
    with opened(tmp_path / "index.db") as index:
        index.reset()
        index.apply(records[:10])
    with opened(tmp_path / "index.db") as index:
        index.reset()
        index.apply(records)

        assert index.backlog(100) == []
        assert index.statistics()["vectors"] == 60


def test_vectors_of_another_model_do_not_come_back(tmp_path: Path) -> None:
    records = filled(tmp_path / "index.db")
    with opened(tmp_path / "index.db") as index:
        index.reset()
        index.set_embedder(_OTHER.id, _OTHER.dimensions)
        index.apply(records)
        assert len(index.backlog(100)) == 60

        assert found(index, "number3 walrus", _OTHER)[0] == "lexical"
        embed(index, _OTHER)
        assert found(index, "number3 walrus", _OTHER)[0] == "hybrid"
        assert index.set_embedder(_MODEL.id, _MODEL.dimensions)
        assert len(index.backlog(100)) == 60
        assert found(index, "number3 walrus")[0] == "lexical"


def test_a_vector_that_another_model_made_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "index.db") as index:
        index.apply([record("walrus")])
        ((chunk, text),) = index.backlog(10)
        index.set_embedder(_OTHER.id, _OTHER.dimensions)

        with pytest.raises(InvalidInput, match="another model"):
            index.store_vectors([(chunk, _MODEL.embed([text])[0])], embedder=_MODEL.id)

        assert index.vector_progress() == (0, 1)


def test_search_goes_on_by_words_while_very_many_vectors_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = filled(tmp_path / "index.db")
    monkeypatch.setattr(held, "_SLICE", 10)
    monkeypatch.setattr(held, "_WORTH_WAITING", 0)
    gate, begun = threading.Event(), threading.Event()

    read_slice = HeldVectors._slice  # pyright: ignore[reportPrivateUsage]

    def slowly(self: HeldVectors, cache: VectorCache, after: int) -> int | None:
        begun.set()
        assert gate.wait(30)
        return read_slice(self, cache, after)

    monkeypatch.setattr(HeldVectors, "_slice", slowly)
    with opened(tmp_path / "index.db") as index:
        assert begun.wait(30)
        assert found(index, "number7 walrus")[0] == "lexical"
        assert index.reading_vectors == (0, 60)
        gate.set()
        monkeypatch.setattr(held, "_WORTH_WAITING", 1_000)
        mode, ids = found(index, "number7 walrus")
        assert (mode, ids[0]) == ("hybrid", records[7].id)
        assert index.reading_vectors is None


def test_vectors_stored_and_dropped_while_others_are_read_are_right_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = filled(tmp_path / "index.db", 400)
    monkeypatch.setattr(held, "_SLICE", 7)
    with opened(tmp_path / "index.db") as index:
        fresh = [record(f"fresh{number}") for number in range(30)]
        for number, new in enumerate(fresh):
            index.apply([new], [records[number * 13].id])
            embed(index)
        for new in fresh:
            assert found(index, new.body)[1][0] == new.id
        gone = {records[number * 13].id for number in range(30)}
        assert gone.isdisjoint(found(index, "walrus papers")[1])
        assert index.statistics()["vectors"] == 400


@pytest.mark.parametrize("code_bytes", [None, 0], ids=["codes in memory", "codes elsewhere"])
def test_the_nearest_of_many_are_found_among_those_allowed(
    monkeypatch: pytest.MonkeyPatch, code_bytes: int | None
) -> None:
    monkeypatch.setattr(vectors, "_BLOCK", 1_000)
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((300, 96)).astype(np.float32)
    noise = rng.standard_normal((20_000, 96)).astype(np.float32)
    rows = (centres[rng.integers(0, 300, 20_000)] + noise * 0.6).astype(np.float32)
    codes = quantise(rows)
    cache = VectorCache(96, code_bytes=code_bytes)
    order = rng.permutation(20_000)
    for part in np.array_split(order, 13):
        cache.add((part + 1).tolist(), (part % 50).tolist(), codes[part])
    cache.remove((np.arange(0, 20_000, 5) + 1).tolist())

    def fetch(chunks: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
        return np.ones(len(chunks), np.bool_), codes[chunks - 1]

    assert cache.holds_codes is (code_bytes is None)
    assert len(cache) == 16_000
    shares: list[float] = []
    for allowed in (None, np.arange(40), np.array([7, 8])):
        live = np.flatnonzero(np.arange(20_000) % 5 != 0)
        live = live[np.isin(live % 50, allowed)] if allowed is not None else live
        for centre in centres[:40]:
            query = centre / np.linalg.norm(centre)
            scores = cosine(codes[live], query)
            nearest = live[np.argsort(-scores)[:10]] + 1
            got = cache.nearest(query, 50, allowed, fetch=fetch)
            assert set(got.chunks.tolist()) <= set((live + 1).tolist())
            assert (np.diff(got.cosines) <= 0).all()
            shares.append(len(np.intersect1d(nearest, got.chunks)) / 10)
    assert np.mean(shares) > 0.99


def test_codes_leave_memory_when_they_grow_too_many() -> None:
    rng = np.random.default_rng(6)
    codes = quantise(rng.standard_normal((3_000, 64)).astype(np.float32))
    cache = VectorCache(64, code_bytes=64 * 2_000)
    cache.add(list(range(1, 1_501)), [1] * 1_500, codes[:1_500])
    assert cache.holds_codes
    cache.add(list(range(1_501, 3_001)), [1] * 1_500, codes[1_500:])
    assert not cache.holds_codes
    assert len(cache) == 3_000
    assert cache.nbytes < 64 * 3_000

    def fetch(chunks: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
        known = chunks != 8  # gone from the file since
        return known, codes[chunks[known] - 1]

    query = codes[6].astype(np.float32) / np.linalg.norm(codes[6].astype(np.float32))
    assert cache.nearest(query, 5, fetch=fetch).chunks[0] == 7
    assert 8 not in cache.nearest(query, 3_000, fetch=fetch).chunks


def test_none_is_near_when_the_file_has_none_of_those_that_are_allowed() -> None:
    cache = VectorCache(8, code_bytes=0)
    cache.add([1, 2], [1, 2], np.ones((2, 8), np.int8))

    def fetch(chunks: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
        return np.zeros(len(chunks), np.bool_), np.zeros((0, 0), np.int8)  # the file's form for none

    assert not len(cache.nearest(np.ones(8, np.float32), 5, np.array([2], np.int64), fetch=fetch).chunks)


def test_ten_thousand_alike_do_not_hide_what_differs(tmp_path: Path) -> None:
    with opened(tmp_path / "index.db") as index:
        index.apply([record("the same words every time") for _ in range(10_000)])
        wanted = record("something else every time")
        index.apply([wanted])
        embed(index)

        mode, ids = found(index, "something every time")

        assert mode == "hybrid"
        assert ids[0] == wanted.id
        assert len(ids) == 2


def test_reindexing_a_store_computes_no_vector_twice(bench: Any) -> None:
    embedded: list[str] = []

    class Counting(HashEmbedder):
        def embed(self, texts: Any) -> NDArray[np.float32]:
            embedded.extend(texts)
            return super().embed(texts)

    store = bench.open(embedder=Counting())
    written = store.write_many([WriteMemory(bench.me, title=f"Note {n}", body=f"walrus{n}\n") for n in range(20)])
    done: Callable[[], bool] = lambda: store.status().vectors == (20, 20)  # noqa: E731
    bench.poll(done, "the vectors")
    assert store.flush(30)
    path = bench.file(store, written[3].id)
    path.write_text(path.read_text(encoding="utf-8").replace("walrus3", "seal3"), encoding="utf-8")

    assert store.reindex().indexed == 20

    bench.poll(done, "the vectors")
    assert len(embedded) == 21
    assert store.search("seal3").mode == "hybrid"
