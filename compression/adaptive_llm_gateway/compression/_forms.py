"""The forms in which a candidate can stand in a package: whole, an extract of its units, or one line. Pure."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Sequence
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
_LINE_VALUE = 0.1  # of the whole's value, what the beginning of its best unit has
_FIRST = 100  # characters of a first step, roughly
_FIRST_SHARE = 0.5  # of the whole's value, what it has at most, roughly
_SAYS = 2_000  # characters that are compared with what was said
_TELLING = re.compile(r"[^\W_]{4,}")


class _Sight:
    """The units of a candidate and what they are worth, found when they are asked for."""

    __slots__ = ("_ask", "best", "lengths", "order", "seen", "units", "worth")

    def __init__(self, ask: Callable[[], tuple[list[Unit], list[float]]]) -> None:
        self._ask = ask
        self.seen = False
        self.units: list[Unit] = []
        self.worth: list[float] = []
        self.lengths: list[int] = []
        self.order: list[int] = []
        self.best = 0

    def look(self) -> _Sight:
        """Itself, when all of it is known."""
        if not self.seen:
            self.seen = True
            self.units, self.worth = self._ask()
            self.lengths = [unit.end - unit.start + 12 for unit in self.units]
            rates = [worth / length for worth, length in zip(self.worth, self.lengths, strict=True)]
            self.order = sorted(range(len(rates)), key=lambda place: (-rates[place], place))
            self.best = self.order[0] if self.order else 0
        return self


@dataclass(slots=True)
class Form:
    """What a candidate can give.

    Attributes:
        single: what is taken at once: the whole, or a line; an extract is taken step by step.
        inline: it stands in the line of its reference.
    """

    candidate: Candidate
    head: str
    value: float
    single: Level = "whole"
    inline: bool = False
    _sight: _Sight | None = None
    _steps: list[Step] | None = None
    _given: list[list[int]] = field(default_factory=list[list[int]])
    _pieces: dict[int, str] = field(default_factory=dict[int, str])

    @property
    def steps(self) -> list[Step]:
        """What can be taken, in this order."""
        if self._steps is None:
            self._steps = self._found()
        return self._steps

    def _found(self) -> list[Step]:
        body = self.candidate.body
        if self.single == "line":
            return [Step(self.value)]
        if self.single == "extract" and self._sight is not None:
            sight = self._sight.look()
            if sight.order:
                self._given, values = falling(sight.order, sight.worth, sight.lengths, len(self.head))
                return [
                    Step(self.value * share, functools.partial(_said, body, [sight.units[place] for place in places]))
                    for places, share in zip(self._given, values, strict=True)
                ]
            self.single = "whole"
        return [Step(self.value, lambda: _pairs(body[:_SAYS]))]

    @property
    def expected(self) -> float:
        """The value per token of the first step, roughly, without a look at it."""
        length = _LINE if self.single == "line" else _FIRST if self.single == "extract" else len(self.candidate.body)
        share = _FIRST_SHARE if self.single == "extract" else 1.0
        return self.value * share / ((min(length, len(self.candidate.body)) + len(self.head)) / 5 + 3)

    def guess(self, step: int) -> float:
        """Tokens of a step, roughly."""
        if self._given:
            units = self._units
            length = sum(units[place].end - units[place].start for place in self._given[step])
        else:
            length = min(len(self.candidate.body), _LINE) if self.single == "line" else len(self.candidate.body)
        return (length + (len(self.head) if step == 0 else 0)) / 5 + 3

    @property
    def _units(self) -> Sequence[Unit]:
        return self._sight.look().units if self._sight is not None else ()

    def piece(self, step: int) -> str:
        """What a step adds to the text, or a little more."""
        if step not in self._pieces:
            self._pieces[step] = self._piece(step)
        return self._pieces[step]

    def _piece(self, step: int) -> str:
        if not self._given:
            return f"\n[S100] {self.text(1)}"
        body = self.candidate.body
        parts = [
            f"{GAP}\n{indented(body[self._units[place].start : self._units[place].end])}" for place in self._given[step]
        ]
        return "\n".join([f"\n[S100] {self.head} {self._extract()}"] * (step == 0) + parts)

    def text(self, taken: int) -> str:
        """The candidate's text behind its reference, with so many steps taken."""
        body = self.candidate.body
        if not self._given:
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
            lines.append(indented(body[self._units[first].start : self._units[last].end]))
        return "\n".join(lines)

    def _extract(self) -> str:
        return f"(extract of {_short(self.candidate)})"

    def level(self, taken: int) -> Level:
        """How it stands with so many steps taken."""
        if not self._given:
            return self.single
        return "whole" if taken == len(self.steps) and self._all() else "extract"

    def lines(self, taken: int) -> tuple[tuple[int, int], ...]:
        """Lines of the memory's body that are in its text, from 1."""
        before = self.candidate.first_line - 1
        return tuple((first + before, last + before) for first, last in self._lines(taken))

    def _lines(self, taken: int) -> tuple[tuple[int, int], ...]:
        if self.level(taken) == "whole":
            return ((1, max(1, self.candidate.body.rstrip("\n").count("\n") + 1)),)
        if not self._given:
            if self._sight is not None and self._units:
                return (self._units[self._sight.best].lines,)
            body = self.candidate.body[: _LINE * 4]
            first = body[: len(body) - len(body.lstrip())].count("\n") + 1
            return ((first, body.rstrip().count("\n") + 1),) if body.strip() else ()
        ranges: list[tuple[int, int]] = []
        for first, last in runs(self._places(taken)):
            start, end = self._units[first].lines[0], self._units[last].lines[1]
            if ranges and start <= ranges[-1][1]:
                ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            else:
                ranges.append((start, end))
        return tuple(ranges)

    def as_extract(self) -> Form:
        """The same candidate as an extract."""
        return Form(self.candidate, self.head, self.value, single="extract", _sight=self._sight)

    def as_line(self) -> Form:
        """The same candidate as one line."""
        return Form(self.candidate, self.head, self.value * _LINE_VALUE, single="line", _sight=self._sight)

    def _line(self) -> str:
        if self.inline or not self.candidate.body.strip():
            start, end = 0, len(self.candidate.body)
        elif self._sight is not None and self._units:
            best = self._units[self._sight.best]
            start, end = best.start, best.end
        else:
            start, end = 0, _LINE * 4
        text = in_line(self.candidate.body[start : min(end, start + _LINE * 8)])
        if len(text) > _LINE:
            text = text[: text.rfind(" ", _LINE // 2, _LINE)] if " " in text[_LINE // 2 : _LINE] else text[:_LINE]
            text += GAP
        head = self.head if self.inline else f"{self.head} ({_short(self.candidate)})"
        return f"{head}: {text}" if text else head

    def _places(self, taken: int) -> list[int]:
        return sorted(place for step in self._given[:taken] for place in step)

    def _all(self) -> bool:
        return len(self._units) == sum(map(len, self._given)) and len(self.candidate.body) <= _EXTRACTED


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
    head = _head(candidate)
    stripped = candidate.body.strip()
    if len(stripped) <= _SHORT and "\n" not in clean(stripped):
        return Form(candidate, head, value, inline=True)

    def ask() -> tuple[list[Unit], list[float]]:
        units = _units_near(candidate)
        return units, shares(question, candidate, units, hits, terms)

    sight = _Sight(ask) if extract or candidate.whole else None
    if candidate.whole:
        return Form(candidate, head, value, _sight=sight)
    form = Form(candidate, head, value, "extract" if extract and detail == "auto" else "whole", _sight=sight)
    return form.as_line() if detail == "index" else form


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
