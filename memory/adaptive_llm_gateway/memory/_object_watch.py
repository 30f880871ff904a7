"""A second line of defence: looks through the objects of a memory repo's store for secrets, a slice at a time.

What was looked at is remembered by object id in a SQLite file, for one repo and one scanner; another scanner looks at
everything again. The file is derived: it may be deleted, and one that is damaged is begun anew. It holds no secret.

A process that is killed loses one batch. The objects of that batch are then looked at one by one, and one that the scan
does not survive three times is passed by and told of.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from adaptive_llm_gateway.core import SecretScanner, StorageError, reach, scanner_version
from adaptive_llm_gateway.memory._git import GitFailed, run_git
from adaptive_llm_gateway.memory._history_scan import MOST_BYTES, findings_in, names_in
from adaptive_llm_gateway.memory._object_reader import ObjectReader, ReadObject, StoredObject
from adaptive_llm_gateway.memory._sql import fetch_all, fetch_one, fetch_pairs, fetch_value, run, run_many

_BATCH: Final = 200
_BATCH_BYTES: Final = 1024 * 1024
_TREES_LESS: Final = 16  # of a tree only the names are scanned that no other had
_ATTEMPTS: Final = 3
_LOOKED_UP: Final = 500  # objects of the list that are compared with what is known, before time is looked at
_MOST_KEPT: Final = 1_000  # findings
_KNOWN_NAMES: Final = 200_000
_WHERE_SECONDS: Final = 60.0
_NO_PLACE: Final = 20  # findings without a commit that are looked for again in each pass
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS trying (id BLOB PRIMARY KEY, attempts INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unread (id BLOB PRIMARY KEY, why TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS found (
    id BLOB, fingerprint TEXT, kind TEXT NOT NULL, preview TEXT NOT NULL, object TEXT NOT NULL,
    place TEXT NOT NULL, made TEXT NOT NULL, PRIMARY KEY (id, fingerprint)
) WITHOUT ROWID;
"""
_FORM: Final = "1"
_BROKEN: Final = (apsw.CorruptError, apsw.NotADBError, apsw.FormatError, apsw.SQLError, apsw.SchemaChangeError)


@dataclass(frozen=True, slots=True)
class ObjectFinding:
    """A secret in an object of the store.

    Attributes:
        commit: the oldest one that has it; "" where no branch, tag or other reference leads to one.
        path: where that commit has it, without secrets; or what has it.
    """

    kind: str
    preview: str
    fingerprint: str
    object: str
    commit: str
    path: str


@dataclass(frozen=True, slots=True)
class ObjectsSeen:
    """What is known of a store.

    Attributes:
        seen: how many objects were looked at.
        unread: how many could not be.
        complete: whether the last pass that began came to its end, with this scanner.
        signature: of the store when that pass began; see `store_signature`.
    """

    findings: tuple[ObjectFinding, ...] = ()
    seen: int = 0
    unread: int = 0
    complete: bool = False
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """What a slice did: objects looked at, whether there are more, and what is known in all."""

    done: int
    left: bool
    findings: int
    unread: int


def store_signature(objects: Path) -> str:
    """Changes when objects or packs come or go: 260 folders are asked when they changed, nothing is opened."""
    told: list[str] = []
    try:
        with os.scandir(objects) as folders:
            for each in folders:
                if each.name != "info":
                    told.append(f"{each.name} {each.stat(follow_symlinks=False).st_mtime_ns}")
    except OSError:
        return ""
    return hashlib.sha256("\n".join(sorted(told)).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def objects_folder(repo: Path) -> Path | None:
    """Where a repo's objects are; None where git does not say."""
    try:
        told = run_git(["rev-parse", "--git-common-dir"], cwd=repo, reading=True, alone=True)
    except StorageError:
        return None
    return repo / told.text.removesuffix("\n") / "objects"


def look_at_objects(state: Path, repo: Path) -> ObjectsSeen | None:
    """What was found so far; None where nobody has looked yet, or the file cannot be read."""
    if not state.is_file():
        return None
    try:
        with contextlib.closing(apsw.Connection(str(state), flags=apsw.SQLITE_OPEN_READWRITE)) as database:
            database.set_busy_timeout(2_000)
            meta = _meta(database)
            if meta.get("repo") != os.fspath(repo):
                return None
            with database:  # one state of it all
                return ObjectsSeen(
                    tuple(
                        ObjectFinding(kind, preview, fingerprint, _hex(id), made, place)
                        for id, fingerprint, kind, preview, place, made in fetch_all(
                            database,
                            "SELECT id, fingerprint, kind, preview, place, made FROM found ORDER BY kind, fingerprint",
                        )
                    ),
                    int(meta.get("seen", "0")),
                    _count(database, "unread"),
                    bool(meta.get("complete")) and meta.get("scanner") == scanner_version(),
                    meta.get("complete", ""),
                )
    except apsw.Error:
        return None


class ObjectWatch:
    """Looks through one repo's store. For one thread of one process.

    Args:
        repo: its folder.
        state: the file that remembers.

    Raises:
        StorageError: the file cannot be used.
    """

    def __init__(self, repo: Path, state: Path) -> None:
        self._repo, self._state = repo, state
        self._scanner = SecretScanner()  # what is allowed is left out where it is told
        self._names: set[bytes] = set()
        self._reader = ObjectReader(repo)
        self._listed: Generator[StoredObject] | None = None
        self._exhausted = False
        self._signature = ""
        try:
            self._database = _open(state, repo)
            tried = fetch_all(self._database, "SELECT id FROM trying ORDER BY attempts")
        except apsw.Error as error:
            _forget_if_broken(state, error)
            raise StorageError(f"{str(state)!r} cannot be used: {error}", path=str(state)) from error
        self._careful = [_hex(id) for (id,) in tried]

    def close(self) -> None:
        """End git and let the file go."""
        if self._listed is not None:
            self._listed.close()
        self._reader.close()
        self._database.close()

    def step(self, seconds: float) -> Slice:
        """Look at objects for about so long: at least at one batch, and one object may take longer.

        Raises:
            StorageError: git does not list the objects, or the file cannot be written.
        """
        until = time.monotonic() + seconds
        done, left = 0, True
        try:
            while left and (not done or time.monotonic() < until):
                batch, left = self._next(until)
                if batch:
                    self._look(batch)
                    done += len(batch)
                elif time.monotonic() >= until:
                    break
            return Slice(done, left, _count(self._database, "found"), _count(self._database, "unread"))
        except apsw.Error as error:
            _forget_if_broken(self._state, error)
            raise StorageError(f"{str(self._state)!r} cannot be written: {error}", path=str(self._state)) from error

    # -- which objects -----------------------------------------------------------------------------------------

    def _next(self, until: float) -> tuple[list[StoredObject], bool]:
        """The next objects that nobody has looked at, and whether there may be more."""
        if self._careful:
            id = self._careful.pop()
            return self._one_that_was_tried(id), True
        if self._exhausted:
            self._exhausted, self._listed = False, None
            with self._database:
                self._set("complete", self._signature)
            return [], False
        if self._listed is None:
            folder = objects_folder(self._repo)
            self._signature = store_signature(folder) if folder is not None else ""
            with self._database:
                self._set("complete", "")
            self._settle()
            self._listed = self._reader.all()
        batch: list[StoredObject] = []
        size = 0
        for compared, each in enumerate(self._listed, start=1):
            if self._is_new(each.id):
                batch.append(each)
                size += each.size // (_TREES_LESS if each.kind == "tree" else 1)
            if len(batch) >= _BATCH or size >= _BATCH_BYTES:
                return batch, True
            if compared % _LOOKED_UP == 0 and time.monotonic() >= until:
                return batch, True
        self._exhausted = True
        return batch, True

    def _is_new(self, id: str) -> bool:
        key = bytes.fromhex(id)
        return fetch_one(self._database, "SELECT 1 FROM seen WHERE id = ?", (key,)) is None

    def _one_that_was_tried(self, id: str) -> list[StoredObject]:
        """It may be what an earlier process did not survive."""
        key = bytes.fromhex(id)
        if fetch_value(self._database, "SELECT attempts FROM trying WHERE id = ?", (key,)) >= _ATTEMPTS:
            with self._database:
                self._unread(key, f"the scan did not come to its end {_ATTEMPTS} times")
                self._seen([key])
            return []
        return [StoredObject(id, "blob", 0)]

    def _settle(self) -> None:
        """Before a pass: forget what is gone from the store, and look again for the commits of the rest."""
        rows = fetch_all(self._database, "SELECT DISTINCT id, object, made FROM found")
        homeless = 0
        for id, kind, made in rows:
            if self._reader.one(_hex(id)).data is None:
                with self._database:
                    run(self._database, "DELETE FROM found WHERE id = ?", (id,))
                    run(self._database, "DELETE FROM seen WHERE id = ?", (id,))
            elif not made and homeless < _NO_PLACE:
                homeless += 1
                commit, place = self._where(_hex(id), str(kind))
                if commit:
                    with self._database:
                        run(self._database, "UPDATE found SET made = ?, place = ? WHERE id = ?", (commit, place, id))

    # -- what they hold ----------------------------------------------------------------------------------------

    def _look(self, batch: list[StoredObject]) -> None:
        keys = [bytes.fromhex(each.id) for each in batch]
        unread = [(each.id, why) for each in batch if (why := _why_not(each)) is not None]
        left_out = {id for id, _ in unread}
        tried = [each.id for each in batch if each.id not in left_out]
        with self._database:
            run_many(
                self._database,
                "INSERT INTO trying VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET attempts = attempts + 1",
                [(bytes.fromhex(id),) for id in tried],
            )
        reach("objects.trying")
        found: list[tuple[bytes, str, str, str, str, str, str]] = []
        for read in self._reader.read(tried):
            if read.data is None:
                unread.append((read.id, "git cannot read it"))
                continue
            found += self._found_in(read, read.data)
        room = _MOST_KEPT - _count(self._database, "found")
        with self._database:
            for id, why in unread:
                self._unread(bytes.fromhex(id), why)
            run_many(self._database, "DELETE FROM found WHERE id = ?", [(key,) for key in keys])
            run_many(
                self._database,
                "INSERT OR REPLACE INTO found (id, fingerprint, kind, preview, object, place, made) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                found[: max(0, room)],
            )
            self._seen(keys)
        reach("objects.seen")

    def _found_in(self, read: ReadObject, data: bytes) -> Iterator[tuple[bytes, str, str, str, str, str, str]]:
        if read.kind == "tree":
            names = set(names_in(read.id, data)) - self._names
            if len(self._names) > _KNOWN_NAMES:
                self._names.clear()
            self._names |= names
            data = b"\n".join(sorted(names))
        findings = findings_in(self._scanner, data)
        if findings and read.kind == "tree":
            self._names.clear()  # the next tree with the name has to be told as well
        commit, place = self._where(read.id, str(read.kind)) if findings else ("", "")
        for each in findings:
            yield bytes.fromhex(read.id), each.fingerprint, each.kind, each.preview, str(read.kind), place, commit

    def _where(self, id: str, kind: str) -> tuple[str, str]:
        """The oldest commit that a reference leads to and that has the object, and where in it."""
        if kind == "commit":
            return id, "its message"
        if kind == "tag":
            return "", f"the tag {id[:12]}"
        asking = [
            "log",
            "--all",
            "--reverse",
            "--no-renames",
            "--no-abbrev",
            "--no-ext-diff",
            "-m",
            "--raw",
            "-z",
            "-t",
        ]
        asking += [f"--find-object={id}", "--format=format:%x00commit %H%x00"]
        try:
            told = run_git(asking, cwd=self._repo, reading=True, alone=True, timeout=_WHERE_SECONDS).text
        except (GitFailed, StorageError):
            told = ""
        commit, parts = "", iter(told.split("\0"))
        for part in parts:
            text = part.strip("\n")
            if text.startswith("commit "):
                commit = text.removeprefix("commit ")
            elif text.startswith(":") and text.split(" ")[3:4] == [id]:
                path = self._scanner.redact(next(parts, ""))[0]
                return commit, path if kind == "blob" else f"a name in {path}"
        return commit, "a name" if kind == "tree" else "a file"

    # -- the file ----------------------------------------------------------------------------------------------

    def _seen(self, keys: list[bytes]) -> None:
        run_many(self._database, "INSERT OR IGNORE INTO seen VALUES (?)", [(key,) for key in keys])
        self._set("seen", str(int(_meta(self._database).get("seen", "0")) + len(keys)))
        run_many(self._database, "DELETE FROM trying WHERE id = ?", [(key,) for key in keys])

    def _unread(self, key: bytes, why: str) -> None:
        run(self._database, "INSERT OR REPLACE INTO unread VALUES (?, ?)", (key, why))

    def _set(self, name: str, value: str) -> None:
        run(self._database, "INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _why_not(each: StoredObject) -> str | None:
    if each.kind is None:
        return "git cannot read it"
    return f"it has {each.size:,} bytes, more than {MOST_BYTES:,}" if each.size > MOST_BYTES else None


def _open(state: Path, repo: Path) -> apsw.Connection:
    try:
        return _prepared(state, repo)
    except _BROKEN as error:
        _forget_if_broken(state, error)
        return _prepared(state, repo)


def _forget_if_broken(state: Path, error: apsw.Error) -> None:
    """Take a damaged file away, so that the next one to look begins anew rather than meets the damage again."""
    if isinstance(error, _BROKEN):
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{state}{suffix}").unlink(missing_ok=True)


def _prepared(state: Path, repo: Path) -> apsw.Connection:
    database = apsw.Connection(str(state))
    try:
        database.set_busy_timeout(5_000)
        run(database, "PRAGMA journal_mode = WAL")
        run(database, "PRAGMA synchronous = OFF")  # what a lost machine takes away is looked at again
        run(database, _SCHEMA)
        wanted = {"form": _FORM, "repo": os.fspath(repo), "scanner": scanner_version()}
        meta = _meta(database)
        if meta != {**meta, **wanted}:
            # What another scanner found is told until its object was looked at again.
            same = meta.get("repo") == wanted["repo"] and meta.get("form") == _FORM
            with database:
                for table in ("meta", "seen", "trying", "unread", *(() if same else ("found",))):
                    run(database, f"DELETE FROM {table}")  # noqa: S608 - names of ours
                run_many(database, "INSERT INTO meta VALUES (?, ?)", list(wanted.items()))
    except BaseException:
        database.close()
        raise
    return database


def _meta(database: apsw.Connection) -> dict[str, str]:
    return fetch_pairs(database, "SELECT name, value FROM meta")


def _count(database: apsw.Connection, table: str) -> int:
    return fetch_value(database, f"SELECT count(*) FROM {table}")  # noqa: S608 - names of ours


def _hex(id: object) -> str:
    return id.hex() if isinstance(id, bytes) else ""
