"""Sync with a git remote: fetch, check, merge, push, one attempt at a time in all processes.

Nothing is rewritten: no force-push, no reset, and a rescue reference before the branch moves. What comes in is looked
at before it is merged. Every failure has a `kind` of its own and git's words.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from random import uniform
from typing import Any

import pygit2

from adaptive_llm_gateway.core import (
    AlgError,
    InvalidInput,
    LockHeld,
    ProcessLock,
    SyncError,
    UnsafePath,
    reach,
)
from adaptive_llm_gateway.memory._commit_message import merge_message
from adaptive_llm_gateway.memory._holding import Holding, Quarantining, Released
from adaptive_llm_gateway.memory._merge import Conflict, Entry, MergePlan, plan_merge
from adaptive_llm_gateway.memory._merge_base import Ancestry, plan_choice
from adaptive_llm_gateway.memory._quarantine import Held, Quarantine
from adaptive_llm_gateway.memory._remote import Remote, mark
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_checks import FORMAT_PATH, translated
from adaptive_llm_gateway.memory._repo_rules import OutgoingTrust, RepoRules
from adaptive_llm_gateway.memory._sync_apply import Move, Staged, carry_out, move_between, settling
from adaptive_llm_gateway.memory._sync_checks import SecretCheck, check_marker, sort_incoming
from adaptive_llm_gateway.memory._sync_errors import MERGE_FIRST, RACES, sync_error
from adaptive_llm_gateway.memory._sync_model import Notice
from adaptive_llm_gateway.memory._sync_seen import lock_problem
from adaptive_llm_gateway.memory._sync_state import Operation, SyncState
from adaptive_llm_gateway.memory._tree_diff import diff_trees
from adaptive_llm_gateway.memory._values import Author, SyncStatus

MASS_LOSS = 20
"""More memories than this, and more than half, gone at once are not passed over."""
_LOCK_FILE = "alg-sync.lock"
_PUSH_ATTEMPTS = 5
_MERGE_ATTEMPTS = 8
_RELEASE_NOTE = "alg: bring in what was held back"
_LONG_SECONDS = 0.25  # a plan that takes longer is made again beside the writes that made it void, once


@dataclass(frozen=True, slots=True)
class MergedPath:
    """A file that a pull changed: `old_path` is None for a new one, `new_path` for one that went."""

    old_path: str | None
    new_path: str | None


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull did.

    Attributes:
        merged: the files that changed here.
        conflicts: texts that clashed and are both kept.
        commit: HEAD now.
        decisions: what a merge decided, a line each.
        rescue: the reference that keeps the HEAD from before, when it moved.
        held: what this pull holds back, beside what was held back before.
        base: a commit that both sides had.
    """

    status: SyncStatus
    merged: tuple[MergedPath, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    commit: str | None = None
    decisions: tuple[str, ...] = ()
    rescue: str | None = None
    held: tuple[Held, ...] = ()
    base: str | None = None


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did.

    Attributes:
        pushed: commits that the remote's branch did not have before.
        pulls: the pulls that were needed on the way.
        commit: what the remote's branch is at now.
    """

    status: SyncStatus
    pushed: int
    commit: str
    pulls: tuple[PullResult, ...] = ()


@dataclass(frozen=True, slots=True)
class _Prepared:
    ours: str
    theirs: str
    move: Move
    plan: MergePlan
    holding: Holding
    base: str | None


class Sync:
    """The memory repo and one remote: `state` tells where it stands, also while a pull or push runs.

    Args:
        repo: its reading methods are used from the calling thread, its writing ones within `in_writer`.
        remote: git's name for the remote.
        scan: given a path and its content, raises `SecretRefused` for credentials.
        mask: a text without its secrets, for showing.
        checks: what the checks of incoming files depend on beside the files; when it is another one, what is held back
            is looked at again.
        timeout: seconds for each git command that uses the network.
        arriving: called with the commit that the branch is on and the one that a pull moves it to, before it does.
        in_writer: runs a function where the memory repo may be written (the writer's thread) and returns its result;
            looking at what came in and planning the merge happen outside of it.
        rules: what may be pushed.
        alone: entered while what came in is checked, merged and moved into place: what can wait keeps out of its way.
    """

    def __init__(
        self,
        repo: MemoryRepo,
        *,
        scan: Callable[[str, bytes], None],
        remote: str = "origin",
        timeout: float = 60.0,
        in_writer: Callable[[Callable[[], PullResult | None]], PullResult | None] = lambda run: run(),
        mask: Callable[[str], str] = str,
        checks: Callable[[], object] = lambda: None,
        arriving: Callable[[str, str], None] = lambda _start, _target: None,
        rules: RepoRules | None = None,
        alone: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        rules = rules or RepoRules()
        self._repo, self._in_writer, self._alone, self._arriving = repo, in_writer, alone, arriving
        self.remote = Remote(repo, remote, timeout=timeout, read_only=rules.read_only)
        self._trust = OutgoingTrust(repo, rules, masked=mask, timeout=timeout)
        self.state = SyncState(repo, self.remote)
        self.remote.is_the_same, self.remote.answered = self.state.is_of_this_remote, self.state.answered
        self.progress = self.remote.progress
        self._secrets = SecretCheck(repo, scan, timeout=timeout)
        self._quarantining = Quarantining(repo, self._secrets, mask=mask, rules=checks, timeout=timeout)

    def set_remote(self, url: str) -> None:
        """Name the remote's address.

        Raises:
            InvalidInput: a transport that runs programs (`ext::`), or a password within the address.
        """
        self.remote.set_url(url)
        reach("sync.remote_set")
        self.state.forget()

    # --- pull ---------------------------------------------------------------------------------------------

    def fetch(self) -> SyncStatus:
        """Learn what the remote has; nothing here changes but what is known of it. Errors as for `pull`."""
        with self.attempt("pull"):
            self.remote.fetch()
        return self.state.record("fetch", None)

    def pull(self) -> PullResult:
        """Fetch and merge. The working tree follows; texts that clash are both kept.

        Raises:
            SyncError: `details["kind"]` is a `SyncKind` (`offline` is the mode, not the network); `details["git"]` has
                git's words. Nothing was merged.
            RepoBusy: a rebase or the like is under way.
            LockHeld: another process pulls or pushes.
        """
        with self.attempt("pull"):
            self._repo.check_ready()
            self.remote.fetch()
            result = self.merge()
        return replace(result, status=self.state.record("pull", None))

    def merge(self) -> PullResult:
        """Merge what was fetched, within an attempt; errors as for `pull`."""
        git = self._repo.thread_repo
        beside = True
        for attempt in range(_MERGE_ATTEMPTS):
            self._repo.check_ready()
            ours, theirs = self._repo.head(), self.remote.tracked()
            if ours is None or theirs is None or ours == theirs or git.descendant_of(ours, theirs):
                return self._look_again() or PullResult(SyncStatus("pushed"), commit=ours)
            began = time.monotonic()
            with self._alone():
                done = self._merge_once(ours, theirs, beside=beside)
            if done is not None:
                return done
            beside = attempt == 0 and time.monotonic() - began > _LONG_SECONDS
        raise sync_error("busy", "the memory repo's branch keeps moving; nothing was merged")

    def _merge_once(self, ours: str, theirs: str, *, beside: bool) -> PullResult | None:
        """None when HEAD has moved meanwhile.

        Args:
            beside: writes go on while it is planned.
        """
        if beside:
            prepared = self._prepare(ours, theirs)
            reach("sync.planned")
            if self._repo.head() != ours:
                return None
            with settling(self._repo), Staged(self._repo, prepared.move) as staged:
                return self._in_writer(partial(self._apply, prepared, staged))
        with settling(self._repo):  # who writes without a pause waits for the planning, too
            return self._in_writer(lambda: self._plan_and_apply(theirs))

    def _plan_and_apply(self, theirs: str) -> PullResult | None:
        ours = self._repo.head()
        return None if ours is None else self._apply(self._prepare(ours, theirs))

    def _prepare(self, ours: str, theirs: str) -> _Prepared:
        git = self._repo.thread_repo
        found: Any = git.merge_base(ours, theirs)
        base = str(found) if found is not None else None
        fast_forward = base == ours
        if base is None and ours != MemoryRepo.root_commit_id():
            if (self._repo.git_dir / "shallow").exists():
                raise sync_error(
                    "shallow_clone", "the memory repo is a shallow clone, so what both sides share cannot be known"
                )
            raise sync_error(
                "unrelated_histories", "the memory repo and the remote have no common history; nothing was merged"
            )
        self.progress.phase("checking what came in")
        ancestry = Ancestry(self._repo)
        tree = git[ours].peel(pygit2.Tree) if fast_forward else ancestry.common_tree(ours, theirs)
        try:
            their_side = diff_trees(tree, git[theirs].peel(pygit2.Tree))
        except pygit2.GitError as error:
            raise sync_error("corrupt_incoming", f"a tree of the remote cannot be read: {error}") from error
        check_marker(self._repo, their_side.get(FORMAT_PATH, (None, None))[1])
        our_side = diff_trees(tree, git[ours].peel(pygit2.Tree))
        holding = self._quarantining.begin(ours, theirs)
        incoming = sort_incoming(our_side, their_side, held=holding.before.held, problem=holding.problem)
        self.progress.phase("merging", total=len(their_side))
        carried: Mapping[str, Entry] = {}
        if not fast_forward and base is not None and ancestry.only_merged(ours, theirs):
            plan = plan_choice(self._repo, ours, theirs)
            carried = holding.carry_choice(incoming, plan)
        else:
            # Where only the root commit is here, the remote's files count.
            plan = plan_merge(incoming.ours if base else {}, incoming.theirs, holding.read, files=holding.in_tree)
            if not fast_forward:
                carried = holding.set_aside(incoming, our_side if base else {}, plan)
        holding.close(their_side, plan, fast_forward=fast_forward)
        target = theirs
        if not fast_forward:
            message = merge_message(self.remote.label, plan.decisions)
            try:
                target = self._repo.merge_commit([ours, theirs], plan.writes, message, carried=carried)
            except (InvalidInput, UnsafePath) as error:
                raise sync_error("unsafe_incoming", f"the merge cannot be written: {error.message}") from error
        reach("sync.objects_written")
        move = move_between(self._repo, ours, target, holding.result(target))
        return _Prepared(ours, theirs, move, plan, holding, base)

    def _apply(self, prepared: _Prepared, staged: Staged | None = None) -> PullResult | None:
        """In the writer's thread: None when HEAD has moved since."""
        repo, plan = self._repo, prepared.plan
        if repo.head() != prepared.ours or repo.quarantine_at(prepared.ours) != prepared.holding.before:
            return None  # somebody has committed, or edited a file of which a newer version is held back
        self._hold_index()
        label, move = self.remote.label, prepared.move
        rescue = repo.rescue(prepared.ours, mark())
        reach("sync.rescued")
        sources = set(plan.renames.values())
        merged = [
            MergedPath(plan.renames.get(path, path if old else None), path if new else None)
            for path, (old, new) in sorted(move.files.items())
            if not (new is None and path in sources)
        ]
        self._tell_of_removals(prepared, merged, rescue)
        self._arriving(prepared.ours, move.target)
        written = partial(self.progress.phase, "writing files")
        if not carry_out(repo, move, f"alg: pull {label}", staged=staged, step=written):
            return None
        known = prepared.holding.before.held
        return PullResult(
            SyncStatus("pushed"),
            tuple(merged),
            tuple(plan.conflicts),
            move.target,
            tuple(plan.decisions),
            rescue,
            tuple(item for path, item in move.after.held.items() if known.get(path) != item),
            prepared.base,
        )

    def _tell_of_removals(self, prepared: _Prepared, merged: Sequence[MergedPath], rescue: str) -> None:
        """Whoever removes most memories may do so, but never without a word: it is noted before anything moves."""
        removed = sum(1 for item in merged if item.new_path is None and _is_memory(item.old_path))
        if removed <= MASS_LOSS:
            return
        before = sum(1 for path in prepared.holding.before.overlay(dict(prepared.holding.in_tree)) if _is_memory(path))
        if removed > before // 2:
            text = (
                f"a pull removed {removed} of {before} memories, as the remote has it (commit {prepared.theirs[:12]}); "
                f"what was here is kept as {rescue}"
            )
            self.state.tell(Notice("mass_removal", text, datetime.now(UTC), prepared.move.target))

    def _look_again(self) -> PullResult | None:
        """Bring in what is held back and passes now; None when that is nothing."""
        for _ in range(_MERGE_ATTEMPTS):
            ready = self._quarantining.look_again()
            if ready is None:
                break
            done = self._in_writer(partial(self.release, ready))
            if done is not None:
                return done
        return None

    def look_again(self) -> PullResult | None:
        """The same, in the writer's thread: the rules may have changed. Nothing is asked of the remote."""
        ready = self._quarantining.look_again()
        return None if ready is None else self.release(ready)

    def release(self, ready: Released) -> PullResult | None:
        """In the writer's thread: write what is held back no more; None when something has changed since."""
        if self._repo.head() != ready.head or self._repo.quarantine_at(ready.head) != ready.before:
            return None  # somebody has committed, given up what is held back, or edited a file in the place of it
        move = move_between(self._repo, ready.head, ready.head, ready.after)
        with settling(self._repo):
            self._repo.hold_index()
            try:
                done = carry_out(self._repo, move, _RELEASE_NOTE)
            except SyncError as error:
                if error.details.get("kind") != "dirty":
                    raise
                # Somebody's own file is in the way: that one waits, and nothing else does.
                waiting: list[str] = error.details["paths"]
                move = move_between(self._repo, ready.head, ready.head, ready.without(waiting))
                done = carry_out(self._repo, move, _RELEASE_NOTE)
        if not done:
            return None
        merged = tuple(
            MergedPath(path if old else None, path if new else None) for path, (old, new) in sorted(move.files.items())
        )
        return PullResult(SyncStatus("pushed"), merged, commit=ready.head)

    @property
    def quarantine(self) -> Quarantine:
        """What is held back."""
        return self._repo.quarantine

    def drop(self, paths: Sequence[str], author: Author) -> tuple[Held, ...]:
        """In the writer's thread: give up what is held back at these paths (as they are, or as they are shown).

        A commit puts there what the work tree has: the last good version, or nothing.

        Raises:
            NotFound: nothing is held back there; nothing was changed.
        """
        return self._quarantining.drop(paths, author)

    def _hold_index(self) -> None:
        """Let another git program finish, and keep the next one waiting.

        What is left of one that died is in nobody's way, and keeps others away as well: the index follows later.
        """
        deadline = time.monotonic() + 2.0
        while not self._repo.hold_index():
            lock = self._repo.index_lock()
            if lock is not None and lock.owner == "dead" and not lock.ours:
                return
            if time.monotonic() > deadline:
                if lock is None:
                    return
                found = lock_problem(lock)
                error = sync_error("index_lock", found.message, path=str(lock.path), pid=lock.pid)
                error.hint = found.hint
                raise error
            time.sleep(0.02)
        reach("sync.index_held")

    # --- push ---------------------------------------------------------------------------------------------

    def push(self, *, new_branch: bool = True) -> PushResult:
        """Push what waits, never by force. When the remote has moved, it is pulled and pushed again, up to five times.

        Args:
            new_branch: make the branch where the remote has others only. Who reads those never sees what is in it.

        Raises:
            SyncError: as for `pull`; `non_fast_forward` where the remote keeps moving.
            RepoBusy, LockHeld: as for `pull`.
        """
        self.remote.check_writable()
        pulls: list[PullResult] = []
        with self.attempt("push"):
            if self.remote.tracked() is None or not self.state.is_of_this_remote():
                self._find_branch(new=new_branch)
            pushed, commit = self._push(pulls, new_branch=new_branch)
        return PushResult(self.state.record("push", None), pushed, commit, tuple(pulls))

    def _find_branch(self, *, new: bool) -> None:
        """Learn where the remote's branch is; with `new` it may have others only."""
        try:
            self.remote.fetch()
        except SyncError as error:
            if not new or error.details.get("kind") != "missing_branch":
                raise

    def _push(self, pulls: list[PullResult], *, new_branch: bool) -> tuple[int, str]:
        for attempt in range(1, _PUSH_ATTEMPTS + 1):
            commit = self._repo.head()
            if commit is None:
                raise sync_error("other", "the memory repo has no commit to push")
            self.progress.phase("checking what goes out")
            self.check_outgoing(commit)
            try:
                return self.remote.push(commit), commit
            except SyncError as error:
                if error.details.get("kind") not in RACES or attempt == _PUSH_ATTEMPTS:
                    raise
            time.sleep(uniform(0.0, 0.05 * 2**attempt))  # noqa: S311 - only to keep several clones apart
            self._repo.check_ready()
            self._find_branch(new=new_branch)
            pulls.append(replace(self.merge(), status=self.state.status()))
        raise sync_error(MERGE_FIRST, "the remote keeps moving")

    def check_outgoing(self, commit: str) -> None:
        """Look at what a push of `commit` would bring to the remote.

        Raises:
            SyncError: of the kind `secret_outgoing` or `trust_outgoing`.
        """
        tracked = self.remote.tracked() if self.state.is_of_this_remote() else None  # else all may be new to it
        if commit == tracked:  # it brings nothing
            return
        exclude = ["--not", tracked] if tracked is not None else []
        self._quarantining.follow_rules()
        if tracked is None:
            self._secrets.check_branch()
        self._secrets.check(commit, exclude, "secret_outgoing")
        self._trust.check(commit, exclude)

    @contextlib.contextmanager
    def attempt(self, operation: Operation, *, until: float | None = None) -> Generator[None]:
        """One pull or push at a time in all processes, and its failure noted for `status`.

        Args:
            until: when git's waiting for the network is to end, as of `time.monotonic`.
        """
        try:
            self.remote.until = until
            self.progress.phase("waiting for its turn")
            lock = ProcessLock(self._repo.git_dir / _LOCK_FILE, timeout=self.remote.patience())
            with lock, translated(self._repo.path):  # what libgit2 cannot read, and so on, is a failure like any other
                self._repo.drop_dead_locks()
                yield
        except LockHeld as held:
            owner: Any = held.details.get("owner")
            named = f"process {owner['pid']} on {owner['host']}" if owner else "another process"
            raise LockHeld(
                f"{named} syncs this memory repo now",
                hint="Wait for it to finish; this is tried again.",
                owner=owner,
                path=held.details.get("path"),
            ) from held
        except AlgError as error:
            if error.details.get("kind") != "offline":  # which is no failure of the remote
                with contextlib.suppress(AlgError):
                    self.state.record(operation, error)
            raise
        finally:
            self.remote.until = None


def _is_memory(path: str | None) -> bool:
    return path is not None and path.endswith(".md") and "/" in path
