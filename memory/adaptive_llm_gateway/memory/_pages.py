"""Lists page by page, for indexes of every kind: what a page is, and the cursor that names the last one seen. Pure."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Final, Literal

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory._values import Record

Order = Literal["updated", "created", "title"]
_LARGEST: Final = 2**63
"""Of whole numbers, which an index takes up to here."""


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list. `next_cursor` is `None` at the end; `total` counts all that the filters let through."""

    records: tuple[Record, ...]
    next_cursor: str | None
    total: int


def encode_cursor(order: Order, value: str | int, row: int) -> str:
    """The cursor behind a memory: what it is ordered by, and its row id."""
    return base64.urlsafe_b64encode(json.dumps([order, value, row]).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, order: Order) -> tuple[str | int, int]:
    """What `encode_cursor` was given.

    Raises:
        InvalidInput: not a cursor of this order.
    """
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        kind, value, row = parts
        whole = [number for number in (value, row) if isinstance(number, int)]
        fits = isinstance(row, int) and isinstance(value, str if order == "title" else int)
        if kind == order and fits and all(-_LARGEST <= number < _LARGEST for number in whole):
            return value, row
    except (ValueError, TypeError, RecursionError):
        pass
    raise InvalidInput(
        f"{cursor!r} is not a cursor of a list by {order!r}", hint="Start without a cursor, or keep the order."
    )
