"""The eight built-in memory types as pydantic models: what a call may say. Files are read more leniently (`_types`)."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    TypeAdapter,
    WithJsonSchema,
)

from adaptive_llm_gateway.core import Trust, is_ulid

MAX_TITLE: Final = 300
MAX_LINE: Final = 2000
MAX_TEXT: Final = 20_000
MAX_TAGS: Final = 64
MAX_TAG: Final = 100
MAX_LINKS: Final = 256
MAX_ITEMS: Final = 100

_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def stamp(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds (more where there are more): `2026-11-21T14:02:00.123Z`."""
    moment = moment.astimezone(UTC)
    precision = "microseconds" if moment.microsecond % 1000 else "milliseconds"
    return moment.isoformat(timespec=precision)[:-6] + "Z"


def parse_moment(text: str) -> datetime:
    """A date or a date and time in ISO 8601; without a zone it is UTC.

    Raises:
        ValueError: neither.
    """
    text = text.strip()
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # the first or last day of the calendar, in another zone
        raise ValueError("outside the calendar") from None


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        value = value.isoformat()
    if not isinstance(value, str):
        raise ValueError("a date and time in ISO 8601")
    try:
        return parse_moment(value)
    except ValueError:
        raise ValueError("a date and time in ISO 8601, such as '2026-11-21T14:02:00Z'") from None


def _when(value: Any) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and _DATE.fullmatch(value.strip()):
        try:
            return date.fromisoformat(value.strip()).isoformat()
        except ValueError:
            raise ValueError("a date such as '2026-11-21'") from None
    return stamp(_moment(value))


def _line(value: Any) -> Any:
    if isinstance(value, str):
        value = value.strip()
        if _BREAKS.search(value):
            raise ValueError("a single line without control characters")
    return value


def _text(value: str) -> str:
    if _CONTROLS.search(value):
        raise ValueError("text without control characters")
    return value


def _tags(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError("a list of tags")
    tags: dict[str, None] = {}
    for item in value:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(item, str):
            raise ValueError("a list of texts")
        tag = item.strip()
        if not 1 <= len(tag) <= MAX_TAG or "," in tag or _BREAKS.search(tag):
            raise ValueError(f"tags of 1 to {MAX_TAG} characters on one line, without commas")
        tags[unicodedata.normalize("NFC", tag)] = None
    if len(tags) > MAX_TAGS:
        raise ValueError(f"at most {MAX_TAGS} tags")
    return list(tags)


def _ulid(value: Any) -> Any:
    if not isinstance(value, str) or not is_ulid(value.strip().upper()):
        raise ValueError("an id of 26 characters (ULID)")
    return value.strip().upper()


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Moment = Annotated[datetime, BeforeValidator(_moment), PlainSerializer(stamp, return_type=str)]
When = Annotated[str, BeforeValidator(_when), WithJsonSchema({"type": "string", "format": "date or date-time"})]
Ulid = Annotated[str, BeforeValidator(_ulid), WithJsonSchema({"type": "string", "format": "ulid"})]
Line = Annotated[str, Field(min_length=1, max_length=MAX_LINE), BeforeValidator(_line)]
Name = Annotated[str, Field(min_length=1, max_length=200), BeforeValidator(_line)]
Count = Annotated[StrictInt, Field(ge=0, le=10**15)]
Title = Annotated[str, Field(min_length=1, max_length=MAX_TITLE), BeforeValidator(_line)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_text)]
Tags = Annotated[
    list[str],
    BeforeValidator(_tags),
    WithJsonSchema({"type": "array", "maxItems": MAX_TAGS, "items": {"type": "string", "maxLength": MAX_TAG}}),
]


KindT = TypeVar("KindT", bound=str)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AuthorFields(_Model):
    """Who wrote the memory first."""

    client: Name
    agent: Name | None = None
    host: Name | None = None


class LinkFields(_Model):
    """A typed link to another memory."""

    rel: Name
    id: Ulid


class Common(_Model, Generic[KindT]):
    """The fields that every memory has."""

    id: Ulid = Field(description="identity; stays when the file is renamed or moved")
    type: KindT = Field(description="a built-in type, or one declared in `types/`")
    title: Title = Field(description="one line that says what it is about")
    created: Moment = Field(description="when it was first written")
    updated: Moment = Field(description="when it was last written")
    author: AuthorFields = Field(description="who wrote it first: the program, its agent, the machine")
    project: Name | None = Field(default=None, description="what it belongs to")
    tags: Tags = Field(
        default_factory=list[str], description="labels without commas; case is kept, doubles are dropped"
    )
    trust: Trust = Field(default=Trust.INTERNAL, description="who may see it")
    links: list[LinkFields] = Field(
        default_factory=list[LinkFields],
        max_length=MAX_LINKS,
        description="other memories; `rel` says how: `relates_to`, `supersedes`, ...",
    )
    source: Line | None = Field(default=None, description="where it comes from: a URL, a file, a commit")


class Note(Common[Literal["note"]]):
    """Anything worth keeping that is none of the other types."""


class Fact(Common[Literal["fact"]]):
    """Something that is, or was, true."""

    confidence: float | None = Field(default=None, ge=0, le=1, strict=True, description="how sure")
    valid_from: When | None = Field(default=None, description="true since")
    valid_until: When | None = Field(default=None, description="true until")


class Preference(Common[Literal["preference"]]):
    """How somebody wants things to be done."""

    scope: Line | None = Field(default=None, description="where it holds: a language, a tool, a repository")
    strength: Literal["weak", "normal", "strong"] = Field(default="normal", description="how much it weighs")


class Decision(Common[Literal["decision"]]):
    """What was decided, and why."""

    status: Literal["proposed", "accepted", "superseded", "rejected"] = Field(
        default="accepted", description="where it stands"
    )
    rationale: Text | None = Field(default=None, description="why")
    alternatives: Annotated[list[Text], BeforeValidator(_listed)] = Field(
        default_factory=list[str], max_length=MAX_ITEMS, description="what was not chosen"
    )
    supersedes: Annotated[list[Ulid], BeforeValidator(_listed)] = Field(
        default_factory=list[str], max_length=MAX_ITEMS, description="ids of the decisions it replaces"
    )


class Task(Common[Literal["task"]]):
    """Work to be done."""

    status: Literal["open", "in_progress", "blocked", "done", "cancelled"] = Field(
        default="open", description="where it stands"
    )
    priority: Literal["low", "normal", "high", "urgent"] = Field(default="normal", description="how much it matters")
    due: When | None = Field(default=None, description="when it has to be done")
    assignee: Name | None = Field(default=None, description="who does it")


class Session(Common[Literal["session"]]):
    """The log of one session of one client; each hub that writes to it has a file of its own."""

    session_id: Name | None = Field(default=None, description="the session's name; its files share it")
    client: Name | None = Field(default=None, description="the program that runs it")
    hub: Name | None = Field(default=None, description="the hub that writes this file")
    started: When | None = Field(default=None, description="when it began")
    ended: When | None = Field(default=None, description="when it ended")
    status: Literal["active", "ended"] = Field(default="active", description="where it stands")


class Handoff(Common[Literal["handoff"]]):
    """Work that one agent offers and another claims, or an event of it: see docs/handoff-protocol.md."""

    objective: Text | None = Field(default=None, description="what is to be reached")
    next_action: Text | None = Field(default=None, description="what to do first")
    open_questions: Annotated[list[Text], BeforeValidator(_listed)] = Field(
        default_factory=list[str], max_length=MAX_ITEMS, description="what is not decided yet"
    )
    constraints: Annotated[list[Text], BeforeValidator(_listed)] = Field(
        default_factory=list[str], max_length=MAX_ITEMS, description="what must be kept to"
    )
    to: Name | None = Field(default=None, description="whom it is for; nobody named means anybody")
    priority: Literal["low", "normal", "high", "urgent"] = Field(default="normal", description="how much it matters")
    expires: When | None = Field(default=None, description="until when it can be claimed")
    session_id: Name | None = Field(default=None, description="the session it comes from")
    checkpoint: StrictBool = Field(default=False, description="made while its session may still have run")
    directory: Line | None = Field(default=None, description="where the work lies on its machine")
    remote: Line | None = Field(default=None, description="the remote of the work's repository")
    branch: Line | None = Field(default=None, description="its branch")
    commit: Line | None = Field(default=None, description="its commit")
    dirty: Annotated[list[Line], BeforeValidator(_listed)] = Field(
        default_factory=list[str], max_length=200, description="files that were changed and not committed"
    )
    dirty_count: Count | None = Field(default=None, description="how many there were in all")
    event: Literal["claim", "confirm", "progress", "release", "decline", "done", "withdraw", "patch"] | None = Field(
        default=None, description="what happened; none: this is the offer"
    )
    handoff: Ulid | None = Field(default=None, description="of an event: the handoff's id")
    step: Count | None = Field(default=None, description="of an event: its place among those its writer knew")
    term: Count | None = Field(default=None, description="of a claim: its number")
    claim: Ulid | None = Field(default=None, description="of an event: the claim that it belongs to")
    lease_until: When | None = Field(default=None, description="of a claim or progress: until when it is held")
    provisional: StrictBool = Field(default=False, description="of a claim: made without the remote")
    hub: Name | None = Field(default=None, description="of an event: the hub that wrote it")
    instance: Name | None = Field(default=None, description="of an event: which process of the client")
    client_id: Name | None = Field(default=None, description="of a client with a token: what no other is called")


class Route(Common[Literal["route"]]):
    """Which model is to serve a purpose, and why."""

    purpose: Name | None = Field(default=None, description="what the requests are for")
    provider: Name | None = Field(default=None, description="the provider's name")
    model: Name | None = Field(default=None, description="the model's name")
    fallbacks: Annotated[list[Line], BeforeValidator(_listed)] = Field(
        default_factory=list[str], max_length=MAX_ITEMS, description="what to try next, as `provider/model`"
    )
    max_trust: Trust | None = Field(default=None, description="the highest trust level it may carry")
    enabled: StrictBool = Field(default=True, description="whether it is to be used")
    calls: Count | None = Field(default=None, description="how often it was called")
    answered: Count | None = Field(default=None, description="how many of these were answered")
    latency_ms: Count | None = Field(default=None, description="milliseconds to an answer, on average")
    micro_cents: Count | None = Field(
        default=None, description="what the answers cost together, in millionths of a cent"
    )
    recent_calls: Count | None = Field(default=None, description="calls that routing learns from; older ones fade")
    recent_answered: Count | None = Field(default=None, description="how many of these were answered")
    recent_ms: Count | None = Field(default=None, description="milliseconds to an answer of these, on average")


Memory = Annotated[Note | Fact | Preference | Decision | Task | Session | Handoff | Route, Discriminator("type")]
MEMORY: Final[TypeAdapter[Memory]] = TypeAdapter(Memory)

BUILT_IN: Final[MappingProxyType[str, type[Common[Any]]]] = MappingProxyType(
    {
        "note": Note,
        "fact": Fact,
        "preference": Preference,
        "decision": Decision,
        "task": Task,
        "session": Session,
        "handoff": Handoff,
        "route": Route,
    }
)
FOLDERS: Final[MappingProxyType[str, str]] = MappingProxyType({name: f"{name}s" for name in BUILT_IN})
AnyCommon = Common[str]
"""The common fields of a type that a user declared."""

COMMON_FIELDS: Final = tuple(Common.model_fields)
