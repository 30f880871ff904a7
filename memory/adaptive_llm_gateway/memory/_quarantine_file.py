"""Where the quarantine is kept: in a file of the git folder, and once more in git, should that be lost or damaged."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pygit2

from adaptive_llm_gateway.core import fsync_path
from adaptive_llm_gateway.memory._files import write_atomically
from adaptive_llm_gateway.memory._merge_files import blob_id
from adaptive_llm_gateway.memory._quarantine import QUARANTINE_FILE, QUARANTINE_REF, Quarantine
from adaptive_llm_gateway.memory._repo_checks import translated
from adaptive_llm_gateway.memory._tree_diff import TreeFiles

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory._repo import MemoryRepo


class QuarantineFile:
    """What a memory repo's git folder says is held back. Any thread may ask; `keep` and `mend` take the lock.

    Args:
        writing: held while anything is written to the repo.
        common_dir: the git folder that has the objects.
    """

    def __init__(
        self, repo: MemoryRepo, writing: AbstractContextManager[object], common_dir: Callable[[], Path]
    ) -> None:
        self._repo, self._writing, self._common_dir = repo, writing, common_dir
        self._file = repo.git_dir / QUARANTINE_FILE
        self._known: tuple[tuple[object, str | None], Quarantine] | None = None

    def of_head(self) -> Quarantine:
        """What is held back of HEAD; read only where file or HEAD changed."""
        try:
            about = self._file.stat()
        except OSError:
            if self._known is None or not self._known[1]:
                return Quarantine()
            self._known = None  # it was there a moment ago: given up, or lost
            self.mend()
            return self.of_head()
        head = self._repo.head()
        key = ((about.st_ino, about.st_mtime_ns, about.st_size), head)
        known = self._known
        if known is None or known[0] != key:
            found = Quarantine() if head is None else self.at(head)
            known = self._known = (key, found)
        return known[1]

    def at(self, commit: str) -> Quarantine:
        """What is held back of a commit's files; read from disk."""
        try:
            data = self._file.read_bytes()
        except OSError:
            return Quarantine()
        with translated(self._repo.path):
            kept = Quarantine.intact(data) or Quarantine.parse(self._in_git() or data)
            return kept.effective(TreeFiles(self._repo.thread_repo[commit].peel(pygit2.Tree)))

    def _in_git(self) -> bytes | None:
        """What git has of it; None where that is nothing."""
        git = self._repo.thread_repo
        try:
            found: Any = git[git.references[self._reference].target]
        except (KeyError, ValueError, pygit2.GitError):
            return None
        return found.data if isinstance(found, pygit2.Blob) else None

    @functools.cached_property
    def _reference(self) -> str:
        """Linked work trees share their references, and each holds back what it does."""
        git_dir = self._repo.git_dir
        linked = git_dir.resolve() != self._common_dir().resolve()
        return f"{QUARANTINE_REF}-{blob_id(git_dir.name.encode())[:12]}" if linked else QUARANTINE_REF

    def mend(self) -> None:
        """Have the file again where it is lost or damaged and git has what was in it."""
        with self._writing, translated(self._repo.path):
            try:
                data = self._file.read_bytes()
            except FileNotFoundError:
                data = b""
            if not data or Quarantine.intact(data) is None:
                kept = self._in_git()
                if kept is not None:
                    write_atomically(self._file, kept)

    def keep(self, quarantine: Quarantine) -> None:
        """See `MemoryRepo.set_quarantine`."""
        git = self._repo.thread_repo
        # What git has goes first: whenever the file is there, it counts, and where it is not, nothing is to bring it
        # back but the loss of it.
        with self._writing, translated(self._repo.path):
            if quarantine:
                data = quarantine.as_bytes()
                blob = str(git.create_blob(data))
                fsync_path(self._common_dir() / "objects" / blob[:2] / blob[2:])
                git.references.create(self._reference, blob, force=True)
                write_atomically(self._file, data)
            else:
                if git.references.get(self._reference) is not None:
                    git.references.delete(self._reference)
                self._file.unlink(missing_ok=True)
