"""The store as a whole: real git, real SQLite, every kind of request."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import (
    AlgError,
    InvalidFile,
    InvalidInput,
    LockHeld,
    NotFound,
    SecretRefused,
    StorageError,
    TooLarge,
    Unavailable,
    UnknownField,
    UnsafePath,
    VersionConflict,
    new_ulid,
    ulid_milliseconds,
)
from adaptive_llm_gateway.memory import (
    AppendSession,
    Author,
    DeleteMemory,
    Filters,
    ImportMemory,
    Link,
    ReplaceText,
    RestoreMemory,
    WriteMemory,
)
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory.testing import temporary_store

ME = Author("test-client")
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


# --- write and update --------------------------------------------------------------------------------


def test_a_write_is_on_disk_in_the_index_and_in_git_when_it_answers(bench: Any) -> None:
    store = bench.open()
    done = bench.write(store, "Walrus facts", body="They whistle.\n", tags=("sea",), reason="asked")
    assert done.standing.state == "committed"
    assert done.standing.commit == store.repo.head()
    assert done.standing.sync.state == "no_remote"
    assert not done.unchanged
    assert (store.repo.path / done.path).read_bytes() == store.repo.read_blob(done.version)
    assert [hit.record.id for hit in store.search("whistle").hits] == [done.id]
    log = bench.git(store, "log", "-1", "--format=%an%n%B")
    assert "test-client" in log
    assert "Reason: asked" in log
    assert f"Memory: {done.id}" in log
    bench.tidy(store)


def test_an_update_changes_what_is_given_and_nothing_else(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "Title", body="body\n", tags=("a", "b"), project="p", source="s")
    done = bench.update(store, made.id, tags=("c",))
    record = store.read(made.id).record
    assert done.operation == "update"
    assert (record.title, record.body, record.project, record.source) == ("Title", "body\n", "p", "s")
    assert record.tags == ("c",)
    assert record.created == store.read(made.id, at=made.version).record.created
    assert done.path == made.path


def test_an_update_that_changes_nothing_makes_no_commit_and_no_version(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "Same", body="x\n", tags=("a",))
    head = store.repo.head()
    done = bench.update(store, made.id, title="Same", body="x\n", tags=("a",))
    assert done.unchanged
    assert done.version == made.version
    assert done.standing.state == "committed"
    assert store.repo.head() == head
    again = store.write(ReplaceText(ME, made.id, (store.repo.path / made.path).read_bytes()))
    assert again.unchanged
    assert store.repo.head() == head


@pytest.mark.parametrize(
    ("cleared", "left"),
    [
        ({"project": ""}, {"project": None}),
        ({"fields": {"project": None}}, {"project": None}),
        ({"source": ""}, {"source": None}),
        ({"tags": ()}, {"tags": ()}),
        ({"links": ()}, {"links": ()}),
        ({"fields": {"due": None}}, {"due": None}),
        ({"fields": {"due": ""}}, {"due": None}),
        ({"body": ""}, {"body": ""}),
    ],
)
def test_a_field_is_cleared_by_an_empty_value(bench: Any, cleared: dict[str, Any], left: dict[str, Any]) -> None:
    store = bench.open()
    other = bench.write(store, "Other")
    made = bench.write(
        store,
        "Task",
        type="task",
        body="b\n",
        project="p",
        source="s",
        tags=("t",),
        links=(Link("relates_to", other.id),),
        fields={"due": "2026-12-01"},
    )
    done = bench.update(store, made.id, **cleared)
    assert not done.unchanged
    record = store.read(made.id).record
    for name, value in left.items():
        assert (record.fields.get(name) if name == "due" else getattr(record, name)) == value
    if "body" not in cleared:
        text = store.read(made.id).text
        assert not any(line.startswith(f"{next(iter(left))}:") for line in text.splitlines())
    bench.tidy(store)


def test_a_title_and_a_status_cannot_be_cleared(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "Stays", body="b\n")
    with pytest.raises(InvalidInput, match="title"):
        bench.update(store, made.id, title="")
    with pytest.raises(InvalidInput, match="trust"):
        bench.update(store, made.id, fields={"trust": None})
    assert store.read(made.id).record.title == "Stays"


def test_an_update_keeps_unknown_fields_comments_and_every_byte_of_the_body(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "Mine", body="x\n")
    file = bench.file(store, made.id)
    body = "no end of line,  two  spaces \r\n\ttab\r\n\r\n# ünï \u2028 end"
    head = file.read_text(encoding="utf-8").split("---\n")[1]
    text = f"---\n# my own remark\n{head}mood:   [good,   bad]   # as it stands\n---\n{body}"
    file.write_bytes(text.encode())
    bench.noticed(store, file)
    bench.update(store, made.id, tags=("new",))
    after = file.read_bytes().decode()
    assert after.endswith(f"---\n{body}")
    assert "# my own remark\n" in after
    assert "mood:   [good,   bad]   # as it stands\n" in after
    assert store.read(made.id).record.fields["mood"] == ["good", "bad"]
    bench.tidy(store)


def test_a_stale_version_is_refused_with_the_current_one(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "One", body="1\n")
    second = bench.update(store, made.id, body="2\n", if_version=made.version)
    for request in (
        WriteMemory(ME, id=made.id, body="3\n", if_version=made.version),
        DeleteMemory(ME, made.id, if_version=made.version),
        ReplaceText(ME, made.id, b"---\n---\n", if_version=made.version),
    ):
        with pytest.raises(VersionConflict) as caught:
            store.write(request)
        assert caught.value.details["current_version"] == second.version
    assert store.read(made.id).record.body == "2\n"


def test_an_id_may_be_shortened_where_it_fits_one_memory(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "One", body="1\n")
    assert store.read(made.id[-8:].lower()).record.id == made.id
    assert store.read(f"memory://{made.id}").record.id == made.id
    bench.write(store, "Two")
    with pytest.raises(InvalidInput, match="2 memories"):
        store.read(made.id[:6])
    with pytest.raises(UnsafePath):
        store.read("../../x")
    with pytest.raises(NotFound):
        store.read("zzzzzzzz")


def test_a_type_does_not_change(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "One")
    with pytest.raises(InvalidInput, match="does not change"):
        bench.update(store, made.id, type="fact")
    assert bench.update(store, made.id, type="note", body="b\n").type == "note"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (WriteMemory(ME), InvalidInput),
        (WriteMemory(ME, title="x", fields={"colour": "red"}), UnknownField),
        (WriteMemory(ME, title="x", body="y" * 5000), TooLarge),
        (WriteMemory(ME, title="x", body=f"use {TOKEN}"), SecretRefused),
        (WriteMemory(ME, title="x", reason=f"use {TOKEN}"), SecretRefused),
        (WriteMemory(ME, title="x", if_version="0" * 40), InvalidInput),
        (WriteMemory(ME, id=new_ulid(), body="x"), NotFound),
        (DeleteMemory(ME, new_ulid()), NotFound),
        (RestoreMemory(ME, new_ulid()), NotFound),
        (AppendSession(ME, "   "), InvalidInput),
        (AppendSession(ME, "x", session_id=new_ulid()), NotFound),
        (AppendSession(ME, "x", session_id="../x"), InvalidInput),
        (ReplaceText(ME, new_ulid(), b"x"), NotFound),
    ],
)
def test_what_is_refused_leaves_no_trace(bench: Any, request_: Any, error: type[AlgError]) -> None:
    store = bench.open(max_body_bytes=4096)
    bench.write(store, "Here before")
    head = store.repo.head()
    with pytest.raises(error):
        store.write(request_)
    assert store.repo.head() == head
    assert store.status().memories == 1
    bench.tidy(store)


@pytest.mark.parametrize(
    ("title", "body", "lines"),
    [("x", f"one\nuse {TOKEN}\nand {TOKEN}", [2, 3]), (f"x {TOKEN}", f"use {TOKEN}", [4, 12]), (TOKEN, "fine", [4])],
)
def test_a_refusal_counts_the_lines_of_the_body_where_all_is_in_it_else_of_the_file(
    bench: Any, title: str, body: str, lines: list[int]
) -> None:
    with pytest.raises(SecretRefused) as caught:
        bench.open().write(WriteMemory(ME, title=title, body=body))
    assert [finding["line"] for finding in caught.value.details["findings"]] == lines


def test_a_group_with_a_bad_request_keeps_the_good_ones(bench: Any) -> None:
    store = bench.open()
    outcomes = store.write_many(
        [WriteMemory(ME, title="one"), WriteMemory(ME), WriteMemory(ME, title=TOKEN), WriteMemory(ME, title="two")]
    )
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "WriteResult",
        "InvalidInput",
        "SecretRefused",
        "WriteResult",
    ]
    assert {record.title for record in store.records()} == {"one", "two"}
    bench.tidy(store)


def test_a_redacted_write_says_nothing_of_the_secret(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "x", body=f"use {TOKEN} now\n", redact=True)
    assert TOKEN not in store.read(made.id).text
    assert "[redacted:" in store.read(made.id).text


# --- edit as a whole ---------------------------------------------------------------------------------


def test_a_whole_text_is_replaced_as_an_editor_saved_it(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "Old", body="x\n")
    text = store.read(made.id).text.replace("title: Old", "title: New # by hand").replace("x\n", "y")
    done = store.write(ReplaceText(ME, made.id, text.encode()))
    assert done.title == "New"
    assert "title: New # by hand\n" in store.read(made.id).text
    assert store.read(made.id).record.body == "y"
    bench.tidy(store)


def test_a_text_with_another_id_or_none_is_refused(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "Old", body="x\n")
    text = store.read(made.id).text
    for changed in (text.replace(made.id, new_ulid()), "no front matter", text.replace(f"id: {made.id}\n", "")):
        with pytest.raises((InvalidInput, InvalidFile)):
            store.write(ReplaceText(ME, made.id, changed.encode()))
    assert store.read(made.id).text == text


def test_an_id_written_in_lower_case_is_the_same_id(bench: Any) -> None:
    store = bench.open()
    identifier = new_ulid()
    file = store.repo.path / "notes" / "x.md"
    file.parent.mkdir()
    file.write_text(f"---\nid: {identifier.lower()}\n---\nfirst\n", encoding="utf-8")
    bench.noticed(store, file)
    text = store.read(identifier).text.replace("first", "second")
    store.write(ReplaceText(ME, identifier, text.encode()))
    assert store.read(identifier).record.body == "second\n"


# --- delete, restore, history ------------------------------------------------------------------------


def test_a_deleted_memory_is_gone_and_comes_back_as_it_was(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "Precious", body="gold\n", tags=("t",))
    before = bench.file(store, made.id).read_bytes()
    done = store.write(DeleteMemory(ME, made.id, reason="by mistake"))
    assert done.version is None
    assert not (store.repo.path / made.path).exists()
    assert not store.search("gold").hits
    with pytest.raises(NotFound):
        store.read(made.id)
    (stone,) = store.deleted()
    assert (stone.id, stone.title, stone.version, stone.reason) == (made.id, "Precious", made.version, "by mistake")
    assert store.history(made.id).deleted
    restored = store.write(RestoreMemory(ME, made.id))
    assert bench.file(store, made.id).read_bytes() == before
    assert restored.version == made.version
    assert not store.deleted()
    assert len(store.history(made.id).revisions) == 3
    bench.tidy(store)


def test_deleted_in_one_group_with_its_last_change_it_comes_back_with_that_change(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    with bench.group(store):
        store.submit(WriteMemory(ME, id=made.id, body="two\n"))
        last = store.submit(DeleteMemory(ME, made.id))
    last.committed.result(30)
    assert store.deleted()[0].id == made.id
    store.write(RestoreMemory(ME, made.id))
    assert store.read(made.id).record.body == "two\n"
    bench.tidy(store)


def test_created_and_deleted_in_one_group_it_is_listed_and_comes_back(bench: Any) -> None:
    store = bench.open()
    identifier = new_ulid()
    when = datetime(2026, 1, 1, tzinfo=UTC)
    with bench.group(store):
        store.submit(ImportMemory(ME, identifier, "note", "Short-lived", "x\n", when, when))
        last = store.submit(DeleteMemory(ME, identifier))
    last.committed.result(30)
    assert [stone.id for stone in store.deleted()] == [identifier]
    store.write(RestoreMemory(ME, identifier))
    assert store.read(identifier).record.body == "x\n"
    bench.tidy(store)


def test_what_was_deleted_is_found_in_git_when_the_index_is_new(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "Precious", body="gold\n")
    store.write(DeleteMemory(ME, made.id))
    store.close()
    for file in (bench.folder / "one").glob("index.db*"):
        file.unlink()
    again = bench.open()
    assert again.history(made.id).deleted
    again.write(RestoreMemory(ME, made.id))
    assert again.read(made.id).record.body == "gold\n"


def test_an_earlier_version_is_read_and_brought_back(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "A", body="one\n")
    first = store.repo.head()
    bench.update(store, made.id, body="two\n")
    for at in (made.version, first, "HEAD~1"):
        assert store.read(made.id, at=at).record.body == "one\n"
    with pytest.raises(InvalidInput, match="not deleted"):
        store.write(RestoreMemory(ME, made.id))
    store.write(RestoreMemory(ME, made.id, at=made.version))
    assert store.read(made.id).record.body == "one\n"
    assert store.write(RestoreMemory(ME, made.id, at="HEAD")).unchanged
    assert len(store.history(made.id).revisions) == 3
    bench.tidy(store)


def test_a_version_of_another_memory_is_none_of_this_one(bench: Any) -> None:
    store = bench.open()
    one, other = bench.write(store, "One", body="1\n"), bench.write(store, "Other", body="2\n")
    with pytest.raises(NotFound, match="no version of"):
        store.read(one.id, at=other.version)
    with pytest.raises(NotFound, match="no version of"):
        store.write(RestoreMemory(ME, one.id, at=other.version))
    store.write(DeleteMemory(ME, one.id))
    with pytest.raises(NotFound, match="no version of"):
        store.write(RestoreMemory(ME, one.id, at=other.version))
    assert store.read(other.id).record.path == other.path
    bench.tidy(store)


def test_a_restore_does_not_write_over_what_lies_in_its_place_now(bench: Any) -> None:
    store = bench.open()
    file = store.repo.path / "notes" / "x.md"
    file.parent.mkdir()
    file.write_text("first\n", encoding="utf-8")
    bench.noticed(store, file)
    (first,) = store.records()
    store.write(DeleteMemory(ME, first.id))
    file.write_text("second\n", encoding="utf-8")
    bench.noticed(store, file)
    (second,) = store.records()
    assert first.id != second.id
    done = store.write(RestoreMemory(ME, first.id))
    assert done.path != "notes/x.md"
    assert {record.body for record in store.records()} == {"first\n", "second\n"}
    bench.tidy(store)


# --- sessions ----------------------------------------------------------------------------------------


def test_a_session_grows_and_goes_on_in_another_file_when_it_is_full(bench: Any) -> None:
    store = bench.open(max_body_bytes=4096)
    first = store.write(AppendSession(ME, "entry 0 " + "x" * 1000, title="Long", project="p"))
    for number in range(1, 8):
        store.write(AppendSession(ME, f"entry {number} " + "y" * 1000, session_id=first.id))
    memory = store.read(first.id)
    assert len(memory.parts) >= 2
    texts = [memory.record.body, *(store.read(part).record.body for part in memory.parts)]
    assert all(sum(f"entry {number} " in text for text in texts) == 1 for number in range(8))
    for part in memory.parts:
        record = store.read(part).record
        assert (record.title, record.project) == ("Long", "p")
        assert record.links == (Link("part_of", first.id),)
    bench.tidy(store)


def test_two_appends_from_two_threads_are_both_kept(bench: Any) -> None:
    store = bench.open()
    session = store.write(AppendSession(ME, "began")).id
    tickets: list[Any] = []

    def append(number: int) -> None:
        tickets.append(store.submit(AppendSession(Author(f"client-{number}"), f"said {number}", session)))

    with bench.group(store):
        threads = [threading.Thread(target=append, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    for ticket in tickets:
        ticket.committed.result(30)
    body = store.read(session).record.body
    assert body.index("began") < min(body.index("said 0"), body.index("said 1"))
    assert "client-0" in body
    assert "client-1" in body
    assert len(store.history(session).revisions) == 3
    bench.tidy(store)


def test_a_deleted_session_takes_no_more_entries(bench: Any) -> None:
    store = bench.open()
    session = store.write(AppendSession(ME, "began")).id
    store.write(DeleteMemory(ME, session))
    with pytest.raises(NotFound, match="no session"):
        store.write(AppendSession(ME, "more", session))


# --- opening and closing -----------------------------------------------------------------------------


def test_a_second_store_on_one_repo_is_refused_and_the_first_goes_on(bench: Any, tmp_path: Path) -> None:
    store = bench.open()
    with pytest.raises(LockHeld), temporary_store(tmp_path / "other", repo=store.repo.path):
        pass
    bench.write(store, "Still here")
    bench.tidy(store)


def test_a_closed_store_says_so_and_does_not_hang(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "One")
    store.close()
    store.close()
    with pytest.raises(Unavailable):
        bench.write(store, "Two")
    for late in (store.reindex, store.flush, store.pull, store.push):
        with pytest.raises(Unavailable):
            late()
    with pytest.raises(StorageError):
        store.search("x")
    with pytest.raises(StorageError):
        store.read(made.id)


def test_what_was_submitted_before_closing_is_committed(bench: Any) -> None:
    store = bench.open()
    with bench.group(store):
        tickets = [store.submit(WriteMemory(ME, title=f"Number {number}")) for number in range(20)]
        closer = threading.Thread(target=store.close)
        closer.start()
    closer.join(30)
    assert not closer.is_alive()
    assert all(ticket.committed.done() for ticket in tickets)
    again = bench.open()
    assert again.status().memories == 20
    bench.tidy(again)


def test_a_store_that_could_not_open_lets_its_lock_go(bench: Any) -> None:
    name = bench.folder / "one" / "hub-name"
    name.mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(StorageError, match="hub-name"):
            bench.open()
    name.rmdir()
    bench.write(bench.open(), "Now it works")


def test_a_damaged_index_is_rebuilt_with_a_notice_and_kept_aside(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "Survives", body="x\n")
    store.close()
    index = bench.folder / "one" / "index.db"
    index.write_bytes(b"not a database" * 1000)
    again = bench.open()
    assert again.read(made.id).record.title == "Survives"
    assert any("damaged" in notice for notice in again.status().notices)
    assert list(index.parent.glob("index.db.damaged-*"))
    bench.tidy(again)


def test_pages_walk_through_everything_once(bench: Any) -> None:
    store = bench.open()
    store.write_many(
        [WriteMemory(ME, title=f"n{number:02}", type="fact" if number % 2 else "note") for number in range(25)]
    )
    seen: list[str] = []
    cursor = None
    while True:
        page = store.list(limit=7, cursor=cursor, order="title")
        assert page.total == 25
        seen += [record.title for record in page.records]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(seen)
    assert len(set(seen)) == 25
    assert len(list(store.records(filters=Filters(types=("fact",))))) == 12


def test_the_status_tells_what_is_there(bench: Any) -> None:
    store = bench.open()
    bench.write(store, "a")
    bench.write(store, "b", type="decision")
    status = store.status()
    assert status.memories == 2
    assert dict(status.by_type) == {"decision": 1, "note": 1}
    assert (status.index, status.search, status.embedder, status.watcher) == ("ready", "lexical", "off", "off")
    assert status.uncommitted == 0
    assert status.head == store.repo.head()
    assert status.notices == ()
    assert store.search_notices() == ()


def test_a_write_that_changes_nothing_commits_the_edit_by_hand_that_it_found(bench: Any) -> None:
    store = bench.open()
    made = bench.write(store, "a", body="one\n")
    file = bench.file(store, made.id)
    file.write_bytes(file.read_bytes().replace(b"one", b"by hand"))
    done = bench.update(store, made.id, title="a")
    assert done.version == store.repo.blob_id(file.read_bytes())
    assert bench.git(store, "rev-parse", f"{done.standing.commit}:{made.path}").strip() == done.version
    bench.tidy(store)


def test_a_store_that_is_told_the_time_has_it_in_ids_files_and_commits(bench: Any) -> None:
    then = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    store = bench.open(clock=lambda: then)
    made = bench.write(store, "a")
    record = store.record(made.id)
    assert (record.created, record.updated) == (then, then)
    assert made.path.startswith("notes/2031/05/")
    assert ulid_milliseconds(made.id) == then.timestamp() * 1000
    assert bench.git(store, "log", "-1", "--format=%at %ct").split() == [str(int(then.timestamp()))] * 2


def test_a_listener_hears_of_each_commit(bench: Any) -> None:
    store = bench.open()
    heard = threading.Event()
    store.on_committed(heard.set)
    bench.write(store, "a")
    assert heard.wait(30)


def test_upkeep_that_a_close_cuts_short_is_no_failure(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun, closed = threading.Event(), threading.Event()
    upkeep: list[threading.Thread] = []

    def maintain(_: MemoryRepo) -> bool:
        upkeep.append(threading.current_thread())
        begun.set()
        return closed.wait(30)

    monkeypatch.setattr("adaptive_llm_gateway.memory._store._COMMITS_PER_UPKEEP", 1)
    monkeypatch.setattr(MemoryRepo, "maintain", maintain)
    store = bench.open()
    bench.write(store, "A walrus")
    assert begun.wait(30)
    store.close()
    closed.set()
    upkeep[0].join(30)
    assert not upkeep[0].is_alive()
    assert "upkeep" not in caplog.text
