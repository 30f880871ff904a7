"""What is told of sync survives a crash, counts what happened, and leads somewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sync_made import AUTHOR, PATH, Clone, git, memory

from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._values import Change


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "remote.git")
    return tmp_path / "remote.git"


@pytest.fixture
def one(tmp_path: Path, remote: Path) -> Clone:
    return Clone(tmp_path / "one", remote)


@pytest.fixture
def two(tmp_path: Path, remote: Path) -> Clone:
    return Clone(tmp_path / "two", remote)


def killed(clone: Clone, operation: str, point: str) -> None:
    """Another process begins the operation and is killed at this point of it."""
    script = (
        "import sys\nfrom pathlib import Path\n"
        "from adaptive_llm_gateway.memory._repo import MemoryRepo\n"
        "from adaptive_llm_gateway.memory._sync import Sync\n"
        f"Sync(MemoryRepo.open(Path(sys.argv[1])), scan=lambda path, data: None).{operation}()\n"
    )
    died = subprocess.run(
        [sys.executable, "-c", script, str(clone.root)], env={**os.environ, "ALG_FAULT": point}, check=False
    )
    assert died.returncode == -9


# --- most memories are removed ------------------------------------------------------------------------


@pytest.fixture
def emptied(one: Clone, two: Clone, remote: Path, tmp_path: Path) -> list[str]:
    """Somebody has removed almost every memory, and `two` does not have that yet; the paths that go."""
    texts = {f"notes/2026/11/m-{number:08d}.md": memory("text\n", number=number) for number in range(10, 60)}
    for path, text in texts.items():
        (one.root / path).parent.mkdir(parents=True, exist_ok=True)
        (one.root / path).write_bytes(text.encode())
    one.repo.commit([Change(path, text.encode(), "write", "", "t", AUTHOR) for path, text in texts.items()])
    one.sync.push()
    two.sync.pull()
    git(tmp_path, "clone", "-q", str(remote), "mate")
    going = sorted(texts)[:45]
    git(tmp_path / "mate", "rm", "-q", *going)
    git(tmp_path / "mate", "commit", "-qm", "tidy up")
    git(tmp_path / "mate", "push", "-q")
    return going


def removals(clone: Clone) -> list[str]:
    return [problem.message for problem in clone.status.problems if problem.kind == "mass_removal"]


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize(
    "point", ["sync.journal_written", "sync.file_written:3", "sync.ref_moved", "sync.index_updated"]
)
def test_that_most_memories_went_is_told_though_the_pull_was_killed(
    two: Clone, emptied: list[str], point: str, diverged: bool
) -> None:
    if diverged:
        two.put(PATH, memory("mine\n"))
    killed(two, "pull", point)
    two.start()
    assert not (two.root / emptied[0]).exists()
    (told,) = removals(two)
    assert f"removed 45 of {50 + diverged} memories" in told
    (rescue,) = [name for name in two.repo.rescues() if name in told]
    assert git(two.root, "show", f"{rescue}:{emptied[0]}")
    two.sync.pull()
    assert removals(two) == [told]


@pytest.mark.parametrize("diverged", [False, True])
def test_a_removal_that_was_taken_back_is_told_only_once_it_has_come_about(
    two: Clone, emptied: list[str], diverged: bool
) -> None:
    if diverged:
        two.put(PATH, memory("mine\n"))
    killed(two, "pull", "sync.file_written:3")
    edited = two.root / emptied[-1]
    edited.write_text(memory("edited meanwhile\n", number=9), encoding="utf-8")
    two.start()
    assert (two.root / emptied[0]).exists()
    assert removals(two) == []
    text = edited.read_bytes()
    two.repo.commit([Change(emptied[-1], text, "edit", "", "t", AUTHOR)])
    two.sync.pull()
    (told,) = removals(two)
    assert f"removed 44 of {50 + diverged} memories" in told
    git(two.root, "reset", "-q", "--hard", next(name for name in two.repo.rescues() if name in told))
    two.repo = MemoryRepo.open(two.root)
    two.start()
    assert removals(two) == []
