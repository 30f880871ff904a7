"""Other memory servers, installed into folders of their own and driven by the same client on the same memories.

Each is run as its documentation says, without vectors where its model would have to be downloaded. A start is timed to
the answer of `initialize`, as for us; they are one process per client, so their memory counts for each client.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _bench import Bench
from _client import INITIALIZE, Client, Failed
from _install import environment, run, version
from _measure import Row, load_average, milliseconds, row, say, tree_memory_of

_INDEX_SECONDS = 3_600
_SETTLE_SECONDS = 600.0
_WARM_UP = 5
_BASIC_MEMORIES = 1_000


@dataclass(frozen=True, slots=True)
class Server:
    """An installed server with its memories loaded, ready to be started.

    Attributes:
        version: as the package says.
        note: what a reader must know about the comparison.
    """

    command: Sequence[str]
    env: Mapping[str, str]
    version: str
    note: str
    write_tool: str
    write_arguments: Callable[[int, Mapping[str, Any]], dict[str, Any]]
    search_tool: str
    search_arguments: Callable[[str], dict[str, Any]]


def markdown_vault_mcp(bench: Bench, folder: Path) -> Server:
    """markdown-vault-mcp from PyPI over the same Markdown files, its index built beforehand."""
    python = environment(folder, ["markdown-vault-mcp"], env=bench.env)
    vault = _vault(bench, folder)
    env = {
        **bench.env,
        "MARKDOWN_VAULT_MCP_SOURCE_DIR": str(vault),
        "MARKDOWN_VAULT_MCP_INDEX_PATH": str(folder / "index.db"),
        "MARKDOWN_VAULT_MCP_READ_ONLY": "false",
    }
    program = str(python.with_name("markdown-vault-mcp"))
    run([program, "index", "--index-path", str(folder / "index.db")], env=env, seconds=_INDEX_SECONDS)
    return Server(
        command=[program, "serve"],
        env=env,
        version=version(python, "markdown-vault-mcp"),
        note="keyword search, no vectors, no git, no fsync",
        write_tool="write",
        write_arguments=lambda number, memory: {
            "path": f"notes/bench/{number}.md",
            "content": memory["body"],
            "frontmatter": {"title": memory["title"], "tags": memory["tags"]},
        },
        search_tool="search",
        search_arguments=lambda query: {"query": query, "limit": 10, "mode": "keyword"},
    )


def basic_memory(bench: Bench, folder: Path) -> Server:
    """basic-memory from PyPI over a part of the same Markdown files, its text index built beforehand."""
    # It asks for a certifi that not every package index has; any recent one does.
    python = environment(folder, ["basic-memory"], env=bench.env, oldest=(3, 12), override="certifi>=2025\n")
    vault = _vault(bench, folder, most=_BASIC_MEMORIES)
    user = folder / "user"
    user.mkdir()
    env = {**bench.env, "HOME": str(user), "BASIC_MEMORY_HOME": str(vault), "HF_HUB_OFFLINE": "1"}
    program = str(python.with_name("basic-memory"))
    run([program, "reindex", "--search"], env=env, seconds=_INDEX_SECONDS)
    return Server(
        command=[program, "mcp"],
        env=env,
        version=version(python, "basic-memory"),
        note=f"text search, no vectors, no git; over {min(_BASIC_MEMORIES, bench.size.memories):,} of the memories, "
        "because it takes in only a few files a second",
        write_tool="write_note",
        write_arguments=lambda number, memory: {
            "title": f"{memory['title']} {number}",
            "content": memory["body"],
            "directory": "bench",
            "tags": memory["tags"],
        },
        search_tool="search_notes",
        search_arguments=lambda query: {"query": query, "search_type": "text", "page_size": 10},
    )


def official_memory(bench: Bench, folder: Path) -> Server:
    """@modelcontextprotocol/server-memory from npm, one entity for each memory."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise Failed("npm and node are not installed")
    package = "@modelcontextprotocol/server-memory"
    folder.mkdir(parents=True)
    run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), package], env=dict(os.environ))
    lines = [
        json.dumps({"type": "entity", "name": path.stem, "entityType": path.parts[-4], "observations": [text]})
        for path, text in _texts(bench)
    ]
    (folder / "memory.jsonl").write_text("\n".join(lines), "utf-8")
    installed = folder / "node_modules" / package
    return Server(
        command=[str(folder / "node_modules" / ".bin" / "mcp-server-memory")],
        env={**bench.env, "MEMORY_FILE_PATH": str(folder / "memory.jsonl")},
        version=json.loads((installed / "package.json").read_text("utf-8"))["version"],
        note="finds the whole query as a substring, no ranking; rewrites its file at each write",
        write_tool="create_entities",
        write_arguments=lambda number, memory: {
            "entities": [
                {"name": f"{memory['title']} {number}", "entityType": memory["type"], "observations": [memory["body"]]}
            ]
        },
        search_tool="search_nodes",
        search_arguments=lambda query: {"query": query},
    )


PEERS: dict[str, Callable[[Bench, Path], Server]] = {
    "markdown-vault-mcp": markdown_vault_mcp,
    "official memory server": official_memory,
    "basic-memory": basic_memory,
}


def measure(bench: Bench, name: str, ours: Mapping[str, Row]) -> tuple[list[Row], dict[str, Any]]:
    """Install and measure one of them: its rows, each against ours of the same run, and what else is to be told.

    Args:
        ours: our rows `start`, `write` and `search`, as far as they were measured.
    """
    before = load_average()
    rows: list[Row] = []
    about: dict[str, Any] = {"failed": None}
    folder = bench.root / name.replace(" ", "-")
    try:
        say(f"{name}: installing and loading")
        server = PEERS[name](bench, folder)
        about |= {"version": server.version, "note": server.note}
        rows = _drive(bench, name, server, ours)
    except (Failed, OSError, subprocess.SubprocessError, LookupError, ValueError) as error:
        about["failed"] = f"{type(error).__name__}: {error}"[-1_500:]
        say(f"{name} failed: {about['failed']}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows, {**about, "load_average": {"before": before, "after": load_average()}}


def _drive(bench: Bench, name: str, server: Server, ours: Mapping[str, Row]) -> list[Row]:
    size = bench.size
    queries, writes = bench.queries(), bench.writes()
    starts: list[float] = []
    for turn in range(min(size.starts, 5) + 1):
        taken: list[float] = []
        with milliseconds(taken):
            client = Client(server.command, env=server.env, handshake=False)
            client.request("initialize", INITIALIZE)
        client.close()
        if turn:
            starts += taken
    searches: list[float] = []
    writing: list[float] = []
    with Client(server.command, env=server.env) as client:
        _settle(client.process.pid)
        for number, query in enumerate(queries[: _WARM_UP + min(size.searches, 100)]):
            with milliseconds(searches):
                client.call(server.search_tool, **server.search_arguments(query))
            if number < _WARM_UP:
                searches.clear()
        for number, memory in enumerate(writes[: _WARM_UP + min(size.writes, 50)]):
            with milliseconds(writing):
                client.call(server.write_tool, **server.write_arguments(number, memory))
            if number < _WARM_UP:
                writing.clear()
        resident = tree_memory_of(client.process.pid)
    rows = [
        row(f"{name}: start to `initialize` answered", "ms", starts, of="peer", against=ours.get("start")),
        row(f"{name}: one write", "ms", writing, of="peer", against=ours.get("write")),
        row(f"{name}: search", "ms", searches, of="peer", against=ours.get("search")),
        row(f"{name}: resident memory, each client", "MB", [resident.rss], of="peer", against=ours.get("memory")),
    ]
    for item in rows:
        say(f"  {item.what}: median {item.median} {item.unit} (min {item.min}, p95 {item.p95}, max {item.max})")
    return rows


def _settle(pid: int) -> None:
    """Wait until a server has done what it does after a start: one second without CPU time."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    last, quiet = -1.0, 0
    while time.monotonic() < deadline and quiet < 4:
        used = _cpu_seconds(pid)
        quiet = quiet + 1 if used - last < 0.03 else 0
        last = used
        time.sleep(0.25)


def _cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far; 0 where there is no /proc."""
    total, pids = 0.0, [pid]
    while pids:
        current = pids.pop()
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{current}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            for task in Path(f"/proc/{current}/task").glob("*/children"):
                pids += map(int, task.read_text("ascii").split())
    return total


def _vault(bench: Bench, folder: Path, *, most: int | None = None) -> Path:
    """A copy of the memories' files alone, or of `most` of them, spread over all."""
    repo, vault = bench.prepared() / "home" / "memory", folder / "vault"
    files = sorted(repo.glob("*/*/*/*.md"))
    for file in files[:: max(1, len(files) // most)] if most else files:
        copy = vault / file.relative_to(repo)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    return vault


def _texts(bench: Bench) -> list[tuple[Path, str]]:
    files = sorted((bench.prepared() / "home" / "memory").glob("*/*/*/*.md"))
    return [(path, path.read_text("utf-8").split("\n---\n", 1)[1]) for path in files]
