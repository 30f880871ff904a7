"""The git index after our commits: a journal of what it has yet to learn, and catching up, also after a crash."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pygit2

from adaptive_llm_gateway.core import reach
from adaptive_llm_gateway.memory._git import GitFailed, run_git
from adaptive_llm_gateway.memory._repo_checks import is_plain_path
from adaptive_llm_gateway.memory._tree_diff import FOLDER, TreeFiles

_JOURNAL: Final = "alg-index-pending"
_TAKE_ODD_NAMES: Final = ("core.protectNTFS=false", "core.protectHFS=false")


@dataclass(frozen=True, slots=True)
class _Line:
    """What `git update-index` is to be told of a path.

    Attributes:
        blob: what HEAD has there.
        name: the path in bytes; None where no index can have it.
        plain: git takes the name without being told to.
        skipped: the work tree does not have it so, and git is not to look there.
    """

    mode: int
    blob: str | None
    name: bytes | None
    plain: bool
    skipped: bool

    @property
    def told(self) -> bytes:
        """For `--index-info`."""
        about = f"{self.mode:o} {self.blob}" if self.blob is not None else f"0 {'0' * 40}"
        return about.encode() + b"\t" + (self.name or b"") + b"\0"


class GitIndex:
    """Which entries of the git index are behind HEAD because of commits of ours.

    Args:
        root, git_dir: the work tree and its git folder.
        head_tree: the tree of HEAD now.
        held: paths of HEAD that the work tree does not have so; git is told not to look there (`skip-worktree`).
    """

    def __init__(
        self,
        root: Path,
        git_dir: Path,
        head_tree: Callable[[], pygit2.Tree | None],
        held: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._root, self._file, self._head_tree, self._held = root, git_dir / _JOURNAL, head_tree, held
        self._lock = git_dir / "index.lock"
        self._behind: dict[str, str | None] = {}

    def __len__(self) -> int:
        return len(self._behind)

    def remember(self, before: Mapping[str, str | None]) -> None:
        """Note that these paths' entries will be out of date, with HEAD's blob before; on disk before HEAD moves."""
        fresh = {path: blob for path, blob in before.items() if path not in self._behind}
        if fresh:
            with self._file.open("a", encoding="utf-8") as journal:
                journal.write("".join(json.dumps(item) + "\n" for item in fresh.items()))
            self._behind.update(fresh)

    def catch_up(self, writing: AbstractContextManager[object]) -> bool:
        """Bring the noted entries to what HEAD has; False when another git process holds the index.

        Args:
            writing: keeps HEAD from moving; it is free again while git works.
        """
        with writing:
            before = dict(self._behind)
            lines = self._lines(before)
            if not before:
                self._file.unlink(missing_ok=True)
                return True
        if not self._update(lines.values()):
            return False
        with writing:
            now = self._lines(before)
            for path in before:
                if now[path] == lines[path]:  # else a commit came meanwhile
                    del self._behind[path]
            self._keep_journal()
        reach("commit.git_index_updated")
        return not self._behind

    def repair(self) -> bool:
        """After a crash: as `catch_up`, but an entry that somebody staged since stays as it is."""
        try:
            lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return True
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):  # a line cut short, or damage
                path, blob = json.loads(line)
                self._behind.setdefault(str(path), blob)
        if self._behind:
            staged = self._staged()
            lines = self._lines(self._behind)
            # What is as HEAD has it may lack the mark that git must not look for it.
            unchanged = [
                lines[path] for path, before in self._behind.items() if staged.get(path) in (before, lines[path].blob)
            ]
            if not self._update(unchanged):
                return False
        self._behind.clear()
        self._file.unlink(missing_ok=True)
        reach("commit.git_index_updated")
        return True

    def _lines(self, paths: Iterable[str]) -> dict[str, _Line]:
        """What git is to be told of each path, so that its index has what HEAD has."""
        tree, held = self._head_tree(), self._held()
        entry_of = TreeFiles(tree) if tree is not None else None
        lines: dict[str, _Line] = {}
        for path in paths:
            entry = entry_of(path) if entry_of is not None else None
            if entry is not None and entry.mode == FOLDER:
                entry = None
            mode, blob = (entry.mode, entry.blob) if entry is not None else (0, None)
            lines[path] = _Line(mode, blob, _index_name(path), is_plain_path(path), path in held and entry is not None)
        return lines

    def _update(self, lines: Iterable[_Line]) -> bool:
        named = [line for line in lines if line.name is not None]
        if named and self._lock.exists():  # git would only say so; and what a dead one left may stay for long
            return False
        try:
            self._tell([line for line in named if line.plain])
        except GitFailed as error:
            if "index.lock" in str(error.details.get("git", "")):
                return False
            raise
        # Git's index refuses some names that a tree can have; HEAD keeps them without it. What it takes, it shall have:
        # otherwise the next plain `git commit` would delete it.
        with contextlib.suppress(GitFailed):
            self._tell([line for line in named if not line.plain], *_TAKE_ODD_NAMES)
        return True

    def _tell(self, lines: list[_Line], *overrides: str) -> None:
        # What goes first, so that a file may take the place of a folder and the reverse.
        told = b"".join(line.told for line in sorted(lines, key=lambda line: line.blob is not None))
        # By git itself: it locks before it reads, so nothing that somebody stages meanwhile is lost, and it knows every
        # form of index (split, sparse, version 4).
        if told:
            run_git(["update-index", "-z", "--index-info"], cwd=self._root, stdin=told, overrides=overrides)
        skipped = b"".join((line.name or b"") + b"\0" for line in lines if line.skipped)
        if skipped:  # an entry that is put in anew has lost this mark
            arguments = ["update-index", "-z", "--skip-worktree", "--stdin"]
            run_git(arguments, cwd=self._root, stdin=skipped, overrides=overrides)

    def _keep_journal(self) -> None:
        """Have the journal name what is still behind."""
        if not self._behind:
            self._file.unlink(missing_ok=True)
            return
        new = self._file.with_name(self._file.name + ".new")
        new.write_text("".join(json.dumps(item) + "\n" for item in self._behind.items()), encoding="utf-8")
        new.replace(self._file)

    def _staged(self) -> dict[str, str]:
        listed = run_git(["ls-files", "--stage", "-z"], cwd=self._root, reading=True)
        found: dict[str, str] = {}
        for item in listed.text.split("\0"):
            meta, _, path = item.partition("\t")
            if path in self._behind:
                found[path] = meta.split(" ")[1]
        return found


def _index_name(path: str) -> bytes | None:
    """A path as git's index has it; None where no index can have it."""
    try:
        name = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a slash within a name
        return None
    return None if any(part in (b"", b".", b"..") or part.lower() == b".git" for part in name.split(b"/")) else name
