"""Import: the values that readers and planner share, telling the kinds apart, and the plan itself.

Readers (`_import_markdown`, `_import_claude`, `_import_jsonl`, `_import_basic_memory`) only read; the planner is
pure. Whoever owns the store carries the plan out and hands the outcome to `ImportReport`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast, get_args

from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound, Redaction, SecretScanner, Trust, derived_ulid
from adaptive_llm_gateway.memory._values import Link, Record

ImportKind = Literal["markdown", "obsidian", "claude-code", "mcp-memory", "basic-memory"]
Progress = Callable[[int, int], None]

IMPORT_KINDS: tuple[ImportKind, ...] = get_args(ImportKind)
IMPORT_HASH = "import_hash"
"""The field that keeps the content hash of what was imported last."""

TITLE_LIMIT = 200
REL_LIMIT = 64
TAG_LIMIT = 100
TAGS_LIMIT = 64
LINKS_LIMIT = 256

# Types that a source may claim for an entry. Sessions, handoffs and routes have machinery of their own behind them.
_CLAIMABLE = {"note", "fact", "preference", "decision", "task"}
_CLAIMABLE_PLURALS = {f"{name}s": name for name in _CLAIMABLE}


# --- Values ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImportItem:
    """One memory-to-be, as a reader found it.

    Attributes:
        key: unique within the source and stable (a path, an entity's name).
        id: ULID, the same each time the same thing of the same source is read.
        body: everything but the front matter, byte for byte where the source was UTF-8.
        created, updated: timezone-aware.
        source: where it came from, for people (`obsidian:garden/folder/note.md`).
        fields: what else the source said of it; JSON-serialisable.
        warnings: what was odd, one sentence each.
        trust: only where the source itself is a memory file that names one.
    """

    key: str
    id: str
    type: str
    title: str
    body: str
    created: datetime
    updated: datetime
    source: str
    tags: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    project: str | None = None
    fields: dict[str, Any] = field(default_factory=dict[str, Any])
    warnings: tuple[str, ...] = ()
    trust: Trust | None = None

    @property
    def content_hash(self) -> str:
        """What `import_hash` has to be once this is stored."""
        return content_hash(
            type=self.type,
            title=self.title,
            body=self.body,
            tags=self.tags,
            links=self.links,
            project=self.project,
            fields=self.fields,
        )

    def stored_fields(self) -> dict[str, Any]:
        """`fields` with `import_hash` added: what the store writes."""
        return {**self.fields, IMPORT_HASH: self.content_hash}


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """Something of the source that is not imported; `path` is relative to it, with `:line` for a line."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class ImportSource:
    """What a reader found.

    Attributes:
        name: the source's identity within its kind; part of every id (see `docs/import-export.md`).
        attachments: files of other kinds that were counted and left alone.
        unresolved_links: links that name nothing in the source; they stay in the text.
    """

    kind: ImportKind
    name: str
    items: tuple[ImportItem, ...]
    skipped: tuple[SkippedFile, ...] = ()
    attachments: int = 0
    unresolved_links: int = 0


@dataclass(frozen=True, slots=True)
class ExistingMemory:
    """A memory under an item's id, as the store has it now.

    Attributes:
        version: git blob id, to update with `if_version`.
        content_hash: `content_hash` of its present content.
        import_hash: the field that the last import wrote, `None` if it was never imported.
        body: to tell another source of the same name from an edit.
        deleted: whether it was imported once and deleted here since.
    """

    version: str
    content_hash: str
    import_hash: str | None = None
    body: str = ""
    deleted: bool = False

    @classmethod
    def from_record(cls, record: Record, *, deleted: bool = False) -> ExistingMemory:
        """The same, from a memory's record; its field `import_hash` is taken out of the content."""
        fields = {name: value for name, value in record.fields.items() if name != IMPORT_HASH}
        known = record.fields.get(IMPORT_HASH)
        return cls(
            version=record.version,
            content_hash=content_hash(
                type=record.type,
                title=record.title,
                body=record.body,
                tags=record.tags,
                links=record.links,
                project=record.project,
                fields=fields,
            ),
            import_hash=known if isinstance(known, str) else None,
            body=record.body,
            deleted=deleted,
        )


def content_hash(
    *,
    type: str,
    title: str,
    body: str,
    tags: Iterable[str],
    links: Iterable[Link],
    project: str | None,
    fields: Mapping[str, Any],
) -> str:
    """32 hex digits over everything a person would call the content; times, author and trust are not in it.

    The order of tags, links and fields does not count, nor do empty fields and those that say what their type takes
    for granted, so that a store may normalise them.
    """
    granted = _defaults(type)
    content = {
        "type": type,
        "title": title,
        "body": body,
        "tags": sorted(set(tags)),
        "links": sorted({(link.rel, link.id) for link in links}),
        "project": project,
        "fields": {
            name: jsonable(value)
            for name, value in fields.items()
            if value not in (None, "", [], {}, ()) and (name not in granted or value != granted[name])
        },
    }
    text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


@cache
def _defaults(memory_type: str) -> dict[str, Any]:
    from adaptive_llm_gateway.memory._models import BUILT_IN  # noqa: PLC0415 - pydantic; not for `--help`

    model = BUILT_IN.get(memory_type)
    if model is None:
        return {}
    fields = model.model_fields.items()
    return {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()}


# --- The plan ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlannedUpdate:
    """An item whose memory exists and changes; `version` is for `if_version`."""

    item: ImportItem
    version: str


@dataclass(frozen=True, slots=True)
class KeptItem:
    """An item that was not imported because its memory changed here; `reason` says how."""

    item: ImportItem
    reason: str


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import would do, before anything is done."""

    creates: tuple[ImportItem, ...]
    updates: tuple[PlannedUpdate, ...]
    unchanged: tuple[ImportItem, ...]
    kept: tuple[KeptItem, ...]
    skipped: tuple[SkippedFile, ...]


def plan_import(
    items: Iterable[ImportItem],
    existing: Callable[[str], ExistingMemory | None],
    *,
    overwrite: bool = False,
    skipped: Iterable[SkippedFile] = (),
) -> ImportPlan:
    """Decide what happens to each item. Pure: `existing` is the only thing asked.

    An item is unchanged when the source says what it said at the last import (whatever was edited here since), or
    when the memory says the same already. It updates a memory that was not edited here since its import. Otherwise
    the memory is kept, unless `overwrite`.

    Args:
        existing: the memory under an id, or `None`.
        overwrite: let the source win over edits and deletions made here, and over memories of other origin.
        skipped: what the reader left out; handed through.
    """
    creates: list[ImportItem] = []
    updates: list[PlannedUpdate] = []
    unchanged: list[ImportItem] = []
    kept: list[KeptItem] = []
    left_out = list(skipped)
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            left_out.append(SkippedFile(item.key, f"has the same id {item.id} as an earlier one"))
            continue
        seen.add(item.id)
        memory = existing(item.id)
        if memory is None:
            creates.append(item)
            continue
        incoming = item.content_hash
        if (
            not memory.deleted
            and incoming in (memory.content_hash, memory.import_hash)
            and not (overwrite and incoming != memory.content_hash)
        ):
            unchanged.append(item)
            continue
        reason = None if overwrite else _why_kept(item, memory)
        if reason is None:
            updates.append(PlannedUpdate(item, memory.version))
        else:
            kept.append(KeptItem(item, reason))
    return ImportPlan(tuple(creates), tuple(updates), tuple(unchanged), tuple(kept), tuple(left_out))


def _why_kept(item: ImportItem, memory: ExistingMemory) -> str | None:
    if memory.deleted:
        return "deleted here since it was imported"
    if memory.import_hash is None:
        return "this memory was written here, not imported"
    if memory.content_hash != memory.import_hash:
        return "edited here since it was imported"
    if _nothing_in_common(item.body, memory.body):
        return (
            "shares no line with what was imported under this name; if it comes from another source of the same "
            "name, import it under a name of its own"
        )
    return None


def _nothing_in_common(new: str, old: str) -> bool:
    ours = {line.strip() for line in old.splitlines()} - {""}
    theirs = {line.strip() for line in new.splitlines()} - {""}
    return len(ours) > 1 and len(theirs) > 1 and ours.isdisjoint(theirs)


# --- The report ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did, or would do.

    Attributes:
        failed: (key, problem) of items that the store refused; they are not in `created` or `updated`.
        warnings: (key, problem) of items that were imported all the same.
        attachments, unresolved_links: as in `ImportSource`.
        redacted: (key, secret) for each that a mark stands for now.
    """

    kind: str
    name: str
    dry_run: bool
    created: int
    updated: int
    unchanged: int
    kept: tuple[tuple[str, str], ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    attachments: int = 0
    links: int = 0
    unresolved_links: int = 0
    redacted: tuple[tuple[str, Redaction], ...] = ()

    @classmethod
    def build(
        cls,
        source: ImportSource,
        plan: ImportPlan,
        *,
        dry_run: bool = False,
        failed: Mapping[str, AlgError | str] | None = None,
        noted: Mapping[str, Sequence[str]] | None = None,
        redacted: Mapping[str, Sequence[Redaction]] | None = None,
    ) -> ImportReport:
        """From a reader's source and its plan; `failed` and `noted` map an item's id to what the store said, `redacted`
        to what was taken out of it.
        """
        problems, notes = failed or {}, noted or {}
        updates = [update.item for update in plan.updates]
        done = [item for item in (*plan.creates, *updates) if item.id not in problems]
        refused = [item for item in (*plan.creates, *updates) if item.id in problems]
        return cls(
            kind=source.kind,
            name=source.name,
            dry_run=dry_run,
            created=sum(item.id not in problems for item in plan.creates),
            updated=sum(item.id not in problems for item in updates),
            unchanged=len(plan.unchanged),
            kept=tuple((kept.item.key, kept.reason) for kept in plan.kept),
            skipped=plan.skipped,
            failed=tuple((item.key, str(problems[item.id])) for item in refused),
            warnings=tuple(
                (item.key, warning) for item in done for warning in (*item.warnings, *notes.get(item.id, ()))
            ),
            attachments=source.attachments,
            links=sum(len(item.links) for item in done),
            unresolved_links=source.unresolved_links,
            redacted=tuple((item.key, each) for item in done for each in (redacted or {}).get(item.id, ())),
        )

    def masked(self, scanner: SecretScanner) -> ImportReport:
        """The same with marks for credentials: the source's names and broken lines may hold some."""

        def shown(text: str) -> str:
            return scanner.redact(text)[0]

        def told(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
            return tuple((shown(path), shown(problem)) for path, problem in pairs)

        return replace(
            self,
            name=shown(self.name),
            kept=told(self.kept),
            skipped=tuple(SkippedFile(shown(file.path), shown(file.problem)) for file in self.skipped),
            failed=told(self.failed),
            warnings=told(self.warnings),
            redacted=tuple((shown(path), each) for path, each in self.redacted),
        )

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON: counts, and lists of `{"path", "problem"}`."""

        def listed(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
            return [{"path": path, "problem": problem} for path, problem in pairs]

        return {
            "kind": self.kind,
            "name": self.name,
            "dry_run": self.dry_run,
            "created": self.created,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "kept": listed(self.kept),
            "skipped": listed([(file.path, file.problem) for file in self.skipped]),
            "failed": listed(self.failed),
            "warnings": listed(self.warnings),
            "attachments": self.attachments,
            "links": self.links,
            "unresolved_links": self.unresolved_links,
            "redacted": [{"path": key, **asdict(redaction)} for key, redaction in self.redacted],
        }

    def render(self, *, problems: int = 10) -> str:
        """A table for people, with up to `problems` lines of each sort of problem."""
        would = "would be " if self.dry_run else ""
        rows = [
            (f"{would}created", self.created),
            (f"{would}updated", self.updated),
            ("unchanged", self.unchanged),
            ("kept as they are here", len(self.kept)),
            ("skipped", len(self.skipped)),
            ("failed", len(self.failed)),
            ("links", self.links),
            ("links to nothing", self.unresolved_links),
            ("attachments left alone", self.attachments),
            ("secrets redacted", len(self.redacted)),
        ]
        shown = [(label, count) for label, count in rows if count or label.endswith(("created", "unchanged"))]
        width = max(len(label) for label, _ in shown)
        lines = [f"{self.kind} {self.name!r}{' (dry run: nothing was written)' if self.dry_run else ''}"]
        lines += [f"  {label:<{width}}  {count:>7,}" for label, count in shown]
        skipped = [(file.path, file.problem) for file in self.skipped]
        for heading, pairs in (
            ("failed", list(self.failed)),
            ("kept", list(self.kept)),
            ("skipped", skipped),
            ("warnings", list(self.warnings)),
            ("redacted", [(key, str(redaction)) for key, redaction in self.redacted]),
        ):
            if pairs:
                lines += ["", f"{heading}:"]
                lines += [f"  {path}: {problem}" for path, problem in pairs[:problems]]
                if len(pairs) > problems:
                    lines.append(f"  ... and {len(pairs) - problems:,} more (--json lists them all)")
        return "\n".join(lines) + "\n"


# --- What readers share --------------------------------------------------------------------------------


def item_id(family: str, name: str, key: str) -> str:
    """The id of the thing called `key` in the source `name`.

    The time part is zero: any time taken from the source may change, and the id must not.
    """
    identity = "\0".join(unicodedata.normalize("NFC", part) for part in ("import", family, name, key))
    return derived_ulid(identity, milliseconds=0)


def claimed_type(value: object) -> str | None:
    """The built-in type that a source's own word for it names, else `None`."""
    if not isinstance(value, str):
        return None
    word = value.strip().casefold()
    word = _CLAIMABLE_PLURALS.get(word, word)
    return word if word in _CLAIMABLE else None


def clean_title(text: str, *, otherwise: str = "Untitled") -> str:
    """One line without control characters, at most 200 characters; `otherwise` when nothing is left."""
    visible = "".join(char if _is_text(char) else " " for char in unicodedata.normalize("NFC", text))
    line = " ".join(visible.split())
    if len(line) > TITLE_LIMIT:
        line = line[: TITLE_LIMIT - 1].rstrip() + "…"
    return line or otherwise


def _is_text(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") and char not in "\u202a\u202b\u202d\u202e"


def clean_rel(text: str, *, otherwise: str = "relates_to") -> str:
    """A relation's name as we write them: `Depends on` and `depends-on` become `depends_on`."""
    word = re.sub(r"[^\w]+", "_", unicodedata.normalize("NFC", text).casefold()).strip("_")
    return word[:REL_LIMIT].rstrip("_") or otherwise


def jsonable(value: object) -> Any:
    """`value` with everything JSON lacks turned into text: dates as ISO 8601, keys as strings, bytes as hex."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime() | date():
            return value.isoformat()
        case bytes():
            return value.hex()
        case Mapping():
            mapping = cast("Mapping[object, object]", value)
            return {_key_text(key): jsonable(item) for key, item in mapping.items()}
        case list() | tuple():
            return [jsonable(item) for item in cast("Sequence[object]", value)]
        case set() | frozenset():
            return sorted((jsonable(item) for item in cast("set[object]", value)), key=str)
        case _:
            return str(value)


def _key_text(key: object) -> str:
    if isinstance(key, str):
        return key
    plain = jsonable(key)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def with_links(item: ImportItem, links: Iterable[Link]) -> ImportItem:
    """`item` with `links`, each once and none to itself, in order of appearance, and no more than a memory may have."""
    unique = tuple(dict.fromkeys(link for link in links if link.id != item.id))
    if len(unique) <= LINKS_LIMIT:
        return replace(item, links=unique)
    warning = f"has {len(unique):,} links; the first {LINKS_LIMIT} are kept as such, all stay in the text"
    return replace(item, links=unique[:LINKS_LIMIT], warnings=(*item.warnings, warning))


def clean_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Tags that a memory may have: one line without commas, at most 64, the first spelling of each."""
    found: dict[str, str] = {}
    for tag in tags:
        for part in tag.split(","):
            word = "-".join(clean_title(part, otherwise="").split()).strip("#/")[:TAG_LIMIT]
            if word:
                found.setdefault(word.casefold(), word)
    return tuple(found.values())[:TAGS_LIMIT]


def fitting(memory_type: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields`, with those that the type declares but would not accept renamed to `source_...`."""
    from adaptive_llm_gateway.memory._models import BUILT_IN, COMMON_FIELDS  # noqa: PLC0415 - as above

    model = BUILT_IN[memory_type]
    declared = set(model.model_fields) - set(COMMON_FIELDS)
    return {
        f"source_{name}" if name in declared and not _accepts(model, name, value) else name: value
        for name, value in fields.items()
    }


def _accepts(model: Any, name: str, value: object) -> bool:
    try:
        model.__pydantic_validator__.validate_assignment(model.model_construct(), name, value)
    except ValueError:
        return False
    return True


# --- Which kind, and reading it ------------------------------------------------------------------------

_READERS: dict[ImportKind, str] = {
    "markdown": "_import_markdown",
    "obsidian": "_import_markdown",
    "claude-code": "_import_claude",
    "mcp-memory": "_import_jsonl",
    "basic-memory": "_import_basic_memory",
}


def read_source(
    path: Path,
    *,
    kind: ImportKind | None = None,
    project: str | None = None,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> ImportSource:
    """Read everything importable under `path`; nothing is written anywhere.

    Args:
        kind: what it is; told by `detect_kind` when left out.
        project: the project of every item; sources that know their own are overruled.
        name: the source's identity, when the folder's or file's own name will not do (see `docs/import-export.md`).
        on_progress: called with (files done, files in all).

    Raises:
        NotFound: no such path.
        InvalidInput: an unknown kind, or a path that is not of that kind.
    """
    if not path.exists():
        raise NotFound(f"there is nothing at {str(path)!r}", hint="Check the path.", path=str(path))
    if kind is not None and kind not in IMPORT_KINDS:
        raise InvalidInput(
            f"{kind!r} is not a kind of import",
            hint=f"Use one of: {', '.join(IMPORT_KINDS)}.",
            kinds=list(IMPORT_KINDS),
        )
    chosen = kind or detect_kind(path)
    module = importlib.import_module(f"adaptive_llm_gateway.memory.{_READERS[chosen]}")
    return module.read(path, kind=chosen, project=project, name=name, on_progress=on_progress)


def detect_kind(path: Path) -> ImportKind:
    """Which kind of source lies at `path`.

    Raises:
        NotFound: no such path.
        InvalidInput: it could be several kinds, or none; the message lists the kinds.
    """
    from adaptive_llm_gateway.memory import _import_detect  # noqa: PLC0415 - it needs the readers, they need us

    return _import_detect.detect(path)
