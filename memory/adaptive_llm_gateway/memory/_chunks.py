"""Cut a body into passages for search: on Markdown structure where there is some, never losing a character."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

TARGET = 900  # characters; about 200 word pieces of English, what the default embedder reads without cutting
LIMIT = 1_300  # no chunk is longer, except by its overlap
EMBEDDED_FORM = "text-2"  # names what `split` and `embedding_text` make; another form is another vector space
OVERLAP = 160  # characters of the sentence before that a chunk may repeat
_MIN_SECTION = 240  # a heading starts a new chunk only when the one before has grown to this
_WIDE_SHARE = 0.2
_WIDE_FACTOR = 3  # scripts without spaces need about a word piece per character

_WIDE = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
    r"\U00020000-\U0003ffff]"
)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SENTENCE_END = re.compile(r"[.!?…][\"')\]]*\s+|[。！？｡]+|\n")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage `body[start:end]`.

    Attributes:
        first_line, last_line: 1-based lines of the body that it touches.
        heading: the headings above it, outermost first, joined by ` > `; empty when there are none.
    """

    start: int
    end: int
    first_line: int
    last_line: int
    heading: str


@dataclass(frozen=True, slots=True)
class _Sizes:
    target: int
    limit: int
    overlap: int


@dataclass(frozen=True, slots=True)
class _Block:
    start: int
    end: int
    kind: str  # "heading", "code" or "text"
    trail: tuple[str, ...]


def split(body: str) -> list[Chunk]:
    """Chunks in order, at least one; together they cover the whole body.

    About `TARGET` characters each (a third for scripts without spaces). Fenced code, lists and paragraphs stay whole
    where they fit in `LIMIT`; what does not is cut between lines, then sentences, then words, then anywhere.
    """
    scale = 1
    if not body.isascii() and len(_WIDE.findall(body)) > len(body) * _WIDE_SHARE:
        scale = _WIDE_FACTOR
    sizes = _Sizes(TARGET // scale, LIMIT // scale, OVERLAP // scale)
    if len(body) <= sizes.target:
        return [Chunk(0, len(body), 1, _last_line(body), _first_heading(body))]
    spans = _pack(body, _blocks(body), sizes)
    newlines = [match.start() for match in re.finditer("\n", body)]
    return [
        Chunk(
            start,
            end,
            bisect_right(newlines, start - 1) + 1,
            bisect_right(newlines, max(start - 1, end - 2)) + 1,
            " > ".join(trail),
        )
        for start, end, trail in spans
    ]


def embedding_text(
    text: str,
    *,
    day: str,
    title: str,
    author: str,
    project: str | None = None,
    heading: str = "",
) -> str:
    """What is embedded for a chunk: its text under a few words that say when, who and what.

    Date and author raise recall, anything more in front of the text lowers it (decision 0008).
    """
    about = f"{author}, {project}" if project else author
    parts = [title] if title else []
    if heading and heading != title and heading not in text:
        parts.append(heading)
    parts.append(text)
    return f"[{day}] {about}: " + "\n".join(parts)


def _last_line(body: str) -> int:
    return body.count("\n", 0, max(0, len(body) - 1)) + 1


def _first_heading(body: str) -> str:
    match = _HEADING.match(body.partition("\n")[0])
    return (match[2] or "").strip() if match else ""


def _blocks(body: str) -> list[_Block]:
    """Headings, fenced code, and runs of lines up to a blank one; each block keeps the blank lines behind it."""
    blocks: list[_Block] = []
    trail: list[tuple[int, str]] = []
    start = position = 0
    kind = ""
    fence = ""
    blank = False

    def close() -> None:
        nonlocal start
        if position > start:
            blocks.append(_Block(start, position, kind or "text", tuple(name for _, name in trail)))
        start = position

    for line in body.splitlines(keepends=True) if "\r" in body else _lines(body):
        text = line.rstrip("\r\n")
        if fence:
            closing = _FENCE.fullmatch(text)
            position += len(line)
            if closing and closing[1].startswith(fence) and not closing[2].strip():
                fence = ""
                blank = True  # whatever follows is a new block
            continue
        opening = _FENCE.fullmatch(text)
        heading = _HEADING.fullmatch(text) if text.lstrip().startswith("#") else None
        if opening and not (opening[1][0] == "`" and "`" in opening[2]):
            close()
            kind, fence, blank = "code", opening[1], False
        elif heading:
            close()
            level = len(heading[1])
            trail = [item for item in trail if item[0] < level]
            if name := (heading[2] or "").strip()[:120]:
                trail.append((level, name))
            kind, blank = "heading", True
        elif not text.strip():
            blank = True
        elif blank or not kind:
            close()
            kind, blank = "text", False
        position += len(line)
    close()
    return blocks


def _lines(body: str) -> list[str]:
    lines = body.split("\n")
    return [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _pack(body: str, blocks: list[_Block], sizes: _Sizes) -> list[tuple[int, int, tuple[str, ...]]]:
    target, limit, overlap = sizes.target, sizes.limit, sizes.overlap
    spans: list[tuple[int, int, tuple[str, ...]]] = []
    start = end = 0
    trail: tuple[str, ...] = ()
    lone_heading = False

    def flush() -> None:
        if end > start:
            spans.append((start, end, trail))

    for block in blocks:
        size = block.end - block.start
        grown = end - start
        section = block.kind == "heading" and grown >= _MIN_SECTION * target // TARGET
        # A heading never stays behind alone: what it heads comes with it as long as the limit allows.
        room = limit if lone_heading or block.kind == "code" else target
        if grown and (section or grown + size > room):
            flush()
            overlapped = block.kind == "text" and not section
            start = _step_back(body, start, block.start, overlap) if overlapped else block.start
            end = block.start
            trail = block.trail
        if not end - start or block.kind == "heading":
            trail = block.trail
        end = block.end
        lone_heading = block.kind == "heading"
        if end - start > limit:
            pieces = _cut(body, start, end, sizes)
            spans += [(first, last, trail) for first, last in pieces[:-1]]
            start, end = pieces[-1]
    flush()
    return spans


def _cut(body: str, start: int, end: int, sizes: _Sizes) -> list[tuple[int, int]]:
    """Cut one long passage between lines, else sentences, else words, else at the limit."""
    target, limit, overlap = sizes.target, sizes.limit, sizes.overlap
    pieces: list[tuple[int, int]] = []
    fresh = start  # where text begins that no piece holds yet
    while end - start > limit:
        low, high = max(fresh, start + target // 2) + 1, start + target
        cut = body.rfind("\n", low, high) + 1
        if cut <= 0:
            ends = [match.end() for match in _SENTENCE_END.finditer(body, low, high)]
            cut = ends[-1] if ends else body.rfind(" ", low, high) + 1
        if cut <= fresh:
            cut = high
        pieces.append((start, cut))
        start, fresh = _step_back(body, start, cut, overlap), cut
    pieces.append((start, end))
    return pieces


def _step_back(body: str, start: int, cut: int, overlap: int) -> int:
    """Where the sentence before `cut` begins, when it is short enough to be repeated; else `cut`."""
    low = max(start + 1, cut - overlap)
    ends = [match.end() for match in _SENTENCE_END.finditer(body, low, cut) if match.end() < cut]
    # The first sentence end in the window starts the earliest whole sentence; take the last one only.
    return ends[-1] if ends and body[ends[-1] : cut].strip() else cut
