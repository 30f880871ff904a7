"""Locks between real processes: one at a time, named, and free when the owner dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import LockHeld, ProcessLock, ReadOnly, StorageError

HOLD = (
    "import sys\n"
    "from pathlib import Path\n"
    "from adaptive_llm_gateway.core import ProcessLock\n"
    "with ProcessLock(Path(sys.argv[1]), timeout=30):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.readline()\n"
)
COUNT = (
    "import sys\n"
    "from pathlib import Path\n"
    "from adaptive_llm_gateway.core import ProcessLock\n"
    "lock, counter = Path(sys.argv[1]), Path(sys.argv[2])\n"
    "for _ in range(25):\n"
    "    with ProcessLock(lock, timeout=60):\n"
    "        counter.write_text(str(int(counter.read_text()) + 1))\n"
)


@contextmanager
def holder(lock: Path) -> Generator[subprocess.Popen[str]]:
    """Another process that holds `lock` until a line comes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()
        process.stdin.close()


def test_a_lock_held_by_another_process_names_it(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with holder(lock) as process, pytest.raises(LockHeld) as caught:
        ProcessLock(lock).acquire()
    owner = caught.value.details["owner"]
    assert owner["pid"] == process.pid
    assert owner["since"] > 0
    assert str(process.pid) in str(caught.value)
    assert owner["host"] in str(caught.value)
    assert str(lock) in str(caught.value)
    assert caught.value.hint


def test_a_killed_owner_leaves_its_lock_free(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with holder(lock) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(30)
        # Its note is still there, and is not believed.
        assert json.loads(lock.read_text(encoding="utf-8"))["pid"] == process.pid
        with ProcessLock(lock) as mine:
            assert mine.held
            assert json.loads(lock.read_text(encoding="utf-8"))["pid"] == os.getpid()


@pytest.mark.parametrize(
    "left",
    [
        b"",
        b'{"pid": 1, "host": "old", "since": 1.5}',  # as older versions wrote it
        b'{"pid": 1, "host": "' + b"h" * 1000 + b'", "since": 1.5}',
        b"x" * 5000,
        b'{"pid": 123',
    ],
)
def test_a_note_is_written_over_whatever_is_left_of_another(tmp_path: Path, left: bytes) -> None:
    lock = tmp_path / "x.lock"
    lock.write_bytes(left)
    with holder(lock) as process:
        assert json.loads(lock.read_bytes())["pid"] == process.pid
        with pytest.raises(LockHeld, match=f"process {process.pid} on "):
            ProcessLock(lock).acquire()


def test_a_note_that_says_nothing_is_no_trouble(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with holder(lock):
        for left in (b"", b"{", b"[1]", b'{"pid": 1}', b"\xff" * 400):
            lock.write_bytes(left)
            with pytest.raises(LockHeld, match="another process") as caught:
                ProcessLock(lock).acquire()
            assert caught.value.details["owner"] is None


def test_a_lock_that_is_taken_again_keeps_its_file_and_its_length(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    seen: set[tuple[int, int]] = set()
    for _ in range(3):
        with ProcessLock(lock):
            stat = lock.stat()
            seen.add((stat.st_ino, stat.st_size))  # cut to nothing, it would be flushed when it is closed
    assert len(seen) == 1


def test_a_lock_is_waited_for_when_that_is_asked(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with holder(lock) as process:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        with ProcessLock(lock, timeout=60) as mine:
            assert mine.held


def test_many_processes_never_hold_it_together(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("0", encoding="utf-8")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "x.lock"), str(counter)]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(90) for process in processes] == [0, 0, 0, 0]
    assert counter.read_text(encoding="utf-8") == "100"


def test_one_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    with ProcessLock(lock), pytest.raises(LockHeld) as caught:
        ProcessLock(lock, timeout=0.05).acquire()
    assert caught.value.details["owner"]["pid"] == os.getpid()
    with ProcessLock(lock):
        pass


def test_a_program_that_the_owner_started_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    held = ProcessLock(lock).acquire()
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, close_fds=False
    )
    try:
        held.release()
        with ProcessLock(lock):
            pass
    finally:
        child.communicate(timeout=30)


def test_giving_back_is_harmless_when_repeated(tmp_path: Path) -> None:
    lock = ProcessLock(tmp_path / "x.lock")
    lock.release()
    lock.acquire()
    lock.release()
    lock.release()
    assert not lock.held
    assert lock.acquire().held
    lock.release()


@pytest.mark.parametrize("note", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"pid": 1}', b"x" * 100_000])
def test_what_stands_in_the_file_is_never_trusted(tmp_path: Path, note: bytes) -> None:
    lock = tmp_path / "x.lock"
    lock.write_bytes(note)
    with ProcessLock(lock):
        lock.write_bytes(note)
        with pytest.raises(LockHeld, match="another process") as caught:
            ProcessLock(lock).acquire()
        assert caught.value.details["owner"] is None


def test_a_long_note_of_the_past_leaves_nothing_behind(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    lock.write_bytes(b"x" * 10_000)
    with ProcessLock(lock):
        assert json.loads(lock.read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_a_lock_file_is_this_users_alone(tmp_path: Path) -> None:
    with ProcessLock(tmp_path / "x.lock"):
        assert (tmp_path / "x.lock").stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious", encoding="utf-8")
    (tmp_path / "x.lock").symlink_to(target)
    with pytest.raises(StorageError, match=r"x\.lock"):
        ProcessLock(tmp_path / "x.lock").acquire()
    assert target.read_text(encoding="utf-8") == "precious"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        ProcessLock(tmp_path / "nowhere" / "x.lock").acquire()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ReadOnly):
            ProcessLock(tmp_path / "x.lock").acquire()
    finally:
        tmp_path.chmod(0o700)
