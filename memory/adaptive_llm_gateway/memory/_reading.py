"""One memory, or a session's log, as it is on disk now or as it was: from the files, the index and git's history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from adaptive_llm_gateway.core import InvalidInput, NotFound, SecretScanner, is_ulid
from adaptive_llm_gateway.memory._files import read_file
from adaptive_llm_gateway.memory._frontmatter import MAX_FILE, Document
from adaptive_llm_gateway.memory._memory_index import MemoryIndex, ReadableIndex
from adaptive_llm_gateway.memory._plans import Deleted, full_id
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._requests import History, Memory
from adaptive_llm_gateway.memory._sessions import SessionLog, log_of, summary_id
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Filters, Record, Revision


class Reading:
    """Reads for the store, which says what each method does and raises. Any thread may call them.

    Args:
        root: where the files are.
        stones: what knows of deleted memories.
    """

    def __init__(self, root: Path, index: ReadableIndex, repo: MemoryRepo, *, stones: MemoryIndex) -> None:
        self._root, self._index, self._repo, self._stones = root, index, repo, stones

    def read(self, id: str, at: str | None, types: TypeRegistry, scanner: SecretScanner) -> Memory:
        """See `MemoryStore.read`."""
        identifier = full_id(id, self._index)
        record = self._index.get(identifier)
        if at is not None:
            path = record.path if record else self._deleted_path(identifier)
            data: bytes | None = self.version(identifier, path, at)
            # What a remote brought was merged into the history unread.
            scanner.check(data.decode("utf-8", "replace"), where=f"{path!r} as it was at {at!r}")
        else:
            path = record.path if record else ""
            data = read_file(self._root, path, limit=MAX_FILE) if record else None
        if data is None:
            raise no_memory(id)
        document = Document.parse(data, where=path)
        found = types.to_record(document, path=path, version=MemoryRepo.blob_id(data), mtime_ns=0, size=len(data))
        if at is not None and found.id != identifier:
            raise NotFound(
                f"{at!r} is no version of memory {identifier}", hint="Its history lists its versions.", id=identifier
            )
        if record is not None and found.version == record.version:
            found = replace(found, reason=record.reason)
        return Memory(found, data.decode("utf-8"), at, self._session_parts(found.type, identifier))

    def version(self, identifier: str, path: str, at: str) -> bytes:  # noqa: ARG002 - of use where not all is seen
        """What lay at the path of a memory; see `MemoryRepo.read_at`."""
        return self._repo.read_at(path, at)

    def _session_parts(self, kind: str, identifier: str) -> tuple[str, ...]:
        if kind != "session":
            return ()
        page = self._index.list(Filters(types=("session",), fields={"session_id": identifier}), limit=100)
        return tuple(record.id for record in page.records if record.id != identifier)

    def session(self, id: str, types: TypeRegistry, scanner: SecretScanner) -> SessionLog:
        """See `MemoryStore.session`."""
        asked = self.read(id, None, types, scanner).record
        if asked.type != "session":
            raise InvalidInput(
                f"{asked.id!r} is a {asked.type}, not a session", hint="Give the session_id from the first append."
            )
        session = str(asked.fields.get("session_id") or asked.id)
        found = every_record(self._index, Filters(types=("session",), fields={"session_id": session}))
        others = self._records([record.id for record in found if record.id != asked.id], types, scanner)
        files = sorted((asked, *others), key=lambda file: (file.id != session, file.created, file.id))
        named = session if is_ulid(session) else files[0].id  # an imported one may be called anything
        return log_of(named, files, self._index.get(summary_id(named)))

    def _records(self, ids: Sequence[str], types: TypeRegistry, scanner: SecretScanner) -> list[Record]:
        """Memories as they are on disk now."""
        return [self.read(id_, None, types, scanner).record for id_ in ids]

    def history(self, id: str, limit: int, scanner: SecretScanner) -> History:
        """See `MemoryStore.history`."""
        identifier = full_id(id, self._index)
        record = self._index.get(identifier)
        path = record.path if record else self._deleted_path(identifier)
        revisions = self._revisions(identifier, path, limit)
        return History(
            identifier, path, record is None, tuple(_without_secrets(revision, scanner) for revision in revisions)
        )

    def _revisions(self, identifier: str, path: str, limit: int) -> Sequence[Revision]:  # noqa: ARG002 - of use to others
        """The commits that touched the path of a memory, newest first."""
        return self._repo.history(path, limit=limit)

    def find_deleted(self, identifier: str) -> Deleted | None:
        """Where a memory was that is deleted, as the index or git's history says; None where there was none."""
        stone = self._stones.tombstone(identifier)
        if stone is not None:
            return Deleted(stone.path, stone.version)
        found = self._repo.find_deleted(identifier[-8:].lower())
        if found is None:
            return None
        document = Document.parse(self._repo.read_blob(found[1]), where=found[0])
        return Deleted(*found) if document.fields.get("id") == identifier else None

    def _deleted_path(self, identifier: str) -> str:
        gone = self.find_deleted(identifier)
        if gone is None:
            raise NotFound(f"no memory {identifier!r}, deleted or not", hint="Check the id.", id=identifier)
        return gone.path


def no_memory(id: str) -> NotFound:
    """There is no memory of an id as it was given."""
    return NotFound(
        f"no memory with the id {id!r}",
        hint="Find it with memory_search; if it was deleted, `alg memory restore` brings it back.",
        id=id,
    )


def every_record(index: ReadableIndex, filters: Filters) -> Iterator[Record]:
    """Every memory that the filters let through, a page at a time."""
    cursor: str | None = None
    while True:
        page = index.list(filters, limit=500, cursor=cursor, order="created")
        yield from page.records
        cursor = page.next_cursor
        if cursor is None:
            return


def _without_secrets(revision: Revision, scanner: SecretScanner) -> Revision:
    """A revision whose texts, which may be a remote's, can be shown."""
    texts = (revision.author, revision.subject, *revision.agents, *revision.reasons)
    if not scanner.scan("\n".join(texts)):
        return revision

    def masked(text: str) -> str:
        return scanner.redact(text)[0]

    return replace(
        revision,
        author=masked(revision.author),
        subject=masked(revision.subject),
        agents=tuple(map(masked, revision.agents)),
        reasons=tuple(map(masked, revision.reasons)),
    )
