"""Reading git trees in process: what is in one, and what differs between two (only folders that differ are opened)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import pygit2
from pygit2.enums import FileMode

from adaptive_llm_gateway.memory._merge import Entry

_FILES = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)

DEEPEST = 64
"""Folders within folders that are opened; one below them is an entry by itself, of the mode `FOLDER`."""
FOLDER = int(FileMode.TREE)

_SLASH: Final = "\udc2f"  # within a name, where only a hostile tree has one; no path that can be encoded holds it

Side = dict[str, tuple[Entry | None, Entry | None]]


def diff_trees(old: pygit2.Tree | None, new: pygit2.Tree | None) -> Side:
    """Path to (old entry, new entry) for everything but folders; a name that is not UTF-8 has surrogates in it.

    A folder deeper than `DEEPEST` is not opened, and stands for all that is in it.
    """
    return dict(_walk(old, new, "", DEEPEST))


def is_file(entry: Entry) -> bool:
    """Whether the entry is a regular file, not a symbolic link, a submodule or something unknown."""
    return entry.mode in _FILES


def _walk(
    old: pygit2.Tree | None, new: pygit2.Tree | None, prefix: str, depth: int
) -> Iterator[tuple[str, tuple[Entry | None, Entry | None]]]:
    if old is not None and new is not None and old.id == new.id:
        return
    before, after = _entries(old), _entries(new)
    for name in before.keys() | after.keys():
        one, two = before.get(name), after.get(name)
        if one is not None and two is not None and one.id == two.id and one.filemode == two.filemode:
            continue
        path = prefix + name
        folders = (one if isinstance(one, pygit2.Tree) else None, two if isinstance(two, pygit2.Tree) else None)
        if folders != (None, None) and depth:
            yield from _walk(*folders, path + "/", depth - 1)
        entries = (_entry(one, closed=not depth), _entry(two, closed=not depth))
        if entries != (None, None):
            yield path, entries


def _entries(tree: pygit2.Tree | None) -> dict[str, pygit2.Object]:
    if tree is None:
        return {}
    return {_name(entry): entry for entry in tree}


def _name(entry: pygit2.Object) -> str:
    raw = entry.raw_name or b""
    name = raw.decode("utf-8", "surrogateescape")
    return name.replace("/", _SLASH) if b"/" in raw else name


def raw_name(name: str) -> bytes:
    """A name as it is in a tree, from how `diff_trees` has it."""
    return b"/".join(part.encode("utf-8", "surrogateescape") for part in name.split(_SLASH))


def _entry(found: pygit2.Object | None, *, closed: bool = False) -> Entry | None:
    if found is None or (isinstance(found, pygit2.Tree) and not closed):
        return None
    return Entry(int(found.filemode), str(found.id))


def blob_at(tree: pygit2.Tree, path: str) -> str | None:
    """The blob id of a regular file in a tree, or None."""
    found = TreeFiles(tree)(path)
    return found.blob if found is not None and is_file(found) else None


class TreeFiles:
    """What is at the paths of one tree. Each of its folders is read once, however many paths of it are asked for."""

    def __init__(self, tree: pygit2.Tree) -> None:
        self._folders: dict[str, pygit2.Tree | None] = {"": tree}

    def __call__(self, path: str) -> Entry | None:
        """What is at a path, by the names as `diff_trees` has them; None for nothing and for a folder."""
        above, _, name = path.rpartition("/")
        depth = path.count("/")
        folder = self._folder(above) if depth <= DEEPEST else None
        return None if folder is None else _entry(child(folder, name), closed=depth == DEEPEST)

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder at a path."""
        return path.count("/") < DEEPEST and self._folder(path) is not None

    def _folder(self, path: str) -> pygit2.Tree | None:
        if path not in self._folders:
            above, _, name = path.rpartition("/")
            folder = self._folder(above)
            found = None if folder is None else child(folder, name)
            self._folders[path] = found if isinstance(found, pygit2.Tree) else None
        return self._folders[path]


def child(tree: pygit2.Tree, name: str) -> pygit2.Object | None:
    """What a tree has under a name, as `diff_trees` has it."""
    try:
        return tree[name]
    except (UnicodeEncodeError, TypeError):  # it is not UTF-8
        return _entries(tree).get(name)
    except KeyError:
        return None


def blobs_at(tree: pygit2.Tree, paths: Iterable[str]) -> dict[str, str]:
    """The blob ids of the regular files at these paths; what is none is left out."""
    entry_of = TreeFiles(tree)
    found = ((path, entry_of(path)) for path in paths)
    return {path: entry.blob for path, entry in found if entry is not None and is_file(entry)}


def list_files(tree: pygit2.Tree, prefix: str, files: dict[str, str], *, depth: int = DEEPEST) -> None:
    """Put every regular file of a tree into `files`: path to blob id."""
    for entry in tree:
        mode = entry.filemode
        if mode == FileMode.TREE and isinstance(entry, pygit2.Tree):
            if depth:
                list_files(entry, f"{prefix}{_name(entry)}/", files, depth=depth - 1)
        elif mode in _FILES:
            files[prefix + _name(entry)] = str(entry.id)


def apply_diff(files: dict[str, str], difference: Side) -> None:
    """Bring what `list_files` gave for one tree to what it gives for the other one of `diff_trees`."""
    for path, (_, new) in difference.items():
        if new is not None and is_file(new):
            files[path] = new.blob
        else:
            files.pop(path, None)
