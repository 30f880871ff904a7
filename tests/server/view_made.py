"""A store with memories of every level and project, and in each text of each version a word that is nowhere else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.handoff import NewOffer, Party
from adaptive_llm_gateway.memory import (
    AppendSession,
    Author,
    DeleteMemory,
    ImportMemory,
    Link,
    MemoryStores,
    WriteMemory,
    WriteResult,
    WriteSummary,
)

ME = Author("somebody")
PROJECTS = (None, "alpha", "alpha-web", "beta", "Beta")
LEVELS = tuple(Trust)
CANARY = re.compile(r"zq[0-9]{4}x")


class Writes(Protocol):
    """What the world is written with."""

    def write(self, request: Any, /) -> WriteResult: ...


@dataclass
class Version:
    """A version of a memory: what it says of itself, and its words."""

    trust: Trust
    project: str | None
    words: set[str]
    version: str
    commit: str | None


@dataclass
class Made:
    """A memory, with all that it ever was.

    Attributes:
        offer: the id of the handoff that it is an event of.
        named: the words of its file's name, which stays what it was first.
        said_at_end: the words of its deletion.
    """

    id: str
    type: str
    versions: list[Version]
    deleted: bool = False
    offer: str | None = None
    named: set[str] = field(default_factory=set[str])
    said_at_end: set[str] = field(default_factory=set[str])

    @property
    def now(self) -> Version:
        return self.versions[-1]


@dataclass
class World:
    """All memories of a store, by id."""

    store: Any
    handoffs: Any
    made: dict[str, Made] = field(default_factory=dict[str, Made])
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    handoff_ids: list[str] = field(default_factory=list[str])
    sessions: list[str] = field(default_factory=list[str])

    def word(self) -> str:
        """A word that is nowhere else."""
        return f"zq{next(self.numbers):04d}x"

    def texts(self, *names: str) -> tuple[dict[str, str], set[str]]:
        """A text with a word of its own for each name, and the words."""
        words = {name: self.word() for name in names}
        return {name: f"Walrus {name} {word}" for name, word in words.items()}, set(words.values())

    def keep(self, done: WriteResult, trust: Trust, project: str | None, words: set[str]) -> Made:
        """Note what a write made."""
        assert done.version is not None
        made = self.made.get(done.id)
        named = words if made is None else made.named
        version = Version(trust, project, words | named, done.version, done.standing.commit)
        if made is None:
            named = {word for word in words if word in done.path}
            made = self.made[done.id] = Made(done.id, done.type, [version], named=named)
        else:
            made.versions.append(version)
        return made

    def note(self, trust: Trust, project: str | None, *, id: str | None = None, **more: Any) -> Made:
        """A note, or another version of one."""
        text, words = self.texts("title", "body", "tag", "source", "reason")
        done = self.store.write(
            WriteMemory(
                ME,
                id=id,
                type=more.pop("type", None),
                title=text["title"],
                body=text["body"] + "\n",
                tags=(text["tag"].split()[-1],),
                source=text["source"],
                reason=text["reason"],
                trust=trust,
                project=project if id is None or project else "",
                **more,
            )
        )
        return self.keep(done, trust, project, words)

    def is_of_one_repo(self, *projects: str | None) -> bool:
        """Whether memories of these projects lie in one repo: a memory does not change its repo."""
        return not isinstance(self.store, MemoryStores) or len({self.store.repo_of(each) for each in projects}) == 1

    def delete(self, made: Made) -> None:
        """Delete a memory."""
        text, words = self.texts("reason")
        self.store.write(DeleteMemory(ME, made.id, reason=text["reason"]))
        made.deleted = True
        made.said_at_end = words

    def session(self, trust: Trust, project: str | None) -> None:
        """A session with a summary; the second file of its log, another hub's, is secret."""
        text, words = self.texts("title", "text", "reason")
        done = self.store.write(
            AppendSession(ME, text["text"], title=text["title"], project=project, reason=text["reason"])
        )
        self.keep(done, Trust.INTERNAL, project, words)
        titled = {CANARY.findall(text["title"])[0]}
        if trust is not Trust.INTERNAL:
            again = self.store.write(WriteMemory(ME, id=done.id, trust=trust))
            self.keep(again, trust, project, set(words))
        self.sessions.append(done.id)
        text, words = self.texts("title", "body")
        now = datetime.now(UTC)
        ids = [f"{done.id[:-4]}{end}" for end in ("AAAA", "BBBB")]
        other = self.store.write(
            ImportMemory(
                ME, ids[0], "session", text["title"], text["body"] + "\n", now, now,
                project=project, trust=Trust.SECRET, fields={"session_id": done.id, "client": "c", "hub": "elsewhere"},
            )
        )  # fmt: skip
        self.keep(other, Trust.SECRET, project, words)
        text, words = self.texts("body")
        summary = self.store.write(WriteSummary(ME, done.id, text["body"] + "\n", trust, reason="asked for"))
        self.keep(summary, trust, project, words | titled)  # its title repeats the session's

    def handoff(self, trust: Trust, project: str | None, *, raised: Trust | None = None) -> str:
        """A handoff that was claimed and reported on, and whose level was then raised, or not."""
        text, words = self.texts("objective", "state", "question")
        by = Party("offerer")
        done = self.handoffs.create(
            NewOffer(
                text["objective"],
                state=text["state"],
                open_questions=(text["question"],),
                project=project,
                trust=trust,
                patch=f"--- a\n+++ b\n{(patch := self.word())}\n",
            ),
            by,
        )
        id_ = done.handoff.offer.id
        record = self.store.record(id_)
        self.made[id_] = Made(id_, "handoff", [Version(trust, project, words, record.version, None)])
        title = set(words)  # events repeat it
        progress = self.word()
        self.handoffs.claim(id_, Party("holder"))
        self.handoffs.update(id_, f"Walrus progress {progress}", Party("holder"))
        for step in self.handoffs.one(id_).steps:
            event = step.event
            own = {progress} if event.kind == "progress" else {patch} if event.kind == "patch" else set[str]()
            known = [Version(trust, project, own, event.version, None)]
            self.made[event.id] = Made(event.id, "handoff", known, offer=id_)
        if raised is not None:
            again = self.store.write(WriteMemory(ME, id=id_, trust=raised))
            self.keep(again, raised, project, title)
        self.handoff_ids.append(id_)
        return id_


def populate(world: World) -> World:
    """Memories of every level and project, changed, deleted, linked; sessions and handoffs."""
    every = list(itertools.product(LEVELS, PROJECTS))
    notes = [world.note(trust, project) for trust, project in every]
    for number, (trust, project) in enumerate(every):  # each of another level and project than it was
        made = world.note(*every[(number * 7 + 3) % len(every)])
        if world.is_of_one_repo(made.now.project, project):
            world.note(trust, project, id=made.id)
    for trust, project in every[::2]:
        world.delete(world.note(trust, project))
    for trust in LEVELS:
        made = world.note(Trust.PUBLIC, "alpha")
        world.note(trust, "alpha", id=made.id)
        world.delete(made)
        hidden = next(note for note in notes if note.now.trust is trust and note.now.project == "beta")
        world.note(
            Trust.PUBLIC,
            "alpha",
            type="decision",
            links=(Link("conflicts_with", hidden.id), Link("relates_to", hidden.id)),
            fields={"rationale": "because", "supersedes": [hidden.id]},
        )
    for number, (trust, project) in enumerate(itertools.product(LEVELS, ("alpha", "beta", None))):
        world.session(trust, project)
        world.handoff(trust, project, raised=Trust.SECRET if number % 3 == 0 and trust is not Trust.SECRET else None)
    world.store.flush()
    return world
