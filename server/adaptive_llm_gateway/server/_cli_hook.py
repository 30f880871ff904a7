"""`alg handoff checkpoint --hook`: what a client runs when it compacts a session, or ends one.

The client waits for it, may read its stdout, and may take an exit code for an objection. So stdout stays empty, the
exit code is 0 whatever happens, and after a second at most it is over: the question to the hub is put by a process of
its own, which goes on where that takes longer, also when the client takes its own processes down. Standard library
only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, TextIO

from adaptive_llm_gateway.core import AlgError, InvalidInput
from adaptive_llm_gateway.core._paths import home_root
from adaptive_llm_gateway.server._process import state_and_start

Json = dict[str, Any]

_PATIENCE = 0.8
"""Seconds after which the client goes on, from the start of this process."""
_LEAST = 0.1
"""Seconds that the hub has in any case: on a busy machine the interpreter's own start takes long."""
_STARTING = 0.3
"""Seconds that the start took, where the system does not tell."""
_LONGEST = 120
"""Seconds after which the process that goes on gives up."""
_TRANSCRIPT_SECONDS = 10.0
"""Seconds that a transcript may take to be there: a client may begin to write it only once its hook has been called."""
_MOST = 1024 * 1024
"""Bytes of stdin; what a client says of its session has less."""
_MOST_LINES = 20
"""Sessions of which the file tells why they have no checkpoint."""
_MADE = "made"
_VALUES = ("--session", "--directory", "--transcript", "--client", "--project", "--trust")
_FLAGS = ("--patch", "--end", "--hook", "--json")


def run(root: str | None, words: Sequence[str]) -> int:
    """Have the checkpoint made; always 0, with a line on stderr when there is none.

    Args:
        root: the home; None: the default one.
        words: the arguments behind `checkpoint`.
    """
    until = time.monotonic() + max(_LEAST, _PATIENCE - _since_start())
    try:
        given = parse(words)
        data = given["said"].encode("utf-8", "surrogateescape") if "said" in given else _read_stdin(until)
        asked = arguments(given, data, until)
        problem = _ask(home_root(root), asked, until)
    except AlgError as error:
        problem = f"no checkpoint: {error}"
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the client's work is worth more than a trace
        problem = f"no checkpoint: {type(error).__name__}: {error}"
    if problem:
        complain(problem)
    return 0


def _since_start() -> float:
    """Seconds since this process was started."""
    found = state_and_start()
    if found is None:
        return _STARTING
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - int(found[1]) / os.sysconf("SC_CLK_TCK"))


def complain(problem: str) -> None:
    """Say on stderr, in one line, why there is no checkpoint, or not yet."""
    from adaptive_llm_gateway.server._cli_output import harmless  # noqa: PLC0415

    stderr: TextIO | None = sys.stderr  # a process may be started without
    if stderr is not None:
        with contextlib.suppress(OSError):
            stderr.write(f"alg: {harmless(' '.join(problem.split()))}\n")
            stderr.flush()


def parse(words: Sequence[str]) -> Json:
    """The options, by name without dashes.

    Raises:
        InvalidInput: one that there is not, or without its value.
    """
    given: Json = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in _VALUES:
            found = value if equals else next(rest, "")
            if not found:
                raise InvalidInput(f"{name!r} needs a value")
            given[name[2:]] = found
        elif word in _FLAGS:
            given[word[2:]] = True
        elif word.startswith("{"):  # some clients say it as an argument
            given["said"] = word
        else:
            raise InvalidInput(f"{word!r} is no option of `alg handoff checkpoint`")
    return given


def arguments(given: Json, data: bytes, until: float) -> Json:
    """What the hub is asked, from the options and the client's JSON; options come first.

    Args:
        until: when to stop looking for a transcript, by the monotonic clock.

    Raises:
        InvalidInput: there is nothing to tell the session by.
    """
    said = _said(data, until, needed=not given.keys() & {"session", "transcript"})
    here = given.get("directory") or said.get("directory") or ""
    transcript = given.get("transcript") or said.get("transcript")
    asked: Json = {
        "session_id": given.get("session") or said.get("session_id"),
        "directory": _absolute(here),
        "transcript": _absolute(transcript) if transcript else None,
        "client": given.get("client") or said.get("client"),
        "project": given.get("project"),
        "trust": given.get("trust"),
        "patch": given.get("patch"),
        "end": given.get("end") or said.get("end"),
    }
    return {name: value for name, value in asked.items() if value}


def _absolute(path: str) -> str:
    here = os.getcwd()  # noqa: PTH109
    return os.path.join(here, os.path.expanduser(path)) if path else here  # noqa: PTH111, PTH118


def _read_stdin(until: float) -> bytes:
    """What comes until the end, or the time; a client may leave its end open."""
    got = b""
    try:
        if os.isatty(0):
            return b""
        while len(got) <= _MOST and select.select([0], [], [], max(0.0, until - time.monotonic()))[0]:
            part = os.read(0, 65_536)
            if not part:
                break
            got += part
            if got.rstrip().endswith(b"}") and _is_json(got):
                break
    except (OSError, ValueError):  # started without any
        pass
    return got


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


def _said(data: bytes, until: float, *, needed: bool) -> Json:
    """What the client said of its session.

    Raises:
        InvalidInput: nothing that can be read, and it is needed.
    """
    if not data.strip():
        if needed:
            raise InvalidInput("stdin says nothing of a session")
        return {}
    from adaptive_llm_gateway.handoff import find_rollout, read_hook  # noqa: PLC0415 - not needed where options say it

    hook = read_hook(data)
    if hook.problem and needed:
        raise InvalidInput(hook.problem)
    transcript = hook.transcript_path
    if transcript is None and hook.session_id and hook.client == "codex":
        codex = os.environ.get("CODEX_HOME") or os.path.expanduser("~/.codex")  # noqa: PTH111
        transcript = find_rollout(codex, hook.session_id, until=until)
    return {
        "session_id": hook.session_id,
        "directory": str(hook.cwd or ""),
        "transcript": str(transcript or ""),
        "client": hook.client,
        "end": hook.event == "SessionEnd",
    }


# --- The process that asks ----------------------------------------------------------------------------------------


def _ask(root: str, asked: Json, until: float) -> str | None:
    """Ask the hub in a process of its own, and wait for it until the time; why there is no checkpoint, or None."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        _be_the_asker(root, asked, writing)
    os.close(writing)
    answer = b""
    with contextlib.suppress(OSError):
        while select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
            part = os.read(reading, 65_536)
            if not part:
                told = answer.decode("utf-8", "replace")
                return None if told == _MADE else f"no checkpoint: {told or 'the process that asks for it was ended'}"
            answer += part
    return f"the checkpoint goes on by itself; if it fails, {_failure_file(root)!r} says why"


def _failure_file(root: str) -> str:
    return os.path.join(root, "logs", "checkpoint.err")  # noqa: PTH118


def _be_the_asker(root: str, asked: Json, writing: int) -> None:
    """The forked process, which does not return; in the pipe it says how it went."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"the hub did not answer within {_LONGEST} s")

    problem = ""
    try:
        os.setsid()
        # Where stdin and stdout were closed it is one of their numbers.
        writing = fcntl.fcntl(writing, fcntl.F_DUPFD_CLOEXEC, 3)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):  # or whoever reads them would wait for this process
            os.dup2(nothing, number)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(_LONGEST)
        problem = _put(root, asked)
    except BaseException as error:  # noqa: BLE001 - there is nobody above
        problem = f"{type(error).__name__}: {error}"
    finally:
        with contextlib.suppress(OSError):
            keep(root, asked, problem)
        with contextlib.suppress(OSError):
            os.write(writing, (problem or _MADE).encode("utf-8", "replace"))
        os._exit(0)


def _await(transcript: str | None) -> None:
    """Wait until a file is there, or the time for it is over."""
    until = time.monotonic() + _TRANSCRIPT_SECONDS
    while transcript and not os.path.exists(transcript) and time.monotonic() < until:  # noqa: PTH110
        time.sleep(0.05)


def _put(root: str, asked: Json) -> str:
    from adaptive_llm_gateway.server._connect import StartFailed  # noqa: PLC0415 - only this process needs it
    from adaptive_llm_gateway.server._hub_client import HubClient, HubError  # noqa: PLC0415

    _await(asked.get("transcript"))
    problem = ""
    for _ in range(2):  # a hub that ends meanwhile has a next one, and the same checkpoint twice is one
        try:
            with HubClient(root) as hub:
                hub.call("handoff_checkpoint", **asked)
        except HubError as error:
            return str(error)
        except StartFailed as error:
            problem = str(error)
        else:
            return ""
    return problem


def keep(root: str, asked: Json, problem: str) -> None:
    """Keep why a session has no checkpoint: whoever waited for it may be gone. Without a problem it has one now.

    The file has a line for each session; it goes with the last line.

    Raises:
        OSError: the file cannot be written, or there is none and no problem.
    """
    path = _failure_file(root)
    named = str(asked.get("session_id") or os.path.basename(asked.get("transcript", "")) or "?")  # noqa: PTH119
    named = " ".join(named.encode("utf-8", "replace").decode().split())
    while True:
        number = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if problem else 0), 0o600)
        with os.fdopen(number, "r+", encoding="utf-8", errors="replace") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_there(path, number):  # somebody took it away meanwhile
                continue
            lines = [line for line in file if _tells_of_another(line, named)]
            if problem:
                at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                lines = [*lines[1 - _MOST_LINES :], f"{at} session {named}: {' '.join(problem.split())}\n"]
            if lines:
                file.seek(0)
                file.truncate()
                file.writelines(lines)
            else:
                os.unlink(path)  # noqa: PTH108
            return


def _is_there(path: str, number: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))  # noqa: PTH116
    except FileNotFoundError:
        return False


def _tells_of_another(line: str, named: str) -> bool:
    told = line.partition(" ")[2]
    return told.startswith("session ") and not told.startswith(f"session {named}: ")
