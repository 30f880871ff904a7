"""Every promise of the pages is listed with the tests that prove it, and nothing is listed that no page promises."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
MARKER = re.compile(r"<!-- ([PG]-[A-Z]+(?:-\d+)?) -->")

LISTED: dict[str, Any] = tomllib.loads(Path(__file__).with_name("requirements.toml").read_text(encoding="utf-8"))
PROMISES: Sequence[dict[str, Any]] = LISTED["promise"]
GAPS: Sequence[dict[str, Any]] = LISTED["gap"]


def marked(letter: str) -> set[str]:
    """The ids that the pages carry, of promises (`P`) or of gaps (`G`)."""
    found = {name for page in PAGES for name in MARKER.findall(page.read_text(encoding="utf-8"))}
    return {name for name in found if name.startswith(letter)}


@cache
def functions_of(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_promise_of_a_page_is_listed_and_every_listed_one_is_made() -> None:
    assert {promise["id"] for promise in PROMISES} == marked("P")


def test_every_gap_that_a_page_admits_is_listed_and_every_listed_one_is_admitted() -> None:
    assert {gap["id"] for gap in GAPS} == marked("G")


def test_no_id_stands_for_two_things() -> None:
    ids = [entry["id"] for entry in (*PROMISES, *GAPS)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise["id"])
def test_a_promise_has_its_words_and_tests_that_exist(promise: dict[str, Any]) -> None:
    assert set(promise) == {"id", "text", "tests"}
    assert promise["text"]
    assert promise["tests"]
    named = [node.partition("::") for node in promise["tests"]]
    assert not [f"{path}::{test}" for path, _, test in named if test not in functions_of(path)]


@pytest.mark.parametrize("gap", GAPS, ids=lambda gap: gap["id"])
def test_a_gap_has_its_reason(gap: dict[str, Any]) -> None:
    assert set(gap) == {"id", "text", "reason"}
    assert gap["text"]
    assert gap["reason"]
