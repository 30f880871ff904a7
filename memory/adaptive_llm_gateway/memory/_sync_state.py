"""Where the memory repo stands against its remote: what is known without the network, how the last attempts ended.

`_sync_model` decides; here it is kept in a file of the git folder, and told what is so now.
"""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pygit2

from adaptive_llm_gateway.core import AlgError, is_offline, reach
from adaptive_llm_gateway.memory._commit_count import commits_beyond
from adaptive_llm_gateway.memory._files import write_atomically
from adaptive_llm_gateway.memory._git import mask_credentials
from adaptive_llm_gateway.memory._remote import Remote
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync_errors import hint_for
from adaptive_llm_gateway.memory._sync_model import (
    Elsewhere,
    Event,
    Failed,
    Kept,
    Notice,
    Operation,
    Seen,
    Succeeded,
    after,
    dump,
    load,
    problem_of,
    status_of,
)
from adaptive_llm_gateway.memory._sync_seen import LocalView
from adaptive_llm_gateway.memory._values import SyncProblem, SyncStatus

__all__ = ["Operation", "SyncState"]

_STATE_FILE = "alg-sync.json"


class SyncState:
    """Tells where the memory repo stands. Any thread may ask, also while a pull or push runs.

    Args:
        watching: nothing is written, for somebody else's repo is looked at.
    """

    def __init__(self, repo: MemoryRepo, remote: Remote, *, watching: bool = False) -> None:
        self._repo, self._remote, self._watching = repo, remote, watching
        self._here = LocalView(repo)
        self._lock = threading.Lock()
        self._counted: tuple[str | None, str | None, tuple[int, int]] | None = None
        self._read: tuple[bytes | None, Kept] = (None, Kept())
        self._unsaved: Kept | None = None  # what the disk did not take

    def status(self) -> SyncStatus:
        """Where the memory repo stands, from what is known here: no network, a fraction of a millisecond."""
        with self._lock:
            return self._status(self._load())

    def _status(self, kept: Kept) -> SyncStatus:
        problems = list(self._here.problems())
        try:
            url = self._remote.url()
            masked = mask_credentials(url) if url is not None else None
        except pygit2.GitError as error:  # a configuration that cannot be read: it was there, as far as is known
            url = masked = kept.place
            text = f"the memory repo's git configuration cannot be read: {error}"
            problems.append(SyncProblem("corrupt_here", text, git=str(error), hint=hint_for("corrupt_here")))
        branch = self._branch()
        kept = self._placed(kept, masked, branch)
        ahead = behind = 0
        known = False
        try:
            if url is not None:
                ahead, behind, known = self._count(kept, branch)
        except (AlgError, pygit2.GitError, KeyError, ValueError, OSError) as error:
            if all(problem.kind != "corrupt_here" for problem in problems):
                words = str(error)
                text = f"the memory repo's history cannot be read: {words}"
                problems.append(SyncProblem("corrupt_here", text, git=words, hint=hint_for("corrupt_here")))
        seen = Seen(
            masked,
            branch,
            ahead,
            behind,
            known,
            offline=url is not None and is_offline() and not self._remote.is_here(url),
            problems=tuple(problems),
            pull_only=self._remote.read_only,
        )
        status = status_of(replace(kept, notices=tuple(filter(self._is_so, kept.notices))), seen)
        if url is not None and status.state != kept.state:
            kept = replace(kept, state=status.state, since=_now())
            self._save(kept, durable=False)
            status = replace(status, since=kept.since)
        return status

    def _is_so(self, notice: Notice) -> bool:
        """Whether what a notice tells of has come about: it is noted before."""
        head = self._repo.head() if notice.of is not None else None
        if notice.of is None or head == notice.of:
            return True
        try:
            return head is not None and bool(self._repo.thread_repo.descendant_of(head, notice.of))
        except (pygit2.GitError, KeyError, ValueError):
            return False

    def _placed(self, kept: Kept, masked: str | None, branch: str | None) -> Kept:
        """What is kept, if it is about this remote and branch."""
        moved = kept.place is not None and kept.place != masked
        switched = kept.branch is not None and branch is not None and kept.branch != branch
        if masked is not None and (moved or switched):
            kept = after(kept, Elsewhere(masked, branch))
            self._save(kept, durable=False)
        return kept

    def _branch(self) -> str | None:
        try:
            return self._repo.branch
        except AlgError:
            return None

    def is_of_this_remote(self) -> bool:
        """Whether what git remembers of a remote is of the one that it has now, and not of one before it."""
        with self._lock:
            return self._of_this_remote().asked

    def _of_this_remote(self) -> Kept:
        url = self._remote.url()
        return self._placed(self._load(), mask_credentials(url) if url is not None else None, self._branch())

    def answered(self) -> None:
        """Note at once that the remote has answered, if that was not known: what git remembers is of this one now."""
        with self._lock:
            kept = self._of_this_remote()
            if not kept.asked:
                for answer in self._remote.take_answers():
                    kept = after(kept, answer)
                self._save(kept)

    def count(self) -> tuple[int, int]:
        """Commits ahead and behind, against the remote as last seen."""
        ahead, behind, _ = self._count(self._load(), self._branch())
        return ahead, behind

    def _count(self, kept: Kept, branch: str | None) -> tuple[int, int, bool]:
        """Ahead, behind, and whether the remote's branch is known."""
        if branch is not None:
            head, tracked = self._repo.head(), self._remote.tracked()
        else:  # HEAD is on none: what counts is the branch that it was on
            head, tracked = self._tips(kept.branch)
        if not kept.asked:
            tracked = None
        if self._counted is None or self._counted[:2] != (head, tracked):
            git = self._repo.thread_repo
            if head is None:
                counts = (0, 0)
            elif tracked is None:
                counts = (sum(1 for _ in git.walk(head)), 0)
            else:
                counts = (commits_beyond(git, head, tracked), commits_beyond(git, tracked, head))
            self._counted = (head, tracked, counts)
        return (*self._counted[2], tracked is not None)

    def _tips(self, branch: str | None) -> tuple[str | None, str | None]:
        references = self._repo.thread_repo.references
        names = (f"refs/heads/{branch}", f"refs/remotes/{self._remote.name}/{branch}")
        head, tracked = (references.get(name) if branch is not None else None for name in names)
        return str(head.target) if head else self._repo.head(), str(tracked.target) if tracked else None

    def _load(self) -> Kept:
        if self._unsaved is not None:
            return self._unsaved
        try:
            data = (self._repo.git_dir / _STATE_FILE).read_bytes()
        except OSError:
            return Kept()
        if data != self._read[0]:
            try:
                kept = load(json.loads(data))
            except (ValueError, RecursionError):
                kept = Kept()
            self._read = (data, kept)
        return self._read[1]

    def _save(self, kept: Kept, *, durable: bool = True) -> None:
        if self._watching:
            return
        try:
            path = self._repo.git_dir / _STATE_FILE
            write_atomically(path, json.dumps(dump(kept), indent=1).encode(), durable=durable)
        except OSError:  # a full disk must not hide what happened
            self._unsaved = kept
        else:
            self._unsaved = None

    def record(self, operation: Operation, error: AlgError | None) -> SyncStatus:
        """Note how an attempt ended, and tell where the memory repo stands."""
        with self._lock:
            with contextlib.suppress(AlgError):
                if not self._repo.identity().configured:
                    self._repo.identity(refresh=True)  # somebody may have set it since
            url, branch = self._remote.url(), self._branch()
            masked = mask_credentials(url) if url is not None else None
            kept = self._placed(self._load(), masked, branch)
            kept = replace(kept, place=masked, branch=branch or kept.branch)
            for answer in self._remote.take_answers():
                kept = after(kept, answer)
            kept = after(kept, self._event(kept, operation, error))
            self._save(kept)
            reach("sync.state_noted")
            return self._status(kept)

    def tell(self, notice: Notice) -> None:
        """Note what is about to be so; it is told once HEAD has the commit that it speaks of."""
        with self._lock:
            kept = self._of_this_remote()
            so = (other for other in kept.notices if self._is_so(other) and other.of != notice.of)
            self._save(replace(kept, notices=(*so, notice)))

    def _event(self, kept: Kept, operation: Operation, error: AlgError | None) -> Event:
        now = _now()
        if error is None:
            return Succeeded(operation, now, *self._count(kept, self._branch())[:2])
        problem, ahead = problem_of(error), 0
        with contextlib.suppress(AlgError, pygit2.GitError, KeyError, ValueError, OSError):
            ahead = self._count(kept, self._branch())[0]
        return Failed(operation, problem.kind, problem.message, now, problem.git, problem.hint, ahead)

    def forget(self) -> None:
        """Drop what is known of attempts: the remote is another one now, and has not been asked."""
        with self._lock:
            url = self._remote.url()
            self._save(after(Kept(), Elsewhere(mask_credentials(url) if url is not None else None, self._branch())))


def _now() -> datetime:
    return datetime.now(UTC)
