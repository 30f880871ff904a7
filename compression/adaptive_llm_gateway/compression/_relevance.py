"""How much of an answer is in each candidate, and in which of its units. Pure and deterministic.

A candidate's value is the probability that it is evidence: a logistic function of what search said, how it stands
among the others, and its text, fitted on two conversations of LoCoMo and judged on others (benchmarks/compression).
"""

from __future__ import annotations

import bisect
import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from adaptive_llm_gateway.compression._units import Unit
from adaptive_llm_gateway.compression._values import Candidate

_STRETCH = 500  # characters
_READ = 50_000  # characters of a candidate in which words are counted
_MOST_TERMS = 48
_MOST_HITS, _MOST_LOOKS = 1_000, 10_000  # of a term in a text
_NEAR = 150.0  # seconds between two memories of one conversation
_BEST = 400  # of the candidates, those whose text is looked at to judge them

# For questions only: nothing is left out of what is searched.
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a about after all also am an and any are as at be because been before being between both but by can "
        "could did do does doing for from had has have having he her hers him his how i if in into is it its "
        "just many me more most much my no not of on or other our ours out over own please she should so some "
        "such tell than that the their them then there these they this those through to too under until up us "
        "very was we were what when where which while who whom whose why will with would you your yours s t d "
        "ll m re ve",
    )
)
# What the score of a unit is made of.
_OWN, _BLOCK, _AROUND = 0.3, 0.8, 0.25  # words of the question in it, in its block, in the blocks beside it
_PASSAGE = 0.1  # search found it
_SAID_BY_ONE = 0.3
_ASKS = 0.1
_SHARP = 5.0  # how much more the better units are worth
_MOST_PASSAGES = 20
_MODELS = ("assistant:", "Assistant:", "model:", "AI:")  # they say `I` and tell nothing of who asks
_ASKING = ("?", "？", "؟")
_FIRST_PERSON = re.compile(r"\b(?:I|[Mm]y|[Mm]e|[Mm]ine|[Ww]e|[Oo]ur)\b")
_WORD = re.compile(r"[^\W_]+")
_ENDINGS = ("ing", "ies", "ed", "es", "s", "e", "y")
_EDGE = re.compile(r"\b")
_ENDING = re.compile(r"(?:s|e|es|ed|ing|y|ies|er|ers|ly)?\b")  # of a word, behind its stem
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]")
# What tells something often says when or how many, and names somebody or something; thanks and good wishes do not.
_TIMES = frozenset(
    re.findall(
        r"\w+",
        "yesterday today tonight tomorrow ago last next day days week weeks weekend month months year years morning "
        "evening night monday tuesday wednesday thursday friday saturday sunday january february march april june july "
        "august september october november december",
    )
)
_NAME = re.compile(r" (?<![.!?…] )[A-Z]\w+")  # within a sentence
_MOST_NAMES = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """The words of a question that tell something.

    Attributes:
        stems: without their endings; for scripts without spaces, pairs of characters.
        weights: by stem, how rare it is among the candidates; they add up to 1 (or are all 0).
    """

    stems: tuple[str, ...]
    weights: NDArray[np.float64]

    def hits(self, text: str) -> list[tuple[int, int]]:
        """(offset, place of the stem) of all that a text has of them, of each a bounded number."""
        lower = _lower(text[:_READ])
        found: list[tuple[int, int]] = []
        for place, stem in enumerate(self.stems):
            any_place = _UNSPACED.match(stem)  # pairs of characters
            offset = lower.find(stem)
            hits = looks = 0
            while offset >= 0 and hits < _MOST_HITS and looks < _MOST_LOOKS:
                if any_place or (_EDGE.match(lower, offset) and _ENDING.match(lower, offset + len(stem))):
                    found.append((offset, place))
                    hits += 1
                looks += 1
                offset = lower.find(stem, offset + len(stem))
        return found


def _lower(text: str) -> str:
    """In small letters, every offset as it was."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(map(_small, text))


def _small(letter: str) -> str:
    lower = letter.lower()
    return lower if len(lower) == 1 else letter


def stem(word: str) -> str:
    """A word without a common English ending, lower-case."""
    word = word.lower()
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def terms_of(question: str, texts: Sequence[str]) -> tuple[Terms, list[list[tuple[int, int]]]]:
    """The terms of a question, and what each text has of them, as `Terms.hits`.

    A term is rare when few stretches of text have it, whatever the length of the texts.
    """
    stems = tuple(dict.fromkeys(_stems(question)))[:_MOST_TERMS]
    terms = Terms(stems, np.zeros(len(stems)))
    hits = [terms.hits(text) for text in texts]
    stretches = sum(min(len(text), _READ) // _STRETCH + 1 for text in texts)
    counts = np.zeros(len(stems))
    for found in hits:
        for _, place in {(offset // _STRETCH, place) for offset, place in found}:
            counts[place] += 1
    rare = np.log((stretches + 1) / (counts + 0.5))
    return Terms(stems, rare / max(float(rare.sum()), 1e-9)), hits


def _stems(question: str) -> Iterable[str]:
    for word in _WORD.findall(question[:16_000]):
        if _UNSPACED.search(word):
            yield from (word[place : place + 2].lower() for place in range(max(1, len(word) - 1)))
        elif word.lower() not in _STOP:
            yield stem(word)


@dataclasses.dataclass(frozen=True, slots=True)
class Weights:
    """Of the logistic function. Scores are taken as the gap to the best, in units of the best's lead over the median.

    Attributes:
        gap: by that unit.
        rank: by the logarithm of the rank.
        length: by the logarithm of the characters, for the first 2,000.
        before: a good candidate was written shortly before: what answers it.
        asks: the share of the text that is questions: who asks tells nothing.
        author: the question names who wrote it.
        words: the share of the question's words in it, rare ones counting for more.
        dated: it says a number or a time.
        names: by the logarithm of the names in it, the first four.
    """

    bias: float = -6.6
    gap: float = 2.7
    rank: float = -0.6
    length: float = 0.4
    before: float = 2.3
    asks: float = -2.9
    author: float = 2.7
    words: float = 1.2
    dated: float = 1.0
    names: float = 0.8


WEIGHTS = Weights()


def features(
    question: str, candidates: Sequence[Candidate], hits: Sequence[list[tuple[int, int]]], terms: Terms
) -> NDArray[np.float64]:
    """What the weights apply to, of shape (candidates, 10): ones, and in the order of `Weights`."""
    count = len(candidates)
    scores = np.nan_to_num(np.array([candidate.score for candidate in candidates], np.float64), posinf=1e9, neginf=-1e9)
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(count)
    rank[order] = np.arange(count)
    best, middle = float(scores.max()), float(np.median(scores))
    lead = max(best - middle, 1e-9)
    gap = (scores - best) / lead
    good = np.maximum((scores - middle) / lead, 0.0)
    when = np.array([candidate.updated.timestamp() for candidate in candidates])
    asked = {stem(word) for word in _WORD.findall(question)}
    named = {
        author: any(stem(word) in asked for word in _WORD.findall(author))
        for author in {candidate.author for candidate in candidates}
    }
    out = np.zeros((count, 10))
    out[:, 0] = 1
    out[:, 1] = np.maximum(gap, -3.0)
    out[:, 2] = np.log1p(rank)
    out[:, 3] = [math.log(min(len(candidate.body), 2_000) / 4 + 1) for candidate in candidates]
    out[:, 4] = _before(when, good)
    best_places: list[int] = order[:_BEST].tolist()
    for place in best_places:
        candidate = candidates[place]
        text = candidate.body[:2_000]
        out[place, 5] = _asking(text) / max(1, len(text))
        out[place, 6] = named[candidate.author]
        out[place, 8] = _dated(text)
        out[place, 9] = math.log1p(min(len(set(_NAME.findall(text))), _MOST_NAMES))
    weights: list[float] = terms.weights.tolist()
    out[:, 7] = [sum(weights[term] for term in {term for _, term in found}) for found in hits]
    return out


def probabilities(about: NDArray[np.float64], weights: Weights = WEIGHTS) -> NDArray[np.float64]:
    """That each candidate is evidence, between 0 and 1."""
    row = np.array([getattr(weights, field.name) for field in dataclasses.fields(weights)], np.float64)
    return 1 / (1 + np.exp(-np.clip(about @ row, -30, 30)))


def _asking(text: str) -> int:
    """Characters of the questions in a text."""
    text = text.replace("？", "?").replace("؟", "?")
    if "?" not in text:
        return 0
    return sum(part.rfind("?") + 1 for part in text.replace("!", ".").replace("\n", ".").split("."))


def _dated(text: str) -> bool:
    """Whether a text has a digit or a word for a time."""
    if any(digit in text for digit in "0123456789"):
        return True
    text = text.lower().replace(".", " ").replace(",", " ").replace("!", " ").replace("?", " ")
    return not _TIMES.isdisjoint(text.split())


def _before(when: NDArray[np.float64], good: NDArray[np.float64]) -> NDArray[np.float64]:
    """How good the best is that was written shortly before each."""
    order = np.argsort(when, kind="stable")
    sorted_when = when[order]
    found = np.zeros(len(when))
    for back in (1, 2):
        if len(when) <= back:
            break
        here, there = order[back:], order[:-back]
        apart = sorted_when[back:] - sorted_when[:-back]
        near = (apart > 0) & (apart <= _NEAR)
        found[here] = np.maximum(found[here], np.where(near, good[there] / back, 0.0))
    return found


def shares(
    question: str, candidate: Candidate, units: Sequence[Unit], hits: Sequence[tuple[int, int]], terms: Terms
) -> list[float]:
    """Of what a candidate is worth, how much is in each of its units; they add up to 1."""
    if not units:
        return []
    body = candidate.body
    weights: list[float] = terms.weights.tolist()
    before = units[0].block
    blocks = [unit.block - before for unit in units]
    starts = [unit.start for unit in units]
    own: dict[int, set[int]] = {}
    together: dict[int, set[int]] = {}
    for offset, term in hits:
        place = bisect.bisect_right(starts, offset) - 1
        if place >= 0:
            own.setdefault(place, set()).add(term)
            together.setdefault(blocks[place], set()).add(term)
    of_block = {block: sum(weights[term] for term in found) for block, found in together.items()}
    around = {block: of_block.get(block - 1, 0.0) + of_block.get(block + 1, 0.0) for block in set(blocks)}
    score = [_BLOCK * of_block.get(block, 0.0) + _AROUND * around[block] for block in blocks]
    for place, found in own.items():
        score[place] += _OWN * sum(weights[term] for term in found)
    for nth, (begin, end) in enumerate(candidate.passages[:_MOST_PASSAGES]):
        for place, unit in enumerate(units):
            if unit.lines[0] <= end and unit.lines[1] >= begin:
                score[place] += _PASSAGE / (1 + nth)
    if _FIRST_PERSON.search(question):
        # Who asks about themselves is answered by what they said.
        says = {block for block, unit in zip(blocks, units, strict=True)
                if _FIRST_PERSON.search(body, unit.start, unit.end)}  # fmt: skip
        says -= {block for block, unit in zip(blocks, units, strict=True) if body.startswith(_MODELS, unit.start)}
        score = [value + _SAID_BY_ONE * (block in says) for value, block in zip(score, blocks, strict=True)]
    score[0] += 0.02
    for place, unit in enumerate(units):
        if unit.kind == "heading":
            score[place] -= 0.1
        elif body.endswith(_ASKING, unit.start, unit.end):
            score[place] -= _ASKS
    best = max(score)
    worth = [
        math.exp(_SHARP * (value - best)) * min(unit.end - unit.start, 2_000)
        for value, unit in zip(score, units, strict=True)
    ]
    total = sum(worth)
    return [value / total for value in worth]
