"""markdown-vault-mcp and mcp-memory-service, each in an environment of its own, without the network at run time.

Both embed with the same float32 all-MiniLM-L6-v2, put where they would have downloaded it: for mcp-memory-service that
is its default model, for markdown-vault-mcp one of those that it knows (its default is bge-small-en-v1.5).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from _client import Client, Failed
from _install import environment, run, version
from _measure import say, tree_memory_of
from _metrics import DEPTH
from _units import Haystack, Question, Unit

_SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
_EXPORT = Path(__file__).resolve().with_name("_export_model.py")
_KEY = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b", re.IGNORECASE)
_SETTLE_SECONDS = 3_600.0
_MOST_REFUSED = 0.05


class _Store:
    """A running peer with a haystack in it; see `Loaded`."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], ask: Callable[[Client, Question, str], list[str]]
    ) -> None:
        self._command, self._env, self._ask = list(command), dict(env), ask
        self.client = Client(self._command, env=self._env)
        self.per_second = 0.0

    def ask(self, question: Question, mode: str) -> list[str]:
        return self._ask(self.client, question, mode)

    def memory(self) -> float:
        return tree_memory_of(self.client.process.pid).rss

    def commands(self) -> dict[str, tuple[Callable[[], object], Callable[[], Client]]]:
        return {"its process": (lambda: None, lambda: Client(self._command, env=self._env, handshake=False))}

    def close(self) -> None:
        self.client.close()


class MarkdownVault:
    """markdown-vault-mcp: each unit a note, day and speaker in its text."""

    modes = ("hybrid", "keyword")
    _PACKAGE, _VERSION = "markdown-vault-mcp", "5.1.0"

    def __init__(self, folder: Path, cache: Path | None) -> None:
        place = (cache or folder) / "peers"
        self._python = _installed(
            place / f"{self._PACKAGE}-{self._VERSION}", f"{self._PACKAGE}[embeddings]=={self._VERSION}"
        )
        self._models = place / "fastembed"
        snapshot = self._models / "models--Qdrant--all-MiniLM-L6-v2-onnx"
        if not (snapshot / "refs" / "main").exists():
            shutil.copytree(_model(place), snapshot / "snapshots" / "local", dirs_exist_ok=True)
            (snapshot / "refs").mkdir(exist_ok=True)
            (snapshot / "refs" / "main").write_text("local", "ascii")
        self.version = version(self._python, self._PACKAGE)
        self.note = (
            "hybrid is its default mode; fastembed with all-MiniLM-L6-v2 instead of its default bge-small-en-v1.5, "
            "which has to be downloaded; no git. Its keyword mode wants every word of the question in a note."
        )

    def load(self, haystack: Haystack, folder: Path) -> _Store:
        """See `Server.load`."""
        (folder / "vault").mkdir(parents=True)
        env = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "HF_HUB_OFFLINE": "1",
            "MARKDOWN_VAULT_MCP_SOURCE_DIR": str(folder / "vault"),
            "MARKDOWN_VAULT_MCP_INDEX_PATH": str(folder / "index.db"),
            "MARKDOWN_VAULT_MCP_EMBEDDINGS_PATH": str(folder / "embeddings"),
            "MARKDOWN_VAULT_MCP_READ_ONLY": "false",
            "MARKDOWN_VAULT_MCP_EMBEDDING_PROVIDER": "fastembed",
            "MARKDOWN_VAULT_MCP_FASTEMBED_MODEL": "sentence-transformers/all-MiniLM-L6-v2",
            "MARKDOWN_VAULT_MCP_FASTEMBED_CACHE_DIR": str(self._models),
        }
        store = _Store([str(self._python.with_name(self._PACKAGE)), "serve"], env, self._ask)
        try:
            start = time.perf_counter()
            for unit in haystack.units:
                front = {"created": unit.time.date().isoformat(), "author": unit.author}
                store.client.call("write", path=f"notes/{unit.key}.md", content=unit.dated, frontmatter=front)
            self._settle(store.client, len(haystack.units))
            store.per_second = len(haystack.units) / (time.perf_counter() - start)
        except BaseException:
            store.close()
            raise
        return store

    @staticmethod
    def _settle(client: Client, count: int) -> None:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            status = json.loads(client.call("get_index_status"))
            waiting = [status[name] for name in ("queue_depth", "in_flight", "dirty_paths", "dirty_embeddings")]
            if status["documents_indexed"] >= count and not any(waiting):
                return
            time.sleep(0.2)
        raise Failed(f"markdown-vault-mcp had not indexed {count} notes within {_SETTLE_SECONDS:.0f} s")

    @staticmethod
    def _ask(client: Client, question: Question, mode: str) -> list[str]:
        text = client.call("search", query=question.text, limit=DEPTH, mode=mode)
        return [Path(hit["path"]).stem for hit in json.loads(text or "[]")]


class MemoryService:
    """mcp-memory-service: a turn is a memory with day and speaker in its text, a session goes in by its own tool."""

    modes = ("hybrid", "semantic")
    _PACKAGE, _VERSION = "mcp-memory-service", "12.4.0"
    _MOST = 100  # hits that it gives; a session is found by its parts, so more of them are asked for

    def __init__(self, folder: Path, cache: Path | None) -> None:
        place = (cache or folder) / "peers"
        self._python = _installed(
            place / f"{self._PACKAGE}-{self._VERSION}",
            f"{self._PACKAGE}[sqlite]=={self._VERSION}",
            override="certifi>=2025\n",  # it asks for one that not every package index has
            sqlite_extensions=True,
        )
        self._model = _model(place)
        self.version = version(self._python, self._PACKAGE)
        self._refused = self._written = 0

    @property
    def note(self) -> str:
        """What a reader must know."""
        return (
            "semantic is its default mode; ONNX, all-MiniLM-L6-v2 cut at 128 tokens as its tokenizer file says; turns "
            f"carry their conversation's id, so that it does not refuse similar ones ({self._refused:,} of "
            f"{self._written:,} writes were refused as duplicates all the same); sessions are stored in parts, "
            f"and the best of {self._MOST} hits count."
        )

    def load(self, haystack: Haystack, folder: Path) -> _Store:
        """See `Server.load`."""
        onnx = folder / ".cache" / "mcp_memory" / "onnx_models" / "all-MiniLM-L6-v2" / "onnx"
        onnx.mkdir(parents=True)
        for file in self._model.iterdir():
            (onnx / file.name).symlink_to(file)
        env = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(folder),
            "HF_HUB_OFFLINE": "1",
            "MCP_MEMORY_BASE_DIR": str(folder / "data"),
            "MCP_MEMORY_STORAGE_BACKEND": "sqlite_vec",
            "MCP_MEMORY_USE_ONNX": "1",
            "MCP_MEMORY_ONNX_ALLOW_DOWNLOAD": "0",
        }
        most = self._MOST if haystack.units[0].turns else DEPTH
        store = _Store([str(self._python.with_name("memory")), "server"], env, partial(self._ask, most=most))
        try:
            start = time.perf_counter()
            for unit in haystack.units:
                self._write(store.client, unit)
            store.per_second = len(haystack.units) / (time.perf_counter() - start)
        except BaseException:
            store.close()
            raise
        return store

    def _write(self, client: Client, unit: Unit) -> None:
        if unit.turns:
            day = unit.time.date().isoformat()
            turns = [{"role": speaker, "content": f"[{day}] {text}"} for speaker, text in unit.turns if text.strip()]
            said = client.call("memory_store_session", turns=turns, session_id=unit.key)
        else:
            about = {"tags": unit.key, "type": "note"}
            said = client.call(
                "memory_store", content=unit.dated, metadata=about, conversation_id=unit.source or unit.key
            )
        self._written += 1
        if "stored successfully" not in said:
            self._refused += 1
            if self._refused > 20 and self._refused > _MOST_REFUSED * self._written:
                raise Failed(f"mcp-memory-service refuses what is written: {said[:300]}")

    @staticmethod
    def _ask(client: Client, question: Question, mode: str, *, most: int) -> list[str]:
        text = client.call("memory_search", query=question.text, mode=mode, limit=most)
        tags = [line for line in text.splitlines() if line.lstrip().startswith("Created:")]
        return list(dict.fromkeys(key.upper() for line in tags for key in _KEY.findall(line)))


def _installed(folder: Path, requirement: str, *, override: str = "", sqlite_extensions: bool = False) -> Path:
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        say(f"installing {requirement}")
        try:
            environment(
                folder, [requirement], env=dict(os.environ), override=override, sqlite_extensions=sqlite_extensions
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return python


def _model(place: Path) -> Path:
    """The folder with `model.onnx` (token states, float32) and the tokenizer's files, made once."""
    folder = place / "all-MiniLM-L6-v2"
    if not (folder / "model.onnx").exists():
        say("exporting all-MiniLM-L6-v2 for the peers; this installs torch, about five minutes")
        tools = place / "export"
        shutil.rmtree(tools, ignore_errors=True)
        requirements = _SCRIPTS / "export_model-requirements.txt"
        python, env = str(tools / "bin" / "python"), dict(os.environ)
        run([sys.executable, "-m", "venv", str(tools)], env=env)
        # By pip, not uv: the build of torch that is pinned comes from where pip's settings say.
        pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        run([*pip, "--requirement", str(requirements)], env=env)
        run([python, str(_EXPORT), str(folder)], env=env)
        shutil.rmtree(tools, ignore_errors=True)
    return folder
