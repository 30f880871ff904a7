"""What a merge of two memory repos results in: a pure planner, from what both sides changed to what is to be written.

The rules do not depend on which side is ours, so that every clone comes to the same files.

- A memory is known by its id, wherever its file lies; other files by their path. So a move on one side and an edit on
  the other meet in one file; of two moves the newer one counts.
- What both sides changed is merged within (`_merge_files`); where that cannot be, both versions are kept.
- An edit or a move beats a deletion.
- A memory that both sides made under two paths (an import that ran twice) becomes one.
- The list of what is no secret is merged by entry (`_merge_allowances`), also where a side removed it.
- Two files that cannot both be where they are (`_merge_places`) are both kept, one of them beside.

Newer is the file with the later `updated`, of equal ones the one that is greater byte by byte. No file ever gets
conflict markers, and the plan can always be written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Final

from adaptive_llm_gateway.core import ALLOWANCES_FILE
from adaptive_llm_gateway.memory._merge_allowances import merge_allowances
from adaptive_llm_gateway.memory._merge_files import (
    SUFFIX,
    MergedFile,
    Rank,
    beside,
    blob_id,
    id_of,
    merge_files,
    parsed,
    rank,
    text_of,
)
from adaptive_llm_gateway.memory._merge_places import Claim, Place, Places, without

_REGULAR: Final = 0o100644
_FILES: Final = (_REGULAR, 0o100755)


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
    """Two files of which only one could stay: what is at `path` was newer, the other one is kept as `kept_path`.

    Attributes:
        id, kept_id: of the two memories; None for a file that is none.
    """

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
    ours: Changed,
    theirs: Changed,
    read: Callable[[str], bytes],
    *,
    files: Mapping[str, str] | None = None,
    keep: bool = True,
) -> MergePlan:
    """Merge what both sides changed since their common base.

    Args:
        ours, theirs: see `Changed`; without a common base everything is new on both sides.
        read: content of a blob.
        files: path to blob of all files of our tree.
        keep: whether what cannot stay where it was goes beside another file, rather than nowhere. In a tree that is
            only to be compared with it must not be: that it is not in a side's tree would be taken for a deletion.
    """
    return _Planner(ours, theirs, read, files or {}).plan(keep=keep)


@dataclass(slots=True)
class _Item:
    """One memory, or one other file: where it is in each of the three trees."""

    base: str | None = None
    ours: str | None = None
    theirs: str | None = None


@dataclass(slots=True)
class _Result:
    """What became of an item: where it wants to be, and with what content."""

    item: _Item
    path: str
    content: Entry | bytes
    clash: Callable[[int], MergedFile | None] | None = None  # the merge; a number makes another id for the loser


class _Planner:
    def __init__(self, ours: Changed, theirs: Changed, read: Callable[[str], bytes], files: Mapping[str, str]) -> None:
        self._ours, self._theirs, self._read, self._files = ours, theirs, read, files
        self._paths = sorted(ours.keys() | theirs.keys())
        self._ids: dict[Entry, str | None] = {}
        self._ranks: dict[str, Rank] = {}
        self._plan = MergePlan()

    def plan(self, *, keep: bool) -> MergePlan:
        results = [result for item in self._items() for result in self._merge_item(item)]
        places = Places(without(self._files, (self._ours, self._theirs)))
        tree = self._settle(results, places)
        self._keep_losers(results, tree, places)
        if not keep:
            tree = {path: content for path, content in tree.items() if self._our(path) or self._their(path)}
        self._note_writes(tree)
        self._note_renames(results)
        return self._plan

    # --- the three trees, where they differ -----------------------------------------------------------------

    def _base(self, path: str) -> Entry | None:
        return (self._ours.get(path) or self._theirs.get(path) or (None, None))[0]

    def _our(self, path: str) -> Entry | None:
        return self._ours[path][1] if path in self._ours else self._base(path)

    def _their(self, path: str) -> Entry | None:
        return self._theirs[path][1] if path in self._theirs else self._base(path)

    def _id_of(self, path: str, entry: Entry | None) -> str | None:
        if entry is None or not path.endswith(SUFFIX) or entry.mode not in _FILES:
            return None
        if entry not in self._ids:
            self._ids[entry] = id_of(self._read(entry.blob))
        return self._ids[entry]

    def _rank(self, entry: Entry) -> Rank:
        if entry.mode not in _FILES:
            return rank(entry.blob.encode())
        if entry.blob not in self._ranks:
            self._ranks[entry.blob] = rank(self._read(entry.blob))
        return self._ranks[entry.blob]

    # --- which file is which --------------------------------------------------------------------------------

    def _items(self) -> list[_Item]:
        items = {path: _Item(path) for path in self._paths if self._base(path) is not None}
        ours = self._follow(items, self._our)
        theirs = self._follow(items, self._their)
        for path, item in items.items():
            item.ours, item.theirs = ours.get(path), theirs.get(path)
        return [*items.values(), *self._new_items(set(ours.values()), set(theirs.values()))]

    def _follow(self, items: Mapping[str, _Item], entry_at: Callable[[str], Entry | None]) -> dict[str, str]:
        """Base path to the path that the same file has on one side."""
        found: dict[str, str] = {}
        lost: dict[str, str] = {}  # id to base path, of memories that are not where they were
        for path in items:
            now, before = entry_at(path), self._base(path)
            if now is not None and (now == before or self._id_of(path, now) == self._id_of(path, before)):
                found[path] = path
            elif (memory := self._id_of(path, before)) is not None:
                lost.setdefault(memory, path)
        stayed = set(found.values())
        for path in self._paths if lost else ():
            now = entry_at(path)
            if now is None or path in stayed:
                continue
            if (memory := self._id_of(path, now)) is not None and memory in lost:
                found[lost.pop(memory)] = path
        occupied = set(found.values())
        for path in items:
            now = None if path in found or path in occupied else entry_at(path)
            if now is not None and None in (self._id_of(path, now), self._id_of(path, self._base(path))):
                found[path] = path  # it got its first id, or lost it
        return found

    def _new_items(self, ours: set[str], theirs: set[str]) -> list[_Item]:
        """Files that are in the base nowhere; those of both sides that are the same one together."""
        mine = [path for path in self._paths if self._our(path) is not None and path not in ours]
        other = [path for path in self._paths if self._their(path) is not None and path not in theirs]
        pairs: dict[str, str] = {}
        both = set(mine) & set(other)
        for path in sorted(both):
            found = self._id_of(path, self._our(path)), self._id_of(path, self._their(path))
            if found[0] == found[1] or None in found:
                pairs[path] = path
        by_id = {
            memory: path
            for path in (reversed(other) if mine else ())
            if path not in pairs and (memory := self._id_of(path, self._their(path)))
        }
        for path in mine:
            if path not in pairs and (memory := self._id_of(path, self._our(path))) in by_id:
                pairs[path] = by_id.pop(memory)
        paired = set(pairs.values())
        return [
            *(_Item(None, path, pairs.get(path)) for path in mine),
            *(_Item(None, None, path) for path in other if path not in paired),
        ]

    # --- one item -------------------------------------------------------------------------------------------

    def _merge_item(self, item: _Item) -> list[_Result]:
        base = self._base(item.base) if item.base is not None else None
        mine = self._our(item.ours) if item.ours is not None else None
        other = self._their(item.theirs) if item.theirs is not None else None
        if ALLOWANCES_FILE in (item.ours, item.theirs):
            merged = self._merge_allowances(base, mine, other)
            if merged is not None:
                self._plan.decisions.append(f"merged {ALLOWANCES_FILE} by entry")
                return [_Result(item, ALLOWANCES_FILE, merged)]
        if mine is None or other is None or item.ours is None or item.theirs is None:
            kept, path = (mine, item.ours) if mine is not None else (other, item.theirs)
            if kept is None or path is None or (path == item.base and kept == base):
                return []
            if base is not None:
                how = "edited" if path == item.base else "moved"
                self._plan.decisions.append(f"kept {path}: {how} on one side, deleted on the other")
            return [_Result(item, path, kept)]
        path = self._merge_path(item.base, (item.ours, mine), (item.theirs, other))
        return self._merge_contents(item, path, base, mine, other)

    def _merge_allowances(self, base: Entry | None, mine: Entry | None, other: Entry | None) -> bytes | None:
        """The merged list; None where one side's is simply taken, or a side's is no list."""
        if mine == other or base in (mine, other) or any(e is not None and e.mode not in _FILES for e in (mine, other)):
            return None
        texts = (self._read(entry.blob) if entry is not None else None for entry in (base, mine, other))
        return merge_allowances(*texts)

    def _merge_path(self, base: str | None, mine: tuple[str, Entry], other: tuple[str, Entry]) -> str:
        if other[0] in (mine[0], base):
            return mine[0]
        if mine[0] == base:
            return other[0]
        _, path = max((self._rank(entry), path) for path, entry in (mine, other))
        if base is None:
            self._plan.decisions.append(
                f"joined {' and '.join(sorted((mine[0], other[0])))}: one memory, created twice"
            )
        else:
            self._plan.decisions.append(f"moved {base} to {path}: the newer of two moves")
        return path

    def _merge_contents(self, item: _Item, path: str, base: Entry | None, mine: Entry, other: Entry) -> list[_Result]:
        if mine.mode not in _FILES or other.mode not in _FILES:
            chosen = mine if other in (mine, base) else other if mine == base else None
            return self._keep_both(item, path, mine, other) if chosen is None else [_Result(item, path, chosen)]
        mode = _merge_mode(base, mine, other)
        if mine.blob == other.blob or (base and other.blob == base.blob):
            return [_Result(item, path, Entry(mode, mine.blob))]
        if base and mine.blob == base.blob:
            return [_Result(item, path, Entry(mode, other.blob))]
        before = self._read(base.blob) if base and base.mode in _FILES else None
        again = partial(merge_files, before, self._read(mine.blob), self._read(other.blob))
        merged = again(salt=0)
        if merged is None:
            return self._keep_both(item, path, mine, other)
        details = "".join(f"; {words}" for words in merged.decided)
        self._plan.decisions.append(f"merged {path}: changed on both sides{details}")
        return [_Result(item, path, merged.data, (lambda salt: again(salt=salt)) if merged.kept else None)]

    def _keep_both(self, item: _Item, path: str, mine: Entry, other: Entry) -> list[_Result]:
        newer, older = (mine, other) if self._rank(mine) >= self._rank(other) else (other, mine)
        return [_Result(item, path, newer), _Result(_Item(), path, older)]

    # --- where it goes --------------------------------------------------------------------------------------

    def _claim(self, result: _Result) -> Claim:
        content, item, path = result.content, result.item, result.path
        trees = (("base", item.base), ("ours", item.ours), ("theirs", item.theirs))
        sides = frozenset(name for name, at in trees if at == path)
        if isinstance(content, Entry):
            return Claim(path, content.blob, lambda: self._rank(content), lambda: self._id_of(path, content), sides)
        return _claim_of(path, content, sides)

    def _settle(self, results: list[_Result], places: Places) -> dict[str, Entry | bytes]:
        """Path to content; the results' paths become what they got."""
        claims = [self._claim(result) for result in results]
        tree: dict[str, Entry | bytes] = {}
        taken = places.settle(claims)
        at = {place.path: claim for place, claim in zip(taken, claims, strict=True) if place.yields_to is None}
        for result, claim, place in zip(results, claims, taken, strict=True):
            if place.yields_to is not None:
                other = at.get(place.yields_to)
                self._plan.conflicts.append(
                    Conflict(place.yields_to, other.id() if other else None, place.path, claim.id())
                )
                self._plan.decisions.append(f"kept {claim.path} as {place.path}: {_why(claim, place, other)}")
            if not place.is_there:
                tree[place.path] = result.content
            result.path = place.path
        return tree

    def _keep_losers(self, results: list[_Result], tree: dict[str, Entry | bytes], places: Places) -> None:
        clashes = [result for result in results if result.clash is not None]
        clashes.sort(key=lambda result: result.path)
        ids: dict[str | None, str] = {}
        for result in sorted(results, key=lambda result: result.path) if clashes else ():
            ids.setdefault(self._claim(result).id(), result.path)
        for result in clashes:
            self._keep_loser(result, ids, tree, places)

    def _keep_loser(
        self, result: _Result, ids: dict[str | None, str], tree: dict[str, Entry | bytes], places: Places
    ) -> None:
        for salt in count():
            merged = result.clash(salt) if result.clash else None
            if merged is None or merged.kept is None or merged.kept_id is None:
                return
            path = self._path_of(merged.kept_id, ids, tree, places)
            if path is None:
                wanted = beside(result.path, merged.kept_id[-8:].lower())
                path = places.settle([_claim_of(wanted, merged.kept)])[0].path
                tree[path] = merged.kept
                ids[merged.kept_id] = path
            else:
                present = self._data_at(path, tree, places)
                joined = merge_files(None, present, merged.kept) if _text_of(present) == _text_of(merged.kept) else None
                if joined is None or joined.kept is not None:  # edited since: what is to be kept needs another id
                    continue
                if joined.data != present:
                    tree[path] = joined.data
            tree[result.path] = merged.data
            self._plan.conflicts.append(Conflict(result.path, merged.id, path, merged.kept_id))
            self._plan.decisions.append(f"kept the older text of {result.path} as {path}: the texts clash")
            return

    def _path_of(
        self, memory: str, ids: Mapping[str | None, str], tree: Mapping[str, Entry | bytes], places: Places
    ) -> str | None:
        """Where in the merged tree a memory is."""
        if memory in ids:
            return ids[memory]
        found = places.with_tail(memory[-8:].lower())
        return next((path for path in found if id_of(self._data_at(path, tree, places)) == memory), None)

    def _data_at(self, path: str, tree: Mapping[str, Entry | bytes], places: Places) -> bytes:
        content = tree.get(path)
        return content if isinstance(content, bytes) else self._read(places.blob_at(path))

    def _note_writes(self, tree: Mapping[str, Entry | bytes]) -> None:
        for path in sorted({*self._paths, *tree}):
            content, present = tree.get(path), self._our(path)
            if isinstance(content, bytes) and present == Entry(_REGULAR, blob_id(content)):
                continue
            if content != present:
                self._plan.writes[path] = content

    def _note_renames(self, results: list[_Result]) -> None:
        writes = self._plan.writes
        for result in results:
            old, new = result.item.base, result.path
            if old and old == result.item.ours != result.item.theirs == new and writes.get(old, 0) is None:
                self._plan.renames[new] = old


def _merge_mode(base: Entry | None, mine: Entry, other: Entry) -> int:
    if base is not None and base.mode in (mine.mode, other.mode):
        return other.mode if mine.mode == base.mode else mine.mode
    return min(mine.mode, other.mode)


def _claim_of(path: str, data: bytes, sides: frozenset[str] = frozenset()) -> Claim:
    memory = id_of(data) if path.endswith(SUFFIX) else None
    return Claim(path, blob_id(data), lambda: rank(data), lambda: memory, sides)


def _why(claim: Claim, place: Place, other: Claim | None) -> str:
    if place.yields_to == claim.path:
        return "another file is there" + (", and newer" if other and other.rank() > claim.rank() else "")
    if place.yields_to == claim.path + "/":
        return "a folder is there"
    return f"{place.yields_to} cannot be told from it on every file system"


def _text_of(data: bytes) -> str | None:
    document = parsed(data)
    return text_of(document) if document else None
