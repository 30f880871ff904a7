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


# --- what is counted ----------------------------------------------------------------------------------


def test_a_push_that_fills_a_remote_that_was_emptied_counts_all_that_it_brings_and_says_so(
    one: Clone, remote: Path
) -> None:
    one.put(PATH, memory("x\n"))
    assert one.sync.push().pushed == 2
    git(remote, "update-ref", "-d", "refs/heads/main")
    done = one.sync.push()
    assert (done.pushed, done.status.state) == (2, "pushed")
    (notice,) = done.status.problems
    assert (notice.kind, notice.blocks) == ("remote_emptied", False)
    assert one.sync.push().pushed == 0


def test_a_push_counts_what_the_remote_did_not_have_whatever_was_known_of_it(
    one: Clone, two: Clone, remote: Path
) -> None:
    one.put(PATH, memory("x\n"))
    one.sync.push()
    two.sync.pull()
    two.put("notes/a.md", "a")
    two.put("notes/b.md", "b")
    git(two.root, "push", "-q", str(remote), "main~1:main")  # by hand, past what is known of the remote
    assert two.sync.push().pushed == 1
    two.put("notes/c.md", "c")
    git(two.root, "push", "-q", str(remote), "main")
    assert two.sync.push().pushed == 0
    one.put("notes/d.md", "d")
    assert one.sync.push().pushed == 2  # its own commit and the merge


@pytest.mark.parametrize("point", ["sync.fetched", "sync.journal_written"])
def test_after_a_first_pull_that_was_killed_the_status_counts_what_is_so(one: Clone, two: Clone, point: str) -> None:
    for number in range(3):
        one.put(f"notes/{number}.md", "x")
    one.sync.push()
    killed(two, "pull", point)
    two.start()
    status = two.status
    behind = 3 if point == "sync.fetched" else 0
    assert (status.state, status.ahead, status.behind) == ("behind" if behind else "pushed", 0, behind)


def test_after_a_first_push_that_was_killed_the_status_does_not_say_that_all_waits(one: Clone) -> None:
    one.put(PATH, memory("x\n"))
    killed(one, "push", "sync.pushed")
    one.start()
    assert (one.status.state, one.status.ahead) == ("pushed", 0)
