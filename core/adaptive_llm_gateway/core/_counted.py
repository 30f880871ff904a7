"""Numbers of things in words."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """`1 file`, `2 files`, `1,200 files`.

    Args:
        several: the plural, where it is more than an `s` behind the word.
    """
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"
