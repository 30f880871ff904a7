"""The gateway's part of the configuration: providers by name, routes, and what holds for every request.

Keys stand in no file: a provider's entry names the environment variable that has its key, and what is given in the
place of a name is refused without being shown.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from adaptive_llm_gateway.core._provider_kinds import ProviderKind
from adaptive_llm_gateway.core._trust import Trust

PROVIDER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""What a provider and a route may be called."""
HOW_TO_GIVE_A_KEY: Final = (
    "Keys stand in no file: put the key into an environment variable of the hub, and that variable's name in `key_env`."
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_ADDRESS = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?|unix:\S+")


class Section(BaseModel):
    """A part of the configuration: it does not change, and has the keys that it has."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _checked_name(name: str) -> str:
    if not PROVIDER_NAME.fullmatch(name):
        raise ValueError("a name has at most 64 of a-z, 0-9, `-` and `_`, and begins with a letter or a digit")
    if name == "auto":
        raise ValueError("'auto' leaves the choice to the gateway, and is no name for one of the user's own")
    return name


def checked_variable(name: str | None) -> str | None:
    """The name of an environment variable. Raises ValueError for what is none, and may be a key."""
    if name is not None and (not _VARIABLE.fullmatch(name) or _looks_like_a_key(name)):
        raise ValueError("this is no name of an environment variable, and may be a key: write names in capitals")
    return name


def _looks_like_a_key(name: str) -> bool:
    """Names of variables are words in capitals; keys are long, and mix letters with digits."""
    digits = sum(char.isdigit() for char in name)
    return len(name) >= 20 and (digits >= 6 or (digits > 0 and any(char.islower() for char in name)))


def checked_address(url: str | None) -> str | None:
    """An address without user, query and fragment. Raises ValueError for another."""
    if url is not None and not _ADDRESS.fullmatch(url):
        raise ValueError(
            "write it as 'http://host:port/v1' or 'unix:///path/socket:/v1', without a user, a query or a fragment"
        )
    return url


def _listed(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class GatewaySettings(Section):
    """What holds for every request to a model."""

    default_trust: Trust = Field(
        Trust.INTERNAL, description="The trust level of a request that declares none and carries nothing higher."
    )
    personal_data: Trust = Field(Trust.CONFIDENTIAL, description="The trust level of a text with personal data in it.")
    personal_allowed: Annotated[tuple[str, ...], BeforeValidator(_listed)] = Field(
        (),
        description="Addresses that are no personal data, such as your own: `me@example.org`, or `@example.org` for a "
        "whole domain.",
    )
    deadline_seconds: float = Field(
        300.0, ge=1, le=86_400, description="Longest time in seconds that a request may take, all attempts included."
    )
    budget_micro_cents: int | None = Field(
        None,
        ge=0,
        description="What a request may cost where it does not say: millionths of a cent; default: no bound.",
    )
    discover: bool = Field(
        True, description="Use local servers of models that run at their usual ports, without naming them here."
    )
    learn: bool = Field(
        True,
        description="Remember how models fare, and call of equal ones first those that answer more reliably or faster.",
    )
    retention_days: int = Field(90, ge=1, le=36_500, description="How long receipts and run folders are kept, in days.")
    retention_mb: int = Field(
        1024, ge=1, le=1_048_576, description="How much of them is kept, in megabytes; the oldest go first."
    )


class ModelSettings(Section):
    """What a model can do, where its provider does not tell."""

    name: str = Field(min_length=1, max_length=200, description="The model's name at the provider.")
    chat: bool | None = Field(None, description="Whether it answers messages.")
    embed: bool | None = Field(None, description="Whether it makes vectors of texts.")
    stream: bool | None = Field(None, description="Whether it answers in pieces.")
    tools: bool | None = Field(None, description="Whether it calls tools.")
    json_: bool | None = Field(None, alias="json", description="Whether it answers in JSON when asked to.")
    context: int | None = Field(None, ge=1, description="Tokens of prompt and answer together.")


class ProviderSettings(Section):
    """A provider of models."""

    kind: ProviderKind = Field(description="What it is; `built_in` answers without a model, for trying things out.")
    url: Annotated[str | None, AfterValidator(checked_address)] = Field(
        None, description="Where its API begins; default: its kind's usual address."
    )
    key_env: Annotated[str | None, AfterValidator(checked_variable)] = Field(
        None,
        description="Environment variable that has the key; default: its kind's usual one, or the keychain's entry.",
    )
    enabled: bool = Field(True, description="Whether it may be used.")
    order: int = Field(0, ge=-1000, le=1000, description="Lower ones are tried first among those that fit equally.")
    concurrency: int | None = Field(None, ge=1, le=10_000, description="Requests at once; default: no bound.")
    per_minute: int | None = Field(None, ge=1, le=1_000_000, description="Requests a minute; default: no bound.")
    timeout: float = Field(
        120.0, ge=0.1, le=3600, description="Longest wait in seconds for its answer, or for the next piece of it."
    )
    models: tuple[ModelSettings, ...] = Field(
        (),
        description="Models that it does not list, or does not tell all of: each has a `name`, and `chat`, `embed`, "
        "`stream`, `tools`, `json` (true or false) and `context` (tokens) where they are to be set.",
    )

    @model_validator(mode="after")
    def _complete(self) -> ProviderSettings:
        if self.kind == "openai_compatible" and self.url is None:
            raise ValueError("a provider of kind 'openai_compatible' needs its `url`")
        if len({model.name for model in self.models}) != len(self.models):
            raise ValueError("`models` names a model twice")
        return self


Providers = dict[Annotated[str, AfterValidator(_checked_name)], ProviderSettings]
Routes = dict[
    Annotated[str, AfterValidator(_checked_name)],
    Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_listed), Field(min_length=1)],
]

_KEY_WORDS = re.compile(
    r"(x[-_])?(api[-_]?)?(key|token|secret|password|authorization|auth|bearer|headers)", re.IGNORECASE
)


def key_in(section: object, path: str) -> str | None:
    """The path of the first entry below `path` that is called as a key is, or None; values are not looked at."""
    if isinstance(section, dict):
        for name, value in cast("dict[object, object]", section).items():
            below = f"{path}.{name}"
            # A provider may be called `secret`; what has no mapping under it is no provider.
            if _KEY_WORDS.fullmatch(str(name)) and not isinstance(value, dict):
                return below
            if (found := key_in(cast("object", value), below)) is not None:
                return found
    return None
