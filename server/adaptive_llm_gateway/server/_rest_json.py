"""JSON as the REST API takes and gives it: I-JSON (RFC 7493), read strictly and written once."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn, cast

from pydantic_core import PydanticSerializationError, to_json

from adaptive_llm_gateway.core import InvalidInput, TooLarge

_DEEPEST: Final = 32
_LONGEST_INT: Final = 2**63


class UnreadableJson(InvalidInput):
    """A body that is no JSON, or that two readers would take for different things."""

    code = "unreadable_json"


def read_json(data: bytes) -> Any:
    """The value that a body is.

    Raises:
        UnreadableJson: it is not JSON in UTF-8, or has a name twice, a number that is none, or half of a surrogate
            pair.
        TooLarge: a number of it is beyond 64 bits, or it is nested more than 32 deep.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableJson(f"the body is not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_int
        )
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError as error:
        raise UnreadableJson(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    _check(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UnreadableJson("an object of the body has a name twice", hint="Which of the two counts is not defined.")
    return found


def _constant(_text: str) -> NoReturn:
    raise UnreadableJson("the body has NaN or Infinity, which JSON has not")


def _float(text: str) -> float:
    found = float(text)
    if not math.isfinite(found):
        raise TooLarge("the body has a number beyond what 64 bits hold")
    return found


def _int(text: str) -> int:
    # Not read first: the time to read one grows faster than its length.
    if len(text) > 20 or not -_LONGEST_INT <= (found := int(text)) < _LONGEST_INT:
        raise TooLarge("the body has a whole number beyond 64 bits")
    return found


def _check(value: Any) -> None:
    """Refuse what is too deep, and texts that are not valid Unicode."""
    level: list[Any] = [value]
    for _ in range(_DEEPEST + 1):
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                _check_text(one)
            elif isinstance(one, dict):
                for name, inner in cast("dict[str, Any]", one).items():
                    _check_text(name)
                    below.append(inner)
            elif isinstance(one, list):
                below += cast("list[Any]", one)
        if not below:
            return
        level = below
    raise _too_deep()


def _check_text(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UnreadableJson("a text of the body has half of a surrogate pair") from None


def _too_deep() -> TooLarge:
    return TooLarge(f"the body is nested more than {_DEEPEST} deep")


def write_json(value: Any) -> bytes:
    """An answer's bytes. What is no valid Unicode, such as a file's name may be, becomes U+FFFD; NaN becomes null."""
    try:
        return to_json(value, inf_nan_mode="null")
    except (PydanticSerializationError, UnicodeEncodeError):
        text = json.dumps(value, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return to_json(json.loads(text), inf_nan_mode="null")
