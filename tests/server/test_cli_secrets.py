"""`alg secrets scan` over files, folders and what is staged in git."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ALG = str(Path(sys.executable).with_name("alg"))
# In two pieces, so that no scanner takes this file for a leak.
TOKEN = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"


def alg(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ALG, *arguments], capture_output=True, text=True, timeout=60, check=False, **options)


def scan(*paths: Path) -> tuple[int, Any]:
    done = alg("secrets", "scan", *map(str, paths), "--json")
    assert TOKEN not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def git(repo: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=repo, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def test_findings_name_path_line_kind_and_preview_and_are_exit_code_5(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "notes.md").write_text(f"fine\ntoken: {TOKEN}\n", encoding="utf-8")
    (folder / "fine.md").write_text("nothing here\n", encoding="utf-8")
    code, found = scan(folder)
    assert code == 5
    assert found["scanned"] == 2
    (finding,) = found["findings"]
    assert finding["path"] == str(folder / "deep" / "notes.md")
    assert (finding["line"], finding["kind"]) == (2, "github-token")
    assert set(finding) == {"path", "line", "kind", "preview", "fingerprint"}


def test_for_people_the_finding_is_on_stdout_and_the_way_out_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    done = alg("secrets", "scan", str(file))
    assert done.returncode == 5
    assert done.stdout.startswith(f"{file}:1: github-token ")
    assert "secrets-allowed.yaml" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_clean_files_are_exit_code_0(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("nothing\n", encoding="utf-8")
    assert scan(tmp_path / "a.txt") == (0, {"findings": [], "scanned": 1, "skipped": []})


def test_what_is_no_text_or_no_file_is_skipped_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "binary").write_bytes(b"\x7fELF\0\0" + TOKEN.encode())
    with (folder / "huge").open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    (folder / "loose").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    code, found = scan(folder)
    assert code == 0
    assert {Path(item["path"]).name: item["problem"] for item in found["skipped"]} == {
        "binary": "not a text file",
        "huge": "larger than 16,777,216 bytes",
        "loose": "a link to nothing",
        "pipe": "not a file",
    }


def test_text_in_utf16_and_text_that_is_not_utf8_are_read(tmp_path: Path) -> None:
    (tmp_path / "wide.txt").write_bytes(f"token: {TOKEN}".encode("utf-16"))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n" + TOKEN.encode())
    code, found = scan(tmp_path / "wide.txt", tmp_path / "latin.txt")
    assert (code, len(found["findings"])) == (5, 2)


def test_a_path_that_is_not_utf8_is_reported_as_valid_json(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/x"
    os.mkdir(folder)  # noqa: PTH102 - a path of bytes
    with open(folder + b"/caf\xe9.txt", "wb") as file:  # noqa: PTH123
        file.write(TOKEN.encode())
    done = subprocess.run([ALG, "secrets", "scan", folder, "--json"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 5
    assert os.fsencode(json.loads(done.stdout)["findings"][0]["path"]) == folder + b"/caf\xe9.txt"


def test_a_missing_path_is_exit_code_3(tmp_path: Path) -> None:
    code, found = scan(tmp_path / "nothing")
    assert (code, found["error"]["code"]) == (3, "not_found")


def test_the_nearest_file_of_allowances_counts(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "x.txt").write_text(TOKEN, encoding="utf-8")
    _, found = scan(folder)
    fingerprint = found["findings"][0]["fingerprint"]
    (tmp_path / "a" / "secrets-allowed.yaml").write_text(
        f"- fingerprint: {fingerprint}\n  reason: made up for the manual\n", encoding="utf-8"
    )
    assert scan(folder)[0] == 0
    (folder / "secrets-allowed.yaml").write_text("[]\n", encoding="utf-8")
    assert scan(folder)[0] == 5


def test_a_broken_file_of_allowances_is_named(tmp_path: Path) -> None:
    (tmp_path / "secrets-allowed.yaml").write_text("- nonsense\n", encoding="utf-8")
    (tmp_path / "x.txt").write_text("x", encoding="utf-8")
    code, found = scan(tmp_path / "x.txt")
    assert (code, found["error"]["code"]) == (2, "config")


def test_staged_text_is_what_counts_and_not_what_lies_in_the_folder(repo: Path) -> None:
    file = repo / "a.txt"
    file.write_text(f"x\ntoken {TOKEN}\n", encoding="utf-8")
    git(repo, "add", "a.txt")
    file.write_text("gone\n", encoding="utf-8")
    done = alg("secrets", "scan", "--staged", cwd=repo)
    assert done.returncode == 5
    assert done.stdout == ""
    assert "a.txt:2: github-token ghp_…4a" in done.stderr
    assert "hint:" in done.stderr
    assert "fingerprint: " in done.stderr
    assert TOKEN not in done.stderr
    git(repo, "add", "a.txt")
    file.write_text(TOKEN, encoding="utf-8")
    assert alg("secrets", "scan", "--staged", cwd=repo).returncode == 0


def test_only_what_the_commit_adds_or_changes_is_scanned(repo: Path) -> None:
    (repo / "old.txt").write_text(TOKEN, encoding="utf-8")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "--no-verify", "-m", "old")
    (repo / "new.txt").write_text("fine\n", encoding="utf-8")
    git(repo, "add", ".")
    assert alg("secrets", "scan", "--staged", "--json", cwd=repo).returncode == 0
    git(repo, "rm", "-q", "--cached", "old.txt")
    assert alg("secrets", "scan", "--staged", cwd=repo).returncode == 0


def test_strange_names_of_staged_files_are_no_way_around(repo: Path) -> None:
    names = ["new\nline.txt", "--option.txt", "ü \"quote'.txt", ":colon.txt", "sub/x\ty.txt"]
    (repo / "sub").mkdir()
    for name in names:
        (repo / name).write_text(TOKEN, encoding="utf-8")
    git(repo, "add", "--", ".")
    done = alg("secrets", "scan", "--staged", "--json", cwd=repo / "sub")
    assert done.returncode == 5
    assert {finding["path"] for finding in json.loads(done.stdout)["findings"]} == set(names)


def test_a_staged_scan_outside_of_a_repo_is_refused(tmp_path: Path) -> None:
    done = alg("secrets", "scan", "--staged", "--json", cwd=tmp_path)
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["message"]) == ("invalid_input", f"{str(tmp_path)!r} is in no git repo")


def allow_all(repo: Path) -> str:
    found = json.loads(alg("secrets", "scan", "--staged", "--json", cwd=repo).stdout)
    fingerprint: str = found["findings"][0]["fingerprint"]
    text = f"- fingerprint: {fingerprint}\n  reason: made up\n"
    (repo / "secrets-allowed.yaml").write_text(text, encoding="utf-8")
    return fingerprint


def test_for_what_is_staged_the_list_counts_as_it_is_staged(repo: Path) -> None:
    (repo / "sub").mkdir()
    (repo / "sub" / "a.txt").write_text(TOKEN, encoding="utf-8")
    git(repo, "add", ".")
    allow_all(repo)
    assert alg("secrets", "scan", "--staged", cwd=repo).returncode == 5  # nobody would know why it may be there
    git(repo, "add", "secrets-allowed.yaml")
    assert alg("secrets", "scan", "--staged", cwd=repo / "sub").returncode == 0
    (repo / "secrets-allowed.yaml").unlink()
    assert alg("secrets", "scan", "--staged", cwd=repo).returncode == 0
    git(repo, "commit", "-qm", "both in one")
    (repo / "b.txt").write_text(f"more {TOKEN}", encoding="utf-8")
    git(repo, "add", "b.txt")
    assert alg("secrets", "scan", "--staged", cwd=repo).returncode == 0
    git(repo, "add", "-A")  # which takes the list away
    assert alg("secrets", "scan", "--staged", cwd=repo).returncode == 5


def test_what_waits_for_the_person_does_not_count_for_what_is_staged(repo: Path) -> None:
    (repo / "a.txt").write_text(TOKEN, encoding="utf-8")
    git(repo, "add", ".")
    fingerprint = allow_all(repo)
    git(repo, "add", ".")
    (repo / ".git" / "alg-allowances.json").write_text(json.dumps({"waiting": {fingerprint: None}}), encoding="utf-8")
    assert alg("secrets", "scan", "--staged", cwd=repo).returncode == 5


def test_what_waits_does_not_count_where_gits_folder_is_elsewhere_either(repo: Path, tmp_path: Path) -> None:
    (repo / "a.txt").write_text(f"{TOKEN}\n", encoding="utf-8")
    git(repo, "add", ".")
    fingerprint = allow_all(repo)
    git(repo, "add", ".")
    apart = tmp_path / "apart.git"
    (repo / ".git").rename(apart)
    environment = {**os.environ, "GIT_DIR": str(apart), "GIT_WORK_TREE": str(repo)}
    assert alg("secrets", "scan", "--staged", cwd=repo, env=environment).returncode == 0
    (apart / "alg-allowances.json").write_text(json.dumps({"waiting": {fingerprint: None}}), encoding="utf-8")
    assert alg("secrets", "scan", "--staged", cwd=repo, env=environment).returncode == 5


def test_a_staged_list_that_cannot_be_read_allows_nothing_and_hinders_no_clean_commit(repo: Path) -> None:
    (repo / "secrets-allowed.yaml").write_text("broken: [\n", encoding="utf-8")
    git(repo, "add", ".")
    assert alg("secrets", "scan", "--staged", cwd=repo).returncode == 0
    (repo / "a.txt").write_text(TOKEN, encoding="utf-8")
    git(repo, "add", ".")
    done = alg("secrets", "scan", "--staged", cwd=repo)
    assert done.returncode == 5
    assert "nothing is allowed: 'secrets-allowed.yaml', line 2" in done.stderr


def test_an_allowance_that_has_ended_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TOKEN, encoding="utf-8")
    _, found = scan(tmp_path / "a.txt")
    text = f"- fingerprint: {found['findings'][0]['fingerprint']}\n  reason: made up\n"
    (tmp_path / "secrets-allowed.yaml").write_text(text, encoding="utf-8")
    assert scan(tmp_path / "a.txt")[0] == 0
    (tmp_path / "secrets-allowed.yaml").write_text(text + "  until: 2020-01-01\n", encoding="utf-8")
    assert scan(tmp_path / "a.txt")[0] == 5


def test_a_name_that_is_a_credential_is_found_and_told_with_a_mark(tmp_path: Path, repo: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / f"{TOKEN}.txt").write_text(f"fine\n{TOKEN}\n", encoding="utf-8")
    (folder / f"{TOKEN}.bin").write_bytes(b"\x7fELF\0\0")
    code, found = scan(folder)
    assert code == 5
    assert [(each["path"].replace(str(folder), ""), each["line"]) for each in found["findings"]] == [
        ("(in its name) /[redacted:github-token].bin", 1),
        ("(in its name) /[redacted:github-token].txt", 1),
        ("/[redacted:github-token].txt", 2),
    ]
    assert [each["path"] for each in found["skipped"]] == [str(folder / "[redacted:github-token].bin")]
    (repo / f"{TOKEN}.txt").write_text(f"fine\n{TOKEN}\n", encoding="utf-8")
    git(repo, "add", ".")
    staged = json.loads(alg("secrets", "scan", "--staged", "--json", cwd=repo).stdout)
    assert [(each["path"], each["line"]) for each in staged["findings"]] == [
        ("(in its name) [redacted:github-token].txt", 1),
        ("[redacted:github-token].txt", 2),
    ]


def test_what_lies_above_the_folder_that_is_named_is_no_finding(tmp_path: Path) -> None:
    folder = tmp_path / TOKEN
    folder.mkdir()
    (folder / "a.txt").write_text("fine\n", encoding="utf-8")
    assert scan(folder)[0] == 0
