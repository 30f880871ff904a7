"""Whether a text has the words of an answer."""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?|[^\W\d_]+")
_DAY = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
_MONTHS = re.findall(r"\w+", "january february march april may june july august september october november december")
_NUMBERS = re.findall(r"\w+", "zero one two three four five six seven eight nine ten eleven twelve")
_STOP = frozenset(
    re.findall(
        r"\w+",
        "a about after all also an and any are as at be because been before being both but by can could did do does "
        "for from had has have he her hers him his how i if in into is it its me more most my no not of off on or "
        "other our out over own s she should since so some st nd rd th t than that the their them then there these "
        "they this those through to too up us was we were what when where which while who whom why will with would "
        "yes you your",
    )
)
_ENDINGS = ("ing", "ies", "ed", "es", "s", "e", "y")


def content_words(text: str) -> frozenset[str]:
    """The words of a text that tell something, as they are compared.

    Words lose a common English ending, numbers leading zeros and commas; `three` is `3`, and `2023-05-08` is also
    `8 May 2023`.
    """
    return frozenset(each_content_word(text))


def each_content_word(text: str) -> list[str]:
    """As `content_words`, each as often as it is there."""
    said = text.casefold()
    days = (f"{day} {_MONTHS[(int(month) - 1) % 12]} {year}" for year, month, day in _DAY.findall(said))
    return [_form(word) for word in _WORD.findall(" ".join([said, *days])) if word not in _STOP]


def answered(answer: str, text: str) -> bool | None:
    """Whether a text has every content word of an answer, in any order; None: the answer has none."""
    return has_all(answer, content_words(text))


def has_all(answer: str, words: frozenset[str]) -> bool | None:
    """As `answered`, of the content words of a text."""
    wanted = content_words(answer)
    return wanted <= words if wanted else None


@lru_cache(100_000)
def _form(word: str) -> str:
    if word[0].isdigit():
        whole, dot, rest = word.replace(",", "").partition(".")
        return (whole.lstrip("0") or "0") + dot + rest
    if word in _NUMBERS:
        return str(_NUMBERS.index(word))
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            short = word[: -len(ending)]
            doubled = ending in ("ing", "ed") and short[-1] == short[-2] and short[-1] not in "lsz"
            return short[:-1] if doubled else short
    return word
