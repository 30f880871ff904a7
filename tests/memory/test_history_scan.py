"""Looking for secrets in all that a git repo ever had: every kind of place, real git, repos that are not friendly."""

from __future__ import annotations

import os
import random
import re
import string
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import Allowance, InvalidInput, SecretScanner
from adaptive_llm_gateway.memory import HistoryReport, HistorySecret, plan_history, scan_history
from adaptive_llm_gateway.memory._history_places import CommitFact, find_places, parse_commit
from adaptive_llm_gateway.memory._history_scan import MOST_BYTES, findings_in
from adaptive_llm_gateway.memory._object_reader import ObjectReader
from adaptive_llm_gateway.memory._rotation import rotation_of

Git = Callable[..., str]


def token(seed: int) -> str:
    """Another GitHub token for each seed, none of them real."""
    chance = random.Random(seed)  # noqa: S311 - not real
    return "ghp_" + "".join(chance.choices(string.ascii_letters + string.digits, k=36))


def run(folder: Path, *arguments: str, stdin: bytes | None = None, **environment: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    return done.stdout.decode("utf-8", "surrogateescape")


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    run(folder, "init", "-q")
    return folder


def commit(folder: Path, message: str, day: int = 1, **files: str | bytes | None) -> str:
    """Write (or with None remove) files and commit; their names have `__` for a slash, and `_md` for `.md`."""
    for name, content in files.items():
        file = folder / re.sub(r"_(md|txt|bin|gitattributes)$", r".\1", name.replace("__", "/"))
        if content is None:
            file.unlink()
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    run(folder, "add", "-A")
    when = f"2026-11-{day:02d}T10:00:00+00:00"
    run(folder, "commit", "-q", "--allow-empty", "-m", message, GIT_AUTHOR_DATE=when, GIT_COMMITTER_DATE=when)
    return run(folder, "rev-parse", "HEAD").strip()


def scan(folder: Path) -> HistoryReport:
    report = scan_history(folder, SecretScanner())
    assert not any(token(seed) in repr(report) + repr(plan_history(report)) for seed in range(40))
    return report


def only(folder: Path) -> HistorySecret:
    (secret,) = scan(folder).secrets
    return secret


def is_of(secret: HistorySecret, seed: int) -> bool:
    (finding,) = SecretScanner().scan(token(seed))
    return (secret.kind, secret.fingerprint, secret.preview) == ("github-token", finding.fingerprint, finding.preview)


# --- where it may be ----------------------------------------------------------------------------------------------


def test_a_secret_of_old_commits_is_told_with_its_first_and_last_commit_and_its_paths(repo: Path) -> None:
    commit(repo, "start", 1, a_md="fine\n")
    first = commit(repo, "with it", 2, a_md=f"token {token(1)}\n")
    commit(repo, "copied", 3, deep__b_md=f"see {token(1)}, too\n")
    last = commit(repo, "edited", 4, a_md=f"token {token(1)}\nmore\n")
    commit(repo, "gone", 5, a_md="fine again\n", deep__b_md=None)
    secret = only(repo)
    assert is_of(secret, 1)
    assert secret.first is not None
    assert secret.last is not None
    assert (secret.first.id, secret.first.date) == (first, "2026-11-02T10:00:00Z")
    assert (secret.last.id, secret.last.date) == (last, "2026-11-04T10:00:00Z")
    assert secret.first.author == "Test Person"
    assert set(secret.paths) == {"a.md", "deep/b.md"}
    assert (secret.stands, secret.branches, secret.at_remote, secret.objects) == ("history", (), False, 3)


def test_one_that_a_branch_still_has_is_told_with_the_branch(repo: Path) -> None:
    commit(repo, "start", 1, a_md=f"{token(1)}\n")
    run(repo, "branch", "side")
    commit(repo, "gone", 2, a_md="fine\n")
    secret = only(repo)
    assert (secret.stands, secret.branches) == ("files", ("side",))
    run(repo, "branch", "-qD", "side")
    assert only(repo).stands == "history"


def test_files_of_a_branch_that_was_merged_away_are_found_with_their_last_commit(repo: Path) -> None:
    commit(repo, "start", 1, a_md="fine\n")
    run(repo, "switch", "-qc", "side")
    on_side = commit(repo, "on the side", 2, b_md=f"{token(1)}\n")
    run(repo, "switch", "-q", "main")
    commit(repo, "meanwhile", 3, a_md="still fine\n")
    run(repo, "merge", "-q", "--strategy=ours", "-m", "without it", "side")
    run(repo, "branch", "-qD", "side")
    secret = only(repo)
    assert secret.stands == "history"
    assert secret.first is not None
    assert secret.last is not None
    assert secret.first.id == secret.last.id == on_side


@pytest.mark.parametrize("packed", [False, True])
def test_every_place_of_a_repo_is_looked_at(repo: Path, packed: bool) -> None:
    commit(repo, "start", 1, a_md=f"{token(1)}\n")
    commit(repo, f"the message has {token(2)}", 2, a_md="fine\n")
    run(repo, "tag", "-a", "v1", "-m", f"tagged with {token(3)}")
    (repo / "a.md").write_text(f"{token(4)}\n", encoding="utf-8")
    run(repo, "stash", "-q")
    run(repo, "notes", "add", "-m", f"noted {token(5)}")
    author = f"Person {token(6)}"
    run(repo, "commit", "-q", "--allow-empty", "-m", "an author", GIT_AUTHOR_NAME=author)
    commit(repo, "named", 3, **{f"notes__{token(7)}": "by its name\n"})
    (repo / "c.md").write_text(f"{token(8)}\n", encoding="utf-8")
    run(repo, "add", "c.md")  # staged, then forgotten
    run(repo, "reset", "-q", "--hard")
    lost = commit(repo, "amended away", 4, d_md=f"{token(9)}\n")
    run(repo, "reset", "-q", "--hard", "HEAD~1")
    run(repo, "update-ref", "-d", "refs/stash") if packed else None
    blob = run(repo, "hash-object", "-w", "--stdin", stdin=f"{token(10)}\n".encode()).strip()
    run(repo, "update-ref", "refs/alg/kept", blob)
    run(repo, "mktree", stdin=f"100644 blob {blob}\t{token(11)}\n".encode())
    run(repo, "branch", f"on-{token(12)}")
    run(repo, "worktree", "add", "-q", "--detach", str(repo.parent / "beside"))
    beside = commit(repo.parent / "beside", "in another work tree", 5, e_md=f"{token(13)}\n")
    if packed:
        run(repo, "repack", "-q", "-a", "-d", "--keep-unreachable")
        run(repo, "pack-refs", "--all")
    report = scan(repo)
    assert report.skipped == ()
    found = {next(seed for seed in range(1, 20) if is_of(secret, seed)): secret for secret in report.secrets}
    assert set(found) == set(range(1, 14))
    stands = {seed: secret.stands for seed, secret in found.items()}
    assert {seed for seed, how in stands.items() if how == "loose"} == {8, 9, 11} | ({4} if packed else set())
    assert {seed for seed, how in stands.items() if how == "files"} == {7, 13}
    assert found[2].paths[0].startswith("the message of commit ")
    assert found[3].paths == ("the tag 'v1'",)
    assert found[9].first is not None
    assert found[9].first.id == lost
    assert [path.endswith(" (its name)") and path.startswith("notes/") for path in found[7].paths] == [True]
    assert found[13].last is not None
    assert found[13].last.id == beside
    assert "refs/alg/kept" in found[10].paths[0]


def test_what_the_logs_of_references_say_is_looked_at(repo: Path) -> None:
    commit(repo, "start", 1, a_md="fine\n")
    run(
        repo, "update-ref", "-m", f"fetched from https://{token(1)}@host", "refs/heads/other", "HEAD", "--create-reflog"
    )
    secret = only(repo)
    assert is_of(secret, 1)
    assert secret.paths == ("the log of refs/heads/other, which is on this machine alone",)


def test_utf_16_and_text_within_a_binary_file_are_read(repo: Path) -> None:
    words = f"the token is {token(1)}\r\n"
    noise = random.Random(5).randbytes(300_000)  # noqa: S311
    commit(
        repo,
        "files",
        1,
        le_txt=b"\xff\xfe" + words.encode("utf-16-le"),
        be_txt=b"\xfe\xff" + words.replace(token(1), token(2)).encode("utf-16-be"),
        db_bin=noise + b"\0\0" + token(3).encode() + b"\0" + noise,
    )
    assert {seed for secret in scan(repo).secrets for seed in (1, 2, 3) if is_of(secret, seed)} == {1, 2, 3}
    assert len(scan(repo).secrets) == 3


def test_chance_makes_no_passwords_of_binary_files() -> None:
    noise = random.Random(1).randbytes(2_000_000)  # noqa: S311
    shaped = b"pass" + b"word: kV8#mQ2$xZ9w\n"
    assert findings_in(SecretScanner(), b"\0" + shaped + noise) == []
    assert findings_in(SecretScanner(), shaped) != []


def test_a_remote_has_what_its_branches_or_their_logs_lead_to(repo: Path, tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "--bare", "remote.git")
    run(repo, "remote", "add", "origin", str(tmp_path / "remote.git"))
    commit(repo, "start", 1, a_md=f"{token(1)}\n")
    run(repo, "push", "-q", "origin", "main")
    commit(repo, "later", 2, b_md=f"{token(2)}\n")
    report = scan(repo)
    assert report.remotes == ("origin",)
    assert {(is_of(secret, 1), secret.at_remote) for secret in report.secrets} == {(True, True), (False, False)}
    # The remote-tracking branch moves to a history without it, and its log remembers.
    run(repo, "checkout", "-q", "--orphan", "fresh")
    run(repo, "rm", "-qrf", ".")
    commit(repo, "fresh", 3, c_md="fine\n")
    run(repo, "push", "-qf", "origin", "fresh:main")
    run(repo, "branch", "-qD", "main")
    assert [secret.at_remote for secret in scan(repo).secrets if is_of(secret, 1)] == [True]


def test_what_is_allowed_is_not_told_of(repo: Path) -> None:
    commit(repo, "start", 1, a_md=f"{token(1)} {token(2)}\n")
    one, other = scan(repo).secrets
    report = scan_history(repo, SecretScanner(allowed=[Allowance(one.fingerprint, "an example")]))
    assert [secret.fingerprint for secret in report.secrets] == [other.fingerprint]


def test_an_empty_repo_a_bare_one_and_a_folder_within_one_are_scanned(repo: Path, tmp_path: Path) -> None:
    assert scan(repo).secrets == ()
    commit(repo, "start", 1, deep__a_md=f"{token(1)}\n")
    run(tmp_path, "clone", "-q", "--bare", str(repo), "bare.git")
    assert is_of(only(tmp_path / "bare.git"), 1)
    assert scan(repo / "deep").path == str(repo)


def test_a_repo_of_sha_256_is_scanned(tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "--object-format=sha256", "wide")
    commit(tmp_path / "wide", "start", 1, a_md=f"{token(1)}\n")
    commit(tmp_path / "wide", "named", 2, **{token(2): "fine\n"})
    report = scan(tmp_path / "wide")
    assert len(report.secrets) == 2
    assert all(secret.first is not None for secret in report.secrets)


def test_what_is_no_repo_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="in no git repo"):
        scan_history(tmp_path, SecretScanner())
    with pytest.raises(InvalidInput, match="there is no"):
        scan_history(tmp_path / "gone" / "away", SecretScanner())


# --- repos that are not friendly ------------------------------------------------------------------------------------


def test_nothing_of_the_repos_own_runs_and_nothing_is_written(repo: Path) -> None:
    commit(repo, "start", 1, a_md=f"{token(1)}\n", _gitattributes="* filter=own diff=own\n")
    trap, script = repo.parent / "sprung", repo.parent / "trap"
    script.write_text(f'#!/bin/sh\ntouch "{trap}"\n', encoding="utf-8")
    script.chmod(0o755)
    for key in (
        *("core.fsmonitor", "core.sshCommand", "core.pager", "core.editor", "filter.own.clean", "filter.own.smudge"),
        *("diff.own.textconv", "diff.own.command", "diff.external", "remote.origin.uploadpack", "gpg.program"),
        *("core.alternateRefsCommand", "credential.helper"),
    ):
        run(repo, "config", key, str(script))
    run(repo, "config", "remote.origin.url", "ssh://nowhere.invalid/x")
    run(repo, "config", "remote.origin.promisor", "true")
    run(repo, "config", "extensions.partialClone", "origin")
    for hook in ("post-index-change", "reference-transaction", "post-checkout"):
        (repo / ".git" / "hooks" / hook).write_bytes(script.read_bytes())
        (repo / ".git" / "hooks" / hook).chmod(0o755)
    before = {file: file.stat().st_mtime_ns for file in sorted((repo / ".git").rglob("*"))}
    assert is_of(only(repo), 1)
    assert not trap.exists()
    assert {file: file.stat().st_mtime_ns for file in sorted((repo / ".git").rglob("*"))} == before


def test_a_replacement_hides_nothing(repo: Path) -> None:
    commit(repo, "start", 1, a_md=f"{token(1)}\n")
    bad = run(repo, "rev-parse", "HEAD:a.md").strip()
    good = run(repo, "hash-object", "-w", "--stdin", stdin=b"fine\n").strip()
    run(repo, "replace", bad, good)
    secret = only(repo)
    assert (secret.stands, secret.paths) == ("files", ("a.md",))


def test_damaged_and_missing_objects_are_told_and_the_others_are_read(repo: Path) -> None:
    commit(repo, "start", 1, a_md="fine\n", b_md="fine, too\n", c__d_md="gone\n")
    commit(repo, "later", 2, z_md=f"{token(1)}\n")

    def file_of(name: str) -> Path:
        id = run(repo, "rev-parse", name).strip()
        return repo / ".git" / "objects" / id[:2] / id[2:]

    for name, content in (("HEAD:a.md", b"no zlib"), ("HEAD:b.md", file_of("HEAD:b.md").read_bytes()[:12])):
        file_of(name).chmod(0o644)
        file_of(name).write_bytes(content)
    file_of("HEAD:c").unlink()
    report = scan(repo)
    assert [secret.stands for secret in report.secrets] == ["files"]
    told = [what.split()[0] for what, _ in report.skipped]
    assert told.count("object") == 2
    assert "names" in told


def test_an_object_that_git_is_silent_about_is_passed_by(repo: Path) -> None:
    commit(repo, "start", 1, a_md="fine\n")
    commit(repo, "later", 2, b_md="also fine\n")
    ids = run(repo, "rev-parse", "HEAD:a.md", "HEAD:b.md").split()
    stuck = repo / ".git" / "objects" / ids[0][:2] / ids[0][2:]
    stuck.unlink()
    os.mkfifo(stuck)  # opening it waits for a writer that never comes
    reader = ObjectReader(repo, answer_seconds=0.5)
    try:
        assert [(each.id, each.data) for each in reader.read(ids)] == [(ids[0], None), (ids[1], b"also fine\n")]
    finally:
        reader.close()


def test_an_object_that_is_too_large_is_told_and_not_read(repo: Path) -> None:
    commit(repo, "start", 1, a_md=f"{token(1)}\n")
    with (repo / "large.bin").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # a few kilobytes in the store
    commit(repo, "large", 2)
    report = scan(repo)
    assert is_of(report.secrets[0], 1)
    ((what, why),) = report.skipped
    assert what.startswith("blob ")
    assert f"{MOST_BYTES + 1:,} bytes" in why
    assert report.read_bytes < 10_000


def test_what_a_shallow_clone_lacks_is_not_missed(repo: Path, tmp_path: Path) -> None:
    commit(repo, "start", 1, a_md=f"{token(1)}\n")
    commit(repo, "later", 2, b_md="fine\n")
    run(tmp_path, "clone", "-q", "--depth=1", f"file://{repo}", "shallow")
    secret = only(tmp_path / "shallow")
    assert (secret.stands, secret.at_remote) == ("files", True)


def test_commits_that_lie_about_themselves_are_read(repo: Path) -> None:
    tree = run(repo, "mktree", stdin=b"").strip()
    made = f"tree {tree}\nparent {'1' * 40}\nauthor x <> 999999999999999999 +0000\ncommitter \n\n{token(1)}\n"
    run(repo, "hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=made.encode())
    secret = only(repo)
    assert secret.stands == "loose"
    assert parse_commit("x", b"no commit at all") is None


def test_names_that_steer_a_terminal_or_are_no_utf_8_are_told(repo: Path) -> None:
    name = os.fsdecode(b"caf\xe9\x1b[31m.md")
    (repo / name).write_text(f"{token(1)}\n", encoding="utf-8")
    commit(repo, "start", 1)
    assert only(repo).paths == (name,)


def test_a_long_history_does_not_recurse() -> None:
    count = 50_000
    commits = {str(number): CommitFact(str(number), "t", (str(number - 1),), number) for number in range(count)}
    assert find_places(commits, {}, tips={}, referenced=(), at_remote=()) == {}


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_nothing_found_needs_no_plan(repo: Path) -> None:
    commit(repo, "start", 1, a_md="fine\n")
    assert plan_history(scan(repo)) == ()


def test_the_plan_begins_with_making_them_worthless_and_names_the_issuers_page(repo: Path) -> None:
    commit(repo, "start", 1, a_md=f"{token(1)}\n")
    titles = [step.title for step in plan_history(scan(repo))]
    assert titles[0] == "Make them worthless"
    assert titles[1] == "If they were never pushed"
    assert titles[-2:] == ["Look again", "If one is no secret"]
    first = plan_history(scan(repo))[0]
    assert any("https://docs.github.com/" in point for point in first.points)


def test_one_that_was_pushed_is_not_called_unpushed(repo: Path, tmp_path: Path) -> None:
    run(tmp_path, "init", "-q", "--bare", "remote.git")
    run(repo, "remote", "add", "origin", str(tmp_path / "remote.git"))
    commit(repo, "start", 1, a_md=f"{token(1)}\n")
    run(repo, "push", "-q", "origin", "main")
    assert "If they were never pushed" not in [step.title for step in plan_history(scan(repo))]


def test_one_that_nothing_leads_to_needs_no_rewriting(repo: Path) -> None:
    run(repo, "hash-object", "-w", "--stdin", stdin=f"{token(1)}\n".encode())
    titles = [step.title for step in plan_history(scan(repo))]
    assert "Have git forget what nothing leads to" in titles
    assert "Rewrite" not in titles


def test_no_step_is_a_destructive_command_that_could_be_run_as_it_stands(repo: Path) -> None:
    commit(repo, f"message {token(2)}", 1, a_md=f"{token(1)}\n", **{token(3): "its name\n"})
    text = "\n".join(point for step in plan_history(scan(repo)) for point in step.points)
    commands = [part for part in text.split("`")[1::2] if part.startswith("git ")]
    words = ("filter-repo", "--force", "rebase", "--prune", "gc ")
    dangerous = [part for part in commands if any(word in part for word in words)]
    assert dangerous
    assert all("<" in part for part in dangerous if part != "git filter-repo")
    assert "--path-rename <old>:<new>" in text


def test_every_kind_has_a_way_and_unknown_ones_a_general_one() -> None:
    assert rotation_of("aws-secret-key").page == rotation_of("aws-access-key-id").page
    assert rotation_of("something-new").page is None
    assert "revoke" in rotation_of("something-new").how
    assert rotation_of("google-oauth-secret").page is not None
