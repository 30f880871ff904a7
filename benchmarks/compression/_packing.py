"""The ways of filling a budget that are compared, over the same hits of the same search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

import _sets
from _answers import content_words, each_content_word
from _cache import CachedModel
from _headroom import TextCrusher
from _turns import Turn, best_turns

from adaptive_llm_gateway.compression import FIRST_HITS, TokenCounter, build_package, hits_for
from adaptive_llm_gateway.compression._units import units_of

OURS = "our package"
TURNS = "best turns whole"
SENTENCES = "best turns, their best sentences"
HITS = "best hits whole"
SESSIONS = "whole sessions"
CRUSHED = "TextCrusher"
NEWEST = "newest first"
OF_SESSIONS = (TURNS, SENTENCES)
"""Where the hits are turns, these are the best hits whole."""

_FEWEST = 10  # tokens that are still worth filling
# Of the best sentences, what keeps the most on LongMemEval's questions for tuning.
_SHORT = 250  # tokens of a turn of which no sentences are chosen
_NEAR = 0.5  # of the question's words in the sentence before or after, what counts
_ENOUGH = 0.75  # of what the best sentence of a turn has, what another needs
_LONGEST = 8  # characters a token that hardly any text has
# How many budgets of hits TextCrusher is given: for turns and for sessions what keeps the most on the questions for
# tuning, of 1, 2, 4, 8 and 16. The best stand last and without references, which it prefers. All else is as it comes.
_CRUSHED_TURNS, _CRUSHED_SESSIONS = 1, 16
_LEAST_RATIO = 0.05  # it crushes to no less
_HALVINGS = 8


class Prepared:
    """A question with what the ways share, made when the first of them wants it."""

    def __init__(self, asked: _sets.Asked, counter: TokenCounter, model: CachedModel) -> None:
        self.asked = asked
        self.counter = counter
        self._model = model
        self._tokens: dict[str, int] = {}

    def count(self, text: str) -> int:
        """Tokens of a text that is counted for several budgets."""
        tokens = self._tokens.get(text)
        if tokens is None:
            tokens = self._tokens[text] = self.counter.count(text)
        return tokens

    @cached_property
    def hits(self) -> list[str]:
        """The hits, the best first, each as a line with reference, day and author."""
        return [
            f"[S{number}] {one.updated.date().isoformat()} {one.author}: {one.body}"
            for number, one in enumerate(self.asked.candidates, 1)
        ]

    @cached_property
    def plain(self) -> list[str]:
        """The hits, the best first, each with its author alone, and a session with its day."""
        return [
            f"{one.updated.date().isoformat()} {one.author}: {one.body}"
            if one.type == "session"
            else f"{one.author}: {one.body}"
            for one in self.asked.candidates
        ]

    @cached_property
    def turns(self) -> list[Turn]:
        """The best turns: the hits, where each is one, else those of all sessions."""
        if self.asked.units[0].turns:
            return best_turns(self.asked.question.text, self.asked.units, self._model)
        return [Turn(f"{one.updated.date().isoformat()} {one.author}", one.body) for one in self.asked.candidates]

    @cached_property
    def sessions(self) -> list[str]:
        """The sessions of the hits, in the order of their best hit."""
        if self.asked.units[0].turns:
            return self.hits
        members: dict[str | None, list[str]] = {}
        source = {unit.key: unit.source for unit in self.asked.units}
        for unit in self.asked.units:
            members.setdefault(unit.source, [unit.time.date().isoformat()]).append(unit.said)
        return ["\n".join(members[key]) for key in dict.fromkeys(source[one.id] for one in self.asked.candidates)]

    @cached_property
    def everything(self) -> frozenset[str]:
        """The content words of all memories."""
        return content_words("\n".join(unit.dated for unit in self.asked.units))


Way = Callable[[Prepared, int], str]


def ways(crusher: TextCrusher | None) -> dict[str, Way]:
    """The ways by name; each gives a text of at most so many tokens."""
    found: dict[str, Way] = {OURS: _ours, TURNS: _turns, SENTENCES: _sentences, HITS: _hits, SESSIONS: _sessions}
    if crusher is not None:
        found[CRUSHED] = lambda prepared, budget: crushed(prepared, budget, crusher)
    return {**found, NEWEST: _newest}


def _ours(prepared: Prepared, budget: int) -> str:
    asked = prepared.asked
    # As many as the tool asks for.
    characters = sum(len(one.body) for one in asked.candidates[:FIRST_HITS])
    hits = asked.candidates[: hits_for(budget, characters)]
    return build_package(asked.question.text, hits, budget, counter=prepared.counter).text


def _turns(prepared: Prepared, budget: int) -> str:
    texts = (f"[S{number}] {turn.head}: {turn.text}" for number, turn in enumerate(prepared.turns, 1))
    return _filled(texts, budget, prepared)


def _sentences(prepared: Prepared, budget: int) -> str:
    """The best turns, of the longer ones the sentences with the question's words."""
    words = content_words(prepared.asked.question.text)
    texts = (
        f"[S{number}] {turn.head}: {_focused(turn.text, words, prepared)}"
        for number, turn in enumerate(prepared.turns, 1)
    )
    return _filled(texts, budget, prepared)


def _hits(prepared: Prepared, budget: int) -> str:
    return _filled(prepared.hits, budget, prepared)


def _sessions(prepared: Prepared, budget: int) -> str:
    """The best sessions; the one that no longer fits is cut, and nothing comes after it."""
    text = ""
    for session in prepared.sessions:
        text += session + "\n"
        if len(text) > budget * _LONGEST:
            break
    return _cut(text, budget, prepared.counter)


def _newest(prepared: Prepared, budget: int) -> str:
    """The newest; the one that no longer fits is cut."""
    return _cut("\n".join(unit.dated for unit in _sets.newest_first(prepared.asked.units)), budget, prepared.counter)


def crushed(prepared: Prepared, budget: int, crusher: TextCrusher) -> str:
    """The best hits, crushed by the highest ratio whose text fits; the best stand last."""
    some: list[str] = []
    left = budget * (_CRUSHED_SESSIONS if prepared.asked.units[0].turns else _CRUSHED_TURNS)
    for hit in prepared.plain:
        some.append(hit)
        left -= prepared.count(hit)
        if left <= 0:
            break
    text = "\n".join(reversed(some))
    crusher.load(text, prepared.asked.question.text)
    most = crusher.crush(1.0).text
    if prepared.counter.count(most) <= budget:
        return most
    best = ""
    low, high = _LEAST_RATIO, 1.0
    for _ in range(_HALVINGS):
        ratio = math.sqrt(low * high)
        found = crusher.crush(ratio).text
        if prepared.counter.count(found) <= budget:
            low, best = ratio, found
        else:
            high = ratio
    return best or _cut(crusher.crush(_LEAST_RATIO).text, budget, prepared.counter)


def _focused(text: str, words: frozenset[str], prepared: Prepared) -> str:
    """The sentences that have the most of some words, the others as gaps; all of a short text."""
    units = units_of(text)
    if len(units) < 2 or prepared.count(text) <= _SHORT:
        return text
    said = [text[unit.start : unit.end] for unit in units]
    having = [0, *(len(words.intersection(each_content_word(piece))) for piece in said), 0]
    scores = [
        own + _NEAR * (before + after) for before, own, after in zip(having, having[1:], having[2:], strict=False)
    ]
    enough = max(scores) * _ENOUGH
    kept = [max(scores) > 0 and score >= enough for score in scores]
    if not any(kept):
        kept[0] = True
    return " ".join(_with_gaps(said, kept))


def _with_gaps(said: list[str], kept: list[bool]) -> Iterator[str]:
    gap = False
    for piece, keep in zip(said, kept, strict=True):
        if keep:
            yield piece
        elif not gap:
            yield "…"
        gap = not keep


def _filled(texts: Iterable[str], budget: int, prepared: Prepared) -> str:
    """The texts in order, those left out that no longer fit."""
    kept: list[str] = []
    left = budget
    for text in texts:
        tokens = prepared.count(text + "\n")
        if tokens <= left:
            kept.append(text)
            left -= tokens
        if left < _FEWEST:
            break
    return "\n".join(kept)


def _cut(text: str, budget: int, counter: TokenCounter) -> str:
    """The beginning of a text, next to as long as fits."""
    text = text[: budget * _LONGEST]
    while (over := (tokens := counter.count(text)) - budget) > 0:
        text = text[: len(text) - max(over, int(0.9 * over * len(text) / tokens))]
    return text
