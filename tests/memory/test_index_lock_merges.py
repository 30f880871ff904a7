"""Merges that a person has begun with plain git, right after the hub has let git's index go: they stay theirs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from sync_made import AUTHOR, Clone, git

from adaptive_llm_gateway.core import RepoBusy
from adaptive_llm_gateway.memory import _git_index
from adaptive_llm_gateway.memory._values import Change

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be a lock that is removed there")

OURS, THEIRS = "notes/ours.md", "notes/theirs.md"


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A clone beside whose branch there is another one, `side`; it looks after its index throughout the test."""
    monkeypatch.setattr(_git_index, "_AFTER_SECONDS", 600.0)
    clone = Clone(tmp_path / "one", None)
    clone.put(OURS, "old")
    git(clone.root, "checkout", "-q", "-b", "side")
    clone.put(THEIRS, "theirs")
    clone.put(OURS, "as the side has it")
    git(clone.root, "checkout", "-q", "main")
    return clone


def ended_by_hand(clone: Clone) -> list[str]:
    """The hub looks, and waits; then the person commits. The parents of what comes of it."""
    assert clone.repo.index_unsettled  # else the hub would not look at all
    with pytest.raises(RepoBusy):
        clone.repo.check_ready()
    clone.repo.refresh_index()
    assert clone.repo.operation() == "merge"
    git(clone.root, "commit", "-q", "--no-edit")
    return git(clone.root, "rev-parse", "HEAD^1", "HEAD^2").split()


def test_a_merge_that_takes_nothing_of_the_other_side_is_left_to_its_person(one: Clone) -> None:
    one.put(OURS, "ours")
    parents = git(one.root, "rev-parse", "main", "side").split()
    git(one.root, "merge", "-q", "--no-commit", "-s", "ours", "side")
    assert ended_by_hand(one) == parents


def test_a_clash_of_which_a_person_takes_only_the_own_side_is_left_to_them(one: Clone) -> None:
    one.put(OURS, "ours")
    parents = git(one.root, "rev-parse", "main", "side").split()
    git(one.root, "merge", "-q", "side", check=False)
    git(one.root, "checkout", "-q", "--ours", OURS)
    git(one.root, "rm", "-q", "--cached", THEIRS)
    (one.root / THEIRS).unlink()
    git(one.root, "add", OURS)
    assert git(one.root, "diff", "--cached", "--name-only", "HEAD") == ""
    assert ended_by_hand(one) == parents


def test_a_clash_in_what_the_index_has_yet_to_learn_is_left_to_its_person(one: Clone) -> None:
    one.put(OURS, "ours")
    lock = one.repo.index_lock_file
    lock.touch()  # a git that merges has read HEAD and the index, and holds it
    one.repo.commit([Change(OURS, b"newer", "write", "", "t", AUTHOR)], update_index=False)
    (one.root / OURS).write_text("newer", encoding="utf-8")
    lock.unlink()
    git(one.root, "add", OURS)
    git(one.root, "merge", "-q", "side", check=False)
    assert OURS in git(one.root, "diff", "--name-only", "--diff-filter=U")
    git(one.root, "rm", "-q", "--cached", THEIRS)
    with pytest.raises(RepoBusy):
        one.repo.check_ready()
    assert one.repo.operation() == "merge"
