"""From the Markdown of one entry to sentences, what it stands under, and the words and names in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_LINE: Final = 20_000
"""Characters of one line that are read, half from its beginning and half from its end: longer ones are output."""
MAX_SENTENCE: Final = 400
_WRAPPED: Final = 50  # a line as long as this goes on in the next one, unless that begins something

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*)$")
_BULLET = re.compile(r"[ \t]*(?:[-*+>•]|\d{1,3}[.)])[ \t]+")
_BOX = re.compile(r"\[([ xX])\][ \t]+")
_TABLE = re.compile(r"[ \t]*\|")
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"')\]*_`]*+(?=\s)|[。！？]")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|no|approx|incl|resp|Dr|Mr|Mrs|Ms|St)|\b\w)\.$")
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]+"
)
_COMMENT = re.compile(r"<!--[^>]{0,500}-->")
_BLOB = re.compile(r"[!-~]{200}[!-~]*+")
_LABEL = re.compile(r"[*_]{0,2}([A-Za-z][A-Za-z /'-]{1,38}?)[*_]{0,2}[:：][*_]{0,2}(?=\s|$)")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_TOKEN = re.compile(r"[^\s`'\"()<>\[\]{},;|=*]+")
_URL = re.compile(r"[a-z][a-z0-9+.-]{1,15}://\S+", re.IGNORECASE)
_FILE = re.compile(r"(?:[\w.@+-]+/)*[\w.@+-]*[\w@+-]\.(?P<ext>[A-Za-z][A-Za-z0-9]{0,7})(?::\d+)*")
_HASH = re.compile(r"[0-9a-f]{7,40}")
_VERSION = re.compile(
    r"v?\d+(?:\.\d+){2,3}(?:[-+][0-9A-Za-z.-]+|(?:a|b|rc|dev|post)\d+)?|v\d+(?:\.\d+)*(?:[-+][\w.-]+)?"
)
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")
# A bare name is a file when its ending is one; with a folder in front any ending will do.
_ENDINGS_LISTED = (
    "py pyi js jsx ts tsx mjs cjs go rs c h cc cpp hpp java kt rb php cs swift scala sh bash ps1 sql md rst txt adoc "
    "html css scss vue svelte json jsonl yaml yml toml ini cfg conf env lock xml csv tsv ipynb proto tf gradle "
    "dockerfile svg png log db sqlite"
)
_ENDINGS = frozenset(_ENDINGS_LISTED.split())
_ABOUT_COMMITS = re.compile(
    r"\b(?:commit|merg|push|revert|cherry|rebas|sha|rev(?:ision)?\b|hash|landed|HEAD)", re.IGNORECASE
)

_STOP_LISTED = (
    "a about after again all also am an and any are as at be because been before being but by can could did do does "
    "doing done for from get got had has have having he her here him his how i if in into is it its just let like "
    "ll me more most my no nor not now of off ok on once one only or other our out over own re s same she should so "
    "some such t than that the their them then there these they this those through to too under until up us use very "
    "was we were what when where which while who why will with would yes you your"
)
STOP: Final = frozenset(_STOP_LISTED.split())


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of an entry.

    Attributes:
        text: on one line, without the marks of a list or heading.
        entry: number of its entry.
        label: what it stands under, in lower case: the heading above it or the words before its colon; may be empty.
        box: whether it is an item with a box, and whether that is ticked; None without one.
        place: its number among the sentences of its entry.
    """

    text: str
    entry: int
    label: str
    box: bool | None
    place: int


def sentences_of(text: str, entry: int) -> Iterator[Sentence]:
    """The sentences of an entry, in order. Code, tables and the rest of overlong lines hold none."""
    place = 0
    for block in _blocks(text):
        for part in _split(" ".join(block.lines)):
            yield Sentence(part, entry, block.label, block.box, place)
            place += 1


@dataclass(slots=True)
class _Block:
    """An item or a paragraph: its lines, what it stands under, and its box as in `Sentence`."""

    lines: list[str]
    label: str
    box: bool | None
    length: int  # of its last line as it was written


def _blocks(text: str) -> Iterator[_Block]:
    fence = heading = label = ""
    block: _Block | None = None
    for raw in text.split("\n"):
        mark = _FENCE.match(raw)
        if mark or fence or _TABLE.match(raw):
            if block:
                yield block
                block = None
            if mark and not fence:
                fence = mark[1]
            elif mark and mark[1].startswith(fence) and not raw[mark.end() :].strip():
                fence = ""
            continue
        for line in _readable(raw):
            found, bare, item = _HEADING.match(line), line.strip(), _BULLET.match(line)
            said = _LABEL.match(bare)
            if block and bare and not (found or item or said) and block.length >= _WRAPPED:
                block.lines.append(bare)
                block.length = len(line)
                continue
            if block:
                yield block
                block = None
            if found:
                heading, label = _plain(found[1]).lower().rstrip(":"), ""
                continue
            while bullet := _BULLET.match(bare + " "):
                bare = bare[bullet.end() :]
            if not bare:
                continue
            box = _BOX.match(bare)
            bare = bare[box.end() :] if box else bare
            said = _LABEL.match(bare)
            own = _plain(said[1]).lower() if said else ""
            if said and not bare[said.end() :].strip():
                label = own  # `Decisions:` above its list
                continue
            if not item and not own:
                label = ""
            block = _Block([bare], own or label or heading, box[1] != " " if box else None, len(line))
    if block:
        yield block


def _readable(line: str) -> tuple[str, ...]:
    """The parts of a line that a person could have written."""
    half = MAX_LINE // 2
    read = line if len(line) <= MAX_LINE else f"{line[:half]}\n{line[-half:]}"
    read = _COMMENT.sub(" ", read) if "<!--" in read else read
    return tuple(_UNSEEN.sub(" ", part) for part in _BLOB.sub("\n", read).split("\n"))


def _plain(text: str) -> str:
    return " ".join(text.strip(" *_#`").split())


def _split(text: str) -> Iterator[str]:
    begin = 0
    for end in _END.finditer(text):
        so_far = text[begin : end.end()]
        if _ABBREVIATION.search(so_far[-12:]):
            continue
        yield from _bounded(so_far)
        begin = end.end()
    yield from _bounded(text[begin:])


def _bounded(text: str) -> Iterator[str]:
    text = " ".join(text.split())
    if len(text) > MAX_SENTENCE:
        cut = text.rfind(" ", MAX_SENTENCE // 2, MAX_SENTENCE)
        text = text[: cut if cut > 0 else MAX_SENTENCE] + " …"
    if _WORD.search(text):
        yield text


def words_of(text: str) -> list[str]:
    """The words in lower case, in order, without those that say nothing by themselves; plurals are folded."""
    return [_folded(word) for word in _WORD.findall(text.lower()) if word not in STOP]


@lru_cache(1 << 15)
def _folded(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if len(word) - len(ending) >= 4 and word.endswith(ending):
            return word[: -len(ending)]
    return word.removesuffix("e") if len(word) >= 5 else word


@dataclass(frozen=True, slots=True)
class Names:
    """What a sentence names, each once and in order."""

    files: tuple[str, ...] = ()
    commits: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()


NO_NAMES: Final = Names()


def names_of(text: str) -> Names:
    """The files, commits and versions that a sentence names."""
    if "." not in text and not any(char.isdigit() for char in text):
        return NO_NAMES
    files: dict[str, None] = {}
    commits: dict[str, None] = {}
    versions: dict[str, None] = {}
    about_commits = _ABOUT_COMMITS.search(text) is not None
    for token in _TOKEN.findall(_URL.sub(" ", text)):
        if "." not in token and not (about_commits or token[-1].isdigit()):
            continue
        name = token.rstrip(".:!?…").lstrip("@~") if len(token) <= 200 else ""
        if len(name) < 2:
            continue
        if _VERSION.fullmatch(name):
            if not _ADDRESS.fullmatch(name):
                versions[name] = None
        elif _HASH.fullmatch(name):
            if about_commits and any(char.isdigit() for char in name):
                commits[name] = None
        elif "." in name and (file := _FILE.fullmatch(name)) and ("/" in name or file["ext"].lower() in _ENDINGS):
            files[name.split(":", 1)[0]] = None
    if not (files or commits or versions):
        return NO_NAMES
    return Names(tuple(files), tuple(commits), tuple(versions))
