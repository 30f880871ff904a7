"""What is said of sync, word for word: short, what is so, git's words, what comes next; and true of a real store."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.memory import Author, DeleteMemory, WriteMemory
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._memory_json import sync_json, write_json
from adaptive_llm_gateway.server._render import standing_text, sync_answer_text, sync_text
from adaptive_llm_gateway.server._render_sync import sync_lines, what_is_so

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
SINCE = "2026-11-01T10:00:00Z"


def problem(kind: str, message: str = "so it is", **given: Any) -> dict[str, Any]:
    return {
        "kind": kind, "message": message, "blocks": True, "operation": None, "git": None, "hint": f"Mend {kind}.",
        "since": None, "attempts": 0, **given,
    }  # fmt: skip


def sync(state: str = "pushed", *problems: dict[str, Any], **given: Any) -> dict[str, Any]:
    first = next((found for found in problems if found["blocks"]), None)
    return {
        "state": state, "ahead": 0, "behind": 0, "since": SINCE, "last_success": SINCE, "remote": "/r",
        "kind": first["kind"] if first else None, "error": first["git"] if first else None, "offline": False,
        "attempts": 0, "next_attempt": None, "checked": "2026-11-01T11:59:00Z", "hint": None, "writes": "committed",
        "problems": list(problems), **given,
    }  # fmt: skip


HOOK = problem(
    "hook_rejected", "pushing to '/r' failed (hook_rejected): remote: no Fridays", operation="push", attempts=3,
    since=SINCE, git="remote: no Fridays\n! refs/heads/main [remote rejected]",
)  # fmt: skip
BUSY = problem("repo_busy", "somebody is in the middle of a git rebase")
NOBODY = problem("identity_missing", "git knows no name and e-mail of yours", blocks=False)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (sync("no_remote"), "no remote"),
        (sync(), "pushed"),
        (sync(checked="2026-11-01T09:00:00Z"), "pushed, as of 2026-11-01T09:00:00Z"),
        (sync(checked=None), "pushed"),
        (sync("pending", ahead=2), f"not yet pushed (2 ahead, 0 behind since {SINCE})"),
        (
            sync("behind", behind=3, next_attempt="2026-11-01T12:01:00Z"),
            f"the remote has newer commits (0 ahead, 3 behind since {SINCE}; the next attempt at 2026-11-01T12:01:00Z)",
        ),
        (sync("diverged", ahead=2, behind=3), f"diverged from the remote (2 ahead, 3 behind since {SINCE})"),
        (
            sync("failed", HOOK, ahead=2, attempts=3, next_attempt="2026-11-01T12:01:00Z"),
            f"failed: hook_rejected (2 ahead, 0 behind since {SINCE}; 3 attempts in a row; the next attempt at "
            "2026-11-01T12:01:00Z). git says: remote: no Fridays ... Next: Mend hook_rejected.",
        ),
        (
            sync("pending", BUSY, NOBODY, ahead=1, writes="refused"),
            f"not yet pushed (1 ahead, 0 behind since {SINCE}). In the way: somebody is in the middle of a git rebase. "
            "Next: Mend repo_busy. Writes here are refused until then.",
        ),
        (
            sync("failed", BUSY, HOOK, ahead=1),
            f"failed: repo_busy (1 ahead, 0 behind since {SINCE}). In the way: somebody is in the middle of a git "
            "rebase. Next: Mend repo_busy. Also: hook_rejected.",
        ),
        (sync("pending", ahead=1, offline=True), f"not yet pushed (1 ahead, 0 behind since {SINCE}); held back by "
         "offline mode"),
        (sync(**{"state": "pushed"}), "pushed"),
        (sync("pushed", NOBODY), "pushed"),
    ],
)  # fmt: skip
def test_a_writes_answer_says_in_a_line_where_it_stands(given: dict[str, Any], text: str) -> None:
    assert sync_text(given, now=NOON) == text


def test_the_status_has_a_line_for_each_problem_and_notice() -> None:
    assert sync_lines(sync("failed", BUSY, HOOK, NOBODY, ahead=1, writes="refused"), now=NOON) == [
        f"sync: failed: repo_busy (1 ahead, 0 behind since {SINCE}); remote /r, last seen 2026-11-01T11:59:00Z, last "
        f"the same on both sides {SINCE}",
        "writes here are refused until then",
        "problem repo_busy: somebody is in the middle of a git rebase. Next: Mend repo_busy.",
        f"problem hook_rejected (push, since {SINCE}, 3 attempts in a row): pushing to '/r' failed (hook_rejected): "
        "remote: no Fridays. Next: Mend hook_rejected.",
        "notice identity_missing: git knows no name and e-mail of yours. Next: Mend identity_missing.",
    ]


@pytest.mark.parametrize(
    ("message", "git", "text"),
    [
        ("it failed: remote: no", "remote: no", "it failed: remote: no."),
        ("it failed: remote: no", "remote: no\nfatal: it hung up", "it failed: remote: no."),
        ("it failed: " + "no " * 100 + "...", "no " * 600, "it failed: " + "no " * 100 + "..."),
        ("nothing answers", "fatal: no route\nmore", "nothing answers. git says: fatal: no route ..."),
        ("the disk is full", None, "the disk is full."),
    ],
)
def test_gits_words_are_said_once(message: str, git: str | None, text: str) -> None:
    assert what_is_so(problem("other", message, git=git)) == text


def test_a_pulls_answer_ends_its_sentence_once() -> None:
    done: dict[str, Any] = {
        **sync("failed", HOOK),
        "running": False,
        "changed": 0,
        "pushed": 0,
        "conflicts": [],
        "notices": [],
    }
    assert "Next: Mend hook_rejected.\n" in sync_answer_text(done, "push") + "\n"
    assert "othing" not in sync_answer_text(done, "pull")
    assert sync_answer_text({**done, **sync()}, "push").startswith("Pushed")


def test_an_answer_says_what_was_done_and_not_what_was_asked() -> None:
    nothing: dict[str, Any] = {"running": False, "changed": 0, "pushed": 0, "conflicts": [], "notices": []}
    level, ahead = {**nothing, **sync(checked=None)}, {**nothing, **sync("pending", ahead=1)}
    same = "Nothing new: both sides are the same."
    assert (sync_answer_text(level, "pull"), sync_answer_text(level, "sync")) == (same, same)
    assert sync_answer_text(level, "push") == "Pushed.\nThere was nothing to push."
    assert sync_answer_text(ahead, "pull").endswith("\nNothing new came in.")
    assert sync_answer_text({**level, "changed": 1}, "pull") == "Both sides are the same.\n1 file changed here."
    assert sync_answer_text({**level, "changed": 2, "pushed": 1}, "sync") == (
        "Both sides are the same.\n2 files changed here.\n1 commit pushed."
    )
    held = sync_answer_text({**level, "notices": ["1 file of the remote is held back"]}, "pull")
    assert held == "Both sides are the same.\nnote: 1 file of the remote is held back"


@pytest.mark.parametrize(("count", "words"), [(1, "1 commit stays here"), (2, "2 commits stay here")])
def test_one_is_not_spoken_of_as_several(count: int, words: str) -> None:
    assert sync_text(sync("local", ahead=count, read_only=True), now=NOON).startswith(words)


def test_a_remotes_words_of_any_length_are_one_short_line() -> None:
    said = sync_text(sync("failed", {**HOOK, "git": "remote: " + "no " * 1000}), now=NOON)
    assert len(said) < 600


# --- With a real store --------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, encoding="utf-8")
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="the hook is a shell script")
def test_every_writes_answer_has_what_the_remote_said_until_it_takes_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    hook = tmp_path / "remote.git/hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no pushes on Fridays >&2\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    with temporary_store(tmp_path / "home", remote=str(tmp_path / "remote.git")) as store:
        made = store.write(WriteMemory(Author("test"), title="A"))
        assert store.push().exception(60) is not None
        answers = [
            store.write(WriteMemory(Author("test"), title="B")),
            store.write(WriteMemory(Author("test"), id=made.id, body="changed\n")),
            store.write(DeleteMemory(Author("test"), made.id)),
        ]
        for answer in answers:
            told = write_json(answer)
            assert (told["state"], told["sync"]["state"], told["sync"]["kind"]) == (
                "committed",
                "failed",
                "hook_rejected",
            )
            assert "git says: remote: no pushes on Fridays ... Next: A hook of the remote" in standing_text(told)
        hook.unlink()
        assert store.push().result(60).status.state == "pushed"
        status = sync_json(store.sync_status())
        assert (status["state"], status["problems"], status["kind"]) == ("pushed", [], None)


def test_a_write_that_cannot_be_committed_says_so_beside_where_sync_stands(tmp_path: Path) -> None:
    with temporary_store(tmp_path / "home") as store:
        (store.repo.git_dir / "refs/heads/main.lock").touch()
        told = write_json(store.write(WriteMemory(Author("test"), title="A")))
        assert (told["state"], told["sync"]["state"], told["sync"]["writes"]) == ("saved", "no_remote", "saved")
        (found,) = told["sync"]["problems"]
        assert (found["operation"], found["blocks"]) == ("commit", True)
        assert "Writes here are on disk and searchable, and not committed." in standing_text(told)


def test_without_a_remote_too_it_is_told_that_writes_are_refused(tmp_path: Path) -> None:
    with temporary_store(tmp_path / "home") as store:
        store.write(WriteMemory(Author("test"), title="A"))
        git(store.repo.path, "switch", "-q", "--detach")
        status = store.status().sync
        assert (status.state, status.kind, status.writes) == ("no_remote", "detached_head", "refused")
