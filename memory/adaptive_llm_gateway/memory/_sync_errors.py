"""Why a fetch or push failed, told from git's own words (git runs with LC_ALL=C), and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

from adaptive_llm_gateway.core import AlgError, SyncError
from adaptive_llm_gateway.memory._git import GitTimeout
from adaptive_llm_gateway.memory._offline import BACK
from adaptive_llm_gateway.memory._values import KIND_NAMES, SyncKind

MERGE_FIRST: Final = "non_fast_forward"
REF_RACE: Final = "ref_race"
REF_LOCKED: Final = "ref_locked"
RACES: Final = frozenset[SyncKind]({MERGE_FIRST, REF_RACE, REF_LOCKED})
"""The remote's branch moved first, or somebody is about to move it: to be tried again at once."""

_MOST_LINES, _MOST_CHARACTERS = 20, 2_000
_LONGEST_SAID: Final = 300  # of git's words, in a message

# What a line of git's words comes from: the other side, or git here.
_Side = Literal["remote", "here", "any"]
_REMOTE_LINE: Final = re.compile(r"remote:|!|error: (?:remote )?unpack failed|error: RPC failed", re.IGNORECASE)

_NO_ANSWER: Final = "could not read from remote repository"

# The first that matches counts; the more particular ones come first. The words of hosts that cannot be had on one
# machine are from their documentation, their sources and what people report (tests/memory/test_sync_words.py).
_TABLE: Final[tuple[tuple[SyncKind, _Side, str], ...]] = (
    (
        "identity_rejected",
        "remote",
        r"GH007|e-?mail privacy|private e-?mail|(?:author|committer)(?:'s)? e-?mail|is not a member of team"
        r"|e-?mail address .*(?:not registered|not verified|does not)|cannot push commits for"
        r"|can only push commits|unverified e-?mail|invalid (?:author|committer)|forge (?:author|committer)"
        r"|committer verification",
    ),
    (
        "remote_full",
        "remote",
        r"repository has exceeded its size limit|repository would cause it to exceed the size limit",
    ),
    (
        "too_large",
        "any",  # GH001 may be a warning, too, beside another reason
        r"error: GH001|exceeds? .*(?:file )?size limit|exceeding the size limit|exceeds? the [\d.]+ ?\w+ limit"
        r"|pack exceeds maximum allowed size|object too large|returned error: 413",
    ),
    (
        "remote_full",
        "remote",
        r"no space left|quota exceeded|over (?:its|your) (?:\w+ )?quota|size quota|over [\d.]+ ?\w+ size limit"
        r"|(?:repository|storage) (?:size|storage)? ?limit|the limit is \d+ bytes",
    ),
    ("disk_full", "here", r"no space left on device|disk quota exceeded|file too large"),
    ("hook_rejected", "remote", r"push cannot contain secrets|push protection|VS403654"),
    (
        "protected_branch",
        "any",
        r"protected branch|GH006|GH013|branch is protected|TF402455|denied to update branch"
        r"|permission to push to this branch|must be made through a pull request|use a pull request"
        r"|only be modified through pull requests"
        r"|not permitted: (?:update|create)",
    ),
    ("checked_out", "any", r"branch is currently checked out|refusing to update checked out branch"),
    (MERGE_FIRST, "any", r"\[rejected\].*\((?:non-fast-forward|fetch first|stale info|needs force)\)"),
    (REF_LOCKED, "any", r"\.lock'?: file exists"),
    (
        REF_RACE,
        "any",
        r"incorrect old value|failed to update ref|is at [0-9a-f]+ but expected|reference already exists",
    ),
    (REF_LOCKED, "any", r"cannot lock ref|unable to (?:create|lock) .*\.lock|failed to lock"),
    (
        "remote_read_only",
        "any",
        r"archived so it is read-only|repo(?:sitory)?(?:: \S+)? is archived|an archived project|temporarily read-only"
        r"|restricted to read-only access|read-only (?:gitlab|mirror|instance)|mirror repository .*is read-only"
        r"|read[- ]only mode",
    ),
    (
        "remote_read_only",
        "remote",
        r"insufficient permission for adding|read-only file system|unable to write|unable to create temporary",
    ),
    (
        "ssh_setup",
        "here",
        r"bad configuration option|bad owner or permissions on|terminating, \d+ bad configuration"
        r"|can't open user config file|cannot run \S+: no such file|\bssh: (?:command )?not found"
        r"|command not found: ssh|ssh variant '.*' does not support",
    ),
    (
        "auth",
        "any",
        r"authentication failed|HTTP Basic: Access denied|could not read (?:username|password)"
        r"|permission denied \(|invalid (?:username|credentials)|too many authentication failures"
        r"|support for password authentication was removed|returned error: 401|terminal prompts disabled"
        r"|SAML SSO|valid SSO session|EPOLICYKEYAGE|your SSH key has expired|[RD]SA key\b.*which is no longer allowed"
        r"|\bapp passwords?\b",
    ),
    ("certificate", "here", r"certificate|\bCAfile\b|handshake"),
    ("host_key", "here", r"unable to negotiate with"),
    (
        "proxy",
        "here",
        r"could not resolve proxy|from proxy|CONNECT tunnel failed|proxy CONNECT|returned error: 407",
    ),
    (
        "rate_limited",
        "any",
        r"returned error: 429|rate limit|was rate-limited|too many requests|requested too many times",
    ),
    ("server_error", "here", r"returned error: 5\d\d|bad line length character"),
    ("server_error", "remote", r"HTTP 5\d\d|fatal error in commit_refs"),
    (
        "server_error",
        "any",
        r"internal server error|git-(?:upload|receive)-pack'?:? (?:command )?(?:not found|is not recognized)"
        r"|command not found: git-",
    ),
    (
        "access_denied",
        "any",
        r"permission to .* denied|write access to .* not granted|not allowed to push code|denied for writing"
        r"|TF401027|marked as read only|access denied|repository not exported|service not enabled|returned error: 403"
        r"|HTTP 403|is not authorized to (?:read|write)|(?:gitea|forgejo): unauthorized|(?-i:DENIED by)"
        r"|not have write access|TF400813|not allowed to (?:up|down)load code|ip allow list"
        r"|(?:pulling|pushing|git access) over \w+ is not allowed"
        r"|account (?:is|was|has been) (?:suspended|blocked|deactivated|disabled)|push to create is not enabled",
    ),
    ("ownership", "any", r"dubious ownership|is owned by someone else|not owned by|unsafe repository"),
    (
        "corrupt_here",
        "here",
        r"object file (?:/|\.git/)\S+ is empty|stored in (?:/|\.git/)\S+\) is corrupt|missing blob|missing tree"
        r"|(?:unable to|could not) read [0-9a-f]{40}|failed to traverse parents|unable to parse object"
        r"|failed to parse loose object|corrupted loose|object not found - no match|inflate error",
    ),
    ("corrupt_remote", "any", r"object file .* is empty|loose object .* is corrupt|bad object|bad tree object"),
    ("remote_read_only", "remote", r"unpacker error"),
    ("hook_rejected", "any", r"hook declined|pre-receive hook|\[remote rejected\]"),
    ("missing_branch", "any", r"couldn't find remote ref|could not find remote ref"),
    ("host_key", "here", r"host key verification failed|remote host identification has changed|no hostkey alg"),
    (
        "transport_refused",
        "here",
        r"transport '.*' not allowed|is not a valid remote helper|unable to find remote helper",
    ),
    ("remote_moved", "here", r"unable to update url base from redirection|returned error: 30\d"),
    (
        "unreachable",
        "here",
        r"could not resolve|couldn't resolve|connection (?:refused|timed out|reset|closed)|network is unreachable"
        r"|no route to host|host is down|failed to connect|unable to connect|unable to look up|operation timed out"
        r"|name or service not known|temporary failure in name resolution|SSL_|SSL connect|gnutls|empty reply",
    ),
    (
        "remote_missing",
        "any",
        r"does not appear to be a git repository|repository .*not found|returned error: 404|no such remote"
        r"|not a git repository|no such repository|is this a git repository|does not exist|cannot find repository"
        r"|could not be found or you don't have permission|no longer exists in|returned error: 410"
        r"|no such file or directory",
    ),
    ("read_only", "here", r"read-only file system|unable to create temporary file|insufficient permission for"),
    ("corrupt_incoming", "here", r"fsck error|index-pack failed|invalid index-pack|bad pack header|badly formed"),
    # Whatever else a host says in the place of an answer: it was reached, and has refused.
    (
        "access_denied",
        "any",
        rf"(?:^|\n)(?-i:ERROR|FATAL|Git[a-z]+|Gogs|Forgejo|conq|remote): (?!INFO)(?s:.*){_NO_ANSWER}",
    ),
    (
        "unreachable",
        "any",
        rf"{_NO_ANSWER}|remote end hung up|early eof|unexpected disconnect"
        r"|transfer closed|expected flush|RPC failed|broken pipe|unable to write request|protocol error",
    ),
)
_CAUSES: Final[list[tuple[SyncKind, _Side, re.Pattern[str]]]] = [
    (kind, side, re.compile(pattern, re.IGNORECASE)) for kind, side, pattern in _TABLE
]

_HINTS: Final[dict[SyncKind, str]] = {
    "disk_full": "Free some space on this machine.",
    "read_only": "Make the memory repo writable for this user.",
    "corrupt_here": "Have `git fsck` look at the memory repo; a fresh clone of the remote has what was pushed.",
    "repo_busy": "Finish it, or have git abort it; `git status` in the memory repo says how.",
    "detached_head": "Switch to a branch with git, then everything goes on.",
    "git_missing": "Install git 2.30 or newer and put it on PATH.",
    "ownership": "The folder belongs to another user; see git's safe.directory.",
    "no_remote": "Name one: `alg init --remote URL`.",
    "transport_refused": "Use a path, or an ssh, https or git URL.",
    "ssh_setup": "Mend it: git's words name the file, or the program that it looks for (core.sshCommand, GIT_SSH).",
    "secret_outgoing": "Remove it from the commits that wait, or have the person at this machine allow its "
    "fingerprint, then push again.",
    "trust_outgoing": "Allow the remote a higher level, if it may have them. Else take them out of the commits that "
    "wait, as docs/several-repos.md says: history keeps what a later commit changes.",
    "pull_only": "Pull from it. What was edited here by hand stays here; bring it to somebody who may push.",
    "dirty": "Commit these files, or let the hub do it, then pull again.",
    "unrelated_histories": "The remote holds something else. Use an empty repository as the remote, or clone that one.",
    "shallow_clone": "Fetch the whole history with git (`git fetch --unshallow`), then pull again.",
    "format_too_new": "Install a newer adaptive-llm-gateway.",
    "unsafe_incoming": "Look at these files in a clone of the remote, and mend them there.",
    "corrupt_incoming": "The remote sent what git does not accept; nothing of it was taken.",
    "not_merged": "Mend what is in the way, then pull.",
    "auth": "Set up a credential helper, a token that may write, or an ssh key; no password is asked for.",
    "host_key": "Connect once with ssh by hand and check the host's key.",
    "certificate": "Look at the server's certificate and this machine's clock; http.sslCAInfo names git authorities.",
    "proxy": "Look at git's http.proxy and the environment's https_proxy.",
    "access_denied": "The server does not let this user in, or has nothing at this address: check the address, then "
    "ask its owner for the right to read and write.",
    "identity_rejected": "Set git's user.name and user.email to what the remote accepts, for what is written from now "
    "on; its owner can let the commits in that wait.",
    "protected_branch": "The remote protects this branch: git's words say how. Use another one, or have its owner let "
    "this user push to it.",
    "too_large": "The remote takes nothing as large: its owner can raise the limit.",
    "hook_rejected": "A hook of the remote refuses the push; its words say why.",
    "checked_out": "The remote has a work tree of its own. Use a bare repository as the remote (`git init --bare -b "
    "main`).",
    "remote_read_only": "The remote cannot be written now: archived, a mirror, full, or not its user's. Ask its owner.",
    "remote_full": "The remote has no room left: its owner has to make some.",
    "corrupt_remote": "The remote is damaged: its owner has to mend it. Everything that was pulled is here.",
    "remote_missing": "Check the remote's address (`sync.remote`, or its entry in `repos`; `alg init --remote URL` "
    "sets the first). A server may also say so of a repository that this user must not see.",
    "remote_moved": "Give the new address: `alg init --remote URL`.",
    "missing_branch": "The remote has other branches only. Push to create this one (`alg memory push`), or have the "
    "memory repo use one of those (`git branch -m` there): the branch that it is on counts, and `branch` of an "
    "entry in `repos`.",
    "index_lock": "Another git program works in the memory repo; wait for it.",
    "index_lock_stale": "Whatever held it is gone. Everything goes on, but for git's own view of what is staged: look "
    "that no git program works in the memory repo, then remove the lock file.",
    REF_LOCKED: "Another git program holds the reference, or left its .lock file behind; look at git's words.",
    "unreachable": "Check the network; what is committed here is pushed when the remote can be reached again.",
    "timeout": "Check the network, or allow more time (`sync.timeout_seconds`).",
    "server_error": "The server has trouble of its own; what is committed here waits.",
    "rate_limited": "The server wants to be asked less; what is committed here waits.",
    "offline": f"What is committed here waits. {BACK}",
    "busy": "Try again.",
    MERGE_FIRST: "Pull, then push again.",
    REF_RACE: "Somebody pushes at the same time; try again.",
    "unknown": "Pull when the remote can be reached again: what it has taken comes in then.",
    "history_rewritten": "Nothing is lost here. Ask who rewrote it: a push brings back what they removed.",
    "remote_emptied": "Nothing is lost here, and a push fills it again. Ask its owner if that was meant.",
    "mass_removal": "Ask who did it if that was meant. Each of them can be read and restored from the history.",
    "clock": "Set the clock that is wrong: of two edits the one with the later time wins.",
    "identity_missing": "Set git's user.name and user.email, then start the hub again.",
    "shallow": "Fetch the whole history with git (`git fetch --unshallow`).",
}

# Next steps more to the point than that of the kind; the first that matches.
_NEXT: Final = tuple(
    (kind, re.compile(pattern, re.IGNORECASE), hint)
    for kind, pattern, hint in (
        ("host_key", r"identification has changed|host key for .* has changed",
         "Ask the host's owner whether its key was changed, and what it is now: somebody else may be answering. Then "
         "put the new one in the place of the old one in ssh's known_hosts."),
        ("host_key", r"unable to negotiate",
         "The ssh of this machine and that of the host have no algorithm in common: bring the older one up to date."),
        ("auth", r"too open|bad permissions", "Let nobody but this user read the key's file (`chmod 600`)."),
        ("auth", r"\bSSO\b", "Sign in with the organisation's single sign-on, and authorize the token or key there."),
        ("auth", r"permission denied \(",
         "Have ssh find a key that the server knows; nobody is asked for a password or passphrase: a key that has one "
         "must be in the ssh-agent of the environment that the hub was started in (SSH_AUTH_SOCK)."),
        ("access_denied", r"ip allow list",
         "The remote lets in known networks only: connect from one (a VPN), or ask its owner to add this one."),
        ("server_error", r"bad line length character",
         "Something at the server writes text where git's answer should be: a login script, or a shell that refuses "
         "the account. Connect once with ssh by hand and look."),
        ("server_error", r"not found|not recognized",
         "Git is not installed at the server, or not on the PATH of what ssh starts there."),
        ("protected_branch", r"verified signatures",
         "The remote takes signed commits only, and the hub signs none: have its owner let this user push without, or "
         "use another branch."),
        ("hook_rejected", r"contain secrets|push protection|VS403654",
         "The remote found what looks like a secret: its words say where, and what to do."),
    )
)  # fmt: skip

# More to the point than git's names of errors; the first that matches.
_MEANINGS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), meaning)
    for pattern, meaning in (
        (r"could not resolve proxy", "the proxy's name cannot be resolved"),
        (r"could not resolve|couldn't resolve|name or service|name resolution|unable to look up",
         "the name of its host cannot be resolved"),
        (r"timed out", "it does not answer in time"),
        (r"connection refused|couldn't connect|failed to connect|unable to connect", "nothing answers at its address"),
        (r"network is unreachable|no route to host|host is down", "there is no way to its network"),
        (r"connection reset|connection closed|hung up|early eof|unexpected disconnect|transfer closed|empty reply"
         r"|broken pipe", "the connection was cut"),
    )
)  # fmt: skip

_NOISE: Final = re.compile(
    r"(?:remote: )?(?:(?:Enumerating|Counting|Compressing|Writing|Receiving) objects|Total \d|Delta compression"
    r"|Resolving deltas|Unpacking objects)|hint:|Please make sure you have the correct access|and the repository exists"
    r"|error: failed to push some refs|To \S|Done$|remote:[\W_]*$|Everything up-to-date|[\W_]+$"
    # Of hosts: marks for their own logs, where to read more, and work that went well (Azure DevOps).
    r"|remote: error: (?:Trace: |See http)|remote: Review all repository rules at|remote: .*\.\.\..*\(\d+ m?s\)\s*$"
    # ssh's: commands that take a key away, and what it tells of connections that are fine.
    r"|remove with:$|ssh-keygen -|Warning: Permanently added|\*\* ",
    re.IGNORECASE,
)
# What tells the reason among lines with no mark of their own: ssh's last word, or a shell's.
_TELLING: Final = re.compile(
    r"permission denied|host key verification failed|identification has changed|unprotected private key|not found"
    r"|connection (?:closed|reset|refused|timed out)|unable to negotiate|bad (?:configuration|owner)|too open",
    re.IGNORECASE,
)
_BEGINS: Final = re.compile(r"fatal:|error:|ssh:|ERROR:|FATAL:")
_REFUSED: Final = re.compile(r"^!\t[^\t]*?:(\S+)\t")
_MOST_BELOW: Final = 3
_CONTROL: Final = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]"
)


def hint_for(kind: SyncKind) -> str | None:
    """The next step for a kind of problem."""
    return _HINTS.get(kind)


def cause(words: str) -> SyncKind:
    """The kind of failure that git's words speak of; `other` when they are not known."""
    lines = words.splitlines()
    sides: dict[_Side, str] = {
        "any": words,
        "remote": "\n".join(line for line in lines if _REMOTE_LINE.match(line)),
        "here": "\n".join(line for line in lines if not line.startswith("remote:")),
    }
    for kind, side, pattern in _CAUSES:
        if pattern.search(sides[side]):
            return kind
    return "other"


def clean_words(text: str) -> str:
    """git's words, and through it the remote's, for people: the telling lines first, no control characters, bounded."""
    lines = [line.strip() for line in _CONTROL.sub("", text.replace("\r", "\n")).splitlines()]
    lines = _whole(re.sub(r"^@\s+(.*\S)\s+@$", r"\1", line) for line in lines)  # ssh's frame
    told = [line for line in lines if line and not _NOISE.match(line)] or [line for line in lines if line]

    def turn(line: str) -> int:
        if line.startswith("remote:"):
            return 2 if line.startswith(("remote: warning:", "remote: INFO:")) else 0
        if _NO_ANSWER in line.lower():  # never the reason
            return 3
        return 1 if _BEGINS.match(line) or _TELLING.search(line) else 2

    kept = "\n".join(sorted(dict.fromkeys(told), key=turn)[:_MOST_LINES])
    return kept if len(kept) <= _MOST_CHARACTERS else kept[: _MOST_CHARACTERS - 4] + " ..."


def _whole(lines: Iterable[str]) -> list[str]:
    """Lines, with what git says in several ones below a colon in one, and where a push was to go without the commit."""
    found: list[str] = []
    below = 0
    for line in lines:
        begins = not line or _BEGINS.match(line) or line.startswith(("remote:", "hint:", "!"))
        if below and not begins:
            found[-1] += f" {line}"
            below -= 1
            continue
        below = _MOST_BELOW if line.startswith(("fatal:", "error:")) and line.endswith(":") else 0
        found.append(_REFUSED.sub(r"! \1 ", line))
    return found


def sync_error(kind: SyncKind, message: str, *, git: str | None = None, **details: object) -> SyncError:
    """A `SyncError` with `details["kind"]`, `details["git"]` (git's words) and the hint that belongs to the kind."""
    return SyncError(message, hint=_HINTS.get(kind), kind=kind, git=git, **details)


def kind_of(error: AlgError) -> SyncKind:
    """The kind of an error of ours, whether or not it is a `SyncError`."""
    named = error.details.get("kind") or error.code
    if error.code == "repo_busy" and error.details.get("operation") == "detached":
        return "detached_head"
    if error.code == "git_timeout":
        return "timeout"
    if error.details.get("reason") in ("not_a_repository", "missing"):
        return "corrupt_here"
    return KIND_NAMES.get(str(named)) or cause(f"{error.details.get('git') or ''}\n{error.message}")


def from_git(error: AlgError, *, operation: str, remote: str, words: str | None = None) -> SyncError:
    """A failed git command as a `SyncError`."""
    said = str(error.details.get("git") or "") if words is None else words
    kind: SyncKind = "timeout" if isinstance(error, GitTimeout) else cause(said)
    if error.code in ("git_missing", "disk_full", "read_only"):
        kind = kind_of(error)
    shown = clean_words(said)
    meaning = next((meaning for pattern, meaning in _MEANINGS if pattern.search(said)), None)
    first = meaning if meaning and kind in ("unreachable", "proxy") else next(iter(shown.splitlines()), error.message)
    first = first if len(first) <= _LONGEST_SAID else f"{first[:_LONGEST_SAID]} ..."
    found = sync_error(kind, f"{operation} {remote!r} failed ({kind}): {first}", git=shown or error.message)
    more = (hint for of, pattern, hint in _NEXT if of == kind and pattern.search(said))
    found.hint = next(more, found.hint) or error.hint
    return found
