"""Allowances of a memory repo: given, renewed and revoked by a person, synced, and not opened by a remote."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import (
    ALLOWANCES_FILE,
    WAITING_FILE,
    ConfigError,
    InvalidInput,
    NotFound,
    Quarantined,
    RepoReadOnly,
    SecretRefused,
    SyncError,
    parse_allowances,
)
from adaptive_llm_gateway.memory import Allow, Author, MemoryStore

ME = Author("command-line")
# In two pieces, so that no scanner takes this file for a leak.
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
OTHER = "ghp_" + "z9Y8x7W6v5U4t3S2r1Q0" + "p1O2n3M4l5K6j7I8"
WAIT = 60
NOW = datetime(2025, 11, 22, 12, tzinfo=UTC)  # no time to come, which ids of this process would go on from


class Clock:
    """The time that the test's stores have."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fingerprint(store: MemoryStore, secret: str = TOKEN) -> str:
    (finding,) = store.scanner.with_allowed([]).scan(secret)
    return finding.fingerprint


def listed(store: MemoryStore) -> dict[str, str]:
    return {item.allowance.fingerprint: item.state for item in store.allowances()}


def refused(bench: Any, store: MemoryStore, text: str = TOKEN) -> bool:
    with contextlib.suppress(SecretRefused):
        bench.write(store, "Sample", body=f"{text}\n")
        return False
    return True


def in_file(store: MemoryStore) -> Path:
    return store.repo.path / ALLOWANCES_FILE


# --- a person's word ----------------------------------------------------------------------------------


def test_what_a_person_allows_passes_at_once_and_is_committed_with_who_and_why(bench: Any, clock: Clock) -> None:
    store = bench.open(clock=clock)
    print_ = fingerprint(store)
    assert refused(bench, store)
    commits = bench.commits(store)
    done = store.allow(Allow(print_, "of the manual"), ME)
    assert done.outcome == "allowed"
    assert bench.commits(store) == commits + 1
    assert not refused(bench, store)
    (entry,) = parse_allowances(in_file(store).read_text(encoding="utf-8"))
    assert (entry.reason, entry.added, entry.until, entry.kind) == (
        "of the manual", "2025-11-22T12:00:00Z", "2026-11-22", "github-token",
    )  # fmt: skip
    assert entry.by
    message = bench.git(store, "log", "-1", "--format=%B", done.commit)
    assert message.startswith(f"Allow {print_} (github-token): of the manual\n")
    assert "Reason: of the manual\n" in message
    assert f"By: {entry.by}\n" in message
    assert TOKEN not in bench.git(store, "show", done.commit)
    bench.tidy(store)


def test_the_person_whom_git_knows_is_named(bench: Any) -> None:
    store = bench.open()
    bench.git(store, "config", "user.name", "Ada Lovelace")
    bench.git(store, "config", "user.email", "ada@example.org")
    assert store.allow(Allow(fingerprint(store), "a sample"), ME).allowance.by == "Ada Lovelace <ada@example.org>"
    assert store.allow(Allow(fingerprint(store), by="Bo"), ME).allowance.by == "Bo"


def test_an_allowance_ends_while_the_hub_runs(bench: Any, clock: Clock, remote: Path) -> None:
    store = bench.open(clock=clock, remote=str(remote))
    store.allow(Allow(fingerprint(store), "a sample", until="2025-12-01"), ME)
    assert not refused(bench, store)
    assert listed(store) == {fingerprint(store): "ending"}
    store.push().result(WAIT)
    bench.write(store, "Again", body=f"once more {TOKEN}\n")
    clock.now += timedelta(days=10)
    assert refused(bench, store, f"anew {TOKEN}")
    assert listed(store) == {fingerprint(store): "ended"}
    with pytest.raises(SyncError) as caught:  # it waited too long
        store.push().result(WAIT)
    assert caught.value.details["kind"] == "secret_outgoing"
    done = store.allow(Allow(fingerprint(store)), ME)
    assert (done.outcome, done.allowance.reason, done.allowance.until) == ("renewed", "a sample", "2026-12-02")
    store.push().result(WAIT)
    assert not refused(bench, store, f"anew {TOKEN}")


def test_allowing_twice_keeps_one_entry_and_what_the_file_says_beside_it(bench: Any) -> None:
    store = bench.open()
    text = f"# shared\n- fingerprint: {'0' * 16}   # theirs\n  reason: theirs\n# the end\n"
    in_file(store).write_text(text, encoding="utf-8")
    bench.noticed(store, ALLOWANCES_FILE)
    for reason in ("one", "two"):
        store.allow(Allow(fingerprint(store), reason, until="never"), ME)
    now = in_file(store).read_text(encoding="utf-8")
    assert now.startswith(text.removesuffix("# the end\n"))
    assert now.endswith("# the end\n")
    assert [(item.reason, item.until) for item in parse_allowances(now)] == [("theirs", ""), ("two", "")]
    store.revoke_allowance(fingerprint(store), ME)
    assert in_file(store).read_text(encoding="utf-8") == text


def test_what_is_revoked_is_refused_at_once_and_what_is_not_there_is_told(bench: Any) -> None:
    store = bench.open()
    store.allow(Allow(fingerprint(store), "a sample"), ME)
    commit = store.revoke_allowance(fingerprint(store), ME, by="Bo")
    assert refused(bench, store)
    message = bench.git(store, "log", "-1", "--format=%B", commit)
    assert message.startswith(f"Revoke the allowance of {fingerprint(store)} (github-token)\n")
    assert "By: Bo\n" in message
    with pytest.raises(NotFound):
        store.revoke_allowance(fingerprint(store), ME)


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (Allow("0123", "a"), "16 hex digits"),
        (Allow("g" * 16, "a"), "16 hex digits"),
        (Allow("0" * 16), "reason is empty"),
        (Allow("0" * 16, " \n"), "reason is empty"),
        (Allow("0" * 16, "a" * 501), "more than 500"),
        (Allow("0" * 16, "a", until="2025-11-21"), "past"),
        (Allow("0" * 16, "a", until="2025-11-22T12:00:00Z"), "past"),
        (Allow("0" * 16, "a", until="soon"), "neither a date"),
    ],
)
def test_what_cannot_be_allowed_changes_nothing(bench: Any, clock: Clock, wanted: Allow, problem: str) -> None:
    store = bench.open(clock=clock)
    head = store.repo.head()
    with pytest.raises(InvalidInput, match=problem):
        store.allow(wanted, ME)
    assert (store.repo.head(), in_file(store).exists()) == (head, False)


def test_a_reason_that_carries_a_secret_is_refused_also_one_that_is_allowed(bench: Any) -> None:
    store = bench.open()
    store.allow(Allow(fingerprint(store), "a sample"), ME)
    for wanted in (Allow("0" * 16, f"see {TOKEN}"), Allow("0" * 16, "a", by=OTHER), Allow("0" * 16, "a", kind=TOKEN)):
        with pytest.raises(SecretRefused):
            store.allow(wanted, ME)
    assert listed(store) == {fingerprint(store): "in_force"}


def test_a_reason_adds_no_line_of_its_own_to_the_commit(bench: Any) -> None:
    store = bench.open()
    done = store.allow(Allow("0" * 16, "a\n\nAgent: somebody else"), ME)
    assert "\nAgent: somebody else" not in bench.git(store, "log", "-1", "--format=%B", done.commit)


def test_an_edit_by_hand_becomes_a_commit_and_syncs(bench: Any, remote: Path) -> None:
    store = bench.open("one", remote=str(remote))
    in_file(store).write_text(f"- fingerprint: {fingerprint(store)}\n  reason: a sample\n", encoding="utf-8")
    bench.noticed(store, ALLOWANCES_FILE)
    assert not refused(bench, store)
    assert bench.git(store, "log", "-1", "--format=%s", "--", ALLOWANCES_FILE) == f"Edit {ALLOWANCES_FILE}\n"
    store.push().result(WAIT)
    assert ALLOWANCES_FILE in bench.git(remote, "ls-tree", "--name-only", "main")
    in_file(store).unlink()
    bench.noticed(store, ALLOWANCES_FILE)
    assert refused(bench, store, f"more {TOKEN}")
    bench.followed(store)


def test_what_a_crash_left_between_the_file_and_its_commit_is_committed_at_the_next_start(bench: Any) -> None:
    store = bench.open()
    print_ = fingerprint(store)
    store.close()
    in_file(store).write_text(f"- fingerprint: {print_}\n  reason: a sample\n", encoding="utf-8")
    again = bench.open()
    assert again.wait_ready(WAIT)
    assert not refused(bench, again)
    bench.tidy(again)


def test_a_comment_with_a_secret_is_not_committed(bench: Any) -> None:
    store = bench.open()
    head = store.repo.head()
    in_file(store).write_text(f"# {OTHER}\n- fingerprint: {fingerprint(store)}\n  reason: a\n", encoding="utf-8")
    bench.noticed(store, ALLOWANCES_FILE)
    assert store.repo.head() == head
    (notice,) = store.status().notices
    assert "not committed" in notice
    assert OTHER not in notice


def test_with_a_broken_list_nothing_is_allowed_and_all_else_goes_on(bench: Any) -> None:
    store = bench.open()
    store.allow(Allow(fingerprint(store), "a sample"), ME)
    kept = bench.write(store, "Sample", body=f"{TOKEN}\n")
    good = in_file(store).read_text(encoding="utf-8")
    in_file(store).write_text(good + f"- fingerprint: {OTHER}\n  reason: pasted\n", encoding="utf-8")
    bench.noticed(store, ALLOWANCES_FILE)
    with pytest.raises(SecretRefused) as caught:
        bench.write(store, "More", body=f"more {TOKEN}\n")
    assert f"{ALLOWANCES_FILE}', line 7" in (caught.value.hint or "")
    assert OTHER not in str(caught.value.as_dict())
    assert bench.write(store, "Plain", body="nothing to see\n").standing.state == "committed"
    assert store.read(kept.id).record.title == "Sample"
    assert {hit.record.title for hit in store.search("sample").hits} == {"Sample"}
    (notice,) = store.status().notices
    assert "line 7" in notice
    assert OTHER not in notice
    for change in (
        store.allowances,
        lambda: store.allow(Allow("0" * 16, "a"), ME),
        lambda: store.revoke_allowance("0" * 16, ME),
    ):
        with pytest.raises(ConfigError, match="line 7"):
            change()
    in_file(store).write_text(good, encoding="utf-8")
    bench.noticed(store, ALLOWANCES_FILE)
    assert not refused(bench, store, f"more {TOKEN}")
    assert store.status().notices == ()


def test_an_entry_of_a_newer_version_is_told_and_hinders_no_other(bench: Any) -> None:
    store = bench.open()
    text = f"- fingerprint: {'0' * 16}\n  reason: a\n  paths: [docs]\n"
    in_file(store).write_text(text, encoding="utf-8")
    bench.noticed(store, ALLOWANCES_FILE)
    (notice,) = store.status().notices
    assert "line 1" in notice
    with pytest.raises(InvalidInput, match="does not know"):
        store.allow(Allow("0" * 16, "a"), ME)
    store.allow(Allow(fingerprint(store), "a sample"), ME)
    assert in_file(store).read_text(encoding="utf-8").startswith(text)
    assert not refused(bench, store)


def test_a_link_in_the_place_of_the_list_allows_nothing(bench: Any, tmp_path: Path) -> None:
    store = bench.open()
    (tmp_path / "list.yaml").write_text(f"- fingerprint: {fingerprint(store)}\n  reason: a\n", encoding="utf-8")
    in_file(store).symlink_to(tmp_path / "list.yaml")
    bench.noticed(store, ALLOWANCES_FILE)
    assert refused(bench, store)
    assert any("link" in notice for notice in store.status().notices)


# --- two clones ---------------------------------------------------------------------------------------


@pytest.fixture
def pair(bench: Any, remote: Path, clock: Clock) -> tuple[MemoryStore, MemoryStore]:
    one = bench.open("one", remote=str(remote), host="box-one", clock=clock)
    bench.write(one, "Alpha", body="walrus\n")
    one.push().result(WAIT)
    two = bench.open("two", remote=str(remote), host="box-two", clock=clock)
    two.pull().result(WAIT)
    return one, two


def to_each_other(one: MemoryStore, two: MemoryStore) -> None:
    for store in (one, two, one, two):
        store.sync().result(WAIT)


def test_an_allowance_and_its_text_come_in_only_once_a_person_here_has_agreed(bench: Any, pair: Any) -> None:
    one, two = pair
    print_ = fingerprint(one)
    one.allow(Allow(print_, "of the manual", by="Ada"), ME)
    bench.write(one, "Sample", body=f"otter {TOKEN}\n")
    one.push().result(WAIT)
    for _ in range(3):  # nor with the next pulls
        two.pull().result(WAIT)
        bench.noticed(two, ALLOWANCES_FILE)
    assert listed(two) == {print_: "waiting"}
    assert [hit.record.title for hit in two.search("otter").hits] == []
    assert len(two.quarantine().held) == 1
    assert refused(bench, two)
    assert any("1 allowance waits" in notice for notice in two.status().notices)
    commits = bench.commits(two)
    done = two.allow(Allow(print_), ME)
    assert (done.outcome, done.allowance.by, done.commit) == ("agreed", "Ada", None)
    assert bench.commits(two) == commits
    assert [hit.record.title for hit in two.search("otter").hits] == ["Sample"]
    assert not refused(bench, two, f"mine {TOKEN}")
    assert two.status().notices == ()
    two.push().result(WAIT)


def test_what_waits_waits_after_a_restart(bench: Any, pair: Any, remote: Path, clock: Clock) -> None:
    one, two = pair
    one.allow(Allow(fingerprint(one), "a sample"), ME)
    one.push().result(WAIT)
    two.pull().result(WAIT)
    two.close()
    again = bench.open("two", remote=str(remote), host="box-two", clock=clock)
    assert again.wait_ready(WAIT)
    assert listed(again) == {fingerprint(again): "waiting"}
    assert refused(bench, again)
    (again.repo.git_dir / WAITING_FILE).write_text("{", encoding="utf-8")  # and nothing counts where that is lost
    bench.noticed(again, ALLOWANCES_FILE)
    assert refused(bench, again)
    assert any(WAITING_FILE in notice for notice in again.status().notices)


def test_a_repo_that_trusts_its_remote_takes_an_allowance_with_the_look_after_the_pull(
    bench: Any, pair: Any, remote: Path, clock: Clock
) -> None:
    one, _ = pair
    three = bench.open("three", remote=str(remote), host="box-three", clock=clock, remote_allowances="trust")
    three.pull().result(WAIT)
    one.allow(Allow(fingerprint(one), "a sample"), ME)
    bench.write(one, "Sample", body=f"otter {TOKEN}\n")
    one.push().result(WAIT)
    three.pull().result(WAIT)
    assert listed(three) == {fingerprint(three): "in_force"}
    three.pull().result(WAIT)
    assert [hit.record.title for hit in three.search("otter").hits] == ["Sample"]


def test_an_allowance_that_a_remote_has_end_later_counts_as_long_as_was_agreed(
    bench: Any, pair: Any, clock: Clock
) -> None:
    one, two = pair
    print_ = fingerprint(one)
    one.allow(Allow(print_, "a sample", until="2026-01-01"), ME)
    one.push().result(WAIT)
    two.pull().result(WAIT)
    two.allow(Allow(print_), ME)
    one.allow(Allow(print_, until="2035-01-01"), ME)
    one.push().result(WAIT)
    two.pull().result(WAIT)
    (found,) = two.allowances()
    assert (found.state, found.allowance.until, found.counts_until) == ("in_force", "2035-01-01", "2026-01-01")
    clock.now = datetime(2026, 6, 1, tzinfo=UTC)
    assert refused(bench, two)
    assert listed(two) == {print_: "waiting"}
    assert not refused(bench, one)
    two.allow(Allow(print_), ME)
    assert not refused(bench, two)


def test_what_a_remote_revokes_is_revoked_here_with_the_pull(bench: Any, pair: Any) -> None:
    one, two = pair
    print_ = fingerprint(one)
    one.allow(Allow(print_, "a sample"), ME)
    one.push().result(WAIT)
    two.pull().result(WAIT)
    two.allow(Allow(print_), ME)
    assert not refused(bench, two, f"mine {TOKEN}")
    one.revoke_allowance(print_, ME)
    one.push().result(WAIT)
    two.pull().result(WAIT)
    assert listed(two) == {}
    assert refused(bench, two, f"more {TOKEN}")


def test_additions_of_two_people_at_one_time_are_both_kept(bench: Any, pair: Any) -> None:
    one, two = pair
    mine, theirs = fingerprint(one), fingerprint(one, OTHER)
    one.allow(Allow(mine, "one"), ME)
    two.allow(Allow(theirs, "two"), ME)
    to_each_other(one, two)
    assert in_file(one).read_bytes() == in_file(two).read_bytes()
    assert listed(one) == {mine: "in_force", theirs: "waiting"}
    assert listed(two) == {mine: "waiting", theirs: "in_force"}


def test_an_entry_revoked_here_and_renewed_there_is_revoked(bench: Any, pair: Any) -> None:
    one, two = pair
    print_ = fingerprint(one)
    one.allow(Allow(print_, "a sample"), ME)
    to_each_other(one, two)
    two.allow(Allow(print_, "still", until="never"), ME)
    one.revoke_allowance(print_, ME)
    to_each_other(one, two)
    assert listed(one) == listed(two) == {}
    assert in_file(one).read_bytes() == in_file(two).read_bytes()


def test_a_broken_list_of_a_remote_is_held_back_and_the_good_one_counts_on(
    bench: Any, pair: Any, remote: Path, tmp_path: Path
) -> None:
    one, _ = pair
    one.allow(Allow(fingerprint(one), "a sample"), ME)
    one.push().result(WAIT)
    bench.git(remote.parent, "clone", "-q", str(remote), str(tmp_path / "mate"))
    mate = tmp_path / "mate"
    for text in (f"- fingerprint: {OTHER}\n", "broken: [\n"):
        (mate / ALLOWANCES_FILE).write_text(text, encoding="utf-8")
        bench.git(mate, "commit", "-qam", "careless")
        bench.git(mate, "push", "-q", "origin", "HEAD:main")
        one.pull().result(WAIT)
        (held,) = one.quarantine().held.values()
        assert held.path == ALLOWANCES_FILE
        assert OTHER not in held.why
        assert not refused(bench, one, f"still {text[:3]} {TOKEN}")
    with pytest.raises(Quarantined):
        one.allow(Allow("0" * 16, "a"), ME)
    (mate / ALLOWANCES_FILE).write_text(f"- fingerprint: {'0' * 16}\n  reason: mended\n", encoding="utf-8")
    bench.git(mate, "commit", "-qam", "mended")
    bench.git(mate, "push", "-q", "origin", "HEAD:main")
    one.pull().result(WAIT)
    assert listed(one) == {"0" * 16: "waiting"}
    assert refused(bench, one, f"no more {TOKEN}")


def test_what_came_with_a_repo_that_is_only_read_can_be_agreed_to_and_nothing_else(
    bench: Any, pair: Any, remote: Path, clock: Clock
) -> None:
    one, _ = pair
    one.allow(Allow(fingerprint(one), "a sample"), ME)
    bench.write(one, "Sample", body=f"otter {TOKEN}\n")
    one.push().result(WAIT)
    reader = bench.open("reader", remote=str(remote), host="box-three", clock=clock, read_only=True)
    reader.pull().result(WAIT)
    with pytest.raises(RepoReadOnly):
        reader.allow(Allow(fingerprint(one), "mine"), ME)
    reader.allow(Allow(fingerprint(one)), ME)
    assert [hit.record.title for hit in reader.search("otter").hits] == ["Sample"]
    with pytest.raises(RepoReadOnly):
        reader.revoke_allowance(fingerprint(one), ME)
