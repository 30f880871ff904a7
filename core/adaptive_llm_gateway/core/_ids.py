"""ULIDs: 128 bits as 26 Crockford base-32 characters, sortable by time (https://github.com/ulid/spec)."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PATTERN = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_lock = threading.Lock()
_last = (0, 0)


def _encode(value: int) -> str:
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def new_ulid(*, milliseconds: int | None = None) -> str:
    """A fresh ULID; within one process each is greater than the one before, also within a millisecond.

    Args:
        milliseconds: Unix time for the sortable part, where it is not to be this machine's.
    """
    global _last  # noqa: PLW0603 - monotonic within the process, as the specification asks
    with _lock:
        now = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
        ms, random = _last
        if now <= ms:
            now, random = ms, random + 1
        else:
            random = int.from_bytes(os.urandom(10), "big") >> 1
        _last = (now, random)
    return _encode((now << 80) | random)


def derived_ulid(key: str, *, milliseconds: int) -> str:
    """The same ULID for the same key and time: what makes an import idempotent.

    Args:
        key: anything that names the source uniquely.
        milliseconds: Unix time for the sortable part, 0 to 2**48 - 1.
    """
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:10]
    return _encode((max(0, min(milliseconds, 2**48 - 1)) << 80) | int.from_bytes(digest, "big"))


def is_ulid(text: str) -> bool:
    """Whether `text` is a ULID in its canonical upper-case form."""
    return _PATTERN.fullmatch(text) is not None


def ulid_milliseconds(ulid: str) -> int:
    """The Unix time in milliseconds that a ULID carries.

    Raises:
        ValueError: not a ULID.
    """
    if not is_ulid(ulid):
        raise ValueError(f"{ulid!r} is not a ULID")
    value = 0
    for char in ulid[:10]:
        value = value * 32 + _ALPHABET.index(char)
    return value
