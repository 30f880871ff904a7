"""Events of handoffs: files of their own that nothing changes, found by their handoff and not by search."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest

from adaptive_llm_gateway.core import (
    AlgError,
    InvalidFile,
    InvalidInput,
    NotFound,
    SecretRefused,
    Trust,
    UnknownField,
    new_ulid,
)
from adaptive_llm_gateway.memory import (
    AppendEvent,
    Author,
    DeleteMemory,
    Filters,
    ImportMemory,
    Link,
    MemoryStore,
    Record,
    SearchRequest,
    WriteMemory,
    WriteResult,
)
from adaptive_llm_gateway.memory._index import Index
from adaptive_llm_gateway.memory._index_rows import EVENTS, conditions
from adaptive_llm_gateway.memory._memory_index import MemoryIndex
from adaptive_llm_gateway.memory._sql import fetch_all, run
from adaptive_llm_gateway.memory._values import Exclusions, without_events
from adaptive_llm_gateway.memory.testing import HashEmbedder

ME = Author("codex", "reviewer")
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
OF_HANDOFFS = Filters(types=("handoff",))
SILENT = ("claim", "confirm", "release", "decline", "withdraw", "patch")


def offer(store: MemoryStore, title: str = "Mend the parser", **given: Any) -> WriteResult:
    return store.write(WriteMemory(ME, type="handoff", title=title, fields={"objective": "It parses."}, **given))


def event(handoff: str, kind: str = "claim", **given: Any) -> AppendEvent:
    given = {"step": 1, "time": NOON, "title": "Mend the parser"} | given
    return AppendEvent(ME, handoff, given.pop("id", None) or new_ulid(), kind, **given)


def put(store: MemoryStore, handoff: str, kind: str = "claim", **given: Any) -> WriteResult:
    return store.write(event(handoff, kind, **given))


def record(store: MemoryStore, id: str) -> Record:
    found = store.record(id)
    assert found is not None
    return found


def refused(store: MemoryStore, request: AppendEvent, kind: type[AlgError]) -> AlgError:
    before = store.repo.head()
    with pytest.raises(kind) as caught:
        store.write(request)
    assert store.repo.head() == before
    return caught.value


def test_an_event_is_a_file_beside_its_offer(bench: Any) -> None:
    store = bench.open()
    made = offer(store, project="compiler", trust=Trust.CONFIDENTIAL)
    fields = {"term": 1, "lease_until": "2026-11-22T13:00:00Z", "hub": "box-1", "instance": "7"}
    done = put(store, made.id, "claim", step=12, title="Claimed by codex: Mend it", fields=fields, reason="free")
    assert Path(done.path).parent == Path(made.path).parent / made.id[-8:].lower()
    assert Path(done.path).name == f"0012-claim-{done.id[-8:].lower()}.md"
    found = store.read(done.id).record
    assert (found.type, found.project, found.trust) == ("handoff", "compiler", Trust.CONFIDENTIAL)
    assert found.title == done.title == "Claimed by codex: Mend it"
    assert found.created == found.updated == NOON
    assert found.links == (Link("part_of", made.id),)
    assert found.author == Author("codex", "reviewer", "testing")
    assert found.fields["lease_until"] == "2026-11-22T13:00:00.000Z"
    wanted = {"event": "claim", "handoff": made.id, "step": 12, "term": 1, "hub": "box-1", "instance": "7"}
    assert {name: found.fields[name] for name in wanted} == wanted
    history = store.history(done.id).revisions
    assert [(one.subject, one.reasons) for one in history] == [('handoff: claim "Mend the parser"', ("free",))]
    bench.tidy(store)


def test_an_event_goes_where_the_offer_lies_also_when_somebody_has_moved_it(bench: Any) -> None:
    store = bench.open()
    for place in ("handoffs/2024/02/elsewhere.md", "handoffs/old/elsewhere.md"):
        made = offer(store)
        file = store.repo.path / place
        file.parent.mkdir(parents=True, exist_ok=True)
        bench.file(store, made.id).rename(file)
        bench.noticed(store, store.repo.path / made.path, file)
        path = put(store, made.id).path
        created = record(store, made.id).created
        month = "2024/02" if "2024" in place else f"{created:%Y/%m}"
        assert path.startswith(f"handoffs/{month}/{made.id[-8:].lower()}/")
        store.write(DeleteMemory(ME, made.id))


def test_an_events_trust_is_the_higher_of_its_own_and_the_offers(bench: Any) -> None:
    store = bench.open()
    made = offer(store, trust=Trust.INTERNAL)
    assert record(store, put(store, made.id).id).trust is Trust.INTERNAL
    assert record(store, put(store, made.id, "patch", trust=Trust.SECRET).id).trust is Trust.SECRET


def test_an_event_needs_an_offer(bench: Any) -> None:
    store = bench.open()
    made = offer(store)
    claim = put(store, made.id)
    note = bench.write(store, "A note")
    assert "no handoff" in str(refused(store, event(new_ulid()), NotFound))
    assert "is a note" in str(refused(store, event(note.id), InvalidInput))
    assert made.id in str(refused(store, event(claim.id), InvalidInput).hint)
    store.write(DeleteMemory(ME, made.id))
    assert "restore" in str(refused(store, event(made.id), NotFound).hint)


def test_an_event_is_not_changed_or_deleted_while_its_offer_is_there(bench: Any) -> None:
    store = bench.open()
    made = offer(store)
    claim = put(store, made.id)
    for request in (DeleteMemory(ME, claim.id), WriteMemory(ME, id=claim.id, body="mine\n")):
        with pytest.raises(InvalidInput, match="never changed"):
            store.write(request)
    store.write(DeleteMemory(ME, made.id))
    with pytest.raises(InvalidInput, match="never changed"):
        store.write(WriteMemory(ME, id=claim.id, body="mine\n"))
    store.write(DeleteMemory(ME, claim.id))
    assert not (store.repo.path / claim.path).exists()
    bench.tidy(store)


def test_what_cannot_be_an_event_is_refused(bench: Any) -> None:
    store = bench.open()
    made = offer(store)
    refused(store, event(made.id, "seize"), InvalidInput)
    refused(store, event(made.id, step=-1), InvalidInput)
    refused(store, event(made.id, fields={"holder": "me"}), UnknownField)
    refused(store, event(made.id, time=datetime(2026, 11, 22)), InvalidInput)  # noqa: DTZ001 - that is the mistake
    refused(store, event(made.id, title=""), InvalidInput)
    refused(store, event(made.id, id="../../x"), InvalidInput)


def test_no_event_is_written_over_another_file(bench: Any) -> None:
    store = bench.open()
    made = offer(store)
    first = put(store, made.id, body="first\n")
    assert "already" in str(refused(store, event(made.id, "done", id=first.id), InvalidInput))
    one = event(made.id)
    path = f"{Path(first.path).parent.as_posix()}/0001-claim-{one.id[-8:].lower()}.md"
    (store.repo.path / path).write_text("somebody's\n", encoding="utf-8")
    refused(store, one, InvalidFile)
    assert (store.repo.path / path).read_text(encoding="utf-8") == "somebody's\n"
    assert store.read(first.id).record.body == "first\n"


def test_a_secret_in_an_event_is_refused_or_replaced(bench: Any) -> None:
    store = bench.open()
    made = offer(store)
    refused(store, event(made.id, "progress", body=f"the token is {TOKEN}\n"), SecretRefused)
    done = put(store, made.id, "progress", body=f"the token is {TOKEN}\n", redact=True)
    assert "[redacted:" in store.read(done.id).record.body


def test_events_of_one_group_and_one_commit_are_named_together(bench: Any) -> None:
    store = bench.open()
    made = offer(store)
    with bench.group(store):
        tickets = [store.submit(event(made.id, kind)) for kind in ("claim", "progress")]
    assert len({ticket.committed.result(60) for ticket in tickets}) == 1
    assert bench.git(store, "log", "-1", "--format=%s").strip() == "Write 2 memories"
    bench.tidy(store)


@pytest.fixture
def every_kind(bench: Any) -> tuple[MemoryStore, WriteResult, dict[str, WriteResult]]:
    """A store with an embedder, an offer, and an event of each kind with the word walrus in title and body."""
    store = bench.open(embedder=HashEmbedder())
    made = offer(store, "An offer")
    events = {
        kind: put(store, made.id, kind, step=step, title="walrus", body=f"walrus {kind}\n")
        for step, kind in enumerate((*SILENT, "progress", "done"), 1)
    }
    bench.poll(lambda: len(set(store.status().vectors)) == 1, "all vectors")
    return store, made, events


def test_search_finds_what_was_told_and_no_event_that_tells_nothing(every_kind: Any) -> None:
    store, made, events = every_kind
    told = {events["progress"].id, events["done"].id}
    assert {hit.record.id for hit in store.search("walrus").hits} == told
    for kind in SILENT:
        found = store.search(kind).hits
        assert not {hit.record.id for hit in found} - told - {made.id}
    assert store.status().vectors == (3, 3)
    store.reindex()
    assert {hit.record.id for hit in store.search("walrus").hits} == told


def test_an_event_that_is_not_searched_is_read_listed_and_has_its_history(every_kind: Any) -> None:
    store, made, events = every_kind
    for kind, done in events.items():
        assert store.read(done.id).record.fields["event"] == kind
        assert store.read(done.id[-8:]).record.id == done.id
        assert store.history(done.id).revisions
        assert [one.id for one in store.list(filters=Filters(ids=(done.id,))).records] == [done.id]
        assert [one.id for one in store.list(filters=Filters(fields={"event": kind})).records] == [done.id]
        store.ask(SearchRequest("walrus", similar_to=done.id))
    of_it = Filters(types=("handoff",), fields={"handoff": made.id})
    assert {one.id for one in store.records(filters=of_it)} == {done.id for done in events.values()}
    assert {one.id for one in store.list(filters=of_it).records} == {done.id for done in events.values()}
    assert {one.id for one in store.records()} == {made.id, *(done.id for done in events.values())}


def test_lists_and_the_most_recent_are_without_events(bench: Any, every_kind: Any) -> None:
    store, made, _ = every_kind
    note = bench.write(store, "A note")
    assert [one.id for one in store.list().records] == [note.id, made.id]
    assert store.list().total == 2
    assert [one.id for one in store.list(filters=Filters(types=("handoff",))).records] == [made.id]
    answer = store.ask(SearchRequest("", facets=True))
    assert [hit.record.id for hit in answer.hits] == [note.id, made.id]
    assert answer.facets is not None
    assert answer.facets.total == 2
    assert [hit.record.id for hit in store.search("type:handoff").hits] == [made.id]


def test_every_kind_of_index_leaves_them_out(open_index: Callable[[], MemoryIndex]) -> None:
    plain = Record(
        id=new_ulid(), type="handoff", title="walrus", body="walrus\n", path="handoffs/2026/11/a.md", version="0" * 40,
        mtime_ns=0, size=1, created=NOON, updated=NOON, author=ME,
    )  # fmt: skip
    events = [
        replace(
            plain,
            id=new_ulid(),
            path=f"handoffs/2026/11/x/{kind}.md",
            updated=NOON + timedelta(minutes=step),
            fields={"event": kind, "handoff": plain.id, "step": step},
        )
        for step, kind in enumerate((*SILENT, "progress", "done", "of-a-newer-version"), 1)
    ]
    note = replace(plain, id=new_ulid(), type="note", path="notes/a.md", fields={"event": "claim"})
    index = open_index()
    try:
        index.apply([plain, *events, note])
        kept = {plain.id, note.id}
        assert {one.id for one in index.list(Filters(without=Exclusions(events=True))).records} == kept
        assert index.list(Filters(without=Exclusions(events=True))).total == 2
        assert {hit.record.id for hit in index.search("", filters=without_events(Filters())).hits} == kept
        assert index.facets(without_events(Filters())).total == 2
        assert len(index.list(Filters(types=("handoff",), fields={"handoff": plain.id})).records) == len(events)
        found = {hit.record.id: hit for hit in index.search("walrus").hits}
        folded = {id for hit in found.values() for id in hit.duplicates}
        told = {one.id for one in events if one.fields["event"] in ("progress", "done")}
        assert found.keys() | folded == kept | told
        index.apply([replace(events[0], title="otter")], [events[1].id])
        one = index.get(events[0].id)
        assert one is not None
        assert one.title == "otter"
        assert not index.search("otter").hits
    finally:
        index.close()


def test_only_ids_and_their_own_fields_ask_for_events() -> None:
    asking = (
        Filters(ids=("x",)),
        Filters(fields={"event": "claim"}),
        Filters(fields={"handoff": "x"}),
        Filters(also=(Filters(), Filters(also=(Filters(ids=("x",)),)))),
    )
    for filters in asking:
        assert without_events(filters) is filters
    for filters in (Filters(), Filters(types=("handoff",)), Filters(fields={"priority": "high"})):
        assert without_events(filters).without.events


def test_the_records_of_all_handoffs_are_what_the_index_has_now(bench: Any) -> None:
    store = bench.open()
    bench.write(store, "A note")

    def same() -> tuple[Record, ...]:
        now = store.handoff_records()
        assert {one.id: one for one in now} == {one.id: one for one in store.records(filters=OF_HANDOFFS)}
        return now

    assert same() == ()
    first, second = offer(store, "First"), offer(store, "Second")
    claim = put(store, first.id)
    assert len(same()) == 3
    kept = {one.id: one for one in store.handoff_records()}
    bench.update(store, second.id, body="more\n")
    put(store, second.id)
    now = {one.id: one for one in same()}
    assert now[claim.id] is kept[claim.id]
    assert now[second.id].body == "more\n"
    moved = store.repo.path / "handoffs" / "moved.md"
    bench.file(store, first.id).rename(moved)
    bench.noticed(store, store.repo.path / first.path, moved)
    assert {one.path for one in same()} > {"handoffs/moved.md"}
    store.write(DeleteMemory(ME, second.id))
    assert len(same()) == 3
    store.reindex()
    assert len(same()) == 3


def test_of_the_records_of_all_handoffs_patches_have_no_body(bench: Any) -> None:
    store = bench.open()
    made = offer(store)
    patch, told = put(store, made.id, "patch", body="a long diff"), put(store, made.id, "progress", body="half", step=2)
    bodies = {one.id: one.body for one in store.handoff_records()}
    assert (bodies[patch.id], bodies[told.id].strip()) == ("", "half")
    assert record(store, patch.id).body.strip() == "a long diff"


def test_every_kind_of_index_tells_the_versions_of_a_type(open_index: Callable[[], MemoryIndex]) -> None:
    plain = Record(
        id=new_ulid(), type="handoff", title="walrus", body="", path="handoffs/a\0.md", version="a" * 40,
        mtime_ns=0, size=1, created=NOON, updated=NOON, author=ME,
    )  # fmt: skip
    index = open_index()
    try:
        index.apply([plain, replace(plain, id=new_ulid(), type="note", path="notes/a.md")])
        assert index.versions("handoff") == {plain.id: (plain.path, plain.version)}
        assert index.versions("task") == {}
    finally:
        index.close()


def test_a_field_that_no_database_likes_hides_nothing_else(open_index: Callable[[], MemoryIndex]) -> None:
    plain = Record(
        id=new_ulid(), type="handoff", title="walrus", body="", path="handoffs/a.md", version="a" * 40,
        mtime_ns=0, size=1, created=NOON, updated=NOON, author=ME, fields={"handoff": "x", "event": "claim"},
    )  # fmt: skip
    odd = replace(plain, id=new_ulid(), path="handoffs/b.md", fields={"remark": "\0", "to": 'a "event": b'})
    odder = replace(odd, id=new_ulid(), path="handoffs/c.md", fields={"event": "claim", "remark": "\0"})
    empty = replace(odd, id=new_ulid(), path="handoffs/d.md", fields={"event": None, "more": {"event": "claim"}})
    index = open_index()
    try:
        index.apply([plain, odd, odder, empty])
        assert [one.id for one in index.list(Filters(fields={"handoff": "x"})).records] == [plain.id]
        left = {one.id for one in index.list(Filters(without=Exclusions(events=True))).records}
        assert left == {odd.id, empty.id}
    finally:
        index.close()


def test_an_index_made_before_there_were_events_is_completed_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    Index(path).close()
    names = ("memories_handoff", "memories_events")
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        for name in names:
            run(connection, f"DROP INDEX {name}")
    index = Index(path)
    try:
        where, values = conditions(Filters(fields={"handoff": "x"}))
        explain = "EXPLAIN QUERY PLAN"
        with contextlib.closing(apsw.Connection(str(path))) as connection:
            steps = str(fetch_all(connection, f"{explain} SELECT m.id FROM memories m WHERE {where}", values))  # noqa: S608
            steps += str(fetch_all(connection, f"{explain} {EVENTS}"))
    finally:
        index.close()
    for name in names:
        assert name in steps


def test_no_other_write_makes_an_event(bench: Any) -> None:
    store = bench.open()
    made = offer(store)
    claim = put(store, made.id)
    for fields in ({"event": "done", "handoff": made.id}, {"event": "done"}, {"handoff": made.id}):
        for id_ in (None, made.id):
            with pytest.raises(InvalidInput, match="belongs to its events"):
                store.write(WriteMemory(ME, id=id_, type="handoff", title="Done", fields=fields))
    with pytest.raises(InvalidInput, match="never changed"):
        store.write(WriteMemory(ME, id=claim.id, body="I hold it\n"))
    with pytest.raises(InvalidInput, match="never changed"):
        store.write(DeleteMemory(ME, claim.id))
    assert {one.id for one in store.handoff_records()} == {made.id, claim.id}


@pytest.mark.parametrize("offer_first", [True, False])
def test_a_handoff_that_is_imported_has_its_events_beside_it(bench: Any, offer_first: bool) -> None:
    one, two = bench.open("one"), bench.open("two")
    made = offer(one)
    records = [record(one, made.id), *(record(one, put(one, made.id, kind).id) for kind in ("claim", "done"))]
    requests = [
        ImportMemory(
            found.author, found.id, found.type, found.title, found.body, found.created, found.updated, found.tags,
            found.project, found.trust, found.links, found.source, found.fields,
        )
        for found in (records if offer_first else reversed(records))
    ]  # fmt: skip
    for request in requests:
        two.write(request)
    assert {found.path for found in two.handoff_records()} == {found.path for found in records}


@pytest.mark.parametrize("handoff", ["7" + "Z" * 25, "76EZ91ZQ00" + "0" * 16])
def test_an_imported_event_of_a_handoff_from_a_year_that_no_calendar_has_is_refused(bench: Any, handoff: str) -> None:
    store = bench.open("one")
    request = ImportMemory(
        ME, new_ulid(), "handoff", "claim", "", NOON, NOON,
        fields={"event": "claim", "handoff": handoff, "step": 1, "term": 1, "lease_until": "2026-11-22T13:00:00Z"},
    )  # fmt: skip
    before = store.repo.head()
    with pytest.raises(InvalidInput, match=handoff):
        store.write(request)
    assert store.repo.head() == before
