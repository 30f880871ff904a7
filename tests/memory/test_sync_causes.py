"""Why a pull or push failed, each cause a real one: servers, hooks, disks and repositories that are so."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sync_made import (
    AUTHOR,
    PATH,
    Clone,
    SmartServer,
    failure,
    fill,
    free_port,
    git,
    git_daemon,
    hook,
    memory,
    poll,
    self_signed,
    small_disk,
    smart_http,
)

from adaptive_llm_gateway.core import AlgError, DiskFull
from adaptive_llm_gateway.memory._sync_look import look_at_sync
from adaptive_llm_gateway.memory._values import Change

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="hooks and servers are set up as on Unix")


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Alone in a folder, which is what servers are given."""
    (tmp_path / "served").mkdir()
    git(tmp_path, "init", "-q", "--bare", "served/remote.git")
    return tmp_path / "served/remote.git"


@pytest.fixture
def clone(tmp_path: Path, remote: Path) -> Clone:
    """One that has pushed, and has one more commit to push."""
    found = Clone(tmp_path / "one", remote)
    found.put(PATH, memory("x\n"))
    found.sync.push()
    found.put(PATH, memory("y\n"))
    return found


@pytest.fixture
def server(remote: Path, clone: Clone) -> Iterator[SmartServer]:
    """Serves the remote by smart HTTP; the clone uses it, and has seen it answer."""
    with smart_http(remote.parent) as found:
        clone.sync.set_remote(found.url + "remote.git")
        clone.sync.fetch()
        assert clone.status.state == "pending"
        yield found


def fails(clone: Clone, kind: str, *, operation: str = "push") -> str:
    """The operation fails with this kind, and the status says so; returns git's words."""
    error = failure(clone.sync.push if operation == "push" else clone.sync.pull)
    assert error.details["kind"] == kind, error.details
    status = clone.status
    assert (status.state, status.kind, status.hint) == ("failed", kind, error.hint)
    assert status.error
    problem = next(problem for problem in status.problems if problem.kind == kind)
    assert (problem.blocks, problem.operation, problem.message) == (True, operation, error.message)
    return str(error.details["git"])


# --- What the remote refuses ------------------------------------------------------------------------------


def test_a_hooks_own_words_come_first_and_without_what_it_sends_to_the_terminal(clone: Clone, remote: Path) -> None:
    hook(remote, "pre-receive", "printf '\\033[31mno pushes on \\033[1mFridays\\033[0m\\r\\n\\a' >&2; exit 1")
    words = fails(clone, "hook_rejected")
    assert words.splitlines()[0] == "remote: no pushes on Fridays"
    assert "hook declined" in words
    assert "\x1b" not in words


def test_an_update_hook_that_guards_a_branch_is_told_as_a_protected_one(clone: Clone, remote: Path) -> None:
    hook(remote, "update", 'test "$1" != refs/heads/main || { echo "main is a protected branch" >&2; exit 1; }')
    assert "main is a protected branch" in fails(clone, "protected_branch")


def test_a_hook_that_judges_the_committers_address_is_told_by_what_it_minds(
    tmp_path: Path, clone: Clone, remote: Path
) -> None:
    hook(
        remote,
        "pre-receive",
        "while read old new name; do for address in $(git log --format=%ce $old..$new); do"
        ' case "$address" in *@corp.example) ;; *) echo "committer email $address is not of corp.example" >&2; exit 1;;'
        " esac; done; done",
    )
    assert "committer email" in fails(clone, "identity_rejected")
    (tmp_path / "user/.gitconfig").write_text("[user]\n\tname = A\n\temail = a@corp.example\n", encoding="utf-8")
    other = Clone(tmp_path / "two", remote)
    other.put("notes/b.md", "b")
    other.sync.pull()
    assert other.sync.push().status.state == "pushed"


def test_words_of_a_hook_without_end_are_cut(clone: Clone, remote: Path) -> None:
    hook(remote, "pre-receive", "yes 'no and no and no' | head -n 50000 >&2; echo last >&2; exit 1")
    assert len(fails(clone, "hook_rejected")) <= 2_000


def test_a_pack_larger_than_the_remote_takes_is_told(clone: Clone, remote: Path) -> None:
    git(remote, "config", "receive.maxInputSize", "10")
    assert "maximum allowed size" in fails(clone, "too_large")


def test_a_branch_checked_out_at_the_remote_is_told(tmp_path: Path, clone: Clone, remote: Path) -> None:
    git(tmp_path, "clone", "-q", str(remote), "worktree")
    clone.sync.set_remote(str(tmp_path / "worktree"))
    fails(clone, "checked_out")


def test_a_remote_that_refuses_every_update_by_its_configuration_is_told(clone: Clone, remote: Path) -> None:
    git(remote, "config", "receive.hideRefs", "refs/heads/main")
    assert "hidden ref" in fails(clone, "hook_rejected")


def test_a_lock_left_in_the_remote_is_told(clone: Clone, remote: Path) -> None:
    (remote / "refs/heads/main.lock").touch()
    fails(clone, "ref_locked")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_remote_folder_that_cannot_be_written_is_told(clone: Clone, remote: Path) -> None:
    folders = [remote / "objects", *(remote / "objects").iterdir()]
    for folder in folders:
        folder.chmod(0o555)
    try:
        fails(clone, "remote_read_only")
    finally:
        for folder in folders:
            folder.chmod(0o755)


# --- Where there is none ----------------------------------------------------------------------------------


def test_a_remote_that_is_gone_or_no_repository_is_told(tmp_path: Path, clone: Clone, remote: Path) -> None:
    shutil.move(remote, tmp_path / "elsewhere")
    fails(clone, "remote_missing")
    remote.mkdir()
    fails(clone, "remote_missing", operation="pull")
    remote.rmdir()
    shutil.move(tmp_path / "elsewhere", remote)
    assert clone.sync.pull().status.state == "pending"
    assert clone.status.problems == ()


def test_a_history_that_has_nothing_in_common_is_told(tmp_path: Path, clone: Clone, remote: Path) -> None:
    git(tmp_path, "init", "-q", "other")
    git(tmp_path / "other", "commit", "-q", "--allow-empty", "-m", "x")
    git(tmp_path / "other", "push", "-q", "--force", str(remote), "HEAD:main")
    error = failure(clone.sync.pull)
    assert error.details["kind"] == "unrelated_histories"
    assert [problem.kind for problem in clone.status.problems] == ["unrelated_histories", "history_rewritten"]


def test_a_shallow_clone_is_known_before_it_is_in_the_way(tmp_path: Path, clone: Clone, remote: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{remote}", "shallow")
    shallow = Clone(tmp_path / "shallow", None)
    (problem,) = shallow.status.problems
    assert (problem.kind, problem.blocks) == ("shallow", False)
    assert shallow.status.state == "pushed"
    git(shallow.root, "fetch", "-q", "--unshallow")
    assert shallow.status.problems == ()


def test_a_remote_of_a_newer_format_is_told(tmp_path: Path, clone: Clone, remote: Path) -> None:
    other = Clone(tmp_path / "two", remote)
    other.sync.pull()
    other.put(".alg/format", "2\n")
    other.sync.push()
    error = failure(clone.sync.pull)
    assert error.details["kind"] == "format_too_new"
    assert clone.status.kind == "format_too_new"


# --- git daemon and ssh -----------------------------------------------------------------------------------


def test_git_daemon_tells_what_it_does_not_offer(clone: Clone, remote: Path) -> None:
    with git_daemon(remote.parent, "--informative-errors") as address:
        clone.sync.set_remote(address + "remote.git")
        assert "not exported" in fails(clone, "access_denied", operation="pull")
        (remote / "git-daemon-export-ok").touch()
        assert clone.sync.pull().status.state == "pending"
        assert "service not enabled" in fails(clone, "access_denied")
    assert failure(clone.sync.pull).message.endswith("nothing answers at its address")
    assert {problem.kind for problem in clone.status.problems} == {"access_denied", "unreachable"}
    assert clone.status.kind == "access_denied"


@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed")
def test_a_port_without_an_ssh_server_is_told_in_the_words_of_ssh(clone: Clone) -> None:
    clone.sync.set_remote(f"ssh://git@127.0.0.1:{free_port()}/x.git")
    assert "Connection refused" in fails(clone, "unreachable", operation="pull")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        # OpenSSH 9.2p1: sshconnect.c, sshconnect2.c
        ("git@host: Permission denied (publickey,password).", "auth"),
        ("Host key verification failed.", "host_key"),
        ("kex_exchange_identification: Connection closed by remote host", "unreachable"),
        ("ssh: connect to host host port 22: Connection timed out", "unreachable"),
        ("Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures", "auth"),
    ],
)
def test_what_ssh_says_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clone: Clone, words: str, kind: str
) -> None:
    """No ssh server is needed: a program in the place of ssh says what ssh says, and ends as it does."""
    said = tmp_path / "ssh"
    said.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 255\n", encoding="utf-8")
    said.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(said))
    clone.sync.set_remote("ssh://git@host/x.git")
    assert words in fails(clone, kind, operation="pull")


# --- Smart HTTP -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, "access_denied"),
        (404, "remote_missing"),
        (429, "rate_limited"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_what_an_http_server_answers_is_told_apart(clone: Clone, server: SmartServer, status: int, kind: str) -> None:
    server.refuse = ("", status, "no")
    fails(clone, kind, operation="pull")
    fails(clone, kind)
    server.refuse = None
    assert clone.sync.push().status.state == "pushed"
    assert clone.status.problems == ()


def test_reading_may_be_allowed_where_writing_is_not(clone: Clone, server: SmartServer) -> None:
    server.refuse = ("git-receive-pack", 403, "Write access to repository not granted.")
    fails(clone, "access_denied")
    assert clone.sync.pull().status.state == "failed"  # the push is not allowed yet
    assert clone.status.kind == "access_denied"


def test_without_credentials_with_wrong_and_with_right_ones(tmp_path: Path, clone: Clone, server: SmartServer) -> None:
    server.password = "right"
    assert "could not read Username" in fails(clone, "auth")
    given = tmp_path / "given"
    with (tmp_path / "user/.gitconfig").open("a", encoding="utf-8") as config:
        config.write(f"[credential]\n\thelper = store --file={given}\n")
    place = server.url.removeprefix("http://").rstrip("/")
    given.write_text(f"http://anna:wrong@{place}\n", encoding="utf-8")
    words = fails(clone, "auth")
    assert "Authentication failed" in words
    assert "wrong" not in words
    given.write_text(f"http://anna:right@{place}\n", encoding="utf-8")
    assert clone.sync.push().status.state == "pushed"


def test_an_address_that_leads_elsewhere_works_and_is_noticed(clone: Clone, server: SmartServer) -> None:
    server.moved = ("/old/", "/")
    clone.sync.set_remote(server.url + "old/remote.git")
    clone.sync.push()
    status = clone.status
    assert (status.state, status.kind) == ("pushed", None)
    (notice,) = status.problems
    assert (notice.kind, notice.blocks) == ("remote_moved", False)
    assert server.url + "remote.git" in notice.message
    clone.sync.set_remote(server.url + "remote.git")
    clone.put("notes/b.md", "b")
    clone.sync.push()
    assert clone.status.problems == ()


def test_a_fetch_notices_too_that_the_address_leads_elsewhere_and_when_it_does_no_more(
    clone: Clone, server: SmartServer
) -> None:
    server.moved = ("/old/", "/")
    clone.sync.set_remote(server.url + "old/remote.git")
    clone.sync.pull()
    (notice,) = clone.status.problems
    assert (notice.kind, notice.blocks) == ("remote_moved", False)
    assert server.url + "remote.git" in notice.message
    server.moved = None
    (server.root / "old").symlink_to(server.root)
    clone.sync.fetch()
    assert clone.status.problems == ()


def test_an_address_that_leads_nowhere_git_can_follow_is_told(clone: Clone, server: SmartServer) -> None:
    server.moved = ("/old/remote.git/info/refs", "/landing/page")
    server.refuse = ("/landing/", 200, "<h1>Where is it?</h1>")
    clone.sync.set_remote(server.url + "old/remote.git")
    fails(clone, "remote_moved", operation="pull")


def test_an_answer_that_breaks_off_is_told_and_nothing_is_taken(clone: Clone, server: SmartServer) -> None:
    head = clone.repo.head()
    server.cut = "git-upload-pack"
    fails(clone, "unreachable", operation="pull")
    assert clone.repo.head() == head
    assert clone.status.writes == "committed"


def test_an_answer_that_does_not_come_is_given_up(tmp_path: Path, clone: Clone, server: SmartServer) -> None:
    server.hold = threading.Event()
    impatient = Clone(clone.root, None, timeout=0.5)
    error = failure(impatient.sync.pull)
    assert error.details["kind"] == "timeout"
    assert impatient.status.kind == "timeout"


def test_a_certificate_that_nobody_vouches_for_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clone: Clone, remote: Path
) -> None:
    for name in ("GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_NO_VERIFY"):
        monkeypatch.delenv(name, raising=False)
    certificate = self_signed(tmp_path)
    with smart_http(remote.parent, certificate) as server:
        clone.sync.set_remote(server.url + "remote.git")
        fails(clone, "certificate")
        git(clone.root, "config", "http.sslCAInfo", str(certificate[0]))
        assert clone.sync.push().status.state == "pushed"
        assert clone.status.problems == ()


def test_a_proxy_that_lets_nobody_through_is_told(clone: Clone, server: SmartServer) -> None:
    git(clone.root, "config", "http.proxy", server.url)
    server.refuse = ("", 407, "not through here")
    fails(clone, "proxy", operation="pull")
    git(clone.root, "config", "http.proxy", "http://no-such-proxy.invalid:3128")
    assert "proxy" in failure(clone.sync.pull).message


def test_a_name_that_leads_nowhere_and_a_port_where_nobody_listens_are_told_apart(clone: Clone) -> None:
    clone.sync.set_remote("https://no-such-host.invalid/x.git")
    fails(clone, "unreachable", operation="pull")
    assert clone.status.problems[0].message.endswith("the name of its host cannot be resolved")
    clone.sync.set_remote(f"http://127.0.0.1:{free_port()}/x.git")
    fails(clone, "unreachable", operation="pull")
    assert clone.status.problems[0].message.endswith("nothing answers at its address")


def test_a_server_that_hangs_up_is_told(clone: Clone) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def hang_up() -> None:
            server.accept()[0].close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        clone.sync.set_remote(f"git://127.0.0.1:{server.getsockname()[1]}/x.git")
        fails(clone, "unreachable", operation="pull")
        thread.join(10)


# --- Full disks and damage --------------------------------------------------------------------------------


def test_a_full_disk_of_the_remote_is_told_from_one_here(tmp_path: Path, clone: Clone, remote: Path) -> None:
    with small_disk(tmp_path / "small", "1m") as disk:
        shutil.copytree(remote, disk / "remote.git")
        clone.sync.set_remote(str(disk / "remote.git"))
        fill(disk)
        fails(clone, "remote_full")
        assert clone.status.writes == "committed"
        (disk / "fill").unlink()
        assert clone.sync.push().status.state == "pushed"


def test_a_full_disk_here_is_told_also_where_not_even_the_status_can_be_kept(
    tmp_path: Path, clone: Clone, remote: Path
) -> None:
    clone.put("notes/large.md", os.urandom(400_000).hex())
    clone.sync.push()
    with small_disk(tmp_path / "small", "2m") as disk:
        small = Clone(disk / "memory", remote)
        room = fill(disk)
        status = small.status
        assert (status.kind, status.writes) == ("disk_full", "refused")
        assert "KiB are free" in status.problems[0].message
        error = failure(small.sync.pull)
        assert error.details["kind"] == "disk_full"
        status = small.status
        assert (status.state, status.kind) == ("failed", "disk_full")
        with pytest.raises(DiskFull):
            small.repo.commit([Change("notes/a.md", os.urandom(200_000), "write", "", "t", AUTHOR)])
        room.unlink()
        poll(lambda: small.status.writes == "committed", "what is seen of the disk lasts a second")
        assert small.sync.pull().status.state == "pushed"
        assert small.status.problems == ()


def test_damage_here_is_told_from_damage_at_the_remote(tmp_path: Path, clone: Clone, remote: Path) -> None:
    shutil.copytree(clone.root, tmp_path / "damaged")
    _empty_objects(tmp_path / "damaged/.git", git(clone.root, "rev-parse", f"HEAD:{PATH}").strip())
    fails_somehow = Clone(tmp_path / "damaged", None)
    with pytest.raises(AlgError):
        fails_somehow.sync.push()
    assert fails_somehow.status.kind == "corrupt_here"
    git(remote, "unpack-objects", check=False)
    _empty_objects(remote, git(remote, "rev-parse", f"main:{PATH}").strip())
    other = Clone(tmp_path / "two", remote)
    fails(other, "corrupt_remote", operation="pull")


def _empty_objects(git_dir: Path, *names: str) -> None:
    for name in names:
        path = git_dir / "objects" / name[:2] / name[2:]
        path.chmod(0o644)
        path.write_bytes(b"")


def test_a_history_that_cannot_be_read_does_not_keep_the_status_from_telling(tmp_path: Path, clone: Clone) -> None:
    head = clone.repo.head()
    assert head is not None
    _empty_objects(clone.repo.git_dir, head)
    status = look_at_sync(clone.root)
    assert (status.state, status.kind) == ("pending", "corrupt_here")
    (problem,) = status.problems
    assert "loose object" in problem.message


# --- What was, and is told of -------------------------------------------------------------------------------


def test_a_history_that_was_rewritten_is_told_with_what_keeps_the_old_one(clone: Clone, remote: Path) -> None:
    clone.sync.push()
    git(remote, "update-ref", "refs/heads/main", "main~1")
    clone.sync.pull()
    status = clone.status
    (notice,) = status.problems
    assert (status.state, notice.kind, notice.blocks) == ("pending", "history_rewritten", False)
    (rescue,) = git(clone.root, "for-each-ref", "--format=%(refname)", "refs/alg/rescue/*-remote*").split()
    assert rescue in notice.message
    clone.sync.push()
    assert [problem.kind for problem in clone.status.problems] == ["history_rewritten"]


def test_a_remote_that_was_emptied_is_told(clone: Clone, remote: Path) -> None:
    shutil.rmtree(remote)
    git(remote.parent, "init", "-q", "--bare", remote.name)
    clone.sync.pull()
    status = clone.status
    assert (status.state, [problem.kind for problem in status.problems]) == ("pending", ["remote_emptied"])
    assert status.checked is not None


def test_another_remote_is_not_taken_for_one_that_was_rewritten_or_emptied(
    tmp_path: Path, clone: Clone, remote: Path
) -> None:
    clone.sync.push()
    git(tmp_path, "clone", "-q", "--bare", str(remote), "older.git")
    clone.put("notes/2026/11/later.md", memory("later\n", number=7))
    clone.sync.push()
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "empty.git")
    for name in ("older.git", "empty.git"):
        clone.sync.set_remote(str(tmp_path / name))
        clone.sync.pull()
        assert (clone.status.state, clone.status.problems) == ("pending", ())
        clone.sync.push()
    git(tmp_path / "empty.git", "update-ref", "refs/heads/main", "main~1")
    clone.sync.pull()
    assert [problem.kind for problem in clone.status.problems] == ["history_rewritten"]


@pytest.mark.parametrize("diverged", [False, True])
@pytest.mark.parametrize(("removed", "told"), [(71, True), (39, False), (20, False)])
def test_a_pull_that_removes_most_memories_says_so_and_names_what_keeps_them(
    tmp_path: Path, clone: Clone, remote: Path, removed: int, told: bool, diverged: bool
) -> None:
    paths = [f"notes/2026/11/m-{number:08d}.md" for number in range(10, 88)]
    texts = {path: memory(f"text {path}\n", number=number) for number, path in enumerate(paths, 10)}
    for path, text in texts.items():
        (clone.root / path).parent.mkdir(parents=True, exist_ok=True)
        (clone.root / path).write_bytes(text.encode())
    clone.repo.commit([Change(path, text.encode(), "write", "", "t", AUTHOR) for path, text in texts.items()])
    clone.sync.push()
    total = len(git(clone.root, "ls-files", "notes").split())
    git(tmp_path, "clone", "-q", str(remote), "mate")
    git(tmp_path / "mate", "rm", "-q", *paths[:removed])
    git(tmp_path / "mate", "commit", "-qm", "tidy up")
    git(tmp_path / "mate", "push", "-q")
    if diverged:
        clone.put("notes/2026/11/mine.md", memory("mine\n", number=99))
        total += 1
    clone.sync.pull()
    assert not (clone.root / paths[0]).exists()
    found = [problem for problem in clone.status.problems if problem.kind == "mass_removal"]
    assert len(found) == int(told)
    for notice in found:
        assert not notice.blocks
        assert f"removed {removed} of {total} memories" in notice.message
        (rescue,) = [name for name in clone.repo.rescues() if name in notice.message]
        assert git(clone.root, "show", f"{rescue}:{paths[0]}") == texts[paths[0]]


def test_a_clock_far_off_is_told_from_the_remotes_commits_until_time_has_caught_up(
    tmp_path: Path, clone: Clone, remote: Path
) -> None:
    git(tmp_path, "clone", "-q", str(remote), "ahead")
    ahead = tmp_path / "ahead"
    git(ahead, "commit", "-q", "--allow-empty", "-m", "x", GIT_COMMITTER_DATE="2099-01-01T00:00:00Z")
    git(ahead, "push", "-q", "origin", "main")
    clone.sync.pull()
    (notice,) = clone.status.problems
    assert (notice.kind, notice.blocks) == ("clock", False)
    clone.sync.push()
    git(ahead, "pull", "-q", "--ff-only")
    git(ahead, "commit", "-q", "--allow-empty", "-m", "y")
    git(ahead, "push", "-q", "origin", "main")
    clone.sync.pull()
    assert clone.status.problems == ()
