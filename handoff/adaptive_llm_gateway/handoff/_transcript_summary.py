"""A session in a few lines, so that another agent can go on with it: the same lines for the same transcript."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from adaptive_llm_gateway.handoff._transcript import Transcript

MOST_OBJECTIVE: Final = 500
MOST_STATE: Final = 8_000
MOST_NEXT: Final = 500

# What only tells the agent to go on is no objective.
_GO_ON: Final = frozenset(
    (
        "ahead",
        "carry",
        "continue",
        "do",
        "go",
        "going",
        "good",
        "great",
        "it",
        "keep",
        "lgtm",
        "looks",
        "next",
        "ok",
        "okay",
        "on",
        "perfect",
        "please",
        "proceed",
        "sounds",
        "sure",
        "thank",
        "thanks",
        "that",
        "y",
        "yeah",
        "yep",
        "yes",
        "you",
    )
)


@dataclass(frozen=True, slots=True)
class TranscriptSummary:
    """What a handoff says of a session.

    Attributes:
        objective: the last thing that the user really asked for, at most 500 characters; None: nothing.
        state: what was asked, said, changed and left open, as Markdown, at most 8,000 characters.
        next_action: the first open item of the agent's list, or to go on with the objective; None without either.
    """

    objective: str | None
    state: str
    next_action: str | None


def summary_of(transcript: Transcript) -> TranscriptSummary:
    """What `transcript` comes to; deterministic."""
    requests = [entry.text for entry in transcript.entries if entry.author == "user"]
    objective = next((text for text in reversed(requests) if not _only_goes_on(text)), None)
    parts = [
        _asked(requests),
        _quoted("Summary at the last compaction", _last(transcript, "summary"), 1_700),
        _quoted("Said last", _last(transcript, "agent"), 2_500),
        _files(transcript),
        _todos(transcript),
    ]
    state = "\n\n".join(part for part in parts if part)
    todo = next((todo for todo in transcript.todos if todo.state == "doing"), None) or next(
        (todo for todo in transcript.todos if todo.state == "open"), None
    )
    following: str | None = None
    if todo is not None:
        following = _line(todo.text, MOST_NEXT)
    elif objective is not None:
        following = "Go on with: " + _line(objective, MOST_NEXT - 12)
    return TranscriptSummary(
        None if objective is None else _line(objective, MOST_OBJECTIVE), state[:MOST_STATE], following
    )


def _only_goes_on(text: str) -> bool:
    words = re.findall(r"\w+", text.lower())
    return len(words) <= 4 and all(word in _GO_ON for word in words)


def _line(text: str, most: int) -> str:
    """`text` on one line, cut between words where that loses little."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    cut = text[: most - 3]
    return (cut.rsplit(" ", 1)[0] if " " in cut[-40:] else cut) + "..."


def _last(transcript: Transcript, author: str) -> str:
    return next((entry.text for entry in reversed(transcript.entries) if entry.author == author), "")


def _asked(requests: list[str]) -> str:
    """The requests in order: the first, and as many of the last as there is room for."""
    if not requests:
        return ""
    numbered = [f"{number}. {_line(text, 250)}" for number, text in enumerate(requests, 1)]
    kept: list[str] = []
    room = 1_900 - len(numbered[0])
    for line in reversed(numbered[1:]):
        room -= len(line) + 1
        if room < 0:
            break
        kept.insert(0, line)
    left_out = len(numbered) - 1 - len(kept)
    between = [f"   (and {left_out:,} more)"] if left_out else []
    return "\n".join(["## Asked for", "", numbered[0], *between, *kept])


def _quoted(title: str, text: str, most: int) -> str:
    """`text` as a quotation, so that its own headings and fences stay in it."""
    text = text.strip()
    if not text:
        return ""
    lines = [f"> {line}".rstrip() for line in text.split("\n")]
    quoted = "\n".join(lines)
    if len(quoted) > most:
        quoted = quoted[: most - 6].rsplit("\n", 1)[0] if "\n" in quoted[most // 2 : most - 6] else quoted[: most - 6]
        quoted += "\n> ..."
    return f"## {title}\n\n{quoted}"


def _files(transcript: Transcript) -> str:
    top = (transcript.cwd or "").rstrip("/\\")
    names: list[str] = []
    room = 1_000
    for path in reversed(transcript.files):
        inside = bool(top) and path.startswith((top + "/", top + "\\"))
        name = _line(path[len(top) + 1 :] if inside else path, 300).replace("`", "'")
        room -= len(name) + 5
        if room < 0:
            break
        names.insert(0, f"- `{name}`")
    if not names:
        return ""
    left_out = len(transcript.files) - len(names)
    return "\n".join(["## Files changed", "", *([f"- {left_out:,} more before these"] if left_out else []), *names])


def _todos(transcript: Transcript) -> str:
    lines: list[str] = []
    room = 900
    for todo in sorted(transcript.todos, key=lambda todo: todo.state == "done"):
        line = f"- [{'x' if todo.state == 'done' else ' '}] {_line(todo.text, 200)}"
        line += " (begun)" if todo.state == "doing" else ""
        room -= len(line) + 1
        if room < 0:
            lines.append(f"- {len(transcript.todos) - len(lines):,} more")
            break
        lines.append(line)
    return "\n".join(["## The agent's own list", "", *lines]) if lines else ""
