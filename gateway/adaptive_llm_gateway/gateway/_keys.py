"""Providers' keys: where one is found, and how it is kept out of everything that is written."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.gateway._port import ProviderFailure

MASK = "***"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a provider's key lies: an environment variable, or an entry of the system's keychain.

    The key itself is no part of it: it is looked up for each call and goes to the connection alone. The variable wins
    where both are named.

    Raises:
        ConfigError: `env` is no name of a variable.
    """

    env: str | None = None
    keyring_service: str | None = None
    keyring_user: str = "default"

    def __post_init__(self) -> None:
        if self.env is not None and not _NAME.fullmatch(self.env):
            raise ConfigError(
                "a provider's key_env is not the name of an environment variable",  # not shown: it may be the key
                hint="Put the key into an environment variable, and that variable's name here.",
                key="key_env",
            )

    async def resolve(self, provider: str) -> str:
        """The key.

        Raises:
            ProviderFailure: kind `auth`; it is not set, or is no key. Nothing was sent.
        """
        key = os.environ.get(self.env, "").strip() if self.env is not None else ""
        if not key and self.keyring_service is not None:
            key = await asyncio.to_thread(_from_keyring, self.keyring_service, self.keyring_user)
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            places = " or ".join(
                [f"the environment variable {self.env!r}"] * (self.env is not None)
                + [f"the keychain's entry {self.keyring_service!r}"] * (self.keyring_service is not None)
            )
            raise ProviderFailure(
                f"{provider!r} has no key: {places or 'no place for it'} {'is no key' if key else 'is not set'}",
                kind="auth",
                hint=f"Set {self.env} where the hub starts, and restart it."
                if self.env
                else "Store it in the keychain.",
            )
        return key


def _from_keyring(service: str, user: str) -> str:
    """The keychain's entry, empty where there is none, no keychain, or no `keyring`."""
    try:
        import keyring  # noqa: PLC0415 - optional, and slow to load
        import keyring.errors  # noqa: PLC0415
    except ImportError:
        return ""
    try:
        return (keyring.get_password(service, user) or "").strip()
    except keyring.errors.KeyringError:
        return ""


def without(key: str | None, text: str) -> str:
    """A text without the key, and without what is left of it where somebody cut it short."""
    if not key:
        return text
    text = text.replace(key, MASK)
    if len(key) >= 16:  # a long beginning gives it away as well
        text = text.replace(key[:12], MASK)
    return text
