"""Signs that tell two texts apart which have the same words."""

from __future__ import annotations

import re

# Marks of sentences and of Markdown are not among them.
_SIGN = re.compile(
    r"(?<![\w.-])-(?=\.?\d)|(?<=\w)#|!(?==)|(?<=\S )[*>](?= )|[$%+=<^/]|[\u00a2-\u00a5\u00b1\u00d7\u00f7]"
    r"|[\u20a0-\u24ff\u2600-\u2bff\U0001f000-\U0001faff]"
)


def signs_of(text: str) -> list[str]:
    """What tells `-5` from `5`, `C#` from `C`, `a < b` from `a > b`, `$` from `€`, a picture from another; in order."""
    return _SIGN.findall(text)
