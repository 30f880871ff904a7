"""The YAML of memory files: a safe subset read in one flat pass, and values written so that they read back the same.

Read: the core schema of YAML 1.2 (`no`, `on` and dates are strings), no tags, anchors, aliases or merge keys, one
document, unique string keys. The parser's events are walked iteratively, so that hostile nesting, reference bombs
and tags are refused before anything is built from them. Spec: https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from adaptive_llm_gateway.core import InvalidFile, InvalidInput

MAX_DEPTH = 32
"""Collections within collections, the outermost mapping counted."""

_FLOW_WIDTH = 80
_KEY_LIMIT = 1000  # YAML gives up on finding the `:` of a simple key after 1024 characters
_DIGITS_LIMIT = 300  # longer numbers stay text: the interpreter refuses to convert them
_INT_LIMIT = 10 ** (_DIGITS_LIMIT - 1)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULLS = frozenset(("null", "Null", "NULL", "~", ""))
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_MAYBE_NOT_TEXT = frozenset("+-.0123456789tTfFnN~")

_RESERVED = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null", "~"))
_NUMBER_LIKE = re.compile(r"[0-9][0-9_:.,eExXoOa-fA-F+-]*", re.ASCII)
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[-+][0-9]{2}:[0-9]{2}))?", re.ASCII
)
_FLOW_PLAIN = re.compile(r"[^\W_][\w ./@+-]*")
# What a YAML reader refuses, takes for a line break, or shows in another order than it is written.
_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")


class Entry(NamedTuple):
    """Where one top-level key and its value lie in the text (offsets in characters).

    `end` is behind the value's last character; trailing comments and blank lines are not part of it.
    `kind` is `scalar`, `flow`, `sequence` or `mapping`; `style` a scalar's quote or block character, or empty.
    """

    key: str
    key_start: int
    key_end: int
    start: int
    end: int
    column: int
    kind: str
    style: str


class Scan(NamedTuple):
    """What one pass over a text found: its values, where they are, and how the outermost mapping is written.

    `entries` is None for a text that was written here and not read yet.
    """

    values: dict[str, Any]
    entries: tuple[Entry, ...] | None
    column: int
    flow: bool


def scan(text: str, *, where: str, first_line: int = 1) -> Scan:
    """Read a YAML mapping.

    Args:
        text: one YAML document; empty or only comments is the empty mapping.
        where: the file's name for messages.
        first_line: the file's line that `text` begins with.

    Raises:
        InvalidFile: not YAML, not one mapping, or something outside the safe subset; names file and line.
    """
    try:
        loader = _Loader(text)
        try:
            return _walk(loader, text, where, first_line)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = cast("Any", error.problem_mark or error.context_mark)
        problem = str(cast("Any", error).problem or "broken YAML")
        raise _refused(where, first_line + mark.line if mark else None, problem) from None
    except yaml.reader.ReaderError as error:
        code = error.character if isinstance(error.character, int) else ord(error.character[:1] or b"?")
        raise _refused(where, None, f"the character U+{code:04X} is not allowed") from None
    except yaml.YAMLError as error:
        raise _refused(where, None, str(error)) from None


def _refused(where: str, line: int | None, problem: str) -> InvalidFile:
    place = where if line is None else f"{where}, line {line}"
    return InvalidFile(
        f"{place}: {problem}",
        hint="Write plain YAML: `key: value` lines, lists and mappings; quote text that holds `: ` or ` #`.",
        path=where,
        line=line,
    )


def _walk(loader: Any, source: str, where: str, first_line: int) -> Scan:
    root: dict[str, Any] | None = None
    entries: list[Entry] = []
    column, flow = 0, False
    # One frame per open collection: the container, and for mappings the key that waits for its value.
    stack: list[tuple[dict[str, Any] | list[Any], bool]] = []
    keys: list[str | None] = []
    documents = 0
    key_start = key_end = value_start = value_column = 0
    value_kind = ""
    last_end = 0

    while True:
        event = loader.get_event()
        kind = cast("type[Any]", type(event))
        if kind is ScalarEvent:
            mark = event.start_mark
            if event.anchor is not None or event.tag is not None:
                raise _refused(where, first_line + mark.line, "tags and anchors are not allowed")
            text = event.value
            plain = event.implicit[0]
            value: Any = text
            if plain and (not text or text[0] in _MAYBE_NOT_TEXT):
                value = resolve(text)
            if not stack:
                if documents == 1 and root is None:
                    raise _refused(where, first_line + mark.line, "expected a mapping of keys to values")
                continue
            container, is_mapping = stack[-1]
            depth = len(stack)
            if not is_mapping:
                cast("list[Any]", container).append(value)
                last_end = _scalar_end(event, source)
                continue
            mapping = cast("dict[str, Any]", container)
            key = keys[-1]
            if key is None:
                if type(value) is not str:
                    raise _refused(where, first_line + mark.line, f"the key {text!r} is not text; quote it")
                if value in mapping:
                    raise _refused(where, first_line + mark.line, f"the key {value!r} occurs twice")
                keys[-1] = value
                if depth == 1:
                    key_start, key_end = mark.index, event.end_mark.index
                continue
            mapping[key] = value
            keys[-1] = None
            last_end = _scalar_end(event, source)
            if depth == 1:
                entries.append(
                    Entry(key, key_start, key_end, mark.index, last_end, mark.column, "scalar", event.style or "")
                )
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            mark = event.start_mark
            line = first_line + mark.line
            if event.anchor is not None or event.tag is not None:
                raise _refused(where, line, "tags and anchors are not allowed")
            if len(stack) >= MAX_DEPTH:
                raise _refused(where, line, f"nested deeper than {MAX_DEPTH} levels")
            is_mapping = kind is MappingStartEvent
            fresh: dict[str, Any] | list[Any] = {} if is_mapping else []
            if not stack:
                if not is_mapping:
                    raise _refused(where, line, "expected a mapping of keys to values, found a list")
                root = cast("dict[str, Any]", fresh)
                column, flow = mark.column, bool(event.flow_style)
            else:
                container, in_mapping = stack[-1]
                if in_mapping:
                    key = keys[-1]
                    if key is None:
                        raise _refused(where, line, "a list or mapping cannot be a key")
                    cast("dict[str, Any]", container)[key] = fresh
                else:
                    cast("list[Any]", container).append(fresh)
                if len(stack) == 1:
                    value_start, value_column = mark.index, mark.column
                    value_kind = "flow" if event.flow_style else "mapping" if is_mapping else "sequence"
            last_end = event.end_mark.index
            stack.append((fresh, is_mapping))
            keys.append(None)
        elif kind is AliasEvent:
            raise _refused(where, first_line + event.start_mark.line, "aliases are not allowed")
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            stack.pop()
            keys.pop()
            if event.end_mark.index > event.start_mark.index:  # a closing bracket; block ends have no width
                last_end = event.end_mark.index
            if stack and keys[-1] is not None:
                key = keys[-1]
                keys[-1] = None
                if len(stack) == 1:
                    entries.append(Entry(key, key_start, key_end, value_start, last_end, value_column, value_kind, ""))
        elif kind is DocumentStartEvent:
            documents += 1
            if documents > 1 or event.explicit:
                raise _refused(where, first_line + event.start_mark.line, "more than one YAML document")
        elif kind is StreamEndEvent:
            return Scan(root or {}, tuple(entries), column, flow)
        elif kind is not StreamStartEvent and kind is not DocumentEndEvent:
            raise _refused(where, None, "broken YAML")


def _scalar_end(event: Any, text: str) -> int:
    end: int = event.end_mark.index
    if event.style in ("|", ">"):
        # The mark of a block scalar lies behind the blank lines that follow it; those are nobody's.
        start: int = event.start_mark.index
        return start + len(text[start:end].rstrip())
    return end


def resolve(text: str) -> Any:
    """What plain (unquoted) text means: null, a boolean, a number, or the text itself."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if len(text) > _DIGITS_LIMIT:
        return text
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else text
    return text


# --- Writing -----------------------------------------------------------------------------------------


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `fields` made of what YAML and JSON share: None, bool, int, float, str, list, dict with text keys.

    Tuples become lists, other mappings dicts.

    Raises:
        InvalidInput: another type, a number that is not finite or too long, a lone surrogate, a key that is not
            text, or nesting deeper than `MAX_DEPTH`; names the field.
    """
    result: dict[str, Any] = {}
    for key, value in fields.items():
        if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance] - it comes from callers' JSON
            raise InvalidInput(f"the field name {key!r} is not text")
        check_text(key, name="a field name")
        result[key] = _plain_value(value, key, 2)  # the front matter itself is the first level
    return result


def _plain_value(value: Any, name: str, depth: int) -> Any:
    kind = cast("type[Any]", type(value))
    if value is None or kind is bool:
        return value
    if kind is str and value.isascii():
        return value
    if isinstance(value, str):
        check_text(value, name=name)
        return str(value)
    if isinstance(value, int):
        if abs(value) >= _INT_LIMIT:
            raise InvalidInput(f"{name!r} holds a number of more than {_DIGITS_LIMIT - 1} digits", field=name)
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput(
                f"{name!r} holds {value!r}, which is not a number", hint="Use a finite number.", field=name
            )
        return float(value)
    if depth > MAX_DEPTH:
        raise InvalidInput(f"{name!r} is nested deeper than {MAX_DEPTH} levels", field=name)
    if isinstance(value, Mapping):
        result: dict[str, Any] = {}
        for key, item in cast("Mapping[Any, Any]", value).items():
            if not isinstance(key, str):
                raise InvalidInput(f"{name!r} holds the key {key!r}, which is not text", field=name)
            check_text(key, name=name)
            result[key] = _plain_value(item, name, depth + 1)
        return result
    if isinstance(value, (list, tuple)):
        return [_plain_value(item, name, depth + 1) for item in cast("list[Any]", value)]
    raise InvalidInput(
        f"{name!r} holds a value of type {kind.__name__!r}",
        hint="Use text, numbers, true or false, null, lists and mappings.",
        field=name,
    )


def check_text(text: str, *, name: str) -> None:
    """Refuse text that cannot be stored as UTF-8.

    Raises:
        InvalidInput: a lone surrogate.
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise InvalidInput(
            f"{name!r} holds half a character (U+{code:04X}) at position {error.start}",
            hint="Send whole Unicode characters.",
            field=name,
        ) from None


def same(left: Any, right: Any) -> bool:
    """Whether two plain values are the same in a file: like `==`, but `1`, `1.0` and `true` differ."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        mine, theirs = cast("dict[str, Any]", left), cast("dict[str, Any]", right)
        return mine.keys() == theirs.keys() and all(same(item, theirs[key]) for key, item in mine.items())
    if isinstance(left, list):
        ours, others = cast("list[Any]", left), cast("list[Any]", right)
        return len(ours) == len(others) and all(map(same, ours, others))
    return bool(left == right)


def _quoted(text: str) -> str:
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def _reads_as_text(text: str) -> bool:
    if text.lower() in _RESERVED or not isinstance(resolve(text), str):
        return False
    # Also for readers of YAML 1.1, where `12:30` and `1_000` are numbers.
    return not _NUMBER_LIKE.fullmatch(text) or _MOMENT.fullmatch(text) is not None


def scalar(value: Any, *, flow: bool = False, quote: str = "") -> str:
    """One plain value that is no collection, on one line.

    Args:
        value: `None`, bool, number or text.
        flow: whether it stands inside `[...]` or `{...}`.
        quote: the quote character to prefer for text, `'` or `"`.
    """
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if not isinstance(value, str):
        return repr(value)
    if quote == "'" and value.isprintable() and not _ESCAPED.search(value):
        return "'" + value.replace("'", "''") + "'"
    if quote == '"' or not value or value[-1] in " :" or not _reads_as_text(value):
        return _quoted(value)
    if flow:
        return value if _FLOW_PLAIN.fullmatch(value) and value.isprintable() else _quoted(value)
    if (value[0].isalnum() or value[0] in "_/(") and value.isprintable() and ": " not in value and " #" not in value:
        return value
    return _quoted(value)


def _pair(key: str, value: str, indent: str, *, flow: bool = False) -> str:
    name = scalar(key, flow=True)
    separator = "" if value.startswith("\n") or not value else " "
    if len(name) <= _KEY_LIMIT:
        return f"{name}:{separator}{value}"
    return f"? {name} :{separator}{value}" if flow else f"? {name}\n{indent}:{separator}{value}"


def flow_text(value: Any, *, flow: bool = False, quote: str = "") -> str:
    """A plain value on one line: a scalar, `[a, b]` or `{k: v}`."""
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return "{" + ", ".join(_pair(key, flow_text(item, flow=True), "", flow=True) for key, item in items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow_text(item, flow=True) for item in cast("list[Any]", value)) + "]"
    return scalar(value, flow=flow, quote=quote)


def block_text(value: dict[str, Any] | list[Any], indent: str) -> str:
    """A collection that is not empty in block style, its first line without indentation, no line break at the end."""
    if isinstance(value, dict):
        return f"\n{indent}".join(_pair(key, flow_text(item), indent) for key, item in value.items())
    inner = indent + "  "
    lines = (
        block_text(cast("dict[str, Any]", item), inner) if isinstance(item, dict) and item else flow_text(item)
        for item in value
    )
    return f"\n{indent}".join(f"- {line}" for line in lines)


def _literal(text: str, indent: str) -> str | None:
    """Text of several lines as a literal block, or None where that would not be exact or not be readable."""
    if "\n" not in text or text[0] in "\n \t" or _ESCAPED.search(text):
        return None
    body = text.removesuffix("\n")
    lines = body.split("\n")
    if not lines[-1] or any(line != line.rstrip() or not line.replace("\t", " ").isprintable() for line in lines):
        return None
    header = "|" if text.endswith("\n") else "|-"
    return header + "".join(f"\n{indent}{line}" if line else "\n" for line in lines)


def value_text(value: Any, *, indent: str = "", inline: bool = False, quote: str = "") -> str:
    """What stands behind `key:` for a plain value; begins with a space or a line break, ends without one.

    Args:
        value: a plain value.
        indent: the indentation of the key.
        inline: keep to one line, because a comment follows.
        quote: the quote character to prefer.
    """
    if not inline:
        inner = indent + "  "
        if isinstance(value, str):
            literal = _literal(value, inner)
            if literal is not None:
                return " " + literal
        elif isinstance(value, dict) and value:
            return f"\n{inner}" + block_text(cast("dict[str, Any]", value), inner)
        elif isinstance(value, list) and value:
            line = flow_text(value)
            items = cast("list[Any]", value)
            if len(line) > _FLOW_WIDTH or any(
                isinstance(item, (dict, list)) and bool(cast("Any", item)) for item in items
            ):
                return f"\n{inner}" + block_text(items, inner)
            return " " + line
    return " " + flow_text(value, quote=quote)


def pair_text(key: str, value: Any, *, indent: str = "") -> str:
    """The lines of one top-level key, without indentation before the first and without a line break at the end."""
    name = scalar(key, flow=True)
    text = value_text(value, indent=indent)
    return f"{name}:{text}" if len(name) <= _KEY_LIMIT else f"? {name}\n{indent}:{text}"
