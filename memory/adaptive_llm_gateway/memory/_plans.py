"""From a request to file changes: looks at the files and the index, changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, assert_never, cast

from adaptive_llm_gateway.core import (
    InvalidFile,
    InvalidInput,
    NotFound,
    Quarantined,
    Redaction,
    SecretScanner,
    TooLarge,
    Trust,
    UnsafePath,
    VersionConflict,
    derived_ulid,
    is_ulid,
    new_ulid,
    ulid_milliseconds,
)
from adaptive_llm_gateway.memory._files import read_file
from adaptive_llm_gateway.memory._frontmatter import MAX_FILE, Document
from adaptive_llm_gateway.memory._models import MAX_TITLE, stamp
from adaptive_llm_gateway.memory._names import memory_path, slug
from adaptive_llm_gateway.memory._plan_event import check_changeable, check_no_event, event_document, imported_path
from adaptive_llm_gateway.memory._quarantine import Held
from adaptive_llm_gateway.memory._raising import PersonalRule, Raised, said_by
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._requests import (
    AppendEvent,
    AppendSession,
    DeleteMemory,
    FileChange,
    ImportMemory,
    ReplaceText,
    Request,
    RestoreMemory,
    WriteMemory,
    WriteSummary,
)
from adaptive_llm_gateway.memory._sessions import SUMMARISES, entry_of, summary_id
from adaptive_llm_gateway.memory._sight import Sight
from adaptive_llm_gateway.memory._sighted_plans import SeenLookup, Whole, held_back
from adaptive_llm_gateway.memory._types import TypeRegistry
from adaptive_llm_gateway.memory._values import Author, Change, Link, Operation, Record

_IMITATION = "a line that looks like the beginning of an entry was indented by a space, so that it begins none"
_OWN_FIELD = "import_hash"  # the store's word, and no text of a caller's: by itself a hash looks like a key
_LONGEST_SHOWN = 60  # characters of what was given for an id
_SESSION_FILE_BYTES = 1024 * 1024  # then the hub goes on in a new file of the same session


class Lookup(Protocol):
    """What planning needs of the index."""

    def get(self, id: str, /) -> Record | None:
        """The record of a memory."""
        ...

    def resolve(self, part: str, /) -> list[str]:
        """Ids that begin or end with `text`."""
        ...


@dataclass(frozen=True, slots=True)
class Deleted:
    """Where a deleted memory was last."""

    path: str
    version: str


@dataclass(frozen=True, slots=True)
class Planned:
    """The changes that carry a request out, in order; an edit by hand that was not yet recorded comes first."""

    id: str
    type: str
    title: str
    path: str
    operation: Operation
    version: str | None
    changes: tuple[FileChange, ...]
    notes: tuple[str, ...] = ()
    raised: Raised | None = None
    redacted: tuple[Redaction, ...] = ()


@dataclass(frozen=True, slots=True)
class _Current:
    record: Record
    data: bytes
    version: str

    @property
    def text(self) -> str:
        """The file as it is, whatever is in it."""
        return self.data.decode("utf-8", "replace")

    @property
    def document(self) -> Document:
        """The file as it is; raises `InvalidFile` when somebody broke it."""
        return Document.parse(self.data, where=self.record.path)


_Redactable = WriteMemory | ImportMemory | AppendSession | AppendEvent


class Planner:
    """Plans requests against the files as they are now.

    Args:
        deleted: finds where a deleted memory was, or None.
        held: what is held back, by path: files of which the remote has a newer version that nobody here has seen.
        read_version: the bytes of a memory's file, by its id and path, at a version or commit.
        hub: a short name that tells this hub's session files from another machine's.
        clock: see `StoreSettings`.
        personal: which level a memory gets for the personal data in it; None: such data is not looked for.
        sight: what they see who ask; None: everything.
    """

    def __init__(
        self,
        *,
        root: Path,
        types: TypeRegistry,
        index: Whole,
        scanner: SecretScanner,
        deleted: Callable[[str], Deleted | None],
        read_version: Callable[[str, str, str], bytes],
        hub: str,
        host: str,
        max_body_bytes: int,
        clock: Callable[[], datetime] | None = None,
        held: Callable[[], Mapping[str, Held]] = dict,
        personal: PersonalRule | None = None,
        sight: Sight | None = None,
    ) -> None:
        self._root = root
        self._types = types
        self._seen = None if sight is None else SeenLookup(index, sight)
        self._index: Lookup = self._seen or index
        self._scanner = scanner
        self._deleted = deleted
        self._read_version = read_version
        self._hub = hub
        self._host = host
        self._max_body = max_body_bytes
        self._clock = clock
        self._held = held
        self._personal = personal

    def plan(self, request: Request) -> Planned:
        """The changes for `request`; raises what is wrong with it, before anything is touched."""
        author = request.author
        self._scanner.check(f"{author.client}\n{author.agent or ''}", where="the client's name")
        if isinstance(request, _Redactable) and request.redact:
            request, done = self._redacted(request)
            return replace(self._allowed(request), redacted=done)
        return self._allowed(request)

    def _allowed(self, request: Request) -> Planned:
        """`_planned`, if who asks may have it so."""
        if self._seen is None:
            return self._planned(request)
        try:
            return self._seen.checked(self._planned(request))
        except Quarantined:
            raise held_back() from None

    def _planned(self, request: Request) -> Planned:
        match request:
            case WriteMemory():
                return self._create(request) if request.id is None else self._update(request)
            case ReplaceText():
                return self._replace_text(request)
            case ImportMemory():
                return self._import(request)
            case AppendSession():
                return self._append(request)
            case WriteSummary():
                return self._summarise(request)
            case AppendEvent():
                return self._append_event(request)
            case DeleteMemory():
                return self._delete(request)
            case RestoreMemory():
                return self._restore(request)
            case _:
                assert_never(request)

    # -- the requests ------------------------------------------------------------------------------------------

    def _create(self, request: WriteMemory) -> Planned:
        if request.if_version is not None:
            raise InvalidInput("`if_version` needs the `id` of the memory to update", hint="Give `id`, or leave both.")
        if (made := self._made(request.new_id)) is not None:
            return self._unchanged(made, "write")
        kind = request.type or "note"
        check_no_event(kind, request.fields)
        body = self._text(request.body or "")
        title = self._text(request.title or "") or title_from(body)
        if not title:
            raise InvalidInput("a memory needs a title or a body", hint="Give `title`, `body` or both.")
        now = self._now()
        front = self._types.from_call(
            type=kind,
            title=title,
            body=body,
            id=request.new_id or self._new_id(now),
            created=now,
            updated=now,
            author=replace(request.author, host=self._host),
            project=request.project,
            tags=request.tags or (),
            trust=self._level(request.trust),
            links=request.links or (),
            source=request.source,
            fields=request.fields,
        )
        path = memory_path(self._types.folder_of(kind), now, title, front["id"])
        return self._put(Document.new(front, body), path, "write", request.author, request.reason, known="")

    def _update(self, request: WriteMemory) -> Planned:
        assert request.id is not None  # noqa: S101 - `plan` sends requests without an id to `_create`
        current = self._current(request.id, request.if_version)
        check_changeable(current.record)
        check_no_event(current.record.type, request.fields)
        document = current.document
        if request.type is not None and request.type != current.record.type:
            raise InvalidInput(
                f"memory {current.record.id} is of type {current.record.type!r}; a type does not change to "
                f"{request.type!r}",
                hint="Write a new memory of that type and link it to this one.",
            )
        given: dict[str, Any] = {
            "title": None if request.title is None else self._text(request.title),
            "project": request.project,
            "tags": request.tags,
            "trust": request.trust,
            "links": request.links,
            "source": request.source,
            **request.fields,
        }
        # An empty text clears a field, for callers that have no other way to say so.
        changes = {
            name: None if value == "" else value
            for name, value in given.items()
            if value is not None or name in request.fields
        }
        front = self._types.update_from_call(document.fields, changes)
        if request.body is not None:
            document = document.with_body(self._text(request.body))
        document = document.with_fields({name: value for name, value in front.items() if value is not None})
        document = document.with_fields({}, removed=[name for name, value in front.items() if value is None])
        if document.render() == current.data:
            return self._unchanged(current, "update")
        document = document.with_fields({"updated": stamp(self._now())})
        planned = self._put(document, current.record.path, "update", request.author, request.reason, known=current.text)
        return self._after_edit(current, planned)

    def _replace_text(self, request: ReplaceText) -> Planned:
        current = self._current(request.id, request.if_version)
        document = Document.parse(request.data, where=current.record.path)
        if str(document.fields.get("id")).upper() != current.record.id:
            raise InvalidInput(
                f"the text has the id {document.fields.get('id')!r}, not {current.record.id!r}",
                hint="Leave the line `id:` as it was.",
            )
        if document.render() == current.data:
            return self._unchanged(current, "edit")
        if request.by_token or document.fields.get("updated") == current.document.fields.get("updated"):
            document = document.with_fields({"updated": stamp(self._now())})
        # Who changes the level in the same edit has said what it is to be.
        known = current.text if document.fields.get("trust") == current.document.fields.get("trust") else None
        planned = self._put(document, current.record.path, "edit", request.author, request.reason, known=known)
        if request.by_token:
            self._check_same(current, planned.changes[-1].record)
        return self._after_edit(current, planned)

    def _check_same(self, current: _Current, record: Record | None) -> None:
        """Refuse a text that says what the hub alone writes, and otherwise than the file does now.

        Raises:
            InvalidInput: it has another type, author or time of creation, or it is an event of a handoff, or becomes
                one.
        """
        try:
            known = self._types.to_record(
                current.document, path=current.record.path, version=current.version, mtime_ns=0, size=0
            )
        except InvalidFile:  # nobody knows what it says; what is indexed was read from it before
            known = current.record
        assert record is not None  # noqa: S101 - it is being written
        check_changeable(known)
        check_no_event(record.type, record.fields)
        for name in ("type", "author", "created"):
            if getattr(record, name) != getattr(known, name):
                raise InvalidInput(
                    f"the text has another `{name}` than memory {known.id}",
                    hint=f"Leave `{name}` in the front matter as it was.",
                )

    def _import(self, request: ImportMemory) -> Planned:
        body = self._text(request.body)
        title = self._text(request.title)
        own = self._types.own_fields(request.type)
        front = self._types.from_call(
            type=request.type,
            title=title,
            body=body,
            id=request.id,
            created=request.created,
            updated=request.updated,
            author=replace(request.author, host=self._host),
            project=request.project,
            tags=request.tags,
            trust=request.trust,
            links=request.links,
            source=request.source,
            fields={name: value for name, value in request.fields.items() if name in own},
        )
        front.update({name: value for name, value in request.fields.items() if name not in own and name not in front})
        document = Document.new(front, body)
        existing = self._index.get(request.id)
        self._check_id(request.id)
        if existing is not None:
            current = self._current(request.id, request.if_version)
            if document.render() == current.data:
                return self._unchanged(current, "import")
            return self._after_edit(
                current, self._put(document, current.record.path, "import", request.author, request.reason, known="")
            )
        folder = self._types.folder_of(request.type)
        path = imported_path(folder, front, self._index.get) or memory_path(folder, request.created, title, request.id)
        return self._put(document, self._vacant(path), "import", request.author, request.reason, known="")

    def _append(self, request: AppendSession) -> Planned:
        if not request.text.strip():
            raise InvalidInput("`text` is empty", hint="Say what happened.")
        if request.session_id is None and (made := self._made(request.new_id)) is not None:
            return self._unchanged(made, "append")
        text = self._text(request.text)
        now = self._now()
        session = request.session_id or request.new_id or self._new_id(now)
        if not is_ulid(session):
            raise InvalidInput(
                f"{session!r} is not a session id", hint="Use the id from the first append, or leave it out to begin."
            )
        entry, imitates = entry_of(now, _one_line(request.author.client), text)
        notes = (_IMITATION,) if imitates else ()
        first = self._index.get(session) if request.session_id else None
        if first is not None and first.type != "session":
            raise InvalidInput(
                f"{session!r} is a {first.type}, not a session", hint="Use the session_id from the first append."
            )
        if first is not None:  # any file of a session stands for it
            session = str(first.fields.get("session_id") or session)
        part, current = self._session_part(session, len(entry.encode()), begins=request.session_id is None)
        if current is not None:
            document = current.document
            body = document.body
            joint = "" if body.endswith("\n\n") or not body else "\n" if body.endswith("\n") else "\n\n"
            document = document.with_body(body + joint + entry).with_fields({"updated": stamp(now)})
            planned = self._put(
                document, current.record.path, "append", request.author, request.reason, known=current.text
            )
            return self._after_edit(current, replace(planned, notes=notes + planned.notes))
        if request.session_id is not None and self._index.get(session) is None:
            raise NotFound(f"no session {session!r}", hint="Leave `session_id` out to begin a new session.")
        began = self._index.get(session)
        default_title = f"Session of {request.author.client}, {stamp(now)[:10]}"
        title = request.title or (began.title if began else default_title)
        front = self._types.from_call(
            type="session",
            title=self._text(title),
            body=entry,
            id=part,
            created=now,
            updated=now,
            author=replace(request.author, host=self._host),
            project=request.project or (began.project if began else None),
            tags=(),
            trust=began.trust if began else self._level(None),
            links=() if part == session else (Link("part_of", session),),
            source=None,
            fields={"session_id": session, "client": request.author.client, "hub": self._hub},
        )
        started = datetime.fromtimestamp(ulid_milliseconds(session) / 1000, tz=UTC)
        folder = f"{self._types.folder_of('session')}/{started:%Y}/{started:%m}/{session[-8:].lower()}"
        path = f"{folder}/{slug(self._hub)}-{part[-8:].lower()}.md"
        known = began.title if began else ""
        planned = self._put(Document.new(front, entry), path, "append", request.author, request.reason, known=known)
        return replace(planned, notes=notes + planned.notes)

    def _session_part(self, session: str, size: int, *, begins: bool) -> tuple[str, _Current | None]:
        """The id of the file of this hub that takes the next entry, and the file if it is there."""
        if begins:
            return session, None
        started = ulid_milliseconds(session)
        own = derived_ulid(f"{session}/{self._hub}", milliseconds=started)
        number = 1
        first = self._index.get(session)
        part = session if first is not None and f"/{slug(self._hub)}-" in first.path else own
        while True:
            record = self._index.get(part)
            if record is None and self._is_free(part):
                return part, None
            if (
                record is not None
                and record.path not in self._held()
                and record.size + size <= min(_SESSION_FILE_BYTES, self._max_body)
            ):
                return part, self._current(part, None)
            number += 1
            part = derived_ulid(f"{session}/{self._hub}/{number}", milliseconds=started)

    def _summarise(self, request: WriteSummary) -> Planned:
        file = self._index.get(full_id(request.session_id, self._index))
        if file is None or file.type != "session":
            raise NotFound(f"no session {request.session_id!r}", hint="Use the session_id from the first append.")
        named = str(file.fields.get("session_id"))
        session = named if is_ulid(named) else file.id
        first = self._index.get(session) or file
        id = summary_id(session)
        body = self._text(request.body)
        existing = self._index.get(id)
        self._check_id(id)
        if existing is not None:
            current = self._current(id, None)
            document = current.document.with_body(body).with_fields(dict(request.facts))
            if first.project != existing.project:  # the session was moved, and it says what the log says
                moved = {} if first.project is None else {"project": first.project}
                document = document.with_fields(moved, removed=() if moved else ("project",))
            if not existing.trust.allows(request.trust):
                document = document.with_fields({"trust": str(request.trust)})
            if document.render() == current.data:
                return self._unchanged(current, "update")
            document = document.with_fields({"updated": stamp(self._now())})
            planned = self._put(document, existing.path, "update", request.author, request.reason)
            return self._after_edit(current, planned)
        now = self._now()
        title = f"Summary: {first.title}"
        front = self._types.from_call(
            type="note",
            title=title if len(title) <= MAX_TITLE else title[: MAX_TITLE - 1] + "…",
            body=body,
            id=id,
            created=now,
            updated=now,
            author=replace(request.author, host=self._host),
            project=first.project,
            tags=(),
            trust=request.trust,
            links=(Link(SUMMARISES, session),),
            source=None,
            fields={},
        )
        document = Document.new({**front, **request.facts}, body)
        path = self._vacant(memory_path(self._types.folder_of("note"), now, front["title"], id))
        return self._put(document, path, "write", request.author, request.reason)

    def _append_event(self, request: AppendEvent) -> Planned:
        handoff = full_id(request.handoff, self._index)
        offer = self._index.get(handoff)
        if offer is None:
            raise NotFound(
                f"no handoff with the id {request.handoff!r}",
                hint="Look at the list of handoffs; if it was deleted, `alg memory restore` brings it back.",
                id=request.handoff,
            )
        if self._index.get(request.id) is not None:
            raise InvalidInput(f"there is a memory with the id {request.id!r} already", hint="Give a new id.")
        self._check_id(request.id)
        request = replace(request, title=self._text(request.title), body=self._text(request.body))
        document, path = event_document(request, offer, self._types, host=self._host)
        planned = self._put(document, self._vacant(path), "write", request.author, request.reason, known=offer.title)
        (made,) = planned.changes
        # The message says what happened; its title and the event's own would say so twice.
        return replace(planned, changes=(replace(made, change=replace(made.change, title=offer.title)),))

    def _delete(self, request: DeleteMemory) -> Planned:
        current = self._current(request.id, request.if_version)
        record = current.record
        offer = record.fields.get("handoff")
        if not isinstance(offer, str) or self._index.get(offer) is not None:  # what is left of a handoff may go, too
            check_changeable(record)
        self._check_held(record.path, record.id)
        gone = FileChange(
            Change(record.path, None, "delete", record.id, record.title, request.author, self._clean(request.reason)),
            None,
        )
        planned = Planned(record.id, record.type, record.title, record.path, "delete", None, (gone,))
        return self._after_edit(current, planned)

    def _restore(self, request: RestoreMemory) -> Planned:
        identifier = full_id(request.id, self._index)
        record = self._index.get(identifier)
        if record is not None:
            if request.at is None:
                raise InvalidInput(
                    f"memory {identifier} is not deleted", hint="Give `at` to go back to an earlier version."
                )
            current = self._current(identifier, None)
            document = self._past(identifier, record.path, request.at)
            if document.render() == current.data:
                return self._unchanged(current, "restore")
            document = document.with_fields({"updated": stamp(self._now())})
            return self._after_edit(
                current, self._put(document, record.path, "restore", request.author, request.reason)
            )
        gone = self._deleted(identifier)
        if gone is None:
            raise NotFound(f"no memory {identifier!r}, deleted or not", hint="Check the id.")
        document = self._past(identifier, gone.path, request.at or gone.version)
        planned = self._put(document, gone.path, "restore", request.author, request.reason)
        if not os.path.lexists(self._root / gone.path):
            return planned
        record = planned.changes[0].record
        assert record is not None  # noqa: S101 - it is being written
        path = memory_path(self._types.folder_of(record.type), record.created, record.title, identifier)
        return self._put(document, self._vacant(path), "restore", request.author, request.reason)

    # -- what they share ---------------------------------------------------------------------------------------

    def _now(self) -> datetime:
        moment = datetime.now(UTC) if self._clock is None else self._clock().astimezone(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def _new_id(self, now: datetime) -> str:
        return new_ulid(milliseconds=None if self._clock is None else int(now.timestamp() * 1000))

    def _redacted(self, request: _Redactable) -> tuple[_Redactable, tuple[Redaction, ...]]:
        """The request with a mark for each secret, wherever a text of the caller's goes, and what was taken out."""
        done: list[Redaction] = []
        changes = {
            name: self._without_secrets(value, name, done)
            for name in ("title", "body", "text", "tags", "project", "source", "fields", "reason")
            if (value := getattr(request, name, None)) is not None
        }
        return replace(request, **changes), tuple(done)

    def _without_secrets(self, value: Any, where: str, done: list[Redaction]) -> Any:
        if isinstance(value, str):
            self._check_size(value)
            text, taken = self._scanner.redact(value)
            done += [replace(each, where=where) for each in taken]
            return text
        if isinstance(value, Mapping):
            fields = cast(Mapping[str, Any], value)
            return {
                key: item
                if key == _OWN_FIELD
                else self._without_secrets(item, key if where == "fields" else where, done)
                for key, item in fields.items()
            }
        if isinstance(value, list | tuple):
            return [self._without_secrets(item, where, done) for item in cast(Sequence[Any], value)]
        return value

    def _past(self, identifier: str, path: str, at: str) -> Document:
        document = Document.parse(self._read_version(identifier, path, at), where=path)
        known = document.fields.get("id")
        if known is not None and str(known).upper() != identifier:
            raise NotFound(
                f"{at!r} is no version of memory {identifier}", hint="Its history lists its versions.", id=identifier
            )
        return document

    def _vacant(self, path: str) -> str:
        """`path`, where no file lies that is not known as a memory and would be lost."""
        if os.path.lexists(self._root / path):
            raise InvalidFile(
                f"{path!r} is in the way: a file that is no valid memory",
                hint="Repair it or move it away; the status says what is wrong with it.",
                path=path,
            )
        return path

    def _file_of(self, record: Record) -> bytes | None:
        """What lies on disk where a memory is; None: nothing."""
        data = read_file(self._root, record.path, limit=MAX_FILE)
        if data is None or self._seen is None:
            return data
        try:  # it may have been edited, and not be in the index yet
            document = Document.parse(data, where=record.path)
            now = self._types.to_record(document, path=record.path, version=record.version, mtime_ns=0, size=len(data))
        except (InvalidFile, TooLarge):
            return None
        return data if self._seen.shows(now) else None

    def _is_free(self, id: str) -> bool:
        """Whether there is no memory of this id, seen or not."""
        return self._index.get(id) is None if self._seen is None else self._seen.is_free(id)

    def _check_id(self, id: str) -> None:
        if self._seen is not None:
            self._seen.check_id(id)

    def _level(self, given: Trust | None) -> Trust | None:
        """The level of trust that a new memory is to have; None: the usual one."""
        return given if self._seen is None else self._seen.level(given)

    def _current(self, text: str, if_version: str | None) -> _Current:
        record = self._index.get(full_id(text, self._index))
        data = self._file_of(record) if record else None
        if record is None or data is None:
            raise NotFound(
                f"no memory with the id {text!r}",
                hint="Find it with memory_search; if it was deleted, `alg memory restore` brings it back.",
                id=text,
            )
        version = MemoryRepo.blob_id(data)
        if if_version is not None and if_version != version:
            raise VersionConflict(
                f"memory {record.id} changed: `if_version` is {if_version!r}, the current version is {version!r}",
                hint="Read it again, apply your change to what you find, and write with that version.",
                id=record.id,
                current_version=version,
            )
        return _Current(record, data, version)

    def _put(
        self,
        document: Document,
        path: str,
        operation: Operation,
        author: Author,
        reason: str | None,
        *,
        known: str | None = None,
    ) -> Planned:
        """The change that makes the file at `path` be `document`, checked as a whole.

        Args:
            known: what it, or what it comes from, said before; personal data that is not in it raises the trust level.
                None leaves the level as the document has it.
        """
        self._check_held(path, str(document.fields.get("id")))
        self._check_size(document.body)
        data = document.render()
        self._check_secrets(document, data.decode("utf-8"))
        version = MemoryRepo.blob_id(data)
        record = self._types.to_record(document, path=path, version=version, mtime_ns=0, size=len(data))
        raised: Raised | None = None
        if self._personal is not None and known is not None:
            known += said_by(record.author)
            raised = self._personal.look(data.decode("utf-8"), known=known, level=record.trust)
            if raised is not None and raised.after is not record.trust:
                data = document.with_fields({"trust": str(raised.after)}).render()
                raised = self._personal.look(data.decode("utf-8"), known=known, level=record.trust)  # lines may move
                record = replace(record, trust=raised.after if raised else record.trust)
                version = MemoryRepo.blob_id(data)
                record = replace(record, version=version, size=len(data))
        reason = self._clean(reason)
        record = replace(record, reason=reason)
        change = Change(path, data, operation, record.id, record.title, author, reason)
        notes = () if raised is None else (raised.note,)
        done = (FileChange(change, record),)
        return Planned(record.id, record.type, record.title, path, operation, version, done, notes, raised)

    def _check_secrets(self, document: Document, text: str) -> None:
        """Refuse a memory with a credential; lines are those of the body, which the writer sees, where all is in it."""
        found = [finding.fingerprint for finding in self._scanner.scan(text)]
        if found:
            in_body = [finding.fingerprint for finding in self._scanner.scan(document.body)] == found
            self._scanner.check(document.body if in_body else text, where="this memory")

    def _check_held(self, path: str, identifier: str) -> None:
        item = self._held().get(path)
        if item is not None:
            raise Quarantined(
                f"memory {identifier} cannot be changed now: the remote has another version of {item.shown!r}, which "
                f"is held back ({item.why}); a write would undo it unseen",
                hint="Have it mended on the remote and pull, or allow what was found, or write a new memory that links "
                "to this one. `alg memory quarantine` shows it; a person can give it up there.",
                id=identifier,
                path=item.shown,
                commit=item.commit,
                why=item.kind,
            )

    def _after_edit(self, current: _Current, planned: Planned) -> Planned:
        """Put an edit by hand that nobody recorded yet in front, so that it has a version of its own in history."""
        if current.version == current.record.version:
            return planned
        path, size = current.record.path, len(current.data)
        self._scanner.check(current.data.decode("utf-8", "replace"), where=f"{path!r} as edited by hand")
        author = Author(client="editor", host=self._host)
        try:
            record = self._types.to_record(current.document, path=path, version=current.version, mtime_ns=0, size=size)
        except (InvalidFile, TooLarge):  # broken, but what it says is kept all the same
            record = replace(current.record, version=current.version, size=size)
        edit = FileChange(
            Change(record.path, current.data, "edit", record.id, record.title, author, "edited by hand"), record
        )
        return replace(planned, changes=(edit, *planned.changes))

    def _made(self, new_id: str | None) -> _Current | None:
        """What was created with this id before.

        Raises:
            InvalidInput: no ULID.
            NotFound: it was deleted since.
        """
        if new_id is None:
            return None
        if not is_ulid(new_id):
            raise InvalidInput(f"{new_id[:_LONGEST_SHOWN]!r} is not an id for a new memory")
        if self._index.get(new_id) is not None:
            return self._current(new_id, None)
        if self._deleted(new_id) is not None:
            raise NotFound(f"memory {new_id} was created, and deleted since", hint="It can be restored.")
        return None

    def _unchanged(self, current: _Current, operation: Operation) -> Planned:
        """Nothing is to be done but to record an edit by hand, so that what the answer says is so."""
        record = current.record
        planned = Planned(record.id, record.type, record.title, record.path, operation, current.version, ())
        return self._after_edit(current, planned)

    def _text(self, text: str) -> str:
        """A text of a call that can be stored: of a bearable size, and without NUL."""
        self._check_size(text)
        if "\x00" in text:
            raise InvalidInput("the text contains a NUL character", hint="Remove it.")
        return text

    def _check_size(self, text: str) -> None:
        # A character has at most four bytes, so that most texts need not be encoded to be measured.
        if len(text) * 4 > self._max_body and len(text.encode("utf-8", "surrogatepass")) > self._max_body:
            raise TooLarge(
                f"the text is larger than {self._max_body:,} bytes",
                hint="Split it into several memories and link them; `memory.max_body_bytes` sets the limit.",
                limit=self._max_body,
            )

    def _clean(self, reason: str | None) -> str | None:
        if reason is None or not reason.strip():
            return None
        line = _one_line(reason)[:500]
        self._scanner.check(line, where="the reason")
        return line


def _shown(text: str) -> str:
    if len(text) <= _LONGEST_SHOWN:
        return repr(text)
    return f"{text[:_LONGEST_SHOWN]!r}… ({len(text):,} characters)"


def full_id(text: str, index: Lookup) -> str:
    """The full id for an id, or for an unambiguous beginning or end of one (at least 6 characters).

    Raises:
        InvalidInput: not an id, or it fits several memories.
        NotFound: it fits none.
    """
    wanted = text.strip().removeprefix("memory://").upper()
    if is_ulid(wanted):
        return wanted
    if not wanted.isalnum() or not 6 <= len(wanted) <= 26:
        raise UnsafePath(
            f"{_shown(text)} is not a memory id",
            hint="An id has 26 letters and digits; 6 from its beginning or end will do where they fit one memory.",
        )
    found = index.resolve(wanted)
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidInput(f"{text!r} fits {len(found)} memories: {', '.join(found[:5])}", hint="Give more of the id.")
    raise NotFound(
        f"no memory with the id {text!r}", hint="Find it with memory_search; a deleted one needs its full id.", id=text
    )


def title_from(body: str) -> str:
    """A title from a body: its first heading or first line of text, at most 80 characters; empty when there is none."""
    for line in body.splitlines():
        text = _one_line(line.lstrip("#>-* \t"))
        if text:
            return text if len(text) <= 80 else text[:77].rsplit(" ", 1)[0] + "..."
    return ""


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
