"""What must be so: which lines have to be there in the end, which files cannot have changed, what an answer may say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Said = dict[str, Any]

MARKER = re.compile(rb"^(?:<{7} |>{7} |\|{7} |={7}\r?$)", re.MULTILINE)

_RACES = frozenset({"non_fast_forward", "ref_race", "ref_locked"})
_CUT = frozenset({"unreachable", "corrupt_incoming"})
_BY_FAULT: Mapping[str, frozenset[str]] = {
    "refuse": frozenset({"unreachable"}),
    "hang": frozenset({"timeout"}),
    "slow": frozenset(),
    "mute": frozenset({"unreachable"}),
    "cut_answer": _CUT | {"auth"},  # of HTTP: git takes an answer cut short after its first line for the refusal there
    "cut_request": _CUT,
    "401": frozenset({"auth"}),
    "403": frozenset({"access_denied"}),
    "404": frozenset({"remote_missing"}),
    "500": frozenset({"server_error"}),
    "503": frozenset({"server_error"}),
    "hook": frozenset({"hook_rejected"}),
    "protected": frozenset({"protected_branch"}),
    "lock": frozenset({"ref_locked"}),
}
_GONE = {"daemon": "access_denied", "http": "remote_missing", "file": "remote_missing"}
_PUSHES_ONLY = frozenset({"hook", "protected", "lock"})


def kinds_allowed(operation: str, faults: Iterable[str], transport: str, *, racing: bool, hurt: bool) -> set[str]:
    """The kinds of failure that a pull or push may end with.

    Args:
        racing: others push at the same time.
        hurt: git was killed in the work tree before, so that its lock files may lie about.
    """
    allowed: set[str] = set()
    for fault in faults:
        if fault == "gone":
            allowed.add(_GONE[transport])
        elif operation == "push" or fault not in _PUSHES_ONLY:
            allowed |= _BY_FAULT[fault]
    if racing:
        allowed |= _RACES
    if hurt:
        allowed |= {"index_lock", "index_lock_stale", "ref_locked"}
    return allowed


@dataclass(slots=True)
class Touched:
    """What one clone left of a memory: where it is and as which version; None when it is gone."""

    path: str
    version: str | None


@dataclass(slots=True)
class Oracle:
    """Remembers what was acknowledged.

    Attributes:
        wanted: tokens of lines that were acknowledged: whether a search has to find them, and who wrote them when.
        removed: tokens of lines that somebody who saw them took away, with the clone and the epoch.
        touched: since all were the same last: by memory, what each clone that changed it left.
        unsure: memories that a write which was killed may have changed.
        loose: a plain `git merge` joined two sides, by rules of its own, or an import was killed.
    """

    epoch: int = 0
    wanted: dict[int, tuple[bool, str]] = field(default_factory=dict[int, tuple[bool, str]])
    removed: dict[int, set[tuple[str, int]]] = field(default_factory=dict[int, set[tuple[str, int]]])
    touched: dict[str, dict[str, Touched]] = field(default_factory=dict[str, dict[str, Touched]])
    unsure: set[str] = field(default_factory=set[str])
    commits: set[str] = field(default_factory=set[str])
    loose: bool = False
    before: dict[str, str] = field(default_factory=dict[str, str])

    def changed(
        self, clone: str, before: Iterable[int], after: Iterable[int], what: str, *, searchable: bool = True
    ) -> None:
        """An acknowledged change of a text: the tokens in it before, as its writer saw it, and after."""
        old, new = set(before), set(after)
        for number in old - new:
            self.removed.setdefault(number, set()).add((clone, self.epoch))
        for number in new - old:
            self.wanted.setdefault(number, (searchable, what))
            # What another clone took away meanwhile stays away: nobody told it of this.
            others = {one for one in self.removed.get(number, ()) if one[0] != clone and one[1] == self.epoch}
            self.removed[number] = others

    def maybe(self, clone: str, intends: Said) -> None:
        """A write that was killed: what it was to take away may be gone."""
        for number in set(intends["before"]) - set(intends["after"]):
            self.removed.setdefault(number, set()).add((clone, self.epoch))
        self.unsure |= set(intends["ids"])

    def touch(self, clone: str, memory: str | None, path: str, version: str | None) -> None:
        """A clone left a memory so."""
        if memory is not None:
            self.touched.setdefault(memory, {})[clone] = Touched(path, version)

    def due(self) -> set[int]:
        """Tokens that have to be there."""
        return {number for number in self.wanted if not self.removed.get(number)}

    def surprises(self, files: Mapping[str, str], was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
        """What is not as its only writer left it.

        Args:
            files: path to blob id, of the healed tree.
            was, now: path to memory id, of the tree when it was healed before, and of this one.
        """
        if self.loose:
            return []
        found: list[str] = []
        many = {memory for memory, by in self.touched.items() if len(by) > 1} | self.unsure
        for memory, by in self.touched.items():
            if memory in many:
                continue
            ((clone, left),) = by.items()
            if left.version is None:
                if left.path in files and now.get(left.path) == memory:
                    found.append(f"{left.path} ({memory}) was deleted by {clone} alone, and is there")
            elif files.get(left.path) != left.version:
                found.append(
                    f"{left.path} ({memory}) was changed by {clone} alone to {left.version[:8]}, "
                    f"and is {str(files.get(left.path))[:8]}"
                )
        for path, version in self.before.items():
            memory = was.get(path)  # where it went, another one may have come
            if memory is None or memory in self.touched or memory in self.unsure:
                continue
            if files.get(path) != version:
                found.append(f"{path} ({memory}) was changed by nobody, and is {str(files.get(path))[:8]}")
        return found

    def heal(self, files: Mapping[str, str]) -> None:
        """All clones are the same again."""
        self.epoch += 1
        self.touched.clear()
        self.unsure.clear()
        self.loose = False
        self.before = dict(files)


def told_truly(sample: Said) -> str | None:
    """What is wrong with a status, against what git counts: None when nothing is."""
    sync, counted = sample["sync"], sample["counted"]
    if counted is None:
        return None
    ahead, behind = counted
    if [sync["ahead"], sync["behind"]] != [ahead, behind]:
        return f"the status says {sync['ahead']} ahead and {sync['behind']} behind, git {ahead} and {behind}"
    wanted = "diverged" if ahead and behind else "pending" if ahead else "behind" if behind else "pushed"
    if sync["state"] in ("pushed", "pending", "behind", "diverged") and sync["state"] != wanted:
        return f"the status says {sync['state']!r} where there are {ahead} ahead and {behind} behind"
    return None
