"""Plain git beside the hub in one work tree: while HEAD is ahead of git's index, the lock on the index is the hub's."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sync_made import AUTHOR, PATH, Clone, failure, git, memory, no_secrets, poll

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.memory import _git_index, _repo, _sync, _sync_apply
from adaptive_llm_gateway.memory._index_lock import read_lock
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._requests import DeleteMemory, WriteMemory
from adaptive_llm_gateway.memory._sync import Sync
from adaptive_llm_gateway.memory._values import Change
from adaptive_llm_gateway.memory.testing import temporary_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be a lock that is removed there")

GONE, NEW = "notes/gone.md", "notes/new.md"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    return tmp_path / "remote.git"


@pytest.fixture
def one(tmp_path: Path, remote: Path) -> Clone:
    clone = Clone(tmp_path / "one", remote)
    clone.put(PATH, memory("old\n"))
    clone.put(GONE, "gone")
    clone.sync.push()
    return clone


@pytest.fixture
def two(tmp_path: Path, remote: Path, one: Clone) -> Clone:
    """A clone for which the remote has a changed, a new and a deleted file."""
    clone = Clone(tmp_path / "two", remote)
    clone.sync.pull()
    git(clone.root, "config", "pull.rebase", "false")
    one.put(PATH, memory("what others wrote\n"))
    one.put(NEW, "new")
    one.put(GONE, None)
    one.sync.push()
    return clone


def lock_of(root: Path) -> Path:
    return root / ".git/index.lock"


def plain(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=False, encoding="utf-8", timeout=60
    )


def left_in(git_dir: Path) -> list[str]:
    """What only one who is at work there, or was killed, has in the git folder."""
    return sorted(path.name for path in git_dir.iterdir() if path.name.startswith(("alg-index", "index.")))


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], object]], list[str]]:
    """Has something done the first time that a step is reached; the steps that were reached.

    A person's git cannot be made to come between two steps of ours otherwise.
    """

    def arrange(point: str, run: Callable[[], object]) -> list[str]:
        reached: list[str] = []

        def reach(name: str) -> None:
            reached.append(name)
            if name == point and reached.count(name) == 1:
                run()

        for module in (_git_index, _repo, _sync, _sync_apply):
            monkeypatch.setattr(module, "reach", reach)
        return reached

    return arrange


# --- A pull -----------------------------------------------------------------------------------------------------

STEPS = (
    "sync.index_held",
    "sync.rescued",
    "sync.journal_written",
    "sync.file_written",
    "sync.tree_updated",
    "sync.quarantine_written",
    "sync.ref_moved",
    "commit.git_index_written",
    "commit.git_index_updated",
)
COMMANDS = (
    ("commit", "-q", "--all", "-m", "by hand"),
    ("commit", "-q", "--allow-empty", "-m", "by hand"),
    ("pull", "-q", "origin", "main"),
    ("merge", "-q", "side"),
    ("checkout", "-q", "side"),
    ("reset", "-q", "--hard", "HEAD~1"),
    ("add", "--all"),
    ("stash", "-q"),
    ("cherry-pick", "side"),
    ("revert", "--no-edit", "HEAD"),
    ("rebase", "-q", "side"),
    ("rm", "-q", "--cached", PATH),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("step", STEPS)
def test_plain_git_is_refused_while_a_pull_moves_files_and_undoes_nothing_of_it(
    one: Clone, two: Clone, at: Callable[..., list[str]], step: str, command: tuple[str, ...]
) -> None:
    two.put("notes/own.md", "own")
    git(two.root, "update-index", "--refresh")  # git knows of every file that it is as the index has it
    git(two.root, "branch", "side", _commit_beside(two.root))
    wanted = one.repo.head()
    said: list[subprocess.CompletedProcess[str]] = []

    def person() -> None:
        one.put("notes/later.md", "later")
        one.sync.push()
        said.append(plain(two.root, *command))

    at(step, person)
    two.sync.pull()
    (done,) = said
    assert done.returncode != 0, done
    assert two.clean()
    assert two.repo.operation() is None  # nor is anything left that the next commit would end
    assert plain(two.root, "commit", "-qm", "by hand").returncode == 1
    git(two.root, "merge-base", "--is-ancestor", str(wanted), "HEAD")
    two.sync.push()
    one.sync.pull()
    assert one.files() == two.files()
    assert {NEW, "notes/own.md", "notes/later.md"} < two.files().keys()
    assert (GONE in two.files(), "what others wrote" in two.text(PATH)) == (False, True)
    two.repo.close()
    assert left_in(two.repo.git_dir) == []


def _commit_beside(root: Path) -> str:
    """A commit that HEAD does not have, and that changes a file nobody else does."""
    blob, beside = git(root, "hash-object", "-w", ".gitattributes").strip(), str(root / ".git/side")
    git(root, "read-tree", "HEAD", GIT_INDEX_FILE=beside)
    git(root, "update-index", "--add", "--cacheinfo", f"100644,{blob},side.txt", GIT_INDEX_FILE=beside)
    tree = git(root, "write-tree", GIT_INDEX_FILE=beside).strip()
    Path(beside).unlink()
    return git(root, "commit-tree", "-p", "HEAD~1", "-m", "side", tree).strip()


def test_people_who_use_plain_git_while_a_hub_pulls_never_put_older_text_back(one: Clone, two: Clone) -> None:
    def number(commit: str) -> int:
        shown = plain(two.root, "show", f"{commit}:{PATH}").stdout
        return int(shown.rpartition("version ")[2]) if "version " in shown else 0

    ended = threading.Event()
    counts = {"done": 0, "refused": 0}
    wrong: list[str] = []

    def person() -> None:
        for turn in itertools.count():
            (two.root / "mine.txt").write_text(f"{turn}\n", encoding="utf-8")
            for command in (["add", "mine.txt"], ["commit", "-qm", "mine"], ["pull", "-q", "--no-edit", "origin"]):
                done = plain(two.root, *command)
                if done.returncode == 0:
                    counts["done"] += 1
                else:
                    counts["refused"] += "index.lock" in done.stderr
            if ended.is_set():
                return

    git(two.root, "config", "branch.main.merge", "refs/heads/main")
    git(two.root, "config", "branch.main.remote", "origin")
    thread = threading.Thread(target=person)
    thread.start()
    try:
        for version in range(1, 13):
            one.put(PATH, memory(f"version {version}\n"))
            one.put(f"notes/{version:02d}.md", "x")
            one.sync.push()
            for _ in range(200):
                try:
                    two.sync.pull()
                    break
                except AlgError as error:  # the person is at it
                    wrong.append(str(error))
    finally:
        ended.set()
        thread.join(120)
    assert not thread.is_alive()
    assert counts["done"]
    history = [line.split() for line in git(two.root, "rev-list", "--parents", "HEAD").splitlines()]
    numbers = {commit: number(commit) for commit, *_ in history}
    back = [commit for commit, *parents in history if any(numbers[parent] > numbers[commit] for parent in parents)]
    assert back == [], (counts, wrong[-3:])
    listed = {line[0]: set(git(two.root, "ls-tree", "-r", "--name-only", line[0]).split()) for line in history}
    lost = [
        commit for commit, *parents in history if any(listed[parent] - listed[commit] - {GONE} for parent in parents)
    ]
    assert lost == [], (counts, wrong[-3:])


def test_a_pull_that_brings_nothing_leaves_the_lock_alone(two: Clone, at: Callable[..., list[str]]) -> None:
    two.sync.pull()
    again = MemoryRepo.open(two.root)
    reached = at("", lambda: None)
    Sync(again, scan=no_secrets).pull()
    assert "sync.index_held" not in reached
    assert not list(two.repo.git_dir.glob(f"alg-index-note.{os.getpid()}-*.new"))
    assert not lock_of(two.root).exists()


def test_a_pull_that_finds_an_edit_lets_plain_git_go_on(two: Clone) -> None:
    (two.root / PATH).write_text("edited\n", encoding="utf-8")
    assert failure(two.sync.pull).details["kind"] == "dirty"
    git(two.root, "commit", "-qam", "by hand")


def test_a_pull_waits_for_a_git_that_holds_the_index_and_takes_the_lock_from_none(two: Clone) -> None:
    lock_of(two.root).write_text("whoever\n", encoding="utf-8")
    assert failure(two.sync.pull).details["kind"] == "index_lock"
    os.utime(lock_of(two.root), (1, 1))
    two.sync.pull()
    assert lock_of(two.root).read_text(encoding="utf-8") == "whoever\n"


# --- Killed -----------------------------------------------------------------------------------------------------

_PULLER = """
import sys
from pathlib import Path
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._sync import Sync
repo = MemoryRepo.open(Path(sys.argv[1]))
Sync(repo, scan=lambda path, data: None).pull()
"""
_WRITER = """
import sys
from pathlib import Path
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._values import Author, Change
root = Path(sys.argv[1])
repo = MemoryRepo.open(root)
(root / "notes/gone.md").unlink()
repo.commit([Change("notes/gone.md", None, "delete", "", "t", Author("c"))], update_index=False)
print("written", flush=True)
if len(sys.argv) > 2:
    sys.stdin.read()
repo.refresh_index()
"""
WRITE_STEPS = ("commit.index_locked", "commit.ref_updated", "commit.git_index_written", "commit.git_index_updated")


def killed(code: str, root: Path, step: str) -> None:
    died = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        env={**os.environ, "ALG_FAULT": step},
        check=False,
        stdout=subprocess.DEVNULL,
    )
    assert died.returncode == -signal.SIGKILL


def left_behind(clone: Clone) -> None:
    """The lock lies there, is told as what it is, and keeps plain git from undoing what HEAD has."""
    found = clone.repo.index_lock()
    assert found is not None
    assert (found.owner, found.ours) == ("dead", True)
    note = json.loads(lock_of(clone.root).read_text(encoding="utf-8").splitlines()[1])
    assert note["pid"] == found.pid
    refused = plain(clone.root, "commit", "-qam", "by hand")
    assert refused.returncode != 0
    assert "index.lock" in refused.stderr


@pytest.mark.parametrize("step", STEPS)
def test_the_lock_of_a_hub_that_was_killed_in_a_pull_stays_until_the_next_start_has_completed_it(
    one: Clone, two: Clone, step: str
) -> None:
    before = two.repo.head()
    killed(_PULLER, two.root, step)
    left_behind(two)
    again = MemoryRepo.open(two.root)
    assert two.clean()
    assert not lock_of(two.root).exists()
    assert again.head() == (before if step in ("sync.index_held", "sync.rescued") else one.repo.head())
    again.close()
    assert left_in(again.git_dir) == []
    git(two.root, "commit", "-q", "--allow-empty", "-m", "by hand")
    Sync(MemoryRepo.open(two.root), scan=no_secrets).pull()
    assert two.files() == one.files()
    git(two.root, "fsck", "--strict")


@pytest.mark.parametrize("step", WRITE_STEPS)
def test_the_lock_of_a_hub_that_was_killed_in_a_write_stays_until_the_next_start(one: Clone, step: str) -> None:
    killed(_WRITER, one.root, step)
    left_behind(one)
    again = MemoryRepo.open(one.root)
    again.close()
    assert left_in(again.git_dir) == []
    assert git(one.root, "status", "--porcelain") == (f" D {GONE}\n" if step == WRITE_STEPS[0] else "")


def test_a_lock_that_was_left_behind_is_told_and_holds_up_no_pull_of_ours(two: Clone) -> None:
    killed(_WRITER, two.root, "commit.ref_updated")
    (problem,) = poll(lambda: two.status.problems, "the status, which leaves out what is there for a moment")
    assert (problem.kind, problem.blocks) == ("index_lock_stale", False)
    assert "hub that was killed" in problem.message
    assert problem.hint is not None
    assert "remove" not in problem.hint.replace("removes it", "")
    two.sync.pull()
    assert two.status.problems == ()
    assert not lock_of(two.root).exists()


def test_a_second_kill_while_the_first_one_is_made_good_changes_nothing(one: Clone, two: Clone) -> None:
    killed(_PULLER, two.root, "sync.file_written")
    for step in ("sync.tree_updated", "sync.ref_moved", "commit.git_index_written", "commit.git_index_updated"):
        killed(_PULLER, two.root, step)
        left_behind(two)
    MemoryRepo.open(two.root).close()
    assert two.clean()
    assert two.repo.head() == one.repo.head()
    assert left_in(two.repo.git_dir) == []


@pytest.fixture
def at_work(one: Clone) -> Iterator[subprocess.Popen[str]]:
    """A process that has deleted a file, and whose index has yet to follow."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(one.root), "wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    yield process
    process.kill()
    process.communicate(timeout=30)


def test_the_lock_of_a_live_process_is_left_to_it(one: Clone, at_work: subprocess.Popen[str]) -> None:
    again = MemoryRepo.open(one.root)
    found = again.index_lock()
    assert found is not None
    assert (found.owner, found.pid, found.ours) == ("alive", at_work.pid, True)
    assert (one.repo.git_dir / "alg-index-pending").exists()
    error = failure(lambda: pulled(one, again))
    assert (error.details["kind"], error.details["pid"]) == ("index_lock", at_work.pid)
    at_work.communicate(timeout=30)
    assert at_work.returncode == 0
    assert one.clean()
    assert not lock_of(one.root).exists()
    assert pulled(one, again).commit == again.head()


def pulled(clone: Clone, repo: MemoryRepo) -> _sync.PullResult:
    """Pull what somebody has pushed meanwhile."""
    other = clone.root.parent / "other"
    if not other.exists():
        git(clone.root.parent, "clone", "-q", "remote.git", "other")
        git(other, "commit", "-q", "--allow-empty", "-m", "x")
        git(other, "push", "-q")
    return Sync(repo, scan=no_secrets).pull()


def test_a_process_that_was_killed_is_known_by_the_kernel_whoever_has_its_number_now(
    one: Clone, at_work: subprocess.Popen[str]
) -> None:
    lock = lock_of(one.root)
    words, about = lock.read_text(encoding="utf-8").splitlines()
    at_work.kill()
    at_work.communicate(timeout=30)
    lock.write_text(f"{words}\n{json.dumps({**json.loads(about), 'pid': os.getppid()})}\n", encoding="utf-8")
    found = read_lock(lock)
    assert found is not None
    assert found.owner == "dead"
    MemoryRepo.open(one.root)
    assert not lock.exists()
    assert one.clean()


OTHERS = {
    "empty": b"",
    "an index": b"DIRC\0\0\0\2\0\0\0\0",
    "no words of ours": b'{"pid": 1, "host": "x"}\n',
    "ours, cut short": None,
    "ours, with another process that is none": b'%s\n{"pid": "1", "host": "x"}\n',
    "ours, with a list": b"%s\n[]\n",
    "ours, with deep nesting": b"%s\n" + b"[" * 1_000,
    "not text": b"\xff\xfe" * 100,
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_lock_that_does_not_say_that_it_is_ours_is_never_removed(one: Clone, name: str) -> None:
    killed(_WRITER, one.root, "commit.ref_updated")
    lock = lock_of(one.root)
    words = lock.read_bytes().partition(b"\n")[0]
    lock.unlink()
    data = OTHERS[name]
    data = words if data is None else data.replace(b"%s", words)
    lock.write_bytes(data)
    os.utime(lock, (1, 1))
    MemoryRepo.open(one.root).close()
    assert lock.read_bytes() == data
    lock.unlink()
    MemoryRepo.open(one.root)
    assert one.clean()


def test_a_lock_that_is_a_link_a_pipe_or_a_folder_is_not_followed(one: Clone, tmp_path: Path) -> None:
    lock, elsewhere = lock_of(one.root), tmp_path / "elsewhere"
    killed(_WRITER, one.root, "commit.ref_updated")
    lock.rename(elsewhere)
    said = elsewhere.read_bytes()
    for make in (lambda: lock.symlink_to(elsewhere), lambda: os.mkfifo(lock), lock.mkdir):
        make()
        assert read_lock(lock) is None
        MemoryRepo.open(one.root).close()
        assert os.path.lexists(lock)
        lock.rmdir() if lock.is_dir() and not lock.is_symlink() else lock.unlink()
    assert elsewhere.read_bytes() == said
    MemoryRepo.open(one.root)
    assert one.clean()


def test_a_merge_that_was_refused_while_nobody_was_there_is_not_what_the_next_commit_ends(
    one: Clone, two: Clone
) -> None:
    two.put("notes/own.md", "own")
    git(two.root, "update-index", "--refresh")  # git knows of every file that it is as the index has it
    killed(_PULLER, two.root, "sync.journal_written")
    one.put("notes/later.md", "later")
    one.sync.push()
    assert plain(two.root, "pull", "-q", "--no-edit", "origin", "main").returncode != 0
    assert two.repo.operation() == "merge"  # which has merged nothing
    again = MemoryRepo.open(two.root)
    assert again.operation() is None
    assert two.text(PATH) == memory("what others wrote\n")
    assert plain(two.root, "commit", "-qm", "by hand").returncode == 1
    git(two.root, "pull", "-q", "--no-edit", "origin", "main")
    assert two.text("notes/later.md") == "later"


def test_a_merge_that_has_changed_the_index_is_left_to_its_person(one: Clone) -> None:
    killed(_WRITER, one.root, "commit.index_locked")
    merged = str(one.repo.git_dir / "merged")
    git(one.root, "read-tree", "HEAD", GIT_INDEX_FILE=merged)
    git(one.root, "update-index", "--force-remove", PATH, GIT_INDEX_FILE=merged)
    (one.repo.git_dir / "merged").rename(one.repo.git_dir / "index")
    (one.repo.git_dir / "MERGE_HEAD").write_text(git(one.root, "rev-parse", "HEAD~1"), encoding="utf-8")
    again = MemoryRepo.open(one.root)
    assert again.operation() == "merge"
    assert not lock_of(one.root).exists()
    assert f"D  {PATH}" in git(one.root, "status", "--porcelain").splitlines()


def test_what_was_left_behind_does_not_keep_a_person_from_ending_a_bisect(one: Clone) -> None:
    killed(_WRITER, one.root, "commit.index_locked")
    git(one.root, "bisect", "start")
    MemoryRepo.open(one.root).close()
    assert not lock_of(one.root).exists()
    git(one.root, "bisect", "reset")


# --- A write ----------------------------------------------------------------------------------------------------


def delete(clone: Clone) -> None:
    (clone.root / GONE).unlink()
    clone.repo.commit([Change(GONE, None, "delete", "", "t", AUTHOR)], update_index=False)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_plain_git_is_refused_after_a_write_until_the_index_has_it(
    tmp_path: Path, remote: Path, one: Clone, command: tuple[str, ...]
) -> None:
    other = Clone(tmp_path / "other", remote)
    other.sync.pull()
    other.put("notes/later.md", "later")
    other.sync.push()
    git(one.root, "config", "pull.rebase", "false")
    git(one.root, "branch", "side", _commit_beside(one.root))
    git(one.root, "update-index", "--refresh")  # git knows of every file that it is as the index has it
    delete(one)
    head = one.repo.head()
    assert plain(one.root, *command).returncode != 0
    assert one.repo.operation() is None
    assert one.repo.refresh_index()
    assert one.repo.head() == head
    assert one.clean()
    git(one.root, "commit", "-q", "--allow-empty", "-m", "by hand")
    assert GONE not in one.repo.tree_files()


def test_a_memory_that_was_deleted_is_not_brought_back_by_a_pull_by_hand(
    tmp_path: Path, one: Clone, remote: Path
) -> None:
    with temporary_store(tmp_path / "home", remote=str(remote)) as store:
        store.pull().result(60)
        root = store.repo.path
        git(root, "config", "pull.rebase", "false")

        def patiently(*arguments: str) -> subprocess.CompletedProcess[str]:
            """As a person does who is told that another git is at work; a merge says so by what it could not do."""
            busy = ("index.lock", "stash failed", "Unable to write index", "MERGE_HEAD exists", "overwritten by merge")
            return poll(
                lambda: (done := plain(root, *arguments)) and not any(map(done.stderr.count, busy)) and done, "git"
            )

        for turn in range(6):
            made = store.submit(WriteMemory(AUTHOR, type="note", title=f"Title {turn}", body="text\n"))
            path = made.saved.result(60).path
            made.committed.result(60)
            one.sync.pull()
            one.put(f"notes/{turn}.md", "x")
            one.sync.push()
            gone = store.submit(DeleteMemory(AUTHOR, made.saved.result(60).id))
            gone.committed.result(60)
            came = patiently("pull", "-q", "--no-edit", "origin", "main")
            assert came.returncode == 0, came
            (root / f"{turn}.txt").write_text("by hand\n", encoding="utf-8")
            patiently("add", f"{turn}.txt")
            assert patiently("commit", "-qm", "by hand").returncode == 0
            assert path not in git(root, "ls-tree", "-r", "--name-only", "HEAD").split()
            assert f"notes/{turn}.md" in git(root, "ls-tree", "-r", "--name-only", "HEAD").split()
            assert not (root / path).exists()


def test_a_commit_whose_branch_does_not_move_does_not_keep_the_lock(
    one: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one.repo.git_dir / "refs/heads/main.lock").touch()
    monkeypatch.setattr(_repo, "_REF_ATTEMPTS", 2)  # it would try for a second
    with pytest.raises(AlgError):
        delete(one)
    assert not lock_of(one.root).exists()
    assert one.repo.index_pending == 0


# --- The index under the lock -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["plain", "version 4", "split", "sparse", "none yet", "linked by a link"])
def test_every_form_of_index_follows(one: Clone, tmp_path: Path, form: str) -> None:
    for number in range(30):
        one.put(f"papers/{number}/a.md", str(number))
    index = one.repo.git_dir / "index"
    match form:
        case "version 4":
            git(one.root, "update-index", "--index-version", "4")
        case "split":
            git(one.root, "config", "core.splitIndex", "true")
            git(one.root, "update-index", "--split-index")
            assert list(one.repo.git_dir.glob("sharedindex.*"))
        case "sparse":
            git(one.root, "update-index", "--refresh")  # it leaves what it has not looked at
            git(one.root, "sparse-checkout", "set", "--cone", "--sparse-index", "notes")
        case "none yet":
            index.unlink()
            git(one.root, "read-tree", "HEAD", GIT_INDEX_FILE=str(tmp_path / "other"))
        case "linked by a link":
            index.rename(one.repo.git_dir / "elsewhere")
            index.symlink_to("elsewhere")
        case _:
            pass
    repo = MemoryRepo.open(one.root)
    before = set(git(one.root, "ls-files").split())
    for turn in range(3):
        (one.root / f"notes/{turn}.md").write_text("new", encoding="utf-8")
        repo.commit([Change(f"notes/{turn}.md", b"new", "write", "", "t", AUTHOR)], update_index=False)
        assert read_lock(repo.index_lock_file) is not None
        assert repo.refresh_index()
        assert not repo.index_lock_file.exists()
    assert set(git(one.root, "ls-files").split()) == before | {f"notes/{turn}.md" for turn in range(3)}
    if form != "none yet":
        assert one.clean()
    assert index.is_symlink() == (form == "linked by a link")
    if form == "sparse":
        assert "S papers/3/a.md" in git(one.root, "ls-files", "-t").splitlines()


def test_an_edit_that_is_as_old_as_the_index_is_still_seen(one: Clone) -> None:
    path, index = one.root / GONE, one.repo.git_dir / "index"
    git(one.root, "config", "core.trustctime", "false")
    then = 1_700_000_000_000_000_000
    os.utime(path, ns=(then, then))
    git(one.root, "update-index", "--refresh")
    os.utime(index, ns=(then, then))
    with path.open("r+b") as file:
        file.write(b"GONE")  # as long as before
    os.utime(path, ns=(then, then))
    one.put("notes/b.md", "b")
    assert git(one.root, "status", "--porcelain") == f" M {GONE}\n"


def test_what_is_staged_once_somebody_removed_the_lock_is_not_overwritten(
    one: Clone, at: Callable[..., list[str]]
) -> None:
    def impatient() -> None:
        lock_of(one.root).unlink()
        (one.root / "mine.txt").write_text("mine\n", encoding="utf-8")
        git(one.root, "add", "mine.txt")

    at("commit.git_index_written", impatient)
    delete(one)
    assert not one.repo.refresh_index()
    assert one.repo.refresh_index()
    assert git(one.root, "status", "--porcelain") == "A  mine.txt\n"


def test_an_index_that_a_git_which_had_read_it_before_writes_back_is_brought_up_to_date_again(one: Clone) -> None:
    index, known = one.repo.git_dir / "index", one.root / ".git/known"
    one.put("notes/b.md", "b")
    (one.root / "mine.txt").write_text("mine\n", encoding="utf-8")
    git(one.root, "add", "mine.txt")
    known.write_bytes(index.read_bytes())
    delete(one)
    (one.root / "notes/b.md").write_text("changed", encoding="utf-8")
    one.repo.commit([Change("notes/b.md", b"changed", "write", "", "t", AUTHOR)])
    assert git(one.root, "status", "--porcelain") == "A  mine.txt\n"
    known.replace(index)
    assert one.repo.index_unsettled
    assert one.repo.refresh_index()
    assert git(one.root, "status", "--porcelain") == "A  mine.txt\n"


def test_the_lock_of_a_git_that_came_after_ours_was_removed_is_left_alone(one: Clone) -> None:
    delete(one)
    lock_of(one.root).unlink()
    lock_of(one.root).touch()
    assert not one.repo.refresh_index()
    one.repo.close()
    assert lock_of(one.root).exists()


def test_an_index_that_git_cannot_read_is_left_to_people(one: Clone) -> None:
    index = one.repo.git_dir / "index"
    index.write_bytes(b"garbage")
    delete(one)
    with pytest.raises(AlgError):
        one.repo.refresh_index()
    assert index.read_bytes() == b"garbage"
    assert not lock_of(one.root).exists()
    assert one.repo.index_pending
    index.unlink()
    git(one.root, "reset", "-q")
    assert one.repo.refresh_index()
    assert one.clean()


def test_without_hard_links_the_index_follows_as_git_has_it(one: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)  # a file system that has none is not at hand
    delete(one)
    assert not lock_of(one.root).exists()
    lock_of(one.root).touch()
    assert not one.repo.refresh_index()
    lock_of(one.root).unlink()
    assert one.repo.refresh_index()
    assert one.clean()
