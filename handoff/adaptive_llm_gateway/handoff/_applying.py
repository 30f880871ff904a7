"""Whether a patch would apply to a repository as it is now, told as `git apply` would and without changing anything.

libgit2 has such a check, but it looks for a change only on the very line where it was made, and cannot read every patch
that git makes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.handoff._patch import LINK, Side, blob_id, unquote
from adaptive_llm_gateway.handoff._repository import (
    as_stored,
    check_directory,
    in_words,
    open_repository,
    read_file,
)

if TYPE_CHECKING:
    import pygit2

MOST_PATCH: Final = 16 * 1024 * 1024
MOST_COMPARED: Final = 3_000_000
"""Lines that are compared before it is given up to look for where the changes belong."""

MOST_SECONDS: Final = 5.0

_MOST_NAMED: Final = 3
_LONGEST_NAME: Final = 80  # characters of a file's name, quoted

_HUNK = re.compile(rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_PLAIN = re.compile(rb"^(?=--- [^\n]*\n\+\+\+ [^\n]*\n@@ )", re.MULTILINE)
_IDS = re.compile(rb"index ([0-9a-f]{4,64})\.\.([0-9a-f]{4,64})(?: (\d{6}))?$")


@dataclass(slots=True)
class _Hunk:
    """Lines that are replaced, from line `at` of the new file, and by what; each line with its end."""

    at: int
    first: bool
    old: list[bytes] = field(default_factory=list[bytes])
    new: list[bytes] = field(default_factory=list[bytes])
    trailing: int = 0


@dataclass(slots=True)
class _File:
    """What a patch says of one file; the ids are as many digits of them as it has."""

    old: str = ""
    new: str = ""
    added: bool = False
    deleted: bool = False
    moved: bool = False
    copied: bool = False
    binary: bool = False
    old_mode: int = 0
    old_id: str = ""
    new_id: str = ""
    hunks: list[_Hunk] = field(default_factory=list[_Hunk])


class _Unreadable(ValueError):
    """The text is no patch."""


class _TooMuch(Exception):
    """It would take too long to know."""


def would_apply(patch: str, directory: Path, *, commit: str | None = None) -> tuple[bool | None, str]:
    """Whether `git apply` would take `patch` in the repository around `directory` as it is now; nothing is changed.

    Args:
        commit: what the work was on; when it is another commit here, a reason against says so.

    Returns:
        True or False, or None where it cannot be told (no repository here), and why in plain words.
    """
    try:
        check_directory(directory)
    except InvalidInput as error:
        return None, f"not here: {error.message}"
    repo, problem = open_repository(directory)
    if repo is None:
        return None, f"not here: {problem.removesuffix('.')}"
    if repo.is_bare:
        return None, "not here: the repository is bare"
    if len(patch) > MOST_PATCH:
        return None, f"not tried: the patch has more than {MOST_PATCH:,} characters"
    import pygit2  # noqa: PLC0415 - loaded by now, and only here

    try:
        problems, there = _problems(repo, _read_patch(patch.encode("utf-8")))
    except _Unreadable as error:
        return False, f"does not apply: {error}"
    except _TooMuch:
        return None, "not tried: there is too much to compare"
    except UnicodeEncodeError:
        return False, "does not apply: it is not text"
    except (pygit2.GitError, OSError, ValueError) as error:
        return None, f"not tried: {in_words(error)}"
    if not problems:
        return True, "applies"
    if there:
        return False, "does not apply: its changes are here already"
    reason = "does not apply: " + "; ".join(problems[:_MOST_NAMED])
    if len(problems) > _MOST_NAMED:
        reason += f"; and {len(problems) - _MOST_NAMED:,} more"
    with suppress(pygit2.GitError, KeyError):
        here = None if repo.head_is_unborn else str(repo.head.target)
        if commit is not None and here != commit:
            reason += f". It was made on commit {commit[:12]}, and here is {here[:12] if here else 'none'}"
    return False, reason


def _read_patch(patch: bytes) -> list[_File]:
    # No line of a hunk begins so: those begin with a space, a sign or a backslash.
    parts = re.split(rb"^(?=diff --git )", patch, flags=re.MULTILINE)
    files = [_read_file(part) for part in parts if part.startswith(b"diff --git ")]
    if not files:
        files = [_read_file(part) for part in _PLAIN.split(patch) if part.startswith(b"--- ")]
    if not files:
        raise _Unreadable("there is no change in it")
    return files


def _read_file(part: bytes) -> _File:
    found = _File()
    lines = part.split(b"\n")
    ended = lines.pop() if lines[-1] == b"" else None
    for number, line in enumerate(lines):
        word, _, rest = line.partition(b" ")
        if word == b"diff":
            found.old = found.new = _name_of_both(rest.removeprefix(b"--git "))
        elif line.startswith((b"old mode ", b"deleted file mode ")):
            found.old_mode = _mode(line)
            found.deleted = word == b"deleted"
        elif line.startswith(b"new file mode "):
            found.added = True
        elif line.startswith((b"rename from ", b"copy from ")):
            found.old = _name(rest.removeprefix(b"from "), 0)
            found.moved, found.copied = word == b"rename", word == b"copy"
        elif line.startswith((b"rename to ", b"copy to ")):
            found.new = _name(rest.removeprefix(b"to "), 0)
        elif ids := _IDS.match(line):
            found.old_id, found.new_id = ids[1].decode(), ids[2].decode()
            found.old_mode = int(ids[3], 8) if ids[3] else found.old_mode
        elif word == b"---":
            if rest.rstrip() == b"/dev/null":
                found.added = True
            else:
                found.old = _name(rest, 1)
        elif word == b"+++":
            if rest.rstrip() == b"/dev/null":
                found.deleted, found.new = True, found.old
            else:
                found.new = _name(rest, 1)
                found.old = found.new if found.added else found.old
        elif line in (b"GIT binary patch", b"Binary files differ") or line.startswith(b"Binary files "):
            found.binary = True
            break
        elif line.startswith(b"@@ "):
            found.hunks = _read_hunks(lines[number:], ended is None)
            break
    if not found.old or not found.new:
        raise _Unreadable("it does not say which file it changes")
    for path in {found.old, found.new}:
        if any(part.lower() in ("", ".", "..", ".git") for part in path.split("/")) or "\0" in path:
            raise _Unreadable(f"it names {_quoted(path)}, which is no place in a repository")
    return found


def _read_hunks(lines: list[bytes], cut: bool) -> list[_Hunk]:
    hunks: list[_Hunk] = []
    at = 0
    while at < len(lines) and (heading := _HUNK.match(lines[at])):
        olds, news = int(heading[2] or 1), int(heading[4] or 1)
        begin, new_begin = int(heading[1]), int(heading[3])
        hunk = _Hunk(max(new_begin - 1, 0), begin <= 1)
        at += 1
        while olds > 0 or news > 0 or (at < len(lines) and lines[at].startswith(b"\\")):
            if at >= len(lines) or (cut and at == len(lines) - 1):
                raise _Unreadable("it ends in the middle of a change")
            sign, text = lines[at][:1] or b" ", lines[at][1:] + b"\n"
            if sign == b"\\":
                for side in _last_of(hunk, lines[at - 1][:1]):
                    side[-1] = side[-1].removesuffix(b"\n")
            elif sign not in (b" ", b"-", b"+"):
                raise _Unreadable(f"line {lines[at][:60]!r} is none of a patch")
            if sign in (b" ", b"-"):
                hunk.old.append(text)
                olds -= 1
            if sign in (b" ", b"+"):
                hunk.new.append(text)
                news -= 1
            if sign != b"\\":
                hunk.trailing = hunk.trailing + 1 if sign == b" " else 0
            at += 1
        hunks.append(hunk)
    if not hunks:
        raise _Unreadable("it cannot be read")
    return hunks


def _last_of(hunk: _Hunk, sign: bytes) -> Iterator[list[bytes]]:
    """The sides that the line before ended, where it says that it has no newline."""
    if sign in (b" ", b"-", b"") and hunk.old:
        yield hunk.old
    if sign in (b" ", b"+", b"") and hunk.new:
        yield hunk.new


def _mode(line: bytes) -> int:
    digits = line.rsplit(b" ", 1)[-1]
    return int(digits, 8) if re.fullmatch(rb"[0-7]{6}", digits) else 0


def _name(said: bytes, strip: int) -> str:
    path = unquote(said) if said.startswith(b'"') else said.split(b"\t")[0]
    return os.fsdecode(path.split(b"/", strip)[-1] if strip else path)


def _name_of_both(said: bytes) -> str:
    """The name in `a/NAME b/NAME`, where both are the same; empty where they are not."""
    if said.startswith(b'"'):
        return _name(said, 1)
    name = said[2 : 2 + (len(said) - 5) // 2]
    return os.fsdecode(name) if said[:2] + name + said[2 + len(name) : 5 + len(name)] + name == said else ""


def _problems(repo: pygit2.Repository, files: list[_File]) -> tuple[list[str], bool]:
    """What speaks against each file, and whether all that they say is so already."""
    top = os.path.realpath(repo.workdir)
    leaves = {file.old for file in files if file.deleted or file.moved}
    problems: list[str] = []
    there = True
    left = MOST_COMPARED
    deadline = time.monotonic() + MOST_SECONDS
    for file in files:
        if time.monotonic() >= deadline:
            raise _TooMuch
        problem: str | None = None
        if not file.added:
            problem, compared = _against(repo, top, file, left)
            left -= compared
        if problem is None and (file.added or file.moved or file.copied) and file.new not in leaves:
            problem = _in_the_way(top, file.new, leaves)
        there = there and _is_so(repo, top, file)
        if problem is not None:
            problems.append(problem)
    return problems, there


def _quoted(path: str) -> str:
    """A name for a sentence; of a long one its end, which tells files apart."""
    name = repr(path)
    return name if len(name) <= _LONGEST_NAME else f"{name[0]}…{name[2 - _LONGEST_NAME :]}"


def _in_the_way(top: str, path: str, leaves: set[str]) -> str | None:
    """What stands where a new file would, unless the patch itself removes it."""
    parts = path.split("/")
    for depth in range(1, len(parts)):
        above = "/".join(parts[:depth])
        at = Path(top, above)
        if above not in leaves and os.path.lexists(at) and (at.is_symlink() or not at.is_dir()):
            return f"{_quoted(above)} is in the way"
    at = Path(top, path)
    if at.is_dir() and not at.is_symlink():
        for base, _, names in os.walk(at):
            if any(Path(base, name).relative_to(top).as_posix() not in leaves for name in names):
                return f"{_quoted(path)} is in the way"
        return None
    return f"{_quoted(path)} is there already" if os.path.lexists(at) else None


def _against(repo: pygit2.Repository, top: str, file: _File, left: int) -> tuple[str | None, int]:
    """What speaks against changing a file that has to be there, and how many lines were compared to know."""
    now = read_file(top, file.old)
    if now is None:
        return f"{_quoted(file.old)} is not here", 0
    if not isinstance(now, str):
        now = as_stored(repo, file.old, now)
    if isinstance(now, str):
        return f"{_quoted(file.old)} cannot be compared", 0
    if file.old_mode and now.is_link != (file.old_mode == LINK):
        return f"{_quoted(file.old)} is no longer of the same kind", 0
    if file.binary:
        same = len(file.old_id) == 40 and blob_id(now.data) == file.old_id
        return (None if same else f"{_quoted(file.old)} has changed"), 0
    if not file.hunks:
        return (f"{_quoted(file.old)} has changed" if file.deleted and now.data else None), 0
    lines = _lines(now.data)
    compared = 0
    for hunk in file.hunks:
        at, cost = _place(lines, hunk, left - compared)
        compared += cost
        if at is None:
            return f"{_quoted(file.old)} has changed", compared
        lines[at : at + len(hunk.old)] = hunk.new
    return (f"{_quoted(file.old)} has changed" if file.deleted and lines else None), compared


def _lines(data: bytes) -> list[bytes]:
    """Lines that end with a newline, and with nothing else."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop().removesuffix(b"\n")
    return [*lines, last] if last else lines


def _place(lines: list[bytes], hunk: _Hunk, left: int) -> tuple[int | None, int]:
    """Where the lines of `hunk` are, next to where they were, and how many were compared."""
    size = len(hunk.old)
    last = len(lines) - size
    if hunk.first:
        places: Iterator[int] = iter((0,))
    elif not hunk.trailing:
        places = iter((last,))
    else:
        places = _outwards(min(hunk.at, max(last, 0)), last)
    compared = 0
    for at in places:
        compared += 1
        if compared > left:
            break
        if at < 0 or at > last or (not hunk.trailing and at != last):
            continue
        if size and lines[at] != hunk.old[0]:
            continue
        compared += size
        if lines[at : at + size] == hunk.old:
            return at, compared
    return None, compared


def _outwards(begin: int, last: int) -> Iterator[int]:
    yield begin
    for distance in range(1, max(begin, last - begin) + 1):
        yield begin - distance
        yield begin + distance


def _is_so(repo: pygit2.Repository, top: str, file: _File) -> bool:
    """Whether a file is already what the patch would make of it, as far as the patch names that."""
    now = read_file(top, file.new)
    if file.deleted:
        return now is None
    if not isinstance(now, Side) or not file.new_id.strip("0"):
        return False
    now = as_stored(repo, file.new, now)
    return isinstance(now, Side) and blob_id(now.data).startswith(file.new_id)
