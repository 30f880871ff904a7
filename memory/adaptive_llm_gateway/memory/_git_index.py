"""The git index after our commits: a journal of what it has yet to learn, and catching up, also after a crash."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pygit2

from adaptive_llm_gateway.core import UnsafePath, reach
from adaptive_llm_gateway.memory._git import GitFailed, run_git
from adaptive_llm_gateway.memory._repo_checks import check_path

_JOURNAL: Final = "alg-index-pending"


class GitIndex:
    """Which entries of the git index are behind HEAD because of commits of ours.

    Args:
        root, git_dir: the work tree and its git folder.
        head_tree: the tree of HEAD now.
    """

    def __init__(self, root: Path, git_dir: Path, head_tree: Callable[[], pygit2.Tree | None]) -> None:
        self._root, self._file, self._head_tree = root, git_dir / _JOURNAL, head_tree
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

    def catch_up(self) -> bool:
        """Bring the noted entries to what HEAD has; False when another git process holds the index."""
        return self._write(only_where_unchanged=False)

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
        return self._write(only_where_unchanged=True)

    def _write(self, *, only_where_unchanged: bool) -> bool:
        if not self._behind:
            self._file.unlink(missing_ok=True)
            return True
        tree = self._head_tree()
        staged = self._staged() if only_where_unchanged else {}
        gone: list[bytes] = []
        present: list[bytes] = []
        for path, before in self._behind.items():
            if only_where_unchanged and staged.get(path) != before:
                continue
            try:
                entry = None if tree is None else tree[path]
            except KeyError:
                entry = None
            if entry is None or isinstance(entry, pygit2.Tree):
                gone.append(f"0 {'0' * 40}\t{path}\0".encode("utf-8", "surrogateescape"))
            else:
                present.append(f"{int(entry.filemode):o} {entry.id}\t{path}\0".encode("utf-8", "surrogateescape"))
        # What goes first, so that a file may take the place of a folder and the reverse.
        lines = gone + present
        if lines:
            try:
                # By git itself: it locks before it reads, so nothing that somebody stages meanwhile is lost, and it
                # knows every form of index (split, sparse, version 4).
                run_git(["update-index", "-z", "--index-info"], cwd=self._root, stdin=b"".join(lines))
            except GitFailed as error:
                if "index.lock" in str(error.details.get("git", "")):
                    return False
                raise
        self._behind.clear()
        self._file.unlink(missing_ok=True)
        reach("commit.git_index_updated")
        return True

    def _staged(self) -> dict[str, str]:
        listed = run_git(["ls-files", "--stage", "-z"], cwd=self._root, reading=True)
        found: dict[str, str] = {}
        for item in listed.text.split("\0"):
            meta, _, path = item.partition("\t")
            if path in self._behind:
                found[path] = meta.split(" ")[1]
        return found
