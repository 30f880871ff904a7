"""Text of two bytes for each character (UTF-16), as some editors and shells save it, made readable for a check."""

from __future__ import annotations

import re
from typing import Final

_WIDE: Final = re.compile(rb"(?:[^\0]\0){8,}")  # of either byte order; the other one begins a byte later
_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def narrowed(data: bytes) -> bytes:
    """The same with each run of such characters as one byte for each, wherever it begins; lines stay as they are."""
    if b"\0" not in data:
        return data
    found = _WIDE.sub(lambda run: run[0].replace(b"\0", b""), data)
    return found[2:] if found is not data and found.startswith(_MARKS) else found
