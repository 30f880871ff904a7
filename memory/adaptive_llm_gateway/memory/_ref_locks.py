"""Lock files of references that a program left when it was killed: found to be nobody's, and removed.

What such a file holds was never in place, so nothing is lost with it. While it lies there, no commit, pull or push gets
through; a hub that is killed in the wrong microsecond leaves one of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from adaptive_llm_gateway.memory._lock_owner import look_at_lock

_SUFFIX = ".lock"


def drop_dead_ref_locks(*, root: Path, git_dir: Path, common_dir: Path) -> tuple[Path, ...]:
    """Remove the lock files of references whose owner is dead; those where that cannot be told stay.

    Args:
        root, git_dir: the work tree and its git folder.
        common_dir: where the references are.

    Returns:
        What was removed.
    """
    dropped: list[Path] = []
    for path in _lock_files(common_dir):
        lock = look_at_lock(path, root=root, git_dir=git_dir)
        if lock is not None and lock.owner == "dead":
            with contextlib.suppress(OSError):
                path.unlink()
                dropped.append(path)
    return tuple(dropped)


def _lock_files(common_dir: Path) -> Iterator[Path]:
    packed = common_dir / f"packed-refs{_SUFFIX}"
    if packed.exists():
        yield packed
    for folder, _, names in os.walk(common_dir / "refs"):
        for name in names:
            if name.endswith(_SUFFIX):  # which no reference may be called
                yield Path(folder, name)
