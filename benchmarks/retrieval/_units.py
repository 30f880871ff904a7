"""What is indexed and asked, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Part = Literal["tune", "held out"]
PARTS: tuple[Part, ...] = ("tune", "held out")


@dataclass(frozen=True, slots=True)
class Unit:
    """One turn, message or session: one memory.

    Attributes:
        key: a fresh ULID; nothing of the file's own ids is in it.
        author: who speaks; `chat` for a session.
        source: an opaque key that the turns of one session share; None for a session.
        turns: (speaker, text) of a session, in order; empty for a turn.
        text: what a turn says; empty for a session.
    """

    key: str
    author: str
    time: datetime
    text: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    source: str | None = None

    @property
    def type(self) -> Literal["note", "session"]:
        """The memory's type."""
        return "session" if self.turns else "note"

    @property
    def body(self) -> str:
        """The memory's body; a session has one paragraph a turn."""
        return "\n\n".join(f"{speaker}: {text}" for speaker, text in self.turns) if self.turns else self.text

    @property
    def said(self) -> str:
        """The body with the speaker in it, for what has no field for an author."""
        return self.body if self.turns else f"{self.author}: {self.text}"

    @property
    def dated(self) -> str:
        """The body with day and speaker in it, for what has a field for neither."""
        return f"[{self.time.date().isoformat()}] {self.said}"


@dataclass(frozen=True, slots=True)
class Question:
    """A question and where its answer lies.

    Attributes:
        evidence: keys of units; never empty.
        group: the data set's own kind of question.
        part: whether it may be used for tuning.
        published: the evidence before corrections, where there are corrections; empty where that names nothing.
        apart: reported by its group, left out of the total.
        now: when it is asked, where the data set says so.
    """

    text: str
    evidence: frozenset[str]
    group: str
    part: Part
    published: frozenset[str] | None = None
    apart: bool = False
    now: datetime | None = None


@dataclass(frozen=True, slots=True)
class Haystack:
    """Units searched together and the questions asked of them."""

    units: tuple[Unit, ...]
    questions: tuple[Question, ...]
