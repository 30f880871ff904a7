"""What an error tells a program elsewhere to do next: routes, where its hint names tools or commands. Pure.

Hints are written where errors are raised, for an agent that has the hub's tools and a person at the hub's machine. A
program that speaks HTTP has neither: tools and commands become the routes that do the same, and a step that only the
person at that machine can take is left out, or said to be theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_API: Final = "/api/v1"

ROUTE_OF_TOOL: Final[Mapping[str, tuple[str, str]]] = {
    "memory_search": ("GET", "/search"),
    "memory_context": ("POST", "/context"),
    "memory_read": ("GET", "/memories/{id}"),
    "memory_write": ("POST", "/memories"),
    "memory_record_decision": ("POST", "/memories"),
    "memory_record_task": ("POST", "/memories"),
    "memory_append_session": ("POST", "/sessions/{id}/entries"),
    "memory_compact_session": ("POST", "/sessions/{id}/compact"),
    "memory_delete": ("DELETE", "/memories/{id}"),
    "memory_restore": ("POST", "/memories/{id}/restore"),
    "memory_history": ("GET", "/memories/{id}/history"),
    "memory_status": ("GET", "/status"),
    "memory_pull": ("POST", "/sync/pull"),
    "memory_push": ("POST", "/sync/push"),
    "handoff_create": ("POST", "/handoffs"),
    "handoff_list": ("GET", "/handoffs"),
    "handoff_claim": ("POST", "/handoffs/{id}/claim"),
    "handoff_update": ("POST", "/handoffs/{id}/update"),
    "handoff_complete": ("POST", "/handoffs/{id}/complete"),
    "handoff_release": ("POST", "/handoffs/{id}/release"),
    "gateway_complete": ("POST", "/gateway/complete"),
    "gateway_chat": ("POST", "/gateway/chat"),
    "gateway_embed": ("POST", "/gateway/embed"),
    "gateway_health": ("GET", "/gateway/health"),
    "gateway_route_preview": ("POST", "/gateway/route_preview"),
}
"""The route that does what a tool does. Tools that are not here read files of the hub's machine, as no route does."""

ROUTE_OF_COMMAND: Final[Mapping[str, tuple[str, str]]] = {
    "alg memory restore": ("POST", "/memories/{id}/restore"),
    "alg handoff list": ("GET", "/handoffs"),
    "alg receipts list": ("GET", "/receipts"),
    "alg receipts show": ("GET", "/receipts/{id}"),
    "alg receipts verify": ("GET", "/receipts/verify"),
    "alg gateway preview": ("POST", "/gateway/route_preview"),
    "alg gateway health": ("GET", "/gateway/health"),
    "alg chat": ("POST", "/gateway/chat"),
}
"""The route that does what a command does, for those that hints name. What others do is the person's at the machine."""

THEIRS: Final = "Whoever runs the hub has to look; its log names this request by `request_id`."
_LATER: Final = "Send the same request again later. Whoever runs the hub has to look if it stays so."
_FOR_CODE: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            *("error", "internal", "config", "storage", "read_only", "format_too_new", "corrupt_index", "chain_broken"),
            *("git_failed", "git_missing"),
        ),
        THEIRS,
    ),
    **dict.fromkeys(
        (
            *("lock_held", "repo_busy", "git_timeout"),
            *("embedder_unavailable", "reranker_unavailable", "qdrant_unavailable"),
        ),
        _LATER,
    ),
    # It may have been carried out: to send it again blindly could have it done twice.
    "hub_unavailable": "Look later whether it was done, and send it again if not; with an `Idempotency-Key` at once.",
    "disk_full": "Send the same request again when whoever runs the hub has made some space.",
    "sync": f"`GET {_API}/sync` says how the memory stands. Whoever runs the hub can mend what is in the way.",
    "consent_needed": "Whoever runs the hub can consent to it there; or ask for a model of a local provider.",
}
"""The next step for codes whose hints are about the hub's machine."""

_WORDS: Final = (
    # What is said another way.
    (re.compile(r"`alg clients add` makes a token; it is sent"), "Whoever runs the hub makes tokens; one is sent"),
    (re.compile(r"`alg clients` changes that"), "Whoever runs the hub can change that"),
    (re.compile(r"\bsees (why|more): `alg [^`]*`"), r"sees \1"),
    (re.compile(r"\ba tool for handoffs\b"), f"`POST {_API}/handoffs/{{id}}/update`"),
    (re.compile(r"`?\bmemory_read\(id, at=\.\.\.\)`?"), f"`GET {_API}/memories/{{id}}?at=...`"),
    (re.compile(r"\bredact=true\b"), "`redact`: true"),
    (re.compile(r"\bwrite with that version\b"), "send its ETag as `If-Match`"),
    (re.compile(r"\bor leave it out to begin\b"), f"or begin one with `POST {_API}/sessions`"),
    (re.compile(r"Leave `session_id` out to begin a new session"), f"`POST {_API}/sessions` begins a new one"),
    (re.compile(r"\ba git blob id of "), ""),
    (re.compile(r"`git log` in the memory repo lists its commits; the first one\b"), "The first commit"),
    (re.compile(r", or declare a type of your own in `types/`"), ""),
    (re.compile(r", or list those to choose from under `providers[^`]*` in config\.yaml, or make a route"), ""),
    # Tools and commands, with what was given to them.
    *(
        (
            re.compile(rf"`?\b{re.escape(name)}\b(?: --?[a-z]+| [0-9A-Z]{{26}})*(?:\([^)]*\))?`?"),
            f"`{method} {_API}{path}`",
        )
        for name, (method, path) in {**ROUTE_OF_COMMAND, **ROUTE_OF_TOOL}.items()
    ),
    (re.compile(r"(`[^`]+`), \1,?"), r"\1"),
)
"""What stands for what, in this order."""

_AT_THE_MACHINE: Final = re.compile(
    r"\balg [a-z]|\bALG_|\bmemory_summarize_path\b|\bconfig\.yaml|\bconfiguration\b|`providers\b|\bsummaries\.|"
    r"\b(?:index|embedder|reranker|sync|http|providers)\.[a-z{]|`memory\.max_|`git |\bgit\b|(?<!\w)--[a-z]|~/|"
    r"\benvironment variable|\beditor\b|\bthis user\b|\bsome space\b|\bpip install|\bkeychain\b|\bfolder\b|`types/|"
    r"adaptive-llm-gateway|\bthis machine\b|\blocal server\b"
)
"""What a step speaks of that only the person at the hub's machine can take."""
_SENTENCES: Final = re.compile(r"(?<=[.!?])\s+")


def hint_for(code: str, hint: str | None) -> str | None:
    """What whoever got an error by HTTP does next.

    Args:
        hint: the error's own.
    """
    if code in _FOR_CODE:
        return _FOR_CODE[code]
    if not hint:
        return None
    kept = " ".join(filter(None, map(_for_others, _SENTENCES.split(with_routes(hint)))))
    return kept or THEIRS


def with_routes(text: str) -> str:
    """A text of ours with the routes that do what the tools and commands do that it names."""
    for pattern, words in _WORDS:
        text = pattern.sub(words, text)
    return text


def is_of_the_hub(code: str) -> bool:
    """Whether an error is about the hub's machine, not about what was asked."""
    return code in _FOR_CODE


def _for_others(sentence: str) -> str:
    """A sentence without what only the person at the hub's machine can do, and what it says after that of the same."""
    if not _AT_THE_MACHINE.search(sentence):
        return sentence
    kept: list[str] = []
    for part in sentence.split("; "):
        if _AT_THE_MACHINE.search(part):
            break
        kept.append(part)
    return f"{'; '.join(kept)}." if kept else ""
