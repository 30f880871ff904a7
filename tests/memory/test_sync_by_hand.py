"""A person's plain git in the memory repo while a store has it open: what lies there then is no edit of a branch."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(path)], check=True, timeout=60)
    return path


@pytest.fixture
def store(bench: Any, remote: Path) -> Any:
    """A store with six memories, which its remote has, and a branch `older` from when there were three."""
    opened = bench.open(remote=str(remote))
    for number in range(6):
        bench.write(opened, f"Memory {number}", body=f"text {number}\n")
        if number == 2:
            bench.git(opened, "branch", "older")
    opened.push().result(60)
    bench.tidy(opened)
    return opened


class SlowCheckout:
    """A `git checkout` that has taken away what the other branch lacks, and waits before it puts anything in place."""

    def __init__(self, bench: Any, store: Any, branch: str, folder: Path) -> None:
        self._go = folder / "go"
        waiting = f"until test -e '{self._go}'; do sleep 0.02; done; cat"
        bench.git(store, "config", "filter.slow.smudge", waiting)
        attributes = store.repo.git_dir / "info" / "attributes"
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text("*.md filter=slow\n", encoding="utf-8")
        before = set(store.repo.path.rglob("*.md"))
        self._process = subprocess.Popen(["git", "checkout", "-q", branch], cwd=store.repo.path)
        bench.poll(lambda: set(store.repo.path.rglob("*.md")) < before, "files to go")

    def finish(self) -> None:
        self._go.touch()
        assert self._process.wait(30) == 0

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(30)


@pytest.fixture
def slow_checkout(bench: Any, store: Any, tmp_path: Path) -> Iterator[SlowCheckout]:
    bench.update(store, next(record.id for record in store.records() if record.title == "Memory 0"), body="newer\n")
    store.push().result(60)
    bench.tidy(store)
    checkout = SlowCheckout(bench, store, "older", tmp_path)
    yield checkout
    checkout.end()


def heads(bench: Any, store: Any, remote: Path) -> tuple[str, str]:
    return bench.git(store, "rev-parse", "main").strip(), bench.git(remote, "rev-parse", "main").strip()


def test_a_look_at_an_older_commit_deletes_nothing(bench: Any, store: Any, remote: Path) -> None:
    before = heads(bench, store, remote)
    bench.git(store, "checkout", "-q", "HEAD~2")
    bench.noticed(store)
    bench.git(store, "switch", "-q", "main")
    bench.noticed(store)
    store.sync().result(60)
    assert heads(bench, store, remote) == before
    assert len(list(store.records())) == 6
    bench.tidy(store)


def test_a_checkout_that_is_under_way_is_no_edit_of_the_branch_that_is_left(
    bench: Any, store: Any, remote: Path, slow_checkout: SlowCheckout
) -> None:
    before = heads(bench, store, remote)
    bench.noticed(store)
    store.push().result(60)
    assert heads(bench, store, remote) == before
    slow_checkout.finish()
    bench.noticed(store)
    assert len(list(store.records())) == 3
    bench.git(store, "checkout", "-q", "main")
    bench.noticed(store)
    store.push().result(60)
    assert heads(bench, store, remote) == before
    assert len(list(store.records())) == 6
    bench.tidy(store)


def test_what_went_and_is_back_as_it_was_before_its_commit_is_no_deletion_and_no_edit(bench: Any, store: Any) -> None:
    commits = bench.commits(store)
    files = [bench.file(store, record.id) for record in store.records()]
    texts = [file.read_bytes() for file in files]
    lock = bench.lock_branch(store)
    files[0].unlink()
    files[1].write_bytes(texts[1].replace(b"text", b"older"))
    files[2].write_bytes(texts[2].replace(b"text", b"edited"))
    store._edited({file.relative_to(store.repo.path).as_posix() for file in files})
    bench.poll(lambda: any("commits fail" in notice for notice in store.status().notices), "the first attempt")
    for file, text in zip(files[:2], texts[:2], strict=True):
        file.write_bytes(text)
    lock.unlink()
    bench.poll(lambda: store.status().uncommitted == 0, "the commit")
    bench.noticed(store)
    assert bench.commits(store) == commits + 1
    assert len(list(store.records())) == 6
    assert b"edited" in files[2].read_bytes()
    bench.tidy(store)


def test_what_the_last_end_left_is_taken_in_once_head_is_on_a_branch_again(
    bench: Any, store: Any, remote: Path
) -> None:
    before = heads(bench, store, remote)
    store.close()
    path = store.repo.path
    bench.git(path, "checkout", "-q", "HEAD~2")
    again = bench.open(remote=str(remote))
    assert again.sync_status().kind == "detached_head"
    assert len(list(again.records())) == 6
    bench.git(path, "switch", "-q", "main")
    edited = next(path.rglob("memory-0-*.md"))
    edited.write_bytes(edited.read_bytes().replace(b"text 0", b"by hand"))
    again.push().result(60)
    assert bench.git(remote, "rev-list", "--count", f"{before[1]}..main").strip() == "1"
    assert [hit.record.title for hit in again.search("hand").hits] == ["Memory 0"]
    bench.tidy(again)


def test_what_a_sparse_checkout_leaves_out_is_not_deleted(bench: Any, store: Any, remote: Path) -> None:
    other = bench.write(store, "A decision", type="decision")
    store.push().result(60)
    bench.tidy(store)
    before = heads(bench, store, remote)
    bench.git(store, "sparse-checkout", "set", "decisions")
    assert not list(store.repo.path.rglob("memory-*.md"))
    bench.noticed(store)
    bench.file(store, other.id).unlink()
    store.push().result(60)
    assert bench.git(remote, "diff", "--name-status", before[1], "main").split() == ["D", other.path]
    store.close()
    again = bench.open(remote=str(remote))
    bench.git(again, "sparse-checkout", "disable")
    again.sync().result(60)
    assert len(list(again.records())) == 6
    bench.tidy(again)


def test_a_pull_brings_what_others_changed_of_that_which_a_sparse_checkout_leaves_out(
    bench: Any, store: Any, remote: Path
) -> None:
    mate = bench.open("mate", remote=str(remote))
    mate.pull().result(60)
    bench.git(store, "update-index", "--refresh")
    bench.git(store, "sparse-checkout", "set", "decisions")
    assert not list(store.repo.path.rglob("memory-*.md"))
    changed, gone, same = sorted(mate.records(), key=lambda record: record.title)[:3]
    bench.update(mate, changed.id, body="by others\n")
    bench.file(mate, gone.id).unlink()
    bench.noticed(mate)
    mate.push().result(60)
    store.sync().result(60)
    assert bench.file(store, changed.id).read_text(encoding="utf-8").endswith("by others\n")
    assert [hit.record.id for hit in store.search("others").hits] == [changed.id]
    assert gone.id not in {record.id for record in store.records()}
    assert not (store.repo.path / same.path).exists()
    bench.git(store, "sparse-checkout", "disable")
    bench.tidy(store)
    bench.tidy(mate)


def test_memories_whose_names_were_swapped_by_hand_are_both_found_and_keep_no_pull_waiting(
    bench: Any, store: Any, remote: Path
) -> None:
    mate = bench.open("mate", remote=str(remote))
    mate.pull().result(60)
    first, second = (record for record in store.records() if record.title in ("Memory 0", "Memory 1"))
    paths = [bench.file(store, record.id) for record in (first, second)]
    texts = [path.read_bytes() for path in paths]
    for path, text in zip(paths, reversed(texts), strict=True):
        path.write_bytes(text)
    bench.noticed(store)
    assert store.status().skipped == ()
    bench.update(mate, first.id, body="from the mate\n")
    mate.push().result(60)
    store.sync().result(60)
    mate.pull().result(60)
    for each in (store, mate):
        assert each.record(first.id).path == second.path
        assert each.read(first.id).record.body == "from the mate\n"
        assert each.read(second.id).record.body == second.body
        bench.tidy(each)
