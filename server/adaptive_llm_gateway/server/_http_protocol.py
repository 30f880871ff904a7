"""One connection by HTTP/1.1: what a client may send, how much of it, and how long it may take.

Requests are parsed by httptools and answered by uvicorn's cycle of request and response; here is what neither of them
does: deadlines for headers, bodies and readers, limits, and the refusal of whatever two parsers could read in two ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from adaptive_llm_gateway.core import HttpSettings

MOST_HEADERS: Final = 100
HEADER_BYTES: Final = 32 * 1024
URL_BYTES: Final = 8 * 1024
MOST_PIPELINED: Final = 16
_LINGER_SECONDS = 2.0  # a client that still sends would lose the refusal with a connection that is closed at once
_CORKED_BYTES = 64 * 1024
_LINGER_BYTES = 1024 * 1024

Release = Callable[[], None]


class Refused(Exception):
    """A request that is answered with this status at once, and its connection closed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Limits:
    """How much, and how many seconds."""

    body_bytes: int
    header_seconds: float
    body_seconds: float
    write_seconds: float

    @classmethod
    def of(cls, settings: HttpSettings) -> Limits:
        """As configured."""
        return cls(settings.max_body_bytes, settings.header_seconds, settings.body_seconds, settings.write_seconds)


class Corked:
    """A transport that sends together what is written in one turn of the loop: a head and its body are one packet."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.get_extra_info = transport.get_extra_info
        self.can_write_eof = transport.can_write_eof
        self.abort = transport.abort

    def write(self, data: bytes) -> None:
        """Have it sent."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size > _CORKED_BYTES:
            self._flush()

    def write_eof(self) -> None:
        """Send what there is, and no more."""
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Send what there is, and close."""
        self._flush()
        self._transport.close()

    def uncorked(self) -> Any:
        """What it stands before, with nothing kept back."""
        self._flush()
        return self._transport

    def _flush(self) -> None:
        if not self._parts:
            return
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if not self._transport.is_closing():
            self._transport.write(data)


class _Patience:
    """Ends what takes too long, unless that ends by itself: a connection of either kind whose client does not read.

    Args:
        seconds: how long it may take.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, abort: Callable[[], None]) -> None:
        """From now on."""
        self._timer = loop.call_later(self._seconds, abort)

    def end(self) -> None:
        """It is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _UntilClosed(RequestResponseCycle):
    """A request by HTTP/1.0 and its answer: where that has no length it goes on until the connection is closed, for
    such a client knows no chunks (RFC 9112, section 6.1).
    """

    _endless = False

    async def send(self, message: Any) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self._endless = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
            if self._endless:
                self.chunked_encoding = False
        elif self._endless:
            self.expected_content_length = len(message.get("body", b"")) + bool(message.get("more_body"))
        await super().send(message)


class Connection(HttpToolsProtocol):
    """A client's connection.

    Args:
        release: called once, when the connection is gone.
    """

    parser: httptools.HttpRequestParser

    def __init__(self, config: Config, state: ServerState, *, limits: Limits, release: Release) -> None:
        super().__init__(config, state, {})
        self.access_log = False
        self._limits = limits
        self._release = release
        self._in_headers = False
        self._in_body = False
        self._fed = 0  # bytes since the headers began
        self._headers_bytes = 0
        self._body_bytes = 0
        self._deaf = False  # what still comes is not looked at
        self._discarded = 0
        self._running: RequestResponseCycle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_of_body = False
        self._writing = _Patience(limits.write_seconds)
        self._ending: asyncio.TimerHandle | None = None

    # -- the connection ----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It waits for headers."""
        super().connection_made(Corked(transport, self.loop))  # pyright: ignore[reportArgumentType]
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._unset_keepalive_if_required()
        self._writing.end()
        for timer in (self._deadline, self._ending):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._release()

    def data_received(self, data: bytes) -> None:
        """More of a request, or of several."""
        if self._deaf:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self._fed += len(data)
        try:
            self.parser.feed_data(data)
            if self._in_headers and self._fed > HEADER_BYTES + URL_BYTES:
                raise Refused(431)
        except Refused as refused:
            self._refuse(refused.status)
        except httptools.HttpParserUpgrade:
            if self._is_websocket():
                self.handle_websocket_upgrade()
            else:
                self._deaf = True
        except httptools.HttpParserError as error:
            told = error.__context__
            self._refuse(told.status if isinstance(told, Refused) else 400)
        else:
            self._watch()

    def _watch(self) -> None:
        """Have a deadline for what the client is to send next: none while it waits for us."""
        due = self._in_body or self._in_headers or not self._is_answering()
        if self._deadline is not None and (not due or self._deadline_of_body != self._in_body):
            self._deadline.cancel()
            self._deadline = None
        if due and self._deadline is None and self.timeout_keep_alive_task is None:
            self._deadline_of_body = self._in_body
            seconds = self._limits.body_seconds if self._in_body else self._limits.header_seconds
            self._deadline = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        self._deadline = None
        if self._in_body or self._in_headers:
            self._refuse(408)
        else:  # it said nothing at all
            self._close()

    def _is_answering(self) -> bool:
        return self._running is not None and not self._running.response_complete

    # -- what was parsed ---------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_headers = True
        self._headers_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of its target."""
        if len(self.url) + len(url) > URL_BYTES:
            raise Refused(414)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which nobody here reads, and which would come after the headers were looked at."""
        if not self._in_headers:
            raise Refused(400)
        self._headers_bytes += len(name) + len(value)
        if len(self.headers) >= MOST_HEADERS or self._headers_bytes > HEADER_BYTES:
            raise Refused(431)
        super().on_header(name, value.strip(b" \t"))  # white space around it is no part of it (RFC 9110, section 5.5)

    def on_headers_complete(self) -> None:
        """All headers are there: the request begins to be answered, unless it is refused."""
        self._in_headers = False
        self._fed = self._body_bytes = 0
        if len(self.pipeline) >= MOST_PIPELINED:
            raise Refused(429)
        self._check_headers()
        websocket = self._is_websocket()
        if websocket and (self._is_answering() or self.parser.get_method() != b"GET"):
            raise Refused(400)
        older = self.parser.get_http_version() == "1.0"
        if older:
            self.expect_100_continue = False  # such a client knows no answer before the answer
        super().on_headers_complete()
        if older and not websocket:
            self.cycle.__class__ = _UntilClosed
        self._in_body = True
        if self.parser.should_upgrade() and not websocket:
            self.cycle.keep_alive = False  # it is answered as if it had not asked for another protocol

    def _check_headers(self) -> None:
        hosts = lengths = encodings = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                lengths += 1
                if not value.isdigit():
                    raise Refused(400)
                if len(value) > 18 or int(value) > self._limits.body_bytes:
                    raise Refused(413)
            elif name == b"transfer-encoding":
                encodings += 1
                if value.lower() != b"chunked":
                    raise Refused(400)
        # What follows the headers must be told in one way, and so must be for whom the request is.
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise Refused(400)
        if hosts != 1 or lengths + encodings > 1 or not self.url.startswith(b"/") or b"#" in self.url:
            raise Refused(400)

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            raise Refused(413)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request is there."""
        self._in_body = False
        super().on_message_complete()

    def _is_websocket(self) -> bool:
        return self.parser.should_upgrade() and self._should_upgrade()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """All of an answer was written, though maybe not read yet."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_end()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self.connections.discard(self)
        protocol = WebSocket(self.config, self.server_state, limits=self._limits, release=self._release)
        transport = self.transport.uncorked()  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue, reportUnknownVariableType]
        protocol.connection_made(transport)  # pyright: ignore[reportUnknownArgumentType]
        head = [b"GET ", self.url, b" HTTP/1.1\r\n", *(b"%s: %s\r\n" % each for each in self.headers), b"\r\n"]
        transport.set_protocol(protocol)  # pyright: ignore[reportUnknownMemberType]
        protocol.data_received(b"".join(head))
        if not protocol.handshake_initiated:
            # It takes shorter lines than we do, and uvicorn would neither send its refusal nor look at it again.
            transport.write(b"".join(protocol.conn.data_to_send()))  # pyright: ignore[reportUnknownMemberType]
            transport.close()  # pyright: ignore[reportUnknownMemberType]

    # -- ends --------------------------------------------------------------------------------------------------

    def _refuse(self, status: int) -> None:
        """Answer so, if an answer can be told from one that is under way, and close."""
        self._deaf = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        running = self._running if self._is_answering() else None
        if running is not None and (running is not self.cycle or not self._in_body):
            # An earlier request is being answered; the connection ends with that.
            self.pipeline.clear()
            running.keep_alive = False
            return
        if running is not None:
            running.disconnected = True
            running.message_event.set()
            if running.response_started:
                self._close()
                return
        elif self._in_body:  # it was answered long since
            self._close()
            return
        phrase = http.HTTPStatus(status).phrase
        self.transport.write(
            f"HTTP/1.1 {status} {phrase}\r\ncontent-length: 0\r\nconnection: close\r\ncache-control: no-store\r\n"
            "x-content-type-options: nosniff\r\n\r\n".encode("ascii")
        )
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError):
                self.transport.write_eof()
            self._ending = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)
        else:
            self._close()

    def _close(self) -> None:
        self.transport.close()
        self._expect_end()

    def _expect_end(self) -> None:
        """A client that does not read what is left for it does not keep the connection."""
        if self._ending is None:
            self._ending = self.loop.call_later(self._limits.write_seconds, self.transport.abort)

    def shutdown(self) -> None:
        """End as soon as what is being answered is."""
        super().shutdown()
        if self.transport.is_closing():
            self._expect_end()

    def timeout_keep_alive_handler(self) -> None:
        """It was silent for too long."""
        self._close()

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        super().pause_writing()
        self._writing.begin(self.loop, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read on."""
        super().resume_writing()
        self._writing.end()


class WebSocket(WebSocketsSansIOProtocol):
    """A connection that became a WebSocket."""

    def __init__(self, config: Config, state: ServerState, *, limits: Limits, release: Release) -> None:
        super().__init__(config, state, {})
        self._release = release
        self._writing = _Patience(limits.write_seconds)
        reject = self.conn.reject
        # What the library says of a handshake that is none quotes its headers, also to whoever has no token.
        self.conn.reject = lambda status, text: reject(status, "")  # noqa: ARG005 - by the names that it has

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._writing.end()
        super().connection_lost(exc)
        self._release()

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        super().pause_writing()
        self._writing.begin(self.loop, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read on."""
        super().resume_writing()
        self._writing.end()
