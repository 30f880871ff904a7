"""The form of our commit messages: a subject, a line for each memory, then trailers. Pure text, both ways."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Sequence

from adaptive_llm_gateway.memory._values import Author, Change, Operation

FALLBACK_NAME = "Adaptive LLM Gateway"
_DECISIONS_SHOWN = 200
_TITLE_LIMIT = 60
_REASON_LIMIT = 1000
_NAME_LIMIT = 200
_UNKNOWN_CLIENT = "unknown"

_VERBS: dict[Operation, str] = {
    "write": "Write",
    "update": "Update",
    "delete": "Delete",
    "restore": "Restore",
    "append": "Append to",
    "import": "Import",
    "edit": "Edit",
    "recover": "Recover",
}
_SINGULAR = {"notes": "note", "facts": "fact", "preferences": "preference", "decisions": "decision"} | {
    "tasks": "task",
    "sessions": "session",
    "handoffs": "handoff",
    "routes": "route",
}


# What happened to a handoff stands in the name of the event's file.
_EVENT = re.compile(r"handoffs/[0-9]{4}/[0-9]{2}/[0-9a-z]{8}/[0-9]{4,}-([a-z]+)-[0-9a-z]{8}\.md")


def one_line(text: str, *, limit: int = _REASON_LIMIT) -> str:
    """`text` on one line: control characters and line breaks become spaces, the length is cut at `limit`.

    This is what keeps a reason or title from adding a trailer of its own.
    """
    cleaned = "".join(" " if _breaks_line(char) else char for char in text)
    folded = " ".join(cleaned.split())
    return folded if len(folded) <= limit else folded[: limit - 1].rstrip() + "…"


def _breaks_line(char: str) -> bool:
    code = ord(char)
    return code < 0x20 or 0x7F <= code < 0xA0 or code in (0x2028, 0x2029) or 0xD800 <= code < 0xE000


def merge_message(label: str, decisions: Sequence[str]) -> str:
    """The message of a merge commit.

    Args:
        label: what was merged.
        decisions: what was decided, a line each. First come those that kept something beside another file or against
            a deletion: somebody may want to look at them. Of very many, the first ones.
    """
    ordered = sorted(decisions, key=lambda decision: not decision.startswith("kept "))
    lines = [f"- {one_line(decision)}" for decision in ordered[:_DECISIONS_SHOWN]]
    if len(ordered) > _DECISIONS_SHOWN:
        lines.append(f"- and {len(ordered) - _DECISIONS_SHOWN} more")
    subject = f"Merge {one_line(label, limit=_TITLE_LIMIT)}"
    return "\n".join([subject, "", *lines, *([""] if lines else []), "Agent: sync"]) + "\n"


def author_identity(authors: Iterable[Author]) -> tuple[str, str]:
    """Git author name and e-mail for one or several clients: `claude-code, codex` and `claude-code+codex@host`."""
    distinct = list(dict.fromkeys(authors))
    clients = list(dict.fromkeys(_identity_text(author.client) or _UNKNOWN_CLIENT for author in distinct))
    hosts = list(dict.fromkeys(_email_part(author.host or socket.gethostname()) for author in distinct))
    name = one_line(", ".join(clients or [_UNKNOWN_CLIENT]), limit=_NAME_LIMIT)
    local = "+".join(dict.fromkeys(_email_part(client) for client in clients)) or _UNKNOWN_CLIENT
    return name, f"{local[:_NAME_LIMIT]}@{hosts[0] if hosts else 'localhost'}"


def fallback_identity() -> tuple[str, str]:
    """The committer where git knows no user: `Adaptive LLM Gateway <hub@hostname>`."""
    return FALLBACK_NAME, f"hub@{_email_part(socket.gethostname())}"


def _identity_text(text: str) -> str:
    # Git cuts these from names anyway; a name of nothing else would be refused.
    return one_line(text.translate({ord("<"): " ", ord(">"): " "}), limit=_NAME_LIMIT).strip(" .,:;\"'\\")


def _email_part(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "localhost"


def agent_text(author: Author) -> str:
    """How the author stands in a message: `codex`, or `codex (reviewer)` where the agent has a name of its own."""
    client = _identity_text(author.client) or _UNKNOWN_CLIENT
    agent = one_line(author.agent, limit=_NAME_LIMIT) if author.agent else ""
    return f"{client} ({agent})" if agent and agent != client else client


def commit_message(changes: Sequence[Change]) -> str:
    """The whole message for a group of changes, which must not be empty; ends with a line feed."""
    lines = [_subject(changes), ""]
    for change in changes:
        line = f"- {change.operation} {one_line(change.shown or change.path)} by {agent_text(change.author)}"
        reason = one_line(change.reason) if change.reason else ""
        lines.append(f"{line}: {reason}" if reason else line)
    trailers = [
        *(f"Agent: {agent}" for agent in dict.fromkeys(agent_text(change.author) for change in changes)),
        *(f"Reason: {reason}" for reason in dict.fromkeys(_reasons(changes))),
        *(f"Memory: {memory}" for memory in dict.fromkeys(one_line(change.memory_id) for change in changes) if memory),
    ]
    return "\n".join([*lines, "", *trailers]) + "\n"


def _reasons(changes: Sequence[Change]) -> Iterable[str]:
    return (reason for change in changes if change.reason and (reason := one_line(change.reason)))


def _subject(changes: Sequence[Change]) -> str:
    memories = {change.memory_id or change.path: change for change in changes}
    operations: list[Operation] = list(dict.fromkeys(change.operation for change in changes))
    if len(memories) == 1:
        change = changes[-1]
        kind = _SINGULAR.get(change.path.partition("/")[0], "memory")
        title = one_line(change.title, limit=_TITLE_LIMIT) or one_line(change.path, limit=_TITLE_LIMIT)
        if change.operation == "write" and (event := _EVENT.fullmatch(change.path)):
            return f'handoff: {event[1]} "{title}"'
        return f'{_VERBS[change.operation]} {kind} "{title}"'
    if len(operations) == 1:
        return f"{_VERBS[operations[0]]} {len(memories)} memories"
    counted = ", ".join(
        f"{sum(change.operation == operation for change in changes)} {operation}" for operation in operations
    )
    return f"Change {len(memories)} memories ({counted})"


def agents_and_reasons(message: str, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who touched `path` in this commit, and why: from its own lines, else from the message's trailers."""
    agents: dict[str, None] = {}
    reasons: dict[str, None] = {}
    marker = f" {one_line(path)} by "
    for line in message.splitlines():
        head, found, rest = line.partition(marker)
        if found and re.fullmatch(r"- [a-z]+", head):
            agent, _, reason = rest.partition(": ")
            agents[agent] = None
            if reason:
                reasons[reason] = None
    if not agents:
        for line in message.rstrip().rpartition("\n\n")[2].splitlines():
            key, found, value = line.partition(": ")
            if found and key == "Agent":
                agents[value] = None
            elif found and key == "Reason":
                reasons[value] = None
    return tuple(agents), tuple(reasons)


_LINE = re.compile(r"- (?P<operation>[a-z]+) (?P<path>.+?\.md) by (?P<agent>.+?)(?:: (?P<reason>.*))?")


def told_by(message: str) -> Iterator[tuple[str, str, str, str | None]]:
    """What a message's own lines say: operation, path, agent and reason of each file."""
    for line in message.splitlines():
        found = _LINE.fullmatch(line)
        if found:
            yield found["operation"], found["path"], found["agent"], found["reason"]
