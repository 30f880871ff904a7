"""What a query's one string says: filters, what is not wanted, times, and what is left to search."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.memory._query import any_of, plan_query
from adaptive_llm_gateway.memory._search_syntax import MAX_ASKED, Event, Reading, read_query
from adaptive_llm_gateway.memory._values import Exclusions, Filters, TimeRange

NOW = datetime(2026, 11, 18, 15, 30, tzinfo=UTC)
ID = "01KA8Y7V7Q4T6M2N3P5R8S9T0V"


def read(query: str) -> Reading:
    return read_query(query, now=NOW, zone=UTC, types=("note", "decision", "task"), values={"status": ("open", "done")})


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "text", "filters"),
    [
        ("type:decision cache", "cache", {"types": ("decision",)}),
        ("cache TYPE:Decision,task", "cache", {"types": ("decision", "task")}),
        ("type:decision type:task", "", {"types": ("decision", "task")}),
        ("tag:db tag:api x", "x", {"tags": ("db", "api")}),
        ("tags:db,api x", "x", {"tags": ("db", "api")}),
        ('tag:"two words" x', "x", {"tags": ("two words",)}),
        ("tag:c++ tag:#1 x", "x", {"tags": ("c++", "#1")}),
        ("x project:atlas, y", "x y", {"project": ("atlas",)}),
        ('project:"My App" project:web', "", {"project": ("My App", "web")}),
        ("author:claude-code by:codex x", "x", {"author": ("claude-code", "codex")}),
        ("x since:2026-01-01", "x", {"since": day("2026-01-01")}),
        ("x after:2026-01-01", "x", {"since": day("2026-01-02")}),
        ("x until:2026-01-01", "x", {"until": day("2026-01-02")}),
        ("x before:2026-01-01", "x", {"until": day("2026-01-01")}),
        ("x since:7d", "x", {"since": day("2026-11-11 15:30")}),
        ('x since:"last week" until:yesterday', "x", {"since": day("2026-11-09"), "until": day("2026-11-18")}),
        ("since:2026-03-01 since:2026-01-01", "", {"since": day("2026-03-01")}),
        ("since:2026-03 before:2026-01", "", {"since": day("2026-03-01"), "until": day("2026-01-01")}),
        ("type:task status:open", "", {"types": ("task",), "fields": {"status": "open"}}),
        ("type:task, status:Open; x", "x", {"types": ("task",), "fields": {"status": "open"}}),
        ("“quoted phrase” type:note", "“quoted phrase”", {"types": ("note",)}),
    ],
)
def test_an_operator_narrows_and_is_not_searched(query: str, text: str, filters: dict[str, Any]) -> None:
    found = read(query)

    assert found.text == text
    assert found.filters == Filters(**filters)
    assert found.notices == ()


@pytest.mark.parametrize(
    ("query", "text", "without"),
    [
        ("cache -redis", "cache", {"words": ("redis",)}),
        ("-redis", "", {"words": ("redis",)}),
        ('cache -"redis cluster" -memcached', "cache", {"words": ("redis cluster", "memcached")}),
        ("кэш -редис", "кэш", {"words": ("редис",)}),
        ("猫 -犬", "猫", {"words": ("犬",)}),
        ("x -type:task -tag:old -project:atlas -by:codex",
         "x", {"types": ("task",), "tags": ("old",), "projects": ("atlas",), "authors": ("codex",)}),
        (f"x -id:{ID}", "x", {"ids": (ID,)}),
    ],
)  # fmt: skip
def test_what_is_negated_is_left_out(query: str, text: str, without: dict[str, Any]) -> None:
    found = read(query)

    assert found.text == text
    assert found.filters == Filters(without=Exclusions(**without))


@pytest.mark.parametrize(
    "query",
    [
        "https://example.com/a:b?type=note", "std::vec", r"C:\path\x", "at 12:30", "a - b", "git log --all", "-1",
        "x -1.5",
        ":-) ;-) -_-", "foo(type:note)", "a-b", "well-known", "- item", "-", "--", "-- x", "-the", "tar -xzf",
        "rm -rf old",
        "commit -m", "ls -la", "gcc -shared -fpic x", "type:", "type: note", "tag:", 'tag:""', "tag:,", "project::x",
        "id:int", "id:abc", "id:not-an-id", "-since:7d", "-status:open", "x:y", "note:this", "title:x", "map<K,V>:z",
        "by:https://example.com", '"type:note"', '"-redis"', "«-redis»", '"unbalanced type:note', "x “type:note",
        "e-mail",
        "−redis", "type:note\nx", "diff\n-redis\n+other", "before::after", 'type:"note', "", "   ",
    ],
)  # fmt: skip
def test_what_is_not_certainly_an_operator_stays_words(query: str) -> None:
    found = read(query)

    assert found == Reading(query if query.strip() == query or not query.strip() else query.strip())


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("type:recipe soup", "'recipe'"),
        ("-type:recipe soup", "'recipe'"),
        ("status:weird", "open, done"),
        ("since:soon", "'soon'"),
        ("before:release", "in quotes"),
    ],
)
def test_what_only_looks_like_an_operator_is_searched_and_told(query: str, word: str) -> None:
    found = read(query)

    assert found.text == query
    assert found.filters == Filters()
    assert len(found.notices) == 1
    assert word in found.notices[0]


def test_a_pasted_text_is_words_throughout() -> None:
    assert read("type:note " * (MAX_ASKED // 10)).filters == Filters(types=("note",))
    assert read("type:note " + "x" * MAX_ASKED).filters == Filters()


def test_parts_of_an_id_are_kept_to_be_looked_up() -> None:
    assert read(f"id:{ID.lower()},01ka8y").id_parts == (ID, "01KA8Y")


def test_a_time_in_a_sentence_is_preferred_and_its_words_stay() -> None:
    found = read("what did we decide last week about caching")

    assert found.text == "what did we decide last week about caching"
    assert found.preferred == TimeRange(day("2026-11-09"), day("2026-11-16"))
    assert found.filters == Filters()


@pytest.mark.parametrize(
    ("query", "since", "until"),
    [
        ("since May but before July", "2026-05-01", "2026-07-01"),
        ('what of "last week" in March', "2026-03-01", "2026-04-01"),
        ("type:note in March", "2026-03-01", "2026-04-01"),
    ],
)
def test_times_of_a_sentence_come_together(query: str, since: str, until: str) -> None:
    assert read(query).preferred == TimeRange(day(since), day(until))


@pytest.mark.parametrize("query", ["in March and in May", '"last week"', "letzte Woche"])
def test_times_that_share_nothing_or_are_quoted_or_foreign_prefer_nothing(query: str) -> None:
    assert read(query).preferred is None


@pytest.mark.parametrize(
    ("query", "event"),
    [
        ('bugs before:"the release"', Event("before", "the release", binding=True)),
        ("what broke before the release?", Event("before", "release", binding=False)),
        ("what broke after our big migration to postgres", Event("after", "big migration", binding=False)),
        ("what broke since the v2.4 rollout", Event("since", "v2.4 rollout", binding=False)),
    ],
)
def test_a_time_named_by_what_happened_is_handed_on(query: str, event: Event) -> None:
    assert read(query).events == (event,)


@pytest.mark.parametrize("query", ["before release", "after all", "before the", '"before the release"'])
def test_few_words_are_taken_for_an_event(query: str) -> None:
    assert read(query).events == ()


PIECES = st.sampled_from(
    [
        "type:note", "type:", "-type:task", "tag:", 'tag:"a b"', 'tag:"', "-", "--", "-x", "-word", '-"a b"', '"', "“",
        "”", '""', "since:7d", "until:soon", 'before:"x"', "NOT", "OR", "AND", "NEAR(", ")", "*", "^", "a:b", "{title}",
        ":", "\0", "\n", "猫", "-猫", "слово", "\ud800", "(type:note)", "id:01KA8Y", "last week", "before the", "'",
        "';--", "column:", "\u200f", ",",
    ]
)  # fmt: skip
QUERIES = st.lists(PIECES | st.text(max_size=8), max_size=14).flatmap(
    lambda parts: st.sampled_from([" ".join(parts), "".join(parts)])
)


@given(QUERIES)
def test_any_query_is_read_and_none_of_its_syntax_reaches_fts5(query: str) -> None:
    found = read(query)
    plan = plan_query(found.text)

    expression = any_of(plan.phrases, plan.words, (phrase for _, phrase in plan.literals))
    assert re.fullmatch(r'(?:"[^"\0]*"(?: OR (?!$)|$))*', expression)
    for word in found.filters.without.words:
        assert '"' not in word
    assert replace(found, text="").filters.max_trust == Filters().max_trust


def test_of_very_many_operators_those_that_are_not_read_are_words_alone() -> None:
    reading = read(" ".join(f"tag:t{n}" for n in range(34)))

    assert len(reading.filters.tags) == len(reading.operators) == 32
    assert reading.text == "tag:t32 tag:t33"


@given(QUERIES)
def test_what_is_left_over_holds_no_operator_any_more(query: str) -> None:
    once = read(query)
    again = read(once.text)

    if once.operators and len(once.operators) < 32:
        assert again.filters == Filters() or '"' in query or "“" in query or "”" in query
