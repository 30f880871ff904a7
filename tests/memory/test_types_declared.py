"""Types that users declare in `types/` of the memory repo."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import InvalidInput, UnknownField
from adaptive_llm_gateway.memory._custom_types import MAX_TYPE_FILE, MAX_TYPE_FILES
from adaptive_llm_gateway.memory._frontmatter import Document
from adaptive_llm_gateway.memory._types import BUILT_IN_TYPES, TypeRegistry
from adaptive_llm_gateway.memory._values import Author

ID = "01JD8XYZABCDEFGHJKMNPQRSTV"
RECIPE = r"""---
name: recipe
description: Something to cook.
schema:
  type: object
  required: [serves]
  properties:
    serves: {type: integer, minimum: 1}
    course: {enum: [starter, main, dessert], default: main}
    code: {type: string, pattern: '^[A-Z]+-\d+$'}
    cooked: {type: string, format: date}
    steps: {type: array, items: {type: string}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    result = tmp_path / "types"
    result.mkdir()
    return result


@pytest.fixture
def types(folder: Path) -> TypeRegistry:
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    registry, notices = TypeRegistry.load(folder)
    assert notices == []
    return registry


def call(types: TypeRegistry, fields: dict[str, Any], type: str = "recipe") -> dict[str, Any]:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    return types.from_call(
        type=type, title="Soup", body="", id=ID, created=now, updated=now, author=Author("x"), fields=fields
    )


def problem_of(folder: Path, text: str, name: str = "thing.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    types, notices = TypeRegistry.load(folder)
    assert types.names == BUILT_IN_TYPES
    assert [notice.path for notice in notices] == [f"types/{name}"]
    return notices[0].problem


def test_a_declared_type_works_like_a_built_in_one(types: TypeRegistry) -> None:
    assert types.names == (*BUILT_IN_TYPES, "recipe")
    assert types.folder_of("recipe") == "recipes"
    assert types.type_of_folder("recipes") == "recipe"
    assert types.own_fields("recipe") == ("serves", "course", "code", "cooked", "steps")
    assert types.description_of("recipe") == "Something to cook."

    fields = call(types, {"code": "AB-1", "serves": 2, "steps": ("boil",)})
    assert list(fields)[-4:] == ["serves", "course", "code", "steps"]
    assert (fields["course"], fields["steps"]) == ("main", ["boil"])
    record = types.to_record(Document.new(fields, ""), path="recipes/x.md", version="v", mtime_ns=0, size=0)
    assert record.fields == {"serves": 2, "course": "main", "code": "AB-1", "steps": ["boil"]}
    bare = Document.parse(f"---\nid: {ID}\nserves: many\n---\n".encode())
    read = types.to_record(bare, path="recipes/x.md", version="v", mtime_ns=0, size=0)
    assert (read.type, read.fields) == ("recipe", {"serves": "many", "course": "main"})


def test_the_folder_may_be_missing(tmp_path: Path) -> None:
    registry, notices = TypeRegistry.load(tmp_path / "types")

    assert registry.names == BUILT_IN_TYPES
    assert notices == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "recipe fields: 'serves' is a required property"),
        ({"serves": 0}, "recipe field 'serves': 0 is less than the minimum of 1"),
        ({"serves": "2"}, "recipe field 'serves': '2' is not of type 'integer'"),
        (
            {"serves": 2, "course": "snack"},
            "recipe field 'course': 'snack' is not one of ['starter', 'main', 'dessert']",
        ),
        ({"serves": 2, "code": "ab"}, r"recipe field 'code': 'ab' does not match '^[A-Z]+-\\d+$'"),
        ({"serves": 2, "code": "A" * 200}, "recipe field 'code': it is longer than the 128 characters of a pattern"),
        ({"serves": 2, "cooked": "soon"}, "recipe field 'cooked': 'soon' is not a 'date'"),
        ({"serves": 2, "steps": ["a", 1]}, "recipe field 'steps': 1 is not of type 'string'"),
    ],
)
def test_wrong_values_are_refused_by_the_schema(types: TypeRegistry, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        call(types, fields)
    assert caught.value.message == message


def test_values_that_a_file_cannot_hold_are_refused(types: TypeRegistry) -> None:
    for value in (object(), float("nan"), "\ud800", {1: 2}):
        with pytest.raises(InvalidInput):
            call(types, {"serves": 1, "steps": value})
        with pytest.raises(InvalidInput):
            types.update_from_call(call(types, {"serves": 1}), {"steps": value})


def test_unknown_fields_are_refused(types: TypeRegistry) -> None:
    with pytest.raises(UnknownField, match=r"'colour'.*serves, course"):
        call(types, {"serves": 1, "colour": "red"})


def test_updates_are_checked_together_with_what_the_file_has(types: TypeRegistry) -> None:
    current = call(types, {"serves": 2})

    assert types.update_from_call(current, {"serves": 3, "code": None}) == {"serves": 3, "code": None}
    with pytest.raises(InvalidInput, match="'serves'"):
        types.update_from_call(current, {"serves": 0})
    with pytest.raises(InvalidInput, match="required"):
        types.update_from_call(current, {"serves": None})
    by_hand = {"type": "recipe", "course": "odd"}
    assert types.update_from_call(by_hand, {"steps": ["x"], "title": "New"}) == {"title": "New", "steps": ["x"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("schema: {properties: {a: {$ref: 'http://127.0.0.1:9/x.json'}}}", "'$ref' is not allowed"),
        ("schema: {properties: {a: {$ref: 'file:///etc/passwd'}}}", "'$ref' is not allowed"),
        ("schema: {$ref: '#'}", "'$ref' is not allowed"),
        ("schema: {properties: {a: {$dynamicRef: '#x'}}}", "'$dynamicRef' is not allowed"),
        ("schema: {$id: 'http://example.org/'}", "'$id' is not allowed"),
        ("schema: {patternProperties: {'(a+)+': {}}}", "'patternProperties' is not allowed"),
        ("schema: {properties: {a: {pattern: '(a+)+$'}}}", "such patterns can hang"),
        ("schema: {properties: {a: {pattern: '(a|a)*$'}}}", "such patterns can hang"),
        ("schema: {properties: {a: {pattern: '(?:a|a){9}'}}}", "such patterns can hang"),
        ("schema: {properties: {a: {pattern: '(a)\\1'}}}", "such patterns can hang"),
        ("schema: {properties: {a: {pattern: '(?=a)'}}}", "such patterns can hang"),
        ("schema: {properties: {a: {pattern: 'a*b*c*d*'}}}", "more than 3 repetitions"),
        (f"schema: {{properties: {{a: {{pattern: '{'a?' * 30}{'a' * 30}'}}}}}}", "more than 3 repetitions"),
        (f"schema: {{properties: {{a: {{pattern: '{'(||||)' * 9}'}}}}}}", "too many alternatives"),
        ("schema: {properties: {a: {pattern: '(a|b|c|d)x*'}}}", "too many alternatives"),
        ("schema: {properties: {a: {pattern: '['}}}", "is broken"),
        (f"schema: {{properties: {{a: {{pattern: '{'a' * 101}'}}}}}}", "at most 100 characters"),
        ("schema: {properties: {a: {type: nonsense}}}", "properties.a.type"),
        ("schema: {properties: [a]}", "properties"),
        ("schema: {required: a}", "required"),
        ("schema: text", "not a mapping"),
        ("schema: {properties: {title: {}}}", "every memory has"),
        ("schema: {properties: {'a b': {}}}", "not a plain name"),
        ("schema: {properties: {a: {type: integer, default: x}}}", "does not fit its own schema"),
        ("name: other", "differs from the file's name"),
        ("name: [x]", "not plain"),
        ("folder: ../x", "not a plain name"),
        ("folder: .git", "not a plain name"),
        ("folder: .hidden", "not a plain name"),
        ("folder: types", "not a plain name"),
        ("folder: a/b", "not a plain name"),
        ("folder: Notes", "not a plain name"),
        ("folder: notes", "belongs to another type"),
        ("folder: aux", "not a plain name"),
        ("folder: 5", "not a plain name"),
        ("description: [x]", "description"),
        ("colour: red", "unknown key 'colour'"),
        ("x: !!python/object/apply:os.system ['true']", "tags"),
        ("x: &a [1]\ny: *a", "anchors"),
        ("- a", "mapping"),
        ("a: [", "line"),
        ("x: " + "[" * 1000, "deeper"),
        ("x: \x07", "U+0007"),
        ("#" * (MAX_TYPE_FILE + 1), "at most"),
    ],
)
def test_a_hostile_or_broken_type_file_is_skipped_with_a_notice(folder: Path, text: str, problem: str) -> None:
    assert problem in problem_of(folder, text)


@pytest.mark.parametrize("name", ["note.yaml", "Thing.yaml", ".hidden.yaml", "con.yaml", "a b.yaml", "9.yaml"])
def test_the_file_s_name_is_the_type_s_and_has_to_be_plain(folder: Path, name: str) -> None:
    assert problem_of(folder, "schema: {}", name)


def test_files_that_are_no_plain_text_files_are_skipped(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.yaml").write_text("name: link", encoding="utf-8")
    (folder / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (folder / "dir.yaml").mkdir()
    (folder / "latin.yaml").write_bytes(b"description: \xe9")
    os.mkfifo(folder / "pipe.yaml")
    (folder / "README.md").write_text("not a type", encoding="utf-8")

    types, notices = TypeRegistry.load(folder)

    assert types.names == BUILT_IN_TYPES
    assert [(notice.path, notice.problem) for notice in notices] == [
        ("types/dir.yaml", "not a regular file"),
        ("types/latin.yaml", "not UTF-8"),
        ("types/link.yaml", "not a regular file"),
        ("types/pipe.yaml", "not a regular file"),
    ]


def test_one_broken_file_does_not_harm_the_others_and_the_first_of_two_wins(folder: Path) -> None:
    (folder / "bad.yaml").write_text("a: [", encoding="utf-8")
    (folder / "poem.yaml").write_text("", encoding="utf-8")
    (folder / "poem.yml").write_text("", encoding="utf-8")
    (folder / "verse.yaml").write_text("folder: poems", encoding="utf-8")

    types, notices = TypeRegistry.load(folder)

    assert types.names == (*BUILT_IN_TYPES, "poem")
    assert types.own_fields("poem") == ()
    assert call(types, {}, "poem")["type"] == "poem"
    assert [notice.path for notice in notices] == ["types/bad.yaml", "types/poem.yml", "types/verse.yaml"]


def test_the_number_of_types_is_limited(folder: Path) -> None:
    for number in range(MAX_TYPE_FILES + 5):
        (folder / f"t{number:03}.yaml").touch()

    types, notices = TypeRegistry.load(folder)

    assert len(types.names) == len(BUILT_IN_TYPES) + MAX_TYPE_FILES
    assert [notice.path for notice in notices] == [f"types/t{MAX_TYPE_FILES}.yaml"]
