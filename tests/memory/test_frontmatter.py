"""Memory files as text-exact documents."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from adaptive_llm_gateway.core import InvalidFile, InvalidInput, TooLarge
from adaptive_llm_gateway.memory import _yaml
from adaptive_llm_gateway.memory._frontmatter import MAX_FILE, MAX_FRONT_MATTER, Document

HAND_WRITTEN = """\
---
# written by hand
id: 01JD8XYZABCDEFGHJKMNPQRSTV   # do not touch
title:   'It''s mine'
answer: no
on: 2026-11-21

tags:  # a few
- one
-   two   # the second
nested: {a: [1, 2.50, 0x1F], "b": ~}
folded: >
  some text
  goes on

literal: |+
  keeps

# the last comment
last: "quoted"
---
Body  \r\nwith\tall sorts of \u2028 endings\r
"""


@pytest.fixture(params=["libyaml", "python"])
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # PyYAML without libyaml is a platform we cannot install here; its pure parser stands in for it.
    if request.param == "python":
        monkeypatch.setattr(_yaml, "_Loader", yaml.SafeLoader)
    return request.param


def document(text: str) -> Document:
    return Document.parse(text.encode())


def lines_changed(before: str, after: str) -> tuple[list[str], list[str]]:
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


@pytest.mark.usefixtures("loader")
def test_a_file_is_rendered_byte_for_byte_and_its_values_follow_yaml_1_2() -> None:
    doc = document(HAND_WRITTEN)

    assert doc.render() == HAND_WRITTEN.encode()
    assert dict(doc.fields) == {
        "id": "01JD8XYZABCDEFGHJKMNPQRSTV",
        "title": "It's mine",
        "answer": "no",
        "on": "2026-11-21",
        "tags": ["one", "two"],
        "nested": {"a": [1, 2.5, 31], "b": None},
        "folded": "some text goes on\n",
        "literal": "keeps\n\n",
        "last": "quoted",
    }
    assert doc.body == "Body  \r\nwith\tall sorts of \u2028 endings\r\n"


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    "text",
    [
        "---\na: 1\n---",
        "---\na: 1\n---\n",
        "---\na: 1\n---  \t\nbody without a newline",
        "---   \na: 1\n...\nbody",
        "---\r\na: 1\r\n---\r\nbody\r\n",
        "---\ra: 1\r---\rbody\r",
        "---\na: 1\r\nb: 2\n---\nmixed\r\n",
        "\ufeff---\na: 1\n---\n\ufeffbody",
        "---\n---\n",
        "---\n# only a comment\n---\nbody",
        "---\na: 1\n---\n---\nnot: front matter\n---\n",
        "---\na: 1\n\n\n---\n\n\nbody\n\n\n",
        "---\na: \U0001f600\n---\n\U0001f600",
        "---\n{a: 1, b: [2]}\n---\n",
    ],
)
def test_every_layout_of_front_matter_survives_reading_and_editing(text: str) -> None:
    doc = document(text)
    assert doc.render() == text.encode()

    edited = Document.parse(doc.with_fields({"z": "new", "a": "changed"}).render())
    assert edited.fields["z"] == "new"
    assert edited.fields["a"] == "changed"
    assert edited.body == doc.body
    assert edited.with_body("other").body == "other"
    assert Document.parse(edited.with_body("other").render()).body == "other"


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("changes", "removed", "gone", "added"),
    [
        ({"title": "Mine"}, [], ["title:   'It''s mine'"], ["title: 'Mine'"]),
        (
            {"id": "01JD8XYZABCDEFGHJKMNPQRSTW"},
            [],
            ["id: 01JD8XYZABCDEFGHJKMNPQRSTV   # do not touch"],
            ["id: 01JD8XYZABCDEFGHJKMNPQRSTW   # do not touch"],
        ),
        ({"last": 'a "b"'}, [], ['last: "quoted"'], ['last: "a \\"b\\""']),
        ({"answer": True}, [], ["answer: no"], ["answer: true"]),
        ({}, ["answer", "nothing"], ["answer: no"], []),
        ({}, ["literal"], ["literal: |+", "  keeps"], []),
        ({"tags": ["one", "three"]}, [], ["-   two   # the second"], ["- three   # the second"]),
        ({"new": 1, "newer": ["x"]}, [], [], ["new: 1", "newer: [x]"]),
        (
            {"folded": "now\nliteral\n"},
            [],
            ["folded: >", "  some text", "  goes on"],
            ["folded: |", "  now", "  literal"],
        ),
        (
            {"nested": {"a": 1}},
            [],
            ['nested: {a: [1, 2.50, 0x1F], "b": ~}'],
            ["nested:", "  a: 1"],
        ),
    ],
)
def test_an_edit_changes_only_the_lines_of_the_fields_that_change(
    changes: dict[str, Any], removed: list[str], gone: list[str], added: list[str]
) -> None:
    doc = document(HAND_WRITTEN)

    edited = doc.with_fields(changes, removed=removed)

    after = edited.render().decode()
    assert lines_changed(HAND_WRITTEN, after) == (gone, added)
    expected = {key: value for key, value in doc.fields.items() if key not in removed} | changes
    assert dict(edited.fields) == expected
    assert dict(Document.parse(edited.render()).fields) == expected


def test_values_that_are_already_there_are_not_rewritten() -> None:
    doc = document(HAND_WRITTEN)

    assert doc.with_fields(dict(doc.fields)) is doc
    assert doc.with_fields({"nested": {"a": [1, 2.5, 31], "b": None}}) is doc


def test_a_value_of_another_type_counts_as_changed() -> None:
    doc = document("---\na: 1\nb: true\n---\n")

    edited = doc.with_fields({"a": True, "b": 1})

    assert edited.render() == b"---\na: true\nb: 1\n---\n"


def test_new_fields_are_appended_in_the_order_given_with_the_file_s_line_ends() -> None:
    doc = document("---\r\na: 1\r\n# end\r\n---\r\n")

    edited = doc.with_fields({"z": 1, "b": ["x" * 50, "y" * 50]})

    assert edited.render().decode() == (
        f"---\r\na: 1\r\n# end\r\nz: 1\r\nb:\r\n  - {'x' * 50}\r\n  - {'y' * 50}\r\n---\r\n"
    )


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    "header",
    [
        "  a: 1\n  b: 2\n",
        "? a\n: 1\nb: 2\n",
        "a:\n  # inside\n  1\nb: 2\n",
        "a:   # why\nb: 2\n",
        "a: [1,\n  # inside\n  2]\nb: 2\n",
        '"a": "x\n  y"   # c\nb: 2\n',
        "a:\n- 1\n# between\n- 2\nb: 2\n",
        "{a: 1, b: 2}\n",
        "{a: 1, b: 2,}  # c\n",
        "{a, b: 2}\n",
        "{\n  a: 1,  # c\n  b: 2\n}\n",
        "a: |2\n    indented\nb: 2\n",
        "a: >-\n  x\n\n\nb: 2\n",
        "b: 2\na:\n",
        "b: 2\na: |+\n  x\n\n",
        "a: &x\nb: 2\n".replace("&x", "x"),
    ],
)
def test_odd_layouts_are_edited_without_losing_other_fields(header: str) -> None:
    doc = document(f"---\n{header}---\nbody")
    for value in ("new", "two\nlines", 7, None, [], ["x", {"y": 1}], {"k": "v"}):
        edited = doc.with_fields({"a": value, "c": value})
        again = Document.parse(edited.render())
        assert dict(again.fields) == {"a": value, "b": 2, "c": value}
        assert again.body == "body"
    without = Document.parse(doc.with_fields({}, removed=["a"]).render())
    assert dict(without.fields) == {"b": 2}


def test_a_file_without_front_matter_can_be_read_and_gets_one_before_its_untouched_body() -> None:
    data = "\ufeff# Title\r\ntext  ".encode()

    doc = Document.parse(data, require_front_matter=False)

    assert not doc.has_front_matter
    assert dict(doc.fields) == {}
    assert doc.render() == data
    assert doc.with_fields({"a": 1}).render() == "\ufeff---\r\na: 1\r\n---\r\n# Title\r\ntext  ".encode()


def test_a_rule_at_the_top_of_a_file_without_front_matter_is_body() -> None:
    doc = Document.parse(b"---\n\nA rule above.\n", require_front_matter=False)

    assert doc.body == "---\n\nA rule above.\n"
    assert Document.parse(doc.with_fields({"a": 1}).render()).body == doc.body


def test_new_documents_are_laid_out_for_people() -> None:
    doc = Document.new(
        {
            "title": "Use LDAP: for login",
            "on": "yes",
            "author": {"client": "codex"},
            "tags": ["a", "b c"],
            "links": [{"rel": "supersedes", "id": "X"}],
            "created": "2026-11-21T14:02:00.000Z",
            "text": "two\nlines\n",
            "none": None,
            "empty": [],
            "float": 1e22,
        },
        "Body",
    )

    assert doc.render().decode() == (
        '---\ntitle: "Use LDAP: for login"\n"on": "yes"\nauthor:\n  client: codex\ntags: [a, b c]\n'
        "links:\n  - rel: supersedes\n    id: X\ncreated: 2026-11-21T14:02:00.000Z\n"
        "text: |\n  two\n  lines\nnone: null\nempty: []\nfloat: 1e+22\n---\nBody"
    )


def test_a_field_s_own_spelling_is_kept_for_those_who_need_it() -> None:
    doc = document("---\nversion: 1.10\nquoted: '1.10'\nlist: [1.10]\n---\n")

    assert doc.fields["version"] == 1.1
    assert doc.source_of("version") == "1.10"
    assert doc.source_of("quoted") is None
    assert doc.source_of("list") is None
    assert doc.source_of("missing") is None


def bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)]
    return "\n".join(lines)


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (bomb(), "anchors"),
        ("a: *unknown", "aliases"),
        ("a: !!python/object/apply:os.system ['true']", "tags"),
        ("!!python/object:os.system {}", "tags"),
        ("a: !custom x", "tags"),
        ("a: !!str 1", "tags"),
        ("a: " + "[" * 33 + "]" * 33, "deeper than 32"),
        ("a: " + "[" * 30_000, "deeper than 32"),
        ("a: " + "{b: " * 10_000, "deeper than 32"),
        ("\n".join(" " * i + "- a:" for i in range(300)), "list"),
        ("\n".join(" " * i + "a:" for i in range(300)), "deeper than 32"),
        ("a: 1\na: 2", "twice"),
        ("a: {b: 1, b: 2}", "twice"),
        ("1: x", "not text"),
        ("true: x", "not text"),
        ("~: x", "not text"),
        ("? [a]\n: x", "cannot be a key"),
        ("- a\n- b", "list"),
        ("just text", "expected a mapping"),
        ("a: [", ""),
        ("a: 'open", ""),
        ("a: b: c", ""),
        ("\ta: 1", ""),
        ("a: 1\n--- b", "more than one"),
        ("%YAML 1.1", ""),
        ("a: @x", ""),
        ("a: \x07", "U+0007"),
        ("a: \x1b[31m", "U+001B"),
        ("a: \ufffe", "U+FFFE"),
    ],
)
def test_hostile_or_broken_front_matter_is_refused_with_its_name(header: str, problem: str) -> None:
    with pytest.raises(InvalidFile) as caught:
        Document.parse(f"---\n{header}\n---\nbody".encode(), where="notes/x.md")

    assert caught.value.message.startswith("notes/x.md")
    assert problem in caught.value.message
    assert caught.value.details["path"] == "notes/x.md"


def test_the_line_of_a_problem_is_the_line_in_the_file() -> None:
    with pytest.raises(InvalidFile) as caught:
        document("---\na: 1\nb: 2\na: 3\n---\n")

    assert caught.value.details["line"] == 4


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"---\na: \xff\n---\n", "not UTF-8"),
        (b"---\na: 1\n---\n\xc0\x80", "not UTF-8"),
        (b"---\na: 1\n---\nx\x00y", "NUL byte at offset 14"),
        ("---\na: 1\n---\n".encode("utf-16"), "NUL"),
        (b"", "no front matter"),
        (b"text\n", "no front matter"),
        (b" ---\na: 1\n---\n", "no front matter"),
        (b"----\na: 1\n---\n", "no front matter"),
        (b"---\na: 1\n", "without an end"),
        (b"---\na: 1\n ---\n", "without an end"),
        (b"---", "no front matter"),
        (b"---\na: " + b"x" * MAX_FRONT_MATTER + b"\n---\n", "limit"),
    ],
)
def test_what_is_no_memory_file_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(InvalidFile, match=problem):
        Document.parse(data)


def test_files_over_the_limit_are_refused_before_they_are_read() -> None:
    with pytest.raises(TooLarge, match="at most"):
        Document.parse(b"x" * (MAX_FILE + 1))
    with pytest.raises(TooLarge):
        Document.new({"a": 1}, "é" * (MAX_FILE // 2))
    with pytest.raises(TooLarge):
        Document.new({"a": "é" * (MAX_FRONT_MATTER // 2)}, "")
    with pytest.raises(TooLarge):
        Document.new({"a": 1}, "").with_fields({"b": "x" * MAX_FRONT_MATTER})
    with pytest.raises(TooLarge):
        Document.parse(b"---\na: 1\n---\n", max_size=10)


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        ["x\udfff"],
        {"k\ud83d": 1},
        float("nan"),
        float("inf"),
        10**400,
        object(),
        b"bytes",
        {1: 2},
        {1, 2},
    ],
)
def test_values_that_a_file_cannot_hold_are_refused_by_the_field_s_name(value: Any) -> None:
    with pytest.raises(InvalidInput, match="'secret_field'") as caught:
        Document.new({"secret_field": value}, "")
    assert caught.value.details["field"] == "secret_field"
    with pytest.raises(InvalidInput, match="'secret_field'"):
        document("---\na: 1\n---\n").with_fields({"secret_field": value})


def test_values_nested_too_deep_are_refused_also_when_they_contain_themselves() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(InvalidInput, match="deeper"):
        Document.new({"a": endless}, "")


@pytest.mark.parametrize("body", ["a\0b", "\ud800"])
def test_bodies_that_a_file_cannot_hold_are_refused(body: str) -> None:
    with pytest.raises(InvalidInput, match="body"):
        Document.new({"a": 1}, body)


def test_numbers_out_of_range_stay_text() -> None:
    digits = "9" * 5000
    doc = document(f"---\na: {digits}\nb: 1e999\nc: .nan\nd: .inf\n---\n")

    assert dict(doc.fields) == {"a": digits, "b": "1e999", "c": ".nan", "d": ".inf"}


def test_a_document_cannot_be_changed_in_place() -> None:
    doc = document("---\na: 1\n---\n")

    with pytest.raises(AttributeError):
        doc.body = "x"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        doc.fields["a"] = 2  # pyright: ignore[reportIndexIssue]
