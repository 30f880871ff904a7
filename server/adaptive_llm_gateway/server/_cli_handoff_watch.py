"""`--watch` of handoffs: a list redrawn in a terminal, a line for each change in a pipe, across hubs that go."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from adaptive_llm_gateway.server._cli_handoff_text import (
    change_line,
    list_lines,
    list_notes,
    show_text,
    state_text,
    step_lines,
)
from adaptive_llm_gateway.server._cli_hub import open_hub
from adaptive_llm_gateway.server._cli_output import HubRefused, Json, Paint, exit_code, harmless, paint_for, talk
from adaptive_llm_gateway.server._cli_work import call
from adaptive_llm_gateway.server._times import iso

_ASKED_WRONGLY = (2, 3)
"""Exit codes of errors that the same question will meet again."""
_NO_HUB = "no hub answers; waiting for the next one"
_LEFT_OUT = ("body", "steps")
"""What a handoff has that one of a list has not."""
_OF_THE_LOOK = "remote"
"""What tells of the question, and not of the handoff."""


class Looks:
    """Asks the hub again and again. The first question starts a hub; after that one that was stopped stays stopped,
    and the next one that somebody starts is asked.

    Attributes:
        problem: why there was no answer to the last question; None when there was one.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._asked = False
        self.problem: str | None = None

    def __call__(self, name: str, /, **arguments: Any) -> Json | None:
        """The operation's JSON, or None while there is none.

        Raises:
            HubRefused: the question is wrong, or the first one had no answer.
        """
        if not self._asked:
            found = call(self._root, name, **arguments)
            self._asked = True
            return found
        try:
            with open_hub(self._root, start=False) as hub:
                found = hub.call(name, **arguments)
        except HubRefused as refused:
            if exit_code(refused.error["code"]) in _ASKED_WRONGLY:
                raise
            gone = refused.error["code"] == "hub_unavailable"
            self.problem = _NO_HUB if gone else str(refused.error["message"])
            return None
        except ValueError:  # a line that broke off: it was killed while it answered
            self.problem = _NO_HUB
            return None
        self.problem = None
        return found


def _wait(seconds: float) -> None:
    """Let time pass.

    Raises:
        BrokenPipeError: whoever reads stdout went away meanwhile.
    """
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)  # only errors, which are reported unasked
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(left * 1_000)):
            raise BrokenPipeError


def _say(line: str) -> None:
    print(line, flush=True)


def _now() -> datetime:
    return datetime.now(UTC)


class _Talk:
    """Says on stderr what has changed of what is to be known besides, once."""

    def __init__(self) -> None:
        self._said: str | None = None

    def __call__(self, problem: str | None) -> None:
        if problem != self._said:
            talk(f"note: {harmless(problem)}" if problem else "note: all is well again")
        self._said = problem


# --- alg handoff list --watch -------------------------------------------------------------------------------------


def watch_list(root: str, asked: Mapping[str, Any], *, every: float, as_json: bool) -> None:
    """Show the list, and what changes of it, until interrupted.

    Args:
        asked: the arguments of `handoff_list`.
        every: seconds between two looks.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        HubRefused: see `Looks`.
        BrokenPipeError: whoever reads stdout went away.
    """
    looks = Looks(root)
    if not as_json and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        _redraw(looks, asked, every)
        return
    paint = paint_for(sys.stdout)
    talk_once = _Talk()
    known: dict[str, Json] = {}
    while True:
        found = looks("handoff_list", **asked)
        talk_once(looks.problem or (_besides(found) if found else None))
        if found is not None:
            for change, handoff in _changes(looks, known, found):
                _say(_change(change, handoff, paint, as_json=as_json))
        _wait(every)


def _besides(found: Json) -> str | None:
    remote: Json | None = found["remote"]
    unreached = [f"the remote could not be reached: {remote['error']}"] if remote and remote["error"] else []
    return "; ".join([*unreached, *found["notices"]]) or None


def _changes(looks: Looks, known: dict[str, Json], found: Json) -> list[tuple[str, Json]]:
    """What is otherwise than in `known`, which is brought up to date."""
    now = {each["id"]: each for each in found["handoffs"]}
    changes: list[tuple[str, Json]] = []
    for identifier, before in [*known.items()]:
        if identifier not in now:
            try:
                shown = looks("handoff_show", id=identifier)
            except HubRefused:
                shown = {**before, "state": "deleted"}
            if shown is None:  # no hub just now: said at the next look
                continue
            del known[identifier]
            if shown["state"] != before["state"]:  # otherwise newer ones have taken its place
                changes.append(("gone", {name: value for name, value in shown.items() if name not in _LEFT_OUT}))
    for identifier, handoff in now.items():
        if identifier not in known or known[identifier] != handoff:
            changes.append(("changed" if identifier in known else "listed", handoff))
        known[identifier] = handoff
    return changes


def _change(change: str, handoff: Json, paint: Paint, *, as_json: bool) -> str:
    now = _now()
    if not as_json:
        return change_line(handoff, paint, now)
    return _json_line({"seen": iso(now), "change": change, "handoff": handoff})


def _json_line(document: Json) -> str:
    return json.dumps(document, ensure_ascii=False)


def _redraw(looks: Looks, asked: Mapping[str, Any], every: float) -> None:
    from rich.console import Console  # noqa: PLC0415 - 50 ms
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    paint = paint_for(sys.stdout)
    console = Console(file=sys.stdout, highlight=False)
    found = looks("handoff_list", **asked)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            lines = screen(found, looks.problem, console.size, paint, _now())
            live.update(Text.from_ansi("\n".join(lines), no_wrap=True, overflow="ellipsis"), refresh=True)
            _wait(every)
            found = looks("handoff_list", **asked) or found


def screen(found: Json | None, problem: str | None, size: tuple[int, int], paint: Paint, now: datetime) -> list[str]:
    """The list and what is to be known of it, in one line less than there are.

    Args:
        size: columns and lines of the terminal.
    """
    width, height = size
    rows = list_lines(found, paint, now, width=width) if found else []
    notes = list_notes(found, now) if found else []
    if problem:
        notes.insert(0, paint(f"note: {harmless(problem)}", "yellow"))
    count = len(found["handoffs"]) if found else 0
    each = len(rows) // max(1, count)  # lines of a handoff
    room = max(1, height - 1 - len(notes))
    if len(rows) > room:
        kept = (room - 1) // each
        rows = [*rows[: kept * each], paint(f"... {count - kept} more", "dim")]
    return [*rows, *(paint(note, "dim") for note in notes)]


# --- alg handoff show --watch -------------------------------------------------------------------------------------


def watch_one(root: str, identifier: str, *, every: float, as_json: bool) -> None:
    """Show a handoff, then each step that comes, or that counts otherwise now, until interrupted.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        HubRefused: see `Looks`; also when it was deleted.
        BrokenPipeError: whoever reads stdout went away.
    """
    looks = Looks(root)
    talk_once = _Talk()
    paint = paint_for(sys.stdout)
    before: Json | None = None
    while True:
        found = looks("handoff_show", id=identifier)
        talk_once(looks.problem)
        if found is not None and (before is None or _itself(found) != _itself(before)):
            steps = new_steps(before, found)
            if as_json:
                bare = {name: value for name, value in found.items() if name not in _LEFT_OUT}
                seen = iso(_now())
                _say(_json_line({"seen": seen, "handoff": found if before is None else bare, "steps": steps}))
            elif before is None:
                _say(show_text(found, paint, _now()))
            else:
                _say("\n".join(_news(before, found, steps, paint)))
            before = found
        _wait(every)


def _itself(shown: Json) -> Json:
    return {name: value for name, value in shown.items() if name != _OF_THE_LOOK}


def new_steps(before: Json | None, found: Json) -> list[Json]:
    """The steps that were not there before, or stand otherwise now."""
    known = {step["id"]: step for step in before["steps"]} if before else {}
    return [step for step in found["steps"] if known.get(step["id"]) != step]


def _news(before: Json, found: Json, steps: list[Json], paint: Paint) -> list[str]:
    lines = [line for step in steps for line in step_lines(step, paint)]
    now = _now()
    if not steps or found["state"] != before["state"]:
        lines.append(f"{paint(str(iso(now)), 'dim')}  now {harmless(state_text(found, now))}")
    return lines
