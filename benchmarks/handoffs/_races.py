"""Races, one after the other, each with its own seed; and what git alone needs for a claim."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import _race
from _bench import Bench
from _measure import Row, row, say
from _race import Outcome, Race
from _scale_home import size_of


@dataclass(frozen=True, slots=True)
class Amount:
    """How many races of which size, and how many pushes by git alone."""

    race: Race = field(default_factory=Race)
    runs: int = 20
    pushes: int = 100


QUICK = Amount(Race(clients=4, handoffs=5, kills=1), runs=1, pushes=3)


def races(root: Path, amount: Amount, runs: int, seed: int, wrong: list[str]) -> list[Row]:
    """Race `runs` times.

    Args:
        root: is made; a race's folder stays there when something was wrong with it.
        seed: of the first race.
        wrong: what was wrong is put there, with the seed.
    """
    bench = Bench(root / "bench", size_of(0))
    outcomes: list[Outcome] = []
    rates: list[float] = []
    for number in range(seed, seed + runs):
        race = replace(amount.race, seed=number)
        folder = root / f"race{number}"
        folder.mkdir()
        outcome = _race.run(race, folder, bench.alg, bench.env)
        outcomes.append(outcome)
        say(
            f"seed {number}: {outcome.seconds:.1f} s, yours {outcome.count('yours')}, taken {outcome.count('taken')}, "
            f"lost {outcome.count('lost')}, failed {outcome.count('failed')}, killed {outcome.killed}, "
            f"violations {len(outcome.violations)}"
        )
        for failed in sorted({one.text[:200] for one in outcome.told if one.answer == "failed"}):
            say(f"  failed: {failed}")
        wrong += [f"seed {number}: {problem}" for problem in outcome.violations]
        for problem in outcome.violations[:20]:
            say(f"  VIOLATION {problem}")
        rates.append(_pushes(bench, folder, max(1, amount.pushes // runs)))
        if not outcome.violations:
            shutil.rmtree(folder)
    return _rows(outcomes, rates)


def _rows(outcomes: list[Outcome], rates: list[float]) -> list[Row]:
    race = outcomes[0].race
    killed = sum(len(outcome.killed) for outcome in outcomes)
    found = sum(len(outcome.violations) for outcome in outcomes)
    told = [one for outcome in outcomes for one in outcome.told]
    floor = row("commits fetched for and pushed by git alone, one clone, nobody else", "/s", rates, of="floor")
    what = f"{race.clients} clients, {race.handoffs} handoffs, 2 hubs, {race.kills} SIGKILLs"
    lost = sum(one.answer == "lost" for one in told)
    return [
        row(
            f"{what}: races in which every handoff has one holder",
            "%",
            [100.0 * (not outcome.violations) for outcome in outcomes],
            target=100,
            note=f"{found} violations in {len(outcomes)} races; {killed} hubs were killed and {lost} answers lost",
        ),
        row(
            f"{what}: claims confirmed by a push",
            "/s",
            [outcome.race.handoffs / outcome.seconds for outcome in outcomes],
            against=floor,
            note="the seconds in which killed hubs start again are in it",
        ),
        floor,
        row("answers to those who asked", "/s", [len(outcome.told) / outcome.seconds for outcome in outcomes]),
        row("a claim that won", "ms", [one.ms for one in told if one.answer == "yours"]),
        row(
            "a claim that was refused: somebody else holds it", "ms", [one.ms for one in told if one.answer == "taken"]
        ),
    ]


def _pushes(bench: Bench, folder: Path, count: int) -> float:
    """Commits a second that git alone gets into the race's remote."""
    clone = folder / "clone"

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=folder, env=bench.env, check=True, stdout=subprocess.DEVNULL)

    git("clone", "--quiet", "--no-local", str(folder / "remote.git"), str(clone))
    start = time.perf_counter()
    for _ in range(count):
        git("-C", str(clone), "fetch", "--quiet", "origin")
        git("-C", str(clone), "commit", "--quiet", "--allow-empty", "--message", "Nothing")
        git("-C", str(clone), "push", "--quiet", "origin", "HEAD")
    return count / (time.perf_counter() - start)
