"""What requests say of where they go and whence they come: the pure part, by tables and by hostile texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.server._http_hosts import (
    Hosts,
    forwarded,
    host_and_port,
    is_plain_path,
    networks,
    origin_of,
)

PROXIES = networks(["10.0.0.0/8", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("localhost", ("localhost", None)),
        ("LocalHost.:80", ("localhost", 80)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]", ("::1", None)),
        ("[::ffff:127.0.0.1]:65535", ("127.0.0.1", 65535)),
        ("a_b.example", ("a_b.example", None)),
        ("[127.0.0.1]", None),
        ("a..b", None),
        (".", None),
        ("-a.example", None),
        ("a b", None),
        ("localhost:+1", None),
        ("localhost:\u0661", None),
        ("\u212aelvin.example", None),
        ("a" * 254, None),
    ],
)
def test_a_host_has_one_form(value: str, found: tuple[str, int | None] | None) -> None:
    assert host_and_port(value) == found


@given(st.text(max_size=40))
def test_no_text_is_taken_for_this_machine_that_does_not_name_it(text: str) -> None:
    if Hosts.of("127.0.0.1", ()).has(text, "127.0.0.1"):
        host = text.rpartition(":")[0] if text.rpartition(":")[2].isdigit() and not text.endswith("]") else text
        bare = host.strip("[]").lower().removesuffix(".")
        assert bare == "localhost" or bare.startswith("127.0.0.1") or ":" in bare


def test_the_address_that_a_connection_came_to_names_the_hub_and_another_does_not() -> None:
    hosts = Hosts.of("0.0.0.0", ["hub.lan", "fd00::1"])  # noqa: S104 - as in a container
    assert hosts.has("192.168.1.2:8377", "192.168.1.2")
    assert not hosts.has("192.168.1.3:8377", "192.168.1.2")
    assert hosts.has("hub.lan", "192.168.1.2")
    assert hosts.has("[fd00::1]:1", None)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("https://Tools.Example.org:443", "https://tools.example.org"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:6274", "http://[::1]:6274"),
        ("https://tools.example.org:80", "https://tools.example.org:80"),
        ("null", None),
        ("https://", None),
        ("ftp://tools.example.org", None),
        ("https://tools.example.org/", None),
        ("https://user@tools.example.org", None),
        ("chrome-extension://abc", None),
    ],
)
def test_an_origin_has_one_form(value: str, found: str | None) -> None:
    assert origin_of(value) == found


@pytest.mark.parametrize("path", [b"/", b"/mcp", b"/api/v1/memories/a%20b", b"/x/%c3%a9", b"/a.b/..c", b"/x/%5B1%5D"])
def test_a_path_that_can_be_read_in_one_way_is_plain(path: bytes) -> None:
    assert is_plain_path(path)


@given(st.binary(max_size=30))
def test_a_plain_path_stays_what_it_is_however_often_it_is_decoded(tail: bytes) -> None:
    from posixpath import normpath
    from urllib.parse import unquote

    path = b"/" + tail
    if is_plain_path(path):
        once = unquote(path.decode("ascii"))
        assert unquote(once) == once
        assert normpath(once) == once.rstrip("/") or once == "/"
        assert not {"\\", ";", "\0", "\r", "\n"} & set(once)


@pytest.mark.parametrize(
    ("peer", "sent", "found"),
    [
        ("192.0.2.1", "203.0.113.9", "192.0.2.1"),  # nobody we know says so
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # what the client wrote itself is before that
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "127.0.0.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("2001:db8::1", "2001:0DB9::0001", "2001:db9::1"),
    ],
)
def test_a_proxy_is_believed_and_of_what_it_passes_on_the_last_word(peer: str, sent: str, found: str) -> None:
    assert forwarded(peer, [(b"x-forwarded-for", sent.encode())], PROXIES) == (found, None)


def test_how_a_request_came_to_the_proxy_is_what_the_last_one_says() -> None:
    headers = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-proto", b"https, http")]
    assert forwarded("10.0.0.1", headers, PROXIES) == ("10.0.0.1", "http")
    assert forwarded("192.0.2.1", headers, PROXIES) == ("192.0.2.1", None)
    assert forwarded("10.0.0.1", headers[:1], PROXIES) == ("10.0.0.1", "https")
