"""How a key is taken out of a text, however somebody wrote it down."""

from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import SecretScanner
from adaptive_llm_gateway.gateway import _keys, _plain
from adaptive_llm_gateway.gateway._canonical import Json

KEY = "zq+Canary/7Hf2=Tn5&Xw8#Lm3"
WINDOW = 12


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        KEY[:12],
        KEY[-12:],
        KEY[5:20],
        quote(KEY),
        quote_plus(KEY),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
        base64.b64encode(f"user:{KEY}".encode()).decode(),
        base64.b64encode(f"u:{KEY}:x".encode()).decode(),
        KEY.encode().hex(),
        f"{KEY}{KEY}",
    ],
)
def test_a_long_key_goes_in_whatever_form_and_in_part(written: str) -> None:
    left = _keys.without(KEY, f"bad key {written} is what you sent")
    assert left.startswith("bad key ")
    assert left.endswith(" is what you sent")
    assert _keys.MASK in left
    forms = _keys.forms_of(KEY)
    assert not [form for form in forms for at in range(len(form) - WINDOW + 1) if form[at : at + WINDOW] in left]


@given(st.text(max_size=80))
def test_a_text_without_the_key_stays_as_it_is(text: str) -> None:
    assert _keys.without(KEY, text) == text
    assert _keys.without(None, text) == text


@given(st.text(alphabet=st.characters(exclude_characters=KEY), max_size=20), st.text(max_size=20))
def test_what_stands_around_a_key_stays(before: str, behind: str) -> None:
    assert _keys.without(KEY, f"{before}{KEY}") == f"{before}{_keys.MASK}"
    assert _keys.without(KEY, f"\n{KEY}\n{behind}") == f"\n{_keys.MASK}\n{behind}"


def test_of_a_short_key_only_the_whole_goes() -> None:
    assert _keys.without("k+y", "a k+y, a k%2By and a k") == "a ***, a *** and a k"


def test_what_is_stored_has_no_form_of_a_key_in_use() -> None:
    said: list[Json] = [f"{form}!" for form in _keys.forms_of(KEY)]
    found, changed = _plain.cleaned({"said": said}, SecretScanner(), [KEY])
    assert found == {"said": ["[redacted:key]!"] * len(_keys.forms_of(KEY))}
    assert changed == len(_keys.forms_of(KEY))
