"""Canonical JSON (RFC 8785): one value, one sequence of bytes, in any language that checks our hashes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import cast

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_SAFE = 2**53 - 1  # beyond it a reader whose numbers are doubles has another integer
_DEEPEST = 100

# Written in C. It is canonical for all but two things, for which a value is looked through first: floats, which
# ECMAScript prints otherwise, and the order of keys, which is by UTF-16 and differs above U+FFFF.
_encode = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
).encode


def canonical(value: Json) -> bytes:
    """The canonical form, as UTF-8.

    Raises:
        ValueError: something that has none: NaN, an infinity, an integer beyond 2**53 - 1, half of a surrogate pair,
            a key that is no text, another type, or more than 100 levels.
    """
    text = _encode(value) if _is_plain(value, 0) else _text(value)
    return text.encode("utf-8")  # half of a pair of surrogates is refused here: UnicodeEncodeError is a ValueError


def joined(parts: Mapping[str, bytes]) -> bytes:
    """The canonical form of an object from those of its values."""
    names = sorted(parts, key=_by_utf16)
    return b"{" + b",".join(canonical(name) + b":" + parts[name] for name in names) + b"}"


def digest(value: Json) -> str:
    """The SHA-256 of the canonical form, as 64 hex digits."""
    return digest_of(canonical(value))


def digest_of(form: bytes) -> str:
    """The SHA-256 of a canonical form, as 64 hex digits."""
    return hashlib.sha256(form).hexdigest()


def parse(data: bytes) -> Json:
    """The value of which `data` is the canonical form.

    Raises:
        ValueError: it is no JSON, or not its canonical form (spaces, another order, a key twice, `1.0`).
    """
    try:
        value = cast("Json", json.loads(data, parse_int=_integer))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if canonical(value) != data:
        raise ValueError("not canonical")
    return value


def _integer(text: str) -> int | float:
    """A large float is printed without point and exponent; it must come back as one."""
    value = int(text) if len(text) <= 17 else float(text)
    return value if abs(value) <= _SAFE else float(text)


def number(value: float) -> str:
    """A float as ECMAScript prints it (ECMA-262, Number::toString): the shortest digits that read back the same.

    Raises:
        ValueError: NaN or an infinity.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value!r} has no form in JSON")
    if value == 0:
        return "0"  # also -0
    sign = "-" if value < 0 else ""
    # repr has the same shortest digits; only where point and exponent go differs.
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, part = mantissa.partition(".")
    point = len(whole) + int(power or 0)  # the value is 0.DIGITS times ten to this
    digits = whole + part
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1:+d}"


def _is_plain(value: object, depth: int) -> bool:
    """Whether the encoder's form is the canonical one; refuses what has none."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        if not -_SAFE <= cast("int", value) <= _SAFE:
            raise ValueError(f"{value!r} is beyond what every reader of JSON can hold: 2**53 - 1")
        return True
    if kind is float:
        # Here repr and ECMAScript agree; NaN and the infinities do not come out of it, and `number` refuses them.
        return 1e-4 <= abs(cast("float", value)) < 1e16 and not cast("float", value).is_integer()
    if depth >= _DEEPEST:
        raise ValueError(f"more than {_DEEPEST} levels")
    plain = True  # no early return: each part must be looked at, or a bad one would pass
    if kind is dict:
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str:
                raise ValueError(f"the key {key!r} is no text")
            plain = _is_plain(item, depth + 1) and (key.isascii() or max(key) < "\ud800") and plain
        return plain
    if kind is list:
        for item in cast("list[object]", value):
            plain = _is_plain(item, depth + 1) and plain
        return plain
    raise ValueError(f"{kind.__name__} has no form in JSON")


def _by_utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _text(value: Json) -> str:
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        keys = sorted(value, key=_by_utf16)
        return "{" + ",".join(f"{_encode(key)}:{_text(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_text(item) for item in value) + "]"
    return _encode(value)
