"""The turns of sessions in the order in which a plain hybrid puts them, for the ways that begin with turns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from _answers import content_words, each_content_word
from _cache import CachedModel, Floats
from _units import Unit
from numpy.typing import NDArray

from adaptive_llm_gateway.memory._chunks import embedding_text, split

_K1, _B = 1.2, 0.75
# Of z-scores: what a turn's words say, its session's words, the passages that it is in, the best one of its session.
_WORDS, _SESSION_WORDS, _MEANING, _SESSION_MEANING = 1.0, 0.5, 1.0, 1.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody said: `head` is the day and who, `text` what."""

    head: str
    text: str


def best_turns(question: str, units: Sequence[Unit], model: CachedModel) -> list[Turn]:
    """All turns of some sessions, the best first: z-scored BM25 and cosines, of turns and of sessions."""
    turns: list[Turn] = []
    of: list[int] = []
    meaning: list[float] = []
    (asked,) = model.embed([question])
    for place, unit in enumerate(units):
        found = _cosines(unit, asked, model)
        for speaker, text, cosine in found:
            turns.append(Turn(f"{unit.time.date().isoformat()} {speaker}", text))
            of.append(place)
            meaning.append(cosine)
    owner = np.array(of)
    cosines = np.array(meaning)
    wanted = sorted(content_words(question))
    words = bm25(wanted, [f"{turn.head} {turn.text}" for turn in turns])
    sessions = bm25(wanted, [unit.dated for unit in units])
    best = np.full(len(units), -1.0)
    np.maximum.at(best, owner, cosines)
    score = (
        _WORDS * _standard(words)
        + _SESSION_WORDS * _standard(sessions)[owner]
        + _MEANING * _standard(cosines)
        + _SESSION_MEANING * _standard(best)[owner]
    )
    return [turns[place] for place in np.argsort(-score, kind="stable").tolist()]


def bm25(wanted: Sequence[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """The score of each text for some content words."""
    counts = [Counter(each_content_word(text)) for text in texts]
    lengths = np.array([count.total() for count in counts], np.float64)
    norm = _K1 * (1 - _B + _B * lengths / max(float(lengths.mean()), 1.0))
    score = np.zeros(len(texts))
    for word in wanted:
        often = np.array([count[word] for count in counts], np.float64)
        having = int(np.count_nonzero(often))
        score += math.log(1 + (len(texts) - having + 0.5) / (having + 0.5)) * often * (_K1 + 1) / (often + norm)
    return score


def _cosines(unit: Unit, asked: Floats, model: CachedModel) -> list[tuple[str, str, float]]:
    """(speaker, text, the best cosine of the passages that it is in) of each turn of a session."""
    body = unit.body
    chunks = split(body)
    day = unit.time.date().isoformat()
    vectors = model.embed(
        [
            embedding_text(body[chunk.start : chunk.end], day=day, title="", author=unit.author, heading=chunk.heading)
            for chunk in chunks
        ]
    )
    likeness: list[float] = np.einsum("ij,j->i", vectors, asked).tolist()
    found: list[tuple[str, str, float]] = []
    start = 0
    for speaker, text in unit.turns:
        end = start + len(speaker) + 2 + len(text)
        inside = [
            value for chunk, value in zip(chunks, likeness, strict=True) if chunk.start < end and chunk.end > start
        ]
        found.append((speaker, text, max(inside, default=-1.0)))
        start = end + 2
    return found


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.mean()) / max(float(values.std()), 1e-9)
