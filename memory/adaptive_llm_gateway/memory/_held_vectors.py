"""Reads the vectors of an index into memory, in the background and in slices; search goes on by words meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from adaptive_llm_gateway.memory._vectors import Codes, VectorCache

_log = logging.getLogger(__name__)
_SLICE = 4_096  # rows read at once: writes wait for one slice at most
_PAUSE_SECONDS = 0.001  # between slices, for whoever waits to write
_WORTH_WAITING = 200_000  # so many are there in half a second: a search waits for them
_WAIT_SECONDS = 30.0

Slice = list[tuple[int, int, bytes]]


class HeldVectors:
    """The vectors of one model, as the index's file has them.

    The caller sees to it that `read`, `add`, `remove` and `restart` exclude each other, as writes to the file do.

    Args:
        read: gives the next so many rows (chunk, memory, code) above a chunk id and calls `take` with them before
            anything else is written.
        code_bytes: see `VectorCache`.
    """

    def __init__(self, read: Callable[[int, int, Callable[[Slice], None]], None], *, code_bytes: int) -> None:
        self._read = read
        self._code_bytes = code_bytes
        self._state = threading.Condition()
        self._cache: VectorCache | None = None
        self._complete = False
        self._error: Exception | None = None
        self._expected = 0
        self._round = 0  # raised when what was read is void
        self._thread: threading.Thread | None = None

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        cache = self._cache
        return cache.nbytes if cache is not None else 0

    @property
    def begun(self) -> bool:
        """Whether they are there, or are being read."""
        return self._cache is not None

    @property
    def progress(self) -> tuple[int, int] | None:
        """(read, about how many there are) while they are being read; `None` when all are there, or none is wanted."""
        cache = self._cache
        return None if self._complete or cache is None else (len(cache), self._expected)

    def start(self, dimensions: int, expected: int) -> None:
        """Begin to read unless that has begun.

        Args:
            expected: about how many there are.
        """
        with self._state:
            if self._cache is not None or dimensions < 1:
                return
            self._cache = VectorCache(dimensions, code_bytes=self._code_bytes)
            self._complete = expected == 0
            self._error = None
            self._expected = expected
            if self._complete:
                return
            self._thread = threading.Thread(
                target=self._load, args=(self._cache, self._round), name="memory-load-vectors", daemon=True
            )
            self._thread.start()

    def restart(self) -> None:
        """Forget all: another model's are to come, or none."""
        with self._state:
            self._round += 1
            self._cache, self._complete, self._expected = None, False, 0
            self._state.notify_all()

    def close(self) -> None:
        """Stop reading; waits for the slice at hand."""
        self.restart()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_WAIT_SECONDS)

    def ready(self) -> VectorCache | None:
        """The vectors when all are there; `None` while very many are being read.

        Raises:
            CorruptIndex, StorageError: they could not be read.
        """
        with self._state:
            if self._cache is not None and not self._complete and self._expected <= _WORTH_WAITING:
                started = self._round
                self._state.wait_for(
                    lambda: self._complete or self._error is not None or self._round != started, _WAIT_SECONDS
                )
            if self._error is not None:
                raise self._error
            return self._cache if self._complete else None

    def add(self, chunks: Sequence[int], memories: Sequence[int], codes: Codes) -> None:
        """Take in vectors that were stored."""
        cache = self._cache
        if cache is not None:
            cache.add(chunks, memories, codes)

    def remove(self, chunks: Sequence[int]) -> None:
        """Forget those of chunks that are gone."""
        cache = self._cache
        if cache is not None:
            cache.remove(chunks)

    def _load(self, cache: VectorCache, started: int) -> None:
        last: int | None = 0
        while last is not None and self._round == started:
            try:
                last = self._slice(cache, last)
            except Exception as error:  # noqa: BLE001 - whoever searches is told
                _log.warning("the vectors could not be read: %s", error)
                with self._state:
                    if self._round == started:
                        self._error = error
                    self._state.notify_all()
                return
            time.sleep(_PAUSE_SECONDS)
        with self._state:
            if self._round == started:
                self._complete = True
            self._state.notify_all()

    def _slice(self, cache: VectorCache, after: int) -> int | None:
        """Read one slice; the last chunk of it, `None` at the end."""
        following: int | None = None

        def take(rows: Slice) -> None:
            nonlocal following
            if rows:
                codes = np.frombuffer(b"".join(row[2] for row in rows), np.int8).reshape(len(rows), -1)
                cache.add([row[0] for row in rows], [row[1] for row in rows], codes)
                following = rows[-1][0]

        self._read(after, _SLICE, take)
        return following
