"""Telling git of the merge driver: in the settings and attributes of one clone, which are in no commit."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory._files import storage_errors
from adaptive_llm_gateway.memory._git import run_git

DriverState = Literal["absent", "ready", "no_attribute", "no_settings", "no_program"]
"""Git was not told; it was, and all is there; its attributes do not name the driver; its settings lack it, or a part
of it; what they name cannot be run."""

DRIVER: Final = "alg-memory"
_INNER: Final = f"{DRIVER}-base"  # for ancestors that git merges with each other
_LINE: Final = f"* merge={DRIVER}"
_MARKER: Final = "# adaptive-llm-gateway: merge what both sides changed as the hub does"


def install_merge_driver(root: Path, command: Sequence[str]) -> Literal["installed", "unchanged"]:
    """Have git in this clone, and in its other work trees, merge files as the hub does.

    Args:
        root: a folder of the clone.
        command: what git is to run; it gets `--keep` or `--inner`, then `%O %A %B %P` of git's manual.

    Raises:
        InvalidInput: not in the work tree of a git repository, or a command that cannot be one.
        StorageError: git failed, or its files cannot be written.
    """
    if not command or any("\0" in part or "\n" in part for part in command):
        raise InvalidInput(f"{list(command)!r} cannot be the command of a merge driver")
    top, attributes = _places(root)
    program = shlex.join(command).replace("%", "%%")
    wanted = {
        f"merge.{DRIVER}.name": "as Adaptive LLM Gateway merges memories",
        f"merge.{DRIVER}.driver": f"{program} --keep %O %A %B %P",
        f"merge.{DRIVER}.recursive": _INNER,
        f"merge.{_INNER}.name": "as Adaptive LLM Gateway merges what memories come from",
        f"merge.{_INNER}.driver": f"{program} --inner %O %A %B %P",
    }
    present = _settings(top)
    changed = False
    for key, value in wanted.items():
        if present.get(key) != value:
            run_git(["config", "--local", "--replace-all", key, value], cwd=top)
            changed = True
    if _write_lines(attributes, wanted=True):
        changed = True
    return "installed" if changed else "unchanged"


def uninstall_merge_driver(root: Path) -> Literal["removed", "unchanged"]:
    """Undo what `install_merge_driver` did; errors as there."""
    top, attributes = _places(root)
    changed = _write_lines(attributes, wanted=False)
    names = {key.rpartition(".")[0] for key in _settings(top)}
    for name in sorted(names):
        run_git(["config", "--local", "--remove-section", name], cwd=top)
    return "removed" if changed or names else "unchanged"


def look_at_merge_driver(root: Path) -> DriverState:
    """How far git in this clone has been told of the merge driver, and whether it can run it; changes nothing.

    Raises:
        InvalidInput: not in the work tree of a git repository.
        StorageError: git failed, or its files cannot be read.
    """
    top, attributes = _places(root)
    present = _settings(top)
    with storage_errors("read git's attributes"):
        lines = attributes.read_bytes().splitlines() if attributes.exists() else []
    named = _LINE.encode() in lines
    commands = [present.get(f"merge.{name}.driver") for name in (DRIVER, _INNER)]
    if not named:
        return "no_attribute" if any(commands) else "absent"
    if not all(commands) or present.get(f"merge.{DRIVER}.recursive") != _INNER:
        return "no_settings"
    return "ready" if all(_can_run(command or "") for command in commands) else "no_program"


def _can_run(command: str) -> bool:
    try:
        program = next(iter(shlex.split(command.replace("%%", "%"))), "")
    except ValueError:
        return False
    return shutil.which(program) is not None


def _places(root: Path) -> tuple[Path, Path]:
    """The work tree's top, and the file of attributes that all of its repository's work trees share."""
    if not root.is_dir():
        raise InvalidInput(f"there is no folder {str(root)!r}", hint="Name the folder of a clone.", path=str(root))
    found = run_git(
        ["rev-parse", "--show-toplevel", "--git-path", "info/attributes"], cwd=root, reading=True, check=False
    )
    lines = found.text.splitlines()
    if found.status != 0 or len(lines) != 2:
        words = "".join(f": {line}" for line in found.stderr.splitlines()[-1:])
        raise InvalidInput(
            f"{str(root)!r} is not in the work tree of a git repository{words}",
            hint="Name the folder of a clone.",
            path=str(root),
        )
    return Path(lines[0]), root / lines[1]


def _settings(top: Path) -> Mapping[str, str]:
    pattern = f"^merge\\.{DRIVER}(-base)?\\."
    listed = run_git(["config", "--local", "--null", "--get-regexp", pattern], cwd=top, reading=True, check=False)
    entries = (entry.partition("\n") for entry in listed.text.split("\0") if entry)
    return {key: value for key, _, value in entries}


def _write_lines(file: Path, *, wanted: bool) -> bool:
    """Put our lines first in the file of attributes, or take them out; a user's own lines come later and so prevail."""
    with storage_errors("read git's attributes"):
        present = file.read_bytes() if file.exists() else b""
    ours = {_MARKER.encode(), _LINE.encode()}
    rest = b"".join(line for line in present.splitlines(keepends=True) if line.rstrip(b"\r\n") not in ours)
    result = f"{_MARKER}\n{_LINE}\n".encode() + rest if wanted else rest
    if result == present:
        return False
    with storage_errors("tell git of the merge driver"):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(file.name + ".alg-new")
        with temporary.open("wb") as opened:
            opened.write(result)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    return True
