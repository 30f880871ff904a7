"""Pulls, pushes and publications for the store: one at a time in a thread of their own, asked for or after a write."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from adaptive_llm_gateway.core import AlgError, SyncError, Unavailable
from adaptive_llm_gateway.memory._publish import Publication, Publisher
from adaptive_llm_gateway.memory._requests import Request, WriteResult
from adaptive_llm_gateway.memory._sync import PullResult, Sync
from adaptive_llm_gateway.memory._values import SyncStatus

_log = logging.getLogger(__name__)
_KNOWN_SECONDS = 2.0
_STOP_SECONDS = 5.0
_OFFLINE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """How a pull or push ended.

    Attributes:
        changed: memory files that came in, changed or went.
        conflicts: paths of texts that clashed and are both kept.
        decisions: what a merge decided, a line each.
    """

    status: SyncStatus
    changed: int = 0
    pushed: int = 0
    conflicts: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Job:
    operation: Literal["pull", "push"]
    future: Future[SyncOutcome] = field(default_factory=Future[SyncOutcome])


_T = TypeVar("_T")
_Asked = TypeVar("_Asked", _Job, Publication)


class Syncing:
    """Carries out pulls, pushes and publications, one after the other.

    Args:
        prepare: called before each pull or push: brings edits by hand into a commit.
        done: called after each of the three.
        delay: seconds to gather writes before a push of its own; None: push only when asked.
    """

    def __init__(
        self,
        sync: Sync,
        publisher: Publisher,
        *,
        prepare: Callable[[], None],
        done: Callable[[], None],
        delay: float | None,
    ) -> None:
        self._sync = sync
        self._publisher = publisher
        self._prepare = prepare
        self._done = done
        self._delay = delay
        self._wake = threading.Condition()
        self._jobs: list[_Job | Publication] = []
        self._due: float | None = None
        self._stopping = False
        self._no_remote_until = 0.0
        self._thread = threading.Thread(target=self._run, name="memory-sync", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """Push what waits, if that is quick, and stop."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=_STOP_SECONDS)

    def status(self) -> SyncStatus:
        """Where the repo stands; no network."""
        now = time.monotonic()
        if now < self._no_remote_until:
            return SyncStatus("no_remote")
        status = self._sync.state.status()
        if status.state == "no_remote":
            self._no_remote_until = now + _KNOWN_SECONDS
        return status

    def committed(self) -> None:
        """There are new commits."""
        if self._delay is None:
            return
        with self._wake:
            if self._due is None:
                self._due = time.monotonic() + self._delay
                self._wake.notify()

    def pull(self) -> Future[SyncOutcome]:
        """Ask for a pull."""
        return self._ask(_Job("pull")).future

    def push(self) -> Future[SyncOutcome]:
        """Ask for a push."""
        return self._ask(_Job("push")).future

    def publish(self, decide: Callable[[], Request], *, timeout: float) -> Future[WriteResult]:
        """Ask for a write that counts only when the remote has taken it."""
        now = time.monotonic()
        return self._ask(Publication(decide, now, now + timeout)).future

    def _ask(self, job: _Asked) -> _Asked:
        with self._wake:
            if self._stopping:
                raise Unavailable("the store is closing", hint="Try again in a moment.")
            self._jobs = [waiting for waiting in self._jobs if not waiting.future.cancelled()]
            self._jobs.append(job)
            self._wake.notify()
        return job

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._jobs and not self._stopping:
                    left = None if self._due is None else self._due - time.monotonic()
                    if left is not None and left <= 0:
                        break
                    self._wake.wait(left)
                jobs, self._jobs = self._jobs, []
                due, self._due = self._due, None
                stopping = self._stopping
            if due is not None:
                status = self.status()
                if status.offline:  # what waits goes out when offline mode has ended
                    with self._wake:
                        self._due = time.monotonic() + _OFFLINE_SECONDS
                elif status.state not in ("no_remote", "pushed"):
                    jobs.append(_Job("push"))
            while jobs:
                job = jobs.pop(0)
                if isinstance(job, Publication):
                    self._carry_out("publish", [job.future], lambda job=job: self._publisher.carry_out(job))
                else:
                    futures = [job.future, *self._waiting(job.operation, jobs)]
                    self._carry_out(job.operation, futures, self._pull if job.operation == "pull" else self._push)
            if stopping:
                return

    def _waiting(self, operation: str, jobs: list[_Job | Publication]) -> list[Future[SyncOutcome]]:
        """Take out what the run that begins now answers as well: whoever asked for the same before it began."""
        taken: list[Future[SyncOutcome]] = []
        with self._wake:
            for queue in (jobs, self._jobs):
                others: list[_Job | Publication] = []
                for job in queue:
                    if isinstance(job, _Job) and job.operation == operation:
                        taken.append(job.future)
                    else:
                        others.append(job)
                queue[:] = others
        return taken

    def _carry_out(self, name: str, asked: Sequence[Future[_T]], run: Callable[[], _T]) -> None:
        futures = [future for future in asked if future.set_running_or_notify_cancel()]
        if not futures:
            return
        self._no_remote_until = 0.0
        try:
            outcome = run()
        except Exception as error:  # noqa: BLE001 - whoever asked is told; the thread goes on
            if isinstance(error, AlgError):
                _log.info("%s failed: %s", name, error)
            else:
                _log.exception("%s failed", name)
            if name == "publish" and not isinstance(error, SyncError):  # the remote was reached, and had it refused
                self._done()
            for future in futures:
                future.set_exception(error)
        else:
            self._done()
            for future in futures:
                future.set_result(outcome)

    def _pull(self) -> SyncOutcome:
        self._prepare()
        done = self._sync.pull()
        status = done.status
        if status.state == "failed":  # an earlier push did; this pull did not
            ahead, behind = status.ahead, status.behind
            now = "diverged" if ahead and behind else "pending" if ahead else "behind" if behind else "pushed"
            status = replace(status, state=now)
        return _outcome(status, 0, [done])

    def _push(self) -> SyncOutcome:
        self._prepare()
        done = self._sync.push()
        return _outcome(done.status, done.pushed, done.pulls)


def _outcome(status: SyncStatus, pushed: int, pulls: list[PullResult] | tuple[PullResult, ...]) -> SyncOutcome:
    return SyncOutcome(
        status,
        changed=sum(len(pull.merged) for pull in pulls),
        pushed=pushed,
        conflicts=tuple(conflict.path for pull in pulls for conflict in pull.conflicts),
        decisions=tuple(decision for pull in pulls for decision in pull.decisions),
    )
