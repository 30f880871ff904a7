"""A session in a few lines, so that another agent can go on with it: the same lines for the same transcript."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from adaptive_llm_gateway.handoff._transcript import MOST_PATH, Transcript
from adaptive_llm_gateway.handoff._transcript_lines import MOST_TEXT

MOST_OBJECTIVE: Final = 500
MOST_STATE: Final = 8_000
MOST_NEXT: Final = 500

_LONGEST_QUOTED: Final = 1_000
_LONGEST_RUN: Final = 13_000
"""Characters of a secret that is not known as one before its end has come: with blanks in it, and without."""

Redact = Callable[[str], str]

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


def summary_of(transcript: Transcript, redact: Redact) -> TranscriptSummary:
    """What `transcript` comes to; deterministic.

    Args:
        redact: gives a text without its secrets. It is asked before anything is cut: half a secret is not known as one.
    """
    requests = [entry.text for entry in transcript.entries if entry.author == "user"]
    objective = next((text for text in reversed(requests) if not _only_goes_on(text)), None)
    parts = [
        _asked(requests, redact),
        _quoted("Summary at the last compaction", _last(transcript, "summary"), 1_700, redact),
        _quoted("Said last", _last(transcript, "agent"), 2_500, redact),
        _files(transcript, redact),
        _todos(transcript, redact),
    ]
    state = "\n\n".join(part for part in parts if part)
    todo = next((todo for todo in transcript.todos if todo.state == "doing"), None) or next(
        (todo for todo in transcript.todos if todo.state == "open"), None
    )
    following: str | None = None
    if todo is not None:
        following = _line(todo.text, MOST_NEXT, redact)
    elif objective is not None:
        following = "Go on with: " + _line(objective, MOST_NEXT - 12, redact)
    return TranscriptSummary(
        None if objective is None else _line(objective, MOST_OBJECTIVE, redact), state[:MOST_STATE], following
    )


def _only_goes_on(text: str) -> bool:
    words = re.findall(r"\w+", text.lower())
    return len(words) <= 4 and all(word in _GO_ON for word in words)


def _without_secrets(text: str, redact: Redact, limit: int = MOST_TEXT) -> str:
    """`text` redacted; of one that was cut at `limit`, without its end, where half a secret may be."""
    redacted = redact(text)
    if len(text) < limit:
        return redacted
    end = max(len(redacted) - _LONGEST_QUOTED, 0)
    least = max(end - _LONGEST_RUN, 0)
    while end > least and not redacted[end - 1].isspace():
        end -= 1
    return redacted[:end].rstrip() + " ..."


def _line(text: str, most: int, redact: Redact) -> str:
    """`text` on one line, cut between words where that loses little."""
    # Twice: what stands on two lines may be a secret once it is on one.
    text = redact(" ".join(_without_secrets(text, redact).split()))
    return _cut(text, most)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    cut = text[: most - 3]
    return (cut.rsplit(" ", 1)[0] if " " in cut[-40:] else cut) + "..."


def _last(transcript: Transcript, author: str) -> str:
    return next((entry.text for entry in reversed(transcript.entries) if entry.author == author), "")


def _asked(requests: list[str], redact: Redact) -> str:
    """The requests in order: the first, and as many of the last as there is room for."""
    if not requests:
        return ""
    first = f"1. {_line(requests[0], 250, redact)}"
    kept: list[str] = []
    room = 1_900 - len(first)
    for number in range(len(requests), 1, -1):
        line = f"{number}. {_line(requests[number - 1], 250, redact)}"
        room -= len(line) + 1
        if room < 0:
            break
        kept.insert(0, line)
    left_out = len(requests) - 1 - len(kept)
    between = [f"   (and {left_out:,} more)"] if left_out else []
    return "\n".join(["## Asked for", "", first, *between, *kept])


def _quoted(title: str, text: str, most: int, redact: Redact) -> str:
    """`text` as a quotation, so that its own headings and fences stay in it."""
    text = _without_secrets(text, redact).strip()
    if not text:
        return ""
    lines = [f"> {line}".rstrip() for line in text.split("\n")]
    quoted = redact("\n".join(lines))
    if len(quoted) > most:
        quoted = quoted[: most - 6].rsplit("\n", 1)[0] if "\n" in quoted[most // 2 : most - 6] else quoted[: most - 6]
        quoted += "\n> ..."
    return f"## {title}\n\n{quoted}"


def _files(transcript: Transcript, redact: Redact) -> str:
    top = (transcript.cwd or "").rstrip("/\\")
    names: list[str] = []
    room = 1_000
    for file in reversed(transcript.files):
        path = _without_secrets(file, redact, MOST_PATH)
        inside = bool(top) and path.startswith((top + "/", top + "\\"))
        name = _line(path[len(top) + 1 :] if inside else path, 300, redact).replace("`", "'")
        room -= len(name) + 5
        if room < 0:
            break
        names.insert(0, f"- `{name}`")
    if not names:
        return ""
    left_out = len(transcript.files) - len(names)
    return "\n".join(["## Files changed", "", *([f"- {left_out:,} more before these"] if left_out else []), *names])


def _todos(transcript: Transcript, redact: Redact) -> str:
    lines: list[str] = []
    room = 900
    for todo in sorted(transcript.todos, key=lambda todo: todo.state == "done"):
        line = f"- [{'x' if todo.state == 'done' else ' '}] {_line(todo.text, 200, redact)}"
        line += " (begun)" if todo.state == "doing" else ""
        room -= len(line) + 1
        if room < 0:
            lines.append(f"- {len(transcript.todos) - len(lines):,} more")
            break
        lines.append(line)
    return "\n".join(["## The agent's own list", "", *lines]) if lines else ""
