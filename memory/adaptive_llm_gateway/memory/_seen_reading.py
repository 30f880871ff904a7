"""Single memories and their past as somebody reads them who does not see everything.

What is read from a file, now or as it was, is judged by what it says itself then, and by what the index says of the
memory now: both have to be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from adaptive_llm_gateway.core import AlgError, InvalidFile, NotFound, SecretScanner
from adaptive_llm_gateway.memory._commit_message import agents_and_reasons, told_by
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._index_rows import Tombstone
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._plans import Deleted
from adaptive_llm_gateway.memory._reading import Reading, no_memory
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._requests import Memory
from adaptive_llm_gateway.memory._seen_index import SeenIndex
from adaptive_llm_gateway.memory._sight import Sight, seen
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Record, Revision

_OF_SEVERAL = "a commit of several files"


class Versions:
    """Judges what a memory's file said at some time.

    Args:
        index: with everything in it.
        types: by which files are read.
    """

    def __init__(self, index: MemoryIndex, repo: MemoryRepo, sight: Sight, types: TypeRegistry) -> None:
        self._index, self._repo, self._sight, self._types = index, repo, sight, types

    def shows(self, data: bytes, identifier: str) -> bool:
        """Whether a content is this memory's, and is seen. What cannot be read is not."""
        try:
            document = Document.parse(data, where="a version")
            record = self._types.to_record(document, path="x.md", version="0" * 40, mtime_ns=0, size=len(data))
        except AlgError:
            return False
        return record.id == identifier and seen(record, self._sight, self._index.get) is not None

    def shows_version(self, version: str, identifier: str) -> bool:
        """The same of a version."""
        try:
            return self.shows(self._repo.read_blob(version), identifier)
        except NotFound:
            return False

    def shows_deleted(self, identifier: str, gone: Deleted | Tombstone | None) -> bool:
        """Whether a deleted memory is seen: by its last version, and only while it is deleted."""
        if gone is None or self._index.get(identifier) is not None:
            return False
        return self.shows_version(gone.version, identifier)


class SeenReading(Reading):
    """`Reading` for somebody who does not see everything. To be made for each call.

    Args:
        index: with everything in it.

    Attributes:
        index: what is seen of it.
        versions: judges what a file said.
    """

    def __init__(self, root: Path, index: MemoryIndex, repo: MemoryRepo, *, sight: Sight, types: TypeRegistry) -> None:
        self.index = SeenIndex(index, sight)
        super().__init__(root, self.index, repo, stones=index)
        self._whole, self._sight = index, sight
        self.versions = Versions(index, repo, sight, types)

    def read(self, id: str, at: str | None, types: TypeRegistry, scanner: SecretScanner) -> Memory:
        """See `MemoryStore.read`."""
        try:
            found = super().read(id, at, types, scanner)
        except InvalidFile:
            if at is not None:
                raise
            # What it says now is not known, and neither is who may see that.
            raise InvalidFile(
                f"the file of memory {id!r} cannot be read as it is now",
                hint="Somebody edited it; the person whose hub this is sees what is wrong with it.",
            ) from None
        if seen(found.record, self._sight, self._whole.get) is None:  # edited, and not in the index yet
            raise no_memory(id)
        return found

    def version(self, identifier: str, path: str, at: str) -> bytes:
        """See `Reading`; of what is seen."""
        return self._repo.read_at(path, at, shows=lambda data: self.versions.shows(data, identifier))

    def _records(self, ids: Sequence[str], types: TypeRegistry, scanner: SecretScanner) -> list[Record]:
        found: list[Record] = []
        for id_ in ids:
            try:
                found.append(self.read(id_, None, types, scanner).record)
            except (NotFound, InvalidFile):  # it was edited just now
                continue
        return found

    def find_deleted(self, identifier: str) -> Deleted | None:
        """See `Reading`; of what is seen."""
        try:
            gone = super().find_deleted(identifier)
        except InvalidFile:  # its last version cannot be read
            return None
        return gone if self.versions.shows_deleted(identifier, gone) else None

    def _revisions(self, identifier: str, path: str, limit: int) -> Sequence[Revision]:
        asked = limit
        while True:
            every = self._repo.history(path, limit=asked)
            found = [each for each, shown in zip(every, self._shown(every, identifier), strict=True) if shown]
            if len(found) >= limit or len(every) < asked:
                return [self._told(revision) for revision in found[:limit]]
            asked *= 4

    def _shown(self, revisions: Sequence[Revision], identifier: str) -> list[bool]:
        """Which revisions are seen; a deletion where the version is that it took away."""
        known: dict[str, bool] = {}
        shown: list[bool] = []
        before = False
        for revision in reversed(revisions):
            if revision.version is not None:
                if revision.version not in known:
                    known[revision.version] = self.versions.shows_version(revision.version, identifier)
                before = known[revision.version]
            shown.append(before)
        return shown[::-1]

    def _told(self, revision: Revision) -> Revision:
        """A revision without what its commit says of other memories."""
        message = self._repo.told_in(revision.commit)
        named = [path for _, path, _, _ in told_by(message)]
        if named == [revision.path]:
            return revision
        if revision.path not in named:  # somebody's own git, or a merge: it may speak of anything
            return replace(revision, author="", subject=_OF_SEVERAL, agents=(), reasons=())
        agents, reasons = agents_and_reasons(message, revision.path)
        return replace(revision, author=", ".join(agents), subject=_OF_SEVERAL, agents=agents, reasons=reasons)
