"""What an address, its server or a setting could make git do: run programs, tell passwords, lead elsewhere."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from sync_made import Clone, git

from adaptive_llm_gateway.core import SyncError
from adaptive_llm_gateway.memory._git import mask_credentials

CANARY = "canary-pa55word"


def fails(clone: Clone, run: Callable[[], object]) -> SyncError:
    """The attempt fails, and leaves nobody in the middle of anything."""
    with pytest.raises(SyncError) as caught:
        run()
    assert clone.repo.operation() is None
    return caught.value


@pytest.fixture
def clone(tmp_path: Path, remote: Path) -> Clone:
    found = Clone(tmp_path / "one", remote)
    found.put("notes/a.md", "a")
    found.sync.push()
    return found


@pytest.fixture
def trap(tmp_path: Path) -> Iterator[Path]:
    """A program that must never run: nothing may have been written where this leads."""
    ran = tmp_path / "ran"
    program = tmp_path / "trap"
    program.write_text(f"#!/bin/sh\necho $0 >> '{ran}'\n", encoding="utf-8")
    program.chmod(0o755)
    yield program
    assert not ran.exists(), ran.read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", ["url", "pushurl", "insteadOf", "pushInsteadOf"])
@pytest.mark.parametrize("form", ["ext::{trap}", "fd::3", "trap::x", "trap://host/x", "--upload-pack={trap}"])
def test_no_address_and_no_rewriting_of_one_runs_a_program(
    clone: Clone, trap: Path, remote: Path, setting: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = trap.with_name("git-remote-trap")
    helper.write_bytes(trap.read_bytes())
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{trap.parent}{os.pathsep}{os.environ['PATH']}")
    address = form.format(trap=trap)
    if setting in ("url", "pushurl"):
        git(clone.root, "config", f"remote.origin.{setting}", address)
    else:
        git(clone.root, "config", "--global", f"url.{address}.{setting}", str(remote))
    clone.put("notes/b.md", "b")
    tip = git(remote, "rev-parse", "main")
    if setting in ("url", "insteadOf"):
        fails(clone, clone.sync.pull)
    fails(clone, clone.sync.push)
    assert git(remote, "rev-parse", "main") == tip


def test_a_branch_named_like_an_option_is_a_branch(tmp_path: Path, remote: Path, trap: Path) -> None:
    clone = Clone(tmp_path / "odd", remote)
    name = f"--upload-pack={trap}".replace(str(tmp_path), "")
    git(clone.root, "update-ref", f"refs/heads/{name}", "HEAD")
    git(clone.root, "symbolic-ref", "HEAD", f"refs/heads/{name}")
    clone.put("notes/a.md", "a")
    clone.sync.push()
    clone.sync.pull()
    assert git(remote, "rev-parse", f"refs/heads/{name}").strip() == clone.repo.head()


def test_odd_references_and_a_head_that_points_elsewhere_change_nothing(clone: Clone, remote: Path) -> None:
    for name in ("refs/heads/caf\u00e9", "refs/heads/a$(touch)", "refs/heads/-x", "refs/tags/v1", "refs/evil/x"):
        git(remote, "update-ref", name, "main")
    git(remote, "symbolic-ref", "HEAD", "refs/heads/nowhere")
    before = git(clone.root, "for-each-ref")
    clone.sync.pull()
    assert git(clone.root, "for-each-ref") == before
    git(remote, "symbolic-ref", "HEAD", "refs/evil/x")
    clone.put("notes/b.md", "b")
    assert clone.sync.push().status.state == "pushed"


def test_no_hook_filter_monitor_or_driver_runs_in_a_pull_with_something_held_back(
    clone: Clone, trap: Path, tmp_path: Path, remote: Path
) -> None:
    two = Clone(tmp_path / "two", remote)
    for name in ("post-checkout", "post-merge", "pre-push", "reference-transaction", "post-index-change", "pre-commit"):
        hook = two.repo.git_dir / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_bytes(trap.read_bytes())
        hook.chmod(0o755)
    for setting in ("filter.evil.clean", "filter.evil.smudge", "diff.evil.textconv", "merge.evil.driver"):
        git(two.root, "config", setting, str(trap))
    git(two.root, "config", "core.fsmonitor", str(trap))
    hostile = tmp_path / "hostile"
    git(tmp_path, "clone", "-q", str(remote), str(hostile))
    (hostile / "notes/.gitattributes").write_text("* filter=evil diff=evil merge=evil\n", encoding="utf-8")
    (hostile / "notes/a.md").write_text("theirs", encoding="utf-8")
    git(hostile, "add", "-A")
    git(hostile, "commit", "-qm", "hostile")
    git(hostile, "push", "-q")
    two.put("notes/b.md", "b")
    two.sync.pull()
    two.sync.push()
    assert [item.kind for item in two.repo.quarantine.held.values()] == ["attributes"]
    assert (two.root / "notes/a.md").read_text(encoding="utf-8") == "theirs"
    assert len(two.repo.history("notes/a.md")) == 2


@pytest.mark.parametrize("setting", ["url", "pushurl", "insteadOf"])
@pytest.mark.parametrize(
    "address",
    [
        f"http://me:{CANARY}@127.0.0.1:1/x.git",
        f"http://{CANARY}@127.0.0.1:1/x.git",
        f"http://me:p@{CANARY}@127.0.0.1:1/x.git",
        f"http://127.0.0.1:1/x.git?private_token={CANARY}",
        f"ssh://me:{CANARY}@127.0.0.1:1/x.git",
    ],
)
def test_a_password_in_an_address_is_in_no_error_status_log_or_file_of_ours(
    clone: Clone, remote: Path, setting: str, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    if setting == "insteadOf":
        git(clone.root, "config", "--global", f"url.{address}.insteadOf", str(remote))
    else:
        git(clone.root, "config", f"remote.origin.{setting}", address)
    clone.put("notes/b.md", "b")
    errors = [fails(clone, clone.sync.push)]
    if setting != "pushurl":
        errors.append(fails(clone, clone.sync.pull))
    shown = json.dumps([error.as_dict() for error in errors]) + str(clone.sync.state.status()) + caplog.text
    assert CANARY not in shown
    kept = [path for path in clone.repo.git_dir.rglob("*") if path.is_file() and path.name != "config"]
    assert kept
    for path in kept:
        assert CANARY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://me:p@ss/x", "https://***@ss/x"),
        ("https://me:p@ss@host/x", "https://***@host/x"),
        ("'https://tok@host/x': no", "'https://***@host/x': no"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("http://h/x?a=1&access_token=abc&b=2", "http://h/x?a=1&access_token=***&b=2"),
        ("Authorization: Basic abc", "Authorization: Basic ***"),
    ],
)
def test_credentials_are_masked_wherever_they_are_in_an_address(text: str, masked: str) -> None:
    assert mask_credentials(text) == masked


def test_a_server_that_sends_git_to_another_host_gets_no_password_told_there(
    clone: Clone, tmp_path: Path, serve: Callable[..., Any]
) -> None:
    seen: list[str] = []

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(str(self.headers.get("Authorization")))
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None: ...

    other = serve(Other)

    class Redirects(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") is None:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
            else:
                self.send_response(302)
                self.send_header("Location", f"http://localhost:{other.server_address[1]}{self.path}")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None: ...

    first = serve(Redirects)
    place = f"127.0.0.1:{first.server_address[1]}"
    given = tmp_path / "given"
    given.write_text(f"http://me:{CANARY}@{place}\n", encoding="utf-8")
    git(clone.root, "config", "credential.helper", f"store --file={given}")
    clone.sync.set_remote(f"http://{place}/x.git")
    error = fails(clone, clone.sync.pull)
    assert CANARY not in json.dumps(error.as_dict())
    secret = base64.b64encode(f"me:{CANARY}".encode()).decode()
    assert all(secret not in header for header in seen)
    assert CANARY not in (clone.repo.git_dir / "alg-sync.json").read_text(encoding="utf-8")
