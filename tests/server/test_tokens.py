"""Tokens of clients: their form, what tells a typing error, and that our own scanner finds every one."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import ALG_TOKEN_PREFIX, SecretScanner
from adaptive_llm_gateway.server._tokens import TOKEN_LENGTH, is_token, new_token, token_hash

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_a_token_is_a_prefix_and_256_bits_with_a_checksum() -> None:
    made = {new_token() for _ in range(200)}
    assert len(made) == 200
    for token in made:
        assert token.startswith(ALG_TOKEN_PREFIX)
        assert len(token) == TOKEN_LENGTH == len(ALG_TOKEN_PREFIX) + 43 + 6
        assert is_token(token)
    # 43 digits in base 62 hold every number of 256 bits, and 42 do not.
    assert 62**42 < 2**256 <= 62**43


@given(st.integers(min_value=0, max_value=48), st.sampled_from(ALPHABET))
def test_every_single_typing_error_is_told_without_looking_anything_up(place: int, other: str) -> None:
    token = new_token()
    at = len(ALG_TOKEN_PREFIX) + place
    mistyped = token[:at] + other + token[at + 1 :]
    assert is_token(mistyped) is (mistyped == token)


@given(st.text(max_size=80))
def test_nothing_else_is_taken_for_a_token(text: str) -> None:
    token = new_token()
    assert not is_token(text)
    assert is_token(token + text) is (text == "")
    assert is_token(text + token) is (text == "")


def test_only_the_sha_256_of_a_token_is_its_hash() -> None:
    token = new_token()
    assert token_hash(token) == hashlib.sha256(token.encode("ascii")).hexdigest()


def test_the_secret_scanner_finds_every_token_wherever_it_stands() -> None:
    scanner = SecretScanner()
    places = (
        "{}",
        "the token is {}.",
        'x = "{}"',
        "https://a.example/?t={}&x=1",
        "a\nb {} c",
        "Authorization: Bearer {}",
    )
    for number in range(300):
        token = new_token()
        text = places[number % len(places)].format(token)
        assert [finding.kind for finding in scanner.scan(text)] == ["alg-token"], text.replace(token, "TOKEN")
        assert token not in scanner.redact(text)[0]
