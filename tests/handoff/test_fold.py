"""Where a handoff stands: every rule of docs/handoff-protocol.md, event by event."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import permutations

import pytest
from handoff_made import ANNA, BERT, CARL, NOON, Story, at

from adaptive_llm_gateway.core import new_ulid
from adaptive_llm_gateway.handoff import Damage


def test_an_offer_without_events_is_offered_to_all() -> None:
    told = Story().told()
    assert (told.state, told.claim, told.holder, told.term, told.step) == ("offered", None, None, 0, 0)


def test_a_claim_holds_until_its_lease_ends() -> None:
    story = Story()
    claim = story.claim(BERT, 1, lease=60)
    during, after = story.told(60), story.told(62)
    assert (during.state, during.holder, during.term, during.step) == ("claimed", BERT, 1, 1)
    assert during.claim is not None
    assert (during.claim.id, during.claim.lease_until, during.claim.renewed) == (claim.id, at(61), at(1))
    assert (after.state, after.holder) == ("offered", None)
    assert after.claim is not None
    assert after.claim.by == BERT


def test_progress_renews_the_lease_and_an_older_promise_does_not_shorten_it() -> None:
    story = Story()
    claim = story.claim(BERT, 0, lease=60)
    story.write("progress", BERT, 50, claim=claim.id, lease=60, text="half of it")
    story.write("progress", BERT, 55, claim=claim.id, lease=10)
    story.write("progress", BERT, 56, claim=claim.id, text="says nothing of a lease")
    told = story.told(100)
    assert told.state == "claimed"
    assert told.claim is not None
    assert (told.claim.lease_until, told.claim.renewed) == (at(110), at(50))


def test_a_client_that_was_started_anew_holds_it_as_its_new_process() -> None:
    story = Story()
    claim = story.claim(BERT, 0)
    again = replace(BERT, instance="b2")
    story.write("progress", again, 5, claim=claim.id, lease=60)
    assert story.told().holder == again


def test_progress_by_another_does_not_make_them_the_holder() -> None:
    story = Story()
    claim = story.claim(BERT, 0)
    story.write("progress", CARL, 5, claim=claim.id, lease=60)
    assert story.told().holder == BERT


def test_done_ends_it_and_nothing_after_counts() -> None:
    story = Story()
    claim = story.claim(BERT, 0)
    done = story.write("done", BERT, 10, claim=claim.id, text="It parses.")
    late = story.write("progress", BERT, 11, claim=claim.id, lease=60)
    told = story.told(600)
    assert (told.state, told.holder, told.ended) == ("done", None, done)
    assert told.claim is not None
    assert story.standing(late) == "late"
    assert story.note(late) == "came after codex/reviewer@laptop finished it at 2026-11-22T12:10:00Z"


def test_what_is_given_back_is_open_again_at_once() -> None:
    story = Story()
    claim = story.claim(BERT, 0)
    back = story.write("release", BERT, 10, claim=claim.id, text="no compiler here")
    assert (story.told().state, story.told().claim, story.told().holder) == ("offered", None, None)
    second = story.claim(CARL, 12)
    told = story.told()
    assert (told.state, told.holder, told.term) == ("claimed", CARL, 2)
    assert [story.standing(each) for each in (claim, back, second)] == ["counts"] * 3


def test_a_refusal_by_its_holder_opens_it_for_others_and_is_remembered() -> None:
    story = Story()
    claim = story.claim(BERT, 0)
    story.write("decline", BERT, 10, claim=claim.id, text="not mine")
    story.claim(CARL, 12)
    assert story.told(11, events=story.events[:2]).state == "offered"
    assert story.told().declined_by == (BERT,)


@pytest.mark.parametrize("name", ["codex", "Codex", "reviewer"])
def test_a_refusal_by_whom_it_is_for_ends_it(name: str) -> None:
    story = Story(to=name)
    claim = story.claim(BERT, 0)
    refusal = story.write("decline", BERT, 10, claim=claim.id)
    assert (story.told().state, story.told().ended) == ("declined", refusal)
    unclaimed = Story(to=name)
    refusal = unclaimed.write("decline", BERT, 5, term=0)
    assert (unclaimed.told().state, unclaimed.told().ended) == ("declined", refusal)


def test_a_refusal_without_a_claim_by_one_of_many_leaves_it_open() -> None:
    story = Story()
    story.write("decline", BERT, 5, term=0)
    assert (story.told().state, story.told().declined_by) == ("offered", (BERT,))


def test_an_offer_is_taken_back_while_nobody_holds_it() -> None:
    story = Story()
    gone = story.write("withdraw", ANNA, 5, term=0)
    late = story.write("withdraw", ANNA, 6, term=0)
    assert (story.told().state, story.told().ended) == ("withdrawn", gone)
    assert story.standing(late) == "late"


def test_taking_back_comes_to_nothing_when_a_claim_was_there_that_it_did_not_know_of() -> None:
    story = Story()
    story.claim(BERT, 4)
    gone = story.write("withdraw", ANNA, 5, term=0, step=1)
    assert (story.told().state, story.told().holder) == ("claimed", BERT)
    assert story.standing(gone) == "void"
    assert story.note(gone) == "codex/reviewer@laptop claimed it at 2026-11-22T12:04:00Z"


def test_taking_back_waits_for_a_holder_whose_renewal_it_did_not_know_of() -> None:
    story = Story()
    claim = story.claim(BERT, 0, lease=60)
    story.write("progress", BERT, 50, claim=claim.id, lease=60)
    gone = story.write("withdraw", ANNA, 70, term=1, step=2)
    assert (story.told(80).state, story.standing(gone, 80)) == ("claimed", "void")
    assert (story.told(120).state, story.standing(gone, 120)) == ("withdrawn", "counts")


def test_an_offer_expires_only_while_nobody_holds_it() -> None:
    story = Story(expires=at(20))
    assert [story.told(minute).state for minute in (19, 20)] == ["offered", "expired"]
    story.claim(BERT, 10)
    assert [story.told(minute).state for minute in (30, 80)] == ["claimed", "expired"]


# --- claims against claims ----------------------------------------------------------------------------------------


def test_a_confirmed_claim_voids_a_provisional_one_of_its_term_that_was_earlier() -> None:
    story = Story()
    guess = story.claim(BERT, 1, provisional=True)
    assert story.told(2).holder == BERT
    sure = story.claim(CARL, 5, term=1, step=1)
    work = story.write("done", BERT, 20, claim=guess.id, step=2)
    told = story.told()
    assert (told.state, told.holder) == ("claimed", CARL)
    assert [story.standing(each) for each in (guess, sure, work)] == ["void", "counts", "void"]
    assert story.note(guess) == "lost to gemini@rack, who claimed at 2026-11-22T12:05:00Z"
    assert story.note(work) == "its claim does not count"


def test_a_provisional_claim_that_was_confirmed_is_like_any_other() -> None:
    story = Story()
    guess = story.claim(BERT, 5, provisional=True)
    told = story.told()
    assert told.claim is not None
    assert told.claim.provisional
    other = story.claim(CARL, 1, term=1, step=1, provisional=True)
    assert story.told().holder == CARL
    story.write("confirm", BERT, 8, claim=guess.id)
    told = story.told()
    assert told.holder == BERT
    assert told.claim is not None
    assert not told.claim.provisional
    assert story.standing(other) == "void"


@pytest.mark.parametrize("step", [1, 2])
def test_of_provisional_claims_of_a_term_the_first_by_the_clock_counts(step: int) -> None:
    story = Story()
    later = story.claim(BERT, 5, provisional=True)
    first = story.claim(CARL, 4, term=1, step=step, provisional=True)
    assert story.told().holder == CARL
    assert [story.standing(each) for each in (later, first)] == ["void", "counts"]


def test_of_provisional_claims_of_one_moment_the_lower_id_counts() -> None:
    story = Story()
    low, high = sorted((new_ulid(), new_ulid()))
    story.claim(BERT, 5, provisional=True, id=high)
    story.claim(CARL, 5, term=1, step=1, provisional=True, id=low)
    assert story.told().holder == CARL


@pytest.mark.parametrize("minute", [30, 60])
def test_a_provisional_claim_before_the_end_of_the_lease_is_void(minute: float) -> None:
    story = Story()
    story.claim(BERT, 0, lease=60)
    guess = story.claim(CARL, minute, provisional=True)
    assert (story.told(60).holder, story.told(70).holder) == (BERT, None)
    assert story.note(guess) == "codex/reviewer@laptop held it until 2026-11-22T13:00:00Z"


def test_a_provisional_claim_after_the_end_of_the_lease_counts() -> None:
    story = Story()
    story.claim(BERT, 0, lease=60)
    story.claim(CARL, 61, provisional=True)
    assert story.told(70).holder == CARL


def test_a_renewal_that_a_provisional_claim_did_not_know_of_voids_it() -> None:
    story = Story()
    claim = story.claim(BERT, 0, lease=60)
    guess = story.claim(CARL, 70, provisional=True)
    assert story.told(80).holder == CARL
    story.write("progress", BERT, 50, claim=claim.id, lease=60, step=2)
    assert (story.told(80).holder, story.standing(guess, 80)) == (BERT, "void")


def test_a_provisional_claim_after_a_release_counts_though_the_lease_had_time_left() -> None:
    story = Story()
    claim = story.claim(BERT, 0, lease=600)
    story.write("release", BERT, 10, claim=claim.id)
    story.claim(CARL, 15, provisional=True)
    assert story.told(20).holder == CARL


def test_no_provisional_claim_follows_what_was_done_whenever_that_comes_in() -> None:
    story = Story()
    claim = story.claim(BERT, 0, lease=60)
    guess = story.claim(CARL, 70, provisional=True)
    done = story.write("done", BERT, 55, claim=claim.id, step=2)
    told = story.told(80)
    assert (told.state, told.ended, story.standing(guess, 80)) == ("done", done, "void")
    assert story.note(guess, 80) == "codex/reviewer@laptop finished it at 2026-11-22T12:55:00Z"


def test_no_provisional_claim_takes_what_had_been_withdrawn_before_it() -> None:
    story = Story()
    gone = story.write("withdraw", ANNA, 5, term=0)
    guess = story.claim(BERT, 6, term=1, step=1, provisional=True)
    assert (story.told().state, story.told().ended) == ("withdrawn", gone)
    assert story.note(guess) == "claude-code@desk withdrew it at 2026-11-22T12:05:00Z"
    earlier = story.claim(CARL, 4, term=1, step=1, provisional=True)
    assert (story.told().holder, story.standing(earlier), story.standing(gone)) == (CARL, "counts", "void")


def test_a_void_claim_does_not_bring_a_withdrawn_offer_back() -> None:
    story = Story()
    first = story.claim(BERT, 0)
    story.write("release", BERT, 5, claim=first.id)
    story.write("withdraw", ANNA, 10, term=1)
    story.claim(CARL, 11, step=3, term=2, provisional=True)
    told = story.told()
    assert (told.state, told.term) == ("withdrawn", 2)


def test_done_that_comes_in_after_another_has_claimed_is_shown_and_changes_nothing() -> None:
    story = Story()
    claim = story.claim(BERT, 0, lease=60)
    story.claim(CARL, 70)
    late = story.write("done", BERT, 75, claim=claim.id, step=2)
    told = story.told(80)
    assert (told.state, told.holder, story.standing(late, 80)) == ("claimed", CARL, "late")
    assert story.note(late, 80) == "came after gemini@rack claimed at 2026-11-22T13:10:00Z"
    unknown = story.write("done", BERT, 50, claim=claim.id, step=2)
    told = story.told(80)
    assert (told.state, told.holder, story.standing(unknown, 80)) == ("claimed", CARL, "late")
    assert story.note(unknown, 80) == "was not known yet when gemini@rack claimed at 2026-11-22T13:10:00Z"


def test_what_a_holder_wrote_before_the_next_claim_counts_and_what_came_later_is_late() -> None:
    story = Story()
    claim = story.claim(BERT, 0, lease=60)
    early = story.write("progress", BERT, 10, claim=claim.id)
    story.claim(CARL, 70)
    late = story.write("progress", BERT, 75, claim=claim.id)
    patch = story.write("patch", BERT, 76, claim=claim.id)
    assert [story.standing(each, 80) for each in (early, late, patch)] == ["counts", "late", "late"]


def test_a_claim_of_a_higher_term_goes_before_all_of_lower_ones() -> None:
    story = Story()
    story.claim(BERT, 0, lease=10)
    story.claim(CARL, 20)
    guess = story.claim(ANNA, 15, term=1, step=1, provisional=True)
    assert (story.told(30).holder, story.standing(guess)) == (CARL, "void")


def test_a_patch_changes_nothing() -> None:
    story = Story()
    patch = story.write("patch", ANNA, 1, text="```diff\n```")
    assert (story.told().state, story.standing(patch)) == ("offered", "counts")


# --- damage -------------------------------------------------------------------------------------------------------


def damage_of(story: Story, minute: float = 30) -> list[str]:
    told = story.told(minute)
    assert told.state == "damaged"
    assert (told.claim, told.holder, told.ended) == (None, None, None)
    return [each.problem for each in told.damage]


def test_two_confirmed_claims_of_one_term_are_damage_until_one_is_gone() -> None:
    story = Story()
    first = story.claim(BERT, 1)
    second = story.claim(CARL, 2, term=1, step=1)
    assert damage_of(story) == ["2 confirmed claims of term 1 contradict each other"] * 2
    assert story.told(events=[first]).holder == BERT
    assert story.told(events=[second]).holder == CARL


def test_one_client_that_claimed_twice_at_once_holds_it_once() -> None:
    story = Story()
    story.claim(BERT, 1)
    second = story.claim(replace(BERT, instance="b2"), 2, term=1, step=1)
    assert (story.told().holder, story.standing(second)) == (BERT, "void")


def test_a_term_without_the_one_before_it_is_damage() -> None:
    story = Story()
    story.claim(BERT, 1, term=2)
    assert damage_of(story) == ["it is of term 2, and there is no claim of term 1"]


def test_an_event_of_a_claim_that_is_not_there_is_damage() -> None:
    story = Story()
    story.write("done", BERT, 1, claim=(lost := new_ulid()))
    assert damage_of(story) == [f"its claim {lost!r} is not there"]


def test_a_withdrawal_that_names_a_term_without_claim_is_damage() -> None:
    story = Story()
    story.write("withdraw", ANNA, 1, term=3)
    assert damage_of(story) == ["it names term 3, and there is no claim of that term"]


def test_two_files_with_one_id_are_damage_and_one_event_given_twice_is_not() -> None:
    story = Story()
    claim = story.claim(BERT, 1)
    assert story.told(events=[claim, claim]).holder == BERT
    story.write("patch", BERT, 2, id=claim.id)
    assert set(damage_of(story)) == {f"more than one file has the id {claim.id!r}"}


def test_an_event_of_another_handoff_is_damage() -> None:
    story, other = Story(), Story()
    story.events.append(other.claim(BERT, 1))
    assert len(damage_of(story)) == 1


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"lease_until": None}, "the claim has no 'lease_until'"),
        ({"lease_until": at(1)}, "'lease_until' (2026-11-22T12:01:00Z) is not after its time (2026-11-22T12:01:00Z)"),
        (
            {"lease_until": at(24 * 60 + 2)},
            "'lease_until' (2026-11-23T12:02:00Z) is more than 24 hours after its time (2026-11-22T12:01:00Z)",
        ),
        ({"term": 0}, "'term' of a claim is 0; it must be 1 or more, and at most 1,000,000,000"),
        ({"step": 0}, "'step' is 0; it must be 1 or more, and at most 1,000,000,000"),
        ({"step": -(10**5000)}, "'step' is too long to show; it must be 1 or more, and at most 1,000,000,000"),
    ],
)
def test_a_claim_that_cannot_be_is_damage_and_claims_nothing(given: dict[str, object], problem: str) -> None:
    story = Story()
    claim = story.claim(BERT, 1)
    story.events = [replace(claim, **given)]  # pyright: ignore[reportArgumentType]
    assert damage_of(story) == [problem]
    assert not story.told().steps


def test_a_file_that_could_not_be_read_makes_the_handoff_damaged_and_its_events_are_still_shown() -> None:
    story = Story()
    claim = story.claim(BERT, 1)
    broken = Damage("handoffs/2026/11/x/0002-done-y.md", "it is not YAML")
    told = story.told(damage=[broken])
    assert (told.state, told.damage) == ("damaged", (broken,))
    assert [step.event for step in told.steps] == [claim]


def test_every_order_of_a_whole_story_folds_to_the_same() -> None:
    story = Story(to="codex")
    claim = story.claim(BERT, 1, provisional=True)
    story.write("progress", BERT, 2, claim=claim.id, lease=60)
    story.claim(CARL, 3, term=1, step=1)
    story.write("withdraw", ANNA, 4, term=0, step=1)
    story.write("patch", BERT, 5)
    story.write("decline", BERT, 6, term=1)
    expected = story.told()
    assert all(story.told(events=order) == expected for order in permutations(story.events))
    assert expected.offer.created == NOON


def test_twice_the_events_take_twice_the_work() -> None:
    def calls(many: int) -> int:
        story = Story()
        for minute in range(many):
            story.claim(CARL, minute, term=1, provisional=True, lease=0.5)
            story.claim(CARL, minute, term=2, provisional=True, lease=0.5)
            story.write("withdraw", ANNA, 2_000 + minute, term=0)
            story.write("withdraw", ANNA, 2_000 + minute, term=1)
        counted = 0

        def count(_frame: object, what: str, _value: object) -> None:
            nonlocal counted
            counted += what == "call"

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            story.told()
        finally:
            sys.setprofile(before)
        return counted

    assert calls(200) < 2.5 * calls(100)
