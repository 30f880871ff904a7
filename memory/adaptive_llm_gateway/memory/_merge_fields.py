"""Three-way merge of front matter: pure, and the same whichever side is ours.

A field that one side alone changed has that side's value. Where both did:

- lists are merged as sets: what a side added is there, what a side took away is gone;
- a status by its lifecycle (`_lifecycles`), the later stage wins, and `trust` to what fewer may see (`_merge_files`
  looks at the text, too);
- `created` is the earlier one; mappings are merged field by field, but for the author;
- text of several lines is merged by lines;
- of everything else the newer side's value stays; an edit beats a removal.

Newer is what has the later `updated` (none, or none that can be read, is before all others), at the same time the
file that is greater byte by byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

from adaptive_llm_gateway.memory._lifecycles import STATUS, TRUST, Lifecycle
from adaptive_llm_gateway.memory._line_merge import merge_lines

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_MISSING: Final = object()
_ESSENTIAL = frozenset({"id", "type", "title", "created", "updated"})  # no side takes these away
_WHOLE = frozenset({"author"})


@dataclass(slots=True)
class MergedFields:
    """Front matter that was merged.

    Attributes:
        given_up: names of the fields of which the older side's value is not in the result.
        stages: `name: value` of fields whose later stage won.
        clash: whether text of several lines was changed on both sides at one place.
    """

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    given_up: list[str] = field(default_factory=list[str])
    stages: list[str] = field(default_factory=list[str])
    clash: bool = False


def merge_fields(base: Mapping[str, Any], newer: Mapping[str, Any], older: Mapping[str, Any]) -> MergedFields:
    """Merge the front matter of a file; see the module for the rules."""
    merged = MergedFields()
    _merge_all(merged, merged.values, base, newer, older, _staged(merged, base, newer, older))
    return merged


def _merge_all(
    merged: MergedFields,
    into: dict[str, Any],
    base: Mapping[str, Any],
    newer: Mapping[str, Any],
    older: Mapping[str, Any],
    settled: Mapping[str, Any],
) -> None:
    for key in [*newer, *(key for key in older if key not in newer)]:
        sides = base.get(key, _MISSING), newer.get(key, _MISSING), older.get(key, _MISSING)
        value = settled[key] if key in settled else _merge_value(merged, key, *sides)
        if value is not _MISSING:
            into[key] = value


def _staged(
    merged: MergedFields, base: Mapping[str, Any], newer: Mapping[str, Any], older: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields with stages, and those that go along with them, where these decide."""
    settled: dict[str, Any] = {}
    kinds = {str(side.get("type")) for side in (newer, older) if "type" in side}
    status = STATUS.get(kinds.pop()) if len(kinds) == 1 else None
    for lifecycle in (TRUST, status) if status else (TRUST,):
        before, *now = (side.get(lifecycle.field, _MISSING) for side in (base, newer, older))
        changed = [not same(value, before) for value in now]
        side = newer
        if all(changed):
            if same(*now) or (found := _later(lifecycle, *now)) is None:
                continue
            side = (newer, older)[found]
            settled[lifecycle.field] = now[found]
            merged.stages.append(f"{lifecycle.field}: {now[found]}")
        elif not any(changed):
            continue
        elif changed[1]:
            side = older
        settled |= {key: side.get(key, _MISSING) for key in lifecycle.goes_along}
    return settled


def _later(lifecycle: Lifecycle, newer: Any, older: Any) -> int | None:
    stages: Sequence[Any] = lifecycle.stages
    if newer not in stages or older not in stages:
        return None
    return 0 if stages.index(newer) > stages.index(older) else 1


def _merge_value(merged: MergedFields, key: str, base: Any, newer: Any, older: Any) -> Any:
    if key in _ESSENTIAL and (newer is _MISSING or older is _MISSING):
        return older if newer is _MISSING else newer
    if same(newer, older) or same(older, base):
        return newer
    if same(newer, base):
        return older
    lists = as_list(newer), as_list(older)
    if lists != (None, None) and all(
        value is not None or side is _MISSING for value, side in zip(lists, (newer, older), strict=True)
    ):
        # A list that became empty is not in the file at all.
        return _merge_lists(as_list(base) or [], lists[0] or [], lists[1] or []) or _MISSING
    if newer is _MISSING or older is _MISSING:
        return older if newer is _MISSING else newer  # an edit beats a removal
    if key == "created" and LONG_AGO not in (moment(newer), moment(older)):
        return newer if moment(newer) <= moment(older) else older
    mappings = _as_mapping(newer), _as_mapping(older)
    if mappings[0] is not None and mappings[1] is not None and key not in _WHOLE:
        inner: dict[str, Any] = {}
        _merge_all(merged, inner, _as_mapping(base) or {}, mappings[0], mappings[1], {})
        return inner
    if isinstance(newer, str) and isinstance(older, str) and has_lines(newer, older):
        text = merge_lines(base if isinstance(base, str) else "", older, newer)
        if text is not None:
            return text
        merged.clash = True
        return newer
    if key != "updated":
        merged.given_up.append(key)
    return newer


def has_lines(*texts: object) -> bool:
    """Whether one of them is text of several lines."""
    return any(isinstance(text, str) and "\n" in text for text in texts)


def as_list(value: object) -> list[Any] | None:
    """`value` if it is a list."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def _as_mapping(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _merge_lists(base: Sequence[Any], newer: Sequence[Any], older: Sequence[Any]) -> list[Any]:
    known = {_key(item) for item in base}
    in_newer, in_older = {_key(item) for item in newer}, {_key(item) for item in older}
    kept = [item for item in newer if _key(item) in in_older or _key(item) not in known]
    return kept + [item for item in older if _key(item) not in in_newer and _key(item) not in known]


def moment(value: object) -> datetime:
    """A time as it stands in a file; `LONG_AGO` where it says none."""
    if not isinstance(value, str):
        return LONG_AGO
    try:
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return LONG_AGO


def same(one: Any, two: Any) -> bool:
    """Whether two values of front matter are the same; a missing one is like nothing else."""
    if one is _MISSING or two is _MISSING:
        return one is two
    return _key(one) == _key(two)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
