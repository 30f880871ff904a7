"""The corpora that the benchmark of the secret scanner makes: the same twice, well-formed, and no leak themselves."""

from __future__ import annotations

import importlib
import random
import string
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest

from adaptive_llm_gateway.core import SecretScanner

FOLDER = Path(__file__).parent.parent / "benchmarks" / "secrets"


@pytest.fixture(autouse=True)
def _modules_of_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(FOLDER), str(FOLDER.parent), *sys.path])


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - has to repeat


CORPORA = [
    ("_contexts", "sentences"),
    ("_contexts", "mutations"),
    ("_files", "files"),
    ("_languages", "assignments"),
    ("_personal", "personal"),
]


@pytest.mark.parametrize(("where", "corpus"), CORPORA)
def test_a_corpus_is_the_same_for_the_same_seed_and_another_for_another(where: str, corpus: str) -> None:
    make = getattr(module(where), corpus)
    assert make(3) == make(3)
    assert make(3) != make(4)


@pytest.mark.parametrize(("where", "corpus"), CORPORA)
def test_every_text_of_a_corpus_has_credentials_where_it_says_and_no_mark_is_left(where: str, corpus: str) -> None:
    for planted in getattr(module(where), corpus)(1):
        assert planted.spans, planted.context
        assert "${~" not in planted.text
        for start, end in planted.spans:
            assert 0 <= start < end <= len(planted.text)
            assert planted.text[start:end].strip()


def test_the_lines_of_a_credential_are_those_it_stands_in() -> None:
    planting = module("_planting")
    planted = planting.plant("g", "c", "one\n${it}\nfour ${~other}\n${it}", {"it": "a\nb", "other": "x"}.__getitem__)
    assert planted.text == "one\na\nb\nfour x\na\nb"
    assert [list(planted.lines(span)) for span in planted.spans] == [[2, 3], [5, 6]]


def test_there_are_more_than_a_hundred_and_thirty_formats_each_in_at_least_ten_contexts() -> None:
    formats, contexts = module("_formats"), module("_contexts")
    names = [form.name for form in formats.FORMATS]
    assert len(names) == len(set(names)) >= 130
    for form in formats.FORMATS:
        assert len(contexts.contexts_of(form)) >= 10, form.name
        assert form.make(seeded(1)) != form.make(seeded(2)), form.name


def number_of(text: str) -> int:
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    number = 0
    for digit in text:
        number = number * 62 + digits.index(digit)
    return number


@pytest.mark.parametrize("name", ["github-classic", "github-oauth", "github-server", "npm"])
def test_a_token_of_github_or_npm_ends_with_the_crc32_of_its_random_part(name: str) -> None:
    form = next(form for form in module("_formats").FORMATS if form.name == name)
    for seed in range(50):
        token = form.make(seeded(seed))
        random_part, checksum = token[4:-6], token[-6:]
        assert len(token) == 40
        assert number_of(checksum) == zlib.crc32(random_part.encode())


def test_a_number_in_base_62_has_leading_zeros() -> None:
    base62 = module("_formats").base62
    assert [base62(0, 6), base62(61, 6), base62(62, 6), base62(2**32 - 1, 6)] == [
        "000000",
        "00000z",
        "000010",
        "4gfFC3",
    ]


def test_a_token_of_grafana_ends_with_its_crc32_the_lowest_byte_first() -> None:
    token = module("_formats").grafana(seeded(1))
    key, _, checksum = token.rpartition("_")
    assert int.from_bytes(bytes.fromhex(checksum), "little") == zlib.crc32(key.encode())


def test_ordinary_text_is_the_same_for_the_same_seed() -> None:
    ordinary = module("_ordinary")
    turns = ordinary.chat_turns(1, 50)
    assert turns == ordinary.chat_turns(1, 50) != ordinary.chat_turns(2, 50)
    assert not any("${~" in turn.text for turn in turns)
    for make in (ordinary.hashes, ordinary.images):
        assert make(1) == make(1) != make(2)


def test_the_files_of_the_benchmark_have_no_credential_in_them() -> None:
    scanner = SecretScanner()
    for path in sorted(FOLDER.iterdir()):
        if path.is_file():
            assert scanner.scan(path.read_text("utf-8")) == (), path.name
