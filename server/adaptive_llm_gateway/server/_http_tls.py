"""Where the hub may listen by HTTP, and its certificate, which is read again when its file changes."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from adaptive_llm_gateway.core import ConfigError, HttpSettings
from adaptive_llm_gateway.server._http_hosts import is_loopback

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0


def check_exposure(settings: HttpSettings, addresses: Sequence[str], *, clients: bool) -> None:
    """Refuse what would carry tokens in the clear past this machine, or be open to others for nobody.

    Args:
        addresses: on which it would listen.
        clients: whether there are any.

    Raises:
        ConfigError: it may not listen there.
    """
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        given, other = ("tls_certificate", "tls_key") if settings.tls_certificate else ("tls_key", "tls_certificate")
        raise ConfigError(
            f"'http.{given}' is set, and 'http.{other}' is not", hint="TLS needs both.", key=f"http.{other}"
        )
    if all(map(is_loopback, addresses)):
        return
    where = f"'http.host' is {settings.host!r}, which other machines can reach"
    if settings.tls_certificate is None and not settings.trusted_proxies:
        raise ConfigError(
            f"{where}, and tokens would go there in the clear",
            hint="Set `http.tls_certificate` and `http.tls_key`, or name the proxy that speaks TLS for it in "
            "`http.trusted_proxies`; or set `http.host` to 127.0.0.1.",
            key="http.host",
        )
    if not clients:
        raise ConfigError(
            f"{where}, and it has no client that could use it",
            hint="`alg clients add` makes one; then the hub listens by itself.",
            key="http.host",
        )


class Certificate:
    """The hub's certificate.

    Raises:
        ConfigError: there is none in the files, or the key is not its own.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._signature = self._signed()
        self._looked = time.monotonic()
        try:
            self._context = self._read()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot use 'http.tls_certificate' {str(certificate)!r} with 'http.tls_key' {str(key)!r}: "
                f"{_why(error)}",
                hint="Both are PEM files: the chain, the hub's own certificate first, and a key without a password.",
                key="http.tls_certificate",
            ) from error

    def context(self) -> ssl.SSLContext:
        """What to speak TLS with, for the next connection."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self.look_again()
        return self._context

    def look_again(self) -> None:
        """Take what the files have by now, if it can be used."""
        self._looked = time.monotonic()
        signature = self._signed()
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._context = self._read()
        except (OSError, ValueError) as error:  # of two files one may be new, and the other soon
            _log.warning("the new certificate cannot be used, the old one stays: %s", _why(error))
        else:
            _log.info("the certificate is a new one")

    def _signed(self) -> tuple[tuple[int, int] | None, ...]:
        found: list[tuple[int, int] | None] = []
        for file in self._files:
            try:
                status = file.stat()
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_ino))
        return tuple(found)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._files, password=lambda: "")  # rather than a question at a terminal
        return context


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "it is no PEM file"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
