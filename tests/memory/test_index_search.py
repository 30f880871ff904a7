from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import InvalidInput, Trust, new_ulid
from adaptive_llm_gateway.memory import _source_sqlite
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._ranking import WEIGHTS
from adaptive_llm_gateway.memory._values import Author, Filters, Link, Record

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
_BASE = Record("", "note", "", "", "", "a" * 40, 0, 0, START, START, Author("codex"))


def record(body: str = "A body.", title: str = "", **changes: object) -> Record:
    id_ = new_ulid()
    return replace(_BASE, id=id_, path=f"notes/{id_}.md", title=title, body=body, **changes)  # pyright: ignore[reportArgumentType]


@pytest.fixture(params=["vectors in memory", "vectors in the file", "postgres", "qdrant"])
def index(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryIndex]:
    if request.param in ("postgres", "qdrant"):
        with closing(request.getfixturevalue(f"open_{request.param}")()) as opened:
            yield opened
    else:
        held = 1 << 20 if request.param == "vectors in memory" else 0
        if not held:  # as with very many: codes are read from the file, and another thread narrows
            monkeypatch.setattr(_source_sqlite, "_WORTH_A_THREAD", 0)
        with Index(tmp_path / "index.db", vector_cache_bytes=held) as opened:
            yield opened


def embed(index: MemoryIndex, vectors: dict[str, list[float]]) -> None:
    """Give each chunk the vector of the first key that its text contains."""
    for chunk, text in index.backlog(10_000):
        key = next(name for name in vectors if name in text)
        index.store_vectors([(chunk, np.array(vectors[key], np.float32))])


def ids(index: MemoryIndex, query: str, **options: object) -> list[str]:
    return [hit.record.id for hit in index.search(query, **options).hits]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("The rollout used v2.4.7-hotfix in the end", "v2.4.7-hotfix"),
        ("The compiler said E0433 again", "what was e0433"),
        ("call foo_bar.baz() first", "foo_bar.baz()"),
        ("see src/core/_paths.py for it", "src/core/_paths.py"),
        ("fixed in org/repo#123 last week", "org/repo#123"),
        ("Решение о базе данных принято", "базе данных"),
        ("Ein schöner Entwurf für die Straße", "schoner entwurf"),
        ("le café est déjà fermé", "cafe deja"),
        ("cafe\u0301 de Flore", "café"),
        ("東京都の天気は晴れです", "天気"),
        ("猫が好きです", "猫"),
        ("데이터베이스를 결정했다", "데이터베이스"),
        ("ภาษาไทยไม่มีช่องว่าง", "ไทย"),
        ("हिन्दी में लिखा हुआ पाठ", "हिन्दी"),
        ("القرار النهائي حول قاعدة البيانات", "قاعدة"),
        ("ｆｕｌｌｗｉｄｔｈ text", "fullwidth"),
        ("running the migrations nightly", "migration run"),
    ],
)
def test_text_of_many_kinds_is_found(index: MemoryIndex, text: str, query: str) -> None:
    wanted = record(text)
    index.apply([wanted, record("nothing of interest in this one"), record("and other words entirely")])

    assert ids(index, query)[:1] == [wanted.id]


def test_an_identifier_beats_its_scattered_parts_and_says_exact(index: MemoryIndex) -> None:
    right = record("we shipped v2.4.7-hotfix on a friday after a long discussion of the many other things there were")
    wrong = [record(f"v2 and 4 and 7 and hotfix {n} hotfix") for n in range(5)]
    index.apply([*wrong, right])

    hit = index.search("v2.4.7-hotfix").hits[0]

    assert hit.record.id == right.id
    assert hit.matched[0] == "exact"


def test_a_quoted_phrase_beats_its_scattered_words(index: MemoryIndex) -> None:
    right = record("some text in which the blue green deploy is mentioned once among so many other words of no use")
    index.apply([record("green deploy blue deploy green blue"), right])

    assert ids(index, '"blue green deploy"')[0] == right.id


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Die Übergabe am Montag steht", '"Übergabe am Montag"'),
        ("ДОГОВОР Принято вчера", '"договор принято"'),
        ("le cafe\u0301 est ferme\u0301", '"café est"'),
    ],
)
def test_a_quoted_phrase_of_any_script_counts_whatever_its_case(index: MemoryIndex, text: str, query: str) -> None:
    index.apply([record(text)])

    assert "quoted" in index.search(query).hits[0].signals


def test_memories_of_many_matching_passages_take_no_place_from_others(index: MemoryIndex) -> None:
    def part(memory: int, place: int) -> str:
        return f"## Part {place}\n\nlantern {memory} " + " ".join(f"w{memory}x{place}x{n}" for n in range(120))

    many = [record("\n\n".join(part(memory, place) for place in range(30)), f"Long {memory}") for memory in range(40)]
    index.apply(many)

    answer = index.search("lantern", limit=40)

    assert {hit.record.id for hit in answer.hits} == {one.id for one in many}
    assert answer.candidates == 40


def test_a_word_in_the_title_counts_more(index: MemoryIndex) -> None:
    body = "words of another kind"
    titled, mentioned = record(body, "Retention policy"), record(f"{body} retention", "Meeting")
    index.apply([mentioned, titled])

    assert ids(index, "retention")[0] == titled.id


def test_meaning_finds_what_words_do_not(index: MemoryIndex) -> None:
    index.set_embedder("model", 8)
    near, far = record("the feline sat there"), record("the stock market fell")
    index.apply([near, far])
    embed(index, {"feline": [1, 0, 0, 0, 0, 0, 0, 0.1], "market": [0, 1, 0, 0, 0, 0, 0, 0]})

    answer = index.search("cat", vector=[1, 0, 0, 0, 0, 0, 0, 0])

    assert answer.mode == "hybrid"
    assert [(hit.record.id, hit.matched) for hit in answer.hits] == [(near.id, ("vector",))]


def test_without_vectors_the_answer_says_lexical(index: MemoryIndex) -> None:
    index.apply([record("some cat")])
    assert index.search("cat", vector=[1.0, 0.0]).mode == "lexical"
    index.set_embedder("model", 8)
    assert index.search("cat", vector=[1.0] * 8).mode == "lexical"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(types=("task",)), {"b"}),
        (Filters(types=("task", "fact")), {"b", "c"}),
        (Filters(tags=("DB",)), {"a", "c"}),
        (Filters(tags=("db", "api")), {"c"}),
        (Filters(project="Atlas"), {"a", "b"}),
        (Filters(author="claude-code"), {"d"}),
        (Filters(since=START + timedelta(hours=2)), {"c", "d"}),
        (Filters(until=START + timedelta(hours=2)), {"a", "b"}),
        (Filters(max_trust=Trust.INTERNAL), {"a", "b", "c"}),
        (Filters(fields={"status": "open"}), {"b"}),
        (Filters(fields={"done": True}), {"c"}),
        (Filters(fields={"count": 3, "done": True}), {"c"}),
        (Filters(fields={"absent": "x"}), set[str]()),
        (Filters(project="none such"), set[str]()),
        (Filters(project="none such", or_no_project=True), {"c", "d"}),
        (Filters(project=("Atlas", "other"), or_no_project=True, types=("task", "fact")), {"b", "c"}),
        (Filters(project=(), or_no_project=True, types=("fact",)), {"c"}),
    ],
)
def test_each_filter_narrows_search_and_list(index: MemoryIndex, filters: Filters, expected: set[str]) -> None:
    index.set_embedder("model", 8)
    hours = [START + timedelta(hours=n) for n in range(4)]
    index.apply(
        [
            record("shared words a", "a", tags=("db",), project="atlas", updated=hours[0]),
            record("shared words b", "b", type="task", project="atlas", fields={"status": "open"}, updated=hours[1]),
            record(
                "shared words c",
                "c",
                type="fact",
                tags=("db", "api"),
                fields={"done": True, "count": 3},
                updated=hours[2],
            ),
            record("shared words d", "d", author=Author("claude-code"), trust=Trust.SECRET, updated=hours[3]),
        ]
    )
    embed(index, {"shared": [1, 1, 0, 0, 0, 0, 0, 0]})

    for vector in (None, [1, 1, 0, 0, 0, 0, 0, 0]):
        hits = index.search("shared words", filters=filters, vector=vector).hits
        assert {hit.record.title for hit in hits} == expected
    assert {hit.record.title for hit in index.search("", filters=filters).hits} == expected
    page = index.list(filters)
    assert {entry.title for entry in page.records} == expected
    assert page.total == len(expected)


def test_filters_come_before_the_cut_to_the_nearest(index: MemoryIndex) -> None:
    index.set_embedder("model", 8)
    crowd = [record(f"crowd number {n} word{n}") for n in range(600)]
    lone = record("the lonely one", type="task")
    index.apply([*crowd, lone])
    embed(index, {"crowd": [1, 1, 1, 1, 0, 0, 0, 0], "lonely": [0.9, 0, 0, 0, 1, 1, 0, 0]})

    assert ids(index, "zzz", vector=[1, 1, 1, 1, 0, 0, 0, 0], filters=Filters(types=("task",))) == [lone.id]


def test_a_field_name_with_a_quote_is_refused(index: MemoryIndex) -> None:
    with pytest.raises(InvalidInput, match="field"):
        index.search("x", filters=Filters(fields={'a"b': 1}))


def test_an_empty_query_gives_the_most_recent(index: MemoryIndex) -> None:
    made = [record(f"text {n}", updated=START + timedelta(minutes=n)) for n in range(5)]
    index.apply(made)

    answer = index.search("  ", limit=3)

    assert [hit.record.id for hit in answer.hits] == [entry.id for entry in reversed(made[2:])]
    assert {hit.matched for hit in answer.hits} == {("recent",)}


def test_the_newer_of_equals_comes_first(index: MemoryIndex) -> None:
    now = datetime.now(UTC)
    old = record("the retry limit of the client number one", updated=now - timedelta(days=300))
    new = record("the retry limit of the client number two", updated=now)
    index.apply([new, old])

    hits = index.search("retry limit client").hits

    assert [hit.record.id for hit in hits] == [new.id, old.id]
    assert "recent" in hits[0].matched
    assert "recent" not in hits[1].matched


def test_a_hit_points_at_the_lines_that_matched(index: MemoryIndex) -> None:
    lines = [f"Paragraph {n} speaks of ordinary matters at some length, as they do.\n" for n in range(80)]
    lines[63] = "Here the xylophone is mentioned.\n"
    index.apply([record("\n".join(lines))])

    [hit] = index.search("xylophone").hits

    first, last = hit.lines
    assert "xylophone" in hit.snippet
    assert "xylophone" in "".join(hit.record.body.split("\n")[first - 1 : last])
    assert len(hit.snippet) <= 302


def test_a_long_memory_is_one_hit(index: MemoryIndex) -> None:
    index.apply([record("The same topic comes again. " * 400), record("one topic elsewhere")])

    assert len(index.search("topic").hits) == 2


def test_copies_are_folded_and_named(index: MemoryIndex) -> None:
    copies = [
        record("The deploy is blue green."),
        record("the deploy is  blue green"),
        record("The deploy is blue-green!"),
    ]
    other = record("The deploy is on fridays.")
    index.apply([*copies, other])

    hits = index.search("deploy").hits

    assert len(hits) == 2
    folded = next(hit for hit in hits if hit.duplicates)
    assert {folded.record.id, *folded.duplicates} == {entry.id for entry in copies}


def test_near_copies_are_folded_by_vector_only_when_the_words_agree(index: MemoryIndex) -> None:
    index.set_embedder("model", 8)
    text = "the weekly backup of the main database runs on sunday night at the usual hour in the northern data center"
    near = [record(f"{text} today"), record(f"{text}")]
    number = record(f"{text} 42")
    index.apply([*near, number])
    embed(index, {"backup": [1, 0, 0, 0, 0, 0, 0, 0]})

    hits = index.search("weekly backup", vector=[1, 0, 0, 0, 0, 0, 0, 0]).hits

    assert sorted(len(hit.duplicates) for hit in hits) == [0, 1]


def test_ten_thousand_copies_do_not_hide_what_else_there_is(open_index: Callable[[], MemoryIndex]) -> None:
    with closing(open_index()) as index:
        index.set_embedder("model", 8)
        index.apply([record("the same old deploy story") for _ in range(10_000)])
        other = record("the deploy of the year, told once and at greater length than the others are, with more words")
        index.apply([other])
        chunks = index.backlog(20_000)
        index.store_vectors([(chunk, np.ones(8, np.float32)) for chunk, _ in chunks])

        for vector in (None, np.ones(8)):
            hits = index.search("deploy", vector=vector).hits
            assert len(hits) == 2
            assert other.id in {hit.record.id for hit in hits}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(['"', "*", "NEAR(a b)", "AND", "NOT", "(", ")", "\0", "body:", "日本", "-x", "^a"])).map(
        " ".join
    )
)
def test_hostile_queries_find_or_find_nothing_but_never_fail(index: MemoryIndex, query: str) -> None:
    if not index.list().total:
        index.set_embedder("model", 8)
        index.apply([record("near a b and not body 日本 x")])
        embed(index, {"near": [1, 0, 0, 0, 0, 0, 0, 0]})

    index.search(query)
    index.search(query, vector=[1, 0, 0, 0, 0, 0, 0, 0])


def test_a_query_of_a_hundred_kilobytes_is_answered(index: MemoryIndex) -> None:
    index.apply([record("the needle")])

    assert len(index.search("needle " + "hay-42/straw " * 8_000).hits) == 1


def test_lone_surrogates_and_nul_are_indexed_without_harm(index: MemoryIndex) -> None:
    wanted = record("before\0after words")
    index.apply([wanted])

    assert ids(index, "after") == [wanted.id]


def test_a_decision_stands_below_the_one_that_supersedes_it(index: Index) -> None:
    old = record("We deploy on fridays, every week.", "Deploy day", type="decision")
    new = record("We deploy on mondays, every week.", "Deploy day", type="decision", fields={"supersedes": [old.id]})
    linking = record(
        "We deploy on tuesdays, every week.", "Deploy day", type="decision", links=(Link("supersedes", old.id),)
    )
    index.apply([new, linking, old])

    hits = index.search("which day do we deploy").hits

    assert [hit.record.id for hit in hits][2] == old.id
    assert hits[2].signals["over"] < 0


def test_what_is_done_stands_below_what_is_open(index: Index) -> None:
    done = record("rotate the signing keys soon", type="task", fields={"status": "done"})
    open_ = record("rotate the signing keys later", type="task", fields={"status": "open"})
    index.apply([open_, done])

    assert ids(index, "rotate the signing keys") == [open_.id, done.id]


def test_a_link_with_a_better_hit_lifts(index: Index) -> None:
    target, other = record("the gateway of the cluster, and more"), record("the gateway of the building, and more")
    best = record("gateway gateway", "Gateway", links=(Link("relates_to", target.id),))
    index.apply([best, other, target])

    found = index.search("gateway").hits

    assert [hit.record.id for hit in found] == [best.id, target.id, other.id]
    assert found[1].signals["links"] > 0


def test_passages_beside_a_match_are_found_with_it(index: Index) -> None:
    index.set_embedder("model", 8)
    at = [START + timedelta(minutes=n) for n in range(4)]
    question = record("Which database did you choose for the warehouse?", source="chat-1", created=at[0])
    answer = record("The blue one, it was cheaper.", source="chat-1", created=at[1])
    stray = record("The red one, it was nearer.", source="chat-2", created=at[2])
    index.apply([question, answer, stray])
    embed(
        index,
        {"warehouse": [1, 0, 0, 0, 0, 0, 0, 0], "blue": [0.5, 1, 0, 0, 0, 0, 0, 0], "red": [0.5, 1, 0, 0, 0, 0, 0, 0]},
    )

    hits = index.search("database of the warehouse", vector=[1, 0, 0, 0, 0, 0, 0, 0]).hits

    assert [hit.record.id for hit in hits] == [question.id, answer.id, stray.id]
    assert hits[1].signals["around"] > 0
    assert "around" not in hits[2].signals


def test_what_has_the_name_asked_for_stands_above_what_has_the_other_words(index: Index) -> None:
    about = record("Notes on Carmen and her flat.\n\nThe bicycle was red.", source="chat-1", updated=START)
    other = record("Her new bicycle is blue, a bicycle for the town.", source="chat-2", updated=START)
    index.apply([about, other, *(record(f"number {n} of the others", updated=START) for n in range(5))])

    assert [hit.record.id for hit in index.search("colour of the bicycle of Carmen").hits] == [about.id, other.id]
    hits = index.search("colour of the bicycle of Carmen").hits
    assert hits[0].signals["names"] == pytest.approx(WEIGHTS.names)
    assert "names" not in hits[1].signals
    assert not any("names" in hit.signals for hit in index.search("colour of the bicycle of carmen").hits)


def test_a_passage_in_which_the_words_stand_together_comes_first(index: Index) -> None:
    apart = record("The bicycle of the neighbour.\n\nThe wall behind the house is a red one.", updated=START)
    together = record("The wall behind the house of the neighbour.\n\nA red bicycle stands before it.", updated=START)
    index.apply([apart, together])

    hits = index.search("red bicycle").hits

    assert [hit.record.id for hit in hits] == [together.id, apart.id]
    assert hits[0].signals["together"] == pytest.approx(WEIGHTS.together)
    assert "together" not in hits[1].signals


def test_signals_add_up_to_the_score(index: Index) -> None:
    index.set_embedder("model", 8)
    index.apply([record(f"words about deploys number {n}", "Deploy", updated=START) for n in range(5)])
    embed(index, {"deploys": [1, 0, 0, 0, 0, 0, 0, 0]})

    for hit in index.search('"about deploys" number', vector=[1.0] * 8).hits:
        assert sum(hit.signals.values()) == pytest.approx(hit.score, abs=2e-3)


def test_filters_come_before_the_cut_of_a_phrase(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    # A cut at 20,000 chunks would take minutes to reach; the filter has to come before any.
    monkeypatch.setattr("adaptive_llm_gateway.memory._source_sqlite._MAX_PHRASE", 3)
    wanted = record("it lies in src/core/paths.py", project="atlas")
    index.apply([*(record(f"see src/core/paths.py, number {n}") for n in range(9)), wanted])

    hits = index.search("src/core/paths.py", filters=Filters(project="atlas")).hits

    assert [(hit.record.id, hit.matched[0]) for hit in hits] == [(wanted.id, "exact")]


def test_a_word_that_was_asked_for_before_is_found_as_it_stands_after_each_write(index: MemoryIndex) -> None:
    first, second, third = (record(f"The cache of {what}") for what in ("sessions", "pages", "names"))
    index.apply([first, second])
    assert set(ids(index, "cache")) == {first.id, second.id}

    index.apply([], [first.id])
    assert ids(index, "cache") == [second.id]

    index.apply([third])
    assert set(ids(index, "cache")) == {second.id, third.id}

    index.apply([], [third.id])
    assert ids(index, "cache") == [second.id]

    index.apply([replace(second, body="Nothing of the kind")])
    assert ids(index, "cache") == []


def test_memories_that_were_deleted_say_nothing_of_how_common_a_word_is(index: MemoryIndex) -> None:
    rare, others = record("alpha here"), [record(f"delta there number {n}") for n in range(5)]
    gone = [record(f"alpha number {n}") for n in range(300)]
    index.apply([*gone, rare, *others, *(record(f"filler {n}") for n in range(20))])
    index.search("alpha delta")
    index.apply([], [each.id for each in gone])

    assert ids(index, "alpha delta")[0] == rare.id


def test_a_name_that_no_memory_has_counts_among_the_names_asked_for(index: MemoryIndex) -> None:
    index.apply([record("Carmen has a red bicycle."), *(record(f"number {n} of the others") for n in range(5))])

    both, one = (index.search(query).hits[0] for query in ("the bicycle of Carmen and Zelda", "the bicycle of Carmen"))

    assert one.signals["names"] == pytest.approx(WEIGHTS.names)
    assert 0 < both.signals["names"] < WEIGHTS.names / 2


def test_what_a_search_reads_from_an_index_set_aside_is_not_taken_for_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = record("The cache of sessions"), record("Something else")
    with Index(tmp_path / "index.db") as index:
        index.set_embedder("model", 8)
        index.apply([first, second])
        held = index._held  # pyright: ignore[reportPrivateUsage]
        ready = held.ready

        def damaged_meanwhile() -> object:
            # A search that has its connection may wait here for vectors: no other way to be between the two.
            monkeypatch.undo()
            index.start_over()
            return ready()

        monkeypatch.setattr(held, "ready", damaged_meanwhile)
        index.search("cache", vector=[1.0, *[0.0] * 7])
        index.apply([second, first])  # as many chunks, in another order

        assert ids(index, "cache") == [first.id]
