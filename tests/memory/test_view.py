"""A view of a store: what may be written through it, what an id resolves to, and what its words say of hidden ones."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import (
    AccessDenied,
    InvalidFile,
    InvalidInput,
    NotFound,
    PersonalScanner,
    SyncError,
    Trust,
    UnknownField,
    new_ulid,
)
from adaptive_llm_gateway.memory import (
    AppendEvent,
    AppendSession,
    Author,
    DeleteMemory,
    Filters,
    ImportMemory,
    MemoryStore,
    MemoryView,
    Record,
    ReplaceText,
    Request,
    RestoreMemory,
    SearchRequest,
    Sight,
    WriteMemory,
    WriteResult,
    WriteSummary,
    seen_error,
    summary_id,
)
from adaptive_llm_gateway.memory._memory_index import MemoryIndex, ReadableIndex
from adaptive_llm_gateway.memory._seen_index import SeenIndex
from adaptive_llm_gateway.memory.testing import temporary_store

ME = Author("somebody")
NOW = datetime(2026, 11, 20, tzinfo=UTC)
ALPHA = Sight(Trust.INTERNAL, ("alpha", "alpha-*"))
INTERNAL = Sight(Trust.INTERNAL)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with temporary_store(tmp_path, personal=PersonalScanner()) as opened:
        yield opened


def write(view: MemoryView, request: Request) -> WriteResult:
    """Carry a write out through a view."""
    ticket = view.submit(request)
    return view.result(ticket.saved.result(60), view.commit_of(ticket, 60))


def keep(store: MemoryStore, title: str = "T", **given: Any) -> str:
    return store.write(WriteMemory(ME, title=title, **given)).id


# --- What may be written --------------------------------------------------------------------------------------------


def test_a_new_memory_needs_a_project_that_is_seen_and_a_level_that_is_seen(store: MemoryStore) -> None:
    view = MemoryView(store, ALPHA)
    for project in ("alpha", "alpha-web"):
        done = write(view, WriteMemory(ME, title="T", project=project))
        assert view.record(done.id) is not None
    with pytest.raises(InvalidInput) as missing:
        write(view, WriteMemory(ME, title="T"))
    assert "`project` is missing" in missing.value.message
    assert "alpha, alpha-*" in str(missing.value.hint)
    for project in ("beta", "Alpha", "alpha/x", "*"):  # a name is a name, upper and lower case told apart
        with pytest.raises(AccessDenied) as outside:
            write(view, WriteMemory(ME, title="T", project=project))
        assert "alpha, alpha-*" in str(outside.value.hint)
    with pytest.raises(AccessDenied) as above:
        write(view, WriteMemory(ME, title="T", project="alpha", trust=Trust.CONFIDENTIAL))
    assert "'internal'" in above.value.message
    for fields in ({"project": "beta"}, {"trust": "secret"}):  # it is no way around to name them so
        with pytest.raises((AccessDenied, UnknownField)):
            write(view, WriteMemory(ME, title="T", project="alpha", fields=fields))
    with pytest.raises(InvalidInput):
        write(view, AppendSession(ME, "so far"))
    assert store.list(limit=100).total == 2


def test_what_has_no_level_of_its_own_gets_none_above_what_is_seen(store: MemoryStore) -> None:
    view = MemoryView(store, Sight(Trust.PUBLIC))
    for request in (WriteMemory(ME, title="T"), AppendSession(ME, "so far"), WriteMemory(ME, type="task", title="T")):
        assert store.read(write(view, request).id).record.trust is Trust.PUBLIC
    assert store.read(write(MemoryView(store, ALPHA), WriteMemory(ME, title="T", project="alpha")).id).record.trust is (
        Trust.INTERNAL
    )


@pytest.mark.parametrize(
    "change",
    [
        {"trust": Trust.CONFIDENTIAL},
        {"trust": Trust.SECRET},
        {"project": "beta"},
        {"project": ""},
        {"fields": {"project": None}},
        {"fields": {"trust": "secret"}},
    ],
)
def test_a_change_moves_nothing_out_of_sight(store: MemoryStore, change: dict[str, Any]) -> None:
    id_ = keep(store, project="alpha")
    before = store.read(id_).text
    with pytest.raises((AccessDenied, InvalidInput)):
        write(MemoryView(store, ALPHA), WriteMemory(ME, id=id_, **change))
    assert store.read(id_).text == before


def test_a_file_that_is_replaced_stays_in_sight(store: MemoryStore) -> None:
    view, id_ = MemoryView(store, ALPHA), keep(store, project="alpha")
    text = store.read(id_).text
    for other in (text.replace("trust: internal", "trust: secret"), text.replace("project: alpha", "project: beta")):
        assert other != text
        with pytest.raises(AccessDenied):
            write(view, ReplaceText(ME, id_, other.encode()))
    assert store.read(id_).text == text
    write(view, ReplaceText(ME, id_, text.replace("project: alpha", "project: alpha-2").encode()))
    assert store.read(id_).record.project == "alpha-2"


def test_what_is_hidden_is_neither_changed_nor_written_over(store: MemoryStore) -> None:
    hidden = keep(store, project="beta", body="walrus\n")
    gone = keep(store, project="beta", body="gone\n")
    store.write(DeleteMemory(ME, gone))
    before, view = store.read(hidden), MemoryView(store, ALPHA)
    version = before.record.version
    nowhere = new_ulid()
    for id_, other in ((hidden, nowhere), (gone, nowhere)):
        requests: list[Callable[[str], Request]] = [
            lambda id: WriteMemory(ME, id=id, body="b"),
            lambda id: WriteMemory(ME, id=id, body="b", if_version=version),
            lambda id: WriteMemory(ME, id=id, body="b", if_version="0" * 40),
            lambda id: ReplaceText(ME, id, before.text.encode()),
            lambda id: AppendSession(ME, "more", id),
            lambda id: WriteSummary(ME, id, "b", Trust.PUBLIC),
            lambda id: DeleteMemory(ME, id),
            lambda id: DeleteMemory(ME, id, if_version="0" * 40),
            lambda id: RestoreMemory(ME, id),
            lambda id: RestoreMemory(ME, id, at=version),
            lambda id: RestoreMemory(ME, id, at="HEAD"),
            lambda id: AppendEvent(ME, id, new_ulid(), "claim", 1, NOW, "t"),
        ]
        for request in requests:
            with pytest.raises((NotFound, InvalidInput)) as refused:
                write(view, request(id_))
            with pytest.raises((NotFound, InvalidInput)) as missing:
                write(view, request(other))
            told, wanted = refused.value.as_dict(), missing.value.as_dict()
            assert str(told).replace(id_, "ID") == str(wanted).replace(other, "ID")
    for id_ in (hidden,):
        with pytest.raises(AccessDenied):
            write(view, ImportMemory(ME, id_, "note", "T", "b", NOW, NOW, project="alpha"))
    assert store.read(hidden).text == before.text
    assert store.was_deleted(gone)


def test_an_entry_goes_past_a_file_of_its_session_that_is_hidden(store: MemoryStore) -> None:
    begun = store.write(AppendSession(ME, "first", project="alpha"))
    view = MemoryView(store, ALPHA)
    store.write(WriteMemory(ME, id=begun.id, body="x" * (1024 * 1024)))  # the next entry begins another file
    second = write(view, AppendSession(ME, "second", begun.id))
    assert second.id != begun.id
    store.write(WriteMemory(ME, id=second.id, trust=Trust.SECRET))
    third = write(view, AppendSession(ME, "third", begun.id))
    assert third.id not in (begun.id, second.id)
    assert "third" not in store.read(second.id).text
    assert {entry.text for entry in view.session(begun.id).entries if len(entry.text) < 10} == {"third"}


def test_a_summary_that_is_hidden_is_not_replaced(store: MemoryStore) -> None:
    begun = store.write(AppendSession(ME, "first", project="alpha"))
    store.write(WriteSummary(ME, begun.id, "All of it.\n", Trust.SECRET))
    with pytest.raises(AccessDenied):
        write(MemoryView(store, ALPHA), WriteSummary(ME, begun.id, "Less.\n", Trust.INTERNAL))
    assert "All of it." in store.read(summary_id(begun.id)).text


def test_personal_data_raises_a_memory_above_what_its_writer_sees_and_the_answer_says_so(store: MemoryStore) -> None:
    view = MemoryView(store, ALPHA)
    done = write(view, WriteMemory(ME, title="T", body="mail jane.doe" + "@" + "acme.com\n", project="alpha"))
    assert store.read(done.id).record.trust is Trust.CONFIDENTIAL
    assert any("can neither read nor change it" in note for note in done.notes)
    assert view.record(done.id) is None
    with pytest.raises(NotFound):
        view.read(done.id)
    with pytest.raises(NotFound):
        write(view, WriteMemory(ME, id=done.id, trust=Trust.INTERNAL))


def test_a_write_is_judged_when_it_is_carried_out_and_not_when_it_is_asked_for(store: MemoryStore) -> None:
    id_, view = keep(store, project="alpha"), MemoryView(store, ALPHA)
    raised = store.submit(WriteMemory(ME, id=id_, trust=Trust.SECRET))  # one group, or the one before
    late = view.submit(WriteMemory(ME, id=id_, body="mine\n"))
    raised.saved.result(60)
    with pytest.raises(NotFound):
        late.saved.result(60)
    assert store.read(id_).record.body == ""


def test_a_file_that_was_edited_to_a_hidden_level_is_hidden_before_it_is_indexed(
    store: MemoryStore, tmp_path: Path
) -> None:
    id_, view = keep(store, project="alpha", body="walrus\n"), MemoryView(store, ALPHA)
    record = store.record(id_)
    assert record is not None
    path = tmp_path / "memory" / record.path
    text = path.read_text(encoding="utf-8").replace("trust: internal", "trust: secret").replace("walrus", "orca")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(NotFound):
        view.read(id_)
    with pytest.raises(NotFound):
        write(view, WriteMemory(ME, id=id_, body="mine\n"))
    path.write_text("---\ntitle: [orca\n---\n", encoding="utf-8")
    with pytest.raises(InvalidFile) as broken:
        view.read(id_)
    assert "orca" not in str(broken.value.as_dict())
    with pytest.raises(NotFound):
        write(view, DeleteMemory(ME, id_))


# --- Ids ------------------------------------------------------------------------------------------------------------


def test_part_of_an_id_fits_only_what_is_seen(store: MemoryStore) -> None:
    now = datetime.now(UTC)

    def made(id_: str, project: str) -> str:
        store.write(ImportMemory(ME, id_, "note", f"T {id_}", "b\n", now, now, project=project))
        return id_

    hidden = [made(f"01ARZ3NDEKTSV4RRFFQ69G{number:04d}", "beta") for number in range(30)]
    shown = made("01ARZ3NDEKTSV4RRFFQ69GZZZZ", "alpha")
    view = MemoryView(store, ALPHA)
    assert view.read("01ARZ3NDEK").record.id == shown  # though thirty that are hidden come before it
    assert write(view, WriteMemory(ME, id="01ARZ3NDEK", body="new\n")).id == shown
    for part in (hidden[3][-8:], hidden[3][:24]):
        with pytest.raises(NotFound):
            view.read(part)
        with pytest.raises(NotFound):
            write(view, DeleteMemory(ME, part))
    other = made("01ARZ3NDEKTSV4RRFFQ69GZZZY", "alpha")
    with pytest.raises(InvalidInput) as several:
        view.read("01ARZ3NDEK")
    assert "fits 2 memories" in several.value.message
    assert other in several.value.message


def test_a_version_of_another_memory_is_as_unknown_as_one_that_is_nowhere(store: MemoryStore) -> None:
    hidden, shown = keep(store, "Orca", project="beta"), keep(store, "Walrus", project="alpha")
    record = store.record(hidden)
    assert record is not None
    view = MemoryView(store, ALPHA)
    for at in (record.version, record.version[:10], "f" * 40):
        with pytest.raises(NotFound) as refused:
            view.read(shown, at=at)
        assert refused.value.message == f"no version, commit or name {at!r} in the memory repo"


# --- What words and cursors say -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [0, 1, 40])
def test_scores_and_telling_words_do_not_say_whether_a_hidden_memory_has_a_word(tmp_path: Path, hidden: int) -> None:
    with temporary_store(tmp_path / str(hidden)) as store:
        for number in range(40):
            text = "the merger with orca\n" if number < hidden else "nothing of the kind said\n"
            keep(store, f"Hidden {number}", project="beta", body=text)
        mine = keep(store, "Mine", project="alpha", body="an orca and a walrus\n")
        other = keep(store, "Other", project="alpha", body="a walrus alone\n")
        view = MemoryView(store, Sight(projects=("alpha",)))
        found = view.ask(SearchRequest("orca walrus", explain=True, facets=True))
        scores = {hit.record.id: hit.signals.get("words") for hit in found.hits}
        assert list(scores) == [mine, other]
        told = (scores[mine], scores[other], found.candidates, found.plan.common, found.facets)
        like = view.ask(SearchRequest(similar_to=mine, explain=True))
        assert like.plan.similar_to is not None
        wanted = _KNOWN.setdefault("told", (told, like.plan.similar_to[1]))
        assert (told, like.plan.similar_to[1]) == wanted


_KNOWN: dict[str, Any] = {}


def test_a_cursor_goes_on_only_for_who_sees_the_same(store: MemoryStore) -> None:
    for number in range(4):
        keep(store, f"T {number}", project="alpha", body=f"walrus {number}\n")
    request = SearchRequest("walrus", limit=2)
    page = MemoryView(store, ALPHA).ask(request)
    again = replace(request, cursor=page.next_cursor)
    assert len(MemoryView(store, ALPHA).ask(again).hits) == 2
    for other in (INTERNAL, Sight(Trust.PUBLIC, ALPHA.projects), Sight()):
        with pytest.raises(InvalidInput):
            MemoryView(store, other).ask(again)
    with pytest.raises(InvalidInput):
        store.ask(again)


def test_a_lists_cursor_goes_on_only_for_who_sees_the_same_and_asks_for_the_same(store: MemoryStore) -> None:
    for number in range(4):
        keep(store, f"T {number}", project="alpha", tags=("owl",))
    owls = Filters(tags=("owl",))
    cursor = MemoryView(store, ALPHA).list(filters=owls, limit=2).next_cursor
    assert len(MemoryView(store, ALPHA).list(filters=owls, limit=5, cursor=cursor).records) == 2
    for other in (INTERNAL, Sight(Trust.PUBLIC, ALPHA.projects), Sight()):
        with pytest.raises(InvalidInput, match="another list"):
            MemoryView(store, other).list(filters=owls, limit=5, cursor=cursor)
    with pytest.raises(InvalidInput, match="another list"):
        store.list(filters=owls, cursor=cursor)
    with pytest.raises(InvalidInput, match="another list"):
        MemoryView(store, ALPHA).list(cursor=cursor)
    with pytest.raises(InvalidInput, match="cursor"):
        MemoryView(store, ALPHA).list(filters=owls, cursor=cursor, order="created")


@pytest.mark.parametrize("order", ["updated", "created", "title"])
def test_a_lists_cursor_says_nothing_of_what_is_hidden(
    store: MemoryStore, order: Literal["updated", "created", "title"]
) -> None:
    view = MemoryView(store, ALPHA)
    ids = [new_ulid() for _ in range(3)]
    for id in ids:
        store.write(ImportMemory(ME, id, "note", f"T {id}", "", created=NOW, updated=NOW, project="alpha"))
    before = view.list(limit=2, order=order)
    for number in range(9):
        keep(store, f"T {number}", project="beta")
    assert view.list(limit=2, order=order).next_cursor == before.next_cursor
    assert [one.id for one in view.list(limit=9, order=order, cursor=before.next_cursor).records] == [
        id for id in ids if id not in {one.id for one in before.records}
    ]


def test_a_memory_that_was_seen_once_and_is_hidden_now_is_in_no_search_of_the_past(store: MemoryStore) -> None:
    raised, deleted = keep(store, "Raised orca", project="alpha"), keep(store, "Deleted orca", project="alpha")
    lowered = keep(store, "Lowered orca", project="alpha", trust=Trust.SECRET)
    stays = keep(store, "Stays orca", project="alpha")
    before = store.status().head
    store.write(WriteMemory(ME, id=raised, trust=Trust.SECRET))
    store.write(WriteMemory(ME, id=lowered, trust=Trust.INTERNAL))
    store.write(WriteMemory(ME, id=deleted, trust=Trust.SECRET))
    store.write(DeleteMemory(ME, deleted))
    view = MemoryView(store, ALPHA)
    past = view.ask(SearchRequest("orca", as_of=before, facets=True))
    assert {hit.record.id for hit in past.hits} == {stays}
    assert past.facets is not None
    assert past.facets.total == 1
    assert view.deleted() == []
    with pytest.raises(NotFound):
        view.read(raised, at=before)
    with pytest.raises(NotFound):
        view.read(lowered, at=before)
    assert {revision.version for revision in view.history(lowered).revisions} == {view.read(lowered).record.version}


def test_a_commit_of_several_memories_says_in_a_history_what_is_of_the_one(store: MemoryStore) -> None:
    tickets = [
        store.submit(WriteMemory(Author(f"client-{n}"), title=f"Title {n}", project=project, reason=f"reason {n}"))
        for n, project in enumerate(["alpha", "beta", "alpha", "beta"])
    ]
    ids = [ticket.saved.result(60).id for ticket in tickets]
    for ticket in tickets:
        ticket.committed.result(60)
    (told,) = MemoryView(store, ALPHA).history(ids[0]).revisions
    assert told.reasons == ("reason 0",)
    assert told.agents == ("client-0",)
    for other in ("client-1", "client-2", "reason 1", "4 memories"):
        assert other not in str(told)


def test_why_syncing_failed_is_told_by_its_kind_alone() -> None:
    error = SyncError("notes/2026/11/orca.md has a key", hint="look at orca.md", kind="secret_outgoing", git="orca")
    assert "orca" not in str(seen_error(error).as_dict())
    assert "secret_outgoing" in seen_error(error).message


# --- Every kind of index --------------------------------------------------------------------------------------------


def _record(id_: str, project: str | None, trust: Trust, **more: Any) -> Record:
    values: dict[str, Any] = {
        "type": "note",
        "title": f"walrus {id_}",
        "body": "walrus\n",
        "path": f"notes/{id_}.md",
        "version": "0" * 40,
        "mtime_ns": 1,
        "size": 1,
        "created": NOW,
        "updated": NOW,
        "author": ME,
    }
    return Record(id=id_, project=project, trust=trust, **{**values, **more})


def test_each_kind_of_index_narrows_alike(open_index: Callable[[], MemoryIndex]) -> None:
    names = ["alpha", "Alpha", "alpha-web", "al[p]ha", "be*ta", "beta", "ä", "a'b\"c", "x\0y", None]
    with closing(open_index()) as index:
        records = [_record(new_ulid(), project, trust) for project in names for trust in Trust]
        offers = {trust: _record(new_ulid(), "alpha", trust, type="handoff") for trust in Trust}
        events = [
            _record(
                new_ulid(), "alpha", Trust.PUBLIC, type="handoff",
                fields={"event": "claim", "handoff": offer, "step": 1, "text": text},
            )
            for offer in [*(offer.id for offer in offers.values()), new_ulid(), 7, None]
            for text in ("plain", "with \0 in it")
        ]  # fmt: skip
        strange = [
            _record(new_ulid(), "alpha", Trust.PUBLIC, type="handoff", fields={"event": None}),
            _record(new_ulid(), "alpha", Trust.PUBLIC, type="handoff", fields={"deep": {"event": "claim"}}),
            _record(new_ulid(), "alpha", Trust.PUBLIC, fields={"event": "claim", "handoff": "x"}),
        ]
        every = [*records, *offers.values(), *events, *strange]
        index.apply(every)
        findable = _searched(index)  # of what happens to handoffs not everything is
        assert set(index.projects()) == {name for name in names if name is not None}
        for patterns in (None, ("alpha",), ("a*",), ("al[[]p]ha",), ("[!a]*",), ("be[*]ta", "ä"), ("?",), ("*",), ()):
            for trust in Trust:
                sight = Sight(trust, patterns)
                seen = SeenIndex(index, sight)
                found = set(seen.ids())
                one_by_one = {record.id for record in every if seen.get(record.id) is not None}
                with_nul = {record.id for record in events if "\0" in str(record.fields["text"])}
                # PostgreSQL reads no JSON with a NUL in it; what it cannot read there is not seen.
                assert found <= one_by_one
                assert one_by_one - found <= with_nul
                plain = {record.id for record in records if _fits(sight, record)}
                assert found & {record.id for record in records} == plain
                assert seen.list(limit=1).total == len(found) == seen.facets().total
                assert _searched(seen) == found & findable
                for offer in offers.values():
                    shown = {event.id for event in events if event.fields["handoff"] == offer.id} & found
                    assert bool(shown) == (offer.id in found)


def _searched(index: ReadableIndex) -> set[str]:
    hits = index.search("walrus", limit=1_000).hits
    return {id_ for hit in hits for id_ in (hit.record.id, *hit.duplicates)}


def _fits(sight: Sight, record: Record) -> bool:
    if sight.projects is None:
        fits = True
    else:
        fits = record.project is not None and any(fnmatch.fnmatchcase(record.project, each) for each in sight.projects)
    return fits and record.trust.rank <= sight.max_trust.rank


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pattern=st.text(alphabet="aAb*?[]!^-\\%_é", min_size=1, max_size=8),
    names=st.lists(st.text(alphabet="aAb*?[]!^-\\%_é", min_size=1, max_size=6), max_size=5),
)
def test_a_pattern_fits_in_the_index_what_it_fits_here(
    tmp_path_factory: pytest.TempPathFactory, pattern: str, names: list[str]
) -> None:
    sight = Sight(projects=(pattern,))
    within = sight.within(lambda: names)
    assert within.projects is not None
    wanted = {name for name in names if fnmatch.fnmatchcase(name, pattern)}
    assert set(within.projects) & set(names) == wanted
    assert all(sight.has_project(name) == (name in wanted) for name in names)


def test_filters_and_what_is_seen_narrow_together(store: MemoryStore) -> None:
    keep(store, project="beta", tags=("red",))
    shown = keep(store, project="alpha", tags=("red",))
    keep(store, project="alpha", tags=("blue",))
    view = MemoryView(store, ALPHA)
    for filters in (Filters(tags=("red",)), Filters(tags=("red",), or_no_project=True, project=("beta", "ALPHA"))):
        assert [record.id for record in view.list(filters=filters).records] == [shown]
    assert view.list(filters=Filters(project="beta", max_trust=Trust.SECRET)).total == 0
