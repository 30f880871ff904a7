"""Traces of OpenTelemetry: spans with names, ids and times, and nothing of what is asked or answered.

The provider of spans is the hub's own and not that of the process: the MCP SDK makes spans, too, with names that a
caller chose and texts of errors in them, and those go nowhere.

Nothing is sent unless an address is configured, and in offline mode nothing but to this machine. A span's parent is
taken from a caller (`traceparent`, W3C Trace Context) once it was accepted; requests of nobody have no spans.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from adaptive_llm_gateway.core import ConfigError, Settings, is_here, is_offline
from adaptive_llm_gateway.server._access import IN_SCOPE, Access
from adaptive_llm_gateway.server._asgi import App, Receive, Scope, Send
from adaptive_llm_gateway.server._call import CALL_IN_SCOPE, Call

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from adaptive_llm_gateway.gateway import Receipt

_log = logging.getLogger(__name__)

EXTRA: Final = "adaptive-llm-gateway[otel]"
_FROM_ENVIRONMENT: Final = "environment"
_PATH: Final = "/v1/traces"
_CONTEXT: Final = (b"traceparent", b"tracestate")
_SEND_SECONDS: Final = 3.0
_GATHER_MS: Final = 2000
_END_SECONDS: Final = 3.0
_QUEUE: Final = 4096

TRACING: ContextVar[Tracing | None] = ContextVar("TRACING", default=None)
"""The traces of what the current task works on; None where it is not traced."""


@contextlib.contextmanager
def step(name: str, **attributes: str | int) -> Generator[None]:
    """A part of what is being done, as a span; costs nothing where nothing is traced."""
    tracing = TRACING.get()
    if tracing is None:
        yield
        return
    with tracing.child(name, attributes):
        yield


def tracing_of(settings: Settings, *, version: str) -> Tracing | None:
    """The traces that the configuration wants; None for none.

    Raises:
        ConfigError: the extra is missing, or there is no address where one is to be.
    """
    section = settings.telemetry
    if section.otlp_endpoint is None:
        return None
    if not all(map(_is_installed, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common"))):
        raise ConfigError(
            "'telemetry.otlp_endpoint' is set, but OpenTelemetry is not installed: nothing is traced",
            hint=f"Install `{EXTRA}`, or take the setting out.",
            key="telemetry.otlp_endpoint",
        )
    if section.otlp_endpoint == _FROM_ENVIRONMENT:
        address = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or _below(
            os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        )
        headers_env = "OTEL_EXPORTER_OTLP_HEADERS"
        if not address.startswith(("http://", "https://")):
            raise ConfigError(
                "'telemetry.otlp_endpoint' leaves the address to the environment, which has none: nothing is traced",
                hint="Set OTEL_EXPORTER_OTLP_ENDPOINT for the process that starts the hub.",
                key="telemetry.otlp_endpoint",
            )
    else:
        address, headers_env = _below(section.otlp_endpoint), section.headers_env
    headers = _headers(os.environ.get(headers_env, "") if headers_env else "")
    return Tracing(address, headers=headers, version=version, sample=section.sample)


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even what is above it
        return False


def _below(address: str) -> str:
    return address if not address or address.endswith(_PATH) else address.rstrip("/") + _PATH


def _headers(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {name.strip(): value.strip() for name, _, value in pairs}


class Tracing:
    """Spans, and where they go.

    Args:
        address: of OTLP over HTTP, whole.
        headers: for that address alone.
        sample: which part of the traces that begin here is kept, 0 to 1.
    """

    def __init__(self, address: str, *, headers: Mapping[str, str], version: str, sample: float = 1.0) -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra, and only where it is wanted
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

        self.sender = _sender(address, headers)
        # Not `Resource.create`, which adds what it finds of the machine and the process.
        resource = Resource({"service.name": "adaptive-llm-gateway", "service.version": version})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self.sender, max_queue_size=_QUEUE, schedule_delay_millis=_GATHER_MS, max_export_batch_size=512
            )
        )
        self._tracer = self._provider.get_tracer("adaptive_llm_gateway", version)

    @contextlib.contextmanager
    def request(self, call: Call, headers: Mapping[str, str]) -> Generator[Any]:
        """The span of a request by HTTP whose caller was accepted.

        Args:
            headers: `traceparent` and `tracestate` of the request, where it has them.
        """
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        parent = TraceContextTextMapPropagator().extract(headers)
        attributes: dict[str, Any] = {
            "http.request.method": call.method,
            "http.route": call.route,
            "alg.request": call.request,
        }
        if call.client is not None:
            attributes["alg.client"] = call.client
        token = TRACING.set(self)
        try:
            with self._tracer.start_as_current_span(
                call.action,
                context=parent,
                kind=SpanKind.SERVER,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                call.span = span
                yield span
        finally:
            TRACING.reset(token)

    @contextlib.contextmanager
    def span(self, action: str, call: Call, within: Call | None) -> Generator[None]:
        """The span of a call of a tool, a resource or a prompt."""
        from opentelemetry import trace  # noqa: PLC0415

        context = trace.set_span_in_context(within.span) if within is not None and within.span is not None else None
        attributes: dict[str, Any] = {"alg.request": call.request, "alg.transport": call.transport}
        if call.client is not None:
            attributes["alg.client"] = call.client
        token = TRACING.set(self)
        try:
            with self._tracer.start_as_current_span(
                action, context=context, attributes=attributes, record_exception=False, set_status_on_exception=False
            ) as span:
                try:
                    yield
                finally:
                    if call.target is not None:
                        span.set_attribute("alg.target", call.target)
                    _ended(span, call)
        finally:
            TRACING.reset(token)

    @contextlib.contextmanager
    def child(self, name: str, attributes: Mapping[str, str | int]) -> Generator[None]:
        """A span below the current one."""
        with self._tracer.start_as_current_span(
            name, attributes=dict(attributes), record_exception=False, set_status_on_exception=False
        ):
            yield

    def receipt(self, receipt: Receipt) -> None:
        """The calls of providers that a receipt tells of, as spans below the current one."""
        from opentelemetry.trace import SpanKind, StatusCode  # noqa: PLC0415

        if TRACING.get() is None:
            return
        begin = round(receipt.at.timestamp() * 1_000_000)
        for attempt in receipt.attempts:
            span = self._tracer.start_span(
                "provider.call",
                kind=SpanKind.CLIENT,
                start_time=(begin + attempt.began) * 1000,
                attributes={
                    "alg.provider": attempt.provider,
                    "alg.model": attempt.model,
                    "alg.receipt": receipt.id,
                    "alg.outcome": attempt.outcome,
                },
            )
            if attempt.outcome != "ok":
                span.set_status(StatusCode.ERROR)
            span.end(end_time=(begin + attempt.began + attempt.took) * 1000)

    def close(self) -> None:
        """Send what waits, for a moment, and end."""
        self.sender.end_in(_END_SECONDS)
        self._provider.shutdown()


class TracedRequests:
    """ASGI: a span for each request; the layer right within the one that accepts callers."""

    def __init__(self, app: App, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        call = scope.get(CALL_IN_SCOPE)
        if scope["type"] != "http" or not isinstance(call, Call) or IN_SCOPE not in scope:
            await self._app(scope, receive, send)
            return
        access: Access = scope[IN_SCOPE]
        call.client, call.is_known = access.client, True
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"] if name in _CONTEXT
        }
        with self._tracing.request(call, headers) as span:
            try:
                await self._app(scope, receive, send)
            finally:
                if call.status:
                    span.set_attribute("http.response.status_code", call.status)
                _ended(span, call)


def _ended(span: Any, call: Call) -> None:
    from opentelemetry.trace import StatusCode  # noqa: PLC0415

    span.set_attribute("alg.outcome", call.outcome)
    if call.code is not None:
        span.set_attribute("error.type", call.code)
    if call.outcome == "failed":
        span.set_status(StatusCode.ERROR)


def _sender(address: str, headers: Mapping[str, str]) -> Any:
    """What sends spans. The SDK's own takes addresses, certificates and headers for other destinations from the
    environment, proxies too; this one sends to one address what it was given for it."""
    import httpx2  # noqa: PLC0415 - loaded where traces are wanted
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult  # noqa: PLC0415

    host = urlsplit(address).hostname or ""

    class Sender(SpanExporter):
        """Sends spans; `failed` counts those that did not arrive, `error` says why the last did not."""

        def __init__(self) -> None:
            self.sent = self.failed = 0
            self.error: str | None = None
            self._ends: float | None = None
            self._client = httpx2.Client(trust_env=False, timeout=_SEND_SECONDS, headers=dict(headers))

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            problem = self._problem(spans)
            if problem is None:
                self.sent += len(spans)
                self.error = None
                return SpanExportResult.SUCCESS
            self.failed += len(spans)
            if self.error is None:
                _log.warning("traces are not sent: %s", problem)
            self.error = problem
            return SpanExportResult.FAILURE

        def _problem(self, spans: Sequence[ReadableSpan]) -> str | None:
            if is_offline() and not is_here(host):
                return "offline mode"
            if self._ends is not None and time.monotonic() > self._ends:
                return "the hub ends"
            body = encode_spans(spans).SerializeToString()
            try:
                answer = self._client.post(address, content=body, headers={"content-type": "application/x-protobuf"})
            except (httpx2.HTTPError, OSError) as error:
                return type(error).__name__
            return None if answer.is_success else f"HTTP {answer.status_code}"

        def end_in(self, seconds: float) -> None:
            self._ends = time.monotonic() + seconds

        def shutdown(self) -> None:
            self._client.close()

        def force_flush(self, timeout_millis: int = 30000) -> bool:  # noqa: ARG002 - the SDK's signature
            return True

    return Sender()
