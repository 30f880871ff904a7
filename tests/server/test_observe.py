"""What is observed of requests and calls: ids, the logs, the audit log, metrics; and what must be in none of them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adaptive_llm_gateway.core import AccessDenied, NotFound, Trust, Unavailable
from adaptive_llm_gateway.gateway import Attempt, Receipt, ReceiptCost, ReceiptLevel, ReceiptRequest, ReceiptTokens
from adaptive_llm_gateway.server._access import IN_SCOPE, TOOL_SCOPES, Access
from adaptive_llm_gateway.server._audit import AuditLog
from adaptive_llm_gateway.server._audit_files import AuditFiles
from adaptive_llm_gateway.server._call import CALL, Call, accepted_request_id, request_id, touched, went_wrong
from adaptive_llm_gateway.server._logging import REQUESTS, JsonFormatter, RequestFormatter
from adaptive_llm_gateway.server._metrics import Metrics
from adaptive_llm_gateway.server._observe import Observation, Observer

ID = "01JD0000000000000000000001"
SECRET = "ghp_" + "4kT9xWq2LmZ7vB1nR8sD3fG6hJ0pYcUeA5iO"

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


def answering(status: int, *, access: Access | None = None, headers: Any = (), body: bytes = b"ok") -> Asgi:
    """An application that gives one answer, to whom it takes the caller for."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if access is not None:
            scope[IN_SCOPE] = access
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


class Observed:
    """Requests through the outermost layer, and what came of them."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.audit = AuditLog(folder, **options)
        self.metrics = Metrics(version="1.2.3", audit=self.audit)
        self.observer = Observer(audit=self.audit, metrics=self.metrics)

    def request(
        self, app: Asgi, path: str, *, method: str = "GET", headers: dict[str, str] | None = None, kind: str = "http"
    ) -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        scope = {
            "type": kind,
            "method": method,
            "path": path,
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("192.0.2.7", 4711),
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"123", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(Observation(app, self.observer)(scope, receive, send))
        return sent

    def entries(self) -> list[dict[str, Any]]:
        self.audit.close()
        return list(AuditFiles(self.folder).newest_first())[::-1]

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        text = asyncio.run(self.metrics.text()).decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
def observed(tmp_path: Path) -> Observed:
    return Observed(tmp_path / "audit")


CI = Access(client="ci")


# --- ids ----------------------------------------------------------------------------------------------------------


def test_every_answer_has_the_id_of_its_request(observed: Observed) -> None:
    first, second = (dict(observed.request(answering(200), "/mcp")[0]["headers"])[b"x-request-id"] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("given", [ID, "2f1b7c1e-6a55-4c1c-9a3b-0d3a5f5e7a11"])
def test_an_id_that_a_caller_gives_is_taken_where_it_is_one(given: str, observed: Observed) -> None:
    sent = observed.request(answering(200), "/mcp", headers={"X-Request-Id": given})
    assert dict(sent[0]["headers"])[b"x-request-id"] == given.encode()


@pytest.mark.parametrize("given", ["", "x", SECRET, "a" * 500, "a\r\nSet-Cookie: b", ID + "\n", "é"])
def test_any_other_text_is_no_id_and_stands_nowhere(given: str) -> None:
    assert accepted_request_id(given) != given


def test_the_code_that_serves_a_request_knows_its_id(observed: Observed) -> None:
    found: list[str | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(request_id())
        await answering(200)(scope, receive, send)

    sent = observed.request(app, "/mcp")
    assert [each.encode() for each in found if each] == [dict(sent[0]["headers"])[b"x-request-id"]]
    assert request_id() is None


# --- the audit log --------------------------------------------------------------------------------------------------


def test_a_refusal_is_on_the_disk_before_it_is_answered(observed: Observed) -> None:
    there: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        there.append(len(list(AuditFiles(observed.folder).newest_first())))
        await send({"type": "http.response.body", "body": b""})

    observed.request(app, "/mcp", method="POST")
    assert there == [1]
    (entry,) = observed.entries()
    assert (entry["action"], entry["outcome"], entry["code"]) == ("POST /mcp", "refused", "unauthenticated")
    assert entry["address"] == "192.0.2.7"
    assert "client" not in entry


def test_a_client_that_may_not_is_named(observed: Observed) -> None:
    observed.request(answering(403, access=CI), "/metrics")
    (entry,) = observed.entries()
    assert (entry["client"], entry["action"], entry["code"]) == ("ci", "GET /metrics", "access_denied")


def test_what_machines_ask_all_the_time_is_not_entered_unless_it_is_refused(observed: Observed) -> None:
    observed.request(answering(200), "/healthz")
    observed.request(answering(200, access=CI), "/metrics")
    observed.request(answering(200, access=CI), "/mcp", method="POST")
    assert observed.entries() == []


def test_a_path_of_a_callers_own_stands_nowhere(observed: Observed) -> None:
    observed.request(answering(404), f"/{SECRET}", method="GET")
    observed.request(answering(404), f"/{SECRET}/../x", method=SECRET)
    assert {entry["action"] for entry in observed.entries()} == {"GET unmatched"}
    assert SECRET not in asyncio.run(observed.metrics.text()).decode()


def test_calls_within_a_request_have_entries_of_their_own(observed: Observed) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope[IN_SCOPE] = CI
        within = CALL.get()
        with observed.observer.call(
            "memory_read", transport="http", changes=False, agent="Claude Code", within=within, access=CI
        ):
            touched(ID)
        with (
            pytest.raises(AccessDenied),
            observed.observer.call("memory_write", transport="http", within=within, access=CI),
        ):
            raise AccessDenied("no")
        await answering(200)(scope, receive, send)

    sent = observed.request(app, "/mcp", method="POST")
    read, write = observed.entries()
    assert read["request"] == write["request"] == dict(sent[0]["headers"])[b"x-request-id"].decode()
    assert (read["client"], read["agent"], read["address"]) == ("ci", "Claude Code", "192.0.2.7")
    assert (read["target"], read["outcome"], read["micros"] >= 0) == (ID, "ok", True)
    assert (write["outcome"], write["code"]) == ("refused", "access_denied")


def test_only_what_is_an_id_is_told_of_what_a_call_was_about(observed: Observed) -> None:
    with observed.observer.call("memory_read", transport="http"):
        for text in (SECRET, "the title of a memory", "", None, 3, ID[:-1]):
            touched(text)
    (entry,) = observed.entries()
    assert "target" not in entry


def test_by_the_socket_only_what_can_change_something_is_entered(observed: Observed) -> None:
    with observed.observer.call("memory_search", transport="stdio", changes=False):
        pass
    with observed.observer.call("memory_write", transport="stdio"):
        went_wrong(NotFound("no such memory"))
    (entry,) = observed.entries()
    assert (entry["action"], entry["outcome"], entry["code"]) == ("memory_write", "failed", "not_found")
    assert "client" not in entry


def test_a_secret_in_the_name_of_a_program_is_not_kept(observed: Observed) -> None:
    with observed.observer.call("memory_write", transport="stdio", agent=f"agent {SECRET}"):
        pass
    (entry,) = observed.entries()
    assert SECRET not in json.dumps(entry)
    assert "redacted" in entry["agent"]


def test_a_stream_of_events_is_entered_when_it_begins(observed: Observed) -> None:
    from adaptive_llm_gateway.server import _routes

    there: list[int] = []
    events = ((b"content-type", b"text/event-stream"),)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope[IN_SCOPE] = CI
        scope["alg.call"].route = "/api/v1/events"
        await send({"type": "http.response.start", "status": 200, "headers": list(events)})
        assert await observed.audit.add_now(Call(ID, "hub", "marker").entry()) is None
        there.append(len(list(AuditFiles(observed.folder).newest_first())))
        await send({"type": "http.response.body", "body": b""})

    observed.request(app, "/api/v1/events")
    assert there == [2]
    assert len(observed.entries()) == 2
    assert _routes.ROUTES.match("/api/v1/nothing/of/this") == (_routes.UNMATCHED, ())


def test_without_its_log_nothing_is_served_where_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    observed = Observed(tmp_path, must_hold=True)

    def refuse() -> None:
        raise Unavailable("the audit log cannot be written, and nothing is done without it")

    monkeypatch.setattr(observed.audit, "check", refuse)  # a disk that is full cannot be had without being root
    sent = observed.request(answering(200), "/mcp", method="POST")
    assert sent[0]["status"] == 503
    problem = json.loads(sent[1]["body"])
    assert problem["code"] == "unavailable"
    assert problem["request_id"]
    assert observed.request(answering(200), "/healthz")[0]["status"] == 200


def test_what_nobody_caught_is_an_answer_without_detail(observed: Observed, caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("the inside of the hub")

    sent = observed.request(app, "/mcp")
    assert sent[0]["status"] == 500
    assert b"inside" not in sent[1]["body"]
    assert "the inside of the hub" in caplog.text


# --- metrics ----------------------------------------------------------------------------------------------------


def test_metrics_count_requests_by_route_and_calls_by_tool(observed: Observed) -> None:
    observed.request(answering(200, access=CI), "/mcp", method="POST")
    observed.request(answering(401), "/mcp", method="POST")
    observed.request(answering(429, access=CI), "/mcp", method="POST")
    with observed.observer.call("memory_search", transport="http", changes=False):
        pass
    found = observed.samples()

    def of(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert of("alg_http_requests_total", method="POST", route="/mcp", status="200") == 1
    assert of("alg_http_requests_total", method="POST", route="/mcp", status="401") == 1
    assert of("alg_authentication_failures_total", reason="unauthenticated") == 1
    assert of("alg_rate_limited_requests_total") == 1
    assert of("alg_calls_total", call="memory_search", outcome="ok") == 1
    assert of("alg_call_duration_seconds_count", call="memory_search") == 1
    assert of("alg_http_request_duration_seconds_count", route="/mcp") == 3
    assert of("alg_http_requests_in_progress") == 0
    assert any(name == "alg_build_info" and ("version", "1.2.3") in labels for name, labels in found)
    assert of("process_open_fds") > 0
    assert of("process_resident_memory_bytes") > 0


def test_a_caller_makes_no_series(observed: Observed) -> None:
    observed.request(answering(200), "/mcp")
    with observed.observer.call("unknown_tool", transport="http"):
        pass
    before = set(observed.samples())
    for number in range(200):
        observed.request(answering(404), f"/{number}", method=f"M{number}")
        observed.request(answering(401, access=Access(client=f"c{number}")), "/mcp")
        with observed.observer.call(f"tool_{number}", transport="http"):
            pass
    new = {name for name in set(observed.samples()) - before if not name[0].endswith(("_bucket", "_created"))}
    assert len(new) < 12, new


def test_every_tool_has_a_series_of_its_own(observed: Observed) -> None:
    for tool in TOOL_SCOPES:
        observed.metrics.called(tool, "ok", 0.1)
    calls = {dict(labels)["call"] for name, labels in observed.samples() if name == "alg_calls_total"}
    assert calls == set(TOOL_SCOPES)


# --- the logs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Any:
    """What the log of requests has."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger(REQUESTS)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)

    def read(form: Any, work: Callable[[], object]) -> list[str]:
        handler.setFormatter(RequestFormatter(form))
        stream.truncate(0)
        stream.seek(0)
        work()
        return stream.getvalue().splitlines()

    yield read
    logger.removeHandler(handler)


def test_a_request_is_a_line_of_names_and_numbers(observed: Observed, lines: Any) -> None:
    def ask() -> None:
        observed.request(answering(200, access=CI, body=b"x" * 12), "/mcp", method="POST", headers={"X-Request-Id": ID})

    (text,) = lines("text", ask)
    assert f" request={ID} client=ci address=192.0.2.7 method=POST route=/mcp status=200 ms=" in text
    assert text.endswith(" received=0 sent=12")
    (line,) = lines("json", ask)
    told = json.loads(line)
    assert (told["request"], told["client"], told["route"], told["status"]) == (ID, "ci", "/mcp", 200)
    assert not lines("json", lambda: observed.request(answering(200), "/healthz"))


def test_lines_of_the_hubs_log_are_objects_without_secrets_where_that_is_set() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("alg")
    logger.addHandler(handler)
    token = CALL.set(Call(ID, "http"))
    try:
        logger.warning("a %s with\nlines", SECRET)
        try:
            raise ValueError(SECRET)
        except ValueError:
            logger.exception("failed")
    finally:
        CALL.reset(token)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["level"] == "warning"
    assert first["request"] == ID
    assert "\n" in first["message"]
    assert "ValueError" in second["exception"]
    assert SECRET not in stream.getvalue()


# --- the page -----------------------------------------------------------------------------------------------------


def test_calls_of_providers_are_counted_by_what_receipts_say(observed: Observed) -> None:
    receipt = Receipt(
        ID,
        datetime(2027, 1, 15, 8, tzinfo=UTC),
        "answered",
        "",
        ReceiptRequest("chat", "chat", "a-secret-project", "ci", "auto"),
        ReceiptLevel(Trust.PUBLIC),
        attempts=(Attempt("slow", "m", "timeout", 0, 5_000_000), Attempt("ollama", "m", "ok", 0, 2_000)),
        tokens=ReceiptTokens(input=100, output=20),
        cost=ReceiptCost(1234, ""),
    )
    observed.metrics.receipt(receipt)
    for number in range(200):  # a local server that was found may have any name
        observed.metrics.receipt(replace(receipt, attempts=(Attempt(f"p{number}", "m", "ok", 0, 1),)))
    found = observed.samples()
    assert found["alg_provider_calls_total", (("outcome", "timeout"), ("provider", "slow"))] == 1
    assert found["alg_provider_tokens_total", (("direction", "output"), ("provider", "ollama"))] == 20
    assert found["alg_provider_cost_micro_cents_total", (("provider", "ollama"),)] == 1234
    assert found["alg_provider_calls_total", (("outcome", "ok"), ("provider", "other"))] > 100
    assert len([1 for name, _ in found if name == "alg_provider_calls_total"]) < 70


def test_the_page_names_every_metric_with_its_labels(observed: Observed) -> None:
    page = (Path(__file__).parents[2] / "docs/observing.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`\w+`[^|]*)+) \|([^|]*)\|", page[page.index("## Metrics") :], re.MULTILINE)
    told = {
        name: set(re.findall(r"`(\w+)`", labels)) for names, labels in rows for name in re.findall(r"`(\w+)`", names)
    }
    observed.metrics.look_up("alg_http_connections", "Open connections.", lambda: 0)
    observed.metrics.look_up("alg_event_subscribers", "Who listens for changes.", lambda: 0)
    of_store = {"memories", "index", "search", "commits", "files", "sync", "operations", "store"}
    families = list(text_string_to_metric_families(asyncio.run(observed.metrics.text()).decode()))
    for family in families:
        if not family.name.startswith("alg_"):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert name in told, name
        assert all(set(sample.labels) - {"le"} <= told[name] for sample in family.samples)
    known = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    rest = {name for name in set(told) - known if name.split("_")[1] not in of_store}
    assert not rest
