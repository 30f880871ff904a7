"""Texts with credentials planted in them, and where."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_MARK = re.compile(r"\$\{(~?)([a-z][a-z0-9-]*)\}")


@dataclass(frozen=True, slots=True)
class Planted:
    """A text and what is planted in it.

    Attributes:
        group: what the text is counted under: a format, a file, a language.
        context: which text of its group.
        spans: of each credential, in characters.
        file: what it is called where it lies on a disk; scanners judge by that, too.
    """

    group: str
    context: str
    text: str
    spans: tuple[tuple[int, int], ...]
    file: str = "text.md"

    def lines(self, span: tuple[int, int]) -> range:
        """The lines (from 1) that a credential stands in."""
        start, end = span
        return range(self.text.count("\n", 0, start) + 1, self.text.count("\n", 0, end) + 2)


def plant(group: str, context: str, template: str, make: Callable[[str], str], *, file: str = "text.md") -> Planted:
    """Fill a template: each `${name}` is a credential, each `${~name}` a value that is none.

    Args:
        make: gives the value of a name.
    """
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    length = at = 0
    for mark in _MARK.finditer(template):
        before, value = template[at : mark.start()], make(mark[2])
        parts += [before, value]
        length += len(before)
        if not mark[1]:
            spans.append((length, length + len(value)))
        length += len(value)
        at = mark.end()
    return Planted(group, context, "".join([*parts, template[at:]]), tuple(spans), file)
