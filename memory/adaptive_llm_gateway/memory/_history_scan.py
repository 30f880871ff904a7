"""Looks for secrets in everything that a git repo's object store holds: files, names, messages, people, reflogs.

The repo may be anybody's: git runs nothing of its own for it (see `_object_reader`), nothing is written, and no object
is taken into memory that is larger than `MOST_BYTES`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from adaptive_llm_gateway.core import Finding, InvalidInput, SecretScanner, narrowed
from adaptive_llm_gateway.memory._git import GitFailed, run_git
from adaptive_llm_gateway.memory._history_places import (
    Changed,
    CommitFact,
    Key,
    Place,
    Stands,
    find_places,
    parse_commit,
    reachable,
)
from adaptive_llm_gateway.memory._object_reader import ObjectReader, StoredObject

MOST_BYTES: Final = 32 * 1024 * 1024
"""Of one object: what a pull takes in as well."""
_AT_ONCE: Final = 400
_MOST_SECRETS: Final = 2_000
_MOST_SKIPPED: Final = 100
_MOST_PATHS: Final = 20
_MOST_COMPARED: Final = 128 * 1024 * 1024  # bytes of what `_AT_ONCE` commits change
_MOST_FAILED: Final = 50  # commits that git cannot compare; then no more are tried
_SECONDS: Final = 600.0
_EMPTY_TREE: Final = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_NAMES: Final = {length: re.compile(rb"[0-7]{5,6} ([^\0]+)\0.{%d}" % (length // 2), re.DOTALL) for length in (40, 64)}

_SNIFFED: Final = 8192
_BY_CONTEXT: Final = ("password", "api-key")
_RUN: Final = re.compile(rb"[\t\x20-\x7e]{8,}")

_T = TypeVar("_T")
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CommitNote:
    """A commit to show: `date` is its committer's, in UTC; the author has no secret in it."""

    id: str
    date: str
    author: str


@dataclass(frozen=True, slots=True)
class HistorySecret:
    """A secret that a repo's history has, without the secret.

    Attributes:
        stands: see `Stands`.
        first, last: the oldest and the newest commit with it; None where no commit has it.
        paths: where it is, without secrets: paths, or such as `the message of commit 1a2b3c4d5e6f`; not all of many.
        branches: whose newest commit has it.
        at_remote: whether a remote has it, or had it, as far as this repo was told by fetches and pushes.
        objects: how many objects have it.
    """

    kind: str
    preview: str
    fingerprint: str
    stands: Stands
    first: CommitNote | None
    last: CommitNote | None
    paths: tuple[str, ...]
    branches: tuple[str, ...]
    at_remote: bool
    objects: int


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """What a scan of a history came upon.

    Attributes:
        path: of the repo.
        remotes: names of its remotes.
        objects, read_bytes, commits: what was read.
        skipped: what was not, and why; not all of many, `more_skipped` are left out here.
        more_secrets: findings beyond the first 2,000 secrets.
    """

    path: str
    secrets: tuple[HistorySecret, ...]
    remotes: tuple[str, ...]
    objects: int
    read_bytes: int
    commits: int
    skipped: tuple[tuple[str, str], ...]
    more_skipped: int = 0
    more_secrets: int = 0


def findings_in(scanner: SecretScanner, data: bytes) -> list[Finding]:
    """The secrets in the bytes of any file, each once; UTF-16 is read as well.

    Of what is no text the runs that read as some are looked at, for secrets with a form of their own: chance makes
    things there that look like a password with its name before it.
    """
    narrow = narrowed(data)
    is_text = b"\0" not in narrow[:_SNIFFED]
    found: dict[str, Finding] = {}
    for text in dict.fromkeys((data, narrow) if is_text else (b"\n".join(_RUN.findall(narrow)),)):
        for finding in scanner.scan(text.decode("utf-8", "replace")):
            if is_text or finding.kind not in _BY_CONTEXT:
                found.setdefault(finding.fingerprint, finding)
    return list(found.values())


def names_in(id: str, tree: bytes) -> list[bytes]:
    """The names in a tree's object."""
    return _NAMES[len(id)].findall(tree) if len(id) in _NAMES else []


def find_repo(path: Path) -> Path:
    """The folder of the git repo around `path`, or the repo itself where that is a bare one.

    Raises:
        InvalidInput: it is in none, or git does not go into it.
    """
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        raise InvalidInput(f"there is no {str(path)!r}", hint="Name a git repo, or a folder in one.", path=str(path))
    told = run_git(["rev-parse", "--is-inside-work-tree"], cwd=folder, check=False, reading=True, alone=True)
    if told.status != 0:
        words = told.stderr.splitlines()[0] if told.stderr else ""
        raise InvalidInput(
            f"{str(path)!r} is in no git repo that can be read: {words}",
            hint="Name a git repo, or a folder in one.",
            path=str(path),
        )
    if told.text.strip() != "true":
        return folder
    top = run_git(["rev-parse", "--show-toplevel"], cwd=folder, reading=True, alone=True).text
    return Path(top.removesuffix("\n"))


def scan_history(folder: Path, scanner: SecretScanner, *, on_progress: OnProgress | None = None) -> HistoryReport:
    """Scan every object of the repo around `folder`, each once.

    Args:
        scanner: with the allowances that hold.
        on_progress: given how many objects are done, and about how many there are.

    Raises:
        InvalidInput: `folder` is in no git repo.
        StorageError: git failed.
    """
    found = find_repo(folder)
    return _Scan(found, scanner, on_progress or (lambda _done, _total: None)).run()


@dataclass(slots=True)
class _Seen:
    """One secret, and what has it."""

    finding: Finding
    blobs: set[str] = field(default_factory=set[str])
    commits: set[str] = field(default_factory=set[str])
    paths: set[bytes] = field(default_factory=set[bytes])
    others: dict[str, bool] = field(default_factory=dict[str, bool])  # what it is; whether a reference leads there


@dataclass(slots=True)
class _Refs:
    """References by the commit that each leads to, and those to anything else."""

    commits: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    others: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    names: list[str] = field(default_factory=list[str])
    were_at_remote: set[str] = field(default_factory=set[str])


class _Scan:
    def __init__(self, folder: Path, scanner: SecretScanner, on_progress: OnProgress) -> None:
        self._folder, self._scanner, self._on_progress = folder, scanner, on_progress
        self._secrets: dict[str, _Seen] = {}
        self._more = 0
        self._commits: dict[str, CommitFact] = {}
        self._changed: dict[str, Changed] = {}
        self._names: set[bytes] = set()
        self._paths: set[bytes] = set()
        self._bad_paths: set[bytes] = set()
        self._bad_blobs: set[str] = set()
        self._by_blob: dict[str, list[Key]] = {}
        self._at_remote: Collection[str] = ()
        self._referenced: Collection[str] = ()
        self._skipped: list[tuple[str, str]] = []
        self._more_skipped = 0
        self._count = self._bytes = self._failed = 0

    def run(self) -> HistoryReport:
        with closing(ObjectReader(self._folder)) as reader:
            refs = self._references()
            self._read_all(reader, refs)
            self._compare_all()
            self._scan_names()
            self._scan_references(refs)
            places = self._places(refs)
            secrets = tuple(self._told(seen, places, refs, reader) for seen in self._secrets.values())
        order: dict[Stands, int] = {"files": 0, "history": 1, "loose": 2}
        return HistoryReport(
            str(self._folder),
            tuple(sorted(secrets, key=lambda each: (order[each.stands], each.kind, each.fingerprint))),
            self._remotes(),
            self._count,
            self._bytes,
            len(self._commits),
            tuple(self._skipped),
            self._more_skipped,
            self._more,
        )

    # -- objects -----------------------------------------------------------------------------------------------

    def _read_all(self, reader: ObjectReader, refs: _Refs) -> None:
        counted = self._git(["count-objects", "-v"]).decode("ascii", "replace")
        facts = dict(line.split(": ", 1) for line in counted.splitlines() if ": " in line)
        total = sum(int(facts.get(name, "0")) for name in ("count", "in-pack") if facts.get(name, "0").isdigit())
        listed = reader.all()
        with closing(listed):
            for some in _in_parts(listed):
                for each in reader.read([each.id for each in some if self._is_readable(each)]):
                    if each.data is None:
                        self._skip(f"object {each.id[:12]}", "git cannot read it")
                        continue
                    self._bytes += len(each.data)
                    self._look(each.id, each.kind, each.data, refs)
                self._count += len(some)
                self._on_progress(self._count, max(total, self._count))

    def _is_readable(self, each: StoredObject) -> bool:
        if each.kind is None:
            self._skip(f"object {each.id[:12]}", "git cannot read it")
        elif each.size > MOST_BYTES:
            self._skip(f"{each.kind} {each.id[:12]}", f"it has {each.size:,} bytes, more than {MOST_BYTES:,}")
        return each.kind is not None and each.size <= MOST_BYTES

    def _look(self, id: str, kind: str | None, data: bytes, refs: _Refs) -> None:
        if kind == "tree":
            self._names.update(names_in(id, data))
            return
        if kind == "commit":
            fact = parse_commit(id, data)
            if fact is not None:
                self._commits[id] = fact
        for finding in findings_in(self._scanner, data):
            seen = self._seen(finding)
            if seen is None:
                continue
            if kind == "blob":
                seen.blobs.add(id)
                self._bad_blobs.add(id)
            elif kind == "commit":
                seen.commits.add(id)
            else:
                seen.others[f"the tag {refs.tags.get(id, id[:12])!r}"] = id in refs.tags

    def _seen(self, finding: Finding) -> _Seen | None:
        seen = self._secrets.get(finding.fingerprint)
        if seen is None and len(self._secrets) >= _MOST_SECRETS:
            self._more += 1
            return None
        return self._secrets.setdefault(finding.fingerprint, _Seen(finding)) if seen is None else seen

    def _skip(self, what: str, why: str) -> None:
        if len(self._skipped) < _MOST_SKIPPED:
            self._skipped.append((what, why))
        else:
            self._more_skipped += 1

    # -- names, and what each commit changes -------------------------------------------------------------------

    def _compare_all(self) -> None:
        """Compare each commit with its first parent: all paths that ever were, and where the blobs with secrets are."""
        pairs: dict[tuple[str, str], list[str]] = {}
        for commit in self._commits.values():
            parent = self._commits.get(next(iter(commit.parents), ""))
            before = parent.tree if parent is not None else _EMPTY_TREE.get(len(commit.id), "")
            if before != commit.tree:
                pairs.setdefault((before, commit.tree), []).append(commit.id)
        for some in _in_parts(pairs):
            self._compare(some, pairs)

    def _compare(self, some: list[tuple[str, str]], pairs: dict[tuple[str, str], list[str]]) -> None:
        if self._failed >= _MOST_FAILED:
            return
        asking = ["diff-tree", "--stdin", "-r", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-ext-diff"]
        asking.append("--ignore-submodules=none")
        stdin = "".join(f"{before} {after}\n" for before, after in some).encode("ascii")
        try:
            told = self._git(asking, stdin=stdin, most=_MOST_COMPARED)
        except GitFailed:
            if len(some) > 1:
                half = len(some) // 2
                self._compare(some[:half], pairs)
                self._compare(some[half:], pairs)
                return
            self._failed += 1
            last = "; nor are others looked at" if self._failed == _MOST_FAILED else ""
            self._skip(f"names in commit {pairs[some[0]][0][:12]}", f"git cannot tell what it changes{last}")
            return
        self._scan_paths({path for _, _, _, path in _changes(told)})
        for pair, old, new, path in _changes(told):
            is_bad = path in self._bad_paths
            if not (is_bad or old in self._bad_blobs or new in self._bad_blobs):
                continue
            for commit in pairs.get(pair, ()):
                step = self._changed.setdefault(commit, Changed())
                if old in self._bad_blobs:
                    step.gone.append(Key(old, path))
                if new in self._bad_blobs:
                    step.added.append(Key(new, path))
                if is_bad and not (old and new):
                    (step.added if new else step.gone).append(Key("", path))

    def _scan_paths(self, paths: set[bytes]) -> None:
        new = paths - self._paths
        self._paths |= new
        for some in _in_parts(sorted(new)):
            if findings_in(self._scanner, b"\n".join(some)):
                for path in some:
                    for finding in findings_in(self._scanner, path):
                        seen = self._seen(finding)
                        if seen is not None:
                            seen.paths.add(path)
                            self._bad_paths.add(path)

    def _scan_names(self) -> None:
        """Names of trees that no commit has."""
        known = {part for path in self._paths for part in path.split(b"/")}
        for some in _in_parts(sorted(self._names - known)):
            if findings_in(self._scanner, b"\n".join(some)):
                for name in some:
                    for finding in findings_in(self._scanner, name):
                        seen = self._seen(finding)
                        if seen is not None:
                            seen.others["a name in a tree that no commit has"] = False

    # -- references --------------------------------------------------------------------------------------------

    def _references(self) -> _Refs:
        refs = _Refs()
        form = "--format=%(objectname) %(objecttype) %(*objectname) %(*objecttype) %(refname)"
        listed = self._git(["for-each-ref", form]).decode("utf-8", "surrogateescape")
        for line in listed.split("\n")[:-1]:
            id, kind, peeled, peeled_kind, name = line.split(" ", 4)
            refs.names.append(name)
            if kind == "tag":
                refs.tags[id] = name.removeprefix("refs/tags/")
            target, of_kind = (peeled, peeled_kind) if peeled else (id, kind)
            if of_kind == "commit":
                refs.commits.setdefault(target, []).append(name)
            else:
                refs.others[target] = name
        listed = self._git(["worktree", "list", "--porcelain"]).decode("utf-8", "surrogateescape")
        for line in listed.split("\n"):
            if line.startswith("HEAD "):
                refs.commits.setdefault(line.removeprefix("HEAD "), []).append("HEAD")
        return refs

    def _scan_references(self, refs: _Refs) -> None:
        for name in refs.names:
            for finding in findings_in(self._scanner, name.encode("utf-8", "surrogateescape")):
                seen = self._seen(finding)
                if seen is not None:
                    seen.others["the name of a branch, a tag or another reference"] = True
        common = self._git(["rev-parse", "--git-common-dir"]).decode("utf-8", "surrogateescape").removesuffix("\n")
        for file, name in _reflogs(self._folder / common):
            data = _plain_bytes(file)
            if data is None:
                self._skip(f"the log of {name}", "it cannot be read, or is too large")
                continue
            lines = [line.split(b" ", 2) for line in data.split(b"\n") if line.count(b" ") > 1]
            if name.startswith("refs/remotes/"):
                refs.were_at_remote.update(id.decode("ascii", "replace") for line in lines for id in line[:2])
            for finding in findings_in(self._scanner, b"\n".join(line[2] for line in lines)):
                seen = self._seen(finding)
                if seen is not None:
                    seen.others[f"the log of {self._masked(name)}, which is on this machine alone"] = True

    def _places(self, refs: _Refs) -> dict[Key, Place]:
        at_remote = {
            id for id, names in refs.commits.items() if any(name.startswith("refs/remotes/") for name in names)
        }
        self._at_remote = reachable(self._commits, at_remote | refs.were_at_remote)
        self._referenced = reachable(self._commits, refs.commits)
        return find_places(
            self._commits,
            self._changed,
            tips=refs.commits,
            referenced=self._referenced,
            at_remote=self._at_remote,
        )

    # -- what is told ------------------------------------------------------------------------------------------

    def _told(self, seen: _Seen, places: dict[Key, Place], refs: _Refs, reader: ObjectReader) -> HistorySecret:
        where: list[Place] = []
        paths: list[str] = []
        for key, place in self._of(seen, places):
            where.append(place)
            path = key.path.decode("utf-8", "surrogateescape")
            paths.append(self._masked(path) + (" (its name)" if not key.blob else ""))
        for id in sorted(seen.commits):
            stands: Stands = "history" if id in self._referenced else "loose"
            where.append(Place(id, id, stands, [], id in self._at_remote))
            paths.append(f"the message of commit {id[:12]}")
        for what, referenced in seen.others.items():
            where.append(Place(stands="history" if referenced else "loose"))
            paths.append(what)
        for id in sorted(seen.blobs & refs.others.keys()):
            where.append(Place(stands="history"))
            paths.append(f"what {self._masked(refs.others[id])} leads to")
        firsts = [place.first for place in where if place.first]
        lasts = [place.last for place in where if place.last]
        standing: list[Stands] = [place.stands for place in where]
        branches = {name for place in where for name in place.tips if name.startswith("refs/heads/")}
        return HistorySecret(
            seen.finding.kind,
            seen.finding.preview,
            seen.finding.fingerprint,
            "files" if "files" in standing else "history" if "history" in standing else "loose",
            self._note(min(firsts, key=self._when), reader) if firsts else None,
            self._note(max(lasts, key=self._when), reader) if lasts else None,
            tuple(dict.fromkeys(paths))[:_MOST_PATHS],
            tuple(sorted(self._masked(name.removeprefix("refs/heads/")) for name in branches)),
            any(place.at_remote for place in where),
            len(seen.blobs) + len(seen.commits) + len(seen.paths) + len(seen.others),
        )

    def _of(self, seen: _Seen, places: dict[Key, Place]) -> Iterator[tuple[Key, Place]]:
        if not self._by_blob:
            for key in places:
                self._by_blob.setdefault(key.blob, []).append(key)
        for blob in sorted(seen.blobs):
            for key in self._by_blob.get(blob, ()):
                yield key, places[key]
        for path in sorted(seen.paths):
            if Key("", path) in places:
                yield Key("", path), places[Key("", path)]

    def _when(self, commit: str) -> int:
        return self._commits[commit].time if commit in self._commits else 0

    def _note(self, commit: str, reader: ObjectReader) -> CommitNote:
        read = reader.one(commit)
        found = re.search(rb"^author ([^<\n]*)", read.data or b"", re.MULTILINE)
        author = found[1].decode("utf-8", "replace").strip() if found else ""
        date = datetime.fromtimestamp(self._when(commit), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return CommitNote(commit, date, self._masked(author))

    def _masked(self, text: str) -> str:
        return self._scanner.redact(text)[0]

    def _remotes(self) -> tuple[str, ...]:
        told = self._git(["remote"]).decode("utf-8", "replace")
        return tuple(self._masked(name) for name in told.split("\n") if name)

    def _git(self, arguments: list[str], *, stdin: bytes = b"", most: int = _MOST_COMPARED) -> bytes:
        return run_git(
            arguments, cwd=self._folder, stdin=stdin, reading=True, alone=True, timeout=_SECONDS, output_limit=most
        ).stdout


def _in_parts(items: Iterable[_T]) -> Iterator[list[_T]]:
    waiting = iter(items)
    while some := list(islice(waiting, _AT_ONCE)):
        yield some


def _changes(told: bytes) -> Iterator[tuple[tuple[str, str], str, str, bytes]]:
    """What `git diff-tree --stdin -z --raw` says of pairs of trees: the pair, old and new blob ("" for none), path."""
    pair = ("", "")
    at = 0
    while at < len(told):
        if told[at] != 0x3A:  # no change, so the next pair; a line of its own
            end = told.find(b"\n", at)
            if end < 0:
                return
            before, _, after = told[at:end].decode("ascii", "replace").partition(" ")
            pair = (before, after)
            at = end + 1
            continue
        end = told.find(b"\0", at)
        last = told.find(b"\0", end + 1)
        if end < 0 or last < 0:
            return
        fields = told[at:end].decode("ascii", "replace").split(" ")
        if len(fields) == 5:
            old, new = (id if id.strip("0") else "" for id in fields[2:4])
            yield pair, old, new, told[end + 1 : last]
        at = last + 1


def _reflogs(common: Path) -> Iterator[tuple[Path, str]]:
    """Each file of git's logs of references, and the reference's name."""
    tops = [common / "logs", *sorted((common / "worktrees").glob("*/logs"))]
    for top in tops:
        for where, folders, files in os.walk(top):
            folders.sort()
            for name in sorted(files):
                file = Path(where, name)
                yield file, file.relative_to(top).as_posix()


def _plain_bytes(file: Path) -> bytes | None:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(handle, "rb") as opened:  # noqa: PTH123 - a handle
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            data = opened.read(MOST_BYTES + 1)
    except OSError:
        return None
    return data if len(data) <= MOST_BYTES else None
