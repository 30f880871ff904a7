"""Running the git program: argument lists, a hardened environment, bounded time and output, masked messages.

Used for what git does better than a library: the network, `log --follow`, the index, `gc`, configuration. Nothing in
a repository may make it run a program: hooks, file-system monitors, pagers and signing are off, helper transports
(`ext::`) are refused, and nobody is asked for a password. In offline mode git may use no transport but `file`, and a
git that uses the network when that begins is killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from adaptive_llm_gateway.core import DeferredInterrupt, SecretScanner, StorageError, is_offline, when_offline
from adaptive_llm_gateway.memory._sync_progress import is_git_progress

DEFAULT_TIMEOUT = 30.0
OUTPUT_LIMIT = 64 * 1024 * 1024
STDERR_LIMIT = 64 * 1024
_LONGEST_LINE = 8 * 1024

# A repository's own configuration is its user's, yet what it names must not run because the hub looked at it.
_OVERRIDES = (
    "protocol.ext.allow=never",
    "protocol.fd.allow=never",
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.pager=cat",
    "core.quotePath=false",
    "core.askPass=",
    "credential.interactive=never",
    "log.showSignature=false",
    "commit.gpgSign=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "push.followTags=false",
    "push.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
)

# Of the caller's GIT_* variables only these reach git: GIT_DIR and its kind would point it elsewhere (a hub started
# from a hook has them), GIT_TRACE and its kind would print what must not be printed.
_KEPT = frozenset(
    {
        "GIT_SSH",
        "GIT_SSH_COMMAND",
        "GIT_SSH_VARIANT",
        "GIT_CONFIG_GLOBAL",
        "GIT_CONFIG_SYSTEM",
        "GIT_CONFIG_NOSYSTEM",
        "GIT_CONFIG_COUNT",
        "GIT_EXEC_PATH",
        "GIT_SSL_CAINFO",
        "GIT_SSL_CAPATH",
        "GIT_SSL_CERT",
        "GIT_SSL_KEY",
        "GIT_SSL_NO_VERIFY",
        "GIT_PROXY_COMMAND",
        "GIT_COMMITTER_NAME",
        "GIT_COMMITTER_EMAIL",
    }
)
_KEPT_PREFIXES = ("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_")
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})

_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^/\s'\"]+)@")
_SCANNER = SecretScanner()
_QUERY = re.compile(r"(?i)([?&][\w.-]*(?:token|password|passwd|secret|key|auth|sig)[\w.-]*=)[^&\s'\"]+")
_HEADER = re.compile(r"(?i)(authorization:\s*\w+\s+)\S+")


@dataclass(frozen=True, slots=True)
class GitResult:
    """What a git process left: exit status, standard output, and standard error as text with credentials masked."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are kept as surrogates."""
        return self.stdout.decode("utf-8", "surrogateescape")


class GitFailed(StorageError):
    """git ended with an error; `details` has `status`, `git` (its words, masked) and `operation` (its subcommand)."""

    code = "git_failed"


class GitTimeout(StorageError):
    """git did not end in time and was killed with everything it had started."""

    code = "git_timeout"


class GitMissing(StorageError):
    """The git program is not installed, or not on PATH."""

    code = "git_missing"


def mask_credentials(text: str) -> str:
    """`text` with passwords and tokens in URLs and authorization headers replaced by `***`, and with marks for
    credentials anywhere else in it, such as a token in an address' path.

    A user name alone is masked too in http(s) URLs, where it may be a token; `ssh://git@host` stays readable.
    """

    def masked(match: re.Match[str]) -> str:
        scheme, user = match["scheme"], match["user"]
        if ":" not in user and not scheme.lower().startswith(("http", "ftp")):
            return match[0]
        return f"{scheme}***@"

    return _SCANNER.redact(_QUERY.sub(r"\1***", _HEADER.sub(r"\1***", _USERINFO.sub(masked, text))))[0]


def git_environment(
    base: Mapping[str, str] | None = None, *, reading: bool = False, offline: Sequence[str] | None = None
) -> dict[str, str]:
    """The environment for git, from `base` (default: this process's): nothing prompts, speaks a local language or
    points git at another repository. With `reading` git takes no lock just to refresh what it knows.

    Args:
        offline: in offline mode, the transports that git may use; `None`: it is not offline.
    """
    source = os.environ if base is None else base
    environment = {
        name: value
        for name, value in source.items()
        if not name.startswith("GIT_") or name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    environment |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        "SSH_ASKPASS_REQUIRE": "never",
        "GCM_INTERACTIVE": "never",
        "GIT_PAGER": "cat",
        "GIT_EDITOR": "false",
        "LC_ALL": "C",
        "LANGUAGE": "C",
        # What is merged and pushed is what the objects hold, not what `git replace` shows in their place.
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
    environment.pop("SSH_ASKPASS", None)
    if offline is not None:
        for name in [name for name in environment if name.lower() in _PROXIES or name == "GIT_PROXY_COMMAND"]:
            del environment[name]
        # Above all settings; and a partial clone must not fetch what it lacks.
        environment |= {"GIT_ALLOW_PROTOCOL": ":".join(offline), "GIT_NO_LAZY_FETCH": "1"}
    if reading:
        environment["GIT_OPTIONAL_LOCKS"] = "0"
    return environment


def git_command(arguments: Sequence[str], overrides: Sequence[str] = ()) -> list[str]:
    """The command line of a hardened git, with further `key=value` settings."""
    settings: list[str] = []
    for setting in (*_OVERRIDES, *overrides):
        settings += ["-c", setting]
    return ["git", *settings, *arguments]


def run_git(
    arguments: Sequence[str],
    *,
    cwd: Path,
    stdin: bytes = b"",
    timeout: float = DEFAULT_TIMEOUT,
    check: bool = True,
    reading: bool = False,
    overrides: Sequence[str] = (),
    plain: bool = False,
    output_limit: int = OUTPUT_LIMIT,
    index: Path | None = None,
    network: bool | Callable[[], bool] = False,
    protocols: Sequence[str] = ("file",),
    stall: float | None = None,
    on_progress: Callable[[str], None] | None = None,
    alone: bool = False,
) -> GitResult:
    """Run `git <arguments>` in `cwd` and wait for it.

    Args:
        arguments: subcommand and its arguments; data from outside goes behind `--` or `--end-of-options`.
        timeout: seconds; then git and all it started are killed.
        check: raise when git ends with an error.
        reading: take no optional locks.
        overrides: further `key=value` settings.
        plain: without this module's own settings, to read the user's configuration as it is.
        output_limit: bytes of standard output; more is an error.
        index: the file to take for the repository's index.
        network: it may reach a remote, and is killed when offline mode begins; or what tells then whether it may.
        protocols: transports that it may use in offline mode.
        stall: seconds without any output, after which it is stopped as well.
        on_progress: given each line in which git says how far it is (`--progress`); these lines are not kept.
        alone: it uses no transport at all, whatever the mode: what a partial clone lacks stays missing.

    Raises:
        GitFailed, GitTimeout, GitMissing: all of them `StorageError`.
    """
    command = ["git", *arguments] if plain else git_command(arguments, overrides)
    operation = arguments[0]
    offline = is_offline()
    environment = git_environment(reading=reading, offline=() if alone else protocols if offline else None)
    if index is not None:
        environment["GIT_INDEX_FILE"] = str(index)
    with DeferredInterrupt() as interrupt:
        process = start_git(command, cwd, environment)
        assert process.stdin is not None  # noqa: S101 - pipes were asked for
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        out = _Drain(process.stdout, output_limit)
        err = _Drain(process.stderr, STDERR_LIMIT, tail=True, on_progress=on_progress)
        feeder = threading.Thread(target=_feed, args=(process.stdin, stdin), daemon=True)
        for thread in (out, err, feeder):
            thread.start()
        _running.add(process)
        try:
            interrupt.end()
            with _ended_by_offline(process, network) if network and not offline else contextlib.nullcontext():
                status = wait_for(process, timeout) if stall is None else _wait(process, timeout, stall, out, err)
        except (_Stalled, subprocess.TimeoutExpired) as error:
            _kill_group(process)
            _finish(process, out, err, feeder)
            silent = isinstance(error, _Stalled)
            how = f"heard nothing for {stall:g} seconds" if silent else f"did not end within {timeout:g} seconds"
            raise GitTimeout(
                f"git {operation} {how} and was stopped",
                hint="Check the network and the remote, or allow more time.",
                operation=operation,
                git=err.text(),
            ) from error
        except BaseException:
            _kill_group(process)
            _finish(process, out, err, feeder)
            raise
        finally:
            _running.discard(process)
    if not _finish(process, out, err, feeder, grace=2.0):
        _kill_group(process)  # a child of git still holds the pipes
        _finish(process, out, err, feeder)
    if out.overflowed:
        raise GitFailed(
            f"git {operation} wrote more than {output_limit} bytes",
            operation=operation,
            status=status,
            git=err.text(),
        )
    words = err.text()
    if check and status != 0:
        raise GitFailed(
            f"git {operation} failed: {words or f'exit status {status}'}",
            operation=operation,
            status=status,
            git=words,
        )
    return GitResult(status, out.data(), words)


def start_git(
    command: list[str], cwd: Path, environment: dict[str, str], *, stderr: int = subprocess.PIPE, buffered: bool = True
) -> subprocess.Popen[bytes]:
    """git with pipes, in a session of its own: who starts it ends it, also after Ctrl-C (`DeferredInterrupt`).

    Raises:
        GitMissing, StorageError: it does not start.
    """
    try:
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=-1 if buffered else 0,
            start_new_session=True,  # a group of its own to kill, and no terminal for ssh to ask on
        )
    except FileNotFoundError as error:
        if not cwd.is_dir():
            raise StorageError(f"the folder {str(cwd)!r} is gone", path=str(cwd)) from error
        raise GitMissing(
            "the git program was not found", hint="Install git 2.30 or newer and put it on PATH."
        ) from error
    except OSError as error:
        raise StorageError(f"git could not be started: {error.strerror}") from error


def wait_for(process: subprocess.Popen[bytes], timeout: float) -> int:
    """As `Popen.wait`, which where a time is given looks up to 50 ms too late: git often takes less than that."""
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):  # an old kernel, or no handle left
            handle = os.pidfd_open(process.pid)
            try:
                ended = select.poll()
                ended.register(handle, select.POLLIN)
                if ended.poll(timeout * 1_000):
                    return process.wait()
            finally:
                os.close(handle)
            raise subprocess.TimeoutExpired(process.args, timeout)
    return process.wait(timeout)


class _Stalled(Exception):
    pass


def _wait(process: subprocess.Popen[bytes], timeout: float, stall: float, *pipes: _Drain) -> int:
    """Wait for the process while it says something; its exit status."""
    end = time.monotonic() + timeout
    while True:
        heard = max(pipe.heard for pipe in pipes)
        until = min(heard + stall, end)
        try:
            return wait_for(process, max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end:
                raise
            if max(pipe.heard for pipe in pipes) == heard:
                raise _Stalled from None


_leaving: dict[subprocess.Popen[bytes], bool | Callable[[], bool]] = {}


@contextlib.contextmanager
def _ended_by_offline(process: subprocess.Popen[bytes], leaves: bool | Callable[[], bool]) -> Generator[None]:
    _leaving[process] = leaves
    try:
        if is_offline():  # since it was started
            _end_what_leaves()
        yield
    finally:
        _leaving.pop(process, None)


def _end_what_leaves() -> None:
    # First those of which nothing has to be asked.
    for process, leaves in sorted(_leaving.copy().items(), key=lambda item: callable(item[1])):
        if leaves() if callable(leaves) else leaves:
            _kill_group(process)


when_offline(_end_what_leaves)


class _Drain(threading.Thread):
    """Reads a pipe to its end, keeps at most `limit` bytes (the first ones, or with `tail` the last).

    Args:
        on_progress: given the lines that only say how far git is, which are not kept.
    """

    def __init__(
        self,
        pipe: IO[bytes],
        limit: int,
        *,
        tail: bool = False,
        on_progress: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self._on_progress = on_progress
        self._line = b""
        self.heard = time.monotonic()
        self._pipe, self._limit, self._tail = pipe, limit, tail
        self._chunks: list[bytes] = []
        self._kept = 0
        self.overflowed = False

    def run(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while chunk := self._pipe.read1(1 << 16):  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] - BufferedReader
                self.heard = time.monotonic()
                self._take(bytes(chunk))  # pyright: ignore[reportUnknownArgumentType]

        if self._line:
            self._keep(self._line)

    def _take(self, chunk: bytes) -> None:
        if self._on_progress is None:
            self._keep(chunk)
            return
        *lines, rest = re.split(rb"(?<=[\r\n])", self._line + chunk)
        self._line = rest[-_LONGEST_LINE:]
        for line in lines:
            text = line.decode("utf-8", "replace")
            if is_git_progress(text):
                self._on_progress(text)
            elif line.strip():
                self._keep(line.rstrip(b"\r\n") + b"\n")

    def _keep(self, chunk: bytes) -> None:
        if self._kept + len(chunk) <= self._limit:
            self._chunks.append(chunk)
            self._kept += len(chunk)
            return
        self.overflowed = True
        if self._tail:
            joined = (b"".join(self._chunks) + chunk)[-self._limit :]
            self._chunks, self._kept = [joined], len(joined)

    def data(self) -> bytes:
        return b"".join(self._chunks)

    def text(self) -> str:
        return mask_credentials(self.data().decode("utf-8", "replace")).strip()


def _feed(pipe: IO[bytes], data: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):
        pipe.write(data)
    with contextlib.suppress(OSError, ValueError):
        pipe.close()


def _finish(
    process: subprocess.Popen[bytes],
    out: _Drain,
    err: _Drain,
    feeder: threading.Thread,
    *,
    grace: float = 5.0,
) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    for thread in (out, err, feeder):
        thread.join(grace)
    if any(thread.is_alive() for thread in (out, err, feeder)):
        return False
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return True


_running: set[subprocess.Popen[bytes]] = set()


def end_git() -> None:
    """Kill every git that this process runs and all it started: for who is about to end and cannot wait for them."""
    for process in list(_running):
        _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False, timeout=10)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
