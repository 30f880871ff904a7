"""What holds for every document, whatever its values and layout."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.memory import _yaml
from adaptive_llm_gateway.memory._frontmatter import Document

UNCHECKED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
quick = settings(max_examples=100, deadline=None, suppress_health_check=UNCHECKED)

AWKWARD = [
    "",
    " ",
    "yes",
    "No",
    "on",
    "null",
    "~",
    "1e5",
    "0x1F",
    "0o17",
    "1_000",
    "12:30",
    "-1",
    ".5",
    "1.",
    "+1",
    "---",
    "...",
    "# x",
    "a # b",
    "a: b",
    "a:",
    ":a",
    "- a",
    "-",
    "?",
    "? a",
    "[a]",
    "{a}",
    "a, b",
    "&a",
    "*a",
    "!a",
    "!!str",
    "|",
    ">",
    "'a'",
    '"a"',
    "%a",
    "@a",
    "`a`",
    "<<",
    "=",
    "\t",
    "a\tb",
    "\ta",
    "a\n",
    "\na",
    "a\n\nb",
    "a\r\nb",
    "\r",
    "a\n b\n",
    " a\nb",
    "a\n\n",
    "\n",
    "\u2028",
    "a\u2029b",
    "\x85",
    "\xa0",
    "\ufeff",
    "\ufffe",
    "\U0001f600",
    "\U0001f468\u200d\U0001f469",
    "\x7f",
    "\x07",
    "\\",
    "\\n",
    "é",
    "e\u0301",
    "日本語",
    "\u202eabc",
    "2026-11-21",
    "2026-11-21T14:02:00Z",
    "x" * 2000,
    "#",
    "a #",
    "\n---\n",
    "a\n---\nb",
    "a\n...\nb",
    "a\tb\n\tc",
    "a\n#b",
    "a\nb: c",
    "01E5",
    "٣",
    "१२",
]

text = st.one_of(st.sampled_from(AWKWARD), st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**200), max_value=10**200),
    st.floats(allow_nan=False, allow_infinity=False),
    text,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(text, inner, max_size=4)),
    max_leaves=12,
)
mappings = st.dictionaries(text, values, max_size=6)
bodies = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=80)


def same(left: Any, right: Any) -> bool:
    return _yaml.same(left, right)


@quick
@given(fields=mappings, body=bodies)
@example(fields={"k" * 1100: {"k" * 1100: [{"k" * 1100: 1}]}}, body="")
def test_what_is_written_reads_back_the_same(fields: dict[str, Any], body: str) -> None:
    document = Document.new(fields, body)

    again = Document.parse(document.render())

    assert same(dict(again.fields), fields)
    assert list(again.fields) == list(fields)
    assert again.body == body
    assert again.render() == document.render()


@pytest.mark.parametrize("value", AWKWARD)
def test_awkward_text_reads_back_the_same_everywhere_also_with_the_pure_parser(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"a": value, "b": [value, [value]], "c": {value: value}, "d": [{value: value}], value: 1}
    data = Document.new(fields, value).render()

    assert same(dict(Document.parse(data).fields), fields)
    monkeypatch.setattr(_yaml, "_Loader", yaml.SafeLoader)
    assert same(dict(Document.parse(data).fields), fields)


@pytest.mark.parametrize("value", [value for value in AWKWARD if value not in ("2026-11-21", "2026-11-21T14:02:00Z")])
def test_text_stays_text_also_for_readers_of_yaml_1_1(value: str) -> None:
    header = Document.new({"a": value, "b": [value]}, "").render().decode().split("---\n", 1)[1].rsplit("---\n", 1)[0]

    assert yaml.safe_load(header) == {"a": value, "b": [value]}


@quick
@given(
    before=mappings,
    changes=mappings,
    removed=st.sets(text, max_size=3),
    body=bodies,
    eol=st.sampled_from(["\n", "\r\n"]),
)
def test_an_edit_gives_the_fields_asked_for_and_keeps_the_body(
    before: dict[str, Any], changes: dict[str, Any], removed: set[str], body: str, eol: str
) -> None:
    start = Document.parse(Document.new({}, body).render().replace(b"---\n", b"---" + eol.encode(), 2))
    document = start.with_fields(before)

    edited = document.with_fields(changes, removed=[*removed, *list(before)[:1]])

    gone = removed | set(list(before)[:1])
    expected = {key: value for key, value in before.items() if key not in gone} | changes
    assert same(dict(edited.fields), expected)
    again = Document.parse(edited.render())
    assert same(dict(again.fields), expected)
    assert again.body == start.body


LAYOUTS = st.sampled_from(
    [
        "{key}: plain text\n",
        "{key}:    aligned   # a comment\n",
        "{key}: 'single'  \n",
        '{key}: "double"\n\n',
        "{key}:\n",
        "{key}:   # nothing yet\n",
        "{key}: [a, b]  # flow\n",
        "{key}: [a,\n   b]\n",
        "{key}: {{a: 1, b: 2}}\n",
        "{key}:\n- a\n- b   # second\n",
        "{key}:   # list\n    - a\n\n    - b\n",
        "{key}:\n  a: 1\n  # inside\n  b: [2]\n",
        "{key}: |\n  literal\n\n  text\n\n",
        "{key}: >-\n  folded\n  text\n",
        "{key}: |+\n  kept\n\n",
        "{key}: plain\n  goes on\n",
        "# above {key}\n{key}: 1.50\n",
        "'{key}' : spaced\n",
        "? {key}\n: explicit\n",
    ]
)


@quick
@example(
    layouts=["{key}: |+\n  kept\n\n", "{key}: |\n  literal\n\n  text\n\n"],
    chosen=set(),
    dropped={1},
    value=None,
    eol="\n",
)
@given(
    layouts=st.lists(LAYOUTS, min_size=1, max_size=6),
    chosen=st.sets(st.integers(0, 5)),
    dropped=st.sets(st.integers(0, 5)),
    value=values,
    eol=st.sampled_from(["\n", "\r\n"]),
)
def test_fields_that_do_not_change_keep_their_bytes_and_their_order(
    layouts: list[str], chosen: set[int], dropped: set[int], value: Any, eol: str
) -> None:
    parts = [layout.format(key=f"key{number}").replace("\n", eol) for number, layout in enumerate(layouts)]
    source = f"---{eol}{''.join(parts)}---{eol}body"
    document = Document.parse(source.encode())
    changes = {f"key{number}": value for number in chosen if number < len(parts)}
    removed = {f"key{number}" for number in dropped} - changes.keys()

    edited = document.with_fields(changes, removed=removed)

    expected = {key: item for key, item in document.fields.items() if key not in removed} | changes
    assert same(dict(edited.fields), expected)
    after = edited.render().decode()
    position = 0
    for number, part in enumerate(parts):
        if f"key{number}" not in changes and f"key{number}" not in removed:
            position = after.index(part.rstrip(), position)
    assert after.endswith(f"---{eol}body")


@settings(max_examples=200, deadline=None, suppress_health_check=UNCHECKED)
@given(st.text(alphabet=st.sampled_from("ab:-#[]{},&*!|>'\"%@? \n\t~0.\\\u2028é"), max_size=60))
def test_any_header_is_either_refused_or_rendered_and_edited_exactly(header: str) -> None:
    data = f"---\n{header}\n---\nbody".encode()
    try:
        document = Document.parse(data)
    except _yaml.InvalidFile:
        return

    assert document.render() == data
    edited = Document.parse(document.with_fields({"new": "x: y"}).render())
    assert same(dict(edited.fields), {**document.fields, "new": "x: y"})
