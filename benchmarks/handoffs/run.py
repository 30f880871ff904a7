"""What handoffs cost, and a race for them: `python benchmarks/handoffs/run.py`.

`local` and `remote` offer and claim work through stdio on a home of 10,000 memories. `race` has many clients of two
hubs, on two clones of one remote, claim the same handoffs, kills hubs meanwhile, and judges by the files of both clones
and by what every client was told; it ends with 1 when anything was wrong, and names the seed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share

import _races
import _speed
from _measure import Row
from _parts import Parts, cache_of
from _tables import made

PARTS = Parts(
    "benchmarks/handoffs/run.py",
    "handoffs",
    {
        "local": "Without a remote",
        "remote": "With a remote",
        "race": "A race",
    },
)


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for; 1 when a race went otherwise than it must."""
    parser = PARTS.parser("Measure offering and claiming, and race for handoffs while hubs are killed.")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep prepared homes there for the next run")
    parser.add_argument("--runs", type=int, metavar="N", help="so many races; default: 20")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first race; the next has the next one")
    options = PARTS.options(parser, arguments)
    amount = _speed.QUICK if options.quick else _speed.Amount()
    races = _races.QUICK if options.quick else _races.Amount()
    runs = options.runs or races.runs
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="alg-handoffs-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        cache = cache_of(options, folder)
        report = PARTS.report(options, folder, violations=wrong)
        measures: dict[str, Callable[[], list[Row]]] = {
            "local": lambda: _speed.local(folder / "local", cache, amount),
            "remote": lambda: _speed.remote(folder / "remote", cache, amount),
            "race": lambda: _races.races(folder / "race", races, runs, options.seed, wrong),
        }
        PARTS.measure(report, options, measures)
    PARTS.show(report, options, made(report, [f"git {report['machine']['git']}"]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
