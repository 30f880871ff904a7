"""What importers understand of Markdown: front matter, tags, links, headings. Linear in the text's length."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Literal, cast
from urllib.parse import unquote

from adaptive_llm_gateway.core import InvalidFile
from adaptive_llm_gateway.memory._yaml import scan

_FRONT_MATTER_LIMIT = 32_000  # characters; a memory file has room for 64 KiB, our own fields and links included


# --- Front matter ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Split:
    """A text's front matter and body. Where the front matter is broken, `body` is the whole text."""

    fields: dict[str, Any]
    body: str
    problem: str | None = None


_FENCE = re.compile(r"---[ \t]*\r?\n")
_CLOSING = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.MULTILINE)


def split_front_matter(text: str) -> Split:
    """Take YAML front matter off `text`; what cannot be read as such stays in the body, with a problem named."""
    opening = _FENCE.match(text)
    if opening is None:
        return Split({}, text)
    closing = _CLOSING.search(text, opening.end())
    if closing is None:
        return Split({}, text)  # a rule at the top, not front matter
    if closing.start() - opening.end() > _FRONT_MATTER_LIMIT:
        return Split({}, text, f"front matter kept as text: it is longer than {_FRONT_MATTER_LIMIT:,} characters")
    raw = text[opening.end() : closing.start()]
    try:
        return Split(_fields(raw), text[closing.end() :])
    except InvalidFile as error:
        problem = " ".join(error.message.split())
    try:
        return Split(_fields(_repaired(raw)), text[closing.end() :], f"{problem}; read with its values as plain text")
    except InvalidFile:
        return Split({}, text, f"{problem}; kept as part of the text")


def _fields(raw: str) -> dict[str, Any]:
    return scan(raw, where="front matter", first_line=2).values


_SIMPLE_LINE = re.compile(r"([ ]*(?:- +)?)(?:([^\s:#'\"\[\]{},&*!|>%@`-][^:\n\"]*):(?=[ \t\r]|$))?[ \t]*(.*?)[ \t]*\r?")
_QUOTED = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')(?:[ \t]+\#.*)?""")
_WIKI_ROW = re.compile(r"\[\[[^\[\]]*\]\](?:[ \t,;]*\[\[[^\[\]]*\]\])+")


def _repaired(raw: str) -> str:
    """Front matter whose plain values are quoted where YAML would stumble: `- @name`, `title: One: two`, `2021: x`."""
    lines: list[str] = []
    for line in raw.split("\n"):
        match = _SIMPLE_LINE.fullmatch(line.replace("\t", "  "))
        if match is None or not (match[2] or "-" in match[1]):
            lines.append(line)
            continue
        key = f"{json.dumps(match[2].strip(), ensure_ascii=False)}: " if match[2] else ""
        value = match[3]
        if _needs_quotes(value):
            value = json.dumps(value, ensure_ascii=False)
        lines.append(f"{match[1]}{key}{value}")
    return "\n".join(lines)


def _needs_quotes(value: str) -> bool:
    if value.startswith(("'", '"')):
        return not _QUOTED.fullmatch(value)  # `"one" and two`
    if value.startswith("["):
        return _WIKI_ROW.fullmatch(value) is not None  # `[[a]] [[b]]`
    if value.startswith(("{", "|", ">")):
        return False
    return value.startswith(("@", "`", "%", "*", "&", "!", "- ")) or ": " in value or value.endswith(":")


_TIME_FORMATS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%Y%m%d%H%M%S",
    "%Y%m%d%H%M",
    "%a %b %d %Y",
    "%A, %B %d, %Y",
    "%B %d, %Y",
    "%d %B %Y",
)
_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def to_time(value: object) -> datetime | None:
    """A time from what people and programs put into front matter, `None` if it is none. Naive times are UTC."""
    moment: datetime | None = None
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime.combine(value, time())
    elif isinstance(value, bool):
        return None
    elif isinstance(value, int | float) or (isinstance(value, str) and value.strip().isdecimal()):
        moment = _time_of_number(str(int(value)) if isinstance(value, float) else str(value).strip())
    elif isinstance(value, str):
        text = value.strip().strip("[]\"'")[:64]
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = next((found for form in _TIME_FORMATS if (found := _parse(text, form))), None)
    if moment is None:
        return None
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):
        return None
    return moment if _EARLIEST <= moment < _LATEST else None


def _parse(text: str, form: str) -> datetime | None:
    try:
        return datetime.strptime(text, form)  # noqa: DTZ007 - zoned by the caller
    except ValueError:
        return None


def _time_of_number(digits: str) -> datetime | None:
    match len(digits):
        case 8:
            return _parse(digits, "%Y%m%d")
        case 12:
            return _parse(digits, "%Y%m%d%H%M")
        case 14:
            return _parse(digits, "%Y%m%d%H%M%S")
        case 9 | 10:
            return datetime.fromtimestamp(int(digits), UTC)
        case 13:
            return datetime.fromtimestamp(int(digits) / 1000, UTC)
        case _:
            return None


# --- Code is not prose -----------------------------------------------------------------------------------

_FENCE_LINE = re.compile(
    r"^(?:[ \t]|>|[-*+](?=[ \t])|\d{1,9}[.)](?=[ \t]))*(`{3,}|~{3,})([^\n]*)(?:\n|\Z)", re.MULTILINE
)
_TICKS = re.compile(r"`+")
_NOT_NEWLINE = re.compile(r"[^\n]")
_BLANK_LINES = re.compile(r"(\n[ \t\r]*\n)")


def without_code(text: str) -> str:
    """`text` with code and HTML comments blanked out: same length, same lines."""
    if "```" not in text and "~~~" not in text:
        return _without_comments(_without_spans(text))
    pieces: list[str] = []
    done = 0
    fence: tuple[str, int] | None = None  # the opening run, and where its line begins
    for match in _FENCE_LINE.finditer(text):
        run, rest = match[1], match[2].strip()
        if fence is None:
            if run[0] == "`" and "`" in rest:
                continue  # inline code that begins with three backticks
            fence = (run, match.start())
        elif run.startswith(fence[0]) and not rest:
            pieces += [_without_spans(text[done : fence[1]]), _NOT_NEWLINE.sub(" ", text[fence[1] : match.end()])]
            done, fence = match.end(), None
    if fence is None:
        pieces.append(_without_spans(text[done:]))
    else:  # never closed: code to the end
        pieces += [_without_spans(text[done : fence[1]]), _NOT_NEWLINE.sub(" ", text[fence[1] :])]
    return _without_comments("".join(pieces))


def _without_spans(text: str) -> str:
    if "`" not in text:
        return text
    return "".join(_without_spans_in(part) if "`" in part else part for part in _BLANK_LINES.split(text))


def _without_spans_in(text: str) -> str:
    """Blank a paragraph's inline code: a run of backticks up to the next run of the same length."""
    runs = [(match.start(), match.end()) for match in _TICKS.finditer(text)]
    by_length: dict[int, list[int]] = defaultdict(list)
    for number in range(len(runs) - 1, -1, -1):  # each list ends with the earliest run still ahead
        by_length[runs[number][1] - runs[number][0]].append(number)
    pieces: list[str] = []
    done = number = 0
    while number < len(runs):
        start, end = runs[number]
        ahead = by_length[end - start]
        while ahead and ahead[-1] <= number:
            ahead.pop()
        if (start > 0 and text[start - 1] == "\\") or not ahead:
            number += 1
            continue
        closing = ahead.pop()
        pieces += [text[done:start], _NOT_NEWLINE.sub(" ", text[start : runs[closing][1]])]
        done, number = runs[closing][1], closing + 1
    return "".join(pieces) + text[done:]


def _without_comments(text: str) -> str:
    if "<!--" not in text:
        return text
    pieces: list[str] = []
    done = 0
    while (start := text.find("<!--", done)) >= 0:
        end = text.find("-->", start)
        if end < 0:
            break
        pieces += [text[done:start], _NOT_NEWLINE.sub(" ", text[start : end + 3])]
        done = end + 3
    return "".join(pieces) + text[done:]


# --- Tags, links, headings -------------------------------------------------------------------------------

_INLINE_TAG = re.compile(r"(?<!\S)#([^\s#!-,.:;<-@\[-^`{-~\u2000-\u206f\u3000-\u303f\uff00-\uff0f]{1,100})(?![#\[])")


def inline_tags(prose: str) -> Iterator[str]:
    """`#tags` of text that `without_code` has cleaned: at least one character that is no digit, as in Obsidian."""
    if "#" not in prose:
        return
    for match in _INLINE_TAG.finditer(prose):
        tag = match[1].strip("/")
        if any(char.isalpha() for char in tag):
            yield tag


def listed(value: object) -> list[str]:
    """A front matter value that is a list, or text with commas between its items, as a list of texts."""
    if isinstance(value, str):
        parts: list[object] = list(value.split(","))
    elif isinstance(value, list):
        parts = cast("list[object]", value)
    elif value is None or isinstance(value, dict):
        return []
    else:
        parts = [value]
    texts = (part if isinstance(part, str) else str(part) for part in parts if isinstance(part, str | int | float))
    return [text.strip() for text in texts if text.strip()]


def front_tags(value: object) -> Iterator[str]:
    """Tags of front matter: a list, or text with commas or spaces between them."""
    for part in listed(value):
        yield from part.split() if isinstance(value, str) else (part,)


@dataclass(frozen=True, slots=True)
class Target:
    """What a link names: `wiki` by name (`[[...]]`), `path` by relative path (`[text](...)`); no heading, no alias."""

    form: Literal["wiki", "path"]
    name: str


_WIKILINK = re.compile(r"\[\[([^\[\]\n]{1,500})\]\]")
_MARKDOWN_LINK = re.compile(
    r"\]\((?:<([^<>\n]{1,500})>|([^()\s<>]{1,500}(?:\([^()\s]{0,100}\)[^()\s]{0,500}){0,3}))[ \t)]"
)
_LINK_DEFINITION = re.compile(r"^ {0,3}\[(?!\^)[^\[\]\n]{1,200}\]:[ \t]{1,20}<?([^\s<>]{1,500})", re.MULTILINE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def link_targets(prose: str) -> list[Target]:
    """Targets of all links and embeds within the source, in order; prose as cleaned by `without_code`."""
    found: list[tuple[int, Target]] = []
    if "[[" in prose:
        for match in _WIKILINK.finditer(prose):
            if name := wiki_name(match[1]):
                found.append((match.start(), Target("wiki", name)))
    if "](" in prose:
        for match in _MARKDOWN_LINK.finditer(prose):
            if path := _link_path(match[1] or match[2]):
                found.append((match.start(), Target("path", path)))
    if "]:" in prose:
        for match in _LINK_DEFINITION.finditer(prose):
            if path := _link_path(match[1]):
                found.append((match.start(), Target("path", path)))
    return [target for _, target in sorted(found, key=lambda pair: pair[0])]


def wiki_name(inside: str) -> str:
    """The note's name in what stands between `[[` and `]]`."""
    return inside.replace("\\|", "|").split("|", 1)[0].split("#", 1)[0].split("^", 1)[0].strip()


def _link_path(destination: str) -> str | None:
    if _SCHEME.match(destination) or destination.startswith(("#", "//", "?")):
        return None
    path = unquote(destination.split("#", 1)[0].split("?", 1)[0])
    return path if path and "\0" not in path and "\n" not in path else None


def wiki_names_in(value: object) -> Iterator[str]:
    """Names of `[[links]]` in a front matter value, or in a list of such."""
    if isinstance(value, str):
        if "[[" in value:
            for match in _WIKILINK.finditer(value):
                if name := wiki_name(match[1]):
                    yield name
    elif isinstance(value, list):
        match cast("list[object]", value):
            case [[str() as inside]]:  # an unquoted [[link]] is a list in a list to YAML
                if name := wiki_name(inside):
                    yield name
            case parts:
                for part in parts:
                    yield from wiki_names_in(part)


_HEADING = re.compile(r"^ {0,3}#[ \t]+(.{1,1000}?)(?:[ \t]+#+)?[ \t]*\r?$", re.MULTILINE)
_SETEXT = re.compile(r"^([^\s#>=-][^\n]{0,300})\r?\n={3,}[ \t]*\r?$", re.MULTILINE)
_INLINE_MARKUP = re.compile(r"!?\[\[(?:[^\[\]|\n]*\|)?([^\[\]\n]*)\]\]|!?\[([^\[\]\n]*)\]\([^()\n]*\)")


def first_heading(text: str, prose: str) -> str | None:
    """The text of the first top-level heading, without markup; `prose` is `without_code(text)`."""
    found = _first_heading(prose)
    return _heading_text(text, found) if found else None


def sole_heading(text: str, prose: str) -> str | None:
    """The same, where it comes before everything else and no other of its level follows."""
    found = _first_heading(prose)
    if found is None or text[: found.start()].strip():
        return None
    if _HEADING.search(prose, found.end()) or _SETEXT.search(prose, found.end()):
        return None
    return _heading_text(text, found)


def _first_heading(prose: str) -> re.Match[str] | None:
    found = [match for match in (_HEADING.search(prose), _SETEXT.search(prose)) if match]
    return min(found, key=lambda match: match.start()) if found else None


def _heading_text(text: str, found: re.Match[str]) -> str | None:
    raw = text[found.start(1) : found.end(1)]
    plain = _INLINE_MARKUP.sub(lambda match: match[1] or match[2] or "", raw)
    return plain.replace("**", "").replace("`", "").strip() or None


def plain_fields(fields: Mapping[str, Any], taken: set[str], reserved: frozenset[str]) -> dict[str, Any]:
    """Front matter that nothing was made of; names that are ours get `source_` before them."""
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if name in taken or value is None:
            continue
        kept[f"source_{name}" if name in reserved else name] = value
    return kept
