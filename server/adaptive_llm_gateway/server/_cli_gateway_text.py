"""Providers, models and plans as text for people at a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adaptive_llm_gateway.server._cli_ask import dollars
from adaptive_llm_gateway.server._cli_output import Json, Paint, harmless, talk
from adaptive_llm_gateway.server._render_gateway import CONFIG_WAITS

_CAN = ("chat", "embed", "stream", "tools", "json")


def columns(rows: Sequence[Sequence[str]], paint: Paint, *, styles: Sequence[str | None] = ()) -> list[str]:
    """Rows as aligned lines; the last column is as long as it is.

    Args:
        styles: of the columns, from the first on.
    """
    safe = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*safe, strict=True)] if safe else []
    lines: list[str] = []
    for row in safe:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[-1] = row[-1]
        styled = [
            paint(cell, style) if style else cell
            for cell, style in zip(cells, [*styles, *[None] * len(cells)], strict=False)
        ]
        lines.append("  ".join(styled).rstrip())
    return lines


def health_text(found: Json, paint: Paint) -> str:
    """A line for each provider, and below it what is to be known besides."""
    lines: list[str] = []
    rows = [["provider", "kind", "where", "state", "models", "key"]]
    for each in found["providers"]:
        state = each["state"] if each["enabled"] else "disabled"
        if each["circuit"] != "closed":
            state += f", circuit {each['circuit'].replace('_', '-')}"
        rows.append([each["name"], each["kind"], each["where"], state, str(len(each["models"])), each["key"]])
    if len(rows) == 1:
        return ""
    table = columns(rows, paint, styles=["bold"])
    lines.append(table[0])
    for line, each in zip(table[1:], found["providers"], strict=True):
        lines.append(line)
        server = " ".join(filter(None, [each["server"], each["version"]]))
        said = "; ".join(filter(None, [server, each["said"], each["why"], "found by itself" if each["found"] else ""]))
        if said:
            lines.append(f"    {paint(harmless(said), 'dim')}")
    return "\n".join(lines)


def talk_about_health(found: Json) -> None:
    """On stderr: the mode, whose policy holds, and where providers were looked for when there is none."""
    policy = found["policy"]
    talk(f"mode {found['mode']}; {harmless(policy['source'])}")
    if policy.get("error"):
        talk(f"note: no request is carried out: {harmless(_told(policy['error']))}")
    if not found["providers"]:
        looked = ", ".join(found["looked_for"])
        talk("no provider" + (f"; looked for {harmless(looked)}" if looked else ""))
        talk("hint: start a local server such as Ollama, or add one under `providers` in config.yaml.")
    if found["config_changed"]:
        talk(CONFIG_WAITS)


def _told(error: Any) -> str:
    return str(error["message"]) if isinstance(error, dict) else str(error)  # pyright: ignore[reportUnknownArgumentType]


def models_text(found: Json, paint: Paint) -> str:
    """A line for each model: where it runs, what it can, its context; then the routes."""
    rows = [
        [
            f"{each['provider']}/{each['model']}",
            "hosted" if each["remote"] else each["where"],
            f"{each['context']:,}" if each["context"] else "-",
            ", ".join(name for name in _CAN if each[name]) or "-",
        ]
        for each in found["models"]
    ]
    lines = columns([["model", "where", "context", "can"], *rows], paint, styles=["bold"]) if rows else []
    if found["routes"]:
        lines += ["", *columns([[each["name"], " > ".join(each["models"])] for each in found["routes"]], paint)]
    return "\n".join(lines)


def preview_text(found: Json, paint: Paint) -> str:
    """The level and its reasons, the steps in their order, and who was rejected and why."""
    tokens = f"{found['input_tokens']:,} tokens"
    facts = [found["trust"], f"purpose {harmless(found['purpose'])}", f"mode {found['mode']}", tokens]
    lines = [f"{paint('level', 'bold')}  {', '.join(facts)}"]
    lines += [f"    {line}" for line in reason_lines(found["reasons"])]
    lines.append(
        paint("would be asked, in this order", "bold") if found["steps"] else paint("nobody would be asked", "yellow")
    )
    rows = [
        [
            str(number),
            f"{step['provider']}/{step['model']}",
            step["where"],
            step["trust"] + (", redacted" if step["redact"] else ""),
            dollars(step["micro_cents"]),
            step["reason"] + ("; waits for a place" if step["wait_for_slot"] else ""),
        ]
        for number, step in enumerate(found["steps"], 1)
    ]
    lines += [f"    {line}" for line in columns(rows, paint, styles=[None, "green"])]
    if found["rejected"]:
        lines.append(paint("would not be asked", "bold"))
        lines += [f"    {line}" for line in columns(_rejected(found["rejected"]), paint, styles=["yellow"])]
    lines.append(paint(f"receipt {found['receipt']}", "dim"))
    return "\n".join(lines)


def _rejected(rejected: Sequence[Json]) -> list[list[str]]:
    """A row for each, but one for all models of a provider that have the same reasons: it may list hundreds."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for each in rejected:
        why = "; ".join(reason["text"] for reason in each["reasons"])
        groups.setdefault((each["provider"], each["where"], why), []).append(each["model"] or "-")
    return [
        [f"{provider}/{models[0]}" if len(models) == 1 else f"{provider} ({len(models)} models)", where, why]
        for (provider, where, why), models in groups.items()
    ]


def reason_lines(reasons: Sequence[Json]) -> list[str]:
    """What speaks for a level."""
    return [harmless(f"{each['level']} ({each['source']}): {each['why']}") for each in reasons]
