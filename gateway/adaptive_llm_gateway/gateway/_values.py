"""What is asked of a model and what it answers: the values that go through the provider seam. No SDK's type does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "tool", "filter"]
Purpose = str
"""`chat`, `complete`, `embed`, or a name of the user's own: a column of the policy."""
PURPOSES: Final[tuple[Purpose, ...]] = ("chat", "complete", "embed")
"""Those that every policy knows."""
ProviderClass = Literal["local", "hosted"]
"""Where a provider's destination is, as proved and not as named."""
PROVIDER_CLASSES: Final[tuple[ProviderClass, ...]] = get_args(ProviderClass)


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
        sent: called once the request has left, where the provider can tell: the answer takes a while, which is time for
            what has to be done in any case.
    """

    messages: tuple[Message, ...]
    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    json: bool = False
    stop: tuple[str, ...] = ()
    sent: Callable[[], object] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them; None where it does not tell.

    Attributes:
        input_tokens: all that it read.
        cached_tokens: those of them that its cache had.
        written_tokens: those of them that its cache took in.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    written_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A whole answer. One that broke off is a failure (`incomplete`), never this."""

    text: str
    finish: Finish
    usage: Usage
    model: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector for each text, in their order, all of one length and finite."""

    vectors: list[list[float]]
    usage: Usage = Usage()


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
        by_name: only taken where it is asked for by its name, or by a route.
    """

    name: str
    chat: bool | None = None
    embed: bool | None = None
    stream: bool | None = None
    tools: bool | None = None
    json: bool | None = None
    context: int | None = None
    remote: bool = False
    by_name: bool = False
