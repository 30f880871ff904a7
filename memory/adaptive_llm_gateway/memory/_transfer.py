"""Import into a store and export out of it: readers, planner and writers put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from adaptive_llm_gateway.core import AlgError, InvalidInput, Redaction, Trust
from adaptive_llm_gateway.memory._export import ExportReport, export_graph, export_jsonl, export_markdown
from adaptive_llm_gateway.memory._import import (
    ExistingMemory,
    ImportItem,
    ImportKind,
    ImportReport,
    Progress,
    plan_import,
    read_source,
)
from adaptive_llm_gateway.memory._requests import ImportMemory
from adaptive_llm_gateway.memory._values import Author, Filters, Record

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory._stores import Memories

ExportFormat = Literal["markdown", "jsonl", "mcp-memory"]

_BATCH = 100


def import_memories(
    store: Memories,
    path: Path,
    *,
    author: Author,
    kind: ImportKind | None = None,
    project: str | None = None,
    name: str | None = None,
    overwrite: bool = False,
    redact: bool = False,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> ImportReport:
    """Read `path` and bring the store up to it; running it again changes nothing.

    Args:
        kind, project, name: see `read_source`.
        overwrite: let the source win over edits and deletions made in the store.
        redact: replace what the secret scanner names; otherwise such an item is refused and reported.
        dry_run: only say what would happen.
        on_progress: called with (items done, items in all).

    Raises:
        NotFound, InvalidInput: there is nothing to import at `path`, or it is not of that kind.
    """
    source = read_source(path, kind=kind, project=project, name=name)
    plan = plan_import(source.items, _existing(store), overwrite=overwrite, skipped=source.skipped)
    failed: dict[str, AlgError | str] = {}
    noted: dict[str, tuple[str, ...]] = {}
    redacted: dict[str, tuple[Redaction, ...]] = {}
    work = [(item, None) for item in plan.creates] + [(update.item, update.version) for update in plan.updates]
    if dry_run:
        for item, _ in work:
            try:
                store.scanner.check(f"{item.title}\n{item.body}", where="this file")
            except AlgError as error:
                if redact:
                    redacted[item.id] = _redactions(store, item)
                else:
                    failed[item.id] = error
        return ImportReport.build(source, plan, dry_run=True, failed=failed, redacted=redacted).masked(store.scanner)
    for start in range(0, len(work), _BATCH):
        batch = work[start : start + _BATCH]
        requests = [_request(item, version, author, redact=redact) for item, version in batch]
        for (item, _), outcome in zip(batch, store.write_many(requests), strict=True):
            if isinstance(outcome, AlgError):
                failed[item.id] = outcome
            else:
                redacted[item.id] = outcome.redacted
                noted[item.id] = outcome.notes
        if on_progress is not None:
            on_progress(start + len(batch), len(work))
    store.flush()
    return ImportReport.build(source, plan, failed=failed, noted=noted, redacted=redacted).masked(store.scanner)


def _redactions(store: Memories, item: ImportItem) -> tuple[Redaction, ...]:
    texts = {"title": item.title, "body": item.body}
    return tuple(replace(each, where=where) for where, text in texts.items() for each in store.scanner.redact(text)[1])


def _request(item: ImportItem, version: str | None, author: Author, *, redact: bool) -> ImportMemory:
    return ImportMemory(
        author=author,
        id=item.id,
        type=item.type,
        title=item.title,
        body=item.body,
        created=item.created,
        updated=item.updated,
        tags=item.tags,
        project=item.project,
        trust=item.trust or Trust.INTERNAL,
        links=item.links,
        source=item.source,
        fields=item.stored_fields(),
        if_version=version,
        reason=f"import of {item.source}",
        redact=redact,
    )


def _existing(store: Memories) -> Callable[[str], ExistingMemory | None]:
    gone = {stone.id: stone for stone in store.deleted(limit=1_000_000)}

    def existing(identifier: str) -> ExistingMemory | None:
        record = store.record(identifier)
        if record is not None:
            return ExistingMemory.from_record(record)
        stone = gone.get(identifier)
        return ExistingMemory(version=stone.version, content_hash="", deleted=True) if stone else None

    return existing


def export_memories(
    store: Memories,
    destination: Path,
    *,
    format: ExportFormat = "markdown",
    filters: Filters | None = None,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> ExportReport:
    """Write the memories that the filters let through to `destination`, outside the memory repo.

    Raises:
        InvalidInput: an unknown format, a destination within the memory repo, or one that holds others' files.
    """
    if format not in get_args(ExportFormat):
        raise InvalidInput(
            f"{format!r} is not an export format", hint=f"Use one of: {', '.join(get_args(ExportFormat))}."
        )
    if any(destination.resolve().is_relative_to(folder.resolve()) for folder in store.folders):
        raise InvalidInput(f"{str(destination)!r} lies in the memory repo", hint="Choose a place outside of it.")
    records = store.records(filters=filters)
    match format:
        case "jsonl":
            return export_jsonl(records, destination, overwrite=overwrite)
        case "mcp-memory":
            return export_graph(records, destination, overwrite=overwrite)
        case "markdown":
            return export_markdown(_files(store, records), destination, overwrite=overwrite, on_progress=on_progress)


def _files(store: Memories, records: Iterator[Record]) -> Iterator[tuple[Record, bytes]]:
    for record in records:
        data = store.file_of(record)
        if data is not None:
            yield record, data
