"""Sync with a git remote: fetch, check, merge, push; and where the memory repo stands, without the network.

Nothing is rewritten: no force-push, no reset, and a rescue reference before the branch moves. What comes in is looked
at before it is merged. Every failure has a `kind` of its own and git's words.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import uniform
from typing import Any, Literal, cast

import pygit2

from adaptive_llm_gateway.core import (
    AlgError,
    FormatTooNew,
    InvalidInput,
    LockHeld,
    ProcessLock,
    RepoBusy,
    SecretRefused,
    SyncError,
    UnsafePath,
    is_offline,
    reach,
)
from adaptive_llm_gateway.memory._commit_message import one_line
from adaptive_llm_gateway.memory._git import GitFailed, GitResult, mask_credentials, run_git
from adaptive_llm_gateway.memory._merge import Conflict, Entry, MergePlan, plan_merge
from adaptive_llm_gateway.memory._offline import git_settings_here, protocol_here
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_checks import FORMAT_PATH, check_format, check_path
from adaptive_llm_gateway.memory._sync_apply import carry_out, move_between, write_atomically
from adaptive_llm_gateway.memory._sync_errors import MERGE_FIRST, REF_RACE, from_git, sync_error
from adaptive_llm_gateway.memory._tree_diff import Side, diff_trees, is_file
from adaptive_llm_gateway.memory._values import SyncStatus

_STATE_FILE = "alg-sync.json"
_LOCK_FILE = "alg-sync.lock"
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--end-of-options")
_PUSH = ("push", "--porcelain", "--no-verify", "--end-of-options")
_PUSH_ATTEMPTS = 5
_MERGE_ATTEMPTS = 8
_DECISIONS_SHOWN = 200
_KNOWN_SECONDS = 5.0
_LEAST_SECONDS = 1.0  # for git, however late it is

# Failures that only a merge mends; having reached the remote does not.
_NOT_MERGED = frozenset(
    {"secret_incoming", "unsafe_incoming", "format_too_new", "unrelated_histories", "shallow_clone", "dirty"}
    | {"index_lock", "index_lock_stale", "busy", "repo_busy"}
)

Operation = Literal["fetch", "pull", "push"]


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
    """

    status: SyncStatus
    merged: tuple[MergedPath, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    commit: str | None = None
    decisions: tuple[str, ...] = ()
    rescue: str | None = None


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did.

    Attributes:
        pushed: commits that the remote did not have before.
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
    fast_forward: bool
    plan: MergePlan


class Sync:
    """The memory repo and one remote. `status` may be asked from any thread, also while a pull or push runs.

    Args:
        repo: its reading methods are used from the calling thread, its writing ones within `in_writer`.
        remote: git's name for the remote.
        scan: given a path and its content, raises `SecretRefused` for credentials.
        timeout: seconds for each git command that uses the network.
        in_writer: runs a function where the memory repo may be written (the writer's thread) and returns its result;
            looking at what came in and planning the merge happen outside of it.
    """

    def __init__(
        self,
        repo: MemoryRepo,
        *,
        scan: Callable[[str, bytes], None],
        remote: str = "origin",
        timeout: float = 60.0,
        in_writer: Callable[[Callable[[], PullResult | None]], PullResult | None] = lambda run: run(),
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", remote):
            raise InvalidInput(f"{remote!r} cannot be the name of a remote")
        self._repo, self._remote, self._scan, self._timeout = repo, remote, scan, timeout
        self._in_writer = in_writer
        self._until: float | None = None
        self._state_lock = threading.Lock()
        self._clean: set[str] = set()
        self._counted: tuple[str | None, str | None, tuple[int, int]] | None = None
        self._place: tuple[str, float, bool] | None = None  # address, when it was looked at, whether it is here

    # --- where it stands ------------------------------------------------------------------------------

    def status(self) -> SyncStatus:
        """Where the memory repo stands, from what is known here: no network, a millisecond or so."""
        with self._state_lock:
            return self._status(self._read_state())

    def _status(self, state: dict[str, Any]) -> SyncStatus:
        url = self.url()
        if url is None:
            return SyncStatus("no_remote")
        ahead, behind = self._count()
        failures = cast("dict[str, dict[str, Any]]", state.get("failures") or {})
        failure = max(failures.values(), key=lambda found: str(found.get("at")), default=None)
        name: Literal["pushed", "pending", "behind", "diverged", "failed"]
        if failure is not None:
            name = "failed"
        elif ahead:
            name = "diverged" if behind else "pending"
        else:
            name = "behind" if behind else "pushed"
        if name == "pushed" and self.tracked() is None:
            name = "pending"
        if state.get("state") != name:
            state |= {"state": name, "since": _now()}
            self._write_state(state)
        return SyncStatus(
            name,
            ahead=ahead,
            behind=behind,
            since=_time(state.get("since")),
            last_success=_time(state.get("last_success")),
            remote=mask_credentials(url),
            kind=failure.get("kind") if failure else None,
            error=failure.get("error") if failure else None,
            offline=is_offline() and not self._is_here(url),
        )

    def url(self) -> str | None:
        """The remote's address as configured, credentials and all; None without a remote."""
        try:
            return self._repo.thread_repo.remotes[self._remote].url
        except (KeyError, ValueError):
            return None

    def _is_here(self, url: str) -> bool:
        """Whether the remote is on this machine, as it was a moment ago."""
        now = time.monotonic()
        if self._place is None or self._place[0] != url or now - self._place[1] > _KNOWN_SECONDS:
            try:
                here = all(map(protocol_here, (*self._addresses(push=False), *self._addresses(push=True))))
            except AlgError:
                here = False
            self._place = (url, now, here)
        return self._place[2]

    def _addresses(self, *, push: bool) -> tuple[str, ...]:
        """Where git would really go: its settings may put other addresses in the place of the remote's."""
        kind = ["--push"] if push else []
        listed = run_git(["remote", "get-url", "--all", *kind, self._remote], cwd=self._repo.path, reading=True)
        return tuple(listed.text.splitlines())

    def _tracking_name(self) -> str:
        return f"refs/remotes/{self._remote}/{self._repo.branch}"

    def tracked(self) -> str | None:
        """The commit of the remote's branch as last seen; None where it has none."""
        try:
            return str(self._repo.thread_repo.references[self._tracking_name()].target)
        except (KeyError, RepoBusy):
            return None

    def _count(self) -> tuple[int, int]:
        head, tracked = self._repo.head(), self.tracked()
        if self._counted is not None and self._counted[:2] == (head, tracked):
            return self._counted[2]
        git = self._repo.thread_repo
        if head is None:
            counts = (0, 0)
        elif tracked is None:
            counts = (sum(1 for _ in git.walk(head)), 0)
        else:
            counts = git.ahead_behind(head, tracked)
        self._counted = (head, tracked, counts)
        return counts

    def _read_state(self) -> dict[str, Any]:
        try:
            state: Any = json.loads((self._repo.git_dir / _STATE_FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return cast("dict[str, Any]", state) if isinstance(state, dict) else {}

    def _write_state(self, state: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a full disk must not hide what happened
            write_atomically(self._repo.git_dir / _STATE_FILE, json.dumps(state, indent=1).encode())

    def record(self, operation: Operation, error: AlgError | None) -> SyncStatus:
        """Note how an attempt ended, and tell where the memory repo stands."""
        with self._state_lock:
            state = self._read_state()
            failures: dict[str, Any] = dict(state.get("failures") or {})
            if error is not None:
                failures[operation] = {
                    "kind": error.details.get("kind") or error.code,
                    "error": str(error.details.get("git") or error.message),
                    "at": _now(),
                }
            elif operation == "fetch":
                if failures.get("pull", {}).get("kind") not in _NOT_MERGED:
                    failures.pop("pull", None)
            else:
                failures.pop(operation, None)
                ahead, _ = self._count()
                if operation == "push":
                    failures.clear()
                elif not ahead:
                    failures.pop("push", None)
            if error is None and self._count() == (0, 0) and self.tracked() is not None:
                state["last_success"] = _now()
            state["failures"] = failures
            self._write_state(state)
            return self._status(state)

    # --- the remote ---------------------------------------------------------------------------------------

    def set_remote(self, url: str) -> None:
        """Name the remote's address.

        Raises:
            InvalidInput: a transport that runs programs (`ext::`), or a password within the address.
        """
        check_remote_url(url)
        known = self.url() is not None
        arguments = ["remote", "set-url", self._remote, url] if known else ["remote", "add", self._remote, url]
        run_git(arguments, cwd=self._repo.path)
        with self._state_lock:
            self._write_state({})

    def remote_branches(self) -> tuple[str | None, tuple[str, ...]]:
        """The remote's default branch (None when it is empty or does not say) and all its branches.

        Raises:
            SyncError: see `pull`.
        """
        listed = self._network(["ls-remote", "--symref", self._remote, "HEAD", "refs/heads/*"], "asking")
        default: str | None = None
        names: list[str] = []
        for line in listed.text.splitlines():
            value, _, name = line.partition("\t")
            if name == "HEAD" and value.startswith("ref: refs/heads/"):
                default = value.removeprefix("ref: refs/heads/")
            elif name.startswith("refs/heads/"):
                names.append(name.removeprefix("refs/heads/"))
        return default if default in names else None, tuple(names)

    def _network(self, arguments: Sequence[str], doing: str, *, check: bool = True) -> GitResult:
        url = self.url()
        if url is None:
            raise sync_error("no_remote", f"the memory repo at {str(self._repo.path)!r} has no remote {self._remote!r}")
        overrides, protocols = ("fetch.fsckObjects=true", "transfer.fsckObjects=true"), ("file",)
        offline = is_offline()
        here = not offline and self._is_here(url)
        if offline:
            addresses = self._addresses(push=arguments[0] == "push")
            found = tuple(map(protocol_here, addresses))
            protocols = tuple(name for name in found if name is not None)
            if len(protocols) < len(found):
                raise self._held_back(doing, addresses[found.index(None)])
            overrides += git_settings_here(self._remote, addresses)
        try:
            result = run_git(
                arguments,
                cwd=self._repo.path,
                timeout=self._patience(),
                check=check,
                overrides=overrides,
                network=not here,
                protocols=protocols,
            )
        except AlgError as error:
            if is_offline() and not offline:  # it began meanwhile, and ended git
                return self._network(arguments, doing, check=check)
            raise from_git(error, operation=doing, remote=mask_credentials(url)) from error
        if result.status != 0 and is_offline() and not offline:
            return self._network(arguments, doing, check=check)
        return result

    def _patience(self) -> float:
        """Seconds that git gets for what it is about to do."""
        if self._until is None:
            return self._timeout
        return max(_LEAST_SECONDS, min(self._timeout, self._until - time.monotonic()))

    def _held_back(self, doing: str, url: str) -> SyncError:
        shown = mask_credentials(url)
        return sync_error("offline", f"offline mode: {doing} {shown!r} is held back, for it is not on this machine")

    def fetch_alone(self) -> None:
        """Learn what the remote has, within an attempt; errors as for `pull`."""
        tracking, before = self._tracking_name(), self.tracked()
        branch = self._repo.branch
        try:
            self._network(
                [*_FETCH, self._remote, f"+refs/heads/{branch}:{tracking}"],
                "fetching from",
            )
        except SyncError as error:
            if error.details.get("kind") != "missing_branch":
                raise
            _, names = self.remote_branches()
            if names:
                raise sync_error(
                    "missing_branch",
                    f"the remote has no branch {branch!r}, only {', '.join(map(repr, names[:5]))}",
                    git=str(error.details.get("git")),
                    branches=list(names),
                ) from error
            if before is not None:  # the remote was emptied: all that is here waits to be pushed again
                self._repo.rescue(before, _mark() + "-remote")
                self._repo.thread_repo.references.delete(tracking)
        after = self.tracked()
        if before is not None and after is not None and before != after:
            git = self._repo.thread_repo
            if not git.descendant_of(after, before):
                self._repo.rescue(before, _mark() + "-remote")  # the remote's history was rewritten
        reach("sync.fetched")

    # --- pull ---------------------------------------------------------------------------------------------

    def fetch(self) -> SyncStatus:
        """Learn what the remote has; nothing here changes but what is known of it. Errors as for `pull`."""
        with self.attempt("pull"):
            self.fetch_alone()
        return self.record("fetch", None)

    def pull(self) -> PullResult:
        """Fetch and merge. The working tree follows; texts that clash are both kept.

        Raises:
            SyncError: `details["kind"]` is one of `no_remote`, `unreachable`, `timeout`, `auth`, `host_key`,
                `access_denied`, `remote_missing`, `missing_branch`, `transport_refused`, `ownership`,
                `corrupt_incoming`, `unrelated_histories`, `shallow_clone`, `secret_incoming`, `unsafe_incoming`,
                `offline` (the mode, not the network), `format_too_new`, `dirty`, `index_lock`, `index_lock_stale`,
                `ref_locked`, `busy`, `other`; `details["git"]` has git's words. Nothing was merged.
            RepoBusy: a rebase or the like is under way.
            LockHeld: another process pulls or pushes.
        """
        with self.attempt("pull"):
            self._repo.check_ready()
            self.fetch_alone()
            result = self.merge()
        return replace(result, status=self.record("pull", None))

    def merge(self) -> PullResult:
        """Merge what was fetched, within an attempt; errors as for `pull`."""
        git = self._repo.thread_repo
        for _ in range(_MERGE_ATTEMPTS):
            self._repo.check_ready()
            ours, theirs = self._repo.head(), self.tracked()
            if ours is None or theirs is None or ours == theirs or git.descendant_of(ours, theirs):
                return PullResult(SyncStatus("pushed"), commit=ours)
            prepared = self._prepare(ours, theirs)
            reach("sync.planned")
            done = self._in_writer(lambda prepared=prepared: self._apply(prepared))
            if done is not None:
                return done
        raise sync_error("busy", "the memory repo's branch keeps moving; nothing was merged")

    def _prepare(self, ours: str, theirs: str) -> _Prepared:
        git = self._repo.thread_repo
        found: Any = git.merge_base(ours, theirs)
        base = str(found) if found is not None else None
        if base is None and ours != MemoryRepo.root_commit_id():
            if (self._repo.git_dir / "shallow").exists():
                raise sync_error(
                    "shallow_clone", "the memory repo is a shallow clone, so what both sides share cannot be known"
                )
            raise sync_error(
                "unrelated_histories", "the memory repo and the remote have no common history; nothing was merged"
            )
        self._check_secrets(theirs, ["--not", ours], "secret_incoming")
        tree = git[base].peel(pygit2.Tree) if base else None
        their_tree = git[theirs].peel(pygit2.Tree)
        their_side = diff_trees(tree, their_tree)
        our_side = diff_trees(tree, git[ours].peel(pygit2.Tree))
        our_files = self._repo.tree_files(ours)
        self._check_incoming(their_side, our_side, our_files)
        plan = plan_merge(our_side, their_side, self._repo.read_blob, taken=our_files.__contains__)
        if base is None:  # only the root commit is here: the remote's files count
            for path, (_, entry) in their_side.items():
                if path in our_side:
                    plan.writes[path] = entry
        return _Prepared(ours, theirs, base == ours, plan)

    def _check_incoming(self, theirs: Side, ours: Side, our_files: dict[str, str]) -> None:
        """Refuse what must not come into the working tree, before anything is merged."""
        incoming = {
            path: new for path, (_, new) in theirs.items() if new is not None and ours.get(path, (None, None))[1] != new
        }
        problems: dict[str, str] = {}
        for path, entry in incoming.items():
            problem = _problem(path, entry)
            if problem:
                problems[path] = problem
        gone = {path for path, (_, new) in theirs.items() if new is None}
        folded: dict[str, str] = {}
        for path in [*(path for path in our_files if path not in gone), *sorted(incoming)]:
            other = folded.setdefault(_folded(path), path)
            if other != path and (path in incoming or other in incoming):
                problems[path] = f"cannot be told from {other!r} on every file system"
        attributes = incoming.get(".gitattributes")
        if attributes and re.search(rb"(?m)^[^#\n]*\sfilter=", self._repo.read_blob(attributes.blob)):
            problems[".gitattributes"] = "sets a filter"
        if problems:
            path, problem = next(iter(sorted(problems.items())))
            more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
            raise sync_error(
                "unsafe_incoming",
                f"the remote has a file that cannot be taken: {path!r} {problem}{more}; nothing was merged",
                paths=dict(sorted(problems.items())),
            )
        marker = incoming.get(FORMAT_PATH)
        try:
            check_format(self._repo.read_blob(marker.blob) if marker else None, where="the remote")
        except FormatTooNew as error:
            raise sync_error("format_too_new", error.message, **error.details) from error

    def _apply(self, prepared: _Prepared) -> PullResult | None:
        """In the writer's thread: None when HEAD has moved since."""
        repo, plan = self._repo, prepared.plan
        if repo.head() != prepared.ours:
            return None
        self._wait_for_index()
        label = f"{self._remote}/{repo.branch}"
        target = prepared.theirs
        if not prepared.fast_forward:
            message = _merge_message(label, plan)
            try:
                target = repo.merge_commit([prepared.ours, prepared.theirs], plan.writes, message)
            except (InvalidInput, UnsafePath) as error:
                raise sync_error("unsafe_incoming", f"the merge cannot be written: {error.message}") from error
        reach("sync.objects_written")
        rescue = repo.rescue(prepared.ours, _mark())
        move = move_between(repo, prepared.ours, target)
        if not carry_out(repo, move, f"alg: pull {label}"):
            return None
        sources = set(plan.renames.values())
        merged = [
            MergedPath(plan.renames.get(path, path if old else None), path if new else None)
            for path, (old, new) in sorted(move.files.items())
            if not (new is None and path in sources)
        ]
        return PullResult(
            SyncStatus("pushed"), tuple(merged), tuple(plan.conflicts), target, tuple(plan.decisions), rescue
        )

    def _wait_for_index(self) -> None:
        deadline = time.monotonic() + 2.0
        while (lock := self._repo.index_lock()) is not None:
            if lock.stale:
                raise sync_error(
                    "index_lock_stale",
                    f"{str(lock.path)!r} was left {lock.age:.0f} seconds ago and no git program runs here",
                    path=str(lock.path),
                )
            if time.monotonic() > deadline:
                raise sync_error("index_lock", f"another git program holds {str(lock.path)!r}", path=str(lock.path))
            time.sleep(0.02)

    # --- push ---------------------------------------------------------------------------------------------

    def push(self) -> PushResult:
        """Push what waits, never by force. When the remote has moved, it is pulled and pushed again, up to five times.

        Raises:
            SyncError: as for `pull`, and `non_fast_forward` (the remote keeps moving), `protected_branch`,
                `hook_rejected`, `checked_out`, `remote_read_only`, `disk_full`, `secret_outgoing`.
            RepoBusy, LockHeld: as for `pull`.
        """
        pulls: list[PullResult] = []
        with self.attempt("push"):
            pushed, commit = self._push(pulls)
        return PushResult(self.record("push", None), pushed, commit, tuple(pulls))

    def _push(self, pulls: list[PullResult]) -> tuple[int, str]:
        for attempt in range(1, _PUSH_ATTEMPTS + 1):
            commit = self._repo.head()
            if commit is None:
                raise sync_error("other", "the memory repo has no commit to push")
            waiting = self._count()[0]
            self.check_outgoing(commit)
            try:
                self.push_once(commit)
            except SyncError as error:
                if error.details.get("kind") not in (MERGE_FIRST, REF_RACE) or attempt == _PUSH_ATTEMPTS:
                    raise
            else:
                return waiting, commit
            time.sleep(uniform(0.0, 0.05 * 2**attempt))  # noqa: S311 - only to keep several clones apart
            self._repo.check_ready()
            self.fetch_alone()
            pulls.append(replace(self.merge(), status=self.status()))
        raise sync_error(MERGE_FIRST, "the remote keeps moving")

    def check_outgoing(self, commit: str) -> None:
        """Scan what a push of `commit` would bring to the remote; raises `SyncError` of the kind `secret_outgoing`."""
        self._check_secrets(commit, ["--not", f"--remotes={self._remote}"], "secret_outgoing")

    def push_once(self, commit: str) -> None:
        """Push one commit, within an attempt; nothing is pulled where the remote has moved. Errors as for `push`."""
        tracking = self._tracking_name()
        result = self._network(
            [*_PUSH, self._remote, f"{commit}:refs/heads/{self._repo.branch}"],
            "pushing to",
            check=False,
        )
        if result.status != 0:
            refused = [line for line in result.text.splitlines() if line.startswith("!")]
            words = "\n".join([*refused, result.stderr]).strip()
            raise from_git(
                GitFailed(f"git push ended with status {result.status}", git=words),
                operation="pushing to",
                remote=mask_credentials(self.url() or self._remote),
                words=mask_credentials(words),
            )
        # Git does so itself only where the remote's refspec is the usual one.
        self._repo.thread_repo.references.create(tracking, commit, force=True)
        reach("sync.pushed")

    # --- both ---------------------------------------------------------------------------------------------

    def _check_secrets(self, commit: str, exclude: list[str], kind: str) -> None:
        """Scan every file and message that the commits bring."""
        listed = run_git(
            ["rev-list", "--objects", commit, *exclude], cwd=self._repo.path, reading=True, timeout=self._timeout
        )
        git = self._repo.thread_repo
        for line in listed.stdout.splitlines():
            name, _, path = line.decode("utf-8", "surrogateescape").partition(" ")
            if name in self._clean:
                continue
            found: Any = git[name]
            where = path or f"the message of commit {name[:12]}"
            try:
                if isinstance(found, pygit2.Blob):
                    self._scan(path, found.data)
                elif isinstance(found, pygit2.Commit):
                    self._scan(f"commit {name[:12]}", found.message.encode("utf-8", "replace"))
            except SecretRefused as error:
                raise sync_error(
                    kind,
                    f"{where!r} has what looks like a credential: {error.message}",
                    path=path,
                    findings=error.details.get("findings"),
                ) from error
            self._clean.add(name)

    @contextlib.contextmanager
    def attempt(self, operation: Operation, *, until: float | None = None) -> Generator[None]:
        """One pull or push at a time in all processes, and its failure noted for `status`.

        Args:
            until: when git's waiting for the network is to end, as of `time.monotonic`.
        """
        try:
            self._until = until
            with ProcessLock(self._repo.git_dir / _LOCK_FILE, timeout=self._patience()):
                yield
        except LockHeld:
            raise
        except AlgError as error:
            if error.details.get("kind") != "offline":  # which is no failure of the remote
                with contextlib.suppress(AlgError):
                    self.record(operation, error)
            raise
        finally:
            self._until = None


def check_remote_url(url: str) -> str:
    """`url` if it is an address that can be a remote: a path, or ssh, https, http, git or file.

    Raises:
        InvalidInput: another transport, a password within, or no address at all.
    """
    shown = mask_credentials(url)
    if not url.strip() or url.startswith("-") or any(ord(char) < 0x20 or ord(char) == 0x7F for char in url):
        raise InvalidInput(f"{shown!r} is not the address of a remote")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*::", url):
        raise InvalidInput(f"{shown!r} names a transport that runs a program", hint="Use a path, or ssh or https.")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/@]*)@)?", url)
    if scheme is None:
        return url
    if scheme[1].lower() not in ("ssh", "https", "http", "git", "file", "git+ssh", "ssh+git"):
        raise InvalidInput(f"{shown!r} has a transport that is not supported", hint="Use a path, or ssh or https.")
    if scheme[2] and (":" in scheme[2] or re.match(r"gh[pousr]_|github_pat_|glpat-", scheme[2])):
        raise InvalidInput(
            f"{shown!r} has a password or token in it, which git would keep in plain text and show in messages",
            hint="Leave it out and set up a git credential helper, or use ssh.",
        )
    return url


def _problem(path: str, entry: Entry) -> str | None:
    if not is_file(entry):
        return "is a symbolic link" if entry.mode == 0o120000 else "is not a regular file"
    try:
        path.encode("utf-8")
        check_path(path)
    except (UnicodeEncodeError, UnsafePath):
        return "is not a safe path"
    return None


def _folded(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _merge_message(label: str, plan: MergePlan) -> str:
    shown: Iterable[str] = plan.decisions[:_DECISIONS_SHOWN]
    lines = [f"Merge {label}", ""]
    lines += [f"- {one_line(decision)}" for decision in shown]
    if len(plan.decisions) > _DECISIONS_SHOWN:
        lines.append(f"- and {len(plan.decisions) - _DECISIONS_SHOWN} more")
    if plan.decisions:
        lines.append("")
    return "\n".join([*lines, "Agent: sync"]) + "\n"


def _mark() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ").replace(".", "-")


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None
