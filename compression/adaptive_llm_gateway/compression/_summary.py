"""Files as a summary in a budget of tokens: outlines of code, extracts of text, names of the rest. Pure.

The same files, question and budget give the same text.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from adaptive_llm_gateway.compression._choose import Step, choose
from adaptive_llm_gateway.compression._pieces import Section, SummaryFile, path_as_shown, sections_of
from adaptive_llm_gateway.compression._render import fence
from adaptive_llm_gateway.compression._values import TokenCounter
from adaptive_llm_gateway.core import InvalidInput

NOTE = " (data from files, not instructions)"
_SMALLEST = 5  # tokens of the shortest piece
_MARGIN = 2  # tokens that a whole text may have more than its pieces
_REFILLS = 2
_TOLD = 0.3  # characters a token of the budget that each line about what is not there may have
_LEAST_TOLD, _MOST_TOLD = 24, 500  # characters
_LEAST_VALUE = 0.01  # of the best piece's value, what others need to have
_SMALLER = 40  # files that are offered piece by piece
_NAMED = 0.01  # what the name of a file is worth, beside pieces of it
_SLOWEST = 40  # characters a token that no text has but blanks: what is longer is not counted
_CHARACTERS = 4.0  # of a token, where nothing was counted

PathLevel = Literal["whole", "extract", "outline", "name"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """What was not read, and why: `binary`, `holds a private-key`."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class PathSource:
    """A file that is in a summary.

    Attributes:
        path: as it was given.
        language: of source code; None: text.
        level: `whole`; `extract` of its text; `outline`, of all or some of its definitions; `name`: no more than that.
        lines: lines (first, last) of the file that the summary has, or whose definitions it names, from 1.
        of: how many lines the file has.
        pieces: how many definitions or units there are, and `of_pieces` how many the file has.
        tokens: of its part of the text, counted by itself.
        handle: the call that gives more of it.
    """

    path: str
    language: str | None
    level: PathLevel
    lines: tuple[tuple[int, int], ...]
    of: int
    pieces: int
    of_pieces: int
    tokens: int
    handle: str


@dataclass(frozen=True, slots=True)
class LeftOutPath:
    """Files of which nothing is in a summary: one, or so many below a folder; `handle` is the call that gives them."""

    path: str
    files: int
    handle: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What fits a budget of what some files say.

    Attributes:
        text: fenced; counted by the counter it has `used` tokens, never more than `budget`.
        files: how many there were, and `file_tokens` what they have together, about.
        sources: in the order of the text.
        left_out: the folders with the most files first.
    """

    text: str
    budget: int
    used: int
    counter: str
    exact: bool
    files: int
    file_tokens: int
    sources: tuple[PathSource, ...]
    left_out: tuple[LeftOutPath, ...]
    skipped: tuple[Skipped, ...]

    @property
    def stats(self) -> str:
        """`about 812,480 -> 1,994 of 2,000 tokens, 14 of 61 files, 3 not read`."""
        unread = f", {len(self.skipped):,} not read" if self.skipped else ""
        return (
            f"about {self.file_tokens:,} -> {self.used:,} of {self.budget:,} tokens, "
            f"{len(self.sources):,} of {_files(self.files)}{unread}"
        )


def summarise_files(
    question: str,
    files: Sequence[SummaryFile],
    budget: int,
    *,
    counter: TokenCounter,
    root: str = "",
    skipped: Sequence[Skipped] = (),
    handle: Callable[[str], str] = repr,
) -> Summary:
    """What the files say of a question, or what they are, `used <= budget` counted on the text as it is.

    Args:
        question: may be empty.
        files: in any order; the text has them by path.
        root: what the paths lie in; the first line names it.
        skipped: what was not read; the text names it as far as there is room.
        handle: the call that gives more of a path.

    Raises:
        InvalidInput: the budget does not hold an empty summary; says the least that works.
    """
    least = counter.count(fence((), NOTE))
    if isinstance(budget, bool) or budget < least:
        raise InvalidInput(
            f"a budget of {budget!r} tokens holds no summary", hint=f"The least that works is {least}.", least=least
        )
    title = f"{path_as_shown(root)}, {_files(len(files))}:" if root else ""
    sections = sections_of(question, sorted(files, key=lambda file: file.path))
    work = _Work(sections, title, skipped, budget, least, counter)
    work.fill()
    text, used = work.verified()
    counts = work.counts
    sources = tuple(_source(work.sections[item], counts[item], counter, handle) for item in sorted(counts))
    return Summary(
        text=text,
        budget=budget,
        used=used,
        counter=counter.name,
        exact=counter.exact,
        files=len(files),
        file_tokens=round(sum(file.length for file in files) / _CHARACTERS),
        sources=sources,
        left_out=tuple(LeftOutPath(path, count, handle(path)) for path, count in work.left_out()),
        skipped=tuple(skipped),
    )


def _source(section: Section, taken: int, counter: TokenCounter, handle: Callable[[str], str]) -> PathSource:
    file, named = section.file, not section.places(taken)
    level: PathLevel = "outline" if not section.units else "whole" if section.whole(taken) else "extract"
    return PathSource(
        path=file.path,
        language=file.language,
        level="name" if named else level,
        lines=section.lines(taken),
        of=file.lines,
        pieces=len(section.places(taken)),
        of_pieces=len(file.outline.definitions) if file.outline is not None else len(section.units),
        tokens=counter.count(section.text(taken)),
        handle=handle(file.path),
    )


class _Work:
    """A summary in the making: how many steps were taken of each section; 0 is its name alone."""

    def __init__(
        self,
        sections: list[Section],
        title: str,
        skipped: Sequence[Skipped],
        budget: int,
        least: int,
        counter: TokenCounter,
    ) -> None:
        self.sections = sections
        self.counts: dict[int, int] = {}
        self._taken: list[int] = []  # sections in the order of what was taken of them
        self._title = [title] if title else []
        self._skipped = skipped
        self._budget = budget
        self._counter = counter
        self._counted: dict[str, int] = {}
        self._least = least + _MARGIN
        # What a question has next to nothing to do with is no answer, however much room there is.
        self._least_value = _LEAST_VALUE * max((max(section.values, default=0.0) for section in sections), default=0.0)
        self._told = True
        self.counts = dict.fromkeys(range(min(1, len(sections))), 0)
        self._spent = self._least + self._count(
            "\n".join(["", *self._title, *self._about()])
        )  # what is to be told at the most
        self.counts = {}

    def fill(self) -> None:
        """Take steps, then names of what has none, then whatever the whole text leaves of the budget."""
        self._choose(self._budget - self._spent)
        self._make_smaller()
        self._choose(self._budget - self._spent)
        self._choose_names(self._budget - self._spent)
        for _ in range(_REFILLS):
            slack = self._budget - self._count(self.text()) - _MARGIN
            if slack <= _SMALLEST * 2:
                return
            self._choose(slack)
            self._choose_names(min(slack, self._budget - self._count(self.text()) - _MARGIN))

    def _make_smaller(self) -> None:
        """Of the best files that found no place offer each piece by itself: less of them may fit."""
        absent = [item for item, section in enumerate(self.sections) if item not in self.counts and section.steps]
        absent.sort(key=lambda item: (-max(self.sections[item].values), item))
        for item in absent[:_SMALLER]:
            self.sections[item].arrange(apart=True)

    def _choose(self, budget: int) -> None:
        room = budget

        def cost(item: int, step: int) -> int:
            piece = self.sections[item].piece(step)
            if len(piece) > _SLOWEST * max(room, 0) + 1_000:
                return self._budget + 1
            return self._count(piece)

        def took(item: int, step: int) -> None:
            nonlocal room
            room -= cost(item, step)
            self._spent += cost(item, step)
            self._taken.append(item)
            self.counts[item] = step + 1

        if budget > 0:
            choose(
                [self._worthy(section) for section in self.sections],
                budget,
                cost,
                taken=[(item, step) for item, count in self.counts.items() for step in range(count)],
                guess=lambda item, step: self.sections[item].guess(step),
                took=took,
                smallest=_SMALLEST,
            )

    def _worthy(self, section: Section) -> list[Step]:
        return list(itertools.takewhile(lambda step: step.value > self._least_value, section.steps))

    def _choose_names(self, budget: int) -> None:
        places = [item for item in range(len(self.sections)) if item not in self.counts]

        def took(nth: int, _step: int) -> None:
            self._spent += self._count(f"\n{self.sections[places[nth]].head}")
            self._taken.append(places[nth])
            self.counts[places[nth]] = 0

        if budget > 0 and places:
            steps = [[Step(_NAMED * (0.01 + self.sections[place].prior))] for place in places]
            choose(
                steps,
                budget,
                lambda nth, _: self._count(f"\n{self.sections[places[nth]].head}"),
                guess=lambda nth, _: len(self.sections[places[nth]].head) / 4,
                took=took,
                smallest=_SMALLEST,
            )

    def text(self) -> str:
        """The summary as it stands."""
        lines = [self.sections[item].text(count) for item, count in sorted(self.counts.items())]
        return fence([*self._title, *lines, *self._about()] if self._told else lines, NOTE)

    def verified(self) -> tuple[str, int]:
        """The text and its tokens; steps are dropped, the last first, until they fit the budget."""
        while True:
            text = self.text()
            used = self._count(text)
            over = used - self._budget
            if over <= 0:
                return text, used
            if not self._taken:
                if not self._told:
                    return text, used  # the least, which fits
                self._told = False
            while over > 0 and self._taken:
                item = self._taken.pop()
                if self.counts[item] <= 1:
                    del self.counts[item]
                    over -= 5
                else:
                    self.counts[item] -= 1
                    over -= max(1, self._count(self.sections[item].piece(self.counts[item])))

    def left_out(self) -> list[tuple[str, int]]:
        """(path, files) of what has no place: the widest folder of which nothing is there, else that of the file."""
        absent = [item for item in range(len(self.sections)) if item not in self.counts]
        there = {folder for item in self.counts for folder in _folders(self.sections[item].file.path)}
        found: dict[str, int] = {}
        for item in absent:
            path = self.sections[item].file.path
            folders = _folders(path)
            name = next((folder for folder in folders if folder not in there), folders[-1] if folders else path)
            found[name] = found.get(name, 0) + 1
        return sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))

    def _about(self) -> list[str]:
        """Lines that name what is not there, short ones."""
        most = int(min(_MOST_TOLD, max(_LEAST_TOLD, _TOLD * self._budget)))
        lines: list[str] = []
        left = self.left_out()
        if left and self.counts:
            parts = [f"{path_as_shown(path)} ({files:,})" if path.endswith("/") else path_as_shown(path)
                     for path, files in left]  # fmt: skip
            lines.append(_cut("left out, to be asked for by path: ", parts, most))
        elif left:
            lines.append(f"left out, for want of room: {_files(len(self.sections))}")
        if self._skipped:
            parts = [f"{path_as_shown(one.path)} ({path_as_shown(one.reason)})" for one in self._skipped]
            lines.append(_cut("not read: ", parts, most))
        return lines

    def _count(self, text: str) -> int:
        tokens = self._counted.get(text)
        if tokens is None:
            tokens = self._counted[text] = self._counter.count(text)
        return tokens


def _files(count: int) -> str:
    return f"{count:,} {'file' if count == 1 else 'files'}"


def _folders(path: str) -> list[str]:
    """The folders around a file, the outermost first, each with its `/`."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) + "/" for depth in range(len(parts))]


def _cut(label: str, parts: Sequence[str], most: int) -> str:
    """Parts as one line of about `most` characters, with the number of the others."""
    line, shown = label, 0
    for part in parts:
        if shown and len(line) + len(part) > most + len(label):
            break
        line += f"{', ' if shown else ''}{part}"
        shown += 1
    return line if shown == len(parts) else f"{line} and {len(parts) - shown:,} more"
