"""Where the hub listens by HTTP, with which certificate, behind which proxy; and where it does not."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificate_made import certificate
from http_stand import WAIT, Stand, Wire

from adaptive_llm_gateway.core import ConfigError, HttpSettings, StorageError
from adaptive_llm_gateway.server._http_tls import Certificate, check_exposure

Begin = Callable[..., Stand]
ANY = "0.0.0.0"  # noqa: S104 - what is to be refused


@pytest.fixture
def stand() -> Iterator[Begin]:
    begun: list[Stand] = []

    def begin(*, clients: bool = True, **options: Any) -> Stand:
        begun.append(Stand(**options))
        if clients:
            begun[-1].everything()
        return begun[-1].begin()

    yield begin
    for each in begun:
        each.close()


def over_tls(one: Stand, trusted: Path, *, version: ssl.TLSVersion | None = None) -> Wire:
    context = ssl.create_default_context(cafile=str(trusted))
    if version is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
    plain = socket.create_connection((one.host, one.port), timeout=WAIT)
    try:
        return Wire(context.wrap_socket(plain, server_hostname="localhost"))
    except BaseException:
        plain.close()
        raise


# --- May it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "addresses", "clients", "problem"),
    [
        ({}, ["127.0.0.1"], False, None),
        ({}, ["127.8.8.8", "::1"], False, None),
        ({"host": ANY}, [ANY], True, "in the clear"),
        ({"host": "::"}, ["::"], True, "in the clear"),
        ({"host": "hub.lan"}, ["127.0.0.1", "192.168.1.2"], True, "in the clear"),
        ({"host": "192.168.1.2", "tls_certificate": "/c", "tls_key": "/k"}, ["192.168.1.2"], False, "no client"),
        ({"host": "192.168.1.2", "tls_certificate": "/c", "tls_key": "/k"}, ["192.168.1.2"], True, None),
        ({"host": "192.168.1.2", "trusted_proxies": "10.0.0.1"}, ["192.168.1.2"], True, None),
        ({"host": "192.168.1.2", "trusted_proxies": "10.0.0.1"}, ["192.168.1.2"], False, "no client"),
        ({"tls_certificate": "/c"}, ["127.0.0.1"], True, "tls_key"),
        ({"tls_key": "/k"}, ["127.0.0.1"], True, "tls_certificate"),
    ],
)
def test_past_this_machine_it_listens_with_tls_or_a_named_proxy_and_for_clients_alone(
    settings: dict[str, Any], addresses: list[str], clients: bool, problem: str | None
) -> None:
    made = HttpSettings.model_validate(settings)
    if problem is None:
        check_exposure(made, addresses, clients=clients)
        return
    with pytest.raises(ConfigError, match=problem):
        check_exposure(made, addresses, clients=clients)


def test_a_hub_that_may_not_listen_says_why_and_goes_on_by_its_socket(server: Any) -> None:
    server.configure("http:\n  enabled: true\n  host: 0.0.0.0\n  port: 0\n")
    server.alg("hub", "start")
    found = server.wait_until(
        lambda: (now := server.json("hub", "status")["http"])["state"] != "starting" and now, what="HTTP"
    )
    assert found["state"] == "failed"
    assert "in the clear" in found["problem"]
    status = server.alg("hub", "status").stdout
    assert "in the clear" in status
    assert "to do: Set `http.tls_certificate` and `http.tls_key`" in status
    assert "in the clear" in server.alg("hub", "logs").stdout
    report = json.loads(server.alg("doctor", "--json", check=False).stdout)
    check = next(check for check in report["checks"] if check["name"] == "http")
    assert check["state"] == "fail"
    assert "http.tls_certificate" in check["hint"]
    assert server.client().write("It goes on")


def test_a_port_that_is_taken_and_an_address_of_another_machine_are_told(stand: Begin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(StorageError, match="cannot listen"):
        stand(port=taken.getsockname()[1])
    with pytest.raises(ConfigError, match="no address"):
        stand(host="no such host")


# --- TLS ----------------------------------------------------------------------------------------------------------


def test_with_a_certificate_it_speaks_tls_and_nothing_else(stand: Begin, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    one = stand(tls_certificate=str(chain), tls_key=str(key))
    assert one.server.url.startswith("https://")
    with over_tls(one, chain) as wire:
        wire.send(one.framed("GET /healthz HTTP/1.1"))
        assert wire.answer().status == 200
        wire.send(one.framed(f"GET /{'a' * 20_000} HTTP/1.1"))
        assert wire.answer().status == 414
        assert not wire.rest()
    with one.connect() as wire:
        wire.send(one.framed("GET /healthz HTTP/1.1"))
        assert b"HTTP/1.1 200" not in wire.rest()


def test_old_tls_is_refused(stand: Begin, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    one = stand(tls_certificate=str(chain), tls_key=str(key))
    with pytest.warns(DeprecationWarning, match="TLSv1"), pytest.raises(ssl.SSLError):
        over_tls(one, chain, version=ssl.TLSVersion.TLSv1_1)
    with over_tls(one, chain) as wire:
        wire.send(one.framed("GET /healthz HTTP/1.1"))
        assert wire.answer().status == 200


def test_a_handshake_that_does_not_come_is_not_waited_for(stand: Begin, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    one = stand(tls_certificate=str(chain), tls_key=str(key), header_seconds=0.2, max_connections=2)
    with one.connect() as silent, one.connect() as other:
        assert not silent.rest()
        assert not other.rest()
    with over_tls(one, chain) as wire:
        wire.send(one.framed("GET /healthz HTTP/1.1"))
        assert wire.answer().status == 200


def test_a_certificate_that_cannot_be_used_is_told_at_the_start(stand: Begin, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    _, other = certificate(tmp_path, "other")
    empty = tmp_path / "empty"
    empty.touch()
    for files in ((chain, other), (chain, tmp_path / "none"), (tmp_path / "none", key), (empty, key), (key, chain)):
        with pytest.raises(ConfigError, match="tls_certificate"):
            stand(tls_certificate=str(files[0]), tls_key=str(files[1]))


def test_a_new_certificate_is_taken_when_its_files_change(tmp_path: Path) -> None:
    files = certificate(tmp_path)
    looked = Certificate(*files)
    first = looked.context()
    assert looked.context() is first
    files[0].write_bytes(certificate(tmp_path, "half")[0].read_bytes())  # its key comes a moment later
    looked.look_again()
    assert looked.context() is first
    files[1].write_bytes((tmp_path / "half.key").read_bytes())
    looked.look_again()
    assert looked.context() is not first


def test_a_new_certificate_is_shown_to_who_connects_without_a_restart(stand: Begin, tmp_path: Path) -> None:
    files = certificate(tmp_path)
    other = certificate(tmp_path, "other")
    one = stand(tls_certificate=str(files[0]), tls_key=str(files[1]))

    def shown() -> str:
        return ssl.get_server_certificate((one.host, one.port), timeout=WAIT)

    with over_tls(one, files[0]) as wire:
        first = shown()
        for new, old in zip(other, files, strict=True):
            new.replace(old)
        deadline = time.monotonic() + WAIT
        while (now := shown()) == first:
            assert time.monotonic() < deadline, "the old certificate is shown still"
            threading.Event().wait(0.05)
        assert now == files[0].read_text(encoding="ascii")
        wire.send(one.framed("GET /healthz HTTP/1.1"))  # whoever is connected goes on
        assert wire.answer().status == 200


# --- Proxies ------------------------------------------------------------------------------------------------------


def test_without_tls_past_this_machine_none_but_the_proxy_connects(stand: Begin, other_address: str) -> None:
    one = stand(host=other_address, trusted_proxies="192.0.2.1")
    with one.connect() as wire:
        wire.send(one.framed("GET /healthz HTTP/1.1"))
        assert b" 200 " not in wire.rest()
    two = stand(host=other_address, trusted_proxies=other_address)
    assert two.ask("GET /healthz HTTP/1.1").status == 200
    assert two.ask("GET /healthz HTTP/1.1\nX-Forwarded-Proto: https").status == 200
    assert two.ask("GET /healthz HTTP/1.1\nX-Forwarded-Proto: http").status == 403
    assert two.ask("GET /healthz HTTP/1.1\nHost: 192.0.2.9").status == 421


def test_one_address_elsewhere_takes_not_all_places(stand: Begin, other_address: str, tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    one = stand(
        host=other_address,
        tls_certificate=str(chain),
        tls_key=str(key),
        max_connections_per_address=2,
        header_seconds=600,
    )
    with one.connect(), one.connect(), one.connect() as third:
        assert not third.rest()
