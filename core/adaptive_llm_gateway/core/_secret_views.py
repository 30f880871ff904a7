"""Other readings of a stretch of text: decoded, joined, unescaped, and where each of their characters stands."""

from __future__ import annotations

import binascii
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters of a reading, and what they were read from: each `unit` of them from `per` of the text."""

    text: str
    start: int
    end: int
    unit: int = 1
    per: int = 1
    plain: bool = True  # stands in the text as it is read


class View:
    """Pieces one after the other, as one text."""

    def __init__(self, pieces: Sequence[Piece], *, lines: bool = False) -> None:
        self.pieces = pieces
        self.lines = lines  # joined over the end of a line that nothing says goes on
        self.text = "".join(piece.text for piece in pieces)
        self._at: list[int] = []
        length = 0
        for piece in pieces:
            self._at.append(length)
            length += len(piece.text)

    def place(self, start: int, end: int) -> tuple[int, int]:
        """What of the original text the characters `start` up to `end` were read from."""
        first, last = bisect_right(self._at, start) - 1, bisect_left(self._at, end) - 1
        head, tail = self.pieces[first], self.pieces[last]
        begin = head.start + (start - self._at[first]) // head.unit * head.per
        stop = tail.start + ((end - 1 - self._at[last]) // tail.unit + 1) * tail.per
        return begin, min(stop, tail.end)

    def is_changed(self, start: int, end: int) -> bool:
        """Whether these characters do not stand like that in the text: from several pieces, or from a decoded one."""
        first, last = bisect_right(self._at, start) - 1, bisect_left(self._at, end) - 1
        return first != last or not self.pieces[first].plain

    def joints(self, start: int, end: int) -> list[tuple[Piece, Piece]]:
        """The neighbouring pieces among these characters."""
        first, last = bisect_right(self._at, start) - 1, bisect_left(self._at, end) - 1
        return list(zip(self.pieces[first:last], self.pieces[first + 1 : last + 1], strict=True))


# --- Base64 and hex ------------------------------------------------------------------------------------

# What the first three of four characters can be when the three bytes are printable ASCII; in random base64 six such
# groups follow each other once in ten million.
_GROUP = "[I-Za-f][C-HS-Xi-nyz0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_-]"
_IN_BASE64 = re.compile(_GROUP + f"(?:{_GROUP}){{5}}")
_IN_HEX = re.compile("[2-7][0-9a-fA-F](?:[2-7][0-9a-fA-F]){17}")
_HIGH = b"a" * 18  # the first digits of as many bytes, every other character of hex
_HIGH_DIGITS = bytes(0x61 if chr(code) in "234567" else 0x20 for code in range(256))
_BASE64 = re.compile("[A-Za-z0-9+/_-]+")
_HEX = re.compile("[0-9a-fA-F]+")
_HEX_DIGITS = "0123456789abcdefABCDEF"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
_PADDING = re.compile("={0,2}")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_STANDARD = str.maketrans("-_", "+/")
_BACK = 64  # characters before the first group: a line end among the bytes hides where the text begins
_LEAST, _MOST = 1_024, 65_536  # characters of one encoded text that are read at a time, and in all
_SHORTEST = 18  # bytes


def maybe_base64(text: str, start: int, end: int) -> bool:
    """Whether `decoded` will find base64 here."""
    return _IN_BASE64.search(text, start, end) is not None


def maybe_hex(text: str, start: int, end: int) -> bool:
    """Whether `decoded` will find hex here."""
    high = text[start:end].encode("ascii", "replace").translate(_HIGH_DIGITS)
    if _HIGH not in high[::2] and _HIGH not in high[1::2]:
        return False
    return _IN_HEX.search(text, start, end) is not None


def has_control(text: str) -> bool:
    """Whether it is no text."""
    return _CONTROL.search(text) is not None


def decoded(text: str, start: int, end: int) -> Iterator[View]:
    """The readings of base64 or hex in the run `text[start:end]` whose bytes are text."""
    for form, group in ((_IN_BASE64, 4), (_IN_HEX, 2)):
        at = start
        while at < end and (found := form.search(text, at, end)) is not None:
            at = found.end()
            # In hex either of two neighbouring characters can look like the first of a byte.
            for first in (found.start(), found.start() + 1)[: 4 // group]:
                head = text[max(start, first - _BACK) : first]
                low = first - len(head) + len(head.rstrip(_LETTERS if group == 4 else _HEX_DIGITS))
                view = _decoded(text, low, first, group)
                if view is not None:
                    yield view
                    at = max(at, view.pieces[0].end)


def _decoded(text: str, low: int, first: int, group: int) -> View | None:
    unit = group * 3 // 4 if group == 4 else 1
    begin = first - (first - low) // group * group
    lead = (first - begin) // group * unit  # bytes before the first group, which may be anything
    size = _LEAST
    while True:
        body = cast(re.Match[str], (_BASE64 if group == 4 else _HEX).match(text, begin, begin + size))
        read = _bytes(body.group(), group)
        stop = _CONTROL.search(read, lead)
        if stop is not None or body.end() < begin + size or size == _MOST:
            break
        size *= 4
    skip = max((control.end() for control in _CONTROL.finditer(read, 0, lead)), default=0)
    skip += -skip % unit  # whole groups, so that places stay in step
    read = read[skip : stop.start() if stop is not None else len(read)]
    if len(read) < _SHORTEST:
        return None
    start = begin + skip // unit * group
    end = min(body.end(), start + -(-len(read) // unit) * group)
    if group == 4 and end == body.end():
        end = cast(re.Match[str], _PADDING.match(text, end)).end()
    return View([Piece(read, start, end, unit, group, plain=False)])


def _bytes(body: str, group: int) -> str:
    if group == 2:
        return bytes.fromhex(body[: len(body) // 2 * 2]).decode("latin-1")
    if len(body) % 4 == 1:
        body = body[:-1]
    return binascii.a2b_base64(body.translate(_STANDARD) + "=" * (-len(body) % 4)).decode("latin-1")


# --- Escapes and joints ----------------------------------------------------------------------------------

INVISIBLE = "\u00ad\u034f\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufeff"
WIDE = "\uff0d\uff0e\uff0f\uff10-\uff19\uff21-\uff3a\uff3f\uff41-\uff5a"
MATHEMATICAL = "\U0001d400-\U0001d7ff"
HYPHENS = "\u2010\u2011\u2012\u2013\u2212"
_GONE = (
    f"[{INVISIBLE}]{{1,64}}"
    r"""
    | \\\r?\n[ \t]{0,40}
    | =\r?\n
    | ["']{1,3}[ \t]{0,8}(?:\+|\.{1,2}|&|<>|\|\||\\)?[ \t]{0,8}(?:\\?\r?\n[ \t]{0,40}(?:[>|\#*][ \t]?){0,3}){0,2}
        (?:\+|\.{1,2}|&|<>|\|\|)?[ \t]{0,8}[fFbBrRuU]{0,2}["']{1,3}
    | `[ \t]{0,8}\+[ \t]{0,8}(?:\r?\n[ \t]{0,40})?`
    | \$\{["'`] | ["'`]\}
    | \*{1,3} | ~~ | `{1,2}
    | </?(?:b|i|u|em|s|strong|code|span|wbr|br|mark|tt|kbd|font)(?:[ \t][^<>\n]{0,100})?/?>
    """
)
_LINE = r"""[ \t]{0,8}\r?\n[ \t]{0,40}(?:[>|\#*;"'][ \t]{0,4}){0,4} | (?:\\r)?\\n[ \t]{0,40}"""
_SEAM = re.compile(f"(?:{_GONE}|{_LINE}){{1,4}}", re.VERBOSE)
_ON = re.compile(f"(?:{_GONE}|{_LINE}){{1,4}}[A-Za-z0-9_-]", re.VERBOSE)
_LEXED = re.compile(
    r"""
      (?P<percent>(?:%[0-9A-Fa-f]{2}){1,4096})
    | (?P<byte>(?:\\x[0-9A-Fa-f]{2}){1,4096})
    | (?P<unit>(?:\\u[0-9A-Fa-f]{4}){1,4096})
    | \\(?:u\{(?P<braced>[0-9A-Fa-f]{1,6})\}|U(?P<long>[0-9A-Fa-f]{8}))
    | &(?P<entity>\#[0-9]{1,7}|\#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,24});
    | \\(?P<sign>[_.~*+/=:@#!$&-])
    | (?P<wide>["""
    + WIDE
    + MATHEMATICAL
    + HYPHENS
    + r"""]{1,4096})
    | (?P<gone>"""
    + _GONE
    + r""")
    | (?P<line>"""
    + _LINE
    + r""")
    | (?P<plain>[A-Za-z0-9_./+:@\#!,;?-]{1,4096} | [%&=~$])
    """,
    re.VERBOSE,
)
_BLANKS, _QUOTES, _GOES_ON_OTHERWISE = (frozenset(signs) for signs in (" \t", "\"'", ",:;)]"))
_PIECES = 4_096  # of one reading
_WIDTH = 40  # a line shorter than this was not wrapped, so the one after the next belongs to something else


def read(text: str, start: int, *, lines: bool) -> tuple[View, int] | None:
    """What stands from here on without escapes, marks and the seams of strings, and where the next may begin.

    Args:
        lines: also over the ends of lines: over one, and over more as long as the lines look wrapped.
    """
    pieces: list[Piece] = []
    at = start
    seam = -1  # where the last line began; the lengths of the last lines
    length = before = 0
    changed = False
    while len(pieces) < _PIECES and at < start + _MOST and (found := _LEXED.match(text, at)) is not None:
        kind = cast(str, found.lastgroup)
        if kind == "line":
            if not lines or (seam >= 0 and (length < _WIDTH or length < before)):
                break
            before, length, seam = (length if seam >= 0 else 0), 0, found.end()
            changed = True
        elif kind == "gone":
            changed = True
        else:
            piece = _piece(found, kind)
            pieces.append(piece)
            length += len(piece.text)
            changed |= not piece.plain
        at = found.end()
    if not changed or len(pieces) == 0:
        return None
    last = max(start + 1, pieces[-1].start if seam < 0 else seam)
    return View(_merged(text, pieces), lines=seam >= 0), last if seam >= 0 else at


def goes_on(text: str, at: int) -> bool:
    """Whether something like a token goes on behind a seam that begins here."""
    sign, after = text[at : at + 1], text[at + 1 : at + 10]
    # What most often follows a run and is no seam: a blank within a line, a quote that ends a value in a list.
    if sign in _BLANKS and "\n" not in after:
        return False
    if sign in _QUOTES and after[:1] in _GOES_ON_OTHERWISE:
        return False
    return _ON.match(text, at) is not None


def is_seam(text: str) -> bool:
    """Whether this, between two texts, makes them one."""
    return _SEAM.fullmatch(text) is not None


def _piece(found: re.Match[str], kind: str) -> Piece:
    start, end, value = found.start(), found.end(), found[kind]
    if kind == "plain":
        return Piece(value, start, end)
    if kind == "percent":
        return Piece(bytes.fromhex(value.replace("%", "")).decode("latin-1"), start, end, 1, 3, plain=False)
    if kind == "byte":
        return Piece(bytes.fromhex(value.replace("\\x", "")).decode("latin-1"), start, end, 1, 4, plain=False)
    if kind == "unit":
        units = "".join(chr(int(value[at : at + 4], 16)) for at in range(2, len(value), 6))
        return Piece(units, start, end, 1, 6, plain=False)
    if kind == "wide":
        return Piece("".join(map(_narrow, value)), start, end, plain=False)
    if kind == "sign":
        return Piece(value, start, end, 1, 2, plain=False)
    if kind == "entity":
        import html  # noqa: PLC0415 - its table of names is for those that meet one

        value = html.unescape(f"&{value};")
    else:
        value = chr(int(value, 16)) if int(value, 16) <= 0x10FFFF else "?"
    return Piece("".join(map(_narrow, value)), start, end, max(1, len(value)), end - start, plain=False)


def _narrow(char: str) -> str:
    """The ASCII character that this one is a form of; one for one, so that places stay in step."""
    if char.isascii():
        return char
    if char in HYPHENS:
        return "-"
    plain = unicodedata.normalize("NFKC", char)
    return plain if len(plain) == 1 else "?"


def _merged(text: str, pieces: list[Piece]) -> list[Piece]:
    """Plain pieces that directly follow each other as one, so that only seams are between pieces."""
    merged: list[Piece] = []
    at = 0
    while at < len(pieces):
        first = last = pieces[at]
        at += 1
        while first.plain and at < len(pieces) and pieces[at].plain and pieces[at].start == last.end:
            last = pieces[at]
            at += 1
        merged.append(first if first is last else Piece(text[first.start : last.end], first.start, last.end))
    return merged
