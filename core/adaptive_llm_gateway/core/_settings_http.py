"""The configuration's section on HTTP: where the hub listens, for whom, and within which limits."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from adaptive_llm_gateway.core._settings_gateway import Section


def _expand(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) and value else value


def _absolute_or_none(path: Path | None) -> Path | None:
    if path is not None and not path.is_absolute():
        raise ValueError(f"{str(path)!r} is not an absolute path")
    return path


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _networks(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is neither an IP address nor a network: {error}") from None
    return values


def _origins(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        scheme, found, rest = value.partition("://")
        if scheme not in ("http", "https") or not found or not rest or "/" in rest or "*" in rest:
            raise ValueError(f"{value!r} is not an origin such as 'https://tools.example.org'")
    return values


_File = Annotated[Path | None, BeforeValidator(_expand), AfterValidator(_absolute_or_none)]
_Names = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=253)], ...],
    BeforeValidator(_one_or_more),
]


class HttpSettings(Section):
    """Clients that come by HTTP instead of starting a process."""

    enabled: bool = Field(False, description="Serve MCP, the REST API, health and metrics by HTTP.")
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        max_length=253,
        description="Address to listen on. Another than loopback needs TLS or a named proxy, and a client "
        "(`alg clients add`).",
    )
    port: int = Field(8377, ge=0, le=65535, description="Port to listen on; 0: any that is free.")
    allowed_hosts: _Names = Field(
        (),
        description="Names under which clients reach it, beside loopback and `host`: other `Host` headers are refused. "
        "In the environment a JSON list.",
    )
    allowed_origins: Annotated[_Names, AfterValidator(_origins)] = Field(
        (), description="Origins of web pages that may call it, such as `https://tools.example.org`; none by default."
    )
    tls_certificate: _File = Field(None, description="Certificate chain (PEM) of the hub's own TLS.")
    tls_key: _File = Field(None, description="Its private key (PEM).")
    trusted_proxies: Annotated[_Names, AfterValidator(_networks)] = Field(
        (),
        description="Addresses or networks of proxies that speak TLS for the hub: their `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed, nobody else's.",
    )
    max_body_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Largest body of a request, in bytes."
    )
    max_connections: int = Field(4096, ge=1, le=100_000, description="Most connections at once; one more is refused.")
    max_connections_per_address: int = Field(
        256, ge=1, le=100_000, description="Most of one address elsewhere; proxies and this machine aside."
    )
    max_sessions: int = Field(
        1024, ge=1, le=100_000, description="Most MCP sessions of one client; the one quiet for longest makes room."
    )
    max_event_streams: int = Field(
        2048, ge=1, le=100_000, description="Most subscribers to changes (`/api/v1/events`) at once."
    )
    max_event_streams_per_client: int = Field(256, ge=1, le=100_000, description="Most of one client.")
    header_seconds: float = Field(
        10, gt=0, le=600, allow_inf_nan=False, description="How long a client may take to send a request's headers."
    )
    body_seconds: float = Field(
        30, gt=0, le=3600, allow_inf_nan=False, description="How long it may take to send the body."
    )
    idle_seconds: float = Field(
        75, gt=0, le=3600, allow_inf_nan=False, description="How long a connection may be silent between requests."
    )
    write_seconds: float = Field(
        30, gt=0, le=3600, allow_inf_nan=False, description="How long it may leave an answer unread."
    )
