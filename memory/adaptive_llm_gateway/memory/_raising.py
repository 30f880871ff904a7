"""Personal data in memories: it refuses nothing, it raises the trust level of what a write brings. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from adaptive_llm_gateway.core import PersonalFinding, PersonalScanner, Trust
from adaptive_llm_gateway.memory._values import Author, Record

_SIGNS: Final = re.compile(r"[\W_]+")
_LINES_TOLD: Final = 5
_FOUND_KEPT: Final = 50
_MOST_COUNTED: Final = 1_000
"""Then no more of a text is looked at: what is found after that changes nothing."""
_PIECE: Final = 128 * 1024
_EDITS_KEPT: Final = 100
_EDITS_TOLD: Final = 3


@dataclass(frozen=True, slots=True)
class Raised:
    """What a write brought of personal data, and what came of it; it names no value.

    Attributes:
        found: the first of it, in order; `count` is how many there are, or more where it is not `whole`.
        before: the level that the memory would have had.
        after: the one that it has: not below `before`.
        wanted: the one that such data has. `after` is lower where the repo takes none as high.
    """

    found: tuple[PersonalFinding, ...]
    count: int
    before: Trust
    after: Trust
    wanted: Trust
    whole: bool = True

    @property
    def note(self) -> str:
        """All of it in a sentence."""
        what = f"it carries personal data: {told(self.found)}"
        if self.count > len(self.found):
            what += f" and {'' if self.whole else 'at least '}{self.count - len(self.found):,} more"
        if self.after is self.before:
            return (
                f"{what}; its trust level stays `{self.before}`, for this memory repo takes nothing above it, though "
                f"such data is `{self.wanted}`"
            )
        short = "" if self.after is self.wanted else f" (not to `{self.wanted}`: this memory repo takes none as high)"
        return (
            f"{what}; so its trust level was raised from `{self.before}` to `{self.after}`{short}. If others may see "
            "it, lower the level by hand, in the file or with a write that names its id and `trust`: that stays"
        )


def told(found: Sequence[PersonalFinding]) -> str:
    """By kind, with how many, where and a masked preview: `2 of kind email (lines 4 and 9, j…@….org)`."""
    kinds: dict[str, list[PersonalFinding]] = {}
    for each in found:
        kinds.setdefault(each.kind, []).append(each)
    return ", ".join(_kind_told(kind, each) for kind, each in kinds.items())


def _kind_told(kind: str, found: Sequence[PersonalFinding]) -> str:
    lines = list(dict.fromkeys(each.line for each in found))
    shown = [str(line) for line in lines[:_LINES_TOLD]]
    if len(lines) > _LINES_TOLD:
        shown.append(f"{len(lines) - _LINES_TOLD:,} more")
    where = f"line {shown[0]}" if len(shown) == 1 else f"lines {', '.join(shown[:-1])} and {shown[-1]}"
    return f"{len(found):,} of kind {kind} ({where}, {found[0].preview})"


def said_by(author: Author) -> str:
    """Who wrote it, to be known: that is no part of what it says."""
    return f"\n{author.client}\n{author.agent or ''}\n{author.host or ''}"


@dataclass(frozen=True, slots=True)
class PersonalRule:
    """Which level a memory gets for the personal data in it.

    Attributes:
        scanner: says what is personal, and of which level each kind is.
        most: the highest level that the repo takes; a memory is not raised above it, since that would refuse it.
    """

    scanner: PersonalScanner
    most: Trust

    def look(self, text: str, *, known: str, level: Trust) -> Raised | None:
        """What becomes of a memory's file.

        Args:
            text: the file as it is to be.
            known: what it, or what it comes from, said before: what was personal there raises nothing now, so that a
                level that somebody has lowered stays.
            level: the file's own.

        Returns:
            None where nothing new is personal, or the level is high enough.
        """
        scanner = self.scanner
        before = _Known(known)
        found: list[PersonalFinding] = []
        count, lines, wanted = 0, 0, level
        highest = max((each.rank for each in scanner.levels.values() if each is not None), default=0)
        whole = True
        for piece in _pieces(text):
            if count >= _MOST_COUNTED and wanted.rank >= highest:
                whole = False
                break
            spans = scanner.spans(piece)
            for span, finding in zip(spans, scanner.scan(piece) if spans else (), strict=True):
                of_kind = scanner.levels[span.kind]
                if of_kind is None or before.has(span.kind, span.same(piece)):
                    continue
                count += 1
                wanted = max(wanted, of_kind, key=lambda each: each.rank)
                if len(found) < _FOUND_KEPT:
                    found.append(replace(finding, line=lines + finding.line))
            lines += piece.count("\n")
        if wanted is level:
            return None
        after = max(level, min(wanted, self.most, key=lambda each: each.rank), key=lambda each: each.rank)
        return Raised(tuple(found), count, level, after, wanted, whole)


def _pieces(text: str) -> Iterator[str]:
    """The text, a longer one in pieces that end with a line where they can."""
    start = 0
    while len(text) - start > _PIECE:
        end = text.rfind("\n", start, start + _PIECE) + 1 or start + _PIECE
        yield text[start:end]
        start = end
    yield text[start:] if start else text


class _Known:
    """What was said before, made ready once something is asked for: most texts have nothing personal in them."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._folded: str | None = None
        self._plain: str | None = None

    def has(self, kind: str, same: str) -> bool:
        """Whether it stands there, in whichever way it is written."""
        if kind == "email":
            if self._folded is None:
                self._folded = self._text.casefold()
            return same in self._folded
        if self._plain is None:
            self._plain = _SIGNS.sub("", self._text).upper()
        return same in self._plain


@dataclass(frozen=True, slots=True)
class _Edit:
    record: Record
    raised: Raised


class EditsToTell:
    """Edits by hand that brought personal data: a person's file keeps the level that it has, and the status says so.

    They are forgotten when the store closes, or the memory is another: whoever keeps the level as it is has been told.
    """

    def __init__(self, rule: PersonalRule) -> None:
        self._rule = rule
        self._edits: dict[str, _Edit] = {}

    def note(self, record: Record, text: str, *, before: str | None, level_before: Trust | None) -> None:
        """Take an edit in.

        Args:
            before: the file as it was; None: there was none. `level_before` is the level that it had.
        """
        known = before or ""
        if record.id in self._edits and level_before is record.trust:
            known = ""  # what the edit before brought is there still
        chosen = level_before is not None and level_before is not record.trust
        found = None if chosen else self._rule.look(text, known=known + said_by(record.author), level=record.trust)
        self._edits.pop(record.id, None)
        if found is not None and found.after is not found.before and len(self._edits) < _EDITS_KEPT:
            self._edits[record.id] = _Edit(record, found)

    def notice(self, current: Callable[[str], Record | None]) -> str | None:
        """What the status says; None: nothing.

        Args:
            current: the record of a memory as it is now.
        """
        waiting: list[_Edit] = []
        for id_, edit in list(self._edits.items()):
            record = current(id_)
            if record is None or record.version != edit.record.version:
                self._edits.pop(id_, None)
            else:
                waiting.append(edit)
        if not waiting:
            return None
        shown = "; ".join(
            f"{each.record.path!r} is `{each.record.trust}` with {told(each.raised.found)}"
            for each in waiting[:_EDITS_TOLD]
        )
        more = f"; and {len(waiting) - _EDITS_TOLD:,} more" if len(waiting) > _EDITS_TOLD else ""
        return (
            "personal data came in by hand, and an edit by hand keeps the trust level that the file has: "
            f"{shown}{more}. Set `trust` in the file where not everybody may see it"
        )
