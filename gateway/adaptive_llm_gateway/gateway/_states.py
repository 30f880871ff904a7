"""The providers as they stand: what they offer, where they are, how they fared, and what they may still take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from adaptive_llm_gateway.core import AlgError, ConfigError
from adaptive_llm_gateway.gateway._breaker import (
    Breaker,
    BreakerRules,
    Circuit,
    admit,
    circuit,
    failed,
    opens_in,
    released,
    succeeded,
)
from adaptive_llm_gateway.gateway._config import LOCAL_KINDS, ModelConfig, ProviderConfig, ProviderKind
from adaptive_llm_gateway.gateway._locality import Address, Locality, address_of, class_of, locality_of
from adaptive_llm_gateway.gateway._port import Health, ProviderFailure, ProviderPort
from adaptive_llm_gateway.gateway._routing import Mode, ProviderState
from adaptive_llm_gateway.gateway._values import ModelInfo, ProviderClass

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway._discover import FoundServer
    from adaptive_llm_gateway.gateway._keys import KeySource

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
"""How long a provider may take to say what it offers."""
FRESH_SECONDS: Final = 60.0
"""How long what it said is taken as it is: a name may come to mean a model that is served elsewhere."""
AGING_SECONDS: Final = 20.0
"""From when on it is asked anew in the background, so that requests that come often never wait for it."""
HOSTED_SECONDS: Final = 3_600.0
"""From when on a hosted provider is asked anew what it lists."""
AGAIN_SECONDS: Final = 1.0
"""How soon a provider that did not answer is asked again, where nobody else gets the request."""
_MINUTE = 60.0


async def located(config: ProviderConfig) -> Locality:
    """Where a provider's requests end, as proved now."""
    from adaptive_llm_gateway.gateway._hosted import HOSTED  # noqa: PLC0415 - on first use

    if config.kind == "built_in":
        return Locality(True, "it is this program")
    if config.kind in HOSTED and config.url is None:
        return Locality(False, f"{config.kind} is a hosted service")  # no question of DNS before a request
    return await locality_of(_address(config), timeout=LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """A provider as a person wants to see it.

    Attributes:
        why: why it counts as local or hosted.
        key: what is known of its key; never the key.
        found: it runs here and was found, nobody configured it.
        took: seconds that asking it took.
    """

    name: str
    kind: ProviderKind
    provider_class: ProviderClass
    why: str
    health: Health
    circuit: Circuit
    models: tuple[ModelInfo, ...]
    key: Literal["not needed", "set", "missing"]
    enabled: bool
    found: bool
    took: float


@dataclass(slots=True, eq=False)
class _Known:
    """What is known of one provider; changes as requests go by."""

    config: ProviderConfig
    found: bool = False
    port: ProviderPort | None = None
    given: bool = False
    """The port was handed in: it is not made anew."""
    locality: Locality | None = None
    listed: tuple[ModelInfo, ...] = ()
    looked_at: float | None = None
    listed_at: float | None = None
    answered: bool = False
    said: str = ""
    key_missing: str | None = None
    key: str | None = field(default=None, repr=False)
    """As it was last found, to be taken out of what is written down; each call looks it up anew."""
    breaker: Breaker = field(default_factory=Breaker)
    held_until: float = 0.0
    began: deque[float] = field(default_factory=deque[float])
    running: int = 0
    slots: asyncio.Semaphore | None = None
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _offered: tuple[tuple[ModelInfo, ...], ProviderClass, tuple[ModelInfo, ...]] | None = None

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """What it offers. Every request wants it, and it changes only with what the provider lists."""
        made, own = self._offered, self.provider_class
        if made is None or made[0] is not self.listed or made[1] != own:
            made = self._offered = (self.listed, own, _models(self))
        return made[2]

    @property
    def provider_class(self) -> ProviderClass:
        return "hosted" if self.locality is None else class_of(self.locality)


@dataclass(frozen=True, slots=True)
class NotNow:
    """Why a provider is passed over although the plan has it: things changed since the plan was made."""

    why: str


class Providers:
    """The providers of one gateway. One event loop uses it.

    Args:
        given: ports by name, instead of those that the configuration would make.
        locate: proves where a provider is.
        search: finds local servers that run; None looks for none.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        configs: Sequence[ProviderConfig],
        *,
        breaker: BreakerRules,
        clock: Callable[[], float],
        mode: Mode = "normal",
        given: Mapping[str, ProviderPort] | None = None,
        locate: Callable[[ProviderConfig], Awaitable[Locality]] = located,
        search: Callable[[], Awaitable[list[FoundServer]]] | None = None,
    ) -> None:
        self._rules = breaker
        self._clock = clock
        self._mode: Mode = mode
        self._locate = locate
        self._search = search
        self._searched_at: float | None = None
        self._searching = asyncio.Lock()
        self._known: dict[str, _Known] = {}
        for config in configs:
            known = _Known(config)
            known.port = (given or {}).get(config.name)
            known.given = known.port is not None
            if config.concurrency is not None:
                known.slots = asyncio.Semaphore(config.concurrency)
            self._known[config.name] = known
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking: set[_Known] = set()

    async def set_mode(self, mode: Mode) -> None:
        """Take on a mode: connections to elsewhere are closed, also those of requests under way. A local provider's
        end on this machine in every mode, and stay."""
        if mode == self._mode:
            return
        self._mode = mode
        for known in self._known.values():
            known.looked_at = None
            if known.provider_class == "hosted":
                await self._let_go(known)

    async def ready(self) -> None:
        """Know all providers: local ones are asked now what they offer, if that is not known or long ago.

        What a hosted one lists is only wanted for names that nobody else knows, and nobody waits for it here.
        """
        await self._search_once()
        now = self._clock()
        enabled = [known for known in self._known.values() if known.config.enabled]
        stale = [known for known in enabled if known.looked_at is None or now - known.looked_at > FRESH_SECONDS]
        if stale:
            await asyncio.gather(*(self._look(known, lists_hosted=False) for known in stale))
        for known in enabled:
            at = known.listed_at
            aging = AGING_SECONDS if known.provider_class == "local" else HOSTED_SECONDS
            if (at is None or now - at > aging) and not known.looking.locked() and known not in self._asking:
                self._asking.add(known)
                self._in_background(partial(self._look, known), then=lambda known=known: self._asking.discard(known))
        if self._search is not None and now - (self._searched_at or now) > FRESH_SECONDS:
            self._searched_at = now
            self._in_background(self._search_again)

    async def look_again(self) -> bool:
        """Ask those once more that did not answer a moment ago: somebody may have started one. Whether any was."""
        now = self._clock()
        if self._search is not None and now - (self._searched_at or 0.0) > AGAIN_SECONDS:
            await self._search_again()
        silent = [
            known
            for known in self._known.values()
            if known.config.enabled
            and not known.answered
            and (known.listed_at is None or now - known.listed_at > AGAIN_SECONDS)
        ]
        await asyncio.gather(*(self._look(known) for known in silent))
        return bool(silent) or self._search is not None

    def states(self) -> tuple[ProviderState, ...]:
        """What routing sees, by name."""
        now = self._clock()
        return tuple(self._state(self._known[name], now) for name in sorted(self._known))

    def port(self, name: str, provider_class: ProviderClass) -> ProviderPort:
        """How a provider is reached.

        Args:
            provider_class: as the plan has it.

        Raises:
            ProviderFailure: it cannot be, or it is not where it was when the plan was made.
        """
        known = self._known[name]
        if provider_class == "local" and known.provider_class != "local":
            why = known.locality.why if known.locality else "nobody looked"
            raise ProviderFailure(f"{name!r} is not on this machine any more ({why}): nothing was sent", kind="refused")
        if known.port is None:
            raise ProviderFailure(f"{name!r} cannot be used: {known.said or 'it was never asked'}", kind="refused")
        return known.port

    def timeout(self, name: str) -> float:
        """Seconds that a provider may take."""
        return self._known[name].config.timeout

    @property
    def silent(self) -> dict[str, str]:
        """Those of which it is not known what they offer now, and why."""
        return {name: known.said for name, known in self._known.items() if known.said and known.config.enabled}

    @property
    def looked_for(self) -> tuple[str, ...]:
        """What was looked for, in words."""
        configured = [f"{name} ({said})" for name, said in self.silent.items()]
        usual = ["local servers at their usual ports (Ollama, LM Studio, llama.cpp, vLLM)"] * (self._search is not None)
        return (*configured, *usual)

    def keys(self) -> tuple[str, ...]:
        """The providers' keys, so that nobody writes them down: those of the environment now, and any found before."""
        found: set[str] = set()
        for known in self._known.values():
            source = _key(known.config)
            if source is not None and source.env:
                found.add(os.environ.get(source.env, "").strip())
            found.add(known.key or "")
        return tuple(sorted(found - {""}))

    @contextlib.asynccontextmanager
    async def turn(self, name: str) -> AsyncGenerator[NotNow | None]:
        """Hold a place at a provider, waiting for one where it has as many requests as it may have.

        What it gives is None where the request may be sent, else why not.
        """
        known = self._known[name]
        if known.slots is not None:
            await known.slots.acquire()
        known.running += 1
        try:
            now = self._clock()
            breaker = admit(known.breaker, self._rules, now)
            if breaker is None:
                yield NotNow(f"its circuit opened, for {opens_in(known.breaker, self._rules, now):.1f} s")
            elif (limited := self._limited_for(known, now)) > 0:
                yield NotNow(f"its rate limit holds for {limited:.1f} s")
            else:
                known.breaker = breaker
                if known.config.per_minute is not None:
                    known.began.append(now)
                yield None
        finally:
            known.running -= 1
            if known.slots is not None:
                known.slots.release()

    def went_well(self, name: str) -> None:
        """A request that was let through was answered."""
        known = self._known[name]
        known.breaker = succeeded(known.breaker)

    def went_wrong(self, name: str, failure: ProviderFailure) -> None:
        """A request that was let through failed."""
        known = self._known[name]
        known.breaker = failed(known.breaker, self._rules, failure.kind, self._clock())

    def was_left(self, name: str) -> None:
        """A request that was let through ended without saying anything about the provider."""
        known = self._known[name]
        known.breaker = released(known.breaker)

    def hold(self, name: str, seconds: float) -> None:
        """Leave a provider alone for a while, as it asked."""
        known = self._known[name]
        known.held_until = max(known.held_until, self._clock() + seconds)

    async def health(self) -> tuple[ProviderHealth, ...]:
        """Ask every provider now, side by side."""
        await self._search_again()
        return tuple(await asyncio.gather(*(self._health(self._known[name]) for name in sorted(self._known))))

    async def close(self) -> None:
        """Close every connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for known in self._known.values():
            if known.port is not None:
                await known.port.close()

    # --- what routing sees ------------------------------------------------------------------------------------

    def _state(self, known: _Known, now: float) -> ProviderState:
        config = known.config
        return ProviderState(
            name=config.name,
            provider_class=known.provider_class,
            models=known.models,
            lists_all=known.provider_class == "local",
            enabled=config.enabled,
            order=config.order,
            key_missing=known.key_missing,
            circuit=circuit(known.breaker, self._rules, now),
            opens_in=opens_in(known.breaker, self._rules, now),
            limited_for=self._limited_for(known, now),
            running=known.running,
            concurrency=config.concurrency,
        )

    def _limited_for(self, known: _Known, now: float) -> float:
        held = max(known.held_until - now, 0.0)
        most = known.config.per_minute
        if most is None:
            return held
        while known.began and known.began[0] <= now - _MINUTE:
            known.began.popleft()
        return max(held, known.began[-most] + _MINUTE - now) if len(known.began) >= most else held

    # --- asking them ------------------------------------------------------------------------------------------

    async def _look(self, known: _Known, *, lists_hosted: bool = True) -> None:
        """Learn where a provider is, whether its key is there, and what it offers."""
        asked = self._clock()
        async with known.looking:
            done = known.listed_at if lists_hosted else known.looked_at
            if done is not None and done > asked:  # somebody else did, while this waited
                return
            try:
                await self._connect(known)
                known.looked_at = self._clock()
                if known.provider_class == "hosted" and not lists_hosted:
                    return
                if known.port is not None and self._may_ask(known):
                    known.listed = tuple(await known.port.models(timeout=LOOK_SECONDS))
                    known.answered, known.said = True, ""
                known.listed_at = self._clock()
            except AlgError as error:
                known.answered, known.said = False, error.message
                known.looked_at = known.listed_at = self._clock()
                if known.config.kind == "ollama":
                    known.listed = ()  # what its names mean by now is not known, and it serves models of elsewhere
                if not isinstance(error, ProviderFailure):
                    known.key_missing = error.message  # a setting that keeps it from being used

    def _may_ask(self, known: _Known) -> bool:
        """Whether it may be asked what it offers: not without its key, nor elsewhere while nothing may leave."""
        if known.provider_class == "hosted" and self._mode != "normal":
            known.answered, known.said = False, f"not asked: the mode is {self._mode!r}"
            return False
        return known.key_missing is None

    async def _connect(self, known: _Known) -> None:
        locality = await self._locate(known.config)
        if known.locality is not None and known.locality.local != locality.local:
            await self._let_go(known)
        known.locality = locality
        key = _key(known.config)
        known.key_missing = None
        if key is not None:
            try:
                known.key = await key.resolve(known.config.name)
            except ProviderFailure as failure:
                known.key_missing = failure.message
        if known.port is None:
            known.port = self._made(known.config, locality, key)

    def _made(self, config: ProviderConfig, locality: Locality, key: KeySource | None) -> ProviderPort:
        if config.kind == "built_in":
            from adaptive_llm_gateway.gateway._built_in import BuiltInProvider  # noqa: PLC0415 - rarely wanted

            return BuiltInProvider(config.name)
        from adaptive_llm_gateway.gateway._hosted import HOSTED  # noqa: PLC0415
        from adaptive_llm_gateway.gateway._http_provider import HttpProvider, ProviderSpec  # noqa: PLC0415 - on first use

        address = _address(config)
        # The connection's peer is compared for a local one: its name may resolve to another address by then.
        only_here = locality.local or self._mode == "offline"
        hosted = HOSTED.get(config.kind)
        if hosted is not None:
            spec = ProviderSpec(
                config.name,
                address,
                dialect=hosted.dialect,
                key=key,
                limit=hosted.limit,
                stream_usage=hosted.stream_usage,
                loopback_only=only_here,
            )
        else:
            local = LOCAL_KINDS.get(config.kind)
            spec = ProviderSpec(
                config.name, address, server=local.server if local else "openai", key=key, loopback_only=only_here
            )
        return HttpProvider(spec)

    async def _let_go(self, known: _Known) -> None:
        if known.port is not None and not known.given:
            port, known.port = known.port, None
            await port.close()

    async def _health(self, known: _Known) -> ProviderHealth:
        began = self._clock()
        if known.config.enabled:
            await self._look(known)
        port = known.port
        if not known.config.enabled:
            health = Health("down", said="it is switched off")
        elif known.answered and port is not None:
            health = await port.health(timeout=LOOK_SECONDS)
        else:
            health = Health("down", said=known.key_missing or known.said)
        now = self._clock()
        key: Literal["not needed", "set", "missing"] = "not needed"
        if _key(known.config) is not None:
            key = "missing" if known.key_missing else "set"
        return ProviderHealth(
            known.config.name,
            known.config.kind,
            known.provider_class,
            known.locality.why if known.locality else "nobody looked",
            health,
            circuit(known.breaker, self._rules, now),
            known.models,
            key,
            known.config.enabled,
            known.found,
            now - began,
        )

    # --- local servers that nobody configured -----------------------------------------------------------------

    async def _search_once(self) -> None:
        if self._search is not None and self._searched_at is None:
            await self._search_again()

    async def _search_again(self) -> None:
        if self._search is None:
            return
        async with self._searching:
            found = await self._search()
            self._searched_at = self._clock()
        for server in found:
            taken = {_place(known.config) for known in self._known.values()}
            if (server.address.host, server.address.port) in taken or ("localhost", server.address.port) in taken:
                continue
            kind: ProviderKind = "openai_compatible" if server.server == "openai" else server.server
            name = kind if kind != "openai_compatible" else f"local-{server.address.port}"
            if name not in self._known:
                self._known[name] = _Known(ProviderConfig(name, kind, url=server.address.url), found=True)

    def _in_background(self, work: Callable[[], Awaitable[None]], *, then: Callable[[], None] | None = None) -> None:
        async def quietly() -> None:
            try:
                await work()  # begun here: a task that is cancelled before its first step begins nothing
            except Exception:  # noqa: BLE001 - what a look finds out is told with the next request
                _log.warning("a look at the providers failed", exc_info=True)

        task = asyncio.create_task(quietly())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if then is not None:
            task.add_done_callback(lambda _: then())


def _address(config: ProviderConfig) -> Address:
    from adaptive_llm_gateway.gateway._hosted import HOSTED  # noqa: PLC0415 - on first use

    hosted, local = HOSTED.get(config.kind), LOCAL_KINDS.get(config.kind)
    url = config.url or (hosted.url if hosted else local.url if local else None)
    if url is None:
        raise ConfigError(f"the provider {config.name!r} has no url", key=f"providers.{config.name}.url")
    return address_of(url, key=f"providers.{config.name}.url")


def _place(config: ProviderConfig) -> tuple[str, int]:
    """Host and port; nothing for an address that is none, which is told when it is asked."""
    if config.kind == "built_in":
        return "", 0
    try:
        address = _address(config)
    except ConfigError:
        return "", 0
    return address.host, address.port


def _key(config: ProviderConfig) -> KeySource | None:
    from adaptive_llm_gateway.gateway._hosted import HOSTED  # noqa: PLC0415 - on first use
    from adaptive_llm_gateway.gateway._keys import KeySource  # noqa: PLC0415

    hosted = HOSTED.get(config.kind)
    env = config.key_env or (hosted.env if hosted else None)
    if env is None:
        return None
    return KeySource(env, keyring_service="adaptive-llm-gateway", keyring_user=config.name)


def _models(known: _Known) -> tuple[ModelInfo, ...]:
    """What it lists, with what the user said of it, and what only the user named.

    A hosted provider's list is long and has all kinds of models: of those only the user's own are taken for `auto`.
    """
    own = {model.name: model for model in known.config.models}
    hosted = known.provider_class == "hosted"
    listed = {model.name: replace(_guessed(model), by_name=hosted) for model in known.listed}
    names = dict.fromkeys([*own, *listed])
    return tuple(_with(listed.get(name), own.get(name)) for name in names)


def _with(listed: ModelInfo | None, own: ModelConfig | None) -> ModelInfo:
    if own is None:
        assert listed is not None  # noqa: S101 - a name is of one of both
        return listed
    said = {name: getattr(own, name) for name in ("chat", "embed", "stream", "tools", "json", "context")}
    told = {name: value for name, value in said.items() if value is not None}
    return replace(listed or _guessed(ModelInfo(own.name)), by_name=False, **told)


def _guessed(model: ModelInfo) -> ModelInfo:
    """Servers that tell nothing of a model still call those for embeddings so: taken for a chat, it only fails."""
    if model.chat is None and model.embed is None and "embed" in model.name.lower():
        return replace(model, chat=False, embed=True, stream=False)
    return model
