"""The working tree as it is: which files are memories, and what changed behind the hub's back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from adaptive_llm_gateway.core import AlgError, InvalidFile, SecretScanner, UnsafePath
from adaptive_llm_gateway.memory._files import read_file
from adaptive_llm_gateway.memory._frontmatter import MAX_FILE, Document
from adaptive_llm_gateway.memory._merge_files import id_of
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._requests import Skipped
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Author, Record

SUFFIX = ".md"
_BY_HANDLE = os.scandir in os.supports_fd and os.open in os.supports_dir_fd


class Stat(NamedTuple):
    """What tells whether a file changed: modification time in nanoseconds and size in bytes.

    No dataclass: one is made for every file at each look at the tree.
    """

    mtime_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class Differences:
    """What reconciling has to look at: files that are new or changed, and paths that are gone."""

    changed: tuple[str, ...]
    gone: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A memory file read from disk; `adopted` when the document gained fields that the file on disk lacks."""

    record: Record
    data: bytes
    adopted: bool


def is_memory_path(path: str, types: TypeRegistry) -> bool:
    """Whether a POSIX path in the repo is where memories lie: a Markdown file below a type's folder, nothing hidden."""
    parts = path.split("/")
    return (
        len(parts) > 1
        and types.type_of_folder(parts[0]) is not None
        and path.endswith(SUFFIX)
        and not any(part.startswith(".") for part in parts)
    )


Indexed = Mapping[str, tuple[int, int, str, str]]
"""What the index has of each path: mtime_ns, size, version, id."""


def scan(root: Path, types: TypeRegistry, *, skip: Callable[[Skipped], None]) -> dict[str, Stat]:
    """Every memory file below `root`, in no order; symbolic links and what cannot be read are reported to `skip`."""
    found: dict[str, Stat] = {}
    _walk_all(root, types, found, set(), {}, skip)
    return found


def differing(
    root: Path,
    types: TypeRegistry,
    indexed: Indexed,
    *,
    skip: Callable[[Skipped], None],
    step: Callable[[], None] = lambda: None,
) -> Differences:
    """What `compare` tells of a `scan`, in less time: it is asked before each sync.

    Args:
        step: called after each folder.
    """
    found: dict[str, Stat] = {}
    same: set[str] = set()
    _walk_all(root, types, found, same, indexed, skip, step)
    gone = indexed.keys() - same - found.keys() if len(same) < len(indexed) else ()
    return Differences(tuple(sorted(found)), tuple(sorted(gone)))


def _walk_all(
    root: Path,
    types: TypeRegistry,
    found: dict[str, Stat],
    same: set[str],
    indexed: Indexed,
    skip: Callable[[Skipped], None],
    step: Callable[[], None] = lambda: None,
) -> None:
    for kind in types.names:
        folder = types.folder_of(kind)
        _walk(str(root / folder), folder, None, found, same, indexed, skip, step)


def _walk(
    folder: str,
    prefix: str,
    within: int | None,
    found: dict[str, Stat],
    same: set[str],
    indexed: Indexed,
    skip: Callable[[Skipped], None],
    step: Callable[[], None],
) -> None:
    """Add a folder's files.

    Args:
        folder: its path, or where `within` is given its name.
        within: handle of the folder above.
        found: gets the files that are not as `indexed` has them.
        same: gets the others.
    """
    handle: int | None = None
    try:
        if _BY_HANDLE:  # so that the system need not look up the whole path for each file
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY, dir_fd=within)
        with os.scandir(folder if handle is None else handle) as entries:
            below = _files_of(entries, prefix, found, same, indexed, skip)
        step()
        for name, path in below:
            inside = name if _BY_HANDLE else f"{folder}{os.sep}{name}"
            _walk(inside, path, handle, found, same, indexed, skip, step)
    except FileNotFoundError:
        return
    except OSError as error:
        skip(Skipped(prefix, f"cannot be read: {error.strerror}"))
    finally:
        if handle is not None:
            os.close(handle)


def _files_of(
    entries: Iterable[os.DirEntry[str]],
    prefix: str,
    found: dict[str, Stat],
    same: set[str],
    indexed: Indexed,
    skip: Callable[[Skipped], None],
) -> list[tuple[str, str]]:
    """Add the files among a folder's entries; returns name and path of each folder."""
    below: list[tuple[str, str]] = []
    for entry in entries:
        name = entry.name
        if name.startswith("."):
            continue
        path = f"{prefix}/{name}"
        if not name.isascii():
            try:
                path.encode("utf-8")
            except UnicodeEncodeError:
                skip(Skipped(repr(path), "its name is not valid Unicode"))
                continue
        if entry.is_file(follow_symlinks=False):
            if name.endswith(SUFFIX):
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # gone since the folder was listed
                    continue
                moment, size = status.st_mtime_ns, status.st_size
                known = indexed.get(path)
                if known is not None and known[0] == moment and known[1] == size:
                    same.add(path)
                else:
                    found[path] = Stat(moment, size)
        elif entry.is_symlink():
            skip(Skipped(path, "it is a symbolic link; memories are regular files"))
        elif entry.is_dir(follow_symlinks=False):
            below.append((name, path))
    return below


def compare(on_disk: Mapping[str, Stat], indexed: Indexed) -> Differences:
    """What differs between the tree and the index, in order of the paths."""
    changed = [path for path, stat in on_disk.items() if path not in indexed or indexed[path][:2] != stat]
    gone = indexed.keys() - on_disk.keys()
    return Differences(tuple(sorted(changed)), tuple(sorted(gone)))


def load(root: Path, path: str, types: TypeRegistry, scanner: SecretScanner, *, author: Author) -> Loaded | None:
    """Read one memory file; None when it is gone by now.

    A file without front matter, id, type or times (somebody made it in an editor) is adopted: what is missing is
    added, every other byte stays.

    Raises:
        InvalidFile, TooLarge, UnsafePath, SecretRefused: why it is no memory.
    """
    data = read_file(root, path, limit=MAX_FILE)
    if data is None:
        return None
    try:
        stat = (root / path).stat()
    except FileNotFoundError:
        return None
    document = Document.parse(data, where=path, require_front_matter=False)
    if not document.has_front_matter and data.removeprefix(b"\xef\xbb\xbf").startswith((b"---\n", b"---\r\n")):
        raise InvalidFile(
            f"{path!r} begins with `---`, but its front matter is not closed",
            hint="Put a line `---` behind the front matter; a text may begin with `***` instead.",
        )
    adopted = types.adopt(document, path=path, mtime_ns=stat.st_mtime_ns, author=author)
    final = adopted.render()
    scanner.check(path, where="the file's name")
    scanner.check(final.decode("utf-8"), where=repr(path))
    record = types.to_record(
        adopted, path=path, version=MemoryRepo.blob_id(final), mtime_ns=stat.st_mtime_ns, size=len(final)
    )
    return Loaded(record, final, final != data)


def _is_there(root: Path, path: str, identifier: str) -> bool:
    """Whether a memory is still where it was, and not another one in its place: names may have been swapped."""
    try:
        data = read_file(root, path, limit=MAX_FILE)
    except AlgError:
        return True
    return data is not None and id_of(data) in (identifier, None)


def load_all(
    root: Path,
    paths: Iterable[str],
    types: TypeRegistry,
    scanner: SecretScanner,
    *,
    author: Author,
    taken: Callable[[str], str | None],
    skip: Callable[[Skipped], None],
) -> Iterator[Loaded]:
    """Read many files; what is no memory is reported to `skip` with the reason.

    Args:
        taken: the path under which an id is already known, or None. A second file with the same id is skipped
            while the first one is still there.
    """
    seen: dict[str, str] = {}
    for path in paths:
        try:
            loaded = load(root, path, types, scanner, author=author)
            if loaded is None:
                continue
            other = seen.get(loaded.record.id) or taken(loaded.record.id)
            if other is not None and other != path and _is_there(root, other, loaded.record.id):
                raise InvalidFile(
                    f"{path!r} has the same id as {other!r}",
                    hint="Remove the line `id:` from the copy, and it becomes a memory of its own.",
                )
        except UnsafePath as error:
            skip(Skipped(path, str(error)))
        except AlgError as error:
            skip(Skipped(path, str(error) + (f" ({error.hint})" if error.hint else "")))
        else:
            seen[loaded.record.id] = path
            yield loaded
