"""What git would send and no listing of new objects names: it is looked at all the same before a push."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sync_made import AUTHOR, PATH, SECRET, Clone, failure, git, memory, no_secrets

from adaptive_llm_gateway.core import Trust, narrowed
from adaptive_llm_gateway.memory import _holding, _repo_rules, _sync_checks
from adaptive_llm_gateway.memory._repo_rules import RepoRules, level_of
from adaptive_llm_gateway.memory._values import Change

NAME = SECRET.decode()
TOKEN = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
FEW, MANY = 0, 8


@pytest.fixture
def one(tmp_path: Path, remote: Path) -> Clone:
    clone = Clone(tmp_path / "one", remote)
    for path in (PATH, "a/known.txt", "b/c/known.txt"):
        clone.put(path, memory(f"{path}\n"))
    clone.sync.push()
    return clone


def commit(clone: Clone, *arguments: str) -> str:
    git(clone.root, "commit", "-q", "--no-verify", "--allow-empty", "-m", "by hand", *arguments)
    return git(clone.root, "rev-parse", "HEAD").strip()


def renamed_and_back(clone: Clone) -> None:
    git(clone.root, "mv", "a/known.txt", f"a/{NAME}.txt")
    commit(clone)
    git(clone.root, "mv", f"a/{NAME}.txt", "a/known.txt")


def folder_renamed_and_back(clone: Clone) -> None:
    git(clone.root, "mv", "b/c", f"b/{NAME}")
    commit(clone)
    git(clone.root, "mv", f"b/{NAME}", "b/c")


def one_text_under_two_names(clone: Clone) -> None:
    for path in ("a/first.txt", f"z{NAME}.txt"):
        (clone.root / path).write_text("the same", encoding="utf-8")
    git(clone.root, "add", "-A")
    commit(clone)
    git(clone.root, "rm", "-q", f"z{NAME}.txt")


def submodule(clone: Clone) -> None:
    git(clone.root, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},m/{NAME}")
    commit(clone)
    git(clone.root, "rm", "-q", "--cached", f"m/{NAME}")


def name_with(end: str) -> Callable[[Clone], None]:
    def build(clone: Clone) -> None:
        (clone.root / f"a{end}{NAME}.txt").write_text("text", encoding="utf-8")
        git(clone.root, "add", "-A")
        commit(clone)
        (clone.root / f"a{end}{NAME}.txt").unlink()
        git(clone.root, "add", "-A")

    return build


@pytest.mark.parametrize("more", [FEW, MANY])
@pytest.mark.parametrize(
    "build",
    [
        renamed_and_back,
        folder_renamed_and_back,
        one_text_under_two_names,
        submodule,
        pytest.param(name_with("\n"), id="behind the end of a line"),
        pytest.param(name_with("\r"), id="behind a carriage return"),
    ],
)
def test_a_secret_in_a_name_of_any_commit_that_waits_is_not_pushed(
    one: Clone, remote: Path, build: Callable[[Clone], None], more: int
) -> None:
    before = git(remote, "for-each-ref")
    build(one)
    for _ in range(more + 1):
        commit(one)
    error = failure(one.sync.push)
    assert error.details["kind"] == "secret_outgoing"
    assert NAME not in str(error) + str(error.details) + str(one.status)
    assert git(remote, "for-each-ref") == before


@pytest.mark.parametrize("seed", range(6))
def test_every_name_that_commits_bring_is_looked_at(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    clone = Clone(tmp_path / "one", None)
    start = clone.put("start.txt", "start\n")
    assert start is not None
    names = ["a", "b", "f/c", "f/d", "f/g/e", "h"]
    tips = [start]
    for _ in range(12):
        git(clone.root, "checkout", "-q", dice.choice(tips))
        if dice.random() < 0.4:
            git(clone.root, "merge", "-q", "--no-commit", "-s", "ours", "--no-ff", dice.choice(tips))
        for path in dice.sample(names, 2):
            place = clone.root / path
            if place.exists() and dice.random() < 0.5:
                git(clone.root, "rm", "-qf", path)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(dice.choice("xy"), encoding="utf-8")
        git(clone.root, "add", "-A")
        tips.append(commit(clone))
    secrets = clone.sync._secrets  # pyright: ignore[reportPrivateUsage]

    def files(each: str) -> set[str]:
        return set(git(clone.root, "ls-tree", "-r", "--name-only", each).splitlines())

    for tip, known in [(tip, known) for tip in tips for known in (tips[0], dice.choice(tips))]:
        waiting = git(clone.root, "rev-list", tip, "--not", known).split()
        found = secrets._names(tip, ["--not", known])  # pyright: ignore[reportPrivateUsage]
        for each in waiting:
            parents = git(clone.root, "rev-list", "--parents", "-1", each).split()[1:]
            assert files(each) - set[str]().union(*map(files, parents)) <= found
        here = set[str]().union(*map(files, waiting))
        assert {path for path in found if (path + "/") not in "".join(f"{name}\n" for name in here)} <= here


@pytest.mark.parametrize("more", [FEW, MANY])
def test_what_a_replace_reference_hides_is_looked_at(one: Clone, remote: Path, more: int) -> None:
    before = git(one.root, "rev-parse", "HEAD").strip()
    (one.root / "s.txt").write_bytes(SECRET)
    git(one.root, "add", "-A")
    hidden = commit(one)
    git(one.root, "rm", "-q", "s.txt")
    for _ in range(more + 1):
        commit(one)
    git(one.root, "replace", hidden, before)
    assert failure(one.sync.push).details["kind"] == "secret_outgoing"
    assert git(remote, "rev-parse", "main").strip() == before


def test_a_pull_takes_names_with_any_end_of_a_line(one: Clone, remote: Path, tmp_path: Path) -> None:
    two = Clone(tmp_path / "two", remote)
    two.sync.pull()
    for number in range(MANY):
        for end in ("\r", "\n", "\u2028"):
            (one.root / f"a/x{end}{number}.txt").write_text(f"{number} {end!r}", encoding="utf-8")
        git(one.root, "add", "-A")
        commit(one)
    one.sync.push()
    assert two.sync.pull().status.state == "pushed"
    assert two.repo.head() == one.repo.head()


def test_names_with_any_end_of_a_line_hold_up_no_look_at_levels(one: Clone, remote: Path) -> None:
    one.settings["rules"] = RepoRules(level=Trust.INTERNAL)
    one.start()
    for end in ("\r", "\x0c", "\u2028"):
        (one.root / f"a/x{end}y.txt").write_text(repr(end), encoding="utf-8")
    git(one.root, "add", "-A")
    tip = commit(one)
    assert one.sync.push().status.state == "pushed"
    assert git(remote, "rev-parse", "main").strip() == tip


def test_what_was_too_large_to_be_looked_at_is_not_clean(
    one: Clone, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_sync_checks, _holding):
        monkeypatch.setattr(module, "MAX_OTHER", 2000)
    two = Clone(tmp_path / "two", remote)
    two.sync.pull()
    (one.root / "large.txt").write_bytes(SECRET + b" " * 3000)
    git(one.root, "add", "-A")
    commit(one)
    git(one.root, "rm", "-q", "large.txt")
    commit(one)
    git(one.root, "push", "-q", "origin", "main")
    two.sync.pull()
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "new.git")
    two.sync.set_remote(str(tmp_path / "new.git"))
    assert failure(two.sync.push).details["kind"] == "secret_outgoing"


def test_what_was_found_clean_is_kept_of_so_many_objects_however_many_are_pushed(
    one: Clone, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.settings["rules"] = RepoRules(level=Trust.INTERNAL)
    one.start()
    for module in (_sync_checks, _repo_rules):
        monkeypatch.setattr(module, "MOST_CLEAN", 12)
    for number in range(8):
        tip = one.put(f"a/{number}.txt", f"text {number}\n")
        assert one.sync.push().status.state == "pushed"
        assert git(remote, "rev-parse", "main").strip() == tip
        kept = one.sync._secrets._clean, one.sync._trust._clean  # pyright: ignore[reportPrivateUsage]
        assert all(0 < len(each) <= 12 for each in kept)


def test_what_is_allowed_no_more_is_not_pushed_though_it_was_looked_at(one: Clone, remote: Path) -> None:
    allowed: list[object] = [object()]

    def scan(path: str, data: bytes) -> None:
        if not allowed:
            no_secrets(path, data)

    rules: list[object] = [object()]
    one.settings |= {"scan": scan, "checks": lambda: rules[0]}
    one.start()
    one.repo.commit([Change("s.txt", SECRET, "write", "", "t", AUTHOR)])
    away = remote.rename(remote.with_name("away.git"))
    failure(one.sync.push)
    away.rename(remote)
    allowed.clear()
    rules[0] = object()
    assert failure(one.sync.push).details["kind"] == "secret_outgoing"


def test_text_above_the_level_is_not_pushed_because_a_merge_moved_it(one: Clone, remote: Path, tmp_path: Path) -> None:
    git(one.root, "config", "core.hooksPath", "/dev/null")
    one.put(PATH, memory("first\n", trust="secret"))
    one.sync.push()
    strict = Clone(tmp_path / "two", remote, rules=RepoRules(level=Trust.INTERNAL))
    strict.sync.pull()
    text = memory("first\nwritten here\n", trust="secret", updated="2026-11-21T10:00:00Z")
    (strict.root / PATH).write_text(text, encoding="utf-8")
    git(strict.root, "add", "-A")
    commit(strict)
    git(one.root, "mv", PATH, "notes/2026/11/moved-00000001.md")
    commit(one)
    one.sync.push()
    strict.sync.pull()
    assert strict.text("notes/2026/11/moved-00000001.md") == text
    assert failure(strict.sync.push).details["kind"] == "trust_outgoing"
    assert git(remote, "rev-parse", "main").strip() == one.repo.head()


def test_another_address_for_pushes_does_not_get_what_only_the_one_of_pulls_has(
    one: Clone, remote: Path, tmp_path: Path
) -> None:
    git(one.root, "commit", "-q", "--allow-empty", "-m", NAME)
    git(one.root, "push", "-q", "--no-verify", "origin", "main")
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "public.git")
    git(one.root, "config", "remote.origin.pushurl", str(tmp_path / "public.git"))
    one.start()
    one.put("a/more.txt", "more\n")
    assert failure(one.sync.push).details["kind"] == "non_fast_forward"
    assert git(tmp_path / "public.git", "for-each-ref") == ""
    assert (one.status.state, one.status.ahead) == ("failed", 1)
    git(one.root, "config", "remote.origin.pushurl", f"file://{remote}")  # the same one, in other words
    assert one.sync.push().status.state == "pushed"
    assert git(remote, "rev-parse", "main").strip() == one.repo.head()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_secret_in_text_of_two_bytes_a_character_is_not_pushed(bench: Any, remote: Path, encoding: str) -> None:
    store = bench.open(remote=str(remote))
    store.push().result(60)
    before = git(remote, "for-each-ref")
    (store.repo.path / "keys.txt").write_bytes(b"plain text\n" * 9 + f"key {TOKEN}\r\n".encode(encoding))
    bench.git(store, "add", "keys.txt")
    bench.git(store, "-c", "core.hooksPath=/dev/null", "commit", "-qm", "By hand")
    error = failure(lambda: store.push().result(60))
    assert (error.details["kind"], error.details["findings"][0]["line"]) == ("secret_outgoing", 10)
    assert git(remote, "for-each-ref") == before


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_wide_text_says_its_level(encoding: str) -> None:
    text = "---\nid: x\ntrust: secret\n---\nText\n"
    mark = "\ufeff" if encoding != "utf-16" else ""
    assert level_of("notes/a.md", (mark + text).encode(encoding))[1] is Trust.SECRET
    assert narrowed(text.encode()) == text.encode()
