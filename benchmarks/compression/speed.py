"""How long packages and compaction take, and what memory they add: `python benchmarks/compression/speed.py`.

Each number stands beside a floor or another program, measured in the same run. What asks the hub does so through
`alg serve` on a home of 10,000 memories, a copy of one that is built once (see `../_scale_home.py`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share
sys.path.append(str(Path(__file__).resolve().parent.parent / "retrieval"))

import _headroom
import _speed_parts
from _client import Failed
from _headroom import PACKAGE, TextCrusher
from _measure import Row, say
from _parts import Parts, cache_of
from _speed_parts import Amount, Asked
from _tables import made, versions

PARTS = Parts(
    "benchmarks/compression/speed.py",
    "compression speed",
    {
        "package": "A package of 2,000 tokens from 200 candidates",
        "tool": "A package through the tool",
        "compaction": "Compaction of a session of 100,000 tokens",
        "memory": "Memory that packages add",
    },
)
_QUICK = Amount(memories=300, packages=3, chunks=300, calls=4, log_tokens=3_000, compactions=2, processes=1)


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for; 1 when a peer failed."""
    options = _options(arguments)
    amount = _QUICK if options.quick else Amount(chunks=options.chunks)
    failed = ""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alg-", ignore_cleanup_errors=True)))
        cache = cache_of(options, folder)
        crusher: TextCrusher | None = None
        if options.peers:
            try:
                crusher = stack.enter_context(_headroom.installed(cache / "peers"))
            except Failed as error:
                failed = str(error)
                say(f"{PACKAGE} is left out: {failed}")
        peer = crusher.package if crusher else None
        report = PARTS.report(options, folder, command=_command(options), peer=peer, failed=failed)
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
        PARTS.measure(report, options, measures)
    head = made(report, [versions(report["machine"]["packages"]), report["peer"]])
    if failed:
        head.append(f"- {PACKAGE}: not measured. {failed.replace(chr(10), ' ')[:400]}")
    PARTS.show(report, options, head)
    return int(bool(failed))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = PARTS.parser("Measure how long packages and compaction take.")
    parser.add_argument("--peers", action="store_true", help="install and measure other programs, too")
    parser.add_argument("--chunks", type=int, default=Amount().chunks, metavar="N", help="of the home, at least")
    parser.add_argument("--prose", type=Path, metavar="FILE", help="a sentence a line, subjects parted by empty lines")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep homes and installed programs there")
    return PARTS.options(parser, arguments)


def _command(options: argparse.Namespace) -> str:
    words = ["--peers"] if options.peers else []
    words += ["--chunks", str(options.chunks)] if options.chunks != Amount().chunks else []
    words += ["--prose", "FILE"] if options.prose else []
    return PARTS.command(options, *words)


if __name__ == "__main__":
    sys.exit(main())
