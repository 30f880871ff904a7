"""Receipts: one for each request, also a refused or simulated one, in chains of hashed lines, a run folder beside each.

    receipts/2026-11-22-01.jsonl   the chain; each file's first line continues the file before
    runs/2026-11-22/<id>/          receipt.json, inputs.json: made from the line, behind it
    open/<id>.jsonl                what a process has under way

The line is the truth and is on the disk before the request is answered; it costs one sync, which those that come at
once share.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from adaptive_llm_gateway.core import InvalidInput, NotFound, ProcessLock, SecretScanner, is_ulid
from adaptive_llm_gateway.gateway._canonical import Json, canonical, digest_of, parse
from adaptive_llm_gateway.gateway._chain import (
    FIRST,
    LOCK_SECONDS,
    SETTLED_NS,
    Break,
    Chain,
    ChainBroken,
    Entry,
    read_chain,
)
from adaptive_llm_gateway.gateway._files import make_folder, storage_errors, sync_folder
from adaptive_llm_gateway.gateway._notes import Notes
from adaptive_llm_gateway.gateway._plain import cleaned, plain
from adaptive_llm_gateway.gateway._receipt_values import Outcome, Receipt
from adaptive_llm_gateway.gateway._runs import RunFolders

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_LARGEST_FILE: Final = 4_000_000  # bytes; the next receipt begins another
_MOST_AT_ONCE: Final = 256  # receipts that share a sync
_MOST_BEGUN: Final = 1000  # requests under way whose text is kept as it was cleaned
_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})-(\d{2,})\.jsonl")


@dataclass(frozen=True, slots=True)
class FiledReceipt:
    """A receipt, the hash of its line, and where it is."""

    receipt: Receipt
    hash: str
    file: str
    line: int
    inputs: Json = None


@dataclass(frozen=True, slots=True)
class FileCheck:
    """Whether one file of receipts holds; `line` of `broken` is of this file."""

    file: str
    receipts: int
    last: str | None
    torn: int
    broken: Break | None


@dataclass(frozen=True, slots=True)
class ReceiptsCheck:
    """Whether all receipts hold.

    Attributes:
        files: the oldest first.
        runs: ids of receipts whose run folder is missing or differs; `rebuild_runs` makes them anew. One that is still
            to be written is not among them.
        unfinished: ids of requests that were begun and have no receipt yet.
    """

    files: tuple[FileCheck, ...]
    runs: tuple[str, ...]
    unfinished: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every chain does."""
        return all(file.broken is None for file in self.files)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went by age or size: files of receipts, receipts, and bytes."""

    files: tuple[str, ...]
    receipts: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of what is stored: as it was given, without credentials, and the canonical form of that."""

    given: object
    clean: Json
    form: bytes


@dataclass(eq=False, slots=True)
class _Begun:
    """What was made for the note of a request, most of which is the same in its receipt."""

    keys: frozenset[str]
    parts: Mapping[str, _Part]
    changed: bool = False
    inputs: _Part | None = None


@dataclass(eq=False, slots=True)
class _Waiting:
    """A receipt to be stored, and what became of that."""

    id: str
    day: str
    parts: Mapping[str, bytes]
    entry: Entry | None = None
    path: Path | None = None
    error: Exception | None = None
    wake: Callable[[], object] | None = None

    @property
    def over(self) -> bool:
        return self.entry is not None or self.error is not None


class Receipts:
    """The receipts under a folder. Safe to share between threads; processes take turns.

    Args:
        root: `receipts`, `runs` and `open` are made in it.
        scanner: what it names is replaced in everything that is stored.
    """

    def __init__(self, root: Path, *, scanner: SecretScanner) -> None:
        self._folder = root / "receipts"
        self._runs_root = root / "runs"
        self._runs = RunFolders(self._runs_root)
        self._notes = Notes(root / "open")
        self._scanner = scanner
        self._lock = threading.Lock()
        self._reading = threading.Lock()  # of all files; whoever stores a receipt does not wait for it
        self._chain: Chain | None = None
        self._known: tuple[int, list[Path]] | None = None
        self._begun: dict[str, _Begun] = {}
        self._queue: deque[_Waiting] = deque()
        self._storing = False
        self._queue_lock = threading.Lock()
        self._thread: ThreadPoolExecutor | None = None

    def begin(self, receipt: Receipt, *, keys: Collection[str] = ()) -> None:
        """Note a request before anything is sent, so that it has a receipt even if this process dies.

        Args:
            receipt: what is known so far.
            keys: provider keys in use, which are replaced wherever they stand.

        Raises:
            StorageError: nothing may be sent then.
        """
        _checked_id(receipt.id)
        begun = self._formed(receipt, None, frozenset(keys))
        with storage_errors("note the request"):
            self._notes.add(receipt.id, _joined(begun.parts))
        while len(self._begun) >= _MOST_BEGUN:
            with contextlib.suppress(KeyError, StopIteration, RuntimeError):  # another thread was faster
                del self._begun[next(iter(self._begun))]
        self._begun[receipt.id] = begun

    def expect(self, receipt_id: str, inputs: object, *, keys: Collection[str] = ()) -> None:
        """Make what will be stored of `inputs` with the receipt of a request that was begun: something to do while its
        answer is waited for. Where it is not called, `file` does it."""
        begun = self._begun.get(receipt_id)
        if begun is not None and begun.inputs is None and begun.keys == frozenset(keys):
            begun.inputs = self._part(inputs, keys)

    def file(self, receipt: Receipt, *, inputs: object = None, keys: Collection[str] = ()) -> FiledReceipt:
        """Store a receipt; it is on the disk when this returns, its run folder soon after.

        Args:
            inputs: what the plan was made from, to be replayed: anything that JSON has, dataclasses too.
            keys: as for `begin`.

        Raises:
            StorageError, LockHeld: it could not be stored.
        """
        waiting, finished = self._prepared(receipt, inputs, keys)
        self._queue.append(waiting)
        with self._lock:
            while not waiting.over:  # whoever had the lock before may have stored it with theirs
                self._store()
        return finished()

    async def file_async(self, receipt: Receipt, *, inputs: object = None, keys: Collection[str] = ()) -> FiledReceipt:
        """As `file`, but the disk is waited for in a thread, and receipts that come meanwhile share a sync.

        If this is cancelled, the receipt is stored all the same.
        """
        waiting, finished = self._prepared(receipt, inputs, keys)
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not stored.done():
                stored.set_result(None)

        waiting.wake = lambda: loop.call_soon_threadsafe(wake)
        self._queue.append(waiting)
        with self._queue_lock:
            begins, self._storing = not self._storing, True
            thread = self._thread = self._thread or ThreadPoolExecutor(1, "receipts")
        if begins:
            thread.submit(self._store_all)
        await stored
        return finished()

    def settle(self) -> None:
        """Wait until every run folder is written."""
        self._runs.settle()

    def close(self) -> None:
        """Store what waits, write every run folder, and end the threads. It may be used again."""
        with self._queue_lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=True)
        self._runs.close()
        self._notes.close()

    def recover(self) -> tuple[FiledReceipt, ...]:
        """Give requests that a killed process left under way a receipt of their own, `interrupted`, and receipts that
        it left without one their run folder.

        Only for a process that no other works beside: the hub, at its start.
        """
        filed: list[FiledReceipt] = []
        notes = self._notes.left()
        stored = self._stored({name for left in notes.values() for name in left})
        for path, left in notes.items():
            for receipt_id, note in left.items():
                if not is_ulid(receipt_id):  # no note of ours
                    continue
                if receipt_id in stored:  # killed between its receipt and the end
                    with contextlib.suppress(NotFound):  # what has its id is no receipt: that is for `verify`
                        self.rebuild_run(receipt_id)
                    continue
                with contextlib.suppress(ValueError):  # nothing but a run folder was to be written
                    receipt = receipt_from(parse(note))
                    why = "the process that made the request ended before it could store what became of it"
                    filed.append(self.file(replace(receipt, outcome="interrupted", why=why)))
            with contextlib.suppress(OSError):
                path.unlink()
        return tuple(filed)

    def list(
        self,
        *,
        limit: int = 50,
        outcome: Outcome | None = None,
        since: datetime | None = None,
        owner: str | None = None,
    ) -> tuple[FiledReceipt, ...]:
        """The newest receipts first, also of files whose chain is broken: `verify` tells.

        Args:
            owner: only those of requests with this one's token.
        """
        found: list[FiledReceipt] = []
        for path in reversed(self._files()):
            for filed in reversed([*self._of_file(path)]):
                if len(found) >= limit or (since is not None and filed.receipt.at < since):
                    return tuple(found)
                if outcome in (None, filed.receipt.outcome) and owner in (None, filed.receipt.request.owner):
                    found.append(filed)
        return tuple(found)

    def show(self, receipt_id: str) -> FiledReceipt:
        """One receipt, with what its plan was made from.

        Raises:
            InvalidInput: no ULID.
            NotFound: there is none with this id, or it was pruned.
        """
        wanted = _named(_checked_id(receipt_id))
        for path in reversed(self._files()):
            for filed in self._of_file(path, containing=wanted):
                if filed.receipt.id == receipt_id:
                    return filed
        raise no_receipt(receipt_id)

    def verify(self) -> ReceiptsCheck:
        """Read everything: whether each line is as it was written, each file continues the one before, and each run
        folder is what its line says. Changes nothing."""
        self._runs.settle()
        with self._reading:
            return self._verified()

    def _verified(self) -> ReceiptsCheck:
        noted = self._notes.all()
        lacking: list[tuple[str, Mapping[str, bytes]]] = []
        files: list[FileCheck] = []
        found: set[str] = set()
        retired: set[str] = set()
        starts: list[tuple[int, str]] = []
        before: str | None = None
        for path in self._files():
            with storage_errors(f"read {path.name!r}"):
                reading = read_chain(path.read_bytes(), path=str(path))
            first = reading.entries[0].previous if reading.entries else None
            broken = reading.broken
            if first is not None and before is not None and first != before and broken is None:
                broken = Break(1, "it does not continue the file before")
            if first is not None and before is None and first != FIRST:
                starts.append((len(files), first))
            for entry in reading.entries:
                if "receipt" not in entry.fields:
                    retired.add(str(entry.fields.get("last")))
                elif (run := _run_of(entry)) is None:
                    broken = broken or Break(entry.seq, "it is no receipt")
                else:
                    found.add(run[0])
                    if not self._runs.holds(*run):
                        lacking.append(run)
            before = reading.entries[-1].hash if reading.entries else before
            count = sum("receipt" in entry.fields for entry in reading.entries)
            files.append(FileCheck(path.name, count, before, reading.torn, broken))
        for at, first in starts:
            if first not in retired and files[at].broken is None:
                files[at] = replace(
                    files[at], broken=Break(1, "the file that it continues is gone, and was not pruned")
                )
        unfinished = tuple(name for name, note in noted.items() if note != b"null" and name not in found)
        # Another process may have been about to write one: by now it did, or its note says so.
        noted = self._notes.all()
        runs = tuple(name for name, run in lacking if name not in noted and not self._runs.holds(name, run))
        return ReceiptsCheck(tuple(files), runs, unfinished)

    def rebuild_run(self, receipt_id: str) -> Path:
        """Make a run folder from its receipt's line; returns it. Raises what `show` raises."""
        filed = self.show(receipt_id)
        with storage_errors("write the run folder"):
            # As its line has it: a receipt of before may lack what one has today.
            line = (self._folder / filed.file).read_bytes().split(b"\n")[filed.line - 1]
            value = cast("dict[str, Json]", parse(line))
            parts = _forms({"receipt": value["receipt"], "inputs": value["inputs"]})
            return self._runs.write(receipt_id, _run_files(parts))

    def rebuild_runs(self) -> tuple[str, ...]:
        """Make every run folder that is missing or differs, see `verify`; returns the receipts' ids.

        Raises:
            StorageError: the disk refused one; those before it are made.
        """
        self._runs.settle()
        made: list[str] = []
        for path in self._files():
            with storage_errors(f"read {path.name!r}"):
                reading = read_chain(path.read_bytes(), path=str(path))
            for run in map(_run_of, reading.entries):
                if run is not None and not self._runs.holds(*run):
                    with storage_errors("write the run folder"):
                        self._runs.write(*run)
                    made.append(run[0])
        return tuple(made)

    def prune(self, now: datetime, *, max_age: timedelta | None = None, max_bytes: int | None = None) -> Pruned:
        """Remove the oldest files of receipts and their runs: those whose day ended longer ago than `max_age`, then
        more until no more than `max_bytes` are left. The newest file stays. That they went is an entry of the chain.
        """
        self._runs.settle()
        # Receipts are stored meanwhile: only the newest file changes, and that stays.
        with self._reading, storage_errors("remove old receipts"):
            paths = self._files()
            sizes = {path: path.stat().st_size + sum(map(_size, self._runs_of(path))) for path in paths}
            total, count = sum(sizes.values()), 0
            gone: list[Path] = []
            for path in paths[:-1]:
                day = datetime.strptime(path.name[:10], "%Y-%m-%d").replace(tzinfo=UTC)
                too_old = max_age is not None and now - (day + timedelta(days=1)) > max_age
                if not too_old and (max_bytes is None or total <= max_bytes):
                    break  # no gap: what is left is one chain
                total -= sizes[path]
                gone.append(path)
            for path in gone:
                reading = read_chain(path.read_bytes(), path=str(path))
                receipts = sum("receipt" in entry.fields for entry in reading.entries)
                count += receipts
                last = reading.entries[-1].hash if reading.entries else FIRST
                runs = self._runs_of(path)
                # First what says that it went, then that it goes: killed between, it goes the next time.
                with self._lock:
                    self._append([_forms({"retired": path.name, "last": last, "receipts": receipts})], _day_of(now))
                for folder in runs:
                    shutil.rmtree(folder, ignore_errors=True)
                path.unlink()
                with contextlib.suppress(OSError):  # another part of the day is still there
                    (self._runs_root / path.name[:10]).rmdir()
            if gone:
                sync_folder(self._folder)
        return Pruned(tuple(path.name for path in gone), count, sum(sizes[path] for path in gone))

    def _part(self, given: object, keys: Collection[str]) -> _Part:
        clean, _ = cleaned(plain(given), self._scanner, keys)
        return _Part(given, clean, canonical(clean))

    def _formed(self, receipt: Receipt, begun: _Begun | None, keys: frozenset[str]) -> _Begun:
        """The parts of a receipt; those that are as they were begun with are cleaned of other keys alone."""
        parts: dict[str, _Part] = {}
        new: dict[str, object] = {}
        for name in _NAMES:
            value = getattr(receipt, name)
            part = begun.parts[name] if begun is not None else None
            if part is not None and (part.given is value or part.given == value):
                parts[name] = part
            else:
                new[name] = value
        changed = self._clean({name: plain(value) for name, value in new.items()}, new, parts, self._scanner, keys)
        if begun is not None:
            changed |= begun.changed
            if begun.keys != keys:
                known = {name: part for name, part in parts.items() if name not in new}
                given = {name: part.given for name, part in known.items()}
                changed |= self._clean({name: part.clean for name, part in known.items()}, given, parts, None, keys)
        return _Begun(keys, parts, changed)

    def _clean(
        self,
        values: dict[str, Json],
        given: Mapping[str, object],
        parts: dict[str, _Part],
        scanner: SecretScanner | None,
        keys: frozenset[str],
    ) -> bool:
        """Put cleaned values into `parts`; whether one was changed."""
        clean, changed = cast("tuple[dict[str, Json], int]", cleaned(values, scanner, keys))
        if changed or scanner is not None:  # else they are there
            for name, value in clean.items():
                parts[name] = _Part(given[name], value, canonical(value))
        return changed > 0

    def _prepared(
        self, receipt: Receipt, inputs: object, keys: Collection[str]
    ) -> tuple[_Waiting, Callable[[], FiledReceipt]]:
        """What is to be stored, and what gives the stored receipt once that was done, or raises why not."""
        _checked_id(receipt.id)
        keys = frozenset(keys)
        begun = self._begun.pop(receipt.id, None)
        given = begun.inputs if begun is not None and begun.keys == keys else None
        if given is None or given.given is not inputs:
            given = self._part(inputs, keys)
        receipt = replace(receipt, inputs=digest_of(given.form) if given.clean is not None else None)
        formed = self._formed(receipt, begun, keys)
        stored = receipt_from({name: part.clean for name, part in formed.parts.items()}) if formed.changed else receipt
        if receipt.id not in self._notes:  # its run folder is still to be written
            with storage_errors("note the receipt"):
                self._notes.add(receipt.id)
        waiting = _Waiting(receipt.id, _day_of(receipt.at), {"receipt": _joined(formed.parts), "inputs": given.form})

        def finished() -> FiledReceipt:
            if waiting.error is not None:
                raise copy(waiting.error) from waiting.error
            entry, path = cast("Entry", waiting.entry), cast("Path", waiting.path)
            return FiledReceipt(stored, entry.hash, path.name, entry.seq, given.clean)

        return waiting, finished

    def _store_all(self) -> None:
        while True:
            with self._lock:
                self._store()
            with self._queue_lock:
                if not self._queue:
                    self._storing = False
                    return

    def _store(self) -> None:
        """Store what waits, with one sync for each day of it. Whoever calls this has the lock."""
        batch: list[_Waiting] = []
        with contextlib.suppress(IndexError):
            while len(batch) < _MOST_AT_ONCE:
                batch.append(self._queue.popleft())
        for day, group in groupby(batch, key=lambda each: each.day):
            some = list(group)
            try:
                entries, path = self._append([each.parts for each in some], day)
            except Exception as error:  # noqa: BLE001 - each of those who wait is told, or would wait for ever
                for each in some:
                    each.error = error
            else:
                for each, entry in zip(some, entries, strict=True):
                    each.entry, each.path = entry, path
            for each in some:
                if each.wake is not None:
                    with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
                        each.wake()
            for each in some:
                if each.entry is not None:
                    self._runs.write_later(each.id, _run_files(each.parts), self._notes.done)

    def _append(self, entries: Sequence[Mapping[str, bytes]], day: str) -> tuple[list[Entry], Path]:
        with storage_errors("store a receipt"):
            make_folder(self._folder, durable=True)
            # One lock for the folder: a second process must not add to a file that a first has just continued.
            with ProcessLock(self._folder / "receipts.lock", timeout=LOCK_SECONDS):
                return self._append_locked(entries, day)

    def _append_locked(self, entries: Sequence[Mapping[str, bytes]], day: str) -> tuple[list[Entry], Path]:
        *earlier, newest = self._files_known() or [None]
        number, previous = 1, FIRST
        if newest is not None:
            match = cast("re.Match[str]", _NAME.fullmatch(newest.name))
            # Never an older day than the newest file's, whatever the clock says: the files are one chain.
            if match[1] >= day:
                day, number = match[1], int(match[2]) + 1
                if newest.stat().st_size < _LARGEST_FILE:
                    if self._chain is None or self._chain.path != newest:
                        first = None if _is_begun(newest) else _last_hash(cast("list[Path]", earlier))
                        self._chain = Chain(newest, first=first, locked=True)
                    with contextlib.suppress(ChainBroken):  # it stays as it is, for `verify`, and another one begins
                        return self._chain.append_all(entries), newest
            known = self._chain.last_hash() if self._chain is not None and self._chain.path == newest else None
            previous = known or _last_hash([*cast("list[Path]", earlier), newest])
        path = self._folder / f"{day}-{number:02}.jsonl"
        self._chain = Chain(path, first=previous, locked=True)
        return self._chain.append_all(entries), path

    def _files_known(self) -> list[Path]:
        """As `_files`, read again only when something came or went. Whoever calls this has the lock."""
        changed = self._folder.stat().st_mtime_ns
        if self._known is None or self._known[0] != changed:
            files = self._files()
            # Within this time something may come or go again without the folder's time showing it.
            self._known = (changed, files) if time.time_ns() - changed > SETTLED_NS else None
            return files
        return self._known[1]

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        found = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: (path.name[:10], int(path.stem[11:])))

    def _of_file(self, path: Path, *, containing: bytes = b"") -> Iterator[FiledReceipt]:
        with storage_errors(f"read {path.name!r}"):
            try:
                lines = path.read_bytes().split(b"\n")
            except FileNotFoundError:  # it went by age or size a moment ago
                return
        for number, line in enumerate(lines, 1):
            if containing in line:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # a torn or changed one is for `verify`
                    value = cast("dict[str, Json]", parse(line))
                    yield FiledReceipt(
                        receipt_from(value["receipt"]), str(value["hash"]), path.name, number, value["inputs"]
                    )

    def _stored(self, ids: Collection[str]) -> set[str]:
        """Those of the ids that have a receipt."""
        left = set(ids)
        for path in reversed(self._files()):
            if not left:
                break
            with storage_errors(f"read {path.name!r}"):
                lines = path.read_bytes()
            left -= {receipt_id for receipt_id in left if _named(receipt_id) in lines}
        return set(ids) - left

    def _runs_of(self, path: Path) -> list[Path]:
        """The run folders of a file's receipts. There may be thousands, so nothing more is made of a line."""
        found: list[Path] = []
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                receipt_id = json.loads(line)["receipt"]["id"]
                if is_ulid(receipt_id) and (folder := self._runs.folder(receipt_id)).is_dir():
                    found.append(folder)
        return found


_NAMES: Final = sorted(field.name for field in fields(Receipt))  # of ASCII: in the order of canonical JSON
_LABELS: Final = {name: canonical(name) + b":" for name in _NAMES}


def _joined(parts: Mapping[str, _Part]) -> bytes:
    """The canonical form of a receipt."""
    return b"{" + b",".join(label + parts[name].form for name, label in _LABELS.items()) + b"}"


def _forms(values: Mapping[str, Json]) -> dict[str, bytes]:
    return {name: canonical(value) for name, value in values.items()}


def _run_of(entry: Entry) -> tuple[str, dict[str, bytes]] | None:
    """The id and the run's files of an entry's receipt; None where it has none. Hashes can be computed anew."""
    receipt = entry.fields.get("receipt")
    receipt_id = receipt.get("id") if isinstance(receipt, dict) else None
    if not isinstance(receipt_id, str) or not is_ulid(receipt_id) or "inputs" not in entry.fields:
        return None
    return receipt_id, _run_files(_forms(entry.fields))


def _run_files(parts: Mapping[str, bytes]) -> dict[str, bytes]:
    files = {"receipt.json": parts["receipt"]}
    if parts["inputs"] != b"null":
        files["inputs.json"] = parts["inputs"]
    return files


def _day_of(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d")


def receipt_schema() -> dict[str, Json]:
    """The JSON Schema of a receipt, draft 2020-12, made from `Receipt`."""
    schema = cast("dict[str, Json]", _adapter().json_schema(mode="serialization"))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Receipt of the Adaptive LLM Gateway",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def receipt_from(value: Json) -> Receipt:
    """A receipt from its JSON.

    Raises:
        ValueError: it is none.
    """
    return _adapter().validate_python(value)


@cache
def _adapter() -> TypeAdapter[Receipt]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - the values pay nothing for it

    return TypeAdapter(Receipt)


def _named(receipt_id: str) -> bytes:
    """How the line of a receipt has its id."""
    return f'"id":"{receipt_id}"'.encode()


def _checked_id(receipt_id: str) -> str:
    if not is_ulid(receipt_id):
        raise InvalidInput(
            f"{receipt_id!r} is no id of a receipt", hint="It has 26 characters, as in `alg receipts list`."
        )
    return receipt_id


def _is_begun(path: Path) -> bool:
    """Whether a chain's file has an entry, or what was one."""
    with path.open("rb") as file:
        return file.readline(_LARGEST_FILE).endswith(b"\n")


def _last_hash(paths: Sequence[Path]) -> str:
    """What the next entry after these files continues."""
    for path in reversed(paths):
        if entries := read_chain(path.read_bytes(), path=str(path)).entries:
            return entries[-1].hash
    return FIRST


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def no_receipt(id: str) -> NotFound:
    """There is no receipt of an id, or none for who asks."""
    return NotFound(f"there is no receipt {id!r}", hint="`alg receipts list` shows those there are; old ones go.")
