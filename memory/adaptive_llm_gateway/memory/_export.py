"""Export: memories as a folder of Markdown, as JSONL, or as the official MCP memory server's graph.

Nothing is written outside the destination, and nothing of somebody else's is overwritten unless asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from adaptive_llm_gateway.core import InvalidInput, UnsafePath
from adaptive_llm_gateway.memory._files import storage_errors
from adaptive_llm_gateway.memory._import import Progress, jsonable
from adaptive_llm_gateway.memory._names import check_repo_path
from adaptive_llm_gateway.memory._values import Record

MANIFEST = ".memory-export.json"
"""What an export wrote, so that the next one can tell its own files from everybody else's."""

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        written: memories written, new or changed.
        unchanged: memories whose file said the same already.
        overwritten: foreign or edited files that were replaced because `overwrite` was given.
        left_over: files of an earlier export whose memory is not in this one; they stay.
        left_out: relations to memories that are not exported (graph only).
    """

    destination: str
    written: int
    unchanged: int = 0
    overwritten: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    left_out: int = 0

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "destination": self.destination,
            "written": self.written,
            "unchanged": self.unchanged,
            "overwritten": list(self.overwritten),
            "left_over": list(self.left_over),
            "left_out": self.left_out,
        }

    def render(self) -> str:
        """A few lines for people."""
        rows = [
            ("written", self.written),
            ("unchanged", self.unchanged),
            ("overwritten", len(self.overwritten)),
            ("left over from before", len(self.left_over)),
            ("links left out", self.left_out),
        ]
        shown = [(label, count) for label, count in rows if count or label == "written"]
        width = max(len(label) for label, _ in shown)
        return "\n".join([self.destination, *(f"  {label:<{width}}  {count:>7,}" for label, count in shown)]) + "\n"


# --- Markdown ------------------------------------------------------------------------------------------


def export_markdown(
    memories: Iterable[tuple[Record, bytes]],
    destination: Path,
    *,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> ExportReport:
    """Write each memory's file, byte for byte, under its own path in `destination`.

    A file that is there already is replaced only if an earlier export wrote it and nobody edited it since. All files
    are looked at before the first is written; each is written beside its place and renamed into it.

    Args:
        memories: records with their files' bytes.
        destination: a folder; created if need be.
        overwrite: also replace files that are not ours.
        on_progress: called with (files done, files in all).

    Raises:
        InvalidInput: `destination` is no folder, or files there are not ours (`details["files"]`); nothing was written.
        UnsafePath: a record's path leads out of the destination, or through a symbolic link; nothing was written.
        StorageError: the disk refused; files written before stay.
    """
    if destination.exists() and not destination.is_dir():
        raise InvalidInput(f"{str(destination)!r} is not a folder", hint="Name a folder.", path=str(destination))
    root = Path(os.path.abspath(destination))  # noqa: PTH100 - links stay
    known = _read_manifest(root)
    wanted: dict[str, bytes] = {}
    for record, data in memories:
        if wanted.setdefault(record.path, data) is not data:
            raise InvalidInput(f"two memories have the path {record.path!r}", path=record.path)
    foreign: list[str] = []
    same: set[str] = set()
    for path, data in wanted.items():
        present = _present(check_repo_path(root, path), path)
        if present is None:
            continue
        if present == data:
            same.add(path)
        elif known.get(path) != _digest(present):
            foreign.append(path)
    if foreign and not overwrite:
        raise InvalidInput(
            f"{len(foreign)} file(s) in {str(destination)!r} were not written by an export, or were edited since: "
            + ", ".join(repr(path) for path in foreign[:_SHOWN])
            + (", ..." if len(foreign) > _SHOWN else ""),
            hint="Choose an empty folder, move the files away, or allow overwriting.",
            files=foreign,
        )
    for number, (path, data) in enumerate(wanted.items(), 1):
        if path not in same:
            write_file(check_repo_path(root, path), data)
        if on_progress:
            on_progress(number, len(wanted))
    left_over = tuple(sorted(path for path in known if path not in wanted))
    manifest = {**known, **{path: _digest(data) for path, data in wanted.items()}}
    text = json.dumps({"format": 1, "files": manifest}, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    write_file(root / MANIFEST, text.encode())
    return ExportReport(str(destination), len(wanted) - len(same), len(same), tuple(foreign), left_over)


def _present(target: Path, path: str) -> bytes | None:
    with storage_errors(f"look at {path!r}"):
        try:
            return target.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            raise InvalidInput(f"{path!r} is a folder in the destination", hint="Move it away.", files=[path]) from None


def _read_manifest(root: Path) -> dict[str, str]:
    """Digests by path; empty where there is none that can be read, and then every file counts as foreign."""
    file = root / MANIFEST
    if file.is_symlink():
        raise UnsafePath(f"{str(file)!r} is a symbolic link", hint="Remove it.", path=str(file))
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    files = cast("dict[str, Any]", loaded).get("files") if isinstance(loaded, dict) else None
    if not isinstance(files, dict):
        return {}
    return {path: str(digest) for path, digest in cast("dict[str, Any]", files).items()}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_file(target: Path, data: bytes) -> None:
    """Put `data` at `target` in one step: whoever looks sees the old file or the new one.

    Raises:
        StorageError: the disk refused; the old file, if any, is untouched.
    """
    with storage_errors(f"write {str(target)!r}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        temp = target.with_name(f".{target.name[:100]}.{os.getpid()}.new")
        try:
            with temp.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temp.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)
            raise


# --- JSONL ---------------------------------------------------------------------------------------------


def jsonl_lines(records: Iterable[Record]) -> Iterator[str]:
    """One JSON object a memory, with everything a record has, each ending in a line break."""
    for record in records:
        author = {"client": record.author.client, "agent": record.author.agent, "host": record.author.host}
        memory: dict[str, Any] = {
            "id": record.id,
            "type": record.type,
            "title": record.title,
            "body": record.body,
            "created": _moment(record.created),
            "updated": _moment(record.updated),
            "author": {name: value for name, value in author.items() if value is not None},
            "project": record.project,
            "tags": list(record.tags),
            "trust": str(record.trust),
            "links": [{"rel": link.rel, "id": link.id} for link in record.links],
            "source": record.source,
            "reason": record.reason,
            "fields": jsonable(record.fields),
            "path": record.path,
            "version": record.version,
        }
        yield json.dumps(memory, ensure_ascii=False) + "\n"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def export_jsonl(records: Iterable[Record], destination: Path, *, overwrite: bool = False) -> ExportReport:
    """Write all records to one JSONL file, in one step.

    Raises:
        InvalidInput: there is a file already and `overwrite` is not given, or `destination` is a folder.
        StorageError: the disk refused; an old file is untouched.
    """
    lines = list(jsonl_lines(records))
    _write_whole(lines, destination, overwrite=overwrite)
    return ExportReport(str(destination), len(lines))


# --- The official memory server's graph --------------------------------------------------------------------


def graph_lines(records: Iterable[Record]) -> tuple[list[str], int]:
    """Entities, then relations, as the official MCP memory server keeps them; and how many relations lead elsewhere.

    Names are unique there: of several memories with one title all but the first carry the end of their id. A body
    that is one list becomes one observation per item, any other body is one observation.
    """
    chosen = list(records)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for record in chosen:
        name = record.title if record.title not in taken else f"{record.title} ({record.id[-8:].lower()})"
        name = name if name not in taken else f"{record.title} ({record.id})"
        taken.add(name)
        names[record.id] = name
    lines: list[str] = []
    for record in chosen:
        said = record.fields.get("entity_type")
        entity = {
            "type": "entity",
            "name": names[record.id],
            "entityType": said if isinstance(said, str) and said else record.type,
            "observations": _observations(record.body),
        }
        lines.append(json.dumps(entity, ensure_ascii=False) + "\n")
    left_out = 0
    for record in chosen:
        for link in record.links:
            if link.id not in names:
                left_out += 1
                continue
            relation = {
                "type": "relation",
                "from": names[record.id],
                "to": names[link.id],
                "relationType": link.rel,
            }
            lines.append(json.dumps(relation, ensure_ascii=False) + "\n")
    return lines, left_out


_ITEM = re.compile(r"- (?! )")


def _observations(body: str) -> list[str]:
    text = body.strip()
    items: list[str] = []
    for line in text.split("\n"):
        if _ITEM.match(line):
            items.append(line[2:])
        elif items and line.startswith("  "):
            items[-1] += "\n" + line[2:]
        else:
            return [text] if text else []
    return items


def export_graph(records: Iterable[Record], destination: Path, *, overwrite: bool = False) -> ExportReport:
    """Write a `memory.jsonl` that the official MCP memory server reads, in one step.

    Raises:
        InvalidInput: there is a file already and `overwrite` is not given, or `destination` is a folder.
        StorageError: the disk refused; an old file is untouched.
    """
    chosen = list(records)
    lines, left_out = graph_lines(chosen)
    _write_whole(lines, destination, overwrite=overwrite)
    return ExportReport(str(destination), len(chosen), left_out=left_out)


def _write_whole(lines: list[str], destination: Path, *, overwrite: bool) -> None:
    if destination.is_dir():
        raise InvalidInput(f"{str(destination)!r} is a folder", hint="Name a file.", path=str(destination))
    if os.path.lexists(destination) and not overwrite:
        raise InvalidInput(
            f"{str(destination)!r} exists already",
            hint="Name another file, or allow overwriting.",
            path=str(destination),
        )
    target = destination.resolve() if destination.is_symlink() else destination
    write_file(target, "".join(lines).encode("utf-8", "replace"))
