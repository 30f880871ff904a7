"""What commits bring and have in common, told in process: as git tells it, or git is asked."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pygit2
import pytest
from pygit2.enums import FileMode
from sync_made import git

from adaptive_llm_gateway.memory._brought import brought
from adaptive_llm_gateway.memory._merge_base import Ancestry
from adaptive_llm_gateway.memory._repo import MemoryRepo

_NOW = 1_700_000_000
_numbers = itertools.count()


@pytest.fixture
def repo(tmp_path: Path) -> pygit2.Repository:
    return pygit2.init_repository(str(tmp_path / "repo"), bare=True)


def commit(repo: pygit2.Repository, files: dict[str, bytes], *parents: str, at: int = _NOW) -> str:
    """A commit of these files, each at the top or in one folder."""
    folders: dict[str, dict[str, bytes]] = {}
    for path, data in files.items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = data
    top = repo.TreeBuilder()
    for folder, inside in folders.items():
        tree = repo.TreeBuilder() if folder else top
        for name, data in inside.items():
            tree.insert(name, repo.create_blob(data), FileMode.BLOB)
        if folder:
            top.insert(folder, tree.write(), FileMode.TREE)
    who = pygit2.Signature("Test", "test@example.org", at, 0)
    return str(repo.create_commit(None, who, who, f"{next(_numbers)}\n", top.write(), list(parents)))


def named_by_git(repo: pygit2.Repository, commit: str, without: str | None) -> set[str]:
    exclude = ["--not", without] if without is not None else []
    listed = git(Path(repo.path), "rev-list", "--objects", commit, *exclude)
    names = {line.split(" ")[0] for line in listed.splitlines()}
    return {name for name in names if not isinstance(repo[name], pygit2.Tree)}


@pytest.mark.parametrize("seed", range(12))
def test_nothing_that_git_would_send_is_left_out(repo: pygit2.Repository, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    paths = ["a", "b", "notes/c", "notes/d", "facts/e"]
    known: list[tuple[str, dict[str, bytes]]] = [(commit(repo, {"a": b"start"}), {"a": b"start"})]
    for number in range(20):
        parents = dice.sample(known, min(len(known), dice.choice((1, 1, 2))))
        files = dict(parents[0][1])
        for other in parents[1:]:
            files |= {path: data for path, data in other[1].items() if dice.random() < 0.5}
        for path in dice.sample(paths, 2):
            if dice.random() < 0.3:
                files.pop(path, None)
            else:
                files[path] = dice.choice((f"text {number}".encode(), b"the same", dice.choice(known)[1].get("a", b"")))
        when = _NOW + dice.randrange(-10_000, 10_000)  # clocks are wrong
        known.append((commit(repo, files, *(parent for parent, _ in parents), at=when), files))
    told = 0
    for (tip, _), (without, _) in itertools.permutations(known, 2):
        found = brought(repo, tip, without)
        if found is not None:
            told += bool(found)
            assert named_by_git(repo, tip, without) <= {name for name, _ in found}
    assert told > 20


def test_what_a_merge_takes_from_the_other_side_is_not_named(repo: pygit2.Repository) -> None:
    base = commit(repo, {"a": b"a"})
    theirs = commit(repo, {"a": b"a", "b": b"theirs"}, base)
    ours = commit(repo, {"a": b"ours"}, base)
    merge = commit(repo, {"a": b"ours", "b": b"theirs", "notes/c": b"of the merge"}, ours, theirs)
    found = brought(repo, merge, theirs)
    assert found is not None
    assert {(name, path) for name, path in found if path} == {
        (str(pygit2.hash(b"ours")), "a"),
        (str(pygit2.hash(b"of the merge")), "notes/c"),
    }
    assert {name for name, path in found if not path} == {merge, ours}


def test_of_many_commits_git_has_to_tell(repo: pygit2.Repository) -> None:
    tip = first = commit(repo, {"a": b"0"})
    for number in range(40):
        tip = commit(repo, {"a": str(number).encode()}, tip)
    assert brought(repo, tip, None) is None
    assert brought(repo, tip, first) is None
    assert brought(repo, first, None) is not None


@pytest.mark.parametrize("seed", range(8))
def test_what_two_commits_have_in_common_is_as_git_says(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    root = tmp_path / "repo"
    repo = MemoryRepo.open(root)
    git_, ancestry = repo.thread_repo, Ancestry(repo)
    known = [commit(git_, {"a": b"start"})]
    for number in range(14):
        parents = dice.sample(known[-6:], min(len(known), dice.choice((1, 1, 1, 2))))
        known.append(commit(git_, {"a": str(number).encode()}, *parents, at=_NOW + dice.randrange(-10_000, 10_000)))
    told = 0
    for one, two in itertools.product(known, repeat=2):
        meeting = ancestry.meeting(one, two)
        if meeting is not None:
            told += 1
            assert git(root, "merge-base", "--all", one, two).split() == [meeting]
            edited = git(root, "rev-list", "--max-parents=1", "--max-count=1", f"{one}...{two}")
            assert ancestry.only_merged(one, two) is not bool(edited)
    assert told > len(known)
    other = commit(git_, {"b": b"of another history"})
    assert ancestry.meeting(known[-1], other) is None
