"""Who holds git's `index.lock`: one of ours says so; git writes no process id into its own, so processes are looked at.

A lock of git's is held by whoever has it open, or by a git process at work in the repo that was there before the lock
was: git closes the file, and keeps the lock, while an editor is open. That nobody holds it is said only where everybody
who could is in sight.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from adaptive_llm_gateway.memory._index_lock import is_shared, read_lock

Owner = Literal["alive", "dead", "unknown"]

_SETTLED_SECONDS: Final = 10.0  # a lock as old as this is not just being taken or let go
_WITHOUT_PROC_SECONDS: Final = 60.0
_CLOCKS_DIFFER: Final = 2.0


@dataclass(frozen=True, slots=True)
class IndexLock:
    """A lock file on the git index.

    Attributes:
        age: seconds since it was written.
        owner: `alive`; `dead` where nobody is left who could hold it; `unknown` where that cannot be told.
        pid: the process that holds it, where it is known.
        ours: a hub took it; once that is dead, the next one takes it over.
    """

    path: Path
    age: float
    owner: Owner
    pid: int | None = None
    ours: bool = False

    @property
    def mine(self) -> bool:
        """Whether this process holds it."""
        return self.ours and self.owner == "alive" and self.pid == os.getpid()


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    folder: Path
    name: str
    user: int
    started: float


def look_at_lock(path: Path, *, root: Path, git_dir: Path) -> IndexLock | None:
    """The lock file at `path`, if it is there, and who holds it. A few milliseconds, and only while there is one.

    Args:
        root, git_dir: the work tree that it belongs to, and its git folder.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    found = read_lock(path)
    if found is not None:  # its time is its note's; it was taken when it became a file's second name
        return IndexLock(path, max(0.0, time.time() - status.st_ctime), found.owner, found.pid, ours=True)
    owner, pid = _owner(path, status, root, git_dir)
    try:
        again = path.stat()
    except OSError:
        return None
    age = max(0.0, time.time() - again.st_mtime)
    if (again.st_ino, again.st_mtime_ns) != (status.st_ino, status.st_mtime_ns):  # another one since
        return IndexLock(path, age, "unknown")
    if owner == "dead" and age < _SETTLED_SECONDS:
        owner = "unknown"
    return IndexLock(path, age, owner, pid)


def _owner(path: Path, status: os.stat_result, root: Path, git_dir: Path) -> tuple[Owner, int | None]:
    if sys.platform == "win32":
        return "unknown", None
    if not Path("/proc/self/stat").exists():
        return owner_by_ps(status), None
    hidden = status.st_uid != os.geteuid() and os.geteuid() != 0
    lock, root, git_dir = path.resolve(), root.resolve(), git_dir.resolve()
    for process in _processes():
        if process.started > status.st_mtime + _CLOCKS_DIFFER or process.pid == os.getpid():
            continue
        could = process.user in (0, status.st_uid)
        try:
            if _has_open(process, lock) or (process.name.startswith("git") and _works_in(process, root, git_dir)):
                return "alive", process.pid
        except FileNotFoundError:  # it has ended
            continue
        except OSError:
            hidden = hidden or (could and process.name.startswith("git"))
    return ("unknown" if hidden or is_shared(status.st_dev) else "dead"), None


def _processes() -> Iterator[_Process]:
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    ticks = os.sysconf("SC_CLK_TCK")
    for entry in os.listdir("/proc"):  # noqa: PTH208 - thousands of them
        if not entry.isdigit():
            continue
        folder = Path("/proc", entry)
        try:
            name, _, rest = (folder / "stat").read_bytes().partition(b"(")[2].rpartition(b")")
            numbers = rest.split()
            if numbers[0] in (b"Z", b"X"):  # it has ended, and holds nothing
                continue
            yield _Process(
                int(entry),
                folder,
                name.decode("utf-8", "replace"),
                folder.stat().st_uid,
                booted + int(numbers[19]) / ticks,
            )
        except (OSError, ValueError, IndexError):
            continue


def _has_open(process: _Process, lock: Path) -> bool:
    wanted = str(lock)
    folder = f"{process.folder}/fd"
    for entry in os.listdir(folder):  # noqa: PTH208 - thousands of them
        try:
            if os.readlink(f"{folder}/{entry}") == wanted:  # noqa: PTH115 - the same
                return True
        except OSError:
            continue
    return False


def _works_in(process: _Process, root: Path, git_dir: Path) -> bool:
    folder = Path(os.readlink(process.folder / "cwd"))  # noqa: PTH115 - not resolved any further
    if folder in (root, git_dir) or root in folder.parents or git_dir in folder.parents:
        return True
    words = (process.folder / "cmdline").read_bytes().split(b"\0")
    named = [word.partition(b"=")[2] for word in words if word.startswith((b"--git-dir=", b"--work-tree="))]
    named += [after for word, after in itertools.pairwise(words) if word in (b"--git-dir", b"-C")]
    for setting in (process.folder / "environ").read_bytes().split(b"\0"):
        name, _, value = setting.partition(b"=")
        if name in (b"GIT_DIR", b"GIT_WORK_TREE", b"GIT_INDEX_FILE"):
            named.append(value)
    places = {(folder / os.fsdecode(name)).resolve() for name in named if name}
    return any(place in (root, git_dir) or git_dir in place.parents for place in places)


def owner_by_ps(status: os.stat_result) -> Owner:
    """Without /proc: dead only where no git process at all is as old as the lock."""
    try:
        listed = subprocess.run(
            ["ps", "-axo", "lstart=,comm="],
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    for line in listed.stdout.decode("utf-8", "replace").splitlines():
        words = line.split(None, 5)
        if len(words) < 6 or not Path(words[5]).name.startswith("git"):
            continue
        try:
            started = datetime.strptime(" ".join(words[:5]), "%a %b %d %H:%M:%S %Y").timestamp()  # noqa: DTZ007
        except ValueError:
            return "unknown"
        if started <= status.st_mtime + _CLOCKS_DIFFER:
            return "unknown"
    return "dead" if time.time() - status.st_mtime > _WITHOUT_PROC_SECONDS else "unknown"
