"""The gateway of a hub, made from its settings and files when somebody first needs it.

Policy, prices and allowances count as they are when a request comes: a change needs no restart. Nothing of the gateway
is imported before the first call, so the hub starts as fast as without it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import WAITING_FILE, ConfigError, Home, Settings, git_folder
from adaptive_llm_gateway.server._gateway_files import GatewayFiles, load_policy, load_price_table

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway import (
        Experience,
        Gateway,
        GatewayConfig,
        Mode,
        Policy,
        PriceTable,
        ProviderConfig,
        Receipt,
    )
    from adaptive_llm_gateway.server._gateway_live import LiveScanner

_log = logging.getLogger(__name__)

_MB = 1024 * 1024


def gateway_config(settings: Settings) -> GatewayConfig:
    """The gateway's frozen values from the configuration.

    Raises:
        ConfigError: a provider or a route is not usable as it is set.
    """
    from adaptive_llm_gateway.core import PERSONAL_LEVELS  # noqa: PLC0415 - as above
    from adaptive_llm_gateway.gateway import GatewayConfig, Route  # noqa: PLC0415 - as above

    section = settings.gateway
    return GatewayConfig(
        providers=tuple(_provider(settings, name) for name in settings.providers),
        routes=tuple(Route(name, models) for name, models in settings.routes.items()),
        default_trust=section.default_trust,
        deadline=section.deadline_seconds,
        budget=section.budget_micro_cents,
        discover=section.discover,
        personal={kind: section.personal_data for kind, level in PERSONAL_LEVELS.items() if level is not None},
        personal_allowed=section.personal_allowed,
        retention_days=section.retention_days,
        retention_bytes=section.retention_mb * _MB,
    )


def _provider(settings: Settings, name: str) -> ProviderConfig:
    from adaptive_llm_gateway.gateway import ModelConfig, ProviderConfig  # noqa: PLC0415 - after the hub listens

    given = settings.providers[name]
    return ProviderConfig(
        name=name,
        kind=given.kind,
        url=given.url,
        key_env=given.key_env,
        enabled=given.enabled,
        order=given.order,
        concurrency=given.concurrency,
        per_minute=given.per_minute,
        timeout=given.timeout,
        models=tuple(
            ModelConfig(
                model.name,
                chat=model.chat,
                embed=model.embed,
                stream=model.stream,
                tools=model.tools,
                json=model.json_,
                context=model.context,
            )
            for model in given.models
        ),
    )


class GatewaySetup:
    """The one gateway of a hub. One event loop uses it.

    Args:
        mode: what may be connected to now.
        on_receipt: called with each receipt once it is stored; from any thread, and it must be quick.
        experience: how models fared, as it is known when a plan is made.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        *,
        mode: Callable[[], Mode],
        on_receipt: Callable[[Receipt], None],
        experience: Callable[[], tuple[Experience, ...]],
        mark_key: bytes | None = None,
    ) -> None:
        self._mark_key = mark_key
        self.files = GatewayFiles.of(home, settings)
        self._settings = settings
        self._mode = mode
        self._on_receipt = on_receipt
        self._experience = experience
        self._scanner: LiveScanner | None = None
        self._gateway: Gateway | None = None
        self._problem: Callable[[], ConfigError] | None = None
        self._seen: tuple[tuple[int, int, int] | None, ...] | None = None
        self._config = home.config
        self._config_seen = _signature(home.config)
        self._lock = asyncio.Lock()

    @property
    def made(self) -> Gateway | None:
        """The gateway, if anybody needed it."""
        return self._gateway

    async def gateway(self) -> Gateway:
        """The gateway, with files and mode as they are now, whether they hold or not: see `problem`.

        Raises:
            ConfigError: the configuration's providers or routes are not usable.
            StorageError: its folder is not.
        """
        if self._gateway is None or self._signature() != self._seen:
            async with self._lock:
                seen = self._signature()
                if self._gateway is None:
                    self._gateway = await self._made()
                if seen != self._seen:
                    await self._take_in(self._gateway)
                    self._seen = seen
        gateway = self._gateway
        if gateway.mode != self._mode():
            await gateway.set_mode(self._mode())
        return gateway

    @property
    def problem(self) -> ConfigError | None:
        """Why no request is carried out: a policy or a price table that does not hold. A new one each time."""
        return self._problem() if self._problem is not None else None

    @property
    def outdated(self) -> bool:
        """Whether the configuration's file is another one than when the hub began, which still goes by that."""
        return _signature(self._config) != self._config_seen

    async def close(self) -> None:
        """Close the connections to providers."""
        if self._gateway is not None:
            await self._gateway.close()

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        files = self.files
        waiting = (git_folder(files.allowances.parent) or files.folder) / WAITING_FILE
        return tuple(_signature(path) for path in (files.policy, files.prices, files.allowances, waiting))

    async def _made(self) -> Gateway:
        def make() -> Gateway:
            from adaptive_llm_gateway.gateway import Gateway  # noqa: PLC0415 - after the hub listens
            from adaptive_llm_gateway.server._gateway_live import LiveScanner, ObservedReceipts  # noqa: PLC0415

            self._scanner = LiveScanner(mark_key=self._mark_key)
            config = gateway_config(self._settings)
            gateway = Gateway(
                config, self.files.folder, scanner=self._scanner, mode=self._mode(), experience=self._experience
            )
            gateway.receipts = ObservedReceipts(self.files.folder, self._scanner, self._on_receipt)
            return gateway

        gateway = await asyncio.to_thread(make)
        await gateway.open()
        return gateway

    async def _take_in(self, gateway: Gateway) -> None:
        def read() -> tuple[Policy, PriceTable]:
            if self._scanner is not None:
                self._scanner.use(self.files.allowances)
            return load_policy(self.files.policy), load_price_table(self.files.prices)

        try:
            policy, prices = await asyncio.to_thread(read)
        except ConfigError as error:
            kind, message, hint, details = type(error), error.message, error.hint, dict(error.details)
            self._problem = lambda: kind(message, hint=hint, **details)
            _log.error("the gateway refuses every request: %s", error)
            return
        gateway.policy, gateway.prices, self._problem = policy, prices, None


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - before every request, and twice as fast
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
