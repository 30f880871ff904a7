"""One git remote of the memory repo: its address, asking it, fetching from it, pushing to it. Nothing here merges."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pygit2

from adaptive_llm_gateway.core import AlgError, InvalidInput, RepoBusy, SyncError, counted, is_offline, reach
from adaptive_llm_gateway.memory._commit_count import commits_beyond
from adaptive_llm_gateway.memory._git import GitFailed, GitResult, mask_credentials, run_git
from adaptive_llm_gateway.memory._offline import git_settings_here, protocol_here
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync_errors import REF_LOCKED, from_git, sync_error
from adaptive_llm_gateway.memory._sync_model import Answered, Notice
from adaptive_llm_gateway.memory._sync_progress import Progress
from adaptive_llm_gateway.memory._values import SyncKind

_FETCH = ("fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--refmap=", "--end-of-options")
_PUSH = ("push", "--porcelain", "--progress", "--no-verify")
_KNOWN_SECONDS = 5.0
_TRANSPORTS = frozenset({"ssh", "https", "http", "git", "file", "git+ssh", "ssh+git"})
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/]*)@)?")

# What git's check of incoming objects finds and a pull goes on with all the same. Single paths that no work tree may
# have are held back one by one; a date or name written oddly harms nobody. Damage, trees with a name twice or out of
# order, and commits that cannot be read stay errors.
_HELD_BACK_BY_PATH = (
    "hasDot", "hasDotdot", "hasDotgit", "fullPathname", "nullSha1", "zeroPaddedFilemode", "badFilemode",
    "gitmodulesBlob", "gitmodulesLarge", "gitmodulesMissing", "gitmodulesName", "gitmodulesParse", "gitmodulesPath",
    "gitmodulesSymlink", "gitmodulesUpdate", "gitmodulesUrl", "gitignoreSymlink", "gitattributesSymlink",
    "mailmapSymlink",
)  # fmt: skip
_HARMLESS = (
    "badEmail", "badName", "badTimezone", "missingNameBeforeEmail", "missingSpaceBeforeDate", "nulInCommit",
    "zeroPaddedDate",
)  # fmt: skip
_CHECKS = (
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    *(f"fetch.fsck.{name}=ignore" for name in (*_HELD_BACK_BY_PATH, *_HARMLESS)),
    # The branch moves to what was fetched, which by default git does not flush to disk; all at once is two flushes.
    "core.fsync=committed,reference",
    "core.fsyncMethod=batch",
)
_MOST_TIMES = 60  # the timeout: how long a fetch or push may go on while data comes
_LEAST_SECONDS = 1.0  # for git, however late it is
_CLOCKS_APART = timedelta(minutes=10)
_FAR_SECONDS = 1e10  # 300 years


class Remote:
    """The remote that a memory repo is synced with. Errors are `SyncError`s as `Sync.pull` lists them.

    Args:
        repo: read, and told what the remote has (remote-tracking reference, rescue references); nothing else changes.
        name: git's name for the remote.
        timeout: seconds that the remote may be silent in each git command that uses the network.
        read_only: nothing is ever pushed.
    """

    def __init__(
        self, repo: MemoryRepo, name: str = "origin", *, timeout: float = 60.0, read_only: bool = False
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise InvalidInput(f"{name!r} cannot be the name of a remote")
        self._repo, self.name, self._timeout, self.read_only = repo, name, timeout, read_only
        self.progress = Progress()
        self.until: float | None = None
        """When git's waiting for the network is to end, as of `time.monotonic`; None: after `timeout`."""
        self.is_the_same: Callable[[], bool] = lambda: True
        """Whether what git remembers is of this remote, and not of one that had its name before."""
        self.answered: Callable[[], None] = lambda: None
        """Called once it was fetched from or pushed to, before anything else happens."""
        self._place: tuple[str, float, bool] | None = None  # address, when it was looked at, whether it is here
        self._answers: list[Answered] = []
        # Where the branch was when a push found it elsewhere; and where a fetch has found it there after all, for the
        # remote hides it from pushes.
        self._doubted: str | None = None
        self._hidden: str | None = None

    @property
    def label(self) -> str:
        """The remote's branch, for people: `origin/main`."""
        return f"{self.name}/{self._repo.branch}"

    def url(self) -> str | None:
        """The remote's address as configured, credentials and all; None without a remote."""
        try:
            return self._repo.thread_repo.remotes[self.name].url
        except (KeyError, ValueError):
            return None

    def is_here(self, url: str) -> bool:
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
        listed = run_git(["remote", "get-url", "--all", *kind, self.name], cwd=self._repo.path, reading=True)
        return tuple(listed.text.splitlines())

    def _pushes_elsewhere(self) -> bool:
        """Whether git's settings name other addresses for pushes: what was fetched need not be there."""
        return self._addresses(push=True) != self._addresses(push=False)

    def _tracking_name(self) -> str:
        return f"refs/remotes/{self.name}/{self._repo.branch}"

    def tracked(self) -> str | None:
        """The commit of the remote's branch as last seen; None where it has none."""
        try:
            return str(self._repo.thread_repo.references[self._tracking_name()].target)
        except (KeyError, RepoBusy):
            return None

    def set_url(self, url: str) -> None:
        """Name the remote's address.

        Raises:
            InvalidInput: a transport that runs programs (`ext::`), or a password within the address.
        """
        check_remote_url(url)
        known = self.url() is not None
        arguments = ["remote", "set-url", self.name, url] if known else ["remote", "add", self.name, url]
        run_git(arguments, cwd=self._repo.path)

    def branches(self) -> tuple[str | None, tuple[str, ...]]:
        """The remote's default branch (None when it is empty or does not say) and all its branches.

        Raises:
            SyncError: see `Sync.pull`.
        """
        listed = self._network(["ls-remote", "--symref", self.name, "HEAD", "refs/heads/*"], "asking")
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
            raise sync_error("no_remote", f"the memory repo at {str(self._repo.path)!r} has no remote {self.name!r}")
        self._check_transport(doing)
        overrides, protocols = _CHECKS, ("file",)
        offline = is_offline()
        if offline:
            addresses = self._addresses(push=arguments[0] == "push")
            found = tuple(map(protocol_here, addresses))
            protocols = tuple(name for name in found if name is not None)
            if len(protocols) < len(found):
                raise self._held_back(doing, addresses[found.index(None)])
            overrides += git_settings_here(self.name, addresses)
        self.progress.phase(f"{doing} the remote")
        try:
            result = run_git(
                arguments,
                cwd=self._repo.path,
                timeout=self._longest(),
                stall=self.patience(),
                on_progress=self.progress.git_says,
                check=check,
                overrides=overrides,
                # Asked only if offline mode begins meanwhile: git has to be started to know.
                network=protocol_here(url) is None or (lambda: not self.is_here(url)),
                protocols=protocols,
            )
        except AlgError as error:
            if is_offline() and not offline:  # it began meanwhile, and ended git
                return self._network(arguments, doing, check=check)
            raise from_git(error, operation=doing, remote=mask_credentials(url)) from error
        if result.status != 0 and is_offline() and not offline:
            return self._network(arguments, doing, check=check)
        return result

    def _check_transport(self, doing: str) -> None:
        """Refuse addresses, after git's rewriting of them, that name a program to be run (`foo::`, `foo://`)."""
        remote = self._repo.thread_repo.remotes[self.name]
        for address in (remote.url, remote.push_url):
            if address and not _is_usual(address):
                raise sync_error(
                    "transport_refused",
                    f"{doing} {mask_credentials(address)!r} is refused: such an address runs a program",
                )

    def patience(self) -> float:
        """Seconds that the remote may be silent."""
        if self.until is None:
            return self._timeout
        return max(_LEAST_SECONDS, min(self._timeout, self.until - time.monotonic()))

    def _longest(self) -> float:
        """Seconds that git gets at most, while data comes."""
        if self.until is None:
            return self._timeout * _MOST_TIMES
        return max(_LEAST_SECONDS, self.until - time.monotonic())

    def _held_back(self, doing: str, url: str) -> SyncError:
        shown = mask_credentials(url)
        return sync_error("offline", f"offline mode: {doing} {shown!r} is held back, for it is not on this machine")

    def take_answers(self) -> tuple[Answered, ...]:
        """When the remote's branch was seen since the last time that this was asked, and what should be known of it."""
        answers, self._answers = self._answers, []
        return tuple(answers)

    def fetch(self) -> None:
        """Learn what the remote has. A history that it rewrote, or lost, is kept by a rescue reference."""
        tracking, before = self._tracking_name(), self.tracked()
        branch, same = self._repo.branch, self.is_the_same()
        found: list[Notice] = []
        fetch = [*_FETCH, self.name, f"+refs/heads/{branch}:{tracking}"]
        try:
            answer: GitResult | None = self._network(fetch, "fetching from")
        except SyncError as error:
            if error.details.get("kind") != "missing_branch":
                raise
            answer = None
            _, names = self.branches()
            if branch in names:  # somebody has pushed it since
                answer = self._network(fetch, "fetching from")
            else:
                if before is not None:  # it was emptied, or the branch renamed: all that is here waits to be pushed
                    kept = self._repo.rescue(before, mark() + "-remote")
                    self._repo.thread_repo.references.delete(tracking)
                    text = f"the remote was emptied: its branch {branch!r} is gone; what it had is kept here as {kept}"
                    found += [Notice("remote_emptied", text, _now())] if same and not names else []
                if names:
                    raise sync_error(
                        "missing_branch",
                        f"the remote has no branch {branch!r}, only {', '.join(map(repr, names[:5]))}",
                        git=str(error.details.get("git")),
                        branches=list(names),
                    ) from error
        after = self.tracked()
        if before is not None and after is not None and before != after:
            git = self._repo.thread_repo
            if not git.descendant_of(after, before):
                kept = self._repo.rescue(before, mark() + "-remote")
                text = (
                    f"the remote's history was rewritten: it does not have commit {before[:12]} any more; that is kept "
                    f"here as {kept}"
                )
                found += [Notice("history_rewritten", text, _now())] if same else []
        if after is not None and after == self._doubted and not self._pushes_elsewhere():
            self._hidden = after
        found += self._clock(after)
        if answer is not None:
            found += _redirected(answer)
        looked: tuple[SyncKind, ...] = ("clock",) if answer is None else ("clock", "remote_moved")
        self._answers.append(Answered(_now(), tuple(found), frozenset(looked)))
        self.answered()
        reach("sync.fetched")

    def _clock(self, commit: str | None) -> list[Notice]:
        """What a commit from the future says: a clock is wrong, and of two edits the later one wins."""
        if commit is None:
            return []
        made, now = self._repo.thread_repo[commit].peel(pygit2.Commit), _now()
        # Somebody may have given it any time at all.
        ahead = timedelta(seconds=min(max(made.commit_time - now.timestamp(), 0.0), _FAR_SECONDS))
        if ahead < _CLOCKS_APART:
            return []
        text = (
            f"the remote's newest commit is from {_in_words(ahead)} in the future: the clock of the machine that made "
            "it is wrong, or the one here"
        )
        return [Notice("clock", text, now)]

    def check_writable(self) -> None:
        """Make sure that something may be pushed at all; raises a `SyncError` of the kind `pull_only`."""
        if self.read_only:
            shown = mask_credentials(self.url() or self.name)
            raise sync_error("pull_only", f"{shown!r} is only read from here; nothing is pushed")

    def push(self, commit: str) -> int:
        """Push one commit, never by force; nothing is pulled where the remote has moved. Errors as for `Sync.push`.

        Nor is anything pushed where its branch went back or away since it was last seen: somebody may have taken
        something out of it, which this commit would bring back before anybody had looked.

        Returns:
            how many commits its branch did not have before.
        """
        self.check_writable()
        tracking, branch = self._tracking_name(), f"refs/heads/{self._repo.branch}"
        before = self.tracked() if self.is_the_same() else None
        git = self._repo.thread_repo
        # With a lease git would force what is no descendant.
        follows = before is not None and (commit == before or git.descendant_of(commit, before))
        lease = [f"--force-with-lease={branch}:{before}"] if follows and before != self._hidden else []
        result = self._network(
            [*_PUSH, *lease, "--end-of-options", self.name, f"{commit}:{branch}"],
            "pushing to",
            check=False,
        )
        if result.status != 0:
            refused = [line for line in result.text.splitlines() if line.startswith("!")]
            words = "\n".join([*refused, result.stderr]).strip()
            self._doubted = before if lease and "(stale info)" in words else None
            raise from_git(
                GitFailed(f"git push ended with status {result.status}", git=words),
                operation="pushing to",
                remote=mask_credentials(self.url() or self.name),
                words=mask_credentials(words),
            )
        # Git does so itself only where the remote's refspec is the usual one.
        try:
            self._repo.thread_repo.references.create(tracking, commit, force=True)
        except (pygit2.GitError, OSError, ValueError) as error:
            if "lock" not in str(error).lower():
                raise
            text = f"the remote has it, but {tracking!r} cannot be brought up to date: {error}"
            raise sync_error(REF_LOCKED, text, git=str(error)) from error
        self._answers.append(Answered(_now(), tuple(_redirected(result)), frozenset({"remote_moved"})))
        self.answered()
        reach("sync.pushed")
        return self._pushed(commit, result.text)

    def _pushed(self, commit: str, said: str) -> int:
        """How many commits were new to the remote's branch, by what git says (`--porcelain`)."""
        git = self._repo.thread_repo
        told = re.search(r"(?m)^([ *=])\t[^\t\n]*\t(?:([0-9a-f]+)\.\.[0-9a-f]+)?", said)
        if told is None or told[1] == "=":
            return 0
        if told[2] is None:  # it had no such branch
            return sum(1 for _ in git.walk(commit))
        return commits_beyond(git, commit, str(git.revparse_single(told[2]).id))


def check_remote_url(url: str) -> str:
    """`url` if it is an address that can be a remote: a path, or ssh, https, http, git or file.

    Raises:
        InvalidInput: another transport, a password within, or no address at all.
    """
    shown = mask_credentials(url)
    if not url.strip() or url.startswith("-") or any(ord(char) < 0x20 or ord(char) == 0x7F for char in url):
        raise InvalidInput(f"{shown!r} is not the address of a remote")
    if _HELPER.match(url):
        raise InvalidInput(f"{shown!r} names a transport that runs a program", hint="Use a path, or ssh or https.")
    scheme = _SCHEME.match(url)
    if scheme is None:
        return url
    if not _is_usual(url):
        raise InvalidInput(f"{shown!r} has a transport that is not supported", hint="Use a path, or ssh or https.")
    if scheme[2] and (":" in scheme[2] or re.match(r"gh[pousr]_|github_pat_|glpat-", scheme[2])):
        raise InvalidInput(
            f"{shown!r} has a password or token in it, which git would keep in plain text and show in messages",
            hint="Leave it out and set up a git credential helper, or use ssh.",
        )
    return url


def _now() -> datetime:
    return datetime.now(UTC)


def _redirected(answer: GitResult) -> list[Notice]:
    """What git says of an address that led it elsewhere."""
    moved = re.search(r"(?m)^warning: redirecting to (\S+)", answer.stderr)
    text = f"the remote's address leads to another one: {moved[1]!r}" if moved else ""
    return [Notice("remote_moved", text, _now())] if moved else []


def _in_words(time: timedelta) -> str:
    """`25 minutes`, `5 hours`, `3 days`, the unit in which it is no small number."""
    for unit, name in ((86_400, "day"), (3_600, "hour")):
        if (count := round(time.total_seconds() / unit)) > 2:
            return counted(count, name)
    return counted(round(time.total_seconds() / 60), "minute")


def _is_usual(address: str) -> bool:
    """Whether git reaches this address by itself, without a program that the address, or its kind, names."""
    scheme = _SCHEME.match(address)
    return not _HELPER.match(address) and (scheme is None or scheme[1].lower() in _TRANSPORTS)


def mark() -> str:
    """A name for a rescue reference that sorts by time."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ").replace(".", "-")
