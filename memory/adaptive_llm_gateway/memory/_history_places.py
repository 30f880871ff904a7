"""Where in a history something is: pure, over the graph of commits and what each changes beside its first parent."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Stands = Literal["files", "history", "loose"]
"""`files`: a branch's newest commit has it. `history`: only earlier commits, or the messages of commits and tags.
`loose`: it is in the store, and no branch, tag or other reference leads to it."""

_LATEST: Final = 253_402_300_799  # the last second that `datetime` knows
_IDENTITY: Final = re.compile(rb"(?P<name>[^<\n]*)<[^>\n]*> (?P<time>\d{1,18}) ?(?P<zone>[+-]\d{4})?")


class Key(NamedTuple):
    """Something that a tree has: a blob at a path, or with no blob the path itself."""

    blob: str
    path: bytes


@dataclass(frozen=True, slots=True)
class CommitFact:
    """A commit as its object tells it; a shallow clone's first ones name parents that are not there."""

    id: str
    tree: str
    parents: tuple[str, ...]
    time: int


@dataclass(slots=True)
class Changed:
    """What a commit's tree has that its first parent's has not, and the other way round; only what is looked for."""

    added: list[Key] = field(default_factory=list[Key])
    gone: list[Key] = field(default_factory=list[Key])


@dataclass(slots=True)
class Place:
    """Where something is.

    Attributes:
        first, last: the oldest and the newest commit that has it, by their time; "" for none.
        stands: see `Stands`.
        tips: references whose commit has it.
        at_remote: whether a commit that has it is, or was, at a remote, as far as this repo was told.
    """

    first: str = ""
    last: str = ""
    stands: Stands = "loose"
    tips: list[str] = field(default_factory=list[str])
    at_remote: bool = False


def parse_commit(id: str, data: bytes) -> CommitFact | None:
    """The facts of a commit's object; None for one that is malformed."""
    head = data.partition(b"\n\n")[0].split(b"\n")
    parents: list[str] = []
    tree, time = "", 0
    for line in head:
        name, _, value = line.partition(b" ")
        if name == b"tree" and not tree:
            tree = value.decode("ascii", "replace")
        elif name == b"parent":
            parents.append(value.decode("ascii", "replace"))
        elif name == b"committer":
            found = _IDENTITY.match(value)
            time = min(int(found["time"]), _LATEST) if found else 0
            break
    return CommitFact(id, tree, tuple(parents), time) if tree else None


def reachable(commits: Mapping[str, CommitFact], starts: Iterable[str]) -> set[str]:
    """These commits and all before them."""
    found: set[str] = set()
    waiting = [start for start in starts if start in commits]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += [parent for parent in commits[each].parents if parent in commits and parent not in found]
    return found


def find_places(
    commits: Mapping[str, CommitFact],
    changed: Mapping[str, Changed],
    *,
    tips: Mapping[str, Sequence[str]],
    referenced: Collection[str],
    at_remote: Collection[str],
) -> dict[Key, Place]:
    """Where each key is.

    Commits are gone through along their first parents, from each that has none: so at every moment only what one tree
    has is at hand. The oldest commit that has a key is one that adds it; the newest is one after which it is gone, one
    that nothing follows, or a tip.

    Args:
        changed: of each commit that changes a key, beside its first parent, or nothing where that is not there.
        tips: references by the commit that they lead to.
        referenced: commits that references lead to, however far.
        at_remote: commits that a remote has, or had.
    """
    following: dict[str, list[str]] = {}
    starts: list[str] = []
    for each in commits.values():
        first = next(iter(each.parents), None)
        if first in commits and first is not None:
            following.setdefault(first, []).append(each.id)
        else:
            starts.append(each.id)
    places: dict[Key, Place] = {}
    here: set[Key] = set()

    def older(place: Place, commit: str) -> None:
        if not place.first or commits[commit].time < commits[place.first].time:
            place.first = commit

    def newer(place: Place, commit: str) -> None:
        if not place.last or commits[commit].time > commits[place.last].time:
            place.last = commit

    def enter(commit: str) -> None:
        step = changed.get(commit)
        if step is not None:
            step.gone = [key for key in step.gone if key in here]  # all, unless a commit could not be compared
            for key in step.gone:
                here.discard(key)
                newer(places.setdefault(key, Place()), commits[commit].parents[0])
            for key in step.added:
                here.add(key)
                place = places.setdefault(key, Place())
                older(place, commit)
                place.at_remote |= commit in at_remote
                if place.stands == "loose" and commit in referenced:
                    place.stands = "history"
        names = tips.get(commit, ())
        if here and (names or commit not in following):
            for key in here:
                place = places[key]
                newer(place, commit)
                place.tips += names
                if any(name == "HEAD" or name.startswith("refs/heads/") for name in names):
                    place.stands = "files"

    def leave(commit: str) -> None:
        step = changed.get(commit)
        if step is not None:
            here.difference_update(step.added)
            here.update(step.gone)

    waiting: list[tuple[str, bool]] = [(start, False) for start in starts]
    entered: set[str] = set()  # a made-up history may have no beginning, none may be gone through twice
    while waiting:
        commit, done = waiting.pop()
        if done:
            leave(commit)
        elif commit not in entered:
            entered.add(commit)
            enter(commit)
            waiting.append((commit, True))
            waiting += [(child, False) for child in following.get(commit, ())]
    return places
