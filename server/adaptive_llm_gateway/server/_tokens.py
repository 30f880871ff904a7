"""Tokens of clients that come by HTTP: how they are made, how a typing error is told, what is kept of them.

A token is `algt_`, 256 random bits in base 62, and the CRC-32 of those in six digits: the secret scanner knows it by
its form, and what was mistyped is told without looking anything up. Only its SHA-256 is kept. A hash that is slow on
purpose would protect short passwords; there is no guessing 256 bits.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from adaptive_llm_gateway.core import ALG_TOKEN_PREFIX, base62_crc32

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BYTES: Final = 32
_SECRET_DIGITS: Final = 43
"""Digits in base 62 that 256 bits take."""
_CHECK_DIGITS: Final = 6
TOKEN_LENGTH: Final = len(ALG_TOKEN_PREFIX) + _SECRET_DIGITS + _CHECK_DIGITS
_FORM = re.compile(rf"{ALG_TOKEN_PREFIX}([0-9A-Za-z]{{{_SECRET_DIGITS}}})([0-9A-Za-z]{{{_CHECK_DIGITS}}})", re.ASCII)


def new_token() -> str:
    """A token that nobody has yet."""
    number, digits = int.from_bytes(secrets.token_bytes(_BYTES), "big"), ""
    while number:
        number, rest = divmod(number, 62)
        digits = _DIGITS[rest] + digits
    secret = digits.rjust(_SECRET_DIGITS, "0")
    return f"{ALG_TOKEN_PREFIX}{secret}{base62_crc32(secret)}"


def is_token(text: str) -> bool:
    """Whether a text has the form of our tokens, and its checksum is right."""
    found = _FORM.fullmatch(text)
    return found is not None and found[2] == base62_crc32(found[1])


def token_hash(token: str) -> str:
    """What is kept of a token: its SHA-256, in hex digits."""
    return hashlib.sha256(token.encode()).hexdigest()
