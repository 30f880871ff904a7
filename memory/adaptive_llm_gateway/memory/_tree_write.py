"""Writing git trees in process: only the folders on the way to a changed file are written anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pygit2
from pygit2.enums import FileMode

from adaptive_llm_gateway.core import InvalidInput

Placed = tuple[str, FileMode] | None
"""Blob id and mode of a file; None where it goes."""


def write_tree(
    repo: pygit2.Repository, base: pygit2.Tree | None, entries: Mapping[str, Placed], written: set[str]
) -> str:
    """Write the trees of `base` with `entries` in it and return the top one's id; folders that become empty go.

    Args:
        written: gets the ids of the trees.

    Raises:
        InvalidInput: a file where a folder is, or the reverse.
    """
    try:
        return _write(repo, base, entries, written)
    except InvalidInput:
        gone = {path: None for path, entry in entries.items() if entry is None}
        if not gone or len(gone) == len(entries):
            raise
        # A file may take the place of a folder that goes in the same commit, and the reverse.
        without = repo[_write(repo, base, gone, written)].peel(pygit2.Tree)
        return _write(repo, without, {path: entry for path, entry in entries.items() if entry}, written)


def _write(repo: pygit2.Repository, base: pygit2.Tree | None, entries: Mapping[str, Placed], written: set[str]) -> str:
    nested: dict[str, Any] = {}
    for path, entry in entries.items():
        folder: dict[str, Any] = nested
        *parents, name = path.split("/")
        for parent in parents:
            below: Any = folder.setdefault(parent, {})
            if not isinstance(below, dict):
                raise InvalidInput(f"{path!r} lies below another file", path=path)
            folder = cast(dict[str, Any], below)
        if isinstance(folder.get(name), dict):
            raise InvalidInput(f"{path!r} is a file and a folder", path=path)
        folder[name] = entry
    tree = _write_folder(repo, base, nested, written)
    if tree is None:
        tree = str(repo.TreeBuilder().write())
        written.add(tree)
    return tree


def _write_folder(
    repo: pygit2.Repository, base: pygit2.Tree | None, nested: dict[str, Any], written: set[str]
) -> str | None:
    builder = repo.TreeBuilder() if base is None else repo.TreeBuilder(base)
    for name, entry in nested.items():
        old = base[name] if base is not None and name in base else None
        if isinstance(entry, dict):
            if old is not None and not isinstance(old, pygit2.Tree):
                raise InvalidInput(f"{name!r} is a file in the memory repo, not a folder", path=name)
            folder = _write_folder(repo, old, cast(dict[str, Any], entry), written)
            if folder is not None:
                builder.insert(name, folder, FileMode.TREE)
            elif old is not None:
                builder.remove(name)
        elif isinstance(old, pygit2.Tree):
            raise InvalidInput(f"{name!r} is a folder in the memory repo, not a file", path=name)
        elif entry is not None:
            builder.insert(name, entry[0], entry[1])
        elif old is not None:
            builder.remove(name)
    if not len(builder):
        return None
    tree = str(builder.write())
    written.add(tree)
    return tree
