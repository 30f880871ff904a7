"""The REST API: what the hub can do, at `/api/v1`, with a description of itself (OpenAPI 3.1).

It is mounted behind authentication, and does nothing for a request whose `Access` is not in its scope.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import FastAPI, Path
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from adaptive_llm_gateway.core import NotFound
from adaptive_llm_gateway.server._access import ROUTE_SCOPES, STREAMS
from adaptive_llm_gateway.server._idempotency import Idempotency
from adaptive_llm_gateway.server._rest_audit import AuditRoutes
from adaptive_llm_gateway.server._rest_events import SOCKET, STREAM, EventRoutes
from adaptive_llm_gateway.server._rest_gateway import GatewayRoutes
from adaptive_llm_gateway.server._rest_memories import MemoryRoutes
from adaptive_llm_gateway.server._rest_models import ProblemMeaning
from adaptive_llm_gateway.server._rest_openapi import describe
from adaptive_llm_gateway.server._rest_problems import PREFIX, STATUS, problem, title_of
from adaptive_llm_gateway.server._rest_route import Json, Route, answer, described, route_class, straight
from adaptive_llm_gateway.server._rest_work import WorkRoutes
from adaptive_llm_gateway.server._services import Services


class Api:
    """The API of one hub.

    Attributes:
        routes: every route, by its method and its whole path.
    """

    def __init__(self, services: Services) -> None:
        self.routes: dict[tuple[str, str], Route] = {}
        self._keys = Idempotency(services.home.idempotency)
        self.app = FastAPI(
            title="Adaptive LLM Gateway",
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
            exception_handlers={HTTPException: self._refused},
        )
        self._events = EventRoutes(services)
        for route in [
            *MemoryRoutes(services).table(),
            *WorkRoutes(services).table(),
            *GatewayRoutes(services).table(),
            *self._events.table(),
            *AuditRoutes(services).table(),
            *self._own(),
        ]:
            self.routes[route.method, route.whole] = route
        for key in self.routes:
            if key not in ROUTE_SCOPES:
                raise KeyError(f"{key} is not in ROUTE_SCOPES")
        self._whole: dict[str, list[str]] = {STREAM: ["GET"]}  # which is not among the routes
        for method, path in sorted(self.routes):
            if "{" not in path:
                self._whole.setdefault(path, []).append(method)
        self._paths = {route.whole: compile_path(route.whole)[0] for route in self.routes.values()}
        self.app.router.route_class = route_class(services, self._keys, self.routes)
        self._straight: dict[tuple[str, str], ASGIApp] = {}
        for key, route in self.routes.items():
            self._add(route)
            if (found := straight(services, self._keys, route)) is not None:
                self._straight[key] = found
        self._description: Json | None = None

    @property
    def subscribers(self) -> int:
        """How many listen for changes now."""
        return self._events.subscribers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path, allowed = scope["path"], self._whole.get(scope["path"])
        if scope["type"] == "http" and scope["method"] == "HEAD" and path not in STREAMS:
            # The same in all that is done, and the server sends no body. So the answer's length is that of `GET`, too.
            scope = {**scope, "method": "GET"}
        if scope["type"] == "http" and allowed is not None and scope["method"] not in allowed:
            # The router would go on to a path whose `{id}` this one fits.
            await self._not_allowed(scope["method"], path, allowed)(scope, receive, send)
        elif path in (STREAM, SOCKET):
            await self._events(scope, receive, send)
        elif scope["type"] == "http" and (found := self._straight.get((scope["method"], path))) is not None:
            await found(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def end_streams(self) -> None:
        """End what never ends by itself: the hub goes."""
        await self._events.end()

    def close(self) -> None:
        """Let go of what is open, once no request is under way."""
        self._keys.close()

    def _own(self) -> list[Route]:
        return [
            Route(method="GET", path="/openapi.json", run=self.api_description, tag="hub"),
            Route(
                method="GET",
                path="/problems/{code}",
                run=self.api_problem,
                tag="hub",
                answer=ProblemMeaning,
                problems=(404,),
            ),
        ]

    def _add(self, route: Route) -> None:
        summary, text, tag = described(route)
        self.app.router.add_api_route(
            route.whole,
            route.run,
            methods=[route.method],
            operation_id=route.run.__name__,
            summary=summary,
            description=text,
            tags=[tag],
            response_model=None,
            status_code=route.status,
            response_class=Response,
        )

    async def api_description(self) -> Response:
        """Describe this API. The OpenAPI document that is in the docs, too."""
        return answer(self.description())

    async def api_problem(
        self, code: Annotated[str, Path(description="`code` of a problem", examples=["not_found"])]
    ) -> Response:
        """Say what the code of a problem means. `type` of every problem leads here."""
        return answer(self.meaning(code))

    def meaning(self, code: str) -> Json:
        """What a code means.

        Raises:
            NotFound: there is none such.
        """
        status = STATUS.get(code)
        if status is None:
            raise NotFound(f"there is no problem {code!r}", hint=f"There are: {', '.join(STATUS)}.")
        return {"code": code, "status": status, "meaning": title_of(code)}

    async def _refused(self, request: Request, _error: Exception) -> Response:
        """What the router refuses by itself."""
        path = request.scope["path"]
        allowed = sorted(route.method for route in self.routes.values() if self._paths[route.whole].fullmatch(path))
        if allowed:
            return self._not_allowed(request.method, path, allowed)
        return problem("not_found", "there is no such path", hint=f"{PREFIX}/openapi.json has them all.")

    @staticmethod
    def _not_allowed(method: str, path: str, allowed: Sequence[str]) -> Response:
        if "GET" in allowed and path not in STREAMS:
            allowed = sorted((*allowed, "HEAD"))
        return problem(
            "method_not_allowed",
            f"{method[:20]} is not among the methods of this path",
            hint=f"There are: {', '.join(allowed)}.",
            headers={"allow": ", ".join(allowed)},
        )

    # -- the description ---------------------------------------------------------------------------------------

    def description(self) -> Json:
        """The OpenAPI document."""
        if self._description is None:
            self._description = describe(self.app.routes, self.routes)
        return self._description


def build_api(services: Services) -> Api:
    """The API as an ASGI application; its routes have their paths whole, so it takes a request's scope as it came."""
    return Api(services)
