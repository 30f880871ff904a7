"""Answers claim nothing that did not happen, and what was held back stays so."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import AlgError, InvalidInput, SecretRefused, StorageError
from adaptive_llm_gateway.memory import (
    AppendSession,
    Author,
    DeleteMemory,
    EmbedderConfig,
    MemoryStore,
    StoreSettings,
    WriteMemory,
)
from adaptive_llm_gateway.memory.testing import temporary_store

ME = Author(client="test")


def token() -> str:
    return "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


def bare(tmp_path: Path) -> Path:
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    return path


def test_a_repeated_write_is_not_called_committed_while_commits_fail(tmp_path: Path) -> None:
    with temporary_store(tmp_path / "one") as store:
        made = store.write(WriteMemory(ME, title="A", body="one\n"))
        lock = store.repo.git_dir / "refs" / "heads" / "main.lock"
        lock.touch()
        first = store.write(WriteMemory(ME, id=made.id, body="two\n"))
        again = store.write(WriteMemory(ME, id=made.id, body="two\n"))
        assert first.standing.state == "saved"
        assert again.unchanged
        assert again.standing.state == "saved"
        assert again.standing.error
        lock.unlink()
        assert store.write(WriteMemory(ME, id=made.id, body="three\n")).standing.state == "committed"


def test_what_is_not_committed_is_not_called_pushed_and_a_push_fails(tmp_path: Path) -> None:
    with temporary_store(tmp_path / "one", remote=str(bare(tmp_path))) as store:
        made = store.write(WriteMemory(ME, title="A"))
        assert store.push().result(60).status.state == "pushed"
        lock = store.repo.git_dir / "refs" / "heads" / "main.lock"
        lock.touch()
        answer = store.write(WriteMemory(ME, id=made.id, body="two\n"))
        assert answer.standing.sync.state == "pending"
        with pytest.raises(AlgError):
            store.push().result(90)
        lock.unlink()


def test_files_held_back_are_not_deleted_by_a_reindex_nor_by_a_later_start(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    with temporary_store(folder) as store:
        for number in range(30):
            store.write(WriteMemory(ME, title=f"Number {number}"))
        for path in (folder / "memory" / "notes").rglob("*.md"):
            path.unlink()
        store.reindex()
        assert any("gone at once" in notice for notice in store.status().notices)
        for number in range(70):
            store.write(WriteMemory(ME, title=f"Later {number}"))
    with temporary_store(folder) as store:
        assert store.wait_ready(60)
        assert store.flush()
        kept = subprocess.run(
            ["git", "-C", str(folder / "memory"), "ls-tree", "-r", "--name-only", "HEAD", "notes"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert len(kept) == 100
        assert any("30 memory files are gone at once" in notice for notice in store.status().notices)
        store.reindex(accept_loss=True)
        assert store.flush()
        assert not any("gone at once" in notice for notice in store.status().notices)
    left = subprocess.run(
        ["git", "-C", str(folder / "memory"), "ls-tree", "-r", "--name-only", "HEAD", "notes"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert len(left) == 70


def test_a_secret_in_a_clients_name_or_a_files_name_reaches_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    with temporary_store(folder) as store:
        made = store.write(WriteMemory(ME, title="A"))
        sly = Author(client=token())
        for request in (
            WriteMemory(sly, id=made.id, body="x\n"),
            DeleteMemory(sly, made.id),
            AppendSession(sly, "text"),
        ):
            with pytest.raises(SecretRefused):
                store.write(request)
        (folder / "memory" / "notes" / f"{token()}.md").write_text("---\ntitle: x\n---\n", encoding="utf-8")
        report = store.reindex()
        assert len(report.skipped) == 1
        assert store.flush()
    log = subprocess.run(
        ["git", "-C", str(folder / "memory"), "log", "-p", "--all"], capture_output=True, text=True, check=True
    )
    assert token() not in log.stdout


def test_redaction_reaches_every_text_of_a_call(tmp_path: Path) -> None:
    with temporary_store(tmp_path / "one") as store:
        made = store.write(
            WriteMemory(
                ME,
                type="decision",
                title="Use the token",
                tags=(f"key {token()}",),
                source=token(),
                fields={"rationale": f"use {token()}", "alternatives": [token()]},
                reason=f"because {token()}",
                redact=True,
            )
        )
        text = store.read(made.id).text
        assert token() not in text
        assert text.count("[redacted:") == 4
        assert "[redacted:" in (store.history(made.id).revisions[0].reasons[0])


def test_a_start_that_failed_is_told_and_not_called_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only a damaged disk fails like this, and that cannot be had in a test.
    from adaptive_llm_gateway.memory import _reconcile

    def failing(*_: Any, **__: Any) -> Any:
        raise StorageError("the disk is damaged")

    settings = StoreSettings(
        repo=tmp_path / "memory",
        index=tmp_path / "index.db",
        host="here",
        watch="off",
        embedder=EmbedderConfig(kind="none"),
    )
    with monkeypatch.context() as patch:
        patch.setattr(_reconcile.Reconciler, "rebuild", failing)
        store = MemoryStore(settings)
        with pytest.raises(StorageError):
            store.wait_ready(30)
    with contextlib.closing(store):
        status = store.status()
        assert status.index == "building"
        assert any("damaged" in notice for notice in status.notices)
        assert any("damaged" in notice for notice in store.search_notices())
        store.reindex()
        assert store.status().index == "ready"


def test_a_pull_that_succeeds_is_not_called_failed_for_an_earlier_push(tmp_path: Path) -> None:
    remote = bare(tmp_path)
    with temporary_store(tmp_path / "one", remote=str(remote)) as store:
        store.write(WriteMemory(ME, title="A"))
        store.push().result(60)
        hook = remote / "hooks" / "pre-receive"
        hook.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        hook.chmod(0o755)
        store.write(WriteMemory(ME, title="B"))
        with pytest.raises(AlgError):
            store.push().result(60)
        assert store.sync_status().state == "failed"
        assert store.pull().result(60).status.state == "pending"


def test_only_a_session_can_be_appended_to_and_any_file_of_it_stands_for_it(tmp_path: Path) -> None:
    with temporary_store(tmp_path / "one") as store:
        note = store.write(WriteMemory(ME, title="A note"))
        with pytest.raises(InvalidInput, match="not a session"):
            store.write(AppendSession(ME, "text", session_id=note.id))
        begun = store.write(AppendSession(ME, "first"))
        store.write(AppendSession(ME, "second", session_id=begun.id))
        assert store.read(begun.id).record.body.count("\n## ") == 1


def test_the_reason_of_a_write_outlives_the_index_and_the_way_to_another_machine(tmp_path: Path) -> None:
    remote = bare(tmp_path)
    codex = Author(client="codex")
    with temporary_store(tmp_path / "one", remote=str(remote)) as store:
        made = store.write(WriteMemory(codex, title="A", reason="asked by: the user"))
        gone = store.write(WriteMemory(codex, title="B"))
        store.reindex()
        record = store.record(made.id)
        assert record is not None
        assert record.reason == "asked by: the user"
        store.push().result(60)
        with temporary_store(tmp_path / "two", remote=str(remote)) as other:
            other.pull().result(60)
            there = other.record(made.id)
            assert there is not None
            assert there.reason == "asked by: the user"
            store.write(DeleteMemory(codex, gone.id, reason="it was wrong"))
            store.push().result(60)
            other.pull().result(60)
            (stone,) = other.deleted()
            assert stone.author.client == "codex"
            assert stone.reason == "it was wrong"
