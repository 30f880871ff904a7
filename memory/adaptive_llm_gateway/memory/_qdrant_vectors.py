"""Vectors that a Qdrant server searches: it is brought in the background to what the index's file has.

The file stays the truth of the vectors, as memory files are of the index: what the server says is scored and filtered
again by what the file says, and what the server lacks is brought to it without the model.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from adaptive_llm_gateway.core import AlgError, Trust
from adaptive_llm_gateway.memory._qdrant import QdrantServer, QdrantUnavailable, Stored, checksum
from adaptive_llm_gateway.memory._vectors import EMPTY, Candidates, Codes, Fetch, Floats, Integers, cosine

_log = logging.getLogger(__name__)
_BATCH = 256  # points in one request
_SLICE = 4_096  # rows read from the file at once
_COMPARED = 4_096  # so many that are not there yet are compared here
_WAIT_SECONDS = 2.0  # a search waits so long for the server's first answer
_STOP_SECONDS = 5.0  # for the batch under way
_RETRY_SECONDS = 30.0
_QUERY_BREAK = 30.0  # without another query after one that was not answered in time, though the server answers else
_CHECK_SECONDS = 300.0
_META = "qdrant_collection"


class VectorFile(Protocol):
    """What is asked of the index."""

    @property
    def space(self) -> str:
        """Names the model whose vectors are kept."""
        ...

    def stored_vectors(
        self, *, after: int = 0, count: int = 0, chunks: Sequence[int] | None = None, max_trust: Trust
    ) -> list[Stored]:
        """Vectors of memories up to `max_trust`, in order of chunks: of these chunks, else the next so many."""
        ...

    def meta_get(self, key: str) -> str | None:
        """A small piece of state."""
        ...

    def meta_set(self, key: str, value: str | None) -> None:
        """Keep a small piece of state."""
        ...


class QdrantVectors:
    """The vectors of one model in a Qdrant server, as `HeldVectors` has them in memory.

    Args:
        retry_seconds: until a server that failed is asked again.
        check_seconds: how often an idle hub counts what is there.
    """

    def __init__(
        self,
        file: VectorFile,
        server: QdrantServer,
        *,
        retry_seconds: float = _RETRY_SECONDS,
        check_seconds: float = _CHECK_SECONDS,
    ) -> None:
        self.max_trust = server.max_trust
        self._file = file
        self._server = server
        self._retry = retry_seconds
        self._check = check_seconds
        self._state = threading.Condition()
        # Chunks of which the server may know other than the file, with their memories (0: unknown); and those of them
        # that are being brought, apart, so that what is noted again meanwhile is brought again.
        self._stale: dict[int, int] = {}
        self._bringing: dict[int, int] = {}
        self._count = 0  # points when all were there
        self._dimensions = 0  # none is to be kept
        self._collection = ""
        self._round = 0  # raised when what was prepared is void
        self._prepared = False
        self._awaited = False  # whether a search has waited for that in vain
        self._compared = False  # whether all that is there has been compared with the file
        self._working = False
        self._error: QdrantUnavailable | None = None
        self._slow: QdrantUnavailable | None = None  # a query took too long, so no search asks for a while
        self._quiet_until = 0.0
        self._closed = False
        self._thread: threading.Thread | None = None

    nbytes = 0
    progress = None

    @property
    def begun(self) -> bool:
        """Whether vectors are kept."""
        return self._dimensions > 0

    @property
    def trouble(self) -> str | None:
        """What a searcher must know; `None` when the server has all."""
        if not self.begun:
            return None
        error = self._error or (self._slow if time.monotonic() < self._quiet_until else None)
        if error is not None:
            return f"search is by words alone: {error}"
        if not self._prepared:
            return f"search is by words alone until Qdrant at {self._server.url!r} answers"
        missing = len(self._stale)
        if missing > _COMPARED:
            return f"{missing} vectors are on their way to Qdrant: some passages are found by words alone"
        return None

    def start(self, dimensions: int, _expected: int) -> None:
        """Begin to bring the server to what the file has, unless that has begun; see `HeldVectors.start`."""
        with self._state:
            if self.begun or dimensions < 1 or self._closed:
                return
            self._dimensions = dimensions
            self._collection = self._server.collection_for(self._file.space, dimensions)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="memory-qdrant", daemon=True)
                self._thread.start()
            self._state.notify_all()

    def restart(self) -> None:
        """All that was there is void: another model's vectors are to come, or none, or all anew."""
        with self._state:
            self._round += 1
            self._dimensions = 0
            self._prepared = self._compared = False
            self._stale.clear()
            self._bringing = {}
            self._state.notify_all()

    def close(self) -> None:
        """Stop; what is left is done after the next start."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
        self._server.close()

    def ready(self) -> QdrantVectors | None:
        """Itself when it can be asked; `None` while the server does not answer."""
        with self._state:
            if self.begun and not self._prepared and self._error is None and not self._awaited:
                started = self._round
                self._awaited = not self._state.wait_for(
                    lambda: self._prepared or self._error is not None or self._closed or self._round != started,
                    _WAIT_SECONDS,
                )
            there = self._prepared and self._error is None and time.monotonic() >= self._quiet_until
        return self if there else None

    def settled(self, timeout: float) -> bool:
        """Wait until the server has what the file has; whether that came in time."""
        with self._state:
            return self._state.wait_for(
                lambda: not self.begun or (self._compared and not self._stale and not self._working), timeout
            )

    def add(self, chunks: Sequence[int], memories: Sequence[int], codes: Codes) -> None:
        """Vectors were stored in the file."""
        if not len(chunks):
            return
        self.start(codes.shape[1], len(chunks))
        with self._state:
            self._stale.update(zip(chunks, memories, strict=True))
            self._state.notify_all()

    def remove(self, chunks: Sequence[int]) -> None:
        """Chunks are gone, or may leave this machine no longer, or may leave it now."""
        if not len(chunks) or not self.begun:
            return
        with self._state:
            self._stale.update(dict.fromkeys(chunks, 0))
            self._state.notify_all()

    def nearest(
        self, query: Floats, count: int, allowed: Integers | None = None, *, fetch: Fetch | None = None
    ) -> Candidates:
        """See `VectorCache.nearest`; memories are 0 where only the file knows them.

        What the server finds is scored by the file's vectors, and left out where the file has none.

        Raises:
            QdrantUnavailable: the server does not answer, or not in time; `trouble` has it from then on.
        """
        if fetch is None or (allowed is not None and not len(allowed)):
            return EMPTY
        with self._state:
            stale = self._bringing | dict(itertools.islice(reversed(self._stale.items()), _COMPARED))
            collection, round_ = self._collection, self._round
        # What is gone from the file still takes places there.
        try:
            there = self._server.nearest(collection, query, count + len(stale), allowed)
        except QdrantUnavailable as error:
            with self._state:
                if error.details["reason"] == "timeout":
                    self._slow, self._quiet_until = error, time.monotonic() + _QUERY_BREAK
                if self._round == round_:
                    self._failed(error)
            raise
        here = np.array(list(stale), np.int64)
        if allowed is not None:
            here = here[np.isin(np.array(list(stale.values()), np.int64), allowed)]
        chunks = np.unique(np.concatenate([there, here]))
        known, codes = fetch(chunks)
        if not len(codes):
            return EMPTY
        chunks = chunks[known]
        exact = cosine(codes, query)
        best = np.argsort(-exact, kind="stable")[:count]
        memories = np.array([stale.get(chunk, 0) for chunk in chunks[best].tolist()], np.int64)
        return Candidates(chunks[best], memories, exact[best])

    # --- In the background ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closed:
            with self._state:
                due = self._state.wait_for(self._has_work, self._check)
                if self._closed:
                    return
                if not self.begun:
                    continue
                self._working = True
                round_, collection, dimensions = self._round, self._collection, self._dimensions
            try:
                if not due and self._server.count(collection) != self._count:
                    self._compared = False
                self._work(round_, collection, dimensions)
            except QdrantUnavailable as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - the file's, which says so itself; the thread must outlive them all
                if not self._closed:
                    _log.warning(
                        "vectors could not be brought to Qdrant: %s", error, exc_info=not isinstance(error, AlgError)
                    )
                self._compared = False
                self._pause()
            finally:
                with self._state:
                    self._working = False
                    self._bringing = {}
                    self._state.notify_all()
            if self._error is not None:
                self._pause()

    def _has_work(self) -> bool:
        if self._closed:
            return True
        return self.begun and not (self._prepared and self._compared and not self._stale)

    def _work(self, round_: int, collection: str, dimensions: int) -> None:
        if not self._prepared:
            self._server.prepare(collection, dimensions)
            with self._state:
                if self._round != round_:
                    return
                if self._error is not None:
                    _log.info("Qdrant answers again")
                self._prepared, self._awaited, self._error = True, False, None
                self._state.notify_all()
            old = self._file.meta_get(_META)
            if old != collection:
                if old is not None and self._server.owns(old):  # a copied home's is the other hub's still
                    self._server.remove(old)  # of another model
                self._file.meta_set(_META, collection)
        if not self._compared:
            self._compare(round_, collection)
        while self._bring(round_, collection):
            pass
        self._count = self._server.count(collection)

    def _compare(self, round_: int, collection: str) -> None:
        """Note where the server has other than the file."""
        there = self._server.points(collection)
        seen = np.zeros(len(there.chunks), np.bool_)
        after, differing = 0, dict[int, int]()
        while rows := self._file.stored_vectors(after=after, count=_SLICE, max_trust=self.max_trust):
            if self._closed or self._round != round_:
                return
            after = rows[-1].chunk
            chunks = np.array([row.chunk for row in rows], np.int64)
            places = np.minimum(np.searchsorted(there.chunks, chunks), max(len(seen) - 1, 0))
            for row, place in zip(rows, places.tolist(), strict=True):
                if len(seen) and there.chunks[place] == row.chunk:
                    seen[place] = True
                    if there.memories[place] == row.memory and there.checksums[place] == checksum(row.code):
                        continue
                differing[row.chunk] = row.memory
        differing.update(dict.fromkeys(there.chunks[~seen].tolist(), 0))
        with self._state:
            if self._round == round_:
                self._stale.update(differing)
                self._compared = True

    def _bring(self, round_: int, collection: str) -> bool:
        """Bring one batch to what the file says; whether there was one."""
        with self._state:
            self._bringing = {}
            if self._round != round_ or self._closed or not self._stale:
                return False
            # The newest first: the older ones are no longer compared here when there are very many.
            batch = self._bringing = dict(self._stale.popitem() for _ in range(min(_BATCH, len(self._stale))))
        rows = self._file.stored_vectors(chunks=list(batch), max_trust=self.max_trust)
        self._server.put(collection, rows)
        self._server.drop(collection, sorted(batch.keys() - {row.chunk for row in rows}))
        return True

    def _failed(self, error: QdrantUnavailable) -> None:
        with self._state:
            if self._closed:
                return
            if self._error is None or str(self._error) != str(error):
                _log.warning("%s", error)
            self._error = error
            self._prepared = self._compared = False
            self._state.notify_all()

    def _pause(self) -> None:
        with self._state:
            self._state.wait_for(lambda: self._closed, self._retry)
