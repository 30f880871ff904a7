"""Memory files as text-exact documents: YAML front matter that is edited key by key, and a body kept byte for byte."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, cast

from adaptive_llm_gateway.core import InvalidFile, InvalidInput, TooLarge
from adaptive_llm_gateway.memory._yaml import (
    Entry,
    Scan,
    block_text,
    check_text,
    flow_text,
    pair_text,
    plain_fields,
    same,
    scan,
    value_text,
)

MAX_FILE: Final = 8 * 1024 * 1024
"""Bytes of a whole memory file."""
MAX_FRONT_MATTER: Final = 64 * 1024
"""Bytes between the two `---` lines."""

_BOM = "\ufeff"
_OPENING = re.compile(r"---[ \t]*(\r\n|\n|\r)")
_CLOSING = re.compile(r"(?<=[\r\n])(?:---|\.\.\.)[ \t]*(?:\r\n|\n|\r|\Z)")
_LINE_END = re.compile(r"\r\n|\n|\r")
_BLANK_LINES = re.compile(r"(?:[ \t]*(?:\r\n|\n|\r))*")
_EMPTY = Scan({}, (), 0, False)


@dataclass(frozen=True, slots=True, repr=False)
class Document:
    """A memory file as it is on disk: front matter and body. Built by `parse` and `new`.

    `render()` gives back the exact bytes that were parsed. Edits touch only the lines of the keys that change:
    comments, order, quoting, line endings and a byte order mark stay.

    Attributes:
        body: everything behind the closing line, its line endings untouched; the whole file where there is no
            front matter.
    """

    body: str
    _bom: str
    _opening: str
    _header: str
    _closing: str
    _eol: str
    _scan: Scan

    @classmethod
    def parse(
        cls, data: bytes, *, where: str = "memory", require_front_matter: bool = True, max_size: int = MAX_FILE
    ) -> Document:
        """Read a file.

        Args:
            data: the file's bytes, UTF-8.
            where: its name for messages.
            require_front_matter: whether a file without front matter is refused; otherwise it is all body. A first
                line `---` that no other `---` answers counts as body then, too.
            max_size: bytes.

        Raises:
            InvalidFile: not UTF-8, NUL bytes, no front matter or no end of it, front matter over
                `MAX_FRONT_MATTER`, or YAML outside the safe subset (see `_yaml`); names file and line.
            TooLarge: more than `max_size` bytes.
        """
        if len(data) > max_size:
            raise TooLarge(
                f"{where} has {len(data):,} bytes; a memory has at most {max_size:,}",
                hint="Split it into several memories, or link to a file outside.",
                path=where,
                size=len(data),
                limit=max_size,
            )
        nul = data.find(0)
        if nul >= 0:
            raise InvalidFile(f"{where} has a NUL byte at offset {nul}: it is not a text file", path=where, offset=nul)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise InvalidFile(
                f"{where} is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}",
                hint="Save it as UTF-8.",
                path=where,
                offset=error.start,
            ) from None
        bom = _BOM if text.startswith(_BOM) else ""
        first = len(bom)
        opening = _OPENING.match(text, first)
        closing = _CLOSING.search(text, opening.end()) if opening else None
        if opening is None or closing is None:
            if not require_front_matter:
                return cls(text[first:], bom, "", "", "", _line_end(text), _EMPTY)
            problem = "has no front matter" if opening is None else "has front matter without an end"
            raise InvalidFile(
                f"{where} {problem}",
                hint="A memory begins with a line `---`, then `key: value` lines, then another line `---`.",
                path=where,
            )
        header = text[opening.end() : closing.start()]
        _check_header(header, where)
        found = scan(header, where=where, first_line=2)
        return cls(text[closing.end() :], bom, opening[0], header, closing[0], opening[1], found)

    @classmethod
    def new(cls, fields: Mapping[str, Any], body: str) -> Document:
        """A document with these fields in this order, and this body.

        Raises:
            InvalidInput: a value that is not JSON-like, a lone surrogate, a NUL in the body.
            TooLarge: more than `MAX_FRONT_MATTER` or `MAX_FILE` bytes.
        """
        values: dict[str, Any] = plain_fields(fields)
        header = "".join([f"{pair_text(key, value)}\n" for key, value in values.items()])
        bare = cls("", "", "---\n", header, "---\n", "\n", Scan(values, None, 0, False))
        return bare.with_body(body)

    @property
    def fields(self) -> Mapping[str, Any]:
        """The front matter's values: None, bool, int, float, str, list and dict; treat nested ones as read-only."""
        return MappingProxyType(self._scan.values)

    @property
    def has_front_matter(self) -> bool:
        """Whether there is a front matter, be it empty."""
        return bool(self._opening)

    def source_of(self, key: str) -> str | None:
        """A scalar field's text as it stands in the file, or None; what `1.10` is before it becomes a number."""
        for entry in self._placed().entries or ():
            if entry.key == key:
                return self._header[entry.start : entry.end] if entry.kind == "scalar" and not entry.style else None
        return None

    def with_fields(self, changes: Mapping[str, Any], *, removed: Iterable[str] = ()) -> Document:
        """The document with some top-level fields set or removed.

        Only lines of fields that really change are rewritten; a value that is already there (also by type: `1` is
        not `true`) is left as it is written. New fields are appended behind the last one, in the order of
        `changes`. Fields to remove that are not there are ignored. A file without front matter gets one.

        Raises:
            InvalidInput: a value that is not JSON-like, or a lone surrogate.
            TooLarge: the front matter or the file becomes too large.
        """
        old = self._scan.values
        gone = {key for key in removed if key in old}
        wanted: dict[str, Any] = {key: value for key, value in old.items() if key not in gone}
        edited: dict[str, Any] = {}
        for key, value in plain_fields(changes).items():
            if key not in wanted or not same(wanted[key], value):
                edited[key] = value
                wanted[key] = value
        gone -= edited.keys()
        if not edited and not gone and self._opening:
            return self
        header, found = self._edited(edited, gone, wanted)
        _check_room(header, self.body)
        if self._opening:
            return replace(self, _header=header, _scan=found)
        eol = self._eol
        return replace(self, _opening=f"---{eol}", _header=header, _closing=f"---{eol}", _scan=found)

    def with_body(self, body: str) -> Document:
        """The document with another body, written as it is.

        Raises:
            InvalidInput: a lone surrogate or a NUL.
            TooLarge: the file becomes larger than `MAX_FILE`.
        """
        check_text(body, name="body")
        nul = body.find("\0")
        if nul >= 0:
            raise InvalidInput(
                f"the body has a NUL character at position {nul}", hint="Send text, not binary data.", field="body"
            )
        _check_room(self._header, body)
        closing = self._closing
        if closing and body and closing[-1] not in "\r\n":  # the file ended right behind the `---`
            closing += self._eol
        return replace(self, body=body, _closing=closing)

    def render(self) -> bytes:
        """The file's bytes."""
        return f"{self._bom}{self._opening}{self._header}{self._closing}{self.body}".encode()

    def __repr__(self) -> str:
        return f"Document({dict(self.fields)!r}, body of {len(self.body)} characters)"

    def _placed(self) -> Scan:
        return self._scan if self._scan.entries is not None else scan(self._header, where="front matter")

    def _edited(self, edited: dict[str, Any], gone: set[str], wanted: dict[str, Any]) -> tuple[str, Scan]:
        # An edit is exact where the YAML is as people write it. Reading the result back proves it; odd layouts
        # (explicit `?` keys, comments in the middle of a value) fall through to rewriting whole lines, then all.
        found = self._placed()
        attempts = (_edit_flow,) if found.flow else (_edit_values, _edit_lines) if found.entries else (_edit_values,)
        for attempt in attempts:
            header = attempt(self._header, found, edited, gone, self._eol)
            result = _read_back(header, wanted)
            if result is not None:
                return header, result
        header = "".join(pair_text(key, value) + "\n" for key, value in wanted.items()).replace("\n", self._eol)
        _check_header(header, "the memory", error=TooLarge)
        result = _read_back(header, wanted)
        if result is None:  # pragma: no cover - the emitter's property tests say it does not happen
            raise InvalidInput("these fields cannot be written as front matter")
        return header, result


def _line_end(text: str) -> str:
    match = _LINE_END.search(text)
    return match[0] if match else "\n"


def _check_header(header: str, where: str, *, error: type[InvalidInput] = InvalidFile) -> None:
    size = len(header.encode()) if len(header) * 4 > MAX_FRONT_MATTER else 0
    if size > MAX_FRONT_MATTER:
        raise error(
            f"{where} has {size:,} bytes of front matter; the limit is {MAX_FRONT_MATTER:,}",
            hint="Put long text into the body.",
            path=where,
            size=size,
            limit=MAX_FRONT_MATTER,
        )


def _check_room(header: str, body: str) -> None:
    _check_header(header, "the memory", error=TooLarge)
    if (len(header) + len(body)) * 4 + 64 <= MAX_FILE:
        return
    size = len(header.encode()) + len(body.encode()) + 64
    if size > MAX_FILE:
        raise TooLarge(
            f"the memory would have {size:,} bytes; it has at most {MAX_FILE:,}",
            hint="Split it into several memories, or link to a file outside.",
            size=size,
            limit=MAX_FILE,
        )


def _read_back(header: str, wanted: dict[str, Any]) -> Scan | None:
    try:
        result = scan(header, where="front matter")
    except InvalidFile:
        return None
    return result if same(result.values, wanted) else None


def _apply(header: str, edits: list[tuple[int, int, str]]) -> str:
    parts: list[str] = []
    position = 0
    for start, end, text in sorted(edits):
        parts += (header[position:start], text)
        position = end
    parts.append(header[position:])
    return "".join(parts)


def _line_bounds(header: str, entry: Entry) -> tuple[int, int]:
    start = max(header.rfind("\n", 0, entry.key_start), header.rfind("\r", 0, entry.key_start)) + 1
    match = _LINE_END.search(header, entry.end)
    return start, match.end() if match else len(header)


def _edit_values(header: str, found: Scan, edited: dict[str, Any], gone: set[str], eol: str) -> str:
    indent = " " * found.column
    edits: list[tuple[int, int, str]] = []
    present: set[str] = set()
    for entry in found.entries or ():
        if entry.key in gone:
            edits.append((*_line_bounds(header, entry), ""))
        elif entry.key in edited:
            present.add(entry.key)
            edits.append(_edit_value(header, entry, edited[entry.key], indent, eol))
    edits += _appended(header, edited, present, indent, eol)
    return _apply(header, edits)


def _edit_value(header: str, entry: Entry, value: Any, indent: str, eol: str) -> tuple[int, int, str]:
    block = entry.kind if entry.kind in ("sequence", "mapping") else ""
    if value and block == ("sequence" if isinstance(value, list) else "mapping" if isinstance(value, dict) else "-"):
        text = block_text(cast("list[Any]", value), " " * entry.column)
        return entry.start, entry.end, text.replace("\n", eol)
    rest = _LINE_END.split(header[entry.end :], 1)[0]
    quote = entry.style if entry.style in ("'", '"') else ""
    text = value_text(value, indent=indent, inline=bool(rest.strip()), quote=quote)
    return entry.key_end, entry.end, ":" + text.replace("\n", eol)


def _edit_lines(header: str, found: Scan, edited: dict[str, Any], gone: set[str], eol: str) -> str:
    indent = " " * found.column
    edits: list[tuple[int, int, str]] = []
    present: set[str] = set()
    for entry in found.entries or ():
        if entry.key in gone:
            start, end = _line_bounds(header, entry)
            # Blank lines go with it: left behind they would belong to a `|+` text above.
            blank = _BLANK_LINES.match(header, end)
            end = blank.end() if blank else end
            edits.append((start, end, ""))
        elif entry.key in edited:
            present.add(entry.key)
            text = indent + pair_text(entry.key, edited[entry.key], indent=indent) + "\n"
            edits.append((*_line_bounds(header, entry), text.replace("\n", eol)))
    edits += _appended(header, edited, present, indent, eol)
    return _apply(header, edits)


def _appended(
    header: str, edited: dict[str, Any], present: set[str], indent: str, eol: str
) -> list[tuple[int, int, str]]:
    lines = [indent + pair_text(key, value, indent=indent) for key, value in edited.items() if key not in present]
    end = len(header)
    return [(end, end, ("\n".join(lines) + "\n").replace("\n", eol))] if lines else []


def _edit_flow(header: str, found: Scan, edited: dict[str, Any], gone: set[str], eol: str) -> str:
    # `{a: 1, b: 2}` as the whole front matter: values are replaced in place, the rest is joined anew.
    del eol
    if gone or not found.entries:
        return ""
    edits: list[tuple[int, int, str]] = []
    present: set[str] = set()
    for entry in found.entries or ():
        if entry.key in edited:
            present.add(entry.key)
            edits.append((entry.key_end, entry.end, ": " + flow_text(edited[entry.key], flow=True)))
    added = {key: value for key, value in edited.items() if key not in present}
    if added:
        end = found.entries[-1].end
        edits.append((end, end, ", " + flow_text(added)[1:-1]))
    return _apply(header, edits)
