"""Import the knowledge graph of the official MCP memory server (its `memory.jsonl`).

One JSON object a line: `{"type": "entity", "name", "entityType", "observations": [...]}` and
`{"type": "relation", "from", "to", "relationType"}`. Also read: the same as one object with `entities` and
`relations` (what `read_graph` answers), observations that are objects with a `content`, and snake_case names.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.memory._import import (
    ImportItem,
    ImportKind,
    ImportSource,
    Progress,
    SkippedFile,
    claimed_type,
    clean_rel,
    clean_tags,
    clean_title,
    item_id,
    with_links,
)
from adaptive_llm_gateway.memory._import_files import FILE_LIMIT, Unreadable, decode, read_bytes
from adaptive_llm_gateway.memory._import_text import to_time
from adaptive_llm_gateway.memory._values import Link

FAMILY = "mcp-memory"
GRAPH_LIMIT = 200_000_000  # bytes

_Object = dict[str, Any]


@dataclass(slots=True)
class _Entity:
    name: str
    entity_type: str
    line: int
    observations: dict[str, None] = field(default_factory=dict[str, None])
    created: datetime | None = None
    more: _Object = field(default_factory=dict[str, Any])
    warnings: list[str] = field(default_factory=list[str])


def read(
    path: Path,
    *,
    kind: ImportKind,
    project: str | None = None,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> ImportSource:
    """Read a graph file; lines that are broken are skipped and named by number.

    Raises:
        InvalidInput: the path is no file, or it cannot be read at all.
    """
    if not path.is_file():
        raise InvalidInput(
            f"{str(path)!r} is not a file", hint="Give the memory server's JSONL file itself.", path=str(path)
        )
    real = path.resolve()
    try:
        data, about = read_bytes(real, limit=GRAPH_LIMIT)
        text, _ = decode(data)
    except Unreadable as error:
        raise InvalidInput(f"{path.name!r} {error}", hint="Check the file.", path=str(path)) from error
    written = datetime.fromtimestamp(about.st_mtime, UTC)
    skipped: list[SkippedFile] = []
    entities: dict[str, _Entity] = {}
    relations: list[tuple[int, _Object]] = []
    for line, record in _records(text, path.name, skipped):
        problem = _take(line, record, entities, relations)
        if problem:
            skipped.append(SkippedFile(f"{path.name}:{line}", problem))

    source_name = name or unicodedata.normalize("NFC", path.stem).casefold()
    links: dict[str, list[Link]] = {}
    missing = 0
    for line, relation in relations:
        ends = [_name_of(relation.get("from")), _name_of(relation.get("to"))]
        lost = [end for end in ends if end not in entities]
        if lost:
            missing += 1
            skipped.append(SkippedFile(f"{path.name}:{line}", f"relation with {lost[0]!r}, which is no entity"))
            continue
        rel = relation.get("relationType", relation.get("relation_type", relation.get("relation")))
        link = Link(clean_rel(rel if isinstance(rel, str) else ""), item_id(FAMILY, source_name, ends[1]))
        links.setdefault(ends[0], []).append(link)

    items: list[ImportItem] = []
    for number, entity in enumerate(entities.values(), 1):
        item = _item(entity, kind=kind, file=path.name, source_name=source_name, project=project, written=written)
        items.append(with_links(item, links.get(entity.name, ())))
        if on_progress:
            on_progress(number, len(entities))
    return ImportSource(kind, source_name, tuple(items), tuple(skipped), unresolved_links=missing)


def _records(text: str, file: str, skipped: list[SkippedFile]) -> Iterator[tuple[int, _Object]]:
    if text.lstrip().startswith("{"):
        whole = _loaded(text)
        if isinstance(whole, dict) and isinstance(whole.get("entities"), list):
            for key in ("entities", "relations"):
                for entry in cast("list[object]", whole.get(key) or []):
                    if isinstance(entry, dict):
                        yield 1, {"type": "entity" if key == "entities" else "relation", **cast("_Object", entry)}
                    else:
                        skipped.append(SkippedFile(file, f"an entry of {key!r} is not an object"))
            return
    for line, raw in enumerate(text.split("\n"), 1):
        if not raw.strip():
            continue
        if len(raw) > FILE_LIMIT:
            skipped.append(SkippedFile(f"{file}:{line}", f"line of {len(raw):,} characters"))
            continue
        record = _loaded(raw)
        if record is None:
            skipped.append(SkippedFile(f"{file}:{line}", "is not a JSON object"))
        else:
            yield line, record


def _loaded(text: str) -> _Object | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return cast("_Object", value) if isinstance(value, dict) else None


def _name_of(value: object) -> str:
    return unicodedata.normalize("NFC", _whole(value)).strip() if isinstance(value, str) else ""


def _whole(text: str) -> str:
    """JSON may hold half a surrogate pair; a file cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _take(line: int, record: _Object, entities: dict[str, _Entity], relations: list[tuple[int, _Object]]) -> str | None:
    """Note what the line says; a text is what is wrong with it."""
    match record.get("type"):
        case "entity":
            pass
        case "relation":
            if not _name_of(record.get("from")) or not _name_of(record.get("to")):
                return "relation without 'from' or 'to'"
            relations.append((line, record))
            return None
        case other:
            return f"neither entity nor relation: type {str(other)[:40]!r}"
    name = _name_of(record.get("name"))
    if not name:
        return "entity without a name"
    kind = record.get("entityType", record.get("entity_type"))
    observations, odd = _observations(record.get("observations"))
    known = entities.get(name)
    if known is None:
        entity_type = _whole(kind).strip() if isinstance(kind, str) else ""
        entities[name] = known = _Entity(name, entity_type, line)
        if odd:
            known.warnings.append(f"line {line}: {odd} observation(s) without text left out")
        known.created = next(
            (moment for key in ("createdAt", "created_at", "timestamp") if (moment := to_time(record.get(key)))), None
        )
    else:
        known.warnings.append(f"line {line}: a second entity of this name; its observations were added")
    known.observations |= dict.fromkeys(observations)
    return None


def _observations(value: object) -> tuple[list[str], int]:
    texts: list[str] = []
    odd = 0
    for entry in cast("list[object]", value) if isinstance(value, list) else []:
        said = entry
        if isinstance(entry, dict):
            observed = cast("_Object", entry)
            said = observed.get("content", observed.get("text"))
        if isinstance(said, str) and said.strip():
            texts.append(_whole(said))
        else:
            odd += 1
    return texts, odd


def _item(
    entity: _Entity, *, kind: ImportKind, file: str, source_name: str, project: str | None, written: datetime
) -> ImportItem:
    created = min(entity.created or written, written)
    return ImportItem(
        key=entity.name,
        id=item_id(FAMILY, source_name, entity.name),
        type=claimed_type(entity.entity_type) or "note",
        title=clean_title(entity.name),
        body="".join(f"- {_indented(text)}\n" for text in entity.observations),
        created=created,
        updated=written,
        source=f"{kind}:{file}#{clean_title(entity.name)}",
        tags=clean_tags([entity.entity_type]),
        project=project,
        fields={"entity_type": entity.entity_type} if entity.entity_type else {},
        warnings=tuple(entity.warnings),
    )


def _indented(text: str) -> str:
    """An observation of several lines stays one list item."""
    return text.strip().replace("\0", "").replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\n  ")
