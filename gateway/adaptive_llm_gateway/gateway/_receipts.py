"""Receipts: one for each request, also a refused or simulated one, in chains of hashed lines, a run folder beside each.

    receipts/2026-11-22-01.jsonl   the chain; each file's first line continues the file before
    runs/2026-11-22/<id>/          receipt.json, inputs.json: made from the line
    open/<id>.json                 a request that is under way

The line is the truth and is on the disk before the request is answered; it costs one sync.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from adaptive_llm_gateway.core import InvalidInput, NotFound, ProcessLock, SecretScanner, is_ulid, ulid_milliseconds
from adaptive_llm_gateway.gateway._canonical import Json, canonical, digest, parse
from adaptive_llm_gateway.gateway._chain import FIRST, LOCK_SECONDS, Break, Chain, ChainBroken, Entry, read_chain
from adaptive_llm_gateway.gateway._files import make_folder, storage_errors, sync_folder, write_file
from adaptive_llm_gateway.gateway._plain import cleaned, plain
from adaptive_llm_gateway.gateway._receipt_values import Outcome, Receipt

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_LARGEST_FILE: Final = 4_000_000  # bytes; the next receipt begins another
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
        runs: ids of receipts whose run folder is missing or differs; `rebuild_run` makes it anew.
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


class Receipts:
    """The receipts under a folder. Safe to share between threads; processes take turns.

    Args:
        root: `receipts`, `runs` and `open` are made in it.
        scanner: what it names is replaced in everything that is stored.
    """

    def __init__(self, root: Path, *, scanner: SecretScanner) -> None:
        self._folder = root / "receipts"
        self._runs = root / "runs"
        self._open = root / "open"
        self._scanner = scanner
        self._lock = threading.Lock()
        self._chain: Chain | None = None

    def begin(self, receipt: Receipt, *, keys: Collection[str] = ()) -> None:
        """Note a request before anything is sent, so that it has a receipt even if this process dies.

        Args:
            receipt: what is known so far.
            keys: provider keys in use, which are replaced wherever they stand.

        Raises:
            StorageError: nothing may be sent then.
        """
        value, _ = cleaned(plain(receipt), self._scanner, keys)
        with storage_errors("note the request"):
            make_folder(self._open)
            write_file(self._open / f"{_checked_id(receipt.id)}.json", canonical(value))

    def file(self, receipt: Receipt, *, inputs: object = None, keys: Collection[str] = ()) -> FiledReceipt:
        """Store a receipt; it is on the disk when this returns.

        Args:
            inputs: what the plan was made from, to be replayed: anything that JSON has, dataclasses too.
            keys: as for `begin`.

        Raises:
            StorageError, LockHeld: it could not be stored.
        """
        _checked_id(receipt.id)
        given, _ = cleaned(plain(inputs), self._scanner, keys)
        receipt = replace(receipt, inputs=digest(given) if given is not None else None)
        value, changed = cleaned(plain(receipt), self._scanner, keys)
        fields: dict[str, Json] = {"receipt": value, "inputs": given}
        with self._lock:
            entry, path = self._append(fields, receipt.at)
            with storage_errors("write the run folder"):
                self._write_run(receipt.id, fields)
                (self._open / f"{receipt.id}.json").unlink(missing_ok=True)
        return FiledReceipt(receipt_from(value) if changed else receipt, entry.hash, path.name, entry.seq, given)

    def recover(self) -> tuple[FiledReceipt, ...]:
        """Give requests that a killed process left under way a receipt of their own, `interrupted`.

        Only for a process that no other works beside: the hub, at its start.
        """
        filed: list[FiledReceipt] = []
        for path in self._open_files():
            receipt_id = path.stem
            try:
                receipt = receipt_from(parse(path.read_bytes()))
            except ValueError:  # killed while it noted the request, before anything was sent
                path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(NotFound):  # killed between its receipt and the end
                self.show(receipt_id)
                path.unlink(missing_ok=True)
                continue
            why = "the process that made the request died before it could say what became of it"
            filed.append(self.file(replace(receipt, outcome="interrupted", why=why)))
        return tuple(filed)

    def list(
        self, *, limit: int = 50, outcome: Outcome | None = None, since: datetime | None = None
    ) -> tuple[FiledReceipt, ...]:
        """The newest receipts first, also of files whose chain is broken: `verify` tells."""
        found: list[FiledReceipt] = []
        for path in reversed(self._files()):
            for filed in reversed([*self._of_file(path)]):
                if len(found) >= limit or (since is not None and filed.receipt.at < since):
                    return tuple(found)
                if outcome in (None, filed.receipt.outcome):
                    found.append(filed)
        return tuple(found)

    def show(self, receipt_id: str) -> FiledReceipt:
        """One receipt, with what its plan was made from.

        Raises:
            InvalidInput: no ULID.
            NotFound: there is none with this id, or it was pruned.
        """
        wanted = f'"id":"{_checked_id(receipt_id)}"'.encode()
        for path in reversed(self._files()):
            for filed in self._of_file(path, containing=wanted):
                if filed.receipt.id == receipt_id:
                    return filed
        raise NotFound(
            f"there is no receipt {receipt_id!r}", hint="`alg receipts list` shows those there are; old ones go."
        )

    def verify(self) -> ReceiptsCheck:
        """Read everything: whether each line is as it was written, each file continues the one before, and each run
        folder is what its line says. Changes nothing."""
        files: list[FileCheck] = []
        runs: list[str] = []
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
                if "receipt" in entry.fields:
                    receipt_id = str(cast("dict[str, Json]", entry.fields["receipt"])["id"])
                    if not self._run_holds(receipt_id, entry.fields):
                        runs.append(receipt_id)
                else:
                    retired.add(str(entry.fields.get("last")))
            before = reading.entries[-1].hash if reading.entries else before
            count = sum("receipt" in entry.fields for entry in reading.entries)
            files.append(FileCheck(path.name, count, before, reading.torn, broken))
        for at, first in starts:
            if first not in retired and files[at].broken is None:
                files[at] = replace(
                    files[at], broken=Break(1, "the file that it continues is gone, and was not pruned")
                )
        return ReceiptsCheck(tuple(files), tuple(runs), tuple(path.stem for path in self._open_files()))

    def rebuild_run(self, receipt_id: str) -> Path:
        """Make a run folder from its receipt's line; returns it. Raises what `show` raises."""
        filed = self.show(receipt_id)
        with self._lock, storage_errors("write the run folder"):
            return self._write_run(receipt_id, {"receipt": plain(filed.receipt), "inputs": filed.inputs})

    def prune(self, now: datetime, *, max_age: timedelta | None = None, max_bytes: int | None = None) -> Pruned:
        """Remove the oldest files of receipts and their runs: those whose day ended longer ago than `max_age`, then
        more until no more than `max_bytes` are left. The newest file stays. That they went is an entry of the chain.
        """
        with self._lock, storage_errors("remove old receipts"):
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
                # First what says that it went, then that it goes: killed between, it goes the next time.
                self._append({"retired": path.name, "last": last, "receipts": receipts}, now)
                for folder in self._runs_of(path):
                    shutil.rmtree(folder, ignore_errors=True)
                path.unlink()
                with contextlib.suppress(OSError):  # another part of the day is still there
                    (self._runs / path.name[:10]).rmdir()
            if gone:
                sync_folder(self._folder)
        return Pruned(tuple(path.name for path in gone), count, sum(sizes[path] for path in gone))

    def _append(self, fields: Mapping[str, Json], at: datetime) -> tuple[Entry, Path]:
        with storage_errors("store a receipt"):
            make_folder(self._folder, durable=True)
            # One lock for the folder: a second process must not add to a file that a first has just continued.
            with ProcessLock(self._folder / "receipts.lock", timeout=LOCK_SECONDS):
                return self._append_locked(fields, at.astimezone(UTC).strftime("%Y-%m-%d"))

    def _append_locked(self, fields: Mapping[str, Json], day: str) -> tuple[Entry, Path]:
        *earlier, newest = self._files() or [None]
        number, previous = 1, FIRST
        if newest is not None:
            match = cast("re.Match[str]", _NAME.fullmatch(newest.name))
            # Never an older day than the newest file's, whatever the clock says: the files are one chain.
            if match[1] >= day:
                day, number = match[1], int(match[2]) + 1
                if newest.stat().st_size < _LARGEST_FILE:
                    if self._chain is None or self._chain.path != newest:
                        begun = bool(read_chain(newest.read_bytes(), path=str(newest)).entries)
                        first = None if begun else _last_hash(cast("list[Path]", earlier))
                        self._chain = Chain(newest, first=first, locked=True)
                    with contextlib.suppress(ChainBroken):  # it stays as it is, for `verify`, and another one begins
                        return self._chain.append(fields), newest
            previous = _last_hash([*cast("list[Path]", earlier), newest])
        path = self._folder / f"{day}-{number:02}.jsonl"
        self._chain = Chain(path, first=previous, locked=True)
        return self._chain.append(fields), path

    def _files(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        found = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: (path.name[:10], int(path.stem[11:])))

    def _open_files(self) -> list[Path]:
        return sorted(path for path in self._open.glob("*.json") if is_ulid(path.stem)) if self._open.is_dir() else []

    def _of_file(self, path: Path, *, containing: bytes = b"") -> Iterator[FiledReceipt]:
        with storage_errors(f"read {path.name!r}"):
            lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            if containing in line:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # a torn or changed one is for `verify`
                    value = cast("dict[str, Json]", parse(line))
                    yield FiledReceipt(
                        receipt_from(value["receipt"]), str(value["hash"]), path.name, number, value["inputs"]
                    )

    def _runs_of(self, path: Path) -> list[Path]:
        return [folder for filed in self._of_file(path) if (folder := self._run_folder(filed.receipt.id)).is_dir()]

    def _run_folder(self, receipt_id: str) -> Path:
        day = datetime.fromtimestamp(ulid_milliseconds(receipt_id) / 1000, UTC).strftime("%Y-%m-%d")
        return self._runs / day / receipt_id

    def _run_files(self, fields: Mapping[str, Json]) -> dict[str, bytes]:
        files = {"receipt.json": canonical(fields["receipt"])}
        if fields["inputs"] is not None:
            files["inputs.json"] = canonical(fields["inputs"])
        return files

    def _write_run(self, receipt_id: str, fields: Mapping[str, Json]) -> Path:
        folder = self._run_folder(receipt_id)
        make_folder(folder)
        for name, data in self._run_files(fields).items():
            write_file(folder / name, data)
        return folder

    def _run_holds(self, receipt_id: str, fields: Mapping[str, Json]) -> bool:
        folder = self._run_folder(receipt_id)
        try:
            return all((folder / name).read_bytes() == data for name, data in self._run_files(fields).items())
        except OSError:
            return False


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


def _checked_id(receipt_id: str) -> str:
    if not is_ulid(receipt_id):
        raise InvalidInput(
            f"{receipt_id!r} is no id of a receipt", hint="It has 26 characters, as in `alg receipts list`."
        )
    return receipt_id


def _last_hash(paths: Sequence[Path]) -> str:
    """What the next entry after these files continues."""
    for path in reversed(paths):
        if entries := read_chain(path.read_bytes(), path=str(path)).entries:
            return entries[-1].hash
    return FIRST


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
