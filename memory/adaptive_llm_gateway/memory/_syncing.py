"""Pulls, pushes and publications for the store: one at a time in a thread of their own, asked for or when due."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeVar, assert_never

from adaptive_llm_gateway.core import AlgError, LockHeld, SyncError, Unavailable
from adaptive_llm_gateway.memory._publish import Publication, Publisher
from adaptive_llm_gateway.memory._quarantine import summary
from adaptive_llm_gateway.memory._requests import Request, WriteResult
from adaptive_llm_gateway.memory._sight import Sighted
from adaptive_llm_gateway.memory._sync import PullResult, Sync
from adaptive_llm_gateway.memory._sync_errors import kind_of
from adaptive_llm_gateway.memory._sync_progress import SyncProgress
from adaptive_llm_gateway.memory._sync_schedule import (
    Ended,
    Operation,
    Pace,
    Step,
    began,
    begin,
    ended,
    nothing_to_push,
    plan,
    reconfigured,
    slept,
    waits_for_a_person,
    woke,
    wrote,
)
from adaptive_llm_gateway.memory._values import SyncStatus

_log = logging.getLogger(__name__)
_KNOWN_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 5.0
_GLANCE_SECONDS: Final = 30.0  # how soon it is noticed that the machine slept or that something was mended


@dataclass(frozen=True, slots=True)
class SyncOutcome:
    """How a pull or push ended.

    Attributes:
        status: where the memory repo stands afterwards.
        changed: memory files that came in, changed or went.
        pushed: commits that the remote did not have before.
        conflicts: paths of texts that clashed and are both kept.
        decisions: what a merge decided, a line each.
        notices: what is held back of what the remote has.
    """

    status: SyncStatus
    changed: int = 0
    pushed: int = 0
    conflicts: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is and what chance has it; a test brings its own.

    Attributes:
        monotonic: seconds that only go forward, and stand still while the machine sleeps.
        wall: seconds of the wall clock.
        draw: a random number from 0 up to 1.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    draw: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class _Job:
    operation: Literal["pull", "push", "sync"]
    future: Future[SyncOutcome] = field(default_factory=Future[SyncOutcome])


_T = TypeVar("_T")
_Asked = TypeVar("_Asked", _Job, Publication)
_Work = _Job | Publication | Literal["check", "push"]


class Syncing:
    """Carries out pulls, pushes and publications, one after the other.

    Args:
        prepare: called before each pull or push: brings edits by hand into a commit.
        done: called after each of the three, and after each look at the remote.
        pace: how often to do so without being asked.
        watched: files that tell, by their time, that what failed may have been mended.
    """

    def __init__(
        self,
        sync: Sync,
        publisher: Publisher,
        *,
        prepare: Callable[[], None],
        done: Callable[[], None],
        pace: Pace,
        watched: Sequence[Path] = (),
        clock: Clock | None = None,
    ) -> None:
        self._sync = sync
        self._publisher = publisher
        self._prepare = prepare
        self._done = done
        self._pace = pace
        self._watched = watched
        self._clock = clock or Clock()
        self._wake = threading.Condition()
        self._jobs: list[_Job | Publication] = []
        self._schedule = begin(self._clock.monotonic(), pace, self._clock.draw())
        self._writes = 0
        self._doing: Operation = "check"
        self._looked = False
        self._stopping = False
        self._no_remote_until = 0.0
        self._seen: tuple[float, float] = (self._clock.monotonic(), self._clock.wall())
        self._configured = self._configuration()
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

    @property
    def progress(self) -> SyncProgress | None:
        """What runs now, and how far it is."""
        return self._sync.progress.now

    def status(self) -> SyncStatus:
        """Where the repo stands; no network."""
        now = time.monotonic()
        if now < self._no_remote_until:
            return SyncStatus("no_remote")
        status = self._sync.state.status()
        if status.state == "no_remote":
            self._no_remote_until = now + _KNOWN_SECONDS
            return status
        return self._with_plans(status)

    def _with_plans(self, status: SyncStatus) -> SyncStatus:
        """The status of what failed, with what the loop makes of it."""
        if status.state != "failed":
            return status
        schedule, now = self._schedule, self._clock.monotonic()
        step = plan(schedule, now, offline=status.offline)
        at = None
        if step.at is not None and not status.offline:
            at = datetime.fromtimestamp(self._clock.wall(), UTC) + timedelta(seconds=max(0.0, step.at - now))
        return replace(status, next_attempt=at)

    def committed(self) -> None:
        """There are new commits."""
        with self._wake:
            self._writes += 1
            after = wrote(self._schedule, self._clock.monotonic(), self._pace)
            if after != self._schedule:
                self._schedule = after
                self._wake.notify()

    def look(self) -> None:
        """Look at the clocks and at what is watched, rather than when that is due."""
        with self._wake:
            self._wake.notify()

    def pull(self) -> Future[SyncOutcome]:
        """Ask for a pull."""
        return self._ask(_Job("pull")).future

    def push(self) -> Future[SyncOutcome]:
        """Ask for a push."""
        return self._ask(_Job("push")).future

    def sync(self) -> Future[SyncOutcome]:
        """Ask for a pull and then a push."""
        return self._ask(_Job("sync")).future

    def publish(self, decide: Callable[[], Request | Sighted], *, timeout: float) -> Future[WriteResult]:
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

    # -- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (work := self._next()) is not None:
            if isinstance(work, Publication):
                self._carry_out("publish", [work.future], lambda work=work: self._publisher.carry_out(work))
            elif isinstance(work, _Job):
                self._carry_out(work.operation, [work.future, *self._waiting(work.operation)], self._runner(work))
            elif work == "check":
                self._carry_out("check", [Future()], self._check)
            else:
                asked = self._waiting("push")
                run = partial(self._push, new_branch=bool(asked))  # unasked it would pass for being in sync
                self._carry_out("push", [Future(), *asked], run)

    def _next(self) -> _Work | None:
        """Wait for what is to be done next; None: nothing more."""
        while True:
            writes = self._writes
            status = None if self._jobs else self.status()  # outside of the lock: it reads files
            with self._wake:
                if self._jobs:
                    return self._jobs.pop(0)
                if status is None or writes != self._writes:  # that is not how it stands any more
                    continue
                self._notice()
                now = self._clock.monotonic()
                step = plan(self._schedule, now, remote=status.state != "no_remote", offline=status.offline)
                if self._stopping:
                    waits = self._schedule.push_at is not None and self._schedule.pushes.until is None
                    if not waits or status.offline or status.state in ("no_remote", "pushed"):
                        return None
                    self._schedule = replace(self._schedule, push_at=None)
                    return "push"
                if step.work == "push" and status.state in ("pushed", "behind"):
                    self._schedule = nothing_to_push(self._schedule)
                elif step.work in ("check", "push") and step.at is not None and step.at <= now:
                    return step.work
                else:
                    self._wake.wait(self._pause(step, now))

    @staticmethod
    def _pause(step: Step, now: float) -> float | None:
        return None if step.at is None else max(0.0, min(step.at - now, _GLANCE_SECONDS))

    def _notice(self) -> None:
        """Whether the machine slept, or what keeps the sync from succeeding may have been mended."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        (before, wall_before), self._seen = self._seen, (now, wall)
        if slept(now - before, wall - wall_before):
            self._schedule = woke(self._schedule, now, self._clock.draw())
        if waits_for_a_person(self._schedule):
            configured = self._configuration()
            if configured != self._configured:
                self._configured = configured
                self._schedule = reconfigured(self._schedule, now, self._clock.draw())

    def _configuration(self) -> tuple[tuple[int, int] | None, ...]:
        found: list[tuple[int, int] | None] = []
        for path in self._watched:
            try:
                seen = os.stat(path)  # noqa: PTH116 - links are followed either way
            except OSError:
                found.append(None)
            else:
                found.append((seen.st_mtime_ns, seen.st_size))
        address = Path(self._sync.remote.url() or "")
        found.append((int(address.is_absolute() and address.exists()), 0))  # a disk that was away
        return tuple(found)

    def _waiting(self, operation: str) -> list[Future[SyncOutcome]]:
        """Take out what the run that begins now answers as well: whoever asked for the same before it began."""
        with self._wake:
            taken = [job.future for job in self._jobs if isinstance(job, _Job) and job.operation == operation]
            self._jobs = [job for job in self._jobs if isinstance(job, Publication) or job.operation != operation]
        return taken

    def _runner(self, job: _Job) -> Callable[[], SyncOutcome]:
        match job.operation:
            case "pull":
                return self._pull
            case "push":
                return self._push
            case "sync":
                return self._pull_and_push
            case _:
                assert_never(job.operation)

    def _carry_out(self, name: str, asked: Sequence[Future[_T]], run: Callable[[], _T]) -> None:
        futures = [future for future in asked if future.set_running_or_notify_cancel()]
        if not futures:
            return
        self._no_remote_until = 0.0
        self._configured = self._configuration()
        self._begin("push" if name == "publish" else "check")
        self._sync.progress.begin(name)
        try:
            outcome = run()
        except Exception as error:  # noqa: BLE001 - whoever asked is told; the thread goes on
            self._sync.progress.end()
            if isinstance(error, AlgError):
                _log.info("%s failed: %s", name, error)
            else:
                _log.exception("%s failed", name)
            if name == "publish" and not isinstance(error, SyncError):  # the remote was reached, and had it refused
                self._done()
            elif name != "publish":
                self._ended(Ended(self._doing, _kind(error)))
            for future in futures:
                future.set_exception(error)
        else:
            self._sync.progress.end()
            self._ended(Ended(self._doing, ahead=self._sync.state.count()[0]))
            self._done()
            for future in futures:
                future.set_result(outcome)

    def _begin(self, operation: Operation) -> None:
        self._doing = operation
        with self._wake:
            self._schedule = began(self._schedule, operation)

    def _ended(self, how: Ended) -> None:
        with self._wake:
            self._schedule = ended(self._schedule, self._clock.monotonic(), self._pace, how, self._clock.draw())

    def _check(self) -> SyncOutcome:
        """Look at the remote, which is all that is done where it has nothing new."""
        if not self._looked or self._schedule.pulls.kind is not None:
            return self._pull()
        status = self._sync.fetch()
        return self._pull() if status.behind else SyncOutcome(status)

    def _pull(self) -> SyncOutcome:
        self._prepare()
        done = self._sync.pull()
        self._looked = True
        status = done.status
        if status.state == "failed":  # an earlier push did; this pull did not
            ahead, behind = status.ahead, status.behind
            now = "diverged" if ahead and behind else "pending" if ahead else "behind" if behind else "pushed"
            status = replace(status, state=now)
        return self._outcome(status, 0, [done])

    def _push(self, *, prepared: bool = False, new_branch: bool = True) -> SyncOutcome:
        self._begin("push")
        if not prepared:
            self._prepare()
        done = self._sync.push(new_branch=new_branch)
        return self._outcome(done.status, done.pushed, done.pulls)

    def _outcome(self, status: SyncStatus, pushed: int, pulls: Sequence[PullResult]) -> SyncOutcome:
        return replace(_outcome(status, pushed, pulls), notices=summary(self._sync.quarantine))

    def _pull_and_push(self) -> SyncOutcome:
        pulled = self._pull()
        if self._sync.remote.read_only:
            return pulled
        self._ended(Ended("pull", ahead=self._sync.state.count()[0]))
        pushed = self._push(prepared=True)  # since it was asked for, which is once
        return SyncOutcome(
            pushed.status,
            pulled.changed + pushed.changed,
            pushed.pushed,
            pulled.conflicts + pushed.conflicts,
            pulled.decisions + pushed.decisions,
            pushed.notices,  # what is held back now, after both
        )


def _kind(error: BaseException) -> str:
    """The kind of a failure, as the schedule takes it."""
    if isinstance(error, LockHeld):
        return "lock_held"
    return kind_of(error) if isinstance(error, AlgError) else "other"


def _outcome(status: SyncStatus, pushed: int, pulls: Sequence[PullResult]) -> SyncOutcome:
    return SyncOutcome(
        status,
        changed=sum(len(pull.merged) for pull in pulls),
        pushed=pushed,
        conflicts=tuple(conflict.path for pull in pulls for conflict in pull.conflicts),
        decisions=tuple(decision for pull in pulls for decision in pull.decisions),
    )


def configuration_files(git_dir: Path, *more: Path) -> tuple[Path, ...]:
    """The files whose change may mend a sync: git's configuration, credentials, ssh's."""
    home = Path.home()
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = os.environ.get("GIT_CONFIG_GLOBAL")
    found = [git_dir / "config", home / ".gitconfig", xdg / "git" / "config", xdg / "git" / "credentials", *more]
    found += [home / name for name in (".git-credentials", ".netrc", ".ssh", ".ssh/config", ".ssh/known_hosts")]
    return (*found, *([Path(named)] if named else []))
