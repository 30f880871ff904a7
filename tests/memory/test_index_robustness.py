from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import apsw
import numpy as np
import pytest

from adaptive_llm_gateway.core import FormatTooNew, StorageError, new_ulid
from adaptive_llm_gateway.memory._index import CorruptIndex, Index, PendingChange
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._sql import fetch_value, run
from adaptive_llm_gateway.memory._values import Author, Record

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_BASE = Record("", "note", "Title", "", "", "a" * 40, 0, 0, _NOW, _NOW, Author("codex"))


def record(body: str) -> Record:
    id_ = new_ulid()
    return replace(_BASE, id=id_, path=f"notes/{id_}.md", body=body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An index of 300 memories with vectors, closed."""
    path = tmp_path / "index.db"
    with Index(path) as index:
        index.set_embedder("model", 8)
        index.apply([record(f"memory number {n} of the whole lot") for n in range(300)])
        index.store_vectors([(chunk, np.ones(8, np.float32)) for chunk, _ in index.backlog(1_000)])
    return path


def test_a_newer_format_is_refused_and_not_touched(path: Path) -> None:
    connection = apsw.Connection(str(path))
    run(connection, "PRAGMA user_version = 99")
    connection.close()
    before = hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns, sorted(path.parent.iterdir())

    with pytest.raises(FormatTooNew, match="99"):
        Index(path)

    assert (
        hashlib.sha256(path.read_bytes()).digest(),
        path.stat().st_mtime_ns,
        sorted(path.parent.iterdir()),
    ) == before


def test_an_older_format_asks_for_a_rebuild(path: Path) -> None:
    connection = apsw.Connection(str(path))
    run(connection, "PRAGMA user_version = 0")
    connection.close()

    with pytest.raises(CorruptIndex, match="older"):
        Index(path)


@pytest.mark.parametrize("content", [b"not a database at all" * 50, b"SQLite format 3\0", b"\0" * 5_000])
def test_another_file_is_no_index(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "index.db"
    path.write_bytes(content)

    with pytest.raises(CorruptIndex):
        Index(path)

    assert path.read_bytes() == content


def test_a_database_of_another_program_is_no_index(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "other.db"))
    run(connection, "CREATE TABLE theirs (x)")
    connection.close()

    with pytest.raises(CorruptIndex):
        Index(tmp_path / "other.db")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_noticed_on_opening(path: Path, share: float) -> None:
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share))

    with pytest.raises(CorruptIndex, match="truncated"):
        Index(path)


def test_pages_of_garbage_are_reported_as_corruption_and_as_nothing_else(path: Path) -> None:
    whole = path.read_bytes()
    seen = 0
    for page in range(1, len(whole) // 4096):
        path.write_bytes(whole[: page * 4096] + b"\xa5" * 4096 + whole[(page + 1) * 4096 :])
        try:
            with Index(path) as index:
                index.search("memory number", vector=[1.0] * 8)
                index.search("")
                index.list()
                index.files()
                index.apply([record("one more memory")])
        except CorruptIndex:
            seen += 1
        for extra in ("-wal", "-shm"):
            path.with_name(path.name + extra).unlink(missing_ok=True)

    assert seen > 10


def test_a_missing_table_is_noticed_on_opening(path: Path) -> None:
    connection = apsw.Connection(str(path))
    run(connection, "DROP TABLE chunks")
    connection.close()

    with pytest.raises(CorruptIndex):
        Index(path)


def test_an_empty_file_becomes_an_index(tmp_path: Path) -> None:
    (tmp_path / "index.db").touch()

    with Index(tmp_path / "index.db") as index:
        assert index.statistics()["memories"] == 0


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="absent"):
        Index(tmp_path / "absent" / "index.db")


def test_readers_see_whole_transactions_while_others_write(open_index: Callable[[], MemoryIndex]) -> None:
    rounds, size = 40, 10
    failures: list[BaseException] = []
    done = threading.Event()
    with closing(open_index()) as index:
        index.set_embedder("model", 8)

        def read() -> None:
            try:
                while not done.is_set():
                    assert index.list(limit=1).total % size == 0
                    answer = index.search("common word", vector=[1.0] * 8, limit=50)
                    assert all("common" in hit.record.body for hit in answer.hits)
            except BaseException as error:  # noqa: BLE001 - handed to the test's thread
                failures.append(error)

        def embed() -> None:
            try:
                rng = np.random.default_rng(1)
                while not done.is_set():
                    index.store_vectors([(chunk, rng.random(8).astype(np.float32)) for chunk, _ in index.backlog(16)])
            except BaseException as error:  # noqa: BLE001 - handed to the test's thread
                failures.append(error)

        threads = [threading.Thread(target=read), threading.Thread(target=read), threading.Thread(target=embed)]
        for thread in threads:
            thread.start()
        try:
            last: list[Record] = []
            for number in range(rounds):
                fresh = [record(f"common word {number} {place}") for place in range(size)]
                index.apply(fresh, [entry.id for entry in last] if number % 3 == 0 else [])
                last = fresh if number % 3 != 0 else []
        finally:
            done.set()
            for thread in threads:
                thread.join(60)
        while backlog := index.backlog(500):
            index.store_vectors([(chunk, np.ones(8, np.float32)) for chunk, _ in backlog])

        assert failures == []
        done_count, total = index.vector_progress()
        assert done_count == total == index.statistics()["memories"]


_VICTIM = """
import os, sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
import numpy as np
from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.memory._index import Index, PendingChange
from adaptive_llm_gateway.memory._values import Author, Record

now = datetime(2026, 1, 1, tzinfo=UTC)
index = Index(Path(sys.argv[1]))
index.set_embedder("model", 8)
while True:
    made = []
    for _ in range(20):
        id_ = new_ulid()
        path = f"notes/{id_}.md"
        made.append(Record(id_, "note", "Title", "some words " * 50, path, "a" * 40, 0, 0, now, now, Author("x")))
    index.apply(made, pending=[PendingChange(r.path, r.id, "write", r.title, r.author) for r in made])
    index.store_vectors([(chunk, np.ones(8, np.float32)) for chunk, _ in index.backlog(20)])
    os.write(1, made[0].id.encode() + b"\\n")
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.parametrize("rounds", [1, 3, 7])
def test_a_killed_writer_leaves_whole_transactions_and_all_that_it_finished(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "index.db"
    with subprocess.Popen([sys.executable, "-c", _VICTIM, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        finished = [process.stdout.readline().strip() for _ in range(rounds)]
        os.kill(process.pid, signal.SIGKILL)

    with Index(path) as index:
        assert all(index.get(id_) is not None for id_ in finished)
        counts = index.statistics()
        assert counts["memories"] % 20 == 0
        assert len(index.pending()) == counts["memories"] == counts["chunks"]
        assert index.vector_progress()[0] == counts["vectors"]
        assert len(index.search("some words", vector=[1.0] * 8).hits) == 1
        index.apply([record("life goes on")], pending=[PendingChange("x", new_ulid(), "write", "X", Author("x"))])
    connection = apsw.Connection(str(path))
    assert fetch_value(connection, "PRAGMA integrity_check") == "ok"
    connection.close()
