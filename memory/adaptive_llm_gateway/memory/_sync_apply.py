"""Moving the memory repo to another commit: working tree, branch and index, so that a crash anywhere is made good.

A journal names both commits before the first file changes. `MemoryRepo.open` completes what it finds there. Where
somebody has edited one of the files meanwhile it takes the move back instead: the edit becomes a commit of its own, and
the next pull merges it. Were HEAD moved around it, the edit would be one of theirs, and undo what they wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import pygit2

from adaptive_llm_gateway.core import AlgError, NotFound, StorageError, SyncError, counted, fsync_path, reach
from adaptive_llm_gateway.memory._files import write_atomically
from adaptive_llm_gateway.memory._merge import Entry
from adaptive_llm_gateway.memory._quarantine import Quarantine
from adaptive_llm_gateway.memory._repo_checks import is_plain_path, translated
from adaptive_llm_gateway.memory._sync_errors import sync_error
from adaptive_llm_gateway.memory._tree_diff import Side, TreeFiles, diff_trees, is_file

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory._repo import MemoryRepo

_JOURNAL = "alg-sync-journal.json"
_SCRATCH = "alg-sync-scratch"
_STAGE = "alg-sync-stage"
_FEW = 32
_TICKS, _TICK_SECONDS = 20, 0.001  # most file systems tell times of four milliseconds apart


@dataclass(frozen=True, slots=True)
class Move:
    """The way from one commit to another: what each path was and is to be."""

    start: str
    target: str
    files: Side
    blobs: Mapping[str, str | None]
    after: Quarantine


def move_between(
    repo: MemoryRepo, start: str, target: str, after: Quarantine, *, before: Quarantine | None = None
) -> Move:
    """The move from one commit to another; reads both trees where they differ.

    Args:
        after: what is to be held back of the target; the work tree gets there what it keeps.
        before: what is held back of the start, if not what the repo says.
    """
    git = repo.thread_repo
    trees = git[start].peel(pygit2.Tree), git[target].peel(pygit2.Tree)
    entry_of = TreeFiles(trees[0]), TreeFiles(trees[1])
    before = repo.quarantine_at(start) if before is None else before
    changed = diff_trees(*trees)
    # What is held back lies otherwise in the work tree than in its commit.
    files = dict(changed)
    for path in before.held.keys() | after.held.keys():
        old, new = changed.get(path) or (entry_of[0](path), entry_of[1](path))
        if path in before.held:
            old = before.held[path].kept
        if path in after.held:
            new = after.held[path].kept
        if old == new:
            files.pop(path, None)
        else:
            files[path] = (old, new)
    # What a sparse checkout leaves out has no old content here that somebody could have taken away.
    for path in (repo.left_out() & files.keys()) - before.held.keys() - after.held.keys():
        _, new = files[path]
        if new is not None and not os.path.lexists(repo.path / path):
            files[path] = (None, new)
    for path in [path for path, (_, new) in files.items() if not is_plain_path(path) or (new and not is_file(new))]:
        del files[path]  # checked before; whatever is wrong, this is never touched
    blobs = {path: old.blob if old else None for path, (old, _) in changed.items()}
    for path in before.held.keys() ^ after.held.keys():  # marked in git's index, or no more
        if path not in changed:
            entry = entry_of[0](path)
            blobs[path] = entry.blob if entry else None
    return Move(start, target, files, blobs, after)


class Staged:
    """What can be done of a move before others have to wait for it, so that moving its files in place is quick.

    Their new content is beside the working tree and on disk. Of many files the old content has been read, and is not
    read again where the system says that a file is as it was, in the way of git's own index; and it has a second name,
    for to free a file that another one replaces takes the system many times as long as to replace it.
    """

    def __init__(self, repo: MemoryRepo, move: Move) -> None:
        self._folder = repo.git_dir / _STAGE
        self._files: dict[str, Path] = {}
        self._seen: dict[str, tuple[_Sign, str]] = {}
        self._clear()
        many = len(move.files) > _FEW
        with translated(repo.path):
            self._folder.mkdir(exist_ok=True)
            if many:
                self._keep(repo.path, move.files)
            for number, (path, (_, new)) in enumerate(move.files.items()):
                if new is not None:
                    self._files[path] = self._folder / str(number)
                    _write_blob(repo, self._files[path], new)
            _flush(list(self._files.values()))
            if many:
                self._look(repo.path, move.files)
        reach("sync.staged")

    def take(self, path: str) -> Path | None:
        """The file for `path`, which is the caller's from now on."""
        return self._files.pop(path, None)

    def on_disk(self, root: Path, path: str) -> str:
        """As `_on_disk`."""
        seen = self._seen.get(path)
        if seen is None:
            return _on_disk(root, path)
        sign = _sign_of(root, path)
        return seen[1] if sign == seen[0] else _on_disk(root, path)

    def _keep(self, root: Path, paths: Iterable[str]) -> None:
        for number, path in enumerate(paths):
            if isinstance(_sign_of(root, path), tuple):
                # Without hard links, or where the file is somebody else's, it only takes longer.
                with contextlib.suppress(OSError, NotImplementedError):
                    os.link(root / path, self._folder / f"{number}.old", follow_symlinks=False)

    def _look(self, root: Path, paths: Iterable[str]) -> None:
        if os.name != "posix":  # only there a change is told whose time was put back
            return
        signs = {path: sign for path in paths if isinstance(sign := _sign_of(root, path), tuple)}
        # What changed in this very moment, by the file system's own clock, may change again and look the same.
        clock, old = self._folder / "clock", signs
        for _ in range(_TICKS):
            clock.touch()
            now = clock.stat()
            old = {path: sign for path, sign in signs.items() if _is_older(sign, now)}
            if len(old) == len(signs):
                break
            time.sleep(_TICK_SECONDS)
        for path, sign in old.items():
            with contextlib.suppress(OSError):  # whoever moves it is told
                self._seen[path] = (sign, _on_disk(root, path))

    def _clear(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()


def check_clean(
    repo: MemoryRepo,
    files: Mapping[str, tuple[Entry | None, Entry | None]],
    on_disk: Callable[[Path, str], str] | None = None,
) -> None:
    """Make sure that no file that is about to change has uncommitted edits.

    Args:
        on_disk: instead of reading every file.

    Raises:
        SyncError: kind `dirty`; `details["paths"]`.
    """
    look = on_disk or _on_disk
    dirty = sorted(
        path
        for path, (old, new) in files.items()
        if not _is_one_of(look(repo.path, path), old, new) or (new is not None and not _may_go(repo.path, path, files))
    )
    if dirty:
        raise _dirty(dirty)


def _dirty(dirty: list[str]) -> SyncError:
    shown = ", ".join(repr(path) for path in dirty[:5]) + (" ..." if len(dirty) > 5 else "")
    have = counted(len(dirty), "file has", "files have")
    return sync_error("dirty", f"{have} edits that are not committed: {shown}", paths=dirty)


def carry_out(
    repo: MemoryRepo,
    move: Move,
    note: str,
    *,
    staged: Staged | None = None,
    step: Callable[[int, int], None] | None = None,
) -> bool:
    """Bring working tree and branch to the move's target, within `settling`: git's index follows.

    Args:
        staged: made of this move before, where others wait for this.
        step: told how many files of how many are in place.

    Returns:
        False when HEAD is not at the move's start any more; then nothing was changed.

    Raises:
        SyncError: kind `dirty`; nothing was changed.
    """
    with repo.writing(), translated(repo.path):
        if repo.head() != move.start:
            return False
        check_clean(repo, move.files, staged.on_disk if staged is not None else None)
        journal = repo.git_dir / _JOURNAL
        before = repo.quarantine_at(move.start)
        held = {"before": before.as_json(), "held": move.after.as_json()}
        noted = {"start": move.start, "target": move.target, "note": note, **held}
        write_atomically(journal, json.dumps(noted).encode())
        reach("sync.journal_written")
        edited = _complete_or_take_back(repo, move, before, note, staged, step)
        if edited:
            journal.unlink(missing_ok=True)
            raise _dirty(edited)
        return repo.head() == move.target


@contextlib.contextmanager
def settling(repo: MemoryRepo) -> Generator[None]:
    """Around a move, for what can wait until it is done: git's index, its lock, and the end of the journal.

    That the index cannot follow (a full disk, an index that git cannot read) fails no move: it has its own journal.
    """
    try:
        yield
    except BaseException:
        with contextlib.suppress(AlgError):
            repo.settle_index()
        raise
    _settle(repo)


def _settle(repo: MemoryRepo) -> None:
    with contextlib.suppress(AlgError):  # whoever commits next tries again, and logs why not
        repo.settle_index()
    journal = repo.git_dir / _JOURNAL
    if journal.exists():
        reach("sync.index_updated")
        journal.unlink(missing_ok=True)


def finish_interrupted(repo: MemoryRepo) -> bool:
    """Complete a move that a crash cut short, or take it back; whether there was one."""
    shutil.rmtree(repo.git_dir / _STAGE, ignore_errors=True)
    journal = repo.git_dir / _JOURNAL
    try:
        noted: Any = json.loads(journal.read_bytes())
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        noted = None
    repo.hold_index()
    if isinstance(noted, dict):
        fields = cast("dict[str, Any]", noted)
        start, target = str(fields.get("start")), str(fields.get("target"))
        head = repo.head()
        with contextlib.suppress(KeyError, ValueError, pygit2.GitError, NotFound):
            # A commit made since by hand has taken the files as they were: then the next pull merges again.
            if head == start:  # at the target every file was in place before
                after = Quarantine.from_json(fields["held"]) if "held" in fields else repo.quarantine_at(target)
                before = Quarantine.from_json(fields["before"]) if "before" in fields else repo.quarantine_at(start)
                move = move_between(repo, start, target, after, before=before)
                _complete_or_take_back(repo, move, before, str(fields.get("note")))
    _settle(repo)
    journal.unlink(missing_ok=True)
    return True


def _complete_or_take_back(
    repo: MemoryRepo,
    move: Move,
    before: Quarantine,
    note: str,
    staged: Staged | None = None,
    step: Callable[[int, int], None] | None = None,
) -> list[str]:
    """The files that somebody has edited meanwhile: where there are any, everything is as it was before the move."""
    edited = _complete(repo, move, note, staged, step)
    if edited:
        back = {path: (new, old) for path, (old, new) in move.files.items()}
        _complete(repo, Move(move.start, move.start, back, {}, before), note, leave=True)
    return edited


def _complete(
    repo: MemoryRepo,
    move: Move,
    note: str,
    staged: Staged | None = None,
    step: Callable[[int, int], None] | None = None,
    *,
    leave: bool = False,
) -> list[str]:
    """Put the files in place, then move the branch, unless somebody has edited a file; which ones that were.

    Args:
        leave: go on without the files that were edited.
    """
    edited: list[str] = []
    written: list[Path] = []
    folders: dict[Path, None] = {}
    look = _on_disk if staged is None else staged.on_disk
    for number, (path, (old, new)) in enumerate(_in_order(move.files), 1):
        if step is not None:
            step(number, len(move.files))
        found = look(repo.path, path)
        if _is_one_of(found, new):
            continue
        if not _is_one_of(found, old):
            edited.append(path)
            continue
        target = repo.path / path
        if new is None:
            target.unlink()
            folders[_remove_empty(target.parent, repo.path)] = None
        elif found != _FOLDER:
            ready = staged.take(path) if staged is not None else None
            if ready is None:
                ready = _write_blob(repo, repo.git_dir / _SCRATCH, new)
                written.append(target)
            folders |= dict.fromkeys(_put(ready, target))
        else:
            edited.append(path)  # a folder with somebody's files is in its place
        reach("sync.file_written")
    reach("sync.tree_updated")
    _flush([*written, *folders])
    if edited and not leave:
        return edited
    if repo.head() == move.start:
        # Before the branch: what HEAD has and the work tree must not have is known as that from the first moment.
        repo.set_quarantine(move.after)
        reach("sync.quarantine_written")
        repo.advance(move.start, move.target, move.blobs, note)
    reach("sync.ref_moved")
    return []


def _in_order(files: Side) -> list[tuple[str, tuple[Entry | None, Entry | None]]]:
    """New content before what goes, so that no memory is nowhere in between; first what is in the way of a new file."""
    coming = {path for path, (_, new) in files.items() if new is not None}
    folders = {folder for path in coming for folder in _above(path)}

    def turn(path: str, new: Entry | None) -> int:
        if new is not None:
            return 1
        return 0 if path in folders or any(folder in coming for folder in _above(path)) else 2

    return sorted(files.items(), key=lambda item: (turn(item[0], item[1][1]), item[0]))


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


_NOTHING, _FOLDER, _OTHER = "nothing", "a folder", "something else"
_Sign = tuple[int, int, int, int, int]  # device, inode, size; when its content, and anything about it, was changed


def _sign_of(root: Path, path: str) -> _Sign | str:
    """What tells whether a file has changed, or which of the above is there."""
    # Paths as text: a sync asks for thousands of files, and `pathlib` takes longer than the system does.
    *folders, name = path.split("/")
    target = os.fspath(root)
    for folder in folders:
        target = f"{target}{os.sep}{folder}"
        if os.path.islink(target):  # noqa: PTH114
            return _OTHER  # never through a link out of the repo
    target = f"{target}{os.sep}{name}"
    try:
        found = os.lstat(target)
    except (OSError, ValueError):
        return _NOTHING
    if stat.S_ISDIR(found.st_mode):
        return _FOLDER
    if not stat.S_ISREG(found.st_mode):
        return _OTHER
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_older(sign: _Sign, now: os.stat_result) -> bool:
    device, _, _, content, anything = sign
    return device == now.st_dev and content < now.st_mtime_ns and anything < now.st_ctime_ns


def _on_disk(root: Path, path: str) -> str:
    """The blob id of the file on disk, or which of the above is there."""
    sign = _sign_of(root, path)
    if isinstance(sign, str):
        return sign
    from adaptive_llm_gateway.memory._repo import MemoryRepo  # noqa: PLC0415 - it imports this module, too

    with open(f"{os.fspath(root)}{os.sep}{path.replace('/', os.sep)}", "rb") as file:  # noqa: PTH123
        return MemoryRepo.blob_id(file.read())


def _is_one_of(found: str, *entries: Entry | None) -> bool:
    """Whether what `_on_disk` found is what one of the entries says (None: not there)."""
    return any(found in (_NOTHING, _FOLDER) if entry is None else found == entry.blob for entry in entries)


def _may_go(root: Path, path: str, files: Mapping[str, tuple[Entry | None, Entry | None]]) -> bool:
    """Whether a folder that is where a file comes holds nothing but files that go."""
    folder = root / path
    if folder.is_symlink() or not folder.is_dir():
        return True
    inside = (
        found.relative_to(root).as_posix() for found in folder.rglob("*") if found.is_symlink() or not found.is_dir()
    )
    return all(found in files and files[found][1] is None for found in inside)


def _write_blob(repo: MemoryRepo, scratch: Path, entry: Entry) -> Path:
    # Not beside the target: nobody who watches the folder sees a half-written file.
    with open(scratch, "wb") as file:  # noqa: PTH123
        file.write(repo.read_blob(entry.blob))
    if entry.mode & 0o100 and os.name == "posix":
        scratch.chmod(0o755)
    return scratch


def _put(scratch: Path, target: Path) -> list[Path]:
    """Move a file into place; the folders that have another entry since."""
    try:
        try:
            scratch.replace(target)
        except FileNotFoundError:  # its folder is not there yet
            changed = _make_folder(target.parent)
            scratch.replace(target)
            return [*changed, target.parent]
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise StorageError(f"cannot write {str(target)!r}: {error.strerror}", path=str(target)) from error
    return [target.parent]


def _make_folder(folder: Path) -> list[Path]:
    """Make a folder; those above it that have another entry since."""
    missing = [folder]
    while not missing[-1].parent.is_dir():
        missing.append(missing[-1].parent)
    folder.mkdir(parents=True, exist_ok=True)
    return [path.parent for path in missing]


def _remove_empty(folder: Path, root: Path) -> Path:
    """Remove the folder and those above it while they are empty; the first that stays."""
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent
    return folder


def _flush(files: list[Path]) -> None:
    if len(files) > _FEW and hasattr(os, "sync"):
        os.sync()
        return
    for path in files:
        fsync_path(path)
