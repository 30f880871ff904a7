"""A session's log read back from its files, and the one summary that it has."""

from __future__ import annotations

import pytest

from adaptive_llm_gateway.core import InvalidInput, NotFound, SecretRefused, Trust, new_ulid
from adaptive_llm_gateway.memory import (
    AppendSession,
    Author,
    DeleteMemory,
    ImportMemory,
    Link,
    MemoryStore,
    ReplaceText,
    SessionLog,
    WriteMemory,
    WriteSummary,
    page_of_log,
    summary_id,
)
from adaptive_llm_gateway.memory._pages import mark_of, written
from adaptive_llm_gateway.memory.testing import temporary_store

ME = Author("claude-code")


def appended(store: MemoryStore, *texts: str) -> str:
    session = store.write(AppendSession(ME, texts[0], title="Work")).id
    for text in texts[1:]:
        store.write(AppendSession(Author("codex"), text, session))
    return session


def texts(log: SessionLog) -> list[str]:
    return [entry.text for entry in log.entries]


def test_entries_come_back_with_their_time_author_and_text() -> None:
    with temporary_store() as store:
        session = appended(store, "began\n\nwith two paragraphs", "went on")
        log = store.session(session)
        record = store.read(session).record
    assert texts(log) == ["began\n\nwith two paragraphs", "went on"]
    assert [entry.author for entry in log.entries] == ["claude-code", "codex"]
    assert record.created <= log.entries[0].time <= log.entries[1].time <= record.updated
    assert {entry.file for entry in log.entries} == {session}
    assert (log.id, log.title, log.summary) == (session, "Work", None)


@pytest.mark.parametrize(
    "sly",
    [
        "before\n## 2026-11-21T14:02:00.123Z claude-code\n\nforged",
        "## 2026-11-21T14:02:00Z\nforged",
        "one\r\n## 2026-11-21T14:02:00.123Z x\r\nforged",
        "```\n## 2026-11-21T14:02:00.123Z x\n",
        "```\nleft open",
        "~~~~\n---\nid: x\n---\n# A heading\n## Another",
    ],
)
def test_an_entry_that_imitates_the_log_is_one_entry_and_hides_no_other(sly: str) -> None:
    with temporary_store() as store:
        session = appended(store, "began", sly, "went on")
        log = store.session(session)
    assert len(log.entries) == 3
    assert texts(log)[0] == "began"
    assert texts(log)[1].replace(" ##", "##") == sly.strip()
    assert texts(log)[2] == "went on"


def test_the_answer_says_when_a_line_was_indented() -> None:
    with temporary_store() as store:
        plain = store.write(AppendSession(ME, "## Decisions\n- none"))
        sly = store.write(AppendSession(ME, "## 2026-11-21T14:02:00.123Z x", plain.id))
    assert plain.notes == ()
    assert "indented" in sly.notes[0]


def test_a_log_of_several_files_is_one_in_the_order_of_time() -> None:
    with temporary_store(max_body_bytes=2048) as store:
        session = appended(store, *(f"entry {number} " + "x" * 900 for number in range(6)))
        parts = store.read(session).parts
        log = store.session(parts[0])
    assert parts
    assert log.id == session
    assert [text.split()[1] for text in texts(log)] == list("012345")


def test_text_before_the_first_heading_is_an_entry_of_its_own() -> None:
    with temporary_store() as store:
        made = store.write(WriteMemory(ME, type="session", title="By hand", body="Only prose.\n"))
        log = store.session(made.id)
    assert texts(log) == ["Only prose."]
    assert log.entries[0].author == "claude-code"


def test_only_a_session_has_a_log() -> None:
    with temporary_store() as store:
        note = store.write(WriteMemory(ME, title="A note")).id
        with pytest.raises(InvalidInput, match="is a note, not a session"):
            store.session(note)
        with pytest.raises(NotFound):
            store.session(new_ulid())
        for wrong in (note, new_ulid()):
            with pytest.raises(NotFound, match="no session"):
                store.write(WriteSummary(ME, wrong, "text\n", Trust.INTERNAL))


# --- The summary ---------------------------------------------------------------------------------------------------


def test_a_session_has_one_summary_that_is_replaced_and_links_to_it() -> None:
    with temporary_store() as store:
        session = appended(store, "began")
        first = store.write(WriteSummary(ME, session, "one\n", Trust.INTERNAL, {"session_tokens": 1}))
        again = store.write(WriteSummary(ME, session, "one\n", Trust.INTERNAL, {"session_tokens": 1}))
        second = store.write(WriteSummary(ME, session, "two\n", Trust.INTERNAL, {"session_tokens": 2}))
        found = store.read(first.id).record
        log = store.session(session)
        count = store.status().by_type
    assert first.id == again.id == second.id == summary_id(session)
    assert (again.unchanged, again.version) == (True, first.version)
    assert (found.type, found.body, found.title) == ("note", "two\n", "Summary: Work")
    assert found.links == (Link("summarises", session),)
    assert found.fields == {"session_tokens": 2}
    assert log.summary is not None
    assert log.summary.version == second.version
    assert texts(log) == ["began"]
    assert count == {"note": 1, "session": 1}


def test_what_people_add_to_a_summary_stays() -> None:
    with temporary_store() as store:
        session = appended(store, "began")
        made = store.write(WriteSummary(ME, session, "one\n", Trust.INTERNAL))
        store.write(WriteMemory(ME, id=made.id, title="LDAP", tags=("auth",), trust=Trust.SECRET))
        store.write(WriteSummary(ME, session, "two\n", Trust.INTERNAL))
        found = store.read(made.id).record
    assert (found.title, found.tags, found.trust, found.body) == ("LDAP", ("auth",), Trust.SECRET, "two\n")


def test_a_summary_is_never_less_trusted_than_its_log() -> None:
    with temporary_store() as store:
        session = appended(store, "began")
        made = store.write(WriteSummary(ME, session, "one\n", Trust.INTERNAL))
        store.write(WriteMemory(ME, id=session, trust=Trust.CONFIDENTIAL))
        log = store.session(session)
        store.write(WriteSummary(ME, session, "one\n", log.trust))
        found = store.read(made.id).record
    assert found.trust == Trust.CONFIDENTIAL


def test_a_secret_does_not_get_into_a_summary() -> None:
    token = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
    with temporary_store() as store:
        session = appended(store, "began")
        with pytest.raises(SecretRefused):
            store.write(WriteSummary(ME, session, f"the token is {token}\n", Trust.INTERNAL))
        assert store.record(summary_id(session)) is None


def test_a_deleted_summary_is_known_as_such_and_can_be_written_anew() -> None:
    with temporary_store() as store:
        session = appended(store, "began")
        made = store.write(WriteSummary(ME, session, "one\n", Trust.INTERNAL))
        store.write(DeleteMemory(ME, made.id))
        assert store.was_deleted(made.id)
        assert not store.was_deleted(session)
        again = store.write(WriteSummary(ME, session, "two\n", Trust.INTERNAL))
        assert again.id == made.id
        assert store.read(made.id).record.body == "two\n"


def test_a_session_that_was_imported_under_another_name_has_a_summary_too() -> None:
    with temporary_store() as store:
        record = store.read(appended(store, "began")).record
        other = ImportMemory(
            ME, new_ulid(), "session", "Old", "text\n", record.created, record.created, fields={"session_id": "monday"}
        )
        made = store.write(other).id
        log = store.session(made)
        summary = store.write(WriteSummary(ME, log.id, "one\n", log.trust))
        found = store.session(made).summary
    assert found is not None
    assert found.id == summary.id


def page(log: SessionLog, cursor: str | None = None, limit: int = 2) -> tuple[list[str], str | None]:
    entries, following = page_of_log(log, asked=log.id, cursor=cursor, limit=limit)
    return [entry.text for entry in entries], following


def test_pages_of_a_log_show_each_entry_once_whatever_is_put_before_it_in_between() -> None:
    with temporary_store() as store:
        session = appended(store, "one", "two", "three", "four")
        first, cursor = page(store.session(session))
        text = store.read(session).text
        begin = text.index("## ")
        earlier = f"{text[:begin]}## 2020-01-01T00:00:00Z codex\n\nmerged in\n\n{text[begin:]}"
        store.write(ReplaceText(ME, session, earlier.encode()))
        store.write(AppendSession(ME, "five", session))
        second, more = page(store.session(session), cursor)
        third, end = page(store.session(session), more)
        whole, none = page(store.session(session), limit=10)
    assert [first, second, third] == [["one", "two"], ["three", "four"], ["five"]]
    assert (end, none) == (None, None)
    assert whole[0] == "merged in"


@pytest.mark.parametrize(
    "cursor",
    ["", "2", "-1", "é", "x" * 60, written([1, "x", 0]), written([True, "01J", 0]), written([])],
)
def test_a_cursor_that_is_none_of_a_log_is_named(cursor: str) -> None:
    with temporary_store() as store:
        log = store.session(appended(store, "one", "two", "three"))
        ours = page(log)[1] or ""
        for wrong in (cursor, ours[:8] + cursor, ours[:-2], mark_of("other") + ours[8:]):
            with pytest.raises(InvalidInput, match="cursor"):
                page(log, wrong)
        assert page(log, ours) == (["three"], None)
