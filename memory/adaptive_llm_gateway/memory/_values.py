"""The values that the parts of memory hand to each other: frozen, without behaviour of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, get_args

from adaptive_llm_gateway.core import Trust

SearchMode = Literal["hybrid", "lexical"]
Operation = Literal["write", "update", "delete", "restore", "append", "import", "edit", "recover"]


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote: `client` is the program (`claude-code`), `agent` its own name for itself, `host` the machine."""

    client: str
    agent: str | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A typed link to another memory (`rel` such as `relates_to`, `supersedes`, `conflicts_with`; `id` a ULID)."""

    rel: str
    id: str


@dataclass(frozen=True, slots=True)
class Record:
    """One memory as the index keeps it: everything of the file that search and lists need.

    Attributes:
        path: POSIX path within the memory repo.
        version: git blob id (40 hex digits) of the file.
        mtime_ns, size: of the file when it was read, to see later whether it changed.
        created, updated: timezone-aware.
        fields: the type's own fields (`status`, `due`, ...) and unknown ones, JSON-serialisable.
        reason: why the last write was made, where it was told.
        repo: the memory repo that has it, where there are several.
    """

    id: str
    type: str
    title: str
    body: str
    path: str
    version: str
    mtime_ns: int
    size: int
    created: datetime
    updated: datetime
    author: Author
    project: str | None = None
    tags: tuple[str, ...] = ()
    trust: Trust = Trust.INTERNAL
    links: tuple[Link, ...] = ()
    source: str | None = None
    reason: str | None = None
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    repo: str | None = None


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What a search or list leaves out: a memory goes when any one of these holds for it.

    Attributes:
        types, projects, authors, ids: it is of this type or project, by this author (client or agent), or has this id.
        tags: it has this tag.
        words: this word or phrase occurs in its title or body, in any inflection that search takes for the same.
        events: it is an event of a handoff.
    """

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    events: bool = False


@dataclass(frozen=True, slots=True)
class Within:
    """What somebody may see at all. Of handoffs' events those whose handoff is seen, too: an event repeats its title.

    Attributes:
        max_trust: nothing above this level.
        projects: of these, whose names are exactly so, upper and lower case included; None: of any, and of none.
        hidden: ids of memories that are not seen whatever they say of themselves.
    """

    max_trust: Trust = Trust.SECRET
    projects: tuple[str, ...] | None = None
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Filters:
    """What a search or list is narrowed to; every field narrows further, empty ones do not.

    Attributes:
        types: any of these types.
        tags: all of these tags.
        project: of this one, or any of several; whatever the case, as for tags and authors.
        or_no_project: with `project`, also what belongs to none.
        author: the name of the client, or of the agent within it; or any of several.
        ids: any of these ids.
        since, until: `updated` within [since, until), timezone-aware.
        max_trust: nothing above this level.
        fields: type-specific fields by equality (`{"status": "open"}`).
        without: what is left out.
        also: these must let a memory through as well.
        within: what is outside of this is not there: no score and no count is made with it.
    """

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    project: str | tuple[str, ...] | None = None
    or_no_project: bool = False
    author: str | tuple[str, ...] | None = None
    ids: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    max_trust: Trust = Trust.SECRET
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    without: Exclusions = field(default_factory=Exclusions)
    also: tuple[Filters, ...] = ()
    within: Within | None = None


def without_events(filters: Filters) -> Filters:
    """The filters of a list of the most recent: without the events of handoffs, unless ids or fields ask for them."""
    if _asks_for_events(filters):
        return filters
    return replace(filters, without=replace(filters.without, events=True))


def _asks_for_events(filters: Filters) -> bool:
    return bool(filters.ids or filters.fields.keys() & {"event", "handoff"}) or any(map(_asks_for_events, filters.also))


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A stretch of time, [since, until), timezone-aware; `None` leaves that side open. A moment has both the same."""

    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result.

    Attributes:
        score: higher is better; comparable within one answer only.
        matched: what brought it (`exact`, `lexical`, `vector`, `time`, `recent`), strongest first.
        snippet: the passage that matched, whole lines, at most about 300 characters.
        lines: first and last line of the passage within the file's body, 1-based.
        duplicates: ids of near-duplicates folded into this hit.
        signals: what each signal of the ranking brought, by name; they add up to the score. Where there is `reranked`,
            that is the score, and the others are what had brought the hit there.
    """

    record: Record
    score: float
    matched: tuple[str, ...]
    snippet: str
    lines: tuple[int, int]
    duplicates: tuple[str, ...] = ()
    signals: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Facets:
    """Counts of the memories that filters let through, whatever their words.

    Attributes:
        total: all of them.
        types, projects, tags, authors: (value, memories), the most frequent first, at most 20 each; a memory counts
            once for each of its tags, and names that differ in case only count as one.
        months: (`2026-11`, memories) by the month (UTC) of the last change, the latest first, at most 20.
    """

    total: int
    types: tuple[tuple[str, int], ...]
    projects: tuple[tuple[str, int], ...]
    tags: tuple[tuple[str, int], ...]
    authors: tuple[tuple[str, int], ...]
    months: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit that touched a memory."""

    commit: str
    version: str | None
    path: str
    time: datetime
    author: str
    subject: str
    agents: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """One file for a commit: its new content, or `None` when it goes; with who did it and why.

    Attributes:
        shown: the path in the commit's message, where it must not stand there as it is.
    """

    path: str
    data: bytes | None
    operation: Operation
    memory_id: str
    title: str
    author: Author
    reason: str | None = None
    shown: str | None = None


# Why the memory repo and its remote do not, or may not, come to the same. The most important first: where several hold
# at once, the status names them in this order.
SyncKind = Literal[
    # Writes here are held up, too.
    "disk_full",
    "read_only",
    "corrupt_here",
    "repo_busy",
    "detached_head",
    # Somebody at this machine has to do something.
    "git_missing",
    "ownership",
    "no_remote",
    "transport_refused",
    "ssh_setup",
    "secret_outgoing",
    "trust_outgoing",
    "pull_only",
    "dirty",
    "unrelated_histories",
    "shallow_clone",
    "format_too_new",
    "unsafe_incoming",
    "corrupt_incoming",
    "not_merged",
    # Somebody has to do something about the remote, or the way in.
    "auth",
    "host_key",
    "certificate",
    "proxy",
    "access_denied",
    "identity_rejected",
    "protected_branch",
    "too_large",
    "hook_rejected",
    "checked_out",
    "remote_read_only",
    "remote_full",
    "corrupt_remote",
    "remote_missing",
    "remote_moved",
    "missing_branch",
    # It may pass by itself.
    "index_lock",
    "index_lock_stale",
    "ref_locked",
    "unreachable",
    "timeout",
    "server_error",
    "rate_limited",
    "offline",
    "busy",
    "non_fast_forward",
    "ref_race",
    "unknown",
    "other",
    # Nothing is held up, but should be known.
    "history_rewritten",
    "remote_emptied",
    "mass_removal",
    "clock",
    "identity_missing",
    "shallow",
]
SYNC_KINDS: tuple[SyncKind, ...] = get_args(SyncKind)
KIND_NAMES: dict[str, SyncKind] = {str(kind): kind for kind in SYNC_KINDS}


@dataclass(frozen=True, slots=True)
class SyncProblem:
    """Something that keeps the memory repo and its remote apart, or that should be known of them.

    Attributes:
        message: what is so.
        blocks: a pull or push, or a commit, does not succeed while this holds; without it, it is a notice.
        operation: the attempt that failed; None for what was seen here.
        git: git's words, or the remote's, masked and cut short.
        hint: the next step; never a complete destructive command.
        since: when it was first so.
        attempts: how many have failed of it in a row.
    """

    kind: SyncKind
    message: str
    blocks: bool = True
    operation: Literal["fetch", "pull", "push", "commit"] | None = None
    git: str | None = None
    hint: str | None = None
    since: datetime | None = None
    attempts: int = 0


WORST_FIRST: Final = ("failed", "diverged", "pending", "behind", "local", "pushed", "pulled", "no_remote")
"""The states of syncing: of several repos the one comes first that somebody has to look at first."""


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """Where the memory repo stands against its remote.

    Attributes:
        state: `no_remote`; `pushed` (the remote had everything when it was last seen, see `checked`); `pending`
            (commits of ours wait to be pushed); `behind` (known remote commits wait to be pulled); `diverged` (both);
            `failed` (the last pull or push failed, and nothing since says that it would succeed). Where the
            remote is only read, instead of `pushed` and `pending`: `pulled` (nothing here that it does not have) and
            `local` (commits that stay here).
        ahead, behind: commits, against the remote as last seen.
        since: when the state was entered.
        last_success: when a pull or push last ended with the same on both sides.
        remote: its address, without credentials.
        kind, error, hint: of the first of the problems, where that one blocks; `error` has git's own words.
        offline: offline mode holds pulls and pushes back, for the remote is elsewhere.
        attempts: how many attempts have failed in a row.
        next_attempt: when the next one comes by itself, where that is known.
        checked: when the remote's branch was last seen: fetched, or pushed to. None: not yet, as far as is known here.
        writes: what becomes of a write now: `committed`; `saved` on disk only, for commits fail; or `refused`.
        problems: all that is known, the most important first: what failed, what is seen here, and notices.
        read_only: nothing is ever pushed.
    """

    state: Literal["no_remote", "pushed", "pending", "behind", "diverged", "failed", "pulled", "local"]
    ahead: int = 0
    behind: int = 0
    since: datetime | None = None
    last_success: datetime | None = None
    remote: str | None = None
    kind: SyncKind | None = None
    error: str | None = None
    offline: bool = False
    attempts: int = 0
    next_attempt: datetime | None = None
    checked: datetime | None = None
    hint: str | None = None
    writes: Literal["committed", "saved", "refused"] = "committed"
    problems: tuple[SyncProblem, ...] = ()
    read_only: bool = False
