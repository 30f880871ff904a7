"""Three clones and a remote that everything happens to, in short; `run.py` runs it for as long as one likes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sim_oracle import Oracle, kinds_allowed, told_truly
from sim_run import simulate
from sim_schedule import CLONES, Round, Step, load, save, schedule
from sim_servers import TRANSPORTS, Transport
from sim_text import blob_id, chosen, edited, line, memory_id, token, tokens

RUN = Path(__file__).with_name("run.py")
ROUNDS = 24
SEEDS = {"daemon": 3, "http": 5, "file": 8}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_clones_that_everything_happens_to_end_the_same_with_all_that_was_acknowledged(
    tmp_path: Path, transport: Transport
) -> None:
    seed = SEEDS[transport]
    report, happened = simulate(tmp_path / "run", transport, schedule(seed, ROUNDS, transport), seed=seed)
    again = f"python tests/simulation/run.py --transport {transport} --seed {seed} --rounds {ROUNDS}"
    assert report.wrong is None, "\n".join([str(report.wrong), *happened, f"again: {again}"])
    assert report.rounds == ROUNDS
    counts = report.counts
    for what in ("acknowledged writes", "edits by hand", "kills", "faults", "heals", "git fsck", "statuses judged"):
        assert counts[what], (what, counts)


def test_a_seed_is_the_same_schedule_each_time_and_another_one_is_not(tmp_path: Path) -> None:
    made = schedule(7, 40, "http")
    assert made == schedule(7, 40, "http")
    assert made != schedule(8, 40, "http")
    assert made != schedule(7, 40, "daemon")
    save(tmp_path / "file", {"seed": 7, "transport": "http"}, made)
    assert load(tmp_path / "file") == ({"seed": 7, "transport": "http"}, made)


def started() -> Round:
    begin = [{"do": "restart", "clone": clone, "watch": "off", "pushes": False} for clone in CLONES]
    return [{"do": "clocks", "seconds": dict.fromkeys(CLONES, 0)}, *begin]


def wrote(clone: str, number: int) -> Round:
    told: Step = {
        "op": "write",
        "type": "note",
        "title": f"Title {number}",
        "tags": [],
        "body": line(number, ["here"]) + "\n",
    }
    return [{"do": "store", "clone": clone, "told": told}, {"do": "store", "clone": clone, "told": {"op": "push"}}]


HEAL: Round = [{"do": "heal", "deep": True}]


@pytest.mark.timeout(600)
def test_what_is_lost_is_seen_and_the_run_says_how_to_have_it_again(tmp_path: Path) -> None:
    # A clone whose person throws a memory away with git, which no answer of the store says anything of.
    steps = {"do": "person", "clone": "anna", "what": "lose"}
    file = tmp_path / "schedule.jsonl"
    save(file, {"seed": 1, "transport": "file"}, [started(), wrote("anna", 1), [*wrote("bert", 2), steps], HEAL])
    done = subprocess.run(
        [sys.executable, str(RUN), "--replay", str(file), "--folder", str(tmp_path / "out"), "--shrink", "3"],
        capture_output=True,
        encoding="utf-8",
        timeout=500,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "was changed by anna alone to" in done.stdout
    assert "--replay" in done.stdout
    short = next((tmp_path / "out").glob("*.short.jsonl"))
    _, rounds = load(short)
    assert len(rounds) < 4
    happened = (tmp_path / "out" / "file-1" / "happened.jsonl").read_text("utf-8").splitlines()
    assert json.loads(happened[-1])["what"] == "WRONG"


# --- the parts that judge -----------------------------------------------------------------------------


def test_a_line_has_to_be_there_unless_somebody_who_saw_it_took_it_away() -> None:
    oracle = Oracle()
    oracle.changed("anna", (), (1, 2), "write")
    oracle.changed("bert", (1,), (3,), "change")  # took 1 away, has not seen 2
    assert oracle.due() == {2, 3}
    oracle.changed("anna", (), (1,), "restore")  # meanwhile: what bert did may well win
    assert oracle.due() == {2, 3}
    oracle.heal({})
    oracle.changed("anna", (), (1,), "restore")
    assert oracle.due() == {1, 2, 3}
    oracle.maybe("carl", {"before": [3], "after": [], "ids": ["A"]})
    assert oracle.due() == {1, 2}


def test_what_one_clone_alone_changed_is_as_it_left_it() -> None:
    oracle = Oracle()
    oracle.heal({"a.md": "1", "b.md": "1", "c.md": "1", "d.md": "1"})
    ids = {"a.md": "A", "b.md": "B", "c.md": "C", "d.md": "D"}
    oracle.touch("anna", "A", "a.md", "2")
    oracle.touch("anna", "B", "b.md", None)
    oracle.touch("anna", "C", "c.md", "2")
    oracle.touch("bert", "C", "c.md", "3")
    now = {path: memory for path, memory in ids.items() if path != "b.md"}
    assert oracle.surprises({"a.md": "2", "c.md": "4", "d.md": "1"}, ids, now) == []
    assert len(oracle.surprises({"a.md": "1", "b.md": "1", "c.md": "4", "d.md": "2"}, ids, ids)) == 3
    another = {**now, "b.md": "E"}  # of another memory, where the deleted one was
    assert oracle.surprises({"a.md": "2", "b.md": "5", "c.md": "4", "d.md": "1"}, ids, another) == []
    oracle.unsure.add("A")
    assert len(oracle.surprises({"a.md": "1", "c.md": "4", "d.md": "1"}, ids, now)) == 0


def test_a_status_is_held_against_what_git_counts() -> None:
    def said(state: str, ahead: int, behind: int, counted: list[int] | None) -> str | None:
        return told_truly({"sync": {"state": state, "ahead": ahead, "behind": behind}, "counted": counted})

    assert said("pushed", 0, 0, [0, 0]) is None
    assert said("failed", 1, 0, [1, 0]) is None
    assert said("diverged", 1, 2, [1, 2]) is None
    assert said("pushed", 0, 0, None) is None  # something moved while it was looked at
    assert said("pushed", 0, 0, [1, 0])
    assert said("pending", 2, 0, [1, 0])
    assert said("pushed", 1, 0, [1, 0])
    assert said("behind", 1, 1, [1, 1])


def test_a_failure_must_be_of_what_is_wrong() -> None:
    assert kinds_allowed("pull", (), "http", racing=False, hurt=False) == set()
    assert kinds_allowed("pull", ("hook", "lock"), "http", racing=False, hurt=False) == set()
    assert kinds_allowed("push", ("hook", "lock"), "http", racing=False, hurt=False) == {"hook_rejected", "ref_locked"}
    assert kinds_allowed("pull", ("gone",), "daemon", racing=False, hurt=False) == {"access_denied"}
    assert "non_fast_forward" in kinds_allowed("push", (), "file", racing=True, hurt=False)


def test_texts_are_edited_line_by_line_and_keep_their_line_ends() -> None:
    assert edited("a\nb\nc\n", [("change", 0.5, "B"), ("insert", 0.0, "z")]) == "z\na\nB\nc\n"
    assert edited("a\r\nb", [("insert", 0.99, "c")]) == "a\r\nb\r\nc"
    assert edited("a\n", [("remove", 0.0)]) == ""
    assert edited("", [("insert", 0.3, "a"), ("remove", 0.1)]) in ("", "a", "a\n", "\na")
    assert tokens(f"x {token(3)} y {token(12)}") == {3, 12}
    assert chosen([({5, 9}, "b"), ({2}, "a"), (set(), "none")], 3) == "b"
    assert chosen([({5, 9}, "b"), ({2}, "a")], 6) == "a"
    assert blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert memory_id(b'---\nid: "01JD0000000000000000000001"\n---\n') == "01JD0000000000000000000001"
    assert memory_id(b"id: 01JD0000000000000000000001\n") is None
