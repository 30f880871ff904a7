"""Times as text: UTC, microseconds, one length, so that they sort as text."""

from __future__ import annotations

from datetime import UTC, datetime


def to_text(time: datetime) -> str:
    """`2026-11-22T02:14:59.000000Z`.

    Raises:
        ValueError: the time has no zone.
    """
    if time.tzinfo is None:
        raise ValueError(f"{time!r} has no time zone")
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def from_text(text: str) -> datetime:
    """The time that `to_text` wrote.

    Raises:
        ValueError: it is none.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
