"""The state of a repository, its patch, and whether a patch applies: told by libgit2, held against git itself."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.handoff import _applying, _repository, _work
from adaptive_llm_gateway.handoff._patch import fit, list_names, quote, unquote
from adaptive_llm_gateway.handoff._repository import without_user
from adaptive_llm_gateway.handoff._work import Work, fence, look_at, unfence, would_apply

POSIX = os.name == "posix"
AWS_KEY = "AKIA" + "QYLPMN5HFIQR7XYA"


def git(folder: Path, *arguments: str, stdin: bytes | None = None) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, timeout=60, input=stdin, check=False
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with one commit of a few files."""
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "README.md").write_text("".join(f"line {number}\n" for number in range(1, 31)), encoding="utf-8")
    (folder / "src").mkdir()
    (folder / "src" / "main.py").write_text("def main():\n    return 1\n", encoding="utf-8")
    (folder / "picture.bin").write_bytes(bytes(range(256)) * 3)
    (folder / "run.sh").write_text("#!/bin/sh\necho\n", encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def tree_of(folder: Path, index: Path) -> str:
    """The id of the tree that everything in `folder` makes; its own index stays as it is."""
    environment = {**os.environ, "GIT_INDEX_FILE": str(index)}
    for arguments in (["add", "-A"], ["write-tree"]):
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, timeout=60, env=environment, check=True
        )
    return done.stdout.decode("ascii").strip()


def clone_at_head(repo: Path) -> Path:
    """The commit of `repo`, checked out elsewhere."""
    other = Path(tempfile.mkdtemp(dir=repo.parent))
    git(repo.parent, "clone", "-q", "--no-local", str(repo), str(other))
    return other


def assert_carries(repo: Path, *, fresh: Path | None = None) -> Work:
    """The patch of `repo`, applied by git to its commit elsewhere, makes the same tree; and `would_apply` knew it."""
    work = look_at(repo, patch=True, max_patch_bytes=4_000_000)
    other = fresh or clone_at_head(repo)
    try:
        if work.patch is not None:
            assert would_apply(work.patch, other) == (True, "applies")
            git(other, "apply", "--whitespace=nowarn", "-", stdin=work.patch.encode("utf-8"))
        shutil.copy(repo / ".git" / "index", repo.parent / "index1")
        wanted = tree_of(repo, repo.parent / "index1")
        assert tree_of(other, other / ".git" / "index") == wanted, work.patch
        if work.patch is not None:
            assert would_apply(work.patch, other)[0] is False
    finally:
        if fresh is None:
            shutil.rmtree(other)
    return work


def notes_of(work: Work) -> str:
    return " ".join(work.notes)


# --- The state ----------------------------------------------------------------------------------------------------


def test_the_state_names_branch_commit_and_the_remote_without_its_password(repo: Path) -> None:
    git(repo, "remote", "add", "origin", "https://person:hunter2@example.org/team/work.git?token=abc")
    work = look_at(repo, patch=True)
    assert work.state.directory == str(repo)
    assert work.state.branch == "main"
    assert work.state.commit == git(repo, "rev-parse", "HEAD").strip()
    assert work.state.remote == "https://example.org/team/work.git"
    assert (work.state.dirty, work.state.dirty_count, work.patch, work.notes) == ((), 0, None, ())


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://example.org/a.git", "https://example.org/a.git"),
        ("https://x:y@example.org:8443/a.git#t", "https://example.org:8443/a.git"),
        ("https://TOKEN@example.org/a.git", "https://example.org/a.git"),
        ("https://a:p@ss@example.org/a.git", "https://example.org/a.git"),
        ("ssh://git@example.org:22/a.git", "ssh://git@example.org:22/a.git"),
        ("ssh://person:word@example.org/a.git", "ssh://example.org/a.git"),
        ("git@example.org:team/a.git", "git@example.org:team/a.git"),
        ("person@example.org:team/a.git", "example.org:team/a.git"),
        ("/srv/git/a.git", "/srv/git/a.git"),
        ("../a.git", "../a.git"),
        ("C:/srv/a.git", "C:/srv/a.git"),
        ("ext::sh -c 'cat secret'", None),
        ("helper::https://x:y@example.org/a", "helper::https://example.org/a"),
        ("", None),
        ("https://example.org/\x1b[2J", None),
    ],
)
def test_an_address_is_told_without_what_lets_one_in(address: str, shown: str | None) -> None:
    assert without_user(address) == shown


def test_the_letters_are_those_of_git_status(repo: Path) -> None:
    for name in ("gone", "staged-gone", "moved", "both", "kind"):
        (repo / name).write_text(f"{name}\n" * 5, encoding="utf-8")
    (repo / ".gitignore").write_text("*.log\nbuild/\n", encoding="utf-8")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "second")
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    (repo / "gone").unlink()
    git(repo, "rm", "-q", "staged-gone")
    git(repo, "mv", "moved", "moved here")
    (repo / "both").write_text("one\n", encoding="utf-8")
    (repo / "staged-new").write_text("one\n", encoding="utf-8")
    git(repo, "add", "both", "staged-new")
    (repo / "both").write_text("two\n", encoding="utf-8")
    (repo / "staged-new").write_text("two\n", encoding="utf-8")
    (repo / "new").mkdir()
    (repo / "new" / "täb\there").write_text("x\n", encoding="utf-8")
    (repo / "x.log").write_text("x\n", encoding="utf-8")
    (repo / "build").mkdir()
    (repo / "build" / "out").write_text("x\n", encoding="utf-8")
    (repo / "kind").unlink()
    (repo / "kind").symlink_to("README.md")
    told = look_at(repo, patch=False).state
    assert told.dirty == (
        " M README.md",
        "MM both",
        " D gone",
        " T kind",
        "R  moved -> moved here",
        "D  staged-gone",
        "AM staged-new",
        '?? "new/t\\303\\244b\\there"',
    )
    said = git(repo, "-c", "core.quotePath=true", "status", "--porcelain", "--untracked-files=all")
    assert sorted(told.dirty) == sorted(said.replace('"moved here"', "moved here").splitlines())


def test_conflicts_have_their_letters_and_a_merge_under_way_is_said(repo: Path) -> None:
    git(repo, "checkout", "-q", "-b", "other")
    (repo / "README.md").write_text("theirs\n", encoding="utf-8")
    (repo / "new.txt").write_text("theirs\n", encoding="utf-8")
    git(repo, "add", "-A")
    git(repo, "rm", "-q", "run.sh")
    git(repo, "commit", "-q", "-m", "theirs")
    git(repo, "checkout", "-q", "main")
    (repo / "README.md").write_text("ours\n", encoding="utf-8")
    (repo / "new.txt").write_text("ours\n", encoding="utf-8")
    (repo / "run.sh").write_text("ours\n", encoding="utf-8")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "ours")
    merged = subprocess.run(["git", "-C", str(repo), "merge", "other"], capture_output=True, timeout=60, check=False)
    assert merged.returncode == 1
    work = assert_carries(repo)
    assert work.state.dirty == ("UU README.md", "AA new.txt", "UD run.sh")
    assert "a merge is under way" in notes_of(work)


def test_a_detached_head_and_a_repository_without_a_commit_have_no_branch(repo: Path, tmp_path: Path) -> None:
    git(repo, "checkout", "-q", "--detach")
    work = look_at(repo, patch=False)
    assert work.state.branch is None
    assert work.state.commit
    assert "detached" in notes_of(work)
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    (empty / "staged").write_text("a\n", encoding="utf-8")
    git(empty, "add", "-A")
    (empty / "new").write_text("b\n", encoding="utf-8")
    work = look_at(empty, patch=True)
    assert (work.state.branch, work.state.commit) == (None, None)
    assert work.state.dirty == ("A  staged", "?? new")
    assert "Nothing is committed" in notes_of(work)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init", "-q")
    assert work.patch is not None
    git(fresh, "apply", "-", stdin=work.patch.encode("utf-8"))
    assert (fresh / "new").read_bytes() == b"b\n"
    assert (fresh / "staged").read_bytes() == b"a\n"


def test_the_list_of_changed_files_is_cut_and_counted_whole(repo: Path) -> None:
    for number in range(30):
        (repo / f"new{number:02}").write_text("x\n", encoding="utf-8")
    state = look_at(repo, patch=False, most_files=10).state
    assert (len(state.dirty), state.dirty_count) == (10, 30)


def test_a_folder_below_the_top_is_told_with_the_whole_repository(repo: Path) -> None:
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    work = look_at(repo / "src", patch=True)
    assert work.state.directory == str(repo / "src")
    assert work.state.dirty == (" M README.md",)
    assert f"The repository begins at {str(repo)!r}" in notes_of(work)


def test_nothing_in_the_repository_is_changed_by_a_look(repo: Path) -> None:
    def everything() -> dict[str, tuple[int, int, bytes]]:
        return {
            str(path.relative_to(repo)): (path.stat().st_mtime_ns, path.stat().st_size, path.read_bytes())
            for path in sorted(repo.rglob("*"))
            if path.is_file()
        }

    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    (repo / "new.txt").write_text("new\n", encoding="utf-8")
    os.utime(repo / "run.sh", (1, 1))  # the index's own times are stale
    before = everything()
    patch = look_at(repo, patch=True).patch
    assert patch is not None
    would_apply(patch, repo)
    assert everything() == before


# --- What cannot be known -----------------------------------------------------------------------------------------


def test_only_a_folder_that_does_not_exist_or_is_not_absolute_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    for wrong in (Path("relative"), tmp_path / "missing", file, tmp_path / "nul\0", tmp_path / ("x" * 300)):
        with pytest.raises(InvalidInput) as told:
            look_at(wrong, patch=True)
        assert told.value.hint
    plain = tmp_path / "plain"
    plain.mkdir()
    work = look_at(plain, patch=True)
    assert work.state.directory == str(plain)
    assert work.state.commit is None
    assert "no git repository" in notes_of(work)


@pytest.mark.skipif(not POSIX or os.getuid() == 0, reason="nothing is closed to this user")
def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0)
    try:
        assert look_at(closed, patch=True).notes
        assert look_at(closed / "below", patch=True).notes
    finally:
        closed.chmod(0o700)


@pytest.mark.skipif(not POSIX or os.getuid() != 0, reason="only root gives files away")
def test_another_users_repository_is_not_read(repo: Path) -> None:
    for path in (repo, repo / ".git"):
        os.chown(path, 4321, 4321)
    work = look_at(repo, patch=True)
    assert work.state.commit is None
    assert "belongs to another user" in notes_of(work)
    assert would_apply("x", repo)[0] is None


def test_a_bare_repository_has_a_commit_and_no_files(repo: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    work = look_at(tmp_path / "bare.git", patch=True)
    assert work.state.commit == git(repo, "rev-parse", "HEAD").strip()
    assert work.patch is None
    assert "bare" in notes_of(work)


def test_a_repository_whose_files_lie_elsewhere_is_not_read(repo: Path, tmp_path: Path) -> None:
    (tmp_path / "private.txt").write_text("not for others\n", encoding="utf-8")
    for place in ("../..", str(tmp_path), "/"):
        git(repo, "config", "core.worktree", place)
        work = look_at(repo, patch=True)
        assert work.state.commit is None
        assert work.patch is None
        assert "has its files elsewhere" in notes_of(work)
    git(tmp_path, "init", "-q")  # and another repository there changes nothing
    git(repo, "config", "core.worktree", "../..")
    assert "has its files elsewhere" in notes_of(look_at(repo, patch=True))


def test_a_worktree_is_read_as_a_repository(repo: Path, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "README.md").write_text("changed\n", encoding="utf-8")
    work = look_at(tmp_path / "side", patch=True)
    assert work.state.branch == "side"
    assert work.state.dirty == (" M README.md",)
    assert work.patch is not None
    git(repo, "apply", "--check", "-", stdin=work.patch.encode("utf-8"))
    assert would_apply(work.patch, tmp_path / "side") == (False, "does not apply: its changes are here already")


def test_submodules_and_repositories_within_are_left_out_and_said(repo: Path, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "file").write_text("x\n", encoding="utf-8")
    git(inner, "add", "-A")
    git(inner, "commit", "-q", "-m", "inner")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub")
    shutil.copytree(inner, repo / "nested")
    work = look_at(repo, patch=True)
    assert work.state.dirty == ("A  .gitmodules", "A  sub", "?? nested/")
    assert "for they are submodules: 'sub'" in notes_of(work)
    assert "for they are repositories of their own: 'nested'" in notes_of(work)
    assert work.patch is not None
    assert "b/.gitmodules" in work.patch
    assert "b/sub" not in work.patch
    assert "nested" not in work.patch
    assert look_at(repo / "sub", patch=True).state.commit == git(inner, "rev-parse", "HEAD").strip()


def test_what_a_sparse_checkout_leaves_out_counts_as_unchanged(repo: Path) -> None:
    git(repo, "sparse-checkout", "set", "--no-cone", "/README.md")
    assert not (repo / "run.sh").exists()
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    work = look_at(repo, patch=True)
    assert work.state.dirty == (" M README.md",)
    assert "checked out in part" in notes_of(work)
    assert work.patch is not None
    assert "run.sh" not in work.patch


def test_a_sha256_repository_is_told_as_one_that_cannot_be_read(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256", "new")
    work = look_at(tmp_path / "new", patch=True)
    assert work.state.commit is None
    assert "cannot be read" in notes_of(work)
    assert would_apply("x", tmp_path / "new")[0] is None


@pytest.mark.parametrize("damage", [b"", b"not an index at all, but long enough to be read as one" * 4])
def test_with_an_unreadable_index_the_commit_is_still_known(repo: Path, damage: bytes) -> None:
    (repo / ".git" / "index").write_bytes(damage or b"DIRC")
    work = look_at(repo, patch=True)
    assert work.state.commit == git(repo, "rev-parse", "HEAD").strip()
    assert work.state.dirty == ()
    assert work.patch is None
    assert "index cannot be read" in notes_of(work)


def test_a_commit_that_is_missing_from_the_repository_is_told(repo: Path) -> None:
    shutil.rmtree(repo / ".git" / "objects")
    (repo / ".git" / "objects").mkdir()
    work = look_at(repo, patch=True)
    assert work.patch is None
    assert "cannot be read" in notes_of(work)
    (repo / ".git" / "HEAD").write_bytes(b"\xff\xfe nonsense")
    assert look_at(repo, patch=True).notes


def test_too_many_new_files_are_told_and_the_look_ends(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 200,000 files would take this test a minute to make.
    monkeypatch.setattr(_work, "MOST_ENTRIES", 40)
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    (repo / "many").mkdir()
    for number in range(60):
        (repo / "many" / f"{number}").write_text("x\n", encoding="utf-8")
    work = look_at(repo, patch=True)
    assert " M README.md" in work.state.dirty
    assert work.state.dirty_count == 39
    assert "Not every new file is known" in notes_of(work)
    git(repo, "add", "many/7")
    work = look_at(repo, patch=True)
    assert work.state.dirty[0] == "A  many/7"
    assert " M README.md" not in work.state.dirty
    assert "What is changed but not staged is not known" in notes_of(work)
    assert work.patch is None


def test_links_lead_nowhere(repo: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "private.txt").write_text("not for others\n", encoding="utf-8")
    (outside / "main.py").write_text("not for others\n", encoding="utf-8")
    (repo / "link").symlink_to(outside)
    (repo / "file-link").symlink_to(outside / "private.txt")
    shutil.rmtree(repo / "src")
    (repo / "src").symlink_to(outside)
    work = look_at(repo, patch=True)
    assert work.state.dirty == (" D src/main.py", "?? file-link", "?? link", "?? src")
    assert work.patch is not None
    assert "not for others" not in work.patch
    assert_carries(repo)


@pytest.mark.skipif(not POSIX, reason="no pipes in folders")
def test_a_pipe_in_place_of_a_file_holds_nothing_up(repo: Path) -> None:
    patch = "diff --git a/README.md b/README.md\n--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-line 1\n+one\n"
    (repo / "README.md").unlink()
    os.mkfifo(repo / "README.md")
    os.mkfifo(repo / "new")
    work = look_at(repo, patch=True)
    assert " D README.md" in work.state.dirty
    assert "?? new" not in work.state.dirty
    assert would_apply(patch, repo) == (False, "does not apply: 'README.md' is not here")


@pytest.mark.skipif(not POSIX, reason="shell scripts")
def test_no_program_that_the_repository_names_is_run(repo: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{ran}'\ncat\n", encoding="utf-8")
    program.chmod(0o755)
    (repo / ".gitattributes").write_text("*.md diff=evil merge=evil\n*.sh filter=evil\n", encoding="utf-8")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "attributes")
    for name in ("pre-commit", "post-index-change", "post-checkout", "fsmonitor-watchman", "reference-transaction"):
        shutil.copy(program, repo / ".git" / "hooks" / name)
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.editor",
        "core.sshCommand",
        "core.askPass",
        "diff.external",
        "diff.evil.command",
        "diff.evil.textconv",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "merge.evil.driver",
        "credential.helper",
        "interactive.diffFilter",
        "pager.diff",
        "alias.status",
        "gpg.program",
        "uploadpack.packObjectsHook",
    ):
        git(repo, "config", key, f"!{program}" if key == "credential.helper" else str(program))
    git(repo, "config", "filter.evil.required", "true")
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    (repo / "run.sh").write_text("changed\r\n", encoding="utf-8", newline="")
    (repo / "new.sh").write_text("new\r\n", encoding="utf-8", newline="")
    ran.unlink(missing_ok=True)
    work = look_at(repo, patch=True)
    assert work.patch is not None
    would_apply(work.patch, repo)
    assert not ran.exists()
    assert "for git stores them in another form than they have here: 'new.sh', 'run.sh'" in notes_of(work)
    subprocess.run(["git", "-C", str(repo), "diff"], capture_output=True, timeout=60, check=False)
    assert ran.exists()  # git itself would have


# --- The patch ----------------------------------------------------------------------------------------------------


def test_a_patch_carries_every_kind_of_change_to_another_clone(repo: Path) -> None:
    (repo / "empty").write_bytes(b"")
    (repo / "crlf.txt").write_bytes(b"one\r\ntwo\r\n")
    (repo / "no-newline").write_bytes(b"one\ntwo")
    (repo / "moved.txt").write_text("".join(f"{number}\n" for number in range(50)), encoding="utf-8")
    (repo / "moved as it is").write_text("".join(f"{number}\n" for number in range(70)), encoding="utf-8")
    (repo / "latin1.txt").write_bytes("caf\u00e9\n".encode("latin-1"))
    (repo / "link").symlink_to("README.md")
    (repo / "becomes-link").write_text("file\n", encoding="utf-8")
    (repo / "becomes-folder").write_text("file\n", encoding="utf-8")
    (repo / "becomes-file").mkdir()
    (repo / "becomes-file" / "inner").write_text("file\n", encoding="utf-8")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "second")
    (repo / "README.md").write_text(
        (repo / "README.md").read_text(encoding="utf-8").replace("line 3\n", "three\n"), encoding="utf-8"
    )
    (repo / "picture.bin").write_bytes(bytes(range(255, -1, -1)) * 2)
    (repo / "run.sh").chmod(0o755)
    (repo / "empty").unlink()
    (repo / "new-empty").write_bytes(b"")
    (repo / "crlf.txt").write_bytes(b"one\r\n2\r\n")
    (repo / "no-newline").write_bytes(b"one\n2")
    (repo / "latin1.txt").write_bytes("caf\u00e9s\n".encode("latin-1"))
    git(repo, "mv", "moved.txt", "moved to.txt")
    (repo / "moved to.txt").write_text("".join(f"{number}\n" for number in range(51)), encoding="utf-8")
    (repo / "moved as it is").rename(repo / "src" / "here")
    (repo / "link").unlink()
    (repo / "link").symlink_to("run.sh")
    (repo / "becomes-link").unlink()
    (repo / "becomes-link").symlink_to("README.md")
    (repo / "becomes-folder").unlink()
    (repo / "becomes-folder").mkdir()
    (repo / "becomes-folder" / "inner").write_text("x\n", encoding="utf-8")
    shutil.rmtree(repo / "becomes-file")
    (repo / "becomes-file").write_text("x\n", encoding="utf-8")
    (repo / "new 日本語.bin").write_bytes(b"\0\1\2")
    work = assert_carries(repo)
    assert work.patch is not None
    assert "rename from moved.txt\nrename to moved to.txt\n" in work.patch
    assert "similarity index 100%\nrename from moved as it is\nrename to src/here\n" in work.patch
    assert "-two\r\n+2\r\n" in work.patch
    assert "old mode 100644\nnew mode 100755\n" in work.patch
    assert "b/new 日本語.bin" in work.patch
    assert work.notes == ("In the patch as binary, for their text is not UTF-8: 'latin1.txt'.",)


def test_what_is_staged_and_changed_again_is_in_the_patch_as_it_is_now(repo: Path) -> None:
    (repo / "README.md").write_text("staged\n", encoding="utf-8")
    git(repo, "add", "-A")
    (repo / "README.md").write_text("later\n", encoding="utf-8")
    git(repo, "rm", "-q", "--cached", "run.sh")
    (repo / "ignored-now").write_text("x\n", encoding="utf-8")
    git(repo, "add", "ignored-now")
    (repo / "dropped").write_text("x\n", encoding="utf-8")
    git(repo, "add", "dropped")
    (repo / "dropped").unlink()
    work = assert_carries(repo)
    assert work.patch is not None
    assert "+later" in work.patch
    assert "staged" not in work.patch
    assert "run.sh" not in work.patch  # still there, and new to git
    assert work.state.dirty == ("M" + "M README.md", "AD dropped", "A  ignored-now", "D  run.sh", "?? run.sh")


def test_what_git_ignores_is_in_no_patch(repo: Path) -> None:
    (repo / ".gitignore").write_text("*.env\n/build/\n!keep.env\n", encoding="utf-8")
    (repo / "build").mkdir()
    for name in ("a.env", "keep.env", "build/out", "src/b.env"):
        (repo / name).write_text("x\n", encoding="utf-8")
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "exclude").write_text("excluded\n", encoding="utf-8")
    (repo / "excluded").write_text("x\n", encoding="utf-8")
    assert assert_carries(repo).state.dirty == ("?? .gitignore", "?? keep.env")


@pytest.mark.parametrize("attributes", ["* text=auto\n", "*.txt text eol=crlf\n", "* -text\n", ""])
@pytest.mark.parametrize("autocrlf", ["true", "input", "false"])
def test_line_ends_are_told_as_git_stores_them(tmp_path: Path, attributes: str, autocrlf: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / ".gitattributes").write_text(attributes, encoding="utf-8")
    (folder / "unix.txt").write_bytes(b"one\ntwo\nthree\n")
    (folder / "id.txt").write_bytes(b"$Id$\none\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    git(folder, "config", "core.autocrlf", autocrlf)
    (folder / "unix.txt").write_bytes(b"one\r\n2\r\nthree\r\n")
    (folder / "new.txt").write_bytes(b"one\r\ntwo\r\n")
    (folder / "id.txt").write_bytes(b"$Id$\none\ntwo\n")
    fresh = tmp_path / "fresh"
    git(tmp_path, "clone", "-q", "-c", f"core.autocrlf={autocrlf}", str(folder), str(fresh))
    assert_carries(folder, fresh=fresh)


def test_a_patch_is_made_for_the_commit_whatever_the_files_modes_are_worth(repo: Path) -> None:
    git(repo, "config", "core.fileMode", "false")
    (repo / "run.sh").chmod(0o755)
    (repo / "README.md").chmod(0o755)
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    patch = look_at(repo, patch=True).patch
    assert patch is not None
    assert "mode 100755" not in patch
    assert "run.sh" not in patch


def test_a_patch_that_would_be_too_large_leaves_out_whole_files_from_the_largest_on(repo: Path) -> None:
    (repo / "README.md").write_text("small\n", encoding="utf-8")
    (repo / "middle.txt").write_text("middle\n" * 300, encoding="utf-8")
    (repo / "large.txt").write_text("large\n" * 3_000, encoding="utf-8")
    work = look_at(repo, patch=True, max_patch_bytes=4_000)
    assert work.patch is not None
    assert len(work.patch.encode("utf-8")) <= 4_000
    assert "+small" in work.patch
    assert "middle" in work.patch
    assert "large" not in work.patch
    assert "may have 4,000 bytes" in notes_of(work)
    assert "'large.txt'." in notes_of(work)
    assert would_apply(work.patch, clone_at_head(repo)) == (True, "applies")
    nothing = look_at(repo, patch=True, max_patch_bytes=10)
    assert nothing.patch is None
    assert "'README.md', 'large.txt', 'middle.txt'" in notes_of(nothing)


def test_a_file_too_large_to_be_read_is_left_out_unread(repo: Path) -> None:
    with (repo / "huge").open("wb") as file:
        file.truncate(50 * 1024 * 1024 * 1024)  # no disk has it, and no memory
    work = look_at(repo, patch=True)
    assert work.state.dirty == ("?? huge",)
    assert work.patch is None
    assert "more than 8,388,608 bytes: 'huge'" in notes_of(work)


def test_a_tracked_file_that_git_would_hash_for_long_is_not_compared(repo: Path) -> None:
    with (repo / "picture.bin").open("r+b") as file:
        file.truncate(50 * 1024 * 1024 * 1024)
    (repo / "README.md").write_text("staged\n", encoding="utf-8")
    git(repo, "add", "README.md")
    work = look_at(repo, patch=True)
    assert work.state.dirty == ("M  README.md",)
    assert work.patch is None
    assert "What is changed but not staged is not known" in notes_of(work)


def test_a_secret_in_a_binary_file_keeps_it_out_of_the_patch(repo: Path) -> None:
    (repo / "settings.bin").write_bytes(b"\0\0\1" + f"aws_access_key_id={AWS_KEY}".encode("utf-16-le") + b"\0")
    (repo / "plain.bin").write_bytes(b"\0\1\2")
    work = look_at(repo, patch=True)
    assert work.patch is not None
    assert "plain.bin" in work.patch
    assert "settings.bin" not in work.patch
    assert "looks like a secret" in notes_of(work)
    assert "'settings.bin'" in notes_of(work)


@pytest.mark.skipif(os.uname().sysname != "Linux" if POSIX else True, reason="names there are Unicode")
def test_names_that_are_no_utf8_are_told_and_left_out(repo: Path) -> None:
    (repo / os.fsdecode(b"new-\xff.txt")).write_text("x\n", encoding="utf-8")
    work = look_at(repo, patch=True)
    assert work.state.dirty == ('?? "new-\\377.txt"',)
    assert work.patch is None
    assert "for their names are not UTF-8" in notes_of(work)
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "odd")
    (repo / os.fsdecode(b"new-\xff.txt")).write_text("y\n", encoding="utf-8")
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    work = look_at(repo, patch=True)
    assert work.state.dirty == (" M README.md", ' M "new-\\377.txt"')
    assert work.patch is not None
    assert "README.md" in work.patch


def test_a_long_line_above_a_change_leaves_the_patch_readable(repo: Path) -> None:
    (repo / "long.txt").write_text("ä" * 200 + "\n" + "x\n" * 20, encoding="utf-8")
    (repo / "long2.txt").write_text("aä" + "ä" * 200 + "\n" + "x\n" * 20, encoding="utf-8")
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "long")
    for name in ("long.txt", "long2.txt"):
        (repo / name).write_text((repo / name).read_text(encoding="utf-8") + "y\n", encoding="utf-8")
    assert_carries(repo)


NAMES = st.one_of(
    st.sampled_from(
        ["a", "b", "c", "a/b", "a/c", "d/e/f", "x y", 'q"uote', "tab\there", "ü", "-dash", "b/ b", "nl\nname"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="/\0\\"), min_size=1, max_size=6).filter(
        lambda name: name not in {".", ".."} and name.lower() != ".git" and "git" not in name.lower()
    ),
)
CONTENTS = st.one_of(
    st.lists(st.sampled_from(["a\n", "b\n", "c\r\n", "\n", "@@ -1 +1 @@\n", "--- a\n", "d"]), max_size=30).map(
        lambda lines: "".join(lines).encode()
    ),
    st.binary(max_size=60),
    st.text(max_size=40).map(lambda text: text.encode("utf-8")),
)
Kind = Literal["file", "exe", "link"]
TREES = st.dictionaries(NAMES, st.tuples(st.sampled_from(["file", "file", "exe", "link"]), CONTENTS), max_size=6)


def lay(folder: Path, tree: dict[str, tuple[str, bytes]]) -> None:
    """Make the files of `folder` those of `tree`, as far as they can be together."""
    for path in folder.iterdir():
        if path.name != ".git":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, (kind, data) in tree.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(path) or any(above.is_symlink() for above in path.relative_to(folder).parents):
                continue
            if kind == "link":
                path.symlink_to((data.replace(b"\0", b"") or b"x")[:50])  # pyright: ignore[reportArgumentType]
                continue
            path.write_bytes(data)
            path.chmod(0o755 if kind == "exe" else 0o644)
        except (FileExistsError, NotADirectoryError):
            continue


@pytest.mark.skipif(not POSIX, reason="names and links of every kind")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TREES, staged=TREES, after=TREES)
@example(
    before={"a": ("file", b"1\n2\n3\n"), "x y": ("exe", b"x\n")},
    staged={"a/b": ("file", b"1\n2\n3\n"), "x y": ("file", b"x\n")},
    after={"a/b": ("file", b"1\n2\n3\n4\n"), "x y": ("link", b"x\n")},
)
@example(
    before={"a": ("file", b""), "d/e/f": ("file", b""), "c": ("file", b"a\n")},
    staged={"a": ("file", b""), "b": ("file", b""), "d/e/f": ("link", b"")},
    after={},
)
@example(
    before={"a": ("file", b""), "0": ("file", b"")},
    staged={"b": ("file", b""), "c": ("file", b"")},
    after={"a": ("file", b"")},
)
@example(before={"a/b": ("file", b"same\n")}, staged={}, after={"a": ("file", b"same\n")})
@example(before={"a": ("file", b"same\n")}, staged={"a/b": ("file", b"same\n")}, after={"a/b": ("file", b"same\n")})
def test_any_change_to_any_tree_is_carried_whole(
    tmp_path: Path,
    before: dict[str, tuple[str, bytes]],
    staged: dict[str, tuple[str, bytes]],
    after: dict[str, tuple[str, bytes]],
) -> None:
    base = Path(tempfile.mkdtemp(dir=tmp_path))
    folder = base / "work"
    folder.mkdir()
    git(folder, "init", "-q")
    lay(folder, before)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first", "--allow-empty")
    lay(folder, staged)
    git(folder, "add", "-A")
    lay(folder, after)
    work = assert_carries(folder)
    said = git(folder, "-c", "status.renames=false", "status", "--porcelain", "-z", "--untracked-files=all")
    # A file that was moved is one line here and two there.
    told = [name.encode() for line in work.state.dirty for name in line[3:].split(" -> ")]
    names = set(map(unquote, told))
    assert names == {line[3:].encode() for line in said.split("\0") if line}
    shutil.rmtree(base)


def test_the_limit_of_a_patch_never_tears_a_file_from_the_folder_that_took_its_place() -> None:
    sections = {b"a": b"x" * 10, b"a/b": b"y" * 90, b"a/b/c": b"z", b"b": b"b" * 50}
    patch, left_out = fit(sections, 60)
    assert patch == b"b" * 50
    assert left_out == ((b"a", 10), (b"a/b", 90), (b"a/b/c", 1))
    assert fit({}, 0) == (b"", ())


def test_many_names_are_told_by_the_first_few() -> None:
    assert list_names([b"b", b"a"]) == "'a', 'b'"
    assert list_names([bytes((97 + n,)) for n in range(7)]) == "'a', 'b', 'c', 'd', 'e' and 2 more"


def test_names_that_would_be_misread_are_quoted_as_git_does() -> None:
    assert quote("a b/ü".encode(), b"a/") == "a/a b/ü".encode()
    assert quote(b'a"\\\t\xff\x7f', b"b/") == b'"b/a\\"\\\\\\t\\377\\177"'


# --- Whether it applies -------------------------------------------------------------------------------------------


def patch_of(repo: Path) -> str:
    patch = look_at(repo, patch=True).patch
    assert patch is not None
    return patch


def test_a_patch_that_does_not_apply_is_told_with_the_file_and_the_commit(repo: Path) -> None:
    other = clone_at_head(repo)
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    (repo / "picture.bin").write_bytes(b"\0changed")
    (repo / "new.txt").write_text("new\n", encoding="utf-8")
    (repo / "run.sh").unlink()
    patch = patch_of(repo)
    commit = look_at(repo, patch=False).state.commit
    assert would_apply(patch, other, commit=commit) == (True, "applies")
    (other / "README.md").write_text("theirs\n", encoding="utf-8")
    assert would_apply(patch, other, commit=commit) == (False, "does not apply: 'README.md' has changed")
    (other / "picture.bin").write_bytes(b"\0theirs")
    (other / "new.txt").write_text("theirs\n", encoding="utf-8")
    (other / "run.sh").unlink()
    git(other, "add", "-A")
    git(other, "commit", "-q", "-m", "theirs")
    here = git(other, "rev-parse", "HEAD").strip()
    told, why = would_apply(patch, other, commit=commit)
    assert told is False
    assert why == (
        "does not apply: 'README.md' has changed; 'new.txt' is there already; 'picture.bin' has changed; and 1 more."
        f" It was made on commit {str(commit)[:12]}, and here is {here[:12]}"
    )


def test_a_patch_applies_where_the_file_has_changed_in_another_place(repo: Path) -> None:
    other = clone_at_head(repo)
    text = (repo / "README.md").read_text(encoding="utf-8")
    (repo / "README.md").write_text(text.replace("line 28\n", "here\n"), encoding="utf-8")
    (other / "README.md").write_text("more\n" * 5 + text.replace("line 2\n", "there\n"), encoding="utf-8")
    patch = patch_of(repo)
    git(other, "apply", "--check", "-", stdin=patch.encode("utf-8"))
    assert would_apply(patch, other) == (True, "applies")


def test_what_was_changed_at_an_end_applies_only_there(repo: Path) -> None:
    patch = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n a\n b\n+c\n"
    for content, applies in (("a\nb\n", True), ("a\nb\nmore\n", False), ("more\na\nb\n", False)):
        (repo / "x").write_text(content, encoding="utf-8")
        checked = subprocess.run(
            ["git", "-C", str(repo), "apply", "--check", "-"],
            input=patch.encode("utf-8"),
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (checked.returncode == 0) is applies
        assert would_apply(patch, repo)[0] is applies


def test_a_patch_that_git_made_is_understood(repo: Path) -> None:
    other = clone_at_head(repo)
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    (repo / "picture.bin").write_bytes(bytes(range(256)) * 3 + b"\0")
    git(repo, "mv", "run.sh", "go.sh")
    git(repo, "add", "-A")
    patch = git(repo, "diff", "--cached", "--binary", "-M")
    assert would_apply(patch, other) == (True, "applies")
    (other / "go.sh").write_text("x", encoding="utf-8")
    assert would_apply(patch, other) == (False, "does not apply: 'go.sh' is there already")


@pytest.mark.parametrize(
    "path", ["../outside", "a/../../outside", "/etc/passwd", ".git/hooks/pre-commit", "a/.GIT/config"]
)
def test_a_patch_that_names_a_place_outside_does_not_apply(repo: Path, path: str) -> None:
    patch = f"diff --git a/{path} b/{path}\nnew file mode 100755\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
    told, why = would_apply(patch, repo)
    assert told is False
    assert why.startswith("does not apply: ")


def test_a_new_file_below_a_link_or_a_file_does_not_apply(repo: Path, tmp_path: Path) -> None:
    patch = "diff --git a/d/new b/d/new\nnew file mode 100644\n--- /dev/null\n+++ b/d/new\n@@ -0,0 +1 @@\n+x\n"
    assert would_apply(patch, repo) == (True, "applies")
    (repo / "d").symlink_to(tmp_path)
    assert would_apply(patch, repo) == (False, "does not apply: 'd' is in the way")
    (repo / "d").unlink()
    (repo / "d" / "new" / "below").mkdir(parents=True)
    (repo / "d" / "new" / "below" / "file").write_text("x", encoding="utf-8")
    assert would_apply(patch, repo) == (False, "does not apply: 'd/new' is in the way")


@pytest.mark.parametrize("text", ["", "hello", "--- a\n", "diff --git a/x b/x\n@@ nonsense\n", "\0" * 50, "\ud800"])
def test_what_is_no_patch_does_not_apply(repo: Path, text: str) -> None:
    told, why = would_apply(text, repo)
    assert told is False
    assert why.startswith("does not apply: ")


def test_a_patch_of_more_files_than_can_be_compared_is_not_tried(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repo / "README.md").write_text("changed\n", encoding="utf-8")
    patch = patch_of(repo)
    monkeypatch.setattr(_applying, "MOST_SECONDS", 0.0)  # a patch that takes five seconds would take them
    assert would_apply(patch, repo) == (None, "not tried: there is too much to compare")


def test_a_patch_made_to_be_searched_for_long_is_given_up(repo: Path) -> None:
    (repo / "many.txt").write_text("same\n" * 200_000, encoding="utf-8")
    lines = " same\n" * 5_000 + "-other\n" + " same\n"
    patch = "diff --git a/many.txt b/many.txt\n--- a/many.txt\n+++ b/many.txt\n@@ -90000,5002 +90000,5001 @@\n" + lines
    assert would_apply(patch, repo) == (False, "does not apply: 'many.txt' has changed")


def test_without_a_repository_here_it_cannot_be_told(tmp_path: Path) -> None:
    for where in (tmp_path, tmp_path / "missing", Path("relative")):
        told, why = would_apply("diff", where)
        assert told is None
        assert why.startswith("not here: ")


# --- The fence ----------------------------------------------------------------------------------------------------


@given(
    patch=st.text(st.sampled_from("`\n\r abd~+-\u2028\x0c\x85")) | st.text(),
    before=st.sampled_from(["", "Text before.\n\n", "```python\nx\n```\n\n"]),
    after=st.sampled_from(["", "\nText after.\n", "```diff\nother\n```\n"]),
)
def test_a_patch_comes_out_of_its_fence_as_it_went_in(patch: str, before: str, after: str) -> None:
    made = fence(patch)
    assert unfence(before + made + after) == patch
    assert unfence((before + made).rstrip()) == patch


def test_the_fence_is_longer_than_any_in_the_patch_and_read_by_markdown() -> None:
    assert fence("+````\n") == "`````diff\n+````\n`````\n"
    assert fence("+x\n") == "```diff\n+x\n```\n"


def test_a_body_without_a_fence_has_no_patch() -> None:
    for body in ("", "text", "```python\nx\n```\n", "```diff\nnever closed\n"):
        assert unfence(body) is None


def test_the_limits_are_those_that_the_pages_tell() -> None:
    assert (_repository.MOST_CONTENT, _work.MOST_PATCHED) == (8 * 1024 * 1024, 2_000)
    assert stat.S_ISREG(0o100644)
