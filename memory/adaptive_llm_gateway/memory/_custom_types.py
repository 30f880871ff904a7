"""Memory types that users declare: `types/<name>.yaml` in the memory repo, its own fields given as JSON Schema.

The files come with a repo that others can push to, so nothing in them may reach out, hang or run: no references, no
patterns that backtrack without bound, no tags or aliases (see `_yaml`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from adaptive_llm_gateway.core import AlgError, InvalidFile, InvalidInput
from adaptive_llm_gateway.memory._models import BUILT_IN, COMMON_FIELDS, FOLDERS, parse_moment
from adaptive_llm_gateway.memory._yaml import scan

MAX_TYPE_FILE: Final = 32 * 1024
MAX_TYPE_FILES: Final = 100
MAX_PATTERN: Final = 100
MAX_REPETITIONS: Final = 3
MAX_ALTERNATIVES: Final = 10
MAX_MATCHED: Final = 128
"""Characters of a text that a `pattern` is tried on; longer text does not match."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}", re.ASCII)
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_DEVICES = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]", re.ASCII)
_KEYS = ("name", "folder", "description", "schema")
_FORBIDDEN = frozenset(
    ("$ref", "$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor", "patternProperties")
)
_ESCAPE_OR_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that was skipped: `path` within the memory repo, and in `problem` why."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class CustomType:
    """A declared type.

    Attributes:
        own: names of its own fields, as declared.
        defaults: of the fields that have one.
        check: gives (field or None, problem, allowed values) for everything that is wrong with own fields.
    """

    name: str
    folder: str
    description: str
    own: tuple[str, ...]
    defaults: Mapping[str, Any]
    check: Callable[[Mapping[str, Any]], Iterable[tuple[str | None, str, list[Any]]]]


def load_custom_types(folder: Path) -> tuple[list[CustomType], list[Notice]]:
    """Read `folder/*.yaml` in the order of their names; what cannot be used is skipped with a notice, never fatal.

    Args:
        folder: the memory repo's `types` folder; need not exist.
    """
    types: list[CustomType] = []
    notices: list[Notice] = []
    try:
        names = sorted(file.name for file in folder.iterdir() if file.suffix in (".yaml", ".yml"))
    except (FileNotFoundError, NotADirectoryError):
        return types, notices
    except OSError as error:
        return types, [Notice(folder.name, f"cannot be read: {error.strerror}")]
    taken = set(FOLDERS.values())
    for count, name in enumerate(names):
        path = f"{folder.name}/{name}"
        if count >= MAX_TYPE_FILES:
            notices.append(Notice(path, f"only {MAX_TYPE_FILES} types are read"))
            break
        try:
            kind = _load(folder / name, path)
            if any(kind.name == other.name for other in types):
                raise InvalidFile(f"the type {kind.name!r} is declared twice")
            if kind.folder in taken:
                raise InvalidFile(f"the folder {kind.folder!r} belongs to another type")
        except OSError as error:
            notices.append(Notice(path, f"cannot be read: {error.strerror}"))
        except AlgError as error:
            notices.append(Notice(path, error.message))
        except (RecursionError, MemoryError, ValueError, TypeError, KeyError) as error:
            notices.append(Notice(path, f"cannot be used: {type(error).__name__}"))
        else:
            types.append(kind)
            taken.add(kind.folder)
    return types, notices


def _load(file: Path, path: str) -> CustomType:
    declared = _read(file, path)
    stem = file.name.rpartition(".")[0]
    unknown = [key for key in declared if key not in _KEYS]
    if unknown:
        raise InvalidFile(f"unknown key {unknown[0]!r}; allowed: {', '.join(_KEYS)}")
    name = declared.get("name", stem)
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _DEVICES.fullmatch(name):
        raise InvalidFile(f"the name {name!r} is not plain: a-z first, then a-z, 0-9, '_' and '-', at most 40")
    if name != stem:
        raise InvalidFile(f"the name {name!r} differs from the file's name {stem!r}")
    if name in BUILT_IN:
        raise InvalidFile(f"the type {name!r} is built in")
    folder = declared.get("folder", f"{name}s")
    if not isinstance(folder, str) or not _NAME.fullmatch(folder) or _DEVICES.fullmatch(folder) or folder == "types":
        raise InvalidFile(f"the folder {folder!r} is not a plain name: a-z first, then a-z, 0-9, '_' and '-'")
    description = declared.get("description") or ""
    if not isinstance(description, str):
        raise InvalidFile("the description is not text")
    schema = declared.get("schema")
    if schema is None:
        schema = {}
    if not isinstance(schema, dict):
        raise InvalidFile("the schema is not a mapping")
    return _build(name, folder, description, cast("dict[str, Any]", schema))


def _read(file: Path, path: str) -> dict[str, Any]:
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise InvalidFile("not a regular file")
    if found.st_size > MAX_TYPE_FILE:
        raise InvalidFile(f"{found.st_size:,} bytes; a type file has at most {MAX_TYPE_FILE:,}")
    fd = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(fd, "rb") as stream:
        data = stream.read(MAX_TYPE_FILE + 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidFile("not UTF-8") from None
    lines = re.match(r"---[ \t]*\r?\n", text)
    return scan(text[lines.end() :] if lines else text, where=path, first_line=2 if lines else 1).values


def _build(name: str, folder: str, description: str, schema: dict[str, Any]) -> CustomType:
    import jsonschema  # noqa: PLC0415 - a tenth of a second that only users of own types pay
    import referencing  # noqa: PLC0415

    _check_schema(schema)
    validators: Any = jsonschema
    try:
        validators.Draft202012Validator.check_schema(schema)
    except validators.SchemaError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "the schema"
        raise InvalidFile(f"schema: {place}: {error.message[:200]}") from None
    properties: dict[str, Any] = schema.get("properties", {})
    for field in properties:
        if not _FIELD.fullmatch(field):
            raise InvalidFile(f"the field {field!r} is not a plain name")
        if field in COMMON_FIELDS:
            raise InvalidFile(f"the field {field!r} is one that every memory has")
    formats = validators.FormatChecker(("date", "ipv4", "ipv6", "uuid"))
    formats.checkers = {**formats.checkers, "date-time": (_is_moment, ValueError)}
    checker: Any = validators.validators.extend(validators.Draft202012Validator, {"pattern": _match_bounded})
    validator = checker(schema, registry=cast("Any", referencing).Registry(), format_checker=formats)

    def check(values: Mapping[str, Any]) -> Iterable[tuple[str | None, str, list[Any]]]:
        for error in validator.iter_errors(dict(values)):
            place = next(iter(error.absolute_path), None)
            allowed = cast("list[Any]", error.validator_value) if error.validator == "enum" else []
            yield place, str(error.message)[:300], allowed

    defaults = {
        field: cast("dict[str, Any]", rules)["default"]
        for field, rules in properties.items()
        if isinstance(rules, dict) and "default" in rules
    }
    for field, problem, _ in check(defaults):
        if field is not None:
            raise InvalidFile(f"the default of {field!r} does not fit its own schema: {problem[:200]}")
    return CustomType(name, folder, description, tuple(properties), defaults, check)


def _check_schema(schema: dict[str, Any]) -> None:
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            for key, value in cast("dict[str, Any]", node).items():
                if key in _FORBIDDEN:
                    raise InvalidFile(f"schema: {key!r} is not allowed; write the rules out in place")
                if key == "pattern" and isinstance(value, str):
                    _check_pattern(value)
                waiting.append(value)
        elif isinstance(node, list):
            waiting.extend(cast("list[Any]", node))


def _check_pattern(pattern: str) -> None:
    """Refuse patterns that could take more than moments: repeated groups, back references, many open repetitions."""
    if len(pattern) > MAX_PATTERN:
        raise InvalidFile(f"schema: a pattern has at most {MAX_PATTERN} characters")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidFile(f"schema: the pattern {pattern!r} is broken: {error}") from None
    bare = _ESCAPE_OR_CLASS.sub("x", pattern).replace("(?:", "(")
    if re.search(r"\)[*+{]", bare) or "(?" in bare or re.search(r"\\[1-9]", pattern):
        raise InvalidFile(
            f"schema: the pattern {pattern!r} repeats a group, looks around or refers back; such patterns can hang"
        )
    repetitions = len(re.findall(r"[*+?{]", bare))
    if repetitions > MAX_REPETITIONS:
        raise InvalidFile(f"schema: the pattern {pattern!r} has more than {MAX_REPETITIONS} repetitions (`* + ? {{`)")
    if bare.count("|") > (MAX_ALTERNATIVES if not repetitions else 2):
        raise InvalidFile(f"schema: the pattern {pattern!r} has too many alternatives (`|`); use `enum`")


def _match_bounded(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterable[Any]:
    import jsonschema  # noqa: PLC0415

    del schema
    if not validator.is_type(instance, "string"):
        return
    if len(instance) > MAX_MATCHED:
        yield jsonschema.ValidationError(f"it is longer than the {MAX_MATCHED} characters of a pattern")
    elif not re.search(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _is_moment(value: Any) -> bool:
    if isinstance(value, str):
        parse_moment(value)
    return True


def refused(kind: str, field: str | None, problem: str, allowed: list[Any]) -> InvalidInput:
    """The error for a value that a declared type's schema refuses."""
    place = f"{kind} field {field!r}" if field is not None else f"{kind} fields"
    return InvalidInput(
        f"{place}: {problem}",
        hint=f"Allowed: {', '.join(map(str, allowed))}." if allowed else None,
        field=field,
        type=kind,
        allowed=allowed,
    )
