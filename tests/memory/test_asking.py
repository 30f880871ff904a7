"""What a person can ask of a store: operators, times, pages, counts, memories alike, the past."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound, TooLarge, Trust
from adaptive_llm_gateway.memory import (
    Answer,
    Author,
    DeleteMemory,
    Filters,
    MemoryStore,
    RestoreMemory,
    SearchRequest,
    TimeRange,
    WriteMemory,
)
from adaptive_llm_gateway.memory._asking import telling_words
from adaptive_llm_gateway.memory._cursor import MAX_DEPTH, decode
from adaptive_llm_gateway.memory._ranking import WEIGHTS
from adaptive_llm_gateway.memory.testing import HashEmbedder, temporary_store

ME = Author("test-client")


def ask(store: MemoryStore, query: str = "", **request: Any) -> Answer:
    return store.ask(SearchRequest(query, **request))


def titles(store: MemoryStore, query: str = "", **request: Any) -> list[str]:
    return [hit.record.title for hit in ask(store, query, **request).hits]


def write(store: MemoryStore, title: str, body: str = "", *, author: Author = ME, **given: Any) -> str:
    return store.write(WriteMemory(author=author, title=title, body=body, **given)).id


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A store that no test changes."""
    with temporary_store(tmp_path_factory.mktemp("shelf")) as store:
        write(store, "Cache in Redis", "Lookups are cached in redis.", type="decision", tags=("db", "cache"))
        write(store, "Drop Redis", "Caching moves to postgres.", type="decision", tags=("db", "old"), project="atlas")
        write(store, "Warm the cache", "At night.", type="task", project="Atlas", author=Author("codex", "night-owl"))
        write(
            store, "Buy tea", "Green, no redis.", type="task", author=Author("claude-code"), fields={"status": "done"}
        )
        write(store, "猫の話", "キャッシュは犬より猫が好きです", tags=("cats",))
        yield store


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("cache type:decision", {"Cache in Redis", "Drop Redis"}),
        ("cache -redis", {"Warm the cache"}),
        ("cache -lookup", {"Drop Redis", "Warm the cache"}),  # stemmed as the index does: `Lookups`
        ('cache -"moves to postgres"', {"Cache in Redis", "Warm the cache"}),
        ("cache -tag:old", {"Cache in Redis", "Warm the cache"}),
        ("cache -type:decision", {"Warm the cache"}),
        ("cache -project:ATLAS", {"Cache in Redis"}),
        ("cache tag:db tag:cache", {"Cache in Redis"}),
        ("cache project:atlas", {"Drop Redis", "Warm the cache"}),
        ("cache by:codex", {"Warm the cache"}),
        ("cache author:Night-Owl", {"Warm the cache"}),
        ("cache -author:night-owl", {"Cache in Redis", "Drop Redis"}),
        ("type:task status:open", {"Warm the cache"}),
        ("type:task -codex", {"Warm the cache", "Buy tea"}),  # a word of the text, not of who wrote
        ("-猫 type:note", set[str]()),
        ("-鳥 type:note", {"猫の話"}),
        ("type:decision,task -redis", {"Warm the cache"}),
        ("tag:none", set[str]()),
        ("type:task project:atlas since:1h before:2100-01-01", {"Warm the cache"}),
        ("cache until:2020", set[str]()),
    ],
)
def test_operators_narrow_what_is_found(shelf: MemoryStore, query: str, expected: set[str]) -> None:
    assert set(titles(shelf, query)) == expected


def test_operators_and_arguments_both_narrow(shelf: MemoryStore) -> None:
    assert titles(shelf, "type:decision", filters=Filters(project="atlas")) == ["Drop Redis"]
    assert titles(shelf, "type:decision", filters=Filters(types=("task",))) == []
    assert titles(shelf, "project:atlas", filters=Filters(project="other")) == []


def test_operators_alone_list_the_most_recent(shelf: MemoryStore) -> None:
    assert titles(shelf, "type:decision") == ["Drop Redis", "Cache in Redis"]
    assert titles(shelf, "type:task", limit=1) == ["Buy tea"]
    assert titles(shelf) == ["猫の話", "Buy tea", "Warm the cache", "Drop Redis", "Cache in Redis"]


def test_a_part_of_an_id_narrows_to_its_memory(shelf: MemoryStore) -> None:
    (hit,) = ask(shelf, "tea").hits
    assert titles(shelf, f"id:{hit.record.id}") == ["Buy tea"]
    assert titles(shelf, f"id:{hit.record.id[-8:].lower()}") == ["Buy tea"]
    assert titles(shelf, f"-id:{hit.record.id} type:task") == ["Warm the cache"]
    assert titles(shelf, "id:01ZZZZZZZZ") == []


def test_filters_that_leave_nothing_are_named(shelf: MemoryStore) -> None:
    (notice,) = ask(shelf, "tag:none cache").notices
    assert "tag:none" in notice
    assert "quotes" in notice


def test_an_unknown_type_is_searched_and_told(shelf: MemoryStore) -> None:
    answer = ask(shelf, "type:recipe tea")
    assert [hit.record.title for hit in answer.hits] == ["Buy tea"]
    assert any("recipe" in notice for notice in answer.notices)


def test_the_plan_says_how_a_query_was_read(shelf: MemoryStore) -> None:
    now = datetime(2026, 11, 18, tzinfo=UTC)
    plan = shelf.ask(SearchRequest('the "green tea" v2.1 -coffee type:task last week'), now=now).plan
    assert plan.words == 'the "green tea" v2.1 last week'
    assert plan.operators == ("-coffee", "type:task")
    assert plan.literals == ("green tea", "v2.1")
    assert plan.stop_words == ("the",)
    assert plan.filters.types == ("task",)
    assert plan.preferred == TimeRange(now - timedelta(days=9), now - timedelta(days=2))


# --- times named by what happened --------------------------------------------------------------------------


def test_a_time_named_by_what_happened_is_looked_up(tmp_path: Path) -> None:
    with temporary_store(tmp_path) as store:
        write(store, "Crash in the parser", "before")
        release = write(store, "The release 2.0", "It is out.")
        write(store, "Crash in the lexer", "after")

        before, after = ask(store, 'crash before:"the release"'), ask(store, 'crash after:"the releases"')
        soft, unknown = ask(store, "any crash before the release?"), ask(store, 'crash before:"the moon landing"')

    assert [hit.record.title for hit in before.hits] == ["Crash in the parser"]
    assert [hit.record.title for hit in after.hits] == ["Crash in the lexer"]
    assert all(release in answer.notices[0] for answer in (before, after, soft))
    assert {hit.record.title for hit in soft.hits} >= {"Crash in the parser", "Crash in the lexer"}
    assert soft.plan.preferred is not None
    assert soft.plan.preferred.since is None
    assert len(unknown.hits) == 2
    assert "the moon landing" in unknown.notices[0]


def test_a_sentence_with_before_in_it_loses_nothing(shelf: MemoryStore) -> None:
    answer = ask(shelf, "tea before the redis call")
    assert "Buy tea" in [hit.record.title for hit in answer.hits]
    assert answer.plan.preferred is None


# --- counts ------------------------------------------------------------------------------------------------


def test_facets_count_all_that_the_filters_let_through_whatever_the_words(shelf: MemoryStore) -> None:
    found = ask(shelf, "tea -postgres", limit=1, facets=True).facets
    assert found is not None
    assert found.total == 4
    assert dict(found.types) == {"task": 2, "decision": 1, "note": 1}
    assert found.types[0] == ("task", 2)
    assert dict(found.tags) == {"db": 1, "cache": 1, "cats": 1}
    assert dict(found.projects) == {"Atlas": 1}
    assert dict(found.authors) == {"test-client": 2, "codex": 1, "claude-code": 1}
    assert sum(count for _, count in found.months) == 4

    everything = ask(shelf, facets=True).facets
    assert everything is not None
    assert {name.lower(): count for name, count in everything.projects} == {"atlas": 2}
    assert ask(shelf).facets is None


# --- pages -------------------------------------------------------------------------------------------------


def _nothing(_: int) -> None:
    pass


def pages(
    store: MemoryStore, query: str, between: Callable[[int], object] = _nothing, **request: Any
) -> list[list[str]]:
    found: list[list[str]] = []
    cursor = None
    while True:
        answer = ask(store, query, cursor=cursor, **request)
        found.append([hit.record.id for hit in answer.hits])
        between(len(found))
        cursor = answer.next_cursor
        if cursor is None:
            return found
        assert len(found) < 100


@pytest.mark.parametrize("query", ["river", "", "type:note river", "river -stone"])
def test_pages_show_every_memory_once(tmp_path: Path, query: str) -> None:
    with temporary_store(tmp_path, embedder=HashEmbedder()) as store:
        wanted = {write(store, f"River {n}", f"number {n} of the river, {n * 7919}") for n in range(23)}
        found = pages(store, query, limit=5)

    assert [len(page) for page in found] == [5, 5, 5, 5, 3]
    assert Counter(itertools.chain(*found)) == Counter(wanted)


def test_pages_neither_repeat_nor_pass_over_when_memories_come_go_and_change_in_between(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311
    with temporary_store(tmp_path) as store:
        kept = [write(store, f"River {n}", f"number {n} of the river, {n * 7919}") for n in range(24)]
        gone = [write(store, f"River mouth {n}", f"the river again, {n * 104729}") for n in range(6)]

        def disturb(page: int) -> None:
            write(store, f"River, new {page}", "river " * page + str(page * 7907))
            if gone:
                store.write(DeleteMemory(ME, gone.pop()))
            changed = chance.choice(kept)
            store.write(WriteMemory(author=ME, id=changed, body=f"the river, changed on page {page}"))
            if page % 2:
                store.reindex()

        for query in ("river", ""):
            found = list(itertools.chain(*pages(store, query, disturb, limit=6)))
            assert len(found) == len(set(found))
            assert set(found) >= set(kept)


def test_a_cursor_of_another_search_is_refused(shelf: MemoryStore) -> None:
    cursor = ask(shelf, "cache", limit=1).next_cursor
    assert cursor is not None
    assert ask(shelf, "cache", limit=2, cursor=cursor).hits
    others: list[tuple[str, dict[str, Any]]] = [
        ("caches", {}), ("cache ", {"filters": Filters(types=("note",))}), ("cache", {"as_of": "HEAD"}),
        ("cache", {"filters": Filters(project="atlas")}), ("cache", {"similar_to": "01ZZZZZZZZZZZZZZZZZZZZZZZZ"}),
    ]  # fmt: skip
    for query, request in others:
        with pytest.raises(InvalidInput, match="another search"):
            ask(shelf, query, cursor=cursor, **request)
    with pytest.raises(InvalidInput, match="not the cursor"):
        ask(shelf, "cache", cursor="zzz")


def test_a_cursor_with_a_commit_that_is_none_of_the_searchs_is_refused(shelf: MemoryStore) -> None:
    now = decode(str(ask(shelf, "cache", limit=1).next_cursor))
    then = decode(str(ask(shelf, "cache", limit=1, as_of="HEAD").next_cursor))
    blob = shelf.list(limit=1).records[0].version
    assert then.commit is not None
    for commit in ("ab" * 20, "0" * 39 + "1", blob):
        with pytest.raises(InvalidInput, match="names a commit"):
            ask(shelf, "cache", as_of="HEAD", cursor=replace(then, commit=commit).encode())
    with pytest.raises(InvalidInput, match="names a commit"):
        ask(shelf, "cache", cursor=replace(now, commit=then.commit).encode())
    assert ask(shelf, "cache", as_of="HEAD", cursor=then.encode()).hits


def test_pages_end_at_the_depth_that_is_promised(shelf: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # A thousand memories would take a minute to write; the bound is one number.
    monkeypatch.setattr("adaptive_llm_gateway.memory._asking.MAX_DEPTH", 3)
    first = ask(shelf, limit=2)
    last = ask(shelf, limit=2, cursor=first.next_cursor)
    assert [len(first.hits), len(last.hits)] == [2, 1]
    assert last.next_cursor is None
    assert any("3 hits" in notice for notice in last.notices)
    assert MAX_DEPTH == 1_000


# --- memories alike ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("embedder", [None, HashEmbedder()], ids=["by words", "with vectors"])
def test_memories_like_one_are_found_without_itself(bench: Any, embedder: Any) -> None:
    store = bench.open(**({"embedder": embedder} if embedder else {}))
    one = write(store, "Nightly backup of the database", "A cron job dumps postgres to the vault at night.")
    alike = write(store, "Where database dumps go", "The postgres backup lands in the vault.")
    write(store, "Tea", "Green tea, two minutes.")
    write(store, "Boots", "Waterproof, size 44.", type="fact")
    bench.poll(lambda: embedder is None or store.status().vectors == (4, 4), "the vectors")

    answer = ask(store, similar_to=one)

    assert answer.hits[0].record.id == alike
    assert one not in [hit.record.id for hit in answer.hits]
    assert answer.mode == ("hybrid" if embedder else "lexical")
    assert answer.plan.similar_to is not None
    assert answer.plan.similar_to[0] == one
    assert {"postgres", "backup", "vault"} <= set(answer.plan.similar_to[1])
    assert titles(store, "type:fact", similar_to=one[-8:]) in ([], ["Boots"])


def test_what_may_not_leave_the_machine_does_not_when_its_like_are_wanted(bench: Any) -> None:
    class Elsewhere(HashEmbedder):
        @property
        def local(self) -> bool:
            return False

        def embed(self, texts: Sequence[str]) -> Any:
            sent.extend(texts)
            return super().embed(texts)

    sent: list[str] = []
    store = bench.open(embedder=Elsewhere())
    kept = write(store, "Merger", "Talks about the merger.", trust=Trust.CONFIDENTIAL)
    open_ = write(store, "Menu", "The merger of tea and cake.")
    bench.poll(lambda: store.status().vectors == (1, 2), "the vectors")

    assert open_ in [hit.record.id for hit in ask(store, similar_to=kept).hits]
    assert ask(store, "cake", similar_to=kept).mode == "hybrid"
    assert sent
    assert not [text for text in sent if "Talks" in text]


def test_an_unknown_memory_has_none_alike(shelf: MemoryStore) -> None:
    with pytest.raises(NotFound, match="01ZZZZ"):
        ask(shelf, similar_to="01ZZZZZZZZZZZZZZZZZZZZZZZZ")
    with pytest.raises(AlgError, match="not a memory id"):
        ask(shelf, similar_to="../x")


def test_telling_words_are_rare_elsewhere_and_frequent_here(shelf: MemoryStore) -> None:
    (hit,) = ask(shelf, "tea").hits
    counts = {"green": 900, "redis": 2, "buy": 500, "tea": 10}
    words = telling_words(hit.record, lambda words: ([counts.get(word, 0) for word in words], 1_000))
    assert set(words) == {"redis", "tea", "buy", "green"}
    assert words[-1] == "green"


# --- the past ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("embedder", [None, HashEmbedder()], ids=["by words", "with vectors"])
def test_the_past_is_searched_as_it_was(bench: Any, embedder: Any) -> None:
    store = bench.open(**({"embedder": embedder} if embedder else {}))
    changed = write(store, "Database", "We use postgres everywhere.", tags=("db",))
    removed = write(store, "Queue", "Rabbits carry postgres messages.")
    same = write(store, "Tea", "Postgres likes green tea.")
    bench.poll(lambda: embedder is None or store.status().vectors == (3, 3), "the vectors")
    then = store.repo.head()
    assert then is not None
    store.write(WriteMemory(author=ME, id=changed, body="We use sqlite everywhere.", tags=("lite",)))
    store.write(DeleteMemory(ME, removed))
    later = write(store, "Postgres, again", "New since.")
    now = ask(store, "postgres", as_of="HEAD")

    past = ask(store, "postgres", as_of=then, facets=True)

    assert {hit.record.id for hit in past.hits} == {changed, removed, same}
    assert past.mode == ("hybrid" if embedder else "lexical")
    assert past.commit == then
    assert past.time is not None
    assert past.notices == ()
    (old,) = [hit for hit in past.hits if hit.record.id == changed]
    assert old.record.body.strip() == old.snippet == "We use postgres everywhere."
    assert old.record.version == store.read(changed, at=then).record.version
    assert past.facets is not None
    assert dict(past.facets.tags) == {"db": 1}
    assert {hit.record.id for hit in now.hits} >= {same, later}
    assert removed not in {hit.record.id for hit in now.hits}
    # The present is as it was.
    assert set(titles(store, "postgres")) >= {"Postgres, again", "Tea"}
    assert "Queue" not in titles(store, "postgres")
    assert titles(store, "type:note", as_of=then, similar_to=same)
    bench.tidy(store)


def test_pages_of_the_past_stay_at_its_commit(tmp_path: Path) -> None:
    with temporary_store(tmp_path) as store:
        ids = [write(store, f"River {n}", f"number {n} of the river, {n * 7919}") for n in range(7)]
        found = pages(store, "river", lambda page: write(store, f"River, new {page}", "river"), limit=3, as_of="HEAD")

    assert sorted(itertools.chain(*found)) == sorted(ids)


def test_a_memory_that_was_moved_since_is_where_it_was(bench: Any) -> None:
    store = bench.open()
    id_ = write(store, "Moved", "rivers")
    path = bench.file(store, id_)
    other = path.with_name("elsewhere.md")
    path.rename(other)
    bench.noticed(store, path, other)

    (hit,) = ask(store, "rivers", as_of="HEAD~1").hits

    assert hit.record.id == id_
    assert hit.record.path == path.relative_to(store.repo.path).as_posix()


def test_what_was_broken_or_secret_then_is_left_out_and_told(bench: Any) -> None:
    store = bench.open()
    good, bad = write(store, "Good", "rivers"), write(store, "Bad", "rivers")
    path = bench.file(store, bad)
    fine = path.read_text(encoding="utf-8")
    store.close()
    secret = "ghp_" + "x4Q9aZ7Lw2Vn8Rt5Yb1Kc6Md3Pf0Hs9Gj7Te"
    for text in (fine + f"\ntoken = {secret}\n", fine):
        path.write_text(text, encoding="utf-8")
        bench.git(store, "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "--all", "--message", "by hand")
    store = bench.open()
    assert store.flush()

    answer = ask(store, "rivers", as_of="HEAD~1")

    assert [hit.record.id for hit in answer.hits] == [good]
    assert any("1 files of that time are left out" in notice for notice in answer.notices)


@pytest.mark.parametrize(
    ("as_of", "error", "words"),
    [
        ("2001-01-01", NotFound, "no commit as old"),
        ("abcdef1234", NotFound, "abcdef1234"),
        ("HEAD~500", NotFound, "HEAD~500"),
        ("no-such-branch", NotFound, "no-such-branch"),
        ("$(x)", InvalidInput, "not a version, commit, time"),
        ("\0", InvalidInput, "not a version, commit, time"),
        ("x" * 10_000, InvalidInput, "too long"),
    ],
)
def test_a_past_that_is_not_there_is_named(shelf: MemoryStore, as_of: str, error: type[AlgError], words: str) -> None:
    with pytest.raises(error) as caught:
        ask(shelf, "x", as_of=as_of)
    assert words in str(caught.value)


def test_the_version_of_one_memory_is_no_past(shelf: MemoryStore) -> None:
    version = ask(shelf, "tea").hits[0].record.version
    with pytest.raises(InvalidInput, match="not a commit"):
        ask(shelf, "x", as_of=version)


def test_copies_of_the_past_are_few_and_go_with_the_store(tmp_path: Path) -> None:
    with temporary_store(tmp_path) as store:
        for number in range(4):
            write(store, f"River {number}")
        folder = tmp_path / "past"
        for back in (0, 1, 2, 2, 3, 1):
            assert len(titles(store, as_of=f"HEAD~{back}")) == 4 - back
            assert len(list(folder.glob("*.db"))) <= 2
        leftover = folder / "left-by-a-killed-process.db"
        leftover.write_bytes(b"x")
    assert list(folder.iterdir()) == [leftover]
    with temporary_store(tmp_path):
        assert list(folder.iterdir()) == []


def test_too_many_differences_are_refused_with_what_to_do(shelf: MemoryStore) -> None:
    past = shelf._past  # pyright: ignore[reportPrivateUsage]
    root = shelf.repo.root_commit_id()
    with (
        pytest.raises(TooLarge, match="at most 4") as caught,
        past.at(root, shelf.types, shelf.scanner, max_differences=4),
    ):
        pass
    assert caught.value.hint is not None
    assert titles(shelf, as_of=root) == []


def test_an_index_too_large_to_be_copied_is_refused(shelf: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody has four gigabytes for a test; the bound is one number.
    monkeypatch.setattr("adaptive_llm_gateway.memory._past.MAX_BYTES", 1_000)
    with pytest.raises(TooLarge, match="is not copied"):
        ask(shelf, "tea", as_of="HEAD~3")


def test_a_restored_memory_is_not_in_the_time_without_it(tmp_path: Path) -> None:
    with temporary_store(tmp_path) as store:
        id_ = write(store, "Lost and found", "rivers")
        store.write(DeleteMemory(ME, id_))
        store.write(RestoreMemory(ME, id_))
        assert [titles(store, "rivers", as_of=f"HEAD~{back}") for back in (2, 1, 0)] == [
            ["Lost and found"], [], ["Lost and found"],
        ]  # fmt: skip


# --- why ---------------------------------------------------------------------------------------------------


def test_the_page_has_the_signals_and_weights_that_rank() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "search.md"
    section = page.read_text(encoding="utf-8").partition("## How the answer is ranked")[2].partition("\n## ")[0]
    told = {
        name: float(weight) for name, weight in re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) \|$", section, re.MULTILINE)
    }
    assert told == asdict(WEIGHTS)


@pytest.mark.parametrize("embedder", [None, HashEmbedder()], ids=["by words", "with vectors"])
def test_every_hit_says_what_each_signal_brought(bench: Any, embedder: Any) -> None:
    store = bench.open(**({"embedder": embedder} if embedder else {}))
    for n in range(4):
        write(store, f"Cache v2.{n}", f"number {n} of the caches in v2.{n}, today, {n * 7919}")
    bench.poll(lambda: embedder is None or store.status().vectors == (4, 4), "the vectors")

    def hits_as_they_should_be() -> Any:  # on a busy machine a search does not wait for its vector
        found = ask(store, 'the cache v2.1 "in v2.1" of today').hits
        return found if ("vector" in found[0].signals) == bool(embedder) else None

    hits = bench.poll(hits_as_they_should_be, "a search with the signals that there are")

    assert hits[0].record.title == "Cache v2.1"
    assert {"exact", "quoted", "title", "recent", "time", "words"} <= set(hits[0].signals)
    for hit in hits:
        assert sum(hit.signals.values()) == pytest.approx(hit.score, abs=0.001)  # rounded to four places each
        assert set(hit.signals) <= set(asdict(WEIGHTS))


def test_a_memory_of_the_time_that_a_sentence_speaks_of_comes_first(tmp_path: Path) -> None:
    with temporary_store(tmp_path) as store:
        now = datetime.now(UTC)
        ids = {write(store, f"Cache {n}", f"number {n} of the caches, {n * 7919}") for n in range(3)}
        today = store.ask(SearchRequest("caches of today"), now=now)
        longer = store.ask(SearchRequest("caches two weeks ago"), now=now + timedelta(days=30))

    assert {hit.record.id for hit in today.hits} == {hit.record.id for hit in longer.hits} == ids
    assert all(hit.signals["time"] == pytest.approx(WEIGHTS.time) for hit in today.hits)
    assert not any("time" in hit.signals for hit in longer.hits)


def test_a_memory_made_soon_after_the_time_that_a_sentence_speaks_of_comes_before_later_ones(tmp_path: Path) -> None:
    with temporary_store(tmp_path) as store:
        written = datetime.now(UTC)
        write(store, "Cache", "the number of the caches")
        found = {
            days: store.ask(SearchRequest("caches yesterday"), now=written + timedelta(days=days)).hits[0].signals
            for days in (0, 1, 20)
        }

    # Seen from today the time of yesterday is over: the memory came less than a day after it.
    assert WEIGHTS.time * 6 / 7 <= found[0]["time"] < WEIGHTS.time
    assert found[1]["time"] == pytest.approx(WEIGHTS.time)
    assert "time" not in found[20]


# --- bad input ---------------------------------------------------------------------------------------------


@example('" \ud800 "')
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            ["type:note", "-type:task", "tag:", 'tag:"a b"', "-redis", '-"moves to"', '"', '""', "NOT", "OR", "NEAR(",
             ")", "*", "body:x", "{title}", "^x", "\0",
             "猫", "-猫", "слово", "\ud800", "id:01KA8Y", "tag:x\ud800", "last week", "since:1d",
             'before:"the release"', "before the release", "';--", "\u200f", "-", "%", "_"]
        )
        | st.text(max_size=6),
        max_size=10,
    ).map(" ".join)
)  # fmt: skip
def test_hostile_queries_find_or_find_nothing_but_never_fail(shelf: MemoryStore, query: str) -> None:
    answer = ask(shelf, query, facets=True, explain=True)
    assert answer.facets is not None
    assert len(answer.hits) <= 10


@pytest.mark.parametrize("query", ["type:task " * 10_000, "x" * 100_000, '"' * 100_000, "-redis " * 20_000, "\n" * 100])
def test_a_query_of_a_hundred_kilobytes_is_answered(shelf: MemoryStore, query: str) -> None:
    assert len(ask(shelf, query).hits) <= 10
