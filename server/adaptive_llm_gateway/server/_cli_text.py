"""Memories as text for people at a terminal: compact, the id first, to copy it."""

from __future__ import annotations

import sys
from typing import Any

from adaptive_llm_gateway.server._cli_output import Json, Paint, harmless, talk
from adaptive_llm_gateway.server._render import facet_lines, plan_lines, standing_text, why

_DONE = {
    "write": "wrote",
    "update": "updated",
    "edit": "updated",
    "append": "appended to",
    "delete": "deleted",
    "restore": "restored",
    "import": "imported",
    "recover": "recovered",
}


def _facts(record: Json) -> str:
    parts = [f"[{record['project']}]"] if record.get("project") else []
    parts += [f"repo {record['repo']}"] if record.get("repo") else []
    parts += [f"#{tag}" for tag in record.get("tags", ())]
    if record.get("trust", "internal") != "internal":
        parts.append(f"trust {record['trust']}")
    fields: Json = record.get("fields", {})
    parts += [f"{name} {fields[name]}" for name in ("status", "due", "priority") if fields.get(name)]
    return " ".join(parts)


def _line(record: Json, when: str, width: int, paint: Paint) -> str:
    kind = paint(f"{record['type']:<{width}}", "cyan")
    head = f"{record['id']}  {kind}  {paint(when[:10], 'dim')}  {paint(harmless(record['title']), 'bold')}"
    facts = harmless(_facts(record))
    return f"{head}  {paint(facts, 'dim')}" if facts else head


def search_text(found: Json, paint: Paint) -> str:
    """Each hit with the passage that matched; counts and the explanation below them, where they were asked for."""
    hits: list[Json] = found["hits"]
    width = max((len(hit["type"]) for hit in hits), default=0)
    lines: list[str] = []
    for hit in hits:
        lines.append(_line(hit, hit["updated"], width, paint))
        told = f"score {hit['score']:.2f} ({why(hit)}), by {hit['author']['client']}"
        if hit["reason"]:
            told += f", because: {hit['reason']}"
        lines.append(f"    {paint(harmless(told), 'dim')}")
        lines += [f"    {harmless(line)}" for line in hit["snippet"].splitlines() if line.strip()]
        if hit["duplicates"]:
            lines.append(f"    {paint('same as ' + ', '.join(hit['duplicates']), 'dim')}")
    if found["facets"]:
        lines += ["", *(harmless(line) for line in facet_lines(found["facets"]))]
    if found["plan"]:
        lines += ["", *(harmless(line) for line in plan_lines(found["plan"]))]
        if hits:
            lines += ["", *_signal_table(hits)]
    return "\n".join(lines)


def _signal_table(hits: list[Json]) -> list[str]:
    """A row for each hit, a column for each signal that any of them has."""
    names = list(dict.fromkeys(name for hit in hits for name in hit["signals"]))
    rows = [["hit", "score", *names, "id"]]
    for number, hit in enumerate(hits, 1):
        values = [f"{hit['signals'][name]:.3f}" if name in hit["signals"] else "-" for name in names]
        rows.append([str(number), f"{hit['score']:.3f}", *values, hit["id"]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def talk_about_search(found: Json) -> None:
    """On stderr: how many, by which search, how it was read, what limits it, and how to go on."""
    count = len(found["hits"])
    past = found["as_of"]
    when = f", as of {past['time']}, commit {past['commit'][:12]}" if past else ""
    talk(f"{count or 'no'} {'memory' if count == 1 else 'memories'} ({found['mode']} search{when})")
    if found["read_as"]:
        talk(f"read as: {harmless('; '.join(found['read_as']))}")
    for notice in found["notices"]:
        talk(f"note: {harmless(notice)}")
    if found["next_cursor"]:
        talk(f"hint: the next ones: --cursor {harmless(found['next_cursor'])}")


def list_text(page: Json, paint: Paint) -> str:
    """A line for each memory."""
    rows: list[Json] = page["memories"]
    width = max((len(row["type"]) for row in rows), default=0)
    lines: list[str] = []
    for row in rows:
        line = _line(row, row.get("updated") or row["deleted"], width, paint)
        if "deleted" in row:
            line += harmless(f"  deleted by {row['by']}" + (f", because: {row['reason']}" if row["reason"] else ""))
        lines.append(line)
    return "\n".join(lines)


def print_memory(memory: Json) -> None:
    """The file on stdout, byte for byte unless that is a terminal; where it lies on stderr."""
    text: str = memory["text"]
    terminal = sys.stdout.isatty()
    sys.stdout.flush()
    sys.stdout.buffer.write((harmless(text) if terminal else text).encode("utf-8", "replace"))
    sys.stdout.buffer.flush()
    if terminal:
        if not text.endswith("\n"):
            print()
        talk(f"version {memory['version']}; {harmless(memory['path'])}")
    if memory["parts"]:
        talk(f"note: this session has other files, by the ids {', '.join(memory['parts'])}")


def history_text(found: Json, paint: Paint) -> str:
    """A line for each commit, newest first."""
    lines: list[str] = []
    revisions: list[dict[str, Any]] = found["revisions"]
    for revision in revisions:
        what = f"version {revision['version'][:12]}" if revision["version"] else "removed"
        line = f"{paint(revision['commit'][:12], 'yellow')}  {paint(revision['time'], 'dim')}  {what:<20}  "
        line += harmless(f"{', '.join(revision['agents']) or revision['author']}: {revision['subject']}")
        if revision["reasons"]:
            line += harmless(f" (because: {'; '.join(revision['reasons'])})")
        lines.append(line)
    return "\n".join(lines)


def write_text(done: Json, paint: Paint) -> str:
    """What a write did and where it stands."""
    verb = "nothing to change in" if done["unchanged"] else _DONE[done["operation"]]
    lines = [f"{verb} {done['type']} {paint(harmless(done['title']), 'bold')}", f"id       {done['id']}"]
    if done["version"]:
        lines += [f"version  {done['version']}", f"path     {harmless(done['path'])}"]
    if done.get("repo"):
        lines.append(f"repo     {done['repo']}")
    lines.append(f"stands   {harmless(standing_text(done))}")
    return "\n".join(lines)


def quarantine_text(found: Json) -> str:
    """What is held back, a few lines for each."""
    lines: list[str] = []
    for item in found["held"]:
        lines += [
            f"{item['path']}: {item['why']}",
            f"  since {item['since']}, by commit {item['commit'][:12]} of {item['author'] or 'nobody named'}; "
            f"here is {item['instead']} instead",
        ]
    if lines:
        lines += [
            "Each comes in by itself once the remote has a version that passes, or what was found is allowed "
            "(`alg secrets allow`).",
            "`alg memory quarantine drop PATH` gives one up, for everybody; the remote's history still has it.",
        ]
    for item in found["history"]:
        lines.append(f"in the remote's history, commit {item['commit'][:12]}, {item['path']}: {item['why']}")
    if found["history"]:
        lines.append(
            "Whoever can read the remote can read these: make them invalid where they give access. One that is allowed "
            "(`alg secrets allow`) is not told of any more."
        )
    return "\n".join(lines) or "Nothing is held back."
