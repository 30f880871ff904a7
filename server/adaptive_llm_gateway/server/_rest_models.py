"""What the REST API takes, and the description of what it answers with. Requests are checked by these, answers are not:
they are the operations' JSON as it is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from adaptive_llm_gateway.compression import DEFAULT_BUDGET

Json = dict[str, Any]

TrustName = Literal["public", "internal", "confidential", "secret"]
EXAMPLE_ID = "01JC4Q8M3V9Z2K7W5T1R6XHB0D"
_VERSION = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"


class Given(BaseModel):
    """What a body has: nothing else, and nothing that is only nearly of the type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Query(BaseModel):
    """What a query has, and nothing else."""

    model_config = ConfigDict(extra="forbid")


class Told(BaseModel):
    """What an answer has at least; a later version may tell more."""

    model_config = ConfigDict(extra="allow")


def _truth(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def integral(value: object) -> object:
    """A whole number as JSON Schema has it: 5.0 is one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _whole(value: object) -> object:
    if isinstance(value, str) and value.removeprefix("-").isascii() and value.removeprefix("-").isdigit():
        return int(value) if len(value) < 20 else value
    return value


Flag = Annotated[bool, BeforeValidator(_truth), Field(strict=True)]
"""`true` and `false`, as a query has them."""

# Bounds stand before what reads the digits: the description would not have them otherwise.
UpTo100 = Annotated[int, Field(strict=True, ge=1, le=100), BeforeValidator(_whole)]
UpTo1000 = Annotated[int, Field(strict=True, ge=1, le=1000), BeforeValidator(_whole)]
"""Whole numbers in decimal digits, as a query has them."""

UpTo100Given = Annotated[int, Field(strict=True, ge=1, le=100), BeforeValidator(integral)]
"""The same in a body, where 5.0 is a whole number, as JSON Schema has it."""

Reason = Annotated[str | None, Field(None, description="Why, in a few words; shown in git log and with search hits")]
Redact = Annotated[bool, Field(description="Store `[redacted:kind#ab12]` for secrets, rather than refuse")]
Budget = Annotated[
    int,
    Field(strict=True, ge=1, le=10_000_000, description="Most tokens of the answer"),
    BeforeValidator(integral),
]


# --- Memories -----------------------------------------------------------------------------------------------------


class LinkGiven(Given):
    """A link to another memory."""

    rel: str = Field(description="What the other one is to this one", examples=["relates_to"])
    id: str = Field(description="Its id", examples=[EXAMPLE_ID])


class _Narrowed(Query):
    type: str | None = Field(None, description="Only this type; several with commas", examples=["decision"])
    tags: list[str] = Field([], description="Only with all these tags; given once for each", examples=[["infra"]])
    project: str | None = Field(None, description="Only this project", examples=["acme"])
    since: str | None = Field(
        None, description="Updated since: an ISO date or time, or an age such as 7d", examples=["7d"]
    )
    until: str | None = Field(None, description="Updated until: the same forms; a date includes its day")
    author: str | None = Field(None, description="Only written by this client", examples=["claude-code"])
    max_trust: TrustName | None = Field(None, description="Only up to this trust level")


class ListQuery(_Narrowed):
    """Which memories to list."""

    limit: UpTo1000 = Field(50, description="Most memories")
    cursor: str | None = Field(None, description="`next_cursor` of the page before")
    order: Literal["updated", "created", "title"] = Field(
        "updated",
        description="By what they are ordered. What is changed while pages are read comes first by `updated`, which "
        "later pages are behind; by `created` it stays where it is",
    )
    deleted: Flag = Field(False, description="The deleted ones instead, newest first; filters and cursor do not count")


class SearchQuery(_Narrowed):
    """What to search."""

    query: str = Field(
        "",
        description='Words, a question, "a phrase" or an exact identifier; empty: the most recent. '
        "Operators: type:x tag:x project:x author:x since:7d before:2026-01 -word",
        examples=["how do we deploy"],
    )
    limit: UpTo100 = Field(10, description="Most hits")
    cursor: str | None = Field(None, description="`next_cursor` of the page before")
    similar_to: str | None = Field(None, description="Id of a memory; finds those like it")
    as_of: str | None = Field(None, description="As it was at this time or commit")
    facets: Flag = Field(False, description="Also count by type, project, tag, author and month")
    explain: Flag = Field(False, description="Also how it was read and scored")


class SearchGiven(Given):
    """What to search."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"query": "how do we deploy", "limit": 5}]}
    )

    query: str = Field("", description="As in `GET /search`")
    limit: UpTo100Given = Field(10, description="Most hits")
    type: str | list[str] | None = Field(None, description="Only this type, or one of these")
    tags: list[str] = Field([], description="Only with all these tags")
    project: str | None = Field(None, description="Only this project")
    since: str | None = Field(None, description="Updated since: an ISO date or time, or an age such as 7d")
    until: str | None = Field(None, description="Updated until: the same forms; a date includes its day")
    author: str | None = Field(None, description="Only written by this client")
    max_trust: TrustName | None = Field(None, description="Only up to this trust level")
    fields: Json = Field({}, description="Only where the type's own fields have these values")
    cursor: str | None = Field(None, description="`next_cursor` of the page before")
    similar_to: str | None = Field(None, description="Id of a memory; finds those like it")
    as_of: str | None = Field(None, description="As it was at this time or commit")
    facets: bool = Field(False, description="Also count by type, project, tag, author and month")
    explain: bool = Field(False, description="Also how it was read and scored")


class ContextGiven(Given):
    """What a package of context is to be about."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"query": "how do we deploy", "project": "acme"}]}
    )

    query: str = Field(description="What you need to know, as a question")
    budget_tokens: Budget = DEFAULT_BUDGET
    detail: Literal["index", "auto", "full"] = Field("auto", description="index: a line of each; full: whole texts")
    expand: list[str] = Field([], description="Ids, or their ends, to have whole first")
    pinned: bool = Field(True, description="Also preferences, open tasks and recent decisions")
    session_id: str | None = Field(None, description="Adds this session's summary and last entries")
    model: str | None = Field(None, description="Count tokens as this model does")
    type: str | list[str] | None = Field(None, description="Only this type, or one of these")
    tags: list[str] = Field([], description="Only with all these tags")
    project: str | None = Field(None, description="Only this project; adds its tasks and decisions")
    since: str | None = Field(None, description="Updated since: an ISO date or time, or an age such as 7d")
    until: str | None = Field(None, description="Updated until: the same forms; a date includes its day")
    author: str | None = Field(None, description="Only written by this client")
    max_trust: TrustName | None = Field(None, description="Only up to this trust level")
    fields: Json = Field({}, description="Only where the type's own fields have these values")


class NewMemory(Given):
    """A memory to be kept."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "fact",
                    "title": "The staging host is called kestrel",
                    "body": "It runs in rack 4.",
                    "project": "acme",
                    "tags": ["infra"],
                    "reason": "asked twice",
                }
            ]
        },
    )

    type: str | None = Field(None, description="note (default), fact, preference, decision, task, or another of /types")
    title: str | None = Field(None, description="One line; default: from the body")
    body: str | None = Field(None, description="Markdown")
    tags: list[str] | None = Field(None, description="Labels")
    project: str | None = Field(None, description="Project name")
    trust: TrustName | None = Field(None, description="Who may see it; default internal")
    links: list[LinkGiven] | None = Field(None, description="Other memories")
    source: str | None = Field(None, description="Where it comes from: URL, file, commit")
    fields: Json | None = Field(None, description="The type's own fields")
    reason: Reason
    redact: Redact = False


class MemoryPatch(Given):
    """A JSON merge patch (RFC 7396): what is not given stays, null takes away."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"tags": ["infra", "staging"], "source": None, "reason": "it moved"}]},
    )

    title: str = Field(default_factory=str, description="One line")
    body: str = Field(default_factory=str, description="Markdown")
    tags: list[str] | None = Field(None, description="Labels; these take the place of those there are")
    project: str | None = Field(None, description="Project name")
    trust: TrustName = Field(default_factory=lambda: "internal", description="Who may see it")
    links: list[LinkGiven] | None = Field(None, description="Other memories; these take the place of those there are")
    source: str | None = Field(None, description="Where it comes from")
    fields: Json = Field({}, description="The type's own fields; those that are not named stay")
    reason: Reason
    redact: Redact = False


class MemoryText(Given):
    """A memory's whole file."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"text": f"---\nid: {EXAMPLE_ID}\ntype: note\ntitle: A title\n---\nA body.\n"}]
        },
    )

    text: str = Field(
        description="Front matter and body, as `text` of the memory has them; `id`, `type`, `author` and `created` "
        "must stay the same, and `updated` is set anew"
    )
    reason: Reason


class RestoreGiven(Given):
    """To what a memory is to be set back."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [{"reason": "still right"}]})

    at: str | None = Field(None, description="Version, commit or ISO time; needed if it is not deleted")
    reason: Reason


class WhyQuery(Query):
    """Why something is done."""

    reason: str | None = Field(None, description="Why, in a few words; shown in git log", examples=["outdated"])


class ReadQuery(Query):
    """As when a memory is read."""

    at: str | None = Field(None, description="A past version or commit, or an ISO time; default: now")


class HistoryQuery(Query):
    """How much of a history."""

    limit: UpTo1000 = Field(20, description="Most revisions")


# --- What is answered ---------------------------------------------------------------------------------------------


class AuthorTold(Told):
    """Who wrote: the client, the agent within it, and the machine."""

    client: str
    agent: str | None = None
    host: str | None = None


class LinkTold(Told):
    """A link to another memory."""

    rel: str
    id: str


class MemoryTold(Told):
    """A memory without its text."""

    id: str = Field(examples=[EXAMPLE_ID])
    type: str
    title: str
    path: str = Field(description="Of its file in the memory repo")
    version: str = Field(description="The ETag without its quotes", examples=[_VERSION])
    created: str
    updated: str
    author: AuthorTold
    project: str | None
    tags: list[str]
    trust: TrustName
    links: list[LinkTold]
    source: str | None
    reason: str | None
    fields: Json = Field(description="The type's own fields")
    repo: str | None = Field(None, description="Which memory repo, where there are several")


class WholeMemory(MemoryTold):
    """A memory whole."""

    body: str
    text: str = Field(description="The whole file, as `PUT` takes it")
    at: str | None = Field(description="As when it was read; null: now")
    parts: list[str] = Field(description="Of a session: the ids of its files")
    summary: str | None = Field(description="Of a session: the id of its summary")


class DeletedMemory(Told):
    """A memory that was deleted."""

    id: str
    type: str
    title: str
    path: str
    version: str = Field(description="The last one")
    deleted: str
    by: str
    reason: str | None


class MemoryList(Told):
    """A page of memories."""

    memories: list[MemoryTold | DeletedMemory]
    next_cursor: str | None = Field(description="For the next page; null: there is none")
    total: int


class HitTold(MemoryTold):
    """A memory that was found."""

    score: float
    matched: list[str] = Field(description="Why it was found")
    snippet: str
    lines: list[int]
    duplicates: list[str] = Field(description="Ids of memories that say the same")


class SearchTold(Told):
    """What was found, best first."""

    query: str
    mode: Literal["hybrid", "lexical"]
    hits: list[HitTold]
    read_as: list[str] = Field(description="What operators and words of time were taken for")
    next_cursor: str | None
    notices: list[str]


class ContextTold(Told):
    """A context package."""

    text: str = Field(description="Fenced as data")
    budget: int
    used: int = Field(description="Tokens of the text")
    candidates_tokens: int = Field(description="Tokens of what it was made from")
    sources: list[Json]
    notices: list[str]


class WriteTold(Told):
    """What a write did, and where it stands."""

    id: str
    type: str
    title: str
    path: str
    operation: str
    version: str | None = Field(description="Null after a deletion")
    unchanged: bool
    notes: list[str]
    redacted: list[Json]
    state: Literal["saved", "committed"]
    commit: str | None
    commit_error: str | None
    sync: Json = Field(description="Where the memory repo stands against its remote")


class HistoryTold(Told):
    """A memory's commits, newest first."""

    id: str
    path: str
    deleted: bool
    revisions: list[Json]


class StatusTold(Told):
    """How the memory stands."""

    memories: int
    by_type: dict[str, int]
    index: Literal["ready", "building"]
    search: Literal["hybrid", "lexical"]
    sync: Json
    types: list[str]
    mode: str


class TypeTold(Told):
    """A type of memory."""

    name: str
    description: str
    fields: list[str] = Field(description="Its own ones, beside those of every memory")


class TypesTold(Told):
    """The types of memory."""

    types: list[TypeTold]


class ProblemTold(Told):
    """What went wrong (RFC 9457)."""

    type: str = Field(description="Where this API says what the code means", examples=["/api/v1/problems/not_found"])
    title: str
    status: int = Field(ge=400, le=599)
    detail: str = Field(description="What happened, and why")
    code: str = Field(description="Stable: programs match on this", examples=["not_found"])
    hint: str | None = Field(None, description="What to do next")
    details: Json | None = Field(None, description="What it is about, such as `current_version`")
    errors: list[dict[str, str]] | None = Field(
        None, description="Of a request that is not as described: `in`, `name` and `detail` of each place"
    )


class ProblemMeaning(Told):
    """What a code of a problem means."""

    code: str
    status: int
    meaning: str
