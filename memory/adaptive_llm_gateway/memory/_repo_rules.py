"""What a memory repo takes and what may go from it to its remote: a highest trust level, or nothing at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, cast

import pygit2

from adaptive_llm_gateway.core import AlgError, RepoReadOnly, Trust, TrustRefused, counted, narrowed
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._git import run_git
from adaptive_llm_gateway.memory._merge_files import CONFLICT_REL, SUFFIX
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._requests import FileChange
from adaptive_llm_gateway.memory._sync_errors import sync_error
from adaptive_llm_gateway.memory._tree_diff import diff_trees, list_files

MOST_CLEAN: Final = 100_000
"""Objects that are known to be below the level, 10 MB of their names; beyond, all are looked at again."""
_SHOWN: Final = 5
_TOLD: Final = 100
_LOOKED_AT: Final = 64 * 1024  # bytes of a file whose front matter cannot be read
_SAID = re.compile(rb"""^trust[ \t]*:[ \t]*["']?([A-Za-z]+)""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RepoRules:
    """What holds for writes to one memory repo.

    Attributes:
        name: the repo's, where there are several.
        level: no memory above this one is written or pushed.
        read_only: nothing is: the remote is only read.
    """

    name: str | None = None
    level: Trust = Trust.SECRET
    read_only: bool = False

    @property
    def called(self) -> str:
        """The repo, for people."""
        return "the memory repo" if self.name is None else f"the memory repo {self.name!r}"

    def check_open(self) -> None:
        """Refuse every write to what is only read.

        Raises:
            RepoReadOnly: it is.
        """
        if self.read_only:
            raise RepoReadOnly(
                f"{self.called} is only read: its remote would never get what is written here; nothing was written",
                hint="Write it to a project that belongs to another repo, or ask somebody who may push there.",
                repo=self.name,
            )

    def check(self, changes: Sequence[FileChange]) -> None:
        """Refuse changes that would leave a memory above the level in the files or in history.

        Raises:
            TrustRefused: one would.
        """
        for change in changes:
            record = change.record
            if record is None or self.level is Trust.SECRET or self.level.allows(record.trust):
                continue
            by_hand = change.change.operation == "edit" and change is not changes[-1]
            what = f"as {change.change.path!r} was edited by hand, it" if by_hand else "this memory"
            raise TrustRefused(
                f"{what} is `{record.trust}`, and {self.called} takes no memory above `{self.level}`; "
                "nothing was written",
                hint="Write it to a project that belongs to another repo, or give it a lower trust level if others may "
                "see it.",
                trust=str(record.trust),
                allowed=str(self.level),
                repo=self.name,
            )

    def why_refused(self, trust: Trust) -> str | None:
        """Why an edit by hand is not taken in; None when it is."""
        if self.level is Trust.SECRET or self.level.allows(trust):  # the first is asked of every file that is read
            return None
        return (
            f"it is `{trust}` as it was edited, and {self.called} takes no memory above `{self.level}`: it is not "
            "committed; lower its level, or move the file to another repo"
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """A version of a memory that waits to be pushed and is above the level."""

    blob: str
    path: str
    fields: dict[str, Any]
    trust: Trust

    def told(self, title: Callable[[str], str]) -> dict[str, str]:
        return {
            "id": str(self.fields.get("id") or ""),
            "path": self.path,
            "title": title(str(self.fields.get("title") or "")),
            "trust": str(self.trust),
            "version": self.blob,
        }


class OutgoingTrust:
    """Looks at every file of every commit that a push would bring, for memories above a level.

    Versions that a later commit changed or removed count as well: they would be in the remote's history. What the
    remote has is no concern, nor is a merge of what it has: there others have decided.

    Args:
        masked: a title as it may be shown.
        timeout: seconds for listing the commits' objects.
    """

    def __init__(self, repo: MemoryRepo, rules: RepoRules, *, masked: Callable[[str], str], timeout: float) -> None:
        self._repo, self._rules, self._masked, self._timeout = repo, rules, masked, timeout
        self._clean: set[str] = set()

    def check(self, commit: str, exclude: Sequence[str]) -> None:
        """Look at what a push of `commit` would bring beside what the remote has (`exclude`, as for `git rev-list`).

        Raises:
            SyncError: of the kind `trust_outgoing`; `details["memories"]` lists what may not go.
        """
        if self._rules.level is Trust.SECRET:
            return
        found = list(self._above(commit, exclude))
        if found:
            merges = _Merges(self._repo, self._listed(["--parents", commit], exclude))
            found = [each for each in found if not merges.brought(each)]
        if not found:
            return
        latest = {each.path: each for each in reversed(found)}
        shown = ", ".join(f"{each.path!r} ({each.trust})" for each in list(latest.values())[:_SHOWN])
        more = f" and {len(latest) - _SHOWN} more" if len(latest) > _SHOWN else ""
        raise sync_error(
            "trust_outgoing",
            f"commits that wait have {counted(len(latest), 'memory', 'memories')} above "
            f"`{self._rules.level}`, the highest level that may go to the remote: {shown}{more}; nothing was pushed",
            memories=[each.told(self._masked) for each in found[:_TOLD]],
            count=len(latest),
            allowed=str(self._rules.level),
        )

    def _listed(self, arguments: Sequence[str], exclude: Sequence[str]) -> list[str]:
        listed = run_git(["rev-list", *arguments, *exclude], cwd=self._repo.path, reading=True, timeout=self._timeout)
        return listed.stdout.decode("utf-8", "surrogateescape").split("\n")[:-1]  # any other end of a line is a name's

    def _above(self, commit: str, exclude: Sequence[str]) -> Iterator[_Found]:
        git = self._repo.thread_repo
        for line in self._listed(["--objects", commit], exclude):
            name, _, path = line.partition(" ")
            if name in self._clean:
                continue
            found: Any = git[name]
            if isinstance(found, pygit2.Blob):
                fields, trust = level_of(path, found.data)
                if trust is not None and not self._rules.level.allows(trust):
                    yield _Found(name, path, fields, trust)
                    continue
            if len(self._clean) >= MOST_CLEAN:
                self._clean.clear()
            self._clean.add(name)


def level_of(path: str, data: bytes) -> tuple[dict[str, Any], Trust | None]:
    """(The front matter's fields, the trust level of a file); None for what is no memory and names no level.

    What cannot be read as a level counts as the highest, for nobody has said that it may go.
    """
    placed, data = PurePosixPath(path), narrowed(data)
    default = Trust.INTERNAL if placed.suffix.lower() == SUFFIX and len(placed.parts) > 1 else None
    if not data.removeprefix(b"\xef\xbb\xbf").startswith(b"---"):
        return {}, default
    try:
        fields = Document.parse(data, where=path).fields
    except AlgError:
        said = [_level(word.decode()) for word in _SAID.findall(data[:_LOOKED_AT])]
        return {}, max(said, key=lambda level: level.rank, default=default)
    if fields.get("trust") is not None:
        return dict(fields), _level(fields["trust"])
    return dict(fields), default


def _level(said: object) -> Trust:
    try:
        return Trust(str(said).strip().lower())
    except ValueError:
        return Trust.SECRET


class _Merges:
    """The commits that wait, each with its parents, to tell what a merge with the remote brought."""

    def __init__(self, repo: MemoryRepo, lines: Sequence[str]) -> None:
        self._repo = repo
        self._parents = {commit: parents for commit, *parents in (line.split() for line in lines)}
        self._made = {commit: self._made_by(commit) for commit in self._parents}

    def brought(self, found: _Found) -> bool:
        """Whether only merges made this version, of a memory that was as high at the remote."""
        makers = [commit for commit, made in self._made.items() if found.blob in made]
        return bool(makers) and all(self._was_as_high(commit, found) for commit in makers)

    def _made_by(self, commit: str) -> dict[str, str]:
        """The versions that come with a commit, each with its path: what only moved came with an earlier one."""
        tree = self._tree(commit)
        befores = [self._tree(parent) for parent in self._parents[commit]]
        sides = [diff_trees(before, tree) for before in befores or [None]]
        made = {new.blob: path for path, (_, new) in sides[0].items() if new is not None}
        for side in sides:
            made = {blob: made[blob] for _, new in side.values() if new is not None and (blob := new.blob) in made}
            for old, _ in side.values():
                if old is not None:
                    made.pop(old.blob, None)
        return made

    def _was_as_high(self, commit: str, found: _Found) -> bool:
        """Whether a merge had it from the remote as high, and somebody's text of it, and put in no line of its own."""
        parents = self._parents[commit]
        theirs = [parent for parent in parents if parent not in self._parents]
        if len(parents) < 2:
            return False
        ids = {str(found.fields.get("id") or ""), *_linked(found.fields)} - {""}
        path = self._made[commit][found.blob]
        versions = {parent: list(self._versions(parent, path, ids)) for parent in parents}
        if not any(level.rank >= found.trust.rank for parent in theirs for level, _ in versions[parent]):
            return False
        known = {line for has in versions.values() for _, data in has for line in data.splitlines()}
        return known.issuperset(_body(self._repo.read_blob(found.blob)).splitlines())

    def _versions(self, commit: str, path: str, ids: set[str]) -> Iterator[tuple[Trust, bytes]]:
        """The files of a commit at a path, or of these ids: level and content."""
        tails = tuple(f"-{id_[-8:].lower()}{SUFFIX}" for id_ in ids)
        files: dict[str, str] = {}
        list_files(self._tree(commit), "", files)
        for other, blob in files.items():
            if other == path or other.endswith(tails):
                data = self._repo.read_blob(blob)
                fields, level = level_of(other, data)
                if level is not None and (other == path or str(fields.get("id")) in ids):
                    yield level, data

    def _tree(self, commit: str) -> pygit2.Tree:
        return self._repo.thread_repo[commit].peel(pygit2.Tree)


def _body(data: bytes) -> bytes:
    try:
        return Document.parse(data).body.encode()
    except AlgError:
        return data


def _linked(fields: dict[str, Any]) -> Iterator[str]:
    """Ids of the memories whose text a merge kept in one of its own."""
    links: Any = fields.get("links")
    for link in cast("list[Any]", links) if isinstance(links, list) else []:
        if isinstance(link, dict):
            named = cast("dict[str, Any]", link)
            if named.get("rel") == CONFLICT_REL:
                yield str(named.get("id") or "")
