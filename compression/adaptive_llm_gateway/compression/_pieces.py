"""The pieces that a file can give to a summary, definitions or units of text, and what each is worth. Pure.

A piece is worth more the more of the question's words it has, and the more the rest of the files refers to it; without
a question, headings and what stands first tell what a text is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from adaptive_llm_gateway.compression._choose import Step
from adaptive_llm_gateway.compression._forms import falling, runs
from adaptive_llm_gateway.compression._outline import Outline
from adaptive_llm_gateway.compression._references import importances
from adaptive_llm_gateway.compression._relevance import Terms, shares, terms_of
from adaptive_llm_gateway.compression._render import GAP, INDENT, clean, in_line, indented
from adaptive_llm_gateway.compression._units import Unit, units_of
from adaptive_llm_gateway.compression._values import Candidate

READ: Final = 200_000
"""Characters of a text of which units are made."""

_EXTRACTS = 80  # texts of which units are made, the best ones
_BLOCK_LINES = 30  # of code without a grammar, lines of a unit
_PATH, _NAME = 300, 40  # characters
_SPLIT = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_/.\-]+")
_TEST = re.compile(r"(?:^|[/_.\-])(?:tests?|specs?|testing|fixtures?|mocks?)(?:[/_.\-]|$)", re.IGNORECASE)
_README = re.compile(r"(?:^|/)readme(?:\.\w+)?$", re.IGNORECASE)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # no time counts here
# What a definition is worth: something by itself, more by references and most by the question's words.
_OWN, _ASKED, _UNASKED = 0.15, 6.0, 0.03
_CONTEXT = 0.5  # of a word of the question, in the path or in what a definition stands in
_VALUE, _PRIVATE, _IN_TEST, _NESTED = 0.35, 0.5, 0.3, 0.8
_TEXT = 3.0  # what all of a text is worth that has every word of the question
_HEADINGS = (1.0, 0.7, 0.4, 0.2)  # by level
_AFTER_HEADING, _REST = 0.5, 0.05


@dataclass(frozen=True, slots=True)
class SummaryFile:
    """A file that may go into a summary.

    Attributes:
        path: within what is summarised, or its name; with `/`.
        text: may be empty where there is an outline.
        lines: how many it has.
        length: characters.
        outline: of source code.
        names: every word that may name something, for what it refers to.
        language: of source code.
        data: named only.
    """

    path: str
    text: str
    lines: int
    length: int
    outline: Outline | None = None
    names: frozenset[str] = frozenset()
    language: str | None = None
    data: bool = False


@dataclass(slots=True)
class Section:
    """What a file can give.

    Attributes:
        values: of each piece, by place.
        units: of a text; for code its definitions stand in the outline.
        prior: what its name alone is worth.
        steps: what can be taken, in this order.
        given: the pieces of each step, by place.
        brief: definitions that are there for what stands in them, without their documentation.
    """

    file: SummaryFile
    head: str
    values: Sequence[float] = ()
    units: Sequence[Unit] = ()
    prior: float = 0.0
    steps: list[Step] = field(default_factory=list[Step])
    given: list[list[int]] = field(default_factory=list[list[int]])
    brief: set[int] = field(default_factory=set[int])
    pieces: dict[int, str] = field(default_factory=dict[int, str])

    def arrange(self, *, apart: bool = False) -> None:
        """Make the steps, the best by value per character first.

        Args:
            apart: each piece in a step of its own; else the first step has as many as make the head worth its place.
        """
        lengths = [self._length(place) + 12 for place in range(len(self.values))]
        order = sorted(range(len(lengths)), key=lambda place: (-self.values[place] / lengths[place], place))
        self.steps, self.given, self.brief, self.pieces = [], [], set(), {}
        if not order:
            return
        if apart:
            given, worths = [[place] for place in order], [self.values[place] for place in order]
        else:
            given, worths = falling(order, list(self.values), lengths, len(self.head))
        seen: set[int] = set()
        for places, worth in zip(given, worths, strict=True):
            new = self._with_those_around(places, seen)
            if new:
                self.given.append(new)
                self.steps.append(Step(worth))

    def _with_those_around(self, places: Sequence[int], seen: set[int]) -> list[int]:
        """Pieces, and the definitions that they stand in, without those seen before."""
        new: list[int] = []
        for place in places:
            above = place
            while above >= 0 and above not in seen:
                seen.add(above)
                new.append(above)
                if above not in places:
                    self.brief.add(above)
                above = self.file.outline.definitions[above].parent if self.file.outline is not None else -1
        return sorted(new)

    def places(self, taken: int) -> list[int]:
        """The pieces of so many steps, in the order of the file."""
        return sorted(place for step in self.given[:taken] for place in step)

    def whole(self, taken: int) -> bool:
        """Whether all of a text is there with so many steps."""
        done = taken == len(self.given) and sum(map(len, self.given)) == len(self.units)
        return bool(self.units) and done and len(self.file.text) <= READ

    def lines(self, taken: int) -> tuple[tuple[int, int], ...]:
        """The lines (first, last) of the file that the pieces of so many steps stand for, from 1."""
        found: list[tuple[int, int]] = []
        for place in self.places(taken):
            start, end = self._lines(place)
            if found and start <= found[-1][1] + 1:
                found[-1] = (found[-1][0], max(end, found[-1][1]))
            else:
                found.append((start, end))
        return tuple(found)

    def text(self, taken: int) -> str:
        """The file's part of the summary with so many steps taken."""
        places = self.places(taken)
        if not places:
            return self.head
        if self.whole(taken):
            return f"{self.head}, whole\n{indented(self.file.text)}"
        if self.units:
            return "\n".join([self.head, *(self._run(first, last) for first, last in runs(places))])
        return "\n".join([self.head, *(self._line(place) for place in places)])

    def piece(self, step: int) -> str:
        """What a step adds to the text, or a little more."""
        if step not in self.pieces:
            lines = [self._run(place, place) if self.units else self._line(place) for place in self.given[step]]
            self.pieces[step] = "".join(f"\n{line}" for line in ([self.head] if step == 0 else []) + lines)
        return self.pieces[step]

    def guess(self, step: int) -> float:
        """Tokens of a step, roughly."""
        return sum(self._length(place) for place in self.given[step]) / 5 + (len(self.head) / 4 if step == 0 else 0) + 3

    def _lines(self, place: int) -> tuple[int, int]:
        if self.units:
            return self.units[place].lines
        assert self.file.outline is not None  # noqa: S101 - a section has one or the other
        return self.file.outline.definitions[place].lines

    def _length(self, place: int) -> int:
        if self.units:
            return self.units[place].end - self.units[place].start
        assert self.file.outline is not None  # noqa: S101 - as above
        one = self.file.outline.definitions[place]
        return len(one.signature) + len(one.doc)

    def _run(self, first: int, last: int) -> str:
        body, text = self.file.text, ""
        for place in range(first, last + 1):
            between = body[self.units[place - 1].end : self.units[place].start] if place > first else ""
            text += ("\n" if "\n" in between else between) + body[self.units[place].start : self.units[place].end]
        text = indented(text).removeprefix(INDENT)
        lines = (self.units[first].lines[0], self.units[last].lines[1])
        return f"{INDENT}{_range(lines)}: {text}"

    def _line(self, place: int) -> str:
        """A definition on its line."""
        assert self.file.outline is not None  # noqa: S101 - as above
        found = self.file.outline.definitions
        one, depth = found[place], 0
        parent = one.parent
        while parent >= 0:
            depth, parent = depth + 1, found[parent].parent
        said = in_line(one.signature)
        if one.doc and place not in self.brief:
            said += f": {in_line(one.doc)}"
        return f"{INDENT * (depth + 1)}{_range(one.lines)} {said}"


def sections_of(question: str, files: Sequence[SummaryFile]) -> list[Section]:
    """A section for each file, in their order."""
    outlines = [file.outline if not file.data else None for file in files]
    terms, asked, hits = _asked_of(question, files, outlines)
    interest = [max(values, default=0.0) for values in asked]
    referred = importances(
        [[one.name for one in outline.definitions] if outline is not None else [] for outline in outlines],
        [frozenset() if file.data else file.names for file in files],
        interest,
    )
    sought = any(interest)
    best = sorted(
        (place for place, outline in enumerate(outlines) if outline is None and not files[place].data),
        key=lambda place: (-(interest[place] or 0.1 * _prior(files[place])), place),
    )
    extracted = set(best[:_EXTRACTS])
    sections: list[Section] = []
    for place, (file, outline) in enumerate(zip(files, outlines, strict=True)):
        made = Section(file, _head(file))
        if outline is not None:
            test = _TEST.search(file.path) is not None
            made.values = _values(outline, asked[place], referred[place], sought=sought, test=test)
        elif place in extracted:
            made.units = _units_in(file)
            made.values = _shared(question, file, made.units, interest[place], hits[place], terms, sought=sought)
        made.prior = _prior(file) * (0.1 + interest[place])
        made.arrange()
        sections.append(made)
    return sections


def _units_in(file: SummaryFile) -> list[Unit]:
    """The units of a text, or of code without a grammar its blocks."""
    body = file.text[:READ]
    return list(_blocks(body)) if file.language else units_of(body)


def _asked_of(
    question: str, files: Sequence[SummaryFile], outlines: Sequence[Outline | None]
) -> tuple[Terms, list[list[float]], list[Sequence[tuple[int, int]]]]:
    """(the question's terms; by file, the share of them that each definition has, or the text; the text's hits)."""
    texts: list[str] = []
    for file, outline in zip(files, outlines, strict=True):
        texts.append(_words(file.path[-_PATH:]))
        if outline is not None and question.strip():
            texts += [_words(f"{one.name} {one.signature} {one.doc}") for one in outline.definitions]
        elif outline is not None:
            texts += [""] * len(outline.definitions)
        else:
            texts.append("" if file.data else file.text)
    terms, hits = terms_of(question, texts)
    weights: list[float] = terms.weights.tolist()
    found = iter(hits)
    asked: list[list[float]] = []
    text_hits: list[Sequence[tuple[int, int]]] = []
    for outline in outlines:
        path = {term for _, term in next(found)}
        if outline is not None:
            own = [{term for _, term in next(found)} for _ in outline.definitions]
            asked.append(_asked(outline, path, own, weights))
            text_hits.append(())
        else:
            text_hits.append(next(found))
            has = {term for _, term in text_hits[-1]}
            both = sum(weights[term] for term in has) + _CONTEXT * sum(weights[term] for term in path - has)
            asked.append([min(1.0, both)])
    return terms, asked, text_hits


def path_as_shown(path: str) -> str:
    """A path on one line, without what a terminal or a reader could take for something else."""
    line = in_line(path)
    return line if len(line) <= _PATH else f"{GAP}{line[-_PATH:]}"


def _head(file: SummaryFile) -> str:
    count = f"{file.lines:,} line" if file.lines == 1 else f"{file.lines:,} lines"
    about = f"{file.language}, {count}" if file.language else count
    return f"{path_as_shown(file.path)} ({about})"


def _range(lines: tuple[int, int]) -> str:
    return f"{lines[0]}" if lines[0] == lines[1] else f"{lines[0]}-{lines[1]}"


def _words(text: str) -> str:
    return f"{text} {_SPLIT.sub(' ', text)}"


def _prior(file: SummaryFile) -> float:
    """Of a text nobody asked for: what introduces a folder first, and what lies higher before what lies deeper."""
    depth = file.path.count("/")
    worth = (1.0 if _README.search(file.path) else 0.25) / (1 + depth / 2)
    return worth * (_IN_TEST if _TEST.search(file.path) else 1.0) * (0.2 if file.data else 1.0)


def _asked(outline: Outline, path: set[int], own: Sequence[set[int]], weights: Sequence[float]) -> list[float]:
    """Of the question's words, the share that each definition has; those around it count for less."""
    around: list[set[int]] = []
    values: list[float] = []
    for one, has in zip(outline.definitions, own, strict=True):
        context = path if one.parent < 0 else around[one.parent]
        around.append(context | has if one.parent < 0 or has else context)
        values.append(sum(weights[term] for term in has) + _CONTEXT * sum(weights[term] for term in context - has))
    # What stands in the path alone is true of the whole file, and tells its definitions apart from none.
    return [value if has else value * _CONTEXT for value, has in zip(values, own, strict=True)]


def _values(
    outline: Outline, asked: Sequence[float], referred: Sequence[float], *, sought: bool, test: bool
) -> list[float]:
    values: list[float] = []
    for one, share, reference in zip(outline.definitions, asked, referred, strict=True):
        worth = _OWN + reference
        worth *= _PRIVATE if one.name.startswith("_") else 1.0
        worth *= _NESTED if one.parent >= 0 else 1.0
        if sought:
            worth = worth * (_UNASKED + share) + _ASKED * share**1.5
        values.append(worth * (_VALUE if one.value else 1.0) * (_IN_TEST if test else 1.0))
    return values


def _shared(
    question: str,
    file: SummaryFile,
    units: Sequence[Unit],
    interest: float,
    hits: Sequence[tuple[int, int]],
    terms: Terms,
    *,
    sought: bool,
) -> list[float]:
    """What each unit of a text is worth."""
    body = file.text[:READ]
    if not sought:
        return [_prior(file) * one for one in _structure(body, units)]
    candidate = Candidate("", "file", "", body, file.path, "", _BEGINNING, "", 0.0)
    return [_TEXT * interest * share for share in shares(question, candidate, units, hits, terms)]


def _structure(body: str, units: Sequence[Unit]) -> Iterator[float]:
    """What each unit is worth where nothing was asked."""
    after = True
    for place, unit in enumerate(units):
        if unit.kind == "heading":
            level = min(len(_HEADINGS), len(body[unit.start : unit.end].lstrip().partition(" ")[0]))
            yield _HEADINGS[level - 1]
        elif after:
            yield _AFTER_HEADING + (0.5 if place <= 1 else 0.0)
        else:
            yield _REST / (1 + place / 20)
        after = unit.kind == "heading"


def _blocks(body: str) -> Iterator[Unit]:
    """Code without a grammar: lines that no blank one parts, and not very many of them."""
    start = block = 0
    kept: list[tuple[int, int, int]] = []
    for number, line in enumerate([*body.split("\n"), ""], 1):
        if line.strip():
            kept.append((start, start + len(line), number))
        if kept and (not line.strip() or len(kept) == _BLOCK_LINES):
            yield Unit("code", kept[0][0], kept[-1][1], (kept[0][2], kept[-1][2]), block)
            kept, block = [], block + 1
        start += len(line) + 1


def cleaned(text: str) -> str:
    """Text with one kind of line end and valid Unicode, of which outlines and units are made; its lines stay."""
    return clean(text.replace("\x0b", " ").replace("\x0c", " "))
