"""What is looked at before anything is merged or pushed: secrets, and files that must not come into the work tree."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pygit2

from adaptive_llm_gateway.core import FormatTooNew, SecretRefused, UnsafePath
from adaptive_llm_gateway.memory._git import run_git
from adaptive_llm_gateway.memory._merge import Entry
from adaptive_llm_gateway.memory._merge_places import folded
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_checks import FORMAT_PATH, check_format, check_path
from adaptive_llm_gateway.memory._sync_errors import sync_error
from adaptive_llm_gateway.memory._tree_diff import Side, is_file
from adaptive_llm_gateway.memory._values import SyncKind


class SecretCheck:
    """Scans what commits bring; what was found clean is not scanned again.

    Args:
        scan: given a path and its content, raises `SecretRefused` for credentials.
        timeout: seconds for listing the commits' objects.
    """

    def __init__(self, repo: MemoryRepo, scan: Callable[[str, bytes], None], *, timeout: float) -> None:
        self._repo, self._scan, self._timeout = repo, scan, timeout
        self._clean: set[str] = set()

    def check(self, commit: str, exclude: list[str], kind: SyncKind) -> None:
        """Scan every file and message that `commit` brings beside those of `exclude` (arguments of `git rev-list`).

        Raises:
            SyncError: of this `kind`, at the first secret.
        """
        listed = run_git(
            ["rev-list", "--objects", commit, *exclude], cwd=self._repo.path, reading=True, timeout=self._timeout
        )
        git = self._repo.thread_repo
        for line in listed.stdout.splitlines():
            name, _, path = line.decode("utf-8", "surrogateescape").partition(" ")
            if name in self._clean:
                continue
            found: Any = git[name]
            where = path or f"the message of commit {name[:12]}"
            try:
                if isinstance(found, pygit2.Blob):
                    self._scan(path, found.data)
                elif isinstance(found, pygit2.Commit):
                    self._scan(f"commit {name[:12]}", found.message.encode("utf-8", "replace"))
            except SecretRefused as error:
                raise sync_error(
                    kind,
                    f"{where!r} has what looks like a credential: {error.message}",
                    path=path,
                    findings=error.details.get("findings"),
                ) from error
            self._clean.add(name)


def check_incoming(repo: MemoryRepo, theirs: Side, ours: Side, our_files: dict[str, str]) -> None:
    """Refuse what must not come into the working tree, before anything is merged."""
    incoming = {
        path: new for path, (_, new) in theirs.items() if new is not None and ours.get(path, (None, None))[1] != new
    }
    problems: dict[str, str] = {}
    for path, entry in incoming.items():
        problem = _problem(path, entry)
        if problem:
            problems[path] = problem
    gone = {path for path, (_, new) in theirs.items() if new is None}
    # What is new on our side alone is none of theirs; where it meets a file of theirs, the merge keeps both.
    gone |= {path for path, (old, _) in ours.items() if old is None and path not in theirs}
    names: dict[str, str] = {}
    for path in [*(path for path in our_files if path not in gone), *sorted(incoming)]:
        other = names.setdefault(folded(path), path)
        if other != path and (path in incoming or other in incoming):
            problems[path] = f"cannot be told from {other!r} on every file system"
    attributes = incoming.get(".gitattributes")
    if attributes and re.search(rb"(?m)^[^#\n]*\sfilter=", repo.read_blob(attributes.blob)):
        problems[".gitattributes"] = "sets a filter"
    if problems:
        path, problem = next(iter(sorted(problems.items())))
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise sync_error(
            "unsafe_incoming",
            f"the remote has a file that cannot be taken: {path!r} {problem}{more}; nothing was merged",
            paths=dict(sorted(problems.items())),
        )
    marker = incoming.get(FORMAT_PATH)
    try:
        check_format(repo.read_blob(marker.blob) if marker else None, where="the remote")
    except FormatTooNew as error:
        raise sync_error("format_too_new", error.message, **error.details) from error


def _problem(path: str, entry: Entry) -> str | None:
    if not is_file(entry):
        return "is a symbolic link" if entry.mode == 0o120000 else "is not a regular file"
    try:
        path.encode("utf-8")
        check_path(path)
    except (UnicodeEncodeError, UnsafePath):
        return "is not a safe path"
    return None
