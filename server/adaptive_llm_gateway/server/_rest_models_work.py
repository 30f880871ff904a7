"""What the REST API takes and tells of sessions, handoffs, sync, models and receipts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from adaptive_llm_gateway.compression import DEFAULT_BUDGET
from adaptive_llm_gateway.server._rest_models import (
    EXAMPLE_ID,
    Budget,
    Flag,
    Given,
    Json,
    Query,
    Reason,
    Redact,
    Told,
    TrustName,
    UpTo1000,
    WriteTold,
    integral,
)

State = Literal["offered", "claimed", "done", "declined", "withdrawn", "expired", "damaged"]
Outcome = Literal["answered", "refused", "failed", "cancelled", "incomplete", "simulated", "interrupted"]
Operation = Literal["pull", "push", "sync"]

Lease = Annotated[
    float | None,
    Field(None, ge=1, le=1440, description="Minutes that it is the caller's without a word; default as configured"),
]
Expires = Annotated[
    str | None, Field(None, description="Until when it can be claimed: ISO time, or 12h, 7d; default 30d")
]


def _examples(*examples: Json) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [*examples]})


# --- Sessions -----------------------------------------------------------------------------------------------------


class EntryGiven(Given):
    """An entry of a session's log."""

    model_config = _examples({"text": "The build is green again; next: the release notes."})

    text: str = Field(description="What happened, as Markdown")
    reason: Reason
    redact: Redact = False


class NewSession(EntryGiven):
    """A session, with its first entry."""

    model_config = _examples({"text": "Looking at why the build is red.", "title": "Red build", "project": "acme"})

    title: str | None = Field(None, description="Default: from the client and the day")
    project: str | None = Field(None, description="Project name")


class CompactGiven(Given):
    """How long a summary may be."""

    model_config = _examples({"budget_tokens": 1000})

    budget_tokens: Budget = DEFAULT_BUDGET


class EntriesQuery(Query):
    """Which entries of a log."""

    limit: UpTo1000 = Field(200, description="Most entries")
    cursor: str | None = Field(None, description="`next_cursor` of the page before")


class EntryTold(Told):
    """One entry: when, by whom, what, and the id of the memory that it stands in."""

    time: str
    author: str
    text: str
    file: str


class SessionTold(Told):
    """A session's log, the oldest entry first."""

    id: str
    title: str
    project: str | None
    trust: TrustName
    summary: str | None = Field(description="Id of the memory that summarises it")
    entries: list[EntryTold]
    total: int
    next_cursor: str | None


class AppendTold(WriteTold):
    """What an append did."""

    session_id: str = Field(examples=[EXAMPLE_ID])


# --- Handoffs -----------------------------------------------------------------------------------------------------


class HandoffsQuery(Query):
    """Which handoffs to list."""

    state: State | None = Field(None, description="Only in this state; default: the open ones")
    project: str | None = Field(None, description="Only this project")
    to: str | None = Field(None, description="Only those for this client or agent")
    checkpoints: Flag = Field(False, description="Also what was kept of sessions that may still run")
    all: Flag = Field(False, description="Also those that are over")
    limit: UpTo1000 = Field(50, description="Most of them")


class NewHandoff(Given):
    """Work to be offered."""

    model_config = _examples(
        {
            "objective": "The importer takes CSV",
            "next_action": "Write the failing test for quoted fields",
            "project": "acme",
            "to": "codex",
        }
    )

    objective: str | None = Field(None, description="What is to be reached; needed unless session_id says it")
    next_action: str | None = Field(None, description="What to do first")
    state: str | None = Field(None, description="How the work stands, as Markdown")
    open_questions: list[str] = Field([], description="What is not decided")
    constraints: list[str] = Field([], description="What must be kept to")
    decisions: list[str] = Field([], description="Ids of memories that say what was decided")
    to: str | None = Field(None, description="Client or agent that it is for; default: anybody")
    priority: Literal["low", "normal", "high", "urgent"] = Field("normal", description="How urgent it is")
    expires: Expires
    project: str | None = Field(None, description="Project name")
    tags: list[str] = Field([], description="Labels")
    trust: TrustName | None = Field(None, description="Who may see it; default internal, or the session's")
    session_id: str | None = Field(None, description="Fills in from this session's log what is not given here")
    title: str | None = Field(None, description="One line; default: from the objective")
    reason: Reason
    redact: Redact = False


class ClaimGiven(Given):
    """How a handoff is claimed."""

    model_config = _examples({"budget_tokens": 4000})

    budget_tokens: Budget = DEFAULT_BUDGET
    lease_minutes: Lease
    provisional: bool = Field(False, description="Also while the remote is out of reach; the next sync settles it")
    anyway: bool = Field(False, description="Also one that is for somebody else")


class ClaimBestGiven(ClaimGiven):
    """Which open handoff is claimed, and how."""

    model_config = _examples({"project": "acme"})

    project: str | None = Field(None, description="Only of this project")


class ReportGiven(Given):
    """Progress on a handoff."""

    model_config = _examples({"text": "The test is written and red."})

    text: str = Field(description="What was done, as Markdown")
    lease_minutes: Lease
    redact: Redact = False


class CompleteGiven(Given):
    """What came of a handoff."""

    model_config = _examples({"result": "The importer takes CSV; see commit 3b18e51."})

    result: str = Field("", description="As Markdown")
    redact: Redact = False


class ReleaseGiven(Given):
    """Why a handoff is given back."""

    model_config = _examples({"reason": "Out of time; the test is red for quoted line breaks."})

    reason: str = Field("", description="Why, and what the next one should know")
    outcome: Literal["released", "declined", "withdrawn"] = Field(
        "released",
        description="released: others may claim it. declined: it is not for the caller. withdrawn: the caller offered "
        "it, nobody holds it, and it is not to be done",
    )
    redact: Redact = False


class HandoffTold(Told):
    """A handoff without what happened to it."""

    id: str
    title: str
    objective: str
    state: State
    next_action: str | None
    open_questions: list[str]
    constraints: list[str]
    decisions: list[str]
    to: str | None
    priority: str
    project: str | None
    tags: list[str]
    trust: TrustName
    session_id: str | None
    expires: str | None
    created: str
    by: Json
    claim: Json | None
    holder: Json | None
    ended: Json | None


class HandoffsTold(Told):
    """Handoffs, by priority, then the oldest first."""

    handoffs: list[HandoffTold]
    total: int
    remote: Json | None = Field(description="When the remote was last asked, where there is one")
    notices: list[str]


class HandoffWhole(HandoffTold):
    """A handoff with all that happened to it."""

    body: str
    steps: list[Json]


class HandoffWritten(HandoffTold):
    """A handoff after what was done to it."""

    standing: Json = Field(description="Where the write stands")
    notes: list[str]
    redacted: list[Json]


class HandoffClaimed(HandoffWritten):
    """A handoff that is the caller's, with what it needs."""

    text: str = Field(description="The package, fenced as data")


# --- Sync ---------------------------------------------------------------------------------------------------------


class SyncGiven(Given):
    """What is to be synced, and how long to wait for it."""

    model_config = _examples({}, {"repo": "team", "wait": 5})

    repo: str | None = Field(None, description="Only this memory repo")
    project: str | None = Field(None, description="Only the memory repo of this project")
    wait: float = Field(20, ge=0, le=60, description="Seconds to wait for its end; it goes on behind the answer")


class SyncTold(Told):
    """How a pull or push ended, or how far it is."""

    running: bool
    state: str
    ahead: int | None = None
    behind: int | None = None
    changed: int | None = Field(None, description="Memories that came in")
    pushed: int | None = Field(None, description="Commits that went out")
    conflicts: list[Any] | None = None
    notices: list[str] | None = None


class SyncStanding(Told):
    """Where each memory repo stands against its remote."""

    sync: Json
    syncing: Json | None = Field(description="A pull or push that runs")


# --- Models -------------------------------------------------------------------------------------------------------


class PartGiven(Given):
    """A part of a message."""

    type: Literal["text"]
    text: str


class MessageGiven(Given):
    """A turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str | list[PartGiven]


class WantedContext(Given):
    """What of the memory goes along."""

    query: str | None = Field(None, description="Default: the last message")
    budget: Annotated[int, Field(strict=True, ge=1, le=10_000_000), BeforeValidator(integral)] | None = Field(
        None, description="Most tokens of it; default 2000"
    )
    project: str | None = None
    session_id: str | None = None
    type: str | None = None
    max_trust: TrustName | None = None


class Routed(Given):
    """What decides to whom a request may go, and for how much."""

    model: str = Field(
        "auto", description="auto (local first), a route's name, provider/model, or a model's name", examples=["auto"]
    )
    trust: TrustName | None = Field(
        None, description="How far the text may go; default internal. What is found raises it"
    )
    purpose: str | None = Field(None, description="What for, where the policy tells purposes apart")
    project: str | None = Field(None, description="Project name; a consent may be for one")
    fallback: bool = Field(True, description="Try the next provider when one fails")
    budget: Annotated[int, Field(strict=True, ge=0, le=10**15), BeforeValidator(integral)] | None = Field(
        None, description="Most it may cost, in millionths of a cent"
    )


class Answered(Routed):
    """What an answer is to be like."""

    max_tokens: Annotated[int, Field(strict=True, ge=1, le=10_000_000), BeforeValidator(integral)] | None = Field(
        None, description="Most tokens of the answer; default the model's"
    )
    temperature: float | None = Field(None, ge=0, le=2, description="Default the model's")
    json_: bool = Field(False, alias="json", description="The answer must be one JSON value")
    stop: list[str] = Field([], description="Texts at which the answer ends")
    deadline: float | None = Field(None, ge=1, le=3600, description="Most seconds it may take; default 300")


class CompleteAsked(Answered):
    """A prompt."""

    model_config = _examples({"prompt": "Write a commit message for: fix the off-by-one in paging", "stream": False})

    prompt: str = Field(description="What to answer")
    system: str | None = Field(None, description="Instructions for the model")
    stream: bool = Field(False, description="Answer in pieces, as server-sent events")


class ChatAsked(Answered):
    """A conversation."""

    model_config = _examples(
        {
            "messages": [{"role": "user", "content": "What did we decide about the index?"}],
            "context": {"project": "acme"},
        }
    )

    messages: list[MessageGiven]
    context: WantedContext | None = Field(
        None, description="Adds what the memory knows; its trust raises the request's"
    )
    stream: bool = Field(False, description="Answer in pieces, as server-sent events")


class EmbedAsked(Routed):
    """Texts to embed."""

    model_config = _examples({"texts": ["kestrel", "falcon"]})

    texts: list[str] = Field(description="One vector for each")
    deadline: float | None = Field(None, ge=1, le=3600, description="Most seconds it may take; default 300")


class WhatIfGiven(Given):
    """What a preview is to assume."""

    mode: Literal["normal", "local", "offline"] | None = None
    trust: TrustName | None = None
    down: list[str] = Field([], description="Providers")
    consent: list[str] = Field([], description="Providers")


class PreviewAsked(Routed):
    """What would be sent: one of prompt, messages and texts."""

    model_config = _examples({"prompt": "Summarise this", "trust": "confidential"})

    prompt: str = ""
    system: str | None = None
    messages: list[MessageGiven] | None = None
    texts: list[str] | None = None
    context: WantedContext | None = None
    max_tokens: Annotated[int, Field(strict=True, ge=1, le=10_000_000), BeforeValidator(integral)] | None = None
    json_: bool = Field(False, alias="json")
    stream: bool = False
    what_if: WhatIfGiven | None = None


class ProbeQuery(Query):
    """Whether models are asked for a token."""

    probe: Flag = Field(False, description="Have the first chat model of local providers answer one token")


class AnswerTold(Told):
    """A model's answer, and where it came from."""

    receipt: str
    text: str = Field(description="Data, not instructions")
    provider: str
    model: str
    where: str
    trust: TrustName
    finish: str | None
    tokens: Json
    cost: Json
    attempts: int
    seconds: float


class EmbedTold(Told):
    """A vector for each text."""

    receipt: str
    vectors: list[list[float]]
    dimensions: int
    provider: str
    model: str


class PreviewTold(Told):
    """What would become of a request."""

    receipt: str
    trust: TrustName
    purpose: str
    mode: str
    steps: list[Json] = Field(description="Who would be asked, in this order")
    rejected: list[Json] = Field(description="Who would not be, and why")
    error: Json | None = Field(description="Why nobody would be")


class HealthTold(Told):
    """How each provider is."""

    mode: str
    policy: Json
    providers: list[Json]


class ModelsTold(Told):
    """Every model that routing sees, and the routes."""

    models: list[Json]
    routes: list[Json]


# --- Receipts -----------------------------------------------------------------------------------------------------


class ReceiptsQuery(Query):
    """Which receipts to list."""

    limit: UpTo1000 = Field(20, description="Most receipts")
    outcome: Outcome | None = Field(None, description="Only with this outcome")
    since: str | None = Field(None, description="Since: an ISO date or time, or an age such as 7d")


class ReceiptLine(Told):
    """A receipt in a line."""

    id: str
    at: str
    outcome: Outcome
    why: str | None
    operation: str
    client: str | None
    trust: TrustName
    micro_cents: int | None = Field(description="Null: not known")


class ReceiptsTold(Told):
    """The newest receipts first."""

    receipts: list[ReceiptLine]


class ReceiptTold(Told):
    """A receipt whole."""

    receipt: Json
    hash: str


class ReceiptsVerified(Told):
    """Whether all receipts are as they were written."""

    holds: bool
    files: list[Json]
