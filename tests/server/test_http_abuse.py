"""What is meant to break, fool or fill the hub's HTTP server, over real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from http_stand import Stand, Wire

Begin = Callable[..., "Stand"]
SOON = 0.2


def still_serves(stand: Stand) -> None:
    assert stand.ask("GET /healthz HTTP/1.1").status == 200


# --- Whom it is for, and whence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8377",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example.",
        "127.1",
        "0x7f000001",
        "2130706433",
        "[::1%25eth0]",
        "[::1",
        "::1",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:80:80",
        "localhost@evil.example",
        "user@localhost",
        "localhost/",
        "localhost, evil.example",
        "xn--lcalhost-0za",
        "",
    ],
)
def test_a_name_that_somebody_has_point_here_is_refused(stand: Begin, host: str) -> None:
    one = stand()
    token = one.everything()
    given = one.ask(f"GET /mcp HTTP/1.1\nHost: {host}\nAuthorization: Bearer {token}")
    assert (given.status, given.body) == (421, b"")
    assert not one.asked


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1:1", "[::1]:8377", "[0:0:0:0:0:0:0:1]", "Hub.Lan:443"]
)
def test_names_of_this_machine_are_taken_however_they_are_written(stand: Begin, host: str) -> None:
    one = stand(allowed_hosts=["hub.lan"])
    assert one.ask(f"GET /healthz HTTP/1.1\nHost: {host}").status == 200


def test_no_host_and_two_hosts_are_refused(stand: Begin) -> None:
    one = stand()
    with one.connect() as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert wire.answer().status == 400
    with one.connect() as wire:
        wire.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert wire.answer().status == 400
    assert one.ask("GET /healthz HTTP/1.1\nHost: localhost\nHost: localhost").status == 400


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost", "https://tools.example.org.evil.example", "file://", ""],
)
def test_a_page_of_another_origin_gets_nothing(stand: Begin, origin: str) -> None:
    one = stand(allowed_origins=["https://tools.example.org"])
    token = one.everything()
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        given = one.ask(f"{method} /mcp HTTP/1.1\nOrigin: {origin}\nAuthorization: Bearer {token}")
        assert (given.status, given.body) == (403, b"")
        assert not [name for name in given.headers if name.startswith("access-control")]
    assert not one.asked
    assert one.ask("GET /healthz HTTP/1.1\nSec-Fetch-Site: cross-site").status == 403


def test_a_page_of_an_allowed_origin_may_ask_as_its_browser_does(stand: Begin) -> None:
    one = stand(allowed_origins=["https://Tools.example.org:443"])
    origin = "https://tools.example.org"
    given = one.ask(
        f"OPTIONS /mcp HTTP/1.1\nOrigin: {origin}\nAccess-Control-Request-Method: POST\n"
        "Access-Control-Request-Headers: authorization, content-type, mcp-session-id\n"
        "Access-Control-Request-Private-Network: true"
    )
    assert given.status == 204
    assert given.headers["access-control-allow-origin"] == origin
    assert given.headers["access-control-allow-methods"] == "DELETE, GET, POST"
    assert given.headers["access-control-allow-headers"] == "authorization, content-type, mcp-session-id"
    assert given.headers["access-control-allow-private-network"] == "true"
    assert given.headers["vary"] == "origin"
    given = one.ask(f"POST /mcp HTTP/1.1\nOrigin: {origin}")
    assert given.status == 401
    assert given.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in given.headers
    assert one.ask(f"GET /healthz HTTP/1.1\nOrigin: {origin}\nOrigin: {origin}").status == 400


@pytest.mark.parametrize(
    "path",
    [
        "//mcp",
        "/mcp/",
        "/mcp/../mcp",
        "/./mcp",
        "/x/..%2fmcp",
        "/%2e/mcp",
        "/mcp%00",
        "/mcp%2f",
        "/%6dcp",
        "/mcp;x=1",
        "/mcp\\",
        "/mcp%5c",
        "/mcp%",
        "/mcp%zz",
        "/mcp%ff",
        "/mcp%0d%0aX:1",
        "/MCP",
        "/mcp%c0%af",
        "/mcp%e2%80%ae",
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_not_found(stand: Begin, path: str) -> None:
    one = stand()
    token = one.everything()
    given = one.ask(f"POST {path} HTTP/1.1\nAuthorization: Bearer {token}")
    assert (given.status, given.body) == (404, b"")
    assert not one.asked


@pytest.mark.parametrize(
    "line",
    [
        "GET http://127.0.0.1/healthz HTTP/1.1",
        "GET mcp HTTP/1.1",
        "GET /healthz#x HTTP/1.1",
        "GET /healthz HTTP/3.1",
        "GET /health z HTTP/1.1",
        "GET /h\xe9 HTTP/1.1",
        "CONNECT 127.0.0.1:22 HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "NONSENSE /healthz HTTP/1.1",
        "GET /healthz",
        "\x16\x03\x01",
    ],
)
def test_a_request_line_that_is_none_of_ours_is_refused(stand: Begin, line: str) -> None:
    one = stand()
    given = one.ask(line)
    assert (given.status, given.body) == (400, b"")
    assert given.headers["connection"] == "close"
    still_serves(one)


# --- Headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("X: " + "a" * 40_000, 431),
        ("\n".join(f"X-{number}: 1" for number in range(200)), 431),
        ("X" * 40_000 + ": 1", 431),
        ("Content-Length: 3\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\nContent-Length: 3", 400),
        ("Content-Length: 3\nContent-Length: 3", 400),
        ("Content-Length: 3\nContent-Length: 4", 400),
        ("Content-Length: +3", 400),
        ("Content-Length: 3, 3", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: 0x3", 400),
        ("Transfer-Encoding: chunked\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: gzip, chunked", 400),
        ("Transfer-Encoding: xchunked", 400),
        ("Transfer-Encoding: chunked, identity", 400),
        ("Transfer-Encoding : chunked", 400),
        ("Content-Length : 3", 400),
        ("X: 1\n folded", 400),
        ("X: \x00", 400),
        ("X: a\rb", 400),
        ("X\x01: a", 400),
        (": empty", 400),
        ("No colon", 400),
    ],
)
def test_headers_that_two_parsers_could_read_in_two_ways_are_refused(stand: Begin, headers: str, status: int) -> None:
    one = stand()
    token = one.everything()
    given = one.ask(f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\n{headers}", b"{}\n")
    assert (given.status, given.body) == (status, b"")
    assert not one.asked
    still_serves(one)


def test_a_target_that_is_too_long_is_refused(stand: Begin) -> None:
    assert stand().ask(f"GET /{'a' * 20_000} HTTP/1.1").status == 414


def test_headers_without_end_are_refused_before_they_are_kept(stand: Begin) -> None:
    one = stand()
    with one.connect() as wire:
        wire.send(b"GET /healthz HTTP/1.1\r\nX: ")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 10_000_000:
                wire.send(b"a" * 10_000)
                sent += 10_000
        assert sent < 10_000_000
    still_serves(one)


def test_a_trailer_is_no_header(stand: Begin) -> None:
    one = stand()
    token = one.everything()
    body = b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\nHost: evil.example\r\n\r\n"
    with one.connect() as wire:
        wire.send(one.framed(f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\nTransfer-Encoding: chunked", body))
        assert wire.answer().status in (400, 401)
        assert not wire.rest()


@pytest.mark.parametrize("token", ["x\r\nX-Injected: 1", "x\nSet-Cookie: a=b", "x\x00y", "\xff\xfe", "a" * 30_000])
def test_nothing_of_a_header_comes_back_in_an_answer(stand: Begin, token: str) -> None:
    one = stand()
    with one.connect() as wire:
        wire.send(
            b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\nMcp-Session-Id: "
            + token.encode("latin-1")
            + b"\r\nAuthorization: Bearer "
            + token.encode("latin-1")
            + b"\r\n\r\n"
        )
        status, headers = wire.head()
        assert status in (400, 401, 431)
        assert set(headers) <= {
            "cache-control", "connection", "content-length", "date",
            "www-authenticate", "x-content-type-options", "x-request-id",
        }  # fmt: skip
        assert not [value for value in headers.values() if "Injected" in value or "a=b" in value]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Sec-WebSocket-Key: *", 400),
        ("Sec-WebSocket-Version: *", 400),
        ("Sec-WebSocket-Protocol: alg.token.*@", 400),
        ("X-Long: " + "*" * 700, 431),
    ],
)
def test_nothing_of_a_handshake_comes_back_and_one_that_cannot_be_ends_the_connection(
    stand: Begin, header: str, status: int
) -> None:
    one = stand()
    word = "nothing0of1it"
    said = {"upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    name, _, value = header.partition(": ")
    said[name.lower()] = value.replace("*", word)
    lines = [f"{each}: {text}" for each, text in said.items()]
    with one.connect() as wire:
        wire.send(one.framed("\n".join(["GET /api/v1/events/ws HTTP/1.1", "Connection: Upgrade", *lines])))
        given = wire.rest()
    assert given.startswith(b"HTTP/1.1 %d" % status)
    assert word.encode() not in given
    assert not given.partition(b"\r\n\r\n")[2]


def test_a_handshake_with_a_target_that_is_too_long_for_one_ends_the_connection(stand: Begin) -> None:
    one = stand()
    said = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13"
    with one.connect() as wire:
        wire.send(one.framed(f"GET /api/v1/events/ws?{'x' * 8165} HTTP/1.1\n{said}"))
        assert wire.rest().startswith(b"HTTP/1.1 4")


# --- Bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_long_is_refused_before_it_comes(stand: Begin) -> None:
    one = stand(max_body_bytes=2048)
    token = one.everything()
    for length in ("2049", "9" * 18, "9" * 30):
        given = one.ask(f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\nContent-Length: {length}")
        assert given.status == (413 if len(length) < 20 else 400)
        assert given.headers["connection"] == "close"
    assert not one.asked


def endless(wire: Wire, piece: bytes, most: int) -> int:
    """How much could be sent before the other end had enough."""
    sent = 0
    with contextlib.suppress(OSError):
        while sent < most:
            wire.send(piece)
            sent += len(piece)
    return sent


def test_a_body_without_end_is_cut_off(stand: Begin) -> None:
    one = stand(max_body_bytes=100_000)
    token = one.everything()
    piece = b"3e8\r\n" + b" " * 1000 + b"\r\n"
    with one.connect() as wire:
        wire.send(one.framed(f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\nTransfer-Encoding: chunked"))
        assert endless(wire, piece, 30_000_000) < 30_000_000
    with one.connect() as wire:
        wire.send(one.framed(f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\nTransfer-Encoding: chunked"))
        wire.send(piece * 101)
        assert wire.answer().status == 413
        assert not wire.rest()
    still_serves(one)


def test_whoever_is_not_let_in_is_told_so_before_the_body_comes(stand: Begin) -> None:
    one = stand()
    with one.connect() as wire:
        wire.send(one.framed("POST /mcp HTTP/1.1\nContent-Length: 1000000\nExpect: 100-continue"))
        given = wire.answer()
        assert given.status == 401  # and no `100 Continue` before it


def test_a_body_that_is_not_what_its_length_says_does_not_become_a_request(stand: Begin) -> None:
    one = stand()
    token = one.everything()
    smuggled = one.framed(f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\nContent-Length: 0")
    with one.connect() as wire:
        wire.send(one.framed("POST /mcp HTTP/1.1\nTransfer-Encoding: chunked", b"0\r\n\r\n" + b"X" + smuggled))
        assert wire.answer().status == 401
        given = wire.rest()
        assert b" 400 " in given.split(b"\r\n")[0] or not given
    assert not one.asked


# --- Time -------------------------------------------------------------------------------------------------------------


def test_headers_that_come_too_slowly_are_not_waited_for(stand: Begin) -> None:
    one = stand(header_seconds=SOON)
    with one.connect() as silent, one.connect() as begun, one.connect() as empty, one.connect() as second:
        begun.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        empty.send(b"\r\n")
        second.send(one.framed("GET /healthz HTTP/1.1") + b"GET /hea")
        assert begun.answer().status == 408
        assert not begun.rest()
        assert not silent.rest()
        assert not empty.rest()
        assert second.answer().status == 200
        assert b" 408 " in second.rest()
    still_serves(one)


def test_a_client_that_drips_gains_no_time_with_each_byte(stand: Begin) -> None:
    one = stand(header_seconds=SOON)
    with one.connect() as wire:
        wire.sock.settimeout(SOON / 20)
        drops = 0
        given = b""
        with contextlib.suppress(OSError):
            wire.send(b"GET /healthz HTTP/1.1\r\n")
            while not given and drops < 2000:
                wire.send(b"X")
                drops += 1
                with contextlib.suppress(TimeoutError):
                    given = wire.sock.recv(4096)
        assert drops < 2000
        assert not given or b" 408 " in given


def test_a_body_that_comes_too_slowly_is_not_waited_for(stand: Begin) -> None:
    one = stand(body_seconds=SOON)
    token = one.everything()
    with one.connect() as wire:
        wire.send(one.framed(f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\nContent-Length: 100", b"{"))
        assert wire.answer().status == 408
        assert not wire.rest()
    with one.connect() as wire:
        wire.send(one.framed("POST /mcp HTTP/1.1\nContent-Length: 100", b"{"))
        assert wire.answer().status == 401
        assert not wire.rest()
    still_serves(one)


def test_a_connection_that_is_silent_between_requests_is_closed(stand: Begin) -> None:
    one = stand(idle_seconds=SOON)
    with one.connect() as wire:
        wire.send(one.framed("GET /healthz HTTP/1.1"))
        assert wire.answer().status == 200
        assert not wire.rest()


def test_a_client_that_does_not_read_is_cut_off(stand: Begin) -> None:
    one = stand(write_seconds=SOON)
    token = one.everything()
    asked: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": asked}}).encode()
    head = (
        f"POST /mcp HTTP/1.1\nAuthorization: Bearer {token}\nContent-Type: application/json\n"
        "Accept: application/json, text/event-stream\nMCP-Protocol-Version: 2026-07-28\nMcp-Method: tools/list"
    )
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.settimeout(30)
    small.connect((one.host, one.port))
    request = one.framed(head, body)
    with small, contextlib.suppress(OSError):
        for _ in range(20_000):  # it is never read what they answer
            small.sendall(request)
        raise AssertionError("it was served on and on")
    still_serves(one)


# --- How many ---------------------------------------------------------------------------------------------------------


def test_more_connections_than_allowed_are_turned_away_and_come_back(stand: Begin) -> None:
    one = stand(max_connections=3)
    with contextlib.ExitStack() as opened:
        wires = [opened.enter_context(one.connect()) for _ in range(3)]
        for wire in wires:
            wire.send(one.framed("GET /healthz HTTP/1.1"))
            assert wire.answer().status == 200
        with one.connect() as more:
            assert more.head()[0] == 503
    for _ in range(500):
        with one.connect() as wire:
            wire.send(one.framed("GET /healthz HTTP/1.1"))
            if wire.head()[0] == 200:
                break
    else:
        raise AssertionError("the places were not free again")


def test_requests_sent_at_once_are_answered_in_order_up_to_a_number(stand: Begin) -> None:
    one = stand()
    with one.connect() as wire:
        wire.send(one.framed("GET /healthz HTTP/1.1") * 5 + one.framed("GET /nothing HTTP/1.1"))
        assert [wire.answer().status for _ in range(6)] == [200] * 5 + [404]
    with one.connect() as wire:
        wire.send(one.framed("GET /healthz HTTP/1.1") * 1000)
        assert wire.rest().count(b"HTTP/1.1 200") <= 17
    still_serves(one)


def test_wrong_tokens_leave_nothing_behind(stand: Begin) -> None:
    one = stand()
    with one.connect() as wire:
        for number in range(10_000):
            wire.send(one.framed(f"POST /mcp HTTP/1.1\nAuthorization: Bearer {number}\nContent-Length: 0"))
            given = wire.answer()
            assert (given.status, given.body) == (401, b"")
    assert not one.asked


def test_other_protocols_are_not_spoken(stand: Begin) -> None:
    one = stand()
    with one.connect() as wire:
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert wire.answer().status == 400
    given = one.ask(
        "GET /healthz HTTP/1.1\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk"
    )
    assert (given.status, given.headers["connection"]) == (200, "close")
    given = one.ask(
        "GET /healthz HTTP/1.1\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    )
    assert given.status == 405
    still_serves(one)
