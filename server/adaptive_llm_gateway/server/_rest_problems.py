"""Errors over REST: problem details (RFC 9457), and which HTTP status each code of an error has."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import PurePath
from typing import Any, Final

from starlette.responses import Response

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.server._call import ended_with, request_id, went_wrong
from adaptive_llm_gateway.server._gate import without_secrets
from adaptive_llm_gateway.server._rest_hints import hint_for, is_of_the_hub
from adaptive_llm_gateway.server._rest_json import write_json

PREFIX: Final = "/api/v1"
PROBLEM_JSON: Final = "application/problem+json"
_RETRY_SECONDS: Final = 2
_LONGEST_WAIT: Final = 24 * 3600

STATUS: Final[Mapping[str, int]] = {
    # Change what you asked for.
    "unreadable_json": 400,
    "invalid_request": 400,
    "unauthenticated": 401,
    "access_denied": 403,
    "not_permitted": 403,
    "consent_needed": 403,
    "over_budget": 403,
    "repo_read_only": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "unsupported_media_type": 415,
    "invalid_input": 422,
    "unknown_type": 422,
    "unknown_field": 422,
    "invalid_file": 422,
    "unsafe_path": 422,
    "secret_refused": 422,
    "trust_refused": 422,
    "key_reused": 422,
    "precondition_required": 428,
    # Read again, then try again.
    "version_conflict": 409,  # 412 where the request had an `If-Match`
    "quarantined": 409,
    "handoff_taken": 409,
    "not_holder": 409,
    "handoff_closed": 409,
    "held_already": 409,
    "key_in_use": 409,
    "outcome_unknown": 409,
    # Try again later.
    "rate_limited": 429,
    "sync": 502,  # 409 where there is no remote
    "provider_failed": 502,
    "unavailable": 503,
    "unconfirmed": 503,
    "lock_held": 503,
    "hub_unavailable": 503,
    "embedder_unavailable": 503,
    "reranker_unavailable": 503,
    "qdrant_unavailable": 503,
    "repo_busy": 503,
    "git_timeout": 504,
    # A person has to look.
    "error": 500,
    "internal": 500,
    "config": 500,
    "storage": 500,
    "read_only": 500,
    "format_too_new": 500,
    "corrupt_index": 500,
    "chain_broken": 500,
    "git_failed": 500,
    "git_missing": 500,
    "disk_full": 507,
}
"""The status of every code that an answer can have; a test holds it complete."""

TITLES: Final[Mapping[str, str]] = {
    "error": "It failed",
    "internal": "The hub failed",
    "invalid_request": "The request is not as the API describes it",
    "method_not_allowed": "The path has no such method",
    "not_found": "There is no such thing, or none that the token may see",
    "secret_refused": "It carries what looks like a secret",
    "unauthenticated": "There is no token, or none that counts",
    "unsafe_path": "It is no id or path that is taken",
    "unsupported_media_type": "The body is not of a type that is taken here",
    "version_conflict": "The version is not the one that is current",
    "precondition_required": "The request needs an If-Match",
}
"""What codes mean that are no `AlgError`'s, or that it says for those who know its arguments."""


def status_of(error: AlgError) -> int:
    """The status of an error; of a class that has none of its own, that of the nearest above it."""
    if error.code == "sync" and error.details.get("kind") == "no_remote":
        return 409  # nothing failed: there is nowhere to pull from or push to
    for kind in type(error).__mro__:
        code = getattr(kind, "code", None)
        if code in STATUS:
            return STATUS[code]
    return 500


def error_classes(kind: type[AlgError] = AlgError) -> Iterator[type[AlgError]]:
    """Every class of errors that is loaded, bases first."""
    yield kind
    for each in kind.__subclasses__():
        yield from error_classes(each)


def title_of(code: str) -> str:
    """What a code means, the same whoever refuses with it: as it is put here, or else the first sentence of what its
    class says of itself.
    """
    found = next((each for each in error_classes() if each.code == code), None)
    if code in TITLES or found is None:
        return TITLES.get(code) or HTTPStatus(STATUS[code]).phrase
    return " ".join((found.__doc__ or "").split()).partition(". ")[0].partition("; `")[0].rstrip(".")


def problem(
    code: str,
    detail: str,
    *,
    status: int | None = None,
    hint: str | None = None,
    details: Mapping[str, Any] | None = None,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as an answer; whatever it quotes is without credentials.

    Args:
        errors: of a request that is not as it should be, what is wrong where.
    """
    number = STATUS[code] if status is None else status
    hint = hint_for(code, hint)
    ended_with(code, refused=number in (401, 403, 429))
    told: dict[str, Any] = {
        "type": f"{PREFIX}/problems/{code}",
        "title": title_of(code),
        "status": number,
        "detail": detail,
        "code": code,
        **({"hint": hint} if hint else {}),
        **({"request_id": asked} if (asked := request_id()) else {}),
        **({"details": dict(details)} if details else {}),
        **({"errors": list(errors)} if errors else {}),
    }
    more = {"cache-control": "no-store", **(headers or {})}
    if number in (429, 503):
        more.setdefault("retry-after", str(_seconds(details or {})))
    return Response(write_json(without_secrets(told)), number, more, PROBLEM_JSON)


def _seconds(details: Mapping[str, Any]) -> int:
    """When to ask again: a whole number, as the header has it, and none that is too soon."""
    for name in ("retry_after", "retry_in"):
        wait = details.get(name)
        if isinstance(wait, int | float) and math.isfinite(wait):
            return min(max(math.ceil(wait), 1), _LONGEST_WAIT)
    return _RETRY_SECONDS


_QUOTED_PLACE: Final = re.compile(r"(?<=')/(?:[^'/\n]*/)*([^'/\n]+)/?(?=')")


def _without_places(error: AlgError) -> tuple[str, dict[str, Any]]:
    """What is told of an error, with the names of files where it says at which place of the hub's machine they are."""
    message, told = error.message, dict(error.details)
    if is_of_the_hub(error.code):
        message = _QUOTED_PLACE.sub(r"\1", message)
    for name, value in error.details.items():
        if isinstance(value, str) and PurePath(value).is_absolute():
            told[name] = PurePath(value).name
            message = message.replace(value, told[name])
    return message, told


def problem_of(error: AlgError, *, matching: bool = False) -> Response:
    """An error as an answer.

    Args:
        matching: the request named a version with `If-Match`.
    """
    went_wrong(error)
    status, headers = status_of(error), dict[str, str]()
    current = error.details.get("current_version")
    if matching and error.code == "version_conflict":
        status = 412
    if status == 412 and isinstance(current, str):
        headers["etag"] = f'"{current}"'
    message, details = _without_places(error)
    return problem(
        error.code,
        message,
        status=status,
        hint=error.hint,
        details=details,
        headers=headers,
    )
