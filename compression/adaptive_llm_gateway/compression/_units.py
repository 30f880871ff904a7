"""A body as units that are never cut: headings, sentences, list items, tables and code blocks. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["heading", "sentence", "item", "table", "code"]
LONGEST_SENTENCE = 2_000  # characters; text without an end in so many is divided at a space

_FENCE = re.compile(r"[ \t]{0,3}(`{3,}+(?=[^`]*+$)|~{3,})")  # what has marks behind it, too, is code within a line
_HEADING = re.compile(r"[ \t]{0,3}#{1,6}(?:[ \t]|$)")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]")
_TABLE = re.compile(r"[ \t]*\|")
_UNDER_HEADS = re.compile(r"[ \t]*:?-+:?[ \t]*\|[ \t:|-]*$")  # of a table whose lines do not begin with `|`
_INDENTED = re.compile(r"[ \t]+")
_CODE = re.compile(r" {4}|\t")
# The end of a sentence: a mark with a space and no small letter behind it, or a mark of a script without spaces.
# A run of marks is looked at from its beginning only: from each of them it would be read once for each of them.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’»)\]]{0,3}\s+(?![a-zß-öø-ÿа-я])|[。！？]+[」』”’）]{0,3}\s*|؟\s+|।\s*")


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of a body.

    Attributes:
        start, end: offsets in the body; white space around the unit is not in it, but for the indent of its first line.
        lines: first and last line, from 1.
        block: which paragraph, list, table or code block it belongs to, from 0.
    """

    kind: Kind
    start: int
    end: int
    lines: tuple[int, int]
    block: int


@dataclass(slots=True)
class _Line:
    start: int
    end: int
    number: int
    text: str


def units_of(body: str) -> list[Unit]:
    """The units of a body in order; together they have all that is not white space.

    Lines end at `\\n` alone, as they do for `memory_read`. A code block that is never closed ends with the body.
    """
    units: list[Unit] = []
    for block, (kind, lines) in enumerate(_blocks(body)):
        if kind == "sentence":
            units += _sentences(body, lines, block)
        else:
            start, end = lines[0].start, lines[-1].end
            end = start + len(body[start:end].rstrip())
            last = lines[0].number + body.count("\n", start, end)
            units.append(Unit(kind, start, end, (lines[0].number, last), block))
    return units


def _lines(body: str) -> list[_Line]:
    lines: list[_Line] = []
    start = 0
    for number, text in enumerate(body.split("\n"), 1):
        lines.append(_Line(start, start + len(text), number, text))
        start += len(text) + 1
    return lines


def _blocks(body: str) -> Iterator[tuple[Kind, list[_Line]]]:
    """(kind, its lines); a block of kind `sentence` is a paragraph."""
    lines = _lines(body)
    place = 0
    after_blank = True
    while place < len(lines):
        text = lines[place].text
        if not text or text.isspace():
            after_blank = True
            place += 1
            continue
        first = place
        kind: Kind = "sentence"
        if fence := _FENCE.match(text):
            kind = "code"
            mark = fence[1]
            place += 1
            while place < len(lines) and not _closes(lines[place].text, mark):
                place += 1
            place = min(place + 1, len(lines))
        elif _HEADING.match(text):
            kind = "heading"
            place += 1
        elif _TABLE.match(text):
            kind = "table"
            while place < len(lines) and _TABLE.match(lines[place].text):
                place += 1
        elif "|" in text and place + 1 < len(lines) and _UNDER_HEADS.match(lines[place + 1].text):
            kind = "table"
            while place < len(lines) and "|" in lines[place].text:
                place += 1
        elif _ITEM.match(text):
            kind = "item"
            place = _end_of_item(lines, place)
        elif after_blank and _CODE.match(text):
            kind = "code"
            place = _end_of_indented(lines, place)
        else:
            place += 1
            while place < len(lines) and _goes_on(lines[place].text):
                place += 1
        after_blank = False
        yield kind, lines[first:place]


def _end_of_indented(lines: list[_Line], place: int) -> int:
    """Indented code goes on behind blank lines, up to what is not indented or is a list's."""
    end = place
    while place < len(lines):
        text = lines[place].text
        if not text or text.isspace():
            place += 1
        elif _CODE.match(text) and (place == end or not _ITEM.match(text)):
            place = end = place + 1
        else:
            break
    return end


def _closes(text: str, mark: str) -> bool:
    stripped = text.strip()
    return len(stripped) >= len(mark) and stripped == mark[0] * len(stripped)


def _end_of_item(lines: list[_Line], place: int) -> int:
    """An item has the indented lines behind it, with what code is in them."""
    place += 1
    while place < len(lines):
        text = lines[place].text
        if not text.strip() or not _INDENTED.match(text) or _ITEM.match(text):
            break
        if fence := _FENCE.match(text.lstrip()):
            place += 1
            while place < len(lines) and not _closes(lines[place].text, fence[1]):
                place += 1
        place += 1
    return min(place, len(lines))


def _goes_on(text: str) -> bool:
    """Whether a line belongs to the paragraph above it."""
    return bool(text.strip()) and not any(form.match(text) for form in (_FENCE, _HEADING, _TABLE, _ITEM))


def _sentences(body: str, lines: list[_Line], block: int) -> Iterator[Unit]:
    start, end = lines[0].start, lines[-1].end
    number, counted = lines[0].number, start
    text = body[start:end]
    edges = [0, *(match.end() for match in _END.finditer(text)), len(text)]
    for left, right in itertools.pairwise(edges):
        for first, last in _bounded(text, left, right):
            piece = text[first:last]
            stripped = piece.strip()
            if not stripped:
                continue
            begin = start + first + len(piece) - len(piece.lstrip())
            number += body.count("\n", counted, begin)
            counted = begin
            stop = begin + len(stripped)
            yield Unit("sentence", begin, stop, (number, number + stripped.count("\n")), block)


def _bounded(text: str, left: int, right: int) -> Iterator[tuple[int, int]]:
    while right - left > LONGEST_SENTENCE:
        cut = text.rfind(" ", left + LONGEST_SENTENCE // 2, left + LONGEST_SENTENCE) + 1
        cut = cut or left + LONGEST_SENTENCE
        yield left, cut
        left = cut
    yield left, right
