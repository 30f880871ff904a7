"""Where syncs are measured: a home of so many memories, built once, its bare remote, and clones of git alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import shutil
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pygit2
from _corpus import SEED, Corpus
from _measure import say
from pygit2.enums import FileMode

from adaptive_llm_gateway.memory import MemoryStore
from adaptive_llm_gateway.memory._embed import EmbedderConfig
from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._index_schema import FORMAT
from adaptive_llm_gateway.memory._requests import StoreSettings
from adaptive_llm_gateway.memory._tree_write import write_tree
from adaptive_llm_gateway.memory._vectorizer import space_of

_MADE = 1  # raised when homes are made in another way
_READY_SECONDS = 600.0
_BRANCH = "refs/heads/main"


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured.

    Attributes:
        rounds: of syncs with little to carry.
        changed: memories that come in, or are edited on both sides; `clashing` of the latter in the same line.
        few: rounds with that many.
        blocks, block: of writes without and with syncs, and how many writes a block has.
        clones: first pulls.
    """

    memories: int = 10_000
    rounds: int = 40
    changed: int = 1_000
    clashing: int = 100
    few: int = 3
    blocks: int = 10
    block: int = 100
    clones: int = 1
    whole: bool = True


QUICK = Amount(memories=60, rounds=3, changed=10, clashing=2, few=1, blocks=2, block=3, whole=False)


class Maker:
    """Makes homes.

    Args:
        folder: for this run.
        cache: for homes that later runs copy, too.
    """

    def __init__(self, folder: Path, cache: Path, amount: Amount) -> None:
        self.amount = amount
        self._folder, self._cache = folder, cache
        self._number = 0

    def prepare(self) -> Path:
        """The folder with the home that all others are copies of: `memory`, `index.db` and `remote.git`."""
        amount = self.amount
        facts = [_MADE, FORMAT, space_of(OnnxEmbedder()), amount.memories, amount.whole, SEED]
        key = hashlib.sha256(json.dumps([*facts, platform.python_version()]).encode()).hexdigest()[:12]
        kept = self._cache / f"sync-{amount.memories}-{key}"
        if not (kept / "remote.git").exists():
            shutil.rmtree(kept, ignore_errors=True)
            unfinished = kept.with_name(kept.name + ".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            _build(unfinished, amount)
            unfinished.rename(kept)
        return kept

    def place(self) -> Place:
        """A copy of it."""
        self._number += 1
        root = self._folder / f"place{self._number}"
        shutil.copytree(self.prepare(), root, symlinks=True)
        git(root / "memory", "status", "--porcelain")  # the copies' inodes are new to git's index
        return Place(root)


class Place:
    """A home with a bare remote beside it, that others push to."""

    def __init__(self, root: Path) -> None:
        self.root, self.bare = root, root / "remote.git"
        self._repo = pygit2.Repository(str(self.bare))

    @contextlib.contextmanager
    def store(self, home: Path | None = None, **settings: Any) -> Generator[MemoryStore]:
        """A store on the home, or on another folder, up to date with its own files."""
        home = home or self.root
        given: dict[str, Any] = {"embedder": EmbedderConfig(kind="none"), "push_after_write": False, **settings}
        store = MemoryStore(
            StoreSettings(repo=home / "memory", index=home / "index.db", host="bench", remote=str(self.bare), **given)
        )
        try:
            if not store.wait_ready(_READY_SECONDS):
                raise RuntimeError(f"the index was not ready within {_READY_SECONDS:.0f} s")
            yield store
        finally:
            store.close()

    def clone(self, name: str) -> Path:
        """A clone by git alone."""
        folder = self.root / name
        git(self.root, "clone", "--quiet", "--no-local", str(self.bare), str(folder))
        return folder

    def paths(self) -> list[str]:
        """The memories that the remote has."""
        listed = git(self.bare, "ls-tree", "-r", "--name-only", "main")
        return [line for line in listed.splitlines() if line.endswith(".md")]

    def read(self, path: str) -> Document:
        """A memory as the remote has it."""
        tree = self._repo.references[_BRANCH].peel(pygit2.Tree)
        blob = tree[path]
        assert isinstance(blob, pygit2.Blob)
        return Document.parse(blob.data, where=path)

    def others_push(self, files: Mapping[str, bytes], *, pack: bool = False) -> None:
        """A commit on the remote, as if another clone had pushed it.

        Args:
            pack: leave a pack, as a push of more than a hundred objects does.
        """
        head = self._repo.references[_BRANCH]
        entries = {path: (str(self._repo.create_blob(data)), FileMode.BLOB) for path, data in files.items()}
        tree = write_tree(self._repo, head.peel(pygit2.Tree), entries, set())
        who = pygit2.Signature("Other", "other@example.org")
        self._repo.create_commit(_BRANCH, who, who, f"Change {len(files)} memories\n", tree, [head.target])
        if pack:
            git(self.bare, "repack", "-d", "-q")


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    """Run git in a folder; its stdout."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)} failed: {done.stderr.strip()}")
    return done.stdout


def _build(root: Path, amount: Amount) -> None:
    say(f"preparing a home with {amount.memories:,} memories")
    repo = root / "memory"
    repo.mkdir(parents=True)
    pygit2.init_repository(str(root / "remote.git"), bare=True, initial_head="main")
    place = Place(root)
    with place.store():
        pass
    for memory in Corpus(whole=amount.whole).memories(amount.memories):
        path = repo / memory.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(memory.text, "utf-8")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--no-verify", "--message", "Load the benchmark's memories")
    git(repo, "gc", "--quiet")
    git(repo, "push", "--quiet", str(root / "remote.git"), "main")
    git(repo, "update-ref", "refs/remotes/origin/main", "main")
    with place.store() as store:
        if store.status().memories != amount.memories:
            raise RuntimeError(f"the index has {store.status().memories} of {amount.memories} memories")
    git(repo, "remote", "remove", "origin")  # its address is of this folder
    _fill_vectors(root / "index.db")


def _fill_vectors(file: Path) -> None:
    """Vectors of noise for all: only what comes in later is embedded while something is measured."""
    embedder = OnnxEmbedder()
    generator = np.random.default_rng(SEED)
    with Index(file) as index:
        index.set_embedder(space_of(embedder), embedder.dimensions)
        while backlog := index.backlog(2_000):
            noise = generator.standard_normal((len(backlog), embedder.dimensions), np.float32)
            index.store_vectors([(chunk, vector) for (chunk, _), vector in zip(backlog, noise, strict=True)])
        index.tidy()
