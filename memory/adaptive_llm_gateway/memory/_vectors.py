"""Quantised vectors: int8 for scores, sign bits for candidates, and both in memory while they fit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int8]
Integers = NDArray[np.int64]

_EXACT = 4_096  # up to this many rows every one is scored; above, sign bits choose the candidates


def quantise(vectors: Floats) -> Codes:
    """int8 codes of rows, each scaled to its own largest component; shape is kept."""
    peak = np.abs(vectors).max(axis=-1, keepdims=True)
    return np.rint(vectors * (127.0 / np.maximum(peak, 1e-12))).astype(np.int8)


def sign_bits(vectors: NDArray[np.float32] | Codes) -> NDArray[np.uint8]:
    """One bit a dimension, set where positive, padded with zeros to whole bytes."""
    return np.packbits(vectors > 0, axis=-1)


def cosine(codes: Codes, query: Floats) -> Floats:
    """Cosine of each int8 row (n, d) with the unit vector `query` (d,)."""
    rows = codes.astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    # Not by BLAS: its threads cost more than they bring for so few rows, and wait spinning on a busy machine.
    return np.einsum("ij,j->i", rows, query) / np.maximum(norms, 1e-12)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Chunks near a query: parallel arrays of chunk ids, their memories' row ids, and cosines."""

    chunks: Integers
    memories: Integers
    cosines: Floats


EMPTY = Candidates(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


class VectorCache:
    """All vectors of an index in memory: `dimensions` * 9/8 + 17 bytes a chunk.

    Rows are appended and marked dead; readers work on a snapshot of the arrays and need no lock meanwhile.
    """

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._lock = threading.Lock()
        self._count = 0
        self._dead = 0
        self._allocate(1_024)

    def __len__(self) -> int:
        return self._count - self._dead

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(array.nbytes for array in (self._chunks, self._memories, self._codes, self._bits, self._live))

    def add(self, chunks: Sequence[int], memories: Sequence[int], codes: Codes) -> None:
        """Append rows: ids, the row ids of their memories, and int8 codes (n, d). Known ids are replaced."""
        if not len(chunks):
            return
        with self._lock:
            known = self._find(np.asarray(chunks, np.int64))
            self._kill(known[known >= 0])
            first, last = self._count, self._count + len(chunks)
            if last > len(self._chunks):
                self._grow(last)
            order = np.argsort(np.asarray(chunks, np.int64), kind="stable")
            self._chunks[first:last] = np.asarray(chunks, np.int64)[order]
            self._memories[first:last] = np.asarray(memories, np.int64)[order]
            self._codes[first:last] = codes[order]
            bits = sign_bits(codes[order])
            self._bits.view(np.uint8)[first:last, : bits.shape[1]] = bits
            self._live[first:last] = True
            self._count = last
            if first and self._chunks[first] <= self._chunks[first - 1]:
                self._compact()

    def remove(self, chunks: Sequence[int]) -> None:
        """Forget rows by chunk id; unknown ones are ignored."""
        if not len(chunks):
            return
        with self._lock:
            places = self._find(np.asarray(chunks, np.int64))
            self._kill(places[places >= 0])
            if self._dead > 1_024 and self._dead * 4 > self._count:
                self._compact()

    def nearest(self, query: Floats, count: int, allowed: Integers | None = None) -> Candidates:
        """The `count` chunks nearest to the unit vector `query` (d,), best first.

        Args:
            allowed: row ids of the memories to choose from, applied before the cut; `None` allows all.
        """
        with self._lock:
            total, codes, bits = self._count, self._codes, self._bits
            chunks, memories, live = self._chunks, self._memories, self._live
        if not total:
            return EMPTY
        keep = live[:total]
        if allowed is not None:
            if not len(allowed):
                return EMPTY
            table = np.zeros(int(max(allowed.max(), memories[:total].max())) + 1, np.bool_)
            table[allowed] = True
            keep = keep & table[memories[:total]]
        places: Integers | None = None if keep.all() else np.flatnonzero(keep)
        size = total if places is None else len(places)
        if not size:
            return EMPTY
        if size > max(_EXACT, count):
            wanted = np.zeros(bits.shape[1], np.uint64)
            packed = sign_bits(query)
            wanted.view(np.uint8)[: len(packed)] = packed
            pool = bits[:total] if places is None else bits[places]
            distance = np.bitwise_count(pool ^ wanted).sum(axis=1, dtype=np.uint16)
            chosen = np.argpartition(distance, count)[:count]
            places = chosen if places is None else places[chosen]
        elif places is None:
            places = np.arange(total)
        scores = cosine(codes[places], query)
        best = np.argsort(-scores, kind="stable")[:count]
        places = places[best]
        return Candidates(chunks[places], memories[places], scores[best])

    def cosines(self, chunks: Integers, query: Floats) -> tuple[NDArray[np.bool_], Floats]:
        """For each chunk id whether it has a vector, and its cosine with `query` (0 where it has none)."""
        with self._lock:
            places = self._find(chunks)
            codes = self._codes
        known = places >= 0
        scores = np.zeros(len(chunks), np.float32)
        scores[known] = cosine(codes[places[known]], query)
        return known, scores

    def rows(self, chunks: Integers) -> tuple[NDArray[np.bool_], Codes]:
        """For each chunk id whether it has a vector, and the codes of those that do."""
        with self._lock:
            places = self._find(chunks)
            codes = self._codes
        return places >= 0, codes[places[places >= 0]]

    def _find(self, chunks: Integers) -> Integers:
        """Places of live rows by chunk id, -1 where there is none; ids are kept ascending."""
        if not self._count:
            return np.full(len(chunks), -1, np.int64)
        ids = self._chunks[: self._count]
        places = np.minimum(np.searchsorted(ids, chunks), self._count - 1)
        return np.where((ids[places] == chunks) & self._live[places], places, -1)

    def _kill(self, places: Integers) -> None:
        self._live[places] = False
        self._dead += len(places)

    def _allocate(self, capacity: int) -> None:
        self._chunks = np.zeros(capacity, np.int64)
        self._memories = np.zeros(capacity, np.int64)
        self._codes = np.zeros((capacity, self.dimensions), np.int8)
        self._bits = np.zeros((capacity, -(-self.dimensions // 64)), np.uint64)
        self._live = np.zeros(capacity, np.bool_)

    def _grow(self, needed: int) -> None:
        old = self._chunks, self._memories, self._codes, self._bits, self._live
        self._allocate(max(needed, needed * 5 // 4))
        new = self._chunks, self._memories, self._codes, self._bits, self._live
        for source, target in zip(old, new, strict=True):
            target[: self._count] = source[: self._count]

    def _compact(self) -> None:
        """Drop dead rows and restore ascending order, in fresh arrays: readers keep the old ones."""
        live = np.flatnonzero(self._live[: self._count])
        live = live[np.argsort(self._chunks[live], kind="stable")]
        old = self._chunks, self._memories, self._codes, self._bits, self._live
        self._allocate(max(1_024, len(live) * 5 // 4))
        new = self._chunks, self._memories, self._codes, self._bits, self._live
        for source, target in zip(old, new, strict=True):
            target[: len(live)] = source[live]
        self._count, self._dead = len(live), 0
