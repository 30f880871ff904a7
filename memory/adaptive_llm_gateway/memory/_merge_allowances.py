"""Three-way merge of `secrets-allowed.yaml` by entry: pure, and the same whichever side is ours.

Lines alone would clash where two people add an entry at the end, and would keep an entry that one side revoked while
the other renewed it. What is kept of both texts beside the entries, their comments, follows the lines where it can.
"""

from __future__ import annotations

from collections.abc import Mapping

from adaptive_llm_gateway.core import (
    Allowance,
    ConfigError,
    decode_allowances,
    entry_text,
    merged_entries,
    parse_allowances,
    render_allowances,
    says_entries,
    with_allowance,
    with_entry_text,
    without_allowance,
)
from adaptive_llm_gateway.memory._line_merge import merge_lines


def merge_allowances(base: bytes | None, ours: bytes | None, theirs: bytes | None) -> bytes | None:
    """The merged file; None where a side is not a list of allowances, so that it is a file like any other.

    Args:
        base: what both come from; None where there was none, as for a side that has removed it.
    """
    try:
        one, other = sorted(_text(side) for side in (ours, theirs))
        sides = parse_allowances(one), parse_allowances(other)
    except ConfigError:
        return None
    try:
        before = _text(base)
        known = parse_allowances(before)
    except ConfigError:  # both sides have mended it since
        before, known = "", ()
    wanted = merged_entries(known, *sides)
    by_lines = merge_lines(before, one, other)
    if by_lines is not None and says_entries(by_lines, wanted):
        return by_lines.encode()
    made = _by_entries(one, other, wanted)
    if made is None or not says_entries(made, wanted):
        if any(allowance.unknown for allowance in wanted.values()):
            return None  # what a newer version wrote would be lost
        made = render_allowances(list(wanted.values()))
    return made.encode()


def _text(data: bytes | None) -> str:
    return decode_allowances(data, where="") if data else ""


def _by_entries(one: str, other: str, wanted: Mapping[str, Allowance]) -> str | None:
    """The first text with what the other one has of the merged entries."""
    made = one
    try:
        for fingerprint in sorted({item.fingerprint for item in parse_allowances(one)} - wanted.keys()):
            made = without_allowance(made, fingerprint)
        present = {item.fingerprint: item for item in parse_allowances(made)}
        known = {item.fingerprint: item for item in parse_allowances(other)}
        for fingerprint, allowance in wanted.items():
            if present.get(fingerprint) == allowance:
                continue
            lines = entry_text(other, fingerprint) if known.get(fingerprint) == allowance else None
            put = with_entry_text(made, lines, allowance) if lines is not None else None
            made = with_allowance(made, allowance) if put is None else put
    except ConfigError:
        return None
    return made
