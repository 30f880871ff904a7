"""Changing a `secrets-allowed.yaml` by its lines, so that comments, order and form of everything else stay.

Each result is read again and compared with what it has to say; a text that cannot be changed so is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.core._errors import ConfigError
from adaptive_llm_gateway.core._secret_allowances import (
    ALLOWANCES_FILE,
    Allowance,
    compose_allowances,
    earlier_end,
    parse_allowances,
    parse_until,
)

if TYPE_CHECKING:
    import yaml

_FIELDS: Final = ("reason", "by", "added", "until", "kind")
_PLAIN: Final = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9 ._/()+@<>=,-]*[A-Za-z0-9._/()+@<>=])?"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_NUMBER: Final = re.compile(r"[0-9]+(e[0-9]+)?")  # to other readers of YAML
_TYPED: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})  # by other readers of YAML


class _NotSo(Exception):
    """The text is not of the form that can be changed in this way."""


def with_allowance(text: str, allowance: Allowance, *, where: str = ALLOWANCES_FILE) -> str:
    """The text with this entry in the place of those with its fingerprint, or behind the last one.

    Raises:
        ConfigError: the text is not a list of allowances, or of a form that only a person can change.
    """
    before = parse_allowances(text, where=where)
    places = [number for number, item in enumerate(before) if item.fingerprint == allowance.fingerprint]
    wanted = [item for number, item in enumerate(before) if number not in places[1:]]
    if places:
        wanted[places[0]] = allowance
    else:
        wanted.append(allowance)
    for way in (_renew, _replace) if places else (_append,):
        try:
            made = way(text, allowance)
            for number in reversed(places[1:]):
                made = _without(made, number)
        except _NotSo:
            continue
        if _says(made, wanted):
            return made
    raise _by_hand(where)


def without_allowance(text: str, fingerprint: str, *, where: str = ALLOWANCES_FILE) -> str:
    """The text without the entries that have this fingerprint. Errors as for `with_allowance`."""
    before = parse_allowances(text, where=where)
    made = text
    try:
        for number in reversed([at for at, item in enumerate(before) if item.fingerprint == fingerprint]):
            made = _without(made, number)
    except _NotSo:
        raise _by_hand(where) from None
    if not _says(made, [item for item in before if item.fingerprint != fingerprint]):
        raise _by_hand(where)
    return made


def entry_text(text: str, fingerprint: str) -> str | None:
    """The lines of an entry, with the comments right above it, its dash at the beginning of a line.

    None where they cannot be had so.
    """
    root, entries = compose_allowances(text)
    try:
        number = next(at for at, (item, _) in enumerate(entries) if item.fingerprint == fingerprint)
        if root is None or root.flow_style:
            return None
        start, end = _lines_of(text, entries[number][1])
    except (StopIteration, _NotSo):
        return None
    while start > 0:
        above = text.rfind("\n", 0, start - 1) + 1
        if not text[above:start].lstrip().startswith("#"):
            break
        start = above
    indent = root.start_mark.column
    lines = re.split(r"\r\n|\n|\r", text[start:end].rstrip("\r\n"))
    return "\n".join(line[min(indent, len(line) - len(line.lstrip(" "))) :] for line in lines)


def with_entry_text(text: str, lines: str, allowance: Allowance) -> str | None:
    """The text with lines that `entry_text` gave, in the place of this entry or behind the last one.

    None where it would not say what it has to.
    """
    before = parse_allowances(text)
    places = [number for number, item in enumerate(before) if item.fingerprint == allowance.fingerprint]
    wanted = [item for item in before if item.fingerprint != allowance.fingerprint]
    try:
        made = text
        for number in reversed(places):
            made = _without(made, number)
        made = _insert(made, lines.split("\n"), number=places[0] if places else None)
    except _NotSo:
        return None
    wanted.insert(places[0] if places else len(wanted), allowance)
    return made if _says(made, wanted) else None


def render_allowances(allowances: Sequence[Allowance]) -> str:
    """A file of these entries, which have no unknown keys."""
    return "".join(f"{line}\n" for allowance in allowances for line in _rendered(allowance))


# --- within -----------------------------------------------------------------------------------------------


def _says(text: str, wanted: Sequence[Allowance]) -> bool:
    try:
        return list(parse_allowances(text)) == list(wanted)
    except ConfigError:
        return False


def _by_hand(where: str) -> ConfigError:
    return ConfigError(
        f"{where!r} has a form that this program cannot change without changing more",
        hint="Change the file with an editor: each entry begins with `- fingerprint: ` on a line of its own.",
        path=where,
    )


def _rendered(allowance: Allowance) -> list[str]:
    if allowance.unknown:
        raise _NotSo
    values = [(key, getattr(allowance, key)) for key in _FIELDS]
    lines = [f"{key}: {_scalar(value)}" for key, value in values if value]
    return [f"- fingerprint: {_scalar(allowance.fingerprint)}", *(f"  {line}" for line in lines)]


def _scalar(value: str) -> str:
    typed = _NUMBER.fullmatch(value) or value.lower() in _TYPED
    if _PLAIN.fullmatch(value) and not typed:
        return value
    return '"' + "".join(_escaped(char) for char in value) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _end_of_line(text: str, at: int) -> int:
    """Behind the end of the line in which `at` is; there where `at` is behind one."""
    if at > 0 and text[at - 1] == "\n":
        return at
    found = text.find("\n", at)
    return len(text) if found < 0 else found + 1


def _lines_of(text: str, node: yaml.MappingNode) -> tuple[int, int]:
    """Where the lines of an entry begin and end, its dash being the first thing in them."""
    dash = len(text[: node.start_mark.index].rstrip()) - 1
    start = text.rfind("\n", 0, dash) + 1
    if dash < 0 or text[dash] != "-" or text[start:dash].strip(" "):
        raise _NotSo
    last = node if node.flow_style else node.value[-1][1]
    return start, _end_of_line(text, last.end_mark.index)


def _append(text: str, allowance: Allowance) -> str:
    return _insert(text, _rendered(allowance), number=None)


def _replace(text: str, allowance: Allowance) -> str:
    _, entries = compose_allowances(text)
    number = next(at for at, (item, _) in enumerate(entries) if item.fingerprint == allowance.fingerprint)
    return _insert(_without(text, number), _rendered(allowance), number=number)


def _insert(text: str, lines: Sequence[str], *, number: int | None) -> str:
    """Put an entry's lines before the entry of that number, or behind the last one."""
    root, entries = compose_allowances(text)
    end = _line_end(text)
    if root is None or (root.flow_style and not entries):
        if root is not None:
            text = text[: root.start_mark.index] + text[root.end_mark.index :]
        text = "" if not text.strip() else text if text.endswith("\n") else text + end
        return text + "".join(line + end for line in lines)
    if root.flow_style:
        raise _NotSo
    indent = " " * root.start_mark.column
    if number is not None and number < len(entries):
        at = _lines_of(text, entries[number][1])[0]
    else:
        at = _lines_of(text, entries[-1][1])[1]
    before = text[:at] if at == 0 or text[at - 1] == "\n" else text[:at] + end
    return before + "".join((indent + line).rstrip(" ") + end for line in lines) + text[at:]


def _without(text: str, number: int) -> str:
    root, entries = compose_allowances(text)
    if root is None:
        raise _NotSo
    if not root.flow_style:
        start, end = _lines_of(text, entries[number][1])
        left = text[:start] + text[end:]
        if len(entries) == 1 and any(line.strip() and not line.lstrip().startswith("#") for line in left.splitlines()):
            return text[:start] + "[]" + _line_end(text) + text[end:]  # between marks of a document
        return left
    if len(entries) == 1:
        return text[: root.start_mark.index] + "[]" + text[root.end_mark.index :]
    nodes = [node for _, node in entries]
    if number == 0:
        return text[: nodes[0].start_mark.index] + text[nodes[1].start_mark.index :]
    return text[: nodes[number - 1].end_mark.index] + text[nodes[number].end_mark.index :]


def _renew(text: str, allowance: Allowance) -> str:
    """Change the values of an entry where they stand; what is behind them on their lines stays."""
    _, entries = compose_allowances(text)
    present, node = next(item for item in entries if item[0].fingerprint == allowance.fingerprint)
    if node.flow_style:
        raise _NotSo
    edits: list[tuple[int, int, str]] = []
    pairs = {key.value: (number, key, value) for number, (key, value) in enumerate(node.value)}
    added: list[str] = []
    for key in _FIELDS:
        value = getattr(allowance, key)
        if value == getattr(present, key):
            continue
        if key not in pairs:
            added.append(f"{key}: {_scalar(value)}")
            continue
        number, name, found = pairs[key]
        start, end = found.start_mark.index, found.end_mark.index
        if value:
            tail = _line_end(text) if text[end - 1] == "\n" else ""
            edits.append((start, end, _scalar(value) + tail))
            continue
        start = text.rfind("\n", 0, name.start_mark.index) + 1
        if number == 0 or text[start : name.start_mark.index].strip():
            raise _NotSo
        edits.append((start, _end_of_line(text, end), ""))
    if added:
        at = _lines_of(text, node)[1]
        before = "" if at == 0 or text[at - 1] == "\n" else _line_end(text)
        indent = " " * node.start_mark.column
        edits.append((at, at, before + "".join(indent + line + _line_end(text) for line in added)))
    # Of two edits at one place the later one is put in first, so that what is removed ends where new lines begin.
    for start, end, new in sorted(edits, key=lambda edit: (edit[0], edit[1]), reverse=True):
        text = text[:start] + new + text[end:]
    return text


# --- merging ----------------------------------------------------------------------------------------------


def merged_entries(
    base: Sequence[Allowance], one: Sequence[Allowance], other: Sequence[Allowance]
) -> dict[str, Allowance]:
    """What both sides made of a list, entry by entry; the same whichever is which.

    What either of them added is there. What either of them took away is gone, also where the other renewed it. Where
    both changed an entry it ends at the earlier of both ends, and the rest is of the one that was added later.
    """
    before, mine, theirs = _by_fingerprint(base), _by_fingerprint(one), _by_fingerprint(other)
    merged: dict[str, Allowance] = {}
    for fingerprint in dict.fromkeys([*mine, *theirs]):
        was, here, there = before.get(fingerprint), mine.get(fingerprint), theirs.get(fingerprint)
        found = _merged_entry(was, here, there)
        if found is not None:
            merged[fingerprint] = found
    return merged


def _merged_entry(was: Allowance | None, here: Allowance | None, there: Allowance | None) -> Allowance | None:
    if here is None or there is None:
        return (here or there) if was is None else None
    if there in (here, was):
        return here
    if here == was:
        return there
    newer = max(here, there, key=_age)
    return replace(newer, until=earlier_end(here.until, there.until))


def _age(allowance: Allowance) -> tuple[object, ...]:
    added = parse_until(allowance.added).timestamp() if allowance.added else 0.0
    fields = (allowance.reason, allowance.by, allowance.added, allowance.until, allowance.kind)
    return (bool(allowance.unknown), added, allowance.unknown, fields)


def _by_fingerprint(allowances: Sequence[Allowance]) -> dict[str, Allowance]:
    """Of several entries for one fingerprint the one that ends first, as for the scanner."""
    found: dict[str, Allowance] = {}
    for allowance in allowances:
        known = found.get(allowance.fingerprint)
        if known is None or earlier_end(known.until, allowance.until) != known.until:
            found[allowance.fingerprint] = allowance
    return found


def says_entries(text: str, wanted: dict[str, Allowance]) -> bool:
    """Whether a text has just these entries, each once."""
    try:
        found = parse_allowances(text)
    except ConfigError:
        return False
    return len(found) == len(wanted) and {item.fingerprint: item for item in found} == wanted
