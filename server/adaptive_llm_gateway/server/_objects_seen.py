"""What a look through git's objects found, to tell; and the process that looks, a slice at a time (`_object_scan`)."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from adaptive_llm_gateway.core import ALLOWANCES_FILE, AlgError, SecretScanner, counted, load_agreed

if TYPE_CHECKING:  # git and SQLite would come along before the hub can answer
    from adaptive_llm_gateway.memory import ObjectWatch
    from adaptive_llm_gateway.server._repos import RepoInfo

Json = dict[str, Any]

NEXT_STEP: Final = "`alg secrets scan --history` shows each, and what to consider"
_STATE: Final = "objects-seen.db"
_SHOWN: Final = 20


def state_of(repo: RepoInfo) -> Path:
    """The file that remembers what was looked at: beside the repo's index."""
    return repo.index.with_name(_STATE)


def seen_json(repo: RepoInfo) -> Json | None:
    """What was found in a repo's objects, without what is allowed; None where nobody has looked yet."""
    from adaptive_llm_gateway.memory import look_at_objects  # noqa: PLC0415

    seen = look_at_objects(state_of(repo), repo.path)
    if seen is None:
        return None
    allowed: frozenset[str] = frozenset()
    if seen.findings:
        with contextlib.suppress(AlgError):  # the store's notices say what is wrong with the file
            allowed = SecretScanner(allowed=load_agreed(repo.path / ALLOWANCES_FILE)).allowed
    secrets: dict[str, Json] = {}
    for found in seen.findings:
        if found.fingerprint in allowed:
            continue
        secret = secrets.setdefault(found.fingerprint, {**asdict(found), "objects": 0})
        secret["objects"] += 1
        if found.commit and not secret["commit"]:  # better than nowhere
            secret |= {"object": found.object, "commit": found.commit, "path": found.path}
    return {
        "repo": repo.name,
        "path": str(repo.path),
        "complete": seen.complete,
        "seen": seen.seen,
        "unread": seen.unread,
        "secrets": len(secrets),
        "findings": list(secrets.values())[:_SHOWN],
    }


def seen_text(seen: Json) -> str:
    """What was found in a repo's objects, in a sentence."""
    first: Json = seen["findings"][0]
    where = f"{first['path']}, commit {first['commit'][:12]}" if first["commit"] else "no commit that a branch has"
    such = "what looks like a secret" if seen["secrets"] == 1 else f"{seen['secrets']:,} things that look like secrets"
    named = f"a {first['kind']} ({first['preview']}, fingerprint {first['fingerprint']}) in {where}"
    return f"git's objects in {seen['path']!r} have {such}: {named}" + (", and others" if seen["secrets"] > 1 else "")


def serve_slices(repo: str, state: str) -> int:
    """Be the other process: look through a repo's objects for as many seconds as each line on stdin says.

    Answers each with a line of JSON, and ends with stdin, or with the first error.
    """
    from adaptive_llm_gateway.memory import ObjectWatch  # noqa: PLC0415

    with contextlib.suppress(OSError):
        os.nice(19)
    watch: ObjectWatch | None = None
    try:
        for line in sys.stdin.buffer:
            try:
                watch = watch or ObjectWatch(Path(repo), Path(state))
                done: Json = asdict(watch.step(float(line)))
            except AlgError as error:
                done = {"error": error.message}
            sys.stdout.write(json.dumps(done) + "\n")
            sys.stdout.flush()
            if "error" in done:
                return 1
    except BrokenPipeError:
        return 1
    finally:
        if watch is not None:
            watch.close()
    return 0


def objects_lines(told: Sequence[Json]) -> list[str]:
    """For a status: a line for each repo that has something, or that could not be looked through whole."""
    lines: list[str] = []
    for seen in told:
        if seen["secrets"]:
            lines.append(f"{seen_text(seen)}; {NEXT_STEP}")
        if seen["unread"]:
            lines.append(f"{counted(seen['unread'], 'git object')} in {seen['path']!r} could not be looked through")
    return lines
