"""Vectors searched by Qdrant: brought there once, mended when lost, and never missed for long.

What answers is the double of `tests/conftest.py`: Qdrant's REST interface on loopback before the client's own engine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import ConfigError, Trust, new_ulid
from adaptive_llm_gateway.memory import HashEmbedder, WriteMemory
from adaptive_llm_gateway.memory import _qdrant as qdrant_module
from adaptive_llm_gateway.memory import _qdrant_vectors as qdrant_vectors
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._opening import look_at_qdrant
from adaptive_llm_gateway.memory._qdrant import QdrantServer, QdrantUnavailable
from adaptive_llm_gateway.memory._qdrant_vectors import QdrantVectors
from adaptive_llm_gateway.memory._requests import QdrantConfig
from adaptive_llm_gateway.memory._values import Author, Filters, Record

WAIT = 30.0
KEY = "key-0123456789-abcdef"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_BASE = Record("", "note", "", "", "", "a" * 40, 0, 0, _NOW, _NOW, Author("codex"))
_MODEL = HashEmbedder()
_OTHER = HashEmbedder(seed=1)


def record(body: str, **changes: Any) -> Record:
    id_ = new_ulid()
    return replace(_BASE, id=id_, path=f"notes/{id_}.md", body=body, **changes)


def embed(index: Index, model: HashEmbedder = _MODEL) -> int:
    """Work off the backlog; how many chunks there were."""
    backlog = index.backlog(100_000)
    matrix = model.embed([text for _, text in backlog])
    return index.store_vectors([(chunk, vector) for (chunk, _), vector in zip(backlog, matrix, strict=True)])


def found(index: Index, query: str, model: HashEmbedder = _MODEL, **options: Any) -> tuple[str, list[str]]:
    answer = index.search(query, vector=model.embed_query(query), **options)
    return answer.mode, [hit.record.id for hit in answer.hits]


def held(index: Index) -> QdrantVectors:
    vectors = index._held  # pyright: ignore[reportPrivateUsage]
    assert isinstance(vectors, QdrantVectors)
    return vectors


def settle(index: Index) -> None:
    assert held(index).settled(WAIT), held(index).trouble


def chunks(index: Index) -> set[int]:
    return {row.chunk for row in index.stored_vectors(count=100_000, max_trust=Trust.SECRET)}


class Opener:
    """Opens indexes whose vectors are in one server."""

    def __init__(self, url: str, path: Path, stack: contextlib.ExitStack) -> None:
        self.hub = "Some Hub"
        self.url = url
        self.path = path
        self._stack = stack

    def __call__(self, *, key: str | None = None, trust: Trust | None = None, model: HashEmbedder = _MODEL) -> Index:
        server = QdrantServer(QdrantConfig(self.url, key), self.hub)
        if trust is not None:
            server.max_trust = trust
        index = self._stack.enter_context(Index(self.path, qdrant=server))
        held(index)._retry = held(index)._check = 0.02  # pyright: ignore[reportPrivateUsage]
        index.set_embedder(model.id, model.dimensions)
        return index


@pytest.fixture
def opened(qdrant: Any, tmp_path: Path) -> Iterator[Opener]:
    with contextlib.ExitStack() as stack:
        yield Opener(qdrant.url, tmp_path / "index.db", stack)


@pytest.fixture
def index(opened: Opener) -> Index:
    return opened()


def when(ending: str, answer: Callable[[], tuple[int, object] | None]) -> Callable[[str], tuple[int, object] | None]:
    """For `QdrantDouble.before`: what it does with requests of paths that end so."""
    return lambda path: answer() if path.endswith(ending) else None


def held_up_by(gate: threading.Event) -> Callable[[], None]:
    def wait() -> None:
        gate.wait(WAIT)

    return wait


def writes(qdrant: Any) -> list[str]:
    """Bodies of the requests that put points in or took them out."""
    return [body for _, path, body in qdrant.requests if path.endswith("/points") or path.endswith("/delete")]


def test_only_numbers_cross_over(index: Index, qdrant: Any) -> None:
    index.apply([record("the walrus papers", title="Zebra", project="atlas", tags=("ocean",))])
    embed(index)
    settle(index)

    found(index, "walrus", filters=Filters(project="atlas"))

    sent = " ".join(body for _, _, body in qdrant.requests) + " ".join(path for _, path, _ in qdrant.requests)
    for word in ("walrus", "zebra", "atlas", "ocean", "codex", "notes/"):
        assert word not in sent.lower()
    points = [payload for body in writes(qdrant) for payload in json.loads(body).get("batch", {}).get("payloads", [])]
    assert points
    assert all(set(payload) == {"memory", "code"} for payload in points)


def test_what_is_written_changed_and_deleted_is_so_there(index: Index, qdrant: Any) -> None:
    first, second = record("a walrus"), record("a penguin")
    index.apply([first, second])
    embed(index)
    settle(index)
    [name] = qdrant.collections()
    assert set(qdrant.points(name)) == chunks(index)

    index.apply([replace(first, body="a seal instead")], deletes=[second.id])
    embed(index)
    settle(index)

    assert set(qdrant.points(name)) == chunks(index)
    assert len(chunks(index)) == 1
    assert found(index, "seal") == ("hybrid", [first.id])


def test_what_is_not_there_yet_is_found_all_the_same(index: Index, qdrant: Any) -> None:
    index.apply([record("a penguin")])
    embed(index)
    settle(index)
    gate = threading.Event()
    qdrant.before = when("/points", held_up_by(gate))
    try:
        late, other = record("the feline sat", project="atlas"), record("the feline sat there", project="other")
        index.apply([late, other])
        embed(index)

        answer = index.search("zzz", vector=_MODEL.embed_query("feline"), filters=Filters(project="atlas"))
    finally:
        gate.set()
    assert (answer.mode, [hit.record.id for hit in answer.hits]) == ("hybrid", [late.id])


def test_a_restart_finds_what_is_there_and_sends_nothing_again(opened: Opener, qdrant: Any) -> None:
    with opened() as index:
        entries = [record(f"number{n} of the papers") for n in range(20)]
        index.apply(entries)
        embed(index)
        settle(index)
    qdrant.requests.clear()

    again = opened()
    settle(again)

    assert writes(qdrant) == []
    assert found(again, "number7 papers")[0] == "hybrid"


@pytest.mark.parametrize("loss", ["points", "collection", "other vectors", "strangers"])
def test_what_is_lost_or_changed_there_comes_back_without_the_model(index: Index, qdrant: Any, loss: str) -> None:
    from qdrant_client import models

    index.apply([record(f"number{n} of the papers") for n in range(20)])
    embed(index)
    settle(index)
    [name] = qdrant.collections()
    before = qdrant.points(name)
    taken = sorted(before)[:7]
    with qdrant.lock:
        if loss == "points":
            qdrant.engine.delete(name, models.PointIdsList(points=taken))
        elif loss == "collection":
            qdrant.engine.delete_collection(name)
        else:
            ids: list[Any] = taken if loss == "other vectors" else [10_000 + n for n in range(7)]
            batch = models.Batch(
                ids=ids, vectors=[[1.0] * _MODEL.dimensions] * 7, payloads=[{"memory": 1, "code": 5}] * 7
            )
            qdrant.engine.upsert(name, batch)
    if loss == "other vectors":  # a count does not tell; a restart compares
        held(index)._compared = False  # pyright: ignore[reportPrivateUsage]

    for _ in range(600):
        if qdrant.collections() == [name] and qdrant.points(name) == before and held(index).settled(0.05):
            break
        threading.Event().wait(0.05)
    assert qdrant.points(name) == before, held(index).trouble
    assert index.backlog(10) == []
    assert found(index, "number7 papers")[0] == "hybrid"


def test_two_models_never_mix_and_the_old_ones_vectors_go(opened: Opener, qdrant: Any) -> None:
    index = opened()
    index.apply([record("a walrus"), record("a penguin")])
    embed(index)
    settle(index)
    [old] = qdrant.collections()

    assert index.set_embedder(_OTHER.id, _OTHER.dimensions)
    settle(index)
    assert found(index, "walrus", _OTHER)[0] == "lexical"
    embed(index, _OTHER)
    settle(index)

    [new] = qdrant.collections()
    assert new != old
    assert set(qdrant.points(new)) == chunks(index)


def test_a_copied_index_under_another_name_leaves_the_first_hubs_vectors_alone(opened: Opener, qdrant: Any) -> None:
    with opened() as index:
        index.apply([record("a walrus")])
        embed(index)
        settle(index)
        kept = chunks(index)
    [first] = qdrant.collections()
    opened.hub = "Another Hub"

    copy = opened()
    copy.apply([record("a penguin")])
    embed(copy)
    settle(copy)

    assert len(qdrant.collections()) == 2
    assert set(qdrant.points(first)) == kept


def test_a_rebuild_computes_no_vector_anew(index: Index, qdrant: Any) -> None:
    entries = [record(f"number{n} of the papers") for n in range(20)]
    index.apply(entries)
    embed(index)
    settle(index)

    index.reset()
    index.apply(entries)

    assert index.backlog(10) == []
    settle(index)
    [name] = qdrant.collections()
    assert set(qdrant.points(name)) == chunks(index)
    assert found(index, "number7 papers")[1][0] == entries[7].id


def test_a_new_index_file_does_not_take_what_an_older_one_left_there_for_its_own(
    opened: Opener, qdrant: Any, tmp_path: Path
) -> None:
    with opened() as index:
        index.apply([record(f"old number{n}") for n in range(9)])
        embed(index)
        settle(index)
    opened.path = tmp_path / "anew.db"

    index = opened()
    entry = record("only one")
    index.apply([entry])
    embed(index)
    settle(index)

    [name] = qdrant.collections()
    assert len(qdrant.points(name)) == 1
    assert found(index, "only one") == ("hybrid", [entry.id])


def test_a_server_that_is_away_is_named_and_caught_up_with_when_it_is_back(index: Index, qdrant: Any) -> None:
    first, second = record("the walrus papers"), record("the penguin papers")
    index.apply([first])
    embed(index)
    settle(index)
    qdrant.stop()
    try:
        assert found(index, "walrus") == ("lexical", [first.id])
        trouble = index.vector_trouble or ""
        assert "by words alone" in trouble
        assert f"{qdrant.url!r} cannot be reached" in trouble
        index.apply([second], deletes=[first.id])
        embed(index)
        assert found(index, "penguin") == ("lexical", [second.id])
    finally:
        qdrant.start()
    settle(index)
    assert index.vector_trouble is None
    assert found(index, "penguin") == ("hybrid", [second.id])
    [name] = qdrant.collections()
    assert set(qdrant.points(name)) == chunks(index)


def test_a_server_that_was_never_there_holds_nothing_up(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Index(tmp_path / "index.db", qdrant=QdrantServer(QdrantConfig(url), "hub")) as index:
        index.set_embedder(_MODEL.id, _MODEL.dimensions)
        entry = record("a walrus")
        index.apply([entry])
        embed(index)
        assert found(index, "walrus") == ("lexical", [entry.id])
        assert index.vector_progress() == (1, 1)
        assert "cannot be reached" in (index.vector_trouble or "")


def test_a_server_that_does_not_answer_in_time_is_left_alone_for_a_while(
    index: Index, qdrant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_module, "_QUERY_SECONDS", 0.05)
    entry = record("the walrus papers")
    index.apply([entry])
    embed(index)
    settle(index)
    query = f"/collections/{qdrant.collections()[0]}/points/query"
    gate = threading.Event()
    qdrant.before = when("/query", held_up_by(gate))
    try:
        for _ in range(3):
            assert found(index, "walrus") == ("lexical", [entry.id])
            settle(index)  # else it answers
        assert [path for _, path, _ in qdrant.requests].count(query) == 1
        assert "did not answer a query" in (index.vector_trouble or "")
    finally:
        gate.set()


def test_a_server_that_takes_calls_and_never_answers_holds_up_one_search_alone(
    opened: Opener, qdrant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float | None] = []
    wait_for = threading.Condition.wait_for

    def counted(self: threading.Condition, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        waits.append(timeout)
        return wait_for(self, predicate, timeout)

    monkeypatch.setattr(qdrant_vectors, "_WAIT_SECONDS", 0.0625)
    monkeypatch.setattr(threading.Condition, "wait_for", counted)
    gate = threading.Event()
    qdrant.before = when("", held_up_by(gate))
    try:
        index = opened()
        entry = record("a walrus")
        index.apply([entry])
        embed(index)
        for _ in range(3):
            assert found(index, "walrus") == ("lexical", [entry.id])
        assert waits.count(0.0625) == 1
        assert "until Qdrant at" in (index.vector_trouble or "")
    finally:
        gate.set()
    settle(index)
    assert found(index, "walrus") == ("hybrid", [entry.id])


def test_a_server_that_refuses_the_key_is_named_and_the_key_is_not(
    opened: Opener, qdrant: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    qdrant.key = "another key"
    monkeypatch.setenv("SOME_KEY", KEY)
    index = opened(key="SOME_KEY")
    entry = record("a walrus")
    index.apply([entry])
    embed(index)

    assert found(index, "walrus") == ("lexical", [entry.id])
    assert "refuses us (HTTP 403)" in (index.vector_trouble or "")
    with pytest.raises(QdrantUnavailable, match="refuses us") as caught:
        look_at_qdrant(QdrantConfig(qdrant.url, "SOME_KEY"))
    assert "SOME_KEY" in (caught.value.hint or "")
    assert KEY not in f"{caught.value!r} {caught.value.__context__!r} {index.vector_trouble} {caplog.text}"

    qdrant.key = KEY
    settle(index)
    assert found(index, "walrus") == ("hybrid", [entry.id])
    assert "Qdrant 0.0.0-double" in look_at_qdrant(QdrantConfig(qdrant.url, "SOME_KEY"))


def test_a_server_that_repeats_the_key_does_not_have_it_told(
    opened: Opener, qdrant: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    qdrant.before = when("/exists", lambda: (500, {"status": {"error": f"no {KEY}"}}))
    index = opened(key="SOME_KEY")
    index.apply([record("a walrus")])
    embed(index)

    assert found(index, "walrus")[0] == "lexical"
    assert "HTTP 500 and said" in (index.vector_trouble or "")
    assert "no ***" in (index.vector_trouble or "")
    assert KEY not in f"{index.vector_trouble} {caplog.text}"


def test_a_key_that_is_not_set_is_named_and_nothing_is_sent(opened: Opener, qdrant: Any) -> None:
    index = opened(key="NO_SUCH_KEY")
    index.apply([record("a walrus")])
    embed(index)

    assert found(index, "walrus")[0] == "lexical"
    assert "'NO_SUCH_KEY' with its key is not set" in (index.vector_trouble or "")
    assert qdrant.requests == []


def test_a_collection_of_another_dimension_is_named_and_left_alone(opened: Opener, qdrant: Any) -> None:
    from qdrant_client import models

    name = QdrantServer(QdrantConfig(qdrant.url), "Some Hub").collection_for(_MODEL.id, _MODEL.dimensions)
    qdrant.engine.create_collection(name, models.VectorParams(size=5, distance=models.Distance.COSINE))
    index = opened()
    entry = record("a walrus")
    index.apply([entry])
    embed(index)

    assert found(index, "walrus") == ("lexical", [entry.id])
    trouble = index.vector_trouble or ""
    assert f"{name!r} of another form (5 dimensions, Cosine)" in trouble
    assert f"({_MODEL.dimensions} dimensions, Cosine)" in trouble
    assert qdrant.engine.get_collection(name).config.params.vectors.size == 5

    with qdrant.lock:
        qdrant.engine.delete_collection(name)
    settle(index)
    assert found(index, "walrus") == ("hybrid", [entry.id])


@pytest.mark.parametrize(
    "answer",
    [(200, {"result": {"points": "none"}}), (200, ["?"]), (500, {"status": {"error": "disk full"}}), (404, "")],
)
def test_answers_that_are_none_leave_search_by_words(index: Index, qdrant: Any, answer: tuple[int, object]) -> None:
    entry = record("a walrus")
    index.apply([entry])
    embed(index)
    settle(index)
    held(index)._retry = WAIT  # pyright: ignore[reportPrivateUsage]
    qdrant.before = when("/query", lambda: answer)

    assert found(index, "walrus") == ("lexical", [entry.id])

    qdrant.before = when("/query", lambda: None)
    settle(index)
    assert found(index, "walrus") == ("hybrid", [entry.id])


def test_points_that_lie_do_not_get_past_filters(index: Index, qdrant: Any) -> None:
    hidden, shown = record("the walrus papers", trust=Trust.SECRET), record("the penguin papers")
    index.apply([hidden, shown])
    embed(index)
    settle(index)
    ids = sorted(chunks(index))
    answer = {"points": [{"id": id_, "version": 1, "score": 1.0} for id_ in [*ids, 999]]}
    qdrant.before = when("/query", lambda: (200, {"result": answer}))

    assert found(index, "walrus", filters=Filters(max_trust=Trust.INTERNAL))[1] == [shown.id]


def test_what_is_above_internal_does_not_go_to_another_machine(opened: Opener, qdrant: Any) -> None:
    index = opened(trust=Trust.INTERNAL)
    entries = [record(f"{level} walrus", trust=level) for level in Trust]
    index.apply(entries)
    embed(index)
    settle(index)
    [name] = qdrant.collections()
    assert len(qdrant.points(name)) == 2

    # Neither does the vector of one, to find its like.
    assert index.memory_vector(entries[2].id) is None
    assert index.memory_vector(entries[1].id) is not None
    assert found(index, "confidential walrus")[1][0] == entries[2].id

    raised = [replace(entries[0], trust=Trust.SECRET), replace(entries[2], trust=Trust.PUBLIC)]
    index.apply(raised)
    settle(index)
    rows = {row.memory for row in index.stored_vectors(count=10, max_trust=Trust.INTERNAL)}
    assert len(rows) == 2
    assert {payload["memory"] for payload in qdrant.points(name).values()} == rows


@pytest.mark.parametrize(
    ("url", "trust"),
    [
        ("http://127.0.0.1:6333", Trust.SECRET),
        ("http://localhost:6333/", Trust.SECRET),
        ("http://[::1]:6333", Trust.SECRET),
        ("https://qdrant.example.org:6333", Trust.INTERNAL),
        ("http://10.0.0.7:6333", Trust.INTERNAL),
    ],
)
def test_another_machine_is_told_by_its_address(url: str, trust: Trust) -> None:
    assert QdrantServer(QdrantConfig(url), "hub").max_trust is trust


@pytest.mark.parametrize(
    "config",
    [
        QdrantConfig("http://user:hunter2-plain@127.0.0.1:6333"),
        QdrantConfig("http://127.0.0.1:6333?api-key=hunter2-plain"),
        QdrantConfig("ftp://127.0.0.1"),
        QdrantConfig("http://127.0.0.1:6333", "hunter2-plain"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_without_repeating_a_secret(config: QdrantConfig) -> None:
    with pytest.raises(ConfigError, match="index") as caught:
        QdrantServer(config, "hub")
    assert "hunter2" not in f"{caught.value!r} {caught.value.hint}"


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(qdrant_module.importlib.util, "find_spec", nothing)
    with pytest.raises(ConfigError, match="not installed") as caught:
        QdrantServer(QdrantConfig("http://127.0.0.1:6333"), "hub")
    assert "adaptive-llm-gateway[qdrant]" in (caught.value.hint or "")


def test_a_damaged_index_file_is_built_anew_and_what_is_there_is_put_right(opened: Opener, qdrant: Any) -> None:
    index = opened()
    index.apply([record(f"number{n} of the papers") for n in range(9)])
    embed(index)
    settle(index)

    index.start_over()
    entry = record("only one")
    index.apply([entry])
    embed(index)
    settle(index)

    [name] = qdrant.collections()
    assert set(qdrant.points(name)) == chunks(index)
    assert found(index, "only one") == ("hybrid", [entry.id])


def test_a_store_tells_its_searchers_what_keeps_it_from_qdrant(bench: Any, qdrant: Any) -> None:
    store = bench.open("one", embedder=HashEmbedder(), qdrant=QdrantConfig(qdrant.url))
    store.write(WriteMemory(bench.me, title="Walrus", body="Papers of the walrus."))
    bench.poll(lambda: store.status().vectors == (1, 1), "a vector")
    assert store.search("walrus").mode == "hybrid"
    assert store.search_notices() == ()
    qdrant.stop()
    try:
        assert store.search("walrus").mode == "lexical"
        assert any("Qdrant" in notice for notice in store.search_notices())
        assert any("Qdrant" in notice for notice in store.status().notices)
    finally:
        qdrant.start()
