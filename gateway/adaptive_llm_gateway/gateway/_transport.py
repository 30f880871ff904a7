"""The HTTP client that the SDKs are given: it alone knows the key, and decides what may leave and what may come back.

The SDKs read the environment, add headers of their own and follow redirects; none of that gets past here. Only known
headers are sent, only to the configured address; the connection's peer is compared before a byte is sent; no redirect
is followed and no proxy used; answers are bounded. What was learned of a call is kept in its `Call`, so that nothing
depends on how an SDK words an error.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import Any, Literal

from adaptive_llm_gateway.core import is_loopback
from adaptive_llm_gateway.gateway._keys import without
from adaptive_llm_gateway.gateway._locality import Address

CALL_HEADER = "x-alg-call"
MOST_ANSWER = 32 * 1024 * 1024  # bytes; 2,048 vectors of 1,536 numbers as text
MOST_ERROR = 65_536
CONNECTIONS = 256
_SENT = frozenset(
    {"accept", "anthropic-version", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)
_LOUD = ("any_llm", "anthropic", "httpcore", "httpcore2", "httpx", "httpx2", "openai")

Auth = Literal["bearer", "x-api-key"]


@dataclass(slots=True, eq=False)
class Call:
    """One request as the transport sees it.

    Attributes:
        stopped: why our side ended it.
        said: the provider's words, masked.
        when_sent: called by the event loop once all of it was sent.
    """

    key: str | None = field(default=None, repr=False)
    auth: Auth = "bearer"
    status: int | None = None
    retry_after: float | None = None
    stopped: str | None = None
    stopped_by: Literal["peer", "size", "encoding", "address", None] = None
    said: str = field(default="", repr=False)
    peer: str | None = None
    sent: bool = False
    when_sent: Callable[[], object] | None = field(default=None, repr=False)
    body: Any = field(default=None, repr=False)

    async def release(self) -> None:
        """Close the answer's body. SDKs leave that to the garbage collector when a stream is left early."""
        body, self.body, self.key = self.body, None, None
        if body is not None:
            await body.aclose()


@dataclass(frozen=True, slots=True)
class GuardedClient:
    """A client for an SDK (`httpx2.AsyncClient` or `httpx.AsyncClient`), and the calls under way by their mark."""

    client: Any
    calls: dict[str, Call]


def quiet() -> None:
    """Keep the libraries from writing requests into the log, as they do at DEBUG and INFO."""
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.WARNING)


def guarded_client(
    family: ModuleType, address: Address, *, loopback_only: bool, most_bytes: int = MOST_ANSWER, connect: float = 10.0
) -> GuardedClient:
    """A client that reaches one address only.

    Args:
        family: `httpx2`, or `httpx` for an SDK that still takes that.
        loopback_only: refuse a connection whose peer is not of the loopback, before anything is sent.
        most_bytes: of an answer; more ends it.
        connect: seconds to connect.
    """
    quiet()
    calls: dict[str, Call] = {}
    transport = _transport_class(family)(family, address, calls, loopback_only=loopback_only, most_bytes=most_bytes)
    client = family.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=family.Timeout(None, connect=connect),  # the caller bounds the rest
    )
    return GuardedClient(client, calls)


def _transport_class(family: ModuleType) -> Any:
    """The transport, on the bases of either family."""

    class Body(family.AsyncByteStream):
        def __init__(self, stream: Any, call: Call, most: int) -> None:
            self._stream = stream
            self._call = call
            self._most = most

        async def __aiter__(self) -> Any:
            read = 0
            async for block in self._stream:
                read += len(block)
                if read > self._most:
                    self._call.stopped = f"the answer has more than {self._most!r} bytes"
                    self._call.stopped_by = "size"
                    raise family.RemoteProtocolError(self._call.stopped)
                yield block

        async def aclose(self) -> None:
            await self._stream.aclose()

    class Transport(family.AsyncBaseTransport):
        def __init__(
            self, family: Any, address: Address, calls: dict[str, Call], *, loopback_only: bool, most_bytes: int
        ) -> None:
            self._address = address
            self._calls = calls
            self._loopback_only = loopback_only
            self._most = most_bytes
            self._inner = family.AsyncHTTPTransport(
                verify=_verify(address),
                trust_env=False,
                uds=address.socket,
                retries=0,
                limits=family.Limits(max_connections=CONNECTIONS, max_keepalive_connections=16, keepalive_expiry=30.0),
            )

        async def handle_async_request(self, request: Any) -> Any:
            call = self._calls.get(request.headers.get(CALL_HEADER, ""))
            if call is None:
                raise family.ConnectError("a request that nobody of ours made")
            port = request.url.port or {"http": 80, "https": 443}.get(request.url.scheme)
            if (request.url.scheme, request.url.host.lower(), port) != (
                self._address.scheme,
                self._address.host.lower(),
                self._address.port,
            ):
                call.stopped = "the request was for another address than the provider's"
                call.stopped_by = "address"
                raise family.ConnectError(call.stopped)

            async def trace(event: str, info: dict[str, Any]) -> None:
                if event in ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete"):
                    await self._compare(call, info["return_value"], unix="unix" in event)
                elif event.endswith(".send_request_headers.started"):
                    call.sent = True
                elif call.when_sent is not None and event.endswith(".send_request_body.complete"):
                    asyncio.get_running_loop().call_soon(call.when_sent)
                    call.when_sent = None

            # A request of its own: SDK errors carry the one they made, and that never has the key. Nor has a local.
            wire = family.Request(
                request.method,
                request.url,
                headers=_headers(request, call),
                stream=request.stream,
                extensions={**request.extensions, "trace": trace},
            )
            response = await self._inner.handle_async_request(wire)
            call.status = response.status_code
            call.retry_after = seconds_of(
                response.headers.get("retry-after"), milliseconds=response.headers.get("retry-after-ms")
            )
            call.body = response.stream
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                await response.stream.aclose()
                call.stopped, call.stopped_by = "the answer is compressed, which was not asked for", "encoding"
                raise family.RemoteProtocolError(call.stopped)
            if response.status_code == 200:
                body = Body(response.stream, call, self._most)
                return family.Response(200, headers=response.headers, stream=body, extensions=response.extensions)
            words = bytearray()
            async for block in response.stream:
                words += block
                if len(words) >= MOST_ERROR:
                    break
            await response.stream.aclose()
            call.said = without(call.key, words[:MOST_ERROR].decode("utf-8", "replace"))
            # The SDK gets the status alone, so that no error of its own repeats what the provider said.
            return family.Response(response.status_code, headers={"content-type": "application/json"}, content=b"{}")

        async def _compare(self, call: Call, stream: Any, *, unix: bool) -> None:
            if unix:
                call.peer = self._address.socket
                return
            peer = stream.get_extra_info("server_addr")
            call.peer = str(peer[0]) if peer else None
            if self._loopback_only and (call.peer is None or not is_loopback(call.peer)):
                await stream.aclose()
                call.stopped = f"the connection went to {call.peer}, which is not the loopback; nothing was sent"
                call.stopped_by = "peer"
                raise family.ConnectError(call.stopped)

        async def aclose(self) -> None:
            await self._inner.aclose()

    return Transport


def _headers(request: Any, call: Call) -> list[tuple[str, str]]:
    """What goes over the wire: what is known of the SDK's, and the key."""
    headers = [(name, value) for name, value in request.headers.items() if name.lower() in _SENT]
    headers += [("accept-encoding", "identity"), ("user-agent", "adaptive-llm-gateway")]
    if call.key is not None:
        headers.append(("authorization", f"Bearer {call.key}") if call.auth == "bearer" else ("x-api-key", call.key))
    return headers


def _verify(address: Address) -> Any:
    """How certificates are checked: with the system's roots, which take a while to load, where there is TLS at all."""
    if address.scheme == "https":
        return True
    import ssl  # noqa: PLC0415

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody


def seconds_of(hint: str | None, *, milliseconds: str | None = None) -> float | None:
    """What `Retry-After` asks for in seconds, from a number or an HTTP date; `None` where it says nothing readable."""
    for text, scale in ((milliseconds, 1000.0), (hint, 1.0)):
        try:
            value = float(text) / scale if text is not None else math.nan
        except ValueError:
            continue
        if math.isfinite(value) and value >= 0:
            return value
    try:
        when = parsedate_to_datetime(hint or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.fromtimestamp(time.time(), UTC)).total_seconds())
