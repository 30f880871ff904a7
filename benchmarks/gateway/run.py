"""What the gateway adds to a request: `python benchmarks/gateway/run.py`.

Every way asks one endpoint on the loopback, in a process of its own, in turns: by raw HTTP, by `any-llm-sdk` alone, by
our provider, by the gateway, and through the hub. The home has five providers with 40 models, 20 consents and 10,000
receipts, and every receipt is on the disk before its answer is given.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share

import _calls
import _hub_parts
from _calls import Amount
from _endpoint import endpoint
from _home import fill
from _measure import Row, as_json, load_average, machine, say
from _tables import rows_table, write_between

_DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_BEGIN = "<!-- gateway: begin; written by `benchmarks/gateway/run.py --write-docs` -->"
_END = "<!-- gateway: end -->"
TITLES = {
    "calls": "Whole answers",
    "streams": "One stream",
    "at_once": "100 streams at once",
    "start": "Start, first request and memory",
    "hub": "Through the hub",
}


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for."""
    options = _options(arguments)
    amount = _calls.QUICK if options.quick else Amount()
    with tempfile.TemporaryDirectory(prefix="alg-", ignore_cleanup_errors=True) as temporary, endpoint() as root:
        folder = Path(temporary)
        report: dict[str, Any] = {
            "command": _command(options),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "quick": options.quick,
            "receipts": amount.receipts,
            "machine": machine(folder),
            "libraries": {name: metadata.version(name) for name in ("any-llm-sdk", "openai", "httpx2")},
            "load_average": {"before": load_average()},
            "parts": {},
        }
        home = folder / "gateway"
        if {"calls", "streams", "at_once"} & set(options.only):
            say(f"filling a home with {amount.receipts:,} receipts")
            fill(home, amount.receipts)
        measures: dict[str, Callable[[], list[Row]]] = {
            "calls": lambda: asyncio.run(_calls.calls(root, home, amount)),
            "streams": lambda: asyncio.run(_calls.streams(root, home, amount)),
            "at_once": lambda: asyncio.run(_calls.at_once(home, amount)),
            "start": lambda: _hub_parts.start(root, folder / "start", amount),
            "hub": lambda: _hub_parts.hub(root, folder / "hub", amount),
        }
        for name in options.only:
            say(TITLES[name])
            report["parts"][name] = {"title": TITLES[name], "rows": as_json(measures[name]())}
            report["load_average"]["after"] = load_average()
            if options.json:
                options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(as_markdown(report))
    if options.write_docs:
        write_between(_DOCS, _BEGIN, as_markdown(report), _END)
    return 0


def as_markdown(report: dict[str, Any]) -> str:
    """The tables of `docs/benchmarks.md`, under headings of the third level."""
    load, machine = report["load_average"], report["machine"]
    libraries = ", ".join(f"{name} {version}" for name, version in report["libraries"].items())
    lines = [
        f"Made on {report['date']} by `{report['command']}` at commit `{machine['commit']}`, with "
        f"{report['receipts']:,} receipts in the home.",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, "
        f"homes on {machine['file_system']}.",
        f"- Software: {machine['python']}, {libraries}.",
        f"- Load average before and after (1, 5, 15 minutes): {_load(load['before'])} and {_load(load['after'])}.",
    ]
    parts = [[f"### {part['title']}", "", *rows_table(part["rows"]), ""] for part in report["parts"].values()]
    return "\n".join([*lines, "", *itertools.chain.from_iterable(parts)])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what the gateway adds to a request.")
    known = list(TITLES)
    parser.add_argument(
        "--only", nargs="+", choices=known, default=known, metavar="PART", help=f"of: {', '.join(known)}"
    )
    parser.add_argument("--quick", action="store_true", help="little of everything: to try out, not to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--write-docs", action="store_true", help="write the tables of docs/benchmarks.md")
    options = parser.parse_args(arguments)
    if options.write_docs and (options.quick or len(options.only) < len(known)):
        parser.error("--write-docs takes a whole run, without --quick and --only")
    return options


def _command(options: argparse.Namespace) -> str:
    """The command that makes this report again; paths are left out, because they are of this machine."""
    words = ["python benchmarks/gateway/run.py"]
    words += ["--only", *options.only] if len(options.only) < len(TITLES) else []
    words += ["--quick"] if options.quick else []
    words += ["--write-docs"] if options.write_docs else []
    return " ".join(words)


def _load(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
