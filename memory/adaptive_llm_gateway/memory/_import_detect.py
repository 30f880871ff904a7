"""Telling the kinds of import sources apart by what lies there."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

from adaptive_llm_gateway.core import InvalidInput, NotFound
from adaptive_llm_gateway.memory._import import IMPORT_KINDS, ImportKind, SkippedFile
from adaptive_llm_gateway.memory._import_files import MARKDOWN, Unreadable, read_bytes, read_text, walk
from adaptive_llm_gateway.memory._import_text import split_front_matter

_SAMPLE = 60
_CLAUDE_FILES = ("CLAUDE.md", "CLAUDE.local.md")
_HEAD = 200_000_000


def detect(path: Path) -> ImportKind:
    """See `_import.detect_kind`."""
    if path.is_file():
        return _detect_file(path)
    if not path.is_dir():
        raise NotFound(f"there is nothing at {str(path)!r}", hint="Check the path.", path=str(path))
    if path.name == ".claude" or _is_auto_memory(path):
        return "claude-code"
    skipped: list[SkippedFile] = []
    notes = [
        found.disk
        for found in islice(walk(path, skipped), 20_000)
        if found.path.casefold().endswith(MARKDOWN) and found.disk.name not in _CLAUDE_FILES
    ]
    if _mostly_basic_memory(notes):
        return "basic-memory"
    if (path / ".obsidian").is_dir():
        return "obsidian"
    is_project = (path / ".claude").is_dir() or any((path / name).is_file() for name in _CLAUDE_FILES)
    if is_project and len(notes) > _SAMPLE:
        raise _unclear(path, "holds Claude Code's memory and a large folder of Markdown", ("claude-code", "markdown"))
    if is_project:
        return "claude-code"
    if notes:
        return "markdown"
    raise _unclear(path, "holds no Markdown and nothing else that can be imported", IMPORT_KINDS)


def _unclear(path: Path, what: str, kinds: tuple[ImportKind, ...]) -> InvalidInput:
    return InvalidInput(
        f"cannot tell what to import: {str(path)!r} {what}",
        hint=f"Name the kind: {' or '.join(kinds)}.",
        path=str(path),
        kinds=list(kinds),
    )


def _detect_file(path: Path) -> ImportKind:
    if path.name in _CLAUDE_FILES or (path.suffix.casefold() in MARKDOWN and _is_auto_memory(path.parent)):
        return "claude-code"
    if path.suffix.casefold() in MARKDOWN:
        return "markdown"
    if path.suffix.casefold() in (".jsonl", ".json", ".ndjson") and _is_graph(path):
        return "mcp-memory"
    raise _unclear(path, "is neither Markdown nor the official memory server's JSONL", IMPORT_KINDS)


def _is_auto_memory(path: Path) -> bool:
    return (path / "MEMORY.md").is_file()


def _is_graph(path: Path) -> bool:
    """Whether one of the first lines, or the whole file, is an entity or a relation."""
    try:
        data, _ = read_bytes(path, limit=_HEAD)
    except Unreadable:
        return False
    for line in data.split(b"\n", 50)[:50]:
        match _loaded(line):
            case {"type": "entity", "name": _} | {"type": "relation", "from": _}:
                return True
            case {"entities": [*_]}:
                return True
            case _:
                pass
    match _loaded(data):
        case {"entities": [*_]}:
            return True
        case _:
            return False


def _loaded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _mostly_basic_memory(notes: list[Path]) -> bool:
    """Whether most of a sample has the three fields that basic-memory writes into each note."""
    step = max(1, len(notes) // _SAMPLE)
    sample = notes[::step][:_SAMPLE]
    theirs = 0
    for note in sample:
        try:
            fields = split_front_matter(read_text(note).text).fields
        except Unreadable:
            continue
        theirs += {"title", "type", "permalink"} <= set(fields)
    return bool(sample) and theirs * 2 > len(sample)
