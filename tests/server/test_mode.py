"""`alg mode` with real hubs, and servers that watch from this machine's other address whether anything arrives."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, get_args

import pytest

from adaptive_llm_gateway.core import (
    AlgError,
    Home,
    InvalidInput,
    StorageError,
    _egress,
    is_offline,
    set_offline,
)
from adaptive_llm_gateway.gateway import Mode
from adaptive_llm_gateway.server._mode import MODES, ModeSwitch, checked_mode, read_mode, write_mode

TRIED = 13


@dataclass
class Elsewhere:
    """An HTTP server of this machine that is not at the loopback, and what it was asked."""

    url: str
    asked: list[str]


@pytest.fixture
def elsewhere(other_address: str, serve: Callable[..., Any]) -> Elsewhere:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Elsewhere(f"http://{other_address}:{serve(Handler, other_address).server_port}", asked)


def configured(server: Any, elsewhere: Elsewhere) -> None:
    """A home whose remote, embedder and reranker are all elsewhere."""
    server.home.mkdir(mode=0o700)
    (server.home / "config.yaml").write_text(
        f"sync: {{remote: '{elsewhere.url}/memory.git', timeout_seconds: 20}}\n"
        f"embedder: {{kind: http, url: '{elsewhere.url}/v1', model: m}}\n"
        f"reranker: {{kind: http, url: '{elsewhere.url}/v1', model: m}}\n",
        encoding="utf-8",
    )


# --- With real hubs --------------------------------------------------------------------------------------------------


def test_a_hub_that_starts_offline_asks_nobody_elsewhere_and_in_normal_mode_it_does(
    server: Any, elsewhere: Elsewhere
) -> None:
    configured(server, elsewhere)
    done = server.json("mode", "offline")
    assert (done["mode"], done["proved"], len(done["proof"])) == ("offline", True, TRIED)
    server.json("memory", "write", "kept here", "--title", "Written offline")
    hits = server.json("memory", "search", "offline")
    assert [hit["title"] for hit in hits["hits"]] == ["Written offline"]
    for operation in ("pull", "push"):
        refused = server.alg("memory", operation, "--json", check=False)
        assert refused.returncode == 8
        assert json.loads(refused.stdout)["error"]["details"]["kind"] == "offline"
    status = server.settled()
    assert (status["mode"], status["mode_problem"]) == ("offline", None)
    assert status["sync"]["offline"]
    assert "held back" in status["embedder"]
    assert "held back by offline mode" in server.alg("memory", "status").stdout
    assert elsewhere.asked == []

    assert server.json("mode", "normal")["mode"] == "normal"
    assert server.alg("memory", "push", "--json", check=False).returncode == 8  # it answers 404
    assert any(path.startswith("/memory.git") for path in elsewhere.asked)
    assert not server.json("memory", "status")["sync"]["offline"]


def test_a_running_hub_goes_offline_at_once_and_stays_so_when_it_starts_again(
    server: Any, elsewhere: Elsewhere
) -> None:
    configured(server, elsewhere)
    first = server.json("hub", "start")["pid"]
    server.wait_until(lambda: elsewhere.asked, what="the embedder's first question")
    assert server.json("mode", "offline")["proved"] is True
    assert server.hub_pid() == first
    assert "offline" in server.alg("hub", "status").stdout
    server.kill_hub()
    before = len(elsewhere.asked)
    again = server.json("mode")
    assert (again["mode"], again["running"], again["proof"]) == ("offline", False, None)
    server.json("hub", "start")
    assert server.json("mode")["proved"] is True
    server.alg("memory", "push", check=False)
    assert len(elsewhere.asked) == before


def test_what_the_attempts_were_and_how_each_was_blocked_is_printed(server: Any) -> None:
    text = server.alg("mode", "offline").stdout
    assert text.count("blocked  ") == TRIED
    for what in ("IPv4", "IPv6", "UDP", "name", "git over https: refused, transport 'https' not allowed"):
        assert what in text
    client = server.client("a-model")
    assert "mode: offline" in client.call("memory_status")
    server.alg("mode", "normal")
    assert "mode:" not in client.call("memory_status")
    assert not [line for line in server.alg("hub", "status").stdout.splitlines() if line.startswith("mode")]


def test_a_mode_that_needs_no_proof_starts_no_hub(server: Any) -> None:
    assert server.json("mode") == {
        "running": False,
        "mode": "normal",
        "problem": None,
        "proved": None,
        "proof": None,
        "cut": [],
    }
    assert server.json("mode", "local")["mode"] == "local"
    assert server.hub_pid() is None
    kept = server.home / "gateway" / "mode"
    assert kept.read_text(encoding="utf-8") == "local\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    server.json("hub", "start")
    assert server.json("hub", "status")["mode"] == "local"


def test_a_mode_file_that_is_not_understood_means_offline_and_is_said_everywhere(server: Any) -> None:
    kept = server.home / "gateway" / "mode"
    kept.parent.mkdir(parents=True)
    kept.write_text("ofline\n", encoding="utf-8")
    assert server.json("hub", "start")["mode"] == "offline"
    shown = server.alg("mode", check=False)
    assert shown.returncode == 1
    assert "'ofline'" in shown.stderr
    status = server.json("memory", "status")
    assert status["mode"] == "offline"
    assert "'ofline'" in status["mode_problem"]
    server.alg("mode", "normal")
    assert server.json("memory", "status")["mode_problem"] is None


@pytest.mark.parametrize("mode", ["local", "offline"])
def test_a_hosted_model_is_called_in_normal_mode_alone(server: Any, elsewhere: Elsewhere, mode: str) -> None:
    server.home.mkdir(mode=0o700)
    (server.home / "config.yaml").write_text(
        f"providers:\n  work:\n    kind: openai_compatible\n    url: {elsewhere.url}/v1\n"
        "    models: [{name: m, chat: true}]\n"
        "gateway: {discover: false}\nembedder: {kind: none}\n",
        encoding="utf-8",
    )
    ask = ("complete", "What is a lease?", "--trust", "public", "--model", "work/m", "--no-stdin", "--json")
    server.alg("mode", mode)
    refused = json.loads(server.alg(*ask, check=False).stdout)["error"]
    assert mode in json.dumps(refused)
    assert refused["details"]["receipt"]
    assert elsewhere.asked == []
    server.alg("mode", "normal")
    server.alg(*ask, check=False)  # it answers 404, but it was asked
    assert "/v1/chat/completions" in elsewhere.asked


@pytest.mark.parametrize("mode", ["local", "offline"])
def test_a_hosted_model_that_is_answering_is_left_when_the_mode_changes(
    server: Any, other_address: str, serve: Callable[..., Any], mode: str
) -> None:
    came, let_go = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def do_POST(self) -> None:
            came.set()
            let_go.wait(60)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server.configure(
        f"providers:\n  work:\n    kind: openai_compatible\n"
        f"    url: http://{other_address}:{serve(Handler, other_address).server_port}/v1\n"
        "    models: [{name: m, chat: true}]\n"
        "gateway: {discover: false}\nembedder: {kind: none}\n"
    )
    found: list[Any] = []
    ask = ("complete", "What is a lease?", "--trust", "public", "--model", "work/m", "--no-stdin", "--json")
    asking = threading.Thread(target=lambda: found.append(server.alg(*ask, check=False)), daemon=True)
    asking.start()
    try:
        assert came.wait(60)
        server.alg("mode", mode)
        asking.join(30)
        assert found, "the request goes on"
    finally:
        let_go.set()
    error = json.loads(found[0].stdout)["error"]
    receipt = server.json("receipts", "show", error["details"]["receipt"])["receipt"]
    assert receipt["outcome"] == "failed"


def test_a_mode_that_is_none_is_refused(server: Any) -> None:
    assert server.alg("mode", "airplane", check=False).returncode == 2
    assert server.hub_pid() is None


def test_doctor_says_the_mode_and_leaves_a_remote_elsewhere_alone(server: Any, elsewhere: Elsewhere) -> None:
    configured(server, elsewhere)
    server.alg("mode", "offline")
    found = {check["name"]: check for check in server.json("doctor")["checks"]}
    assert found["mode"]["message"] == f"offline, proved by {TRIED} attempts to leave"
    assert "held back by offline mode" in found["remote"]["message"]
    server.alg("hub", "stop")
    found = {check["name"]: check for check in server.json("doctor")["checks"]}
    assert found["mode"]["message"] == "offline"
    assert "held back by offline mode" in found["remote"]["message"]
    assert elsewhere.asked == []
    server.alg("mode", "normal")
    server.alg("doctor", check=False)
    assert elsewhere.asked


# --- The file --------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Home(tmp_path / "h").mode


@pytest.fixture
def back_to_normal() -> Iterator[None]:
    yield
    set_offline(False)


def test_the_modes_are_those_of_the_gateway() -> None:
    assert set(MODES) == set(get_args(Mode))


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_that_was_kept_is_read(path: Path, mode: Mode) -> None:
    write_mode(path, mode)
    assert read_mode(path) == (mode, None)
    assert [file.name for file in path.parent.iterdir()] == ["mode"]


@pytest.mark.parametrize("data", [b"", b"ofline", b"normal local", b"\xff\xfe", b"normal\x00", b"x" * 100_000])
def test_what_is_no_mode_is_the_strictest(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    mode, problem = read_mode(path)
    assert mode == "offline"
    assert str(path) in str(problem)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link", "unreadable"])
def test_what_is_no_readable_file_is_the_strictest(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True)
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            (path.parent / "other").write_text("normal\n", encoding="utf-8")
            path.symlink_to(path.parent / "other")
        case _:
            if os.geteuid() == 0:
                pytest.skip("everything can be read by root")
            path.write_text("normal\n", encoding="utf-8")
            path.chmod(0)
    assert read_mode(path)[0] == "offline"


def test_a_name_that_is_no_mode_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_mode("airplane")
    assert "normal, local, offline" in str(caught.value.hint)


# --- The switch ------------------------------------------------------------------------------------------------------


def changed(switch: ModeSwitch, mode: str) -> dict[str, Any]:
    return asyncio.run(switch.change(mode))


@pytest.mark.usefixtures("back_to_normal")
def test_listeners_are_told_of_the_mode_when_it_begins_and_changes(path: Path) -> None:
    write_mode(path, "local")
    switch = ModeSwitch(path)
    told: list[str] = []
    switch.listeners.append(told.append)
    switch.begin()
    changed(switch, "offline")
    assert is_offline()
    changed(switch, "normal")
    assert not is_offline()
    assert told == ["local", "offline", "normal"]
    assert read_mode(path) == ("normal", None)


@pytest.mark.usefixtures("back_to_normal")
def test_a_stricter_mode_holds_although_it_cannot_be_kept_and_a_laxer_one_does_not(path: Path) -> None:
    path.parent.parent.mkdir(parents=True)
    path.parent.write_text("in the way", encoding="utf-8")
    switch = ModeSwitch(path)
    with pytest.raises(StorageError) as caught:
        changed(switch, "offline")
    assert is_offline()
    assert switch.mode == "offline"
    assert "until the hub ends" in str(caught.value.hint)
    with pytest.raises(StorageError):
        changed(switch, "normal")
    assert is_offline()
    assert switch.mode == "offline"


@pytest.mark.usefixtures("back_to_normal")
def test_success_is_not_claimed_when_something_got_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A guard with a hole, and one that sends nothing to anybody.
    for name, key in (("_CHECKS", "socket.bind"), ("_BY_NAME", "bind")):
        whole = getattr(_egress, name)
        monkeypatch.setattr(_egress, name, {other: check for other, check in whole.items() if other != key})
    switch = ModeSwitch(path)
    found = changed(switch, "offline")
    assert found["proved"] is False
    assert found["problem"].startswith("offline mode is not proved: a socket that others could connect to: it was let")
    assert found["problem"] == switch.problem
    assert changed(switch, "normal")["problem"] is None


@pytest.mark.usefixtures("back_to_normal")
def test_an_attempt_that_breaks_is_no_proof(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise AlgError("no room")

    monkeypatch.setattr("adaptive_llm_gateway.memory.try_to_leave_with_git", broken)
    found = changed(ModeSwitch(path), "offline")
    assert found["proved"] is False
    assert "no room" in found["problem"]
