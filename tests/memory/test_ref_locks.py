"""Lock files of references that a killed program left: those of nobody go, those of somebody stay."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sync_made import PATH, Clone, failure, git, memory

from adaptive_llm_gateway.core import RepoBusy

NAMES = ("refs/heads/main", "refs/remotes/origin/main", "refs/alg/quarantine", "packed-refs")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    remote = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    made = Clone(tmp_path / "one", remote)
    made.put(PATH, memory("one\n"))
    made.sync.push()
    return made


def left(clone: Clone, name: str, *, seconds: float) -> Path:
    """A lock file that a program, which is not there any more, left so long ago."""
    lock = clone.repo.git_dir / f"{name}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text("f" * 40 + "\n", encoding="utf-8")
    then = time.time() - seconds
    os.utime(lock, (then, then))
    return lock


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="without /proc it takes a minute to be sure")
@pytest.mark.parametrize("name", NAMES)
def test_a_lock_of_nobody_stops_neither_commit_nor_push(clone: Clone, name: str) -> None:
    lock = left(clone, name, seconds=60)
    clone.put(PATH, memory("two\n"))
    assert clone.sync.push().status.state == "pushed"
    assert git(clone.root, "rev-parse", "refs/remotes/origin/main").strip() == clone.repo.head()
    assert not lock.exists()
    assert git(clone.root, "fsck", "--no-dangling") == ""


def test_a_lock_that_somebody_holds_stays(clone: Clone) -> None:
    lock = left(clone, "refs/heads/main", seconds=60)
    with lock.open(encoding="utf-8") as file:
        holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[file.fileno()])
    try:
        then = time.time()  # whoever holds it was there before
        os.utime(lock, (then, then))
        assert not clone.repo.drop_dead_locks()
        with pytest.raises(RepoBusy):
            clone.put(PATH, memory("two\n"))
        assert lock.exists()
    finally:
        holder.communicate(b"\n")


def test_a_lock_that_was_only_just_taken_stays_and_a_push_says_what_is_locked(clone: Clone) -> None:
    lock = left(clone, "refs/remotes/origin/main", seconds=0)
    clone.put(PATH, memory("two\n"))
    failed = failure(clone.sync.push)
    assert failed.details["kind"] == "ref_locked"
    assert "origin/main" in str(failed.details["git"])
    assert clone.status.kind == "ref_locked"
    assert lock.exists()
    lock.unlink()
    assert clone.sync.push().status.state == "pushed"
