"""Turn what a user types into an FTS5 expression, and what is indexed into the same tokens. Pure."""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_QUERY = 16_000  # characters read of a query
MAX_TERMS = 48  # different terms and phrases searched
_MAX_LITERALS = 8
_MAX_WORD = 80

# One list for queries only: everything is indexed, so a query of nothing but stop words still finds.
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about above after again against all am an and any are aren as at be because been before being below between "
        "both but by can cannot could couldn d did didn do does doesn doing don down during each few for from further "
        "get got had hadn has hasn have haven having he her here hers herself him himself his how i if in into is isn "
        "it its itself just let ll m me more most mustn my myself no nor not now of off on once only or other ought "
        "our ours ourselves out over own please re s same shan she should shouldn so some such t than that the their "
        "theirs them themselves then there these they this those through to too under until up us ve very was wasn we "
        "were weren what when where which while who whom whose why will with won would wouldn you your yours yourself "
        "yourselves",
    )
)

# Scripts written without spaces between words (and Hangul, whose particles stick to the word).
_RUN = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\ua9e0-\ua9ff\uaa60-\uaa7f\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_MARKS = (
    r"\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0711\u0730-\u074a"
    r"\u0900-\u0903\u093a-\u094f\u0951-\u0957\u0962\u0963\u0981-\u0983\u09bc-\u09d7\u0a01-\u0a4d\u0abc-\u0acd"
    r"\u0b01-\u0b03\u0b3c-\u0b57\u0b82\u0bbe-\u0bd7\u0c00-\u0c03\u0c3e-\u0c56\u0c81-\u0c83\u0cbc-\u0cd6\u0d00-\u0d03"
    r"\u0d3b-\u0d57\u0d81-\u0d83\u0dca-\u0df3\u0f18-\u0f84\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f"
)
_WORD = re.compile(rf"[^\W_](?:[^\W_]|[{_MARKS}])*")
_QUOTED = re.compile(r'["“„«]([^"“”„«»]{1,400})["”“»]')
_TOKEN = re.compile(r"[^\s\"“”„«»,;!?]+")
# Digits among letters, or letters joined by the marks of code, paths, versions and tickets.
_IDENTIFIER = re.compile(r"(?=.*[^\W\d_])(?=.*\d)|.*[^\W_][._/:#@\\+-]+[^\W_]|.*[^\W_](?:\(\)|::)|[#@/~.][^\W_]")
# A word behind a space and another word of its sentence; a capital at the beginning of one says nothing.
_INNER_WORD = re.compile(r"(?<=[^\s.!?])\s+[\"'“„«(\[]*([^\W\d_][^\W_]+)")
_PLAIN_COMPOUND = re.compile(r"[^\W\d_]+(?:[-/][^\W\d_]+)+")


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """What to look for.

    Attributes:
        phrases, words: what to look for: phrases, their words apart by spaces, and single words.
        terms: the single words, lower-case, for titles and snippets.
        literals: identifiers and quoted phrases as (lower-case text, phrase); found literally they are `exact`.
        quoted: of the literals' texts, those a user put in quotes.
        names: of the words, those that begin with a capital letter within a sentence.
        blank: the query is empty: the most recent are wanted.
    """

    phrases: tuple[str, ...]
    words: tuple[str, ...]
    terms: tuple[str, ...]
    literals: tuple[tuple[str, str], ...]
    quoted: frozenset[str]
    names: frozenset[str]
    blank: bool


def any_of(*groups: Iterable[str]) -> str:
    """The FTS5 expression for any of some phrases and words; they hold no quotes, so nothing in them is syntax."""
    return " OR ".join(f'"{part}"' for part in dict.fromkeys(itertools.chain(*groups)))


def affordable(words: Sequence[str], counts: Sequence[int], budget: int) -> list[str]:
    """The rarest of the words, at least two, as long as not more than `budget` rows have to be scored for them.

    A word that is in every tenth row tells little.
    """
    ranked = sorted(zip(counts, range(len(words)), strict=True))
    total = 0
    kept: list[int] = []
    for count, place in ranked:
        total += count
        if total > budget and len(kept) >= 2:
            break
        kept.append(place)
    return [words[place] for place in sorted(kept)]


def plan_query(query: str) -> QueryPlan:
    """Read a query. Never fails, and no user text reaches FTS5 but as quoted words."""
    return _planned(query[:MAX_QUERY])


@functools.lru_cache(maxsize=64)  # a search reads its query twice: to search, and to say how it was read
def _planned(query: str) -> QueryPlan:
    text = normalise(query).strip()
    if not text:
        return QueryPlan((), (), (), (), frozenset(), frozenset(), blank=True)
    quoted = [match[1].strip() for match in _QUOTED.finditer(text)]
    literals: dict[str, str] = {}
    for literal in quoted:
        if phrase := _phrase(literal):
            literals.setdefault(literal.lower(), phrase)
    by_user = frozenset(literals)
    for match in _TOKEN.finditer(text):
        token = match[0].strip(".:'`*<>[]{}|&^=").rstrip("(-/")
        if len(literals) >= _MAX_LITERALS:
            break
        if 2 <= len(token) <= 200 and _IDENTIFIER.match(token) and not _PLAIN_COMPOUND.fullmatch(token):  # noqa: SIM102
            if phrase := _phrase(token):
                literals.setdefault(token.lower(), phrase)
    spaced = _RUN.sub(" ", text) if not text.isascii() else text
    words = list(dict.fromkeys(word.lower()[:_MAX_WORD] for word in _WORD.findall(spaced)))
    content = [word for word in words if word not in STOP_WORDS]
    grams: list[str] = []
    if not text.isascii():
        for run in _RUN.findall(text):
            grams += _bigrams(run) or [str(ord(run))]
        grams = list(dict.fromkeys(grams))
    terms = (content or ([] if grams else words))[:MAX_TERMS]
    return QueryPlan(
        tuple(phrase for phrase in literals.values() if " " in phrase)[:MAX_TERMS],
        (*terms, *grams[:MAX_TERMS]),
        tuple(terms) + tuple(run.lower() for run in _RUN.findall(text)[:_MAX_LITERALS]),
        tuple(literals.items())[:_MAX_LITERALS],
        by_user,
        frozenset(terms) & _names(text),
        blank=False,
    )


def indexed_text(text: str) -> tuple[str, str]:
    """What FTS5 is given for a text: (the words of spaced scripts, the n-grams of the others)."""
    if text.isascii():
        return text.replace("\0", " "), ""
    text = normalise(text)
    grams: list[str] = []
    for run in _RUN.findall(text):
        grams += _bigrams(run)
        grams += map(str, dict.fromkeys(map(ord, run)))
    return (_RUN.sub(" ", text), " ".join(grams)) if grams else (text, "")


def normalise(text: str) -> str:
    """NFKC without NUL: full-width forms, ligatures and composed accents become one, halves of a surrogate pair `?`."""
    text = text.replace("\0", " ")
    return text if text.isascii() else unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode("utf-8"))


def words_of(text: str) -> list[str]:
    """The words of a text, lower-case, as queries see them."""
    return [word.lower() for word in _WORD.findall(normalise(text))]


def phrase_of(text: str) -> str:
    """A word or phrase as the index has its tokens, apart by spaces; empty when it has none, or mixes scripts with and
    without spaces.
    """
    return _phrase(normalise(text))


def _names(text: str) -> set[str]:
    """Lower-case; with the nouns of a language that writes them with a capital letter."""
    return {match[1].lower()[:_MAX_WORD] for match in _INNER_WORD.finditer(text) if match[1][0].isupper()}


def _bigrams(run: str) -> list[str]:
    # Decimal code points: FTS5 would split some of these scripts at their vowel signs, and the stemmer leaves
    # what ends in a digit alone.
    codes = [str(ord(char)) for char in run]
    return [f"{first}x{second}" for first, second in itertools.pairwise(codes)]


def _phrase(text: str) -> str:
    if _RUN.search(text):
        grams = [gram for run in _RUN.findall(text) for gram in (_bigrams(run) or [str(ord(run))])]
        return " ".join(grams) if grams and not _WORD.search(_RUN.sub(" ", text)) else ""
    return " ".join(word[:_MAX_WORD] for word in _WORD.findall(text)[:40])
