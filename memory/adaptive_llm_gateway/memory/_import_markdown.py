"""Import a folder of Markdown or an Obsidian vault.

Link resolution follows Obsidian's help on internal links: a name finds the note of that name wherever it lies, a
path may be as short as it is unique, aliases come after names, case does not count.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from adaptive_llm_gateway.core import InvalidInput, Trust, is_ulid
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
    fitting,
    item_id,
    with_links,
)
from adaptive_llm_gateway.memory._import_files import MARKDOWN, Found, Text, Unreadable, read_text, walk
from adaptive_llm_gateway.memory._import_text import (
    Split,
    Target,
    first_heading,
    front_tags,
    inline_tags,
    link_targets,
    listed,
    plain_fields,
    sole_heading,
    split_front_matter,
    to_time,
    wiki_names_in,
    without_code,
)
from adaptive_llm_gateway.memory._values import Link

FAMILY = "folder"
"""Markdown folders and Obsidian vaults share ids: opening a folder in Obsidian must not double it."""

RESERVED = frozenset(
    {
        "id",
        "type",
        "title",
        "created",
        "updated",
        "author",
        "project",
        "tags",
        "trust",
        "links",
        "source",
        "reason",
        "import_hash",
        "path",
        "version",
    }
)
_CREATED = (
    "created",
    "date created",
    "date_created",
    "created_at",
    "createdAt",
    "creation date",
    "creation_date",
    "date",
)
_UPDATED = (
    "updated",
    "modified",
    "date modified",
    "date_modified",
    "updated_at",
    "updatedAt",
    "modified_at",
    "lastmod",
    "last_modified",
    "last modified",
)
_GENERIC_NAMES = {"readme", "index", "_index", "untitled"}
_MOSTLY_DIGITS = re.compile(r"[\d\s._-]+")


@dataclass(frozen=True, slots=True)
class Note:
    """One file, read but not yet linked."""

    found: Found
    text: Text
    split: Split
    prose: str
    item: ImportItem


@dataclass(slots=True)
class Names:
    """Finds the note that a link means."""

    by_path: dict[str, str] = field(default_factory=dict[str, str])
    by_stem: dict[str, list[str]] = field(default_factory=lambda: defaultdict[str, list[str]](list))
    by_alias: dict[str, list[str]] = field(default_factory=lambda: defaultdict[str, list[str]](list))
    others: set[str] = field(default_factory=set[str])
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def add(self, path: str, ident: str, aliases: Iterable[str]) -> None:
        """Register a note under its path, its name, and its aliases."""
        self.ids[path] = ident
        bare = _folded(_bare(path))
        self.by_path.setdefault(bare, path)
        self.by_stem[bare.rpartition("/")[2]].append(path)
        for alias in aliases:
            self.by_alias[_folded(alias)].append(path)

    def add_other(self, path: str) -> None:
        """Register a file that is no note, so that links to it are not taken for broken ones."""
        folded = _folded(path)
        self.others.add(folded)
        self.others.add(folded.rpartition("/")[2])

    def resolve(self, target: Target, source: str) -> str | None:
        """The id that `target` means in the note at `source`; "" for an attachment, `None` for nothing."""
        name = _folded(target.name.replace("\\", "/") if "/" not in target.name else target.name)
        if not name.strip("/"):
            return None
        folder = _folded(posixpath.dirname(source))
        path = self._by_relative(name, folder) or self._by_name(name, folder, source)
        if path is None and target.form == "wiki":
            path = _nearest(self.by_alias.get(name, []), folder)
        if path is not None:
            return self.ids[path]
        return "" if name.lstrip("./") in self.others or name.rpartition("/")[2] in self.others else None

    def _by_relative(self, name: str, folder: str) -> str | None:
        if name.startswith("/"):
            return self.by_path.get(_bare(name.lstrip("/")))
        joined = posixpath.normpath(posixpath.join(folder, _bare(name)))
        if name.startswith(("./", "../")):
            return self.by_path.get(joined)
        # As Obsidian: a path from the top first, then one from here.
        return self.by_path.get(_bare(name)) if "/" in name else self.by_path.get(joined)

    def _by_name(self, name: str, folder: str, source: str) -> str | None:
        wanted = posixpath.normpath(_bare(name).lstrip("./") or ".")
        candidates = self.by_stem.get(wanted.rpartition("/")[2], [])
        if "/" in wanted:
            candidates = [path for path in candidates if f"/{_folded(_bare(path))}".endswith(f"/{wanted}")]
            if not candidates and (near := self.by_path.get(posixpath.normpath(posixpath.join(folder, wanted)))):
                return near
        return _nearest(candidates, _folded(posixpath.dirname(source)))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().casefold()


def _bare(path: str) -> str:
    for ending in MARKDOWN:
        if path[-len(ending) :].casefold() == ending:
            return path[: -len(ending)]
    return path


def _nearest(paths: list[str], folder: str) -> str | None:
    """Of several notes the one in the same folder, else the one with the shortest path."""
    if not paths:
        return None
    return min(paths, key=lambda path: (_folded(posixpath.dirname(path)) != folder, path.count("/"), len(path), path))


Linker = Callable[[Note, Names], tuple[list[Link], int]]


def read(
    path: Path,
    *,
    kind: ImportKind,
    project: str | None = None,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> ImportSource:
    """Read a folder of Markdown, or one Markdown file (the source is then its folder).

    Raises:
        InvalidInput: the path is neither a folder nor a Markdown file.
    """
    return read_folder(
        path, kind=kind, family=FAMILY, project=project, name=name, on_progress=on_progress, linker=plain_links
    )


def read_folder(
    path: Path,
    *,
    kind: ImportKind,
    family: str,
    project: str | None,
    name: str | None,
    on_progress: Progress | None,
    linker: Linker,
) -> ImportSource:
    """The same, for any reader that differs only in its family of ids and in what it makes of links."""
    skipped: list[SkippedFile] = []
    names = Names()
    attachments = 0
    if path.is_file():
        if path.suffix.casefold() not in MARKDOWN:
            raise InvalidInput(
                f"{path.name!r} is not a Markdown file",
                hint="Give a folder, or a file that ends in .md.",
                path=str(path),
            )
        root = path.resolve().parent
        notes_found = [Found(path.resolve(), unicodedata.normalize("NFC", path.name))]
    elif path.is_dir():
        root = path.resolve()
        notes_found: list[Found] = []
        for found in walk(root, skipped):
            if found.path.casefold().endswith(MARKDOWN):
                notes_found.append(found)
            else:
                attachments += 1
                names.add_other(found.path)
    else:
        raise InvalidInput(f"{str(path)!r} is neither a folder nor a file", hint="Check the path.", path=str(path))

    source_name = name or source_name_of(root)
    notes: list[Note] = []
    taken: set[str] = set()
    for number, found in enumerate(notes_found, 1):
        try:
            note = _read_note(found, kind=kind, family=family, source_name=source_name, project=project, taken=taken)
        except Unreadable as error:
            skipped.append(SkippedFile(found.path, str(error)))
            names.add_other(_bare(found.path))
        else:
            notes.append(note)
            taken |= {note.item.key, note.item.id}
            names.add(found.path, note.item.id, _aliases(note, kind))
        if on_progress:
            on_progress(number, len(notes_found))

    items: list[ImportItem] = []
    unresolved = 0
    for note in notes:
        links, missing = linker(note, names)
        unresolved += missing
        items.append(with_links(note.item, (*note.item.links, *links)))
    return ImportSource(kind, source_name, tuple(items), tuple(skipped), attachments, unresolved)


def source_name_of(root: Path) -> str:
    """A folder's own name, the same on every machine that keeps it under that name."""
    return unicodedata.normalize("NFC", root.name).casefold() or "root"


def _aliases(note: Note, kind: ImportKind) -> Iterator[str]:
    fields = note.split.fields
    yield from listed(fields.get("aliases"))
    yield from listed(fields.get("alias"))
    title = fields.get("title")
    if isinstance(title, str):
        yield title
    if kind == "basic-memory" and isinstance(permalink := fields.get("permalink"), str):
        yield permalink


def _read_note(
    found: Found, *, kind: ImportKind, family: str, source_name: str, project: str | None, taken: set[str]
) -> Note:
    text = read_text(found.disk)
    if not text.text.strip():
        raise Unreadable("is empty")
    split = split_front_matter(text.text)
    fields = split.fields
    if "excalidraw-plugin" in fields:
        raise Unreadable("is an Excalidraw drawing")
    warnings = [problem for problem in (text.problem, split.problem) if problem]
    ours = _own_id(fields)
    if ours in taken:
        warnings.append(f"its id {ours} is another file's too; it gets one of its own")
        ours = None
    if ours:
        return _own_note(found, text, split, ident=ours, source_name=source_name, warnings=warnings)

    prose = without_code(split.body)
    used = {"title", "tags", "tag", "type", "project"}
    created, created_by = _time(fields, _CREATED)
    updated, updated_by = _time(fields, _UPDATED)
    used |= {used_name for used_name in (created_by, updated_by) if used_name}
    kept = plain_fields(fields, used, RESERVED)
    memory_type = claimed_type(fields.get("type"))
    if memory_type is None and fields.get("type") is not None:
        kept["source_type"] = fields["type"]
    own_project = fields.get("project")
    if not isinstance(own_project, str) or "[[" in own_project or project is not None:
        if own_project is not None:
            kept["source_project"] = own_project
        own_project = None
    key = _key(found.path, kind, fields, taken)
    created = created or _date_in_name(found.path) or min(text.created, updated or text.created)
    item = ImportItem(
        key=key,
        id=item_id(family, source_name, key),
        type=memory_type or "note",
        title=_title(found.path, kind, fields, split.body, prose),
        body=split.body,
        created=created,
        updated=max(created, updated or text.updated),
        source=f"{kind}:{source_name}/{found.path}",
        tags=_tags(fields, prose),
        project=project if project is not None else (clean_title(own_project) if own_project else None),
        fields=fitting(memory_type or "note", kept),
        warnings=tuple(warnings),
    )
    return Note(found, text, split, prose, item)


def _key(path: str, kind: ImportKind, fields: dict[str, Any], taken: set[str]) -> str:
    permalink = fields.get("permalink")
    if kind == "basic-memory" and isinstance(permalink, str) and permalink.strip() and permalink not in taken:
        return permalink.strip()
    key, number = path, 1
    while key in taken:  # two names that are one in NFC
        number += 1
        key = f"{path} ({number})"
    return key


def _title(path: str, kind: ImportKind, fields: dict[str, Any], body: str, prose: str) -> str:
    stem = _bare(path.rpartition("/")[2])
    title = fields.get("title")
    if isinstance(title, str | int | float) and not isinstance(title, bool) and str(title).strip():
        return clean_title(str(title), otherwise=stem)
    # In a vault the file's name is the title; elsewhere it is the one heading at the top, and any first heading where
    # the name says nothing. (Vaults without their settings folder use several top-level headings as sections.)
    nameless = stem.casefold() in _GENERIC_NAMES or _MOSTLY_DIGITS.fullmatch(stem)
    if nameless or kind != "obsidian":
        heading = first_heading(body, prose) if nameless else sole_heading(body, prose)
        if heading:
            return clean_title(heading, otherwise=stem)
    if stem.casefold() in _GENERIC_NAMES and "/" in path:
        stem = f"{path.split('/')[-2]} {stem}"
    return clean_title(stem)


def _tags(fields: dict[str, Any], prose: str) -> tuple[str, ...]:
    return clean_tags((*front_tags(fields.get("tags")), *front_tags(fields.get("tag")), *inline_tags(prose)))


def _time(fields: dict[str, Any], names: tuple[str, ...]) -> tuple[datetime | None, str | None]:
    for name in names:
        if name in fields and (moment := to_time(fields[name])):
            return moment, name
    return None, None


_DATED = re.compile(r"(?:.*/)?(\d{4}-\d{2}-\d{2})(?!\d)[^/]*")


def _date_in_name(path: str) -> datetime | None:
    """The day of a daily note."""
    match = _DATED.fullmatch(path)
    return to_time(match[1]) if match else None


def plain_links(note: Note, names: Names) -> tuple[list[Link], int]:
    """Links of the text (`links_to`) and of properties (by the property's name); and how many lead nowhere."""
    wanted = [("links_to", target) for target in link_targets(note.prose)]
    for name, value in note.split.fields.items():
        wanted += [(clean_rel(name), Target("wiki", link)) for link in wiki_names_in(value)]
    return resolve_links(wanted, note, names)


def resolve_links(wanted: Iterable[tuple[str, Target]], note: Note, names: Names) -> tuple[list[Link], int]:
    """(relation, target) pairs as links, and how many lead nowhere."""
    links: list[Link] = []
    missing = 0
    for rel, target in wanted:
        ident = names.resolve(target, note.found.path)
        if ident:
            links.append(Link(rel, ident))
        elif ident is None:
            missing += 1
    return links, missing


# --- Files that are memories already, as `export_markdown` writes them -------------------------------------


def _own_id(fields: dict[str, Any]) -> str | None:
    ident = fields.get("id")
    named = isinstance(ident, str) and is_ulid(ident) and claimed_type(fields.get("type")) == fields.get("type")
    return ident if named and isinstance(fields.get("author"), dict) and "created" in fields else None


def _own_note(found: Found, text: Text, split: Split, *, ident: str, source_name: str, warnings: list[str]) -> Note:
    fields = split.fields
    links: list[Link] = []
    for entry in fields.get("links") or ():
        match entry:
            case {"rel": str() as rel, "id": str() as other} if is_ulid(other):
                links.append(Link(rel, other))
            case _:
                warnings.append("one of its links could not be read")
    created = to_time(fields.get("created")) or text.created
    trust = fields.get("trust")
    source = fields.get("source")
    project = fields.get("project")
    known = RESERVED - {"path", "version"}
    item = ImportItem(
        key=ident,
        id=ident,
        type=str(fields["type"]),
        title=clean_title(str(fields.get("title") or _bare(found.path.rpartition("/")[2]))),
        body=split.body,
        created=created,
        updated=max(created, to_time(fields.get("updated")) or text.updated),
        source=source if isinstance(source, str) else f"markdown:{source_name}/{found.path}",
        tags=tuple(listed(fields.get("tags"))),
        links=tuple(links),
        project=project if isinstance(project, str) else None,
        fields={name: value for name, value in fields.items() if name not in known},
        warnings=tuple(warnings),
        trust=Trust(trust) if isinstance(trust, str) and trust in set(Trust) else None,
    )
    return Note(found, text, split, "", item)
