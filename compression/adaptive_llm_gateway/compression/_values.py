"""What packages are made of: candidates and the counter of tokens. Frozen values, all of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

DEFAULT_BUDGET: Final = 2_000
"""Tokens of a package or a summary unless somebody says otherwise."""

Part = Literal["instructions", "pinned", "recalled", "session", "handoff"]
PARTS: tuple[Part, ...] = ("instructions", "pinned", "recalled", "session", "handoff")
Detail = Literal["index", "auto", "full"]
Level = Literal["whole", "extract", "line"]


class TokenCounter(Protocol):
    """Counts tokens."""

    @property
    def name(self) -> str:
        """`o200k_base`, `cl100k_base`; `estimate:<model>` when it is a measured upper bound."""
        ...

    @property
    def exact(self) -> bool:
        """Whether the model counts the same."""
        ...

    def count(self, text: str) -> int:
        """The tokens of any text, also one that is no valid Unicode."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that may go into a package.

    Attributes:
        path: in the memory repo.
        version: the git blob id.
        updated: with its time zone.
        score: how well it answers; compares within one call only.
        passages: lines (first, last) of the body that search found, from 1, the best first.
        whole: wanted whole, before all others.
        first_line: of the memory's body, from 1, with which `body` begins; more than 1 when it is a part.
        duplicates: ids of those that say the same and were left out before.
    """

    id: str
    type: str
    title: str
    body: str
    path: str
    version: str
    updated: datetime
    author: str
    score: float
    part: Part = "recalled"
    passages: tuple[tuple[int, int], ...] = ()
    whole: bool = False
    first_line: int = 1
    duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A candidate that is in a package.

    Attributes:
        ref: `S1`, as the text names it.
        lines: lines (first, last) of the memory's body that are in the text, from 1.
        tokens: of what the text has of it, counted by itself.
        duplicates: ids of the older ones that say the same.
        handle: the call that gives the whole.
    """

    ref: str
    id: str
    type: str
    title: str
    path: str
    version: str
    updated: datetime
    part: Part
    level: Level
    lines: tuple[tuple[int, int], ...]
    tokens: int
    duplicates: tuple[str, ...]
    handle: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A candidate of which nothing is in a package; `handle` is the call that gives it."""

    id: str
    type: str
    title: str
    part: Part
    handle: str


@dataclass(frozen=True, slots=True)
class Package:
    """What fits a budget of what may answer a question.

    Attributes:
        text: fenced; counted by the counter it has `used` tokens, never more than `budget`.
        counter: the name of the counter.
        exact: whether it counts as the model does.
        candidates: how many there were, duplicates included.
        candidates_tokens: of all their bodies; estimated from what was counted when `candidates_exact` is false.
        sources: in the order of the text.
        left_out: the most promising first.
        missed: of the value of the package and the best step that did not fit, that step's share. Were no value less
            for what others say, and all of one part, no package of the same pieces would be worth more than both.
    """

    text: str
    budget: int
    used: int
    counter: str
    exact: bool
    detail: Detail
    candidates: int
    candidates_tokens: int
    candidates_exact: bool
    sources: tuple[Source, ...]
    left_out: tuple[LeftOut, ...]
    missed: float

    @property
    def folded(self) -> int:
        """How many duplicates were folded into those that are kept, in the package or left out of it."""
        return self.candidates - len(self.sources) - len(self.left_out)

    @property
    def stats(self) -> str:
        """`12,480 -> 1,994 of 2,000 tokens, 14 of 61 sources, 3 duplicates folded`."""
        about = "" if self.candidates_exact else "about "
        plural = "duplicate" if self.folded == 1 else "duplicates"
        return (
            f"{about}{self.candidates_tokens:,} -> {self.used:,} of {self.budget:,} tokens, "
            f"{len(self.sources)} of {self.candidates} sources, {self.folded} {plural} folded"
        )
