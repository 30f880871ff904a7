"""Times as people write them and as answers have them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from adaptive_llm_gateway.core import InvalidInput

_DAY = re.compile(r"\d{4}-?\d\d-?\d\d|\d{4}-?W\d\d-?\d")


class _LocalZone(tzinfo):
    """The zone of this machine, with its changes of clocks."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, dt: datetime | None) -> timedelta | None:  # noqa: ARG002 - tzinfo's signature
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return None if dt is None else dt.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, dt: datetime) -> datetime:
        return dt.replace(tzinfo=UTC).astimezone().replace(tzinfo=self)


LOCAL = _LocalZone()


def moment(text: str, name: str, *, end: bool = False, zone: tzinfo = UTC) -> datetime:
    """A time from ISO 8601 (`2026-11-01`, `2026-11-01T10:00Z`), an age (`12h`, `7d`, `2w`, `3m`, `1y`) or words
    (`yesterday`, `last month`).

    Args:
        name: the argument's name, for the error.
        end: a day or a longer time means its end rather than its beginning.
        zone: where days begin, and what a time without a zone is in.

    Raises:
        InvalidInput: none of them.
    """
    from adaptive_llm_gateway.memory import read_time  # noqa: PLC0415 - not needed before the first filter

    stripped = text.strip()
    now = datetime.now(UTC)
    try:
        if (range_ := read_time(stripped, now, zone)) is not None and range_.since is not None:
            return ((range_.until or now) if end else range_.since).astimezone(UTC)
        found = datetime.fromisoformat(stripped)
        found = found.replace(tzinfo=found.tzinfo or zone).astimezone(UTC)
        return found + timedelta(days=1) if end and _DAY.fullmatch(stripped) else found
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{name!r} is {text!r}", hint="Give an ISO date or time such as 2026-11-01, or an age such as 7d or 12h."
        ) from None


def iso(when: datetime | None) -> str | None:
    """ISO 8601 in UTC, to the second."""
    return when.astimezone(UTC).isoformat(timespec="seconds")[:19] + "Z" if when else None
