"""How long packages and compaction take, and what memory they add: `python benchmarks/compression/speed.py`.

Each number stands beside a floor or another program, measured in the same run. What asks the hub does so through
`alg serve` on a home of 10,000 memories, a copy of one that is built once (see `../_scale_home.py`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share
sys.path.append(str(Path(__file__).resolve().parent.parent / "retrieval"))

import _headroom
import _speed_parts
from _client import Failed
from _headroom import PACKAGE, TextCrusher
from _measure import Row, as_json, load_average, machine, say
from _speed_parts import Amount, Asked
from _tables import rows_table, write_between

_DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_BEGIN = "<!-- compression speed: begin; written by `benchmarks/compression/speed.py --write-docs` -->"
_END = "<!-- compression speed: end -->"
TITLES = {
    "package": "A package of 2,000 tokens from 200 candidates",
    "tool": "A package through the tool",
    "compaction": "Compaction of a session of 100,000 tokens",
    "memory": "Memory that packages add",
}
_QUICK = Amount(memories=300, packages=3, chunks=300, calls=4, log_tokens=3_000, compactions=2, processes=1)


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for; 1 when a peer failed."""
    options = _options(arguments)
    amount = _QUICK if options.quick else Amount(chunks=options.chunks)
    failed = ""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alg-", ignore_cleanup_errors=True)))
        cache: Path = options.cache or folder / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        crusher: TextCrusher | None = None
        if options.peers:
            try:
                crusher = stack.enter_context(_headroom.installed(cache / "peers"))
            except Failed as error:
                failed = str(error)
                say(f"{PACKAGE} is left out: {failed}")
        report: dict[str, Any] = {
            "command": _command(options),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "quick": options.quick,
            "machine": machine(folder),
            "load_average": {"before": load_average()},
            "peer": crusher.package if crusher else None,
            "failed": failed,
            "parts": {},
        }
        questions: list[Asked] = []
        if {"package", "memory"} & set(options.only):
            say(f"indexing {amount.memories:,} memories")
            questions = _speed_parts.questions(folder / "package.db", amount, whole=not options.quick)
        measures: dict[str, Callable[[], list[Row]]] = {
            "package": lambda: _speed_parts.packages(questions, crusher),
            "tool": lambda: _speed_parts.through_the_tool(folder, cache, amount, options.prose, quick=options.quick),
            "compaction": lambda: _speed_parts.compactions(folder, amount, whole=not options.quick),
            "memory": lambda: _speed_parts.memory(questions, amount, crusher),
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
    return int(bool(failed))


def as_markdown(report: dict[str, Any]) -> str:
    """The tables of `docs/benchmarks.md`, under headings of the third level."""
    load = report["load_average"]
    machine = report["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"Made on {report['date']} by `{report['command']}` at commit `{machine['commit']}`.",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, "
        f"homes on {machine['file_system']}.",
        f"- Software: {machine['python']}, {', '.join(filter(None, [packages, report['peer']]))}.",
        f"- Load average before and after (1, 5, 15 minutes): {_load(load['before'])} and {_load(load['after'])}.",
    ]
    if report["failed"]:
        lines.append(f"- {PACKAGE}: not measured. {report['failed'].replace(chr(10), ' ')[:400]}")
    parts = [[f"### {part['title']}", "", *rows_table(part["rows"]), ""] for part in report["parts"].values()]
    return "\n".join([*lines, "", *itertools.chain.from_iterable(parts)])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how long packages and compaction take.")
    known = list(TITLES)
    parser.add_argument(
        "--only", nargs="+", choices=known, default=known, metavar="PART", help=f"of: {', '.join(known)}"
    )
    parser.add_argument("--peers", action="store_true", help="install and measure other programs, too")
    parser.add_argument("--quick", action="store_true", help="little of everything: to try out, not to quote")
    parser.add_argument("--chunks", type=int, default=Amount().chunks, metavar="N", help="of the home, at least")
    parser.add_argument("--prose", type=Path, metavar="FILE", help="a sentence a line, subjects parted by empty lines")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep homes and installed programs there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--write-docs", action="store_true", help="write the tables of docs/benchmarks.md")
    options = parser.parse_args(arguments)
    if options.write_docs and (options.quick or len(options.only) < len(known)):
        parser.error("--write-docs takes a whole run, without --quick and --only")
    return options


def _command(options: argparse.Namespace) -> str:
    """The command that makes this report again; paths are left out, because they are of this machine."""
    words = ["python benchmarks/compression/speed.py"]
    words += ["--only", *options.only] if len(options.only) < len(TITLES) else []
    words += [f"--{flag}" for flag in ("peers", "quick") if getattr(options, flag)]
    words += ["--chunks", str(options.chunks)] if options.chunks != Amount().chunks else []
    words += ["--prose", "FILE"] if options.prose else []
    words += ["--write-docs"] if options.write_docs else []
    return " ".join(words)


def _load(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
