"""The memory repo: commits of our own beside a user's plain git."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import (
    FormatTooNew,
    InvalidInput,
    NotFound,
    RepoBusy,
    StorageError,
    UnsafePath,
)
from adaptive_llm_gateway.memory._names import is_git_name
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._values import Author, Change, Operation

CLAUDE = Author("claude-code", host="laptop")
CODEX = Author("codex", agent="reviewer", host="laptop")


def git(cwd: Path, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, input=stdin, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    return done.stdout


def change(
    path: str,
    text: str | None,
    *,
    operation: Operation = "write",
    memory: str = "",
    title: str = "A title",
    author: Author = CLAUDE,
    reason: str | None = None,
) -> Change:
    data = None if text is None else text.encode()
    return Change(path, data, operation, memory, title, author, reason)


def put(repo: MemoryRepo, path: str, text: str | None, **more: object) -> str | None:
    """As the store does: first the file, then the commit."""
    on_disk(repo.path, path, text)
    return repo.commit([change(path, text, **more)])  # type: ignore[arg-type]


def on_disk(root: Path, path: str, text: str | None) -> None:
    target = root / path
    if text is None:
        target.unlink()
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode())


@pytest.fixture
def repo(tmp_path: Path) -> MemoryRepo:
    return MemoryRepo.open(tmp_path / "memory")


# --- opening ------------------------------------------------------------------------------------------


def test_a_new_repo_starts_with_the_format_marker_committed_and_a_clean_status(repo: MemoryRepo) -> None:
    assert repo.tree_files().keys() == {".alg/format", ".gitattributes"}
    assert (repo.path / ".alg/format").read_bytes() == b"1\n"
    assert repo.branch == "main"
    assert git(repo.path, "status", "--porcelain") == ""
    git(repo.path, "fsck", "--strict")


def test_every_new_repo_starts_from_the_same_root_commit(tmp_path: Path) -> None:
    heads = {MemoryRepo.open(tmp_path / name).head() for name in ("one", "two")}
    assert heads == {MemoryRepo.root_commit_id()}


def test_opening_again_changes_nothing(repo: MemoryRepo) -> None:
    head = repo.head()
    assert MemoryRepo.open(repo.path).head() == head
    assert MemoryRepo.open(repo.path, create=False).head() == head


def test_opening_what_is_not_there_without_create_is_an_error_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no memory repo"):
        MemoryRepo.open(tmp_path / "nothing", create=False)
    assert not (tmp_path / "nothing").exists()


def test_an_existing_repository_is_adopted_with_its_history_and_its_staged_files(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "vault")
    vault = tmp_path / "vault"
    (vault / "a.md").write_text("a", encoding="utf-8")
    git(vault, "add", ".")
    git(vault, "commit", "-qm", "mine")
    first = git(vault, "rev-parse", "HEAD").strip()
    (vault / "staged.md").write_text("s", encoding="utf-8")
    git(vault, "add", "staged.md")
    repo = MemoryRepo.open(vault)
    assert git(vault, "rev-parse", "HEAD~1").strip() == first
    assert repo.tree_files().keys() == {"a.md", ".alg/format"}
    assert git(vault, "status", "--porcelain") == "A  staged.md\n"


def test_a_clone_of_an_empty_remote_is_adopted(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    git(tmp_path, "clone", "-q", "remote.git", "clone")
    assert MemoryRepo.open(tmp_path / "clone").head() == MemoryRepo.root_commit_id()


@pytest.mark.parametrize("marker", ["2\n", "99999999999999\n", "banana\n"])
def test_a_newer_format_is_refused_and_left_untouched(repo: MemoryRepo, marker: str) -> None:
    put(repo, ".alg/format", marker)
    before = sorted((path, path.stat().st_mtime_ns) for path in repo.path.rglob("*"))
    with pytest.raises(FormatTooNew) as caught:
        MemoryRepo.open(repo.path)
    assert caught.value.details["known"] == 1
    assert sorted((path, path.stat().st_mtime_ns) for path in repo.path.rglob("*")) == before


def test_a_bare_repository_is_refused_by_name(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    with pytest.raises(StorageError, match="bare repository"):
        MemoryRepo.open(tmp_path / "bare.git")


def test_a_sha256_repository_is_refused_by_name(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256", "other")
    with pytest.raises(StorageError, match="SHA-256"):
        MemoryRepo.open(tmp_path / "other")


def test_a_repository_with_a_filter_is_refused_by_name(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "crypt")
    (tmp_path / "crypt/.gitattributes").write_text("*.md filter=git-crypt diff=git-crypt\n", encoding="utf-8")
    with pytest.raises(StorageError, match="filter"):
        MemoryRepo.open(tmp_path / "crypt")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError, match="not a folder"):
        MemoryRepo.open(tmp_path / "file")


def test_a_folder_inside_another_repository_gets_a_repo_of_its_own(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "outer")
    repo = MemoryRepo.open(tmp_path / "outer/memory")
    assert repo.git_dir == tmp_path / "outer/memory/.git"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs to give a folder away")
def test_a_repository_of_another_user_is_refused_by_name(repo: MemoryRepo) -> None:
    for path in [repo.path, *repo.path.rglob("*")]:
        os.chown(path, 12345, 12345)
    with pytest.raises(StorageError, match="belongs to another user"):
        MemoryRepo.open(repo.path)


# --- being ready --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("MERGE_HEAD", "merge"),
        ("rebase-merge", "rebase"),
        ("rebase-apply", "rebase"),
        ("CHERRY_PICK_HEAD", "cherry-pick"),
        ("REVERT_HEAD", "revert"),
        ("BISECT_LOG", "bisect"),
    ],
)
def test_a_repo_in_the_middle_of_something_is_busy_and_says_what(repo: MemoryRepo, file: str, name: str) -> None:
    (repo.git_dir / file).touch()
    head = repo.head()
    with pytest.raises(RepoBusy, match=name):
        repo.check_ready()
    with pytest.raises(RepoBusy):
        repo.commit([change("notes/a.md", "a")])
    assert MemoryRepo.open(repo.path).head() == head


def test_a_real_rebase_that_stopped_makes_the_repo_busy(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "base")
    git(repo.path, "switch", "-qc", "side")
    put(repo, "notes/a.md", "side")
    git(repo.path, "switch", "-q", "main")
    put(repo, "notes/a.md", "main")
    stopped = subprocess.run(["git", "rebase", "side"], cwd=repo.path, capture_output=True, check=False)
    assert stopped.returncode != 0
    with pytest.raises(RepoBusy, match="rebase"):
        repo.check_ready()


def test_a_detached_head_is_named(repo: MemoryRepo) -> None:
    git(repo.path, "checkout", "-q", "--detach")
    with pytest.raises(RepoBusy, match="detached HEAD"):
        repo.commit([change("notes/a.md", "a")])


def test_a_lock_that_nobody_could_hold_is_told_from_one_that_is_just_taken(repo: MemoryRepo) -> None:
    assert repo.index_lock() is None
    lock = repo.git_dir / "index.lock"
    lock.touch()
    fresh = repo.index_lock()
    assert fresh is not None
    assert fresh.owner == "unknown"
    os.utime(lock, (1, 1))
    left = repo.index_lock()
    assert left is not None
    assert left.owner == ("unknown" if sys.platform == "win32" else "dead")


def test_commits_go_on_while_the_index_is_locked_and_the_index_follows_later(repo: MemoryRepo) -> None:
    lock = repo.git_dir / "index.lock"
    lock.touch()
    assert put(repo, "notes/a.md", "a") is not None
    assert repo.index_pending == 1
    lock.unlink()
    assert repo.refresh_index()
    assert git(repo.path, "status", "--porcelain") == ""


# --- committing ---------------------------------------------------------------------------------------


def test_a_group_becomes_one_commit_and_leaves_the_status_clean(repo: MemoryRepo) -> None:
    put(repo, "notes/2026/11/gone.md", "gone")
    before = repo.head()
    group = [
        change("notes/2026/11/a.md", "a"),
        change("facts/2026/11/b.md", "b"),
        change("notes/2026/11/gone.md", None, operation="delete"),
    ]
    for item in group:
        on_disk(repo.path, item.path, None if item.data is None else item.data.decode())
    commit = repo.commit(group)
    assert git(repo.path, "rev-list", f"{before}..HEAD").split() == [commit]
    assert git(repo.path, "status", "--porcelain") == ""
    assert {"notes/2026/11/a.md", "facts/2026/11/b.md"} < repo.tree_files().keys()
    assert "notes/2026/11/gone.md" not in repo.tree_files()
    git(repo.path, "fsck", "--strict")


def test_a_folder_that_becomes_empty_leaves_the_tree(repo: MemoryRepo) -> None:
    put(repo, "notes/2026/11/a.md", "a")
    put(repo, "notes/2026/11/a.md", None, operation="delete")
    assert git(repo.path, "ls-tree", "HEAD", "notes") == ""


def test_nothing_is_committed_when_nothing_differs(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "a")
    head = repo.head()
    assert repo.commit([change("notes/a.md", "a"), change("notes/never.md", None)]) is None
    assert repo.commit([]) is None
    assert repo.head() == head


def test_of_several_changes_to_one_file_the_last_counts(repo: MemoryRepo) -> None:
    on_disk(repo.path, "notes/a.md", "two")
    repo.commit([change("notes/a.md", "one"), change("notes/a.md", "two", operation="update")])
    assert repo.read_at("notes/a.md", "HEAD") == b"two"


def test_what_the_user_staged_stays_staged_and_out_of_the_commit(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "a")
    on_disk(repo.path, "mine.md", "mine")
    on_disk(repo.path, "notes/a.md", "a, edited")
    git(repo.path, "add", "mine.md", "notes/a.md")
    on_disk(repo.path, "unstaged.md", "later")
    put(repo, "notes/b.md", "b")
    assert git(repo.path, "show", "--name-only", "--format=", "HEAD").split() == ["notes/b.md"]
    assert git(repo.path, "status", "--porcelain") == "A  mine.md\nM  notes/a.md\n?? unstaged.md\n"


def test_bytes_are_kept_as_they_are(repo: MemoryRepo) -> None:
    data = "line\r\nother\nünï\r".encode()
    (repo.path / "notes").mkdir()
    (repo.path / "notes/a.md").write_bytes(data)
    git(repo.path, "config", "core.autocrlf", "true")
    repo.commit([Change("notes/a.md", data, "write", "", "t", CLAUDE)])
    assert repo.read_blob(MemoryRepo.blob_id(data)) == data
    assert git(repo.path, "status", "--porcelain") == ""
    assert git(repo.path, "hash-object", "--no-filters", "notes/a.md").strip() == MemoryRepo.blob_id(data)


def test_a_commit_of_the_users_meanwhile_is_built_upon(repo: MemoryRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    put(repo, "notes/a.md", "a")
    real = repo._advance  # pyright: ignore[reportPrivateUsage]
    raced: list[str] = []

    def racing(expected: str | None, commit: str, before: Mapping[str, str | None], note: str) -> bool:
        if not raced:
            on_disk(repo.path, "mine.md", "mine")
            git(repo.path, "add", "mine.md")
            git(repo.path, "commit", "-qm", "mine")
            raced.append("once")
        return real(expected, commit, before, note)

    # The one place where the race is: between building on HEAD and moving it, before the index is locked.
    monkeypatch.setattr(repo, "_advance", racing)
    put(repo, "notes/b.md", "b")
    assert {"mine.md", "notes/a.md", "notes/b.md"} < repo.tree_files().keys()
    assert git(repo.path, "log", "-2", "--format=%s").splitlines()[1] == "mine"
    assert git(repo.path, "status", "--porcelain") == ""


def test_several_writers_of_plain_git_and_ours_lose_nothing(repo: MemoryRepo) -> None:
    git(repo.path, "switch", "-q", "main")

    def by_hand() -> None:
        for number in range(8):
            on_disk(repo.path, f"hand-{number}.md", "x")
            while True:
                name = f"hand-{number}.md"
                steps = (["git", "add", name], ["git", "commit", "-qm", name, "--", name])
                if all(
                    not subprocess.run(step, cwd=repo.path, capture_output=True, check=False).returncode
                    for step in steps
                ):
                    break

    thread = threading.Thread(target=by_hand)
    thread.start()
    count = 0
    while thread.is_alive() or count < 20:
        put(repo, f"notes/{count:04d}.md", str(count))
        count += 1
    thread.join()
    repo.refresh_index()
    committed = {line for line in git(repo.path, "log", "--format=", "--name-only").splitlines() if line}
    assert {f"hand-{number}.md" for number in range(8)} < committed
    assert {f"notes/{number:04d}.md" for number in range(count)} < committed
    git(repo.path, "fsck", "--strict")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../out.md",
        "notes/../../out.md",
        "notes//a.md",
        "./a.md",
        ".git/config",
        "notes/.GIT/hooks/pre-commit",
        "git~1/config",
        ".git /config",
        ".git::$INDEX_ALLOCATION/x",
        ".g\u200cit/config",
        "C:/x.md",
        "notes\\a.md",
        "notes/a\nb.md",
        "notes/\0.md",
    ],
)
def test_unsafe_paths_are_refused(repo: MemoryRepo, path: str) -> None:
    head = repo.head()
    with pytest.raises(UnsafePath):
        repo.commit([change(path, "x")])
    assert repo.head() == head


def test_names_that_only_look_like_git_are_allowed() -> None:
    assert not any(is_git_name(name) for name in (".github", ".gitattributes", "git", "gitter", "a.git"))


def test_a_file_where_a_folder_is_and_the_reverse_are_refused(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "a")
    for path in ("notes", "notes/a.md/b.md"):
        with pytest.raises(InvalidInput):
            repo.commit([change(path, "x")])
    with pytest.raises(InvalidInput):
        repo.commit([change("x/y", "1"), change("x", "2")])


# --- authors and messages -----------------------------------------------------------------------------


def test_the_author_is_the_client_and_the_committer_the_user(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "a")
    assert git(repo.path, "log", "-1", "--format=%an|%ae|%cn|%ce").strip() == (
        "claude-code|claude-code@laptop|Test Person|person@example.org"
    )


def test_several_clients_in_one_group_are_all_named(repo: MemoryRepo) -> None:
    repo.commit([change("notes/a.md", "a"), change("notes/b.md", "b", author=CODEX)])
    assert git(repo.path, "log", "-1", "--format=%an|%ae").strip() == "claude-code, codex|claude-code+codex@laptop"


def test_a_missing_identity_never_fails_a_commit(tmp_path: Path) -> None:
    (tmp_path / "user/.gitconfig").write_text("", encoding="utf-8")
    repo = MemoryRepo.open(tmp_path / "memory")
    assert put(repo, "notes/a.md", "a") is not None
    name, email = git(repo.path, "log", "-1", "--format=%cn|%ce").strip().split("|")
    assert name == "Adaptive LLM Gateway"
    assert email.startswith("hub@")
    assert not repo.identity().configured


@pytest.mark.parametrize("client", ["", "  ", "<>", "\n\0", "...", "evil> <root@host>\nAgent: root", "日本 語"])
def test_any_client_name_makes_a_valid_commit(repo: MemoryRepo, client: str) -> None:
    assert put(repo, "notes/a.md", "a", author=Author(client, host="häst\n<x>")) is not None
    git(repo.path, "fsck", "--strict")
    name, email = git(repo.path, "log", "-1", "--format=%an%x00%ae").rstrip("\n").split("\0")
    assert name
    assert set(email) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+@")


def trailers(repo: MemoryRepo) -> list[str]:
    message = git(repo.path, "log", "-1", "--format=%B")
    return git(repo.path, "interpret-trailers", "--parse", stdin=message).splitlines()


def test_the_message_says_who_what_and_why_in_lines_and_trailers(repo: MemoryRepo) -> None:
    group = [
        change("notes/a.md", "a", memory="01A", reason="asked: by the user"),
        change("facts/b.md", "b", memory="01B", author=CODEX, reason="seen in the log"),
        change("facts/c.md", "c", memory="01C", author=CODEX, reason="seen in the log"),
    ]
    repo.commit(group)
    assert git(repo.path, "log", "-1", "--format=%B").strip().splitlines() == [
        "Write 3 memories",
        "",
        "- write notes/a.md by claude-code: asked: by the user",
        "- write facts/b.md by codex (reviewer): seen in the log",
        "- write facts/c.md by codex (reviewer): seen in the log",
        "",
        "Agent: claude-code",
        "Agent: codex (reviewer)",
        "Reason: asked: by the user",
        "Reason: seen in the log",
        "Memory: 01A",
        "Memory: 01B",
        "Memory: 01C",
    ]
    assert trailers(repo) == [
        "Agent: claude-code",
        "Agent: codex (reviewer)",
        "Reason: asked: by the user",
        "Reason: seen in the log",
        "Memory: 01A",
        "Memory: 01B",
        "Memory: 01C",
    ]


@pytest.mark.parametrize(
    ("operation", "path", "subject"),
    [
        ("write", "notes/a.md", 'Write note "A title"'),
        ("delete", "facts/a.md", 'Delete fact "A title"'),
        ("append", "sessions/a.md", 'Append to session "A title"'),
        ("recover", "other/a.md", 'Recover memory "A title"'),
    ],
)
def test_one_memory_is_named_in_the_subject(repo: MemoryRepo, operation: Operation, path: str, subject: str) -> None:
    put(repo, path, "before")
    repo.commit([change(path, None if operation == "delete" else "after", operation=operation)])
    assert git(repo.path, "log", "-1", "--format=%s").strip() == subject


def test_a_mixed_group_counts_its_operations(repo: MemoryRepo) -> None:
    put(repo, "notes/b.md", "b")
    repo.commit([change("notes/a.md", "a"), change("notes/b.md", None, operation="delete")])
    assert git(repo.path, "log", "-1", "--format=%s").strip() == "Change 2 memories (1 write, 1 delete)"


def test_line_breaks_in_reasons_and_titles_add_no_trailers(repo: MemoryRepo) -> None:
    evil = "fine\r\n\nAgent: root\nMemory: 01EVIL\u2028Reason: no\x85x\x0bAgent: y\n---\n"
    put(repo, "notes/a.md", "a", memory="01A", title=evil, reason=evil)
    found = trailers(repo)
    assert [line.partition(":")[0] for line in found] == ["Agent", "Reason", "Memory"]
    assert found[0] == "Agent: claude-code"
    assert found[2] == "Memory: 01A"


# --- reading ------------------------------------------------------------------------------------------


def test_a_past_version_can_be_read_by_commit_version_time_and_steps(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "one")
    first = repo.head()
    assert first is not None
    put(repo, "notes/a.md", "two")
    for at in (first, first[:9], "HEAD~1", "HEAD^", MemoryRepo.blob_id(b"one")):
        assert repo.read_at("notes/a.md", at) == b"one", at
    for at in ("HEAD", "main", "2100-01-01", "2100-01-01T00:00:00+02:00"):
        assert repo.read_at("notes/a.md", at) == b"two", at


@pytest.mark.parametrize("at", ["1999-01-01", "f" * 40, "abcdef1", "HEAD~99", "no-such-branch"])
def test_a_time_or_commit_that_is_not_there_is_not_found(repo: MemoryRepo, at: str) -> None:
    put(repo, "notes/a.md", "one")
    with pytest.raises(NotFound):
        repo.read_at("notes/a.md", at)


@pytest.mark.parametrize("at", ["", "HEAD:notes/a.md", "--all", "a..b", ":/x", "HEAD@{1}", "a b", "HEAD^{tree}"])
def test_other_ways_to_name_a_revision_are_invalid(repo: MemoryRepo, at: str) -> None:
    with pytest.raises(InvalidInput):
        repo.read_at("notes/a.md", at)


def test_a_file_that_did_not_exist_then_is_not_found(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "one")
    with pytest.raises(NotFound, match="did not exist"):
        repo.read_at("notes/a.md", "HEAD~1")


def test_an_older_version_is_read_across_a_rename(repo: MemoryRepo) -> None:
    text = "a long enough text\n" * 20
    put(repo, "notes/old.md", text)
    on_disk(repo.path, "notes/old.md", None)
    on_disk(repo.path, "notes/new.md", text + "more\n")
    repo.commit([change("notes/old.md", None), change("notes/new.md", text + "more\n")])
    assert repo.read_at("notes/new.md", "HEAD~1") == text.encode()


def test_a_version_is_read_as_written_and_a_wrong_one_named(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "one")
    assert repo.read_blob(repo.tree_files()["notes/a.md"]) == b"one"
    with pytest.raises(NotFound):
        repo.read_blob("0" * 40)
    with pytest.raises(InvalidInput):
        repo.read_blob("HEAD")


def test_reading_works_from_other_threads(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "one")
    seen: list[object] = []

    def read() -> None:
        seen.append((repo.read_at("notes/a.md", "HEAD"), len(repo.history("notes/a.md")), repo.head()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(b"one", 1, repo.head())] * 4


def test_reading_goes_on_while_git_packs_everything(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "one")
    put(repo, "notes/a.md", "two")
    git(repo.path, "gc", "-q", "--prune=now")
    assert repo.read_at("notes/a.md", "HEAD~1") == b"one"
    assert put(repo, "notes/a.md", "three") is not None
    assert git(repo.path, "status", "--porcelain") == ""


# --- history ------------------------------------------------------------------------------------------


def test_history_is_newest_first_with_agent_reason_and_version(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "one", reason="first")
    put(repo, "notes/b.md", "other")
    repo.commit(
        [
            change("notes/a.md", "two", operation="update", author=CODEX, reason="second"),
            change("notes/b.md", "else", operation="update", reason="not about a"),
        ]
    )
    revisions = repo.history("notes/a.md")
    assert [revision.version for revision in revisions] == [MemoryRepo.blob_id(b"two"), MemoryRepo.blob_id(b"one")]
    assert [revision.agents for revision in revisions] == [("codex (reviewer)",), ("claude-code",)]
    assert [revision.reasons for revision in revisions] == [("second",), ("first",)]
    assert revisions[0].commit == repo.head()
    assert revisions[1].subject == 'Write note "A title"'
    assert all(revision.time.tzinfo for revision in revisions)
    assert len(repo.history("notes/a.md", limit=1)) == 1


def test_history_follows_a_rename(repo: MemoryRepo) -> None:
    text = "a long enough text\n" * 20
    put(repo, "notes/old.md", text)
    repo.commit([change("notes/old.md", None), change("notes/new.md", text + "x\n")])
    repo.commit([change("notes/new.md", text + "xy\n")])
    assert [revision.path for revision in repo.history("notes/new.md")] == [
        "notes/new.md",
        "notes/new.md",
        "notes/old.md",
    ]


def test_history_follows_several_renames_and_a_move_back(repo: MemoryRepo) -> None:
    text = "a long enough text\n" * 20
    names = ["notes/a.md", "notes/b.md", "facts/c.md", "notes/a.md"]
    put(repo, names[0], text)
    for old, new in pairwise(names):
        repo.commit([change(old, None), change(new, text)])
    assert [revision.path for revision in repo.history("notes/a.md")] == [
        "notes/a.md",
        "notes/a.md",
        "notes/a.md",
    ]
    assert [revision.version is None for revision in repo.history("notes/a.md")] == [False, True, False]
    assert [revision.path for revision in repo.history("facts/c.md", limit=3)] == [
        "facts/c.md",
        "facts/c.md",
        "notes/b.md",
    ]


def test_history_shows_a_merge_that_decided_something(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "base")
    git(repo.path, "switch", "-qc", "side")
    put(repo, "notes/a.md", "side")
    side = repo.head()
    git(repo.path, "switch", "-q", "main")
    put(repo, "notes/a.md", "main")
    main = repo.head()
    assert side is not None
    assert main is not None
    merge = repo.merge_commit([main, side], {"notes/a.md": b"both"}, "Merge\n")
    assert repo.advance(main, merge, {"notes/a.md": None}, "test")
    assert repo.history("notes/a.md")[0].version == MemoryRepo.blob_id(b"both")
    assert len(repo.history("notes/a.md")) == 4


def test_history_of_a_deleted_file_ends_with_its_deletion(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "one")
    put(repo, "notes/a.md", None, operation="delete", reason="wrong")
    assert [(revision.version, revision.reasons) for revision in repo.history("notes/a.md")] == [
        (None, ("wrong",)),
        (MemoryRepo.blob_id(b"one"), ()),
    ]


def test_history_shows_commits_of_plain_git_and_odd_names(repo: MemoryRepo) -> None:
    name = "notes/-ünï *[a]?.md"
    on_disk(repo.path, name, "x")
    git(repo.path, "add", "--", ":(literal)" + name)
    git(repo.path, "commit", "-qm", "By hand\n\nwith a body\n\nAgent: me")
    (revision,) = repo.history(name)
    assert (revision.subject, revision.author, revision.path) == ("By hand", "Test Person", name)
    assert revision.agents == ("me",)


def test_history_of_what_never_was_is_empty(repo: MemoryRepo) -> None:
    assert repo.history("notes/never.md") == []


def test_a_deleted_memory_is_found_by_the_end_of_its_id(repo: MemoryRepo) -> None:
    put(repo, "notes/2026/11/title-ab12cd34.md", "one")
    put(repo, "notes/2026/11/title-ab12cd34.md", "two")
    assert repo.find_deleted("AB12CD34") is None
    put(repo, "notes/2026/11/title-ab12cd34.md", None, operation="delete")
    found = ("notes/2026/11/title-ab12cd34.md", MemoryRepo.blob_id(b"two"))
    assert repo.find_deleted("AB12CD34") == found
    assert repo.find_deleted("ab12cd34") == found
    put(repo, "notes/2026/11/title-ab12cd34.md", "again")
    assert repo.find_deleted("ab12cd34") is None


@pytest.mark.parametrize("tail", ["", "*", "ab", "../../x", "a" * 27, "ab cd"])
def test_a_strange_id_tail_is_invalid(repo: MemoryRepo, tail: str) -> None:
    with pytest.raises(InvalidInput):
        repo.find_deleted(tail)


# --- crashes ------------------------------------------------------------------------------------------

_CRASHER = """
import sys
from pathlib import Path
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._values import Author, Change
root = Path(sys.argv[1])
repo = MemoryRepo.open(root)
group = []
for path, text in (("notes/new.md", "new"), ("notes/a.md", "changed"), ("notes/gone.md", None)):
    if text is None:
        (root / path).unlink()
    else:
        (root / path).write_text(text, encoding="utf-8")
    group.append(Change(path, None if text is None else text.encode(), "write", "", "t", Author("c")))
repo.commit(group, update_index=False)
repo.refresh_index()
"""


def crash_at(point: str, root: Path) -> None:
    died = subprocess.run(
        [sys.executable, "-c", _CRASHER, str(root)], env={**os.environ, "ALG_FAULT": point}, check=False
    )
    assert died.returncode == -9


@pytest.mark.parametrize(
    ("point", "committed"),
    [
        ("commit.blobs_written", False),
        ("commit.trees_written", False),
        ("commit.commit_written", False),
        ("commit.index_locked", False),
        ("commit.ref_updated", True),
        ("commit.git_index_written", True),
        ("commit.git_index_updated", True),
    ],
)
def test_after_a_kill_the_next_open_finds_all_or_nothing_and_a_matching_index(
    repo: MemoryRepo, point: str, committed: bool
) -> None:
    put(repo, "notes/a.md", "a")
    put(repo, "notes/gone.md", "gone")
    put(repo, "notes/staged.md", "s")
    put(repo, "notes/unstaged.md", "u")
    on_disk(repo.path, "notes/staged.md", "staged")
    git(repo.path, "add", "notes/staged.md")
    on_disk(repo.path, "notes/unstaged.md", "unstaged")
    before = repo.head()
    crash_at(point, repo.path)
    again = MemoryRepo.open(repo.path)
    users = "M  notes/staged.md\n M notes/unstaged.md\n"
    if committed:
        assert git(repo.path, "rev-parse", "HEAD~1").strip() == before
        assert git(repo.path, "status", "--porcelain") == users
    else:
        assert again.head() == before
        assert sorted(git(repo.path, "status", "--porcelain").splitlines()) == sorted(
            [*users.splitlines(), " D notes/gone.md", " M notes/a.md", "?? notes/new.md"]
        )
    assert again.index_pending == 0
    git(repo.path, "fsck", "--strict")


def test_what_the_user_staged_after_a_kill_is_not_taken_back_by_the_repair(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "a")
    put(repo, "notes/gone.md", "gone")
    crash_at("commit.ref_updated", repo.path)
    (repo.git_dir / "index.lock").unlink()  # as git says to whoever is in a hurry
    on_disk(repo.path, "notes/a.md", "mine now")
    git(repo.path, "add", "notes/a.md")
    MemoryRepo.open(repo.path)
    assert git(repo.path, "status", "--porcelain") == "M  notes/a.md\n"


def test_a_garbled_journal_does_not_stop_the_repo_from_opening(repo: MemoryRepo) -> None:
    (repo.git_dir / "alg-index-pending").write_bytes(b'["notes/a.md"\n\xff\xfe\n[1]\n["../x", null]\n["a", 1]\n')
    MemoryRepo.open(repo.path)
    assert git(repo.path, "status", "--porcelain") == ""


# --- the hook -----------------------------------------------------------------------------------------


def commit_by_hand(root: Path, name: str) -> subprocess.CompletedProcess[str]:
    on_disk(root, name, "x")
    git(root, "add", name)
    return subprocess.run(
        ["git", "commit", "-qm", name], cwd=root, capture_output=True, text=True, check=False, encoding="utf-8"
    )


def script(tmp_path: Path, status: int) -> Sequence[str]:
    file = tmp_path / "with a 'quote'.py"
    file.write_text(f"print('gate ran', flush=True); raise SystemExit({status})\n", encoding="utf-8")
    return [sys.executable, str(file), "--staged"]


@pytest.mark.parametrize("status", [0, 5])
def test_the_hook_runs_the_command_and_its_status_decides(repo: MemoryRepo, tmp_path: Path, status: int) -> None:
    assert repo.install_hook(script(tmp_path, status)) == "installed"
    assert repo.install_hook(script(tmp_path, status)) == "unchanged"
    done = commit_by_hand(repo.path, "mine.md")
    assert (done.returncode == 0) == (status == 0)
    assert "gate ran" in done.stdout + done.stderr


def test_our_own_commits_run_no_hook(repo: MemoryRepo, tmp_path: Path) -> None:
    repo.install_hook(script(tmp_path, 1))
    assert put(repo, "notes/a.md", "a") is not None


def test_a_hook_of_the_users_is_kept_and_runs_first(repo: MemoryRepo, tmp_path: Path) -> None:
    hook = repo.git_dir / "hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho users hook\nexit ${USERS:-0}\n", encoding="utf-8")
    hook.chmod(0o755)
    assert repo.install_hook(script(tmp_path, 0)) == "chained"
    assert repo.install_hook(script(tmp_path, 0)) == "unchanged"
    assert repo.install_hook([*script(tmp_path, 0), "--other"]) == "installed"
    done = commit_by_hand(repo.path, "mine.md")
    shown = done.stdout + done.stderr
    assert done.returncode == 0
    assert shown.index("users hook") < shown.index("gate ran")


def test_a_gate_that_is_gone_refuses_and_says_so(repo: MemoryRepo, tmp_path: Path) -> None:
    repo.install_hook([str(tmp_path / "no such python"), "-m", "x"])
    done = commit_by_hand(repo.path, "mine.md")
    assert done.returncode != 0
    assert "hint:" in done.stderr
    assert "--no-verify" in done.stderr


def test_a_gate_that_fails_refuses_and_says_how_to_go_on(repo: MemoryRepo) -> None:
    repo.install_hook([sys.executable, "-P", "-m", "no_such_module_of_ours"])
    done = commit_by_hand(repo.path, "mine.md")
    assert done.returncode != 0
    assert "did not come to an end (exit code 1)" in done.stderr
    assert "--no-verify" in done.stderr


def test_the_hook_of_messages_gets_the_messages_file_and_keeps_a_hook_of_the_users(
    repo: MemoryRepo, tmp_path: Path
) -> None:
    hook = repo.git_dir / "hooks/commit-msg"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\necho "users hook: $(cat "$1")"\n', encoding="utf-8")
    hook.chmod(0o755)
    gate = tmp_path / "gate.py"
    gate.write_text("import sys; sys.exit(5 * ('bad' in open(sys.argv[1]).read()))\n", encoding="utf-8")
    assert repo.install_hook([sys.executable, str(gate)], name="commit-msg") == "chained"
    assert repo.install_hook([sys.executable, str(gate)], name="commit-msg") == "unchanged"
    (repo.path / "mine.md").write_text("mine\n", encoding="utf-8")
    git(repo.path, "add", "mine.md")
    commit = ["git", "-C", str(repo.path), "commit", "-q", "-m"]
    done = subprocess.run([*commit, "a bad one"], capture_output=True, encoding="utf-8", check=False, timeout=60)
    assert (done.returncode != 0, done.stderr) == (True, "users hook: a bad one\n")
    subprocess.run([*commit, "a good one"], capture_output=True, check=True, timeout=60)


def test_a_hooks_folder_elsewhere_is_told_and_not_touched(repo: MemoryRepo, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    git(repo.path, "config", "core.hooksPath", str(tmp_path / "shared"))
    assert repo.install_hook(["true"]) == "elsewhere"
    assert list((tmp_path / "shared").iterdir()) == []
    assert not (repo.git_dir / "hooks/pre-commit").exists()


# --- upkeep -------------------------------------------------------------------------------------------


def test_maintenance_packs_what_gathered_and_leaves_everything_readable(repo: MemoryRepo) -> None:
    assert not repo.maintain()
    blobs = "".join(f"blob\ndata <<E\n{number}\nE\n" for number in range(5000))
    git(repo.path, "-c", "fastimport.unpackLimit=100000", "fast-import", "--quiet", stdin=blobs)
    put(repo, "notes/a.md", "a")
    put(repo, "notes/b.md", "b")
    assert repo.maintain()
    assert (repo.git_dir / "objects/info/commit-graph").exists()
    assert repo.read_at("notes/a.md", "HEAD") == b"a"
    assert len(repo.history("notes/a.md")) == 1
    put(repo, "notes/a.md", "again")
    assert len(repo.history("notes/a.md")) == 2
    git(repo.path, "fsck", "--strict")


def test_a_closed_repo_opens_itself_again_when_it_is_used(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "a")
    repo.close()
    assert repo.read_at("notes/a.md", "HEAD") == b"a"


def test_a_linked_work_tree_can_be_a_memory_repo(repo: MemoryRepo, tmp_path: Path) -> None:
    git(repo.path, "worktree", "add", "-q", "-b", "side", str(tmp_path / "linked"))
    linked = MemoryRepo.open(tmp_path / "linked")
    assert linked.branch == "side"
    assert put(linked, "notes/a.md", "a") is not None
    assert git(linked.path, "status", "--porcelain") == ""
    assert repo.head() == MemoryRepo.root_commit_id()


def test_durable_commits_work_the_same(tmp_path: Path) -> None:
    repo = MemoryRepo.open(tmp_path / "memory", durable=True)
    assert put(repo, "notes/a.md", "a") is not None
    assert git(repo.path, "status", "--porcelain") == ""


def test_the_host_name_stands_in_where_an_author_has_none(repo: MemoryRepo) -> None:
    put(repo, "notes/a.md", "a", author=Author("codex"))
    host = git(repo.path, "log", "-1", "--format=%ae").strip().partition("@")[2]
    assert host.casefold()[:3] == (socket.gethostname().casefold()[:3] or "loc")


def test_the_files_of_a_commit_are_gits_whichever_commit_was_asked_for_before(repo: MemoryRepo) -> None:
    commits = [put(repo, "notes/a.md", "one")]
    commits.append(put(repo, "notes/b.md", "two"))
    commits.append(put(repo, "notes/a.md", "other"))
    commits.append(put(repo, "facts/2026/c.md", "three"))
    commits.append(put(repo, "facts/2026/c.md", None))
    on_disk(repo.path, "notes/a.md", None)
    on_disk(repo.path, "notes/b.md", None)
    (repo.path / "notes").rmdir()
    on_disk(repo.path, "notes", "a file where a folder was")
    (repo.path / "link").symlink_to("notes")
    git(repo.path, "add", "--all")
    git(repo.path, "commit", "--quiet", "--no-verify", "--message", "By hand")
    commits.append(repo.head())
    for commit in [*commits, *reversed(commits), *commits[::2], commits[1], commits[1]]:
        assert commit is not None
        listed = git(repo.path, "ls-tree", "-r", "-z", commit).split("\0")[:-1]
        expected = {path: meta.split(" ")[2] for meta, _, path in (line.partition("\t") for line in listed)}
        expected.pop("link", None)
        found = repo.tree_files(commit)
        assert found == expected
        found.clear()  # theirs who asked


def test_of_the_git_objects_that_were_read_a_megabyte_is_kept(tmp_path: Path) -> None:
    look = (
        "import sys, pygit2; from pathlib import Path; from adaptive_llm_gateway.memory._repo import MemoryRepo; "
        "MemoryRepo.open(Path(sys.argv[1])); print(pygit2.settings.cached_memory[1])"
    )
    most = subprocess.run(
        [sys.executable, "-c", look, str(tmp_path / "memory")], capture_output=True, encoding="utf-8", check=True
    ).stdout
    assert 0 < int(most) <= 1024 * 1024
