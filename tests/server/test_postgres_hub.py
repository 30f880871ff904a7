"""A hub whose index is in PostgreSQL: the same promises, with a real server and real processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def in_postgres(server: Any, postgres_database: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The `server`, whose hubs keep their index in a database of this test."""
    monkeypatch.setenv("ALG_INDEX__KIND", "postgres")
    monkeypatch.setenv("ALG_INDEX__URL", postgres_database)
    monkeypatch.setenv("ALG_EMBEDDER__KIND", "none")
    return server


def rows(url: str, statement: str) -> list[Any]:
    import psycopg

    with psycopg.connect(url) as connection:
        return connection.execute(statement.encode()).fetchall()


def test_a_hub_writes_finds_dies_comes_back_and_reindexes(in_postgres: Any, postgres_database: str) -> None:
    server = in_postgres
    client = server.client()
    kept = [client.write(f"Decision {n}", body=f"we keep the walrus in enclosure {n}\n") for n in range(5)]
    assert kept[3] in client.call("memory_search", query="walrus enclosure 3")
    assert not (server.home / "index.db").exists()

    server.kill_hub()
    late = server.client("late")
    assert kept[4] in late.call("memory_search", query="walrus enclosure 4")
    late.call("memory_delete", id=kept[0], reason="it moved")
    server.settled()

    assert server.json("memory", "reindex")["indexed"] == 4
    assert kept[0] not in late.call("memory_search", query="walrus")
    assert len(server.json("memory", "list")["memories"]) == 4
    [(schema,)] = rows(postgres_database, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'alg%'")
    assert rows(postgres_database, f"SELECT count(*) FROM {schema}.memories") == [(4,)]  # noqa: S608


@pytest.mark.parametrize("point", ["write.renamed", "write.indexed", "commit.ref_updated", "commit.recorded"])
def test_a_hub_killed_at_a_step_of_a_write_loses_nothing_acknowledged(in_postgres: Any, point: str) -> None:
    server = in_postgres
    kept = server.client("before").write("Kept", body="kept text\n")
    server.settled()
    server.alg("hub", "stop")
    client = server.client("victim", env={"ALG_FAULT": point})
    doomed = server.hub_pid()

    result = client.answer(client.start_call("memory_write", title="Fresh", body="new text\n"))["result"]
    server.wait_until(lambda: server.hub_pid() != doomed, what="the hub's death")

    survivor = server.client("survivor")
    assert server.settled()["uncommitted"] == 0
    titles = {memory["title"] for memory in server.json("memory", "list")["memories"]}
    assert kept in survivor.call("memory_search", query="kept text")
    assert titles == {"Kept", "Fresh"} or (titles == {"Kept"} and result.get("isError"))
    server.wait_until(lambda: server.git("status", "--porcelain") == "", what="a clean git status")


def test_a_database_that_does_not_answer_is_named_and_comes_without_the_password(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALG_INDEX__KIND", "postgres")
    monkeypatch.setenv("ALG_INDEX__URL", f"postgresql://hub:hunter2-plain@/memories?host={tmp_path}")

    said = server.client().refused("memory_search", query="anything")

    assert "cannot be reached" in said
    assert str(tmp_path) in said
    doctor = json.loads(server.alg("doctor", "--json", check=False).stdout)
    [found] = [check for check in doctor["checks"] if check["name"] == "index" and check["state"] == "fail"]
    assert "cannot be reached" in found["message"]
    files = server.files_below(server.home, without=(".git",))
    logs = "".join(path.read_text(encoding="utf-8", errors="replace") for path in files if ".log" in path.name)
    assert logs
    assert "hunter2-plain" not in said + json.dumps(doctor) + logs


def test_the_doctor_says_which_database_answers(in_postgres: Any) -> None:
    found = server_checks(in_postgres)

    assert [check["state"] for check in found] == ["ok"]
    assert "pgvector" in found[0]["message"]


def server_checks(server: Any) -> list[Any]:
    checks = json.loads(server.alg("doctor", "--json", check=False).stdout)["checks"]
    return [check for check in checks if check["name"] == "index"]


def test_a_password_in_the_file_is_refused_and_not_repeated(server: Any) -> None:
    server.home.mkdir(exist_ok=True)
    (server.home / "config.yaml").write_text(
        "index:\n  kind: postgres\n  url: postgresql://hub:hunter2-plain@db.example.org/memories\n", encoding="utf-8"
    )

    done = server.alg("hub", "start", check=False)

    assert done.returncode != 0
    assert "holds a password" in done.stderr
    assert "ALG_INDEX__URL" in done.stderr
    assert "hunter2-plain" not in done.stdout + done.stderr


def test_two_hubs_with_clones_of_one_memory_repo_share_a_database(
    in_postgres: Any, postgres_database: str, tmp_path: Path
) -> None:
    server = in_postgres
    remote = tmp_path / "remote.git"
    server.alg("init", "--yes")
    one = server.client("one").write("From one", body="first light\n")
    server.settled()
    import subprocess

    subprocess.run(["git", "init", "--quiet", "--bare", str(remote)], check=True)
    server.alg("init", "--yes", "--remote", str(remote))
    server.alg("memory", "push")
    other = type(server)(tmp_path / "other")
    try:
        other.alg("init", "--yes", "--remote", str(remote))
        two = other.client("two").write("From two", body="second light\n")
        other.settled()
        assert one in other.client("reader").call("memory_search", query="first light")
        assert two not in server.client("reader").call("memory_search", query="second light")  # not pulled yet
        other.alg("memory", "push")
        server.alg("memory", "pull")
        assert two in server.client("again").call("memory_search", query="second light")
        schemas = rows(postgres_database, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'alg%'")
        assert len(schemas) == 2
    finally:
        other.close()
