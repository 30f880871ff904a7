"""What a pull or push over ssh is told of, and that nobody is ever asked: by an ssh server, and by a program in the
place of ssh that says what OpenSSH 9.2p1 and git 2.39 were seen to say.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from sync_made import PATH, WAIT, Clone, failure, free_port, git, hook, memory, poll

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ssh and its server are set up as on Unix")

CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /home/anna/.ssh/known_hosts:1
  remove with:
  ssh-keygen -f "/home/anna/.ssh/known_hosts" -R "git.example.org"
Host key for git.example.org has changed and you have requested strict checking.
Host key verification failed."""
TOO_OPEN = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Permissions 0644 for '/home/anna/.ssh/id_ed25519' are too open.
Load key "/home/anna/.ssh/id_ed25519": bad permissions
git@git.example.org: Permission denied (publickey)."""
BANNER = "*****\nAuthorized users only.\n*****\n"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare", "remote.git")
    return tmp_path / "remote.git"


@pytest.fixture
def clone(tmp_path: Path, remote: Path) -> Clone:
    """One that has pushed, and has one more commit to push."""
    found = Clone(tmp_path / "one", remote)
    found.put(PATH, memory("x\n"))
    found.sync.push()
    found.put(PATH, memory("y\n"))
    return found


# --- The words --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind", "first", "hint"),
    [
        ("git@host: Permission denied (publickey).", "auth", "git@host: Permission denied (publickey).", "ssh-agent"),
        (
            f"{BANNER}git@host: Permission denied (publickey,password).",
            "auth",
            "git@host: Permission denied (publickey,password).",
            "ssh-agent",
        ),
        (
            "Warning: Permanently added 'host' (ED25519) to the list of known hosts.\n"
            "git@host: Permission denied (publickey).",
            "auth",
            "git@host: Permission denied (publickey).",
            "ssh-agent",
        ),
        (
            "no such identity: /home/anna/key: No such file or directory\ngit@host: Permission denied (publickey).",
            "auth",
            "git@host: Permission denied (publickey).",
            "ssh-agent",
        ),
        (TOO_OPEN, "auth", "WARNING: UNPROTECTED PRIVATE KEY FILE!", "chmod 600"),
        (CHANGED, "host_key", "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!", "owner"),
        ("Host key verification failed.", "host_key", "Host key verification failed.", "Connect once"),
        (
            "Unable to negotiate with 192.0.2.1 port 22: no matching key exchange method found. Their offer: x",
            "host_key",
            "Unable to negotiate with 192.0.2.1 port 22: no matching key exchange method found. Their offer: x",
            "up to date",
        ),
        (
            "/home/anna/.ssh/config: line 5: Bad configuration option: foobar\n"
            "/home/anna/.ssh/config: terminating, 1 bad configuration options",
            "ssh_setup",
            "/home/anna/.ssh/config: line 5: Bad configuration option: foobar",
            "name the file",
        ),
        (
            "Bad owner or permissions on /home/anna/.ssh/config",
            "ssh_setup",
            "Bad owner or permissions on /home/anna/.ssh/config",
            "name the file",
        ),
        (
            "bash: line 1: git-upload-pack: command not found",
            "server_error",
            "bash: line 1: git-upload-pack: command not found",
            "not installed at the server",
        ),
        (
            "FATAL: R any memory anna DENIED by fallthru\n(or you mis-spelled the reponame)",
            "access_denied",
            "FATAL: R any memory anna DENIED by fallthru",
            "ask its owner",
        ),
        ("ERROR: Something of which nobody has heard", "access_denied", "ERROR: Something of", "ask its owner"),
        (
            "kex_exchange_identification: Connection closed by remote host\nConnection closed by 192.0.2.1 port 22",
            "unreachable",
            "the connection was cut",
            "network",
        ),
    ],
)
def test_the_reason_comes_first_and_the_next_step_is_of_that_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clone: Clone, said: str, kind: str, first: str, hint: str
) -> None:
    words = tmp_path / "words"
    words.write_text(f"{said}\n", encoding="utf-8")
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\ncat {shlex.quote(str(words))} >&2\nexit 255\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", shlex.quote(str(program)))
    clone.sync.set_remote("ssh://git@host/x.git")
    error = failure(clone.sync.pull)
    assert error.details["kind"] == kind
    assert f"failed ({kind}): {first}" in error.message
    assert hint in (error.hint or "")
    shown = str(error.details["git"])
    assert shown.endswith("fatal: Could not read from remote repository.")
    assert "ssh-keygen" not in shown  # a command that takes a known key away
    assert "@@@" not in shown
    assert (clone.status.kind, clone.status.hint) == (kind, error.hint)


def test_a_server_that_writes_a_welcome_where_git_should_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clone: Clone
) -> None:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\necho This account is currently not available.\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("GIT_SSH_COMMAND", shlex.quote(str(program)))
    clone.sync.set_remote("ssh://git@host/x.git")
    error = failure(clone.sync.pull)
    assert error.details["kind"] == "server_error"
    assert "login script" in (error.hint or "")


def test_an_ssh_program_that_is_not_there_is_no_missing_remote(monkeypatch: pytest.MonkeyPatch, clone: Clone) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "no-such-ssh")
    clone.sync.set_remote("git@host:x.git")
    error = failure(clone.sync.pull)
    assert error.details["kind"] == "ssh_setup"
    assert "no-such-ssh" in error.message


# --- A server ----------------------------------------------------------------------------------------


@dataclass
class Sshd:
    """An ssh server on a loopback port, and what a user has to get in.

    Attributes:
        base: the beginning of its addresses.
        folder: what the server reads: `host` is its key, `other` one that it does not have, `authorized` who may in.
        home: a folder with `key`, `config` and `known_hosts` of the user.
    """

    folder: Path
    home: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def base(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def allow(self, options: str = "") -> None:
        """Let the user's key in, with these options of `authorized_keys`."""
        key = (self.home / "key.pub").read_text(encoding="utf-8")
        (self.folder / "authorized").write_text(f"{options} {key}".lstrip(), encoding="utf-8")

    def know(self, key: str = "host") -> None:
        """Have the user know the host by this key."""
        name, value, *_ = (self.folder / f"{key}.pub").read_text(encoding="utf-8").split()
        (self.home / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {name} {value}\n", encoding="utf-8")

    def run(self, command: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command there as the user, without git."""
        return subprocess.run(
            ["ssh", "-F", str(self.home / "config"), "-p", str(self.port), f"{getpass.getuser()}@127.0.0.1", command],
            capture_output=True,
            input=given,
            check=False,
            timeout=WAIT,
        )

    def sessions(self) -> list[int]:
        """The processes that serve a connection, and what they run."""
        pairs = parents()
        found = [pid for pid, parent in pairs if parent == self.process.pid]
        return found + [pid for pid, parent in pairs if parent in found]

    def end(self) -> None:
        for pid in (self.process.pid, *self.sessions()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.process.terminate()
        self.process.wait(WAIT)


def parents() -> list[tuple[int, int]]:
    """Every process of this machine, with its parent."""
    if not Path("/proc/self/stat").exists():
        said = subprocess.run(["ps", "-o", "pid=,ppid=", "-A"], capture_output=True, check=True, timeout=WAIT).stdout
        return [(int(pid), int(parent)) for pid, parent in map(bytes.split, said.splitlines())]
    found: list[tuple[int, int]] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            found.append((int(path.parent.name), int(path.read_bytes().rpartition(b")")[2].split()[1])))
    return found


def keygen(path: Path, passphrase: str = "") -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True, timeout=WAIT)


def listening(port: int) -> bool:
    with socket.socket() as there:
        return there.connect_ex(("127.0.0.1", port)) == 0


def openssh(folder: Path, port: int) -> list[str] | None:
    """The command of the machine's own server, where it has one."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    program = shutil.which("sshd", path=places)
    if program is None:
        return None
    settings = (
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin yes\nUsePAM no\n"
    )
    (folder / "config").write_text(settings, encoding="utf-8")
    return [program, "-D", "-e", "-f", str(folder / "config")]


def stand_in(folder: Path, port: int) -> list[str] | None:
    """The command of the server that the development requirements bring a library for."""
    if importlib.util.find_spec("asyncssh") is None:
        return None
    program = Path(__file__).with_name("ssh_server.py")
    return [sys.executable, str(program), str(port), str(folder / "host"), str(folder / "authorized")]


def no_server(reason: str) -> NoReturn:
    if os.environ.get("ALG_REQUIRE_SSHD") == "1":
        pytest.fail(f"ALG_REQUIRE_SSHD is set, but {reason}")
    pytest.skip(reason)


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    """OpenSSH's server where there is one that lets this user in, and else one of our own."""
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("an ssh client is not installed")
    folder, home = tmp_path / "sshd", tmp_path / "ssh"
    folder.mkdir()
    home.mkdir()
    for path in (folder / "host", folder / "other", home / "key"):
        keygen(path)
    options = f"IdentityFile {home}/key\nIdentitiesOnly yes\nUserKnownHostsFile {home}/known_hosts\n"
    (home / "config").write_text(options, encoding="utf-8")
    monkeypatch.setenv("GIT_SSH_COMMAND", f"ssh -F {shlex.quote(str(home / 'config'))}")
    reason = "no ssh server is installed: `make test` installs what stands in for one"
    for command_of in (openssh, stand_in):
        port = free_port()
        command = command_of(folder, port)
        if command is None:
            continue
        with (folder / "log").open("ab") as log:
            server = Sshd(folder, home, port, subprocess.Popen(command, stderr=log))
        try:
            server.allow()
            server.know()
            poll(lambda server=server: server.process.poll() is not None or listening(server.port), "an ssh server")
            if (probe := server.run("true")).returncode == 0:
                yield server
                return
            log_of_it = (folder / "log").read_text(encoding="utf-8", errors="replace")[-1_000:]
            reason = f"no ssh server lets this user in: {probe.stderr.decode()[-200:]}; {log_of_it}"
        finally:
            server.end()
    no_server(reason)


def test_a_server_passes_on_what_goes_in_what_comes_out_and_how_it_ended(sshd: Sshd) -> None:
    """So that what is shown here holds with OpenSSH's server and with the one that stands in for it."""
    much = os.urandom(1 << 20)
    done = sshd.run("cat; echo aside >&2; exit 7", much)
    assert (done.stdout, done.stderr, done.returncode) == (much, b"aside\n", 7)
    assert sshd.run("exec true", much).returncode == 0
    sshd.allow('command="echo instead",expiry-time="29991231"')
    assert sshd.run("cat", much).stdout == b"instead\n"
    sshd.allow('command="echo instead",expiry-time="20200101"')
    assert sshd.run("cat", much).returncode == 255


def test_over_ssh_everything_goes_as_over_any_transport(tmp_path: Path, clone: Clone, remote: Path, sshd: Sshd) -> None:
    clone.sync.set_remote(sshd.base + str(remote))
    assert clone.sync.push().status.state == "pushed"
    other = Clone(tmp_path / "two", sshd.base + str(remote))
    other.sync.pull()
    assert other.text(PATH) == memory("y\n")


def test_what_keeps_a_user_out_is_told_and_nobody_is_asked(clone: Clone, remote: Path, sshd: Sshd) -> None:
    clone.sync.set_remote(sshd.base + str(remote))
    (sshd.folder / "authorized").write_text("", encoding="utf-8")
    assert kind_of_failure(clone) == "auth"
    sshd.allow('expiry-time="20200101"')
    assert kind_of_failure(clone) == "auth"
    sshd.allow()
    (sshd.home / "key").unlink()
    keygen(sshd.home / "key.locked", "a passphrase")
    (sshd.home / "key.locked").rename(sshd.home / "key")
    (sshd.home / "key.locked.pub").rename(sshd.home / "key.pub")
    sshd.allow()
    error = failure(clone.sync.pull)  # a passphrase would be asked for
    assert (error.details["kind"], "ssh-agent" in (error.hint or "")) == ("auth", True)
    (sshd.home / "known_hosts").unlink()
    assert kind_of_failure(clone) == "host_key"
    sshd.know("other")
    error = failure(clone.sync.pull)
    assert error.details["kind"] == "host_key"
    assert "HAS CHANGED" in error.message
    assert "somebody else may be answering" in (error.hint or "")


def test_what_there_is_at_the_server_is_told(clone: Clone, remote: Path, sshd: Sshd) -> None:
    clone.sync.set_remote(sshd.base + str(remote) + ".not")
    assert kind_of_failure(clone) == "remote_missing"
    clone.sync.set_remote(sshd.base + str(remote))
    sshd.allow('command="PATH=/nowhere; git-upload-pack x"')
    assert kind_of_failure(clone) == "server_error"
    sshd.allow('command="echo welcome"')
    assert kind_of_failure(clone) == "server_error"
    sshd.allow("command=\"echo 'ERROR: Your account is suspended.' >&2; exit 1\"")
    assert kind_of_failure(clone) == "access_denied"
    sshd.allow()
    assert clone.sync.push().status.state == "pushed"
    assert clone.status.problems == ()


def test_a_server_that_stands_still_or_is_killed_ends_an_attempt(
    tmp_path: Path, clone: Clone, remote: Path, sshd: Sshd
) -> None:
    impatient = Clone(clone.root, sshd.base + str(remote), timeout=1.0)
    os.kill(sshd.process.pid, signal.SIGSTOP)
    assert kind_of_failure(impatient) == "timeout"
    os.kill(sshd.process.pid, signal.SIGCONT)
    reached = tmp_path / "reached"
    hook(remote, "pre-receive", f"echo $$ > {reached}.new; mv {reached}.new {reached}; exec sleep 600")
    with ThreadPoolExecutor(1) as other:
        pushing = other.submit(failure, clone.sync.push)
        hooked = int(poll(lambda: reached.exists() and reached.read_text(encoding="utf-8"), "the hook"))
        for pid in sshd.sessions():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        error = pushing.result(WAIT)
    os.kill(hooked, signal.SIGKILL)
    assert error.details["kind"] == "unreachable"
    assert error.message.endswith("the connection was cut")
    hook(remote, "pre-receive", "exit 0")
    assert clone.sync.push().status.state == "pushed"


def kind_of_failure(clone: Clone) -> object:
    error = failure(clone.sync.pull)
    assert clone.status.kind == error.details["kind"]
    return error.details["kind"]
