"""What `/metrics` tells, in the text format of Prometheus: numbers, and names of ours. Imported with HTTP, not before.

Every set of labels is bounded: methods, routes, tools, outcomes, configured names of memory repos and providers. What a
caller chooses (a path, an unknown tool, a client's name) makes no series, and no memory, title or project is in any.
"""

from __future__ import annotations

import asyncio
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.server._access import EVERYTHING, PROMPT_SCOPES, RESOURCE_SCOPES, TOOL_SCOPES, acting_for

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import Receipt
    from adaptive_llm_gateway.server._asgi import Receive, Scope, Send
    from adaptive_llm_gateway.server._audit import AuditLog
    from adaptive_llm_gateway.server._observe import Observer
    from adaptive_llm_gateway.server._operations import Operations

Json = Mapping[str, Any]

disable_created_metrics()  # when each series began would be as many series again, which nobody asks for

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_ACTIONS: Final = frozenset({*TOOL_SCOPES, *RESOURCE_SCOPES, *PROMPT_SCOPES})
_STATUS_SECONDS: Final = 1.0  # a store's status is read again after this
_STATUS_WAIT: Final = 2.0  # a scrape waits for it no longer
_MOST_NAMES: Final = 64  # of providers, and of reasons; further ones count as `other`
OTHER: Final = "other"


class Metrics:
    """What is counted, and what is looked up when somebody asks.

    Args:
        version: the distribution's.
        operations: tell how the store stands.
        audit: the audit log, where there is one.
    """

    def __init__(self, *, version: str, operations: Operations | None = None, audit: AuditLog | None = None) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "alg_http_requests", "Requests by HTTP.", ("method", "route", "status"), registry=registry
        )
        self._request_seconds = Histogram(
            "alg_http_request_duration_seconds",
            "How long they took.",
            ("route",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._in_progress = Gauge("alg_http_requests_in_progress", "Requests under way.", registry=registry)
        self._calls = Counter(
            "alg_calls", "Calls of tools, resources and prompts, by all ways.", ("call", "outcome"), registry=registry
        )
        self._call_seconds = Histogram(
            "alg_call_duration_seconds", "How long they took.", ("call",), buckets=_BUCKETS, registry=registry
        )
        self._failures = Counter(
            "alg_authentication_failures", "Requests whose caller was not accepted.", ("reason",), registry=registry
        )
        self._limited = Counter(
            "alg_rate_limited_requests", "Requests beyond their client's limits.", registry=registry
        )
        self._gateway_requests = Counter(
            "alg_gateway_requests",
            "Requests to the gateway, as their receipts have them.",
            ("outcome",),
            registry=registry,
        )
        self._provider_calls = Counter(
            "alg_provider_calls", "Calls of providers.", ("provider", "outcome"), registry=registry
        )
        self._provider_seconds = Histogram(
            "alg_provider_call_duration_seconds",
            "How long they took.",
            ("provider",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._provider_tokens = Counter(
            "alg_provider_tokens",
            "Tokens that providers say they read and wrote.",
            ("provider", "direction"),
            registry=registry,
        )
        self._provider_cost = Counter(
            "alg_provider_cost_micro_cents", "What answers cost, where that is known.", ("provider",), registry=registry
        )
        build = Gauge("alg_build_info", "The hub's version.", ("version", "python"), registry=registry)
        build.labels(version, platform.python_version()).set(1)
        started = Gauge("alg_start_time_seconds", "When the hub began, Unix time.", registry=registry)
        started.set(time.time())
        ProcessCollector(registry=registry)
        self._looked_up = _LookedUp()
        registry.register(self._looked_up)
        self._operations = operations
        self._audit = audit
        self._lookups: dict[str, tuple[str, Callable[[], float]]] = {}
        self._names: dict[str, set[str]] = {}
        self._names_lock = threading.Lock()
        self._status: Json | None = None
        self._status_at = 0.0
        self._reading: asyncio.Task[None] | None = None

    # -- told by others ----------------------------------------------------------------------------------------

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request by HTTP has its answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def in_progress(self, more: int) -> None:
        """A request begins (1) or ends (-1)."""
        self._in_progress.inc(more)

    def called(self, action: str, outcome: str, seconds: float) -> None:
        """A call of a tool, resource or prompt has ended."""
        name = action if action in _ACTIONS else OTHER
        self._calls.labels(name, outcome).inc()
        self._call_seconds.labels(name).observe(seconds)

    def not_accepted(self, reason: str) -> None:
        """A caller was not accepted, and why: an error's code."""
        self._failures.labels(self._bounded("reason", reason or OTHER)).inc()

    def limited(self) -> None:
        """A request was beyond its client's limits."""
        self._limited.inc()

    def receipt(self, receipt: Receipt) -> None:
        """A receipt is stored; from any thread."""
        self._gateway_requests.labels(receipt.outcome).inc()
        for attempt in receipt.attempts:
            provider = self._bounded("provider", attempt.provider)
            self._provider_calls.labels(provider, self._bounded("outcome", attempt.outcome)).inc()
            self._provider_seconds.labels(provider).observe(attempt.took / 1_000_000)
        if receipt.attempts:  # the last one's answer is what was paid for
            provider = self._bounded("provider", receipt.attempts[-1].provider)
            for direction, count in (("input", receipt.tokens.input), ("output", receipt.tokens.output)):
                if count:
                    self._provider_tokens.labels(provider, direction).inc(count)
            if receipt.cost.micro_cents:
                self._provider_cost.labels(provider).inc(receipt.cost.micro_cents)

    def look_up(self, name: str, help: str, value: Callable[[], float]) -> None:
        """Have a number looked up when somebody asks: connections, subscribers, queues. It must be quick."""
        self._lookups[name] = (help, value)

    def _bounded(self, kind: str, name: str) -> str:
        with self._names_lock:
            known = self._names.setdefault(kind, set())
            if name not in known:
                if len(known) >= _MOST_NAMES:
                    return OTHER
                known.add(name)
        return name

    # -- asked for ---------------------------------------------------------------------------------------------

    async def text(self) -> bytes:
        """The whole, as Prometheus reads it."""
        await self._look_at_store()
        self._looked_up.families = list(self._families())
        return await asyncio.to_thread(generate_latest, self._registry)

    async def _look_at_store(self) -> None:
        if self._operations is None or time.monotonic() - self._status_at < _STATUS_SECONDS:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_status())
        await asyncio.wait({self._reading}, timeout=_STATUS_WAIT)  # what was known before is told otherwise

    async def _read_status(self) -> None:
        assert self._operations is not None  # noqa: S101 - who calls this looked
        if self._operations.store_state[0] != "open":
            self._status = None
            return
        try:
            with acting_for(EVERYTHING):
                self._status = await self._operations.status()
        except AlgError:
            self._status = None
        self._status_at = time.monotonic()

    def _families(self) -> Iterable[Metric]:
        for name, (help_text, value) in self._lookups.items():
            yield GaugeMetricFamily(name, help_text, value=value())
        if self._audit is not None:
            yield from _of_audit(self._audit)
        if self._operations is not None:
            yield GaugeMetricFamily(
                "alg_store_up",
                "Whether the memory can be read and written.",
                value=float(self._operations.store_state[0] == "open"),
            )
            yield GaugeMetricFamily(
                "alg_operations_in_progress",
                "Searches, reads and writes that have begun and not ended; writes that wait are among them.",
                value=self._operations.underway,
            )
            if self._status is not None:
                yield from _of_status(self._status, time.monotonic() - self._status_at)


class MetricsRoute:
    """ASGI: answers `/metrics`."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Answer one request."""
        metrics = self._observer.metrics
        body = await metrics.text() if metrics is not None else b""
        headers = [(b"content-type", CONTENT_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _LookedUp(Collector):
    """What was looked up for this answer."""

    def __init__(self) -> None:
        self.families: list[Metric] = []

    def collect(self) -> Iterable[Metric]:
        return self.families


def _of_audit(audit: AuditLog) -> Iterable[Metric]:
    state = audit.state
    yield GaugeMetricFamily("alg_audit_waiting", "Entries of the audit log not on the disk yet.", value=state.waiting)
    yield CounterMetricFamily("alg_audit_entries", "Entries written by this hub.", value=state.written)
    yield CounterMetricFamily("alg_audit_lost", "Entries that could not be kept.", value=state.lost)
    yield GaugeMetricFamily("alg_audit_up", "Whether the audit log can be written.", value=float(state.error is None))


def _of_status(status: Json, age: float) -> Iterable[Metric]:
    yield GaugeMetricFamily("alg_store_status_age_seconds", "How old the following numbers are.", value=age)
    memories = GaugeMetricFamily("alg_memories", "Memories by type.", labels=("type",))
    own = sorted(status["by_type"].items(), key=lambda each: -each[1])
    for kind, count in own[:_MOST_NAMES]:
        memories.add_metric((kind,), count)
    yield memories
    done, total = status["vectors"]
    yield GaugeMetricFamily(
        "alg_index_ready", "Whether the index is complete.", value=float(status["index"] == "ready")
    )
    yield GaugeMetricFamily("alg_index_chunks", "Chunks of text in the index.", value=total)
    yield GaugeMetricFamily("alg_index_vectors_waiting", "Chunks that wait for their vectors.", value=total - done)
    yield GaugeMetricFamily(
        "alg_search_hybrid", "Whether search goes by meaning, too.", value=status["search"] == "hybrid"
    )
    yield GaugeMetricFamily("alg_commits_waiting", "Writes that wait for their commit.", value=status["uncommitted"])
    yield GaugeMetricFamily("alg_files_skipped", "Files that cannot be read as memories.", value=len(status["skipped"]))
    repos = [(str(repo["name"]), repo["sync"]) for repo in status.get("repos", ())] or [("personal", status["sync"])]
    ahead = GaugeMetricFamily("alg_sync_ahead", "Commits that wait to be pushed.", labels=("repo",))
    behind = GaugeMetricFamily("alg_sync_behind", "Known commits that wait to be pulled.", labels=("repo",))
    failed = GaugeMetricFamily("alg_sync_failed", "Whether the last pull or push failed.", labels=("repo",))
    attempts = GaugeMetricFamily("alg_sync_failed_attempts", "Attempts that failed in a row.", labels=("repo",))
    success = GaugeMetricFamily(
        "alg_sync_last_success_seconds", "When both sides were last the same.", labels=("repo",)
    )
    for name, sync in repos:
        if sync is None:  # the repo is not there
            failed.add_metric((name,), 1)
            continue
        ahead.add_metric((name,), sync["ahead"])
        behind.add_metric((name,), sync["behind"])
        failed.add_metric((name,), float(sync["state"] == "failed"))
        attempts.add_metric((name,), sync["attempts"])
        if (last := _seconds(sync["last_success"])) is not None:
            success.add_metric((name,), last)
    yield from (ahead, behind, failed, attempts, success)


def _seconds(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).timestamp()
