"""What is said of a client's calls, of errors and in the log has no credentials in it, and nothing else goes."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from typing import Any

import pytest
from canary_made import FORMATS, Planter

from adaptive_llm_gateway.core import Allowance, SecretScanner
from adaptive_llm_gateway.server._gate import CleanFormatter, SecretGate, without_secrets


class Repos:
    """Stands for the hub's operations over memory repos with these allowances."""

    def __init__(self, *repos: SecretScanner) -> None:
        self.scanners = repos


def asked(tool: str, given: dict[str, Any], *repos: SecretScanner) -> dict[str, Any] | str:
    gate = SecretGate(Repos(*repos))  # type: ignore[arg-type] - all of it that a gate asks
    return asyncio.run(gate.arguments(tool, given))


@pytest.mark.parametrize("form", FORMATS)
def test_no_format_comes_back_in_a_refusal_a_question_an_error_or_a_line_of_the_log(form: str) -> None:
    planter = Planter()
    secret = planter.plant("x", form)
    texts: list[object] = [
        asked("memory_read", {"id": secret}),
        asked("memory_write", {"title": "x", "fields": {"evidence": f"see {secret} there"}}),
        asked("memory_search", {"query": f"who uses {secret} for what?"}),
        asked("memory_search", {"query": "x", secret: "x"}),
        without_secrets({"message": f"no memory {secret!r}", "details": {"id": [secret]}}),
    ]
    assert all(isinstance(text, str) for text in (texts[0], texts[1], texts[3]))
    assert isinstance(texts[2], dict)
    assert planter.sweep(("said", repr(text).encode()) for text in texts) == []
    kept = io.StringIO()
    handler = logging.StreamHandler(kept)
    handler.setFormatter(CleanFormatter("%(message)s"))
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "no memory %r", (secret,), None)
    handler.handle(record)
    try:
        raise ValueError(secret)
    except ValueError:
        handler.handle(logging.LogRecord("x", logging.ERROR, "x", 1, "it failed", (), sys.exc_info()))
    assert "no memory" in kept.getvalue()
    assert "it failed" in kept.getvalue()
    assert planter.sweep([("the log", kept.getvalue().encode())]) == []


def test_what_is_stored_or_sent_whole_is_left_to_whoever_does_it() -> None:
    secret = Planter().plant("x")
    given = {"title": "x", "body": secret, "redact": False}
    assert asked("memory_write", given) == given
    marked = {"title": secret, "tags": [secret], "redact": True}
    assert asked("memory_write", marked) == marked
    assert isinstance(asked("memory_write", {"title": "x", "id": secret, "redact": True}), str)


def test_what_every_repo_names_is_refused_and_what_one_of_them_allows_is_not() -> None:
    secret = Planter().plant("x")
    (found,) = SecretScanner().scan(secret)
    allowing = SecretScanner(allowed=[Allowance(found.fingerprint, "made up")])
    assert isinstance(asked("memory_read", {"id": secret}, SecretScanner()), str)
    assert asked("memory_read", {"id": secret}, allowing) == {"id": secret}
    assert asked("memory_read", {"id": secret}, SecretScanner(), allowing) == {"id": secret}


def test_what_has_no_credential_goes_through_as_it_is() -> None:
    given = {"query": "why did we choose `sk-` keys?", "tags": ["a", "b"], "context": {"query": "x", "budget": 3}}
    assert asked("memory_search", given) == given
    assert without_secrets({"a": ["b", 1, None, True], "c": {"d": 2.5}}) == {"a": ["b", 1, None, True], "c": {"d": 2.5}}


def test_the_hash_or_id_of_something_is_refused_in_no_argument() -> None:
    for value in (
        "3d1219c7c4c5404aaa1f6d2a48adfda4",
        "01KAQXNB96KPYY6QH9N54M126E",
        "8a12c57407f5e92b763397b6f2203c18d0c3fab9",
    ):
        given = {"query": value, "id": value, "tags": [value], "filters": {"project": value, "commits": [value]}}
        assert asked("memory_search", given) == given
