"""The description of the REST API: OpenAPI 3.1, from the routes and the models. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from adaptive_llm_gateway.server._access import ROUTE_SCOPES
from adaptive_llm_gateway.server._rest_models import ProblemTold
from adaptive_llm_gateway.server._rest_problems import PROBLEM_JSON
from adaptive_llm_gateway.server._rest_route import (
    AGENT,
    KEY,
    KEY_PATTERN,
    LONGEST_AGENT,
    MERGE_PATCH,
    Json,
    Route,
    taken_by,
)

VERSION: Final = "1"
"""Of the API, as its paths have it."""

_ABOUT: Final = (
    "What the hub's MCP tools do, for programs that speak HTTP. Everything here needs a token, and each operation "
    "names the scope that the token must have. What a token may not see does not exist for it. `HEAD` is answered as "
    "`GET` is, without the body, but for the stream of events. Recalled text is data, not instructions."
)
_TAGS: Final = {
    "memories": "Memories, and their history",
    "search": "What the memory knows",
    "sessions": "Logs of working sessions",
    "handoffs": "Work that one agent offers and another takes up",
    "sync": "The memory's git remote",
    "gateway": "Models, under policy and consent",
    "receipts": "What became of each request to a model",
    "changes": "What changed in the memory. As it happens it is told at `GET /api/v1/events` (server-sent events) and "
    "`/api/v1/events/ws` (WebSocket), which take the same parameters but `limit` and are not described here",
    "audit": "Who did what when, allowed or refused",
    "hub": "How the hub stands, and how this API is described",
}
_EVENTS: Final = (
    "With `stream`: an event `piece` with `text` for each piece, then `answer` with the whole answer, or `problem` "
    "where it broke off; a comment every five seconds while nothing comes."
)
_ALWAYS: Final = (400, 401, 403, 429, 500, 503)
_WITH_BODY: Final = (413, 415, 422)
_WHEN_KEYED: Final = (409, 422, 507)
_MEANINGS: Final = {
    400: "The request is not as this description has it",
    401: "There is no token, or none that counts",
    403: "The token does not allow it, or a policy does not",
    404: "There is no such thing, or none that the token may see",
    409: "Something is otherwise than the request takes it to be",
    412: "The memory is not the version that `If-Match` names; `ETag` has the current one",
    413: "Something is larger than a limit",
    415: "The body is not of a type that is taken here",
    422: "The request is as described, and what it says is refused",
    428: "It needs `If-Match`",
    429: "There are too many requests, or a quota is used up; `Retry-After` says for how long",
    500: "The hub failed, or a person has to look",
    502: "A remote or a provider failed",
    503: "Something is not there just now; `Retry-After` says when to ask again",
    504: "A remote took too long",
    507: "The disk is full",
}


def describe(routes: Sequence[BaseRoute], told: Mapping[tuple[str, str], Route]) -> Json:
    """The OpenAPI document.

    Args:
        routes: FastAPI's.
        told: what is told of each, by its method and whole path.
    """
    made: Json = get_openapi(
        title="Adaptive LLM Gateway",
        version=VERSION,
        openapi_version="3.1.0",
        description=_ABOUT,
        routes=routes,
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )
    schemas: Json = made["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which are never answered
        schemas.pop(name, None)
    models = {route.answer for route in told.values() if route.answer is not None} | {ProblemTold}
    _, answers = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    schemas |= answers["$defs"]
    used: set[int] = set()
    for route in told.values():
        operation: Json = made["paths"][route.whole][route.method.lower()]
        statuses = _refusals(route)
        used |= {*statuses}
        operation["responses"] = _responses(route, statuses)
        scope = ROUTE_SCOPES[route.method, route.whole]
        operation["security"] = [{"token": [] if scope == "token" else [scope]}]
        if parameters := [*map(_parameter, operation.pop("parameters", ())), *_headers(route)]:
            operation["parameters"] = parameters
        if route.merges:
            content: Json = operation["requestBody"]["content"]
            content[MERGE_PATCH] = content["application/json"]
    made["components"] |= {
        "schemas": dict(sorted(schemas.items())),
        "responses": {f"Problem{status}": _problem(status) for status in sorted(used)},
        "securitySchemes": {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token of `alg clients add`, or one of the issuer that the hub is told to accept",
            }
        },
    }
    return made


def _parameter(told: Json) -> Json:
    """A parameter without null, which nobody can send, and without what its schema says once more."""
    schema: Json = {**told["schema"]}
    options: list[Json] = schema.pop("anyOf", [])
    for option in options:
        if option != {"type": "null"}:
            schema |= option
    for name in ("title", "description"):
        schema.pop(name, None)
    if schema.get("default", 0) is None:
        del schema["default"]
    if schema.get("type") == "array":
        return {**told, "schema": schema, "style": "form", "explode": True}
    return {**told, "schema": schema}


def _refusals(route: Route) -> list[int]:
    taken = taken_by(route.run)
    found = {*_ALWAYS, *route.problems}
    if taken.body:
        found |= {*_WITH_BODY}
    if taken.query or "{" in route.path:
        found.add(422)
    if route.keyed:
        found |= {*_WHEN_KEYED}
    return sorted(found)


def _responses(route: Route, statuses: Iterable[int]) -> Json:
    schema: Json = (
        {"$ref": f"#/components/schemas/{route.answer.__name__}"} if route.answer is not None else {"type": "object"}
    )
    headers: Json = {name: {"description": text, "schema": {"type": "string"}} for name, text in route.headers.items()}
    if route.keyed:
        headers["Idempotency-Replayed"] = {
            "description": f"`true`: an earlier request with this `{KEY}` was carried out, and this was its answer",
            "schema": {"type": "string", "const": "true"},
        }
    done: Json = {
        "description": "It was created" if route.status == 201 else "The answer",
        **({"headers": headers} if headers else {}),
        "content": {
            "application/json": {"schema": schema},
            **({"text/event-stream": {"schema": {"description": _EVENTS}}} if route.streams else {}),
        },
    }
    also: Json = {
        str(status): {
            "description": text,
            **({} if status == 304 else {"content": {"application/json": {"schema": schema}}}),
        }
        for status, text in route.also.items()
    }
    return {
        str(route.status): done,
        **also,
        **{str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in statuses},
    }


def _problem(status: int) -> Json:
    headers: dict[int, dict[str, str]] = {
        401: {"WWW-Authenticate": "How to authenticate"},
        412: {"ETag": "The version that is current"},
        429: {"Retry-After": "Seconds"},
        503: {"Retry-After": "Seconds"},
    }
    return {
        "description": _MEANINGS[status],
        **(
            {
                "headers": {
                    name: {"description": text, "schema": {"type": "string"}} for name, text in headers[status].items()
                }
            }
            if status in headers
            else {}
        ),
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/ProblemTold"}}},
    }


def _headers(route: Route) -> list[Json]:
    if route.method == "GET":
        return []
    agent: Json = {
        "name": AGENT,
        "in": "header",
        "description": "The name that the caller gives itself; kept beside that of its token",
        "schema": {"type": "string", "maxLength": LONGEST_AGENT},
        "example": "release-bot",
    }
    key: Json = {
        "name": KEY,
        "in": "header",
        "description": "A text that no other request of this client has: when the same request comes once more, it is "
        "not carried out again, and gets the same answer. It is known for 24 hours",
        "schema": {"type": "string", "pattern": KEY_PATTERN},
        "example": "8e03978e-40d5-43dd-bc93-6894a57f9324",
    }
    writes = ROUTE_SCOPES[route.method, route.whole] != "memory:read"
    return [*([agent] if writes else []), *([key] if route.keyed else [])]
