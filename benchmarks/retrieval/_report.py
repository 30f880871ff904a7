"""A report as text for a terminal and as the tables of `docs/benchmarks.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _tables import aligned, load_text, write_between
from _units import PARTS

_BEGIN = "<!-- retrieval: begin; written by `benchmarks/retrieval/run.py --write-docs` -->"
_END = "<!-- retrieval: end -->"
_WITHOUT = "without "
_HYBRID = "ours, hybrid"


def write_docs(page: Path, report: dict[str, Any]) -> None:
    """Put the report between the page's marks.

    Raises:
        ValueError: the page has no marks.
    """
    write_between(page, _BEGIN, as_markdown(report), _END)


def as_markdown(report: dict[str, Any]) -> str:
    """The report as Markdown, under headings of the third level."""
    machine = report["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [
        f"Made by `{report['command']}`.",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}.",
        f"- Software: {machine['python']}, {packages}.",
        *(f"- {part['title']}: {_made(part)}." for part in report["sets"].values()),
        "",
    ]
    for part in report["sets"].values():
        lines += _set(part)
    if any(_ablated(part) for part in report["sets"].values()):
        lines += _ablation(report["sets"])
    if report["servers"]:
        lines += _servers(report["servers"])
    return "\n".join(lines)


def as_text(report: dict[str, Any]) -> str:
    """The same tables with aligned columns."""
    return aligned(as_markdown(report))


def _set(part: dict[str, Any]) -> list[str]:
    shown = part["shown"]
    ways = {way: rows for way, rows in part["ways"].items() if not way.startswith(_WITHOUT)}
    parts = [name for name in PARTS if any(name in rows for rows in ways.values())]
    lines = [
        f"### {part['title']}",
        "",
        f"{part['haystacks']:,} {'haystack' if part['haystacks'] == 1 else 'haystacks'}, {part['units']:,} memories, "
        f"{part['questions']:,} questions ({', '.join(f'{part[name]:,} {name}' for name in parts)}). "
        "All questions, in %:",
        "",
        *_table(
            ["", *map(_label, shown), *(f"{_label(shown[0])} {name}" for name in parts), "p50 ms", "p95 ms"],
            [
                [
                    _strong(way),
                    *(_percent(rows["all"][name]) for name in shown),
                    *(_percent(rows[name][shown[0]]) if name in rows else "" for name in parts),
                    f"{rows['ms']['p50']:.1f}",
                    f"{rows['ms']['p95']:.1f}",
                ]
                for way, rows in ways.items()
            ],
        ),
        "",
    ]
    if part["corrected"]:
        told = ", ".join(
            f"{way} {_percent(rows['published'][shown[0]])}" for way, rows in ways.items() if "published" in rows
        )
        lines += [
            f"With the evidence as published ({part['corrected']} of these questions have other evidence there), "
            f"{_label(shown[0])}: {told}.",
            "",
        ]
    apart = f" ({', '.join(part['apart'])} apart from the total)" if part["apart"] else ""
    lines += [
        f"By kind of question{apart}, {_label(shown[0])} in %:",
        "",
        *_table(
            ["", *(f"{group} ({count})" for group, count in part["groups"].items())],
            [
                [_strong(way), *(_percent(rows["groups"][group][shown[0]]) for group in part["groups"])]
                for way, rows in ways.items()
            ],
        ),
        "",
    ]
    return lines


def _ablated(part: dict[str, Any]) -> list[str]:
    return [way for way in part["ways"] if way.startswith(_WITHOUT)]


def _ablation(sets: dict[str, Any]) -> list[str]:
    """Each set a column: what the first measure of the set loses when one signal is off."""
    measured = [part for part in sets.values() if _ablated(part)]
    ways = list(dict.fromkeys(way for part in measured for way in _ablated(part)))

    def change(part: dict[str, Any], way: str) -> float:
        measure = part["shown"][0]
        return part["ways"][way]["all"][measure] - part["ways"][_HYBRID]["all"][measure]

    rows = [[_strong(_HYBRID), *(_percent(part["ways"][_HYBRID]["all"][part["shown"][0]]) for part in measured), ""]]
    for way in ways:
        changes = [change(part, way) for part in measured]
        rows.append([way, *(_signed(value) for value in changes), _signed(sum(changes) / len(changes))])
    return [
        "### Each signal off alone",
        "",
        "All questions: the whole ranking, and by how many points it changes when one signal is off.",
        "",
        *_table(
            ["", *(f"{part['title'].split(',', 1)[0]}: {_what(part)}" for part in measured), "mean"],
            rows,
        ),
        "",
    ]


def _what(part: dict[str, Any]) -> str:
    rest = part["title"].split(",", 1)[1].split(",", 1)[0].strip()
    return f"{rest}, {_label(part['shown'][0])}"


def _servers(servers: dict[str, Any]) -> list[str]:
    lines = ["### Servers, driven through MCP over stdio", ""]
    names = dict.fromkeys(name for server in servers.values() for name in server["sets"])
    for name in names:
        measured = {label: server["sets"][name] for label, server in servers.items() if name in server["sets"]}
        first = next(iter(measured.values()))
        shown = first["shown"]
        rows = [
            [
                f"{label}, {mode}",
                *(_percent(result["all"][measure]) for measure in shown),
                *(f"{result['ms'][key]:.1f}" for key in ("min", "p50", "p95", "max")),
            ]
            for label, part in measured.items()
            for mode, result in part["modes"].items()
        ]
        lines += [
            f"{first['title']}: {first['haystacks']:,} {'haystack' if first['haystacks'] == 1 else 'haystacks'}, "
            f"{first['units']:,} memories, {first['questions']:,} questions. Load average before: "
            + ", ".join(f"{label} {part['load_average'][0]:.1f}" for label, part in measured.items())
            + ".",
            "",
            *_table(["", *map(_label, shown), "min ms", "p50 ms", "p95 ms", "max ms"], rows),
            "",
        ]
    lines += [
        "What it takes. The times are minimum / median / maximum; memory is that of all its processes with the set's "
        "largest haystack loaded.",
        "",
        *_table(
            ["", "start to `tools/list`, ms", *(f"memory, {name}, MB" for name in names), "written and found, /s"],
            [
                [
                    label,
                    "; ".join(
                        f"{what}: {' / '.join(f'{values[key]:,.0f}' for key in ('min', 'p50', 'max'))}"
                        for what, values in server["starts"].items()
                    ),
                    *(f"{server['sets'][name]['memory_mb']:,.0f}" if name in server["sets"] else "" for name in names),
                    ", ".join(f"{name} {part['per_second']:,.1f}" for name, part in server["sets"].items()),
                ]
                for label, server in servers.items()
                if server["sets"]
            ],
        ),
        "",
    ]
    for label, server in servers.items():
        if server["failed"]:
            lines.append(f"- {label}: failed. {server['failed'].replace(chr(10), ' ')[:400]}")
        lines.append(f"- {label} {server['version'] or ''}: {server['note']}".replace(" :", ":"))
    return [*lines, ""]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _label(measure: str) -> str:
    return {"ndcg@10": "NDCG@10", "mrr": "MRR"}.get(measure, measure)


def _strong(way: str) -> str:
    return f"**{way}**" if way == _HYBRID else way


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.2f}"


def _made(part: dict[str, Any]) -> str:
    model = f", embedder `{part['model']}`" if part["model"] else ""
    return f"{part['date']}, commit `{part['commit']}`, load average {load_text(part['load_average'])} before{model}"
