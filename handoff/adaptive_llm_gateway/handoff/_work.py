"""The work that is handed off: how its git repository stands, what is not committed as a patch, and whether it applies.

A repository is read with libgit2 and no git program is run: what its configuration and attributes name (file-system
monitors, hooks, filters, external diffs) would run as the user who only wanted to hand off some work.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from adaptive_llm_gateway.handoff._applying import would_apply
from adaptive_llm_gateway.handoff._patch import (
    EXECUTABLE,
    LINK,
    REGULAR,
    SUBMODULE,
    Side,
    fence,
    fit,
    list_names,
    quote,
    section,
    unfence,
)
from adaptive_llm_gateway.handoff._repository import (
    MOST_CONTENT,
    OTHER_FORM,
    as_stored,
    check_directory,
    in_words,
    open_repository,
    read_file,
    short,
    without_user,
)
from adaptive_llm_gateway.handoff._values import WorkState

if TYPE_CHECKING:
    import pygit2

__all__ = ["Work", "fence", "look_at", "unfence", "would_apply"]

MOST_ENTRIES: Final = 200_000
"""Files and folders that are looked through for new files."""

MOST_HASHED: Final = 1024 * 1024 * 1024
"""Bytes of a tracked file above which it is not tried to find out what has changed: git might hash it whole."""

MOST_INDEXED: Final = 1_000_000
MOST_PATCHED: Final = 2_000
MOST_SECONDS: Final = 8.0
MOST_RENAMES: Final = 200

_CUT: Final = "Not every new file is known: there is too much to look through."
_UNDER_WAY: Final = {
    1: "a merge",
    2: "a revert",
    3: "a revert",
    4: "a cherry-pick",
    5: "a cherry-pick",
    6: "a bisection",
    7: "a rebase",
    8: "a rebase",
    9: "a rebase",
    10: "a mailbox being applied",
    11: "a mailbox being applied",
}
_CONFLICTS: Final = {
    (True, True, True): "UU",
    (False, True, True): "AA",
    (True, True, False): "UD",
    (True, False, True): "DU",
    (False, True, False): "AU",
    (False, False, True): "UA",
    (True, False, False): "DD",
}


@dataclass(frozen=True, slots=True)
class Work:
    """What `look_at` has seen.

    Attributes:
        patch: everything that is not committed, for `git apply` on the commit; None when there is none, or none was
            asked for.
        notes: what could not be known or had to be left out, a sentence each.
    """

    state: WorkState
    patch: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Changes:
    """Raw paths to what has happened to them since the commit."""

    staged: dict[bytes, str] = field(default_factory=dict[bytes, str])
    unstaged: dict[bytes, str] = field(default_factory=dict[bytes, str])
    untracked: set[bytes] = field(default_factory=set[bytes])
    conflicts: dict[bytes, str] = field(default_factory=dict[bytes, str])
    moved: dict[bytes, tuple[bytes, int]] = field(default_factory=dict[bytes, tuple[bytes, int]])
    nested: set[bytes] = field(default_factory=set[bytes])

    def lines(self) -> list[bytes]:
        """As `git status --porcelain` has them: the changed by path, then the new."""
        lines: list[bytes] = []
        for path in sorted({*self.staged, *self.unstaged, *self.conflicts}):
            letters = self.conflicts.get(path) or self.staged.get(path, " ") + self.unstaged.get(path, " ")
            before = quote(self.moved[path][0]) + b" -> " if path in self.moved else b""
            lines.append(letters.encode() + b" " + before + quote(path))
        new = {*self.untracked, *(path + b"/" for path in self.nested)}
        return lines + [b"?? " + quote(path) for path in sorted(new)]

    def paths(self) -> set[bytes]:
        """Every file whose content may differ from the commit's."""
        before = {old for old, _ in self.moved.values()}
        return {*self.staged, *self.unstaged, *self.conflicts, *self.untracked, *before}


def look_at(directory: Path, *, patch: bool, max_patch_bytes: int = 256 * 1024, most_files: int = 200) -> Work:
    """How the git repository around `directory` stands, without running git and without changing anything.

    Args:
        directory: absolute path of a folder; it may lie below the repository's top.
        patch: also make the patch of what is not committed: staged or not, and new files that git does not ignore.
        max_patch_bytes: its limit; files are left out whole, from the largest on, and named in the notes.
        most_files: of the changed files, how many are listed.

    Returns:
        What is known. Where there is no repository, or one that cannot be read, the rest is empty and a note says why.

    Raises:
        InvalidInput: `directory` is not absolute, or not a folder that exists.
    """
    check_directory(directory)
    repo, problem = open_repository(directory)
    if repo is None:
        return Work(WorkState(str(directory)), None, (problem,))
    import pygit2  # noqa: PLC0415 - only those who look at work pay for it

    look = _Look(repo, time.monotonic() + MOST_SECONDS)
    made: str | None = None
    try:
        look.head()
        if repo.is_bare:
            look.notes.append("The repository is bare: there are no files of work in it.")
        else:
            if not directory.samefile(repo.workdir):
                look.notes.append(f"The repository begins at {short(repo.workdir)!r}; its paths are told from there.")
            if look.changes() and patch:
                made = look.patch(max_patch_bytes)
            elif patch:
                look.notes.append("There is no patch, for it would not be whole.")
    except (pygit2.GitError, OSError, ValueError, KeyError, MemoryError) as error:
        look.notes.append(f"The repository could not be read whole: {in_words(error)}.")
    lines = look.found.lines()
    state = WorkState(
        directory=str(directory),
        remote=look.remote(),
        branch=look.branch,
        commit=look.commit,
        dirty=tuple(line.decode("utf-8", "replace") for line in lines[:most_files]),
        dirty_count=len(lines),
    )
    return Work(state, made, tuple(look.notes))


class _Look:
    """One look at a repository; what it finds out it keeps."""

    def __init__(self, repo: pygit2.Repository, deadline: float) -> None:
        self.repo = repo
        self.deadline = deadline
        self.notes: list[str] = []
        self.branch: str | None = None
        self.commit: str | None = None
        self.found = _Changes()
        self._tree: pygit2.Tree | None = None
        self._sparse = False
        self._top = os.path.realpath(repo.workdir) if repo.workdir else ""

    def _setting(self, name: str, default: bool) -> bool:
        import pygit2  # noqa: PLC0415 - as above

        try:
            return self.repo.config.get_bool(name) if name in self.repo.config else default
        except (pygit2.GitError, ValueError, KeyError):
            return default

    def remote(self) -> str | None:
        """The address of `origin` without what lets one in."""
        try:
            return without_user(self.repo.remotes["origin"].url or "")
        except Exception:  # noqa: BLE001 - there is none, or its configuration cannot be read
            return None

    def head(self) -> None:
        """Branch and commit."""
        import pygit2  # noqa: PLC0415 - as above

        repo = self.repo
        try:
            if repo.head_is_unborn:
                self.notes.append("Nothing is committed in the repository yet.")
                return
            self.commit = str(repo.head.target)
            if repo.head_is_detached:
                self.notes.append("HEAD is detached: the work is on no branch.")
            else:
                self.branch = repo.head.raw_shorthand.decode("utf-8", "replace")
            self._tree = repo.head.peel(pygit2.Tree)
        except (pygit2.GitError, KeyError, ValueError) as error:
            self.notes.append(f"The commit of the repository cannot be read: {in_words(error)}.")
        under_way = _UNDER_WAY.get(int(repo.state()))
        if under_way:
            self.notes.append(f"In the repository {under_way} is under way.")

    def changes(self) -> bool:
        """What has changed since the commit; False when a part of it cannot be known."""
        import pygit2  # noqa: PLC0415 - as above
        from pygit2.enums import DiffOption  # noqa: PLC0415 - as above

        repo, found = self.repo, self.found
        try:
            index = repo.index
        except (pygit2.GitError, OSError) as error:
            self.notes.append(f"Changed files are not known, for git's index cannot be read: {in_words(error)}.")
            return False
        if self._tree is None and self.commit is not None:
            self.notes.append("Changed files are not known, for the commit cannot be read.")
            return False
        if len(index) > MOST_INDEXED:
            self.notes.append(f"Changed files are not known: the repository has more than {MOST_INDEXED:,}.")
            return False
        self._sparse = self._setting("core.sparsecheckout", False)
        if self._sparse:
            self.notes.append("The repository is checked out in part: what is missing from it counts as unchanged.")
        if self._tree is None:
            found.staged = {path.encode(): "A" for path in _paths(index)}
        else:
            staged = self._tree.diff_to_index(index, DiffOption.INCLUDE_TYPECHANGE)
            self._find_moved(staged)
        for three in index.conflicts or ():
            path = os.fsencode(next(side.path for side in three if side is not None))
            ancestor, ours, theirs = (side is not None for side in three)
            found.conflicts[path] = _CONFLICTS[ancestor, ours, theirs]
        if not self._find_untracked(index):
            self.notes.append(
                "What is changed but not staged is not known: a folder has too many files, or a file too many bytes."
            )
            return False
        unstaged = index.diff_to_workdir(
            DiffOption.INCLUDE_TYPECHANGE
            | DiffOption.IGNORE_SUBMODULES
            | DiffOption.ENABLE_FAST_UNTRACKED_DIRS
            | DiffOption.INCLUDE_UNREADABLE
        )
        for delta in unstaged.deltas:
            letter = delta.status_char()
            if letter in "MDT" and not (letter == "D" and self._sparse):
                found.unstaged[delta.old_file.raw_path] = letter
        return True

    def _find_moved(self, staged: pygit2.Diff) -> None:
        """The staged changes, with those that moved a file told as such where it is cheap to find out."""
        from pygit2.enums import DiffFind  # noqa: PLC0415 - as above

        found, sizes, letters = self.found, list[int](), list[str]()
        for delta in staged.deltas:
            letter = delta.status_char()
            if letter in "AD" and len(sizes) <= 2 * MOST_RENAMES:
                side = delta.new_file if letter == "A" else delta.old_file
                letters.append(letter)
                with suppress(KeyError):
                    sizes.append(0 if side.mode == SUBMODULE else self.repo.odb.read_header(side.id)[1])
        few = max(letters.count("A"), letters.count("D")) <= MOST_RENAMES
        if few and {*letters} == {"A", "D"} and len(sizes) == len(letters) and sum(sizes) <= 4 * MOST_CONTENT:
            staged.find_similar(DiffFind.FIND_RENAMES, rename_limit=MOST_RENAMES)
        for delta in staged.deltas:
            letter = delta.status_char()
            path = delta.new_file.raw_path if letter != "D" else delta.old_file.raw_path
            if letter in "AMDRT":
                found.staged[path] = letter
            if letter == "R":
                found.moved[path] = (delta.old_file.raw_path, delta.similarity)

    def _find_untracked(self, index: pygit2.Index) -> bool:
        """New files, and False when what the commit has of the tree is more than can be looked through."""
        new = 0
        folders = deque([""])
        cut = False
        while folders and not cut:
            folder = folders.popleft()
            for here, entry in enumerate(_scan(Path(self._top, folder))):
                if here >= MOST_ENTRIES or time.monotonic() > self.deadline:
                    cut = True
                    if _is_below(index, folder):
                        self.notes.append(_CUT)
                        return False
                    break
                if new >= MOST_ENTRIES:
                    cut = True
                    continue  # only to know how large the folder is
                path = f"{folder}/{entry.name}" if folder else entry.name
                raw = os.fsencode(path)
                is_folder = entry.is_dir(follow_symlinks=False)
                if entry.name == ".git":
                    continue
                if raw in index and not (is_folder and not _is_submodule(index, path)):
                    if _size(entry) > MOST_HASHED:
                        self.notes.append(_CUT)
                        return False
                    continue
                new += 1
                if is_folder:
                    if self._ignores(path + "/"):
                        continue
                    if os.path.lexists(f"{entry.path}/.git"):
                        self.found.nested.add(raw)
                    else:
                        folders.append(path)
                elif (entry.is_symlink() or entry.is_file(follow_symlinks=False)) and not self._ignores(path):
                    self.found.untracked.add(raw)
        if cut:
            self.notes.append(_CUT)
        return True

    def _ignores(self, path: str) -> bool:
        try:
            return self.repo.path_is_ignored(path)
        except UnicodeEncodeError:  # no rule that libgit2 could try
            return False

    def patch(self, limit: int) -> str | None:
        """Everything that is not committed."""
        paths = self.found.paths()
        if len(paths) > MOST_PATCHED:
            self.notes.append(f"There is no patch: {len(paths):,} files are changed, more than {MOST_PATCHED:,}.")
            return None
        left_out: dict[str, list[bytes]] = {}
        sides: dict[bytes, tuple[Side | None, Side | None]] = {}
        held = 0
        for path in sorted(paths):
            if time.monotonic() > self.deadline or held > 8 * MOST_CONTENT:
                left_out.setdefault("there is too much to read", []).append(path)
                continue
            pair = self._sides(path)
            if isinstance(pair, str):
                left_out.setdefault(pair, []).append(path)
            elif pair[0] != pair[1]:
                sides[path] = pair
                held += sum(len(side.data) for side in pair if side is not None)
        if self.found.nested:
            left_out["they are repositories of their own"] = sorted(self.found.nested)
        sections: dict[bytes, bytes] = {}
        moved = self._moves(sides)
        for path, (old, new) in sides.items():
            if path in moved.values():
                continue
            before = moved.get(path)
            if before is None:
                made = section(path, old, new)
            else:
                likeness = self.found.moved.get(path, (b"", 0))[1]
                made = section(path, sides[before][0], new, old_path=before, likeness=likeness)
            binary = b"\nGIT binary patch\n" in made
            if binary and len(made) <= limit and (kind := _secret_in(old) or _secret_in(new)):
                left_out.setdefault(f"they are not text and hold what looks like a secret ({kind})", []).append(path)
                continue
            if binary and any(side is not None and b"\0" not in side.data and not side.is_text for side in (old, new)):
                left_out.setdefault("", []).append(path)
            sections[path] = made
        patch, too_large = fit(sections, limit)
        if not_utf8 := {*left_out.pop("", [])} - {path for path, _ in too_large}:
            self.notes.append(f"In the patch as binary, for their text is not UTF-8: {list_names(not_utf8)}.")
        for why, names in sorted(left_out.items()):
            self.notes.append(f"Left out of the patch, for {why}: {list_names(names)}.")
        if too_large:
            total = sum(size for _, size in too_large)
            self.notes.append(
                f"Left out of the patch, for it may have {limit:,} bytes and they would take {total:,}:"
                f" {list_names(path for path, _ in too_large)}."
            )
        return patch.decode("utf-8") or None

    def _moves(self, sides: dict[bytes, tuple[Side | None, Side | None]]) -> dict[bytes, bytes]:
        """New path to old: what was staged as moved, and what is gone in one place and whole in another."""
        gone = {path: old for path, (old, new) in sides.items() if old is not None and new is None}
        come = {path: new for path, (old, new) in sides.items() if old is None and new is not None}
        moved: dict[bytes, bytes] = {}
        for path, (before, _) in self.found.moved.items():
            if path in come and before in gone and gone[before].is_link == come[path].is_link:
                moved[path] = before
                del gone[before]
        by_data: dict[tuple[bool, bytes], bytes] = {}
        for path in sorted(gone, reverse=True):
            if gone[path].data:
                by_data[gone[path].is_link, gone[path].data] = path
        for path, new in sorted(come.items()):
            before = None if path in moved else by_data.pop((new.is_link, new.data), None)
            if before is not None:
                moved[path] = before
        # Nothing that needs a folder made way for, or made, is told as a move: `fit` could tear it apart.
        return {
            path: before
            for path, before in moved.items()
            if not _overlaps(path, before)
            and not any(_overlaps(path, other) or _overlaps(before, other) for other in sides)
        }

    def _sides(self, path: bytes) -> tuple[Side | None, Side | None] | str:
        """A file as committed and as it is now, or why it cannot be told."""
        import pygit2  # noqa: PLC0415 - as above

        repo = self.repo
        try:
            name = path.decode("utf-8")
        except UnicodeDecodeError:
            return "their names are not UTF-8"
        entry = _entry(repo.index, name)
        try:
            committed = self._tree[name] if self._tree is not None else None
        except KeyError:
            committed = None
        mode = None if committed is None else int(committed.filemode)
        if mode == SUBMODULE or (entry is not None and int(entry.mode) == SUBMODULE):
            return "they are submodules"
        old: Side | None = None
        if committed is not None and isinstance(committed, pygit2.Blob) and mode is not None:
            try:
                if repo.odb.read_header(committed.id)[1] > MOST_CONTENT:
                    return f"they have more than {MOST_CONTENT:,} bytes"
                old = Side(mode, committed.data)
            except KeyError:
                return "what was committed of them is not here"
        if entry is None and path not in self.found.untracked and path not in self.found.conflicts:
            return old, None
        index_mode = int(entry.mode) if entry is not None else mode
        new = self._now(name, index_mode)
        if new is None and self._sparse and entry is not None and path not in self.found.unstaged:
            new = Side(int(entry.mode), repo[entry.id].read_raw())
        return new if isinstance(new, str) else (old, new)

    def _now(self, name: str, mode: int | None) -> Side | str | None:
        """A file of the working tree as git would store it; None: it is not there, or something else is."""
        if any(self.repo.get_attr(name, attribute) for attribute in ("filter", "working-tree-encoding")):
            return OTHER_FORM
        read = read_file(self._top, name)
        if not isinstance(read, Side):
            return read
        if read.is_link:
            return read
        kept = mode if mode in (REGULAR, EXECUTABLE) else REGULAR
        now = Side(read.mode if self._setting("core.filemode", True) else kept, read.data)
        if mode == LINK and not self._setting("core.symlinks", True):
            return Side(LINK, read.data)
        return as_stored(self.repo, name, now)


def _scan(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:  # gone meanwhile, or nobody's to read: git passes it over, too
        return


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def _paths(index: pygit2.Index) -> Iterator[str]:
    for entry in cast("Iterator[pygit2.IndexEntry]", iter(index)):
        yield str(entry.path)


def _entry(index: pygit2.Index, name: str) -> pygit2.IndexEntry | None:
    """What the index has of a file; None also while its sides are in conflict."""
    try:
        return index[name]
    except KeyError:
        return None


def _is_submodule(index: pygit2.Index, name: str) -> bool:
    entry = _entry(index, name)
    return entry is not None and int(entry.mode) == SUBMODULE


def _is_below(index: pygit2.Index, folder: str) -> bool:
    try:
        return not folder or any(path.startswith(folder + "/") for path in _paths(index))
    except UnicodeDecodeError:
        return True


def _overlaps(one: bytes, two: bytes) -> bool:
    return one.startswith(two + b"/") or two.startswith(one + b"/")


def _secret_in(side: Side | None) -> str | None:
    """The kind of a secret among the words in something that is not text; who scans the patch cannot see them."""
    if side is None:
        return None
    from adaptive_llm_gateway.core import SecretScanner  # noqa: PLC0415 - needed for what is not text

    words = re.findall(rb"[\t\n\r\x20-\x7e]{8,}", side.data.replace(b"\0", b""))
    found = SecretScanner().scan("\n".join(word.decode("ascii") for word in words))
    return found[0].kind if found else None
