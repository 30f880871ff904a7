"""Values to JSON and back: dataclasses as objects, tuples as lists, times as text; credentials out on the way."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from enum import Enum
from typing import cast

from adaptive_llm_gateway.core import SecretScanner
from adaptive_llm_gateway.gateway._canonical import Json
from adaptive_llm_gateway.gateway._keys import forms_of
from adaptive_llm_gateway.gateway._times import to_text

_WHOLE = 2.0**53
_SHORTEST_KEY = 4  # a shorter one would take words out of every text


def plain(value: object) -> Json:
    """The value as JSON has it; half of a pair of surrogates, which JSON cannot hold, becomes U+FFFD.

    Raises:
        TypeError: a part of it is nothing that JSON has.
    """
    kind = type(value)
    if kind is str and cast("str", value).isascii():
        return cast("str", value)
    if value is None or kind is bool or kind is int:
        return cast("Json", value)
    if kind is float:
        # A whole float is printed as an integer, which the encoder in C can do.
        number = cast("float", value)
        return int(number) if number.is_integer() and abs(number) < _WHOLE else number
    if kind is tuple or kind is list:
        return [plain(item) for item in cast("Collection[object]", value)]
    names = _FIELDS.get(kind)
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, datetime):
        return to_text(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = cast("Collection[object]", value)
        return [plain(item) for item in (sorted(items, key=repr) if isinstance(value, set | frozenset) else items)]
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind!r} is nothing that JSON has")
    _FIELDS[kind] = tuple(field.name for field in dataclasses.fields(kind))
    return plain(value)


_FIELDS: dict[type[object], tuple[str, ...]] = {}
"""The fields of each dataclass that was seen."""


def cleaned(value: Json, scanner: SecretScanner | None, keys: Collection[str] = ()) -> tuple[Json, int]:
    """`value` with marks for credentials, and how many texts were changed.

    Args:
        scanner: what it names goes; None where that was done.
        keys: what goes wherever it stands, also encoded: the keys that were in use.
    """
    if scanner is None and not keys:
        return value, 0
    texts: list[str] = []
    _collect(value, texts)
    # Shapes are known to the scanner, keys in use only to the caller, and a key need not have a shape.
    forms = {form for key in keys if len(key) >= _SHORTEST_KEY for form in forms_of(key)}
    whole = "\n".join(texts)  # one scan of all is much cheaper than one of each
    if (scanner is None or not scanner.scan(whole)) and not any(form in whole for form in forms):
        return value, 0
    pattern = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))) if forms else None
    changed = 0

    def change(text: str) -> str:
        nonlocal changed
        new = pattern.sub("[redacted:key]", text) if pattern else text
        new = scanner.redact(new)[0] if scanner is not None else new
        changed += new != text
        return new

    return _mapped(value, change), changed


def _collect(value: Json, texts: list[str]) -> None:
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, str):
                texts.append(f"{key}: {item}")  # `password: ...` is told by its name
            else:
                texts.append(key)
                _collect(item, texts)
    elif isinstance(value, list):
        for item in value:
            _collect(item, texts)


def _mapped(value: Json, change: Callable[[str], str]) -> Json:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        new: dict[str, Json] = {}
        for key, item in value.items():
            if isinstance(item, str):
                name, item_changed = change(key), change(item)
                if item_changed == item:
                    line = change(f"{key}: {item}")
                    item_changed = item if line == f"{key}: {item}" else line.partition(": ")[2]
                new[name] = item_changed
            else:
                new[change(key)] = _mapped(item, change)
        return new
    return value
