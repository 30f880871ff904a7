"""Observes what is asked of the hub: the log of requests, metrics, the audit log and traces, in one place.

`Observation` is the outermost layer of what is served by HTTP. Calls of tools, resources and prompts within a request,
and those that come by the hub's socket, are observed by `Observer.call`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import time
from collections.abc import Generator
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.core import AlgError, is_ulid
from adaptive_llm_gateway.server._access import IN_SCOPE, Access
from adaptive_llm_gateway.server._asgi import App, Message, Receive, Scope, Send
from adaptive_llm_gateway.server._audit_entry import AuditEntry, AuditOutcome, Transport, outcome_of
from adaptive_llm_gateway.server._audit_files import note_now
from adaptive_llm_gateway.server._call import CALL, CALL_IN_SCOPE, Call, accepted_request_id, request_id
from adaptive_llm_gateway.server._gate import without_secrets
from adaptive_llm_gateway.server._logging import REQUESTS
from adaptive_llm_gateway.server._routes import QUIET, ROUTES, method_of

if TYPE_CHECKING:
    from adaptive_llm_gateway.server._audit import AuditLog
    from adaptive_llm_gateway.server._metrics import Metrics
    from adaptive_llm_gateway.server._tracing import Tracing

_log = logging.getLogger(__name__)
_requests = logging.getLogger(REQUESTS)

_CODES: Final = {
    400: "bad_request",
    401: "unauthenticated",
    403: "access_denied",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "timeout",
    409: "conflict",
    412: "version_conflict",
    413: "too_large",
    415: "unsupported_media_type",
    421: "wrong_host",
    422: "invalid_input",
    429: "rate_limited",
    431: "too_large",
    503: "unavailable",
}
_REFUSED: Final = frozenset({401, 403, 408, 413, 421, 429, 431})
_NO_ACCESS: Final = Access()


class Observer:
    """What a hub keeps and tells of what is asked of it; each part may be missing.

    Args:
        audit: the audit log.
        metrics: what `/metrics` tells.
        tracing: where traces go.
        problem: why there are no traces although there should be.
        folder: of the audit log, for what is entered also where nothing else is: changes of clients.
    """

    def __init__(
        self,
        *,
        audit: AuditLog | None = None,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
        problem: AlgError | None = None,
        folder: Path | None = None,
    ) -> None:
        self._folder = folder
        self.audit = audit
        self.metrics = metrics
        self.tracing = tracing
        self.problem = problem

    def status(self) -> dict[str, Any]:
        """How audit log and traces stand, for the hub's status; nothing of what there is not."""
        told: dict[str, Any] = {}
        if self.audit is not None:
            told["audit"] = asdict(self.audit.state)
        if self.tracing is not None:
            sender = self.tracing.sender
            told["traces"] = {"sent": sender.sent, "failed": sender.failed, "error": sender.error}
        elif self.problem is not None:
            told["traces"] = {"sent": 0, "failed": 0, "error": f"{self.problem} {self.problem.hint or ''}".strip()}
        return told

    @contextlib.contextmanager
    def call(
        self,
        action: str,
        *,
        transport: Transport,
        changes: bool = True,
        agent: str | None = None,
        within: Call | None = None,
        access: Access = _NO_ACCESS,
    ) -> Generator[Call]:
        """One call of a tool, resource, prompt or operation; what it raises is how it ended.

        Args:
            action: its name, one of ours.
            changes: whether it can change something: of those by the socket that cannot, there is no entry.
            agent: what the client's program calls itself.
            within: the request that it came with.
            access: who calls.

        Raises:
            Unavailable: it changes something, and nothing may be done that is not logged.
        """
        call = Call(
            within.request if within is not None else accepted_request_id(request_id()),
            transport,
            action,
            client=access.client,
            is_known=True,
            agent=_harmless(agent) if agent else None,
            address=within.address if within is not None else None,
        )
        entered = changes or within is not None
        if self.audit is not None and entered:
            self.audit.check()
        if within is not None:
            within.within.append(action)
        token = CALL.set(call)
        span = self.tracing.span(action, call, within) if self.tracing is not None else contextlib.nullcontext()
        try:
            with span:
                try:
                    yield call
                except BaseException as error:
                    call.ended(*_ending(error))
                    raise
        finally:
            CALL.reset(token)
            if self.metrics is not None:
                self.metrics.called(action, call.outcome, call.seconds)
            if self.audit is not None and (entered or call.outcome == "refused") and not call.entered:
                self.audit.add(call.entry())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is kept or told of calls."""
        return self.audit is None and self.metrics is None and self.tracing is None

    def note(self, action: str) -> None:
        """Enter what the hub itself did."""
        if self.audit is not None:
            self.audit.add(AuditEntry(time.time(), action))

    async def make_sure(self, call: Call) -> None:
        """Enter a call before it is answered, and wait until that is on the disk."""
        call.entered = True
        if self.audit is not None:
            await self.audit.add_now(call.entry())
        elif self._folder is not None:
            try:
                await asyncio.to_thread(note_now, self._folder, call.entry().as_json())
            except AlgError as error:
                _log.error("the audit log cannot be written: %s", error)

    def close(self) -> None:
        """Write and send what waits."""
        if self.audit is not None:
            self.audit.close()
        if self.tracing is not None:
            self.tracing.close()

    async def request_refused(self, call: Call) -> None:
        """Enter a refusal; the answer waits until it is on the disk, or counted with others like it."""
        call.entered = True
        if self.audit is not None:
            await self.audit.gather_now(call.entry())

    def request_ended(self, call: Call) -> None:
        """Enter what became of a request, count it, and log it."""
        route = call.route
        if call.status >= 400:
            call.ended("refused" if call.status in _REFUSED else "failed", _CODES.get(call.status, "error"))
        if self.metrics is not None:
            self.metrics.requested(call.method, route, call.status, call.seconds)
            if call.status == 401:
                self.metrics.not_accepted(call.why or call.code or "")
            elif call.status == 429:
                self.metrics.limited()
        if self.audit is not None and not call.entered and _is_entered(call):
            call.entered = True
            if not call.is_known or call.status == 429:
                self.audit.gather(call.entry())
            else:
                self.audit.add(call.entry())
        if _requests.handlers and not (route in QUIET and call.status < 400):
            _requests.info("", extra={"fields": _line(call)})


def _is_entered(call: Call) -> bool:
    if call.status < 400:
        return call.route.startswith("/api/") or call.transport == "ws"
    return not call.within  # what was refused within has its own entry


def _line(call: Call) -> dict[str, Any]:
    return {
        "request": call.request,
        "client": call.client,
        "address": call.address,
        "method": call.method,
        "route": call.route,
        "call": ",".join(call.within[:8]) or None,
        "status": call.status,
        "code": call.code,
        "ms": round(call.seconds * 1000, 1),
        "received": call.received,
        "sent": call.sent,
    }


@lru_cache(maxsize=256)
def _harmless(name: str) -> str:
    return str(without_secrets(name[:80]))


def _ending(error: BaseException) -> tuple[AuditOutcome, str]:
    if isinstance(error, AlgError):
        return outcome_of(error), error.code
    if isinstance(error, asyncio.CancelledError):
        return "failed", "cancelled"
    number = getattr(getattr(error, "error", None), "code", None)  # of an MCPError
    return "failed", f"rpc_{number}" if isinstance(number, int) else "error"


class Observation:
    """ASGI: observes every request; the outermost layer.

    Each answer carries its request's id as `X-Request-Id`. What nobody caught is an answer without detail, and logged.
    """

    def __init__(self, app: App, observer: Observer) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        observer = self._observer
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), None)
        transport: Transport = (
            "ws" if scope["type"] == "websocket" else "rest" if scope["path"].startswith("/api/") else "http"
        )
        call = Call(accepted_request_id(None if given is None else given.decode("latin-1")), transport)
        call.address, call.method = _address(scope), method_of(scope)
        call.route, chosen = ROUTES.match(scope["path"])
        call.action = f"{call.method} {call.route}"
        call.target = next(filter(is_ulid, chosen), None)
        scope[CALL_IN_SCOPE] = call
        watched = _Watched(observer, call, scope, receive, send)
        token = CALL.set(call)
        if observer.metrics is not None:
            observer.metrics.in_progress(1)
        try:
            if observer.audit is not None and call.route not in QUIET:
                observer.audit.check()
            await self._app(scope, watched.receive, watched.send)
        except AlgError as error:
            if not await watched.failed(503 if error.exit_code == 6 else 500, error.code):
                raise
        except Exception:  # the last one who can answer; the hub goes on
            _log.exception("a request failed")
            if not await watched.failed(500, "error"):
                raise
        finally:
            CALL.reset(token)
            watched.look()
            if not call.status:  # it went before there was an answer
                call.status = 499
            if observer.metrics is not None:
                observer.metrics.in_progress(-1)
            observer.request_ended(call)


class _Watched:
    """The two ways between a request and its answer, with what passes counted."""

    def __init__(self, observer: Observer, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        self._observer = observer
        self._call = call
        self._scope = scope
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._call.received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            self._call.sent += len(message.get("body", b""))
        elif kind in ("http.response.start", "websocket.http.response.start"):
            await self._begins(message)
        elif kind == "websocket.accept":
            self._call.status = 101
            self._enter_now()
        elif kind == "websocket.close" and not self._call.status:
            self._call.status = 403
        await self._send(message)

    async def _begins(self, message: Message) -> None:
        call = self._call
        call.status = message["status"]
        headers = list(message.get("headers", ()))
        message["headers"] = [*headers, (b"x-request-id", call.request.encode("latin-1"))]
        self.look()
        if call.status == 401:
            call.ended("refused", "unauthenticated")
            await self._observer.request_refused(call)
        elif call.status < 400 and call.route.startswith("/api/"):
            kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
            if kind.startswith(b"text/event-stream"):
                self._enter_now()

    def _enter_now(self) -> None:
        """What lasts for hours has its entry when it begins."""
        self.look()
        if self._observer.audit is not None:
            self._call.entered = True
            self._observer.audit.add(self._call.entry())

    def look(self) -> None:
        """Take over what the layers within have found out."""
        call, scope = self._call, self._scope
        call.address = _address(scope)  # a trusted proxy names another
        access = scope.get(IN_SCOPE)
        if isinstance(access, Access) and not call.is_known:
            call.client, call.is_known = access.client, True

    async def failed(self, status: int, code: str) -> bool:
        """Answer for who failed, without any detail; whether that could still be done."""
        if self._call.status or self._scope["type"] != "http":
            return False
        self._call.ended("failed", code)
        body = json.dumps(
            {
                "type": "about:blank",
                "title": "Service Unavailable" if status == 503 else "Internal Server Error",
                "status": status,
                "code": code,
                "request_id": self._call.request,
            }
        ).encode()
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
        if status == 503:
            headers.append((b"retry-after", b"5"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})
        return True


def _address(scope: Scope) -> str | None:
    client = scope.get("client")
    return _checked_address(str(client[0])) if client else None


@lru_cache(maxsize=1024)
def _checked_address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:  # a proxy's word for where somebody is may be anything
        return None
