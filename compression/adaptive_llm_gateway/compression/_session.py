"""A session's log, and what it compacts to: frozen values and the port for a model that summarises."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

Kind = Literal["goal", "decision", "change", "question", "next", "fact"]
KINDS: Final[tuple[Kind, ...]] = ("goal", "decision", "change", "question", "next", "fact")
_WHY = re.compile(r"[,;:]?\s*\b(?:because|so that|due to|as it|as they|since it|since they)\b\s*", re.IGNORECASE)
_OPENING = re.compile(r"^[*_]{0,2}(?:final )?decision[*_]{0,2}[:：][*_]{0,2}\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a session's log.

    Attributes:
        number: 1 for the first; what statements point at.
        time: timezone-aware.
        author: who wrote it: the client's name.
    """

    number: int
    time: datetime
    author: str
    text: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that a session's log says, on one line, with the numbers of the entries it points at."""

    kind: Kind
    text: str
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mention:
    """A file, commit or version that the log names, and where."""

    name: str
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DecisionCandidate:
    """A decision as it may be recorded: nobody has confirmed that it is one."""

    title: str
    rationale: str | None
    entries: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Compaction:
    """What matters of a session, within a budget.

    Attributes:
        text: the Markdown, `used` tokens by `counter`; never more than `budget`.
        entries: how many entries the log has, `log_tokens` tokens in all.
        statements: by kind, and within a kind in the order of the log.
        files, commits, versions: named where something changed, the latest first.
        left_out: statements that did not fit.
        dropped: statements of a model that the entries do not support, by why.
    """

    text: str
    counter: str
    budget: int
    used: int
    entries: int
    log_tokens: int
    statements: tuple[Statement, ...]
    files: tuple[Mention, ...] = ()
    commits: tuple[Mention, ...] = ()
    versions: tuple[Mention, ...] = ()
    left_out: int = 0
    dropped: tuple[tuple[str, int], ...] = ()

    def of(self, kind: Kind) -> tuple[Statement, ...]:
        """The statements of one kind."""
        return tuple(statement for statement in self.statements if statement.kind == kind)

    @property
    def decisions(self) -> tuple[DecisionCandidate, ...]:
        """The decisions, each with the reason that its sentence gives."""
        return tuple(_candidate(statement) for statement in self.of("decision"))


def _candidate(statement: Statement) -> DecisionCandidate:
    text = _OPENING.sub("", statement.text)
    parts = _WHY.split(text, maxsplit=1)
    if len(parts) == 2 and parts[0].strip() and parts[1].strip():
        return DecisionCandidate(parts[0].strip(), parts[1].strip(), statement.entries)
    return DecisionCandidate(text.strip(), None, statement.entries)


class Summariser(Protocol):
    """A model that reads a log. What it says is checked against the entries before it is believed."""

    def summarise(self, entries: Sequence[Entry], *, budget: int) -> Sequence[Statement]:
        """Statements about the entries, each with the numbers of those it rests on, about `budget` tokens in all."""
        ...
