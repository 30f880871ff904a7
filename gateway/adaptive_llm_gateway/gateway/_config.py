"""How the gateway is set up: frozen values that the server makes from the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, get_args

from adaptive_llm_gateway.core import ConfigError, PersonalKind, ProviderKind, Trust
from adaptive_llm_gateway.gateway._breaker import BreakerRules
from adaptive_llm_gateway.gateway._retry import RetryRules
from adaptive_llm_gateway.gateway._routing import Route

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway._health import Server

PROVIDER_KINDS: Final[tuple[ProviderKind, ...]] = get_args(ProviderKind)
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class LocalKind:
    """Where a kind of local server usually is, and what tells its models."""

    url: str
    server: Server


LOCAL_KINDS: Final[dict[ProviderKind, LocalKind]] = {
    "ollama": LocalKind("http://127.0.0.1:11434/v1", "ollama"),
    "lmstudio": LocalKind("http://127.0.0.1:1234/v1", "lmstudio"),
    "localai": LocalKind("http://127.0.0.1:8080/v1", "openai"),
    "llamacpp": LocalKind("http://127.0.0.1:8080/v1", "llamacpp"),
    "vllm": LocalKind("http://127.0.0.1:8000/v1", "vllm"),
    "openwebui": LocalKind("http://127.0.0.1:3000/api", "openai"),
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model that the provider does not list, or of which it does not tell all; None leaves what it tells.

    Attributes:
        context: tokens of prompt and answer together.
    """

    name: str
    chat: bool | None = None
    embed: bool | None = None
    stream: bool | None = None
    tools: bool | None = None
    json: bool | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """A provider of the user's.

    Attributes:
        url: its base, where the API's paths begin; None takes the kind's own.
        key_env: the environment variable that holds its key; None takes the kind's own, local kinds have none.
        order: lower goes first among equals.
        concurrency: requests that it may have at once; None sets no bound.
        per_minute: requests that may begin within a minute; None sets no bound.
        timeout: seconds to its answer; of a stream, to the first piece and from each to the next.
        models: what is known of its models besides what it tells.

    Raises:
        ConfigError: the name is none, or the kind needs an address.
    """

    name: str
    kind: ProviderKind
    url: str | None = None
    key_env: str | None = None
    enabled: bool = True
    order: int = 0
    concurrency: int | None = None
    per_minute: int | None = None
    timeout: float = 120.0
    models: tuple[ModelConfig, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name == "auto":
            raise ConfigError(
                f"the provider's name {self.name[:80]!r} is not allowed",
                hint="Use small letters, digits, '-' and '_', such as 'work-ollama'.",
                key=f"providers.{self.name[:80]}",
            )
        if self.kind == "openai_compatible" and not self.url:
            raise ConfigError(
                f"the provider {self.name!r} has no url",
                hint="An `openai_compatible` provider needs one, such as 'http://127.0.0.1:9000/v1'.",
                key=f"providers.{self.name}.url",
            )


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The gateway's settings.

    Attributes:
        default_trust: of a request that declares none.
        deadline: seconds that a request may take, all attempts together.
        budget: micro-cents of a request that names no budget; None sets no bound.
        discover: use local servers that run at their usual ports, though nobody configured them.
        personal: levels of kinds of personal data that differ from the usual ones; None does not look for a kind.
        personal_allowed: addresses that raise no level: `me@example.org`, or `@example.org` for a domain's.
        retention_days: after which receipts and runs go.
        retention_bytes: that receipts and runs may take.
    """

    providers: tuple[ProviderConfig, ...] = ()
    routes: tuple[Route, ...] = ()
    default_trust: Trust = Trust.INTERNAL
    deadline: float = 300.0
    budget: int | None = None
    retries: RetryRules = field(default_factory=RetryRules)
    breaker: BreakerRules = field(default_factory=BreakerRules)
    discover: bool = True
    personal: Mapping[PersonalKind, Trust | None] = field(default_factory=dict[PersonalKind, Trust | None])
    personal_allowed: tuple[str, ...] = ()
    retention_days: int = 90
    retention_bytes: int = 1 << 30

    def __post_init__(self) -> None:
        names = [provider.name for provider in self.providers]
        routes = [route.name for route in self.routes]
        for what, found in (("providers", names), ("routes", routes)):
            if twice := sorted({name for name in found if found.count(name) > 1}):
                raise ConfigError(f"{what} has {twice[0]!r} twice", key=what)
        for route in self.routes:
            if not route.models or route.name in ("", "auto"):
                raise ConfigError(
                    f"the route {route.name!r} has no models, or a name that is taken",
                    hint="Give it a list of models, each as `provider/model` or a model's name.",
                    key=f"routes.{route.name}",
                )
