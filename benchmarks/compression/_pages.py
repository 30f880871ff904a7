"""A report as text for a terminal and as the tables of `docs/benchmarks.md`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _packing import CRUSHED, OURS
from _tables import aligned, load_line, versions, write_between
from _units import PARTS

_BEGIN = "<!-- compression: begin; written by `benchmarks/compression/run.py --write-docs` -->"
_END = "<!-- compression: end -->"
TITLES = {"locomo": "LoCoMo, turns", "longmemeval": "LongMemEval-S, sessions"}
# What a set is judged by, and what we set ourselves for it, by budget.
JUDGED = {"locomo": "whole", "longmemeval": "tokens"}
GOALS = {
    "locomo": {500: 0.80, 1_000: 0.87, 2_000: 0.92, 4_000: 0.96},
    "longmemeval": {500: 0.66, 1_000: 0.80, 2_000: 0.90, 4_000: 0.96},
}
_MEASURES = {
    "whole": "Evidence turns that are whole in the text",
    "tokens": "Evidence in the text, by tokens",
    "answered": "Questions whose answer's content words are all in the text",
}
_TIMED = 2_000  # the budget whose times are shown
Cell = Callable[[dict[str, Any]], str]


def write_docs(page: Path, report: dict[str, Any]) -> None:
    """Put the report between the page's marks.

    Raises:
        ValueError: the page has no marks.
    """
    write_between(page, _BEGIN, as_markdown(report), _END)


def as_markdown(report: dict[str, Any]) -> str:
    """The report as Markdown, under headings of the third level."""
    machine = report["machine"]
    lines = [
        f"Made on {report['date']} by `{report['command']}` at commit `{machine['commit']}`, tokens of "
        f"{report['counter']}.",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}.",
        f"- Software: {machine['python']}, {versions(machine['packages'])}.",
        load_line(report["load_average"]),
        *_peers(report["peers"]),
        "",
    ]
    for name, part in report["sets"].items():
        lines += _set(name, part)
    return "\n".join(lines)


def as_text(report: dict[str, Any]) -> str:
    """The same tables with aligned columns."""
    return aligned(as_markdown(report))


def _peers(peers: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, peer in peers.items():
        if peer["package"]:
            lines.append(f"- {name} is that of {peer['package']}.")
        elif peer["failed"]:
            lines.append(f"- {name}: not measured. {peer['failed'].replace(chr(10), ' ')[:400]}")
    return lines


def _set(name: str, part: dict[str, Any]) -> list[str]:
    judged = JUDGED[name]
    parts = [each for each in PARTS if part["parts"][each]]
    told = ", ".join(f"{part['parts'][each]:,} {each}" for each in parts)
    goals = GOALS[name]
    lines = [f"### A package of {TITLES[name]}", "", f"{part['questions']:,} questions ({told}).", ""]
    lines += [f"**{_MEASURES[judged]}**, in %, with the 95 % interval of the bootstrap over questions:", ""]
    lines += _by_budget(part, lambda line: _share(line, judged, goals))
    lines += [f"The same, {' / '.join(parts)}, in %:", ""]
    lines += _by_budget(part, lambda line: " / ".join(_percent(line["by part"][each][judged]) for each in parts))
    lines += [
        f"{_MEASURES['answered']}, in % of the {part['with an answer']:,} that have such words; all memories together "
        f"have those of {_percent(part['possible'])} %:",
        "",
        *_by_budget(part, lambda line: _share(line, "answered", {})),
    ]
    other = next(measure for measure in ("whole", "tokens") if measure != judged)
    lines += [f"{_MEASURES[other]}, in %:", "", *_by_budget(part, lambda line: _share(line, other, {}))]
    lines += ["Tokens used on average:", "", *_by_budget(part, lambda line: f"{line['used']:,.0f}")]
    times = [line for line in part["lines"] if line["budget"] == _TIMED]
    lines += [
        f"Milliseconds for {_TIMED:,} tokens, without the search and without putting turns in order (for {CRUSHED} "
        "with the other process and the search for its ratio):",
        "",
        *_table(
            ["", "min", "p50", "p95", "max"],
            [
                [_strong(line["way"]), *(f"{line['ms'][name]:,.1f}" for name in ("min", "p50", "p95", "max"))]
                for line in times
            ],
        ),
    ]
    return lines


def _by_budget(part: dict[str, Any], cell: Cell) -> list[str]:
    """A row a way, a column a budget."""
    budgets = list(dict.fromkeys(line["budget"] for line in part["lines"]))
    rows: dict[str, list[str]] = {}
    for line in part["lines"]:
        rows.setdefault(line["way"], []).append(cell(line))
    head = ["", *(f"{budget:,} tokens" for budget in budgets)]
    return _table(head, [[_strong(way), *cells] for way, cells in rows.items()])


def _share(line: dict[str, Any], measure: str, goals: dict[int, float]) -> str:
    low, high = line["interval"][measure]
    text = f"{_percent(line[measure])} ({_percent(low)}-{_percent(high)})"
    goal = goals.get(line["budget"])
    if goal is None or line["way"] != OURS:
        return text
    return f"{text}, of {_percent(goal)} {'✓' if line[measure] >= goal else '✗'}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _strong(way: str) -> str:
    return f"**{way}**" if way == OURS else way


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
