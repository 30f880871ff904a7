"""Where a destination is: proved from its addresses, never from its name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.gateway import Locality, address_of, class_of, locality_of
from adaptive_llm_gateway.gateway._locality import is_remote_model

if TYPE_CHECKING:
    from conftest import Peers


def locality(url: str, *addresses: str) -> Locality:
    async def resolve(host: str, port: int) -> tuple[str, ...]:
        return addresses

    return asyncio.run(locality_of(address_of(url), resolve=resolve))


def test_a_name_is_local_only_if_all_its_addresses_are() -> None:
    assert locality("http://models.test/v1", "127.0.0.1", "::1").local
    mixed = locality("http://localhost/v1", "127.0.0.1", "192.0.2.7")
    assert not mixed.local
    assert "192.0.2.7" in mixed.why
    assert not locality("http://localhost/v1").local


def test_what_does_not_resolve_is_not_local() -> None:
    async def resolve(host: str, port: int) -> tuple[str, ...]:
        raise OSError("no")

    found = asyncio.run(locality_of(address_of("http://nowhere.test/v1"), resolve=resolve))
    assert not found.local
    assert "does not resolve" in found.why


def test_a_name_that_takes_too_long_to_resolve_is_not_local() -> None:
    async def resolve(host: str, port: int) -> tuple[str, ...]:
        await asyncio.Event().wait()
        return ("127.0.0.1",)

    assert not asyncio.run(locality_of(address_of("http://slow.test/v1"), resolve=resolve, timeout=0.05)).local


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_the_systems_own_resolution_proves_the_loopback(host: str) -> None:
    found = asyncio.run(locality_of(address_of(f"http://{host}:11434/v1")))
    assert found.local
    assert found.addresses == (host.strip("[]"),)


def test_a_unix_socket_is_local_and_a_file_in_its_place_is_not(peers: Peers, tmp_path: Path) -> None:
    peers.on_socket(tmp_path / "s")
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert asyncio.run(locality_of(address_of(f"unix://{tmp_path}/s:/v1"))).local
    assert not asyncio.run(locality_of(address_of(f"unix://{tmp_path}/file:/v1"))).local
    assert not asyncio.run(locality_of(address_of(f"unix://{tmp_path}/none:/v1"))).local


@pytest.mark.parametrize(
    ("name", "entry", "remote"),
    [
        ("llama3.2:latest", {}, False),
        ("gpt-oss:120b-cloud", {}, True),
        ("glm-4.6:cloud", {}, True),
        ("gpt-oss:120B-CLOUD", {}, True),
        ("mine", {"remote_host": "https://ollama.com:443"}, True),
        ("mine", {"remote_model": "gpt-oss:120b"}, True),
        ("mine", {"remote_host": ""}, False),
        ("cloudy:7b", {}, False),
    ],
)
def test_a_model_that_runs_elsewhere_is_remote_though_its_server_is_here(
    name: str, entry: dict[str, Any], remote: bool
) -> None:
    assert is_remote_model(name, entry) is remote


def test_local_is_what_is_local_in_both_its_server_and_its_model() -> None:
    here, there = Locality(True, ""), Locality(False, "")
    assert class_of(here) == "local"
    assert class_of(here, remote_model=True) == "hosted"
    assert class_of(there) == "hosted"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "host:11434",
        "http://",
        "http://host:99999/v1",
        "http://user:canary-secret@host/v1",
        "http://host/v1?key=canary-secret",
        "http://ho st/v1",
        "http://host/\x00",
        "unix:relative",
        "",
    ],
)
def test_a_bad_address_is_refused_without_showing_what_may_be_a_key(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        address_of(url, key="providers.x.url")
    assert "providers.x.url" in caught.value.message
    assert "canary-secret" not in caught.value.message


def test_an_address_keeps_its_parts() -> None:
    address = address_of("http://[::1]:8080/v1/")
    assert (address.host, address.port, address.url, address.root) == (
        "::1",
        8080,
        "http://[::1]:8080/v1",
        "http://[::1]:8080",
    )
    assert address_of("unix:///run/models.sock:/v1").socket == "/run/models.sock"
    assert address_of("https://models.example").port == 443
