"""How near to each other a query's words stand in a passage. Pure.

Words of a query that stand side by side in a line belong together; in two lines of a talk they are two people's. After
Rasolofo and Savoy, "Term proximity scoring for keyword-based retrieval systems" (2003), without what each word tells:
BM25 has that already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache

from adaptive_llm_gateway.memory._tokens import stems_of

REACH = 48  # characters between two words, about 8 words
_WORD = 6  # characters
_MOST = 16  # words looked for
_LONGEST = 40  # characters of a word
_REST = re.compile(r"[^\W_]+")


class Together:
    """The words of a query.

    Args:
        words: lower-case.
    """

    def __init__(self, words: Iterable[str]) -> None:
        stems = dict.fromkeys(stem for word in words if len(word) <= _LONGEST and (stem := _stem(word)))
        # Inflection changes the end of a stem at most: `filing` and `file`, `happy` and `happiness`.
        self._stems = [(stem, stem[:-1] if len(stem) > 2 and stem[-1] in "eiy" else stem) for stem in stems][:_MOST]

    def __bool__(self) -> bool:
        return len(self._stems) > 1

    def of(self, text: str) -> float:
        """The sum over the pairs of words that stand within `REACH` of each other in a line, each where it is nearest:
        1 when side by side, less the farther apart.
        """
        text = text.lower()
        places: list[tuple[int, int, int]] = []
        for term, (stem, beginning) in enumerate(self._stems):
            if beginning in text:
                places += ((start, end, term) for start, end in _places(text, stem, beginning))
        places.sort()
        nearest: dict[tuple[int, int], int] = {}
        before: dict[int, int] = {}  # where each word ended last
        for start, end, term in places:
            for other, there in before.items():
                gap = start - there
                pair = (term, other) if term < other else (other, term)
                if other != term and gap < nearest.get(pair, REACH) and text.find("\n", there, start) < 0:
                    nearest[pair] = gap
            before[term] = end
        return sum(1 / math.sqrt(1 + gap / _WORD) for gap in nearest.values())


def _places(text: str, stem: str, beginning: str) -> Iterable[tuple[int, int]]:
    """Where words of this stem begin and end."""
    start = text.find(beginning)
    while start >= 0:
        end = start + len(beginning)
        if start == 0 or not text[start - 1].isalnum():
            if rest := _REST.match(text, end, start + _LONGEST):
                end = rest.end()
            if _stem(text[start:end]) == stem:
                yield start, end
        start = text.find(beginning, end)


@lru_cache(maxsize=4096)
def _stem(word: str) -> str:
    return " ".join(stems_of(word))
