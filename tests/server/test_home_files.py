"""The files that HTTP adds to the home, damaged in every way: the hub goes on without, and `alg doctor` names each."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from adaptive_llm_gateway.core import FormatTooNew, StorageError
from adaptive_llm_gateway.server._home_db import look_at_home_db, open_home_db

JSON = {"Content-Type": "application/json"}
SCHEMA = "CREATE TABLE IF NOT EXISTS x (a INTEGER)"
DATABASES = ("idempotency.db", "clients-use.db")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With nothing else in it."""
    made = tmp_path / "databases"
    made.mkdir()
    return made


def _gone(path: Path) -> None:
    for each in (path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm"))):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink(missing_ok=True)


def _damaged(path: Path) -> None:
    _gone(path)
    path.write_bytes(b"This is no database. " * 500)


def _directory(path: Path) -> None:
    _gone(path)
    path.mkdir()


def _newer(path: Path) -> None:
    database: Any = apsw.Connection(str(path))
    database.execute("PRAGMA user_version = 99")
    database.close()


def _link(path: Path) -> None:
    _gone(path)
    path.symlink_to(path.with_name("nowhere") / "x")


WAYS: dict[str, Callable[[Path], None]] = {
    "damaged": _damaged,
    "directory": _directory,
    "newer": _newer,
    "link": _link,
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_lies_in_the_place_of_a_database_is_told_and_refused_and_left_as_it_is(
    tmp_path: Path, way: str
) -> None:
    path = tmp_path / "x.db"
    open_home_db(path, SCHEMA, version=1).close()
    assert look_at_home_db(path, version=1) is None
    WAYS[way](path)
    before = path.read_bytes() if path.is_file() else None
    assert look_at_home_db(path, version=1)
    with pytest.raises((StorageError, OSError, apsw.Error)) as refused:
        open_home_db(path, SCHEMA, version=1)
    assert isinstance(refused.value, FormatTooNew) == (way == "newer")
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_database_is_for_this_user_alone_also_where_it_was_not(folder: Path) -> None:
    path = folder / "x.db"
    open_home_db(path, SCHEMA, version=1).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert look_at_home_db(path, version=1) == "is open to others (mode 0644)"
    database: Any = open_home_db(path, SCHEMA, version=1)
    database.execute("INSERT INTO x VALUES (1)")
    modes = {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
    assert (len(list(folder.iterdir())), modes) == (3, {0o600})
    assert look_at_home_db(path, version=1) is None  # while it is open
    database.close()


def test_looking_at_a_database_makes_nothing_and_damage_within_shows(folder: Path) -> None:
    path = folder / "x ?#%.db"
    assert look_at_home_db(path, version=1) is None
    database: Any = open_home_db(path, SCHEMA, version=1)
    database.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO x SELECT i FROM n"
    )
    database.close()
    assert look_at_home_db(path, version=1) is None
    assert list(folder.iterdir()) == [path]
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(3 * 4096))
    assert "is damaged" in str(look_at_home_db(path, version=1))


def _break_all(home: Path, way: str) -> None:
    for name in DATABASES:
        WAYS[way](home / name)
    newest = max((home / "audit").glob("*.jsonl"))
    log = home / "logs" / "requests.log"
    match way:
        case "damaged":
            newest.write_bytes(newest.read_bytes() + b"no entry\n")
        case "directory":
            shutil.rmtree(home / "audit")
            (home / "audit").write_text("no folder", encoding="utf-8")
            _directory(log)
        case "newer":
            newest.write_bytes(newest.read_bytes() + b'{"v": 99}\n')
        case _:
            shutil.rmtree(home / "audit")
            (home / "audit").symlink_to(home / "nowhere" / "x")


@pytest.mark.parametrize("way", WAYS)
def test_a_hub_goes_on_whatever_has_become_of_the_files_of_http_and_doctor_names_each(server: Any, way: str) -> None:
    web = server.web()
    token = server.json("clients", "add", "all", "--scope", "memory:read,memory:write,gateway")["token"]

    def write(web: Any, title: str, **headers: str) -> Any:
        body = json.dumps({"title": title}).encode()
        return web.request("POST", "/api/v1/memories", body, token=token, headers={**JSON, **headers})

    assert write(web, "Before", **{"Idempotency-Key": "a"}).status == 201
    server.wait_until((server.home / "clients-use.db").exists, what="the numbers' file")
    server.alg("hub", "stop")
    _break_all(server.home, way)
    found = {check["name"]: check for check in json.loads(server.alg("doctor", "--json", check=False).stdout)["checks"]}
    for name in ("idempotency", "clients-use", "audit"):
        assert found[name]["state"] == "fail", found[name]
        assert found[name]["hint"]
    web = server.web()
    assert web.request("GET", "/api/v1/status", token=token).status == 200
    assert write(web, "Without a key").status == 201
    refused = write(web, "With a key", **{"Idempotency-Key": "b"})
    assert (refused.status, refused.json()["code"]) == (500, "format_too_new" if way == "newer" else "storage")
    assert "idempotency.db" in refused.json()["detail"]
    assert web.request("POST", "/mcp", b"{}", token="wrong").status == 401
    status = server.json("hub", "status")
    assert status["running"]
    if way in ("directory", "link"):
        server.wait_until(lambda: server.json("hub", "status")["audit"]["error"], what="the audit log's failure")
    assert server.client("codex").write("At the socket")
    assert server.alg("clients", "list").returncode == 0


def test_a_hub_whose_files_are_taken_away_while_it_runs_goes_on_and_makes_them_anew(server: Any) -> None:
    web = server.web()
    token = server.json("clients", "add", "all", "--scope", "memory:read,memory:write")["token"]

    def write(web: Any, key: str) -> int:
        body = json.dumps({"title": f"With {key}"}).encode()
        headers = {**JSON, "Idempotency-Key": key}
        return web.request("POST", "/api/v1/memories", body, token=token, headers=headers).status

    assert write(web, "a") == 201
    server.wait_until((server.home / "clients-use.db").exists, what="the numbers' file")
    for name in (*DATABASES, "audit", "logs/requests.log"):
        _gone(server.home / name)
    assert write(web, "b") == 201
    assert web.request("POST", "/mcp", b"{}", token="wrong").status == 401
    server.alg("hub", "stop")
    web = server.web()
    assert write(web, "c") == 201
    assert (server.home / "idempotency.db").is_file()
    checks = json.loads(server.alg("doctor", "--json", check=False).stdout)["checks"]
    assert {each["name"]: each["state"] for each in checks}["idempotency"] == "ok"
