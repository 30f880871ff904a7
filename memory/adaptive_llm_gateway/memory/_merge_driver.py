"""Git's merge driver for memory repos: what git does with a file that both sides changed is what the hub does with it.

It is used by `git merge`, `pull`, `rebase`, `cherry-pick`, `revert` and `stash pop`; see
https://git-scm.com/docs/gitattributes#_defining_a_custom_merge_driver. Git runs it once for each such file, so nothing
slow is imported. Git holds its index meanwhile: what has to be kept beside the file, which the hub commits along, can
only be left in the working tree, for the next commit.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from adaptive_llm_gateway.core import ALLOWANCES_FILE
from adaptive_llm_gateway.memory._merge_files import (
    SUFFIX,
    beside,
    blob_id,
    id_of,
    marks_beside,
    merge_files,
    parsed,
    rank,
    text_of,
)

_GIT_SECONDS = 30


def run_merge_driver(base: str, ours: str, theirs: str, path: str, *, keep: bool = True) -> int:
    """Merge a file, where git asks for it; the result is where `ours` is. The current folder is the working tree.

    Args:
        base, ours, theirs: files with the three versions; an empty base is none.
        path: of the file in the repo.
        keep: leave what has to be kept beside the file. Git merges common ancestors with each other, too, of which
            nothing may stay.

    Returns:
        0: merged. 1: it could not be; `ours` is as it was, and git reports a conflict.
    """
    try:
        before, mine, other = (Path(name).read_bytes() for name in (base, ours, theirs))
        data, kept = _merge(path, before or None, mine, other)
        if kept is not None and keep:
            _keep(path, kept)
        if data != mine:
            Path(ours).write_bytes(data)
    except OSError as error:
        _say(f"{path} is not merged: {error.strerror or error}")
        return 1
    return 0


def _merge(path: str, base: bytes | None, ours: bytes, theirs: bytes) -> tuple[bytes, bytes | None]:
    """The merged file, and what has to be kept beside it."""
    if path == ALLOWANCES_FILE:
        from adaptive_llm_gateway.memory._merge_allowances import merge_allowances  # noqa: PLC0415 - rarely needed

        listed = merge_allowances(base, ours, theirs)
        if listed is not None:
            return listed, None
    for salt in count():
        merged = merge_files(base, ours, theirs, salt=salt)
        if merged is None:
            break
        if merged.kept is None or merged.kept_id is None:
            return merged.data, None
        present = _found(path, merged.kept_id)
        if present is None:
            return merged.data, merged.kept
        if _text(present) == _text(merged.kept):  # somebody has merged these two before
            return merged.data, None
    known = id_of(base) if base is not None and path.endswith(SUFFIX) else None
    newer, older = sorted((ours, theirs), key=lambda data: (known is not None and id_of(data) == known, rank(data)))[
        ::-1
    ]
    return newer, older


def _text(data: bytes) -> str | None:
    document = parsed(data)
    return text_of(document) if document else None


def _found(path: str, memory: str) -> bytes | None:
    """The file of a memory, if it is anywhere in the working tree or comes in with this merge."""
    ending = f"-{memory[-8:].lower()}{SUFFIX}"
    expected = Path(beside(path, memory[-8:].lower()))
    for data in _candidates(expected, ending):
        if id_of(data) == memory:
            return data
    return None


def _candidates(expected: Path, ending: str) -> Iterator[bytes]:
    with contextlib.suppress(OSError):
        yield expected.read_bytes()
    for name in _git("ls-files", "-z", "--cached", "--", f"*{ending}").split(b"\0"):
        with contextlib.suppress(OSError):
            if name:
                yield Path(os.fsdecode(name)).read_bytes()
    for commit in (name.removeprefix("GITHEAD_") for name in os.environ if name.startswith("GITHEAD_")):
        for name in _git("ls-tree", "-r", "-z", "--name-only", commit).split(b"\0"):
            if os.fsdecode(name).endswith(ending):
                yield _git("cat-file", "blob", f"{commit}:{os.fsdecode(name)}")


def _git(*arguments: str) -> bytes:
    import subprocess  # noqa: PLC0415 - only where texts clash

    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(["git", *arguments], capture_output=True, check=False, timeout=_GIT_SECONDS).stdout
    return b""


def _keep(path: str, data: bytes) -> None:
    """Leave a file beside another in the working tree, and say so."""
    root = Path.cwd().resolve()
    for mark in marks_beside(id_of(data) if path.endswith(SUFFIX) else None, blob_id(data)):
        name = beside(path, mark)
        target = root / name
        if name == path or os.path.lexists(target):
            if name != path and target.is_file() and target.read_bytes() == data:
                return
            continue
        if not target.parent.resolve().is_relative_to(root):
            raise OSError(f"{str(target.parent)!r} leads out of the working tree")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("xb") as file:
                file.write(data)
        except OSError:
            target.unlink(missing_ok=True)
            raise
        _say(f"{path}: both sides changed the same; the older text is kept as {name}. Commit that file, too.")
        return


def _say(text: str) -> None:
    print(f"alg: {''.join(char if char.isprintable() else '?' for char in text)}", file=sys.stderr)
