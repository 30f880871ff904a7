"""Questions to `git log`: a file's history across renames, and what was deleted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory._commit_message import agents_and_reasons
from adaptive_llm_gateway.memory._git import run_git
from adaptive_llm_gateway.memory._values import Revision

# Records begin with 0x1e and fields end with NUL: with -z git puts NULs between everything else too, and neither
# byte can be in a commit message or a path.
_FORMAT = "%x1e%H%x00%ct%x00%an%x00%B%x00"
_LOG = ("log", "-z", "--raw", "--no-abbrev", f"--format={_FORMAT}")
_NO_BLOB = "0" * 40


@dataclass(frozen=True, slots=True)
class _Touched:
    version: str | None
    before: str | None
    path: str


def file_history(root: Path, path: str, *, limit: int) -> list[Revision]:
    """The newest `limit` commits that touched `path`, across renames, newest first."""
    output = run_git(
        [*_LOG, "--follow", "-c", f"--max-count={max(1, limit)}", "HEAD", "--", path],
        cwd=root,
        reading=True,
        timeout=60.0,
    ).text
    revisions: list[Revision] = []
    current = path
    for commit, time, author, message, files in _records(output):
        # With --follow git names the file as it was called in that commit.
        touched = next((file for file in files if file.path == current), files[0] if files else None)
        if touched is not None:
            current = touched.path
        agents, reasons = agents_and_reasons(message, current)
        revisions.append(
            Revision(
                commit=commit,
                version=touched.version if touched is not None else None,
                path=current,
                time=time,
                author=author,
                subject=message.partition("\n")[0],
                agents=agents,
                reasons=reasons,
            )
        )
    return revisions


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


def _records(output: str) -> Iterator[tuple[str, datetime, str, str, list[_Touched]]]:
    for record in output.split("\x1e")[1:]:
        commit, time, author, message, rest = record.split("\0", 4)
        yield commit, datetime.fromtimestamp(int(time), UTC), author, message.rstrip("\n"), _raw(rest)


def _raw(text: str) -> list[_Touched]:
    """Parse `--raw -z`: `:mode mode old new STATUS NUL path NUL [path NUL]`, one more colon for each merge parent."""
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
        status = fields[-1]
        blobs = fields[parents + 1 : -1]
        path = items[position]
        position += 1
        if parents == 1 and status[:1] in "RC" and position < len(items):
            path = items[position]  # the new name; the old one follows from the next commit
            position += 1
        touched.append(_Touched(_blob(blobs[-1]), _blob(blobs[0]), path))
    return touched


def _blob(text: str) -> str | None:
    return None if text == _NO_BLOB else text
