"""Handoffs over real stores: who gets them, who keeps them, and what a lease, a clock and a crash do to that."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import (
    AlgError,
    HandoffTaken,
    InvalidInput,
    NotFound,
    NotHolder,
    SecretRefused,
    SyncError,
    Unavailable,
)
from adaptive_llm_gateway.handoff import (
    HandoffRules,
    Handoffs,
    LeaseClock,
    NewOffer,
    Outcome,
    Party,
    WorkState,
    _reading,
    _service,
)
from adaptive_llm_gateway.memory import Author, DeleteMemory, MemoryStore, WriteMemory
from adaptive_llm_gateway.memory.testing import temporary_store

TOKEN = "ghp_" + "x7Kq2Lm9Pz4Rt6Wv8Yb1Nc3Df5Gh0Js2Ka4Q"
CLAUDE, CODEX, CURSOR = Party("claude-code"), Party("codex-mcp-client"), Party("cursor")
WAIT = 30.0
NOON = 1_795_348_800.0


class Times:
    """Two clocks that move when they are told to."""

    def __init__(self) -> None:
        self.wall = NOON
        self.steady = 1_000.0

    def pass_by(self, minutes: float) -> None:
        self.wall += minutes * 60
        self.steady += minutes * 60


@dataclass
class Hub:
    """A store and its handoffs; `there` are the processes that are connected."""

    store: MemoryStore
    handoffs: Handoffs
    times: Times
    there: set[str]

    def offer(self, objective: str = "Mend the parser", **given: Any) -> str:
        return self.handoffs.create(NewOffer(objective, **given), CLAUDE).handoff.offer.id

    def state(self, id: str) -> str:
        return self.handoffs.one(id).state


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    with contextlib.ExitStack() as stack:

        def begin(name: str = "one", *, times: Times | None = None, **settings: Any) -> Hub:
            store = stack.enter_context(temporary_store(tmp_path / name, **settings))
            clocks, there = times or Times(), set[str]()
            clock = LeaseClock(wall=lambda: clocks.wall, steady=lambda: clocks.steady)
            rules = HandoffRules(look_again=0.0, confirm_wait=20.0)
            handoffs = Handoffs(store, rules, clock=clock, is_there=lambda party: party.instance in there)
            return Hub(store, handoffs, clocks, there)

        yield begin


@pytest.fixture
def hub(start: Callable[..., Hub]) -> Hub:
    return start()


@pytest.fixture
def bare(tmp_path: Path) -> str:
    path = tmp_path / "remote.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(path)], check=True)
    return str(path)


def join_settling() -> None:
    for thread in threading.enumerate():
        if thread.name == "handoff-settling":
            thread.join(WAIT)


def settle(handoffs: Handoffs) -> None:
    join_settling()  # what a sync has begun goes first
    handoffs.settle()


def raced(runs: Sequence[tuple[Hub, Party, Sequence[str]]]) -> dict[str, list[str]]:
    """Who got what, of parties that claim in threads at once, each in an order of their own."""
    got: dict[str, list[str]] = {id_: [] for id_ in runs[0][2]}
    failed: list[BaseException] = []

    def run(hub: Hub, party: Party, order: Sequence[str]) -> None:
        for id_ in order:
            try:
                hub.handoffs.claim(id_, party)
            except HandoffTaken:
                continue
            except BaseException as error:  # noqa: BLE001 - told below
                failed.append(error)
            else:
                got[id_].append(party.client)

    threads = [threading.Thread(target=run, args=each) for each in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * WAIT)
    assert failed == []
    return got


# -- leases --------------------------------------------------------------------------------------------------------


def test_a_lease_that_runs_out_leaves_the_work_to_the_next_and_the_late_holder_is_told(hub: Hub) -> None:
    id_ = hub.offer()
    hub.handoffs.claim(id_, CODEX)
    hub.times.pass_by(60)
    with pytest.raises(HandoffTaken, match="codex"):  # within the tolerance
        hub.handoffs.claim(id_, CURSOR)
    hub.times.pass_by(3)
    assert hub.state(id_) == "offered"
    assert hub.handoffs.claim(id_, CURSOR).handoff.term == 2
    for late in (
        lambda: hub.handoffs.update(id_, "nearly done", CODEX),
        lambda: hub.handoffs.complete(id_, "done", CODEX),
        lambda: hub.handoffs.claim(id_, CODEX),
    ):
        with pytest.raises((NotHolder, HandoffTaken), match="cursor"):
            late()
    assert hub.handoffs.complete(id_, "done", CURSOR).handoff.state == "done"


def test_progress_renews_a_lease_and_a_shorter_one_does_not_cut_it(hub: Hub) -> None:
    id_ = hub.offer()
    until = hub.handoffs.claim(id_, CODEX).handoff.claim
    hub.times.pass_by(50)
    renewed = hub.handoffs.update(id_, "half", CODEX).handoff.claim
    assert until is not None
    assert renewed is not None
    assert renewed.lease_until - until.lease_until == timedelta(minutes=50)
    again = hub.handoffs.update(id_, "more", CODEX, lease=timedelta(minutes=1)).handoff.claim
    assert again is not None
    assert timedelta() <= again.lease_until - renewed.lease_until <= timedelta(seconds=1)
    hub.times.pass_by(59)
    assert hub.state(id_) == "claimed"


def test_a_holder_that_comes_back_late_goes_on_when_nobody_else_began(hub: Hub) -> None:
    id_ = hub.offer(expires=hub.handoffs.clock.now() + timedelta(minutes=30))
    hub.handoffs.claim(id_, CODEX)
    hub.times.pass_by(90)
    assert hub.state(id_) == "expired"
    with pytest.raises(InvalidInput, match="expired"):
        hub.handoffs.claim(id_, CURSOR)
    done = hub.handoffs.complete(id_, "done after lunch", CODEX)
    assert done.handoff.state == "done"
    assert "claimed again" in " ".join(done.notes)
    assert [step.event.kind for step in done.handoff.steps] == ["claim", "claim", "done"]


@pytest.mark.parametrize("outcome", ["released", "declined"])
@pytest.mark.parametrize("to", [None, "cursor"])
def test_a_holder_whose_lease_ran_out_can_give_the_work_back(hub: Hub, to: str | None, outcome: Outcome) -> None:
    id_ = hub.offer(to=to)
    hub.handoffs.claim(id_, CODEX, anyway=True)
    hub.times.pass_by(90)
    done = hub.handoffs.release(id_, "no compiler here", CODEX, outcome=outcome)
    assert (done.handoff.state, done.handoff.holder) == ("offered", None)
    assert "claimed again" in " ".join(done.notes)
    assert [step.standing for step in done.handoff.steps] == ["counts"] * 3
    with pytest.raises(NotHolder, match="nobody holds it"):
        hub.handoffs.release(id_, "again", CODEX)
    assert hub.handoffs.claim(id_, CURSOR).handoff.state == "claimed"


def test_a_clock_that_is_set_forward_takes_nobodys_lease(hub: Hub) -> None:
    id_ = hub.offer()
    hub.handoffs.claim(id_, CODEX)
    hub.times.wall += 26 * 3600
    assert hub.state(id_) == "claimed"
    with pytest.raises(HandoffTaken):
        hub.handoffs.claim(id_, CURSOR)
    assert hub.handoffs.complete(id_, "done", CODEX).handoff.state == "done"


def test_a_clock_that_is_set_back_holds_work_up_no_longer_than_a_lease(hub: Hub) -> None:
    id_ = hub.offer()
    hub.handoffs.claim(id_, CODEX)
    hub.times.wall -= 26 * 3600
    assert hub.state(id_) == "claimed"
    hub.times.pass_by(63)
    assert hub.state(id_) == "offered"
    assert hub.handoffs.claim(id_, CURSOR).handoff.state == "claimed"
    assert hub.handoffs.complete(id_, "done", CURSOR).handoff.state == "done"


@pytest.mark.parametrize("minutes", [0, 0.5, 1441, -5])
def test_a_lease_that_cannot_be_is_refused_before_anything_is_claimed(hub: Hub, minutes: float) -> None:
    id_ = hub.offer()
    with pytest.raises(InvalidInput, match="lease"):
        hub.handoffs.claim(id_, CODEX, lease=timedelta(minutes=minutes))
    assert hub.handoffs.one(id_).steps == ()


# -- who may -------------------------------------------------------------------------------------------------------


def test_a_holder_is_one_process_until_it_is_gone(hub: Hub) -> None:
    first, second, third = (replace(CLAUDE, instance=name) for name in ("1-a", "2-b", "3-c"))
    hub.there |= {"1-a", "2-b", "3-c"}
    id_ = hub.offer()
    hub.handoffs.claim(id_, first)
    with pytest.raises(HandoffTaken):
        hub.handoffs.claim(id_, second)
    hub.there.remove("1-a")
    assert hub.handoffs.claim(id_, second).again
    with pytest.raises(HandoffTaken):  # it is the second one's now, and that lives
        hub.handoffs.claim(id_, third)
    assert hub.handoffs.complete(id_, "done", second).handoff.state == "done"


def test_of_many_threads_that_claim_at_once_one_gets_it(hub: Hub) -> None:
    ids = [hub.offer(f"Work {number}") for number in range(5)]
    parties = [Party(f"client-{number}") for number in range(8)]
    got = raced([(hub, party, ids) for party in parties])
    assert [len(names) for names in got.values()] == [1] * 5
    for id_, names in got.items():
        holder = hub.handoffs.one(id_).holder
        assert holder is not None
        assert [holder.client] == names


def test_what_is_done_declined_or_withdrawn_cannot_be_claimed(hub: Hub) -> None:
    done, declined, withdrawn = hub.offer("A"), hub.offer("B", to="codex"), hub.offer("C")
    hub.handoffs.claim(done, CODEX)
    hub.handoffs.complete(done, "", CODEX)
    hub.handoffs.release(declined, "I know no Perl", CODEX, outcome="declined")
    hub.handoffs.release(withdrawn, "not needed", CLAUDE, outcome="withdrawn")
    for id_, state in ((done, "done"), (declined, "declined"), (withdrawn, "withdrawn")):
        assert hub.state(id_) == state
        with pytest.raises(InvalidInput):
            hub.handoffs.claim(id_, CURSOR)
    with pytest.raises(NotFound, match="open"):
        hub.handoffs.claim(None, CURSOR)


def test_only_who_offered_it_withdraws_it_and_only_while_nobody_holds_it(hub: Hub) -> None:
    id_ = hub.offer()
    with pytest.raises(InvalidInput, match="claude-code"):
        hub.handoffs.release(id_, "", CURSOR, outcome="withdrawn")
    hub.handoffs.claim(id_, CODEX)
    with pytest.raises(HandoffTaken):
        hub.handoffs.release(id_, "", CLAUDE, outcome="withdrawn")
    hub.handoffs.release(id_, "out of time", CODEX)
    assert hub.handoffs.release(id_, "", CLAUDE, outcome="withdrawn").handoff.state == "withdrawn"


# -- what is written -----------------------------------------------------------------------------------------------


def test_a_secret_anywhere_leaves_nothing_behind(hub: Hub) -> None:
    before = hub.store.repo.head()
    for bad in (
        NewOffer(f"use {TOKEN}"),
        NewOffer("x", next_action=f"use {TOKEN}"),
        NewOffer("x", open_questions=(TOKEN,)),
        NewOffer("x", constraints=(TOKEN,)),
        NewOffer("x", state=TOKEN),
        NewOffer("x", patch=f"diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+token = '{TOKEN}'\n"),
        NewOffer("x", work=WorkState(branch=TOKEN)),
    ):
        with pytest.raises(SecretRefused) as caught:
            hub.handoffs.create(bad, CLAUDE)
        assert TOKEN not in str(caught.value)
        done = hub.handoffs.create(replace(bad, redact=True), CLAUDE)
        hub.store.write(DeleteMemory(Author("test"), done.handoff.offer.id))
    assert hub.store.flush(WAIT)
    assert before is not None
    log = subprocess.run(
        ["git", "-C", str(hub.store.repo.path), "log", "-p", "--all"], capture_output=True, text=True, check=True
    ).stdout
    assert "[redacted:github-token]" in log
    assert TOKEN not in log


def test_a_title_that_is_cut_within_a_secret_has_nothing_of_it(hub: Hub) -> None:
    new = NewOffer("a/" * 88 + TOKEN, redact=True)
    for done in (hub.handoffs.create(new, CLAUDE), *(hub.handoffs.checkpoint(new, CLAUDE) for _ in range(2))):
        assert TOKEN[:12] not in hub.store.read(done.handoff.offer.id).text


def test_an_event_is_changed_by_no_write_and_a_hand_made_impossible_one_is_damage(hub: Hub) -> None:
    id_ = hub.offer()
    claimed = hub.handoffs.claim(id_, CODEX).handoff
    event = claimed.steps[0].event
    for request in (
        WriteMemory(Author("test"), id=event.id, fields={"term": 7}),
        WriteMemory(Author("test"), id=event.id, body="mine"),
        DeleteMemory(Author("test"), event.id),
    ):
        with pytest.raises(InvalidInput, match="written once"):
            hub.store.write(request)
    path = hub.store.repo.path / event.path
    text = path.read_text(encoding="utf-8")
    for broken in (
        text.replace("term: 1", "term: -3"),
        text.replace("event: claim", "event: conquer"),
        text.replace("lease_until: 2", "lease_until: 1"),
        text.replace(f"handoff: {id_}", "handoff: nobody"),
        text.replace("title:", "title: [", 1),
        "---\nid: [\n---\n",
        "no front matter at all\n",
    ):
        assert broken != text
        path.write_text(broken, encoding="utf-8")
        hub.store._edited({event.path})  # pyright: ignore[reportPrivateUsage]
        assert hub.store.flush(WAIT)
        found = hub.handoffs.one(id_)
        assert found.state == "damaged", broken
        assert event.path in [item.path for item in found.damage]
        with pytest.raises(InvalidInput, match="damaged"):
            hub.handoffs.claim(id_, CURSOR)
        assert path.read_text(encoding="utf-8").endswith(broken)  # what has no front matter is given one
    path.write_text(text, encoding="utf-8")
    hub.store._edited({event.path})  # pyright: ignore[reportPrivateUsage]
    assert hub.store.flush(WAIT)
    assert hub.state(id_) == "claimed"


def test_a_checkpoint_takes_the_place_of_the_one_before_it_until_somebody_claims_it(hub: Hub) -> None:
    first = hub.handoffs.checkpoint(NewOffer("Mend", session_id="s1", state="one file"), CLAUDE)
    other = hub.handoffs.checkpoint(NewOffer("Else", session_id="s2"), CLAUDE)
    second = hub.handoffs.checkpoint(NewOffer("Mend the parser", session_id="s1", state="two files"), CLAUDE)
    assert (first.replaced, other.replaced, second.replaced) == (False, False, True)
    assert first.handoff.offer.id == second.handoff.offer.id != other.handoff.offer.id
    offer = hub.handoffs.one(first.handoff.offer.id).offer
    assert (offer.objective, offer.state.strip(), offer.checkpoint) == ("Mend the parser", "two files", True)
    hub.handoffs.claim(offer.id, CODEX)
    third = hub.handoffs.checkpoint(NewOffer("Mend the parser", session_id="s1", state="three files"), CLAUDE)
    assert third.handoff.offer.id != offer.id


def test_of_a_checkpoint_nothing_stays_that_the_next_one_does_not_have(hub: Hub) -> None:
    decided = hub.store.write(WriteMemory(Author("test"), title="no new library", type="decision")).id
    work = WorkState("/src", "https://git.example.org/a.git", "main", "5" * 40, ("M a.py", "M b.py"), 2)
    diff = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+x\n"
    full = NewOffer(
        "Mend",
        session_id="s1",
        state="one file",
        title="Mend it",
        next_action="Run the tests",
        open_questions=("why?",),
        constraints=("no new library",),
        decisions=(decided,),
        to="codex",
        priority="high",
        expires=hub.handoffs.clock.now() + timedelta(days=1),
        project="compiler",
        tags=("parser",),
        work=work,
        patch=diff,
    )
    first = hub.handoffs.checkpoint(full, CLAUDE).handoff
    carried = hub.handoffs.patch_of(first)
    assert carried is not None
    assert carried.text.strip()
    (listed,) = hub.handoffs.every()
    assert [step.event.text for step in listed.steps] == [""]  # no list keeps what may be megabytes
    assert hub.handoffs.patch_of(listed) == carried
    same = hub.handoffs.checkpoint(full, CLAUDE).handoff
    assert [step.event.kind for step in same.steps] == ["patch"]
    second = hub.handoffs.checkpoint(NewOffer("Mend", session_id="s1"), CLAUDE).handoff
    assert second.offer.id == first.offer.id
    bare = hub.handoffs.checkpoint(NewOffer("Mend", session_id="s2"), CLAUDE).handoff
    of_file = {"id": "", "created": first.offer.created, "path": "", "version": "", "session_id": None}
    assert replace(second.offer, **of_file) == replace(bare.offer, **of_file)
    assert hub.handoffs.patch_of(second) is None
    assert hub.handoffs.patch_of(hub.handoffs.checkpoint(full, CLAUDE).handoff) is not None


def test_an_offer_whose_patch_cannot_be_kept_is_made_and_says_so(start: Callable[..., Hub]) -> None:
    hub = start(max_body_bytes=4_000)
    small, large = ("diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -0,0 +1 @@\n+" + "x" * n + "\n" for n in (10, 9_000))
    done = hub.handoffs.create(NewOffer("Mend", patch=large), CLAUDE)
    assert "the patch could not be kept" in " ".join(done.notes)
    assert (done.handoff.state, done.result.standing.state) == ("offered", "committed")
    assert hub.handoffs.patch_of(done.handoff) is None
    assert hub.handoffs.create(NewOffer("Mend", patch=small), CLAUDE).notes == ()
    first = hub.handoffs.checkpoint(NewOffer("Mend", session_id="s1", patch=small), CLAUDE).handoff
    assert hub.handoffs.patch_of(first) is not None
    second = hub.handoffs.checkpoint(NewOffer("Mend", session_id="s1", patch=large), CLAUDE)
    assert second.replaced
    assert "the patch could not be kept" in " ".join(second.notes)
    assert hub.handoffs.patch_of(second.handoff) is None


def test_a_store_that_does_not_get_to_it_is_said_in_words(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = hub.offer()
    event = hub.handoffs.claim(id_, CODEX).handoff.steps[0].event
    monkeypatch.setattr(_service, "_SAVE_SECONDS", 0.01)
    monkeypatch.setattr(_reading, "_FLUSH_SECONDS", 0.01)
    go_on = threading.Event()
    waiting = hub.store._writer.run(lambda: go_on.wait(WAIT))  # pyright: ignore[reportPrivateUsage]
    try:
        with pytest.raises(Unavailable, match="may still be"):
            hub.handoffs.update(id_, "half", CODEX)
        path = hub.store.repo.path / event.path
        path.with_name("0009-claim-00000000.md").write_text("new", encoding="utf-8")
        with pytest.raises(Unavailable, match="busy"):
            hub.handoffs.one(id_)
    finally:
        go_on.set()
        assert waiting.result(WAIT)


def test_ids_of_what_is_no_handoff_or_not_there_are_named(hub: Hub) -> None:
    note = hub.store.write(WriteMemory(Author("test"), title="a note")).id
    with pytest.raises(InvalidInput, match="note"):
        hub.handoffs.one(note)
    with pytest.raises(NotFound):
        hub.handoffs.claim("01ARZ3NDEKTSV4RRFFQ69G5FAV", CODEX)
    with pytest.raises(NotFound):
        hub.handoffs.create(NewOffer("x", decisions=("01ARZ3NDEKTSV4RRFFQ69G5FAV",)), CLAUDE)
    id_ = hub.offer()
    event = hub.handoffs.claim(id_[-8:], CODEX).handoff.steps[0].event
    assert hub.handoffs.one(event.id).offer.id == id_
    with pytest.raises(InvalidInput, match="objective"):
        hub.handoffs.create(NewOffer("  \n "), CLAUDE)


def test_an_event_that_names_what_is_no_handoff_makes_none_of_it(hub: Hub) -> None:
    note = hub.store.write(WriteMemory(Author("test"), title="a note")).id
    id_ = hub.offer()
    event = hub.handoffs.claim(id_, CODEX).handoff.steps[0].event
    path = hub.store.repo.path / event.path
    path.write_text(path.read_text(encoding="utf-8").replace(f"handoff: {id_}", f"handoff: {note}"), encoding="utf-8")
    hub.store._edited({event.path})  # pyright: ignore[reportPrivateUsage]
    assert hub.store.flush(WAIT)
    for given in (event.id, note):
        with pytest.raises(AlgError, match=note):
            hub.handoffs.one(given)


# -- a remote ------------------------------------------------------------------------------------------------------


def test_two_hubs_race_for_the_same_work_and_one_gets_each(start: Callable[..., Hub], bare: str) -> None:
    one, two = start("one", remote=bare), start("two", remote=bare)
    ids = [one.offer(f"Work {number}") for number in range(6)]
    one.store.push().result(WAIT)
    two.store.pull().result(WAIT)
    back = ids[::-1]
    won = raced([(one, Party("a"), ids), (two, Party("b"), back), (one, Party("c"), back), (two, Party("d"), ids)])
    assert [len(names) for names in won.values()] == [1] * 6
    for hub in (one, two):
        hub.store.pull().result(WAIT)
        for id_, names in won.items():
            found = hub.handoffs.one(id_)
            assert found.holder is not None
            assert ([found.holder.client], len(found.steps)) == (names, 1)


def test_of_two_machines_made_from_one_image_one_gets_the_work(
    start: Callable[..., Hub], tmp_path: Path, bare: str
) -> None:
    one = start("one", remote=bare, host="first")
    (tmp_path / "two").mkdir()
    shutil.copy(tmp_path / "one" / "hub-name", tmp_path / "two" / "hub-name")
    two = start("two", remote=bare, host="second")
    assert one.store.hub_name == two.store.hub_name
    id_ = one.offer()
    one.handoffs.claim(id_, CODEX)
    two.store.pull().result(WAIT)
    with pytest.raises(HandoffTaken, match="codex-mcp-client@first"):
        two.handoffs.claim(id_, CODEX)
    with pytest.raises(NotHolder, match="codex-mcp-client@first"):
        two.handoffs.complete(id_, "done", CODEX)
    assert one.handoffs.claim(id_, CODEX).again


def test_an_end_that_the_remote_cannot_take_now_is_written_here_and_said(start: Callable[..., Hub], bare: str) -> None:
    hub = start("one", remote=bare, push_after_write=False)
    id_ = hub.offer()
    hub.handoffs.claim(id_, CODEX)
    away = Path(bare).rename(Path(bare).with_name("away.git"))
    done = hub.handoffs.complete(id_, "done", CODEX)
    assert done.handoff.state == "done"
    assert "not confirmed" in " ".join(done.notes)
    assert done.result.standing.sync.state in ("pending", "failed")
    with pytest.raises(SyncError, match="remote"):
        hub.handoffs.claim(hub.offer("Another"), CODEX)
    away.rename(bare)
    hub.store.push().result(WAIT)
    other = start("two", remote=bare)
    other.store.pull().result(WAIT)
    assert other.state(id_) == "done"


@pytest.mark.parametrize("kind", ["other", "unknown", "index_lock", "unsafe_incoming"])
def test_what_a_holder_finishes_is_kept_whatever_the_remote_says(
    start: Callable[..., Hub], bare: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = start("one", remote=bare)
    id_ = hub.offer()
    hub.handoffs.claim(id_, CODEX)

    def refuses(*_: object, **__: object) -> Any:
        raise SyncError("the remote says 429", kind=kind)

    monkeypatch.setattr(hub.handoffs, "_published", refuses)
    done = hub.handoffs.complete(id_, "all of it", CODEX)
    assert (done.handoff.state, done.handoff.steps[-1].event.text.strip()) == ("done", "all of it")
    assert "429" in " ".join(done.notes)


def test_a_holder_whose_lease_ran_out_out_of_reach_goes_on_provisionally(start: Callable[..., Hub], bare: str) -> None:
    hub = start("one", remote=bare)
    id_ = hub.offer()
    hub.handoffs.claim(id_, CODEX)
    Path(bare).rename(Path(bare).with_name("away.git"))
    hub.times.pass_by(90)
    done = hub.handoffs.update(id_, "half of it", CODEX)
    assert done.handoff.claim is not None
    assert (done.handoff.state, done.handoff.term, done.handoff.claim.provisional) == ("claimed", 2, True)
    hub.times.pass_by(90)
    assert hub.handoffs.complete(id_, "all of it", CODEX).handoff.state == "done"


def test_a_holder_who_finished_out_of_reach_while_another_claimed_is_told(start: Callable[..., Hub], bare: str) -> None:
    times = Times()
    one, two = start("one", remote=bare, times=times), start("two", remote=bare, times=times)
    id_ = one.offer()
    one.handoffs.claim(id_, CODEX)
    away = Path(bare).rename(Path(bare).with_name("away.git"))
    times.pass_by(50)
    one.handoffs.update(id_, "half of it", CODEX)
    away.rename(bare)
    times.pass_by(25)
    two.store.pull().result(WAIT)
    assert two.handoffs.claim(id_, CURSOR).handoff.term == 2
    Path(bare).rename(away)
    one.handoffs.update(id_, "nearly all of it", CODEX)
    one.handoffs.complete(id_, "all of it", CODEX)
    assert one.handoffs.lost(CODEX) == []
    away.rename(bare)
    one.store.push().result(WAIT)
    settle(one.handoffs)
    assert one.state(id_) == "claimed"
    told = one.handoffs.lost(CODEX)
    assert len(told) == 2
    assert all(id_ in loss and "too late" in loss for loss in told)
    assert one.handoffs.lost(CODEX) == []


def test_a_checkpoint_that_another_machine_has_claimed_is_not_replaced(start: Callable[..., Hub], bare: str) -> None:
    one, two = start("one", remote=bare), start("two", remote=bare)

    def checkpoint(objective: str) -> str:
        return one.handoffs.checkpoint(NewOffer(objective, session_id="s1"), CLAUDE).handoff.offer.id

    first = checkpoint("Nest quotes")
    one.store.push().result(WAIT)
    two.store.pull().result(WAIT)
    two.handoffs.claim(first, CODEX)
    second = checkpoint("Escape them")
    assert first != second
    assert (one.state(first), one.handoffs.one(first).offer.objective) == ("claimed", "Nest quotes")
    assert one.state(second) == "offered"

    away = Path(bare).rename(Path(bare).with_name("away.git"))
    third = checkpoint("Out of reach")
    assert third not in (first, second)
    assert checkpoint("Still out of reach") == third
    away.rename(bare)
    assert checkpoint("Back") == third


def test_a_remote_that_did_not_answer_is_left_alone_for_a_while_unless_something_reached_it(
    start: Callable[..., Hub], bare: str
) -> None:
    hub = start("one", remote=bare)
    handoffs = Handoffs(hub.store, HandoffRules(look_again=3600.0))
    first = handoffs.look()
    assert first is not None
    assert first.error is None
    away = Path(bare).rename(Path(bare).with_name("away.git"))
    failed = handoffs.look()
    assert failed is not None
    assert failed.error
    assert failed.at == first.at
    away.rename(bare)
    assert handoffs.look() == failed
    hub.store.pull().result(WAIT)
    again = handoffs.look()
    assert again is not None
    assert again.error is None


def test_a_claim_that_does_not_count_once_it_is_written_is_no_success(
    start: Callable[..., Hub], bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = start("one", remote=bare, push_after_write=False), start("two", remote=bare, push_after_write=False)
    id_ = one.offer()
    one.store.push().result(WAIT)
    two.store.pull().result(WAIT)
    one.handoffs.claim(id_, CODEX)
    away = Path(bare).rename(Path(bare).with_name("away.git"))
    submit = two.store.submit

    def late(request: Any) -> Any:
        away.rename(bare)  # the remote can be reached again while the provisional claim is being written
        two.store.pull().result(WAIT)
        return submit(request)

    monkeypatch.setattr(two.store, "submit", late)
    with pytest.raises(HandoffTaken, match="codex-mcp-client"):
        two.handoffs.claim(id_, CURSOR, provisional=True)
    holder = two.handoffs.one(id_).holder
    assert holder is not None
    assert holder.client == CODEX.client


def test_where_steps_or_terms_have_come_to_their_limit_nothing_is_written(hub: Hub) -> None:
    id_ = hub.offer()
    event = hub.handoffs.claim(id_, CODEX).handoff.steps[0].event
    path = hub.store.repo.path / event.path
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("step: 1", "step: 1000000000"), encoding="utf-8")
    hub.store._edited({event.path})  # pyright: ignore[reportPrivateUsage]
    assert hub.store.flush(WAIT)
    for write in (
        lambda: hub.handoffs.update(id_, "half", CODEX),
        lambda: hub.handoffs.complete(id_, "done", CODEX),
        lambda: hub.handoffs.claim(id_, CODEX),
    ):
        with pytest.raises(InvalidInput, match="1,000,000,000"):
            write()
    found = hub.handoffs.one(id_)
    assert (found.state, len(found.steps)) == ("claimed", 1)


class Silence:
    """A remote that takes every connection and says nothing, until it is let go: then it hangs up on everybody."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"git://127.0.0.1:{self._socket.getsockname()[1]}/memory.git"
        self.came = threading.Semaphore(0)
        self.count = 0
        self._held: list[socket.socket] = []
        self._over = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.count += 1
            self._held.append(connection)
            self.came.release()
            if self._over.is_set():
                connection.close()

    def let_go(self) -> None:
        self._over.set()
        for connection in list(self._held):
            connection.close()

    def close(self) -> None:
        self.let_go()
        with contextlib.suppress(OSError):  # what waits in `accept` is woken
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def silence() -> Iterator[Silence]:
    remote = Silence()
    yield remote
    remote.close()


def test_a_remote_that_hangs_while_many_look_holds_up_no_work(start: Callable[..., Hub], silence: Silence) -> None:
    hub = start("one", remote=silence.address)
    rules = HandoffRules(remote_wait=0.05, look_again=0.0, confirm_wait=0.1)
    handoffs = Handoffs(hub.store, rules, is_there=lambda _: False)
    done, given = (handoffs.create(NewOffer(name), CLAUDE).handoff.offer.id for name in ("Mend", "Polish"))
    for _ in range(10):
        looked = handoffs.look()
        assert looked is not None
        assert "did not answer" in str(looked.error)
    assert silence.came.acquire(timeout=WAIT)  # the first look's pull is there, and hangs
    with pytest.raises(SyncError, match="nothing was sent") as caught:
        handoffs.claim(done, CODEX)
    assert caught.value.details["kind"] == "timeout"
    assert "provisionally" in (caught.value.hint or "")
    for id_ in (done, given):
        claimed = handoffs.claim(id_, CODEX, provisional=True)
        assert claimed.handoff.claim is not None
        assert claimed.handoff.claim.provisional
    assert handoffs.complete(done, "Mended.", CODEX).handoff.state == "done"
    assert handoffs.release(given, "No time.", CODEX).handoff.state == "offered"
    assert handoffs.settle() == 0
    silence.let_go()
    with pytest.raises(SyncError):
        hub.store.pull().result(WAIT)
    assert silence.count == 2, "what nobody waits for any more was carried out all the same"


def test_of_two_provisional_claims_the_earlier_one_is_settled_on(start: Callable[..., Hub], bare: str) -> None:
    one, two = start("one", remote=bare, push_after_write=False), start("two", remote=bare, push_after_write=False)
    id_ = one.offer()
    one.store.push().result(WAIT)
    two.store.pull().result(WAIT)
    away = Path(bare).rename(Path(bare).with_name("away.git"))
    two.times.pass_by(1)
    assert one.handoffs.claim(id_, CODEX, provisional=True).handoff.state == "claimed"
    assert two.handoffs.claim(id_, CURSOR, provisional=True).handoff.state == "claimed"
    away.rename(bare)
    # The later one syncs first, and waits to be confirmed; then the earlier one does.
    with contextlib.suppress(AlgError):
        two.store.push().result(WAIT)
    two.handoffs.settle()
    one.store.push().result(WAIT)
    one.handoffs.settle()
    for hub in (one, two):
        hub.store.pull().result(WAIT)
    holders = {str(hub.handoffs.one(id_).holder) for hub in (one, two)}
    assert len(holders) == 1
    found = one.handoffs.one(id_)
    assert found.claim is not None
    assert not found.claim.provisional
    assert sorted(step.standing for step in found.steps if step.event.kind == "claim") == ["counts", "void"]
    loser = (two, CURSOR) if found.claim.by.client == CODEX.client else (one, CODEX)
    settle(loser[0].handoffs)
    told = loser[0].handoffs.lost()
    assert len(told) == 1
    assert f"lost to {found.claim.by.client}" in told[0]
    assert loser[0].handoffs.lost(CLAUDE) == []
    assert loser[0].handoffs.lost(loser[1]) == told
    assert loser[0].handoffs.lost(loser[1]) == loser[0].handoffs.lost() == []
    with pytest.raises(NotHolder):
        loser[0].handoffs.update(id_, "half", loser[1])


def test_provisional_claims_are_settled_though_an_attempt_died(
    start: Callable[..., Hub], bare: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = start("one", remote=bare, push_after_write=False)
    id_ = hub.offer()
    away = Path(bare).rename(Path(bare).with_name("away.git"))
    hub.handoffs.claim(id_, CODEX, provisional=True)

    def dies(_: object) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(_reading.Reading, "every", dies)
        with pytest.raises(RuntimeError):
            hub.handoffs.settle()
    away.rename(bare)
    hub.store.push().result(WAIT)
    hub.store.pull().result(WAIT)  # the listeners to the push were called before it began
    join_settling()
    claim = hub.handoffs.one(id_).claim
    assert claim is not None
    assert not claim.provisional


def test_a_loss_is_told_once_also_by_a_hub_that_was_started_since_while_it_matters(
    start: Callable[..., Hub], bare: str
) -> None:
    one, two = start("one", remote=bare, push_after_write=False), start("two", remote=bare, push_after_write=False)
    id_ = one.offer()
    one.store.push().result(WAIT)
    two.store.pull().result(WAIT)
    away = Path(bare).rename(Path(bare).with_name("away.git"))
    two.handoffs.claim(id_, CURSOR, provisional=True)
    away.rename(bare)
    one.handoffs.claim(id_, CODEX)
    two.times.pass_by(90)
    two.store.pull().result(WAIT)
    settle(two.handoffs)
    assert "lost to codex" in " ".join(two.handoffs.lost())  # the hub that wrote it tells it late, too

    def restarted(minutes: float) -> Handoffs:
        clock = LeaseClock(wall=lambda: NOON + minutes * 60, steady=lambda: 1_000.0)
        handoffs = Handoffs(two.store, HandoffRules(), clock=clock)
        settle(handoffs)
        return handoffs

    assert restarted(90).lost() == []
    again = restarted(30)
    assert "lost to codex" in " ".join(again.lost())
    assert len(again.lost(CURSOR)) == 1
    assert again.lost() == []
    settle(again)
    assert again.lost() == []
