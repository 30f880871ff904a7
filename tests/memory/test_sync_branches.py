"""The remote's branch is another one, was renamed, or went back: no push makes up for it without a word."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import ConfigError, SyncError, Trust


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True, timeout=60)
    return path


def refusal(store: Any) -> SyncError:
    with pytest.raises(SyncError) as caught:
        store.push().result(60)
    return caught.value


def kinds(store: Any) -> set[str]:
    return {problem.kind for problem in store.sync_status().problems}


def test_a_push_that_nobody_asked_for_makes_no_branch_beside_those_of_the_remote(bench: Any, remote: Path) -> None:
    first = bench.open("first", remote=str(remote), branch="trunk")
    bench.write(first, "What the team knows")
    first.push().result(60)
    second = bench.open("second", remote=str(remote), push_after_write=True, push_delay=0.0)
    bench.write(second, "Mine")
    bench.poll(lambda: second.sync_status().attempts, "an attempt")
    assert second.sync_status().state == "failed"
    assert kinds(second) == {"missing_branch"}
    assert bench.git(remote, "branch", "--format=%(refname:short)").split() == ["trunk"]
    second.push().result(60)
    assert second.sync_status().state == "pushed"
    assert bench.git(remote, "branch", "--format=%(refname:short)").split() == ["main", "trunk"]


def test_a_branch_that_the_remote_renamed_is_not_made_again_unasked(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote), push_after_write=True, push_delay=0.0)
    bench.write(store, "First")
    bench.poll(lambda: store.sync_status().state == "pushed", "the push")
    before = store.repo.head()
    bench.git(remote, "branch", "-m", "main", "trunk")
    bench.write(store, "Second")
    bench.poll(lambda: store.sync_status().attempts, "an attempt")
    assert kinds(store) == {"missing_branch"}
    assert bench.git(remote, "branch", "--format=%(refname:short)").split() == ["trunk"]
    kept = [bench.git(store, "rev-parse", name).strip() for name in store.repo.rescues()]
    assert before in kept
    bench.git(store, "branch", "-m", "main", "trunk")
    store.sync().result(60)
    assert store.sync_status().state == "pushed"
    assert bench.git(remote, "rev-parse", "trunk").strip() == store.repo.head()


def test_a_push_says_when_the_remote_went_back_before_it_brings_anything_again(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote))
    bench.write(store, "Kept")
    bench.write(store, "Taken out")
    store.push().result(60)
    gone = store.repo.head()
    bench.git(remote, "update-ref", "refs/heads/main", "main~1")
    bench.write(store, "Third")
    store.push().result(60)
    assert kinds(store) == {"history_rewritten"}
    assert gone in [bench.git(store, "rev-parse", name).strip() for name in store.repo.rescues()]


def test_what_is_above_the_level_and_was_taken_out_of_the_remote_does_not_go_back_there(
    bench: Any, remote: Path
) -> None:
    mate = bench.open("mate", remote=str(remote))
    bench.write(mate, "Plan")
    mate.push().result(60)
    store = bench.open("team", remote=str(remote), trust=Trust.INTERNAL)
    bench.write(mate, "Salaries", trust=Trust.CONFIDENTIAL)
    mate.push().result(60)
    store.pull().result(60)
    assert len(list(store.records())) == 2
    bench.git(remote, "update-ref", "refs/heads/main", "main~1")
    bench.write(store, "Note")
    error = refusal(store)
    assert error.details["kind"] == "trust_outgoing"
    assert [found["title"] for found in error.details["memories"]] == ["Salaries"]
    assert bench.git(remote, "rev-list", "--count", "main").strip() == "2"


def test_a_remote_whose_configured_refspec_names_the_branches_here_is_pulled_all_the_same(
    bench: Any, remote: Path
) -> None:
    store = bench.open(remote=str(remote))
    bench.write(store, "First")
    store.push().result(60)
    bench.git(store, "config", "remote.origin.fetch", "+refs/heads/*:refs/heads/*")
    other = bench.open("other", remote=str(remote))
    bench.write(other, "Second")
    other.sync().result(60)
    store.pull().result(60)
    assert len(list(store.records())) == 2


def test_the_branch_of_a_repo_may_be_named_anew_and_back_before_anything_is_written(bench: Any) -> None:
    for name in ("main", "team", "main", "team"):
        store = bench.open(branch=name)
        assert store.repo.branch == name
        store.close()
    path = store.repo.path
    bench.git(path, "commit", "-q", "--allow-empty", "-m", "by hand")
    bench.git(path, "switch", "-q", "main")
    with pytest.raises(ConfigError, match="is on the branch 'main'"):
        bench.open(branch="team")
    assert bench.git(path, "rev-list", "--count", "team").strip() == "2"
