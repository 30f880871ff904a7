"""A hub whose vectors are searched by Qdrant (its double, see `tests/conftest.py`), in processes of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

KEY = "key-0123456789-abcdef"


@pytest.fixture
def beside_qdrant(server: Any, qdrant: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The `server`, whose hubs have `qdrant` search their vectors."""
    qdrant.key = KEY
    monkeypatch.setenv("ALG_INDEX__KIND", "qdrant")
    monkeypatch.setenv("ALG_INDEX__URL", qdrant.url)
    monkeypatch.setenv("ALG_INDEX__API_KEY_ENV", "SOME_QDRANT_KEY")
    monkeypatch.setenv("SOME_QDRANT_KEY", KEY)
    return server


def points(qdrant: Any) -> int:
    return sum(len(qdrant.points(name)) for name in qdrant.collections())


def search(server: Any, query: str) -> Any:
    return json.loads(server.alg("memory", "search", query, "--json").stdout)


def test_a_hub_writes_finds_dies_comes_back_and_reindexes(beside_qdrant: Any, qdrant: Any) -> None:
    server = beside_qdrant
    client = server.client()
    kept = [client.write(f"Enclosure {n}", body=f"we keep the walrus in enclosure {n}\n") for n in range(5)]
    server.wait_until(lambda: points(qdrant) == 5, what="the vectors")
    found = search(server, "where do sea animals live")
    assert found["mode"] == "hybrid"
    assert {hit["id"] for hit in found["hits"]} <= set(kept)

    server.kill_hub()
    late = server.client("late")
    late.call("memory_delete", id=kept[0], reason="it moved")
    server.wait_until(lambda: points(qdrant) == 4, what="the deletion")
    before = qdrant.collections()
    assert server.json("memory", "reindex")["indexed"] == 4
    server.wait_until(lambda: points(qdrant) == 4 and search(server, "walrus")["mode"] == "hybrid", what="the vectors")
    assert qdrant.collections() == before


def test_a_hub_whose_qdrant_is_away_searches_by_words_and_says_so(beside_qdrant: Any, qdrant: Any) -> None:
    server = beside_qdrant
    qdrant.stop()
    try:
        kept = server.client().write("Enclosure", body="we keep the walrus in the enclosure\n")
        server.wait_until(lambda: server.json("memory", "status")["vectors"] == [1, 1], what="the vector")

        found = search(server, "walrus enclosure")

        assert found["mode"] == "lexical"
        assert [hit["id"] for hit in found["hits"]] == [kept]
        assert any(qdrant.url in notice and "by words alone" in notice for notice in found["notices"])
        doctor = [check for check in checks(server) if check["state"] == "fail"]
        assert len(doctor) == 1
        assert "cannot be reached" in doctor[0]["message"]
    finally:
        qdrant.start()
    assert [check["state"] for check in checks(server)] == ["ok", "ok"]
    files = server.files_below(server.home, without=(".git",))
    logs = "".join(path.read_text(encoding="utf-8", errors="replace") for path in files if ".log" in path.name)
    assert logs
    assert KEY not in logs + json.dumps(found)


def checks(server: Any) -> list[Any]:
    found = json.loads(server.alg("doctor", "--json", check=False).stdout)["checks"]
    return [check for check in found if check["name"] == "index"]


def test_the_doctor_says_which_server_searches_the_vectors(beside_qdrant: Any, qdrant: Any) -> None:
    found = checks(beside_qdrant)

    assert [check["state"] for check in found] == ["ok", "ok"]
    assert "Qdrant 0.0.0-double" in found[0]["message"]
    qdrant.key = "another"
    assert [check["state"] for check in checks(beside_qdrant)] == ["fail", "ok"]


def test_a_password_in_the_file_is_refused_and_not_repeated(server: Any, isolated: Path) -> None:
    server.home.mkdir(exist_ok=True)
    (server.home / "config.yaml").write_text(
        "index:\n  kind: qdrant\n  url: http://hub:hunter2-plain@qdrant.example.org:6333\n", encoding="utf-8"
    )

    done = server.alg("hub", "start", check=False)

    assert done.returncode != 0
    assert "holds a password" in done.stderr
    assert "hunter2-plain" not in done.stdout + done.stderr


def test_an_address_that_is_missing_is_named(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALG_INDEX__KIND", "qdrant")

    done = server.alg("doctor", "--json", check=False)

    assert "'index.url' is not set" in done.stdout
