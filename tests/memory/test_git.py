"""Running the git program: what it may see, how long it may take, what it may say."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import StorageError
from adaptive_llm_gateway.memory._git import (
    GitFailed,
    GitMissing,
    GitTimeout,
    git_environment,
    mask_credentials,
    run_git,
)
from adaptive_llm_gateway.memory._object_reader import ObjectReader


@pytest.fixture
def root(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "repo"], cwd=tmp_path, check=True)
    return tmp_path / "repo"


def alias(root: Path, script: str) -> list[str]:
    """A git command of ours that runs a shell script, as a stand-in for slow or noisy ones."""
    subprocess.run(["git", "config", "alias.x", f"!{script}"], cwd=root, check=True)
    return ["x"]


def test_output_status_and_words_come_back(root: Path) -> None:
    done = run_git(alias(root, "echo out; echo err >&2; exit 3 #"), cwd=root, check=False)
    assert (done.status, done.text, done.stderr) == (3, "out\n", "err")


def test_a_failure_carries_gits_words(root: Path) -> None:
    with pytest.raises(GitFailed) as caught:
        run_git(["rev-parse", "--verify", "nothing"], cwd=root)
    assert caught.value.details["operation"] == "rev-parse"
    assert "Needed a single revision" in caught.value.details["git"]
    assert isinstance(caught.value, StorageError)


def test_data_reaches_git_by_its_standard_input(root: Path) -> None:
    data = os.urandom(300_000)
    blob = run_git(["hash-object", "-w", "--stdin"], cwd=root, stdin=data).text.strip()
    assert run_git(["cat-file", "blob", blob], cwd=root).stdout == data


def test_a_git_that_reads_no_input_is_no_problem(root: Path) -> None:
    assert run_git(["version"], cwd=root, stdin=b"x" * 1_000_000).status == 0


def test_a_git_that_does_not_end_is_killed_with_what_it_started(root: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    with pytest.raises(GitTimeout):
        run_git(alias(root, f"sh -c 'echo $$ > {marker}; exec sleep 600' #"), cwd=root, timeout=1.0)
    assert_gone(int(marker.read_text(encoding="utf-8")))


def test_a_child_that_keeps_the_pipes_does_not_keep_us(root: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    done = run_git(alias(root, f"sh -c 'echo $$ > {marker}; exec sleep 600' & echo done #"), cwd=root)
    assert done.text == "done\n"
    assert_gone(int(marker.read_text(encoding="utf-8")))


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z":
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _hash(root: Path) -> object:
    return run_git(["hash-object", "--stdin"], cwd=root)


def _list_objects(root: Path) -> object:
    return list(ObjectReader(root).all())


def _read_object(root: Path) -> object:
    reader = ObjectReader(root)
    try:
        return reader.one("0" * 40)
    finally:
        reader.close()


@pytest.mark.parametrize("act", [_hash, _list_objects, _read_object])
def test_ctrl_c_while_git_is_being_started_leaves_no_git(
    root: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], object]
) -> None:
    started: list[int] = []

    class Interrupted(subprocess.Popen[bytes]):
        """As if Ctrl-C came after the program has begun and before whoever starts it hears that it has."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(subprocess, "Popen", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                act(root)
    finally:
        signal.signal(signal.SIGINT, before)
    (pid,) = started
    assert_gone(pid)


def test_too_much_output_is_an_error_and_bounded(root: Path) -> None:
    with pytest.raises(GitFailed, match="more than 1000 bytes"):
        run_git(alias(root, "head -c 5000000 /dev/zero #"), cwd=root, output_limit=1000)


def test_of_much_talk_the_end_is_kept(root: Path) -> None:
    script = "head -c 300000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1 #"
    done = run_git(alias(root, script), cwd=root, check=False)
    assert done.stderr.endswith("the end")
    assert len(done.stderr) <= 64 * 1024


def test_a_missing_program_and_a_missing_folder_are_told_apart(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageError, match="is gone"):
        run_git(["version"], cwd=tmp_path / "nothing")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(GitMissing):
        run_git(["version"], cwd=root)


def test_the_environment_points_git_nowhere_else_and_prompts_nobody() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/h",
        "GIT_DIR": "/elsewhere",
        "GIT_INDEX_FILE": "x",
        "GIT_WORK_TREE": "x",
        "GIT_TRACE": "1",
        "GIT_TRACE_CURL": "1",
        "GIT_CONFIG_PARAMETERS": "'core.hooksPath=x'",
        "GIT_SSH_COMMAND": "ssh -i key",
        "GIT_CONFIG_COUNT": "0",
        "SSH_ASKPASS": "/usr/bin/window",
        "LC_ALL": "de_DE.UTF-8",
    }
    made = git_environment(given, reading=True)
    assert not {"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GIT_TRACE", "GIT_TRACE_CURL"} & made.keys()
    assert not {"GIT_CONFIG_PARAMETERS", "SSH_ASKPASS"} & made.keys()
    assert (made["HOME"], made["GIT_SSH_COMMAND"], made["LC_ALL"]) == ("/h", "ssh -i key", "C")
    assert (made["GIT_TERMINAL_PROMPT"], made["GIT_ASKPASS"], made["GIT_OPTIONAL_LOCKS"]) == ("0", "", "0")
    assert "GIT_OPTIONAL_LOCKS" not in git_environment(given)


def test_a_repository_cannot_make_git_run_a_program(root: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\n", encoding="utf-8")
    program.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.askPass", "gpg.program", "core.editor"):
        subprocess.run(["git", "config", key, str(program)], cwd=root, check=True)
    subprocess.run(["git", "config", "log.showSignature", "true"], cwd=root, check=True)
    (root / ".git/hooks").mkdir(exist_ok=True)
    for name in ("pre-commit", "post-index-change", "reference-transaction"):
        hook = root / ".git/hooks" / name
        hook.write_text(program.read_text(encoding="utf-8"), encoding="utf-8")
        hook.chmod(0o755)
    (root / "a").write_text("x", encoding="utf-8")
    run_git(["add", "a"], cwd=root)
    run_git(["commit", "-m", "x"], cwd=root)
    run_git(["log", "-p"], cwd=root, reading=True)
    run_git(["status"], cwd=root, reading=True)
    assert not ran.exists()


def test_transports_that_run_programs_are_refused_whatever_the_configuration_says(root: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "config", "protocol.ext.allow", "always"], cwd=root, check=True)
    with pytest.raises(GitFailed, match="transport 'ext' not allowed"):
        run_git(["fetch", f"ext::sh -c 'touch {tmp_path}/ran'"], cwd=root)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fatal: https://me:pw@host/x failed", "fatal: https://***@host/x failed"),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("https://a:b:c@host and http://d@e", "https://***@host and http://***@e"),
        ("ssh://git@host/x git@host:x", "ssh://git@host/x git@host:x"),
        ("ssh://git:pw@host/x", "ssh://***@host/x"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("plain text, a@b.c", "plain text, a@b.c"),
        ("https://host/x@y", "https://host/x@y"),
    ],
)
def test_credentials_are_masked(text: str, shown: str) -> None:
    assert mask_credentials(text) == shown


def test_gits_own_words_are_masked(root: Path) -> None:
    with pytest.raises(GitFailed) as caught:
        run_git(["fetch", "https://me:secret-word@no-such-host.invalid/x"], cwd=root)
    assert "secret-word" not in str(caught.value.as_dict())
