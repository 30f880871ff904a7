"""Three-way merge of one file: pure, and the same whichever side is ours.

Memories are merged field by field (`_merge_fields`) and their bodies by lines (`_line_merge`). Where lines clash the
newer memory stays, and the older one becomes a memory of its own: with an id derived from the text, so that every
machine that comes upon this clash makes the same one, each linked to the other by `conflicts_with`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import PurePosixPath
from typing import Any, Final, cast

from adaptive_llm_gateway.core import AlgError, derived_ulid, is_ulid, ulid_milliseconds
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._lifecycles import TRUST, WRITTEN_ONCE
from adaptive_llm_gateway.memory._line_merge import merge_lines
from adaptive_llm_gateway.memory._merge_fields import LONG_AGO, MergedFields, as_list, has_lines, merge_fields, moment

CONFLICT_REL: Final = "conflicts_with"
SUFFIX: Final = ".md"
LONGEST_NAME: Final = 255
"""Bytes, on every usual file system."""
_ID = re.compile(rb"^id:[ \t]*[\"']?([0-9A-HJKMNP-TV-Z]{26})[\"']?[ \t]*\r?$", re.MULTILINE)
_HEAD = 64 * 1024
_TAIL = re.compile(r"-[0-9a-hjkmnp-tv-z]{8}$", re.ASCII)
_UNSAID: Final = "internal"  # what a memory is that names no level
_NOT_ITS_TEXT = frozenset({"id", "links", "tags", "updated"})

Rank = tuple[datetime, bytes]
"""What is newer is greater: files in order of `updated`; those of one time, or of none, by their bytes."""


@dataclass(frozen=True, slots=True)
class MergedFile:
    """The merged bytes, and where the texts clashed the loser as a memory of its own.

    Attributes:
        decided: how fields were decided, in words.
    """

    data: bytes
    id: str | None = None
    kept: bytes | None = None
    kept_id: str | None = None
    decided: tuple[str, ...] = ()


def merge_files(base: bytes | None, ours: bytes, theirs: bytes, *, salt: int = 0) -> MergedFile | None:
    """Merge two versions of a file; None when they cannot be merged and both must be kept as they are.

    Args:
        base: what both come from; None where they were made independently.
        salt: another number makes another id for the loser of a clash.
    """
    if theirs in (ours, base) or ours == base:
        return MergedFile(theirs if ours == base else ours, id_of(ours))
    one, two = parsed(ours), parsed(theirs)
    if one is None or two is None:
        return _merge_text(base, ours, theirs)
    ancestor = parsed(base, lenient=True) if base else None  # a file without front matter may have got one since
    if _are_others(ancestor, one, two):
        return None
    newer, older = (one, two) if rank(ours, one) >= rank(theirs, two) else (two, one)
    try:
        if not _is_written_once(newer) and not _is_written_once(older):
            before, text = (ancestor.fields, ancestor.body) if ancestor else _common_text(newer, older)
            fields = merge_fields(before, newer.fields, older.fields)
            body = merge_lines(text, older.body, newer.body)
            one_file = body is not None and not fields.clash
            _keep_level(fields, before, text, (newer, older) if one_file else (newer,))
            if body is not None and one_file:
                data = _with(newer, fields.values).with_body(body).render()
                return MergedFile(data, _text(fields.values.get("id")), decided=_decided(fields))
            return _keep_older(newer, older, fields, salt)
    except AlgError:  # too large together, or front matter that cannot be written
        pass
    try:
        return _keep_older(newer, older, MergedFields(dict(newer.fields)), salt)
    except AlgError:
        return None


def _keep_level(fields: MergedFields, before: Mapping[str, Any], text: str, sides: tuple[Document, ...]) -> None:
    """A level that one side lowered was lowered for the text that it had, not for what the other side wrote meanwhile.

    Args:
        fields: merged; they get the level back where it counts.
        before, text: what both come from.
        sides: whose text the merged file has.
    """
    level, now = _level(before), _level(fields.values)
    if level is None or now is None or now >= level:
        return
    if any(_level(side.fields) == level and side.body != text for side in sides):
        fields.values[TRUST.field] = TRUST.stages[level]
        fields.stages.append(f"{TRUST.field}: {TRUST.stages[level]}")


def _level(fields: Mapping[str, Any]) -> int | None:
    said = fields.get(TRUST.field, _UNSAID)
    return TRUST.stages.index(said) if said in TRUST.stages else None


def _keep_older(newer: Document, older: Document, fields: MergedFields, salt: int) -> MergedFile:
    memory = fields.values.get("id")
    kept_id = _derived_id(memory, older, salt)
    links = _linked(older.fields.get("links"), memory)
    kept = older.with_fields({"id": kept_id, **({"links": links} if links else {})})
    values = fields.values | {"links": _linked(fields.values.get("links"), kept_id)}
    data = _with(newer, values).render()
    return MergedFile(data, _text(memory), kept.render(), kept_id, _decided(fields))


def _decided(fields: MergedFields) -> tuple[str, ...]:
    newer = (f"of {', '.join(fields.given_up)} the newer",) if fields.given_up else ()
    return (*fields.stages, *newer)


def _merge_text(base: bytes | None, ours: bytes, theirs: bytes) -> MergedFile | None:
    if base is None or b"\0" in ours or b"\0" in theirs:
        return None
    try:
        before, *sides = (data.decode("utf-8") for data in (base, *sorted((ours, theirs))))
    except UnicodeDecodeError:
        return None
    merged = merge_lines(before, *sides)
    return None if merged is None else MergedFile(merged.encode())


def parsed(data: bytes, *, lenient: bool = False) -> Document | None:
    """The file as a memory; None for everything else. With `lenient` any text is one, if need be all body."""
    try:
        return Document.parse(data, require_front_matter=not lenient)
    except AlgError:
        return None


def rank(data: bytes, document: Document | None = None) -> Rank:
    """Where a file stands among others; a document that was parsed before saves time."""
    document = document or parsed(data)
    return (moment(document.fields.get("updated")) if document else LONG_AGO, data)


def id_of(data: bytes) -> str | None:
    """The id that a file says it has, also where its front matter cannot be read."""
    found = _ID.search(data[:_HEAD])
    return found[1].decode() if found else None


def _are_others(ancestor: Document | None, one: Document, two: Document) -> bool:
    """Whether two files are two memories, not versions of one."""
    ids = [document.fields.get("id") for document in (one, two)]
    if ids[0] == ids[1]:
        return False
    return ancestor is None or (None not in ids and ancestor.fields.get("id") is not None)


def _is_written_once(document: Document) -> bool:
    field = WRITTEN_ONCE.get(str(document.fields.get("type")))
    return field is not None and document.fields.get(field) is not None


def _with(document: Document, fields: Mapping[str, Any]) -> Document:
    return document.with_fields(fields, removed=[key for key in document.fields if key not in fields])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


# --- memories that keep the loser of a clash --------------------------------------------------------------


def _derived_id(memory: object, loser: Document, salt: int = 0) -> str:
    # The same on every machine that merges these two, whatever was merged before, so that nobody makes a second copy.
    time = ulid_milliseconds(memory) if isinstance(memory, str) and is_ulid(memory) else 0
    return derived_ulid(f"conflict\0{memory}\0{salt}\0{text_of(loser)}", milliseconds=time)


def text_of(document: Document) -> str:
    """What a clash is about: the body, fields of several lines; of a file that is written once everything."""
    whole = _is_written_once(document)
    fields = {
        key: value for key, value in document.fields.items() if has_lines(value) or (whole and key not in _NOT_ITS_TEXT)
    }
    return json.dumps([document.body, fields], sort_keys=True, default=str)


def _common_text(newer: Document, older: Document) -> tuple[Mapping[str, Any], str]:
    """What two files without a common base have in common, if anything: fields and body.

    The loser of a clash may have been kept on two machines, and edited on one since: then its text as it was kept is
    what both come from.
    """
    for document in (older, newer):
        for link in as_list(document.fields.get("links")) or []:
            memory = cast("dict[str, Any]", link).get("id") if isinstance(link, dict) else None
            if memory is not None and document.fields.get("id") == _derived_id(memory, document):
                return {key: value for key, value in document.fields.items() if has_lines(value)}, document.body
    return {}, ""


def _linked(links: object, memory: object) -> list[Any]:
    present = as_list(links) or []
    link = {"rel": CONFLICT_REL, "id": memory}
    if not isinstance(memory, str) or not is_ulid(memory) or link in present:
        return present
    return [*present, link]


def marks_beside(memory: str | None, blob: str) -> Iterator[str]:
    """What tells a file from others in its folder, to be tried in turn (see `beside`).

    Args:
        memory: the file's id.
        blob: its blob id.
    """
    if memory:
        yield memory[-8:].lower()
    yield from (blob[:8], blob[:16], blob)
    yield from (f"{blob}-{number}" for number in count(2))


def beside(path: str, mark: str) -> str:
    """A path in the same folder: `note-ab12cd34.md` with mark `zz99` becomes `note-zz99.md`."""
    name = PurePosixPath(path)
    stem = _TAIL.sub("", name.stem) if name.suffix == SUFFIX else name.stem
    room = LONGEST_NAME - len(f"-{mark}{name.suffix}".encode("utf-8", "surrogateescape"))
    stem = stem.encode("utf-8", "surrogateescape")[: max(room, 0)].decode("utf-8", "ignore")
    return str(name.with_name(f"{stem}-{mark}{name.suffix}"))


def blob_id(data: bytes) -> str:
    """Git's id of a file with this content."""
    return hashlib.sha1(b"blob %d\0%s" % (len(data), data), usedforsecurity=False).hexdigest()
