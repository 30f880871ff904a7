"""Who may do what to a handoff as it stands, and which one is the best to go on with."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from handoff_made import ANNA, BERT, CARL, Story, at, everybody_is_there, nobody_is_there

from adaptive_llm_gateway.core import AlgError, HandoffClosed, HandoffTaken, NotHolder, Unavailable
from adaptive_llm_gateway.handoff import (
    Damage,
    Handoff,
    Party,
    best_for,
    check_claim,
    check_counts,
    check_decline,
    check_holds,
    check_withdraw,
    is_for,
    renewal,
    same_holder,
)

WINDOW_TWO = replace(BERT, instance="b2")


def held(**given: Any) -> Handoff:
    story = Story(**given)
    story.claim(BERT, 1, lease=60)
    return story.told()


def lapsed(**given: Any) -> Handoff:
    story = Story(**given)
    story.claim(BERT, 1, lease=60)
    return story.told(100)


def ended(kind: str) -> Handoff:
    story = Story(to="codex")
    if kind == "withdrawn":
        story.write("withdraw", ANNA, 5, term=0)
    elif kind == "expired":
        story = Story(expires=at(5))
    else:
        claim = story.claim(BERT, 1)
        story.write("done" if kind == "done" else "decline", BERT, 5, claim=claim.id)
    told = story.told()
    assert told.state == kind
    return told


def damaged() -> Handoff:
    return Story().told(damage=[Damage("handoffs/2026/11/a.md", "'step' is 0", None)])


def refused(kind: type[AlgError], ask: Callable[..., object], *given: Any, **named: Any) -> AlgError:
    with pytest.raises(kind) as caught:
        ask(*given, **named)
    assert type(caught.value) is kind
    assert caught.value.hint
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - made just now
    return caught.value


# --- who is the holder --------------------------------------------------------------------------------------------


def test_a_restarted_client_goes_on_and_a_second_window_does_not() -> None:
    assert same_holder(BERT, BERT, everybody_is_there)
    assert same_holder(BERT, WINDOW_TWO, nobody_is_there)
    assert not same_holder(BERT, WINDOW_TWO, everybody_is_there)
    for other in (
        replace(BERT, client="gemini"),
        replace(BERT, agent=None),
        replace(BERT, hub="desk-1"),
        replace(BERT, host="desk"),
        replace(BERT, hub=None),
    ):
        assert not same_holder(BERT, other, nobody_is_there)


# --- claiming -----------------------------------------------------------------------------------------------------


def test_what_nobody_holds_is_claimed_anew_and_what_one_holds_is_renewed() -> None:
    assert check_claim(Story().told(), BERT, is_there=nobody_is_there) == "new"
    assert check_claim(lapsed(), CARL, is_there=everybody_is_there) == "new"
    assert check_claim(lapsed(), BERT, is_there=everybody_is_there) == "new"
    assert check_claim(held(), BERT, is_there=everybody_is_there) == "again"
    assert check_claim(held(), WINDOW_TWO, is_there=nobody_is_there) == "again"


@pytest.mark.parametrize("party", [ANNA, WINDOW_TWO])
def test_a_claim_of_what_is_taken_is_refused_by_name_and_time(party: Party) -> None:
    error = refused(HandoffTaken, check_claim, held(), party, is_there=everybody_is_there, anyway=True)
    assert str(error).endswith(
        "is taken: codex/reviewer@laptop claimed it at 2026-11-22T12:01:00Z and holds it until 2026-11-22T13:01:00Z"
    )
    assert (error.code, error.exit_code) == ("handoff_taken", 4)
    assert error.details["holder"] == {"client": "codex", "agent": "reviewer", "host": "laptop", "hub": "laptop-1"}
    assert error.details["claimed"] == "2026-11-22T12:01:00Z"


def test_a_refusal_says_that_the_claim_it_lost_to_is_provisional() -> None:
    story = Story()
    story.claim(BERT, 1, provisional=True)
    error = refused(HandoffTaken, check_claim, story.told(), ANNA, is_there=nobody_is_there)
    assert "claimed it provisionally at" in str(error)
    assert error.details["provisional"] is True


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("done", "cannot be claimed: codex/reviewer@laptop finished it at 2026-11-22T12:05:00Z"),
        ("declined", "cannot be claimed: codex/reviewer@laptop declined it at 2026-11-22T12:05:00Z"),
        ("withdrawn", "cannot be claimed: claude-code@desk withdrew it at 2026-11-22T12:05:00Z"),
        ("expired", "cannot be claimed: it expired at 2026-11-22T12:05:00Z"),
    ],
)
def test_what_is_over_cannot_be_claimed_by_anybody(kind: str, said: str) -> None:
    for party in (ANNA, BERT):
        error = refused(HandoffClosed, check_claim, ended(kind), party, is_there=nobody_is_there, anyway=True)
        assert str(error).endswith(said)
        assert error.details["state"] == kind


@pytest.mark.parametrize("party", [BERT, replace(BERT, client="Reviewer", agent=None)])
def test_what_is_for_somebody_is_claimed_by_them_and_by_others_only_if_they_insist(party: Party) -> None:
    for name in ("reviewer", "Reviewer"):
        told = Story(to=name).told()
        assert check_claim(told, party, is_there=nobody_is_there) == "new"
        error = refused(HandoffClosed, check_claim, told, CARL, is_there=nobody_is_there)
        assert f"is for {name!r}, and this is 'gemini@rack'" in str(error)
        assert check_claim(told, CARL, is_there=nobody_is_there, anyway=True) == "new"


def test_a_name_stands_for_clients_whose_names_go_on_with_more_words_and_for_no_others() -> None:
    offer = Story(to="Codex").offer
    assert all(is_for(offer, Party(name)) for name in ("codex", "CODEX", "codex-mcp-client", "codex.cli", "codex 2"))
    assert is_for(offer, Party("gemini", "codex_two"))
    assert not any(is_for(offer, Party(name)) for name in ("codexa", "code", "my-codex", "gemini", ""))
    assert not is_for(Story().offer, Party("codex"))


def test_a_holder_whose_lease_ran_out_may_go_on_with_an_offer_that_has_expired_since() -> None:
    told = lapsed(expires=at(80))
    assert told.state == "expired"
    assert check_claim(told, BERT, is_there=nobody_is_there) == "new"
    refused(HandoffClosed, check_claim, told, CARL, is_there=nobody_is_there)


def test_a_damaged_handoff_lets_nobody_do_anything_and_names_the_file() -> None:
    told = damaged()
    asks: list[Callable[[], object]] = [
        lambda: check_claim(told, BERT, is_there=nobody_is_there, anyway=True),
        lambda: check_holds(told, BERT, is_there=nobody_is_there),
        lambda: check_decline(told, BERT),
        lambda: check_withdraw(told, ANNA),
    ]
    for ask in asks:
        error = refused(HandoffClosed, ask)
        assert "is damaged: handoffs/2026/11/a.md: 'step' is 0" in str(error)
        assert error.details["damage"] == [{"path": "handoffs/2026/11/a.md", "problem": "'step' is 0"}]


# --- holding ------------------------------------------------------------------------------------------------------


def test_only_the_holder_holds_it_and_one_whose_lease_ran_out_until_another_claims() -> None:
    assert check_holds(held(), BERT, is_there=everybody_is_there) == "holds"
    assert check_holds(held(), WINDOW_TWO, is_there=nobody_is_there) == "holds"
    assert check_holds(lapsed(), BERT, is_there=everybody_is_there) == "lapsed"
    assert check_holds(lapsed(expires=at(80)), BERT, is_there=everybody_is_there) == "lapsed"
    story = Story()
    story.claim(BERT, 1, lease=60)
    story.claim(CARL, 100)
    error = refused(NotHolder, check_holds, story.told(110), BERT, is_there=nobody_is_there)
    assert "'codex/reviewer@laptop' does not hold handoff" in str(error)
    assert "gemini@rack claimed it at 2026-11-22T13:40:00Z" in str(error)
    assert (error.code, error.exit_code, error.details["state"]) == ("not_holder", 4, "claimed")


def test_a_written_claim_counts_or_it_is_said_why_not() -> None:
    story = Story()
    first = story.claim(BERT, 0, provisional=True)
    lost = story.claim(CARL, 1, provisional=True, term=1)
    check_counts(story.told(), first.id)
    with pytest.raises(HandoffTaken, match="codex"):
        check_counts(story.told(), lost.id)
    with pytest.raises(Unavailable, match="lost to codex"):
        check_counts(story.told(100), lost.id)
    damaged = story.told(damage=[Damage("handoffs/x.md", "no sense in it")])
    with pytest.raises(HandoffClosed, match="no sense in it"):
        check_counts(damaged, first.id)


def test_a_second_window_is_told_of_the_first() -> None:
    error = refused(NotHolder, check_holds, held(), WINDOW_TWO, is_there=everybody_is_there)
    assert "Another window of this client holds it" in str(error.hint)


@pytest.mark.parametrize("kind", ["done", "declined", "withdrawn", "expired"])
def test_what_is_over_is_held_by_nobody(kind: str) -> None:
    error = refused(NotHolder, check_holds, ended(kind), BERT, is_there=nobody_is_there)
    assert error.details["state"] == kind


def test_finishing_without_a_claim_is_refused_with_what_to_do() -> None:
    error = refused(NotHolder, check_holds, Story().told(), BERT, is_there=nobody_is_there)
    assert "nobody holds it, it is offered" in str(error)
    assert error.hint == "Claim it first."
    refused(NotHolder, check_holds, lapsed(), CARL, is_there=nobody_is_there)


def test_progress_renews_a_lease_also_when_the_clock_was_set_back_and_by_a_day_at_most() -> None:
    claim = held().claim
    assert claim is not None
    assert claim.lease_until == at(61)
    hour, day = timedelta(hours=1), timedelta(days=1)
    assert renewal(claim, at(30), hour) == at(90)
    assert renewal(claim, at(0), timedelta(minutes=5)) == at(61) + timedelta(seconds=1)
    assert renewal(claim, at(-600), hour) == at(61) + timedelta(seconds=1)
    assert renewal(claim, at(-48 * 60), hour) == at(-48 * 60) + day


# --- refusing and taking back -------------------------------------------------------------------------------------


def test_it_is_refused_by_whom_it_is_for_and_by_anybody_when_it_is_for_all() -> None:
    check_decline(Story().told(), BERT)
    check_decline(Story(to="codex").told(), BERT)
    check_decline(lapsed(), CARL)
    refused(HandoffClosed, check_decline, Story(to="codex").told(), CARL)
    refused(HandoffTaken, check_decline, held(), CARL)
    for kind in ("done", "declined", "withdrawn", "expired"):
        refused(HandoffClosed, check_decline, ended(kind), BERT)


def test_an_offer_is_taken_back_by_whose_it_is_and_while_nobody_holds_it() -> None:
    other_window = replace(ANNA, instance="a9", host="elsewhere", hub="elsewhere-1")
    for party in (ANNA, other_window):
        check_withdraw(Story().told(), party)
        check_withdraw(lapsed(), party)
        check_withdraw(ended("expired"), party)
    refused(HandoffTaken, check_withdraw, held(), ANNA)
    error = refused(HandoffClosed, check_withdraw, Story().told(), BERT)
    assert "was offered by 'claude-code@desk'" in str(error)
    check_withdraw(Story().told(), BERT, anyway=True)
    for kind in ("done", "declined", "withdrawn"):
        refused(HandoffClosed, check_withdraw, ended(kind), ANNA, anyway=True)


# --- the best -----------------------------------------------------------------------------------------------------


def test_the_best_is_what_one_held_then_what_names_one_then_offers_by_priority_and_age() -> None:
    crashed = held(priority="low")
    ran_out = lapsed(priority="low")
    order = [
        crashed,
        ran_out,
        Story(to="codex", priority="low").told(),
        Story(to="reviewer", checkpoint=True).told(),
        Story(priority="urgent", created=at(9)).told(),
        Story(priority="high").told(),
        Story(created=at(1)).told(),
        Story(created=at(2)).told(),
        Story(checkpoint=True, priority="high").told(),
        Story(checkpoint=True, created=at(2)).told(),
        Story(checkpoint=True, created=at(1)).told(),
    ]
    rest = list(reversed(order))
    found: list[Handoff] = []
    while best := best_for(rest, BERT, None, is_there=nobody_is_there):
        found.append(best)
        rest.remove(best)
    assert [order.index(each) for each in found] == list(range(len(order)))


def test_nothing_is_best_that_is_over_anothers_declined_or_of_another_project() -> None:
    declined = Story()
    declined.write("decline", replace(BERT, instance="long ago"), 1, term=0)
    hidden = [
        declined.told(),
        Story(to="gemini").told(),
        damaged(),
        *map(ended, ("done", "declined", "withdrawn", "expired")),
    ]
    assert best_for(hidden, BERT, None, is_there=nobody_is_there) is None
    taken = Story()
    taken.claim(CARL, 1)
    assert best_for([taken.told()], BERT, None, is_there=nobody_is_there) is None
    assert best_for([declined.told()], CARL, None, is_there=nobody_is_there) is not None
    parser, other = Story(project="Parser").told(), Story(project="lexer").told()
    assert best_for([other, Story().told(), parser], BERT, "parser", is_there=nobody_is_there) is parser
    assert best_for([other], BERT, "parser", is_there=nobody_is_there) is None


def test_what_another_window_of_the_same_client_holds_is_left_to_it() -> None:
    assert best_for([held()], WINDOW_TWO, None, is_there=everybody_is_there) is None
    assert best_for([held()], WINDOW_TWO, None, is_there=nobody_is_there) is not None
