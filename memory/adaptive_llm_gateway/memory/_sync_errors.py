"""Why a fetch or push failed, told from git's own words (git runs with LC_ALL=C)."""

from __future__ import annotations

import re
from typing import Final

from adaptive_llm_gateway.core import AlgError, SyncError
from adaptive_llm_gateway.memory._git import GitTimeout
from adaptive_llm_gateway.memory._offline import BACK

MERGE_FIRST: Final = "non_fast_forward"
REF_RACE: Final = "ref_race"

# The first that matches counts; the more particular ones come first.
_CAUSES: Final = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("protected_branch", r"protected branch|GH006|GH013|not allowed to push code to"),
        ("checked_out", r"branch is currently checked out|refusing to update checked out branch"),
        ("disk_full", r"no space left on device|disk quota exceeded"),
        (MERGE_FIRST, r"\[rejected\].*\((?:non-fast-forward|fetch first|stale info|needs force)\)"),
        (REF_RACE, r"incorrect old value|failed to update ref|is at [0-9a-f]+ but expected|reference already exists"),
        ("ref_locked", r"cannot lock ref|unable to (?:create|lock) .*\.lock|failed to lock"),
        ("hook_rejected", r"hook declined|pre-receive hook|\[remote rejected\]"),
        ("missing_branch", r"couldn't find remote ref|could not find remote ref"),
        ("host_key", r"host key verification failed|remote host identification has changed"),
        (
            "auth",
            r"authentication failed|could not read (?:username|password)|permission denied \("
            r"|invalid (?:username|credentials)"
            r"|support for password authentication was removed|returned error: 40[13]|write access to .* not granted"
            r"|terminal prompts disabled|access token",
        ),
        ("access_denied", r"access denied or repository not exported|service not enabled|permission to .* denied"),
        (
            "remote_read_only",
            r"insufficient permission for adding|read-only file system|unable to write file|unpacker error",
        ),
        ("ownership", r"dubious ownership|is owned by someone else|unsafe repository"),
        (
            "transport_refused",
            r"transport '.*' not allowed|is not a valid remote helper|unable to find remote helper",
        ),
        (
            "unreachable",
            r"could not resolve|couldn't resolve|connection (?:refused|timed out|reset|closed)|network is unreachable"
            r"|no route to host|failed to connect|unable to connect|unable to look up|operation timed out"
            r"|name or service not known|temporary failure in name resolution|ssl[_ ]|certificate|gnutls"
            r"|returned error: 5\d\d",
        ),
        (
            "remote_missing",
            r"does not appear to be a git repository|repository .*not found|returned error: 404|no such remote"
            r"|not a git repository|does not exist|no such file or directory",
        ),
        ("corrupt_incoming", r"fsck error|index-pack failed|bad object|corrupt|invalid index-pack"),
        ("unreachable", r"could not read from remote repository|remote end hung up|early eof|unexpected disconnect"),
    )
)

_HINTS: Final = {
    "protected_branch": "The remote protects this branch. Use another one, or let this user push to it.",
    "checked_out": "The remote has a work tree of its own. Use a bare repository (`git init --bare`) as the remote.",
    "disk_full": "Free some space.",
    MERGE_FIRST: "Pull, then push again.",
    REF_RACE: "Somebody pushes at the same time; try again.",
    "ref_locked": "Another git program holds the reference, or left its .lock file behind; look at git's words.",
    "hook_rejected": "A hook of the remote refuses the push; its words say why.",
    "missing_branch": "The remote has other branches only. Use one of them here, or push to create this one.",
    "host_key": "Connect once with ssh by hand and check the host's key.",
    "auth": "Set up a credential helper, a token that may write, or an ssh key; no password is asked for.",
    "access_denied": "The server does not offer this repository, or not for pushing.",
    "remote_read_only": "The remote cannot be written by the user it runs as.",
    "ownership": "The remote's folder belongs to another user; see git's safe.directory.",
    "transport_refused": "Use a path, or an ssh, https or git URL.",
    "unreachable": "Check the network; what is committed here is pushed when the remote can be reached again.",
    "remote_missing": "Check the remote's address: `git remote -v` in the memory repo.",
    "corrupt_incoming": "The remote sent what git does not accept; nothing of it was taken.",
    "timeout": "Check the network, or allow more time.",
    "no_remote": "Name one: `alg init --remote URL`.",
    "offline": f"What is committed here waits. {BACK}",
    "unrelated_histories": "The remote holds something else. Use an empty repository as the remote, or clone that one.",
    "dirty": "Commit these files, or let the hub do it, then pull again.",
    "secret_incoming": "Remove it from the remote's history, or allow it by its fingerprint, then pull again.",
    "secret_outgoing": "Remove it from the commits that wait, or allow it by its fingerprint, then push again.",
    "unsafe_incoming": "Remove these files from the remote's branch, then pull again.",
    "format_too_new": "Install a newer adaptive-llm-gateway.",
    "index_lock": "Another git program works in the memory repo; wait for it.",
    "index_lock_stale": "No git program seems to use it any more; check, then remove the lock file.",
    "busy": "Try again.",
    "unknown": "Pull when the remote can be reached again: what it has taken comes in then.",
    "not_merged": "Mend what is in the way, then pull.",
}


def cause(words: str) -> str:
    """The kind of failure that git's words speak of; `other` when they are not known."""
    return next((kind for kind, pattern in _CAUSES if pattern.search(words)), "other")


def sync_error(kind: str, message: str, *, git: str | None = None, **details: object) -> SyncError:
    """A `SyncError` with `details["kind"]`, `details["git"]` (git's words) and the hint that belongs to the kind."""
    return SyncError(message, hint=_HINTS.get(kind), kind=kind, git=git, **details)


def from_git(error: AlgError, *, operation: str, remote: str, words: str | None = None) -> SyncError:
    """A failed git command as a `SyncError`."""
    said = str(error.details.get("git") or "") if words is None else words
    kind = "timeout" if isinstance(error, GitTimeout) else cause(said)
    if error.code in ("git_missing", "disk_full", "read_only"):
        kind = error.code
    first = next((line for line in said.splitlines() if line.strip()), error.message)
    found = sync_error(kind, f"{operation} {remote!r} failed ({kind}): {first.strip()}", git=said or error.message)
    found.hint = found.hint or error.hint
    return found
