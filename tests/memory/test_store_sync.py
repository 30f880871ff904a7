"""Two stores and a remote: what one writes the other finds, and the standing is always the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import SyncError
from adaptive_llm_gateway.memory import AppendSession, Author, DeleteMemory, Filters, Link, WriteMemory

ME = Author("test-client")
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


@pytest.fixture
def pair(bench: Any, remote: Path) -> tuple[Any, Any]:
    """Two stores with one remote, the second up to date with the first."""
    one = bench.open("one", remote=str(remote), host="box-one")
    bench.write(one, "First")
    one.push().result(60)
    two = bench.open("two", remote=str(remote), host="box-two")
    two.pull().result(60)
    return one, two


def exchange(one: Any, two: Any) -> None:
    """Bring both up to each other."""
    one.push().result(60)
    two.push().result(60)
    one.pull().result(60)


def no_markers(*stores: Any) -> None:
    for store in stores:
        for record in store.records():
            text = store.read(record.id).text
            assert "<<<<<<<" not in text
            assert ">>>>>>>" not in text


def test_a_write_is_pending_and_then_pushed_by_itself(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote), push_after_write=True, push_delay=0.0)
    done = bench.write(store, "First")
    assert done.standing.sync.state in ("pending", "pushed")
    bench.poll(lambda: store.sync_status().state == "pushed", "the push")
    assert done.standing.commit in bench.git(remote, "rev-list", "main")
    assert store.sync_status().ahead == 0
    # The reference that says so moves a moment before the time is noted.
    bench.poll(lambda: store.sync_status().last_success is not None, "the time of the push")


def test_nothing_is_pushed_unless_that_is_asked(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote))
    bench.write(store, "First")
    done = bench.write(store, "Second")
    assert done.standing.sync.state == "pending"
    assert done.standing.sync.ahead >= 2
    outcome = store.push().result(60)
    assert outcome.pushed >= 2
    assert outcome.status.state == store.sync_status().state == "pushed"


def test_without_a_remote_a_push_says_so(bench: Any) -> None:
    store = bench.open()
    with pytest.raises(SyncError) as caught:
        store.push().result(60)
    assert caught.value.details["kind"] == "no_remote"
    assert bench.write(store, "Works all the same").standing.sync.state == "no_remote"


def test_a_remote_that_is_gone_is_told_in_gits_words_until_it_is_back(bench: Any, remote: Path) -> None:
    store = bench.open(remote=str(remote), push_after_write=True, push_delay=0.0)
    bench.write(store, "First")
    bench.poll(lambda: store.sync_status().state == "pushed", "the push")
    away = remote.with_name("away.git")
    remote.rename(away)
    bench.write(store, "Second")
    status = bench.poll(lambda: (found := store.sync_status()).state == "failed" and found, "the failure")
    assert status.error
    assert "remote.git" in status.error
    assert status.ahead == 1
    done = bench.write(store, "Third")
    assert done.standing.state == "committed"
    assert done.standing.sync.state == "failed"
    away.rename(remote)
    store.push().result(60)
    assert store.sync_status().state == "pushed"
    assert store.sync_status().error is None


def test_what_one_writes_changes_and_deletes_the_other_finds(bench: Any, pair: tuple[Any, Any]) -> None:
    one, two = pair
    kept = bench.write(one, "Kept", body="walrus\n")
    gone = bench.write(one, "Gone")
    exchange(one, two)
    assert [hit.record.id for hit in two.search("walrus").hits] == [kept.id]
    bench.update(two, kept.id, body="otter\n")
    two.write(DeleteMemory(ME, gone.id))
    exchange(two, one)
    assert one.read(kept.id).record.body == "otter\n"
    assert one.record(gone.id) is None
    assert one.history(gone.id).deleted
    bench.tidy(one)
    bench.tidy(two)


def test_an_edit_by_hand_that_nobody_noticed_is_part_of_the_next_push(bench: Any, pair: tuple[Any, Any]) -> None:
    one, two = pair
    made = bench.write(one, "A", body="one\n")
    file = bench.file(one, made.id)
    file.write_bytes(file.read_bytes().replace(b"one", b"by hand"))
    exchange(one, two)
    assert two.read(made.id).record.body == "by hand\n"


def test_what_plain_git_brought_and_a_hand_deleted_before_it_was_seen_is_deleted(
    bench: Any, pair: tuple[Any, Any]
) -> None:
    one, two = pair
    made = bench.write(one, "A", body="walrus\n")
    one.push().result(60)
    bench.git(two, "pull", "--quiet", "origin", "main")
    (two.repo.path / made.path).unlink()
    exchange(two, one)
    for store in pair:
        assert store.record(made.id) is None
        bench.tidy(store)


def test_the_reason_of_an_older_write_is_not_told_of_what_plain_git_changed_since(
    bench: Any, pair: tuple[Any, Any], tmp_path: Path
) -> None:
    one, two = pair
    made = bench.write(one, "A", body="walrus\n", reason="asked for")
    exchange(one, two)
    assert two.record(made.id).reason == "asked for"
    clone = tmp_path / "clone"
    bench.git(tmp_path, "clone", "-q", str(tmp_path / "remote.git"), str(clone))
    (clone / made.path).write_bytes((clone / made.path).read_bytes().replace(b"walrus", b"otter"))
    bench.git(clone, "commit", "-qam", "By hand")
    bench.git(clone, "push", "-q", "origin", "HEAD:main")
    two.pull().result(60)
    assert two.read(made.id).record.body == "otter\n"
    assert two.record(made.id).reason is None
    bench.update(one, made.id, body="seal\n", reason="asked for again")
    exchange(one, two)
    assert two.record(made.id).reason == "asked for again"


def test_a_move_on_one_side_is_a_move_on_the_other(bench: Any, pair: tuple[Any, Any]) -> None:
    one, two = pair
    made = bench.write(one, "A", body="walrus\n")
    exchange(one, two)
    new = one.repo.path / "notes" / "moved.md"
    bench.file(one, made.id).rename(new)
    bench.noticed(one, made.path, new)
    exchange(one, two)
    assert two.record(made.id).path == "notes/moved.md"
    assert not two.deleted()
    assert [hit.record.path for hit in two.search("walrus").hits] == ["notes/moved.md"]
    bench.tidy(two)


def test_different_fields_changed_on_both_sides_are_joined(bench: Any, pair: tuple[Any, Any]) -> None:
    one, two = pair
    made = bench.write(one, "A", body="body\n", tags=("t",))
    exchange(one, two)
    bench.update(one, made.id, tags=("t", "one"))
    bench.update(two, made.id, body="other body\n", tags=("t", "two"))
    exchange(one, two)
    for store in pair:
        record = store.read(made.id).record
        assert record.body == "other body\n"
        assert set(record.tags) == {"t", "one", "two"}
        bench.tidy(store)


def test_two_texts_that_clash_are_both_found_afterwards(bench: Any, pair: tuple[Any, Any]) -> None:
    one, two = pair
    made = bench.write(one, "A", body="the common line\n")
    exchange(one, two)
    bench.update(one, made.id, body="walrus wins\n")
    bench.update(two, made.id, body="otter wins\n")
    one.push().result(60)
    outcome = two.push().result(60)
    assert outcome.conflicts
    one.pull().result(60)
    for store in pair:
        for word in ("walrus", "otter"):
            assert len(store.search(word).hits) == 1, word
        (walrus,), (otter,) = store.search("walrus").hits, store.search("otter").hits
        ids = {walrus.record.id, otter.record.id}
        assert made.id in ids
        links = {*walrus.record.links, *otter.record.links}
        assert any(link.rel == "conflicts_with" and link.id in ids for link in links)
        assert isinstance(next(iter(links)), Link)
        bench.tidy(store)
    no_markers(*pair)


def test_the_status_tells_of_texts_that_clashed_until_that_is_settled(bench: Any, pair: tuple[Any, Any]) -> None:
    one, two = pair
    made = bench.write(one, "A", body="the common line\n")
    exchange(one, two)
    assert one.status().clashes == ()
    bench.update(one, made.id, body="walrus wins\n")
    bench.update(two, made.id, body="otter wins\n")
    exchange(one, two)
    ((first, second),) = one.status().clashes
    assert two.status().clashes == ((first, second),)
    kept = first if second == made.id else second
    one.write(DeleteMemory(ME, kept))
    assert one.status().clashes == ()
    exchange(one, two)
    assert two.status().clashes == ()


def test_deleted_here_and_changed_there_loses_nothing(bench: Any, pair: tuple[Any, Any]) -> None:
    one, two = pair
    made = bench.write(one, "A", body="one\n")
    exchange(one, two)
    one.write(DeleteMemory(ME, made.id))
    bench.update(two, made.id, body="changed meanwhile\n")
    exchange(one, two)
    for store in pair:
        assert [hit.record.body for hit in store.search("meanwhile").hits] == ["changed meanwhile\n"]
        bench.tidy(store)


def test_a_session_that_goes_on_at_another_hub_has_a_file_for_each(bench: Any, pair: tuple[Any, Any]) -> None:
    one, two = pair
    session = one.write(AppendSession(Author("claude-code"), "began here", title="Joint work")).id
    exchange(one, two)
    two.write(AppendSession(Author("codex"), "went on there", session_id=session))
    one.write(AppendSession(Author("claude-code"), "meanwhile here", session_id=session))
    two.write(AppendSession(Author("codex"), "and there again", session_id=session))
    exchange(one, two)
    for store in pair:
        records = list(store.records(filters=Filters(types=("session",))))
        assert len(records) == 2
        assert {Path(record.path).parent for record in records} == {Path(records[0].path).parent}
        memory = store.read(session)
        assert len(memory.parts) == 1
        assert "began here" in memory.record.body
        assert "meanwhile here" in memory.record.body
        other = store.read(memory.parts[0]).record
        assert "went on there" in other.body
        assert "and there again" in other.body
        assert other.title == "Joint work"
        bench.tidy(store)
    no_markers(*pair)


def test_a_secret_that_comes_from_the_remote_is_kept_out(bench: Any, pair: tuple[Any, Any], tmp_path: Path) -> None:
    one, _ = pair
    clone = tmp_path / "clone"
    bench.git(tmp_path, "clone", "-q", str(tmp_path / "remote.git"), str(clone))
    (clone / "notes" / "login.md").write_text(f"token {TOKEN}\n", encoding="utf-8")
    bench.git(clone, "add", ".")
    bench.git(clone, "commit", "-qm", "careless")
    bench.git(clone, "push", "-q", "origin", "HEAD:main")
    outcome = one.pull().result(60)
    assert outcome.status.state == "pushed"
    assert TOKEN not in str(outcome)
    assert "notes/login.md" in outcome.notices[0]
    assert not (one.repo.path / "notes" / "login.md").exists()
    assert not one.search(TOKEN).hits
    assert bench.git(one, "status", "--porcelain") == ""


def test_many_deletions_from_the_remote_are_believed(bench: Any, pair: tuple[Any, Any]) -> None:
    one, two = pair
    made = one.write_many([WriteMemory(ME, title=f"n{number}") for number in range(30)])
    exchange(one, two)
    assert two.status().memories == 31
    one.write_many([DeleteMemory(ME, done.id) for done in made])
    exchange(one, two)
    assert two.status().memories == 1
    assert two.status().notices == ()
    bench.tidy(two)


# --- Another remote, none, and what was ----------------------------------------------------------------------


def test_another_remote_gets_the_whole_history_and_the_one_before_stays_as_it_is(
    bench: Any, pair: tuple[Any, Any], remote: Path, tmp_path: Path
) -> None:
    one, two = pair
    waiting = bench.write(two, "Not pushed yet")
    other = tmp_path / "other.git"
    bench.git(tmp_path, "init", "-q", "--bare", "-b", "main", other.name)
    before = bench.git(remote, "rev-parse", "main")
    for name, store in (("one", one), ("two", two)):
        store.close()
        moved = bench.open(name, remote=str(other))
        assert moved.sync_status().state != "pushed"  # of the new one nothing is known
        assert moved.push().result(60).status.state == "pushed"
    assert before.strip() in bench.git(other, "rev-list", "main")
    assert waiting.id in bench.git(other, "log", "--format=%B", "main")
    assert bench.git(remote, "rev-parse", "main") == before


def test_a_remote_that_no_setting_names_any_more_counts_until_git_forgets_it(
    bench: Any, pair: tuple[Any, Any], remote: Path
) -> None:
    one, _ = pair
    one.close()
    kept = bench.open("one")
    assert kept.sync_status().remote == str(remote)
    bench.git(kept, "remote", "remove", "origin")
    kept.close()
    assert bench.open("one").sync_status().state == "no_remote"


def test_what_a_pull_removed_is_put_back_from_its_rescue_reference_and_reaches_everybody(
    bench: Any, pair: tuple[Any, Any]
) -> None:
    one, two = pair
    records = [one.record(bench.write(one, title, body=f"about {title}\n").id) for title in ("Otters", "Walruses")]
    exchange(one, two)
    for record in records:
        two.write(DeleteMemory(author=ME, id=record.id))
    two.push().result(60)
    assert one.pull().result(60).changed == 2
    reference = one.repo.rescues()[-1]
    bench.git(one, "restore", f"--source={reference}", "--", *{record.path.split("/")[0] for record in records})
    bench.noticed(one, *(one.repo.path / record.path for record in records))
    exchange(one, two)
    for store in (one, two):
        assert [store.record(record.id).body for record in records] == ["about Otters\n", "about Walruses\n"]
