"""Reading git trees in process: what is in one, and what differs between two (only folders that differ are opened)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pygit2
from pygit2.enums import FileMode

from adaptive_llm_gateway.memory._merge import Entry

_FILES = (FileMode.BLOB, FileMode.BLOB_EXECUTABLE)

Side = dict[str, tuple[Entry | None, Entry | None]]


def diff_trees(old: pygit2.Tree | None, new: pygit2.Tree | None) -> Side:
    """Path to (old entry, new entry) for everything but folders; a name that is not UTF-8 has surrogates in it."""
    return dict(_walk(old, new, ""))


def is_file(entry: Entry) -> bool:
    """Whether the entry is a regular file, not a symbolic link, a submodule or something unknown."""
    return entry.mode in _FILES


def _walk(
    old: pygit2.Tree | None, new: pygit2.Tree | None, prefix: str
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
        if folders != (None, None):
            yield from _walk(*folders, path + "/")
        entries = (_entry(one), _entry(two))
        if entries != (None, None):
            yield path, entries


def _entries(tree: pygit2.Tree | None) -> dict[str, pygit2.Object]:
    if tree is None:
        return {}
    return {(entry.raw_name or b"").decode("utf-8", "surrogateescape"): entry for entry in tree}


def _entry(found: pygit2.Object | None) -> Entry | None:
    if found is None or isinstance(found, pygit2.Tree):
        return None
    return Entry(int(found.filemode), str(found.id))


def blob_at(tree: pygit2.Tree, path: str) -> str | None:
    """The blob id of a regular file in a tree, or None."""
    try:
        found = tree[path]
    except KeyError:
        return None
    return str(found.id) if isinstance(found, pygit2.Blob) and found.filemode in _FILES else None


def objects_at(tree: pygit2.Tree, paths: Iterable[str]) -> dict[str, pygit2.Object]:
    """What lies at these paths; each folder is read once. What is not there is left out."""
    folders: dict[str, pygit2.Tree | None] = {"": tree}

    def look(path: str) -> pygit2.Object | None:
        parent, _, name = path.rpartition("/")
        if parent not in folders:
            above = look(parent)
            folders[parent] = above if isinstance(above, pygit2.Tree) else None
        inside = folders[parent]
        return inside[name] if inside is not None and name in inside else None

    found = ((path, look(path)) for path in paths)
    return {path: entry for path, entry in found if entry is not None}


def blobs_at(tree: pygit2.Tree, paths: Iterable[str]) -> dict[str, str]:
    """The blob ids of the regular files at these paths; what is none is left out."""
    return {
        path: str(entry.id)
        for path, entry in objects_at(tree, paths).items()
        if isinstance(entry, pygit2.Blob) and entry.filemode in _FILES
    }


def list_files(tree: pygit2.Tree, prefix: str, files: dict[str, str]) -> None:
    """Put every regular file of a tree into `files`: path to blob id."""
    for entry in tree:
        mode = entry.filemode
        if mode == FileMode.TREE and isinstance(entry, pygit2.Tree):
            list_files(entry, f"{prefix}{entry.name}/", files)
        elif mode in _FILES:
            files[f"{prefix}{entry.name}"] = str(entry.id)


def apply_diff(files: dict[str, str], difference: Side) -> None:
    """Bring what `list_files` gave for one tree to what it gives for the other one of `diff_trees`."""
    for path, (_, new) in difference.items():
        if new is not None and is_file(new):
            files[path] = new.blob
        else:
            files.pop(path, None)
