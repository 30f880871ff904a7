"""A memory cut up for an index: its chunks, how each is told apart from others, and the words it is found by. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from adaptive_llm_gateway.memory._chunks import Chunk, split
from adaptive_llm_gateway.memory._index_rows import microseconds, moment_of
from adaptive_llm_gateway.memory._query import indexed_text
from adaptive_llm_gateway.memory._values import Record


class Columns(NamedTuple):
    """What the tokenizer is given for a chunk. `meta` is type, project, author and tags; `grams` the n-grams of scripts
    without spaces, of all three.
    """

    title: str
    body: str
    meta: str
    grams: str


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk. `digest` (12 bytes) is the same for passages that are found and embedded alike."""

    chunk: Chunk
    digest: bytes
    text: str


# Of a handoff's events, what somebody wrote for others to read; a claim or the like only says who and when.
_TELLING_EVENTS = frozenset({"progress", "done"})


class Passages:
    """The passages of one memory, in order; none of an event of a handoff that tells nothing.

    Raises:
        InvalidInput: the time of creation has no time zone.
    """

    def __init__(self, record: Record) -> None:
        about = " ".join(
            filter(None, [record.type, record.project, record.author.client, record.author.agent, *record.tags])
        )
        self._title, title_grams = indexed_text(record.title)
        self._meta, meta_grams = indexed_text(about)
        self._grams = f"{title_grams} {meta_grams} " if title_grams or meta_grams else ""
        day = moment_of(microseconds(record.created)).date().isoformat()
        head = hashlib.blake2b(digest_size=12)
        head.update(f"{day}\0{about}\0{record.title}\0".encode("utf-8", "surrogatepass"))
        self.all: list[Passage] = []
        event = record.fields.get("event") if record.type == "handoff" else None
        if event is not None and event not in _TELLING_EVENTS:
            return
        for chunk in split(record.body):
            text = record.body[chunk.start : chunk.end]
            digest = head.copy()
            digest.update(f"{chunk.heading}\0{text}".encode("utf-8", "surrogatepass"))
            self.all.append(Passage(chunk, digest.digest(), text))

    def columns(self, passage: Passage) -> Columns:
        """What a passage is found by."""
        text, heading = passage.text, passage.chunk.heading
        if heading and heading not in text:
            text = f"{heading}\n{text}"
        words, grams = indexed_text(text)
        return Columns(self._title, words, self._meta, self._grams + grams)
