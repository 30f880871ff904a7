"""Bringing index and git up to what lies on disk: after a crash, after edits by hand, and from nothing."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from adaptive_llm_gateway.core import AlgError, SecretScanner
from adaptive_llm_gateway.memory._files import FileBatch, read_file
from adaptive_llm_gateway.memory._frontmatter import MAX_FILE
from adaptive_llm_gateway.memory._history import Told
from adaptive_llm_gateway.memory._holding import aside, kept_edits
from adaptive_llm_gateway.memory._index_rows import PendingChange
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._raising import EditsToTell, PersonalRule
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_rules import RepoRules, level_of
from adaptive_llm_gateway.memory._requests import FileChange, ReindexReport, Skipped
from adaptive_llm_gateway.memory._tree import Loaded, Stat, compare, differing, is_memory_path, load_all, scan
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Author, Change, Operation
from adaptive_llm_gateway.memory._writer import Writer, pending_of

_log = logging.getLogger(__name__)
_BATCH = 200
_LOOKED_UP = 50  # paths that are looked up one by one, rather than the whole tree listed
_VANISHED = "held_back"  # as indexes have it
_MASS_LOSS = 20  # more files than this, and more than half, gone at once: not believed without a word from a person


class Reconciler:
    """Looks at the tree and takes in what changed. All methods but `look` run in the writer's thread.

    Args:
        editor: who is named for edits that no client made.
        rules: what the repo takes.
    """

    def __init__(
        self,
        *,
        root: Path,
        scratch: Path,
        index: MemoryIndex,
        repo: MemoryRepo,
        writer: Writer,
        editor: Author,
        rules: RepoRules | None = None,
        personal: PersonalRule | None = None,
    ) -> None:
        self._rules = rules or RepoRules()
        self._root = root
        self._scratch = scratch
        self._index = index
        self._repo = repo
        self._writer = writer
        self._editor = editor
        self._personal = EditsToTell(personal) if personal is not None else None
        self._skipped: dict[str, Skipped] = {}
        self._vanished: frozenset[str] = _paths(index.meta_get(_VANISHED))
        self.progress: tuple[int, int] | None = None

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Files that are not in the index, and why."""
        return tuple(sorted(self._skipped.values(), key=lambda item: item.path))

    @property
    def personal(self) -> str | None:
        """What there is to say of personal data that came in by hand."""
        return self._personal.notice(self._index.get) if self._personal is not None else None

    @property
    def vanished(self) -> tuple[str, ...]:
        """Memories whose files vanished all at once; they stay in the index and in git until somebody decides."""
        return tuple(path for path in sorted(self._vanished) if self._is_gone(path))

    def recover(self, types: TypeRegistry, scanner: SecretScanner) -> None:
        """Take in what changed while nobody looked, and commit what a crash left uncommitted."""
        journal = self._index.pending()
        self.take_in(types, scanner)
        self._commit_leftovers(types, scanner, journal)

    def look(self, types: TypeRegistry, *, step: Callable[[], None] = lambda: None) -> frozenset[str] | None:
        """What `take_in` may have to look at; None: everything. For any thread, while the writer goes on.

        What is written meanwhile may be named, too, and a name too many costs one more look.

        Args:
            step: called after each folder.
        """
        skipped: dict[str, Skipped] = {}

        def skip(item: Skipped) -> None:
            skipped[item.path] = item

        indexed = self._index.files()
        differences = differing(self._root, types, indexed, skip=skip, step=step)
        changed = frozenset(differences.changed)
        if skipped != {path: item for path, item in self._skipped.copy().items() if path not in changed}:
            return None
        if any(
            is_memory_path(path, types) and path not in self._vanished and self._is_gone(path)
            for path in self._repo.work_files().keys() - indexed.keys() - changed
        ):  # somebody's git brought it, and it was deleted before it was seen here
            return None
        return changed.union(path for path in differences.gone if path not in self._vanished)

    def take_in(
        self,
        types: TypeRegistry,
        scanner: SecretScanner,
        *,
        only: Iterable[str] | None = None,
        accept_loss: bool = False,
        told: Mapping[str, Told] = MappingProxyType({}),
    ) -> int:
        """Compare tree and index and take the differences in; returns how many files that were.

        Args:
            only: look at these paths alone.
            accept_loss: believe it when most files are gone.
            told: what commits that are not ours say of the files.
        """
        if only is None:
            self._skipped = {}
            indexed = self._index.files()
            on_disk = scan(self._root, types, skip=self._skip)
        else:
            wanted = [path for path in only if is_memory_path(path, types)]
            indexed = self._known(wanted)
            on_disk = self._stats(wanted)
            for path in wanted:
                self._skipped.pop(path, None)
            if len(on_disk) < len(wanted):  # what is gone may have stood in the way of a copy
                on_disk |= self._stats(self._skipped)
                self._skipped = {}
        differences = compare(on_disk, indexed)
        loaded = list(self._load(differences.changed, types, scanner))
        moved, present = {item.record.id for item in loaded}, {item.record.path for item in loaded}
        gone = {path: indexed[path][3] for path in differences.gone}
        for item in loaded:
            known = self._index.get(item.record.id)
            if known is not None and known.path != item.record.path:
                gone[known.path] = known.id
        left_out = self._repo.left_out() if gone else ()
        for path in [path for path, id_ in gone.items() if path in left_out and id_ not in moved]:
            del gone[path]
        for path in [path for path in gone if not self._is_gone(path)]:
            del gone[path]
            if path not in self._skipped and path not in present:
                self._skip(Skipped(path, "it is no longer in the folder of a memory type"))
        if not accept_loss:
            gone = {path: id_ for path, id_ in gone.items() if id_ in moved or path not in self._vanished}
        lost = [path for path, identifier in gone.items() if identifier not in moved]
        if not accept_loss and self._is_mass_loss(len(lost)):
            lost = self._not_deleted(lost)
        if not accept_loss and self._is_mass_loss(len(lost)):
            self._keep_vanished(lost)
            held = set(lost)
            gone = {path: identifier for path, identifier in gone.items() if path not in held}
        elif accept_loss and only is None:
            self._keep_vanished([])
        changes: list[FileChange] = []
        for path, identifier in gone.items():
            record = self._index.get(identifier)
            if record is None or record.path != path:
                continue
            stays = identifier in moved
            said = told.get(path)
            author = Author(said.agent) if said is not None and said.operation == "delete" else self._editor
            reason = said.reason if said is not None else None
            change = Change(path, None, "edit" if stays else "delete", identifier, record.title, author, reason)
            changes.append(FileChange(change, None))
        changes += self._settle_adopted(loaded, indexed, told)
        self._absorb(self._beside_held(changes, types, scanner))
        return len(changes)

    def rebuild(
        self,
        types: TypeRegistry,
        scanner: SecretScanner,
        journal: Sequence[PendingChange] = (),
        *,
        accept_loss: bool = False,
    ) -> ReindexReport:
        """Forget the index and read every file again."""
        began = time.monotonic()
        self._skipped = {}
        on_disk = scan(self._root, types, skip=self._skip)
        self.progress = (0, len(on_disk))
        before = self._index.files()
        told = self._repo.last_told()
        self._index.reset()
        known: dict[str, str] = {}
        # Of two files with one id the one that had it keeps it.
        paths = sorted(on_disk, key=lambda path: (path not in before, path))
        try:
            for start in range(0, len(paths), _BATCH):
                batch = paths[start : start + _BATCH]
                loaded = list(self._load(batch, types, scanner, known=known))
                known.update({item.record.id: item.record.path for item in loaded})
                settled = self._settle_adopted(loaded, {}, told)
                self._index.apply([change.record for change in settled if change.record is not None])
                self.progress = (start + len(batch), len(paths))
        finally:
            self.progress = None
        self._commit_leftovers(types, scanner, journal, accept_loss=accept_loss)
        return ReindexReport(len(known), self.skipped, time.monotonic() - began)

    # -- within ------------------------------------------------------------------------------------------------

    def _load(
        self, paths: Iterable[str], types: TypeRegistry, scanner: SecretScanner, *, known: dict[str, str] | None = None
    ) -> Iterable[Loaded]:
        def taken(identifier: str) -> str | None:
            if known is not None:
                return known.get(identifier)
            record = self._index.get(identifier)
            return record.path if record else None

        loaded = load_all(self._root, paths, types, scanner, author=self._editor, taken=taken, skip=self._skip)
        return filter(self._may_be_here, loaded)

    def _may_be_here(self, loaded: Loaded) -> bool:
        """Whether the repo takes it; what HEAD has came from elsewhere, or was allowed then."""
        record = loaded.record
        problem = self._rules.why_refused(record.trust)
        if problem is None or self._repo.tree_files().get(record.path) == record.version:
            return True
        self._skip(Skipped(record.path, problem))
        return False

    def _settle_adopted(
        self, loaded: Sequence[Loaded], indexed: dict[str, tuple[int, int, str, str]], told: Mapping[str, Told]
    ) -> list[FileChange]:
        """Write adopted files back, and turn what was loaded into changes; same content is only noted in the index."""
        files = FileBatch(self._root, self._scratch)
        changes: list[FileChange] = []
        for item in loaded:
            record = item.record
            if item.adopted:
                try:
                    files.put(record.path, item.data)
                    record = replace(record, mtime_ns=(self._root / record.path).stat().st_mtime_ns)
                except (AlgError, FileNotFoundError) as error:
                    self._skip(Skipped(record.path, str(error)))
                    continue
            said = told.get(record.path)
            record = replace(record, reason=said.reason if said is not None else None)
            known = indexed.get(record.path)
            # A complete new file was most likely written by a client whose hub died before it could say so.
            operation: Operation = "edit" if known is not None or item.adopted else "recover"
            author = record.author if operation == "recover" else self._editor
            change = Change(record.path, item.data, operation, record.id, record.title, author, None)
            changes.append(FileChange(change, record))
        files.settle()
        files.forget()
        return changes

    def _absorb(self, changes: Sequence[FileChange]) -> None:
        """Into the index; to git what differs from HEAD there (a touched file with the same bytes does not)."""
        if not changes:
            return
        few = len(changes) <= _LOOKED_UP and not self._repo.quarantine.held
        committed = self._repo.versions(change.change.path for change in changes) if few else self._repo.work_files()
        left = {change.change.memory_id for change in changes if change.change.data is None}  # or moved
        news = [
            change
            for change in changes
            if change.change.data is None
            or change.change.memory_id in left
            or committed.get(change.change.path) != MemoryRepo.blob_id(change.change.data)
        ]
        fresh = {id(change) for change in news}
        self._index.apply(
            [change.record for change in changes if id(change) not in fresh and change.record is not None]
        )
        self._writer.absorb(news)
        for change in news:
            self._note_personal(change, committed)

    def _note_personal(self, change: FileChange, committed: Mapping[str, str]) -> None:
        record, data = change.record, change.change.data
        if self._personal is None or record is None or data is None or change.change.operation != "edit":
            return
        version = committed.get(record.path)
        if version is None:
            self._personal.note(record, data.decode("utf-8"), before=None, level_before=None)
            return
        try:
            before = self._repo.read_blob(version)
        except AlgError:  # a partial clone may lack it
            before = b""
        level = level_of(record.path, before)[1]
        self._personal.note(record, data.decode("utf-8"), before=before.decode("utf-8", "replace"), level_before=level)

    def _commit_leftovers(
        self,
        types: TypeRegistry,
        scanner: SecretScanner,
        journal: Sequence[PendingChange],
        *,
        accept_loss: bool = False,
    ) -> None:
        """Commit what is indexed but differs from HEAD, with the agent and reason that the journal kept."""
        told = {(entry.path, entry.memory_id): entry for entry in journal}
        committed = self._repo.work_files()
        held = self._repo.quarantine.held
        edited: list[FileChange] = []
        indexed = self._index.files()
        waiting = {entry.path for entry in self._index.pending()} - {entry.path for entry in journal}
        changes: list[Change] = []
        for path, (_, _, version, identifier) in indexed.items():
            if committed.get(path) == version or path in waiting:
                continue
            data = read_file(self._root, path, limit=MAX_FILE)
            if data is None or MemoryRepo.blob_id(data) != version:
                continue  # gone or changed since, perhaps to something refused: the next look tells
            record = self._index.get(identifier)
            if path in held:
                change = Change(path, data, "edit", identifier, record.title if record else path, self._editor)
                edited.append(FileChange(change, record))
                continue
            entry = told.get((path, identifier))
            author = entry.author if entry else record.author if record else self._editor
            operation: Operation = entry.operation if entry else "recover"
            title = record.title if record else path
            changes.append(Change(path, data, operation, identifier, title, author, entry.reason if entry else None))
        memories = [path for path in committed if is_memory_path(path, types)]
        # What is there but no memory stays: `skipped` says why it is none.
        gone = [path for path in memories if path not in indexed and path not in waiting and self._is_gone(path)]
        left_out = self._repo.left_out() if gone else ()
        gone = [path for path in gone if path not in left_out or path in held]
        deleted = {entry.path: entry for entry in journal if entry.operation == "delete"}
        unasked = [path for path in gone if path not in deleted]
        if accept_loss:
            self._keep_vanished([])
        elif len(unasked) > _MASS_LOSS and len(unasked) > len(memories) // 2:
            self._keep_vanished(unasked)
        for path in gone:
            if path in self._vanished:
                continue
            if path in held:
                edited.append(FileChange(Change(path, None, "delete", "", path, self._editor), None))
                continue
            entry = deleted.get(path)
            author = entry.author if entry else self._editor
            title = entry.title if entry else path
            identifier = entry.memory_id if entry else ""
            changes.append(Change(path, None, "delete", identifier, title, author, entry.reason if entry else None))
        self._index.clear_pending([entry.seq for entry in journal])
        if changes:
            entries = self._index.apply(pending=[pending_of(change) for change in changes])
            self._writer.to_commit(changes, [], entries)
        self._absorb(self._beside_held(edited, types, scanner))

    def _beside_held(
        self, changes: Sequence[FileChange], types: TypeRegistry, scanner: SecretScanner
    ) -> Sequence[FileChange]:
        """Edits by hand where a newer version is held back: a commit of them would undo what nobody here has seen.

        The text is found where it is, and goes to git as a memory beside it; the quarantine knows what lies there.
        """
        quarantine = self._repo.quarantine
        edits = [change for change in changes if change.change.path in quarantine.held]
        if not edits:
            return changes
        files = FileBatch(self._root, self._scratch)
        present: dict[str, str | None] = {}
        beside: list[str] = []
        for edit in edits:
            path, data = edit.change.path, edit.change.data
            held = quarantine.held[path]
            present[path] = None if data is None else MemoryRepo.blob_id(data)
            if data is None or (held.kept is not None and held.kept.blob == present[path]):
                continue
            name, _, text = aside(path, data, held.entry.blob if held.entry is not None else held.commit)
            try:
                files.put(name, text)
                beside.append(name)
            except AlgError as error:
                self._skip(Skipped(name, str(error)))
        files.settle()
        files.forget()
        self._repo.set_quarantine(kept_edits(quarantine, present))
        known = self._known(beside)
        moved = {change.record.id for change in changes if change.record is not None and change not in edits}
        self._index.apply(
            [edit.record for edit in edits if edit.record is not None],
            [edit.change.memory_id for edit in edits if edit.record is None and edit.change.memory_id not in moved],
        )
        copies = self._settle_adopted(list(self._load(beside, types, scanner)), known, {})
        return [*(change for change in changes if change not in edits), *copies]

    def _keep_vanished(self, paths: Sequence[str]) -> None:
        """Remember, also for the next start, files whose disappearance is not taken for deletion."""
        if paths:
            _log.warning("%d memory files are gone at once; not taken for deletions", len(paths))
        self._vanished = frozenset([*paths, *self.vanished]) if paths else frozenset()
        self._index.meta_set(_VANISHED, json.dumps(sorted(self._vanished)) if paths else None)

    def _known(self, paths: Iterable[str]) -> dict[str, tuple[int, int, str, str]]:
        records = [self._index.by_path(path) for path in paths]
        return {
            record.path: (record.mtime_ns, record.size, record.version, record.id)
            for record in records
            if record is not None
        }

    def _not_deleted(self, paths: Sequence[str]) -> list[str]:
        """Those of the paths that HEAD has, or that wait for their commit; the others a merge has taken away."""
        committed, waiting = self._repo.work_files(), {entry.path for entry in self._index.pending()}
        return [path for path in paths if path in committed or path in waiting]

    def _is_mass_loss(self, count: int) -> bool:
        return count > _MASS_LOSS and count > self._index.statistics()["memories"] // 2

    def _is_gone(self, path: str) -> bool:
        try:
            (self._root / path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # it may be there
            return False
        return False

    def _stats(self, paths: Iterable[str]) -> dict[str, Stat]:
        found: dict[str, Stat] = {}
        for path in paths:
            try:
                status = (self._root / path).lstat()
            except OSError:
                continue
            found[path] = Stat(status.st_mtime_ns, status.st_size)
        return found

    def _skip(self, skipped: Skipped) -> None:
        self._skipped[skipped.path] = skipped


def _paths(text: str | None) -> frozenset[str]:
    found: list[str] = json.loads(text) if text else []
    return frozenset(found)
