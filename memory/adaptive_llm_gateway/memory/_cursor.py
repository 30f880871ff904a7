"""Cursors of searches: what was shown so far, in the cursor itself, so that nothing has to be kept for it. Pure.

The next page ranks deeper and drops what was shown. So no memory comes twice and none is passed over, also when
memories are written, deleted or indexed anew in between.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from adaptive_llm_gateway.core import InvalidInput

MAX_DEPTH = 1_000  # hits that the pages of one search go through
_VERSION = 1
_MARK = 5  # bytes of an id's digest: two of 2,000 ids share it once in half a million searches
_HEAD = 1 + 6 + 4 + 20
_CHECK = 3
_NO_COMMIT = bytes(20)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a search stands.

    Attributes:
        request: digest of what was asked (`digest_of`).
        now: when the first page was asked for, to the second; relative times are seen from there.
        commit: the commit that is searched, for a search of the past.
        shown: digests of the ids that earlier pages had.
    """

    request: bytes
    now: datetime
    commit: str | None = None
    shown: tuple[bytes, ...] = ()

    def encode(self) -> str:
        """As text: 40 characters, and 7 for each hit shown."""
        head = bytes([_VERSION]) + self.request + int(self.now.timestamp()).to_bytes(4, "big")
        data = head + (bytes.fromhex(self.commit) if self.commit else _NO_COMMIT) + b"".join(self.shown)
        return base64.urlsafe_b64encode(data + _digest(data, _CHECK)).decode("ascii").rstrip("=")


def decode(text: str) -> Cursor:
    """The cursor that a text is.

    Raises:
        InvalidInput: none, or one that was damaged on its way.
    """
    try:
        data = base64.b64decode(text.strip() + "=" * (-len(text.strip()) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        data = b""
    data, check = data[:-_CHECK], data[-_CHECK:]
    shown = data[_HEAD:]
    if len(data) < _HEAD or data[0] != _VERSION or len(shown) % _MARK or check != _digest(data, _CHECK):
        raise InvalidInput(
            "this is not the cursor of a search",
            hint="Copy the cursor whole from the answer before, or leave it out to start with the first page.",
        )
    commit = data[11:_HEAD]
    return Cursor(
        data[1:7],
        datetime.fromtimestamp(int.from_bytes(data[7:11], "big"), UTC),
        None if commit == _NO_COMMIT else commit.hex(),
        tuple(shown[at : at + _MARK] for at in range(0, len(shown), _MARK)),
    )


def digest_of(request: str) -> bytes:
    """What tells one search from another."""
    return _digest(request.encode("utf-8", "surrogatepass"), 6)


def marks(ids: Iterable[str]) -> tuple[bytes, ...]:
    """The digests by which ids are remembered."""
    return tuple(_digest(id_.encode("utf-8", "surrogatepass"), _MARK) for id_ in ids)


def _digest(data: bytes, size: int) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()
