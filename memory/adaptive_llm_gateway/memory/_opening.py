"""Open the index that the settings name; a damaged one is set aside, since the files can give it again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

from adaptive_llm_gateway.core import ConfigError, StorageError
from adaptive_llm_gateway.memory._files import storage_errors
from adaptive_llm_gateway.memory._index import CorruptIndex, Index
from adaptive_llm_gateway.memory._index_schema import set_aside
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._qdrant import QdrantServer
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_checks import translated
from adaptive_llm_gateway.memory._requests import PostgresConfig, QdrantConfig, StoreSettings

_log = logging.getLogger(__name__)


def open_repo(settings: StoreSettings, guard: Callable[[Path], object]) -> MemoryRepo:
    """The memory repo that the settings name, on the branch that they name.

    Args:
        guard: see `MemoryRepo.open`.

    Raises:
        ConfigError: it is on another branch.
        StorageError: it is gone, or no memory repo; see `MemoryRepo.open`.
    """
    wanted = settings.branch
    if settings.name is not None and settings.index.exists() and not (settings.repo / ".git").exists():
        # Its place may be a disk that is not there: an empty one in its stead would pass for the repo.
        raise StorageError(
            f"the memory repo {settings.name!r} is not at {str(settings.repo)!r} any more",
            hint="Bring the folder back, or correct its path in the configuration. To begin anew there, make an empty "
            "git repository in it (`git init`).",
            path=str(settings.repo),
            reason="gone",
        )
    repo = MemoryRepo.open(settings.repo, default_branch=wanted or "main", clock=settings.clock, guard=guard)
    if wanted is None or repo.operation() is not None or repo.branch == wanted:
        return repo
    name, root, git = f"refs/heads/{wanted}", MemoryRepo.root_commit_id(), repo.thread_repo
    with translated(settings.repo):
        there = git.references.get(name)
        if repo.head() != root or (there is not None and str(there.target) != root):
            raise ConfigError(
                f"the memory repo at {str(settings.repo)!r} is on the branch {repo.branch!r}, and the configuration "
                f"says {wanted!r}",
                hint=f"Switch with `git switch {wanted}` there, or name {repo.branch!r} in the configuration.",
                key=f"repos.{settings.name}.branch",
            )
        if there is None:  # nothing was written to it yet
            git.references.create(name, root)
        git.set_head(name)
    return repo


def open_index(settings: StoreSettings, hub: str) -> tuple[MemoryIndex, bool, list[str]]:
    """(the index, whether it is new and has to be filled, what to tell the user).

    Args:
        hub: the hub's name, after which its schema in PostgreSQL, or its collections in Qdrant, are called.

    Raises:
        ConfigError: PostgreSQL or Qdrant is wanted, and its settings or the installation do not fit.
        FormatTooNew, StorageError, Unavailable: it cannot be opened.
    """
    if settings.postgres is not None:
        return _open_postgres(settings.postgres, hub)
    path = settings.index
    server = QdrantServer(settings.qdrant, hub) if settings.qdrant is not None else None
    with storage_errors(f"create {str(path.parent)!r}"):
        path.parent.mkdir(parents=True, exist_ok=True)
    existed = path.exists()
    try:
        return Index(path, qdrant=server), not existed, []
    except CorruptIndex as error:
        with storage_errors("set the damaged index aside"):
            aside = set_aside(path)
        index = Index(path, qdrant=server)
        index.adopt(aside)
        return index, True, [rebuilt(error, aside.name)]


def look_at_postgres(config: PostgresConfig) -> str:
    """What answers at the URL, in a line; changes nothing.

    Raises:
        ConfigError: the URL or the installation does not fit, the server lets nobody in or lacks pgvector.
        Unavailable: no server answers.
    """
    with _driver():
        from adaptive_llm_gateway.memory._postgres_schema import look  # noqa: PLC0415 - an extra
    return look(config)


def look_at_qdrant(config: QdrantConfig) -> str:
    """What answers at the URL, in a line; changes nothing.

    Raises:
        ConfigError: the URL or the installation does not fit.
        Unavailable: no server answers, or it lets nobody in.
    """
    server = QdrantServer(config, "")
    try:
        server.look()
        return f"vectors are searched by Qdrant {server.version()} at {server.url!r}"
    finally:
        server.close()


def _open_postgres(config: PostgresConfig, hub: str) -> tuple[MemoryIndex, bool, list[str]]:
    with _driver():
        # An extra, and half a second to import.
        from adaptive_llm_gateway.memory._index_postgres import PostgresIndex  # noqa: PLC0415
        from adaptive_llm_gateway.memory._postgres import schema_for  # noqa: PLC0415
    if config.schema is None:
        config = replace(config, schema=schema_for(hub))
    try:
        index = PostgresIndex(config)
        return index, index.created, []
    except CorruptIndex as error:
        aside = PostgresIndex.set_aside(config)
        index = PostgresIndex(config)
        index.adopt(aside)
        return index, True, [rebuilt(error, aside)]


@contextlib.contextmanager
def _driver() -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"the index is to be in PostgreSQL, but its driver cannot be loaded: {error}",
            hint="Install it with `pip install 'adaptive-llm-gateway[postgres]'`.",
        ) from None


def rebuilt(error: CorruptIndex, aside: str) -> str:
    old = "of an older version" if "older format" in str(error) else "damaged"
    notice = f"The index was {old} ({error}); it is being rebuilt from the memory files, the old one is {aside}."
    _log.warning("%s", notice)
    return notice
