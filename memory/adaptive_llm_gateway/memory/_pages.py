"""Lists page by page, for indexes of every kind: what a page is, and the cursor that names the last one seen. Pure.

A cursor has nothing but what whoever asks was shown last: by what that memory is ordered, its id, and the repo where
there are several. So it says nothing of others, and holds whatever is written, deleted or indexed anew in between.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from adaptive_llm_gateway.core import InvalidInput, is_ulid
from adaptive_llm_gateway.memory._index_rows import microseconds
from adaptive_llm_gateway.memory._values import Filters, Record, without_events

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory._memory_index import ReadableIndex

Order = Literal["updated", "created", "title"]
_LARGEST: Final = 2**63
"""Of whole numbers, which an index takes up to here."""
MARK: Final = 8
"""Characters of a cursor that say what it belongs to: 48 bits of a digest."""


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list. `next_cursor` is `None` at the end; `total` counts all that the filters let through."""

    records: tuple[Record, ...]
    next_cursor: str | None
    total: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: behind a memory.

    Attributes:
        value: what that memory is ordered by; times in microseconds.
        id: of the memory.
        repo: which it is in, where several are listed.
        passed: False: that memory itself may come as well, for it was shown from another repo.
    """

    value: str | int
    id: str
    repo: str | None = None
    passed: bool = True


def place_of(record: Record, order: Order) -> Place:
    """The place behind a memory."""
    return Place(record.title if order == "title" else microseconds(getattr(record, order)), record.id, record.repo)


def encode_cursor(order: Order, place: Place) -> str:
    """The cursor of a place."""
    return written([order, place.value, place.id, place.repo, place.passed])


def decode_cursor(cursor: str, order: Order) -> Place:
    """What `encode_cursor` was given.

    Raises:
        InvalidInput: not a cursor of this order.
    """
    try:
        kind, value, id, repo, passed = read(cursor)
        fits = _is_text(value) if order == "title" else is_number(value)
        if kind == order and fits and is_id(id) and (repo is None or _is_text(repo)) and isinstance(passed, bool):
            return Place(value, id, repo, passed)
    except (ValueError, TypeError):
        pass
    # Without what was given: cut to a piece, a credential is not known for one.
    raise InvalidInput(
        f"this is not a cursor of a list by {order!r}", hint="Start without a cursor, or keep the order."
    )


def _is_text(value: Any) -> bool:
    if isinstance(value, str):
        value.encode("utf-8")  # a ValueError where there is half of a surrogate pair
        return True
    return False


def page_of(
    index: ReadableIndex, filters: Filters | None, *, given: str | None, limit: int, cursor: str | None, order: Order
) -> Page:
    """A page of an index, for somebody: its cursor goes on with nothing but what it is of.

    Args:
        filters: events of handoffs are left out unless these ask for them.
        given: what tells this list from another, and who sees something else from this one; None: `filters`.

    Raises:
        InvalidInput: the cursor is none, or of another list.
    """
    filters = filters or Filters()
    mark = mark_of(f"{order}\n{given or repr(filters)}")
    place = None if cursor is None else _opened(cursor, mark, order)
    page = index.list(without_events(filters), limit=limit, cursor=place, order=order)
    return page if page.next_cursor is None else replace(page, next_cursor=mark + page.next_cursor)


def _opened(cursor: str, mark: str, order: Order) -> str:
    place = cursor[MARK:]
    decode_cursor(place, order)
    if cursor[:MARK] != mark:
        raise InvalidInput(
            "the cursor belongs to another list",
            hint="Repeat filters and order exactly as they were, or leave the cursor out to start anew.",
        )
    return place


# -- what cursors are made of --------------------------------------------------------------------------------------


def written(parts: list[str | int | bool | None]) -> str:
    """What names a place, as text."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode("ascii").rstrip("=")


def read(text: str) -> list[Any]:
    """What `written` was given, or whatever else somebody wrote so.

    Raises:
        ValueError: it is no text of such a form.
    """
    try:
        found = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(found, list):
        raise ValueError("it is no list")
    return cast("list[Any]", found)


def mark_of(asked: str) -> str:
    """What a cursor begins with, so that it goes on with nothing else."""
    digest = hashlib.blake2b(asked.encode("utf-8", "surrogatepass"), digest_size=MARK * 6 // 8)
    return base64.urlsafe_b64encode(digest.digest()).decode("ascii")


def is_number(value: Any) -> bool:
    """Whether it is a whole number that an index takes."""
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value < _LARGEST


def is_id(value: Any) -> bool:
    """Whether it is a memory's id."""
    return isinstance(value, str) and is_ulid(value)
