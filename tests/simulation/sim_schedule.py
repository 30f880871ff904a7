"""What happens in a simulation, round by round, decided before it begins and by the seed alone.

A step is plain data, so that a schedule can be written to a file, cut shorter and carried out again. What a step picks
it names by a token (`sim_text.chosen`), not by an id: ids are made anew in each run. Steps come one after the other,
but for those in a `together`: how processes and networks are timed is not in the seed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sim_servers import Transport
from sim_text import WORDS, line

Step = dict[str, Any]
Round = list[Step]

CLONES = ("anna", "bert", "carl")
POINTS = (
    *("write.validated", "write.temp_written", "write.renamed", "write.index_begun", "write.indexed"),
    *("commit.blobs_written", "commit.trees_written", "commit.commit_written", "commit.ref_updated"),
    *("commit.git_index_updated", "commit.recorded", "write.acknowledged"),
    *("sync.fetched", "sync.planned", "sync.objects_written", "sync.journal_written", "sync.file_written"),
    *("sync.tree_updated", "sync.ref_moved", "sync.index_updated", "sync.pushed"),
)
_TYPES = ("note", "note", "note", "fact", "preference", "decision", "task", "route", "handoff")
_EVERYWHERE = ("hook", "protected", "lock", "gone")
_ON_THE_WAY = ("refuse", "refuse", "hang", "cut_answer", "cut_answer", "cut_request", "mute", "mute", "slow")
_REFUSALS = ("401", "403", "404", "500", "503")
_DAY = 86_400


class _Writer:
    def __init__(self, seed: int, transport: Transport) -> None:
        self.dice = random.Random(f"{seed}/{transport}")  # noqa: S311 - a seed is to give the same each time
        self.transport = transport
        self.number = 0
        self.sources: list[dict[str, str]] = []
        self.harmed = False

    # --- texts ----------------------------------------------------------------------------------------

    def line(self) -> str:
        self.number += 1
        return line(self.number, self.dice.choices(WORDS, k=self.dice.randint(1, 6)))

    def body(self, most: int = 6) -> str:
        lines = [self.line() for _ in range(self.dice.randint(1, most))]
        if self.dice.random() < 0.3:
            lines.insert(0, f"# {self.dice.choice(WORDS)}")
        end = "\r\n" if self.dice.random() < 0.08 else "\n"
        return end.join(lines) + ("" if self.dice.random() < 0.1 else end)

    def title(self) -> str:
        return " ".join(self.dice.choices(WORDS, k=self.dice.randint(1, 4))) + f" {self.number}"

    def edits(self, place: float | None) -> list[list[Any]]:
        found: list[list[Any]] = []
        for _ in range(self.dice.choice((1, 1, 1, 2, 4))):
            at = place if place is not None and self.dice.random() < 0.6 else self.dice.random()
            kind = self.dice.choices(("insert", "change", "remove"), (5, 4, 1))[0]
            found.append([kind, at] if kind == "remove" else [kind, at, self.line()])
        return found

    def pick(self) -> int:
        return self.dice.randint(0, max(self.number, 1))

    # --- steps ----------------------------------------------------------------------------------------

    def edit(self, clone: str, focus: int | None, place: float | None) -> Step:
        dice = self.dice
        pick = focus if focus is not None and dice.random() < 0.6 else self.pick()
        kind = dice.choices(
            ("write", "update", "fields", "delete", "restore", "append", "import", "big", "hand", "person"),
            (16, 30, 8, 7, 3, 8, 2, 1, 22, 8),
        )[0]
        match kind:
            case "write":
                told: Step = {"op": "write", "type": dice.choice(_TYPES), "title": self.title(), "body": self.body()}
                told["tags"] = dice.sample(("red", "green", "blau", "été"), k=dice.randint(0, 3))
                if dice.random() < 0.2:
                    told["project"] = dice.choice(("bridge", "tower"))
            case "update":
                told = {"op": "update", "pick": pick, "edits": self.edits(place), "checked": dice.random() < 0.7}
                if dice.random() < 0.15:
                    told["title"] = self.title()
            case "fields":
                told = {"op": "update", "pick": pick, "edits": [], "checked": True, "status": dice.randint(1, 9)}
                told |= dice.choice(({"title": self.title()}, {"tag": f"tag{dice.randint(1, 20)}"}, {}))
                if dice.random() < 0.4:
                    told["link"] = self.pick()
            case "delete":
                told = {"op": "delete", "pick": pick}
            case "restore":
                told = {"op": "restore", "pick": dice.randint(0, 100)}
            case "append":
                new = dice.random() < 0.25
                told = {"op": "append", "new": new, "pick": self.pick(), "text": self.body(3), "title": self.title()}
            case "import":
                number = dice.randint(max(0, len(self.sources) - 1), len(self.sources))
                if number == len(self.sources):
                    self.sources.append({f"page-{each}.md": self.body() for each in range(dice.randint(1, 4))})
                told = {"op": "import", "source": number, "files": self.sources[number]}
            case "big":
                told = {"op": "write", "type": "note", "title": self.title(), "tags": []}
                told["body"] = "".join(self.body(6).rstrip() + "\n" for _ in range(dice.randint(60, 250)))
            case "hand":
                return self.by_hand(clone, pick, place)
            case _:
                return self.by_git(clone, pick, place)
        return {"do": "store", "clone": clone, "told": told}

    def by_hand(self, clone: str, pick: int, place: float | None) -> Step:
        dice = self.dice
        what = dice.choices(("edit", "new", "move", "delete", "break", "crlf"), (12, 5, 4, 3, 1, 1))[0]
        step: Step = {"do": "hand", "clone": clone, "what": what, "pick": pick}
        match what:
            case "edit":
                step["edits"] = self.edits(place)
            case "new":  # with few names, so that two clones make the same
                step |= {"path": f"notes/inbox/{dice.choice(WORDS)}-{dice.randint(0, 3)}.md", "body": self.body()}
            case "move":
                step["folder"] = dice.choice(("shelf", "büro", "a/b"))
            case "break":
                step["line"] = self.line()
            case _:
                pass
        return step

    def by_git(self, clone: str, pick: int, place: float | None) -> Step:
        dice = self.dice
        what = dice.choices(("commit", "pull", "file"), (4, 4, 3))[0]
        step: Step = {"do": "person", "clone": clone, "what": what, "pick": pick}
        if what == "commit":
            step["edits"] = self.edits(place)
        if what == "file":
            step |= {"path": f"papers/{dice.choice(('list.txt', 'README', 'data.csv', 'ö.txt'))}", "body": self.body()}
            step |= {"binary": dice.random() < 0.15, "whole": dice.random() < 0.3}
        return step

    def sync(self, clone: str) -> Step:
        return {"do": "store", "clone": clone, "told": {"op": self.dice.choice(("push", "push", "pull"))}}

    def killed(self, step: Step) -> Step:
        dice = self.dice
        if step["do"] != "store" or dice.random() > 0.14:
            return step
        if dice.random() < 0.65:
            syncs = step["told"]["op"] in ("pull", "push")
            points = [point for point in POINTS if not syncs or point.startswith("sync.") or dice.random() < 0.2]
            kill: Step = {"point": dice.choice(points), "count": dice.choice((1, 1, 1, 2, 3))}
        else:
            kill = {"after": round(dice.uniform(0.0, 0.25), 3)}
        return step | {"kill": kill | {"whole": dice.random() < 0.15}}

    def fault(self) -> Step:
        dice = self.dice
        choices: list[str] = list(_EVERYWHERE)
        if self.transport != "file":
            choices += _ON_THE_WAY * 2
        if self.transport == "http":
            choices += _REFUSALS * 2
        self.harmed = True
        fault = dice.choice(choices)
        limit = int(2 ** dice.uniform(0, 13)) if fault.startswith("cut") else 0
        return {"do": "fault", "clone": dice.choice(CLONES), "fault": fault, "limit": limit}

    def restart(self, clone: str) -> Step:
        watch = self.dice.choices(("off", "events", "poll"), (5, 4, 1))[0]
        return {"do": "restart", "clone": clone, "watch": watch, "pushes": self.dice.random() < 0.3}

    # --- rounds ---------------------------------------------------------------------------------------

    def round(self) -> Round:
        dice = self.dice
        steps: Round = []
        if self.harmed and dice.random() < 0.45:
            self.harmed = False
            steps.append({"do": "mend"})
        if dice.random() < 0.2:
            steps.append(self.fault())
        if dice.random() < 0.08:
            steps.append(self.restart(dice.choice(CLONES)))
        focus, place = (self.pick(), dice.random()) if dice.random() < 0.7 else (None, None)
        for clone in dice.sample(CLONES, k=dice.randint(1, 3)):
            steps += [self.killed(self.edit(clone, focus, place)) for _ in range(dice.randint(1, 3))]
        if dice.random() < 0.35:
            clones = dice.sample(CLONES, k=dice.randint(2, 3))
            steps.append({"do": "together", "steps": [self.killed(self.sync(clone)) for clone in clones]})
        else:
            steps += [self.killed(self.sync(clone)) for clone in dice.sample(CLONES, k=dice.randint(1, 2))]
        return steps


def schedule(seed: int, rounds: int, transport: Transport) -> list[Round]:
    """The rounds of a seed. Each few of them end with a heal: nothing is wrong any more, and everything is judged."""
    writer = _Writer(seed, transport)
    dice = writer.dice
    clocks = {clone: dice.choice((0, 0, dice.randint(-5, 5) * _DAY, dice.randint(-3600, 3600))) for clone in CLONES}
    made: list[Round] = [[{"do": "clocks", "seconds": clocks}, *(writer.restart(clone) for clone in CLONES)]]
    until = 0
    for number in range(1, rounds + 1):
        if not until:
            until = dice.randint(4, 12)
        until -= 1
        found = writer.round()
        if not until or number == rounds:
            last = number == rounds
            found.append({"do": "heal", "deep": last or dice.random() < 0.1, "last": last})
            writer.harmed = False
        made.append(found)
    return made


def save(path: Path, head: Step, rounds: Iterable[Round]) -> None:
    """Write a schedule: a line about the run, then a line for each round."""
    lines = [json.dumps(one, ensure_ascii=False) for one in (head, *rounds)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def load(path: Path) -> tuple[Step, list[Round]]:
    """Read one back."""
    head, *rounds = [json.loads(text) for text in path.read_text("utf-8").split("\n") if text.strip()]
    return head, rounds
