"""The second look through git's objects: what it remembers, what it survives, and that it looks at each once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import string
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import SecretScanner, StorageError, scanner_version
from adaptive_llm_gateway.memory import ObjectsSeen, ObjectWatch, look_at_objects, objects_folder, store_signature
from adaptive_llm_gateway.memory import _object_watch as module


def token(seed: int) -> str:
    chance = random.Random(seed)  # noqa: S311 - not real
    return "ghp_" + "".join(chance.choices(string.ascii_letters + string.digits, k=36))


def fingerprint(seed: int) -> str:
    return SecretScanner().scan(token(seed))[0].fingerprint


def git(folder: Path, *arguments: str, stdin: bytes | None = None) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, input=stdin, capture_output=True, check=True, timeout=60)
    return done.stdout.decode()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "objects-seen.db"


def commit(folder: Path, message: str, **files: str) -> str:
    for name, content in files.items():
        (folder / f"{name}.md").write_text(content, encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD").strip()


@contextlib.contextmanager
def watching(repo: Path, state: Path) -> Generator[ObjectWatch]:
    watch = ObjectWatch(repo, state)
    try:
        yield watch
    finally:
        watch.close()


def look(repo: Path, state: Path) -> int:
    """Look at all that is new; how many objects that were."""
    done = 0
    with watching(repo, state) as watch:
        for _ in range(10_000):
            step = watch.step(5.0)
            done += step.done
            if not step.left:
                return done
    raise AssertionError("it does not come to an end")


def seen(repo: Path, state: Path) -> ObjectsSeen:
    found = look_at_objects(state, repo)
    assert found is not None
    return found


def places(repo: Path, state: Path) -> dict[str, tuple[str, str]]:
    return {each.fingerprint: (each.commit, each.path) for each in seen(repo, state).findings}


def test_each_object_is_looked_at_once_and_secrets_are_kept_with_commit_and_path(repo: Path, state: Path) -> None:
    commit(repo, "start", a="fine\n")
    (repo / "deep").mkdir()
    (repo / "deep" / "b.md").write_text(f"{token(1)}\n", encoding="utf-8")
    second = commit(repo, "with it")
    third = commit(repo, f"message {token(2)}", a="still fine\n")
    assert look(repo, state) == 10
    assert places(repo, state) == {fingerprint(1): (second, "deep/b.md"), fingerprint(2): (third, "its message")}
    known = seen(repo, state)
    assert (known.seen, known.unread, known.complete) == (10, 0, True)
    folder = objects_folder(repo)
    assert folder is not None
    assert known.signature == store_signature(folder)
    assert look(repo, state) == 0
    commit(repo, "more", c="new\n")
    assert known.signature != store_signature(folder)
    assert look(repo, state) == 3


def test_the_file_has_no_secret(repo: Path, state: Path) -> None:
    commit(repo, f"message {token(2)}", a=f"{token(1)}\n", **{token(3): "its name\n"})
    look(repo, state)
    assert set(places(repo, state)) == {fingerprint(1), fingerprint(2), fingerprint(3)}
    for file in state.parent.glob(f"{state.name}*"):
        assert not any(token(seed).encode() in file.read_bytes() for seed in (1, 2, 3))


@pytest.mark.parametrize("packed", [False, True])
def test_what_nothing_leads_to_is_found_and_gets_its_commit_when_there_is_one(
    repo: Path, state: Path, packed: bool
) -> None:
    commit(repo, "start", a="fine\n")
    git(repo, "hash-object", "-w", "--stdin", stdin=f"{token(1)}\n".encode())
    git(repo, "tag", "-a", "v1", "-m", f"tagged {token(2)}")
    if packed:
        git(repo, "repack", "-q", "-a", "-d", "--keep-unreachable")
    look(repo, state)
    assert places(repo, state)[fingerprint(1)] == ("", "a file")
    assert places(repo, state)[fingerprint(2)][1].startswith("the tag ")
    later = commit(repo, "with it", b=f"{token(1)}\n")
    look(repo, state)
    assert places(repo, state)[fingerprint(1)] == (later, "b.md")


def test_what_is_gone_from_the_store_is_told_of_no_more(repo: Path, state: Path) -> None:
    commit(repo, "start", a="fine\n")
    blob = git(repo, "hash-object", "-w", "--stdin", stdin=f"{token(1)}\n".encode()).strip()
    look(repo, state)
    assert places(repo, state) == {fingerprint(1): ("", "a file")}
    git(repo, "prune", "--expire=now")
    assert look(repo, state) == 0
    assert places(repo, state) == {}
    assert git(repo, "hash-object", "-w", "--stdin", stdin=f"{token(1)}\n".encode()).strip() == blob
    assert look(repo, state) == 1  # it came back
    assert places(repo, state) == {fingerprint(1): ("", "a file")}


def test_another_scanner_looks_at_everything_again_and_what_was_known_stays_told(
    repo: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repo, "start", a=f"{token(1)}\n")
    assert look(repo, state) == 3
    monkeypatch.setattr(module, "scanner_version", lambda: "another")  # what an update brings
    assert not seen(repo, state).complete
    with watching(repo, state):
        assert set(places(repo, state)) == {fingerprint(1)}
    assert look(repo, state) == 3
    assert (seen(repo, state).complete, seen(repo, state).seen) == (True, 3)


def test_the_scanners_version_is_that_of_its_modules() -> None:
    assert len(scanner_version()) == 16
    assert scanner_version() == scanner_version()


def test_a_slice_is_bounded_and_the_next_one_goes_on(repo: Path, state: Path) -> None:
    for number in range(module._BATCH * 2):  # pyright: ignore[reportPrivateUsage]
        (repo / f"{number}.md").write_text(f"number {number}\n", encoding="utf-8")
    commit(repo, "many")
    with watching(repo, state) as watch:
        first = watch.step(0.0)
        assert 0 < first.done <= module._BATCH  # pyright: ignore[reportPrivateUsage]
        assert first.left
        assert not seen(repo, state).complete
    assert first.done + look(repo, state) == module._BATCH * 2 + 2  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("content", [b"no database at all, however long it may be", b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_file_is_begun_anew(repo: Path, state: Path, content: bytes) -> None:
    commit(repo, "start", a=f"{token(1)}\n")
    state.write_bytes(content)
    assert look_at_objects(state, repo) is None
    assert look(repo, state) == 3
    assert set(places(repo, state)) == {fingerprint(1)}


@pytest.mark.parametrize("table", ["seen", "found", "trying", "unread", "meta"])
def test_damage_within_the_file_ends_one_look_and_not_those_after_it(repo: Path, state: Path, table: str) -> None:
    commit(repo, "start", a=f"{token(1)}\n")
    look(repo, state)
    with contextlib.closing(sqlite3.connect(state)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    data = bytearray(state.read_bytes())
    data[(page - 1) * size : page * size] = b"\xff" * size
    state.write_bytes(bytes(data))
    commit(repo, "more", b=f"{token(2)}\n")
    with contextlib.suppress(StorageError):
        look(repo, state)
    look(repo, state)
    assert set(places(repo, state)) == {fingerprint(1), fingerprint(2)}
    assert seen(repo, state).complete


def test_what_was_seen_of_another_repo_does_not_count(repo: Path, state: Path, tmp_path: Path) -> None:
    commit(repo, "start", a=f"{token(1)}\n")
    look(repo, state)
    git(tmp_path, "clone", "-q", str(repo), "clone")
    assert look_at_objects(state, tmp_path / "clone") is None
    assert look(tmp_path / "clone", state) == 3


def test_objects_that_cannot_be_read_are_counted_and_do_not_keep_it_from_its_end(repo: Path, state: Path) -> None:
    commit(repo, "start", a="fine\n", b=f"{token(1)}\n")
    with (repo / "large.bin").open("wb") as file:
        file.truncate(module.MOST_BYTES + 1)
    commit(repo, "large")
    damaged = git(repo, "rev-parse", "HEAD:a.md").strip()
    file = repo / ".git" / "objects" / damaged[:2] / damaged[2:]
    file.chmod(0o644)
    file.write_bytes(b"no zlib")
    look(repo, state)
    known = seen(repo, state)
    assert (known.unread, known.complete) == (2, True)
    assert set(places(repo, state)) == {fingerprint(1)}
    assert look(repo, state) == 0


# --- processes that die ---------------------------------------------------------------------------------------------

_LOOKER = """
import os, signal, sys
from pathlib import Path
from adaptive_llm_gateway.memory import ObjectWatch
from adaptive_llm_gateway.memory import _object_watch as module

if sys.argv[3:]:
    real = module.findings_in
    def deadly(scanner, data):
        if sys.argv[3].encode() in data:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(scanner, data)
    module.findings_in = deadly
watch = ObjectWatch(Path(sys.argv[1]), Path(sys.argv[2]))
while watch.step(5.0).left:
    pass
"""


def look_in_a_process(repo: Path, state: Path, *deadly: str, fault: str = "") -> int:
    return subprocess.run(
        [sys.executable, "-c", _LOOKER, str(repo), str(state), *deadly],
        env={**os.environ, "ALG_FAULT": fault},
        check=False,
        timeout=120,
    ).returncode


@pytest.mark.parametrize("point", ["objects.trying", "objects.seen"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_process_that_is_killed_loses_nothing(repo: Path, state: Path, point: str, count: int) -> None:
    for number in range(250):
        (repo / f"{number}.md").write_text(f"number {number}\n", encoding="utf-8")
    commit(repo, f"message {token(2)}", a=f"{token(1)}\n")
    assert look_in_a_process(repo, state, fault=f"{point}:{count}") == -signal.SIGKILL
    assert look_in_a_process(repo, state) == 0
    known = seen(repo, state)
    assert (known.seen, known.unread, known.complete) == (253, 0, True)
    assert set(places(repo, state)) == {fingerprint(1), fingerprint(2)}


def test_an_object_that_kills_the_scan_is_passed_by_after_three_times(repo: Path, state: Path) -> None:
    commit(repo, "start", a="the deadly one\n", b=f"{token(1)}\n", c="fine\n")
    ends = [look_in_a_process(repo, state, "the deadly one") for _ in range(4)]
    assert ends == [-signal.SIGKILL] * 3 + [0]
    known = seen(repo, state)
    assert (known.unread, known.complete, known.seen) == (1, True, 5)
    assert set(places(repo, state)) == {fingerprint(1)}
    assert look_in_a_process(repo, state, "the deadly one") == 0
