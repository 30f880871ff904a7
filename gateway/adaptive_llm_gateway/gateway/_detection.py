"""Detection: what a request's texts carry, the level that gives it, and the texts without it.

A credential makes a request `secret`, personal data `confidential` unless configured otherwise. What is found is named
by kind, place and a masked preview, never by its value.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from adaptive_llm_gateway.core import PersonalScanner, PersonalSpan, SecretScanner, Trust
from adaptive_llm_gateway.gateway._receipt_values import LevelReason, RedactedItem

_ROUNDS: Final = 8
"""Taking something out may bring other things together; after so many times the text goes as a whole."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the request's texts.

    Attributes:
        where: what it is, for reasons: `message 2`, or a memory's id.
    """

    text: str
    where: str


@dataclass(frozen=True, slots=True)
class Detected:
    """What one part carries of one kind, without the thing itself: safe to log, to show and to store.

    Attributes:
        count: places in the part.
        line: of the first, from 1.
        preview: of the first, masked.
        fingerprint: of the first, where it is a credential: what an allowance names. Personal data has none, since
            there are so few telephones and persons that all of them could be tried.
    """

    kind: str
    where: str
    level: Trust
    count: int
    line: int
    preview: str
    fingerprint: str | None = None

    @property
    def why(self) -> str:
        """`2 of kind 'email' in message 1, the first in line 4 (j…@….org)`."""
        told = f"line {self.line} ({self.preview})"
        if self.fingerprint is not None:
            told += f", fingerprint {self.fingerprint}"
        if self.count == 1:
            return f"{self.kind} in {self.where}, {told}"
        return f"{self.count} of kind {self.kind!r} in {self.where}, the first in {told}"


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found in a request.

    Attributes:
        level: the highest of what was found; `public`, which raises nothing, where that is nothing.
        found: in the order of the parts.
        redacted: the texts in the order of the parts, each thing that was found replaced by a placeholder as
            `[redacted:email#1]`, the same one for the same thing; None where nothing was found. Detection finds
            nothing in them.
    """

    level: Trust
    found: tuple[Detected, ...] = ()
    redacted: tuple[str, ...] | None = None

    @property
    def reasons(self) -> tuple[LevelReason, ...]:
        """What speaks for the level, as a receipt has it."""
        return tuple(LevelReason("detected", found.level, found.why) for found in self.found)

    @property
    def items(self) -> tuple[RedactedItem, ...]:
        """What is missing from `redacted`, as a receipt has it."""
        return tuple(RedactedItem(found.kind, found.where, found.count) for found in self.found)


NOTHING_FOUND: Final = Detection(Trust.PUBLIC)


@dataclass(frozen=True, slots=True)
class LevelDecision:
    """The level of a request.

    Attributes:
        level: the highest of its reasons.
        without_detected: what is left of it when all that detection found is taken out.
    """

    level: Trust
    without_detected: Trust
    reasons: tuple[LevelReason, ...]


def detect(parts: Sequence[Part], *, scanner: SecretScanner, personal: PersonalScanner) -> Detection:
    """What the texts carry.

    Both scanners keep what they know of a text, so a conversation's earlier turns cost their hash.
    """
    if not any(scanner.scan(part.text) or personal.spans(part.text) for part in parts):
        return NOTHING_FOUND
    redaction = _Redaction(scanner, personal)
    texts = tuple(redaction.take_out(part) for part in parts)
    found = tuple(redaction.found.values())
    return Detection(max((each.level for each in found), key=lambda level: level.rank), found, texts)


def level_of(
    declared: Trust | None, default: Trust, detected: Detection, carried: Sequence[tuple[Trust, str]] = ()
) -> LevelDecision:
    """The highest of what is declared (`default` where nothing is), what was detected and what the context carries.

    Args:
        carried: level and id of each memory that goes along.
    """
    if declared is None:
        own = LevelReason("default", default, f"nothing was declared, and the default is {default.value}")
    else:
        own = LevelReason("declared", declared, f"declared as {declared.value}")
    along = tuple(LevelReason("context", level, f"memory {ref} is {level.value}") for level, ref in carried)
    left = _highest((own, *along))
    reasons = (own, *detected.reasons, *along)
    return LevelDecision(_highest(reasons), left, reasons)


def _highest(reasons: Sequence[LevelReason]) -> Trust:
    return max((reason.level for reason in reasons), key=lambda level: level.rank)


@dataclass(frozen=True, slots=True)
class _Place:
    kind: str
    level: Trust
    start: int
    end: int
    value: str  # what two places have in common that carry the same, hashed
    preview: str
    fingerprint: str | None = None


class _Redaction:
    """Numbers what it takes out of the texts of one request, and says what that was."""

    def __init__(self, scanner: SecretScanner, personal: PersonalScanner) -> None:
        self._scanner = scanner
        self._personal = personal
        self._numbers: dict[tuple[str, str], int] = {}
        self._last: dict[str, int] = {}
        self.found: dict[tuple[str, str], Detected] = {}

    def take_out(self, part: Part) -> str:
        text = part.text
        for _ in range(_ROUNDS):
            places = self._places(text)
            if not places:
                return text
            pieces: list[str] = []
            at, line = 0, 1
            for place in places:
                line += _line_ends(text, at, place.start)
                pieces += (text[at : place.start], f"[redacted:{place.kind}#{self._number(place)}]")
                self._note(place, part.where, line)
                line += _line_ends(text, place.start, place.end)
                at = place.end
            text = "".join([*pieces, text[at:]])
        return "[redacted:text]" if self._places(text) else text

    def _places(self, text: str) -> list[_Place]:
        """In order and without overlap: a credential goes whole, and what is personal in it with it."""
        places = [
            _Place(
                span.finding.kind,
                Trust.SECRET,
                span.start,
                span.end,
                span.finding.fingerprint,
                span.finding.preview,
                span.finding.fingerprint,
            )
            for span in self._scanner.spans(text)
        ]
        starts, taken = [place.start for place in places], list(places)
        for span in self._personal.spans(text):
            before = bisect.bisect_left(starts, span.end)  # they do not overlap, so the one before is the one that may
            if before == 0 or taken[before - 1].end <= span.start:
                places.append(_personal_place(text, span, self._personal))
        places.sort(key=lambda place: place.start)
        return places

    def _number(self, place: _Place) -> int:
        key = place.kind, place.value
        if key not in self._numbers:
            self._numbers[key] = self._last[place.kind] = self._last.get(place.kind, 0) + 1
        return self._numbers[key]

    def _note(self, place: _Place, where: str, line: int) -> None:
        key = place.kind, where
        before = self.found.get(key)
        count, line, preview, fingerprint = (
            (1, line, place.preview, place.fingerprint)
            if before is None
            else (before.count + 1, before.line, before.preview, before.fingerprint)
        )
        self.found[key] = Detected(place.kind, where, place.level, count, line, preview, fingerprint)


def _personal_place(text: str, span: PersonalSpan, scanner: PersonalScanner) -> _Place:
    level = scanner.levels[span.kind] or Trust.PUBLIC
    hashed = hashlib.blake2b(span.same(text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return _Place(span.kind, level, span.start, span.end, hashed, span.preview(text))


def _line_ends(text: str, start: int, end: int) -> int:
    crlf = text.count("\r\n", start, end)
    return text.count("\n", start, end) + text.count("\r", start, end) - crlf
