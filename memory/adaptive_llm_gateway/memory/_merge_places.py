"""Where the files of a merge go: pure, and the same whichever side is ours.

Two sides that do not know of each other may each put a file where the other one has another file, a folder, or a name
that many file systems cannot tell from it (`A.md` and `a.md`, or two Unicode forms of one letter). All are kept: the
one that was there before stays, else the newer one, and the others go beside it under names that come from what they
are. A file yields to a folder.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adaptive_llm_gateway.memory._merge_files import SUFFIX, Rank, beside, marks_beside

_ALL: Final = frozenset({"base", "ours", "theirs"})


@dataclass(frozen=True, slots=True)
class Claim:
    """A file and the path where it wants to be.

    Attributes:
        rank, id: functions, for most files are never asked.
        sides: the trees (`base`, `ours`, `theirs`) in which it is at this path already.
    """

    path: str
    blob: str
    rank: Callable[[], Rank]
    id: Callable[[], str | None]
    sides: frozenset[str] = frozenset()

    @property
    def is_new(self) -> bool:
        """Whether it was not at this path before."""
        return "base" not in self.sides


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file goes.

    Attributes:
        yields_to: what is in its way at the path where it wanted to be; None where it got that.
        is_there: whether the same bytes are at `path` anyway.
    """

    path: str
    yields_to: str | None = None
    is_there: bool = False


class Places:
    """The paths of a merged tree.

    Args:
        untouched: path to blob of the files that neither side changed.
    """

    def __init__(self, untouched: Mapping[str, str]) -> None:
        self._blobs = dict(untouched)
        self._names: dict[str, str] | None = None  # folded path to path
        self._folders: set[str] = set()
        self._folder_names: dict[str, frozenset[str]] = {}  # folded, to the trees that have it
        self._tails: dict[str, list[str]] | None = None

    def settle(self, claims: Sequence[Claim]) -> list[Place]:
        """A place for each claim, in their order."""
        yielding = self._yielding(claims) if any(claim.is_new for claim in claims) else {}
        for number, claim in enumerate(claims):
            if number not in yielding:
                self._take(claim.path, claim.blob)
        places = [Place(claim.path) for claim in claims]
        for number in sorted(yielding, key=lambda each: (claims[each].path, claims[each].rank())):
            places[number] = self._beside(claims[number], yielding[number])
        return places

    def _yielding(self, claims: Sequence[Claim]) -> dict[int, str]:
        """The claims that cannot have their paths, and to what they yield."""
        names = self._folded_names()
        groups: dict[str, list[int]] = {}
        for number, claim in enumerate(claims):
            self._add_folders(claim.path, claim.sides)
            groups.setdefault(folded(claim.path), []).append(number)
        yielding: dict[int, str] = {}
        for name, group in groups.items():
            if len(group) == 1 and name not in names and name not in self._folder_names:
                continue
            stay: list[Claim] = []
            ordered = sorted(group, key=lambda each: _precedence(claims[each]), reverse=True) if group[1:] else group
            for number in ordered:
                claim = claims[number]
                to = next((other.path for other in stay if _collide(claim, other)), None)
                if to is None and not claim.sides and name in names:
                    to = names[name]
                if to is None and (claim.path in self._folders or self._is_foreign_folder(name, claim)):
                    to = claim.path + "/"
                if to is None:
                    stay.append(claim)
                else:
                    yielding[number] = to
        return yielding

    def _is_foreign_folder(self, name: str, claim: Claim) -> bool:
        sides = self._folder_names.get(name)
        return sides is not None and not sides & claim.sides

    def _beside(self, claim: Claim, yields_to: str) -> Place:
        """A free place in the folder where the file wants to be; with this it is taken."""
        for mark in marks_beside(claim.id(), claim.blob):
            path = beside(claim.path, mark)
            if self._blobs.get(path) == claim.blob:
                return Place(path, yields_to, is_there=True)
            if self._is_free(path):
                self._take(path, claim.blob)
                return Place(path, yields_to)
        raise AssertionError("the marks never end")

    def with_tail(self, tail: str) -> list[str]:
        """The memory files whose names end with `-<tail>.md`, in order."""
        if self._tails is None:
            self._tails = {}
            for path in self._blobs:
                self._tails.setdefault(_tail(path), []).append(path)
        return sorted(self._tails.get(tail, ()))

    def blob_at(self, path: str) -> str:
        """The blob id of the file at a path."""
        return self._blobs[path]

    def _folded_names(self) -> dict[str, str]:
        if self._names is None:
            self._names = {}
            for path in self._blobs:
                self._names[folded(path)] = path
                self._add_folders(path)
        return self._names

    def _is_free(self, path: str) -> bool:
        name = folded(path)
        return name not in self._folded_names() and name not in self._folder_names

    def _take(self, path: str, blob: str) -> None:
        self._blobs[path] = blob
        if self._names is not None:
            self._names.setdefault(folded(path), path)
            self._add_folders(path)
        if self._tails is not None:
            self._tails.setdefault(_tail(path), []).append(path)

    def _add_folders(self, path: str, sides: frozenset[str] = _ALL) -> None:
        folder = path.rpartition("/")[0]
        while folder and not (folder in self._folders and sides <= self._folder_names[folded(folder)]):
            self._folders.add(folder)
            self._folder_names[folded(folder)] = self._folder_names.get(folded(folder), sides) | sides
            folder = folder.rpartition("/")[0]


def folded(path: str) -> str:
    """What is the same for paths that some file system takes for one."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def without(files: Mapping[str, str], changed: Iterable[Mapping[str, object]]) -> dict[str, str]:
    """The files that neither side changed."""
    gone = {path for side in changed for path in side}
    return {path: blob for path, blob in files.items() if path not in gone}


def _tail(path: str) -> str:
    return path[-11:-3] if path.endswith(SUFFIX) else ""


def _precedence(claim: Claim) -> tuple[bool, Rank, str]:
    return not claim.is_new, claim.rank(), claim.path


def _collide(one: Claim, two: Claim) -> bool:
    # Two names that one side has both are as that side wants them.
    return one.path == two.path or not one.sides & two.sides
