"""The memories of one type, for who needs all of them again and again: only what changed is read."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._values import Filters, Record

_READ = 500  # memories at once


class KeptRecords:
    """Keeps the records of one type in memory, of patches all but the body. Safe to call from any thread."""

    def __init__(self, index: MemoryIndex, type: str) -> None:
        self._index, self._type = index, type
        self._lock = threading.Lock()
        self._kept: dict[str, Record] = {}

    def all(self) -> tuple[Record, ...]:
        """Every memory of the type, as the index has it now, in no order; about 1 ms for 1,000 that did not change."""
        with self._lock:
            now = self._index.versions(self._type)
            kept = {
                id_: record
                for id_, place in now.items()
                if (record := self._kept.get(id_)) is not None and (record.path, record.version) == place
            }
            stale = iter(id_ for id_ in now if id_ not in kept)
            while some := tuple(itertools.islice(stale, _READ)):
                page = self._index.list(Filters(types=(self._type,), ids=some), limit=len(some))
                kept.update((record.id, _light(record)) for record in page.records)
            self._kept = kept
            return tuple(kept.values())


def _light(record: Record) -> Record:
    """A diff may be megabytes long, and says nothing of where a handoff stands."""
    return replace(record, body="") if record.fields.get("event") == "patch" else record
