"""Whether the entries that a statement points at say what it says: the check of a model's output."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from adaptive_llm_gateway.compression._sentences import MAX_SENTENCE, words_of
from adaptive_llm_gateway.compression._session import KINDS, Entry, Statement

WORDS_KNOWN: Final = 0.7
"""The share of a statement's words that its entries must have."""

_TERM = re.compile(r"[^\s`'\"“”‘’()<>\[\]{},;|=*]+")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_CAPITAL = re.compile(r"[^\W\d_]*[A-Z][^\W_]*")
_NOT = re.compile(r"\b(?:not|no|never|none|nor|without|cannot|reject\w*|\w+n['’]t)\b", re.IGNORECASE)


@dataclass(slots=True)
class _Read:
    """An entry's words, kept: a model may point at the same one many times."""

    numbers: frozenset[str]
    terms: frozenset[str]
    words: frozenset[str]
    denies: bool


@dataclass(slots=True)
class Checked:
    """The statements that stand, and how many fell for which reason."""

    kept: list[Statement] = field(default_factory=list[Statement])
    dropped: Counter[str] = field(default_factory=Counter[str])


def check(statements: Sequence[Statement], entries: Mapping[int, Entry]) -> Checked:
    """Keep the statements that the entries they point at support.

    A statement is supported when every number and every name in it (what has a digit, a capital letter within, or the
    marks of a path or identifier) stands in one of its entries, `WORDS_KNOWN` of its other words do, and it denies
    nothing where no entry does. What is kept has one line and the numbers of its entries in order.
    """
    done = Checked()
    known: dict[int, _Read] = {}
    for given in statements:
        why = _shape(given, entries)
        if why is None:
            numbers = tuple(sorted(set(given.entries)))
            text = " ".join(given.text.split())
            for number in numbers:
                if number not in known:
                    known[number] = _read(entries[number])
            why = _unsupported(text, [known[number] for number in numbers])
            if why is None:
                done.kept.append(Statement(given.kind, text, numbers))
                continue
        done.dropped[why] += 1
    return done


def _shape(given: Any, entries: Mapping[int, Entry]) -> str | None:
    """What is wrong with a statement as such: a model may have said anything."""
    if not isinstance(given, Statement) or given.kind not in KINDS or not isinstance(given.text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        return "no statement"
    if not any(char.isalnum() for char in given.text) or len(given.text) > 2 * MAX_SENTENCE:
        return "no statement"
    numbers = cast("tuple[Any, ...]", given.entries)
    if not numbers:
        return "points at no entry"
    if any(type(number) is not int or number not in entries for number in numbers):
        return "points at an entry that does not exist"
    return None


def _read(entry: Entry) -> _Read:
    text = f"{entry.author} {entry.time:%Y-%m-%d %H:%M} {entry.text}"
    return _Read(
        frozenset(_NUMBER.findall(text)),
        frozenset(_bare(term) for term in _TERM.findall(text)),
        frozenset(words_of(text)),
        _NOT.search(entry.text) is not None,
    )


def _bare(term: str) -> str:
    return term.strip(".:!?…").lower()


def _unsupported(text: str, read: Sequence[_Read]) -> str | None:
    if any(not any(number in entry.numbers for entry in read) for number in _NUMBER.findall(text)):
        return "a number that its entries do not have"
    terms = _TERM.findall(text)
    for place, term in enumerate(terms):
        bare = term.strip(".:!?…")
        named = any(mark in bare for mark in "/_.@\\#") or any(char.isdigit() for char in bare)
        capital = _CAPITAL.fullmatch(bare) is not None and (place > 0 or not bare[1:].islower())
        if bare and (named or capital) and len(bare) > 1:
            words = words_of(bare)
            if not any(bare.lower() in entry.terms or (words and entry.words.issuperset(words)) for entry in read):
                return "a name that its entries do not have"
    if _NOT.search(text) and not any(entry.denies for entry in read):
        return "a denial that its entries do not have"
    words = words_of(text)
    supported = sum(any(word in entry.words for entry in read) for word in words)
    if not words or supported < WORDS_KNOWN * len(words):
        return "words that its entries do not have"
    return None
