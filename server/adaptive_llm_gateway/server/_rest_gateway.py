"""Models and receipts over REST."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Annotated, Any, Final

from fastapi import Body, Path, Query
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.server._gateway_operations import GatewayOperations
from adaptive_llm_gateway.server._rest_json import write_json
from adaptive_llm_gateway.server._rest_models import EXAMPLE_ID
from adaptive_llm_gateway.server._rest_models_work import (
    AnswerTold,
    ChatAsked,
    CompleteAsked,
    EmbedAsked,
    EmbedTold,
    HealthTold,
    ModelsTold,
    PreviewAsked,
    PreviewTold,
    ProbeQuery,
    ReceiptsQuery,
    ReceiptsTold,
    ReceiptsVerified,
    ReceiptTold,
    Routed,
)
from adaptive_llm_gateway.server._rest_problems import problem_of
from adaptive_llm_gateway.server._rest_route import ACTING, GoneAway, Json, Route, answer, client
from adaptive_llm_gateway.server._services import Services

_log = logging.getLogger(__name__)

_SIGN_OF_LIFE_SECONDS: Final = 5.0
_PATHS: Final = ("run", "file", "line", "inputs")
"""Of a receipt: where it lies on the hub's machine, and what its plan was made from."""

ReceiptId = Annotated[str, Path(description="Id of the receipt, or its end", examples=[EXAMPLE_ID])]


class GatewayRoutes:
    """The routes, as bound functions whose names are the ids of the operations."""

    def __init__(self, services: Services) -> None:
        self._gateway: GatewayOperations = services.gateway

    def table(self) -> list[Route]:
        """Every route."""
        calling: dict[str, Any] = {"method": "POST", "tag": "gateway", "problems": (404, 409, 502, 507)}
        return [
            Route(path="/gateway/complete", run=self.gateway_complete, answer=AnswerTold, streams=True, **calling),
            Route(path="/gateway/chat", run=self.gateway_chat, answer=AnswerTold, streams=True, **calling),
            Route(path="/gateway/embed", run=self.gateway_embed, answer=EmbedTold, **calling),
            Route(path="/gateway/route_preview", run=self.gateway_route_preview, answer=PreviewTold, **calling),
            Route(method="GET", path="/gateway/health", run=self.gateway_health, tag="gateway", answer=HealthTold),
            Route(method="GET", path="/gateway/models", run=self.gateway_models, tag="gateway", answer=ModelsTold),
            Route(method="GET", path="/receipts", run=self.receipt_list, tag="receipts", answer=ReceiptsTold),
            Route(
                method="GET",
                path="/receipts/verify",
                run=self.receipt_verify,
                tag="receipts",
                answer=ReceiptsVerified,
            ),
            Route(
                method="GET",
                path="/receipts/{id}",
                run=self.receipt_show,
                tag="receipts",
                answer=ReceiptTold,
                problems=(404,),
            ),
        ]

    async def gateway_complete(self, asked: Annotated[CompleteAsked, Body()], request: Request) -> Response:
        """Have a model answer a prompt. A local one by default, a hosted one only where policy and a person's consent
        let text of this trust level go. The answer is data, not instructions. Who goes away cancels it."""
        given = _given(asked)
        return await _asked(request, asked.stream, lambda more: self._gateway.gateway_complete(**given, **more))

    async def gateway_chat(self, asked: Annotated[ChatAsked, Body()], request: Request) -> Response:
        """Have a model answer a conversation. With what the memory knows where `context` asks for it; otherwise as for
        a prompt."""
        given = _given(asked)
        return await _asked(request, asked.stream, lambda more: self._gateway.gateway_chat(**given, **more))

    async def gateway_embed(self, asked: Annotated[EmbedAsked, Body()], request: Request) -> Response:
        """Turn texts into vectors. Under the same policy, consents and receipts as an answer."""
        given = _given(asked)
        return await _asked(request, False, lambda more: self._gateway.gateway_embed(**given, **more))

    async def gateway_route_preview(self, asked: Annotated[PreviewAsked, Body()]) -> Response:
        """Say what would become of a request. Its trust level and why, who would be tried in which order, and why each
        other was rejected. Nothing is sent."""
        return answer(await self._gateway.gateway_route_preview(client=client(), **_given(asked, stream=True)))

    async def gateway_health(self, asked: Annotated[ProbeQuery, Query()]) -> Response:
        """Say which providers of models there are, and how each is. Nothing of the caller's is sent."""
        return answer(await self._gateway.gateway_health(probe=asked.probe))

    async def gateway_models(self) -> Response:
        """List the models that routing sees, and the routes. What is not known of a model is null."""
        return answer(await self._gateway.gateway_models())

    # -- receipts ----------------------------------------------------------------------------------------------

    async def receipt_list(self, asked: Annotated[ReceiptsQuery, Query()]) -> Response:
        """List receipts of requests to models, the newest first. The caller's own; with the scope admin all of them."""
        return answer(
            await self._gateway.records.receipts_list(
                limit=asked.limit, outcome=asked.outcome, since=asked.since or None, own=_own()
            )
        )

    async def receipt_show(self, id: ReceiptId) -> Response:
        """Read a receipt. What a request used, what was blocked and redacted, and where it went; the caller's own, with
        the scope admin any."""
        found = await self._gateway.records.receipts_show(id.upper(), own=_own())
        return answer({name: found[name] for name in found if name not in _PATHS} if _own() else found)

    async def receipt_verify(self) -> Response:
        """Say whether all receipts are as they were written. It reads them all."""
        return answer(await self._gateway.records.receipts_verify())


def _own() -> bool:
    """Whether the caller sees its own receipts alone."""
    return "admin" not in ACTING.get().scopes


def _given(asked: Routed, *, stream: bool = False) -> Json:
    """What is asked, by the operations' names."""
    given = asked.model_dump(exclude_none=True, by_alias=True)
    if not stream:
        given.pop("stream", None)
    return given


async def _asked(request: Request, stream: bool, ask: Callable[[Json], Awaitable[Json]]) -> Response:
    """Ask a model, as long as whoever wants to know is there."""
    if not stream:
        return answer(await _while_there(request, ask({"client": client()})))
    pieces = _Pieces(ask)
    try:
        # A refusal before the first piece is an answer like any other.
        await _while_there(request, pieces.begin())
    except BaseException:
        await pieces.end()
        raise
    return EventStream(pieces)


async def _while_there(request: Request, work: Awaitable[Any]) -> Any:
    """What `work` gives; it is cancelled when they hang up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise GoneAway
        return await task
    finally:
        await _ended(gone)
        await _ended(task)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


class _Pieces:
    """The pieces of an answer, and its end.

    Args:
        ask: asks for it, with whom to tell the pieces.
    """

    def __init__(self, ask: Callable[[Json], Awaitable[Json]]) -> None:
        self._ask = ask
        self._coming: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self._first: tuple[str, Any] | None = None
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Ask, and wait for the first that comes.

        Raises:
            AlgError: it is a refusal.
        """
        self._task = asyncio.create_task(self._run())
        self._first = await self._coming.get()
        if self._first[0] == "problem":
            raise self._first[1]

    async def _run(self) -> None:
        async def piece(text: str) -> None:
            await self._coming.put(("piece", {"text": text}))

        try:
            done = await self._ask({"client": client(), "on_piece": piece})
        except AlgError as error:
            await self._coming.put(("problem", error))
        except Exception:  # noqa: BLE001 - told to whoever waits
            _log.exception("a model's answer failed")
            await self._coming.put(("problem", AlgError("the hub failed at this; its log says how")))
        else:
            await self._coming.put(("answer", done))

    async def every(self) -> AsyncGenerator[tuple[str, Any] | None]:
        """All of them; None now and then while nothing comes."""
        assert self._first is not None  # noqa: S101 - `begin` waits for it
        now: tuple[str, Any] | None = self._first
        while True:
            yield now
            if now is not None and now[0] != "piece":
                return
            try:
                async with asyncio.timeout(_SIGN_OF_LIFE_SECONDS):
                    now = await self._coming.get()
            except TimeoutError:
                now = None

    async def end(self) -> None:
        """Have no more; a call that is under way is cancelled."""
        if self._task is not None:
            await _ended(self._task)


class EventStream(Response):
    """An answer as server-sent events: `piece` after `piece`, then `answer` or `problem`."""

    def __init__(self, pieces: _Pieces) -> None:
        super().__init__(headers={"cache-control": "no-store"}, media_type="text/event-stream")
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - as ASGI calls it
        """Send it, as long as somebody is there."""
        sending = asyncio.create_task(self._send(send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _ended(gone)
            await _ended(sending)
            await self._pieces.end()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for each in self._pieces.every():
            await send({"type": "http.response.body", "body": _event(each), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _event(each: tuple[str, Any] | None) -> bytes:
    if each is None:
        return b":\n\n"
    kind, value = each
    data = bytes(problem_of(value).body) if kind == "problem" else write_json(value)
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)
