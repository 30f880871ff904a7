"""What to do after a failure: wait and try again, go to the next provider, or stop. Pure: no clock, no chance.

`Retry-After` is read after RFC 9110, 10.2.3. A hint that is longer than we would wait is obeyed by going elsewhere: it
is never shortened to something that the provider did not say, nor taken for no hint at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, assert_never

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.gateway._port import FailureKind

LONGEST_HINT: Final = 7 * 86_400.0
"""Seconds: what a provider may have itself left alone for, at most. A longer hint counts as this."""

_SECONDS = re.compile(r"[0-9]{1,400}(\.[0-9]{1,400})?")
_LONGEST_HEADER: Final = 1_000


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often and how long to wait.

    Attributes:
        attempts: at one provider, the first included.
        base: seconds; the longest wait without a hint before the second attempt; it doubles with each.
        longest: seconds; the longest wait without a hint.
        shortest: seconds; no wait is shorter, whatever the hint: 0 would be a hammer.
        hint_cap: seconds; a hint above it is not waited for.
    """

    attempts: int = 3
    base: float = 0.5
    longest: float = 8.0
    shortest: float = 0.05
    hint_cap: float = 60.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 < self.shortest <= self.base <= self.longest <= self.hint_cap < float("inf"):
            raise InvalidInput(
                f"{self!r} is no rule for retries",
                hint="`attempts` is 1 or more, and 0 < shortest <= base <= longest <= hint_cap, in seconds.",
            )


@dataclass(frozen=True, slots=True)
class Again:
    """Try the same provider again after `wait` seconds."""

    wait: float
    reason: str


@dataclass(frozen=True, slots=True)
class FallBack:
    """Go to the next of the plan; the provider is left alone for `hold` seconds."""

    hold: float
    reason: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Try nothing more."""

    reason: str


NextStep = Again | FallBack | Stop


def read_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Seconds that a `Retry-After` asks for, from 0 to `LONGEST_HINT`; None where there is none, or nonsense.

    Args:
        value: the header as it came: seconds (also with a fraction, as some send), or a date in one of HTTP's forms.
        now: with its time zone; what a date is measured from. A date that is past is 0.
    """
    text = (value or "").strip()
    if not text or len(text) > _LONGEST_HEADER:
        return None
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_HINT)
    if not text[0].isalpha() or not text.isascii():
        return None  # every form of a date begins with the name of a day
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:  # asctime's form, and `-0000`: both are UTC
            date = date.replace(tzinfo=UTC)
        return min(max((date - now).total_seconds(), 0.0), LONGEST_HINT)
    except (ValueError, OverflowError):
        return None


def after_failure(
    kind: FailureKind,
    rules: RetryRules,
    *,
    attempt: int,
    jitter: float,
    hint: float | None = None,
    left: float | None = None,
    started: bool = False,
) -> NextStep:
    """What to do when an attempt at a provider has failed.

    Args:
        attempt: which one that was at this provider, from 1.
        jitter: drawn by the caller, from 0 up to 1, so that many who failed together do not come back together.
        hint: seconds from `read_retry_after`; anything below 0 or not a number counts as none.
        left: seconds until the request's deadline; None has none.
        started: a part of a streamed answer was handed on already: another attempt would continue it with another's.
    """
    if started:
        return Stop("a part of the answer was given already, and another model's would not continue it")
    if left is not None and left <= 0:
        return Stop("the deadline has passed")
    match kind:
        case "cancelled":
            return Stop("the request was cancelled")
        case "auth" | "bad_request" | "too_long" | "redirect":
            return FallBack(0.0, "the same request would fail the same way")
        case "refused" | "timeout":
            return FallBack(0.0, "it would most likely not answer a moment later")
        case "rate_limited" | "overloaded" | "server" | "broken" | "incomplete":
            pass
        case _:
            assert_never(kind)
    asked = min(hint, LONGEST_HINT) if hint is not None and hint >= 0 else None
    if asked is not None and asked > rules.hint_cap:
        return FallBack(asked, f"it asks to wait {asked:.0f} s, more than the {rules.hint_cap:.0f} s that we would")
    if attempt >= rules.attempts:
        return FallBack(asked or 0.0, f"{attempt} {'attempt' if attempt == 1 else 'attempts'} failed")
    wait = _wait(rules, attempt, jitter, asked)
    if left is not None and wait >= left:
        return FallBack(asked or 0.0, f"waiting {wait:.1f} s would take longer than the {left:.1f} s that are left")
    return Again(wait, f"it asks to wait {asked:.0f} s" if asked else "it may pass")


def _wait(rules: RetryRules, attempt: int, jitter: float, asked: float | None) -> float:
    """Never shorter than asked, and spread over the time of a usual wait behind it."""
    usual = min(rules.base * 2.0 ** min(attempt - 1, 60), rules.longest) * min(max(jitter, 0.0), 1.0)
    return min(max((asked or 0.0) + usual, rules.shortest), rules.hint_cap)
