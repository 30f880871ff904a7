"""What can be asked of the store, and what it answers: frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from adaptive_llm_gateway.core import PersonalScanner, Redaction, Trust
from adaptive_llm_gateway.memory._embed import Embedder, EmbedderConfig
from adaptive_llm_gateway.memory._raising import Raised
from adaptive_llm_gateway.memory._rerank import Reranker, RerankerConfig
from adaptive_llm_gateway.memory._values import Author, Change, Link, Operation, Record, Revision, SyncStatus

PERSONAL: Final = "personal"
"""Of several memory repos the one that has all that belongs to no other."""


@dataclass(frozen=True, slots=True)
class PostgresConfig:
    """Where an index in PostgreSQL lies.

    Attributes:
        url: a libpq URL or `key=value` string. It may hold a password, so it is shown nowhere.
        schema: the schema that is this index's own, created when there is none: lower-case letters, digits and `_`, at
            most 63. `None` has the store derive one from the hub's name.
    """

    url: str = field(repr=False)
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class QdrantConfig:
    """Where a Qdrant server is that searches the vectors of an index in a file.

    Attributes:
        url: base URL, without user, query or fragment; port 6333 unless it names another.
        api_key_env: environment variable with the key; without it, no key is sent.
    """

    url: str
    api_key_env: str | None = None


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Everything the store is told; nothing below reads configuration.

    Attributes:
        repo, index: the memory repo's folder and the index file; what else belongs to this home lies beside the latter.
        postgres: keep the index there rather than in a file.
        qdrant: have this server search the index's vectors rather than hold them in memory.
        host: this machine's name, as memories have it.
        max_body_bytes: UTF-8 bytes that a body may have.
        commit_wait: seconds an answer waits for its commit before it says `saved` instead of `committed`.
        watch: how edits by hand are noticed: by the system's events, by looking again and again, or not; `auto`: by
            events, by looking where the system refuses these.
        remote: the address to have as git's `origin`; None: the one that git knows, if any.
        push_after_write, push_delay: whether writes are pushed by themselves, and seconds to gather them before that.
        sync_interval: seconds between two looks at the remote without being asked; 0: none.
        sync_timeout: seconds that the remote may be silent.
        embedder: which one to make, or one that is made already; the store closes it.
        reranker: which one to make, or one that is made already; the store closes it.
        rerank_top, rerank_timeout: how many of the first hits it judges, and for how many seconds a search waits.
        hook_command: what the repo's pre-commit hook runs, as an argument list; empty leaves hooks alone.
        message_command: the same for its commit-msg hook, which has the message's file as another argument.
        clock: the time, timezone-aware, for ids, `created`, `updated` and commits; `None` is the machine's own.
        merge_driver: what git runs in the repo to merge a file (see `install_merge_driver`); empty leaves git alone.
        name: the repo's, where a hub has several; its index in a database server is called after it, too.
        branch: the branch that it is on; None: whichever it is.
        trust: no memory above this level is written or pushed.
        read_only: its remote is only read, and nothing is written.
        remote_allowances: whether an allowance that a pull brings counts at once, or once a person here has agreed.
        hub_name: of the home; None: as the file `hub-name` beside the index has it.
        personal: what finds personal data in what is written and says which level it has; None: nothing does.
        mark_key: 32 bytes with which the marks of redacted secrets are made; None: they are made without a hash.
        notices: what the status tells a person besides, a line each.
    """

    repo: Path
    index: Path
    host: str
    max_body_bytes: int = 2 * 1024 * 1024
    commit_wait: float = 0.25
    watch: Literal["auto", "events", "poll", "off"] = "auto"
    remote: str | None = None
    push_after_write: bool = True
    push_delay: float = 2.0
    sync_interval: float = 0.0
    sync_timeout: float = 60.0
    embedder: EmbedderConfig | Embedder = field(default_factory=EmbedderConfig)
    reranker: RerankerConfig | Reranker = field(default_factory=RerankerConfig)
    rerank_top: int = 20
    rerank_timeout: float = 2.0
    hook_command: tuple[str, ...] = ()
    message_command: tuple[str, ...] = ()
    merge_driver: tuple[str, ...] = ()
    postgres: PostgresConfig | None = None
    qdrant: QdrantConfig | None = None
    clock: Callable[[], datetime] | None = None
    name: str | None = None
    branch: str | None = None
    trust: Trust = Trust.SECRET
    read_only: bool = False
    hub_name: str | None = None
    personal: PersonalScanner | None = None
    mark_key: bytes | None = field(default=None, repr=False)
    notices: tuple[str, ...] = ()
    remote_allowances: Literal["ask", "trust"] = "ask"


@dataclass(frozen=True, slots=True)
class WriteMemory:
    """Create a memory, or update the one with `id`. `None` leaves a field as it is (on creation: its default).

    Attributes:
        fields: the type's own fields by name.
        if_version: refuse unless this is the current version.
        redact: store `[redacted:kind#ab12]` in place of what the secret scanner names, rather than refuse.
        new_id: on creation the id that it gets, a new ULID; where there is such a memory already, nothing is done.
    """

    author: Author
    type: str | None = None
    title: str | None = None
    body: str | None = None
    id: str | None = None
    if_version: str | None = None
    tags: tuple[str, ...] | None = None
    project: str | None = None
    trust: Trust | None = None
    links: tuple[Link, ...] | None = None
    source: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reason: str | None = None
    redact: bool = False
    new_id: str | None = None


@dataclass(frozen=True, slots=True)
class ReplaceText:
    """Replace a memory's whole file, as an editor would save it; `id` must stay the same.

    Attributes:
        by_token: who asks is no person at this machine: what the hub alone writes (type, author, times, and what makes
            an event of a handoff) must stay the same, too.
    """

    author: Author
    id: str
    data: bytes
    if_version: str | None = None
    reason: str | None = None
    by_token: bool = False


@dataclass(frozen=True, slots=True)
class ImportMemory:
    """Create or replace a memory with everything given, including its id and times."""

    author: Author
    id: str
    type: str
    title: str
    body: str
    created: datetime
    updated: datetime
    tags: tuple[str, ...] = ()
    project: str | None = None
    trust: Trust = Trust.INTERNAL
    links: tuple[Link, ...] = ()
    source: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    if_version: str | None = None
    reason: str | None = None
    redact: bool = False


@dataclass(frozen=True, slots=True)
class AppendSession:
    """Append an entry to a session; without `session_id` a new session begins.

    Attributes:
        new_id: the id that a new session gets, a new ULID; where there is such a session already, nothing is done.
    """

    author: Author
    text: str
    session_id: str | None = None
    title: str | None = None
    project: str | None = None
    reason: str | None = None
    redact: bool = False
    new_id: str | None = None


@dataclass(frozen=True, slots=True)
class WriteSummary:
    """Write the summary of a session, or replace the one it has; what else its file holds stays.

    Attributes:
        session_id: id of any of the session's files.
        trust: the level of the log: the summary's is never lower.
        facts: what was summarised, by name, as extra fields of the file.
    """

    author: Author
    session_id: str
    body: str
    trust: Trust
    facts: Mapping[str, int] = field(default_factory=dict[str, int])
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AppendEvent:
    """Add an event to a handoff: a file of its own beside the offer's, which no later write changes.

    It takes the offer's project, and its trust level where that is higher.

    Attributes:
        handoff: id of the offer.
        id: of the event, a new ULID.
        event: its kind; `step` its place: both are in the file's name.
        time: timezone-aware; the file's `created` and `updated`.
        fields: its other fields, of the type `handoff`.
    """

    author: Author
    handoff: str
    id: str
    event: str
    step: int
    time: datetime
    title: str
    body: str = ""
    trust: Trust = Trust.PUBLIC
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reason: str | None = None
    redact: bool = False


@dataclass(frozen=True, slots=True)
class DeleteMemory:
    """Take a memory out of the tree; its history stays and `RestoreMemory` brings it back."""

    author: Author
    id: str
    if_version: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RestoreMemory:
    """Bring back a deleted memory, or set one to an earlier version (`at`: a version or commit)."""

    author: Author
    id: str
    at: str | None = None
    reason: str | None = None


Request = (
    WriteMemory | ReplaceText | ImportMemory | AppendSession | WriteSummary | AppendEvent | DeleteMemory | RestoreMemory
)


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a planned write: what goes to disk, to the index (`record`, None when it goes) and to git."""

    change: Change
    record: Record | None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a write stands.

    Attributes:
        state: `saved` (durable on disk and searchable, its commit follows) or `committed`.
        commit: the commit's id, once there is one.
        error: why there is no commit, in git's words, where committing failed.
        sync: where the memory repo stands against its remote.
    """

    state: Literal["saved", "committed"]
    sync: SyncStatus
    commit: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What a write did. `version` is None after a delete; `unchanged` is true when nothing differed; `repo` names the
    memory repo where there are several; `raised` is personal data that it brought, which the notes tell, too;
    `redacted` is what marks stand for in what was given.
    """

    id: str
    type: str
    title: str
    path: str
    operation: Operation
    version: str | None
    standing: Standing
    unchanged: bool = False
    notes: tuple[str, ...] = ()
    repo: str | None = None
    raised: Raised | None = None
    redacted: tuple[Redaction, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """One memory as read: its record, the whole file as text, and the version (`at` set for a past one)."""

    record: Record
    text: str
    at: str | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not in the index, and why."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class ReindexReport:
    """What `reindex` found."""

    indexed: int
    skipped: tuple[Skipped, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The store at a glance.

    Attributes:
        memories, by_type: how many there are, in all and of each type.
        index: `ready`, or `building`: the notices say how far it is.
        search: whether it goes by words and meaning now, or by words alone.
        vectors: chunks with a vector, and chunks in all.
        embedder, reranker: its id, or why there is none.
        uncommitted: writes that wait for their commit.
        clashes: pairs of ids of memories that hold texts which clashed in a merge, or are said to: a link
            `conflicts_with` leads from one to the other, and both are there.
        head: the commit that the branch is at, 40 hex digits.
        watcher: how edits by hand are noticed, or why they are not.
        skipped: files that cannot be read as they are now.
        notices: what a person should know, a line each.
        rescues: references below `refs/alg/rescue/`, each to where the branch or the remote was before a pull.
        repos: each memory repo, where there are several; `sync` is that of the one that needs a look most.
    """

    memories: int
    by_type: Mapping[str, int]
    index: Literal["ready", "building"]
    search: Literal["hybrid", "lexical"]
    vectors: tuple[int, int]
    embedder: str
    uncommitted: int
    head: str | None
    sync: SyncStatus
    watcher: str
    reranker: str = "off"
    skipped: tuple[Skipped, ...] = ()
    notices: tuple[str, ...] = ()
    rescues: int = 0
    clashes: tuple[tuple[str, str], ...] = ()
    repos: tuple[RepoStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class RepoStatus:
    """One of several memory repos.

    Attributes:
        path: its folder.
        projects: as they are configured; none: what belongs to no other repo.
        trust: the highest level that it takes.
        read_only: its remote is only read, and nothing is written.
        uncommitted, head: as in `StoreStatus`.
        problem: why it is not there; then nothing else is known of it.
    """

    name: str
    path: str
    projects: tuple[str, ...]
    trust: Trust
    read_only: bool
    memories: int = 0
    uncommitted: int = 0
    head: str | None = None
    sync: SyncStatus | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class History:
    """A memory's commits, newest first."""

    id: str
    path: str
    deleted: bool
    revisions: tuple[Revision, ...]
    repo: str | None = None
