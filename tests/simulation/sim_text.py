"""Texts that can be followed: each line of its own has a token, so that it is known later which line is where."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_TOKEN = re.compile(r"tok(\d{6})x")
_ID = re.compile(rb"^id:[ \t]*[\"']?([0-9A-HJKMNP-TV-Z]{26})", re.MULTILINE)
WORDS = [
    "walrus",
    "otter",
    "lantern",
    "harbour",
    "meadow",
    "copper",
    "willow",
    "granite",
    "saffron",
    "thimble",
    "anchor",
    "velvet",
    "ember",
    "quartz",
    "Größe",
    "naïve",
    "žluťoučký",
    "ελιά",
    "дорога",
    "記憶",
    "メモリ",
    "कमल",
    "زيتون",
    "🦊",
    "étude",
]


def token(number: int) -> str:
    """What stands in the line with this number."""
    return f"tok{number:06d}x"


def tokens(text: str | bytes) -> set[int]:
    """The numbers of the tokens in a text."""
    found = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return {int(number) for number in _TOKEN.findall(found)}


def line(number: int, words: Sequence[str]) -> str:
    """A line with its token."""
    return " ".join([token(number), *words])


def edited(body: str, edits: Iterable[Sequence[Any]]) -> str:
    """A body with edits done to its lines: `insert`, `change` (at 0.0 to 1.0 of it, a line) and `remove` (at).

    Line ends stay as they are, also a missing one at the end.
    """
    end = "\r\n" if "\r\n" in body else "\n"
    lines = body.split(end)
    last = lines.pop() if lines and lines[-1] == "" else None
    for kind, at, *text in edits:
        place = min(int(at * len(lines)), max(len(lines) - 1, 0))
        if kind == "insert":
            lines.insert(min(int(at * (len(lines) + 1)), len(lines)), text[0])
        elif lines and kind == "change":
            lines[place] = text[0]
        elif lines:
            del lines[place]
    return end.join([*lines, *([last] if last is not None and lines else [])])


def memory_id(data: bytes) -> str | None:
    """The id that a file's front matter has."""
    found = _ID.search(data) if data.startswith(b"---") else None
    return found[1].decode() if found else None


def blob_id(data: bytes) -> str:
    """Git's id of a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of a work tree."""
    found: dict[str, bytes] = {}
    for folder, folders, names in os.walk(root):
        if ".git" in folders:
            folders.remove(".git")
        for name in names:
            path = Path(folder, name)
            found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found


def chosen(found: Iterable[tuple[Iterable[int], str]], wanted: int) -> str | None:
    """Of things with their tokens the one whose first token is the next from `wanted` on; the first after the last.

    Ids are random, tokens are not: so a seed means the same texts each time.
    """
    order = sorted((min(numbers), name) for numbers, name in ((set(given), name) for given, name in found) if numbers)
    if not order:
        return None
    return next((name for first, name in order if first >= wanted), order[0][1])
