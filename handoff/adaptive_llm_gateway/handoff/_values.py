"""What a handoff is made of, and where it stands: frozen values without behaviour of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, get_args

from adaptive_llm_gateway.core import Trust

Priority = Literal["low", "normal", "high", "urgent"]
PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)

EventKind = Literal["claim", "confirm", "progress", "release", "decline", "done", "withdraw", "patch"]
EVENT_KINDS: Final[tuple[EventKind, ...]] = get_args(EventKind)

State = Literal["offered", "claimed", "done", "declined", "withdrawn", "expired", "damaged"]
STATES: Final[tuple[State, ...]] = get_args(State)

Standing = Literal["counts", "late", "void"]
"""What an event is to the state: it `counts`; it came `late`, after its claim had ended; it is `void`, for another
claim was there first."""


MOST_LEASE: Final = timedelta(hours=24)
"""How long a claim, or what renews it, can hold from its own time on."""


LONGEST_NAME: Final = 200
LONGEST_PROBLEM: Final = 500


def one_line(text: str, most: int) -> str:
    """`text` on one line of at most `most` characters, all printable: what was not becomes a space."""
    if text.isprintable() and len(text) <= most:
        return text
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


@dataclass(frozen=True, slots=True)
class Party:
    """Who did something: a program, its agent, the machine, the hub, which of its processes, and by what right.

    Names come from files that others wrote and stand in the midst of sentences: each is one printable line of at most
    200 characters, whatever was given.

    Attributes:
        hub: the hub's name, told from that of another home on the same machine.
        instance: the process that the program runs for one window or call; None where it is not known.
        client_id: of a client with a token, what no other is called; None: a program of the person at the machine.
    """

    client: str
    agent: str | None = None
    host: str | None = None
    hub: str | None = None
    instance: str | None = None
    client_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("client", "agent", "host", "hub", "instance", "client_id"):
            given: str | None = getattr(self, name)
            if given is not None and (line := one_line(given, LONGEST_NAME)) != given:
                object.__setattr__(self, name, line or ("unknown" if name == "client" else None))


@dataclass(frozen=True, slots=True)
class WorkState:
    """Where the work lies and how it stood: its git repository, as far as there is one.

    Attributes:
        directory: absolute path on the machine that offered it.
        remote: the address of its `origin`, without user and password.
        branch: None when HEAD is detached or nothing is committed.
        commit: 40 hex digits; None when nothing is committed.
        dirty: changed files, as `M path` with the letters of `git status --porcelain`; at most 200.
        dirty_count: how many there are in all.
    """

    directory: str | None = None
    remote: str | None = None
    branch: str | None = None
    commit: str | None = None
    dirty: tuple[str, ...] = ()
    dirty_count: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """The work that is offered: what the handoff's own file says.

    Attributes:
        id: ULID of the handoff.
        state: how the work stands, as Markdown: the body of the file.
        to: the client or agent that it is for; None: anybody.
        decisions: ids of the memories that say what was decided.
        expires: until when it can be claimed; None: always.
        checkpoint: made from outside while its session may still run, and replaced by the next one.
        version: git blob id of the file.
    """

    id: str
    title: str
    objective: str
    created: datetime
    by: Party
    path: str
    version: str
    next_action: str | None = None
    state: str = ""
    open_questions: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    to: str | None = None
    priority: Priority = "normal"
    project: str | None = None
    tags: tuple[str, ...] = ()
    trust: Trust = Trust.INTERNAL
    session_id: str | None = None
    expires: datetime | None = None
    checkpoint: bool = False
    work: WorkState = field(default_factory=WorkState)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a handoff: one file, written once.

    Attributes:
        step: 1 more than the highest step that its writer knew of; orders what one writer saw after another's.
        term: of a claim: 1 more than the highest term that its writer knew of. Of `decline` and `withdraw` without a
            claim: the highest term that its writer knew of. Otherwise 0.
        claim: id of the claim that it belongs to; None for a claim, and for what needs none.
        lease_until: of `claim` and `progress`: until when its holder holds it.
        provisional: of a claim: made while the remote was out of reach.
        text: progress, result or reason, as Markdown.
    """

    id: str
    handoff: str
    kind: EventKind
    step: int
    time: datetime
    by: Party
    path: str
    version: str
    term: int = 0
    claim: str | None = None
    lease_until: datetime | None = None
    provisional: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Damage:
    """A file of a handoff that says what cannot be, and why; it is kept and counts for nothing.

    Attributes:
        path: one printable line: what is not in the file's name stands there as `\\n`, `\\x1b` ...
        problem: one printable line of at most 500 characters.
    """

    path: str
    problem: str
    handoff: str | None = None

    def __post_init__(self) -> None:
        if not self.path.isprintable():
            path = "".join(char if char.isprintable() else repr(char)[1:-1] for char in self.path)
            object.__setattr__(self, "path", path)
        object.__setattr__(self, "problem", one_line(self.problem, LONGEST_PROBLEM))


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that counts.

    Attributes:
        by: who claimed; `instance` is the process that renewed it last.
        lease_until: with all that renewed it.
        renewed: the time of what `lease_until` is from, the claim or a progress.
        provisional: not confirmed by the remote, and void when another's claim is.
    """

    id: str
    term: int
    time: datetime
    by: Party
    lease_until: datetime
    renewed: datetime
    provisional: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One event in the order in which it is shown, and what it is to the state."""

    event: Event
    standing: Standing
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Handoff:
    """A handoff as its files fold to it.

    Attributes:
        state: `claimed` while a lease runs; `offered` also when the last one has run out.
        claim: the claim of the highest term that counts, whether or not its lease has run out or it has ended; None
            where there was none since the last release.
        holder: who holds it now; None: nobody.
        term, step: the highest of its events.
        ended: the event that ended it (done, declined, withdrawn).
        declined_by: who has declined it.
        damage: what keeps it from being claimed; the state is `damaged` when there is any.
    """

    offer: Offer
    state: State
    claim: Claim | None = None
    holder: Party | None = None
    term: int = 0
    step: int = 0
    ended: Event | None = None
    steps: tuple[Step, ...] = ()
    declined_by: tuple[Party, ...] = ()
    damage: tuple[Damage, ...] = ()
