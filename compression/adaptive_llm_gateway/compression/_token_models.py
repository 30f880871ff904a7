"""Which tokenizer a model has: one of those in the package, or how far another one's counts may lie above it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from adaptive_llm_gateway.compression._ranks import SPECS, EncodingName

DEFAULT_ENCODING: EncodingName = "o200k_base"


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound on another tokenizer's count, found by `benchmarks/compression/token_bounds.py`.

    It is `each` for a token of o200k_base, something for each character of four kinds, and `ONCE`.
    docs/decisions/0012-counting-tokens-offline.md says what was measured and how far it holds.
    """

    each: float
    digit: float
    near: float
    east: float
    far: float

    def total(self, tokens: int, text: str) -> int:
        """The bound for a text that has so many tokens of o200k_base."""
        kinds = kinds_of(text)
        return ONCE + math.ceil(
            self.each * tokens
            + self.digit * kinds.digit
            + self.near * kinds.near
            + self.east * kinds.east
            + self.far * kinds.far
        )


@dataclass(frozen=True, slots=True)
class Kinds:
    """How many characters of a text are of the kinds that tokenizers treat most differently.

    Attributes:
        digit: 0 to 9.
        near: below U+0800 and not ASCII: Latin letters with marks, Greek, Cyrillic, Hebrew, Arabic.
        east: Chinese, Japanese, Korean.
        far: all others: the scripts of India and South-East Asia among them, and emoji.
    """

    digit: int
    near: int
    east: int
    far: int


_NOT_NEAR = re.compile("[^\u0080-\u07ff]+")
_NOT_EAST = re.compile("[^\u2e80-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+")


def kinds_of(text: str) -> Kinds:
    """Count the characters of each kind."""
    digit = sum(map(text.count, "0123456789"))
    if text.isascii():
        return Kinds(digit, 0, 0, 0)
    near, east = len(_NOT_NEAR.sub("", text)), len(_NOT_EAST.sub("", text))
    return Kinds(digit, near, east, len(text) - len(text.encode("ascii", "ignore")) - near - east)


ONCE = 4
"""Tokens on top of each text, for what a short one may cost more and a long one does not show."""


def _widest(bounds: Iterable[Bound]) -> Bound:
    """The largest of each part."""
    parts = zip(*((bound.each, bound.digit, bound.near, bound.east, bound.far) for bound in bounds), strict=True)
    return Bound(*map(max, parts))


BOUNDS: dict[str, Bound] = {
    "claude-2": Bound(1.74, 0.0, 0.85, 0.2, 2.52),
    "claude-3": Bound(1.59, 0.0, 0.33, 0.15, 1.6),
    "claude": Bound(2.25, 0.18, 0.07, 0.0, 1.19),
    "gemini": Bound(1.41, 0.4, 0.1, 0.0, 0.2),
    "llama-2": Bound(1.83, 0.18, 0.58, 0.05, 1.87),
    "llama-3": Bound(1.45, 0.0, 0.32, 0.0, 1.44),
    "mistral": Bound(1.83, 0.2, 0.58, 0.05, 1.99),
    "qwen": Bound(1.45, 0.4, 0.44, 0.0, 1.2),
    "deepseek": Bound(1.43, 0.0, 0.28, 0.0, 0.43),
}
"""A bound for each family of models whose tokenizer could be measured."""

UNKNOWN = _widest(BOUNDS.values())
"""For every other model: the widest of each part."""

# As in tiktoken's `model.py`, and what OpenAI has brought since. The first that matches counts.
_ENCODINGS: tuple[tuple[re.Pattern[str], EncodingName], ...] = (
    (re.compile(r"(ft:)?(chatgpt-4o|gpt-4o|gpt-4\.[15]|gpt-5|gpt-oss|o[134]|codex-mini)(?![a-z0-9])"), "o200k_base"),
    (re.compile(r"o200k_(base|harmony)$"), "o200k_base"),
    (re.compile(r"(ft:)?(gpt-4|gpt-3\.5|gpt-35-turbo|davinci-002|babbage-002)(?![a-z0-9.])"), "cl100k_base"),
    (re.compile(r"text-embedding-(ada-002|3-small|3-large)$"), "cl100k_base"),
)
# Claude 3 up to 4.6, whose tokenizer is not that of 4.7 and later; a date is no version.
_CLAUDE_3 = r"(v?3(?!\d)|(opus|sonnet|haiku)[-_ ]?(3|4([-_.][0-6](?!\d))?)(?![-_.]?\d{1,2}(?!\d)))"
# A name may tell of several (a distilled model's does): then the widest of them counts.
_FAMILIES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"claude[-_ ]?(v?[12](?!\d)|instant)"), "claude-2"),
    (re.compile(rf"claude[-_ ]?{_CLAUDE_3}"), "claude-3"),
    (re.compile(rf"claude(?![-_ ]?(v?[12](?!\d)|instant|{_CLAUDE_3}))"), "claude"),
    (re.compile(r"gemini|gemma"), "gemini"),
    (re.compile(r"llama[-_ ]?3(?!\d)"), "llama-3"),
    (re.compile(r"llama(?![-_ ]?3(?!\d))|vicuna|alpaca"), "llama-2"),
    (re.compile(r"(mis|mix|minis|codes|devs|magis|vox)tral|pixtral|mathstral"), "mistral"),
    (re.compile(r"qwen|qwq|qvq"), "qwen"),
    (re.compile(r"deepseek"), "deepseek"),
)


def tokenizer_of(model: str) -> EncodingName | Bound:
    """The encoding of a model, or the bound for its family; the widest bound for a name that says nothing.

    Args:
        model: as its provider names it, upper or lower case, with or without who serves it: `openai/gpt-4o`.
    """
    name = model.strip().lower()
    served = name.rsplit("/", 1)[-1]
    for encoding in SPECS:
        if served == encoding:
            return encoding
    families = _families(served) or _families(name)
    if not families:
        for pattern, encoding in _ENCODINGS:
            if pattern.match(served):
                return encoding
        return UNKNOWN
    return _widest(families)


def _families(name: str) -> list[Bound]:
    return [BOUNDS[family] for pattern, family in _FAMILIES if pattern.search(name)]
