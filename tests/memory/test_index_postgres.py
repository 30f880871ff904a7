"""What only an index in PostgreSQL has: a server that goes away, other hubs beside it, and answers like SQLite's."""

from __future__ import annotations

import contextlib
import random
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from adaptive_llm_gateway.core import (
    ConfigError,
    FormatTooNew,
    InvalidInput,
    LockHeld,
    ReadOnly,
    Trust,
    Unavailable,
    new_ulid,
)
from adaptive_llm_gateway.memory import DeleteMemory, PostgresConfig, WriteMemory, look_at_postgres
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._index_postgres import PostgresIndex
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._postgres import schema_for
from adaptive_llm_gateway.memory._values import Author, Exclusions, Filters, Record
from adaptive_llm_gateway.memory.testing import HashEmbedder

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def record(body: str = "A body.", title: str = "A title", **changes: Any) -> Record:
    id_ = new_ulid()
    made = Record(id_, "note", title, body, f"notes/{id_}.md", "a" * 40, 0, 0, START, START, Author("codex"))
    return replace(made, **changes)


@pytest.fixture
def config(postgres: Any) -> PostgresConfig:
    return PostgresConfig(postgres.url(), f"test_{secrets.token_hex(6)}")


@pytest.fixture
def admin(postgres: Any) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        yield connection


def cut_off(admin: psycopg.Connection[Any]) -> int:
    """End every connection of a hub; how many there were."""
    return len(
        admin.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE application_name = 'adaptive-llm-gateway'"
        ).fetchall()
    )


# --- The same answers ---------------------------------------------------------------------------------------------


def corpus() -> list[Record]:
    rng = random.Random(7)  # noqa: S311 - texts, no secrets
    words = "deploy rollback walrus café Straße 東京都の天気 v2.4.7-hotfix migration queue latency running tests"
    made: list[Record] = []
    for number in range(120):
        body = " ".join(rng.choice(words.split()) for _ in range(rng.randint(3, 400)))
        made.append(
            record(
                body + f"\n\n## Part {number}\n\nends with number {number}.",
                f"Note {rng.choice(words.split())} {number}",
                tags=tuple(rng.sample(["db", "API", "ops"], rng.randint(0, 2))),
                project=rng.choice([None, "Atlas", "atlas", "borealis"]),
                type=rng.choice(["note", "task"]),
                author=Author(rng.choice(["codex", "Claude"]), rng.choice([None, "planner"])),
                trust=rng.choice([Trust.PUBLIC, Trust.SECRET]),
                updated=START + timedelta(days=rng.randint(0, 90)),
                source=rng.choice([None, "chat-1"]),
                fields=rng.choice([{}, {"status": "open"}]),
            )
        )
    return made


FILTERS = [
    Filters(),
    Filters(tags=("api",), types=("note",)),
    Filters(project=("ATLAS", "borealis"), author="planner"),
    Filters(since=START + timedelta(days=20), until=START + timedelta(days=70), max_trust=Trust.INTERNAL),
    Filters(fields={"status": "open"}),
    Filters(without=Exclusions(words=("rolled back", "walrus cafe"), tags=("db",), projects=("atlas",))),
    Filters(without=Exclusions(words=("number 17",), authors=("planner",), types=("task",))),
    Filters(also=(Filters(types=("task",)), Filters(without=Exclusions(words=("東京都",))))),
]
QUERIES = [
    "deploy rollback",
    "running test",
    '"walrus café"',
    "v2.4.7-hotfix",
    "天気",
    "strasse",
    "number 17",
    "absent",
    "",
]


def test_words_find_the_same_in_the_same_order_as_in_sqlite(config: PostgresConfig, tmp_path: Path) -> None:
    made = corpus()
    with PostgresIndex(config) as ours, Index(tmp_path / "index.db") as theirs:
        for index in (ours, theirs):
            index.apply(made)
            index.apply([replace(made[3], body="changed to the walrus"), made[5]], [made[8].id])
        for filters in FILTERS:
            assert ours.facets(filters).total == theirs.facets(filters).total
            assert ours.facets(filters).months == theirs.facets(filters).months
            assert {r.id for r in ours.list(filters, limit=200).records} == {
                r.id for r in theirs.list(filters, limit=200).records
            }
            for query in QUERIES:
                found, wanted = ours.search(query, filters=filters), theirs.search(query, filters=filters)
                assert [hit.record for hit in found.hits] == [hit.record for hit in wanted.hits], (query, filters)
                assert [hit.score for hit in found.hits] == pytest.approx([hit.score for hit in wanted.hits], abs=1e-3)
                assert [hit.lines for hit in found.hits] == [hit.lines for hit in wanted.hits]
        assert ours.word_counts(["walrus", "running"]) == (ours.word_counts(["walrus", "runs"]))
        kinds = [(kind, count) for kind, count in ours.facets().types]
        assert kinds == list(theirs.facets().types)


def test_vectors_find_the_same_as_in_sqlite(config: PostgresConfig, tmp_path: Path) -> None:
    made, embedder = corpus(), HashEmbedder(64)
    with PostgresIndex(config) as ours, Index(tmp_path / "index.db") as theirs:
        for index in (ours, theirs):
            index.set_embedder(embedder.id, embedder.dimensions)
            index.apply(made)
            backlog = index.backlog(1_000)
            vectors = embedder.embed([text for _, text in backlog])
            index.store_vectors([(chunk, row) for (chunk, _), row in zip(backlog, vectors, strict=True)])
        for filters in FILTERS:
            for query in QUERIES[:5]:
                vector = embedder.embed_query(query)
                found = ours.search(query, vector=vector, filters=filters)
                wanted = theirs.search(query, vector=vector, filters=filters)
                assert found.mode == wanted.mode == "hybrid"
                assert (
                    len({h.record.id for h in found.hits} & {h.record.id for h in wanted.hits}) >= len(wanted.hits) - 1
                )
        mine, other = ours.memory_vector(made[0].id), theirs.memory_vector(made[0].id)
        assert mine is not None
        assert other is not None
        assert np.allclose(mine / np.linalg.norm(mine), other / np.linalg.norm(other), atol=0.02)


def test_a_copy_for_the_past_finds_what_the_index_finds(config: PostgresConfig, tmp_path: Path) -> None:
    made, embedder = corpus(), HashEmbedder(64)
    with PostgresIndex(config) as index:
        index.set_embedder(embedder.id, embedder.dimensions)
        index.apply(made)
        backlog = index.backlog(1_000)
        index.store_vectors(
            [(chunk, row) for (chunk, _), row in zip(backlog, embedder.embed([t for _, t in backlog]), strict=True)]
        )
        index.copy_to(tmp_path / "copy.db")
        with Index(tmp_path / "copy.db") as copy:
            assert copy.vector_progress() == index.vector_progress()
            assert copy.meta_get("embedder") == embedder.id
            found = [hit.record for hit in copy.search("deploy rollback").hits]
            assert found == [hit.record for hit in index.search("deploy rollback").hits]


def test_a_rebuild_keeps_the_vectors_of_what_did_not_change_and_of_its_model(config: PostgresConfig) -> None:
    made, embedder = [record(f"number {n}") for n in range(10)], HashEmbedder(64)
    with PostgresIndex(config) as index:
        index.set_embedder(embedder.id, embedder.dimensions)
        index.apply(made)
        for chunk, text in index.backlog(100):
            index.store_vectors([(chunk, embedder.embed_query(text))], embedder=embedder.id)
        query = embedder.embed_query("number 7")
        before = index.search("number 7", vector=query)
        index.reset()
        index.reset()
        index.apply([made[0], *made[2:]])
        index.apply([replace(made[1], body="another text")])
        assert ["another text" in text for _, text in index.backlog(100)] == [True]
        after = index.search("number 7", vector=query)
        assert (after.mode, after.hits[0].record) == (before.mode, before.hits[0].record)
        index.tidy()
        index.apply([], [made[2].id])
        index.apply([made[2]])
        assert len(index.backlog(100)) == 2
        with pytest.raises(InvalidInput, match="another model"):
            index.store_vectors([(index.backlog(1)[0][0], query)], embedder="another")
        index.reset()
        index.set_embedder("another", 64)
        index.apply(made)
        assert len(index.backlog(100)) == 10


# --- Other hubs ---------------------------------------------------------------------------------------------------


def test_a_second_hub_on_a_schema_is_refused_by_name(config: PostgresConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    # The real wait is for a hub that was killed a moment ago.
    monkeypatch.setattr("adaptive_llm_gateway.memory._postgres._LOCK_WAITS", (0.01,))
    with PostgresIndex(config) as first:
        first.apply([record("mine")])
        with pytest.raises(LockHeld, match=str(config.schema)) as refused:
            PostgresIndex(config)
        assert "schema_name" in str(refused.value.hint)
        first.apply([record("still mine")])
    with PostgresIndex(config) as later:
        assert later.statistics()["memories"] == 2


def test_two_stores_with_clones_write_to_one_database_at_once(bench: Any, postgres: Any) -> None:
    stores = [bench.open(name, postgres=PostgresConfig(postgres.url())) for name in ("one", "two")]
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for count in range(25):
                stores[number].write(
                    WriteMemory(author=Author(f"client-{number}"), title=f"Entry {number}-{count}", body="same words\n")
                )
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)

    assert failures == []
    for number, store in enumerate(stores):
        titles = {memory.title for memory in store.records()}
        assert titles == {f"Entry {number}-{count}" for count in range(25)}
        assert store.status().memories == 50
        bench.tidy(store)


def test_two_hubs_may_make_their_schemas_at_once(postgres_database: str) -> None:
    made: list[bool] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with PostgresIndex(PostgresConfig(postgres_database, f"hub_{number}")) as index:
                made.append(index.created)
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert made == [True] * 6


@pytest.mark.parametrize(
    ("hub", "schema"),
    [
        ("Ada's Laptop.local-3f9a2c", "alg_ada_s_laptop_local_3f9a2c"),
        ("x" * 90 + "-abc123", None),
        ("日本-a1b2c3", None),
    ],
)
def test_a_hub_has_a_schema_of_its_name(hub: str, schema: str | None, postgres: Any) -> None:
    name = schema_for(hub)
    assert schema is None or name == schema
    assert name.endswith(hub[-6:])
    with PostgresIndex(PostgresConfig(postgres.url(), name)) as index:
        assert index.created


# --- A server that goes away --------------------------------------------------------------------------------------


def test_connections_that_were_cut_are_made_anew(config: PostgresConfig, admin: psycopg.Connection[Any]) -> None:
    with PostgresIndex(config) as index:
        kept = record("before the cut")
        index.apply([kept])
        assert cut_off(admin) >= 2
        assert index.get(kept.id) == kept
        assert cut_off(admin) >= 1
        index.apply([record("after the cut")])
        cut_off(admin)
        assert len(index.search("cut").hits) == 2
        index.tidy()


class Relay:
    """Between a hub and the server: passes everything on, until told to lose the answer to a COMMIT."""

    def __init__(self, folder: Path, server: str) -> None:
        self.lose = threading.Event()
        self.lost = 0
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, contextlib.suppress(OSError):
            server.connect(self._server)
            answers = threading.Thread(target=self._pass_on, args=(server, client), daemon=True)
            answers.start()
            while data := client.recv(65_536):
                if b"COMMIT" in data and self.lose.is_set():
                    self.lose.clear()
                    client.shutdown(socket.SHUT_RDWR)  # nothing gets back to it any more
                    self.lost += 1
                server.sendall(data)
            answers.join(0.5)
            server.shutdown(socket.SHUT_RDWR)
            answers.join(30)

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(30)


def test_a_commit_whose_answer_was_lost_is_not_done_twice(config: PostgresConfig, postgres: Any) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="alg-relay-") as folder:
        relay = Relay(Path(folder), f"{postgres.folder}/.s.PGSQL.5432")
        url = f"postgresql:///postgres?host={folder}&user=alg"
        try:
            from adaptive_llm_gateway.memory._index import PendingChange

            with PostgresIndex(replace(config, url=url)) as index:
                relay.lose.set()
                made = record("once only")
                change = PendingChange(made.path, made.id, "write", made.title, made.author)
                seqs = index.apply([made], pending=[change])
                assert relay.lost == 1
                assert [entry.seq for entry in index.pending()] == seqs
                assert index.statistics()["memories"] == 1
        finally:
            relay.close()


def test_work_that_another_transaction_broke_off_is_repeated(config: PostgresConfig) -> None:
    tries: list[int] = []
    with PostgresIndex(config) as index:

        def work(connection: psycopg.Connection[Any]) -> str:
            tries.append(1)
            connection.execute("INSERT INTO meta VALUES ('tried', 'yes')")
            if len(tries) < 3:
                connection.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
            return "done"

        assert index._database.write(work) == "done"  # pyright: ignore[reportPrivateUsage]
        assert index.meta_get("tried") == "yes"


def test_a_server_that_is_not_there_is_named_without_the_password(tmp_path: Path) -> None:
    url = f"postgresql://hub:hunter2-plain@/memories?host={tmp_path}"

    with pytest.raises(Unavailable, match="cannot be reached") as failed:
        PostgresIndex(PostgresConfig(url, "hub"))

    assert "hunter2-plain" not in repr(failed.value.as_dict()) + repr(PostgresConfig(url))
    cause = failed.value.__cause__ or failed.value.__context__
    assert "hunter2-plain" not in repr(cause) + repr(getattr(cause, "__cause__", None))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hub:hunter2-plain@[/x",
        "mysql://hub:hunter2-plain@h/x",
        "password=hunter2-plain nonsense",
        "\0",
        "",
    ],
)
def test_a_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises((ConfigError, Unavailable)) as failed:
        look_at_postgres(PostgresConfig(url))

    assert "hunter2-plain" not in repr(failed.value.as_dict())


def test_a_database_that_does_not_exist_is_a_matter_of_configuration(postgres: Any) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        PostgresIndex(PostgresConfig(postgres.url("no_such_database"), "hub"))


def test_a_user_who_may_create_schemas_needs_no_more_once_pgvector_is_enabled(postgres: Any) -> None:
    name = f"plain_{secrets.token_hex(4)}"
    with psycopg.connect(postgres.url(), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN".encode())
        admin.execute(f"CREATE DATABASE {name}".encode())
    config = PostgresConfig(postgres.url(name).replace("user=alg", f"user={name}"), "hub")

    with pytest.raises(ConfigError, match="not enabled"):
        PostgresIndex(config)
    with psycopg.connect(postgres.url(name), autocommit=True) as admin:
        admin.execute("CREATE EXTENSION vector")
        with pytest.raises(ReadOnly, match="cannot be written"):
            PostgresIndex(config)
        admin.execute(f"GRANT CREATE ON DATABASE {name} TO {name}".encode())
    with PostgresIndex(config) as index:
        index.set_embedder("model", 8)
        index.apply([record("something to find")])
        index.store_vectors([(index.backlog(1)[0][0], np.ones(8, np.float32))])
        assert index.search("something", vector=np.ones(8)).mode == "hybrid"
        index.tidy()


@pytest.mark.parametrize("schema", ["Upper", "with space", 'quo"te', "x" * 64, "1st", ""])
def test_a_schema_that_cannot_be_named_so_is_refused(schema: str, postgres: Any) -> None:
    with pytest.raises(ConfigError, match="schema"):
        PostgresIndex(PostgresConfig(postgres.url(), schema))


def test_without_the_driver_it_is_said_what_to_install() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from adaptive_llm_gateway.core import ConfigError\n"
        "from adaptive_llm_gateway.memory import PostgresConfig, look_at_postgres\n"
        "try:\n    look_at_postgres(PostgresConfig('postgresql://nowhere'))\n"
        "except ConfigError as error:\n    print(error, error.hint)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert "driver cannot be loaded" in done.stdout
    assert "adaptive-llm-gateway[postgres]" in done.stdout


def test_what_answers_is_told_in_a_line(postgres: Any) -> None:
    said = look_at_postgres(PostgresConfig(postgres.url()))

    assert said.startswith("PostgreSQL 1")
    assert "pgvector 0." in said


# --- What is there already ----------------------------------------------------------------------------------------


def test_a_newer_format_is_told_apart_and_not_touched(config: PostgresConfig, admin: psycopg.Connection[Any]) -> None:
    with PostgresIndex(config) as index:
        index.apply([record()])
    admin.execute(f"UPDATE {config.schema}.meta SET value = '99' WHERE key = 'format'".encode())  # noqa: S608

    with pytest.raises(FormatTooNew, match="99"):
        PostgresIndex(config)

    assert admin.execute(f"SELECT count(*) FROM {config.schema}.memories".encode()).fetchone() == (1,)  # noqa: S608


def test_a_schema_with_other_tables_is_left_alone(config: PostgresConfig, admin: psycopg.Connection[Any]) -> None:
    admin.execute(f"CREATE SCHEMA {config.schema} CREATE TABLE meta (key text, value text)".encode())

    with pytest.raises(ConfigError, match="other tables"):
        PostgresIndex(config)


@pytest.mark.parametrize(
    "damage", ["DROP TABLE {}.postings", "UPDATE {}.meta SET value = '0' WHERE key = 'format'", "DROP TABLE {}.vectors"]
)
def test_a_damaged_index_is_set_aside_and_built_anew(
    bench: Any, config: PostgresConfig, admin: psycopg.Connection[Any], damage: str
) -> None:
    store = bench.open(postgres=config)
    kept = bench.write(store, "Kept", body="text to find\n").id
    gone = bench.write(store, "Gone", body="of no use\n").id
    store.write(DeleteMemory(author=bench.me, id=gone))
    store.close()
    admin.execute(damage.format(config.schema).encode())

    again = bench.open(postgres=config)

    assert [hit.record.id for hit in again.search("text to find").hits] == [kept]
    assert [stone.id for stone in again.deleted()] == [gone]
    assert any("damaged" in notice for notice in again.status().notices)
    like = f"{str(config.schema)[:40]}_damaged_%"
    assert admin.execute("SELECT 1 FROM pg_namespace WHERE nspname LIKE %s", (like,)).fetchall()


def test_nul_comes_back_and_is_found_around(open_postgres: Callable[[], MemoryIndex]) -> None:
    whole = record("before\0after words", "ti\0tle", source="so\0urce", tags=("t\0ag",), project="pro\0ject")
    with closing(open_postgres()) as index:
        index.apply([whole])

        assert index.get(whole.id) == whole
        assert index.list(Filters(project="PRO\0JECT", tags=("t\0ag",))).records == (whole,)
        assert [hit.record for hit in index.search("after").hits] == [whole]
