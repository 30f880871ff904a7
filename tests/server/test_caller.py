"""Which process of a client a name means, and whether that one lives."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from adaptive_llm_gateway.server._caller import is_alive
from adaptive_llm_gateway.server._process import state_and_start

WAIT = 60.0
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells when a process was started")


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_name_is_alive_as_long_as_its_process(child: subprocess.Popen[bytes]) -> None:
    found = state_and_start(child.pid)
    names = [f"{child.pid}-{'' if found is None else found[1] + '-'}a1b2", f"{child.pid}-a1b2"]
    assert [is_alive(name) for name in names] == [True, True]
    child.kill()
    child.wait(timeout=WAIT)
    assert [is_alive(name) for name in names] == [False, False]


@ON_LINUX
def test_a_process_that_has_the_number_of_one_that_ended_is_not_taken_for_it(child: subprocess.Popen[bytes]) -> None:
    found = state_and_start(child.pid)
    assert found is not None
    assert not is_alive(f"{child.pid}-{int(found[1]) - 1}-a1b2")


@ON_LINUX
def test_a_process_of_another_user_is_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refused)  # the tests may run as a user who may send signals to everybody
    assert not is_alive(f"{os.getpid()}-a1b2")


@pytest.mark.parametrize("name", ["", "a", "12", "-1-a", "0-a", "x-1-a", "99999999999-a", "4194305-7-a"])
def test_what_names_no_process_is_not_alive(name: str) -> None:
    assert not is_alive(name)


@ON_LINUX
def test_a_client_says_when_its_process_was_started(server: Any) -> None:
    client = server.client("claude-code")
    id_ = server.id_of(client.call("handoff_create", objective="Have quotes nest"))
    client.call("handoff_claim", id=id_)
    instance = server.json("handoff", "show", id_)["claim"]["by"]["instance"]
    found = state_and_start(client.process.pid)
    assert found is not None
    assert instance.startswith(f"{client.process.pid}-{found[1]}-")
    assert is_alive(instance)
