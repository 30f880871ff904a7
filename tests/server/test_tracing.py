"""Traces: what is in a span, where it goes, and when nothing goes anywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from adaptive_llm_gateway.core import ConfigError, NotFound, Settings, Trust, set_offline
from adaptive_llm_gateway.gateway import Attempt, Receipt, ReceiptLevel, ReceiptRequest
from adaptive_llm_gateway.server._access import IN_SCOPE, Access
from adaptive_llm_gateway.server._call import CALL_IN_SCOPE, Call, touched
from adaptive_llm_gateway.server._observe import Observer
from adaptive_llm_gateway.server._tracing import TRACING, TracedRequests, Tracing, step, tracing_of

ID = "01JD0000000000000000000001"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """A receiver of OTLP over HTTP, and what it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.spans: list[Any] = []
        self.resources: list[Any] = []
        self.status = 200
        there = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                there.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                if there.status == 200:
                    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                        there.resources.append(resource.resource)
                        there.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(there.status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def named(self, name: str) -> Any:
        (found,) = [span for span in self.spans if span.name == name]
        return found


@pytest.fixture
def collector() -> Generator[Collector]:
    found = Collector()
    yield found
    found.close()


def settings(**telemetry: Any) -> Settings:
    return Settings.model_validate({"telemetry": telemetry})


def traced(collector: Collector, **telemetry: Any) -> Tracing:
    found = tracing_of(settings(otlp_endpoint=collector.url, **telemetry), version="1.2.3")
    assert found is not None
    return found


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def request(
    tracing: Tracing, *, access: Access | None, work: Any = None, headers: dict[str, str] | None = None
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if work is not None:
            work(scope)
        scope[CALL_IN_SCOPE].status = 200

    call = Call(ID, "http", "POST /mcp", method="POST", route="/mcp")
    scope: dict[str, Any] = {
        "type": "http",
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        CALL_IN_SCOPE: call,
    }
    if access is not None:
        scope[IN_SCOPE] = access
    asyncio.run(TracedRequests(app, tracing)(scope, None, None))  # pyright: ignore[reportArgumentType]


def test_spans_have_names_and_ids_and_nothing_of_what_is_asked_or_answered(collector: Collector) -> None:
    tracing = traced(collector)
    observer = Observer(tracing=tracing)

    def work(scope: Any) -> None:
        within = scope[CALL_IN_SCOPE]
        with observer.call("memory_read", transport="http", within=within, access=Access(client="ci")):
            touched(ID)
            with step("store.read"):
                raise NotFound("a title and a text that must not leave")

    with pytest.raises(NotFound):
        request(tracing, access=Access(client="ci"), work=work)
    tracing.close()
    outer, call, read = (collector.named(name) for name in ("POST /mcp", "memory_read", "store.read"))
    assert call.parent_span_id == outer.span_id
    assert read.parent_span_id == call.span_id
    assert len({outer.trace_id, call.trace_id, read.trace_id}) == 1
    assert attributes(outer) == {
        "http.request.method": "POST",
        "http.route": "/mcp",
        "alg.request": ID,
        "alg.client": "ci",
        "alg.outcome": "ok",
    }
    assert attributes(call) == {
        "alg.request": ID,
        "alg.transport": "http",
        "alg.client": "ci",
        "alg.target": ID,
        "alg.outcome": "failed",
        "error.type": "not_found",
    }
    assert not any(span.events or span.status.message for span in collector.spans)
    assert {each.key for each in collector.resources[0].attributes} == {"service.name", "service.version"}
    assert [path for path, _ in collector.requests] == ["/v1/traces"]


def test_a_trace_goes_on_from_the_caller_where_it_was_accepted_and_not_before(collector: Collector) -> None:
    tracing = traced(collector)
    request(tracing, access=Access(client="ci"), headers={"traceparent": PARENT})
    request(tracing, access=None, headers={"traceparent": PARENT})
    request(tracing, access=Access(client="ci"), headers={"traceparent": "00-zz-!-01"})
    tracing.close()
    known, own = collector.spans
    assert (known.trace_id.hex(), known.parent_span_id.hex()) == tuple(PARENT.split("-")[1:3])
    assert own.trace_id.hex() != PARENT.split("-")[1]
    assert not own.parent_span_id


def test_calls_of_providers_are_spans_with_their_own_times(collector: Collector) -> None:
    tracing = traced(collector)
    at = datetime(2027, 1, 15, 8, tzinfo=UTC)
    receipt = Receipt(
        ID,
        at,
        "answered",
        "the words of an answer",
        ReceiptRequest("chat", "chat", None, "ci", "auto"),
        ReceiptLevel(Trust.PUBLIC),
        attempts=(
            Attempt("slow", "m", "timeout", 1000, 5000, message="words of a provider"),
            Attempt("ollama", "qwen3", "ok", 7000, 2000),
        ),
    )
    with Observer(tracing=tracing).call("gateway_chat", transport="stdio"):
        tracing.receipt(receipt)
    tracing.receipt(receipt)  # of what is not traced, there is nothing to hang it on
    tracing.close()
    call = collector.named("gateway_chat")
    first, second = (span for span in collector.spans if span.name == "provider.call")
    assert first.parent_span_id == second.parent_span_id == call.span_id
    begin = int(at.timestamp()) * 10**9
    assert (second.start_time_unix_nano - begin, second.end_time_unix_nano - begin) == (7_000_000, 9_000_000)
    assert attributes(first) == {
        "alg.provider": "slow",
        "alg.model": "m",
        "alg.outcome": "timeout",
        "alg.receipt": ID,
    }
    assert b"words" not in b"".join(span.SerializeToString() for span in collector.spans)


def test_nothing_is_made_or_sent_unless_an_address_is_set(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    assert tracing_of(settings(), version="1") is None
    with step("store.read"):
        assert TRACING.get() is None
    assert not collector.requests


def test_the_environment_counts_where_that_is_what_is_set(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc, x-other=d")
    tracing = tracing_of(settings(otlp_endpoint="environment"), version="1")
    assert tracing is not None
    request(tracing, access=Access(client="ci"))
    tracing.close()
    (_, headers), *_ = collector.requests
    assert (headers["x-key"], headers["x-other"]) == ("abc", "d")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    with pytest.raises(ConfigError):
        tracing_of(settings(otlp_endpoint="environment"), version="1")


def test_headers_of_the_environment_go_to_no_other_address(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("OURS", "x-ours=1")
    tracing = traced(collector, headers_env="OURS")
    request(tracing, access=Access(client="ci"))
    tracing.close()
    (_, headers), *_ = collector.requests
    assert headers["x-ours"] == "1"
    assert "x-key" not in headers


def test_offline_nothing_goes_elsewhere_and_what_is_here_is_still_told(collector: Collector) -> None:
    elsewhere = tracing_of(settings(otlp_endpoint="http://collector.example:4318"), version="1")
    here = traced(collector)
    assert elsewhere is not None
    set_offline(True)
    try:
        for tracing in (elsewhere, here):
            request(tracing, access=Access(client="ci"))
            tracing.close()
    finally:
        set_offline(False)
    assert (elsewhere.sender.sent, elsewhere.sender.failed, elsewhere.sender.error) == (0, 1, "offline mode")
    assert len(collector.spans) == 1


def test_a_collector_that_refuses_is_told_of_and_holds_nobody_up(collector: Collector) -> None:
    collector.status = 500
    tracing = traced(collector)
    request(tracing, access=Access(client="ci"))
    tracing.close()
    told = Observer(tracing=tracing).status()["traces"]
    assert told == {"sent": 0, "failed": 1, "error": "HTTP 500"}


def test_a_part_of_the_requests_is_traced_where_that_is_set(collector: Collector) -> None:
    tracing = traced(collector, sample=0)
    request(tracing, access=Access(client="ci"))
    tracing.close()
    assert not collector.requests


def test_without_the_extra_the_hub_goes_on_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from adaptive_llm_gateway.core import Home
    from adaptive_llm_gateway.server._observers import observer_of

    # An installation without the extra, for the one question that is asked of it.
    def absent(_name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", absent)
    nothing: Any = None
    observer = observer_of(
        Home(tmp_path), settings(otlp_endpoint="http://127.0.0.1:4318"), version="1", operations=nothing
    )
    assert observer.tracing is None
    assert "adaptive-llm-gateway[otel]" in observer.status()["traces"]["error"]


def test_the_sdks_own_spans_go_nowhere(collector: Collector) -> None:
    from opentelemetry import trace

    tracing = traced(collector)
    with trace.get_tracer("mcp-python-sdk").start_as_current_span("tools/call words of a caller"):
        pass
    tracing.close()
    assert not collector.spans


def test_a_hub_sends_spans_of_what_it_does_and_the_rest_when_it_ends(server: Any, collector: Collector) -> None:
    server.configure(f"telemetry:\n  otlp_endpoint: {collector.url}\n")
    client = server.client()
    identifier = client.write("A title that must not leave")
    client.call("memory_search", query="words that must not leave")
    server.alg("hub", "stop")
    written = collector.named("memory_write")
    assert attributes(written)["alg.target"] == identifier
    assert collector.named("store.write").parent_span_id == written.span_id
    assert collector.named("store.search").parent_span_id == collector.named("memory_search").span_id
    assert b"must not leave" not in b"".join(span.SerializeToString() for span in collector.spans)
