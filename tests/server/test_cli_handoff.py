"""`alg handoff`: what it prints, what it asks the hub, what it goes on with and how it ends. Real commands; a socket
that answers as told stands for the hub where an answer has to be of a certain shape, or has to be late.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pytest

from adaptive_llm_gateway import handoff as component
from adaptive_llm_gateway.core._paths import socket_address
from adaptive_llm_gateway.server import _cli_handoff, _cli_hook
from adaptive_llm_gateway.server._cli_handoff_text import list_lines, list_notes, show_text, span, state_text
from adaptive_llm_gateway.server._cli_handoff_watch import new_steps, screen
from adaptive_llm_gateway.server._cli_output import Paint

ALG = str(Path(sys.executable).with_name("alg"))
WAIT = 60.0
PLAIN = Paint(on=False)
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
LATER = re.compile(r"alg: the checkpoint goes on by itself; if it fails, '.*/logs/checkpoint\.err' says why\n")
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


def iso(seconds: float) -> str:
    """A time so many seconds after `NOW`."""
    return (NOW + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def party(client: str, agent: str | None = None, host: str = "laptop") -> dict[str, Any]:
    return {"client": client, "agent": agent, "host": host, "hub": "h-1", "instance": None}


def claim(by: dict[str, Any], left: float = 2_460, **more: Any) -> dict[str, Any]:
    told = {"id": "01K9ZQ3V5T8B6M2N4P7R1S0C01", "term": 1, "time": iso(-60), "by": by, "provisional": False}
    return {**told, "lease_until": iso(left), **more}


def handoff(number: int = 1, **more: Any) -> dict[str, Any]:
    work: dict[str, Any] = {
        "directory": "/src",
        "remote": None,
        "branch": "main",
        "commit": "a" * 40,
        "dirty": [],
        "dirty_count": 0,
    }
    return {
        "id": f"01K9ZQ3V5T8B6M2N4P7R1S0W{number:02}", "title": "Nest quotes", "objective": "Have quotes nest",
        "state": "offered", "next_action": None, "open_questions": [], "constraints": [], "decisions": [], "to": None,
        "priority": "normal", "project": None, "tags": [], "trust": "internal", "session_id": None, "expires": None,
        "checkpoint": False, "created": iso(-7_300), "by": party("claude-code", "planner"), "work": work,
        "path": "handoffs/2026/11/x.md", "version": "b" * 40, "term": 0, "step": 0, "claim": None, "holder": None,
        "ended": None, "declined_by": [], "damage": [], "damage_count": 0, **more,
    }  # fmt: skip


def claimed(number: int = 1, by: str = "codex", left: float = 2_460, **more: Any) -> dict[str, Any]:
    held = claim(party(by, host="desk"), left)
    return handoff(number, state="claimed", claim=held, holder=held["by"], **more)


def step(number: int, event: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"01K9ZQ3V5T8B6M2N4P7R1S0S{number:02}", "event": event, "step": number, "term": 0, "time": iso(number),
        "by": party("codex", "coder", "desk"), "text": "", "claim": None, "lease_until": None, "provisional": False,
        "standing": "counts", "note": None, "path": "p", **more,
    }  # fmt: skip


def found(*handoffs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"handoffs": [*handoffs], "total": len(handoffs), "remote": None, "notices": [], **more}


def shown(*steps: dict[str, Any], body: str = "", **more: Any) -> dict[str, Any]:
    return {**handoff(**more), "body": body, "steps": [*steps]}


SYNC = {"state": "pushed", "ahead": 0, "behind": 0, "since": None, "offline": False, "kind": None, "error": None}
OFFERED = {"state": "offered", "claim": None, "holder": None}
WRITTEN: dict[str, Any] = {
    "standing": {"state": "committed", "commit": "c" * 40, "commit_error": None, "sync": SYNC},
    "notes": [],
    "patch": None,
}


class StandIn:
    """What answers on a home's socket, as told.

    Attributes:
        answers: by operation: its JSON, or an error with `code` and `message`.
        asked: every question, with its arguments.
        speak: while it is not set, questions have no answer.
        hang_up: how many questions it hangs up on instead of an answer.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.heard = threading.Condition()
        self.speak = threading.Event()
        self.speak.set()
        self.hang_up = 0
        self._listener: socket.socket | None = None
        self.start()

    def start(self) -> None:
        address = Path(socket_address(str(self.home)))
        address.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        address.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        Path(socket_address(str(self.home))).unlink()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError):
            lines.readline()  # says that it is a command line
            for line in lines:
                question = json.loads(line)
                with self.heard:
                    self.asked.append((question["do"], question["with"]))
                    self.heard.notify_all()
                self.speak.wait(WAIT)
                if self.hang_up > 0:
                    self.hang_up -= 1
                    return
                answer = self.answers[question["do"]]
                said = {"error": {"hint": None, **answer}} if "code" in answer else {"result": answer}
                connection.sendall(json.dumps(said).encode() + b"\n")

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait until it was asked this so many times; the arguments of the last time."""

        def times() -> list[dict[str, Any]]:
            return [given for asked, given in self.asked if asked == name]

        with self.heard:
            assert self.heard.wait_for(lambda: len(times()) >= count, WAIT), self.asked
            return times()[-1]

    def wait_until(self, holds: Callable[[], bool]) -> None:
        with self.heard:
            for _ in range(int(WAIT / 0.05)):
                if holds():
                    return
                self.heard.wait(0.05)
        raise AssertionError("waited in vain")

    def look_again(self) -> None:
        """Wait for a question that is put from now on, and the next one: the first one's answer was seen."""
        with self.heard:
            before = len(self.asked)
            assert self.heard.wait_for(lambda: len(self.asked) >= before + 2, WAIT)

    def alg(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
        if "input" in options:
            del options["stdin"]
        return subprocess.run(
            [ALG, "--home", str(self.home), "handoff", *words],
            capture_output=True, encoding="utf-8", timeout=WAIT, check=False, **options,
        )  # fmt: skip

    def asks(self, *words: str, **options: Any) -> tuple[str, dict[str, Any]]:
        """What a command that succeeds asks the hub."""
        done = self.alg(*words, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.asked[-1]


@pytest.fixture
def stand_in(isolated: Path) -> Iterator[StandIn]:
    made = StandIn(isolated)
    wrote: dict[str, Any] = {**claimed(), **WRITTEN}
    taken: dict[str, Any] = {**wrote, "text": "# Package", "budget": 2_000, "used": 12, "again": False, "patch": None}
    made.answers = {
        "handoff_create": {**wrote, "patch": None}, "handoff_list": found(), "handoff_show": shown(),
        "handoff_claim": taken, "handoff_update": wrote, "handoff_complete": wrote, "handoff_release": wrote,
        "handoff_checkpoint": {**wrote, "replaced": False},
    }  # fmt: skip
    yield made
    made.speak.set()
    with contextlib.suppress(OSError):
        made.stop()


# --- A list -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (handoff(), "offered"),
        (claimed(), "claimed by codex, 41 min left"),
        (claimed(left=59), "claimed by codex, 59 s left"),
        (claimed(left=-90), "claimed by codex, its lease ran out 1 min ago"),
        (
            {**claimed(), "claim": claim(party("codex"), provisional=True)},
            "claimed provisionally by codex, 41 min left",
        ),
        (handoff(claim=claim(party("codex"), -5)), "offered again, the lease of codex ran out"),
        (handoff(declined_by=[party("codex"), party("cursor", "a")]), "offered, declined by codex, cursor/a"),
        (handoff(state="done", ended={"by": party("codex", "coder")}), "done by codex/coder"),
        (handoff(state="withdrawn", ended={"by": party("cursor")}), "withdrawn by cursor"),
        (handoff(state="expired", expires=iso(-3 * 86_400)), "expired 3 d ago"),
        (handoff(state="damaged", damage=[{"path": "p", "problem": "q"}] * 2, damage_count=2), "DAMAGED, 2 problems"),
        (handoff(state="of a later version"), "of a later version"),
    ],
)
def test_a_state_says_who_holds_it_and_how_long_its_lease_still_runs(given: dict[str, Any], words: str) -> None:
    assert state_text(given, NOW) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (7_199, "119 min"),
        (7_200, "2 h"),
        (172_799, "47 h"),
        (172_800, "2 d"),
    ],
)
def test_a_span_is_rounded_down_in_one_unit(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_list_has_a_line_for_each_with_the_whole_id_first() -> None:
    lines = list_lines(
        found(
            handoff(1, priority="urgent", to="codex", project="alg", objective="Have quotes\n  nest"),
            claimed(2, checkpoint=True, objective="x" * 200),
        ),
        PLAIN,
        NOW,
    )
    head = "01K9ZQ3V5T8B6M2N4P7R1S0W0"
    assert lines == [
        f"{head}1  offered                        urgent  for codex    2 h ago  [alg]  Have quotes nest",
        f"{head}2  claimed by codex, 41 min left  normal  for anybody  2 h ago  -      checkpoint: {'x' * 97}...",
    ]


@pytest.mark.parametrize(
    ("remote", "words"),
    [
        (None, ["1 of 1"]),
        ({"looked": iso(-3), "error": None}, ["1 of 1; remote: looked 3 s ago"]),
        ({"looked": None, "error": None}, ["1 of 1; remote: not looked yet"]),
        (
            {"looked": iso(-300), "error": "no route"},
            ["1 of 1", "note: the remote could not be reached: no route (looked 5 min ago)"],
        ),
    ],
)
def test_a_list_says_what_the_remote_said(remote: dict[str, Any] | None, words: list[str]) -> None:
    assert list_notes(found(handoff(), remote=remote), NOW) == words


def test_a_screen_that_is_too_small_says_how_much_it_does_not_show() -> None:
    lines = screen(found(*map(handoff, range(9))), "no hub", (200, 8), PLAIN, NOW)
    assert len(lines) == 7
    assert lines[-3:] == ["... 5 more", "note: no hub", "9 of 9"]
    narrow = screen(found(claimed(1), claimed(2), claimed(3)), None, (80, 7), PLAIN, NOW)
    assert max(map(len, narrow)) <= 80
    assert narrow[1] == narrow[3] == "    for anybody  2 h ago  -  Have quotes nest"
    assert narrow[4:] == ["... 1 more", "3 of 3"]


# --- One handoff --------------------------------------------------------------------------------------------------


def test_a_handoff_is_shown_with_what_is_handed_over_and_its_time_line() -> None:
    text = show_text(
        shown(
            step(1, "claim", lease_until=iso(900)),
            step(2, "progress", text="half\ndone", lease_until=iso(2_460)),
            step(3, "patch"),
            body="# Parser\n\nbroken\n",
            next_action="run the tests",
            open_questions=["Which?"],
            constraints=["no library"],
            tags=["p"],
            work={**handoff()["work"], "dirty": ["M a", "?? b"], "dirty_count": 3},
            state="claimed",
            claim=claim(party("codex", host="desk")),
            holder=party("codex", host="desk"),
        ),
        PLAIN,
        NOW,
    )
    assert text.splitlines() == [
        "id         01K9ZQ3V5T8B6M2N4P7R1S0W01",
        "state      claimed by codex@desk, 41 min left (until 2026-11-22T10:41:00Z, term 1)",
        "objective  Have quotes nest",
        "next       run the tests",
        "question   Which?",
        "keep to    no library",
        "facts      for anybody, priority normal, #p",
        "directory  /src",
        "branch     main at aaaaaaaaaaaa",
        "changed    3 not committed: M a, ?? b and 1 more",
        "path       handoffs/2026/11/x.md",
        "",
        "state of the work",
        "    # Parser",
        "",
        "    broken",
        "",
        "time line",
        "2026-11-22T07:58:20Z  offer     claude-code/planner@laptop",
        "2026-11-22T10:00:01Z  claim     codex/coder@desk  until 2026-11-22T10:15:00Z",
        "2026-11-22T10:00:02Z  progress  codex/coder@desk  until 2026-11-22T10:41:00Z",
        "    half",
        "    done",
        "2026-11-22T10:00:03Z  patch     codex/coder@desk",
        "    `alg memory read 01K9ZQ3V5T8B6M2N4P7R1S0S03` prints it",
    ]


def test_what_is_late_or_void_is_marked_with_the_reason_and_long_texts_are_cut() -> None:
    text = show_text(
        shown(
            step(1, "claim", standing="void", note="cursor was first", provisional=True),
            step(2, "done", standing="late", note="another claim had begun"),
            step(3, "claim", note="renewed after its lease had run out"),
            step(4, "progress", text="line\n" * 50),
        ),
        PLAIN,
        NOW,
    )
    assert "claim     codex/coder@desk  provisional, VOID: cursor was first" in text
    assert "done      codex/coder@desk  LATE: another claim had begun" in text
    assert "claim     codex/coder@desk  renewed after its lease had run out\n" in text
    assert text.endswith("    line\n    ... 20 more lines; --json has them")


def test_damage_is_said_before_all_else_with_every_file() -> None:
    damage = [
        {"path": "handoffs/a.md", "problem": "no lease"},
        {"path": "b.md", "problem": "unreadable"},
    ]
    text = show_text(shown(state="damaged", damage=damage), PLAIN, NOW)
    assert text.splitlines()[:3] == [
        "DAMAGED: nobody can claim it until these files are mended or taken away",
        "    handoffs/a.md: no lease",
        "    b.md: unreadable",
    ]


def test_what_others_wrote_cannot_steer_a_terminal_or_forge_a_line(stand_in: StandIn) -> None:
    evil = "x\x1b[2J\x9b\u202e\x07y"
    forged = f"{evil}\n01K9ZQ3V5T8B6M2N4P7R1S0W99  offered"
    wrong: dict[str, Any] = {
        "title": forged, "objective": forged, "next_action": evil, "open_questions": [evil], "constraints": [evil],
        "to": forged, "project": forged, "tags": [evil], "by": party(forged, evil, evil), "state": "damaged",
        "damage": [{"path": forged, "problem": forged}], "damage_count": 3, "declined_by": [party(forged)],
        "session_id": evil,
        "work": {"directory": evil, "remote": evil, "branch": evil, "commit": None, "dirty": [evil], "dirty_count": 1},
        "path": evil,
    }  # fmt: skip
    steps = [step(1, "release", text=evil, note=forged, by=party(forged, evil, evil)), step(2, evil, standing="late")]
    stand_in.answers["handoff_list"] = found(
        handoff(**wrong), remote={"looked": None, "error": evil}, notices=[evil]
    )  # fmt: skip
    stand_in.answers["handoff_show"] = shown(*steps, body=evil, **wrong)
    done = {**claimed(), **wrong, **WRITTEN, "notes": [evil]}
    stand_in.answers["handoff_update"] = done
    patch = {"id": "01K", "bytes": 1, "applies": None, "note": evil}
    more = {"text": evil, "budget": 9, "used": 1, "again": False, "patch": patch}
    stand_in.answers["handoff_claim"] = {**done, **more}
    for words in (["list"], ["show", "x"], ["update", "x", "y"], ["claim"]):
        done = stand_in.alg(*words)
        assert done.returncode == 0, done.stderr
        assert not STEERING.search(done.stdout + done.stderr), words
        assert not [line for line in done.stdout.splitlines() if line.startswith("01K9ZQ3V5T8B6M2N4P7R1S0W99")], words
    stand_in.answers["handoff_claim"] = {"code": "version_conflict", "message": evil, "hint": evil}
    refused = stand_in.alg("claim", "x")
    assert refused.returncode == 4
    assert not STEERING.search(refused.stderr)


# --- What is asked ------------------------------------------------------------------------------------------------


def test_the_states_and_priorities_are_those_of_the_component() -> None:
    assert _cli_handoff.STATES == component.STATES
    assert get_args(_cli_handoff.PriorityName) == component.PRIORITIES


def test_an_offer_is_asked_for_with_the_directory_one_stands_in(stand_in: StandIn, tmp_path: Path) -> None:
    assert stand_in.asks("create", "do it", cwd=tmp_path) == (
        "handoff_create",
        {"objective": "do it", "directory": str(tmp_path)},
    )
    name, asked = stand_in.asks(
        "create", "do it", "--next", "n", "--state", "s", "--question", "q1", "--question", "q2", "--constraint", "c",
        "--decision", "d", "--to", "codex", "--priority", "high", "--expires", "7d", "--project", "p", "--tag", "t",
        "--trust", "public", "--session", "i", "--directory", "sub", "--patch", "--as", "me", "--redact",
        cwd=tmp_path,
    )  # fmt: skip
    assert name == "handoff_create"
    assert asked == {
        "objective": "do it", "next_action": "n", "state": "s", "open_questions": ["q1", "q2"], "constraints": ["c"],
        "decisions": ["d"], "to": "codex", "priority": "high", "expires": "7d", "project": "p", "tags": ["t"],
        "trust": "public", "session_id": "i", "directory": str(tmp_path / "sub"), "patch": True, "agent": "me",
        "redact": True,
    }  # fmt: skip
    assert "directory" not in stand_in.asks("create", "x", "--no-directory")[1]
    assert "objective" not in stand_in.asks("create", "--session", "s")[1]


def test_texts_come_from_stdin_or_a_file(stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "state.md").write_text("from a file\n", encoding="utf-8")
    assert stand_in.asks("create", "x", "--file", str(tmp_path / "state.md"))[1]["state"] == "from a file\n"
    assert stand_in.asks("create", "x", "--state", "-", input="piped")[1]["state"] == "piped"
    assert stand_in.asks("update", "I", "-", input="piped")[1] == {"id": "I", "text": "piped"}
    assert stand_in.asks("complete", "I", "-", input="piped")[1] == {"id": "I", "result": "piped"}
    assert stand_in.asks("release", "I", "-", input="piped")[1]["reason"] == "piped"


@pytest.mark.parametrize(
    ("words", "name", "asked"),
    [
        (["list"], "handoff_list", {"limit": 50}),
        (
            ["list", "--state", "done", "--state", "offered", "--project=p", "--to", "t", "--checkpoints", "--limit=3"],
            "handoff_list",
            {"state": ["done", "offered"], "project": "p", "to": "t", "checkpoints": True, "limit": 3},
        ),
        (["list", "--all"], "handoff_list", {"all": True, "limit": 50}),
        (["show", "I"], "handoff_show", {"id": "I"}),
        (["claim", "--directory", "/there"], "handoff_claim", {"directory": "/there"}),
        (
            ["claim", "I", "--project", "p", "--budget=500", "--provisional", "--anyway", "--lease", "5", "--as", "me"],
            "handoff_claim",
            {
                "id": "I", "project": "p", "budget_tokens": 500, "provisional": True, "anyway": True,
                "lease_minutes": 5, "agent": "me", "directory": str(Path.cwd()),
            },
        ),
        (
            ["update", "I", "text", "--lease", "0", "--redact", "--as", "me"],
            "handoff_update",
            {"id": "I", "text": "text", "lease_minutes": 0, "redact": True, "agent": "me"},
        ),
        (["complete", "I"], "handoff_complete", {"id": "I"}),
        (["release", "I"], "handoff_release", {"id": "I", "outcome": "released"}),
        (["release", "I", "no", "--declined"], "handoff_release", {"id": "I", "reason": "no", "outcome": "declined"}),
        (["release", "I", "--withdraw"], "handoff_release", {"id": "I", "outcome": "withdrawn"}),
        (
            ["release", "I", "--withdraw", "--anyway"],
            "handoff_release",
            {"id": "I", "outcome": "withdrawn", "anyway": True},
        ),
    ],
)  # fmt: skip
def test_a_command_asks_the_hub_for_what_was_given_and_nothing_else(
    stand_in: StandIn, words: list[str], name: str, asked: dict[str, Any]
) -> None:
    assert stand_in.asks(*words) == (name, asked)


@pytest.mark.parametrize(
    "words",
    [
        ["create"],
        ["create", "x", "--no-directory", "--patch"],
        ["create", "x", "--state", "a", "--file", "b"],
        ["create", "x", "--priority", "most"],
        ["list", "--state", "lost"],
        ["list", "--all", "--state", "done"],
        ["list", "--watch", "--every", "0"],
        ["show"],
        ["claim", "--anyway"],
        ["update", "I"],
        ["release", "I", "--declined", "--withdraw"],
        ["release", "I", "--anyway"],
    ],
)
def test_wrong_usage_is_exit_code_2_and_the_hub_is_not_asked(stand_in: StandIn, words: list[str]) -> None:
    done = stand_in.alg(*words, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"
    assert stand_in.asked == []


def test_a_claim_prints_the_package_alone_on_stdout(stand_in: StandIn) -> None:
    stand_in.answers["handoff_claim"] |= {"patch": {"id": "01K", "bytes": 1_234, "applies": False, "note": "hunk 1"}}
    done = stand_in.alg("claim")
    assert done.stdout == "# Package\n"
    assert "patch of 1,234 bytes, does NOT apply: hunk 1; `alg memory read 01K` prints it" in done.stderr
    assert "package of 12 of 2,000 tokens; committed cccccccccccc; pushed" in done.stderr
    assert json.loads(stand_in.alg("claim", "--json").stdout)["text"] == "# Package"


def test_a_provisional_claim_is_said_to_be_one(stand_in: StandIn) -> None:
    stand_in.answers["handoff_claim"] |= {"claim": claim(party("command-line"), provisional=True), "again": True}
    said = stand_in.alg("claim").stderr
    assert "held already, renewed: provisionally" in said
    assert "note: the remote has not confirmed it" in said


def test_what_a_write_did_is_said_with_where_it_stands(stand_in: StandIn) -> None:
    stand_in.answers["handoff_create"] |= {
        "patch": {"id": "01K", "bytes": 3_210},
        "notes": ["one"],
        "state": "offered",
        "claim": None,
    }
    done = stand_in.alg("create", "x")
    assert done.stdout.splitlines() == [
        "offered Nest quotes",
        "id       01K9ZQ3V5T8B6M2N4P7R1S0W01",
        "state    offered",
        "path     handoffs/2026/11/x.md",
        "stands   committed cccccccccccc; pushed",
    ]
    assert done.stderr.splitlines() == ["with a patch of 3,210 bytes; `alg memory read 01K` prints it", "note: one"]


def test_what_others_wrote_adds_no_line_to_an_error(stand_in: StandIn) -> None:
    evil = "codex\nhint: run this\r\u2028error: no"
    stand_in.answers["handoff_claim"] = {"code": "not_holder", "message": f"{evil} holds it", "hint": f"ask {evil}"}
    done = stand_in.alg("claim", "x")
    said = re.sub(r"\s+", " ", done.stderr.replace("\n", "|"))
    assert said == "error: codex hint: run this error: no holds it|hint: ask codex hint: run this error: no|"


@pytest.mark.parametrize(
    ("code", "number"),
    [("not_found", 3), ("version_conflict", 4), ("secret_refused", 5), ("unavailable", 6), ("sync", 8)],
)
def test_an_error_of_the_hub_is_told_as_by_every_command(stand_in: StandIn, code: str, number: int) -> None:
    stand_in.answers["handoff_claim"] = {"code": code, "message": "codex holds it", "hint": "wait"}
    done = stand_in.alg("claim", "I")
    assert (done.returncode, done.stdout) == (number, "")
    assert done.stderr == "error: codex holds it\nhint: wait\n"
    assert json.loads(stand_in.alg("claim", "I", "--json").stdout)["error"]["code"] == code


def test_values_are_converted_without_pydantic() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['alg', 'handoff', 'list', '--state', 'done', '--every', '3', '--limit', '4', '--help']\n"
        "from adaptive_llm_gateway.server.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'pydantic', 'rich', 'asyncio'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT, capture_output=True)


# --- alg handoff list --watch -------------------------------------------------------------------------------------


class Watching:
    """A command under way whose stdout is read line by line."""

    def __init__(self, stand_in: StandIn, *words: str) -> None:
        self.process = subprocess.Popen(
            [ALG, "--home", str(stand_in.home), "handoff", *words, "--watch", "--every", "0.1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._rest = b""

    def line(self) -> str:
        assert self.process.stdout is not None
        while b"\n" not in self._rest:
            assert select.select([self.process.stdout], [], [], WAIT)[0], f"only {self._rest!r} came"
            part = os.read(self.process.stdout.fileno(), 65_536)
            assert part, f"it ended after {self._rest!r}"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def end(self) -> tuple[int, str, str]:
        """Press Ctrl-C: exit code, what else was printed, stderr."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=WAIT)
        return self.process.returncode, (self._rest + (out or b"")).decode(), err.decode()


@pytest.fixture
def watch(stand_in: StandIn) -> Iterator[Callable[..., Watching]]:
    begun: list[Watching] = []

    def begin(*words: str) -> Watching:
        begun.append(Watching(stand_in, *words))
        return begun[-1]

    yield begin
    for each in begun:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate(timeout=WAIT)


def test_a_watched_list_prints_a_line_for_each_change_until_it_is_interrupted(
    stand_in: StandIn, watch: Callable[..., Watching]
) -> None:
    stand_in.answers["handoff_list"] = found(handoff(1), handoff(2, project="alg"))
    watching = watch("list", "--project", "alg")
    assert re.fullmatch(r"20\S+Z  \S+W01  offered  normal  -  Have quotes nest", watching.line())
    assert re.fullmatch(r"20\S+Z  \S+W02  offered  normal  \[alg\]  Have quotes nest", watching.line())
    assert stand_in.wait_for("handoff_list") == {"project": "alg", "limit": 50}
    stand_in.look_again()  # nothing has changed, so nothing is said
    stand_in.answers["handoff_list"] = found(claimed(1), handoff(2, project="alg"))
    assert "W01  claimed by codex, " in watching.line()
    stand_in.answers["handoff_show"] = shown(state="done", ended={"by": party("codex")})
    stand_in.answers["handoff_list"] = found(handoff(2, project="alg"))
    assert "W01  done by codex  " in watching.line()
    stand_in.answers["handoff_list"] = found(handoff(2, project="alg"), handoff(3))
    assert "W03  offered" in watching.line()
    assert watching.end() == (130, "", "")


def test_a_watched_list_with_json_prints_a_document_on_a_line_for_each_change(
    stand_in: StandIn, watch: Callable[..., Watching]
) -> None:
    stand_in.answers["handoff_list"] = found(handoff(1))
    watching = watch("list", "--json")
    first = json.loads(watching.line())
    assert (set(first), first["change"], first["handoff"]) == ({"seen", "change", "handoff"}, "listed", handoff(1))
    stand_in.answers["handoff_list"] = found(claimed(1))
    assert json.loads(watching.line())["change"] == "changed"
    stand_in.answers["handoff_show"] = {"code": "not_found", "message": "there is none"}
    stand_in.answers["handoff_list"] = found()
    last = json.loads(watching.line())
    assert (last["change"], last["handoff"]["state"]) == ("gone", "deleted")


def test_what_newer_ones_have_pushed_off_the_list_is_no_change_of_it(
    stand_in: StandIn, watch: Callable[..., Watching]
) -> None:
    stand_in.answers["handoff_list"] = found(handoff(1), total=1)
    stand_in.answers["handoff_show"] = shown(number=1)
    watching = watch("list", "--limit", "1")
    assert "W01" in watching.line()
    stand_in.answers["handoff_list"] = found(handoff(2), total=2)
    assert "W02" in watching.line()


def test_watching_goes_on_with_the_hub_that_comes_after(stand_in: StandIn, watch: Callable[..., Watching]) -> None:
    stand_in.answers["handoff_list"] = found(handoff(1))
    watching = watch("list")
    assert "W01  offered" in watching.line()
    stand_in.stop()
    assert watching.process.stderr is not None
    assert select.select([watching.process.stderr], [], [], WAIT)[0]
    assert watching.process.poll() is None
    assert not (stand_in.home / "hub.lock").exists()  # whoever stopped the hub had a reason: it is not started again
    stand_in.answers["handoff_list"] = found(claimed(1))
    stand_in.start()
    assert "W01  claimed by codex" in watching.line()
    code, out, err = watching.end()
    assert (code, out) == (130, "")
    assert err.splitlines() == ["note: no hub answers; waiting for the next one", "note: all is well again"]


def test_watching_ends_when_the_reader_goes_away(stand_in: StandIn, watch: Callable[..., Watching]) -> None:
    stand_in.answers["handoff_list"] = found(handoff(1))
    watching = watch("list")
    watching.line()
    assert watching.process.stdout is not None
    watching.process.stdout.close()  # and nothing changes that it could fail to write
    assert watching.process.wait(timeout=WAIT) == 141


def test_a_remote_that_is_out_of_reach_is_said_once(stand_in: StandIn, watch: Callable[..., Watching]) -> None:
    stand_in.answers["handoff_list"] = found(handoff(1), remote={"looked": iso(-9), "error": "no route"})
    watching = watch("list")
    watching.line()
    stand_in.look_again()
    assert watching.end()[2] == "note: the remote could not be reached: no route\n"


def test_a_watched_handoff_to_which_nothing_happens_is_shown_once(
    stand_in: StandIn, watch: Callable[..., Watching]
) -> None:
    stand_in.answers["handoff_show"] = shown(remote={"looked": iso(-9), "error": None})
    watching = watch("show", "x", "--json")
    assert json.loads(watching.line())["steps"] == []
    stand_in.answers["handoff_show"] = shown(remote={"looked": iso(0), "error": None})
    stand_in.wait_for("handoff_show", 5)
    stand_in.answers["handoff_show"] = shown(step(1, "claim"), remote={"looked": iso(0), "error": None})
    assert [each["event"] for each in json.loads(watching.line())["steps"]] == ["claim"]


def test_a_question_that_is_wrong_ends_watching(stand_in: StandIn) -> None:
    stand_in.answers["handoff_show"] = {"code": "not_found", "message": "there is none"}
    done = stand_in.alg("show", "x", "--watch", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (3, "not_found")


def test_a_watched_list_is_redrawn_on_a_terminal(stand_in: StandIn) -> None:
    stand_in.answers["handoff_list"] = found(handoff(1), remote={"looked": iso(-9), "error": None})
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [ALG, "--home", str(stand_in.home), "handoff", "list", "--watch", "--every", "0.1"],
        stdin=follower, stdout=follower, stderr=follower, env={**os.environ, "TERM": "xterm", "COLUMNS": "160"},
    )  # fmt: skip
    os.close(follower)
    seen = ""

    def expect(words: str) -> None:
        nonlocal seen
        while words not in seen:
            assert select.select([leader], [], [], WAIT)[0], seen
            seen += os.read(leader, 65_536).decode("utf-8", "replace")
        seen = seen.partition(words)[2]

    try:
        expect("offered")
        expect("remote: looked ")
        stand_in.answers["handoff_list"] = found(claimed(1))
        expect("\x1b[1A")  # the lines of before are drawn over
        expect("claimed by codex")
        stand_in.stop()
        expect("no hub answers; waiting for the next one")
        process.send_signal(signal.SIGINT)
        expect("\x1b[?25h")  # the cursor is there again
        assert process.wait(timeout=WAIT) == 130
    finally:
        process.kill()
        process.wait(timeout=WAIT)
        os.close(leader)
        stand_in.start()


def test_a_watched_handoff_prints_each_step_as_it_comes(stand_in: StandIn, watch: Callable[..., Watching]) -> None:
    one, two = step(1, "claim"), step(2, "progress", text="half")
    stand_in.answers["handoff_show"] = shown(one, state="claimed", claim=claim(party("codex")))
    watching = watch("show", "I")
    while "  claim     codex/coder@desk" not in watching.line():
        pass
    stand_in.answers["handoff_show"] = shown(one, two, state="claimed", claim=claim(party("codex")))
    assert watching.line().endswith("progress  codex/coder@desk")
    assert watching.line() == "    half"
    stand_in.answers["handoff_show"] = shown(one, {**two, "standing": "late"}, claim=claim(party("codex")))
    assert watching.line().endswith("progress  codex/coder@desk  LATE")
    assert watching.line() == "    half"
    assert watching.line().endswith("  now offered again, the lease of codex ran out")
    assert watching.end() == (130, "", "")


def test_the_news_of_a_handoff_are_the_steps_that_came_or_stand_otherwise() -> None:
    one, two = step(1, "claim"), step(2, "done")
    late = {**two, "standing": "late"}
    assert new_steps(None, shown(one, two)) == [one, two]
    assert new_steps(shown(one), shown(one, two)) == [two]
    assert new_steps(shown(one, two), shown(one, late)) == [late]


# --- alg handoff checkpoint ---------------------------------------------------------------------------------------


def test_a_checkpoint_is_asked_for_with_absolute_paths(stand_in: StandIn, tmp_path: Path) -> None:
    assert stand_in.asks("checkpoint", cwd=tmp_path) == ("handoff_checkpoint", {"directory": str(tmp_path)})
    assert stand_in.asks(
        "checkpoint", "--session", "s", "--directory", "d", "--transcript", "t.jsonl", "--client", "codex",
        "--project", "p", "--trust", "confidential", "--patch", "--end", cwd=tmp_path,
    )[1] == {
        "session_id": "s", "directory": str(tmp_path / "d"), "transcript": str(tmp_path / "t.jsonl"),
        "client": "codex", "project": "p", "trust": "confidential", "patch": True, "end": True,
    }  # fmt: skip


@pytest.fixture
def transcript(tmp_path: Path) -> str:
    """One that is there."""
    path = tmp_path / "transcript.jsonl"
    path.touch()
    return str(path)


def is_quiet(said: str) -> bool:
    """Whether a hook had nothing to say, or on a busy machine that it took too long."""
    return said == "" or bool(LATER.fullmatch(said))


def test_a_hook_asks_for_what_its_options_say(stand_in: StandIn, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").touch()
    done = stand_in.alg(
        "checkpoint", "--hook", "--session=s", "--transcript", "t.jsonl", "--client", "codex", "--project", "p",
        "--trust=secret", "--patch", "--end", cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert is_quiet(done.stderr)
    assert stand_in.wait_for("handoff_checkpoint") == {
        "session_id": "s", "directory": str(tmp_path), "transcript": str(tmp_path / "t.jsonl"), "client": "codex",
        "project": "p", "trust": "secret", "patch": True, "end": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nonsense"], "'--nonsense' is no option"),
        (["--session"], "'--session' needs a value"),
        (["--json", "extra"], "'extra' is no option"),
    ],
)
def test_a_hook_that_is_called_wrongly_fails_open(stand_in: StandIn, words: list[str], said: str) -> None:
    done = stand_in.alg("checkpoint", "--hook", *words)
    assert (done.returncode, done.stdout) == (0, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_hook_that_the_hub_refuses_fails_open_and_keeps_the_reason(stand_in: StandIn) -> None:
    good = stand_in.answers["handoff_checkpoint"]
    stand_in.answers["handoff_checkpoint"] = {"code": "storage", "message": "the disk\x1b[2J is\nfull"}
    (stand_in.home / "logs").mkdir()
    done = stand_in.alg("checkpoint", "--hook", "--json", "--session", "s")
    assert (done.returncode, done.stdout) == (0, "")
    said = "alg: no checkpoint: the disk\N{REPLACEMENT CHARACTER}[2J is full\n"
    assert done.stderr == said or LATER.fullmatch(done.stderr)
    kept = stand_in.home / "logs" / "checkpoint.err"
    stand_in.wait_until(lambda: kept.exists() and "is full" in kept.read_text(encoding="utf-8"))
    assert " session s: " in kept.read_text(encoding="utf-8")
    stand_in.answers["handoff_checkpoint"] = good
    stand_in.alg("checkpoint", "--hook", "--session", "other")
    stand_in.wait_for("handoff_checkpoint", 2)
    assert " session s: " in kept.read_text(encoding="utf-8")  # that was another's
    stand_in.alg("checkpoint", "--hook", "--session", "s")
    stand_in.wait_until(lambda: not kept.exists())  # there is a checkpoint now


def test_why_a_session_has_no_checkpoint_is_kept_until_that_session_has_one(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    kept = tmp_path / "logs" / "checkpoint.err"
    root = str(tmp_path)

    def told() -> list[str]:
        return [line.partition(" ")[2] for line in kept.read_text(encoding="utf-8").splitlines()]

    _cli_hook.keep(root, {"session_id": "one", "transcript": "/t/one.jsonl"}, "the disk\nis full")
    assert told() == ["session one: the disk is full"]
    with contextlib.suppress(FileNotFoundError):
        _cli_hook.keep(root, {"session_id": "on"}, "")
    assert told() == ["session one: the disk is full"]
    _cli_hook.keep(root, {"transcript": "/t/two.jsonl"}, "no hub")
    _cli_hook.keep(root, {"session_id": "one"}, "still full")
    assert told() == ["session two.jsonl: no hub", "session one: still full"]
    _cli_hook.keep(root, {"session_id": "one"}, "")
    assert told() == ["session two.jsonl: no hub"]
    _cli_hook.keep(root, {"transcript": "/t/two.jsonl"}, "")
    assert not kept.exists()
    for number in range(30):
        _cli_hook.keep(root, {"session_id": str(number)}, "no hub")
    assert told() == [f"session {number}: no hub" for number in range(10, 30)]


def test_codexs_notify_names_a_session_and_its_transcript_is_found(stand_in: StandIn, tmp_path: Path) -> None:
    thread = "01a202df-b894-7be0-b2ed-610b032a02f0"
    rollout = tmp_path / "codex/sessions/2026/11/22" / f"rollout-2026-11-22T12-00-00-{thread}.jsonl"
    rollout.parent.mkdir(parents=True)
    rollout.touch()
    said = {"type": "agent-turn-complete", "thread-id": thread, "cwd": str(tmp_path), "input-messages": ["Go on"]}
    env = {**os.environ, "CODEX_HOME": str(tmp_path / "codex")}
    done = stand_in.alg("checkpoint", "--hook", json.dumps(said), env=env)
    assert is_quiet(done.stderr)
    assert stand_in.wait_for("handoff_checkpoint") == {
        "session_id": thread, "directory": str(tmp_path), "transcript": str(rollout), "client": "codex",
    }  # fmt: skip


def test_a_hook_does_not_wait_for_a_slow_hub_and_the_checkpoint_is_made_all_the_same(stand_in: StandIn) -> None:
    stand_in.speak.clear()
    done = stand_in.alg("checkpoint", "--hook", "--session", "s")  # the hub has not answered when it ends
    assert (done.returncode, done.stdout) == (0, "")
    assert LATER.fullmatch(done.stderr)
    assert stand_in.wait_for("handoff_checkpoint")["session_id"] == "s"


def test_a_transcript_that_is_begun_after_the_hook_was_called_is_waited_for(stand_in: StandIn, tmp_path: Path) -> None:
    transcript = tmp_path / "t.jsonl"
    done = stand_in.alg("checkpoint", "--hook", "--session", "s", "--transcript", str(transcript))
    assert (done.returncode, bool(LATER.fullmatch(done.stderr))) == (0, True)
    assert not stand_in.asked
    transcript.touch()
    assert stand_in.wait_for("handoff_checkpoint")["transcript"] == str(transcript)


def test_a_checkpoint_is_asked_for_again_when_the_hub_ends_meanwhile(stand_in: StandIn) -> None:
    stand_in.hang_up = 1
    done = stand_in.alg("checkpoint", "--hook", "--session", "s")
    assert is_quiet(done.stderr)
    assert stand_in.wait_for("handoff_checkpoint", 2)["session_id"] == "s"


def test_a_hook_does_not_wait_for_a_client_that_leaves_stdin_open(stand_in: StandIn) -> None:
    reading, writing = os.pipe()
    try:
        done = stand_in.alg("checkpoint", "--hook", "--session", "s", stdin=reading)
    finally:
        os.close(reading)
        os.close(writing)
    assert done.returncode == 0
    assert stand_in.wait_for("handoff_checkpoint")["session_id"] == "s"


def test_a_hook_works_where_stdin_and_stdout_are_closed(stand_in: StandIn) -> None:
    command = f"'{ALG}' --home '{stand_in.home}' handoff checkpoint --hook --session s <&- >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, timeout=WAIT, check=False)
    assert done.returncode == 0
    assert is_quiet(done.stderr.decode())
    subprocess.run(["/bin/sh", "-c", f"{command} 2>&-"], timeout=WAIT, check=True)
    assert stand_in.wait_for("handoff_checkpoint")["session_id"] == "s"


def test_a_hook_loads_nothing_that_takes_time(stand_in: StandIn, transcript: str) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['alg', '--home', {str(stand_in.home)!r}, 'handoff', 'checkpoint', '--hook']\n"
        "from adaptive_llm_gateway.server.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "slow = {'typer', 'pydantic', 'rich', 'asyncio', 'mcp', 'apsw', 'pygit2', 'numpy', 'yaml', 'tiktoken'}\n"
        "found = {name.split('.')[0] for name in sys.modules} & slow\n"
        "assert not found, found\n"
    )
    said = json.dumps({"session_id": "s", "transcript_path": transcript, "cwd": "/w", "hook_event_name": "PreCompact"})
    done = subprocess.run(
        [sys.executable, "-c", code], input=said, capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert is_quiet(done.stderr)
    assert stand_in.wait_for("handoff_checkpoint") == {
        "session_id": "s", "transcript": transcript, "directory": "/w", "client": "claude-code",
    }  # fmt: skip


def test_what_a_client_says_of_its_session_is_asked_for_unless_an_option_says_otherwise(
    stand_in: StandIn, transcript: str
) -> None:
    said = {"session_id": "s", "transcript_path": transcript, "cwd": "/w", "hook_event_name": "SessionEnd"}
    told = {"session_id": "s", "transcript": transcript, "directory": "/w", "client": "claude-code", "end": True}
    assert is_quiet(stand_in.alg("checkpoint", "--hook", json.dumps(said)).stderr)
    assert stand_in.wait_for("handoff_checkpoint") == told
    words = ("--session", "x", "--directory", "/y", "--client", "z")
    assert is_quiet(stand_in.alg("checkpoint", "--hook", *words, input=json.dumps(said)).stderr)
    changed = {"session_id": "x", "directory": "/y", "client": "z"}
    assert stand_in.wait_for("handoff_checkpoint", 2) == {**told, **changed}


@pytest.mark.parametrize("data", ["", "nonsense", "[]", "{" * 100_000, "\udcff"])
def test_a_hook_that_is_told_nothing_of_a_session_fails_open(stand_in: StandIn, data: str) -> None:
    done = subprocess.run(
        [ALG, "--home", str(stand_in.home), "handoff", "checkpoint", "--hook"],
        input=data.encode("utf-8", "surrogateescape"), capture_output=True, timeout=WAIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"alg: no checkpoint: ")
    assert done.stderr.count(b"\n") == 1
    assert stand_in.asked == []
