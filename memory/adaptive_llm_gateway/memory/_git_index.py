"""The git index after our commits: a journal of what it has yet to learn, and catching up, also after a crash."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pygit2

from adaptive_llm_gateway.core import UnsafePath, reach
from adaptive_llm_gateway.memory._git import GitFailed, run_git
from adaptive_llm_gateway.memory._repo_checks import check_path
from adaptive_llm_gateway.memory._tree_diff import objects_at

_JOURNAL: Final = "alg-index-pending"


class GitIndex:
    """Which entries of the git index are behind HEAD because of commits of ours.

    Args:
        root, git_dir: the work tree and its git folder.
        head_tree: the tree of HEAD now.
    """

    def __init__(self, root: Path, git_dir: Path, head_tree: Callable[[], pygit2.Tree | None]) -> None:
        self._root, self._file, self._head_tree = root, git_dir / _JOURNAL, head_tree
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
            with contextlib.suppress(ValueError, TypeError, UnsafePath):  # a line cut short, or damage
                path, blob = json.loads(line)
                self._behind.setdefault(check_path(str(path)), blob)
        if self._behind:
            staged = self._staged()
            unchanged = {path: before for path, before in self._behind.items() if staged.get(path) == before}
            if not self._update(self._lines(unchanged).values()):
                return False
        self._behind.clear()
        self._file.unlink(missing_ok=True)
        reach("commit.git_index_updated")
        return True

    def _lines(self, paths: Iterable[str]) -> dict[str, bytes]:
        """What git is to be told of each path, so that its index has what HEAD has."""
        paths, tree = list(paths), self._head_tree()
        found = objects_at(tree, paths) if tree is not None else {}
        lines: dict[str, bytes] = {}
        for path in paths:
            entry = found.get(path)
            there = entry is not None and not isinstance(entry, pygit2.Tree)
            about = f"{int(entry.filemode):o} {entry.id}" if entry is not None and there else f"0 {'0' * 40}"
            lines[path] = f"{about}\t{path}\0".encode("utf-8", "surrogateescape")
        return lines

    def _update(self, lines: Iterable[bytes]) -> bool:
        # What goes first, so that a file may take the place of a folder and the reverse.
        told = b"".join(sorted(lines, key=_is_there))
        if not told:
            return True
        if self._lock.exists():  # git would only say so; and what a dead one left may stay for long
            return False
        try:
            # By git itself: it locks before it reads, so nothing that somebody stages meanwhile is lost, and it
            # knows every form of index (split, sparse, version 4).
            run_git(["update-index", "-z", "--index-info"], cwd=self._root, stdin=told)
        except GitFailed as error:
            if "index.lock" in str(error.details.get("git", "")):
                return False
            raise
        return True

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


def _is_there(line: bytes) -> bool:
    return not line.startswith(b"0 ")
