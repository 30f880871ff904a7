"""Writes that count only when the remote has taken them: git's push is the compare-and-swap between clones.

A commit is made beside the branch and pushed. Only when that push was accepted does the commit come into the branch, by
the merge that every pull makes; refused, it is nowhere but among the objects that nothing leads to. A crash in between
leaves nothing, or a commit of the remote that the next pull brings in.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from random import uniform
from typing import Final

from adaptive_llm_gateway.core import AlgError, SyncError, reach
from adaptive_llm_gateway.memory._commit_message import commit_message
from adaptive_llm_gateway.memory._plans import Planned
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._requests import Request, Standing, WriteResult
from adaptive_llm_gateway.memory._sight import Sighted
from adaptive_llm_gateway.memory._sync import Sync
from adaptive_llm_gateway.memory._sync_errors import MERGE_FIRST, RACES, sync_error
from adaptive_llm_gateway.memory._values import SyncStatus

_ATTEMPTS: Final = 40  # of two hubs that race one wins each round, so that no more than a few are ever needed
_LONGEST_PAUSE: Final = 0.3

# The remote, or git before it sent anything, has refused.
_REFUSED: Final = frozenset(
    {"protected_branch", "checked_out", "hook_rejected", "auth", "host_key", "access_denied", "remote_missing"}
    | {"remote_read_only", "pull_only", "ownership", "transport_refused", "ssh_setup", "no_remote"}
    | {"identity_rejected", "too_large"}
    | {"remote_full", "certificate", "proxy", "remote_moved", "rate_limited"}
)
_NEVER_SENT: Final = re.compile(
    r"could not resolve|couldn't resolve|connection refused|network is unreachable|no route to host|failed to connect"
    r"|unable to connect|unable to look up|name or service not known|temporary failure in name resolution",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Publication:
    """A write to be published.

    Attributes:
        decide: gives the request, or raises why there is none to be.
        asked, until: when it was asked for and when to give up, as of `time.monotonic`.
    """

    decide: Callable[[], Request | Sighted]
    asked: float
    until: float
    future: Future[WriteResult] = field(default_factory=Future[WriteResult])


@dataclass(frozen=True, slots=True)
class _Made:
    """A commit beside the branch; where the remote's was last seen then, and when that was (`time.monotonic`)."""

    planned: Planned
    commit: str
    base: str | None
    time: float


class _Declined(Exception):
    """Carries what `decide` or the planner raised past those who take an error for the remote's."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Publisher:
    """Carries out publications, one after the other, in the thread that pulls and pushes.

    Args:
        prepare: brings edits by hand into a commit.
        when_committed: runs a function in the writer's thread once nothing waits for its commit, and returns its
            result.
        plan: turns a request into file changes (called in the writer's thread).
        name: the memory repo's, where there are several.
    """

    def __init__(
        self,
        sync: Sync,
        repo: MemoryRepo,
        *,
        prepare: Callable[[], None],
        when_committed: Callable[[Callable[[], _Made | _Declined]], _Made | _Declined],
        plan: Callable[[Request | Sighted], Planned],
        name: str | None = None,
    ) -> None:
        self._name = name
        self._sync, self._repo = sync, repo
        self._prepare, self._when_committed, self._plan = prepare, when_committed, plan
        self._seen_at = float("-inf")  # no later than the remote was seen as it is known here

    def carry_out(self, asked: Publication) -> WriteResult:
        """Publish; see `MemoryStore.publish`."""
        if time.monotonic() >= asked.until:
            raise sync_error("timeout", "there was no time left to begin with; nothing was written")
        known = self._seen_at > asked.asked
        if not known:
            self._prepare()
        try:
            with self._sync.attempt("push", until=asked.until):
                made = self._until_taken(asked, known=known)
        except _Declined as declined:
            if self._seen_at > asked.asked and not known:
                self._sync.state.record("pull", None)
            raise declined.error from None
        return replace(_result(made, self._bring_in(made)), repo=self._name)

    def _until_taken(self, asked: Publication, *, known: bool) -> _Made:
        """The commit that the remote has taken.

        Args:
            known: what the remote had when this was asked for is here.
        """
        doubts: list[_Made] = []  # each may or may not have been taken
        try:
            for attempt in range(1, _ATTEMPTS + 1):
                if not known or attempt > 1:
                    self._look()
                if (taken := self._taken_of(doubts)) is not None:
                    return taken
                made = self._make(asked.decide)
                self._sync.check_outgoing(made.commit)
                reach("sync.publish_committed")
                try:
                    self._sync.remote.push(made.commit)
                except SyncError as error:
                    self._seen_at = float("-inf")
                    kind = str(error.details.get("kind"))
                    if kind in _REFUSED or _NEVER_SENT.search(str(error.details.get("git") or "")):
                        raise
                    if kind not in RACES:
                        doubts.append(made)
                    if attempt == _ATTEMPTS or time.monotonic() >= asked.until:
                        raise
                    time.sleep(uniform(0.0, min(0.02 * attempt, _LONGEST_PAUSE)))  # noqa: S311 - no secret
                else:
                    return made
        except (AlgError, _Declined) as error:
            if (taken := self._taken_of(doubts)) is not None:
                return taken
            # Git takes a push only where the branch still is what it was when the push began.
            if any(self._sync.remote.tracked() == made.base for made in doubts):
                raise _unknown(doubts[-1], error) from error
            raise
        raise sync_error(MERGE_FIRST, "the remote keeps moving")

    def _look(self) -> None:
        """Have here what the remote has, in files and index."""
        begun = time.monotonic()
        self._repo.check_ready()
        self._sync.remote.fetch()
        self._sync.merge()
        self._seen_at = begun

    def _taken_of(self, doubts: Sequence[_Made]) -> _Made | None:
        """The one that the remote's branch, as last seen, holds."""
        tracked, git = self._sync.remote.tracked(), self._repo.thread_repo
        if tracked is None:
            return None
        return next(
            (made for made in doubts if made.commit == tracked or git.descendant_of(tracked, made.commit)), None
        )

    def _make(self, decide: Callable[[], Request | Sighted]) -> _Made:
        """Decide, plan and commit beside the branch; no write of this hub comes in between."""

        def task() -> _Made | _Declined:
            self._repo.check_ready()
            head, base, now = self._repo.head(), self._sync.remote.tracked(), time.monotonic()
            if head is None:
                raise sync_error("other", "the memory repo has no commit to begin with")
            try:
                planned = self._plan(decide())
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                return _Declined(error)
            if not planned.changes:  # it is so already, and counts when the remote has it, too
                return _Made(planned, head, base, now)
            changes = [change.change for change in planned.changes]
            commit = self._repo.merge_commit(
                [head],
                {change.path: change.data for change in changes},
                commit_message(changes),
                authors=[change.author for change in changes],
            )
            return _Made(planned, commit, base, now)

        made = self._when_committed(task)
        if isinstance(made, _Declined):
            raise made
        return made

    def _bring_in(self, made: _Made) -> SyncStatus:
        """Have what the remote has taken in the branch, the files and the index, too."""
        try:
            with self._sync.attempt("pull"):
                self._sync.merge()
        except AlgError as error:
            raise sync_error(
                "not_merged",
                f"the remote has taken it (commit {made.commit[:12]}), but it cannot be brought in here yet: "
                f"{error.message}",
                commit=made.commit,
                cause=error.details.get("kind") or error.code,
            ) from error
        self._seen_at = made.time  # the push that was accepted began later
        return self._sync.state.record("push", None)


def _result(made: _Made, status: SyncStatus) -> WriteResult:
    planned = made.planned
    if status.state != "pushed":  # later writes wait, or another's came; this one is where it counts
        status = replace(status, state="pushed", ahead=0, behind=0, kind=None, error=None, hint=None)
    return WriteResult(
        planned.id,
        planned.type,
        planned.title,
        planned.path,
        planned.operation,
        planned.version,
        Standing("committed", status, made.commit),
        unchanged=not planned.changes,
        notes=planned.notes,
        raised=planned.raised,
        redacted=planned.redacted,
    )


def _unknown(made: _Made, error: BaseException) -> SyncError:
    words = error.message if isinstance(error, AlgError) else str(error)
    return sync_error(
        "unknown",
        f"the push ended without an answer, so that the remote may or may not have taken it: {words}; the next pull "
        "will show",
        git=str(error.details.get("git")) if isinstance(error, AlgError) and error.details.get("git") else None,
        commit=made.commit,
    )
