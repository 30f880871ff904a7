"""The memory repos of a home, from the configuration: where each is, what is written there, what its remote may get."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adaptive_llm_gateway.core import ConfigError, Home, Settings, Trust
from adaptive_llm_gateway.memory import PERSONAL

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import Memories, RepoPlace, StoreSettings

_SCHEME = re.compile(r"(?:git\+)?([a-z][a-z0-9]*)(?:\+git)?://(?:[^/@]*@)?([^/:]*)(?::[0-9]+)?/*(.*)", re.IGNORECASE)
_SSH = re.compile(r"(?:[^/@]*@)?([^/:@]+):(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RepoInfo:
    """A memory repo as it is configured."""

    name: str
    path: Path
    index: Path
    remote: str | None
    projects: tuple[str, ...] = ()
    trust: Trust = Trust.SECRET
    read_only: bool = False
    branch: str | None = None
    remote_allowances: Literal["ask", "trust"] = "ask"

    @property
    def key(self) -> str:
        """The section of the configuration that is about it."""
        return "sync" if self.name == PERSONAL else f"repos.{self.name}"


def configured_repos(home: Home, settings: Settings) -> list[RepoInfo]:
    """Every memory repo, the personal one first. Nothing is looked at on disk."""
    sync = settings.sync
    personal = RepoInfo(
        PERSONAL,
        settings.memory.path or home.memory,
        home.index,
        sync.remote,
        trust=Trust(sync.trust),
        read_only=sync.read_only,
    )
    return [
        personal,
        *(
            RepoInfo(
                name,
                repo.path or home.further_repo(name),
                home.further_index(name),
                repo.remote,
                repo.projects,
                Trust(repo.trust),
                repo.read_only,
                repo.branch,
                repo.remote_allowances,
            )
            for name, repo in settings.repos.items()
        ),
    ]


def check_apart(repos: Sequence[RepoInfo]) -> None:
    """Make sure that no two repos share files or a remote.

    Raises:
        ConfigError: two lie in one place, one lies within another, or two have one remote.
    """
    for one, other in itertools.combinations(repos, 2):
        first, second = (Path(os.path.realpath(repo.path)) for repo in (one, other))
        if first == second or _is_same(first, second):
            raise ConfigError(
                f"the repos {one.name!r} and {other.name!r} have the same path {str(other.path)!r}",
                hint="Give each a folder of its own.",
                key=f"{other.key}.path",
            )
        if first in second.parents or second in first.parents:
            inner, outer = (one, other) if second in first.parents else (other, one)
            raise ConfigError(
                f"the repo {inner.name!r} at {str(inner.path)!r} lies within the repo {outer.name!r} at "
                f"{str(outer.path)!r}",
                hint="Give each a folder of its own, side by side.",
                key=f"{inner.key}.path",
            )
        if one.remote and other.remote and _address(one.remote) == _address(other.remote):
            raise ConfigError(
                f"the repos {one.name!r} and {other.name!r} have the same remote: each would get what belongs to the "
                "other",
                hint="Give each a remote of its own, or put their projects into one repo.",
                key=f"{other.key}.remote",
            )


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)  # names that differ, on a file system that does not tell them apart
    except OSError:
        return False


def _address(remote: str) -> str:
    """A remote's address without what does not change where it leads: user, `.git`, slashes, the way ssh is written."""
    text = remote.strip()
    if (url := _SCHEME.fullmatch(text)) is not None:
        scheme, host, path = url[1].lower(), url[2].lower(), url[3]
        found = os.path.realpath("/" + path) if scheme == "file" else f"{host}/{path}"
    elif (ssh := _SSH.fullmatch(text)) is not None and not Path(text).exists():
        found = f"{ssh[1].lower()}/{ssh[2].lstrip('/')}"
    else:
        found = os.path.realpath(os.path.expanduser(text))  # noqa: PTH111 - of no use where it is a URL
    return found.rstrip("/").removesuffix(".git").rstrip("/")


def open_memories(home: Home, settings: Settings, personal: StoreSettings) -> Memories:
    """The store of the one memory repo, or those of several.

    Raises:
        ConfigError: they get in each other's way.
        AlgError: none can be opened.
    """
    if not settings.repos:
        from adaptive_llm_gateway.memory import MemoryStore  # noqa: PLC0415 - after the hub listens

        return MemoryStore(personal)
    from adaptive_llm_gateway.memory import MemoryStores  # noqa: PLC0415 - as above

    repos = configured_repos(home, settings)
    check_apart(repos)
    return MemoryStores([_place(repo, personal) for repo in repos])


def _place(repo: RepoInfo, personal: StoreSettings) -> RepoPlace:
    from adaptive_llm_gateway.memory import RepoPlace  # noqa: PLC0415 - after the hub listens

    if repo.name == PERSONAL:
        return RepoPlace(repo.name, replace(personal, name=repo.name))
    postgres = personal.postgres
    if postgres is not None and postgres.schema is not None:
        postgres = replace(postgres, schema=f"{postgres.schema}_{repo.name.replace('-', '_')}")
    settings = replace(
        personal,
        repo=repo.path,
        index=repo.index,
        remote=repo.remote,
        postgres=postgres,
        name=repo.name,
        branch=repo.branch,
        trust=repo.trust,
        read_only=repo.read_only,
        notices=(),
        remote_allowances=repo.remote_allowances,
    )
    return RepoPlace(repo.name, settings, repo.projects)


def personal_sync(store: dict[str, Any]) -> Any:
    """How the personal repo stands, by the hub's status, also where there are several."""
    repos: list[dict[str, Any]] = store.get("repos", [])
    return next((repo["sync"] for repo in repos if repo["name"] == PERSONAL), store["sync"])
