"""Real stores for the memory tests, and what looks into them: git, files and index."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.memory import Author, MemoryStore, WriteMemory, WriteResult
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory.testing import temporary_store

WAIT = 30.0


class Bench:
    """What the fixture `bench` gives."""

    me = Author("test-client")

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def open(self, name: str = "one", **settings: Any) -> MemoryStore:
        """A store in a folder of that name; closed at the end, and openable again after `close`."""
        return self._stack.enter_context(temporary_store(self.folder / name, **settings))

    def write(self, store: MemoryStore, title: str, *, by: str = "test-client", **given: Any) -> WriteResult:
        return store.write(WriteMemory(author=Author(by), title=title, **given))

    def update(self, store: MemoryStore, id: str, **given: Any) -> WriteResult:
        return store.write(WriteMemory(author=self.me, id=id, **given))

    def file(self, store: MemoryStore, id: str) -> Path:
        record = store.record(id)
        assert record is not None
        return store.repo.path / record.path

    def noticed(self, store: MemoryStore, *paths: Path | str) -> None:
        """What a watcher does that saw these paths change (none: "look at everything")."""
        names = {
            path.relative_to(store.repo.path).as_posix() if isinstance(path, Path) else path for path in paths
        } or {""}
        store._edited(names)  # pyright: ignore[reportPrivateUsage]
        assert store.flush(WAIT)

    @contextlib.contextmanager
    def group(self, store: MemoryStore) -> Generator[None]:
        """Keep the writer waiting, so that what is submitted within forms one group."""
        gate, begun = threading.Event(), threading.Event()

        def hold() -> None:
            begun.set()
            gate.wait(WAIT)

        store._writer.run(hold)  # pyright: ignore[reportPrivateUsage]
        assert begun.wait(WAIT)
        try:
            yield
        finally:
            gate.set()

    def git(self, store: MemoryStore | Path, *arguments: str) -> str:
        folder = store.repo.path if isinstance(store, MemoryStore) else store
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=WAIT, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commits(self, store: MemoryStore) -> int:
        return int(self.git(store, "rev-list", "--count", "HEAD"))

    def lock_branch(self, store: MemoryStore) -> Path:
        """Make commits fail, as a git that was killed does; remove the file to let them go on."""
        lock = store.repo.git_dir / "refs" / "heads" / "main.lock"
        lock.touch()
        return lock

    def poll(self, condition: Callable[[], Any], what: str, *, wait: float = WAIT) -> Any:
        """Look until `condition` holds; its value."""
        deadline = time.monotonic() + wait
        while not (value := condition()):
            assert time.monotonic() < deadline, f"waited {wait:.0f} s in vain: {what}"
            threading.Event().wait(0.01)
        return value

    def followed(self, store: MemoryStore) -> None:
        """Git's own index, which follows when commits pause, says what the work tree and the last commit say."""
        self.poll(lambda: not self.git(store, "status", "--porcelain"), "git's own index")

    def tidy(self, store: MemoryStore) -> None:
        """Nothing is left over or differs: files, index, git's tree, git's index and journal say the same."""
        assert store.flush(WAIT)
        on_disk = {
            path.relative_to(store.repo.path).as_posix(): store.repo.blob_id(path.read_bytes())
            for path in store.repo.path.rglob("*.md")
            if ".git" not in path.parts
        }
        indexed = {record.path: record.version for record in store.records()}
        assert indexed == on_disk
        committed = {path: blob for path, blob in store.repo.tree_files().items() if path.endswith(".md")}
        assert committed == on_disk
        index = store._index  # pyright: ignore[reportPrivateUsage]
        # The journal is cleared a moment after whoever waits for the commit is told.
        self.poll(lambda: not index.pending(), "an empty journal")
        self.followed(store)
        assert not list((store.repo.git_dir / "alg-scratch").iterdir())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Stores, and what looks into them."""
    with contextlib.ExitStack() as stack:
        yield Bench(tmp_path / "bench", stack)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """An empty bare repository."""
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True, timeout=WAIT)
    return path


@pytest.fixture
def open_postgres(postgres: Any) -> Callable[[], MemoryIndex]:
    """Opens one and the same index in PostgreSQL each time."""
    from adaptive_llm_gateway.memory._index_postgres import PostgresIndex
    from adaptive_llm_gateway.memory._postgres import PostgresConfig

    config = PostgresConfig(postgres.url(), f"test_{secrets.token_hex(6)}")
    return lambda: PostgresIndex(config)


@pytest.fixture
def open_qdrant(qdrant: Any, tmp_path: Path) -> Callable[[], MemoryIndex]:
    """Opens one and the same index whose vectors are searched by Qdrant, and are there before each search."""
    from adaptive_llm_gateway.memory._qdrant import QdrantServer
    from adaptive_llm_gateway.memory._qdrant_vectors import QdrantVectors
    from adaptive_llm_gateway.memory._requests import QdrantConfig

    class SettledIndex(Index):
        def search(self, query: str, **options: Any) -> Any:
            held = self._held  # pyright: ignore[reportPrivateUsage]
            assert isinstance(held, QdrantVectors)
            assert held.settled(WAIT), held.trouble
            return super().search(query, **options)

    return lambda: SettledIndex(tmp_path / "index.db", qdrant=QdrantServer(QdrantConfig(qdrant.url), "hub"))


@pytest.fixture(params=["sqlite", "postgres", "qdrant"])
def open_index(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], MemoryIndex]:
    """Opens one and the same index each time, of every kind there is."""
    if request.param == "sqlite":
        return lambda: Index(tmp_path / "index.db")
    return request.getfixturevalue(f"open_{request.param}")
