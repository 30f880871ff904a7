"""Quantised vectors: sign bits of all in memory choose the candidates, int8 codes score them.

A search narrows in three steps, each dearer per row than the one before: the Hamming distance between sign bits over
all rows, the query's own numbers against the sign bits of a few thousand, the cosine with the int8 codes of a few
hundred. What each step keeps was measured on real vectors: docs/decisions/0009-vectors-in-memory.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Codes = NDArray[np.int8]
Integers = NDArray[np.int64]
Fetch = Callable[[Integers], tuple[NDArray[np.bool_], Codes]]

_BLOCK = 1 << 16  # rows: what one step of a scan works on stays in the processor's cache; codes are kept in such blocks
_BY_SIGNS = (1_024, 4_096, 16)  # kept by the distance between sign bits: least, most, and one row in so many ...
_BY_CODES = 400  # ... and by the query against sign bits; these are scored exactly
_SAMPLE = 16  # every so many distances are looked at to find where to cut
_FAR = np.uint16(65_535)
# What each of the 256 bytes says of 8 dimensions: 1 where the bit is set, -1 where it is not.
_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32).T * 2 - 1


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


class _Rows:
    """Arrays that grow together. Rows are appended and marked dead, never moved: a reader needs no lock.

    Attributes:
        bits: (words, capacity), a column a row, because a scan over one word of all rows is the fastest loop.
        blocks: int8 codes, `_BLOCK` rows each; `None` when they are not kept.
    """

    def __init__(self, dimensions: int, *, capacity: int, codes: bool) -> None:
        self.dimensions = dimensions
        self.count = 0
        self.dead = 0
        self.chunks = np.zeros(capacity, np.int64)
        self.memories = np.zeros(capacity, np.int64)
        self.live = np.zeros(capacity, np.bool_)
        self.bits = np.zeros((-(-dimensions // 64), capacity), np.uint64)
        self.blocks: list[Codes] | None = [] if codes else None

    def append(self, chunks: Integers, memories: Integers, bits: NDArray[np.uint64], codes: Codes | None) -> None:
        """Add rows: ids, memories, (n, words) bits, and codes (n, d) where they are kept."""
        first, last = self.count, self.count + len(chunks)
        if last > len(self.chunks):
            self._grow(max(last, len(self.chunks) * 5 // 4))
        self.chunks[first:last] = chunks
        self.memories[first:last] = memories
        self.live[first:last] = True
        self.bits[:, first:last] = bits.T
        if self.blocks is not None and codes is not None:
            done = 0
            while done < len(codes):
                place = first + done
                if place // _BLOCK == len(self.blocks):
                    self.blocks.append(np.zeros((_BLOCK, self.dimensions), np.int8))
                part = min(len(codes) - done, _BLOCK - place % _BLOCK)
                self.blocks[-1][place % _BLOCK : place % _BLOCK + part] = codes[done : done + part]
                done += part
        self.count = last

    def kill(self, places: Integers) -> None:
        """Mark live rows dead."""
        self.live[places] = False
        self.dead += len(places)

    def codes(self, places: Integers) -> Codes:
        """Codes of rows; only where they are kept."""
        if self.blocks is None:
            raise ValueError("this cache holds no codes")
        if len(self.blocks) == 1:
            return self.blocks[0].take(places, axis=0)
        found = np.empty((len(places), self.dimensions), np.int8)
        blocks = places // _BLOCK
        for block in np.unique(blocks).tolist():
            here = blocks == block
            found[here] = self.blocks[block][places[here] % _BLOCK]
        return found

    def compacted(self) -> _Rows:
        """The live rows alone, in new arrays; readers keep the old ones."""
        places = np.flatnonzero(self.live[: self.count])
        fresh = _Rows(self.dimensions, capacity=max(1_024, len(places) * 5 // 4), codes=self.blocks is not None)
        for start in range(0, len(places), _BLOCK):
            part = places[start : start + _BLOCK]
            codes = self.codes(part) if self.blocks is not None else None
            fresh.append(self.chunks[part], self.memories[part], self.bits[:, part].T, codes)
        return fresh

    def _grow(self, capacity: int) -> None:
        extra = capacity - len(self.chunks)
        self.chunks = np.concatenate([self.chunks, np.zeros(extra, np.int64)])
        self.memories = np.concatenate([self.memories, np.zeros(extra, np.int64)])
        self.live = np.concatenate([self.live, np.zeros(extra, np.bool_)])
        self.bits = np.concatenate([self.bits, np.zeros((len(self.bits), extra), np.uint64)], axis=1)


class Narrowed(NamedTuple):
    """The few hundred rows among which the nearest are, with what is needed to score them."""

    query: Floats
    wanted: int  # so many of them
    places: Integers
    chunks: Integers
    memories: Integers
    rows: _Rows | None  # that hold codes

    def scored(self, fetch: Fetch | None) -> Candidates:
        """The nearest, best first; see `VectorCache.nearest`."""
        if not len(self.places):
            return EMPTY
        chunks, memories = self.chunks, self.memories
        if self.rows is not None:
            codes = self.rows.codes(self.places)
        elif fetch is not None:
            known, codes = fetch(chunks)
            chunks, memories = chunks[known], memories[known]
            if not len(chunks):  # all came or went just now
                return EMPTY
        else:
            raise ValueError("this cache holds no codes")
        exact = cosine(codes, self.query)
        best = np.argsort(-exact, kind="stable")[: self.wanted]
        return Candidates(chunks[best], memories[best], exact[best])


class VectorCache:
    """The vectors of an index in memory: `dimensions` / 8 + 21 bytes a chunk, and `dimensions` more for its codes.

    Args:
        code_bytes: codes are kept while they take no more than this; beyond, whoever searches fetches those of the
            few hundred candidates. `None` keeps them all.
    """

    def __init__(self, dimensions: int, *, code_bytes: int | None = None) -> None:
        self.dimensions = dimensions
        self._code_bytes = code_bytes
        self._lock = threading.Lock()
        self._rows = _Rows(dimensions, capacity=1_024, codes=code_bytes is None or code_bytes >= dimensions)
        self._first = 0  # the chunk id of `_places[0]`
        self._places = np.zeros(0, np.int32)  # of each chunk id from there on its row + 1

    def __len__(self) -> int:
        return self._rows.count - self._rows.dead

    @property
    def nbytes(self) -> int:
        """Bytes held, without what is reserved for more."""
        rows = self._rows
        codes = 0 if rows.blocks is None else self.dimensions
        return rows.count * (17 + 8 * len(rows.bits) + codes) + self._places.nbytes

    @property
    def holds_codes(self) -> bool:
        """Whether the codes are here too, so that `rows` can be asked for them."""
        return self._rows.blocks is not None

    def add(self, chunks: Sequence[int], memories: Sequence[int], codes: Codes) -> None:
        """Append rows: ids, the row ids of their memories, and int8 codes (n, d). Known ids are replaced."""
        if not len(chunks):
            return
        ids = np.asarray(chunks, np.int64)
        packed = sign_bits(codes)
        bits = np.zeros((len(ids), len(self._rows.bits)), np.uint64)
        bits.view(np.uint8)[:, : packed.shape[1]] = packed
        with self._lock:
            rows = self._rows
            if rows.blocks is not None and self._code_bytes is not None:  # noqa: SIM102
                if (rows.count + len(ids)) * self.dimensions > self._code_bytes:
                    self._drop_codes()
                    rows = self._rows
            known = self._find(rows, ids)
            rows.kill(known[known >= 0])
            first = rows.count
            rows.append(ids, np.asarray(memories, np.int64), bits, codes)
            self._place(ids, np.arange(first + 1, rows.count + 1, dtype=np.int32))
            self._tidy()

    def remove(self, chunks: Sequence[int]) -> None:
        """Forget rows by chunk id; unknown ones are ignored."""
        if not len(chunks):
            return
        with self._lock:
            places = np.unique(self._find(self._rows, np.asarray(chunks, np.int64)))
            self._rows.kill(places[places >= 0])
            self._tidy()

    def nearest(
        self, query: Floats, count: int, allowed: Integers | None = None, *, fetch: Fetch | None = None
    ) -> Candidates:
        """The `count` chunks nearest to the unit vector `query` (d,), best first.

        Args:
            allowed: row ids of the memories to choose from, applied before the cut; `None` allows all.
            fetch: gives for chunk ids whether they have a vector, and the codes of those that do; needed where
                `holds_codes` is false.
        """
        return self.narrowed(query, count, allowed).scored(fetch)

    def narrowed(self, query: Floats, count: int, allowed: Integers | None = None) -> Narrowed:
        """The rows that `nearest` scores, found in memory alone."""
        with self._lock:
            rows, total = self._rows, self._rows.count
            chunks, memories, live, bits = rows.chunks, rows.memories, rows.live, rows.bits
            blocks = rows.blocks
            # A copy: numpy counts a mask and then fills that many places, past the end when rows die in between.
            keep: NDArray[np.bool_] | None = live[:total].copy() if rows.dead else None
        nothing = np.zeros(0, np.int64)
        if allowed is not None:
            if not len(allowed) or not total:
                return Narrowed(query, count, nothing, nothing, nothing, None)
            table = np.zeros(int(max(allowed.max(), memories[:total].max())) + 1, np.bool_)
            table[allowed] = True
            let_through = table[memories[:total]]
            keep = let_through if keep is None else keep & let_through
        places: Integers | None = None
        if keep is not None:
            size = int(np.count_nonzero(keep))
            if size * 8 < total:
                places, keep = np.flatnonzero(keep), None
        else:
            size = total
        least, most, share = _BY_SIGNS
        by_signs = max(least, min(most, size // share), 2 * count)
        if places is None:
            places = _near_by_signs(bits[:, :total], query, by_signs, keep)
        elif size > by_signs:
            places = places[_near_by_signs(bits[:, places], query, by_signs, None)]
        wanted = max(_BY_CODES, 2 * count)
        if len(places) > wanted:
            scores = _by_bytes(bits[:, places], query)
            places = places[np.argpartition(-scores, wanted)[:wanted]]
        return Narrowed(query, count, places, chunks[places], memories[places], rows if blocks is not None else None)

    def rows(self, chunks: Integers) -> tuple[NDArray[np.bool_], Codes]:
        """For each chunk id whether it has a vector, and the codes of those that do; only where `holds_codes`."""
        with self._lock:
            rows = self._rows
            places = self._find(rows, chunks)
        return places >= 0, rows.codes(places[places >= 0])

    def _find(self, rows: _Rows, chunks: Integers) -> Integers:
        """Places of live rows by chunk id, -1 where there is none."""
        slots = chunks - self._first
        inside = (slots >= 0) & (slots < len(self._places))
        places = np.full(len(chunks), -1, np.int64)
        places[inside] = self._places[slots[inside]].astype(np.int64) - 1
        places[places >= 0] = np.where(rows.live[places[places >= 0]], places[places >= 0], -1)
        return places

    def _place(self, chunks: Integers, places: NDArray[np.int32]) -> None:
        low, high = int(chunks.min()), int(chunks.max()) + 1
        if not len(self._places):
            self._first, self._places = low, np.zeros(high - low, np.int32)
        last = self._first + len(self._places)
        if low < self._first or high > last:
            # Vectors come newest first after an import and oldest first later: room on the side that grows.
            room = (last - self._first) // 4 + 1_024
            first = self._first if low >= self._first else max(0, low - room)
            table = np.zeros((last if high <= last else high + room) - first, np.int32)
            table[self._first - first : last - first] = self._places
            self._first, self._places = first, table
        self._places[chunks - self._first] = places

    def _tidy(self) -> None:
        if self._rows.dead > 1_024 and self._rows.dead * 4 > self._rows.count:
            rows = self._rows.compacted()
            self._places[:] = 0
            self._places[rows.chunks[: rows.count] - self._first] = np.arange(1, rows.count + 1, dtype=np.int32)
            self._rows = rows

    def _drop_codes(self) -> None:
        """Go on without codes; a search that has begun keeps the old ones."""
        old = self._rows
        fresh = _Rows(self.dimensions, capacity=0, codes=False)
        fresh.count, fresh.dead = old.count, old.dead
        fresh.chunks, fresh.memories, fresh.live, fresh.bits = old.chunks, old.memories, old.live, old.bits
        self._rows = fresh


def _near_by_signs(bits: NDArray[np.uint64], query: Floats, count: int, keep: NDArray[np.bool_] | None) -> Integers:
    """Places of the `count` rows whose sign bits differ least from the query's, or of all."""
    words, total = len(bits), bits.shape[1]
    if total <= count:
        return np.flatnonzero(keep) if keep is not None else np.arange(total, dtype=np.int64)
    wanted = np.zeros(words, np.uint64)
    packed = sign_bits(query)
    wanted.view(np.uint8)[: len(packed)] = packed
    distance = np.empty(total, np.uint16)
    mixed = np.empty(min(_BLOCK, total), np.uint64)
    counts = np.empty(len(mixed), np.uint8)
    for start in range(0, total, _BLOCK):
        part = distance[start : start + _BLOCK]
        size = len(part)
        for word in range(words):
            np.bitwise_xor(bits[word, start : start + size], wanted[word], out=mixed[:size])
            np.bitwise_count(mixed[:size], out=counts[:size])
            if word:
                np.add(part, counts[:size], out=part)
            else:
                part[:] = counts[:size]
    if keep is not None:
        distance[~keep] = _FAR
    # A sample says about where to cut; only where that was too near are all distances counted.
    bins = 64 * words + 1
    sample = distance[::_SAMPLE]
    histogram = np.cumsum(np.bincount(sample[sample < bins], minlength=bins))
    cut = int(np.searchsorted(histogram, count * 5 // 4 // _SAMPLE + 16))
    near = np.flatnonzero(distance <= min(cut, bins))
    if len(near) < count:
        histogram = np.cumsum(np.bincount(distance[distance < bins], minlength=bins))
        cut = int(np.searchsorted(histogram, min(count, int(histogram[-1]))))
        near = np.flatnonzero(distance <= cut)
    if len(near) > count:
        near = near[np.argpartition(distance[near], count)[:count]]
    return near


def _by_bytes(bits: NDArray[np.uint64], query: Floats) -> Floats:
    """The query's numbers against the sign bits (words, n): the sum of those whose bit is set less the others."""
    padded = np.zeros(64 * len(bits), np.float32)
    padded[: len(query)] = query
    table = padded.reshape(-1, 8) @ _SIGNS  # (bytes, 256)
    rows = np.ascontiguousarray(bits.T).view(np.uint8)
    rows = rows + np.arange(rows.shape[1], dtype=np.int64) * 256
    return table.ravel().take(rows, mode="clip").sum(axis=1, dtype=np.float32)  # without `clip` it checks every place
