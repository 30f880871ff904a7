"""Loads the embedder in the background and gives every chunk its vector; search goes on by words meanwhile."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.core import AlgError, Trust
from adaptive_llm_gateway.memory._chunks import EMBEDDED_FORM
from adaptive_llm_gateway.memory._embed import Embedder, EmbedderConfig, TellsBegun, create_embedder
from adaptive_llm_gateway.memory._memory_index import MemoryIndex

_log = logging.getLogger(__name__)
_BATCH = 32  # chunks; a write waits for at most one batch
_YIELD_SECONDS = 0.05  # writes come first: while they arrive, vectors wait this long ...
_LONGEST_YIELD_SECONDS = 1.0  # ... but not longer than this
_LONGEST_HOLD_SECONDS = 60.0  # a pull that takes longer has vectors come beside it
_RETRY_SECONDS = 60.0
_QUERIES_AT_ONCE = 4
_LONGEST_HANDOVER_SECONDS = 0.05  # when all threads for queries are taken, a search by words does not wait for one


def space_of(embedder: Embedder) -> str:
    """Names the vectors in the index: the model's, of texts of one form."""
    return f"{embedder.id} {EMBEDDED_FORM}"


class Vectorizer:
    """Turns text into vectors for one index.

    An embedder on another machine never sees memories above `internal`; they are found by words.

    Args:
        index: takes the vectors; `set_embedder` is called on it when the model is loaded.
        config: which embedder, or one that is made already.
    """

    def __init__(self, index: MemoryIndex, config: EmbedderConfig | Embedder) -> None:
        self._index = index
        self._config = config
        self._embedder: Embedder | None = None
        self._wake = threading.Condition()
        self._work = True
        self._stopping = False
        self._busy_until = 0.0
        self._holds = 0
        self._held_until = 0.0
        self._queries = ThreadPoolExecutor(_QUERIES_AT_ONCE, thread_name_prefix="memory-query")
        self._thread = threading.Thread(target=self._run, name="memory-vectors", daemon=True)
        self._wanted = not isinstance(config, EmbedderConfig) or config.kind != "none"
        self.state = "loading" if self._wanted else "off"

    def start(self) -> None:
        """Begin to load and to work."""
        if self._wanted:
            self._thread.start()

    def stop(self) -> None:
        """Stop after the batch at hand; what is left is done after the next start."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        self._queries.shutdown()
        if self._embedder is not None:
            self._embedder.close()

    @property
    def ready(self) -> bool:
        """Whether a model is loaded."""
        return self._embedder is not None

    def wake(self) -> None:
        """There is new text."""
        with self._wake:
            self._busy_until = time.monotonic() + _YIELD_SECONDS
            self._work = True
            self._wake.notify()

    @contextlib.contextmanager
    def held_back(self) -> Generator[None]:
        """Begin no batch within, for a minute at most: words come first. What is there is searched as ever."""
        with self._wake:
            if not self._holds:
                self._held_until = time.monotonic() + _LONGEST_HOLD_SECONDS
            self._holds += 1
        try:
            yield
        finally:
            with self._wake:
                self._holds -= 1
                self._wake.notify()

    def query_vector(self, text: str) -> NDArray[np.float32] | None:
        """The vector (d,) of a query, or None while there is no embedder or it fails in whatever way."""
        return self._query_vector(text, lambda: None)

    def begin_query(self, text: str) -> Callable[[], NDArray[np.float32] | None]:
        """Begin with the vector of a query, so that the search by words runs meanwhile; the result waits for it."""
        if self._embedder is None or not text.strip():
            return lambda: None
        begun = threading.Event()
        try:
            vector = self._queries.submit(self._query_vector, text, begun.set)
        except RuntimeError:  # stopping
            return lambda: None
        vector.add_done_callback(lambda _: begun.set())
        begun.wait(_LONGEST_HANDOVER_SECONDS)
        return vector.result

    def _query_vector(self, text: str, begun: Callable[[], None]) -> NDArray[np.float32] | None:
        embedder = self._embedder
        if embedder is None or not text.strip():
            return None
        try:
            if isinstance(embedder, TellsBegun):
                vector = embedder.embed_query_telling(text, begun)
            else:
                begun()
                vector = embedder.embed_query(text)
        except AlgError as error:
            self._failed(error)
            return None
        except Exception as error:  # noqa: BLE001 - as in `_run`: any failure of a model leaves search lexical
            if not self.state.startswith("unavailable"):  # once, not with each query
                _log.exception("embedding a query failed")
            self._failed(error)
            return None
        self.state = embedder.id
        return vector

    def fill(self, index: MemoryIndex, limit: int) -> int:
        """Give up to `limit` chunks of another index of this model their vectors; returns how many have none then."""
        embedder = self._embedder
        if embedder is not None:
            try:
                for start in range(0, limit, _BATCH):
                    batch = index.backlog(
                        min(_BATCH, limit - start), max_trust=Trust.SECRET if embedder.local else Trust.INTERNAL
                    )
                    if not batch:
                        break
                    vectors = embedder.embed([text for _, text in batch])
                    index.store_vectors([(chunk, vector) for (chunk, _), vector in zip(batch, vectors, strict=True)])
            except AlgError as error:
                self._failed(error)
        done, total = index.vector_progress()
        return total - done

    def _run(self) -> None:
        while not self._stopping:
            try:
                if self._embedder is None:
                    made = self._config
                    embedder = create_embedder(made) if isinstance(made, EmbedderConfig) else made
                    if embedder is None:
                        return
                    embedder.load()
                    self._index.set_embedder(space_of(embedder), embedder.dimensions)
                    self._embedder = embedder
                    self.state = embedder.id
                self._work_off(self._embedder)
            except AlgError as error:
                self._failed(error)
                self._sleep(_RETRY_SECONDS)
            except Exception as error:  # noqa: BLE001 - any failure of a model leaves search lexical, never the hub dead
                if self._stopping:
                    return
                _log.exception("embedding failed")
                self._failed(error)
                self._sleep(_RETRY_SECONDS)

    def _work_off(self, embedder: Embedder) -> None:
        while not self._stopping:
            with self._wake:
                self._wake.wait_for(lambda: self._work or self._stopping)
                self._work = False
            yielded = time.monotonic()
            while not self._stopping:
                now = time.monotonic()
                if now < self._busy_until and now - yielded < _LONGEST_YIELD_SECONDS:
                    self._sleep(self._busy_until - now)
                    continue
                if self._wait_while_held():
                    yielded = time.monotonic()
                    continue
                batch = self._index.backlog(_BATCH, max_trust=Trust.SECRET if embedder.local else Trust.INTERNAL)
                if not batch:
                    break
                vectors = embedder.embed([text for _, text in batch])
                self._index.store_vectors(
                    [(chunk, vector) for (chunk, _), vector in zip(batch, vectors, strict=True)],
                    embedder=space_of(embedder),
                )
                yielded = time.monotonic()
            if self.state != embedder.id:
                self.state = embedder.id

    def _wait_while_held(self) -> bool:
        """Wait until nobody holds it back any more, or has for too long; whether there was any need to."""
        with self._wake:
            left = self._held_until - time.monotonic()
            if not self._holds or left <= 0.0:
                return False
            self._wake.wait_for(lambda: self._stopping or not self._holds, timeout=left)
            return True

    def _failed(self, error: Exception) -> None:
        message = f"unavailable: {error}"
        if self.state != message:
            _log.warning("the embedder is %s", message)
        self.state = message
        self._work = True  # what failed is tried again, also when nothing new is written

    def _sleep(self, seconds: float) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping, timeout=max(0.0, seconds))
