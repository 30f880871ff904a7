"""Vectors come in the background: search is by words first, hybrid later, and by words again when they fail."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptive_llm_gateway.core import StorageError
from adaptive_llm_gateway.memory import EmbedderConfig, EmbedderUnavailable, HashEmbedder, WriteMemory
from adaptive_llm_gateway.memory import _vectorizer as vectorizer_module
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._vectorizer import Vectorizer


class Gated(HashEmbedder):
    """An embedder that waits at its load and fails when told to."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.loaded = threading.Event()
        self.works = True
        self.closed = False
        self.embedded: list[str] = []

    def load(self) -> None:
        assert self.loaded.wait(30)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not self.works:
            raise EmbedderUnavailable("the model is on strike")
        self.embedded += texts
        return super().embed(texts)

    def close(self) -> None:
        self.closed = True


def done(store: Any) -> bool:
    vectors, chunks = store.status().vectors
    return vectors == chunks > 0


def test_search_is_by_words_until_the_model_is_there_then_hybrid(bench: Any) -> None:
    embedder = Gated()
    store = bench.open(embedder=embedder)
    made = bench.write(store, "Walrus", body="They whistle.\n")
    assert store.status().embedder == "loading"
    answer = store.search("whistle")
    assert (answer.mode, [hit.record.id for hit in answer.hits]) == ("lexical", [made.id])
    assert store.status().search == "lexical"
    embedder.loaded.set()
    bench.poll(lambda: done(store), "the vectors")
    bench.poll(lambda: store.search("whistle").mode == "hybrid", "the vectors in memory")
    answer = store.search("whistle")
    assert "vector" in answer.hits[0].matched
    status = store.status()
    assert (status.search, status.embedder) == ("hybrid", embedder.id)
    assert store.search_notices() == ()
    store.close()
    assert embedder.closed


def test_an_update_embeds_only_what_changed(bench: Any) -> None:
    embedder = Gated()
    embedder.loaded.set()
    store = bench.open(embedder=embedder)
    paragraphs = [f"# Part {number}\n\n" + f"words{number} " * 300 for number in range(5)]
    made = bench.write(store, "Long", body="\n\n".join(paragraphs))
    bench.poll(lambda: done(store), "the vectors")
    before = len(embedder.embedded)
    assert before > 2
    bench.update(store, made.id, body="\n\n".join([*paragraphs[:-1], paragraphs[-1] + " changed"]))
    bench.poll(lambda: done(store) and len(embedder.embedded) > before, "the new vector")
    assert len(embedder.embedded) - before < before


def test_another_embedder_embeds_everything_anew(bench: Any) -> None:
    store = bench.open(embedder=HashEmbedder(seed=1))
    store.write_many([WriteMemory(bench.me, title=f"n{number}", body="walrus\n") for number in range(20)])
    bench.poll(lambda: done(store), "the vectors")
    store.close()
    same = Gated(seed=1)
    same.loaded.set()
    again = bench.open(embedder=same)
    bench.poll(lambda: again.status().embedder == same.id, "the model")
    assert done(again)
    again.close()
    assert same.embedded == []
    other = Gated(seed=2)
    third = bench.open(embedder=other)
    assert third.search("walrus").mode == "lexical"
    other.loaded.set()
    bench.poll(lambda: third.status().embedder == other.id and done(third), "the new vectors")
    assert len(other.embedded) == 20
    bench.poll(lambda: third.search("walrus").mode == "hybrid", "the new vectors in memory")
    assert bench.open("two").status().embedder == "off"


def test_a_failed_batch_is_tried_again_though_nothing_new_is_written(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectorizer_module, "_RETRY_SECONDS", 0.05)  # a minute otherwise
    embedder = Gated()
    embedder.loaded.set()
    embedder.works = False
    store = bench.open(embedder=embedder)
    made = bench.write(store, "Walrus", body="They whistle.\n")
    bench.poll(lambda: "strike" in store.status().embedder, "the failure")
    answer = store.search("whistle")
    assert (answer.mode, [hit.record.id for hit in answer.hits]) == ("lexical", [made.id])
    assert any("on strike" in notice for notice in store.search_notices())
    embedder.works = True
    bench.poll(lambda: done(store), "the second try")
    bench.poll(lambda: store.status().embedder == embedder.id, "the state")
    assert store.search("whistle").mode == "hybrid"
    assert store.search_notices() == ()


def test_a_query_that_could_not_be_embedded_leaves_no_false_notice_behind(bench: Any) -> None:
    embedder = Gated()
    embedder.loaded.set()
    store = bench.open(embedder=embedder)
    bench.write(store, "Walrus", body="They whistle.\n")
    bench.poll(lambda: done(store), "the vectors")
    embedder.works = False
    # What makes vectors may only now find that it is done, and say that the model works.
    bench.poll(lambda: store.search("whistle").mode == "lexical" and store.search_notices(), "the notice")
    embedder.works = True
    assert store.search("whistle again").mode == "hybrid"
    assert store.search_notices() == ()


def test_a_model_that_fails_in_an_unforeseen_way_does_not_end_the_store(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectorizer_module, "_RETRY_SECONDS", 0.05)

    class Odd(Gated):
        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            if not self.works:
                return np.full((len(texts), 64), np.nan, np.float32)
            return super().embed(texts)

        def embed_query(self, text: str) -> NDArray[np.float32]:
            return HashEmbedder().embed([text])[0]

    embedder = Odd()
    embedder.works = False
    embedder.loaded.set()
    store = bench.open(embedder=embedder)
    made = bench.write(store, "Walrus", body="They whistle.\n")
    bench.poll(lambda: "unavailable" in store.status().embedder, "the failure")
    assert [hit.record.id for hit in store.search("whistle").hits] == [made.id]
    embedder.works = True
    bench.poll(lambda: done(store), "the second try")


# --- beside a pull -------------------------------------------------------------------------------------


class Watching(HashEmbedder):
    """An embedder that notes, whenever it begins, how many files of a pull are not in the index yet."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: Callable[[], int] = lambda: 0
        self.seen: list[int] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.seen.append(self.waiting())
        return super().embed(texts)


@pytest.fixture
def pulling(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Watching]:
    """(a store whose remote has 60 memories more, its embedder, which is woken while they come as writes wake it)."""
    monkeypatch.setattr(vectorizer_module, "_YIELD_SECONDS", 0.0)  # or writes alone would hold it back
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True, timeout=60)
    one = bench.open("one", remote=str(remote))
    one.write_many([WriteMemory(bench.me, title=f"n{number}", body="walrus\n") for number in range(60)])
    one.push().result(60)
    embedder = Watching()
    two = bench.open("two", remote=str(remote), embedder=embedder)
    bench.poll(lambda: two.status().embedder == embedder.id, "the model")
    embedder.waiting = lambda: len(two._incoming)
    index_some = two._index_some

    def waking() -> int:
        left = index_some()
        two._vectorizer.wake()
        return left

    monkeypatch.setattr(two, "_index_some", waking)
    return two, embedder


def test_what_a_pull_brings_gets_its_vectors_once_all_of_it_is_found_by_words(bench: Any, pulling: Any) -> None:
    two, embedder = pulling
    assert two.pull().result(60).changed == 60
    bench.poll(lambda: done(two), "the vectors")
    assert set(embedder.seen) == {0}


def test_vectors_do_not_wait_for_the_end_of_a_pull_that_takes_too_long(
    bench: Any, pulling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, embedder = pulling
    monkeypatch.setattr(vectorizer_module, "_LONGEST_HOLD_SECONDS", 0.0)
    index_some = two._index_some

    def slowly() -> int:
        if embedder.waiting() < 60:
            bench.poll(lambda: embedder.seen, "vectors of what was indexed first")
        return index_some()

    monkeypatch.setattr(two, "_index_some", slowly)
    assert two.pull().result(60).changed == 60
    assert embedder.seen[0] > 0
    bench.poll(lambda: done(two), "the vectors")


def test_a_pull_that_fails_holds_no_vectors_back(bench: Any, pulling: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    two, _ = pulling

    def fails() -> int:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        broken.setattr(two, "_index_some", fails)
        with pytest.raises(StorageError, match="the disk is gone"):
            two.pull().result(60)
    bench.write(two, "Whistle")
    bench.poll(lambda: done(two), "the vectors")


# --- an endpoint that is down --------------------------------------------------------------------------


class Endpoint:
    """An OpenAI-compatible endpoint on loopback that can be stopped and started on one port."""

    def __init__(self) -> None:
        self.port = 0
        self.server: ThreadingHTTPServer | None = None
        self.start()

    def start(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["input"]
                vectors = [list(hashlib.sha256(text.encode()).digest()[:8]) for text in texts]
                rows = [{"index": number, "embedding": vector} for number, vector in enumerate(vectors)]
                data = json.dumps({"data": rows}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.stop()


def test_an_endpoint_that_is_down_leaves_search_by_words_and_is_used_when_it_is_up(
    bench: Any, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectorizer_module, "_RETRY_SECONDS", 0.05)
    endpoint.stop()
    config = EmbedderConfig(kind="http", url=f"http://127.0.0.1:{endpoint.port}/v1", model="m", timeout=5)
    store = bench.open(embedder=config)
    made = bench.write(store, "Walrus", body="They whistle.\n")
    bench.poll(lambda: store.status().embedder.startswith("unavailable"), "the notice")
    answer = store.search("whistle")
    assert (answer.mode, [hit.record.id for hit in answer.hits]) == ("lexical", [made.id])
    assert any("words alone" in notice for notice in store.search_notices())
    endpoint.start()
    bench.poll(lambda: done(store), "the vectors")
    bench.poll(lambda: store.search("whistle").mode == "hybrid", "hybrid search")
    assert store.search_notices() == ()


class Telling(HashEmbedder):
    """An embedder that tells when it has begun, and then waits to be let on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = threading.Event()

    def embed_query_telling(self, text: str, begun: Callable[[], None]) -> NDArray[np.float32]:
        if "strike" in text:
            raise EmbedderUnavailable("the model is on strike")
        begun()
        assert self.may_end.wait(30)
        return self.embed([text])[0]


@pytest.fixture
def telling(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Callable[[str], Callable[[], NDArray[np.float32] | None]], Telling]]:
    """(begins a query in time or fails, the embedder): what is not told is waited for longer than that."""
    monkeypatch.setattr(vectorizer_module, "_LONGEST_HANDOVER_SECONDS", 30)
    embedder = Telling()
    with Index(tmp_path / "index.db") as index:
        vectorizer = Vectorizer(index, embedder)
        vectorizer.start()
        bench.poll(lambda: vectorizer.ready, "the embedder")
        with ThreadPoolExecutor(1) as asking:
            yield lambda text: asking.submit(vectorizer.begin_query, text).result(15), embedder
            embedder.may_end.set()
        vectorizer.stop()


def test_a_query_goes_on_once_its_vector_is_being_computed(telling: Any) -> None:
    begin, embedder = telling
    vector = begin("whistle")  # comes back although the computation waits
    embedder.may_end.set()
    found = vector()
    assert found is not None
    assert np.array_equal(found, embedder.embed(["whistle"])[0])


def test_a_query_whose_vector_fails_before_it_was_begun_is_by_words(telling: Any) -> None:
    begin, _ = telling
    assert begin("strike")() is None


class Broken(Telling):
    """An embedder whose queries fail in a way that embedders should not."""

    def embed_query_telling(self, text: str, begun: Callable[[], None]) -> NDArray[np.float32]:
        begun()
        raise RuntimeError("the tokenizer panicked")


def test_a_query_whose_embedder_fails_unforeseen_is_by_words_and_says_why(bench: Any) -> None:
    store = bench.open(embedder=Broken())
    written = bench.write(store, "Whistle", body="a whistle in the fog")
    bench.poll(lambda: done(store), "the vectors")

    def told() -> bool:  # what was just embedded may have made the state well again
        found = store.search("whistle")
        assert found.mode == "lexical"
        assert [hit.record.id for hit in found.hits] == [written.id]
        return any("the tokenizer panicked" in notice for notice in store.search_notices())

    bench.poll(told, "a notice")
