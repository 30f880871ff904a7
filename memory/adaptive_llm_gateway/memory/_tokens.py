"""The tokens that FTS5 makes of a text, and as numbers for indexes that have no FTS5: both find the same words."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import apsw
import numpy as np

from adaptive_llm_gateway.memory._index_schema import TOKENIZER
from adaptive_llm_gateway.memory._passages import Columns

BREAK = 0  # no token: parts two columns, so that no phrase reaches from one into the next
WORD = np.dtype(">i4")  # a token within a stream

_TITLE, _BODY, _GRAMS, _META = 20, 10, 10, 7

_thread = threading.local()


def stems_of(text: str) -> list[str]:
    """The tokens of a text in order, as FTS5 has them."""
    try:
        tokenizer = _thread.tokenizer
    except AttributeError:
        # A tokenizer lives with its connection, which one thread at a time may use.
        _thread.connection = apsw.Connection(":memory:")
        tokenizer = _thread.tokenizer = _thread.connection.fts5_tokenizer(TOKENIZER[0], list(TOKENIZER[1:]))
    found = tokenizer(
        text.encode("utf-8", "replace"),
        apsw.FTS5_TOKENIZE_DOCUMENT,
        None,
        include_offsets=False,
        include_colocated=False,
    )
    # Without offsets they are strings; APSW types them as the union of all shapes.
    return [str(token) for token in found]


def tokens_of(text: str) -> list[int]:
    """The tokens of a text in order, each as a signed 32-bit number.

    Two words share a number once in four thousand million pairs; then each finds the other as well.
    """
    return [_number(token) for token in stems_of(text)]


def packed(tokens: Sequence[int]) -> bytes:
    """Tokens as they stand in a stream."""
    return np.array(tokens, WORD).tobytes()


@dataclass(frozen=True, slots=True)
class Stream:
    """A chunk's tokens, columns in the order title, body, grams, meta with a `BREAK` between them.

    Attributes:
        said: tokens up to the end of grams, `BREAK`s counted: behind it lie type, project, author and tags.
        weights: how often each token occurs, in tenths, weighted as the SQLite index weighs its columns.
    """

    tokens: tuple[int, ...]
    said: int
    weights: dict[int, int]


def stream_of(columns: Columns) -> Stream:
    """The stream of a chunk."""
    title, body = tokens_of(columns.title), tokens_of(columns.body)
    grams, meta = tokens_of(columns.grams), tokens_of(columns.meta)
    weights: dict[int, int] = {}
    for tokens, weight in ((title, _TITLE), (body, _BODY), (grams, _GRAMS), (meta, _META)):
        for token in tokens:
            weights[token] = weights.get(token, 0) + weight
    said = (*title, BREAK, *body, BREAK, *grams)
    return Stream((*said, BREAK, *meta), len(said), weights)


def _number(token: str) -> int:
    value = zlib.crc32(token.encode("utf-8", "replace")) or 1
    return value - (1 << 32) if value >> 31 else value
