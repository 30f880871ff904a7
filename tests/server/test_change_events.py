"""What a subscriber is told of one change: a table of who sees what of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.memory import Author, ChangePlace, MemoryChange, Record
from adaptive_llm_gateway.server._access import EVERYTHING, Access
from adaptive_llm_gateway.server._change_events import Wanted, checked_wanted, event_of
from adaptive_llm_gateway.server._event_ids import EventIds

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC)
PLACE = ChangePlace("1" * 40, "0" * 16)
ALL = Wanted()
PUBLIC = Access(client="c", max_trust=Trust.PUBLIC)
ALPHA = Access(client="c", projects=("alpha",))
KEY = bytes(range(32))


def record(**given: Any) -> Record:
    whole: dict[str, Any] = {
        "id": "01JD0000000000000000000001",
        "type": "note",
        "title": "Walrus",
        "body": "",
        "path": "notes/walrus.md",
        "version": "a" * 40,
        "mtime_ns": 0,
        "size": 1,
        "created": NOW,
        "updated": NOW,
        "author": Author("codex"),
        "project": "alpha",
        "trust": Trust.PUBLIC,
    }
    return Record(**{**whole, **given})


def change(before: Record | None, after: Record | None, kind: Any = "updated", **given: Any) -> MemoryChange:
    whole: dict[str, Any] = {
        "latest": after,
        "time": NOW,
        "by": "codex (reviewer)",
        "reason": "because",
        "of_it": True,
        "place": PLACE,
    }
    return MemoryChange(kind, before, after, **{**whole, **given})


def told(found: MemoryChange, access: Access = EVERYTHING, wanted: Wanted = ALL) -> dict[str, Any] | None:
    event = event_of(found, access, wanted, None)
    return None if event is None else event.told


SHOWN = record()
HIDDEN = record(trust=Trust.SECRET, project="beta", title="Otter", path="notes/otter.md", version="b" * 40)


def test_who_sees_a_memory_is_told_all_of_a_change_but_its_text() -> None:
    assert told(change(SHOWN, SHOWN)) == {
        "kind": "updated",
        "time": "2026-11-23T10:00:00Z",
        "memory": SHOWN.id,
        "type": "note",
        "title": "Walrus",
        "path": "notes/walrus.md",
        "version": "a" * 40,
        "project": "alpha",
        "trust": "public",
        "by": "codex (reviewer)",
        "reason": "because",
    }


@pytest.mark.parametrize("access", [PUBLIC, ALPHA], ids=["level", "project"])
@pytest.mark.parametrize(
    ("before", "after", "kind", "expected"),
    [
        (None, SHOWN, "created", "created"),
        (None, SHOWN, "restored", "restored"),
        (SHOWN, SHOWN, "updated", "updated"),
        (SHOWN, SHOWN, "moved", "moved"),
        (SHOWN, None, "deleted", "deleted"),
        (HIDDEN, SHOWN, "updated", "created"),
        (HIDDEN, SHOWN, "restored", "created"),
        (SHOWN, HIDDEN, "updated", "deleted"),
        (SHOWN, HIDDEN, "moved", "deleted"),
        (HIDDEN, HIDDEN, "updated", None),
        (None, HIDDEN, "created", None),
        (HIDDEN, None, "deleted", None),
    ],
)
def test_what_is_hidden_is_not_there(
    access: Access, before: Record | None, after: Record | None, kind: Any, expected: str | None
) -> None:
    found = told(change(before, after, kind), access)
    assert (found and found["kind"]) == expected
    assert "Otter" not in repr(found)
    assert "otter" not in repr(found)


@pytest.mark.parametrize("access", [PUBLIC, ALPHA], ids=["level", "project"])
def test_what_leaves_somebodys_sight_cannot_be_told_from_what_is_deleted(access: Access) -> None:
    assert told(change(SHOWN, HIDDEN, "updated", reason="now secret"), access) == told(
        change(SHOWN, None, "deleted", reason="not needed"), access
    )


def test_what_has_left_somebodys_sight_since_is_not_told_any_more() -> None:
    assert told(change(None, SHOWN, "created", latest=HIDDEN), PUBLIC) is None
    assert told(change(None, SHOWN, "created", latest=HIDDEN)) is not None
    assert told(change(None, SHOWN, "created", latest=None), PUBLIC) is not None


def test_a_commit_that_speaks_of_several_memories_tells_its_reason_to_those_alone_who_see_all() -> None:
    assert told(change(SHOWN, SHOWN, of_it=False), PUBLIC) == {**(told(change(SHOWN, SHOWN)) or {}), "reason": None}
    assert told(change(SHOWN, SHOWN, of_it=False)) == told(change(SHOWN, SHOWN))


def test_filters_are_of_type_and_project_and_let_through_what_leaves_them() -> None:
    moved = change(SHOWN, record(project="gamma"))
    for wanted, expected in {
        Wanted(types=("note", "task")): True,
        Wanted(types=("task",)): False,
        Wanted(projects=("ALPHA",)): True,
        Wanted(projects=("gamma",)): True,
        Wanted(projects=("delta",)): False,
        Wanted(types=("task",), projects=("alpha",)): False,
    }.items():
        assert (told(moved, wanted=wanted) is not None) == expected, wanted


def test_a_filter_does_not_find_what_is_hidden() -> None:
    """Whether a hidden version had a project is not to be found out by asking for that project."""
    for before, after in product((SHOWN, HIDDEN, None), repeat=2):
        found = told(change(before, after), PUBLIC, Wanted(projects=("beta",)))
        assert found is None, (before, after)


def test_filters_are_lists_with_commas_or_several() -> None:
    assert checked_wanted(["note, task", "decision"], ["", " ,alpha"]) == Wanted(
        ("note", "task", "decision"), ("alpha",)
    )


def test_what_happens_to_a_handoff_is_told_to_those_who_have_to_do_with_handoffs() -> None:
    offer = record(type="handoff", title="Finish it")
    claim = record(type="handoff", id="01JD0000000000000000000002", fields={"event": "claim", "handoff": offer.id})
    found = event_of(change(None, claim, "created"), EVERYTHING, ALL, "team")
    assert found is not None
    assert (found.name, found.handoff) == ("handoff", offer.id)
    assert found.told["event"] == "claim"
    assert found.told["memory"] == claim.id
    assert found.told["repo"] == "team"
    others = Access(client="c", scopes=frozenset({"memory:read"}))
    assert told(change(None, claim, "created"), others) is None
    assert (told(change(None, offer, "created"), others) or {})["kind"] == "created"
    assert told(change(claim, None, "deleted")) is None
    assert (told(change(offer, None, "deleted")) or {})["kind"] == "deleted"


# --- ids -----------------------------------------------------------------------------------------------------------

PLACES = {"personal": ChangePlace("1" * 40, "2" * 16), "team": ChangePlace("3" * 40, "4" * 16, "5" * 40, "6" * 16)}


def test_an_id_is_read_by_whoever_has_the_key_and_is_another_one_each_time() -> None:
    ids = EventIds(KEY)
    one, two = ids.of(PLACES), ids.of(PLACES)
    assert one != two
    assert len(one) == len(two)
    for id in (one, two):
        assert EventIds(KEY).places(id, PLACES) == PLACES
        assert EventIds(bytes(32)).places(id, PLACES) is None
        assert EventIds(None).places(id, PLACES) is None
        assert ids.places(id, ["personal"]) is None  # a repo that is not there any more
    assert not any(place.commit[:6] in one for place in PLACES.values())


def test_ids_of_one_repo_are_as_long_wherever_it_is() -> None:
    ids = EventIds(KEY)
    assert len({len(ids.of({"personal": place})) for place in PLACES.values()}) == 1


def test_what_is_no_id_is_known_as_none() -> None:
    ids = EventIds(KEY)
    good = ids.of(PLACES)
    broken = [good[:-1], good + "a", good[:-4], "b" + good[1:], good.upper(), good + "=", f" {good}"]
    for bad in ["", "x", "\u00e9", "a" * 20_000, "\0", "=" * 40, *broken]:
        assert ids.places(bad, PLACES) is None, bad
    for position in range(len(good)):
        changed = "a" if good[position] != "a" else "b"
        assert ids.places(good[:position] + changed + good[position + 1 :], PLACES) is None, position


def test_ids_are_not_taken_for_secrets() -> None:
    from adaptive_llm_gateway.core import SecretScanner

    scanner, ids = SecretScanner(), EventIds(KEY)
    for _ in range(2_000):
        id = ids.of(PLACES)
        assert not scanner.scan(json.dumps({"since_id": id, "id": id}))
        assert not scanner.scan(f"since_id: {id}")
        assert not scanner.scan(f"GET /api/v1/changes?since_id={id}")
