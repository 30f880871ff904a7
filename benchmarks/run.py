"""The numbers of the README and of `docs/benchmarks.md`: `python benchmarks/run.py`.

Everything happens in a temporary folder (set TMPDIR to choose the disk) with real hubs, real shims and clients over
stdio, on homes of 10,000 memories. Each number stands beside a floor, or another product, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _peers
import _scenarios
from _bench import QUICK, Bench, Size
from _measure import Row, as_json, load_average, machine, say
from _tables import write_docs

_DOCS = Path(__file__).parent.parent / "docs" / "benchmarks.md"
# What of ours a peer's four rows are divided by.
_OURS = {
    "start": "shim: start to `initialize` answered, hub running",
    "write": "durable write, answered",
    "search": "lexical search",
    "memory": "each further client: shim and growth of the hub, resident",
}


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 1 when one of our scenarios failed."""
    options = _options(arguments)
    names: list[str] = options.only or list(_scenarios.SCENARIOS)
    measured: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="alg-bench-", ignore_cleanup_errors=True) as folder:
        bench = Bench(Path(folder), QUICK if options.quick else Size(), options.cache)
        report: dict[str, Any] = {
            "command": _command(options),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "quick": options.quick,
            "memories": bench.size.memories,
            "machine": machine(Path(folder)),
            "load_average": {"before": load_average()},
            "scenarios": {},
            "peers": {},
        }
        say(f"preparing a home with {bench.size.memories:,} memories")
        bench.prepared()
        for name in names:
            say(name)
            rows, about = _scenarios.measure(bench, name)
            measured |= {item.what: item for item in rows}
            report["scenarios"][name] = {"title": _scenarios.TITLES[name], "rows": as_json(rows), **about}
        ours = {name: measured[what] for name, what in _OURS.items() if what in measured}
        for name in _peers.PEERS if options.peers else ():
            rows, about = _peers.measure(bench, name, ours)
            report["peers"][name] = {"rows": as_json(rows), **about}
        report["load_average"]["after"] = load_average()
    text = json.dumps(report, indent=2) + "\n"
    if options.json:
        options.json.write_text(text, "utf-8")
    else:
        print(text, end="")
    if options.write_docs:
        write_docs(_DOCS, report)
    return int(any(part["failed"] for part in report["scenarios"].values()))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure, each number beside a floor or a peer in the same run.")
    known = list(_scenarios.SCENARIOS)
    parser.add_argument("--only", nargs="+", choices=known, metavar="NAME", help=f"of: {', '.join(known)}")
    parser.add_argument("--peers", action="store_true", help="install other memory servers and measure them too")
    parser.add_argument("--quick", action="store_true", help="a small home, few samples: to try out, not to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there; default: stdout")
    parser.add_argument("--write-docs", action="store_true", help="write the tables of docs/benchmarks.md")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep prepared homes there for the next run")
    options = parser.parse_args(arguments)
    if options.write_docs and (options.quick or options.only):
        parser.error("--write-docs takes a whole run, without --quick and --only")
    return options


def _command(options: argparse.Namespace) -> str:
    """The command that makes this report again; paths are left out, because they are of this machine."""
    words = ["python benchmarks/run.py"]
    words += ["--only", *options.only] if options.only else []
    words += [flag for flag in ("--peers", "--quick") if getattr(options, flag[2:])]
    return " ".join([*words, *(["--write-docs"] if options.write_docs else [])])


if __name__ == "__main__":
    sys.exit(main())
