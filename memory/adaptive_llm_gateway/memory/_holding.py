"""Holding back what a pull brings and must not come in, looking at it again, and giving it up.

The plan is made before anything is merged: which files of theirs fail (`_sync_checks`), what goes into the commit all
the same, and what the work tree keeps in its place. A file that fails is never merged with ours, for what is in it may
be a secret: the commit gets it as the remote has it, and what was written here goes beside it as a memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import pygit2
from pygit2.enums import ObjectType

from adaptive_llm_gateway.core import AlgError, NotFound, derived_ulid
from adaptive_llm_gateway.memory._files import read_file
from adaptive_llm_gateway.memory._frontmatter import MAX_FILE, Document
from adaptive_llm_gateway.memory._git import run_git
from adaptive_llm_gateway.memory._merge import Conflict, Entry, MergePlan
from adaptive_llm_gateway.memory._merge_files import CONFLICT_REL, SUFFIX, beside, id_of
from adaptive_llm_gateway.memory._quarantine import MOST_IN_HISTORY, Held, InHistory, Quarantine, harmless
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_checks import is_plain_path
from adaptive_llm_gateway.memory._sync_checks import (
    MAX_OTHER,
    HistoryFinding,
    Judge,
    Problem,
    SecretCheck,
    SortedPull,
    find_collisions,
)
from adaptive_llm_gateway.memory._sync_errors import sync_error
from adaptive_llm_gateway.memory._tree_diff import FOLDER, Side, TreeFiles, is_file
from adaptive_llm_gateway.memory._values import Author, Change

_MOST_ASKED: Final = 20  # files whose commit is looked for; of more, the remote's newest one is named


@dataclass(frozen=True, slots=True)
class Released:
    """What may come in now: the quarantine of this HEAD as it was, and without it."""

    head: str
    before: Quarantine
    after: Quarantine

    def without(self, waiting: Collection[str]) -> Quarantine:
        """What is held back then, where what is at these paths, or belongs to it, has to wait."""
        held = {
            path: item
            for path, item in self.before.held.items()
            if path in self.after.held or path in waiting or item.of in waiting
        }
        more = {item.of: self.before.held[item.of] for item in held.values() if item.of}
        return replace(self.after, held=held | more)


class Quarantining:
    """The quarantine of one memory repo.

    Args:
        secrets: what files are scanned with.
        mask: a text without its secrets.
        rules: what the checks depend on beside the files.
        timeout: seconds for asking git who brought a file.
    """

    def __init__(
        self,
        repo: MemoryRepo,
        secrets: SecretCheck,
        *,
        mask: Callable[[str], str],
        rules: Callable[[], object],
        timeout: float,
    ) -> None:
        self._repo, self._secrets, self._mask, self._rules, self._timeout = repo, secrets, mask, rules, timeout
        self._judge = Judge(repo, secrets)
        self._known_rules: object = rules()
        self._looked: tuple[str, object, Quarantine] | None = None

    def begin(self, ours: str, theirs: str) -> Holding:
        """What is to be held back of a pull of `theirs` into `ours`."""
        self.follow_rules()
        return Holding(self._repo, self._judge, self._secrets, self._mask, self._timeout, ours, theirs)

    def follow_rules(self) -> object:
        """What the checks depend on now; where that is something else, what was found clean is looked at again."""
        rules = self._rules()
        if rules is not self._known_rules:
            self._known_rules = rules
            self._secrets.forget()
        return rules

    def look_again(self) -> Released | None:
        """What is held back and passes now; looked at once for each HEAD, each set of rules, each quarantine."""
        quarantine, head = self._repo.quarantine, self._repo.head()
        if not quarantine or head is None:
            return None
        rules = self.follow_rules()
        looked = self._looked
        if looked is not None and looked[0] == head and looked[1] is rules and looked[2] == quarantine:
            return None
        self._looked = (head, rules, quarantine)
        work = self._repo.work_files()
        passing = {
            path
            for path, item in quarantine.held.items()
            if item.entry is not None and self._judge.problem(path, item.entry, new=path not in work) is None
        }
        passing -= find_collisions([path for path in passing if path not in work], work.keys()).keys()
        held = {path: item for path, item in quarantine.held.items() if path not in passing and item.of not in passing}
        history = tuple(item for item in quarantine.history if self._still(item))
        if len(held) == len(quarantine.held) and len(history) == len(quarantine.history):
            return None
        return Released(head, quarantine, Quarantine(held, history))

    def _still(self, item: InHistory) -> bool:
        try:
            return self._secrets.blob(item.object, item.where) is not None
        except (KeyError, ValueError, pygit2.GitError):
            return False

    def drop(self, paths: Sequence[str], author: Author) -> tuple[Held, ...]:
        """See `Sync.drop`."""
        repo = self._repo
        quarantine = repo.quarantine
        chosen: dict[str, Held] = {}
        for asked in paths:
            found = [item for item in quarantine.held.values() if asked in (item.path, item.shown)]
            if not found:
                raise NotFound(
                    f"nothing is held back at {harmless(asked)!r}",
                    hint="`alg memory quarantine` lists what is.",
                    path=harmless(asked),
                )
            for item in found:
                chosen[item.path] = item
                if item.of is not None:
                    chosen[item.of] = quarantine.held[item.of]
        chosen |= {path: item for path, item in quarantine.held.items() if item.of in chosen}
        for item in chosen.values():
            if item.entry is not None and item.entry.mode == FOLDER:
                raise sync_error("unsafe_incoming", f"{item.shown!r} is a folder that only git itself can remove")
        changes: list[Change] = []
        for path, item in chosen.items():
            data = None if item.kept is None else self._present(path, item.kept)
            operation = "delete" if data is None else "restore"
            # A secret may be in the name: in the message of our commit it would be one that must not go out.
            about = (_memory_of(data) or "", item.shown, author, "held back and given up", item.shown)
            changes.append(Change(path, data, operation, *about))
        left = [self._left_of(held) for held in chosen.values()]
        with repo.writing():
            repo.commit(changes)
            found = repo.quarantine
            known = {item.object for item in found.history}
            more = (each for each in left if each is not None and each.object not in known)
            repo.set_quarantine(replace(found, history=(*found.history, *more)[-MOST_IN_HISTORY:]))
        return tuple(chosen.values())

    def _left_of(self, held: Held) -> InHistory | None:
        """What the history has of something that is given up, where that is a secret."""
        if held.kind != "secret" or held.entry is None:
            return None
        item = InHistory(held.commit, held.shown, held.why, held.since, held.entry.blob)
        return item if self._still(item) else None

    def _present(self, path: str, kept: Entry) -> bytes | None:
        data = read_file(self._repo.path, path, limit=MAX_OTHER) if is_plain_path(path) else None
        return self._repo.read_blob(kept.blob) if data is None else data


class Holding:
    """What one pull holds back; see `Quarantining.begin`."""

    def __init__(
        self,
        repo: MemoryRepo,
        judge: Judge,
        secrets: SecretCheck,
        mask: Callable[[str], str],
        timeout: float,
        ours: str,
        theirs: str,
    ) -> None:
        self._repo, self._judge, self._secrets, self._mask, self._timeout = repo, judge, secrets, mask, timeout
        self._ours, self._theirs = ours, theirs
        self.before = repo.quarantine_at(ours)
        self.in_tree = repo.tree_files(ours)
        """Every file of our tree, path to blob."""
        self._work = self.before.overlay(dict(self.in_tree))
        self._problems: dict[str, Problem] = {}
        self._moved: dict[str, str] = {}
        self._history: tuple[InHistory, ...] = self.before.history
        self._sources: dict[str, tuple[str, str]] = {}
        self._now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def problem(self, path: str, entry: Entry) -> Problem | None:
        """Why a file of theirs is held back; None where it is not."""
        found = self._judge.problem(path, entry, new=path not in self._work)
        if found is not None:
            self._problems[path] = found
        return found

    def read(self, blob: str) -> bytes:
        """A file's content for the merge; nothing where it is none, or of no bearable size."""
        try:
            kind, size = self._repo.thread_repo.odb.read_header(blob)
        except (KeyError, ValueError, pygit2.GitError):
            return b""
        return self._repo.read_blob(blob) if kind == ObjectType.BLOB and size <= MAX_OTHER else b""

    def set_aside(self, incoming: SortedPull, ours: Side, plan: MergePlan) -> dict[str, Entry]:
        """Put what goes into the commit unmerged in its place, and what we wrote there beside it.

        Args:
            ours: all of our side's changes; without a common base none of them is more than a start.

        Returns:
            What the merged tree gets as theirs has it, by path.
        """
        carried: dict[str, Entry] = {}
        for path, entry in incoming.carried.items():
            mine = ours[path][1] if path in ours else None
            if path in incoming.problems and mine is not None and path not in self.before.held:
                name, conflict, data = aside(path, self.read(mine.blob), entry.blob)
                plan.writes[name] = data
                plan.conflicts.append(conflict)
                plan.decisions.append(f"kept our text of {path} as {name}: theirs is held back")
            place = self._free(path, entry, plan)
            carried[place] = entry
            if place != path and path in self._problems:
                self._problems[place] = self._problems.pop(path)
        return carried

    def carry_choice(self, incoming: SortedPull, plan: MergePlan) -> dict[str, Entry]:
        """Where one side's files are chosen as a whole: what of them is carried, taken out of the plan."""
        odd = {
            path: content
            for path, content in plan.writes.items()
            if isinstance(content, Entry)
            and (path in incoming.problems or not is_plain_path(path) or not is_file(content))
        }
        for path in odd:
            del plan.writes[path]
        return odd

    def _free(self, path: str, entry: Entry, plan: MergePlan) -> str:
        """`path`, or a name beside it where a file of ours takes the place of one of its folders, or the reverse."""
        gone = {name for name, content in plan.writes.items() if content is None}
        files = (self.in_tree.keys() | {name for name, content in plan.writes.items() if content is not None}) - gone
        parts = path.split("/")
        for count in range(1, len(parts)):
            if (above := "/".join(parts[:count])) in files:
                return "/".join([f"{above}-{entry.blob[:8]}", *parts[count:]])
        taken = plan.writes.get(path) is not None or any(name.startswith(f"{path}/") for name in files)
        return f"{path}-{entry.blob[:8]}" if taken else path

    def close(self, theirs: Side, plan: MergePlan, *, fast_forward: bool) -> None:
        """Look at names together, at the history between, and for who brought what is held back."""
        if fast_forward:
            coming = {path for path, (_, new) in theirs.items() if new is not None}
            gone = {path for path, (_, new) in theirs.items() if new is None}
        else:
            coming = {path for path, content in plan.writes.items() if content is not None}
            gone = {path for path, content in plan.writes.items() if content is None}
        fresh = {
            path
            for path in coming
            if path not in self._work and path not in self._problems and theirs.get(path, (None, None))[1] is not None
        }
        if fresh:
            present = (self._work.keys() - gone) | (coming - fresh - self._problems.keys())
            self._problems |= find_collisions(fresh, present)
        self._find_moved(theirs, gone)
        tip = {new.blob for _, new in theirs.values() if new is not None}
        self._find_in_history(self._secrets.in_history(self._theirs, ["--not", self._ours], tip))
        for path in sorted(self._problems):
            self._sources[path] = self._source(path, asked=len(self._sources) < _MOST_ASKED)

    def _find_moved(self, theirs: Side, gone: Collection[str]) -> None:
        """A memory that moved to a place that is held back stays where it was."""
        places: dict[str, str] = {}
        for path in sorted(self._problems):
            old, new = theirs.get(path) or (None, None)
            if old is None and new is not None and path.endswith(SUFFIX):
                memory = _memory_of(self.read(new.blob))
                if memory is not None:
                    places.setdefault(memory, path)
        if not places:
            return
        for path in sorted(gone):
            blob = self._work.get(path)
            memory = _memory_of(self.read(blob)) if blob is not None and path.endswith(SUFFIX) else None
            if memory in places:
                self._moved[path] = places.pop(memory)

    def _find_in_history(self, found: Sequence[HistoryFinding]) -> None:
        known = {item.object for item in self._history}
        new = [item for item in found if item.object not in known]
        for number, item in enumerate(new):
            where = "the commit's message" if item.path is None else harmless(item.path, mask=self._mask)
            commit = item.object if item.path is None else self._theirs
            if item.path is not None and number < _MOST_ASKED:
                commit = self._asked(f"--find-object={item.object}", first=True)[0]
            self._history += (InHistory(commit, where, item.why, self._now, item.object),)

    def _source(self, path: str, *, asked: bool) -> tuple[str, str]:
        """The newest commit of theirs that touched a path, and its author."""
        return self._asked(path=path) if asked else self._asked()

    def _asked(self, *flags: str, path: str | None = None, first: bool = False) -> tuple[str, str]:
        """The newest of their commits, or the first, that git finds with these; the last one where it finds none."""
        asking = ["log", "--format=%H%x00%an", "-50" if first else "-1", *flags, self._theirs, "--not", self._ours]
        if path is not None:
            asking += ["--", f":(literal){path}"]
        try:
            lines = run_git(asking, cwd=self._repo.path, reading=True, timeout=self._timeout).text.splitlines()
        except (AlgError, ValueError):  # a name that no argument can have
            lines = []
        if not lines:
            return self._asked() if flags or path is not None else (self._theirs, "")
        commit, _, author = lines[-1].partition("\0")
        return commit, harmless(author, mask=self._mask, longest=80)

    def result(self, target: str) -> Quarantine:
        """What is held back once HEAD is at the merge's result."""
        self.before = self._repo.quarantine_at(self._ours)  # somebody may have edited a file since
        git = self._repo.thread_repo
        new, old = TreeFiles(git[target].peel(pygit2.Tree)), TreeFiles(git[self._ours].peel(pygit2.Tree))
        held = dict(self.before.effective(new).held)
        for path, problem in sorted(self._problems.items()):
            entry = new(path)
            if entry is None:
                continue
            before = self.before.held.get(path)
            commit, author = self._sources.get(path, (self._theirs, ""))
            held[path] = Held(
                path,
                entry,
                before.kept if before is not None else old(path),
                problem.kind,
                problem.why,
                before.since if before is not None and before.entry == entry else self._now,
                commit,
                author,
                self._shown(path),
            )
        for path, place in self._moved.items():
            before = self.before.held.get(path)
            kept = before.kept if before is not None else old(path)
            if place not in held or new(path) is not None or new.is_folder(path):
                continue
            goal = held[place]
            why = f"its new place {goal.shown!r} is held back"
            held[path] = Held(
                path, None, kept, "moved", why, self._now, goal.commit, goal.author, self._shown(path), place
            )
        return replace(self.before, held=held, history=self._history[-MOST_IN_HISTORY:])

    def _shown(self, path: str) -> str:
        return harmless(path, mask=self._mask)


def _memory_of(data: bytes | None) -> str | None:
    return id_of(data) if data else None


def aside(path: str, data: bytes, held: str) -> tuple[str, Conflict, bytes]:
    """Where our text of a file goes while the remote's newer one is held back: its path, and its bytes.

    The same on every machine that has this text and holds back this version, so that nobody makes a second copy; an
    edited text goes to the same place.

    Args:
        held: the blob that is held back.
    """
    try:
        document = Document.parse(data, where=path)
    except AlgError:
        document = None
    memory = str(document.fields.get("id")) if document is not None and document.fields.get("id") else None
    if document is None or memory is None or not path.endswith(SUFFIX) or len(data) > MAX_FILE - 1024:
        name = beside(path, held[:8])
        return name, Conflict(path, memory, name, None), data
    identifier = derived_ulid(f"held back\0{memory}\0{held}", milliseconds=0)
    present: Any = document.fields.get("links")
    links: list[Any] = [*(present if isinstance(present, list) else []), {"rel": CONFLICT_REL, "id": memory}]
    name = beside(path, identifier[-8:].lower())
    text = document.with_fields({"id": identifier, "links": links}).render()
    return name, Conflict(path, memory, name, identifier), text


def kept_edits(quarantine: Quarantine, present: Mapping[str, str | None]) -> Quarantine:
    """The quarantine once other text lies in the work tree at these paths: what is kept is what is there."""
    held = dict(quarantine.held)
    for path, blob in present.items():
        item = held[path]
        mode = item.kept.mode if item.kept is not None else 0o100644
        held[path] = replace(item, kept=None if blob is None else Entry(mode, blob))
    return replace(quarantine, held=held)
