"""A benchmark of several parts: its options, what is measured of them, and their section of `docs/benchmarks.md`."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _measure import Row, as_json, load_average, machine, say
from _tables import rows_table, write_between

_DOCS = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a benchmark is called, and what of.

    Attributes:
        script: its path in the repository.
        section: the name in the marks of its section.
        titles: of the parts, in the order in which they are measured and shown.
    """

    script: str
    section: str
    titles: Mapping[str, str]

    def parser(self, description: str) -> argparse.ArgumentParser:
        """The options of every such benchmark; more may be added."""
        parser = argparse.ArgumentParser(description=description)
        known = list(self.titles)
        parser.add_argument(
            "--only", nargs="+", choices=known, default=known, metavar="PART", help=f"of: {', '.join(known)}"
        )
        parser.add_argument("--quick", action="store_true", help="little of everything: to try out, not to quote")
        parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
        parser.add_argument("--write-docs", action="store_true", help="write the tables of docs/benchmarks.md")
        return parser

    def options(self, parser: argparse.ArgumentParser, arguments: list[str] | None) -> argparse.Namespace:
        """What was given."""
        options = parser.parse_args(arguments)
        if options.write_docs and (options.quick or len(options.only) < len(self.titles)):
            parser.error("--write-docs takes a whole run, without --quick and --only")
        return options

    def command(self, options: argparse.Namespace, *more: str) -> str:
        """The command that makes this report again; paths are left out, because they are of this machine."""
        words = [f"python {self.script}"]
        words += ["--only", *options.only] if len(options.only) < len(self.titles) else []
        words += ["--quick"] if options.quick else []
        words += [*more, "--write-docs"] if options.write_docs else more
        return " ".join(words)

    def report(
        self, options: argparse.Namespace, folder: Path, *, command: str | None = None, **facts: Any
    ) -> dict[str, Any]:
        """What a report begins with: how, when and where it is made, and what else is to be known.

        Args:
            folder: where homes are; its file system is told.
            command: default: what `command` says.
        """
        return {
            "command": self.command(options) if command is None else command,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "quick": options.quick,
            **facts,
            "machine": machine(folder),
            "load_average": {"before": load_average()},
        }

    def measure(
        self, report: dict[str, Any], options: argparse.Namespace, measures: Mapping[str, Callable[[], Sequence[Row]]]
    ) -> None:
        """Add to a report what was asked for; where it is to be kept, it is after every part."""
        report["parts"] = {}
        for name in options.only:
            say(self.titles[name])
            report["parts"][name] = {"title": self.titles[name], "rows": as_json(measures[name]())}
            report["load_average"]["after"] = load_average()
            if options.json:
                options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")

    def show(self, report: dict[str, Any], options: argparse.Namespace, head: list[str]) -> None:
        """Print the section, and write it where that was asked for.

        Args:
            head: when, how and where it was made, see `_tables.made`.
        """
        parts = [[f"### {part['title']}", "", *rows_table(part["rows"]), ""] for part in report["parts"].values()]
        text = "\n".join([*head, "", *itertools.chain.from_iterable(parts)])
        print(text)
        if options.write_docs:
            begin = f"<!-- {self.section}: begin; written by `{self.script} --write-docs` -->"
            write_between(_DOCS, begin, text, f"<!-- {self.section}: end -->")


def cache_of(options: argparse.Namespace, folder: Path) -> Path:
    """The folder where prepared homes are kept for the next run; without one, a folder in `folder` that goes with it.

    Args:
        options: with `cache`.
    """
    cache: Path = options.cache or folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    return cache
