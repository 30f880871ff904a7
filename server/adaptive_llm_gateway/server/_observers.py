"""What a hub keeps and tells of what is asked of it, made from its settings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import ConfigError, Home, Settings
from adaptive_llm_gateway.server._observe import Observer

if TYPE_CHECKING:
    from adaptive_llm_gateway.server._audit import AuditLog
    from adaptive_llm_gateway.server._metrics import Metrics
    from adaptive_llm_gateway.server._operations import Operations
    from adaptive_llm_gateway.server._tracing import Tracing

_log = logging.getLogger(__name__)
_MB = 1024 * 1024


def observer_of(home: Home, settings: Settings, *, version: str, operations: Operations) -> Observer:
    """What the configuration wants. Of what it does not want nothing is imported.

    Traces that cannot be had are a `problem` of the observer, and the hub goes on without them.
    """
    audit = _audit(home, settings)
    folder = home.audit if settings.audit.keep != "never" else None
    metrics = _metrics(version, operations, audit) if settings.http.enabled else None
    problem: ConfigError | None = None
    tracing: Tracing | None = None
    if settings.telemetry.otlp_endpoint is not None:
        from adaptive_llm_gateway.server._tracing import tracing_of  # noqa: PLC0415 - only where it is wanted

        try:
            tracing = tracing_of(settings, version=version)
        except ConfigError as error:
            _log.error("%s", error)
            problem = error
    return Observer(audit=audit, metrics=metrics, tracing=tracing, problem=problem, folder=folder)


def _audit(home: Home, settings: Settings) -> AuditLog | None:
    section = settings.audit
    if section.keep == "never" or (section.keep == "http" and not settings.http.enabled):
        return None
    from adaptive_llm_gateway.server._audit import AuditLog  # noqa: PLC0415 - as above

    return AuditLog(
        home.audit,
        must_hold=section.when_full == "refuse",
        retention_days=section.retention_days,
        retention_bytes=section.retention_mb * _MB,
    )


def _metrics(version: str, operations: Operations, audit: AuditLog | None) -> Metrics:
    from adaptive_llm_gateway.server._metrics import Metrics  # noqa: PLC0415 - as above

    return Metrics(version=version, operations=operations, audit=audit)
