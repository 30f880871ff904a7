"""The memory repo: commits, versions and reading, with git objects handled in process (libgit2).

A commit is built on HEAD's tree with only the changed folders rewritten, and HEAD moves by compare-and-swap, so it
neither reads the git index nor takes what the user has staged. The index is brought up to date afterwards
(`refresh_index`), by git itself, from a journal that survives a crash. Decision 0002 has the invariants.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

import pygit2
from pygit2.enums import FileMode, RepositoryOpenFlag, SortMode

from adaptive_llm_gateway.core import (
    AlgError,
    InvalidInput,
    NotFound,
    RepoBusy,
    StorageError,
    fsync_path,
    reach,
)
from adaptive_llm_gateway.memory._commit_message import author_identity, commit_message, fallback_identity
from adaptive_llm_gateway.memory._git import GitFailed, GitMissing, run_git
from adaptive_llm_gateway.memory._git_index import GitIndex
from adaptive_llm_gateway.memory._history import Told, file_history, last_deleted, last_told
from adaptive_llm_gateway.memory._lock_owner import IndexLock, look_at_lock
from adaptive_llm_gateway.memory._merge import Content, Entry
from adaptive_llm_gateway.memory._merge_files import blob_id
from adaptive_llm_gateway.memory._quarantine import Quarantine
from adaptive_llm_gateway.memory._quarantine_file import QuarantineFile
from adaptive_llm_gateway.memory._ref_locks import drop_dead_ref_locks
from adaptive_llm_gateway.memory._repo_checks import (
    FORMAT_PATH,
    check_format,
    check_path,
    refuse_bare,
    refuse_foreign_layout,
    translated,
    use_current_home,
)
from adaptive_llm_gateway.memory._sync_apply import finish_interrupted
from adaptive_llm_gateway.memory._tree_diff import TreeFiles, apply_diff, blob_at, blobs_at, diff_trees, list_files
from adaptive_llm_gateway.memory._tree_write import Placed, write_tree
from adaptive_llm_gateway.memory._values import Author, Change, Revision

_FORMAT_DATA = b"1\n"
# Bytes are kept as they are on every machine: no line-end conversion may change a version.
_ATTRIBUTES_DATA = b"* -text\n"
_SKELETON = {FORMAT_PATH: _FORMAT_DATA, ".gitattributes": _ATTRIBUTES_DATA}

_ROOT_NAME, _ROOT_EMAIL, _ROOT_TIME = "Adaptive LLM Gateway", "hub@localhost", 1767225600
_ROOT_MESSAGE = "Start a memory repo\n"

RESCUE_PREFIX = "refs/alg/rescue/"
_CACHED_BYTES = 1024 * 1024  # of git objects that were read, as libgit2 counts them: they take more than twice that
_RESCUES_KEPT = 50
_LOOSE_LIMIT = 4000
_PACK_LIMIT = 50
_REF_ATTEMPTS = 50
_SYNC_ONE_BY_ONE = 48
_OWN_REFRESH = 2.0  # seconds that bringing the git index up to date may take
_LONGEST_CHECKOUT = 60.0  # seconds; who has the index longer waits for an editor, or left it locked

_FULL_ID = re.compile(r"[0-9a-f]{40}")
_SHORT_ID = re.compile(r"[0-9a-f]{7,40}")
_RELATIVE = re.compile(r"(?:HEAD|@)(?:[~^][0-9]*)*|(?!-)[A-Za-z0-9._/-]+(?:[~^][0-9]*)*")

_OPERATIONS = (
    ("MERGE_HEAD", "merge"),
    ("rebase-merge", "rebase"),
    ("rebase-apply", "rebase"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("sequencer", "cherry-pick or revert"),
    ("BISECT_LOG", "bisect"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A git name and e-mail; `configured` is false for the fallback that stands in where git knows none."""

    name: str
    email: str
    configured: bool


class _ByThread(threading.local):
    repo: pygit2.Repository | None = None


class MemoryRepo:
    """One memory repo. Writing methods belong to one thread, reading ones may be called from any."""

    def __init__(self, path: Path, *, durable: bool = False, clock: Callable[[], datetime] | None = None) -> None:
        """Use `open`; this only remembers where the repo is."""
        self.path = path
        self._local = _ByThread()
        self._identity: Identity | None = None
        self._unsynced: set[str] = set()
        self._listed: tuple[str, dict[str, str]] | None = None  # a tree and its files
        # One writer is the rule; a lock makes a second thread (merging, upkeep) wait instead of corrupting.
        self._writing = threading.RLock()
        self._refreshing = threading.Lock()
        self.durable = durable
        self._clock = clock
        self.git_dir = Path(self._repo.path)
        self._index = GitIndex(path, self.git_dir, self._head_tree, lambda: self.quarantine.held)
        self._quarantine = QuarantineFile(self, self._writing, lambda: self._common_dir)

    # --- opening --------------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        create: bool = True,
        default_branch: str = "main",
        durable: bool = False,
        clock: Callable[[], datetime] | None = None,
        guard: Callable[[Path], object] | None = None,
    ) -> Self:
        """Open the memory repo at `path`; make one, or adopt the git repository that is there.

        A new repo starts with the same root commit on every machine, so that two of them can be joined later. An
        adopted one gets the format marker as a commit of its own. What a crash left of the git index is repaired.

        Args:
            path: the work tree's top folder.
            create: make what is missing; without it a missing repo is an error.
            default_branch: name of a new repo's branch.
            durable: every git object and reference is flushed to disk before `commit` returns (about 6 ms more a
                commit); otherwise in `refresh_index`.
            clock: the time for commits, timezone-aware; `None` is the machine's own.
            guard: called with the git folder before anything in it is changed or made good; what it raises ends this.

        Raises:
            FormatTooNew: the repo was written by a newer version; nothing was touched.
            StorageError: not a usable git repository (bare, owned by somebody else, sha256, filters); says which.
            ReadOnly, DiskFull: it cannot be written.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100 - keeps links as given
        use_current_home()
        # What was read stays in memory, for weeks, in each thread's handle: commits and small trees, up to 256 MB as
        # libgit2 has it. A walk takes 10 µs for a commit instead of 5 where it is not there; what is long is git's own.
        pygit2.settings.cache_max_size(_CACHED_BYTES)  # pyright: ignore[reportUnknownMemberType]
        if durable:
            pygit2.settings.enable_fsync_gitdir(True)  # pyright: ignore[reportUnknownMemberType]
        if not (path / ".git").exists():
            refuse_bare(path)
            if not create:
                raise StorageError(
                    f"there is no memory repo at {str(path)!r}",
                    hint="Run `alg init` to make one.",
                    path=str(path),
                    reason="missing",
                )
            with translated(path):
                path.mkdir(parents=True, exist_ok=True)
                pygit2.init_repository(str(path), initial_head=default_branch)  # pyright: ignore[reportUnknownMemberType]
        refuse_foreign_layout(path)
        repo = cls(path, durable=durable, clock=clock)
        marker = repo._marker()
        check_format(marker, where=str(path))
        if guard is not None:
            guard(repo.git_dir)
        repo._quarantine.mend()
        anothers = repo._index.is_anothers()  # whose process lives, and will complete what it is at
        repo._index.hold_what_was_left()
        try:
            if repo.operation() is None:
                if repo.head() is None:
                    repo._commit_root()
                elif marker is None:
                    repo._mark()
                if not anothers:
                    repo._index.repair()
                    finish_interrupted(repo)
        finally:
            repo._index.let_go(behind=True)
        return repo

    @property
    def _repo(self) -> pygit2.Repository:
        """This thread's handle."""
        if self._local.repo is None:
            with translated(self.path):
                self._local.repo = pygit2.Repository(str(self.path), RepositoryOpenFlag.NO_SEARCH)
        return self._local.repo

    @property
    def thread_repo(self) -> pygit2.Repository:
        """The calling thread's libgit2 handle, for what this class has no method for; not to be kept or handed on."""
        return self._repo

    def _marker(self) -> bytes | None:
        head = self.head()
        committed = None if head is None else self._entry(head, FORMAT_PATH)
        if committed is not None:
            return self.read_blob(committed)
        try:
            return (self.path / FORMAT_PATH).read_bytes()
        except OSError:
            return None

    def _commit_root(self) -> None:
        signature = pygit2.Signature(_ROOT_NAME, _ROOT_EMAIL, _ROOT_TIME, 0)
        with translated(self.path):
            blobs = {path: str(self._repo.create_blob(data)) for path, data in _SKELETON.items()}
            tree = write_tree(
                self._repo, None, {path: (blob, FileMode.BLOB) for path, blob in blobs.items()}, self._unsynced
            )
            commit = self._repo.create_commit(None, signature, signature, _ROOT_MESSAGE, tree, [])
            self._materialise()
            self._advance(None, str(commit), dict.fromkeys(_SKELETON), "alg: start")
        self.refresh_index()

    def _mark(self) -> None:
        changes = [Change(FORMAT_PATH, _FORMAT_DATA, "write", "", "", Author("adaptive-llm-gateway"))]
        self._materialise(only=FORMAT_PATH)
        self.commit(changes, message="Adopt this repository as a memory repo\n")

    def _materialise(self, only: str | None = None) -> None:
        for path, data in _SKELETON.items():
            target = self.path / path
            if only in (None, path) and not os.path.lexists(target):
                with translated(self.path):
                    target.parent.mkdir(exist_ok=True)
                    target.write_bytes(data)

    @staticmethod
    @functools.cache
    def root_commit_id() -> str:
        """The commit that every memory repo made by this version starts from."""
        blobs = {path: MemoryRepo.blob_id(data) for path, data in _SKELETON.items()}
        folder = _hash("tree", b"100644 format\0" + bytes.fromhex(blobs[FORMAT_PATH]))
        tree = _hash(
            "tree",
            b"40000 .alg\0"
            + bytes.fromhex(folder)
            + b"100644 .gitattributes\0"
            + bytes.fromhex(blobs[".gitattributes"]),
        )
        who = f"{_ROOT_NAME} <{_ROOT_EMAIL}> {_ROOT_TIME} +0000"
        return _hash("commit", f"tree {tree}\nauthor {who}\ncommitter {who}\n\n{_ROOT_MESSAGE}".encode())

    # --- state ----------------------------------------------------------------------------------------

    def operation(self) -> str | None:
        """What somebody is in the middle of: `merge`, `rebase`, `am`, `cherry-pick`, `revert`, `bisect`, or None."""
        if (self.git_dir / "rebase-apply" / "applying").exists():
            return "am"
        return next((name for file, name in _OPERATIONS if (self.git_dir / file).exists()), None)

    def check_ready(self) -> None:
        """Make sure that a commit may be made now.

        Raises:
            RepoBusy: a rebase, merge, cherry-pick, revert or bisect is under way, or HEAD is detached;
                `details["operation"]` names it.
        """
        operation = self.operation()
        if operation == "merge":
            with self._writing:
                self._index.drop_refused_merge()
            operation = self.operation()
        if operation is not None:
            raise RepoBusy(
                f"the memory repo at {str(self.path)!r} is in the middle of a git {operation}",
                hint=f"Finish or abort the {operation} with git, then try again.",
                operation=operation,
                path=str(self.path),
            )
        self._branch()

    def _branch(self) -> str:
        """The full name of the branch that HEAD is on."""
        try:
            text = (self.git_dir / "HEAD").read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise StorageError(f"cannot read HEAD of {str(self.path)!r}", path=str(self.path)) from error
        if not text.startswith("ref: refs/heads/"):
            raise RepoBusy(
                f"the memory repo at {str(self.path)!r} has a detached HEAD ({text[:12]!r}), so commits would be lost",
                hint="Switch to a branch with git (`git switch main`), then try again.",
                operation="detached",
                path=str(self.path),
            )
        return text.removeprefix("ref: ")

    @property
    def branch(self) -> str:
        """The short name of the branch that HEAD is on (`main`).

        Raises:
            RepoBusy: HEAD is detached.
        """
        return self._branch().removeprefix("refs/heads/")

    def detached_at(self) -> str | None:
        """The commit that HEAD is at where it is on no branch; None where it is on one, or cannot be read."""
        try:
            text = (self.git_dir / "HEAD").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None
        return text if _FULL_ID.fullmatch(text) else None

    def format_marker(self) -> bytes | None:
        """The format marker, as committed, else as it is on disk; None where there is none."""
        return self._marker()

    @property
    def index_lock_file(self) -> Path:
        """Where git's lock on the index is, while there is one."""
        return self._index.lock_file

    def index_lock(self) -> IndexLock | None:
        """The lock on the git index, if there is one. Commits do not need the index, so it stops no write."""
        return look_at_lock(self._index.lock_file, root=self.path, git_dir=self.git_dir)

    def is_in_hand(self, *, wait: float = 0.0) -> bool:
        """Whether somebody's git is at the work tree, so that what lies there is no edit of what the branch has.

        So it is in the middle of a merge or the like, while HEAD is on no branch, and while a git program has the
        index: it puts the files of another commit in place one by one, and moves HEAD after the last of them.

        Args:
            wait: seconds to wait for a git program to be done with the index.
        """
        deadline = time.monotonic() + wait
        while self.operation() is None and self.detached_at() is None:
            if not self._refreshing.acquire(timeout=_OWN_REFRESH):  # else the lock may be our own
                return False
            try:
                lock = self.index_lock()
            finally:
                self._refreshing.release()
            if lock is None or lock.mine or lock.owner == "dead" or lock.age > _LONGEST_CHECKOUT:
                return False
            if time.monotonic() >= deadline:
                return True
            time.sleep(0.02)
        return True

    def head(self) -> str | None:
        """Id of the commit at HEAD; None in a repo without commits."""
        with translated(self.path):
            try:
                return str(self._repo.head.target)
            except pygit2.GitError:
                if self._repo.head_is_unborn:
                    return None
                raise

    def identity(self, *, refresh: bool = False) -> Identity:
        """The committer: git's own idea of the user, or the fallback. Remembered until `refresh`."""
        if self._identity is None or refresh:
            name, email = os.environ.get("GIT_COMMITTER_NAME", ""), os.environ.get("GIT_COMMITTER_EMAIL", "")
            with contextlib.suppress(GitFailed, GitMissing):
                found = run_git(
                    ["config", "--get-regexp", "-z", r"^user\.(name|email)$"], cwd=self.path, check=False, reading=True
                )
                # The last of each counts, as for git.
                pairs = {
                    key: value for key, _, value in (item.partition("\n") for item in found.text.split("\0") if item)
                }
                name, email = name or pairs.get("user.name", ""), email or pairs.get("user.email", "")
            name, email = _plain_identity(name), _plain_identity(email)
            fallback = fallback_identity()
            self._identity = Identity(name or fallback[0], email or fallback[1], configured=bool(name and email))
        return self._identity

    def _committer(self) -> pygit2.Signature:
        who = self.identity()
        if self._clock is None:
            return pygit2.Signature(who.name, who.email)
        return pygit2.Signature(who.name, who.email, int(self._clock().timestamp()), 0)

    # --- committing -----------------------------------------------------------------------------------

    @staticmethod
    def blob_id(data: bytes) -> str:
        """The version of a file with this content: its git blob id, 40 hex digits."""
        return blob_id(data)

    def commit(self, changes: Sequence[Change], *, update_index: bool = True, message: str | None = None) -> str | None:
        """Commit a group of changes as one commit on the current branch.

        Only the named files change against HEAD; what the user staged stays staged and is not part of the commit. If
        HEAD moves meanwhile the commit is rebuilt on the new one.

        Args:
            changes: in order; of several for one path the last counts.
            update_index: bring the git index up to date at once (about 10 ms at 10,000 files); otherwise call
                `refresh_index` when there is time.
            message: instead of the usual one.

        Returns:
            The commit's id, or None when nothing differs from HEAD.

        Raises:
            RepoBusy: see `check_ready`.
            UnsafePath, InvalidInput: a path that cannot be in the repo.
            DiskFull, ReadOnly, StorageError: nothing was committed.
        """
        if not changes:
            return None
        self.check_ready()
        final = {change.path: change.data for change in changes}
        for path, data in final.items():
            if data is not None:  # what goes may have any name, for a remote may have brought it
                check_path(path)
        with self._writing, translated(self.path):
            repo = self._repo
            entries = {
                path: None if data is None else (str(repo.create_blob(data)), self._mode(path))
                for path, data in final.items()
            }
            self._unsynced.update(entry[0] for entry in entries.values() if entry is not None)
            reach("commit.blobs_written")
            committer = self._committer()
            author = pygit2.Signature(
                *author_identity(change.author for change in changes), committer.time, committer.offset
            )
            text = commit_message(changes) if message is None else message
            commit = self._commit_entries(entries, author, committer, text)
        if commit is not None and update_index:
            self.refresh_index()
        return commit

    def _commit_entries(
        self,
        entries: Mapping[str, Placed],
        author: pygit2.Signature,
        committer: pygit2.Signature,
        message: str,
    ) -> str | None:
        repo = self._repo
        for attempt in range(_REF_ATTEMPTS):
            parent = self.head()
            before = None if parent is None else repo[parent].peel(pygit2.Tree)
            tree = write_tree(repo, before, entries, self._unsynced)
            if before is not None and tree == str(before.id):
                return None
            if attempt == 0:
                reach("commit.trees_written")
            commit = str(repo.create_commit(None, author, committer, message, tree, [] if parent is None else [parent]))
            self._unsynced.add(commit)
            if attempt == 0:
                reach("commit.commit_written")
            entry_of = None if before is None else TreeFiles(before)
            known = {path: None if entry_of is None else entry_of(path) for path in entries}
            blobs = {path: entry.blob if entry else None for path, entry in known.items()}
            if self._advance(parent, commit, blobs, "alg: " + message.partition("\n")[0]):
                reach("commit.ref_updated")
                return commit
            if attempt == 0:
                self.drop_dead_locks()
        raise RepoBusy(
            f"the branch of {str(self.path)!r} keeps moving or is locked",
            hint="Wait until other git programs are done with the memory repo, then try again.",
            operation="ref",
        )

    def _mode(self, path: str) -> FileMode:
        # A file that is executable on disk (a vault on a Windows mount) stays so, or `git status` would never be clean.
        try:
            mode = (self.path / path).lstat().st_mode
        except OSError:
            return FileMode.BLOB
        return FileMode.BLOB_EXECUTABLE if stat.S_ISREG(mode) and mode & 0o100 and self._file_mode else FileMode.BLOB

    @functools.cached_property
    def _file_mode(self) -> bool:
        try:
            return bool(self._repo.config.get_bool("core.filemode"))
        except KeyError:
            return os.name == "posix"

    def _move_branch(self, expected: str | None, commit: str, note: str) -> bool:
        """Compare-and-swap of the current branch; False when it was not at `expected` any more, or is locked."""
        repo, name = self._repo, self._branch()
        who = self.identity()
        repo.set_ident(who.name, who.email)  # for the reflog
        try:
            if expected is None:
                repo.create_reference_direct(name, commit, False, note)
                return True
            reference = repo.references[name]
            if str(reference.target) != expected:
                return False
            reference.set_target(commit, note)
        except (pygit2.GitError, pygit2.AlreadyExistsError, KeyError, OSError, ValueError) as error:
            if self.head() != expected:
                return False
            if "lock" in str(error).lower() and "space" not in str(error).lower():
                time.sleep(0.02)
                return False
            raise
        return True

    def drop_dead_locks(self) -> bool:
        """Remove what a program that was killed left of locks on references; whether there was any."""
        return bool(drop_dead_ref_locks(root=self.path, git_dir=self.git_dir, common_dir=self._common_dir))

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """Keep other threads of this process from writing to the repo."""
        with self._writing:
            yield

    # --- merging ------------------------------------------------------------------------------------------

    def merge_commit(
        self,
        parents: Sequence[str],
        contents: Mapping[str, Content],
        message: str,
        *,
        authors: Sequence[Author] = (),
        carried: Mapping[str, Entry] = MappingProxyType({}),
    ) -> str:
        """Write, but do not move to, a commit with these parents: the first one's tree with `contents` in it.

        Args:
            authors: who made it; without any it is the committer.
            carried: what comes from another parent as it is there, whatever its name and kind are; for commits alone.

        Raises:
            InvalidInput: a file where a folder is, or the reverse.
            UnsafePath: a path that cannot be in the repo.
        """
        for path, content in contents.items():
            if content is not None:
                check_path(path)
        with self._writing, translated(self.path):
            repo = self._repo
            entries: dict[str, Placed] = {}
            for path, content in contents.items():
                if isinstance(content, Entry):
                    entries[path] = (content.blob, FileMode(content.mode))
                else:
                    entries[path] = None if content is None else (str(repo.create_blob(content)), FileMode.BLOB)
            self._unsynced.update(entry[0] for entry in entries.values() if entry is not None)
            entries |= {path: (entry.blob, entry.mode) for path, entry in carried.items()}
            tree = write_tree(repo, repo[parents[0]].peel(pygit2.Tree), entries, self._unsynced)
            committer = author = self._committer()
            if authors:
                author = pygit2.Signature(*author_identity(authors), committer.time, committer.offset)
            commit = str(repo.create_commit(None, author, committer, message, tree, list(parents)))
            self._unsynced.add(commit)
        self._flush()
        return commit

    def advance(self, start: str, target: str, before: Mapping[str, str | None], note: str) -> bool:
        """Move the branch from `start` to `target`, if it is still there; `before` has the blobs of paths that differ.

        The git index follows with `refresh_index`.
        """
        with self._writing, translated(self.path):
            return self._advance(start, target, before, note)

    def _advance(self, start: str | None, target: str, before: Mapping[str, str | None], note: str) -> bool:
        fresh = self._index.remember(before)
        done = False
        try:
            done = start == target or self._move_branch(start, target, note)
        finally:
            if not done:
                self._index.forget(fresh)
        return done

    def rescue(self, commit: str, mark: str) -> str:
        """Keep a commit under `refs/alg/rescue/`, where nothing prunes it.

        The newest 50 are kept, and besides them the newest 50 of those that the branch's history does not hold.

        Returns:
            The reference's name.
        """
        name = f"{RESCUE_PREFIX}{mark}-{commit[:8]}"
        with translated(self.path):
            references = self._repo.references
            references.create(name, commit, force=True)
            old = sorted(found for found in references if found.startswith(RESCUE_PREFIX))
            stale = old[:-_RESCUES_KEPT]
            alone = [found for found in stale if not self._holds(str(references[found].target))]
            for found in set(stale) - set(alone[-_RESCUES_KEPT:]):
                references.delete(found)
        return name

    def rescues(self) -> tuple[str, ...]:
        """The names of the rescue references, the oldest first."""
        with translated(self.path):
            return tuple(sorted(name for name in self._repo.references if name.startswith(RESCUE_PREFIX)))

    def _holds(self, commit: str) -> bool:
        """Whether the branch's history has this commit."""
        head = self.head()
        return head is not None and (head == commit or self._repo.descendant_of(head, commit))

    # --- the git index --------------------------------------------------------------------------------

    @property
    def index_pending(self) -> int:
        """How many paths `refresh_index` would bring up to date."""
        return len(self._index)

    @property
    def index_unsettled(self) -> bool:
        """Whether `refresh_index` is to be called, be it only to look after what it did."""
        return self._index.unsettled

    def hold_index(self) -> bool:
        """Have git's own programs wait, or refuse, from now until `settle_index`; False where one holds the index."""
        with self._writing:
            return self._index.hold()

    def settle_index(self) -> bool:
        """As `refresh_index`, though another thread be at it; after that git's programs may go on."""
        with self._refreshing, translated(self.path):
            try:
                self._flush()
            finally:
                with self._writing:
                    self._index.moved()
                done = self._index.catch_up(self._writing)
        return done

    def refresh_index(self) -> bool:
        """Bring the git index up to date for what was committed, and flush those commits to disk.

        Leaves every other entry of the index as it is. When another git process holds the index, or another thread is
        at it, nothing happens and the next call tries again. Commits go on meanwhile.

        Returns:
            Whether nothing is left to do.

        Raises:
            DiskFull, ReadOnly, StorageError: it cannot be done now; the next call tries again.
        """
        if not self._refreshing.acquire(blocking=False):
            return False
        try:
            with translated(self.path):
                self._flush()
                return self._index.catch_up(self._writing)
        finally:
            self._refreshing.release()

    def left_out(self) -> frozenset[str]:
        """What HEAD has and a sparse checkout has git leave out of the work tree: nobody has deleted that."""
        if not (self.git_dir / "info" / "sparse-checkout").exists():
            return frozenset()
        listed = run_git(["ls-files", "-v", "-z"], cwd=self.path, reading=True).text.split("\0")
        # The index may have yet to learn what HEAD has no more.
        return frozenset(line[2:] for line in listed if line[:1] in ("S", "s")) & self.tree_files().keys()

    def _head_tree(self) -> pygit2.Tree | None:
        head = self.head()
        return None if head is None else self._repo[head].peel(pygit2.Tree)

    def _flush(self) -> None:
        """fsync the objects and the branch written since the last time (with `durable` libgit2 has done so).

        Without the lock, for commits need not wait until the disk has caught up.
        """
        with self._writing:
            objects, self._unsynced = self._unsynced, set()
        if self.durable or not objects or not hasattr(os, "sync"):
            return
        if len(objects) > _SYNC_ONE_BY_ONE:
            os.sync()
            return
        common = self._common_dir
        for name in objects:
            fsync_path(common / "objects" / name[:2] / name[2:])
        for folder in {name[:2] for name in objects}:
            fsync_path(common / "objects" / folder)
        with contextlib.suppress(RepoBusy):
            fsync_path(common / self._branch())

    @functools.cached_property
    def _common_dir(self) -> Path:
        """The git folder; the main repository's where this is one of its linked work trees."""
        try:
            text = (self.git_dir / "commondir").read_text(encoding="utf-8").strip()
        except OSError:
            return self.git_dir
        return (self.git_dir / text).resolve()

    # --- what is held back ----------------------------------------------------------------------------

    @property
    def quarantine(self) -> Quarantine:
        """What is held back of HEAD: the work tree has something else there, or nothing."""
        return self._quarantine.of_head()

    def quarantine_at(self, commit: str) -> Quarantine:
        """What the quarantine says of a commit's files; read from disk."""
        return self._quarantine.at(commit)

    def set_quarantine(self, quarantine: Quarantine) -> None:
        """Keep what is held back; the files and HEAD are the caller's to change.

        Raises:
            DiskFull, ReadOnly, StorageError: it cannot be written.
        """
        self._quarantine.keep(quarantine)

    def work_files(self) -> dict[str, str]:
        """Every regular file that the work tree is to have, path to version: HEAD's, but for what is held back."""
        return self.quarantine.overlay(self.tree_files())

    # --- reading --------------------------------------------------------------------------------------

    def tree_files(self, commit: str | None = None) -> dict[str, str]:
        """Every regular file of `commit` (default HEAD): path to version.

        Only what differs from the commit that was asked for last is read; all 10,000 files of one take about 15 ms.
        """
        commit = commit or self.head()
        if commit is None:
            return {}
        with translated(self.path):
            tree = self._repo[commit].peel(pygit2.Tree)
            name = str(tree.id)
            listed = self._listed
            if listed is not None and listed[0] == name:
                return listed[1].copy()
            files: dict[str, str] = {}
            if listed is None or listed[0] not in self._repo:  # pruned since
                list_files(tree, "", files)
            else:
                files |= listed[1]
                apply_diff(files, diff_trees(self._repo[listed[0]].peel(pygit2.Tree), tree))
        self._listed = (name, files.copy())  # which nobody else changes
        return files

    def versions(self, paths: Iterable[str]) -> dict[str, str]:
        """The versions that HEAD has of these paths; what it does not have is left out."""
        head = self.head()
        if head is None:
            return {}
        with translated(self.path):
            return blobs_at(self._repo[head].peel(pygit2.Tree), paths)

    def read_blob(self, version: str) -> bytes:
        """The file content of a version.

        Raises:
            NotFound: no such version here.
            InvalidInput: not a version (40 hex digits).
        """
        if not _FULL_ID.fullmatch(version):
            raise InvalidInput(f"{version!r} is not a version", hint="A version is a git blob id of 40 hex digits.")
        found = self._repo.get(version)
        if not isinstance(found, pygit2.Blob):
            raise NotFound(f"no version {version!r} in the memory repo", version=version)
        return found.data

    def read_at(self, path: str, at: str, *, shows: Callable[[bytes], bool] = lambda _: True) -> bytes:
        """The content that `path` had at some time; renames since then are followed.

        Args:
            path: path within the repo, its present one or the last it had.
            at: a version; a commit (7 to 40 hex digits); a time in ISO 8601 (without zone: UTC; a date alone: its
                end); or a step back (`HEAD~2`) or a branch or tag name.
            shows: whether a content may be told of; one that may not was not there.

        Raises:
            NotFound: no such version, commit or time, or the file did not exist then.
            InvalidInput: `at` is none of these.
        """
        check_path(path)
        found = self.resolve(at)
        if isinstance(found, pygit2.Blob):
            if not shows(found.data):
                raise _no_such_name(at)
            return found.data
        commit = str(found.id)
        version = self._entry(commit, path)
        if version is None:
            version = self._entry_before_rename(commit, path)
        data = None if version is None else self.read_blob(version)
        if data is None or not shows(data):
            raise NotFound(f"{path!r} did not exist at {at!r}", path=path, at=at, commit=commit)
        return data

    def resolve(self, at: str) -> pygit2.Commit | pygit2.Blob:
        """What `at` names: see `read_at`, which has the forms and the errors."""
        text = at.strip()
        when = _parse_time(text)
        if when is not None:
            return self._commit_at(when)
        if not _RELATIVE.fullmatch(text) or ".." in text:
            raise InvalidInput(
                f"{at!r} is not a version, commit, time or step back",
                hint="Give a version, a commit id, a time such as 2026-11-20T10:00:00Z, or HEAD~2.",
            )
        try:
            found = self._repo[text] if _SHORT_ID.fullmatch(text) else self._repo.revparse_single(text)
        except ValueError as error:  # ambiguous
            raise InvalidInput(f"{at!r} is ambiguous", hint="Give more digits.") from error
        except (KeyError, pygit2.GitError) as error:
            raise _no_such_name(at) from error
        if isinstance(found, pygit2.Tag):
            found = found.peel(pygit2.Commit)
        if not isinstance(found, pygit2.Commit | pygit2.Blob):
            raise NotFound(f"{at!r} is neither a version nor a commit", at=at)
        return found

    def _commit_at(self, when: datetime) -> pygit2.Commit:
        head = self.head()
        if head is not None:
            for commit in self._repo.walk(head, SortMode.TIME):
                if commit.commit_time <= when.timestamp():
                    return commit
        raise NotFound(f"the memory repo has no commit as old as {when.isoformat()}", at=when.isoformat())

    def _entry(self, commit: str, path: str) -> str | None:
        with translated(self.path):
            return blob_at(self._repo[commit].peel(pygit2.Tree), path)

    def _entry_before_rename(self, commit: str, path: str) -> str | None:
        for revision in self.history(path, limit=1000):
            known = revision.commit == commit or self._repo.descendant_of(commit, revision.commit)
            if known:
                return self._entry(commit, revision.path)
        return None

    def told_in(self, commit: str) -> str:
        """The message of a commit."""
        found = self._repo[commit]
        assert isinstance(found, pygit2.Commit)  # noqa: S101 - history gives commits
        return found.raw_message.decode("utf-8", "replace")

    def history(self, path: str, *, limit: int = 50) -> list[Revision]:
        """The commits that touched `path`, newest first, across renames; empty when there are none.

        Raises:
            UnsafePath: not a path within the repo.
        """
        check_path(path)
        return [] if self.head() is None else file_history(self.path, path, limit=limit)

    def last_told(self, *, commits: int = 20_000, since: str | None = None) -> dict[str, Told]:
        """Who wrote each file last, and why, as far as the newest `commits` commits say that do not lead to `since`."""
        head = self.head()
        if head is None:
            return {}
        with translated(self.path):
            return last_told(self._repo, head, commits=commits, since=since)

    def find_deleted(self, id_tail: str) -> tuple[str, str] | None:
        """Path and last version of the most recently deleted file named `…-<id_tail>.md` (any case), or None."""
        head = self.head()
        if head is None:
            return None
        return last_deleted(self.path, id_tail, exists=lambda path: self._entry(head, path) is not None)

    # --- upkeep ---------------------------------------------------------------------------------------

    def install_hook(
        self, command: Sequence[str], *, name: Literal["pre-commit", "commit-msg"] = "pre-commit"
    ) -> Literal["installed", "unchanged", "chained", "elsewhere"]:
        """Install a hook that runs `command`, for people who use plain git; idempotent.

        Args:
            command: gets the hook's arguments behind its own. Exit code 5: it said what it found and what to do.
            name: `pre-commit` for what is staged, `commit-msg` for the message, whose file is its argument.

        Returns:
            `chained` when a hook of the user's own was there: it is kept and runs first. `elsewhere` when
            `core.hooksPath` sends git to another folder, which is left alone.
        """
        from adaptive_llm_gateway.memory._hook import install_hook  # noqa: PLC0415

        with translated(self.path):
            return install_hook(self.path, command, name)

    def maintain(self, *, timeout: float = 120.0) -> bool:
        """Pack what has gathered, when it is much: loose objects, then packs; and what `history` needs to be quick.

        Reading and committing go on meanwhile. Each of the two or three git commands gets `timeout` seconds.

        Returns:
            Whether there was anything to do.
        """
        objects = self._common_dir / "objects"

        def count_loose() -> int:
            # Names are hashes, so one of the 256 folders tells about all, as `git gc --auto` does it.
            return len(list((objects / "17").glob("*"))) * 256

        loose = count_loose()
        packs = len(list((objects / "pack").glob("*.pack")))
        if loose < _LOOSE_LIMIT and packs < _PACK_LIMIT:
            return False
        packing = ["repack", "-d", "-l", "-q"] if packs < _PACK_LIMIT else ["gc", "--quiet"]
        run_git(packing, cwd=self.path, timeout=timeout)
        if count_loose() >= _LOOSE_LIMIT:  # what nothing leads to is not packed
            run_git(["prune", "--expire=2.weeks.ago"], cwd=self.path, timeout=timeout)
        graph = ["commit-graph", "write", "--reachable", "--changed-paths", "--no-progress"]
        run_git(graph, cwd=self.path, timeout=timeout)
        return True

    def close(self) -> None:
        """Finish what is pending and let this thread's handle go."""
        with contextlib.suppress(AlgError):
            self.refresh_index()
        with self._writing:
            self._index.close()
        if self._local.repo is not None:
            self._local.repo.free()
            self._local.repo = None


# --- helpers --------------------------------------------------------------------------------------------


def _no_such_name(at: str) -> NotFound:
    return NotFound(f"no version, commit or name {at!r} in the memory repo", at=at)


def _plain_identity(text: str) -> str:
    return text.translate(dict.fromkeys(map(ord, "<>\n\0"))).strip()


def _hash(kind: str, data: bytes) -> str:
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(data)) + data, usedforsecurity=False).hexdigest()


def _parse_time(text: str) -> datetime | None:
    if not re.match(r"\d{4}-\d\d", text):
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        when = when.replace(hour=23, minute=59, second=59)
    return when if when.tzinfo else when.replace(tzinfo=UTC)
