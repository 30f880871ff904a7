"""Whose a handoff is: who has a token is whom the token says, whatever a program calls itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from handoff_made import BERT, CARL, Story, front_of, nobody_is_there

from adaptive_llm_gateway.core import HandoffClosed, HandoffTaken, NotHolder
from adaptive_llm_gateway.handoff import (
    Handoffs,
    NewOffer,
    Party,
    best_for,
    check_claim,
    check_decline,
    check_holds,
    check_withdraw,
    is_for,
    same_holder,
)
from adaptive_llm_gateway.memory import MemoryStore
from adaptive_llm_gateway.memory.testing import temporary_store

ONE, OTHER = "01JC4Q8M3V9Z2K7W5T1R6XHB0D", "01JC4Q8M3V9Z2K7W5T1R6XHB0E"
LOCAL = replace(BERT, instance=None)
MINE, THEIRS = replace(LOCAL, client_id=ONE), replace(LOCAL, client_id=OTHER)
ALIKE = (LOCAL, MINE, THEIRS)
"""Three that have one name: a program of the machine, and the clients of two tokens."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with temporary_store(tmp_path / "store") as opened:
        yield opened


@pytest.mark.parametrize("holder", ALIKE)
def test_what_one_holds_no_other_of_the_same_name_holds(holder: Party) -> None:
    story = Story()
    story.claim(holder, 1)
    told = story.told()
    for party in ALIKE:
        if party is holder:
            assert check_holds(told, party, is_there=nobody_is_there) == "holds"
            assert check_claim(told, party, is_there=nobody_is_there) == "again"
            continue
        assert not same_holder(holder, party, nobody_is_there)
        with pytest.raises(NotHolder) as not_held:
            check_holds(told, party, is_there=nobody_is_there)
        with pytest.raises(HandoffTaken):
            check_claim(told, party, is_there=nobody_is_there, anyway=True)
        how = "another client with a token" if holder.client_id else "a program on its machine"
        assert f"codex/reviewer@laptop, {how}, claimed it" in str(not_held.value)


@pytest.mark.parametrize("holder", ALIKE)
def test_a_lease_that_ran_out_is_taken_up_by_none_of_the_same_name(holder: Party) -> None:
    story = Story()
    story.claim(holder, 1, lease=10)
    told = story.told(60)
    for party in ALIKE:
        if party is holder:
            assert check_holds(told, party, is_there=nobody_is_there) == "lapsed"
        else:
            with pytest.raises(NotHolder):
                check_holds(told, party, is_there=nobody_is_there)


@pytest.mark.parametrize("by", ALIKE)
def test_an_offer_is_withdrawn_by_whose_it_is_and_by_none_of_the_same_name(by: Party) -> None:
    told = Story(by=by).told()
    check_withdraw(told, by)
    for party in ALIKE:
        if party is not by:
            with pytest.raises(HandoffClosed, match="only they can withdraw it"):
                check_withdraw(told, party)


def test_who_declined_without_its_being_for_them_keeps_it_from_none_of_the_same_name() -> None:
    story = Story()
    story.write("decline", MINE, 1, term=0)
    told = story.told()
    assert best_for([told], MINE, None, is_there=nobody_is_there) is None
    assert best_for([told], LOCAL, None, is_there=nobody_is_there) is told
    assert best_for([told], THEIRS, None, is_there=nobody_is_there) is told


@pytest.mark.parametrize("name", ["codex", "reviewer", "Reviewer"])
def test_what_a_program_with_a_token_calls_itself_makes_it_nobody_else(name: str) -> None:
    poser = Party("ci", name, "laptop", "laptop-1", None, ONE)
    for offerer in (CARL, replace(CARL, client_id=OTHER)):
        told = Story(to=name, by=offerer).told()
        assert not is_for(told.offer, poser)
        assert best_for([told], poser, None, is_there=nobody_is_there) is None
        with pytest.raises(HandoffClosed, match=f"is for {name!r}"):
            check_claim(told, poser, is_there=nobody_is_there)
        with pytest.raises(HandoffClosed, match="cannot decline it"):
            check_decline(told, poser)
        story = Story(to=name, by=offerer)
        claim = story.claim(poser, 1)
        story.write("decline", poser, 2, claim=claim.id)
        assert story.told().state == "offered"  # it was not for them, so that others may still do it


def test_programs_that_share_a_token_are_told_apart_by_what_they_call_themselves() -> None:
    shared = Party("laptop", "claude-code", "desk", "desk-1", None, ONE)
    told = Story(to="codex", by=shared).told()
    codex = replace(shared, agent="codex-mcp-client")
    assert is_for(told.offer, codex)
    assert not is_for(told.offer, shared)
    assert not is_for(told.offer, replace(codex, client_id=OTHER))
    assert check_claim(told, codex, is_there=nobody_is_there) == "new"


def test_a_tokens_client_is_named_by_its_name_whoever_offers() -> None:
    client = Party("ci", "codex", "desk", "desk-1", None, ONE)
    for offerer in (CARL, replace(CARL, client_id=OTHER)):
        assert is_for(Story(to="CI", by=offerer).offer, client)


def test_a_checkpoint_takes_the_place_of_none_that_came_by_another_right(store: MemoryStore) -> None:
    handoffs = Handoffs(store)
    new = NewOffer("Go on", session_id="a-session")
    first = handoffs.checkpoint(new, Party("codex", client_id=ONE))
    mine = handoffs.checkpoint(new, Party("codex"))
    assert mine.handoff.offer.id != first.handoff.offer.id
    again = handoffs.checkpoint(new, Party("codex"))
    assert (again.replaced, again.handoff.offer.id) == (True, mine.handoff.offer.id)


def test_whose_it_is_stands_in_the_files_and_is_read_back(store: MemoryStore) -> None:
    handoffs = Handoffs(store)
    made = handoffs.create(NewOffer("Go on"), Party("codex", client_id=ONE)).handoff
    claimed = handoffs.claim(made.offer.id, Party("codex", client_id=OTHER)).handoff
    assert claimed.offer.by.client_id == ONE
    assert claimed.holder is not None
    assert claimed.holder.client_id == OTHER
    with pytest.raises(NotHolder):
        handoffs.complete(made.offer.id, "Not mine", Party("codex"))
    assert handoffs.complete(made.offer.id, "Done", Party("codex", client_id=OTHER)).handoff.state == "done"


def test_an_event_of_before_says_nothing_of_it_and_is_of_a_program_on_the_machine() -> None:
    event = Story().claim(BERT, 1)
    assert "client_id" not in front_of(event)
    assert front_of(replace(event, by=MINE))["client_id"] == ONE
