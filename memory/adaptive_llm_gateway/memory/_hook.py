"""The hooks for people who commit with plain git: of what is staged, and of the message."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory._git import run_git

_MARKER = "# adaptive-llm-gateway: secret gate"
_FOUND = 5  # the exit code of a scan that found something, which has said what to do
HookName = Literal["pre-commit", "commit-msg"]


def install_hook(
    root: Path, command: Sequence[str], name: HookName
) -> Literal["installed", "unchanged", "chained", "elsewhere"]:
    """See `MemoryRepo.install_hook`."""
    if not command or any("\0" in part or "\n" in part for part in command):
        raise InvalidInput(f"{list(command)!r} cannot be the command of a hook")
    # Asked without this project's own settings, which turn hooks off.
    elsewhere = run_git(["config", "--get", "core.hooksPath"], cwd=root, check=False, reading=True, plain=True)
    if elsewhere.status == 0 and elsewhere.text.strip():
        return "elsewhere"
    common = run_git(["rev-parse", "--git-common-dir"], cwd=root, reading=True).text.rstrip("\n")
    folder = (root / common).resolve() / "hooks"
    folder.mkdir(exist_ok=True)
    hook, kept = folder / name, folder / f"{name}.user"
    wanted = _script(command, kept.name)
    chained = False
    if os.path.lexists(hook):
        present = hook.read_bytes() if hook.is_file() else b""
        if present == wanted.encode():
            return "unchanged"
        if _MARKER.encode() not in present:
            if os.path.lexists(kept):
                raise InvalidInput(
                    f"the hook {str(hook)!r} cannot be kept: {kept.name!r} beside it exists already",
                    hint="Rename one of the two.",
                    path=str(hook),
                )
            hook.rename(kept)
            chained = True
    temporary = folder / f"{name}.alg-new"
    temporary.write_text(wanted, encoding="utf-8", newline="\n")
    temporary.chmod(0o755)
    temporary.replace(hook)
    return "chained" if chained else "installed"


def _script(command: Sequence[str], kept: str) -> str:
    program = shlex.quote(command[0])
    return f"""#!/bin/sh
{_MARKER}
# Keeps credentials out of commits made with plain git. A hook that was here before is in {kept} and runs first.
kept="$(dirname "$0")/{kept}"
if [ -x "$kept" ]; then
    "$kept" "$@" || exit $?
fi
if ! command -v {program} >/dev/null 2>&1; then
    echo "error: not committed: adaptive-llm-gateway is gone from" {program} "and cannot look for secrets" >&2
    echo "hint: install it again (alg init writes this hook anew), or remove this hook: $0" >&2
    echo "hint: git commit --no-verify commits without a look, this once; a hub still looks before it pushes" >&2
    exit 1
fi
{shlex.join(command)} "$@"
status=$?
if [ $status -ne 0 ] && [ $status -ne {_FOUND} ]; then
    echo "error: not committed: the look for secrets did not come to an end (exit code $status)" >&2
    echo "hint: if it cannot be mended (alg doctor), install adaptive-llm-gateway again or remove this hook: $0" >&2
    echo "hint: git commit --no-verify commits without a look, this once; a hub still looks before it pushes" >&2
fi
exit $status
"""
