"""The port to providers of models: five questions, their answers and their failures, all of our own types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from adaptive_llm_gateway.core import Unavailable
from adaptive_llm_gateway.gateway._values import Embedded, ModelAnswer, ModelInfo, ModelRequest, Piece

FailureKind = Literal[
    "refused",  # nobody answers there, or our side would not connect
    "timeout",
    "rate_limited",
    "overloaded",
    "server",
    "auth",
    "bad_request",
    "too_long",  # the prompt is longer than the model's context
    "redirect",
    "broken",  # the answer is not what the API promises
    "incomplete",  # the answer broke off, or nothing says that it is whole
    "cancelled",
]
LONGEST_MESSAGE = 400  # characters of a failure's message


class ProviderFailure(Unavailable):
    """A provider gave no answer, or not a whole one.

    Args:
        kind: what went wrong; "broken" where nothing is said, and then it is not among the details.
        message: one or two sentences, without a key; cut to 400 characters.
        retry_after: seconds that the provider asked to wait, as it said them: the caller bounds them.
        status: HTTP status, where there was one.
    """

    code = "provider_failed"
    exit_code = 9

    def __init__(
        self,
        message: str,
        *,
        kind: FailureKind | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        hint: str | None = None,
        **details: Any,
    ) -> None:
        if len(message) > LONGEST_MESSAGE:
            message = message[: LONGEST_MESSAGE - 1] + "…"
        told = {"kind": kind, "retry_after": retry_after, "status": status}
        super().__init__(
            message, hint=hint, **{name: value for name, value in told.items() if value is not None}, **details
        )
        self.kind: FailureKind = kind or "broken"
        self.retry_after = retry_after
        self.status = status


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a provider answers as what it is.

    `state`: "up"; "down", nobody answers; "other", somebody answers who is not that provider. `server` is what answers
    by its own signs, `models` how many it offers.
    """

    state: Literal["up", "down", "other"]
    server: str | None = None
    version: str | None = None
    models: int | None = None
    said: str = ""


@runtime_checkable
class ProviderPort(Protocol):
    """A provider of models. Every method raises `ProviderFailure`, and a cancelled task's `CancelledError` as it is.

    `timeout` is in seconds: for the whole answer; of a stream, for the first piece and from each to the next.
    """

    name: str

    async def chat(self, request: ModelRequest, *, timeout: float) -> ModelAnswer:
        """The whole answer."""
        ...

    def stream(self, request: ModelRequest, *, timeout: float) -> AsyncIterator[Piece]:
        """The answer in pieces. It ends without a failure only if a piece had a `finish`; close it if you leave it."""
        ...

    async def embed(self, texts: Sequence[str], model: str, *, timeout: float) -> Embedded:
        """The vectors of texts."""
        ...

    async def models(self, *, timeout: float) -> list[ModelInfo]:
        """The models it offers, in the order of their names."""
        ...

    async def health(self, *, timeout: float) -> Health:
        """Whether it answers; no model is run. Never raises `ProviderFailure`."""
        ...

    async def close(self) -> None:
        """Close its connections; harmless when repeated."""
        ...
