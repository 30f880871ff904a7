"""The merge driver with real git: plain `git pull` and its kind come to what the hub's merge comes to."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory import install_merge_driver, look_at_merge_driver, uninstall_merge_driver
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync import Sync

COMMAND = (sys.executable, "-P", "-m", "adaptive_llm_gateway.server", "merge-driver")
PATH = "notes/2026/11/t-00000001.md"
EARLY, LATE = "2026-11-20T10:00:00Z", "2026-11-20T12:00:00Z"


def git(cwd: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=cwd, capture_output=True, text=True, check=check, encoding="utf-8", timeout=120
    )


def memory(body: str, *, updated: str = EARLY, number: int = 1, **fields: object) -> bytes:
    base = {"id": f"01JD{number:022d}", "type": "note", "title": "T", "created": "2026-11-01T00:00:00Z"}
    return Document.new({**base, "updated": updated, **fields}, body).render()


def commit(clone: Path, files: dict[str, bytes | None], message: str = "change") -> None:
    for path, data in files.items():
        target = clone / path
        if data is None:
            target.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    git(clone, "add", "--all")
    git(clone, "commit", "-qm", message)


def files_of(clone: Path) -> dict[str, bytes]:
    return {
        path.relative_to(clone).as_posix(): path.read_bytes()
        for path in clone.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(clone).parts
    }


class Clones:
    """Three clones of one remote: `hub` merges by itself, `plain` with git and the driver, `other` is elsewhere."""

    def __init__(self, root: Path) -> None:
        git(root, "init", "-q", "--bare", "-b", "main", "remote.git")
        self.root = root
        self.remote = root / "remote.git"
        self.other = self.clone("other")

    def clone(self, name: str) -> Path:
        git(self.root, "clone", "-q", str(self.remote), name)
        clone = self.root / name
        git(clone, "checkout", "-q", "-B", "main")
        return clone

    def diverge(
        self, base: dict[str, bytes | None], ours: dict[str, bytes | None], theirs: dict[str, bytes | None]
    ) -> tuple[Path, Path]:
        """The clones `plain` and `hub`, both with `ours`, while the remote has `theirs`."""
        commit(self.other, {"README": b"", **base})
        git(self.other, "push", "-q", "origin", "main")
        plain, hub = self.clone("plain"), self.clone("hub")
        install_merge_driver(plain, COMMAND)
        commit(self.other, theirs)
        git(self.other, "push", "-q", "origin", "main")
        for clone in (plain, hub):
            commit(clone, ours)
        return plain, hub


@pytest.fixture
def clones(tmp_path: Path) -> Clones:
    return Clones(tmp_path)


def pulled_by_the_hub(clone: Path) -> dict[str, bytes]:
    sync = Sync(MemoryRepo.open(clone), scan=lambda _path, _data: None, timeout=60)
    sync.pull()
    return {path: data for path, data in files_of(clone).items() if not path.startswith(".")}


def pull(clone: Path) -> str:
    done = git(clone, "pull", "--no-rebase", "--no-edit", "-q", "origin", "main")
    assert b"<<<<<<<" not in b"".join(files_of(clone).values())
    return done.stderr


# --- the same as the hub ------------------------------------------------------------------------------------

BASE, ODD_PATH = memory("one\ntwo\nthree\n", tags=["x"]), "notes/spaced out/ünïcode 漢.md"


@pytest.mark.parametrize(
    ("base", "ours", "theirs"),
    [
        ({PATH: BASE}, {PATH: memory("ONE\ntwo\nthree\n")}, {PATH: memory("one\ntwo\nTHREE\n", updated=LATE)}),
        ({PATH: BASE}, {PATH: memory("one\ntwo\nthree\n", tags=["a"])}, {PATH: memory("one\ntwo\n", tags=["x", "b"])}),
        ({PATH: BASE}, {PATH: memory("mine\n")}, {PATH: memory("theirs\n", updated=LATE)}),
        ({ODD_PATH: BASE}, {ODD_PATH: memory("mine\n")}, {ODD_PATH: memory("theirs\n", updated=LATE)}),
        ({PATH: BASE}, {PATH: memory("mine\r\n", updated=LATE)}, {PATH: memory("theirs")}),
        ({}, {PATH: memory("mine\n")}, {PATH: memory("theirs\n", number=2, updated=LATE)}),
        ({}, {PATH: memory("mine\n")}, {PATH: memory("theirs\n", updated=LATE)}),
        ({"types/x.yaml": b"a\nb\nc\n"}, {"types/x.yaml": b"A\nb\nc\n"}, {"types/x.yaml": b"a\nb\nC\n"}),
        ({"types/x.yaml": b"a\n"}, {"types/x.yaml": b"b\n"}, {"types/x.yaml": b"c\n"}),
        ({"x.bin": b"\0"}, {"x.bin": b"\0a"}, {"x.bin": b"\0b"}),
        ({PATH: BASE}, {PATH: b"---\nid: [\n---\n"}, {PATH: memory("theirs\n", updated=LATE)}),
        ({PATH: BASE}, {PATH: memory("mine\n", number=2)}, {PATH: memory("theirs\n", updated=LATE)}),
        (
            {PATH: BASE, "notes/2026/11/u-00000001.md": None},
            {PATH: None, "notes/2026/11/u-00000001.md": memory("one\ntwo\nthree\nmine\n")},
            {PATH: memory("zero\none\ntwo\nthree\n", updated=LATE)},
        ),
    ],
    ids=[
        "lines", "fields", "clash", "odd path", "line ends", "two memories", "twins",
        "text", "text that clashes", "binary", "broken", "another memory", "renamed",
    ],
)  # fmt: skip
def test_a_plain_git_pull_comes_to_the_same_files_as_the_hub(
    clones: Clones, base: dict[str, bytes | None], ours: dict[str, bytes | None], theirs: dict[str, bytes | None]
) -> None:
    base = {path: data for path, data in base.items() if data is not None}
    plain, hub = clones.diverge(base, ours, theirs)
    pull(plain)
    expected = pulled_by_the_hub(hub)
    assert {path: data for path, data in files_of(plain).items() if not path.startswith(".")} == expected
    assert git(plain, "log", "-1", "--format=%P").stdout.count(" ") == 1
    untracked = git(plain, "-c", "core.quotePath=false", "status", "--porcelain").stdout.splitlines()
    assert all(line.startswith("?? ") for line in untracked)
    committed = git(plain, "-c", "core.quotePath=false", "ls-files").stdout.splitlines()
    assert len(committed) + len(untracked) == len(expected)


def test_what_is_kept_of_a_clash_is_left_for_the_next_commit_and_said(clones: Clones) -> None:
    plain, _ = clones.diverge({PATH: BASE}, {PATH: memory("mine\n")}, {PATH: memory("theirs\n", updated=LATE)})
    said = pull(plain)
    (kept,) = git(plain, "status", "--porcelain").stdout.splitlines()
    assert kept.removeprefix("?? ") in said
    assert "Commit that file, too" in said
    assert Document.parse((plain / kept.removeprefix("?? ")).read_bytes()).body == "mine\n"


def test_what_is_kept_is_not_written_where_the_other_side_brings_it(clones: Clones) -> None:
    mine, theirs = memory("mine\n"), memory("theirs\n", updated=LATE)
    plain, hub = clones.diverge({PATH: BASE}, {PATH: mine}, {PATH: theirs})
    pulled_by_the_hub(hub)
    kept = next(path for path in files_of(hub) if path.startswith("notes/") and path != PATH)
    commit(hub, {PATH: (hub / PATH).read_bytes() + b"more\n"})
    # The same clash again, with history that does not say so.
    tree = git(hub, "rev-parse", "HEAD^{tree}").stdout.strip()
    parent = git(hub, "rev-parse", "origin/main~1").stdout.strip()
    alone = git(hub, "commit-tree", "-p", parent, "-m", "flat", tree).stdout.strip()
    git(hub, "push", "-q", "--force", "origin", f"{alone}:main")
    pull(plain)
    assert (plain / kept).read_bytes() == (hub / kept).read_bytes()
    assert git(plain, "status", "--porcelain").stdout == ""


# --- other commands of git ----------------------------------------------------------------------------------


def rebase(clone: Path) -> None:
    git(clone, "pull", "--rebase", "-q", "origin", "main")


def cherry_pick(clone: Path) -> None:
    git(clone, "fetch", "-q", "origin")
    git(clone, "cherry-pick", "origin/main")


def stash_pop(clone: Path) -> None:
    git(clone, "reset", "-q", "--soft", "HEAD~1")
    git(clone, "stash")
    git(clone, "pull", "-q", "origin", "main")
    git(clone, "stash", "pop")


def from_a_subfolder(clone: Path) -> None:
    pull(clone / "notes" / "2026")


def in_a_worktree(clone: Path) -> None:
    git(clone, "fetch", "-q", "origin")
    git(clone, "worktree", "add", "-q", "-b", "side", "../side", "origin/main")
    git(clone.parent / "side", "merge", "-q", "--no-edit", "main")
    for path, data in files_of(clone.parent / "side").items():
        (clone / path).write_bytes(data)


@pytest.mark.parametrize("command", [rebase, cherry_pick, stash_pop, from_a_subfolder, in_a_worktree])
def test_every_way_to_merge_comes_to_the_same_files(clones: Clones, command: Callable[[Path], None]) -> None:
    clashing = "notes/2026/11/u-00000002.md"
    plain, hub = clones.diverge(
        {PATH: BASE, clashing: memory("a\n", number=2)},
        {PATH: memory("ONE\ntwo\nthree\n", tags=["a"]), clashing: memory("mine\n", number=2)},
        {PATH: memory("one\ntwo\nTHREE\n", updated=LATE), clashing: memory("theirs\n", number=2, updated=LATE)},
    )
    command(plain)
    expected = pulled_by_the_hub(hub)
    found = {path: data for path, data in files_of(plain).items() if not path.startswith(".")}
    assert found == expected
    assert len(found) == 4


def test_ancestors_that_git_merges_with_each_other_leave_nothing_behind(clones: Clones) -> None:
    plain, _ = clones.diverge({PATH: BASE}, {PATH: memory("mine\n")}, {PATH: memory("theirs\n", updated=LATE)})
    one = git(plain, "rev-parse", "HEAD").stdout.strip()
    git(plain, "fetch", "-q", "origin")
    two = git(plain, "rev-parse", "origin/main").stdout.strip()
    # Both merge the other; then each goes on.
    for name, start, other in (("left", one, two), ("right", two, one)):
        git(plain, "checkout", "-q", "-b", name, start)
        git(plain, "merge", "-q", "--no-edit", other)
        git(plain, "add", "--all")
        git(plain, "commit", "-q", "--amend", "--no-edit")
        commit(plain, {f"notes/{name}.md": memory(f"{name}\n", number=len(name))})
    git(plain, "merge", "-q", "--no-edit", "left")
    assert git(plain, "status", "--porcelain").stdout == ""
    assert len([path for path in files_of(plain) if path.startswith("notes/2026")]) == 2


# --- when it cannot be --------------------------------------------------------------------------------------


def test_nothing_is_kept_in_a_folder_outside_of_the_clone(tmp_path: Path) -> None:
    clone, outside = tmp_path / "clone", tmp_path / "outside"
    clone.mkdir()
    outside.mkdir()
    (clone / "linked").symlink_to(outside)
    for name, data in (("base", BASE), ("ours", memory("mine\n")), ("theirs", memory("theirs\n", updated=LATE))):
        (clone / name).write_bytes(data)
    done = subprocess.run(
        [*COMMAND, "--keep", "base", "ours", "theirs", "linked/t-00000001.md"],
        cwd=clone,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "leads out of the working tree" in done.stderr
    assert (clone / "ours").read_bytes() == memory("mine\n")
    assert list(outside.iterdir()) == []


def test_an_edit_against_a_deletion_stops_git_with_the_edited_file_there(clones: Clones) -> None:
    edited = memory("edited\n", updated=LATE)
    plain, hub = clones.diverge({PATH: BASE, "a": b""}, {PATH: None}, {PATH: edited})
    done = git(plain, "pull", "--no-rebase", "--no-edit", "-q", "origin", "main", check=False)
    assert done.returncode != 0
    assert "CONFLICT (modify/delete)" in done.stdout
    assert (plain / PATH).read_bytes() == edited
    git(plain, "add", PATH)
    git(plain, "commit", "-qm", "keep")
    found = {path: data for path, data in files_of(plain).items() if not path.startswith(".")}
    assert found == pulled_by_the_hub(hub)


def test_a_driver_that_is_gone_makes_a_conflict_and_no_markers(clones: Clones) -> None:
    plain, _ = clones.diverge({PATH: BASE}, {PATH: memory("mine\n")}, {PATH: memory("theirs\n", updated=LATE)})
    install_merge_driver(plain, [str(clones.root / "gone"), "merge-driver"])
    done = git(plain, "pull", "--no-rebase", "--no-edit", "-q", "origin", "main", check=False)
    assert done.returncode != 0
    assert "CONFLICT" in done.stdout
    assert (plain / PATH).read_bytes() == memory("mine\n")


# --- installing ---------------------------------------------------------------------------------------------


def settings(clone: Path) -> str:
    return git(clone, "config", "--local", "--list").stdout


def test_installing_is_idempotent_and_taking_away_leaves_everything_as_it_was(clones: Clones) -> None:
    plain = clones.clone("plain")
    attributes = plain / ".git" / "info" / "attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_bytes(b"*.png binary\r\n# mine\n*.log merge=union")
    git(plain, "config", "merge.union2.driver", "true")
    before = settings(plain), attributes.read_bytes()
    assert install_merge_driver(plain, COMMAND) == "installed"
    assert install_merge_driver(plain, COMMAND) == "unchanged"
    assert attributes.read_bytes().endswith(before[1])
    assert "merge: alg-memory" in git(plain, "check-attr", "merge", PATH).stdout
    assert "merge: union" in git(plain, "check-attr", "merge", "a.log").stdout
    assert git(plain, "status", "--porcelain").stdout == ""
    assert install_merge_driver(plain, [*COMMAND, "--other"]) == "installed"
    assert uninstall_merge_driver(plain) == "removed"
    assert uninstall_merge_driver(plain) == "unchanged"
    assert (settings(plain), attributes.read_bytes()) == before


def test_a_program_in_an_odd_folder_is_run_all_the_same(clones: Clones) -> None:
    folder = clones.root / "100% it's odd"
    folder.mkdir()
    program = folder / "alg"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    plain, _ = clones.diverge({PATH: BASE}, {PATH: memory("ONE\ntwo\nthree\n")}, {PATH: memory("one\ntwo\nTHREE\n")})
    install_merge_driver(plain, [str(program)])
    pull(plain)
    assert Document.parse((plain / PATH).read_bytes()).body == "ONE\ntwo\nTHREE\n"


def test_what_git_was_told_of_the_driver_is_seen(clones: Clones) -> None:
    plain = clones.clone("plain")
    before = settings(plain)
    assert look_at_merge_driver(plain) == "absent"
    install_merge_driver(plain, COMMAND)
    assert look_at_merge_driver(plain) == "ready"
    attributes = plain / ".git" / "info" / "attributes"
    told = attributes.read_bytes()
    attributes.write_bytes(b"*.png binary\n")
    assert look_at_merge_driver(plain) == "no_attribute"
    attributes.write_bytes(told.replace(b"\n", b"\r\n"))
    assert look_at_merge_driver(plain) == "ready"
    git(plain, "config", "--remove-section", "merge.alg-memory-base")
    assert look_at_merge_driver(plain) == "no_settings"
    git(plain, "config", "--remove-section", "merge.alg-memory")
    assert look_at_merge_driver(plain) == "no_settings"
    folder = clones.root / "100% it's odd"
    folder.mkdir()
    program = folder / "alg"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    install_merge_driver(plain, [str(program)])
    assert look_at_merge_driver(plain) == "ready"
    program.unlink()
    assert look_at_merge_driver(plain) == "no_program"
    git(plain, "config", "merge.alg-memory.driver", "'")
    assert look_at_merge_driver(plain) == "no_program"
    uninstall_merge_driver(plain)
    assert look_at_merge_driver(plain) == "absent"
    assert settings(plain) == before


@pytest.mark.parametrize("kind", ["none", "missing", "bare"])
def test_only_a_work_tree_gets_a_merge_driver(clones: Clones, tmp_path: Path, kind: str) -> None:
    folder = {"none": tmp_path / "plain folder", "missing": tmp_path / "missing", "bare": clones.remote}[kind]
    if kind == "none":
        folder.mkdir()
    with pytest.raises(InvalidInput, match=r"folder|work tree") as caught:
        install_merge_driver(folder, COMMAND)
    assert (caught.value.hint, "[" in caught.value.message) == ("Name the folder of a clone.", False)


def test_the_attributes_of_a_worktree_are_those_of_its_repository(clones: Clones) -> None:
    plain = clones.clone("plain")
    commit(plain, {"a": b""})
    git(plain, "worktree", "add", "-q", "../side")
    install_merge_driver(clones.root / "side", COMMAND)
    assert "merge: alg-memory" in git(plain, "check-attr", "merge", PATH).stdout
