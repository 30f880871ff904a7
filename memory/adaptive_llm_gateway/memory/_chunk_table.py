"""Where the chunks of an index belong: memory, length, thread and neighbours, in memory, 40 bytes a chunk.

A search looks at thousands of chunks by their ids; arrays answer that without a query a chunk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._bm25 import Facts, Sizes
from adaptive_llm_gateway.memory._distinct import Distinct
from adaptive_llm_gateway.memory._vectors import Floats, Integers

_Number = TypeVar("_Number", np.int32, np.int64)
_ROOM = 1_024


class Block(NamedTuple):
    """The chunks of one memory, in order.

    Attributes:
        thread: names the memories that belong together, such as the files of a session; `None` for a memory alone.
        created: in microseconds since 1970; memories of a thread stand in this order.
        chunks: (id, characters) of each.
    """

    memory: int
    thread: int | None
    created: int
    chunks: Sequence[tuple[int, int]]


class Part(NamedTuple):
    """Some of an index's memories, as if there were no others.

    Attributes:
        lengths: characters of each thread, by its place.
    """

    memories: Distinct
    sizes: Sizes
    lengths: Floats

    def of(self, facts: Facts) -> Facts:
        """What is known of chunks: of the other memories' that they are gone."""
        here = self.memories.has(facts.memories)
        threads = np.where(facts.groups < 0, -facts.groups, 0)
        lengths = np.where(threads > 0, self.lengths[np.minimum(threads, len(self.lengths) - 1)], facts.group_lengths)
        found = facts._replace(group_lengths=lengths)
        if here.all():
            return found
        return Facts(*(np.where(here, each, each.dtype.type(0)) for each in found))


class ChunkTable:
    """See the module. Changes are made by one thread at a time; readers need no lock and see each chunk whole or not
    at all, though for a moment without a neighbour that is being put in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memory = np.zeros(_ROOM, np.int64)  # by chunk id, 0 where there is none; so are the next four
        self._length = np.zeros(_ROOM, np.int32)
        self._previous = np.zeros(_ROOM, np.int64)
        self._following = np.zeros(_ROOM, np.int64)
        self._siblings = np.zeros(_ROOM, np.int32)  # by memory row; so are the next three
        self._total = np.zeros(_ROOM, np.int64)
        self._thread = np.zeros(_ROOM, np.int64)  # 0 for a memory alone, else its place in `_threads`
        self._created = np.zeros(_ROOM, np.int64)
        self._places: dict[int, int] = {}  # of each thread
        self._lengths = np.zeros(_ROOM, np.int64)  # by place of thread; so is the next
        self._last = np.zeros(_ROOM, np.int64)
        self._members: dict[int, int] = {}  # memories of each thread's place
        self._chunks = self._memories = self._threaded = self._characters = 0
        self.changed = object()  # another one after each change

    @property
    def sizes(self) -> Sizes:
        """The whole index."""
        groups = self._memories - self._threaded + len(self._members)
        return Sizes(self._chunks, groups, float(self._characters))

    def part(self, memories: Distinct) -> Part:
        """What is known where only these memories are."""
        known = memories.ids[memories.ids < len(self._thread)]
        counts, totals, threads = self._siblings[known], self._total[known], self._thread[known]
        there = counts > 0
        groups = np.count_nonzero(there & (threads == 0)) + len(np.unique(threads[there & (threads > 0)]))
        sizes = Sizes(int(counts.sum()), int(groups), float(totals.sum()))
        return Part(memories, sizes, np.bincount(threads, totals, len(self._lengths)).astype(np.float32))

    def about(self, chunks: Integers) -> Facts:
        """What is known of chunks."""
        ids = np.where((chunks > 0) & (chunks < len(self._memory)), chunks, 0)
        memories = self._memory[ids]
        rows = np.where(memories < len(self._thread), memories, 0)
        threads = self._thread[rows]
        return Facts(
            memories,
            self._siblings[rows].astype(np.int64),
            self._length[ids].astype(np.float32),
            np.where(threads > 0, -threads, memories),
            np.where(threads > 0, self._lengths[threads], self._total[rows]).astype(np.float32),
            np.where(memories > 0, self._previous[ids], 0),
            np.where(memories > 0, self._following[ids], 0),
        )

    def seen(
        self, chunks: Integers, newest: int, look_up: Callable[[Sequence[int]], Iterable[tuple[int, ...]]]
    ) -> Facts:
        """`about`, as a transaction sees it that began before or after the last change here.

        Args:
            newest: the greatest id of a chunk that the transaction sees; ids grow, so those above are of later changes.
            look_up: (id, memory, its chunks, length, length of all its chunks) of chunks that are not here. It is
                asked about those of which something changed just now; of their neighbours and threads nothing is said.
        """
        asked = np.where(chunks <= newest, chunks, 0)
        about = self.about(asked)
        places = np.flatnonzero((about.memories == 0) & (asked > 0))
        if len(places):
            known = {row[0]: row[1:] for row in look_up(np.unique(asked[places]).tolist())}
            for place in places.tolist():
                if row := known.get(int(asked[place])):
                    about.memories[place] = about.groups[place] = row[0]
                    about.siblings[place], about.lengths[place], about.group_lengths[place] = row[1:]
        return about

    def fill(
        self,
        chunks: Integers,
        memories: Integers,
        ordinals: Integers,
        lengths: Integers,
        threads: Integers,
        created: Integers,
    ) -> None:
        """Put all chunks of an index into an empty table; parallel arrays, `threads` 0 for a memory alone."""
        if not len(chunks):
            return
        with self._lock:
            self._reserve(int(chunks.max()), int(memories.max()))
            joined = threads != 0
            names, found = np.unique(threads[joined], return_inverse=True)
            places = np.zeros(len(chunks), np.int64)
            places[joined] = found.reshape(-1) + 1
            self._places = {name: place for place, name in enumerate(names.tolist(), 1)}
            self._lengths, self._last = np.zeros(len(names) + 1, np.int64), np.zeros(len(names) + 1, np.int64)
            np.add.at(self._lengths, places, lengths)
            self._lengths[0] = 0
            self._length[chunks] = lengths
            self._thread[memories] = places
            self._created[memories] = created
            np.add.at(self._siblings, memories, 1)
            np.add.at(self._total, memories, lengths)
            groups = np.where(places > 0, -places, memories)
            order = np.lexsort((ordinals, memories, created, groups))
            ids, within = chunks[order], groups[order]
            same = within[1:] == within[:-1]
            self._previous[ids[1:][same]] = ids[:-1][same]
            self._following[ids[:-1][same]] = ids[1:][same]
            last = np.append(~same, True)
            ends = last & (within < 0)
            self._last[-within[ends]] = ids[ends]
            alone, first = np.unique(memories, return_index=True)
            members = np.bincount(places[first], minlength=len(names) + 1)
            counts: list[int] = members[1:].tolist()
            self._members = dict(enumerate(counts, 1))
            self._chunks, self._memories = len(chunks), len(alone)
            self._threaded = int(members[1:].sum())
            self._characters = int(lengths.sum())
            self._memory[chunks] = memories
            self.changed = object()

    def put(self, blocks: Iterable[Block], gone: Sequence[int] = ()) -> None:
        """Put memories in, each in the place of what was known of it.

        Args:
            gone: chunks that are no more.
        """
        with self._lock:
            for chunk in gone:
                self._drop(chunk)
            for block in blocks:
                for chunk, _ in block.chunks:
                    self._drop(chunk)
                self._add(block)
            self.changed = object()

    def _drop(self, chunk: int) -> None:
        if chunk >= len(self._memory) or not (memory := int(self._memory[chunk])):
            return
        before, after = int(self._previous[chunk]), int(self._following[chunk])
        if before:
            self._following[before] = after
        if after:
            self._previous[after] = before
        length, thread = int(self._length[chunk]), int(self._thread[memory])
        self._memory[chunk] = self._previous[chunk] = self._following[chunk] = self._length[chunk] = 0
        self._siblings[memory] -= 1
        self._total[memory] -= length
        self._chunks -= 1
        self._characters -= length
        if thread:
            self._lengths[thread] -= length
            if self._last[thread] == chunk:
                self._last[thread] = before
        if not self._siblings[memory]:
            self._memories -= 1
            if thread:
                self._threaded -= 1
                self._members[thread] -= 1
                if not self._members[thread]:
                    del self._members[thread]
            self._thread[memory] = 0

    def _add(self, block: Block) -> None:
        if not block.chunks:
            return
        self._reserve(max(chunk for chunk, _ in block.chunks), block.memory)
        thread = 0 if block.thread is None else self._place(block.thread)
        if not self._siblings[block.memory]:
            self._memories += 1
            if thread:
                self._threaded += 1
                self._members[thread] = self._members.get(thread, 0) + 1
        self._thread[block.memory] = thread
        self._created[block.memory] = block.created
        # After the last chunk of the thread that is not younger; memories of a thread mostly come in order.
        before = int(self._last[thread]) if thread else 0
        after = 0
        while before and (self._created[self._memory[before]], self._memory[before]) > (block.created, block.memory):
            before, after = int(self._previous[before]), before
        for chunk, length in block.chunks:
            self._length[chunk] = length
            self._previous[chunk] = before
            self._following[chunk] = 0
            self._memory[chunk] = block.memory
            if before:
                self._following[before] = chunk
            before = chunk
            self._characters += length
            self._total[block.memory] += length
            if thread:
                self._lengths[thread] += length
        if after:
            self._following[before], self._previous[after] = after, before
        elif thread:
            self._last[thread] = before
        self._siblings[block.memory] += len(block.chunks)
        self._chunks += len(block.chunks)

    def _place(self, thread: int) -> int:
        place = self._places.setdefault(thread, len(self._places) + 1)
        if place >= len(self._last):
            self._lengths, self._last = _grown(self._lengths, place), _grown(self._last, place)
        return place

    def _reserve(self, chunk: int, memory: int) -> None:
        if chunk >= len(self._memory):
            self._length = _grown(self._length, chunk)
            self._previous, self._following = _grown(self._previous, chunk), _grown(self._following, chunk)
            self._memory = _grown(self._memory, chunk)  # last: a reader takes its length for that of all
        if memory >= len(self._thread):
            self._siblings, self._total = _grown(self._siblings, memory), _grown(self._total, memory)
            self._created = _grown(self._created, memory)
            self._thread = _grown(self._thread, memory)


def _grown(array: NDArray[_Number], index: int) -> NDArray[_Number]:
    fresh = np.zeros(max(index + 1, len(array) * 5 // 4), array.dtype)
    fresh[: len(array)] = array
    return fresh
