"""Personal data in memories: it is not refused, it raises the trust level of what a write brings, and the answer says
so without the value.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import PersonalScanner, Trust, new_ulid
from adaptive_llm_gateway.memory import (
    AppendEvent,
    AppendSession,
    Author,
    Filters,
    ReplaceText,
    RestoreMemory,
    WriteMemory,
    WriteSummary,
    export_memories,
    import_memories,
)
from adaptive_llm_gateway.memory._raising import PersonalRule, told

ME = Author("test-client")
LOCAL = "jane.doe"
EMAIL = LOCAL + "@" + "acme.com"
OTHER = "erika.muster" + "@" + "acme.com"
PHONE = "+1 415 555 " + "2671"
IBAN = "DE89 3704 0044 0532 " + "0130 00"
CARD = "4111 1111 1111 " + "1111"
PESEL = "4405140" + "1359"
NOWHERE = (LOCAL, "erika.muster", "2671", "3704", "1111 1111", PESEL)


def opened(bench: Any, name: str = "one", **settings: Any) -> Any:
    return bench.open(name, personal=PersonalScanner(), **settings)


def level(store: Any, id: str) -> Trust:
    record = store.record(id)
    assert record is not None
    return record.trust


# --- Writes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"mail {EMAIL}", "email"),
        (f"call {PHONE}", "phone"),
        (f"pay to {IBAN}", "iban"),
        (f"card {CARD}", "card"),
        (f"PESEL {PESEL}", "national-id"),
    ],
)
def test_a_write_with_personal_data_is_raised_and_its_answer_says_so_without_the_value(
    bench: Any, text: str, kind: str
) -> None:
    store = opened(bench)
    done = bench.write(store, "About somebody", body=f"First line.\n{text}\n")
    assert level(store, done.id) is Trust.CONFIDENTIAL
    assert "trust: confidential\n" in bench.file(store, done.id).read_text(encoding="utf-8")
    raised = done.raised
    assert (raised.before, raised.after, raised.count) == (Trust.INTERNAL, Trust.CONFIDENTIAL, 1)
    lines = bench.file(store, done.id).read_text(encoding="utf-8").splitlines()
    assert raised.found[0].kind == kind
    assert text in lines[raised.found[0].line - 1]
    (note,) = done.notes
    assert kind in note
    assert f"line {raised.found[0].line}" in note
    assert "from `internal` to `confidential`" in note
    assert not any(value in repr(done) for value in NOWHERE)
    bench.tidy(store)


def test_what_is_not_personal_and_what_is_high_enough_stays_as_it_is(bench: Any) -> None:
    store = opened(bench)
    plain = bench.write(
        store, "Plain", body="git@github.com:a/b.git, jane@example.com, noreply@acme.com, v1.2.3, 4111 1111 1111 1112\n"
    )
    secret = bench.write(store, "Secret", body=f"mail {EMAIL}\n", trust=Trust.SECRET)
    assert (plain.raised, plain.notes, level(store, plain.id)) == (None, (), Trust.INTERNAL)
    assert (secret.raised, secret.notes, level(store, secret.id)) == (None, (), Trust.SECRET)


def test_nothing_is_looked_for_where_it_is_off(bench: Any) -> None:
    store = bench.open()
    done = bench.write(store, "About somebody", body=f"mail {EMAIL}\n")
    assert (done.raised, level(store, done.id)) == (None, Trust.INTERNAL)


def test_title_fields_and_tags_count_and_who_wrote_it_does_not(bench: Any) -> None:
    store = opened(bench)
    task = bench.write(store, "A task", type="task", body="x", fields={"assignee": EMAIL})
    titled = bench.write(store, f"Ask {EMAIL}", body="x")
    by = bench.write(store, "By somebody", by=EMAIL, body="x")
    assert level(store, task.id) is level(store, titled.id) is Trust.CONFIDENTIAL
    assert (by.raised, level(store, by.id)) == (None, Trust.INTERNAL)


def test_an_update_is_raised_for_what_it_brings_and_a_level_that_was_lowered_stays(bench: Any) -> None:
    store = opened(bench)
    done = bench.write(store, "About somebody", body=f"mail {EMAIL}\n")
    lowered = bench.update(store, done.id, trust=Trust.INTERNAL)
    assert (lowered.raised, level(store, done.id)) == (None, Trust.INTERNAL)
    again = bench.update(store, done.id, body=f"It is still {EMAIL.upper()}\n")
    assert (again.raised, level(store, done.id)) == (None, Trust.INTERNAL)
    more = bench.update(store, done.id, body=f"mail {EMAIL} or {OTHER}\n", trust=Trust.PUBLIC)
    assert (more.raised.count, more.raised.before, level(store, done.id)) == (1, Trust.PUBLIC, Trust.CONFIDENTIAL)


def test_a_whole_file_that_somebody_saves_is_raised_unless_it_sets_the_level_itself(bench: Any) -> None:
    store = opened(bench)
    done = bench.write(store, "Plain", body="x\n")
    text = bench.file(store, done.id).read_text(encoding="utf-8")
    saved = store.write(ReplaceText(ME, done.id, (text + f"mail {EMAIL}\n").encode()))
    assert (saved.raised.after, level(store, done.id)) == (Trust.CONFIDENTIAL, Trust.CONFIDENTIAL)
    chosen = (text + f"mail {EMAIL} or {OTHER}\n").encode()  # as before: internal
    assert store.write(ReplaceText(ME, done.id, chosen)).raised is None
    assert level(store, done.id) is Trust.INTERNAL


def test_bringing_back_what_was_there_before_changes_no_level(bench: Any) -> None:
    store = opened(bench)
    done = bench.write(store, "About somebody", body=f"mail {EMAIL}\n")
    bench.update(store, done.id, trust=Trust.INTERNAL)
    before = store.record(done.id).version
    bench.update(store, done.id, body="gone\n")
    assert store.write(RestoreMemory(ME, done.id, at=before)).raised is None
    assert level(store, done.id) is Trust.INTERNAL


def test_a_repo_that_takes_nothing_as_high_refuses_nothing_for_it_and_says_so(bench: Any) -> None:
    store = opened(bench, trust=Trust.INTERNAL)
    done = bench.write(store, "About somebody", body=f"mail {EMAIL}\n")
    assert level(store, done.id) is Trust.INTERNAL
    assert "stays `internal`" in done.notes[0]
    assert "`confidential`" in done.notes[0]
    public = bench.write(store, "In public", body=f"mail {EMAIL}\n", trust=Trust.PUBLIC)
    assert level(store, public.id) is Trust.INTERNAL
    assert "from `public` to `internal`" in public.notes[0]


def test_the_level_is_that_of_the_kind(bench: Any) -> None:
    scanner = PersonalScanner(levels={"card": Trust.SECRET, "email": None})
    store = bench.open(personal=scanner)
    assert level(store, bench.write(store, "a", body=f"mail {EMAIL}\n").id) is Trust.INTERNAL
    assert level(store, bench.write(store, "b", body=f"{CARD} and {PHONE}\n").id) is Trust.SECRET


# --- Sessions, handoffs, imports ------------------------------------------------------------------------------


def test_an_entry_raises_its_session_from_then_on(bench: Any) -> None:
    store = opened(bench)
    began = store.write(AppendSession(ME, "We begin.", title="Work"))
    assert level(store, began.id) is Trust.INTERNAL
    done = store.write(AppendSession(ME, f"Ask {EMAIL} about it.", session_id=began.id))
    assert (done.raised.after, level(store, began.id)) == (Trust.CONFIDENTIAL, Trust.CONFIDENTIAL)
    assert store.session(began.id).trust is Trust.CONFIDENTIAL
    assert store.write(AppendSession(ME, f"Asked {EMAIL}.", session_id=began.id)).raised is None


def test_a_summary_has_the_level_of_its_log_and_no_other(bench: Any) -> None:
    store = opened(bench)
    began = store.write(AppendSession(ME, f"Ask {EMAIL}.", title="Work"))
    store.write(WriteMemory(ME, id=began.id, trust=Trust.INTERNAL))
    done = store.write(WriteSummary(ME, began.id, f"{EMAIL} was asked.", Trust.INTERNAL))
    assert (done.raised, level(store, done.id)) == (None, Trust.INTERNAL)


def test_an_event_of_a_handoff_is_raised_for_its_own_words(bench: Any) -> None:
    store = opened(bench)
    offer = bench.write(store, "Go on", type="handoff", body="x", fields={"objective": "Go on"})

    def event(text: str, step: int) -> Any:
        now = datetime.now(UTC)
        return store.write(AppendEvent(ME, offer.id, new_ulid(), "progress", step, now, "Progress", text))

    assert event("half of it is done", 1).raised is None
    assert event(f"half of it, says {EMAIL}", 2).raised.after is Trust.CONFIDENTIAL
    assert level(store, offer.id) is Trust.INTERNAL


def test_an_import_is_raised_and_its_report_says_so_and_again_it_changes_nothing(bench: Any, tmp_path: Path) -> None:
    source = tmp_path / "notes"
    source.mkdir()
    (source / "a.md").write_text(f"# Somebody\n\nmail {EMAIL}\n", encoding="utf-8")
    (source / "b.md").write_text("# Nobody\n\nnothing\n", encoding="utf-8")
    store = opened(bench)
    report = import_memories(store, source, author=ME)
    assert (report.created, len(report.warnings)) == (2, 1)
    assert report.warnings[0][0] == "a.md"
    assert "raised from `internal` to `confidential`" in report.warnings[0][1]
    assert not any(value in json.dumps(report.as_dict()) for value in NOWHERE)
    levels = {record.title: record.trust for record in store.records()}
    assert levels == {"Somebody": Trust.CONFIDENTIAL, "Nobody": Trust.INTERNAL}
    again = import_memories(store, source, author=ME)
    assert (again.unchanged, again.warnings) == (2, ())
    export_memories(store, tmp_path / "out", filters=Filters(max_trust=Trust.INTERNAL))
    assert len(list((tmp_path / "out").rglob("*.md"))) == 1


# --- By hand ----------------------------------------------------------------------------------------------------


def test_an_edit_by_hand_keeps_its_level_and_the_status_says_so(bench: Any) -> None:
    store = opened(bench)
    done = bench.write(store, "Plain", body="x\n")
    file = bench.file(store, done.id)
    file.write_text(file.read_text(encoding="utf-8") + f"mail {EMAIL}\n", encoding="utf-8")
    edited = file.read_bytes()
    bench.noticed(store, file)
    assert file.read_bytes() == edited
    assert level(store, done.id) is Trust.INTERNAL
    (notice,) = store.status().notices
    assert "came in by hand" in notice
    assert store.record(done.id).path in notice
    assert not any(value in notice for value in NOWHERE)
    file.write_text(file.read_text(encoding="utf-8") + "one more line\n", encoding="utf-8")
    bench.noticed(store, file)
    assert len(store.status().notices) == 1
    file.write_text(
        file.read_text(encoding="utf-8").replace("trust: internal", "trust: confidential"), encoding="utf-8"
    )
    bench.noticed(store, file)
    assert store.status().notices == ()
    bench.tidy(store)


def test_a_level_that_is_lowered_by_hand_stays_and_nothing_is_said(bench: Any) -> None:
    store = opened(bench)
    done = bench.write(store, "About somebody", body=f"mail {EMAIL}\n")
    file = bench.file(store, done.id)
    lowered = file.read_text(encoding="utf-8").replace("trust: confidential", "trust: internal")
    file.write_text(lowered + f"and {OTHER}\n", encoding="utf-8")
    bench.noticed(store, file)
    assert (level(store, done.id), store.status().notices) == (Trust.INTERNAL, ())
    bench.update(store, done.id, tags=("seen",))
    assert level(store, done.id) is Trust.INTERNAL


def test_what_is_said_of_an_edit_ends_with_the_next_write(bench: Any) -> None:
    store = opened(bench)
    done = bench.write(store, "Plain", body="x\n")
    file = bench.file(store, done.id)
    file.write_text(file.read_text(encoding="utf-8") + f"mail {EMAIL}\n", encoding="utf-8")
    bench.noticed(store, file)
    assert store.status().notices
    bench.update(store, done.id, body="gone\n")
    assert store.status().notices == ()


# --- What is said -----------------------------------------------------------------------------------------------


def test_many_findings_are_told_by_kind_and_a_few_lines() -> None:
    text = "".join(f"mail p{number}.smith" + "@" + f"acme.com, call {PHONE}\n" for number in range(60))
    raised = PersonalRule(PersonalScanner(), Trust.SECRET).look(text, known="", level=Trust.PUBLIC)
    assert raised is not None
    assert (raised.count, len(raised.found)) == (120, 50)
    assert "and 70 more" in raised.note
    assert told(raised.found[:1]) == "1 of kind email (line 1, p…@….com)"
    assert "(lines 1, 2, 3, 4, 5 and 20 more, …71)" in raised.note
    assert len(raised.note) < 600


def test_lines_are_those_of_the_whole_text_and_a_text_full_of_it_is_not_read_to_its_end() -> None:
    rule = PersonalRule(PersonalScanner(), Trust.SECRET)
    long = "a line of words that are nobody's\n" * 12_000
    raised = rule.look(f"{long}mail {EMAIL}\n{long}call {PHONE}", known="", level=Trust.PUBLIC)
    assert raised is not None
    assert [(each.kind, each.line) for each in raised.found] == [("email", 12_001), ("phone", 24_002)]
    assert rule.look(long + EMAIL, known=f"{long}<{EMAIL.upper()}>", level=Trust.PUBLIC) is None
    full = rule.look(f"{EMAIL} {PHONE} " * 50_000, known="", level=Trust.PUBLIC)
    assert full is not None
    assert not full.whole
    assert 1_000 <= full.count < 20_000
    assert "at least" in full.note


def test_another_way_to_write_what_was_there_raises_nothing() -> None:
    rule = PersonalRule(PersonalScanner(), Trust.SECRET)
    known = f"{IBAN} {CARD} {PHONE}"
    assert rule.look(f"{IBAN.replace(' ', '')} {CARD.replace(' ', '')}", known=known, level=Trust.PUBLIC) is None
