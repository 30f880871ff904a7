"""Files of handoffs as values: read from whatever a file may say, and written so that they read back the same."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from handoff_made import ANNA, BERT, NOON, Story, at, front_of, nobody_is_there
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from adaptive_llm_gateway.core import Trust, new_ulid
from adaptive_llm_gateway.handoff import (
    EVENT_KINDS,
    Damage,
    Event,
    EventKind,
    Offer,
    Party,
    WorkState,
    check_claim,
    event_fields,
    fold,
    gather,
    handoff_schema,
    read_record,
    title_of,
)
from adaptive_llm_gateway.memory import Author, Link, Record

HANDOFF = "01KAMFH9P0AAAAAAAAAAAAAAAA"
CLAIM = "01KAMFHA00BBBBBBBBBBBBBBBB"
OFFER_PATH = "handoffs/2026/11/mend-the-parser-aaaaaaaa.md"
EVENT_PATH = "handoffs/2026/11/aaaaaaaa/0001-claim-bbbbbbbb.md"
SCHEMA: Any = Draft202012Validator(handoff_schema(), format_checker=Draft202012Validator.FORMAT_CHECKER)


def record(path: str = EVENT_PATH, *, id: str = CLAIM, body: str = "", **fields: Any) -> Record:
    common: dict[str, Any] = {
        name: fields.pop(name) for name in ("created", "links", "author", "project", "tags") if name in fields
    }
    common = {"created": NOON, "author": Author("codex", "reviewer", "laptop")} | common
    return Record(
        id=id,
        type="handoff",
        title="Mend the parser",
        body=body,
        path=path,
        version="0" * 40,
        mtime_ns=0,
        size=0,
        updated=NOON,
        fields=fields,
        **common,
    )


def a_claim(**fields: Any) -> dict[str, Any]:
    known = {"event": "claim", "handoff": HANDOFF, "step": 1, "term": 1, "lease_until": "2026-11-22T13:00:00Z"}
    return {**known, **fields}


def an_offer(**fields: Any) -> Record:
    return record(OFFER_PATH, **{"id": HANDOFF, "objective": "It parses.", **fields})


def problem(found: Offer | Event | Damage) -> str:
    assert isinstance(found, Damage)
    return found.problem


# --- reading ------------------------------------------------------------------------------------------------------


def test_an_offer_is_read_with_all_that_it_says() -> None:
    fields = {
        "objective": "It parses.",
        "next_action": "run the tests",
        "open_questions": ["which grammar?"],
        "constraints": "no new library",
        "to": "codex",
        "priority": "high",
        "expires": "2026-11-30T00:00:00+01:00",
        "session_id": "s-1",
        "checkpoint": True,
        "directory": "/home/you/parser",
        "remote": "https://example.org/parser.git",
        "branch": "main",
        "commit": "0" * 40,
        "dirty": [" M parser.py"],
        "dirty_count": 7,
        "later_versions_know_this": {"a": 1},
    }
    links = (Link("decided", CLAIM), Link("relates_to", HANDOFF))
    found = read_record(an_offer(body="Half done.", links=links, project="parser", tags=("a",), **fields))
    assert found == Offer(
        id=HANDOFF,
        title="Mend the parser",
        objective="It parses.",
        created=NOON,
        by=Party("codex", "reviewer", "laptop"),
        path=OFFER_PATH,
        version="0" * 40,
        next_action="run the tests",
        state="Half done.",
        open_questions=("which grammar?",),
        constraints=("no new library",),
        decisions=(CLAIM,),
        to="codex",
        priority="high",
        project="parser",
        tags=("a",),
        trust=Trust.INTERNAL,
        session_id="s-1",
        expires=datetime(2026, 11, 29, 23, tzinfo=UTC),
        checkpoint=True,
        work=WorkState("/home/you/parser", "https://example.org/parser.git", "main", "0" * 40, ("M parser.py",), 7),
    )


def test_an_offer_without_an_objective_is_for_what_its_title_says() -> None:
    found = read_record(an_offer(objective=None))
    assert isinstance(found, Offer)
    assert found.objective == found.title
    told = fold(found, (), now=NOON, lease_over=lambda _: False)
    assert (told.state, told.damage) == ("offered", ())


def test_a_claim_is_read_with_all_that_it_says() -> None:
    found = read_record(record(**a_claim(provisional=True, hub="laptop-1", instance="b1"), body="at once"))
    assert found == Event(
        id=CLAIM,
        handoff=HANDOFF,
        kind="claim",
        step=1,
        time=NOON,
        by=Party("codex", "reviewer", "laptop", "laptop-1", "b1"),
        path=EVENT_PATH,
        version="0" * 40,
        term=1,
        lease_until=at(60),
        provisional=True,
        text="at once",
    )


def test_ids_in_lower_case_and_times_of_other_zones_are_understood() -> None:
    fields = a_claim(handoff=HANDOFF.lower(), lease_until="2026-11-22T14:00+01:00")
    found = read_record(record(**fields))
    assert isinstance(found, Event)
    assert (found.handoff, found.lease_until) == (HANDOFF, at(60))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"event": 7}, "'event' is 7; it must be text"),
        ({"event": "merge"}, "the event 'merge' is not known to this version: it was written by a newer version"),
        ({"handoff": None}, "it has no 'handoff'"),
        ({"handoff": "no id"}, "'handoff' is 'no id'; it must be an id of 26 characters (ULID)"),
        ({"handoff": CLAIM}, f"it lies among the events of another handoff than '{CLAIM}'"),
        ({"step": None}, "it has no 'step'"),
        ({"step": "first"}, "'step' is 'first'; it must be a whole number"),
        ({"step": True}, "'step' is True; it must be a whole number"),
        ({"step": 0}, "'step' is 0; it must be 1 or more"),
        ({"term": None}, "it has no 'term'"),
        ({"term": 1.0}, "'term' is 1.0; it must be a whole number"),
        ({"term": 0}, "'term' of a claim is 0; it must be 1 or more"),
        ({"lease_until": None}, "the claim has no 'lease_until'"),
        ({"lease_until": "soon"}, "'lease_until' is 'soon'; it must be a date and time in ISO 8601"),
        ({"lease_until": "0000-01-01T00:00:00Z"}, "'lease_until' is '0000-01-01T00:00:00Z'; it must be a date"),
        ({"lease_until": "0001-01-01T00:00:00+14:00"}, "'lease_until' is '0001-01-01T00:00:00+14:00'; it must be"),
        ({"lease_until": "9999-12-31T23:59:59Z"}, "'lease_until' (9999-12-31T23:59:59Z) is more than 24 hours after"),
        ({"lease_until": "2026-11-22T12:00:00Z"}, "'lease_until' (2026-11-22T12:00:00Z) is not after its time"),
        ({"provisional": "yes"}, "'provisional' is 'yes'; it must be true or false"),
        ({"claim": 5}, "'claim' is 5; it must be an id"),
        ({"hub": ["a"]}, "'hub' is ['a']; it must be text"),
        ({"instance": 12}, "'instance' is 12; it must be text"),
        ({"event": "done"}, "the done does not say to which 'claim' it belongs"),
        ({"event": "progress"}, "the progress does not say to which 'claim' it belongs"),
        ({"event": "withdraw", "term": -1}, "'term' is -1; it must be 0 or more"),
        ({"event": "decline", "term": None}, "it has no 'term'"),
        ({"event": None}, "it lies among the events of a handoff and has no 'event'"),
    ],
)
def test_an_event_that_cannot_be_is_damage_that_says_why(fields: dict[str, Any], said: str) -> None:
    found = read_record(record(**a_claim(**fields)))
    assert problem(found).startswith(said)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("objective", 7),
        ("next_action", ["a"]),
        ("open_questions", [1]),
        ("constraints", {"a": "b"}),
        ("to", False),
        ("priority", "someday"),
        ("priority", []),
        ("expires", 2026),
        ("session_id", 1.5),
        ("checkpoint", "no"),
        ("directory", 1),
        ("branch", 1.1),
        ("commit", 1234567),
        ("dirty", {"a": 1}),
        ("dirty_count", -1),
        ("dirty_count", "many"),
    ],
)
def test_an_offer_that_cannot_be_is_damage_and_is_still_shown_as_far_as_it_goes(name: str, value: Any) -> None:
    broken = an_offer(**{"to": "codex", name: value})
    assert problem(read_record(broken)).startswith(f"{name!r} is ")
    (files,), strays = gather([broken])
    assert not strays
    assert files.offer.title == "Mend the parser"
    told = fold(files.offer, files.events, files.damage, now=NOON, lease_over=lambda _: False)
    assert told.state == "damaged"
    assert told.damage[0].problem.startswith(f"{name!r} is ")


def test_a_file_of_an_unknown_kind_of_event_keeps_others_from_claiming_and_changes_no_other_handoff() -> None:
    other = "01KAMFH9P0CCCCCCCCCCCCCCCC"
    newer = record(**a_claim(event="merge"))
    both, strays = gather(
        [an_offer(), newer, record(OFFER_PATH, id=other, objective="Another.", event=None)],
    )
    assert not strays
    states = {
        each.offer.id: fold(each.offer, each.events, each.damage, now=NOON, lease_over=lambda _: False).state
        for each in both
    }
    assert states == {HANDOFF: "damaged", other: "offered"}


def test_an_event_elsewhere_than_in_its_folder_is_damage_to_its_handoff() -> None:
    for path in ("handoffs/2026/11/0001-claim-bbbbbbbb.md", "notes/2026/11/aaaaaaaa/x.md", "x.md"):
        (files,), _ = gather([an_offer(), record(path, **a_claim())])
        assert not files.events
        assert files.damage[0].problem.startswith("it does not lie in its handoff's folder of events")


def test_an_event_in_the_folder_of_another_handoff_is_damage_to_both() -> None:
    other = "01KAMFH9P0CCCCCCCCCCCCCCCC"
    both, strays = gather(
        [
            an_offer(),
            record(OFFER_PATH, id=other, objective="Another."),
            record(**a_claim(handoff=other)),
        ]
    )
    assert not strays
    assert [[each.handoff for each in files.damage] for files in both] == [[HANDOFF], [other]]


def test_an_event_whose_handoff_cannot_be_read_is_damage_to_the_one_whose_folder_it_lies_in() -> None:
    (files,), strays = gather([an_offer(), record(**a_claim(handoff=12))])
    assert not strays
    told = fold(files.offer, files.events, files.damage, now=NOON, lease_over=lambda _: False)
    with pytest.raises(Exception, match=r"damaged: .*'handoff' is 12"):
        check_claim(told, BERT, is_there=nobody_is_there)


def test_a_file_that_lies_among_events_and_names_none_is_damage_to_their_handoff() -> None:
    (files,), strays = gather([an_offer(), record(objective="Another.")])
    assert not strays
    assert files.offer.id == HANDOFF
    told = fold(files.offer, files.events, files.damage, now=NOON, lease_over=lambda _: False)
    assert (told.state, len(told.damage)) == ("damaged", 1)


def test_an_event_whose_offer_is_not_there_is_told_apart() -> None:
    none, strays = gather([record(**a_claim())])
    assert not none
    assert [each.problem for each in strays] == [f"the handoff {HANDOFF!r} is not there"]


def test_a_file_that_was_changed_on_two_machines_at_once_is_damage_that_names_the_other_version() -> None:
    other = new_ulid()
    links = (Link("part_of", HANDOFF), Link("conflicts_with", other))
    expected = f"it was changed on two machines at once; memory {other!r} is the other version"
    assert problem(read_record(record(**a_claim(), links=links))) == expected
    assert problem(read_record(an_offer(links=links))) == expected


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([HANDOFF, CLAIM, "claim", "9999-12-31T23:59:59.999999Z", "0001-01-01", "-0001-01-01"])
    | st.integers(min_value=10**20, max_value=10**22),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
NAMES = sorted({name for part in handoff_schema()["$defs"].values() for name in part["properties"]} | {"new"})
MOMENTS = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
)


@given(
    fields=st.dictionaries(st.sampled_from(NAMES), JUNK, max_size=6),
    base=st.sampled_from([{}, a_claim(), a_claim(event="done", claim=CLAIM), {"objective": "x"}]),
    created=MOMENTS,
    path=st.sampled_from([EVENT_PATH, OFFER_PATH, "handoffs/2026/11/zzzzzzzz/x.md", "x"]),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_in_a_file_raises(fields: dict[str, Any], base: dict[str, Any], created: datetime, path: str) -> None:
    own = {name: value for name, value in {**base, **fields}.items() if name not in ("created", "links", "author")}
    own = {name: value for name, value in own.items() if name not in ("id", "project", "tags")}
    hostile = record(path, created=created, **own)
    assert isinstance(read_record(hostile), (Offer, Event, Damage))
    handoffs, _ = gather([an_offer(), hostile])
    for files in handoffs:
        told = fold(files.offer, files.events, files.damage, now=NOON, lease_over=lambda _: False)
        assert bool(told.damage) == (told.state == "damaged")


# --- writing ------------------------------------------------------------------------------------------------------


@st.composite
def events(draw: st.DrawFn) -> Event:
    story = Story()
    kind: EventKind = draw(st.sampled_from(EVENT_KINDS))
    by = replace(BERT, hub=draw(st.sampled_from([None, "laptop-1"])), instance=draw(st.sampled_from([None, "b 1"])))
    fields: dict[str, Any] = {}
    if kind == "claim":
        fields = {"term": draw(st.integers(1, 10**9)), "provisional": draw(st.booleans())}
    elif kind == "withdraw" or (kind == "decline" and draw(st.booleans())):
        fields = {"term": draw(st.integers(0, 10**9))}
    else:
        fields = {"claim": new_ulid()}
    if kind == "claim" or (kind == "progress" and draw(st.booleans())):
        micro = draw(st.integers(1, 24 * 3600 * 10**6))
        fields["lease_until"] = at(5) + timedelta(microseconds=micro)
    return story.write(kind, by, 5, step=draw(st.integers(1, 10**9)), text=draw(st.text()), **fields)


@given(events())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_event_reads_back_as_it_was_written_and_as_the_schema_says(event: Event) -> None:
    front = front_of(event)
    SCHEMA.validate(front)
    own = {name: value for name, value in front.items() if name in (*event_fields(event), "priority", "checkpoint")}
    found = read_record(
        record(
            event.path,
            id=event.id,
            created=event.time,
            body=event.text,
            **own,
        )
    )
    assert found == event


def test_titles_of_events_are_lines_that_say_who_did_what() -> None:
    assert title_of("claim", "Mend the parser", BERT) == "Claimed by codex/reviewer@laptop: Mend the parser"
    assert title_of("done", "Mend\nthe  parser", Party("codex")) == "Done by codex: Mend the parser"
    titles = {title_of(kind, "Mend the parser", ANNA) for kind in EVENT_KINDS}
    assert len(titles) == len(EVENT_KINDS)
    long = title_of("claim", "x" * 400, ANNA)
    assert (len(long), long[-1]) == (300, "…")


# --- the schema ---------------------------------------------------------------------------------------------------


def front(**fields: Any) -> dict[str, Any]:
    return {
        "id": CLAIM,
        "type": "handoff",
        "title": "Mend the parser",
        "created": "2026-11-22T12:00:00Z",
        "updated": "2026-11-22T12:00:00Z",
        "author": {"client": "codex"},
        **fields,
    }


def test_the_schema_of_the_docs_is_one_and_is_the_components() -> None:
    page = Path(__file__).resolve().parents[2] / "docs/schemas/handoff.json"
    schema = json.loads(page.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema == handoff_schema()


@given(
    fields=st.dictionaries(st.sampled_from(NAMES), JUNK, max_size=3),
    base=st.sampled_from(
        [
            {"objective": "It parses."},
            a_claim(),
            a_claim(event="done", claim=CLAIM),
            a_claim(event="progress", claim=CLAIM),
            {"event": "withdraw", "handoff": HANDOFF, "step": 1, "term": 0},
            {"event": "decline", "handoff": HANDOFF, "step": 1, "claim": CLAIM},
        ]
    ),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_the_schema_allows_can_be_read_but_for_leases_that_cannot_be(
    fields: dict[str, Any], base: dict[str, Any]
) -> None:
    own = {name: value for name, value in fields.items() if name not in front()}
    if not SCHEMA.is_valid(front(**{**base, **own})):
        return
    given = {
        name: value for name, value in {**base, **own}.items() if name not in ("project", "tags", "trust", "links")
    }
    found = read_record(record(EVENT_PATH if "event" in given else OFFER_PATH, **given))
    if isinstance(found, Damage):
        assert found.problem.startswith(("'lease_until' (", "it lies among the events of another"))


@pytest.mark.parametrize("kind", EVENT_KINDS)
def test_the_schema_asks_for_what_each_event_needs(kind: str) -> None:
    bare = front(event=kind, handoff=HANDOFF, step=1)
    needs_claim = kind in ("confirm", "progress", "release", "done")
    assert SCHEMA.is_valid(bare) == (kind == "patch")
    assert SCHEMA.is_valid({**bare, "claim": CLAIM}) == (needs_claim or kind in ("patch", "decline"))
    assert SCHEMA.is_valid({**bare, "term": 1}) == (kind in ("withdraw", "decline", "patch"))
    assert SCHEMA.is_valid({**bare, "term": 1, "lease_until": "2026-11-22T13:00:00Z"}) == (
        kind in ("claim", "withdraw", "decline", "patch")
    )
