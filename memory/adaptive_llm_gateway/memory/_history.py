"""Questions to history: a file's across renames, what was deleted, and who wrote each file last."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pygit2
from pygit2.enums import SortMode

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory._commit_message import agents_and_reasons, told_by
from adaptive_llm_gateway.memory._git import run_git
from adaptive_llm_gateway.memory._values import Revision

# Records begin with 0x1e and fields end with NUL: with -z git puts NULs between everything else too, and neither
# byte can be in a commit message or a path.
_FORMAT = "%x1e%H%x00%ct%x00%an%x00%B%x00"
_LOG = ("log", "-z", "--raw", "--no-abbrev", f"--format={_FORMAT}")
_NO_BLOB = "0" * 40


@dataclass(frozen=True, slots=True)
class Told:
    """What the newest commit that names a file says of it."""

    operation: str
    agent: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class _Touched:
    version: str | None
    before: str | None
    path: str


def last_told(git: pygit2.Repository, head: str, *, commits: int, since: str | None = None) -> dict[str, Told]:
    """For each path that the newest commits name, what the newest of them says: one pass over messages.

    Args:
        commits: how many are looked at.
        since: neither this commit nor what leads to it is.
    """
    walk = git.walk(head, SortMode.TIME)
    if since is not None:
        walk.hide(since)
    told: dict[str, Told] = {}
    for commit in islice(walk, commits):
        for operation, path, agent, reason in told_by(commit.raw_message.decode("utf-8", "replace")):
            told.setdefault(path, Told(operation, agent, reason))
    return told


def file_history(root: Path, path: str, *, limit: int) -> list[Revision]:
    """The newest `limit` commits that touched `path`, across renames, newest first.

    Renames are followed here, one `git log` for each name: `git log --follow` cannot use the changed-path filters of
    the commit graph and looks at every commit's trees (220 ms against 28 ms for 6,000 commits).
    """
    revisions: list[Revision] = []
    start, current = "HEAD", path
    seen: set[tuple[str, str]] = set()
    while len(revisions) < limit and (start, current) not in seen:
        seen.add((start, current))
        found = _one_name(root, current, start, limit - len(revisions))
        revisions += [revision for revision, _ in found]
        if not found or not found[-1][1]:
            break
        born = found[-1][0].commit
        source = _renamed_from(root, born, current)
        if source is None:
            break
        start, current = f"{born}^", source
    return revisions


def _one_name(root: Path, path: str, start: str, limit: int) -> list[tuple[Revision, bool]]:
    """Revisions under one name, each with whether the file was new in it."""
    # Any other pathspec magic than `literal` would turn the changed-path filters off.
    output = run_git(
        [*_LOG, "-c", "--no-renames", f"--max-count={max(1, limit)}", start, "--", f":(literal){path}"],
        cwd=root,
        reading=True,
        timeout=60.0,
    ).text
    found: list[tuple[Revision, bool]] = []
    for commit, time, author, message, files in _records(output):
        touched = next((file for file in files if file.path == path), None)
        agents, reasons = agents_and_reasons(message, path)
        revision = Revision(
            commit=commit,
            version=touched.version if touched is not None else None,
            path=path,
            time=time,
            author=author,
            subject=message.partition("\n")[0],
            agents=agents,
            reasons=reasons,
        )
        found.append((revision, touched is not None and touched.before is None))
    return found


def _renamed_from(root: Path, commit: str, path: str) -> str | None:
    """What `path` was called before the commit that gave it this name; None where it was really new."""
    output = run_git(
        ["diff-tree", "-r", "-M", "-z", "--no-commit-id", "--diff-filter=R", "--name-status", "-l200", commit],
        cwd=root,
        reading=True,
        timeout=60.0,
    ).text
    items = output.split("\0")
    return next((items[n + 1] for n in range(0, len(items) - 2, 3) if items[n + 2] == path), None)


def last_deleted(root: Path, id_tail: str, *, exists: Callable[[str], bool]) -> tuple[str, str] | None:
    """Path and version before deletion of the newest deleted `…-<id_tail>.md` that is not there again."""
    if not re.fullmatch(r"[0-9A-Za-z]{4,26}", id_tail):
        raise InvalidInput(f"{id_tail!r} is not the end of a memory's id", hint="Give its last characters.")
    output = run_git(
        [*_LOG, "--no-renames", "--diff-filter=D", "--max-count=20", "HEAD", "--", f":(glob,icase)**/*{id_tail}.md"],
        cwd=root,
        reading=True,
        timeout=60.0,
    ).text
    for _, _, _, _, files in _records(output):
        for file in files:
            if file.before is not None and not exists(file.path):
                return file.path, file.before
    return None


def moment_of(seconds: str | int) -> datetime:
    """A commit's time; the nearest that can be told where somebody gave it an absurd one, and the first for none."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime(1970, 1, 1, tzinfo=UTC) if str(seconds)[:1] in ("", "-") else datetime(9999, 1, 1, tzinfo=UTC)


def _records(output: str) -> Iterator[tuple[str, datetime, str, str, list[_Touched]]]:
    for record in output.split("\x1e")[1:]:
        commit, time, author, message, rest = record.split("\0", 4)
        yield commit, moment_of(time), author, message.rstrip("\n"), _raw(rest)


def _raw(text: str) -> list[_Touched]:
    """Parse `--raw -z --no-renames`: `:mode mode old new STATUS NUL path NUL`, one more colon for each merge parent."""
    items = [item.strip("\n") for item in text.split("\0")]
    touched: list[_Touched] = []
    position = 0
    while position < len(items):
        meta = items[position]
        position += 1
        if not meta.startswith(":") or position >= len(items):
            continue
        parents = len(meta) - len(meta.lstrip(":"))
        fields = meta.lstrip(":").split(" ")
        blobs = fields[parents + 1 : -1]
        path = items[position]
        position += 1
        touched.append(_Touched(_blob(blobs[-1]), _blob(blobs[0]), path))
    return touched


def _blob(text: str) -> str | None:
    return None if text == _NO_BLOB else text
