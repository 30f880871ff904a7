"""The hub by HTTP under load: `python benchmarks/http/run.py`.

On the loopback, on a home of 10,000 memories: how many requests a second, how many searches with 50 clients, what a
thousand connections cost that do nothing, and whether ten minutes of all kinds of requests leave anything behind. The
load comes from a process of its own, which speaks both protocol eras and the REST API, and looks at every answer.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share

import _calls
import _standing
from _measure import Row
from _parts import Parts, cache_of
from _place import QUICK, Amount, Place
from _tables import made, versions

PARTS = Parts(
    "benchmarks/http/run.py",
    "http",
    {
        "tool": "A tool that does nothing",
        "search": "Search with many clients",
        "idle": "Connections that do nothing",
        "mixed": "Minutes of everything",
    },
)


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for."""
    parser = PARTS.parser("Measure the hub by HTTP under load.")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep the prepared home there for the next run")
    parser.add_argument("--minutes", type=float, metavar="N", help="of the mixed load; default: 10")
    options = PARTS.options(parser, arguments)
    amount = QUICK if options.quick else Amount()
    if options.minutes:
        amount = replace(amount, minutes=options.minutes)
    with tempfile.TemporaryDirectory(prefix="alg-http-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        libraries = {name: metadata.version(name) for name in ("mcp", "uvicorn", "httptools", "starlette")}
        place = Place(folder, cache_of(options, folder), amount)
        more = ("--minutes", f"{options.minutes:g}") if options.minutes else ()
        report = PARTS.report(
            options,
            folder,
            command=PARTS.command(options, *more),
            memories=place.work["memories"],
            libraries=libraries,
        )
        measures: dict[str, Callable[[], list[Row]]] = {
            "tool": lambda: _calls.tool(place),
            "search": lambda: _calls.search(place),
            "idle": lambda: _standing.idle(place),
            "mixed": lambda: _standing.mixed(place),
        }
        PARTS.measure(report, options, measures)
    also = f", with {report['memories']:,} memories in the home"
    PARTS.show(report, options, made(report, [versions(report["libraries"])], also=also))
    return 0


if __name__ == "__main__":
    sys.exit(main())
