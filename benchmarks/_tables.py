"""A report as the tables of `docs/benchmarks.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_BEGIN = "<!-- benchmarks: begin; written by `benchmarks/run.py --write-docs` -->"
_END = "<!-- benchmarks: end -->"
_HEAD = "| what | n | min | median | p95 | max | target | against |\n|---|---|---|---|---|---|---|---|"


def write_docs(page: Path, report: dict[str, Any]) -> None:
    """Put the report between the page's marks; see `write_between`."""
    write_between(page, _BEGIN, tables(report), _END)


def write_between(page: Path, begin: str, text: str, end: str) -> None:
    """Replace what stands between two marks of a page.

    Raises:
        ValueError: the page has no marks.
    """
    before, first, rest = page.read_text("utf-8").partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"{page.name} has no marks")
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", "utf-8")


def tables(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    machine = report["machine"]
    software = [f"git {machine['git']}", versions(machine["packages"])]
    lines = [*made(report, software, also=f", with {report['memories']:,} memories in the home"), ""]
    for part in report["scenarios"].values():
        lines += [f"### {part['title']}", "", *_part(part), ""]
    if report["peers"]:
        lines += ["### Other memory servers", "", *_peers(report["peers"]), ""]
    return "\n".join(lines)


def made(report: dict[str, Any], software: Sequence[str | None], *, also: str = "") -> list[str]:
    """When, how and where a report was made.

    Args:
        software: beside Python; what is empty is left out.
        also: more of the first sentence.
    """
    machine = report["machine"]
    return [
        f"Made on {report['date']} by `{report['command']}` at commit `{machine['commit']}`{also}.",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}, "
        f"homes on {machine['file_system']}.",
        f"- Software: {', '.join(filter(None, [machine['python'], *software]))}.",
        load_line(report["load_average"]),
    ]


def versions(packages: Mapping[str, str]) -> str:
    """Packages with their versions."""
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def load_line(load: Mapping[str, Sequence[float]]) -> str:
    """The load average `before` and `after`."""
    before, after = load_text(load["before"]), load_text(load["after"])
    return f"- Load average before and after (1, 5, 15 minutes): {before} and {after}."


def load_text(load: Sequence[float]) -> str:
    """A load average."""
    return ", ".join(f"{value:.1f}" for value in load)


def _part(part: dict[str, Any]) -> list[str]:
    if part["failed"]:
        return [f"Failed: {part['failed']}"]
    return rows_table(part["rows"])


def rows_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A table of rows (see `_measure.as_json`), and their notes below it."""
    notes = [f"- {row['what']}: {row['note']}." for row in rows if row["note"]]
    return [_HEAD, *map(_row, rows), *(["", *notes] if notes else [])]


def _peers(peers: dict[str, Any]) -> list[str]:
    rows = [row for peer in peers.values() for row in peer["rows"]]
    lines = [_HEAD, *map(_row, rows), ""] if rows else []
    for name, peer in peers.items():
        if peer["failed"]:
            reason = peer["failed"].replace("\n", " ")
            lines.append(f"- {name}: not measured. {reason[:400]}")
        else:
            lines.append(f"- {name} {peer['version']}: {peer['note']}.")
    return lines


def _row(row: dict[str, Any]) -> str:
    unit = row["unit"]
    cells = [_number(row[name], unit) for name in ("min", "median", "p95", "max")]
    target = "" if row["target"] is None else f"{_number(row['target'], unit)} {'✓' if row['met'] else '✗'}"
    against = "" if row["ratio"] is None else f"{row['ratio']:g} × {row['against']}"
    name = row["what"] if row["of"] == "ours" else f"_{row['what']}_"
    name = f"{name}, {unit}" if unit else name
    return f"| {name} | {row['n']} | {' | '.join(cells)} | {target} | {against} |"


def _number(value: float, unit: str) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 or unit == "MB" else f"{value:.2f}"


def aligned(markdown: str) -> str:
    """Markdown whose tables stand in columns of spaces, as a terminal shows them best."""
    blocks: list[str] = []
    rows: list[list[str]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            rows += [] if set("".join(cells)) <= set("-:") and any(cells) else [cells]
            continue
        if rows:
            widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
            blocks += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
            rows = []
        blocks.append(line)
    return "\n".join(blocks) + "\n"
