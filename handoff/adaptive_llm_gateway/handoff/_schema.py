"""The JSON Schema of the front matter of an offer's and an event's file, for tools that take part with git alone."""

from __future__ import annotations

from typing import Any, Final

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.handoff._events import MOST_STEPS
from adaptive_llm_gateway.handoff._values import EVENT_KINDS, PRIORITIES

Json = dict[str, Any]

_ULID: Final[Json] = {"type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"}
_TIME: Final[Json] = {
    "type": "string",
    "format": "date-time",
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,6})?Z$",
}
_NAME: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 200}
_LINE: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 2000}
_TEXT: Final[Json] = {"type": "string", "minLength": 1, "maxLength": 20_000}
_STEP: Final[Json] = {"type": "integer", "minimum": 1, "maximum": MOST_STEPS}
_TERM: Final[Json] = {"type": "integer", "minimum": 0, "maximum": MOST_STEPS}


def _of(kind: Json, description: str) -> Json:
    return {**kind, "description": description}


def _list(items: Json, most: int, description: str) -> Json:
    return {"type": "array", "maxItems": most, "items": items, "description": description}


_COMMON: Final[Json] = {
    "id": _of(_ULID, "identity of this file"),
    "type": {"const": "handoff"},
    "title": {"type": "string", "minLength": 1, "maxLength": 300, "description": "one line for people"},
    "created": _of(_TIME, "of an event: when it happened"),
    "updated": _of(_TIME, "of an event: the same as `created`"),
    "author": {
        "type": "object",
        "required": ["client"],
        "properties": {
            "client": _of(_NAME, "the program"),
            "agent": _of(_NAME, "its name for itself"),
            "host": _of(_NAME, "the machine"),
        },
    },
    "project": _of(_NAME, "what it belongs to"),
    "tags": _list({"type": "string", "maxLength": 100}, 64, "labels"),
    "trust": {"enum": [str(level) for level in Trust], "default": "internal", "description": "who may see it"},
    "links": _list(
        {"type": "object", "required": ["rel", "id"], "properties": {"rel": _NAME, "id": _ULID}},
        256,
        "of an offer: `decided` leads to a decision; of an event: `part_of` leads to the offer",
    ),
    "hub": _of(_NAME, "the hub that wrote it: its name, which no other has"),
    "instance": _of(_NAME, "which process of the client; a window of its own has one of its own"),
    "client_id": _of(_NAME, "of a client with a token: what no other is called; without: a program on the machine"),
}

_OFFER: Final[Json] = {
    "objective": _of(_TEXT, "what is to be reached; without it, the title says so"),
    "next_action": _of(_TEXT, "what to do first"),
    "open_questions": _list(_TEXT, 100, "what is not decided yet"),
    "constraints": _list(_TEXT, 100, "what must be kept to"),
    "to": _of(_NAME, "the client or agent that it is for; without: anybody"),
    "priority": {"enum": list(PRIORITIES), "default": "normal", "description": "how much it matters"},
    "expires": _of(_TIME, "until when it can be claimed; without: always"),
    "session_id": _of(_NAME, "the session that it comes from"),
    "checkpoint": {"type": "boolean", "default": False, "description": "made while its session may still have run"},
    "directory": _of(_LINE, "where the work lies on its machine"),
    "remote": _of(_LINE, "the remote of the work's repository"),
    "branch": _of(_LINE, "its branch"),
    "commit": _of(_LINE, "its commit"),
    "dirty": _list(_LINE, 200, "files that were changed and not committed, as `git status --porcelain` has them"),
    "dirty_count": {"type": "integer", "minimum": 0, "description": "how many there were in all"},
}

_EVENT: Final[Json] = {
    "event": {"enum": list(EVENT_KINDS), "description": "what happened"},
    "handoff": _of(_ULID, "the offer's `id`"),
    "step": _of(_STEP, "1 more than the highest step that its writer knew of"),
    "term": _of(_TERM, "of a claim: 1 more than the highest that its writer knew of; without a claim: the highest"),
    "claim": _of(_ULID, "`id` of the claim that it belongs to"),
    "lease_until": _of(_TIME, "until when its holder holds it; after `created`, by at most 24 hours"),
    "provisional": {"type": "boolean", "default": False, "description": "of a claim: made without the remote"},
}


def _when(kinds: list[str], then: Json) -> Json:
    return {"if": {"properties": {"event": {"enum": kinds}}}, "then": then}


def handoff_schema() -> Json:
    """The schema, draft 2020-12. Fields that it does not name are allowed, and kept."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Front matter of a file of a handoff",
        "description": "A file with the field `event` is an event, one without is an offer.",
        "if": {"required": ["event"]},
        "then": {"$ref": "#/$defs/event"},
        "else": {"$ref": "#/$defs/offer"},
        "$defs": {
            "offer": {
                "type": "object",
                "required": ["id", "type", "title", "created", "updated", "author"],
                "properties": {**_COMMON, **_OFFER},
            },
            "event": {
                "type": "object",
                "required": ["id", "type", "title", "created", "updated", "author", "event", "handoff", "step"],
                "properties": {**_COMMON, **_EVENT},
                "allOf": [
                    _when(["claim"], {"required": ["term", "lease_until"], "properties": {"term": {"minimum": 1}}}),
                    _when(["confirm", "progress", "release", "done"], {"required": ["claim"]}),
                    _when(["decline"], {"anyOf": [{"required": ["claim"]}, {"required": ["term"]}]}),
                    _when(["withdraw"], {"required": ["term"]}),
                ],
            },
        },
    }
