"""What goes through the provider seam: requests, answers, models, failures. Our own types; no SDK's crosses it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, Protocol, get_args

from adaptive_llm_gateway.core import AlgError

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool", "filter"]
Purpose = str
"""`chat`, `complete`, `embed`, or a name of the user's own: a column of the policy."""
PURPOSES: Final[tuple[Purpose, ...]] = ("chat", "complete", "embed")
"""Those that every policy knows."""
ProviderClass = Literal["local", "hosted"]
"""Where a provider's destination is, as proved and not as named."""
PROVIDER_CLASSES: Final[tuple[ProviderClass, ...]] = get_args(ProviderClass)
FailureKind = Literal[
    "refused",
    "timeout",
    "rate_limited",
    "overloaded",
    "server",
    "auth",
    "bad_request",
    "too_long",
    "redirect",
    "broken",
    "incomplete",
    "cancelled",
]
LONGEST_MESSAGE: Final = 500
"""Characters of a failure's text that are kept: a peer may answer with anything."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model is asked.

    Attributes:
        model: its name at the provider.
        max_tokens: of the answer; None leaves it to the provider.
        json: the answer has to be one JSON value.
        stop: texts at which the answer ends.
    """

    messages: tuple[Message, ...]
    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    json: bool = False
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them; None where it does not tell."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A whole answer. One that broke off is a failure (`incomplete`), never this."""

    text: str
    finish: Finish
    usage: Usage
    model: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a streamed answer; the one with `finish` ends it."""

    text: str = ""
    finish: Finish | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model; None is not known.

    Attributes:
        context: tokens of prompt and answer together.
        remote: served elsewhere, though its provider is on this machine (Ollama's cloud models).
    """

    name: str
    chat: bool | None = None
    embed: bool | None = None
    stream: bool | None = None
    tools: bool | None = None
    json: bool | None = None
    context: int | None = None
    remote: bool = False


class ProviderFailure(AlgError):
    """A provider did not answer as asked; `kind` says how.

    Args:
        message: in our words or the peer's, without keys; cut after `LONGEST_MESSAGE` characters.
        retry_after: seconds that the peer asked to wait, unclamped.
        status: of HTTP, where there was an answer.
    """

    code: ClassVar[str] = "provider_failed"
    exit_code: ClassVar[int] = 9

    def __init__(
        self,
        message: str,
        *,
        kind: FailureKind,
        retry_after: float | None = None,
        status: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message[:LONGEST_MESSAGE], hint=hint, kind=kind, retry_after=retry_after, status=status)
        self.kind: FailureKind = kind
        self.retry_after = retry_after
        self.status = status


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a provider answers, and what it said if it does not."""

    ok: bool
    message: str = ""


class ProviderPort(Protocol):
    """One provider. Every method may raise `ProviderFailure` and nothing else; `timeout` is in seconds."""

    async def chat(self, request: ModelRequest, *, timeout: float) -> ModelAnswer:
        """One whole answer."""
        ...

    def stream(self, request: ModelRequest, *, timeout: float) -> AsyncIterator[Piece]:
        """The answer piece by piece; ends with a piece that has `finish`, or fails."""
        ...

    async def embed(self, texts: Sequence[str], model: str, *, timeout: float) -> list[list[float]]:
        """One vector for each text, in their order, all of one length."""
        ...

    async def models(self) -> list[ModelInfo]:
        """The models it offers, with what it tells of them."""
        ...

    async def health(self) -> Health:
        """Whether it can be reached now."""
        ...

    async def close(self) -> None:
        """Let go of connections; may be called twice."""
        ...
