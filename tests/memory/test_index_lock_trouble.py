"""Git's index cannot follow HEAD, for the disk is full: nothing that was done before is called undone, or kept shut."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sync_made import AUTHOR, PATH, Clone, git, memory

from adaptive_llm_gateway.core import DiskFull
from adaptive_llm_gateway.memory import _git_index, _sync_apply
from adaptive_llm_gateway.memory._requests import WriteMemory
from adaptive_llm_gateway.memory.testing import temporary_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="git has its index in place there")

_SECOND = """
import sys
from pathlib import Path
from adaptive_llm_gateway.core import LockHeld
from adaptive_llm_gateway.memory.testing import temporary_store
try:
    with temporary_store(Path(sys.argv[1])):
        print("opened")
except LockHeld:
    print("refused")
"""


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_store_whose_index_cannot_follow_closes_and_opens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, temporary_store(tmp_path) as store:
        patch.setattr(_git_index.shutil, "copy2", full)
        assert store.write(WriteMemory(AUTHOR, type="note", title="Title", body="text\n")).standing.state == "committed"
        with pytest.raises(DiskFull):
            store.repo.refresh_index()
        store.close()
        assert not store.repo.index_lock_file.exists()
    with temporary_store(tmp_path) as again:
        assert not again.repo.index_pending
        assert git(again.repo.path, "status", "--porcelain") == ""


def test_a_pull_whose_index_cannot_follow_says_what_it_has_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    one, two = (Clone(tmp_path / name, tmp_path / "remote.git") for name in ("one", "two"))
    one.put(PATH, memory("what others wrote\n"))
    one.sync.push()
    with monkeypatch.context() as patch:
        patch.setattr(_git_index.shutil, "copy2", full)
        assert [path.new_path for path in two.sync.pull().merged] == [PATH]
    assert two.text(PATH) == memory("what others wrote\n")
    assert two.repo.index_pending
    assert not two.repo.index_lock_file.exists()
    assert two.repo.refresh_index()
    assert two.clean()


def test_a_second_store_that_is_refused_takes_nothing_from_the_first_ones_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    other = Clone(tmp_path / "other", tmp_path / "remote.git")
    other.put(PATH, memory("what others wrote\n"))
    other.sync.push()
    refused: list[str] = []

    def reach(name: str) -> None:
        if name == "sync.staged":
            done = subprocess.run(
                [sys.executable, "-c", _SECOND, str(tmp_path)],
                capture_output=True,
                text=True,
                check=False,
                encoding="utf-8",
                timeout=60,
            )
            refused.append(done.stdout.strip() or done.stderr)

    monkeypatch.setattr(_sync_apply, "reach", reach)
    with temporary_store(tmp_path, remote=str(tmp_path / "remote.git")) as store:
        store.pull().result(60)
        assert refused
        assert set(refused) == {"refused"}
        assert [record.title for record in store.records()]
        assert (store.repo.path / PATH).read_text(encoding="utf-8").endswith("what others wrote\n")
