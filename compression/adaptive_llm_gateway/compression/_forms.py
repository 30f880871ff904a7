"""The forms in which a candidate can stand in a package: whole, an extract of its units, or one line. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from adaptive_llm_gateway.compression._choose import Step
from adaptive_llm_gateway.compression._relevance import Terms, shares
from adaptive_llm_gateway.compression._render import GAP, INDENT, clean, in_line, indented
from adaptive_llm_gateway.compression._units import Unit, units_of
from adaptive_llm_gateway.compression._values import Candidate, Detail, Level

_SHORT = 400  # characters of a body of one line that stands in the line of its reference
_LINE = 160  # characters of the best sentence in one line
_TITLE, _AUTHOR = 120, 60
_ID = 6  # letters of an id's end
_EXTRACTED = 200_000  # characters of a body of which units are made, from the best passage on
_LINE_VALUE = 0.3  # of the best unit's value, what its beginning has
_SAYS = 2_000  # characters that are compared with what was said
_TELLING = re.compile(r"[^\W_]{4,}")


@dataclass(slots=True)
class Form:
    """What a candidate can give.

    Attributes:
        steps: what can be taken, in this order.
        units: of the body, when an extract can be made of them.
        given: the units of each step, by place.
        single: what is taken at once: the whole, or a line.
    """

    candidate: Candidate
    head: str
    steps: list[Step]
    units: Sequence[Unit] = ()
    given: list[list[int]] = field(default_factory=list[list[int]])
    single: Level = "whole"
    inline: bool = False
    best: int = 0
    pieces: dict[int, str] = field(default_factory=dict[int, str])

    def guess(self, step: int) -> float:
        """Tokens of a step, roughly."""
        if self.given:
            length = sum(self.units[place].end - self.units[place].start for place in self.given[step])
        else:
            length = min(len(self.candidate.body), _LINE) if self.single == "line" else len(self.candidate.body)
        return (length + (len(self.head) if step == 0 else 0)) / 5 + 3

    def piece(self, step: int) -> str:
        """What a step adds to the text, or a little more."""
        if step not in self.pieces:
            self.pieces[step] = self._piece(step)
        return self.pieces[step]

    def _piece(self, step: int) -> str:
        if not self.given:
            return f"\n[S100] {self.text(1)}"
        body = self.candidate.body
        parts = [
            f"{GAP}\n{indented(body[self.units[place].start : self.units[place].end])}" for place in self.given[step]
        ]
        return "\n".join([f"\n[S100] {self.head} {self._extract()}"] * (step == 0) + parts)

    def text(self, taken: int) -> str:
        """The candidate's text behind its reference, with so many steps taken."""
        body = self.candidate.body
        if not self.given:
            if self.single == "line":
                return self._line()
            if self.inline:
                return f"{self.head}: {in_line(body)}" if body.strip() else self.head
            return f"{self.head}:\n{indented(body)}"
        places = self._places(taken)
        if self.level(taken) == "whole":
            return f"{self.head}:\n{indented(body)}"
        lines = [f"{self.head} {self._extract()}:"]
        for first, last in runs(places):
            if first > 0:
                lines.append(INDENT + GAP)
            lines.append(indented(body[self.units[first].start : self.units[last].end]))
        return "\n".join(lines)

    def _extract(self) -> str:
        return f"(extract of {_short(self.candidate)})"

    def level(self, taken: int) -> Level:
        """How it stands with so many steps taken."""
        if not self.given:
            return self.single
        return "whole" if taken == len(self.steps) and self._all() else "extract"

    def lines(self, taken: int) -> tuple[tuple[int, int], ...]:
        """Lines of the memory's body that are in its text, from 1."""
        before = self.candidate.first_line - 1
        return tuple((first + before, last + before) for first, last in self._lines(taken))

    def _lines(self, taken: int) -> tuple[tuple[int, int], ...]:
        if self.level(taken) == "whole":
            return ((1, max(1, self.candidate.body.rstrip("\n").count("\n") + 1)),)
        if not self.given:
            return (self.units[self.best].lines,) if self.units else ()
        ranges: list[tuple[int, int]] = []
        for first, last in runs(self._places(taken)):
            start, end = self.units[first].lines[0], self.units[last].lines[1]
            if ranges and start <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            else:
                ranges.append((start, end))
        return tuple(ranges)

    def as_line(self) -> Form:
        """The same candidate as one line."""
        value = sum(step.value for step in self.steps[:1]) * _LINE_VALUE
        return Form(self.candidate, self.head, [Step(value)], self.units, single="line", best=self.best)

    def _line(self) -> str:
        if self.inline or not self.candidate.body.strip():
            start, end = 0, len(self.candidate.body)
        elif self.units:
            start, end = self.units[self.best].start, self.units[self.best].end
        else:
            start, end = 0, _LINE * 4
        text = in_line(self.candidate.body[start : min(end, start + _LINE * 8)])
        if len(text) > _LINE:
            text = text[: text.rfind(" ", _LINE // 2, _LINE)] if " " in text[_LINE // 2 : _LINE] else text[:_LINE]
            text += GAP
        head = self.head if self.inline else f"{self.head} ({_short(self.candidate)})"
        return f"{head}: {text}" if text else head

    def _places(self, taken: int) -> list[int]:
        return sorted(place for step in self.given[:taken] for place in step)

    def _all(self) -> bool:
        return len(self.units) == sum(map(len, self.given)) and len(self.candidate.body) <= _EXTRACTED


def form_of(
    question: str,
    candidate: Candidate,
    value: float,
    hits: Sequence[tuple[int, int]],
    terms: Terms,
    detail: Detail,
    *,
    extract: bool,
) -> Form:
    """The form of a candidate that is worth `value`.

    Args:
        hits: what its body has of the terms.
        extract: whether its units are looked at; the others are whole, or a line.
    """
    body = candidate.body
    head = _head(candidate)
    stripped = body.strip()
    says = _pairs(body[:_SAYS])
    if len(stripped) <= _SHORT and "\n" not in clean(stripped):
        return Form(candidate, head, [Step(value, says)], inline=True)
    whole = Form(candidate, head, [Step(value, says)])
    if candidate.whole:
        return whole
    if not extract:
        return whole.as_line() if detail == "index" else whole
    units = _units_near(candidate)
    if not units:
        return whole.as_line() if detail == "index" else whole
    worth = shares(question, candidate, units, hits, terms)
    lengths = [unit.end - unit.start + 12 for unit in units]
    order = sorted(range(len(units)), key=lambda place: (-worth[place] / lengths[place], place))
    whole.units, whole.best = units, order[0]
    if detail == "index":
        return whole.as_line()
    if detail == "full":
        return whole
    given, values = falling(order, worth, lengths, len(head))
    steps = [
        Step(value * share, _said(body, [units[place] for place in places]))
        for places, share in zip(given, values, strict=True)
    ]
    return Form(candidate, head, steps, units, given, best=order[0])


def falling(order: list[int], worth: list[float], lengths: list[int], head: int) -> tuple[list[list[int]], list[float]]:
    """Steps whose value per character falls: the first carries the head, so it may have several units."""
    given: list[list[int]] = [[order[0]]]
    values, sizes = [worth[order[0]]], [lengths[order[0]] + head + 20]
    for place in order[1:]:
        if len(given) == 1 and worth[place] / lengths[place] > values[0] / sizes[0]:
            given[0].append(place)
            values[0] += worth[place]
            sizes[0] += lengths[place]
        else:
            given.append([place])
            values.append(worth[place])
            sizes.append(lengths[place])
    return given, values


def _units_near(candidate: Candidate) -> list[Unit]:
    """The units of a body, of a long one those from its best passage on."""
    body = candidate.body
    if len(body) <= _EXTRACTED:
        return units_of(body)
    start = 0
    if candidate.passages:
        for _ in range(max(0, candidate.passages[0][0] - 1)):
            following = body.find("\n", start) + 1
            if not following:
                break
            start = following
        start = min(start, len(body) - 1)
    line = body.count("\n", 0, start)
    window = body[start : start + _EXTRACTED]
    return [
        Unit(unit.kind, unit.start + start, unit.end + start, (unit.lines[0] + line, unit.lines[1] + line), unit.block)
        for unit in units_of(window)
    ]


def _said(body: str, units: Sequence[Unit]) -> frozenset[str]:
    text = " ".join(body[unit.start : min(unit.end, unit.start + _SAYS)] for unit in units)
    return _pairs(text)


def _pairs(text: str) -> frozenset[str]:
    """What a text says: its telling words, two and two."""
    words = _TELLING.findall(text.lower())
    return frozenset(map(" ".join, itertools.pairwise(words)))


def _short(candidate: Candidate) -> str:
    """What names it to `memory_read` where not all of it is shown; an id's end is random, and enough."""
    return in_line(candidate.id[-_ID:])


def _head(candidate: Candidate) -> str:
    author, title = in_line(candidate.author[:_AUTHOR]), in_line(candidate.title[: _TITLE * 2])
    if len(title) > _TITLE:
        title = title[:_TITLE] + GAP
    kind = "" if candidate.type in ("note", "session") else in_line(candidate.type[:_AUTHOR])
    said = ", ".join(filter(None, [kind, author]))
    return ": ".join(filter(None, [said, title])) or in_line(candidate.type[:_AUTHOR]) or "?"


def runs(places: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    return runs
