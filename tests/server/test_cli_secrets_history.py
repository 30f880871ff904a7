"""`alg secrets scan --history`, and its steps followed with git-filter-repo on a memory repo that two homes share."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ALG = str(Path(sys.executable).with_name("alg"))
Tools = Any  # of conftest.py
_CHANCE = random.Random(8)  # noqa: S311 - not real
TOKEN = "ghp_" + "".join(_CHANCE.choices(string.ascii_letters + string.digits, k=36))
OTHER = "glpat-" + "".join(_CHANCE.choices(string.ascii_letters + string.digits, k=20))


def git(folder: Path, *arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, input=stdin, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def repo_with_secrets(folder: Path) -> None:
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.md").write_text(f"fine\n{TOKEN}\n", encoding="utf-8")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "a file")
    (folder / "a.md").unlink()
    git(folder, "commit", "-q", "-a", "-m", f"gone, but {OTHER}")


def every_object(repo: Path) -> bytes:
    """All that the store has, unpacked, also what nothing leads to."""
    asking = ["git", "cat-file", "--batch", "--batch-all-objects"]
    return subprocess.run(asking, cwd=repo, capture_output=True, check=True, timeout=60).stdout


# --- the command ----------------------------------------------------------------------------------------------------


def test_a_path_that_is_missing_and_a_folder_of_no_repo_are_told_apart(server: Tools, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for name, code in (("missing", 3), ("plain", 2)):
        done = server.alg("secrets", "scan", "--history", str(tmp_path / name), check=False)
        assert done.returncode == code, done.stderr


def test_json_has_each_secret_with_its_place_and_the_plan_and_exit_code_5(server: Tools, tmp_path: Path) -> None:
    repo_with_secrets(tmp_path / "work")
    done = server.alg("secrets", "scan", "--history", str(tmp_path / "work"), "--json", check=False)
    assert done.returncode == 5
    assert TOKEN not in done.stdout + done.stderr
    assert OTHER not in done.stdout + done.stderr
    (found,) = json.loads(done.stdout)["repos"]
    assert found["path"] == str(tmp_path / "work")
    assert (found["commits"], found["skipped"], found["remotes"]) == (2, [], [])
    by_kind = {finding["kind"]: finding for finding in found["findings"]}
    assert set(by_kind) == {"github-token", "gitlab-token"}
    finding = by_kind["github-token"]
    assert finding["paths"] == ["a.md"]
    assert (finding["stands"], finding["at_remote"], finding["branches"]) == ("history", False, [])
    assert set(finding["first"]) == {"id", "date", "author"}
    assert found["plan"][0]["title"] == "Make them worthless"
    assert all(step["points"] for step in found["plan"])


def test_for_people_findings_and_steps_are_on_stdout_and_counts_on_stderr(server: Tools, tmp_path: Path) -> None:
    repo_with_secrets(tmp_path / "work")
    done = server.alg("secrets", "scan", "--history", str(tmp_path / "work"), check=False)
    assert done.returncode == 5
    assert TOKEN not in done.stdout + done.stderr
    assert done.stdout.startswith("github-token ghp_")
    assert "in the history alone" in done.stdout
    assert "Steps to consider (nothing of this is done by itself)" in done.stdout
    assert "5 objects, 2 commits" in done.stderr
    assert done.stderr.rstrip().endswith("2 secrets found")


def test_without_a_path_the_memory_repos_are_scanned(server: Tools) -> None:
    nothing = server.alg("secrets", "scan", "--history", check=False)
    assert nothing.returncode == 2
    assert "there is no memory repo" in nothing.stderr
    server.alg("init", "--yes")
    server.alg("memory", "write", "a harmless memory", "--title", "Fine")
    server.settled()
    found = server.json("secrets", "scan", "--history")
    assert [repo["path"] for repo in found["repos"]] == [str(server.repo)]
    assert found["repos"][0]["findings"] == found["repos"][0]["plan"] == []


def test_what_is_allowed_in_the_repo_is_not_told_of(server: Tools, tmp_path: Path) -> None:
    repo_with_secrets(tmp_path / "work")
    arguments = ("secrets", "scan", "--history", str(tmp_path / "work"), "--json")
    (found,) = json.loads(server.alg(*arguments, check=False).stdout)["repos"]
    allowed = "".join(f"- fingerprint: {each['fingerprint']}\n  reason: made up\n" for each in found["findings"])
    (tmp_path / "work" / "secrets-allowed.yaml").write_text(allowed, encoding="utf-8")
    assert server.json("secrets", "scan", "--history", str(tmp_path / "work"))["repos"][0]["findings"] == []


def test_staged_and_history_do_not_go_together_and_no_repo_is_wrong_usage(server: Tools, tmp_path: Path) -> None:
    for arguments in (("--staged", "--history"), ("--history", str(tmp_path))):
        done = server.alg("secrets", "scan", *arguments, check=False)
        assert done.returncode == 2, done.stderr


def test_ctrl_c_ends_the_scan_and_the_git_it_started(server: Tools, tmp_path: Path) -> None:
    repo_with_secrets(tmp_path / "work")
    real, said = shutil.which("git"), tmp_path / "pid"
    assert real is not None
    stand_in = tmp_path / "bin" / "git"
    stand_in.parent.mkdir()
    stand_in.write_text(
        f'#!/bin/sh\ncase "$*" in *--batch-all-objects*) echo $$ > "{said}"; exec sleep 600;; esac\n'
        f'exec "{real}" "$@"\n',
        encoding="utf-8",
    )
    stand_in.chmod(0o755)
    process = subprocess.Popen(
        [ALG, "--home", str(server.home), "secrets", "scan", "--history", str(tmp_path / "work")],
        env={**os.environ, "PATH": f"{stand_in.parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    pid = int(server.wait_until(lambda: said.exists() and said.read_text(encoding="utf-8").strip(), what="git"))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# --- the plan, followed -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    importlib.util.find_spec("git_filter_repo") is None, reason="git-filter-repo is missing: `make test` installs it"
)
def test_following_the_steps_leaves_no_byte_of_it_and_both_homes_go_on(server: Tools, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", str(remote))
    other = type(server)(tmp_path / "other-home")
    try:
        server.alg("init", "--yes", "--remote", str(remote))
        server.alg("memory", "write", "the first memory", "--title", "First")
        server.settled()
        server.alg("memory", "sync")
        other.alg("init", "--yes", "--remote", str(remote))
        other.alg("memory", "sync")
        server.alg("hub", "stop")

        # Somebody commits without the hub and its hook: in a file, in another's history, in a message and in a name.
        repo: Path = server.repo
        git(repo, "config", "core.hooksPath", os.devnull)
        (memory,) = [path for path in server.files() if "first" in path.name]
        memory.write_text(memory.read_text(encoding="utf-8") + f"\n{TOKEN}\n", encoding="utf-8")
        (repo / "notes" / "plain.txt").write_text(f"{OTHER}\n", encoding="utf-8")
        git(repo, "add", "-A")
        git(repo, "commit", "-q", "--no-verify", "-m", f"by hand, with {TOKEN}")
        (repo / "notes" / "plain.txt").write_text("nothing\n", encoding="utf-8")
        git(repo, "commit", "-q", "--no-verify", "-a", "-m", "gone")
        git(repo, "config", "--unset", "core.hooksPath")
        git(repo, "push", "-q", "origin", "HEAD")
        other.alg("memory", "pull", check=False)  # its objects come along, the file is held back
        assert TOKEN.encode() in every_object(other.repo)

        done = server.alg("secrets", "scan", "--history", "--json", check=False)
        assert done.returncode == 5
        (found,) = json.loads(done.stdout)["repos"]
        assert {(each["kind"], each["stands"], each["at_remote"]) for each in found["findings"]} == {
            ("github-token", "files", True),
            ("gitlab-token", "history", True),
        }
        titles = [step["title"] for step in found["plan"]]
        assert titles == [
            "Make them worthless",
            "Before rewriting",
            "Rewrite",
            "Bring it to the remote and to every clone",
            "Look again",
            "If one is no secret",
        ]

        # Before: every hub is stopped, and there is a copy.
        other.alg("hub", "stop")
        git(repo, "bundle", "create", "-q", str(tmp_path / "copy.bundle"), "--all")
        branch = git(repo, "branch", "--show-current").strip()

        # Rewrite a fresh clone.
        fresh = tmp_path / "fresh"
        git(tmp_path, "clone", "-q", "--no-local", str(repo), str(fresh))
        replacements = tmp_path / "replacements"
        replacements.write_text(f"{TOKEN}==>taken-out\n{OTHER}==>taken-out\n", encoding="utf-8")
        rewrite = ["--replace-text", str(replacements), "--replace-message", str(replacements)]
        subprocess.run(
            [sys.executable, "-m", "git_filter_repo", *rewrite], cwd=fresh, check=True, capture_output=True, timeout=60
        )
        replacements.unlink()
        assert server.alg("secrets", "scan", "--history", str(fresh)).returncode == 0

        # The remote, with a lease, and what it keeps of the old commits.
        git(fresh, "remote", "add", "origin", str(remote))
        was = git(remote, "rev-parse", branch).strip()
        git(fresh, "push", "-q", f"--force-with-lease={branch}:{was}", "origin", branch)
        git(remote, "reflog", "expire", "--expire=now", "--all")
        git(remote, "gc", "-q", "--prune=now")

        # Every clone anew.
        for home in (server, other):
            shutil.move(home.repo, tmp_path / "old")
            git(tmp_path, "clone", "-q", str(remote), str(home.repo))
            shutil.rmtree(tmp_path / "old")

        # Both go on.
        for number, home in enumerate((server, other)):
            home.alg("memory", "write", f"words of home {number}", "--title", f"After {number}")
            home.settled()
            home.alg("memory", "sync")
        server.alg("memory", "sync")
        for home in (server, other):
            status = home.settled()
            assert status["memories"] == 3
            assert status["sync"]["state"] == "pushed"
            hits = home.json("memory", "search", "words of home")["hits"]
            assert {hit["title"] for hit in hits} >= {"After 0", "After 1"}
            assert home.alg("secrets", "scan", "--history").returncode == 0
        for store in (server.repo, other.repo, remote, fresh):
            held = every_object(store)
            assert b"taken-out" in held
            assert TOKEN.encode() not in held
            assert OTHER.encode() not in held
        for home in (server, other):
            home.alg("hub", "stop")
            for file in home.files_below(home.home):
                data = file.read_bytes()
                assert TOKEN.encode() not in data, file
                assert OTHER.encode() not in data, file
    finally:
        other.close()
