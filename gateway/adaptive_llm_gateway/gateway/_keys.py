"""Providers' keys: where one is found, and how it is kept out of everything that is written."""

from __future__ import annotations

import asyncio
import base64
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.gateway._port import ProviderFailure

MASK = "***"
_LONG_KEY = 16  # characters; a shorter one has no part that gives it away
_PART = 12  # characters of a long key that give it away
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


@lru_cache(64)  # each request needs them several times
def forms_of(key: str) -> tuple[str, ...]:
    """How a key may be written down: as it is, percent-encoded, in base64 at any offset, and in hexadecimal.

    A short key only as it is and percent-encoded: its other forms could be parts of any text.
    """
    if len(key) < _LONG_KEY:
        return tuple(dict.fromkeys((quote(key, safe=""), key)))
    data = key.encode()
    coded = [
        code(data[offset:]).decode().rstrip("=")
        for offset in range(min(3, len(data)))  # base64 goes by three bytes, and something may stand before it
        for code in (base64.b64encode, base64.urlsafe_b64encode)
    ]
    found = (key, quote(key, safe=""), quote(key), *coded, data.hex(), data.hex().upper())
    return tuple(sorted(dict.fromkeys(found), key=len, reverse=True))


def without(key: str | None, text: str) -> str:
    """A text without the key, however it is written, and without any longer part of it: some quote its beginning."""
    if not key:
        return text
    if len(key) < _LONG_KEY:
        for form in forms_of(key):
            text = text.replace(form, MASK)
        return text
    parts = {form[at : at + _PART] for form in forms_of(key) for at in range(len(form) - _PART + 1)}
    kept: list[str] = []
    at = shown = 0
    while at <= len(text) - _PART:
        if text[at : at + _PART] not in parts:
            at += 1
            continue
        kept += (text[shown:at], MASK)
        while text[at : at + _PART] in parts:
            at += 1
        at += _PART - 1
        shown = at
    return "".join(kept) + text[shown:]
