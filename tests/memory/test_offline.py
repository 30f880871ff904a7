"""Offline mode in the memory: git, endpoints of models, Qdrant and PostgreSQL reach nothing but this machine."""

from __future__ import annotations

import operator
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import SyncError, set_offline
from adaptive_llm_gateway.memory._embed_http import EmbedderUnavailable, HttpEmbedder
from adaptive_llm_gateway.memory._git import git_environment, run_git
from adaptive_llm_gateway.memory._offline import database_is_here, git_settings_here, protocol_here
from adaptive_llm_gateway.memory._qdrant import QdrantServer, QdrantUnavailable
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._requests import PostgresConfig, QdrantConfig
from adaptive_llm_gateway.memory._sync import Sync
from adaptive_llm_gateway.memory._values import Author, Change

ELSEWHERE = "https://192.0.2.1/memory.git"
NOTE = b"---\nid: 01JD0000000000000000000001\ntype: note\ntitle: T\ncreated: 2026-11-01T00:00:00Z\n---\nb\n"


@pytest.fixture
def offline() -> Iterator[None]:
    """The whole test process is offline meanwhile."""
    set_offline(True)
    yield
    set_offline(False)


class Door:
    """A server of the loopback that stands for a proxy or a remote: it counts who comes, and lets them wait."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.came = threading.Semaphore(0)
        self.count = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.count += 1
            self._open.append(connection)
            self.came.release()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)
        for connection in self._open:
            connection.close()


@pytest.fixture
def door() -> Iterator[Door]:
    found = Door()
    yield found
    found.close()


def repo_with(folder: Path, remote: str) -> tuple[MemoryRepo, Sync]:
    repo = MemoryRepo.open(folder)
    sync = Sync(repo, scan=lambda path, data: None, timeout=30)
    sync.set_remote(remote)
    (folder / "notes").mkdir(exist_ok=True)
    (folder / "notes" / "t.md").write_bytes(NOTE)
    repo.commit([Change("notes/t.md", NOTE, "write", "", "t", Author("test"))])
    return repo, sync


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    path = tmp_path / "bare.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(path)], check=True)
    return path


# --- git -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("/srv/memory.git", "file"),
        ("../memory.git", "file"),
        ("folder/with:colon", "file"),
        ("file:///srv/memory.git", "file"),
        ("http://127.0.0.1:3000/memory.git", "http"),
        ("https://localhost/memory.git", "https"),
        ("https://me@[::1]/memory.git", "https"),
        ("file://host/srv/memory.git", None),
        ("https://example.com/memory.git", None),
        ("https://localhost.example.com/memory.git", None),
        ("https://localhost@example.com/memory.git", None),
        ("https://localhost/memory.git?a=b", None),
        ("http://0/memory.git", None),
        ("git@example.com:memory.git", None),
        ("localhost:memory.git", None),
        ("ssh://localhost/memory.git", None),
        ("git://localhost/memory.git", None),
        ("ext::sh -c true", None),
        ("http::http://localhost/x", None),
        ("http://[bad/x", None),
        ("\\\\server\\share", None),
    ],
)
def test_a_remote_is_here_when_git_cannot_leave_for_it(url: str, protocol: str | None) -> None:
    assert protocol_here(url) == protocol


@pytest.mark.parametrize("operation", ["pull", "push", "fetch", "remote.branches"])
def test_a_remote_elsewhere_is_held_back_and_no_git_is_started_for_it(
    tmp_path: Path, offline: None, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sync = repo_with(tmp_path / "repo", "https://token@192.0.2.1/memory.git".replace("token@", ""))
    started: list[list[str]] = []
    real = subprocess.Popen

    def noted(command: list[str], **options: Any) -> Any:
        started.append(command)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "Popen", noted)  # git is real; only what is asked of it is noted
    with pytest.raises(SyncError) as caught:
        operator.attrgetter(operation)(sync)()
    assert caught.value.details["kind"] == "offline"
    assert "192.0.2.1" in caught.value.message
    assert "alg mode" in str(caught.value.hint)
    assert "alg mode normal" not in str(caught.value.hint)  # a model reads it, too
    assert not [command for command in started if {"fetch", "push", "ls-remote"} & set(command)]


def test_the_status_says_that_offline_mode_holds_back_and_records_no_failure(tmp_path: Path) -> None:
    _, sync = repo_with(tmp_path / "repo", ELSEWHERE)
    set_offline(True)
    try:
        with pytest.raises(SyncError):
            sync.push()
        held = sync.state.status()
    finally:
        set_offline(False)
    assert (held.state, held.offline, held.ahead) == ("pending", True, 2)
    after = sync.state.status()
    assert (after.state, after.offline, after.error) == ("pending", False, None)


def test_a_remote_in_a_folder_is_synced_as_ever(tmp_path: Path, bare: Path, offline: None) -> None:
    _, sync = repo_with(tmp_path / "repo", str(bare))
    assert sync.push().pushed == 2
    assert sync.pull().status.state == "pushed"
    assert not sync.state.status().offline


@pytest.mark.parametrize("setting", ["insteadOf", "pushInsteadOf"])
def test_an_address_that_gits_settings_put_in_the_place_of_a_folder_is_held_back(
    tmp_path: Path, bare: Path, offline: None, setting: str
) -> None:
    repo, sync = repo_with(tmp_path / "repo", str(bare))
    run_git(["config", f"url.https://192.0.2.1/.{setting}", f"{bare.parent}/"], cwd=repo.path)
    with pytest.raises(SyncError) as caught:
        sync.push()
    assert caught.value.details["kind"] == "offline"
    assert sync.state.status().offline


def test_git_itself_may_use_no_transport_but_files(tmp_path: Path, offline: None, door: Door) -> None:
    MemoryRepo.open(tmp_path / "repo")
    for url in (f"http://127.0.0.1:{door.port}/x", "ssh://192.0.2.1/x", "git://192.0.2.1/x", ELSEWHERE):
        done = run_git(["ls-remote", url], cwd=tmp_path / "repo", check=False)
        assert done.status != 0
        assert "not allowed" in done.stderr
    assert door.count == 0


def fetch_is_refused_offline(sync: Sync) -> None:
    set_offline(True)
    try:
        with pytest.raises(SyncError):
            sync.fetch()
    finally:
        set_offline(False)


def test_a_proxy_of_the_loopback_carries_nothing_of_gits_outside(
    tmp_path: Path, door: Door, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Door()
    try:
        proxy, url = f"http://127.0.0.1:{door.port}", f"http://127.0.0.1:{target.port}/x.git"
        for name in ("http_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        repo, _ = repo_with(tmp_path / "repo", url)
        for key in ("http.proxy", f"http.http://127.0.0.1:{target.port}/.proxy", "remote.origin.proxy"):
            run_git(["config", key, proxy], cwd=repo.path)
        sync = Sync(repo, scan=lambda path, data: None, timeout=1)
        fetch_is_refused_offline(sync)
        assert (door.count, target.count) == (0, 1)
        with pytest.raises(SyncError):  # and outside of offline mode the settings count
            sync.fetch()
        assert (door.count, target.count) == (1, 1)
    finally:
        target.close()


def test_a_redirect_of_the_loopback_leads_git_nowhere(tmp_path: Path, door: Door, serve: Callable[..., Any]) -> None:
    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(301)
            self.send_header("Location", f"http://127.0.0.1:{door.port}{self.path}")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    repo, _ = repo_with(tmp_path / "repo", f"http://127.0.0.1:{serve(Redirecting).server_port}/x.git")
    run_git(["config", "http.followRedirects", "true"], cwd=repo.path)
    sync = Sync(repo, scan=lambda path, data: None, timeout=1)
    fetch_is_refused_offline(sync)
    assert door.count == 0
    with pytest.raises(SyncError):
        sync.fetch()
    assert door.count == 1


@pytest.mark.parametrize("url", ["http://192.0.2.1/x.git", "/folder/x.git"])
def test_a_git_that_uses_the_network_when_offline_mode_begins_is_ended(
    tmp_path: Path, door: Door, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{door.port}")  # on its way to elsewhere
    repo, sync = repo_with(tmp_path / "repo", url)
    run_git(["config", "url.http://192.0.2.1/.insteadOf", "/folder/"], cwd=repo.path)
    caught: list[BaseException] = []

    def fetch() -> None:
        try:
            sync.fetch()
        except SyncError as error:
            caught.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    assert door.came.acquire(timeout=20)
    set_offline(True)
    try:
        thread.join(20)
        assert not thread.is_alive()
    finally:
        set_offline(False)
    assert [getattr(error, "details", {}).get("kind") for error in caught] == ["offline"]


def test_a_push_to_a_folder_is_not_ended_when_offline_mode_begins(tmp_path: Path, bare: Path) -> None:
    _, sync = repo_with(tmp_path / "repo", str(bare))
    hook = bare / "hooks" / "pre-receive"
    reached, go_on = tmp_path / "reached", tmp_path / "go-on"
    for pipe in (reached, go_on):
        os.mkfifo(pipe)
    hook.write_text(f"#!/bin/sh\necho > '{reached}'\nread line < '{go_on}'\n", encoding="utf-8")
    hook.chmod(0o755)
    pushed: list[int] = []
    thread = threading.Thread(target=lambda: pushed.append(sync.push().pushed))
    thread.start()
    reached.read_bytes()  # the push is under way
    set_offline(True)
    try:
        go_on.write_bytes(b"\n")
        thread.join(20)
    finally:
        set_offline(False)
    assert pushed == [2]


def test_the_environment_for_git_is_as_ever_outside_of_offline_mode() -> None:
    base = {"HTTPS_PROXY": "http://127.0.0.1:1", "all_proxy": "x", "GIT_PROXY_COMMAND": "x", "PATH": "/bin"}
    assert set(base) < set(git_environment(base))
    held = git_environment(base, offline=("file", "http"))
    assert held["GIT_ALLOW_PROTOCOL"] == "file:http"
    assert set(base) & set(held) == {"PATH"}


def test_the_settings_for_git_name_each_address(tmp_path: Path) -> None:
    found = git_settings_here("origin", ("http://localhost/x", str(tmp_path)))
    assert "http.http://localhost/x.proxy=" in found
    assert "remote.origin.uploadpack=git-upload-pack" in found
    assert not [setting for setting in found if str(tmp_path) in setting]


def test_what_waits_is_pushed_by_itself_when_offline_mode_ends(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", "--bare", str(tmp_path / "remote.git")], check=True)
    monkeypatch.setattr("adaptive_llm_gateway.memory._sync_schedule.OFFLINE_SECONDS", 0.1)  # nobody waits for five
    # The remote is behind a name that is elsewhere, until the settings say that it is this folder.
    set_offline(True)
    try:
        store = bench.open(remote=ELSEWHERE, push_after_write=True, push_delay=0.05)
        bench.write(store, "Written offline")
        held = bench.poll(lambda: (found := store.sync_status()).offline and found.ahead and found, "the held push")
        assert (held.state, held.error) == ("pending", None)
        run_git(["remote", "set-url", "origin", str(tmp_path / "remote.git")], cwd=store.repo.path)
    finally:
        set_offline(False)
    bench.poll(lambda: store.sync_status().state == "pushed", "the push")


# --- Endpoints and databases ---------------------------------------------------------------------------------------


def test_an_embedder_elsewhere_is_not_asked_not_even_through_a_proxy_of_the_loopback(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{door.port}")
    embedder = HttpEmbedder("https://192.0.2.1/v1", "m", timeout=0.5, first_pause=0.0)
    set_offline(True)
    try:
        with pytest.raises(EmbedderUnavailable) as caught:
            embedder.load()
        assert caught.value.details["reason"] == "offline"
        assert "alg mode" in str(caught.value.hint)
        assert door.count == 0
    finally:
        set_offline(False)
    with pytest.raises(EmbedderUnavailable):
        embedder.load()
    embedder.close()
    assert door.count > 0  # the proxy would have carried it


def test_an_embedder_of_the_loopback_is_asked_without_a_proxy(
    door: Door, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Door()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    embedder = HttpEmbedder(f"https://localhost:{door.port}/v1", "m", timeout=0.2, first_pause=0.0)
    with pytest.raises(EmbedderUnavailable):  # it speaks no TLS
        embedder.load()
    embedder.close()
    proxy.close()
    assert door.count > 0
    assert proxy.count == 0


def test_a_qdrant_elsewhere_is_not_asked(offline: None, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client")
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{door.port}")
    server = QdrantServer(QdrantConfig("https://192.0.2.1:6333", None), "hub")
    with pytest.raises(QdrantUnavailable) as caught:
        server.version()
    server.close()
    assert caught.value.details["reason"] == "offline"
    assert door.count == 0


@pytest.mark.parametrize(
    ("parts", "environment", "here"),
    [
        ({}, {}, True),
        ({"host": "/run/postgresql"}, {}, True),
        ({"host": "localhost"}, {}, True),
        ({"host": "127.0.0.1,::1"}, {}, True),
        ({"host": "localhost", "hostaddr": "192.0.2.1"}, {}, False),
        ({"host": "db.example.com"}, {}, False),
        ({"host": "db.example.com", "hostaddr": "127.0.0.1"}, {}, False),
        ({"host": "localhost,db.example.com"}, {}, False),
        ({}, {"PGHOST": "db.example.com"}, False),
        ({"host": "localhost"}, {"PGHOST": "db.example.com"}, True),
        ({"host": "localhost"}, {"PGHOSTADDR": "192.0.2.1"}, False),
        ({"service": "x", "host": "localhost"}, {}, False),
        ({}, {"PGSERVICE": "x"}, False),
    ],
)
def test_a_database_is_here_when_every_server_of_it_is(
    parts: dict[str, str], environment: dict[str, str], here: bool
) -> None:
    assert database_is_here(parts, environment) is here


def test_a_database_elsewhere_is_not_connected_to(offline: None) -> None:
    pytest.importorskip("psycopg")
    from adaptive_llm_gateway.core import Unavailable
    from adaptive_llm_gateway.memory import look_at_postgres

    with pytest.raises(Unavailable) as caught:
        look_at_postgres(PostgresConfig("postgresql://me@192.0.2.1/db", "alg"))
    assert caught.value.details["reason"] == "offline"
