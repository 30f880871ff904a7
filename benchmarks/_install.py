"""Other programs, each installed from its registry into an environment of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from _client import Failed

_SECONDS = 1_800
_EXTENSIONS = "import sqlite3, sys; sys.exit(not hasattr(sqlite3.connect(':memory:'), 'enable_load_extension'))"


def environment(
    folder: Path,
    requirements: Sequence[str],
    *,
    env: Mapping[str, str],
    oldest: tuple[int, int] = (3, 11),
    override: str = "",
    sqlite_extensions: bool = False,
) -> Path:
    """A virtual environment `folder/venv` with packages in it; its interpreter.

    Args:
        requirements: as uv takes them, or `-r` and a file.
        oldest: the oldest Python that they run on.
        override: requirements that take the place of what the packages ask for.
        sqlite_extensions: they load extensions into the interpreter's own SQLite, which not every Python can.

    Raises:
        Failed: no uv, no such Python, or the installation failed.
    """
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        raise Failed("uv is not installed (it is among the development requirements)")
    folder.mkdir(parents=True)
    python = folder / "venv" / "bin" / "python"
    base = _interpreter(oldest, sqlite_extensions=sqlite_extensions)
    run([uv, "venv", "--quiet", "--python", base, str(folder / "venv")], env=env)
    command = [uv, "pip", "install", "--quiet", "--python", str(python), *requirements]
    if override:
        (folder / "override.txt").write_text(override, "utf-8")
        command += ["--override", str(folder / "override.txt")]
    run(command, env=dict(os.environ))
    return python


def version(python: Path, package: str) -> str:
    """The version of an installed package."""
    code = f"from importlib import metadata; print(metadata.version({package!r}))"
    return run([str(python), "-c", code], env=dict(os.environ)).strip()


def run(command: Sequence[str], *, env: Mapping[str, str], seconds: float = _SECONDS) -> str:
    """Run a program; its stdout.

    Raises:
        Failed: it ended with another exit code than 0.
    """
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        said = "\n".join(filter(None, (done.stdout.strip()[-400:], done.stderr.strip()[-800:])))
        raise Failed(f"{Path(command[0]).name} {command[1]} ended with exit code {done.returncode}: {said}")
    return done.stdout


def _interpreter(oldest: tuple[int, int], *, sqlite_extensions: bool) -> str:
    check = _EXTENSIONS if sqlite_extensions else ""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    minors = range(16, oldest[1] - 1, -1)
    candidates = [sys.executable] if sys.version_info[:2] >= oldest else []
    for minor in minors:
        candidates += filter(None, [shutil.which(f"python3.{minor}")])
        candidates += [str(path) for path in pyenv.glob(f"3.{minor}.*/bin/python")]
        candidates += [f"/usr/bin/python3.{minor}"]
    for candidate in candidates:
        with contextlib.suppress(OSError):  # a pyenv shim stands for an interpreter that may not be there
            if subprocess.run([candidate, "-c", check], capture_output=True, check=False).returncode == 0:
                return candidate
    wanted = " whose sqlite3 loads extensions" if sqlite_extensions else ""
    raise Failed(f"it needs Python {oldest[0]}.{oldest[1]} or newer{wanted}, which was not found")
