"""`alg hub`: the hub's own process, and starting, stopping and looking at it."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive_llm_gateway.server._cli_output import HubRefused, Json, Paint, emit, no_hub, talk

if TYPE_CHECKING:
    from adaptive_llm_gateway.core import Home
    from adaptive_llm_gateway.server._hub_client import HubClient

STOP_SECONDS = 60.0  # a hub flushes before it goes; what it flushes is on disk already
_GOING_SECONDS = 30.0  # of one that answers no more: it is on its way out
_MANAGER_SECONDS = 10.0
_FOLLOW_SECONDS = 0.2


def run(root: str, ready_fd: int | None, *, service: bool = False) -> int:
    """Be the hub until stopped; returns the exit code.

    Args:
        ready_fd: where to write `ready`, or one line on why there is no hub: `<code>: <message> (<hint>)`.
        service: a service manager runs it. One that somebody started before gives way.
    """
    from adaptive_llm_gateway.core import AlgError, Home, ProcessLock, load_settings  # noqa: PLC0415 - pydantic
    from adaptive_llm_gateway.server._going import START_AGAIN  # noqa: PLC0415
    from adaptive_llm_gateway.server._hub import run_hub  # noqa: PLC0415
    from adaptive_llm_gateway.server._notify import Notifier  # noqa: PLC0415

    told = False
    notify = Notifier()
    home = Home(root)
    # While it is held nobody else starts a hub; who needs one waits for this one.
    starting = ProcessLock(home.start_lock, timeout=STOP_SECONDS)

    def tell(line: str) -> None:
        nonlocal told
        if told:
            return
        told = True
        if ready_fd is None:
            talk(line)
            return
        try:
            os.write(ready_fd, line.encode("utf-8", "replace") + b"\n")
            os.close(ready_fd)
        except OSError:
            pass  # whoever started us is gone; others may want the hub

    def ready() -> None:
        starting.release()
        notify("READY=1")
        tell("ready")

    try:
        settings = load_settings(home)
        if service:
            home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            starting.acquire()
            _give_way(root)
        again = run_hub(home, settings, ready=ready, going=lambda: notify("STOPPING=1"), service=service)
    except AlgError as error:
        if told:
            talk(f"error: {error}")
        hint = f" ({error.hint})" if error.hint else ""
        tell(" ".join(f"{error.code}: {error}{hint}".split()))
        return error.exit_code
    except OSError as error:
        if told:
            raise
        tell(" ".join(f"storage: {error}".split()))
        return 7
    finally:
        starting.release()
    return START_AGAIN if again and service else 0


def _give_way(root: str) -> None:
    """Have the hub that a client started stop, so that this process can be it.

    Raises:
        LockHeld: the one that runs is a service itself, or does not go.
    """
    from adaptive_llm_gateway.core import LockHeld  # noqa: PLC0415

    there = status(root)
    if there.get("service"):
        raise LockHeld(
            f"another service runs the hub of {root!r} already, pid {there['pid']}",
            hint="One service for each home: stop the other first.",
            owner={"pid": there["pid"]},
        )
    stop(root)


@contextlib.contextmanager
def open_hub(root: str, *, start: bool = True) -> Generator[HubClient]:
    """The hub of the home at `root`, started if need be.

    Raises:
        HubRefused: there is none, or it answers a call with an error.
    """
    from adaptive_llm_gateway.server._connect import StartFailed  # noqa: PLC0415
    from adaptive_llm_gateway.server._hub_client import HubClient, HubError  # noqa: PLC0415

    try:
        with HubClient(root, start=start) as hub:
            yield hub
    except HubError as error:
        raise HubRefused(error.error) from None
    except StartFailed as error:
        raise no_hub(str(error), root) from None


def start(root: str) -> Json:
    """Start a hub unless one runs, and return its status.

    Raises:
        HubRefused: it did not start.
    """
    with open_hub(root) as hub:
        return hub.call("hub_status")


def status(root: str) -> Json:
    """The running hub's status, or `running` false; starts nothing."""
    try:
        with open_hub(root, start=False) as hub:
            return hub.call("hub_status")
    except HubRefused:
        return {"running": False, "pid": None, "home": root}


def stop(root: str, *, again: bool = False) -> Json:
    """Stop the hub, if one runs, and wait until it is gone.

    Args:
        again: another is to follow; a service manager starts it.

    Raises:
        LockHeld: it is still there after a minute.
    """
    from adaptive_llm_gateway.core import Home  # noqa: PLC0415

    answered: Json | None = None
    # Without an answer there is none, or it is on its way out already.
    with contextlib.suppress(HubRefused), open_hub(root, start=False) as hub:
        answered = hub.call("hub_stop", again=again)
    _wait_until_gone(Home(root), STOP_SECONDS if answered else _GOING_SECONDS)
    service = bool((answered or {}).get("service"))
    return {
        "running": False,
        "stopped": answered is not None,
        "pid": (answered or {}).get("pid"),
        "service": service,
        "home": root,
    }


def restart(root: str) -> Json:
    """Stop the hub, if one runs, and start another; its status, with the `before` that was stopped.

    Where a service manager runs it, that starts the other.

    Raises:
        LockHeld: the one that runs is still there after a minute.
        HubRefused: the other did not start.
    """
    before = stop(root, again=True)
    until = time.monotonic() + (_MANAGER_SECONDS if before["service"] else 0)
    while not (found := status(root))["running"] and time.monotonic() < until:
        time.sleep(_FOLLOW_SECONDS)
    return {**(found if found["running"] else start(root)), "before": before["pid"]}


def _wait_until_gone(home: Home, timeout: float) -> None:
    from adaptive_llm_gateway.core import LockHeld, ProcessLock  # noqa: PLC0415

    if not home.hub_lock.exists():
        return
    try:
        with ProcessLock(home.hub_lock, timeout=timeout):
            return
    except LockHeld as error:
        owner: Any = error.details.get("owner") or {}
        raise LockHeld(
            f"the hub (pid {owner.get('pid', '?')}) is still there after {timeout:.0f} s",
            hint="`alg hub logs` shows what it does; end that process if it hangs. Nothing acknowledged is lost.",
            **error.details,
        ) from None


def logs(home: Home, lines: int, *, follow: bool, as_json: bool) -> None:
    """Print the end of the hub's log, and with `follow` what is added to it until interrupted.

    Raises:
        NotFound: there is no log.
    """
    from adaptive_llm_gateway.core import NotFound  # noqa: PLC0415

    path = home.hub_log
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            last = [line.rstrip("\n") for line in deque(file, lines)]
    except FileNotFoundError:
        raise NotFound(
            f"there is no log at {str(path)!r}",
            hint="No hub has run in this home yet; `alg hub start` starts one.",
            path=str(path),
        ) from None
    emit({"path": str(path), "lines": last}, as_json=as_json, text=lambda _: "\n".join(last))
    if follow:
        sys.stdout.flush()
        _follow(path)


def _follow(path: Path) -> None:
    file = path.open(encoding="utf-8", errors="replace")
    file.seek(0, os.SEEK_END)
    try:
        while True:
            part = file.read(65536)
            if part:
                sys.stdout.write(part)
                sys.stdout.flush()
                continue
            time.sleep(_FOLLOW_SECONDS)
            try:
                turned_over = path.stat().st_ino != os.fstat(file.fileno()).st_ino
            except FileNotFoundError:
                continue
            if turned_over:
                file.close()
                file = path.open(encoding="utf-8", errors="replace")
    finally:
        file.close()


def status_text(status: Json, paint: Paint) -> str:
    """A hub's status for people."""
    from adaptive_llm_gateway.core import counted  # noqa: PLC0415

    if not status["running"]:
        return f"{paint('not running', 'yellow')}  {status['home']}"
    facts = [
        f"{paint('running', 'green')}  pid {status['pid']}, version {status['version']}, since {status['started']}",
        f"home    {status['home']}",
        f"repo    {status['repo']}",
        *(
            f"        {repo['name']}: {repo['path']}" + (f" (not there: {repo['error']})" if repo["error"] else "")
            for repo in status.get("repos", ())
        ),
        f"clients {status['clients']} connected on this machine",
        f"store   {status['store']}" + (f": {status['error']}" if status.get("error") else ""),
    ]
    if status["http"]["state"] != "off":
        facts.append(f"http    {status['http']['url'] or status['http']['problem'] or status['http']['state']}")
        if (may := status["http"].get("clients")) is not None:
            facts.append(f"        {counted(may, 'client')} with a token (`alg clients list`)")
        if status["http"]["hint"]:
            facts.append(f"        to do: {status['http']['hint']}")
    audit, traces = status.get("audit"), status.get("traces")
    if audit and (audit["error"] or audit["lost"]):
        lost = f", {audit['lost']:,} entries lost" if audit["lost"] else ""
        facts.append(f"audit   {paint(audit['error'] or 'written again', 'yellow')}{lost}")
    if traces and traces["error"]:
        facts.append(f"traces  {paint(traces['error'], 'yellow')}")
    from adaptive_llm_gateway.server._render import mode_text  # noqa: PLC0415

    facts += [line.replace("mode: ", "mode    ", 1) for line in mode_text(status)]
    return "\n".join(facts)
