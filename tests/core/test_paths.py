"""Where things lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import HOME_VARIABLE, Home, home_root, socket_address


def test_the_home_is_the_named_one_then_the_environments_then_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    user = os.environ["HOME"]
    monkeypatch.setenv(HOME_VARIABLE, "/from/environment")
    assert home_root("/named") == "/named"
    assert home_root() == "/from/environment"
    monkeypatch.setenv(HOME_VARIABLE, "")
    assert home_root() == f"{user}/.adaptive-llm-gateway"
    monkeypatch.delenv(HOME_VARIABLE)
    assert home_root() == f"{user}/.adaptive-llm-gateway"


def test_a_home_is_absolute_and_its_tilde_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_root("sub/../here") == str(tmp_path / "here")
    assert home_root("~/there") == os.environ["HOME"] + "/there"
    monkeypatch.setenv(HOME_VARIABLE, "~/elsewhere")
    assert home_root() == os.environ["HOME"] + "/elsewhere"
    assert home_root(Path("~/p")) == os.environ["HOME"] + "/p"


def test_everything_lies_in_the_home_and_nothing_is_made(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    places = [home.config, home.memory, home.index, home.hub_log, home.hub_lock, home.start_lock, home.socket]
    assert all(place.is_relative_to(home.root) for place in places)
    assert len(set(places)) == len(places)
    assert not home.root.exists()
    assert repr(home) == f"Home({str(home.root)!r})"


@pytest.mark.parametrize("deep", ["x" * 120, "ü" * 60, "/".join(["folder"] * 30)])
def test_a_socket_address_is_never_longer_than_a_socket_may_have(deep: str) -> None:
    root = f"/home/somebody/{deep}"
    address = socket_address(root)
    assert len(os.fsencode(address)) <= 103
    assert not address.startswith(root)
    assert address == socket_address(root)
    assert address != socket_address(root + "2")
    assert str(os.getuid()) in address


def test_a_short_home_has_its_socket_inside() -> None:
    assert socket_address("/home/a/.alg") == "/home/a/.alg/hub.sock"
    just = "/" + "h" * (100 - len("//hub.sock"))
    assert socket_address(just) == f"{just}/hub.sock"
    assert not socket_address(just + "h").startswith(just)


def test_a_home_whose_name_is_not_unicode_works() -> None:
    root = os.fsdecode(b"/home/\xff" + b"x" * 120)
    assert len(os.fsencode(socket_address(root))) <= 103
