"""What changed in a memory repo, read from its commits: all of it, in order and once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.memory import (
    Author,
    ChangePlace,
    ChangeReader,
    Changes,
    ChangesLost,
    DeleteMemory,
    MemoryChange,
    RestoreMemory,
    WriteMemory,
)

ME = Author("test-client")
WAIT = 60
TOKEN = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"


class Told:
    """Somebody who is told of what changes in a store, and goes on from where they were."""

    def __init__(self, store: Any, place: ChangePlace | None = None, **given: Any) -> None:
        self.reader = ChangeReader(lambda: store.parts, **given)
        self.place = place or self.reader.here()

    def pages(self, limit: int = 100) -> Iterator[Changes]:
        until = self.reader.here()
        while self.place != until:
            page = self.reader.read(self.place, until=until, limit=limit)
            assert isinstance(page, Changes), page
            self.place = page.place
            assert page.more == (page.place != until)
            yield page

    def all(self, limit: int = 100) -> list[MemoryChange]:
        return [change for page in self.pages(limit) for change in page.changes]

    def lost(self) -> ChangesLost:
        found = self.reader.read(self.place, until=self.reader.here(), limit=100)
        assert isinstance(found, ChangesLost), found
        return found


def short(changes: list[MemoryChange]) -> list[tuple[str, str]]:
    return [(change.kind, change.memory.title) for change in changes]


def by_hand(bench: Any, store: Any, *arguments: str) -> None:
    """Somebody's git, once the store's own is done with git's index."""
    bench.poll(lambda: not store.repo.index_unsettled, "git's own index")
    bench.git(store, *arguments)


@pytest.fixture
def store(bench: Any) -> Any:
    return bench.open()


def test_each_write_is_told_once_in_order_with_who_and_why(bench: Any, store: Any) -> None:
    told = Told(store)
    one = bench.write(store, "One", by="codex", project="alpha", trust=Trust.PUBLIC, reason="to begin")
    two = bench.write(store, "Two", by="claude-code")
    store.write(WriteMemory(Author("codex", "reviewer"), id=two.id, body="more", reason="there was more"))
    first, second = told.all()
    assert (first.kind, first.by, first.reason) == ("created", "codex", "to begin")
    assert (first.memory.id, first.memory.version) == (one.id, one.version)
    assert (first.memory.project, first.memory.trust, first.memory.type) == ("alpha", Trust.PUBLIC, "note")
    assert (second.memory.id, second.by, second.reason) == (two.id, "codex (reviewer)", "there was more")
    assert told.all() == []


def test_what_came_and_went_between_two_looks_is_not_told(bench: Any, store: Any) -> None:
    told = Told(store)
    one = bench.write(store, "One")
    store.write(DeleteMemory(ME, one.id))
    assert told.all() == []


def test_a_memory_that_several_commits_changed_is_told_once_as_it_is(bench: Any, store: Any) -> None:
    told = Told(store)
    one = bench.write(store, "One", body="first")
    for text in ("second", "third"):
        last = bench.update(store, one.id, body=text, reason=f"the {text}")
    (change,) = told.all()
    assert (change.kind, change.before, change.reason, change.by) == ("created", None, "the third", "test-client")
    assert change.after is not None
    assert (change.after.version, change.after.body) == (last.version, "")
    assert change.latest == change.after


def test_what_is_deleted_brought_back_or_moved_is_told_as_that(bench: Any, store: Any) -> None:
    one, two, three = (bench.write(store, title, body=title) for title in ("One", "Two", "Three"))
    store.write(DeleteMemory(ME, three.id))
    told = Told(store)
    store.write(DeleteMemory(ME, one.id, None, "over"))
    (gone,) = told.all()
    assert (gone.kind, gone.after, gone.latest, gone.reason) == ("deleted", None, None, "over")
    assert gone.before is not None
    assert (gone.before.id, gone.before.version) == (one.id, one.version)
    store.write(RestoreMemory(ME, one.id, None, "still needed"))
    store.write(RestoreMemory(ME, three.id))
    assert short(told.all()) == [("restored", "One"), ("restored", "Three")]
    old = bench.file(store, two.id)
    new = old.with_name("a-better-name.md")
    old.rename(new)
    bench.noticed(store, old, new)
    (moved,) = told.all()
    assert moved.kind == "moved"
    assert moved.before is not None
    assert moved.after is not None
    assert (moved.before.id, moved.before.path) == (two.id, two.path)
    assert (moved.after.id, moved.after.path) == (two.id, new.relative_to(store.repo.path).as_posix())


def test_one_that_is_moved_and_edited_at_once_is_one_change(bench: Any, store: Any) -> None:
    one, _ = bench.write(store, "One", body="text\n"), bench.write(store, "Two")
    told = Told(store)
    old = bench.file(store, one.id)
    new = old.with_name("elsewhere.md")
    new.write_text(old.read_text(encoding="utf-8") + "and more\n", encoding="utf-8")
    old.unlink()
    by_hand(bench, store, "add", "-A")
    by_hand(bench, store, "commit", "-qm", "by hand")
    (change,) = told.all()
    assert change.kind == "updated"
    assert change.before is not None
    assert change.before.id == change.memory.id == one.id


def test_the_order_is_that_of_the_commits(bench: Any, store: Any) -> None:
    made = [bench.write(store, title) for title in ("Zebra", "Ape", "Mole")]
    told = Told(store)
    bench.update(store, made[1].id, body="first")
    bench.write(store, "Newt")
    store.write(DeleteMemory(ME, made[2].id))
    bench.update(store, made[0].id, body="fourth")
    bench.update(store, made[1].id, body="and last")
    assert short(told.all()) == [("created", "Newt"), ("deleted", "Mole"), ("updated", "Zebra"), ("updated", "Ape")]


def test_an_edit_by_hand_and_a_commit_of_plain_git_are_told(bench: Any, store: Any) -> None:
    one, two = bench.write(store, "One", body="a\n"), bench.write(store, "Two", body="b\n")
    told = Told(store)
    file = bench.file(store, one.id)
    file.write_text(file.read_text(encoding="utf-8") + "by hand\n", encoding="utf-8")
    bench.noticed(store, file)
    other = bench.file(store, two.id)
    other.write_text(other.read_text(encoding="utf-8") + "committed\n", encoding="utf-8")
    by_hand(bench, store, "-c", "user.name=Ann", "commit", "-qam", "Say more\n\nof it")
    first, second = told.all()
    assert (first.kind, first.memory.id, first.by) == ("updated", one.id, "editor")
    assert (second.kind, second.memory.id, second.by, second.reason) == ("updated", two.id, "Ann", "Say more")


def test_what_a_pull_brings_is_told_with_who_wrote_it(bench: Any, remote: Path) -> None:
    here, there = (bench.open(name, remote=str(remote), host=name) for name in ("here", "there"))
    bench.write(here, "Mine")
    here.push().result(WAIT)
    there.pull().result(WAIT)
    told_there = Told(there)
    told = Told(here)
    written = bench.write(there, "Theirs", by="codex", reason="over there")
    there.push().result(WAIT)
    bench.write(here, "Mine too")
    here.pull().result(WAIT)
    mine, theirs = sorted(told.all(), key=lambda change: change.memory.title)
    assert (mine.memory.title, mine.by) == ("Mine too", "test-client")
    assert (theirs.kind, theirs.memory.id, theirs.by, theirs.reason) == ("created", written.id, "codex", "over there")
    here.push().result(WAIT)
    there.pull().result(WAIT)
    # A merge whose first parent is another machine's: what was here is not told again.
    assert sorted(short(told_there.all())) == [("created", "Mine too"), ("created", "Theirs")]
    assert told_there.all() == []


def test_a_place_outlives_the_store_that_gave_it(bench: Any) -> None:
    store = bench.open()
    bench.write(store, "Before")
    place = ChangePlace.from_bytes(Told(store).place.as_bytes())
    bench.write(store, "After")
    store.close()
    again = bench.open()
    bench.write(again, "Later")
    assert short(Told(again, place).all()) == [("created", "After"), ("created", "Later")]


@pytest.mark.parametrize("limit", [1, 3, 100])
def test_pages_tell_what_one_look_tells_although_writes_go_on(bench: Any, store: Any, limit: int) -> None:
    told = Told(store)
    with bench.group(store):
        tickets = [store.submit(WriteMemory(ME, title=f"Memory {number}")) for number in range(10)]
    assert all(ticket.committed.result(WAIT) for ticket in tickets)
    found: list[MemoryChange] = []
    late = 0
    while more := next(told.pages(limit), None):
        found += more.changes
        if late < 3:
            late += 1
            bench.write(store, f"Late {late}")
    titles = [change.memory.title for change in found]
    assert len(titles) == len(set(titles)) == 13
    assert titles[:10] == sorted(titles[:10])
    assert {f"Late {number}" for number in (1, 2, 3)} <= set(titles)


def test_whoever_breaks_off_goes_on_behind_the_last_that_was_told(bench: Any, store: Any) -> None:
    told = Told(store)
    with bench.group(store):
        tickets = [store.submit(WriteMemory(ME, title=f"Memory {number}")) for number in range(10)]
    assert all(ticket.committed.result(WAIT) for ticket in tickets)
    whole = Told(store, told.place).all()
    for number, change in enumerate(whole):
        place = ChangePlace.from_bytes(change.place.as_bytes())
        assert Told(store, place).all() == whole[number + 1 :]


def test_replayed_from_any_place_the_changes_make_what_is_there(bench: Any, store: Any) -> None:
    known: dict[str, str] = {}
    saved: list[tuple[ChangePlace, dict[str, str]]] = []
    told = Told(store)

    def replay(told: Told, known: dict[str, str]) -> dict[str, str]:
        for change in told.all(limit=2):
            if change.after is None:
                del known[change.memory.id]
            else:
                known[change.memory.id] = change.after.version
        return known

    made: list[str] = []
    for step in range(24):
        match step % 6:
            case 0 | 1:
                made.append(bench.write(store, f"Memory {step}", body=f"{step}").id)
            case 2:
                bench.update(store, made[step % len(made)], body=f"changed at {step}", title=f"Now {step}")
            case 3:
                file = bench.file(store, made[-1])
                file.rename(file.with_name(f"moved-{step}.md"))
                bench.noticed(store)
            case 4:
                store.write(DeleteMemory(ME, made[-2]))
            case _:
                store.write(RestoreMemory(ME, made[-2]))
        if step % 5 == 0:
            known = replay(told, known)
            saved.append((told.place, dict(known)))
    expected = {record.id: record.version for record in store.records()}
    for place, state in saved:
        assert replay(Told(store, place), state) == expected


def test_what_is_not_committed_is_not_told(bench: Any, store: Any) -> None:
    told = Told(store)
    lock = bench.lock_branch(store)
    ticket = store.submit(WriteMemory(ME, title="Waits"))
    ticket.saved.result(WAIT)
    assert told.all() == []
    lock.unlink()
    assert store.flush(WAIT)
    assert short(told.all()) == [("created", "Waits")]


def test_files_that_are_no_memories_are_not_told(bench: Any, store: Any) -> None:
    one = bench.write(store, "One")
    told = Told(store)
    root = store.repo.path
    copy = bench.file(store, one.id).with_name("a-copy.md")
    copy.write_bytes(bench.file(store, one.id).read_bytes())
    for path, text in (
        ("README.md", "# Read me\n"),
        ("notes/broken.md", "---\nid: [\n---\n"),
        ("notes/no-id.md", "text\n"),
    ):
        (root / path).write_text(text, encoding="utf-8")
    by_hand(bench, store, "add", "-A")
    by_hand(bench, store, "commit", "-qm", "by hand")
    assert told.all() == []


def test_what_cannot_be_read_any_more_is_told_when_it_can(bench: Any, store: Any) -> None:
    one = bench.write(store, "One")
    told = Told(store)
    file = bench.file(store, one.id)
    good = file.read_text(encoding="utf-8")
    file.write_text(good.replace("title: One", "title: ["), encoding="utf-8")
    by_hand(bench, store, "commit", "-qam", "broken")
    assert told.all() == []  # what it said before counts
    file.write_text(good.replace("title: One", "title: Mended"), encoding="utf-8")
    by_hand(bench, store, "commit", "-qam", "mended")
    (change,) = told.all()
    assert change.memory.title == "Mended"


def test_a_place_that_the_history_does_not_have_any_more_is_lost(bench: Any, store: Any) -> None:
    bench.write(store, "One")
    kept = Told(store)
    bench.write(store, "Two")
    told = Told(store)
    by_hand(bench, store, "reset", "-q", "--hard", "HEAD~1")
    bench.write(store, "Three")
    lost = told.lost()
    assert lost.why == "rewritten"
    assert Told(store, lost.place).all() == []
    assert short(kept.all()) == [("created", "Three")]


@pytest.mark.parametrize("field", ["commit", "towards", "after"])
def test_a_place_that_is_none_is_lost(bench: Any, store: Any, field: str) -> None:
    told = Told(store)
    bench.write(store, "One")
    bench.write(store, "Two")
    place = replace(told.place, towards=told.reader.here().commit, after="00" * 8)
    told.place = replace(place, **{field: "1234567890" * 4 if field != "after" else "ab" * 8})
    assert told.lost().why == "unknown"
    with pytest.raises(ValueError, match="bytes"):
        ChangePlace.from_bytes(told.place.as_bytes()[1:])


def test_very_many_changes_are_lost_rather_than_told_one_by_one(bench: Any, store: Any) -> None:
    told = Told(store, most=3)
    with bench.group(store):
        tickets = [store.submit(WriteMemory(ME, title=f"Memory {number}")) for number in range(4)]
    assert all(ticket.committed.result(WAIT) for ticket in tickets)
    assert told.lost().why == "too_many"


def test_what_is_held_back_is_never_told_and_when_that_changes_places_are_lost(
    bench: Any, remote: Path, tmp_path: Path
) -> None:
    store = bench.open(remote=str(remote))
    alpha = bench.write(store, "Alpha", body="walrus\n")
    store.push().result(WAIT)
    before = Told(store)
    mate = tmp_path / "mate"
    bench.git(remote.parent, "clone", "-q", str(remote), str(mate))
    file = mate / alpha.path
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("title: Alpha", f"title: Alpha {TOKEN}"), encoding="utf-8")
    bench.git(mate, "commit", "-qam", f"careless {TOKEN}")
    bench.git(mate, "push", "-q", "origin", "HEAD:main")
    store.pull().result(WAIT)
    assert before.lost().why == "held_back"
    since = Told(store)
    bench.write(store, "Beta")
    assert short(since.all()) == [("created", "Beta")]
    file.write_text(text.replace("title: Alpha", "title: Better"), encoding="utf-8")
    bench.git(mate, "commit", "-qam", "mended")
    bench.git(mate, "pull", "-q", "--no-rebase", "origin", "main")
    bench.git(mate, "push", "-q", "origin", "HEAD:main")
    store.pull().result(WAIT)
    assert since.lost().why == "held_back"
    # The way there leads over the secret; it is told without it.
    changes = Told(store, before.place).all()
    assert sorted(short(changes)) == [("created", "Beta"), ("updated", "Better")]
    assert TOKEN not in repr(changes)


def test_credentials_in_what_commits_and_memories_say_are_masked(bench: Any, store: Any) -> None:
    one = bench.write(store, "One")
    told = Told(store)
    file = bench.file(store, one.id)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("title: One", f"title: One {TOKEN}"), encoding="utf-8")
    by_hand(bench, store, "-c", f"user.name=Ann {TOKEN}", "commit", "-qam", f"with {TOKEN}")
    changes = told.all()
    assert [change.memory.id for change in changes] == [one.id]
    assert TOKEN not in repr(changes)
    assert "[redacted:" in changes[0].memory.title


def test_a_change_says_how_the_memory_is_by_now(bench: Any, store: Any) -> None:
    one, two = bench.write(store, "One", trust=Trust.PUBLIC), bench.write(store, "Two")
    told = Told(store)
    bench.update(store, one.id, body="more")
    bench.update(store, two.id, body="more")
    (first,) = next(told.pages(limit=1)).changes
    assert first.memory.id == one.id
    bench.update(store, two.id, trust=Trust.SECRET)
    (second, third) = told.all()
    assert (second.memory.id, second.memory.trust) == (two.id, Trust.INTERNAL)
    assert second.latest is not None
    assert second.latest.trust is Trust.SECRET
    assert third.latest == third.after
