"""What a merge of two memory repos results in: a pure planner, from what both sides changed to what is to be written.

The rules do not depend on which side is ours, so that every clone comes to the same files: the newer `updated` wins a
scalar (ties: the side whose file is greater, byte by byte), lists are merged as sets, bodies by lines. Bodies that
clash are both kept, the loser's as a new memory beside the winner, with an id derived from its content, each linked
to the other by `conflicts_with`. An edit beats a deletion. No file ever gets conflict markers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, Final, cast

from adaptive_llm_gateway.core import AlgError, derived_ulid, is_ulid
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._line_merge import merge_lines

CONFLICT_REL: Final = "conflicts_with"
_MISSING: Final = object()
_ID = re.compile(rb"^id:[ \t]*[\"']?([0-9A-HJKMNP-TV-Z]{26})[\"']?[ \t]*\r?$", re.MULTILINE)
_ESSENTIAL = frozenset({"id", "type", "title", "created", "updated"})  # no side takes these away
_HEAD = 64 * 1024
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_SUFFIX = ".md"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a tree: its git mode and blob id."""

    mode: int
    blob: str


Changed = Mapping[str, tuple[Entry | None, Entry | None]]
"""What one side changed against the base: path to (entry in the base, entry now)."""

Content = Entry | bytes | None
"""What a path is to hold: a file that exists as a blob, new bytes, or nothing."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two bodies that clashed: what is at `path` was newer, the other one is kept as `kept_path`."""

    path: str
    id: str | None
    kept_path: str
    kept_id: str | None


@dataclass(slots=True)
class MergePlan:
    """The merged tree's difference to ours.

    Attributes:
        writes: path to content; paths that are as in our tree do not appear.
        decisions: what was decided, one line each, for the commit message.
        renames: new path to old one, of files that the other side moved.
    """

    writes: dict[str, Content] = field(default_factory=dict[str, Content])
    conflicts: list[Conflict] = field(default_factory=list[Conflict])
    decisions: list[str] = field(default_factory=list[str])
    renames: dict[str, str] = field(default_factory=dict[str, str])


def plan_merge(
    ours: Changed, theirs: Changed, read: Callable[[str], bytes], *, taken: Callable[[str], bool] | None = None
) -> MergePlan:
    """Merge what both sides changed since their common base.

    Args:
        ours, theirs: see `Changed`; without a common base everything is new on both sides.
        read: content of a blob.
        taken: whether a path is in use in our tree, for files that have to go beside another.
    """
    return _Planner(ours, theirs, read, taken or (lambda _: False)).plan()


class _Planner:
    def __init__(
        self, ours: Changed, theirs: Changed, read: Callable[[str], bytes], taken: Callable[[str], bool]
    ) -> None:
        self._ours, self._theirs, self._read, self._taken = ours, theirs, read, taken
        self._result: dict[str, Content] = {}
        self._plan = MergePlan()

    def plan(self) -> MergePlan:
        our_moves, their_moves = self._moves(self._ours), self._moves(self._theirs)
        done: set[str] = set()
        for old in sorted(our_moves.keys() | their_moves.keys()):
            done |= self._merge_moved(old, our_moves.get(old), their_moves.get(old))
        done |= self._merge_twins(done)
        for path in sorted((self._ours.keys() | self._theirs.keys()) - done):
            self._merge_path(path)
        # Only what differs from our tree is to be written.
        for path, content in self._result.items():
            mine = self._ours[path][1] if path in self._ours else self._theirs.get(path, (None, None))[0]
            if content != mine:
                self._plan.writes[path] = content
        self._plan.renames = {
            new: old for old, new in their_moves.items() if new in self._plan.writes and old in self._plan.writes
        }
        return self._plan

    # --- which file is which ------------------------------------------------------------------------

    def _id_of(self, entry: Entry) -> str | None:
        found = _ID.search(self._read(entry.blob)[:_HEAD])
        return found[1].decode() if found else None

    def _moves(self, side: Changed) -> dict[str, str]:
        """Old to new path of memories that this side moved: one gone and one new file with the same id."""
        gone = {path: old for path, (old, new) in side.items() if new is None and old and path.endswith(_SUFFIX)}
        new = {path: now for path, (old, now) in side.items() if old is None and now and path.endswith(_SUFFIX)}
        if not gone or not new:
            return {}
        by_id = {memory: path for path, entry in sorted(gone.items()) if (memory := self._id_of(entry))}
        return {
            by_id[memory]: path
            for path, entry in sorted(new.items(), reverse=True)
            if (memory := self._id_of(entry)) in by_id
        }

    def _merge_moved(self, old: str, our_path: str | None, their_path: str | None) -> set[str]:
        mine = self._side(self._ours, old, our_path)
        other = self._side(self._theirs, old, their_path)
        base = self._base(old)
        handled = {path for path in (old, our_path, their_path) if path is not None}
        if mine is None or other is None:  # moved here, deleted there
            kept = our_path if mine is not None else their_path
            if kept is None:  # cannot be: a move leaves a file
                return set()
            self._result[old] = None
            self._result[kept] = mine if mine is not None else other
            self._plan.decisions.append(f"kept {kept}: moved on one side, deleted on the other")
            return handled
        target = our_path or their_path or old
        if our_path and their_path and our_path != their_path:
            winner = max(
                (our_path, mine), (their_path, other), key=lambda item: (_rank(self._read(item[1].blob)), item[0])
            )
            target = winner[0]
            self._plan.decisions.append(f"moved {old} to {target}: the newer of two moves")
        for path in handled - {target}:
            self._result[path] = None
        self._merge_contents(target, base, mine, other)
        return handled

    def _merge_twins(self, done: set[str]) -> set[str]:
        """The same memory created on both sides under different paths (an import run twice) becomes one."""
        mine = self._new_ids(self._ours, self._theirs, done)
        other = self._new_ids(self._theirs, self._ours, done) if mine else {}
        handled: set[str] = set()
        for memory in sorted(mine.keys() & other.keys()):
            (path, entry), (their_path, their_entry) = mine[memory], other[memory]
            target = max((_rank(self._read(entry.blob)), path), (_rank(self._read(their_entry.blob)), their_path))[1]
            self._result[path] = self._result[their_path] = None
            self._merge_contents(target, None, entry, their_entry)
            self._plan.decisions.append(f"joined {path} and {their_path}: one memory, created twice")
            handled |= {path, their_path}
        return handled

    def _new_ids(self, side: Changed, other: Changed, done: set[str]) -> dict[str, tuple[str, Entry]]:
        new = {
            path: now
            for path, (old, now) in side.items()
            if old is None and now and path.endswith(_SUFFIX) and path not in done and path not in other
        }
        return {memory: (path, entry) for path, entry in sorted(new.items()) if (memory := self._id_of(entry))}

    def _side(self, side: Changed, old: str, moved: str | None) -> Entry | None:
        if moved is not None:
            return side[moved][1]
        return side[old][1] if old in side else self._base(old)

    def _base(self, path: str) -> Entry | None:
        return (self._ours.get(path) or self._theirs.get(path) or (None, None))[0]

    # --- one file -------------------------------------------------------------------------------------

    def _merge_path(self, path: str) -> None:
        base = self._base(path)
        mine = self._ours[path][1] if path in self._ours else base
        other = self._theirs[path][1] if path in self._theirs else base
        if other in (mine, base):
            self._result[path] = mine
        elif mine == base:
            self._result[path] = other
        elif mine is None or other is None:
            self._result[path] = mine or other
            self._plan.decisions.append(f"kept {path}: edited on one side, deleted on the other")
        else:
            self._merge_contents(path, base, mine, other)

    def _merge_contents(self, path: str, base: Entry | None, mine: Entry, other: Entry) -> None:
        if mine.blob == other.blob or (base and other.blob == base.blob):
            self._result[path] = mine
            return
        if base and mine.blob == base.blob:
            self._result[path] = other
            return
        before = self._read(base.blob) if base else None
        merged = merge_files(before, self._read(mine.blob), self._read(other.blob))
        if merged is None:
            self._keep_both(path, mine, other)
            return
        self._result[path] = merged.data
        self._plan.decisions.append(f"merged {path}: changed on both sides")
        if merged.kept is not None and merged.kept_id is not None:
            kept_path = beside(path, merged.kept_id[-8:].lower())
            if not self._exists(kept_path):  # otherwise somebody has merged these two before
                self._result[kept_path] = merged.kept
            self._plan.conflicts.append(Conflict(path, merged.id, kept_path, merged.kept_id))
            self._plan.decisions.append(f"kept the older text of {path} as {kept_path}: the texts clash")

    def _exists(self, path: str) -> bool:
        sides = (self._ours.get(path), self._theirs.get(path))
        if any(side is not None and side[1] is not None for side in sides):
            return True
        return not any(sides) and self._taken(path)

    def _keep_both(self, path: str, mine: Entry, other: Entry) -> None:
        """Two files that cannot be merged, or two memories at one path: the newer stays, the other goes beside it."""
        winner, loser = sorted((mine, other), key=lambda entry: _rank(self._read(entry.blob)), reverse=True)
        self._result[path] = winner
        loser_id = self._id_of(loser) if path.endswith(_SUFFIX) else None
        winner_id = self._id_of(winner) if path.endswith(_SUFFIX) else None
        if loser_id == winner_id:
            loser_id = None
        kept_path = beside(path, loser_id[-8:].lower() if loser_id else loser.blob[:8])
        if not self._exists(kept_path):
            self._result[kept_path] = loser
        self._plan.conflicts.append(Conflict(path, winner_id, kept_path, loser_id))
        self._plan.decisions.append(f"kept both files at {path}: the older one is {kept_path}")


@dataclass(frozen=True, slots=True)
class MergedFile:
    """The merged bytes, and where the bodies clashed the loser as a memory of its own."""

    data: bytes
    id: str | None = None
    kept: bytes | None = None
    kept_id: str | None = None


def merge_files(base: bytes | None, ours: bytes, theirs: bytes) -> MergedFile | None:
    """Merge two versions of a file; None when they cannot be merged and both must be kept as they are."""
    one, two = _document(ours), _document(theirs)
    if one is None or two is None:
        return _merge_text(base, ours, theirs)
    if base is None and one.fields.get("id") != two.fields.get("id"):
        return None
    newer, older = (one, two) if _rank(ours, one) >= _rank(theirs, two) else (two, one)
    ancestor = _document(base) if base is not None else None
    fields = merge_fields(ancestor.fields if ancestor else {}, newer.fields, older.fields)
    body = merge_lines(ancestor.body if ancestor else "", older.body, newer.body)
    memory = fields.get("id")
    try:
        if body is not None:
            return MergedFile(_with(newer, fields).with_body(body).render(), memory)
        kept_id = _derived_id(memory, older)
        links = _linked(older.fields.get("links"), memory)
        kept = older.with_fields({"id": kept_id, **({"links": links} if links else {})})
        fields["links"] = _linked(fields.get("links"), kept_id)
        return MergedFile(_with(newer, fields).render(), memory, kept.render(), kept_id)
    except AlgError:  # too large together, or front matter that cannot be written
        return None


def merge_fields(base: Mapping[str, Any], newer: Mapping[str, Any], older: Mapping[str, Any]) -> dict[str, Any]:
    """Three-way merge of front matter; where both sides changed a field, `newer` decides what cannot be joined."""
    merged: dict[str, Any] = {}
    for key in [*newer, *(key for key in older if key not in newer)]:
        value = _merge_value(key, base.get(key, _MISSING), newer.get(key, _MISSING), older.get(key, _MISSING))
        if value is not _MISSING:
            merged[key] = value
    return merged


def _merge_value(key: str, base: Any, newer: Any, older: Any) -> Any:
    if key in _ESSENTIAL and (newer is _MISSING or older is _MISSING):
        return older if newer is _MISSING else newer
    if _same(newer, older) or _same(older, base):
        return newer
    if _same(newer, base):
        return older
    if newer is _MISSING or older is _MISSING:
        return older if newer is _MISSING else newer  # an edit beats a removal
    lists = _as_list(newer), _as_list(older)
    if lists[0] is not None and lists[1] is not None:
        return _merge_lists(_as_list(base) or [], lists[0], lists[1])
    if key == "created" and _LONG_AGO not in (_moment(newer), _moment(older)):
        return newer if _moment(newer) <= _moment(older) else older
    mappings = _as_mapping(newer), _as_mapping(older)
    if mappings[0] is not None and mappings[1] is not None and key != "author":
        return merge_fields(_as_mapping(base) or {}, mappings[0], mappings[1])
    return newer


def _as_list(value: object) -> list[Any] | None:
    return cast("list[Any]", value) if isinstance(value, list) else None


def _as_mapping(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _merge_lists(base: Sequence[Any], newer: Sequence[Any], older: Sequence[Any]) -> list[Any]:
    known = {_key(item) for item in base}
    in_newer, in_older = {_key(item) for item in newer}, {_key(item) for item in older}
    kept = [item for item in newer if _key(item) in in_older or _key(item) not in known]
    return kept + [item for item in older if _key(item) not in in_newer and _key(item) not in known]


def _merge_text(base: bytes | None, ours: bytes, theirs: bytes) -> MergedFile | None:
    if base is None or b"\0" in ours or b"\0" in theirs:
        return None
    try:
        before, *sides = (data.decode("utf-8") for data in (base, *sorted((ours, theirs))))
    except UnicodeDecodeError:
        return None
    merged = merge_lines(before, *sides)
    return None if merged is None else MergedFile(merged.encode())


def _document(data: bytes) -> Document | None:
    try:
        return Document.parse(data)
    except AlgError:
        return None


def _with(document: Document, fields: Mapping[str, Any]) -> Document:
    return document.with_fields(fields, removed=[key for key in document.fields if key not in fields])


def _derived_id(memory: object, loser: Document) -> str:
    # The same on every machine that merges these two, so that nobody makes a second copy.
    moment = _moment(loser.fields.get("updated"))
    milliseconds = 0 if moment == _LONG_AGO else max(0, int(moment.timestamp() * 1000))
    return derived_ulid(f"conflict\0{memory}\0{loser.body}", milliseconds=milliseconds)


def _linked(links: object, memory: object) -> list[Any]:
    present = cast("list[Any]", links) if isinstance(links, list) else []
    link = {"rel": CONFLICT_REL, "id": memory}
    if not isinstance(memory, str) or not is_ulid(memory) or link in present:
        return present
    return [*present, link]


def _rank(data: bytes, document: Document | None = None) -> tuple[datetime, bytes]:
    """Files in order of `updated`; equal ones by their bytes. A document that was parsed before saves time."""
    document = document or _document(data)
    return (_moment(document.fields.get("updated")) if document else _LONG_AGO, data)


def _moment(value: object) -> datetime:
    if not isinstance(value, str):
        return _LONG_AGO
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return _LONG_AGO


def _same(one: Any, two: Any) -> bool:
    if one is _MISSING or two is _MISSING:
        return one is two
    return _key(one) == _key(two)


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def beside(path: str, mark: str) -> str:
    """A path in the same folder: `note-ab12cd34.md` with mark `zz99` becomes `note-zz99.md`."""
    name = PurePosixPath(path)
    stem = re.sub(r"-[0-9a-hjkmnp-tv-z]{8}$", "", name.stem) if name.suffix == _SUFFIX else name.stem
    return str(name.with_name(f"{stem}-{mark}{name.suffix}"))
