"""What every request to the REST API goes through: access, the caller's texts, the body, its key, errors."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, cast, get_type_hints

from fastapi import params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adaptive_llm_gateway.core import AccessDenied, AlgError, InvalidInput, StorageError, VersionConflict
from adaptive_llm_gateway.memory import Author
from adaptive_llm_gateway.server._access import IN_SCOPE, ROUTE_SCOPES, Access, acting_for
from adaptive_llm_gateway.server._call import touched
from adaptive_llm_gateway.server._http_door import challenge
from adaptive_llm_gateway.server._idempotency import Begun, Idempotency, Kept, OutcomeUnknown
from adaptive_llm_gateway.server._mcp_shared import client_name
from adaptive_llm_gateway.server._rest_json import read_json, write_json
from adaptive_llm_gateway.server._rest_problems import PREFIX, problem, problem_of
from adaptive_llm_gateway.server._services import Services

_log = logging.getLogger(__name__)

Json = dict[str, Any]
Handler = Callable[..., Awaitable[Response]]

AGENT: Final = "Alg-Agent"
"""The header with the name that a caller gives itself, beside the one that its token has."""
LONGEST_AGENT: Final = 200
MERGE_PATCH: Final = "application/merge-patch+json"
KEY: Final = "Idempotency-Key"
KEY_PATTERN: Final = r'^("[ !#-~]{1,255}"|[!#-~]{1,255})$'
"""What that header may be: printable ASCII, with quotes around it or without."""

_SLOW: Final = 100_000  # bytes of a body that is read in a thread
_MOST_ERRORS: Final = 20
_LONGEST_PLACE: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of the API.

    Attributes:
        path: below `/api/v1`.
        run: its name is the operation's id, the first sentence of its docstring the summary.
        tag: under which the description has it.
        answer: what it answers with, for the description alone: an answer is not looked at once more.
        status: of an answer that went well; `also` has others, with what they mean.
        problems: the statuses of its refusals, beside those that every route has.
        headers: that its answer has, with what they say.
        merges: the body is a JSON merge patch (RFC 7396), and may say so.
        keyed: it writes, and takes an `Idempotency-Key`.
        creates: something with an id of its own, so that it can be carried out again without doing it twice.
        streams: it can answer with server-sent events.
    """

    method: str
    path: str
    run: Handler
    tag: str
    answer: type[BaseModel] | None = None
    status: int = 200
    also: Mapping[int, str] = field(default_factory=dict[int, str])
    problems: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    merges: bool = False
    keyed: bool = False
    creates: bool = False
    streams: bool = False

    @property
    def whole(self) -> str:
        """The path whole."""
        return f"{PREFIX}{self.path}"


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a handler takes.

    Attributes:
        query: the query's parameters, and whether each may come more than once.
        body: whether it has one.
    """

    query: Mapping[str, bool]
    body: bool


def taken_by(run: Handler) -> _Taken:
    """What a handler takes, from its signature."""
    query: dict[str, bool] = {}
    body = False
    for hint in get_type_hints(run, include_extras=True).values():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, params.Query):
                model = cast("type[BaseModel]", hint.__origin__)
                query |= {name: "list" in str(each.annotation) for name, each in model.model_fields.items()}
            elif isinstance(mark, params.Body):
                body = True
    return _Taken(query, body)


class InvalidRequest(InvalidInput):
    """The request is not as the API describes it."""

    code = "invalid_request"


class GoneAway(Exception):
    """Whoever asked is not there any more."""


class Asked(Request):
    """A request whose texts were looked at: what is asked of it is what may be done."""

    def use(self, query: Mapping[str, Any], body: Any) -> None:
        """Have these be its query and its body."""
        self._query_params = QueryParams(
            [
                (name, str(one))
                for name, value in query.items()
                for one in (cast("list[str]", value) if isinstance(value, list) else [value])
            ]
        )
        self._json = body


AGENT_NAME: ContextVar[str | None] = ContextVar("AGENT_NAME", default=None)
NEW_ID: ContextVar[str | None] = ContextVar("NEW_ID", default=None)
"""The id for what the current request creates, where it is to be the same one if the request comes again."""
ACTING: ContextVar[Access] = ContextVar("ACTING")
"""Whom the current request is carried out for; there is none outside of one."""


def author() -> Author:
    """Who writes: the token's client, and the name that it gives itself."""
    return Author(client=ACTING.get().client or "http", agent=AGENT_NAME.get())


def client() -> str:
    """Who asks a model."""
    return ACTING.get().client or "http"


def answer(
    value: Any, *, status: int = 200, etag: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer with a JSON value."""
    if isinstance(value, Mapping):  # what it made has its id in the answer alone
        touched(cast("Mapping[str, Any]", value).get("id"))
    more = {"cache-control": "no-store", **(headers or {})}
    if etag is not None:
        more["etag"] = etag
    return Response(write_json(value), status, more, "application/json")


def straight(services: Services, keys: Idempotency, route: Route) -> ASGIApp | None:
    """What answers a route that takes its query alone, and perhaps the request: by the same steps, and with the same
    words where the query is not as described, but past FastAPI, which took half of the API's work on the event loop for
    a search without hits. None for other routes.
    """
    hints = get_type_hints(route.run, include_extras=True)
    named: tuple[str, type[BaseModel]] | None = None
    whole: str | None = None
    for name in inspect.signature(route.run).parameters:
        hint = hints.get(name)
        if hint is Request:
            whole = name
        elif named is None and any(isinstance(mark, params.Query) for mark in getattr(hint, "__metadata__", ())):
            named = name, cast("type[BaseModel]", cast("Any", hint).__origin__)
        else:
            return None
    if route.method != "GET" or "{" in route.path or named is None:
        return None
    query, model = named
    if any(field.alias or field.validation_alias for field in model.model_fields.values()):
        return None
    taken = taken_by(route.run)

    async def run(request: Request) -> Response:
        asked = request.query_params
        given = {name: asked.getlist(name) if several else asked[name]
                 for name, several in taken.query.items() if name in asked}  # fmt: skip
        try:
            made = model.model_validate(given)
        except ValidationError as error:
            wrong = [{**each, "loc": ("query", *each["loc"])} for each in error.errors(include_url=False)]
            raise RequestValidationError(wrong) from None
        return await route.run(**{query: made}, **({whole: request} if whole else {}))

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        response = await _answered(services, keys, route, taken, Asked(scope, receive), run)
        await response(scope, receive, send)

    return answering


def route_class(services: Services, keys: Idempotency, routes: Mapping[tuple[str, str], Route]) -> type[APIRoute]:
    """The class of routes whose requests go through everything here."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            (method,) = self.methods or ("",)
            route = routes[method, self.path]
            taken = taken_by(route.run)
            plain = super().get_route_handler()

            async def handle(request: Request) -> Response:
                # A new one, not the one that was given: what it says is not what was sent.
                asked = Asked(request.scope, request.receive)
                return await _answered(services, keys, route, taken, asked, plain)

            return handle

    return Guarded


async def _answered(
    services: Services,
    keys: Idempotency,
    route: Route,
    taken: _Taken,
    asked: Asked,
    plain: Callable[[Request], Coroutine[Any, Any, Response]],
) -> Response:
    access: Access | None = asked.scope.get(IN_SCOPE)
    name = route.run.__name__
    try:
        if access is None:  # whoever mounts this authenticates; one that did not lets nobody in
            return problem("unauthenticated", "no token was accepted", headers={"www-authenticate": challenge()})
        scope = ROUTE_SCOPES[route.method, route.whole]
        if scope == "public":
            raise AccessDenied(f"{route.method} {route.whole} is told to be public")
        if scope != "token":
            access.needs(scope, f"{route.method} {route.whole}")
        with acting_for(access):
            refusal = await _look_at(services, name, route, taken, asked)
            if refusal is not None:
                return refusal
            ACTING.set(access)
            key = _key_of(asked, route)
            if key is None:
                return await plain(asked)
            return await _once(keys, key, route, asked, access, plain)
    except RequestValidationError as error:
        return _not_as_described(error)
    except AlgError as error:
        return problem_of(error, matching="if-match" in asked.headers)
    except (ClientDisconnect, GoneAway):
        return Response(status_code=400)  # for nobody: they are gone
    except Exception:  # noqa: BLE001 - one request's failure is its own
        _log.exception("%s failed", name)
        return problem("internal", "the hub failed at this; its log says how")


async def _once(
    keys: Idempotency,
    key: str,
    route: Route,
    asked: Asked,
    access: Access,
    plain: Callable[[Request], Coroutine[Any, Any, Response]],
) -> Response:
    """Carry out a request with a key, unless it was carried out before."""
    if_match = asked.headers.get("if-match")
    # One that names a version changes nothing a second time: what it names is not current any more.
    safe = route.creates or (if_match is not None and if_match.strip() != "*")
    data = await asked.body()
    request = hashlib.sha256()
    for part in (
        route.method,
        asked.scope["path"],
        asked.url.query,
        if_match or "",
        asked.headers.get(AGENT, ""),
        repr((sorted(access.scopes), access.projects, access.max_trust)),  # what was answered is for these rights
    ):
        request.update(hashlib.sha256(part.encode("utf-8", "replace")).digest())
    request.update(data)
    begun = await keys.begin(access.owner or "", key, request.digest(), safe=safe)
    if isinstance(begun, Kept):
        if begun.body is None:
            raise OutcomeUnknown(
                "the request was carried out, and its answer was too long to be kept",
                hint="Read what it made; it is not carried out again with this key.",
            )
        return Response(begun.body, begun.status, {**begun.headers, "idempotency-replayed": "true"})
    NEW_ID.set(begun.new_id)
    try:
        response = await plain(asked)
    except (RequestValidationError, AlgError) as error:
        if isinstance(error, AlgError) and error.details.get("queued"):
            keys.leave(begun)  # it may yet be carried out
        else:
            await _drop(keys, begun)
        if begun.again and isinstance(error, VersionConflict):
            error.hint = f"An earlier request with this key may have been what changed it. {error.hint or ''}".strip()
        raise
    except BaseException:
        keys.leave(begun)
        raise
    if response.status_code >= 300:
        await _drop(keys, begun)
        return response
    kept = {name: value for name, value in response.headers.items() if name != "content-length"}
    try:
        await keys.keep(begun, Kept(response.status_code, kept, bytes(response.body)))
    except StorageError as error:  # it was carried out, and to say otherwise would have it done once more
        _log.warning("the answer to a request with a key is not kept: %s", error)
    return response


async def _drop(keys: Idempotency, begun: Begun) -> None:
    """Forget a request that was refused; why it was is told, whatever becomes of its key."""
    try:
        await keys.drop(begun)
    except StorageError as error:
        _log.warning("the key of a request that was refused is not forgotten: %s", error)


_KEY: Final = re.compile(KEY_PATTERN)


def _key_of(asked: Asked, route: Route) -> str | None:
    """The request's `Idempotency-Key`, without the quotes that it may have.

    Raises:
        InvalidRequest: it is none, or the route takes none.
    """
    given = asked.headers.getlist(KEY)
    if not given or route.method == "GET":
        return None
    if not route.keyed:
        raise InvalidRequest(f"{route.method} {route.whole} takes no `{KEY}`", hint="Its answers are not kept.")
    if len(given) > 1 or not _KEY.fullmatch(given[0]):
        raise InvalidRequest(f"the `{KEY}` is not 1 to 255 characters of printable ASCII", hint="Give a random UUID.")
    return given[0].strip('"')


async def _look_at(services: Services, name: str, route: Route, taken: _Taken, asked: Asked) -> Response | None:
    """Read what is asked, have the gate look at it, and put what may be done in its place; or why nothing is done."""
    query, wrong = _query_of(asked, taken.query)
    if wrong is not None:
        return wrong
    body: Any = None
    if taken.body:
        wrong = _wrong_type(asked, merges=route.merges)
        if wrong is not None:
            return wrong
        data = await asked.body()
        body = read_json(data) if len(data) < _SLOW else await asyncio.to_thread(read_json, data)
        if not isinstance(body, dict):
            return problem("invalid_request", "the body is not a JSON object")
    elif asked.headers.get("content-length", "0") != "0" or "transfer-encoding" in asked.headers:
        return problem("invalid_request", f"{route.method} {route.whole} takes no body")
    named = asked.headers.get(AGENT)
    if named is not None and len(named) > LONGEST_AGENT:
        return problem("invalid_request", f"{AGENT} is longer than {LONGEST_AGENT} characters")
    given: Json = {**asked.path_params, **query, **cast("Json", body or {})}
    made = await services.gate.arguments(name, given if named is None else {**given, AGENT: named})
    if isinstance(made, str):
        return problem("secret_refused", made)
    texts = cast("Json | None", body)
    asked.use({one: made[one] for one in query}, texts and {one: made[one] for one in texts})
    AGENT_NAME.set(None if named is None else client_name(named))
    return None


def _query_of(asked: Asked, allowed: Mapping[str, bool]) -> tuple[dict[str, str | list[str]], Response | None]:
    """The query's parameters; or what is wrong with them."""
    found: dict[str, str | list[str]] = {}
    for name, value in asked.query_params.multi_items():
        if name not in allowed:
            shown = ", ".join(allowed) or "none"
            return {}, problem("invalid_request", f"there is no query parameter {name[:_LONGEST_PLACE]!r}",
                               hint=f"There are: {shown}.")  # fmt: skip
        if allowed[name]:
            cast("list[str]", found.setdefault(name, [])).append(value)
        elif name in found:
            return {}, problem("invalid_request", f"the query parameter {name!r} is given more than once")
        else:
            found[name] = value
    return found, None


_JSON_TYPE: Final = re.compile(r'application/(merge-patch\+)?json\s*(;\s*charset\s*=\s*"?utf-8"?\s*)?', re.IGNORECASE)


def _wrong_type(asked: Asked, *, merges: bool) -> Response | None:
    match = _JSON_TYPE.fullmatch(asked.headers.get("content-type", "").strip())
    if match and (merges or not match[1]):
        return None
    types = f"application/json{f' or {MERGE_PATCH}' if merges else ''}"
    return problem(
        "unsupported_media_type",
        f"the body has the type {asked.headers['content-type'][:_LONGEST_PLACE]!r}"
        if "content-type" in asked.headers
        else "the body has no type",
        hint=f"Send {types}, in UTF-8.",
        headers={"accept-patch": f"{MERGE_PATCH}, application/json"} if merges else {"accept": "application/json"},
    )


def _not_as_described(error: RequestValidationError) -> Response:
    told: list[dict[str, str]] = []
    for each in error.errors()[:_MOST_ERRORS]:
        where, *place = (str(part)[:_LONGEST_PLACE] for part in each["loc"])
        name = "/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in place) if where == "body" else (
            ".".join(place)
        )  # fmt: skip
        told.append({"in": where, "name": name, "detail": str(each["msg"])})
    first = told[0]
    return problem(
        "invalid_request",
        f"{first['in']} {first['name']}: {first['detail']}",
        hint="`errors` has every place; openapi.json says what is allowed.",
        errors=told,
    )


def described(route: Route) -> tuple[str, str, str]:
    """A route's summary, its description and its tag: from the docstring and the name of what it runs."""
    text = re.sub(r"\s+", " ", inspect.getdoc(route.run) or "").strip()
    first, _, rest = text.partition(". ")
    return first.rstrip("."), rest or text, route.tag
