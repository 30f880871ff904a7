"""The git index after our commits: a journal of what it has yet to learn, and catching up, also after a crash.

While it is behind HEAD, the lock that git's own programs take is ours: to them what HEAD has and the index has not
would look staged, and their next commit would undo it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pygit2

from adaptive_llm_gateway.core import StorageError, reach
from adaptive_llm_gateway.memory._git import GitFailed, run_git
from adaptive_llm_gateway.memory._index_lock import GitIndexLock, read_lock
from adaptive_llm_gateway.memory._repo_checks import is_plain_path
from adaptive_llm_gateway.memory._tree_diff import FOLDER, TreeFiles

_JOURNAL: Final = "alg-index-pending"
_NEW: Final = "alg-index."
_OF_A_MERGE: Final = ("MERGE_HEAD", "MERGE_MODE", "MERGE_MSG", "AUTO_MERGE")
_NO_CLASHES: Final = b"Conflicts:"  # in every language; files would follow
_AFTER_SECONDS: Final = 1.0
_numbers = itertools.count(1)
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
        self._index = Path(os.path.realpath(git_dir / "index"))  # git locks what a link leads to
        self._lock = GitIndexLock(self._index.with_name(self._index.name + ".lock"), notes=git_dir)
        self._moving = False
        self._after = float("-inf")
        self._recent: dict[str, str | None] = {}  # brought up to date not long ago, with the blob before
        self._left: tuple[int, ...] = ()  # the index as we left it
        self._behind: dict[str, str | None] = {}

    def __len__(self) -> int:
        return len(self._behind)

    @property
    def unsettled(self) -> bool:
        """Whether `catch_up` has something to do, or to look after: what was refused may still be ending."""
        return bool(self._behind) or self._lock.held or time.monotonic() < self._after

    @property
    def lock_file(self) -> Path:
        """Where the lock on the index is, whoever holds it."""
        return self._lock.path

    def hold(self) -> bool:
        """Keep git's programs from the index until `let_go`; False where another one holds it."""
        try:
            taken = self._lock.take()
        except OSError:  # a full disk, which whoever writes next will tell
            taken = "impossible"
        self._moving = taken == "held"
        return self._moving or (taken == "impossible" and not self._lock.path.exists())

    def hold_what_was_left(self) -> None:
        """As `hold`, where a process of ours that was killed has left the lock."""
        self._moving = self._lock.take_over()
        if self._moving:
            self._read_journal()
            self.drop_refused_merge()

    def moved(self) -> None:
        """What the lock was held for is done; `catch_up` lets it go."""
        self._moving = False

    def let_go(self, *, behind: bool = False) -> None:
        """Let git's programs have the index again, once it is not behind any more, or at once."""
        self._moving = False
        if (behind or not self._behind) and self._lock.held:
            self.drop_refused_merge()
            self._lock.release()
            self._after = time.monotonic() + _AFTER_SECONDS

    def drop_refused_merge(self) -> None:
        """Take away what a `git merge` noted that could not write the index, for the lock was ours.

        It has merged nothing, and yet the next `git commit` would pass for the merge: all that the other side has would
        be undone. Git's message tells it from a merge that took nothing of the other side on purpose (`-s ours`): it
        goes on about files that clash, and names none.
        """
        folder = self._file.parent
        if not self.unsettled:
            return
        try:
            if (folder / "MERGE_HEAD").stat().st_mtime_ns < self._lock.since:
                return
            said = (folder / "MERGE_MSG").read_bytes().rstrip()
            if not said.endswith(_NO_CLASHES) or (self._lock.path.exists() and not self._lock.held):
                return
            listed = run_git(["diff-index", "--cached", "--name-only", "-z", "HEAD"], cwd=self._root, reading=True)
        except (OSError, StorageError):  # there is none
            return
        if set(listed.text.split("\0")) - self._behind.keys() <= {""}:
            for name in _OF_A_MERGE:
                (folder / name).unlink(missing_ok=True)

    def is_anothers(self) -> bool:
        """Whether a live process of ours holds the index, and will bring it up to date."""
        if self._lock.held:
            return False
        found = read_lock(self._lock.path)
        return found is not None and found.owner != "dead"

    def close(self) -> None:
        """Let the lock go, and what tells whose it is."""
        self.let_go(behind=True)
        self._lock.close()

    def remember(self, before: Mapping[str, str | None]) -> Collection[str]:
        """Note that these paths' entries will be out of date, with HEAD's blob before; on disk before HEAD moves.

        Returns:
            Those that were not noted before.
        """
        fresh = {path: blob for path, blob in before.items() if path not in self._behind}
        if fresh:
            with self._file.open("a", encoding="utf-8") as journal:
                journal.write("".join(json.dumps(item) + "\n" for item in fresh.items()))
            self._behind.update(fresh)
        if before:
            with contextlib.suppress(OSError):  # no commit fails for it
                self._lock.take()
            reach("commit.index_locked")
        return fresh

    def forget(self, fresh: Collection[str]) -> None:
        """HEAD has not moved, so that these are not out of date."""
        for path in fresh:
            self._behind.pop(path, None)
        self._settle_lock()

    def catch_up(self, writing: AbstractContextManager[object]) -> bool:
        """Bring the noted entries to what HEAD has; False when another git process holds the index.

        Args:
            writing: keeps HEAD from moving; it is free again while git works.
        """
        with writing:
            self._look_after()
            before = dict(self._behind)
            if not before:
                self._file.unlink(missing_ok=True)
                self._settle_lock()
                return True
            taken = self._lock.take()
            if taken == "busy":
                return False
        done = False
        try:
            with writing:
                lines = self._lines(before)
            if not self._update(lines.values(), writing, in_place=taken == "impossible"):
                return False
            with writing:
                now = self._lines(before)
                for path in before:
                    if now[path] == lines[path]:  # else a commit came meanwhile
                        self._recent[path] = self._behind.pop(path)
                self._keep_journal()
                reach("commit.git_index_updated")
                done = True
                return not self._behind
        finally:
            with writing:
                self._settle_lock(failed=not done)

    def _look_after(self) -> None:
        """A git that had read the index before we locked it may write it back as it was, once we let it go."""
        if not self.unsettled:
            self._recent.clear()
            return
        self.drop_refused_merge()
        seen = self._seen()
        if not self._recent or seen == self._left or self._lock.path.exists():
            return
        self._left, staged, lines = seen, self._staged(self._recent), self._lines(self._recent)
        self.remember(
            {path: old for path, old in self._recent.items() if staged.get(path) == old and lines[path].blob != old}
        )

    def _seen(self) -> tuple[int, ...]:
        try:
            about = self._index.stat()
        except OSError:
            return ()
        return about.st_ino, about.st_size, about.st_mtime_ns

    def _settle_lock(self, *, failed: bool = False) -> None:
        # Whoever cannot bring the index up to date must not keep people from mending it.
        if not self._moving:
            self.let_go(behind=failed)

    def repair(self) -> bool:
        """After a crash: as `catch_up`, but an entry that somebody staged since stays as it is."""
        self._lock.tidy()
        if not self._read_journal():
            return True
        done = False
        try:
            done = self._repair()
        finally:
            self._settle_lock(failed=not done)
        if done:
            reach("commit.git_index_updated")
        return done

    def _read_journal(self) -> bool:
        try:
            lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return False
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):  # a line cut short, or damage
                path, blob = json.loads(line)
                self._behind.setdefault(str(path), blob)
        return True

    def _repair(self) -> bool:
        if self._behind:
            taken = self._lock.take()
            if taken == "busy":
                return False
            for left in self._file.parent.glob(_NEW + "*.new*"):
                left.unlink(missing_ok=True)
            staged = self._staged(self._behind)
            lines = self._lines(self._behind)
            # What is as HEAD has it may lack the mark that git must not look for it.
            unchanged = [
                lines[path] for path, before in self._behind.items() if staged.get(path) in (before, lines[path].blob)
            ]
            if not self._update(unchanged, contextlib.nullcontext(), in_place=taken == "impossible"):
                return False
        self._behind.clear()
        self._file.unlink(missing_ok=True)
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

    def _update(self, lines: Iterable[_Line], writing: AbstractContextManager[object], *, in_place: bool) -> bool:
        """Tell git; False when another git process holds the index.

        Args:
            in_place: the lock is not ours, for there is none of ours here; git takes it itself.
        """
        named = [line for line in lines if line.name is not None]
        if not named:
            return True
        if in_place:
            # Git would only say so; and what a dead one left may stay for long.
            return not self._lock.path.exists() and self._tell_all(named, None)
        new = self._file.with_name(f"{_NEW}{os.getpid()}-{next(_numbers)}.new")
        try:
            # With its time: what changed as late as the index was written is what git looks into again.
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(self._index, new)
            if not self._tell_all(named, new):
                return False
            reach("commit.git_index_written")
            with writing:
                if not self._lock.held:  # somebody removed it, and may have staged something since
                    return False
                if new.exists():
                    new.replace(self._index)
                self._left = self._seen()
            return True
        finally:
            new.unlink(missing_ok=True)

    def _tell_all(self, named: Sequence[_Line], index: Path | None) -> bool:
        try:
            self._tell([line for line in named if line.plain], index)
        except GitFailed as error:
            if index is None and "index.lock" in str(error.details.get("git", "")):
                return False
            raise
        # Git's index refuses some names that a tree can have; HEAD keeps them without it. What it takes, it shall have:
        # otherwise the next plain `git commit` would delete it.
        with contextlib.suppress(GitFailed):
            self._tell([line for line in named if not line.plain], index, *_TAKE_ODD_NAMES)
        return True

    def _tell(self, lines: list[_Line], index: Path | None, *overrides: str) -> None:
        # What goes first, so that a file may take the place of a folder and the reverse.
        told = b"".join(line.told for line in sorted(lines, key=lambda line: line.blob is not None))
        # By git itself: it knows every form of index (split, sparse, version 4).
        if told:
            arguments = ["update-index", "-z", "--index-info"]
            run_git(arguments, cwd=self._root, stdin=told, overrides=overrides, index=index)
        skipped = b"".join((line.name or b"") + b"\0" for line in lines if line.skipped)
        if skipped:  # an entry that is put in anew has lost this mark
            arguments = ["update-index", "-z", "--skip-worktree", "--stdin"]
            run_git(arguments, cwd=self._root, stdin=skipped, overrides=overrides, index=index)

    def _keep_journal(self) -> None:
        """Have the journal name what is still behind."""
        if not self._behind:
            self._file.unlink(missing_ok=True)
            return
        new = self._file.with_name(self._file.name + ".new")
        new.write_text("".join(json.dumps(item) + "\n" for item in self._behind.items()), encoding="utf-8")
        new.replace(self._file)

    def _staged(self, paths: Collection[str]) -> dict[str, str]:
        listed = run_git(["ls-files", "--stage", "-z"], cwd=self._root, reading=True)
        found: dict[str, str] = {}
        for item in listed.text.split("\0"):
            meta, _, path = item.partition("\t")
            if path in paths:
                found[path] = meta.split(" ")[1]
        return found


def _index_name(path: str) -> bytes | None:
    """A path as git's index has it; None where no index can have it."""
    try:
        name = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a slash within a name
        return None
    return None if any(part in (b"", b".", b"..") or part.lower() == b".git" for part in name.split(b"/")) else name
