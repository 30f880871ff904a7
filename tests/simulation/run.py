"""Three clones, one remote, and everything that goes wrong: `python tests/simulation/run.py --rounds 1000 --seed 7`.

What happens is decided by the seed alone, but for how processes and networks are timed. A run that ends with something
wrong prints the command that repeats it, and leaves its schedule in the folder with everything else; `--replay` carries
it out again, and `--shrink` makes it shorter.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from sim_run import Report, simulate
from sim_schedule import Round, load, save, schedule
from sim_servers import TRANSPORTS, Transport


def main(arguments: list[str] | None = None) -> int:
    """Run seeds one after the other; 1 when something was wrong."""
    parser = argparse.ArgumentParser(description="Simulate sync between three clones while everything goes wrong.")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="so many runs, each with the next seed")
    parser.add_argument("--transport", choices=(*TRANSPORTS, "all"), default="all")
    parser.add_argument("--folder", type=Path, help="where everything goes; kept. Otherwise a temporary one")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="carry out this schedule rather than make one")
    parser.add_argument("--shrink", type=int, default=0, metavar="N", help="drop rounds of a failing run, in N runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add a line for each run to this file")
    options = parser.parse_args(arguments)
    folder: Path = options.folder or Path(tempfile.mkdtemp(prefix="alg-simulation-"))
    runs: list[tuple[int, Transport, list[Round]]] = []
    if options.replay:
        head, rounds = load(options.replay)
        runs.append((head["seed"], head["transport"], rounds))
    else:
        for seed in range(options.seed, options.seed + options.seeds):
            for transport in TRANSPORTS if options.transport == "all" else (options.transport,):
                runs.append((seed, transport, schedule(seed, options.rounds, transport)))
    wrong = 0
    for seed, transport, rounds in runs:
        place = folder / f"{transport}-{seed}"
        file = folder / f"{transport}-{seed}.schedule.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        save(file, {"seed": seed, "transport": transport}, rounds)
        report, happened = simulate(place, transport, rounds, seed=seed)
        print("\n".join(report.lines()), flush=True)
        if options.json:
            with options.json.open("a", encoding="utf-8") as out:
                out.write(json.dumps(report.as_dict()) + "\n")
        if report.wrong is None:
            continue
        wrong += 1
        print("\n".join(["what happened last:", *happened[-25:]]))
        print(f"again: python tests/simulation/run.py --replay {file}")
        if options.shrink:
            shorter, report = shrunk(place, transport, rounds, seed, report, options.shrink)
            file = file.with_suffix(".short.jsonl")
            save(file, {"seed": seed, "transport": transport}, shorter)
            print(f"{len(shorter) - 1} rounds are enough for: {report.wrong}\n  --replay {file}")
    return int(bool(wrong))


def shrunk(
    place: Path, transport: Transport, rounds: list[Round], seed: int, report: Report, runs: int
) -> tuple[list[Round], Report]:
    """Fewer rounds that go wrong as well, found by leaving out larger and then smaller parts."""
    first, *rest = rounds[: report.rounds + 2]
    if not any(step["do"] == "heal" for step in rest[-1]):
        rest[-1] = [*rest[-1], {"do": "heal", "deep": True}]
    part = max(len(rest) // 2, 1)
    while runs > 0:
        start = 0
        while start < len(rest) and runs > 0:
            fewer = [*rest[:start], *rest[start + part :]]
            if not fewer:
                break
            runs -= 1
            last = [step for step in fewer[-1] if step["do"] != "heal"]
            tried = [first, *fewer[:-1], [*last, {"do": "heal", "deep": True}]]
            found, _ = simulate(place, transport, tried, seed=seed)
            if found.wrong is not None:
                first, *rest = tried
                report = found
            else:
                start += part
        if part == 1:
            break
        part //= 2
    return [first, *rest], report


if __name__ == "__main__":
    sys.exit(main())
