"""Everything that a gateway does, with keys that are to be seen nowhere: what test_canary.py runs and searches.

    python canary_run.py HOME < keys.json

The first key is in the environment already, the second is read from stdin and given by a keychain. All objects are
shown, pickled and logged, all errors with their tracebacks and locals; the last one ends the program.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import pickle
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keyring
import keyring.backend

from adaptive_llm_gateway.core import AlgError, SecretScanner, Trust
from adaptive_llm_gateway.gateway import (
    Ask,
    BreakerRules,
    Gateway,
    GatewayConfig,
    HttpProvider,
    KeySource,
    Message,
    ModelConfig,
    ProviderConfig,
    ProviderFailure,
    ProviderSpec,
    RetryRules,
    address_of,
)

HOME = Path(sys.argv[1])
GIVEN: dict[str, Any] = json.load(sys.stdin)


class Ring(keyring.backend.KeyringBackend):
    """A keychain with one entry."""

    priority = 1  # type: ignore[assignment]

    def get_password(self, service: str, username: str) -> str | None:
        return GIVEN["ring"] if (service, username) == ("adaptive-llm-gateway", "ring") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError


class Shown:
    """Writes whatever there is to see of an object to stdout, and its pickle into the home."""

    def __init__(self) -> None:
        self.count = 0
        self.last: AlgError | None = None

    def show(self, *found: object) -> None:
        for each in found:
            self.count += 1
            print(repr(each), str(each), f"{each}")
            if hasattr(each, "__dict__"):
                print(vars(each))
            with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
                data = pickle.dumps(each)
                (HOME / f"{self.count}.pickle").write_bytes(data)
                print(repr(pickle.loads(data)))  # noqa: S301 - our own

    def error(self, error: BaseException, *, with_locals: bool = True) -> None:
        told = traceback.TracebackException.from_exception(error, capture_locals=with_locals)
        print("".join(told.format()))
        logging.getLogger("canary").error("it failed", exc_info=error)
        behind: BaseException | None = error
        while behind is not None:
            self.show(behind, behind.args)
            if isinstance(behind, AlgError):
                self.last = behind
                self.show(behind.as_dict(), behind.hint, behind.details)
            behind = behind.__cause__ or behind.__context__


def ask(provider: str, model: str, text: str = "What is a lease?", **more: Any) -> Ask:
    message = Message("user", text)
    return Ask("chat", (message,), model=f"{provider}/{model}", trust=Trust.SECRET, deadline=20.0, **more)


async def streamed(gateway: Gateway, request: Ask, shown: Shown) -> None:
    async with contextlib.aclosing(gateway.stream(request)) as parts:
        async for part in parts:
            shown.show(part)


async def every_request(gateway: Gateway, shown: Shown) -> None:
    for name in GIVEN["providers"]:
        for model in GIVEN["models"]:
            for call in (gateway.answer(ask(name, model)), streamed(gateway, ask(name, model), shown)):
                try:
                    shown.show(await call)
                except AlgError as error:
                    # What a provider answered is in the locals of whoever was reading it, as it came.
                    shown.error(error, with_locals=model != "finish")
        for request in (
            Ask("embed", texts=("a", "b"), model=f"{name}/well", trust=Trust.SECRET),
            Ask("embed", texts=("a", "b"), model=f"{name}/http-500", trust=Trust.SECRET),
            ask(name, "well", f"My key is {GIVEN['keys'][name]}, is that good?"),
            ask(name, "nobody-has-this"),
        ):
            try:
                shown.show(await gateway.answer(request))
            except AlgError as error:
                shown.error(error, with_locals=False)  # a prompt is among them
        task = asyncio.create_task(gateway.answer(ask(name, "hang")))
        await asyncio.sleep(0.05)
        task.cancel()
        try:
            await task
        except (asyncio.CancelledError, AlgError) as error:
            shown.error(error)


async def everything(shown: Shown) -> None:
    models = tuple(ModelConfig(model, chat=True, embed=True, stream=True) for model in GIVEN["models"])
    configs = tuple(
        ProviderConfig(name, kind, url=url, key_env=env, models=models, timeout=0.5)
        for name, (kind, url, env) in GIVEN["providers"].items()
    )
    patient = BreakerRules(failures=1_000_000)  # it fails most of the time, and is to be called all the same
    config = GatewayConfig(providers=configs, breaker=patient, retries=RetryRules(attempts=2), discover=False)

    async def at_once(seconds: float) -> None:
        await asyncio.sleep(0)

    gateway = Gateway(config, HOME / "gateway", scanner=SecretScanner(), sleep=at_once)
    await gateway.open()
    try:
        shown.show(config, gateway, gateway.ledger, gateway.receipts, gateway.policy, gateway.prices)
        shown.show(await gateway.models(), await gateway.health(), await gateway.health(probe=True))
        await every_request(gateway, shown)
        gateway.ledger.grant(provider="env", level=Trust.INTERNAL, now=datetime.now(UTC), by="canary")
        preview = await gateway.preview(ask("env", "well", f"My key is {GIVEN['keys']['env']}."))
        shown.show(preview.plan, preview.error)
        for filed in gateway.receipts.list(limit=1000):
            shown.show(filed)
            with contextlib.suppress(AlgError):
                shown.show(await gateway.replay(filed.receipt.id))
        shown.show(gateway.receipts.verify(), gateway.ledger.verify(), gateway.ledger.records())
        assert gateway.receipts.verify().holds
        await gateway.set_mode("offline")
        shown.show(await gateway.models(), await gateway.health())
        for part in vars(gateway).values():
            shown.show(getattr(part, "__dict__", None))
    finally:
        await gateway.close()
    await the_seam(shown)


async def the_seam(shown: Shown) -> None:
    """A provider by itself, without a gateway before it."""
    kind, url, env = GIVEN["providers"]["env"]
    spec = ProviderSpec("env", address_of(url), key=KeySource(env), loopback_only=True)
    provider = HttpProvider(spec)
    shown.show(kind, spec, spec.key, provider)
    try:
        for call in (provider.models(timeout=5), provider.embed(["a"], "http-401", timeout=5)):
            try:
                shown.show(await call)
            except ProviderFailure as failure:
                shown.error(failure)
        shown.show(await provider.health(timeout=5))
    finally:
        await provider.close()


def main() -> None:
    """Run all of it, and end with the last error."""
    HOME.mkdir(exist_ok=True)
    logging.basicConfig(level=logging.DEBUG, handlers=[logging.StreamHandler(), logging.FileHandler(HOME / "log")])
    keyring.set_keyring(Ring())
    shown = Shown()
    asyncio.run(everything(shown), debug=True)
    print(f"shown: {shown.count}")
    assert shown.last is not None
    raise shown.last


if __name__ == "__main__":
    main()
