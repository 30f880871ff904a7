"""Writing git trees in process: only the folders on the way to a changed file are written anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pygit2
from pygit2.enums import FileMode, ObjectType

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory._tree_diff import child, raw_name

Placed = tuple[str, int] | None
"""Blob id and mode of a file; None where it goes."""


def write_tree(
    repo: pygit2.Repository, base: pygit2.Tree | None, entries: Mapping[str, Placed], written: set[str]
) -> str:
    """Write the trees of `base` with `entries` in it and return the top one's id; folders that become empty go.

    What `base` has beside them stays, whatever its name and mode are: a remote's tree may have what no work tree can.

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
    changes: dict[str, tuple[str, int] | None] = {}
    for name, entry in nested.items():
        old = child(base, name) if base is not None else None
        if isinstance(entry, dict):
            if old is not None and not isinstance(old, pygit2.Tree):
                raise InvalidInput(f"{name!r} is a file in the memory repo, not a folder", path=name)
            folder = _write_folder(repo, old, cast(dict[str, Any], entry), written)
            if folder is not None:
                changes[name] = (folder, FileMode.TREE)
            elif old is not None:
                changes[name] = None
        elif isinstance(old, pygit2.Tree) and not (entry is not None and entry[1] == FileMode.TREE):
            raise InvalidInput(f"{name!r} is a folder in the memory repo, not a file", path=name)
        elif entry is not None:
            changes[name] = (entry[0], int(entry[1]))
        elif old is not None:
            changes[name] = None
    try:
        tree = _built(repo, base, changes)
    except (
        pygit2.GitError,
        UnicodeEncodeError,
        TypeError,
    ):  # a name that libgit2 does not take, which a remote's tree may have
        tree = _assembled(repo, base, changes)
    if tree is not None:
        written.add(tree)
    return tree


def _built(
    repo: pygit2.Repository, base: pygit2.Tree | None, changes: Mapping[str, tuple[str, int] | None]
) -> str | None:
    builder = repo.TreeBuilder() if base is None else repo.TreeBuilder(base)
    for name, placed in changes.items():
        if placed is None:
            builder.remove(name)
        else:
            builder.insert(name, placed[0], FileMode(placed[1]))
    return str(builder.write()) if len(builder) else None


def _assembled(
    repo: pygit2.Repository, base: pygit2.Tree | None, changes: Mapping[str, tuple[str, int] | None]
) -> str | None:
    """The same, byte by byte: what is carried over from a remote stays as that has it, whatever its name."""
    entries = {} if base is None else _parsed(base.read_raw())
    for name, placed in changes.items():
        raw = raw_name(name)
        if placed is None:
            entries.pop(raw, None)
        else:
            entries[raw] = (b"%o" % placed[1], bytes.fromhex(placed[0]))
    if not entries:
        return None
    # Git's order: a folder is sorted as if its name ended with a slash.
    ordered = sorted(entries.items(), key=lambda item: item[0] + (b"/" if item[1][0] == b"40000" else b""))
    data = b"".join(mode + b" " + name + b"\0" + found for name, (mode, found) in ordered)
    return str(repo.write(ObjectType.TREE, data))


def _parsed(data: bytes) -> dict[bytes, tuple[bytes, bytes]]:
    entries: dict[bytes, tuple[bytes, bytes]] = {}
    at = 0
    while at < len(data):
        space, end = data.index(b" ", at), data.index(b"\0", at)
        entries[data[space + 1 : end]] = (data[at:space], data[end + 1 : end + 21])
        at = end + 21
    return entries
