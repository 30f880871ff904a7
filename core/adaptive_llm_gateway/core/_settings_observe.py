"""The configuration's sections on what the hub keeps and tells of what it does: the audit log, and traces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from adaptive_llm_gateway.core._settings_gateway import Section, checked_address, checked_variable

FROM_ENVIRONMENT = "environment"
"""The value of `telemetry.otlp_endpoint` that leaves the address to the variables of OpenTelemetry."""


def _endpoint(value: str | None) -> str | None:
    if value is None or value == FROM_ENVIRONMENT:
        return value
    if value.startswith("unix:"):
        raise ValueError("write it as 'http://host:4318'")
    return checked_address(value)


def _never(value: object) -> object:
    return "never" if value is False else value  # as YAML reads `off` and `no`


class AuditSettings(Section):
    """The record of who did what when, allowed or refused."""

    keep: Annotated[Literal["http", "always", "never"], BeforeValidator(_never)] = Field(
        "http",
        description="`http`: while the hub serves HTTP, of everything asked for by HTTP, and of what your own clients "
        "and command line change; `always`: also without HTTP; `never`: not at all.",
    )
    when_full: Literal["serve", "refuse"] = Field(
        "serve",
        description="While the log cannot be written (a full disk): `serve` requests, and tell of the gap in the log "
        "once it can be written again, or `refuse` them.",
    )
    retention_days: int = Field(365, ge=1, le=36_500, description="How long it is kept, in days.")
    retention_mb: int = Field(
        1024, ge=16, le=1_048_576, description="How much of it is kept, in megabytes; the oldest goes first."
    )


class TelemetrySettings(Section):
    """Traces of OpenTelemetry, with the extra `adaptive-llm-gateway[otel]`; none are made unless an address is set."""

    otlp_endpoint: Annotated[str | None, AfterValidator(_endpoint)] = Field(
        None,
        description="Where traces go (OTLP over HTTP), such as `http://127.0.0.1:4318`: names, ids and times, no "
        f"content. `{FROM_ENVIRONMENT}`: what `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_EXPORTER_OTLP_HEADERS` say.",
    )
    headers_env: Annotated[str | None, AfterValidator(checked_variable)] = Field(
        None, description="Environment variable that holds headers for that address, as `name=value,name=value`."
    )
    sample: float = Field(1.0, ge=0, le=1, description="Which part of the requests is traced, 0 to 1.")
