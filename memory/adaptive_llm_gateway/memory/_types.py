"""Memory types: the built-in and the declared ones, calls validated strictly, files read leniently."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, cast

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from adaptive_llm_gateway.core import (
    InvalidFile,
    InvalidInput,
    Trust,
    UnknownField,
    UnknownType,
    derived_ulid,
    is_ulid,
)
from adaptive_llm_gateway.memory._custom_types import CustomType, Notice, load_custom_types, refused
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._models import (
    BUILT_IN,
    COMMON_FIELDS,
    FOLDERS,
    MAX_TITLE,
    MEMORY,
    AnyCommon,
    Common,
    parse_moment,
    stamp,
)
from adaptive_llm_gateway.memory._values import Author, Link, Record
from adaptive_llm_gateway.memory._yaml import plain_fields

__all__ = ["BUILT_IN_TYPES", "Notice", "TypeRegistry"]

BUILT_IN_TYPES: Final = tuple(BUILT_IN)

_COMMON = frozenset(COMMON_FIELDS)
_FIXED = ("id", "type", "created", "author")
_REQUIRED = ("title", "updated", "trust")
_QUOTED = re.compile(r"'([^']*)'")
_HEADING = re.compile(r"[ ]{0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*")
_FENCE = re.compile(r"[ ]{0,3}(```|~~~)")
_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_TAIL = re.compile(r"-[0-9a-hjkmnp-tv-z]{8}", re.ASCII)
_SHOWN = 80


class _Kind:
    """One type: its folder, its own fields, and how their values are checked."""

    __slots__ = ("_adapters", "_custom", "_model", "defaults", "description", "folder", "name", "own")

    def __init__(self, name: str, folder: str, *, model: type[Common[Any]], custom: CustomType | None = None) -> None:
        self.name = name
        self.folder = folder
        self._model = model
        self._custom = custom
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        if custom is None:
            infos = {field: info for field, info in model.model_fields.items() if field not in _COMMON}
            self.own = tuple(infos)
            self.defaults: Mapping[str, Any] = {
                field: info.default for field, info in infos.items() if _has_default(info)
            }
            self.description = " ".join((model.__doc__ or "").split())
        else:
            self.own, self.defaults, self.description = custom.own, custom.defaults, custom.description

    def validated(self, common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
        """Front matter in canonical order, without what is empty."""
        custom = self._custom
        try:
            if custom is None:
                model = MEMORY.validator.validate_python({**common, **own})
            else:
                model = AnyCommon.__pydantic_validator__.validate_python(common)
        except ValidationError as error:
            raise _refusal(error, self.name) from None
        result = self._model.__pydantic_serializer__.to_python(model, mode="json", exclude_none=True)
        if custom is not None:
            plain = plain_fields({**custom.defaults, **own})
            for problem in custom.check(plain):
                raise refused(self.name, *problem)
            result |= {field: plain[field] for field in self.own if field in plain}
        return {key: value for key, value in result.items() if value not in ([], {}, "")}

    def changed_own(self, current: Mapping[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """The changes of own fields as they go to the file; None removes."""
        custom = self._custom
        if custom is None:
            return {field: self.changed(field, value) for field, value in changes.items()}
        before = {field: current[field] for field in self.own if current.get(field) is not None}
        plain = plain_fields(changes)
        after = {field: value for field, value in {**before, **plain}.items() if value is not None}
        already: set[tuple[str | None, str]] = set()
        for field, problem, allowed in custom.check(after):
            if field is None or field not in changes:
                # What was wrong before, in a file written by hand, does not stand in the way of other changes.
                already = already or {(place, text) for place, text, _ in custom.check(before)}
                if (field, problem) in already:
                    continue
            raise refused(self.name, field, problem, allowed)
        return plain

    def changed(self, field: str, value: Any) -> Any:
        """One built-in field's value as it goes to the file; None removes."""
        if value is None:
            return None
        adapter = self._adapters.get(field)
        if adapter is None:
            info = self._model.model_fields[field]
            adapter = TypeAdapter(cast("Any", Annotated)[info.annotation, info])
            self._adapters[field] = adapter
        try:
            result = adapter.dump_python(adapter.validate_python(value), mode="json", exclude_none=True)
        except ValidationError as error:
            raise _refusal(error, self.name, field) from None
        return None if result in ([], {}) else result


def _has_default(info: FieldInfo) -> bool:
    return not info.is_required() and info.default_factory is None and info.default is not None


class TypeRegistry:
    """The types of one memory repo. Immutable; load it again when `types/` changes."""

    def __init__(self, custom: Iterable[CustomType] = ()) -> None:
        self._kinds = {name: _Kind(name, FOLDERS[name], model=model) for name, model in BUILT_IN.items()}
        for kind in custom:
            self._kinds[kind.name] = _Kind(kind.name, kind.folder, model=AnyCommon, custom=kind)
        self._folders = {kind.folder: kind.name for kind in self._kinds.values()}

    @classmethod
    def load(cls, folder: Path) -> tuple[TypeRegistry, list[Notice]]:
        """The built-in types and those that the memory repo declares.

        Args:
            folder: the repo's `types` folder; need not exist.

        Returns:
            The registry, and a notice for each type file that was skipped.
        """
        custom, notices = load_custom_types(folder)
        return cls(custom), notices

    @classmethod
    def joined(cls, registries: Iterable[TypeRegistry]) -> TypeRegistry:
        """The types of several memory repos, to look names up in; where two have one name, the first counts."""
        found = cls()
        for registry in registries:
            for name, kind in registry._kinds.items():
                found._kinds.setdefault(name, kind)
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """All types, the built-in ones first."""
        return tuple(self._kinds)

    def folder_of(self, type: str) -> str:
        """The top-level folder of a type's files.

        Raises:
            UnknownType: no such type.
        """
        return self._kind(type).folder

    def type_of_folder(self, folder: str) -> str | None:
        """The type whose files are in a top-level folder, or None."""
        return self._folders.get(folder)

    def own_fields(self, type: str) -> tuple[str, ...]:
        """The fields that a type has beside the common ones.

        Raises:
            UnknownType: no such type.
        """
        return self._kind(type).own

    def description_of(self, type: str) -> str:
        """What a type is for, in a sentence; empty where a declared type does not say.

        Raises:
            UnknownType: no such type.
        """
        return self._kind(type).description

    def from_call(
        self,
        *,
        type: str,
        title: str | None,
        body: str,
        id: str,
        created: datetime | str,
        updated: datetime | str,
        author: Author,
        project: str | None = None,
        tags: Iterable[str] | None = None,
        trust: Trust | str | None = None,
        links: Iterable[Link | Mapping[str, Any]] | None = None,
        source: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Front matter for a new memory: validated, in canonical order, ready for `Document.new`.

        Fields with a default are written with it, empty ones are left out. Values of None count as not given.

        Args:
            title: one line; None takes the body's first heading.
            body: only looked at for the title.
            created, updated: without a zone they are UTC.
            fields: the type's own fields.

        Raises:
            UnknownType: no such type.
            UnknownField: a field that the type does not have; names the field, the type and what is allowed.
            InvalidInput: a wrong value; names the field, the value and what is allowed.
        """
        kind = self._kind(type)
        own = {key: value for key, value in (fields or {}).items() if value is not None}
        self._check_names(kind, own)
        common: dict[str, Any] = {
            "id": id,
            "type": type,
            "title": (first_heading(body) or "Untitled") if title is None else title,
            "created": created,
            "updated": updated,
            "author": _author_fields(author),
            "project": project,
            "tags": tags if tags is not None else (),
            "links": _link_list(links if links is not None else ()),
            "source": source,
        }
        if trust is not None:
            common["trust"] = trust
        return kind.validated(common, own)

    def update_from_call(self, current: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """The changes a call asks for, validated, as they go to the file; a value of None says: remove the field.

        Args:
            current: the file's fields, with at least `type`.
            changes: common fields (`title`, `updated`, `project`, `tags`, `trust`, `links`, `source`) and the type's
                own ones, by name. None, or an empty list, removes a field.

        Raises:
            UnknownType: the file's type is not known.
            UnknownField: a field that the type does not have.
            InvalidInput: a wrong value, or a change of `id`, `type`, `created` or `author`, which are fixed.
        """
        kind = self._kind(str(current.get("type")))
        result: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for field, value in changes.items():
            if field not in _COMMON:
                own[field] = value
            elif field in _FIXED:
                if value != current.get(field):
                    raise InvalidInput(
                        f"{field!r} of a memory cannot be changed (to {_shown(value)})",
                        hint="Write a new memory and link it to this one.",
                        field=field,
                    )
            elif value is None and field in _REQUIRED:
                raise InvalidInput(f"{field!r} of a memory cannot be removed", field=field)
            else:
                given = _link_list(value) if field == "links" and value is not None else value
                result[field] = kind.changed(field, given)
        self._check_names(kind, own)
        return result | kind.changed_own(current, own)

    def to_record(
        self, document: Document, *, path: str, version: str, mtime_ns: int, size: int, type: str | None = None
    ) -> Record:
        """A file as the index keeps it. Lenient: what a person plainly meant is understood, nothing is rewritten.

        A missing type is taken from the folder, a missing title from the first heading or the file's name, missing
        dates from the file's modification time; own fields that are missing have their defaults.

        Args:
            path: POSIX path within the memory repo.
            version: git blob id.
            mtime_ns, size: of the file.
            type: for a file outside the types' folders that does not name its type.

        Raises:
            InvalidFile: no id (see `adopt`), an unknown type, or a common field of the wrong type; names the field.
        """
        fields = document.fields
        id = _read_id(fields, path)
        if id is None:
            raise InvalidFile(
                f"{path} has no 'id'", hint="Adopt the file, or add the id that it had.", path=path, field="id"
            )
        kind = self._read_type(fields, path, type)
        own = {key: value for key, value in fields.items() if key not in _COMMON}
        for field, value in kind.defaults.items():
            if own.get(field) is None:
                own[field] = value
        created = _read_moment(fields, "created", path)
        updated = _read_moment(fields, "updated", path)
        if created is None or updated is None:
            modified = _modified(mtime_ns)
            created = created or min(updated or modified, modified)
            updated = updated or max(created, modified)
        return Record(
            id=id,
            type=kind.name,
            title=_read_line(document, "title", path) or _title_from(document.body, path),
            body=document.body,
            path=path,
            version=version,
            mtime_ns=mtime_ns,
            size=size,
            created=created,
            updated=updated,
            author=_read_author(fields, path) or Author("unknown"),
            project=_read_line(document, "project", path),
            tags=_read_tags(fields, path),
            trust=_read_trust(fields, path),
            links=_read_links(fields, path),
            source=_read_line(document, "source", path),
            fields=own,
        )

    def adopt(
        self, document: Document, *, path: str, mtime_ns: int, author: Author, type: str | None = None
    ) -> Document:
        """A file written by hand, with the common fields that it lacks: `id`, `type`, `title`, `created`, `updated`,
        `author`. Every other byte stays; a file that lacks nothing is returned as it is.

        The same file (path, body and time) always gets the same id, so that adopting it twice is harmless.

        Raises:
            InvalidFile: an unknown type, or a common field of the wrong type.
        """
        fields = document.fields
        id = _read_id(fields, path)
        kind = self._read_type(fields, path, type)
        created = _read_moment(fields, "created", path)
        updated = _read_moment(fields, "updated", path)
        modified = _modified(mtime_ns)
        since = created or min(updated or modified, modified)
        known_author = _read_author(fields, path)
        _read_tags(fields, path)
        _read_trust(fields, path)
        _read_links(fields, path)
        _read_line(document, "project", path)
        _read_line(document, "source", path)
        title = _read_line(document, "title", path)
        missing: dict[str, Any] = {}
        if id is None:
            milliseconds = int(since.timestamp() * 1000)
            missing["id"] = derived_ulid(f"{path}\0{document.body}", milliseconds=milliseconds)
        if fields.get("type") is None:
            missing["type"] = kind.name
        if not title:
            missing["title"] = _title_from(document.body, path)
        if created is None:
            missing["created"] = stamp(since)
        if updated is None:
            missing["updated"] = stamp(max(since, modified))
        if known_author is None:
            missing["author"] = _author_fields(author)
        return document.with_fields(missing) if missing else document

    def _kind(self, type: str) -> _Kind:
        kind = self._kinds.get(type)
        if kind is None:
            raise UnknownType(
                f"there is no memory type {_shown(type)}",
                hint=f"Types: {', '.join(self._kinds)}. Declare others in `types/<name>.yaml` of the memory repo.",
                type=type,
                allowed=list(self._kinds),
            )
        return kind

    @staticmethod
    def _check_names(kind: _Kind, own: Mapping[str, Any]) -> None:
        for field in own:
            if field in kind.own:
                continue
            allowed = ", ".join(kind.own) or "none"
            raise UnknownField(
                f"a {kind.name} has no field {_shown(field)}; its own fields: {allowed}",
                hint=f"{field!r} is a field of every memory: give it by its own name, not among `fields`."
                if field in _COMMON
                else "Put it into the body or the tags, or declare a type of your own in `types/`.",
                field=field,
                type=kind.name,
                allowed=list(kind.own),
            )

    def _read_type(self, fields: Mapping[str, Any], path: str, fallback: str | None) -> _Kind:
        value = fields.get("type")
        if value is None:
            value = self._folders.get(path.split("/", 1)[0], fallback)
            if value is None:
                raise _wrong_field(path, "type", None, f"one of {', '.join(self._kinds)}")
        kind = self._kinds.get(value.strip()) if isinstance(value, str) else None
        if kind is None:
            raise _wrong_field(path, "type", value, f"one of {', '.join(self._kinds)}")
        return kind


# --- Errors ------------------------------------------------------------------------------------------


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _refusal(error: ValidationError, kind: str, field: str | None = None) -> InvalidInput:
    found = error.errors(include_url=False)[0]
    # The union puts the type before the field's name.
    parts = (field, *found["loc"]) if field else found["loc"][1:] if found["loc"][:1] == (kind,) else found["loc"]
    place = ".".join(map(str, parts))
    context = found.get("ctx", {})
    value = found["input"]
    allowed: list[str] = []
    match found["type"]:
        case "missing":
            return InvalidInput(f"{kind} field {place!r} is missing", field=place, type=kind)
        case "extra_forbidden":
            return UnknownField(f"a {kind} has no field {place!r}", field=place, type=kind)
        case "literal_error" | "enum":
            allowed = _QUOTED.findall(str(context.get("expected", "")))
            expected = f"one of {', '.join(allowed)}"
        case "value_error":
            expected = str(context["error"])
        case "string_too_long":
            expected = f"at most {context['max_length']} characters (it has {len(str(value))})"
        case "string_too_short":
            expected = "not empty"
        case "too_long":
            expected = f"at most {context['max_length']} items"
        case "string_type":
            expected = "text"
        case "greater_than_equal":
            expected = f"at least {context['ge']:g}"
        case "less_than_equal":
            expected = f"at most {context['le']:g}"
        case "model_type":
            expected = "a mapping with 'rel' and 'id'"
        case "bool_type":
            expected = "true or false"
        case "list_type":
            expected = "a list"
        case "float_type":
            expected = "a number"
        case _:
            message = found["msg"]
            expected = message[0].lower() + message[1:]
            expected = expected.removeprefix("input should be ")
    return InvalidInput(
        f"{kind} field {place!r} is {_shown(value)}; it must be {expected}",
        hint=f"Allowed: {', '.join(allowed)}." if allowed else None,
        field=place,
        type=kind,
        value=_shown(value),
        allowed=allowed,
    )


def _wrong_field(path: str, field: str, value: Any, expected: str) -> InvalidFile:
    said = f"is {_shown(value)}" if value is not None else "is missing"
    return InvalidFile(
        f"{path}: the field {field!r} {said}; it must be {expected}",
        hint=f"Correct {field!r} in the file's front matter.",
        path=path,
        field=field,
        value=_shown(value),
    )


# --- Reading files -----------------------------------------------------------------------------------


def _read_id(fields: Mapping[str, Any], path: str) -> str | None:
    value = fields.get("id")
    if value is None:
        return None
    id = str(value).strip().upper()
    if isinstance(value, bool) or not is_ulid(id):
        raise _wrong_field(path, "id", value, "a ULID of 26 characters")
    return id


def _read_moment(fields: Mapping[str, Any], field: str, path: str) -> datetime | None:
    value = fields.get(field)
    if value is None:
        return None
    if isinstance(value, str):
        try:
            return parse_moment(value)
        except ValueError:
            pass
    raise _wrong_field(path, field, value, "a date and time in ISO 8601")


def _read_line(document: Document, field: str, path: str) -> str | None:
    value = document.fields.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        # `title: 1.10` is meant as text: take what stands there, not the number it reads as.
        value = document.source_of(field)
        if value is None:
            raise _wrong_field(path, field, document.fields[field], "text")
    return _SPACES.sub(" ", value).strip() or None


def _read_author(fields: Mapping[str, Any], path: str) -> Author | None:
    value = fields.get("author")
    if value is None:
        return None
    if isinstance(value, str) and value.strip():
        return Author(_SPACES.sub(" ", value).strip())
    if isinstance(value, dict):
        parts = cast("dict[str, Any]", value)
        client, agent, host = parts.get("client"), parts.get("agent"), parts.get("host")
        if (
            (client is None or isinstance(client, str))
            and (agent is None or isinstance(agent, str))
            and (host is None or isinstance(host, str))
        ):
            return Author(client or "unknown", agent or None, host or None)
    raise _wrong_field(path, "author", value, "a mapping with the texts 'client', 'agent' and 'host'")


def _read_tags(fields: Mapping[str, Any], path: str) -> tuple[str, ...]:
    value = fields.get("tags")
    if value is None:
        return ()
    items = cast("list[Any]", value.split(",") if isinstance(value, str) else value)
    if not isinstance(value, (str, list)):
        raise _wrong_field(path, "tags", value, "a list of texts")
    tags: dict[str, None] = {}
    for item in items:
        if isinstance(item, (bool, float, list, dict)):
            raise _wrong_field(path, "tags", item, "a list of texts; quote what is meant as text")
        if item is not None:
            tags[_SPACES.sub(" ", str(item)).strip()] = None
    tags.pop("", None)
    return tuple(tags)


def _read_trust(fields: Mapping[str, Any], path: str) -> Trust:
    value = fields.get("trust")
    if value is None:
        return Trust.INTERNAL
    if isinstance(value, str):
        try:
            return Trust(value.strip().lower())
        except ValueError:
            pass
    raise _wrong_field(path, "trust", value, f"one of {', '.join(Trust)}")


def _read_links(fields: Mapping[str, Any], path: str) -> tuple[Link, ...]:
    value = fields.get("links")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise _wrong_field(path, "links", value, "a list of mappings with 'rel' and 'id'")
    links: dict[Link, None] = {}
    for item in cast("list[Any]", value):
        rel: Any = "relates_to"
        target: Any = item
        if isinstance(item, dict):
            link = cast("dict[str, Any]", item)
            rel, target = link.get("rel", rel), link.get("id")
        if not isinstance(rel, str) or not isinstance(target, str) or not is_ulid(target.strip().upper()):
            raise _wrong_field(path, "links", item, "a list of mappings with 'rel' (text) and 'id' (a ULID)")
        links[Link(rel.strip(), target.strip().upper())] = None
    return tuple(links)


def _author_fields(author: Author) -> dict[str, str]:
    parts = {"client": author.client, "agent": author.agent, "host": author.host}
    return {key: value for key, value in parts.items() if value}


def _link_list(links: Any) -> Any:
    if isinstance(links, (str, Mapping)) or not isinstance(links, Iterable):
        return cast("Any", links)  # refused by the model, with the field's name
    unique: list[Any] = []
    for link in cast("Iterable[Any]", links):
        item = {"rel": link.rel, "id": link.id} if isinstance(link, Link) else link
        if item not in unique:
            unique.append(item)
    return unique


def _modified(mtime_ns: int) -> datetime:
    return datetime.fromtimestamp(mtime_ns // 1_000_000 / 1000, UTC)


def first_heading(body: str) -> str | None:
    """The text of the first ATX heading outside code fences, as one line of at most `MAX_TITLE` characters."""
    fence = ""
    for line in body[:200_000].splitlines():
        opened = _FENCE.match(line)
        if opened:
            fence = "" if fence == opened[1] else fence or opened[1]
        elif not fence:
            heading = _HEADING.fullmatch(line)
            text = _SPACES.sub(" ", heading[1]).strip() if heading else ""
            if text:
                return text[:MAX_TITLE].rstrip()
    return None


def _title_from(body: str, path: str) -> str:
    heading = first_heading(body)
    if heading:
        return heading
    stem = path.rpartition("/")[2].removesuffix(".md")
    tail = _TAIL.search(stem, max(0, len(stem) - 9))
    name = stem[: tail.start()] if tail and tail.end() == len(stem) else stem
    return _SPACES.sub(" ", name.replace("-", " ").replace("_", " ")).strip()[:MAX_TITLE] or "Untitled"
